//! S3's nouns for what is stored: contents, versions, conditions, limits.
//!
//! Owns what an object may be; knows nothing of buckets or of how anything is kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

use super::blob::Blob;
use super::checksums::Checksum;
use super::error::StoreError;

/// Longest key, in bytes of UTF-8.
pub const KEY_BYTES_MAX: usize = 1024;

/// Most user metadata of an object: names and values, in bytes.
pub const METADATA_BYTES_MAX: usize = 2048;

/// Most bytes of one PutObject, UploadPart or CopyObject: 5 GiB.
pub const REQUEST_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;

/// The version id of what was written without versioning.
pub const NULL_VERSION: &str = "null";

/// Length of the version ids given out here; AWS's own have as many characters.
pub const VERSION_ID_LENGTH: usize = 32;

/// What a client says about an object besides its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Content-Encoding`, without `aws-chunked`.
    pub content_encoding: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// `x-amz-meta-…`, names in lower case without that prefix.
    pub metadata: BTreeMap<String, String>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

/// An object's bytes with all that was written with them.
#[derive(Debug, Clone)]
pub struct Content {
    /// The bytes.
    pub blob: Blob,
    /// ETag, without quotes.
    pub etag: String,
    /// The additional checksum.
    pub checksum: Option<Checksum>,
    /// Sizes of its parts, in order; empty where it was not written in parts.
    pub parts: Vec<u64>,
    /// Headers, metadata and tags.
    pub attributes: Attributes,
}

/// A version of an object, or a delete marker.
#[derive(Debug, Clone)]
pub struct Version {
    /// Version id; `null` without versioning.
    pub id: String,
    /// Whether its bucket has or had versioning, so that answers name the id.
    pub is_versioned: bool,
    /// When it was written, in whole seconds as S3 tells it.
    pub modified: SystemTime,
    /// `None` is a delete marker.
    pub content: Option<Content>,
}

/// A version that is an object.
#[derive(Debug, Clone)]
pub struct Found {
    /// The version.
    pub version: Arc<Version>,
    /// Its content.
    pub content: Content,
}

impl Found {
    /// The id to answer: only where the bucket has or had versioning.
    pub fn version_id(&self) -> Option<String> {
        self.version.is_versioned.then(|| self.version.id.clone())
    }
}

/// The condition of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// None.
    Always,
    /// `If-None-Match: *`: nothing is there.
    Absent,
    /// `If-Match`: this ETag, without quotes, is there.
    Matches(String),
}

impl Condition {
    /// Whether it holds where `current` is the object there is.
    pub fn judge(&self, current: Option<&Content>) -> Result<(), StoreError> {
        match (self, current) {
            (Self::Always, _) | (Self::Absent, None) => Ok(()),
            (Self::Absent, Some(_)) => Err(StoreError::PreconditionFailed("If-None-Match")),
            (Self::Matches(_), None) => Err(StoreError::NoSuchKey(None)),
            (Self::Matches(etag), Some(content)) if content.etag == *etag => Ok(()),
            (Self::Matches(_), Some(_)) => Err(StoreError::PreconditionFailed("If-Match")),
        }
    }
}

/// What a write made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// ETag, without quotes.
    pub etag: String,
    /// Version id, where the bucket has or had versioning.
    pub version_id: Option<String>,
    /// When.
    pub modified: SystemTime,
}

/// What a delete did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Deleted {
    /// The delete marker that was made or removed, or the version that was removed.
    pub version_id: Option<String>,
    /// Whether that is a delete marker.
    pub is_marker: bool,
}

/// An object came to be; what S3 tells EventBridge as `Object Created`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectCreated {
    /// Bucket.
    pub bucket: String,
    /// Key, raw.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
    /// ETag, without quotes.
    pub etag: String,
    /// Version id, where the bucket has or had versioning.
    pub version_id: Option<String>,
    /// Orders the events of one key: hexadecimal, growing, of one length.
    pub sequencer: String,
    /// `PutObject`, `POST Object`, `CopyObject` or `CompleteMultipartUpload`.
    pub reason: &'static str,
    /// When.
    pub time: Timestamp,
}

/// The clock in whole seconds: S3 keeps no finer times of modification.
pub fn now() -> SystemTime {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

/// Refuses a key of more than [`KEY_BYTES_MAX`].
pub fn check_key(key: &str) -> Result<(), StoreError> {
    if key.len() > KEY_BYTES_MAX {
        Err(StoreError::KeyTooLong)
    } else {
        Ok(())
    }
}

/// S3 tells an id that it cannot have given out from one that is gone.
pub fn check_version_id(id: &str) -> Result<(), StoreError> {
    let made_here =
        id.len() == VERSION_ID_LENGTH && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if made_here || id == NULL_VERSION {
        Ok(())
    } else {
        Err(StoreError::argument("Invalid version id specified"))
    }
}

/// Refuses metadata and tags beyond their limits.
pub fn check_attributes(attributes: &Attributes) -> Result<(), StoreError> {
    let bytes: usize = attributes
        .metadata
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if bytes > METADATA_BYTES_MAX {
        return Err(StoreError::MetadataTooLarge);
    }
    check_tags(&attributes.tags)
}

/// S3 user guide, "Categorizing your storage using tags".
pub fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), StoreError> {
    if tags.len() > 10 {
        return Err(StoreError::request("Object tags cannot be greater than 10"));
    }
    if tags
        .keys()
        .any(|name| name.is_empty() || name.chars().count() > 128)
    {
        return Err(StoreError::InvalidTag(
            "The TagKey you have provided is invalid",
        ));
    }
    if tags.values().any(|value| value.chars().count() > 256) {
        return Err(StoreError::InvalidTag(
            "The TagValue you have provided is invalid",
        ));
    }
    Ok(())
}
