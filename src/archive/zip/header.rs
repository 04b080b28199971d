//! The two headers of an entry (APPNOTE 4.3.7 and 4.3.12), as views over their bytes.
//!
//! ```text
//! local    PK\3\4 | needed u16 | flags u16 | method u16 | time, date u16 | crc u32
//!          | stored size, size u32 | name length, extra length u16 | name | extra
//! central  PK\1\2 | made by u16 | needed u16 | flags u16 | method u16 | time, date u16 | crc u32
//!          | stored size, size u32 | name, extra, comment length u16 | disk u16
//!          | internal u16, external attributes u32 | local header's offset u32 | name | extra | comment
//! ```

use super::extra::{self, ExtraFields};
use crate::archive::{Compression, EntryKind};

/// Bytes of a local header before its name.
pub const LOCAL_BYTES: usize = 30;
/// Bytes of a central header before its name.
pub const CENTRAL_BYTES: usize = 46;
/// Where the flags stand in a local header.
pub const LOCAL_FLAGS_AT: u64 = 6;
/// Where the name's length stands in a local header.
pub const LOCAL_NAME_LENGTH_AT: u64 = 26;

/// Flag: the content is encrypted.
pub const FLAG_ENCRYPTED: u16 = 1;
/// Flag: sizes and CRC-32 follow the content in a data descriptor.
pub const FLAG_DESCRIPTOR: u16 = 1 << 3;
/// Flag: strong encryption.
pub const FLAG_STRONG_ENCRYPTION: u16 = 1 << 6;
/// Flag: name and comment are UTF-8.
pub const FLAG_UTF8: u16 = 1 << 11;
/// Flag: the directory is encrypted and local headers are masked.
pub const FLAG_MASKED: u16 = 1 << 13;
/// Flags that say how the content is to be read; in the others writers differ between the two headers.
pub const FLAGS_COMPARED: u16 =
    FLAG_ENCRYPTED | FLAG_DESCRIPTOR | FLAG_STRONG_ENCRYPTION | FLAG_UTF8 | FLAG_MASKED;

const LOCAL_SIGNATURE: [u8; 4] = *b"PK\x03\x04";
const CENTRAL_SIGNATURE: [u8; 4] = *b"PK\x01\x02";
const ONES: u32 = u32::MAX;

/// Hosts whose external attributes hold a Unix mode, and whose links unzip makes (its `SYMLINK_HOST`).
const UNIX_HOSTS: [u8; 5] = [2, 3, 5, 16, 30];
const HOST_FAT: u8 = 0;

const TYPE_MASK: u32 = 0o170_000;
const TYPE_DIRECTORY: u32 = 0o040_000;
const TYPE_REGULAR: u32 = 0o100_000;
const TYPE_SYMLINK: u32 = 0o120_000;
const DOS_DIRECTORY: u32 = 0x10;
const DOS_READ_ONLY: u32 = 1;

/// One record of the central directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CentralHeader<'a> {
    fixed: &'a [u8; CENTRAL_BYTES],
    /// Name as the header has it; a Unicode Path extra may replace it.
    pub header_name: &'a [u8],
    /// Extra field.
    pub extra: &'a [u8],
    /// Comment.
    pub comment: &'a [u8],
}

/// Sizes and offset of a record, with zip64 values in place of all ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Bytes of content.
    pub size: u64,
    /// Bytes of content as stored.
    pub stored_size: u64,
    /// Offset of the local header as written.
    pub header_at: u64,
    /// Number of the disk.
    pub disk: u32,
}

