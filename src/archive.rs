//! What an archive holds, whatever its format: entries in the archive's own order.
//!
//! Owns the format-independent vocabulary ([`ArchiveFormat`], [`Entry`], [`Index`], [`Limits`]). The
//! readers under `archive/` are sans-io: they say which range of the object they want and are fed its
//! bytes. Knows nothing of application roots, AppSpecs or S3.

pub(crate) mod deflate;
pub mod gzip;
pub(crate) mod inflate;
pub mod tar;
#[cfg(test)]
pub(crate) mod testing;
pub mod zip;

use std::sync::Arc;

/// The archive formats taken in and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ArchiveFormat {
    /// PKWARE's APPNOTE 6.3.
    Zip,
    /// POSIX ustar and pax, GNU tar, v7.
    Tar,
    /// Tar inside gzip (RFC 1952).
    TarGz,
}

impl ArchiveFormat {
    /// First bytes of an object that [`Self::detect`] looks at.
    pub const FIRST_BYTES: u64 = 512;
    /// Last bytes of an object that [`Self::detect`] looks at, and in which a zip's reader begins.
    pub const LAST_BYTES: u64 = zip::TAIL_BYTES;

    /// Tells the format by content: what an object begins with, else a zip's end record, which may have
    /// anything before it. `None` for what is no archive.
    ///
    /// A tar whose one fault is its checksum is still a tar, and so are zeros alone (an empty one), so that
    /// their reader can say what is wrong.
    pub fn detect(first_bytes: &[u8], last_bytes: &[u8]) -> Option<Self> {
        const GZIP_MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
        if zip::begins_local_header(first_bytes) {
            Some(Self::Zip)
        } else if first_bytes.starts_with(&GZIP_MAGIC) {
            Some(Self::TarGz)
        } else if first_bytes.first_chunk().is_some_and(is_tar_block) {
            Some(Self::Tar)
        } else {
            zip::has_end(last_bytes).then_some(Self::Zip)
        }
    }
}

/// Whether a block is a tar header by its magic or checksum, or the end of an empty tar.
fn is_tar_block(block: &[u8; 512]) -> bool {
    let has_magic = block.get(257..262) == Some(b"ustar");
    let sum_of = |bytes: &[u8]| bytes.iter().map(|b| u32::from(*b)).sum::<u32>();
    let checksum = block.get(148..156).unwrap_or_default();
    let sum = sum_of(block) - sum_of(checksum) + 8 * u32::from(b' ');
    let declared = std::str::from_utf8(checksum)
        .ok()
        .map(|text| text.trim_matches([' ', '\0']))
        .and_then(|text| u32::from_str_radix(text, 8).ok());
    has_magic || declared == Some(sum) || block.iter().all(|b| *b == 0)
}

/// An archive's index, whatever its format.
#[derive(Debug)]
pub enum Index {
    /// Of a zip.
    Zip(Arc<zip::ZipIndex>),
    /// Of a tar or tar.gz.
    Tar(tar::TarIndex),
}

impl Index {
    /// The archive's format.
    pub fn format(&self) -> ArchiveFormat {
        match self {
            Self::Zip(_) => ArchiveFormat::Zip,
            Self::Tar(index) => index.format(),
        }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        match self {
            Self::Zip(index) => index.len(),
            Self::Tar(index) => index.len(),
        }
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry at this position.
    pub fn entry(&self, index: usize) -> Option<Entry<'_>> {
        match self {
            Self::Zip(zip) => zip.entry(index),
            Self::Tar(tar) => tar.entry(index),
        }
    }

    /// All entries in the archive's own order.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        (0..self.len()).filter_map(|index| self.entry(index))
    }
}

/// Every limit on what an archive may make us do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries in one archive.
    pub entries_max: usize,
    /// Bytes of one entry's name.
    pub name_bytes_max: usize,
    /// Bytes of a zip's central directory.
    pub directory_bytes_max: u64,
    /// Bytes that may be inflated out of one archive in all.
    pub inflated_bytes_max: u64,
    /// Bytes of an AppSpec or `circle.yml`, which are held in memory.
    pub document_bytes_max: u64,
    /// Bytes of a hook script that are looked at.
    pub script_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries_max: 1_000_000,
            name_bytes_max: 4_096,
            directory_bytes_max: 256 << 20,
            inflated_bytes_max: 1 << 40,
            document_bytes_max: 1 << 20,
            script_bytes_max: 1 << 20,
        }
    }
}

/// What kind of file an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link; its target is the content (zip) or [`Entry::link_target`] (tar).
    Symlink,
    /// Hard link to an earlier entry (tar only), named by [`Entry::link_target`].
    HardLink,
    /// FIFO, device, socket or a type that no reader knows.
    Special,
}

/// How an entry's content is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// As it is.
    Stored,
    /// Raw deflate (RFC 1951).
    Deflated,
    /// Another method, by its number in APPNOTE 4.4.5.
    Other(u16),
}

/// One entry, borrowed from its [`Index`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The name that a reader would create, as bytes: a zip's Unicode Path extra, a tar's pax or GNU long
    /// name already applied; nothing else changed (`./`, backslashes, a directory's closing `/` still there).
    pub name: &'a [u8],
    /// What it makes.
    pub kind: EntryKind,
    /// Permission bits with set-id and sticky bits (`0o7777`), where the archive carries Unix modes.
    pub mode: Option<u32>,
    /// Bytes of content, unpacked, as the archive's directory or header declares them.
    pub size: u64,
    /// Bytes of content as stored.
    pub stored_size: u64,
    /// How the content is stored (always [`Compression::Stored`] in a tar).
    pub compression: Compression,
    /// Whether the content is ciphertext.
    pub encrypted: bool,
    /// CRC-32 of the content, where the format has one (zip).
    pub crc32: Option<u32>,
    /// Target of a tar's link.
    pub link_target: Option<&'a [u8]>,
    /// Seconds since 1970, where the archive says (a zip's DOS time is read as UTC).
    pub modified_seconds: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar_block(name: &str, magic: &[u8]) -> [u8; 512] {
        let mut block = [0u8; 512];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[257..257 + magic.len()].copy_from_slice(magic);
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }

    #[test]
    fn ok_formats_are_told_by_content() {
        let end = b"PK\x05\x06 and so on";
        for (first, last, format) in [
            (&b"PK\x03\x04.."[..], &b""[..], Some(ArchiveFormat::Zip)),
            (b"#!/bin/sh unzip me", end, Some(ArchiveFormat::Zip)),
            (end, end, Some(ArchiveFormat::Zip)),
            (b"\x1f\x8b\x08\0", b"", Some(ArchiveFormat::TarGz)),
            (&tar_block("a", b""), b"", Some(ArchiveFormat::Tar)),
            (&tar_block("a.zip", b"ustar"), end, Some(ArchiveFormat::Tar)),
            (&[0; 512], b"", Some(ArchiveFormat::Tar)),
            (b"\xfd7zXZ\0", b"", None),
            (b"", b"", None),
        ] {
            assert_eq!(ArchiveFormat::detect(first, last), format, "{first:?}");
        }
    }

    #[test]
    fn ok_a_tar_with_a_wrong_checksum_is_left_to_its_reader() {
        let mut block = tar_block("a", b"ustar");
        block[0] = b'b';
        assert_eq!(ArchiveFormat::detect(&block, b""), Some(ArchiveFormat::Tar));
        let mut v7 = tar_block("a", b"");
        v7[0] = b'b';
        assert_eq!(ArchiveFormat::detect(&v7, b""), None);
    }
}
