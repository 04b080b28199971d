//! A plan as S3 requests: which bytes S3 copies itself, which pass through the function.
//!
//! Inside S3's limits ("Amazon S3 multipart upload limits", S3 user guide): 1 to 10,000 parts of 5 MiB to 5
//! GiB, the last of any size. Least time by [`cost`]: every stretch of source bytes that may stand as a part
//! of its own is copied by S3. What lies between two of them is
//! shorter than a part may be as a rule; it is either filled up from the stretch after it, or, where that saves
//! time, joined to the end of the stretch before it in a temporary object:
//!
//! ```text
//! revision    | header | data …                    | header | data …                  | directory
//! one level   [ upload, 5 MiB ][ copy              ][ upload, 5 MiB ][ copy          ][ upload ]
//! two levels  [ upload, 5 MiB ][ copy      ][ join          ][ copy                  ][ upload ]
//!                                           [ copy ][upload]  is an object of two parts, the last a short one
//! ```
//!
//! Whoever carries the plan out decides nothing.

use super::{SplicePlan, cost};
use crate::object::ByteRange;

mod divide;

#[cfg(test)]
pub(crate) use divide::stretches;
use divide::{PartSizes, Run, divide};

const MIB: u64 = 1 << 20;
/// Reads of a small revision that may end together: so few are worked on in no time.
const EQUAL_READS_MAX: usize = 2;

/// S3's limits, and the sizes that suit it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartLimits {
    /// Largest object that one `CopyObject` takes; by [`cost`], a smaller one may be copied faster in parts.
    pub copy_object_bytes_max: u64,
    /// An unchanged object of at most this size is put and not copied: its bytes have been read already, for
    /// its index, and what is read is verified.
    pub read_already_bytes_max: u64,
    /// Largest revision that is one `PutObject`.
    pub put_object_bytes_max: u64,
    /// Least size of a part that is not the last.
    pub part_bytes_min: u64,
    /// Largest size of a part.
    pub part_bytes_max: u64,
    /// Most parts of an upload.
    pub parts_max: u64,
    /// Size of an uploaded part, as long as [`Self::parts_max`] allows it.
    pub upload_part_bytes: u64,
    /// Size of a copied part, likewise: small enough not to look stalled while S3 copies it, and that several
    /// are copied at once.
    pub copy_part_bytes: u64,
    /// Bytes between two needed ranges that are read rather than left out by a second request.
    pub gap_bytes_max: u64,
    /// Largest read over such gaps, since a read is held in memory and nothing is done with it before it ends.
    pub get_bytes_max: u64,
    /// Whether parts are joined in temporary objects.
    pub joins: Joins,
}

/// Whether parts are joined in temporary objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joins {
    /// Never.
    Never,
    /// Where it saves time, by [`cost`].
    WherePaid,
    /// Wherever it keeps bytes from passing through the function, whatever the time.
    Wherever,
}

impl Default for PartLimits {
    fn default() -> Self {
        Self {
            copy_object_bytes_max: 5 << 30,
            read_already_bytes_max: crate::archive::ArchiveFormat::LAST_BYTES,
            put_object_bytes_max: 8 * MIB,
            part_bytes_min: 5 * MIB,
            part_bytes_max: 5 << 30,
            parts_max: 10_000,
            upload_part_bytes: 5 * MIB,
            copy_part_bytes: 64 * MIB,
            gap_bytes_max: MIB,
            get_bytes_max: 2 * MIB,
            joins: Joins::WherePaid,
        }
    }
}

/// Why a plan does not fit into one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PartError {
    /// More parts than S3 allows, whatever their size.
    #[error("revision of {output_bytes} bytes needs more than {parts_max} parts")]
    TooManyParts {
        /// Size of the revision.
        output_bytes: u64,
        /// The limit.
        parts_max: u64,
    },
}

