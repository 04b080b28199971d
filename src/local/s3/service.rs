//! The S3 API over the store: which operations there are, and buckets themselves.
//!
//! Owns the table of operations; the larger ones have rooms of their own: [`objects`],
//! [`copying`], [`multipart`], [`lists`]. What is not in the table answers 501, as `s3s` does by
//! default.

use std::sync::Arc;

use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result};

use super::super::network::Network;
use super::checksums::{Algorithm, Checksum as Sum, Kind};
use super::error::StoreError;
use super::regions::GLOBAL;
use super::store::{Store, Versioning};

pub mod copying;
pub mod lists;
pub mod multipart;
pub mod objects;

/// The API of one account.
#[derive(Clone)]
pub struct Api {
    /// What it serves.
    pub store: Arc<Store>,
    /// The account that owns every bucket.
    pub account: String,
    /// The Region of buckets that were made without one.
    pub region: String,
    /// The modelled network, where there is one.
    pub network: Option<Arc<Network>>,
}

impl Api {
    /// The Region of a bucket.
    pub fn region_of(&self, bucket: &str) -> Result<String, StoreError> {
        Ok(self
            .store
            .region(bucket)?
            .unwrap_or_else(|| self.region.clone()))
    }

    /// Refuses a request that expects another owner (`x-amz-expected-bucket-owner`).
    fn expect_owner(&self, expected: Option<&String>) -> Result<(), StoreError> {
        match expected {
            Some(owner) if *owner != self.account => Err(StoreError::AccessDenied),
            _ => Ok(()),
        }
    }

    /// The same for an operation on the bucket itself, which has to exist.
    fn bucket_of(&self, bucket: &str, expected: Option<&String>) -> Result<Versioning, StoreError> {
        let versioning = self.store.versioning(bucket)?;
        self.expect_owner(expected)?;
        Ok(versioning)
    }
}

/// The five fields in which S3's structures carry a checksum.
#[derive(Default)]
struct SumFields {
    crc32: Option<String>,
    crc32c: Option<String>,
    crc64nvme: Option<String>,
    sha1: Option<String>,
    sha256: Option<String>,
}

impl SumFields {
    fn new(algorithm: Algorithm, value: Option<String>) -> Self {
        let mut fields = Self::default();
        match algorithm {
            Algorithm::Crc32 => fields.crc32 = value,
            Algorithm::Crc32c => fields.crc32c = value,
            Algorithm::Crc64Nvme => fields.crc64nvme = value,
            Algorithm::Sha1 => fields.sha1 = value,
            Algorithm::Sha256 => fields.sha256 = value,
        }
        fields
    }

    fn of(checksum: Option<&Sum>) -> Self {
        checksum.map_or_else(Self::default, |sum| {
            Self::new(sum.algorithm, Some(sum.value.clone()))
        })
    }
}

/// Writes the checksum fields of one of S3's structures.
macro_rules! set_sums {
    ($target:expr, $fields:expr) => {{
        let fields = $fields;
        $target.checksum_crc32 = fields.crc32;
        $target.checksum_crc32c = fields.crc32c;
        $target.checksum_crc64nvme = fields.crc64nvme;
        $target.checksum_sha1 = fields.sha1;
        $target.checksum_sha256 = fields.sha256;
    }};
}
use set_sums;

/// Reads the checksum fields of one of S3's structures.
macro_rules! get_sums {
    ($source:expr) => {
        [
            (Algorithm::Crc32, $source.checksum_crc32.clone()),
            (Algorithm::Crc32c, $source.checksum_crc32c.clone()),
            (Algorithm::Crc64Nvme, $source.checksum_crc64nvme.clone()),
            (Algorithm::Sha1, $source.checksum_sha1.clone()),
            (Algorithm::Sha256, $source.checksum_sha256.clone()),
        ]
        .into_iter()
        .filter_map(|(algorithm, value)| Some((algorithm, value?)))
        .collect::<Vec<_>>()
    };
}
use get_sums;

fn kind_name(kind: Kind) -> ChecksumType {
    ChecksumType::from_static(match kind {
        Kind::FullObject => ChecksumType::FULL_OBJECT,
        Kind::Composite => ChecksumType::COMPOSITE,
    })
}

fn answer<T>(output: T) -> S3Result<S3Response<T>> {
    Ok(S3Response::new(output))
}

/// One line of the table: an operation that is carried out by a method of [`Api`].
macro_rules! operations {
    ($($name:ident: $input:ident => $output:ident;)*) => {
        #[async_trait::async_trait]
        impl S3 for Api {
            $(
                async fn $name(&self, req: S3Request<$input>) -> S3Result<S3Response<$output>> {
                    self.$name(req).await
                }
            )*
        }
    };
}

