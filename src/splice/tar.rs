//! Tar to tar: names change, some entries go, contents stay where they are.
//!
//! A header is copied where nothing in it changes and written anew where its name, its link target or what
//! it depends on does; the index holds all that a header says, so no byte of the source is needed beside
//! what indexing read. Extended attributes and access times, which the agent's tar does not restore, are
//! lost from written headers. Hard links stay links, under their targets' new names.

use super::{FLAG_BITS, HAS_CONTENT, Layout, PlanError, REWRITTEN, SplicePlan, Step, flagged};
use crate::archive::EntryKind;
use crate::archive::tar::{END_OF_ARCHIVE, TarIndex, WrittenEntry, write_header};
use crate::archive::zip::shown;
use crate::contents::KeptEntry;
use crate::object::ByteRange;
use crate::transcode::order::{Order, OrderError};

/// Where everything goes in a tar.
pub(super) struct TarLayout<'a> {
    tar: &'a TarIndex,
    order: Order,
    /// For each step the entry whose content it has, and the kept entry whose name.
    stops: Vec<(u32, u32)>,
    /// Where each step begins in the revision, then where the end of the archive does.
    output_at: Vec<u64>,
}

impl std::fmt::Debug for TarLayout<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TarLayout")
            .field("stops", &self.stops)
            .field("output_at", &self.output_at)
            .finish_non_exhaustive()
    }
}

/// Why a tar cannot be spliced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TarSpliceError {
    /// The plan itself.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Hard links that cannot be kept.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// A FIFO, device or unknown type.
    #[error("entry `{name}` is neither file, directory nor link")]
    SpecialFile {
        /// Its name.
        name: String,
    },
}

impl TarSpliceError {
    /// Stable word for what is wrong, as findings carry it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Plan(_) => "internal",
            Self::Order(error) => error.code(),
            Self::SpecialFile { .. } => "entry-special-file",
        }
    }
}

/// Plans the revision of `kept`, which must ascend by index, out of a plain tar of `source_size` bytes.
///
/// # Errors
/// Kept entries that the index does not have or that do not ascend, empty names, and hard links whose
/// targets cannot be had.
pub fn plan_splice<'a>(
    tar: &'a TarIndex,
    kept: &[KeptEntry],
    source_size: u64,
) -> Result<SplicePlan<'a>, TarSpliceError> {
    check_kept(tar, kept)?;
    let mut order = Order::of_tar(tar, kept.to_vec(), tar.format())?;
    if tar.is_sound() && kept.len() == tar.len() && is_unchanged(tar, &order) {
        return Ok(SplicePlan::identity(source_size));
    }
    let mut stops = Vec::with_capacity(kept.len());
    let mut output_at = Vec::with_capacity(kept.len().saturating_add(1));
    let (mut at, mut copied_bytes) = (0_u64, 0_u64);
    let mut header = Vec::new();
    while let Some(stop) = order.next_stop() {
        let missing = || no_such_entry(tar, stop.entry as usize);
        let source = tar.placement(stop.entry as usize).ok_or_else(missing)?;
        let place = stop.writes.first().copied().ok_or_else(missing)?;
        let kept = order.kept.get(place as usize).ok_or_else(missing)?;
        let written = order.written(tar, place).ok_or_else(missing)?;
        // A file that is kept under the name of a hard link to it is at another place than the link's header.
        let is_own = kept.index == stop.entry;
        let is_copied = is_own && source.self_contained && says_the_same(tar, kept, &written);
        header.clear();
        let (flags, copied) = if is_copied {
            (0, source.whole().length())
        } else {
            write_header(&written, &mut header);
            match written.kind {
                EntryKind::File => (REWRITTEN | HAS_CONTENT, content(tar, stop.entry).length()),
                _ => (REWRITTEN, 0),
            }
        };
        stops.push((stop.entry, place));
        output_at.push(flagged(at, flags)?);
        copied_bytes = copied_bytes.saturating_add(copied);
        at = at
            .saturating_add(copied)
            .saturating_add(header.len() as u64);
    }
    output_at.push(flagged(at, 0)?);
    let output_size = flagged(at.saturating_add(END_OF_ARCHIVE.len() as u64), 0)?;
    Ok(SplicePlan {
        layout: Layout::Tar(TarLayout {
            tar,
            order,
            stops,
            output_at,
        }),
        source_size,
        output_size,
        copied_bytes,
    })
}

