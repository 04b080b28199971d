//! What moves a deployment on: by itself through the agent, or by hand from a test.
//!
//! Each lifecycle event of each target is noted before it begins and when it ends, so that whoever
//! asks meanwhile sees what AWS would show. A deployment that has been stopped or ended by hand is
//! left alone at the next step.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::revisions::Revision;
use super::state::{Deployment, ErrorInformation, Platform, Status, TransitionError};
use super::targets::{Diagnostics, EventStatus, Target, TargetKind};
use super::{CodeDeploy, Progress};
use crate::local::agent::{self, Agent, Bundle, Outcome, Task};
use crate::local::{identity, locked};

/// How a target fails, for deployments that are moved on by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetFailure {
    /// The lifecycle event that fails: `AfterInstall`, …
    pub lifecycle_event: String,
    /// What it tells.
    pub diagnostics: Diagnostics,
}

/// AWS's own text for `HEALTH_CONSTRAINTS`.
const HEALTH_CONSTRAINTS: &str = "The overall deployment failed because too many individual instances failed deployment, too few healthy instances are available for deployment, or some instances in your deployment group are experiencing problems.";
/// AWS's own text for `NO_INSTANCES`.
const NO_INSTANCES: &str = "The deployment failed because no instances were found for your deployment group. Check your deployment group settings to make sure the tags for your EC2 instances or Auto Scaling groups correctly identify the instances you want to deploy to, and then try again.";

impl CodeDeploy {
    /// Starts moving a new deployment on, where that is automatic.
    pub(super) fn created(&self, id: &str) {
        self.inner.changes.send_modify(|count| *count += 1);
        if let Progress::Automatic { step } = self.progress() {
            self.drive(id.to_owned(), step);
        }
    }

    pub(super) fn is_driven(&self, id: &str) -> bool {
        locked(&self.inner.driven).contains(id)
    }

    /// Changes a status, tells of it, and starts the rollback that it may ask for.
    pub(super) fn change(
        &self,
        id: &str,
        to: Status,
        error: Option<ErrorInformation>,
    ) -> Result<(), TransitionError> {
        let changed = {
            let mut state = self.state();
            let changed = state.transition(id, to, error, &self.options().region)?;
            // Queued under the lock: no two changes are told in the wrong order.
            locked(&self.inner.untold).extend(changed.change.clone());
            changed
        };
        self.inner.changes.send_modify(|count| *count += 1);
        self.tell();
        if let Some(rollback) = changed.rollback {
            self.created(&rollback);
        }
        Ok(())
    }

    /// Tells the sinks what is queued. One caller at a time does it, for all of them: a sink that
    /// changes something itself has it told after the sinks have heard of what came before.
    fn tell(&self) {
        loop {
            if self.inner.telling.swap(true, Ordering::AcqRel) {
                return;
            }
            loop {
                let Some(change) = locked(&self.inner.untold).pop_front() else {
                    break;
                };
                let sinks = locked(&self.inner.sinks).clone();
                for sink in sinks {
                    sink(change.clone());
                }
            }
            self.inner.telling.store(false, Ordering::Release);
            // Something may have been queued by one who saw the flag still up.
            if locked(&self.inner.untold).is_empty() {
                return;
            }
        }
    }

    pub(super) fn advance_by_hand(
        &self,
        id: &str,
        status: Status,
        failure: Option<TargetFailure>,
    ) -> Result<(), TransitionError> {
        if status == Status::InProgress {
            self.make_targets(id, None);
        }
        let mut error = None;
        if status == Status::Failed {
            error = Some(ErrorInformation::new(
                "HEALTH_CONSTRAINTS",
                HEALTH_CONSTRAINTS,
            ));
        }
        if let Some(failure) = failure
            && let Some(deployment) = self.state().deployment_mut(id)
        {
            for target in &mut deployment.targets {
                let before: Vec<String> = target
                    .events
                    .iter()
                    .map(|event| event.name.clone())
                    .take_while(|name| *name != failure.lifecycle_event)
                    .collect();
                for name in before {
                    target.note(&name, EventStatus::Succeeded, None);
                }
                target.note(
                    &failure.lifecycle_event,
                    EventStatus::Failed,
                    Some(failure.diagnostics.clone()),
                );
            }
        }
        self.change(id, status, error)
    }

    /// Runs a deployment to its end in a task of its own.
    pub(super) fn drive(&self, id: String, step: Duration) {
        if !locked(&self.inner.driven).insert(id.clone()) {
            return;
        }
        let this = self.clone();
        tokio::spawn(async move {
            // Ends early only where somebody else has ended the deployment.
            let _ = this.run_to_end(&id, step).await;
            locked(&this.inner.driven).remove(&id);
        });
    }

