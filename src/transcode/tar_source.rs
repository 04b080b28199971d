//! A tar read a second time, front to back, by the places that its index tells.

use super::TranscodeError;
use super::order::{Cursor, Stop};
use super::writer::{Plan, Writer};
use crate::archive::Index;
use crate::archive::gzip::{PASSED_BYTES_MIN, Run};
use crate::object::ByteRange;

/// Bytes between two ranges that are rather read than passed over.
pub(super) const JOINED_BYTES: u64 = PASSED_BYTES_MIN;

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
    /// Hands on content, up to its next run of blocks that are kept.
    Content { end: u64, run: usize },
    /// Passes over the content of such a run.
    Kept { end: u64, run: usize },
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
    ) -> Result<Option<usize>, TranscodeError> {
        let placement = match &*writer.plan.index {
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
                writer.begin(&self.stop, &[])?;
                self.phase = Phase::Content {
                    end: placement.data.end,
                    run: 0,
                };
            }
            Phase::Content { end, run } => {
                let (end, at) = (*end, *run);
                let next = run_at(writer, &self.stop, at);
                let content_end = next.map_or(end, |run| run.raw.start);
                if self.position < content_end {
                    let content = take(bytes, content_end - self.position);
                    writer.content(content)?;
                    return Ok(self.used(content.len()));
                }
                if let Some(run) = next {
                    writer.keep(&run);
                    self.phase = Phase::Kept { end, run: at };
                } else {
                    writer.end(&self.stop)?;
                    self.phase = Phase::Copies { written: 1 };
                }
            }
            Phase::Kept { end, run } => {
                let (end, at) = (*end, *run);
                let kept_end = run_at(writer, &self.stop, at).map_or(end, |run| run.raw.end);
                if self.position < kept_end {
                    let kept = take(bytes, kept_end - self.position);
                    return Ok(self.used(kept.len()));
                }
                self.phase = Phase::Content { end, run: at + 1 };
            }
            Phase::Copies { written } => {
                let at = *written;
                *written += 1;
                if !writer.copy(&self.stop, at)? {
                    self.phase = Phase::Next;
                }
            }
            Phase::Done => return Ok(self.used(bytes.len())),
        }
        Ok(Some(0))
    }

    /// Goes to a place further on, where nothing between is needed.
    pub fn seek(&mut self, position: u64) {
        self.position = self.position.max(position);
    }

    fn find_next(&mut self, writer: &mut Writer) -> Result<(), TranscodeError> {
        let Some(stop) = writer.next_stop() else {
            self.phase = Phase::Done;
            return Ok(());
        };
        let placement = match &*writer.plan.index {
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

fn run_at(writer: &Writer, stop: &Stop, at: usize) -> Option<Run> {
    let (_, runs) = writer.plan.runs(stop)?;
    runs.get(at).copied()
}

/// The ranges of a tar that are read for `plan`: headers and contents, but for blocks that are kept.
pub(super) fn wanted(plan: &Plan) -> Vec<ByteRange> {
    let mut wanted: Vec<ByteRange> = Vec::new();
    let Index::Tar(index) = &*plan.index else {
        return wanted;
    };
    let mut add = |start: u64, end: u64| match wanted.last_mut() {
        Some(last) if start <= last.end.saturating_add(JOINED_BYTES) => {
            last.end = last.end.max(end)
        }
        _ => wanted.push(ByteRange::new(start, end)),
    };
    let mut cursor = Cursor::default();
    while let Some(stop) = plan.order.stop_at(&mut cursor) {
        let Some(placement) = index.placement(stop.entry as usize) else {
            continue;
        };
        let mut start = placement.header.start;
        for run in plan.runs(&stop).map(|(_, runs)| runs).unwrap_or_default() {
            add(start, run.raw.start);
            start = run.raw.end;
        }
        add(start, placement.data.end);
    }
    wanted
}

/// The first `most` bytes, or all.
pub(super) fn take(bytes: &[u8], most: u64) -> &[u8] {
    let most = usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
    bytes.get(..most).unwrap_or_default()
}
