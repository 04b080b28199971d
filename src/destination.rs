//! Where an artifact is staged and what goes along with it: `--to` and the build's facts to a key and metadata.
//!
//! Owns the three readings of a destination (a folder, a pattern, a key), the rule that a tag's name stands
//! where the pattern has `{BRANCH}`, and what S3 takes as metadata. Values to values.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::ci_environment::BuildFacts;
use crate::deployment::RepositoryName;
use crate::key_pattern::{
    Build, EXTENSIONS, ExpandError, PatternError, StagingPattern, VALUE_BYTES_MAX, Variable,
    metadata_value,
};
use crate::object::{BucketName, InvalidName, ObjectKey, S3Prefix};

/// What follows a destination that is a folder: the default of the stack's `StagingKeyPattern`.
pub const DEFAULT_PATTERN: &str = "{PROJECT}/{BRANCH}/{BUILD_NUM}-{COMMIT}";
/// Bytes of user metadata that S3 takes in all, names included.
const METADATA_BYTES_MAX: usize = 2_048;

/// Where artifacts are staged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Bucket.
    pub bucket: BucketName,
    place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// A key in so many words, extension included.
    Key(ObjectKey),
    /// A key that the build fills in.
    Pattern(StagingPattern),
}

/// An object to be staged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// Bucket.
    pub bucket: BucketName,
    /// Key with extension.
    pub key: ObjectKey,
    /// User metadata: what the key does not say.
    pub metadata: BTreeMap<String, String>,
}

/// Why nothing can be staged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    /// Not `s3://bucket/…`.
    #[error(transparent)]
    NotS3(#[from] InvalidName),
    /// A pattern that cannot be read.
    #[error("destination is not a staging pattern: {0}")]
    Pattern(PatternError),
    /// The key needs what nobody says.
    #[error(
        "staged key `{pattern}` needs {variable}, and neither a flag nor the CI nor git says it"
    )]
    Missing {
        /// The pattern.
        pattern: String,
        /// The variable.
        variable: Variable,
    },
    /// The function would read another build out of the key.
    #[error("{0}")]
    Unreadable(ExpandError),
    /// What the function would refuse.
    #[error("{name} {value:?} has control characters, expected none")]
    Control {
        /// Metadata's name.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// Too long for the function or for S3.
    #[error("{name} has {bytes} bytes, at most {VALUE_BYTES_MAX} are allowed")]
    TooLong {
        /// Metadata's name.
        name: &'static str,
        /// Length of its value.
        bytes: usize,
    },
}

impl DestinationError {
    /// What to do about it.
    pub fn cure(&self) -> String {
        match self {
            Self::NotS3(_) => "write it as s3://my-artifacts/staging".to_owned(),
            Self::Pattern(error) => error.cure(),
            Self::Missing { variable, .. } => match variable {
                Variable::Project => "say it with --project".to_owned(),
                Variable::Branch => "say it with --branch, or --tag for a tag build".to_owned(),
                Variable::Tag => "say it with --tag, or stage branch builds elsewhere".to_owned(),
                Variable::Commit | Variable::ShortCommit => "say it with --commit".to_owned(),
                Variable::BuildNum => {
                    "say it with --build-num; it has to grow from build to build".to_owned()
                }
                Variable::Repository => "say it with --repository owner/name".to_owned(),
            },
            Self::Unreadable(error) => error.cure(),
            Self::Control { name, .. } => format!("leave them out of the {name}"),
            Self::TooLong { name, .. } => format!("shorten the {name}"),
        }
    }
}

impl FromStr for Destination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, DestinationError> {
        let folder: S3Prefix = text.parse()?;
        let written = text
            .strip_prefix("s3://")
            .and_then(|rest| rest.split_once('/'))
            .map_or("", |(_, key)| key);
        let lower = written.to_ascii_lowercase();
        let place_of = |pattern: String| {
            pattern
                .parse()
                .map(Place::Pattern)
                .map_err(DestinationError::Pattern)
        };
        let is_archive = EXTENSIONS
            .iter()
            .any(|extension| lower.ends_with(extension));
        let place = if written.contains('{') {
            place_of(written.to_owned())?
        } else if is_archive {
            Place::Key(written.parse()?)
        } else {
            place_of(format!("{}{DEFAULT_PATTERN}", folder.prefix))?
        };
        Ok(Self {
            bucket: folder.bucket,
            place,
        })
    }
}

