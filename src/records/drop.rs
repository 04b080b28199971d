//! The drop's document: `drops/<staging key>.json`, the newest drop of that key.
//!
//! Owns its shape, which drop of a key is the newer one, and how the status of the whole follows from
//! the targets'. It is the claim on a drop: whoever works on one first finds its own drop in here.

use std::cmp::Ordering;
use std::fmt::Write as _;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::group::{Announcement, EndStatus, SupersededBy};
use crate::deployment::{
    ApplicationName, DeploymentConfigName, DeploymentError, DeploymentGroupName, DeploymentId,
    DeploymentToken, Region, RevisionLocation, TargetFailure,
};
use crate::finding::Finding;
use crate::intake::compare_sequencers;
use crate::key_pattern::Build;
use crate::object::{SourceObject, checked_name};

/// The finding of a drop that the schedule gave up.
pub const ABANDONED: &str = "drop-abandoned";

checked_name!(
    /// Tells one drop from every other: a digest of what makes the staged object this one.
    DropId,
    "drop id",
    "24 hexadecimal digits",
    |text| text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit())
);

/// The artifact of a drop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Bucket, key, version, ETag and size.
    #[serde(flatten)]
    pub object: SourceObject,
    /// S3's sequencer, where the event carried one; orders the uploads of one key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequencer: Option<String>,
    /// `Last-Modified`: when it was uploaded, in whole seconds.
    pub uploaded_at: Timestamp,
}

impl Artifact {
    /// The drop's identity: the same for every delivery of every event of one upload, in whatever envelope.
    ///
    /// Taken from what S3 says of the object and not from the event, because envelopes differ in what
    /// they carry. Without versions, an upload of the same bytes counts as new if a second has passed.
    pub fn drop_id(&self) -> DropId {
        let mut hash = Sha256::new();
        let upload = match &self.object.version_id {
            Some(version) => version.as_str().to_owned(),
            None => self.uploaded_at.as_second().to_string(),
        };
        for part in [
            self.object.bucket.as_str(),
            self.object.key.as_str(),
            self.object.etag.unquoted(),
            &upload,
        ] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        let mut text = String::with_capacity(24);
        for byte in hash.finalize().iter().take(12) {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        DropId(text)
    }

    /// Whether this upload of the same key came after, before or neither.
    pub fn compare(&self, other: &Artifact) -> Ordering {
        match (&self.sequencer, &other.sequencer) {
            (Some(mine), Some(theirs)) => compare_sequencers(mine, theirs),
            _ => self.uploaded_at.cmp(&other.uploaded_at),
        }
    }
}

impl DropId {
    /// The mark of this drop's deployment to one group.
    pub fn token(
        &self,
        application: &ApplicationName,
        deployment_group: &DeploymentGroupName,
    ) -> DeploymentToken {
        let mut hash = Sha256::new();
        for part in [
            self.as_str(),
            application.as_str(),
            deployment_group.as_str(),
        ] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        DeploymentToken::from_digest(&hash.finalize())
    }
}

/// How far a drop, or one of its targets, has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropStatus {
    /// Nothing to do: no block matches, or the key is none of ours.
    Ignored,
    /// It can never succeed; the findings say why.
    Rejected,
    /// Its group is busy.
    Waiting,
    /// Being repackaged, registered or deployed.
    Deploying,
    /// A newer build took its place.
    Superseded,
    /// Deployed.
    Succeeded,
    /// Failed; the failures say where.
    Failed,
    /// Stopped by somebody or by an alarm.
    Stopped,
}

impl DropStatus {
    /// Whether it stays so.
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Waiting | Self::Deploying)
    }

    /// The word in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ignored => "ignored",
            Self::Rejected => "rejected",
            Self::Waiting => "waiting",
            Self::Deploying => "deploying",
            Self::Superseded => "superseded",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

impl From<EndStatus> for DropStatus {
    fn from(end: EndStatus) -> Self {
        match end {
            EndStatus::Rejected => Self::Rejected,
            EndStatus::Superseded => Self::Superseded,
            EndStatus::Succeeded => Self::Succeeded,
            EndStatus::Failed => Self::Failed,
            EndStatus::Stopped => Self::Stopped,
        }
    }
}

