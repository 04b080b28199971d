//! Who goes next: the group's document as a state machine.
//!
//! Every function here takes the document as it is and changes it as far as the event allows; nobody
//! else changes it. The caller writes the result by compare-and-swap, so that each transition happens to
//! exactly one state of the document, and asks CodeDeploy only for what the written document says.
//!
//! | state of `running` | event | next | invariant that it keeps |
//! |---|---|---|---|
//! | any | [`admit`](Group::admit) | ticket waits, or ends as superseded | a ticket is admitted once: it is in one of `running`, `waiting`, `outcomes` |
//! | none, somebody waits | [`begin_next`](Group::begin_next) | `Intended`, or none where all that waited end as superseded | the intent is on record before CodeDeploy is asked |
//! | `Intended` | [`created`](Group::created) | `Deploying`; older ones that wait end as superseded | the id belongs to the intent's token |
//! | none or `Foreign`, ticket waits | [`created`](Group::created) | `Deploying` | a deployment of ours that was taken for somebody else's is adopted, not repeated |
//! | `Intended`, lease over | [`take_over`](Group::take_over) | `Intended`, new holder | only one invocation may ask at a time |
//! | `Intended` | [`busy`](Group::busy), by the holder | `Foreign`, ticket waits again | no build is lost to a busy group |
//! | `Intended` | [`put_back`](Group::put_back), by the holder | none, ticket waits again | who cannot be asked for now does not stand in a newer build's way |
//! | `Intended` | [`refused`](Group::refused), by the holder | none | a refusal ends the drop, not the queue |
//! | none, `Foreign` without id | [`occupied`](Group::occupied) | `Foreign` | what has ended occupies nothing |
//! | `Foreign` | [`vacated`](Group::vacated) | none | only the deployment that holds the group can leave it |
//! | `Deploying`, `Foreign` | [`ended`](Group::ended) | none | an end is counted once, whatever order events come in |
//! | any | [`announced`](Group::announced) | the same | an end is announced until the drop's document tells it |
//!
//! A build that is older than the live or the running one never starts by itself: it ends as superseded,
//! on admission, when the newer one's deployment is there, or when its turn comes, unless its upload said
//! `redeploy`. An intent supersedes nobody: it may have to give way, and then the older build goes first.
//!
//! An end of one of our drops leaves an [`Announcement`], which stays until the drop's document tells it:
//! so a ticket is always in the group's document or its end in the drop's.

mod age;

use std::cmp::Ordering;

use jiff::Timestamp;

use age::{Age, compare_tickets};

use super::drop::DropId;
use super::group::{
    Announcement, EndStatus, Group, Live, OUTCOMES_MAX, Outcome, Running, SupersededBy, Ticket,
    WAITING_MAX,
};
use crate::deployment::{
    ApplicationName, DeploymentError, DeploymentGroupName, DeploymentId, DeploymentStatus,
    DeploymentToken, Region, RevisionLocation, TargetFailure,
};
use crate::finding::Finding;
use crate::key_pattern::Build;
use crate::settings::Queue;

/// What became of a ticket on admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It was admitted before; nothing changed.
    Known,
    /// It waits for its turn.
    Waits,
    /// It ended at once: superseded, or refused because too many wait.
    Ended,
}

/// How a deployment ended, as looked up.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    /// Its id.
    pub deployment_id: DeploymentId,
    /// A terminal status.
    pub status: DeploymentStatus,
    /// Its revision.
    pub revision: Option<RevisionLocation>,
    /// Whether it only restarted what was live (`deploymentMode: RESTART`), so that the live build stays.
    pub is_restart: bool,
    /// Who made it.
    pub creator: Option<String>,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Seconds that it took.
    pub duration_seconds: Option<i64>,
    /// CodeDeploy's reason.
    pub error: Option<DeploymentError>,
    /// The targets that failed first.
    pub failures: Vec<TargetFailure>,
}

