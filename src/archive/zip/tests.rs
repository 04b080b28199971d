//! The reader against zips made by hand, cut and changed ones included.

use proptest::prelude::*;

use super::testing::{Making, ZipMaking, bytes_of, index_of, read_index};
use super::*;
use crate::archive::{Compression, EntryKind, Limits};

fn sample() -> ZipMaking {
    let text = b"some text that deflates, that deflates, that deflates";
    let mut streamed = Making::new("bin/streamed", text);
    streamed.flags = FLAG_DESCRIPTOR;
    streamed.mode = 0o100_755;
    let mut link = Making::new("link", b"bin/streamed");
    link.mode = 0o120_777;
    let mut large = Making::new("large", text);
    large.zip64 = true;
    ZipMaking::of([
        Making::new("bin/", b""),
        streamed,
        Making::new("plain", b"short"),
        link,
        large,
        Making::new("empty", b""),
    ])
}

fn names(zip: &ZipIndex) -> Vec<String> {
    zip.entries()
        .map(|entry| String::from_utf8_lossy(entry.name).into_owned())
        .collect()
}

fn error_of(making: &ZipMaking) -> ZipError {
    read_index(&making.make(), &Limits::default(), usize::MAX).unwrap_err()
}

fn read_all(object: &[u8], zip: &ZipIndex) -> Result<Vec<Vec<u8>>, ZipError> {
    (0..zip.len())
        .map(|i| zip.read_content(i, bytes_of(object, zip.content_span(i)?), 1 << 20))
        .collect()
}

#[test]
fn ok_entries_are_read_with_kinds_modes_and_times() {
    let making = sample();
    let object = making.make();
    let zip = index_of(&object);
    assert_eq!(
        names(&zip),
        ["bin/", "bin/streamed", "plain", "link", "large", "empty"]
    );
    let kinds: Vec<_> = zip
        .entries()
        .map(|entry| (entry.kind, entry.mode))
        .collect();
    assert_eq!(kinds[0], (EntryKind::Directory, Some(0o755)));
    assert_eq!(kinds[1], (EntryKind::File, Some(0o755)));
    assert_eq!(kinds[3], (EntryKind::Symlink, Some(0o777)));
    let entry = zip.entry(1).unwrap();
    assert_eq!((entry.size, entry.compression), (53, Compression::Deflated));
    assert_eq!(
        entry.crc32,
        Some(crc32fast::hash(&making.entries[1].content))
    );
    assert_eq!(entry.modified_seconds, Some(1_704_110_400));
    let contents: Vec<_> = making
        .entries
        .iter()
        .map(|entry| entry.content.clone())
        .collect();
    assert_eq!(read_all(&object, &zip).unwrap(), contents);
    assert!(zip.is_sound());
}

#[test]
fn ok_an_extended_timestamp_wins_over_the_dos_time() {
    let mut entry = Making::new("a", b"");
    entry.central_extra = vec![0x55, 0x54, 5, 0, 1, 1, 0, 0, 0x80];
    let zip = index_of(&ZipMaking::of([entry]).make());
    assert_eq!(zip.entry(0).unwrap().modified_seconds, Some(-2_147_483_647));
}

#[test]
fn ok_pieces_of_every_size_give_one_index() {
    let object = ZipMaking {
        zip64_end: true,
        comment: b"a comment".to_vec(),
        ..sample()
    }
    .make();
    for most in [1, 2, 7, 100, 10_000] {
        let zip = read_index(&object, &Limits::default(), most).unwrap();
        assert_eq!(names(&zip), names(&index_of(&object)));
    }
}

#[test]
fn ok_a_directory_longer_than_the_tail_is_read_in_two() {
    let entries = (0..3_000).map(|i| Making::new(&format!("a/quite/long/name/{i:05}"), b"x"));
    for zip64_end in [false, true] {
        for prefix_bytes in [0, 5] {
            let making = ZipMaking {
                zip64_end,
                prefix: vec![b'#'; prefix_bytes],
                comment: vec![b'c'; 65_535],
                ..ZipMaking::of(entries.clone())
            };
            let object = making.make();
            let mut reader = ZipReader::new(object.len() as u64, &Limits::default());
            let mut asked = 0;
            let zip = loop {
                match reader.step().unwrap() {
                    Step::Done(zip) => break zip,
                    Step::Need(range) => {
                        asked += range.length();
                        reader.feed(range, bytes_of(&object, range)).unwrap();
                    }
                }
            };
            assert_eq!(zip.len(), 3_000);
            assert_eq!(read_all(&object, &zip).unwrap().len(), 3_000);
            assert!(asked <= zip.directory_range().length() + 65_633, "{asked}");
        }
    }
}

