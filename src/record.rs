//! A deployment changed its state, or the clock rang: what became of it is recorded, and who waits goes next.
//!
//! ```text
//! state change -> GetDeployment -> why it failed -> deployments/… -> groups/… -> drops/… -> the next build
//! schedule     -> what is open  -> the same, for each that no event told
//! ```
//!
//! An event only says where to look: CodeDeploy delivers them at best effort and in any order, so what
//! counts is what `GetDeployment` answers.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_lambda_events::event::sqs::SqsBatchResponse;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::advance::{Conductor, GroupName, Invocation};
use crate::decision::{Decision, Subject, seconds_from};
use crate::deployment::{
    CodeDeploy, DeploymentId, DeploymentInfo, DeploymentStatus, DeploymentTargets, DeploymentToken,
    Region,
};
use crate::fault::{Retry, RetryReason, batch_answer};
use crate::finding::Finding;
use crate::intake::{DeploymentStateChange, Intake, Notice, read_event};
use crate::journal;
use crate::records::deployment::DeploymentRecord;
use crate::records::drop::{ABANDONED, DropStatus};
use crate::records::group::{Group, Running};
use crate::records::queue::End;
use crate::records::{Change, DocumentStore, OpenGroup, Records};
use crate::service_error::ServiceError;

/// Failed targets that are looked at.
const TARGETS_MAX: usize = 100;
/// Failed targets that are recorded: those that failed first.
const FAILURES_MAX: usize = 5;
/// How often `GetDeployment` is asked again where it is behind the event.
const LOOKS_MAX: u32 = 4;
/// The first pause before that; each further one is twice as long.
const LOOK_PAUSE: Duration = Duration::from_millis(250);
/// After this long without an end, a drop without a ticket is given up: Lambda has retried by then.
const ABANDONED_AFTER: SignedDuration = SignedDuration::from_hours(7);
/// After this long, a marker whose group is idle was left over by an invocation that died.
const MARKER_LEFT_OVER_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// The `record` function.
#[derive(Debug)]
pub struct Record<D, C> {
    /// The records.
    pub records: Records<D>,
    /// CodeDeploy.
    pub codedeploy: C,
    /// The function's own region.
    pub region: Region,
}

