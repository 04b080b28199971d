//! Which build an artifact comes from.
//!
//! Owns the merge of the two witnesses: the staged key, which a bucket policy can pin, and the
//! object's user metadata, which nobody can. Refuses to know where the metadata was fetched.

use serde::{Deserialize, Serialize};

use super::encoded_word;
use super::staging::Captures;
use crate::deployment::{CommitId, RepositoryName};
use crate::finding::Finding;

/// Longest value in bytes; user metadata as a whole has 2 KB in S3.
pub const VALUE_BYTES_MAX: usize = 512;

/// Digits of `{SHORT_COMMIT}`.
pub const SHORT_COMMIT_DIGITS: usize = 7;

/// What was built. What neither the key nor the metadata says stays unset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// The project whose settings are read: said by the key alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The tag; a build with a tag is a tag build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The commit: 7 to 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The CI's build number, which need not be a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_num: Option<String>,
    /// `owner/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Where the build can be looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_url: Option<String>,
    /// Who wrote the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Whether the upload says that landing over a newer build is meant.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redeploy: bool,
}

/// The user metadata that is read, without `x-amz-meta-`.
pub const METADATA_NAMES: [&str; 8] = [
    "branch",
    "tag",
    "commit",
    "build-num",
    "repository",
    "build-url",
    "author",
    "redeploy",
];

impl Build {
    /// What the key says, filled up with what the user metadata says (names without
    /// `x-amz-meta-`, in any case; encoded words of RFC 2047 are read as what they say; empty values count
    /// as unset).
    ///
    /// The key wins; a commit in the metadata may lengthen the key's short one but not replace it. A
    /// tag that only the metadata says makes a tag build, also under a key that names a branch,
    /// which is told as a warning: a policy that pins branches by prefix does not pin tags.
    /// Bad values are left out and told as findings that refuse; contradictions that change
    /// nothing are told as warnings.
    pub fn read<K, V>(
        key: &Captures,
        metadata: impl IntoIterator<Item = (K, V)>,
    ) -> (Self, Vec<Finding>)
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let mut findings = Vec::new();
        let from_key = Self {
            project: checked("project", "key", key.project.as_deref(), &mut findings),
            branch: checked("branch", "key", key.branch.as_deref(), &mut findings),
            tag: checked("tag", "key", key.tag.as_deref(), &mut findings),
            commit: checked("commit", "key", key.commit(), &mut findings),
            build_num: checked("build-num", "key", key.build_num.as_deref(), &mut findings),
            repository: checked(
                "repository",
                "key",
                key.repository.as_deref(),
                &mut findings,
            ),
            ..Self::default()
        };
        let mut said = Self::default();
        for (name, value) in metadata {
            let name = name.as_ref().to_ascii_lowercase();
            let Some(name) = METADATA_NAMES.into_iter().find(|known| *known == name) else {
                continue;
            };
            let value = encoded_word::decode(value.as_ref().trim());
            let value = value.trim();
            if value.is_empty() {
                continue;
            }
            if name == "redeploy" {
                said.redeploy = read_flag(value, &mut findings);
                continue;
            }
            let value = checked(name, "metadata", Some(value), &mut findings);
            match name {
                "branch" => said.branch = value,
                "tag" => said.tag = value,
                "commit" => said.commit = value,
                "build-num" => said.build_num = value,
                "repository" => said.repository = value,
                "build-url" => said.build_url = value,
                _ => said.author = value,
            }
        }
        let build = merge(from_key, said, &mut findings);
        (build, findings)
    }

    /// The commit's first seven digits.
    pub fn short_commit(&self) -> Option<&str> {
        self.commit.as_deref()?.get(..SHORT_COMMIT_DIGITS)
    }

    /// The owner in `repository`.
    pub fn owner(&self) -> Option<&str> {
        self.repository
            .as_deref()?
            .split_once('/')
            .map(|(owner, _)| owner)
    }

    /// What was built, for messages: ``tag `v1` ``, ``branch `main` ``, `no branch and no tag`.
    pub fn name(&self) -> String {
        match (&self.tag, &self.branch) {
            (Some(tag), _) => format!("tag `{tag}`"),
            (None, Some(branch)) => format!("branch `{branch}`"),
            (None, None) => "no branch and no tag".to_owned(),
        }
    }
}

