//! A folder to the bytes of its zip, packed on all cores and handed on in order.
//!
//! Holds two jobs for each thread at a time, each of about a megabyte: memory does not grow with the folder.
//!
//! ```text
//! jobs in order ──▶ workers (read, deflate) ──▶ answers in the jobs' order ──▶ join ──▶ parts
//! ```

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use stagedrop::packing::{
    CHUNK_BYTES, HISTORY_BYTES, Joiner, MemberKind, Packed, PackedChunk, Packer, PackingError,
    WHOLE_BYTES_MAX,
};

use super::folder::{Folder, Found, read_content, threads};
use crate::cli::voice::Trouble;

/// Bytes of content after which a job of whole members is full.
const JOB_BYTES: u64 = 1 << 20;
/// Members after which it is.
const JOB_MEMBERS_MAX: usize = 256;
/// About the most bytes of a piece: a job that was not full before its last member, headers included.
const PIECE_BYTES_MAX: usize = (JOB_BYTES + WHOLE_BYTES_MAX) as usize + (256 << 10);

/// How far packing has come; read by whoever shows it.
#[derive(Debug, Default)]
pub struct Packing {
    /// Bytes of content packed.
    pub raw_bytes: AtomicU64,
}

/// Something to be done by one thread.
#[derive(Debug, Clone)]
enum Job {
    /// Packs these members whole.
    Whole(std::ops::Range<usize>),
    /// Packs one chunk of a member.
    Chunk {
        member: usize,
        start: u64,
        end: u64,
        is_first: bool,
        is_last: bool,
    },
}

enum Done {
    Whole(Packed),
    Chunk {
        chunk: PackedChunk,
        member: usize,
        is_first: bool,
        is_last: bool,
    },
}

/// Nobody takes the parts any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abandoned;

/// Why packing ended early.
pub enum PackTrouble {
    /// Nobody takes the parts any more.
    Abandoned,
    /// A file could not be packed.
    Trouble(Trouble),
}

/// Packs a folder; `take` gets parts of `part_bytes` in order, the last one shorter. Gives the zip's size.
pub fn pack(
    folder: &Folder,
    modified_seconds: i64,
    part_bytes: usize,
    packing: &Packing,
    mut take: impl FnMut(Bytes) -> Result<(), Abandoned>,
) -> Result<u64, PackTrouble> {
    let workers = threads();
    let (to_workers, jobs) = sync_channel::<(Job, SyncSender<Result<Done, Trouble>>)>(workers);
    let (to_join, answers) = sync_channel::<Receiver<Result<Done, Trouble>>>(workers * 2);
    let jobs = Mutex::new(jobs);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let mut packer = Packer::new(modified_seconds);
                let mut content = Vec::new();
                loop {
                    let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((job, answer)) = next else { return };
                    // Whoever does not listen any more has ended.
                    let _ = answer.send(carry_out(folder, &job, &mut packer, &mut content));
                }
            });
        }
        scope.spawn(move || {
            for job in plan(&folder.members) {
                let (answer, receiver) = sync_channel(1);
                if to_join.send(receiver).is_err() || to_workers.send((job, answer)).is_err() {
                    return;
                }
            }
        });
        let mut joiner = Joiner::new(modified_seconds);
        // Room for the piece that fills it, too: a part is not moved while it grows.
        let room = part_bytes.saturating_add(PIECE_BYTES_MAX);
        let mut part = Vec::with_capacity(room);
        let mut hand_on = |part: &mut Vec<u8>, all: bool| {
            while part.len() >= part_bytes || (all && !part.is_empty()) {
                let mut rest = Vec::with_capacity(if all { 0 } else { room });
                let end = part_bytes.min(part.len());
                rest.extend_from_slice(part.get(end..).unwrap_or_default());
                part.truncate(end);
                let full = std::mem::replace(part, rest);
                take(full.into()).map_err(|Abandoned| PackTrouble::Abandoned)?;
            }
            Ok::<(), PackTrouble>(())
        };
        for answer in answers {
            let done = match answer.recv() {
                Ok(done) => done.map_err(PackTrouble::Trouble)?,
                Err(_) => return Err(PackTrouble::Abandoned),
            };
            match done {
                Done::Whole(packed) => {
                    packing
                        .raw_bytes
                        .fetch_add(packed.raw_bytes, Ordering::Relaxed);
                    joiner.join(packed, &mut part);
                }
                Done::Chunk {
                    chunk,
                    member,
                    is_first,
                    is_last,
                } => {
                    let Some(found) = folder.members.get(member) else {
                        continue;
                    };
                    let named = |error: PackingError| trouble(folder, found, &error.to_string());
                    if is_first {
                        joiner
                            .begin_large(&found.member, found.bytes, &mut part)
                            .map_err(named)?;
                    }
                    packing
                        .raw_bytes
                        .fetch_add(chunk.raw_bytes, Ordering::Relaxed);
                    joiner.join_chunk(&chunk, &mut part);
                    if is_last {
                        joiner.end_large(&mut part).map_err(named)?;
                    }
                }
            }
            hand_on(&mut part, false)?;
        }
        let size = joiner
            .finish(&mut part)
            .map_err(|error| PackTrouble::Trouble(error.to_string().into()))?;
        hand_on(&mut part, true)?;
        Ok(size)
    })
}

