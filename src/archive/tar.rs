//! Tar archives: an index of what they hold, read from their headers alone.
//!
//! Owns the dialects (v7, ustar, GNU, pax), the compact [`TarIndex`], and what GNU tar, which unpacks
//! revisions, would refuse ([`TarError`]). [`TarScanner`] takes a whole tar in pieces (one that comes out
//! of gzip); [`TarReader`] asks for ranges of one that lies in an object and passes over contents.
//! Knows nothing of application roots; names are told as they stand.
//!
//! ```text
//! [extended headers, their payloads][header 512][content, padded to 512] ... [zeros 512][zeros 512][ignored]
//! ^ header offset                               ^ data offset
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use crate::archive::gzip::BlockMap;
use crate::archive::{ArchiveFormat, Compression, Entry, EntryKind};
use crate::object::ByteRange;

mod header;
mod links;
mod pax;
mod reader;
#[cfg(test)]
pub(crate) mod samples;
mod scanner;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use header::{BLOCK, padded};
pub use links::HardLinks;
pub use reader::{Step, TarReader};
pub use scanner::{Captured, TarScan, TarScanner, Wanted};
pub(crate) use write::{END_OF_ARCHIVE, WrittenEntry, write_header};

/// Bytes of one extended header's payload (pax records).
pub const EXTENDED_BYTES_MAX: u64 = 1 << 20;
/// Bytes of all captured contents together.
pub const CAPTURED_BYTES_MAX: u64 = 32 << 20;
/// Different owners (ids and names) in one archive.
pub const OWNERS_MAX: usize = 1 << 16;
/// Bytes of an owner's or group's name; ustar has room for 32.
pub const OWNER_NAME_BYTES_MAX: usize = 255;

/// Why a tar cannot be read. Offsets are in the tar itself, after gzip.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TarError {
    /// No byte at all; GNU tar refuses that too.
    #[error("tar is empty: expected at least an end-of-archive block of 512 bytes")]
    Empty,
    /// The first block is no header.
    #[error("first 512 bytes are not a tar header")]
    NotTar,
    /// A later header's checksum is wrong, or there is no header where one must be.
    #[error("header at byte {offset} has checksum {found}, expected {expected}")]
    BadChecksum {
        /// Where the header lies.
        offset: u64,
        /// The sum of its bytes.
        expected: i64,
        /// The sum that it tells; -1 where it tells no number.
        found: i64,
    },
    /// A number of a header cannot be read.
    #[error("header at byte {offset}: {field} `{found}` is not a number")]
    BadNumber {
        /// Where the header lies.
        offset: u64,
        /// Which number.
        field: &'static str,
        /// The field's bytes, escaped.
        found: String,
    },
    /// The tar ends inside an entry or a block.
    #[error("tar ends at byte {end}, expected at least {expected} bytes")]
    Truncated {
        /// Where it ends.
        end: u64,
        /// Where the entry or block would end.
        expected: u64,
    },
    /// Extended headers with nothing after them.
    #[error("extended header at byte {offset} has no entry after it")]
    Orphan {
        /// Where they begin.
        offset: u64,
    },
    /// A pax record cannot be read.
    #[error("pax header at byte {offset}: {problem}")]
    MalformedPax {
        /// Where its header lies.
        offset: u64,
        /// What is wrong.
        problem: &'static str,
    },
    /// An extended header is larger than [`EXTENDED_BYTES_MAX`].
    #[error("extended header at byte {offset} has {size} bytes, limit is {limit}")]
    ExtendedTooLarge {
        /// Where its header lies.
        offset: u64,
        /// Bytes of its payload.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A name or link target is too long.
    #[error("name of {length} bytes at byte {offset}, limit is {limit}")]
    NameTooLong {
        /// Where its header lies.
        offset: u64,
        /// Its length in bytes.
        length: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// More entries than [`crate::archive::Limits::entries_max`].
    #[error("tar has more than {limit} entries")]
    TooManyEntries {
        /// The limit.
        limit: usize,
    },
    /// All names together are larger than [`crate::archive::Limits::directory_bytes_max`].
    #[error("names in the tar have more than {limit} bytes in all")]
    NamesTooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// More than [`OWNERS_MAX`] different owners.
    #[error("tar has more than {limit} different owners")]
    TooManyOwners {
        /// The limit.
        limit: usize,
    },
    /// A sparse file (GNU): its content is a map and pieces.
    #[error("entry `{name}` at byte {offset} is a sparse file, expected one made without --sparse")]
    Sparse {
        /// The entry's name, escaped.
        name: String,
        /// Where its header lies.
        offset: u64,
    },
    /// A continuation of another volume.
    #[error("entry at byte {offset} continues another volume, expected a whole tar")]
    MultiVolume {
        /// Where its header lies.
        offset: u64,
    },
    /// A content of more bytes than any object has.
    #[error("entry at byte {offset} has {size} bytes, which no archive can hold")]
    SizeOverflow {
        /// Where its header lies.
        offset: u64,
        /// The size it tells.
        size: u64,
    },
    /// More bytes were passed over than the scanner allowed, or another range was fed than asked for.
    #[error("reader was fed range {found}, expected {expected}")]
    WrongRange {
        /// The range asked for.
        expected: ByteRange,
        /// The range fed.
        found: ByteRange,
    },
}

impl TarError {
    /// Stable word for what is wrong, as findings carry it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty | Self::NotTar => "archive-not-recognised",
            Self::BadChecksum { .. }
            | Self::BadNumber { .. }
            | Self::Orphan { .. }
            | Self::MalformedPax { .. }
            | Self::ExtendedTooLarge { .. }
            | Self::SizeOverflow { .. } => "tar-header-invalid",
            Self::Truncated { .. } => "archive-truncated",
            Self::NameTooLong { .. } => "entry-name-too-long",
            Self::TooManyEntries { .. }
            | Self::NamesTooLarge { .. }
            | Self::TooManyOwners { .. } => "archive-too-many-entries",
            Self::Sparse { .. } => "tar-sparse-file",
            Self::MultiVolume { .. } => "tar-multi-volume",
            Self::WrongRange { .. } => "internal",
        }
    }
}

