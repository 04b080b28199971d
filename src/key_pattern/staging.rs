//! A staged key to what it says of its build.
//!
//! Owns how the keys of staged objects are read. A key is read whole or not at all, by an
//! expression without look-around, so that the time is linear in the key's length.
//!
//! ```text
//! staging/{PROJECT}/{BRANCH}/{BUILD_NUM}-{COMMIT}
//! staging/shop     /feature/x/17       -9fceb02…   .tar.gz   <- the extension is not captured
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use fancy_regex::Regex;

use super::ExpandError;
use super::build::{Build, SHORT_COMMIT_DIGITS};
use super::template::{Part, PatternError, Template, Variable};
use crate::object::ObjectKey;

/// The extensions that may follow a staging pattern, in any case; the longest first.
pub const EXTENSIONS: [&str; 4] = [".tar.gz", ".tgz", ".tar", ".zip"];

/// Most digits of a commit: SHA-256.
const COMMIT_DIGITS_MAX: usize = 64;

/// How staged keys are read.
///
/// `{BRANCH}` and `{TAG}` may hold slashes; where a pattern leaves room for several readings,
/// earlier variables take as much as they can.
#[derive(Debug, Clone)]
pub struct StagingPattern {
    template: Template,
    expression: Regex,
}

/// What a staged key says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captures {
    /// `{PROJECT}`.
    pub project: Option<String>,
    /// `{BRANCH}`.
    pub branch: Option<String>,
    /// `{TAG}`.
    pub tag: Option<String>,
    /// `{COMMIT}`.
    pub full_commit: Option<String>,
    /// `{SHORT_COMMIT}`.
    pub short_commit: Option<String>,
    /// `{BUILD_NUM}`.
    pub build_num: Option<String>,
    /// `{REPOSITORY}`.
    pub repository: Option<String>,
}

impl Captures {
    /// The commit as exactly as the key says it.
    pub fn commit(&self) -> Option<&str> {
        self.full_commit.as_deref().or(self.short_commit.as_deref())
    }

    fn slot(&mut self, variable: Variable) -> &mut Option<String> {
        match variable {
            Variable::Project => &mut self.project,
            Variable::Branch => &mut self.branch,
            Variable::Tag => &mut self.tag,
            Variable::Commit => &mut self.full_commit,
            Variable::ShortCommit => &mut self.short_commit,
            Variable::BuildNum => &mut self.build_num,
            Variable::Repository => &mut self.repository,
        }
    }

    fn is_consistent(&self) -> bool {
        let is_named = |name: &str| name != "." && name != "..";
        let agree = match (&self.full_commit, &self.short_commit) {
            (Some(full), Some(short)) => full
                .get(..short.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(short)),
            _ => true,
        };
        agree && self.project.as_deref().is_none_or(is_named)
    }
}

impl FromStr for StagingPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let template = Template::parse(text, false)?;
        let mut seen = BTreeSet::new();
        let mut after_variable = false;
        let mut expression = String::from(r"(?s)\A");
        for part in &template.parts {
            match part {
                Part::Literal(literal) => {
                    expression.push_str(&fancy_regex::escape(literal));
                    after_variable = false;
                }
                Part::Variable(variable, column) => {
                    let (variable, column) = (*variable, *column);
                    if after_variable {
                        return Err(PatternError::AdjacentVariables { variable, column });
                    }
                    if !seen.insert(variable) {
                        return Err(PatternError::RepeatedVariable { variable, column });
                    }
                    expression.push_str(expression_of(variable));
                    after_variable = true;
                }
            }
        }
        expression.push_str(r"\z");
        // Every piece is our own or escaped, so the expression compiles; a pattern too large for
        // the engine is told as too long.
        let expression =
            Regex::new(&expression).map_err(|_| PatternError::TooLong { bytes: text.len() })?;
        Ok(Self {
            template,
            expression,
        })
    }
}

