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
use serde_json::{Map, Value, json};

use crate::advance::{Conductor, GroupName, Invocation};
use crate::decision::{Decision, Subject, seconds_from};
use crate::deployment::{
    CodeDeploy, DeploymentId, DeploymentInfo, DeploymentStatus, DeploymentTargets, Region,
};
use crate::fault::{Retry, RetryReason, batch_answer};
use crate::finding::Finding;
use crate::intake::{DeploymentStateChange, Intake, Notice, read_event};
use crate::journal;
use crate::records::drop::{ABANDONED, DropId, DropStatus};
use crate::records::group::Running;
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
                let mut answer = Map::new();
                answer.insert("recorded".to_owned(), answers.into());
                invocation.journal.take_outcomes().answer(&mut answer);
                Ok(answer.into())
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
        let looked = self.look(region, &change.deployment_id, expects_end).await;
        if let Err(retry) = &looked
            && retry.reason == RetryReason::AccessDenied
        {
            match self.is_known(change, region).await {
                // The rule brings every deployment of the account, the rights may be for some alone.
                Ok(false) => {
                    let reason = format!(
                        "deployment {} is of {}/{}, where nothing of ours goes and the function may not look: {retry}",
                        change.deployment_id, change.application, change.deployment_group
                    );
                    return Ok(ignored(invocation, &reason));
                }
                Ok(true) => (),
                // The first trouble is the one to cure.
                Err(trouble) => {
                    tracing::warn!("whose deployment it is was not found out: {trouble}")
                }
            }
        }
        let info = looked?;
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

    /// Whether there is a record of the deployment or of its group: that is there before anything of ours goes there.
    async fn is_known(
        &self,
        change: &DeploymentStateChange,
        region: &Region,
    ) -> Result<bool, Retry> {
        let group = self
            .records
            .group(&change.application, &change.deployment_group)
            .await?;
        if group.is_some_and(|group| group.region == *region) {
            return Ok(true);
        }
        let deployment = self.records.deployment(&change.deployment_id).await?;
        Ok(deployment.is_some())
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
        let known = self.records.deployment(&info.deployment_id).await?;
        let mut failures = Vec::new();
        let are_known = known.as_ref().is_some_and(|k| !k.failures.is_empty());
        if info.status == DeploymentStatus::Failed && !are_known {
            failures = self
                .codedeploy
                .failed_targets(region, &info.deployment_id, TARGETS_MAX)
                .await?;
            failures.truncate(FAILURES_MAX);
        }
        let name = GroupName {
            application: info.application.clone(),
            deployment_group: info.deployment_group.clone(),
            region: region.clone(),
        };
        let conductor = self.conductor(invocation);
        if let Some(seen) = conductor.observe(&name, info, known, failures).await? {
            Box::pin(conductor.advance_from(&name, Some(seen))).await?;
        }
        Ok(())
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
        let (abandoned, trouble) = self.settle_drops(invocation).await;
        let first_trouble = first_trouble.or(trouble);
        invocation.journal.tell(
            &Subject::default(),
            &Decision::Settled {
                groups: settled,
                waiting,
                abandoned,
            },
        );
        match first_trouble {
            // An error would keep from the on-success destination what was settled; the next tick finds the
            // trouble again.
            Some(retry) if !invocation.journal.has_outcomes() => Err(retry),
            _ => Ok(json!({ "groups_settled": settled, "drops_abandoned": abandoned })),
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
                    None => return self.settle_unnamed(&name, invocation).await,
                }
            }
            Some(Running::Intended { .. }) | None => {}
        }
        let was_intended = matches!(group.running, Some(Running::Intended { .. }));
        let conductor = self.conductor(invocation);
        let now = Box::pin(conductor.advance_from(&name, Some(group.into()))).await?;
        match now.running {
            // A deployment that was found for an intent may have ended long ago, with its event lost too.
            Some(Running::Deploying { deployment_id, .. }) if was_intended => {
                let info = self
                    .codedeploy
                    .deployment(&name.region, &deployment_id)
                    .await?;
                if info.status.is_terminal() {
                    self.observe(&info, &name.region, invocation).await?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A group that was busy with a deployment that CodeDeploy did not name.
    async fn settle_unnamed(&self, name: &GroupName, invocation: &Invocation) -> Result<(), Retry> {
        let last = self
            .codedeploy
            .deployment_group(&name.region, &name.application, &name.deployment_group)
            .await?
            .last_attempted;
        let last = match last {
            Some((id, status)) if status.is_terminal() => {
                let ended = self.codedeploy.deployment(&name.region, &id).await?;
                return self.observe(&ended, &name.region, invocation).await;
            }
            Some((id, _)) => Some(id),
            None => None,
        };
        let conductor = self.conductor(invocation);
        let (seen, ()) = conductor
            .change(name, |group| {
                let changed = match &last {
                    Some(id) => group.occupied(id, Timestamp::now()),
                    None => group.vacated(None),
                };
                (changed, ())
            })
            .await?;
        Box::pin(conductor.advance_from(name, Some(seen))).await?;
        Ok(())
    }

    /// Drops that were claimed and never came as far as a group: how many were given up, and the first trouble.
    async fn settle_drops(&self, invocation: &Invocation) -> (usize, Option<Retry>) {
        let open = match self.records.open_drops().await {
            Ok(open) => open,
            Err(retry) => {
                journal::given_back(&retry);
                return (0, Some(retry));
            }
        };
        let now = Timestamp::now();
        let (mut abandoned, mut first_trouble) = (0_usize, None);
        for marker in &open {
            if now.duration_since(marker.since) < ABANDONED_AFTER {
                continue;
            }
            // One drop's trouble is not the others'.
            match self.settle_drop(&marker.drop_id, now, invocation).await {
                Ok(gave_up) => abandoned += usize::from(gave_up),
                Err(retry) => {
                    journal::given_back(&retry);
                    first_trouble.get_or_insert(retry);
                }
            }
        }
        (abandoned, first_trouble)
    }

    /// Gives a drop up that was marked long ago, unless its end is a group's business; tells whether it did.
    async fn settle_drop(
        &self,
        drop_id: &DropId,
        now: Timestamp,
        invocation: &Invocation,
    ) -> Result<bool, Retry> {
        let Some(staged_key) = self.records.staged_key_of(drop_id).await? else {
            return Ok(false);
        };
        if let Some(drop) = self
            .records
            .drop(&staged_key)
            .await?
            .filter(|drop| drop.drop_id == *drop_id)
        {
            for target in &drop.deployments {
                let group = self
                    .records
                    .group(&target.application, &target.deployment_group)
                    .await?;
                if group.is_some_and(|group| group.holds(drop_id)) {
                    return Ok(false);
                }
            }
        }
        let gave_up = self
            .records
            .update_drop(&staged_key, |drop| match drop {
                Some(mut drop) if drop.drop_id == *drop_id && !drop.status.is_terminal() => {
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
            let decision = Decision::DropEnded {
                status: drop.status,
                seconds_from_upload: seconds_from(drop.artifact.uploaded_at, now),
                findings: &drop.findings,
            };
            invocation.journal.tell(&Subject::of_drop(drop), &decision);
        }
        self.records.close_drop(drop_id).await?;
        Ok(gave_up.is_some())
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