impl<D: DocumentStore, C: CodeDeploy + DeploymentTargets> Record<D, C> {
    /// Handles one event; the answer says what was recorded.
    ///
    /// # Errors
    /// What may go better when Lambda delivers the event again.
    pub async fn handle(&self, event: &Value, invocation: &Invocation) -> Result<Value, Retry> {
        self.records.forget();
        match read_event(event) {
            Intake::Direct(notices) => {
                let mut answers = Vec::new();
                for notice in &notices {
                    answers.push(self.handle_notice(notice, invocation).await?);
                }
                Ok(json!({ "recorded": answers, "outcomes": invocation.journal.take_outcomes() }))
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
    ) -> Result<Value, Retry> {
        match notice {
            Notice::StateChange(change) => self.state_changed(change, invocation).await,
            Notice::Schedule(_) => self.settle(invocation).await,
            Notice::Staged(_) => Ok(ignored(
                invocation,
                "a staged object is the deploy function's business",
            )),
            Notice::Ignored(reason) => Ok(ignored(invocation, &reason.to_string())),
        }
    }

    async fn state_changed(
        &self,
        change: &DeploymentStateChange,
        invocation: &Invocation,
    ) -> Result<Value, Retry> {
        let region = change.region.as_ref().unwrap_or(&self.region);
        let expects_end = matches!(change.state.as_str(), "SUCCESS" | "FAILURE" | "STOP");
        let info = self
            .look(region, &change.deployment_id, expects_end)
            .await?;
        if expects_end && !info.status.is_terminal() {
            // Recorded as it is; the error brings the event back when CodeDeploy has caught up.
            self.observe(&info, region, invocation).await?;
            return Err(Retry {
                reason: RetryReason::OutcomeNotConfirmed,
                message: format!(
                    "deployment {} is {} while its event says {}",
                    info.deployment_id,
                    info.status.as_str(),
                    change.state
                ),
            });
        }
        self.observe(&info, region, invocation).await?;
        Ok(json!({ "deployment_id": info.deployment_id, "status": info.status }))
    }

    /// `GetDeployment`, asked again for a moment where it does not know the deployment or its end yet.
    async fn look(
        &self,
        region: &Region,
        id: &DeploymentId,
        expects_end: bool,
    ) -> Result<DeploymentInfo, Retry> {
        let mut pause = LOOK_PAUSE;
        let mut last: Option<Result<DeploymentInfo, ServiceError>> = None;
        for look in 0..LOOKS_MAX {
            if look > 0 {
                tokio::time::sleep(pause).await;
                pause = pause.saturating_mul(2);
            }
            match self.codedeploy.deployment(region, id).await {
                Ok(info) if info.status.is_terminal() || !expects_end => return Ok(info),
                Ok(info) => last = Some(Ok(info)),
                Err(error) if error.has_code("DeploymentDoesNotExistException") => {
                    last = Some(Err(error))
                }
                Err(error) => return Err(error.into()),
            }
        }
        match last {
            Some(Ok(info)) => Ok(info),
            Some(Err(error)) => Err(error.into()),
            None => Err(Retry {
                reason: RetryReason::Internal,
                message: format!("deployment {id} was not looked at"),
            }),
        }
    }

    /// Records what CodeDeploy says of a deployment, and lets its group go on.
    async fn observe(
        &self,
        info: &DeploymentInfo,
        region: &Region,
        invocation: &Invocation,
    ) -> Result<(), Retry> {
        let now = Timestamp::now();
        let mut news = DeploymentRecord::of(info, region, now);
        if info.status == DeploymentStatus::Failed {
            let known = self.records.deployment(&info.deployment_id).await?;
            if known.is_none_or(|known| known.failures.is_empty()) {
                news.failures = self
                    .codedeploy
                    .failed_targets(region, &info.deployment_id, TARGETS_MAX)
                    .await?;
                news.failures.truncate(FAILURES_MAX);
            }
        }
        let name = GroupName {
            application: info.application.clone(),
            deployment_group: info.deployment_group.clone(),
            region: region.clone(),
        };
        let token = info
            .description
            .as_deref()
            .and_then(DeploymentToken::in_description);
        // Who it belongs to stands in the group's document, and has to be read before the end removes it.
        let group = self
            .records
            .group(&name.application, &name.deployment_group)
            .await?;
        if let Some(group) = &group {
            attribute(&mut news, group, token.as_ref());
        }
        let (record, has_ended) = self
            .records
            .update_deployment(&info.deployment_id, |known| {
                let merged = match &known {
                    Some(known) => news.clone().merged_into(known),
                    None => news.clone(),
                };
                let was_over = known
                    .as_ref()
                    .is_some_and(|known| known.status.is_terminal());
                let has_ended = merged.status.is_terminal() && !was_over;
                let unchanged = known.is_some_and(|known| {
                    DeploymentRecord {
                        updated_at: now,
                        ..known
                    } == merged
                });
                if unchanged {
                    Change::Keep((merged, false))
                } else {
                    Change::Write(merged.clone(), (merged, has_ended))
                }
            })
            .await?;
        tell(&record, has_ended, invocation);
        self.link_rollbacks(&record, now).await?;
        let duration_seconds = record.duration_seconds();
        let end = info.status.is_terminal().then(|| End {
            deployment_id: info.deployment_id.clone(),
            status: info.status,
            revision: record.revision.clone(),
            creator: record.creator.clone(),
            ended_at: record.times.completed_at.unwrap_or(now),
            duration_seconds,
            error: record.error.clone(),
            failures: record.failures.clone(),
        });
        let is_known = group.as_ref().is_some_and(|group| {
            let running = group.running.as_ref();
            running.and_then(Running::deployment_id) == Some(&info.deployment_id)
        });
        if end.is_none() && is_known {
            return Ok(());
        }
        let (group, ()) = self
            .records
            .update_group(&name.application, &name.deployment_group, region, |group| {
                let mut changed = false;
                if let Some(token) = &token {
                    changed |= group.created(token, &info.deployment_id, now);
                }
                match &end {
                    Some(end) => changed |= group.ended(end),
                    None if !changed => changed = group.occupied(&info.deployment_id, now),
                    None => {}
                }
                (changed, ())
            })
            .await?;
        Box::pin(self.conductor(invocation).advance_from(&name, Some(group))).await
    }

    /// Links a rollback to what it rolls back, and back.
    async fn link_rollbacks(&self, record: &DeploymentRecord, now: Timestamp) -> Result<(), Retry> {
        let Some(rolled_back) = record
            .rollback
            .as_ref()
            .and_then(|rollback| rollback.rolls_back.clone())
        else {
            return Ok(());
        };
        self.records
            .update_deployment(&rolled_back, |known| match known {
                Some(mut known) => {
                    if known.link_rollback(&record.deployment_id) {
                        known.updated_at = now;
                        Change::Write(known, ())
                    } else {
                        Change::Keep(())
                    }
                }
                // Its own event brings it; CodeDeploy tells this link from the other side too.
                None => Change::Keep(()),
            })
            .await
    }

    /// Settles what no event told: every open group, and drops that nobody works on any more.
    async fn settle(&self, invocation: &Invocation) -> Result<Value, Retry> {
        let open = self.records.open_groups().await?;
        let mut by_group: BTreeMap<(String, String), Vec<OpenGroup>> = BTreeMap::new();
        for marker in open {
            let name = (
                marker.application.to_string(),
                marker.deployment_group.to_string(),
            );
            by_group.entry(name).or_default().push(marker);
        }
        let (mut settled, mut waiting) = (0_usize, 0_usize);
        let mut first_trouble = None;
        for markers in by_group.values() {
            // One group's trouble is not the others'.
            match self.settle_group(markers, &mut waiting, invocation).await {
                Ok(()) => settled += 1,
                Err(retry) => {
                    journal::given_back(&retry);
                    first_trouble.get_or_insert(retry);
                }
            }
        }
        let abandoned = self.settle_drops(invocation).await?;
        invocation.journal.tell(
            &Subject::default(),
            &Decision::Settled {
                groups: settled,
                waiting,
                abandoned,
            },
        );
        match first_trouble {
            Some(retry) => Err(retry),
            None => Ok(json!({ "groups_settled": settled, "drops_abandoned": abandoned })),
        }
    }

    async fn settle_group(
        &self,
        markers: &[OpenGroup],
        waiting: &mut usize,
        invocation: &Invocation,
    ) -> Result<(), Retry> {
        let Some(first) = markers.first() else {
            return Ok(());
        };
        let group = self
            .records
            .group(&first.application, &first.deployment_group)
            .await?;
        let now = Timestamp::now();
        for marker in markers {
            let over = match &group {
                Some(group) if group.is_quiet() => {
                    marker.epoch <= group.epoch || is_older(marker, now)
                }
                Some(group) => marker.epoch < group.epoch,
                None => is_older(marker, now),
            };
            if over {
                self.records.close_group(marker).await?;
            }
        }
        let Some(group) = group.filter(|group| !group.is_quiet()) else {
            return Ok(());
        };
        *waiting = waiting.saturating_add(group.waiting.len());
        let name = GroupName {
            application: group.application.clone(),
            deployment_group: group.deployment_group.clone(),
            region: group.region.clone(),
        };
        match &group.running {
            Some(running @ (Running::Deploying { .. } | Running::Foreign { .. })) => {
                match running.deployment_id() {
                    Some(id) => {
                        let info = self.codedeploy.deployment(&name.region, id).await?;
                        if info.status.is_terminal() {
                            return self.observe(&info, &name.region, invocation).await;
                        }
                    }
                    None => self.settle_unnamed(&name, now).await?,
                }
            }
            Some(Running::Intended { .. }) | None => {}
        }
        Box::pin(self.conductor(invocation).advance(&name)).await?;
        self.settle_found(&name, group.running.as_ref(), invocation)
            .await
    }

    /// A deployment that was found for an intent may have ended long ago, with its event lost too.
    async fn settle_found(
        &self,
        name: &GroupName,
        before: Option<&Running>,
        invocation: &Invocation,
    ) -> Result<(), Retry> {
        if !matches!(before, Some(Running::Intended { .. })) {
            return Ok(());
        }
        let group = self
            .records
            .group(&name.application, &name.deployment_group)
            .await?;
        let Some(Running::Deploying { deployment_id, .. }) = group.and_then(|group| group.running)
        else {
            return Ok(());
        };
        let info = self
            .codedeploy
            .deployment(&name.region, &deployment_id)
            .await?;
        if info.status.is_terminal() {
            self.observe(&info, &name.region, invocation).await?;
        }
        Ok(())
    }

    /// A group that was busy with a deployment that CodeDeploy did not name.
    async fn settle_unnamed(&self, name: &GroupName, now: Timestamp) -> Result<(), Retry> {
        let last = self
            .codedeploy
            .deployment_group(&name.region, &name.application, &name.deployment_group)
            .await?
            .last_attempted;
        self.records
            .update_group(
                &name.application,
                &name.deployment_group,
                &name.region,
                |group| {
                    let changed = match &last {
                        Some((id, status)) if !status.is_terminal() => group.occupied(id, now),
                        _ => group.vacated(None),
                    };
                    (changed, ())
                },
            )
            .await?;
        Ok(())
    }

    /// Drops that were claimed and never came as far as a group.
    async fn settle_drops(&self, invocation: &Invocation) -> Result<usize, Retry> {
        let now = Timestamp::now();
        let mut abandoned = 0;
        for open in self.records.open_drops().await? {
            if now.duration_since(open.since) < ABANDONED_AFTER {
                continue;
            }
            let Some(staged_key) = self.records.staged_key_of(&open.drop_id).await? else {
                continue;
            };
            let mut in_a_group = false;
            if let Some(drop) = self
                .records
                .drop(&staged_key)
                .await?
                .filter(|drop| drop.drop_id == open.drop_id)
            {
                for target in &drop.deployments {
                    let group = self
                        .records
                        .group(&target.application, &target.deployment_group)
                        .await?;
                    in_a_group |= group.is_some_and(|group| group.holds(&open.drop_id));
                }
            }
            if in_a_group {
                continue;
            }
            let gave_up = self
                .records
                .update_drop(&staged_key, |drop| match drop {
                    Some(mut drop) if drop.drop_id == open.drop_id && !drop.status.is_terminal() => {
                        for target in drop.deployments.iter_mut().filter(|target| !target.status.is_terminal()) {
                            target.status = DropStatus::Failed;
                            target.updated_at = now;
                        }
                        drop.status = DropStatus::Failed;
                        drop.findings.push(Finding::refuse(
                            ABANDONED,
                            "the deploy function did not finish this drop, and Lambda has stopped trying",
                            "look at the function's log and failure queue, then redrive the message or upload the artifact again",
                        ));
                        drop.updated_at = now;
                        Change::Write(drop.clone(), Some(drop))
                    }
                    _ => Change::Keep(None),
                })
                .await?;
            if let Some(drop) = &gave_up {
                abandoned += 1;
                let decision = Decision::DropEnded {
                    status: drop.status,
                    seconds_from_upload: seconds_from(drop.artifact.uploaded_at, now),
                    findings: &drop.findings,
                };
                invocation.journal.tell(&Subject::of_drop(drop), &decision);
            }
            self.records.close_drop(&open.drop_id).await?;
        }
        Ok(abandoned)
    }

    fn conductor<'a>(&'a self, invocation: &'a Invocation) -> Conductor<'a, D, C> {
        Conductor {
            records: &self.records,
            codedeploy: &self.codedeploy,
            invocation,
        }
    }
}

fn ignored(invocation: &Invocation, reason: &str) -> Value {
    let decision = Decision::EventIgnored { reason };
    invocation.journal.tell(&Subject::default(), &decision);
    json!({ "ignored": reason })
}

fn is_older(marker: &OpenGroup, now: Timestamp) -> bool {
    now.duration_since(marker.since) > MARKER_LEFT_OVER_AFTER
}

/// Logs and counts what was recorded of a deployment, and keeps its end for the answer.
fn tell(record: &DeploymentRecord, has_ended: bool, invocation: &Invocation) {
    let subject = Subject {
        build: record.build.as_ref(),
        ..record
            .drop
            .as_ref()
            .map(Subject::of_reference)
            .unwrap_or_default()
    }
    .in_group(&record.application, &record.deployment_group)
    .by_deployment(Some(&record.deployment_id));
    let decision = Decision::DeploymentRecorded {
        status: record.status,
        has_ended: has_ended && record.drop.is_some(),
        error_code: record.error.as_ref().map(|error| error.code.as_str()),
    };
    invocation.journal.tell(&subject, &decision);
    if record.status.is_terminal() {
        // Also where it was recorded before: the answer of that time may not have come through.
        invocation.journal.outcome(json!({
            "deployment_id": record.deployment_id,
            "application": record.application,
            "deployment_group": record.deployment_group,
            "region": record.region,
            "status": record.status,
            "build": record.build,
            "drop": record.drop,
            "creator": record.creator,
            "error": record.error,
        }));
    }
}

/// Says which build a deployment is of: by its token, else by its revision among the group's outcomes.
fn attribute(news: &mut DeploymentRecord, group: &Group, token: Option<&DeploymentToken>) {
    let mut tickets = group
        .running
        .iter()
        .filter_map(Running::ticket)
        .chain(&group.waiting);
    if let Some(ticket) = tickets.find(|ticket| Some(&ticket.token) == token) {
        news.build = Some(ticket.build.clone());
        news.drop = Some(ticket.drop.clone());
        return;
    }
    if news.revision.is_some()
        && let Some(outcome) = group
            .outcomes
            .iter()
            .find(|outcome| outcome.revision == news.revision)
    {
        news.build.clone_from(&outcome.build);
    }
}
