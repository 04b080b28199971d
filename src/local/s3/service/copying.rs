//! Copies inside S3: whole objects, and ranges as parts of an upload.

use hyper::header::{HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result};
use tokio::time::Instant;

use super::super::checksums::{
    Algorithm, Checksum as Sum, Digester, Kind, Wanted, base64, hex, md5_of,
};
use super::super::error::StoreError;
use super::super::intake::{ReadConditions, tags_of, write_condition};
use super::super::object::{Attributes, Content, Found, REQUEST_BYTES_MAX};
use super::super::uploads::{PART_BYTES_MIN, Part, part_number};
use super::objects::{encoding_of, metadata_of};
use super::{Api, SumFields, answer, kind_name, set_sums};

/// The source of a copy, with the id that was asked for.
struct Source {
    bucket: String,
    key: String,
    version_id: Option<String>,
}

impl TryFrom<CopySource> for Source {
    type Error = StoreError;

    fn try_from(source: CopySource) -> Result<Self, StoreError> {
        match source {
            CopySource::Bucket {
                bucket,
                key,
                version_id,
            } => Ok(Self {
                bucket: bucket.into(),
                key: key.into(),
                version_id: version_id.map(Into::into),
            }),
            _ => Err(StoreError::NotImplemented),
        }
    }
}

impl Api {
    fn source(
        &self,
        source: &Source,
        owner: Option<&String>,
        conditions: &ReadConditions,
    ) -> Result<Found, StoreError> {
        self.bucket_of(&source.bucket, owner)?;
        let found = self
            .store
            .find(&source.bucket, &source.key, source.version_id.as_deref());
        // A copy cannot name its source by its method: what GET answers with 405 is 400 here.
        let found = found.map_err(|error| match error {
            StoreError::DeleteMarker(_) => StoreError::request(
                "The source of a copy request may not specifically refer to a delete marker by version id.",
            ),
            error => error,
        })?;
        conditions.judge_source(&found)?;
        Ok(found)
    }

    pub(super) async fn copy_object(
        &self,
        req: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        // Conditions on the target are younger than the crate's model of CopyObject.
        let condition = write_condition(
            etag_condition(&req.headers, IF_MATCH)?,
            etag_condition(&req.headers, IF_NONE_MATCH)?,
        )?;
        let input = req.input;
        self.bucket_of(&input.bucket, input.expected_bucket_owner.as_ref())?;
        let source = Source::try_from(input.copy_source)?;
        let conditions = ReadConditions {
            if_match: input.copy_source_if_match,
            if_none_match: input.copy_source_if_none_match,
            if_modified_since: input.copy_source_if_modified_since,
            if_unmodified_since: input.copy_source_if_unmodified_since,
        };
        let found = self.source(
            &source,
            input.expected_source_bucket_owner.as_ref(),
            &conditions,
        )?;
        let blob = found.content.blob.clone();
        if blob.length() > REQUEST_BYTES_MAX {
            return Err(StoreError::request(format!(
                "The specified copy source is larger than the maximum allowable size for a copy source: {REQUEST_BYTES_MAX}"
            ))
            .into());
        }
        let replaces = replaces(
            input
                .metadata_directive
                .as_ref()
                .map(MetadataDirective::as_str),
        )?;
        let retags = replaces_tags(
            input
                .tagging_directive
                .as_ref()
                .map(TaggingDirective::as_str),
        )?;
        let same = source.bucket == input.bucket && source.key == input.key;
        if same && source.version_id.is_none() && !replaces && input.storage_class.is_none() {
            return Err(StoreError::request(
                "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.",
            )
            .into());
        }
        let mut attributes = if replaces {
            Attributes {
                content_type: input.content_type,
                content_encoding: encoding_of(input.content_encoding),
                content_language: input.content_language,
                content_disposition: input.content_disposition,
                cache_control: input.cache_control,
                metadata: metadata_of(input.metadata),
                tags: found.content.attributes.tags.clone(),
            }
        } else {
            found.content.attributes.clone()
        };
        if retags {
            attributes.tags = input
                .tagging
                .as_deref()
                .map(tags_of)
                .transpose()?
                .unwrap_or_default();
        }
        let ticket = self
            .store
            .begin(&input.bucket, &input.key, &attributes, condition)?;
        let begun = Instant::now();
        let (etag, checksum) = digests_of_copy(&found.content, input.checksum_algorithm).await?;
        if let Some(network) = &self.network {
            network.copied(begun, blob.length()).await;
        }
        let fields = SumFields::of(Some(&checksum));
        let content = Content {
            blob,
            etag,
            checksum: Some(checksum),
            parts: Vec::new(),
            attributes,
        };
        let written = self.store.commit(ticket, content, "CopyObject")?;
        let mut result = CopyObjectResult {
            e_tag: Some(ETag::Strong(written.etag)),
            last_modified: Some(Timestamp::from(written.modified)),
            checksum_type: Some(kind_name(Kind::FullObject)),
            ..CopyObjectResult::default()
        };
        set_sums!(result, fields);
        answer(CopyObjectOutput {
            copy_object_result: Some(result),
            copy_source_version_id: found.version_id(),
            version_id: written.version_id,
            ..CopyObjectOutput::default()
        })
    }

