//! Symbolic links to folders: the agent looks through them, and makes and fills directories.
//!
//! Owns what `generate_directory_copy` finds behind a link. Targets that are not known (a zip's links are content,
//! and are not read for this) and links out of the bundle stay unjudged.

use std::collections::BTreeMap;

use super::bundle::{Bundle, Found, Known, Row};
use super::install::{DESTINATION_BYTES_MAX, Item, TooMuch, below, spend_lookup};
use crate::archive::EntryKind;

/// Links that are followed.
const LINKS_FOLLOWED_MAX: usize = 10_000;

/// Folders behind links that count as items of their own.
const LINKED_ITEMS_MAX: usize = 1_000;

/// Pairs of item and link that are looked at.
const PAIRS_MAX: usize = 1_000_000;

/// What each symbolic link of the bundle is to the agent, by row.
#[derive(Debug, Default)]
pub(super) struct Links(BTreeMap<u32, Leads>);

/// What is behind a link.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Leads {
    /// A folder of the bundle, by its path without links.
    Directory(Vec<u8>),
    /// A file, or nothing: the link itself is copied.
    File,
    Unknown,
}

impl Links {
    /// Follows the links that can be.
    pub fn follow(bundle: &Bundle<'_>, known: &Known) -> Self {
        let mut links = BTreeMap::new();
        for position in bundle.peculiar() {
            let Some(kept) = bundle.contents().entries.get(*position as usize) else {
                continue;
            };
            let Some(name) = bundle.entries().name(kept.index) else {
                continue;
            };
            let path = kept.name_in(name);
            let Some(row) = bundle
                .row_of(path)
                .filter(|row| bundle.kind_at(*row) == Some(EntryKind::Symlink))
            else {
                continue;
            };
            if links.len() >= LINKS_FOLLOWED_MAX {
                links.insert(row, Leads::Unknown);
                continue;
            }
            let resolved = bundle.resolve(path, known);
            let leads = match resolved.found {
                Found::Directory => Leads::Directory(resolved.path),
                Found::File(_) | Found::Special | Found::Missing => Leads::File,
                Found::Outside | Found::Unread(_) => Leads::Unknown,
            };
            links.insert(row, leads);
        }
        Self(links)
    }

    /// Whether the agent makes a directory of what stands in a row; `None` where that is not known.
    pub fn is_directory(&self, number: u32, row: &Row<'_>) -> Option<bool> {
        if row.is_link {
            self.is_directory_at(number)
        } else {
            Some(row.is_directory)
        }
    }

    fn is_directory_at(&self, row: u32) -> Option<bool> {
        match self.0.get(&row)? {
            Leads::Directory(_) => Some(true),
            Leads::File => Some(false),
            Leads::Unknown => None,
        }
    }

    /// What the agent makes of a path of the bundle; `None` for nothing, or where that is not known.
    pub fn made(&self, bundle: &Bundle<'_>, path: &[u8]) -> Option<bool> {
        if path.is_empty() {
            return Some(true);
        }
        let row = bundle.row_of(path)?;
        match bundle.kind_at(row)? {
            EntryKind::Symlink => self.is_directory_at(row),
            kind => Some(kind == EntryKind::Directory),
        }
    }

    /// Whether a path of the bundle is there, or may be behind a link that is not known.
    ///
    /// Every folder has a row: below the first that has none there is nothing, however long the path goes on.
    pub fn may_hold(
        &self,
        bundle: &Bundle<'_>,
        path: &str,
        budget: &mut usize,
    ) -> Result<bool, TooMuch> {
        for (end, _) in path.match_indices('/') {
            spend_lookup(budget, end)?;
            let folder = path.get(..end).unwrap_or_default();
            let Some(row) = bundle.row_of(folder.as_bytes()) else {
                return Ok(false);
            };
            if self.0.get(&row) == Some(&Leads::Unknown) {
                return Ok(true);
            }
        }
        spend_lookup(budget, path.len())?;
        Ok(path.is_empty() || bundle.row_of(path.as_bytes()).is_some())
    }

    /// Appends for each folder behind a link that an item copies an item of its own.
    ///
    /// A link to a folder that is already on the way to it is left out: the agent goes around until the system
    /// has enough.
    pub fn append(&self, bundle: &Bundle<'_>, items: &mut Vec<Item<'_>>) {
        let rows = (0_u32..).zip(bundle.rows());
        let folders: Vec<(&[u8], &[u8])> = rows
            .filter_map(|(number, row)| match self.0.get(&number)? {
                Leads::Directory(path) => Some((row.path, path.as_slice())),
                Leads::File | Leads::Unknown => None,
            })
            .collect();
        let declared = items.len();
        let mut pairs_left = PAIRS_MAX;
        let mut number = 0;
        while let Some(item) = items.get(number) {
            let mut appended = Vec::new();
            for (link, path) in &folders {
                let Some(left) = pairs_left.checked_sub(1) else {
                    return;
                };
                pairs_left = left;
                let (Ok(link), Ok(path)) = (std::str::from_utf8(link), std::str::from_utf8(path))
                else {
                    continue;
                };
                let Some(rest) = inside(link, &item.source).filter(|_| item.is_directory) else {
                    continue;
                };
                let is_circle = inside(link, path).is_some() || is_on_way(items, number, path);
                // Links behind links make paths longer each time, soon too long for any system.
                let length = item.target.len().saturating_add(rest.len());
                if !is_circle && length < DESTINATION_BYTES_MAX {
                    appended.push(Item {
                        mapping: item.mapping,
                        source: path.to_owned(),
                        is_directory: true,
                        target: format!("{}/{rest}", item.target.trim_end_matches('/')),
                        within: Some(number),
                    });
                }
            }
            if items
                .len()
                .saturating_sub(declared)
                .saturating_add(appended.len())
                > LINKED_ITEMS_MAX
            {
                return;
            }
            items.append(&mut appended);
            number = number.saturating_add(1);
        }
    }
}

/// What of `path` lies inside of a folder of the bundle, the root being empty.
fn inside<'p>(path: &'p str, folder: &str) -> Option<&'p str> {
    let rest = if folder.is_empty() {
        path
    } else {
        below(path, folder)?
    };
    (!rest.is_empty()).then_some(rest)
}

/// Whether a folder holds, or is, one that is copied on the way to an item.
fn is_on_way(items: &[Item<'_>], number: usize, folder: &str) -> bool {
    let mut next = items.get(number);
    while let Some(item) = next {
        if item.source == folder || inside(&item.source, folder).is_some() {
            return true;
        }
        next = item.within.and_then(|within| items.get(within));
    }
    false
}
