//! Whole objects: put, get, head, delete and tags.

use std::collections::BTreeMap;
use std::ops::Range as Span;

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result};

use super::super::checksums::{Algorithm, Checksum as Sum, Kind, base64, hex};
use super::super::error::StoreError;
use super::super::intake::{self, ReadConditions, Trailers, tags_of, write_condition};
use super::super::object::{Attributes, Content, Found};
use super::{Api, SumFields, answer, kind_name, set_sums};

/// The content type of what was sent without one.
const CONTENT_TYPE_DEFAULT: &str = "binary/octet-stream";

/// The objects that one DeleteObjects may name.
const DELETE_OBJECTS_MAX: usize = 1000;

/// Metadata as the wire has it, in the order of its names.
pub(super) fn metadata_of(metadata: Option<Metadata>) -> BTreeMap<String, String> {
    metadata.unwrap_or_default().into_iter().collect()
}

/// `Content-Encoding` without the encoding of the transfer, which S3 does not keep.
pub(super) fn encoding_of(encoding: Option<String>) -> Option<String> {
    let encoding = encoding?;
    let kept = encoding
        .split(',')
        .map(str::trim)
        .filter(|coding| *coding != "aws-chunked");
    let kept = kept.collect::<Vec<_>>().join(",");
    (!kept.is_empty()).then_some(kept)
}

/// The bytes that a GET or HEAD is about.
struct Selected {
    span: Span<u64>,
    /// Whether it is a part of the object, answered with 206.
    is_partial: bool,
    parts_count: Option<i32>,
}

fn select(found: &Found, range: Option<Range>, part: Option<i32>) -> Result<Selected, StoreError> {
    let length = found.content.blob.length();
    let parts_count = i32::try_from(found.content.parts.len())
        .ok()
        .filter(|count| *count > 0);
    match (range, part) {
        (None, None) => Ok(Selected {
            span: 0..length,
            is_partial: false,
            parts_count: None,
        }),
        (Some(_), Some(_)) => Err(StoreError::request(
            "Cannot specify both Range header and partNumber query parameter",
        )),
        (Some(range), None) => {
            let span = range.check(length).map_err(|_| StoreError::InvalidRange)?;
            if span.is_empty() {
                return Err(StoreError::InvalidRange);
            }
            Ok(Selected {
                span,
                is_partial: true,
                parts_count: None,
            })
        }
        (None, Some(1)) if found.content.parts.is_empty() => Ok(Selected {
            span: 0..length,
            is_partial: length > 0,
            parts_count: None,
        }),
        (None, Some(part)) => {
            let index = usize::try_from(part)
                .ok()
                .and_then(|part| part.checked_sub(1));
            let index = index.ok_or(StoreError::InvalidRange)?;
            let sizes = &found.content.parts;
            let size = sizes.get(index).ok_or(StoreError::InvalidRange)?;
            let start: u64 = sizes.iter().take(index).sum();
            Ok(Selected {
                span: start..start + size,
                is_partial: true,
                parts_count,
            })
        }
    }
}

fn content_range(selected: &Selected, length: u64) -> Option<String> {
    let Span { start, end } = selected.span;
    selected
        .is_partial
        .then(|| format!("bytes {start}-{}/{length}", end.saturating_sub(1)))
}

/// Copies what GET and HEAD both tell of an object.
macro_rules! describe {
    ($output:expr, $found:expr, $selected:expr, $with_checksum:expr) => {{
        let (found, selected): (&Found, &Selected) = ($found, $selected);
        let content = &found.content;
        let attributes = &content.attributes;
        let content_type = attributes.content_type.clone();
        $output.accept_ranges = Some("bytes".to_owned());
        $output.e_tag = Some(ETag::Strong(content.etag.clone()));
        $output.last_modified = Some(Timestamp::from(found.version.modified));
        $output.version_id = found.version_id();
        $output.content_type =
            Some(content_type.unwrap_or_else(|| CONTENT_TYPE_DEFAULT.to_owned()));
        $output.content_encoding = attributes.content_encoding.clone();
        $output.content_language = attributes.content_language.clone();
        $output.content_disposition = attributes.content_disposition.clone();
        $output.cache_control = attributes.cache_control.clone();
        $output.metadata = Some(attributes.metadata.clone().into_iter().collect());
        $output.content_length = i64::try_from(selected.span.end - selected.span.start).ok();
        $output.content_range = content_range(selected, content.blob.length());
        $output.parts_count = selected.parts_count;
        if $with_checksum && !selected.is_partial {
            set_sums!($output, SumFields::of(content.checksum.as_ref()));
            $output.checksum_type = content.checksum.as_ref().map(|sum| kind_name(sum.kind));
        }
    }};
}

