//! Creating, telling, listing and stopping deployments.

use serde_json::{Value, json};

use super::applications::told_style;
use super::configs::no_config;
use super::input::{
    ApiError, BATCH_MAX, Input, checked_deployment_id, deployment_id_required, page,
};
use super::revisions::{Revision, does_not_exist};
use super::state::{
    Deployment, ErrorInformation, Group, NewDeployment, Platform, State, Status, StopRequest,
    seconds,
};
use super::targets::overview;
use super::{CodeDeploy, LimitWording, Progress};

impl CodeDeploy {
    pub(super) fn create_deployment(&self, input: Input<'_>) -> Result<Value, ApiError> {
        let new = self.checked_deployment(input)?;
        // The register decides alone where it knows the revision: the agent finds out whether it is still there.
        let registered = self
            .state()
            .application(&new.application)?
            .revisions
            .iter()
            .any(|known| known.revision == new.revision);
        if !registered && !self.exists(&new.revision) {
            return Err(does_not_exist(&new.revision));
        }
        let id = {
            let mut state = self.state();
            if let Some(active) = state.active(&new.application, &new.group)? {
                return Err(limit_exceeded(
                    self.options().limit_wording,
                    &new.group,
                    &active.id,
                ));
            }
            state.register(&new.application, &new.revision, None)?;
            state.create(new)?
        };
        self.created(&id);
        Ok(json!({ "deploymentId": id }))
    }

    /// Checks all that does not depend on S3.
    fn checked_deployment(&self, input: Input<'_>) -> Result<NewDeployment, ApiError> {
        let application = input.application_name()?;
        let state = self.state();
        let platform = state.application(application)?.platform;
        let name = input.deployment_group_name()?;
        let group = state.group(application, name)?;
        let description = input.description()?;
        let config = input.deployment_config_name()?;
        if let Some(config) = config
            && state
                .configs
                .get(config)
                .ok_or_else(|| no_config(config))?
                .platform
                != platform
        {
            let message = format!(
                "Deployment configuration {config} is not for the {platform} compute platform"
            );
            return Err(ApiError::new("InvalidComputePlatformException", message));
        }
        let ignore_application_stop_failures = input
            .flag("ignoreApplicationStopFailures")?
            .unwrap_or(false);
        let update_outdated_instances_only =
            input.flag("updateOutdatedInstancesOnly")?.unwrap_or(false);
        let file_exists_behavior = input.text("fileExistsBehavior")?;
        if let Some(other) = file_exists_behavior
            && !["DISALLOW", "OVERWRITE", "RETAIN"].contains(&other)
        {
            let message =
                format!("fileExistsBehavior {other} is not one of DISALLOW, OVERWRITE, RETAIN");
            return Err(ApiError::new("InvalidFileExistsBehaviorException", message));
        }
        if platform != Platform::Server {
            let refused = |code: &str, member: &str| {
                Err(ApiError::new(
                    code,
                    format!("{member} is not supported for the {platform} compute platform"),
                ))
            };
            if ignore_application_stop_failures {
                return refused(
                    "InvalidIgnoreApplicationStopFailuresValueException",
                    "ignoreApplicationStopFailures",
                );
            }
            if update_outdated_instances_only {
                return refused(
                    "InvalidUpdateOutdatedInstancesOnlyValueException",
                    "updateOutdatedInstancesOnly",
                );
            }
            if file_exists_behavior.is_some() {
                return refused("InvalidFileExistsBehaviorException", "fileExistsBehavior");
            }
        }
        if input.raw("targetInstances").is_some() && !group.blue_green {
            let message = "Target instances cannot be given for an in-place deployment";
            return Err(ApiError::new("InvalidTargetInstancesException", message));
        }
        let auto_rollback = input.auto_rollback()?;
        let is_restart = match input.text("deploymentMode")? {
            None | Some("STANDARD") => false,
            Some("RESTART") => true,
            Some(other) => {
                let message = format!("deploymentMode {other} is not one of STANDARD, RESTART");
                return Err(ApiError::new("InvalidInputException", message));
            }
        };
        let revision = if is_restart {
            self.restarted_revision(&state, platform, group, input)?
        } else {
            Revision::parse(input)?
        };
        revision.fits(platform)?;
        Ok(NewDeployment {
            application: application.to_owned(),
            group: name.to_owned(),
            config: config.map(str::to_owned),
            revision,
            description: description.map(str::to_owned),
            is_restart,
            creator: "user",
            auto_rollback,
            ignore_application_stop_failures,
            update_outdated_instances_only,
            file_exists_behavior: file_exists_behavior.map(str::to_owned),
        })
    }

