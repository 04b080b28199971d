//! Verifies a zip's entries while their bytes pass through the function on their way into the revision.
//!
//! A [`Verifier`] is fed source bytes in ascending order and keeps little of them: a deflate window, one local
//! header and one small content at most. Of each kept entry it compares the local header with the central
//! directory where the header passes, and inflates the content and checks size and CRC-32 where the whole entry
//! passes. What is left out of the revision is not judged.
//!
//! Bytes are sequential for one verifier, since an entry may be split over parts and a deflate stream cannot
//! be joined from both ends. Parts that are carried out at the same time are either fed in order, or go to
//! several verifiers over disjoint `passing` ranges; [`Verified`] of all of them adds up.

use std::sync::Arc;

use crate::archive::zip::{Checked, EntryReader, LOCAL_BYTES, ZipError, ZipIndex, shown};
use crate::archive::{Compression, Limits};
use crate::contents::KeptEntry;
use crate::object::ByteRange;

/// What is wrong with the bytes that passed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// An entry is not what the central directory says.
    #[error(transparent)]
    Entry(#[from] ZipError),
    /// More inflates out of the archive than is allowed in all.
    #[error("archive inflates to more than {limit} bytes")]
    TooMuch {
        /// The limit.
        limit: u64,
    },
    /// Bytes that should have passed were not given.
    #[error("entry `{name}` at bytes {span} should have passed and did not")]
    Missed {
        /// Name of the entry.
        name: String,
        /// Its bytes in the source.
        span: ByteRange,
    },
}

/// How much was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verified {
    /// Local headers compared.
    pub headers: u64,
    /// Contents whose size and CRC-32 are right.
    pub contents: u64,
    /// Bytes of those contents, unpacked.
    pub content_bytes: u64,
}

impl std::ops::AddAssign for Verified {
    fn add_assign(&mut self, other: Self) {
        self.headers += other.headers;
        self.contents += other.contents;
        self.content_bytes += other.content_bytes;
    }
}

/// What of an entry passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passes {
    Nothing,
    Header,
    Whole,
}

/// Verifies kept entries out of ranges of the source.
#[derive(Debug)]
pub struct Verifier {
    zip: Arc<ZipIndex>,
    /// Kept entries in the order of their local headers.
    kept: Arc<[u32]>,
    passing: Vec<ByteRange>,
    inflated_bytes_max: u64,
    /// The first of `kept` that is not settled.
    next: usize,
    is_open: bool,
    /// End of the bytes seen.
    position: u64,
    reader: EntryReader,
    verified: Verified,
}

impl Verifier {
    /// A verifier of what passes of these entries, where the bytes of `passing` pass: ascending and
    /// disjoint, as [`PartPlan::passing`](crate::splice::parts::PartPlan::passing) gives them.
    pub fn new(
        zip: Arc<ZipIndex>,
        kept: &[KeptEntry],
        passing: Vec<ByteRange>,
        limits: &Limits,
    ) -> Self {
        let mut kept: Arc<[u32]> = kept.iter().map(|entry| entry.index).collect();
        if !zip.is_in_physical_order()
            && let Some(kept) = Arc::get_mut(&mut kept)
        {
            kept.sort_by_key(|index| zip.span(*index as usize).map(|span| span.start));
        }
        Self::at_first(zip, kept, passing, limits.inflated_bytes_max)
    }

    /// A verifier of the same entries over other ranges.
    pub fn over(&self, passing: Vec<ByteRange>) -> Self {
        Self::at_first(
            Arc::clone(&self.zip),
            Arc::clone(&self.kept),
            passing,
            self.inflated_bytes_max,
        )
    }

    /// A verifier at the first entry that may pass.
    fn at_first(
        zip: Arc<ZipIndex>,
        kept: Arc<[u32]>,
        passing: Vec<ByteRange>,
        inflated_bytes_max: u64,
    ) -> Self {
        let first = passing.first().map_or(u64::MAX, |range| range.start);
        let next = kept.partition_point(|index| {
            zip.span(*index as usize)
                .is_some_and(|span| span.start < first)
        });
        Self {
            zip,
            kept,
            passing,
            inflated_bytes_max,
            next,
            is_open: false,
            position: 0,
            reader: EntryReader::new(0),
            verified: Verified::default(),
        }
    }

    /// Takes source bytes that begin at `at`. Bytes that were given already are passed over, so that a
    /// request may be repeated.
    ///
    /// # Errors
    /// The first entry that is not what the central directory says; nothing should be fed after that.
    pub fn feed(&mut self, at: u64, bytes: &[u8]) -> Result<(), VerifyError> {
        let end = at.saturating_add(bytes.len() as u64);
        if at > self.position {
            self.close()?;
            self.position = at;
        }
        while self.position < end {
            if !self.is_open && !self.open(end)? {
                self.position = end;
                break;
            }
            let span_end = self.span().map_or(end, |span| span.end);
            let piece_end = span_end.min(end);
            let piece = slice(
                bytes,
                self.position.saturating_sub(at),
                piece_end.saturating_sub(at),
            );
            let before = self.reader.produced();
            self.reader.feed(&self.zip, piece, &mut |_| {})?;
            self.verified.content_bytes += self.reader.produced() - before;
            if self.verified.content_bytes > self.inflated_bytes_max {
                return Err(VerifyError::TooMuch {
                    limit: self.inflated_bytes_max,
                });
            }
            self.position = piece_end;
            if self.reader.is_finished() || piece_end == span_end {
                self.close()?;
            }
        }
        Ok(())
    }

