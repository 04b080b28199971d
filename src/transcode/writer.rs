//! What is written for each kept entry, in whatever format: steps, in the order of the target.

use std::sync::Arc;

use super::deflate::Chunker;
use super::order::{Cursor, Order, Stop};
use super::step::{Step, Steps};
use super::tar_target::TarTarget;
use super::{Totals, TranscodeError};
use crate::archive::gzip::Run;
use crate::archive::tar::{Owner, WrittenEntry};
use crate::archive::{ArchiveFormat, EntryKind, Index};

/// Bytes of a zip entry's content that are held and compressed at once, so that its header is exact; larger
/// content streams.
pub(super) const HELD_BYTES_MAX: u64 = 1 << 20;
/// Modes for archives that carry none.
const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;

/// The kept entries of an archive, in the order in which they are written.
pub(super) struct Plan {
    pub index: Arc<Index>,
    pub order: Order,
    pub target: ArchiveFormat,
    root: Owner,
}

impl Plan {
    pub fn new(index: Arc<Index>, order: Order, target: ArchiveFormat) -> Self {
        Self {
            index,
            order,
            target,
            root: Owner::default(),
        }
    }

    /// CRC-32 and runs of blocks of the entry at `stop`, where they are kept: its content is written once, and
    /// is too large to be compressed as a whole.
    pub fn runs(&self, stop: &Stop) -> Option<(u32, &[Run])> {
        let Index::Tar(tar) = &*self.index else {
            return None;
        };
        let size = tar.entry(stop.entry as usize)?.size;
        if self.target != ArchiveFormat::Zip || stop.writes.len() != 1 || size <= HELD_BYTES_MAX {
            return None;
        }
        tar.blocks()?.runs(stop.entry)
    }

    /// What is written for the kept entry at position `kept` of the order; `link` is the target of a zip's
    /// symbolic link, which is its content.
    pub fn describe<'a>(
        &'a self,
        kept: u32,
        link: &'a [u8],
    ) -> Result<WrittenEntry<'a>, TranscodeError> {
        let missing = || TranscodeError::NoSuchEntry { index: kept };
        let zip = match &*self.index {
            Index::Tar(tar) => return self.order.written(tar, kept).ok_or_else(missing),
            Index::Zip(zip) => zip,
        };
        let kept = self.order.kept.get(kept as usize).ok_or_else(missing)?;
        let entry = zip.entry(kept.index as usize).ok_or_else(missing)?;
        let mode = if entry.kind == EntryKind::Directory {
            DIRECTORY_MODE
        } else {
            FILE_MODE
        };
        Ok(WrittenEntry {
            name: kept.name(&entry),
            kind: entry.kind,
            mode: entry.mode.unwrap_or(mode) & 0o7777,
            size: if entry.kind == EntryKind::File {
                entry.size
            } else {
                0
            },
            modified_seconds: entry.modified_seconds.unwrap_or_default(),
            modified_nanos: 0,
            link_target: link,
            owner: &self.root,
        })
    }
}

/// Turns kept entries and their contents into steps.
pub(super) struct Writer {
    pub plan: Arc<Plan>,
    cursor: Cursor,
    target: Target,
    pub steps: Steps,
    totals: Totals,
}

enum Target {
    Zip {
        open: Open,
        held: Vec<u8>,
        chunker: Box<Chunker>,
    },
    Tar(TarTarget),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Nothing,
    /// Content is held until it is whole.
    Held,
    /// Content streams, and its CRC-32 is told if it is known.
    Streaming(Option<u32>),
}

impl Writer {
    pub fn new(plan: Arc<Plan>) -> Self {
        let target = match plan.target {
            ArchiveFormat::Zip => Target::Zip {
                open: Open::Nothing,
                held: Vec::new(),
                chunker: Box::default(),
            },
            ArchiveFormat::Tar => Target::Tar(TarTarget::new(false)),
            ArchiveFormat::TarGz => Target::Tar(TarTarget::new(true)),
        };
        Self {
            plan,
            cursor: Cursor::default(),
            target,
            steps: Steps::default(),
            totals: Totals::default(),
        }
    }

    /// The next entry whose content is needed.
    pub fn next_stop(&mut self) -> Option<Stop> {
        self.plan.order.stop_at(&mut self.cursor)
    }

