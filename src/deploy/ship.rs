//! A judged target becomes a written, registered revision and takes its turn in the group's queue.

use std::future::ready;
use std::pin::pin;
use std::sync::Arc;

use futures_util::future::{Either, select};
use jiff::Timestamp;
use tokio::sync::SetOnce;

use super::Deploy;
use super::identity::{FINGERPRINT_METADATA, digest, metadata, transcode_fingerprint};
use super::judge::{
    Judged, JudgedTarget, Planned, PlannedArchive, bucket_fault, bundle_type, service_fault,
};
use crate::advance::{GroupName, Invocation, Seen};
use crate::archive::{ArchiveFormat, Index};
use crate::artifact::OpenedArtifact;
use crate::decision::{Decision, Subject};
use crate::deployment::{
    BundleType, CodeDeploy, DeploymentConfigs, DeploymentRequest, RevisionLocation, S3Location,
};
use crate::fault::{Fault, Retry, RetryReason};
use crate::finding::Finding;
use crate::finding::codes::archive_refusal;
use crate::key_pattern::Build;
use crate::object::ObjectKey;
use crate::records::DocumentStore;
use crate::records::drop::{Drop, RevisionCounts};
use crate::records::group::{DropReference, Group, Ticket};
use crate::records::queue::Admission;
use crate::revision::{
    self, Check, Cost, MultipartUploads, NewObject, ObjectStore, RevisionError, Workplace,
    WrittenObject,
};
use crate::service_error::Kind;
use crate::settings::{BundleChoice, RevisionTarget, Target, Verify};
use crate::splice::parts::{PartLimits, plan_parts};
use crate::splice::{self, AssembleError, SplicePlan, plan_splice};
use crate::transcode::{Blame, TranscodeError, Transcoder};
use crate::verify::{Verifier, VerifyError};

/// Times that an admission is tried anew because others were admitted meanwhile.
const ADMISSIONS_MAX: u32 = 100;

