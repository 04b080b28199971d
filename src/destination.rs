//! Where an artifact is staged and what goes along with it: `--to` and the build's facts to a key and metadata.
//!
//! Owns the three readings of a destination (a folder, a pattern, a key), the rule that a tag's name stands
//! where the pattern has `{BRANCH}`, and what S3 takes as metadata. Values to values.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::ci_environment::BuildFacts;
use crate::deployment::RepositoryName;
use crate::finding::Finding;
use crate::key_pattern::{
    Build, Captures, EXTENSIONS, ExpandError, PatternError, StagingPattern, VALUE_BYTES_MAX,
    Variable, metadata_value,
};
use crate::object::{BucketName, InvalidName, ObjectKey, S3Prefix};

/// What follows a destination that is a folder: the default of the stack's `StagingKeyPattern`.
pub const DEFAULT_PATTERN: &str = "{PROJECT}/{BRANCH}/{BUILD_NUM}-{COMMIT}";
/// The same behind the default of the stack's `StagingPrefix`: how staged keys are read where nobody says.
pub const DEFAULT_STAGING_PATTERN: &str = "staging/{PROJECT}/{BRANCH}/{BUILD_NUM}-{COMMIT}";
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
    /// What is known of the build and was left out, and why.
    pub left_out: Vec<String>,
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
    /// The function would refuse the build: in its own words.
    #[error("{}", .0.message)]
    Refused(Box<Finding>),
    /// More metadata than S3 takes.
    #[error("metadata has {bytes} bytes with {name}, S3 takes at most {METADATA_BYTES_MAX} in all")]
    MetadataFull {
        /// The metadata's name that has no room.
        name: &'static str,
        /// Bytes of all names and values up to it.
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
            Self::Refused(finding) => match flag_of(&finding.code) {
                Some(flag) => format!("say a valid one with {flag}"),
                None => finding.cure.clone(),
            },
            Self::MetadataFull { name, .. } => {
                format!("shorten it, or let the staged key say the {name}")
            }
        }
    }
}

/// The option that says what a finding of [`Build::read`] is about.
fn flag_of(code: &str) -> Option<&'static str> {
    let attribute = code.strip_prefix("build-")?.strip_suffix("-invalid")?;
    Some(match attribute {
        "project" => "--project",
        "branch" => "--branch",
        "tag" => "--tag",
        "commit" => "--commit",
        "num" => "--build-num",
        "repository" => "--repository",
        _ => return None,
    })
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
    /// the repository's path where it is not given; with `is_redeployment` it may land over a newer build.
    ///
    /// # Errors
    /// What the key needs and nobody says, or what S3 or the function would not take.
    pub fn stage(
        &self,
        facts: &BuildFacts,
        project: Option<&str>,
        extension: &str,
        is_redeployment: bool,
    ) -> Result<Staged, DestinationError> {
        let project = project.or_else(|| facts.repository.as_deref()?.rsplit('/').next());
        let mut left_out = Vec::new();
        let mut build = Build {
            project: project.map(str::to_owned),
            branch: facts.branch.clone(),
            tag: facts.tag.clone(),
            commit: facts.commit.clone(),
            build_num: facts.build_num.clone(),
            repository: facts.repository.clone(),
            build_url: facts.build_url.clone(),
            author: facts.author.clone(),
            redeploy: is_redeployment,
        };
        if let Some(path) = &build.repository
            && path.parse::<RepositoryName>().is_err()
        {
            // GitLab's subgroups: a path of more parts is none that settings could name.
            left_out.push(format!("repository {path}, which is not owner/name"));
            build.repository = None;
        }
        let (key, captures, said) = match &self.place {
            Place::Key(key) => (key.clone(), Captures::default(), Vec::new()),
            Place::Pattern(pattern) => {
                let variables: Vec<Variable> = pattern.variables().collect();
                if build.branch.is_none() && !variables.contains(&Variable::Tag) {
                    build.branch.clone_from(&build.tag);
                }
                // Before the key is read back, which would not tell which of its values is none.
                judge(&captures_of(&build, &variables), &BTreeMap::new())?;
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
                let key: ObjectKey = if spelled_out {
                    stem
                } else {
                    format!("{stem}{extension}").parse()?
                };
                let captures = pattern.read(key.as_str()).unwrap_or_default();
                (key, captures, variables)
            }
        };
        let metadata = metadata(build, &said, &mut left_out)?;
        judge(&captures, &metadata)?;
        Ok(Staged {
            bucket: self.bucket.clone(),
            key,
            metadata,
            left_out,
        })
    }
}

/// Whether the function takes what key and metadata say.
fn judge(captures: &Captures, metadata: &BTreeMap<String, String>) -> Result<(), DestinationError> {
    let (_, findings) = Build::read(captures, metadata);
    match findings.into_iter().find(Finding::refuses) {
        Some(finding) => Err(DestinationError::Refused(Box::new(finding))),
        None => Ok(()),
    }
}

/// What a key of these variables says of the build.
fn captures_of(build: &Build, variables: &[Variable]) -> Captures {
    let said = |variable, value: &Option<String>| {
        let value = value.clone();
        value.filter(|_| variables.contains(&variable))
    };
    Captures {
        project: said(Variable::Project, &build.project),
        branch: said(Variable::Branch, &build.branch),
        tag: said(Variable::Tag, &build.tag),
        full_commit: said(Variable::Commit, &build.commit),
        short_commit: said(Variable::ShortCommit, &build.commit),
        build_num: said(Variable::BuildNum, &build.build_num),
        repository: said(Variable::Repository, &build.repository),
    }
}

