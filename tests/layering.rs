//! Who may use whom, as a table over the rooms of `src/`.

use std::path::{Path, PathBuf};

/// Rooms of values: no tokio, clock, environment, random numbers or SDK, and no room of effects.
const PURE: [&str; 26] = [
    "appspec",
    "archive",
    "bundle_check",
    "ci_environment",
    "configuration",
    "contents",
    "decision",
    "destination",
    "excerpt",
    "finding",
    "following",
    "intake",
    "key_pattern",
    "metrics",
    "object",
    "overview",
    "packing",
    "policy",
    "records/deployment",
    "records/drop",
    "records/group",
    "records/queue",
    "redeployment",
    "settings",
    "splice",
    "transcode",
];
/// What rooms of values may not name.
const EFFECTS: [&str; 9] = [
    "tokio",
    "std::env",
    "std::time::SystemTime",
    "std::time::Instant",
    "Timestamp::now",
    "rand::",
    "aws_sdk_",
    "lambda_runtime",
    "std::fs",
];
/// Further arrows that must not be: the room, and what it may not use.
const FORBIDDEN: [(&str, &[&str]); 12] = [
    (
        "archive",
        &[
            "crate::contents",
            "crate::splice",
            "crate::appspec",
            "crate::bundle_check",
            "crate::settings",
        ],
    ),
    ("object", &["crate::"]),
    (
        "key_pattern",
        &["crate::settings", "crate::archive", "crate::records"],
    ),
    (
        "settings",
        &[
            "crate::archive",
            "crate::records",
            "crate::deploy::",
            "crate::contents",
        ],
    ),
    (
        "appspec",
        &[
            "crate::archive",
            "crate::contents",
            "crate::bundle_check",
            "crate::settings",
        ],
    ),
    (
        "contents",
        &[
            "crate::appspec",
            "crate::bundle_check",
            "crate::splice",
            "crate::settings",
        ],
    ),
    (
        "bundle_check",
        &[
            "crate::settings",
            "crate::splice",
            "crate::revision",
            "crate::records",
        ],
    ),
    (
        "splice",
        &[
            "crate::settings",
            "crate::revision",
            "crate::records",
            "crate::appspec",
        ],
    ),
    (
        "records",
        &[
            "crate::deploy::",
            "crate::record::",
            "crate::advance",
            "crate::aws",
            "crate::artifact",
        ],
    ),
    (
        "aws",
        &[
            "crate::deploy::",
            "crate::record::",
            "crate::advance",
            "crate::settings",
        ],
    ),
    (
        "advance",
        &[
            "crate::aws",
            "crate::deploy::",
            "crate::record::",
            "crate::settings",
        ],
    ),
    ("record", &["crate::aws", "crate::deploy::"]),
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// The room of a file: its path without `src/` and `.rs`.
fn room(path: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    path.strip_prefix(root)
        .unwrap()
        .with_extension("")
        .to_str()
        .unwrap()
        .to_owned()
}

fn is_in(room: &str, of: &str) -> bool {
    room == of || room.starts_with(&format!("{of}/"))
}

/// The lines of code, without comments and without the tests at a file's end.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .map(|(number, line)| (number + 1, line.split("//").next().unwrap_or_default()))
}

#[test]
fn arrows_go_one_way() {
    let mut offences = Vec::new();
    for path in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let room = room(&path);
        if room.ends_with("tests")
            || room.ends_with("testing")
            || room.ends_with("samples")
            || room.ends_with("reference")
        {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for (number, line) in code(&text) {
            let mut offence = |what: &str| {
                offences.push(format!("src/{room}.rs:{number}: {what}: {}", line.trim()))
            };
            if PURE.iter().any(|pure| is_in(&room, pure)) {
                for effect in EFFECTS.iter().filter(|effect| line.contains(**effect)) {
                    offence(&format!("a room of values names {effect}"));
                }
            }
            if line.contains("aws_sdk_") && !is_in(&room, "aws") {
                offence("only aws/ may name the SDK");
            }
            if line.contains("crate::local") && !is_in(&room, "local") {
                offence("nothing but main and tests uses the embedded AWS");
            }
            for (of, forbidden) in FORBIDDEN.iter().filter(|(of, _)| is_in(&room, of)) {
                for other in forbidden.iter().filter(|other| line.contains(**other)) {
                    let own = format!("crate::{}", of.replace('/', "::"));
                    if *other != "crate::" || !line.contains(&own) {
                        offence(&format!("{of} may not use {other}"));
                    }
                }
            }
        }
    }
    // The object room's macro names its own error by path.
    offences.retain(|offence| !offence.contains("$crate::object::"));
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

#[test]
fn no_file_holds_two_concepts() {
    const LINES_MAX: usize = 600;
    let mut long = Vec::new();
    for path in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let room = room(&path);
        let lines = code(&std::fs::read_to_string(&path).unwrap()).count();
        if lines > LINES_MAX && !room.ends_with("tests") {
            long.push(format!("src/{room}.rs has {lines} lines without its tests"));
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}
