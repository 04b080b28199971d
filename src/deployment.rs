//! CodeDeploy's nouns, and the calls that the functions make of it.
//!
//! Owns names, revision locations, deployment options and the trait [`CodeDeploy`]. Names and
//! spellings are those of the API (version 2014-10-06).

use std::future::Future;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::object::{BucketName, ETag, ObjectKey, VersionId, checked_name};
use crate::service_error::ServiceError;

fn is_codedeploy_name(text: &str) -> bool {
    (1..=100).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._+=,@-".contains(&b))
}

checked_name!(
    /// A CodeDeploy application's name.
    ApplicationName,
    "application name",
    "1 to 100 of A-Z, a-z, 0-9 and `._+=,@-`",
    is_codedeploy_name
);

checked_name!(
    /// A deployment group's name.
    DeploymentGroupName,
    "deployment group name",
    "1 to 100 of A-Z, a-z, 0-9 and `._+=,@-`",
    is_codedeploy_name
);

checked_name!(
    /// A deployment configuration's name, standard (`CodeDeployDefault.…`) or custom.
    DeploymentConfigName,
    "deployment configuration name",
    "1 to 100 of A-Z, a-z, 0-9 and `._+=,@-`",
    is_codedeploy_name
);

checked_name!(
    /// A deployment's id, as CodeDeploy gave it: `d-75I7MBT7C`.
    DeploymentId,
    "deployment id",
    "`d-` and up to 98 letters and digits",
    |text| text.len() <= 100
        && text.strip_prefix("d-").is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric()))
);

checked_name!(
    /// An AWS region: `eu-central-1`.
    Region,
    "region",
    "lower-case words and a number joined by `-`, such as eu-central-1",
    |text| (5..=32).contains(&text.len())
        && text.contains('-')
        && text.split('-').all(|word| {
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        })
);

checked_name!(
    /// A commit: 7 to 64 hexadecimal digits.
    CommitId,
    "commit",
    "7 to 64 hexadecimal digits",
    |text| (7..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
);

checked_name!(
    /// A GitHub repository: `owner/name`.
    RepositoryName,
    "repository",
    "owner/name, of A-Z, a-z, 0-9 and `._-`",
    |text| text.len() <= 200
        && text.split('/').count() == 2
        && text.split('/').all(|part| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        })
);

/// `S3Location.bundleType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BundleType {
    /// A zip archive.
    #[serde(rename = "zip")]
    Zip,
    /// A gzipped tar archive.
    #[serde(rename = "tgz")]
    Tgz,
    /// A tar archive.
    #[serde(rename = "tar")]
    Tar,
    /// An AppSpec file in YAML (Lambda and ECS).
    #[serde(rename = "YAML")]
    Yaml,
    /// An AppSpec file in JSON (Lambda and ECS).
    #[serde(rename = "JSON")]
    Json,
}

/// What happens to files at the destination that CodeDeploy did not put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum FileExistsBehavior {
    /// The deployment fails (the default).
    Disallow,
    /// The revision's file replaces them.
    Overwrite,
    /// They stay.
    Retain,
}

/// What makes CodeDeploy roll back by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AutoRollbackEvent {
    /// The deployment failed.
    DeploymentFailure,
    /// A CloudWatch alarm went off.
    DeploymentStopOnAlarm,
    /// Somebody stopped it.
    DeploymentStopOnRequest,
}

/// Where a revision lies, pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "revision_type")]
pub enum RevisionLocation {
    /// An object in S3, by ETag and, where the bucket is versioned, by version.
    S3(S3Location),
    /// A commit on GitHub.
    GitHub {
        /// `owner/name`.
        repository: RepositoryName,
        /// The commit.
        commit_id: CommitId,
    },
}

/// `RevisionLocation.s3Location`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct S3Location {
    /// Bucket.
    pub bucket: BucketName,
    /// Key.
    pub key: ObjectKey,
    /// Kind of bundle.
    pub bundle_type: BundleType,
    /// Version, where the bucket is versioned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionId>,
    /// ETag without quotes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<ETag>,
}

/// `DeploymentStatus`: a deployment's state, as CodeDeploy spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeploymentStatus {
    /// Made, nothing done yet.
    Created,
    /// Waiting for its turn inside CodeDeploy.
    Queued,
    /// Under way.
    InProgress,
    /// Traffic is shifted, alarms are watched.
    Baking,
    /// Blue/green: waits to be told to continue.
    Ready,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
    /// Ended by somebody or by an alarm.
    Stopped,
}

