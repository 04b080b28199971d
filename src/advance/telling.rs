//! Lets the drops' documents say what became of them in a group.

use jiff::Timestamp;

use super::{Conductor, GroupName};
use crate::deployment::{CodeDeploy, DeploymentId};
use crate::fault::Retry;
use crate::records::drop::{DropId, DropStatus};
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
            let closed = self
                .records
                .update_drop(&end.drop.staged_key, |drop| match drop {
                    Some(mut drop) if drop.drop_id == end.drop.drop_id => {
                        if drop.take(&name.application, &name.deployment_group, end) {
                            drop.updated_at = now;
                            let closed = drop.status.is_terminal();
                            Change::Write(drop, closed)
                        } else {
                            Change::Keep(drop.status.is_terminal())
                        }
                    }
                    // A newer upload of the key has taken the document over.
                    _ => Change::Keep(true),
                })
                .await?;
            if closed {
                self.records.close_drop(&end.drop.drop_id).await?;
            }
            tracing::info!(
                drop = %end.drop.drop_id, staged_key = %end.drop.staged_key, application = %name.application,
                deployment_group = %name.deployment_group, status = ?end.status,
                deployment_id = end.deployment_id.as_ref().map(DeploymentId::as_str), "drop ended"
            );
        }
        self.apply(name, |group| group.announced(announcements))
            .await?;
        Ok(())
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
