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

/// What a stream came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Deflated {
    /// CRC-32 of the content.
    pub crc32: u32,
    /// Bytes of content.
    pub raw_bytes: u64,
    /// Bytes of the deflate stream.
    pub deflated_bytes: u64,
}

/// A deflate stream under way.
pub(super) struct ChunkedDeflate {
    compress: Compress,
    probe: Compressor,
    probe_output: Box<[u8]>,
    /// The last bytes of the chunk before, then those of this one.
    buffer: Vec<u8>,
    history: usize,
    crc32: crc32fast::Hasher,
    raw_bytes: u64,
    deflated_bytes: u64,
}

impl ChunkedDeflate {
    pub fn new() -> Self {
        Self {
            compress: Compress::new(Compression::new(LEVEL), false),
            probe: Compressor::new(CompressionLvl::new(PROBE_LEVEL).unwrap_or_default()),
            probe_output: vec![0; PROBE_BYTES - PROBE_BYTES / 50].into(),
            buffer: Vec::with_capacity(HISTORY_BYTES + CHUNK_BYTES),
            history: 0,
            crc32: crc32fast::Hasher::new(),
            raw_bytes: 0,
            deflated_bytes: 0,
        }
    }

    /// Takes the next bytes of content.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), TranscodeError> {
        self.crc32.update(bytes);
        self.raw_bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            // A full chunk waits for the byte after it, because the last one ends the stream.
            if self.buffer.len() - self.history == CHUNK_BYTES {
                self.write_chunk(false, out)?;
            }
            let free = CHUNK_BYTES - (self.buffer.len() - self.history);
            let (now, later) = bytes.split_at_checked(free).unwrap_or((bytes, &[]));
            self.buffer.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Ends the stream, and is ready for another.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<Deflated, TranscodeError> {
        self.write_chunk(true, out)?;
        let deflated = Deflated {
            crc32: std::mem::take(&mut self.crc32).finalize(),
            raw_bytes: self.raw_bytes,
            deflated_bytes: self.deflated_bytes,
        };
        self.buffer.clear();
        (self.history, self.raw_bytes, self.deflated_bytes) = (0, 0, 0);
        Ok(deflated)
    }

    fn write_chunk(&mut self, last: bool, out: &mut Vec<u8>) -> Result<(), TranscodeError> {
        let start = out.len();
        let (history, chunk) = self
            .buffer
            .split_at_checked(self.history)
            .unwrap_or_default();
        let stored_bytes = chunk.len() + 5 * chunk.len().div_ceil(STORED_BYTES_MAX).max(1);
        let compresses = compresses(&mut self.probe, &mut self.probe_output, chunk);
        if compresses {
            compress_chunk(&mut self.compress, history, chunk, last, out)?;
        }
        if !compresses || out.len() - start > stored_bytes {
            out.truncate(start);
            store_chunk(chunk, last, out);
        }
        self.deflated_bytes += (out.len() - start) as u64;
        let forgotten = self.buffer.len().saturating_sub(HISTORY_BYTES);
        self.buffer.drain(..forgotten);
        self.history = self.buffer.len();
        Ok(())
    }
}

/// Whether one of two probes of `chunk`, at its start and in its middle, shrinks by a fiftieth.
fn compresses(probe: &mut Compressor, output: &mut [u8], chunk: &[u8]) -> bool {
    if chunk.len() < 4 * PROBE_BYTES {
        return true;
    }
    let mut shrinks = |at: usize| {
        let sample = chunk.get(at..at + PROBE_BYTES).unwrap_or_default();
        probe.deflate_compress(sample, output).is_ok()
    };
    shrinks(0) || shrinks(chunk.len() / 2)
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

    fn deflate(content: &[u8], piece: usize) -> (Vec<u8>, Deflated) {
        let mut deflate = ChunkedDeflate::new();
        let mut out = b"before".to_vec();
        content
            .chunks(piece)
            .for_each(|piece| deflate.push(piece, &mut out).unwrap());
        let deflated = deflate.finish(&mut out).unwrap();
        (out.split_off(6), deflated)
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
            let (bytes, deflated) = deflate(&content, 100_000);
            assert!(inflate(&bytes) == content, "{} bytes", content.len());
            let expected = Deflated {
                crc32: crc32fast::hash(&content),
                raw_bytes: content.len() as u64,
                deflated_bytes: bytes.len() as u64,
            };
            assert_eq!(deflated, expected);
        }
    }

    #[test]
    fn ok_chunks_cost_next_to_nothing() {
        let content = text(8 * CHUNK_BYTES);
        let mut whole = DeflateEncoder::new(Vec::new(), Compression::new(LEVEL));
        whole.write_all(&content).unwrap();
        let whole = whole.finish().unwrap().len();
        let chunked = deflate(&content, CHUNK_BYTES).0.len();
        assert!(
            chunked * 1000 < whole * 1005,
            "{chunked} bytes in chunks, {whole} in one stream"
        );
    }

    #[test]
    fn ok_noise_grows_by_five_bytes_in_65535() {
        let content = noise(4 * CHUNK_BYTES);
        let (bytes, _) = deflate(&content, CHUNK_BYTES);
        assert_eq!(
            bytes.len(),
            content.len() + 4 * 5 * CHUNK_BYTES.div_ceil(STORED_BYTES_MAX)
        );
    }

    #[test]
    fn ok_a_stream_after_another_depends_on_nothing_before_it() {
        let mut deflate = ChunkedDeflate::new();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        deflate.push(&text(300_000), &mut Vec::new()).unwrap();
        deflate.finish(&mut first).unwrap();
        deflate.push(&text(300_000), &mut second).unwrap();
        let again = deflate.finish(&mut second).unwrap();
        assert_eq!(
            (second, again),
            super::tests::deflate(&text(300_000), 300_000)
        );
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
            let (bytes, _) = deflate(&content, usize::MAX);
            prop_assert!(inflate(&bytes) == content);
            prop_assert!(deflate(&content, piece).0 == bytes);
        }
    }
}
