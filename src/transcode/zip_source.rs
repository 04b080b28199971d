//! A zip read front to back, from its first byte to its directory, by the places that its index tells.

use super::TranscodeError;
use super::order::Stop;
use super::tar_source::{JOINED_BYTES, take};
use super::writer::{Plan, Writer};
use crate::archive::zip::{Checked, EntryReader, ZipIndex, shown};
use crate::archive::{EntryKind, Index};
use crate::object::ByteRange;

/// Bytes of an entry taken at once: deflate can make a thousand times as many of them.
const PIECE_BYTES: u64 = 8 << 10;

/// How far the reading has come.
#[derive(Default)]
pub(super) struct ZipSource {
    position: u64,
    stop: Stop,
    phase: Phase,
    reader: Option<Box<EntryReader>>,
    /// A symbolic link's target, which is its content.
    link: Vec<u8>,
}

/// The ranges of a zip that are read for `plan`.
pub(super) fn wanted(plan: &Plan) -> Vec<ByteRange> {
    let mut wanted: Vec<ByteRange> = Vec::new();
    let Index::Zip(zip) = &*plan.index else {
        return wanted;
    };
    let spans = plan.order.kept.iter();
    for span in spans.filter_map(|kept| zip.span(kept.index as usize)) {
        match wanted.last_mut() {
            Some(last) if span.start <= last.end.saturating_add(JOINED_BYTES) => {
                last.end = last.end.max(span.end)
            }
            _ => wanted.push(span),
        }
    }
    wanted
}

#[derive(Default, Clone, Copy)]
enum Phase {
    /// Looks for the next entry that is needed.
    #[default]
    Next,
    /// Passes over what is not.
    Gap { span: ByteRange },
    /// Reads an entry's header, content and data descriptor.
    Entry { end: u64, kind: EntryKind },
    /// Nothing more is needed.
    Done,
}

impl ZipSource {
    /// Goes one step further and says how many of `bytes` it took; `None` where it needs more of them.
    pub fn step(
        &mut self,
        bytes: &[u8],
        writer: &mut Writer,
    ) -> Result<Option<usize>, TranscodeError> {
        let index = std::sync::Arc::clone(&writer.plan.index);
        let Index::Zip(zip) = &*index else {
            return Err(TranscodeError::NoSuchEntry {
                index: self.stop.entry,
            });
        };
        match self.phase {
            Phase::Next => self.find_next(zip, writer)?,
            Phase::Gap { span } if self.position < span.start => {
                let gap = take(bytes, span.start - self.position);
                return Ok(self.used(gap.len()));
            }
            Phase::Gap { span } => self.begin(zip, span, writer)?,
            Phase::Entry { end, kind } if self.position < end => {
                let piece = take(bytes, (end - self.position).min(PIECE_BYTES));
                self.read(zip, kind, piece, writer)?;
                return Ok(self.used(piece.len()));
            }
            Phase::Entry { kind, .. } => {
                self.end(zip, kind, writer)?;
                self.phase = Phase::Next;
            }
            Phase::Done => return Ok(self.used(bytes.len())),
        }
        Ok(Some(0))
    }

    /// Goes to a place further on, where nothing between is needed.
    pub fn seek(&mut self, position: u64) {
        self.position = self.position.max(position);
    }

    fn find_next(&mut self, zip: &ZipIndex, writer: &mut Writer) -> Result<(), TranscodeError> {
        let Some(stop) = writer.next_stop() else {
            self.phase = Phase::Done;
            return Ok(());
        };
        let span = zip
            .span(stop.entry as usize)
            .filter(|span| span.start >= self.position);
        let span = span.ok_or(TranscodeError::NoSuchEntry { index: stop.entry })?;
        self.stop = stop;
        self.phase = Phase::Gap { span };
        Ok(())
    }

    fn begin(
        &mut self,
        zip: &ZipIndex,
        span: ByteRange,
        writer: &mut Writer,
    ) -> Result<(), TranscodeError> {
        let at = self.stop.entry as usize;
        let missing = TranscodeError::NoSuchEntry {
            index: self.stop.entry,
        };
        let kind = zip.entry(at).ok_or(missing)?.kind;
        match &mut self.reader {
            Some(reader) => reader.restart(at, false),
            None => self.reader = Some(Box::new(EntryReader::new(at))),
        }
        self.link.clear();
        // The header of a symbolic link holds its target, which is still to come.
        if kind != EntryKind::Symlink {
            writer.begin(&self.stop, &[])?;
        }
        self.phase = Phase::Entry {
            end: span.end,
            kind,
        };
        Ok(())
    }

    fn read(
        &mut self,
        zip: &ZipIndex,
        kind: EntryKind,
        bytes: &[u8],
        writer: &mut Writer,
    ) -> Result<(), TranscodeError> {
        let Some(reader) = &mut self.reader else {
            return Ok(());
        };
        let link = &mut self.link;
        let mut written = Ok(());
        reader.feed(zip, bytes, &mut |content| match kind {
            EntryKind::File if written.is_ok() => written = writer.content(content),
            EntryKind::Symlink => link.extend_from_slice(content),
            _ => (),
        })?;
        written
    }

    fn end(
        &mut self,
        zip: &ZipIndex,
        kind: EntryKind,
        writer: &mut Writer,
    ) -> Result<(), TranscodeError> {
        if let Some(reader) = &mut self.reader
            && reader.finish(zip)? != Checked::Content
        {
            let name = zip.name(self.stop.entry as usize).unwrap_or_default();
            return Err(TranscodeError::UnreadableContent { name: shown(name) });
        }
        if kind == EntryKind::Symlink {
            writer.begin(&self.stop, &self.link)?;
        }
        writer.end(&self.stop)
    }

    fn used(&mut self, bytes: usize) -> Option<usize> {
        self.position += bytes as u64;
        (bytes > 0).then_some(bytes)
    }

    /// Whether nothing more is needed.
    pub fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }

    /// Where the next byte lies in the zip.
    pub fn position(&self) -> u64 {
        self.position
    }
}
