//! The tree that unpacking the revision leaves: which path is a file, a directory, a link.
//!
//! Owns lookup by path, links followed as far as their targets are known, and what cannot be unpacked
//! side by side (a file below a link or a file, a name that is a file and a directory). Knows nothing
//! of AppSpecs.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::hash::PathTable;
use crate::archive::EntryKind;
use crate::contents::{Contents, Entries, Trail};

/// Links followed on one path before it counts as a loop; Linux's own limit.
const LINKS_FOLLOWED_MAX: usize = 40;

/// Paths of the tree: a million entries and the folders that only their names make, unless those are
/// nested to be a burden.
const TREE_PATHS_MAX: usize = 4_000_000;

/// Bytes of paths that following links and looking up may hash.
const LOOKUP_BYTES_MAX: u64 = 256 << 20;

/// Position of a directory that no entry of its own makes.
const IMPLIED: u32 = u32::MAX;

/// Contents that were read, by the entry's position in the archive's index: the targets of a zip's
/// symbolic links, and hook scripts (their first bytes are enough).
pub type Known = BTreeMap<u32, Vec<u8>>;

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A file; its content is that of the entry at this position in the archive's index.
    File(u32),
    /// A directory, also one that only its files imply.
    Directory,
    /// Neither file nor directory: FIFO, device.
    Special,
    /// Nothing, or a link to nothing, or links in a circle or without end.
    Missing,
    /// A link leads out of the bundle: what is there depends on the instance.
    Outside,
    /// The link at this position has to be read first.
    Unread(u32),
}

/// Two entries that cannot both be unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Conflict {
    /// A path goes through a symbolic link of the archive.
    ThroughLink,
    /// A path goes through a file.
    BelowFile,
    /// One name is a file, a link and a directory, or two of them.
    TwoKinds,
    /// One name is a file twice: the later one stays.
    Repeated,
}

#[derive(Debug, Clone, Copy)]
struct Spot {
    /// Position among the kept entries.
    kept: u32,
    /// Row of the folder that it lies in.
    folder: u32,
    /// Where in the path its own name begins.
    name_at: u32,
    kind: EntryKind,
}

/// Row of the folder that the top is.
const TOP: u32 = u32::MAX;

/// What stands at a path of the tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub path: &'a [u8],
    /// Its own name, the last component.
    pub name: &'a [u8],
    pub is_directory: bool,
    /// Whether it is a symbolic link.
    pub is_link: bool,
    /// The row of the folder that it lies in, which comes before it; `None` at the top.
    pub folder: Option<u32>,
}

/// A folder that the last entry lies in.
#[derive(Debug, Clone, Copy)]
struct Folder {
    hash: u64,
    row: u32,
    /// What an entry below it meets.
    conflict: Option<Conflict>,
}

/// The kept entries by path.
pub struct Bundle<'a> {
    entries: &'a dyn Entries,
    contents: &'a Contents,
    spots: PathTable<'a, Spot>,
    conflicts: Vec<(Conflict, &'a [u8])>,
    /// Kept positions of entries that are more than plain files and directories.
    peculiar: Vec<u32>,
    is_whole: bool,
    lookup_bytes: AtomicU64,
}

impl std::fmt::Debug for Bundle<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bundle")
            .field("paths", &self.spots.len())
            .finish_non_exhaustive()
    }
}

impl<'a> Bundle<'a> {
    /// Builds the tree; one pass.
    pub fn new(entries: &'a dyn Entries, contents: &'a Contents) -> Self {
        Self::with_paths_max(entries, contents, TREE_PATHS_MAX)
    }