impl Group {
    /// A group of which nothing is known yet.
    pub fn new(
        application: ApplicationName,
        deployment_group: DeploymentGroupName,
        region: Region,
    ) -> Self {
        Self {
            application,
            deployment_group,
            region,
            live: None,
            running: None,
            waiting: Vec::new(),
            outcomes: Vec::new(),
            announcements: Vec::new(),
            arrivals: 0,
            epoch: 0,
        }
    }

    /// Whether nothing runs, waits or is still to be told.
    pub fn is_quiet(&self) -> bool {
        self.running.is_none() && self.waiting.is_empty() && self.announcements.is_empty()
    }

    /// Takes a ticket in, once.
    pub fn admit(&mut self, mut ticket: Ticket, now: Timestamp) -> Admission {
        if self.knows(&ticket.drop.drop_id) {
            return Admission::Known;
        }
        self.arrivals = self.arrivals.saturating_add(1);
        ticket.arrival = self.arrivals;
        if let Some(newer) = self.newer_than(&ticket) {
            self.supersede(ticket, newer, now);
            return Admission::Ended;
        }
        if ticket.queue == Queue::All && self.waiting.len() >= WAITING_MAX {
            let finding = Finding::refuse(
                "queue-full",
                format!(
                    "{WAITING_MAX} builds wait for {}/{} already",
                    self.application, self.deployment_group
                ),
                "find out why the group is busy, or use `queue: newest`",
            );
            self.end(ticket, EndStatus::Rejected, now, vec![finding]);
            return Admission::Ended;
        }
        self.wait(ticket, now)
    }

    /// Whether a drop's turn is under way here: it runs, waits, or its end is still to be told.
    pub fn holds(&self, drop_id: &DropId) -> bool {
        self.running
            .as_ref()
            .and_then(Running::ticket)
            .is_some_and(|ticket| ticket.drop.drop_id == *drop_id)
            || self
                .waiting
                .iter()
                .any(|ticket| ticket.drop.drop_id == *drop_id)
            || self
                .announcements
                .iter()
                .any(|end| end.drop.drop_id == *drop_id)
    }

    /// Whether outcomes may have been forgotten, so that a drop that is unknown here may have had its turn.
    pub fn may_have_forgotten(&self) -> bool {
        self.outcomes.len() >= OUTCOMES_MAX
    }

    /// Whether a drop is anywhere in the document.
    pub fn knows(&self, drop_id: &DropId) -> bool {
        self.holds(drop_id)
            || self.outcomes.iter().any(|end| {
                end.drop
                    .as_ref()
                    .is_some_and(|drop| drop.drop_id == *drop_id)
            })
    }

    /// The live or running build that a ticket must not land over. An intent does not run yet.
    fn newer_than(&self, ticket: &Ticket) -> Option<SupersededBy> {
        if ticket.redeploy {
            return None;
        }
        if let Some(Running::Deploying {
            ticket: running, ..
        }) = &self.running
            && compare_tickets(ticket, running) == Ordering::Less
        {
            return Some(superseded_by(running));
        }
        let live = self.live.as_ref()?;
        (Age::of(ticket).compare(Age::of_live(live), ticket.order) == Ordering::Less).then(|| {
            SupersededBy {
                drop: live.drop.clone(),
                build_num: live
                    .build
                    .as_ref()
                    .and_then(|build| build.build_num.clone()),
            }
        })
    }

    /// Puts a ticket among those that wait, by its own policy.
    fn wait(&mut self, ticket: Ticket, now: Timestamp) -> Admission {
        if ticket.queue == Queue::Newest {
            if let Some(newer) = self
                .waiting
                .iter()
                .find(|other| compare_tickets(&ticket, other) == Ordering::Less)
            {
                let newer = superseded_by(newer);
                self.supersede(ticket, newer, now);
                return Admission::Ended;
            }
            for older in std::mem::take(&mut self.waiting) {
                self.supersede(older, superseded_by(&ticket), now);
            }
        }
        let place = self
            .waiting
            .iter()
            .position(|other| compare_tickets(&ticket, other) == Ordering::Less)
            .unwrap_or(self.waiting.len());
        self.waiting.insert(place, ticket);
        Admission::Waits
    }

