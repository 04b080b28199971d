//! Bodies at rest: small ones in memory, large ones in files, parts of both shared without a copy.
//!
//! Owns where bytes lie and how they are read back. A multipart object is the list of its parts'
//! bytes and a copied range points into its source, so completing and copying move nothing.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use tempfile::{TempDir, TempPath};

use super::checksums::{Digester, Digests, Wanted};

/// Bodies up to this size stay in memory.
pub const MEMORY_BYTES_MAX: usize = 1024 * 1024;

/// Bytes read from a file at once.
const READ_BYTES: usize = 256 * 1024;

/// The folder of the files; it and they go when nothing points at them any more.
#[derive(Debug, Clone)]
pub struct Spill {
    folder: Arc<TempDir>,
}

impl Spill {
    /// A folder of its own inside `parent`, or inside the system's folder for temporary files.
    pub fn new(parent: Option<PathBuf>) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("stagedrop-s3-");
        let folder = match parent {
            Some(parent) => builder.tempdir_in(parent)?,
            None => builder.tempdir()?,
        };
        Ok(Self {
            folder: Arc::new(folder),
        })
    }
}

#[derive(Debug)]
enum Chunk {
    Memory(Bytes),
    /// The folder is held so that it outlives its files.
    File(
        TempPath,
        #[expect(dead_code, reason = "dropped last")] Spill,
    ),
}

#[derive(Debug, Clone)]
struct Segment {
    chunk: Arc<Chunk>,
    start: u64,
    length: u64,
}

/// Bytes that no longer change.
#[derive(Debug, Clone, Default)]
pub struct Blob {
    segments: Arc<[Segment]>,
    length: u64,
}

impl From<Bytes> for Blob {
    fn from(data: Bytes) -> Self {
        let length = length_of(&data);
        let segment = Segment {
            chunk: Arc::new(Chunk::Memory(data)),
            start: 0,
            length,
        };
        Self {
            segments: [segment].into(),
            length,
        }
    }
}

impl Blob {
    /// Length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The bytes from `start` up to `end`, as far as there are any.
    pub fn slice(&self, start: u64, end: u64) -> Self {
        let (mut segments, mut at) = (Vec::new(), 0u64);
        for segment in self.segments.iter() {
            let from = start.clamp(at, at + segment.length);
            let to = end.clamp(at, at + segment.length);
            if from < to {
                segments.push(Segment {
                    chunk: Arc::clone(&segment.chunk),
                    start: segment.start + (from - at),
                    length: to - from,
                });
            }
            at += segment.length;
        }
        let length = segments.iter().map(|segment| segment.length).sum();
        Self {
            segments: segments.into(),
            length,
        }
    }

    /// One after the other.
    pub fn join<'a>(blobs: impl Iterator<Item = &'a Blob>) -> Self {
        let segments: Arc<[Segment]> = blobs
            .flat_map(|blob| blob.segments.iter().cloned())
            .collect();
        let length = segments.iter().map(|segment| segment.length).sum();
        Self { segments, length }
    }

    /// The bytes, piece by piece.
    pub fn stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + Sync + 'static {
        async_stream::try_stream! {
            for segment in self.segments.iter() {
                match &*segment.chunk {
                    Chunk::Memory(_) if segment.length == 0 => {}
                    Chunk::Memory(data) => yield in_memory(data, segment),
                    Chunk::File(path, _) => {
                        let mut file = open_at(path, segment.start)?;
                        let mut left = segment.length;
                        while left > 0 {
                            let (same, piece) = read_elsewhere(file, left).await?;
                            file = same;
                            left -= length_of(&piece).min(left);
                            yield piece;
                        }
                    }
                }
            }
        }
    }

    /// All bytes at once; for tests and small documents.
    pub fn read(&self) -> io::Result<Bytes> {
        let mut data = Vec::new();
        for segment in self.segments.iter() {
            match &*segment.chunk {
                Chunk::Memory(bytes) => data.extend_from_slice(&in_memory(bytes, segment)),
                Chunk::File(path, _) => {
                    open_at(path, segment.start)?
                        .take(segment.length)
                        .read_to_end(&mut data)?;
                }
            }
        }
        Ok(data.into())
    }

    /// The digests of the bytes, read once more.
    pub async fn digest(self, wanted: Wanted) -> io::Result<Digests> {
        self.digest_by(Digester::new(wanted)).await
    }

    /// What a digester makes of the bytes.
    pub async fn digest_by(self, mut digester: Digester) -> io::Result<Digests> {
        let stream = self.stream();
        tokio::pin!(stream);
        while let Some(piece) = futures_util::StreamExt::next(&mut stream).await {
            digester.update(&piece?);
        }
        Ok(digester.finish())
    }
}

fn length_of(data: &Bytes) -> u64 {
    u64::try_from(data.len()).unwrap_or(u64::MAX)
}

fn in_memory(data: &Bytes, segment: &Segment) -> Bytes {
    let start = usize::try_from(segment.start)
        .unwrap_or(usize::MAX)
        .min(data.len());
    let length = usize::try_from(segment.length)
        .unwrap_or(usize::MAX)
        .min(data.len() - start);
    data.slice(start..start + length)
}