/// A group for each variable, without look-around or back references: those would backtrack.
fn expression_of(variable: Variable) -> &'static str {
    match variable {
        Variable::Project => "([A-Za-z0-9._-]+)",
        Variable::Branch | Variable::Tag => "(.+)",
        Variable::Commit => "([0-9A-Fa-f]{7,64})",
        Variable::ShortCommit => "([0-9A-Fa-f]{7})",
        Variable::BuildNum => "([^/]+)",
        Variable::Repository => "([A-Za-z0-9._-]+/[A-Za-z0-9._-]+)",
    }
}

impl StagingPattern {
    /// The pattern's text.
    pub fn as_str(&self) -> &str {
        &self.template.text
    }

    /// The variables in the order of the text.
    pub fn variables(&self) -> impl Iterator<Item = Variable> + '_ {
        self.template.variables()
    }

    /// Reads a key; `None` where the pattern does not match all of it.
    ///
    /// One known archive extension at the end is set aside first; where the rest does not match,
    /// the pattern is tried on the key as it stands (a pattern may spell its extension out).
    pub fn read(&self, key: &str) -> Option<Captures> {
        without_extension(key)
            .and_then(|key| self.read_all(key))
            .or_else(|| self.read_all(key))
    }

    fn read_all(&self, key: &str) -> Option<Captures> {
        // The engine's error is the backtracking limit, which an expression without look-around
        // never reaches.
        let found = self.expression.captures(key).ok().flatten()?;
        let mut captures = Captures::default();
        for (before, variable) in self.template.variables().enumerate() {
            *captures.slot(variable) = Some(found.get(before + 1)?.as_str().to_owned());
        }
        captures.is_consistent().then_some(captures)
    }

    /// The key (without extension) under which a build would be staged, values as they are.
    ///
    /// # Errors
    /// Where the build lacks a value, or where the key would not be read back as this build.
    pub fn expand(&self, build: &Build) -> Result<ObjectKey, ExpandError> {
        let mut key = String::new();
        for part in &self.template.parts {
            match part {
                Part::Literal(literal) => key.push_str(literal),
                Part::Variable(variable, _) => {
                    key.push_str(variable.value(build).ok_or(ExpandError::Missing {
                        variable: *variable,
                    })?)
                }
            }
        }
        let read_back = self.read_all(&key);
        let is_same = |variable: Variable| {
            let mut captures = read_back.clone().unwrap_or_default();
            captures.slot(variable).as_deref() == variable.value(build)
        };
        if let Some(variable) = self
            .template
            .variables()
            .find(|variable| !is_same(*variable))
        {
            return Err(ExpandError::Unreadable { variable, key });
        }
        let bytes = key.len();
        key.parse().map_err(|_| ExpandError::TooLong { bytes })
    }

    /// The text before the first variable.
    pub fn static_prefix(&self) -> &str {
        self.template.static_prefix()
    }

    /// Whether some key that the pattern reads begins with `prefix`.
    ///
    /// Staged objects under the records or the settings would start the function on its own output.
    pub fn could_begin_with(&self, prefix: &str) -> bool {
        // Byte offsets in `prefix` at which the next part may start.
        let mut starts = BTreeSet::from([0_usize]);
        for part in &self.template.parts {
            let mut next = BTreeSet::new();
            for start in starts {
                let rest = prefix.get(start..).unwrap_or_default();
                // Whatever follows can be made up: each part matches something.
                if rest.is_empty() {
                    return true;
                }
                let reach = match part {
                    Part::Literal(literal) => reach_of_literal(literal, rest),
                    Part::Variable(variable, _) => reach_of_variable(*variable, rest),
                };
                match reach {
                    Reach::Beyond => return true,
                    Reach::Ends(lengths) => {
                        next.extend(lengths.into_iter().map(|length| start + length))
                    }
                }
            }
            starts = next;
        }
        starts.into_iter().any(|start| {
            let rest = prefix.get(start..).unwrap_or_default().to_ascii_lowercase();
            EXTENSIONS
                .iter()
                .any(|extension| extension.starts_with(&rest))
        })
    }
}