    /// Writes the intent to deploy the next build, where the group is free and one waits; those that became
    /// older than what is live while they waited end on the way. Returns whether anything changed.
    pub fn begin_next(&mut self, holder: &str, now: Timestamp, lease_until: Timestamp) -> bool {
        let mut changed = false;
        while self.running.is_none() && !self.waiting.is_empty() {
            changed = true;
            let ticket = self.waiting.remove(0);
            if let Some(newer) = self.newer_than(&ticket) {
                self.supersede(ticket, newer, now);
            } else {
                let ticket = Box::new(ticket);
                self.running = Some(Running::Intended {
                    ticket,
                    since: now,
                    lease_until,
                    holder: holder.to_owned(),
                });
            }
        }
        changed
    }

    /// Gives an intent whose lease is over to another holder; tells whether it did.
    pub fn take_over(&mut self, holder: &str, now: Timestamp, lease_until: Timestamp) -> bool {
        match &mut self.running {
            Some(Running::Intended {
                lease_until: lease,
                holder: current,
                ..
            }) if *lease <= now => {
                *lease = lease_until;
                holder.clone_into(current);
                true
            }
            _ => false,
        }
    }

    /// Learns the id of the deployment that carries this token; tells whether anything changed.
    pub fn created(&mut self, token: &DeploymentToken, id: &DeploymentId, now: Timestamp) -> bool {
        let intended = matches!(&self.running, Some(Running::Intended { ticket, .. }) if ticket.token == *token);
        let ticket = if intended {
            match self.running.take() {
                Some(Running::Intended { ticket, .. }) => ticket,
                _ => return false,
            }
        } else {
            // A deployment of ours that was taken for somebody else's: its ticket waits.
            let occupied = self
                .running
                .as_ref()
                .is_some_and(|running| running.ticket().is_some());
            match self
                .waiting
                .iter()
                .position(|ticket| ticket.token == *token)
            {
                Some(place) if !occupied => Box::new(self.waiting.remove(place)),
                _ => return false,
            }
        };
        self.running = Some(Running::Deploying {
            ticket,
            deployment_id: id.clone(),
            since: now,
        });
        for ticket in std::mem::take(&mut self.waiting) {
            match self.newer_than(&ticket) {
                Some(newer) => self.supersede(ticket, newer, now),
                None => self.waiting.push(ticket),
            }
        }
        true
    }

    /// Takes the intent back from its holder; a "no" counts only from there: whoever took the turn over may
    /// have heard a "yes" since.
    fn take_intent(&mut self, token: &DeploymentToken, by: &str) -> Option<Ticket> {
        match self.running.take() {
            Some(Running::Intended { ticket, holder, .. })
                if ticket.token == *token && holder == by =>
            {
                Some(*ticket)
            }
            other => {
                self.running = other;
                None
            }
        }
    }

    /// Learns that CodeDeploy did not take the intent because another deployment is active.
    pub fn busy(
        &mut self,
        token: &DeploymentToken,
        holder: &str,
        occupant: Option<&DeploymentId>,
        now: Timestamp,
    ) -> bool {
        let Some(ticket) = self.take_intent(token, holder) else {
            return false;
        };
        self.running = Some(Running::Foreign {
            deployment_id: occupant.cloned(),
            since: now,
        });
        self.wait(ticket, now);
        true
    }

    /// Learns that CodeDeploy said a "no" that may become a "yes", such as a missing right: the build waits
    /// again, where a newer one can overtake it.
    pub fn put_back(&mut self, token: &DeploymentToken, holder: &str, now: Timestamp) -> bool {
        let Some(ticket) = self.take_intent(token, holder) else {
            return false;
        };
        self.wait(ticket, now);
        true
    }

