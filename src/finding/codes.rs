//! Every code that a finding can carry: one row each.
//!
//! Owns the general cause and cure of each code, from which the documentation's table is written. A
//! finding itself says more: which entry, which line, what was found.

use crate::finding::{Finding, Severity};

mod appspec;
mod archive;
mod deployment;

/// All rows by what they are about.
const GROUPS: [(&str, &[Code]); 5] = [
    ("Upload and build", deployment::BUILD),
    ("Settings", deployment::SETTINGS),
    ("Archive and entries", archive::ROWS),
    ("AppSpec and bundle", appspec::ROWS),
    ("Revision and deployment", deployment::DEPLOYMENT),
];

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

/// All rows.
pub fn all() -> impl Iterator<Item = &'static Code> {
    GROUPS.iter().flat_map(|(_, rows)| *rows)
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

/// The table of the documentation, in Markdown: a line for each thing that can be wrong.
pub fn markdown() -> String {
    let mut table = String::new();
    for (about, rows) in GROUPS {
        table.push_str(&format!(
            "**{about}**\n\n| code | | what is wrong | what to do |\n|---|---|---|---|\n"
        ));
        for row in rows {
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
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ok_each_code_has_one_row() {
        let mut seen = std::collections::BTreeSet::new();
        for row in all() {
            assert!(seen.insert(row.code), "{} has two rows", row.code);
            for text in [row.cause, row.cure] {
                assert!(!text.is_empty() && !text.ends_with('.'), "{}", row.code);
            }
        }
    }

    #[test]
    fn ok_a_readers_words_get_the_tables_cure() {
        let finding = archive_refusal("entry-crc-mismatch", "entry `x` has CRC-32 1");
        assert!(finding.refuses());
        let row = find("entry-crc-mismatch").unwrap();
        assert_eq!(finding.cure, row.cure);
        assert!(find("no-such-code").is_none());
    }

    #[test]
    fn ok_the_table_has_four_cells_a_row() {
        let table = markdown();
        let rows = table.lines().filter(|line| line.starts_with("| `"));
        assert_eq!(rows.clone().count(), all().count());
        for row in rows {
            assert_eq!(row.replace("\\|", "").matches('|').count(), 5, "{row}");
        }
    }
}