fn check_kept(tar: &TarIndex, kept: &[KeptEntry]) -> Result<(), TarSpliceError> {
    let mut before: Option<usize> = None;
    for kept in kept {
        let index = kept.index as usize;
        let entry = tar.entry(index).ok_or_else(|| no_such_entry(tar, index))?;
        if let Some(after) = before.filter(|before| *before >= index) {
            return Err(PlanError::OutOfOrder { index, after }.into());
        }
        before = Some(index);
        let (name_bytes, limit) = (kept.name(&entry).len(), usize::from(u16::MAX));
        if name_bytes == 0 || name_bytes > limit {
            return Err(PlanError::NameLength {
                index,
                name_bytes,
                limit,
            }
            .into());
        }
        if entry.kind == EntryKind::Special {
            return Err(TarSpliceError::SpecialFile {
                name: shown(entry.name),
            });
        }
    }
    Ok(())
}

fn no_such_entry(tar: &TarIndex, index: usize) -> PlanError {
    PlanError::NoSuchEntry {
        index,
        entries: tar.len(),
    }
}

/// Whether every entry, all of which are kept, says what it said.
fn is_unchanged(tar: &TarIndex, order: &Order) -> bool {
    order.kept.iter().zip(0u32..).all(|(kept, at)| {
        order
            .written(tar, at)
            .is_some_and(|written| says_the_same(tar, kept, &written))
    })
}

/// Whether the header of `kept` in the source says what would be written.
fn says_the_same(tar: &TarIndex, kept: &KeptEntry, written: &WrittenEntry<'_>) -> bool {
    tar.entry(kept.index as usize).is_some_and(|entry| {
        let link_target = entry.link_target.unwrap_or_default();
        entry.name == written.name
            && entry.kind == written.kind
            && link_target == written.link_target
    })
}

/// Content and padding of an entry.
fn content(tar: &TarIndex, entry: u32) -> ByteRange {
    tar.placement(entry as usize)
        .map_or(ByteRange::new(0, 0), |placement| {
            ByteRange::new(placement.data.start, placement.whole().end)
        })
}