    /// Says how much was verified, once all has passed.
    ///
    /// # Errors
    /// As [`Self::feed`]; [`VerifyError::Missed`] where an entry should have passed and did not.
    pub fn finish(mut self) -> Result<Verified, VerifyError> {
        self.close()?;
        self.open(u64::MAX)?;
        if self.is_open {
            Err(self.missed())
        } else {
            Ok(self.verified)
        }
    }

    /// Goes to the next entry that passes and begins before `end`; `false` where there is none.
    fn open(&mut self, end: u64) -> Result<bool, VerifyError> {
        while let Some(index) = self.kept.get(self.next).map(|index| *index as usize) {
            let start = self.zip.span(index).map_or(u64::MAX, |span| span.start);
            if start >= end {
                return Ok(false);
            }
            let passes = self.passes(index);
            if passes != Passes::Nothing {
                self.reader.restart(index, passes == Passes::Header);
                self.is_open = true;
                if start < self.position {
                    return Err(self.missed());
                }
                self.position = start;
                return Ok(true);
            }
            self.next += 1;
        }
        Ok(false)
    }

    /// Settles the entry at hand, of which no more comes.
    fn close(&mut self) -> Result<(), VerifyError> {
        if !self.is_open {
            return Ok(());
        }
        let checked = self.reader.finish(&self.zip)?;
        let index = self.reader.index();
        let is_readable = self.zip.entry(index).is_some_and(|entry| {
            !entry.encrypted
                && matches!(
                    entry.compression,
                    Compression::Stored | Compression::Deflated
                )
        });
        let is_short = match self.passes(index) {
            Passes::Whole if is_readable => checked != Checked::Content,
            _ => checked == Checked::Nothing,
        };
        if is_short {
            return Err(self.missed());
        }
        self.verified.headers += 1;
        self.verified.contents += u64::from(checked == Checked::Content);
        self.is_open = false;
        self.next += 1;
        Ok(())
    }

    fn passes(&self, index: usize) -> Passes {
        let Some(span) = self.zip.span(index) else {
            return Passes::Nothing;
        };
        let after = self
            .passing
            .partition_point(|range| range.start <= span.start);
        let Some(range) = after.checked_sub(1).and_then(|i| self.passing.get(i)) else {
            return Passes::Nothing;
        };
        let name_bytes = self
            .zip
            .header(index)
            .map_or(0, |header| header.header_name.len());
        let name_end = span.start.saturating_add((LOCAL_BYTES + name_bytes) as u64);
        if range.contains(&span) {
            Passes::Whole
        } else if range.contains(&ByteRange::new(span.start, name_end)) {
            Passes::Header
        } else {
            Passes::Nothing
        }
    }

    fn span(&self) -> Option<ByteRange> {
        self.zip.span(self.reader.index())
    }

    fn missed(&self) -> VerifyError {
        let name = shown(self.zip.name(self.reader.index()).unwrap_or_default());
        VerifyError::Missed {
            name,
            span: self.span().unwrap_or(ByteRange::new(0, 0)),
        }
    }
}

