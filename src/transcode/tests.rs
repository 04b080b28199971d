use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::writer::HELD_BYTES_MAX;
use super::*;
use crate::archive::gzip::TarGzScanner;
use crate::archive::tar::TarIndex;
use crate::archive::tar::samples::{Sample, any_samples, read_tar, read_zip, scan, write_tar};
use crate::archive::zip::{self, ZipReader};
use crate::contents::KeptName;

mod blocks;

const FORMATS: [ArchiveFormat; 3] = [ArchiveFormat::Zip, ArchiveFormat::Tar, ArchiveFormat::TarGz];

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut content).unwrap();
    content
}

/// The index of `gzip(tar)`.
fn tar_gz_index(tar: &[u8]) -> Index {
    mapped(&gzip(tar), usize::MAX)
}

/// The index of a tar.gz that is fed in pieces.
fn mapped(source: &[u8], piece: usize) -> Index {
    let mut scanner = TarGzScanner::new(&Limits::default(), Box::new(|_| None));
    for piece in source.chunks(piece) {
        scanner.feed(piece).unwrap();
    }
    Index::Tar(scanner.finish().unwrap().index)
}

fn zip_index(bytes: &[u8]) -> Index {
    let mut reader = ZipReader::new(bytes.len() as u64, &Limits::default());
    loop {
        match reader.step().unwrap() {
            zip::Step::Done(index) => return Index::Zip(Arc::new(index)),
            zip::Step::Need(range) => {
                reader
                    .feed(range, &bytes[range.start as usize..range.end as usize])
                    .unwrap();
            }
        }
    }
}

/// Everything, under its name without the first `skip` bytes.
fn all(index: &Index, skip: u32) -> Vec<KeptEntry> {
    let kept = |index| KeptEntry {
        index,
        name: KeptName::Suffix { skip },
    };
    (0..index.len() as u32).map(kept).collect()
}

fn renamed(index: u32, name: &str) -> KeptEntry {
    KeptEntry {
        index,
        name: KeptName::Renamed(name.as_bytes().into()),
    }
}

/// Transcodes in pieces, holding the output to its limit.
fn transcode_in(
    index: Index,
    kept: Vec<KeptEntry>,
    source: &[u8],
    target: ArchiveFormat,
    piece: usize,
) -> Result<(Vec<u8>, Totals), TranscodeError> {
    transcode_read(index, kept, (source, source), target, piece)
}

/// The same of a source that is read as the first of `sources` and copied from as the second.
fn transcode_read(
    index: Index,
    kept: Vec<KeptEntry>,
    (read, copied): (&[u8], &[u8]),
    target: ArchiveFormat,
    piece: usize,
) -> Result<(Vec<u8>, Totals), TranscodeError> {
    let limits = Limits::default();
    let mut transcoder = Transcoder::new(Arc::new(index), kept, target, &limits)?;
    let (mut target, mut out, mut fed) = (Vec::new(), Output::default(), 0);
    for range in transcoder.reads().to_vec() {
        let end = read.len().min(range.end as usize);
        for piece in read[(range.start as usize).min(end)..end].chunks(piece) {
            let mut rest = piece;
            while !rest.is_empty() && transcoder.needs_more() {
                let taken = transcoder.feed(rest, &mut out)?;
                rest = &rest[taken..];
                fed += taken as u64;
                put(copied, &mut out, &mut target);
            }
        }
    }
    loop {
        let totals = transcoder.finish(&mut out)?;
        put(copied, &mut out, &mut target);
        if let Some(totals) = totals {
            assert_eq!(totals.source_bytes, fed);
            assert_eq!(totals.written_bytes, target.len() as u64);
            return Ok((target, totals));
        }
    }
}

