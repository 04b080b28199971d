//! The group's document: `groups/<application>/<deployment group>.json`.
//!
//! Its shape alone; what may happen to it stands in [`super::queue`].

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::drop::DropId;
use crate::deployment::{
    ApplicationName, DeploymentError, DeploymentGroupName, DeploymentId, DeploymentRequest,
    DeploymentToken, Region, RevisionLocation, TargetFailure,
};
use crate::finding::Finding;
use crate::key_pattern::Build;
use crate::settings::{Order, Queue};

/// Outcomes kept in a group's document.
pub const OUTCOMES_MAX: usize = 50;
/// Builds that may wait in one group; one more is refused, so that the document stays small.
pub const WAITING_MAX: usize = 1_000;

/// One deployment group: what is live, what is running, what waits, and how the last ones ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Application.
    pub application: ApplicationName,
    /// Deployment group.
    pub deployment_group: DeploymentGroupName,
    /// Region of both.
    pub region: Region,
    /// The deployment that succeeded last.
    #[serde(default)]
    pub live: Option<Live>,
    /// The deployment that holds the group, or is about to.
    #[serde(default)]
    pub running: Option<Running>,
    /// Builds that wait, the next one first.
    #[serde(default)]
    pub waiting: Vec<Ticket>,
    /// The last outcomes, newest first.
    #[serde(default)]
    pub outcomes: Vec<Outcome>,
    /// Ends of drops that their documents may not tell yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub announcements: Vec<Announcement>,
    /// Tickets ever admitted; gives each its place in the order of arrival.
    #[serde(default)]
    pub arrivals: u64,
    /// Counts the times that the group became busy; names the marker under `open/`.
    #[serde(default)]
    pub epoch: u64,
}

/// The drop that something belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropReference {
    /// The staged key, which names the drop's document.
    pub staged_key: String,
    /// Which drop of that key.
    pub drop_id: DropId,
}

/// One build's wish to be deployed to this group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ticket {
    /// The drop that it comes from.
    pub drop: DropReference,
    /// Marks the deployment, so that it is known again.
    pub token: DeploymentToken,
    /// The build.
    pub build: Build,
    /// When the artifact was uploaded.
    pub uploaded_at: Timestamp,
    /// Its place in the order of arrival; given on admission.
    #[serde(default)]
    pub arrival: u64,
    /// How it compares with others.
    #[serde(default)]
    pub order: Order,
    /// Whom it overtakes.
    #[serde(default)]
    pub queue: Queue,
    /// Whether the uploader said that an older build is meant.
    #[serde(default)]
    pub redeploy: bool,
    /// What to ask of CodeDeploy when its turn comes.
    pub request: DeploymentRequest,
}

/// What holds the group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Running {
    /// About to ask CodeDeploy, or asked without having heard: the deployment may exist.
    Intended {
        /// Whose turn it is.
        ticket: Box<Ticket>,
        /// When the intent was first written; no deployment of this turn is older.
        since: Timestamp,
        /// Until then only the holder may ask CodeDeploy.
        lease_until: Timestamp,
        /// The invocation that may ask.
        holder: String,
    },
    /// Our deployment.
    Deploying {
        /// Whose.
        ticket: Box<Ticket>,
        /// Its id.
        deployment_id: DeploymentId,
        /// When we learnt of it.
        since: Timestamp,
    },
    /// Somebody else's deployment.
    Foreign {
        /// Its id, where CodeDeploy named one.
        #[serde(default)]
        deployment_id: Option<DeploymentId>,
        /// When we learnt of it.
        since: Timestamp,
    },
}

impl Running {
    /// The ticket, where it is one of ours.
    pub fn ticket(&self) -> Option<&Ticket> {
        match self {
            Self::Intended { ticket, .. } | Self::Deploying { ticket, .. } => Some(ticket),
            Self::Foreign { .. } => None,
        }
    }

    /// The deployment's id, where it is known.
    pub fn deployment_id(&self) -> Option<&DeploymentId> {
        match self {
            Self::Intended { .. } => None,
            Self::Deploying { deployment_id, .. } => Some(deployment_id),
            Self::Foreign { deployment_id, .. } => deployment_id.as_ref(),
        }
    }
}

/// What is live.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Live {
    /// The deployment that made it so.
    pub deployment_id: DeploymentId,
    /// The drop, where it was ours.
    #[serde(default)]
    pub drop: Option<DropReference>,
    /// Revision.
    #[serde(default)]
    pub revision: Option<RevisionLocation>,
    /// The build, where we know it.
    #[serde(default)]
    pub build: Option<Build>,
    /// When that build's artifact was uploaded, where it was ours.
    #[serde(default)]
    pub uploaded_at: Option<Timestamp>,
    /// Since when.
    pub since: Timestamp,
}

/// How a turn, or somebody else's deployment, ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// How.
    pub status: EndStatus,
    /// The deployment; none where the build was superseded or refused before there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<DeploymentId>,
    /// The drop, where it was ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drop: Option<DropReference>,
    /// The build, where we know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,
    /// Revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<RevisionLocation>,
    /// When the artifact was uploaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploaded_at: Option<Timestamp>,
    /// Who made the deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creator: Option<String>,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Seconds from its start to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<i64>,
    /// CodeDeploy's reason, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The build that overtook it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<SupersededBy>,
}

/// How a drop's turn in one group can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndStatus {
    /// CodeDeploy refused to create the deployment.
    Rejected,
    /// A newer build took its place.
    Superseded,
    /// Deployed.
    Succeeded,
    /// Failed.
    Failed,
    /// Stopped.
    Stopped,
}

/// The build that overtook another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupersededBy {
    /// The newer drop, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drop: Option<DropReference>,
    /// Its build number, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_num: Option<String>,
}

/// An end that the drop's document is to tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Announcement {
    /// The drop.
    pub drop: DropReference,
    /// How it ended.
    pub status: EndStatus,
    /// When.
    pub at: Timestamp,
    /// The deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<DeploymentId>,
    /// The build that overtook it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<SupersededBy>,
    /// Why CodeDeploy refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<DeploymentError>,
    /// The targets that failed first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<TargetFailure>,
}