    async fn run_to_end(&self, id: &str, step: Duration) -> Result<(), TransitionError> {
        pause(step).await;
        if self.status(id) == Some(Status::Created) {
            self.change(id, Status::Queued, None)?;
            pause(step).await;
        }
        if self.status(id).is_none_or(Status::is_terminal) {
            return Ok(());
        }
        let Some((tasks, platform)) = self.tasks(id) else {
            return Ok(());
        };
        let content = match platform {
            Platform::Server => None,
            Platform::Lambda | Platform::Ecs => Some(self.app_spec(id).await),
        };
        let info = content.as_ref().and_then(|content| content.as_ref().ok());
        self.make_targets(id, info);
        if self.status(id) != Some(Status::InProgress) {
            self.change(id, Status::InProgress, None)?;
        }
        let result = match content {
            Some(Err(error)) => Err(error),
            Some(Ok(_)) => self.run_without_instances(id, step).await,
            None => self.run_on_instances(id, step, tasks).await,
        };
        match result {
            Ok(()) => self.change(id, Status::Succeeded, None),
            Err(_) if self.is_stopping(id) => {
                let error =
                    ErrorInformation::new("MANUAL_STOP", "The deployment was stopped by a user.");
                self.change(id, Status::Stopped, Some(error))
            }
            Err(error) => self.change(id, Status::Failed, Some(error)),
        }
    }

    fn is_stopping(&self, id: &str) -> bool {
        self.state()
            .deployment(id)
            .is_ok_and(|deployment| deployment.stop.is_some())
    }

    fn goes_on(&self, id: &str) -> Result<(), ErrorInformation> {
        let goes_on = self
            .state()
            .deployment(id)
            .is_ok_and(|deployment| deployment.stop.is_none() && !deployment.status.is_terminal());
        if goes_on {
            Ok(())
        } else {
            Err(ErrorInformation::new("MANUAL_STOP", ""))
        }
    }

    /// What each of the group's instances has to do; none on Lambda and ECS.
    fn tasks(&self, id: &str) -> Option<(Vec<Task>, Platform)> {
        let state = self.state();
        let deployment = state.deployment(id).ok()?;
        let count = state
            .group(&deployment.application, &deployment.group)
            .map_or(0, |group| group.instances);
        let task = |number| Task {
            application: deployment.application.clone(),
            deployment_group: deployment.group.clone(),
            deployment_group_id: deployment.group_id.clone(),
            deployment_id: deployment.id.clone(),
            instance: (count > 1)
                .then(|| identity::instance_id(&deployment.application, &deployment.group, number)),
            bundle: bundle(&deployment.revision),
            file_exists_behavior: deployment.file_exists_behavior.clone(),
            ignore_application_stop_failures: deployment.ignore_application_stop_failures,
            traffic_control: deployment.traffic_control,
        };
        match deployment.platform {
            Platform::Server => Some(((0..count).map(task).collect(), Platform::Server)),
            other => Some((Vec::new(), other)),
        }
    }

    fn make_targets(&self, id: &str, info: Option<&agent::ServerlessTarget>) {
        let mut state = self.state();
        let Ok(deployment) = state.deployment(id) else {
            return;
        };
        if !deployment.targets.is_empty() {
            return;
        }
        let targets = match deployment.platform {
            Platform::Server => {
                let (application, group) = (&deployment.application, &deployment.group);
                let count = state
                    .group(application, group)
                    .map_or(0, |group| group.instances);
                let events = agent::lifecycle_events(deployment.traffic_control);
                let region = &self.options().region;
                let target = |number| {
                    let id = identity::instance_id(application, group, number);
                    let arn = format!("arn:aws:ec2:{region}:{}:instance/{id}", identity::ACCOUNT);
                    Target::new(id, arn, TargetKind::Instance, &events)
                };
                (0..count).map(target).collect()
            }
            Platform::Lambda | Platform::Ecs => {
                vec![serverless_target(deployment, info, &self.options().region)]
            }
        };
        if let Some(deployment) = state.deployment_mut(id) {
            deployment.targets = targets;
        }
    }

    fn note(
        &self,
        id: &str,
        target: usize,
        event: &str,
        status: EventStatus,
        why: Option<Diagnostics>,
    ) {
        if let Some(deployment) = self.state().deployment_mut(id)
            && !deployment.status.is_terminal()
            && let Some(target) = deployment.targets.get_mut(target)
        {
            target.note(event, status, why);
        }
    }

    async fn run_on_instances(
        &self,
        id: &str,
        step: Duration,
        tasks: Vec<Task>,
    ) -> Result<(), ErrorInformation> {
        let count = tasks.len();
        if count == 0 {
            return Err(ErrorInformation::new("NO_INSTANCES", NO_INSTANCES));
        }
        let healthy_minimum = {
            let state = self.state();
            let config = state
                .deployment(id)
                .ok()
                .and_then(|deployment| state.configs.get(&deployment.config));
            config.map_or(0, |config| config.healthy_minimum(count))
        };
        let mut failed = 0;
        for (number, task) in tasks.into_iter().enumerate() {
            if !self.run_on_instance(id, step, number, task).await? {
                failed += 1;
            }
            let remaining = count - number - 1;
            // The next instance would be out of service too while it is deployed to.
            if remaining > 0 && failed > 0 && failed + 1 > count - healthy_minimum {
                return Err(ErrorInformation::new(
                    "HEALTH_CONSTRAINTS",
                    HEALTH_CONSTRAINTS,
                ));
            }
        }
        if failed == count {
            return Err(ErrorInformation::new(
                "HEALTH_CONSTRAINTS",
                HEALTH_CONSTRAINTS,
            ));
        }
        Ok(())
    }

