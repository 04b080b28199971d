//! Hostile archives: cut at every byte, changed at random, made to take memory; and hostile documents.
//!
//! What must hold is in `tests/fuzz/hostile.rs`, which the fuzz targets use too (`tests/fuzz/run`). Here the
//! changes come from fixed seeds; `STAGEDROP_HOSTILE_SECONDS` goes on with further ones for that long.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

#[path = "fuzz/hostile.rs"]
mod targets;

/// Archives of the corpus up to this size are changed.
const SEED_BYTES_MAX: u64 = 4 << 10;
/// Changes of each archive.
const ROUNDS: u64 = 40;
/// Documents that are put together.
const DOCUMENTS: u64 = 4_000;

/// What means something to a reader of YAML, whole.
const TOKENS: [&str; 34] = [
    "\n%",
    "\n",
    "\r\n",
    "\t",
    " ",
    "\u{85}",
    "\u{feff}",
    "!",
    "!b",
    "!b,",
    "!<b>,",
    "!!b,",
    "%TAG !a! !b,\n",
    "[",
    "]",
    "{",
    "}",
    ",",
    "'",
    "\"",
    "\\",
    "- ",
    "? ",
    ": ",
    "|\n ",
    ">",
    "&a ",
    "*a",
    "# ",
    "\n---\n",
    "\n...\n",
    "%",
    "c",
    "files: ",
];

type Target = fn(&[u8]);

fn target(extension: &str) -> Option<Target> {
    match extension {
        "zip" => Some(targets::zip),
        "tar" => Some(targets::tar),
        "tgz" => Some(targets::gzip),
        _ => None,
    }
}

/// Small archives of the corpus, each with what it is put through.
fn seeds() -> Vec<(Target, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/bundles");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
        .into_iter()
        .filter(|path| path.metadata().unwrap().len() <= SEED_BYTES_MAX)
        .filter_map(|path| {
            let target = target(path.extension()?.to_str()?)?;
            Some((target, std::fs::read(path).unwrap()))
        })
        .collect()
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit.max(1)
    }

    /// A few bytes changed, moved, doubled or cut out; numbers that are limits come up often.
    fn change(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            if bytes.is_empty() {
                return;
            }
            let at = self.below(bytes.len());
            let length = 1 + self.below(8);
            let end = (at + length).min(bytes.len());
            match self.below(6) {
                0 => bytes[at..end].fill(0xff),
                1 => bytes[at..end].fill(0),
                2 => drop(bytes.drain(at..end)),
                3 => {
                    let from = self.below(bytes.len());
                    let copied = bytes[from..bytes.len().min(from + 64)].to_vec();
                    bytes.splice(at..at, copied);
                }
                4 => bytes[at] ^= 1 << self.below(8),
                _ => bytes[at] = self.below(256) as u8,
            }
        }
    }
}

