//! CodeDeploy: speaks the JSON protocol of 2014-10-06 and runs deployments in memory.
//!
//! ```text
//! X-Amz-Target: CodeDeploy_20141006.<Operation>   wire.rs -> CodeDeploy::call -> one file per noun
//! state.rs: the rules    progress.rs: what moves a deployment on    DeploymentStateChange -> sink
//! ```
//!
//! Owns the API's answers and errors, which are as strict as AWS documents them. Where AWS says
//! nothing, the stricter reading is taken, so that what works here works there. What a deployment
//! does on an instance is `agent.rs`'s.

mod applications;
mod configs;
mod deployments;
mod input;
mod progress;
mod revisions;
mod state;
mod targets;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

pub use self::input::ApiError;
pub use self::progress::TargetFailure;
pub use self::revisions::{AppSpecContent, GitHubLocation, Revision, S3Location};
pub use self::state::{
    ChangedTo, DeploymentStateChange, ErrorInformation, Platform, Status, TransitionError,
};
pub use self::targets::Diagnostics;

use self::input::Input;
use self::state::State;
use super::agent::Agent;
use super::locked;
use super::s3::Store;

/// `X-Amz-Target` before the operation's name.
pub const TARGET_PREFIX: &str = "CodeDeploy_20141006.";

/// How often it is looked whether everything is told.
const TELLING_PAUSE: Duration = Duration::from_millis(1);

/// What moves deployments on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// They run by themselves, and stay so long in `Created`, in `Queued`, and in each lifecycle event.
    Automatic {
        /// How long.
        step: Duration,
    },
    /// They stay where they are until [`CodeDeploy::advance`] or [`CodeDeploy::run`].
    Manual,
}

/// How `DeploymentLimitExceededException` is worded: AWS has changed that once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitWording {
    /// `… already has an active Deployment 'd-…'`
    Current,
    /// `… is already deploying deployment 'd-…'`
    Old,
    /// Without the active deployment's id.
    Unnamed,
}

/// Hears of each state change, in order; may call CodeDeploy, but must not block.
pub type StateChangeSink = Arc<dyn Fn(DeploymentStateChange) + Send + Sync>;

/// How the embedded CodeDeploy behaves.
#[derive(Clone)]
pub struct Options {
    /// Region, for ARNs and events.
    pub region: String,
    /// Ids in one page of a list (AWS: 100).
    pub page_size: usize,
    /// Instances of a new deployment group.
    pub instances: usize,
    /// What moves deployments on.
    pub progress: Progress,
    /// The wording of the limit error.
    pub limit_wording: LimitWording,
    /// Where revisions lie; without it no revision in S3 exists.
    pub store: Option<Arc<Store>>,
    /// Whether revisions lie in somebody else's S3, and are taken to be there.
    pub revisions_elsewhere: bool,
    /// What carries deployments out on instances; without it they succeed and leave nothing behind.
    pub agent: Option<Arc<Agent>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            region: "us-east-1".to_owned(),
            page_size: 100,
            instances: 1,
            progress: Progress::Automatic {
                step: Duration::ZERO,
            },
            limit_wording: LimitWording::Current,
            store: None,
            revisions_elsewhere: false,
            agent: None,
        }
    }
}

struct Inner {
    options: Options,
    state: Mutex<State>,
    progress: Mutex<Progress>,
    /// Deployments that a task is moving on.
    driven: Mutex<HashSet<String>>,
    sinks: Mutex<Vec<StateChangeSink>>,
    /// Changes that are not told yet, in order.
    untold: Mutex<VecDeque<DeploymentStateChange>>,
    /// Whether somebody is telling them.
    telling: AtomicBool,
    /// Counts changes, for those who wait for one.
    changes: watch::Sender<u64>,
}

/// The embedded CodeDeploy. Cloning gives another handle on the same one.
#[derive(Clone)]
pub struct CodeDeploy {
    inner: Arc<Inner>,
}

impl CodeDeploy {
    /// No applications, the standard deployment configurations.
    pub fn new(options: Options) -> Self {
        Self {
            inner: Arc::new(Inner {
                progress: Mutex::new(options.progress),
                options,
                state: Mutex::new(State::new()),
                driven: Mutex::default(),
                sinks: Mutex::default(),
                untold: Mutex::default(),
                telling: AtomicBool::new(false),
                changes: watch::Sender::new(0),
            }),
        }
    }

    /// Tells `sink` of every state change from now on.
    pub fn observe(&self, sink: StateChangeSink) {
        locked(&self.inner.sinks).push(sink);
    }

