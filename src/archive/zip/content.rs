//! Reads one entry's content out of its bytes and checks everything that the archive says about it.
//!
//! Streaming: bytes come in pieces of any size, content goes out as it comes or inflated, 256 KiB at most, and
//! memory does not grow with either. Small content that comes in one piece is inflated at once, which takes half
//! the time.

use flate2::{Decompress, FlushDecompress, Status};
use libdeflater::Decompressor;
use memchr::memmem;

use super::header::{self, CentralHeader, Extent, LocalHeader};
use super::index::{DESCRIPTOR_BYTES_MAX, ZipIndex};
use super::{ZipError, shown};
use crate::archive::Compression;

const PIECE_BYTES: usize = 32 << 10;
/// Content up to this size is inflated at once, where all of it has come.
const AT_ONCE_BYTES_MAX: usize = 256 << 10;
/// A gzip header that says nothing (RFC 1952).
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
const DESCRIPTOR_SIGNATURE: [u8; 4] = *b"PK\x07\x08";

/// How far an entry's check came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// Not even the local header was whole.
    Nothing,
    /// The local header agrees with the directory; the content is not whole, or of a kind that is not read.
    Header,
    /// Header, content, size, CRC-32 and data descriptor are right.
    Content,
}

/// Reads the content of one entry after the other, each from its local header on.
#[derive(Debug)]
pub struct EntryReader {
    stage: Stage,
    index: usize,
    /// Whether no more than the local header is wanted.
    is_header_only: bool,
    stored_size: u64,
    /// Bytes of the span that were taken, content included.
    taken: u64,
    /// Bytes of the stored content that were taken.
    content_taken: u64,
    produced: u64,
    crc32: crc32fast::Hasher,
    inflate: Decompress,
    has_ended: bool,
    /// A header or descriptor that came in pieces.
    partial: Vec<u8>,
    piece: Box<[u8]>,
    at_once: AtOnce,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Header,
    Stored,
    Deflated,
    Descriptor,
    /// Content is right, or (`false`) of a kind that is not read.
    Finished(bool),
}

impl EntryReader {
    /// A reader at the local header of the entry at `index`.
    pub fn new(index: usize) -> Self {
        Self {
            stage: Stage::Header,
            index,
            is_header_only: false,
            stored_size: 0,
            taken: 0,
            content_taken: 0,
            produced: 0,
            crc32: crc32fast::Hasher::new(),
            inflate: Decompress::new(false),
            has_ended: false,
            partial: Vec::new(),
            piece: vec![0; PIECE_BYTES].into_boxed_slice(),
            at_once: AtOnce::default(),
        }
    }

    /// Begins another entry, with the buffers kept; `is_header_only` where its content will not come.
    pub fn restart(&mut self, index: usize, is_header_only: bool) {
        self.stage = Stage::Header;
        self.index = index;
        self.is_header_only = is_header_only;
        self.stored_size = 0;
        self.taken = 0;
        self.content_taken = 0;
        self.produced = 0;
        self.crc32.reset();
        if self.inflate.total_in() > 0 {
            self.inflate.reset(false);
        }
        self.has_ended = false;
        self.partial.clear();
    }

    /// The entry being read.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Whether nothing more is wanted.
    pub fn is_finished(&self) -> bool {
        matches!(self.stage, Stage::Finished(_))
    }

    /// Bytes of content that came out so far.
    pub fn produced(&self) -> u64 {
        self.produced
    }

    /// Takes the next bytes of the entry's span and gives content to `sink`.
    ///
    /// # Errors
    /// The first thing that is not as the directory says, naming the entry.
    pub fn feed(
        &mut self,
        zip: &ZipIndex,
        bytes: &[u8],
        sink: &mut impl FnMut(&[u8]),
    ) -> Result<(), ZipError> {
        let central = zip
            .header(self.index)
            .ok_or_else(|| zip.no_such_entry(self.index))?;
        let extent = central
            .extent()
            .ok_or_else(|| zip.no_such_entry(self.index))?;
        let mut rest = bytes;
        loop {
            let stage = self.stage;
            rest = match stage {
                Stage::Header => self.take_header(zip, &central, &extent, rest)?,
                Stage::Stored => self.take_stored(zip, &central, &extent, rest, sink)?,
                Stage::Deflated => self.take_deflated(zip, &central, &extent, rest, sink)?,
                Stage::Descriptor => self.take_descriptor(zip, rest)?,
                Stage::Finished(_) => return Ok(()),
            };
            if self.stage == stage {
                return Ok(());
            }
        }
    }

