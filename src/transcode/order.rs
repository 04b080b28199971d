//! Which names are written when a source entry passes.
//!
//! A source is read once, front to back, so what a hard link shares must be written while its target
//! passes. In a zip every hard link becomes a copy, right behind its target. In a tar it stays where it
//! is; only where the target itself is not kept does the first of its links take the target's place.
//! Order matters to a reader only between entries of one name, the last of which counts: an entry that a
//! moved link would have replaced is left out.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::writer::HELD_BYTES_MAX;
use crate::archive::tar::{HardLinks, TarIndex, WrittenEntry};
use crate::archive::zip::shown;
use crate::archive::{ArchiveFormat, EntryKind};
use crate::contents::KeptEntry;

/// Bytes of content that hard links may share in a zip, where they become copies: while such content
/// passes, it is held in its compressed form.
pub const SHARED_BYTES_MAX: u64 = 16 << 20;

/// Why hard links cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// A hard link whose target is no earlier file.
    #[error("hard link `{name}` points to `{target}`, which is no file before it in the archive")]
    DanglingHardLink {
        /// The link's name.
        name: String,
        /// The target's name.
        target: String,
    },
    /// A hard link becomes a copy in a zip, which is done for small content only.
    #[error(
        "hard link `{name}` shares the {size} bytes of `{target}`, \
         limit for a zip is {limit}; a revision of bundle type tgz has no such limit"
    )]
    HardLinkTooLarge {
        /// The link's name.
        name: String,
        /// The target's name.
        target: String,
        /// The target's size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A file that is kept for its hard links alone, under a name that another entry replaces.
    #[error(
        "hard link `{name}` comes twice, and the first is all that would be left of `{target}`, \
         which is not in the revision"
    )]
    ReplacedHardLink {
        /// The link's name.
        name: String,
        /// The target's name.
        target: String,
    },
}

impl OrderError {
    /// Stable word for what is wrong, as findings carry it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::DanglingHardLink { .. } => "hard-link-dangling",
            Self::HardLinkTooLarge { .. } => "hard-link-too-large",
            Self::ReplacedHardLink { .. } => "hard-link-replaced",
        }
    }
}

/// A source entry whose content is needed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stop {
    /// The entry's position in the index.
    pub entry: u32,
    /// The kept entries that its content is written under, as positions in [`Order::kept`].
    pub writes: Vec<u32>,
}

/// How far a walk along an [`Order`] has come.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cursor {
    /// The next of the kept entries.
    next: usize,
    /// The entry from which on moved links are to come.
    moved: u32,
}

/// The kept entries in the order of the source, and where hard links go.
pub(crate) struct Order {
    /// Ascending by their place in the source.
    pub kept: Vec<KeptEntry>,
    cursor: Cursor,
    /// Kept hard links by the entry with whose content they are written.
    moved: BTreeMap<u32, Vec<u32>>,
    /// Kept entries that are written elsewhere or not at all.
    passed: HashSet<u32>,
    /// The kept entry under which an entry's file is first written, for hard links in a tar.
    primary: HashMap<u32, u32>,
    links: HardLinks,
}

impl Order {
    /// The order of a source without hard links.
    pub fn plain(kept: Vec<KeptEntry>) -> Self {
        Self {
            kept,
            cursor: Cursor::default(),
            moved: BTreeMap::new(),
            passed: HashSet::new(),
            primary: HashMap::new(),
            links: HardLinks::default(),
        }
    }