#[test]
fn ok_bytes_before_the_archive_counted_or_not() {
    for is_adjusted in [false, true] {
        let making = ZipMaking {
            prefix: b"#!/bin/sh\n".to_vec(),
            is_adjusted,
            ..sample()
        };
        let object = making.make();
        let zip = index_of(&object);
        assert_eq!(read_all(&object, &zip).unwrap()[2], b"short");
        assert_eq!(zip.is_sound(), is_adjusted);
    }
}

#[test]
fn ok_trailing_bytes_are_passed_over_and_noted() {
    let making = ZipMaking {
        trailing: b"\0\0\n".to_vec(),
        ..sample()
    };
    let zip = index_of(&making.make());
    assert_eq!((zip.len(), zip.is_sound()), (6, false));
}

#[test]
fn ok_what_the_directory_does_not_list_does_not_exist() {
    let making = ZipMaking {
        unlisted: Some(Making::new("ghost", b"boo")),
        ..sample()
    };
    let object = making.make();
    assert_eq!(names(&index_of(&object)).len(), 6);
    assert!(read_all(&object, &index_of(&object)).is_ok());
}

#[test]
fn ok_local_headers_in_another_order_than_the_directory() {
    let object = ZipMaking {
        reversed: true,
        ..sample()
    }
    .make();
    let zip = index_of(&object);
    assert_eq!(
        zip.in_physical_order().collect::<Vec<_>>(),
        [5, 4, 3, 2, 1, 0]
    );
    assert_eq!(read_all(&object, &zip).unwrap()[2], b"short");
}

#[test]
fn ok_a_count_that_wrapped_around_is_taken() {
    let entries = (0..65_540).map(|i| Making::new(&format!("{i}"), b""));
    let zip = index_of(&ZipMaking::of(entries).make());
    assert_eq!((zip.len(), zip.is_sound()), (65_540, false));
}

fn unicode_path(header_name: &str, name: &str) -> Vec<u8> {
    let mut extra = vec![0x75, 0x70];
    extra.extend((5 + name.len() as u16).to_le_bytes());
    extra.push(1);
    extra.extend(crc32fast::hash(header_name.as_bytes()).to_le_bytes());
    extra.extend(name.as_bytes());
    extra
}

#[test]
fn ok_a_unicode_path_replaces_the_name_unless_the_flag_says_utf8() {
    let mut entry = Making::new("caf?", b"x");
    entry.central_extra = unicode_path("caf?", "café");
    let zip = index_of(&ZipMaking::of([entry.clone()]).make());
    assert_eq!(names(&zip), ["café"]);
    assert_eq!(zip.header(0).unwrap().header_name, b"caf?");
    entry.flags = FLAG_UTF8;
    assert_eq!(names(&index_of(&ZipMaking::of([entry]).make())), ["caf?"]);
}

#[test]
fn ok_an_extra_field_that_runs_past_its_end_is_no_obstacle() {
    let mut entry = Making::new("a", b"x");
    entry.central_extra = vec![9, 9, 200, 0, 1];
    entry.local_extra = entry.central_extra.clone();
    let object = ZipMaking::of([entry.clone()]).make();
    assert_eq!(read_all(&object, &index_of(&object)).unwrap(), [b"x"]);
    entry.local_extra.push(2);
    let object = ZipMaking::of([entry]).make();
    let error = read_all(&object, &index_of(&object)).unwrap_err();
    assert_eq!(error.code(), "entry-headers-disagree");
}

