//! Revisions: where they lie, whether they exist, and the register of each application.
//!
//! Two locations are the same revision only where all members are equal, ETag and version
//! included: a caller that registers one tuple and deploys another is told that it does not exist.

use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::CodeDeploy;
use super::input::{ApiError, Input, page};
use super::state::{Platform, State, millis, seconds};
use crate::object::{BucketName, ObjectKey};

/// `RevisionLocation`, one of its kinds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "revisionType")]
pub enum Revision {
    /// An object in S3.
    S3 {
        /// Where it lies.
        #[serde(rename = "s3Location")]
        s3_location: S3Location,
    },
    /// A commit on GitHub.
    GitHub {
        /// Which commit.
        #[serde(rename = "gitHubLocation")]
        git_hub_location: GitHubLocation,
    },
    /// An AppSpec file given in the request (Lambda and ECS).
    AppSpecContent {
        /// The file.
        #[serde(rename = "appSpecContent")]
        app_spec_content: AppSpecContent,
    },
}

/// `S3Location`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct S3Location {
    /// Bucket.
    pub bucket: String,
    /// Key.
    pub key: String,
    /// `zip`, `tgz`, `tar`, `YAML` or `JSON`.
    pub bundle_type: String,
    /// Version, where pinned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// ETag without quotes, where pinned.
    #[serde(rename = "eTag", skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

/// `GitHubLocation`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GitHubLocation {
    /// `owner/name`.
    pub repository: String,
    /// The commit.
    pub commit_id: String,
}

/// `AppSpecContent`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AppSpecContent {
    /// The file's text; never told by `GetDeployment`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// SHA-256 of the text, hexadecimal.
    pub sha256: String,
}

impl Revision {
    pub(super) fn parse(input: Input<'_>) -> Result<Self, ApiError> {
        let Some(revision) = input.structure("revision")? else {
            return Err(ApiError::new(
                "RevisionRequiredException",
                "Revision is required",
            ));
        };
        Self::parse_location(revision)
    }

    fn parse_location(revision: Input<'_>) -> Result<Self, ApiError> {
        let kind = revision.text("revisionType")?;
        let one = ["s3Location", "gitHubLocation", "string", "appSpecContent"]
            .iter()
            .filter(|name| revision.raw(name).is_some())
            .count();
        if one != 1 {
            return Err(invalid(format!(
                "Revision must have exactly one location, it has {one}"
            )));
        }
        match kind {
            Some("S3") => {
                let location = revision
                    .structure("s3Location")?
                    .ok_or_else(|| missing("s3Location"))?;
                Ok(Self::S3 {
                    s3_location: S3Location::parse(location)?,
                })
            }
            Some("GitHub") => {
                let location = revision
                    .structure("gitHubLocation")?
                    .ok_or_else(|| missing("gitHubLocation"))?;
                let (repository, commit) =
                    (location.text("repository")?, location.text("commitId")?);
                let repository = repository.filter(|text| {
                    let mut parts = text.split('/');
                    matches!((parts.next(), parts.next(), parts.next()), (Some(owner), Some(name), None)
                        if !owner.is_empty() && !name.is_empty())
                });
                let repository =
                    repository.ok_or_else(|| invalid("GitHub repository is not owner/name"))?;
                let commit = commit
                    .filter(|text| !text.is_empty())
                    .ok_or_else(|| missing("commitId"))?;
                Ok(Self::GitHub {
                    git_hub_location: GitHubLocation {
                        repository: repository.to_owned(),
                        commit_id: commit.to_owned(),
                    },
                })
            }
            Some("AppSpecContent") => {
                let given = revision
                    .structure("appSpecContent")?
                    .ok_or_else(|| missing("appSpecContent"))?;
                let content = given.text("content")?.ok_or_else(|| missing("content"))?;
                let digest = Sha256::digest(content.as_bytes());
                let sha256: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
                if given
                    .text("sha256")?
                    .is_some_and(|told| !told.eq_ignore_ascii_case(&sha256))
                {
                    return Err(invalid("sha256 does not match the AppSpec's content"));
                }
                Ok(Self::AppSpecContent {
                    app_spec_content: AppSpecContent {
                        content: Some(content.to_owned()),
                        sha256,
                    },
                })
            }
            Some(other) => Err(invalid(format!("Revision type {other} is not supported"))),
            None => Err(missing("revisionType")),
        }
    }

    /// The revision as `GetDeployment` tells it: without an inline AppSpec's text.
    pub(super) fn told(&self) -> Value {
        let mut value = json!(self);
        if let Some(content) = value.pointer_mut("/appSpecContent/content") {
            *content = Value::Null;
        }
        value
    }