impl<'a> CentralHeader<'a> {
    /// Reads the record at the start of `bytes`; `None` where there is no whole one.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (fixed, rest) = bytes.split_first_chunk::<CENTRAL_BYTES>()?;
        if !fixed.starts_with(&CENTRAL_SIGNATURE) {
            return None;
        }
        let length = |a: u8, b: u8| usize::from(u16::from_le_bytes([a, b]));
        let (header_name, rest) = rest.split_at_checked(length(fixed[28], fixed[29]))?;
        let (extra, rest) = rest.split_at_checked(length(fixed[30], fixed[31]))?;
        let comment = rest.get(..length(fixed[32], fixed[33]))?;
        Some(Self {
            fixed,
            header_name,
            extra,
            comment,
        })
    }

    /// Bytes of the whole record.
    pub fn record_bytes(&self) -> usize {
        CENTRAL_BYTES + self.header_name.len() + self.extra.len() + self.comment.len()
    }

    /// The record's first 46 bytes.
    pub fn fixed(&self) -> &'a [u8; CENTRAL_BYTES] {
        self.fixed
    }

    /// Host that made the entry (APPNOTE 4.4.2.2): 0 MS-DOS, 3 Unix.
    pub fn host(&self) -> u8 {
        self.fixed[5]
    }

    /// Version needed to extract, times 10.
    pub fn version_needed(&self) -> u16 {
        u16::from_le_bytes([self.fixed[6], self.fixed[7]])
    }

    /// General purpose bit flags.
    pub fn flags(&self) -> u16 {
        u16::from_le_bytes([self.fixed[8], self.fixed[9]])
    }

    /// Compression method by its number.
    pub fn method(&self) -> u16 {
        u16::from_le_bytes([self.fixed[10], self.fixed[11]])
    }

    /// CRC-32 of the content.
    pub fn crc32(&self) -> u32 {
        u32::from_le_bytes([
            self.fixed[16],
            self.fixed[17],
            self.fixed[18],
            self.fixed[19],
        ])
    }

    /// Whether sizes and CRC-32 follow the content too.
    pub fn has_descriptor(&self) -> bool {
        self.flags() & FLAG_DESCRIPTOR != 0
    }

    /// Whether the content is ciphertext, by whichever of the schemes.
    pub fn is_encrypted(&self) -> bool {
        const METHOD_AES: u16 = 99;
        self.flags() & (FLAG_ENCRYPTED | FLAG_STRONG_ENCRYPTION | FLAG_MASKED) != 0
            || self.method() == METHOD_AES
    }

    /// How the content is stored.
    pub fn compression(&self) -> Compression {
        match self.method() {
            0 => Compression::Stored,
            8 => Compression::Deflated,
            other => Compression::Other(other),
        }
    }

    /// The name that replaces the header's, where a valid Unicode Path extra gives one. As unzip does,
    /// the flag for UTF-8 wins over the extra.
    pub fn unicode_name(&self) -> Option<&'a [u8]> {
        if self.flags() & FLAG_UTF8 != 0 {
            return None;
        }
        let data = ExtraFields::find(self.extra, extra::UNICODE_PATH)?;
        extra::unicode_path(data, self.header_name)
    }

    /// Whether a Unicode Path extra stands here, valid or not.
    pub fn has_unicode_path(&self) -> bool {
        ExtraFields::find(self.extra, extra::UNICODE_PATH).is_some()
    }

    /// The extra field as far as it is well-formed. Where that is not all of it, the local header must have
    /// the very same extra field, so that it can be mended unseen.
    pub fn sound_extra(&self) -> &'a [u8] {
        ExtraFields::sound_bytes(self.extra)
    }

    /// Sizes and offset; `None` where a field is all ones and zip64 has no value for it.
    pub fn extent(&self) -> Option<Extent> {
        let f = self.fixed;
        let stored_size = u32::from_le_bytes([f[20], f[21], f[22], f[23]]);
        let size = u32::from_le_bytes([f[24], f[25], f[26], f[27]]);
        let disk = u16::from_le_bytes([f[34], f[35]]);
        let header_at = u32::from_le_bytes([f[42], f[43], f[44], f[45]]);
        let mut zip64 = Zip64::default();
        if size == ONES || stored_size == ONES || header_at == ONES || disk == u16::MAX {
            zip64 = Zip64(ExtraFields::find(self.extra, extra::ZIP64).unwrap_or_default());
        }
        Some(Extent {
            size: zip64.u64_for(size)?,
            stored_size: zip64.u64_for(stored_size)?,
            header_at: zip64.u64_for(header_at)?,
            disk: if disk == u16::MAX {
                zip64.u32()?
            } else {
                u32::from(disk)
            },
        })
    }

    fn external_attributes(&self) -> u32 {
        u32::from_le_bytes([
            self.fixed[38],
            self.fixed[39],
            self.fixed[40],
            self.fixed[41],
        ])
    }

    /// File type and mode as unzip reads them: from the upper half on Unix hosts, and on MS-DOS where
    /// the owner's bits agree with the DOS attributes.
    fn unix_mode(&self) -> Option<u32> {
        let attributes = self.external_attributes();
        let mode = attributes >> 16;
        if mode == 0 {
            return None;
        }
        if UNIX_HOSTS.contains(&self.host()) {
            return Some(mode);
        }
        let write = if attributes & DOS_READ_ONLY == 0 {
            0o200
        } else {
            0
        };
        let search = if attributes & DOS_DIRECTORY == 0 {
            0
        } else {
            0o100
        };
        (self.host() == HOST_FAT && mode & 0o700 == 0o400 | write | search).then_some(mode)
    }

    /// Permission bits, where the record has a Unix mode.
    pub fn mode(&self) -> Option<u32> {
        self.unix_mode().map(|mode| mode & 0o7777)
    }

    /// What the entry makes, under this name.
    pub fn kind(&self, name: &[u8]) -> EntryKind {
        let backslash = self.host() == HOST_FAT && name.ends_with(b"\\");
        if name.ends_with(b"/") || backslash {
            return EntryKind::Directory;
        }
        if !UNIX_HOSTS.contains(&self.host()) {
            let directory = self.external_attributes() & DOS_DIRECTORY != 0;
            return if directory {
                EntryKind::Directory
            } else {
                EntryKind::File
            };
        }
        match self.external_attributes() >> 16 & TYPE_MASK {
            TYPE_DIRECTORY => EntryKind::Directory,
            TYPE_SYMLINK => EntryKind::Symlink,
            0 | TYPE_REGULAR => EntryKind::File,
            _ => EntryKind::Special,
        }
    }

    /// Seconds since 1970: the extended timestamp, else the DOS time read as UTC.
    pub fn modified_seconds(&self) -> Option<i64> {
        ExtraFields::find(self.extra, extra::EXTENDED_TIMESTAMP)
            .and_then(extra::modified_seconds)
            .or_else(|| {
                let f = self.fixed;
                let time = u16::from_le_bytes([f[12], f[13]]);
                dos_seconds(u16::from_le_bytes([f[14], f[15]]), time)
            })
    }
}