    /// Learns that CodeDeploy will never take the intent.
    pub fn refused(
        &mut self,
        token: &DeploymentToken,
        holder: &str,
        findings: Vec<Finding>,
        now: Timestamp,
    ) -> bool {
        let Some(ticket) = self.take_intent(token, holder) else {
            return false;
        };
        self.end(ticket, EndStatus::Rejected, now, findings);
        true
    }

    /// Learns of somebody else's active deployment.
    pub fn occupied(&mut self, id: &DeploymentId, now: Timestamp) -> bool {
        let may_be = match &self.running {
            None => true,
            Some(Running::Foreign { deployment_id, .. }) => deployment_id.is_none(),
            Some(Running::Intended { .. } | Running::Deploying { .. }) => false,
        };
        let occupied = may_be && !self.has_ended(id);
        if occupied {
            self.running = Some(Running::Foreign {
                deployment_id: Some(id.clone()),
                since: now,
            });
        }
        occupied
    }

    /// Learns that somebody else's deployment no longer holds the group (`None`: whichever it was).
    pub fn vacated(&mut self, id: Option<&DeploymentId>) -> bool {
        let gone = matches!(&self.running, Some(Running::Foreign { deployment_id, .. })
            if id.is_none() || deployment_id.is_none() || deployment_id.as_ref() == id);
        if gone {
            self.running = None;
        }
        gone
    }

    /// Whether this deployment's end is counted already. What is live has ended however long ago.
    pub fn has_ended(&self, id: &DeploymentId) -> bool {
        self.live
            .as_ref()
            .is_some_and(|live| live.deployment_id == *id)
            || self
                .outcomes
                .iter()
                .any(|outcome| outcome.deployment_id.as_ref() == Some(id))
    }

    /// Learns how a deployment ended, ours or not; tells whether anything changed.
    pub fn ended(&mut self, end: &End) -> bool {
        if !end.status.is_terminal() {
            return false;
        }
        let ours = matches!(&self.running, Some(Running::Deploying { deployment_id, .. }) if *deployment_id == end.deployment_id);
        if !ours && self.has_ended(&end.deployment_id) {
            return self.vacated(Some(&end.deployment_id));
        }
        // Counted as somebody else's before, because its turn was not known then.
        self.outcomes
            .retain(|outcome| outcome.deployment_id.as_ref() != Some(&end.deployment_id));
        let ticket = if ours {
            match self.running.take() {
                Some(Running::Deploying { ticket, .. }) => Some(ticket),
                _ => None,
            }
        } else {
            self.vacated(Some(&end.deployment_id));
            None
        };
        let status = match end.status {
            DeploymentStatus::Succeeded => EndStatus::Succeeded,
            DeploymentStatus::Stopped => EndStatus::Stopped,
            _ => EndStatus::Failed,
        };
        let (build, uploaded_at, drop) = match &ticket {
            Some(ticket) => (
                Some(ticket.build.clone()),
                Some(ticket.uploaded_at),
                Some(ticket.drop.clone()),
            ),
            None => {
                let (build, uploaded_at) = self.build_of(end.revision.as_ref()).unzip();
                (build, uploaded_at.flatten(), None)
            }
        };
        if status == EndStatus::Succeeded
            && !end.is_restart
            && self
                .live
                .as_ref()
                .is_none_or(|live| live.since <= end.ended_at)
        {
            self.live = Some(Live {
                deployment_id: end.deployment_id.clone(),
                drop: drop.clone(),
                revision: end.revision.clone(),
                build: build.clone(),
                uploaded_at,
                since: end.ended_at,
            });
        }
        if let Some(ticket) = ticket {
            self.announcements.push(Announcement {
                drop: ticket.drop,
                status,
                at: end.ended_at,
                deployment_id: Some(end.deployment_id.clone()),
                superseded_by: None,
                findings: Vec::new(),
                error: end.error.clone(),
                failures: end.failures.clone(),
            });
        }
        self.remember(Outcome {
            status,
            deployment_id: Some(end.deployment_id.clone()),
            drop,
            build,
            revision: end.revision.clone(),
            uploaded_at,
            creator: end.creator.clone(),
            ended_at: end.ended_at,
            duration_seconds: end.duration_seconds,
            reason: end
                .error
                .as_ref()
                .map(|error| format!("{}: {}", error.code, error.message)),
            superseded_by: None,
        });
        true
    }

