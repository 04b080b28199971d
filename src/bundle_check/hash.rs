//! Tables of paths and names, and their hash: a million paths of a hostile archive, hashed at memory speed.
//!
//! Owns the slots, the mixing (a folded 64 × 64 bit multiplication for each eight bytes) and its seed, which
//! differs for each table, so that nobody can choose paths that collide. A path's hash continues its
//! folder's: whoever knows the folder's hashes the last component only.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// The hash of one table.
#[derive(Debug, Clone)]
struct PathHash {
    seed: u64,
    key: u64,
}

impl PathHash {
    fn new() -> Self {
        let random = RandomState::new();
        Self {
            seed: random.hash_one(1),
            key: random.hash_one(2) | 1,
        }
    }

    /// The hash of `component` in a folder; `None` for the top.
    fn below(&self, folder: Option<u64>, component: &[u8]) -> u64 {
        let (words, rest) = component.as_chunks::<8>();
        let mut state = folder.unwrap_or(self.seed);
        for word in words {
            state = self.mix(state, u64::from_le_bytes(*word));
        }
        let last = rest
            .iter()
            .rev()
            .fold(0_u64, |last, &byte| last << 8 | u64::from(byte));
        self.mix(state, last ^ (component.len() as u64).rotate_left(56))
    }

    fn mix(&self, state: u64, word: u64) -> u64 {
        let product = u128::from(state ^ word).wrapping_mul(u128::from(self.key));
        (product as u64) ^ ((product >> 64) as u64)
    }

    /// The hash of a whole path.
    fn of(&self, path: &[u8]) -> u64 {
        let components = path.split(|&byte| byte == b'/');
        components.fold(self.seed, |folder, component| {
            self.below(Some(folder), component)
        })
    }
}

/// A table of paths.
pub(super) type PathTable<'a, T> = Table<&'a [u8], T>;

/// A table of names, each in a folder that has a number.
pub(super) type NameTable<'a, T> = Table<(u32, &'a [u8]), T>;

/// A table whose rows are numbered in the order of their insertion.
///
/// Slots are eight bytes (the hash's upper half, and the row's number from 1; 0 is free), so that a
/// hundred thousand keys are looked up in the processor's cache.
#[derive(Debug)]
pub(super) struct Table<K, T> {
    slots: Vec<u64>,
    /// Rows that leave a quarter of the slots free.
    rows_max: usize,
    rows: Vec<(K, T)>,
    hash: PathHash,
}

impl<T> PathTable<'_, T> {
    /// The value of a path.
    pub fn get(&self, path: &[u8]) -> Option<&T> {
        let row = self.row_of(path)?;
        self.rows.get(row as usize).map(|(_, value)| value)
    }

    /// The row of a path.
    pub fn row_of(&self, path: &[u8]) -> Option<u32> {
        let is_path = |known: &[u8]| known == path;
        let row = self.seek(is_path, self.hash.of(path)).ok()?;
        u32::try_from(row).ok()
    }

    /// The hash of the path of `name` in a folder with this hash (`None` at the top).
    pub fn hash(&self, folder: Option<u64>, name: &[u8]) -> u64 {
        self.hash.below(folder, name)
    }
}

impl<T> NameTable<'_, T> {
    /// The hash of `name` in the folder with this number.
    pub fn hash_in(&self, folder: u32, name: &[u8]) -> u64 {
        let folder = self.hash.mix(self.hash.seed, u64::from(folder));
        self.hash.below(Some(folder), name)
    }
}

