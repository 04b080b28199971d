//! The revision: reading the artifact by ranges and writing what a plan says.
//!
//! Owns the traits that S3 is seen through, the execution of a [`PartPlan`](crate::splice::parts) and the
//! cutting of a stream into parts, with no knowledge of formats and no decisions.

use std::collections::BTreeMap;
use std::future::Future;

use bytes::Bytes;
use jiff::Timestamp;

use crate::deployment::Region;
use crate::object::{BucketName, ByteRange, ETag, ObjectKey, SourceObject, VersionId};
use crate::service_error::ServiceError;
use crate::splice::AssembleError;
use crate::transcode::TranscodeError;
use crate::verify::VerifyError;

mod carry;
mod transcoding;

pub use carry::{Check, Workplace, carry_out};
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
    /// `HeadObject`, of that version and only with that ETag where they are given; the bucket is in the
    /// function's own region where none is given.
    fn head(
        &self,
        region: Option<&Region>,
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

    /// `DeleteObject`, of the version that was written where there is one.
    fn delete(
        &self,
        object: &NewObject,
        written: &WrittenObject,
    ) -> impl Future<Output = Result<(), ServiceError>> + Send;

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
    /// The time left would not have sufficed, or did not.
    #[error("revision takes about {seconds:.1} s to write, {seconds_left:.1} s are left")]
    OutOfTime {
        /// Estimated seconds.
        seconds: f64,
        /// Seconds that were left for it.
        seconds_left: f64,
    },
    /// The archive cannot be carried over into the other format.
    #[error(transparent)]
    Transcode(#[from] TranscodeError),
    /// The thread that verified is gone.
    #[error("verifying the artifact was interrupted")]
    Interrupted,
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
