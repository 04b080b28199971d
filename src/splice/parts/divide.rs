//! Which stretches of the revision S3 copies, and what becomes of the gaps between them.

use super::{Joins, PartError, PartLimits};
use crate::object::ByteRange;
use crate::splice::{SplicePlan, cost};

/// A stretch of the revision that is copied, uploaded or joined as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Run {
    /// These bytes of the source.
    Copy(ByteRange),
    /// These bytes of the revision.
    Upload(ByteRange),
    /// These bytes of the source, then these of the revision.
    Join {
        copied: ByteRange,
        output: ByteRange,
    },
}

/// Source bytes in a row, at their place in the revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) output_at: u64,
    pub(crate) source: ByteRange,
}

/// Times the usual size of a copied part, as long as there are too many.
const COPY_SIZES: [u64; 4] = [1, 2, 4, 8];

/// Part sizes for one revision: larger than usual where it is so large that they would be too many.
#[derive(Debug, Clone, Copy)]
pub(super) struct PartSizes {
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
            min: limits.part_bytes_min.max(1),
            upload: size(limits.upload_part_bytes),
            copy: size(limits.copy_part_bytes),
        }
    }

    /// Into how many parts a run is cut: none over the size wanted, unless some would be under the least.
    pub(super) fn parts(&self, run: &Run) -> u64 {
        let (length, most) = match run {
            Run::Copy(range) => (range.length(), self.copy),
            Run::Upload(output) => (output.length(), self.upload),
            Run::Join { .. } => return 1,
        };
        length.div_ceil(most).min(length / self.min).max(1)
    }
}

/// What of the stretch before a gap goes into the temporary object with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Joining {
    /// Nothing: no gap is joined.
    Never,
    /// No more than a part needs, so that little is copied twice.
    Tail,
    /// All of it, if it is one part, so that fewer parts are needed.
    Whole,
}

/// Divides the plan into runs of at most [`PartLimits::parts_max`] parts, in the way that takes the least
/// time; with the sizes that they are to be cut to.
pub(super) fn divide(
    plan: &SplicePlan<'_>,
    limits: &PartLimits,
) -> Result<(Vec<Run>, PartSizes), PartError> {
    let size = plan.output_size();
    let usual = PartSizes::new(size, limits);
    let mut stretches = stretches(plan, usual.min);
    // The least stretch that is worth a copy; it rises until the parts are few enough.
    let mut least = usual.min;
    loop {
        // Larger copies are fewer, and cost nothing but time.
        for times in COPY_SIZES {
            let sizes = PartSizes {
                copy: usual.copy.saturating_mul(times).min(limits.part_bytes_max),
                ..usual
            };
            if let Some(runs) = fastest(&stretches, size, &sizes, limits) {
                return Ok((runs, sizes));
            }
        }
        if least > size {
            return Err(PartError::TooManyParts {
                output_bytes: size,
                parts_max: limits.parts_max,
            });
        }
        least = least.saturating_mul(2);
        stretches.retain(|stretch| stretch.source.length() >= least);
    }
}

/// The runs that take the least time, of those that are few enough.
fn fastest(
    stretches: &[Stretch],
    size: u64,
    sizes: &PartSizes,
    limits: &PartLimits,
) -> Option<Vec<Run>> {
    let ways: &[Joining] = match limits.joins {
        Joins::Never => &[Joining::Never],
        Joins::WherePaid => &[Joining::Never, Joining::Tail, Joining::Whole],
        Joins::Wherever => &[Joining::Tail, Joining::Whole],
    };
    let always = limits.joins == Joins::Wherever;
    let mut best: Option<(f64, Vec<Run>)> = None;
    for joining in ways {
        let runs = settle(stretches, size, sizes, *joining, always);
        let parts: u64 = runs.iter().map(|run| sizes.parts(run)).sum();
        let seconds = seconds(&runs, sizes);
        if parts <= limits.parts_max && best.as_ref().is_none_or(|(best, _)| seconds < *best) {
            best = Some((seconds, runs));
        }
    }
    best.map(|(_, runs)| runs)
}