/// Adds pieces of the output to the target; how many bytes they are.
fn put(source: &[u8], out: &mut Output, target: &mut Vec<u8>) -> usize {
    let before = target.len();
    for piece in out.take() {
        match piece {
            Piece::Bytes(bytes) => target.extend(bytes),
            Piece::Copied(range) => {
                target.extend_from_slice(&source[range.start as usize..range.end as usize]);
            }
        }
    }
    target.len() - before
}

/// Without the bits that the `zip` crate does not tell.
fn permissions_only(samples: &[Sample]) -> Vec<Sample> {
    samples
        .iter()
        .map(|sample| sample.clone().mode(sample.mode & 0o777))
        .collect()
}

/// All of a tar.gz of `samples` into `target`.
fn convert(samples: &[Sample], target: ArchiveFormat) -> Result<Vec<u8>, TranscodeError> {
    let tar = write_tar(samples);
    let index = tar_gz_index(&tar);
    let kept = all(&index, 0);
    transcode_in(index, kept, &gzip(&tar), target, 10_000).map(|(bytes, _)| bytes)
}

fn read(bytes: &[u8], format: ArchiveFormat) -> Vec<Sample> {
    match format {
        ArchiveFormat::Zip => read_zip(bytes),
        ArchiveFormat::Tar => read_tar(bytes),
        ArchiveFormat::TarGz => read_tar(&gunzip(bytes)),
    }
}

/// What a zip makes of a tar's entries: hard links are copies, behind their targets.
fn as_in_zip(samples: &[Sample]) -> Vec<Sample> {
    let mut expected = Vec::new();
    for sample in samples
        .iter()
        .filter(|sample| sample.kind != EntryKind::HardLink)
    {
        let mode = if sample.kind == EntryKind::Symlink {
            0o777
        } else {
            sample.mode
        };
        expected.push(Sample {
            mtime: 0,
            mode,
            ..sample.clone()
        });
        for link in samples {
            if link.kind == EntryKind::HardLink && link.link == sample.name {
                expected.push(Sample {
                    name: link.name.clone(),
                    mtime: 0,
                    ..sample.clone()
                });
            }
        }
    }
    expected
}

#[test]
fn ok_a_zip_holds_modes_links_times_and_empty_directories() {
    let samples = [
        Sample::directory("empty").mode(0o750),
        Sample::file("bin/run", "#!/bin/sh\n").mode(0o4755),
        Sample::file("zero", ""),
        Sample::symlink("link", "bin/run"),
        Sample::file("déjà", "ü".repeat(100)),
    ];
    let bytes = convert(&samples, ArchiveFormat::Zip).unwrap();
    let mut expected = as_in_zip(&samples);
    expected[0].name = "empty/".to_owned();
    assert_eq!(read_zip(&bytes), permissions_only(&expected));
    assert_eq!(zip_index(&bytes).entry(1).unwrap().mode, Some(0o4755));
    let mut archive = ::zip::ZipArchive::new(std::io::Cursor::new(&bytes)).unwrap();
    let file = archive.by_index(1).unwrap();
    let time = file.last_modified().unwrap();
    assert_eq!(
        (time.year(), time.month(), time.day(), time.hour()),
        (2023, 11, 14, 22)
    );
    assert_eq!(
        file.compression(),
        ::zip::CompressionMethod::Stored,
        "deflate would be larger"
    );
    drop(file);
    assert_eq!(
        archive.by_index(4).unwrap().compression(),
        ::zip::CompressionMethod::Deflated
    );
    assert_eq!(
        zip_index(&bytes).entry(1).unwrap().modified_seconds,
        Some(1_700_000_000)
    );
    assert_eq!(zip_index(&bytes).entry(3).unwrap().mode, Some(0o777));
}

