//! Multipart uploads: begun, sent or copied part by part, completed or aborted.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;

use super::super::{Aws, COPY_TIMEOUT, PART_TIMEOUT, patient};
use super::{copy_source, inclusive, incomplete, metadata, none_match, tagging, uri, written};
use crate::object::{ByteRange, SourceObject};
use crate::revision::{MultipartUploads, NewObject, PartReceipt, Upload, WrittenObject};
use crate::service_error::ServiceError;

impl MultipartUploads for &Aws {
    async fn begin(&self, object: &NewObject) -> Result<Upload, ServiceError> {
        const OPERATION: &str = "CreateMultipartUpload";
        let answer = self
            .s3(Some(&object.region))
            .create_multipart_upload()
            .bucket(object.bucket.as_str())
            .key(object.key.as_str())
            .set_metadata(metadata(object))
            .content_type(object.content_type)
            .set_tagging(tagging(object))
            .checksum_algorithm(ChecksumAlgorithm::Crc32)
            .send()
            .await
            .map_err(|error| self.write_error(OPERATION, object, error))?;
        let upload_id = answer
            .upload_id()
            .ok_or_else(|| incomplete(OPERATION, uri(&object.bucket, &object.key), "UploadId"))?
            .to_owned();
        Ok(Upload {
            object: object.clone(),
            upload_id,
        })
    }

    async fn send_part(
        &self,
        upload: &Upload,
        number: u32,
        body: Bytes,
    ) -> Result<PartReceipt, ServiceError> {
        const OPERATION: &str = "UploadPart";
        let object = &upload.object;
        let request = self
            .s3(Some(&object.region))
            .upload_part()
            .bucket(object.bucket.as_str())
            .key(object.key.as_str())
            .upload_id(&upload.upload_id)
            .part_number(i32::try_from(number).unwrap_or(i32::MAX))
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
        let etag = answer
            .e_tag()
            .ok_or_else(|| incomplete(OPERATION, uri(&object.bucket, &object.key), "ETag"))?
            .into();
        Ok(PartReceipt {
            number,
            etag,
            crc32: answer.checksum_crc32().map(str::to_owned),
        })
    }

    async fn copy_part(
        &self,
        upload: &Upload,
        number: u32,
        source: &SourceObject,
        range: ByteRange,
    ) -> Result<PartReceipt, ServiceError> {
        const OPERATION: &str = "UploadPartCopy";
        let object = &upload.object;
        let answer = self
            .s3(Some(&object.region))
            .upload_part_copy()
            .bucket(object.bucket.as_str())
            .key(object.key.as_str())
            .upload_id(&upload.upload_id)
            .part_number(i32::try_from(number).unwrap_or(i32::MAX))
            .copy_source(copy_source(source))
            .copy_source_if_match(source.etag.quoted())
            .copy_source_range(inclusive(range))
            .customize()
            .config_override(patient(COPY_TIMEOUT))
            .send()
            .await
            .map_err(|error| self.copy_error(OPERATION, object, source, false, error))?;
        let result = answer.copy_part_result();
        let etag = result
            .and_then(|result| result.e_tag())
            .ok_or_else(|| incomplete(OPERATION, uri(&object.bucket, &object.key), "ETag"))?
            .into();
        let crc32 = result
            .and_then(|result| result.checksum_crc32())
            .map(str::to_owned);
        Ok(PartReceipt {
            number,
            etag,
            crc32,
        })
    }

    async fn complete(
        &self,
        upload: &Upload,
        parts: &[PartReceipt],
    ) -> Result<WrittenObject, ServiceError> {
        const OPERATION: &str = "CompleteMultipartUpload";
        let object = &upload.object;
        let parts = parts
            .iter()
            .map(|part| {
                CompletedPart::builder()
                    .part_number(i32::try_from(part.number).unwrap_or(i32::MAX))
                    .e_tag(part.etag.quoted())
                    .set_checksum_crc32(part.crc32.clone())
                    .build()
            })
            .collect();
        let answer = self
            .s3(Some(&object.region))
            .complete_multipart_upload()
            .bucket(object.bucket.as_str())
            .key(object.key.as_str())
            .upload_id(&upload.upload_id)
            .multipart_upload(
                CompletedMultipartUpload::builder()
                    .set_parts(Some(parts))
                    .build(),
            )
            .set_if_none_match(none_match(object))
            .customize()
            .config_override(patient(COPY_TIMEOUT))
            .send()
            .await
            .map_err(|error| self.write_error(OPERATION, object, error))?;
        written(OPERATION, object, answer.e_tag(), answer.version_id())
    }

    async fn abort(&self, upload: &Upload) -> Result<(), ServiceError> {
        let object = &upload.object;
        self.s3(Some(&object.region))
            .abort_multipart_upload()
            .bucket(object.bucket.as_str())
            .key(object.key.as_str())
            .upload_id(&upload.upload_id)
            .send()
            .await
            .map(|_| ())
            .map_err(|error| self.write_error("AbortMultipartUpload", object, error))
    }
}
