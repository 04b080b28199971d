//! What hostile bytes are put through, and what must hold whatever they are: no panic, no endless loop, no more
//! memory than the limits allow, one answer however the bytes are cut, and nothing written that is not
//! what was read.

use std::sync::Arc;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use stagedrop::archive::gzip::{Gunzip, GzipError, TarGzScanner};
use stagedrop::archive::tar::{self, TarReader, TarScanner};
use stagedrop::archive::zip::{self, ZipIndex, ZipReader};
use stagedrop::archive::{ArchiveFormat, EntryKind, Index, Limits};
use stagedrop::contents::{KeptEntry, KeptName};
use stagedrop::object::ByteRange;
use stagedrop::transcode::{Output, Piece, Transcoder};
use stagedrop::yaml;

/// Requests after which a reader of a small object is stuck.
const STEPS_MAX: usize = 100_000;
/// Bytes of an entry that are looked at.
const CONTENT_BYTES: u64 = 1 << 16;

/// Limits that a few bytes can reach.
pub fn limits() -> Limits {
    Limits {
        entries_max: 1_000,
        directory_bytes_max: 1 << 20,
        inflated_bytes_max: 32 << 20,
        ..Limits::default()
    }
}

/// A zip: read by ranges, every content looked at, all of it made into a tar.
pub fn zip(bytes: &[u8]) {
    let Some(index) = read_zip(bytes) else {
        return;
    };
    for at in 0..index.len() {
        if let Ok(span) = index.content_span(at) {
            let content = index.read_content(at, slice(bytes, span), CONTENT_BYTES);
            assert!(
                content.is_err()
                    || content.is_ok_and(|content| content.len() as u64 <= CONTENT_BYTES)
            );
        }
    }
    transcode(Index::Zip(Arc::new(index)), bytes, ArchiveFormat::Tar);
}

/// A tar: read by ranges and front to back, made into a zip.
pub fn tar(bytes: &[u8]) {
    let mut reader = TarReader::new(bytes.len() as u64, &limits(), Box::new(|_| Some(100)));
    let scan = 'read: {
        for _ in 0..STEPS_MAX {
            match reader.step() {
                Ok(tar::Step::Done(scan)) => break 'read Some(*scan),
                Ok(tar::Step::Need(range)) => {
                    if reader.feed(range, slice(bytes, range)).is_err() {
                        break 'read None;
                    }
                }
                Err(_) => break 'read None,
            }
        }
        panic!(
            "a tar of {} bytes takes more than {STEPS_MAX} reads",
            bytes.len()
        );
    };
    let mut scanner = TarScanner::new(&limits()).wanting(Box::new(|_| Some(100)));
    let fed = bytes.chunks(100).try_for_each(|piece| scanner.feed(piece));
    let scanned = fed.and_then(|()| scanner.finish()).ok();
    if let Some(scan) = &scan {
        assert_eq!(scanned.as_ref(), Some(scan));
    }
    if let Some(scan) = scan {
        transcode(Index::Tar(scan.index), bytes, ArchiveFormat::Zip);
    }
}

/// A tar.gz: one index however it is cut, made into a zip.
pub fn gzip(bytes: &[u8]) {
    let scan = |piece: usize| {
        let mut scanner = TarGzScanner::new(&limits(), Box::new(|_| Some(100)));
        let fed = bytes
            .chunks(piece)
            .try_for_each(|piece| scanner.feed(piece));
        fed.and_then(|()| scanner.finish()).ok()
    };
    let whole = scan(bytes.len().max(1));
    assert_eq!(whole, scan(7));
    if let Some(scan) = whole {
        transcode(Index::Tar(scan.index), bytes, ArchiveFormat::Zip);
    }
}

