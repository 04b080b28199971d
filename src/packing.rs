//! A folder's files as the bytes of one zip, packed piece by piece and joined in order.
//!
//! Owns local headers, data descriptors and the directory (APPNOTE 4.3), and which content is packed in one
//! go and which in chunks. Pieces do not depend on each other, so any number of threads may pack them;
//! their bytes depend on names, kinds, modes, contents and the one time that all members get, and on nothing
//! else. Refuses to know where contents come from.
//!
//! ```text
//! pack():   [local header, name, extra][content] ...            whole members, exact headers
//! chunks:   [local header, name, extra][deflate][deflate]...[descriptor]
//! join:     offsets of all members -> [directory] [zip64 end][end]
//! ```

use flate2::{Compress, Compression, FlushCompress, Status};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use libdeflater::{CompressionLvl, Compressor};

use crate::archive::zip::{Declared, write_end};

/// Content up to this size is packed in one go, with an exact local header.
pub const WHOLE_BYTES_MAX: u64 = 4 << 20;
/// Larger content is packed in chunks of this size.
pub const CHUNK_BYTES: usize = 1 << 20;
/// How far back deflate refers: what a chunk has to know of the one before it.
pub const HISTORY_BYTES: usize = 32 << 10;
/// Content from this size on gets zip64 fields, before its packed size could need them.
const ZIP64_BYTES_MIN: u64 = 0xf000_0000;

/// Level of content that is packed in one go.
const WHOLE_LEVEL: i32 = 5;
/// Level of chunks.
const CHUNK_LEVEL: u32 = 5;

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
const ELSEWHERE_32: u32 = u32::MAX;

/// What kind of file a member makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file; its content is the file's.
    File,
    /// A folder; it has no content.
    Folder,
    /// A symbolic link; its content is the target.
    Symlink,
}

/// One member of the zip, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Relative, forward slashes; a folder's ends with `/`.
    pub name: Vec<u8>,
    /// What it makes.
    pub kind: MemberKind,
    /// Permission bits (`0o7777`).
    pub mode: u32,
}

/// Why something could not be packed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackingError {
    /// A zip has 16 bits for the length of a name.
    #[error("name of {bytes} bytes is too long for a zip, at most 65535 bytes fit")]
    NameTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The deflate library gave up.
    #[error("content could not be compressed")]
    NotCompressed,
    /// Fewer or more bytes came than the member was begun with.
    #[error("content has {found} bytes, it had {expected} when it was begun")]
    OtherSize {
        /// As begun.
        expected: u64,
        /// As came.
        found: u64,
    },
}

/// What the directory says of a member.
#[derive(Debug, Clone)]
struct Listed {
    name: Vec<u8>,
    kind: MemberKind,
    mode: u32,
    crc32: u32,
    /// In the piece at first, in the zip once it is joined.
    offset: u64,
    raw_bytes: u64,
    packed_bytes: u64,
    method: u16,
    flags: u16,
    zip64: bool,
}

/// Whole members, packed and not yet joined.
#[derive(Debug, Default)]
pub struct Packed {
    /// Their bytes.
    pub bytes: Vec<u8>,
    /// Bytes of content.
    pub raw_bytes: u64,
    listed: Vec<Listed>,
}

impl Packed {
    /// Number of members.
    pub fn members(&self) -> usize {
        self.listed.len()
    }
}

/// A chunk of a large content, packed.
#[derive(Debug)]
pub struct PackedChunk {
    /// Deflate blocks that end on a byte's boundary.
    pub bytes: Vec<u8>,
    /// Bytes of content.
    pub raw_bytes: u64,
    crc32: crc32fast::Hasher,
}

/// The time that all members get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberTime {
    dos: u32,
    seconds: Option<i32>,
}

impl MemberTime {
    /// The earliest time that a zip can hold: 1 January 1980.
    pub const EARLIEST: Self = Self {
        dos: 0x21 << 16,
        seconds: Some(315_532_800),
    };

