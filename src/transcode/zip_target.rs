//! A zip, written front to back.
//!
//! Owns local headers, data descriptors and the directory (APPNOTE 4.3). Content that is compressed as a
//! whole has an exact header; larger content streams and has a data descriptor. Every larger content is deflated, with stored
//! blocks where it does not compress, because readers that stream take no descriptor after stored content.
//!
//! ```text
//! [local header, name, extras][content][descriptor] ... [directory header, name, extras] ... [zip64 end][end]
//! ```

use super::TranscodeError;
use super::assembler::{Output, Whole};
use super::kept::splice;
use super::writer::Plan;
use super::zip_time::dos_time;
use crate::archive::EntryKind;
use crate::archive::gzip::Run;
use crate::archive::tar::WrittenEntry;
use crate::archive::zip::{Declared, write_end};

/// Content from this size on gets zip64 fields, well before its compressed size could need them.
const ZIP64_BYTES_MIN: u64 = 0xf000_0000;
/// What a 32-bit field holds where the value stands in a zip64 one.
const ELSEWHERE_32: u32 = u32::MAX;

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

/// What the directory says of an entry beside its name, mode and times.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Which of the kept entries gave its name.
    kept: u32,
    crc32: u32,
    offset: u64,
    raw_bytes: u64,
    stored_bytes: u64,
    method: u16,
    flags: u16,
    zip64: bool,
}

/// A content that streams behind its local header.
struct Streaming {
    /// Its compressed form is kept too.
    retain: bool,
    crc32: crc32fast::Hasher,
}

/// A zip under way.
#[derive(Default)]
pub(super) struct ZipTarget {
    position: u64,
    places: Vec<Place>,
    open: Option<Streaming>,
    /// The last content as it was stored, for hard links.
    packed: Vec<u8>,
    packed_place: Option<Place>,
    listed: usize,
    directory_offset: u64,
}

impl ZipTarget {
    pub fn written_bytes(&self) -> u64 {
        self.position
    }

    /// Writes a whole content, with `describe` telling what is written for a kept entry.
    pub fn whole(
        &mut self,
        plan: &Plan,
        kept: u32,
        content: Whole,
        out: &mut Output,
    ) -> Result<(), TranscodeError> {
        let entry = plan.describe(kept, &[])?;
        let place = Place {
            kept,
            crc32: content.crc32,
            offset: self.position,
            raw_bytes: content.raw_bytes,
            stored_bytes: content.packed.len() as u64,
            method: if content.is_deflated {
                DEFLATED
            } else {
                STORED
            },
            flags: flags(entry.name),
            zip64: false,
        };
        self.packed = content.packed;
        self.packed_place = Some(place);
        self.write_packed(place, &entry, out)
    }

    /// Begins a content that streams; with `retain`, [`Self::again`] may follow its end.
    pub fn begin(
        &mut self,
        plan: &Plan,
        kept: u32,
        retain: bool,
        out: &mut Output,
    ) -> Result<(), TranscodeError> {
        let entry = plan.describe(kept, &[])?;
        let zip64 = entry.size >= ZIP64_BYTES_MIN;
        let place = Place {
            kept,
            crc32: 0,
            offset: self.position,
            raw_bytes: 0,
            stored_bytes: 0,
            method: DEFLATED,
            flags: flags(entry.name) | HAS_DESCRIPTOR,
            zip64,
        };
        self.write(out, |out| write_local_header(&place, &entry, out))?;
        self.packed = Vec::new();
        self.places.push(place);
        self.open = Some(Streaming {
            retain,
            crc32: crc32fast::Hasher::new(),
        });
        Ok(())
    }

    /// Writes a piece of the stream.
    pub fn chunk(
        &mut self,
        packed: Vec<u8>,
        content: &crc32fast::Hasher,
        raw_bytes: u64,
        out: &mut Output,
    ) -> Result<(), TranscodeError> {
        if let Some(open) = &mut self.open {
            open.crc32.combine(content);
            if open.retain {
                self.packed.extend_from_slice(&packed);
            }
        }
        self.grow(packed.len() as u64, raw_bytes);
        out.bytes().extend_from_slice(&packed);
        Ok(())
    }

