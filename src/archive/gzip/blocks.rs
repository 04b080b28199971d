//! Which deflate blocks of a tar.gz hold nothing but one large file, and where its inflating may begin anew.
//!
//! A deflate block refers to the 32 KiB before it at most. One that begins at least so far inside a file, or
//! at the start of a member inside it, and ends inside it too, stands for a piece of that file and for nothing
//! else, whatever is put around it. A block that is its member's last is told so by its first bit, and is
//! left out.

use super::Boundary;
use super::sums::Sums;
use crate::archive::tar::{TarError, TarScanner};
use crate::object::ByteRange;

/// Files from this size on are looked at.
pub(crate) const LARGE_BYTES_MIN: u64 = 1 << 20;
/// Inflated bytes that are rather inflated once more than passed over: a run of fewer saves no reading.
pub(crate) const PASSED_BYTES_MIN: u64 = 1 << 20;
/// Runs that are remembered; those after them are not.
const RUNS_MAX: usize = 1 << 16;
/// Places to resume at, each with a window of 32 KiB.
const POINTS_MAX: usize = 256;
/// Inflated bytes between them at first; where there are too many, it doubles.
const POINT_GAP_BYTES: u64 = 1 << 20;
/// The last block of a large file begins at most so far before its end, else the place is not worth it.
const TAIL_BYTES_MAX: u64 = 1 << 20;

/// Blocks of a gzip stream in a row that hold a piece of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// First bit of the stream.
    pub bit_start: u64,
    /// First bit after it.
    pub bit_end: u64,
    /// The bytes that they inflate to.
    pub raw: ByteRange,
    /// The byte that the first bit lies in, where it is not that byte's first.
    pub first: u8,
    /// The byte that the first bit after it lies in, where it is not that byte's first.
    pub last: u8,
}

/// A large file of which blocks can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LargeFile {
    index: u32,
    crc32: u32,
    /// Its first run; the next file's first run ends them.
    runs: u32,
}

/// Where inflating may begin anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Point {
    /// First bit of a block.
    pub bit: u64,
    /// Bytes inflated before it.
    pub raw: u64,
    /// The last of these.
    pub window: Box<[u8]>,
}

/// What a second reading of a tar.gz needs to know of its stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockMap {
    files: Vec<LargeFile>,
    runs: Vec<Run>,
    points: Vec<Point>,
    sums: Sums,
}

impl BlockMap {
    /// CRC-32 of the entry at `index` and the runs inside it, if there are any.
    pub(crate) fn runs(&self, index: u32) -> Option<(u32, &[Run])> {
        let at = self.files.binary_search_by_key(&index, |file| file.index);
        let at = at.ok()?;
        let file = self.files.get(at)?;
        let end = self
            .files
            .get(at + 1)
            .map_or(self.runs.len(), |next| next.runs as usize);
        let runs = self.runs.get(file.runs as usize..end)?;
        Some((file.crc32, runs))
    }

    /// The least range around `range` whose bytes can be verified.
    pub(crate) fn widen(&self, range: ByteRange) -> ByteRange {
        self.sums.widen(range)
    }

    /// What the stream's bytes are verified against.
    pub(super) fn sums(&self) -> &Sums {
        &self.sums
    }

    /// The last place to resume at that has no more than `raw` bytes before it.
    pub(crate) fn point_before(&self, raw: u64) -> Option<&Point> {
        let after = self.points.partition_point(|point| point.raw <= raw);
        self.points.get(after.checked_sub(1)?)
    }

    /// A byte of the stream at or before which everything up to `raw` has come out, if one is known.
    pub(crate) fn byte_after(&self, raw: u64) -> Option<u64> {
        let point = self.points.partition_point(|point| point.raw < raw);
        let point = self.points.get(point).map(|point| point.bit);
        let run = self.runs.partition_point(|run| run.raw.end < raw);
        let run = self.runs.get(run).map(|run| match run.raw.start >= raw {
            true => run.bit_start,
            false => run.bit_end,
        });
        let bit = point.into_iter().chain(run).min()?;
        Some(bit.div_ceil(8))
    }
}

/// Makes a [`BlockMap`] while a tar is scanned.
#[derive(Default)]
pub(super) struct Mapper {
    files: Vec<LargeFile>,
    runs: Vec<Run>,
    points: Vec<Point>,
    /// Inflated bytes scanned.
    raw: u64,
    open: Option<Open>,
    gap: u64,
}

/// The large file at hand.
struct Open {
    index: u32,
    data: ByteRange,
    crc32: crc32fast::Hasher,
    first_run: usize,
    run: Option<Run>,
    tail: Option<Point>,
}