fn trouble(folder: &Folder, found: &Found, message: &str) -> PackTrouble {
    PackTrouble::Trouble(member_trouble(folder, found, message))
}

fn member_trouble(folder: &Folder, found: &Found, message: &str) -> Trouble {
    let path = folder.path(&found.member);
    Trouble::new(
        format!("{}: {message}", path.display()),
        "let nothing write into the folder while it is pushed, or leave the file out with --exclude",
    )
}

/// The jobs in the members' order.
fn plan(members: &[Found]) -> impl Iterator<Item = Job> {
    let mut next = 0;
    let mut chunked_to: u64 = 0;
    std::iter::from_fn(move || {
        let first = members.get(next)?;
        if first.bytes > WHOLE_BYTES_MAX && first.member.kind == MemberKind::File {
            let start = chunked_to;
            let end = start.saturating_add(CHUNK_BYTES as u64).min(first.bytes);
            let is_last = end == first.bytes;
            let job = Job::Chunk {
                member: next,
                start,
                end,
                is_first: start == 0,
                is_last,
            };
            chunked_to = if is_last { 0 } else { end };
            next += usize::from(is_last);
            return Some(job);
        }
        let start = next;
        let mut bytes: u64 = 0;
        while let Some(found) = members.get(next) {
            let is_large = found.bytes > WHOLE_BYTES_MAX && found.member.kind == MemberKind::File;
            if is_large || bytes >= JOB_BYTES || next - start >= JOB_MEMBERS_MAX {
                break;
            }
            bytes = bytes.saturating_add(found.bytes);
            next += 1;
        }
        Some(Job::Whole(start..next))
    })
}

/// `content` is room for what is read, kept from job to job.
fn carry_out(
    folder: &Folder,
    job: &Job,
    packer: &mut Packer,
    content: &mut Vec<u8>,
) -> Result<Done, Trouble> {
    match job {
        Job::Whole(range) => {
            let mut packed = Packed::default();
            for found in folder.members.get(range.clone()).unwrap_or_default() {
                content.clear();
                // One byte more than there should be, so that the end is seen without more room.
                content.reserve(usize::try_from(found.bytes).unwrap_or_default() + 1);
                let path = folder.path(&found.member);
                read_content(&path, found.member.kind, WHOLE_BYTES_MAX + 1, content)
                    .map_err(|error| member_trouble(folder, found, &error.to_string()))?;
                if content.len() as u64 > WHOLE_BYTES_MAX {
                    return Err(member_trouble(folder, found, "file grew while it was read"));
                }
                packer
                    .pack(&found.member, content, &mut packed)
                    .map_err(|error| member_trouble(folder, found, &error.to_string()))?;
            }
            Ok(Done::Whole(packed))
        }
        Job::Chunk {
            member,
            start,
            end,
            is_first,
            is_last,
        } => {
            let Some(found) = folder.members.get(*member) else {
                return Err("a member that is none was to be packed".to_owned().into());
            };
            let named = |message: String| member_trouble(folder, found, &message);
            let from = start.saturating_sub(HISTORY_BYTES as u64);
            let mut bytes = vec![0; usize::try_from(end - from).unwrap_or_default()];
            let file =
                File::open(folder.path(&found.member)).map_err(|error| named(error.to_string()))?;
            file.read_exact_at(&mut bytes, from)
                .map_err(|_| named("file shrank while it was read".to_owned()))?;
            if *is_last && file.metadata().is_ok_and(|status| status.len() != *end) {
                return Err(named("file grew while it was read".to_owned()));
            }
            let history = usize::try_from(start - from).unwrap_or_default();
            let (history, chunk) = bytes.split_at_checked(history).unwrap_or_default();
            let chunk = packer
                .chunk(history, chunk, *is_last)
                .map_err(|error| named(error.to_string()))?;
            Ok(Done::Chunk {
                chunk,
                member: *member,
                is_first: *is_first,
                is_last: *is_last,
            })
        }
    }
}

/// An archive as it lies there, in parts.
pub fn read_parts(
    path: &Path,
    part_bytes: usize,
    packing: &Packing,
    mut take: impl FnMut(Bytes) -> Result<(), Abandoned>,
) -> Result<(), PackTrouble> {
    let trouble = |error: std::io::Error| PackTrouble::Trouble(Trouble::with_file(path, &error));
    let mut file = File::open(path).map_err(trouble)?;
    loop {
        let mut part = Vec::with_capacity(part_bytes);
        let read = (&mut file)
            .take(part_bytes as u64)
            .read_to_end(&mut part)
            .map_err(trouble)?;
        if read == 0 {
            return Ok(());
        }
        packing.raw_bytes.fetch_add(read as u64, Ordering::Relaxed);
        take(part.into()).map_err(|Abandoned| PackTrouble::Abandoned)?;
    }
}