    /// The revision that a restart finds on the instances; it may not name one itself, and restarts nothing
    /// but in-place deployments to instances.
    fn restarted_revision(
        &self,
        state: &State,
        platform: Platform,
        group: &Group,
        input: Input<'_>,
    ) -> Result<Revision, ApiError> {
        let refused = |message: &str| Err(ApiError::new("InvalidInputException", message));
        if input.raw("revision").is_some() {
            return refused("A revision cannot be given with deploymentMode RESTART");
        }
        if platform != Platform::Server || group.blue_green {
            return refused("deploymentMode RESTART is for in-place deployments to instances");
        }
        match group
            .last_successful
            .and_then(|position| state.deployments.get(position))
        {
            Some(last) => Ok(last.revision.clone()),
            None => refused("There is nothing to restart in the deployment group"),
        }
    }

    /// Whether the bucket has that very object.
    fn exists(&self, revision: &Revision) -> bool {
        let Revision::S3 { s3_location } = revision else {
            return true;
        };
        if self.options().revisions_elsewhere {
            return true;
        }
        let Some(store) = &self.options().store else {
            return false;
        };
        let found = store.find(
            &s3_location.bucket,
            &s3_location.key,
            s3_location.version.as_deref(),
        );
        found.is_ok_and(|found| {
            s3_location
                .etag
                .as_ref()
                .is_none_or(|wanted| *wanted == found.content.etag)
        })
    }

    pub(super) fn get_deployment(&self, input: Input<'_>) -> Result<Value, ApiError> {
        let state = self.state();
        let deployment = state.deployment(input.deployment_id()?)?;
        Ok(json!({ "deploymentInfo": told(deployment) }))
    }

    pub(super) fn batch_get_deployments(&self, input: Input<'_>) -> Result<Value, ApiError> {
        let ids = input.texts("deploymentIds")?;
        if ids.is_empty() {
            return Err(deployment_id_required());
        }
        if ids.len() > BATCH_MAX {
            return Err(super::input_batch_exceeded(ids.len()));
        }
        let state = self.state();
        let mut deployments = Vec::new();
        for id in ids {
            deployments.push(told(state.deployment(checked_deployment_id(id)?)?));
        }
        Ok(json!({ "deploymentsInfo": deployments }))
    }

    /// Newest first; AWS documents no order.
    pub(super) fn list_deployments(&self, input: Input<'_>) -> Result<Value, ApiError> {
        let application = input
            .text("applicationName")?
            .map(|_| input.application_name())
            .transpose()?;
        let group = input
            .text("deploymentGroupName")?
            .map(|_| input.deployment_group_name())
            .transpose()?;
        let state = self.state();
        match (application, group) {
            (Some(application), Some(group)) => drop(state.group(application, group)?),
            (None, None) => {}
            (Some(application), None) => {
                state.application(application)?;
                let message = "Deployment Group name is missing";
                return Err(ApiError::new(
                    "DeploymentGroupNameRequiredException",
                    message,
                ));
            }
            (None, Some(_)) => {
                return Err(ApiError::new(
                    "ApplicationNameRequiredException",
                    "Application name is required",
                ));
            }
        }
        let mut statuses = Vec::new();
        for name in input.texts("includeOnlyStatuses")? {
            statuses.push(Status::named(name).ok_or_else(|| {
                ApiError::new(
                    "InvalidDeploymentStatusException",
                    format!("Deployment status {name} does not exist"),
                )
            })?);
        }
        let (start, end) = match input.structure("createTimeRange")? {
            Some(range) => (range.time("start")?, range.time("end")?),
            None => (None, None),
        };
        if let (Some(start), Some(end)) = (start, end)
            && start > end
        {
            let message = "The start of the time range is after its end";
            return Err(ApiError::new("InvalidTimeRangeException", message));
        }
        // Nothing here has an external id: CreateDeployment cannot set one.
        let external = input.text("externalId")?.is_some();
        let fits = |deployment: &&Deployment| {
            !external
                && application.is_none_or(|name| name == deployment.application)
                && group.is_none_or(|name| name == deployment.group)
                && (statuses.is_empty() || statuses.contains(&deployment.status))
                && start.is_none_or(|start| start <= deployment.created)
                && end.is_none_or(|end| deployment.created <= end)
        };
        // The token counts deployments from the oldest, so that new ones do not shift the pages.
        let known = state.deployments.len();
        let skipped = match input.text("nextToken")? {
            None => 0,
            Some(token) => {
                let left = token
                    .strip_prefix("before-")
                    .and_then(|text| text.parse::<usize>().ok());
                let left = left.filter(|left| *left <= known);
                known
                    - left.ok_or_else(|| {
                        ApiError::new("InvalidNextTokenException", "The next token is invalid")
                    })?
            }
        };
        let newest_first = state.deployments.iter().enumerate().rev().skip(skipped);
        let matching = newest_first.filter(|(_, deployment)| fits(deployment));
        let (page, next) = page(matching, None, self.options().page_size)?;
        let next = next
            .and_then(|_| page.last())
            .map(|(position, _)| format!("before-{position}"));
        let ids: Vec<&str> = page
            .iter()
            .map(|(_, deployment)| deployment.id.as_str())
            .collect();
        Ok(json!({ "deployments": ids, "nextToken": next }))
    }

