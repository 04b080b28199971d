//! A hash for path tables: a million paths of a hostile archive, hashed at memory speed.
//!
//! Owns the mixing (a folded 64 × 64 bit multiplication for each eight bytes) and its seed, which
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
        let product = u128::from(self.state ^ word).wrapping_mul(u128::from(self.key ^ MULTIPLIER));
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
    fn ok_each_table_has_its_own_seed() {
        assert_ne!(
            PathHash::default().hash_one(b"a"),
            PathHash::default().hash_one(b"a")
        );
    }
}
