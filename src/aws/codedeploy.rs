//! CodeDeploy, by the SDK: the calls and the reading of its answers.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_codedeploy::Client;
use aws_sdk_codedeploy::config::retry::RetryConfig;
use aws_sdk_codedeploy::primitives::DateTime;
use aws_sdk_codedeploy::types;
use jiff::Timestamp;

use super::{Aws, service_error};
use crate::deployment::{
    ApplicationName, AutoRollbackEvent, BundleType, CodeDeploy, ComputePlatform,
    DeploymentConfigName, DeploymentConfigs, DeploymentError, DeploymentGroupInfo,
    DeploymentGroupName, DeploymentId, DeploymentInfo, DeploymentRequest, DeploymentStatus,
    DeploymentTargets, DeploymentToken, FileExistsBehavior, Region, RevisionLocation, S3Location,
    TargetFailure,
};
use crate::object::ETag;
use crate::service_error::{Kind, ServiceError};

/// Ids in one `BatchGet…` (API reference: 25).
const BATCH_MAX: usize = 25;
/// Pages of one listing that are read.
const PAGES_MAX: usize = 40;
/// Time for `CreateDeployment`'s one attempt. Kept short: whoever finds the intent has to wait for it.
const CREATE_TIMEOUT: Duration = Duration::from_secs(6);
/// The longest log tail that is kept; the agent sends at most 4 KB.
const LOG_TAIL_CHARACTERS_MAX: usize = 4_096;

/// An answer that lacks what the API promises, or names what no name can be.
fn unreadable(operation: &'static str, resource: String, what: &str) -> ServiceError {
    ServiceError {
        operation,
        resource,
        kind: Kind::Unavailable,
        code: None,
        message: format!("the answer has no readable {what}"),
    }
}

fn revision_to_api(revision: &RevisionLocation) -> types::RevisionLocation {
    match revision {
        RevisionLocation::S3(location) => types::RevisionLocation::builder()
            .revision_type(types::RevisionLocationType::S3)
            .s3_location(
                types::S3Location::builder()
                    .bucket(location.bucket.as_str())
                    .key(location.key.as_str())
                    .bundle_type(match location.bundle_type {
                        BundleType::Zip => types::BundleType::Zip,
                        BundleType::Tgz => types::BundleType::TarGZip,
                        BundleType::Tar => types::BundleType::Tar,
                        BundleType::Yaml => types::BundleType::Yaml,
                        BundleType::Json => types::BundleType::Json,
                    })
                    .set_version(
                        location
                            .version
                            .as_ref()
                            .map(|version| version.as_str().to_owned()),
                    )
                    .set_e_tag(
                        location
                            .etag
                            .as_ref()
                            .map(|etag| etag.unquoted().to_owned()),
                    )
                    .build(),
            )
            .build(),
        RevisionLocation::GitHub {
            repository,
            commit_id,
        } => types::RevisionLocation::builder()
            .revision_type(types::RevisionLocationType::GitHub)
            .git_hub_location(
                types::GitHubLocation::builder()
                    .repository(repository.as_str())
                    .commit_id(commit_id.as_str())
                    .build(),
            )
            .build(),
    }
}

fn revision_from_api(revision: &types::RevisionLocation) -> Option<RevisionLocation> {
    if let Some(location) = revision.s3_location() {
        return Some(RevisionLocation::S3(S3Location {
            bucket: location.bucket()?.parse().ok()?,
            key: location.key()?.parse().ok()?,
            bundle_type: match location.bundle_type()? {
                types::BundleType::Tar => BundleType::Tar,
                types::BundleType::TarGZip => BundleType::Tgz,
                types::BundleType::Yaml => BundleType::Yaml,
                types::BundleType::Json => BundleType::Json,
                _ => BundleType::Zip,
            },
            version: location.version().and_then(|version| version.parse().ok()),
            etag: location.e_tag().map(ETag::from),
        }));
    }
    let location = revision.git_hub_location()?;
    Some(RevisionLocation::GitHub {
        repository: location.repository()?.parse().ok()?,
        commit_id: location.commit_id()?.parse().ok()?,
    })
}

fn timestamp(time: &DateTime) -> Option<Timestamp> {
    Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).ok()?).ok()
}

fn platform(platform: &types::ComputePlatform) -> Option<ComputePlatform> {
    match platform {
        types::ComputePlatform::Server => Some(ComputePlatform::Server),
        types::ComputePlatform::Lambda => Some(ComputePlatform::Lambda),
        types::ComputePlatform::Ecs => Some(ComputePlatform::Ecs),
        _ => None,
    }
}

