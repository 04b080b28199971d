//! Puts the bytes of one upload together as its source bytes come by.

use super::parts::Upload;
use super::{SplicePlan, Step};
use crate::archive::zip::ZipError;
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
    /// A local header that is rewritten is not what the central directory says.
    #[error(transparent)]
    Header(#[from] ZipError),
    /// What a step made is not as long as its plan says.
    #[error("step at byte {at} of the revision made {found} bytes, expected {expected}")]
    MadeLength {
        /// Where the step begins.
        at: u64,
        /// Bytes planned.
        expected: u64,
        /// Bytes made.
        found: u64,
    },
}

/// Puts one [`Upload`] together: is fed the bytes of its [`Upload::gets`] in order, in pieces of any size.
#[derive(Debug)]
pub struct Assembler<'p> {
    plan: &'p SplicePlan<'p>,
    n: usize,
    step: Option<Step>,
    /// The next byte of the revision, and where the upload ends.
    at: u64,
    end: u64,
    /// What is there of the bytes that the step at hand is made of, where they come in pieces.
    held: Vec<u8>,
    body: Vec<u8>,
}

impl<'p> Assembler<'p> {
    /// An assembler for one upload of this plan.
    pub fn new(plan: &'p SplicePlan<'p>, upload: &Upload) -> Self {
        let output = upload.output();
        let n = plan.step_at(output.start);
        Self {
            plan,
            n,
            step: plan.step(n),
            at: output.start,
            end: output.end,
            held: Vec::new(),
            body: Vec::with_capacity(usize::try_from(output.length()).unwrap_or_default()),
        }
    }

    /// Takes source bytes that begin at `at`.
    ///
    /// # Errors
    /// [`AssembleError::MissedBytes`] where the upload needs bytes before `at`; a header that is not as it
    /// should be.
    pub fn feed(&mut self, at: u64, bytes: &[u8]) -> Result<(), AssembleError> {
        let end = at.saturating_add(bytes.len() as u64);
        while let Some(needed) = self.needed()? {
            if needed.start >= end {
                break;
            }
            if needed.start < at {
                return Err(AssembleError::MissedBytes { needed, given: at });
            }
            let piece = slice(bytes, needed.start - at, needed.end.min(end) - at);
            self.take(piece)?;
        }
        Ok(())
    }

    /// The upload's body.
    ///
    /// # Errors
    /// [`AssembleError::EndedEarly`].
    pub fn finish(mut self) -> Result<Vec<u8>, AssembleError> {
        match self.needed()? {
            Some(needed) => Err(AssembleError::EndedEarly { needed }),
            None => Ok(self.body),
        }
    }

    /// The source bytes that are needed next; what needs none is made on the way.
    fn needed(&mut self) -> Result<Option<ByteRange>, AssembleError> {
        while self.at < self.end {
            let Some(step) = self.step else { break };
            let copied_at = step.copied_at();
            if self.at >= copied_at {
                let start = step.copied.start + (self.at - copied_at);
                let length = self.end.min(step.output.end) - self.at;
                return Ok(Some(ByteRange::new(start, start + length)));
            }
            if !step.passed.is_empty() {
                let start = step.passed.start + self.held.len() as u64;
                return Ok(Some(ByteRange::new(start, step.passed.end)));
            }
            self.make(&step, &[])?;
        }
        Ok(None)
    }

    /// Takes the first of the bytes that are needed.
    fn take(&mut self, piece: &[u8]) -> Result<(), AssembleError> {
        let Some(step) = self.step else { return Ok(()) };
        if self.at >= step.copied_at() {
            self.body.extend_from_slice(piece);
            self.advance(&step, piece.len() as u64);
            return Ok(());
        }
        let length = self.held.len() as u64 + piece.len() as u64;
        if length < step.passed.length() {
            self.held.extend_from_slice(piece);
            return Ok(());
        }
        if self.held.is_empty() {
            return self.make(&step, piece);
        }
        let mut passed = std::mem::take(&mut self.held);
        passed.extend_from_slice(piece);
        self.make(&step, &passed)?;
        passed.clear();
        self.held = passed;
        Ok(())
    }

    /// Adds what of the step's made bytes lies in the upload.
    fn make(&mut self, step: &Step, passed: &[u8]) -> Result<(), AssembleError> {
        let before = self.body.len();
        self.plan.make(self.n, passed, &mut self.body)?;
        let found = (self.body.len() - before) as u64;
        let expected = step.made_bytes();
        if found != expected {
            return Err(AssembleError::MadeLength {
                at: step.output.start,
                expected,
                found,
            });
        }
        // A part's boundary may lie in the midst of a header.
        let from = self.at - step.output.start;
        let to = expected.min(self.end - step.output.start);
        self.body.truncate(before.saturating_add(length(to)));
        if from > 0 {
            let skipped = before..before.saturating_add(length(from));
            self.body.drain(skipped);
        }
        self.advance(step, to - from);
        Ok(())
    }

    fn advance(&mut self, step: &Step, bytes: u64) {
        self.at += bytes;
        if self.at >= step.output.end {
            self.n += 1;
            self.step = self.plan.step(self.n);
        }
    }
}

fn length(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn slice(bytes: &[u8], start: u64, end: u64) -> &[u8] {
    bytes.get(length(start)..length(end)).unwrap_or_default()
}