    /// Says how far the check came, where no more bytes of the span are to be had.
    ///
    /// # Errors
    /// As [`Self::feed`], for a local header or a data descriptor that is short because the bytes end.
    pub fn finish(&mut self, zip: &ZipIndex) -> Result<Checked, ZipError> {
        if self.stage == Stage::Descriptor {
            self.check_descriptor(zip)?;
        }
        if self.stage == Stage::Header && has_whole_name(&self.partial) {
            let span = zip.span(self.index).map_or(0, |span| span.length());
            let found = self.partial.len() as u64;
            zip.compare_local_header(self.index, &self.partial)?;
            if found >= span {
                return Err(ZipError::ContentTruncated {
                    name: zip.shown_name(self.index),
                    expected: found.saturating_add(missing_header_bytes(&self.partial) as u64),
                    found,
                });
            }
            self.stage = Stage::Finished(false);
        }
        Ok(match self.stage {
            Stage::Header => Checked::Nothing,
            Stage::Finished(true) => Checked::Content,
            _ => Checked::Header,
        })
    }

    fn take_header<'b>(
        &mut self,
        zip: &ZipIndex,
        central: &CentralHeader<'_>,
        extent: &Extent,
        bytes: &'b [u8],
    ) -> Result<&'b [u8], ZipError> {
        // A header in one piece, which is nearly every one, is compared where it lies.
        let held = self.partial.len();
        let header_bytes = if held == 0 && is_whole_header(bytes) {
            zip.compare_local_header(self.index, bytes)?;
            LocalHeader::header_bytes(bytes)
        } else {
            let mut rest = bytes;
            while let missing @ 1.. = missing_header_bytes(&self.partial) {
                let (more, after) = rest.split_at_checked(missing).unwrap_or((rest, &[]));
                if more.is_empty() {
                    return Ok(rest);
                }
                self.partial.extend_from_slice(more);
                rest = after;
            }
            zip.compare_local_header(self.index, &self.partial)?;
            LocalHeader::header_bytes(&self.partial)
        }
        .unwrap_or_default();
        self.partial.clear();
        self.stored_size = extent.stored_size;
        self.taken = header_bytes as u64;
        let span = zip.span(self.index).map_or(0, |span| span.length());
        if self.taken.saturating_add(self.stored_size) > span {
            return Err(ZipError::ContentTruncated {
                name: zip.shown_name(self.index),
                expected: self.taken.saturating_add(self.stored_size),
                found: span,
            });
        }
        self.stage = match central.compression() {
            _ if central.is_encrypted() || self.is_header_only => Stage::Finished(false),
            Compression::Other(_) => Stage::Finished(false),
            Compression::Stored => Stage::Stored,
            // Some writers mark empty files as deflated and store nothing.
            Compression::Deflated if extent.size == 0 && extent.stored_size == 0 => Stage::Stored,
            Compression::Deflated => Stage::Deflated,
        };
        Ok(bytes
            .get(header_bytes.saturating_sub(held)..)
            .unwrap_or_default())
    }

    /// Splits off what of `bytes` is stored content.
    fn split_content<'b>(&self, bytes: &'b [u8]) -> (&'b [u8], &'b [u8]) {
        let missing = self.stored_size - self.content_taken;
        let length = usize::try_from(missing)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        bytes.split_at_checked(length).unwrap_or((bytes, &[]))
    }

    fn take_stored<'b>(
        &mut self,
        zip: &ZipIndex,
        central: &CentralHeader<'_>,
        extent: &Extent,
        bytes: &'b [u8],
        sink: &mut impl FnMut(&[u8]),
    ) -> Result<&'b [u8], ZipError> {
        let (content, rest) = self.split_content(bytes);
        self.crc32.update(content);
        sink(content);
        self.produced += content.len() as u64;
        self.content_taken += content.len() as u64;
        if self.produced > extent.size {
            return Err(self.wrong_size(zip, extent, true));
        }
        if self.content_taken == self.stored_size {
            self.end_content(zip, central, extent)?;
        }
        Ok(rest)
    }

    fn take_deflated<'b>(
        &mut self,
        zip: &ZipIndex,
        central: &CentralHeader<'_>,
        extent: &Extent,
        bytes: &'b [u8],
        sink: &mut impl FnMut(&[u8]),
    ) -> Result<&'b [u8], ZipError> {
        let (mut content, rest) = self.split_content(bytes);
        if content.len() as u64 == self.stored_size
            && let Some(whole) = self.at_once.inflate(content, extent.size, central.crc32())
        {
            sink(whole);
            self.produced = extent.size;
            self.settle(zip, central);
            return Ok(rest);
        }
        self.content_taken += content.len() as u64;
        let damaged = |reason: &str| ZipError::Inflate {
            name: zip.shown_name(self.index),
            reason: reason.to_owned(),
        };
        while !self.has_ended {
            let (in_before, out_before) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self
                .inflate
                .decompress(content, &mut self.piece, FlushDecompress::None)
                .map_err(|error| damaged(error.message().unwrap_or("invalid deflate data")))?;
            let consumed = usize::try_from(self.inflate.total_in() - in_before).unwrap_or_default();
            let made = usize::try_from(self.inflate.total_out() - out_before).unwrap_or_default();
            content = content.get(consumed..).unwrap_or_default();
            let made = self.piece.get(..made).unwrap_or_default();
            self.produced += made.len() as u64;
            if self.produced > extent.size {
                return Err(self.wrong_size(zip, extent, true));
            }
            self.crc32.update(made);
            sink(made);
            self.has_ended = status == Status::StreamEnd;
            if !self.has_ended && consumed == 0 && made.is_empty() {
                break;
            }
        }
        if self.has_ended && self.inflate.total_in() < self.content_taken {
            return Err(ZipError::StoredSizeMismatch {
                name: zip.shown_name(self.index),
                expected: self.stored_size,
                found: self.inflate.total_in(),
            });
        }
        if self.content_taken == self.stored_size {
            if !self.has_ended {
                return Err(damaged("the deflate stream has no end"));
            }
            self.end_content(zip, central, extent)?;
        }
        Ok(rest)
    }

    fn wrong_size(&self, zip: &ZipIndex, extent: &Extent, at_least: bool) -> ZipError {
        ZipError::SizeMismatch {
            name: zip.shown_name(self.index),
            expected: extent.size,
            found: self.produced,
            at_least,
        }
    }

    fn end_content(
        &mut self,
        zip: &ZipIndex,
        central: &CentralHeader<'_>,
        extent: &Extent,
    ) -> Result<(), ZipError> {
        if self.produced != extent.size {
            return Err(self.wrong_size(zip, extent, false));
        }
        let found = self.crc32.clone().finalize();
        if found != central.crc32() {
            return Err(ZipError::Crc32Mismatch {
                name: zip.shown_name(self.index),
                expected: central.crc32(),
                found,
            });
        }
        self.settle(zip, central);
        Ok(())
    }

    /// Goes on behind content that is right.
    fn settle(&mut self, zip: &ZipIndex, central: &CentralHeader<'_>) {
        let span = zip.span(self.index).map_or(0, |span| span.length());
        self.taken += self.stored_size;
        self.stage = if central.has_descriptor() && self.taken < span {
            Stage::Descriptor
        } else {
            Stage::Finished(true)
        };
    }

    fn take_descriptor<'b>(
        &mut self,
        zip: &ZipIndex,
        bytes: &'b [u8],
    ) -> Result<&'b [u8], ZipError> {
        let span = zip.span(self.index).map_or(0, |span| span.length());
        let wanted = span.saturating_sub(self.taken).min(DESCRIPTOR_BYTES_MAX);
        let missing = usize::try_from(wanted)
            .unwrap_or(0)
            .saturating_sub(self.partial.len());
        self.partial
            .extend_from_slice(bytes.get(..missing).unwrap_or(bytes));
        if self.partial.len() as u64 >= wanted {
            self.check_descriptor(zip)?;
        }
        Ok(bytes.get(missing..).unwrap_or_default())
    }

    /// A descriptor with its signature must repeat the directory's values, in either width. One without
    /// signature cannot be told from other bytes, and no reader looks at it.
    fn check_descriptor(&mut self, zip: &ZipIndex) -> Result<(), ZipError> {
        let central = zip.header(self.index);
        let extent = central
            .and_then(|c| c.extent())
            .ok_or_else(|| zip.no_such_entry(self.index))?;
        let crc32 = central.map_or(0, |c| c.crc32());
        if let Some(values) = self.partial.strip_prefix(&DESCRIPTOR_SIGNATURE) {
            let mut long = crc32.to_le_bytes().to_vec();
            let mut short = long.clone();
            for value in [extent.stored_size, extent.size] {
                long.extend(value.to_le_bytes());
                short.extend((value as u32).to_le_bytes());
            }
            if !values.starts_with(&short) && !values.starts_with(&long) {
                return Err(ZipError::DescriptorMismatch {
                    name: zip.shown_name(self.index),
                });
            }
        }
        self.stage = Stage::Finished(true);
        Ok(())
    }
}