/// How a revision comes to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The whole source, by one `CopyObject`.
    CopyObject,
    /// One body, by one `PutObject`.
    PutObject(Upload),
    /// A multipart upload of these parts, in this order.
    Multipart(Vec<Part>),
}

/// One part of a multipart upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// These bytes of the source, by `UploadPartCopy`.
    Copy(ByteRange),
    /// A body, by `UploadPart`.
    Upload(Upload),
    /// A temporary object of two parts, by `UploadPartCopy` of the whole of it.
    Join(Join),
}

impl Part {
    /// Length in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Copy(range) => range.length(),
            Self::Upload(upload) => upload.output_bytes(),
            Self::Join(join) => join.length(),
        }
    }
}

/// What is put together in a temporary object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// Its first part: these bytes of the source, by `UploadPartCopy`.
    pub copied: ByteRange,
    /// Its last part, by `UploadPart`; as the last one it may be short.
    pub upload: Upload,
}

impl Join {
    /// Length in bytes.
    pub fn length(&self) -> u64 {
        self.copied
            .length()
            .saturating_add(self.upload.output_bytes())
    }
}

/// A body to be put together by an [`Assembler`](super::Assembler) and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    output: ByteRange,
    gets: Vec<ByteRange>,
}

impl Upload {
    /// The source bytes to get, one request each, in the order in which the body wants them.
    pub fn gets(&self) -> &[ByteRange] {
        &self.gets
    }

    /// Where its bytes lie in the revision.
    pub fn output(&self) -> ByteRange {
        self.output
    }

    /// Length of the body.
    pub fn output_bytes(&self) -> u64 {
        self.output.length()
    }

    /// Source bytes to get, in all.
    pub fn got_bytes(&self) -> u64 {
        self.gets.iter().map(ByteRange::length).sum()
    }

    /// The source bytes that pass for it: ascending, disjoint, neighbours joined.
    pub fn passing(&self) -> Vec<ByteRange> {
        passing([self])
    }

    /// The upload of these bytes of the revision.
    fn of(plan: &SplicePlan<'_>, output: ByteRange, reads: Reads, limits: &PartLimits) -> Self {
        let mut gets = Vec::new();
        let mut get = |range| {
            let most = reads.bytes_max(gets.len(), limits);
            join(&mut gets, range, limits.gap_bytes_max, most);
        };
        for n in plan.step_at(output.start).. {
            let extent = plan.extent(n);
            let Some((made, source)) = extent.filter(|(made, _)| made.start < output.end) else {
                break;
            };
            if output.start <= made.start && made.end <= output.end {
                if !source.is_empty() {
                    get(source);
                }
                continue;
            }
            let Some(step) = plan.step(n) else { break };
            let copied_at = step.copied_at();
            if output.start < copied_at && !step.passed.is_empty() {
                get(step.passed);
            }
            let from = output.start.max(copied_at);
            let to = output.end.min(step.output.end);
            if from < to {
                let start = step.copied.start.saturating_add(from - copied_at);
                get(ByteRange::new(start, start.saturating_add(to - from)));
            }
        }
        Self { output, gets }
    }
}

/// What a plan costs, but for retries and for reading the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Bytes that S3 copies itself; those of temporary objects count twice.
    pub copied_bytes: u64,
    /// Bytes that the function gets.
    pub got_bytes: u64,
    /// Bytes that the function puts.
    pub put_bytes: u64,
    /// Requests, with those that begin and complete multipart uploads, and that delete temporary objects.
    pub requests: u64,
    /// Temporary objects.
    pub joins: u64,
}

impl std::fmt::Display for Traffic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            copied_bytes,
            got_bytes,
            put_bytes,
            requests,
            joins,
        } = self;
        write!(
            f,
            "{got_bytes} bytes in, {put_bytes} out, {copied_bytes} copied by S3, {requests} requests, {joins} temporary objects"
        )
    }
}