    /// Of seconds since 1970; what a zip cannot hold becomes the earliest time.
    pub fn of(seconds: i64) -> Self {
        let Ok(time) = Timestamp::from_second(seconds) else {
            return Self::EARLIEST;
        };
        let civil = time.to_zoned(TimeZone::UTC);
        let Ok(years) = u32::try_from(i32::from(civil.year()) - 1980) else {
            return Self::EARLIEST;
        };
        if years > 127 {
            return Self::EARLIEST;
        }
        let field = |value: i8| u32::from(value.unsigned_abs());
        let date = (years << 9) | (field(civil.month()) << 5) | field(civil.day());
        let clock = (field(civil.hour()) << 11)
            | (field(civil.minute()) << 5)
            | (field(civil.second()) / 2);
        Self {
            dos: (date << 16) | clock,
            seconds: i32::try_from(seconds).ok(),
        }
    }
}

/// Packs members and chunks; each thread has one of its own.
pub struct Packer {
    time: MemberTime,
    whole: Compressor,
    chunks: Compress,
}

impl Packer {
    /// A packer of members of this time.
    pub fn new(time: MemberTime) -> Self {
        Self {
            time,
            whole: Compressor::new(CompressionLvl::new(WHOLE_LEVEL).unwrap_or_default()),
            chunks: Compress::new(Compression::new(CHUNK_LEVEL), false),
        }
    }

    /// Packs a whole member behind those that are there.
    ///
    /// # Errors
    /// A name that no zip can hold.
    pub fn pack(
        &mut self,
        member: &Member,
        content: &[u8],
        packed: &mut Packed,
    ) -> Result<(), PackingError> {
        let mut listed = Listed {
            name: member.name.clone(),
            kind: member.kind,
            mode: member.mode,
            crc32: crc32fast::hash(content),
            offset: packed.bytes.len() as u64,
            raw_bytes: content.len() as u64,
            packed_bytes: content.len() as u64,
            method: STORED,
            flags: flags_of(&member.name),
            zip64: false,
        };
        write_local_header(&listed, self.time, &mut packed.bytes)?;
        let start = packed.bytes.len();
        // Deflate output that is not smaller than the content is of no use, so it gets no more room.
        packed.bytes.resize(start + content.len(), 0);
        let room = packed.bytes.get_mut(start..).unwrap_or_default();
        let deflated = match member.kind {
            MemberKind::File if !content.is_empty() => {
                self.whole.deflate_compress(content, room).ok()
            }
            _ => None,
        };
        match deflated.filter(|bytes| *bytes < content.len()) {
            Some(bytes) => {
                packed.bytes.truncate(start + bytes);
                (listed.method, listed.packed_bytes) = (DEFLATED, bytes as u64);
                // The header was written for stored content; its length does not change.
                let header = usize::try_from(listed.offset).unwrap_or_default();
                let mut exact = Vec::new();
                write_local_header(&listed, self.time, &mut exact)?;
                if let Some(there) = packed.bytes.get_mut(header..header + exact.len()) {
                    there.copy_from_slice(&exact);
                }
            }
            None => {
                if let Some(room) = packed.bytes.get_mut(start..) {
                    room.copy_from_slice(content);
                }
            }
        }
        packed.raw_bytes += listed.raw_bytes;
        packed.listed.push(listed);
        Ok(())
    }

