//! A revision as byte ranges of its source with written bytes between them.
//!
//! Owns the plan ([`SplicePlan`], a value that can be printed, compared and carried out by anyone) and the
//! builder that keeps it well-formed; `splice/` has one planner for each format, the division into S3's parts
//! ([`parts`]) and the assembly of a part's bytes. Knows no requests, no clock and no SDK.
//!
//! ```text
//! source   | header  name | extra data | header  name | extra data | … | directory
//!              \            \______________ ___________/          drop
//! revision | written          copied       written    copied       | written
//! ```

use sha2::{Digest, Sha256};

use crate::object::{ByteRange, ETag};

mod assemble;
pub mod parts;
pub mod tar;
mod zip;

pub use assemble::{AssembleError, Assembler};
pub use zip::plan_splice;

/// A piece of the revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// These bytes of the source, as they are. S3 may copy them itself.
    Copied(ByteRange),
    /// These of the plan's written bytes; see [`SplicePlan::written`].
    Written(ByteRange),
    /// Nothing in the revision, but these bytes of the source must pass through the function: what is written
    /// beside them was computed from what they should hold, and is wrong if they hold something else.
    Passed(ByteRange),
}

impl Segment {
    /// Bytes that it contributes to the revision.
    pub fn output_bytes(&self) -> u64 {
        match self {
            Self::Copied(range) | Self::Written(range) => range.length(),
            Self::Passed(_) => 0,
        }
    }
}

/// Why a plan cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A kept entry is not in the index.
    #[error("kept entry {index} is not in the archive, which has {entries} entries")]
    NoSuchEntry {
        /// Position asked for.
        index: usize,
        /// Entries in the archive.
        entries: usize,
    },
    /// Kept entries must ascend: the revision keeps the archive's order.
    #[error("kept entry {index} comes after entry {after}")]
    OutOfOrder {
        /// Position of the entry.
        index: usize,
        /// Position of the one before it.
        after: usize,
    },
    /// A name that is empty or longer than the format can say.
    #[error("new name of entry {index} has {name_bytes} bytes, expected 1 to {limit}")]
    NameLength {
        /// Position of the entry.
        index: usize,
        /// Length of the name in bytes.
        name_bytes: usize,
        /// The format's limit.
        limit: usize,
    },
    /// The planner went backwards in the source, or beyond its end.
    #[error(
        "range {found} of the source does not lie between byte {after} and its end at {source_size}"
    )]
    SourceOrder {
        /// The range.
        found: ByteRange,
        /// End of the range before it.
        after: u64,
        /// Size of the source.
        source_size: u64,
    },
    /// The revision would be longer than can be counted, or a record's field than can be written.
    #[error("revision is too large: {what}")]
    TooLarge {
        /// What does not fit.
        what: &'static str,
    },
}

/// A revision as segments, in the order of its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplicePlan {
    segments: Vec<Segment>,
    written: Vec<u8>,
    source_size: u64,
    output_size: u64,
    copied_bytes: u64,
    is_identity: bool,
}

/// SHA-256 over everything that decides a revision's bytes: the source's ETag and the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl SplicePlan {
    /// The plan of a revision that equals its source byte for byte.
    pub fn identity(source_size: u64) -> Self {
        let whole = Segment::Copied(ByteRange::new(0, source_size));
        Self {
            segments: vec![whole],
            written: Vec::new(),
            source_size,
            output_size: source_size,
            copied_bytes: source_size,
            is_identity: true,
        }
    }

    /// The segments in the order of the revision's bytes.
    pub fn segments(&self) -> impl Iterator<Item = Segment> + '_ {
        self.segments.iter().copied()
    }

    /// The bytes of a [`Segment::Written`]; empty for a range that is not this plan's.
    pub fn written(&self, range: ByteRange) -> &[u8] {
        let index = |at: u64| usize::try_from(at).ok();
        index(range.start)
            .zip(index(range.end))
            .and_then(|(start, end)| self.written.get(start..end))
            .unwrap_or_default()
    }

    /// Whether the revision is its source, byte for byte.
    pub fn is_identity(&self) -> bool {
        self.is_identity
    }

    /// Size of the source in bytes.
    pub fn source_size(&self) -> u64 {
        self.source_size
    }

    /// Size of the revision in bytes.
    pub fn output_size(&self) -> u64 {
        self.output_size
    }

    /// Bytes of the revision that are the source's.
    pub fn copied_bytes(&self) -> u64 {
        self.copied_bytes
    }

    /// Bytes of the revision that the plan holds itself.
    pub fn written_bytes(&self) -> u64 {
        self.written.len() as u64
    }

    /// What tells this revision from every other: equal fingerprints mean equal bytes.
    pub fn fingerprint(&self, source: &ETag) -> Fingerprint {
        let mut sha256 = Sha256::new();
        let mut field = |bytes: &[u8]| {
            sha256.update((bytes.len() as u64).to_le_bytes());
            sha256.update(bytes);
        };
        field(b"stagedrop splice 1");
        field(source.unquoted().as_bytes());
        field(&self.source_size.to_le_bytes());
        for segment in self.segments() {
            match segment {
                Segment::Copied(range) => {
                    field(b"copied");
                    field(&range.start.to_le_bytes());
                    field(&range.end.to_le_bytes());
                }
                Segment::Written(range) => {
                    field(b"written");
                    field(self.written(range));
                }
                Segment::Passed(_) => {}
            }
        }
        Fingerprint(sha256.finalize().into())
    }

    pub(crate) fn at(&self, cursor: &Cursor) -> Option<Segment> {
        let segment = *self.segments.get(cursor.segment)?;
        let rest = |range: ByteRange| ByteRange::new(range.start + cursor.offset, range.end);
        Some(match segment {
            Segment::Copied(range) => Segment::Copied(rest(range)),
            Segment::Written(range) => Segment::Written(rest(range)),
            Segment::Passed(range) => Segment::Passed(range),
        })
    }

    /// The next piece of at most `most` output bytes, with the cursor moved behind it.
    pub(crate) fn take(&self, cursor: &mut Cursor, most: u64) -> Option<Segment> {
        let whole = self.at(cursor)?;
        let cut = |range: ByteRange| {
            ByteRange::new(range.start, range.end.min(range.start.saturating_add(most)))
        };
        let piece = match whole {
            Segment::Copied(range) => Segment::Copied(cut(range)),
            Segment::Written(range) => Segment::Written(cut(range)),
            Segment::Passed(range) => Segment::Passed(range),
        };
        if piece == whole {
            *cursor = Cursor {
                segment: cursor.segment + 1,
                offset: 0,
            };
        } else {
            cursor.offset += piece.output_bytes();
        }
        Some(piece)
    }
}