/// Header checksums made right again, so that what else is changed is looked at.
fn mend_tar(tar: &mut [u8]) {
    for block in tar.chunks_exact_mut(512) {
        if &block[257..262] == b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

fn gunzip(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut tar = Vec::new();
    let mut decoder = flate2::read::MultiGzDecoder::new(bytes);
    std::io::Read::read_to_end(&mut decoder, &mut tar).ok()?;
    Some(tar)
}

#[test]
fn archives_cut_at_every_byte_are_read_or_refused() {
    let mut cut = 0;
    for target in [targets::zip as Target, targets::tar, targets::gzip] {
        let mut seeds: Vec<_> = seeds()
            .into_iter()
            .filter(|(of, _)| std::ptr::fn_addr_eq(*of, target))
            .collect();
        seeds.sort_by_key(|(_, bytes)| bytes.len());
        for (_, bytes) in seeds.iter().take(4) {
            for end in 0..bytes.len() {
                target(&bytes[..end]);
                cut += 1;
            }
        }
    }
    assert!(cut > 1_000, "{cut}");
}

/// For how long changes go on.
fn more() -> Duration {
    let seconds = std::env::var("STAGEDROP_HOSTILE_SECONDS").ok();
    Duration::from_secs(seconds.map_or(0, |seconds| seconds.parse().unwrap()))
}

#[test]
fn archives_changed_at_random_are_read_or_refused() {
    let (start, more, seeds) = (Instant::now(), more(), seeds());
    let mut round = 0;
    while round < ROUNDS || start.elapsed() < more {
        round += 1;
        for (at, (target, bytes)) in seeds.iter().enumerate() {
            let mut random = Random(round << 20 | at as u64 | 1 << 60);
            let mut changed = bytes.clone();
            random.change(&mut changed);
            target(&changed);
            // A tar behind sound checksums, and inside a sound gzip stream.
            let tar = match gunzip(bytes) {
                Some(tar) => tar,
                None if std::ptr::fn_addr_eq(*target, targets::tar as Target) => bytes.clone(),
                None => continue,
            };
            let mut changed = tar;
            random.change(&mut changed);
            mend_tar(&mut changed);
            targets::tar(&changed);
            targets::gzip(&targets::member(&changed, 6, 700));
        }
    }
    println!("{} archives changed {round} times", seeds.len());
}

#[test]
fn documents_of_any_tokens_are_read_or_refused() {
    let (start, more) = (Instant::now(), more());
    let mut round = 0;
    while round < DOCUMENTS || start.elapsed() < more {
        round += 1;
        let mut random = Random(round << 20 | 1 << 60);
        let mut text = Vec::new();
        for _ in 0..=random.below(24) {
            text.extend_from_slice(TOKENS[random.below(TOKENS.len())].as_bytes());
        }
        targets::yaml(&text);
        random.change(&mut text);
        targets::yaml(&text);
    }
    println!("{round} documents");
}

#[test]
fn random_deflate_streams_are_taken_as_zlib_takes_them() {
    for seed in 1..10_000 {
        let mut random = Random(seed);
        let length = 1 + random.below(200);
        let mut bytes: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
        // Most begin with a block that has codes of its own.
        bytes[0] = bytes[0] & !6 | (random.below(3) as u8) << 1;
        targets::inflate(&bytes);
    }
}

#[test]
fn kept_blocks_hold_what_they_held() {
    for seed in 1..12 {
        let mut random = Random(seed);
        let bytes: Vec<u8> = (0..40).map(|_| random.below(256) as u8).collect();
        targets::blocks(&bytes);
    }
}

/// Makes archives that would take memory if it were let, and tells the process's peak.
#[test]
#[ignore = "its peak is that of a process of its own: see the next one"]
fn memory_of_bombs() {
    let mut header = vec![0; 512];
    header[..4].copy_from_slice(b"zero");
    header[124..135].copy_from_slice(format!("{:011o}", 24 << 20).as_bytes());
    header[156] = b'0';
    header[257..263].copy_from_slice(b"ustar\0");
    mend_tar(&mut header);
    // Files of zeros, entries without end, and a name that says it is a gigabyte.
    let mut zeros = Vec::new();
    let mut entries = Vec::new();
    for (made, copies, content) in [(&mut zeros, 3, 24 << 20), (&mut entries, 20_000, 0)] {
        let mut encoder = flate2::write::GzEncoder::new(made, flate2::Compression::fast());
        if content == 0 {
            header[124..135].fill(b'0');
            mend_tar(&mut header);
        }
        for _ in 0..copies {
            encoder.write_all(&header).unwrap();
            for _ in 0..content >> 16 {
                encoder.write_all(&[0; 1 << 16]).unwrap();
            }
        }
        encoder.finish().unwrap();
    }
    targets::gzip(&zeros);
    targets::gzip(&entries);
    header[156] = b'L';
    header[124..135].copy_from_slice(b"10000000000");
    mend_tar(&mut header);
    targets::tar(&header);
    targets::gzip(&targets::member(&header, 6, 0));
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    println!("{peak}");
}

#[test]
fn bombs_take_no_more_memory_than_the_limits_allow() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "--nocapture",
            "hostile::memory_of_bombs",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    let peak = said
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let kibibytes: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    // 32 MiB may be inflated; what is made of them is held by the test, not by the crate.
    assert!(kibibytes < 128 << 10, "peak of {kibibytes} KiB");
}
