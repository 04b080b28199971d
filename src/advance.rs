//! Carries out what a group's document says: creates the next deployment, finds the one that was
//! created unheard, tells the drops how they ended.
//!
//! Shared by both functions: whoever changes a group's document advances it. Every step first writes
//! the document ([`queue`](crate::records::queue)) and then acts on what it wrote, so that whoever finds
//! the document later can go on from there.

mod finding;
mod invocation;
mod observing;
mod refusal;
mod telling;

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use crate::decision::{Decision, Subject, seconds_from};
use crate::deployment::{
    ApplicationName, CodeDeploy, DeploymentGroupName, DeploymentId, DeploymentStatus, Region,
    occupant_in_limit_message,
};
use crate::fault::{Retry, RetryReason};
use crate::finding::Finding;
use crate::records::deployment::DeploymentRecord;
use crate::records::drop::DropStatus;
use crate::records::group::{Group, Running, Ticket};
use crate::records::{Change, DocumentStore, Records};
use crate::service_error::{Kind, ServiceError};

pub use invocation::Invocation;
pub use refusal::refusal;

/// How long an intent belongs to the invocation that wrote it: longer than [`ASK_WITHIN`] and the one
/// attempt of `CreateDeployment` together, so that no two invocations ask for one turn.
const LEASE: SignedDuration = SignedDuration::from_secs(10);
/// The first pause before an intent is looked at again whose lease is not over; each further one is twice
/// as long.
const LEASE_LOOK_PAUSE: Duration = Duration::from_millis(100);
/// After the intent is written, CodeDeploy is asked within this time or not at all.
const ASK_WITHIN: Duration = Duration::from_secs(2);
/// Steps in one call; each deployment takes about four.
const STEPS_MAX: u32 = 64;
/// Tries of `CreateDeployment` that CodeDeploy throttles, before the event is given back to Lambda.
const THROTTLED_TRIES_MAX: u32 = 6;
/// The first pause after being throttled; each further one is twice as long.
const THROTTLED_PAUSE: Duration = Duration::from_millis(200);
/// How often a group may say "busy" of a deployment that has ended, before it is left to the schedule.
const GHOSTS_MAX: u32 = 5;
/// The pause before such a group is asked again.
const GHOST_PAUSE: Duration = Duration::from_millis(300);
/// How often one invocation asks CodeDeploy for the same turn when it hears nothing of it.
const ASKS_MAX: u32 = 3;

/// One deployment group's name and place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupName {
    /// Application.
    pub application: ApplicationName,
    /// Deployment group.
    pub deployment_group: DeploymentGroupName,
    /// Region.
    pub region: Region,
}

/// The parts that advancing needs.
#[derive(Debug)]
pub struct Conductor<'a, D, C> {
    /// The records.
    pub records: &'a Records<D>,
    /// CodeDeploy.
    pub codedeploy: &'a C,
    /// The invocation.
    pub invocation: &'a Invocation,
}

/// A group's document as this invocation read or wrote it last.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The document.
    pub group: Group,
    /// When this invocation wrote the intent in it, where it did so with that very write: nobody has asked
    /// CodeDeploy for it yet.
    written: Option<Instant>,
}

impl From<Group> for Seen {
    fn from(group: Group) -> Self {
        Self {
            group,
            written: None,
        }
    }
}

/// What came of asking CodeDeploy.
enum Answer {
    /// The deployment is there.
    Created(DeploymentId),
    /// Another deployment is active.
    Busy(Option<DeploymentId>),
    /// It will never be.
    Refused(Finding),
    /// It may be there or not.
    Unheard(ServiceError),
    /// It is not there, and not for this build's fault: CodeDeploy throttles, or was not asked because the
    /// intent is no longer fresh.
    NotNow(ServiceError),
    /// It is not there, because a right is missing.
    Denied(ServiceError),
}

/// How an advance goes on.
enum Step {
    /// Nothing is left to do; the document says so.
    Done(Group),
    /// There may be more to do; the document, where it was just written.
    Again(Option<Seen>),
}

/// What one call of [`Conductor::advance`] has put up with so far.
#[derive(Default)]
struct Patience {
    ghosts: u32,
    asks: u32,
}

