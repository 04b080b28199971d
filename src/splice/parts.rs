//! A plan as S3 requests: which bytes S3 copies itself, which pass through the function.
//!
//! Inside S3's limits ("Amazon S3 multipart upload limits", S3 user guide): 1 to 10,000 parts of 5 MiB to 5
//! GiB, the last of any size. Fewest bytes through the function first, fewest requests second: every stretch
//! of source bytes that may stand as a part of its own is copied by S3, and what lies between, filled up to
//! a part's least size from the stretch after it, is uploaded. Whoever carries the plan out decides nothing.

use super::{Cursor, Segment, SplicePlan};
use crate::object::ByteRange;

const MIB: u64 = 1 << 20;

/// S3's limits, and the sizes that suit it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartLimits {
    /// Largest object that one `CopyObject` takes.
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
    /// Size of a copied part, likewise: small enough not to look stalled while S3 copies it.
    pub copy_part_bytes: u64,
    /// Bytes between two needed ranges that are read rather than left out by a second request.
    pub gap_bytes_max: u64,
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
            upload_part_bytes: 8 * MIB,
            copy_part_bytes: 128 * MIB,
            gap_bytes_max: MIB,
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
}

/// A body to be put together by an [`Assembler`](super::Assembler) and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    start: Cursor,
    output_bytes: u64,
    gets: Vec<ByteRange>,
}

impl Upload {
    /// The source bytes to get, one request each, in the order in which the body wants them.
    pub fn gets(&self) -> &[ByteRange] {
        &self.gets
    }

    /// Length of the body.
    pub fn output_bytes(&self) -> u64 {
        self.output_bytes
    }

    pub(crate) fn start(&self) -> Cursor {
        self.start
    }
}

/// What a plan costs, but for retries and for reading the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Bytes that S3 copies itself.
    pub copied_bytes: u64,
    /// Bytes that the function gets.
    pub got_bytes: u64,
    /// Bytes that the function puts.
    pub put_bytes: u64,
    /// Requests, with those that begin and complete a multipart upload.
    pub requests: u64,
}

/// A revision's way into S3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartPlan {
    /// The requests.
    pub delivery: Delivery,
    /// What they cost.
    pub traffic: Traffic,
}

impl PartPlan {
    /// The uploads in the order of the revision, and so of the source.
    pub fn uploads(&self) -> impl Iterator<Item = &Upload> {
        let (one, parts) = match &self.delivery {
            Delivery::CopyObject => (None, &[][..]),
            Delivery::PutObject(upload) => (Some(upload), &[][..]),
            Delivery::Multipart(parts) => (None, parts.as_slice()),
        };
        one.into_iter()
            .chain(parts.iter().filter_map(|part| match part {
                Part::Upload(upload) => Some(upload),
                Part::Copy(_) => None,
            }))
    }

    /// The source bytes that pass through the function: ascending, disjoint, neighbours joined.
    pub fn passing(&self) -> Vec<ByteRange> {
        let mut ranges: Vec<_> = self
            .uploads()
            .flat_map(|upload| upload.gets.iter().copied())
            .collect();
        ranges.sort();
        let mut joined = Vec::new();
        for range in ranges {
            join(&mut joined, range, 0);
        }
        joined
    }

    fn of(delivery: Delivery, source_size: u64) -> Self {
        let mut plan = Self {
            delivery,
            traffic: Traffic::default(),
        };
        let mut traffic = Traffic::default();
        for upload in plan.uploads() {
            traffic.got_bytes += upload.gets.iter().map(ByteRange::length).sum::<u64>();
            traffic.put_bytes += upload.output_bytes;
            traffic.requests += upload.gets.len() as u64 + 1;
        }
        match &plan.delivery {
            Delivery::CopyObject => {
                traffic.copied_bytes = source_size;
                traffic.requests = 1;
            }
            Delivery::PutObject(_) => {}
            Delivery::Multipart(parts) => {
                traffic.requests += 2;
                for part in parts {
                    if let Part::Copy(range) = part {
                        traffic.copied_bytes += range.length();
                        traffic.requests += 1;
                    }
                }
            }
        }
        plan.traffic = traffic;
        plan
    }
}

