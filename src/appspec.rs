//! The AppSpec of the three platforms, read as CodeDeploy's agent and service read it.
//!
//! Owns what an AppSpec may say and what it means. Knows nothing of archives: whether a script or a
//! source is there is the bundle check's question.
//!
//! ```text
//! bytes -> yaml::Node -> psych (Ruby's types, what safe_load refuses) -> Server | Lambda | Ecs
//! ```

use crate::deployment::ComputePlatform;
use crate::finding::Finding;
use crate::yaml::{self, Place, YamlError};

mod permissions;
mod psych;
mod server;
mod serverless;
#[cfg(test)]
mod tests;

pub use permissions::{Ace, Names, Permission};
pub use server::{
    FileMapping, Hook, OperatingSystem, SERVER_HOOKS, Script, Server, TIMEOUT_SECONDS_DEFAULT,
    TIMEOUT_SECONDS_MAX,
};
pub use serverless::{ECS_HOOKS, Ecs, LAMBDA_HOOKS, Lambda, LifecycleFunction};

/// Findings that one AppSpec is given; a file with more faults has no use for the rest.
const FINDINGS_MAX: usize = 100;

/// Characters of the AppSpec's own text that a message shows.
const SHOWN_CHARS_MAX: usize = 80;

/// Where a byte order mark stands.
const MARK_PLACE: Place = Place { line: 1, column: 1 };

const MARK_CURE: &str = "save it as UTF-8 without byte order mark (BOM)";

/// What an AppSpec may cost: far more than any that a person wrote, far less than hurts.
const LIMITS: yaml::Limits = yaml::Limits {
    bytes_max: 1 << 20,
    depth_max: 32,
    events_max: 100_000,
    aliases_max: 16,
};

/// What the AppSpec says on its platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Files, permissions and hook scripts for instances.
    Server(Server),
    /// A function's versions.
    Lambda(Lambda),
    /// A service's task definition.
    Ecs(Ecs),
}

/// An AppSpec that its platform accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppSpec {
    /// What it says.
    pub content: Content,
    /// Whether it is written in JSON, which is YAML too.
    pub is_json: bool,
    /// What deploys, but bites.
    pub warnings: Vec<Finding>,
}

impl AppSpec {
    /// Reads an AppSpec; `path` is its name in the artifact, for the findings.
    ///
    /// The platform is told by `Resources`, which only Lambda and ECS AppSpecs have.
    ///
    /// # Errors
    /// Every fault for which the agent or the service would refuse it, with line and column.
    pub fn read(bytes: &[u8], path: &str) -> Result<Self, Vec<Finding>> {
        let mut report = Report {
            path,
            findings: Vec::new(),
        };
        let content = read_content(bytes, &mut report);
        match content {
            Some(content) if !report.findings.iter().any(Finding::refuses) => Ok(Self {
                content,
                is_json: serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok(),
                warnings: report.findings,
            }),
            _ => Err(report.findings),
        }
    }

    /// Its platform.
    pub fn platform(&self) -> ComputePlatform {
        match self.content {
            Content::Server(_) => ComputePlatform::Server,
            Content::Lambda(_) => ComputePlatform::Lambda,
            Content::Ecs(_) => ComputePlatform::Ecs,
        }
    }

    /// What it says to instances; `None` on the other platforms.
    pub fn server(&self) -> Option<&Server> {
        match &self.content {
            Content::Server(server) => Some(server),
            Content::Lambda(_) | Content::Ecs(_) => None,
        }
    }
}

fn read_content(bytes: &[u8], report: &mut Report<'_>) -> Option<Content> {
    let first = match yaml::parse_first(bytes, &LIMITS) {
        Ok(first) => first,
        Err(error) => {
            if let (YamlError::Syntax { .. }, Some(text)) = (&error, after_mark(bytes)) {
                match begins_bare(text) {
                    true => report.warn_of_mark(),
                    false => report.refuse_mark(),
                }
            }
            report.yaml(&error);
            return None;
        }
    };
    let (has_mark, is_cut) = (first.has_mark, first.is_cut_by_mark);
    let content = content_of(first, report);
    if is_cut && report.findings.iter().any(Finding::refuses) {
        // They are about what the agent does not get to read.
        report.findings.clear();
        report.refuse_mark();
    } else if has_mark {
        report.warn_of_mark();
    }
    content
}