fn info_from_api(info: &types::DeploymentInfo) -> Option<DeploymentInfo> {
    let rollback = info.rollback_info();
    let other = |id: Option<&str>| id.and_then(|id| id.parse().ok());
    Some(DeploymentInfo {
        deployment_id: info.deployment_id()?.parse().ok()?,
        application: info.application_name()?.parse().ok()?,
        deployment_group: info.deployment_group_name()?.parse().ok()?,
        deployment_config: info.deployment_config_name().map(str::to_owned),
        status: DeploymentStatus::from_api(info.status()?.as_str()),
        revision: info.revision().and_then(revision_from_api),
        is_restart: info.deployment_mode() == Some(&types::DeploymentMode::Restart),
        description: info.description().map(str::to_owned),
        creator: info.creator().map(|creator| creator.as_str().to_owned()),
        created_at: info.create_time().and_then(timestamp),
        started_at: info.start_time().and_then(timestamp),
        completed_at: info.complete_time().and_then(timestamp),
        error: info.error_information().map(|error| DeploymentError {
            code: error
                .code()
                .map(|code| code.as_str().to_owned())
                .unwrap_or_default(),
            message: error.message().unwrap_or_default().to_owned(),
        }),
        rollback_deployment_id: other(
            rollback.and_then(|rollback| rollback.rollback_deployment_id()),
        ),
        rollback_triggering_deployment_id: other(
            rollback.and_then(|rollback| rollback.rollback_triggering_deployment_id()),
        ),
        rollback_message: rollback
            .and_then(|rollback| rollback.rollback_message())
            .map(str::to_owned),
        compute_platform: info.compute_platform().and_then(platform),
    })
}

fn auto_rollback_to_api(events: &[AutoRollbackEvent]) -> types::AutoRollbackConfiguration {
    let mut configuration = types::AutoRollbackConfiguration::builder().enabled(!events.is_empty());
    for event in events {
        configuration = configuration.events(match event {
            AutoRollbackEvent::DeploymentFailure => types::AutoRollbackEvent::DeploymentFailure,
            AutoRollbackEvent::DeploymentStopOnAlarm => {
                types::AutoRollbackEvent::DeploymentStopOnAlarm
            }
            AutoRollbackEvent::DeploymentStopOnRequest => {
                types::AutoRollbackEvent::DeploymentStopOnRequest
            }
        });
    }
    configuration.build()
}

fn group_resource(application: &ApplicationName, group: &DeploymentGroupName) -> String {
    format!("deployment group {application}/{group}")
}

impl CodeDeploy for &Aws {
    async fn register_revision(
        &self,
        region: &Region,
        application: &ApplicationName,
        revision: &RevisionLocation,
        description: &str,
    ) -> Result<(), ServiceError> {
        self.codedeploy(region)
            .register_application_revision()
            .application_name(application.as_str())
            .revision(revision_to_api(revision))
            .description(description)
            .send()
            .await
            .map(|_| ())
            .map_err(|error| {
                service_error(
                    "RegisterApplicationRevision",
                    format!("application {application}"),
                    error,
                )
            })
    }

