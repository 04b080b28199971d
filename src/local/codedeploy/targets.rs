//! The targets of a deployment and their lifecycle events.

use serde::Serialize;
use serde_json::{Value, json};

use super::CodeDeploy;
use super::input::{ApiError, BATCH_MAX, Input, page};
use super::state::{Deployment, Status, millis, seconds};

/// `LifecycleEventStatus`, also used for `TargetStatus`, whose words are the same here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum EventStatus {
    /// Not begun.
    Pending,
    /// Begun.
    InProgress,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
    /// Never begun, because something before it failed.
    Skipped,
}

/// `Diagnostics`: why a lifecycle event failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Diagnostics {
    /// `ScriptMissing`, `ScriptNotExecutable`, `ScriptTimedOut`, `ScriptFailed`, `UnknownError`.
    pub error_code: String,
    /// The script as the AppSpec names it; empty where no script is to blame.
    pub script_name: String,
    /// The text for people.
    pub message: String,
    /// The end of the script's output, up to 4 KB.
    pub log_tail: String,
}

/// `LifecycleEvent`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LifecycleEvent {
    pub(super) name: String,
    pub(super) status: EventStatus,
    pub(super) started: Option<i64>,
    pub(super) ended: Option<i64>,
    pub(super) diagnostics: Option<Diagnostics>,
}

/// What kind of target it is, with what only that kind tells.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TargetKind {
    Instance,
    Lambda { function: Value },
    Ecs,
}

/// One target.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Target {
    pub(super) id: String,
    pub(super) arn: String,
    pub(super) kind: TargetKind,
    pub(super) status: EventStatus,
    pub(super) updated: i64,
    pub(super) events: Vec<LifecycleEvent>,
}

impl Target {
    pub(super) fn new(id: String, arn: String, kind: TargetKind, events: &[&str]) -> Self {
        let event = |name: &&str| LifecycleEvent {
            name: (*name).to_owned(),
            status: EventStatus::Pending,
            started: None,
            ended: None,
            diagnostics: None,
        };
        let events = events.iter().map(event).collect();
        Self {
            id,
            arn,
            kind,
            status: EventStatus::Pending,
            updated: millis(),
            events,
        }
    }

    /// Notes that an event began or ended; what follows a failed one is skipped.
    pub(super) fn note(
        &mut self,
        event: &str,
        status: EventStatus,
        diagnostics: Option<Diagnostics>,
    ) {
        let now = millis();
        self.updated = now;
        let Some(position) = self.events.iter().position(|known| known.name == event) else {
            return;
        };
        if let Some(known) = self.events.get_mut(position) {
            known.status = status;
            known.diagnostics = diagnostics;
            if status == EventStatus::InProgress {
                known.started = Some(now);
            } else {
                known.started.get_or_insert(now);
                known.ended = Some(now);
            }
        }
        match status {
            EventStatus::Failed => {
                self.status = EventStatus::Failed;
                for later in self.events.iter_mut().skip(position + 1) {
                    later.status = EventStatus::Skipped;
                }
            }
            _ if self
                .events
                .iter()
                .all(|known| known.status == EventStatus::Succeeded) =>
            {
                self.status = EventStatus::Succeeded;
            }
            _ => self.status = EventStatus::InProgress,
        }
    }

    /// Settles what is open when the deployment ends.
    pub(super) fn close(&mut self, status: Status, now: i64) {
        if matches!(self.status, EventStatus::Pending | EventStatus::InProgress) {
            self.status = match status {
                Status::Succeeded => EventStatus::Succeeded,
                _ => EventStatus::Skipped,
            };
            self.updated = now;
            for event in &mut self.events {
                if matches!(event.status, EventStatus::Pending | EventStatus::InProgress) {
                    event.status = self.status;
                    event.ended = (status == Status::Succeeded).then_some(now);
                }
            }
        }
    }

    fn told(&self, deployment: &Deployment) -> Value {
        let events: Vec<Value> = self
            .events
            .iter()
            .map(|event| {
                json!({
                    "lifecycleEventName": event.name,
                    "status": event.status,
                    "startTime": event.started.map(seconds),
                    "endTime": event.ended.map(seconds),
                    "diagnostics": event.diagnostics,
                })
            })
            .collect();
        let mut target = json!({
            "deploymentId": deployment.id,
            "targetId": self.id,
            "targetArn": self.arn,
            "status": self.status,
            "lastUpdatedAt": seconds(self.updated),
            "lifecycleEvents": events,
        });
        let (kind, member) = match &self.kind {
            TargetKind::Instance => {
                if let (true, Some(target)) = (deployment.blue_green, target.as_object_mut()) {
                    target.insert("instanceLabel".to_owned(), json!("Green"));
                }
                ("InstanceTarget", "instanceTarget")
            }
            TargetKind::Lambda { function } => {
                if let Some(target) = target.as_object_mut() {
                    target.insert("lambdaFunctionInfo".to_owned(), function.clone());
                }
                ("LambdaTarget", "lambdaTarget")
            }
            TargetKind::Ecs => ("ECSTarget", "ecsTarget"),
        };
        json!({ "deploymentTargetType": kind, member: target })
    }
}

