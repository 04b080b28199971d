//! A tar that lies in an object, read by ranges: windows over headers, contents passed over.

use super::TarError;
use super::scanner::{TarScan, TarScanner, Wanted};
use crate::archive::Limits;
use crate::object::ByteRange;

/// A stretch of content at least as long is passed over rather than read: a request costs as much time as
/// reading about so many bytes.
pub const SKIPPED_BYTES_MIN: u64 = 1 << 20;
/// Bytes asked for at first, at most, and where content was passed over. A window that is used up is followed
/// by one of twice the size.
pub const WINDOW_BYTES: u64 = 64 << 10;
/// See [`WINDOW_BYTES`].
pub const WINDOW_BYTES_MAX: u64 = 1 << 20;
/// See [`WINDOW_BYTES`]: room for a header and its long names.
pub const WINDOW_BYTES_MIN: u64 = 4 << 10;

/// What the reader needs to go on.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The bytes of this range.
    Need(ByteRange),
    /// Nothing: the tar is read.
    Done(Box<TarScan>),
}

/// Reads the headers of a plain tar of known size.
pub struct TarReader {
    scanner: TarScanner,
    object_bytes: u64,
    window_bytes: u64,
}

impl TarReader {
    /// A reader of an object of `object_bytes`, holding the contents that `wanted` decides on.
    pub fn new(object_bytes: u64, limits: &Limits, wanted: Wanted) -> Self {
        let scanner = TarScanner::new(limits).wanting(wanted);
        Self {
            scanner,
            object_bytes,
            window_bytes: WINDOW_BYTES,
        }
    }

    /// The next range needed, the same one until it is fed; or the result.
    ///
    /// # Errors
    /// Where the tar ends too early. The reader is of no use after a result or an error.
    pub fn step(&mut self) -> Result<Step, TarError> {
        let expected = self.scanner.expected_end();
        if expected > self.object_bytes {
            return Err(TarError::Truncated {
                end: self.object_bytes,
                expected,
            });
        }
        if self.scanner.skippable() >= SKIPPED_BYTES_MIN {
            self.scanner.skip();
            self.window_bytes = WINDOW_BYTES_MIN;
        }
        let range = self.window();
        if !range.is_empty() && !self.scanner.has_ended() {
            return Ok(Step::Need(range));
        }
        let unused = TarScanner::new(&Limits::default());
        let scanner = std::mem::replace(&mut self.scanner, unused);
        Ok(Step::Done(Box::new(scanner.finish()?)))
    }

    fn window(&self) -> ByteRange {
        let start = self.scanner.position();
        ByteRange::new(
            start,
            start
                .saturating_add(self.window_bytes)
                .min(self.object_bytes),
        )
    }

    /// Takes the bytes of the range that was asked for, or of its beginning.
    ///
    /// # Errors
    /// Where the bytes are no tar or pass a limit, or are those of another range.
    pub fn feed(&mut self, range: ByteRange, bytes: &[u8]) -> Result<(), TarError> {
        let expected = self.window();
        let whole = range.length() == bytes.len() as u64;
        if range.start != expected.start || range.end > expected.end || !whole {
            return Err(TarError::WrongRange {
                expected,
                found: range,
            });
        }
        if range.end == expected.end {
            self.window_bytes = self.window_bytes.saturating_mul(2).min(WINDOW_BYTES_MAX);
        }
        self.scanner.feed(bytes)
    }
}
