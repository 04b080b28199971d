//! Listings of keys, versions and uploads: prefix, delimiter, paging.
//!
//! Owns the order and the folding into common prefixes; knows no XML. Keys are ordered by their
//! UTF-8 bytes, as S3 orders them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::error::StoreError;
use super::object::{Content, Version};
use super::store::Store;
use super::uploads::Upload;

/// Most entries of a page.
pub const PAGE_ENTRIES_MAX: usize = 1000;

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct Listed<'a> {
    /// Only keys that begin with it.
    pub prefix: &'a str,
    /// Keys are folded up to its first occurrence behind the prefix.
    pub delimiter: &'a str,
    /// Only keys behind it; where it is a common prefix, only those behind all that it stands for.
    pub after: Option<&'a str>,
    /// Page size, up to [`PAGE_ENTRIES_MAX`].
    pub entries_max: usize,
}

/// A page.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// Entries in order, with their keys.
    pub entries: Vec<(String, T)>,
    /// Common prefixes in order.
    pub prefixes: Vec<String>,
    /// Where the next page goes on; `None` on the last one.
    pub next: Option<String>,
}

/// A version with its place among those of its key.
#[derive(Debug, Clone)]
pub struct Placed {
    /// The version.
    pub version: Arc<Version>,
    /// Whether it is the current one.
    pub is_latest: bool,
}

impl Listed<'_> {
    /// The common prefix that a key is folded into.
    fn folded<'k>(&self, key: &'k str) -> Option<&'k str> {
        if self.delimiter.is_empty() {
            return None;
        }
        let at = key.get(self.prefix.len()..)?.find(self.delimiter)?;
        key.get(..self.prefix.len() + at + self.delimiter.len())
    }

    /// Fills a page from keys in order; `expand` gives the entries of a key.
    ///
    /// All entries of one key come on one page, which may pass the page size by them.
    fn page<'s, V: 's, T>(
        &self,
        keys: &'s BTreeMap<String, V>,
        expand: impl Fn(&'s V) -> Vec<T>,
    ) -> Page<T> {
        let mut page = Page {
            entries: Vec::new(),
            prefixes: Vec::new(),
            next: None,
        };
        let mut last = self.after;
        let start = match self.after {
            Some(after) if after >= self.prefix => Bound::Excluded(after),
            _ => Bound::Included(self.prefix),
        };
        let is_fold = |text: &str| self.folded(text) == Some(text);
        for (key, held) in keys.range::<str, _>((start, Bound::Unbounded)) {
            if !key.starts_with(self.prefix) {
                break;
            }
            if last.is_some_and(|last| is_fold(last) && key.starts_with(last)) {
                continue;
            }
            let found = expand(held);
            if found.is_empty() {
                continue;
            }
            if page.entries.len() + page.prefixes.len() >= self.entries_max {
                page.next = last.map(str::to_owned);
                break;
            }
            if let Some(folded) = self.folded(key) {
                page.prefixes.push(folded.to_owned());
                last = Some(folded);
            } else {
                page.entries
                    .extend(found.into_iter().map(|found| (key.clone(), found)));
                last = Some(key);
            }
        }
        page
    }
}

impl Store {
    /// Objects: current versions that are no delete markers.
    pub fn list(
        &self,
        bucket: &str,
        listed: &Listed<'_>,
    ) -> Result<Page<(Arc<Version>, Content)>, StoreError> {
        let mut state = self.state();
        let keys = &state.bucket(bucket)?.keys;
        Ok(listed.page(keys, |key| {
            let current = key.versions.last();
            let found =
                current.and_then(|version| Some((Arc::clone(version), version.content.clone()?)));
            found.into_iter().collect()
        }))
    }

    /// All versions and delete markers, of each key the newest first.
    pub fn list_versions(
        &self,
        bucket: &str,
        listed: &Listed<'_>,
    ) -> Result<Page<Placed>, StoreError> {
        let mut state = self.state();
        let keys = &state.bucket(bucket)?.keys;
        Ok(listed.page(keys, |key| {
            let newest_first = key.versions.iter().rev().enumerate();
            newest_first
                .map(|(at, version)| Placed {
                    version: Arc::clone(version),
                    is_latest: at == 0,
                })
                .collect()
        }))
    }

    /// Uploads in progress, with their ids.
    pub fn list_uploads(
        &self,
        bucket: &str,
        listed: &Listed<'_>,
    ) -> Result<Page<(String, Upload)>, StoreError> {
        let mut state = self.state();
        let mut by_key = BTreeMap::<String, Vec<(String, Upload)>>::new();
        for (id, upload) in &state.bucket(bucket)?.uploads {
            let same = by_key.entry(upload.key.clone()).or_default();
            same.push((id.clone(), upload.clone()));
        }
        Ok(listed.page(&by_key, Clone::clone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::s3::{Attributes, Versioning};

    fn store(keys: &[&str]) -> Store {
        let store = Store::new(None).unwrap();
        store.create_bucket("bucket").unwrap();
        for key in keys {
            store
                .put("bucket", key, "x", Attributes::default())
                .unwrap();
        }
        store
    }

    /// Walks all pages of `entries_max` and gives what they hold, prefixes with `*`.
    fn walk(store: &Store, prefix: &str, delimiter: &str, entries_max: usize) -> Vec<String> {
        let (mut found, mut after) = (Vec::new(), None::<String>);
        loop {
            let listed = Listed {
                prefix,
                delimiter,
                after: after.as_deref(),
                entries_max,
            };
            let page = store.list("bucket", &listed).unwrap();
            let mut entries: Vec<_> = page.entries.iter().map(|(key, _)| key.clone()).collect();
            entries.extend(page.prefixes.iter().map(|prefix| format!("{prefix}*")));
            assert!(entries.len() <= entries_max);
            found.extend(entries);
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        found.sort();
        found
    }

    #[test]
    fn ok_pages_of_any_size_hold_everything_once() {
        let keys = [
            "a", "a/1", "a/2", "a/b/3", "a0", "b/1", "b/1/2", "c", "é/x", "é/y",
        ];
        let store = store(&keys);
        let mut all: Vec<_> = keys.map(str::to_owned).to_vec();
        all.sort();
        for size in 1..12 {
            assert_eq!(walk(&store, "", "", size), all, "{size}");
            assert_eq!(
                walk(&store, "", "/", size),
                ["a", "a/*", "a0", "b/*", "c", "é/*"],
                "{size}"
            );
            assert_eq!(
                walk(&store, "a/", "/", size),
                ["a/1", "a/2", "a/b/*"],
                "{size}"
            );
            assert_eq!(walk(&store, "b", "/", size), ["b/*"], "{size}");
        }
    }

    #[test]
    fn ok_deleted_keys_are_listed_as_versions_alone() {
        let store = store(&["a", "b"]);
        store.set_versioning("bucket", Versioning::Enabled).unwrap();
        store.delete("bucket", "a", None, None).unwrap();
        assert_eq!(walk(&store, "", "", 10), ["b"]);
        let listed = Listed {
            entries_max: 10,
            ..Listed::default()
        };
        let page = store.list_versions("bucket", &listed).unwrap();
        let seen: Vec<_> = page
            .entries
            .iter()
            .map(|(key, placed)| {
                (
                    key.as_str(),
                    placed.version.content.is_none(),
                    placed.is_latest,
                )
            })
            .collect();
        assert_eq!(
            seen,
            [("a", true, true), ("a", false, false), ("b", false, true)]
        );
    }
}
