use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use jiff::SignedDuration;

use super::*;
use crate::archive::Limits;
use crate::archive::zip::ZipIndex;
use crate::archive::zip::testing::{Making, ZipMaking, bytes_of, index_of};
use crate::contents::{KeptEntry, KeptName};
use crate::object::{BucketName, ETag, ObjectKey, VersionId};
use crate::revision::{ObjectHead, ObjectReader};
use crate::splice::parts::{Joins, PartLimits, plan_parts};
use crate::splice::plan_splice;

/// An S3 in memory, as strict as it has to be here, whose requests can be made to fail.
#[derive(Default)]
struct Shelf {
    state: Mutex<State>,
    /// The operation whose so-many-th request fails, and how.
    trouble: Option<(&'static str, u32, Kind)>,
    /// How long a part takes.
    part_time: Duration,
    part_bytes_min: usize,
}

#[derive(Default)]
struct State {
    reads_done: usize,
    objects: BTreeMap<String, Bytes>,
    uploads: BTreeMap<String, BTreeMap<u32, Bytes>>,
    calls: BTreeMap<&'static str, u32>,
    begun: u32,
}

fn etag(bytes: &[u8]) -> ETag {
    format!("{:08x}", crc32fast::hash(bytes)).into()
}

impl Shelf {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn called(&self, operation: &'static str) -> Result<(), ServiceError> {
        let mut state = self.state();
        let calls = state.calls.entry(operation).or_default();
        *calls += 1;
        match self.trouble {
            Some((which, n, kind)) if which == operation && n == *calls => Err(ServiceError {
                operation,
                resource: "s3://revisions/key".to_owned(),
                kind,
                code: None,
                message: "made to fail".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    fn range(&self, source: &SourceObject, range: ByteRange) -> Bytes {
        let object = self.state().objects[source.key.as_str()].clone();
        assert_eq!(etag(&object), source.etag);
        object.slice(range.start as usize..range.end as usize)
    }

    fn take(&self, upload: &Upload, number: u32, body: Bytes) -> PartReceipt {
        let receipt = PartReceipt {
            number,
            etag: etag(&body),
            crc32: None,
        };
        let mut state = self.state();
        let parts = state.uploads.get_mut(&upload.upload_id).unwrap();
        assert!(parts.insert(number, body).is_none());
        receipt
    }
}

impl ObjectReader for Shelf {
    async fn read(&self, source: &SourceObject, range: ByteRange) -> Result<Bytes, ServiceError> {
        self.called("GetObject")?;
        // The first is not the first to end.
        let turns = if self.state().calls["GetObject"] == 1 {
            9
        } else {
            1
        };
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        self.state().reads_done += 1;
        Ok(self.range(source, range))
    }
}

impl ObjectStore for Shelf {
    async fn head(
        &self,
        _: Option<&Region>,
        _: &BucketName,
        key: &ObjectKey,
        _: Option<&VersionId>,
        _: Option<&ETag>,
    ) -> Result<ObjectHead, ServiceError> {
        self.called("HeadObject")?;
        let Some(object) = self.state().objects.get(key.as_str()).cloned() else {
            return Err(ServiceError {
                operation: "HeadObject",
                resource: key.to_string(),
                kind: Kind::NotFound,
                code: None,
                message: "there is none".to_owned(),
            });
        };
        Ok(ObjectHead {
            etag: etag(&object),
            version_id: None,
            size: object.len() as u64,
            last_modified: Timestamp::UNIX_EPOCH,
            metadata: BTreeMap::new(),
        })
    }

    async fn put(&self, object: &NewObject, body: Bytes) -> Result<WrittenObject, ServiceError> {
        self.called("PutObject")?;
        let written = WrittenObject {
            etag: etag(&body),
            version_id: None,
        };
        let key = object.key.as_str().to_owned();
        self.state().objects.insert(key, body);
        Ok(written)
    }

    async fn copy(
        &self,
        object: &NewObject,
        source: &SourceObject,
    ) -> Result<WrittenObject, ServiceError> {
        self.called("CopyObject")?;
        let whole = self.range(source, ByteRange::new(0, source.size));
        self.put(object, whole).await
    }

    async fn delete(&self, object: &NewObject, _: &WrittenObject) -> Result<(), ServiceError> {
        self.called("DeleteObject")?;
        assert!(self.state().objects.remove(object.key.as_str()).is_some());
        Ok(())
    }

    async fn is_versioned(&self, _: &BucketName, _: &Region) -> Result<bool, ServiceError> {
        Ok(false)
    }
}

impl MultipartUploads for Shelf {
    async fn begin(&self, object: &NewObject) -> Result<Upload, ServiceError> {
        self.called("CreateMultipartUpload")?;
        let upload_id = {
            let mut state = self.state();
            state.begun += 1;
            let upload_id = format!("upload-{}", state.begun);
            state.uploads.insert(upload_id.clone(), BTreeMap::new());
            upload_id
        };
        // It is there before its id is known.
        tokio::task::yield_now().await;
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
        self.called("UploadPart")?;
        tokio::time::sleep(self.part_time).await;
        Ok(self.take(upload, number, body))
    }

    async fn copy_part(
        &self,
        upload: &Upload,
        number: u32,
        source: &SourceObject,
        range: ByteRange,
    ) -> Result<PartReceipt, ServiceError> {
        self.called("UploadPartCopy")?;
        tokio::task::yield_now().await;
        let body = self.range(source, range);
        Ok(self.take(upload, number, body))
    }

    async fn complete(
        &self,
        upload: &Upload,
        parts: &[PartReceipt],
    ) -> Result<WrittenObject, ServiceError> {
        self.called("CompleteMultipartUpload")?;
        let mut state = self.state();
        let held = state.uploads.remove(&upload.upload_id).unwrap();
        assert!(
            held.keys()
                .copied()
                .eq(parts.iter().map(|part| part.number))
        );
        let (_, others) = parts.split_last().unwrap();
        assert!(
            others
                .iter()
                .all(|part| held[&part.number].len() >= self.part_bytes_min)
        );
        let body: Bytes = held.into_values().collect::<Vec<_>>().concat().into();
        let written = WrittenObject {
            etag: etag(&body),
            version_id: None,
        };
        let key = upload.object.key.as_str().to_owned();
        state.objects.insert(key, body);
        Ok(written)
    }

    async fn abort(&self, upload: &Upload) -> Result<(), ServiceError> {
        self.called("AbortMultipartUpload")?;
        self.state().uploads.remove(&upload.upload_id);
        Ok(())
    }
}

/// An archive with large and small files, and limits under which some are copied, some joined.
struct Sample {
    object: Bytes,
    zip: Arc<ZipIndex>,
    kept: Vec<KeptEntry>,
    limits: PartLimits,
    check: fn(Verifier) -> Check,
}

fn sample() -> Sample {
    let entries = (0..40_usize).map(|n| {
        let length = if n % 4 == 0 { 9_000 + 100 * n } else { n * 3 };
        let content: Vec<u8> = (0..length).map(|at| (at * 31 + n) as u8).collect();
        Making {
            deflated: n % 3 == 0,
            ..Making::new(&format!("app/{n}"), &content)
        }
    });
    let object: Bytes = ZipMaking::of(entries).make().into();
    let zip = Arc::new(index_of(&object));
    let kept = (0..40).filter(|n| n % 7 != 5).map(|index| KeptEntry {
        index,
        name: KeptName::Suffix { skip: 4 },
    });
    Sample {
        zip,
        kept: kept.collect(),
        object,
        limits: PartLimits {
            put_object_bytes_max: 100,
            part_bytes_min: 2_000,
            upload_part_bytes: 2_000,
            copy_part_bytes: 4_000,
            gap_bytes_max: 50,
            get_bytes_max: 1_000,
            joins: Joins::Wherever,
            ..PartLimits::default()
        },
        check: Check::Passing,
    }
}

fn source_object(object: &Bytes) -> SourceObject {
    SourceObject {
        bucket: "artifacts".parse().unwrap(),
        key: "source".parse().unwrap(),
        version_id: None,
        etag: etag(object),
        size: object.len() as u64,
    }
}

impl Sample {
    fn shelf(&self) -> Shelf {
        let shelf = Shelf {
            part_bytes_min: self.limits.part_bytes_min as usize,
            ..Shelf::default()
        };
        let source = ("source".to_owned(), self.object.clone());
        shelf.state().objects.extend([source]);
        shelf
    }

    async fn write(
        &self,
        shelf: &Shelf,
        seconds: i64,
    ) -> Result<(WrittenObject, Cost), RevisionError> {
        let now = SetOnce::new_with(Some(()));
        self.write_when(shelf, seconds, &now).await
    }

    async fn write_when(
        &self,
        shelf: &Shelf,
        seconds: i64,
        may_write: &SetOnce<()>,
    ) -> Result<(WrittenObject, Cost), RevisionError> {
        let plan = plan_splice(&self.zip, &self.kept).unwrap();
        self.write_plan(shelf, &plan, seconds, may_write).await
    }

    async fn write_plan(
        &self,
        shelf: &Shelf,
        plan: &SplicePlan<'_>,
        seconds: i64,
        may_write: &SetOnce<()>,
    ) -> Result<(WrittenObject, Cost), RevisionError> {
        let parts = plan_parts(plan, &self.limits).unwrap();
        let object = NewObject {
            region: "us-east-1".parse().unwrap(),
            bucket: "revisions".parse().unwrap(),
            key: "revision".parse().unwrap(),
            metadata: BTreeMap::new(),
            content_type: "application/zip",
            replace: false,
            is_revision: true,
        };
        let workplace = Workplace {
            temporary: "s3://artifacts/records/tmp/".parse().unwrap(),
            region: "us-east-1".parse().unwrap(),
            may_write,
            until: Timestamp::now() + SignedDuration::from_secs(seconds),
        };
        let source = Source::open_unread(shelf, source_object(&self.object));
        let limits = Limits::default();
        let check = (self.check)(Verifier::new(
            Arc::clone(&self.zip),
            &self.kept,
            Vec::new(),
            &limits,
        ));
        carry_out(shelf, &source, plan, &parts, &object, &check, &workplace).await
    }

    fn naive(&self) -> Vec<u8> {
        let plan = plan_splice(&self.zip, &self.kept).unwrap();
        let mut out = Vec::new();
        for (n, step) in plan.steps().enumerate() {
            if step.made_bytes() > 0 {
                let passed = bytes_of(&self.object, step.passed);
                plan.make(n, passed, &mut out).unwrap();
            }
            out.extend_from_slice(bytes_of(&self.object, step.copied));
        }
        out
    }
}

/// Nothing is there but the artifact, and the revision where it was written.
fn keys(shelf: &Shelf) -> Vec<String> {
    let state = shelf.state();
    assert_eq!(state.uploads.len(), 0);
    state.objects.keys().cloned().collect()
}

#[tokio::test]
async fn ok_copies_joins_and_bodies_make_the_revision_and_nothing_else_stays() {
    let sample = sample();
    let shelf = sample.shelf();
    let (written, cost) = sample.write(&shelf, 60).await.unwrap();
    let revision = shelf.state().objects["revision"].clone();
    assert!(revision == sample.naive());
    assert_eq!(written.etag, etag(&revision));
    assert_eq!(cost.size, revision.len() as u64);
    assert_eq!(keys(&shelf), ["revision", "source"]);
    let calls = shelf.state().calls.clone();
    assert!(calls["DeleteObject"] >= 5, "{calls:?}");
    assert_eq!(calls["CreateMultipartUpload"], calls["DeleteObject"] + 1);
}

/// It goes as far as it can, however busy the machine is, and does not end.
async fn waits<T>(mut writing: Pin<&mut impl Future<Output = T>>) {
    for _ in 0..1_000 {
        assert!(futures_util::poll!(writing.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    let waited = tokio::time::timeout(Duration::from_millis(100), writing).await;
    assert!(waited.is_err());
}

#[tokio::test]
async fn ok_until_it_may_write_it_only_reads() {
    let checks = [
        (Check::Passing as fn(Verifier) -> Check, false),
        (Check::Everything, true),
    ];
    for (check, is_full) in checks {
        for put_object_bytes_max in [100, u64::MAX] {
            let mut sample = Sample { check, ..sample() };
            sample.limits.put_object_bytes_max = put_object_bytes_max;
            let shelf = sample.shelf();
            let may_write = SetOnce::new();
            let mut writing = pin!(sample.write_when(&shelf, 60, &may_write));
            waits(writing.as_mut()).await;
            let calls: Vec<_> = shelf.state().calls.keys().copied().collect();
            assert_eq!(calls, ["GetObject"]);
            let is_in_parts = put_object_bytes_max == 100;
            if is_in_parts && !is_full {
                // Nobody takes them, and they are there all the same.
                assert_eq!(shelf.state().reads_done, READS_IN_FLIGHT);
            }
            may_write.set(()).unwrap();
            writing.await.unwrap();
            assert!(shelf.state().objects["revision"] == sample.naive());
        }
    }
}

#[tokio::test]
async fn ok_a_copy_waits_until_it_may_be_written() {
    let sample = sample();
    let shelf = sample.shelf();
    let may_write = SetOnce::new();
    let plan = SplicePlan::identity(sample.object.len() as u64);
    let mut writing = pin!(sample.write_plan(&shelf, &plan, 60, &may_write));
    waits(writing.as_mut()).await;
    assert!(shelf.state().calls.is_empty());
    may_write.set(()).unwrap();
    writing.await.unwrap();
    assert!(shelf.state().calls.contains_key("CopyObject"));
    assert!(shelf.state().objects["revision"] == sample.object);
}

/// The error of what waits for nothing.
async fn at_once<T: std::fmt::Debug>(
    writing: impl Future<Output = Result<T, RevisionError>>,
) -> RevisionError {
    let ended = tokio::time::timeout(Duration::from_secs(10), writing).await;
    ended.expect("it waits").unwrap_err()
}

#[tokio::test]
async fn err_what_fails_before_anything_may_be_written_is_told_at_once() {
    let mut damaged = sample();
    let mut object = damaged.object.to_vec();
    object[40] ^= 1;
    damaged.object = object.into();
    for check in [Check::Passing as fn(Verifier) -> Check, Check::Everything] {
        for put_object_bytes_max in [100, u64::MAX] {
            let mut sample = Sample { check, ..sample() };
            sample.limits.put_object_bytes_max = put_object_bytes_max;
            let mut shelf = sample.shelf();
            shelf.trouble = Some(("GetObject", 3, Kind::Unavailable));
            let never = SetOnce::new();
            let error = at_once(sample.write_when(&shelf, 60, &never)).await;
            assert!(matches!(error, RevisionError::Service(_)), "{error}");
            let calls: Vec<_> = shelf.state().calls.keys().copied().collect();
            assert_eq!(calls, ["GetObject"]);
        }
    }
    damaged.check = Check::Everything;
    let shelf = damaged.shelf();
    let never = SetOnce::new();
    let error = at_once(damaged.write_when(&shelf, 60, &never)).await;
    assert!(matches!(error, RevisionError::Unverified(_)), "{error}");
    assert_eq!(keys(&shelf), ["source"]);
}

#[tokio::test]
async fn err_what_may_not_be_written_in_time_is_not_begun() {
    let sample = sample();
    let shelf = sample.shelf();
    let never = SetOnce::new();
    let error = sample.write_when(&shelf, 5, &never).await.unwrap_err();
    assert!(matches!(error, RevisionError::OutOfTime { .. }), "{error}");
    let calls: Vec<_> = shelf.state().calls.keys().copied().collect();
    assert_eq!(calls, ["GetObject"]);
}

#[tokio::test]
async fn err_whatever_fails_nothing_is_left_behind() {
    for check in [Check::Passing as fn(Verifier) -> Check, Check::Everything] {
        err_whatever_fails(Sample { check, ..sample() }).await;
    }
}

async fn err_whatever_fails(sample: Sample) {
    let whole = sample.shelf();
    sample.write(&whole, 60).await.unwrap();
    let calls = whole.state().calls.clone();
    for (operation, count) in calls {
        for n in 1..=count {
            let mut shelf = sample.shelf();
            shelf.trouble = Some((operation, n, Kind::Unavailable));
            let written = sample.write(&shelf, 60).await;
            if operation == "DeleteObject" {
                // The revision is there; the lifecycle rule takes what is left.
                written.unwrap();
                continue;
            }
            let error = written.unwrap_err();
            assert!(matches!(error, RevisionError::Service(_)), "{error}");
            assert_eq!(keys(&shelf), ["source"], "{operation} {n}");
        }
    }
}

#[tokio::test]
async fn ok_a_conflict_makes_the_upload_anew() {
    let sample = sample();
    let mut shelf = sample.shelf();
    sample.write(&shelf, 60).await.unwrap();
    let completions = shelf.state().calls["CompleteMultipartUpload"];
    shelf = sample.shelf();
    shelf.trouble = Some(("CompleteMultipartUpload", completions, Kind::Conflict));
    sample.write(&shelf, 60).await.unwrap();
    assert!(shelf.state().objects["revision"] == sample.naive());
    assert_eq!(keys(&shelf), ["revision", "source"]);
}

#[tokio::test]
async fn err_what_cannot_be_finished_is_not_begun() {
    let sample = sample();
    let shelf = sample.shelf();
    let error = sample.write(&shelf, 4).await.unwrap_err();
    assert!(matches!(error, RevisionError::OutOfTime { .. }), "{error}");
    assert_eq!(shelf.state().calls.len(), 0);
}

#[tokio::test]
async fn err_what_takes_too_long_is_ended() {
    let sample = sample();
    let mut shelf = sample.shelf();
    shelf.part_time = Duration::from_secs(600);
    let error = sample.write(&shelf, 5).await.unwrap_err();
    assert!(matches!(error, RevisionError::OutOfTime { .. }), "{error}");
    assert_eq!(keys(&shelf), ["source"]);
    assert!(shelf.state().calls["AbortMultipartUpload"] > 0);
}

#[tokio::test]
async fn err_damaged_bytes_are_never_completed() {
    let mut sample = sample();
    let plan = plan_splice(&sample.zip, &sample.kept).unwrap();
    let passed: Vec<u64> = plan.steps().map(|step| step.passed.start + 31).collect();
    let at = passed[12] as usize;
    let mut damaged = sample.object.to_vec();
    damaged[at] ^= 1;
    sample.object = damaged.into();
    let shelf = sample.shelf();
    let error = sample.write(&shelf, 60).await.unwrap_err();
    assert!(
        matches!(
            error,
            RevisionError::Unverified(_) | RevisionError::Assembly(_)
        ),
        "{error}"
    );
    assert_eq!(keys(&shelf), ["source"]);
}