impl std::fmt::Display for SplicePlan {
    /// One line for the whole, then one for each segment.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            source_size,
            output_size,
            copied_bytes,
            ..
        } = self;
        let written_bytes = self.written_bytes();
        let identity = if self.is_identity { ", unchanged" } else { "" };
        writeln!(
            f,
            "{source_size} -> {output_size} bytes: {copied_bytes} copied, {written_bytes} written{identity}"
        )?;
        for segment in self.segments() {
            match segment {
                Segment::Copied(range) => writeln!(f, "copied {range}")?,
                Segment::Written(range) => writeln!(f, "written {} bytes", range.length())?,
                Segment::Passed(range) => writeln!(f, "passed {range}")?,
            }
        }
        Ok(())
    }
}

/// A place in a plan: a segment, and how many of its bytes lie before the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    segment: usize,
    offset: u64,
}

/// Builds a plan segment by segment, joining neighbours.
///
/// Copied ranges ascend in the source, so that a revision can be put together in one pass over it.
#[derive(Debug)]
pub struct PlanBuilder {
    plan: SplicePlan,
    copied_to: u64,
}

impl PlanBuilder {
    /// A plan over a source of this size, without segments yet.
    pub fn new(source_size: u64) -> Self {
        let plan = SplicePlan {
            segments: Vec::new(),
            copied_bytes: 0,
            output_size: 0,
            is_identity: false,
            ..SplicePlan::identity(source_size)
        };
        Self { plan, copied_to: 0 }
    }

    /// Bytes of the revision so far: the offset of whatever comes next.
    pub fn output_size(&self) -> u64 {
        self.plan.output_size
    }

    /// Adds source bytes.
    ///
    /// # Errors
    /// [`PlanError::SourceOrder`], [`PlanError::TooLarge`].
    pub fn copied(&mut self, range: ByteRange) -> Result<(), PlanError> {
        if range.is_empty() {
            return Ok(());
        }
        if range.start < self.copied_to || range.end > self.plan.source_size {
            return Err(PlanError::SourceOrder {
                found: range,
                after: self.copied_to,
                source_size: self.plan.source_size,
            });
        }
        self.grow(range.length())?;
        self.plan.copied_bytes += range.length();
        self.copied_to = range.end;
        match self.plan.segments.last_mut() {
            Some(Segment::Copied(last)) if last.end == range.start => last.end = range.end,
            _ => self.plan.segments.push(Segment::Copied(range)),
        }
        Ok(())
    }

    /// Says that what is written next depends on these source bytes.
    pub fn passed(&mut self, range: ByteRange) {
        if !range.is_empty() {
            self.plan.segments.push(Segment::Passed(range));
        }
    }

    /// Adds bytes of the plan's own.
    ///
    /// # Errors
    /// [`PlanError::TooLarge`].
    pub fn written(&mut self, bytes: &[u8]) -> Result<(), PlanError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let start = self.plan.written.len() as u64;
        self.grow(bytes.len() as u64)?;
        self.plan.written.extend_from_slice(bytes);
        let range = ByteRange::new(start, self.plan.written.len() as u64);
        match self.plan.segments.last_mut() {
            Some(Segment::Written(last)) => last.end = range.end,
            _ => self.plan.segments.push(Segment::Written(range)),
        }
        Ok(())
    }

    /// The plan.
    pub fn finish(self) -> SplicePlan {
        self.plan
    }

    fn grow(&mut self, bytes: u64) -> Result<(), PlanError> {
        self.plan.output_size =
            self.plan
                .output_size
                .checked_add(bytes)
                .ok_or(PlanError::TooLarge {
                    what: "more than 2^64 bytes",
                })?;
        Ok(())
    }
}

#[cfg(test)]
mod reference;
