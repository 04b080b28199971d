//! A folder's files as the bytes of one zip, packed piece by piece and joined in order.
//!
//! Owns which content is packed in one go and which in chunks, how hard, and how pieces become one zip. Pieces do
//! not depend on each other, so any number of threads may pack them; their bytes depend on names, kinds,
//! modes, contents and the one time that all members get, and on nothing else. Refuses to know where contents
//! come from.
//!
//! ```text
//! pack():   [local header, name, extra][content] ...            whole members, exact headers
//! chunks:   [local header, name, extra][deflate][deflate]...[descriptor]
//! join:     offsets of all members -> [directory] [zip64 end][end]
//! ```

use libdeflater::{CompressionLvl, Compressor};

use crate::archive::EntryKind;
pub use crate::archive::deflate::HISTORY_BYTES;
use crate::archive::deflate::{ChunkCodec, NotDeflated};
use crate::archive::zip::{
    Declared, MemberName, StoredContent, WriteError, write_descriptor, write_directory_header,
    write_end, write_local_header,
};

/// Content up to this size is packed in one go, with an exact local header.
pub const WHOLE_BYTES_MAX: u64 = 4 << 20;
/// Larger content is packed in chunks of this size.
pub const CHUNK_BYTES: usize = 1 << 20;
/// The earliest time that a zip can hold: 1 January 1980, in seconds since 1970.
pub const EARLIEST_SECONDS: i64 = 315_532_800;

/// Content up to this size is small: what a compressor's tables cost to clear tells there.
const SMALL_BYTES_MAX: usize = 8 << 10;
/// Level of small content: a third less work than level 5 for 2 to 5 % more bytes of source code.
const SMALL_LEVEL: i32 = 1;
/// Level of other content that is packed in one go.
const WHOLE_LEVEL: i32 = 5;
/// Level of chunks.
const CHUNK_LEVEL: u32 = 5;

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

impl Member {
    fn header(&self, modified_seconds: i64) -> MemberName<'_> {
        MemberName {
            name: &self.name,
            kind: match self.kind {
                MemberKind::File => EntryKind::File,
                MemberKind::Folder => EntryKind::Directory,
                MemberKind::Symlink => EntryKind::Symlink,
            },
            mode: self.mode,
            modified_seconds,
        }
    }
}