/// A revision's way into S3.
#[derive(Debug, Clone, PartialEq)]
pub struct PartPlan {
    /// The requests.
    pub delivery: Delivery,
    /// What they cost.
    pub traffic: Traffic,
    /// Estimated seconds of the transfer, by [`cost`].
    pub seconds: f64,
}

impl PartPlan {
    /// The uploads outside joins in the order of the revision, and so of the source.
    pub fn uploads(&self) -> impl Iterator<Item = &Upload> {
        let one = match &self.delivery {
            Delivery::PutObject(upload) => Some(upload),
            Delivery::CopyObject | Delivery::Multipart(_) => None,
        };
        one.into_iter()
            .chain(self.parts().iter().filter_map(|part| match part {
                Part::Upload(upload) => Some(upload),
                Part::Copy(_) | Part::Join(_) => None,
            }))
    }

    /// The joins in the order of the revision.
    pub fn joins(&self) -> impl Iterator<Item = &Join> {
        self.parts().iter().filter_map(|part| match part {
            Part::Join(join) => Some(join),
            Part::Copy(_) | Part::Upload(_) => None,
        })
    }

    /// The parts of a multipart upload.
    pub fn parts(&self) -> &[Part] {
        match &self.delivery {
            Delivery::Multipart(parts) => parts,
            Delivery::CopyObject | Delivery::PutObject(_) => &[],
        }
    }

    /// The source bytes that pass through the function outside joins: ascending, disjoint, neighbours joined.
    pub fn passing(&self) -> Vec<ByteRange> {
        passing(self.uploads())
    }

    fn of(delivery: Delivery, source_size: u64) -> Self {
        let mut plan = Self {
            delivery,
            traffic: Traffic::default(),
            seconds: 0.0,
        };
        let mut traffic = Traffic::default();
        let mut work = cost::Work::default();
        let joined = plan.joins().map(|join| &join.upload);
        for upload in plan.uploads().chain(joined) {
            traffic.got_bytes += upload.got_bytes();
            traffic.put_bytes += upload.output_bytes();
            traffic.requests += upload.gets.len() as u64 + 1;
        }
        for upload in plan.uploads() {
            work.bodies += 1;
            work.through_bytes += upload.output_bytes().max(upload.got_bytes());
        }
        match &plan.delivery {
            Delivery::CopyObject => {
                traffic.copied_bytes = source_size;
                traffic.requests = 1;
                work.copies = 1;
                work.copied_bytes = source_size;
                work.copy_bytes_max = source_size;
            }
            Delivery::PutObject(_) => {}
            Delivery::Multipart(parts) => {
                traffic.requests += 2;
                work.in_parts = true;
                for part in parts {
                    match part {
                        Part::Copy(range) => {
                            traffic.copied_bytes += range.length();
                            traffic.requests += 1;
                            work.copies += 1;
                            work.copied_bytes += range.length();
                            work.copy_bytes_max = work.copy_bytes_max.max(range.length());
                        }
                        Part::Join(join) => {
                            traffic.copied_bytes += join.copied.length() + join.length();
                            // Beside its upload: create, copy, complete, copy, delete.
                            traffic.requests += 5;
                            traffic.joins += 1;
                            work.joins += 1;
                            work.joined_bytes += join.length();
                            work.join_bytes_max = work.join_bytes_max.max(join.length());
                        }
                        Part::Upload(_) => {}
                    }
                }
            }
        }
        plan.traffic = traffic;
        plan.seconds = work.seconds();
        plan
    }
}

