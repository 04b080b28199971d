//! The values that settings hold and no other room names.
//!
//! Owns their spelling in the file: [`ApplicationRoot`], [`Exclude`] and the small choices.

use std::fmt;
use std::str::FromStr;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};

use crate::deployment::RepositoryName;
use crate::key_pattern::KeyPattern;
use crate::object::{BucketName, InvalidName};

/// Longest application root or glob in bytes.
pub const PATH_BYTES_MAX: usize = 512;

/// Most globs of one application.
pub const GLOBS_MAX: usize = 100;

/// The directory of the archive that becomes the revision: `/` or `/app`, normalised.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ApplicationRoot {
    /// Empty, or `app/` with a closing slash.
    prefix: String,
}

impl ApplicationRoot {
    /// The archive's own root.
    pub fn archive_root() -> Self {
        Self {
            prefix: String::new(),
        }
    }

    /// The prefix of the names below it: empty for the archive's root, else `app/`.
    pub fn as_prefix(&self) -> &str {
        &self.prefix
    }
}

impl FromStr for ApplicationRoot {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = |rule| Err(InvalidName::new("application root", text, rule));
        let Some(rest) = text.strip_prefix('/') else {
            return invalid("it must start with `/`; `/` is the archive's root");
        };
        if text.len() > PATH_BYTES_MAX {
            return invalid("at most 512 bytes");
        }
        if rest.contains('\\') {
            return invalid("folders are parted by `/`");
        }
        if rest.chars().any(char::is_control) {
            return invalid("no control characters");
        }
        let mut prefix = String::new();
        for folder in rest.split('/') {
            match folder {
                "" | "." => {}
                ".." => return invalid("it must not hold `..`"),
                folder => {
                    prefix.push_str(folder);
                    prefix.push('/');
                }
            }
        }
        Ok(Self { prefix })
    }
}

impl TryFrom<String> for ApplicationRoot {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<ApplicationRoot> for String {
    fn from(root: ApplicationRoot) -> Self {
        root.to_string()
    }
}

impl fmt::Display for ApplicationRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.prefix.trim_end_matches('/'))
    }
}

/// Where the revision comes to lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RevisionTarget {
    /// `revision_type: S3`.
    S3 {
        /// Bucket.
        bucket: BucketName,
        /// Key, with variables.
        key_pattern: KeyPattern,
    },
    /// `revision_type: GitHub`: the commit itself, nothing repackaged.
    GitHub {
        /// `owner/name`; the build's own repository where the settings name none.
        repository: Option<RepositoryName>,
    },
}

impl fmt::Display for RevisionTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 {
                bucket,
                key_pattern,
            } => write!(f, "s3://{bucket}/{key_pattern}"),
            Self::GitHub {
                repository: Some(repository),
            } => write!(f, "GitHub {repository}"),
            Self::GitHub { repository: None } => write!(f, "GitHub"),
        }
    }
}

/// `exclude`: what of the application root stays out of the revision.
///
/// Globs as in `.gitignore`: without a slash one matches a name at any depth, with one it is bound
/// to the application root; `*` stops at slashes, `**` does not. A folder that matches takes
/// all below it along (the reader of the set sees to that).
#[derive(Debug, Clone, Default)]
pub struct Exclude {
    globs: Vec<String>,
    set: GlobSet,
}

impl Exclude {
    /// Checks and compiles globs.
    ///
    /// # Errors
    /// The position of the first bad one (or of the last, where all together are too many) and
    /// what is wrong with it.
    pub fn new(globs: Vec<String>) -> Result<Self, (usize, InvalidName)> {
        let mut builder = GlobSetBuilder::new();
        for (index, text) in globs.iter().enumerate() {
            let glob =
                compile(text).map_err(|rule| (index, InvalidName::new("glob", text, rule)))?;
            if index >= GLOBS_MAX {
                return Err((index, InvalidName::new("glob", text, "at most 100 globs")));
            }
            builder.add(glob);
        }
        let last = globs.len().saturating_sub(1);
        let set = builder.build().map_err(|_| {
            let text = globs.last().map_or("", String::as_str);
            (
                last,
                InvalidName::new("glob", text, "all globs together are too large"),
            )
        })?;
        Ok(Self { globs, set })
    }

    /// The globs as written.
    pub fn globs(&self) -> &[String] {
        &self.globs
    }

    /// The compiled set, for paths below the application root without a leading slash.
    pub fn set(&self) -> &GlobSet {
        &self.set
    }
}

impl PartialEq for Exclude {
    fn eq(&self, other: &Self) -> bool {
        self.globs == other.globs
    }
}

impl Eq for Exclude {}

fn compile(text: &str) -> Result<Glob, &'static str> {
    if text.is_empty() || text.len() > PATH_BYTES_MAX {
        return Err("1 to 512 bytes");
    }
    if text.chars().any(char::is_control) {
        return Err("no control characters");
    }
    if text.starts_with('!') {
        return Err("globs cannot take back others: `!` is not supported");
    }
    let trimmed = text.trim_end_matches('/');
    let bound = trimmed.contains('/');
    let trimmed = trimmed.trim_start_matches('/').trim_start_matches("./");
    if matches!(trimmed, "" | ".") {
        return Err("it would leave out everything");
    }
    if trimmed.split('/').any(|folder| folder == "..") {
        return Err("it must not hold `..`");
    }
    let glob = if bound {
        trimmed.to_owned()
    } else {
        format!("**/{trimmed}")
    };
    GlobBuilder::new(&glob)
        .literal_separator(true)
        .backslash_escape(true)
        .build()
        .map_err(|error| match error.kind() {
            globset::ErrorKind::InvalidRecursive => "`**` must stand alone between slashes",
            globset::ErrorKind::UnclosedClass => "`[` is never closed",
            globset::ErrorKind::InvalidRange(..) => "a range in `[…]` runs backwards",
            globset::ErrorKind::UnopenedAlternates => "`}` closes nothing",
            globset::ErrorKind::UnclosedAlternates => "`{` is never closed",
            globset::ErrorKind::DanglingEscape => "it ends with `\\`",
            _ => "it is not a glob",
        })
}

/// `bundle_type`: the revision's archive format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BundleChoice {
    /// A zip, whatever was uploaded.
    #[default]
    Zip,
    /// A gzipped tar.
    Tgz,
    /// A tar.
    Tar,
    /// The uploaded archive itself, where nothing in it has to change.
    AsIs,
}

/// `order`: which of two builds is the older one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The one with the smaller build number; where one has none, the one that arrived first.
    #[default]
    BuildNum,
    /// The one that arrived first.
    Arrival,
}

/// `queue`: which builds wait while the group is busy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Queue {
    /// The newest; older ones become superseded.
    #[default]
    Newest,
    /// All, in order.
    All,
}

/// `verify`: which bytes of the archive are checked against their CRC-32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verify {
    /// Those that pass through the function.
    #[default]
    Passing,
    /// All, also those that S3 copies by itself.
    Full,
    /// None.
    None,
}
