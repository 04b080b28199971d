//! Headers of a zip's members, as they are written (APPNOTE 4.3.7, 4.3.9, 4.3.12).
//!
//! Owns flags, versions, extra fields and when a field has 64 bits. Refuses to know which member comes when,
//! and where its content is from.

use super::dos_time::dos_time;
use crate::archive::EntryKind;

/// Content from this size on gets zip64 fields, well before its stored size could need them.
pub const ZIP64_BYTES_MIN: u64 = 0xf000_0000;

const LOCAL_HEADER: u32 = 0x0403_4b50;
const DESCRIPTOR: u32 = 0x0807_4b50;
const DIRECTORY_HEADER: u32 = 0x0201_4b50;

const STORED: u16 = 0;
const DEFLATED: u16 = 8;
const HAS_DESCRIPTOR: u16 = 1 << 3;
const NAME_IS_UTF_8: u16 = 1 << 11;
const MADE_BY_UNIX: u16 = 3 << 8;

const ZIP64_EXTRA: u16 = 0x0001;
const TIMESTAMP_EXTRA: u16 = 0x5455;
/// Bytes of the timestamp extra, its own header included.
const TIMESTAMP_BYTES: u16 = 9;
/// What a 32-bit field holds where the value stands in a zip64 one.
const ELSEWHERE_32: u32 = u32::MAX;
/// A symbolic link's mode, whatever the system that it comes from says of it.
const SYMLINK_MODE: u32 = 0o777;

/// What a member is called and what it makes.
#[derive(Debug, Clone, Copy)]
pub struct MemberName<'a> {
    /// Relative, forward slashes; a directory's gets a slash at its end where it has none.
    pub name: &'a [u8],
    /// What it makes.
    pub kind: EntryKind,
    /// Permission bits (`0o7777`); a symbolic link's do not matter.
    pub mode: u32,
    /// Seconds since 1970.
    pub modified_seconds: i64,
}

/// A member's content as it lies in the zip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredContent {
    /// CRC-32; 0 in the local header of a content that streams.
    pub crc32: u32,
    /// Where the local header lies.
    pub offset: u64,
    /// Bytes of content.
    pub raw_bytes: u64,
    /// Bytes in the zip.
    pub stored_bytes: u64,
    /// Deflated, or as it is.
    pub is_deflated: bool,
    /// It streams: a data descriptor follows it.
    pub has_descriptor: bool,
    /// Local header and data descriptor have sizes of 64 bits.
    pub zip64: bool,
}

impl StoredContent {
    /// Content of `raw_bytes` that streams from `offset` on.
    pub fn streaming(offset: u64, raw_bytes: u64) -> Self {
        Self {
            crc32: 0,
            offset,
            raw_bytes: 0,
            stored_bytes: 0,
            is_deflated: true,
            has_descriptor: true,
            zip64: raw_bytes >= ZIP64_BYTES_MIN,
        }
    }
}

/// Why a header cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// A zip has 16 bits for the length of a name.
    #[error("name of {bytes} bytes is too long for a zip, at most 65535 bytes fit")]
    NameTooLong {
        /// Its length.
        bytes: usize,
    },
    /// Content that was begun as a small one and became a large one.
    #[error("content became {bytes} bytes, its header has room for 4294967294")]
    SizeOutOfField {
        /// Its size.
        bytes: u64,
    },
}

impl MemberName<'_> {
    fn closing_slash(&self) -> &'static [u8] {
        match self.kind {
            EntryKind::Directory if !self.name.ends_with(b"/") => b"/",
            _ => b"",
        }
    }

    fn length(&self) -> Result<u16, WriteError> {
        let bytes = self.name.len() + self.closing_slash().len();
        u16::try_from(bytes).map_err(|_| WriteError::NameTooLong { bytes })
    }

    fn flags(&self, content: &StoredContent) -> u16 {
        // The flag promises UTF-8; a name that is neither ASCII nor UTF-8 goes without it, as it came.
        let is_utf_8 = !self.name.is_ascii() && std::str::from_utf8(self.name).is_ok();
        (if is_utf_8 { NAME_IS_UTF_8 } else { 0 })
            | (if content.has_descriptor {
                HAS_DESCRIPTOR
            } else {
                0
            })
    }

    /// The modification time, where 32 bits hold it.
    fn timestamp(&self) -> Option<i32> {
        i32::try_from(self.modified_seconds).ok()
    }

    fn put_name(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.name);
        out.extend_from_slice(self.closing_slash());
    }

    /// The timestamp extra: which times it holds (modification only), and that one.
    fn put_timestamp(&self, out: &mut Vec<u8>) {
        if let Some(seconds) = self.timestamp() {
            put_16(out, TIMESTAMP_EXTRA);
            put_16(out, TIMESTAMP_BYTES - 4);
            out.push(1);
            out.extend_from_slice(&seconds.to_le_bytes());
        }
    }

    fn timestamp_bytes(&self) -> u16 {
        self.timestamp().map_or(0, |_| TIMESTAMP_BYTES)
    }
}

