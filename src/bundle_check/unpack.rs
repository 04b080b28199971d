//! Entries that the agent's unpackers refuse, get wrong, or should have refused.
//!
//! Owns what can be told from an entry's header alone, and links. One finding for each kind of fault,
//! with the first entry and how many more.

use std::collections::BTreeMap;

use super::bundle::{Bundle, Conflict, Found, Known, parent_of};
use super::report::Findings;
use crate::archive::{Compression, Entry, EntryKind};
use crate::contents::{SET_ID_BITS, shown};
use crate::finding::Finding;

/// Bytes of a symbolic link's target: Linux's `PATH_MAX` without its NUL.
const LINK_TARGET_BYTES_MAX: u64 = 4_095;

/// Links that are followed for a warning.
const LINKS_JUDGED_MAX: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Encrypted,
    Method,
    Special,
    DirectoryWithContent,
    HardLinkOutside,
    LinkTarget,
    ThroughLink,
    BelowFile,
    TwoKinds,
    LinkCircles,
    Repeated,
    SetId,
    LinkOutside,
    LinkToDirectory,
    LinkCircle,
}

#[derive(Debug)]
struct Tally {
    first: String,
    detail: String,
    count: usize,
}

/// Checks every kept entry; `installed` tells whether a bundle path lies in a folder that `files`
/// copies, where links to directories are followed.
pub(super) fn check_entries(
    bundle: &Bundle<'_>,
    known: &Known,
    installed: impl Fn(&[u8]) -> bool,
    findings: &mut Findings<'_>,
) {
    if !bundle.is_whole() {
        findings.add(Finding::refuse(
            "archive-too-many-entries",
            "the archive's folders are nested too deep and too often to be judged",
            "ship fewer and flatter folders",
        ));
    }
    let mut links_left = LINKS_JUDGED_MAX;
    let mut tallies: BTreeMap<Fault, Tally> = BTreeMap::new();
    let mut add = |fault: Fault, path: &[u8], detail: String| {
        let tally = tallies.entry(fault).or_insert_with(|| Tally {
            first: shown(path),
            detail,
            count: 0,
        });
        tally.count = tally.count.saturating_add(1);
    };
    for position in bundle.peculiar().iter().copied() {
        let kept = bundle.contents().entries.get(position as usize);
        let entry = kept.and_then(|kept| bundle.entries().entry(kept.index));
        let (Some(kept), Some(entry)) = (kept, entry) else {
            continue;
        };
        let path = kept.name(&entry);
        check_header(&entry, path, &mut add);
        let is_link = match entry.kind {
            EntryKind::HardLink => {
                let target = entry.link_target.unwrap_or_default();
                let linked = bundle.hard_link_target(target);
                let is_outside = linked.is_none_or(|linked| linked >= position);
                if is_outside {
                    add(Fault::HardLinkOutside, path, shown(target));
                }
                !is_outside && bundle.makes_link(position, path)
            }
            EntryKind::Symlink => true,
            EntryKind::File | EntryKind::Directory | EntryKind::Special => false,
        };
        if is_link {
            let is_installed = links_left > 0 && installed(path);
            links_left = links_left.saturating_sub(usize::from(is_installed));
            let target = bundle.link_target(position, known);
            check_link(
                bundle,
                path,
                &entry,
                target.as_deref(),
                known,
                is_installed,
                &mut add,
            );
        }
    }
    for (conflict, path) in bundle.conflicts() {
        let fault = match conflict {
            Conflict::ThroughLink => Fault::ThroughLink,
            Conflict::BelowFile => Fault::BelowFile,
            Conflict::TwoKinds => Fault::TwoKinds,
            Conflict::Repeated => Fault::Repeated,
        };
        add(fault, path, String::new());
    }
    // One circle ends after forty levels; two of them never end in anybody's lifetime.
    let is_endless = tallies
        .get(&Fault::LinkCircle)
        .is_some_and(|tally| tally.count > 1);
    if let Some(tally) = tallies.remove(&Fault::LinkCircle) {
        let fault = if is_endless {
            Fault::LinkCircles
        } else {
            Fault::LinkCircle
        };
        tallies.insert(fault, tally);
    }
    for (fault, tally) in &tallies {
        findings.add(finding(*fault, tally));
    }
}

/// The AppSpec's own entry, which is all that Lambda and ECS deployments ship.
pub(super) fn check_appspec_entry(bundle: &Bundle<'_>, findings: &mut Findings<'_>) {
    let Some(entry) = bundle.entries().entry(bundle.contents().appspec.index) else {
        return;
    };
    let path = bundle.contents().appspec.archive_name.as_bytes();
    check_header(&entry, path, &mut |fault, path, detail| {
        findings.add(finding(
            fault,
            &Tally {
                first: shown(path),
                detail,
                count: 1,
            },
        ));
    });
}

fn check_header(entry: &Entry<'_>, path: &[u8], add: &mut impl FnMut(Fault, &[u8], String)) {
    if entry.encrypted {
        add(Fault::Encrypted, path, String::new());
    }
    if let Compression::Other(method) = entry.compression {
        add(Fault::Method, path, method.to_string());
    }
    if entry.kind == EntryKind::Special {
        add(Fault::Special, path, String::new());
    }
    if entry.kind == EntryKind::Directory && entry.size > 0 {
        add(Fault::DirectoryWithContent, path, entry.size.to_string());
    }
    let is_file = matches!(entry.kind, EntryKind::File | EntryKind::HardLink);
    if is_file && entry.mode.is_some_and(|mode| mode & SET_ID_BITS != 0) {
        add(Fault::SetId, path, String::new());
    }
}

