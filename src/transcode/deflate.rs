//! Deflate (RFC 1951) of content of any length, chunk by chunk.
//!
//! Each chunk becomes deflate blocks that end on a byte boundary and depend on nothing but the chunk
//! and the 32 KiB before it: chunks can be compressed apart from each other and joined. A chunk that does
//! not compress is stored, inside the deflate stream, so what follows it is still tried.

use flate2::{Compress, Compression, FlushCompress, Status};
use libdeflater::{CompressionLvl, Compressor};

use super::TranscodeError;

/// Bytes of content compressed at once.
pub(super) const CHUNK_BYTES: usize = 256 << 10;
/// How far back deflate refers.
const HISTORY_BYTES: usize = 32 << 10;
/// Bytes of each of the two probes that tell whether a chunk compresses.
const PROBE_BYTES: usize = 8 << 10;
/// Bytes of the longest stored block.
const STORED_BYTES_MAX: usize = 0xffff;
/// The level that `zip` and `gzip` take unless told otherwise.
const LEVEL: u32 = 6;
/// The fastest level that compresses at all.
const PROBE_LEVEL: i32 = 1;

/// A piece of a deflate stream's content.
#[derive(Debug)]
pub(super) struct Chunk {
    /// The last bytes of the content before, then the content.
    bytes: Vec<u8>,
    history: usize,
    is_last: bool,
}

impl Chunk {
    /// What is to be compressed.
    pub fn content(&self) -> &[u8] {
        self.bytes.get(self.history..).unwrap_or_default()
    }
}

/// Cuts a stream's content into chunks.
#[derive(Default)]
pub(super) struct Chunker {
    bytes: Vec<u8>,
    history: usize,
}

impl Chunker {
    /// Takes the next bytes of content and gives the chunks that are full.
    pub fn push(&mut self, mut bytes: &[u8], chunk: &mut impl FnMut(Chunk)) {
        while !bytes.is_empty() {
            // A full chunk waits for the byte after it, because the last one ends the stream.
            if self.bytes.len() - self.history == CHUNK_BYTES {
                chunk(self.cut(false));
            }
            if self.bytes.capacity() < self.history + CHUNK_BYTES {
                let most = CHUNK_BYTES.min(bytes.len().max(self.bytes.len()));
                self.bytes.reserve(most);
            }
            let free = CHUNK_BYTES - (self.bytes.len() - self.history);
            let (now, later) = bytes.split_at_checked(free).unwrap_or((bytes, &[]));
            self.bytes.extend_from_slice(now);
            bytes = later;
        }
    }

    /// Ends the chunk at hand, if there is one, because other bytes follow that are no chunk's history.
    pub fn interrupt(&mut self) -> Option<Chunk> {
        let chunk = (self.bytes.len() > self.history).then(|| self.cut(false));
        self.bytes.clear();
        self.history = 0;
        chunk
    }

    /// Ends the stream, and is ready for another.
    pub fn finish(&mut self) -> Chunk {
        let chunk = self.cut(true);
        self.bytes.clear();
        self.history = 0;
        chunk
    }

    fn cut(&mut self, is_last: bool) -> Chunk {
        let forgotten = self.bytes.len().saturating_sub(HISTORY_BYTES);
        let tail = self.bytes.get(forgotten..).unwrap_or_default();
        let mut next = Vec::new();
        if !is_last {
            next.reserve(HISTORY_BYTES + CHUNK_BYTES);
            next.extend_from_slice(tail);
        }
        let history = std::mem::replace(&mut self.history, next.len());
        let bytes = std::mem::replace(&mut self.bytes, next);
        Chunk {
            bytes,
            history,
            is_last,
        }
    }
}

/// Compresses chunks.
pub(super) struct ChunkCodec {
    compress: Option<Compress>,
    probe: Compressor,
    probe_output: Box<[u8]>,
}

impl Default for ChunkCodec {
    fn default() -> Self {
        Self {
            compress: None,
            probe: Compressor::new(CompressionLvl::new(PROBE_LEVEL).unwrap_or_default()),
            probe_output: vec![0; PROBE_BYTES - PROBE_BYTES / 50].into(),
        }
    }
}

impl ChunkCodec {
    /// The chunk's part of the stream.
    pub fn deflate(&mut self, chunk: &Chunk) -> Result<Vec<u8>, TranscodeError> {
        let content = chunk.content();
        let history = chunk.bytes.get(..chunk.history).unwrap_or_default();
        let blocks = content.len().div_ceil(STORED_BYTES_MAX).max(1);
        let stored_bytes = content.len() + 5 * blocks;
        let mut out = Vec::new();
        let compresses = compresses(self, content);
        if compresses {
            let compress = self
                .compress
                .get_or_insert_with(|| Compress::new(Compression::new(LEVEL), false));
            compress_chunk(compress, history, content, chunk.is_last, &mut out)?;
        }
        if !compresses || out.len() > stored_bytes {
            out.clear();
            store_chunk(content, chunk.is_last, &mut out);
        }
        out.shrink_to_fit();
        Ok(out)
    }
}