fn open_at(path: &TempPath, start: u64) -> io::Result<File> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(start))?;
    Ok(file)
}

/// Reads the next piece on a thread that may block.
async fn read_elsewhere(mut file: File, left: u64) -> io::Result<(File, Bytes)> {
    let read = move || {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(READ_BYTES);
        let mut piece = vec![0; wanted];
        file.read_exact(&mut piece)?;
        Ok((file, Bytes::from(piece)))
    };
    tokio::task::spawn_blocking(read)
        .await
        .map_err(io::Error::other)?
}

/// A body that is arriving.
pub struct Spool {
    spill: Spill,
    memory: Vec<u8>,
    file: Option<(File, TempPath)>,
    length: u64,
    digester: Digester,
}

impl Spool {
    /// Starts an empty one.
    pub fn new(spill: &Spill, wanted: Wanted) -> Self {
        Self {
            spill: spill.clone(),
            memory: Vec::new(),
            file: None,
            length: 0,
            digester: Digester::new(wanted),
        }
    }

    /// Bytes so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Takes the next bytes. Writes go to the page cache, so they are not worth another thread.
    pub fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.digester.update(data);
        self.length += u64::try_from(data.len()).unwrap_or(u64::MAX);
        if let Some((file, _)) = &mut self.file {
            return file.write_all(data);
        }
        self.memory.extend_from_slice(data);
        if self.memory.len() > MEMORY_BYTES_MAX {
            let (mut file, path) =
                tempfile::NamedTempFile::new_in(self.spill.folder.path())?.into_parts();
            file.write_all(&std::mem::take(&mut self.memory))?;
            self.file = Some((file, path));
        }
        Ok(())
    }

    /// The body as it is now, and its digests.
    pub fn finish(self) -> (Blob, Digests) {
        let blob = match self.file {
            None => Blob::from(Bytes::from(self.memory)),
            Some((_, path)) => {
                let chunk = Arc::new(Chunk::File(path, self.spill));
                let segment = Segment {
                    chunk,
                    start: 0,
                    length: self.length,
                };
                Blob {
                    segments: [segment].into(),
                    length: self.length,
                }
            }
        };
        (blob, self.digester.finish())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spooled(spill: &Spill, data: &[u8]) -> Blob {
        let mut spool = Spool::new(spill, Wanted::default());
        for piece in data.chunks(100_000) {
            spool.write(piece).unwrap();
        }
        spool.finish().0
    }

    fn files(spill: &Spill) -> usize {
        std::fs::read_dir(spill.folder.path()).unwrap().count()
    }

    fn pattern(length: usize) -> Vec<u8> {
        (0..length)
            .map(|at| u8::try_from(at * 31 % 251).unwrap())
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn ok_slices_of_joined_blobs_are_slices_of_the_bytes(
            first in 0usize..300_000, second in (MEMORY_BYTES_MAX - 3)..(MEMORY_BYTES_MAX + 9),
            from in 0u64..1_500_000, to in 0u64..1_500_000,
        ) {
            let spill = Spill::new(None).unwrap();
            let (first, second) = (pattern(first), pattern(second));
            let blobs = [spooled(&spill, &first), spooled(&spill, &second)];
            let whole = [first, second].concat();
            let joined = Blob::join(blobs.iter());
            prop_assert_eq!(joined.length(), whole.len() as u64);
            let (from, to) = (from.min(to), from.max(to));
            let cut = |at: u64| usize::try_from(at).unwrap().min(whole.len());
            let slice = joined.slice(from, to);
            prop_assert_eq!(slice.length(), (cut(to) - cut(from)) as u64);
            prop_assert!(slice.read().unwrap() == whole[cut(from)..cut(to)]);
        }
    }

    #[tokio::test]
    async fn ok_large_bodies_are_files_that_go_with_the_last_use() {
        let spill = Spill::new(None).unwrap();
        let small = spooled(&spill, &pattern(MEMORY_BYTES_MAX));
        assert_eq!(files(&spill), 0);
        let data = pattern(MEMORY_BYTES_MAX + 1);
        let large = spooled(&spill, &data);
        assert_eq!(files(&spill), 1);
        let slice = large.slice(5, 1_000_000);
        drop(large);
        let mut streamed = Vec::new();
        let stream = slice.stream();
        tokio::pin!(stream);
        while let Some(piece) = futures_util::StreamExt::next(&mut stream).await {
            streamed.extend_from_slice(&piece.unwrap());
        }
        assert!(streamed == data[5..1_000_000]);
        drop(small);
    }

    #[test]
    fn ok_a_dropped_body_leaves_no_file() {
        let spill = Spill::new(None).unwrap();
        let folder = spill.folder.path().to_owned();
        let large = spooled(&spill, &pattern(MEMORY_BYTES_MAX + 1));
        drop(spill);
        assert!(folder.exists());
        drop(large);
        assert!(!folder.exists());
    }
}
