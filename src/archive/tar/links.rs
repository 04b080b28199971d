//! Which entry's content a hard link shares.
//!
//! A hard link names its target; the file meant is the last entry of that name before the link, as a
//! reader that goes front to back would find it.

use std::collections::HashMap;

use super::{TarIndex, relative};
use crate::archive::EntryKind;

/// For each hard link of an index the entry that it shares its file with.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct HardLinks {
    /// Link and target, ascending by link; the target is never a hard link itself.
    targets: Vec<(u32, Option<u32>)>,
}

impl HardLinks {
    /// Finds the targets; costs nothing but one pass where there is no hard link.
    pub fn resolve(index: &TarIndex) -> Self {
        let mut latest: HashMap<&[u8], Option<u32>> = HashMap::new();
        for at in 0..index.len() {
            if let Some((_, target)) = index.hard_link(at) {
                latest.insert(target, None);
            }
        }
        let mut targets = Vec::new();
        if latest.is_empty() {
            return Self { targets };
        }
        for (at, position) in (0..index.len()).zip(0u32..) {
            let Some(entry) = index.entry(at) else {
                continue;
            };
            let mut meant = Some(position);
            if let Some((_, target)) = index.hard_link(at) {
                meant = latest.get(target).copied().flatten();
                targets.push((position, meant));
            }
            if let Some(known) = latest.get_mut(trimmed(entry.name)) {
                *known = meant;
            }
        }
        Self { targets }
    }

    /// The entry whose file the hard link at position `link` shares; `None` where its target does not
    /// come before it, or where it is no hard link.
    pub fn target(&self, link: u32) -> Option<u32> {
        let at = self
            .targets
            .binary_search_by_key(&link, |(link, _)| *link)
            .ok()?;
        self.targets.get(at)?.1
    }
}

impl TarIndex {
    /// Name and target of the entry at `at`, if it is a hard link.
    fn hard_link(&self, at: usize) -> Option<(&[u8], &[u8])> {
        let entry = self.entry(at)?;
        let target = entry
            .link_target
            .filter(|_| entry.kind == EntryKind::HardLink)?;
        Some((trimmed(entry.name), trimmed(target)))
    }
}

fn trimmed(name: &[u8]) -> &[u8] {
    let name = relative(name);
    name.strip_suffix(b"/").unwrap_or(name)
}