fn merge(key: Build, said: Build, findings: &mut Vec<Finding>) -> Build {
    let mut build = Build {
        project: key.project,
        build_url: said.build_url,
        author: said.author,
        redeploy: said.redeploy,
        ..Build::default()
    };
    build.commit = match (key.commit, said.commit) {
        (Some(short), Some(long)) if starts_with_digits(&long, &short) => Some(long),
        (Some(long), Some(short)) if starts_with_digits(&long, &short) => Some(long),
        (key, said) => pick("commit", key, said, findings),
    };
    build.build_num = pick("build-num", key.build_num, said.build_num, findings);
    build.repository = pick("repository", key.repository, said.repository, findings);
    match (key.branch, key.tag, said.tag) {
        // A CI writes a tag's name where its pattern has `{BRANCH}` and says in the metadata that it
        // is a tag: the name itself is still the one that the key pins.
        (Some(branch), None, Some(tag)) if branch == tag => {
            build.tag = Some(tag);
            build.branch = said.branch.filter(|said| *said != branch);
        }
        (Some(branch), None, Some(tag)) => {
            findings.push(Finding::warn(
                "build-tag-unpinned",
                format!(
                    "metadata x-amz-meta-tag makes this a build of tag `{tag}`, the staged key says \
                     branch `{branch}`"
                ),
                "nothing to do where all uploaders may build tags; else put {TAG} into the staging \
                 pattern, so that a bucket policy can say who may",
            ));
            build.branch = Some(branch);
            build.tag = Some(tag);
        }
        (key_branch, key_tag, said_tag) => {
            build.branch = pick("branch", key_branch, said.branch, findings);
            build.tag = pick("tag", key_tag, said_tag, findings);
        }
    }
    build
}

/// The key's value, else the metadata's; a warning where they differ.
fn pick(
    name: &str,
    key: Option<String>,
    said: Option<String>,
    findings: &mut Vec<Finding>,
) -> Option<String> {
    match (key, said) {
        (Some(key), Some(said)) => {
            if key != said {
                findings.push(Finding::warn(
                    "build-metadata-overruled",
                    format!("metadata x-amz-meta-{name} is `{said}`, the staged key says `{key}`"),
                    "the key was used; make the uploader say the same in both",
                ));
            }
            Some(key)
        }
        (key, said) => key.or(said),
    }
}

fn starts_with_digits(long: &str, short: &str) -> bool {
    long.get(..short.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(short))
}

/// The value where it is a good one; a finding where it is not.
fn checked(
    name: &'static str,
    witness: &str,
    value: Option<&str>,
    findings: &mut Vec<Finding>,
) -> Option<String> {
    let value = value?;
    let rule = if value.len() > VALUE_BYTES_MAX {
        Some(format!(
            "at most {VALUE_BYTES_MAX} bytes, found {}",
            value.len()
        ))
    } else if value.chars().any(char::is_control) {
        Some("no control characters".to_owned())
    } else {
        match name {
            "commit" => value
                .parse::<CommitId>()
                .err()
                .map(|error| error.rule.to_owned()),
            "repository" => value
                .parse::<RepositoryName>()
                .err()
                .map(|error| error.rule.to_owned()),
            _ => None,
        }
    };
    let Some(rule) = rule else {
        return Some(value.to_owned());
    };
    let shown: String = value
        .chars()
        .take(80)
        .flat_map(char::escape_debug)
        .collect();
    let code = format!("build-{}-invalid", name.trim_start_matches("build-"));
    findings.push(match witness {
        "key" => Finding::refuse(
            &code,
            format!("{name} `{shown}` in the staged key is not valid: expected {rule}"),
            "upload the artifact under a key with a valid value",
        ),
        _ => Finding::refuse(
            &code,
            format!("metadata x-amz-meta-{name} `{shown}` is not valid: expected {rule}"),
            format!("upload the artifact with a valid x-amz-meta-{name}, or without it"),
        ),
    });
    None
}

