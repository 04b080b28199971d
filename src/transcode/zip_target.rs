//! A zip, written front to back.
//!
//! Owns the order of headers, contents and directory (APPNOTE 4.3). Content that is compressed as a whole has
//! an exact header; larger content streams and has a data descriptor. Every larger content is deflated, with
//! stored blocks where it does not compress, because readers that stream take no descriptor after stored
//! content.
//!
//! ```text
//! [local header, name, extras][content][descriptor] ... [directory header, name, extras] ... [zip64 end][end]
//! ```

use super::TranscodeError;
use super::assembler::{Output, Whole};
use super::kept::splice;
use super::writer::Plan;
use crate::archive::gzip::Run;
use crate::archive::tar::WrittenEntry;
use crate::archive::zip::{
    Declared, MemberName, StoredContent, WriteError, write_descriptor, write_directory_header,
    write_end, write_local_header,
};

/// A content and whose it is.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Which of the kept entries gave its name.
    kept: u32,
    content: StoredContent,
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
            content: StoredContent {
                crc32: content.crc32,
                offset: self.position,
                raw_bytes: content.raw_bytes,
                stored_bytes: content.packed.len() as u64,
                is_deflated: content.is_deflated,
                has_descriptor: false,
                zip64: false,
            },
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
        let content = StoredContent::streaming(self.position, entry.size);
        let place = Place { kept, content };
        self.write(out, |out| {
            write_local_header(out, &member(&entry), &content)
        })?;
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
            place.content.stored_bytes += stored_bytes;
            place.content.raw_bytes += raw_bytes;
        }
    }

    /// Ends the stream; its CRC-32 is told where the stream holds blocks of the source.
    pub fn end(&mut self, crc32: Option<u32>, out: &mut Output) -> Result<(), TranscodeError> {
        let (Some(open), Some(place)) = (self.open.take(), self.places.last_mut()) else {
            return Ok(());
        };
        place.content.crc32 = crc32.unwrap_or_else(|| open.crc32.finalize());
        let Place { kept, content } = *place;
        self.packed_place = open.retain.then_some(Place {
            kept,
            content: StoredContent {
                has_descriptor: false,
                zip64: false,
                ..content
            },
        });
        self.write(out, |out| write_descriptor(out, &content))
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
            content: StoredContent {
                offset: self.position,
                ..place.content
            },
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
            write_local_header(out, &member(entry), &place.content)?;
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
            self.write(out, |out| {
                write_directory_header(out, &member(&entry), &place.content)
            })?;
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
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), WriteError>,
    ) -> Result<(), TranscodeError> {
        let out = out.bytes();
        let start = out.len();
        write(out)?;
        self.position += (out.len() - start) as u64;
        Ok(())
    }
}

/// What a zip's headers say of an entry.
fn member<'a>(entry: &WrittenEntry<'a>) -> MemberName<'a> {
    MemberName {
        name: entry.name,
        kind: entry.kind,
        mode: entry.mode,
        modified_seconds: entry.modified_seconds,
    }
}

impl From<WriteError> for TranscodeError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::NameTooLong { bytes } => Self::NameTooLong { length: bytes },
            WriteError::SizeOutOfField { .. } => Self::CompressionFailed,
        }
    }
}