/// A deflate stream: taken as zlib takes it.
pub fn inflate(bytes: &[u8]) {
    let most = 4 << 20;
    let mut found = Vec::new();
    let mut gunzip = Gunzip::new(&Limits {
        inflated_bytes_max: most,
        ..limits()
    });
    let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0];
    let mut take = |mut piece: &[u8]| {
        loop {
            let (used, boundary) = gunzip.step(piece)?;
            piece = &piece[used..];
            gunzip.hash_output();
            found.extend_from_slice(gunzip.output());
            if used == 0 && boundary.is_none() && gunzip.output().is_empty() {
                return Ok::<(), GzipError>(());
            }
        }
    };
    let taken = take(&header).and_then(|()| bytes.chunks(11).try_for_each(take));
    if matches!(taken, Err(GzipError::TooLarge { .. })) {
        return;
    }
    let (status, expected) = zlib(bytes);
    match (status, taken) {
        // zlib keeps back what it made since the last full buffer before the damage.
        (Ended::Damaged, taken) => {
            assert!(matches!(taken, Err(GzipError::Damaged { .. })), "{taken:?}");
        }
        // zlib notices a code without any symbol only when it has used it.
        (Ended::Short, Err(GzipError::Damaged { .. })) => {
            let more = [bytes, &[0; 512]].concat();
            assert!(expected.starts_with(&found) && zlib(&more).0 == Ended::Damaged);
        }
        (Ended::Short, taken) => assert!(found == expected && taken.is_ok(), "{taken:?}"),
        (Ended::Whole, taken) => {
            assert!(found == expected && !matches!(taken, Err(GzipError::Damaged { .. })));
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Whole,
    /// More would have to follow.
    Short,
    Damaged,
}

/// What zlib makes of a deflate stream.
fn zlib(bytes: &[u8]) -> (Ended, Vec<u8>) {
    let (mut zlib, mut made) = (Decompress::new(false), Vec::new());
    loop {
        let (before, length) = (zlib.total_in(), made.len());
        made.reserve(1 << 16);
        let rest = bytes.get(before as usize..).unwrap_or_default();
        match zlib.decompress_vec(rest, &mut made, FlushDecompress::None) {
            Ok(Status::StreamEnd) => return (Ended::Whole, made),
            Ok(_) if zlib.total_in() == before && made.len() == length => {
                return (Ended::Short, made);
            }
            Ok(_) => (),
            Err(_) => return (Ended::Damaged, made),
        }
    }
}

/// A document: its first one read as the agent reads it, and all of it as settings are.
pub fn yaml(bytes: &[u8]) {
    let limits = yaml::Limits::default();
    let _ = yaml::parse_first(bytes, &limits);
    for document in yaml::parse(bytes, &limits).unwrap_or_default() {
        if let Ok(resolved) = yaml::resolve_aliases(&document, &limits) {
            let _ = yaml::duplicate_key(&resolved);
        }
    }
}

/// Deflate blocks that are kept: the bytes say what content is compressed how, and where it is damaged.
pub fn blocks(bytes: &[u8]) {
    let Some((recipe, rest)) = bytes.split_first_chunk::<16>() else {
        return;
    };
    let number = |at: usize| u64::from(u16::from_le_bytes([recipe[at], recipe[at + 1]]));
    let lengths = [number(0) * 8, (1 << 20) + number(2) * 16, number(4)];
    let mut state = number(6) | 1;
    let mut archive = Vec::new();
    let mut contents = Vec::new();
    for (at, length) in lengths.into_iter().enumerate() {
        let content = content(&mut state, rest, length as usize);
        archive.extend(tar_header(at, content.len()));
        archive.extend_from_slice(&content);
        archive.resize(archive.len().next_multiple_of(512), 0);
        contents.push(content);
    }
    archive.resize(archive.len() + 1_024, 0);
    let (level, cut) = (recipe[8] % 10, number(10) * 32 % archive.len() as u64);
    let (first, second) = archive.split_at(cut as usize);
    let mut source = member(first, level, number(12) * 8);
    source.extend(member(second, recipe[9] % 10, number(14) * 8));
    let mut scanner = TarGzScanner::new(&limits(), Box::new(|_| None));
    scanner.feed(&source).expect("it is a tar.gz");
    let index = scanner.finish().expect("it is whole").index;
    let made = transcode(Index::Tar(index), &source, ArchiveFormat::Zip);
    let made = made.expect("nothing is wrong with it");
    let zip = read_zip(&made).expect("it is a zip");
    for (at, content) in contents.iter().enumerate() {
        let span = zip.content_span(at).expect("it has a place");
        let found = zip.read_content(at, slice(&made, span), 8 << 20);
        assert!(found.as_ref() == Ok(content), "entry {at} of {lengths:?}");
    }
}

/// Bytes of any compressibility, out of what the fuzzer gave.
fn content(state: &mut u64, rest: &[u8], length: usize) -> Vec<u8> {
    let mut content = Vec::with_capacity(length);
    while content.len() < length {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        let roll = *state as usize;
        let run = 1 + (roll >> 8) % 4_000;
        match roll % 4 {
            0 if !rest.is_empty() => content.extend(rest.iter().cycle().take(run)),
            1 => content.extend(std::iter::repeat_n(roll as u8, run)),
            2 if !content.is_empty() => {
                let from = (roll >> 20) % content.len();
                content.extend_from_within(from..content.len().min(from + run));
            }
            _ => content.extend((0..run as u64).map(|at| (at.wrapping_mul(*state) >> 32) as u8)),
        }
    }
    content.truncate(length);
    content
}

fn tar_header(at: usize, size: usize) -> [u8; 512] {
    let mut header = [0; 512];
    header[..2].copy_from_slice(format!("f{at}").as_bytes());
    header[100..107].copy_from_slice(b"0000644");
    header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    header[136..147].copy_from_slice(b"14000000000");
    header[148..156].fill(b' ');
    header[156] = b'0';
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
    header
}

/// A gzip member that is flushed after `flush` bytes.
pub fn member(content: &[u8], level: u8, flush: u64) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    let mut compress = Compress::new(Compression::new(level.into()), false);
    let flush = (flush as usize).min(content.len());
    out.reserve(content.len() + content.len() / 100 + 10_000);
    let flushed = compress.compress_vec(&content[..flush], &mut out, FlushCompress::Sync);
    let rest = &content[compress.total_in() as usize..];
    let ended = compress.compress_vec(rest, &mut out, FlushCompress::Finish);
    assert!(flushed.is_ok() && matches!(ended, Ok(Status::StreamEnd)));
    out.extend(crc32fast::hash(content).to_le_bytes());
    out.extend((content.len() as u32).to_le_bytes());
    out
}