/// What went into a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RevisionCounts {
    /// Entries in the revision.
    pub entries: u64,
    /// Entries of the artifact that were left out.
    pub left_out: u64,
    /// The revision's size in bytes.
    pub size: u64,
    /// Bytes that S3 copied by itself.
    pub bytes_copied: u64,
    /// Bytes read through the function to write the revision.
    pub bytes_got: u64,
    /// Bytes sent by the function.
    pub bytes_put: u64,
}

/// What tells the targets of a drop apart.
pub type TargetName = (ApplicationName, DeploymentGroupName);

/// One target of a drop: an application and its deployment group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DropTarget {
    /// Application.
    pub application: ApplicationName,
    /// Deployment group.
    pub deployment_group: DeploymentGroupName,
    /// Region.
    pub region: Region,
    /// Configuration, where the settings name one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_config: Option<DeploymentConfigName>,
    /// Status of this target.
    pub status: DropStatus,
    /// The revision, once it is written and registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<RevisionLocation>,
    /// What went into it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<RevisionCounts>,
    /// The deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<DeploymentId>,
    /// The build that overtook it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<SupersededBy>,
    /// CodeDeploy's reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<DeploymentError>,
    /// The targets that failed first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<TargetFailure>,
    /// When it came to its status.
    pub updated_at: Timestamp,
}

impl DropTarget {
    /// A target that is still to get a turn in its group.
    pub fn noted(
        name: TargetName,
        region: Region,
        deployment_config: Option<DeploymentConfigName>,
        now: Timestamp,
    ) -> Self {
        let (application, deployment_group) = name;
        Self {
            application,
            deployment_group,
            region,
            deployment_config,
            status: DropStatus::Deploying,
            revision: None,
            counts: None,
            deployment_id: None,
            superseded_by: None,
            error: None,
            failures: Vec::new(),
            updated_at: now,
        }
    }

    /// Its name among the drop's.
    pub fn name(&self) -> TargetName {
        (self.application.clone(), self.deployment_group.clone())
    }

    /// Whether it stays as it is where the drop is [closed](Drop::close) but for these targets.
    pub fn stays(&self, names: &[TargetName]) -> bool {
        self.status.is_terminal()
            || self.deployment_id.is_some()
            || names.iter().any(|(application, group)| {
                self.application == *application && self.deployment_group == *group
            })
    }

    /// Takes the end that a group announced; tells whether anything changed. The group decides: whoever ended
    /// the target before that did not know of its turn.
    fn take(&mut self, end: &Announcement) -> bool {
        let is_known = self.status == end.status.into() && self.deployment_id == end.deployment_id;
        if is_known {
            return false;
        }
        self.status = end.status.into();
        self.updated_at = end.at;
        if end.deployment_id.is_some() {
            self.deployment_id.clone_from(&end.deployment_id);
        }
        self.superseded_by.clone_from(&end.superseded_by);
        self.error.clone_from(&end.error);
        self.failures.clone_from(&end.failures);
        true
    }
}

/// A drop: one upload of one staged key, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drop {
    /// Which drop of the key this is.
    pub drop_id: DropId,
    /// What was uploaded.
    pub artifact: Artifact,
    /// Which build it is.
    pub build: Build,
    /// Status of the whole.
    pub status: DropStatus,
    /// The deployment block that matched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_block: Option<String>,
    /// The deployment whose revision is deployed once more, where the drop is a wish for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redeploys: Option<DeploymentId>,
    /// What is wrong with it, or would bite.
    #[serde(default)]
    pub findings: Vec<Finding>,
    /// One for each application that the block names.
    #[serde(default)]
    pub deployments: Vec<DropTarget>,
    /// When it was first heard of.
    pub created_at: Timestamp,
    /// When this document last changed.
    pub updated_at: Timestamp,
}

