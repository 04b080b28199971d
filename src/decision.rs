//! What was decided about a build, as a value: one line of the log, and what it adds to the metrics.
//!
//! Owns the names of decisions, which log filters match, and which subject each one has. Knows neither
//! where lines go ([`crate::journal`]) nor how a metric is written ([`crate::metrics`]).

use jiff::Timestamp;

use crate::deployment::{ApplicationName, DeploymentGroupName, DeploymentId, DeploymentStatus};
use crate::finding::Finding;
use crate::key_pattern::Build;
use crate::records::drop::{Drop, DropStatus, RevisionCounts};
use crate::records::group::{DropReference, Ticket};

/// Characters of one value in a log line.
pub const VALUE_CHARACTERS_MAX: usize = 1_024;

/// What a decision is about, as far as it is known.
#[derive(Debug, Clone, Copy, Default)]
pub struct Subject<'a> {
    /// The drop's id.
    pub drop: Option<&'a str>,
    /// The staged key.
    pub staged_key: Option<&'a str>,
    /// The build.
    pub build: Option<&'a Build>,
    /// The application.
    pub application: Option<&'a ApplicationName>,
    /// The deployment group.
    pub deployment_group: Option<&'a DeploymentGroupName>,
    /// The deployment.
    pub deployment_id: Option<&'a DeploymentId>,
}

impl<'a> Subject<'a> {
    /// A drop as a whole.
    pub fn of_drop(drop: &'a Drop) -> Self {
        Self {
            drop: Some(drop.drop_id.as_str()),
            staged_key: Some(drop.artifact.object.key.as_str()),
            build: Some(&drop.build),
            ..Self::default()
        }
    }

    /// A build in its group's queue.
    pub fn of_ticket(ticket: &'a Ticket) -> Self {
        Self {
            build: Some(&ticket.build),
            ..Self::of_reference(&ticket.drop)
        }
        .in_group(
            &ticket.request.application,
            &ticket.request.deployment_group,
        )
    }

    /// A drop of which a record only names key and id.
    pub fn of_reference(drop: &'a DropReference) -> Self {
        Self {
            drop: Some(drop.drop_id.as_str()),
            staged_key: Some(&drop.staged_key),
            ..Self::default()
        }
    }

    /// The same, in this group.
    #[must_use]
    pub fn in_group(
        self,
        application: &'a ApplicationName,
        deployment_group: &'a DeploymentGroupName,
    ) -> Self {
        Self {
            application: Some(application),
            deployment_group: Some(deployment_group),
            ..self
        }
    }

    /// The same, by this deployment.
    #[must_use]
    pub fn by_deployment(self, id: Option<&'a DeploymentId>) -> Self {
        Self {
            deployment_id: id,
            ..self
        }
    }
}

/// What was decided.
#[derive(Debug, Clone, Copy)]
pub enum Decision<'a> {
    /// An event is none of ours.
    EventIgnored {
        /// Why.
        reason: &'a str,
    },
    /// An upload is worked on.
    DropClaimed,
    /// The revision is written and registered.
    RevisionRegistered {
        /// What went into it; none for a commit on GitHub.
        counts: Option<RevisionCounts>,
    },
    /// The group is busy.
    BuildWaits {
        /// With which deployment, where CodeDeploy named it.
        occupant: Option<&'a DeploymentId>,
    },
    /// CodeDeploy has the deployment.
    DeploymentCreated {
        /// Seconds from the upload.
        seconds_from_upload: i64,
    },
    /// A target of a drop has ended, the drop itself not.
    TargetEnded {
        /// How.
        status: DropStatus,
    },
    /// A drop has ended.
    DropEnded {
        /// How.
        status: DropStatus,
        /// Seconds from the upload.
        seconds_from_upload: i64,
        /// What was found, also warnings.
        findings: &'a [Finding],
    },
    /// CodeDeploy's word on a deployment is recorded.
    DeploymentRecorded {
        /// Its status.
        status: DeploymentStatus,
        /// Whether it came to its end just now, and is one of ours.
        has_ended: bool,
        /// CodeDeploy's reason for a failure.
        error_code: Option<&'a str>,
    },
    /// The schedule has looked at all that is open.
    Settled {
        /// Groups looked at.
        groups: usize,
        /// Builds that wait in them.
        waiting: usize,
        /// Drops given up.
        abandoned: usize,
    },
}

impl Decision<'_> {
    /// The word that log filters match.
    pub fn name(&self) -> &'static str {
        match self {
            Self::EventIgnored { .. } => "event-ignored",
            Self::DropClaimed => "drop-claimed",
            Self::RevisionRegistered { .. } => "revision-registered",
            Self::BuildWaits { .. } => "build-waits",
            Self::DeploymentCreated { .. } => "deployment-created",
            Self::TargetEnded { .. } => "target-ended",
            Self::DropEnded { .. } => "drop-ended",
            Self::DeploymentRecorded { .. } => "deployment-recorded",
            Self::Settled { .. } => "settled",
        }
    }
}

/// Seconds from an upload until `now`; S3 tells uploads in whole seconds, and clocks differ.
pub fn seconds_from(uploaded_at: Timestamp, now: Timestamp) -> i64 {
    now.as_second()
        .saturating_sub(uploaded_at.as_second())
        .max(0)
}

/// A text as it may stand in a log: without control and direction characters, and of bounded length.
pub fn printable(text: &str) -> String {
    let is_hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let replaced = |c| {
        if is_hidden(c) {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    text.chars()
        .map(replaced)
        .take(VALUE_CHARACTERS_MAX)
        .collect()
}

/// A build in a few words: `47, tag v1.2, commit 3f2c1a9, of acme/shop`.
pub fn describe(build: &Build) -> String {
    let name = build.name().replace('`', "");
    let parts = [
        build.build_num.clone(),
        Some(name),
        build
            .short_commit()
            .map(|commit| format!("commit {commit}")),
        build
            .repository
            .as_ref()
            .map(|repository| format!("of {repository}")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    printable(&parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ok_a_text_in_a_log_is_one_line_of_bounded_length() {
        let text = format!("a\u{1b}[31m\r\nb\u{202e}c\u{7f}\u{85}{}", "x".repeat(5_000));
        let shown = printable(&text);
        assert_eq!(shown.chars().count(), VALUE_CHARACTERS_MAX);
        assert!(shown.starts_with("a\u{fffd}[31m\u{fffd}\u{fffd}b\u{fffd}c\u{fffd}\u{fffd}xx"));
        assert_eq!(printable("übung `x` 例"), "übung `x` 例");
    }

    #[test]
    fn ok_a_build_is_told_by_what_is_known_of_it() {
        let build = Build {
            build_num: Some("47".to_owned()),
            tag: Some("v1.2".to_owned()),
            commit: Some("3f2c1a9d5b7e8f60".to_owned()),
            repository: Some("acme/shop".to_owned()),
            ..Build::default()
        };
        assert_eq!(
            describe(&build),
            "47, tag v1.2, commit 3f2c1a9, of acme/shop"
        );
        assert_eq!(describe(&Build::default()), "no branch and no tag");
    }

    #[test]
    fn ok_a_clock_behind_the_uploads_gives_no_negative_time() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(seconds_from(at(100), at(160)), 60);
        assert_eq!(seconds_from(at(100), at(99)), 0);
    }
}
