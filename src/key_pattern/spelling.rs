//! Which known word a misspelt one was probably meant to be.

/// Words longer than this are not compared: nobody means a key by them.
const WORD_CHARS_MAX: usize = 64;

/// The candidate nearest to `word`, the first of equals: within one edit for up to four characters,
/// two for up to ten, three for longer words.
pub(crate) fn nearest<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let length = word.chars().count();
    if length == 0 || length > WORD_CHARS_MAX {
        return None;
    }
    let edits_max = match length {
        ..=4 => 1,
        5..=10 => 2,
        _ => 3,
    };
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(edits, _)| *edits <= edits_max)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Edits (insert, delete, replace, swap neighbours) between two words; `-` and `_` are the same.
fn distance(left: &str, right: &str) -> usize {
    let plain = |word: &str| -> Vec<char> {
        word.chars()
            .map(|c| {
                if c == '-' {
                    '_'
                } else {
                    c.to_ascii_lowercase()
                }
            })
            .collect()
    };
    let (left, right) = (plain(left), plain(right));
    // Three rows of the usual table: two before, one before, this one.
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    let mut left_before = None;
    for (row, left_char) in left.iter().enumerate() {
        let mut current = Vec::with_capacity(above.len());
        current.push(row + 1);
        let mut right_before = None;
        for (column, right_char) in right.iter().enumerate() {
            let at =
                |cells: &[usize], index: usize| cells.get(index).copied().unwrap_or(usize::MAX - 1);
            let replaced = at(&above, column) + usize::from(left_char != right_char);
            let mut least = replaced
                .min(at(&above, column + 1) + 1)
                .min(at(&current, column) + 1);
            if left_before == Some(right_char) && right_before == Some(left_char) {
                least = least.min(at(&before, column.wrapping_sub(1)).saturating_add(1));
            }
            current.push(least);
            right_before = Some(right_char);
        }
        before = above;
        above = current;
        left_before = Some(left_char);
    }
    above.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ok_small_slips_are_recognised() {
        let keys = [
            "branch",
            "tag",
            "owner",
            "codedeploy",
            "deployment_group",
            "region",
        ];
        for (word, meant) in [
            ("brnach", "branch"),
            ("branches", "branch"),
            ("Branch", "branch"),
            ("tags", "tag"),
            ("code_deploy", "codedeploy"),
            ("deployment-group", "deployment_group"),
            ("deploymentgroup", "deployment_group"),
            ("regoin", "region"),
        ] {
            assert_eq!(nearest(word, keys), Some(meant), "{word}");
        }
    }

    #[test]
    fn ok_foreign_words_are_nobody() {
        for word in ["", "heroku", "x", "commands", &"branch".repeat(20)] {
            assert_eq!(nearest(word, ["branch", "tag", "owner"]), None, "{word}");
        }
    }

    #[test]
    fn ok_distances() {
        for (left, right, edits) in [
            ("", "", 0),
            ("a", "", 1),
            ("abc", "acb", 1),
            ("kitten", "sitting", 3),
            ("ca", "abc", 3),
        ] {
            assert_eq!(distance(left, right), edits, "{left} {right}");
            assert_eq!(distance(right, left), edits, "{right} {left}");
        }
    }
}