/// What the key, which says `said`, leaves to the metadata. What people read and nothing is decided by goes last,
/// and stays out where S3 has no room for it.
fn metadata(
    build: Build,
    said: &[Variable],
    left_out: &mut Vec<String>,
) -> Result<BTreeMap<String, String>, DestinationError> {
    let is_said = |variable| said.contains(&variable);
    let branch = build
        .branch
        .filter(|branch| Some(branch) != build.tag.as_ref());
    let decisive = [
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
        ("redeploy", build.redeploy.then(|| "true".to_owned())),
    ];
    let readable = [
        ("author", build.author.as_deref().map(readable)),
        ("build-url", build.build_url.as_deref().map(readable)),
    ];
    let mut metadata = BTreeMap::new();
    let mut bytes = 0;
    let values = decisive.map(|value| (value, true)).into_iter();
    for ((name, value), is_decisive) in values.chain(readable.map(|value| (value, false))) {
        let Some(value) = value else { continue };
        let value = metadata_value(&value).into_owned();
        let with_it = bytes + name.len() + value.len();
        if with_it <= METADATA_BYTES_MAX {
            bytes = with_it;
            metadata.insert(name.to_owned(), value);
        } else if is_decisive {
            return Err(DestinationError::MetadataFull {
                name,
                bytes: with_it,
            });
        } else {
            left_out.push(format!("{name}, for which the metadata has no room"));
        }
    }
    Ok(metadata)
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
        to.parse::<Destination>()?.stage(facts, None, ".zip", false)
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
            "metadata x-amz-meta-tag `v1\\u{7}` is not valid: expected no control characters"
        );
        assert_eq!(error.cure(), "say a valid one with --tag");
        // What the key says is read as well.
        let with_commit = BuildFacts {
            commit: Some("v1".to_owned()),
            ..facts()
        };
        let error = stage("s3://artifacts/s/{BUILD_NUM}/{COMMIT}", &with_commit).unwrap_err();
        assert_eq!(error.cure(), "say a valid one with --commit", "{error}");
        let error = stage("s3://artifacts/s/app.zip", &with_commit).unwrap_err();
        assert_eq!(error.cure(), "say a valid one with --commit", "{error}");
        let with_branch = BuildFacts {
            branch: Some("a\u{7f}b".to_owned()),
            ..facts()
        };
        let error = stage("s3://artifacts/s/{BRANCH}/{BUILD_NUM}", &with_branch).unwrap_err();
        assert_eq!(error.cure(), "say a valid one with --branch", "{error}");
        assert!(matches!(
            stage("artifacts/staging", &facts()),
            Err(DestinationError::NotS3(_))
        ));
    }

    #[test]
    fn ok_what_people_read_is_left_out_where_the_metadata_is_full() {
        let long = BuildFacts {
            branch: Some("b".repeat(VALUE_BYTES_MAX)),
            tag: Some("t".repeat(VALUE_BYTES_MAX)),
            build_num: Some("7".repeat(VALUE_BYTES_MAX)),
            author: Some("a".repeat(VALUE_BYTES_MAX)),
            build_url: Some("u".repeat(100)),
            ..facts()
        };
        let to: Destination = "s3://artifacts/s/app.zip".parse().unwrap();
        let staged = to.stage(&long, None, ".zip", true).unwrap();
        let names: Vec<&str> = staged.metadata.keys().map(String::as_str).collect();
        let expected = [
            "branch",
            "build-num",
            "build-url",
            "commit",
            "redeploy",
            "repository",
            "tag",
        ];
        assert_eq!(names, expected);
        assert_eq!(
            staged.left_out,
            ["author, for which the metadata has no room"]
        );
        let bytes = staged
            .metadata
            .iter()
            .map(|(name, value)| name.len() + value.len());
        assert!(bytes.sum::<usize>() <= METADATA_BYTES_MAX);
    }

    #[test]
    fn err_more_than_the_metadata_holds() {
        // Encoded, each of these characters has six bytes.
        let long = BuildFacts {
            branch: Some("ü".repeat(200)),
            tag: Some("ö".repeat(200)),
            ..facts()
        };
        let error = stage("s3://artifacts/s/app.zip", &long).unwrap_err();
        let DestinationError::MetadataFull { name, bytes } = &error else {
            panic!("{error}");
        };
        assert_eq!(*name, "tag");
        assert_eq!(
            error.to_string(),
            format!("metadata has {bytes} bytes with tag, S3 takes at most 2048 in all")
        );
        assert_eq!(
            error.cure(),
            "shorten it, or let the staged key say the tag"
        );
    }

    #[test]
    fn ok_a_repository_that_settings_cannot_name_is_told() {
        let deep = BuildFacts {
            repository: Some("acme/web/shop".to_owned()),
            ..facts()
        };
        let staged = stage("s3://artifacts/staging", &deep).unwrap();
        assert!(staged.key.as_str().starts_with("staging/shop/"));
        assert_eq!(staged.metadata.get("repository"), None);
        assert_eq!(
            staged.left_out,
            ["repository acme/web/shop, which is not owner/name"]
        );
    }
}