/// Whether one of two probes of `content`, at its start and in its middle, shrinks by a fiftieth.
pub(super) fn compresses(codec: &mut ChunkCodec, content: &[u8]) -> bool {
    if content.len() < 4 * PROBE_BYTES {
        return true;
    }
    let mut shrinks = |at: usize| {
        let sample = content.get(at..at + PROBE_BYTES).unwrap_or_default();
        codec
            .probe
            .deflate_compress(sample, &mut codec.probe_output)
            .is_ok()
    };
    shrinks(0) || shrinks(content.len() / 2)
}

fn compress_chunk(
    compress: &mut Compress,
    history: &[u8],
    chunk: &[u8],
    last: bool,
    out: &mut Vec<u8>,
) -> Result<(), TranscodeError> {
    compress.reset();
    if !history.is_empty() {
        compress
            .set_dictionary(history)
            .map_err(|_| TranscodeError::CompressionFailed)?;
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
            .map_err(|_| TranscodeError::CompressionFailed)?;
        let used = usize::try_from(compress.total_in() - before).unwrap_or(usize::MAX);
        rest = rest.get(used..).unwrap_or_default();
        let has_room = out.len() < out.capacity();
        if status == Status::StreamEnd || (!last && rest.is_empty() && has_room) {
            return Ok(());
        }
        if has_room && used == 0 && status != Status::Ok {
            return Err(TranscodeError::CompressionFailed);
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use flate2::read::DeflateDecoder;
    use flate2::write::DeflateEncoder;
    use proptest::prelude::*;

    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        std::iter::repeat_with(next).take(length).collect()
    }

    fn text(length: usize) -> Vec<u8> {
        (0..)
            .flat_map(|line| format!("line {line} of {}\n", line * 7919 % 1000).into_bytes())
            .take(length)
            .collect()
    }

    fn deflate(content: &[u8], piece: usize) -> Vec<u8> {
        deflate_with(&mut Chunker::default(), content, piece)
    }

    fn deflate_with(chunker: &mut Chunker, content: &[u8], piece: usize) -> Vec<u8> {
        let mut chunks = Vec::new();
        content
            .chunks(piece)
            .for_each(|piece| chunker.push(piece, &mut |chunk| chunks.push(chunk)));
        chunks.push(chunker.finish());
        // Apart from each other, and the last one first.
        let pieces = chunks
            .iter()
            .rev()
            .map(|chunk| ChunkCodec::default().deflate(chunk).unwrap());
        pieces
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .flatten()
            .collect()
    }

    fn inflate(bytes: &[u8]) -> Vec<u8> {
        let mut content = Vec::new();
        let mut decoder = DeflateDecoder::new(bytes);
        decoder.read_to_end(&mut content).unwrap();
        assert_eq!(
            decoder.total_in(),
            bytes.len() as u64,
            "the stream ends before its bytes do"
        );
        content
    }

    #[test]
    fn ok_another_inflater_gets_the_content_back() {
        for content in [
            vec![],
            vec![7],
            text(CHUNK_BYTES - 1),
            text(CHUNK_BYTES),
            text(CHUNK_BYTES + 1),
            text(3 * CHUNK_BYTES),
            noise(CHUNK_BYTES),
            noise(2 * CHUNK_BYTES + 5),
            [
                text(CHUNK_BYTES + 9),
                noise(2 * CHUNK_BYTES),
                text(CHUNK_BYTES),
            ]
            .concat(),
            vec![0; 5 * CHUNK_BYTES],
        ] {
            let bytes = deflate(&content, 100_000);
            assert!(inflate(&bytes) == content, "{} bytes", content.len());
        }
    }

    #[test]
    fn ok_chunks_cost_next_to_nothing() {
        let content = text(8 * CHUNK_BYTES);
        let mut whole = DeflateEncoder::new(Vec::new(), Compression::new(LEVEL));
        whole.write_all(&content).unwrap();
        let whole = whole.finish().unwrap().len();
        let chunked = deflate(&content, CHUNK_BYTES).len();
        assert!(
            chunked * 1000 < whole * 1005,
            "{chunked} bytes in chunks, {whole} in one stream"
        );
    }

    #[test]
    fn ok_noise_grows_by_five_bytes_in_65535() {
        let content = noise(4 * CHUNK_BYTES);
        let bytes = deflate(&content, CHUNK_BYTES);
        assert_eq!(
            bytes.len(),
            content.len() + 4 * 5 * CHUNK_BYTES.div_ceil(STORED_BYTES_MAX)
        );
    }

    #[test]
    fn ok_a_stream_after_another_depends_on_nothing_before_it() {
        let mut chunker = Chunker::default();
        deflate_with(&mut chunker, &text(300_000), 300_000);
        let second = deflate_with(&mut chunker, &text(300_000), 300_000);
        assert!(second == deflate(&text(300_000), 300_000));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn ok_the_bytes_do_not_depend_on_the_cuts(
            lengths in prop::collection::vec((any::<bool>(), 0..400_000usize), 1..4),
            piece in 1..500_000usize,
        ) {
            let parts = lengths.iter().map(|(is_text, length)| if *is_text { text(*length) } else { noise(*length) });
            let content = parts.collect::<Vec<_>>().concat();
            let bytes = deflate(&content, usize::MAX);
            prop_assert!(inflate(&bytes) == content);
            prop_assert!(deflate(&content, piece) == bytes);
        }
    }
}