    /// Packs a chunk of a large content; `history` is the end of the chunk before it.
    ///
    /// # Errors
    /// The library's refusal, which should not be.
    pub fn chunk(
        &mut self,
        history: &[u8],
        chunk: &[u8],
        is_last: bool,
    ) -> Result<PackedChunk, PackingError> {
        let mut crc32 = crc32fast::Hasher::new();
        crc32.update(chunk);
        let mut bytes = Vec::with_capacity(chunk.len() / 2 + 1024);
        self.chunks.reset();
        if !history.is_empty() {
            self.chunks
                .set_dictionary(history)
                .map_err(|_| PackingError::NotCompressed)?;
        }
        let flush = if is_last {
            FlushCompress::Finish
        } else {
            FlushCompress::Sync
        };
        let mut rest = chunk;
        loop {
            let before = self.chunks.total_in();
            let status = self
                .chunks
                .compress_vec(rest, &mut bytes, flush)
                .map_err(|_| PackingError::NotCompressed)?;
            let used = usize::try_from(self.chunks.total_in() - before).unwrap_or(usize::MAX);
            rest = rest.get(used..).unwrap_or_default();
            let has_room = bytes.len() < bytes.capacity();
            if status == Status::StreamEnd || (!is_last && rest.is_empty() && has_room) {
                break;
            }
            if has_room && used == 0 && status != Status::Ok {
                return Err(PackingError::NotCompressed);
            }
            bytes.reserve(chunk.len() / 4 + 1024);
        }
        Ok(PackedChunk {
            bytes,
            raw_bytes: chunk.len() as u64,
            crc32,
        })
    }
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer")
            .field("time", &self.time)
            .finish_non_exhaustive()
    }
}

/// A large member under way.
#[derive(Debug)]
struct Large {
    listed: Listed,
    expected_bytes: u64,
    crc32: crc32fast::Hasher,
}

/// Joins pieces into one zip.
#[derive(Debug)]
pub struct Joiner {
    time: MemberTime,
    position: u64,
    listed: Vec<Listed>,
    large: Option<Large>,
}

impl Joiner {
    /// An empty zip.
    pub fn new(time: MemberTime) -> Self {
        Self {
            time,
            position: 0,
            listed: Vec::new(),
            large: None,
        }
    }

    /// Bytes joined so far.
    pub fn bytes(&self) -> u64 {
        self.position
    }

    /// Number of members so far.
    pub fn members(&self) -> usize {
        self.listed.len()
    }

    /// Takes whole members.
    pub fn join(&mut self, packed: Packed, out: &mut Vec<u8>) {
        let base = self.position;
        self.listed
            .extend(packed.listed.into_iter().map(|listed| Listed {
                offset: listed.offset + base,
                ..listed
            }));
        self.position += packed.bytes.len() as u64;
        out.extend_from_slice(&packed.bytes);
    }

    /// Begins a file whose content comes in chunks.
    ///
    /// # Errors
    /// A name that no zip can hold.
    pub fn begin_large(
        &mut self,
        member: &Member,
        content_bytes: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), PackingError> {
        let listed = Listed {
            name: member.name.clone(),
            kind: MemberKind::File,
            mode: member.mode,
            crc32: 0,
            offset: self.position,
            raw_bytes: 0,
            packed_bytes: 0,
            method: DEFLATED,
            flags: flags_of(&member.name) | HAS_DESCRIPTOR,
            zip64: content_bytes >= ZIP64_BYTES_MIN,
        };
        let start = out.len();
        write_local_header(&listed, self.time, out)?;
        self.position += (out.len() - start) as u64;
        self.large = Some(Large {
            listed,
            expected_bytes: content_bytes,
            crc32: crc32fast::Hasher::new(),
        });
        Ok(())
    }

    /// Takes the next chunk of that file.
    pub fn join_chunk(&mut self, chunk: &PackedChunk, out: &mut Vec<u8>) {
        if let Some(large) = &mut self.large {
            large.crc32.combine(&chunk.crc32);
            large.listed.raw_bytes += chunk.raw_bytes;
            large.listed.packed_bytes += chunk.bytes.len() as u64;
            self.position += chunk.bytes.len() as u64;
            out.extend_from_slice(&chunk.bytes);
        }
    }

    /// Ends that file.
    ///
    /// # Errors
    /// Where its content was longer or shorter than it was begun with.
    pub fn end_large(&mut self, out: &mut Vec<u8>) -> Result<(), PackingError> {
        let Some(Large {
            mut listed,
            expected_bytes,
            crc32,
        }) = self.large.take()
        else {
            return Ok(());
        };
        if listed.raw_bytes != expected_bytes {
            return Err(PackingError::OtherSize {
                expected: expected_bytes,
                found: listed.raw_bytes,
            });
        }
        listed.crc32 = crc32.finalize();
        let start = out.len();
        put_32(out, DESCRIPTOR);
        put_32(out, listed.crc32);
        for bytes in [listed.packed_bytes, listed.raw_bytes] {
            if listed.zip64 {
                put_64(out, bytes);
            } else {
                put_32(out, narrow(bytes));
            }
        }
        self.position += (out.len() - start) as u64;
        self.listed.push(listed);
        Ok(())
    }