impl Destination {
    /// The object of this build. `extension` begins with a dot; `project` is `{PROJECT}`, the last part of
    /// the repository's path where it is not given.
    ///
    /// # Errors
    /// What the key needs and nobody says, or what S3 or the function would not take.
    pub fn stage(
        &self,
        facts: &BuildFacts,
        project: Option<&str>,
        extension: &str,
    ) -> Result<Staged, DestinationError> {
        let project = project.or_else(|| facts.repository.as_deref()?.rsplit('/').next());
        let mut build = Build {
            project: project.map(str::to_owned),
            branch: facts.branch.clone(),
            tag: facts.tag.clone(),
            commit: facts.commit.clone(),
            build_num: facts.build_num.clone(),
            // A path of more parts (GitLab's subgroups) is none that settings could name.
            repository: facts
                .repository
                .clone()
                .filter(|path| path.parse::<RepositoryName>().is_ok()),
            build_url: facts.build_url.clone(),
            author: facts.author.clone(),
            redeploy: false,
        };
        let (key, said) = match &self.place {
            Place::Key(key) => (key.clone(), Vec::new()),
            Place::Pattern(pattern) => {
                let variables: Vec<Variable> = pattern.variables().collect();
                if build.branch.is_none() && !variables.contains(&Variable::Tag) {
                    build.branch.clone_from(&build.tag);
                }
                let stem = pattern.expand(&build).map_err(|error| match error {
                    ExpandError::Missing { variable } => DestinationError::Missing {
                        pattern: pattern.to_string(),
                        variable,
                    },
                    other => DestinationError::Unreadable(other),
                })?;
                let spelled_out = pattern
                    .as_str()
                    .to_ascii_lowercase()
                    .ends_with(&extension.to_ascii_lowercase());
                let key = if spelled_out {
                    stem
                } else {
                    format!("{stem}{extension}").parse()?
                };
                (key, variables)
            }
        };
        let is_said = |variable| said.contains(&variable);
        let branch = build
            .branch
            .filter(|branch| Some(branch) != build.tag.as_ref());
        let values = [
            ("branch", branch.filter(|_| !is_said(Variable::Branch))),
            ("tag", build.tag.filter(|_| !is_said(Variable::Tag))),
            (
                "commit",
                build.commit.filter(|_| !is_said(Variable::Commit)),
            ),
            (
                "build-num",
                build.build_num.filter(|_| !is_said(Variable::BuildNum)),
            ),
            (
                "repository",
                build.repository.filter(|_| !is_said(Variable::Repository)),
            ),
            ("author", build.author.as_deref().map(readable)),
            ("build-url", build.build_url.as_deref().map(readable)),
        ];
        let mut metadata = BTreeMap::new();
        let mut left = METADATA_BYTES_MAX;
        for (name, value) in values {
            let Some(value) = value else { continue };
            if value.chars().any(char::is_control) {
                return Err(DestinationError::Control { name, value });
            }
            if value.len() > VALUE_BYTES_MAX {
                let bytes = value.len();
                return Err(DestinationError::TooLong { name, bytes });
            }
            let value = metadata_value(&value).into_owned();
            let bytes = name.len() + value.len();
            match left.checked_sub(bytes) {
                Some(rest) => left = rest,
                None => return Err(DestinationError::TooLong { name, bytes }),
            }
            metadata.insert(name.to_owned(), value);
        }
        Ok(Staged {
            bucket: self.bucket.clone(),
            key,
            metadata,
        })
    }
}