impl TarLayout<'_> {
    pub(super) fn kept(&self) -> &[KeptEntry] {
        &self.order.kept
    }

    pub(super) fn step(&self, n: usize) -> Option<Step> {
        let flagged = *self.output_at.get(n)?;
        let nothing = ByteRange::new(0, 0);
        let start = flagged & !FLAG_BITS;
        let Some((entry, _)) = self.stops.get(n) else {
            let end = start.saturating_add(END_OF_ARCHIVE.len() as u64);
            return Some(Step {
                output: ByteRange::new(start, end),
                passed: nothing,
                copied: nothing,
            });
        };
        let copied = match (flagged & REWRITTEN == 0, flagged & HAS_CONTENT == 0) {
            (true, _) => self.tar.placement(*entry as usize)?.whole(),
            (false, true) => nothing,
            (false, false) => content(self.tar, *entry),
        };
        Some(Step {
            output: ByteRange::new(start, *self.output_at.get(n + 1)? & !FLAG_BITS),
            passed: nothing,
            copied,
        })
    }

    /// Where each step begins in the revision, then where the archive's end does, with flags.
    pub(super) fn output_at(&self) -> &[u64] {
        &self.output_at
    }

    pub(super) fn step_at(&self, output: u64) -> usize {
        let after = self
            .output_at
            .partition_point(|at| at & !FLAG_BITS <= output);
        after.saturating_sub(1)
    }

    pub(super) fn make(&self, n: usize, out: &mut Vec<u8>) {
        match self.stops.get(n) {
            Some((_, place)) => {
                if let Some(written) = self.order.written(self.tar, *place) {
                    write_header(&written, out);
                }
            }
            None => out.extend_from_slice(&END_OF_ARCHIVE),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

    use super::*;
    use crate::archive::tar::samples::{Sample, any_samples, read_tar, scan, write_tar};
    use crate::contents::KeptName;
    use crate::splice::parts::{plan_parts, stretches};
    use crate::splice::reference::{carry_out_parts, check_parts, judge, limits, two_levels};

    fn carry_out(plan: &SplicePlan<'_>, source: &[u8]) -> Vec<u8> {
        let mut target = Vec::new();
        for (n, step) in plan.steps().enumerate() {
            assert!(step.passed.is_empty(), "{step:?}");
            assert_eq!(step.output.start, target.len() as u64);
            if step.made_bytes() > 0 {
                plan.make(n, &[], &mut target).unwrap();
            }
            assert_eq!(step.copied_at(), target.len() as u64);
            target.extend(&source[step.copied.start as usize..step.copied.end as usize]);
        }
        assert_eq!(target.len() as u64, plan.output_size());
        target
    }

    fn suffix(index: u32, skip: u32) -> KeptEntry {
        KeptEntry {
            index,
            name: KeptName::Suffix { skip },
        }
    }

    fn splice(source: &[u8], kept: &[KeptEntry]) -> Result<SplicePlan<'static>, TarSpliceError> {
        let index = Box::leak(Box::new(scan(source).unwrap().index));
        plan_splice(index, kept, source.len() as u64)
    }

    #[test]
    fn ok_what_needs_no_change_is_the_source_itself() {
        let samples = [
            Sample::file("a", "1"),
            Sample::hard_link("b", "a"),
            Sample::directory("d/"),
        ];
        let mut source = write_tar(&samples);
        let kept = [suffix(0, 0), suffix(1, 0), suffix(2, 0)];
        assert!(splice(&source, &kept).unwrap().is_identity());
        assert!(!splice(&source, &kept[..2]).unwrap().is_identity());
        source.truncate(source.len() - 512);
        assert!(
            !splice(&source, &kept).unwrap().is_identity(),
            "tar warns of a lone block of zeros"
        );
    }

    #[test]
    fn ok_neighbours_that_do_not_change_are_one_range() {
        let samples: Vec<Sample> = (0..5)
            .map(|at| Sample::file(&format!("{at}"), vec![at as u8; 700]))
            .collect();
        let source = write_tar(&samples);
        let kept = [suffix(0, 0), suffix(1, 0), suffix(3, 0), suffix(4, 0)];
        let plan = splice(&source, &kept).unwrap();
        let each = 512 + 1024;
        let copied: Vec<_> = stretches(&plan, 1)
            .iter()
            .map(|stretch| (stretch.output_at, stretch.source))
            .collect();
        let expected = [
            (0, ByteRange::new(0, 2 * each)),
            (2 * each, ByteRange::new(3 * each, 5 * each)),
        ];
        assert_eq!(copied, expected);
        assert_eq!(plan.made_bytes(), 1024);
    }

    #[test]
    fn ok_a_prefix_goes_from_names_and_from_what_hard_links_name() {
        let samples = [
            Sample::directory("app/"),
            Sample::file("app/bin/run", "run").mode(0o4755),
            Sample::hard_link("app/again", "./app/bin/run"),
            Sample::symlink("app/link", "app/bin/run"),
        ];
        let source = write_tar(&samples);
        let plan = splice(&source, &[suffix(1, 4), suffix(2, 4), suffix(3, 4)]).unwrap();
        let expected = [
            Sample {
                name: "bin/run".into(),
                ..samples[1].clone()
            },
            Sample {
                name: "again".into(),
                link: "bin/run".into(),
                ..samples[2].clone()
            },
            Sample {
                name: "link".into(),
                ..samples[3].clone()
            },
        ];
        assert_eq!(read_tar(&carry_out(&plan, &source)), expected);
    }

    #[test]
    fn ok_a_link_to_what_is_left_out_becomes_the_file() {
        let samples = [
            Sample::file("out", "shared").mode(0o600),
            Sample::file("between", "x"),
            Sample::hard_link("one", "out"),
            Sample::hard_link("two", "out"),
        ];
        let source = write_tar(&samples);
        let plan = splice(&source, &[suffix(1, 0), suffix(2, 0), suffix(3, 0)]).unwrap();
        let expected = [
            Sample {
                name: "one".into(),
                ..samples[0].clone()
            },
            samples[1].clone(),
            Sample {
                link: "one".into(),
                ..samples[3].clone()
            },
        ];
        assert_eq!(read_tar(&carry_out(&plan, &source)), expected);
    }

    #[test]
    fn ok_an_entry_that_depends_on_a_global_header_is_written_anew() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut global = tar::Header::new_ustar();
        global.set_path("pax_global_header").unwrap();
        global.set_entry_type(tar::EntryType::XGlobalHeader);
        global.set_mode(0o644);
        global.set_size(20);
        global.set_cksum();
        builder
            .append(&global, &b"20 mtime=1234567890\n"[..])
            .unwrap();
        crate::archive::tar::samples::append(&mut builder, &Sample::file("a", "1"));
        crate::archive::tar::samples::append(&mut builder, &Sample::file("b", "2"));
        let source = builder.into_inner().unwrap();
        let plan = splice(&source, &[suffix(1, 0)]).unwrap();
        let found = read_tar(&carry_out(&plan, &source));
        assert_eq!((found[0].mtime, found.len()), (1_234_567_890, 1));
        assert!(
            splice(&source, &[suffix(0, 0), suffix(1, 0)])
                .unwrap()
                .is_identity()
        );
    }

    #[test]
    fn err_each_cause_is_told() {
        let samples = [
            Sample::file("a", "1"),
            Sample::hard_link("b", "missing"),
            Sample::new(EntryKind::Special, "fifo"),
        ];
        let source = write_tar(&samples);
        let error = |kept: &[KeptEntry]| splice(&source, kept).unwrap_err();
        let missing = PlanError::NoSuchEntry {
            index: 3,
            entries: 3,
        };
        assert_eq!(error(&[suffix(3, 0)]), missing.into());
        let order = PlanError::OutOfOrder { index: 0, after: 0 };
        assert_eq!(error(&[suffix(0, 0), suffix(0, 0)]), order.into());
        let length = PlanError::NameLength {
            index: 0,
            name_bytes: 0,
            limit: 65535,
        };
        assert_eq!(error(&[suffix(0, 1)]), length.into());
        assert_eq!(error(&[suffix(1, 0)]).code(), "hard-link-dangling");
        assert_eq!(error(&[suffix(2, 0)]).code(), "entry-special-file");
    }

    #[test]
    fn ok_gnu_tar_unpacks_what_it_would_unpack_of_the_source() {
        let is_gnu = Command::new("tar").arg("--version").output();
        if !is_gnu.is_ok_and(|said| said.stdout.starts_with(b"tar (GNU tar)")) {
            eprintln!("no GNU tar here: not compared");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let mut cases = Vec::new();
        let mut joins = 0;
        for n in 0..60 {
            let samples = any_samples().new_tree(&mut runner).unwrap().current();
            let under = |name: &str| format!("top/{name}");
            let packed: Vec<Sample> = samples
                .iter()
                .map(|sample| Sample {
                    name: under(&sample.name),
                    link: match sample.kind {
                        EntryKind::HardLink => under(&sample.link),
                        _ => sample.link.clone(),
                    },
                    ..sample.clone()
                })
                .collect();
            let source = write_tar(&packed);
            // Every third goes, unless something is a link to it.
            let is_shared = |name: &str| {
                let mut links = samples.iter().filter(|of| of.kind == EntryKind::HardLink);
                links.any(|link| link.link == name)
            };
            let kept = samples.iter().enumerate();
            let kept = kept.filter(|(at, sample)| at % 3 != 2 || is_shared(&sample.name));
            let kept: Vec<(usize, &Sample)> = kept.collect();
            let entries: Vec<KeptEntry> =
                kept.iter().map(|(at, _)| suffix(*at as u32, 4)).collect();
            let plan = splice(&source, &entries).unwrap();
            let parts = plan_parts(&plan, &two_levels(1_100)).unwrap();
            joins += parts.traffic.joins;
            let (revision, _) = carry_out_parts(&plan, &parts, &source, None, 100);
            let path = |kind: &str| folder.path().join(format!("{n}-{kind}.tar"));
            std::fs::write(path("source"), source).unwrap();
            std::fs::write(path("revision"), revision).unwrap();
            let kept: Vec<_> = kept
                .iter()
                .map(|(at, sample)| serde_json::json!([at, under(&sample.name), sample.name]))
                .collect();
            cases.push(serde_json::json!({
                "source": path("source"), "revision": path("revision"), "kept": kept,
            }));
        }
        assert!(joins > 10, "{joins}");
        judge(&cases, folder.path());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn ok_the_plan_gives_what_a_naive_repack_gives(
            samples in any_samples(),
            dropped in prop::collection::vec(any::<bool>(), 12),
            prefixed in any::<bool>(),
            limits in limits(),
            piece in 1..500usize,
        ) {
            let prefix = if prefixed { "top/" } else { "" };
            let packed: Vec<Sample> = samples
                .iter()
                .map(|sample| Sample { name: format!("{prefix}{}", sample.name), ..sample.clone() })
                .map(|sample| match sample.kind {
                    EntryKind::HardLink => Sample { link: format!("{prefix}{}", sample.link), ..sample },
                    _ => sample,
                })
                .collect();
            // What a hard link shares stays, so that the naive repack need not move anything.
            let needed = |sample: &Sample| samples.iter().any(|link| {
                link.kind == EntryKind::HardLink && link.link == sample.name
            });
            let is_kept = |at: usize| !dropped[at] || needed(&samples[at]);
            let kept: Vec<KeptEntry> = (0..samples.len())
                .filter(|at| is_kept(*at))
                .map(|at| suffix(at as u32, prefix.len() as u32))
                .collect();
            let expected: Vec<Sample> = (0..samples.len())
                .filter(|at| is_kept(*at))
                .map(|at| samples[at].clone())
                .collect();
            let source = write_tar(&packed);
            let plan = splice(&source, &kept).unwrap();
            let revision = carry_out(&plan, &source);
            prop_assert_eq!(read_tar(&revision), expected);
            match plan_parts(&plan, &limits) {
                Ok(parts) => {
                    check_parts(&plan, &parts, &limits);
                    let (through_parts, _) = carry_out_parts(&plan, &parts, &source, None, piece);
                    prop_assert_eq!(through_parts, revision);
                }
                Err(error) => prop_assert!(limits.parts_max < 20, "{error}"),
            }
            let is_whole = kept.len() == samples.len() && (!prefixed || samples.is_empty());
            prop_assert_eq!(plan.is_identity(), is_whole);
        }
    }
}