#[test]
fn ok_contents_around_the_limit_of_what_is_held() {
    let limit = HELD_BYTES_MAX as usize;
    let samples: Vec<Sample> = [limit - 1, limit, limit + 1, 2 * limit + 77]
        .iter()
        .map(|length| Sample::file(&length.to_string(), vec![b'x'; *length]))
        .collect();
    for format in FORMATS {
        let bytes = convert(&samples, format).unwrap();
        let mut found = read(&bytes, format);
        found
            .iter_mut()
            .for_each(|sample| sample.mtime = samples[0].mtime);
        assert!(found == samples, "{format:?}");
    }
}

#[test]
fn ok_names_lose_their_prefix_and_what_is_not_kept_stays_behind() {
    let samples = [
        Sample::file(".git/x", "1"),
        Sample::file("app/a", "2"),
        Sample::file("app/b", "3"),
    ];
    let tar = write_tar(&samples);
    for format in FORMATS {
        let index = tar_gz_index(&tar);
        let kept = vec![renamed(2, "other"), all(&index, 4).remove(1)];
        let (bytes, totals) = transcode_in(index, kept, &gzip(&tar), format, 100).unwrap();
        let found: Vec<_> = read(&bytes, format)
            .into_iter()
            .map(|s| (s.name, s.content))
            .collect();
        let expected = [
            ("a".to_owned(), b"2".to_vec()),
            ("other".to_owned(), b"3".to_vec()),
        ];
        assert_eq!(found, expected);
        assert_eq!((totals.entries, totals.content_bytes), (2, 2));
    }
}

#[test]
fn ok_hard_links_to_what_is_left_out_take_its_content() {
    let samples = [
        Sample::file("left/out", "shared").mode(0o755),
        Sample::file("between", ""),
        Sample::hard_link("one", "left/out"),
        Sample::hard_link("two", "one"),
    ];
    let tar = write_tar(&samples);
    for format in FORMATS {
        let index = tar_gz_index(&tar);
        let kept = all(&index, 0).split_off(1);
        let (bytes, _) = transcode_in(index, kept, &gzip(&tar), format, 100).unwrap();
        let found = read(&bytes, format);
        let names: Vec<&str> = found.iter().map(|sample| &*sample.name).collect();
        assert_eq!((found[0].mode, &*found[0].content), (0o755, &b"shared"[..]));
        if format == ArchiveFormat::Zip {
            assert_eq!(names, ["one", "two", "between"]);
            assert_eq!(found[1].content, b"shared");
        } else {
            assert_eq!(names, ["one", "between", "two"]);
            assert_eq!(
                (found[2].kind, &*found[2].link),
                (EntryKind::HardLink, "one")
            );
        }
    }
}

#[test]
fn ok_a_hard_link_to_a_symbolic_link_is_one_more_of_it() {
    let samples = [
        Sample::file("bin/run", "x"),
        Sample::symlink("bin/one", "run"),
        Sample::hard_link("bin/two", "bin/one"),
    ];
    for format in FORMATS {
        let found = read(&convert(&samples, format).unwrap(), format);
        if format == ArchiveFormat::Zip {
            assert_eq!(found, permissions_only(&as_in_zip(&samples)));
        } else {
            assert_eq!(
                (found[2].kind, &*found[2].link),
                (EntryKind::HardLink, "bin/one")
            );
        }
        assert_eq!(found.len(), 3);
    }
}

#[test]
fn ok_hard_links_in_a_tar_name_their_targets_anew() {
    let samples = [
        Sample::file("app/a", "x"),
        Sample::hard_link("app/b", "app/a"),
    ];
    let tar = write_tar(&samples);
    let index = tar_gz_index(&tar);
    let kept = all(&index, 4);
    let (bytes, _) = transcode_in(index, kept, &gzip(&tar), ArchiveFormat::Tar, 100).unwrap();
    assert_eq!(
        (&*read_tar(&bytes)[1].name, &*read_tar(&bytes)[1].link),
        ("b", "a")
    );
}

