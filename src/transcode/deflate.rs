//! Content of any length, cut into chunks that are deflated apart from each other.

use super::TranscodeError;
use crate::archive::deflate::{self, HISTORY_BYTES};

/// Bytes of content compressed at once.
pub(super) const CHUNK_BYTES: usize = 256 << 10;
/// The level that `zip` and `gzip` take unless told otherwise.
const LEVEL: u32 = 6;

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
pub(super) struct ChunkCodec(deflate::ChunkCodec);

impl Default for ChunkCodec {
    fn default() -> Self {
        Self(deflate::ChunkCodec::new(LEVEL))
    }
}

impl ChunkCodec {
    /// The chunk's part of the stream.
    pub fn deflate(&mut self, chunk: &Chunk) -> Result<Vec<u8>, TranscodeError> {
        let history = chunk.bytes.get(..chunk.history).unwrap_or_default();
        self.0
            .deflate(history, chunk.content(), chunk.is_last)
            .map_err(|deflate::NotDeflated| TranscodeError::CompressionFailed)
    }
}

/// Whether content is worth compressing.
pub(super) fn compresses(codec: &mut ChunkCodec, content: &[u8]) -> bool {
    codec.0.compresses(content)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use flate2::Compression;
    use flate2::read::DeflateDecoder;
    use flate2::write::DeflateEncoder;
    use proptest::prelude::*;

    use super::*;
    use crate::archive::deflate::STORED_BYTES_MAX;

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
