//! One archive format into another: what is kept of a source, streamed into a new archive.
//!
//! Owns every pair of formats but zip to zip, which is spliced without being inflated. Memory depends on neither
//! source nor target. The same source and kept entries always give the same bytes, however many cores
//! there are. The source was read once before, for its index; a second reading that differs from the first
//! is an error. Knows nothing of where bytes come from, and of threads no more than that jobs may run on them.
//!
//! ```text
//! ranges of the source -> [inflate] -> front -> jobs -> (any core) -> assembler -> bytes, ranges of the source
//! ```
//!
//! # A tar.gz is inflated once
//!
//! Nothing is known of a tar.gz before all of it was inflated, and nothing may be written before the bundle was
//! judged. So the first reading, which makes the index, also notes what would have to be inflated again
//! ([`BlockMap`]): for every large file its CRC-32 and the deflate blocks that hold
//! nothing else, and places from which inflating may begin anew. Of large files the second reading needs
//! their edges alone: the blocks between are named by range, and whoever writes the target copies them, or has
//! S3 copy them. What is left out is passed over. Small files are inflated a second time, which costs a
//! twentieth of what their compression does, and no room. All that is read again is held against CRC-32s of the
//! first reading, which gzip's own checksums prove.
//!
//! # Blocks that are kept
//!
//! A block that begins 32 KiB inside a file refers to that file alone. Its bits stand in the zip as they stand in
//! the tar.gz, between empty blocks that bring the stream to the bit at which they begin and, behind
//! them, to a whole byte again: so the bytes between are those of the source and need not even be shifted. What
//! lies before the first such block and behind the last is deflated anew. Every reader sees an ordinary deflate
//! stream.

use std::sync::Arc;

use crate::archive::gzip::{BlockMap, GunzipRanges, GzipError};
use crate::archive::zip::{ZipError, shown};
use crate::archive::{ArchiveFormat, EntryKind, Index, Limits};
use crate::contents::KeptEntry;
use crate::object::ByteRange;

mod assembler;
mod deflate;
mod kept;
pub(crate) mod order;
mod step;
mod tar_source;
mod tar_target;
#[cfg(test)]
mod tests;
mod writer;
mod zip_source;
mod zip_target;

pub use assembler::{Assembler, Output, Piece};
use order::Order;
pub use order::{OrderError, SHARED_BYTES_MAX};
pub use step::{Codec, DoneJob, JOB_BYTES, Job};
use tar_source::TarSource;
use writer::{Plan, Writer};
use zip_source::ZipSource;

/// Why a source cannot be transcoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TranscodeError {
    /// The source's gzip stream, which was sound when it was indexed.
    #[error(transparent)]
    Gzip(#[from] GzipError),
    /// An entry of a zip source.
    #[error(transparent)]
    Zip(#[from] ZipError),
    /// Zip to zip, which is spliced.
    #[error("zip is to become zip, which needs no transcoding")]
    ZipToZip,
    /// A kept entry is not in the index.
    #[error("kept entry {index} is not in the archive's index")]
    NoSuchEntry {
        /// Its position.
        index: u32,
    },
    /// An entry is kept twice.
    #[error("entry {index} is kept twice")]
    KeptTwice {
        /// Its position.
        index: u32,
    },
    /// Kept entries unpack to more than [`Limits::inflated_bytes_max`].
    #[error("kept entries have more than {limit} bytes of content")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// A FIFO, device or unknown type.
    #[error("entry `{name}` is neither file, directory nor link")]
    SpecialFile {
        /// Its name.
        name: String,
    },
    /// A zip entry that is encrypted or compressed by an unknown method.
    #[error("content of entry `{name}` cannot be read")]
    UnreadableContent {
        /// Its name.
        name: String,
    },
    /// A name or link target too long for the target format.
    #[error("name or link target of {length} bytes does not fit the target archive")]
    NameTooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// Hard links that cannot be written.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// The source differs from what was indexed.
    #[error("source has changed since it was indexed: header at byte {offset} is another one")]
    SourceChanged {
        /// Where the header lies (in the tar, after gzip).
        offset: u64,
    },
    /// The source ends before the last kept entry.
    #[error("source ends at byte {end}, expected more")]
    SourceTruncated {
        /// Where it ends (after gzip).
        end: u64,
    },
    /// The compressor failed, which it has no reason to.
    #[error("compression failed")]
    CompressionFailed,
    /// A thread that worked on it is gone.
    #[error("transcoding was interrupted")]
    Interrupted,
}

/// Whose fault it is that a source cannot be transcoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The archive's: it can never be transcoded.
    Archive,
    /// The second reading's: another one may find the bytes that were indexed.
    Reading,
    /// Our own, or the process is ending.
    Ours,
}