#[test]
fn ok_a_moved_link_still_replaces_what_it_would_have_replaced() {
    let samples = [
        Sample::file("target", "new"),
        Sample::file("name", "old"),
        Sample::hard_link("name", "target"),
        Sample::file("again", "1"),
        Sample::hard_link("again", "target"),
        Sample::file("again", "2"),
    ];
    let bytes = convert(&samples, ArchiveFormat::Zip).unwrap();
    // A reader of the directory's order, in which the last of a name counts.
    let mut tree = std::collections::BTreeMap::new();
    let index = zip_index(&bytes);
    let names: Vec<&[u8]> = index.entries().map(|entry| entry.name).collect();
    let contents = ["new", "new", "new", "2"];
    assert_eq!(names, [&b"target"[..], b"name", b"again", b"again"]);
    tree.extend(names.into_iter().zip(contents));
    assert_eq!(tree[&b"name"[..]], "new");
    assert_eq!(tree[&b"again"[..]], "2");
}

#[test]
fn ok_large_contents_are_copied_for_their_links() {
    let content = b"0123456789abcdef".repeat(200_000);
    let samples = [
        Sample::file("a", content.clone()),
        Sample::hard_link("b", "a"),
    ];
    let bytes = convert(&samples, ArchiveFormat::Zip).unwrap();
    let found = read_zip(&bytes);
    assert!(found.len() == 2 && found.iter().all(|sample| sample.content == content));
}

#[test]
fn err_links_that_cannot_be_copied() {
    let content = vec![0; SHARED_BYTES_MAX as usize + 1];
    let samples = [
        Sample::file("large", content),
        Sample::hard_link("link", "large"),
    ];
    let error = convert(&samples, ArchiveFormat::Zip).unwrap_err();
    assert_eq!(
        error.to_string(),
        "hard link `link` shares the 16777217 bytes of `large`, limit for a zip is 16777216; \
         a revision of bundle type tgz has no such limit"
    );
    assert_eq!(error.code(), "hard-link-too-large");
    assert!(convert(&samples, ArchiveFormat::TarGz).is_ok());
    for target in ["missing", "d/", "self"] {
        let samples = [Sample::directory("d/"), Sample::hard_link("self", target)];
        let error = convert(&samples, ArchiveFormat::Tar).unwrap_err();
        assert_eq!(error.code(), "hard-link-dangling", "{target}");
    }
}

#[test]
fn err_a_link_that_holds_a_file_left_out_and_is_replaced() {
    let tar = write_tar(&[
        Sample::file("left/one", "1"),
        Sample::file("left/two", "2"),
        Sample::hard_link("name", "left/one"),
        Sample::hard_link("other", "left/one"),
        Sample::hard_link("name", "left/two"),
    ]);
    let convert = |format| {
        let index = tar_gz_index(&tar);
        let kept = all(&index, 0).split_off(2);
        transcode_in(index, kept, &gzip(&tar), format, 100)
    };
    for format in [ArchiveFormat::Tar, ArchiveFormat::TarGz] {
        let error = convert(format).unwrap_err();
        assert_eq!(
            error.to_string(),
            "hard link `name` comes twice, and the first is all that would be left of `left/one`, \
             which is not in the revision"
        );
        assert_eq!(error.code(), "hard-link-replaced");
    }
    // In a zip each link is a copy, and the last one of a name counts.
    let (zip, _) = convert(ArchiveFormat::Zip).unwrap();
    let found: Vec<_> = read_zip(&zip)
        .into_iter()
        .map(|sample| (sample.name, sample.content))
        .collect();
    let expected = [("other", b"1"), ("name", b"2")];
    let expected = expected.map(|(name, content)| (name.to_owned(), content.to_vec()));
    assert_eq!(found, expected);
}

