//! The revision: reading the artifact by ranges and writing what a plan says.
//!
//! Owns the traits that S3 is seen through and the execution of a [`PartPlan`](crate::splice::parts):
//! one loop over parts, with no knowledge of formats and no decisions.

use std::collections::BTreeMap;
use std::future::Future;

use bytes::Bytes;
use futures_util::stream::{self, FuturesUnordered, StreamExt, TryStreamExt};
use jiff::Timestamp;

use crate::artifact::Source;
use crate::deployment::Region;
use crate::object::{BucketName, ByteRange, ETag, ObjectKey, SourceObject, VersionId};
use crate::service_error::ServiceError;
use crate::splice::parts::{Delivery, Part, PartPlan};
use crate::splice::{self, AssembleError, Assembler, SplicePlan};
use crate::transcode::TranscodeError;
use crate::verify::{Verifier, VerifyError};

mod transcoding;

pub use transcoding::transcode;

/// What `HeadObject` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectHead {
    /// ETag.
    pub etag: ETag,
    /// Version, where the bucket has versioning.
    pub version_id: Option<VersionId>,
    /// Size in bytes.
    pub size: u64,
    /// When it was written, in whole seconds.
    pub last_modified: Timestamp,
    /// User metadata, without the `x-amz-meta-` prefix.
    pub metadata: BTreeMap<String, String>,
}

/// An object to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewObject {
    /// Region of the bucket.
    pub region: Region,
    /// Bucket.
    pub bucket: BucketName,
    /// Key.
    pub key: ObjectKey,
    /// User metadata.
    pub metadata: BTreeMap<String, String>,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// Whether it gets the tag by which AWS's own managed roles read revisions; that takes
    /// `s3:PutObjectTagging`, which an uploader lacks.
    pub is_revision: bool,
    /// Whether a new version may take the key (a fixed key in a versioned bucket); else
    /// `If-None-Match: *` guards it.
    pub replace: bool,
}

/// What S3 said of an object that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenObject {
    /// ETag.
    pub etag: ETag,
    /// Version, where the bucket has versioning.
    pub version_id: Option<VersionId>,
}

/// Objects that are read by ranges.
pub trait ObjectReader: Send + Sync {
    /// `GetObject` of a range of exactly these bytes (`If-Match`); never shorter than asked for.
    fn read(
        &self,
        source: &SourceObject,
        range: ByteRange,
    ) -> impl Future<Output = Result<Bytes, ServiceError>> + Send;
}

/// Whole objects: looked at, and written in one request.
pub trait ObjectStore: ObjectReader {
    /// `HeadObject`, of that version and only with that ETag where they are given.
    fn head(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        version_id: Option<&VersionId>,
        if_match: Option<&ETag>,
    ) -> impl Future<Output = Result<ObjectHead, ServiceError>> + Send;

    /// `PutObject`.
    fn put(
        &self,
        object: &NewObject,
        body: Bytes,
    ) -> impl Future<Output = Result<WrittenObject, ServiceError>> + Send;

    /// `CopyObject` of exactly these bytes.
    fn copy(
        &self,
        object: &NewObject,
        source: &SourceObject,
    ) -> impl Future<Output = Result<WrittenObject, ServiceError>> + Send;

    /// Whether `GetBucketVersioning` says `Enabled`.
    fn is_versioned(
        &self,
        bucket: &BucketName,
        region: &Region,
    ) -> impl Future<Output = Result<bool, ServiceError>> + Send;
}

/// An upload in parts, under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// What it will be.
    pub object: NewObject,
    /// S3's id.
    pub upload_id: String,
}

/// A part that was sent or copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartReceipt {
    /// From 1.
    pub number: u32,
    /// ETag, as S3 gave it.
    pub etag: ETag,
    /// The part's CRC-32 in base64, where S3 gave one; it must then stand in the completion.
    pub crc32: Option<String>,
}

