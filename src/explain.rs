//! What would become of a staged artifact, without its becoming so.
//!
//! Owns the question (an artifact, its key and metadata, the settings) and the answer: which block runs and
//! why each other one does not, where each setting comes from, what goes into each revision, what it costs
//! and what CodeDeploy is asked. The answer is not a model of the `deploy` function: it is what the function
//! itself does on an AWS that takes everything and keeps nothing (`dry_run`).

mod calls;
mod dry_run;
mod report;

use std::collections::BTreeMap;

use jiff::{Timestamp, ToSpan};
use serde::Serialize;
use serde_json::{Value, json};

use self::dry_run::DryRun;
use crate::advance::Invocation;
use crate::archive::Limits;
use crate::artifact::{ArtifactError, CIRCLE_YML, OpenedArtifact};
use crate::configuration::Configuration;
use crate::contents::{self, Choice, KeptEntry};
use crate::deploy::Deploy;
use crate::deployment::Region;
use crate::finding::Finding;
use crate::journal::Journal;
use crate::key_pattern::{Build, StagingPattern};
use crate::object::{BucketName, InvalidName, S3Prefix, SourceObject};
use crate::records::Records;
use crate::records::drop::{Drop, DropStatus, DropTarget};
use crate::revision::{ObjectHead, ObjectReader};
use crate::service_error::ServiceError;
use crate::settings::{
    self, Considered, Document, Origin, RepositoryConfig, Selection, SettingsKind, Target,
};

pub use report::report;

/// What is asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// The artifact, under the key that it has or would have.
    pub object: SourceObject,
    /// Its user metadata, without `x-amz-meta-`.
    pub metadata: BTreeMap<String, String>,
    /// When it was uploaded.
    pub uploaded_at: Timestamp,
    /// How staged keys are read.
    pub staging_key_pattern: StagingPattern,
    /// The settings' name in the answer.
    pub settings_file: String,
    /// The settings.
    pub settings: Vec<u8>,
    /// Whether a `circle.yml` in the artifact is read.
    pub repository_config: RepositoryConfig,
    /// The functions' own region.
    pub region: Region,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The artifact cannot be read.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// A name that S3 does not take.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The key does not lie where artifacts are staged.
    #[error("staged key `{key}` does not lie where artifacts are staged ({pattern})")]
    NotStaged {
        /// The key.
        key: String,
        /// How staged keys are read.
        pattern: String,
    },
    /// The function would try again later.
    #[error("the function would give the event back: {message}")]
    Retried {
        /// Its words.
        message: String,
    },
}

/// What would become of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// Which build it is.
    pub build: Build,
    /// Every block that was considered, and why it runs or does not.
    pub blocks: Vec<Considered>,
    /// The drop's status, right after `deploy` is done.
    pub status: DropStatus,
    /// What is wrong, or would bite.
    pub findings: Vec<Finding>,
    /// One for each application that the block names.
    pub targets: Vec<ExplainedTarget>,
    /// How often `deploy` would make each request.
    pub requests: BTreeMap<&'static str, u64>,
    /// What CodeDeploy would be asked, in its API's JSON.
    pub calls: Vec<Value>,
    /// What was taken for granted, because only AWS knows it.
    pub assumed: Vec<String>,
}

/// What would become of one target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExplainedTarget {
    /// `application/group`.
    pub name: String,
    /// Where each effective setting comes from.
    pub settings: Vec<Origin>,
    /// Names in the revision; of a Lambda or ECS application, of what is looked at.
    pub kept: Vec<String>,
    /// Names in the artifact that stay out.
    pub left_out: Vec<String>,
    /// What the drop's record would hold of it; none where the drop would be refused.
    pub recorded: Option<DropTarget>,
}

/// Answers a question.
///
/// # Errors
/// See [`ExplainError`]; a drop that would be refused is an answer.
pub async fn explain<R: ObjectReader>(
    question: &Question,
    reader: &R,
) -> Result<Explanation, ExplainError> {
    let key = &question.object.key;
    let bucket = &question.object.bucket;
    let place = |name: &str| S3Prefix {
        bucket: bucket.clone(),
        prefix: format!("{name}/"),
    };
    let settings_place = settings_place(question)?;
    let head = ObjectHead {
        etag: question.object.etag.clone(),
        version_id: question.object.version_id.clone(),
        size: question.object.size,
        last_modified: question.uploaded_at,
        metadata: question.metadata.clone(),
    };
    let dry_run = DryRun::new(
        reader,
        &question.object,
        head,
        &settings_place,
        &question.settings,
    );
    let deploy = Deploy {
        records: Records::new(&dry_run, place("records")),
        objects: &dry_run,
        codedeploy: &dry_run,
        configuration: Configuration {
            staging_key_pattern: question.staging_key_pattern.clone(),
            settings: settings_place.clone(),
            records: place("records"),
            repository_config: question.repository_config,
            metrics: None,
        },
        region: question.region.clone(),
        limits: Limits::default(),
    };
    let now = question.uploaded_at;
    let deadline = Timestamp::now().checked_add(24.hours()).unwrap_or(now);
    let invocation = Invocation::begun("explain", deadline, Journal::default());
    let handled = Box::pin(deploy.handle(&event(question), &invocation)).await;
    handled.map_err(|retry| ExplainError::Retried {
        message: retry.message,
    })?;
    let drop = Box::pin(deploy.records.drop(key.as_str()))
        .await
        .map_err(|retry| ExplainError::Retried {
            message: retry.message,
        })?
        .ok_or_else(|| ExplainError::NotStaged {
            key: key.to_string(),
            pattern: question.staging_key_pattern.to_string(),
        })?;
    std::mem::drop(deploy);
    let asked = dry_run.into_asked();
    let mut requests = asked.requests;
    // The look at the record in the end was ours.
    if let Some(gets) = requests.get_mut("GetObject") {
        *gets = gets.saturating_sub(1);
    }
    let (blocks, targets) = selected(question, reader, &drop).await?;
    let settings_uri = format!("s3://{bucket}/{}", settings_place.prefix);
    let named = |mut finding: Finding| {
        finding.path = finding.path.map(|path| {
            if path.starts_with(&settings_uri) {
                question.settings_file.clone()
            } else {
                path
            }
        });
        finding
    };
    Ok(Explanation {
        build: drop.build,
        blocks,
        status: drop.status,
        findings: drop.findings.into_iter().map(named).collect(),
        targets,
        requests,
        calls: asked.calls,
        assumed: asked.assumed,
    })
}

