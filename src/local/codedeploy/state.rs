//! What CodeDeploy remembers, and how a deployment's status may change.
//!
//! ```text
//! Created -> Queued -> InProgress -> Succeeded | Failed | Stopped
//!     any that is not terminal    -> Failed | Stopped
//!                InProgress <-> Ready, InProgress -> Baking
//! ```
//!
//! Owns the rules: one active deployment for each group, terminal statuses never change, a
//! rollback takes the group in the same step in which its cause gives it up.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::configs::{Config, standard_configs};
use super::input::{ApiError, AutoRollback};
use super::revisions::{Registered, Revision};
use super::targets::Target;
use crate::local::identity;

/// `ComputePlatform`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Platform {
    /// EC2 and on-premises instances.
    Server,
    /// Lambda functions.
    Lambda,
    /// ECS services.
    #[serde(rename = "ECS")]
    Ecs,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "Server",
            Self::Lambda => "Lambda",
            Self::Ecs => "ECS",
        })
    }
}

/// `DeploymentStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Status {
    /// Asked for.
    Created,
    /// Waits for its turn.
    Queued,
    /// Runs on targets.
    InProgress,
    /// Watches alarms after its work.
    Baking,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
    /// Ended by somebody.
    Stopped,
    /// Waits before traffic is rerouted (blue/green).
    Ready,
}

impl Status {
    const ALL: [Status; 8] = [
        Self::Created,
        Self::Queued,
        Self::InProgress,
        Self::Baking,
        Self::Succeeded,
        Self::Failed,
        Self::Stopped,
        Self::Ready,
    ];

    /// Whether it is the end.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Stopped)
    }

    /// The status of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|status| status.to_string() == name)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// `state` in CodeDeploy's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ChangedTo {
    /// In progress.
    Start,
    /// Succeeded.
    Success,
    /// Failed.
    Failure,
    /// Stopped.
    Stop,
    /// Ready.
    Ready,
}

impl ChangedTo {
    fn of(status: Status) -> Option<Self> {
        match status {
            Status::InProgress => Some(Self::Start),
            Status::Succeeded => Some(Self::Success),
            Status::Failed => Some(Self::Failure),
            Status::Stopped => Some(Self::Stop),
            Status::Ready => Some(Self::Ready),
            Status::Created | Status::Queued | Status::Baking => None,
        }
    }
}

/// One state change, as CodeDeploy tells EventBridge.
#[derive(Debug, Clone, PartialEq)]
pub struct DeploymentStateChange {
    /// Application.
    pub application: String,
    /// Deployment group.
    pub deployment_group: String,
    /// The deployment.
    pub deployment_id: String,
    /// What it changed to.
    pub state: ChangedTo,
    /// `instanceGroupId`: the deployment group's id.
    pub deployment_group_id: String,
    /// Region.
    pub region: String,
    /// Milliseconds since 1970.
    pub time_milliseconds: i64,
}

/// `ErrorInformation`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorInformation {
    /// `HEALTH_CONSTRAINTS`, `REVISION_MISSING`, …
    pub code: String,
    /// The text for people.
    pub message: String,
}

impl ErrorInformation {
    /// An error with this code and text.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Application {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) platform: Platform,
    pub(super) created: i64,
    pub(super) groups: BTreeMap<String, Group>,
    pub(super) revisions: Vec<Registered>,
}

#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) config: String,
    pub(super) auto_rollback: Option<AutoRollback>,
    pub(super) traffic_control: bool,
    pub(super) blue_green: bool,
    /// Members that are only told again.
    pub(super) told: Map<String, Value>,
    pub(super) instances: usize,
    pub(super) target_revision: Option<Revision>,
    pub(super) last_attempted: Option<usize>,
    pub(super) last_successful: Option<usize>,
    /// The deployment that holds the group, as its position in [`State::deployments`].
    pub(super) active: Option<usize>,
}

#[derive(Debug)]
pub(super) struct Deployment {
    pub(super) id: String,
    pub(super) application: String,
    pub(super) group: String,
    pub(super) group_id: String,
    pub(super) platform: Platform,
    pub(super) config: String,
    pub(super) revision: Revision,
    /// It brings nothing new: `revision` is what is there already.
    pub(super) is_restart: bool,
    pub(super) previous_revision: Option<Revision>,
    pub(super) description: Option<String>,
    pub(super) creator: &'static str,
    pub(super) status: Status,
    pub(super) created: i64,
    pub(super) started: Option<i64>,
    pub(super) completed: Option<i64>,
    pub(super) error: Option<ErrorInformation>,
    pub(super) auto_rollback: Option<AutoRollback>,
    pub(super) ignore_application_stop_failures: bool,
    pub(super) update_outdated_instances_only: bool,
    pub(super) file_exists_behavior: Option<String>,
    pub(super) traffic_control: bool,
    pub(super) blue_green: bool,
    pub(super) rollback_info: Option<Value>,
    pub(super) targets: Vec<Target>,
    /// Somebody asked to stop it; whoever drives it ends it at the next step.
    pub(super) stop: Option<StopRequest>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct StopRequest {
    pub(super) roll_back: Option<bool>,
}

/// What a new deployment is made of.
pub(super) struct NewDeployment {
    pub(super) application: String,
    pub(super) group: String,
    pub(super) config: Option<String>,
    pub(super) revision: Revision,
    pub(super) is_restart: bool,
    pub(super) description: Option<String>,
    pub(super) creator: &'static str,
    pub(super) auto_rollback: Option<AutoRollback>,
    pub(super) ignore_application_stop_failures: bool,
    pub(super) update_outdated_instances_only: bool,
    pub(super) file_exists_behavior: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) applications: BTreeMap<String, Application>,
    pub(super) configs: BTreeMap<String, Config>,
    /// In order of creation.
    pub(super) deployments: Vec<Deployment>,
    pub(super) by_id: HashMap<String, usize>,
}