    async fn create_deployment(
        &self,
        request: &DeploymentRequest,
        token: &DeploymentToken,
    ) -> Result<DeploymentId, ServiceError> {
        const OPERATION: &str = "CreateDeployment";
        let resource = group_resource(&request.application, &request.deployment_group);
        let once = aws_sdk_codedeploy::config::Builder::new()
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                aws_sdk_codedeploy::config::timeout::TimeoutConfig::builder()
                    .operation_timeout(CREATE_TIMEOUT)
                    .operation_attempt_timeout(CREATE_TIMEOUT)
                    .build(),
            );
        let answer = self
            .codedeploy(&request.region)
            .create_deployment()
            .application_name(request.application.as_str())
            .deployment_group_name(request.deployment_group.as_str())
            .set_deployment_config_name(
                request
                    .deployment_config
                    .as_ref()
                    .map(|name| name.as_str().to_owned()),
            )
            .revision(revision_to_api(&request.revision))
            .description(token.describe(&request.description))
            .set_file_exists_behavior(request.file_exists_behavior.map(|behavior| match behavior {
                FileExistsBehavior::Disallow => types::FileExistsBehavior::Disallow,
                FileExistsBehavior::Overwrite => types::FileExistsBehavior::Overwrite,
                FileExistsBehavior::Retain => types::FileExistsBehavior::Retain,
            }))
            .set_ignore_application_stop_failures(request.ignore_application_stop_failures)
            .set_update_outdated_instances_only(request.update_outdated_instances_only)
            .set_auto_rollback_configuration(
                request.auto_rollback.as_deref().map(auto_rollback_to_api),
            )
            .customize()
            .config_override(once)
            .send()
            .await
            .map_err(|error| service_error(OPERATION, resource.clone(), error))?;
        answer
            .deployment_id()
            .and_then(|id| id.parse().ok())
            .ok_or_else(|| unreadable(OPERATION, resource, "deployment id"))
    }

    async fn deployment(
        &self,
        region: &Region,
        id: &DeploymentId,
    ) -> Result<DeploymentInfo, ServiceError> {
        const OPERATION: &str = "GetDeployment";
        let resource = format!("deployment {id}");
        let answer = self
            .codedeploy(region)
            .get_deployment()
            .deployment_id(id.as_str())
            .send()
            .await
            .map_err(|error| service_error(OPERATION, resource.clone(), error))?;
        answer
            .deployment_info()
            .and_then(info_from_api)
            .ok_or_else(|| unreadable(OPERATION, resource, "deployment"))
    }

    async fn deployments_since(
        &self,
        request: &DeploymentRequest,
        since: Timestamp,
    ) -> Result<Vec<DeploymentInfo>, ServiceError> {
        let client = self.codedeploy(&request.region);
        let resource = group_resource(&request.application, &request.deployment_group);
        let mut ids: Vec<String> = Vec::new();
        let mut token: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let page = client
                .list_deployments()
                .application_name(request.application.as_str())
                .deployment_group_name(request.deployment_group.as_str())
                .create_time_range(
                    types::TimeRange::builder()
                        .start(DateTime::from_secs(since.as_second()))
                        .build(),
                )
                .set_next_token(token.take())
                .send()
                .await
                .map_err(|error| service_error("ListDeployments", resource.clone(), error))?;
            ids.extend(page.deployments().iter().cloned());
            token = page.next_token().map(str::to_owned);
            if token.is_none() {
                break;
            }
        }
        let mut found = Vec::new();
        for batch in ids.chunks(BATCH_MAX) {
            let answer = client
                .batch_get_deployments()
                .set_deployment_ids(Some(batch.to_vec()))
                .send()
                .await
                .map_err(|error| service_error("BatchGetDeployments", resource.clone(), error))?;
            found.extend(answer.deployments_info().iter().filter_map(info_from_api));
        }
        Ok(found)
    }

    async fn deployment_group(
        &self,
        region: &Region,
        application: &ApplicationName,
        deployment_group: &DeploymentGroupName,
    ) -> Result<DeploymentGroupInfo, ServiceError> {
        const OPERATION: &str = "GetDeploymentGroup";
        let resource = group_resource(application, deployment_group);
        let answer = self
            .codedeploy(region)
            .get_deployment_group()
            .application_name(application.as_str())
            .deployment_group_name(deployment_group.as_str())
            .send()
            .await
            .map_err(|error| service_error(OPERATION, resource.clone(), error))?;
        let info = answer
            .deployment_group_info()
            .ok_or_else(|| unreadable(OPERATION, resource, "deployment group"))?;
        Ok(DeploymentGroupInfo {
            compute_platform: info.compute_platform().and_then(platform),
            last_attempted: info.last_attempted_deployment().and_then(|last| {
                let id = last.deployment_id()?.parse().ok()?;
                Some((id, DeploymentStatus::from_api(last.status()?.as_str())))
            }),
        })
    }
}

