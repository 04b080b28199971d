//! What planning costs: instructions an entry, counted by valgrind's callgrind, which noise does not touch.
//!
//! `cargo bench --bench planning` counts each stage in a process of its own, for two sizes of one archive; the
//! difference is what an entry costs. Where there is no valgrind, it prints times alone.

use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use stagedrop::archive::zip::{Step, ZipIndex, ZipReader};
use stagedrop::archive::{ArchiveFormat, Index, Limits};
use stagedrop::contents::{Choice, KeptEntry, KeptName, choose_contents};
use stagedrop::object::ByteRange;
use stagedrop::splice::parts::{PartLimits, plan_parts};
use stagedrop::splice::plan_splice;

/// Stages, each with all before it; the first makes the directory and is no part of planning.
const STAGES: [&str; 5] = [
    "directory made",
    "index",
    "splice plan",
    "part plan",
    "contents chosen",
];
/// Stages that are planning.
const PLANNING: std::ops::RangeInclusive<usize> = 1..=3;
/// Entries of the smaller archive.
const ENTRIES: u32 = 20_000;
/// What planning may cost.
const INSTRUCTIONS_MAX: f64 = 800.0;

type Fault = Box<dyn std::error::Error>;

fn main() -> Result<(), Fault> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, stage, entries] = arguments.as_slice()
        && let (Ok(stage), Ok(entries)) = (stage.parse(), entries.parse())
    {
        return run(stage, entries);
    }
    let begun = Instant::now();
    run(0, 1_000_000)?;
    let made = begun.elapsed();
    run(3, 1_000_000)?;
    let planned = (begun.elapsed() - made).saturating_sub(made);
    println!("1,000,000 entries are planned in {planned:.2?}");
    let (mut before, mut planning) = (0.0, 0.0);
    for (stage, name) in STAGES.iter().enumerate() {
        let counted = instructions(stage, ENTRIES).zip(instructions(stage, 2 * ENTRIES));
        let Some((small, large)) = counted else {
            println!("valgrind is not to be had: instructions are not counted");
            return Ok(());
        };
        let each = (large - small) as f64 / f64::from(ENTRIES);
        let own = each - before;
        before = each;
        if PLANNING.contains(&stage) {
            planning += own;
        }
        println!("{name:>16}: {own:6.0} instructions an entry");
    }
    let verdict = if planning <= INSTRUCTIONS_MAX {
        "within"
    } else {
        "beyond"
    };
    println!("planning in all: {planning:.0} an entry, {verdict} {INSTRUCTIONS_MAX}");
    Ok(())
}

/// Instructions of a run in a process of its own.
fn instructions(stage: usize, entries: u32) -> Option<u64> {
    let out = std::env::temp_dir().join(format!("stagedrop-planning-{}", std::process::id()));
    let done = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().ok()?)
        .args([stage.to_string(), entries.to_string()])
        .output()
        .ok()?;
    let text = std::fs::read_to_string(&out).ok()?;
    std::fs::remove_file(&out).ok()?;
    let total = text.lines().find_map(|line| {
        let rest = line
            .strip_prefix("summary: ")
            .or_else(|| line.strip_prefix("totals: "))?;
        rest.trim().parse().ok()
    });
    total.filter(|_| done.status.success())
}

/// Runs the stages up to this one.
fn run(stage: usize, entries: u32) -> Result<(), Fault> {
    let archive = Archive::make(entries);
    if stage == 0 {
        return hold(!archive.tail.is_empty());
    }
    let zip = archive.index()?;
    if stage == 1 {
        return hold(zip.len() == entries as usize);
    }
    if stage < 4 {
        let kept: Vec<KeptEntry> = (0..entries)
            .map(|index| KeptEntry {
                index,
                name: KeptName::Suffix { skip: 4 },
            })
            .collect();
        return plan(&zip, &kept, stage == 3);
    }
    let exclude = globset::GlobSet::empty();
    let choice = Choice {
        application_root: "app/",
        exclude: &exclude,
        format: ArchiveFormat::Zip,
    };
    let index = Index::Zip(Arc::new(zip));
    let chosen = choose_contents(&index, &choice).map_err(|findings| format!("{findings:?}"))?;
    match &index {
        Index::Zip(zip) => plan(zip, &chosen.entries, true),
        Index::Tar(_) => hold(false),
    }
}