/// Objects written in parts.
pub trait MultipartUploads: Send + Sync {
    /// `CreateMultipartUpload`.
    fn begin(
        &self,
        object: &NewObject,
    ) -> impl Future<Output = Result<Upload, ServiceError>> + Send;

    /// `UploadPart`.
    fn send_part(
        &self,
        upload: &Upload,
        number: u32,
        body: Bytes,
    ) -> impl Future<Output = Result<PartReceipt, ServiceError>> + Send;

    /// `UploadPartCopy` of exactly these bytes.
    fn copy_part(
        &self,
        upload: &Upload,
        number: u32,
        source: &SourceObject,
        range: ByteRange,
    ) -> impl Future<Output = Result<PartReceipt, ServiceError>> + Send;

    /// `CompleteMultipartUpload`, under the object's condition.
    fn complete(
        &self,
        upload: &Upload,
        parts: &[PartReceipt],
    ) -> impl Future<Output = Result<WrittenObject, ServiceError>> + Send;

    /// `AbortMultipartUpload`.
    fn abort(&self, upload: &Upload) -> impl Future<Output = Result<(), ServiceError>> + Send;
}

/// Uploads of one revision in flight at once.
const SENDS_IN_FLIGHT: usize = 3;
/// Reads ahead of the upload that wants them.
const READS_IN_FLIGHT: usize = 2;
/// Server-side copies in flight at once; they cost the function nothing.
const COPIES_IN_FLIGHT: usize = 16;