/// The stretches of at least `least` bytes that are copied as they are.
pub(crate) fn stretches(plan: &SplicePlan<'_>, least: u64) -> Vec<Stretch> {
    let mut found = Vec::new();
    let mut open = Stretch {
        output_at: 0,
        source: ByteRange::new(0, 0),
    };
    let mut n = 0;
    loop {
        n = plan.past_short(n, least);
        let Some(step) = plan.step(n) else { break };
        n += 1;
        let copied_at = step.copied_at();
        if copied_at == step.output.start && step.copied.start == open.source.end {
            open.source.end = step.copied.end;
            continue;
        }
        if open.source.length() >= least {
            found.push(open);
        }
        open = Stretch {
            output_at: copied_at,
            source: step.copied,
        };
    }
    if open.source.length() >= least {
        found.push(open);
    }
    found
}

/// Settles what becomes of each gap, front to back.
fn settle(
    stretches: &[Stretch],
    size: u64,
    sizes: &PartSizes,
    joining: Joining,
    always: bool,
) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    // Where in the revision the next run begins.
    let mut from = 0;
    for stretch in stretches {
        let mut source = stretch.source;
        let gap = ByteRange::new(from, stretch.output_at);
        let filler = match gap.length() {
            0 => 0,
            length => sizes.min.saturating_sub(length),
        };
        let fits = source.length() >= sizes.min.saturating_add(filler);
        let joined = match runs.last() {
            Some(Run::Copy(before)) if filler > 0 => tail(*before, sizes, joining)
                .filter(|(_, tail)| !fits || always || cost::join_pays(filler, tail.length())),
            _ => None,
        };
        if let Some((rest, copied)) = joined {
            runs.pop();
            if !rest.is_empty() {
                runs.push(Run::Copy(rest));
            }
            runs.push(Run::Join {
                copied,
                output: gap,
            });
        } else if fits {
            source.start += filler;
            if !gap.is_empty() {
                runs.push(Run::Upload(ByteRange::new(gap.start, gap.end + filler)));
            }
        } else {
            // Too short for a copy of its own: it passes with what lies around it.
            continue;
        }
        runs.push(Run::Copy(source));
        from = stretch.output_at + stretch.source.length();
    }
    if from < size {
        runs.push(Run::Upload(ByteRange::new(from, size)));
    }
    runs
}

/// Splits a copied stretch into what stays a copy and what is joined to the gap after it.
fn tail(before: ByteRange, sizes: &PartSizes, joining: Joining) -> Option<(ByteRange, ByteRange)> {
    let length = before.length();
    let cut = match joining {
        Joining::Never => return None,
        Joining::Whole if length <= sizes.copy => before.start,
        Joining::Tail | Joining::Whole if length >= sizes.min.saturating_mul(2) => {
            before.end - sizes.min
        }
        // What would be left is too short for a part.
        Joining::Tail | Joining::Whole => before.start,
    };
    Some((
        ByteRange::new(before.start, cut),
        ByteRange::new(cut, before.end),
    ))
}

/// Estimated seconds of the runs.
fn seconds(runs: &[Run], sizes: &PartSizes) -> f64 {
    let mut work = cost::Work {
        in_parts: true,
        ..cost::Work::default()
    };
    for run in runs {
        match run {
            Run::Copy(source) => {
                let parts = sizes.parts(run);
                work.copies += parts;
                work.copied_bytes += source.length();
                work.copy_bytes_max = work.copy_bytes_max.max(source.length().div_ceil(parts));
            }
            Run::Upload(output) => {
                work.bodies += sizes.parts(run);
                work.through_bytes += output.length();
            }
            Run::Join { copied, output } => {
                let length = copied.length() + output.length();
                work.joins += 1;
                work.joined_bytes += length;
                work.join_bytes_max = work.join_bytes_max.max(length);
            }
        }
    }
    work.seconds()
}