/// Who owns an entry's file.
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    /// User id.
    pub uid: u64,
    /// Group id.
    pub gid: u64,
    /// User name; empty where the archive has none.
    pub uname: Box<[u8]>,
    /// Group name; empty where the archive has none.
    pub gname: Box<[u8]>,
}

/// Where an entry lies in the tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// Its extended headers, their payloads and its header.
    pub header: ByteRange,
    /// Its content, without padding.
    pub data: ByteRange,
    /// CRC-32 of the bytes of `header`: a second reading of the same archive must find the same.
    pub header_crc32: u32,
    /// Whether the header can be copied as it stands. It cannot where it depends on a global pax
    /// header, which lies elsewhere.
    pub self_contained: bool,
}

impl Placement {
    /// Header, content and padding.
    pub fn whole(&self) -> ByteRange {
        let end = padded(self.data.length()).and_then(|bytes| self.data.start.checked_add(bytes));
        ByteRange::new(self.header.start, end.unwrap_or(self.data.end))
    }
}

/// What the scanner found, in the archive's order: 48 bytes an entry and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarIndex {
    records: Vec<Record>,
    /// Each entry's name, then its link target, without separators.
    names: Vec<u8>,
    owners: Vec<Owner>,
    end: u64,
    is_sound: bool,
    /// Where the tar came out of gzip.
    blocks: Option<Arc<BlockMap>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    header_offset: u64,
    size: u64,
    mtime: i64,
    mtime_nanos: u32,
    header_crc32: u32,
    /// Where its texts end in the names; they begin where those of the entry before end.
    names_end: u32,
    header_blocks: u16,
    link_length: u16,
    owner: u16,
    mode: u16,
    kind: EntryKind,
    self_contained: bool,
}

