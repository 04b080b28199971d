//! Every code of a finding: in the table, in a test, in the documentation.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use stagedrop::finding::{Severity, codes};

/// Words with hyphens in the sources that are no codes.
const OTHER_WORDS: [&str; 18] = [
    "build-num",
    "build-url",
    "deployment-group",
    "detail-type",
    "foreign-event",
    "given-back",
    "instance-state-change",
    "no-records",
    "other-object-event",
    "staged-object",
    "stagedrop-fingerprint",
    "stagedrop-source",
    "test-event",
    "too-many-envelopes",
    "too-many-records",
    "unreadable-event",
    "us-east-1",
    "version-id",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where the documentation of all codes is.
fn documentation() -> PathBuf {
    root().join("src/finding/codes.md")
}

/// All files below a folder that end so.
fn files_below(folder: &Path, suffix: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, suffix, found);
        } else if path
            .extension()
            .is_some_and(|extension| extension == suffix)
        {
            found.push(path);
        }
    }
}

/// Words that look like codes, as whole words.
fn words_of(source: &str) -> impl Iterator<Item = &str> {
    source
        .split(|char: char| !(char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-'))
        .filter(|word| word.contains('-') || *word == "internal")
}

/// Words in quotes that look like codes.
fn quoted_words(source: &str) -> impl Iterator<Item = &str> {
    let is_part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    source.split('"').filter(move |word| {
        (word.contains('-') || *word == "internal")
            && word.split('-').all(is_part)
            && !word.starts_with("x-amz-")
    })
}

/// Words of the production code with their files, and words of the tests.
fn words() -> (BTreeMap<String, PathBuf>, BTreeSet<String>) {
    let mut files = Vec::new();
    files_below(&root().join("src"), "rs", &mut files);
    let mut given = BTreeMap::new();
    let mut tested = BTreeSet::new();
    for file in files {
        let name = file.strip_prefix(root()).unwrap().to_str().unwrap();
        // The table itself, and what is no part of a drop's way.
        if [
            "src/decision",
            "src/finding/",
            "src/local",
            "src/cli",
            "src/main",
            "src/aws",
            "src/policy",
            "src/explain",
            "src/journal",
            "src/metrics",
            "src/splice/reference",
        ]
        .iter()
        .any(|skipped| name.starts_with(skipped))
        {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let (code, tests) = match text.split_once("#[cfg(test)]\nmod tests {") {
            _ if name.ends_with("tests.rs") => ("", text.as_str()),
            Some(parts) => parts,
            None => (text.as_str(), ""),
        };
        tested.extend(words_of(tests).map(str::to_owned));
        let code: String = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .flat_map(|line| [line, "\n"])
            .collect();
        for word in quoted_words(&code) {
            given.insert(word.to_owned(), file.clone());
        }
    }
    let mut files = Vec::new();
    files_below(&root().join("tests"), "rs", &mut files);
    files_below(&root().join("tests/transcripts"), "txt", &mut files);
    for file in files.iter().filter(|file| !file.ends_with("codes.rs")) {
        let text = std::fs::read_to_string(file).unwrap();
        tested.extend(words_of(&text).map(str::to_owned));
    }
    (given, tested)
}

/// Codes that are put together from an attribute's name.
fn is_attribute(code: &str) -> bool {
    code.starts_with("build-") && code.ends_with("-invalid")
}

#[test]
fn every_code_that_is_given_has_a_row_and_a_test() {
    let (given, tested) = words();
    let rows: BTreeSet<&str> = codes::all().map(|row| row.code).collect();
    for (word, file) in &given {
        assert!(
            rows.contains(word.as_str()) || OTHER_WORDS.contains(&word.as_str()),
            "`{word}` of {} has no row",
            file.display()
        );
    }
    let untested: Vec<_> = rows
        .iter()
        .filter(|code| !tested.contains(**code))
        .collect();
    assert!(untested.is_empty(), "no test has {untested:?}");
    for code in rows {
        assert!(
            given.contains_key(code) || is_attribute(code),
            "`{code}` is never given"
        );
    }
}

#[test]
fn the_documentation_has_the_table() {
    let text = std::fs::read_to_string(documentation()).unwrap_or_default();
    let (before, _) = text
        .split_once("<!-- codes -->\n")
        .unwrap_or((text.as_str(), ""));
    let expected = format!("{before}<!-- codes -->\n{}", codes::markdown());
    if text != expected {
        if std::env::var_os("STAGEDROP_WRITE_DOCS").is_some() {
            std::fs::write(documentation(), expected).unwrap();
            return;
        }
        panic!(
            "src/finding/codes.md is behind the table: run this test with STAGEDROP_WRITE_DOCS=1"
        );
    }
}

/// The hand-written table's rows: cells without the outer bars.
fn rules(text: &str) -> Vec<Vec<&str>> {
    text.lines()
        .skip_while(|line| !line.starts_with("| in the artifact |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells = line.trim_matches('|').split(" | ");
            cells.map(|cell| cell.trim_matches([' ', '|'])).collect()
        })
        .collect()
}

/// Whether a rule's text speaks of a severity.
fn says(rule: &str, severity: Severity) -> bool {
    match severity {
        Severity::Refuse => rule.contains("refuses"),
        Severity::Warn => rule.contains("warns"),
    }
}

#[test]
fn the_rules_in_the_documentation_agree_with_the_table() {
    let text = std::fs::read_to_string(documentation()).unwrap();
    let rules = rules(&text);
    assert!(rules.len() > 30, "{} rules", rules.len());
    for rule in &rules {
        let [artifact, _, stagedrop, named] = rule.as_slice() else {
            panic!("expected four cells: {rule:?}");
        };
        let named: Vec<&str> = named
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|name| !name.is_empty())
            .collect();
        for severity in [Severity::Refuse, Severity::Warn] {
            let is_said = says(stagedrop, severity);
            assert!(
                !is_said || !named.is_empty(),
                "`{artifact}`: {severity:?} without a code"
            );
        }
        for name in named {
            let of_group = name.strip_suffix('…');
            let meant: Vec<_> = codes::all()
                .filter(|row| match of_group {
                    Some(group) => row.code.starts_with(group),
                    None => row.code == name,
                })
                .collect();
            assert!(!meant.is_empty(), "`{artifact}`: no code is `{name}`");
            let fits = meant.iter().any(|row| says(stagedrop, row.severity));
            assert!(
                fits,
                "`{artifact}`: stagedrop {stagedrop}, the table says otherwise of `{name}`"
            );
        }
    }
}