#[test]
fn err_what_the_index_tells_is_told_at_once() {
    let tar = write_tar(&[
        Sample::file("a", "12345"),
        Sample::new(EntryKind::Special, "fifo"),
    ]);
    let limits = Limits {
        inflated_bytes_max: 4,
        ..Limits::default()
    };
    let new = |kept: Vec<u32>, format: ArchiveFormat, limits: &Limits| {
        let index = Index::Tar(scan(&tar).unwrap().index);
        let kept = kept.into_iter().map(|index| renamed(index, "n")).collect();
        Transcoder::new(Arc::new(index), kept, format, limits)
            .map(|_| ())
            .unwrap_err()
    };
    let no_limits = Limits::default();
    let zipped = zip_index(&convert(&[], ArchiveFormat::Zip).unwrap());
    let zipped = Transcoder::new(Arc::new(zipped), Vec::new(), ArchiveFormat::Zip, &no_limits);
    assert_eq!(zipped.map(|_| ()).unwrap_err(), TranscodeError::ZipToZip);
    let special = TranscodeError::SpecialFile {
        name: "fifo".to_owned(),
    };
    assert_eq!(new(vec![1], ArchiveFormat::Zip, &no_limits), special);
    let missing = TranscodeError::NoSuchEntry { index: 2 };
    assert_eq!(new(vec![2], ArchiveFormat::Zip, &no_limits), missing);
    assert_eq!(
        new(vec![0, 0], ArchiveFormat::Zip, &no_limits),
        TranscodeError::KeptTwice { index: 0 }
    );
    assert_eq!(
        new(vec![0], ArchiveFormat::Zip, &limits),
        TranscodeError::TooLarge { limit: 4 }
    );
}

#[test]
fn err_a_source_that_is_not_the_indexed_one() {
    let tar = write_tar(&[Sample::file("a", "one"), Sample::file("b", "two")]);
    let other = write_tar(&[Sample::file("a", "one"), Sample::file("c", "two")]);
    let run = |source: &[u8]| {
        let index = Index::Tar(scan(&tar).unwrap().index);
        let kept = all(&index, 0);
        transcode_in(index, kept, source, ArchiveFormat::Zip, 1000).map(|_| ())
    };
    assert_eq!(run(&tar), Ok(()));
    assert_eq!(
        run(&other),
        Err(TranscodeError::SourceChanged { offset: 1024 })
    );
    assert_eq!(run(&other).unwrap_err().code(), "archive-changed");
    for end in 0..1539 {
        let error = TranscodeError::SourceTruncated { end: end as u64 };
        assert_eq!(run(&tar[..end]), Err(error));
    }
    assert_eq!(run(&tar[..1539]), Ok(()));
}

#[test]
fn err_every_damaged_byte_of_a_second_reading_is_seen() {
    let samples = [
        Sample::file("a", "content"),
        Sample::file("b", "0123456789"),
    ];
    let tar = write_tar(&samples);
    let source = gzip(&tar);
    for format in FORMATS {
        let run = |read: &[u8]| {
            let index = tar_gz_index(&tar);
            // What is left out is behind the last byte that is needed, and its bytes are seen too.
            let kept = vec![renamed(0, "a")];
            transcode_in(index, kept, read, format, 5).map(|_| ())
        };
        assert_eq!(run(&source), Ok(()));
        for at in 0..source.len() {
            let mut damaged = source.clone();
            damaged[at] ^= 0x10;
            let error = run(&damaged).unwrap_err();
            assert_eq!(error.code(), "archive-changed", "byte {at}: {error}");
            assert_eq!(error.blame(), Blame::Reading);
            let cut = run(&source[..at]).unwrap_err();
            assert_eq!(cut.code(), "archive-changed", "cut at {at}: {cut}");
        }
    }
}

