//! Plans carried out against a naive repack, as other people's readers see it.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};
use std::sync::Arc;

use proptest::prelude::*;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::parts::{Delivery, Joins, Part, PartLimits, PartPlan, Upload, plan_parts};
use super::{Assembler, SplicePlan, plan_splice};
use crate::archive::Limits;
use crate::archive::zip::ZipIndex;
use crate::archive::zip::testing::{Making, ZipMaking, bytes_of, index_of};
use crate::contents::{KeptEntry, KeptName};
use crate::object::{ByteRange, ETag};
use crate::verify::{Verified, Verifier};

mod judges;

pub(super) use judges::{judge, two_levels};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
    Symlink,
}

#[derive(Debug, Clone)]
struct Item {
    kind: Kind,
    content: Vec<u8>,
    deflated: bool,
    zip64: bool,
    mode: u32,
}

#[derive(Debug, Clone, Copy)]
enum Maker {
    ZipCrate,
    ZipCrateStreaming,
    ByHand {
        descriptor: bool,
        reversed: bool,
        prefix: bool,
        is_dos: bool,
        malformed: bool,
    },
}

#[derive(Debug, Clone)]
struct Case {
    items: BTreeMap<String, Item>,
    maker: Maker,
    comment: Vec<u8>,
    root: &'static str,
    dropped: Vec<bool>,
    renamed: Vec<bool>,
}

fn item() -> impl Strategy<Value = (String, Item)> {
    let folder = prop::sample::select(vec!["", "app/", "app/bin/", ".git/", "app/é ü/", "日本/"]);
    let name = prop::sample::select(vec!["a", "b.txt", "c c", "ñ", "long-name-of-a-file", "z"]);
    let content = prop_oneof![
        Just(Vec::new()),
        prop::collection::vec(any::<u8>(), 0..40),
        prop::collection::vec(any::<u8>(), 0..3_000),
        (any::<u8>(), 0..5_000usize).prop_map(|(byte, length)| vec![byte; length]),
    ];
    let kind = prop::sample::select(vec![
        Kind::File,
        Kind::File,
        Kind::File,
        Kind::Directory,
        Kind::Symlink,
    ]);
    let mode = prop::sample::select(vec![0o644, 0o755, 0o600, 0o4755, 0o444]);
    (
        folder,
        name,
        kind,
        content,
        any::<bool>(),
        any::<bool>(),
        mode,
    )
        .prop_map(|(folder, name, kind, content, deflated, zip64, mode)| {
            let (name, content) = match kind {
                Kind::File => (format!("{folder}{name}"), content),
                Kind::Directory => (format!("{folder}{name}.d/"), Vec::new()),
                Kind::Symlink => (format!("{folder}{name}.l"), b"../target".to_vec()),
            };
            (
                name,
                Item {
                    kind,
                    content,
                    deflated,
                    zip64,
                    mode,
                },
            )
        })
}

fn case() -> impl Strategy<Value = Case> {
    let by_hand =
        any::<[bool; 5]>().prop_map(|[descriptor, reversed, prefix, is_dos, malformed]| {
            Maker::ByHand {
                descriptor,
                reversed,
                prefix,
                is_dos,
                malformed,
            }
        });
    let maker = prop_oneof![
        Just(Maker::ZipCrate),
        Just(Maker::ZipCrateStreaming),
        by_hand
    ];
    (
        prop::collection::vec(item(), 0..12)
            .prop_map(|items| items.into_iter().collect::<BTreeMap<_, _>>()),
        maker,
        prop::collection::vec(any::<u8>(), 0..20),
        prop::sample::select(vec!["", "", "app/"]),
        prop::collection::vec(prop::bool::weighted(0.3), 12),
        prop::collection::vec(prop::bool::weighted(0.1), 12),
    )
        .prop_map(|(items, maker, comment, root, dropped, renamed)| {
            // A comment may hold anything but what looks like an end record.
            let comment = comment
                .into_iter()
                .map(|b| if b == b'P' { b'p' } else { b })
                .collect();
            Case {
                items,
                maker,
                comment,
                root,
                dropped,
                renamed,
            }
        })
}

