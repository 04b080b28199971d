//! What is to be deployed, and whether it may be: settings, contents, AppSpec and bundle check of every
//! target, before anything is written or registered.
//!
//! All targets are judged before the first one is shipped: one bad bundle refuses the drop as a whole.

use std::pin::pin;

use futures_util::future::{Either, maybe_done, select};

use super::Deploy;
use super::findings::{contested_keys, no_match, nothing_to_deploy, platform_mismatch};
use crate::archive::ArchiveFormat;
use crate::archive::gzip::GzipError;
use crate::artifact::{ArtifactError, CIRCLE_YML, OpenedArtifact};
use crate::bundle_check::Options;
use crate::contents::{self, Choice, Contents, KeptName};
use crate::deployment::{
    BundleType, CodeDeploy, CommitId, ComputePlatform, DeploymentConfigs, RevisionLocation,
};
use crate::fault::{Fault, Retry, RetryReason};
use crate::finding::Finding;
use crate::key_pattern::Build;
use crate::object::{BucketName, ObjectKey, S3Prefix, SourceObject};
use crate::records::DocumentStore;
use crate::revision::{MultipartUploads, ObjectReader, ObjectStore};
use crate::service_error::{Kind, ServiceError};
use crate::settings::{
    self, BundleChoice, Document, RepositoryConfig, RevisionTarget, Selection, SettingsKind, Target,
};

/// Settings of artifacts whose staging pattern has no `{PROJECT}`.
const DEFAULT_PROJECT: &str = "default";
/// Bytes of a settings file.
const SETTINGS_BYTES_MAX: u64 = 256 << 10;

/// What the settings and the artifact come to.
pub(super) enum Judgement<'a, S> {
    /// Nothing is to be deployed; the findings say why.
    Ignore(Vec<Finding>),
    /// These targets.
    Deploy(Box<Judged<'a, S>>),
}

/// Targets that may be shipped.
pub(super) struct Judged<'a, S> {
    /// The deployment block that matched.
    pub block: String,
    /// Its targets.
    pub targets: Vec<JudgedTarget>,
    /// The artifact, where it had to be opened.
    pub artifact: Option<OpenedArtifact<'a, S>>,
    /// What would bite.
    pub warnings: Vec<Finding>,
}

/// One target that may be shipped.
pub(super) struct JudgedTarget {
    /// What the settings say.
    pub settings: Target,
    /// What the revision will be.
    pub revision: Planned,
}

/// What a revision will be.
pub(super) enum Planned {
    /// A commit on GitHub, or the revision of an earlier deployment: nothing is written.
    Standing(RevisionLocation),
    /// An AppSpec file of Lambda or ECS.
    AppSpecFile {
        /// The key that it gets.
        key: ObjectKey,
        /// Its bytes.
        bytes: Vec<u8>,
        /// YAML or JSON.
        bundle_type: BundleType,
        /// Entries of the artifact that are left out.
        left_out: usize,
    },
    /// An archive of what is kept.
    Archive(PlannedArchive),
}

/// A revision that is an archive.
pub(super) struct PlannedArchive {
    /// The key that it gets.
    pub key: ObjectKey,
    /// What is kept.
    pub contents: Contents,
    /// Its format.
    pub format: ArchiveFormat,
    /// Whether everything is kept under its own name, in the artifact's format.
    pub is_unchanged: bool,
}

