use proptest::prelude::*;

use super::samples::{Sample, any_samples, append, read_tar, scan, write_tar};
use super::*;
use crate::archive::Limits;

/// What the index tells, in a test's terms; contents are left out.
fn listed(index: &TarIndex) -> Vec<Sample> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let sample = |entry: Entry<'_>| Sample {
        name: text(entry.name),
        kind: entry.kind,
        mode: entry.mode.unwrap(),
        mtime: entry.modified_seconds.unwrap() as u64,
        content: vec![0; entry.size as usize],
        link: entry.link_target.map(text).unwrap_or_default(),
    };
    index.entries().map(sample).collect()
}

fn without_contents(mut samples: Vec<Sample>) -> Vec<Sample> {
    samples.iter_mut().for_each(|sample| sample.content.fill(0));
    samples
}

fn pull(bytes: &[u8], limits: &Limits) -> Result<(TarScan, u64), TarError> {
    let mut reader = TarReader::new(bytes.len() as u64, limits, Box::new(|_| Some(7)));
    let mut read = 0;
    loop {
        match reader.step()? {
            Step::Done(scan) => return Ok((*scan, read)),
            Step::Need(range) => {
                read += range.length();
                reader.feed(range, &bytes[range.start as usize..range.end as usize])?;
            }
        }
    }
}

