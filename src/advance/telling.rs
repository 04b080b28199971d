//! Lets the drops' documents say what became of them in a group.

use jiff::Timestamp;

use super::{Conductor, GroupName};
use crate::decision::{Decision, Subject, seconds_from};
use crate::deployment::{CodeDeploy, DeploymentId};
use crate::fault::Retry;
use crate::records::drop::{Drop, DropId, DropStatus};
use crate::records::group::{Announcement, Ticket};
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
        self.change(name, |group| group.announced(announcements))
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

    /// Writes into a drop's document that its build waits, where it does.
    ///
    /// # Errors
    /// AWS trouble.
    pub async fn tell_waiting(&self, name: &GroupName, drop_id: &DropId) -> Result<(), Retry> {
        let group = self
            .records
            .group(&name.application, &name.deployment_group)
            .await?;
        let ticket = group
            .iter()
            .flat_map(|group| &group.waiting)
            .find(|ticket| ticket.drop.drop_id == *drop_id);
        match ticket {
            Some(ticket) => self.tell_progress(ticket, DropStatus::Waiting, None).await,
            None => Ok(()),
        }
    }

    /// Writes a drop's way through the queue into its document, unless that tells more already.
    pub(super) async fn tell_progress(
        &self,
        ticket: &Ticket,
        status: DropStatus,
        deployment_id: Option<&DeploymentId>,
    ) -> Result<(), Retry> {
        let now = Timestamp::now();
        let request = &ticket.request;
        self.records
            .update_drop(&ticket.drop.staged_key, |drop| {
                let Some(mut drop) = drop.filter(|drop| drop.drop_id == ticket.drop.drop_id) else {
                    return Change::Keep(());
                };
                let Some(target) = drop.target_mut(&request.application, &request.deployment_group)
                else {
                    return Change::Keep(());
                };
                let id_is_news =
                    deployment_id.is_some() && target.deployment_id.as_ref() != deployment_id;
                let status_is_news = !target.status.is_terminal()
                    && target.deployment_id.is_none()
                    && target.status != status;
                if !id_is_news && !status_is_news {
                    return Change::Keep(());
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
                Change::Write(drop, ())
            })
            .await
    }
}