operations! {
    list_buckets: ListBucketsInput => ListBucketsOutput;
    create_bucket: CreateBucketInput => CreateBucketOutput;
    head_bucket: HeadBucketInput => HeadBucketOutput;
    delete_bucket: DeleteBucketInput => DeleteBucketOutput;
    get_bucket_location: GetBucketLocationInput => GetBucketLocationOutput;
    get_bucket_versioning: GetBucketVersioningInput => GetBucketVersioningOutput;
    put_bucket_versioning: PutBucketVersioningInput => PutBucketVersioningOutput;
    list_objects_v2: ListObjectsV2Input => ListObjectsV2Output;
    list_objects: ListObjectsInput => ListObjectsOutput;
    list_object_versions: ListObjectVersionsInput => ListObjectVersionsOutput;
    put_object: PutObjectInput => PutObjectOutput;
    get_object: GetObjectInput => GetObjectOutput;
    head_object: HeadObjectInput => HeadObjectOutput;
    delete_object: DeleteObjectInput => DeleteObjectOutput;
    delete_objects: DeleteObjectsInput => DeleteObjectsOutput;
    get_object_tagging: GetObjectTaggingInput => GetObjectTaggingOutput;
    put_object_tagging: PutObjectTaggingInput => PutObjectTaggingOutput;
    delete_object_tagging: DeleteObjectTaggingInput => DeleteObjectTaggingOutput;
    copy_object: CopyObjectInput => CopyObjectOutput;
    upload_part_copy: UploadPartCopyInput => UploadPartCopyOutput;
    create_multipart_upload: CreateMultipartUploadInput => CreateMultipartUploadOutput;
    upload_part: UploadPartInput => UploadPartOutput;
    complete_multipart_upload: CompleteMultipartUploadInput => CompleteMultipartUploadOutput;
    abort_multipart_upload: AbortMultipartUploadInput => AbortMultipartUploadOutput;
    list_parts: ListPartsInput => ListPartsOutput;
    list_multipart_uploads: ListMultipartUploadsInput => ListMultipartUploadsOutput;
}

impl Api {
    async fn list_buckets(
        &self,
        _: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        let bucket = |(name, created)| Bucket {
            name: Some(name),
            creation_date: Some(Timestamp::from(created)),
            ..Bucket::default()
        };
        let owner = Owner {
            id: Some(self.account.clone()),
            ..Owner::default()
        };
        answer(ListBucketsOutput {
            buckets: Some(self.store.buckets().into_iter().map(bucket).collect()),
            owner: Some(owner),
            ..ListBucketsOutput::default()
        })
    }

    async fn create_bucket(
        &self,
        req: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let configuration = req.input.create_bucket_configuration.as_ref();
        let region = configuration
            .and_then(|configuration| configuration.location_constraint.as_ref())
            .map(BucketLocationConstraint::as_str);
        self.store.create_bucket_in(&req.input.bucket, region)?;
        answer(CreateBucketOutput {
            location: Some(format!("/{}", req.input.bucket)),
        })
    }

    async fn head_bucket(
        &self,
        req: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.bucket_of(&req.input.bucket, req.input.expected_bucket_owner.as_ref())?;
        answer(HeadBucketOutput {
            bucket_region: Some(self.region_of(&req.input.bucket)?),
            ..HeadBucketOutput::default()
        })
    }

    async fn delete_bucket(
        &self,
        req: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        self.bucket_of(&req.input.bucket, req.input.expected_bucket_owner.as_ref())?;
        self.store.delete_bucket(&req.input.bucket)?;
        answer(DeleteBucketOutput::default())
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.bucket_of(&req.input.bucket, req.input.expected_bucket_owner.as_ref())?;
        // us-east-1 is the one Region without a constraint.
        let region = self.region_of(&req.input.bucket)?;
        let constraint = (region != GLOBAL).then(|| BucketLocationConstraint::from(region));
        answer(GetBucketLocationOutput {
            location_constraint: constraint,
        })
    }

    async fn get_bucket_versioning(
        &self,
        req: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        let owner = req.input.expected_bucket_owner.as_ref();
        let status = match self.bucket_of(&req.input.bucket, owner)? {
            Versioning::Off => None,
            Versioning::Enabled => Some(BucketVersioningStatus::ENABLED),
            Versioning::Suspended => Some(BucketVersioningStatus::SUSPENDED),
        };
        answer(GetBucketVersioningOutput {
            status: status.map(BucketVersioningStatus::from_static),
            ..GetBucketVersioningOutput::default()
        })
    }

    async fn put_bucket_versioning(
        &self,
        req: S3Request<PutBucketVersioningInput>,
    ) -> S3Result<S3Response<PutBucketVersioningOutput>> {
        self.bucket_of(&req.input.bucket, req.input.expected_bucket_owner.as_ref())?;
        let status = req.input.versioning_configuration.status;
        let wanted = match status.as_ref().map(BucketVersioningStatus::as_str) {
            Some(BucketVersioningStatus::ENABLED) => Versioning::Enabled,
            Some(BucketVersioningStatus::SUSPENDED) => Versioning::Suspended,
            _ => return Err(StoreError::MalformedXml.into()),
        };
        self.store.set_versioning(&req.input.bucket, wanted)?;
        answer(PutBucketVersioningOutput::default())
    }
}