impl Case {
    fn make(&self) -> Vec<u8> {
        match self.maker {
            Maker::ZipCrate => {
                let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
                self.write(&mut writer);
                writer.finish().unwrap().into_inner()
            }
            Maker::ZipCrateStreaming => {
                let mut writer = ZipWriter::new_stream(Vec::new());
                self.write(&mut writer);
                writer.finish().unwrap().into_inner()
            }
            Maker::ByHand { .. } => self.by_hand(),
        }
    }

    /// The same archive with extra fields that Python and the `zip` crate take.
    fn make_sound(&self) -> Vec<u8> {
        let mut case = self.clone();
        if let Maker::ByHand { malformed, .. } = &mut case.maker {
            *malformed = false;
        }
        case.make()
    }

    fn write<W: Write + std::io::Seek>(&self, writer: &mut ZipWriter<W>) {
        writer
            .set_raw_comment(self.comment.clone().into_boxed_slice())
            .unwrap();
        for (name, item) in &self.items {
            let method = if item.deflated {
                CompressionMethod::Deflated
            } else {
                CompressionMethod::Stored
            };
            let options = SimpleFileOptions::default()
                .compression_method(method)
                .large_file(item.zip64)
                .unix_permissions(item.mode);
            match item.kind {
                Kind::Directory => writer.add_directory(name.as_str(), options).unwrap(),
                Kind::Symlink => writer
                    .add_symlink(name.as_str(), "../target", options)
                    .unwrap(),
                Kind::File => {
                    writer.start_file(name.as_str(), options).unwrap();
                    writer.write_all(&item.content).unwrap();
                }
            }
        }
    }

    fn by_hand(&self) -> Vec<u8> {
        let Maker::ByHand {
            descriptor,
            reversed,
            prefix,
            is_dos,
            malformed,
        } = self.maker
        else {
            panic!("made by {:?}", self.maker)
        };
        let entries = self.items.iter().map(|(name, item)| {
            let mut entry = Making::new(name, &item.content);
            entry.deflated = item.deflated;
            entry.zip64 = item.zip64;
            entry.flags |= if descriptor { 8 } else { 0 };
            // Names of Unix need no flag to be read as UTF-8 by unzip; other readers need it.
            entry.flags |= if name.is_ascii() { 0 } else { 1 << 11 };
            entry.mode = item.mode
                | match item.kind {
                    Kind::File => 0o100_000,
                    Kind::Directory => 0o040_000,
                    Kind::Symlink => 0o120_000,
                };
            if is_dos {
                (entry.host, entry.mode) = (0, 0);
            }
            entry.comment = b"an entry's comment".to_vec();
            entry.central_extra = vec![0x55, 0x54, 5, 0, 1, 9, 9, 9, 9];
            entry.local_extra = [&entry.central_extra[..], &[0xfe, 0xca, 0, 0]].concat();
            if malformed {
                entry.zip64 = false;
                entry.central_extra.extend([9, 9, 200]);
                entry.local_extra = entry.central_extra.clone();
            }
            entry
        });
        ZipMaking {
            reversed,
            comment: self.comment.clone(),
            zip64_end: descriptor && !self.items.is_empty(),
            prefix: if prefix {
                b"#!/bin/sh\n".to_vec()
            } else {
                Vec::new()
            },
            is_adjusted: reversed,
            ..ZipMaking::of(entries)
        }
        .make()
    }

    fn kept(&self, zip: &ZipIndex) -> Vec<KeptEntry> {
        let mut kept = Vec::new();
        for (i, entry) in zip.entries().enumerate() {
            let is_under_root =
                entry.name.starts_with(self.root.as_bytes()) && entry.name.len() > self.root.len();
            if !is_under_root || self.dropped[i] {
                continue;
            }
            let rest = &entry.name[self.root.len()..];
            let name = if self.renamed[i] {
                KeptName::Renamed(
                    [b"new \xc3\xa9/".as_slice(), rest]
                        .concat()
                        .into_boxed_slice(),
                )
            } else {
                KeptName::Suffix {
                    skip: self.root.len() as u32,
                }
            };
            kept.push(KeptEntry {
                index: i as u32,
                name,
            });
        }
        kept
    }
}

