//! Lets the drops' documents say what became of them in a group.

use jiff::Timestamp;
use serde_json::json;

use super::{Conductor, GroupName};
use crate::decision::{Decision, Subject, seconds_from};
use crate::deployment::{CodeDeploy, DeploymentId};
use crate::fault::Retry;
use crate::records::deployment::DeploymentRecord;
use crate::records::drop::{Drop, DropId, DropStatus};
use crate::records::group::{Announcement, Group, Running, Ticket};
use crate::records::{Change, DocumentStore};

impl<D: DocumentStore, C: CodeDeploy> Conductor<'_, D, C> {
    /// Tells the drops of a group how they ended, then forgets that they had to be told.
    pub(super) async fn announce(
        &self,
        name: &GroupName,
        announcements: &[Announcement],
    ) -> Result<(), Retry> {
        for end in announcements {
            let now = Timestamp::now();
            let (closed, told) = self
                .records
                .update_drop(&end.drop.staged_key, |drop| match drop {
                    Some(mut drop) if drop.drop_id == end.drop.drop_id => {
                        if drop.take(&name.application, &name.deployment_group, end) {
                            drop.updated_at = now;
                            let closed = drop.status.is_terminal();
                            Change::Write(drop.clone(), (closed, Some(drop)))
                        } else {
                            Change::Keep((drop.status.is_terminal(), None))
                        }
                    }
                    // A newer upload of the key has taken the document over.
                    _ => Change::Keep((true, None)),
                })
                .await?;
            if closed {
                self.records.close_drop(&end.drop.drop_id).await?;
            }
            if let Some(drop) = &told {
                self.tell_end(name, end, drop);
            }
        }
        self.apply(name, |group| group.announced(announcements))
            .await?;
        Ok(())
    }

    /// Logs and counts what an end meant for its drop.
    fn tell_end(&self, name: &GroupName, end: &Announcement, drop: &Drop) {
        let subject = Subject::of_drop(drop)
            .in_group(&name.application, &name.deployment_group)
            .by_deployment(end.deployment_id.as_ref());
        let decision = if drop.status.is_terminal() {
            Decision::DropEnded {
                status: drop.status,
                seconds_from_upload: seconds_from(drop.artifact.uploaded_at, drop.updated_at),
                findings: &drop.findings,
            }
        } else {
            Decision::TargetEnded {
                status: end.status.into(),
            }
        };
        self.invocation.journal.tell(&subject, &decision);
    }

    /// Logs and counts what was recorded of a deployment.
    pub(super) fn tell_recorded(&self, record: &DeploymentRecord, has_ended: bool) {
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
        self.invocation.journal.tell(&subject, &decision);
    }

    /// Keeps a deployment's end for the answer.
    pub(super) fn keep_outcome(&self, record: &DeploymentRecord) {
        if record.status.is_terminal() {
            // Also where it was recorded before: the answer of that time may not have come through.
            self.invocation.journal.outcome(json!({
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

    /// How far a drop has come in a group by the group's document, where it is there under way. That it waits
    /// is written into its own document: nobody else tells of a group that was known to be busy, so that
    /// CodeDeploy was not even asked.
    ///
    /// # Errors
    /// AWS trouble, or too much contention.
    pub async fn tell_turn(
        &self,
        group: &Group,
        drop_id: &DropId,
    ) -> Result<Option<DropStatus>, Retry> {
        let is_its = |ticket: &&Ticket| ticket.drop.drop_id == *drop_id;
        if let Some(ticket) = group.waiting.iter().find(is_its) {
            return self.tell_progress(ticket, DropStatus::Waiting, None).await;
        }
        let running = group.running.as_ref().and_then(Running::ticket);
        Ok(running.filter(is_its).map(|_| DropStatus::Deploying))
    }

    /// Writes a drop's way through the queue into its document, unless that tells more already; gives its
    /// status as it is then.
    pub(super) async fn tell_progress(
        &self,
        ticket: &Ticket,
        status: DropStatus,
        deployment_id: Option<&DeploymentId>,
    ) -> Result<Option<DropStatus>, Retry> {
        let now = Timestamp::now();
        let request = &ticket.request;
        self.records
            .update_drop(&ticket.drop.staged_key, |drop| {
                let Some(mut drop) = drop.filter(|drop| drop.drop_id == ticket.drop.drop_id) else {
                    return Change::Keep(None);
                };
                let before = drop.status;
                let Some(target) = drop.target_mut(&request.application, &request.deployment_group)
                else {
                    return Change::Keep(Some(before));
                };
                let id_is_news =
                    deployment_id.is_some() && target.deployment_id.as_ref() != deployment_id;
                let status_is_news = !target.status.is_terminal()
                    && target.deployment_id.is_none()
                    && target.status != status;
                if !id_is_news && !status_is_news {
                    return Change::Keep(Some(before));
                }
                if id_is_news {
                    target.deployment_id = deployment_id.cloned();
                }
                if !target.status.is_terminal() {
                    target.status = status;
                }
                target.updated_at = now;
                drop.updated_at = now;
                drop.conclude();
                let status = drop.status;
                Change::Write(drop, Some(status))
            })
            .await
    }
}