    /// Writes the directory; the zip is whole then.
    ///
    /// # Errors
    /// A name that no zip can hold.
    pub fn finish(self, out: &mut Vec<u8>) -> Result<u64, PackingError> {
        let start = out.len();
        for listed in &self.listed {
            write_directory_header(listed, self.time, out)?;
        }
        let directory_bytes = (out.len() - start) as u64;
        write_end(
            out,
            &Declared {
                entries: self.listed.len() as u64,
                directory_bytes,
                directory_at: self.position,
            },
        );
        Ok(self.position + (out.len() - start) as u64)
    }
}

fn flags_of(name: &[u8]) -> u16 {
    // The flag promises UTF-8; a name that is neither ASCII nor UTF-8 goes without it, as it came.
    if name.is_ascii() || std::str::from_utf8(name).is_err() {
        0
    } else {
        NAME_IS_UTF_8
    }
}

/// A value that fits 32 bits, or what stands there in its place.
fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(ELSEWHERE_32)
}

fn version_needed(listed: &Listed) -> u16 {
    match (listed.zip64, listed.method) {
        (true, _) => 45,
        (false, DEFLATED) => 20,
        (false, _) => 10,
    }
}

fn timestamp_extra(time: MemberTime, out: &mut Vec<u8>) {
    if let Some(seconds) = time.seconds {
        put_16(out, TIMESTAMP_EXTRA);
        put_16(out, 5);
        out.push(1);
        out.extend_from_slice(&seconds.to_le_bytes());
    }
}

fn name_length(listed: &Listed) -> Result<u16, PackingError> {
    let bytes = listed.name.len();
    u16::try_from(bytes).map_err(|_| PackingError::NameTooLong { bytes })
}

fn write_local_header(
    listed: &Listed,
    time: MemberTime,
    out: &mut Vec<u8>,
) -> Result<(), PackingError> {
    let name_length = name_length(listed)?;
    let mut extra = Vec::with_capacity(32);
    timestamp_extra(time, &mut extra);
    let sizes = if listed.zip64 {
        put_16(&mut extra, ZIP64_EXTRA);
        put_16(&mut extra, 16);
        put_64(&mut extra, listed.raw_bytes);
        put_64(&mut extra, listed.packed_bytes);
        [ELSEWHERE_32; 2]
    } else {
        [narrow(listed.packed_bytes), narrow(listed.raw_bytes)]
    };
    put_32(out, LOCAL_HEADER);
    put_16(out, version_needed(listed));
    put_16(out, listed.flags);
    put_16(out, listed.method);
    put_32(out, time.dos);
    put_32(out, listed.crc32);
    put_32(out, sizes[0]);
    put_32(out, sizes[1]);
    put_16(out, name_length);
    put_16(out, u16::try_from(extra.len()).unwrap_or(u16::MAX));
    out.extend_from_slice(&listed.name);
    out.extend_from_slice(&extra);
    Ok(())
}

