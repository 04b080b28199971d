use std::io::Write;

use flate2::{Compression, GzBuilder};
use proptest::prelude::*;

use super::*;
use crate::archive::tar::samples::{Sample, write_tar};

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn gunzip_in(
    limits: &Limits,
    pieces: &mut dyn Iterator<Item = &[u8]>,
) -> Result<Vec<u8>, GzipError> {
    let mut gunzip = Gunzip::new(limits);
    let mut content = Vec::new();
    for piece in pieces {
        gunzip.feed(piece, &mut |bytes| {
            content.extend_from_slice(bytes);
            Ok::<(), GzipError>(())
        })?;
    }
    gunzip.finish()?;
    assert_eq!(gunzip.inflated_bytes(), content.len() as u64);
    Ok(content)
}

fn gunzip(bytes: &[u8]) -> Result<Vec<u8>, GzipError> {
    gunzip_in(&Limits::default(), &mut std::iter::once(bytes))
}

#[test]
fn ok_members_join_and_nuls_after_them_are_padding() {
    let two = [gzip(b"one "), gzip(b""), gzip(b"two")].concat();
    assert_eq!(gunzip(&two).unwrap(), b"one two");
    assert_eq!(gunzip(&[two, vec![0; 700]].concat()).unwrap(), b"one two");
}

#[test]
fn ok_every_optional_header_field_is_passed_over() {
    let content = b"content";
    let plain = gzip(content);
    for flags in 0..32u8 {
        let mut bytes = plain[..10].to_vec();
        bytes[3] = flags;
        if flags & HAS_EXTRA != 0 {
            bytes.extend(b"\x05\0extra");
        }
        if flags & HAS_NAME != 0 {
            bytes.extend(b"name\0");
        }
        if flags & HAS_COMMENT != 0 {
            bytes.extend(b"\0");
        }
        if flags & HAS_HEADER_CRC != 0 {
            bytes.extend(b"\0\0");
        }
        bytes.extend(&plain[10..]);
        assert_eq!(gunzip(&bytes).unwrap(), content, "flags {flags:#x}");
    }
}

#[test]
fn err_each_cause_is_told_with_its_place() {
    let good = gzip(b"content");
    let edited = |at: usize, value: u8| {
        let mut bytes = good.clone();
        let at = if at < 100 {
            at
        } else {
            good.len() - (200 - at)
        };
        bytes[at] = value;
        gunzip(&bytes).unwrap_err()
    };
    assert_eq!(gunzip(b"PK"), Err(GzipError::NotGzip));
    assert_eq!(gunzip(b""), Err(GzipError::NotGzip));
    assert_eq!(edited(1, 0), GzipError::NotGzip);
    assert_eq!(
        edited(2, 9),
        GzipError::UnknownHeader {
            offset: 3,
            method: 9,
            flags: 0
        }
    );
    assert_eq!(
        edited(3, 0x20),
        GzipError::UnknownHeader {
            offset: 3,
            method: 8,
            flags: 0x20
        }
    );
    assert!(matches!(edited(10, 0xff), GzipError::Damaged { .. }));
    assert_eq!(edited(10, 0xff).code(), "gzip-damaged");
    assert_eq!(edited(192, 0).code(), "gzip-checksum-mismatch");
    let offset = good.len() as u64;
    assert!(matches!(edited(192, 0), GzipError::WrongCrc32 { offset: at, .. } if at == offset));
    let length = GzipError::WrongLength {
        offset,
        expected: 8,
        found: 7,
    };
    assert_eq!(edited(196, 8), length);
    assert_eq!(
        length.to_string(),
        format!("gzip member before byte {offset} has 7 bytes modulo 2^32, expected 8")
    );
    for garbage in [&b"x"[..], b"\0\0x", b"\0\x1f\x8b", b"\x1fx"] {
        let bytes = [&good[..], garbage].concat();
        let at = offset + garbage.iter().take_while(|byte| **byte == 0).count() as u64;
        assert_eq!(
            gunzip(&bytes),
            Err(GzipError::TrailingGarbage { offset: at }),
            "{garbage:?}"
        );
    }
}