    /// The order for a tar's kept entries, which must be ascending.
    pub fn of_tar(
        index: &TarIndex,
        kept: Vec<KeptEntry>,
        target: ArchiveFormat,
    ) -> Result<Self, OrderError> {
        let mut order = Self {
            links: HardLinks::resolve(index),
            ..Self::plain(kept)
        };
        let mut kept_at = HashMap::new();
        for (kept, at) in order.kept.iter().zip(0u32..) {
            let is_linkable = |target: &u32| {
                let kind = index.entry(*target as usize).map(|entry| entry.kind);
                matches!(kind, Some(EntryKind::File | EntryKind::Symlink))
            };
            let Some(target) = order.links.target(kept.index).filter(is_linkable) else {
                refuse_dangling(index, kept)?;
                continue;
            };
            kept_at.insert(target, None);
            order.moved.entry(target).or_default().push(at);
        }
        if order.moved.is_empty() {
            return Ok(order);
        }
        for (kept, at) in order.kept.iter().zip(0u32..) {
            if let Some(place) = kept_at.get_mut(&kept.index) {
                *place = Some(at);
            }
        }
        for (shared, links) in &mut order.moved {
            let own = kept_at.get(shared).copied().flatten();
            if target == ArchiveFormat::Zip {
                refuse_large(index, *shared, links, &order.kept)?;
                continue;
            }
            match own {
                Some(_) => links.clear(),
                None => links.truncate(1),
            }
            if let Some(primary) = own.or(links.first().copied()) {
                order.primary.insert(*shared, primary);
            }
        }
        order.moved.retain(|_, links| !links.is_empty());
        order.pass_replaced(index)?;
        Ok(order)
    }

    /// Leaves out what a moved link would have replaced at its own place.
    fn pass_replaced(&mut self, tar: &TarIndex) -> Result<(), OrderError> {
        let name = |kept: &KeptEntry| -> Option<Vec<u8>> {
            let entry = tar.entry(kept.index as usize)?;
            let name = kept.name(&entry);
            Some(name.strip_suffix(b"/").unwrap_or(name).to_vec())
        };
        // Name of each moved link: the entry it moved to, and the link's own.
        let mut moved: HashMap<Vec<u8>, (u32, u32)> = HashMap::new();
        for (shared, links) in &self.moved {
            for at in links {
                self.passed.insert(*at);
                let Some(kept) = self.kept.get(*at as usize) else {
                    continue;
                };
                let place = moved
                    .entry(name(kept).unwrap_or_default())
                    .or_insert((*shared, kept.index));
                if place.1 < kept.index {
                    *place = (*shared, kept.index);
                }
            }
        }
        let mut replaced = HashSet::new();
        for (kept, at) in self.kept.iter().zip(0u32..) {
            let Some(name) = name(kept) else { continue };
            if let Some((from, to)) = moved.get(&name) {
                let between = *from < kept.index || self.passed.contains(&at);
                if between && kept.index < *to {
                    replaced.insert(at);
                }
            }
        }
        for links in self.moved.values_mut() {
            links.retain(|at| !replaced.contains(at));
        }
        self.moved.retain(|_, links| !links.is_empty());
        let lost = self.primary.iter().filter(|(_, at)| replaced.contains(at));
        if let Some((target, at)) = lost.min() {
            let shown_at = |index: u32| {
                let entry = tar.entry(index as usize);
                entry.map(|entry| shown(entry.name)).unwrap_or_default()
            };
            let link = self.kept.get(*at as usize);
            return Err(OrderError::ReplacedHardLink {
                name: link.map(|link| shown_at(link.index)).unwrap_or_default(),
                target: shown_at(*target),
            });
        }
        self.passed.extend(replaced);
        Ok(())
    }

    /// The next entry whose content is needed, and the names to write it under.
    pub fn next_stop(&mut self) -> Option<Stop> {
        let mut cursor = self.cursor;
        let stop = self.stop_at(&mut cursor);
        self.cursor = cursor;
        stop
    }

