//! Looks for the deployment that was asked for without an answer being heard.

use jiff::{SignedDuration, Timestamp};

use super::{Conductor, GroupName};
use crate::deployment::{CodeDeploy, DeploymentId, DeploymentInfo, DeploymentToken};
use crate::fault::Retry;
use crate::records::DocumentStore;
use crate::records::group::Ticket;

/// How far CodeDeploy's clock may be behind ours when its deployments are searched by time.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(120);

impl<D: DocumentStore, C: CodeDeploy> Conductor<'_, D, C> {
    /// Looks for the deployment that carries the ticket's token: the group's last one first, then by time.
    pub(super) async fn find(
        &self,
        name: &GroupName,
        ticket: &Ticket,
        since: Timestamp,
    ) -> Result<Option<DeploymentId>, Retry> {
        let last = self
            .codedeploy
            .deployment_group(&name.region, &name.application, &name.deployment_group)
            .await
            .ok()
            .and_then(|group| group.last_attempted);
        if let Some((id, _)) = last
            && self.is_ours(name, &id, &ticket.token).await?
        {
            return Ok(Some(id));
        }
        let since = since.saturating_sub(CLOCK_SKEW).unwrap_or(since);
        let found = self
            .codedeploy
            .deployments_since(&ticket.request, since)
            .await?;
        Ok(found
            .into_iter()
            .find(|info| carries(info, &ticket.token))
            .map(|info| info.deployment_id))
    }

    /// Whether the deployment carries this token.
    pub(super) async fn is_ours(
        &self,
        name: &GroupName,
        id: &DeploymentId,
        token: &DeploymentToken,
    ) -> Result<bool, Retry> {
        let info = self.codedeploy.deployment(&name.region, id).await?;
        Ok(carries(&info, token))
    }
}

fn carries(info: &DeploymentInfo, token: &DeploymentToken) -> bool {
    token_of(info).as_ref() == Some(token)
}

/// The mark in a deployment's description, where it is one of ours.
pub(super) fn token_of(info: &DeploymentInfo) -> Option<DeploymentToken> {
    info.description
        .as_deref()
        .and_then(DeploymentToken::in_description)
}