pub fn read_zip(bytes: &[u8]) -> Option<ZipIndex> {
    let mut reader = ZipReader::new(bytes.len() as u64, &limits());
    for _ in 0..STEPS_MAX {
        match reader.step().ok()? {
            zip::Step::Done(index) => return Some(index),
            zip::Step::Need(range) => reader.feed(range, slice(bytes, range)).ok()?,
        }
    }
    panic!(
        "a zip of {} bytes takes more than {STEPS_MAX} reads",
        bytes.len()
    );
}

/// All that can be kept of a source in another format. What comes out can be read, with every content's checksum.
fn transcode(index: Index, source: &[u8], target: ArchiveFormat) -> Option<Vec<u8>> {
    let kept = (0..index.len() as u32).filter(|at| {
        let entry = index.entry(*at as usize);
        entry.is_some_and(|entry| entry.kind != EntryKind::Special && !entry.encrypted)
    });
    let kept: Vec<KeptEntry> = kept
        .map(|index| KeptEntry {
            index,
            name: KeptName::Suffix { skip: 0 },
        })
        .collect();
    let entries = kept.len();
    let mut transcoder = Transcoder::new(Arc::new(index), kept, target, &limits()).ok()?;
    let (mut out, mut made) = (Output::default(), Vec::new());
    let mut put = |out: &mut Output| {
        for piece in out.take() {
            match piece {
                Piece::Bytes(bytes) => made.extend(bytes),
                Piece::Copied(range) => made.extend_from_slice(slice(source, range)),
            }
        }
        // What comes out is about as large as what was taken in, inflated, and its headers.
        assert!(made.len() as u64 <= 2 * limits().inflated_bytes_max + (8 << 20));
    };
    for range in transcoder.reads().to_vec() {
        let mut rest = slice(source, range);
        while !rest.is_empty() && transcoder.needs_more() {
            let taken = transcoder.feed(rest, &mut out).ok()?;
            rest = &rest[taken..];
            put(&mut out);
        }
    }
    while transcoder.finish(&mut out).ok()?.is_none() {
        put(&mut out);
    }
    put(&mut out);
    if target == ArchiveFormat::Zip {
        let zip = read_zip(&made);
        // A name that a zip cannot say makes one that is refused; a link that replaced another is left out.
        if let Some(zip) = zip {
            assert!(zip.len() <= entries);
            for at in 0..zip.len() {
                if let Ok(span) = zip.content_span(at) {
                    let content = zip.read_content(at, slice(&made, span), 64 << 20);
                    assert!(content.is_ok(), "entry {at}: {content:?}");
                }
            }
        }
    } else {
        let mut scanner = TarScanner::new(&limits());
        let scanned = scanner.feed(&made).and_then(|()| scanner.finish());
        assert!(scanned.is_ok(), "{scanned:?}");
    }
    Some(made)
}

fn slice(bytes: &[u8], range: ByteRange) -> &[u8] {
    let end = bytes.len().min(range.end as usize);
    bytes.get(range.start as usize..end).unwrap_or_default()
}