fn read_flag(value: &str, findings: &mut Vec<Finding>) -> bool {
    match value {
        "true" => true,
        "false" => false,
        other => {
            let shown: String = other
                .chars()
                .take(80)
                .flat_map(char::escape_debug)
                .collect();
            findings.push(Finding::refuse(
                "build-redeploy-invalid",
                format!("metadata x-amz-meta-redeploy is `{shown}`, expected `true` or `false`"),
                "upload the artifact with x-amz-meta-redeploy: true, or without it",
            ));
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "9fceb02d0ae598e95dc970b74767f19372d61af8";

    fn key() -> Captures {
        Captures {
            project: Some("shop".to_owned()),
            branch: Some("main".to_owned()),
            short_commit: Some("9fceb02".to_owned()),
            ..Captures::default()
        }
    }

    fn text(value: &str) -> Option<String> {
        Some(value.to_owned())
    }

    fn codes(findings: &[Finding]) -> Vec<(&str, bool)> {
        findings
            .iter()
            .map(|finding| (finding.code.as_str(), finding.refuses()))
            .collect()
    }

    #[test]
    fn ok_metadata_fills_what_the_key_does_not_say() {
        let (build, findings) = Build::read(
            &key(),
            [
                ("commit", SHA),
                ("Build-Num", "17"),
                ("repository", "my-org/shop"),
                ("build-url", "https://ci.example/17"),
                ("author", "=?UTF-8?Q?J=C3=B6?="),
                ("redeploy", "true"),
                ("project", "other"),
                ("tag", ""),
                ("unrelated", "\u{1}"),
            ],
        );
        assert_eq!(
            build,
            Build {
                project: text("shop"),
                branch: text("main"),
                tag: None,
                commit: text(SHA),
                build_num: text("17"),
                repository: text("my-org/shop"),
                build_url: text("https://ci.example/17"),
                author: text("Jö"),
                redeploy: true,
            }
        );
        assert_eq!(findings, []);
        assert_eq!(
            (build.short_commit(), build.owner()),
            (Some("9fceb02"), Some("my-org"))
        );
        assert_eq!(build.name(), "branch `main`");
    }

    #[test]
    fn ok_the_longer_of_two_agreeing_commits_is_taken() {
        let captures = Captures {
            full_commit: text(SHA),
            ..Captures::default()
        };
        for (key, said) in [(&captures, "9FCEB02"), (&captures, SHA), (&key(), SHA)] {
            let (build, findings) = Build::read(key, [("commit", said)]);
            assert_eq!((build.commit.as_deref(), findings.len()), (Some(SHA), 0));
        }
    }

    #[test]
    fn ok_the_key_wins_and_says_so() {
        let (build, findings) =
            Build::read(&key(), [("branch", "production"), ("commit", "aaaaaaaaaa")]);
        assert_eq!(
            (build.branch, build.commit),
            (text("main"), text("9fceb02"))
        );
        assert_eq!(
            codes(&findings),
            [
                ("build-metadata-overruled", false),
                ("build-metadata-overruled", false)
            ]
        );
    }

    #[test]
    fn ok_a_tag_that_only_the_metadata_says_makes_a_tag_build_with_a_warning() {
        let key = Captures {
            branch: Some("main".to_owned()),
            ..Captures::default()
        };
        let (build, findings) = Build::read(&key, [("tag", "v1.0")]);
        assert_eq!(build.tag.as_deref(), Some("v1.0"));
        assert_eq!(build.branch.as_deref(), Some("main"));
        assert_eq!(codes(&findings), [("build-tag-unpinned", false)]);
        assert_eq!(
            findings[0].message,
            "metadata x-amz-meta-tag makes this a build of tag `v1.0`, the staged key says branch `main`"
        );
    }

    #[test]
    fn ok_a_tag_in_the_branch_s_place_is_a_tag_where_the_metadata_says_so() {
        let captures = Captures {
            branch: text("v1.0"),
            ..Captures::default()
        };
        let (build, findings) = Build::read(&captures, [("tag", "v1.0")]);
        assert_eq!(
            (build.branch.as_deref(), build.tag.as_deref()),
            (None, Some("v1.0"))
        );
        assert_eq!(findings, []);
        assert_eq!(build.name(), "tag `v1.0`");
    }

    #[test]
    fn ok_a_tag_in_the_key_leaves_the_branch_to_the_metadata() {
        let captures = Captures {
            tag: text("v1.0"),
            ..Captures::default()
        };
        let (build, findings) = Build::read(&captures, [("branch", "main"), ("tag", "v1.0")]);
        assert_eq!(
            (build.branch.as_deref(), build.tag.as_deref()),
            (Some("main"), Some("v1.0"))
        );
        assert_eq!(findings, []);
    }

    #[test]
    fn err_bad_values_are_refused_and_left_out() {
        let long = "x".repeat(VALUE_BYTES_MAX + 1);
        for (name, value, code) in [
            ("commit", "abc", "build-commit-invalid"),
            ("commit", "9fceb0g", "build-commit-invalid"),
            ("repository", "shop", "build-repository-invalid"),
            ("repository", "a/b/c", "build-repository-invalid"),
            ("branch", "a\nb", "build-branch-invalid"),
            ("tag", "a\u{1b}b", "build-tag-invalid"),
            ("author", long.as_str(), "build-author-invalid"),
            ("build-url", "\u{7f}x", "build-url-invalid"),
            ("build-num", long.as_str(), "build-num-invalid"),
            ("redeploy", "yes", "build-redeploy-invalid"),
        ] {
            let (build, findings) = Build::read(&Captures::default(), [(name, value)]);
            assert_eq!(build, Build::default(), "{name}");
            assert_eq!(codes(&findings), [(code, true)], "{name}");
            assert!(findings[0].message.len() < 400, "{}", findings[0].message);
        }
        let fits = "x".repeat(VALUE_BYTES_MAX);
        let (build, _) = Build::read(&Captures::default(), [("author", fits.as_str())]);
        assert_eq!(build.author, Some(fits));
    }

    #[test]
    fn err_bad_values_in_the_key_are_refused() {
        let captures = Captures {
            branch: text("a\u{0}b"),
            ..Captures::default()
        };
        let (build, findings) = Build::read(&captures, [("branch", "main")]);
        assert_eq!(codes(&findings), [("build-branch-invalid", true)]);
        assert_eq!(
            findings[0].message,
            "branch `a\\0b` in the staged key is not valid: expected no control characters"
        );
        assert_eq!(build.branch.as_deref(), Some("main"));
    }

    #[test]
    fn ok_json_leaves_out_what_is_unset() {
        let build = Build {
            branch: text("main"),
            build_num: text("7"),
            ..Build::default()
        };
        let json = serde_json::to_string(&build).unwrap();
        assert_eq!(json, r#"{"branch":"main","build_num":"7"}"#);
        assert_eq!(serde_json::from_str::<Build>(&json).unwrap(), build);
        let again = Build {
            redeploy: true,
            ..Build::default()
        };
        assert_eq!(
            serde_json::to_string(&again).unwrap(),
            r#"{"redeploy":true}"#
        );
    }
}
