//! What the embedded S3 refuses, with AWS's codes and statuses.
//!
//! Owns the error of the room and its form on the wire. The texts are AWS's own where they are
//! known, because people search for them.

use std::borrow::Cow;

use hyper::StatusCode;
use hyper::http::{HeaderMap, HeaderName, HeaderValue};
use s3s::{S3Error, S3ErrorCode};

/// A request that S3 refuses (Amazon S3 API reference, "Error responses").
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such bucket.
    #[error("The specified bucket does not exist")]
    NoSuchBucket,
    /// The bucket exists and is the caller's own.
    #[error("Your previous request to create the named bucket succeeded and you already own it.")]
    BucketAlreadyOwnedByYou,
    /// The bucket has objects, versions or delete markers.
    #[error("The bucket you tried to delete is not empty")]
    BucketNotEmpty,
    /// No such object; holds the delete marker's version id where one stands in its place.
    #[error("The specified key does not exist.")]
    NoSuchKey(Option<String>),
    /// No such version.
    #[error("The specified version does not exist.")]
    NoSuchVersion,
    /// A version that is a delete marker was to be read; holds its id.
    #[error("The specified method is not allowed against this resource.")]
    DeleteMarker(String),
    /// A condition does not hold; holds its header.
    #[error("At least one of the pre-conditions you specified did not hold")]
    PreconditionFailed(&'static str),
    /// Nothing changed since what the client has.
    #[error("Not Modified")]
    NotModified,
    /// Another operation on the key came between.
    #[error(
        "The conditional request cannot succeed due to a conflicting operation against this resource."
    )]
    ConditionalRequestConflict,
    /// No such upload in progress for that key.
    #[error(
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."
    )]
    NoSuchUpload,
    /// A part is missing or its ETag is another.
    #[error(
        "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified entity tag may not match the part's entity tag."
    )]
    InvalidPart,
    /// Part numbers do not ascend.
    #[error("The list of parts was not in ascending order. Parts must be ordered by part number.")]
    InvalidPartOrder,
    /// A part other than the last is below the minimum.
    #[error("Your proposed upload is smaller than the minimum allowed size")]
    EntityTooSmall,
    /// More bytes than one request may carry.
    #[error("Your proposed upload exceeds the maximum allowed size")]
    EntityTooLarge,
    /// A key of more than 1,024 bytes.
    #[error("Your key is too long")]
    KeyTooLong,
    /// User metadata of more than 2 KB.
    #[error("Your metadata headers exceed the maximum allowed metadata size")]
    MetadataTooLarge,
    /// The object ends before the range begins.
    #[error("The requested range is not satisfiable")]
    InvalidRange,
    /// The digest sent is not that of the bytes; holds its name.
    #[error("The {0} you specified did not match the calculated checksum.")]
    BadDigest(&'static str),
    /// `Content-MD5` is not an MD5.
    #[error("The Content-MD5 you specified was invalid.")]
    InvalidDigest,
    /// `x-amz-content-sha256` is not that of the bytes.
    #[error("The provided 'x-amz-content-sha256' header does not match what was computed.")]
    ContentSha256Mismatch,
    /// The body ended before the length that was announced.
    #[error("You did not provide the number of bytes specified by the Content-Length HTTP header")]
    IncompleteBody,
    /// No length was announced.
    #[error("You must provide the Content-Length HTTP header.")]
    MissingContentLength,
    /// The body is not XML of the operation.
    #[error(
        "The XML you provided was not well-formed or did not validate against our published schema"
    )]
    MalformedXml,
    /// Tags that S3 does not take.
    #[error("{0}")]
    InvalidTag(&'static str),
    /// An argument out of its range.
    #[error("{0}")]
    InvalidArgument(Cow<'static, str>),
    /// A request against the rules.
    #[error("{0}")]
    InvalidRequest(Cow<'static, str>),
    /// A condition that S3 knows for other operations only.
    #[error("A header you provided implies functionality that is not implemented")]
    NotImplemented,
    /// Not the owner whom the caller expected.
    #[error("Access Denied")]
    AccessDenied,
    /// What S3 answers to its own trouble, and to part numbers with gaps under checksums.
    #[error("We encountered an internal error. Please try again.")]
    Internal(#[source] Option<std::io::Error>),
}

impl StoreError {
    /// An argument out of its range.
    pub fn argument(text: impl Into<Cow<'static, str>>) -> Self {
        Self::InvalidArgument(text.into())
    }

    /// A request against the rules.
    pub fn request(text: impl Into<Cow<'static, str>>) -> Self {
        Self::InvalidRequest(text.into())
    }

    fn code(&self) -> S3ErrorCode {
        match self {
            Self::NoSuchBucket => S3ErrorCode::NoSuchBucket,
            Self::BucketAlreadyOwnedByYou => S3ErrorCode::BucketAlreadyOwnedByYou,
            Self::BucketNotEmpty => S3ErrorCode::BucketNotEmpty,
            Self::NoSuchKey(_) => S3ErrorCode::NoSuchKey,
            Self::NoSuchVersion => S3ErrorCode::NoSuchVersion,
            Self::DeleteMarker(_) => S3ErrorCode::MethodNotAllowed,
            Self::PreconditionFailed(_) => S3ErrorCode::PreconditionFailed,
            Self::NotModified => S3ErrorCode::NotModified,
            Self::ConditionalRequestConflict => S3ErrorCode::ConditionalRequestConflict,
            Self::NoSuchUpload => S3ErrorCode::NoSuchUpload,
            Self::InvalidPart => S3ErrorCode::InvalidPart,
            Self::InvalidPartOrder => S3ErrorCode::InvalidPartOrder,
            Self::EntityTooSmall => S3ErrorCode::EntityTooSmall,
            Self::EntityTooLarge => S3ErrorCode::EntityTooLarge,
            Self::KeyTooLong => S3ErrorCode::KeyTooLongError,
            Self::MetadataTooLarge => S3ErrorCode::MetadataTooLarge,
            Self::InvalidRange => S3ErrorCode::InvalidRange,
            Self::BadDigest(_) => S3ErrorCode::BadDigest,
            Self::InvalidDigest => S3ErrorCode::InvalidDigest,
            Self::ContentSha256Mismatch => S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into()),
            Self::IncompleteBody => S3ErrorCode::IncompleteBody,
            Self::MissingContentLength => S3ErrorCode::MissingContentLength,
            Self::MalformedXml => S3ErrorCode::MalformedXML,
            Self::InvalidTag(_) => S3ErrorCode::InvalidTag,
            Self::InvalidArgument(_) => S3ErrorCode::InvalidArgument,
            Self::InvalidRequest(_) => S3ErrorCode::InvalidRequest,
            Self::NotImplemented => S3ErrorCode::NotImplemented,
            Self::AccessDenied => S3ErrorCode::AccessDenied,
            Self::Internal(_) => S3ErrorCode::InternalError,
        }
    }

    fn headers(&self) -> Option<HeaderMap> {
        let (id, by_version) = match self {
            Self::NoSuchKey(Some(id)) => (id, false),
            Self::DeleteMarker(id) => (id, true),
            _ => return None,
        };
        let mut headers = HeaderMap::new();
        headers.insert(
            HeaderName::from_static("x-amz-delete-marker"),
            HeaderValue::from_static("true"),
        );
        if let Ok(id) = HeaderValue::from_str(id) {
            headers.insert(HeaderName::from_static("x-amz-version-id"), id);
        }
        if by_version {
            headers.insert(hyper::header::ALLOW, HeaderValue::from_static("DELETE"));
        }
        Some(headers)
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        Self::Internal(Some(error))
    }
}

impl From<StoreError> for S3Error {
    fn from(error: StoreError) -> Self {
        let mut answer = S3Error::with_message(error.code(), error.to_string());
        if matches!(error, StoreError::ContentSha256Mismatch) {
            answer.set_status_code(StatusCode::BAD_REQUEST);
        }
        if let Some(headers) = error.headers() {
            answer.set_headers(headers);
        }
        answer
    }
}