/// The plan carried out step by step.
pub(super) fn carry_out(plan: &SplicePlan<'_>, source: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (n, step) in plan.steps().enumerate() {
        assert_eq!(step.output.start, out.len() as u64);
        assert_eq!(plan.step_at(step.output.start), n);
        if step.made_bytes() > 0 {
            plan.make(n, bytes_of(source, step.passed), &mut out)
                .unwrap();
        }
        assert_eq!(step.copied_at(), out.len() as u64);
        out.extend_from_slice(bytes_of(source, step.copied));
    }
    out
}

/// The plan carried out as requests would, in pieces of `piece` bytes, everything that passes verified where
/// there is a verifier.
pub(super) fn carry_out_parts(
    plan: &SplicePlan<'_>,
    parts: &PartPlan,
    source: &[u8],
    verifier: Option<&Verifier>,
    piece: usize,
) -> (Vec<u8>, Verified) {
    let mut sequential = verifier.map(|verifier| verifier.over(parts.passing()));
    let body_of = |upload: &Upload, verifier: &mut Option<Verifier>| {
        let mut assembler = Assembler::new(plan, upload);
        for get in upload.gets() {
            for (i, bytes) in bytes_of(source, *get).chunks(piece).enumerate() {
                let at = get.start + (i * piece) as u64;
                if let Some(verifier) = verifier {
                    verifier.feed(at, bytes).unwrap();
                }
                assembler.feed(at, bytes).unwrap();
            }
        }
        let body = assembler.finish().unwrap();
        assert_eq!(body.len() as u64, upload.output_bytes());
        body
    };
    let mut verified = Verified::default();
    let revision = match &parts.delivery {
        Delivery::CopyObject => source.to_vec(),
        Delivery::PutObject(upload) => body_of(upload, &mut sequential),
        Delivery::Multipart(parts) => parts
            .iter()
            .flat_map(|part| match part {
                Part::Copy(range) => bytes_of(source, *range).to_vec(),
                Part::Upload(upload) => body_of(upload, &mut sequential),
                Part::Join(join) => {
                    let gets = join.upload.gets().to_vec();
                    let mut beside = verifier.map(|verifier| verifier.over(gets));
                    let body = body_of(&join.upload, &mut beside);
                    if let Some(beside) = beside {
                        verified += beside.finish().unwrap();
                    }
                    [bytes_of(source, join.copied), &body].concat()
                }
            })
            .collect(),
    };
    if let Some(sequential) = sequential {
        verified += sequential.finish().unwrap();
    }
    (revision, verified)
}

/// An entry as the `zip` crate sees it.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    name: Vec<u8>,
    content: Vec<u8>,
    mode: Option<u32>,
    is_symlink: bool,
    method: CompressionMethod,
    modified: Option<zip::DateTime>,
    comment: String,
}

fn see(object: &[u8]) -> Vec<Seen> {
    let mut archive = ZipArchive::new(Cursor::new(object)).unwrap();
    (0..archive.len())
        .map(|i| {
            let mut file = archive.by_index(i).unwrap();
            let mut content = Vec::new();
            file.read_to_end(&mut content).unwrap();
            Seen {
                name: file.name().unwrap().as_bytes().to_vec(),
                content,
                mode: file.unix_mode(),
                is_symlink: file.is_symlink(),
                method: file.compression(),
                modified: file.last_modified(),
                comment: file.comment().to_owned(),
            }
        })
        .collect()
}

fn new_name(zip: &ZipIndex, entry: &KeptEntry) -> Vec<u8> {
    entry
        .name(&zip.entry(entry.index as usize).unwrap())
        .to_vec()
}

/// Limits of every size, for small archives.
pub(super) fn limits() -> impl Strategy<Value = PartLimits> {
    (
        1..200u64,
        0..300u64,
        1..3u64,
        1..5u64,
        3..2_000u64,
        (0..60u64, 1..2_000u64),
        0..3_000u64,
        prop::sample::select(vec![Joins::Never, Joins::WherePaid, Joins::Wherever]),
    )
        .prop_map(
            |(min, put, upload, copy, parts_max, (gap, get), read_already, joins)| PartLimits {
                copy_object_bytes_max: 4_000,
                read_already_bytes_max: read_already,
                put_object_bytes_max: put,
                part_bytes_min: min,
                part_bytes_max: 1 << 40,
                parts_max,
                upload_part_bytes: min * upload,
                copy_part_bytes: min * copy,
                gap_bytes_max: gap,
                get_bytes_max: get,
                joins,
            },
        )
}

