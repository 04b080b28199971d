//! How a body comes in: its length, its digests, and what the client says of both.
//!
//! Owns the checks that S3 makes of every PutObject and UploadPart before anything is written
//! (user guide, "Checking object integrity").

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use hyper::http::HeaderMap;
use s3s::dto::{ETagCondition, StreamingBlob, Timestamp};

use super::blob::Blob;
use super::checksums::{Algorithm, Digests, Wanted, base64};
use super::encoding::decode_form;
use super::error::StoreError;
use super::object::{Condition, Found, REQUEST_BYTES_MAX};
use super::store::Store;

/// The trailers of an `aws-chunked` body; filled when the body has been read to its end.
#[derive(Debug, Clone, Default)]
pub struct Trailers(Arc<Mutex<Vec<(String, String)>>>);

impl Trailers {
    /// Keeps them.
    pub fn fill(&self, trailers: Vec<(String, String)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = trailers;
    }

    fn get(&self, name: &str) -> Option<String> {
        let trailers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        trailers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.clone())
    }
}

/// The checksum that a request announces in its headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Its algorithm.
    pub algorithm: Algorithm,
    /// Its value; `None` where a trailer carries it.
    value: Option<String>,
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Reads the one checksum that a request may announce.
pub fn declared(headers: &HeaderMap) -> Result<Option<Declared>, StoreError> {
    let trailers = text(headers, "x-amz-trailer").unwrap_or_default();
    let mut found = Vec::new();
    for algorithm in Algorithm::ALL {
        if let Some(value) = text(headers, algorithm.header()) {
            if !algorithm.takes(value) {
                return Err(invalid_value(algorithm));
            }
            found.push(Declared {
                algorithm,
                value: Some(value.to_owned()),
            });
        }
        let named = trailers
            .split(',')
            .any(|name| name.trim().eq_ignore_ascii_case(algorithm.header()));
        if named {
            found.push(Declared {
                algorithm,
                value: None,
            });
        }
    }
    if found.len() > 1 {
        return Err(StoreError::request(
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
        ));
    }
    let found = found.pop();
    let Some(name) = text(headers, "x-amz-sdk-checksum-algorithm") else {
        return Ok(found);
    };
    let Some(algorithm) = Algorithm::from_name(name) else {
        return Err(StoreError::request(
            "Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]",
        ));
    };
    match found {
        Some(found) if found.algorithm == algorithm => Ok(Some(found)),
        Some(_) => Err(StoreError::request(
            "Value for x-amz-sdk-checksum-algorithm header is invalid.",
        )),
        None if headers.contains_key("content-md5") => Ok(None),
        None => Err(StoreError::request(
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.",
        )),
    }
}

fn invalid_value(algorithm: Algorithm) -> StoreError {
    StoreError::request(format!(
        "Value for {} header is invalid.",
        algorithm.header()
    ))
}

/// Reads a body to its end and checks it against all that the request says of it.
///
/// `length` is the one announced; `algorithm` is the checksum to keep, and it is
/// computed whether or not the client sends it.
pub async fn receive(
    store: &Store,
    body: Option<StreamingBlob>,
    length: Option<i64>,
    headers: &HeaderMap,
    trailers: &Trailers,
    declared: Option<&Declared>,
    algorithm: Algorithm,
) -> Result<(Blob, Digests), StoreError> {
    if !headers.contains_key(hyper::header::CONTENT_LENGTH)
        && headers.contains_key(hyper::header::TRANSFER_ENCODING)
    {
        return Err(StoreError::NotImplemented);
    }
    let md5 = text(headers, "content-md5");
    if md5.is_some_and(|md5| md5.len() != 24) {
        return Err(StoreError::InvalidDigest);
    }
    let is_digest = |text: &&str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let payload = text(headers, "x-amz-content-sha256").filter(is_digest);
    let wanted = Wanted {
        checksum: Some(algorithm),
        payload_sha256: payload.is_some(),
    };
    let mut spool = store.spool(wanted);
    if let Some(mut body) = body {
        while let Some(piece) = body.next().await {
            spool.write(&piece.map_err(|_| StoreError::IncompleteBody)?)?;
            if spool.length() > REQUEST_BYTES_MAX {
                return Err(StoreError::EntityTooLarge);
            }
        }
    }
    let arrived = i64::try_from(spool.length()).ok();
    if length.is_some() && length != arrived {
        return Err(StoreError::IncompleteBody);
    }
    let (blob, digests) = spool.finish();
    if md5.is_some_and(|md5| md5 != base64(&digests.md5)) {
        return Err(StoreError::BadDigest("Content-MD5"));
    }
    if payload.is_some_and(|text| {
        !digests
            .payload_sha256
            .as_deref()
            .is_some_and(|sha| sha.eq_ignore_ascii_case(text))
    }) {
        return Err(StoreError::ContentSha256Mismatch);
    }
    if let Some(declared) = declared {
        let value = match &declared.value {
            Some(value) => value.clone(),
            None => trailers
                .get(declared.algorithm.header())
                .ok_or(StoreError::IncompleteBody)?,
        };
        if !declared.algorithm.takes(&value) {
            return Err(invalid_value(declared.algorithm));
        }
        if digests.checksum.as_deref().map(base64) != Some(value) {
            return Err(StoreError::BadDigest(declared.algorithm.name()));
        }
    }
    Ok((blob, digests))
}

