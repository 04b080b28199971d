//! A tar read a second time, front to back, by the places that its index tells.

use super::TranscodeError;
use super::order::Stop;
use super::writer::Writer;
use crate::archive::Index;

/// How far the second reading has come.
#[derive(Default)]
pub(super) struct TarSource {
    position: u64,
    stop: Stop,
    phase: Phase,
}

#[derive(Default)]
enum Phase {
    /// Looks for the next entry that is needed.
    #[default]
    Next,
    /// Passes over what is not.
    Gap { header_start: u64 },
    /// Holds the header against the one that was indexed.
    Header { end: u64, crc32: crc32fast::Hasher },
    /// Hands on content.
    Content { end: u64 },
    /// Writes content again, for hard links; so many writes are done.
    Copies { written: usize },
    /// Nothing more is needed.
    Done,
}

impl TarSource {
    /// Goes one step further and says how many of `bytes` it took; `None` where it needs more of them.
    pub fn step(
        &mut self,
        bytes: &[u8],
        writer: &mut Writer,
        out: &mut Vec<u8>,
    ) -> Result<Option<usize>, TranscodeError> {
        let placement = match &*writer.index {
            Index::Tar(index) => index.placement(self.stop.entry as usize),
            Index::Zip(_) => None,
        };
        match &mut self.phase {
            Phase::Next => self.find_next(writer)?,
            Phase::Gap { header_start } => {
                if self.position < *header_start {
                    let gap = take(bytes, *header_start - self.position);
                    return Ok(self.used(gap.len()));
                }
                let end = placement.map_or(0, |placement| placement.header.end);
                self.phase = Phase::Header {
                    end,
                    crc32: crc32fast::Hasher::new(),
                };
            }
            Phase::Header { end, crc32 } => {
                if self.position < *end {
                    let header = take(bytes, *end - self.position);
                    crc32.update(header);
                    let used = header.len();
                    return Ok(self.used(used));
                }
                let found = std::mem::take(crc32).finalize();
                let Some(placement) = placement.filter(|placement| placement.header_crc32 == found)
                else {
                    let offset =
                        placement.map_or(self.position, |placement| placement.header.start);
                    return Err(TranscodeError::SourceChanged { offset });
                };
                writer.begin(&self.stop, &[], out)?;
                self.phase = Phase::Content {
                    end: placement.data.end,
                };
            }
            Phase::Content { end } => {
                if self.position < *end {
                    let content = take(bytes, *end - self.position);
                    writer.content(content, out)?;
                    return Ok(self.used(content.len()));
                }
                writer.end(&self.stop, out)?;
                self.phase = Phase::Copies { written: 1 };
            }
            Phase::Copies { written } => {
                let at = *written;
                *written += 1;
                if !writer.copy(&self.stop, at, out)? {
                    self.phase = Phase::Next;
                }
            }
            Phase::Done => return Ok(self.used(bytes.len())),
        }
        Ok(Some(0))
    }

    fn find_next(&mut self, writer: &mut Writer) -> Result<(), TranscodeError> {
        let Some(stop) = writer.order.next_stop() else {
            self.phase = Phase::Done;
            return Ok(());
        };
        let placement = match &*writer.index {
            Index::Tar(index) => index.placement(stop.entry as usize),
            Index::Zip(_) => None,
        };
        let Some(placement) = placement.filter(|placement| placement.header.start >= self.position)
        else {
            return Err(TranscodeError::NoSuchEntry { index: stop.entry });
        };
        self.phase = Phase::Gap {
            header_start: placement.header.start,
        };
        self.stop = stop;
        Ok(())
    }

    fn used(&mut self, bytes: usize) -> Option<usize> {
        self.position += bytes as u64;
        (bytes > 0).then_some(bytes)
    }

    /// Whether nothing more is needed.
    pub fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }

    /// Where the next byte lies in the tar.
    pub fn position(&self) -> u64 {
        self.position
    }
}

/// The first `most` bytes, or all.
pub(super) fn take(bytes: &[u8], most: u64) -> &[u8] {
    let most = usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
    bytes.get(..most).unwrap_or_default()
}