fn write_directory_header(
    listed: &Listed,
    time: MemberTime,
    out: &mut Vec<u8>,
) -> Result<(), PackingError> {
    let name_length = name_length(listed)?;
    let mut extra = Vec::with_capacity(48);
    timestamp_extra(time, &mut extra);
    // APPNOTE 4.5.3: raw size, packed size, offset, each where its 32-bit field has all ones. Where the local
    // header has both sizes in 64 bits so has this one, since the descriptor's width follows from it.
    let mut wide = Vec::new();
    let mut field = |value: u64, forced: bool| {
        if forced || value >= u64::from(ELSEWHERE_32) {
            put_64(&mut wide, value);
            ELSEWHERE_32
        } else {
            narrow(value)
        }
    };
    let raw = field(listed.raw_bytes, listed.zip64);
    let packed = field(listed.packed_bytes, listed.zip64);
    let offset = field(listed.offset, false);
    if !wide.is_empty() {
        put_16(&mut extra, ZIP64_EXTRA);
        put_16(&mut extra, u16::try_from(wide.len()).unwrap_or(u16::MAX));
        extra.extend_from_slice(&wide);
    }
    let (type_bits, dos_bits) = match listed.kind {
        MemberKind::File => (0o100_000, 0),
        MemberKind::Folder => (0o040_000, 0x10),
        MemberKind::Symlink => (0o120_000, 0),
    };
    let needed = if wide.is_empty() {
        version_needed(listed)
    } else {
        45
    };
    put_32(out, DIRECTORY_HEADER);
    put_16(out, MADE_BY_UNIX | needed.max(20));
    put_16(out, needed);
    put_16(out, listed.flags);
    put_16(out, listed.method);
    put_32(out, time.dos);
    put_32(out, listed.crc32);
    put_32(out, packed);
    put_32(out, raw);
    put_16(out, name_length);
    put_16(out, u16::try_from(extra.len()).unwrap_or(u16::MAX));
    // Comment, disk, internal attributes.
    put_16(out, 0);
    put_16(out, 0);
    put_16(out, 0);
    put_32(out, ((type_bits | (listed.mode & 0o7777)) << 16) | dos_bits);
    put_32(out, offset);
    out.extend_from_slice(&listed.name);
    out.extend_from_slice(&extra);
    Ok(())
}

