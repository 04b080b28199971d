//! Carries a splice out: the requests of a [`PartPlan`], all that can go at once at once, in bounded memory.
//!
//! ```text
//! copies, joins   [32 in flight] ---------------------------------------------> receipts
//! bodies          reads [5 in flight] -> put together -> sends ------------------> receipts -> complete
//!                                     -> verified ---------------------------------------------^
//! ```
//!
//! Knows no formats and decides nothing. It reads at once, and writes when it is told that it may. What is begun is
//! ended: after a failure no request is begun, those in flight run out (S3 may do what nobody waits for), then
//! uploads are aborted and temporary objects deleted. What a crash leaves is the bucket's lifecycle rules' to take.

mod ending;

use std::future::ready;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::select;
use futures_util::stream::{self, StreamExt};
use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore, SetOnce, mpsc};
use tokio::task::spawn_blocking;

use super::{
    Cost, MultipartUploads, NewObject, ObjectStore, PartReceipt, RevisionError, Upload,
    WrittenObject,
};
use crate::artifact::Source;
use crate::deployment::Region;
use crate::object::{ByteRange, S3Prefix, SourceObject};
use crate::service_error::{Kind, ServiceError};
use crate::splice::cost::{COPIES_IN_FLIGHT, READS_IN_FLIGHT, SENDS_IN_FLIGHT};
use crate::splice::parts::{self, Delivery, Join, Part, PartPlan};
use crate::splice::{Assembler, SplicePlan};
use crate::verify::Verifier;

/// Bodies in memory: one is put together as its bytes come, which takes as long as sending one.
const BODIES_HELD: usize = SENDS_IN_FLIGHT;
/// Reads ahead of a pass over the whole source, which are larger.
const WINDOWS_IN_FLIGHT: usize = 2;
/// Reads that are worked on: one is put together, two wait to be verified or are.
const READS_DONE: usize = 3;
/// KiB of bodies and of what they are made of, of all joins in flight; one that needs more goes alone.
const JOIN_KIB_IN_FLIGHT: u32 = 16 << 10;
/// Times that an upload is made anew because of a conflict (409), as S3 wants it.
const CONFLICTS_MAX: u32 = 2;
/// Time kept back for aborting and deleting what was begun.
const CLEANING_TIME: Duration = Duration::from_secs(4);
/// Of it, time for requests that are in flight when the time is over.
const RUNNING_OUT_TIME: Duration = Duration::from_secs(2);
/// Of it, time to tell how it ended.
const TELLING_TIME: Duration = Duration::from_secs(1);
/// A transfer is not begun where even a network so many times as fast as the model would not do.
const FASTER_THAN_THE_MODEL: f64 = 4.0;

/// Where temporary objects go, and what time there is.
#[derive(Debug, Clone)]
pub struct Workplace<'a> {
    /// The prefix of temporary objects.
    pub temporary: S3Prefix,
    /// The region of its bucket.
    pub region: Region,
    /// Set when anything may be written.
    pub may_write: &'a SetOnce<()>,
    /// When all has to be over.
    pub until: Timestamp,
}

/// What is verified beside the transfer. Nothing is completed before it is content.
#[derive(Debug)]
pub enum Check {
    /// Headers that are rewritten alone.
    Nothing,
    /// Also every byte that passes.
    Passing(Verifier),
    /// Also what S3 copies by itself: all of the source is read for it.
    Everything(Verifier),
}

/// One transfer.
struct Transfer<'a, S> {
    store: &'a S,
    source: &'a Source<'a, S>,
    plan: &'a SplicePlan<'a>,
    parts: &'a PartPlan,
    object: &'a NewObject,
    check: &'a Check,
    workplace: &'a Workplace<'a>,
    /// What was begun and is not ended yet.
    begun: Mutex<Vec<Begun>>,
    /// The first failure: from then on no request is begun.
    failure: Mutex<Option<RevisionError>>,
    /// Wakes who waits for something else meanwhile.
    has_failed: Notify,
    joining: Semaphore,
}

/// Source bytes that were read.
#[derive(Debug, Clone)]
struct Read {
    start: u64,
    bytes: Bytes,
}