#[test]
fn err_texts_say_what_was_expected_and_found() {
    let making = ZipMaking {
        count: Some(5),
        ..sample()
    };
    assert_eq!(
        error_of(&making).to_string(),
        "central directory holds 6 entries, end record says 5"
    );
    assert_eq!(error_of(&making).code(), "zip-count-mismatch");
    let making = ZipMaking {
        shared_header: Some((3, 2)),
        ..sample()
    };
    let error = error_of(&making);
    assert!(matches!(error, ZipError::EntryOverlap { .. }), "{error}");
    let mut making = sample();
    making.entries[5].size = Some(9);
    let object = making.make();
    assert_eq!(
        read_all(&object, &index_of(&object))
            .unwrap_err()
            .to_string(),
        "entry `empty` declares 9 bytes and holds 0"
    );
    let error = read_all(&object, &index_of(&object)).unwrap_err();
    assert_eq!(error.code(), "entry-size-mismatch");
    let mut making = sample();
    making.entries[2].crc32 = Some(1);
    let object = making.make();
    assert_eq!(
        read_all(&object, &index_of(&object))
            .unwrap_err()
            .to_string(),
        "entry `plain` has CRC-32 8f2890a2, expected 00000001"
    );
    let error = read_all(&object, &index_of(&object)).unwrap_err();
    assert_eq!(error.code(), "entry-crc-mismatch");
}

#[test]
fn err_entries_that_claim_the_bytes_of_the_next_or_of_the_directory() {
    for (index, field_at) in [(2, 20), (5, 20), (5, 42)] {
        let making = sample();
        let mut object = making.make();
        let zip = index_of(&object);
        let record_at = zip.directory_range().start as usize
            + (0..index)
                .map(|i| zip.header(i).unwrap().record_bytes())
                .sum::<usize>();
        object[record_at + field_at + 1] = 0x02;
        let error = read_index(&object, &Limits::default(), usize::MAX).unwrap_err();
        let expected = if index == 2 {
            "entries-overlap"
        } else {
            "entry-outside-archive"
        };
        assert_eq!(error.code(), expected, "{error}");
    }
}

#[test]
fn err_limits_hold_at_the_limit_and_one_beyond() {
    let object = sample().make();
    let read = |limits: Limits| read_index(&object, &limits, usize::MAX);
    let limits = Limits::default();
    assert!(
        read(Limits {
            entries_max: 6,
            ..limits
        })
        .is_ok()
    );
    let error = read(Limits {
        entries_max: 5,
        ..limits
    })
    .unwrap_err();
    assert_eq!(
        error,
        ZipError::TooManyEntries {
            entries: 6,
            limit: 5
        }
    );
    assert!(
        read(Limits {
            name_bytes_max: 12,
            ..limits
        })
        .is_ok()
    );
    let error = read(Limits {
        name_bytes_max: 11,
        ..limits
    })
    .unwrap_err();
    assert_eq!(
        error,
        ZipError::NameTooLong {
            index: 1,
            name_bytes: 12,
            limit: 11
        }
    );
    let bytes = index_of(&object).directory_range().length();
    assert!(
        read(Limits {
            directory_bytes_max: bytes,
            ..limits
        })
        .is_ok()
    );
    let error = read(Limits {
        directory_bytes_max: bytes - 1,
        ..limits
    })
    .unwrap_err();
    assert_eq!(
        error,
        ZipError::DirectoryTooLarge {
            directory_bytes: bytes,
            limit: bytes - 1
        }
    );
    let zip = index_of(&object);
    let span = bytes_of(&object, zip.content_span(2).unwrap());
    assert!(zip.read_content(2, span, 5).is_ok());
    let error = zip.read_content(2, span, 4).unwrap_err();
    assert_eq!(error.code(), "entry-too-large");
    assert!(matches!(
        error,
        ZipError::ContentTooLarge {
            size: 5,
            limit: 4,
            ..
        }
    ));
}