    /// As [`Self::new`]; a tree with more paths is not whole.
    pub(super) fn with_paths_max(
        entries: &'a dyn Entries,
        contents: &'a Contents,
        paths_max: usize,
    ) -> Self {
        let count = contents.entries.len();
        let mut bundle = Self {
            entries,
            contents,
            spots: PathTable::with_capacity(count.saturating_add(count / 8)),
            conflicts: Vec::new(),
            peculiar: Vec::new(),
            is_whole: true,
            lookup_bytes: AtomicU64::new(0),
        };
        let mut trail = Trail::new();
        let mut peculiar = contents.peculiar.iter().copied().peekable();
        for (position, kept) in (0_u32..).zip(&contents.entries) {
            let Some(archive_name) = entries.name(kept.index) else {
                continue;
            };
            let name = kept.name_in(archive_name);
            let (path, mut kind) = match name.strip_suffix(b"/") {
                Some(path) => (path, EntryKind::Directory),
                None => (name, EntryKind::File),
            };
            while peculiar.next_if(|index| *index < kept.index).is_some() {}
            if peculiar.next_if_eq(&kept.index).is_some() {
                bundle.peculiar.push(position);
                let entry = entries.entry(kept.index);
                kind = entry.as_ref().map_or(kind, |entry| entry.kind);
                let target = entry.and_then(|entry| entry.link_target);
                // A hard link to a symbolic link is one more name of that.
                if kind == EntryKind::HardLink
                    && target.is_some_and(|target| bundle.is_link(target))
                {
                    kind = EntryKind::Symlink;
                }
            }
            let folder = bundle.enter_folders(&mut trail, path);
            let name_at = trail.name_at();
            let name = path.get(name_at..).unwrap_or_default();
            let hash = bundle.spots.hash(folder.map(|folder| folder.hash), name);
            let spot = Spot {
                kept: position,
                folder: folder.map_or(TOP, |folder| folder.row),
                name_at: name_at as u32,
                kind,
            };
            bundle.put(path, hash, spot);
            if bundle.spots.len() > paths_max {
                bundle.is_whole = false;
                break;
            }
        }
        bundle
    }

    /// Makes the folders above an entry; answers the one that it lies in.
    fn enter_folders(&mut self, trail: &mut Trail<Folder>, path: &'a [u8]) -> Option<Folder> {
        let folder = *trail.follow(path, |above, folder, name_at| {
            self.enter_folder(above, folder, name_at)
        })?;
        if let Some(conflict) = folder.conflict {
            self.conflicts.push((conflict, path));
        }
        Some(folder)
    }

    fn enter_folder(&mut self, above: Option<&Folder>, path: &'a [u8], name_at: usize) -> Folder {
        let name = path.get(name_at..).unwrap_or_default();
        let hash = self.spots.hash(above.map(|above| above.hash), name);
        let implied = Spot {
            kept: IMPLIED,
            folder: above.map_or(TOP, |above| above.row),
            name_at: name_at as u32,
            kind: EntryKind::Directory,
        };
        let (row, known) = self.spots.get_or_insert(path, hash, implied);
        let conflict = match known {
            None => above.and_then(|above| above.conflict),
            Some(known) => match known.kind {
                EntryKind::Directory => None,
                EntryKind::Symlink => Some(Conflict::ThroughLink),
                _ => Some(Conflict::BelowFile),
            },
        };
        Folder {
            hash,
            row,
            conflict,
        }
    }

    fn put(&mut self, path: &'a [u8], hash: u64, spot: Spot) {
        let (_, Some(known)) = self.spots.get_or_insert(path, hash, spot) else {
            return;
        };
        let old = std::mem::replace(known, spot);
        let is_plain = |kind| matches!(kind, EntryKind::File | EntryKind::HardLink);
        let conflict = match (old.kind, spot.kind) {
            (EntryKind::Directory, EntryKind::Directory) => None,
            (EntryKind::Directory, EntryKind::Symlink) if old.kept == IMPLIED => {
                Some(Conflict::ThroughLink)
            }
            (EntryKind::Directory, _) if old.kept == IMPLIED => Some(Conflict::BelowFile),
            (old, new) if is_plain(old) && is_plain(new) => Some(Conflict::Repeated),
            _ => Some(Conflict::TwoKinds),
        };
        self.conflicts
            .extend(conflict.map(|conflict| (conflict, path)));
    }

    /// Whether every entry is in the tree; not so where their folders are nested to be a burden.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// What cannot be unpacked side by side, in the archive's order.
    pub(super) fn conflicts(&self) -> &[(Conflict, &'a [u8])] {
        &self.conflicts
    }

    /// Kept positions of entries that are more than plain files and directories.
    pub(super) fn peculiar(&self) -> &[u32] {
        &self.peculiar
    }

    /// The archive's index.
    pub(super) fn entries(&self) -> &'a dyn Entries {
        self.entries
    }

