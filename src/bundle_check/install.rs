//! `files` against the bundle: what `Install` would copy, and where.
//!
//! Owns the agent's rules of `installer.rb` and `install_instruction.rb`: sources exist, no two of them
//! meet at one destination. What stands on the instance already is not known
//! here; rules that depend on it stay silent.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::Near;
use super::bundle::{Bundle, Found, Known};
use super::hash::NameTable;
use super::links::Links;
use super::report::Findings;
use super::walk::Marks;
use crate::appspec::{FileMapping, OperatingSystem, Server};
use crate::contents::{COMPONENT_BYTES_MAX, shown};
use crate::finding::Finding;

/// Comparisons of paths before the AppSpec counts as too much to judge.
pub(super) const COMPARISONS_MAX: usize = 20_000_000;

/// Bytes of a destination: Linux's `PATH_MAX` without its NUL.
pub(super) const DESTINATION_BYTES_MAX: usize = 4_095;

/// Paths that items make whose destinations are inside each other, before they count as too much to judge.
const MAKINGS_MAX: usize = 2_000_000;

/// Bytes of a path that are looked up at the cost of one comparison.
const LOOKUP_BYTES: usize = 64;

/// One item of `files`, its paths normalised.
#[derive(Debug)]
pub(super) struct Item<'s> {
    pub mapping: &'s FileMapping,
    /// In the bundle; empty for the root.
    pub source: String,
    pub is_directory: bool,
    /// On the instance: the directory that is filled, or the file that is written.
    pub target: String,
    /// The item that copies the link which leads here.
    pub within: Option<usize>,
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
    let resolved = bundle.resolve(as_followed(&mapping.source, &path, os), known);
    let is_directory = match resolved.found {
        Found::Directory => true,
        Found::File(_) => false,
        // A link to nothing is copied as a link.
        Found::Missing if resolved.is_link => false,
        Found::Missing => {
            let cure = if closed_by_slash(&mapping.source, os)
                && bundle.is_directory(path.as_bytes()) == Some(false)
            {
                "take the closing `/` away: the bundle has a file there".to_owned()
            } else if mapping.source.contains(['*', '?']) {
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
    let source = if is_directory {
        String::from_utf8(resolved.path).unwrap_or(path.clone())
    } else {
        path.clone()
    };
    let target = if is_directory {
        directory
    } else {
        let base = path.rsplit('/').next().unwrap_or_default();
        normalised(&format!("{directory}/{base}"), os)
    };
    Some(Item {
        mapping,
        source,
        is_directory,
        target,
        within: None,
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
    if written.len() > DESTINATION_BYTES_MAX {
        findings.at(
            mapping.place,
            Finding::refuse(
                "files-destination-invalid",
                format!(
                    "destination has {} bytes, Linux takes paths of {DESTINATION_BYTES_MAX}",
                    written.len()
                ),
                "write a shorter path",
            ),
        );
        return None;
    }
    let normal = normalised(written, os);
    let longest = normal.split('/').map(str::len).max().unwrap_or_default();
    if os == OperatingSystem::Linux && longest > COMPONENT_BYTES_MAX {
        findings.at(
            mapping.place,
            Finding::refuse(
                "files-destination-invalid",
                format!(
                    "destination has a component of {longest} bytes, Linux takes names of {COMPONENT_BYTES_MAX}"
                ),
                "write a shorter path",
            ),
        );
        return None;
    }
    if written.starts_with('~') {
        findings.at(
            mapping.place,
            Finding::refuse(
                "files-destination-invalid",
                format!(
                    "destination `{}` begins with `~`: the agent tries to make the home folder anew and fails",
                    shown(written.as_bytes())
                ),
                "write the home folder's absolute path",
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
    Some(normal)
}

/// The path to follow: Linux resolves `..` after links and only below folders that are there, Windows before
/// it looks.
pub(super) fn as_followed<'p>(
    written: &'p str,
    below_root: &'p str,
    os: OperatingSystem,
) -> &'p [u8] {
    match os {
        OperatingSystem::Linux => written.as_bytes(),
        OperatingSystem::Windows => below_root.as_bytes(),
    }
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

pub(super) fn join(folder: &str, rest: &str) -> String {
    match (folder.is_empty(), rest.is_empty()) {
        (true, _) => rest.to_owned(),
        (_, true) => folder.to_owned(),
        (false, false) => format!("{folder}/{rest}"),
    }
}

/// All ancestors of an absolute path, itself first.
pub(super) fn ancestors(path: &str) -> impl Iterator<Item = &str> {
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
///
/// Only items whose destinations are the same, or inside each other, can meet: what those make is entered in
/// one tree.
pub(super) fn check_collisions(
    bundle: &Bundle<'_>,
    items: &[Item<'_>],
    links: &Links,
    findings: &mut Findings<'_>,
) {
    // What lies behind links meets others only where what holds the links does.
    let declared = items.iter().take_while(|item| item.within.is_none());
    let declared = items.get(..declared.count()).unwrap_or_default();
    if !related(declared).contains(&true) {
        return;
    }
    let related = related(items);
    let mut made = Destinations::with_capacity(bundle.row_count());
    if made.fill(bundle, items, links, &related).is_none() {
        findings.add(too_much());
        return;
    }
    for (second, (first, node)) in &made.clashes {
        let (Some(item), Some(other)) = (items.get(*second as usize), items.get(*first as usize))
        else {
            continue;
        };
        findings.at(
            item.mapping.place,
            Finding::refuse(
                "files-same-destination",
                format!(
                    "sources `{}` and `{}` (line {}) meet at one destination, `{}`",
                    shown(item.mapping.source.as_bytes()),
                    shown(other.mapping.source.as_bytes()),
                    other.mapping.place.line,
                    shown(&made.path(*node))
                ),
                "let each destination file come from one source",
            ),
        );
    }
}

/// Which items' destinations are those of others, or lie inside or around them.
fn related(items: &[Item<'_>]) -> Vec<bool> {
    let mut by_target: HashMap<&str, usize> = HashMap::new();
    let mut related = vec![false; items.len()];
    let mark = |related: &mut Vec<bool>, number: usize| {
        if let Some(mark) = related.get_mut(number) {
            *mark = true;
        }
    };
    for (number, item) in items.iter().enumerate() {
        if let Some(other) = by_target.get(item.target.as_str()) {
            mark(&mut related, *other);
            mark(&mut related, number);
        } else {
            by_target.insert(&item.target, number);
        }
    }
    for (number, item) in items.iter().enumerate() {
        for folder in ancestors(&item.target).skip(1) {
            if let Some(other) = by_target.get(folder) {
                mark(&mut related, *other);
                mark(&mut related, number);
            }
        }
    }
    // Items with one target are marked by the first of them alone.
    for (number, item) in items.iter().enumerate() {
        if by_target
            .get(item.target.as_str())
            .is_some_and(|first| related.get(*first) == Some(&true))
        {
            mark(&mut related, number);
        }
    }
    related
}

/// What `Install` makes on the instance, as a tree of names.
struct Destinations<'a> {
    /// Name in a folder's row: the first item that makes it, and whether it is a directory.
    made: NameTable<'a, (u32, bool)>,
    /// How often something is made.
    makings: usize,
    /// Of each item, the first clash with one before it, and the row where.
    clashes: BTreeMap<u32, (u32, u32)>,
}

/// The row above the tree's root.
const ABOVE_ROOT: u32 = u32::MAX;

impl<'a> Destinations<'a> {
    fn with_capacity(count: usize) -> Self {
        Self {
            made: NameTable::with_capacity(count),
            makings: 0,
            clashes: BTreeMap::new(),
        }
    }

    /// Enters what the related items make: their destinations with the folders above, then their contents.
    /// Nothing is answered where that is too much.
    fn fill(
        &mut self,
        bundle: &Bundle<'a>,
        items: &'a [Item<'_>],
        links: &Links,
        related: &[bool],
    ) -> Option<()> {
        let mut sources = Vec::new();
        for (number, (item, _)) in (0_u32..).zip(items.iter().zip(related)).filter(is_related) {
            let target = self.make_target(item, number)?;
            if item.is_directory {
                sources.push((item.source.as_bytes(), (number, target)));
            }
        }
        let mut marks = Marks::new(bundle, sources.into_iter());
        // For each folder of the bundle, as a stretch of one list: the items that copy it, and where to.
        let mut copies: Vec<(u32, u32)> = marks.at_top().collect();
        let top = 0..copies.len();
        let mut stretches: Vec<Range<usize>> = Vec::with_capacity(bundle.row_count());
        for (number, row) in (0_u32..).zip(bundle.rows()) {
            let folder = row
                .folder
                .map_or(Some(&top), |at| stretches.get(at as usize));
            let begin = copies.len();
            let Some(is_directory) = links.is_directory(number, &row) else {
                stretches.push(begin..begin);
                continue;
            };
            for at in folder.cloned().unwrap_or_default() {
                let (item, target) = copies.get(at).copied()?;
                let node = self.make(target, row.name, item, is_directory)?;
                if row.is_directory {
                    copies.push((item, node));
                }
            }
            copies.extend(marks.at(number));
            stretches.push(begin..copies.len());
        }
        Some(())
    }

    /// An item's destination with the folders above; answers its row.
    fn make_target(&mut self, item: &'a Item<'_>, number: u32) -> Option<u32> {
        let mut parts = item.target.split('/').filter(|part| !part.is_empty());
        let mut next = parts.next();
        let mut node = self.make(ABOVE_ROOT, b"", number, next.is_some() || item.is_directory)?;
        while let Some(part) = next {
            next = parts.next();
            let is_directory = next.is_some() || item.is_directory;
            node = self.make(node, part.as_bytes(), number, is_directory)?;
        }
        Some(node)
    }

    fn make(&mut self, folder: u32, name: &'a [u8], item: u32, is_directory: bool) -> Option<u32> {
        self.makings = self.makings.saturating_add(1);
        if self.makings > MAKINGS_MAX {
            return None;
        }
        let hash = self.made.hash_in(folder, name);
        let key = (folder, name);
        let (node, known) = self.made.get_or_insert(key, hash, (item, is_directory));
        if let Some((other, other_is_directory)) = known
            && !(is_directory && *other_is_directory)
            && *other != item
        {
            let first = item.min(*other);
            let second = item.max(*other);
            self.clashes.entry(second).or_insert((first, node));
        }
        Some(node)
    }

    /// The path of a row.
    fn path(&self, node: u32) -> Vec<u8> {
        let mut names: Vec<&[u8]> = Vec::new();
        let mut next = self.made.row(node);
        while let Some(((folder, name), _)) = next {
            names.push(name);
            next = self.made.row(folder);
        }
        if names.len() == 1 {
            names.push(b"");
        }
        names.reverse();
        names.join(&b'/')
    }
}

fn is_related((_, (_, is_related)): &(u32, (&Item<'_>, &bool))) -> bool {
    **is_related
}

pub(super) struct TooMuch;

pub(super) fn too_much() -> Finding {
    Finding::refuse(
        "files-too-many",
        "`files` and `permissions` overlap too often to be compared",
        "let the items' destinations lie beside each other, not inside each other",
    )
}

pub(super) fn spend(budget: &mut usize, cost: usize) -> Result<(), TooMuch> {
    *budget = budget.checked_sub(cost).ok_or(TooMuch)?;
    Ok(())
}

/// Spends what looking a path of this length up costs.
pub(super) fn spend_lookup(budget: &mut usize, path_bytes: usize) -> Result<(), TooMuch> {
    spend(budget, (path_bytes / LOOKUP_BYTES).saturating_add(1))
}

/// What lies in the folders whose content `files` copies.
#[derive(Debug)]
pub(super) struct Installed(Vec<bool>);

impl Installed {
    /// Looks at each row once: a folder is handed on to what lies in it.
    pub fn new(bundle: &Bundle<'_>, items: &[Item<'_>]) -> Self {
        let folders = items.iter().filter(|item| item.is_directory);
        let mut folders = Marks::new(bundle, folders.map(|item| (item.source.as_bytes(), ())));
        let top = folders.at_top().count() > 0;
        // Of each row, whether it lies in such a folder, and whether what is in it does.
        let mut rows = Vec::with_capacity(bundle.row_count());
        let mut within: Vec<bool> = Vec::with_capacity(bundle.row_count());
        for (number, row) in (0_u32..).zip(bundle.rows()) {
            let folder = row.folder.and_then(|folder| within.get(folder as usize));
            let is_copied = folder.copied().unwrap_or(top);
            rows.push(is_copied);
            within.push(folders.at(number).count() > 0 || is_copied);
        }
        Self(rows)
    }

    /// Whether a bundle path lies in one of them.
    pub fn hold(&self, bundle: &Bundle<'_>, path: &[u8]) -> bool {
        let row = bundle.row_of(path.strip_suffix(b"/").unwrap_or(path));
        row.is_some_and(|row| self.0.get(row as usize) == Some(&true))
    }
}