/// Where the function would find the settings: somewhere that the artifact is not.
fn settings_place(question: &Question) -> Result<S3Prefix, InvalidName> {
    let bucket: BucketName = question.object.bucket.clone();
    let mut prefix = "settings/".to_owned();
    if question.object.key.as_str().starts_with(&prefix) {
        prefix = "settings-of-the-explanation/".to_owned();
    }
    Ok(S3Prefix { bucket, prefix })
}

/// The event that S3 would send.
fn event(question: &Question) -> Value {
    let object = &question.object;
    json!({
        "version": "0",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "time": question.uploaded_at.to_string(),
        "detail": {
            "bucket": { "name": object.bucket },
            "object": {
                "key": object.key,
                "size": object.size,
                "etag": object.etag,
                "version-id": object.version_id,
            },
            "reason": "PutObject",
        }
    })
}

/// What the settings say, with their reasons: the function keeps only what it acts on.
async fn selected<R: ObjectReader>(
    question: &Question,
    reader: &R,
    drop: &Drop,
) -> Result<(Vec<Considered>, Vec<ExplainedTarget>), ExplainError> {
    let file = &question.settings_file;
    let Ok(project) = settings::read(file, &question.settings, SettingsKind::Project) else {
        return Ok((Vec::new(), Vec::new()));
    };
    let opened = OpenedArtifact::open(reader, question.object.clone(), &Limits::default()).await;
    let artifact = match opened {
        Ok(artifact) => Some(artifact),
        Err(ArtifactError::Service(error)) => return Err(error.into()),
        // The function has told of it already.
        Err(_) => None,
    };
    let mut circle = None;
    if let Some(artifact) = &artifact
        && question.repository_config == RepositoryConfig::Allowed
        && project.repository_config == settings::RepositoryConfig::Allowed
    {
        circle = match circle_settings(artifact).await {
            Ok(circle) => circle,
            Err(ArtifactError::Service(error)) => return Err(error.into()),
            Err(_) => None,
        };
    }
    let selection = settings::select(
        &project,
        circle.as_ref(),
        &drop.build,
        Some(&question.region),
    );
    Ok(match selection {
        Selection::Deploy {
            targets,
            considered,
            ..
        } => {
            let explained = targets
                .iter()
                .map(|target| explain_target(target, artifact.as_ref(), drop))
                .collect();
            (considered, explained)
        }
        Selection::NothingToDeploy { considered, .. } | Selection::NoMatch { considered } => {
            (considered, Vec::new())
        }
        Selection::Refused(_) => (Vec::new(), Vec::new()),
    })
}

/// `circle.yml` at the artifact's root, where there is a good one.
async fn circle_settings<R: ObjectReader>(
    artifact: &OpenedArtifact<'_, R>,
) -> Result<Option<Document>, ArtifactError> {
    let format = artifact.index.format();
    let Some(entry) = contents::find_document(&*artifact.index, CIRCLE_YML, format) else {
        return Ok(None);
    };
    let mut found = artifact
        .contents(&[entry], artifact.document_bytes_max())
        .await?;
    Ok(found
        .remove(&entry)
        .and_then(|bytes| settings::read(CIRCLE_YML, &bytes, SettingsKind::CircleYml).ok()))
}

fn explain_target<R: ObjectReader>(
    target: &Target,
    artifact: Option<&OpenedArtifact<'_, R>>,
    drop: &Drop,
) -> ExplainedTarget {
    let mut kept_names = Vec::new();
    let mut left_out = Vec::new();
    if let Some(artifact) = artifact {
        let choice = Choice {
            application_root: target.application_root.as_prefix(),
            exclude: target.exclude.set(),
            format: artifact.index.format(),
        };
        let kept: Vec<KeptEntry> = contents::choose_contents(&*artifact.index, &choice)
            .map(|contents| contents.entries)
            .unwrap_or_default();
        let mut kept = kept.iter().peekable();
        for (position, entry) in (0_u32..).zip(artifact.index.entries()) {
            match kept.next_if(|kept| kept.index == position) {
                Some(kept) => kept_names.push(text(kept.name(&entry))),
                None => left_out.push(text(entry.name)),
            }
        }
    }
    ExplainedTarget {
        name: format!("{}/{}", target.application, target.deployment_group),
        settings: target.origins.clone(),
        kept: kept_names,
        left_out,
        recorded: drop
            .target(&target.application, &target.deployment_group)
            .cloned(),
    }
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