fn slice(bytes: &[u8], start: u64, end: u64) -> &[u8] {
    let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
    bytes.get(index(start)..index(end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::zip::testing::{Making, ZipMaking, index_of};
    use crate::contents::KeptName;

    fn sample() -> (Vec<u8>, Vec<KeptEntry>) {
        // Stored, so that every byte of the content counts.
        let entry = |name: &str| Making {
            deflated: false,
            ..Making::new(name, &[b'z'; 1_000])
        };
        let object = ZipMaking::of(["a", "dropped", "b"].map(entry)).make();
        let kept = [0, 2].map(|index| KeptEntry {
            index,
            name: KeptName::Suffix { skip: 0 },
        });
        (object, kept.to_vec())
    }

    fn verify(
        object: &[u8],
        original: &[u8],
        kept: &[KeptEntry],
        ranges: &[ByteRange],
    ) -> Result<Verified, VerifyError> {
        let zip = Arc::new(index_of(original));
        let mut verifier = Verifier::new(zip, kept, ranges.to_vec(), &Limits::default());
        for range in ranges {
            for at in range.start..range.end {
                verifier.feed(at, &object[at as usize..=at as usize])?;
            }
        }
        verifier.finish()
    }

    #[test]
    fn ok_what_passes_is_verified_and_what_does_not_is_not() {
        let (object, kept) = sample();
        let zip = index_of(&object);
        let (a, b) = (zip.span(0).unwrap(), zip.span(2).unwrap());
        let counts = |ranges: &[ByteRange]| {
            let verified = verify(&object, &object, &kept, ranges).unwrap();
            (verified.headers, verified.contents, verified.content_bytes)
        };
        let whole = ByteRange::new(0, object.len() as u64);
        assert_eq!(counts(&[whole]), (2, 2, 2_000));
        assert_eq!(counts(&[a, b]), (2, 2, 2_000));
        assert_eq!(counts(&[b]), (1, 1, 1_000));
        assert_eq!(
            counts(&[ByteRange::new(a.start, a.start + 31), b]),
            (2, 1, 1_000)
        );
        assert_eq!(counts(&[ByteRange::new(a.start, a.start + 30)]), (0, 0, 0));
        assert_eq!(counts(&[ByteRange::new(a.start + 1, a.end)]), (0, 0, 0));
        assert_eq!(counts(&[ByteRange::new(a.start, a.end - 1)]), (1, 0, 0));
        assert_eq!(counts(&[]), (0, 0, 0));
    }

    #[test]
    fn ok_ranges_over_two_verifiers_add_up() {
        let (object, kept) = sample();
        let zip = index_of(&object);
        let mut sum = Verified::default();
        for i in [0, 2] {
            sum += verify(&object, &object, &kept, &[zip.span(i).unwrap()]).unwrap();
        }
        let whole = ByteRange::new(0, object.len() as u64);
        assert_eq!(sum, verify(&object, &object, &kept, &[whole]).unwrap());
    }

    #[test]
    fn ok_bytes_given_twice_are_passed_over() {
        let (object, kept) = sample();
        let zip = Arc::new(index_of(&object));
        let whole = ByteRange::new(0, object.len() as u64);
        let mut verifier = Verifier::new(Arc::clone(&zip), &kept, vec![whole], &Limits::default());
        verifier.feed(0, &object[..40]).unwrap();
        verifier.feed(0, &object[..50]).unwrap();
        verifier.feed(45, &object[45..]).unwrap();
        assert_eq!(verifier.finish().unwrap().contents, 2);
    }

    #[test]
    fn err_every_changed_byte_of_a_kept_entry_is_found() {
        let (object, kept) = sample();
        let zip = index_of(&object);
        let whole = ByteRange::new(0, object.len() as u64);
        let mut ignored = Vec::new();
        for i in kept.iter().map(|entry| entry.index as usize) {
            for at in zip.span(i).unwrap().start..zip.span(i).unwrap().end {
                let mut changed = object.clone();
                changed[at as usize] ^= 0x10;
                if verify(&changed, &object, &kept, &[whole]).is_ok() {
                    ignored.push(at - zip.span(i).unwrap().start);
                }
            }
        }
        // Version needed, a flag without meaning here, and the DOS time are not compared; the length of an
        // extra field moves the content, and is found by it.
        ignored.sort();
        ignored.dedup();
        assert!(
            ignored
                .iter()
                .all(|at| [4, 5, 6, 7, 10, 11, 12, 13].contains(at)),
            "{ignored:?}"
        );
    }

    #[test]
    fn err_changed_bytes_of_what_is_dropped_are_nobodys_business() {
        let (object, kept) = sample();
        let zip = index_of(&object);
        let mut changed = object.clone();
        changed[zip.span(1).unwrap().start as usize + 40] ^= 1;
        let whole = ByteRange::new(0, object.len() as u64);
        assert_eq!(
            verify(&changed, &object, &kept, &[whole]).unwrap().contents,
            2
        );
    }

    #[test]
    fn err_what_should_have_passed_and_did_not() {
        let (object, kept) = sample();
        let zip = Arc::new(index_of(&object));
        let whole = ByteRange::new(0, object.len() as u64);
        let fed = |ranges: &[(usize, usize)]| {
            let mut verifier =
                Verifier::new(Arc::clone(&zip), &kept, vec![whole], &Limits::default());
            for (start, end) in ranges {
                verifier.feed(*start as u64, &object[*start..*end])?;
            }
            verifier.finish()
        };
        let b = zip.span(2).unwrap().start as usize;
        let end = object.len();
        assert!(fed(&[(0, end)]).is_ok());
        for ranges in [
            &[][..],
            &[(0, b)],
            &[(b, end)],
            &[(0, 20), (21, end)],
            &[(0, b), (b + 1, end)],
        ] {
            let error = fed(ranges).unwrap_err();
            assert!(
                matches!(error, VerifyError::Missed { .. }),
                "{ranges:?}: {error}"
            );
        }
    }

    #[test]
    fn err_more_inflates_than_is_allowed() {
        let (object, kept) = sample();
        let zip = Arc::new(index_of(&object));
        let whole = ByteRange::new(0, object.len() as u64);
        for (limit, expected) in [
            (2_000, Ok(())),
            (1_999, Err(VerifyError::TooMuch { limit: 1_999 })),
        ] {
            let limits = Limits {
                inflated_bytes_max: limit,
                ..Limits::default()
            };
            let mut verifier = Verifier::new(Arc::clone(&zip), &kept, vec![whole], &limits);
            assert_eq!(verifier.feed(0, &object), expected);
        }
    }
}
