//! What is told of a drop that is not deployed as it stands.

use super::judge::{JudgedTarget, Planned};
use crate::deployment::ComputePlatform;
use crate::finding::Finding;
use crate::key_pattern::Build;
use crate::object::{BucketName, ObjectKey};
use crate::settings::{Considered, RevisionTarget, Target};

pub(super) fn platform_mismatch(
    target: &Target,
    appspec: ComputePlatform,
    group: ComputePlatform,
) -> Finding {
    Finding::refuse(
        "platform-mismatch",
        format!(
            "AppSpec is for platform {appspec}, deployment group {}/{} is for {group}",
            target.application, target.deployment_group
        ),
        "name a group of the AppSpec's platform, or bring the right AppSpec",
    )
}

pub(super) fn nothing_to_deploy(block: &str) -> Finding {
    Finding::warn(
        "nothing-to-deploy",
        format!("deployment block `{block}` matches, and has no `codedeploy:`"),
        "add the applications to deploy, if there should be any",
    )
}

/// `file` holds the blocks, or would; `unread` says why `circle.yml` was not asked.
pub(super) fn no_match(
    build: &Build,
    considered: &[Considered],
    file: &str,
    unread: Option<&str>,
) -> Finding {
    const SHOWN_MAX: usize = 10;
    if build.branch.is_none() && build.tag.is_none() {
        return Finding::warn(
            "no-matching-deployment",
            "the build has neither a branch nor a tag, by which deployment blocks are chosen",
            "put {BRANCH} into the staging key pattern, or upload with the user metadata x-amz-meta-branch",
        );
    }
    let mut message = format!("no deployment block matches {}", build.name());
    for (index, block) in considered.iter().take(SHOWN_MAX).enumerate() {
        let join = if index == 0 { ": " } else { "; " };
        message.push_str(&format!("{join}`{}` {}", block.block, block.verdict));
    }
    if considered.is_empty() {
        message.push_str(": there is none");
    } else if considered.len() > SHOWN_MAX {
        message.push_str(&format!("; and {} more", considered.len() - SHOWN_MAX));
    }
    Finding::warn(
        "no-matching-deployment",
        message,
        match unread {
            None => "add a block for it under `deployment:`, if it should be deployed".to_owned(),
            Some(why) => format!(
                "add a block for it under `deployment:` of {file}, if it should be deployed; `circle.yml` is not read: {why}"
            ),
        },
    )
    .in_file(file)
}

/// Targets whose revisions have one key and are not the same: only one of them could be written.
pub(super) fn contested_keys(targets: &[JudgedTarget]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (n, target) in targets.iter().enumerate() {
        // Each revision of a fixed key is a version of its own.
        let own_place = place_of(target).filter(|_| !target.settings.needs_versioned_bucket());
        let Some((bucket, key)) = own_place else {
            continue;
        };
        let contests = |other: &&JudgedTarget| {
            place_of(other) == own_place && !are_one(&other.revision, &target.revision)
        };
        if let Some(other) = targets.iter().take(n).find(contests) {
            let (first, second) = (&other.settings.application, &target.settings.application);
            findings.push(Finding::refuse(
                "revision-key-taken",
                format!(
                    "applications {first} and {second} would write different revisions to s3://{bucket}/{key}"
                ),
                "put the application's name into each key pattern, behind the prefix that they share",
            ));
        }
    }
    findings
}

/// Whether one object can be both revisions.
fn are_one(one: &Planned, other: &Planned) -> bool {
    match (one, other) {
        (Planned::Archive(one), Planned::Archive(other)) => {
            one.format == other.format && one.contents.entries == other.contents.entries
        }
        (
            Planned::AppSpecFile { bytes, .. },
            Planned::AppSpecFile {
                bytes: other_bytes, ..
            },
        ) => bytes == other_bytes,
        _ => false,
    }
}

/// Bucket and key that a target's revision is written to.
fn place_of(target: &JudgedTarget) -> Option<(&BucketName, &ObjectKey)> {
    let key = match &target.revision {
        Planned::Standing(_) => return None,
        Planned::AppSpecFile { key, .. } => key,
        Planned::Archive(planned) => &planned.key,
    };
    match &target.settings.location {
        RevisionTarget::S3 { bucket, .. } => Some((bucket, key)),
        RevisionTarget::GitHub { .. } => None,
    }
}
