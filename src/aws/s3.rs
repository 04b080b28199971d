//! S3: documents, ranges, copies and multipart uploads, by the SDK.
//!
//! The only place of HTTP's inclusive byte ranges, of quoted ETags and of percent-encoded copy sources.

mod multipart;

use std::collections::BTreeMap;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    BucketVersioningStatus, ChecksumAlgorithm, MetadataDirective, TaggingDirective,
};
use bytes::Bytes;
use jiff::Timestamp;

use super::{Aws, COPY_TIMEOUT, PART_TIMEOUT, patient};
use crate::deployment::Region;
use crate::object::{BucketName, ByteRange, ETag, ObjectKey, SourceObject, VersionId};
use crate::records::{Condition, DocumentStore, ListedKey, StoredDocument};
use crate::revision::{NewObject, ObjectHead, ObjectReader, ObjectStore, WrittenObject};
use crate::service_error::{Kind, ServiceError};

/// The tag by which AWS's own managed CodeDeploy roles may read an object.
const REVISION_TAGGING: &str = "UseWithCodeDeploy=true";
/// Attempts at the body of one range.
const READ_ATTEMPTS_MAX: u32 = 3;
/// Keys in one page of a listing (`ListObjectsV2` gives at most 1,000).
const PAGE_KEYS: usize = 1_000;

fn uri(bucket: &BucketName, key: &ObjectKey) -> String {
    format!("s3://{bucket}/{key}")
}

/// An answer of S3 without something that the API promises.
fn incomplete(operation: &'static str, resource: String, what: &str) -> ServiceError {
    ServiceError {
        operation,
        resource,
        kind: Kind::Unavailable,
        code: None,
        message: format!("the answer has no {what}"),
    }
}