    /// Puts blocks of the source into the stream.
    pub fn keep(&mut self, run: &Run, out: &mut Output) {
        let spliced = splice(run);
        let around = spliced.before.len() + spliced.behind.len();
        self.grow(spliced.source.length() + around as u64, run.raw.length());
        out.bytes().extend_from_slice(&spliced.before);
        out.copied(spliced.source);
        out.bytes().extend_from_slice(&spliced.behind);
    }

    fn grow(&mut self, stored_bytes: u64, raw_bytes: u64) {
        self.position += stored_bytes;
        if let Some(place) = self.places.last_mut() {
            place.stored_bytes += stored_bytes;
            place.raw_bytes += raw_bytes;
        }
    }

    /// Ends the stream; its CRC-32 is told where the stream holds blocks of the source.
    pub fn end(&mut self, crc32: Option<u32>, out: &mut Output) -> Result<(), TranscodeError> {
        let (Some(open), Some(place)) = (self.open.take(), self.places.last_mut()) else {
            return Ok(());
        };
        place.crc32 = crc32.unwrap_or_else(|| open.crc32.finalize());
        let place = *place;
        self.packed_place = open.retain.then_some(Place {
            flags: place.flags & !HAS_DESCRIPTOR,
            zip64: false,
            ..place
        });
        self.write(out, |out| {
            put_32(out, DESCRIPTOR);
            put_32(out, place.crc32);
            for bytes in [place.stored_bytes, place.raw_bytes] {
                if place.zip64 {
                    put_64(out, bytes);
                } else {
                    put_32(
                        out,
                        u32::try_from(bytes).map_err(|_| TranscodeError::CompressionFailed)?,
                    );
                }
            }
            Ok(())
        })
    }

    /// Writes the content of the entry before once more, under another name.
    pub fn again(
        &mut self,
        plan: &Plan,
        kept: u32,
        out: &mut Output,
    ) -> Result<(), TranscodeError> {
        let Some(place) = self.packed_place else {
            return Ok(());
        };
        let entry = plan.describe(kept, &[])?;
        let place = Place {
            kept,
            offset: self.position,
            flags: flags(entry.name),
            ..place
        };
        self.write_packed(place, &entry, out)
    }

    fn write_packed(
        &mut self,
        place: Place,
        entry: &WrittenEntry<'_>,
        out: &mut Output,
    ) -> Result<(), TranscodeError> {
        let packed = std::mem::take(&mut self.packed);
        self.write(out, |out| {
            write_local_header(&place, entry, out)?;
            out.extend_from_slice(&packed);
            Ok(())
        })?;
        self.packed = packed;
        self.places.push(place);
        Ok(())
    }

    /// Writes the directory, in pieces of about `bytes_max`; whether it is whole.
    pub fn finish_some(
        &mut self,
        plan: &Plan,
        bytes_max: usize,
        out: &mut Output,
    ) -> Result<bool, TranscodeError> {
        if self.listed == 0 {
            self.directory_offset = self.position;
        }
        let start = self.position;
        while let Some(place) = self.places.get(self.listed).copied() {
            if self.position - start >= bytes_max as u64 {
                return Ok(false);
            }
            let entry = plan.describe(place.kept, &[])?;
            self.write(out, |out| write_directory_header(&place, &entry, out))?;
            self.listed += 1;
        }
        let directory_at = self.directory_offset;
        let declared = Declared {
            entries: self.places.len() as u64,
            directory_bytes: self.position - directory_at,
            directory_at,
        };
        self.write(out, |out| {
            write_end(out, &declared);
            Ok(())
        })?;
        Ok(true)
    }

    fn write(
        &mut self,
        out: &mut Output,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), TranscodeError>,
    ) -> Result<(), TranscodeError> {
        let out = out.bytes();
        let start = out.len();
        write(out)?;
        self.position += (out.len() - start) as u64;
        Ok(())
    }
}

fn flags(name: &[u8]) -> u16 {
    // The flag promises UTF-8; a name that is neither ASCII nor UTF-8 goes without it, as it came.
    if name.is_ascii() || std::str::from_utf8(name).is_err() {
        0
    } else {
        NAME_IS_UTF_8
    }
}