impl DeploymentStatus {
    /// Whether it stays so for ever.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Stopped)
    }

    /// CodeDeploy's spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "Created",
            Self::Queued => "Queued",
            Self::InProgress => "InProgress",
            Self::Baking => "Baking",
            Self::Ready => "Ready",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Stopped => "Stopped",
        }
    }

    /// The status of that spelling; a status that AWS adds one day counts as under way.
    pub fn from_api(text: &str) -> Self {
        match text {
            "Created" => Self::Created,
            "Queued" => Self::Queued,
            "Baking" => Self::Baking,
            "Ready" => Self::Ready,
            "Succeeded" => Self::Succeeded,
            "Failed" => Self::Failed,
            "Stopped" => Self::Stopped,
            _ => Self::InProgress,
        }
    }
}

/// `ApplicationInfo.computePlatform`; an AppSpec is for one of them too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ComputePlatform {
    /// EC2 and on-premises instances.
    Server,
    /// AWS Lambda.
    Lambda,
    /// Amazon ECS.
    #[serde(rename = "ECS")]
    Ecs,
}

impl std::fmt::Display for ComputePlatform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Server => "Server",
            Self::Lambda => "Lambda",
            Self::Ecs => "ECS",
        })
    }
}

/// Everything that `CreateDeployment` is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentRequest {
    /// Application.
    pub application: ApplicationName,
    /// Deployment group.
    pub deployment_group: DeploymentGroupName,
    /// Region of both.
    pub region: Region,
    /// Configuration; the group's own where not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_config: Option<DeploymentConfigName>,
    /// The revision, pinned.
    pub revision: RevisionLocation,
    /// What people read in the console; the token is added to it, see [`DeploymentToken::describe`].
    pub description: String,
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

checked_name!(
    /// The mark by which a deployment that we asked for is known again: one for each drop and target.
    ///
    /// `CreateDeployment` has no idempotency token, so this one travels in the description.
    DeploymentToken,
    "deployment token",
    "`sd-` and 24 hexadecimal digits",
    |text| text
        .strip_prefix("sd-")
        .is_some_and(|rest| rest.len() == 24 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
);

/// `CreateDeployment`'s limit on the description, in characters (CodeDeploy user guide, "Quotas").
pub const DESCRIPTION_CHARACTERS_MAX: usize = 256;

impl DeploymentToken {
    /// The token made of a digest's first twelve bytes.
    pub(crate) fn from_digest(digest: &[u8]) -> Self {
        use std::fmt::Write as _;
        let mut text = String::from("sd-");
        for index in 0..12 {
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "{:02x}",
                digest.get(index).copied().unwrap_or_default()
            );
        }
        Self(text)
    }

    /// `text [token]`, with `text` cut so that the whole fits into a description.
    pub fn describe(&self, text: &str) -> String {
        let room = DESCRIPTION_CHARACTERS_MAX.saturating_sub(self.as_str().len() + 3);
        let text: String = text
            .chars()
            .filter(|c| !c.is_control())
            .take(room)
            .collect();
        format!("{} [{self}]", text.trim_end())
            .trim_start()
            .to_owned()
    }

    /// The token in a deployment's description, where there is one.
    pub fn in_description(description: &str) -> Option<Self> {
        let start = description.rfind("[sd-")?;
        let rest = description.get(start + 1..)?;
        rest.split(']').next()?.parse().ok()
    }
}

/// A deployment as `GetDeployment` tells it, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentInfo {
    /// Its id.
    pub deployment_id: DeploymentId,
    /// Application.
    pub application: ApplicationName,
    /// Deployment group.
    pub deployment_group: DeploymentGroupName,
    /// Configuration.
    pub deployment_config: Option<String>,
    /// Status.
    pub status: DeploymentStatus,
    /// Revision, where it is one that can be named (S3 or GitHub).
    pub revision: Option<RevisionLocation>,
    /// Whether it only restarts the application (`deploymentMode: RESTART`): it has no revision, and what is
    /// live stays so.
    pub is_restart: bool,
    /// Description.
    pub description: Option<String>,
    /// Who made it: `user`, `codeDeployRollback`, `autoscaling`, …
    pub creator: Option<String>,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// When it started; may lie after its end (clocks of several servers).
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// `errorInformation`.
    pub error: Option<DeploymentError>,
    /// The deployment that rolled this one back, or is to.
    pub rollback_deployment_id: Option<DeploymentId>,
    /// The deployment that this one rolls back.
    pub rollback_triggering_deployment_id: Option<DeploymentId>,
    /// CodeDeploy's words about the rollback.
    pub rollback_message: Option<String>,
    /// Platform.
    pub compute_platform: Option<ComputePlatform>,
}

/// `errorInformation` of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentError {
    /// `HEALTH_CONSTRAINTS`, `REVISION_MISSING`, …
    pub code: String,
    /// CodeDeploy's text.
    pub message: String,
}

