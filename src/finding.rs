//! What is wrong with a drop, in words that a person can act on.
//!
//! One [`Finding`] type for every reason to refuse or to warn: settings, key patterns, archives,
//! the bundle check. Findings stand in the drop's record and in the command line's reports.

pub mod codes;

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whether a finding stops the drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It would deploy, but bite.
    Warn,
    /// Nothing is registered.
    Refuse,
}

/// One thing that is wrong, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable word for programs: `appspec-missing`, `hook-script-missing`, …
    pub code: String,
    /// Refuse or warn.
    pub severity: Severity,
    /// The file in the artifact, or the settings object's URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Line, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Column in characters, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u64>,
    /// What is wrong: object first, then expected against found; lower case, no full stop.
    pub message: String,
    /// What to do about it.
    pub cure: String,
}

impl Finding {
    /// A finding that stops the drop.
    pub fn refuse(code: &str, message: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            severity: Severity::Refuse,
            path: None,
            line: None,
            column: None,
            message: message.into(),
            cure: cure.into(),
        }
    }

    /// A finding that is only recorded.
    pub fn warn(code: &str, message: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warn,
            ..Self::refuse(code, message, cure)
        }
    }

    /// The same, in this file.
    #[must_use]
    pub fn in_file(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// The same, at this line and column (both from 1).
    #[must_use]
    pub fn at(mut self, line: u64, column: u64) -> Self {
        self.line = Some(line);
        self.column = Some(column);
        self
    }

    /// Whether it stops the drop.
    pub fn refuses(&self) -> bool {
        self.severity == Severity::Refuse
    }
}

impl fmt::Display for Finding {
    /// `path:line:column: message [code]; cure`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            write!(f, "{path}:")?;
            if let Some(line) = self.line {
                write!(f, "{line}:")?;
                if let Some(column) = self.column {
                    write!(f, "{column}:")?;
                }
            }
            write!(f, " ")?;
        }
        write!(f, "{} [{}]; {}", self.message, self.code, self.cure)
    }
}
