//! Listings on the wire: keys, versions, uploads, parts.

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result};

use super::super::encoding::encode_key;
use super::super::error::StoreError;
use super::super::listing::{Listed, PAGE_ENTRIES_MAX, Page};
use super::super::object::{Content, NULL_VERSION, Version};
use super::{Api, SumFields, answer, kind_name, set_sums};

/// The page size that a client asks for, within S3's bounds.
fn page_size(wanted: Option<i32>, what: &'static str) -> Result<usize, StoreError> {
    match wanted {
        None => Ok(PAGE_ENTRIES_MAX),
        Some(wanted) => usize::try_from(wanted)
            .map(|size| size.min(PAGE_ENTRIES_MAX))
            .map_err(|_| {
                StoreError::argument(format!(
                    "Argument {what} must be an integer between 0 and 2147483647"
                ))
            }),
    }
}

/// Writes keys as `encoding-type` asks.
#[derive(Clone, Copy)]
struct Encoding {
    is_url: bool,
}

impl Encoding {
    fn of(encoding: Option<&EncodingType>) -> Result<Self, StoreError> {
        match encoding.map(EncodingType::as_str) {
            None => Ok(Self { is_url: false }),
            Some(EncodingType::URL) => Ok(Self { is_url: true }),
            Some(_) => Err(StoreError::argument(
                "Invalid Encoding Method specified in Request",
            )),
        }
    }

    fn text(self, text: &str) -> String {
        if self.is_url {
            encode_key(text)
        } else {
            text.to_owned()
        }
    }

    fn optional(self, text: Option<&str>) -> Option<String> {
        text.map(|text| self.text(text))
    }

    fn prefixes<T>(self, page: &Page<T>) -> Option<Vec<CommonPrefix>> {
        let prefixes = page.prefixes.iter();
        let written = prefixes.map(|prefix| CommonPrefix {
            prefix: Some(self.text(prefix)),
        });
        Some(written.collect())
    }

    fn object(self, key: &str, version: &Version, content: &Content) -> Object {
        let checksum = content.checksum.as_ref();
        Object {
            key: Some(self.text(key)),
            e_tag: Some(ETag::Strong(content.etag.clone())),
            size: i64::try_from(content.blob.length()).ok(),
            last_modified: Some(Timestamp::from(version.modified)),
            storage_class: Some(ObjectStorageClass::from_static(
                ObjectStorageClass::STANDARD,
            )),
            checksum_algorithm: checksum
                .map(|sum| vec![ChecksumAlgorithm::from_static(sum.algorithm.name())]),
            checksum_type: checksum.map(|sum| kind_name(sum.kind)),
            ..Object::default()
        }
    }
}

fn limit(size: usize) -> Option<i32> {
    i32::try_from(size).ok()
}

/// Continuation tokens are opaque: hexadecimal of the last entry, so that nobody makes them up.
fn token_of(last: &str) -> String {
    super::super::checksums::hex(last.as_bytes())
}

fn last_of(token: &str) -> Result<String, StoreError> {
    let invalid = || StoreError::argument("The continuation token provided is incorrect");
    let pairs = token.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes = pairs
        .map(byte)
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(invalid)?;
    String::from_utf8(bytes)
        .ok()
        .filter(|last| !last.is_empty())
        .ok_or_else(invalid)
}