    pub(super) fn stop_deployment(&self, input: Input<'_>) -> Result<Value, ApiError> {
        let id = input.deployment_id()?.to_owned();
        let roll_back = input.flag("autoRollbackEnabled")?;
        let driven = {
            let mut state = self.state();
            let deployment = state.deployment(&id)?;
            if deployment.status.is_terminal() {
                let message = format!(
                    "The deployment {id} is already in a terminal state: {}",
                    deployment.status
                );
                return Err(ApiError::new(
                    "DeploymentAlreadyCompletedException",
                    message,
                ));
            }
            let running = deployment.status == Status::InProgress;
            if let Some(deployment) = state.deployment_mut(&id) {
                deployment.stop = Some(StopRequest { roll_back });
            }
            running && self.is_driven(&id)
        };
        if driven {
            // The agent ends the lifecycle event that it is at, then the deployment is stopped.
            return Ok(json!({ "status": "Pending", "statusMessage": "Deployment is stopping" }));
        }
        let error = ErrorInformation::new("MANUAL_STOP", "The deployment was stopped by a user.");
        // Another stop may have been quicker; it has done what was asked for.
        let _ = self.change(&id, Status::Stopped, Some(error));
        let message =
            "No more commands will be scheduled for execution in the deployment instances";
        Ok(json!({ "status": "Succeeded", "statusMessage": message }))
    }

    pub(super) fn continue_deployment(&self, input: Input<'_>) -> Result<Value, ApiError> {
        let id = input.deployment_id()?.to_owned();
        match input.text("deploymentWaitType")? {
            None | Some("READY_WAIT" | "TERMINATION_WAIT") => {}
            Some(other) => {
                let message = format!("Deployment wait type {other} is not supported");
                return Err(ApiError::new("InvalidDeploymentWaitTypeException", message));
            }
        }
        {
            let state = self.state();
            let deployment = state.deployment(&id)?;
            if deployment.status.is_terminal() {
                let message = format!(
                    "The deployment {id} is already in a terminal state: {}",
                    deployment.status
                );
                return Err(ApiError::new(
                    "DeploymentAlreadyCompletedException",
                    message,
                ));
            }
            if !deployment.blue_green {
                let message = "Only blue/green deployments can be continued";
                return Err(ApiError::new(
                    "UnsupportedActionForDeploymentTypeException",
                    message,
                ));
            }
            if deployment.status != Status::Ready {
                let message = format!("The deployment {id} is {} and not Ready", deployment.status);
                return Err(ApiError::new(
                    "DeploymentIsNotInReadyStateException",
                    message,
                ));
            }
        }
        let _ = self.change(&id, Status::InProgress, None);
        if self.progress() != Progress::Manual {
            let _ = self.change(&id, Status::Succeeded, None);
        }
        Ok(Value::Null)
    }
}

fn limit_exceeded(wording: LimitWording, group: &str, active: &str) -> ApiError {
    let message = match wording {
        LimitWording::Current => {
            format!("The Deployment Group '{group}' already has an active Deployment '{active}'")
        }
        LimitWording::Old => {
            format!("Deployment Group '{group}' is already deploying deployment '{active}'")
        }
        LimitWording::Unnamed => {
            format!("The Deployment Group '{group}' already has an active Deployment")
        }
    };
    ApiError::new("DeploymentLimitExceededException", message)
}

/// `DeploymentInfo`.
fn told(deployment: &Deployment) -> Value {
    json!({
        "applicationName": deployment.application,
        "deploymentGroupName": deployment.group,
        "deploymentConfigName": deployment.config,
        "deploymentId": deployment.id,
        "previousRevision": deployment.previous_revision.as_ref().map(Revision::told),
        "revision": (!deployment.is_restart).then(|| deployment.revision.told()),
        "deploymentMode": deployment.is_restart.then_some("RESTART"),
        "status": deployment.status,
        "errorInformation": deployment.error,
        "createTime": seconds(deployment.created),
        "startTime": deployment.started.map(seconds),
        "completeTime": deployment.completed.map(seconds),
        "deploymentOverview": deployment.started.map(|_| overview(&deployment.targets)),
        "description": deployment.description,
        "creator": deployment.creator,
        "ignoreApplicationStopFailures": deployment.ignore_application_stop_failures,
        "autoRollbackConfiguration": deployment.auto_rollback,
        "updateOutdatedInstancesOnly": deployment.update_outdated_instances_only,
        "rollbackInfo": deployment.rollback_info,
        "deploymentStyle": told_style(deployment.blue_green, deployment.traffic_control),
        "instanceTerminationWaitTimeStarted": false,
        "fileExistsBehavior": match deployment.platform {
            Platform::Server => deployment.file_exists_behavior.as_deref().or(Some("DISALLOW")),
            Platform::Lambda | Platform::Ecs => None,
        },
        "deploymentStatusMessages": [],
        "computePlatform": deployment.platform,
    })
}