impl fmt::Display for StagingPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.template.text)
    }
}

impl PartialEq for StagingPattern {
    fn eq(&self, other: &Self) -> bool {
        self.template == other.template
    }
}

impl Eq for StagingPattern {}

/// The key without its archive extension, where it has one.
fn without_extension(key: &str) -> Option<&str> {
    EXTENSIONS.iter().find_map(|extension| {
        let (stem, end) = key.split_at_checked(key.len().checked_sub(extension.len())?)?;
        end.eq_ignore_ascii_case(extension).then_some(stem)
    })
}

/// How far a part of the pattern can go into what is left of a prefix.
enum Reach {
    /// Past its end: the prefix is used up inside the part.
    Beyond,
    /// It can end after each of these byte lengths, all at most the length of the rest.
    Ends(Vec<usize>),
}

fn reach_of_literal(literal: &str, rest: &str) -> Reach {
    if rest.starts_with(literal) {
        Reach::Ends(vec![literal.len()])
    } else if literal.starts_with(rest) {
        Reach::Beyond
    } else {
        Reach::Ends(Vec::new())
    }
}

/// `rest` is never empty.
fn reach_of_variable(variable: Variable, rest: &str) -> Reach {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let run = |allowed: &dyn Fn(u8) -> bool| {
        rest.bytes()
            .position(|byte| !allowed(byte))
            .unwrap_or(rest.len())
    };
    let digits = run(&|byte: u8| byte.is_ascii_hexdigit());
    match variable {
        Variable::Branch | Variable::Tag => Reach::Beyond,
        Variable::BuildNum => {
            let length = run(&|byte: u8| byte != b'/');
            if length == rest.len() {
                Reach::Beyond
            } else {
                Reach::Ends(boundaries(rest, length))
            }
        }
        Variable::Project => {
            let length = run(&is_name);
            if length == rest.len() {
                return Reach::Beyond;
            }
            let is_named = |end: &usize| !matches!(rest.get(..*end), Some("." | ".."));
            Reach::Ends((1..=length).filter(is_named).collect())
        }
        Variable::Commit if digits == rest.len() && digits <= COMMIT_DIGITS_MAX => Reach::Beyond,
        Variable::Commit => {
            Reach::Ends((SHORT_COMMIT_DIGITS..=digits.min(COMMIT_DIGITS_MAX)).collect())
        }
        Variable::ShortCommit if digits == rest.len() && digits < SHORT_COMMIT_DIGITS => {
            Reach::Beyond
        }
        Variable::ShortCommit if digits >= SHORT_COMMIT_DIGITS => {
            Reach::Ends(vec![SHORT_COMMIT_DIGITS])
        }
        Variable::ShortCommit => Reach::Ends(Vec::new()),
        Variable::Repository => {
            let owner = run(&is_name);
            if owner == rest.len() {
                return Reach::Beyond;
            }
            let Some(name) = rest.get(owner..).and_then(|rest| rest.strip_prefix('/')) else {
                return Reach::Ends(Vec::new());
            };
            if owner == 0 {
                return Reach::Ends(Vec::new());
            }
            let length = name
                .bytes()
                .position(|byte| !is_name(byte))
                .unwrap_or(name.len());
            if length == name.len() {
                Reach::Beyond
            } else {
                Reach::Ends((1..=length).map(|length| owner + 1 + length).collect())
            }
        }
    }
}

