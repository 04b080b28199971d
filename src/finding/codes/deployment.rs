//! Codes about the build, the settings, and what CodeDeploy and S3 make of them.

use super::{Code, refuse, warn};

/// The rows about the staged object and its build.
pub(super) const BUILD: &[Code] = &[
    warn(
        "staging-key-unknown",
        "the staged key does not fit the staging key pattern, so nobody knows which build it is",
        "upload under a key that fits the pattern, with `.zip`, `.tar.gz`, `.tgz` or `.tar` at its end",
    ),
    refuse(
        "build-branch-invalid",
        "the branch is too long or has control characters",
        "upload with a valid name, in the key or in x-amz-meta-branch",
    ),
    refuse(
        "build-tag-invalid",
        "the tag is too long or has control characters",
        "upload with a valid name, in the key or in x-amz-meta-tag",
    ),
    refuse(
        "build-commit-invalid",
        "the commit is not 7 to 64 hexadecimal digits",
        "upload with the commit's digits, in the key or in x-amz-meta-commit",
    ),
    refuse(
        "build-num-invalid",
        "the build number is too long or has control characters",
        "upload with a valid number, in the key or in x-amz-meta-build-num",
    ),
    refuse(
        "build-repository-invalid",
        "the repository is not `owner/name`",
        "upload with `owner/name`, in the key or in x-amz-meta-repository",
    ),
    refuse(
        "build-author-invalid",
        "x-amz-meta-author is too long or has control characters",
        "upload with a valid name, or without it",
    ),
    refuse(
        "build-url-invalid",
        "x-amz-meta-build-url is too long or has control characters",
        "upload with a valid address, or without it",
    ),
    refuse(
        "build-redeploy-invalid",
        "x-amz-meta-redeploy is neither `true` nor `false`",
        "upload with `true`, or without it",
    ),
    warn(
        "build-metadata-overruled",
        "key and metadata say different things; the key was used",
        "let the uploader say the same in both",
    ),
    warn(
        "build-tag-unpinned",
        "the metadata make a tag's build of what the key calls a branch",
        "put {TAG} into the staging key pattern, where not every uploader may build tags",
    ),
    refuse(
        "drop-abandoned",
        "nobody finished the drop within seven hours",
        "look for the error in the failure queue, cure it, and redrive it or upload again",
    ),
    refuse(
        "queue-full",
        "a thousand builds wait for the deployment group already",
        "find out why the group is busy, or use `queue: newest`",
    ),
];

/// The rows about settings files and `circle.yml`.
pub(super) const SETTINGS: &[Code] = &[
    refuse(
        "settings-missing",
        "the project has no settings file",
        "put it where the finding says",
    ),
    refuse(
        "settings-too-large",
        "the settings file is larger than is read",
        "keep the settings below 256 KiB",
    ),
    refuse(
        "settings-unreadable",
        "the file is not one YAML document within the limits",
        "correct the YAML there",
    ),
    refuse(
        "settings-unknown-key",
        "a key is none that is known there",
        "correct it, or take it out",
    ),
    refuse(
        "settings-duplicate-key",
        "a key stands twice in one mapping",
        "remove one of the two",
    ),
    refuse(
        "settings-wrong-type",
        "a value is text, a list or a mapping where another is expected",
        "write what the finding expects",
    ),
    refuse(
        "settings-invalid-value",
        "a value is none that is taken there",
        "write one that the finding names",
    ),
    refuse(
        "settings-invalid-pattern",
        "a key pattern or description has an unknown variable or characters that cannot be",
        "correct the pattern",
    ),
    refuse(
        "settings-invalid-regex",
        "a regular expression cannot be read",
        "correct the expression",
    ),
    refuse(
        "settings-regex-too-hard",
        "a regular expression takes too many steps on this name",
        "simplify it: no repetition inside a repetition",
    ),
    refuse(
        "settings-yaml-tag",
        "a YAML tag stands where none has a meaning",
        "remove the tag",
    ),
    refuse(
        "settings-missing-key",
        "a required key is missing",
        "add the key that the finding names",
    ),
    refuse(
        "settings-location-incomplete",
        "`revision_location` has only one of `bucket` and `key_pattern`",
        "write both: it is overridden as a whole",
    ),
    refuse(
        "settings-location-missing",
        "no file says where the revision goes",
        "write `revision_location` in the block or project-wide",
    ),
    refuse(
        "settings-group-missing",
        "the block names no `deployment_group`",
        "write it under the application in the block",
    ),
    refuse(
        "settings-region-missing",
        "neither the settings nor the function's environment name a region",
        "write `region`",
    ),
    refuse(
        "settings-application-not-listed",
        "`circle.yml` deploys an application that the project's settings do not list",
        "list it under `codedeploy:` of the settings, or do not deploy it",
    ),
    warn(
        "settings-not-carried-out",
        "a key of CircleCI 1.0 is accepted and does nothing here (`commands`, `heroku`)",
        "move what it does into the AppSpec's hooks or into the CI job",
    ),
    warn(
        "no-matching-deployment",
        "no deployment block is for this branch or tag: nothing is deployed",
        "add a block for it, if it should be deployed",
    ),
    warn(
        "nothing-to-deploy",
        "the block that matches has no `codedeploy:`",
        "add the applications to deploy, if there should be any",
    ),
];