/// Divides a plan into requests.
///
/// # Errors
/// [`PartError::TooManyParts`] for revisions beyond S3's largest object.
pub fn plan_parts(plan: &SplicePlan, limits: &PartLimits) -> Result<PartPlan, PartError> {
    let size = plan.output_size();
    let delivery = if plan.is_identity()
        && size <= limits.copy_object_bytes_max
        && size > limits.read_already_bytes_max
    {
        Delivery::CopyObject
    } else if size <= limits.put_object_bytes_max {
        Delivery::PutObject(upload(plan, &mut Cursor::default(), size, limits))
    } else {
        Delivery::Multipart(plan_multipart(plan, limits)?)
    };
    Ok(PartPlan::of(delivery, plan.source_size()))
}

/// A stretch of the revision that is copied or uploaded as a whole.
enum Run {
    Copy(ByteRange),
    Upload { start: Cursor, output_bytes: u64 },
}

/// Part sizes for one revision: larger than usual where it is so large that they would be too many.
struct PartSizes {
    min: u64,
    upload: u64,
    copy: u64,
}

impl PartSizes {
    fn new(output_bytes: u64, limits: &PartLimits) -> Self {
        // A tenth is left for parts that are cut short where a copied stretch begins.
        let parts = (limits.parts_max / 10 * 9).max(1);
        let least = output_bytes.div_ceil(parts);
        let size = |usual: u64| usual.max(least).min(limits.part_bytes_max).max(1);
        Self {
            min: limits.part_bytes_min,
            upload: size(limits.upload_part_bytes),
            copy: size(limits.copy_part_bytes),
        }
    }

    /// Into how many parts a run is cut: none over the size wanted, unless some would be under the least.
    fn parts(&self, run: &Run) -> u64 {
        let (length, most) = match run {
            Run::Copy(range) => (range.length(), self.copy),
            Run::Upload { output_bytes, .. } => (*output_bytes, self.upload),
        };
        length.div_ceil(most).min(length / self.min.max(1)).max(1)
    }
}

fn plan_multipart(plan: &SplicePlan, limits: &PartLimits) -> Result<Vec<Part>, PartError> {
    let size = plan.output_size();
    let sizes = PartSizes::new(size, limits);
    // The least stretch that is worth a copy; it rises until the parts are few enough.
    let mut stretch = sizes.min.max(1);
    loop {
        let runs = divide(plan, stretch, sizes.min);
        let parts: u64 = runs.iter().map(|run| sizes.parts(run)).sum();
        if parts <= limits.parts_max {
            return Ok(runs
                .iter()
                .flat_map(|run| cut(plan, run, &sizes, limits))
                .collect());
        }
        if stretch > size {
            return Err(PartError::TooManyParts {
                output_bytes: size,
                parts_max: limits.parts_max,
            });
        }
        stretch = stretch.saturating_mul(2);
    }
}

/// Divides the plan into runs, where source bytes in a row are copied if they are at least a `stretch`
/// after what the upload before them takes to reach a part's least size.
fn divide(plan: &SplicePlan, stretch: u64, part_bytes_min: u64) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut start = Cursor::default();
    let mut pending = 0u64;
    for (segment, piece) in plan.segments().enumerate() {
        let filler = if pending == 0 {
            0
        } else {
            part_bytes_min.saturating_sub(pending)
        };
        match piece {
            Segment::Copied(range) if range.length() >= stretch.saturating_add(filler) => {
                if pending > 0 {
                    runs.push(Run::Upload {
                        start,
                        output_bytes: pending + filler,
                    });
                }
                runs.push(Run::Copy(ByteRange::new(range.start + filler, range.end)));
                start = Cursor {
                    segment: segment + 1,
                    offset: 0,
                };
                pending = 0;
            }
            _ => pending += piece.output_bytes(),
        }
    }
    if pending > 0 {
        runs.push(Run::Upload {
            start,
            output_bytes: pending,
        });
    }
    runs
}

/// Cuts a run into parts of nearly equal size.
fn cut(plan: &SplicePlan, run: &Run, sizes: &PartSizes, limits: &PartLimits) -> Vec<Part> {
    let count = sizes.parts(run);
    let lengths =
        |length: u64| (0..count).map(move |i| length / count + u64::from(i < length % count));
    match run {
        Run::Copy(range) => lengths(range.length())
            .scan(range.start, |at, length| {
                let part = ByteRange::new(*at, *at + length);
                *at = part.end;
                Some(Part::Copy(part))
            })
            .collect(),
        Run::Upload {
            start,
            output_bytes,
        } => lengths(*output_bytes)
            .scan(*start, |cursor, length| {
                Some(Part::Upload(upload(plan, cursor, length, limits)))
            })
            .collect(),
    }
}