impl TranscodeError {
    /// Whose fault it is, which tells whether another attempt may succeed.
    pub fn blame(&self) -> Blame {
        match self {
            // All of the stream and all headers of the tar were read once, without fault.
            Self::Gzip(_) | Self::SourceChanged { .. } | Self::SourceTruncated { .. } => {
                Blame::Reading
            }
            Self::Zip(_)
            | Self::TooLarge { .. }
            | Self::SpecialFile { .. }
            | Self::UnreadableContent { .. }
            | Self::NameTooLong { .. }
            | Self::Order(_) => Blame::Archive,
            Self::ZipToZip
            | Self::NoSuchEntry { .. }
            | Self::KeptTwice { .. }
            | Self::CompressionFailed
            | Self::Interrupted => Blame::Ours,
        }
    }

    /// Stable word for what is wrong, as findings carry it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Gzip(error) => error.code(),
            Self::Zip(error) => error.code(),
            Self::ZipToZip
            | Self::NoSuchEntry { .. }
            | Self::KeptTwice { .. }
            | Self::CompressionFailed
            | Self::Interrupted => "internal",
            Self::TooLarge { .. } => "archive-too-large",
            Self::SpecialFile { .. } => "entry-special-file",
            Self::UnreadableContent { .. } => "entry-compression-unsupported",
            Self::NameTooLong { .. } => "entry-name-too-long",
            Self::Order(error) => error.code(),
            Self::SourceChanged { .. } | Self::SourceTruncated { .. } => "archive-changed",
        }
    }
}

/// What was done.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Entries written.
    pub entries: u64,
    /// Bytes of their content.
    pub content_bytes: u64,
    /// Bytes of the source that were fed.
    pub source_bytes: u64,
    /// Bytes of the target.
    pub written_bytes: u64,
}

/// A transcoding under way, all of it on one core. [`Self::into_parts`] gives the parts to those who have more.
pub struct Transcoder {
    front: Front,
    assembler: Assembler,
    codec: Codec,
}

/// The source's side of a transcoding: source bytes in, jobs out.
pub struct Front {
    source: Source,
    inflating: Option<GunzipRanges>,
    writer: Writer,
    reads: Vec<ByteRange>,
    /// The range at hand of those that are read, and how many of its bytes were taken.
    next: usize,
    taken: u64,
    source_bytes: u64,
    has_ended: bool,
}

enum Source {
    Tar(TarSource),
    Zip(ZipSource),
}

impl Transcoder {
    /// A transcoding of `kept`, which refer to `index`, into a new archive of format `target`.
    ///
    /// # Errors
    /// For what can be told from the index: kept entries that cannot be written, and pairs of formats that
    /// need no transcoding.
    pub fn new(
        index: Arc<Index>,
        mut kept: Vec<KeptEntry>,
        target: ArchiveFormat,
        limits: &Limits,
    ) -> Result<Self, TranscodeError> {
        let from = index.format();
        if from == ArchiveFormat::Zip && target == ArchiveFormat::Zip {
            return Err(TranscodeError::ZipToZip);
        }
        check_kept(&index, &kept, limits)?;
        let (source, order) = match &*index {
            Index::Tar(tar) => {
                kept.sort_by_key(|kept| kept.index);
                (
                    Source::Tar(TarSource::default()),
                    Order::of_tar(tar, kept, target)?,
                )
            }
            Index::Zip(zip) => {
                kept.sort_by_key(|kept| zip.span(kept.index as usize).map(|span| span.start));
                (Source::Zip(ZipSource::default()), Order::plain(kept))
            }
        };
        check_content_bytes(&index, &order, limits)?;
        let plan = Arc::new(Plan::new(index, order, target));
        let wanted = match source {
            Source::Tar(_) => tar_source::wanted(&plan),
            Source::Zip(_) => zip_source::wanted(&plan),
        };
        let (mut inflating, mut reads) = (None, wanted);
        if let Some(blocks) = blocks(&plan.index) {
            let ranges = GunzipRanges::new(Arc::clone(blocks), reads.into_iter(), limits);
            reads = ranges.reads();
            inflating = Some(ranges);
        }
        let front = Front {
            source,
            inflating,
            writer: Writer::new(Arc::clone(&plan)),
            reads,
            next: 0,
            taken: 0,
            source_bytes: 0,
            has_ended: false,
        };
        Ok(Self {
            front,
            assembler: Assembler::new(plan),
            codec: Codec::default(),
        })
    }