/// Reads the index of a zip of so many empty entries; what lies before the directory is never asked for.
fn read_crowd(count: u64) -> Result<ZipIndex, ZipError> {
    const LOCAL_BYTES: u64 = 31;
    let directory_at = count * LOCAL_BYTES;
    let mut end = Vec::new();
    for number in 0..count {
        end.extend_from_slice(b"PK\x01\x02\x14\x03\x14\0\0\0\0\0\0\0\x21\x58");
        end.extend_from_slice(&[0; 12]);
        end.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        end.extend_from_slice(&(0o100_644_u32 << 16).to_le_bytes());
        end.extend_from_slice(&((number * LOCAL_BYTES) as u32).to_le_bytes());
        end.push(b'a');
    }
    let declared = Declared {
        entries: count,
        directory_bytes: end.len() as u64,
        directory_at,
    };
    write_end(&mut end, &declared);
    let mut reader = ZipReader::new(directory_at + end.len() as u64, &Limits::default());
    loop {
        match reader.step()? {
            Step::Done(index) => return Ok(index),
            Step::Need(range) => {
                let [from, to] = [range.start, range.end].map(|at| (at - directory_at) as usize);
                reader.feed(range, &end[from..to])?;
            }
        }
    }
}

#[test]
fn ok_a_million_entries_and_err_one_more() {
    let limit = Limits::default().entries_max;
    let index = read_crowd(limit as u64).unwrap();
    assert_eq!((limit, index.len()), (1_000_000, 1_000_000));
    let error = read_crowd(limit as u64 + 1).unwrap_err();
    assert_eq!(error.code(), "archive-too-many-entries", "{error}");
}

