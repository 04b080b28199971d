//! CRC-32s of a stream's bytes, piece by piece, so that a second reading of any of them can be verified.
//!
//! gzip's own checksums cover whole members: they prove the first reading, which reads all of it. Whoever reads
//! ranges later reads whole pieces, and compares.

use super::{BlockMap, GzipError};
use crate::object::ByteRange;

/// Bytes of a piece at first.
const PIECE_BYTES: u64 = 256 << 10;
/// Pieces that are remembered; where there are more, each becomes twice as long.
const PIECES_MAX: usize = 1 << 16;

/// The CRC-32 of each piece of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sums {
    piece_bytes: u64,
    /// Of all pieces; the last one may be shorter.
    sums: Vec<u32>,
    /// Bytes of the stream.
    end: u64,
}

impl Sums {
    /// The pieces that a range lies in.
    pub fn widen(&self, range: ByteRange) -> ByteRange {
        let start = range.start.min(self.end);
        let start = start - start % self.piece_bytes;
        let end = range.end.div_ceil(self.piece_bytes);
        let end = end.saturating_mul(self.piece_bytes).min(self.end);
        ByteRange::new(start, end.max(start))
    }
}

/// Makes [`Sums`] of a stream that is fed front to back.
pub(super) struct Summing {
    sums: Sums,
    piece: crc32fast::Hasher,
    filled: u64,
}

impl Default for Summing {
    fn default() -> Self {
        Self {
            sums: Sums {
                piece_bytes: PIECE_BYTES,
                sums: Vec::new(),
                end: 0,
            },
            piece: crc32fast::Hasher::new(),
            filled: 0,
        }
    }
}

impl Summing {
    pub fn feed(&mut self, mut bytes: &[u8]) {
        self.sums.end = self.sums.end.saturating_add(bytes.len() as u64);
        while !bytes.is_empty() {
            let (piece, later) = split(bytes, self.sums.piece_bytes - self.filled);
            self.piece.update(piece);
            self.filled += piece.len() as u64;
            bytes = later;
            if self.filled == self.sums.piece_bytes {
                self.close();
            }
        }
    }

    fn close(&mut self) {
        let Sums {
            sums, piece_bytes, ..
        } = &mut self.sums;
        sums.push(std::mem::take(&mut self.piece).finalize());
        if self.filled == *piece_bytes && sums.len() == PIECES_MAX {
            let pair = |pair: &[u32]| {
                let mut all = crc32fast::Hasher::new();
                for sum in pair {
                    let sum = crc32fast::Hasher::new_with_initial_len(*sum, *piece_bytes);
                    all.combine(&sum);
                }
                all.finalize()
            };
            *sums = sums.chunks(2).map(pair).collect();
            *piece_bytes *= 2;
        }
        self.filled = 0;
    }

    pub fn finish(mut self) -> Sums {
        if self.filled > 0 {
            self.close();
        }
        self.sums.sums.shrink_to_fit();
        self.sums
    }
}

/// Compares whole pieces, read front to back, with their sums.
pub(crate) struct Verifying {
    at: u64,
    piece: crc32fast::Hasher,
}

impl Verifying {
    /// Of bytes that begin with the piece that begins at `start`.
    pub fn new(start: u64) -> Self {
        Self {
            at: start,
            piece: crc32fast::Hasher::new(),
        }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`GzipError::Changed`] at the end of a piece that is not what it was.
    pub fn feed(&mut self, map: &BlockMap, bytes: &[u8]) -> Result<(), GzipError> {
        self.compare(map.sums(), bytes)
    }

    fn compare(&mut self, sums: &Sums, mut bytes: &[u8]) -> Result<(), GzipError> {
        while !bytes.is_empty() {
            let number = self.at / sums.piece_bytes;
            let start = number * sums.piece_bytes;
            let end = start.saturating_add(sums.piece_bytes).min(sums.end);
            let changed = GzipError::Changed { offset: start };
            let (piece, later) = split(bytes, end.saturating_sub(self.at));
            if piece.is_empty() {
                return Err(changed);
            }
            self.piece.update(piece);
            self.at += piece.len() as u64;
            bytes = later;
            if self.at == end {
                let expected = usize::try_from(number)
                    .ok()
                    .and_then(|number| sums.sums.get(number));
                let found = std::mem::take(&mut self.piece).finalize();
                if expected != Some(&found) {
                    return Err(changed);
                }
            }
        }
        Ok(())
    }

    /// Whether all that was taken is verified.
    pub(super) fn is_done(&self, sums: &Sums) -> bool {
        self.at == sums.end || self.at.is_multiple_of(sums.piece_bytes)
    }
}

fn split(bytes: &[u8], first: u64) -> (&[u8], &[u8]) {
    let first = usize::try_from(first).unwrap_or(usize::MAX);
    bytes.split_at_checked(first).unwrap_or((bytes, &[]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summed(bytes: &[u8], piece: usize) -> Sums {
        let mut summing = Summing::default();
        bytes.chunks(piece).for_each(|piece| summing.feed(piece));
        summing.finish()
    }

    fn verify(sums: &Sums, range: ByteRange, bytes: &[u8], piece: usize) -> Result<(), GzipError> {
        let mut verifying = Verifying::new(range.start);
        for piece in bytes[range.start as usize..range.end as usize].chunks(piece) {
            verifying.compare(sums, piece)?;
        }
        assert!(verifying.is_done(sums));
        Ok(())
    }

    #[test]
    fn ok_any_range_is_verified_with_the_pieces_that_it_lies_in() {
        let bytes: Vec<u8> = (0..700_000u32).map(|at| (at / 251) as u8).collect();
        let sums = summed(&bytes, 1_000);
        assert_eq!(sums, summed(&bytes, 1 << 20), "the cuts changed the sums");
        let piece = PIECE_BYTES;
        for (start, end) in [
            (0, 1),
            (0, piece),
            (piece - 1, piece + 1),
            (600_000, 700_000),
        ] {
            let wide = sums.widen(ByteRange::new(start, end));
            assert!(wide.start <= start && end <= wide.end && wide.end <= 700_000);
            assert_eq!(wide.start % piece, 0);
            for piece in [999, 300_000] {
                assert_eq!(verify(&sums, wide, &bytes, piece), Ok(()));
            }
            let mut damaged = bytes.clone();
            damaged[end as usize - 1] ^= 1;
            let offset = (end - 1) / piece * piece;
            assert_eq!(
                verify(&sums, wide, &damaged, 999),
                Err(GzipError::Changed { offset })
            );
        }
        // Bytes behind the end are none of the stream's.
        let mut verifying = Verifying::new(2 * piece);
        let longer = [&bytes[2 * piece as usize..], b"x"].concat();
        assert!(verifying.compare(&sums, &longer).is_err());
    }

    #[test]
    fn ok_a_stream_of_any_length_has_no_more_than_so_many_sums() {
        let bytes: Vec<u8> = (0..400_000u32).map(|at| (at / 251) as u8).collect();
        let mut summing = Summing::default();
        summing.sums.piece_bytes = 3;
        summing.feed(&bytes);
        let sums = summing.finish();
        assert_eq!(sums.piece_bytes, 12);
        assert!(
            sums.sums.iter().eq(bytes
                .chunks(12)
                .map(crc32fast::hash)
                .collect::<Vec<_>>()
                .iter())
        );
        assert_eq!(
            verify(&sums, ByteRange::new(1_200, 400_000), &bytes, 5),
            Ok(())
        );
    }
}
