//! Patterns with variables: a staged key to its build, a build to its revision's key.
//!
//! Owns the variables (`{BRANCH}`, `{COMMIT}`, …), what each may match in a staged key
//! ([`StagingPattern`]), the injective encoding of values in revision keys ([`KeyPattern`]) and the
//! merge of a key with the object's user metadata ([`Build`]). Refuses to know buckets, requests
//! and settings files.
//!
//! ```text
//! staged key --StagingPattern--> Captures --+ user metadata--> Build --KeyPattern--> revision key
//! ```

mod build;
mod encoded_word;
pub(crate) mod spelling;
mod staging;
mod template;

use std::fmt;
use std::str::FromStr;

pub use build::{Build, METADATA_NAMES, SHORT_COMMIT_DIGITS, VALUE_BYTES_MAX};
pub use encoded_word::encode as metadata_value;
pub use staging::{Captures, EXTENSIONS, StagingPattern};
pub use template::{PATTERN_BYTES_MAX, PatternError, Variable};
use template::{Part, Template};

use crate::deployment::DESCRIPTION_CHARACTERS_MAX;
use crate::finding::Finding;
use crate::object::ObjectKey;

/// Why a build has no key under a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// The build does not say this.
    #[error("variable `{variable}` has no value: neither the staged key nor the metadata says it")]
    Missing {
        /// The variable.
        variable: Variable,
    },
    /// The key would be longer than S3 allows.
    #[error("key has {bytes} bytes, S3 allows 1 to 1024")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// A staged key that would not be read as the build that it was made from.
    #[error(
        "key `{key}` would not be read back: the value of `{variable}` does not fit the staging pattern"
    )]
    Unreadable {
        /// The first variable that would be read as something else.
        variable: Variable,
        /// The key.
        key: String,
    },
}

impl ExpandError {
    /// What to do about it.
    pub fn cure(&self) -> String {
        match self {
            Self::Missing { variable } => match variable.metadata() {
                Some(metadata) => format!("upload the artifact with the user metadata {metadata}"),
                None => format!("put `{variable}` into the staging key pattern"),
            },
            Self::TooLong { .. } => "shorten the key pattern or the branch's name".to_owned(),
            Self::Unreadable { variable, .. } => {
                format!(
                    "use a value of `{variable}` that the staging pattern can hold, or another pattern"
                )
            }
        }
    }

    /// The same as a finding that stops the drop.
    pub fn finding(&self) -> Finding {
        let code = match self {
            Self::Missing { .. } => "key-value-missing",
            Self::TooLong { .. } => "key-too-long",
            Self::Unreadable { .. } => "key-unreadable",
        };
        Finding::refuse(code, self.to_string(), self.cure())
    }
}

/// The key of a revision, with variables.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyPattern(Template);

impl FromStr for KeyPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Template::parse(text, false).map(Self)
    }
}

impl KeyPattern {
    /// The pattern's text.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The variables in the order of the text.
    pub fn variables(&self) -> impl Iterator<Item = Variable> + '_ {
        self.0.variables()
    }

    /// The key of a build's revision.
    ///
    /// Values are encoded injectively ([`encode`]): with the other values the same, two branches
    /// never share a key.
    ///
    /// # Errors
    /// Where the build lacks a value, or the key would be longer than S3 allows.
    pub fn expand(&self, build: &Build) -> Result<ObjectKey, ExpandError> {
        let mut key = String::new();
        for part in &self.0.parts {
            match part {
                Part::Literal(literal) => key.push_str(literal),
                Part::Variable(variable, _) => {
                    let value = variable.value(build).ok_or(ExpandError::Missing {
                        variable: *variable,
                    })?;
                    key.push_str(&encode(value));
                }
            }
        }
        let bytes = key.len();
        key.parse().map_err(|_| ExpandError::TooLong { bytes })
    }

    /// Whether every build gets its own key: a commit or a build number stands in it.
    ///
    /// Other patterns need a versioned bucket, as they did in CircleCI 1.0.
    pub fn is_unique_per_build(&self) -> bool {
        self.0.variables().any(|variable| {
            matches!(
                variable,
                Variable::Commit | Variable::ShortCommit | Variable::BuildNum
            )
        })
    }

    /// The text before the first variable: what a policy can be scoped to.
    pub fn static_prefix(&self) -> &str {
        self.0.static_prefix()
    }
}

impl fmt::Display for KeyPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

/// A value as it stands in a revision's key: `[A-Za-z0-9._-]` kept, every other byte as `!` and two
/// upper-case hexadecimal digits (`feature/x` is `feature!2Fx`); `.` and `..` alone are encoded too.
///
/// Two values never give the same text. `!` is in S3's list of safe characters, so consoles, URLs
/// and tools leave it alone (`%` would be decoded by half of them), and hardly any branch holds it.
pub fn encode(value: &str) -> String {
    let is_relative = matches!(value, "." | "..");
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if !is_relative && (byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("!{byte:02X}"));
        }
    }
    encoded
}