/// What came of a change of status.
#[derive(Debug, Default)]
pub(super) struct Changed {
    pub(super) change: Option<DeploymentStateChange>,
    /// The deployment that rolls back what failed.
    pub(super) rollback: Option<String>,
}

/// A change of status that the rules forbid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransitionError {
    /// There is no such deployment.
    #[error("deployment `{0}` does not exist")]
    Unknown(String),
    /// Its status cannot become that one.
    #[error("deployment `{id}` is {from} and cannot become {to}")]
    Forbidden {
        /// The deployment.
        id: String,
        /// Its status.
        from: Status,
        /// The status asked for.
        to: Status,
    },
}

/// Milliseconds since 1970.
pub(super) fn millis() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// A timestamp as the protocol writes it.
pub(super) fn seconds(milliseconds: i64) -> f64 {
    milliseconds as f64 / 1000.0
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            configs: standard_configs(),
            ..Self::default()
        }
    }

    pub(super) fn application(&self, name: &str) -> Result<&Application, ApiError> {
        self.applications
            .get(name)
            .ok_or_else(|| no_application(name))
    }

    pub(super) fn application_mut(&mut self, name: &str) -> Result<&mut Application, ApiError> {
        self.applications
            .get_mut(name)
            .ok_or_else(|| no_application(name))
    }

    pub(super) fn group(&self, application: &str, name: &str) -> Result<&Group, ApiError> {
        self.application(application)?
            .groups
            .get(name)
            .ok_or_else(|| no_group(name))
    }

    pub(super) fn group_mut(
        &mut self,
        application: &str,
        name: &str,
    ) -> Result<&mut Group, ApiError> {
        self.application_mut(application)?
            .groups
            .get_mut(name)
            .ok_or_else(|| no_group(name))
    }

    pub(super) fn deployment(&self, id: &str) -> Result<&Deployment, ApiError> {
        self.by_id
            .get(id)
            .and_then(|position| self.deployments.get(*position))
            .ok_or_else(|| {
                ApiError::new(
                    "DeploymentDoesNotExistException",
                    format!("The deployment {id} could not be found"),
                )
            })
    }

    pub(super) fn deployment_mut(&mut self, id: &str) -> Option<&mut Deployment> {
        let position = self.by_id.get(id)?;
        self.deployments.get_mut(*position)
    }

    /// The deployment that holds the group.
    pub(super) fn active(
        &self,
        application: &str,
        group: &str,
    ) -> Result<Option<&Deployment>, ApiError> {
        let active = self.group(application, group)?.active;
        Ok(active.and_then(|position| self.deployments.get(position)))
    }

    /// Makes a deployment; the caller has checked that the group is free.
    pub(super) fn create(&mut self, new: NewDeployment) -> Result<String, ApiError> {
        let now = millis();
        let position = self.deployments.len();
        let application = self
            .applications
            .get_mut(&new.application)
            .ok_or_else(|| no_application(&new.application))?;
        let platform = application.platform;
        let group = application
            .groups
            .get_mut(&new.group)
            .ok_or_else(|| no_group(&new.group))?;
        if let Some(known) = application
            .revisions
            .iter_mut()
            .find(|known| known.revision == new.revision)
        {
            known.first_used.get_or_insert(now);
            known.last_used = Some(now);
        }
        group.active = Some(position);
        group.last_attempted = Some(position);
        group.target_revision = Some(new.revision.clone());
        let id = identity::deployment_id();
        let deployment = Deployment {
            id: id.clone(),
            group_id: group.id.clone(),
            platform,
            config: new.config.unwrap_or_else(|| group.config.clone()),
            revision: new.revision,
            is_restart: new.is_restart,
            previous_revision: group
                .last_successful
                .and_then(|position| self.deployments.get(position))
                .map(|last| last.revision.clone()),
            description: new.description,
            creator: new.creator,
            status: Status::Created,
            created: now,
            started: None,
            completed: None,
            error: None,
            auto_rollback: new.auto_rollback.or_else(|| group.auto_rollback.clone()),
            ignore_application_stop_failures: new.ignore_application_stop_failures,
            update_outdated_instances_only: new.update_outdated_instances_only,
            file_exists_behavior: new.file_exists_behavior,
            traffic_control: group.traffic_control,
            blue_green: group.blue_green,
            rollback_info: None,
            targets: Vec::new(),
            stop: None,
            application: new.application,
            group: new.group,
        };
        self.by_id.insert(id.clone(), position);
        self.deployments.push(deployment);
        Ok(id)
    }

    /// Changes a deployment's status, frees its group at the end, and makes its rollback.
    pub(super) fn transition(
        &mut self,
        id: &str,
        to: Status,
        error: Option<ErrorInformation>,
        region: &str,
    ) -> Result<Changed, TransitionError> {
        let position = *self
            .by_id
            .get(id)
            .ok_or_else(|| TransitionError::Unknown(id.to_owned()))?;
        let Some(deployment) = self.deployments.get_mut(position) else {
            return Err(TransitionError::Unknown(id.to_owned()));
        };
        if !may_become(deployment.status, to) {
            return Err(TransitionError::Forbidden {
                id: id.to_owned(),
                from: deployment.status,
                to,
            });
        }
        let now = millis();
        deployment.status = to;
        if to == Status::InProgress {
            deployment.started.get_or_insert(now);
        }
        if to.is_terminal() {
            deployment.completed = Some(now);
            deployment.error = error;
            deployment
                .targets
                .iter_mut()
                .for_each(|target| target.close(to, now));
        }
        let change = ChangedTo::of(to).map(|state| DeploymentStateChange {
            application: deployment.application.clone(),
            deployment_group: deployment.group.clone(),
            deployment_id: deployment.id.clone(),
            deployment_group_id: deployment.group_id.clone(),
            state,
            region: region.to_owned(),
            time_milliseconds: now,
        });
        let mut changed = Changed {
            change,
            rollback: None,
        };
        if to.is_terminal() {
            let (application, name) = (deployment.application.clone(), deployment.group.clone());
            // A group may be deleted while its deployment runs.
            if let Ok(group) = self.group_mut(&application, &name) {
                if group.active == Some(position) {
                    group.active = None;
                }
                if to == Status::Succeeded {
                    group.last_successful = Some(position);
                }
                changed.rollback = self.roll_back(position, &application, &name);
            }
        }
        Ok(changed)
    }

    /// Makes the deployment that undoes the one at `position`, where that is wanted and possible.
    fn roll_back(&mut self, position: usize, application: &str, name: &str) -> Option<String> {
        let failed = self.deployments.get(position)?;
        let event = match failed.status {
            Status::Failed => "DEPLOYMENT_FAILURE",
            Status::Stopped => "DEPLOYMENT_STOP_ON_REQUEST",
            _ => return None,
        };
        let configured = failed.auto_rollback.as_ref().is_some_and(|rules| {
            rules.enabled && rules.events.iter().any(|listed| listed == event)
        });
        let wanted = failed
            .stop
            .and_then(|stop| stop.roll_back)
            .unwrap_or(configured);
        if !wanted || failed.creator == "codeDeployRollback" {
            return None;
        }
        let failed_id = failed.id.clone();
        let group = self.group(application, name).ok()?;
        let Some(good) = group
            .last_successful
            .and_then(|position| self.deployments.get(position))
        else {
            let message =
                "No rollback was made: the deployment group has no last successful deployment.";
            if let Some(failed) = self.deployments.get_mut(position) {
                failed.rollback_info = Some(json!({ "rollbackMessage": message }));
            }
            return None;
        };
        let new = NewDeployment {
            application: application.to_owned(),
            group: name.to_owned(),
            config: Some(good.config.clone()),
            revision: good.revision.clone(),
            is_restart: false,
            description: None,
            creator: "codeDeployRollback",
            auto_rollback: None,
            ignore_application_stop_failures: good.ignore_application_stop_failures,
            update_outdated_instances_only: false,
            file_exists_behavior: good.file_exists_behavior.clone(),
        };
        let rollback = self.create(new).ok()?;
        let message = format!("Deployment {rollback} rolls back deployment {failed_id}.");
        if let Some(failed) = self.deployments.get_mut(position) {
            failed.rollback_info =
                Some(json!({ "rollbackDeploymentId": rollback, "rollbackMessage": message }));
        }
        if let Some(made) = self.deployment_mut(&rollback) {
            made.rollback_info = Some(
                json!({ "rollbackTriggeringDeploymentId": failed_id, "rollbackMessage": message }),
            );
        }
        Some(rollback)
    }
}

fn may_become(from: Status, to: Status) -> bool {
    use Status::{Baking, Created, Failed, InProgress, Queued, Ready, Stopped, Succeeded};
    match (from, to) {
        (Succeeded | Failed | Stopped, _) => false,
        (_, Failed | Stopped) => true,
        (Created, Queued | InProgress) | (Queued, InProgress) => true,
        (InProgress, Succeeded | Baking | Ready) => true,
        (Ready, InProgress | Succeeded) | (Baking, Succeeded) => true,
        _ => false,
    }
}

fn no_application(name: &str) -> ApiError {
    ApiError::new(
        "ApplicationDoesNotExistException",
        format!("No application found for name: {name}"),
    )
}

fn no_group(name: &str) -> ApiError {
    ApiError::new(
        "DeploymentGroupDoesNotExistException",
        format!("No Deployment Group found for name: {name}"),
    )
}