    /// What makes jobs and what takes them when they were run.
    pub fn into_parts(self) -> (Front, Assembler) {
        (self.front, self.assembler)
    }

    /// See [`Front::reads`].
    pub fn reads(&self) -> &[ByteRange] {
        self.front.reads()
    }

    /// What is known of the source's gzip stream: [`Piece::Copied`] is verified with it where it is read.
    pub(crate) fn blocks(&self) -> Option<Arc<BlockMap>> {
        blocks(&self.front.writer.plan.index).cloned()
    }

    /// See [`Front::needs_more`].
    pub fn needs_more(&self) -> bool {
        self.front.needs_more()
    }

    /// Takes the source's next bytes, as many as make about [`JOB_BYTES`] of output, and says how many; feed the
    /// rest again. What `out` holds before does not matter.
    ///
    /// # Errors
    /// Where the source is damaged or differs from its index. The transcoder is of no use after that.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Output) -> Result<usize, TranscodeError> {
        let taken = match self.front.has_job() {
            true => 0,
            false => self.front.feed(bytes)?,
        };
        self.run(out)?;
        Ok(taken)
    }

    /// Ends the source and writes what ends the target, in pieces as [`Self::feed`] does: call it until it
    /// gives the totals.
    ///
    /// # Errors
    /// Where the source ends too early.
    pub fn finish(&mut self, out: &mut Output) -> Result<Option<Totals>, TranscodeError> {
        if !self.front.has_job() {
            self.front.finish()?;
        }
        if self.run(out)? || !self.front.has_ended() || !self.assembler.finish(out)? {
            return Ok(None);
        }
        Ok(Some(Totals {
            source_bytes: self.front.source_bytes,
            written_bytes: self.assembler.written_bytes(),
            ..self.front.writer.totals()
        }))
    }

    /// Runs the next job, if there is one.
    fn run(&mut self, out: &mut Output) -> Result<bool, TranscodeError> {
        let Some(job) = self.front.next_job() else {
            return Ok(false);
        };
        self.assembler.take(job.run(&mut self.codec)?, out)?;
        Ok(true)
    }
}

impl Front {
    /// The ranges of the source that are to be fed, one after the other.
    pub fn reads(&self) -> &[ByteRange] {
        &self.reads
    }

    /// Takes the source's next bytes until a job is whole, and says how many.
    ///
    /// # Errors
    /// Where the source is damaged or differs from its index. The front is of no use after that.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<usize, TranscodeError> {
        let mut taken = 0;
        while !self.has_job() {
            let rest = bytes.get(taken..).unwrap_or_default();
            match self.advance(rest)? {
                Some(used) => taken += used,
                None => break,
            }
        }
        self.source_bytes += taken as u64;
        Ok(taken)
    }

    /// Goes one step further and says how many of `bytes` it took; `None` where it needs more of them.
    fn advance(&mut self, bytes: &[u8]) -> Result<Option<usize>, TranscodeError> {
        let Some(inflating) = &mut self.inflating else {
            return self.advance_plain(bytes);
        };
        let inflated = inflating.step(bytes)?;
        let (used, raw) = match inflated {
            Some((used, raw)) => (Some(used), raw),
            None => (None, Default::default()),
        };
        let mut rest = raw.bytes;
        if !rest.is_empty() {
            self.source.seek(raw.at);
        }
        while let Some(used) = self.source.step(rest, &mut self.writer)? {
            rest = rest.get(used..).unwrap_or_default();
        }
        Ok(used)
    }

    fn advance_plain(&mut self, bytes: &[u8]) -> Result<Option<usize>, TranscodeError> {
        let Some(range) = self.reads.get(self.next) else {
            let done = self.source.step(&[], &mut self.writer)?;
            return Ok(match bytes.is_empty() {
                true => done,
                false => Some(bytes.len()),
            });
        };
        self.source.seek(range.start);
        let left = usize::try_from(range.length() - self.taken).unwrap_or(usize::MAX);
        let piece = bytes.get(..left).unwrap_or(bytes);
        let used = self.source.step(piece, &mut self.writer)?;
        self.taken += used.unwrap_or_default() as u64;
        if self.taken == range.length() {
            (self.next, self.taken) = (self.next + 1, 0);
            return Ok(used.or(Some(0)));
        }
        Ok(used)
    }

    /// Whether the source's further bytes still matter: to what is kept, or to verify what was fed.
    pub fn needs_more(&self) -> bool {
        !self.source.is_done() || !self.is_verified()
    }

    fn is_verified(&self) -> bool {
        self.inflating.as_ref().is_none_or(GunzipRanges::is_done)
    }

    /// Goes on without further bytes until a job is whole or the source has ended.
    ///
    /// # Errors
    /// Where the source ends too early.
    pub fn finish(&mut self) -> Result<(), TranscodeError> {
        while !self.has_job() && !self.has_ended {
            if self.advance(&[])?.is_some() {
                continue;
            }
            if !self.source.is_done() || !self.is_verified() {
                return Err(TranscodeError::SourceTruncated {
                    end: self.source.position(),
                });
            }
            self.writer.finish()?;
            self.has_ended = true;
        }
        Ok(())
    }

    /// Whether the source has ended; there may be jobs left.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether a job is whole.
    pub fn has_job(&self) -> bool {
        self.writer.steps.has_job()
    }

    /// The next job that is whole.
    pub fn next_job(&mut self) -> Option<Job> {
        self.writer.steps.next_job()
    }
}