impl Drop {
    /// A drop that was just heard of.
    pub fn claimed(artifact: Artifact, build: Build, now: Timestamp) -> Self {
        Self {
            drop_id: artifact.drop_id(),
            artifact,
            build,
            status: DropStatus::Deploying,
            deployment_block: None,
            redeploys: None,
            findings: Vec::new(),
            deployments: Vec::new(),
            created_at: now,
            updated_at: now,
        }
    }

    /// Whether the schedule gave it up; such a drop may be worked on again.
    pub fn is_abandoned(&self) -> bool {
        self.status == DropStatus::Failed
            && self
                .findings
                .iter()
                .any(|finding| finding.code == ABANDONED)
    }

    /// The target of that application and group.
    pub fn target(
        &self,
        application: &ApplicationName,
        group: &DeploymentGroupName,
    ) -> Option<&DropTarget> {
        self.deployments
            .iter()
            .find(|target| target.application == *application && target.deployment_group == *group)
    }

    /// The same, to be changed.
    pub fn target_mut(
        &mut self,
        application: &ApplicationName,
        group: &DeploymentGroupName,
    ) -> Option<&mut DropTarget> {
        self.deployments
            .iter_mut()
            .find(|target| target.application == *application && target.deployment_group == *group)
    }

    /// The drop as somebody works on it again after the schedule gave it up: what had ended stays so, and
    /// where nothing had, it is as `fresh` as a new one.
    #[must_use]
    pub fn taken_up_again(mut self, fresh: &Self) -> Self {
        for target in &mut self.deployments {
            // Whatever else fails has a deployment.
            if target.status == DropStatus::Failed && target.deployment_id.is_none() {
                target.status = DropStatus::Deploying;
                target.updated_at = fresh.updated_at;
            }
        }
        let has_ended = |target: &DropTarget| target.status.is_terminal();
        if !self.deployments.iter().any(has_ended) {
            return fresh.clone();
        }
        self.findings.retain(|finding| finding.code != ABANDONED);
        self.updated_at = fresh.updated_at;
        self.conclude();
        self
    }

    /// Ends a drop, ignored or rejected, but for targets that are deployed or have ended, and for these: those
    /// that have a turn in their group, or are still to get one.
    pub fn close(
        &mut self,
        status: DropStatus,
        findings: &[Finding],
        stay: &[TargetName],
        now: Timestamp,
    ) {
        let mut is_whole = true;
        for target in &mut self.deployments {
            if target.stays(stay) {
                is_whole = false;
            } else {
                target.status = status;
                target.updated_at = now;
            }
        }
        if is_whole {
            self.status = status;
            self.findings = findings.to_vec();
        } else {
            self.note(findings);
            self.conclude();
        }
    }

    /// Notes targets that are still to get a turn. Those noted before stay beside them, ignored: where another
    /// attempt takes one to its group all the same, the end that the group announces is still told.
    pub fn note_targets(&mut self, targets: &[DropTarget]) {
        let mut noted = targets.to_vec();
        for mut known in std::mem::take(&mut self.deployments) {
            if targets.iter().all(|target| target.name() != known.name()) {
                known.updated_at = match targets.first() {
                    Some(target) if !known.status.is_terminal() => target.updated_at,
                    _ => known.updated_at,
                };
                known.status = DropStatus::Ignored;
                noted.push(known);
            }
        }
        self.deployments = noted;
        self.conclude();
    }

    fn note(&mut self, findings: &[Finding]) {
        for finding in findings {
            if !self.findings.contains(finding) {
                self.findings.push(finding.clone());
            }
        }
    }

    /// Takes an end that a group announced; tells whether anything changed.
    pub fn take(
        &mut self,
        application: &ApplicationName,
        group: &DeploymentGroupName,
        end: &Announcement,
    ) -> bool {
        let taken = self
            .target_mut(application, group)
            .is_some_and(|target| target.take(end));
        if taken {
            self.note(&end.findings);
            self.conclude();
        }
        taken
    }

