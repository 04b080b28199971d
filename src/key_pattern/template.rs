//! Pattern text to literals and variables.
//!
//! Owns the list of variables and the `{NAME}` syntax. Knows nothing of what a value may look
//! like in a key, read or written: that is told by the staging and the revision patterns.

use std::borrow::Cow;
use std::fmt;

use super::build::Build;
use super::spelling::nearest;

/// Longest pattern in bytes: an S3 key has at most 1,024, descriptions are cut far below.
pub const PATTERN_BYTES_MAX: usize = 1024;

/// What `{NAME}` may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Variable {
    /// `{PROJECT}`: the project whose settings file is read.
    Project,
    /// `{BRANCH}`: the branch that was built.
    Branch,
    /// `{TAG}`: the tag that was built.
    Tag,
    /// `{COMMIT}`: the commit, all digits of it.
    Commit,
    /// `{SHORT_COMMIT}`: the commit's first seven digits.
    ShortCommit,
    /// `{BUILD_NUM}`: the CI's build number.
    BuildNum,
    /// `{REPOSITORY}`: `owner/name`.
    Repository,
}

impl Variable {
    /// All of them, as messages list them.
    pub const ALL: [Self; 7] = [
        Self::Project,
        Self::Branch,
        Self::Tag,
        Self::Commit,
        Self::ShortCommit,
        Self::BuildNum,
        Self::Repository,
    ];

    /// The name between the braces.
    pub fn name(self) -> &'static str {
        match self {
            Self::Project => "PROJECT",
            Self::Branch => "BRANCH",
            Self::Tag => "TAG",
            Self::Commit => "COMMIT",
            Self::ShortCommit => "SHORT_COMMIT",
            Self::BuildNum => "BUILD_NUM",
            Self::Repository => "REPOSITORY",
        }
    }

    /// The user metadata that sets it where the key does not; `None` for what only a key may say.
    pub fn metadata(self) -> Option<&'static str> {
        match self {
            // The project names the settings file, so it has to be pinned by the key.
            Self::Project => None,
            Self::Branch => Some("x-amz-meta-branch"),
            Self::Tag => Some("x-amz-meta-tag"),
            Self::Commit | Self::ShortCommit => Some("x-amz-meta-commit"),
            Self::BuildNum => Some("x-amz-meta-build-num"),
            Self::Repository => Some("x-amz-meta-repository"),
        }
    }

    /// Its value in a build.
    pub fn value(self, build: &Build) -> Option<&str> {
        match self {
            Self::Project => build.project.as_deref(),
            Self::Branch => build.branch.as_deref(),
            Self::Tag => build.tag.as_deref(),
            Self::Commit => build.commit.as_deref(),
            Self::ShortCommit => build.short_commit(),
            Self::BuildNum => build.build_num.as_deref(),
            Self::Repository => build.repository.as_deref(),
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|variable| variable.name() == name)
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}}}", self.name())
    }
}

/// Why a text is no pattern. Columns are in characters, from 1, inside the pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing at all.
    #[error("pattern is empty")]
    Empty,
    /// Longer than [`PATTERN_BYTES_MAX`].
    #[error("pattern has {bytes} bytes, at most {PATTERN_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// A name that is none of the variables.
    #[error("variable `{{{name}}}` is unknown at column {column}{}", did_you_mean(.nearest))]
    UnknownVariable {
        /// The text between the braces.
        name: String,
        /// Column of the opening brace.
        column: usize,
        /// The variable that was probably meant.
        nearest: Option<Variable>,
    },
    /// `{` without `}`.
    #[error("brace `{{` at column {column} is never closed")]
    UnclosedBrace {
        /// Column of the brace.
        column: usize,
    },
    /// `}` without `{`.
    #[error("brace `}}` at column {column} closes nothing")]
    UnopenedBrace {
        /// Column of the brace.
        column: usize,
    },
    /// A control character, which no key should hold.
    #[error("control character U+{code:04X} at column {column}")]
    ControlCharacter {
        /// Its code point.
        code: u32,
        /// Its column.
        column: usize,
    },
    /// Two variables of a staging pattern with nothing between them.
    #[error(
        "variable `{variable}` at column {column} follows another one directly, so that a key cannot be read"
    )]
    AdjacentVariables {
        /// The second one.
        variable: Variable,
        /// Its column.
        column: usize,
    },
    /// A variable that stands in a staging pattern twice.
    #[error("variable `{variable}` stands a second time at column {column}")]
    RepeatedVariable {
        /// The variable.
        variable: Variable,
        /// Column of the second one.
        column: usize,
    },
}