impl<D: DocumentStore, S: ObjectStore + MultipartUploads, C: CodeDeploy + DeploymentConfigs>
    Deploy<D, S, C>
{
    /// Writes and registers a target's revision, and notes it in the drop's document.
    pub(super) async fn ship(
        &self,
        drop: &Drop,
        judged: &Judged<'_, S>,
        target: &JudgedTarget,
        invocation: &Invocation,
    ) -> Result<RevisionLocation, Fault> {
        let settings = &target.settings;
        let (revision, counts) = match &target.revision {
            Planned::Standing(revision) => (revision.clone(), None),
            Planned::AppSpecFile {
                key,
                bytes,
                bundle_type,
                left_out,
            } => {
                let object = self.new_object(
                    drop,
                    settings,
                    key,
                    *bundle_type,
                    &digest(&[b"appspec file", bytes]),
                )?;
                let (written, cost) = self
                    .write(&object, async || {
                        let cost = Cost {
                            size: bytes.len() as u64,
                            bytes_put: bytes.len() as u64,
                            ..Cost::default()
                        };
                        Ok((self.objects.put(&object, bytes.clone().into()).await?, cost))
                    })
                    .await?;
                (
                    location(&object, written, *bundle_type),
                    Some(counts_of(1, *left_out, cost)),
                )
            }
            Planned::Archive(planned) => {
                let artifact = judged
                    .artifact
                    .as_ref()
                    .ok_or_else(|| internal("artifact was not opened"))?;
                let (object, written, cost) = self
                    .write_archive(drop, settings, artifact, planned, invocation)
                    .await?;
                let kept = planned.contents.entries.len();
                let left_out = artifact.index.len().saturating_sub(kept);
                (
                    location(&object, written, bundle_type(planned.format)),
                    Some(counts_of(kept, left_out, cost)),
                )
            }
        };
        let description = self.describe(settings, &drop.build);
        self.codedeploy
            .register_revision(
                &settings.region,
                &settings.application,
                &revision,
                &description,
            )
            .await
            .map_err(|error| match error.kind {
                Kind::Refused => Fault::reject(crate::advance::refusal(&error)),
                _ => error.into(),
            })?;
        let subject =
            Subject::of_drop(drop).in_group(&settings.application, &settings.deployment_group);
        invocation
            .journal
            .tell(&subject, &Decision::RevisionRegistered { counts });
        self.change_drop(drop, |drop| {
            let Some(noted) = drop.target_mut(&settings.application, &settings.deployment_group)
            else {
                return false;
            };
            noted.revision = Some(revision.clone());
            noted.counts = counts;
            true
        })
        .await?;
        Ok(revision)
    }

    /// Writes the archive by a splice where the format stays, else by transcoding.
    async fn write_archive(
        &self,
        drop: &Drop,
        settings: &Target,
        artifact: &OpenedArtifact<'_, S>,
        planned: &PlannedArchive,
        invocation: &Invocation,
    ) -> Result<(NewObject, WrittenObject, Cost), Fault> {
        let PlannedArchive {
            key,
            contents,
            format,
            is_unchanged,
        } = planned;
        let (format, is_unchanged) = (*format, *is_unchanged);
        let kept = &contents.entries;
        let etag = &artifact.source.object.etag;
        let plan = match &*artifact.index {
            // A tar.gz is not spliced; an unchanged one is its own revision.
            _ if is_unchanged
                && (settings.bundle_type == BundleChoice::AsIs
                    || format == ArchiveFormat::TarGz) =>
            {
                Some(SplicePlan::identity(artifact.source.object.size))
            }
            Index::Zip(index) if format == ArchiveFormat::Zip => {
                Some(plan_splice(index, kept).map_err(plan_fault)?)
            }
            Index::Tar(index)
                if format == ArchiveFormat::Tar && index.format() == ArchiveFormat::Tar =>
            {
                let plan = splice::tar::plan_splice(index, kept, artifact.source.object.size);
                Some(plan.map_err(|error| {
                    Fault::reject(archive_refusal(error.code(), error.to_string()))
                })?)
            }
            _ => None,
        };
        let Some(plan) = plan else {
            let fingerprint = transcode_fingerprint(etag.unquoted(), &artifact.index, kept, format);
            let object = self.new_object(drop, settings, key, bundle_type(format), &fingerprint)?;
            let estimate = artifact
                .index
                .entries()
                .map(|entry| entry.size.saturating_add(2_048))
                .fold(0, u64::saturating_add);
            let (written, cost) = self
                .write(&object, async || {
                    let transcoder = Transcoder::new(
                        artifact.index.clone(),
                        kept.clone(),
                        format,
                        &self.limits,
                    )?;
                    revision::transcode(
                        &self.objects,
                        &artifact.source,
                        transcoder,
                        estimate,
                        &object,
                    )
                    .await
                })
                .await?;
            return Ok((object, written, cost));
        };
        let parts = plan_parts(&plan, &PartLimits::default()).map_err(|error| {
            Fault::reject(archive_refusal("archive-too-large", error.to_string()))
        })?;
        let object = self.new_object(
            drop,
            settings,
            key,
            bundle_type(format),
            &plan.fingerprint(etag).to_string(),
        )?;
        tracing::debug!(
            key = %object.key, seconds = parts.seconds, "revision planned: {}", parts.traffic
        );
        let (written, cost) = self
            .write_reading_ahead(&object, async |may_write| {
                let workplace = Workplace {
                    temporary: self.records.temporary(),
                    region: self.region.clone(),
                    may_write,
                    until: invocation.deadline,
                };
                let verifier = match &*artifact.index {
                    Index::Zip(index) => Some(Verifier::new(
                        Arc::clone(index),
                        kept,
                        Vec::new(),
                        &self.limits,
                    )),
                    Index::Tar(_) => None,
                };
                let check = match (settings.verify, verifier) {
                    (Verify::None, _) | (_, None) => Check::Nothing,
                    (Verify::Full, Some(verifier)) => Check::Everything(verifier),
                    // What was read whole is checked whole, also what S3 is going to copy by itself.
                    (Verify::Passing, Some(verifier)) if artifact.source.kept().is_some() => {
                        Check::Everything(verifier)
                    }
                    (Verify::Passing, Some(verifier)) => Check::Passing(verifier),
                };
                revision::carry_out(
                    &self.objects,
                    &artifact.source,
                    &plan,
                    &parts,
                    &object,
                    &check,
                    &workplace,
                )
                .await
            })
            .await?;
        Ok((object, written, cost))
    }

    /// Writes an object, unless the same bytes are there already; other bytes at its key refuse the drop.
    async fn write(
        &self,
        object: &NewObject,
        write: impl AsyncFnOnce() -> Result<(WrittenObject, Cost), RevisionError>,
    ) -> Result<(WrittenObject, Cost), Fault> {
        match self.already_there(object).await? {
            Some(there) => Ok((there, Cost::default())),
            None => self.written(object, write().await).await,
        }
    }

    /// The same, but what `write` needs is read while that is looked up. It writes when it is told that it may.
    async fn write_reading_ahead(
        &self,
        object: &NewObject,
        write: impl AsyncFnOnce(&SetOnce<()>) -> Result<(WrittenObject, Cost), RevisionError>,
    ) -> Result<(WrittenObject, Cost), Fault> {
        let may_write = SetOnce::new();
        let looking = pin!(self.already_there(object));
        let writing = pin!(write(&may_write));
        let (there, writing) = match select(looking, writing).await {
            Either::Left((there, writing)) => (there?, Either::Left(writing)),
            Either::Right((ended, looking)) => (looking.await?, Either::Right(ready(ended))),
        };
        if let Some(there) = there {
            return Ok((there, Cost::default()));
        }
        // Nobody else sets it.
        let _ = may_write.set(());
        self.written(object, writing.await).await
    }

    /// What became of writing an object.
    async fn written(
        &self,
        object: &NewObject,
        result: Result<(WrittenObject, Cost), RevisionError>,
    ) -> Result<(WrittenObject, Cost), Fault> {
        let written_to = format!("s3://{}/{}", object.bucket, object.key);
        match result {
            Ok(written) => Ok(written),
            Err(RevisionError::Service(error))
                if matches!(error.kind, Kind::PreconditionFailed | Kind::Conflict)
                    && error.resource == written_to
                    && !object.replace =>
            {
                // Somebody wrote the key in between: this drop's other delivery, or another one.
                match self.already_there(object).await? {
                    Some(there) => Ok((there, Cost::default())),
                    // Of a copy's two conditions it was the artifact's, then.
                    None if error.operation == "CopyObject" => Err(service_fault(error)),
                    None => Err(error.into()),
                }
            }
            Err(RevisionError::Service(error)) if error.resource == written_to => {
                Err(bucket_fault(error, &object.bucket))
            }
            Err(RevisionError::Service(error)) => Err(service_fault(error)),
            Err(RevisionError::Unverified(VerifyError::Entry(error))) => Err(Fault::reject(
                archive_refusal(error.code(), error.to_string()),
            )),
            Err(RevisionError::Unverified(error @ VerifyError::TooMuch { .. })) => Err(
                Fault::reject(archive_refusal("archive-too-large", error.to_string())),
            ),
            Err(RevisionError::Transcode(error)) => Err(transcode_fault(&error)),
            Err(RevisionError::Unverified(error @ VerifyError::Missed { .. })) => {
                Err(internal(&error.to_string()))
            }
            Err(RevisionError::Assembly(AssembleError::Header(error))) => Err(Fault::reject(
                archive_refusal(error.code(), error.to_string()),
            )),
            Err(RevisionError::Assembly(error)) => Err(internal(&error.to_string())),
            Err(error @ RevisionError::Interrupted) => Err(internal(&error.to_string())),
            Err(error @ RevisionError::OutOfTime { .. }) => Err(Fault::retry(
                RetryReason::DeadlineNear,
                format!("{error} (give the function more time if this repeats)"),
            )),
        }
    }

    /// The object at the revision's key, if it holds the revision's bytes.
    async fn already_there(&self, object: &NewObject) -> Result<Option<WrittenObject>, Fault> {
        let head = match self
            .objects
            .head(
                Some(&object.region),
                &object.bucket,
                &object.key,
                None,
                None,
            )
            .await
        {
            Ok(head) => head,
            Err(error) if error.kind == Kind::NotFound => return Ok(None),
            // Without the right to list the bucket, S3 says so of a key that is not there.
            Err(error) if error.kind == Kind::AccessDenied => return Ok(None),
            Err(error) => return Err(bucket_fault(error, &object.bucket)),
        };
        if head.metadata.get(FINGERPRINT_METADATA) == object.metadata.get(FINGERPRINT_METADATA) {
            return Ok(Some(WrittenObject {
                etag: head.etag,
                version_id: head.version_id,
            }));
        }
        if object.replace {
            return Ok(None);
        }
        Err(Fault::reject(Finding::refuse(
            "revision-key-taken",
            format!(
                "s3://{}/{} is taken by other bytes, and a revision is never overwritten",
                object.bucket, object.key
            ),
            "give every build its own key: {BUILD_NUM} in the key pattern, and a new build number for new bytes",
        )))
    }

    fn new_object(
        &self,
        drop: &Drop,
        settings: &Target,
        key: &ObjectKey,
        bundle_type: BundleType,
        fingerprint: &str,
    ) -> Result<NewObject, Fault> {
        let RevisionTarget::S3 { bucket, .. } = &settings.location else {
            return Err(internal("a GitHub revision is not written"));
        };
        Ok(NewObject {
            region: settings.region.clone(),
            bucket: bucket.clone(),
            key: key.clone(),
            metadata: metadata(drop, bucket, fingerprint),
            content_type: match bundle_type {
                BundleType::Zip => "application/zip",
                BundleType::Tgz => "application/gzip",
                BundleType::Tar => "application/x-tar",
                BundleType::Yaml => "application/yaml",
                BundleType::Json => "application/json",
            },
            is_revision: true,
            replace: settings.needs_versioned_bucket(),
        })
    }

    fn describe(&self, settings: &Target, build: &Build) -> String {
        match &settings.description {
            Some(pattern) => pattern.expand_text(build),
            None => {
                let mut text = build.name().replace('`', "");
                if let Some(build_num) = &build.build_num {
                    text = format!("build {build_num}, {text}");
                }
                if let Some(commit) = build.short_commit() {
                    text = format!("{text}, commit {commit}");
                }
                text
            }
        }
    }

    /// Takes the drop's place in its group's queue, once, and begins its turn with the same write where it is
    /// the next; gives the group's document as it stands then, where that was looked at.
    pub(super) async fn enqueue(
        &self,
        drop: &Drop,
        target: &JudgedTarget,
        revision: RevisionLocation,
        invocation: &Invocation,
    ) -> Result<Option<Seen>, Fault> {
        let settings = &target.settings;
        let ticket = Ticket {
            drop: DropReference {
                staged_key: drop.artifact.object.key.as_str().to_owned(),
                drop_id: drop.drop_id.clone(),
            },
            token: drop
                .drop_id
                .token(&settings.application, &settings.deployment_group),
            build: drop.build.clone(),
            uploaded_at: drop.artifact.uploaded_at,
            arrival: 0,
            order: settings.order,
            queue: settings.queue,
            redeploy: drop.build.redeploy,
            request: DeploymentRequest {
                application: settings.application.clone(),
                deployment_group: settings.deployment_group.clone(),
                region: settings.region.clone(),
                deployment_config: settings.deployment_config.clone(),
                revision,
                description: self.describe(settings, &drop.build),
                file_exists_behavior: settings.file_exists_behavior,
                ignore_application_stop_failures: settings.ignore_application_stop_failures,
                update_outdated_instances_only: settings.update_outdated_instances_only,
                auto_rollback: settings.auto_rollback.clone(),
            },
        };
        let name = GroupName {
            application: settings.application.clone(),
            deployment_group: settings.deployment_group.clone(),
            region: settings.region.clone(),
        };
        for _ in 0..ADMISSIONS_MAX {
            let before = self.group_in_region(&name).await?;
            // Known now may be forgotten when the change is made: outcomes are kept for a while only.
            if let Some(group) = &before
                && group.knows(&drop.drop_id)
            {
                return Ok(before.map(Seen::from));
            }
            let arrivals = before.as_ref().map_or(0, |group| group.arrivals);
            // A ticket that came, ended and was forgotten is known from the drop's document alone; so
            // that is read after the group's, and counts only if nobody was admitted since. A group that
            // has forgotten nothing knows best.
            let remembers_all = before.is_some_and(|group| !group.may_have_forgotten());
            if !remembers_all && !self.is_open(drop, &name).await? {
                return Ok(None);
            }
            let (seen, is_admitted) = self
                .conductor(invocation)
                .change(&name, |group| {
                    if group.arrivals != arrivals {
                        return (false, false);
                    }
                    let admission = group.admit(ticket.clone(), Timestamp::now());
                    (admission != Admission::Known, true)
                })
                .await?;
            if is_admitted {
                return Ok(Some(seen));
            }
        }
        Err(Fault::retry(
            RetryReason::RecordContention,
            format!(
                "{ADMISSIONS_MAX} other builds were admitted to {} meanwhile",
                name.deployment_group
            ),
        ))
    }

    /// A group's document, which must not be of a group of that name in another region.
    pub(super) async fn group_in_region(&self, name: &GroupName) -> Result<Option<Group>, Fault> {
        let group = self
            .records
            .group(&name.application, &name.deployment_group)
            .await?;
        if group
            .as_ref()
            .is_some_and(|group| group.region != name.region)
        {
            return Err(Fault::reject(Finding::refuse(
                "group-region-conflict",
                format!(
                    "deployment group {}/{} is recorded in another region than {}",
                    name.application, name.deployment_group, name.region
                ),
                "use other names in the other region, or delete the group's record once nothing runs there any more",
            )));
        }
        Ok(group)
    }

    /// Whether the drop's document still waits for what becomes of it in that group.
    async fn is_open(&self, drop: &Drop, name: &GroupName) -> Result<bool, Retry> {
        let now = self.records.drop(drop.artifact.object.key.as_str()).await?;
        Ok(now.is_some_and(|now| {
            now.drop_id == drop.drop_id
                && now
                    .target(&name.application, &name.deployment_group)
                    .is_some_and(|target| !target.status.is_terminal())
        }))
    }
}