/// The rows about the revision and the deployment.
pub(super) const DEPLOYMENT: &[Code] = &[
    refuse(
        "redeploy-unreadable",
        "the object under `….redeploy/` is no wish to redeploy",
        "let `stagedrop redeploy` write it",
    ),
    refuse(
        "redeploy-deployment-unknown",
        "the wish names a deployment of which there is no record",
        "wish for a deployment that `stagedrop history` shows",
    ),
    refuse(
        "redeploy-other-build",
        "the wish's key does not name the build or the application of the deployment that it wishes for",
        "let `stagedrop redeploy` write it, or name the build that stands in the key",
    ),
    refuse(
        "redeploy-revision-unknown",
        "the record of the deployment names no revision",
        "stage the build's artifact again, with the metadata `redeploy=true`",
    ),
    refuse(
        "redeploy-other-region",
        "the settings put the group in another region than the one where the revision lies",
        "stage the build's artifact again, so that its revision is written there",
    ),
    refuse(
        "redeploy-group-not-allowed",
        "no block of the project's settings deploys that branch or tag to the group",
        "add one that does, or name another group",
    ),
    refuse(
        "key-value-missing",
        "the key pattern needs something that neither key nor metadata of the artifact say",
        "upload with the metadata that the finding names",
    ),
    refuse(
        "key-too-long",
        "the revision's key is longer than S3 takes (1,024 bytes)",
        "use a shorter key pattern",
    ),
    refuse(
        "key-unreadable",
        "a staged key made for this build would be read as another one",
        "use a name that fits the staging key pattern, or change the pattern",
    ),
    refuse(
        "key-pattern-not-unique",
        "the key pattern gives every build the same key in a bucket without versions",
        "put {COMMIT}, {SHORT_COMMIT} or {BUILD_NUM} into it, or switch versioning on",
    ),
    refuse(
        "revision-key-is-staged",
        "the revision's key lies where artifacts are staged: writing it would start another drop",
        "use a key pattern outside of the staging prefix",
    ),
    refuse(
        "revision-key-reserved",
        "the revision's key lies under the settings or the records",
        "use a key pattern, or a bucket, that holds nothing but revisions",
    ),
    refuse(
        "revision-key-taken",
        "other bytes have the revision's key, or another application would write them there; a revision is never overwritten",
        "give every build, and every application, a key of its own",
    ),
    refuse(
        "revision-bucket-missing",
        "the bucket of the revisions does not exist",
        "create it, or correct `bucket`",
    ),
    refuse(
        "revision-bucket-elsewhere",
        "the bucket of the revisions is in another region than the application",
        "use a bucket of that region, or correct `region`",
    ),
    refuse(
        "bundle-type-as-is",
        "`bundle_type: as_is` is set, but something of the artifact would have to change",
        "use `zip`, `tgz` or `tar`, or build an artifact that needs no change",
    ),
    refuse(
        "github-repository-missing",
        "a GitHub revision has no repository in settings, key or metadata",
        "set `repository: owner/name`, or upload with x-amz-meta-repository",
    ),
    refuse(
        "github-commit-missing",
        "a GitHub revision needs all 40 digits of the commit",
        "upload with x-amz-meta-commit, or use {COMMIT} in the staging key pattern",
    ),
    refuse(
        "platform-mismatch",
        "the AppSpec is for another compute platform than the deployment group",
        "name a group of that platform, or bring the right AppSpec",
    ),
    refuse(
        "group-region-conflict",
        "the group's record is of a group with the same names in another region",
        "use other names, or delete the record once nothing runs there any more",
    ),
    refuse(
        "application-missing",
        "the CodeDeploy application does not exist in the region",
        "create it, or correct its name or `region`",
    ),
    refuse(
        "deployment-group-missing",
        "the deployment group does not exist",
        "create it, or correct its name",
    ),
    refuse(
        "deployment-config-missing",
        "the deployment configuration does not exist in the region",
        "create it, or correct `deployment_config`",
    ),
    refuse(
        "revision-refused",
        "CodeDeploy does not take the revision",
        "make sure that nothing deletes revisions, and that bucket and application are in one region",
    ),
    refuse(
        "deployment-option-refused",
        "CodeDeploy does not take an option on this platform",
        "remove the option that CodeDeploy names",
    ),
    refuse(
        "deployment-refused",
        "CodeDeploy refused the deployment for a reason of its own",
        "correct what CodeDeploy names, then upload again",
    ),
];