/// A text for people with variables in it: the description of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TextPattern(Template);

impl FromStr for TextPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Template::parse(text, true).map(Self)
    }
}

impl TextPattern {
    /// The pattern's text.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The text for a build: values as they are, missing ones empty, cut to
    /// [`DESCRIPTION_CHARACTERS_MAX`] characters.
    pub fn expand_text(&self, build: &Build) -> String {
        let whole: String = self
            .0
            .parts
            .iter()
            .map(|part| match part {
                Part::Literal(literal) => literal.as_str(),
                Part::Variable(variable, _) => variable.value(build).unwrap_or_default(),
            })
            .collect();
        whole.chars().take(DESCRIPTION_CHARACTERS_MAX).collect()
    }
}

impl fmt::Display for TextPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn build() -> Build {
        Build {
            project: Some("shop".to_owned()),
            branch: Some("feature/x".to_owned()),
            tag: Some("v1.2".to_owned()),
            commit: Some("9fceb02d0ae598e95dc970b74767f19372d61af8".to_owned()),
            build_num: Some("17".to_owned()),
            repository: Some("my-org/shop".to_owned()),
            ..Build::default()
        }
    }

    fn expanded(pattern: &str) -> String {
        let pattern: KeyPattern = pattern.parse().unwrap();
        pattern.expand(&build()).unwrap().as_str().to_owned()
    }

    #[test]
    fn ok_every_variable_expands() {
        assert_eq!(
            expanded("apps/my-app-master-{SHORT_COMMIT}-{BUILD_NUM}"),
            "apps/my-app-master-9fceb02-17"
        );
        assert_eq!(
            expanded("{PROJECT}/{BRANCH}/{TAG}.zip"),
            "shop/feature!2Fx/v1.2.zip"
        );
        assert_eq!(
            expanded("{COMMIT}"),
            "9fceb02d0ae598e95dc970b74767f19372d61af8"
        );
        assert_eq!(expanded("{REPOSITORY}!"), "my-org!2Fshop!");
        assert_eq!(expanded("fixed"), "fixed");
    }

    #[test]
    fn ok_encoding_keeps_plain_names_and_nothing_else() {
        for (value, encoded) in [
            ("release-1.0_rc", "release-1.0_rc"),
            ("feature/x", "feature!2Fx"),
            ("a!2Fb", "a!212Fb"),
            ("ä b", "!C3!A4!20b"),
            (".", "!2E"),
            ("..", "!2E!2E"),
            ("...", "..."),
        ] {
            assert_eq!(encode(value), encoded);
        }
    }

    #[test]
    fn ok_uniqueness_asks_for_a_commit_or_a_build_number() {
        let unique = |text: &str| text.parse::<KeyPattern>().unwrap().is_unique_per_build();
        assert!(unique("a-{COMMIT}") && unique("a-{SHORT_COMMIT}") && unique("{BUILD_NUM}"));
        assert!(!unique("fixed") && !unique("{PROJECT}/{BRANCH}/{TAG}/{REPOSITORY}"));
    }

    #[test]
    fn err_a_missing_value_names_the_variable_and_the_metadata() {
        for (pattern, variable, metadata) in [
            ("{BRANCH}", "{BRANCH}", Some("x-amz-meta-branch")),
            ("{TAG}", "{TAG}", Some("x-amz-meta-tag")),
            ("{COMMIT}", "{COMMIT}", Some("x-amz-meta-commit")),
            (
                "{SHORT_COMMIT}",
                "{SHORT_COMMIT}",
                Some("x-amz-meta-commit"),
            ),
            ("{BUILD_NUM}", "{BUILD_NUM}", Some("x-amz-meta-build-num")),
            (
                "{REPOSITORY}",
                "{REPOSITORY}",
                Some("x-amz-meta-repository"),
            ),
            ("{PROJECT}", "{PROJECT}", None),
        ] {
            let pattern: KeyPattern = pattern.parse().unwrap();
            let finding = pattern.expand(&Build::default()).unwrap_err().finding();
            assert_eq!(
                finding.message,
                format!(
                    "variable `{variable}` has no value: neither the staged key nor the metadata says it"
                )
            );
            match metadata {
                Some(metadata) => assert!(finding.cure.ends_with(metadata), "{}", finding.cure),
                None => assert_eq!(finding.cure, "put `{PROJECT}` into the staging key pattern"),
            }
            assert!(finding.refuses());
        }
    }

    #[test]
    fn err_keys_longer_than_s3_allows() {
        let long = Build {
            branch: Some("/".repeat(400)),
            ..Build::default()
        };
        let pattern: KeyPattern = "{BRANCH}".parse().unwrap();
        assert_eq!(
            pattern.expand(&long),
            Err(ExpandError::TooLong { bytes: 1200 })
        );
    }

    #[test]
    fn err_keys_that_cannot_be_have_their_codes() {
        let code = |pattern: &str, branch: Option<&str>| {
            let build = Build {
                branch: branch.map(str::to_owned),
                ..Build::default()
            };
            let pattern: KeyPattern = pattern.parse().unwrap();
            pattern.expand(&build).unwrap_err().finding().code
        };
        assert_eq!(code("{COMMIT}", None), "key-value-missing");
        let long = "/".repeat(400);
        assert_eq!(code("{BRANCH}", Some(&long)), "key-too-long");
    }

    #[test]
    fn err_patterns_name_the_column() {
        let error = |text: &str| text.parse::<KeyPattern>().unwrap_err();
        for (text, column, message) in [
            (
                "ä/{BRNACH}",
                Some(3),
                "variable `{BRNACH}` is unknown at column 3; did you mean `{BRANCH}`",
            ),
            (
                "{branch}",
                Some(1),
                "variable `{branch}` is unknown at column 1; did you mean `{BRANCH}`",
            ),
            (
                "a{WHATEVER}",
                Some(2),
                "variable `{WHATEVER}` is unknown at column 2",
            ),
            ("a{}", Some(2), "variable `{}` is unknown at column 2"),
            ("a{BRANCH", Some(2), "brace `{` at column 2 is never closed"),
            (
                "{BRANCH{TAG}}",
                Some(1),
                "brace `{` at column 1 is never closed",
            ),
            ("a}b", Some(2), "brace `}` at column 2 closes nothing"),
            ("a\nb", Some(2), "control character U+000A at column 2"),
            ("", None, "pattern is empty"),
        ] {
            assert_eq!(
                (error(text).column(), error(text).to_string()),
                (column, message.to_owned())
            );
        }
        assert_eq!(
            error(&"x".repeat(1025)),
            PatternError::TooLong { bytes: 1025 }
        );
        assert!("x".repeat(1024).parse::<KeyPattern>().is_ok());
    }

    #[test]
    fn ok_descriptions_take_values_as_they_are_and_are_cut() {
        let text: TextPattern = "{BRANCH} at {SHORT_COMMIT}\nby {TAG}".parse().unwrap();
        assert_eq!(text.expand_text(&build()), "feature/x at 9fceb02\nby v1.2");
        assert_eq!(text.expand_text(&Build::default()), " at \nby ");
        let long: TextPattern = format!("{}{{BRANCH}}", "ä".repeat(255)).parse().unwrap();
        let described = long.expand_text(&build());
        assert_eq!(
            (described.chars().count(), described.chars().last()),
            (256, Some('f'))
        );
        assert!("a \u{7} bell".parse::<TextPattern>().is_err());
    }

    #[test]
    fn ok_the_static_prefix_ends_at_the_first_variable() {
        let prefix = |text: &str| {
            text.parse::<KeyPattern>()
                .unwrap()
                .static_prefix()
                .to_owned()
        };
        assert_eq!(prefix("apps/a-{COMMIT}"), "apps/a-");
        assert_eq!(prefix("{COMMIT}/a"), "");
        assert_eq!(prefix("fixed"), "fixed");
    }

    proptest! {
        #[test]
        fn ok_two_values_never_share_an_encoding(left in ".{0,12}", right in ".{0,12}") {
            prop_assert_eq!(left == right, encode(&left) == encode(&right));
        }

        #[test]
        fn ok_near_values_never_share_an_encoding(
            left in "[./!2EF%a-]{0,5}",
            right in "[./!2EF%a-]{0,5}",
        ) {
            prop_assert_eq!(left == right, encode(&left) == encode(&right));
        }

        #[test]
        fn ok_two_branches_never_share_a_key(
            left in "[a-z./!_-]{1,12}",
            right in "[a-z./!_-]{1,12}",
            around in ("[a-z/!-]{0,5}", "[a-z/!-]{0,5}"),
        ) {
            let pattern: KeyPattern =
                format!("{}{{BRANCH}}{}-{{BUILD_NUM}}", around.0, around.1).parse().unwrap();
            let key = |branch: &str| {
                pattern.expand(&Build { branch: Some(branch.to_owned()), ..build() }).unwrap()
            };
            prop_assert_eq!(left == right, key(&left) == key(&right));
        }

        #[test]
        fn ok_encodings_hold_only_safe_bytes(value in ".{0,20}") {
            let encoded = encode(&value);
            prop_assert!(encoded.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-!".contains(&b)));
        }

        #[test]
        fn ok_no_pattern_panics(text in "[{}A-Z_a/ ]{0,30}|.{0,30}") {
            let _ = text.parse::<KeyPattern>();
            let _ = text.parse::<StagingPattern>();
            let _ = text.parse::<TextPattern>();
        }
    }
}