/// The transfer has failed; its first failure is noted in it.
#[derive(Debug)]
struct Stopped;

/// Something that must not stay.
#[derive(Debug, Clone, PartialEq)]
enum Begun {
    Upload(Upload),
    Temporary(NewObject, WrittenObject),
}

/// Writes a spliced revision: the requests of `parts`, whose bodies `plan` puts together. Before
/// [`Workplace::may_write`] is set it only reads.
///
/// # Errors
/// What went wrong; nothing that was begun is left behind then. [`RevisionError::OutOfTime`] comes early
/// where it can be known.
pub async fn carry_out<S: ObjectStore + MultipartUploads>(
    store: &S,
    source: &Source<'_, S>,
    plan: &SplicePlan<'_>,
    parts: &PartPlan,
    object: &NewObject,
    check: &Check,
    workplace: &Workplace<'_>,
) -> Result<(WrittenObject, Cost), RevisionError> {
    let left = time_left(workplace.until);
    if parts.seconds / FASTER_THAN_THE_MODEL > left.as_secs_f64() {
        return Err(out_of_time(parts, left));
    }
    let transfer = Transfer {
        store,
        source,
        plan,
        parts,
        object,
        check,
        workplace,
        begun: Mutex::default(),
        failure: Mutex::default(),
        has_failed: Notify::new(),
        joining: Semaphore::new(JOIN_KIB_IN_FLIGHT as usize),
    };
    let mut conflicts = 0;
    let written = loop {
        let left = time_left(workplace.until);
        let mut running = pin!(transfer.run());
        let written = match tokio::time::timeout(left, &mut running).await {
            Ok(written) => written,
            Err(_) => {
                let stopped = transfer.fail(out_of_time(parts, left));
                let running_out = tokio::time::timeout(RUNNING_OUT_TIME, running).await;
                running_out.unwrap_or(Err(stopped))
            }
        };
        let left = until_then(workplace.until).saturating_sub(TELLING_TIME);
        if tokio::time::timeout(left, transfer.clean()).await.is_err() {
            tracing::warn!("what was begun for a revision stays: no time was left to end it");
        }
        match (written, transfer.failure().take()) {
            (Ok(written), _) => break written,
            (Err(Stopped), Some(RevisionError::Service(error)))
                if error.kind == Kind::Conflict && conflicts < CONFLICTS_MAX =>
            {
                conflicts += 1;
            }
            (Err(Stopped), failure) => return Err(failure.unwrap_or(out_of_time(parts, left))),
        }
    };
    let cost = Cost {
        size: plan.output_size(),
        bytes_copied: parts.traffic.copied_bytes,
        bytes_got: parts.traffic.got_bytes,
        bytes_put: parts.traffic.put_bytes,
    };
    Ok((written, cost))
}

/// Time that a transfer may take.
fn time_left(until: Timestamp) -> Duration {
    until_then(until).saturating_sub(CLEANING_TIME)
}

fn until_then(then: Timestamp) -> Duration {
    Duration::try_from(Timestamp::now().duration_until(then)).unwrap_or_default()
}

fn out_of_time(parts: &PartPlan, left: Duration) -> RevisionError {
    RevisionError::OutOfTime {
        seconds: parts.seconds,
        seconds_left: left.as_secs_f64(),
    }
}