impl Mapper {
    /// Gives output to the scanner. Where a large file lies in it, hashes it on the way: gives the hash of all
    /// of it.
    pub fn scan(
        &mut self,
        output: &[u8],
        scanner: &mut TarScanner,
    ) -> Result<Option<crc32fast::Hasher>, TarError> {
        let mut hash: Option<crc32fast::Hasher> = None;
        let (mut at, mut hashed) = (0, 0);
        let base = self.raw;
        while at < output.len() {
            let is_inside = self.open.as_ref().is_some_and(|open| {
                base + at as u64 >= open.data.start && base + (at as u64) < open.data.end
            });
            let rest = output.get(at..).unwrap_or_default();
            let piece = match &self.open {
                Some(open) if is_inside => {
                    let left = usize::try_from(open.data.end - base - at as u64);
                    rest.get(..left.unwrap_or(usize::MAX)).unwrap_or(rest)
                }
                _ => rest,
            };
            let used = scanner.step(piece)?;
            if is_inside {
                let hash = hash.get_or_insert_with(crc32fast::Hasher::new);
                hash.update(output.get(hashed..at).unwrap_or_default());
                let mut own = crc32fast::Hasher::new();
                own.update(output.get(at..at + used).unwrap_or_default());
                hash.combine(&own);
                if let Some(open) = &mut self.open {
                    open.crc32.combine(&own);
                }
                hashed = at + used;
            }
            at += used;
            if let Some((index, data)) = scanner.large_content(LARGE_BYTES_MIN)
                && self.open.as_ref().is_none_or(|open| open.index != index)
            {
                self.close();
                self.open = Some(Open {
                    index,
                    data,
                    crc32: crc32fast::Hasher::new(),
                    first_run: self.runs.len(),
                    run: None,
                    tail: None,
                });
            }
        }
        self.raw += output.len() as u64;
        if let Some(hash) = &mut hash {
            hash.update(output.get(hashed..).unwrap_or_default());
        }
        Ok(hash)
    }

    /// Takes the place where blocks meet, with what came out before it.
    pub fn boundary(&mut self, boundary: &Boundary, window: &[u8]) {
        let passed = |open: &Open| boundary.raw > open.data.end;
        if self.open.as_ref().is_some_and(passed) {
            self.close();
        }
        let Some(open) = &mut self.open else {
            let last = self.points.last().map_or(0, |point| point.raw);
            if !boundary.is_last && boundary.raw.saturating_sub(last) >= self.gap {
                self.add_point(boundary.bit, boundary.raw, window.into());
            }
            return;
        };
        if boundary.is_last {
            let run = open.run.take();
            self.add_run(run);
            return;
        }
        let data = open.data;
        match &mut open.run {
            Some(run) => {
                run.bit_end = boundary.bit;
                run.raw.end = boundary.raw;
                run.last = boundary.edge;
            }
            None if boundary.raw.saturating_sub(boundary.reach) >= data.start => {
                open.run = Some(Run {
                    bit_start: boundary.bit,
                    bit_end: boundary.bit,
                    raw: ByteRange::new(boundary.raw, boundary.raw),
                    first: boundary.edge,
                    last: boundary.edge,
                });
            }
            None => (),
        }
        if data.end - boundary.raw <= TAIL_BYTES_MAX {
            open.tail = Some(Point {
                bit: boundary.bit,
                raw: boundary.raw,
                window: window.into(),
            });
        }
    }

    pub fn finish(mut self, sums: Sums) -> BlockMap {
        self.close();
        BlockMap {
            files: self.files,
            runs: self.runs,
            points: self.points,
            sums,
        }
    }

    /// Leaves the large file at hand.
    fn close(&mut self) {
        let Some(open) = self.open.take() else {
            return;
        };
        self.add_run(open.run);
        if open.first_run < self.runs.len() {
            self.files.push(LargeFile {
                index: open.index,
                crc32: open.crc32.finalize(),
                runs: u32::try_from(open.first_run).unwrap_or(u32::MAX),
            });
        }
        if let Some(tail) = open.tail {
            self.add_point(tail.bit, tail.raw, tail.window);
        }
    }

    fn add_run(&mut self, run: Option<Run>) {
        let worth = |run: &Run| run.raw.length() > PASSED_BYTES_MIN;
        if let Some(run) = run.filter(worth)
            && self.runs.len() < RUNS_MAX
        {
            self.runs.push(run);
        }
    }

    fn add_point(&mut self, bit: u64, raw: u64, window: Box<[u8]>) {
        self.gap = self.gap.max(POINT_GAP_BYTES);
        let points = &mut self.points;
        if points.len() >= POINTS_MAX {
            self.gap *= 2;
            let mut last = 0;
            points.retain(|point| {
                let is_far = point.raw - last >= self.gap;
                if is_far {
                    last = point.raw;
                }
                is_far
            });
        }
        let last = points.last().map_or(0, |point| point.raw);
        if raw.saturating_sub(last) >= self.gap && points.len() < POINTS_MAX {
            points.push(Point { bit, raw, window });
        }
    }
}
