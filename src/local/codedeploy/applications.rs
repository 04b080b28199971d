//! Applications and deployment groups.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::CodeDeploy;
use super::configs::{no_config, platform};
use super::input::{ApiError, Input, page};
use super::state::{Application, Group, Platform, State, millis, seconds};
use crate::local::identity;

/// Members of `CreateDeploymentGroup` that are checked no further and told by `GetDeploymentGroup`.
const TOLD_MEMBERS: [&str; 12] = [
    "ec2TagFilters",
    "onPremisesInstanceTagFilters",
    "autoScalingGroups",
    "triggerConfigurations",
    "alarmConfiguration",
    "outdatedInstancesStrategy",
    "blueGreenDeploymentConfiguration",
    "loadBalancerInfo",
    "ec2TagSet",
    "onPremisesTagSet",
    "ecsServices",
    "terminationHookEnabled",
];

impl CodeDeploy {
    pub(super) fn create_application(&self, input: Input<'_>) -> Result<Value, ApiError> {
        let name = input.application_name()?;
        let platform = platform(input)?;
        let mut state = self.state();
        if state.applications.contains_key(name) {
            let message = format!("Application already exists with name {name}");
            return Err(ApiError::new("ApplicationAlreadyExistsException", message));
        }
        let application = Application {
            id: identity::request_id(),
            name: name.to_owned(),
            platform,
            created: millis(),
            groups: BTreeMap::new(),
            revisions: Vec::new(),
        };
        let answer = json!({ "applicationId": application.id });
        state.applications.insert(name.to_owned(), application);
        Ok(answer)
    }

    pub(super) fn get_application(&self, input: Input<'_>) -> Result<Value, ApiError> {
        let name = input.application_name()?;
        let state = self.state();
        Ok(json!({ "application": told_application(state.application(name)?) }))
    }

    pub(super) fn batch_get_applications(&self, input: Input<'_>) -> Result<Value, ApiError> {
        let names = input.texts("applicationNames")?;
        if names.is_empty() {
            return Err(ApiError::new(
                "ApplicationNameRequiredException",
                "Application name is required",
            ));
        }
        if names.len() > super::input::BATCH_MAX {
            return Err(super::input_batch_exceeded(names.len()));
        }
        let state = self.state();
        let applications: Result<Vec<Value>, ApiError> = names
            .into_iter()
            .map(|name| Ok(told_application(state.application(name)?)))
            .collect();
        Ok(json!({ "applicationsInfo": applications? }))
    }

    pub(super) fn list_applications(&self, input: Input<'_>) -> Result<Value, ApiError> {
        let state = self.state();
        let names = state.applications.keys().cloned();
        let (page, next) = page(names, input.text("nextToken")?, self.options().page_size)?;
        Ok(json!({ "applications": page, "nextToken": next }))
    }

    pub(super) fn delete_application(&self, input: Input<'_>) -> Result<Value, ApiError> {
        let name = input.application_name()?;
        self.state().applications.remove(name);
        Ok(Value::Null)
    }

    pub(super) fn create_deployment_group(&self, input: Input<'_>) -> Result<Value, ApiError> {
        let application = input.application_name()?;
        let name = input.deployment_group_name()?;
        let mut state = self.state();
        let platform = state.application(application)?.platform;
        if state.application(application)?.groups.contains_key(name) {
            let message = format!("Deployment Group name {name} already exists");
            return Err(ApiError::new(
                "DeploymentGroupAlreadyExistsException",
                message,
            ));
        }
        let role = input
            .text("serviceRoleArn")?
            .filter(|role| !role.is_empty());
        let role =
            role.ok_or_else(|| ApiError::new("RoleRequiredException", "Service role is required"))?;
        if !role.starts_with("arn:aws") || !role.contains(":iam::") {
            return Err(ApiError::new(
                "InvalidRoleException",
                format!("{role} is not the ARN of a role"),
            ));
        }
        let config = input.deployment_config_name()?.unwrap_or(match platform {
            Platform::Server => "CodeDeployDefault.OneAtATime",
            Platform::Lambda => "CodeDeployDefault.LambdaAllAtOnce",
            Platform::Ecs => "CodeDeployDefault.ECSAllAtOnce",
        });
        if state
            .configs
            .get(config)
            .ok_or_else(|| no_config(config))?
            .platform
            != platform
        {
            let message = format!(
                "Deployment configuration {config} is not for the {platform} compute platform"
            );
            return Err(ApiError::new(
                "InvalidDeploymentConfigNameException",
                message,
            ));
        }
        let (blue_green, traffic_control) = deployment_style(input, platform)?;
        let told: Map<String, Value> = TOLD_MEMBERS
            .iter()
            .filter_map(|member| {
                input
                    .raw(member)
                    .map(|value| ((*member).to_owned(), value.clone()))
            })
            .chain([("serviceRoleArn".to_owned(), json!(role))])
            .collect();
        let group = Group {
            id: identity::request_id(),
            name: name.to_owned(),
            config: config.to_owned(),
            auto_rollback: input.auto_rollback()?,
            traffic_control,
            blue_green,
            told,
            instances: if platform == Platform::Server {
                self.options().instances
            } else {
                1
            },
            target_revision: None,
            last_attempted: None,
            last_successful: None,
            active: None,
        };
        let answer = json!({ "deploymentGroupId": group.id });
        state
            .application_mut(application)?
            .groups
            .insert(name.to_owned(), group);
        Ok(answer)
    }