fn put_16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read};

    use proptest::prelude::*;

    use super::*;

    fn member(name: &str, kind: MemberKind, mode: u32) -> Member {
        Member {
            name: name.as_bytes().to_vec(),
            kind,
            mode,
        }
    }

    fn content(length: usize, noise: bool) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        (0..length)
            .map(|at| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                if noise {
                    (state >> 32) as u8
                } else {
                    b"line of text\n"[at % 13]
                }
            })
            .collect()
    }

    /// Packs as the command line does: small content whole, large content in chunks.
    fn zip(members: &[(Member, Vec<u8>)], time: MemberTime, per_piece: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut joiner = Joiner::new(time);
        for piece in members.chunks(per_piece) {
            let mut packer = Packer::new(time);
            for (member, content) in piece {
                if content.len() as u64 <= WHOLE_BYTES_MAX {
                    let mut packed = Packed::default();
                    packer.pack(member, content, &mut packed).unwrap();
                    joiner.join(packed, &mut out);
                    continue;
                }
                joiner
                    .begin_large(member, content.len() as u64, &mut out)
                    .unwrap();
                for start in (0..content.len()).step_by(CHUNK_BYTES) {
                    let end = (start + CHUNK_BYTES).min(content.len());
                    let history = &content[start.saturating_sub(HISTORY_BYTES)..start];
                    let chunk = packer
                        .chunk(history, &content[start..end], end == content.len())
                        .unwrap();
                    joiner.join_chunk(&chunk, &mut out);
                }
                joiner.end_large(&mut out).unwrap();
            }
        }
        let size = joiner.finish(&mut out).unwrap();
        assert_eq!(size, out.len() as u64);
        out
    }

    fn check(members: &[(Member, Vec<u8>)], bytes: Vec<u8>) {
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        assert_eq!(archive.len(), members.len());
        for (at, (member, content)) in members.iter().enumerate() {
            let mut file = archive.by_index(at).unwrap();
            assert_eq!(file.name_raw(), member.name);
            assert_eq!(file.unix_mode().unwrap() & 0o7777, member.mode);
            assert_eq!(file.is_dir(), member.kind == MemberKind::Folder);
            assert_eq!(file.is_symlink(), member.kind == MemberKind::Symlink);
            let mut found = Vec::new();
            file.read_to_end(&mut found).unwrap();
            assert!(found == *content, "member {at}");
        }
    }

    #[test]
    fn ok_another_reader_gets_names_modes_links_and_contents_back() {
        let members = [
            (member("bin/", MemberKind::Folder, 0o750), Vec::new()),
            (member("bin/empty", MemberKind::File, 0o600), Vec::new()),
            (
                member("bin/run", MemberKind::File, 0o755),
                content(3_000, false),
            ),
            (
                member("bin/start", MemberKind::Symlink, 0o777),
                b"run".to_vec(),
            ),
            (
                member("café.html", MemberKind::File, 0o644),
                content(3_000, true),
            ),
            (
                member("large", MemberKind::File, 0o644),
                content(5 << 20, false),
            ),
            (
                member("noise", MemberKind::File, 0o644),
                content((4 << 20) + 1, true),
            ),
        ];
        check(&members, zip(&members, MemberTime::of(1_700_000_000), 2));
    }

    #[test]
    fn ok_our_own_reader_takes_it_without_a_finding() {
        use crate::archive::Limits;
        use crate::archive::zip::{Step, ZipReader};
        let members = [
            (member("a", MemberKind::File, 0o644), content(100, false)),
            (
                member("b", MemberKind::File, 0o644),
                content(6 << 20, false),
            ),
        ];
        let bytes = zip(&members, MemberTime::of(1_700_000_001), 1);
        let mut reader = ZipReader::new(bytes.len() as u64, &Limits::default());
        let index = loop {
            match reader.step().unwrap() {
                Step::Done(index) => break index,
                Step::Need(range) => reader
                    .feed(range, &bytes[range.start as usize..range.end as usize])
                    .unwrap(),
            }
        };
        for (at, (_, content)) in members.iter().enumerate() {
            let span = index.content_span(at).unwrap();
            let stored = &bytes[span.start as usize..span.end as usize];
            assert!(index.read_content(at, stored, u64::MAX).unwrap() == *content);
            let entry = index.entry(at).unwrap();
            assert_eq!(entry.modified_seconds, Some(1_700_000_001));
        }
    }

    #[test]
    fn err_content_that_grew_or_shrank_under_way() {
        let time = MemberTime::EARLIEST;
        let mut out = Vec::new();
        let mut joiner = Joiner::new(time);
        joiner
            .begin_large(&member("log", MemberKind::File, 0o644), 10, &mut out)
            .unwrap();
        let chunk = Packer::new(time).chunk(&[], b"short", true).unwrap();
        joiner.join_chunk(&chunk, &mut out);
        assert_eq!(
            joiner.end_large(&mut out).unwrap_err().to_string(),
            "content has 5 bytes, it had 10 when it was begun"
        );
    }

    #[test]
    fn err_a_name_longer_than_its_length_field() {
        let long = member(&"n".repeat(65_536), MemberKind::File, 0o644);
        let error = Packer::new(MemberTime::EARLIEST)
            .pack(&long, b"", &mut Packed::default())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "name of 65536 bytes is too long for a zip, at most 65535 bytes fit"
        );
    }

    #[test]
    fn ok_times_outside_of_a_zips_range_become_the_earliest() {
        assert_eq!(MemberTime::of(0), MemberTime::EARLIEST);
        assert_eq!(MemberTime::of(i64::MAX), MemberTime::EARLIEST);
        assert_eq!(MemberTime::of(315_532_800), MemberTime::EARLIEST);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn ok_the_bytes_do_not_depend_on_how_members_are_shared_out(
            lengths in prop::collection::vec((0..200_000usize, any::<bool>()), 1..12),
            per_piece in 1..12usize,
        ) {
            let members: Vec<_> = lengths.iter().enumerate().map(|(at, (length, noise))| {
                (member(&format!("f{at}"), MemberKind::File, 0o644), content(*length, *noise))
            }).collect();
            let one = zip(&members, MemberTime::EARLIEST, usize::MAX);
            prop_assert!(one == zip(&members, MemberTime::EARLIEST, per_piece));
            check(&members, one);
        }
    }
}
