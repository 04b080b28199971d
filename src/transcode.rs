//! One archive format into another: what is kept of a source, streamed into a new archive.
//!
//! Owns every pair of formats but zip to zip, which is spliced without being inflated. Push style: the source's bytes go in front to back, the target's come out, and memory depends on neither. The
//! same source and kept entries always give the same bytes. The source was read once before, for its
//! index; a second reading that differs from the first is an error. Knows nothing of where bytes come from.
//!
//! ```text
//! tar.gz -> inflate -+-> tar source -+   +-> zip target
//! tar ---------------+               +---+
//! zip ------------------> zip source +   +-> tar target [-> deflate]
//! ```

use std::sync::Arc;

use crate::archive::gzip::{Gunzip, GzipError};
use crate::archive::zip::{ZipError, shown};
use crate::archive::{ArchiveFormat, EntryKind, Index, Limits};
use crate::contents::KeptEntry;

mod deflate;
pub(crate) mod order;
mod tar_source;
mod tar_target;
#[cfg(test)]
mod tests;
mod writer;
mod zip_source;
mod zip_target;
mod zip_time;

use order::Order;
pub use order::{OrderError, SHARED_BYTES_MAX};
use tar_source::TarSource;
use writer::Writer;
use zip_source::ZipSource;

/// Bytes of output after which [`Transcoder::feed`] and [`Transcoder::finish`] return, so that they can be
/// taken away; a single step may pass it by as much again.
pub const OUT_BYTES_MAX: usize = 1 << 20;
/// Bytes inflated at once.
const INFLATED_BYTES: usize = 64 << 10;

/// Why a source cannot be transcoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TranscodeError {
    /// The source's gzip stream.
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
}

impl TranscodeError {
    /// Stable word for what is wrong, as findings carry it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Gzip(error) => error.code(),
            Self::Zip(error) => error.code(),
            Self::ZipToZip
            | Self::NoSuchEntry { .. }
            | Self::KeptTwice { .. }
            | Self::CompressionFailed => "internal",
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

/// A transcoding under way.
pub struct Transcoder {
    source: Source,
    inflating: Option<Inflating>,
    writer: Writer,
    source_bytes: u64,
    source_ended: bool,
}

enum Source {
    Tar(TarSource),
    Zip(ZipSource),
}

/// Inflated bytes that wait to be read: `start..end` of the buffer.
struct Inflating {
    gunzip: Gunzip,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
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
        let inflating = (from == ArchiveFormat::TarGz).then(|| Inflating {
            gunzip: Gunzip::new(limits),
            buffer: vec![0; INFLATED_BYTES].into(),
            start: 0,
            end: 0,
        });
        let writer = Writer::new(index, order, target);
        Ok(Self {
            source,
            inflating,
            writer,
            source_bytes: 0,
            source_ended: false,
        })
    }

    /// Takes the source's next bytes, as many as add about [`OUT_BYTES_MAX`] to `out`, and says how many; feed
    /// the rest again. What `out` holds before does not matter. A zip is fed from its first byte.
    ///
    /// # Errors
    /// Where the source is damaged or differs from its index. The transcoder is of no use after that.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, TranscodeError> {
        let mut taken = 0;
        let out_bytes_max = out.len().saturating_add(OUT_BYTES_MAX);
        while out.len() < out_bytes_max {
            let rest = bytes.get(taken..).unwrap_or_default();
            match self.advance(rest, out)? {
                Some(used) => taken += used,
                None => break,
            }
        }
        self.source_bytes += taken as u64;
        Ok(taken)
    }

    /// Goes one step further and says how many of `bytes` it took; `None` where it needs more of them.
    fn advance(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<usize>, TranscodeError> {
        let Some(inflating) = &mut self.inflating else {
            return self.source.step(bytes, &mut self.writer, out);
        };
        let inflated = inflating
            .buffer
            .get(inflating.start..inflating.end)
            .unwrap_or_default();
        if let Some(used) = self.source.step(inflated, &mut self.writer, out)? {
            inflating.start += used;
            return Ok(Some(0));
        }
        let (used, made) = inflating
            .gunzip
            .inflate_some(bytes, &mut inflating.buffer)?;
        (inflating.start, inflating.end) = (0, made);
        Ok((used > 0 || made > 0).then_some(used))
    }

    /// Whether the source's further bytes still matter. Those of a tar.gz do to its end, for its checksum.
    pub fn needs_more(&self) -> bool {
        self.inflating.is_some() || !self.source.is_done()
    }

    /// Ends the source and writes what ends the target, in pieces as [`Self::feed`] does: call it until it
    /// gives the totals.
    ///
    /// # Errors
    /// Where the source ends too early.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<Option<Totals>, TranscodeError> {
        let out_bytes_max = out.len().saturating_add(OUT_BYTES_MAX);
        if !self.source_ended {
            while self.advance(&[], out)?.is_some() {
                if out.len() >= out_bytes_max {
                    return Ok(None);
                }
            }
            if let Some(inflating) = &self.inflating {
                inflating.gunzip.finish()?;
            }
            if !self.source.is_done() {
                return Err(TranscodeError::SourceTruncated {
                    end: self.source.position(),
                });
            }
            self.source_ended = true;
        }
        let whole = self.writer.finish_some(out_bytes_max, out)?;
        Ok(whole.then(|| Totals {
            source_bytes: self.source_bytes,
            ..self.writer.totals()
        }))
    }
}

impl Source {
    fn step(
        &mut self,
        bytes: &[u8],
        writer: &mut Writer,
        out: &mut Vec<u8>,
    ) -> Result<Option<usize>, TranscodeError> {
        match self {
            Self::Tar(source) => source.step(bytes, writer, out),
            Self::Zip(source) => source.step(bytes, writer, out),
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
