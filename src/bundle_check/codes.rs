//! Every code that a finding about an archive or a bundle can carry: one row each.
//!
//! Owns the general cause and cure of each code, from which the documentation's table is written. A
//! finding itself says more: which entry, which line, what was found.

use crate::finding::{Finding, Severity};

mod appspec;
mod archive;

/// What a code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// The stable word.
    pub code: &'static str,
    /// Whether the drop stops.
    pub severity: Severity,
    /// Why the bundle cannot, or should not, be deployed as it is.
    pub cause: &'static str,
    /// What to do.
    pub cure: &'static str,
}

const fn refuse(code: &'static str, cause: &'static str, cure: &'static str) -> Code {
    Code {
        code,
        severity: Severity::Refuse,
        cause,
        cure,
    }
}

const fn warn(code: &'static str, cause: &'static str, cure: &'static str) -> Code {
    Code {
        code,
        severity: Severity::Warn,
        cause,
        cure,
    }
}

/// All rows: about the archive, then about the AppSpec.
pub fn all() -> impl Iterator<Item = &'static Code> {
    archive::ROWS.iter().chain(appspec::ROWS)
}

/// The row of a code.
pub fn find(code: &str) -> Option<&'static Code> {
    all().find(|row| row.code == code)
}

/// A refusal for what an archive's reader met: `code` and `message` are the reader's, the cure is the
/// table's.
pub fn archive_refusal(code: &str, message: impl Into<String>) -> Finding {
    let cure = find(code).map_or("archive and upload again", |row| row.cure);
    Finding::refuse(code, message, cure)
}

/// The table of the documentation, in Markdown.
pub fn markdown() -> String {
    let mut table = String::from("| code | | what is wrong | what to do |\n|---|---|---|---|\n");
    for row in all() {
        let severity = match row.severity {
            Severity::Refuse => "refused",
            Severity::Warn => "warned",
        };
        let cell = |text: &str| text.replace('|', "\\|");
        table.push_str(&format!(
            "| `{}` | {severity} | {} | {} |\n",
            row.code,
            cell(row.cause),
            cell(row.cure)
        ));
    }
    table
}