    /// Carries an operation out: its name in the API, its input, its output as JSON.
    ///
    /// Automatic deployments start on the current tokio runtime, so there must be one.
    ///
    /// # Errors
    /// As the API's model says.
    pub fn call(&self, operation: &str, input: &Value) -> Result<Value, ApiError> {
        let input = Input::new(input)?;
        let answer = match operation {
            "CreateApplication" => self.create_application(input),
            "GetApplication" => self.get_application(input),
            "BatchGetApplications" => self.batch_get_applications(input),
            "ListApplications" => self.list_applications(input),
            "DeleteApplication" => self.delete_application(input),
            "CreateDeploymentGroup" => self.create_deployment_group(input),
            "GetDeploymentGroup" => self.get_deployment_group(input),
            "BatchGetDeploymentGroups" => self.batch_get_deployment_groups(input),
            "ListDeploymentGroups" => self.list_deployment_groups(input),
            "DeleteDeploymentGroup" => self.delete_deployment_group(input),
            "CreateDeploymentConfig" => self.create_deployment_config(input),
            "GetDeploymentConfig" => self.get_deployment_config(input),
            "ListDeploymentConfigs" => self.list_deployment_configs(input),
            "RegisterApplicationRevision" => self.register_application_revision(input),
            "GetApplicationRevision" => self.get_application_revision(input),
            "BatchGetApplicationRevisions" => self.batch_get_application_revisions(input),
            "ListApplicationRevisions" => self.list_application_revisions(input),
            "CreateDeployment" => self.create_deployment(input),
            "GetDeployment" => self.get_deployment(input),
            "BatchGetDeployments" => self.batch_get_deployments(input),
            "ListDeployments" => self.list_deployments(input),
            "StopDeployment" => self.stop_deployment(input),
            "ContinueDeployment" => self.continue_deployment(input),
            "ListDeploymentTargets" => self.list_deployment_targets(input),
            "BatchGetDeploymentTargets" => self.batch_get_deployment_targets(input),
            "GetDeploymentTarget" => self.get_deployment_target(input),
            _ => Err(ApiError::new(
                "UnknownOperationException",
                format!("{operation} is not supported"),
            )),
        };
        answer.map(without_nulls)
    }

    /// Changes a deployment's status by hand. `InProgress` makes its targets; for `Failed`, a
    /// `failure` tells the target's lifecycle event, and `HEALTH_CONSTRAINTS` is the error.
    ///
    /// # Errors
    /// Where there is no such deployment, or its status cannot become that one.
    pub fn advance(
        &self,
        id: &str,
        status: Status,
        failure: Option<TargetFailure>,
    ) -> Result<(), TransitionError> {
        self.advance_by_hand(id, status, failure)
    }

    /// Moves one deployment on to its end, as if progress were automatic.
    pub fn run(&self, id: &str, step: Duration) {
        self.drive(id.to_owned(), step);
    }

    /// What moves deployments on that are created from now on.
    pub fn set_progress(&self, progress: Progress) {
        *locked(&self.inner.progress) = progress;
    }

    /// How many instances a group has from the next deployment on.
    ///
    /// # Errors
    /// Where there is no such group.
    pub fn set_instances(
        &self,
        application: &str,
        group: &str,
        count: usize,
    ) -> Result<(), ApiError> {
        self.state().group_mut(application, group)?.instances = count;
        Ok(())
    }

    /// The region of everything in it.
    pub fn region(&self) -> &str {
        &self.inner.options.region
    }

    /// A deployment's status.
    pub fn status(&self, id: &str) -> Option<Status> {
        self.state()
            .deployment(id)
            .ok()
            .map(|deployment| deployment.status)
    }

    /// The ids of all deployments, oldest first.
    pub fn deployments(&self) -> Vec<String> {
        self.state()
            .deployments
            .iter()
            .map(|deployment| deployment.id.clone())
            .collect()
    }

    /// The deployment that holds a group.
    pub fn active(&self, application: &str, group: &str) -> Option<String> {
        self.state()
            .active(application, group)
            .ok()
            .flatten()
            .map(|deployment| deployment.id.clone())
    }

    /// Waits until a deployment has ended, and tells how; `None` where there is no such deployment.
    pub async fn ended(&self, id: &str) -> Option<Status> {
        let mut changes = self.inner.changes.subscribe();
        loop {
            let status = self.status(id)?;
            if status.is_terminal() {
                return Some(status);
            }
            // The sender lives as long as `self`, so this cannot end early.
            changes.changed().await.ok()?;
        }
    }

    /// Waits until no deployment is active and every end is told.
    pub async fn idle(&self) {
        let mut changes = self.inner.changes.subscribe();
        while !self
            .state()
            .deployments
            .iter()
            .all(|deployment| deployment.status.is_terminal())
        {
            if changes.changed().await.is_err() {
                return;
            }
        }
        // The last end is on record before the sinks have heard of it.
        while !locked(&self.inner.untold).is_empty() || self.inner.telling.load(Ordering::Acquire) {
            tokio::time::sleep(TELLING_PAUSE).await;
        }
    }

    fn options(&self) -> &Options {
        &self.inner.options
    }

    fn progress(&self) -> Progress {
        *locked(&self.inner.progress)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.inner.state)
    }
}

fn input_batch_exceeded(count: usize) -> ApiError {
    ApiError::new(
        "BatchLimitExceededException",
        format!("{count} were given, the limit is {}", input::BATCH_MAX),
    )
}

/// AWS leaves out what has no value.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| (name, without_nulls(value)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(without_nulls).collect()),
        other => other,
    }
}