fn location(
    object: &NewObject,
    written: WrittenObject,
    bundle_type: BundleType,
) -> RevisionLocation {
    RevisionLocation::S3(S3Location {
        bucket: object.bucket.clone(),
        key: object.key.clone(),
        bundle_type,
        version: written.version_id,
        etag: Some(written.etag),
    })
}

fn counts_of(entries: usize, left_out: usize, cost: Cost) -> RevisionCounts {
    RevisionCounts {
        entries: entries as u64,
        left_out: left_out as u64,
        size: cost.size,
        bytes_copied: cost.bytes_copied,
        bytes_got: cost.bytes_got,
        bytes_put: cost.bytes_put,
    }
}

fn plan_fault(error: crate::splice::PlanError) -> Fault {
    Fault::reject(archive_refusal("archive-too-large", error.to_string()))
}

fn transcode_fault(error: &TranscodeError) -> Fault {
    let message = error.to_string();
    match error.blame() {
        Blame::Archive => Fault::reject(archive_refusal(error.code(), message)),
        Blame::Reading => Fault::retry(RetryReason::ArtifactChanged, message),
        Blame::Ours => internal(&message),
    }
}

fn internal(message: &str) -> Fault {
    Retry {
        reason: RetryReason::Internal,
        message: message.to_owned(),
    }
    .into()
}