    /// The build of a revision that is or was here, and when it was uploaded: a rollback deploys what we may
    /// know from an earlier turn, new instances get what is live, and an end may be told before the one that
    /// came before it.
    fn build_of(&self, revision: Option<&RevisionLocation>) -> Option<(Build, Option<Timestamp>)> {
        let revision = revision?;
        let running = self.running.as_ref().and_then(Running::ticket);
        let tickets = running.into_iter().chain(&self.waiting).map(|ticket| {
            (
                Some(&ticket.request.revision),
                Some(&ticket.build),
                Some(ticket.uploaded_at),
            )
        });
        let live = self.live.iter().map(|live| {
            (
                live.revision.as_ref(),
                live.build.as_ref(),
                live.uploaded_at,
            )
        });
        let ended = self
            .outcomes
            .iter()
            .map(|end| (end.revision.as_ref(), end.build.as_ref(), end.uploaded_at));
        live.chain(ended)
            .chain(tickets)
            .find_map(|(known, build, uploaded_at)| match build {
                Some(build) if known == Some(revision) => Some((build.clone(), uploaded_at)),
                _ => None,
            })
    }

    /// Drops the announcements that the drops' documents tell by now.
    pub fn announced(&mut self, told: &[Announcement]) -> bool {
        let before = self.announcements.len();
        self.announcements
            .retain(|announcement| !told.contains(announcement));
        self.announcements.len() != before
    }

    fn supersede(&mut self, ticket: Ticket, by: SupersededBy, now: Timestamp) {
        self.finish(ticket, EndStatus::Superseded, now, Vec::new(), Some(by));
    }

    fn end(&mut self, ticket: Ticket, status: EndStatus, now: Timestamp, findings: Vec<Finding>) {
        self.finish(ticket, status, now, findings, None);
    }

    /// Ends a turn that never became a deployment.
    fn finish(
        &mut self,
        ticket: Ticket,
        status: EndStatus,
        now: Timestamp,
        findings: Vec<Finding>,
        superseded_by: Option<SupersededBy>,
    ) {
        self.remember(Outcome {
            status,
            deployment_id: None,
            drop: Some(ticket.drop.clone()),
            build: Some(ticket.build),
            revision: Some(ticket.request.revision),
            uploaded_at: Some(ticket.uploaded_at),
            creator: None,
            ended_at: now,
            duration_seconds: None,
            reason: findings.first().map(|finding| finding.message.clone()),
            superseded_by: superseded_by.clone(),
        });
        self.announcements.push(Announcement {
            drop: ticket.drop,
            status,
            at: now,
            deployment_id: None,
            superseded_by,
            findings,
            error: None,
            failures: Vec::new(),
        });
    }

    /// Adds an outcome in the order of ends, newest first, and forgets the oldest.
    fn remember(&mut self, outcome: Outcome) {
        let place = self
            .outcomes
            .iter()
            .position(|other| other.ended_at <= outcome.ended_at)
            .unwrap_or(self.outcomes.len());
        self.outcomes.insert(place, outcome);
        self.outcomes.truncate(OUTCOMES_MAX);
    }
}

fn superseded_by(ticket: &Ticket) -> SupersededBy {
    SupersededBy {
        drop: Some(ticket.drop.clone()),
        build_num: ticket.build.build_num.clone(),
    }
}

#[cfg(test)]
mod tests;