    /// Whether the instance's deployment went well.
    async fn run_on_instance(
        &self,
        id: &str,
        step: Duration,
        number: usize,
        task: Task,
    ) -> Result<bool, ErrorInformation> {
        let events = agent::lifecycle_events(task.traffic_control);
        let mut run = match (&self.options().agent, &self.options().store) {
            (Some(agent), Some(store)) => {
                Some(Agent::begin(Arc::clone(agent), Arc::clone(store), task))
            }
            _ => None,
        };
        for event in events {
            self.goes_on(id)?;
            self.note(id, number, event, EventStatus::InProgress, None);
            pause(step).await;
            let outcome = match &mut run {
                Some(run) => run.carry_out(event).await,
                None => Outcome::Done,
            };
            match outcome {
                Outcome::Done => self.note(id, number, event, EventStatus::Succeeded, None),
                Outcome::Failed(diagnostics) => {
                    self.note(id, number, event, EventStatus::Failed, Some(diagnostics));
                    return Ok(false);
                }
            }
        }
        if let Some(run) = run {
            run.succeeded();
        }
        Ok(true)
    }

    /// The AppSpec of a Lambda or ECS deployment, read and checked.
    async fn app_spec(&self, id: &str) -> Result<agent::ServerlessTarget, ErrorInformation> {
        let (revision, platform) = {
            let state = self.state();
            let missing = |_| ErrorInformation::new("INTERNAL_ERROR", "deployment is gone");
            let deployment = state.deployment(id).map_err(missing)?;
            (deployment.revision.clone(), deployment.platform)
        };
        let bytes = match &revision {
            Revision::AppSpecContent { app_spec_content } => app_spec_content
                .content
                .clone()
                .unwrap_or_default()
                .into_bytes(),
            _ => {
                let store = self.options().store.as_ref();
                let (Some(store), Some(bundle)) = (store, bundle(&revision)) else {
                    return Err(ErrorInformation::new(
                        "REVISION_MISSING",
                        "The revision is missing.",
                    ));
                };
                agent::read_document(store, &bundle)
                    .await
                    .map_err(|error| ErrorInformation::new("REVISION_MISSING", error.to_string()))?
            }
        };
        agent::serverless_target(&bytes, platform == Platform::Lambda)
            .map_err(|message| ErrorInformation::new("INVALID_REVISION", message))
    }

    async fn run_without_instances(
        &self,
        id: &str,
        step: Duration,
    ) -> Result<(), ErrorInformation> {
        let events: Vec<String> = self
            .state()
            .deployment(id)
            .ok()
            .and_then(|deployment| deployment.targets.first())
            .map(|target| {
                target
                    .events
                    .iter()
                    .map(|event| event.name.clone())
                    .collect()
            })
            .unwrap_or_default();
        for event in events {
            self.goes_on(id)?;
            self.note(id, 0, &event, EventStatus::InProgress, None);
            pause(step).await;
            self.note(id, 0, &event, EventStatus::Succeeded, None);
        }
        Ok(())
    }
}

async fn pause(step: Duration) {
    if step.is_zero() {
        tokio::task::yield_now().await;
    } else {
        tokio::time::sleep(step).await;
    }
}

fn bundle(revision: &Revision) -> Option<Bundle> {
    match revision {
        Revision::S3 { s3_location } => Some(Bundle {
            bucket: s3_location.bucket.clone(),
            key: s3_location.key.clone(),
            version: s3_location.version.clone(),
            etag: s3_location.etag.clone(),
            bundle_type: s3_location.bundle_type.clone(),
        }),
        Revision::GitHub { .. } | Revision::AppSpecContent { .. } => None,
    }
}

fn serverless_target(
    deployment: &Deployment,
    info: Option<&agent::ServerlessTarget>,
    region: &str,
) -> Target {
    let account = identity::ACCOUNT;
    let name = info.map_or("unknown", |info| info.id.as_str());
    if deployment.platform == Platform::Lambda {
        let arn = identity::function_arn(region, name);
        let function = info
            .map(|info| info.function_info.clone())
            .unwrap_or_default();
        let events = ["BeforeAllowTraffic", "AllowTraffic", "AfterAllowTraffic"];
        return Target::new(
            name.to_owned(),
            arn,
            TargetKind::Lambda { function },
            &events,
        );
    }
    let events = [
        "BeforeInstall",
        "Install",
        "AfterInstall",
        "AllowTestTraffic",
        "AfterAllowTestTraffic",
        "BeforeAllowTraffic",
        "AllowTraffic",
        "AfterAllowTraffic",
    ];
    let id = format!("{}:{}", deployment.application, deployment.group);
    let arn = format!(
        "arn:aws:ecs:{region}:{account}:service/{}/{}",
        deployment.application, deployment.group
    );
    Target::new(id, arn, TargetKind::Ecs, &events)
}