/// Inflates whole contents, with what that takes kept from one to the next. Takes what zlib takes, and codes of symbols
/// that never occur.
#[derive(Default)]
struct AtOnce {
    codec: Option<Decompressor>,
    framed: Vec<u8>,
    whole: Vec<u8>,
}

impl std::fmt::Debug for AtOnce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AtOnce").finish_non_exhaustive()
    }
}

impl AtOnce {
    /// The content, if it is small, and of this size and CRC-32, and its deflate stream ends where `content`
    /// does. `None` leaves open what is wrong.
    fn inflate(&mut self, content: &[u8], size: u64, crc32: u32) -> Option<&[u8]> {
        let length = usize::try_from(size).ok()?;
        if length > AT_ONCE_BYTES_MAX || content.len() > AT_ONCE_BYTES_MAX {
            return None;
        }
        // In a gzip frame the codec looks for CRC-32 and size right behind the stream, so that the stream ends where
        // they stand for the first time. The codec itself does not tell where that is.
        let trailer = (size << 32 | u64::from(crc32)).to_le_bytes();
        self.framed.clear();
        self.framed.extend_from_slice(&GZIP_HEADER);
        self.framed.extend_from_slice(content);
        self.framed.extend_from_slice(&trailer);
        let behind_header = self.framed.get(GZIP_HEADER.len()..)?;
        if memmem::find(behind_header, &trailer) != Some(content.len()) {
            return None;
        }
        if self.whole.len() < length {
            self.whole.resize(length, 0);
        }
        let whole = self.whole.get_mut(..length)?;
        let codec = self.codec.get_or_insert_with(Decompressor::new);
        let made = codec.gzip_decompress(&self.framed, whole).ok()?;
        (made == length).then_some(whole)
    }
}