/// S3's rules, held against the plan.
pub(super) fn check_parts(plan: &SplicePlan<'_>, parts: &PartPlan, limits: &PartLimits) {
    if let Delivery::Multipart(list) = &parts.delivery {
        assert!(!list.is_empty() && list.len() as u64 <= limits.parts_max);
        for part in &list[..list.len() - 1] {
            assert!(part.length() >= limits.part_bytes_min, "{part:?}");
        }
    }
    let mut joined = 0;
    for join in parts.joins() {
        assert_ne!(limits.joins, Joins::Never);
        assert!(join.copied.length() >= limits.part_bytes_min, "{join:?}");
        assert!(join.upload.output_bytes() > 0, "{join:?}");
        joined += join.length();
    }
    let traffic = parts.traffic;
    assert_eq!(
        traffic.copied_bytes + traffic.put_bytes,
        plan.output_size() + joined
    );
    let passing = parts.passing();
    assert!(passing.iter().map(ByteRange::length).sum::<u64>() <= traffic.got_bytes);
    assert!(passing.windows(2).all(|pair| pair[0].end < pair[1].start));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn ok_plans_carried_out_equal_a_naive_repack(
        case in case(),
        limits in limits(),
        piece in 1..500usize,
    ) {
        let source = case.make();
        let zip = Arc::new(index_of(&source));
        prop_assert_eq!(zip.len(), case.items.len());
        let kept = case.kept(&zip);
        let plan = plan_splice(&zip, &kept).unwrap();
        let revision = carry_out(&plan, &source);
        prop_assert_eq!(revision.len() as u64, plan.output_size());
        prop_assert_eq!(plan.copied_bytes() + plan.made_bytes(), plan.output_size());
        prop_assert_eq!(plan.is_identity(), revision == source);

        let seen = see(&case.make_sound());
        let wanted: Vec<_> = kept
            .iter()
            .map(|entry| Seen { name: new_name(&zip, entry), ..seen[entry.index as usize].clone() })
            .collect();
        prop_assert_eq!(see(&revision), wanted);

        // The revision is as sound as they come, to our own reader too.
        let again = index_of(&revision);
        prop_assert!(again.is_sound());
        for (i, entry) in kept.iter().enumerate() {
            let (old, new) = (zip.entry(entry.index as usize).unwrap(), again.entry(i).unwrap());
            prop_assert_eq!(new.modified_seconds, old.modified_seconds);
            prop_assert_eq!(new.mode, old.mode);
            let content = again.read_content(i, bytes_of(&revision, again.content_span(i).unwrap()), 1 << 20);
            prop_assert!(content.is_ok());
        }

        match plan_parts(&plan, &limits) {
            Ok(parts) => {
                check_parts(&plan, &parts, &limits);
                let verifier = Verifier::new(Arc::clone(&zip), &kept, parts.passing(), &Limits::default());
                let (through_parts, verified) =
                    carry_out_parts(&plan, &parts, &source, Some(&verifier), piece);
                prop_assert_eq!(&through_parts, &revision);
                let rewritten = plan.steps().filter(|step| !step.passed.is_empty()).count() as u64;
                prop_assert!(verified.headers >= rewritten);
                if let Delivery::PutObject(_) = parts.delivery {
                    prop_assert_eq!(verified.contents, kept.len() as u64);
                }
            }
            Err(error) => prop_assert!(limits.parts_max < 20, "{error}"),
        }
    }

    #[test]
    fn ok_plans_are_deterministic_and_told_apart(case in case()) {
        let source = case.make();
        let zip = index_of(&source);
        let kept = case.kept(&zip);
        let plan = plan_splice(&zip, &kept).unwrap();
        let zip_again = index_of(&source);
        let again = plan_splice(&zip_again, &kept).unwrap();
        prop_assert_eq!(plan.to_string(), again.to_string());
        let etag = ETag::from("abc");
        prop_assert_eq!(plan.fingerprint(&etag), again.fingerprint(&etag));
        prop_assert_ne!(plan.fingerprint(&etag), plan.fingerprint(&ETag::from("abd")));
        if let Some((_, fewer)) = kept.split_last() {
            let fewer = plan_splice(&zip, fewer).unwrap();
            prop_assert_ne!(plan.fingerprint(&etag), fewer.fingerprint(&etag));
        }
    }
}
