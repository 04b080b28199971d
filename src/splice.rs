//! A revision as byte ranges of its source with made bytes between them.
//!
//! Owns the plan ([`SplicePlan`], a value that can be printed, compared and carried out by anyone);
//! `splice/` has one planner for each format, the division into S3's requests ([`parts`]) by what they
//! cost ([`cost`]), and the assembly of a body's bytes. Knows no requests, no clock and no SDK.
//!
//! ```text
//! source   | header  name | extra data | header  name | extra data | … | directory
//!              \            \______________ ___________/          drop
//! revision |  made             copied        made       copied       | made
//!          | step ------------------------ | step ------------------ | steps
//! ```
//!
//! A plan holds eight bytes an entry, where its bytes begin in the revision; headers and directory records
//! are made when they are asked for, out of the archive's index. So a million entries cost little memory,
//! and any place of the revision is found by its offset.

use sha2::{Digest, Sha256};

use crate::contents::{KeptEntry, KeptName};
use crate::object::{ByteRange, ETag};

mod assemble;
pub mod cost;
pub mod parts;
pub mod tar;
mod zip;

pub use assemble::{AssembleError, Assembler};
pub use zip::plan_splice;

/// What the planners make of the same contents. A planner that gives other bytes than before takes the next
/// number, or a revision that is written already would be taken for the new one.
const PLANNERS: &[u8] = b"stagedrop splice 2";

/// Bits of an output offset that are flags.
const FLAG_BITS: u64 = 0b11 << 62;
/// The entry's header is made, not copied.
const REWRITTEN: u64 = 1 << 63;
/// Content of the source follows the header that is made.
const HAS_CONTENT: u64 = 1 << 62;

/// Why a plan cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A kept entry is not in the index.
    #[error("kept entry {index} is not in the archive, which has {entries} entries")]
    NoSuchEntry {
        /// Position asked for.
        index: usize,
        /// Entries in the archive.
        entries: usize,
    },
    /// Kept entries must ascend: the revision keeps the archive's order.
    #[error("kept entry {index} comes after entry {after}")]
    OutOfOrder {
        /// Position of the entry.
        index: usize,
        /// Position of the one before it.
        after: usize,
    },
    /// A name that is empty or longer than the format can say.
    #[error("new name of entry {index} has {name_bytes} bytes, expected 1 to {limit}")]
    NameLength {
        /// Position of the entry.
        index: usize,
        /// Length of the name in bytes.
        name_bytes: usize,
        /// The format's limit.
        limit: usize,
    },
    /// The revision would be longer than can be counted, or a record's field than can be written.
    #[error("revision is too large: {what}")]
    TooLarge {
        /// What does not fit.
        what: &'static str,
    },
}

/// A piece of the revision: bytes that are made, then bytes of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Where it lies in the revision.
    pub output: ByteRange,
    /// Source bytes out of which the made ones come; empty where they come out of the index alone. They
    /// must pass through the function, where they are compared with what the plan takes them for.
    pub passed: ByteRange,
    /// Source bytes that are copied as they are, last in the step. S3 may copy them itself.
    pub copied: ByteRange,
}

impl Step {
    /// Length of what is made.
    pub fn made_bytes(&self) -> u64 {
        self.output.length().saturating_sub(self.copied.length())
    }

    /// Where in the revision the copied bytes begin.
    pub fn copied_at(&self) -> u64 {
        self.output.end.saturating_sub(self.copied.length())
    }
}

/// A revision as steps, in the order of its bytes.
#[derive(Debug)]
pub struct SplicePlan<'a> {
    layout: Layout<'a>,
    source_size: u64,
    output_size: u64,
    copied_bytes: u64,
}