    /// The entry whose content is needed next on a walk, and the names to write it under.
    pub fn stop_at(&self, cursor: &mut Cursor) -> Option<Stop> {
        while self.passed.contains(&(cursor.next as u32)) {
            cursor.next += 1;
        }
        let kept = self.kept.get(cursor.next);
        let mut moved = self.moved.range(cursor.moved..);
        let first_moved = moved.next().map(|(entry, _)| *entry);
        let entry = match (kept, first_moved) {
            (Some(kept), Some(moved)) => kept.index.min(moved),
            (Some(kept), None) => kept.index,
            (None, moved) => moved?,
        };
        let mut stop = Stop {
            entry,
            writes: Vec::new(),
        };
        if kept.is_some_and(|kept| kept.index == entry) {
            stop.writes.push(cursor.next as u32);
            cursor.next += 1;
        }
        if first_moved == Some(entry) {
            cursor.moved = entry.saturating_add(1);
            stop.writes
                .extend(self.moved.get(&entry).into_iter().flatten());
        }
        Some(stop)
    }

    /// The entry whose file the kept hard link at position `index` shares.
    pub fn shared(&self, index: u32) -> Option<u32> {
        self.links.target(index)
    }

    /// The kept entry whose name a hard link to `entry` names in a tar.
    fn primary(&self, entry: u32) -> Option<&KeptEntry> {
        self.kept.get(*self.primary.get(&entry)? as usize)
    }

    /// What is written for the kept entry at position `at` of [`Self::kept`]: a hard link that stays one
    /// with its target's new name, another with what it shares.
    pub fn written<'a>(&'a self, tar: &'a TarIndex, at: u32) -> Option<WrittenEntry<'a>> {
        let kept = self.kept.get(at as usize)?;
        let own = tar.entry(kept.index as usize)?;
        let shared = self.shared(kept.index);
        // A link whose own name is the first that its file is written under is that file.
        let primary = shared.and_then(|shared| self.primary(shared));
        let primary = primary.filter(|primary| primary.index != kept.index);
        let content = match (primary, shared) {
            (None, Some(shared)) => shared,
            _ => kept.index,
        };
        let link_target = match primary {
            Some(primary) => Some(primary.name(&tar.entry(primary.index as usize)?)),
            None => None,
        };
        let entry = tar.entry(content as usize)?;
        let is_file = entry.kind == EntryKind::File;
        Some(WrittenEntry {
            name: kept.name(&own),
            kind: entry.kind,
            mode: entry.mode.unwrap_or_default(),
            size: if is_file { entry.size } else { 0 },
            modified_seconds: entry.modified_seconds.unwrap_or_default(),
            modified_nanos: tar.modified_nanos(content as usize).unwrap_or_default(),
            link_target: link_target.or(entry.link_target).unwrap_or_default(),
            owner: tar.owner(content as usize)?,
        })
    }
}

/// Content that streams is held in its compressed form for its links, up to a limit.
fn refuse_large(
    index: &TarIndex,
    shared: u32,
    links: &[u32],
    kept: &[KeptEntry],
) -> Result<(), OrderError> {
    const { assert!(HELD_BYTES_MAX <= SHARED_BYTES_MAX) };
    let (Some(entry), Some(link)) = (index.entry(shared as usize), links.first()) else {
        return Ok(());
    };
    if entry.size <= SHARED_BYTES_MAX {
        return Ok(());
    }
    let link = kept
        .get(*link as usize)
        .and_then(|kept| index.entry(kept.index as usize));
    Err(OrderError::HardLinkTooLarge {
        name: link.map(|link| shown(link.name)).unwrap_or_default(),
        target: shown(entry.name),
        size: entry.size,
        limit: SHARED_BYTES_MAX,
    })
}

/// A hard link whose target is no earlier file.
fn refuse_dangling(index: &TarIndex, kept: &KeptEntry) -> Result<(), OrderError> {
    match index.entry(kept.index as usize) {
        Some(entry) if entry.kind == EntryKind::HardLink => Err(OrderError::DanglingHardLink {
            name: shown(entry.name),
            target: shown(entry.link_target.unwrap_or_default()),
        }),
        _ => Ok(()),
    }
}
