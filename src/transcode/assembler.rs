//! Puts the target together out of jobs that were run, in their order.

use std::sync::Arc;

use super::TranscodeError;
use super::step::{DoneJob, Made};
use super::writer::Plan;
use super::zip_target::ZipTarget;
use crate::archive::ArchiveFormat;
use crate::object::ByteRange;

/// A piece of the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Bytes(Vec<u8>),
    /// These of the source, as they stand.
    Copied(ByteRange),
}

/// Pieces of the target, in its order.
#[derive(Debug, Default)]
pub struct Output {
    pieces: Vec<Piece>,
    /// Bytes behind the last piece.
    bytes: Vec<u8>,
}

impl Output {
    /// Takes what is there.
    pub fn take(&mut self) -> Vec<Piece> {
        self.close();
        std::mem::take(&mut self.pieces)
    }

    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(super) fn copied(&mut self, range: ByteRange) {
        self.close();
        self.pieces.push(Piece::Copied(range));
    }

    fn close(&mut self) {
        if !self.bytes.is_empty() {
            self.pieces
                .push(Piece::Bytes(std::mem::take(&mut self.bytes)));
        }
    }
}

/// A content that was compressed as a whole.
pub(super) struct Whole {
    pub packed: Vec<u8>,
    pub is_deflated: bool,
    pub raw_bytes: u64,
    pub crc32: u32,
}

/// Puts a target together.
pub struct Assembler {
    plan: Arc<Plan>,
    target: Target,
}

enum Target {
    Zip(Box<ZipTarget>),
    Tar(Tar),
}

/// A tar, or the gzip stream around it.
#[derive(Default)]
struct Tar {
    written_bytes: u64,
    crc32: crc32fast::Hasher,
    raw_bytes: u64,
}

impl Assembler {
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        let target = match plan.target {
            ArchiveFormat::Zip => Target::Zip(Box::default()),
            ArchiveFormat::Tar | ArchiveFormat::TarGz => Target::Tar(Tar::default()),
        };
        Self { plan, target }
    }

    /// Takes the next job: its bytes, about [`JOB_BYTES`](super::JOB_BYTES) of them, go to `out`.
    ///
    /// # Errors
    /// For jobs of another transcoding.
    pub fn take(&mut self, job: DoneJob, out: &mut Output) -> Result<(), TranscodeError> {
        job.0
            .into_iter()
            .try_for_each(|made| match &mut self.target {
                Target::Zip(zip) => put_zip(zip, &self.plan, made, out),
                Target::Tar(tar) => {
                    tar.put(made, out.bytes());
                    Ok(())
                }
            })
    }

    /// Ends the target, in pieces: call it until it says that the target is whole.
    ///
    /// # Errors
    /// For jobs of another transcoding.
    pub fn finish(&mut self, out: &mut Output) -> Result<bool, TranscodeError> {
        match &mut self.target {
            Target::Zip(zip) => zip.finish_some(&self.plan, super::JOB_BYTES as usize, out),
            Target::Tar(_) => Ok(true),
        }
    }

    /// Bytes of the target so far, those of the source among them.
    pub fn written_bytes(&self) -> u64 {
        match &self.target {
            Target::Zip(zip) => zip.written_bytes(),
            Target::Tar(tar) => tar.written_bytes,
        }
    }
}

fn put_zip(
    zip: &mut ZipTarget,
    plan: &Plan,
    made: Made,
    out: &mut Output,
) -> Result<(), TranscodeError> {
    match made {
        Made::Plain(_) => Ok(()),
        Made::Whole {
            kept,
            packed,
            is_deflated,
            raw_bytes,
            crc32,
        } => {
            let content = Whole {
                packed,
                is_deflated,
                raw_bytes,
                crc32,
            };
            zip.whole(plan, kept, content, out)
        }
        Made::Begin { kept, retain } => zip.begin(plan, kept, retain, out),
        Made::Chunk {
            packed,
            content,
            raw_bytes,
        } => zip.chunk(packed, &content, raw_bytes, out),
        Made::Kept(run) => {
            zip.keep(&run, out);
            Ok(())
        }
        Made::End { crc32 } => zip.end(crc32, out),
        Made::Again { kept } => zip.again(plan, kept, out),
    }
}

impl Tar {
    fn put(&mut self, made: Made, out: &mut Vec<u8>) {
        let start = out.len();
        match made {
            Made::Plain(bytes) => out.extend_from_slice(&bytes),
            Made::Chunk {
                packed,
                content,
                raw_bytes,
            } => {
                self.crc32.combine(&content);
                self.raw_bytes += raw_bytes;
                out.extend_from_slice(&packed);
            }
            Made::End { .. } => {
                let crc32 = std::mem::take(&mut self.crc32).finalize();
                out.extend_from_slice(&crc32.to_le_bytes());
                out.extend_from_slice(&(self.raw_bytes as u32).to_le_bytes());
            }
            // Those of a zip.
            Made::Whole { .. } | Made::Begin { .. } | Made::Kept(_) | Made::Again { .. } => (),
        }
        self.written_bytes += (out.len() - start) as u64;
    }
}