#[test]
fn ok_output_stays_small_whatever_the_source_makes_of_it() {
    // 24 MiB of zeros in 24 KiB of gzip, then a hundred hard links to 1 MiB that does not compress.
    let noise: Vec<u8> = (0..1 << 20)
        .map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let mut samples = vec![
        Sample::file("zeros", vec![0; 24 << 20]),
        Sample::file("noise", noise),
    ];
    samples.extend((0..100).map(|at| Sample::hard_link(&format!("link{at}"), "noise")));
    let tar = write_tar(&samples);
    let source = gzip(&tar);
    for format in FORMATS {
        let index = tar_gz_index(&tar);
        let kept = all(&index, 0);
        let limits = Limits::default();
        let mut transcoder = Transcoder::new(Arc::new(index), kept, format, &limits).unwrap();
        let (mut out, mut most) = (Output::default(), 0);
        for range in transcoder.reads().to_vec() {
            let mut rest = &source[range.start as usize..range.end as usize];
            while !rest.is_empty() {
                let taken = transcoder.feed(rest, &mut out).unwrap();
                rest = &rest[taken..];
                most = most.max(put(&source, &mut out, &mut Vec::new()));
            }
        }
        while transcoder.finish(&mut out).unwrap().is_none() {
            most = most.max(put(&source, &mut out, &mut Vec::new()));
        }
        assert!(
            most as u64 <= 3 * JOB_BYTES,
            "{most} bytes of output at once for {format:?}"
        );
    }
}

#[test]
fn ok_output_may_be_left_where_it_is() {
    let noise: Vec<u8> = (0..3 << 20)
        .map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let samples = [Sample::file("noise", noise)];
    let tar = write_tar(&samples);
    let source = gzip(&tar);
    for format in FORMATS {
        let index = tar_gz_index(&tar);
        let kept = all(&index, 0);
        let limits = Limits::default();
        let mut transcoder = Transcoder::new(Arc::new(index), kept, format, &limits).unwrap();
        let mut out = Output::default();
        for range in transcoder.reads().to_vec() {
            let mut rest = &source[range.start as usize..range.end as usize];
            for _ in 0..1000 {
                let taken = transcoder.feed(rest, &mut out).unwrap();
                rest = &rest[taken..];
            }
            assert!(rest.is_empty());
        }
        while transcoder.finish(&mut out).unwrap().is_none() {}
        let mut target = Vec::new();
        put(&source, &mut out, &mut target);
        assert!(target == convert(&samples, format).unwrap(), "{format:?}");
    }
}

#[test]
fn ok_a_plain_tar_needs_no_more_than_its_last_kept_entry() {
    let tar = write_tar(&[Sample::file("a", "one"), Sample::file("b", vec![1; 5000])]);
    let index = Index::Tar(scan(&tar).unwrap().index);
    let kept = vec![renamed(0, "a")];
    let mut transcoder = Transcoder::new(
        Arc::new(index),
        kept,
        ArchiveFormat::Zip,
        &Limits::default(),
    )
    .unwrap();
    let mut out = Output::default();
    assert!(transcoder.needs_more());
    transcoder.feed(&tar[..515], &mut out).unwrap();
    assert!(!transcoder.needs_more());
    while transcoder.finish(&mut out).unwrap().is_none() {}
    let mut target = Vec::new();
    put(&tar, &mut out, &mut target);
    assert_eq!(read_zip(&target)[0].content, b"one");
}

#[test]
fn ok_many_entries_make_a_zip64_directory() {
    let samples: Vec<Sample> = (0..65_600)
        .map(|at| Sample::file(&format!("{at:05}"), ""))
        .collect();
    let bytes = convert(&samples, ArchiveFormat::Zip).unwrap();
    let archive = ::zip::ZipArchive::new(std::io::Cursor::new(&bytes)).unwrap();
    assert_eq!(archive.len(), samples.len());
    assert_eq!(archive.name_for_index(65_599).unwrap().unwrap(), "65599");
    assert_eq!(zip_index(&bytes).len(), samples.len());
}

#[test]
fn ok_an_archive_of_nothing_is_an_empty_archive() {
    for format in FORMATS {
        let bytes = convert(&[], format).unwrap();
        assert_eq!(read(&bytes, format), []);
    }
}