impl<D: DocumentStore, C: CodeDeploy> Conductor<'_, D, C> {
    /// Advances a group until nothing is left to do now: it is idle, or a deployment is active. Gives its
    /// document as it was seen last.
    ///
    /// # Errors
    /// AWS trouble; another invocation that is just asking; too little time left. The document tells
    /// how far it came.
    pub async fn advance(&self, name: &GroupName) -> Result<Group, Retry> {
        self.advance_from(name, None).await
    }

    /// The same, from the document as the caller has just written or read it: what others change in it
    /// afterwards, they advance.
    ///
    /// # Errors
    /// As [`advance`](Self::advance).
    pub async fn advance_from(
        &self,
        name: &GroupName,
        mut seen: Option<Seen>,
    ) -> Result<Group, Retry> {
        let mut patience = Patience::default();
        for _ in 0..STEPS_MAX {
            let usable = seen
                .take()
                .filter(|seen| !self.begin_next(&mut seen.group.clone()).0);
            let Seen { group, written } = match usable {
                Some(seen) => seen,
                None => self.begin(name).await?,
            };
            // A fresh intent first: the sooner it is asked for, the less there is to find for others.
            let mut fresh = None;
            if let (Some(Running::Intended { ticket, since, .. }), Some(_)) =
                (&group.running, written)
            {
                let resolved = self.resolve(name, ticket, *since, written, &mut patience);
                fresh = Some(resolved.await);
            }
            // Also where that failed: what ended is no less over.
            if !group.announcements.is_empty() {
                self.announce(name, &group.announcements).await?;
            }
            let step = match (fresh, &group.running) {
                (Some(step), _) => step?,
                (None, Some(Running::Intended { ticket, since, .. })) => {
                    self.resolve(name, ticket, *since, None, &mut patience)
                        .await?
                }
                (None, Some(Running::Deploying { .. } | Running::Foreign { .. })) => {
                    Step::Done(group)
                }
                (None, None) if group.waiting.is_empty() => Step::Done(group),
                (None, None) => Step::Again(None),
            };
            match step {
                Step::Done(group) => return Ok(group),
                Step::Again(next) => seen = next,
            }
        }
        Err(Retry {
            reason: RetryReason::RecordContention,
            message: format!(
                "group {}/{} did not settle in {STEPS_MAX} steps",
                name.application, name.deployment_group
            ),
        })
    }

    /// Brings an intent to its deployment, or back into the queue.
    ///
    /// `written` is when this invocation wrote the intent, where it did; else the deployment may have
    /// been asked for already.
    async fn resolve(
        &self,
        name: &GroupName,
        ticket: &Ticket,
        since: Timestamp,
        mut written: Option<Instant>,
        patience: &mut Patience,
    ) -> Result<Step, Retry> {
        if written.is_none() {
            written = self.take_over(name, ticket).await?;
            if written.is_none() {
                return Ok(Step::Again(None));
            }
            // Now that the former holder asks no more, what it asked for can be found.
            if let Some(found) = self.find(name, ticket, since).await? {
                return self.adopt(name, ticket, &found).await;
            }
        }
        let me = &self.invocation.id;
        match self.ask(ticket, written).await {
            Answer::Created(id) => {
                self.records.expect_new(&id)?;
                self.adopt(name, ticket, &id).await
            }
            Answer::Refused(finding) => {
                let refused = self.change(name, |group| {
                    let findings = vec![finding.clone()];
                    (
                        group.refused(&ticket.token, me, findings, Timestamp::now()),
                        (),
                    )
                });
                Ok(Step::Again(Some(refused.await?.0)))
            }
            Answer::Unheard(error) => match self.find(name, ticket, since).await? {
                Some(found) => self.adopt(name, ticket, &found).await,
                None => self.ask_again(error, LEASE.unsigned_abs(), patience),
            },
            Answer::NotNow(error) => {
                self.put_back(name, ticket).await?;
                self.ask_again(error, ASK_WITHIN, patience)
            }
            Answer::Denied(error) => {
                self.put_back(name, ticket).await?;
                self.tell_progress(ticket, DropStatus::Waiting, None)
                    .await?;
                Err(error.into())
            }
            Answer::Busy(occupant) => self.yield_to(name, ticket, since, occupant, patience).await,
        }
    }

    /// Lets the ticket wait again, without beginning the next turn at once.
    async fn put_back(&self, name: &GroupName, ticket: &Ticket) -> Result<(), Retry> {
        self.apply(name, |group| {
            group.put_back(&ticket.token, &self.invocation.id, Timestamp::now())
        })
        .await?;
        Ok(())
    }

    /// Goes round once more where patience suffices, and time for `pause` and as much again.
    fn ask_again(
        &self,
        error: ServiceError,
        pause: Duration,
        patience: &mut Patience,
    ) -> Result<Step, Retry> {
        patience.asks += 1;
        let has_time = self.invocation.has_time_for(pause.saturating_mul(2));
        if patience.asks < ASKS_MAX && has_time {
            Ok(Step::Again(None))
        } else {
            Err(error.into())
        }
    }

    /// Takes an intent over once its lease is over; `None` where it changed before that.
    async fn take_over(&self, name: &GroupName, ticket: &Ticket) -> Result<Option<Instant>, Retry> {
        let mut pause = LEASE_LOOK_PAUSE;
        loop {
            let Some(group) = self
                .records
                .group(&name.application, &name.deployment_group)
                .await?
            else {
                return Ok(None);
            };
            let lease_until = match &group.running {
                Some(Running::Intended {
                    ticket: other,
                    lease_until,
                    ..
                }) if other.token == ticket.token => *lease_until,
                _ => return Ok(None),
            };
            let left = Timestamp::now().duration_until(lease_until);
            if !left.is_positive() {
                break;
            }
            let left = left.unsigned_abs().min(LEASE.unsigned_abs());
            if !self.invocation.has_time_for(left) {
                return Err(Retry {
                    reason: RetryReason::DeploymentBeingCreated,
                    message: format!(
                        "another invocation is creating a deployment of {}/{}",
                        name.application, name.deployment_group
                    ),
                });
            }
            // The holder is most likely alive, and done in a moment.
            tokio::time::sleep(pause.min(left)).await;
            pause = pause.saturating_mul(2);
        }
        let mut written = Instant::now();
        let taken = self
            .apply(name, |group| {
                let same = group
                    .running
                    .as_ref()
                    .and_then(Running::ticket)
                    .is_some_and(|t| t.token == ticket.token);
                let (now, lease_until) = lease();
                written = Instant::now();
                same && group.take_over(&self.invocation.id, now, lease_until)
            })
            .await?;
        Ok(taken.then_some(written))
    }

    /// Asks CodeDeploy, as long as the intent is fresh.
    async fn ask(&self, ticket: &Ticket, written: Option<Instant>) -> Answer {
        let mut pause = THROTTLED_PAUSE;
        let mut throttled = None;
        for _ in 0..THROTTLED_TRIES_MAX {
            if written.is_none_or(|written| written.elapsed() > ASK_WITHIN) {
                break;
            }
            let error = match self
                .codedeploy
                .create_deployment(&ticket.request, &ticket.token)
                .await
            {
                Ok(id) => return Answer::Created(id),
                Err(error) => error,
            };
            match error.kind {
                Kind::Throttled => {
                    throttled = Some(error);
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2);
                }
                Kind::Unavailable => return Answer::Unheard(error),
                Kind::AccessDenied => return Answer::Denied(error),
                _ if error.has_code("DeploymentLimitExceededException") => {
                    return Answer::Busy(occupant_in_limit_message(&error.message));
                }
                Kind::NotFound | Kind::Refused | Kind::Conflict | Kind::PreconditionFailed => {
                    return Answer::Refused(refusal(&error));
                }
            }
        }
        Answer::NotNow(throttled.unwrap_or_else(|| ServiceError {
            operation: "PutObject",
            resource: format!(
                "the record of {}/{}",
                ticket.request.application, ticket.request.deployment_group
            ),
            kind: Kind::Unavailable,
            code: None,
            message: format!("it took longer than {} seconds", ASK_WITHIN.as_secs()),
        }))
    }

    /// Writes down that the ticket's deployment is there.
    async fn adopt(
        &self,
        name: &GroupName,
        ticket: &Ticket,
        id: &DeploymentId,
    ) -> Result<Step, Retry> {
        let now = Timestamp::now();
        let (seen, is_news) = self
            .change(name, |group| {
                let is_news = group.created(&ticket.token, id, now);
                (is_news, is_news)
            })
            .await?;
        let news = DeploymentRecord {
            deployment_id: id.clone(),
            application: name.application.clone(),
            deployment_group: name.deployment_group.clone(),
            region: name.region.clone(),
            deployment_config: ticket
                .request
                .deployment_config
                .as_ref()
                .map(ToString::to_string),
            compute_platform: None,
            status: DeploymentStatus::Created,
            revision: Some(ticket.request.revision.clone()),
            build: Some(ticket.build.clone()),
            drop: Some(ticket.drop.clone()),
            options: Some(ticket.into()),
            creator: Some("user".to_owned()),
            description: Some(ticket.token.describe(&ticket.request.description)),
            times: Default::default(),
            error: None,
            failures: Vec::new(),
            rollback: None,
            updated_at: now,
        };
        self.records
            .update_deployment(id, |known| match known {
                // `record` may have been faster, and knows more than whose it is.
                Some(known) if known.drop.is_some() => Change::Keep(()),
                Some(known) => {
                    let mut merged = known.clone();
                    merged.build.clone_from(&news.build);
                    merged.drop.clone_from(&news.drop);
                    merged.options.clone_from(&news.options);
                    merged.updated_at = now;
                    Change::Write(merged, ())
                }
                None => Change::Write(news.clone(), ()),
            })
            .await?;
        self.tell_progress(ticket, DropStatus::Deploying, Some(id))
            .await?;
        if is_news {
            self.invocation.journal.tell(
                &Subject::of_ticket(ticket).by_deployment(Some(id)),
                &Decision::DeploymentCreated {
                    seconds_from_upload: seconds_from(ticket.uploaded_at, now),
                },
            );
        }
        // Where `record` was faster, the deployment may have ended by now.
        Ok(Step::Again(is_news.then_some(seen)))
    }

    /// Gives way to another deployment.
    async fn yield_to(
        &self,
        name: &GroupName,
        ticket: &Ticket,
        since: Timestamp,
        occupant: Option<DeploymentId>,
        patience: &mut Patience,
    ) -> Result<Step, Retry> {
        let occupant = match occupant {
            Some(id) => Some(id),
            // The wording is AWS's to change: the group itself names its last deployment.
            None => self
                .codedeploy
                .deployment_group(&name.region, &name.application, &name.deployment_group)
                .await?
                .last_attempted
                .and_then(|(id, status)| (!status.is_terminal()).then_some(id)),
        };
        match &occupant {
            Some(id) if self.is_ours(name, id, &ticket.token).await? => {
                return self.adopt(name, ticket, id).await;
            }
            Some(_) => {}
            None => {
                if let Some(found) = self.find(name, ticket, since).await? {
                    return self.adopt(name, ticket, &found).await;
                }
            }
        }
        let (seen, ()) = self
            .change(name, |group| {
                let now = Timestamp::now();
                let gave_way =
                    group.busy(&ticket.token, &self.invocation.id, occupant.as_ref(), now);
                (gave_way, ())
            })
            .await?;
        self.tell_progress(ticket, DropStatus::Waiting, None)
            .await?;
        self.invocation.journal.tell(
            &Subject::of_ticket(ticket),
            &Decision::BuildWaits {
                occupant: occupant.as_ref(),
            },
        );
        let Some(id) = occupant else {
            return Ok(Step::Again(Some(seen)));
        };
        // Its end may have been told before the document said that somebody waits for it.
        let info = self.codedeploy.deployment(&name.region, &id).await?;
        if !info.status.is_terminal() {
            return Ok(Step::Again(Some(seen)));
        }
        patience.ghosts += 1;
        if patience.ghosts > GHOSTS_MAX {
            return Ok(Step::Done(seen.group));
        }
        tokio::time::sleep(GHOST_PAUSE.saturating_mul(patience.ghosts)).await;
        // Nobody else may ever tell of it: its event may be lost.
        let known = self.records.deployment(&id).await?;
        Ok(Step::Again(
            self.observe(name, &info, known, Vec::new()).await?,
        ))
    }

    /// Begins the next turn in a group, where there is one to begin.
    async fn begin(&self, name: &GroupName) -> Result<Seen, Retry> {
        let mut written = None;
        let (group, ()) = self
            .records
            .update_group(
                &name.application,
                &name.deployment_group,
                &name.region,
                |group| {
                    let (changed, begun) = self.begin_next(group);
                    written = begun;
                    (changed, ())
                },
            )
            .await?;
        Ok(Seen { group, written })
    }

    /// Applies a transition to the group's document, and begins the next turn with the same write where it
    /// changed anything; `transition` tells whether it did.
    ///
    /// # Errors
    /// AWS trouble, or too much contention.
    pub async fn change<R: Send>(
        &self,
        name: &GroupName,
        mut transition: impl FnMut(&mut Group) -> (bool, R) + Send,
    ) -> Result<(Seen, R), Retry> {
        let mut written = None;
        let (group, answer) = self
            .records
            .update_group(
                &name.application,
                &name.deployment_group,
                &name.region,
                |group| {
                    let (changed, answer) = transition(group);
                    written = if changed {
                        self.begin_next(group).1
                    } else {
                        None
                    };
                    (changed, answer)
                },
            )
            .await?;
        Ok((Seen { group, written }, answer))
    }

    /// Applies a transition and nothing else; tells whether it changed anything.
    async fn apply(
        &self,
        name: &GroupName,
        mut transition: impl FnMut(&mut Group) -> bool + Send,
    ) -> Result<bool, Retry> {
        let (_, changed) = self
            .records
            .update_group(
                &name.application,
                &name.deployment_group,
                &name.region,
                |group| {
                    let changed = transition(group);
                    (changed, changed)
                },
            )
            .await?;
        Ok(changed)
    }

    /// Begins the next turn in a document; whether that changed it, and when an intent was written.
    fn begin_next(&self, group: &mut Group) -> (bool, Option<Instant>) {
        let (now, lease_until) = lease();
        let changed = group.begin_next(&self.invocation.id, now, lease_until);
        let begun = changed && group.running.is_some();
        (changed, begun.then(Instant::now))
    }
}

/// Now, and the end of a lease that begins now.
fn lease() -> (Timestamp, Timestamp) {
    let now = Timestamp::now();
    (now, now.saturating_add(LEASE).unwrap_or(now))
}
