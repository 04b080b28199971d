//! A drop takes its turns: in every group that its block names, each for itself.

use super::Deploy;
use crate::advance::{GroupName, Invocation, Seen};
use crate::deployment::{CodeDeploy, DeploymentConfigs};
use crate::fault::{Fault, Retry};
use crate::records::DocumentStore;
use crate::records::drop::{Drop, DropStatus, TargetName};
use crate::revision::{MultipartUploads, ObjectStore};

/// A group in which a drop has its turn, and its document where it was just read or written.
pub(super) type Turn = (GroupName, Option<Seen>);

impl<D: DocumentStore, S: ObjectStore + MultipartUploads, C: CodeDeploy + DeploymentConfigs>
    Deploy<D, S, C>
{
    /// The groups of a drop that has a turn in each of them already, or had one: then nothing is to be judged
    /// or shipped any more. `None` where some group does not know of it.
    pub(super) async fn turns_under_way(&self, drop: &Drop) -> Result<Option<Vec<Turn>>, Retry> {
        let mut turns = Vec::new();
        for target in &drop.deployments {
            let name = GroupName {
                application: target.application.clone(),
                deployment_group: target.deployment_group.clone(),
                region: target.region.clone(),
            };
            if target.status.is_terminal() {
                turns.push((name, None));
                continue;
            }
            let group = self
                .records
                .group(&name.application, &name.deployment_group)
                .await?;
            match group.filter(|group| group.knows(&drop.drop_id)) {
                Some(group) => turns.push((name, Some(group.into()))),
                None => return Ok(None),
            }
        }
        Ok((!turns.is_empty()).then_some(turns))
    }

    /// The targets that have a turn in their group, or had one: what a group decided is not undone by what a later
    /// attempt found.
    pub(super) async fn targets_with_turn(&self, drop: &Drop) -> Result<Vec<TargetName>, Retry> {
        let mut has_turn = Vec::new();
        for target in &drop.deployments {
            let (application, group) = (&target.application, &target.deployment_group);
            let group = self.records.group(application, group).await?;
            if group.is_some_and(|group| group.knows(&drop.drop_id)) {
                has_turn.push(target.name());
            }
        }
        Ok(has_turn)
    }

    /// Advances a group in which a drop has its turn, and lets its document say so where it waits; gives the
    /// drop's status, where that was looked at.
    pub(super) async fn take_turn(
        &self,
        drop: &Drop,
        (name, seen): Turn,
        invocation: &Invocation,
    ) -> Result<Option<DropStatus>, Retry> {
        let conductor = self.conductor(invocation);
        let group = Box::pin(conductor.advance_from(&name, seen)).await?;
        conductor.tell_turn(&group, &drop.drop_id).await
    }

    /// The drop's status after its turns were taken, or what was wrong with the first that could not be.
    pub(super) async fn status_after(
        &self,
        drop: &Drop,
        taken: Vec<Result<Option<DropStatus>, Fault>>,
    ) -> Result<DropStatus, Fault> {
        let statuses = taken.into_iter().collect::<Result<Vec<_>, _>>()?;
        if let [Some(status)] = statuses.as_slice() {
            return Ok(*status);
        }
        let now = self.records.drop(drop.artifact.object.key.as_str()).await?;
        Ok(now
            .filter(|now| now.drop_id == drop.drop_id)
            .map_or(DropStatus::Superseded, |now| now.status))
    }
}
