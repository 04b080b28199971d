//! What is told of a drop that is not deployed as it stands.

use crate::deployment::ComputePlatform;
use crate::finding::Finding;
use crate::key_pattern::Build;
use crate::settings::{Considered, Target};

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
