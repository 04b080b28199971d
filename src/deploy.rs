//! A staged artifact becomes a revision, a registration and deployments.
//!
//! ```text
//! event -> staged object -> build -> claim -> settings -> judgement -> revision -> registration -> queue
//!          (HeadObject)              (drop)   (deploy/judge)          (deploy/ship)               (advance)
//! ```
//!
//! Owns the order of these steps and what stands in the drop's document after each. Every step asks first
//! whether it was done before: an event may come twice, and a function may die in between.

mod findings;
mod group;
mod identity;
mod judge;
mod redeploy;
mod ship;
mod turns;

use aws_lambda_events::event::sqs::SqsBatchResponse;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::advance::{Conductor, GroupName, Invocation};
use crate::archive::Limits;
use crate::configuration::Configuration;
use crate::decision::{Decision, Subject, seconds_from};
use crate::deployment::{CodeDeploy, DeploymentConfigs, Region};
use crate::fault::{Fault, Retry, RetryReason, batch_answer};
use crate::finding::Finding;
use crate::intake::{Intake, Notice, StagedArtifact, read_event};
use crate::journal;
use crate::key_pattern::{Build, Captures};
use crate::object::{ObjectKey, SourceObject};
use crate::records::drop::{Artifact, Drop, DropStatus, DropTarget, TargetName};
use crate::records::{Change, DocumentStore, Records};
use crate::redeployment::WishKey;
use crate::revision::{MultipartUploads, ObjectHead, ObjectStore};
use crate::service_error::Kind;

/// The `deploy` function.
#[derive(Debug)]
pub struct Deploy<D, S, C> {
    /// The records.
    pub records: Records<D>,
    /// Artifacts and revisions.
    pub objects: S,
    /// CodeDeploy.
    pub codedeploy: C,
    /// What the environment says.
    pub configuration: Configuration,
    /// The function's own region.
    pub region: Region,
    /// What an archive may make us do.
    pub limits: Limits,
}

/// What became of one staged object in this invocation.
#[derive(Debug, Clone, PartialEq)]
enum Handled {
    /// The drop's document says it.
    Recorded {
        staged_key: ObjectKey,
        status: DropStatus,
    },
    /// There is nothing to record.
    Ignored(String),
}

impl Handled {
    fn answer(&self) -> Value {
        match self {
            Self::Recorded { staged_key, status } => {
                json!({ "staged_key": staged_key, "status": status })
            }
            Self::Ignored(reason) => json!({ "ignored": reason }),
        }
    }
}

/// A staged object, found and pinned.
struct Found {
    key: ObjectKey,
    head: ObjectHead,
}

/// What the claim on a drop found.
enum Claim {
    /// It is ours to work on; the document as it stands.
    Taken(Box<Drop>),
    /// It has ended already.
    Ended(DropStatus),
    /// A newer upload of the same key has taken its place.
    Overtaken,
}

