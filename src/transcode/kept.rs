//! Blocks of one deflate stream inside another, bit for bit.
//!
//! Blocks begin at any bit. A stream that stands at a byte's start is brought to the bit by empty blocks, so that
//! all whole bytes of the run are the source's as they are; behind it an empty stored block brings the stream
//! to a byte's start again.
//!
//! ```text
//! ...bytes | empty blocks, first bits | whole bytes of the source | last bits, empty stored block | bytes...
//! ```

use crate::archive::gzip::Run;
use crate::object::ByteRange;

/// An empty block of the fixed codes: not the last, type 01, end of block 0000000.
const FIXED: (u128, u32) = (0b010, 10);

/// An empty block of 95 bits, with codes of its own: it moves the stream by an odd number of bits.
///
/// Every code in it is complete, which the pickiest of readers ask for.
const DYNAMIC: (u128, u32) = {
    // (value, bits), first one first; codes have their first bit lowest.
    let fields: [(u128, u32); 32] = {
        let mut fields = [(0, 3); 32];
        fields[0] = (0b100, 3); // not the last, type 10
        fields[1] = (0, 5); // 257 lengths
        fields[2] = (1, 5); // 2 distances
        fields[3] = (15, 4); // 19 lengths of the meta code, in their own order:
        fields[4 + 2] = (1, 3); // that of 18 (11 to 138 zeros)
        fields[4 + 17] = (1, 3); // that of 1
        fields[23] = (1, 1); // 18, the second of two codes of one bit
        fields[24] = (138 - 11, 7);
        fields[25] = (1, 1);
        fields[26] = (117 - 11, 7);
        fields[27] = (0, 1); // 1: literal 255
        fields[28] = (0, 1); // 1: end of block
        fields[29] = (0, 1); // 1: distance 1
        fields[30] = (0, 1); // 1: distance 2
        fields[31] = (1, 1); // end of block, the second of two codes of one bit
        fields
    };
    let (mut bits, mut count) = (0, 0);
    let mut rest: &[(u128, u32)] = &fields;
    while let [(field, length), others @ ..] = rest {
        bits |= *field << count;
        count += *length;
        rest = others;
    }
    (bits, count)
};

/// A run inside a stream that stands at a byte's start before and behind it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Spliced {
    /// Bytes before the source's.
    pub before: Vec<u8>,
    /// Bytes of the source.
    pub source: ByteRange,
    /// Bytes behind the source's.
    pub behind: Vec<u8>,
}

/// Puts a run, of some bytes at least, into a stream.
pub(super) fn splice(run: &Run) -> Spliced {
    let phase = (run.bit_start % 8) as u32;
    let (mut bits, mut count) = (0, 0);
    if phase % 2 == 1 {
        (bits, count) = DYNAMIC;
    }
    while count % 8 != phase {
        bits |= FIXED.0 << count;
        count += FIXED.1;
    }
    // The first byte's bits from the phase on are the run's own.
    if phase > 0 {
        bits |= u128::from(run.first >> phase) << count;
        count += 8 - phase;
    }
    let before = bits
        .to_le_bytes()
        .into_iter()
        .take(count as usize / 8)
        .collect();
    let mut behind = Vec::with_capacity(6);
    let rest = (run.bit_end % 8) as u32;
    // Three zeros make a stored block that is not the last; zeros fill its byte.
    behind.push(run.last & !(0xff << rest) as u8);
    if rest > 5 {
        behind.push(0);
    }
    behind.extend_from_slice(&[0, 0, 0xff, 0xff]);
    Spliced {
        before,
        source: ByteRange::new(run.bit_start.div_ceil(8), run.bit_end / 8),
        behind,
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Decompress, FlushDecompress, Status};

    use super::*;

    #[test]
    fn ok_the_empty_blocks_are_blocks_and_empty() {
        assert_eq!(DYNAMIC.1, 95);
        for (block, count) in [FIXED, DYNAMIC] {
            // Twice, then an empty last block of the fixed codes.
            let last = (0b011, 10);
            let mut bits: Vec<bool> = Vec::new();
            for (block, count) in [(block, count), (block, count), last] {
                bits.extend((0..count).map(|at| block >> at & 1 == 1));
            }
            let bytes: Vec<u8> = bits
                .chunks(8)
                .map(|bits| (0..).zip(bits).map(|(at, bit)| u8::from(*bit) << at).sum())
                .collect();
            let mut out = Vec::with_capacity(10);
            let mut inflate = Decompress::new(false);
            let status = inflate.decompress_vec(&bytes, &mut out, FlushDecompress::Finish);
            assert_eq!(status.unwrap(), Status::StreamEnd);
            assert_eq!((inflate.total_in(), out.len()), (bytes.len() as u64, 0));
        }
    }

    #[test]
    fn ok_every_phase_is_reached_and_left() {
        // One stored block of these bytes, placed at every bit; its length stands at a byte's start.
        let content: Vec<u8> = (0..100).collect();
        for start in 0..8u64 {
            let mut source = vec![0xff; 1];
            source[0] = !(0xffu32 << start) as u8;
            let stored_at = if start > 5 { 2 } else { 1 };
            source.resize(stored_at, 0);
            source.extend([100, 0, !100, 255]);
            source.extend(&content);
            let end = 8 * source.len() as u64;
            let run = Run {
                bit_start: start,
                bit_end: end,
                raw: ByteRange::new(0, 100),
                first: source[0],
                last: 0,
            };
            let spliced = splice(&run);
            let mut stream = spliced.before;
            stream.extend(&source[spliced.source.start as usize..spliced.source.end as usize]);
            stream.extend(spliced.behind);
            stream.extend([3, 0]);
            let mut out = Vec::with_capacity(1_000);
            let mut inflate = Decompress::new(false);
            let status = inflate.decompress_vec(&stream, &mut out, FlushDecompress::Finish);
            assert_eq!(
                (status.unwrap(), &out),
                (Status::StreamEnd, &content),
                "bit {start}"
            );
            assert_eq!(inflate.total_in(), stream.len() as u64);
        }
    }
}
