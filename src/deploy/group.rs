//! What CodeDeploy says of a target's group, before anything is written for it.

use super::Deploy;
use crate::deployment::{CodeDeploy, ComputePlatform, DeploymentConfigs};
use crate::fault::Fault;
use crate::finding::Finding;
use crate::records::DocumentStore;
use crate::revision::{MultipartUploads, ObjectStore};
use crate::service_error::Kind;
use crate::settings::Target;

impl<D: DocumentStore, S: ObjectStore + MultipartUploads, C: CodeDeploy + DeploymentConfigs>
    Deploy<D, S, C>
{
    /// The group's platform; refuses a target whose application or group is not there.
    pub(super) async fn group_platform(
        &self,
        target: &Target,
    ) -> Result<Option<ComputePlatform>, Fault> {
        let asking = self.codedeploy.deployment_group(
            &target.region,
            &target.application,
            &target.deployment_group,
        );
        let (checked, answer) = futures_util::join!(self.check_deployment_config(target), asking);
        checked?;
        match answer {
            Ok(group) => Ok(group.compute_platform),
            Err(error)
                if error.kind == Kind::Refused
                    && error
                        .code
                        .as_deref()
                        .is_some_and(|code| code.ends_with("DoesNotExistException")) =>
            {
                Err(Fault::reject(crate::advance::refusal(&error)))
            }
            // Not to be told is no reason to refuse: `CreateDeployment` will say.
            Err(error) if error.kind == Kind::Refused || error.kind == Kind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Refuses a configuration that is not there, before anything is written.
    async fn check_deployment_config(&self, target: &Target) -> Result<(), Fault> {
        let Some(name) = &target.deployment_config else {
            return Ok(());
        };
        match self
            .codedeploy
            .has_deployment_config(&target.region, name)
            .await
        {
            Ok(true) => Ok(()),
            Ok(false) => Err(Fault::reject(Finding::refuse(
                "deployment-config-missing",
                format!(
                    "deployment configuration {name} does not exist in {}",
                    target.region
                ),
                "create it, or correct `deployment_config` in the settings",
            ))),
            // Not to be told is no reason to refuse: `CreateDeployment` will say.
            Err(error) if matches!(error.kind, Kind::Refused | Kind::NotFound) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
