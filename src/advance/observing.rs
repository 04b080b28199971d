//! Writes down what CodeDeploy says of a deployment, in its own document and in its group's.
//!
//! While it is under way, the group's comes first: who finds a deployment's document that tells whose drop it
//! is need not look there again. Its end comes into its own document first: once the group is over it, nobody
//! looks there again.

use jiff::Timestamp;

use super::finding::token_of;
use super::{Conductor, GroupName, Seen};
use crate::deployment::{CodeDeploy, DeploymentInfo, DeploymentToken, TargetFailure};
use crate::fault::Retry;
use crate::records::deployment::DeploymentRecord;
use crate::records::group::{Group, Running};
use crate::records::queue::End;
use crate::records::{Change, DocumentStore};

impl<D: DocumentStore, C: CodeDeploy> Conductor<'_, D, C> {
    /// Records what CodeDeploy says of a deployment; `known` is its document as it stands, `failures` is what
    /// its targets told. Gives the group's document, where it may be advanced from there.
    ///
    /// # Errors
    /// AWS trouble, or too much contention.
    pub async fn observe(
        &self,
        name: &GroupName,
        info: &DeploymentInfo,
        known: Option<DeploymentRecord>,
        failures: Vec<TargetFailure>,
    ) -> Result<Option<Seen>, Retry> {
        let now = Timestamp::now();
        let mut news = DeploymentRecord::of(info, &name.region, now);
        news.failures = failures;
        if let Some(known) = &known {
            news = news.merged_into(known);
        }
        let is_told = known.as_ref().is_some_and(|known| known.drop.is_some());
        let is_over = info.status.is_terminal();
        let seen = if is_over {
            let before = self.attribute(name, info, &mut news).await?;
            let has_ended = self.write(known, &news).await?;
            // At once: whoever comes again after trouble with the group finds no news here any more.
            self.tell_recorded(&news, has_ended);
            Some(self.pass_to_group(name, info, &news, before).await?)
        } else {
            let seen = if is_told {
                None
            } else {
                let before = self.attribute(name, info, &mut news).await?;
                Some(self.pass_to_group(name, info, &news, before).await?)
            };
            let has_ended = self.write(known, &news).await?;
            self.tell_recorded(&news, has_ended);
            seen
        };
        self.link_rollbacks(&news, now).await?;
        // Only now: with an outcome to answer, the schedule would hide the group's trouble at every tick.
        self.keep_outcome(&news);
        Ok(seen)
    }

    /// Writes a deployment's document where there is news; tells whether that is its end.
    async fn write(
        &self,
        known: Option<DeploymentRecord>,
        news: &DeploymentRecord,
    ) -> Result<bool, Retry> {
        let is_news = known.is_none_or(|known| {
            let updated_at = news.updated_at;
            DeploymentRecord {
                updated_at,
                ..known
            } != *news
        });
        if !is_news {
            return Ok(false);
        }
        self.records
            .update_deployment(&news.deployment_id, |known| {
                let was_over = known
                    .as_ref()
                    .is_some_and(|known| known.status.is_terminal());
                let merged = match &known {
                    Some(known) => news.clone().merged_into(known),
                    None => news.clone(),
                };
                let has_ended = merged.status.is_terminal() && !was_over;
                Change::Write(merged, has_ended)
            })
            .await
    }

    /// Lets `news` learn from the group's document which build it is of; gives that document.
    async fn attribute(
        &self,
        name: &GroupName,
        info: &DeploymentInfo,
        news: &mut DeploymentRecord,
    ) -> Result<Option<Group>, Retry> {
        let group = self
            .records
            .group(&name.application, &name.deployment_group)
            .await?;
        if let Some(group) = &group {
            attribute(news, group, token_of(info).as_ref());
        }
        Ok(group)
    }

    /// What a deployment means for its group, whose document was `before` when it was read last.
    async fn pass_to_group(
        &self,
        name: &GroupName,
        info: &DeploymentInfo,
        news: &DeploymentRecord,
        before: Option<Group>,
    ) -> Result<Seen, Retry> {
        let now = news.updated_at;
        let token = token_of(info);
        let end = info.status.is_terminal().then(|| End {
            deployment_id: info.deployment_id.clone(),
            status: info.status,
            revision: news.revision.clone(),
            is_restart: info.is_restart,
            creator: news.creator.clone(),
            ended_at: news.times.completed_at.unwrap_or(now),
            duration_seconds: news.duration_seconds(),
            error: news.error.clone(),
            failures: news.failures.clone(),
        });
        let transition = |group: &mut Group| {
            let mut changed = false;
            if let Some(token) = &token {
                changed |= group.created(token, &info.deployment_id, now);
            }
            match &end {
                Some(end) => changed |= group.ended(end),
                None if !changed => changed = group.occupied(&info.deployment_id, now),
                None => {}
            }
            changed
        };
        // What was read just now need not be read again to see that there is nothing new in it.
        match before {
            Some(group) if !transition(&mut group.clone()) => Ok(group.into()),
            _ => Ok(self.change(name, |group| (transition(group), ())).await?.0),
        }
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
}

/// Says which build a deployment is of: by its token or its end among the group's, else by its revision.
fn attribute(news: &mut DeploymentRecord, group: &Group, token: Option<&DeploymentToken>) {
    let mut tickets = group
        .running
        .iter()
        .filter_map(Running::ticket)
        .chain(&group.waiting);
    if let Some(ticket) = tickets.find(|ticket| Some(&ticket.token) == token) {
        news.build = Some(ticket.build.clone());
        news.drop = Some(ticket.drop.clone());
        news.options = Some(ticket.into());
        return;
    }
    let its_end = group
        .outcomes
        .iter()
        .find(|outcome| outcome.deployment_id.as_ref() == Some(&news.deployment_id));
    if let Some(outcome) = its_end
        && outcome.drop.is_some()
    {
        news.build.clone_from(&outcome.build);
        news.drop.clone_from(&outcome.drop);
        return;
    }
    if news.build.is_none()
        && news.revision.is_some()
        && let Some(outcome) = group
            .outcomes
            .iter()
            .find(|outcome| outcome.revision == news.revision)
    {
        news.build.clone_from(&outcome.build);
    }
}