/// `bucket/key?versionId=…`, percent-encoded (all but unreserved characters and `/`).
fn copy_source(source: &SourceObject) -> String {
    fn encode(text: &str, out: &mut String) {
        for byte in text.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
                out.push(char::from(byte));
            } else {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    let mut text = format!("{}/", source.bucket);
    encode(source.key.as_str(), &mut text);
    if let Some(version) = &source.version_id {
        text.push_str("?versionId=");
        encode(version.as_str(), &mut text);
    }
    text
}

/// HTTP's form: both ends are inside.
fn inclusive(range: ByteRange) -> String {
    format!("bytes={}-{}", range.start, range.end.saturating_sub(1))
}

fn written(
    operation: &'static str,
    object: &NewObject,
    etag: Option<&str>,
    version_id: Option<&str>,
) -> Result<WrittenObject, ServiceError> {
    let etag =
        etag.ok_or_else(|| incomplete(operation, uri(&object.bucket, &object.key), "ETag"))?;
    Ok(WrittenObject {
        etag: etag.into(),
        version_id: version(version_id),
    })
}

/// A version id; S3 says `null` of objects that were written without versioning.
fn version(text: Option<&str>) -> Option<VersionId> {
    text.filter(|text| *text != "null")?.parse().ok()
}

fn timestamp(time: &aws_sdk_s3::primitives::DateTime) -> Timestamp {
    Timestamp::from_second(time.secs()).unwrap_or_default()
}

fn none_match(object: &NewObject) -> Option<String> {
    (!object.replace).then(|| "*".to_owned())
}

fn tagging(object: &NewObject) -> Option<String> {
    object.is_revision.then(|| REVISION_TAGGING.to_owned())
}

fn metadata(object: &NewObject) -> Option<std::collections::HashMap<String, String>> {
    Some(object.metadata.clone().into_iter().collect())
}

impl DocumentStore for &Aws {
    async fn get(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        bytes_max: u64,
    ) -> Result<Option<StoredDocument>, ServiceError> {
        const OPERATION: &str = "GetObject";
        let resource = uri(bucket, key);
        let answer = match self
            .s3(None)
            .get_object()
            .bucket(bucket.as_str())
            .key(key.as_str())
            .send()
            .await
        {
            Ok(answer) => answer,
            Err(error) => {
                let error = self.s3_error(None, OPERATION, resource, error);
                let missing = error.kind == Kind::NotFound && !error.has_code("NoSuchBucket");
                return if missing { Ok(None) } else { Err(error) };
            }
        };
        let size = answer
            .content_length()
            .and_then(|length| u64::try_from(length).ok())
            .unwrap_or(u64::MAX);
        if size > bytes_max {
            return Err(ServiceError {
                operation: OPERATION,
                resource,
                kind: Kind::Refused,
                code: Some("EntityTooLarge".to_owned()),
                message: format!("the object has {size} bytes, at most {bytes_max} are read"),
            });
        }
        let etag = answer
            .e_tag()
            .map(ETag::from)
            .ok_or_else(|| incomplete(OPERATION, resource.clone(), "ETag"))?;
        let body = answer
            .body
            .collect()
            .await
            .map_err(|error| broken_body(OPERATION, resource, &error))?;
        Ok(Some(StoredDocument {
            bytes: body.to_vec(),
            etag,
        }))
    }

    async fn put(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        bytes: Vec<u8>,
        condition: &Condition,
    ) -> Result<ETag, ServiceError> {
        const OPERATION: &str = "PutObject";
        let request = self
            .s3(None)
            .put_object()
            .bucket(bucket.as_str())
            .key(key.as_str())
            .content_type("application/json")
            .body(ByteStream::from(bytes));
        let request = match condition {
            Condition::Absent => request.if_none_match("*"),
            Condition::Matches(etag) => request.if_match(etag.quoted()),
            Condition::Any => request,
        };
        let answer = request
            .send()
            .await
            .map_err(|error| self.s3_error(None, OPERATION, uri(bucket, key), error))?;
        answer
            .e_tag()
            .map(ETag::from)
            .ok_or_else(|| incomplete(OPERATION, uri(bucket, key), "ETag"))
    }

    async fn delete(&self, bucket: &BucketName, key: &ObjectKey) -> Result<(), ServiceError> {
        self.s3(None)
            .delete_object()
            .bucket(bucket.as_str())
            .key(key.as_str())
            .send()
            .await
            .map(|_| ())
            .map_err(|error| self.s3_error(None, "DeleteObject", uri(bucket, key), error))
    }

    async fn list(
        &self,
        bucket: &BucketName,
        prefix: &str,
        keys_max: usize,
    ) -> Result<Vec<ListedKey>, ServiceError> {
        let mut found = Vec::new();
        let mut token: Option<String> = None;
        for _ in 0..keys_max.div_ceil(PAGE_KEYS) {
            let answer = self
                .s3(None)
                .list_objects_v2()
                .bucket(bucket.as_str())
                .prefix(prefix)
                .set_continuation_token(token.take())
                .send()
                .await
                .map_err(|error| {
                    self.s3_error(
                        None,
                        "ListObjectsV2",
                        format!("s3://{bucket}/{prefix}"),
                        error,
                    )
                })?;
            for object in answer.contents() {
                if let (Some(key), Some(time)) = (object.key(), object.last_modified()) {
                    found.push(ListedKey {
                        key: key.to_owned(),
                        written_at: timestamp(time),
                    });
                }
            }
            token = answer.next_continuation_token().map(str::to_owned);
            if token.is_none() {
                break;
            }
        }
        found.truncate(keys_max);
        Ok(found)
    }
}

fn broken_body(
    operation: &'static str,
    resource: String,
    error: &dyn std::error::Error,
) -> ServiceError {
    ServiceError {
        operation,
        resource,
        kind: Kind::Unavailable,
        code: None,
        message: super::with_sources(error, None),
    }
}

impl ObjectReader for &Aws {
    async fn read(&self, source: &SourceObject, range: ByteRange) -> Result<Bytes, ServiceError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let mut attempt = 1;
        loop {
            match self.read_once(source, range).await? {
                // The SDK makes a request again, but not because its answer's body broke off.
                Err(_) if attempt < READ_ATTEMPTS_MAX => attempt += 1,
                read => return read,
            }
        }
    }
}