impl TarIndex {
    fn new() -> Self {
        let (records, names, owners) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            records,
            names,
            owners,
            end: 0,
            is_sound: false,
            blocks: None,
        }
    }

    /// [`ArchiveFormat::Tar`], or [`ArchiveFormat::TarGz`] where the tar came out of gzip; offsets are
    /// those of the tar in both cases.
    pub fn format(&self) -> ArchiveFormat {
        match self.blocks {
            Some(_) => ArchiveFormat::TarGz,
            None => ArchiveFormat::Tar,
        }
    }

    /// The same index for a tar that came out of gzip, with what is known of that stream.
    pub(crate) fn gzipped(mut self, blocks: BlockMap) -> Self {
        self.blocks = Some(Arc::new(blocks));
        self
    }

    /// What is known of the gzip stream that the tar came out of; `None` of one that did not.
    pub fn blocks(&self) -> Option<&Arc<BlockMap>> {
        self.blocks.as_ref()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The entry at position `at`.
    pub fn entry(&self, at: usize) -> Option<Entry<'_>> {
        let record = self.records.get(at)?;
        let start = match at.checked_sub(1) {
            Some(before) => self.records.get(before)?.names_end as usize,
            None => 0,
        };
        let texts = self.names.get(start..record.names_end as usize)?;
        let name_length = texts.len().checked_sub(usize::from(record.link_length))?;
        let (name, link) = texts.split_at_checked(name_length)?;
        let is_link = matches!(record.kind, EntryKind::Symlink | EntryKind::HardLink);
        Some(Entry {
            name,
            kind: record.kind,
            mode: Some(u32::from(record.mode)),
            size: record.size,
            stored_size: record.size,
            compression: Compression::Stored,
            encrypted: false,
            crc32: None,
            link_target: is_link.then_some(link),
            modified_seconds: Some(record.mtime),
        })
    }

    /// All entries in the archive's order.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        (0..self.len()).filter_map(|at| self.entry(at))
    }

    /// Where the entry at position `at` lies.
    pub fn placement(&self, at: usize) -> Option<Placement> {
        let record = self.records.get(at)?;
        let header_bytes = u64::from(record.header_blocks) * BLOCK as u64;
        let header = ByteRange::at(record.header_offset, header_bytes)?;
        Some(Placement {
            header,
            data: ByteRange::at(header.end, record.size)?,
            header_crc32: record.header_crc32,
            self_contained: record.self_contained,
        })
    }

    /// Nanoseconds after [`Entry::modified_seconds`], which pax headers tell.
    pub fn modified_nanos(&self, at: usize) -> Option<u32> {
        Some(self.records.get(at)?.mtime_nanos)
    }

    /// Who owns the entry at position `at`.
    pub fn owner(&self, at: usize) -> Option<&Owner> {
        self.owners.get(usize::from(self.records.get(at)?.owner))
    }

    /// Whether GNU tar has no remark about the archive's end: two blocks of zeros, or none. A single one
    /// makes it warn.
    pub fn is_sound(&self) -> bool {
        self.is_sound
    }

    /// Where the last entry ends; what follows is end blocks and what readers ignore.
    pub fn end(&self) -> u64 {
        self.end
    }
}

/// A name as GNU tar creates it: without leading `/` and `./`.
pub(crate) fn relative(mut name: &[u8]) -> &[u8] {
    while let Some(rest) = name.strip_prefix(b"/").or_else(|| name.strip_prefix(b"./")) {
        name = rest;
    }
    name
}

/// Gives each different owner one number while an index is built.
#[derive(Debug, Default)]
struct Owners {
    numbers: HashMap<Owner, u16>,
}

impl Owners {
    fn number(&mut self, owner: Owner, all: &mut Vec<Owner>) -> Result<u16, TarError> {
        if let Some(number) = self.numbers.get(&owner) {
            return Ok(*number);
        }
        let number =
            u16::try_from(all.len()).map_err(|_| TarError::TooManyOwners { limit: OWNERS_MAX })?;
        all.push(owner.clone());
        self.numbers.insert(owner, number);
        Ok(number)
    }
}
