//! An AWS that has one staged object and one settings file, takes every write and does nothing with it.
//!
//! The real `deploy` function runs on it, so that what is explained is what would be done. It notes the
//! requests and the calls; what only AWS knows (whether a group exists, whether a bucket keeps versions) it
//! answers as if all were well, and notes that.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;

use super::calls;
use crate::deployment::{
    ApplicationName, CodeDeploy, DeploymentConfigName, DeploymentConfigs, DeploymentGroupInfo,
    DeploymentGroupName, DeploymentId, DeploymentInfo, DeploymentRequest, DeploymentStatus,
    DeploymentToken, Region, RevisionLocation,
};
use crate::object::{BucketName, ByteRange, ETag, ObjectKey, S3Prefix, SourceObject, VersionId};
use crate::records::{Condition, DocumentStore, ListedKey, StoredDocument};
use crate::revision::{
    MultipartUploads, NewObject, ObjectHead, ObjectReader, ObjectStore, PartReceipt, Upload,
    WrittenObject,
};
use crate::service_error::{Kind, ServiceError};

/// Stands where S3 would say an ETag.
const GIVEN_ETAG: &str = "given-by-S3";
/// Stands where CodeDeploy would say an id.
const GIVEN_DEPLOYMENT: &str = "d-GIVENBYAWS";

/// The one staged object, the one settings file and what was asked so far.
#[derive(Debug)]
pub(super) struct DryRun<'a, R> {
    reader: &'a R,
    artifact: &'a SourceObject,
    head: ObjectHead,
    settings_place: &'a S3Prefix,
    settings: &'a [u8],
    asked: Mutex<Asked>,
}

/// What was asked.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// How often each operation.
    pub requests: BTreeMap<&'static str, u64>,
    /// Calls that CodeDeploy would get and that change something.
    pub calls: Vec<Value>,
    /// What was taken for granted.
    pub assumed: Vec<String>,
    documents: BTreeMap<String, Vec<u8>>,
}

impl<'a, R> DryRun<'a, R> {
    pub fn new(
        reader: &'a R,
        artifact: &'a SourceObject,
        head: ObjectHead,
        settings_place: &'a S3Prefix,
        settings: &'a [u8],
    ) -> Self {
        Self {
            reader,
            artifact,
            head,
            settings_place,
            settings,
            asked: Mutex::default(),
        }
    }

    pub fn into_asked(self) -> Asked {
        self.asked
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, operation: &'static str) {
        *self.asked().requests.entry(operation).or_default() += 1;
    }

    fn assume(&self, what: String) {
        let mut asked = self.asked();
        if !asked.assumed.contains(&what) {
            asked.assumed.push(what);
        }
    }

    fn is_artifact(&self, bucket: &BucketName, key: &ObjectKey) -> bool {
        *bucket == self.artifact.bucket && *key == self.artifact.key
    }
}

fn not_found(operation: &'static str, bucket: &BucketName, key: &ObjectKey) -> ServiceError {
    ServiceError {
        operation,
        resource: format!("s3://{bucket}/{key}"),
        kind: Kind::NotFound,
        code: Some("NoSuchKey".to_owned()),
        message: "there is none in an explanation".to_owned(),
    }
}

fn etag_of(bytes: &[u8]) -> ETag {
    format!("{:08x}-{}", crc32fast::hash(bytes), bytes.len()).into()
}

fn given() -> WrittenObject {
    WrittenObject {
        etag: GIVEN_ETAG.into(),
        version_id: None,
    }
}

impl<R: Sync> DocumentStore for &DryRun<'_, R> {
    async fn get(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        bytes_max: u64,
    ) -> Result<Option<StoredDocument>, ServiceError> {
        self.count("GetObject");
        let is_settings = *bucket == self.settings_place.bucket
            && key.as_str().starts_with(&self.settings_place.prefix)
            && !self.asked().documents.contains_key(key.as_str());
        let bytes = if is_settings {
            Some(self.settings.to_vec())
        } else {
            self.asked().documents.get(key.as_str()).cloned()
        };
        if bytes
            .as_ref()
            .is_some_and(|bytes| bytes.len() as u64 > bytes_max)
        {
            return Err(ServiceError {
                operation: "GetObject",
                resource: format!("s3://{bucket}/{key}"),
                kind: Kind::Refused,
                code: Some("EntityTooLarge".to_owned()),
                message: format!("the object has more than {bytes_max} bytes"),
            });
        }
        Ok(bytes.map(|bytes| StoredDocument {
            etag: etag_of(&bytes),
            bytes,
        }))
    }

    async fn put(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        bytes: Vec<u8>,
        condition: &Condition,
    ) -> Result<ETag, ServiceError> {
        self.count("PutObject");
        let mut asked = self.asked();
        let there = asked
            .documents
            .get(key.as_str())
            .map(|bytes| etag_of(bytes));
        let holds = match condition {
            Condition::Absent => there.is_none(),
            Condition::Matches(etag) => there.as_ref() == Some(etag),
            Condition::Any => true,
        };
        if !holds {
            return Err(ServiceError {
                kind: Kind::PreconditionFailed,
                ..not_found("PutObject", bucket, key)
            });
        }
        let etag = etag_of(&bytes);
        asked.documents.insert(key.as_str().to_owned(), bytes);
        Ok(etag)
    }

    async fn delete(&self, _: &BucketName, key: &ObjectKey) -> Result<(), ServiceError> {
        self.count("DeleteObject");
        self.asked().documents.remove(key.as_str());
        Ok(())
    }

    async fn list(
        &self,
        _: &BucketName,
        prefix: &str,
        keys_max: usize,
    ) -> Result<Vec<ListedKey>, ServiceError> {
        self.count("ListObjectsV2");
        Ok(self
            .asked()
            .documents
            .keys()
            .filter(|key| key.starts_with(prefix))
            .take(keys_max)
            .map(|key| ListedKey {
                key: key.clone(),
                written_at: self.head.last_modified,
            })
            .collect())
    }
}

