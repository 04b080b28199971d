//! Writes a revision of another format: source bytes to jobs, jobs to all cores, what comes of them to parts.
//!
//! ```text
//! reads ahead -> front -> jobs on blocking threads -> assembler -> parts -> uploads, copies
//! ```

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes};
use futures_util::stream::{self, FuturesOrdered, StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

use super::{
    Cost, MultipartUploads, NewObject, ObjectStore, PartReceipt, RevisionError, Upload,
    WrittenObject, close,
};
use crate::archive::gzip::{BlockMap, Verifying};
use crate::artifact::Source;
use crate::object::ByteRange;
use crate::service_error::ServiceError;
use crate::transcode::{Assembler, Codec, DoneJob, Front, Job, Output, Piece};
use crate::transcode::{TranscodeError, Transcoder};

/// Bytes of one read of the source.
const WINDOW_BYTES: u64 = 4 << 20;
/// Reads ahead of the one at hand.
const READS_IN_FLIGHT: usize = 2;
/// Parts in flight at once.
const PARTS_IN_FLIGHT: usize = 2;
/// Least size of a part: what S3 asks of all but the last, since each is held in memory.
const PART_BYTES_MIN: u64 = 5 << 20;
/// Parts that bytes may be cut into, and copies, each: together well below S3's 10,000.
const PARTS_MAX: u64 = 4_500;
/// A range of the source that is worth a copy: shorter ones are read.
const COPY_BYTES_MIN: u64 = 16 << 20;
/// Bytes of one copy, well below what takes S3 longer than a request may.
const COPY_BYTES_MAX: u64 = 64 << 20;

/// A part on its way.
enum Part {
    Bytes(Bytes),
    Copy(ByteRange),
}

/// Writes a revision of another format.
///
/// # Errors
/// What went wrong; an upload under way is aborted.
pub async fn transcode<S: ObjectStore + MultipartUploads>(
    store: &S,
    source: &Source<'_, S>,
    transcoder: Transcoder,
    output_bytes_estimate: u64,
    object: &NewObject,
) -> Result<(WrittenObject, Cost), RevisionError> {
    let (send, mut receive) = mpsc::channel(1);
    let cutter = Cutter {
        source,
        blocks: transcoder.blocks(),
        send,
        part_bytes: PART_BYTES_MIN.max(output_bytes_estimate.div_ceil(PARTS_MAX)),
        copy_bytes: COPY_BYTES_MAX.max(output_bytes_estimate.div_ceil(PARTS_MAX)),
        buffer: Vec::new(),
        number: 0,
        cost: Cost::default(),
    };
    let uploading = async {
        let Some(first) = receive.recv().await else {
            return Ok(None);
        };
        let upload = store.begin(object).await?;
        let others = stream::poll_fn(move |context| receive.poll_recv(context));
        let receipts = stream::iter([first])
            .chain(others)
            .map(|(number, part)| send_part(store, source, &upload, number, part))
            .buffer_unordered(PARTS_IN_FLIGHT)
            .try_collect::<Vec<_>>()
            .await;
        Ok::<_, RevisionError>(Some((upload, receipts)))
    };
    let producing = produce(source, transcoder, cutter);
    let (produced, uploaded) = futures_util::join!(producing, uploading);
    match uploaded? {
        None => {
            let (last, mut cost) = produced?;
            cost.bytes_put += last.len() as u64;
            cost.size += last.len() as u64;
            Ok((store.put(object, last.into()).await?, cost))
        }
        Some((upload, receipts)) => {
            // Where parts could not be sent, their maker ended early, and knows of no error.
            let (receipts, cost) = match (receipts, produced) {
                (Err(error), _) => (Err(error.into()), Cost::default()),
                (_, Err(error)) => (Err(error), Cost::default()),
                (Ok(receipts), Ok((_, cost))) => (Ok(receipts), cost),
            };
            Ok((close(store, &upload, receipts).await?, cost))
        }
    }
}

async fn send_part<S: ObjectStore + MultipartUploads>(
    store: &S,
    source: &Source<'_, S>,
    upload: &Upload,
    number: u32,
    part: Part,
) -> Result<PartReceipt, ServiceError> {
    match part {
        Part::Bytes(bytes) => store.send_part(upload, number, bytes).await,
        Part::Copy(range) => store.copy_part(upload, number, &source.object, range).await,
    }
}

/// Runs a transcoding to its end. Gives the bytes that made no part, where no part was made.
async fn produce<S: ObjectStore + MultipartUploads>(
    source: &Source<'_, S>,
    transcoder: Transcoder,
    mut cutter: Cutter<'_, '_, S>,
) -> Result<(Vec<u8>, Cost), RevisionError> {
    let (mut front, mut assembler) = transcoder.into_parts();
    let workers = Workers::new();
    let mut running: FuturesOrdered<JoinHandle<Result<DoneJob, TranscodeError>>> =
        FuturesOrdered::new();
    let windows: Vec<ByteRange> = windows(front.reads()).collect();
    let mut reads = stream::iter(windows)
        .map(|window| source.read(window))
        .buffered(READS_IN_FLIGHT);
    let mut bytes = Bytes::new();
    let mut output = Output::default();
    loop {
        while running.len() <= workers.count {
            if let Some(job) = front.next_job() {
                running.push_back(workers.run(job));
                continue;
            }
            if front.has_ended() {
                break;
            }
            if bytes.is_empty()
                && front.needs_more()
                && let Some(read) = reads.next().await
            {
                bytes = read?;
                cutter.cost.bytes_got += bytes.len() as u64;
            }
            (front, bytes) = advance(front, bytes).await?;
        }
        let Some(done) = running.next().await else {
            break;
        };
        assembler.take(done.map_err(stopped)??, &mut output)?;
        if !cutter.take(&mut output).await? {
            return Ok(cutter.into_rest());
        }
    }
    finish(assembler, output, cutter).await
}

async fn finish<S: ObjectStore + MultipartUploads>(
    mut assembler: Assembler,
    mut output: Output,
    mut cutter: Cutter<'_, '_, S>,
) -> Result<(Vec<u8>, Cost), RevisionError> {
    while !assembler.finish(&mut output)? {
        if !cutter.take(&mut output).await? {
            return Ok(cutter.into_rest());
        }
    }
    if cutter.take(&mut output).await? && cutter.number > 0 && !cutter.buffer.is_empty() {
        let last = std::mem::take(&mut cutter.buffer);
        cutter.send(Part::Bytes(last.into())).await;
    }
    Ok(cutter.into_rest())
}

/// Inflates and cuts into entries until the next job is whole, on a thread that may be busy for that long.
async fn advance(mut front: Front, mut bytes: Bytes) -> Result<(Front, Bytes), RevisionError> {
    let advanced = spawn_blocking(move || {
        if !bytes.is_empty() && front.needs_more() {
            let taken = front.feed(&bytes)?;
            bytes.advance(taken);
        } else {
            front.finish()?;
        }
        Ok::<_, TranscodeError>((front, bytes))
    });
    Ok(advanced.await.map_err(stopped)??)
}

/// A blocking thread that stopped is this crate's mistake, or the process is ending.
fn stopped(_: JoinError) -> TranscodeError {
    TranscodeError::Interrupted
}

/// As many compressors as there are cores.
struct Workers {
    count: usize,
    codecs: Arc<Mutex<Vec<Codec>>>,
}

impl Workers {
    fn new() -> Self {
        Self {
            count: std::thread::available_parallelism().map_or(1, usize::from),
            codecs: Arc::default(),
        }
    }

    fn run(&self, job: Job) -> JoinHandle<Result<DoneJob, TranscodeError>> {
        let codecs = Arc::clone(&self.codecs);
        spawn_blocking(move || {
            let idle = codecs.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut codec = idle.unwrap_or_default();
            let done = job.run(&mut codec);
            codecs
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(codec);
            done
        })
    }
}

fn windows(ranges: &[ByteRange]) -> impl Iterator<Item = ByteRange> {
    ranges.iter().flat_map(|range| cut(*range, WINDOW_BYTES))
}

/// A range in pieces of these many bytes; the last one may be shorter.
fn cut(range: ByteRange, bytes: u64) -> impl Iterator<Item = ByteRange> {
    (0..range.length().div_ceil(bytes)).map(move |at| {
        let start = range.start + at * bytes;
        ByteRange::new(start, range.end.min(start + bytes))
    })
}

/// Cuts a target's pieces into parts.
struct Cutter<'a, 's, S> {
    source: &'a Source<'s, S>,
    /// What verifies bytes of the source that are read.
    blocks: Option<Arc<BlockMap>>,
    send: mpsc::Sender<(u32, Part)>,
    part_bytes: u64,
    copy_bytes: u64,
    buffer: Vec<u8>,
    /// Parts that were made.
    number: u32,
    cost: Cost,
}

impl<S: ObjectStore> Cutter<'_, '_, S> {
    /// Takes the next pieces; `false` where nobody takes parts any more.
    async fn take(&mut self, output: &mut Output) -> Result<bool, RevisionError> {
        for piece in output.take() {
            let goes_on = match piece {
                Piece::Bytes(bytes) => self.add(&bytes).await,
                Piece::Copied(range) => self.copy(range).await?,
            };
            if !goes_on {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn add(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let part_bytes = usize::try_from(self.part_bytes).unwrap_or(usize::MAX);
            let free = part_bytes.saturating_sub(self.buffer.len());
            let (now, later) = bytes.split_at_checked(free).unwrap_or((bytes, &[]));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() >= part_bytes {
                let part = std::mem::take(&mut self.buffer);
                if !self.send(Part::Bytes(part.into())).await {
                    return false;
                }
            }
        }
        true
    }

    /// Copies a range where it is long enough, else reads it. What is held must make a part first.
    async fn copy(&mut self, range: ByteRange) -> Result<bool, RevisionError> {
        let is_copied = range.length() >= COPY_BYTES_MIN;
        let missing = match (is_copied, self.buffer.len() as u64) {
            (false, _) => range.length(),
            (true, 0) => 0,
            (true, held) => PART_BYTES_MIN.saturating_sub(held),
        };
        let read = ByteRange::new(range.start, range.start + missing);
        if !self.add_read(read).await? {
            return Ok(false);
        }
        if !is_copied {
            return Ok(true);
        }
        if !self.buffer.is_empty() {
            let part = std::mem::take(&mut self.buffer);
            if !self.send(Part::Bytes(part.into())).await {
                return Ok(false);
            }
        }
        let rest = ByteRange::new(read.end, range.end);
        let copies = rest.length().div_ceil(self.copy_bytes).max(1);
        // Of one size, so that none is too small for a part.
        for range in cut(rest, rest.length().div_ceil(copies)) {
            if !self.send(Part::Copy(range)).await {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Adds bytes of the source, which are verified as far as they can be.
    async fn add_read(&mut self, range: ByteRange) -> Result<bool, RevisionError> {
        let blocks = self.blocks.clone();
        let wide = match &blocks {
            Some(blocks) if !range.is_empty() => blocks.widen(range),
            _ => range,
        };
        let mut verifying = Verifying::new(wide.start);
        for window in cut(wide, WINDOW_BYTES) {
            let bytes = self.source.read(window).await?;
            self.cost.bytes_got += bytes.len() as u64;
            if let Some(blocks) = &blocks {
                let verified = verifying.feed(blocks, &bytes);
                verified.map_err(TranscodeError::from)?;
            }
            let place = |at: u64| {
                let at = usize::try_from(at.saturating_sub(window.start));
                at.unwrap_or(usize::MAX).min(bytes.len())
            };
            let own = bytes.slice(place(range.start)..place(range.end));
            if !self.add(&own).await {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sends a part on; `false` where nobody takes it.
    async fn send(&mut self, part: Part) -> bool {
        self.number = self.number.saturating_add(1);
        match &part {
            Part::Bytes(bytes) => {
                self.cost.bytes_put += bytes.len() as u64;
                self.cost.size += bytes.len() as u64;
            }
            Part::Copy(range) => {
                self.cost.bytes_copied += range.length();
                self.cost.size += range.length();
            }
        }
        self.send.send((self.number, part)).await.is_ok()
    }

    fn into_rest(self) -> (Vec<u8>, Cost) {
        (self.buffer, self.cost)
    }
}