/// Why one target of a deployment failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetFailure {
    /// Instance id, Lambda alias or ECS service.
    pub target_id: String,
    /// The lifecycle event that failed: `AfterInstall`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle_event: Option<String>,
    /// The script, relative to the revision's root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// `ScriptFailed`, `ScriptMissing`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// The agent's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The end of the script's output, at most 4 KB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_tail: Option<String>,
    /// When the lifecycle event ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Timestamp>,
}

/// A deployment group as `GetDeploymentGroup` tells it, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentGroupInfo {
    /// Platform.
    pub compute_platform: Option<ComputePlatform>,
    /// The deployment attempted last, with its status.
    pub last_attempted: Option<(DeploymentId, DeploymentStatus)>,
}

/// The calls made of CodeDeploy.
pub trait CodeDeploy: Send + Sync {
    /// `RegisterApplicationRevision`; safe to repeat.
    fn register_revision(
        &self,
        region: &Region,
        application: &ApplicationName,
        revision: &RevisionLocation,
        description: &str,
    ) -> impl Future<Output = Result<(), ServiceError>> + Send;

    /// `CreateDeployment`, sent once: never repeated by the transport, because it has no idempotency token.
    fn create_deployment(
        &self,
        request: &DeploymentRequest,
        token: &DeploymentToken,
    ) -> impl Future<Output = Result<DeploymentId, ServiceError>> + Send;

    /// `GetDeployment`.
    fn deployment(
        &self,
        region: &Region,
        id: &DeploymentId,
    ) -> impl Future<Output = Result<DeploymentInfo, ServiceError>> + Send;

    /// The group's deployments made since then (`ListDeployments` page by page, `BatchGetDeployments`).
    fn deployments_since(
        &self,
        request: &DeploymentRequest,
        since: Timestamp,
    ) -> impl Future<Output = Result<Vec<DeploymentInfo>, ServiceError>> + Send;

    /// `GetDeploymentGroup`.
    fn deployment_group(
        &self,
        region: &Region,
        application: &ApplicationName,
        deployment_group: &DeploymentGroupName,
    ) -> impl Future<Output = Result<DeploymentGroupInfo, ServiceError>> + Send;
}

/// What is asked of CodeDeploy before anything is written.
pub trait DeploymentConfigs: Send + Sync {
    /// `GetDeploymentConfig`: whether there is one of that name.
    fn has_deployment_config(
        &self,
        region: &Region,
        name: &DeploymentConfigName,
    ) -> impl Future<Output = Result<bool, ServiceError>> + Send;
}

/// The look into a failed deployment's targets, which only `record` may take.
pub trait DeploymentTargets: Send + Sync {
    /// The targets that failed, those that failed first at the front
    /// (`ListDeploymentTargets`, `BatchGetDeploymentTargets`); at most `targets_max` are looked at.
    fn failed_targets(
        &self,
        region: &Region,
        id: &DeploymentId,
        targets_max: usize,
    ) -> impl Future<Output = Result<Vec<TargetFailure>, ServiceError>> + Send;
}

/// The id that a `DeploymentLimitExceededException` names, in either of AWS's wordings:
/// `… is already deploying deployment 'd-…'`, `… already has an active Deployment 'd-…'`.
pub fn occupant_in_limit_message(message: &str) -> Option<DeploymentId> {
    let marks = [
        "is already deploying deployment '",
        "is already deploying '",
        "already has an active Deployment '",
    ];
    marks.iter().find_map(|mark| {
        let start = message.find(mark)? + mark.len();
        message.get(start..)?.split('\'').next()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ok_a_token_is_found_again_in_the_longest_description() {
        let token: DeploymentToken = "sd-0123456789abcdef01234567".parse().unwrap();
        let text = token.describe(&"é".repeat(400));
        assert_eq!(text.chars().count(), DESCRIPTION_CHARACTERS_MAX);
        assert_eq!(DeploymentToken::in_description(&text), Some(token.clone()));
        assert_eq!(token.describe(""), format!("[{token}]"));
        assert_eq!(DeploymentToken::in_description("by hand [sd-12]"), None);
    }

    #[test]
    fn ok_both_wordings_name_the_occupant() {
        let id: DeploymentId = "d-ABC123".parse().unwrap();
        for message in [
            "Deployment group 'x' is already deploying deployment 'd-ABC123'",
            "The Deployment Group 'x' already has an active Deployment 'd-ABC123'",
        ] {
            assert_eq!(occupant_in_limit_message(message), Some(id.clone()));
        }
        assert_eq!(occupant_in_limit_message("too many"), None);
    }
}