impl<R: ObjectReader> ObjectReader for &DryRun<'_, R> {
    async fn read(&self, source: &SourceObject, range: ByteRange) -> Result<Bytes, ServiceError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        self.count("GetObject");
        self.reader.read(source, range).await
    }
}

impl<R: ObjectReader> ObjectStore for &DryRun<'_, R> {
    async fn head(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        _: Option<&VersionId>,
        _: Option<&ETag>,
    ) -> Result<ObjectHead, ServiceError> {
        self.count("HeadObject");
        if self.is_artifact(bucket, key) {
            return Ok(self.head.clone());
        }
        self.assume(format!("nothing lies at s3://{bucket}/{key} yet"));
        Err(not_found("HeadObject", bucket, key))
    }

    async fn put(&self, _: &NewObject, _: Bytes) -> Result<WrittenObject, ServiceError> {
        self.count("PutObject");
        Ok(given())
    }

    async fn copy(&self, _: &NewObject, _: &SourceObject) -> Result<WrittenObject, ServiceError> {
        self.count("CopyObject");
        Ok(given())
    }

    async fn is_versioned(&self, bucket: &BucketName, _: &Region) -> Result<bool, ServiceError> {
        self.count("GetBucketVersioning");
        self.assume(format!("bucket {bucket} keeps versions"));
        Ok(true)
    }
}

impl<R: ObjectReader> MultipartUploads for &DryRun<'_, R> {
    async fn begin(&self, object: &NewObject) -> Result<Upload, ServiceError> {
        self.count("CreateMultipartUpload");
        Ok(Upload {
            object: object.clone(),
            upload_id: "none".to_owned(),
        })
    }

    async fn send_part(
        &self,
        _: &Upload,
        number: u32,
        _: Bytes,
    ) -> Result<PartReceipt, ServiceError> {
        self.count("UploadPart");
        Ok(PartReceipt {
            number,
            etag: GIVEN_ETAG.into(),
            crc32: None,
        })
    }

    async fn copy_part(
        &self,
        _: &Upload,
        number: u32,
        _: &SourceObject,
        _: ByteRange,
    ) -> Result<PartReceipt, ServiceError> {
        self.count("UploadPartCopy");
        Ok(PartReceipt {
            number,
            etag: GIVEN_ETAG.into(),
            crc32: None,
        })
    }

    async fn complete(&self, _: &Upload, _: &[PartReceipt]) -> Result<WrittenObject, ServiceError> {
        self.count("CompleteMultipartUpload");
        Ok(given())
    }

    async fn abort(&self, _: &Upload) -> Result<(), ServiceError> {
        self.count("AbortMultipartUpload");
        Ok(())
    }
}

impl<R: Sync> CodeDeploy for &DryRun<'_, R> {
    async fn register_revision(
        &self,
        _: &Region,
        application: &ApplicationName,
        revision: &RevisionLocation,
        description: &str,
    ) -> Result<(), ServiceError> {
        self.count("RegisterApplicationRevision");
        let call = calls::register(application, revision, description);
        self.asked().calls.push(call);
        Ok(())
    }

    async fn create_deployment(
        &self,
        request: &DeploymentRequest,
        token: &DeploymentToken,
    ) -> Result<DeploymentId, ServiceError> {
        self.count("CreateDeployment");
        let call = calls::create(request, token);
        self.asked().calls.push(call);
        GIVEN_DEPLOYMENT.parse().map_err(|error| ServiceError {
            operation: "CreateDeployment",
            resource: request.application.to_string(),
            kind: Kind::Refused,
            code: None,
            message: format!("{error}"),
        })
    }

    async fn deployment(
        &self,
        _: &Region,
        id: &DeploymentId,
    ) -> Result<DeploymentInfo, ServiceError> {
        self.count("GetDeployment");
        Err(ServiceError {
            operation: "GetDeployment",
            resource: id.to_string(),
            kind: Kind::Refused,
            code: Some("DeploymentDoesNotExistException".to_owned()),
            message: "there is none in an explanation".to_owned(),
        })
    }

    async fn deployments_since(
        &self,
        _: &DeploymentRequest,
        _: Timestamp,
    ) -> Result<Vec<DeploymentInfo>, ServiceError> {
        self.count("ListDeployments");
        Ok(Vec::new())
    }

    async fn deployment_group(
        &self,
        _: &Region,
        application: &ApplicationName,
        deployment_group: &DeploymentGroupName,
    ) -> Result<DeploymentGroupInfo, ServiceError> {
        self.count("GetDeploymentGroup");
        self.assume(format!(
            "deployment group {application}/{deployment_group} exists and is idle"
        ));
        Ok(DeploymentGroupInfo {
            compute_platform: None,
            last_attempted: None::<(DeploymentId, DeploymentStatus)>,
        })
    }
}

impl<R: Sync> DeploymentConfigs for &DryRun<'_, R> {
    async fn has_deployment_config(
        &self,
        _: &Region,
        name: &DeploymentConfigName,
    ) -> Result<bool, ServiceError> {
        self.count("GetDeploymentConfig");
        if !name.as_str().starts_with("CodeDeployDefault.") {
            self.assume(format!("deployment configuration {name} exists"));
        }
        Ok(true)
    }
}
