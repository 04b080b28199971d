//! Ranges of what a gzip stream inflates to, without inflating all of it.

use std::sync::Arc;

use super::sums::Verifying;
use super::{BlockMap, Gunzip, GzipError};
use crate::archive::Limits;
use crate::object::ByteRange;

/// Inflated bytes that are worth beginning anew behind them.
const SKIPPED_BYTES_MIN: u64 = 256 << 10;

/// A stretch of the stream that is inflated in one go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    /// The raw byte with whose point it begins; 0 for the stream's start.
    from: u64,
    /// The last raw byte that is wanted is before this one.
    to: u64,
    /// The byte of the stream that its first block begins in.
    start: u64,
    /// Its bytes in the stream, in whole pieces that can be verified.
    bytes: ByteRange,
}

/// Inflated bytes, and where they lie.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Raw<'a> {
    /// The first one's place.
    pub at: u64,
    /// The bytes.
    pub bytes: &'a [u8],
}

/// Inflates stretches of a stream. It is fed the bytes of [`Self::reads`], in this order, and verifies them.
pub(crate) struct GunzipRanges {
    map: Arc<BlockMap>,
    gunzip: Gunzip,
    verifying: Verifying,
    stretches: Vec<Stretch>,
    /// The stretch at hand, and how many of its bytes were taken.
    next: usize,
    taken: u64,
    is_begun: bool,
}

impl GunzipRanges {
    /// Ranges of the tar in the stream that `map` is of, ascending.
    pub fn new(
        map: Arc<BlockMap>,
        wanted: impl Iterator<Item = ByteRange>,
        limits: &Limits,
    ) -> Self {
        Self {
            gunzip: Gunzip::of_ranges(limits),
            verifying: Verifying::new(0),
            stretches: stretches(&map, wanted),
            next: 0,
            taken: 0,
            is_begun: false,
            map,
        }
    }

    /// The ranges of the stream that are needed; the last bytes of each may not be.
    pub fn reads(&self) -> Vec<ByteRange> {
        self.stretches.iter().map(|stretch| stretch.bytes).collect()
    }

    /// Takes some of `bytes`, says how many, and gives what came out of them; `None` where it needs more. What
    /// comes out is verified no sooner than [`Self::is_done`] says that all is.
    ///
    /// # Errors
    /// [`GzipError::Changed`]: the stream was read before, and was a sound one then.
    pub fn step(&mut self, bytes: &[u8]) -> Result<Option<(usize, Raw<'_>)>, GzipError> {
        while let Some(stretch) = self.stretches.get(self.next).copied() {
            if !std::mem::replace(&mut self.is_begun, true) {
                self.verifying = Verifying::new(stretch.bytes.start);
                if let Some(point) = self.map.point_before(stretch.from) {
                    self.gunzip.resume(point.bit, point.raw, &point.window);
                }
            }
            let left = stretch.bytes.length() - self.taken;
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            let piece = bytes.get(..left).unwrap_or(bytes);
            // Bytes before the stretch's first block are there to be verified.
            let before = stretch
                .start
                .saturating_sub(stretch.bytes.start + self.taken);
            let before = usize::try_from(before).unwrap_or(usize::MAX);
            let mut has_passed = false;
            let mut used = piece.len();
            let mut is_filled = false;
            if before > 0 {
                used = used.min(before);
            } else if self.gunzip.inflated < stretch.to {
                let offset = stretch.bytes.start + self.taken;
                let stepped = self.gunzip.step(piece);
                let (taken, boundary) = stepped.map_err(|_| GzipError::Changed { offset })?;
                used = taken;
                has_passed = boundary.is_some();
                is_filled = !self.gunzip.output().is_empty();
            }
            self.verifying
                .feed(&self.map, piece.get(..used).unwrap_or(piece))?;
            self.taken += used as u64;
            if used > 0 || is_filled {
                let output = match is_filled {
                    true => self.gunzip.output(),
                    false => &[],
                };
                let at = self.gunzip.inflated - output.len() as u64;
                return Ok(Some((used, Raw { at, bytes: output })));
            }
            if has_passed {
                continue;
            }
            if self.taken < stretch.bytes.length() || self.next + 1 == self.stretches.len() {
                return Ok(None);
            }
            (self.next, self.taken, self.is_begun) = (self.next + 1, 0, false);
        }
        Ok(None)
    }

    /// Whether all that is wanted has come out and is verified.
    pub fn is_done(&self) -> bool {
        match self.stretches.last() {
            Some(last) => {
                self.next + 1 == self.stretches.len()
                    && self.gunzip.inflated >= last.to
                    && self.verifying.is_done(self.map.sums())
            }
            None => true,
        }
    }
}

fn stretches(map: &BlockMap, wanted: impl Iterator<Item = ByteRange>) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    for wanted in wanted.filter(|wanted| !wanted.is_empty()) {
        let point = map.point_before(wanted.start);
        let from = point.map_or(0, |point| point.raw);
        match stretches.last_mut() {
            Some(last) if from < last.to.saturating_add(SKIPPED_BYTES_MIN) => {
                last.to = last.to.max(wanted.end);
            }
            _ => {
                let start = point.map_or(0, |point| point.bit / 8);
                stretches.push(Stretch {
                    from,
                    to: wanted.end,
                    start,
                    bytes: ByteRange::new(start, start),
                });
            }
        }
    }
    for stretch in &mut stretches {
        let end = map.byte_after(stretch.to).unwrap_or(u64::MAX);
        let bytes = ByteRange::new(stretch.start, end.max(stretch.start));
        stretch.bytes = map.widen(bytes);
    }
    stretches
}