impl Aws {
    /// Reads an error of a request that writes or deletes an object of a region.
    fn write_error<E>(
        &self,
        operation: &'static str,
        object: &NewObject,
        error: SdkError<E>,
    ) -> ServiceError
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let resource = uri(&object.bucket, &object.key);
        self.s3_error(Some(&object.region), operation, resource, error)
    }

    /// Reads an error of a copy. Where its source is what is wrong, it is about the source; `is_guarded` where a
    /// condition that fails may also be the target's.
    fn copy_error<E>(
        &self,
        operation: &'static str,
        object: &NewObject,
        source: &SourceObject,
        is_guarded: bool,
        error: SdkError<E>,
    ) -> ServiceError
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let error = self.write_error(operation, object, error);
        let is_sources = match error.kind {
            Kind::NotFound => error.has_code("NoSuchKey") || error.has_code("NoSuchVersion"),
            Kind::PreconditionFailed => !is_guarded,
            _ => false,
        };
        let resource = if is_sources {
            uri(&source.bucket, &source.key)
        } else {
            error.resource
        };
        ServiceError { resource, ..error }
    }

    /// One request; the inner error is the body's.
    async fn read_once(
        &self,
        source: &SourceObject,
        range: ByteRange,
    ) -> Result<Result<Bytes, ServiceError>, ServiceError> {
        const OPERATION: &str = "GetObject";
        let resource = uri(&source.bucket, &source.key);
        let answer = self
            .s3(None)
            .get_object()
            .bucket(source.bucket.as_str())
            .key(source.key.as_str())
            .set_version_id(
                source
                    .version_id
                    .as_ref()
                    .map(|version| version.as_str().to_owned()),
            )
            .if_match(source.etag.quoted())
            .range(inclusive(range))
            .send()
            .await
            .map_err(|error| self.s3_error(None, OPERATION, resource.clone(), error))?;
        let wanted = usize::try_from(range.length()).unwrap_or(usize::MAX);
        let unexpected = |found: usize| {
            let what = format!("bytes {range} but {found} bytes");
            incomplete(OPERATION, resource.clone(), &what)
        };
        // Collecting the pieces would hold all of them twice.
        let mut bytes = Vec::with_capacity(wanted);
        let mut body = answer.body;
        while let Some(piece) = body.next().await {
            let piece = match piece {
                Ok(piece) => piece,
                Err(error) => return Ok(Err(broken_body(OPERATION, resource.clone(), &error))),
            };
            if piece.len() > wanted - bytes.len() {
                return Err(unexpected(bytes.len().saturating_add(piece.len())));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(if bytes.len() == wanted {
            Ok(bytes.into())
        } else {
            Err(unexpected(bytes.len()))
        })
    }
}

impl ObjectStore for &Aws {
    async fn head(
        &self,
        region: Option<&Region>,
        bucket: &BucketName,
        key: &ObjectKey,
        version_id: Option<&VersionId>,
        if_match: Option<&ETag>,
    ) -> Result<ObjectHead, ServiceError> {
        const OPERATION: &str = "HeadObject";
        let answer = self
            .s3(region)
            .head_object()
            .bucket(bucket.as_str())
            .key(key.as_str())
            .set_version_id(version_id.map(|version| version.as_str().to_owned()))
            .set_if_match(if_match.map(ETag::quoted))
            .send()
            .await
            .map_err(|error| self.s3_error(region, OPERATION, uri(bucket, key), error))?;
        let missing = |what| incomplete(OPERATION, uri(bucket, key), what);
        Ok(ObjectHead {
            etag: answer
                .e_tag()
                .map(ETag::from)
                .ok_or_else(|| missing("ETag"))?,
            version_id: version(answer.version_id()),
            size: answer
                .content_length()
                .and_then(|length| u64::try_from(length).ok())
                .ok_or_else(|| missing("Content-Length"))?,
            last_modified: answer
                .last_modified()
                .map(timestamp)
                .ok_or_else(|| missing("Last-Modified"))?,
            metadata: answer
                .metadata()
                .cloned()
                .unwrap_or_default()
                .into_iter()
                .collect::<BTreeMap<_, _>>(),
        })
    }

    async fn put(&self, object: &NewObject, body: Bytes) -> Result<WrittenObject, ServiceError> {
        const OPERATION: &str = "PutObject";
        let request = self
            .s3(Some(&object.region))
            .put_object()
            .bucket(object.bucket.as_str())
            .key(object.key.as_str())
            .set_metadata(metadata(object))
            .content_type(object.content_type)
            .set_tagging(tagging(object))
            .set_if_none_match(none_match(object))
            .checksum_algorithm(ChecksumAlgorithm::Crc32)
            .body(ByteStream::from(body))
            .customize()
            .config_override(patient(PART_TIMEOUT));
        let request = if self.signs_bodies {
            request
        } else {
            request.disable_payload_signing()
        };
        let answer = request
            .send()
            .await
            .map_err(|error| self.write_error(OPERATION, object, error))?;
        written(OPERATION, object, answer.e_tag(), answer.version_id())
    }

    async fn copy(
        &self,
        object: &NewObject,
        source: &SourceObject,
    ) -> Result<WrittenObject, ServiceError> {
        const OPERATION: &str = "CopyObject";
        let answer = self
            .s3(Some(&object.region))
            .copy_object()
            .bucket(object.bucket.as_str())
            .key(object.key.as_str())
            .copy_source(copy_source(source))
            .copy_source_if_match(source.etag.quoted())
            .metadata_directive(MetadataDirective::Replace)
            .set_metadata(metadata(object))
            .content_type(object.content_type)
            .tagging_directive(TaggingDirective::Replace)
            .set_tagging(tagging(object))
            .set_if_none_match(none_match(object))
            .customize()
            .config_override(patient(COPY_TIMEOUT))
            .send()
            .await
            .map_err(|error| self.copy_error(OPERATION, object, source, !object.replace, error))?;
        let etag = answer
            .copy_object_result()
            .and_then(|result| result.e_tag());
        written(OPERATION, object, etag, answer.version_id())
    }

    async fn delete(
        &self,
        object: &NewObject,
        written: &WrittenObject,
    ) -> Result<(), ServiceError> {
        let version_id = written.version_id.as_ref();
        self.s3(Some(&object.region))
            .delete_object()
            .bucket(object.bucket.as_str())
            .key(object.key.as_str())
            .set_version_id(version_id.map(|version| version.as_str().to_owned()))
            .send()
            .await
            .map(|_| ())
            .map_err(|error| self.write_error("DeleteObject", object, error))
    }

    async fn is_versioned(
        &self,
        bucket: &BucketName,
        region: &Region,
    ) -> Result<bool, ServiceError> {
        let answer = self
            .s3(Some(region))
            .get_bucket_versioning()
            .bucket(bucket.as_str())
            .send()
            .await
            .map_err(|error| {
                self.s3_error(
                    Some(region),
                    "GetBucketVersioning",
                    format!("s3://{bucket}"),
                    error,
                )
            })?;
        Ok(answer.status() == Some(&BucketVersioningStatus::Enabled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ok_a_copy_source_is_encoded_once_and_names_the_version() {
        let source = SourceObject {
            bucket: "my-bucket".parse().unwrap(),
            key: "staging/a b+c%/ü.zip".parse().unwrap(),
            version_id: Some("v+1".parse().unwrap()),
            etag: "e".into(),
            size: 1,
        };
        assert_eq!(
            copy_source(&source),
            "my-bucket/staging/a%20b%2Bc%25/%C3%BC.zip?versionId=v%2B1"
        );
    }

    #[test]
    fn ok_ranges_on_the_wire_include_their_end() {
        assert_eq!(inclusive(ByteRange::new(0, 1)), "bytes=0-0");
        assert_eq!(inclusive(ByteRange::new(10, 20)), "bytes=10-19");
    }
}