/// The 64-bit values of a zip64 block, taken one after the other.
#[derive(Default)]
struct Zip64<'a>(&'a [u8]);

impl Zip64<'_> {
    fn u64_for(&mut self, short: u32) -> Option<u64> {
        if short != ONES {
            return Some(u64::from(short));
        }
        let (value, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*value))
    }

    fn u32(&mut self) -> Option<u32> {
        self.0
            .first_chunk::<4>()
            .map(|value| u32::from_le_bytes(*value))
    }
}

/// A local header with its name and extra field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalHeader<'a> {
    fixed: &'a [u8; LOCAL_BYTES],
    /// Name.
    pub name: &'a [u8],
    /// Extra field.
    pub extra: &'a [u8],
}

impl<'a> LocalHeader<'a> {
    /// Bytes of the whole header, once its first 30 are there.
    pub fn header_bytes(bytes: &[u8]) -> Option<usize> {
        let fixed = bytes.first_chunk::<LOCAL_BYTES>()?;
        let name = u16::from_le_bytes([fixed[26], fixed[27]]);
        let extra = u16::from_le_bytes([fixed[28], fixed[29]]);
        Some(LOCAL_BYTES + usize::from(name) + usize::from(extra))
    }

    /// Reads the header at the start of `bytes`, whatever its signature, and says whether its extra field
    /// is whole; `None` where the name is not.
    pub fn parse(bytes: &'a [u8]) -> Option<(Self, bool)> {
        let (fixed, rest) = bytes.split_first_chunk::<LOCAL_BYTES>()?;
        let length = |a: u8, b: u8| usize::from(u16::from_le_bytes([a, b]));
        let (name, rest) = rest.split_at_checked(length(fixed[26], fixed[27]))?;
        let whole = rest.get(..length(fixed[28], fixed[29]));
        let header = Self {
            fixed,
            name,
            extra: whole.unwrap_or(rest),
        };
        Some((header, whole.is_some()))
    }

    /// General purpose bit flags.
    pub fn flags(&self) -> u16 {
        u16::from_le_bytes([self.fixed[6], self.fixed[7]])
    }

    /// Compression method by its number.
    pub fn method(&self) -> u16 {
        u16::from_le_bytes([self.fixed[8], self.fixed[9]])
    }

    /// CRC-32; 0 where a data descriptor has it.
    pub fn crc32(&self) -> u32 {
        u32::from_le_bytes([
            self.fixed[14],
            self.fixed[15],
            self.fixed[16],
            self.fixed[17],
        ])
    }

    /// Size and stored size; `None` where zip64 has no value for all ones.
    pub fn sizes(&self) -> Option<(u64, u64)> {
        let f = self.fixed;
        let stored_size = u32::from_le_bytes([f[18], f[19], f[20], f[21]]);
        let size = u32::from_le_bytes([f[22], f[23], f[24], f[25]]);
        let mut zip64 = Zip64::default();
        if size == ONES || stored_size == ONES {
            zip64 = Zip64(ExtraFields::find(self.extra, extra::ZIP64).unwrap_or_default());
        }
        Some((zip64.u64_for(size)?, zip64.u64_for(stored_size)?))
    }

    /// Whether a Unicode Path extra stands here.
    pub fn has_unicode_path(&self) -> bool {
        ExtraFields::find(self.extra, extra::UNICODE_PATH).is_some()
    }
}

