//! A wish to deploy once more is granted or refused.
//!
//! Granted is the pinned revision of a recorded deployment of the very build that the wish's key names, to the
//! group that it went to before or to another one that the project's settings name for that build. Nothing is
//! repackaged or checked again: these bytes were.

use super::Deploy;
use super::judge::{Judged, JudgedTarget, Planned, service_fault};
use crate::deployment::{CodeDeploy, DeploymentConfigs};
use crate::fault::Fault;
use crate::finding::Finding;
use crate::key_pattern::Build;
use crate::object::ByteRange;
use crate::records::DocumentStore;
use crate::records::deployment::DeploymentRecord;
use crate::records::drop::Drop;
use crate::redeployment::{WISH_BYTES_MAX, Wish, WishKey, stem};
use crate::revision::{MultipartUploads, ObjectStore};
use crate::settings::{self, Target};

fn refuse(code: &str, message: String, cure: &str) -> Fault {
    Fault::reject(Finding::refuse(code, message, cure))
}

impl<D: DocumentStore, S: ObjectStore + MultipartUploads, C: CodeDeploy + DeploymentConfigs>
    Deploy<D, S, C>
{
    /// Judges a wish; the drop's document gets the build and the deployment that it is about.
    pub(super) async fn judge_wish(
        &self,
        drop: &mut Drop,
        key: &WishKey,
    ) -> Result<Judged<'_, S>, Fault> {
        let wish = self.read_wish(drop).await?;
        let id = &wish.deployment_id;
        let Some(record) = self.records.deployment(id).await? else {
            return Err(refuse(
                "redeploy-deployment-unknown",
                format!("there is no record of deployment {id}"),
                "wish for a deployment that stands in the records",
            ));
        };
        let build = self.wished_build(key, &record)?;
        let Some(revision) = record.revision.clone() else {
            return Err(refuse(
                "redeploy-revision-unknown",
                format!("the record of deployment {id} names no revision"),
                "stage the build's artifact again, with the metadata redeploy=true",
            ));
        };
        let (block, target) = self.wished_target(key, &record, &build).await?;
        if target.region != record.region {
            return Err(refuse(
                "redeploy-other-region",
                format!(
                    "deployment {id} was in {}, the settings put {}/{} in {}",
                    record.region, target.application, target.deployment_group, target.region
                ),
                "stage the build's artifact again, so that its revision is written in that region",
            ));
        }
        if let (Some(found), Some(before)) =
            (self.group_platform(&target).await?, record.compute_platform)
            && found != before
        {
            return Err(refuse(
                "platform-mismatch",
                format!(
                    "deployment {id} was for platform {before:?}, group {}/{} is for {found:?}",
                    target.application, target.deployment_group
                ),
                "wish for a group of the same platform",
            ));
        }
        *drop = self
            .change_drop(drop, |drop| {
                let changed = drop.redeploys.as_ref() != Some(id);
                drop.redeploys = Some(id.clone());
                drop.build = build.clone();
                changed
            })
            .await?;
        Ok(Judged {
            block,
            targets: vec![JudgedTarget {
                settings: target,
                revision: Planned::Standing(revision),
            }],
            artifact: None,
            warnings: Vec::new(),
        })
    }

    async fn read_wish(&self, drop: &Drop) -> Result<Wish, Fault> {
        let object = &drop.artifact.object;
        let unreadable = |why: String| {
            refuse(
                "redeploy-unreadable",
                format!("`{}` is no wish to redeploy: {why}", object.key),
                "let `stagedrop redeploy` write it",
            )
        };
        if object.size > WISH_BYTES_MAX {
            return Err(unreadable(format!(
                "it has {} bytes, at most {WISH_BYTES_MAX} are read",
                object.size
            )));
        }
        let bytes = self
            .objects
            .read(object, ByteRange::new(0, object.size))
            .await
            .map_err(service_fault)?;
        serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))
    }

    /// The recorded deployment's build, where it is the one that the wish's key names.
    fn wished_build(&self, key: &WishKey, record: &DeploymentRecord) -> Result<Build, Fault> {
        let other = |why: String| {
            refuse(
                "redeploy-other-build",
                why,
                "wish under the key of the build's own artifact, as `stagedrop redeploy` does",
            )
        };
        let id = &record.deployment_id;
        let (Some(drop), Some(build)) = (&record.drop, &record.build) else {
            return Err(other(format!(
                "deployment {id} was none of ours, so its build is not known"
            )));
        };
        // Who may write under one branch's prefix must not reach another branch's builds.
        let staged = stem(&drop.staged_key);
        if staged != key.stem {
            return Err(other(format!(
                "deployment {id} is of the build staged as `{staged}`, the wish's key names `{}`",
                key.stem
            )));
        }
        if record.application != key.application {
            return Err(other(format!(
                "deployment {id} is of application {}, the wish's key names {}",
                record.application, key.application
            )));
        }
        Ok(Build {
            redeploy: true,
            ..build.clone()
        })
    }

    /// The target as the project's settings have it, else as it was deployed before.
    async fn wished_target(
        &self,
        key: &WishKey,
        record: &DeploymentRecord,
        build: &Build,
    ) -> Result<(String, Target), Fault> {
        let project = self.project_settings(build).await?;
        let named = settings::target_of(
            &project,
            build,
            &key.application,
            &key.deployment_group,
            Some(&self.region),
        )
        .map_err(Fault::Reject)?;
        if let Some(named) = named {
            return Ok(named);
        }
        if record.deployment_group == key.deployment_group {
            let config = record
                .deployment_config
                .as_deref()
                .and_then(|name| name.parse().ok());
            let options = record.options.clone().unwrap_or_default();
            let target = Target {
                order: options.order,
                queue: options.queue,
                file_exists_behavior: options.file_exists_behavior,
                ignore_application_stop_failures: options.ignore_application_stop_failures,
                update_outdated_instances_only: options.update_outdated_instances_only,
                auto_rollback: options.auto_rollback,
                ..Target::of_deployment(
                    key.application.clone(),
                    key.deployment_group.clone(),
                    record.region.clone(),
                    config,
                )
            };
            return Ok(("redeploy".to_owned(), target));
        }
        Err(refuse(
            "redeploy-group-not-allowed",
            format!(
                "no deployment block of {} names group {}/{} for {}",
                project.file,
                key.application,
                key.deployment_group,
                build.name()
            ),
            "add a block to the project's settings that deploys that branch or tag to the group",
        ))
    }
}
