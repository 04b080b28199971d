//! `files` against the bundle: what `Install` would copy, and where.
//!
//! Owns the agent's rules of `installer.rb` and `install_instruction.rb`: sources exist, no two of them
//! meet at one destination. What stands on the instance already is not known
//! here; rules that depend on it stay silent.

use std::collections::{HashMap, HashSet};

use super::Near;
use super::bundle::{Bundle, Found, Known, parent_of};
use super::report::Findings;
use crate::appspec::{FileMapping, OperatingSystem, Server};
use crate::contents::shown;
use crate::finding::Finding;

/// Comparisons of paths before the AppSpec counts as too much to judge.
pub(super) const COMPARISONS_MAX: usize = 20_000_000;

/// One item of `files`, its paths normalised.
#[derive(Debug)]
pub(super) struct Item<'s> {
    pub mapping: &'s FileMapping,
    /// In the bundle; empty for the root.
    pub source: String,
    pub is_directory: bool,
    /// On the instance: the directory that is filled, or the file that is written.
    pub target: String,
}

/// The items that can be judged; faults of single items go to `findings`.
pub(super) fn items<'s>(
    bundle: &Bundle<'_>,
    server: &'s Server,
    known: &Known,
    near: &mut Near,
    findings: &mut Findings<'_>,
) -> Vec<Item<'s>> {
    server
        .files
        .iter()
        .filter_map(|mapping| item(bundle, mapping, server.os, known, near, findings))
        .collect()
}

fn item<'s>(
    bundle: &Bundle<'_>,
    mapping: &'s FileMapping,
    os: OperatingSystem,
    known: &Known,
    near: &mut Near,
    findings: &mut Findings<'_>,
) -> Option<Item<'s>> {
    let place = mapping.place;
    let source = shown(mapping.source.as_bytes());
    let Some(path) = below_root(&mapping.source, os) else {
        findings.at(
            place,
            Finding::refuse(
                "files-source-outside",
                format!("source `{source}` leads out of the bundle"),
                "name a file or folder of the bundle",
            ),
        );
        return None;
    };
    let is_directory = match bundle.find(path.as_bytes(), known) {
        Found::Directory => true,
        Found::File(_) if closed_by_slash(&mapping.source, os) => {
            findings.at(
                place,
                Finding::refuse(
                    "files-source-missing",
                    format!("source `{source}` ends in `/`, but the bundle has a file there"),
                    "take the closing `/` away",
                ),
            );
            return None;
        }
        Found::File(_) => false,
        Found::Missing => {
            let cure = if mapping.source.contains(['*', '?']) {
                "name files or folders; the agent knows no wildcards".to_owned()
            } else {
                near.cure(bundle, path.as_bytes()).unwrap_or_else(|| {
                    "correct the path, or put the file into the artifact".to_owned()
                })
            };
            findings.at(
                place,
                Finding::refuse(
                    "files-source-missing",
                    format!("source `{source}` is not in the bundle"),
                    cure,
                ),
            );
            return None;
        }
        Found::Special | Found::Outside | Found::Unread(_) => return None,
    };
    let directory = destination(mapping, os, is_directory, findings)?;
    let target = if is_directory {
        directory
    } else {
        let base = path.rsplit('/').next().unwrap_or_default();
        normalised(&format!("{directory}/{base}"), os)
    };
    Some(Item {
        mapping,
        source: path,
        is_directory,
        target,
    })
}

/// The destination as the agent's `File.expand_path` makes it.
fn destination(
    mapping: &FileMapping,
    os: OperatingSystem,
    source_is_directory: bool,
    findings: &mut Findings<'_>,
) -> Option<String> {
    let written = &mapping.destination;
    if written.is_empty() && source_is_directory {
        findings.at(
            mapping.place,
            Finding::refuse(
                "files-destination-empty",
                "`destination` is empty text, expected a folder on the instance",
                "write an absolute path, such as `/srv/my-app`",
            ),
        );
        return None;
    }
    let is_absolute = match os {
        OperatingSystem::Linux => written.starts_with('/'),
        OperatingSystem::Windows => {
            written.starts_with(['\\', '/'])
                || matches!(written.as_bytes(), [drive, b':', ..] if drive.is_ascii_alphabetic())
        }
    };
    if !is_absolute {
        findings.at(
            mapping.place,
            Finding::warn(
                "files-destination-relative",
                format!(
                    "destination `{}` is not absolute: it depends on the folder that the agent runs in",
                    shown(written.as_bytes())
                ),
                "write an absolute path, such as `/srv/my-app`",
            ),
        );
    }
    Some(normalised(written, os))
}