impl<D: DocumentStore, S: ObjectStore + MultipartUploads, C: CodeDeploy + DeploymentConfigs>
    Deploy<D, S, C>
{
    /// Judges everything that a drop asks for.
    pub(super) async fn judge(
        &self,
        object: &SourceObject,
        build: &Build,
    ) -> Result<Judgement<'_, S>, Fault> {
        // Most drops want the artifact whatever the settings say, and it takes longer to come than they do.
        let mut opening = pin!(maybe_done(self.open(object)));
        let reading = self.project_settings(build);
        let project = if self.configuration.repository_config == RepositoryConfig::Ignored {
            reading.await?
        } else {
            beside(reading, opening.as_mut()).await?
        };
        let mut artifact = None;
        let mut circle = None;
        let unread = [
            (
                self.configuration.repository_config,
                "the functions have `STAGEDROP_REPOSITORY_CONFIG=ignored`",
            ),
            (
                project.repository_config,
                "the settings say `repository_config: ignored`",
            ),
        ]
        .into_iter()
        .find(|(config, _)| *config == RepositoryConfig::Ignored)
        .map(|(_, why)| why);
        if unread.is_none() {
            opening.as_mut().await;
            artifact = opening.as_mut().take_output().transpose()?;
        }
        if let Some(opened) = &artifact {
            circle = circle_settings(opened, self.limits.document_bytes_max).await?;
        }
        let selection = settings::select(&project, circle.as_ref(), build, Some(&self.region));
        let (block, targets, mut warnings) = match selection {
            Selection::Deploy {
                block,
                targets,
                warnings,
                ..
            } => (block, targets, warnings),
            Selection::NothingToDeploy {
                block,
                mut warnings,
                ..
            } => {
                warnings.insert(0, nothing_to_deploy(&block));
                return Ok(Judgement::Ignore(warnings));
            }
            Selection::NoMatch { considered } => {
                let file = considered
                    .first()
                    .map_or(project.file.as_str(), |block| block.file.as_str());
                return Ok(Judgement::Ignore(vec![no_match(
                    build,
                    &considered,
                    file,
                    unread,
                )]));
            }
            Selection::Refused(findings) => return Err(Fault::Reject(findings)),
        };
        let needs_archive = targets
            .iter()
            .any(|target| matches!(target.location, RevisionTarget::S3 { .. }));
        if artifact.is_none() && needs_archive {
            opening.as_mut().await;
            artifact = opening.as_mut().take_output().transpose()?;
        }
        let mut judged = Vec::new();
        let mut refusals = Vec::new();
        for target in targets {
            match self
                .judge_target(object, build, target, artifact.as_ref(), &mut warnings)
                .await
            {
                Ok(target) => judged.push(target),
                Err(Fault::Reject(findings)) => {
                    refusals.extend(
                        findings
                            .into_iter()
                            .filter(|finding| !refusals.contains(finding))
                            .collect::<Vec<_>>(),
                    );
                }
                Err(retry) => return Err(retry),
            }
        }
        refusals.extend(contested_keys(&judged));
        if !refusals.is_empty() {
            refusals.extend(warnings);
            return Err(Fault::Reject(refusals));
        }
        Ok(Judgement::Deploy(Box::new(Judged {
            block,
            targets: judged,
            artifact,
            warnings,
        })))
    }

    /// The project's settings.
    pub(super) async fn project_settings(&self, build: &Build) -> Result<Document, Fault> {
        let project = build.project.as_deref().unwrap_or(DEFAULT_PROJECT);
        let place = &self.configuration.settings;
        let key = place.key(&format!("{project}.yml")).map_err(|error| {
            Fault::reject(Finding::refuse(
                "settings-missing",
                error.to_string(),
                "use a shorter project name",
            ))
        })?;
        let uri = format!("s3://{}/{key}", place.bucket);
        let stored = match self
            .records
            .store()
            .get(&place.bucket, &key, SETTINGS_BYTES_MAX)
            .await
        {
            Ok(stored) => stored,
            Err(error) if error.has_code("EntityTooLarge") => {
                return Err(Fault::reject(
                    Finding::refuse(
                        "settings-too-large",
                        error.message,
                        "keep the settings below 256 KiB",
                    )
                    .in_file(uri),
                ));
            }
            Err(error) => return Err(error.into()),
        };
        let Some(stored) = stored else {
            return Err(Fault::reject(
                Finding::refuse(
                    "settings-missing",
                    format!("project `{project}` has no settings"),
                    format!(
                        "put the settings of the project at {uri}; they say what is deployed where"
                    ),
                )
                .in_file(uri),
            ));
        };
        settings::read(&uri, &stored.bytes, SettingsKind::Project).map_err(Fault::Reject)
    }

    async fn open(&self, object: &SourceObject) -> Result<OpenedArtifact<'_, S>, Fault> {
        OpenedArtifact::open(&self.objects, object.clone(), &self.limits)
            .await
            .map_err(artifact_fault)
    }

    async fn judge_target(
        &self,
        object: &SourceObject,
        build: &Build,
        target: Target,
        artifact: Option<&OpenedArtifact<'_, S>>,
        warnings: &mut Vec<Finding>,
    ) -> Result<JudgedTarget, Fault> {
        let (bucket, key_pattern) = match &target.location {
            RevisionTarget::GitHub { .. } => {
                self.group_platform(&target).await?;
                let revision = Planned::Standing(github_revision(&target, build)?);
                return Ok(JudgedTarget {
                    settings: target,
                    revision,
                });
            }
            RevisionTarget::S3 {
                bucket,
                key_pattern,
            } => (bucket, key_pattern),
        };
        let key = key_pattern
            .expand(build)
            .map_err(|error| Fault::reject(error.finding()))?;
        self.check_place(object, bucket, &key)?;
        if target.needs_versioned_bucket()
            && !self
                .objects
                .is_versioned(bucket, &target.region)
                .await
                .map_err(|error| bucket_fault(error, bucket))?
        {
            return Err(Fault::reject(Finding::refuse(
                "key-pattern-not-unique",
                format!(
                    "key pattern `{key_pattern}` gives every build the same key, and bucket {bucket} keeps no versions"
                ),
                "put {COMMIT}, {SHORT_COMMIT} or {BUILD_NUM} into the key pattern, or switch versioning on",
            )));
        }
        let Some(artifact) = artifact else {
            return Err(Retry {
                reason: RetryReason::Internal,
                message: "artifact was not opened".to_owned(),
            }
            .into());
        };
        let choice = Choice {
            application_root: target.application_root.as_prefix(),
            exclude: target.exclude.set(),
            format: artifact.index.format(),
        };
        let contents =
            contents::choose_contents(&*artifact.index, &choice).map_err(Fault::Reject)?;
        let format = bundle_format(target.bundle_type, artifact.index.format());
        let is_unchanged = format == artifact.index.format()
            && contents.entries.len() == artifact.index.len()
            && contents
                .entries
                .iter()
                .all(|kept| kept.name == KeptName::Suffix { skip: 0 });
        let options = options_of(&target, format);
        let checking = artifact.check(&contents, &options);
        let (checked, found) = futures_util::join!(checking, self.group_platform(&target));
        let (appspec, report) = checked.map_err(artifact_fault)?;
        let refuses = report.findings.iter().any(Finding::refuses);
        let Some((appspec, bytes)) = appspec.filter(|_| !refuses) else {
            return Err(Fault::Reject(report.findings));
        };
        for finding in report.findings {
            if !warnings.contains(&finding) {
                warnings.push(finding);
            }
        }
        let platform = appspec.platform();
        if let Some(found) = found?
            && platform != found
        {
            return Err(Fault::reject(platform_mismatch(&target, platform, found)));
        }
        let revision = if platform == ComputePlatform::Server {
            if target.bundle_type == BundleChoice::AsIs && !is_unchanged {
                return Err(Fault::reject(Finding::refuse(
                    "bundle-type-as-is",
                    format!(
                        "`bundle_type: as_is` takes the artifact as it stands, but {} of its {} entries are left out or renamed",
                        artifact.index.len()
                            - contents
                                .entries
                                .iter()
                                .filter(|kept| kept.name == KeptName::Suffix { skip: 0 })
                                .count(),
                        artifact.index.len()
                    ),
                    "use `bundle_type: zip`, `tgz` or `tar`, or build an artifact that needs no change",
                )));
            }
            Planned::Archive(PlannedArchive {
                key,
                contents,
                format,
                is_unchanged,
            })
        } else {
            Planned::AppSpecFile {
                key,
                bytes,
                bundle_type: if appspec.is_json {
                    BundleType::Json
                } else {
                    BundleType::Yaml
                },
                left_out: artifact.index.len().saturating_sub(1),
            }
        };
        Ok(JudgedTarget {
            settings: target,
            revision,
        })
    }

    /// Refuses a revision's key where writing it would start another drop, or would write over what the
    /// functions themselves rely on.
    fn check_place(
        &self,
        object: &SourceObject,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> Result<(), Fault> {
        let text = key.as_str();
        let lies_in = |place: &S3Prefix| place.bucket == *bucket && text.starts_with(&place.prefix);
        let staging = &self.configuration.staging_key_pattern;
        let prefix = staging.static_prefix();
        let is_staged = *bucket == object.bucket
            && (staging.read(text).is_some() || (!prefix.is_empty() && text.starts_with(prefix)));
        if is_staged {
            return Err(Fault::reject(Finding::refuse(
                "revision-key-is-staged",
                format!(
                    "revision key `{key}` lies where artifacts are staged ({staging}), so that writing it would start another drop"
                ),
                "use a key pattern outside of the staging prefix",
            )));
        }
        let settings = &self.configuration.settings;
        let is_settings = lies_in(settings)
            && (!settings.prefix.is_empty() || (!text.contains('/') && text.ends_with(".yml")));
        if is_settings || lies_in(self.records.place()) {
            return Err(Fault::reject(Finding::refuse(
                "revision-key-reserved",
                format!(
                    "revision key `{key}` in bucket {bucket} lies under the settings or the records"
                ),
                "use a key pattern, or a bucket, that holds nothing but revisions",
            )));
        }
        Ok(())
    }
}