/// Why something could not be packed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackingError {
    /// What no zip has a field for.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The deflate library gave up.
    #[error(transparent)]
    NotDeflated(#[from] NotDeflated),
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
    member: Member,
    /// Its offset is in the piece at first, in the zip once it is joined.
    content: StoredContent,
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

/// A chunk of a large content, packed.
#[derive(Debug)]
pub struct PackedChunk {
    /// Deflate blocks that end on a byte's boundary.
    pub bytes: Vec<u8>,
    /// Bytes of content.
    pub raw_bytes: u64,
    crc32: crc32fast::Hasher,
}

/// Packs members and chunks; each thread has one of its own.
pub struct Packer {
    modified_seconds: i64,
    small: Compressor,
    whole: Compressor,
    chunks: ChunkCodec,
    /// Room for what a compressor makes.
    deflated: Vec<u8>,
}

impl Packer {
    /// A packer of members of this time, in seconds since 1970.
    pub fn new(modified_seconds: i64) -> Self {
        let compressor = |level| Compressor::new(CompressionLvl::new(level).unwrap_or_default());
        Self {
            modified_seconds,
            small: compressor(SMALL_LEVEL),
            whole: compressor(WHOLE_LEVEL),
            chunks: ChunkCodec::new(CHUNK_LEVEL),
            deflated: Vec::new(),
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
        let deflated_bytes = match member.kind {
            MemberKind::File => self.deflate(content),
            MemberKind::Folder | MemberKind::Symlink => None,
        };
        let stored = match deflated_bytes {
            Some(bytes) => self.deflated.get(..bytes).unwrap_or_default(),
            None => content,
        };
        let listed = Listed {
            content: StoredContent {
                crc32: crc32fast::hash(content),
                offset: packed.bytes.len() as u64,
                raw_bytes: content.len() as u64,
                stored_bytes: stored.len() as u64,
                is_deflated: deflated_bytes.is_some(),
                has_descriptor: false,
                zip64: false,
            },
            member: member.clone(),
        };
        write_local_header(
            &mut packed.bytes,
            &member.header(self.modified_seconds),
            &listed.content,
        )?;
        packed.bytes.extend_from_slice(stored);
        packed.raw_bytes += content.len() as u64;
        packed.listed.push(listed);
        Ok(())
    }

    /// Bytes of the content's deflated form, where that is shorter than the content.
    fn deflate(&mut self, content: &[u8]) -> Option<usize> {
        if content.is_empty() || !self.chunks.compresses(content) {
            return None;
        }
        let compressor = if content.len() <= SMALL_BYTES_MAX {
            &mut self.small
        } else {
            &mut self.whole
        };
        // Output that is not shorter than the content is of no use, so it gets no more room.
        if self.deflated.len() < content.len() {
            self.deflated.resize(content.len(), 0);
        }
        let room = self.deflated.get_mut(..content.len() - 1)?;
        compressor.deflate_compress(content, room).ok()
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
        Ok(PackedChunk {
            bytes: self.chunks.deflate(history, chunk, is_last)?,
            raw_bytes: chunk.len() as u64,
            crc32,
        })
    }
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer")
            .field("modified_seconds", &self.modified_seconds)
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
    modified_seconds: i64,
    position: u64,
    listed: Vec<Listed>,
    large: Option<Large>,
}

impl Joiner {
    /// An empty zip, of members of this time.
    pub fn new(modified_seconds: i64) -> Self {
        Self {
            modified_seconds,
            position: 0,
            listed: Vec::new(),
            large: None,
        }
    }

    /// Takes whole members.
    pub fn join(&mut self, mut packed: Packed, out: &mut Vec<u8>) {
        for listed in &mut packed.listed {
            listed.content.offset += self.position;
        }
        self.listed.append(&mut packed.listed);
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
        let content = StoredContent::streaming(self.position, content_bytes);
        let start = out.len();
        write_local_header(out, &member.header(self.modified_seconds), &content)?;
        self.position += (out.len() - start) as u64;
        self.large = Some(Large {
            listed: Listed {
                member: member.clone(),
                content,
            },
            expected_bytes: content_bytes,
            crc32: crc32fast::Hasher::new(),
        });
        Ok(())
    }

    /// Takes the next chunk of that file.
    pub fn join_chunk(&mut self, chunk: &PackedChunk, out: &mut Vec<u8>) {
        if let Some(large) = &mut self.large {
            large.crc32.combine(&chunk.crc32);
            large.listed.content.raw_bytes += chunk.raw_bytes;
            large.listed.content.stored_bytes += chunk.bytes.len() as u64;
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
        let content = &mut listed.content;
        if content.raw_bytes != expected_bytes {
            return Err(PackingError::OtherSize {
                expected: expected_bytes,
                found: content.raw_bytes,
            });
        }
        content.crc32 = crc32.finalize();
        let start = out.len();
        write_descriptor(out, content)?;
        self.position += (out.len() - start) as u64;
        self.listed.push(listed);
        Ok(())
    }

    /// Writes the directory; the zip is whole then. Gives its size.
    ///
    /// # Errors
    /// A name that no zip can hold.
    pub fn finish(self, out: &mut Vec<u8>) -> Result<u64, PackingError> {
        let start = out.len();
        for listed in &self.listed {
            let member = listed.member.header(self.modified_seconds);
            write_directory_header(out, &member, &listed.content)?;
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
    fn zip(members: &[(Member, Vec<u8>)], time: i64, per_piece: usize) -> Vec<u8> {
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
        check(&members, zip(&members, 1_700_000_000, 2));
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
        let bytes = zip(&members, 1_700_000_001, 1);
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
        let time = EARLIEST_SECONDS;
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
        let error = Packer::new(EARLIEST_SECONDS)
            .pack(&long, b"", &mut Packed::default())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "name of 65536 bytes is too long for a zip, at most 65535 bytes fit"
        );
    }

    #[test]
    fn ok_what_does_not_shrink_is_stored() {
        let pack = |length: usize, noise: bool| {
            let mut packed = Packed::default();
            Packer::new(EARLIEST_SECONDS)
                .pack(
                    &member("f", MemberKind::File, 0o644),
                    &content(length, noise),
                    &mut packed,
                )
                .unwrap();
            packed.listed[0].content
        };
        for length in [
            1,
            100,
            SMALL_BYTES_MAX,
            SMALL_BYTES_MAX + 1,
            100_000,
            1 << 20,
        ] {
            let noise = pack(length, true);
            assert!(!noise.is_deflated, "{length}");
            assert_eq!(noise.stored_bytes, length as u64);
        }
        for length in [100, SMALL_BYTES_MAX, SMALL_BYTES_MAX + 1, 100_000, 1 << 20] {
            let text = pack(length, false);
            assert!(text.is_deflated, "{length}");
            assert!(text.stored_bytes < length as u64 / 2, "{length}: {text:?}");
        }
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
            let one = zip(&members, EARLIEST_SECONDS, usize::MAX);
            prop_assert!(one == zip(&members, EARLIEST_SECONDS, per_piece));
            check(&members, one);
        }
    }
}
