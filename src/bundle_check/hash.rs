//! A table of paths and its hash: a million paths of a hostile archive, hashed at memory speed.
//!
//! Owns the slots, the mixing (a folded 64 × 64 bit multiplication for each eight bytes) and its seed, which
//! differs for each table, so that nobody can choose paths that collide.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// An odd constant without pattern: the golden ratio's fraction.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Makes the hashers of one table.
#[derive(Debug, Clone)]
pub(super) struct PathHash {
    seed: u64,
    key: u64,
}

impl Default for PathHash {
    fn default() -> Self {
        let random = RandomState::new();
        Self {
            seed: random.hash_one(1),
            key: random.hash_one(2) | 1,
        }
    }
}

impl BuildHasher for PathHash {
    type Hasher = PathHasher;

    fn build_hasher(&self) -> PathHasher {
        PathHasher {
            state: self.seed,
            key: self.key,
        }
    }
}

/// One hash in the making.
#[derive(Debug)]
pub(super) struct PathHasher {
    state: u64,
    key: u64,
}

impl PathHasher {
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.state ^ word).wrapping_mul(u128::from(self.key | 1));
        self.state = (product as u64) ^ ((product >> 64) as u64);
        self.key = self.key.rotate_left(23);
    }
}

impl Hasher for PathHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        let mut last = [0_u8; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        self.mix(u64::from_le_bytes(last) ^ (bytes.len() as u64).rotate_left(56));
    }

    fn write_usize(&mut self, number: usize) {
        self.mix(number as u64);
    }

    fn finish(&self) -> u64 {
        let product = u128::from(self.state).wrapping_mul(u128::from(MULTIPLIER));
        (product as u64) ^ ((product >> 64) as u64)
    }
}

/// A table of paths, in the order of their insertion.
///
/// Slots are eight bytes (the hash's upper half, and the row's number from 1; 0 is free), so that a
/// hundred thousand paths are looked up in the processor's cache.
#[derive(Debug)]
pub(super) struct PathTable<'a, T> {
    slots: Vec<u64>,
    rows: Vec<(&'a [u8], T)>,
    hash: PathHash,
}

impl<'a, T> PathTable<'a, T> {
    /// An empty table with room for `count` paths.
    pub fn with_capacity(count: usize) -> Self {
        Self {
            slots: vec![0; slot_count(count)],
            rows: Vec::with_capacity(count),
            hash: PathHash::default(),
        }
    }

    /// How many paths there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The value of a path.
    pub fn get(&self, path: &[u8]) -> Option<&T> {
        let row = self.seek(path, self.hash.hash_one(path)).ok()?;
        self.rows.get(row).map(|(_, value)| value)
    }

    /// Sets the value of a path; answers the one that it had.
    pub fn insert(&mut self, path: &'a [u8], value: T) -> Option<T> {
        let hash = self.hash.hash_one(path);
        match self.seek(path, hash) {
            Ok(row) => {
                let (_, known) = self.rows.get_mut(row)?;
                Some(std::mem::replace(known, value))
            }
            Err(slot) => {
                self.rows.push((path, value));
                self.take(slot, hash, self.rows.len());
                if slot_count(self.rows.len()) > self.slots.len() {
                    self.grow();
                }
                None
            }
        }
    }

    /// All paths with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &T)> {
        self.rows.iter().map(|(path, value)| (*path, value))
    }

    /// The row of a path, or the free slot where it would go.
    fn seek(&self, path: &[u8], hash: u64) -> Result<usize, usize> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut slot = hash as usize & mask;
        // A quarter of the slots is free, so this ends.
        loop {
            let taken = self.slots.get(slot).copied().unwrap_or(0);
            let Some(row) = (taken as u32 as usize).checked_sub(1) else {
                return Err(slot);
            };
            if taken >> 32 == hash >> 32
                && self.rows.get(row).is_some_and(|(known, _)| *known == path)
            {
                return Ok(row);
            }
            slot = slot.wrapping_add(1) & mask;
        }
    }

    fn take(&mut self, slot: usize, hash: u64, row_from_1: usize) {
        if let Some(free) = self.slots.get_mut(slot) {
            *free = (hash & !u64::from(u32::MAX)) | row_from_1 as u64;
        }
    }

    fn grow(&mut self) {
        self.slots = vec![0; self.slots.len().saturating_mul(2)];
        for row in 0..self.rows.len() {
            let Some((path, _)) = self.rows.get(row) else {
                break;
            };
            let hash = self.hash.hash_one(*path);
            let mask = self.slots.len().wrapping_sub(1);
            let mut slot = hash as usize & mask;
            while self.slots.get(slot).is_some_and(|taken| *taken != 0) {
                slot = slot.wrapping_add(1) & mask;
            }
            self.take(slot, hash, row.saturating_add(1));
        }
    }
}

/// A power of two of which `count` is at most three quarters.
fn slot_count(count: usize) -> usize {
    count
        .saturating_add(count / 3)
        .saturating_add(2)
        .next_power_of_two()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ok_paths_that_differ_in_a_byte_or_in_length_differ() {
        let hash = PathHash::default();
        let mut seen = HashSet::new();
        let mut count = 0;
        for length in 0..64_usize {
            let path = vec![b'a'; length];
            seen.insert(hash.hash_one(path.as_slice()));
            count += 1;
            for at in 0..length {
                let mut other = path.clone();
                other[at] ^= 1;
                seen.insert(hash.hash_one(other.as_slice()));
                count += 1;
            }
        }
        assert_eq!(seen.len(), count);
    }

    #[test]
    fn ok_numbered_paths_fill_buckets_evenly() {
        let hash = PathHash::default();
        let mut buckets = vec![0_u32; 1 << 10];
        for number in 0..100_000 {
            let path = format!("node_modules/package/file-{number}.js");
            buckets[(hash.hash_one(path.as_bytes()) >> 54) as usize] += 1;
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
            assert_eq!(
                table.insert(path.as_bytes(), number),
                map.insert(path.as_bytes(), number)
            );
        }
        assert_eq!(table.len(), map.len());
        for (path, number) in table.iter() {
            assert_eq!(map.get(path), Some(number));
            assert_eq!(table.get(path), Some(number));
        }
        assert_eq!(table.get(b"none"), None);
    }

    #[test]
    fn ok_each_table_has_its_own_seed() {
        assert_ne!(
            PathHash::default().hash_one(b"a"),
            PathHash::default().hash_one(b"a")
        );
    }
}