    /// What was kept of it.
    pub(super) fn contents(&self) -> &'a Contents {
        self.contents
    }

    /// All paths once, with whether each is a directory.
    pub(super) fn paths(&self) -> impl Iterator<Item = (&'a [u8], bool)> {
        self.spots
            .iter()
            .map(|(path, spot)| (path, spot.kind == EntryKind::Directory))
    }

    /// All rows, in their order.
    pub(super) fn rows(&self) -> impl Iterator<Item = Row<'a>> {
        self.spots.iter().map(|(path, spot)| Row {
            path,
            name: path.get(spot.name_at as usize..).unwrap_or_default(),
            is_directory: spot.kind == EntryKind::Directory,
            is_link: spot.kind == EntryKind::Symlink,
            folder: (spot.folder != TOP).then_some(spot.folder),
        })
    }

    /// How many rows there are.
    pub(super) fn row_count(&self) -> usize {
        self.spots.len()
    }

    /// The row of a path, no link followed.
    pub(super) fn row_of(&self, path: &[u8]) -> Option<u32> {
        self.spots.row_of(path)
    }

    /// What stands in a row.
    pub(super) fn kind_at(&self, row: u32) -> Option<EntryKind> {
        self.spots.row(row).map(|(_, spot)| spot.kind)
    }

    /// Whether the path itself, no link followed, is there: a directory or something else.
    pub(super) fn is_directory(&self, path: &[u8]) -> Option<bool> {
        if path.is_empty() {
            return Some(true);
        }
        self.spots
            .get(path)
            .map(|spot| spot.kind == EntryKind::Directory)
    }

    /// Follows a path below the root (relative, forward slashes) and all links on it.
    pub fn find(&self, path: &[u8], known: &Known) -> Found {
        self.resolve(path, known).found
    }

    /// As [`Self::find`], and where that leads.
    pub(super) fn resolve(&self, path: &[u8], known: &Known) -> Resolved {
        let mut resolved = Resolved {
            found: Found::Missing,
            path: Vec::new(),
            is_link: false,
        };
        resolved.found = self.walk(path, known, &mut resolved.path, &mut resolved.is_link);
        // What is closed by a slash is followed, and has to be a directory.
        if path.ends_with(b"/") || path.ends_with(b"/.") {
            resolved.is_link = false;
            if matches!(resolved.found, Found::File(_) | Found::Special) {
                resolved.found = Found::Missing;
            }
        }
        resolved
    }

    fn walk(&self, path: &[u8], known: &Known, done: &mut Vec<u8>, is_link: &mut bool) -> Found {
        let mut links_left = LINKS_FOLLOWED_MAX;
        let mut todo: Vec<Vec<u8>> = components(path);
        while let Some(component) = todo.pop() {
            if component == b".." {
                if done.is_empty() {
                    return Found::Outside;
                }
                done.truncate(parent_of(done).len());
                continue;
            }
            let before = done.len();
            if !done.is_empty() {
                done.push(b'/');
            }
            done.extend_from_slice(&component);
            let hashed = self
                .lookup_bytes
                .fetch_add(done.len() as u64, Ordering::Relaxed);
            if hashed > LOOKUP_BYTES_MAX {
                return Found::Missing;
            }
            let Some(spot) = self.spots.get(done.as_slice()) else {
                return Found::Missing;
            };
            match spot.kind {
                EntryKind::Directory => {}
                EntryKind::Symlink => {
                    *is_link |= todo.is_empty();
                    let Some(left) = links_left.checked_sub(1) else {
                        return Found::Missing;
                    };
                    links_left = left;
                    match self.target(spot.kept, known) {
                        Target::Unread(index) => return Found::Unread(index),
                        Target::Is(target) if target.starts_with(b"/") => return Found::Outside,
                        Target::Is(target) => {
                            done.truncate(before);
                            todo.extend(components(&target));
                        }
                    }
                }
                _ if !todo.is_empty() => return Found::Missing,
                EntryKind::File | EntryKind::HardLink => return self.file(*spot),
                EntryKind::Special => return Found::Special,
            }
        }
        Found::Directory
    }

    fn file(&self, spot: Spot) -> Found {
        let mut position = spot.kept;
        for _ in 0..LINKS_FOLLOWED_MAX {
            let Some(kept) = self.contents.entries.get(position as usize) else {
                break;
            };
            let Some(entry) = self.entries.entry(kept.index) else {
                break;
            };
            if entry.kind == EntryKind::File {
                return Found::File(kept.index);
            }
            match self.hard_link_target(entry.link_target.unwrap_or_default()) {
                Some(target) if target < position => position = target,
                _ => break,
            }
        }
        Found::Missing
    }

    /// The kept position that a hard link's target names; targets are names in the archive.
    pub(super) fn hard_link_target(&self, target: &[u8]) -> Option<u32> {
        let spot = self.hard_link_spot(target)?;
        let is_linkable = matches!(
            spot.kind,
            EntryKind::File | EntryKind::HardLink | EntryKind::Symlink
        );
        is_linkable.then_some(spot.kept)
    }

    /// Whether the entry at a kept position is what leaves a symbolic link at its path: a hard link to one does.
    pub(super) fn makes_link(&self, position: u32, path: &[u8]) -> bool {
        let spot = self.spots.get(path);
        spot.is_some_and(|spot| spot.kept == position && spot.kind == EntryKind::Symlink)
    }

    /// The target of the symbolic link that the entry at a kept position makes, where it is known.
    ///
    /// It is relative to the folder of each of the link's names.
    pub(super) fn link_target(&self, position: u32, known: &Known) -> Option<Cow<'a, [u8]>> {
        match self.target(position, known) {
            Target::Is(target) => Some(target),
            Target::Unread(_) => None,
        }
    }

    fn is_link(&self, target: &[u8]) -> bool {
        self.hard_link_spot(target)
            .is_some_and(|spot| spot.kind == EntryKind::Symlink)
    }

    fn hard_link_spot(&self, target: &[u8]) -> Option<&Spot> {
        let parts: Vec<&[u8]> = target
            .split(|&byte| byte == b'/')
            .filter(|part| !part.is_empty() && *part != b".")
            .collect();
        let path = parts.join(&b'/');
        let path = path.strip_prefix(self.contents.root.as_bytes())?;
        self.spots.get(path)
    }

    fn target(&self, mut kept: u32, known: &Known) -> Target<'a> {
        let mut index = 0;
        let mut from_header = None;
        for _ in 0..LINKS_FOLLOWED_MAX {
            index = self
                .contents
                .entries
                .get(kept as usize)
                .map_or(0, |kept| kept.index);
            let entry = self.entries.entry(index);
            let is_hard_link = entry
                .as_ref()
                .is_some_and(|entry| entry.kind == EntryKind::HardLink);
            from_header = entry.and_then(|entry| entry.link_target);
            match from_header.filter(|_| is_hard_link) {
                None => break,
                Some(name) => match self.hard_link_target(name) {
                    Some(target) if target < kept => kept = target,
                    _ => break,
                },
            }
        }
        match (from_header, known.get(&index)) {
            (Some(target), _) => Target::Is(Cow::Borrowed(target)),
            (None, Some(target)) => Target::Is(Cow::Owned(target.clone())),
            (None, None) => Target::Unread(index),
        }
    }
}

/// Where a path leads.
#[derive(Debug)]
pub(super) struct Resolved {
    /// What is there.
    pub found: Found,
    /// The path without links and `..`, as far as it was followed.
    pub path: Vec<u8>,
    /// Whether the path's own last component is a symbolic link.
    pub is_link: bool,
}

enum Target<'a> {
    Is(Cow<'a, [u8]>),
    Unread(u32),
}

/// The path without its last component.
pub(super) fn parent_of(path: &[u8]) -> &[u8] {
    path.iter()
        .rposition(|&byte| byte == b'/')
        .and_then(|at| path.get(..at))
        .unwrap_or_default()
}

/// A path's components, the last one first; `.` and empty ones left out.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|&byte| byte == b'/')
        .rev()
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
        .collect()
}