fn closed_by_slash(path: &str, os: OperatingSystem) -> bool {
    path.ends_with('/') || (os == OperatingSystem::Windows && path.ends_with('\\'))
}

/// A path of the AppSpec below the bundle's root; `None` where it climbs out.
pub(super) fn below_root(path: &str, os: OperatingSystem) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split(|char| char == '/' || (os == OperatingSystem::Windows && char == '\\')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// An absolute path in one spelling: `/` first, `.`, `..` and doubled slashes resolved; on Windows,
/// which ignores case, in lower case.
pub(super) fn normalised(path: &str, os: OperatingSystem) -> String {
    let path = match os {
        OperatingSystem::Linux => path.to_owned(),
        OperatingSystem::Windows => path.to_lowercase(),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split(|char| char == '/' || (os == OperatingSystem::Windows && char == '\\')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// What of `path` lies below `folder`: empty for the folder itself.
pub(super) fn below<'p>(path: &'p str, folder: &str) -> Option<&'p str> {
    if folder == "/" {
        return path.strip_prefix('/');
    }
    match path.strip_prefix(folder)? {
        "" => Some(""),
        rest => rest.strip_prefix('/'),
    }
}

fn join(folder: &str, rest: &str) -> String {
    match (folder.is_empty(), rest.is_empty()) {
        (true, _) => rest.to_owned(),
        (_, true) => folder.to_owned(),
        (false, false) => format!("{folder}/{rest}"),
    }
}

/// All ancestors of an absolute path, itself first.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    let mut next = Some(path);
    std::iter::from_fn(move || {
        let current = next?;
        next = match current.rfind('/') {
            Some(0) if current.len() > 1 => Some("/"),
            Some(0) | None => None,
            Some(at) => current.get(..at),
        };
        Some(current)
    })
}

/// Finds two sources for one destination, and files where directories have to be.
pub(super) fn check_collisions(
    bundle: &Bundle<'_>,
    items: &[Item<'_>],
    findings: &mut Findings<'_>,
) {
    let mut files: HashMap<&str, &Item<'_>> = HashMap::new();
    let mut folders: HashMap<&str, Vec<&Item<'_>>> = HashMap::new();
    let mut budget = COMPARISONS_MAX;
    for item in items {
        let clash = clash(bundle, item, &files, &folders, &mut budget);
        match clash {
            Err(TooMuch) => {
                findings.add(too_much());
                return;
            }
            Ok(Some((other, path))) => findings.at(
                item.mapping.place,
                Finding::refuse(
                    "files-same-destination",
                    format!(
                        "sources `{}` and `{}` (line {}) meet at one destination, `{}`",
                        shown(item.mapping.source.as_bytes()),
                        shown(other.mapping.source.as_bytes()),
                        other.mapping.place.line,
                        shown(path.as_bytes())
                    ),
                    "let each destination file come from one source",
                ),
            ),
            Ok(None) => {}
        }
        if item.is_directory {
            folders.entry(&item.target).or_default().push(item);
        } else {
            files.entry(&item.target).or_insert(item);
        }
    }
}

pub(super) struct TooMuch;

pub(super) fn too_much() -> Finding {
    Finding::refuse(
        "files-too-many",
        "`files` and `permissions` overlap too often to be compared",
        "let the items' destinations lie beside each other, not inside each other",
    )
}

type Clash<'i, 's> = Option<(&'i Item<'s>, String)>;

fn clash<'i, 's>(
    bundle: &Bundle<'_>,
    item: &Item<'_>,
    files: &HashMap<&str, &'i Item<'s>>,
    folders: &HashMap<&str, Vec<&'i Item<'s>>>,
    budget: &mut usize,
) -> Result<Clash<'i, 's>, TooMuch> {
    for folder in ancestors(&item.target) {
        // A file where this item needs itself or a folder above it.
        if let Some(other) = files.get(folder) {
            return Ok(Some((other, folder.to_owned())));
        }
        for other in folders.get(folder).into_iter().flatten() {
            spend(budget, 1)?;
            let rest = below(&item.target, folder).unwrap_or_default();
            if let Some(path) = clash_in_folder(bundle, item, other, rest, budget)? {
                return Ok(Some((other, path)));
            }
        }
    }
    if !item.is_directory {
        return Ok(None);
    }
    // Earlier items whose targets lie inside this one's.
    let inside = files.iter().map(|(target, other)| (*target, *other)).chain(
        folders
            .iter()
            .flat_map(|(target, others)| others.iter().map(move |other| (*target, *other))),
    );
    let mut first: Clash<'i, 's> = None;
    for (target, other) in inside {
        spend(budget, 1)?;
        let Some(rest) = below(target, &item.target).filter(|rest| !rest.is_empty()) else {
            continue;
        };
        let found = clash_in_folder(bundle, other, item, rest, budget)?;
        if let Some(path) = found
            && first.as_ref().is_none_or(|(_, known)| path < *known)
        {
            first = Some((other, path));
        }
    }
    Ok(first)
}

pub(super) fn spend(budget: &mut usize, cost: usize) -> Result<(), TooMuch> {
    *budget = budget.checked_sub(cost).ok_or(TooMuch)?;
    Ok(())
}

/// `inner` writes to `rest` below the folder that `outer` fills: where do they meet?
fn clash_in_folder(
    bundle: &Bundle<'_>,
    inner: &Item<'_>,
    outer: &Item<'_>,
    rest: &str,
    budget: &mut usize,
) -> Result<Option<String>, TooMuch> {
    // A file of `outer` on the way, or at the place itself.
    let mut at = join(&outer.source, rest);
    let place = at.clone();
    while at.len() > outer.source.len() {
        if bundle.is_directory(at.as_bytes()) == Some(false) {
            return Ok(Some(join(&outer.target, rest)));
        }
        at.truncate(parent_of(at.as_bytes()).len());
    }
    if bundle.is_directory(place.as_bytes()) != Some(true) {
        return Ok(None);
    }
    if !inner.is_directory {
        return Ok(Some(inner.target.clone()));
    }
    let mut first: Option<String> = None;
    for (path, is_directory) in bundle.paths() {
        spend(budget, 1)?;
        let Ok(path) = std::str::from_utf8(path) else {
            continue;
        };
        let Some(name) = below_source(path, &inner.source) else {
            continue;
        };
        let other = bundle.is_directory(join(&place, name).as_bytes());
        let meets = match other {
            Some(other_is_directory) => !(is_directory && other_is_directory),
            None => false,
        };
        if meets {
            let target = join(&inner.target, name);
            if first.as_ref().is_none_or(|known| target < *known) {
                first = Some(target);
            }
        }
    }
    Ok(first)
}

/// What of a bundle path lies strictly below a source folder.
pub(super) fn below_source<'p>(path: &'p str, source: &str) -> Option<&'p str> {
    if source.is_empty() {
        return Some(path);
    }
    path.strip_prefix(source)?.strip_prefix('/')
}

/// The folders whose content `files` copies.
#[derive(Debug)]
pub(super) struct InstalledFolders<'i>(HashSet<&'i str>);

impl<'i> InstalledFolders<'i> {
    pub fn new(items: &'i [Item<'_>]) -> Self {
        let folders = items.iter().filter(|item| item.is_directory);
        Self(folders.map(|item| item.source.as_str()).collect())
    }

    /// Whether a bundle path lies in one of them.
    pub fn hold(&self, path: &[u8]) -> bool {
        let Ok(mut folder) = std::str::from_utf8(path) else {
            return false;
        };
        while let Some((parent, _)) = folder.rsplit_once('/') {
            if self.0.contains(parent) {
                return true;
            }
            folder = parent;
        }
        self.0.contains("")
    }
}

/// Whether `Install` copies a file to `path`, or makes a directory there; `None` for neither.
pub(super) fn made(bundle: &Bundle<'_>, items: &[Item<'_>], path: &str) -> Option<bool> {
    items.iter().find_map(|item| {
        if !item.is_directory {
            return (item.target == path).then_some(false);
        }
        let rest = below(path, &item.target)?;
        bundle.is_directory(join(&item.source, rest).as_bytes())
    })
}