impl<K: Copy + PartialEq, T> Table<K, T> {
    /// An empty table with room for `count` keys.
    pub fn with_capacity(count: usize) -> Self {
        let slots = slot_count(count);
        Self {
            slots: vec![0; slots],
            rows_max: slots / 4 * 3,
            rows: Vec::with_capacity(count),
            hash: PathHash::new(),
        }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The row of a key with this hash, and its value; if there is none, one with `value` is made and no
    /// value answered.
    pub fn get_or_insert(&mut self, key: K, hash: u64, value: T) -> (u32, Option<&mut T>) {
        match self.seek(|known| known == key, hash) {
            Ok(row) => {
                let known = self.rows.get_mut(row).map(|(_, value)| value);
                (row as u32, known)
            }
            Err(slot) => {
                let row = self.rows.len() as u32;
                self.rows.push((key, value));
                if let Some(free) = self.slots.get_mut(slot) {
                    *free = hash & UPPER_HALF | self.rows.len() as u64;
                }
                if self.rows.len() > self.rows_max {
                    self.grow();
                }
                (row, None)
            }
        }
    }

    /// The key and the value of a row.
    pub fn row(&self, row: u32) -> Option<(K, &T)> {
        self.rows
            .get(row as usize)
            .map(|(key, value)| (*key, value))
    }

    /// All keys with their values, by row.
    pub fn iter(&self) -> impl Iterator<Item = (K, &T)> {
        self.rows.iter().map(|(key, value)| (*key, value))
    }

    /// The row of a key, or the free slot where it would go.
    fn seek(&self, is_key: impl Fn(K) -> bool, hash: u64) -> Result<usize, usize> {
        let mut slot = self.first_slot(hash);
        // A quarter of the slots is free, so this ends.
        loop {
            let taken = self.slots.get(slot).copied().unwrap_or(0);
            let Some(row) = (taken as u32 as usize).checked_sub(1) else {
                return Err(slot);
            };
            if (taken ^ hash) & UPPER_HALF == 0
                && self.rows.get(row).is_some_and(|(known, _)| is_key(*known))
            {
                return Ok(row);
            }
            slot = self.next_slot(slot);
        }
    }

    /// Where the search for a hash, or for a slot's content, begins: both have the same upper half.
    fn first_slot(&self, hash: u64) -> usize {
        (hash >> 32) as usize & self.slots.len().wrapping_sub(1)
    }

    fn next_slot(&self, slot: usize) -> usize {
        slot.wrapping_add(1) & self.slots.len().wrapping_sub(1)
    }

    fn grow(&mut self) {
        let more = vec![0; self.slots.len().saturating_mul(2)];
        self.rows_max = more.len() / 4 * 3;
        for taken in std::mem::replace(&mut self.slots, more) {
            if taken == 0 {
                continue;
            }
            let mut slot = self.first_slot(taken);
            while self.slots.get(slot).is_some_and(|other| *other != 0) {
                slot = self.next_slot(slot);
            }
            if let Some(free) = self.slots.get_mut(slot) {
                *free = taken;
            }
        }
    }
}

/// The part of a hash that a slot keeps.
const UPPER_HALF: u64 = 0xffff_ffff_0000_0000;

/// A power of two of which `count` is at most three quarters.
fn slot_count(count: usize) -> usize {
    count
        .saturating_add(count / 3)
        .saturating_add(4)
        .next_power_of_two()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ok_paths_that_differ_in_a_byte_or_in_length_differ() {
        let hash = PathHash::new();
        let mut seen = HashSet::new();
        let mut count = 0;
        for length in 0..64_usize {
            let path = vec![b'a'; length];
            seen.insert(hash.of(&path));
            count += 1;
            for at in 0..length {
                let mut other = path.clone();
                other[at] ^= 1;
                seen.insert(hash.of(&other));
                count += 1;
            }
        }
        assert_eq!(seen.len(), count);
    }

    #[test]
    fn ok_numbered_paths_fill_buckets_evenly() {
        let hash = PathHash::new();
        let mut buckets = vec![0_u32; 1 << 10];
        for number in 0..100_000 {
            let path = format!("node_modules/package/file-{number}.js");
            buckets[(hash.of(path.as_bytes()) >> 54) as usize] += 1;
        }
        let most = buckets.iter().max().copied().unwrap();
        assert!(most < 200, "about 98 expected, {most} found");
    }

    #[test]
    fn ok_a_table_holds_what_a_map_holds() {
        let paths: Vec<String> = (0..5_000)
            .map(|number| format!("f{}", number * 7 % 3_000))
            .collect();
        let mut table = PathTable::with_capacity(0);
        let mut map = std::collections::HashMap::new();
        for (number, path) in paths.iter().enumerate() {
            let hash = table.hash(None, path.as_bytes());
            let old = table
                .get_or_insert(path.as_bytes(), hash, number)
                .1
                .map(|known| std::mem::replace(known, number));
            assert_eq!(old, map.insert(path.as_bytes(), number));
        }
        assert_eq!(table.len(), map.len());
        for (path, number) in table.iter() {
            assert_eq!(map.get(path), Some(number));
            assert_eq!(table.get(path), Some(number));
            let row = table.row_of(path).unwrap();
            assert_eq!(table.row(row), Some((path, number)));
        }
        assert_eq!(table.get(b"none"), None);
    }

    #[test]
    fn ok_a_name_is_another_in_another_folder() {
        let mut table: NameTable<'_, u32> = NameTable::with_capacity(0);
        for round in 0..2 {
            for folder in 0..100 {
                for name in ["a", "b", "node_modules"] {
                    let hash = table.hash_in(folder, name.as_bytes());
                    let (row, known) = table.get_or_insert((folder, name.as_bytes()), hash, folder);
                    assert_eq!(known.copied(), (round == 1).then_some(folder));
                    assert_eq!(table.row(row), Some(((folder, name.as_bytes()), &folder)));
                }
            }
        }
        assert_eq!(table.len(), 300);
        let differ = |one: u32, other: u32| table.hash_in(one, b"a") != table.hash_in(other, b"a");
        assert!(differ(0, 1) && differ(1, 2));
    }

    #[test]
    fn ok_a_paths_hash_continues_its_folders() {
        let table: PathTable<'_, ()> = PathTable::with_capacity(0);
        let folder = table.hash(Some(table.hash(None, b"a")), b"bc");
        assert_eq!(table.hash(Some(folder), b"d"), table.hash.of(b"a/bc/d"));
        assert_ne!(table.hash.of(b"a/bc"), table.hash.of(b"ab/c"));
    }

    #[test]
    fn ok_each_table_has_its_own_seed() {
        assert_ne!(PathHash::new().of(b"a"), PathHash::new().of(b"a"));
    }
}