/// The condition of a write; S3 knows `If-None-Match: *` and `If-Match: <ETag>`, one of them.
pub fn write_condition(
    if_match: Option<ETagCondition>,
    if_none_match: Option<ETagCondition>,
) -> Result<Condition, StoreError> {
    match (if_match, if_none_match) {
        (None, None) => Ok(Condition::Always),
        (None, Some(ETagCondition::Any)) => Ok(Condition::Absent),
        (Some(ETagCondition::ETag(etag)), None) => Ok(Condition::Matches(etag.into_value())),
        _ => Err(StoreError::NotImplemented),
    }
}

/// The conditions of a read, or of a copy's source.
#[derive(Debug, Default)]
pub struct ReadConditions {
    /// `If-Match`.
    pub if_match: Option<ETagCondition>,
    /// `If-None-Match`.
    pub if_none_match: Option<ETagCondition>,
    /// `If-Modified-Since`.
    pub if_modified_since: Option<Timestamp>,
    /// `If-Unmodified-Since`.
    pub if_unmodified_since: Option<Timestamp>,
}

impl ReadConditions {
    /// Judges them in the order of RFC 9110, section 13.2.2, which S3 follows: an ETag that
    /// matches outweighs the times.
    pub fn judge(&self, found: &Found) -> Result<(), StoreError> {
        let matches = |condition: &ETagCondition| match condition {
            ETagCondition::Any => true,
            ETagCondition::ETag(etag) => etag.value() == found.content.etag,
        };
        let modified = Timestamp::from(found.version.modified);
        match (&self.if_match, &self.if_unmodified_since) {
            (Some(condition), _) if !matches(condition) => {
                return Err(StoreError::PreconditionFailed("If-Match"));
            }
            (None, Some(time)) if modified > *time => {
                return Err(StoreError::PreconditionFailed("If-Unmodified-Since"));
            }
            _ => {}
        }
        match (&self.if_none_match, &self.if_modified_since) {
            (Some(condition), _) if matches(condition) => Err(StoreError::NotModified),
            (None, Some(time)) if modified <= *time => Err(StoreError::NotModified),
            _ => Ok(()),
        }
    }

    /// The same for the source of a copy, where nothing is "not modified": 412.
    pub fn judge_source(&self, found: &Found) -> Result<(), StoreError> {
        self.judge(found).map_err(|error| match error {
            StoreError::NotModified => {
                StoreError::PreconditionFailed("x-amz-copy-source-If-None-Match")
            }
            error => error,
        })
    }
}

/// The tags of an `x-amz-tagging` header.
pub fn tags_of(header: &str) -> Result<std::collections::BTreeMap<String, String>, StoreError> {
    let invalid = || {
        StoreError::argument(
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates.",
        )
    };
    let mut tags = std::collections::BTreeMap::new();
    for pair in header.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode_form(name).ok_or_else(invalid)?;
        let value = decode_form(value).ok_or_else(invalid)?;
        if tags.insert(name, value).is_some() {
            return Err(invalid());
        }
    }
    Ok(tags)
}