fn is_whole_header(bytes: &[u8]) -> bool {
    missing_header_bytes(bytes) == 0
}

fn has_whole_name(bytes: &[u8]) -> bool {
    LocalHeader::parse(bytes).is_some()
}

/// Bytes by which a local header is too short, as far as it is known; 0 for a whole one.
fn missing_header_bytes(bytes: &[u8]) -> usize {
    LocalHeader::header_bytes(bytes)
        .unwrap_or(header::LOCAL_BYTES)
        .saturating_sub(bytes.len())
}

impl ZipIndex {
    /// Reads an entry's content out of bytes that begin at its local header, such as those of
    /// [`Self::content_span`], and verifies header, size and CRC-32. At most `limit` bytes are taken.
    ///
    /// # Errors
    /// Whatever is not as the directory says, and content that is too large, encrypted or compressed by a
    /// method other than deflate.
    pub fn read_content(
        &self,
        index: usize,
        span_bytes: &[u8],
        limit: u64,
    ) -> Result<Vec<u8>, ZipError> {
        let central = self
            .header(index)
            .ok_or_else(|| self.no_such_entry(index))?;
        let extent = central.extent().ok_or_else(|| self.no_such_entry(index))?;
        let name = || shown(self.name(index).unwrap_or_default());
        if central.is_encrypted() {
            return Err(ZipError::Encrypted { name: name() });
        }
        if let Compression::Other(method) = central.compression() {
            return Err(ZipError::UnsupportedMethod {
                name: name(),
                method,
            });
        }
        if extent.size > limit {
            return Err(ZipError::ContentTooLarge {
                name: name(),
                size: extent.size,
                limit,
            });
        }
        let span = self.span(index).map_or(0, |span| span.length());
        let length = usize::try_from(span).unwrap_or(usize::MAX);
        let span_bytes = span_bytes.get(..length).unwrap_or(span_bytes);
        let mut content = Vec::new();
        let mut reader = EntryReader::new(index);
        reader.feed(self, span_bytes, &mut |piece| {
            content.extend_from_slice(piece)
        })?;
        match reader.finish(self)? {
            Checked::Content => Ok(content),
            Checked::Nothing | Checked::Header => Err(ZipError::ContentTruncated {
                name: name(),
                expected: (header::LOCAL_BYTES + central.header_name.len()) as u64
                    + extent.stored_size,
                found: span_bytes.len() as u64,
            }),
        }
    }
}
