//! Deflate blocks that are kept: against the naive way, and before other people's readers.

use std::process::Command;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::archive::inflate::tests::{content, deflate};

/// A gzip member of `content`.
fn member(content: &[u8], level: u32, flushes: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    bytes.extend(deflate(content, level, flushes));
    bytes.extend(crc32fast::hash(content).to_le_bytes());
    bytes.extend((content.len() as u32).to_le_bytes());
    bytes
}

/// Transcodes to a zip; with the bytes that are the source's own.
fn zip_of(index: Index, kept: Vec<KeptEntry>, source: &[u8], piece: usize) -> (Vec<u8>, u64) {
    let limits = Limits::default();
    let transcoder = Transcoder::new(Arc::new(index), kept, ArchiveFormat::Zip, &limits).unwrap();
    let (mut front, mut assembler) = transcoder.into_parts();
    let mut jobs = Vec::new();
    for range in front.reads().to_vec() {
        for piece in source[range.start as usize..range.end as usize].chunks(piece) {
            let mut rest = piece;
            while !rest.is_empty() && front.needs_more() {
                let taken = front.feed(rest).unwrap();
                rest = &rest[taken..];
                jobs.extend(std::iter::from_fn(|| front.next_job()));
            }
        }
    }
    while !front.has_ended() {
        front.finish().unwrap();
        jobs.extend(std::iter::from_fn(|| front.next_job()));
    }
    // The last job first, each with a codec of its own or all with one: nothing depends on it.
    let mut codec = Codec::default();
    let mut done: Vec<DoneJob> = Vec::new();
    for (at, job) in jobs.into_iter().enumerate().rev() {
        done.push(match at % 2 {
            0 => job.run(&mut codec).unwrap(),
            _ => job.run(&mut Codec::default()).unwrap(),
        });
    }
    let (mut out, mut target, mut copied) = (Output::default(), Vec::new(), 0);
    while let Some(job) = done.pop() {
        assembler.take(job, &mut out).unwrap();
    }
    while !assembler.finish(&mut out).unwrap() {}
    for piece in out.take() {
        match piece {
            Piece::Bytes(bytes) => target.extend(bytes),
            Piece::Copied(range) => {
                copied += range.length();
                target.extend(&source[range.start as usize..range.end as usize]);
            }
        }
    }
    assert_eq!(assembler.written_bytes(), target.len() as u64);
    (target, copied)
}

/// Large and small files in any order, some of them linked.
fn any_large_samples() -> impl Strategy<Value = Vec<Sample>> {
    let file = (
        any::<u64>(),
        prop_oneof![2 => 0..40_000usize, 3 => 1_000_000..2_600_000usize],
    );
    prop::collection::vec((file, 0..6u8), 1..5).prop_map(|files| {
        let mut samples = Vec::new();
        for (at, ((seed, length), kind)) in files.into_iter().enumerate() {
            let name = format!("f{at}");
            samples.push(Sample::file(&name, content(seed, length)).mode(0o640));
            match kind {
                0 => samples.push(Sample::symlink(&format!("s{at}"), &name)),
                1 => samples.push(Sample::hard_link(&format!("h{at}"), &name)),
                2 => samples.push(Sample::directory(&format!("d{at}/"))),
                _ => (),
            }
        }
        samples
    })
}

/// Where a member ends, its level and its flushes.
type Member = (prop::sample::Index, u32, Vec<(usize, u8)>);

/// The tar as a tar.gz of these members.
fn framed(tar: &[u8], members: &[Member]) -> Vec<u8> {
    let mut ends: Vec<usize> = members
        .iter()
        .map(|(end, ..)| end.index(tar.len()))
        .collect();
    ends.sort_unstable();
    ends.pop();
    ends.push(tar.len());
    let (mut source, mut start) = (Vec::new(), 0);
    for (end, (_, level, flushes)) in ends.into_iter().zip(members) {
        source.extend(member(&tar[start..end], *level, flushes));
        start = end;
    }
    source
}