/// A header block of any type and size, with a right checksum.
fn block(typeflag: u8, name: &str, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).unwrap();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_entry_type(tar::EntryType::new(typeflag));
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn with_payload(typeflag: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = block(typeflag, "extended", payload.len() as u64);
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

#[test]
fn ok_every_kind_of_entry_is_told() {
    let samples = [
        Sample::directory("d/"),
        Sample::file("d/run", "#!/bin/sh").mode(0o6755),
        Sample::file("d/empty", ""),
        Sample::symlink("l", "d/run"),
        Sample::hard_link("h", "d/run"),
        Sample::new(EntryKind::Special, "fifo"),
        Sample::file(&"long/".repeat(60), "x"),
        Sample::symlink("long link", &"t".repeat(300)),
        Sample::file("déjà", "ü"),
    ];
    let bytes = write_tar(&samples);
    let index = scan(&bytes).unwrap().index;
    let mut expected = without_contents(samples.to_vec());
    // A file whose name ends with a slash is a directory.
    expected[6].kind = EntryKind::Directory;
    assert_eq!(listed(&index), expected);
    assert!(index.is_sound());
    assert_eq!(index.end() + 1024, bytes.len() as u64);
    let placement = index.placement(1).unwrap();
    assert_eq!(
        &bytes[placement.data.start as usize..placement.data.end as usize],
        b"#!/bin/sh"
    );
    assert_eq!(
        index.owner(1).unwrap(),
        &Owner {
            uid: 1000,
            gid: 100,
            ..Owner::default()
        }
    );
    assert_eq!(std::mem::size_of::<Record>(), 48);
}

#[test]
fn ok_pax_records_override_the_header() {
    let mut bytes = with_payload(b'g', b"14 comment=ab\n");
    let records = b"15 path=deep/a\n24 mtime=1234.000000005\n16 uid=70000000\n12 uname=me\n";
    bytes.extend(with_payload(b'x', records));
    bytes.extend(block(b'0', "short", 0));
    let index = scan(&bytes).unwrap().index;
    let entry = index.entry(0).unwrap();
    assert_eq!(
        (entry.name, entry.modified_seconds),
        (&b"deep/a"[..], Some(1234))
    );
    assert_eq!(index.modified_nanos(0), Some(5));
    assert_eq!(
        (index.owner(0).unwrap().uid, &*index.owner(0).unwrap().uname),
        (70_000_000, &b"me"[..])
    );
    let placement = index.placement(0).unwrap();
    assert_eq!(placement.header, ByteRange::new(1024, 1024 + 3 * 512));
    assert!(placement.self_contained, "a comment changes nothing");
}

#[test]
fn ok_global_headers_hold_for_what_follows() {
    let mut bytes = block(b'0', "before", 0);
    bytes.extend(with_payload(b'g', b"12 mtime=77\n"));
    bytes.extend(block(b'0', "after", 0));
    let index = scan(&bytes).unwrap().index;
    assert_eq!(index.entry(0).unwrap().modified_seconds, Some(0));
    assert_eq!(index.entry(1).unwrap().modified_seconds, Some(77));
    let contained: Vec<bool> = (0..2)
        .map(|at| index.placement(at).unwrap().self_contained)
        .collect();
    assert_eq!(contained, [true, false]);
}

#[test]
fn ok_sizes_of_what_has_no_content_are_ignored() {
    for typeflag in [b'1', b'2', b'3', b'4', b'5', b'6'] {
        let mut bytes = block(typeflag, "a", 5000);
        bytes.extend(block(b'0', "b", 0));
        let index = scan(&bytes).unwrap().index;
        assert_eq!(
            (index.len(), index.entry(0).unwrap().size),
            (2, 0),
            "type {typeflag}"
        );
    }
}

#[test]
fn ok_the_end_may_be_missing_or_followed_by_anything() {
    let entry = block(b'0', "a", 0);
    for (tail, is_sound) in [
        (vec![], true),
        (vec![0; 512], false),
        (vec![0; 1024], true),
        ([vec![0; 512], vec![7; 512]].concat(), false),
        ([vec![0; 1024], vec![7; 100]].concat(), true),
        (vec![0; 10_240], true),
    ] {
        let bytes = [entry.clone(), tail].concat();
        let index = scan(&bytes).unwrap().index;
        assert_eq!(
            (index.len(), index.end(), index.is_sound()),
            (1, 512, is_sound)
        );
        assert_eq!(pull(&bytes, &Limits::default()).unwrap().0.index, index);
    }
    assert!(scan(&[0; 1024]).unwrap().index.is_empty());
}

#[test]
fn ok_wanted_contents_are_held_and_cut() {
    let samples = [
        Sample::file("./appspec.yml", "version: 0.0"),
        Sample::file("other", vec![1; 3000]),
        Sample::symlink("x/appspec.yml", "y"),
        Sample::file("big", vec![2; 5000]),
    ];
    let mut scanner = TarScanner::new(&Limits::default()).wanting(Box::new(|name| match name {
        b"appspec.yml" | b"x/appspec.yml" => Some(1 << 20),
        b"big" => Some(600),
        _ => None,
    }));
    scanner.feed(&write_tar(&samples)).unwrap();
    let captured = scanner.finish().unwrap().captured;
    let expected = [
        Captured {
            index: 0,
            bytes: b"version: 0.0".to_vec(),
        },
        Captured {
            index: 3,
            bytes: vec![2; 600],
        },
    ];
    assert_eq!(captured, expected);
}

#[test]
fn ok_contents_are_passed_over_in_ranges() {
    let samples = [
        Sample::file("a", vec![1; 5 << 20]),
        Sample::file("b", vec![2; 100]),
        Sample::file("c", vec![3; 9 << 20]),
        Sample::directory("d/"),
    ];
    let bytes = write_tar(&samples);
    let mut reader = TarReader::new(bytes.len() as u64, &Limits::default(), Box::new(|_| None));
    let mut read = Vec::new();
    let scan = loop {
        match reader.step().unwrap() {
            Step::Done(scan) => break scan,
            Step::Need(range) => {
                read.push(range.length());
                reader
                    .feed(range, &bytes[range.start as usize..range.end as usize])
                    .unwrap();
            }
        }
    };
    assert_eq!(scan.index, super::samples::scan(&bytes).unwrap().index);
    assert_eq!(read, [64 << 10, 4096, 1536]);
}

#[test]
fn ok_a_sparse_giant_is_indexed_by_its_headers() {
    // 1 TiB in a thousand files, of which only the headers exist.
    let mut header = tar::Header::new_gnu();
    header.set_path("big").unwrap();
    header.set_size(1 << 30);
    header.set_mode(0o644);
    header.set_cksum();
    let stride = (1_u64 << 30) + 512;
    let object_bytes = 1000 * stride;
    let mut reader = TarReader::new(object_bytes, &Limits::default(), Box::new(|_| None));
    let mut read = 0;
    loop {
        match reader.step().unwrap() {
            Step::Done(scan) => {
                assert_eq!((scan.index.len(), scan.index.end()), (1000, object_bytes));
                break;
            }
            Step::Need(range) => {
                read += range.length();
                let mut bytes = vec![0; range.length() as usize];
                let first = range.start.next_multiple_of(stride) - range.start;
                if let Some(place) = bytes.get_mut(first as usize..first as usize + 512) {
                    place.copy_from_slice(header.as_bytes());
                }
                reader.feed(range, &bytes).unwrap();
            }
        }
    }
    assert!(read < 5 << 20, "{read} bytes were read");
}

#[test]
fn err_a_range_that_was_not_asked_for() {
    let mut reader = TarReader::new(4096, &Limits::default(), Box::new(|_| None));
    assert_eq!(reader.step(), Ok(Step::Need(ByteRange::new(0, 4096))));
    for (range, length) in [((512, 1024), 512), ((0, 512), 100), ((0, 5000), 5000)] {
        let found = ByteRange::new(range.0, range.1);
        let expected = ByteRange::new(0, 4096);
        let fed = reader.feed(found, &vec![0; length]);
        assert_eq!(fed, Err(TarError::WrongRange { expected, found }));
    }
}

#[test]
fn err_each_cause_is_told_with_its_place() {
    let text = |bytes: &[u8]| scan(bytes).unwrap_err().to_string();
    let file = block(b'0', "a", 0);
    let mut wrong = file.clone();
    wrong[148..156].copy_from_slice(b"000001\0 ");
    assert_eq!(scan(&[]), Err(TarError::Empty));
    assert_eq!(scan(&wrong), Err(TarError::NotTar));
    assert_eq!(scan(&[1; 512]), Err(TarError::NotTar));
    let second = text(&[file.clone(), wrong].concat());
    assert!(
        second.starts_with("header at byte 512 has checksum 1, expected "),
        "{second}"
    );
    assert_eq!(
        text(&block(b'0', "a", 5)),
        "tar ends at byte 512, expected at least 1024 bytes"
    );
    assert_eq!(
        text(&file[..100]),
        "tar ends at byte 100, expected at least 512 bytes"
    );
    let code = |bytes: &[u8]| scan(bytes).unwrap_err().code();
    assert_eq!(code(&file[..100]), "archive-truncated");
    assert_eq!(
        code(&with_payload(b'x', b"10 path=a\n")),
        "tar-header-invalid"
    );
    assert_eq!(code(&block(b'S', "a", 0)), "tar-sparse-file");
    assert_eq!(code(&block(b'M', "a", 0)), "tar-multi-volume");
    let orphan = "extended header at byte 0 has no entry after it";
    assert_eq!(text(&with_payload(b'x', b"10 path=a\n")), orphan);
    assert_eq!(
        text(&[with_payload(b'L', b"long\0"), vec![0; 1024]].concat()),
        orphan
    );
    let sparse = "entry `a` at byte 0 is a sparse file, expected one made without --sparse";
    assert_eq!(text(&block(b'S', "a", 0)), sparse);
    let pax_sparse = [with_payload(b'x', b"22 GNU.sparse.major=1\n"), file.clone()].concat();
    assert!(matches!(
        scan(&pax_sparse),
        Err(TarError::Sparse { offset: 1024, .. })
    ));
    assert_eq!(
        scan(&block(b'M', "a", 0)),
        Err(TarError::MultiVolume { offset: 0 })
    );
    assert!(matches!(
        scan(&block(b'x', "a", 2 << 20)),
        Err(TarError::ExtendedTooLarge { .. })
    ));
    assert!(matches!(
        scan(&block(b'L', "a", 5000)),
        Err(TarError::NameTooLong { length: 5000, .. })
    ));
    let huge = [with_payload(b'x', b"29 size=18446744073709551615\n"), file].concat();
    assert!(matches!(
        scan(&huge),
        Err(TarError::SizeOverflow { offset: 1024, .. })
    ));
}

#[test]
fn err_limits_hold_exactly() {
    let samples: Vec<Sample> = (0..4)
        .map(|at| Sample::file(&format!("{at}234"), ""))
        .collect();
    let bytes = write_tar(&samples);
    let with = |edit: fn(&mut Limits)| {
        let mut limits = Limits::default();
        edit(&mut limits);
        pull(&bytes, &limits).map(|(scan, _)| scan.index.len())
    };
    assert_eq!(with(|limits| limits.entries_max = 4), Ok(4));
    assert_eq!(
        with(|limits| limits.entries_max = 3),
        Err(TarError::TooManyEntries { limit: 3 })
    );
    assert_eq!(with(|limits| limits.name_bytes_max = 4), Ok(4));
    let too_long = TarError::NameTooLong {
        offset: 0,
        length: 4,
        limit: 3,
    };
    assert_eq!(with(|limits| limits.name_bytes_max = 3), Err(too_long));
    assert_eq!(with(|limits| limits.directory_bytes_max = 16), Ok(4));
    let too_large = TarError::NamesTooLarge { limit: 15 };
    assert_eq!(
        with(|limits| limits.directory_bytes_max = 15),
        Err(too_large)
    );
}

#[test]
fn ok_a_million_entries_and_err_one_more() {
    let limits = Limits::default();
    let thousand = block(b'0', "a", 0).repeat(1_000);
    let mut scanner = TarScanner::new(&limits);
    for _ in 0..limits.entries_max / 1_000 {
        scanner.feed(&thousand).unwrap();
    }
    let error = scanner.feed(&thousand[..512]).unwrap_err();
    let limit = limits.entries_max;
    assert_eq!(
        (limit, error),
        (1_000_000, TarError::TooManyEntries { limit })
    );
}

#[test]
fn err_too_many_owners() {
    let mut bytes = Vec::new();
    for uid in 0..=OWNERS_MAX as u64 {
        let mut header = tar::Header::new_ustar();
        header.set_path("a").unwrap();
        header.set_size(0);
        header.set_mode(0o644);
        header.set_uid(uid);
        header.set_cksum();
        bytes.extend(header.as_bytes());
    }
    assert_eq!(
        scan(&bytes[..OWNERS_MAX * 512]).unwrap().index.len(),
        OWNERS_MAX
    );
    assert_eq!(
        scan(&bytes),
        Err(TarError::TooManyOwners { limit: OWNERS_MAX })
    );
}

#[test]
fn err_every_truncation_but_between_entries() {
    let samples = [
        Sample::file(&"n".repeat(150), "content"),
        Sample::directory("d/"),
    ];
    let bytes = write_tar(&samples);
    for end in 0..bytes.len() {
        let pushed = scan(&bytes[..end]);
        let pulled = pull(&bytes[..end], &Limits::default()).map(|(scan, _)| scan.index);
        assert_eq!(
            pushed.clone().map(|scan| scan.index),
            pulled,
            "cut at {end}"
        );
        // Extended header, payload, header, content: 2048 bytes; a directory: 512; then zeros.
        let is_whole = end == 2048 || end == 2560 || end >= 3072;
        assert_eq!(pushed.is_ok(), is_whole, "cut at {end}: {pushed:?}");
    }
}

#[test]
fn ok_hard_links_resolve_to_the_last_entry_of_the_name() {
    let mut builder = tar::Builder::new(Vec::new());
    for sample in [
        Sample::file("./a", "1"),
        Sample::hard_link("b", "a"),
        Sample::file("a", "2"),
        Sample::hard_link("c", "/a"),
        Sample::hard_link("d", "b"),
        Sample::hard_link("e", "e"),
        Sample::hard_link("f", "later"),
        Sample::file("later", ""),
    ] {
        append(&mut builder, &sample);
    }
    let index = scan(&builder.into_inner().unwrap()).unwrap().index;
    let links = HardLinks::resolve(&index);
    let targets: Vec<Option<u32>> = (0..8).map(|at| links.target(at)).collect();
    assert_eq!(
        targets,
        [None, Some(0), None, Some(2), Some(0), None, None, None]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn ok_the_index_is_what_another_reader_finds(samples in any_samples()) {
        let bytes = write_tar(&samples);
        let index = scan(&bytes).unwrap().index;
        prop_assert_eq!(listed(&index), without_contents(read_tar(&bytes)));
        prop_assert_eq!(listed(&index), without_contents(samples));
    }

    #[test]
    fn ok_the_answer_does_not_depend_on_the_cuts(
        samples in any_samples(),
        cuts in prop::collection::vec(1..700usize, 1..20),
    ) {
        let bytes = write_tar(&samples);
        let feed = |pieces: &mut dyn Iterator<Item = &usize>| {
            let wanted: Wanted = Box::new(|name| (name.len() % 2 == 0).then_some(900));
            let mut scanner = TarScanner::new(&Limits::default()).wanting(wanted);
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(*pieces.next().unwrap()));
                scanner.feed(now).unwrap();
                rest = later;
            }
            scanner.finish().unwrap()
        };
        let whole = feed(&mut std::iter::once(&usize::MAX));
        prop_assert_eq!(&feed(&mut cuts.iter().cycle()), &whole);
        prop_assert_eq!(&feed(&mut std::iter::repeat(&1)), &whole);
    }

    #[test]
    fn ok_damage_is_an_error_or_another_tar_but_never_a_panic(
        samples in any_samples(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        fix_checksums in any::<bool>(),
    ) {
        let mut bytes = write_tar(&samples);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
            let block = at / 512 * 512;
            if fix_checksums && bytes.len() >= block + 512 {
                bytes[block + 148..block + 156].fill(b' ');
                let sum: u32 = bytes[block..block + 512].iter().map(|byte| u32::from(*byte)).sum();
                bytes[block + 148..block + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        let limits = Limits { name_bytes_max: 300, ..Limits::default() };
        let pulled = pull(&bytes, &limits).map(|(scan, _)| scan);
        let mut scanner = TarScanner::new(&limits).wanting(Box::new(|_| Some(7)));
        let pushed = scanner.feed(&bytes).and_then(|()| scanner.finish());
        if let Ok(scan) = &pushed {
            prop_assert!(scan.index.end() <= bytes.len() as u64);
            for at in 0..scan.index.len() {
                prop_assert!(scan.index.placement(at).unwrap().whole().end <= scan.index.end());
                prop_assert!(scan.index.entry(at).is_some() && scan.index.owner(at).is_some());
            }
        }
        // Both know of a tar that ends too early, but not at the same point of it.
        match (&pushed, &pulled) {
            (Err(_), Err(_)) => (),
            _ => prop_assert_eq!(&pushed, &pulled),
        }
    }
}