/// `DeploymentOverview`.
pub(super) fn overview(targets: &[Target]) -> Value {
    let count = |status| {
        targets
            .iter()
            .filter(|target| target.status == status)
            .count()
    };
    json!({
        "Pending": count(EventStatus::Pending),
        "InProgress": count(EventStatus::InProgress),
        "Succeeded": count(EventStatus::Succeeded),
        "Failed": count(EventStatus::Failed),
        "Skipped": count(EventStatus::Skipped),
        "Ready": 0,
    })
}

fn started(deployment: &Deployment) -> Result<&Deployment, ApiError> {
    if deployment.started.is_none() {
        let message = format!("Deployment {} has not started", deployment.id);
        return Err(ApiError::new("DeploymentNotStartedException", message));
    }
    Ok(deployment)
}

fn target<'a>(deployment: &'a Deployment, id: &str) -> Result<&'a Target, ApiError> {
    deployment
        .targets
        .iter()
        .find(|target| target.id == id)
        .ok_or_else(|| {
            let message = format!(
                "Target {id} does not belong to deployment {}",
                deployment.id
            );
            ApiError::new("DeploymentTargetDoesNotExistException", message)
        })
}

fn target_required() -> ApiError {
    ApiError::new(
        "DeploymentTargetIdRequiredException",
        "Target id is required",
    )
}

impl CodeDeploy {
    pub(super) fn list_deployment_targets(&self, input: Input<'_>) -> Result<Value, ApiError> {
        let state = self.state();
        let deployment = started(state.deployment(input.deployment_id()?)?)?;
        let mut wanted: Option<Vec<&str>> = None;
        if let Some(filters) = input.raw("targetFilters").and_then(Value::as_object) {
            if let Some(unknown) = filters
                .keys()
                .find(|name| !["TargetStatus", "ServerInstanceLabel"].contains(&name.as_str()))
            {
                let message = format!("Target filter {unknown} is not supported");
                return Err(ApiError::new("InvalidTargetFilterNameException", message));
            }
            if filters.contains_key("ServerInstanceLabel") && !deployment.blue_green {
                let message = "Instance types are supported for blue/green deployments only";
                return Err(ApiError::new(
                    "InvalidDeploymentInstanceTypeException",
                    message,
                ));
            }
            if let Some(filters) = input.structure("targetFilters")? {
                let statuses = filters.texts("TargetStatus")?;
                let known = [
                    "Failed",
                    "InProgress",
                    "Pending",
                    "Ready",
                    "Skipped",
                    "Succeeded",
                    "Unknown",
                ];
                if let Some(unknown) = statuses.iter().find(|status| !known.contains(status)) {
                    let message = format!("Target status {unknown} does not exist");
                    return Err(ApiError::new("InvalidInstanceStatusException", message));
                }
                wanted = Some(statuses).filter(|statuses| !statuses.is_empty());
            }
        }
        let ids = deployment
            .targets
            .iter()
            .filter(|target| {
                let status = format!("{:?}", target.status);
                wanted
                    .as_ref()
                    .is_none_or(|wanted| wanted.contains(&status.as_str()))
            })
            .map(|target| target.id.as_str());
        let (page, next) = page(ids, input.text("nextToken")?, self.options().page_size)?;
        Ok(json!({ "targetIds": page, "nextToken": next }))
    }

    pub(super) fn batch_get_deployment_targets(&self, input: Input<'_>) -> Result<Value, ApiError> {
        let state = self.state();
        let deployment = started(state.deployment(input.deployment_id()?)?)?;
        let ids = input.texts("targetIds")?;
        if ids.is_empty() {
            return Err(target_required());
        }
        if ids.len() > BATCH_MAX {
            let message = format!(
                "{} target ids were given, the limit is {BATCH_MAX}",
                ids.len()
            );
            return Err(ApiError::new(
                "DeploymentTargetListSizeExceededException",
                message,
            ));
        }
        let told: Result<Vec<Value>, ApiError> = ids
            .into_iter()
            .map(|id| Ok(target(deployment, id)?.told(deployment)))
            .collect();
        Ok(json!({ "deploymentTargets": told? }))
    }

    pub(super) fn get_deployment_target(&self, input: Input<'_>) -> Result<Value, ApiError> {
        let state = self.state();
        let deployment = started(state.deployment(input.deployment_id()?)?)?;
        let id = input
            .text("targetId")?
            .filter(|id| !id.is_empty())
            .ok_or_else(target_required)?;
        Ok(json!({ "deploymentTarget": target(deployment, id)?.told(deployment) }))
    }
}