impl<S: ObjectStore + MultipartUploads> Transfer<'_, S> {
    async fn run(&self) -> Result<WrittenObject, Stopped> {
        let verifying = self.verify_everything();
        match &self.parts.delivery {
            Delivery::CopyObject => {
                verifying.await?;
                self.wait_to_write().await?;
                let copying = self.store.copy(self.object, &self.source.object);
                self.step(copying).await
            }
            Delivery::PutObject(upload) => {
                let making = self.step(self.checked_body(upload));
                let (body, verified) = futures_util::join!(making, verifying);
                verified?;
                let body = body?;
                self.wait_to_write().await?;
                self.step(self.store.put(self.object, body)).await
            }
            Delivery::Multipart(list) => {
                let (read, reads) = mpsc::channel(READS_IN_FLIGHT);
                let gets = numbered_uploads(list).flat_map(|(_, body)| body.gets().iter().copied());
                let reading = self.read_ahead(gets, read);
                let writing = async {
                    // Gone with this future, so that the reads end when it does.
                    let reads = reads;
                    self.wait_to_write().await?;
                    let upload = self.step(self.store.begin(self.object)).await?;
                    self.note(Begun::Upload(upload.clone()));
                    let (copied, sent) = futures_util::join!(
                        self.copy_all(&upload, list),
                        self.send_all(&upload, list, reads),
                    );
                    let mut receipts = copied?;
                    receipts.extend(sent?);
                    receipts.sort_by_key(|receipt| receipt.number);
                    Ok((upload, receipts))
                };
                let ((), written, verified) = futures_util::join!(reading, writing, verifying);
                verified?;
                let (upload, receipts) = written?;
                let written = self.step(self.store.complete(&upload, &receipts)).await?;
                self.forget(&Begun::Upload(upload));
                Ok(written)
            }
        }
    }

    /// Waits until anything may be written.
    async fn wait_to_write(&self) -> Result<(), Stopped> {
        // It hears of what fails from here on.
        let failing = self.has_failed.notified();
        self.go_on()?;
        select(pin!(self.workplace.may_write.wait()), pin!(failing)).await;
        self.go_on()
    }

    /// What S3 copies: joins first, because each is a chain of requests.
    async fn copy_all(&self, upload: &Upload, list: &[Part]) -> Result<Vec<PartReceipt>, Stopped> {
        let numbered = || (1_u32..).zip(list);
        let joins = numbered().filter(|(_, part)| matches!(part, Part::Join(_)));
        let copies = numbered().filter(|(_, part)| matches!(part, Part::Copy(_)));
        let receipts: Vec<_> = stream::iter(joins.chain(copies))
            .map(|(number, part)| async move {
                Ok(match part {
                    Part::Join(join) => Some(self.join(upload, number, join).await?),
                    Part::Copy(range) => {
                        let source = &self.source.object;
                        let copying = self.store.copy_part(upload, number, source, *range);
                        Some(self.step(copying).await?)
                    }
                    Part::Upload(_) => None,
                })
            })
            .buffer_unordered(COPIES_IN_FLIGHT)
            .filter_map(|receipt| ready(receipt.transpose()))
            .collect()
            .await;
        receipts.into_iter().collect()
    }

    /// Sends bodies while the next ones are put together out of reads, which come in the order of their gets.
    async fn send_all(
        &self,
        upload: &Upload,
        list: &[Part],
        reads: mpsc::Receiver<Read>,
    ) -> Result<Vec<PartReceipt>, Stopped> {
        let room = Semaphore::new(BODIES_HELD);
        let (passed, passing) = mpsc::channel(1);
        let (sender, mut receiver) = mpsc::channel(BODIES_HELD);
        let making = async {
            let (mut reads, passed, sender) = (reads, passed, sender);
            for (number, body) in numbered_uploads(list) {
                // The semaphore is never closed, and the other end stays until this one is gone.
                let held = room.acquire().await;
                let making = self.assemble(body, &mut reads, &passed);
                let made = self.step(making).await?;
                if sender.send((number, made, held)).await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        let verifying = self.step(self.verify_passing(self.parts.passing(), passing));
        let sending = stream::poll_fn(move |context| receiver.poll_recv(context))
            .map(|(number, body, held)| async move {
                let receipt = self.step(self.store.send_part(upload, number, body)).await;
                drop(held);
                receipt
            })
            .buffer_unordered(SENDS_IN_FLIGHT)
            .collect::<Vec<_>>();
        let (verified, made, receipts) = futures_util::join!(verifying, making, sending);
        verified.and(made)?;
        receipts.into_iter().collect()
    }

    /// A part that is put together in a temporary object.
    async fn join(
        &self,
        upload: &Upload,
        number: u32,
        join: &Join,
    ) -> Result<PartReceipt, Stopped> {
        let longest_first = {
            let mut lengths: Vec<_> = join.upload.gets().iter().map(ByteRange::length).collect();
            lengths.sort_unstable_by(|a, b| b.cmp(a));
            lengths
        };
        let reads_held = READS_IN_FLIGHT + READS_DONE;
        let reads: u64 = longest_first.iter().take(reads_held).sum();
        let kib = reads
            .saturating_add(join.upload.output_bytes())
            .div_ceil(1024);
        let kib = u32::try_from(kib)
            .unwrap_or(u32::MAX)
            .min(JOIN_KIB_IN_FLIGHT);
        let object = self.step(ready(self.temporary(upload, number))).await?;
        let temporary = self.step(self.store.begin(&object)).await?;
        let begun = Begun::Upload(temporary.clone());
        self.note(begun.clone());
        let source = &self.source.object;
        let copying = self.step(self.store.copy_part(&temporary, 1, source, join.copied));
        let sending = async {
            // The semaphore is never closed.
            let _permit = self.joining.acquire_many(kib).await;
            let body = self.step(self.checked_body(&join.upload)).await?;
            self.step(self.store.send_part(&temporary, 2, body)).await
        };
        let (copied, sent) = futures_util::join!(copying, sending);
        let parts = [copied?, sent?];
        let written = self.step(self.store.complete(&temporary, &parts)).await?;
        let done = Begun::Temporary(object.clone(), written.clone());
        self.note(done.clone());
        self.forget(&begun);
        let source = SourceObject {
            bucket: object.bucket.clone(),
            key: object.key.clone(),
            version_id: written.version_id.clone(),
            etag: written.etag.clone(),
            size: join.length(),
        };
        let whole = ByteRange::new(0, join.length());
        let copying = self.store.copy_part(upload, number, &source, whole);
        let receipt = self.step(copying).await?;
        self.end(done).await;
        Ok(receipt)
    }

    /// The temporary object of a part; no other attempt has the same.
    fn temporary(&self, upload: &Upload, number: u32) -> Result<NewObject, RevisionError> {
        let name = format!("{}/{number}", upload.upload_id);
        let key = self.workplace.temporary.key(&name).map_err(|error| {
            RevisionError::Service(ServiceError {
                operation: "CreateMultipartUpload",
                resource: self.workplace.temporary.to_string(),
                kind: Kind::Refused,
                code: None,
                message: error.to_string(),
            })
        })?;
        Ok(NewObject {
            region: self.workplace.region.clone(),
            bucket: self.workplace.temporary.bucket.clone(),
            key,
            metadata: Default::default(),
            content_type: "application/octet-stream",
            replace: true,
            is_revision: false,
        })
    }

    /// `verify: full`: one pass over the source, beside everything else.
    async fn verify_everything(&self) -> Result<(), Stopped> {
        let Check::Everything(verifier) = self.check else {
            return Ok(());
        };
        let whole = ByteRange::new(0, self.source.object.size);
        let (read, reads) = mpsc::channel(WINDOWS_IN_FLIGHT);
        let verifying = async {
            // Gone with this future, so that the reads end when it does.
            let mut reads = reads;
            let mut verifier = verifier.over(vec![whole]);
            while let Some(read) = reads.recv().await {
                verifier = self.step(verify(verifier, read)).await?;
            }
            self.step(ready(verifier.finish())).await
        };
        let reading = self.read_ahead(self.source.windows(), read);
        futures_util::join!(reading, verifying).1.map(|_| ())
    }

    /// The body of one upload, and what passes for it verified.
    async fn checked_body(&self, upload: &parts::Upload) -> Result<Bytes, RevisionError> {
        let (read, reads) = mpsc::channel(READS_IN_FLIGHT);
        let (passed, passing) = mpsc::channel(1);
        let making = async {
            let (mut reads, passed) = (reads, passed);
            self.assemble(upload, &mut reads, &passed).await
        };
        let ((), verified, body) = futures_util::join!(
            self.read_ahead(upload.gets().iter().copied(), read),
            self.verify_passing(upload.passing(), passing),
            making,
        );
        // The verifier misses what did not come, and that is not what went wrong then.
        let body = body?;
        verified.map(|()| body)
    }

    /// Reads ranges in their order, while what came before is worked on, until one fails or nobody wants them.
    /// As many are in flight or wait as the channel holds.
    async fn read_ahead(
        &self,
        ranges: impl IntoIterator<Item = ByteRange>,
        sender: mpsc::Sender<Read>,
    ) {
        let reads = stream::iter(ranges).map(|range| {
            let place = sender.reserve();
            async move {
                let place = place.await.map_err(|_| Stopped)?;
                let bytes = self.step(self.source.read(range)).await?;
                let start = range.start;
                Ok::<_, Stopped>((place, Read { start, bytes }))
            }
        });
        let mut reads = reads.buffered(sender.max_capacity());
        let reading = async {
            while let Some(Ok((place, read))) = reads.next().await {
                place.send(read);
            }
        };
        select(pin!(reading), pin!(sender.closed())).await;
    }

    /// Puts a body together out of reads, which come in the order of its gets, and passes them on.
    async fn assemble(
        &self,
        upload: &parts::Upload,
        reads: &mut mpsc::Receiver<Read>,
        passed: &mpsc::Sender<Read>,
    ) -> Result<Bytes, RevisionError> {
        let mut assembler = Assembler::new(self.plan, upload);
        for _ in upload.gets() {
            // Where a read fails, that is noted, and none comes after it.
            let Some(read) = reads.recv().await else {
                break;
            };
            // A verifier that takes no more says itself what is wrong.
            let _ = passed.send(read.clone()).await;
            assembler.feed(read.start, &read.bytes)?;
        }
        Ok(assembler.finish()?.into())
    }

    /// Verifies what passes, where it is to be.
    async fn verify_passing(
        &self,
        ranges: Vec<ByteRange>,
        mut passing: mpsc::Receiver<Read>,
    ) -> Result<(), RevisionError> {
        let mut verifier = match self.check {
            Check::Passing(verifier) => Some(verifier.over(ranges)),
            Check::Nothing | Check::Everything(_) => None,
        };
        while let Some(read) = passing.recv().await {
            if let Some(before) = verifier {
                verifier = Some(verify(before, read).await?);
            }
        }
        if let Some(verifier) = verifier {
            verifier.finish()?;
        }
        Ok(())
    }

    /// Awaits what can fail, unless the transfer has failed already.
    async fn step<T, E: Into<RevisionError>>(
        &self,
        step: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Stopped> {
        self.go_on()?;
        step.await.map_err(|error| self.fail(error.into()))
    }

    /// Not after a failure.
    fn go_on(&self) -> Result<(), Stopped> {
        match *self.failure() {
            Some(_) => Err(Stopped),
            None => Ok(()),
        }
    }

    /// Notes a failure; what follows from the first one is not told.
    fn fail(&self, error: RevisionError) -> Stopped {
        self.failure().get_or_insert(error);
        self.has_failed.notify_waiters();
        Stopped
    }

    fn failure(&self) -> std::sync::MutexGuard<'_, Option<RevisionError>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begun(&self) -> std::sync::MutexGuard<'_, Vec<Begun>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, begun: Begun) {
        self.begun().push(begun);
    }

    fn forget(&self, ended: &Begun) {
        self.begun().retain(|begun| begun != ended);
    }
}

/// The parts that pass, by number.
fn numbered_uploads(list: &[Part]) -> impl Iterator<Item = (u32, &parts::Upload)> {
    (1_u32..).zip(list).filter_map(|(number, part)| match part {
        Part::Upload(body) => Some((number, body)),
        Part::Copy(_) | Part::Join(_) => None,
    })
}

/// Verifies on a thread that may be busy for that long, so that requests go on meanwhile.
async fn verify(mut verifier: Verifier, read: Read) -> Result<Verifier, RevisionError> {
    let verifying = spawn_blocking(move || {
        verifier.feed(read.start, &read.bytes)?;
        Ok(verifier)
    });
    verifying.await.map_err(|_| RevisionError::Interrupted)?
}

#[cfg(test)]
mod tests;