/// Whether `bytes` begin with a local header's signature.
pub fn begins_local_header(bytes: &[u8]) -> bool {
    bytes.starts_with(&LOCAL_SIGNATURE)
}

/// Seconds since 1970 of a DOS date and time read as UTC; `None` for months, days or times that are none.
fn dos_seconds(date: u16, time: u16) -> Option<i64> {
    let (year, month, day) = (
        1980 + i64::from(date >> 9),
        i64::from(date >> 5 & 15),
        i64::from(date & 31),
    );
    let (hour, minute, second) = (
        i64::from(time >> 11),
        i64::from(time >> 5 & 63),
        i64::from(time & 31) * 2,
    );
    let valid = (1..=12).contains(&month)
        && day >= 1
        && day <= days_in_month(year, month)
        && hour < 24
        && minute < 60
        && second < 60;
    // Days from 1970-01-01 in the civil calendar, with years that begin in March.
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = 365 * shifted_year + shifted_year / 4 - shifted_year / 100
        + shifted_year / 400
        + day_of_year
        - 719_468;
    valid.then_some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dos(y: u16, mo: u16, d: u16, h: u16, mi: u16, s: u16) -> Option<i64> {
        dos_seconds((y - 1980) << 9 | mo << 5 | d, h << 11 | mi << 5 | (s / 2))
    }

    #[test]
    fn ok_dos_times_are_read_as_utc() {
        assert_eq!(dos(1980, 1, 1, 0, 0, 0), Some(315_532_800));
        assert_eq!(dos(2000, 2, 29, 23, 59, 58), Some(951_868_798));
        assert_eq!(dos(2024, 12, 31, 12, 0, 2), Some(1_735_646_402));
        assert_eq!(dos(2107, 12, 31, 23, 59, 58), Some(4_354_819_198));
    }

    #[test]
    fn err_dos_times_that_are_none() {
        assert_eq!(dos_seconds(0, 0), None);
        assert_eq!(dos(2023, 2, 29, 0, 0, 0), None);
        assert_eq!(dos(2023, 13, 1, 0, 0, 0), None);
        assert_eq!(dos(2023, 1, 1, 24, 0, 0), None);
    }

    fn central(host: u8, attributes: u32) -> [u8; CENTRAL_BYTES] {
        let mut bytes = [0; CENTRAL_BYTES];
        bytes[..4].copy_from_slice(&CENTRAL_SIGNATURE);
        bytes[5] = host;
        bytes[38..42].copy_from_slice(&attributes.to_le_bytes());
        bytes
    }

    #[test]
    fn ok_modes_and_kinds_are_read_as_unzip_reads_them() {
        for (host, attributes, name, mode, kind) in [
            (3, 0o100_755 << 16, "f", Some(0o755), EntryKind::File),
            (3, 0o040_750 << 16, "d", Some(0o750), EntryKind::Directory),
            (3, 0o120_777 << 16, "l", Some(0o777), EntryKind::Symlink),
            (3, 0o010_644 << 16, "p", Some(0o644), EntryKind::Special),
            (3, 0, "plain", None, EntryKind::File),
            (
                3,
                0o100_644 << 16,
                "slash/",
                Some(0o644),
                EntryKind::Directory,
            ),
            (0, 0x20, "f", None, EntryKind::File),
            (0, 0x10, "d", None, EntryKind::Directory),
            (0, 0o100_644 << 16 | 0x20, "f", Some(0o644), EntryKind::File),
            (0, 0o100_644 << 16 | 1, "f", None, EntryKind::File),
            (0, 0o120_644 << 16, "l", Some(0o644), EntryKind::File),
            (10, 0o100_644 << 16, "f", None, EntryKind::File),
        ] {
            let bytes = central(host, attributes);
            let header = CentralHeader::parse(&bytes).unwrap();
            assert_eq!(
                (header.mode(), header.kind(name.as_bytes())),
                (mode, kind),
                "{name} {host}"
            );
        }
    }

    #[test]
    fn err_a_cut_record_is_none() {
        let mut bytes = central(3, 0).to_vec();
        bytes[28] = 2;
        bytes.extend(b"ab");
        assert!(CentralHeader::parse(&bytes).is_some());
        assert!(CentralHeader::parse(&bytes[..47]).is_none());
    }

    #[test]
    fn err_all_ones_without_a_zip64_value() {
        let mut bytes = central(3, 0);
        bytes[24..28].copy_from_slice(&[0xff; 4]);
        assert_eq!(CentralHeader::parse(&bytes).unwrap().extent(), None);
    }
}