impl Api {
    pub(super) async fn put_object(
        &self,
        req: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        // A form upload comes here by the API's own way, with a POST.
        let reason = if req.method == hyper::Method::POST {
            "POST Object"
        } else {
            "PutObject"
        };
        if reason == "PutObject"
            && req.input.content_length.is_none()
            && !req.headers.contains_key(hyper::header::TRANSFER_ENCODING)
        {
            return Err(StoreError::MissingContentLength.into());
        }
        let input = req.input;
        self.bucket_of(&input.bucket, input.expected_bucket_owner.as_ref())?;
        let condition = write_condition(input.if_match, input.if_none_match)?;
        let attributes = Attributes {
            content_type: input.content_type,
            content_encoding: encoding_of(input.content_encoding),
            content_language: input.content_language,
            content_disposition: input.content_disposition,
            cache_control: input.cache_control,
            metadata: metadata_of(input.metadata),
            tags: input
                .tagging
                .as_deref()
                .map(tags_of)
                .transpose()?
                .unwrap_or_default(),
        };
        let declared = intake::declared(&req.headers)?;
        let ticket = self
            .store
            .begin(&input.bucket, &input.key, &attributes, condition)?;
        let trailers = req
            .extensions
            .get::<Trailers>()
            .cloned()
            .unwrap_or_default();
        // S3 takes CRC-64/NVME itself where the client takes none.
        let algorithm = declared
            .as_ref()
            .map_or(Algorithm::Crc64Nvme, |found| found.algorithm);
        let (blob, digests) = intake::receive(
            &self.store,
            input.body,
            input.content_length,
            &req.headers,
            &trailers,
            declared.as_ref(),
            algorithm,
        )
        .await?;
        let value = base64(&digests.checksum.unwrap_or_default());
        let checksum = Some(Sum {
            algorithm,
            kind: Kind::FullObject,
            value,
        });
        let fields = SumFields::of(checksum.as_ref());
        let size = blob.length();
        let content = Content {
            blob,
            etag: hex(&digests.md5),
            checksum,
            parts: Vec::new(),
            attributes,
        };
        let written = self.store.commit(ticket, content, reason)?;
        tracing::trace!(
            bucket = input.bucket,
            key = input.key,
            size,
            reason,
            "object written"
        );
        let mut output = PutObjectOutput {
            e_tag: Some(ETag::Strong(written.etag)),
            version_id: written.version_id,
            checksum_type: Some(kind_name(Kind::FullObject)),
            ..PutObjectOutput::default()
        };
        set_sums!(output, fields);
        answer(output)
    }