/// What is known of a tar.gz's stream.
fn blocks(index: &Index) -> Option<&Arc<BlockMap>> {
    match index {
        Index::Tar(tar) => tar.blocks(),
        Index::Zip(_) => None,
    }
}

impl Source {
    fn step(&mut self, bytes: &[u8], writer: &mut Writer) -> Result<Option<usize>, TranscodeError> {
        match self {
            Self::Tar(source) => source.step(bytes, writer),
            Self::Zip(source) => source.step(bytes, writer),
        }
    }

    fn seek(&mut self, position: u64) {
        match self {
            Self::Tar(source) => source.seek(position),
            Self::Zip(source) => source.seek(position),
        }
    }

    fn is_done(&self) -> bool {
        match self {
            Self::Tar(source) => source.is_done(),
            Self::Zip(source) => source.is_done(),
        }
    }

    fn position(&self) -> u64 {
        match self {
            Self::Tar(source) => source.position(),
            Self::Zip(source) => source.position(),
        }
    }
}

/// Refuses what the index alone tells cannot be written.
fn check_kept(index: &Index, kept: &[KeptEntry], limits: &Limits) -> Result<(), TranscodeError> {
    let mut seen = vec![false; index.len()];
    for kept in kept {
        let missing = TranscodeError::NoSuchEntry { index: kept.index };
        let entry = index.entry(kept.index as usize).ok_or(missing.clone())?;
        if std::mem::replace(seen.get_mut(kept.index as usize).ok_or(missing)?, true) {
            return Err(TranscodeError::KeptTwice { index: kept.index });
        }
        if entry.kind == EntryKind::Special {
            return Err(TranscodeError::SpecialFile {
                name: shown(entry.name),
            });
        }
        let length = kept
            .name(&entry)
            .len()
            .max(entry.link_target.unwrap_or_default().len());
        // A directory may get a closing slash.
        if length >= usize::from(u16::MAX) {
            return Err(TranscodeError::NameTooLong { length });
        }
        if index.format() == ArchiveFormat::Zip {
            if entry.encrypted {
                return Err(TranscodeError::UnreadableContent {
                    name: shown(entry.name),
                });
            }
            if entry.kind == EntryKind::Symlink && entry.size > limits.name_bytes_max as u64 {
                let length = usize::try_from(entry.size).unwrap_or(usize::MAX);
                return Err(TranscodeError::NameTooLong { length });
            }
        }
    }
    Ok(())
}

/// Refuses kept entries that would unpack to too much, hard links counted as often as their content is written.
fn check_content_bytes(
    index: &Index,
    order: &Order,
    limits: &Limits,
) -> Result<(), TranscodeError> {
    let sizes = order.kept.iter().filter_map(|kept| {
        let at = order.shared(kept.index).unwrap_or(kept.index);
        Some(index.entry(at as usize)?.size)
    });
    if sizes.fold(0, u64::saturating_add) > limits.inflated_bytes_max {
        return Err(TranscodeError::TooLarge {
            limit: limits.inflated_bytes_max,
        });
    }
    Ok(())
}