/// Awaits the first, while the second goes on as far as it comes.
async fn beside<F: Future>(first: F, second: impl Future<Output = ()> + Unpin) -> F::Output {
    match select(pin!(first), second).await {
        Either::Left((output, _)) => output,
        Either::Right(((), first)) => first.await,
    }
}

/// `circle.yml` at the artifact's root, where there is one.
async fn circle_settings<S: ObjectReader>(
    artifact: &OpenedArtifact<'_, S>,
    bytes_max: u64,
) -> Result<Option<Document>, Fault> {
    let Some(entry) =
        contents::find_document(&*artifact.index, CIRCLE_YML, artifact.index.format())
    else {
        return Ok(None);
    };
    let mut found = artifact
        .contents(&[entry], bytes_max)
        .await
        .map_err(artifact_fault)?;
    match found.remove(&entry) {
        Some(bytes) => settings::read(CIRCLE_YML, &bytes, SettingsKind::CircleYml)
            .map(Some)
            .map_err(Fault::Reject),
        None => Ok(None),
    }
}

/// What trouble with an artifact means for its drop.
pub(super) fn artifact_fault(error: ArtifactError) -> Fault {
    match error {
        ArtifactError::Service(error) => service_fault(error),
        ArtifactError::Interrupted => Fault::retry(
            RetryReason::Internal,
            ArtifactError::Interrupted.to_string(),
        ),
        ArtifactError::Gzip(error @ GzipError::Changed { .. }) => {
            Fault::retry(RetryReason::ArtifactChanged, error.to_string())
        }
        other => Fault::reject(other.finding()),
    }
}