#[test]
fn err_every_truncation_but_between_members() {
    let first = gzip(b"one").len();
    let bytes = [gzip(b"one"), gzip(b"two")].concat();
    for end in 1..bytes.len() {
        let expected = if end == first {
            Ok(b"one".to_vec())
        } else {
            Err(GzipError::Truncated { end: end as u64 })
        };
        assert_eq!(gunzip(&bytes[..end]), expected, "cut at {end}");
    }
}

#[test]
fn err_the_limit_holds_over_all_members() {
    let bytes = [gzip(&[0; 600_000]), gzip(&[0; 400_000])].concat();
    let with = |inflated_bytes_max| {
        let limits = Limits {
            inflated_bytes_max,
            ..Limits::default()
        };
        gunzip_in(&limits, &mut std::iter::once(&bytes[..])).map(|content| content.len())
    };
    assert_eq!(with(1_000_000), Ok(1_000_000));
    assert_eq!(with(999_999), Err(GzipError::TooLarge { limit: 999_999 }));
    assert_eq!(with(999_999).unwrap_err().code(), "archive-too-large");
}

#[test]
fn ok_a_sink_that_refuses_ends_it() {
    #[derive(Debug, PartialEq)]
    enum Stop {
        Sink,
        Gzip(GzipError),
    }
    impl From<GzipError> for Stop {
        fn from(error: GzipError) -> Self {
            Self::Gzip(error)
        }
    }
    let mut gunzip = Gunzip::new(&Limits::default());
    assert_eq!(
        gunzip.feed(&gzip(b"content"), &mut |_| Err(Stop::Sink)),
        Err(Stop::Sink)
    );
    let mut gunzip = Gunzip::new(&Limits::default());
    let fed = gunzip.feed(b"PK", &mut |_| Ok::<(), Stop>(()));
    assert_eq!(fed, Err(Stop::Gzip(GzipError::NotGzip)));
}

#[test]
fn ok_a_tar_gz_is_indexed_with_the_offsets_of_its_tar() {
    let tar = write_tar(&[Sample::file("a", "content"), Sample::directory("d/")]);
    let mut scanner = TarGzScanner::new(&Limits::default(), Box::new(|_| Some(3)));
    gzip(&tar)
        .chunks(7)
        .for_each(|piece| scanner.feed(piece).unwrap());
    let scan = scanner.finish().unwrap();
    assert_eq!(scan.index.format(), crate::archive::ArchiveFormat::TarGz);
    assert_eq!(scan.captured[0].bytes, b"con");
    assert_eq!(scan.index.placement(1).unwrap().header.start, 1024);
}

#[test]
fn err_a_damaged_end_of_a_tar_gz_is_seen_though_the_tar_is_whole() {
    let mut bytes = gzip(&write_tar(&[Sample::file("a", "content")]));
    let last = bytes.len() - 5;
    bytes[last] ^= 1;
    let mut scanner = TarGzScanner::new(&Limits::default(), Box::new(|_| None));
    let error = scanner.feed(&bytes).unwrap_err();
    assert!(matches!(
        error,
        TarGzError::Gzip(GzipError::WrongCrc32 { .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn ok_the_answer_does_not_depend_on_the_cuts(
        content in prop::collection::vec(any::<u8>(), 0..3000),
        repeat in 1..40usize,
        damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        piece in 1..300usize,
    ) {
        let content = content.repeat(repeat);
        let mut bytes = [gzip(&content), gzip(b"tail"), vec![0; 3]].concat();
        if let Some((at, value)) = damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let whole = gunzip(&bytes);
        let limits = Limits::default();
        let cut = gunzip_in(&limits, &mut bytes.chunks(piece));
        let single = gunzip_in(&limits, &mut bytes.chunks(1));
        // Where damage shows in the deflate data depends on how far the inflater looks ahead.
        match &whole {
            Err(GzipError::Damaged { .. }) => {
                let is_damaged = |other| matches!(other, Err(GzipError::Damaged { .. }));
                prop_assert!(is_damaged(cut) && is_damaged(single));
            }
            _ => prop_assert!(cut == whole && single == whole),
        }
        if damage.is_none() {
            prop_assert_eq!(whole.unwrap(), [&content[..], b"tail"].concat());
        }
    }
}
