//! `stagedrop redeploy`: the bytes of an earlier deployment once more, by way of an object.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;
use stagedrop::aws::Aws;
use stagedrop::deployment::{ApplicationName, DeploymentGroupName, DeploymentId};
use stagedrop::destination::Staged;
use stagedrop::fault::{Retry, RetryReason};
use stagedrop::key_pattern::Build;
use stagedrop::object::{BucketName, S3Prefix};
use stagedrop::records::Records;
use stagedrop::records::group::{DropReference, EndStatus};
use stagedrop::redeployment::{Wish, WishKey, stem};
use stagedrop::revision::{NewObject, ObjectStore};

use super::follow::{DropRecord, conclude};
use super::interrupt::Interrupt;
use super::push::read_timeout;
use super::voice::{Trouble, tell};
use super::{Output, records_of, region_of};

/// Deploys the very bytes of an earlier deployment once more, to the same group or to another one that the
/// settings name for that build.
///
/// It stages a small object, as a push does, and needs no right on CodeDeploy. Exit status as for `push`.
#[derive(clap::Args)]
#[command(
    before_help = "Example: stagedrop redeploy 46 --group my-app/production --records s3://my-artifacts/records/"
)]
pub struct Arguments {
    /// A build number, a commit (seven digits or more) or a deployment's id.
    #[arg(value_name = "BUILD|COMMIT|DEPLOYMENT")]
    which: String,
    /// The group to deploy to.
    #[arg(long, value_name = "APPLICATION/GROUP")]
    group: GroupArgument,
    /// The group in whose history the build is looked for; that of --group where not given.
    #[arg(long, value_name = "APPLICATION/GROUP")]
    from: Option<GroupArgument>,
    /// Where the records are; as STAGEDROP_RECORDS says where not given.
    #[arg(long, value_name = "S3_URI")]
    records: Option<S3Prefix>,
    /// Be done once it is asked for.
    #[arg(long)]
    no_wait: bool,
    /// How long the record is followed.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = read_timeout)]
    timeout: Duration,
    /// How the outcome is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// `application/group`.
#[derive(Debug, Clone)]
struct GroupArgument {
    application: ApplicationName,
    deployment_group: DeploymentGroupName,
}

impl std::str::FromStr for GroupArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (application, group) = text
            .split_once('/')
            .ok_or("write it as application/group, such as my-app/production")?;
        Ok(Self {
            application: application.parse().map_err(|error| format!("{error}"))?,
            deployment_group: group.parse().map_err(|error| format!("{error}"))?,
        })
    }
}

/// A deployment whose revision may be deployed again.
struct Earlier {
    deployment_id: DeploymentId,
    build: Build,
    drop: DropReference,
}

/// Stages the wish and follows it.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Trouble> {
    let is_text = arguments.output == Output::Text;
    let place = records_of(arguments.records.as_ref(), None)?;
    let aws = Aws::from_environment().await;
    let region = region_of(&aws)?;
    let records = Records::new(&aws, place.clone());
    let earlier = find(&records, &arguments).await?;
    let wish_key = WishKey {
        stem: stem(&earlier.drop.staged_key),
        application: arguments.group.application.clone(),
        deployment_group: arguments.group.deployment_group.clone(),
    };
    let staged = Staged {
        bucket: bucket_of(&records, &earlier.drop).await?,
        key: wish_key.key()?,
        metadata: BTreeMap::new(),
        left_out: Vec::new(),
    };
    if is_text {
        tell(
            "build",
            &format!(
                "{}, as deployment {} had it",
                describe(&earlier.build),
                earlier.deployment_id
            ),
        );
        tell("staging", &format!("s3://{}/{}", staged.bucket, staged.key));
    }
    let record = if arguments.no_wait {
        None
    } else {
        Some(DropRecord::before_staging(&aws, &place, &staged.key).await?)
    };
    let wish = Wish {
        deployment_id: earlier.deployment_id,
        wished_at: Timestamp::now().to_string(),
    };
    let body = serde_json::to_vec(&json!(wish)).map_err(|error| error.to_string())?;
    let object = NewObject {
        region,
        bucket: staged.bucket.clone(),
        key: staged.key.clone(),
        metadata: BTreeMap::new(),
        content_type: "application/json",
        is_revision: false,
        replace: true,
    };
    let written = (&aws).put(&object, Bytes::from(body)).await?;
    let mut interrupt = Interrupt::new()?;
    conclude(
        record.as_ref(),
        &staged,
        &written,
        arguments.timeout,
        arguments.output,
        &mut interrupt,
    )
    .await
}