/// S3's trouble with the bucket of revisions; one that is not there is the settings' fault.
pub(super) fn bucket_fault(error: ServiceError, bucket: &BucketName) -> Fault {
    if error.has_code("NoSuchBucket") || (error.kind == Kind::NotFound && error.code.is_none()) {
        return Fault::reject(Finding::refuse(
            "revision-bucket-missing",
            format!("bucket {bucket}, which revisions go to, does not exist"),
            "create the bucket, or correct `bucket` in `revision_location` of the settings",
        ));
    }
    if error.is_elsewhere() {
        return Fault::reject(Finding::refuse(
            "revision-bucket-elsewhere",
            format!(
                "bucket {bucket}, which revisions go to, is in another region than the application"
            ),
            "use a bucket of the application's region, or correct `region` in the settings",
        ));
    }
    error.into()
}

/// S3's trouble while the artifact is read; a failed condition means that it was replaced.
pub(super) fn service_fault(error: ServiceError) -> Fault {
    match error.kind {
        Kind::PreconditionFailed | Kind::NotFound => Fault::retry(
            RetryReason::ArtifactChanged,
            format!("the artifact was replaced or deleted meanwhile: {error}"),
        ),
        _ => error.into(),
    }
}

fn bundle_format(choice: BundleChoice, artifact: ArchiveFormat) -> ArchiveFormat {
    match choice {
        BundleChoice::Zip => ArchiveFormat::Zip,
        BundleChoice::Tgz => ArchiveFormat::TarGz,
        BundleChoice::Tar => ArchiveFormat::Tar,
        BundleChoice::AsIs => artifact,
    }
}

