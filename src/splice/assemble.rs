//! Puts the bytes of one upload together as its source bytes come by.

use super::parts::Upload;
use super::{Cursor, Segment, SplicePlan};
use crate::object::ByteRange;

/// Why an upload's bytes cannot be put together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssembleError {
    /// Source bytes that the upload needs were not given, or not in ascending order.
    #[error("upload needs bytes {needed} of the source, was given bytes from {given} on")]
    MissedBytes {
        /// What is needed next.
        needed: ByteRange,
        /// Where the bytes given begin.
        given: u64,
    },
    /// The source's bytes ended early.
    #[error("upload needs bytes {needed} of the source, which were not given")]
    EndedEarly {
        /// What is needed next.
        needed: ByteRange,
    },
}

/// Puts one [`Upload`] together: is fed the bytes of its [`Upload::gets`] in order, in pieces of any size.
#[derive(Debug)]
pub struct Assembler<'p> {
    plan: &'p SplicePlan,
    cursor: Cursor,
    missing: u64,
    body: Vec<u8>,
}

impl<'p> Assembler<'p> {
    /// An assembler for one upload of this plan.
    pub fn new(plan: &'p SplicePlan, upload: &Upload) -> Self {
        let capacity = usize::try_from(upload.output_bytes()).unwrap_or_default();
        Self {
            plan,
            cursor: upload.start(),
            missing: upload.output_bytes(),
            body: Vec::with_capacity(capacity),
        }
    }

    /// Takes source bytes that begin at `at`.
    ///
    /// # Errors
    /// [`AssembleError::MissedBytes`] where the upload needs bytes before `at`.
    pub fn feed(&mut self, at: u64, bytes: &[u8]) -> Result<(), AssembleError> {
        let end = at.saturating_add(bytes.len() as u64);
        while let Some(Segment::Copied(needed)) = self.next_copied() {
            if needed.start >= end {
                break;
            }
            let Some(from) = needed.start.checked_sub(at) else {
                return Err(AssembleError::MissedBytes { needed, given: at });
            };
            let length = needed.end.min(end) - needed.start;
            let range = usize::try_from(from).unwrap_or(usize::MAX)
                ..usize::try_from(from + length).unwrap_or(usize::MAX);
            self.body
                .extend_from_slice(bytes.get(range).unwrap_or_default());
            self.plan.take(&mut self.cursor, length);
            self.missing -= length;
        }
        Ok(())
    }

    /// The upload's body.
    ///
    /// # Errors
    /// [`AssembleError::EndedEarly`].
    pub fn finish(mut self) -> Result<Vec<u8>, AssembleError> {
        match self.next_copied() {
            Some(Segment::Copied(needed)) => Err(AssembleError::EndedEarly { needed }),
            _ => Ok(self.body),
        }
    }

    /// Adds what is written, up to the next segment that needs source bytes.
    fn next_copied(&mut self) -> Option<Segment> {
        while self.missing > 0 {
            let mut after = self.cursor;
            let piece = self.plan.take(&mut after, self.missing)?;
            if let Segment::Copied(_) = piece {
                return Some(piece);
            }
            if let Segment::Written(range) = piece {
                self.body.extend_from_slice(self.plan.written(range));
            }
            self.missing -= piece.output_bytes();
            self.cursor = after;
        }
        None
    }
}
