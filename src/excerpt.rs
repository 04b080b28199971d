//! The place that a finding names, as a line of its file with a caret under it.
//!
//! Owns how much of a long line is shown and how wide its characters count. Refuses to know findings: text,
//! line and column go in.

/// Characters of a line that are shown.
const SHOWN_CHARS_MAX: usize = 100;
/// Characters that are kept before the caret where a line is too long.
const CHARS_BEFORE_CARET: usize = 60;

/// The line (from 1) of `text` and a caret under its column (in characters, from 1); `None` where there is
/// no such line.
///
/// ```
/// let shown = stagedrop::excerpt::excerpt("a: 1\nbranc: x\n", 2, 1, 5).unwrap();
/// assert_eq!(shown, "  |\n2 | branc: x\n  | ^^^^^");
/// ```
pub fn excerpt(text: &str, line: u64, column: u64, width: usize) -> Option<String> {
    let position = usize::try_from(line).ok()?.checked_sub(1)?;
    let content = text.lines().nth(position)?;
    let column = usize::try_from(column).ok()?.saturating_sub(1);
    let from = if column >= SHOWN_CHARS_MAX {
        column.saturating_sub(CHARS_BEFORE_CARET)
    } else {
        0
    };
    let shown: String = content
        .chars()
        .skip(from)
        .take(SHOWN_CHARS_MAX)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    let indent = " ".repeat((column - from).min(SHOWN_CHARS_MAX));
    let room = shown.chars().count().saturating_sub(column - from);
    let caret = "^".repeat(width.min(room).max(1));
    Some(format!(
        "{margin} |\n{number} | {}\n{margin} | {indent}{caret}",
        shown.trim_end()
    ))
}

/// Characters of the word that begins there: what a caret goes under.
pub fn word_width(text: &str, line: u64, column: u64) -> usize {
    let find = || {
        let content = text
            .lines()
            .nth(usize::try_from(line).ok()?.checked_sub(1)?)?;
        let start = usize::try_from(column).ok()?.saturating_sub(1);
        let word = content.chars().skip(start);
        Some(
            word.take_while(|c| !c.is_whitespace() && !",:]}".contains(*c))
                .count(),
        )
    };
    find().unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ok_the_caret_stands_under_the_column() {
        assert_eq!(
            excerpt("x\n  bránc: y", 2, 3, word_width("x\n  bránc: y", 2, 3)).unwrap(),
            "  |\n2 |   bránc: y\n  |   ^^^^^"
        );
    }

    #[test]
    fn ok_a_tab_is_one_column_wide() {
        assert_eq!(
            excerpt("\tkey: x", 1, 2, 3).unwrap(),
            "  |\n1 |  key: x\n  |  ^^^"
        );
    }

    #[test]
    fn ok_a_long_line_is_cut_around_the_place() {
        let line = format!("{}here{}", "a".repeat(5_000), "b".repeat(5_000));
        let shown = excerpt(&line, 1, 5_001, 4).unwrap();
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(lines[1].chars().count(), 4 + SHOWN_CHARS_MAX);
        let caret = lines[2].find('^').unwrap();
        assert!(lines[1][caret..].starts_with("here"), "{shown}");
    }

    #[test]
    fn ok_the_end_of_a_line_has_a_caret_too() {
        assert_eq!(excerpt("ab", 1, 3, 9).unwrap(), "  |\n1 | ab\n  |   ^");
    }

    #[test]
    fn err_no_such_line() {
        assert_eq!(excerpt("ab", 2, 1, 1), None);
        assert_eq!(excerpt("ab", 0, 1, 1), None);
    }
}