/// The text behind a byte order mark.
fn after_mark(bytes: &[u8]) -> Option<&[u8]> {
    bytes.strip_prefix("\u{FEFF}".as_bytes())
}

/// Whether a text's first line is blank or a comment, where a byte order mark does no harm.
fn begins_bare(text: &[u8]) -> bool {
    let line = text.split(|byte| matches!(byte, b'\n' | b'\r')).next();
    let line = line.unwrap_or_default().trim_ascii_start();
    line.is_empty() || line.starts_with(b"#")
}

fn content_of(first: yaml::First, report: &mut Report<'_>) -> Option<Content> {
    if let Some(rest) = first.rest {
        report.warn(
            "appspec-second-document",
            rest,
            "the AppSpec goes on here after its first YAML document, which is all that the agent reads",
            "take out what follows; if it belongs to the AppSpec, correct the brackets, `---` or indentation before it",
        );
    }
    let Some(first) = first.node else {
        report.empty();
        return None;
    };
    let mut duplicates = Vec::new();
    let root = match psych::to_ruby(&first, &mut duplicates) {
        Ok(root) => root,
        Err(refused) => {
            report.psych(&refused);
            return None;
        }
    };
    for duplicate in &duplicates {
        report.warn(
            "appspec-duplicate-key",
            duplicate.place,
            &format!(
                "key `{}` stands twice, first in line {}; only the last one counts",
                cut(&duplicate.key),
                duplicate.first_line
            ),
            "take one of them out",
        );
    }
    if root.is_falsy() {
        report.empty();
        return None;
    }
    if !matches!(root.ruby, psych::Ruby::Map(_)) {
        report.refuse(
            "appspec-not-a-mapping",
            root.place,
            &format!(
                "the AppSpec is {}, expected a mapping with `version` and `os`",
                root.kind()
            ),
            "start it with the lines `version: 0.0` and `os: linux`",
        );
        return None;
    }
    if root.get("os").is_none() && serverless::has_resources(&root) {
        serverless::read(&root, report)
    } else {
        server::read(&root, report).map(Content::Server)
    }
}

/// Text of the AppSpec for a message: at most [`SHOWN_CHARS_MAX`], control characters escaped.
fn cut(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(SHOWN_CHARS_MAX)
        .flat_map(|char| {
            let (plain, escaped) = if char.is_control() {
                (None, Some(char.escape_default()))
            } else {
                (Some(char), None)
            };
            plain.into_iter().chain(escaped.into_iter().flatten())
        })
        .collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// Findings in the making.
struct Report<'a> {
    path: &'a str,
    findings: Vec<Finding>,
}