/// Character boundaries in `1..=length`.
fn boundaries(text: &str, length: usize) -> Vec<usize> {
    (1..=length)
        .filter(|end| text.is_char_boundary(*end))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    const SHA: &str = "9fceb02d0ae598e95dc970b74767f19372d61af8";

    fn pattern(text: &str) -> StagingPattern {
        text.parse().unwrap()
    }

    fn usual() -> &'static StagingPattern {
        static USUAL: LazyLock<StagingPattern> =
            LazyLock::new(|| pattern("staging/{PROJECT}/{BRANCH}/{BUILD_NUM}-{COMMIT}"));
        &USUAL
    }

    #[test]
    fn ok_the_usual_key_is_read() {
        let captures = usual()
            .read(&format!("staging/shop/feature/x/17-{SHA}.zip"))
            .unwrap();
        assert_eq!(
            captures,
            Captures {
                project: Some("shop".to_owned()),
                branch: Some("feature/x".to_owned()),
                full_commit: Some(SHA.to_owned()),
                build_num: Some("17".to_owned()),
                ..Captures::default()
            }
        );
        assert_eq!(captures.commit(), Some(SHA));
    }

    #[test]
    fn ok_every_extension_is_set_aside_in_any_case() {
        for extension in [".zip", ".tar", ".tar.gz", ".tgz", ".ZIP", ".Tar.Gz", ""] {
            let captures = pattern("s/{BRANCH}")
                .read(&format!("s/a.b{extension}"))
                .unwrap();
            assert_eq!(captures.branch.as_deref(), Some("a.b"), "{extension}");
        }
        let other = pattern("s/{BRANCH}").read("s/a.rar").unwrap();
        assert_eq!(other.branch.as_deref(), Some("a.rar"));
        let twice = pattern("s/{BRANCH}").read("s/a.zip.zip").unwrap();
        assert_eq!(twice.branch.as_deref(), Some("a.zip"));
    }

    #[test]
    fn ok_a_pattern_may_spell_its_extension_out() {
        let spelled = pattern("s/{BUILD_NUM}.zip");
        assert_eq!(
            spelled.read("s/5.zip").unwrap().build_num.as_deref(),
            Some("5")
        );
        assert_eq!(
            spelled.read("s/5.zip.zip").unwrap().build_num.as_deref(),
            Some("5")
        );
        assert!(spelled.read("s/5.tar").is_none());
    }

    #[test]
    fn err_keys_outside_the_pattern_are_not_read() {
        for key in [
            "staging/shop/main/17-9fceb0.zip",
            "staging/shop/main/17.zip",
            "staging/shop/17-9fceb02.zip",
            "staging/sh op/main/17-9fceb02.zip",
            "staging/../main/17-9fceb02.zip",
            "staging/./main/17-9fceb02.zip",
            "staging/shop/main/17-9fceb02.zip/",
            "xstaging/shop/main/17-9fceb02.zip",
            "Staging/shop/main/17-9fceb02.zip",
            "",
        ] {
            assert!(usual().read(key).is_none(), "{key}");
        }
        assert!(usual().read("staging/shop/main/17-9fceb02.zip").is_some());
    }

    #[test]
    fn ok_literals_stand_for_themselves() {
        let odd = pattern("a.b(c)+[d]/{TAG}$");
        assert_eq!(
            odd.read("a.b(c)+[d]/v1$").unwrap().tag.as_deref(),
            Some("v1")
        );
        assert!(odd.read("axb(c)+[d]/v1$").is_none());
    }

    #[test]
    fn ok_repositories_have_two_parts() {
        let both = pattern("{REPOSITORY}/{BRANCH}/{SHORT_COMMIT}");
        let captures = both.read("my-org/shop/feature/x/9fceb02.tgz").unwrap();
        assert_eq!(captures.repository.as_deref(), Some("my-org/shop"));
        assert_eq!(captures.branch.as_deref(), Some("feature/x"));
        assert_eq!(captures.commit(), Some("9fceb02"));
    }

    #[test]
    fn err_short_and_full_commit_must_agree() {
        let both = pattern("{SHORT_COMMIT}/{COMMIT}");
        assert!(both.read(&format!("9FCEB02/{SHA}")).is_some());
        assert!(both.read(&format!("9fceb03/{SHA}")).is_none());
    }

    #[test]
    fn err_ambiguous_patterns_are_refused() {
        let error = |text: &str| text.parse::<StagingPattern>().unwrap_err();
        assert_eq!(
            error("{BRANCH}{TAG}"),
            PatternError::AdjacentVariables {
                variable: Variable::Tag,
                column: 9
            }
        );
        assert_eq!(
            error("{BRANCH}/{BRANCH}"),
            PatternError::RepeatedVariable {
                variable: Variable::Branch,
                column: 10
            }
        );
    }

    #[test]
    fn err_builds_that_would_be_read_as_others_have_no_staged_key() {
        let build = Build {
            project: Some("shop".to_owned()),
            branch: Some("main".to_owned()),
            commit: Some(SHA.to_owned()),
            build_num: Some("a/b".to_owned()),
            ..Build::default()
        };
        assert!(matches!(
            usual().expand(&build),
            Err(ExpandError::Unreadable {
                variable: Variable::Branch,
                ..
            })
        ));
        let finding = usual().expand(&build).unwrap_err().finding();
        assert_eq!(finding.code, "key-unreadable");
        let nameless = Build {
            branch: None,
            ..build
        };
        assert_eq!(
            usual().expand(&nameless),
            Err(ExpandError::Missing {
                variable: Variable::Branch
            })
        );
    }

    #[test]
    fn ok_prefixes_that_keys_can_begin_with() {
        let could = |text: &str, prefix: &str| pattern(text).could_begin_with(prefix);
        for (text, prefix) in [
            ("staging/{BRANCH}", ""),
            ("staging/{BRANCH}", "sta"),
            ("staging/{BRANCH}", "staging/"),
            ("staging/{BRANCH}", "staging/records/"),
            ("{BRANCH}/{BUILD_NUM}", "records/"),
            ("{PROJECT}/{BRANCH}", "records/"),
            ("{PROJECT}/records/{BRANCH}", "x/records/"),
            ("{BUILD_NUM}-{PROJECT}/x", "12-a-b/"),
            ("{REPOSITORY}/x", "org/na"),
            ("{REPOSITORY}/x", "org/name/x"),
            ("{COMMIT}/{BRANCH}", "abcdef0/records/"),
            ("{COMMIT}/x", "abc"),
            ("{SHORT_COMMIT}/x", "abc"),
            ("fixed", "fixed.z"),
            ("fixed", "fixed.TAR.g"),
        ] {
            assert!(could(text, prefix), "{text} {prefix}");
        }
        for (text, prefix) in [
            ("staging/{BRANCH}", "records/"),
            ("staging/{BRANCH}", "staging-records/"),
            ("{PROJECT}/staging/{BRANCH}", "records/drops/"),
            ("{PROJECT}/x", "../"),
            ("{PROJECT}/x", "a b"),
            ("{BUILD_NUM}/x", "/"),
            ("{REPOSITORY}/x", "/a"),
            ("{REPOSITORY}/x", "records//"),
            ("{COMMIT}/x", "records/"),
            ("{COMMIT}/x", "abcdef/"),
            ("{SHORT_COMMIT}/x", "abcdef01"),
            ("{SHORT_COMMIT}/x", "abx"),
            ("fixed", "fixed/"),
            ("fixed", "fixed.rar"),
        ] {
            assert!(!could(text, prefix), "{text} {prefix}");
        }
    }

    #[test]
    fn ok_long_keys_are_read_in_linear_time() {
        let greedy = pattern("{BRANCH}-{BUILD_NUM}-{TAG}-{PROJECT}-{COMMIT}");
        for length in [256, 512, 1_024] {
            for end in ["", "-9fceb02"] {
                let key = format!("{}{end}", "-a".repeat(length / 2));
                let started = Instant::now();
                let read = greedy.read(&key);
                println!("{length} bytes: {:?}", started.elapsed());
                assert_eq!(read.is_some(), !end.is_empty());
            }
        }
    }

    proptest! {
        #[test]
        fn ok_what_is_expanded_is_read_back(
            project in "[A-Za-z0-9_-][A-Za-z0-9._-]{0,8}",
            branch in "[a-zA-Z0-9./_é-]{1,20}",
            build_num in "[0-9a-z-]{1,8}",
            commit in "[0-9a-f]{7,64}",
            extension in prop_oneof![Just(""), Just(".zip"), Just(".tar.gz"), Just(".TGZ"), Just(".tar")],
        ) {
            let build = Build {
                project: Some(project),
                branch: Some(branch),
                commit: Some(commit),
                build_num: Some(build_num),
                ..Build::default()
            };
            let key = match usual().expand(&build) {
                Ok(key) => format!("{key}{extension}"),
                // `1-abcdefa-…`: the build number takes what it can.
                Err(ExpandError::Unreadable { .. }) => return Ok(()),
                Err(other) => return Err(TestCaseError::fail(other.to_string())),
            };
            let captures = usual().read(&key).unwrap();
            let (read, findings) = Build::read(&captures, [("", ""); 0]);
            prop_assert_eq!(read, build);
            prop_assert!(findings.is_empty());
        }

        #[test]
        fn ok_digits_after_the_last_dash_are_always_read_back(
            branch in "[a-z/_-]{1,20}",
            build_num in "[0-9]{1,8}",
            commit in "[0-9a-f]{7,64}",
        ) {
            let build = Build {
                project: Some("p".to_owned()),
                branch: Some(branch),
                commit: Some(commit),
                build_num: Some(build_num),
                ..Build::default()
            };
            prop_assert!(usual().expand(&build).is_ok());
        }

        #[test]
        fn ok_keys_could_begin_with_each_of_their_prefixes(
            which in 0_usize..7,
            project in "[a-c._]{1,3}x",
            branch in "[a-c/é.]{1,8}",
            build_num in "[0-9é.-]{1,4}",
            commit in "[0-9a-f]{7,12}",
            repository in "[a-c.]{1,3}/[a-c-]{1,3}",
            extension in prop_oneof![Just(""), Just(".zip"), Just(".tar.gz"), Just(".TGZ")],
        ) {
            let texts = [
                "{PROJECT}/{BRANCH}-{BUILD_NUM}",
                "s/{BUILD_NUM}-{COMMIT}",
                "{COMMIT}-{TAG}",
                "{REPOSITORY}/{SHORT_COMMIT}.{BUILD_NUM}",
                "{REPOSITORY}-{PROJECT}",
                "{SHORT_COMMIT}/{TAG}/{PROJECT}",
                "é{PROJECT}é",
            ];
            let pattern = pattern(texts[which]);
            let build = Build {
                project: Some(project),
                tag: Some(branch.clone()),
                branch: Some(branch),
                build_num: Some(build_num),
                commit: Some(commit),
                repository: Some(repository),
                ..Build::default()
            };
            let key: String = pattern
                .template
                .parts
                .iter()
                .map(|part| match part {
                    Part::Literal(literal) => literal.as_str(),
                    Part::Variable(variable, _) => variable.value(&build).unwrap(),
                })
                .collect();
            let key = format!("{key}{extension}");
            prop_assert!(pattern.read(&key).is_some(), "{}", key);
            for (end, _) in key.char_indices().chain([(key.len(), ' ')]) {
                prop_assert!(pattern.could_begin_with(&key[..end]), "{} {}", texts[which], &key[..end]);
            }
        }

        #[test]
        fn ok_no_key_panics(key in ".{0,80}") {
            if let Some(captures) = usual().read(&format!("staging/{key}")) {
                let _ = Build::read(&captures, [("branch", key.as_str())]);
            }
            let _ = usual().could_begin_with(&key);
        }
    }
}
