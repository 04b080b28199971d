//! Deflate (RFC 1951) of one chunk after another, and the question whether content shrinks at all.
//!
//! A chunk becomes deflate blocks that end on a byte boundary and depend on nothing but the chunk and the
//! 32 KiB before it: chunks can be compressed apart from each other and joined. A chunk that does not compress
//! is stored, inside the deflate stream, so what follows it is still tried. Refuses to know how content is cut
//! into chunks.

use flate2::{Compress, Compression, FlushCompress, Status};
use libdeflater::{CompressionLvl, Compressor};

/// How far back deflate refers: what a chunk has to know of the one before it.
pub const HISTORY_BYTES: usize = 32 << 10;
/// Bytes of each of the two probes that tell whether content compresses.
const PROBE_BYTES: usize = 8 << 10;
/// Bytes of the longest stored block.
pub const STORED_BYTES_MAX: usize = 0xffff;
/// The fastest level that compresses at all.
const PROBE_LEVEL: i32 = 1;

/// The library gave up, which it has no reason to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("content could not be compressed")]
pub struct NotDeflated;

/// Deflates chunks.
pub struct ChunkCodec {
    level: u32,
    compress: Option<Compress>,
    probe: Compressor,
    probe_output: Box<[u8]>,
}

impl ChunkCodec {
    /// A codec of zlib's level.
    pub fn new(level: u32) -> Self {
        Self {
            level,
            compress: None,
            probe: Compressor::new(CompressionLvl::new(PROBE_LEVEL).unwrap_or_default()),
            probe_output: vec![0; PROBE_BYTES - PROBE_BYTES / 50].into(),
        }
    }

    /// Whether one of two probes of `content`, at its start and in its middle, shrinks by a fiftieth.
    pub fn compresses(&mut self, content: &[u8]) -> bool {
        if content.len() < 4 * PROBE_BYTES {
            return true;
        }
        let mut shrinks = |at: usize| {
            let sample = content.get(at..at + PROBE_BYTES).unwrap_or_default();
            self.probe
                .deflate_compress(sample, &mut self.probe_output)
                .is_ok()
        };
        shrinks(0) || shrinks(content.len() / 2)
    }

    /// The chunk's part of the stream; `history` is the end of what comes before it.
    ///
    /// # Errors
    /// The library's, which it has no reason for.
    pub fn deflate(
        &mut self,
        history: &[u8],
        chunk: &[u8],
        is_last: bool,
    ) -> Result<Vec<u8>, NotDeflated> {
        let blocks = chunk.len().div_ceil(STORED_BYTES_MAX).max(1);
        let stored_bytes = chunk.len() + 5 * blocks;
        let mut out = Vec::new();
        let compresses = self.compresses(chunk);
        if compresses {
            let level = Compression::new(self.level);
            let compress = self
                .compress
                .get_or_insert_with(|| Compress::new(level, false));
            compress_chunk(compress, history, chunk, is_last, &mut out)?;
        }
        if !compresses || out.len() > stored_bytes {
            out.clear();
            store_chunk(chunk, is_last, &mut out);
        }
        out.shrink_to_fit();
        Ok(out)
    }
}

impl std::fmt::Debug for ChunkCodec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChunkCodec")
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

fn compress_chunk(
    compress: &mut Compress,
    history: &[u8],
    chunk: &[u8],
    last: bool,
    out: &mut Vec<u8>,
) -> Result<(), NotDeflated> {
    compress.reset();
    if !history.is_empty() {
        compress.set_dictionary(history).map_err(|_| NotDeflated)?;
    }
    let flush = if last {
        FlushCompress::Finish
    } else {
        FlushCompress::Sync
    };
    let mut rest = chunk;
    out.reserve(chunk.len() / 2 + 1024);
    loop {
        let before = compress.total_in();
        let status = compress
            .compress_vec(rest, out, flush)
            .map_err(|_| NotDeflated)?;
        let used = usize::try_from(compress.total_in() - before).unwrap_or(usize::MAX);
        rest = rest.get(used..).unwrap_or_default();
        let has_room = out.len() < out.capacity();
        if status == Status::StreamEnd || (!last && rest.is_empty() && has_room) {
            return Ok(());
        }
        if has_room && used == 0 && status != Status::Ok {
            return Err(NotDeflated);
        }
        out.reserve(chunk.len() / 4 + 1024);
    }
}

fn store_chunk(chunk: &[u8], last: bool, out: &mut Vec<u8>) {
    let mut pieces = chunk.chunks(STORED_BYTES_MAX).peekable();
    if chunk.is_empty() {
        store_block(&[], last, out);
    }
    while let Some(piece) = pieces.next() {
        store_block(piece, last && pieces.peek().is_none(), out);
    }
}

/// One stored block: final flag and type 00 in a byte, length, its complement, content.
fn store_block(piece: &[u8], last: bool, out: &mut Vec<u8>) {
    let length = u16::try_from(piece.len()).unwrap_or(u16::MAX);
    out.push(u8::from(last));
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&(!length).to_le_bytes());
    out.extend_from_slice(piece);
}