/// A directory's name ends with a slash in a zip.
fn closing_slash(entry: &WrittenEntry<'_>) -> &'static [u8] {
    match entry.kind {
        EntryKind::Directory if !entry.name.ends_with(b"/") => b"/",
        _ => b"",
    }
}

fn name_length(entry: &WrittenEntry<'_>) -> Result<u16, TranscodeError> {
    let length = entry.name.len() + closing_slash(entry).len();
    u16::try_from(length).map_err(|_| TranscodeError::NameTooLong { length })
}

fn version_needed(place: &Place) -> u16 {
    match (place.zip64, place.method) {
        (true, _) => 45,
        (false, DEFLATED) => 20,
        (false, _) => 10,
    }
}

/// The timestamp extra: which times it holds (modification only), and that one, where it fits.
fn timestamp_extra(entry: &WrittenEntry<'_>) -> Vec<u8> {
    let mut extra = Vec::new();
    if let Ok(seconds) = i32::try_from(entry.modified_seconds) {
        put_16(&mut extra, TIMESTAMP_EXTRA);
        put_16(&mut extra, 5);
        extra.push(1);
        extra.extend_from_slice(&seconds.to_le_bytes());
    }
    extra
}

fn write_local_header(
    place: &Place,
    entry: &WrittenEntry<'_>,
    out: &mut Vec<u8>,
) -> Result<(), TranscodeError> {
    let mut extra = timestamp_extra(entry);
    let (mut stored, mut raw) = (place.stored_bytes as u32, place.raw_bytes as u32);
    if place.zip64 {
        (stored, raw) = (ELSEWHERE_32, ELSEWHERE_32);
        put_16(&mut extra, ZIP64_EXTRA);
        put_16(&mut extra, 16);
        put_64(&mut extra, place.raw_bytes);
        put_64(&mut extra, place.stored_bytes);
    }
    put_32(out, LOCAL_HEADER);
    put_16(out, version_needed(place));
    put_16(out, place.flags);
    put_16(out, place.method);
    put_32(out, dos_time(entry.modified_seconds));
    put_32(out, place.crc32);
    put_32(out, stored);
    put_32(out, raw);
    put_16(out, name_length(entry)?);
    put_16(out, extra.len() as u16);
    out.extend_from_slice(entry.name);
    out.extend_from_slice(closing_slash(entry));
    out.extend_from_slice(&extra);
    Ok(())
}

fn write_directory_header(
    place: &Place,
    entry: &WrittenEntry<'_>,
    out: &mut Vec<u8>,
) -> Result<(), TranscodeError> {
    let mut extra = timestamp_extra(entry);
    let mut zip64 = Vec::new();
    // Where the local header has both sizes in 64 bits, so has this one: the width of the data
    // descriptor's fields follows from it.
    let narrow = |bytes: u64, zip64: &mut Vec<u8>, wide: bool| match u32::try_from(bytes) {
        Ok(bytes) if !wide && bytes != ELSEWHERE_32 => bytes,
        _ => {
            put_64(zip64, bytes);
            ELSEWHERE_32
        }
    };
    let raw = narrow(place.raw_bytes, &mut zip64, place.zip64);
    let stored = narrow(place.stored_bytes, &mut zip64, place.zip64);
    let offset = narrow(place.offset, &mut zip64, false);
    if !zip64.is_empty() {
        put_16(&mut extra, ZIP64_EXTRA);
        put_16(&mut extra, zip64.len() as u16);
        extra.extend_from_slice(&zip64);
    }
    let version = if zip64.is_empty() {
        version_needed(place)
    } else {
        45
    };
    let (file_type, dos_attributes) = match entry.kind {
        EntryKind::Directory => (0o040000, 0x10),
        EntryKind::Symlink => (0o120000, 0),
        _ => (0o100000, 0),
    };
    let mode = if entry.kind == EntryKind::Symlink {
        0o777
    } else {
        entry.mode & 0o7777
    };
    put_32(out, DIRECTORY_HEADER);
    put_16(out, MADE_BY_UNIX | version.max(20));
    put_16(out, version);
    put_16(out, place.flags);
    put_16(out, place.method);
    put_32(out, dos_time(entry.modified_seconds));
    put_32(out, place.crc32);
    put_32(out, stored);
    put_32(out, raw);
    put_16(out, name_length(entry)?);
    put_16(out, extra.len() as u16);
    put_16(out, 0); // comment
    put_16(out, 0); // disk
    put_16(out, 0); // internal attributes
    put_32(out, (file_type | mode) << 16 | dos_attributes);
    put_32(out, offset);
    out.extend_from_slice(entry.name);
    out.extend_from_slice(closing_slash(entry));
    out.extend_from_slice(&extra);
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
