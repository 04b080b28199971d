//! The deployment's document: `deployments/<deployment id>.json`, also for deployments that somebody else made.
//!
//! Owns its shape and how news is merged into it: a terminal status never goes back, and what one
//! observer could not know does not erase what another one wrote.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::group::{DropReference, Ticket};
use crate::deployment::{
    ApplicationName, AutoRollbackEvent, ComputePlatform, DeploymentError, DeploymentGroupName,
    DeploymentId, DeploymentInfo, DeploymentStatus, FileExistsBehavior, Region, RevisionLocation,
    TargetFailure,
};
use crate::key_pattern::Build;
use crate::settings::{Order, Queue};

/// When a deployment was made, started and ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Times {
    /// Made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// Started; may lie after the end (CodeDeploy's servers have several clocks).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// Ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
}

/// How a deployment hangs together with a rollback.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rollback {
    /// The deployment that rolled this one back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back_by: Option<DeploymentId>,
    /// The deployment that this one rolls back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolls_back: Option<DeploymentId>,
    /// CodeDeploy's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What the settings of its time asked for besides revision and configuration: a redeployment asks it again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Options {
    /// Which of two builds is older.
    #[serde(default)]
    pub order: Order,
    /// Which builds wait.
    #[serde(default)]
    pub queue: Queue,
    /// `fileExistsBehavior`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_exists_behavior: Option<FileExistsBehavior>,
    /// `ignoreApplicationStopFailures`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignore_application_stop_failures: Option<bool>,
    /// `updateOutdatedInstancesOnly`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_outdated_instances_only: Option<bool>,
    /// `autoRollbackConfiguration`: `Some` switches it on for these events, or off where empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_rollback: Option<Vec<AutoRollbackEvent>>,
}

impl From<&Ticket> for Options {
    fn from(ticket: &Ticket) -> Self {
        let request = &ticket.request;
        Self {
            order: ticket.order,
            queue: ticket.queue,
            file_exists_behavior: request.file_exists_behavior,
            ignore_application_stop_failures: request.ignore_application_stop_failures,
            update_outdated_instances_only: request.update_outdated_instances_only,
            auto_rollback: request.auto_rollback.clone(),
        }
    }
}

/// One deployment and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeploymentRecord {
    /// Its id.
    pub deployment_id: DeploymentId,
    /// Application.
    pub application: ApplicationName,
    /// Deployment group.
    pub deployment_group: DeploymentGroupName,
    /// Region.
    pub region: Region,
    /// Configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_config: Option<String>,
    /// Platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_platform: Option<ComputePlatform>,
    /// Status, as CodeDeploy spells it.
    pub status: DeploymentStatus,
    /// Revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<RevisionLocation>,
    /// The build, where we know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,
    /// The drop, where it was ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drop: Option<DropReference>,
    /// How it was asked for, where it was ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<Options>,
    /// Who made it: `user`, `codeDeployRollback`, `autoscaling`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creator: Option<String>,
    /// Description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Times.
    #[serde(default)]
    pub times: Times,
    /// Why it failed, in CodeDeploy's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<DeploymentError>,
    /// The targets that failed, those that failed first at the front.
    #[serde(default)]
    pub failures: Vec<TargetFailure>,
    /// Rollback links.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<Rollback>,
    /// When this document last changed.
    pub updated_at: Timestamp,
}

impl DeploymentRecord {
    /// The record of what CodeDeploy says now.
    pub fn of(info: &DeploymentInfo, region: &Region, now: Timestamp) -> Self {
        let rollback = Rollback {
            rolled_back_by: info.rollback_deployment_id.clone(),
            rolls_back: info.rollback_triggering_deployment_id.clone(),
            message: info.rollback_message.clone(),
        };
        Self {
            deployment_id: info.deployment_id.clone(),
            application: info.application.clone(),
            deployment_group: info.deployment_group.clone(),
            region: region.clone(),
            deployment_config: info.deployment_config.clone(),
            compute_platform: info.compute_platform,
            status: info.status,
            revision: info.revision.clone(),
            build: None,
            drop: None,
            options: None,
            creator: info.creator.clone(),
            description: info.description.clone(),
            times: Times {
                created_at: info.created_at,
                started_at: info.started_at,
                completed_at: info.completed_at,
            },
            error: info.error.clone(),
            failures: Vec::new(),
            rollback: (rollback != Rollback::default()).then_some(rollback),
            updated_at: now,
        }
    }

    /// Merges what was known before into what is known now; `self` is the news.
    #[must_use]
    pub fn merged_into(mut self, known: &DeploymentRecord) -> Self {
        if known.status.is_terminal() && !self.status.is_terminal() {
            self.status = known.status;
        }
        self.deployment_config = self
            .deployment_config
            .or_else(|| known.deployment_config.clone());
        self.compute_platform = self.compute_platform.or(known.compute_platform);
        self.revision = self.revision.or_else(|| known.revision.clone());
        self.build = self.build.or_else(|| known.build.clone());
        self.drop = self.drop.or_else(|| known.drop.clone());
        self.options = self.options.or_else(|| known.options.clone());
        self.creator = self.creator.or_else(|| known.creator.clone());
        self.description = self.description.or_else(|| known.description.clone());
        self.times = Times {
            created_at: self.times.created_at.or(known.times.created_at),
            started_at: self.times.started_at.or(known.times.started_at),
            completed_at: self.times.completed_at.or(known.times.completed_at),
        };
        self.error = self.error.or_else(|| known.error.clone());
        if self.failures.is_empty() {
            self.failures.clone_from(&known.failures);
        }
        self.rollback = match (self.rollback, known.rollback.clone()) {
            (Some(new), Some(old)) => Some(Rollback {
                rolled_back_by: new.rolled_back_by.or(old.rolled_back_by),
                rolls_back: new.rolls_back.or(old.rolls_back),
                message: new.message.or(old.message),
            }),
            (new, old) => new.or(old),
        };
        self
    }

    /// Links this deployment to the one that rolled it back; tells whether anything changed.
    pub fn link_rollback(&mut self, rolled_back_by: &DeploymentId) -> bool {
        let rollback = self.rollback.get_or_insert_default();
        let changed = rollback.rolled_back_by.as_ref() != Some(rolled_back_by);
        rollback.rolled_back_by = Some(rolled_back_by.clone());
        changed
    }

    /// Seconds from start (or creation) to end.
    pub fn duration_seconds(&self) -> Option<i64> {
        let from = self.times.started_at.or(self.times.created_at)?;
        Some((self.times.completed_at?.as_second() - from.as_second()).max(0))
    }
}