impl DeploymentConfigs for &Aws {
    async fn has_deployment_config(
        &self,
        region: &Region,
        name: &DeploymentConfigName,
    ) -> Result<bool, ServiceError> {
        let answer = self
            .codedeploy(region)
            .get_deployment_config()
            .deployment_config_name(name.as_str())
            .send()
            .await
            .map_err(|error| {
                service_error(
                    "GetDeploymentConfig",
                    format!("deployment configuration {name}"),
                    error,
                )
            });
        match answer {
            Ok(_) => Ok(true),
            Err(error) if error.has_code("DeploymentConfigDoesNotExistException") => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl DeploymentTargets for &Aws {
    async fn failed_targets(
        &self,
        region: &Region,
        id: &DeploymentId,
        targets_max: usize,
    ) -> Result<Vec<TargetFailure>, ServiceError> {
        let client = self.codedeploy(region);
        let resource = format!("deployment {id}");
        // Of many instances those that failed may be the last; but a target may also tell of a failed event while it
        // is not said to have failed itself.
        let failed = Some(types::TargetStatus::Failed);
        let ids = match target_ids(&client, id, failed, targets_max).await {
            Ok(ids) if !ids.is_empty() => ids,
            Err(error) if !is_of_filter(&error) => return Err(error),
            _ => target_ids(&client, id, None, targets_max).await?,
        };
        let mut failures = Vec::new();
        for batch in ids.chunks(BATCH_MAX) {
            let answer = client
                .batch_get_deployment_targets()
                .deployment_id(id.as_str())
                .set_target_ids(Some(batch.to_vec()))
                .send()
                .await
                .map_err(|error| {
                    service_error("BatchGetDeploymentTargets", resource.clone(), error)
                })?;
            failures.extend(answer.deployment_targets().iter().filter_map(failure_of));
        }
        failures.sort_by(|a, b| match (a.failed_at, b.failed_at) {
            (Some(a), Some(b)) => a.cmp(&b),
            (a, b) => b.is_some().cmp(&a.is_some()),
        });
        Ok(failures)
    }
}

/// Whether a listing was refused for its filter (`InvalidTargetFilterNameException`, `InvalidInstanceStatusException`).
fn is_of_filter(error: &ServiceError) -> bool {
    let code = error.code.as_deref().unwrap_or_default();
    code.starts_with("InvalidTargetFilter") || code == "InvalidInstanceStatusException"
}

/// The first targets of a deployment, or of those with this status.
async fn target_ids(
    client: &Client,
    id: &DeploymentId,
    status: Option<types::TargetStatus>,
    targets_max: usize,
) -> Result<Vec<String>, ServiceError> {
    let filters = status.map(|status| {
        let values = vec![status.as_str().to_owned()];
        HashMap::from([(types::TargetFilterName::TargetStatus, values)])
    });
    let mut ids: Vec<String> = Vec::new();
    let mut token: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let page = match client
            .list_deployment_targets()
            .deployment_id(id.as_str())
            .set_target_filters(filters.clone())
            .set_next_token(token.take())
            .send()
            .await
        {
            Ok(page) => page,
            Err(error) => {
                let resource = format!("deployment {id}");
                let error = service_error("ListDeploymentTargets", resource, error);
                // It ended before any target was chosen.
                let none = error.has_code("DeploymentNotStartedException");
                return if none { Ok(Vec::new()) } else { Err(error) };
            }
        };
        ids.extend(page.target_ids().iter().cloned());
        token = page.next_token().map(str::to_owned);
        if token.is_none() || ids.len() >= targets_max {
            break;
        }
    }
    ids.truncate(targets_max);
    Ok(ids)
}

/// What a target tells of its failure, where it failed.
fn failure_of(target: &types::DeploymentTarget) -> Option<TargetFailure> {
    let (target_id, status, events) = if let Some(target) = target.instance_target() {
        (
            target.target_id(),
            target.status(),
            target.lifecycle_events(),
        )
    } else if let Some(target) = target.lambda_target() {
        (
            target.target_id(),
            target.status(),
            target.lifecycle_events(),
        )
    } else if let Some(target) = target.ecs_target() {
        (
            target.target_id(),
            target.status(),
            target.lifecycle_events(),
        )
    } else if let Some(target) = target.cloud_formation_target() {
        (
            target.target_id(),
            target.status(),
            target.lifecycle_events(),
        )
    } else {
        return None;
    };
    let failed_event = events
        .iter()
        .find(|event| event.status() == Some(&types::LifecycleEventStatus::Failed));
    if status != Some(&types::TargetStatus::Failed) && failed_event.is_none() {
        return None;
    }
    let diagnostics = failed_event.and_then(|event| event.diagnostics());
    let text = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    Some(TargetFailure {
        target_id: target_id.unwrap_or("unknown").to_owned(),
        lifecycle_event: text(failed_event.and_then(|event| event.lifecycle_event_name())),
        script: text(diagnostics.and_then(|diagnostics| diagnostics.script_name())),
        error_code: diagnostics
            .and_then(|diagnostics| diagnostics.error_code())
            .map(|code| code.as_str().to_owned()),
        message: text(diagnostics.and_then(|diagnostics| diagnostics.message())),
        log_tail: text(diagnostics.and_then(|diagnostics| diagnostics.log_tail()))
            .map(|tail| last_of(&tail)),
        failed_at: failed_event
            .and_then(|event| event.end_time())
            .and_then(timestamp),
    })
}

/// The end of a log, where it is longer than what is kept.
fn last_of(log: &str) -> String {
    let characters = log.chars().count();
    log.chars()
        .skip(characters.saturating_sub(LOG_TAIL_CHARACTERS_MAX))
        .collect()
}