/// The upload of the next `output_bytes`, with the cursor moved behind them.
fn upload(
    plan: &SplicePlan,
    cursor: &mut Cursor,
    output_bytes: u64,
    limits: &PartLimits,
) -> Upload {
    let start = *cursor;
    let mut gets = Vec::new();
    let mut missing = output_bytes;
    while missing > 0 {
        let Some(piece) = plan.take(cursor, missing) else {
            break;
        };
        missing -= piece.output_bytes();
        if let Segment::Copied(range) | Segment::Passed(range) = piece {
            join(&mut gets, range, limits.gap_bytes_max);
        }
    }
    Upload {
        start,
        output_bytes,
        gets,
    }
}

/// Adds a range, joined to the last where no more than `gap` lies between them.
fn join(ranges: &mut Vec<ByteRange>, range: ByteRange, gap: u64) {
    match ranges.last_mut() {
        Some(last)
            if range.start <= last.end.saturating_add(gap)
                && last.start <= range.end.saturating_add(gap) =>
        {
            *last = ByteRange::new(last.start.min(range.start), last.end.max(range.end));
        }
        _ => ranges.push(range),
    }
}

#[cfg(test)]
mod tests {
    use super::super::PlanBuilder;
    use super::*;

    const GIB: u64 = 1 << 30;

    /// A plan as a zip's prefix strip gives it: headers of 100 bytes that change, contents that do not.
    fn strip(contents: impl IntoIterator<Item = u64>) -> SplicePlan {
        let contents: Vec<u64> = contents.into_iter().collect();
        let source_size = contents.iter().map(|length| length + 100).sum::<u64>() + 50;
        let mut plan = PlanBuilder::new(source_size);
        let mut at = 0;
        for length in contents {
            plan.copied(ByteRange::new(at, at + 26)).unwrap();
            plan.passed(ByteRange::new(at, at + 60));
            plan.written(b"xx").unwrap();
            plan.copied(ByteRange::new(at + 28, at + 30)).unwrap();
            at += 100 + length;
            plan.copied(ByteRange::new(at - length - 66, at)).unwrap();
        }
        plan.written(&[0; 50]).unwrap();
        plan.finish()
    }

    fn planned(plan: &SplicePlan) -> (PartPlan, Vec<Part>) {
        let limits = PartLimits::default();
        let planned = plan_parts(plan, &limits).unwrap();
        let Delivery::Multipart(parts) = planned.delivery.clone() else {
            return (planned, Vec::new());
        };
        let lengths: Vec<_> = parts
            .iter()
            .map(|part| match part {
                Part::Copy(range) => range.length(),
                Part::Upload(upload) => upload.output_bytes(),
            })
            .collect();
        assert!(parts.len() as u64 <= limits.parts_max);
        assert!(
            lengths
                .iter()
                .rev()
                .skip(1)
                .all(|length| *length >= limits.part_bytes_min)
        );
        assert!(
            lengths
                .iter()
                .all(|length| *length <= limits.part_bytes_max)
        );
        assert_eq!(lengths.iter().sum::<u64>(), plan.output_size());
        (planned, parts)
    }

    #[test]
    fn ok_an_unchanged_object_is_one_copy_unless_it_has_been_read_or_is_too_large() {
        let delivery = |size| planned(&SplicePlan::identity(size)).0;
        let limits = PartLimits::default();
        let put = delivery(limits.read_already_bytes_max);
        assert!(matches!(put.delivery, Delivery::PutObject(_)));
        assert_eq!(
            (put.traffic.requests, put.traffic.got_bytes),
            (2, limits.read_already_bytes_max)
        );
        let copy = delivery(limits.read_already_bytes_max + 1);
        assert_eq!(copy.delivery, Delivery::CopyObject);
        let traffic = Traffic {
            copied_bytes: 5 * GIB,
            requests: 1,
            ..Traffic::default()
        };
        assert_eq!(delivery(5 * GIB).traffic, traffic);
        let parts = delivery(5 * GIB + 1);
        assert_eq!(
            (parts.traffic.got_bytes, parts.traffic.copied_bytes),
            (0, 5 * GIB + 1)
        );
        assert_eq!(parts.traffic.requests, 2 + 41);
    }