    pub(super) fn get_deployment_group(&self, input: Input<'_>) -> Result<Value, ApiError> {
        let application = input.application_name()?;
        let state = self.state();
        state.application(application)?;
        let name = input.deployment_group_name()?;
        Ok(json!({ "deploymentGroupInfo": state.told_group(application, name)? }))
    }

    pub(super) fn batch_get_deployment_groups(&self, input: Input<'_>) -> Result<Value, ApiError> {
        let application = input.application_name()?;
        let state = self.state();
        state.application(application)?;
        let names = input.texts("deploymentGroupNames")?;
        if names.is_empty() {
            let message = "Deployment Group name is missing";
            return Err(ApiError::new(
                "DeploymentGroupNameRequiredException",
                message,
            ));
        }
        if names.len() > super::input::BATCH_MAX {
            return Err(super::input_batch_exceeded(names.len()));
        }
        let groups: Vec<Value> = names
            .into_iter()
            .filter_map(|name| state.told_group(application, name).ok())
            .collect();
        Ok(json!({ "deploymentGroupsInfo": groups }))
    }

    pub(super) fn list_deployment_groups(&self, input: Input<'_>) -> Result<Value, ApiError> {
        let application = input.application_name()?;
        let state = self.state();
        let names = state.application(application)?.groups.keys().cloned();
        let (page, next) = page(names, input.text("nextToken")?, self.options().page_size)?;
        Ok(json!({ "applicationName": application, "deploymentGroups": page, "nextToken": next }))
    }

    pub(super) fn delete_deployment_group(&self, input: Input<'_>) -> Result<Value, ApiError> {
        let application = input.application_name()?;
        let name = input.deployment_group_name()?;
        if let Ok(application) = self.state().application_mut(application) {
            application.groups.remove(name);
        }
        Ok(json!({ "hooksNotCleanedUp": [] }))
    }
}

/// `deploymentStyle`: whether it is blue/green, and whether traffic is controlled.
fn deployment_style(input: Input<'_>, platform: Platform) -> Result<(bool, bool), ApiError> {
    let invalid = |text: String| ApiError::new("InvalidDeploymentStyleException", text);
    let Some(style) = input.structure("deploymentStyle")? else {
        return Ok((platform != Platform::Server, platform != Platform::Server));
    };
    let blue_green = match style.text("deploymentType")? {
        None => platform != Platform::Server,
        Some("IN_PLACE") => false,
        Some("BLUE_GREEN") => true,
        Some(other) => return Err(invalid(format!("Deployment type {other} is not supported"))),
    };
    let traffic_control = match style.text("deploymentOption")? {
        None => blue_green,
        Some("WITH_TRAFFIC_CONTROL") => true,
        Some("WITHOUT_TRAFFIC_CONTROL") => false,
        Some(other) => {
            return Err(invalid(format!(
                "Deployment option {other} is not supported"
            )));
        }
    };
    if platform != Platform::Server && !(blue_green && traffic_control) {
        let text = "deployments must be BLUE_GREEN and WITH_TRAFFIC_CONTROL";
        return Err(invalid(format!(
            "For the {platform} compute platform, {text}"
        )));
    }
    Ok((blue_green, traffic_control))
}

/// `DeploymentStyle` as it is told.
pub(super) fn told_style(blue_green: bool, traffic_control: bool) -> Value {
    json!({
        "deploymentType": if blue_green { "BLUE_GREEN" } else { "IN_PLACE" },
        "deploymentOption": if traffic_control { "WITH_TRAFFIC_CONTROL" } else { "WITHOUT_TRAFFIC_CONTROL" },
    })
}

fn told_application(application: &Application) -> Value {
    json!({
        "applicationId": application.id,
        "applicationName": application.name,
        "createTime": seconds(application.created),
        "linkedToGitHub": false,
        "computePlatform": application.platform,
    })
}

impl State {
    fn told_group(&self, application: &str, name: &str) -> Result<Value, ApiError> {
        let platform = self.application(application)?.platform;
        let group = self.group(application, name)?;
        let last = |position: Option<usize>| {
            let deployment = position.and_then(|position| self.deployments.get(position))?;
            Some(json!({
                "deploymentId": deployment.id,
                "status": deployment.status,
                "createTime": seconds(deployment.created),
                "endTime": deployment.completed.map(seconds),
            }))
        };
        let mut told = group.told.clone();
        let own = json!({
            "applicationName": application,
            "deploymentGroupId": group.id,
            "deploymentGroupName": group.name,
            "deploymentConfigName": group.config,
            "targetRevision": group.target_revision,
            "autoRollbackConfiguration": group.auto_rollback,
            "deploymentStyle": told_style(group.blue_green, group.traffic_control),
            "lastSuccessfulDeployment": last(group.last_successful),
            "lastAttemptedDeployment": last(group.last_attempted),
            "computePlatform": platform,
        });
        if let Value::Object(own) = own {
            told.extend(own);
        }
        Ok(Value::Object(told))
    }
}