fn did_you_mean(nearest: &Option<Variable>) -> Cow<'static, str> {
    match nearest {
        Some(variable) => Cow::Owned(format!("; did you mean `{variable}`")),
        None => Cow::Borrowed(""),
    }
}

impl PatternError {
    /// The column in the pattern (in characters, from 1) where there is one.
    pub fn column(&self) -> Option<usize> {
        match self {
            Self::Empty | Self::TooLong { .. } => None,
            Self::UnknownVariable { column, .. }
            | Self::UnclosedBrace { column }
            | Self::UnopenedBrace { column }
            | Self::ControlCharacter { column, .. }
            | Self::AdjacentVariables { column, .. }
            | Self::RepeatedVariable { column, .. } => Some(*column),
        }
    }

    /// What to do about it.
    pub fn cure(&self) -> String {
        match self {
            Self::Empty => "write a key, with variables where builds differ".to_owned(),
            Self::TooLong { .. } => "shorten the pattern".to_owned(),
            Self::UnknownVariable {
                nearest: Some(variable),
                ..
            } => format!("write `{variable}`"),
            Self::UnknownVariable { nearest: None, .. } => {
                format!("use one of {}", all_variables())
            }
            Self::UnclosedBrace { .. } | Self::UnopenedBrace { .. } => {
                format!(
                    "write braces only around a variable, one of {}",
                    all_variables()
                )
            }
            Self::ControlCharacter { .. } => "remove the control character".to_owned(),
            Self::AdjacentVariables { .. } => "put `/` or `-` between the two variables".to_owned(),
            Self::RepeatedVariable { .. } => "name each variable once".to_owned(),
        }
    }
}

fn all_variables() -> String {
    let names: Vec<_> = Variable::ALL
        .iter()
        .map(|variable| format!("`{variable}`"))
        .collect();
    names.join(", ")
}

/// A piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Part {
    /// Text that stands for itself; never empty.
    Literal(String),
    /// `{NAME}`, with the column of its brace.
    Variable(Variable, usize),
}

/// A pattern, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Template {
    pub(super) text: String,
    pub(super) parts: Vec<Part>,
}

impl Template {
    /// Takes a pattern apart; `allow_lines` lets line feeds and tabs through (descriptions).
    pub(super) fn parse(text: &str, allow_lines: bool) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.len() > PATTERN_BYTES_MAX {
            return Err(PatternError::TooLong { bytes: text.len() });
        }
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut name: Option<(usize, String)> = None;
        for (before, character) in text.chars().enumerate() {
            let column = before + 1;
            if character.is_control() && !(allow_lines && matches!(character, '\n' | '\t')) {
                return Err(PatternError::ControlCharacter {
                    code: u32::from(character),
                    column,
                });
            }
            match (&mut name, character) {
                (None, '{') => {
                    if !literal.is_empty() {
                        parts.push(Part::Literal(std::mem::take(&mut literal)));
                    }
                    name = Some((column, String::new()));
                }
                (None, '}') => return Err(PatternError::UnopenedBrace { column }),
                (None, other) => literal.push(other),
                (Some((opened, _)), '{') => {
                    return Err(PatternError::UnclosedBrace { column: *opened });
                }
                (Some((opened, text)), '}') => {
                    let Some(variable) = Variable::from_name(text) else {
                        let names = Variable::ALL.iter().map(|variable| variable.name());
                        let found = nearest(&text.to_ascii_uppercase(), names);
                        return Err(PatternError::UnknownVariable {
                            nearest: found.and_then(Variable::from_name),
                            name: text.chars().take(40).collect(),
                            column: *opened,
                        });
                    };
                    parts.push(Part::Variable(variable, *opened));
                    name = None;
                }
                (Some((_, text)), other) => text.push(other),
            }
        }
        if let Some((column, _)) = name {
            return Err(PatternError::UnclosedBrace { column });
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self {
            text: text.to_owned(),
            parts,
        })
    }

    /// The variables in the order of the text.
    pub(super) fn variables(&self) -> impl Iterator<Item = Variable> + '_ {
        self.parts.iter().filter_map(|part| match part {
            Part::Variable(variable, _) => Some(*variable),
            Part::Literal(_) => None,
        })
    }

    /// The text before the first variable.
    pub(super) fn static_prefix(&self) -> &str {
        match self.parts.first() {
            Some(Part::Literal(literal)) => literal,
            Some(Part::Variable(..)) | None => "",
        }
    }
}