impl<D: DocumentStore, S: ObjectStore + MultipartUploads, C: CodeDeploy + DeploymentConfigs>
    Deploy<D, S, C>
{
    /// Handles one event; the answer says what became of each staged object in it.
    ///
    /// # Errors
    /// What may go better when Lambda delivers the event again. SQS messages fail one by one instead.
    pub async fn handle(&self, event: &Value, invocation: &Invocation) -> Result<Value, Retry> {
        self.records.forget();
        match read_event(event) {
            Intake::Direct(notices) => {
                let mut answers = Vec::new();
                let mut first_trouble = None;
                for notice in &notices {
                    // One object's trouble is not the others'; the whole event comes again for it.
                    match self.handle_notice(notice, invocation).await {
                        Ok(handled) => answers.push(handled.answer()),
                        Err(retry) => {
                            first_trouble.get_or_insert(retry);
                        }
                    }
                }
                match first_trouble {
                    Some(retry) => Err(retry),
                    None => Ok(json!({ "drops": answers })),
                }
            }
            Intake::Batch(items) => {
                let mut answer = SqsBatchResponse::default();
                for item in &items {
                    for notice in &item.notices {
                        if let Err(retry) = self.handle_notice(notice, invocation).await {
                            journal::given_back(&retry);
                            answer.add_failure(&item.item_identifier);
                            break;
                        }
                    }
                }
                batch_answer(&answer)
            }
        }
    }

    async fn handle_notice(
        &self,
        notice: &Notice,
        invocation: &Invocation,
    ) -> Result<Handled, Retry> {
        let handled = match notice {
            // Boxed, because the whole way of a drop would make one very large future.
            Notice::Staged(staged) => Box::pin(self.handle_staged(staged, invocation)).await?,
            Notice::StateChange(_) | Notice::Schedule(_) => Handled::Ignored(
                "state changes and the schedule are the record function's business".to_owned(),
            ),
            Notice::Ignored(reason) => Handled::Ignored(reason.to_string()),
        };
        if let Handled::Ignored(reason) = &handled {
            let decision = Decision::EventIgnored { reason };
            invocation.journal.tell(&Subject::default(), &decision);
        }
        Ok(handled)
    }

    async fn handle_staged(
        &self,
        staged: &StagedArtifact,
        invocation: &Invocation,
    ) -> Result<Handled, Retry> {
        let pattern = &self.configuration.staging_key_pattern;
        let readings: Vec<&ObjectKey> = staged
            .keys
            .iter()
            .filter(|key| self.is_staged(staged, key))
            .collect();
        let Some(first) = readings.first() else {
            let key = staged
                .keys
                .first()
                .map(ObjectKey::as_str)
                .unwrap_or_default();
            return Ok(Handled::Ignored(format!(
                "key `{key}` does not lie where staged artifacts do ({pattern})"
            )));
        };
        if !self.records.can_hold(first) {
            return Ok(Handled::Ignored(format!(
                "key `{first}` is too long for a record of it"
            )));
        }
        let (found, known) = futures_util::join!(
            self.find(staged, &readings),
            self.records.drop(first.as_str())
        );
        let Some(found) = found? else {
            return Ok(Handled::Ignored(format!(
                "s3://{}/{first} is gone, or a newer upload has replaced it",
                staged.bucket
            )));
        };
        let artifact = Artifact {
            object: SourceObject {
                bucket: staged.bucket.clone(),
                key: found.key.clone(),
                version_id: found.head.version_id.clone(),
                etag: found.head.etag.clone(),
                size: found.head.size,
            },
            sequencer: staged.sequencer.clone(),
            uploaded_at: found.head.last_modified,
        };
        let (build, build_findings) = match self.read_key(found.key.as_str()) {
            Some(captures) => Build::read(&captures, &found.head.metadata),
            None => (Build::default(), Vec::new()),
        };
        let known = if found.key == **first {
            known?
        } else {
            self.records.drop(found.key.as_str()).await?
        };
        let mut drop = match self.claim(artifact, build, known).await? {
            Claim::Taken(drop) => *drop,
            Claim::Ended(status) => {
                return Ok(Handled::Recorded {
                    staged_key: found.key,
                    status,
                });
            }
            Claim::Overtaken => {
                return Ok(Handled::Ignored(format!(
                    "a newer upload of `{}` has replaced this one",
                    found.key
                )));
            }
        };
        invocation
            .journal
            .tell(&Subject::of_drop(&drop), &Decision::DropClaimed);
        let status = match self.work(&mut drop, build_findings, invocation).await {
            Ok(status) => status,
            Err(Fault::Reject(findings)) => {
                self.close(&drop, DropStatus::Rejected, findings, invocation)
                    .await?
            }
            Err(Fault::Retry(retry)) => return Err(retry),
        };
        Ok(Handled::Recorded {
            staged_key: found.key,
            status,
        })
    }

    /// Whether a key lies where staged artifacts do, and nowhere that we write ourselves.
    fn is_staged(&self, staged: &StagedArtifact, key: &ObjectKey) -> bool {
        let pattern = &self.configuration.staging_key_pattern;
        let records = self.records.place();
        let under_records = !records.prefix.is_empty()
            && staged.bucket == records.bucket
            && key.as_str().starts_with(&records.prefix);
        // A key beside the pattern, but under its fixed part, is recorded as ignored: CI waits for an answer.
        let beside = !pattern.static_prefix().is_empty()
            && key.as_str().starts_with(pattern.static_prefix());
        !under_records
            && !key.as_str().ends_with('/')
            && (beside || self.read_key(key.as_str()).is_some())
    }

    /// What a staged key says of its build; that of a wish is the artifact's.
    fn read_key(&self, key: &str) -> Option<Captures> {
        let pattern = &self.configuration.staging_key_pattern;
        match WishKey::read(key) {
            Some(wish) => pattern.read(&wish.stem),
            None => pattern.read(key),
        }
    }

    /// The reading of the key whose object is the event's.
    async fn find(
        &self,
        staged: &StagedArtifact,
        readings: &[&ObjectKey],
    ) -> Result<Option<Found>, Retry> {
        let mut denied = None;
        for key in readings {
            let head = self
                .objects
                .head(
                    None,
                    &staged.bucket,
                    key,
                    staged.version_id.as_ref(),
                    staged.etag.as_ref(),
                )
                .await;
            match head {
                Ok(head) => {
                    return Ok(Some(Found {
                        key: (*key).clone(),
                        head,
                    }));
                }
                Err(error) => match error.kind {
                    Kind::NotFound | Kind::PreconditionFailed => {}
                    // Without the right to list, S3 says 403 of a key that is not there.
                    Kind::AccessDenied => denied = Some(error),
                    Kind::Conflict | Kind::Throttled | Kind::Unavailable | Kind::Refused => {
                        return Err(error.into());
                    }
                },
            }
        }
        match denied {
            Some(error) => Err(error.into()),
            None => Ok(None),
        }
    }

    /// Claims the drop in its document, which was read as `known`, or finds that it needs no work.
    async fn claim(
        &self,
        artifact: Artifact,
        build: Build,
        known: Option<Drop>,
    ) -> Result<Claim, Retry> {
        let staged_key = artifact.object.key.as_str().to_owned();
        let fresh = Drop::claimed(artifact, build, Timestamp::now());
        match known.filter(|known| known.drop_id == fresh.drop_id && !known.is_abandoned()) {
            Some(known) if known.status.is_terminal() => {
                // Whoever ended it may have died before the mark was taken away.
                self.records.close_drop(&fresh.drop_id).await?;
                return Ok(Claim::Ended(known.status));
            }
            // It was marked as open before it was written.
            Some(known) => return Ok(Claim::Taken(Box::new(known))),
            None => {}
        }
        self.records.open_drop(&fresh.drop_id, &staged_key).await?;
        let claim = self
            .records
            .update_drop(&staged_key, |known| match known {
                Some(known) if known.drop_id == fresh.drop_id && known.is_abandoned() => {
                    let again = known.taken_up_again(&fresh);
                    Change::Write(again.clone(), Claim::Taken(Box::new(again)))
                }
                Some(known) if known.drop_id == fresh.drop_id && known.status.is_terminal() => {
                    Change::Keep(Claim::Ended(known.status))
                }
                Some(known) if known.drop_id == fresh.drop_id => {
                    Change::Keep(Claim::Taken(Box::new(known)))
                }
                Some(known) if fresh.artifact.compare(&known.artifact).is_lt() => {
                    Change::Keep(Claim::Overtaken)
                }
                _ => Change::Write(fresh.clone(), Claim::Taken(Box::new(fresh.clone()))),
            })
            .await?;
        if !matches!(claim, Claim::Taken(_)) {
            self.records.close_drop(&fresh.drop_id).await?;
        }
        Ok(claim)
    }

    /// From the claimed drop to its turn in every group that the settings name.
    async fn work(
        &self,
        drop: &mut Drop,
        build_findings: Vec<Finding>,
        invocation: &Invocation,
    ) -> Result<DropStatus, Fault> {
        let staged_key = drop.artifact.object.key.as_str();
        let wish = WishKey::read(staged_key);
        if self.read_key(staged_key).is_none() {
            let finding = Finding::warn(
                "staging-key-unknown",
                format!(
                    "staged key `{staged_key}` does not fit the pattern {}",
                    self.configuration.staging_key_pattern
                ),
                "upload the artifact under a key of that pattern, followed by .zip, .tar.gz, .tgz or .tar",
            );
            return Ok(self
                .close(drop, DropStatus::Ignored, vec![finding], invocation)
                .await?);
        }
        if build_findings.iter().any(Finding::refuses) {
            return Err(Fault::Reject(build_findings));
        }
        if let Some(turns) = self.turns_under_way(drop).await? {
            let mut taken = Vec::new();
            for turn in turns {
                // One group's trouble is not the others'.
                let status = self.take_turn(drop, turn, invocation).await;
                taken.push(status.map_err(Fault::from));
            }
            return self.status_after(drop, taken).await;
        }
        let judged = if let Some(wish) = &wish {
            Box::new(Box::pin(self.judge_wish(drop, wish)).await?)
        } else {
            match Box::pin(self.judge(&drop.artifact.object, &drop.build)).await? {
                judge::Judgement::Ignore(findings) => {
                    return Ok(self
                        .close(drop, DropStatus::Ignored, findings, invocation)
                        .await?);
                }
                judge::Judgement::Deploy(judged) => judged,
            }
        };
        let mut findings = build_findings;
        findings.extend(judged.warnings.iter().cloned());
        self.note_targets(drop, &judged, findings, invocation)
            .await?;
        // Every revision stands before the first group hears of the drop: what refuses one refuses the whole.
        let (mut ended, mut shipped) = (Vec::new(), Vec::new());
        for target in &judged.targets {
            let name = GroupName {
                application: target.settings.application.clone(),
                deployment_group: target.settings.deployment_group.clone(),
                region: target.settings.region.clone(),
            };
            let known = drop.target(&name.application, &name.deployment_group);
            if known.is_none_or(|known| known.status.is_terminal()) {
                ended.push((name, None));
                continue;
            }
            let revision = match known.and_then(|known| known.revision.clone()) {
                Some(revision) => revision,
                None => Box::pin(self.ship(drop, &judged, target, invocation)).await?,
            };
            shipped.push((name, target, revision));
        }
        // Where one group may not be taken, none is; a single one's is looked at when the drop is admitted to it.
        if shipped.len() > 1 {
            for (name, ..) in &shipped {
                self.group_in_region(name).await?;
            }
        }
        let mut taken = Vec::new();
        for turn in ended {
            let status = self.take_turn(drop, turn, invocation).await;
            taken.push(status.map_err(Fault::from));
        }
        for (name, target, revision) in shipped {
            // One group's trouble is not the others'.
            taken.push(
                match self.enqueue(drop, target, revision, invocation).await {
                    Ok(seen) => self
                        .take_turn(drop, (name, seen), invocation)
                        .await
                        .map_err(Fault::from),
                    Err(fault) => Err(fault),
                },
            );
        }
        self.status_after(drop, taken).await
    }

    /// Writes the judged targets into the drop's document, once: a later attempt works on the same ones, as far
    /// as the settings still name them. Nobody would ever come back to the others, so that they end here.
    async fn note_targets(
        &self,
        drop: &mut Drop,
        judged: &judge::Judged<'_, S>,
        findings: Vec<Finding>,
        invocation: &Invocation,
    ) -> Result<(), Retry> {
        let now = Timestamp::now();
        let targets: Vec<DropTarget> = judged
            .targets
            .iter()
            .map(|target| {
                let settings = &target.settings;
                DropTarget::noted(
                    (
                        settings.application.clone(),
                        settings.deployment_group.clone(),
                    ),
                    settings.region.clone(),
                    settings.deployment_config.clone(),
                    now,
                )
            })
            .collect();
        let is_first = drop.deployments.is_empty();
        let mut stay: Vec<TargetName> = targets.iter().map(DropTarget::name).collect();
        if !drop.deployments.iter().all(|known| known.stays(&stay)) {
            stay.extend(self.targets_with_turn(drop).await?);
        }
        let mut was_open = false;
        *drop = self
            .change_drop(drop, |drop| {
                was_open = !drop.status.is_terminal();
                // What another attempt noted meanwhile, it works on; and what has ended stays so.
                if (is_first || !was_open) && !drop.deployments.is_empty() {
                    return false;
                }
                let is_named =
                    |known: &DropTarget| known.status != DropStatus::Ignored && known.stays(&stay);
                if !drop.deployments.iter().any(is_named) {
                    drop.note_targets(&targets);
                    drop.deployment_block = Some(judged.block.clone());
                    drop.findings.clone_from(&findings);
                    return true;
                }
                if drop.deployments.iter().all(|known| known.stays(&stay)) {
                    return false;
                }
                drop.close(DropStatus::Ignored, &[], &stay, now);
                true
            })
            .await?;
        self.finish(drop, was_open, invocation).await
    }

    /// Ends a drop, but for the targets that have a turn in their group, or had one.
    async fn close(
        &self,
        drop: &Drop,
        status: DropStatus,
        findings: Vec<Finding>,
        invocation: &Invocation,
    ) -> Result<DropStatus, Retry> {
        let has_turn = self.targets_with_turn(drop).await?;
        let now = Timestamp::now();
        let mut was_open = false;
        let closed = self
            .change_drop(drop, |drop| {
                was_open = !drop.status.is_terminal();
                if was_open {
                    drop.close(status, &findings, &has_turn, now);
                }
                was_open
            })
            .await?;
        self.finish(&closed, was_open, invocation).await?;
        Ok(closed.status)
    }

    /// Takes the mark of a drop away that has ended, and tells its end where it was open before.
    async fn finish(
        &self,
        drop: &Drop,
        was_open: bool,
        invocation: &Invocation,
    ) -> Result<(), Retry> {
        if !drop.status.is_terminal() {
            return Ok(());
        }
        self.records.close_drop(&drop.drop_id).await?;
        if was_open {
            let decision = Decision::DropEnded {
                status: drop.status,
                seconds_from_upload: seconds_from(drop.artifact.uploaded_at, drop.updated_at),
                findings: &drop.findings,
            };
            invocation.journal.tell(&Subject::of_drop(drop), &decision);
        }
        Ok(())
    }

    /// Changes the drop's document, as long as it is still this drop's; gives it as it stands then.
    async fn change_drop(
        &self,
        drop: &Drop,
        mut change: impl FnMut(&mut Drop) -> bool + Send,
    ) -> Result<Drop, Retry> {
        let now = Timestamp::now();
        let changed = self
            .records
            .update_drop(drop.artifact.object.key.as_str(), |known| match known {
                Some(mut known) if known.drop_id == drop.drop_id => {
                    if change(&mut known) {
                        known.updated_at = now;
                        Change::Write(known.clone(), Some(known))
                    } else {
                        Change::Keep(Some(known))
                    }
                }
                _ => Change::Keep(None),
            })
            .await?;
        changed.ok_or_else(|| Retry {
            reason: RetryReason::ArtifactChanged,
            message: format!(
                "a newer upload of `{}` replaced this one while it was worked on",
                drop.artifact.object.key
            ),
        })
    }

    fn conductor<'a>(&'a self, invocation: &'a Invocation) -> Conductor<'a, D, C> {
        Conductor {
            records: &self.records,
            codedeploy: &self.codedeploy,
            invocation,
        }
    }
}
