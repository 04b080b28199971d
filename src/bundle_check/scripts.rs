//! Hook scripts: there, a file, startable.
//!
//! Owns the agent's rules of `hook_executor.rb` and `linux_util.rb`: the location is joined to the
//! bundle's folder and handed to a shell as it is.

use std::collections::BTreeSet;

use super::Near;
use super::bundle::{Bundle, Found, Known};
use super::install::{as_followed, below_root};
use super::report::Findings;
use crate::appspec::{OperatingSystem, Script, Server};
use crate::contents::shown;
use crate::finding::Finding;

/// Events whose scripts come from the last successful revision: this one's run at the next deployment.
const LATER_EVENTS: [&str; 3] = ["ApplicationStop", "BeforeBlockTraffic", "AfterBlockTraffic"];

/// Events for which the agent runs no scripts.
const NEVER_RUN_EVENTS: [&str; 2] = ["Install", "DownloadBundle"];

/// Scripts whose content is looked at; more than anybody has.
const SCRIPTS_READ_MAX: usize = 256;

/// White space at which a command line is cut into words.
pub(super) const WORD_ENDS: &str = " \t\n";

/// Other characters that end or change a shell's word.
pub(super) const SHELL_CHARACTERS: &str = "&|;<>()$`\\\"'";

/// Checks all hook scripts against the bundle.
pub(super) fn check_scripts(
    bundle: &Bundle<'_>,
    server: &Server,
    known: &Known,
    near: &mut Near,
    findings: &mut Findings<'_>,
) {
    for hook in &server.hooks {
        if NEVER_RUN_EVENTS.contains(&hook.event.as_str()) {
            continue;
        }
        for script in &hook.scripts {
            for finding in check_script(bundle, script, server.os, known, near) {
                let finding = if LATER_EVENTS.contains(&hook.event.as_str()) {
                    later(finding, &hook.event)
                } else {
                    finding
                };
                findings.at(script.place, finding);
            }
            if server.os == OperatingSystem::Windows && script.runas.is_some() {
                findings.at(script.place, runas_ignored());
            }
        }
    }
}

/// The entries whose first bytes the check would like to have: scripts, and links on the way to them.
pub(super) fn wanted(bundle: &Bundle<'_>, server: &Server, known: &Known) -> Vec<u32> {
    let mut wanted = BTreeSet::new();
    for script in server.hooks.iter().flat_map(|hook| &hook.scripts) {
        let Some(path) = below_root(&script.location, server.os) else {
            continue;
        };
        let followed = as_followed(&script.location, &path, server.os);
        if let Found::File(index) | Found::Unread(index) = bundle.find(followed, known)
            && !known.contains_key(&index)
            && wanted.len() < SCRIPTS_READ_MAX
        {
            wanted.insert(index);
        }
    }
    wanted.into_iter().collect()
}

/// A fault of a script that the next deployment runs breaks that one, not this.
fn later(finding: Finding, event: &str) -> Finding {
    if !finding.refuses() {
        return finding;
    }
    Finding::warn(
        "hook-script-breaks-next-deployment",
        format!(
            "{}; {event} runs this revision's script when the next one is deployed",
            finding.message
        ),
        finding.cure,
    )
}

fn runas_ignored() -> Finding {
    Finding::warn(
        "hook-runas-on-windows",
        "`runas` has no effect on Windows: scripts run as the agent's user",
        "take it out",
    )
}

fn check_script(
    bundle: &Bundle<'_>,
    script: &Script,
    os: OperatingSystem,
    known: &Known,
    near: &mut Near,
) -> Vec<Finding> {
    let location = shown(script.location.as_bytes());
    let Some(path) = below_root(&script.location, os) else {
        return vec![Finding::refuse(
            "hook-script-outside",
            format!("script `{location}` leads out of the bundle"),
            "put the script into the artifact and name its path there",
        )];
    };
    let mut missing = || vec![script_missing(bundle, script, &path, &location, near)];
    match bundle.find(as_followed(&script.location, &path, os), known) {
        Found::Missing => missing(),
        Found::Directory => vec![Finding::refuse(
            "hook-script-is-directory",
            format!("script `{location}` is a directory, expected a file"),
            "name the script inside it",
        )],
        Found::Special => vec![Finding::refuse(
            "hook-script-missing",
            format!("script `{location}` is no regular file"),
            "put a script there",
        )],
        Found::Outside | Found::Unread(_) => Vec::new(),
        Found::File(index) => {
            let mut findings = Vec::new();
            findings.extend(shell_fault(&script.location, &location, os));
            if let Some(bytes) = known.get(&index).filter(|_| os == OperatingSystem::Linux) {
                findings.extend(text_fault(bytes, &location));
            }
            findings
        }
    }
}

fn script_missing(
    bundle: &Bundle<'_>,
    script: &Script,
    path: &str,
    location: &str,
    near: &mut Near,
) -> Finding {
    let first_word = script
        .location
        .split_ascii_whitespace()
        .next()
        .unwrap_or_default();
    let cure = if first_word != script.location
        && bundle.is_directory(first_word.as_bytes()) == Some(false)
    {
        format!(
            "write `{}` alone: scripts get no arguments",
            shown(first_word.as_bytes())
        )
    } else if let Some(cure) = near.cure(bundle, path.as_bytes()) {
        cure
    } else {
        "correct the path (it is below the bundle's root), or put the script into the artifact; see \
         whether `application_root` or `exclude` leaves it out"
            .to_owned()
    };
    Finding::refuse(
        "hook-script-missing",
        format!("script `{location}` is not in the bundle"),
        cure,
    )
}

fn shell_fault(location: &str, shown: &str, os: OperatingSystem) -> Option<Finding> {
    let bad = location.chars().find(|char| {
        WORD_ENDS.contains(*char)
            || (os == OperatingSystem::Linux && SHELL_CHARACTERS.contains(*char))
    })?;
    Some(Finding::refuse(
        "hook-script-name-unsafe",
        format!(
            "script `{shown}` has {} in its path, which the agent hands to a shell as it is",
            if WORD_ENDS.contains(bad) {
                "white space".to_owned()
            } else {
                format!("`{bad}`")
            }
        ),
        "rename the script to letters, digits, `.`, `_` and `-`",
    ))
}

/// What keeps a script from being started, or from running as written, on Linux.
fn text_fault(bytes: &[u8], location: &str) -> Option<Finding> {
    let first_line = bytes
        .split(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default();
    if bytes.starts_with(b"\xef\xbb\xbf#!") {
        return Some(Finding::warn(
            "hook-script-bom",
            format!("script `{location}` starts with a byte order mark: its `#!` line is not seen"),
            "save it as UTF-8 without byte order mark (BOM)",
        ));
    }
    if first_line.starts_with(b"#!") && first_line.ends_with(b"\r") {
        return Some(Finding::refuse(
            "hook-script-crlf",
            format!(
                "script `{location}` has Windows line ends: no interpreter `{}` is found",
                shown(first_line.get(2..).unwrap_or_default())
            ),
            "convert it to LF line ends, and keep them with `*.sh text eol=lf` in .gitattributes",
        ));
    }
    let is_binary = bytes.contains(&0);
    let has_crlf = bytes.windows(2).any(|pair| pair == b"\r\n");
    (!is_binary && has_crlf).then(|| {
        Finding::warn(
            "hook-script-crlf-lines",
            format!(
                "script `{location}` has lines with Windows line ends, which shells take for text"
            ),
            "convert it to LF line ends, and keep them with `*.sh text eol=lf` in .gitattributes",
        )
    })
}