    pub(super) async fn upload_part_copy(
        &self,
        req: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let input = req.input;
        self.bucket_of(&input.bucket, input.expected_bucket_owner.as_ref())?;
        let number = part_number(input.part_number)?;
        let promise = self
            .store
            .promise(&input.bucket, &input.key, &input.upload_id)?;
        let source = Source::try_from(input.copy_source)?;
        let conditions = ReadConditions {
            if_match: input.copy_source_if_match,
            if_none_match: input.copy_source_if_none_match,
            if_modified_since: input.copy_source_if_modified_since,
            if_unmodified_since: input.copy_source_if_unmodified_since,
        };
        let found = self.source(
            &source,
            input.expected_source_bucket_owner.as_ref(),
            &conditions,
        )?;
        let length = found.content.blob.length();
        let (start, end) = match input.copy_source_range.as_deref() {
            None => (0, length),
            Some(range) => source_range(range, length)?,
        };
        if end - start > REQUEST_BYTES_MAX {
            return Err(StoreError::request(format!(
                "The specified copy source is larger than the maximum allowable size for a copy source: {REQUEST_BYTES_MAX}"
            ))
            .into());
        }
        let blob = found.content.blob.slice(start, end);
        let algorithm = promise.map(|promise| promise.algorithm);
        let wanted = Wanted {
            checksum: algorithm,
            payload_sha256: false,
        };
        let begun = Instant::now();
        let digester = match &self.network {
            None => Digester::new(wanted),
            // An MD5 of all that is copied would take longer than the modelled copy.
            Some(_) => Digester::with_etag(wanted, opaque_etag(&found.content.etag, start, end)),
        };
        let digests = blob
            .clone()
            .digest_by(digester)
            .await
            .map_err(StoreError::from)?;
        if let Some(network) = &self.network {
            network.copied(begun, blob.length()).await;
        }
        let part = Part::new(blob, digests);
        let mut result = CopyPartResult {
            e_tag: Some(ETag::Strong(part.etag())),
            last_modified: Some(Timestamp::from(part.modified)),
            ..CopyPartResult::default()
        };
        if let Some(algorithm) = algorithm {
            set_sums!(result, SumFields::new(algorithm, part.checksum()));
        }
        self.store
            .put_part(&input.bucket, &input.key, &input.upload_id, number, part)?;
        answer(UploadPartCopyOutput {
            copy_part_result: Some(result),
            copy_source_version_id: found.version_id(),
            ..UploadPartCopyOutput::default()
        })
    }
}

/// An ETag as of objects under SSE-KMS: of the same bytes the same, and no MD5 of them.
fn opaque_etag(source: &str, start: u64, end: u64) -> [u8; 16] {
    md5_of(format!("{source} {start}-{end}").as_bytes())
}