    /// Begins what is written first at `stop`; `link` is the target of a zip's symbolic link, which is
    /// its content.
    pub fn begin(&mut self, stop: &Stop, link: &[u8]) -> Result<(), TranscodeError> {
        let Some(kept) = stop.writes.first().copied() else {
            return Ok(());
        };
        let entry = self.plan.describe(kept, link)?;
        self.totals.entries += 1;
        let (open, held) = match &mut self.target {
            Target::Tar(tar) => return tar.begin(&entry, &mut self.steps),
            Target::Zip { open, held, .. } => (open, held),
        };
        held.clear();
        *open = Open::Held;
        if entry.kind == EntryKind::Symlink {
            held.extend_from_slice(entry.link_target);
        } else if entry.kind == EntryKind::File && entry.size > HELD_BYTES_MAX {
            *open = Open::Streaming(self.plan.runs(stop).map(|(crc32, _)| crc32));
            let retain = stop.writes.len() > 1;
            self.steps.push(Step::Begin { kept, retain }, 0);
        }
        Ok(())
    }

    /// Takes the next bytes of the content of a file.
    pub fn content(&mut self, bytes: &[u8]) -> Result<(), TranscodeError> {
        self.totals.content_bytes += bytes.len() as u64;
        let steps = &mut self.steps;
        match &mut self.target {
            Target::Tar(tar) => tar.content(bytes, steps),
            Target::Zip {
                open,
                held,
                chunker,
            } => match open {
                Open::Nothing => (),
                Open::Held => held.extend_from_slice(bytes),
                Open::Streaming(_) => chunker.push(bytes, &mut |chunk| {
                    let weight = chunk.content().len() as u64;
                    steps.push(Step::Chunk(chunk), weight);
                }),
            },
        }
        Ok(())
    }

    /// Takes the next bytes of the content in the form of the source's blocks.
    pub fn keep(&mut self, run: &Run) {
        self.totals.content_bytes += run.raw.length();
        if let Target::Zip { chunker, .. } = &mut self.target {
            if let Some(chunk) = chunker.interrupt() {
                let weight = chunk.content().len() as u64;
                self.steps.push(Step::Chunk(chunk), weight);
            }
            self.steps.push(Step::Kept(*run), 0);
        }
    }

    /// Ends what was begun at `stop`.
    pub fn end(&mut self, stop: &Stop) -> Result<(), TranscodeError> {
        let Some(kept) = stop.writes.first().copied() else {
            return Ok(());
        };
        let steps = &mut self.steps;
        let (open, held, chunker) = match &mut self.target {
            Target::Tar(tar) => return tar.end(steps),
            Target::Zip {
                open,
                held,
                chunker,
            } => (open, held, chunker),
        };
        match std::mem::replace(open, Open::Nothing) {
            Open::Nothing => (),
            Open::Held => {
                let entry = self.plan.describe(kept, &[])?;
                let content = std::mem::take(held);
                let weight = content.len() as u64;
                let is_file = entry.kind == EntryKind::File;
                let step = Step::Whole {
                    kept,
                    content,
                    is_file,
                };
                steps.push(step, weight);
            }
            Open::Streaming(crc32) => {
                let chunk = chunker.finish();
                let weight = chunk.content().len() as u64;
                steps.push(Step::Chunk(chunk), weight);
                steps.push(Step::End { crc32 }, 0);
            }
        }
        Ok(())
    }

    /// Writes what was ended at `stop` again, under the name of its write number `at`; whether there is one.
    pub fn copy(&mut self, stop: &Stop, at: usize) -> Result<bool, TranscodeError> {
        let Some(kept) = stop.writes.get(at).copied() else {
            return Ok(false);
        };
        let entry = self.plan.describe(kept, &[])?;
        self.totals.entries += 1;
        self.totals.content_bytes += entry.size;
        match &mut self.target {
            Target::Zip { .. } => self.steps.push(Step::Again { kept }, entry.size),
            // In a tar at most one link moves, and it is written first.
            Target::Tar(tar) => tar.begin(&entry, &mut self.steps)?,
        }
        Ok(true)
    }

    /// Ends the archive.
    pub fn finish(&mut self) -> Result<(), TranscodeError> {
        if let Target::Tar(tar) = &mut self.target {
            tar.finish(&mut self.steps)?;
        }
        self.steps.cut();
        Ok(())
    }

    pub fn totals(&self) -> Totals {
        self.totals
    }
}