    #[test]
    fn ok_a_revision_of_eight_mebibytes_is_one_put() {
        let limits = PartLimits::default();
        let contents = limits.put_object_bytes_max - 96 - 50;
        let (plan, _) = planned(&strip([contents]));
        assert!(matches!(plan.delivery, Delivery::PutObject(_)));
        assert_eq!(plan.traffic.requests, 2);
        let (plan, parts) = planned(&strip([contents + 1]));
        assert!(matches!(plan.delivery, Delivery::Multipart(_)));
        assert_eq!(parts.len(), 1);
    }

    #[test]
    fn ok_large_contents_are_copied_and_no_more_than_a_part_of_each_passes() {
        let (plan, parts) = planned(&strip([2 * GIB]));
        assert!(plan.traffic.got_bytes <= 5 * MIB + 6, "{:?}", plan.traffic);
        assert!(plan.traffic.got_bytes * 200 < 2 * GIB);
        assert!(matches!(parts.last(), Some(Part::Upload(upload)) if upload.output_bytes() == 50));
        let (plan, _) = planned(&strip([50 * MIB; 20]));
        assert!(plan.traffic.got_bytes <= 20 * 5 * MIB + 20 * 100);
        assert_eq!(
            plan.traffic.copied_bytes + plan.traffic.put_bytes,
            20 * (50 * MIB + 96) + 50
        );
    }

    #[test]
    fn ok_small_files_before_a_large_one_are_its_filler() {
        let small = std::iter::repeat_n(MIB, 6);
        let (plan, _) = planned(&strip(small.chain([100 * MIB])));
        assert!(
            plan.traffic.put_bytes < 6 * MIB + 2_000,
            "{:?}",
            plan.traffic
        );
    }

    #[test]
    fn ok_stretches_just_long_enough_are_copied() {
        let copies = |length: u64| {
            let (_, parts) = planned(&strip([length, MIB]));
            parts
                .iter()
                .filter(|part| matches!(part, Part::Copy(_)))
                .count()
        };
        // 30 bytes of the header stand before the stretch, and 26 of the next are its end.
        let least = 10 * MIB - 30 - 66 - 26;
        assert_eq!((copies(least), copies(least - 1)), (1, 0));
    }

    #[test]
    fn ok_thousands_of_middling_files_fit_into_ten_thousand_parts() {
        let (_, parts) = planned(&strip(std::iter::repeat_n(11 * MIB, 9_000)));
        assert!(parts.len() > 5_000, "{}", parts.len());
        // The largest contents are copied all the same.
        let sizes = (0..12_000).map(|i| if i % 6 == 0 { 200 * MIB } else { 11 * MIB });
        let (plan, _) = planned(&strip(sizes));
        assert!(
            plan.traffic.copied_bytes > 2_000 * 190 * MIB,
            "{:?}",
            plan.traffic
        );
    }

    #[test]
    fn ok_gaps_are_read_through_up_to_their_limit() {
        let gets = |gap: u64| {
            let mut plan = PlanBuilder::new(10 * MIB);
            plan.copied(ByteRange::new(0, 10)).unwrap();
            plan.copied(ByteRange::new(10 + gap, 20 + gap)).unwrap();
            plan_parts(&plan.finish(), &PartLimits::default())
                .unwrap()
                .passing()
        };
        assert_eq!(gets(MIB), [ByteRange::new(0, MIB + 20)]);
        assert_eq!(
            gets(MIB + 1),
            [ByteRange::new(0, 10), ByteRange::new(MIB + 11, MIB + 21)]
        );
    }

    #[test]
    fn err_more_than_the_largest_object() {
        let limits = PartLimits::default();
        let largest = limits.parts_max * limits.part_bytes_max;
        assert!(plan_parts(&SplicePlan::identity(largest), &limits).is_ok());
        let error = plan_parts(&SplicePlan::identity(largest + 10_000), &limits).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "revision of {} bytes needs more than 10000 parts",
                largest + 10_000
            )
        );
    }
}
