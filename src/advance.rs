//! Carries out what a group's document says: creates the next deployment, finds the one that was
//! created unheard, tells the drops how they ended.
//!
//! Shared by both functions: whoever changes a group's document advances it. Every step first writes
//! the document ([`queue`](crate::records::queue)) and then acts on what it wrote, so that whoever finds
//! the document later can go on from there.

mod invocation;
mod refusal;
mod telling;

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use crate::decision::{Decision, Subject, seconds_from};
use crate::deployment::{
    ApplicationName, CodeDeploy, DeploymentGroupName, DeploymentId, DeploymentInfo,
    DeploymentStatus, DeploymentToken, Region, occupant_in_limit_message,
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
/// How far CodeDeploy's clock may be behind ours when its deployments are searched by time.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(120);
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
    /// It was not asked for, because CodeDeploy throttles or the intent is no longer fresh.
    NotAsked(ServiceError),
}

/// What one call of [`Conductor::advance`] has put up with so far.
#[derive(Default)]
struct Patience {
    ghosts: u32,
    asks: u32,
}

impl<D: DocumentStore, C: CodeDeploy> Conductor<'_, D, C> {
    /// Advances a group until nothing is left to do now: it is idle, or a deployment is active.
    ///
    /// # Errors
    /// AWS trouble; another invocation that is just asking; too little time left. The document tells
    /// how far it came.
    pub async fn advance(&self, name: &GroupName) -> Result<(), Retry> {
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
        mut seen: Option<Group>,
    ) -> Result<(), Retry> {
        let mut patience = Patience::default();
        for _ in 0..STEPS_MAX {
            let now = Timestamp::now();
            let lease_until = now.saturating_add(LEASE).unwrap_or(now);
            let written = Instant::now();
            let begin = |group: &mut Group| group.begin_next(&self.invocation.id, now, lease_until);
            let seen = seen.take().filter(|group| !begin(&mut group.clone()));
            let group = match seen {
                Some(group) => group,
                None => {
                    self.records
                        .update_group(
                            &name.application,
                            &name.deployment_group,
                            &name.region,
                            |group| (begin(group), ()),
                        )
                        .await?
                        .0
                }
            };
            if !group.announcements.is_empty() {
                self.announce(name, &group.announcements).await?;
            }
            match &group.running {
                Some(Running::Intended {
                    ticket,
                    since,
                    holder,
                    ..
                }) => {
                    let fresh = *holder == self.invocation.id && *since == now;
                    if !self
                        .resolve(
                            name,
                            ticket,
                            *since,
                            fresh.then_some(written),
                            &mut patience,
                        )
                        .await?
                    {
                        return Ok(());
                    }
                }
                Some(Running::Deploying { .. } | Running::Foreign { .. }) => return Ok(()),
                None if group.waiting.is_empty() => return Ok(()),
                None => {}
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

    /// Brings an intent to its deployment, or back into the queue; tells whether there may be more to do.
    ///
    /// `written` is when this invocation wrote the intent, where it did; else the deployment may have
    /// been asked for already.
    async fn resolve(
        &self,
        name: &GroupName,
        ticket: &Ticket,
        since: Timestamp,
        written: Option<Instant>,
        patience: &mut Patience,
    ) -> Result<bool, Retry> {
        let mut written = written;
        if written.is_none() {
            written = self.take_over(name, ticket).await?;
            if written.is_none() {
                return Ok(true);
            }
            // Now that the former holder asks no more, what it asked for can be found.
            if let Some(found) = self.find(name, ticket, since).await? {
                return self.adopt(name, ticket, &found).await;
            }
        }
        match self.ask(ticket, written).await? {
            Answer::Created(id) => {
                self.records.expect_new(&id)?;
                self.adopt(name, ticket, &id).await
            }
            Answer::Refused(finding) => {
                let now = Timestamp::now();
                self.change(name, |group| {
                    group.refused(
                        &ticket.token,
                        &self.invocation.id,
                        vec![finding.clone()],
                        now,
                    )
                })
                .await?;
                Ok(true)
            }
            Answer::Unheard(error) => match self.find(name, ticket, since).await? {
                Some(found) => self.adopt(name, ticket, &found).await,
                None => self.ask_again(error, patience),
            },
            Answer::NotAsked(error) => self.ask_again(error, patience),
            Answer::Busy(occupant) => self.yield_to(name, ticket, since, occupant, patience).await,
        }
    }

    /// Goes round once more, which waits for the lease to be over, where time and patience suffice.
    fn ask_again(&self, error: ServiceError, patience: &mut Patience) -> Result<bool, Retry> {
        patience.asks += 1;
        let has_time = self
            .invocation
            .has_time_for(LEASE.unsigned_abs().saturating_mul(2));
        if patience.asks < ASKS_MAX && has_time {
            Ok(true)
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
        let now = Timestamp::now();
        let until = now.saturating_add(LEASE).unwrap_or(now);
        let written = Instant::now();
        let taken = self
            .change(name, |group| {
                let same = group
                    .running
                    .as_ref()
                    .and_then(Running::ticket)
                    .is_some_and(|t| t.token == ticket.token);
                same && group.take_over(&self.invocation.id, now, until)
            })
            .await?;
        Ok(taken.then_some(written))
    }

    /// Asks CodeDeploy, as long as the intent is fresh.
    async fn ask(&self, ticket: &Ticket, written: Option<Instant>) -> Result<Answer, Retry> {
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
                Ok(id) => return Ok(Answer::Created(id)),
                Err(error) => error,
            };
            match error.kind {
                Kind::Throttled => {
                    throttled = Some(error);
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2);
                }
                Kind::Unavailable => return Ok(Answer::Unheard(error)),
                Kind::AccessDenied => return Err(error.into()),
                _ if error.has_code("DeploymentLimitExceededException") => {
                    return Ok(Answer::Busy(occupant_in_limit_message(&error.message)));
                }
                Kind::NotFound | Kind::Refused | Kind::Conflict | Kind::PreconditionFailed => {
                    return Ok(Answer::Refused(refusal(&error)));
                }
            }
        }
        Ok(Answer::NotAsked(throttled.unwrap_or_else(|| {
            ServiceError {
                operation: "PutObject",
                resource: format!(
                    "the record of {}/{}",
                    ticket.request.application, ticket.request.deployment_group
                ),
                kind: Kind::Unavailable,
                code: None,
                message: format!("it took longer than {} seconds", ASK_WITHIN.as_secs()),
            }
        })))
    }

    /// Looks for the deployment that carries the ticket's token: the group's last one first, then by time.
    async fn find(
        &self,
        name: &GroupName,
        ticket: &Ticket,
        since: Timestamp,
    ) -> Result<Option<DeploymentId>, Retry> {
        let last = self
            .codedeploy
            .deployment_group(&name.region, &name.application, &name.deployment_group)
            .await
            .ok()
            .and_then(|group| group.last_attempted);
        if let Some((id, _)) = last
            && self.is_ours(name, &id, &ticket.token).await?.is_some()
        {
            return Ok(Some(id));
        }
        let since = since.saturating_sub(CLOCK_SKEW).unwrap_or(since);
        let found = self
            .codedeploy
            .deployments_since(&ticket.request, since)
            .await?;
        Ok(found
            .into_iter()
            .find(|info| carries(info, &ticket.token))
            .map(|info| info.deployment_id))
    }

    /// The deployment, if it carries this token.
    async fn is_ours(
        &self,
        name: &GroupName,
        id: &DeploymentId,
        token: &DeploymentToken,
    ) -> Result<Option<DeploymentInfo>, Retry> {
        let info = self.codedeploy.deployment(&name.region, id).await?;
        Ok(carries(&info, token).then_some(info))
    }

    /// Writes down that the ticket's deployment is there.
    async fn adopt(
        &self,
        name: &GroupName,
        ticket: &Ticket,
        id: &DeploymentId,
    ) -> Result<bool, Retry> {
        let now = Timestamp::now();
        let is_news = self
            .change(name, |group| group.created(&ticket.token, id, now))
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
                // `record` may have been faster, and knows more than the build.
                Some(known) if known.build.is_some() => Change::Keep(()),
                Some(known) => {
                    let mut merged = known.clone();
                    merged.build.clone_from(&news.build);
                    merged.drop.clone_from(&news.drop);
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
        Ok(!is_news)
    }

    /// Gives way to another deployment; tells whether to look again at once.
    async fn yield_to(
        &self,
        name: &GroupName,
        ticket: &Ticket,
        since: Timestamp,
        occupant: Option<DeploymentId>,
        patience: &mut Patience,
    ) -> Result<bool, Retry> {
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
            Some(id) if self.is_ours(name, id, &ticket.token).await?.is_some() => {
                return self.adopt(name, ticket, id).await;
            }
            Some(_) => {}
            None => {
                if let Some(found) = self.find(name, ticket, since).await? {
                    return self.adopt(name, ticket, &found).await;
                }
            }
        }
        let now = Timestamp::now();
        self.change(name, |group| {
            group.busy(&ticket.token, &self.invocation.id, occupant.as_ref(), now)
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
        // Its end may have been told before the document said that somebody waits for it.
        let Some(id) = occupant else { return Ok(true) };
        let status = self.codedeploy.deployment(&name.region, &id).await?.status;
        if status.is_terminal() {
            patience.ghosts += 1;
            if patience.ghosts > GHOSTS_MAX {
                return Ok(false);
            }
            tokio::time::sleep(GHOST_PAUSE.saturating_mul(patience.ghosts)).await;
            self.change(name, |group| group.vacated(Some(&id))).await?;
        }
        Ok(true)
    }

    /// Applies a transition to the group's document; tells whether it changed anything.
    async fn change(
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
}

fn carries(info: &DeploymentInfo, token: &DeploymentToken) -> bool {
    info.description
        .as_deref()
        .and_then(DeploymentToken::in_description)
        .as_ref()
        == Some(token)
}