/// CodeDeploy's word for a format.
pub(super) fn bundle_type(format: ArchiveFormat) -> BundleType {
    match format {
        ArchiveFormat::Zip => BundleType::Zip,
        ArchiveFormat::TarGz => BundleType::Tgz,
        ArchiveFormat::Tar => BundleType::Tar,
    }
}

fn options_of(target: &Target, format: ArchiveFormat) -> Options {
    Options {
        ignore_application_stop_failures: target.ignore_application_stop_failures == Some(true),
        update_outdated_instances_only: target.update_outdated_instances_only == Some(true),
        file_exists_behavior: target.file_exists_behavior,
        bundle_type: Some(bundle_type(format)),
    }
}

fn github_revision(target: &Target, build: &Build) -> Result<RevisionLocation, Fault> {
    let named = match &target.location {
        RevisionTarget::GitHub { repository } => repository.clone(),
        RevisionTarget::S3 { .. } => None,
    };
    let repository = named.or_else(|| build.repository.as_deref()?.parse().ok()).ok_or_else(|| {
        Fault::reject(Finding::refuse(
            "github-repository-missing",
            "a GitHub revision needs a repository, and neither settings nor build name one",
            "set `repository: owner/name` in the settings, or upload the artifact with the user metadata x-amz-meta-repository",
        ))
    })?;
    let commit: Option<CommitId> = build
        .commit
        .as_deref()
        .and_then(|commit| commit.parse().ok());
    let commit_id = commit.filter(|commit| commit.as_str().len() >= 40).ok_or_else(|| {
        Fault::reject(Finding::refuse(
            "github-commit-missing",
            "a GitHub revision needs the whole commit, 40 hexadecimal digits",
            "upload the artifact with the user metadata x-amz-meta-commit, or use {COMMIT} in the staging key",
        ))
    })?;
    Ok(RevisionLocation::GitHub {
        repository,
        commit_id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn err_a_bucket_that_is_not_there_or_elsewhere_is_the_settings_fault() {
        for (code, expected) in [
            (Some("NoSuchBucket"), "revision-bucket-missing"),
            (None, "revision-bucket-missing"),
            (Some("PermanentRedirect"), "revision-bucket-elsewhere"),
            (
                Some("AuthorizationHeaderMalformed"),
                "revision-bucket-elsewhere",
            ),
        ] {
            let error = ServiceError {
                operation: "PutObject",
                resource: "s3://revisions/a".to_owned(),
                kind: Kind::NotFound,
                code: code.map(str::to_owned),
                message: String::new(),
            };
            let fault = bucket_fault(error, &"revisions".parse().unwrap());
            let Fault::Reject(findings) = fault else {
                panic!("{fault:?}")
            };
            assert_eq!(findings[0].code, expected);
        }
    }
}
