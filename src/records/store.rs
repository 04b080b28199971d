//! Where documents are kept: small objects, read whole and written under a condition.

use std::future::Future;

use jiff::Timestamp;

use crate::object::{BucketName, ETag, ObjectKey};
use crate::service_error::ServiceError;

/// What must hold of the stored document for a write to take place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// There is none: `If-None-Match: *`.
    Absent,
    /// It is still this one: `If-Match`.
    Matches(ETag),
    /// No condition.
    Any,
}

/// A document as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDocument {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its ETag, for the next compare-and-swap.
    pub etag: ETag,
}

/// A key that a listing found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedKey {
    /// The key.
    pub key: String,
    /// When it was written.
    pub written_at: Timestamp,
}

/// Small objects, read whole and written under a condition.
pub trait DocumentStore: Send + Sync {
    /// The object, or `None` where there is none; more than `bytes_max` is refused.
    fn get(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        bytes_max: u64,
    ) -> impl Future<Output = Result<Option<StoredDocument>, ServiceError>> + Send;

    /// Writes it where the condition holds (`PreconditionFailed` or `Conflict` where not).
    fn put(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        bytes: Vec<u8>,
        condition: &Condition,
    ) -> impl Future<Output = Result<ETag, ServiceError>> + Send;

    /// Deletes it, whether or not there is one.
    fn delete(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> impl Future<Output = Result<(), ServiceError>> + Send;

    /// The first `keys_max` keys under a prefix.
    fn list(
        &self,
        bucket: &BucketName,
        prefix: &str,
        keys_max: usize,
    ) -> impl Future<Output = Result<Vec<ListedKey>, ServiceError>> + Send;
}