fn check_link(
    bundle: &Bundle<'_>,
    path: &[u8],
    entry: &Entry<'_>,
    target: Option<&[u8]>,
    known: &Known,
    is_installed: bool,
    add: &mut impl FnMut(Fault, &[u8], String),
) {
    if entry.link_target.is_none() && !(1..=LINK_TARGET_BYTES_MAX).contains(&entry.size) {
        add(Fault::LinkTarget, path, entry.size.to_string());
        return;
    }
    let Some(target) = target else { return };
    if target.is_empty() || target.contains(&0) {
        add(Fault::LinkTarget, path, target.len().to_string());
        return;
    }
    if !is_installed {
        return;
    }
    let joined = [parent_of(path), target].join(&b'/');
    let found = if target.starts_with(b"/") {
        Found::Outside
    } else {
        bundle.find(&joined, known)
    };
    match found {
        Found::Outside => add(Fault::LinkOutside, path, shown(target)),
        Found::Directory if is_circle(path, &joined) => add(Fault::LinkCircle, path, shown(target)),
        Found::Directory => add(Fault::LinkToDirectory, path, shown(target)),
        Found::File(_) | Found::Special | Found::Missing | Found::Unread(_) => {}
    }
}

/// Whether a link at `path` points to a folder that it lies in.
fn is_circle(path: &[u8], joined: &[u8]) -> bool {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in joined.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let target = parts.join(&b'/');
    target.is_empty()
        || path
            .strip_prefix(target.as_slice())
            .is_some_and(|rest| rest.starts_with(b"/"))
}

fn finding(fault: Fault, tally: &Tally) -> Finding {
    let entry = match tally.count {
        0 | 1 => format!("entry `{}`", tally.first),
        count => format!(
            "entry `{}` (and {} more)",
            tally.first,
            count.saturating_sub(1)
        ),
    };
    let detail = &tally.detail;
    let refuse = |code, what: String, cure: &str| Finding::refuse(code, what, cure);
    let warn = |code, what: String, cure: &str| Finding::warn(code, what, cure);
    let finding = match fault {
        Fault::Encrypted => refuse(
            "entry-encrypted",
            format!("{entry} is encrypted; the agent has no password and would install ciphertext"),
            "archive without a password",
        ),
        Fault::Method => refuse(
            "entry-compression-unsupported",
            format!("{entry} has compression method {detail}, expected 0 (stored) or 8 (deflated)"),
            "archive with the deflate method, such as `zip -r`",
        ),
        Fault::Special => refuse(
            "entry-special",
            format!("{entry} is a FIFO, device or socket, on which the agent hangs or fails"),
            "leave it out of the artifact, or name it under `exclude`",
        ),
        Fault::DirectoryWithContent => refuse(
            "entry-directory-with-content",
            format!("{entry} has a directory's name and {detail} bytes of content"),
            "archive it again with another tool",
        ),
        Fault::HardLinkOutside => refuse(
            "entry-hard-link-outside",
            format!(
                "{entry} is a hard link to `{detail}`, which is no file or symbolic link before it in the bundle"
            ),
            "archive with `--hard-dereference`, or from a folder that holds both names",
        ),
        Fault::LinkTarget => refuse(
            "entry-link-invalid",
            format!(
                "{entry} is a symbolic link with a target of {detail} bytes, expected 1 to {LINK_TARGET_BYTES_MAX} without NUL"
            ),
            "make the link again, or leave it out",
        ),
        Fault::ThroughLink => refuse(
            "entry-through-link",
            format!(
                "{entry} lies below a symbolic link of the archive: unpacking it could write anywhere"
            ),
            "archive the folder that the link points to, or the link alone",
        ),
        Fault::BelowFile => refuse(
            "entry-below-file",
            format!("{entry} lies below a name that the archive gives to a file"),
            "archive from a folder as it is on disk",
        ),
        Fault::TwoKinds => refuse(
            "entry-two-kinds",
            format!("{entry} comes twice, as different kinds of file"),
            "archive from a folder as it is on disk",
        ),
        Fault::LinkCircles => refuse(
            "entry-link-circles",
            format!(
                "{entry} are links to folders that they lie in: the agent would copy without end"
            ),
            "leave the links out, or make them in an AfterInstall script",
        ),
        Fault::Repeated => warn(
            "entry-repeated",
            format!("{entry} comes more than once; the last one is what gets unpacked"),
            "archive each file once",
        ),
        Fault::SetId => warn(
            "entry-set-id",
            format!(
                "{entry} has the set-user-id or set-group-id bit, which not every unpacker keeps"
            ),
            "set the bit in `permissions` or in an AfterInstall script",
        ),
        Fault::LinkOutside => warn(
            "link-outside",
            format!("{entry} is a symbolic link to `{detail}`, which is not in the bundle"),
            "make sure that every instance has it, or make the link in an AfterInstall script",
        ),
        Fault::LinkToDirectory => warn(
            "link-to-directory",
            format!(
                "{entry} is a symbolic link to directory `{detail}`: the agent copies the files, not the link"
            ),
            "make the link in an AfterInstall script if it has to be one",
        ),
        Fault::LinkCircle => warn(
            "link-circle",
            format!(
                "{entry} is a symbolic link to `{detail}`, a folder that it lies in: the agent copies it forty times"
            ),
            "leave the link out, or make it in an AfterInstall script",
        ),
    };
    finding.in_file(&tally.first)
}