    /// Derives the status of the whole from the targets': what is under way before what ended, and what
    /// ended badly before what ended well.
    pub fn conclude(&mut self) {
        const WORST_FIRST: [DropStatus; 8] = [
            DropStatus::Deploying,
            DropStatus::Waiting,
            DropStatus::Failed,
            DropStatus::Rejected,
            DropStatus::Stopped,
            DropStatus::Superseded,
            DropStatus::Succeeded,
            DropStatus::Ignored,
        ];
        if let Some(status) = WORST_FIRST.into_iter().find(|status| {
            self.deployments
                .iter()
                .any(|target| target.status == *status)
        }) {
            self.status = status;
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    fn target(application: &str, status: DropStatus) -> DropTarget {
        let name = (application.parse().unwrap(), "production".parse().unwrap());
        DropTarget {
            status,
            ..DropTarget::noted(name, "us-east-1".parse().unwrap(), None, at(1))
        }
    }

    /// A drop that was claimed in second 1, with these targets.
    fn drop_of(targets: &[(&str, DropStatus)]) -> Drop {
        let object = SourceObject {
            bucket: "artifacts".parse().unwrap(),
            key: "staging/1.zip".parse().unwrap(),
            version_id: None,
            etag: "e".into(),
            size: 1,
        };
        let artifact = Artifact {
            object,
            sequencer: None,
            uploaded_at: at(0),
        };
        let deployments = targets.iter().map(|(name, status)| target(name, *status));
        let mut drop = Drop {
            deployments: deployments.collect(),
            ..Drop::claimed(artifact, Build::default(), at(1))
        };
        drop.conclude();
        drop
    }

    /// The status of each target, and the second since which it is so.
    fn targets(drop: &Drop) -> Vec<(DropStatus, i64)> {
        let targets = drop.deployments.iter();
        targets
            .map(|target| (target.status, target.updated_at.as_second()))
            .collect()
    }

    #[test]
    fn ok_who_is_closed_is_so_from_then_on() {
        use DropStatus::{Deploying, Ignored, Rejected, Succeeded};
        let mut drop = drop_of(&[("api", Deploying), ("shop", Deploying)]);
        drop.close(Rejected, &[], &[], at(5));
        assert_eq!(targets(&drop), [(Rejected, 5), (Rejected, 5)]);
        assert_eq!(drop.status, Rejected);

        let mut drop = drop_of(&[("api", Succeeded), ("shop", Deploying), ("web", Deploying)]);
        let web = target("web", Deploying).name();
        drop.close(Ignored, &[], &[web], at(5));
        assert_eq!(
            targets(&drop),
            [(Succeeded, 1), (Ignored, 5), (Deploying, 1)]
        );
        assert_eq!(drop.status, Deploying);
        drop.close(Ignored, &[], &[], at(6));
        assert_eq!(targets(&drop), [(Succeeded, 1), (Ignored, 5), (Ignored, 6)]);
        assert_eq!(drop.status, Succeeded);

        let mut drop = drop_of(&[("api", Ignored), ("shop", Deploying)]);
        drop.close(Ignored, &[], &[], at(5));
        assert_eq!(drop.status, Ignored);
    }

    #[test]
    fn ok_who_was_noted_before_stays_beside_the_others() {
        use DropStatus::{Deploying, Ignored};
        let mut drop = drop_of(&[("api", Deploying), ("shop", Ignored)]);
        let fresh = ["shop", "web"].map(|name| DropTarget {
            updated_at: at(5),
            ..target(name, Deploying)
        });
        drop.note_targets(&fresh);
        let names = drop
            .deployments
            .iter()
            .map(|target| target.application.as_str());
        assert_eq!(names.collect::<Vec<_>>(), ["shop", "web", "api"]);
        assert_eq!(
            targets(&drop),
            [(Deploying, 5), (Deploying, 5), (Ignored, 5)]
        );
        assert_eq!(drop.status, Deploying);
    }

    #[test]
    fn ok_what_is_taken_up_again_is_so_from_then_on() {
        use DropStatus::{Deploying, Failed, Succeeded};
        let known = drop_of(&[("api", Succeeded), ("shop", Failed)]);
        let mut fresh = drop_of(&[]);
        fresh.updated_at = at(7);
        let again = known.taken_up_again(&fresh);
        assert_eq!(targets(&again), [(Succeeded, 1), (Deploying, 7)]);
    }
}