/// Why a revision was not written.
#[derive(Debug, thiserror::Error)]
pub enum RevisionError {
    /// S3's trouble, or the source changed.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// Bytes that passed are not what the archive's directory says.
    #[error(transparent)]
    Unverified(#[from] VerifyError),
    /// Bytes that passed cannot be put together.
    #[error(transparent)]
    Assembly(#[from] AssembleError),
    /// The archive cannot be carried over into the other format.
    #[error(transparent)]
    Transcode(#[from] TranscodeError),
}

/// What writing a revision cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// The revision's size in bytes.
    pub size: u64,
    /// Bytes that S3 copied by itself.
    pub bytes_copied: u64,
    /// Bytes read through the function.
    pub bytes_got: u64,
    /// Bytes sent by the function.
    pub bytes_put: u64,
}

/// Writes a spliced revision: the requests of `parts`, whose bodies `plan` puts together.
///
/// `verifier` sees every byte that passes; nothing is completed before it is content.
///
/// # Errors
/// What went wrong; an upload under way is aborted.
pub async fn carry_out<S: ObjectStore + MultipartUploads>(
    store: &S,
    source: &Source<'_, S>,
    plan: &SplicePlan,
    parts: &PartPlan,
    object: &NewObject,
    mut verifier: Option<Verifier<'_>>,
) -> Result<(WrittenObject, Cost), RevisionError> {
    let cost = Cost {
        size: plan.output_size(),
        bytes_copied: parts.traffic.copied_bytes,
        bytes_got: parts.traffic.got_bytes,
        bytes_put: parts.traffic.put_bytes,
    };
    let written = match &parts.delivery {
        Delivery::CopyObject => store.copy(object, &source.object).await?,
        Delivery::PutObject(upload) => {
            let mut body = None;
            assemble_all(source, plan, &[upload], &mut verifier, async |_, bytes| {
                body = Some(bytes);
                Ok(())
            })
            .await?;
            finish(verifier)?;
            store.put(object, body.unwrap_or_default()).await?
        }
        Delivery::Multipart(list) => {
            let upload = store.begin(object).await?;
            let sent = send_parts(store, source, plan, list, &upload, verifier).await;
            close(store, &upload, sent).await?
        }
    };
    Ok((written, cost))
}

/// Completes an upload whose parts are there; aborts it where one is not.
async fn close<S: MultipartUploads>(
    store: &S,
    upload: &Upload,
    parts: Result<Vec<PartReceipt>, RevisionError>,
) -> Result<WrittenObject, RevisionError> {
    let completed = match parts {
        Ok(mut parts) => {
            parts.sort_by_key(|part| part.number);
            store
                .complete(upload, &parts)
                .await
                .map_err(RevisionError::from)
        }
        Err(error) => Err(error),
    };
    if completed.is_err()
        && let Err(error) = store.abort(upload).await
    {
        // The bucket's lifecycle rule takes what is left.
        tracing::warn!(
            upload_id = upload.upload_id,
            "upload could not be aborted: {error}"
        );
    }
    completed
}

fn finish(verifier: Option<Verifier<'_>>) -> Result<(), VerifyError> {
    verifier.map_or(Ok(()), |verifier| verifier.finish().map(|_| ()))
}

/// Copies and sends the parts of an upload: copies beside everything else, bodies in the source's order.
async fn send_parts<S: ObjectStore + MultipartUploads>(
    store: &S,
    source: &Source<'_, S>,
    plan: &SplicePlan,
    parts: &[Part],
    upload: &Upload,
    mut verifier: Option<Verifier<'_>>,
) -> Result<Vec<PartReceipt>, RevisionError> {
    let mut copies = Vec::new();
    let mut bodies = Vec::new();
    for (number, part) in (1_u32..).zip(parts) {
        match part {
            Part::Copy(range) => copies.push((number, *range)),
            Part::Upload(body) => bodies.push((number, body)),
        }
    }
    let copying = stream::iter(copies)
        .map(|(number, range)| async move {
            store.copy_part(upload, number, &source.object, range).await
        })
        .buffer_unordered(COPIES_IN_FLIGHT)
        .try_collect::<Vec<_>>();
    let sending = async {
        let mut in_flight = FuturesUnordered::new();
        let mut sent = Vec::new();
        let uploads: Vec<_> = bodies.iter().map(|(_, body)| *body).collect();
        assemble_all(
            source,
            plan,
            &uploads,
            &mut verifier,
            async |place, bytes| {
                let number = bodies.get(place).map_or(0, |(number, _)| *number);
                in_flight.push(store.send_part(upload, number, bytes));
                while in_flight.len() >= SENDS_IN_FLIGHT
                    && let Some(receipt) = in_flight.next().await
                {
                    sent.push(receipt?);
                }
                Ok(())
            },
        )
        .await?;
        while let Some(receipt) = in_flight.next().await {
            sent.push(receipt?);
        }
        finish(verifier)?;
        Ok::<_, RevisionError>(sent)
    };
    let (copied, sent) = futures_util::try_join!(async { Ok(copying.await?) }, sending)?;
    Ok(copied.into_iter().chain(sent).collect())
}

/// Puts bodies together in order, reading ahead; `take` gets each by its place.
async fn assemble_all<S: ObjectStore>(
    source: &Source<'_, S>,
    plan: &SplicePlan,
    uploads: &[&splice::parts::Upload],
    verifier: &mut Option<Verifier<'_>>,
    mut take: impl AsyncFnMut(usize, Bytes) -> Result<(), RevisionError>,
) -> Result<(), RevisionError> {
    let ranges: Vec<ByteRange> = uploads
        .iter()
        .flat_map(|upload| upload.gets().iter().copied())
        .collect();
    let mut reads = stream::iter(ranges)
        .map(|range| source.read(range))
        .buffered(READS_IN_FLIGHT);
    for (place, upload) in uploads.iter().enumerate() {
        let mut assembler = Assembler::new(plan, upload);
        for range in upload.gets() {
            let Some(bytes) = reads.next().await else {
                break;
            };
            let bytes = bytes?;
            if let Some(verifier) = verifier {
                verifier.feed(range.start, &bytes)?;
            }
            assembler.feed(range.start, &bytes)?;
        }
        take(place, assembler.finish()?.into()).await?;
    }
    Ok(())
}