    /// Whether this platform can deploy it.
    pub(super) fn fits(&self, platform: Platform) -> Result<(), ApiError> {
        let bundle_type = match self {
            Self::S3 { s3_location } => s3_location.bundle_type.as_str(),
            Self::GitHub { .. } => "GitHub",
            Self::AppSpecContent { .. } => "AppSpecContent",
        };
        let fits = match platform {
            Platform::Server => ["zip", "tgz", "tar", "GitHub"].contains(&bundle_type),
            Platform::Lambda | Platform::Ecs => {
                ["YAML", "JSON", "zip", "tgz", "AppSpecContent"].contains(&bundle_type)
            }
        };
        if fits {
            return Ok(());
        }
        Err(invalid(format!(
            "A revision of type {bundle_type} cannot be deployed to the {platform} compute platform"
        )))
    }
}

impl S3Location {
    fn parse(location: Input<'_>) -> Result<Self, ApiError> {
        let bucket = location.text("bucket")?.ok_or_else(|| missing("bucket"))?;
        let key = location.text("key")?.ok_or_else(|| missing("key"))?;
        let bundle_type = location
            .text("bundleType")?
            .ok_or_else(|| missing("bundleType"))?;
        if bucket.parse::<BucketName>().is_err() || key.parse::<ObjectKey>().is_err() {
            return Err(invalid(format!(
                "s3://{bucket}/{key} is not a valid S3 location"
            )));
        }
        if !["zip", "tgz", "tar", "YAML", "JSON"].contains(&bundle_type) {
            return Err(invalid(format!(
                "Bundle type {bundle_type} is not supported"
            )));
        }
        let etag = location.text("eTag")?.filter(|text| !text.is_empty());
        // What AWS does with quotes is not documented; here they are refused, so that nobody relies on it.
        if etag.is_some_and(|etag| etag.contains('"')) {
            return Err(invalid("eTag must stand without quotes"));
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            bundle_type: bundle_type.to_owned(),
            version: location
                .text("version")?
                .filter(|text| !text.is_empty())
                .map(str::to_owned),
            etag: etag.map(str::to_owned),
        })
    }
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new("InvalidRevisionException", message)
}

fn missing(member: &str) -> ApiError {
    invalid(format!("Revision lacks {member}"))
}

/// A revision in an application's register.
#[derive(Debug, Clone)]
pub(super) struct Registered {
    pub(super) revision: Revision,
    pub(super) description: Option<String>,
    pub(super) registered: i64,
    pub(super) first_used: Option<i64>,
    pub(super) last_used: Option<i64>,
}

impl State {
    /// Enters a revision; a second time renews its description alone.
    pub(super) fn register(
        &mut self,
        application: &str,
        revision: &Revision,
        description: Option<&str>,
    ) -> Result<(), ApiError> {
        let application = self.application_mut(application)?;
        match application
            .revisions
            .iter_mut()
            .find(|known| known.revision == *revision)
        {
            Some(known) => {
                if let Some(description) = description {
                    known.description = Some(description.to_owned());
                }
            }
            None => application.revisions.push(Registered {
                revision: revision.clone(),
                description: description.map(str::to_owned),
                registered: millis(),
                first_used: None,
                last_used: None,
            }),
        }
        Ok(())
    }

    fn revision_info(&self, application: &str, known: &Registered) -> Result<Value, ApiError> {
        let groups: Vec<&str> = self
            .application(application)?
            .groups
            .values()
            .filter(|group| group.target_revision.as_ref() == Some(&known.revision))
            .map(|group| group.name.as_str())
            .collect();
        Ok(json!({
            "description": known.description,
            "deploymentGroups": groups,
            "registerTime": seconds(known.registered),
            "firstUsedTime": known.first_used.map(seconds),
            "lastUsedTime": known.last_used.map(seconds),
        }))
    }
}

impl CodeDeploy {
    pub(super) fn register_application_revision(
        &self,
        input: Input<'_>,
    ) -> Result<Value, ApiError> {
        let application = input.application_name()?;
        let mut state = self.state();
        let platform = state.application(application)?.platform;
        let description = input.description()?;
        let revision = Revision::parse(input)?;
        revision.fits(platform)?;
        state.register(application, &revision, description)?;
        Ok(Value::Null)
    }