    pub(super) async fn get_object(
        &self,
        req: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = req.input;
        self.bucket_of(&input.bucket, input.expected_bucket_owner.as_ref())?;
        let found = self
            .store
            .find(&input.bucket, &input.key, input.version_id.as_deref())?;
        ReadConditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        }
        .judge(&found)?;
        let selected = select(&found, input.range, input.part_number)?;
        let mut output = GetObjectOutput::default();
        describe!(output, &found, &selected, input.checksum_mode.is_some());
        let tags = found.content.attributes.tags.len();
        output.tag_count = i32::try_from(tags).ok().filter(|count| *count > 0);
        let blob = found
            .content
            .blob
            .slice(selected.span.start, selected.span.end);
        output.body = Some(StreamingBlob::wrap(blob.stream()));
        answer(output)
    }

    pub(super) async fn head_object(
        &self,
        req: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = req.input;
        self.bucket_of(&input.bucket, input.expected_bucket_owner.as_ref())?;
        let found = self
            .store
            .find(&input.bucket, &input.key, input.version_id.as_deref())?;
        ReadConditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        }
        .judge(&found)?;
        let selected = select(&found, input.range, input.part_number)?;
        let mut output = HeadObjectOutput::default();
        describe!(output, &found, &selected, input.checksum_mode.is_some());
        let status = selected
            .is_partial
            .then_some(hyper::StatusCode::PARTIAL_CONTENT);
        Ok(S3Response {
            status,
            ..S3Response::new(output)
        })
    }

    pub(super) async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = req.input;
        self.bucket_of(&input.bucket, input.expected_bucket_owner.as_ref())?;
        let etag = input.if_match.map(|condition| match condition {
            ETagCondition::Any => "*".to_owned(),
            ETagCondition::ETag(etag) => etag.into_value(),
        });
        let version_id = input.version_id.as_deref();
        let deleted = self
            .store
            .delete(&input.bucket, &input.key, version_id, etag.as_deref())?;
        answer(DeleteObjectOutput {
            delete_marker: deleted.is_marker.then_some(true),
            version_id: deleted.version_id,
            ..DeleteObjectOutput::default()
        })
    }

    pub(super) async fn delete_objects(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        self.bucket_of(&req.input.bucket, req.input.expected_bucket_owner.as_ref())?;
        if !req.headers.contains_key("content-md5") && intake::declared(&req.headers)?.is_none() {
            return Err(StoreError::request(
                "Missing required header for this request: Content-MD5",
            )
            .into());
        }
        let Delete { objects, quiet } = req.input.delete;
        if objects.is_empty() || objects.len() > DELETE_OBJECTS_MAX {
            return Err(StoreError::MalformedXml.into());
        }
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for object in objects {
            let (key, id) = (object.key, object.version_id);
            let etag = object.e_tag.map(ETag::into_value);
            match self
                .store
                .delete(&req.input.bucket, &key, id.as_deref(), etag.as_deref())
            {
                Ok(done) => deleted.push(DeletedObject {
                    key: Some(key),
                    delete_marker: done.is_marker.then_some(true),
                    delete_marker_version_id: done.version_id.filter(|_| done.is_marker),
                    version_id: id,
                }),
                Err(error) => {
                    let error = s3s::S3Error::from(error);
                    errors.push(Error {
                        key: Some(key),
                        version_id: id,
                        code: Some(error.code().as_str().to_owned()),
                        message: error.message().map(str::to_owned),
                    });
                }
            }
        }
        let deleted = (quiet != Some(true)).then_some(deleted);
        let errors = (!errors.is_empty()).then_some(errors);
        answer(DeleteObjectsOutput {
            deleted,
            errors,
            ..DeleteObjectsOutput::default()
        })
    }

    pub(super) async fn get_object_tagging(
        &self,
        req: S3Request<GetObjectTaggingInput>,
    ) -> S3Result<S3Response<GetObjectTaggingOutput>> {
        let input = req.input;
        self.bucket_of(&input.bucket, input.expected_bucket_owner.as_ref())?;
        let found = self
            .store
            .find(&input.bucket, &input.key, input.version_id.as_deref())?;
        let version_id = found.version_id();
        let tags = found.content.attributes.tags.into_iter();
        let tag_set = tags
            .map(|(key, value)| Tag {
                key: Some(key),
                value: Some(value),
            })
            .collect();
        answer(GetObjectTaggingOutput {
            tag_set,
            version_id,
        })
    }

    pub(super) async fn put_object_tagging(
        &self,
        req: S3Request<PutObjectTaggingInput>,
    ) -> S3Result<S3Response<PutObjectTaggingOutput>> {
        let input = req.input;
        self.bucket_of(&input.bucket, input.expected_bucket_owner.as_ref())?;
        let mut tags = BTreeMap::new();
        for tag in input.tagging.tag_set {
            let (Some(key), Some(value)) = (tag.key, tag.value) else {
                return Err(StoreError::MalformedXml.into());
            };
            if tags.insert(key, value).is_some() {
                let text = "Cannot provide multiple Tags with the same key";
                return Err(StoreError::InvalidTag(text).into());
            }
        }
        let id = input.version_id.as_deref();
        let version_id = self.store.set_tags(&input.bucket, &input.key, id, tags)?;
        answer(PutObjectTaggingOutput { version_id })
    }

    pub(super) async fn delete_object_tagging(
        &self,
        req: S3Request<DeleteObjectTaggingInput>,
    ) -> S3Result<S3Response<DeleteObjectTaggingOutput>> {
        let input = req.input;
        self.bucket_of(&input.bucket, input.expected_bucket_owner.as_ref())?;
        let id = input.version_id.as_deref();
        let version_id = self
            .store
            .set_tags(&input.bucket, &input.key, id, BTreeMap::new())?;
        answer(DeleteObjectTaggingOutput { version_id })
    }
}