async fn find(records: &Records<&Aws>, arguments: &Arguments) -> Result<Earlier, Trouble> {
    let which = &arguments.which;
    if let Ok(id) = which.parse::<DeploymentId>() {
        let record = records
            .deployment(&id)
            .await
            .map_err(unread)?
            .ok_or_else(|| {
                Trouble::new(
                    format!("there is no record of deployment {id}"),
                    "correct the id; `stagedrop history` names those that are recorded",
                )
            })?;
        let (Some(build), Some(drop)) = (record.build, record.drop) else {
            return Err(Trouble::new(
                format!("deployment {id} was none of ours, so its build is not known"),
                "name a deployment that stagedrop made",
            ));
        };
        return Ok(Earlier {
            deployment_id: id,
            build,
            drop,
        });
    }
    let from = arguments.from.as_ref().unwrap_or(&arguments.group);
    let name = format!("{}/{}", from.application, from.deployment_group);
    let group = records
        .group(&from.application, &from.deployment_group)
        .await
        .map_err(unread)?
        .ok_or_else(|| {
            Trouble::new(
                format!("there is no record of deployment group {name}"),
                "say with --from in which group the build was deployed",
            )
        })?;
    let is_commit = which.len() >= 7 && which.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_it = |build: &Build| {
        let commit = build.commit.as_deref().unwrap_or_default();
        build.build_num.as_deref() == Some(which.as_str())
            || (is_commit
                && commit
                    .to_ascii_lowercase()
                    .starts_with(&which.to_ascii_lowercase()))
    };
    let live = group.live.as_ref().map(|live| {
        (
            Some(&live.deployment_id),
            live.build.as_ref(),
            live.drop.as_ref(),
            true,
        )
    });
    let outcomes = group.outcomes.iter().map(|outcome| {
        (
            outcome.deployment_id.as_ref(),
            outcome.build.as_ref(),
            outcome.drop.as_ref(),
            outcome.status == EndStatus::Succeeded,
        )
    });
    let found: Vec<(bool, Earlier)> = live
        .into_iter()
        .chain(outcomes)
        .filter_map(|(id, build, drop, is_good)| {
            let build = build.filter(|build| is_it(build))?;
            Some((
                is_good,
                Earlier {
                    deployment_id: id?.clone(),
                    build: build.clone(),
                    drop: drop?.clone(),
                },
            ))
        })
        .collect();
    // The newest that went well, else the newest: a failed one may have failed for the group's sake.
    let (good, bad): (Vec<_>, Vec<_>) = found.into_iter().partition(|(is_good, _)| *is_good);
    good.into_iter()
        .chain(bad)
        .map(|(_, earlier)| earlier)
        .next()
        .ok_or_else(|| {
            Trouble::new(
                format!("no deployment of `{which}` stands in the record of {name}"),
                "name a build, a commit or a deployment of `stagedrop history`, or say the group with --from",
            )
        })
}

/// The bucket that the build was staged in; the records' own where that is not told.
async fn bucket_of(records: &Records<&Aws>, drop: &DropReference) -> Result<BucketName, Trouble> {
    let told = records.drop(&drop.staged_key).await.map_err(unread)?;
    Ok(told.map_or_else(
        || records.place().bucket.clone(),
        |drop| drop.artifact.object.bucket,
    ))
}

fn unread(retry: Retry) -> Trouble {
    let cure = match retry.reason {
        RetryReason::AccessDenied => {
            "allow s3:GetObject on the records; of a record that is not there S3 says so too"
        }
        _ => "correct what the message names, or try again",
    };
    Trouble::new(retry.message, cure)
}

fn describe(build: &Build) -> String {
    let mut text = match &build.build_num {
        Some(build_num) => format!("{build_num}, {}", build.name().replace('`', "")),
        None => build.name().replace('`', ""),
    };
    if let Some(commit) = build.short_commit() {
        text.push_str(&format!(", commit {commit}"));
    }
    text
}