/// Where everything goes, by format.
#[derive(Debug)]
enum Layout<'a> {
    /// The source, byte for byte.
    Whole,
    Zip(zip::ZipLayout<'a>),
    Tar(tar::TarLayout<'a>),
}

/// SHA-256 over everything that decides a revision's bytes: the source's ETag, what is kept of it under
/// which names, and the planner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl SplicePlan<'_> {
    /// The plan of a revision that equals its source byte for byte.
    pub fn identity(source_size: u64) -> Self {
        Self {
            layout: Layout::Whole,
            source_size,
            output_size: source_size,
            copied_bytes: source_size,
        }
    }

    /// The steps in the order of the revision's bytes.
    pub fn steps(&self) -> impl Iterator<Item = Step> + '_ {
        (0..).map_while(|n| self.step(n))
    }

    /// The step at position `n`.
    pub(crate) fn step(&self, n: usize) -> Option<Step> {
        match &self.layout {
            Layout::Whole => {
                let whole = ByteRange::new(0, self.source_size);
                (n == 0 && !whole.is_empty()).then_some(Step {
                    output: whole,
                    passed: ByteRange::new(0, 0),
                    copied: whole,
                })
            }
            Layout::Zip(layout) => layout.step(n),
            Layout::Tar(layout) => layout.step(n),
        }
    }

    /// Where step `n` lies in the revision, and all source bytes that it needs: known without a look at headers.
    pub(crate) fn extent(&self, n: usize) -> Option<(ByteRange, ByteRange)> {
        match &self.layout {
            Layout::Zip(layout) => layout.extent(n),
            // Nothing passes for what they make.
            Layout::Whole | Layout::Tar(_) => self.step(n).map(|step| (step.output, step.copied)),
        }
    }

    /// The first step from `n` on with which bytes may begin that are copied as they are, at least so many in a row.
    pub(crate) fn past_short(&self, n: usize, least: u64) -> usize {
        match &self.layout {
            Layout::Whole => n,
            Layout::Zip(layout) => past_short(layout.output_at(), n, least),
            Layout::Tar(layout) => past_short(layout.output_at(), n, least),
        }
    }

    /// The position of the step that holds the revision's byte at `output`.
    pub(crate) fn step_at(&self, output: u64) -> usize {
        match &self.layout {
            Layout::Whole => 0,
            Layout::Zip(layout) => layout.step_at(output),
            Layout::Tar(layout) => layout.step_at(output),
        }
    }

    /// Appends what step `n` makes, out of the bytes of its [`Step::passed`].
    ///
    /// # Errors
    /// Where those bytes are not what the plan takes them for.
    pub(crate) fn make(
        &self,
        n: usize,
        passed: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), AssembleError> {
        match &self.layout {
            Layout::Whole => Ok(()),
            Layout::Zip(layout) => layout.make(n, passed, out),
            Layout::Tar(layout) => {
                layout.make(n, out);
                Ok(())
            }
        }
    }

    /// Whether the revision is its source, byte for byte.
    pub fn is_identity(&self) -> bool {
        matches!(self.layout, Layout::Whole)
    }

    /// Size of the source in bytes.
    pub fn source_size(&self) -> u64 {
        self.source_size
    }

    /// Size of the revision in bytes.
    pub fn output_size(&self) -> u64 {
        self.output_size
    }

    /// Bytes of the revision that are the source's.
    pub fn copied_bytes(&self) -> u64 {
        self.copied_bytes
    }

    /// Bytes of the revision that the plan makes.
    pub fn made_bytes(&self) -> u64 {
        self.output_size.saturating_sub(self.copied_bytes)
    }

    /// What tells this revision from every other: equal fingerprints mean equal bytes.
    pub fn fingerprint(&self, source: &ETag) -> Fingerprint {
        let mut sha256 = Sha256::new();
        let mut field = |bytes: &[u8]| {
            sha256.update((bytes.len() as u64).to_le_bytes());
            sha256.update(bytes);
        };
        field(PLANNERS);
        field(source.unquoted().as_bytes());
        field(&self.source_size.to_le_bytes());
        let (format, kept) = match &self.layout {
            Layout::Whole => ("whole", &[][..]),
            Layout::Zip(layout) => ("zip", layout.kept()),
            Layout::Tar(layout) => ("tar", layout.kept()),
        };
        field(format.as_bytes());
        for run in kept.chunk_by(are_alike) {
            let Some(first) = run.first() else { continue };
            field(&first.index.to_le_bytes());
            match &first.name {
                KeptName::Suffix { skip } => {
                    field(&skip.to_le_bytes());
                    field(&(run.len() as u64).to_le_bytes());
                }
                KeptName::Renamed(name) => field(name),
            }
        }
        Fingerprint(sha256.finalize().into())
    }
}

/// Whether an entry follows another with as much of its name left out.
fn are_alike(one: &KeptEntry, next: &KeptEntry) -> bool {
    match (&one.name, &next.name) {
        (KeptName::Suffix { skip }, KeptName::Suffix { skip: same }) => {
            skip == same && one.index.checked_add(1) == Some(next.index)
        }
        _ => false,
    }
}

impl std::fmt::Display for SplicePlan<'_> {
    /// One line for the whole, then one for each step.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            source_size,
            output_size,
            copied_bytes,
            ..
        } = self;
        let made_bytes = self.made_bytes();
        let identity = if self.is_identity() {
            ", unchanged"
        } else {
            ""
        };
        writeln!(
            f,
            "{source_size} -> {output_size} bytes: {copied_bytes} copied, {made_bytes} made{identity}"
        )?;
        for step in self.steps() {
            match (step.made_bytes(), step.passed.is_empty()) {
                (0, _) => {}
                (made, true) => writeln!(f, "made {made} bytes")?,
                (made, false) => writeln!(f, "made {made} bytes of {}", step.passed)?,
            }
            if !step.copied.is_empty() {
                writeln!(f, "copied {}", step.copied)?;
            }
        }
        Ok(())
    }
}

/// See [`SplicePlan::past_short`]: what is copied in a row begins with a header that is made, and ends before the
/// next one.
fn past_short(output_at: &[u64], mut n: usize, least: u64) -> usize {
    while let Some([first, rest @ ..]) = output_at.get(n..)
        && first & REWRITTEN != 0
    {
        let next = rest.iter().position(|at| at & REWRITTEN != 0);
        let next = next.unwrap_or(rest.len().saturating_sub(1));
        let Some(end) = rest.get(next) else { break };
        if (end & !FLAG_BITS).saturating_sub(first & !FLAG_BITS) >= least {
            break;
        }
        n += next + 1;
    }
    n
}

/// An offset in the revision with its flags, one more or an error.
fn flagged(output_at: u64, flags: u64) -> Result<u64, PlanError> {
    if output_at & FLAG_BITS == 0 {
        Ok(output_at | flags)
    } else {
        Err(PlanError::TooLarge {
            what: "more than 2^62 bytes",
        })
    }
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod reference;
