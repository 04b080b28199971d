//! Branch and tag patterns: a name, a list of names, or `/regular expressions/`.
//!
//! Owns whole-name matching and its bound: expressions may look around (CircleCI's own examples
//! do), so they may backtrack, and one that backtracks too long is an error with its text.

use std::fmt;

use fancy_regex::{Expr, Regex, RegexBuilder};

/// Longest expression in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 512;

/// Steps back that one match may take: a few milliseconds.
pub const BACKTRACK_STEPS_MAX: usize = 50_000;

/// Size of one compiled expression in bytes: `\w{20}` fits, `\w{1000}{1000}` is refused at reading.
const COMPILED_BYTES_MAX: usize = 1024 * 1024;

/// Instructions of one compiled expression outside the plain engine.
const INSTRUCTIONS_MAX: usize = 10_000;

/// What a branch or a tag has to be called; never empty.
#[derive(Debug, Clone)]
pub struct NamePattern {
    alternatives: Vec<Alternative>,
}

/// One name or expression.
#[derive(Debug, Clone)]
pub enum Alternative {
    /// The name itself.
    Name(String),
    /// An expression that the whole name matches.
    Expression {
        /// The text between the slashes.
        text: String,
        /// Its compiled form, bound to the whole name.
        compiled: Box<Regex>,
    },
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NamePatternError {
    /// An empty text.
    #[error("name is empty")]
    Empty,
    /// A control character, which no branch or tag has (a block scalar's line feed, mostly).
    #[error("name holds a control character")]
    ControlCharacter,
    /// `/…` without the closing slash: no branch begins with a slash.
    #[error("regular expression `{text}` has no closing slash")]
    Unclosed {
        /// The text as written.
        text: String,
    },
    /// Longer than [`EXPRESSION_BYTES_MAX`].
    #[error("regular expression has {bytes} bytes, at most {EXPRESSION_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not an expression, or one whose compiled form would be too large.
    #[error("regular expression `/{text}/` is not valid: {reason}")]
    Invalid {
        /// The text between the slashes.
        text: String,
        /// The engine's words.
        reason: String,
    },
}

/// An expression that was given up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "regular expression `/{text}/` was given up on `{name}` after {BACKTRACK_STEPS_MAX} steps back"
)]
pub struct TooHard {
    /// The text between the slashes.
    pub text: String,
    /// The name that it was tried on, cut to a readable length.
    pub name: String,
}

impl Alternative {
    /// Reads one name or `/expression/`.
    ///
    /// # Errors
    /// See [`NamePatternError`].
    pub fn parse(text: &str) -> Result<Self, NamePatternError> {
        if matches!(text, "" | "/") {
            return Err(NamePatternError::Empty);
        }
        if text.chars().any(char::is_control) {
            return Err(NamePatternError::ControlCharacter);
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Ok(Self::Name(text.to_owned()));
        };
        let Some(expression) = rest.strip_suffix('/') else {
            return Err(NamePatternError::Unclosed {
                text: text.chars().take(80).collect(),
            });
        };
        if expression.is_empty() {
            return Err(NamePatternError::Empty);
        }
        if expression.len() > EXPRESSION_BYTES_MAX {
            return Err(NamePatternError::TooLong {
                bytes: expression.len(),
            });
        }
        // On its own first: `a)|(b` would otherwise close the group that binds it to the whole name.
        Expr::parse_tree(expression).map_err(|error| invalid(expression, &error))?;
        let compiled = compile(expression)?;
        Ok(Self::Expression {
            text: expression.to_owned(),
            compiled: Box::new(compiled),
        })
    }

    fn matches(&self, name: &str) -> Result<bool, TooHard> {
        match self {
            Self::Name(own) => Ok(own == name),
            Self::Expression { text, compiled } => compiled.is_match(name).map_err(|_| TooHard {
                text: text.clone(),
                name: name.chars().take(80).collect(),
            }),
        }
    }
}

fn compile(expression: &str) -> Result<Regex, NamePatternError> {
    RegexBuilder::new(&format!(r"\A(?:{expression})\z"))
        .backtrack_limit(BACKTRACK_STEPS_MAX)
        .delegate_size_limit(COMPILED_BYTES_MAX)
        .delegate_dfa_size_limit(COMPILED_BYTES_MAX)
        .max_prog_size(INSTRUCTIONS_MAX)
        .build()
        .map_err(|error| invalid(expression, &error))
}

fn invalid(expression: &str, error: &fancy_regex::Error) -> NamePatternError {
    let reason = match error {
        fancy_regex::Error::ParseError(position, error) => format!("{error} at byte {position}"),
        // The engine's words for every limit on size.
        fancy_regex::Error::CompileError(error) => format!("{error}; it may be too large"),
        other => other.to_string(),
    };
    NamePatternError::Invalid {
        text: expression.to_owned(),
        reason: reason.lines().map(str::trim).collect::<Vec<_>>().join(" "),
    }
}

impl NamePattern {
    /// A pattern of these alternatives; `None` for none.
    pub fn new(alternatives: Vec<Alternative>) -> Option<Self> {
        if alternatives.is_empty() {
            None
        } else {
            Some(Self { alternatives })
        }
    }

    /// Whether one of the alternatives is the whole name or matches all of it.
    ///
    /// # Errors
    /// [`TooHard`] where an expression backtracks beyond the limit before one matches.
    pub fn matches(&self, name: &str) -> Result<bool, TooHard> {
        for alternative in &self.alternatives {
            if alternative.matches(name)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, alternative) in self.alternatives.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            match alternative {
                Alternative::Name(name) => f.write_str(name)?,
                Alternative::Expression { text, .. } => write!(f, "/{text}/")?,
            }
        }
        Ok(())
    }
}