fn hold(is_sound: bool) -> Result<(), Fault> {
    if is_sound {
        Ok(())
    } else {
        Err("the archive is not what was made".into())
    }
}

fn plan(zip: &ZipIndex, kept: &[KeptEntry], has_parts: bool) -> Result<(), Fault> {
    let plan = plan_splice(zip, kept)?;
    if !has_parts {
        return hold(plan.output_size() > 0);
    }
    let parts = plan_parts(&plan, &PartLimits::default())?;
    hold(parts.traffic.requests > 0)
}

/// A zip's size, and its bytes from the directory on.
struct Archive {
    size: u64,
    tail_at: u64,
    tail: Vec<u8>,
}

impl Archive {
    fn index(&self) -> Result<ZipIndex, Fault> {
        let mut reader = ZipReader::new(self.size, &Limits::default());
        loop {
            match reader.step()? {
                Step::Done(index) => return Ok(index),
                Step::Need(range) if range.start < self.tail_at => {
                    // Before the directory nothing is looked at.
                    let before = ByteRange::new(range.start, self.tail_at);
                    reader.feed(before, &vec![0; usize::try_from(before.length())?])?;
                }
                Step::Need(range) => {
                    let start = usize::try_from(range.start - self.tail_at)?;
                    let end = usize::try_from(range.end - self.tail_at)?;
                    reader.feed(range, self.tail.get(start..end).ok_or("past the end")?)?;
                }
            }
        }
    }

    /// A zip as Info-ZIP makes one.
    fn make(entries: u32) -> Self {
        let mut tail = Vec::new();
        let mut at: u32 = 0;
        for n in 0..entries {
            let name = match n {
                0 => "app/appspec.yml".to_owned(),
                n => format!("app/folder-{:04}/file-{n:07}.txt", n / 64),
            };
            let size = 300 + n % 4_000;
            tail.extend_from_slice(b"PK\x01\x02\x1e\x03\x14\0\0\0\0\0\0\x60\x21\x58\0\0\0\0");
            tail.extend_from_slice(&size.to_le_bytes());
            tail.extend_from_slice(&size.to_le_bytes());
            tail.extend_from_slice(&(name.len() as u16).to_le_bytes());
            tail.extend_from_slice(&[24, 0, 0, 0, 0, 0, 0, 0]);
            tail.extend_from_slice(&(0o100_644_u32 << 16).to_le_bytes());
            tail.extend_from_slice(&at.to_le_bytes());
            tail.extend_from_slice(name.as_bytes());
            tail.extend_from_slice(b"UT\x05\0\x03\x01\x02\x03\x04");
            tail.extend_from_slice(b"ux\x0b\0\x01\x04\xe8\x03\0\0\x04\xe8\x03\0\0");
            // A local header has four bytes more of timestamps.
            at += 30 + name.len() as u32 + 28 + size;
        }
        let directory_bytes = tail.len() as u32;
        let tail_at = u64::from(at);
        if entries >= 0xffff {
            let record_at = tail_at + u64::from(directory_bytes);
            tail.extend_from_slice(b"PK\x06\x06\x2c\0\0\0\0\0\0\0\x1e\x03\x2d\0\0\0\0\0\0\0\0\0");
            for value in [
                u64::from(entries),
                u64::from(entries),
                u64::from(directory_bytes),
                tail_at,
            ] {
                tail.extend_from_slice(&value.to_le_bytes());
            }
            tail.extend_from_slice(b"PK\x06\x07\0\0\0\0");
            tail.extend_from_slice(&record_at.to_le_bytes());
            tail.extend_from_slice(&1_u32.to_le_bytes());
        }
        let count = u16::try_from(entries).unwrap_or(u16::MAX);
        tail.extend_from_slice(b"PK\x05\x06\0\0\0\0");
        tail.extend_from_slice(&count.to_le_bytes());
        tail.extend_from_slice(&count.to_le_bytes());
        tail.extend_from_slice(&directory_bytes.to_le_bytes());
        tail.extend_from_slice(&at.to_le_bytes());
        tail.extend_from_slice(&[0; 2]);
        Self {
            size: tail_at + tail.len() as u64,
            tail_at,
            tail,
        }
    }
}