fn method(content: &StoredContent) -> u16 {
    if content.is_deflated {
        DEFLATED
    } else {
        STORED
    }
}

fn version_needed(content: &StoredContent, has_zip64: bool) -> u16 {
    match (has_zip64, content.is_deflated) {
        (true, _) => 45,
        (false, true) => 20,
        (false, false) => 10,
    }
}

/// A size in a field of 32 bits, which may not hold all ones.
fn narrow(bytes: u64) -> Result<u32, WriteError> {
    u32::try_from(bytes)
        .ok()
        .filter(|bytes| *bytes != ELSEWHERE_32)
        .ok_or(WriteError::SizeOutOfField { bytes })
}

/// Writes what stands before a content.
///
/// # Errors
/// A name or a size that its field cannot hold.
pub fn write_local_header(
    out: &mut Vec<u8>,
    member: &MemberName<'_>,
    content: &StoredContent,
) -> Result<(), WriteError> {
    let name_length = member.length()?;
    let (stored, raw, zip64_bytes) = if content.zip64 {
        (ELSEWHERE_32, ELSEWHERE_32, 20)
    } else {
        let (stored, raw) = (narrow(content.stored_bytes)?, narrow(content.raw_bytes)?);
        (stored, raw, 0)
    };
    put_32(out, LOCAL_HEADER);
    put_16(out, version_needed(content, content.zip64));
    put_16(out, member.flags(content));
    put_16(out, method(content));
    put_32(out, dos_time(member.modified_seconds));
    put_32(out, content.crc32);
    put_32(out, stored);
    put_32(out, raw);
    put_16(out, name_length);
    put_16(out, member.timestamp_bytes() + zip64_bytes);
    member.put_name(out);
    member.put_timestamp(out);
    if content.zip64 {
        put_16(out, ZIP64_EXTRA);
        put_16(out, 16);
        put_64(out, content.raw_bytes);
        put_64(out, content.stored_bytes);
    }
    Ok(())
}

/// Writes what stands behind a content that streamed.
///
/// # Errors
/// A size that its field cannot hold.
pub fn write_descriptor(out: &mut Vec<u8>, content: &StoredContent) -> Result<(), WriteError> {
    put_32(out, DESCRIPTOR);
    put_32(out, content.crc32);
    for bytes in [content.stored_bytes, content.raw_bytes] {
        if content.zip64 {
            put_64(out, bytes);
        } else {
            put_32(out, narrow(bytes)?);
        }
    }
    Ok(())
}

/// Writes what the directory says of a member.
///
/// # Errors
/// A name that its field cannot hold.
pub fn write_directory_header(
    out: &mut Vec<u8>,
    member: &MemberName<'_>,
    content: &StoredContent,
) -> Result<(), WriteError> {
    let name_length = member.length()?;
    // APPNOTE 4.5.3: raw size, stored size, offset, each where its 32-bit field has all ones. Where the local
    // header has both sizes in 64 bits so has this one, since the descriptor's width follows from it.
    let mut wide = [0; 3];
    let mut fields: u16 = 0;
    let mut field = |bytes: u64, is_wide: bool| match narrow(bytes) {
        Ok(narrow) if !is_wide => narrow,
        _ => {
            if let Some(place) = wide.get_mut(usize::from(fields)) {
                *place = bytes;
                fields += 1;
            }
            ELSEWHERE_32
        }
    };
    let raw = field(content.raw_bytes, content.zip64);
    let stored = field(content.stored_bytes, content.zip64);
    let offset = field(content.offset, false);
    let zip64_bytes = if fields > 0 { 4 + 8 * fields } else { 0 };
    let needed = version_needed(content, fields > 0);
    let (type_bits, dos_bits, mode) = match member.kind {
        EntryKind::Directory => (0o040_000, 0x10, member.mode),
        EntryKind::Symlink => (0o120_000, 0, SYMLINK_MODE),
        _ => (0o100_000, 0, member.mode),
    };
    put_32(out, DIRECTORY_HEADER);
    put_16(out, MADE_BY_UNIX | needed.max(20));
    put_16(out, needed);
    put_16(out, member.flags(content));
    put_16(out, method(content));
    put_32(out, dos_time(member.modified_seconds));
    put_32(out, content.crc32);
    put_32(out, stored);
    put_32(out, raw);
    put_16(out, name_length);
    put_16(out, member.timestamp_bytes() + zip64_bytes);
    put_16(out, 0); // comment
    put_16(out, 0); // disk
    put_16(out, 0); // internal attributes
    put_32(out, ((type_bits | (mode & 0o7777)) << 16) | dos_bits);
    put_32(out, offset);
    member.put_name(out);
    member.put_timestamp(out);
    if fields > 0 {
        put_16(out, ZIP64_EXTRA);
        put_16(out, 8 * fields);
        let wide = wide.iter().take(usize::from(fields));
        wide.for_each(|bytes| put_64(out, *bytes));
    }
    Ok(())
}

fn put_16(out: &mut Vec<u8>, number: u16) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_32(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}
