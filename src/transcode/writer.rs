//! What is written for each kept entry, in whatever format.

use std::sync::Arc;

use super::order::{Order, Stop};
use super::tar_target::TarTarget;
use super::zip_target::ZipTarget;
use super::{Totals, TranscodeError};
use crate::archive::tar::{Owner, WrittenEntry};
use crate::archive::{ArchiveFormat, EntryKind, Index};

/// Modes for archives that carry none.
const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;

/// Kept entries and the archive that they are written to.
pub(super) struct Writer {
    pub index: Arc<Index>,
    pub order: Order,
    target: Target,
    root: Owner,
    totals: Totals,
}

enum Target {
    Zip(Box<ZipTarget>),
    Tar(TarTarget),
}

impl Writer {
    pub fn new(index: Arc<Index>, order: Order, target: ArchiveFormat) -> Self {
        let target = match target {
            ArchiveFormat::Zip => Target::Zip(Box::new(ZipTarget::new())),
            ArchiveFormat::Tar => Target::Tar(TarTarget::new(false)),
            ArchiveFormat::TarGz => Target::Tar(TarTarget::new(true)),
        };
        Self {
            index,
            order,
            target,
            root: Owner::default(),
            totals: Totals::default(),
        }
    }

    /// Begins what is written first at `stop`; `link` is the target of a zip's symbolic link, which is
    /// its content.
    pub fn begin(
        &mut self,
        stop: &Stop,
        link: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), TranscodeError> {
        let Some(kept) = stop.writes.first().copied() else {
            return Ok(());
        };
        let entry = describe(&self.index, &self.order, &self.root, kept, link)?;
        self.totals.entries += 1;
        match &mut self.target {
            Target::Zip(zip) => zip.begin(kept, &entry, stop.writes.len() > 1, out),
            Target::Tar(tar) => tar.begin(&entry, out),
        }
    }

    /// Takes the next bytes of the content of a file.
    pub fn content(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), TranscodeError> {
        self.totals.content_bytes += bytes.len() as u64;
        match &mut self.target {
            Target::Zip(zip) => zip.content(bytes, out),
            Target::Tar(tar) => tar.content(bytes, out),
        }
    }

    /// Ends what was begun at `stop`.
    pub fn end(&mut self, stop: &Stop, out: &mut Vec<u8>) -> Result<(), TranscodeError> {
        let Some(kept) = stop.writes.first().copied() else {
            return Ok(());
        };
        match &mut self.target {
            Target::Zip(zip) => {
                let entry = describe(&self.index, &self.order, &self.root, kept, &[])?;
                zip.end(kept, &entry, out)
            }
            Target::Tar(tar) => tar.end(out),
        }
    }

    /// Writes what was ended at `stop` again, under the name of its write number `at`; whether there is one.
    pub fn copy(
        &mut self,
        stop: &Stop,
        at: usize,
        out: &mut Vec<u8>,
    ) -> Result<bool, TranscodeError> {
        let Some(kept) = stop.writes.get(at).copied() else {
            return Ok(false);
        };
        let entry = describe(&self.index, &self.order, &self.root, kept, &[])?;
        self.totals.entries += 1;
        self.totals.content_bytes += entry.size;
        match &mut self.target {
            Target::Zip(zip) => zip.copy(kept, &entry, out)?,
            // In a tar at most one link moves, and it is written first.
            Target::Tar(tar) => tar.begin(&entry, out)?,
        }
        Ok(true)
    }

    /// Ends the archive, in pieces of about `out_bytes_max`; whether it is whole.
    pub fn finish_some(
        &mut self,
        out_bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<bool, TranscodeError> {
        let (index, order, root) = (&self.index, &self.order, &self.root);
        match &mut self.target {
            Target::Zip(zip) => zip.finish_some(
                |kept| describe(index, order, root, kept, &[]).ok(),
                out_bytes_max,
                out,
            ),
            Target::Tar(tar) => tar.finish(out).map(|()| true),
        }
    }

    pub fn totals(&self) -> Totals {
        let written_bytes = match &self.target {
            Target::Zip(zip) => zip.written_bytes(),
            Target::Tar(tar) => tar.written_bytes(),
        };
        Totals {
            written_bytes,
            ..self.totals
        }
    }
}

/// What is written for the kept entry at position `kept` of the order.
fn describe<'a>(
    index: &'a Index,
    order: &'a Order,
    root: &'a Owner,
    kept: u32,
    link: &'a [u8],
) -> Result<WrittenEntry<'a>, TranscodeError> {
    let missing = || TranscodeError::NoSuchEntry { index: kept };
    let zip = match index {
        Index::Tar(tar) => return order.written(tar, kept).ok_or_else(missing),
        Index::Zip(zip) => zip,
    };
    let kept = order.kept.get(kept as usize).ok_or_else(missing)?;
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
        owner: root,
    })
}
