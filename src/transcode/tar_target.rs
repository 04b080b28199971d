//! A tar or tar.gz, written front to back.

use super::TranscodeError;
use super::deflate::Chunker;
use super::step::{Step, Steps};
use crate::archive::EntryKind;
use crate::archive::tar::{END_OF_ARCHIVE, WrittenEntry, padded, write_header};

/// RFC 1952: deflate, no flags, no time, no level, unknown system: nothing that could differ.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// A tar under way.
pub(super) struct TarTarget {
    gzip: Option<Box<Chunker>>,
    started: bool,
    /// Bytes of the content begun and not padded yet.
    content_bytes: u64,
    header: Vec<u8>,
}

impl TarTarget {
    pub fn new(gzipped: bool) -> Self {
        Self {
            gzip: gzipped.then(Box::default),
            started: false,
            content_bytes: 0,
            header: Vec::new(),
        }
    }

    /// Begins an entry; content of its size follows if it is a file.
    pub fn begin(
        &mut self,
        entry: &WrittenEntry<'_>,
        steps: &mut Steps,
    ) -> Result<(), TranscodeError> {
        let mut header = std::mem::take(&mut self.header);
        header.clear();
        write_header(entry, &mut header);
        self.put(&header, steps);
        self.header = header;
        self.content_bytes = if entry.kind == EntryKind::File {
            entry.size
        } else {
            0
        };
        Ok(())
    }

    /// Takes the next bytes of the entry's content.
    pub fn content(&mut self, bytes: &[u8], steps: &mut Steps) {
        self.put(bytes, steps);
    }

    /// Ends the entry's content.
    pub fn end(&mut self, steps: &mut Steps) -> Result<(), TranscodeError> {
        let content = std::mem::take(&mut self.content_bytes);
        let padding = padded(content).unwrap_or(content) - content;
        let zeros = END_OF_ARCHIVE.get(..usize::try_from(padding).unwrap_or_default());
        self.put(zeros.unwrap_or_default(), steps);
        Ok(())
    }

    /// Writes what ends the archive.
    pub fn finish(&mut self, steps: &mut Steps) -> Result<(), TranscodeError> {
        self.put(&END_OF_ARCHIVE, steps);
        if let Some(chunker) = &mut self.gzip {
            let chunk = chunker.finish();
            let weight = chunk.content().len() as u64;
            steps.push(Step::Chunk(chunk), weight);
            steps.push(Step::End { crc32: None }, 0);
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8], steps: &mut Steps) {
        let Some(chunker) = &mut self.gzip else {
            steps.push(Step::Plain(bytes.to_vec()), bytes.len() as u64);
            return;
        };
        if !std::mem::replace(&mut self.started, true) {
            steps.push(Step::Plain(GZIP_HEADER.to_vec()), 0);
            let (kept, retain) = (0, false);
            steps.push(Step::Begin { kept, retain }, 0);
        }
        chunker.push(bytes, &mut |chunk| {
            let weight = chunk.content().len() as u64;
            steps.push(Step::Chunk(chunk), weight);
        });
    }
}
