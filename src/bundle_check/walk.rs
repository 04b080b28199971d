//! One way through the bundle for all items of `files`: which of them copy the path at hand.
//!
//! Owns the walk alone. An archive lists a folder's files one after another, so what is known of a folder is
//! asked for once, and shared by all folders below it that add nothing.

use std::collections::HashMap;

use super::bundle::Bundle;
use super::install::Item;
use crate::contents::Trail;

/// Which items fill which folder of the bundle.
pub(super) struct Walk<'i> {
    /// Folder of the bundle to positions of the items whose source it is.
    sources: HashMap<&'i [u8], Vec<usize>>,
}

impl<'i> Walk<'i> {
    /// For the items that `wanted` picks by their position.
    pub fn over(items: &'i [Item<'_>], wanted: impl Fn(usize) -> bool) -> Self {
        let mut sources: HashMap<&[u8], Vec<usize>> = HashMap::new();
        for (number, item) in items.iter().enumerate() {
            if item.is_directory && wanted(number) {
                sources
                    .entry(item.source.as_bytes())
                    .or_default()
                    .push(number);
            }
        }
        Self { sources }
    }

    /// Positions of the items whose source is this folder itself.
    pub fn starting_at(&self, folder: &[u8]) -> &[usize] {
        self.sources.get(folder).map_or(&[], Vec::as_slice)
    }

    /// Calls `visit` with each path of the bundle that items copy, in the bundle's order: the items' positions,
    /// the path, and whether it is a directory. Ends when `visit` answers nothing.
    pub fn each<'b>(
        &self,
        bundle: &Bundle<'b>,
        mut visit: impl FnMut(&[usize], &'b [u8], bool) -> Option<()>,
    ) -> Option<()> {
        let mut lists: Vec<Vec<usize>> = vec![self.starting_at(b"").to_vec()];
        let mut trail: Trail<usize> = Trail::new();
        for (path, is_directory) in bundle.paths() {
            let list = trail.follow(path, |above, folder, _| {
                let above = above.copied().unwrap_or(0);
                let starting = self.starting_at(folder);
                if starting.is_empty() {
                    return above;
                }
                let mut list = lists.get(above).cloned().unwrap_or_default();
                list.extend(starting);
                lists.push(list);
                lists.len().saturating_sub(1)
            });
            let list = lists.get(list.copied().unwrap_or(0));
            if let Some(list) = list.filter(|list| !list.is_empty()) {
                visit(list, path, is_directory)?;
            }
        }
        Some(())
    }
}