/// What people read and nothing is decided by: cut to what the metadata has room for.
fn readable(text: &str) -> String {
    let printable = text.chars().filter(|c| !c.is_control());
    let mut text: String = printable.take(VALUE_BYTES_MAX).collect();
    while metadata_value(&text).len() > VALUE_BYTES_MAX {
        text.pop();
    }
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "3f2c1a9d5b7e8f60412233445566778899aabbcc";

    fn facts() -> BuildFacts {
        BuildFacts {
            branch: Some("feature/x".to_owned()),
            tag: None,
            commit: Some(SHA.to_owned()),
            build_num: Some("47".to_owned()),
            repository: Some("acme/shop".to_owned()),
            build_url: Some("https://ci.example/47".to_owned()),
            author: Some("Jürgen".to_owned()),
        }
    }

    fn stage(to: &str, facts: &BuildFacts) -> Result<Staged, DestinationError> {
        to.parse::<Destination>()?.stage(facts, None, ".zip")
    }

    #[test]
    fn ok_a_folder_gets_the_stacks_own_pattern() {
        for to in ["s3://artifacts/staging", "s3://artifacts/staging/"] {
            let staged = stage(to, &facts()).unwrap();
            assert_eq!(
                staged.key.as_str(),
                format!("staging/shop/feature/x/47-{SHA}.zip")
            );
            let metadata: Vec<_> = staged
                .metadata
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            assert_eq!(
                metadata,
                [
                    "author==?UTF-8?Q?J=C3=BCrgen?=",
                    "build-url=https://ci.example/47",
                    "repository=acme/shop"
                ]
            );
        }
    }

    #[test]
    fn ok_a_tag_stands_where_the_pattern_has_the_branch() {
        let tagged = BuildFacts {
            branch: None,
            tag: Some("v1.2".to_owned()),
            ..facts()
        };
        let staged = stage("s3://artifacts/staging", &tagged).unwrap();
        assert_eq!(
            staged.key.as_str(),
            format!("staging/shop/v1.2/47-{SHA}.zip")
        );
        assert_eq!(staged.metadata.get("tag").map(String::as_str), Some("v1.2"));
        assert_eq!(staged.metadata.get("branch"), None);
        // The function reads it back as the tag's build.
        let pattern: StagingPattern = format!("staging/{DEFAULT_PATTERN}").parse().unwrap();
        let captures = pattern.read(staged.key.as_str()).unwrap();
        let (build, findings) = Build::read(&captures, &staged.metadata);
        assert_eq!((build.branch, build.tag.as_deref()), (None, Some("v1.2")));
        assert!(findings.is_empty(), "{findings:?}");
    }

    #[test]
    fn ok_a_pattern_and_a_key_are_taken_as_they_are() {
        let staged = stage("s3://artifacts/s/{TAG}{BUILD_NUM}", &facts());
        assert!(matches!(staged, Err(DestinationError::Pattern(_))));
        let staged = stage("s3://artifacts/s/{BUILD_NUM}.zip", &facts()).unwrap();
        assert_eq!(staged.key.as_str(), "s/47.zip");
        assert_eq!(staged.metadata.len(), 5);
        let staged = stage("s3://artifacts/s/app.tar.gz", &facts()).unwrap();
        assert_eq!(staged.key.as_str(), "s/app.tar.gz");
        assert_eq!(staged.metadata.len(), 6);
    }

    #[test]
    fn err_what_nobody_says_is_named_with_its_flag() {
        let unnumbered = BuildFacts {
            build_num: None,
            ..facts()
        };
        let error = stage("s3://artifacts/staging", &unnumbered).unwrap_err();
        assert_eq!(
            error.to_string(),
            "staged key `staging/{PROJECT}/{BRANCH}/{BUILD_NUM}-{COMMIT}` needs {BUILD_NUM}, and neither a flag nor the CI nor git says it"
        );
        assert_eq!(
            error.cure(),
            "say it with --build-num; it has to grow from build to build"
        );
    }

    #[test]
    fn ok_what_is_not_ascii_is_read_back_by_the_function() {
        let tagged = BuildFacts {
            branch: None,
            tag: Some("größer".to_owned()),
            author: Some("ü".repeat(1_000)),
            ..facts()
        };
        let staged = stage("s3://artifacts/staging", &tagged).unwrap();
        let of_header = |value: &String| value.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        assert!(staged.metadata.values().all(of_header), "{staged:?}");
        let pattern: StagingPattern = format!("staging/{DEFAULT_PATTERN}").parse().unwrap();
        let captures = pattern.read(staged.key.as_str()).unwrap();
        let (build, findings) = Build::read(&captures, &staged.metadata);
        assert_eq!(build.tag.as_deref(), Some("größer"));
        let author = build.author.unwrap();
        assert!(
            author.len() > 100 && author.chars().all(|c| c == 'ü'),
            "{author}"
        );
        assert!(findings.is_empty(), "{findings:?}");
    }

    #[test]
    fn err_what_the_function_would_refuse_is_not_staged() {
        let tagged = BuildFacts {
            branch: None,
            tag: Some("v1\u{7}".to_owned()),
            ..facts()
        };
        let error = stage("s3://artifacts/s/{BUILD_NUM}", &tagged).unwrap_err();
        assert_eq!(
            error.to_string(),
            "tag \"v1\\u{7}\" has control characters, expected none"
        );
        assert!(matches!(
            stage("artifacts/staging", &facts()),
            Err(DestinationError::NotS3(_))
        ));
    }
}
