//! What CodeDeploy's requests need (service authorization reference; the user guide's permissions
//! reference for what `CreateDeployment` needs besides its own action).

use serde_json::{Value, json};

use super::Need;
use crate::local::codedeploy::CodeDeploy;
use crate::local::identity::{ACCOUNT, application_arn, deployment_group_arn};

/// Deployments that one request may name (`BatchGetDeployments`: 25).
const DEPLOYMENTS_MAX: usize = 25;

/// The rights that a request needs.
pub fn needs(codedeploy: &CodeDeploy, region: &str, operation: &str, input: &Value) -> Vec<Need> {
    let text = |name: &str| input.get(name).and_then(Value::as_str).unwrap_or_default();
    let application = application_arn(region, text("applicationName"));
    let group = deployment_group_arn(region, text("applicationName"), text("deploymentGroupName"));
    let of_deployments = |action: &'static str, ids: &[&str]| -> Vec<Need> {
        let groups = ids.iter().take(DEPLOYMENTS_MAX);
        groups
            .filter_map(|id| group_of(codedeploy, region, id))
            .map(|group| Need::new(action, group))
            .collect()
    };
    match operation {
        "RegisterApplicationRevision" => {
            vec![Need::new(
                "codedeploy:RegisterApplicationRevision",
                application,
            )]
        }
        "GetApplicationRevision" => {
            vec![Need::new("codedeploy:GetApplicationRevision", application)]
        }
        "CreateDeployment" => vec![
            Need::new("codedeploy:CreateDeployment", group),
            Need::new(
                "codedeploy:GetDeploymentConfig",
                config_arn(region, &config_of(codedeploy, input)),
            ),
            // Either: it registers a revision that is not registered yet.
            Need {
                actions: vec![
                    "codedeploy:RegisterApplicationRevision",
                    "codedeploy:GetApplicationRevision",
                ],
                ..Need::new("", application)
            },
        ],
        "GetDeployment" => of_deployments("codedeploy:GetDeployment", &[text("deploymentId")]),
        "BatchGetDeployments" => {
            let ids = input.get("deploymentIds").and_then(Value::as_array);
            let ids: Vec<&str> = ids
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            of_deployments("codedeploy:BatchGetDeployments", &ids)
        }
        "GetDeploymentGroup" => vec![Need::new("codedeploy:GetDeploymentGroup", group)],
        "ListDeployments" => vec![Need::new("codedeploy:ListDeployments", group)],
        "GetDeploymentConfig" => vec![Need::new(
            "codedeploy:GetDeploymentConfig",
            config_arn(region, text("deploymentConfigName")),
        )],
        "ListDeploymentTargets" => vec![Need::new("codedeploy:ListDeploymentTargets", "*")],
        "BatchGetDeploymentTargets" => {
            vec![Need::new("codedeploy:BatchGetDeploymentTargets", "*")]
        }
        // None of our callers has any of these; no policy of theirs will allow it.
        _ => vec![Need::new("codedeploy:*", "*")],
    }
}

fn config_arn(region: &str, name: &str) -> String {
    format!("arn:aws:codedeploy:{region}:{ACCOUNT}:deploymentconfig:{name}")
}

/// The deployment's group; none for a deployment that is not there, of which there is nothing to tell.
fn group_of(codedeploy: &CodeDeploy, region: &str, id: &str) -> Option<String> {
    let answer = codedeploy
        .call("GetDeployment", &json!({ "deploymentId": id }))
        .ok()?;
    let text = |name: &str| {
        answer
            .pointer(&format!("/deploymentInfo/{name}"))
            .and_then(Value::as_str)
    };
    Some(deployment_group_arn(
        region,
        text("applicationName")?,
        text("deploymentGroupName")?,
    ))
}

/// The configuration that a deployment will have: its own, else the group's.
fn config_of(codedeploy: &CodeDeploy, input: &Value) -> String {
    let own = input.get("deploymentConfigName").and_then(Value::as_str);
    let groups = || {
        let group = codedeploy
            .call(
                "GetDeploymentGroup",
                &json!({
                    "applicationName": input.get("applicationName"),
                    "deploymentGroupName": input.get("deploymentGroupName"),
                }),
            )
            .ok()?;
        let name = group.pointer("/deploymentGroupInfo/deploymentConfigName")?;
        Some(name.as_str()?.to_owned())
    };
    own.map(str::to_owned).or_else(groups).unwrap_or_default()
}
