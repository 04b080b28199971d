//! Parts as they come, sent side by side; an upload that is not completed is aborted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use stagedrop::revision::{
    MultipartUploads, NewObject, ObjectStore, PartReceipt, Upload, WrittenObject,
};
use stagedrop::service_error::Kind;
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
    /// It was interrupted, and nothing of it is left.
    Interrupted(Interrupted),
}

/// Sends all parts. `source` ends after the last part and tells whether that was all.
pub async fn upload<S: ObjectStore + MultipartUploads>(
    store: &S,
    object: &NewObject,
    mut parts: Receiver<Bytes>,
    source: impl Future<Output = Result<(), Trouble>>,
    sent_bytes: &AtomicU64,
    interrupt: &mut Interrupt,
) -> Result<Outcome, Trouble> {
    let first_two = async { (parts.recv().await, parts.recv().await) };
    let (first, second) = tokio::select! {
        two = first_two => two,
        interrupted = interrupt.heard() => return Ok(Outcome::Interrupted(interrupted)),
    };
    let Some(second) = second else {
        source.await?;
        let body = first.unwrap_or_default();
        let size = body.len() as u64;
        return tokio::select! {
            written = store.put(object, body) => {
                sent_bytes.fetch_add(size, Ordering::Relaxed);
                Ok(Outcome::Written(written?))
            }
            interrupted = interrupt.heard() => Ok(Outcome::Interrupted(interrupted)),
        };
    };
    // Neither beginning nor completing is broken off: what S3 made of it would not be known.
    let upload = store.begin(object).await?;
    let sending = send_all(
        store,
        &upload,
        [first.unwrap_or_default(), second],
        &mut parts,
        sent_bytes,
    );
    let sent = tokio::select! {
        sent = sending => sent,
        interrupted = interrupt.heard() => {
            abort(store, &upload).await?;
            return Ok(Outcome::Interrupted(interrupted));
        }
    };
    drop(parts);
    let written = match sent {
        Ok(receipts) => match source.await {
            Ok(()) => store
                .complete(&upload, &receipts)
                .await
                .map_err(Trouble::from),
            Err(trouble) => Err(trouble),
        },
        Err(trouble) => Err(trouble),
    };
    match written {
        Ok(written) => Ok(Outcome::Written(written)),
        Err(trouble) => {
            abort(store, &upload).await?;
            Err(trouble)
        }
    }
}

async fn send_all<S: MultipartUploads>(
    store: &S,
    upload: &Upload,
    first_two: [Bytes; 2],
    parts: &mut Receiver<Bytes>,
    sent_bytes: &AtomicU64,
) -> Result<Vec<PartReceipt>, Trouble> {
    let mut in_flight = FuturesUnordered::new();
    let mut receipts: Vec<PartReceipt> = Vec::new();
    let mut number = 0_u32;
    let send = |number: u32, body: Bytes| async move {
        let size = body.len() as u64;
        let receipt = store.send_part(upload, number, body).await?;
        sent_bytes.fetch_add(size, Ordering::Relaxed);
        Ok::<_, Trouble>(receipt)
    };
    for body in first_two {
        number += 1;
        in_flight.push(send(number, body));
    }
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

/// Aborts an upload, twice; says so where S3 does not let us.
async fn abort<S: MultipartUploads>(store: &S, upload: &Upload) -> Result<(), Trouble> {
    for attempt in 0..2 {
        match store.abort(upload).await {
            Ok(()) => {}
            Err(error) if error.kind == Kind::NotFound && attempt > 0 => return Ok(()),
            Err(error) => {
                return Err(Trouble::new(
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
    Ok(())
}
