//! Multipart uploads on the wire: create, parts, complete, abort.

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result};

use super::super::checksums::{Algorithm, Kind, Wanted};
use super::super::error::StoreError;
use super::super::intake::{self, Trailers, tags_of, write_condition};
use super::super::object::Attributes;
use super::super::uploads::{Completion, Named, Part, Promise, part_number};
use super::objects::{encoding_of, metadata_of};
use super::{Api, SumFields, answer, get_sums, kind_name, set_sums};

fn kind_of(name: Option<&ChecksumType>) -> Result<Option<Kind>, StoreError> {
    match name.map(ChecksumType::as_str) {
        None => Ok(None),
        Some(ChecksumType::COMPOSITE) => Ok(Some(Kind::Composite)),
        Some(ChecksumType::FULL_OBJECT) => Ok(Some(Kind::FullObject)),
        Some(_) => Err(StoreError::request(
            "Value for x-amz-checksum-type header is invalid.",
        )),
    }
}

fn promise_of(
    algorithm: Option<&ChecksumAlgorithm>,
    kind: Option<&ChecksumType>,
) -> Result<Option<Promise>, StoreError> {
    let kind = kind_of(kind)?;
    let Some(name) = algorithm else {
        return match kind {
            None => Ok(None),
            Some(_) => Err(StoreError::request(
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
            )),
        };
    };
    let algorithm = Algorithm::from_name(name.as_str()).ok_or_else(|| {
        StoreError::request("Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]")
    })?;
    Ok(Some(Promise {
        algorithm,
        kind: kind.unwrap_or(algorithm.default_kind()),
    }))
}

impl Api {
    pub(super) async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = req.input;
        self.bucket_of(&input.bucket, input.expected_bucket_owner.as_ref())?;
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
        let promise = promise_of(
            input.checksum_algorithm.as_ref(),
            input.checksum_type.as_ref(),
        )?;
        let upload_id = self
            .store
            .create_upload(&input.bucket, &input.key, attributes, promise)?;
        answer(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(upload_id),
            checksum_algorithm: input.checksum_algorithm,
            checksum_type: promise.map(|promise| kind_name(promise.kind)),
            ..CreateMultipartUploadOutput::default()
        })
    }

    pub(super) async fn upload_part(
        &self,
        req: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let input = req.input;
        self.bucket_of(&input.bucket, input.expected_bucket_owner.as_ref())?;
        let number = part_number(input.part_number)?;
        let promise = self
            .store
            .promise(&input.bucket, &input.key, &input.upload_id)?;
        let declared = intake::declared(&req.headers)?;
        let sent = declared.as_ref().map(|found| found.algorithm);
        if let Some(Promise { algorithm, .. }) = promise
            && sent != Some(algorithm)
        {
            return Err(StoreError::request(format!(
                "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
                algorithm.name().to_lowercase(),
                sent.map_or("null".to_owned(), |sent| sent.name().to_lowercase()),
            ))
            .into());
        }
        let trailers = req
            .extensions
            .get::<Trailers>()
            .cloned()
            .unwrap_or_default();
        let algorithm = sent.unwrap_or(Algorithm::Crc64Nvme);
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
        let part = Part::new(blob, digests);
        let mut output = UploadPartOutput {
            e_tag: Some(ETag::Strong(part.etag())),
            ..UploadPartOutput::default()
        };
        set_sums!(output, SumFields::new(algorithm, part.checksum()));
        self.store
            .put_part(&input.bucket, &input.key, &input.upload_id, number, part)?;
        answer(output)
    }

    pub(super) async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = req.input;
        self.bucket_of(&input.bucket, input.expected_bucket_owner.as_ref())?;
        let parts = input
            .multipart_upload
            .as_ref()
            .and_then(|upload| upload.parts.as_ref());
        let named = |part: &CompletedPart| Named {
            number: part.part_number.unwrap_or_default(),
            etag: part.e_tag.clone().map(ETag::into_value),
            checksums: get_sums!(part),
        };
        let parts: Vec<Named> = parts.into_iter().flatten().map(named).collect();
        let completion = Completion {
            condition: write_condition(input.if_match.clone(), input.if_none_match.clone())?,
            object_size: object_size(input.mpu_object_size)?,
            checksum: get_sums!(input).pop(),
            kind: kind_of(input.checksum_type.as_ref())?,
        };
        let (bucket, key) = (&input.bucket, &input.key);
        let assembled = self
            .store
            .assemble(bucket, key, &input.upload_id, &parts, completion)?;
        let whole = match assembled.missing {
            Some(algorithm) => {
                let wanted = Wanted {
                    checksum: Some(algorithm),
                    payload_sha256: false,
                };
                assembled
                    .blob()
                    .digest(wanted)
                    .await
                    .map_err(StoreError::from)?
                    .checksum
            }
            None => {
                // Completions of one key overlap on AWS, so they may overlap here.
                tokio::task::yield_now().await;
                None
            }
        };
        let written = self.store.finish_upload(assembled, whole)?;
        let found = self
            .store
            .find(bucket, key, written.version_id.as_deref())
            .ok();
        let checksum = found.and_then(|found| found.content.checksum);
        let mut output = CompleteMultipartUploadOutput {
            location: Some(format!("/{bucket}/{key}")),
            e_tag: Some(ETag::Strong(written.etag)),
            version_id: written.version_id,
            checksum_type: checksum.as_ref().map(|sum| kind_name(sum.kind)),
            ..CompleteMultipartUploadOutput::default()
        };
        set_sums!(output, SumFields::of(checksum.as_ref()));
        output.bucket = Some(input.bucket);
        output.key = Some(input.key);
        answer(output)
    }

    pub(super) async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = req.input;
        self.bucket_of(&input.bucket, input.expected_bucket_owner.as_ref())?;
        self.store
            .abort_upload(&input.bucket, &input.key, &input.upload_id)?;
        answer(AbortMultipartUploadOutput::default())
    }
}

fn object_size(size: Option<i64>) -> Result<Option<u64>, StoreError> {
    let invalid = |_| StoreError::argument("Value for x-amz-mp-object-size header is invalid.");
    size.map(|size| u64::try_from(size).map_err(invalid))
        .transpose()
}