fn etag_condition(
    headers: &HeaderMap,
    name: HeaderName,
) -> Result<Option<ETagCondition>, StoreError> {
    let parse = |value: &HeaderValue| ETagCondition::parse_http_header(value.as_bytes());
    let invalid = |_| StoreError::argument(format!("Value for {name} header is invalid."));
    headers.get(&name).map(parse).transpose().map_err(invalid)
}

fn replaces(directive: Option<&str>) -> Result<bool, StoreError> {
    match directive {
        None | Some(MetadataDirective::COPY) => Ok(false),
        Some(MetadataDirective::REPLACE) => Ok(true),
        Some(_) => Err(StoreError::argument("Unknown metadata directive.")),
    }
}

fn replaces_tags(directive: Option<&str>) -> Result<bool, StoreError> {
    match directive {
        None | Some(TaggingDirective::COPY) => Ok(false),
        Some(TaggingDirective::REPLACE) => Ok(true),
        Some(_) => Err(StoreError::argument("Unknown tagging directive.")),
    }
}

/// ETag and checksum of a copy: those of the source where they are over its bytes, else computed,
/// because the copy of a multipart object is one piece.
async fn digests_of_copy(
    source: &Content,
    wanted: Option<ChecksumAlgorithm>,
) -> Result<(String, Sum), StoreError> {
    let named = wanted
        .as_ref()
        .and_then(|name| Algorithm::from_name(name.as_str()));
    let kept = source.checksum.as_ref();
    let algorithm = named
        .or(kept.map(|sum| sum.algorithm))
        .unwrap_or(Algorithm::Crc64Nvme);
    if let Some(sum) = kept
        && source.parts.is_empty()
        && sum.algorithm == algorithm
        && sum.kind == Kind::FullObject
    {
        return Ok((source.etag.clone(), sum.clone()));
    }
    let wanted = Wanted {
        checksum: Some(algorithm),
        payload_sha256: false,
    };
    let digests = source.blob.clone().digest(wanted).await?;
    let value = base64(&digests.checksum.unwrap_or_default());
    Ok((
        hex(&digests.md5),
        Sum {
            algorithm,
            kind: Kind::FullObject,
            value,
        },
    ))
}

/// Reads `bytes=first-last`, which has to lie within the source; half-open.
fn source_range(text: &str, length: u64) -> Result<(u64, u64), StoreError> {
    let parsed = text.strip_prefix("bytes=").and_then(|span| {
        let (first, last) = span.split_once('-')?;
        let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
        Some((first, last.checked_add(1)?)).filter(|(start, end)| start < end)
    });
    let (start, end) = parsed.ok_or_else(|| {
        StoreError::argument("The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy")
    })?;
    if end > length {
        return Err(StoreError::argument(format!(
            "Range specified is not valid for source object of size: {length}"
        )));
    }
    // "You can copy a range only if the source object is greater than 5 MB."
    if length <= PART_BYTES_MIN {
        return Err(StoreError::request(
            "The specified copy source is not supported as a byte-range copy source",
        ));
    }
    Ok((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ok_ranges_within_the_source() {
        let length = PART_BYTES_MIN + 1;
        assert_eq!(source_range("bytes=0-0", length).unwrap(), (0, 1));
        let last = format!("bytes=7-{}", length - 1);
        assert_eq!(source_range(&last, length).unwrap(), (7, length));
    }

    #[test]
    fn err_ranges_that_s3_refuses() {
        let length = PART_BYTES_MIN + 1;
        for text in [
            "bytes=0-",
            "bytes=-5",
            "bytes=2-1",
            "0-1",
            "bytes=0-1,3-4",
            "bytes=a-b",
        ] {
            let error = source_range(text, length).unwrap_err();
            assert!(matches!(error, StoreError::InvalidArgument(_)), "{text}");
        }
        let past = format!("bytes=0-{length}");
        assert!(
            source_range(&past, length)
                .unwrap_err()
                .to_string()
                .contains("not valid")
        );
        let small = source_range("bytes=0-0", PART_BYTES_MIN).unwrap_err();
        assert!(matches!(small, StoreError::InvalidRequest(_)));
    }
}
