//! CodeDeploy's calls in the JSON of its API, as `aws deploy … --cli-input-json` takes them.

use serde_json::{Map, Value, json};

use crate::deployment::{ApplicationName, DeploymentRequest, DeploymentToken, RevisionLocation};

/// `RegisterApplicationRevision`.
pub(super) fn register(
    application: &ApplicationName,
    revision: &RevisionLocation,
    description: &str,
) -> Value {
    json!({
        "RegisterApplicationRevision": {
            "applicationName": application,
            "description": description,
            "revision": location(revision),
        }
    })
}

/// `CreateDeployment`.
pub(super) fn create(request: &DeploymentRequest, token: &DeploymentToken) -> Value {
    let mut input = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            input.insert(name.to_owned(), value);
        }
    };
    set("applicationName", Some(json!(request.application)));
    set("deploymentGroupName", Some(json!(request.deployment_group)));
    set("revision", Some(location(&request.revision)));
    set(
        "deploymentConfigName",
        request.deployment_config.as_ref().map(|name| json!(name)),
    );
    set(
        "description",
        Some(json!(token.describe(&request.description))),
    );
    set(
        "fileExistsBehavior",
        request.file_exists_behavior.map(|behavior| json!(behavior)),
    );
    set(
        "ignoreApplicationStopFailures",
        request.ignore_application_stop_failures.map(Value::Bool),
    );
    set(
        "updateOutdatedInstancesOnly",
        request.update_outdated_instances_only.map(Value::Bool),
    );
    set(
        "autoRollbackConfiguration",
        request
            .auto_rollback
            .as_ref()
            .map(|events| json!({ "enabled": !events.is_empty(), "events": events })),
    );
    json!({ "CreateDeployment": input })
}

fn location(revision: &RevisionLocation) -> Value {
    match revision {
        RevisionLocation::S3(location) => json!({
            "revisionType": "S3",
            "s3Location": {
                "bucket": location.bucket,
                "key": location.key,
                "bundleType": location.bundle_type,
                "eTag": location.etag,
            }
        }),
        RevisionLocation::GitHub {
            repository,
            commit_id,
        } => json!({
            "revisionType": "GitHub",
            "gitHubLocation": { "repository": repository, "commitId": commit_id },
        }),
    }
}