/// Divides a plan into requests.
///
/// # Errors
/// [`PartError::TooManyParts`] for revisions beyond S3's largest object.
pub fn plan_parts(plan: &SplicePlan<'_>, limits: &PartLimits) -> Result<PartPlan, PartError> {
    let size = plan.output_size();
    let source_size = plan.source_size();
    let is_copied = plan.is_identity() && size > limits.read_already_bytes_max;
    if !is_copied && size <= limits.put_object_bytes_max {
        let upload_of = |reads| Upload::of(plan, ByteRange::new(0, size), reads, limits);
        let mut upload = upload_of(Reads::Equal);
        if upload.gets.len() > EQUAL_READS_MAX {
            upload = upload_of(Reads::Rising { before: 0 });
        }
        return Ok(PartPlan::of(Delivery::PutObject(upload), source_size));
    }
    let whole = (is_copied && size <= limits.copy_object_bytes_max)
        .then(|| PartPlan::of(Delivery::CopyObject, source_size));
    let (runs, sizes) = divide(plan, limits)?;
    let mut parts = Vec::new();
    let mut reads = 0;
    for run in &runs {
        cut(plan, run, &sizes, limits, &mut reads, &mut parts);
    }
    let in_parts = PartPlan::of(Delivery::Multipart(parts), source_size);
    Ok(match whole {
        Some(whole) if whole.seconds <= in_parts.seconds => whole,
        _ => in_parts,
    })
}

/// Cuts a run into parts of nearly equal size, and counts the reads for them, but for joins.
fn cut(
    plan: &SplicePlan<'_>,
    run: &Run,
    sizes: &PartSizes,
    limits: &PartLimits,
    reads: &mut usize,
    parts: &mut Vec<Part>,
) {
    let count = sizes.parts(run);
    let pieces = |whole: ByteRange| {
        let length = whole.length();
        (0..count).scan(whole.start, move |at, i| {
            let start = *at;
            *at = start + length / count + u64::from(i < length % count);
            Some(ByteRange::new(start, *at))
        })
    };
    match run {
        Run::Copy(source) => parts.extend(pieces(*source).map(Part::Copy)),
        Run::Upload(output) => parts.extend(pieces(*output).map(|output| {
            let upload = Upload::of(plan, output, Reads::Rising { before: *reads }, limits);
            *reads += upload.gets.len();
            Part::Upload(upload)
        })),
        Run::Join { copied, output } => parts.push(Part::Join(Join {
            copied: *copied,
            upload: Upload::of(plan, *output, Reads::Equal, limits),
        })),
    }
}

/// How large reads are over which small ranges are joined.
#[derive(Debug, Clone, Copy)]
enum Reads {
    /// As large as may be.
    Equal,
    /// Each larger than the one before, after so many reads of other uploads, up to the largest. Reads that begin
    /// together share the network: those of one size end together, with all the work on them still to be done.
    Rising { before: usize },
}

impl Reads {
    /// The most that the last of so many reads may get.
    fn bytes_max(self, reads: usize, limits: &PartLimits) -> u64 {
        let nth = match self {
            Self::Equal => cost::READS_IN_FLIGHT,
            Self::Rising { before } => before.saturating_add(reads.max(1)),
        };
        if nth >= cost::READS_IN_FLIGHT {
            limits.get_bytes_max
        } else {
            limits.get_bytes_max / cost::READS_IN_FLIGHT as u64 * nth as u64
        }
    }
}

/// What these uploads get: ascending, disjoint, neighbours joined.
fn passing<'a>(uploads: impl IntoIterator<Item = &'a Upload>) -> Vec<ByteRange> {
    let gets = uploads.into_iter().flat_map(Upload::gets);
    let mut ranges: Vec<_> = gets.copied().collect();
    ranges.sort();
    let mut joined = Vec::new();
    for range in ranges {
        join(&mut joined, range, 0, u64::MAX);
    }
    joined
}

/// Adds a range, joined to the last where no more than `gap` lies between them and no more than `most` bytes
/// come of it.
fn join(ranges: &mut Vec<ByteRange>, range: ByteRange, gap: u64, most: u64) {
    if let Some(last) = ranges.last_mut()
        && range.start <= last.end.saturating_add(gap)
        && last.start <= range.end.saturating_add(gap)
    {
        let both = ByteRange::new(last.start.min(range.start), last.end.max(range.end));
        if both.length() <= most {
            *last = both;
            return;
        }
    }
    ranges.push(range);
}

#[cfg(test)]
mod tests;
