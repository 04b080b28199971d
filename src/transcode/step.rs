//! What is to be done for a target, and what came of it: the work that cores share.
//!
//! Steps stand in the order of the target's bytes and are cut into jobs by content alone, so that the
//! target is the same however many cores there are. A job needs nothing but itself.

use std::collections::VecDeque;

use libdeflater::{CompressionLvl, Compressor};

use super::TranscodeError;
use super::deflate::{Chunk, ChunkCodec, compresses};
use crate::archive::gzip::Run;

/// Bytes of content, or of content written again, after which a job ends.
pub const JOB_BYTES: u64 = 1 << 20;
/// Level of whole contents: on source code and web files as large as what zlib makes at 6, in less time.
const LEVEL: i32 = 6;

/// One thing to do for the target.
#[derive(Debug)]
pub(super) enum Step {
    /// Bytes as they are.
    Plain(Vec<u8>),
    /// A whole content of a zip's entry.
    Whole {
        kept: u32,
        content: Vec<u8>,
        is_file: bool,
    },
    /// A deflate stream begins: that of a zip's entry, or a gzip stream's.
    Begin { kept: u32, retain: bool },
    /// The next piece of that stream.
    Chunk(Chunk),
    /// Blocks of the source go on the stream.
    Kept(Run),
    /// The stream ends; with the CRC-32 of its content where that is known.
    End { crc32: Option<u32> },
    /// The content before once more, under another name.
    Again { kept: u32 },
}

/// What came of a step.
#[derive(Debug)]
pub(super) enum Made {
    Plain(Vec<u8>),
    Whole {
        kept: u32,
        packed: Vec<u8>,
        is_deflated: bool,
        raw_bytes: u64,
        crc32: u32,
    },
    Begin {
        kept: u32,
        retain: bool,
    },
    Chunk {
        packed: Vec<u8>,
        content: crc32fast::Hasher,
        raw_bytes: u64,
    },
    Kept(Run),
    End {
        crc32: Option<u32>,
    },
    Again {
        kept: u32,
    },
}

/// Work that depends on no other: run it anywhere, in any order, and hand what comes of it to the
/// [`Assembler`](super::Assembler) in the order of the jobs.
#[derive(Debug)]
pub struct Job(Vec<Step>);

/// A job that was run.
#[derive(Debug)]
pub struct DoneJob(pub(super) Vec<Made>);

/// Compressors, whose memory every job would else take anew. One for each job that runs at the same time.
pub struct Codec {
    whole: Compressor,
    chunks: ChunkCodec,
    packed: Vec<u8>,
}

impl Default for Codec {
    fn default() -> Self {
        Self {
            whole: Compressor::new(CompressionLvl::new(LEVEL).unwrap_or_default()),
            chunks: ChunkCodec::default(),
            packed: Vec::new(),
        }
    }
}

impl Job {
    /// Does it.
    ///
    /// # Errors
    /// Where a compressor fails, which none has a reason to.
    pub fn run(self, codec: &mut Codec) -> Result<DoneJob, TranscodeError> {
        let made = self.0.into_iter().map(|step| codec.make(step));
        Ok(DoneJob(made.collect::<Result<_, _>>()?))
    }
}

impl Codec {
    fn make(&mut self, step: Step) -> Result<Made, TranscodeError> {
        Ok(match step {
            Step::Plain(bytes) => Made::Plain(bytes),
            Step::Whole {
                kept,
                content,
                is_file,
            } => self.pack(kept, content, is_file),
            Step::Begin { kept, retain } => Made::Begin { kept, retain },
            Step::Chunk(chunk) => {
                let mut content = crc32fast::Hasher::new();
                content.update(chunk.content());
                Made::Chunk {
                    packed: self.chunks.deflate(&chunk)?,
                    raw_bytes: chunk.content().len() as u64,
                    content,
                }
            }
            Step::Kept(run) => Made::Kept(run),
            Step::End { crc32 } => Made::End { crc32 },
            Step::Again { kept } => Made::Again { kept },
        })
    }

    fn pack(&mut self, kept: u32, content: Vec<u8>, is_file: bool) -> Made {
        let raw_bytes = content.len() as u64;
        let crc32 = crc32fast::hash(&content);
        let mut deflated = None;
        if is_file && compresses(&mut self.chunks, &content) {
            // Deflate output that is not smaller than the content is of no use, so it needs no more room.
            self.packed.resize(self.packed.len().max(content.len()), 0);
            let room = self.packed.get_mut(..content.len()).unwrap_or_default();
            let bytes = self.whole.deflate_compress(&content, room).ok();
            deflated = bytes
                .filter(|bytes| *bytes < content.len())
                .and_then(|bytes| self.packed.get(..bytes));
        }
        let (packed, is_deflated) = match deflated {
            Some(bytes) => (bytes.to_vec(), true),
            None => (content, false),
        };
        Made::Whole {
            kept,
            packed,
            is_deflated,
            raw_bytes,
            crc32,
        }
    }
}

/// Steps on their way into jobs.
#[derive(Default)]
pub(super) struct Steps {
    steps: Vec<Step>,
    weight: u64,
    jobs: VecDeque<Job>,
}

impl Steps {
    /// Adds a step, which makes about `weight` bytes.
    pub fn push(&mut self, step: Step, weight: u64) {
        match (self.steps.last_mut(), step) {
            (Some(Step::Plain(before)), Step::Plain(mut bytes)) => before.append(&mut bytes),
            (_, step) => self.steps.push(step),
        }
        // A step has its own weight, too: a million of empty files must not become one job.
        self.weight = self.weight.saturating_add(weight).saturating_add(256);
        if self.weight >= JOB_BYTES {
            self.cut();
        }
    }

    /// Ends the job at hand.
    pub fn cut(&mut self) {
        self.weight = 0;
        if !self.steps.is_empty() {
            self.jobs.push_back(Job(std::mem::take(&mut self.steps)));
        }
    }

    /// The next job that is whole.
    pub fn next_job(&mut self) -> Option<Job> {
        self.jobs.pop_front()
    }

    pub fn has_job(&self) -> bool {
        !self.jobs.is_empty()
    }
}