#[test]
fn err_headers_that_disagree() {
    type Make = fn(&mut Making);
    let cases: [(&str, Make); 3] = [
        ("another name: `other`", |m| {
            m.local_name = Some(b"other".to_vec())
        }),
        ("another compression method: expected 0, found 8", |m| {
            m.local_method = Some(8)
        }),
        ("another Unicode Path extra field", |m| {
            m.local_extra = unicode_path("plain", "x")
        }),
    ];
    for (text, change) in cases {
        let mut making = sample();
        change(&mut making.entries[2]);
        let object = making.make();
        let error = read_all(&object, &index_of(&object)).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(error.code(), "entry-headers-disagree");
    }
    for (field_at, text) in [
        (0, "no local header at byte"),
        (14, "CRC-32"),
        (18, "stored size"),
        (22, "size"),
    ] {
        let mut object = sample().make();
        let zip = index_of(&object);
        let header_at = zip.span(2).unwrap().start as usize;
        object[header_at + field_at] ^= 0x40;
        let error = read_all(&object, &zip).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
    let mut object = sample().make();
    let zip = index_of(&object);
    let descriptor_at = zip.span(1).unwrap().end as usize - 12;
    object[descriptor_at] ^= 1;
    let error = read_all(&object, &zip).unwrap_err();
    assert_eq!(
        error,
        ZipError::DescriptorMismatch {
            name: "bin/streamed".to_owned()
        }
    );
}

#[test]
fn err_contents_that_lie() {
    let with = |change: fn(&mut Making)| {
        let mut making = Making::new("a", &[b'z'; 1_000]);
        change(&mut making);
        let object = ZipMaking::of([making]).make();
        read_all(&object, &index_of(&object)).unwrap_err()
    };
    let error = with(|m| m.size = Some(999));
    assert!(matches!(
        error,
        ZipError::SizeMismatch {
            expected: 999,
            at_least: true,
            ..
        }
    ));
    let error = with(|m| m.size = Some(1_001));
    assert!(matches!(
        error,
        ZipError::SizeMismatch {
            expected: 1_001,
            found: 1_000,
            ..
        }
    ));
    let error = with(|m| {
        m.size = Some(1_000);
        m.content = m.stored()[..5].to_vec();
        m.deflated = false;
        m.local_method = Some(0);
    });
    assert!(matches!(error, ZipError::SizeMismatch { found: 5, .. }));
    assert!(matches!(
        with(|m| m.flags = FLAG_ENCRYPTED),
        ZipError::Encrypted { .. }
    ));
}

#[test]
fn err_deflate_streams_that_are_cut_damaged_or_too_long() {
    let making = Making::new(
        "a",
        b"some text that deflates, that deflates, that deflates",
    );
    let stored = making.stored();
    let crc32 = crc32fast::hash(&making.content);
    let fails_with = |stored: Vec<u8>| {
        let mut making = making.clone();
        making.content = stored;
        making.deflated = false;
        making.size = Some(53);
        making.crc32 = Some(crc32);
        let mut object = ZipMaking::of([making]).make();
        let directory_at = index_of(&object).directory_range().start as usize;
        object[8] = 8;
        object[directory_at + 10] = 8;
        let zip = index_of(&object);
        let error = read_all(&object, &zip).unwrap_err();
        let mut reader = EntryReader::new(0);
        let bytes = bytes_of(&object, zip.span(0).unwrap());
        let in_pieces = bytes
            .chunks(1)
            .try_for_each(|byte| reader.feed(&zip, byte, &mut |_| {}));
        assert_eq!(in_pieces, Err(error.clone()));
        error
    };
    for cut in 0..stored.len() {
        let error = fails_with(stored[..cut].to_vec());
        assert_eq!(error.code(), "entry-damaged", "{cut}: {error}");
    }
    // As it would be behind a gzip stream.
    let trailer = [crc32.to_le_bytes(), 53_u32.to_le_bytes()].concat();
    for behind in [b"!".as_slice(), &trailer] {
        let error = fails_with([&stored, behind].concat());
        let found = stored.len() as u64;
        assert!(
            matches!(error, ZipError::StoredSizeMismatch { found: to, .. } if to == found),
            "{error}"
        );
    }
    assert!(matches!(
        fails_with(vec![0xff; 9]),
        ZipError::Inflate { .. }
    ));
}

#[test]
fn err_every_truncation_is_refused() {
    for making in [
        sample(),
        ZipMaking {
            zip64_end: true,
            comment: b"bye".to_vec(),
            ..sample()
        },
    ] {
        let object = making.make();
        for cut in 0..object.len() {
            let cut = read_index(&object[..cut], &Limits::default(), 50);
            assert!(cut.is_err(), "{cut:?}");
        }
    }
}

#[test]
fn err_directories_that_are_damaged_or_lack_their_zip64_values() {
    let object = sample().make();
    let directory_at = index_of(&object).directory_range().start as usize;
    let code = |change: &dyn Fn(&mut [u8])| {
        let mut object = object.clone();
        change(&mut object[directory_at..]);
        let error = read_index(&object, &Limits::default(), usize::MAX).unwrap_err();
        (error.code(), error.to_string())
    };
    assert_eq!(code(&|bytes| bytes[0] ^= 1).0, "zip-directory-invalid");
    let ones = code(&|bytes| bytes[20..24].fill(0xff));
    assert_eq!(ones.0, "zip64-invalid", "{}", ones.1);
    let disk = code(&|bytes| bytes[34] = 1);
    assert_eq!(disk.0, "zip-multi-disk", "{}", disk.1);
}

#[test]
fn err_bytes_that_were_not_asked_for() {
    let mut reader = ZipReader::new(100, &Limits::default());
    let found = reader.feed(crate::object::ByteRange::new(3, 5), b"ab");
    assert_eq!(
        found,
        Err(ZipError::UnexpectedBytes {
            expected: 0,
            found: 3
        })
    );
    assert_eq!(found.unwrap_err().code(), "internal");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// Whatever is changed in an archive: no panic, and no content that is not the entry's.
    #[test]
    fn err_changed_bytes_never_give_other_content(
        zip64_end: bool,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let making = ZipMaking { zip64_end, ..sample() };
        let mut object = making.make();
        for (at, value) in changes {
            let at = at.index(object.len());
            object[at] = value;
        }
        if let Ok(zip) = read_index(&object, &Limits::default(), 64) {
            for i in 0..zip.len() {
                let entry = zip.entry(i).unwrap();
                prop_assert!(zip.span(i).unwrap().end <= object.len() as u64);
                let span = bytes_of(&object, zip.content_span(i).unwrap());
                if let Ok(content) = zip.read_content(i, span, 1 << 16) {
                    prop_assert_eq!(content.len() as u64, entry.size);
                    prop_assert_eq!(Some(crc32fast::hash(&content)), entry.crc32);
                }
            }
        }
    }

    /// Bytes that are no archive at all.
    #[test]
    fn err_noise_is_refused(mut noise in prop::collection::vec(any::<u8>(), 0..400), at: prop::sample::Index) {
        if noise.len() > 30 {
            let at = at.index(noise.len() - 22);
            noise[at..at + 4].copy_from_slice(b"PK\x05\x06");
        }
        let _ = read_index(&noise, &Limits::default(), 33);
    }
}
