//! A tar or tar.gz, written front to back.

use super::TranscodeError;
use super::deflate::ChunkedDeflate;
use crate::archive::EntryKind;
use crate::archive::tar::{END_OF_ARCHIVE, WrittenEntry, padded, write_header};

/// RFC 1952: deflate, no flags, no time, no level, unknown system: nothing that could differ.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// A tar under way.
pub(super) struct TarTarget {
    gzip: Option<Box<ChunkedDeflate>>,
    started: bool,
    /// Bytes of the content begun and not padded yet.
    content_bytes: u64,
    header: Vec<u8>,
    written: u64,
}

impl TarTarget {
    pub fn new(gzipped: bool) -> Self {
        Self {
            gzip: gzipped.then(|| Box::new(ChunkedDeflate::new())),
            started: false,
            content_bytes: 0,
            header: Vec::new(),
            written: 0,
        }
    }

    pub fn written_bytes(&self) -> u64 {
        self.written
    }

    /// Begins an entry; content of its size follows if it is a file.
    pub fn begin(
        &mut self,
        entry: &WrittenEntry<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), TranscodeError> {
        let mut header = std::mem::take(&mut self.header);
        header.clear();
        write_header(entry, &mut header);
        self.put(&header, out)?;
        self.header = header;
        self.content_bytes = if entry.kind == EntryKind::File {
            entry.size
        } else {
            0
        };
        Ok(())
    }

    /// Takes the next bytes of the entry's content.
    pub fn content(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), TranscodeError> {
        self.put(bytes, out)
    }

    /// Ends the entry's content.
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<(), TranscodeError> {
        let content = std::mem::take(&mut self.content_bytes);
        let padding = padded(content).unwrap_or(content) - content;
        let zeros = END_OF_ARCHIVE.get(..usize::try_from(padding).unwrap_or_default());
        self.put(zeros.unwrap_or_default(), out)
    }

    /// Writes what ends the archive.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), TranscodeError> {
        self.put(&END_OF_ARCHIVE, out)?;
        let start = out.len();
        if let Some(gzip) = &mut self.gzip {
            let deflated = gzip.finish(out)?;
            out.extend_from_slice(&deflated.crc32.to_le_bytes());
            out.extend_from_slice(&(deflated.raw_bytes as u32).to_le_bytes());
        }
        self.written += (out.len() - start) as u64;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), TranscodeError> {
        let start = out.len();
        match &mut self.gzip {
            None => out.extend_from_slice(bytes),
            Some(gzip) => {
                if !std::mem::replace(&mut self.started, true) {
                    out.extend_from_slice(&GZIP_HEADER);
                }
                gzip.push(bytes, out)?;
            }
        }
        self.written += (out.len() - start) as u64;
        Ok(())
    }
}
