//! Parts as they come, sent side by side; an upload that is not completed is aborted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use stagedrop::revision::{
    MultipartUploads, NewObject, ObjectStore, PartReceipt, Upload, WrittenObject,
};
use stagedrop::service_error::{Kind, ServiceError};
use tokio::sync::mpsc::Receiver;

use crate::cli::interrupt::{Interrupt, Interrupted};
use crate::cli::voice::Trouble;

/// Parts in flight at once.
const SENDS_IN_FLIGHT: usize = 4;
/// A part that was in flight may still arrive after the upload was aborted, and then lies there: S3 wants
/// the abortion repeated (`AbortMultipartUpload`, API reference).
const ABORT_AGAIN_AFTER: Duration = Duration::from_millis(400);

/// What became of an upload.
pub enum Outcome {
    /// It is there.
    Written(WrittenObject),
    /// It was interrupted and is not written; what could not be tidied up.
    Interrupted(Interrupted, Option<Trouble>),
    /// It was interrupted while S3 had all of it: it may have been written.
    InterruptedUnsure(Interrupted),
}

/// What is uploaded.
pub struct Sending<'a> {
    /// What it becomes.
    pub object: &'a NewObject,
    /// Bytes of all parts but the last, which is shorter or not there.
    pub part_bytes: usize,
    /// Where it says so, when S3 did not tell what became of the object.
    pub may_be_staged: &'a str,
    /// Bytes that S3 has.
    pub sent_bytes: &'a AtomicU64,
}

/// Sends all parts. `source` ends after the last part and tells whether that was all.
pub async fn upload<S: ObjectStore + MultipartUploads>(
    store: &S,
    sending: &Sending<'_>,
    mut parts: Receiver<Bytes>,
    source: impl Future<Output = Result<(), Trouble>>,
    interrupt: &mut Interrupt,
) -> Result<Outcome, Trouble> {
    let Sending {
        object,
        part_bytes,
        may_be_staged,
        sent_bytes,
    } = *sending;
    let unsure = |error: ServiceError| unsure(error, may_be_staged);
    let first = tokio::select! {
        first = parts.recv() => first.unwrap_or_default(),
        interrupted = interrupt.heard() => return Ok(Outcome::Interrupted(interrupted, None)),
    };
    if first.len() < part_bytes {
        source.await?;
        let size = first.len() as u64;
        return tokio::select! {
            written = store.put(object, first) => {
                sent_bytes.fetch_add(size, Ordering::Relaxed);
                written.map(Outcome::Written).map_err(unsure)
            }
            interrupted = interrupt.heard() => Ok(Outcome::InterruptedUnsure(interrupted)),
        };
    }
    // Neither beginning nor completing is broken off: what S3 made of it would not be known.
    let upload = store.begin(object).await?;
    let sending = send_all(store, &upload, first, &mut parts, sent_bytes);
    let sent = tokio::select! {
        sent = sending => sent,
        interrupted = interrupt.heard() => {
            return Ok(Outcome::Interrupted(interrupted, abort(store, &upload).await));
        }
    };
    drop(parts);
    let written = match sent {
        Ok(receipts) => match source.await {
            Ok(()) => store.complete(&upload, &receipts).await.map_err(unsure),
            Err(trouble) => Err(trouble),
        },
        Err(trouble) => Err(trouble),
    };
    match written {
        Ok(written) => Ok(Outcome::Written(written)),
        Err(trouble) => {
            if let Some(left) = abort(store, &upload).await {
                left.print();
            }
            Err(trouble)
        }
    }
}

/// An error of the request that makes the object. An upload that is gone was completed by a request whose
/// answer was lost, and one without an answer may have been.
fn unsure(error: ServiceError, may_be_staged: &str) -> Trouble {
    let is_unsure = match error.kind {
        Kind::NotFound => error.has_code("NoSuchUpload"),
        kind => kind == Kind::Unavailable,
    };
    let mut trouble = Trouble::from(error);
    if is_unsure {
        trouble.cure = Some(may_be_staged.to_owned());
    }
    trouble
}

async fn send_all<S: MultipartUploads>(
    store: &S,
    upload: &Upload,
    first: Bytes,
    parts: &mut Receiver<Bytes>,
    sent_bytes: &AtomicU64,
) -> Result<Vec<PartReceipt>, Trouble> {
    let mut in_flight = FuturesUnordered::new();
    let mut receipts: Vec<PartReceipt> = Vec::new();
    let mut number = 1_u32;
    let send = |number: u32, body: Bytes| async move {
        let size = body.len() as u64;
        let receipt = store.send_part(upload, number, body).await?;
        sent_bytes.fetch_add(size, Ordering::Relaxed);
        Ok::<_, Trouble>(receipt)
    };
    in_flight.push(send(number, first));
    let mut is_open = true;
    while is_open || !in_flight.is_empty() {
        tokio::select! {
            body = parts.recv(), if is_open && in_flight.len() < SENDS_IN_FLIGHT => match body {
                Some(body) => {
                    number += 1;
                    in_flight.push(send(number, body));
                }
                None => is_open = false,
            },
            Some(receipt) = in_flight.next() => receipts.push(receipt?),
        }
    }
    receipts.sort_by_key(|receipt| receipt.number);
    Ok(receipts)
}

/// Aborts an upload, twice; what is left of it where S3 does not let us.
async fn abort<S: MultipartUploads>(store: &S, upload: &Upload) -> Option<Trouble> {
    for attempt in 0..2 {
        match store.abort(upload).await {
            Ok(()) => {}
            Err(error) if error.kind == Kind::NotFound => return None,
            Err(error) => {
                return Some(Trouble::new(
                    format!(
                        "upload {} could not be aborted, its parts are left: {error}",
                        upload.upload_id
                    ),
                    "allow s3:AbortMultipartUpload, and let a lifecycle rule abort incomplete uploads",
                ));
            }
        }
        if attempt == 0 {
            tokio::time::sleep(ABORT_AGAIN_AFTER).await;
        }
    }
    None
}