fn run(program: &str, args: &[&str], file: &std::path::Path) {
    let output = Command::new(program).args(args).arg(file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {said}{complained}");
    assert_eq!(complained, "", "{program}");
}

/// Readers that have nothing to do with this crate, as far as they are installed; `unzip` and Python are.
fn judge(zip: &[u8]) {
    let mut file = tempfile::Builder::new().suffix(".zip").tempfile().unwrap();
    file.write_all(zip).unwrap();
    let path = file.path();
    run("unzip", &["-tq"], path);
    run("zipinfo", &["-v"], path);
    let python = "import sys, zipfile\n\
        z = zipfile.ZipFile(sys.argv[1])\n\
        assert z.testzip() is None\n\
        assert sum(len(z.read(i)) - i.file_size for i in z.infolist()) == 0";
    run("python3", &["-c", python], path);
    if Command::new("7z").arg("i").output().is_ok() {
        run("7z", &["t"], path);
    }
    if Command::new("bsdtar").arg("--version").output().is_ok() {
        run("bsdtar", &["-tvf"], path);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn ok_kept_blocks_read_like_those_deflated_anew(
        samples in any_large_samples(),
        members in prop::collection::vec(
            (any::<prop::sample::Index>(), 0..10u32, prop::collection::vec((0..900_000usize, any::<u8>()), 0..4)),
            1..4,
        ),
        dropped in any::<u16>(),
        pieces in (1_000..3_000_000usize, 1..3_000_000usize),
    ) {
        let tar = write_tar(&samples);
        let source = framed(&tar, &members);
        let index = mapped(&source, pieces.0);
        let (Index::Tar(tar_index), Index::Tar(same)) = (&index, mapped(&source, usize::MAX >> 1)) else {
            panic!("no tar");
        };
        prop_assert!(*tar_index == same, "the cuts changed the map");
        // Links to what is left out are refused: leave out only what has none.
        let kept: Vec<KeptEntry> = all(&index, 0)
            .into_iter()
            .filter(|kept| {
                let sample = &samples[kept.index as usize];
                let is_linked = samples.iter().any(|link| link.link == sample.name);
                is_linked || dropped >> (kept.index % 16) & 1 == 0
            })
            .collect();
        let (zip, _) = zip_of(index, kept.clone(), &source, pieces.1);
        let (again, _) = zip_of(mapped(&source, 50_000), kept.clone(), &source, usize::MAX >> 1);
        prop_assert!(zip == again, "the cuts changed the bytes");
        let plain = Index::Tar(scan(&tar).unwrap().index);
        let (naive, _) = transcode_in(plain, kept, &tar, ArchiveFormat::Zip, 70_000).unwrap();
        let (found, expected) = (read_zip(&zip), read_zip(&naive));
        prop_assert!(found == expected);
        // `unzip` has a warning for archives of nothing.
        if !found.is_empty() {
            judge(&zip);
        }
    }
}

#[test]
fn ok_nearly_all_of_a_large_file_is_kept() {
    let large = content(7, 12 << 20);
    let samples = [
        Sample::file("small", "1"),
        Sample::file("large", large.clone()),
        Sample::file("behind", "2"),
        Sample::file("left out", content(8, 5 << 20)),
        Sample::file("end", "3"),
    ];
    let tar = write_tar(&samples);
    for level in [2, 6, 9] {
        let source = member(&tar, level, &[]);
        let index = mapped(&source, 100_000);
        let mut kept = all(&index, 0);
        kept.remove(3);
        let read: u64 = {
            let index = mapped(&source, 100_000);
            let format = ArchiveFormat::Zip;
            let (kept, limits) = (kept.clone(), Limits::default());
            let transcoder = Transcoder::new(Arc::new(index), kept, format, &limits).unwrap();
            transcoder.reads().iter().map(|range| range.length()).sum()
        };
        let (zip, copied) = zip_of(index, kept, &source, 1 << 20);
        assert!(
            copied * 100 > zip.len() as u64 * 93,
            "{copied} of {}",
            zip.len()
        );
        assert!(
            read * 10 < source.len() as u64,
            "{read} of {} are read again",
            source.len()
        );
        let found = read_zip(&zip);
        assert_eq!(found.len(), 4);
        assert!(found[1].content == large && found[3].content == b"3");
        judge(&zip);
    }
}

#[test]
fn err_damage_around_kept_blocks_is_seen() {
    let samples = [
        Sample::file("small", "1"),
        Sample::file("large", content(13, 4 << 20)),
        Sample::file("end", "2"),
    ];
    let source = member(&write_tar(&samples), 6, &[]);
    let run = |read: &[u8]| {
        let index = mapped(&source, 1 << 20);
        let kept = all(&index, 0);
        let sources = (read, &source[..]);
        let transcoded = transcode_read(index, kept, sources, ArchiveFormat::Zip, 100_000);
        transcoded.map(|(zip, totals)| (zip, totals.source_bytes))
    };
    let (sound, read_bytes) = run(&source).unwrap();
    assert!(read_bytes < source.len() as u64 * 3 / 4, "no block is kept");
    let mut seen = 0;
    for at in (0..source.len()).step_by(source.len() / 60) {
        let mut damaged = source.clone();
        damaged[at] ^= 1;
        match run(&damaged) {
            Ok((zip, _)) => assert!(zip == sound, "byte {at}"),
            Err(error) => {
                assert_eq!(error.code(), "archive-changed", "byte {at}: {error}");
                seen += 1;
            }
        }
    }
    assert!(seen > 5, "{seen}");
}

#[test]
fn ok_a_hard_link_to_a_large_file_gets_its_content() {
    let samples = [
        Sample::file("large", content(9, 3 << 20)),
        Sample::hard_link("link", "large"),
    ];
    let source = member(&write_tar(&samples), 6, &[]);
    let index = mapped(&source, 1 << 20);
    let kept = all(&index, 0);
    let (zip, copied) = zip_of(index, kept, &source, 1 << 20);
    assert_eq!(copied, 0);
    assert!(
        read_zip(&zip)
            .iter()
            .all(|found| found.content == samples[0].content)
    );
}

#[test]
fn ok_many_small_members_are_deflated_anew() {
    // As bgzip writes them: each member is one last block.
    let large = content(11, 2 << 20);
    let tar = write_tar(&[Sample::file("large", large.clone())]);
    let source: Vec<u8> = tar
        .chunks(65_280)
        .flat_map(|piece| member(piece, 6, &[]))
        .collect();
    let index = mapped(&source, 1 << 20);
    let kept = all(&index, 0);
    let (zip, copied) = zip_of(index, kept, &source, 1 << 20);
    assert_eq!(copied, 0);
    assert!(read_zip(&zip)[0].content == large);
}