#[test]
fn err_damage_in_a_zip_source() {
    let samples = [
        Sample::file("a", "content of a".repeat(10)),
        Sample::symlink("l", "a"),
    ];
    let bytes = convert(&samples, ArchiveFormat::Zip).unwrap();
    let directory = match zip_index(&bytes) {
        Index::Zip(zip) => zip.directory_range().start as usize,
        Index::Tar(_) => panic!("not a tar"),
    };
    let sound: TarIndex = {
        let (tar, _) = from_zip(&bytes, &bytes, 17).unwrap();
        scan(&tar).unwrap().index
    };
    assert_eq!(sound.len(), 2);
    for at in 0..directory {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x55;
        // Fields that no reader uses (times, versions, extras) may say anything.
        if let Ok((tar, _)) = from_zip(&bytes, &damaged, 17) {
            assert_eq!(
                read_tar(&tar),
                read_tar(&from_zip(&bytes, &bytes, 17).unwrap().0),
                "byte {at}"
            );
        }
        assert!(from_zip(&bytes, &bytes[..at], 17).is_err(), "cut at {at}");
    }
}

/// All of `source` into a tar, by the index of `indexed`.
fn from_zip(
    indexed: &[u8],
    source: &[u8],
    piece: usize,
) -> Result<(Vec<u8>, Totals), TranscodeError> {
    let index = zip_index(indexed);
    let kept = all(&index, 0);
    transcode_in(index, kept, source, ArchiveFormat::Tar, piece)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn ok_every_pair_of_formats_keeps_the_tree(samples in any_samples(), piece in 1..5000usize) {
        let tar = write_tar(&samples);
        let packed = gzip(&tar);
        let expected = as_in_zip(&samples);
        for source_format in [ArchiveFormat::Tar, ArchiveFormat::TarGz] {
            let is_gzipped = source_format == ArchiveFormat::TarGz;
            let source = if is_gzipped { &packed } else { &tar };
            for format in FORMATS {
                let index = || match is_gzipped {
                    true => tar_gz_index(&tar),
                    false => Index::Tar(scan(&tar).unwrap().index),
                };
                let kept = all(&index(), 0);
                let (bytes, _) = transcode_in(index(), kept.clone(), source, format, piece).unwrap();
                let (again, _) = transcode_in(index(), kept, source, format, usize::MAX).unwrap();
                prop_assert!(bytes == again, "the cuts changed the bytes");
                match format {
                    ArchiveFormat::Zip => prop_assert_eq!(read_zip(&bytes), permissions_only(&expected)),
                    _ => prop_assert_eq!(read(&bytes, format), samples.clone()),
                }
            }
        }
        let zipped = convert(&samples, ArchiveFormat::Zip).unwrap();
        let (back, _) = from_zip(&zipped, &zipped, piece).unwrap();
        let mut found = read_tar(&back);
        found.iter_mut().for_each(|sample| sample.mtime = 0);
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn ok_damage_in_the_second_reading_never_panics(
        samples in any_samples(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let tar = write_tar(&samples);
        let mut damaged = gzip(&tar);
        let mut damaged_tar = tar.clone();
        for (at, value) in damage {
            let (gzip_at, tar_at) = (at.index(damaged.len()), at.index(tar.len()));
            damaged[gzip_at] = value;
            damaged_tar[tar_at] = value;
        }
        for format in FORMATS {
            let index = tar_gz_index(&tar);
            let kept = all(&index, 0);
            // Damage that changes no byte is no damage.
            if let Ok((bytes, _)) = transcode_in(index, kept, &damaged, format, 500) {
                prop_assert_eq!(bytes, convert(&samples, format).unwrap());
            }
            let index = Index::Tar(scan(&tar).unwrap().index);
            let kept = all(&index, 0);
            let _ = transcode_in(index, kept, &damaged_tar, format, 500);
        }
    }
}