    pub(super) fn get_application_revision(&self, input: Input<'_>) -> Result<Value, ApiError> {
        let application = input.application_name()?;
        let state = self.state();
        let known_revisions = &state.application(application)?.revisions;
        let revision = Revision::parse(input)?;
        let known = known_revisions
            .iter()
            .find(|known| known.revision == revision)
            .ok_or_else(|| does_not_exist(&revision))?;
        Ok(json!({
            "applicationName": application,
            "revision": known.revision,
            "revisionInfo": state.revision_info(application, known)?,
        }))
    }

    pub(super) fn batch_get_application_revisions(
        &self,
        input: Input<'_>,
    ) -> Result<Value, ApiError> {
        let application = input.application_name()?;
        let state = self.state();
        let known_revisions = &state.application(application)?.revisions;
        let asked = input
            .raw("revisions")
            .and_then(Value::as_array)
            .filter(|list| !list.is_empty());
        let asked = asked
            .ok_or_else(|| ApiError::new("RevisionRequiredException", "Revision is required"))?;
        if asked.len() > super::input::BATCH_MAX {
            return Err(super::input_batch_exceeded(asked.len()));
        }
        let mut revisions = Vec::new();
        for location in asked {
            let revision = Revision::parse_location(Input::new(location)?)?;
            if let Some(known) = known_revisions
                .iter()
                .find(|known| known.revision == revision)
            {
                let info = state.revision_info(application, known)?;
                revisions.push(
                    json!({ "revisionLocation": known.revision, "genericRevisionInfo": info }),
                );
            }
        }
        Ok(json!({ "applicationName": application, "revisions": revisions }))
    }

    pub(super) fn list_application_revisions(&self, input: Input<'_>) -> Result<Value, ApiError> {
        let application = input.application_name()?;
        let state = self.state();
        let mut revisions: Vec<&Registered> =
            state.application(application)?.revisions.iter().collect();
        let bucket = input.text("s3Bucket")?;
        let prefix = input.text("s3KeyPrefix")?;
        if prefix.is_some() && bucket.is_none() {
            return Err(ApiError::new(
                "BucketNameFilterRequiredException",
                "A bucket name is required",
            ));
        }
        if let Some(bucket) = bucket {
            revisions.retain(|known| {
                matches!(&known.revision, Revision::S3 { s3_location }
                    if s3_location.bucket == bucket && s3_location.key.starts_with(prefix.unwrap_or_default()))
            });
        }
        let targeted = |known: &Registered| {
            state.application(application).is_ok_and(|application| {
                application
                    .groups
                    .values()
                    .any(|group| group.target_revision.as_ref() == Some(&known.revision))
            })
        };
        match input.text("deployed")? {
            None | Some("ignore") => {}
            Some("include") => revisions.retain(|known| targeted(known)),
            Some("exclude") => revisions.retain(|known| !targeted(known)),
            Some(other) => {
                let message = format!("Deployed state filter {other} is not supported");
                return Err(ApiError::new(
                    "InvalidDeployedStateFilterException",
                    message,
                ));
            }
        }
        match input.text("sortBy")? {
            None | Some("registerTime") => revisions.sort_by_key(|known| known.registered),
            Some("firstUsedTime") => revisions.sort_by_key(|known| known.first_used),
            Some("lastUsedTime") => revisions.sort_by_key(|known| known.last_used),
            Some(other) => {
                return Err(ApiError::new(
                    "InvalidSortByException",
                    format!("Cannot sort by {other}"),
                ));
            }
        }
        match input.text("sortOrder")? {
            None | Some("ascending") => {}
            Some("descending") => revisions.reverse(),
            Some(other) => {
                return Err(ApiError::new(
                    "InvalidSortOrderException",
                    format!("Sort order {other} is not supported"),
                ));
            }
        }
        let locations = revisions.into_iter().map(|known| known.revision.told());
        let (page, next) = page(
            locations,
            input.text("nextToken")?,
            self.options().page_size,
        )?;
        Ok(json!({ "revisions": page, "nextToken": next }))
    }
}

pub(super) fn does_not_exist(revision: &Revision) -> ApiError {
    let text = match revision {
        Revision::S3 { s3_location } => format!(
            "No revision found: s3://{}/{} version {} eTag {}",
            s3_location.bucket,
            s3_location.key,
            s3_location.version.as_deref().unwrap_or("(none)"),
            s3_location.etag.as_deref().unwrap_or("(none)"),
        ),
        Revision::GitHub { git_hub_location } => {
            format!(
                "No revision found: {} {}",
                git_hub_location.repository, git_hub_location.commit_id
            )
        }
        Revision::AppSpecContent { app_spec_content } => {
            format!("No revision found: {}", app_spec_content.sha256)
        }
    };
    ApiError::new("RevisionDoesNotExistException", text)
}