impl Api {
    pub(super) async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = req.input;
        self.bucket_of(&input.bucket, input.expected_bucket_owner.as_ref())?;
        let encoding = Encoding::of(input.encoding_type.as_ref())?;
        let size = page_size(input.max_keys, "max-keys")?;
        let continued = input
            .continuation_token
            .as_deref()
            .map(last_of)
            .transpose()?;
        let page = self.store.list(
            &input.bucket,
            &Listed {
                prefix: input.prefix.as_deref().unwrap_or_default(),
                delimiter: input.delimiter.as_deref().unwrap_or_default(),
                after: continued.as_deref().or(input.start_after.as_deref()),
                entries_max: size,
            },
        )?;
        let contents = page.entries.iter();
        let contents =
            contents.map(|(key, (version, content))| encoding.object(key, version, content));
        answer(ListObjectsV2Output {
            contents: Some(contents.collect()),
            common_prefixes: encoding.prefixes(&page),
            key_count: limit(page.entries.len() + page.prefixes.len()),
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next.as_deref().map(token_of),
            prefix: Some(encoding.text(input.prefix.as_deref().unwrap_or_default())),
            delimiter: encoding.optional(input.delimiter.as_deref()),
            start_after: encoding.optional(input.start_after.as_deref()),
            continuation_token: input.continuation_token,
            encoding_type: input.encoding_type,
            max_keys: limit(size),
            name: Some(input.bucket),
            ..ListObjectsV2Output::default()
        })
    }

    pub(super) async fn list_objects(
        &self,
        req: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        let input = req.input;
        self.bucket_of(&input.bucket, input.expected_bucket_owner.as_ref())?;
        let encoding = Encoding::of(input.encoding_type.as_ref())?;
        let size = page_size(input.max_keys, "max-keys")?;
        let page = self.store.list(
            &input.bucket,
            &Listed {
                prefix: input.prefix.as_deref().unwrap_or_default(),
                delimiter: input.delimiter.as_deref().unwrap_or_default(),
                after: input.marker.as_deref().filter(|marker| !marker.is_empty()),
                entries_max: size,
            },
        )?;
        let contents = page.entries.iter();
        let contents =
            contents.map(|(key, (version, content))| encoding.object(key, version, content));
        // S3 tells where to go on only where there is a delimiter; else the last key says it.
        let next = page.next.as_deref().filter(|_| input.delimiter.is_some());
        answer(ListObjectsOutput {
            contents: Some(contents.collect()),
            common_prefixes: encoding.prefixes(&page),
            is_truncated: Some(page.next.is_some()),
            next_marker: encoding.optional(next),
            prefix: Some(encoding.text(input.prefix.as_deref().unwrap_or_default())),
            delimiter: encoding.optional(input.delimiter.as_deref()),
            marker: Some(encoding.text(input.marker.as_deref().unwrap_or_default())),
            encoding_type: input.encoding_type,
            max_keys: limit(size),
            name: Some(input.bucket),
            ..ListObjectsOutput::default()
        })
    }

    pub(super) async fn list_object_versions(
        &self,
        req: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let input = req.input;
        self.bucket_of(&input.bucket, input.expected_bucket_owner.as_ref())?;
        let encoding = Encoding::of(input.encoding_type.as_ref())?;
        let size = page_size(input.max_keys, "max-keys")?;
        let page = self.store.list_versions(
            &input.bucket,
            &Listed {
                prefix: input.prefix.as_deref().unwrap_or_default(),
                delimiter: input.delimiter.as_deref().unwrap_or_default(),
                after: input
                    .key_marker
                    .as_deref()
                    .filter(|marker| !marker.is_empty()),
                entries_max: size,
            },
        )?;
        let (mut versions, mut delete_markers) = (Vec::new(), Vec::new());
        for (key, placed) in &page.entries {
            let (version, is_latest) = (&placed.version, Some(placed.is_latest));
            let (key, version_id) = (Some(encoding.text(key)), Some(version.id.clone()));
            let last_modified = Some(Timestamp::from(version.modified));
            match &version.content {
                Some(content) => versions.push(ObjectVersion {
                    key,
                    version_id,
                    is_latest,
                    last_modified,
                    e_tag: Some(ETag::Strong(content.etag.clone())),
                    size: i64::try_from(content.blob.length()).ok(),
                    storage_class: Some(ObjectVersionStorageClass::from_static(
                        ObjectVersionStorageClass::STANDARD,
                    )),
                    ..ObjectVersion::default()
                }),
                None => delete_markers.push(DeleteMarkerEntry {
                    key,
                    version_id,
                    is_latest,
                    last_modified,
                    ..DeleteMarkerEntry::default()
                }),
            }
        }
        // All versions of a key are on one page, so the next one goes on behind the key.
        let last = page.entries.last().filter(|_| page.next.is_some());
        let next_version = last.map(|(_, placed)| placed.version.id.clone());
        let next_version = page
            .next
            .as_ref()
            .map(|_| next_version.unwrap_or(NULL_VERSION.to_owned()));
        answer(ListObjectVersionsOutput {
            versions: Some(versions),
            delete_markers: Some(delete_markers),
            common_prefixes: encoding.prefixes(&page),
            is_truncated: Some(page.next.is_some()),
            next_key_marker: encoding.optional(page.next.as_deref()),
            next_version_id_marker: next_version,
            key_marker: Some(encoding.text(input.key_marker.as_deref().unwrap_or_default())),
            version_id_marker: Some(input.version_id_marker.unwrap_or_default()),
            prefix: Some(encoding.text(input.prefix.as_deref().unwrap_or_default())),
            delimiter: encoding.optional(input.delimiter.as_deref()),
            encoding_type: input.encoding_type,
            max_keys: limit(size),
            name: Some(input.bucket),
            ..ListObjectVersionsOutput::default()
        })
    }

    pub(super) async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = req.input;
        self.bucket_of(&input.bucket, input.expected_bucket_owner.as_ref())?;
        let encoding = Encoding::of(input.encoding_type.as_ref())?;
        let size = page_size(input.max_uploads, "max-uploads")?;
        let page = self.store.list_uploads(
            &input.bucket,
            &Listed {
                prefix: input.prefix.as_deref().unwrap_or_default(),
                delimiter: input.delimiter.as_deref().unwrap_or_default(),
                after: input
                    .key_marker
                    .as_deref()
                    .filter(|marker| !marker.is_empty()),
                entries_max: size,
            },
        )?;
        let uploads = page
            .entries
            .iter()
            .map(|(key, (id, upload))| MultipartUpload {
                key: Some(encoding.text(key)),
                upload_id: Some(id.clone()),
                initiated: Some(Timestamp::from(upload.initiated)),
                checksum_algorithm: upload
                    .promise
                    .map(|promise| ChecksumAlgorithm::from_static(promise.algorithm.name())),
                checksum_type: upload.promise.map(|promise| kind_name(promise.kind)),
                storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
                ..MultipartUpload::default()
            });
        let last = page.entries.last().filter(|_| page.next.is_some());
        answer(ListMultipartUploadsOutput {
            uploads: Some(uploads.collect()),
            common_prefixes: encoding.prefixes(&page),
            is_truncated: Some(page.next.is_some()),
            next_key_marker: encoding.optional(page.next.as_deref()),
            next_upload_id_marker: last.map(|(_, (id, _))| id.clone()),
            key_marker: Some(encoding.text(input.key_marker.as_deref().unwrap_or_default())),
            upload_id_marker: Some(input.upload_id_marker.unwrap_or_default()),
            prefix: Some(encoding.text(input.prefix.as_deref().unwrap_or_default())),
            delimiter: encoding.optional(input.delimiter.as_deref()),
            encoding_type: input.encoding_type,
            max_uploads: limit(size),
            bucket: Some(input.bucket),
            ..ListMultipartUploadsOutput::default()
        })
    }

    pub(super) async fn list_parts(
        &self,
        req: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
        let input = req.input;
        self.bucket_of(&input.bucket, input.expected_bucket_owner.as_ref())?;
        let size = page_size(input.max_parts, "max-parts")?;
        let marker = input.part_number_marker.unwrap_or_default();
        let upload = self
            .store
            .upload(&input.bucket, &input.key, &input.upload_id)?;
        let rest = upload
            .parts
            .iter()
            .filter(|(number, _)| i32::from(**number) > marker);
        let page: Vec<_> = rest.clone().take(size).collect();
        let is_truncated = rest.count() > page.len();
        let next = page.last().map(|(number, _)| i32::from(**number));
        let parts = page.into_iter().map(|(number, part)| {
            let mut listed = s3s::dto::Part {
                part_number: Some(i32::from(*number)),
                e_tag: Some(ETag::Strong(part.etag())),
                size: i64::try_from(part.blob.length()).ok(),
                last_modified: Some(Timestamp::from(part.modified)),
                ..s3s::dto::Part::default()
            };
            if let Some(promise) = upload.promise {
                set_sums!(listed, SumFields::new(promise.algorithm, part.checksum()));
            }
            listed
        });
        answer(ListPartsOutput {
            parts: Some(parts.collect()),
            is_truncated: Some(is_truncated),
            next_part_number_marker: next.filter(|_| is_truncated),
            part_number_marker: Some(marker),
            max_parts: limit(size),
            checksum_algorithm: upload
                .promise
                .map(|promise| ChecksumAlgorithm::from_static(promise.algorithm.name())),
            checksum_type: upload.promise.map(|promise| kind_name(promise.kind)),
            storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            ..ListPartsOutput::default()
        })
    }
}