impl Report<'_> {
    fn push(&mut self, finding: Finding, place: Option<Place>) {
        if self.findings.len() < FINDINGS_MAX {
            let finding = finding.in_file(self.path);
            self.findings.push(match place {
                Some(place) => finding.at(place.line, place.column),
                None => finding,
            });
        } else if finding.refuses() && !self.findings.iter().any(Finding::refuses) {
            // Room is made: a refusal must not get lost behind warnings.
            self.findings.pop();
            self.push(finding, place);
        }
    }

    fn refuse(&mut self, code: &str, place: Place, message: &str, cure: &str) {
        self.push(Finding::refuse(code, message, cure), Some(place));
    }

    fn warn(&mut self, code: &str, place: Place, message: &str, cure: &str) {
        self.push(Finding::warn(code, message, cure), Some(place));
    }

    /// A byte order mark indents the line that it stands on: with a key there, the document ends on it.
    fn refuse_mark(&mut self) {
        self.refuse(
            "appspec-encoding",
            MARK_PLACE,
            "the AppSpec starts with a byte order mark, which the agent takes for an indentation of the first line",
            MARK_CURE,
        );
    }

    fn warn_of_mark(&mut self) {
        self.warn(
            "appspec-byte-order-mark",
            MARK_PLACE,
            "the AppSpec starts with a byte order mark; the agent reads it only because no key stands in that line",
            MARK_CURE,
        );
    }

    fn empty(&mut self) {
        self.push(
            Finding::refuse(
                "appspec-empty",
                "the AppSpec is empty",
                "write at least `version: 0.0` and `os: linux` (or `windows`) into it",
            ),
            None,
        );
    }

    fn yaml(&mut self, error: &YamlError) {
        let (code, cure) = match error {
            YamlError::TooLarge { .. } => (
                "appspec-too-large",
                "keep data out of the AppSpec; files belong into the bundle",
            ),
            YamlError::Utf16 | YamlError::InvalidUtf8 { .. } => (
                "appspec-encoding",
                "save it as UTF-8 text without byte order mark (BOM)",
            ),
            YamlError::Nul { .. } | YamlError::Control { .. } => (
                "appspec-encoding",
                "take the character out, or write its escape in double quotes",
            ),
            YamlError::TooDeep { .. } | YamlError::TooManyEvents { .. } => {
                ("appspec-too-complex", "write it flatter and shorter")
            }
            YamlError::TagsTooLarge { .. } => (
                "appspec-too-complex",
                "take the tags out, or have `%TAG` stand for less",
            ),
            YamlError::TooManyAliases { .. }
            | YamlError::TooManyNodes { .. }
            | YamlError::CopiesTooLarge { .. }
            | YamlError::UnknownAnchor { .. }
            | YamlError::RecursiveAlias { .. } => (
                "appspec-alias",
                "write the value out in each place; the agent reads no `&anchor` and `*alias`",
            ),
            YamlError::Syntax { .. } => (
                "appspec-syntax",
                "correct the YAML there; indent with spaces, never with tabs",
            ),
        };
        self.push(
            Finding::refuse(code, format!("the AppSpec cannot be read: {error}"), cure),
            error.place(),
        );
    }

    fn psych(&mut self, refused: &psych::Refused) {
        match refused {
            psych::Refused::Alias(place, name) => self.refuse(
                "appspec-alias",
                *place,
                &format!("alias `*{}` is refused by the agent's YAML reader", cut(name)),
                "write the value out in each place; the agent reads no `&anchor`, `*alias` and `<<`",
            ),
            psych::Refused::Date(place, text) => self.refuse(
                "appspec-date",
                *place,
                &format!("`{}` without quotes is a date, which the agent's YAML reader refuses", cut(text)),
                "put it in quotes",
            ),
            psych::Refused::Tag(place, tag) => self.refuse(
                "appspec-tag",
                *place,
                &format!("tag `{}` asks for a Ruby object, which the agent's YAML reader refuses", cut(tag)),
                "take the tag out",
            ),
        }
    }

    /// Warns of keys that nobody reads; Ruby's `[]` looks for exact names.
    fn unknown_keys(&mut self, value: &psych::Value, known: &[&str], of: &str) {
        let psych::Ruby::Map(pairs) = &value.ruby else {
            return;
        };
        for (key, _) in pairs {
            let name = key.to_s();
            if !known.contains(&name.as_str()) || key.text().is_none() {
                let near = known.iter().find(|known| known.eq_ignore_ascii_case(&name));
                let cure = match near {
                    Some(near) => format!("write `{near}`"),
                    None => format!("take it out, or correct it to one of {}", known.join(", ")),
                };
                self.warn(
                    "appspec-unknown-key",
                    key.place,
                    &format!("{of} has a key `{}`, which the agent ignores", cut(&name)),
                    &cure,
                );
            }
        }
    }
}
