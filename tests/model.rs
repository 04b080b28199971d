//! The queue's rules, explored exhaustively: every interleaving of invocations, events and crashes in small worlds.
//!
//! The transitions are the real ones of [`Group`]; around them stand the steps of both functions as they
//! make them (claim, admission, begin, ask, look up, adopt, give way, announce; look, record, settle) and a
//! CodeDeploy that has one active deployment per group. A step is one request: between any two of them
//! everybody else may act, and the invocation may die. A change by compare-and-swap is one step, because it
//! is applied anew until it meets the document that it was made from.
//!
//! Time is abstract. A lease ends when somebody takes it over; from then on the former holder may still
//! write, but asks no more. Nothing else is assumed of how long a step takes.
//!
//! Worlds are bounded by how many crashes, duplicates, lost events and lost answers one history holds. A rule
//! that is switched off ([`Rule`]) is left out of the steps here, never of the code under test, and must be
//! missed: that is how the checker is itself checked.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::{SignedDuration, Timestamp};
use stagedrop::deployment::{
    DeploymentId, DeploymentRequest, DeploymentStatus, DeploymentToken, RevisionLocation,
};
use stagedrop::key_pattern::Build;
use stagedrop::records::group::{DropReference, EndStatus, Group, Running, Ticket};
use stagedrop::records::queue::{Admission, End};
use stagedrop::settings::{Order, Queue};

/// What the checker must miss when it is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// The intent is written before CodeDeploy is asked.
    IntentFirst,
    /// Who finds an intent looks for its deployment before asking again.
    LookupFirst,
    /// After a group was found busy, the occupant's end is looked up once more.
    OccupantAgain,
    /// What is older than the live build is superseded.
    OlderThanLive,
    /// A ticket is admitted only if nobody was since the drop's record was read.
    AdmittedSince,
    /// What the group knew when it was read is not admitted, though it may be forgotten by now.
    KnownBefore,
    /// A "busy" counts only from the intent's holder.
    HolderOnly,
    /// Writes are compared with what was read.
    CompareAndSwap,
    /// An end is announced until the drop's document tells it.
    AnnounceUntilTold,
}

/// One small world.
#[derive(Debug, Clone)]
struct Bounds {
    /// Build numbers; the events of all of them are on their way from the start.
    builds: Vec<u32>,
    /// The builds whose upload says `redeploy`.
    redeploys: Vec<u32>,
    queue: Queue,
    /// Invocations at the same time.
    slots: usize,
    /// Somebody else's deployments.
    foreign: u8,
    crashes: u8,
    duplicates: u8,
    /// Events that never come.
    lost: u8,
    /// Answers of `CreateDeployment` that are not heard, whether it was carried out or not.
    unheard: u8,
    /// Whether deployments of ours may also fail.
    failures: bool,
    /// Whether CodeDeploy names the deployment that holds the group.
    named: bool,
    schedule: bool,
    /// Outcomes that the group remembers, where fewer than the real 50.
    remembered: Option<usize>,
    without: Option<Rule>,
}

impl Bounds {
    fn of(builds: &[u32]) -> Self {
        Self {
            builds: builds.to_vec(),
            redeploys: Vec::new(),
            queue: Queue::Newest,
            slots: 2,
            foreign: 0,
            crashes: 0,
            duplicates: 0,
            lost: 0,
            unheard: 0,
            failures: false,
            named: true,
            schedule: true,
            remembered: None,
            without: None,
        }
    }
}

/// A state's predecessor, and the step from there.
type Parent = (u32, Option<u8>, &'static str);

const STATES_MAX: usize = 3_000_000;
const BUILDS_MAX: usize = 3;
const DEPLOYMENTS_MAX: usize = 6;
const SLOTS_MAX: usize = 3;
/// The owner of a deployment that is not ours.
const FOREIGN: u8 = 9;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    Active,
    Succeeded,
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Deployment {
    owner: u8,
    phase: Phase,
    ended_at: u8,
}

/// What an invocation was started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Job {
    Staged(u8),
    StateChange(u8),
    Schedule,
}

/// The request that an invocation makes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Next {
    // deploy.rs, deploy/ship.rs
    Claim,
    ReadGroup,
    ReadDrop {
        arrivals: u8,
    },
    Admit {
        arrivals: u8,
    },
    // advance.rs
    Begin,
    Tell {
        seen: u32,
        at: u8,
    },
    Told {
        seen: u32,
    },
    Find {
        build: u8,
        after: After,
    },
    TakeOver {
        build: u8,
    },
    Ask {
        build: u8,
    },
    Adopt {
        build: u8,
        deployment: u8,
    },
    NameOccupant {
        build: u8,
    },
    Yield {
        build: u8,
        occupant: Option<u8>,
    },
    LookAtOccupant {
        occupant: u8,
    },
    Vacate {
        occupant: u8,
    },
    // record.rs
    Look {
        deployment: u8,
    },
    Record {
        deployment: u8,
        ended: bool,
    },
    ReadOpen,
    LookAtLast,
    SettleUnnamed {
        last: Option<u8>,
    },
    /// Only without [`Rule::CompareAndSwap`]: writes what follows from an older document.
    Overwrite {
        seen: u32,
    },
}

/// Where a look-up that found nothing goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum After {
    TakeOver,
    Ask,
    Round,
    Yield,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Invocation {
    job: Job,
    next: Next,
    /// It wrote the intent, or took it over, and nobody has taken it since.
    may_ask: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    /// The group's document, by its number in [`Checker::groups`].
    group: u32,
    /// The drops' documents: how they ended.
    drops: [Option<Ending>; BUILDS_MAX],
    /// Events of staged objects on their way.
    staged: [u8; BUILDS_MAX],
    deployments: Vec<Deployment>,
    /// Events of each deployment on their way.
    changes: [u8; DEPLOYMENTS_MAX],
    slots: [Option<Invocation>; SLOTS_MAX],
    admitted: [bool; BUILDS_MAX],
    foreign: u8,
    crashes: u8,
    duplicates: u8,
    lost: u8,
    unheard: u8,
    ended: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Ending {
    Rejected,
    Superseded,
    Succeeded,
    Failed,
}

impl From<EndStatus> for Ending {
    fn from(status: EndStatus) -> Self {
        match status {
            EndStatus::Rejected => Self::Rejected,
            EndStatus::Superseded => Self::Superseded,
            EndStatus::Succeeded => Self::Succeeded,
            EndStatus::Failed | EndStatus::Stopped => Self::Failed,
        }
    }
}

/// A transition of the group's document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Op {
    Admit {
        build: u8,
    },
    Begin {
        slot: u8,
    },
    TakeOver {
        build: u8,
        slot: u8,
    },
    Created {
        build: u8,
        deployment: u8,
    },
    BegunAndCreated {
        build: u8,
        deployment: u8,
    },
    Busy {
        build: u8,
        slot: u8,
        occupant: Option<u8>,
    },
    Vacated {
        deployment: Option<u8>,
    },
    Observed {
        deployment: u8,
        owner: u8,
        end: Option<(Phase, u8)>,
    },
    Occupied {
        deployment: u8,
    },
    Announced {
        seen: u32,
    },
    /// The invocation of this slot is no more; the next one there has another name.
    Gone {
        slot: u8,
    },
}

/// What a violation looks like.
#[derive(Debug)]
struct Violation {
    what: String,
    trace: Vec<String>,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.what)?;
        for line in &self.trace {
            writeln!(f, "  {line}")?;
        }
        Ok(())
    }
}

/// How much was explored.
#[derive(Debug, Clone, Copy)]
struct Explored {
    states: usize,
    documents: usize,
    quiet: usize,
}

struct Successor {
    slot: Option<u8>,
    what: &'static str,
    /// Not needed for things to go on: crashes, duplicates, losses, somebody else's deployment.
    is_fault: bool,
    world: World,
}

struct Checker {
    bounds: Bounds,
    groups: Vec<Group>,
    numbers: HashMap<String, u32>,
    applied: HashMap<(u32, Op), (u32, u8)>,
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

/// Within the lease that every intent has.
const NOW: i64 = 0;
const LEASE_UNTIL: i64 = 10;
const AFTER_LEASE: i64 = 20;

fn token(build: u8) -> DeploymentToken {
    format!("sd-{build:024x}").parse().unwrap()
}

fn id(deployment: u8) -> DeploymentId {
    format!("d-{deployment}").parse().unwrap()
}

fn number_of(id: &DeploymentId) -> u8 {
    id.as_str()[2..].parse().unwrap()
}

fn build_of(ticket: &Ticket) -> u8 {
    u8::from_str_radix(&ticket.token.as_str()[3..], 16).unwrap()
}

fn holder(slot: u8) -> String {
    format!("slot {slot}")
}

impl Checker {
    fn new(bounds: Bounds) -> Self {
        let mut checker = Self {
            bounds,
            groups: Vec::new(),
            numbers: HashMap::new(),
            applied: HashMap::new(),
        };
        let group = Group::new(
            "shop".parse().unwrap(),
            "production".parse().unwrap(),
            "us-east-1".parse().unwrap(),
        );
        checker.number(group);
        checker
    }

    fn number(&mut self, group: Group) -> u32 {
        let text = serde_json::to_string(&group).unwrap();
        *self.numbers.entry(text).or_insert_with(|| {
            self.groups.push(group);
            u32::try_from(self.groups.len() - 1).unwrap()
        })
    }

    fn ticket(&self, build: u8) -> Ticket {
        let build_num = self.bounds.builds[usize::from(build)];
        Ticket {
            drop: DropReference {
                staged_key: format!("staging/{build_num}.zip"),
                drop_id: format!("{build:024x}").parse().unwrap(),
            },
            token: token(build),
            build: Build {
                build_num: Some(build_num.to_string()),
                ..Build::default()
            },
            uploaded_at: at(0),
            arrival: 0,
            order: Order::BuildNum,
            queue: self.bounds.queue,
            redeploy: self.bounds.redeploys.contains(&build_num),
            request: DeploymentRequest {
                application: "shop".parse().unwrap(),
                deployment_group: "production".parse().unwrap(),
                region: "us-east-1".parse().unwrap(),
                deployment_config: None,
                revision: revision(build),
                description: String::new(),
                file_exists_behavior: None,
                ignore_application_stop_failures: None,
                update_outdated_instances_only: None,
                auto_rollback: None,
            },
        }
    }

    fn is_without(&self, rule: Rule) -> bool {
        self.bounds.without == Some(rule)
    }

    /// Applies a real transition to a document; gives the document's number and what the transition answered.
    fn apply(&mut self, before: u32, op: Op) -> (u32, u8) {
        if let Some(known) = self.applied.get(&(before, op)) {
            return *known;
        }
        let mut group = self.groups[before as usize].clone();
        let now = at(NOW);
        let answer = match op {
            Op::Admit { build } => {
                let ticket = self.ticket(build);
                let admission = self.without_live(&mut group, |group| group.admit(ticket, now));
                u8::from(admission != Admission::Known)
            }
            Op::Begin { slot } => {
                let begun = self.without_live(&mut group, |group| {
                    group.begin_next(&holder(slot), now, at(LEASE_UNTIL))
                });
                u8::from(begun)
            }
            Op::TakeOver { build, slot } => {
                let same = group
                    .running
                    .as_ref()
                    .and_then(Running::ticket)
                    .is_some_and(|t| t.token == token(build));
                u8::from(same && group.take_over(&holder(slot), at(AFTER_LEASE), at(LEASE_UNTIL)))
            }
            Op::Created { build, deployment } => {
                u8::from(group.created(&token(build), &id(deployment), now))
            }
            Op::BegunAndCreated { build, deployment } => {
                group.begin_next("", now, at(LEASE_UNTIL));
                u8::from(group.created(&token(build), &id(deployment), now))
            }
            Op::Busy {
                build,
                slot,
                occupant,
            } => {
                let by = match &group.running {
                    Some(Running::Intended { holder, .. }) if self.is_without(Rule::HolderOnly) => {
                        holder.clone()
                    }
                    _ => holder(slot),
                };
                u8::from(group.busy(&token(build), &by, occupant.map(id).as_ref(), now))
            }
            Op::Vacated { deployment } => u8::from(group.vacated(deployment.map(id).as_ref())),
            Op::Observed {
                deployment,
                owner,
                end,
            } => {
                let mut changed = false;
                if owner != FOREIGN {
                    changed |= group.created(&token(owner), &id(deployment), now);
                }
                match end {
                    Some((phase, ended_at)) => {
                        changed |= group.ended(&ending(deployment, owner, phase, ended_at))
                    }
                    None if !changed => changed = group.occupied(&id(deployment), now),
                    None => {}
                }
                u8::from(changed)
            }
            Op::Occupied { deployment } => u8::from(group.occupied(&id(deployment), now)),
            Op::Announced { seen } => {
                let told = self.groups[seen as usize].announcements.clone();
                u8::from(group.announced(&told))
            }
            Op::Gone { slot } => {
                if let Some(Running::Intended {
                    holder: current, ..
                }) = &mut group.running
                    && *current == holder(slot)
                {
                    *current = "gone".to_owned();
                }
                0
            }
        };
        if self.is_without(Rule::AnnounceUntilTold) {
            group.announcements.clear();
        }
        if let Some(remembered) = self.bounds.remembered {
            group.outcomes.truncate(remembered);
        }
        let after = self.number(group);
        self.applied.insert((before, op), (after, answer));
        (after, answer)
    }

    /// Applies a transition that looks at the live build; without [`Rule::OlderThanLive`] it finds none.
    fn without_live<R>(&self, group: &mut Group, transition: impl FnOnce(&mut Group) -> R) -> R {
        if !self.is_without(Rule::OlderThanLive) {
            return transition(group);
        }
        let live = group.live.take();
        let answer = transition(group);
        group.live = live;
        answer
    }

    fn group(&self, number: u32) -> &Group {
        &self.groups[number as usize]
    }

    fn start(&self) -> World {
        let mut staged = [0; BUILDS_MAX];
        staged[..self.bounds.builds.len()].fill(1);
        World {
            group: 0,
            drops: [None; BUILDS_MAX],
            staged,
            deployments: Vec::new(),
            changes: [0; DEPLOYMENTS_MAX],
            slots: [None; SLOTS_MAX],
            admitted: [false; BUILDS_MAX],
            foreign: self.bounds.foreign,
            crashes: self.bounds.crashes,
            duplicates: self.bounds.duplicates,
            lost: self.bounds.lost,
            unheard: self.bounds.unheard,
            ended: 0,
        }
    }

    /// Everything that may happen next.
    fn successors(&mut self, world: &World) -> Result<Vec<Successor>, String> {
        let mut found = Vec::new();
        let mut push = |slot: Option<usize>, what, is_fault, world| {
            found.push(Successor {
                slot: slot.map(|slot| slot as u8),
                what,
                is_fault,
                world,
            });
        };
        // Somebody else's deployment, and ends.
        match world
            .deployments
            .iter()
            .position(|d| d.phase == Phase::Active)
        {
            None if world.foreign > 0 => {
                let mut next = world.clone();
                next.foreign -= 1;
                create(&mut next, FOREIGN);
                push(None, "somebody else's deployment begins", true, next);
            }
            None => {}
            Some(active) => {
                let ours = world.deployments[active].owner != FOREIGN;
                // Of somebody else's we do not know what it deploys; one that is stopped leaves the live build.
                let phases: &[Phase] = match (ours, self.bounds.failures) {
                    (true, true) => &[Phase::Succeeded, Phase::Failed],
                    (true, false) => &[Phase::Succeeded],
                    (false, _) => &[Phase::Failed],
                };
                for phase in phases {
                    let mut next = world.clone();
                    next.deployments[active].phase = *phase;
                    next.deployments[active].ended_at = next.ended + 1;
                    next.ended += 1;
                    next.changes[active] += 1;
                    push(None, "a deployment ends", false, next);
                }
            }
        }
        // Deliveries.
        if let Some(free) = (0..self.bounds.slots).find(|slot| world.slots[*slot].is_none()) {
            let begin = |next: &mut World, job, first| {
                next.slots[free] = Some(Invocation {
                    job,
                    next: first,
                    may_ask: false,
                });
            };
            for build in 0..self.bounds.builds.len() {
                if world.staged[build] == 0 {
                    continue;
                }
                let mut next = world.clone();
                next.staged[build] -= 1;
                begin(&mut next, Job::Staged(build as u8), Next::Claim);
                push(Some(free), "a staged object is told", false, next.clone());
                if world.duplicates > 0 {
                    next.staged[build] += 1;
                    next.duplicates -= 1;
                    push(
                        Some(free),
                        "a staged object is told, and will be again",
                        true,
                        next,
                    );
                }
            }
            for deployment in 0..world.deployments.len() {
                if world.changes[deployment] == 0 {
                    continue;
                }
                let mut next = world.clone();
                next.changes[deployment] -= 1;
                let told = next.clone();
                let look = Next::Look {
                    deployment: deployment as u8,
                };
                begin(&mut next, Job::StateChange(deployment as u8), look);
                push(Some(free), "a state change is told", false, next.clone());
                if world.duplicates > 0 {
                    next.changes[deployment] += 1;
                    next.duplicates -= 1;
                    push(
                        Some(free),
                        "a state change is told, and will be again",
                        true,
                        next,
                    );
                }
                if world.lost > 0 {
                    let mut next = told;
                    next.lost -= 1;
                    push(None, "a state change is lost", true, next);
                }
            }
            let is_settling = world.slots.iter().flatten().any(|i| i.job == Job::Schedule);
            if self.bounds.schedule && !is_settling && !self.group(world.group).is_quiet() {
                let mut next = world.clone();
                begin(&mut next, Job::Schedule, Next::ReadOpen);
                push(Some(free), "the clock rings", false, next);
            }
        }
        // Invocations.
        for slot in 0..self.bounds.slots {
            let Some(invocation) = world.slots[slot] else {
                continue;
            };
            if world.crashes > 0 {
                let mut next = world.clone();
                next.crashes -= 1;
                // Lambda tries again.
                match invocation.job {
                    Job::Staged(build) => next.staged[usize::from(build)] += 1,
                    Job::StateChange(deployment) => next.changes[usize::from(deployment)] += 1,
                    Job::Schedule => {}
                }
                self.leave(&mut next, slot);
                push(Some(slot), "the invocation dies", true, next);
            }
            for (what, is_fault, next) in self.step(world, slot, invocation)? {
                push(Some(slot), what, is_fault, next);
            }
        }
        // A delivery that waits for its first request is one that is still on its way.
        for successor in &mut found {
            if !successor.what.ends_with("told")
                && !successor.what.ends_with("again")
                && successor.what != "the clock rings"
            {
                continue;
            }
            let slot = usize::from(successor.slot.unwrap_or_default());
            if let Some(invocation) = successor.world.slots[slot] {
                let mut first = self.step(&successor.world, slot, invocation)?;
                if let Some((_, _, world)) = first.pop() {
                    successor.world = world;
                }
            }
        }
        for successor in &found {
            self.check(&successor.world)?;
        }
        Ok(found)
    }

    /// The invocation of a slot is over.
    fn leave(&mut self, world: &mut World, slot: usize) {
        world.slots[slot] = None;
        world.group = self.apply(world.group, Op::Gone { slot: slot as u8 }).0;
    }

    /// Changes the group's document.
    fn change(&mut self, world: &mut World, op: Op) -> bool {
        let (group, answer) = self.apply(world.group, op);
        world.group = group;
        answer > 0
    }

    /// One request of one invocation.
    fn step(
        &mut self,
        world: &World,
        slot: usize,
        invocation: Invocation,
    ) -> Result<Vec<(&'static str, bool, World)>, String> {
        let mut next = world.clone();
        let by = slot as u8;
        let mut more = Vec::new();
        let what;
        // `None`: the invocation is over.
        let mut goes_on = Some(invocation);
        let go = |goes_on: &mut Option<Invocation>, next| {
            *goes_on = Some(Invocation { next, ..invocation });
        };
        match invocation.next {
            Next::Claim => {
                what = "claims the drop";
                let Job::Staged(build) = invocation.job else {
                    unreachable!()
                };
                match world.drops[usize::from(build)] {
                    Some(_) => goes_on = None,
                    None => go(&mut goes_on, Next::ReadGroup),
                }
            }
            Next::ReadGroup => {
                what = "reads the group";
                let Job::Staged(build) = invocation.job else {
                    unreachable!()
                };
                let group = self.group(world.group);
                let known = group.knows(&self.ticket(build).drop.drop_id);
                if known && !self.is_without(Rule::KnownBefore) {
                    go(&mut goes_on, Next::Begin);
                } else {
                    let arrivals = group.arrivals as u8;
                    go(&mut goes_on, Next::ReadDrop { arrivals });
                }
            }
            Next::ReadDrop { arrivals } => {
                what = "reads the drop";
                let Job::Staged(build) = invocation.job else {
                    unreachable!()
                };
                match world.drops[usize::from(build)] {
                    Some(_) => go(&mut goes_on, Next::Begin),
                    None => go(&mut goes_on, Next::Admit { arrivals }),
                }
            }
            Next::Admit { arrivals } => {
                what = "admits the ticket";
                let Job::Staged(build) = invocation.job else {
                    unreachable!()
                };
                let same = self.group(world.group).arrivals == u64::from(arrivals);
                if same || self.is_without(Rule::AdmittedSince) {
                    if self.is_without(Rule::CompareAndSwap) {
                        let seen = self.apply(world.group, Op::Admit { build }).0;
                        next.admitted[usize::from(build)] = true;
                        go(&mut goes_on, Next::Overwrite { seen });
                    } else {
                        self.change(&mut next, Op::Admit { build });
                        next.admitted[usize::from(build)] = true;
                        go(&mut goes_on, Next::Begin);
                    }
                } else {
                    go(&mut goes_on, Next::ReadGroup);
                }
            }
            Next::Overwrite { seen } => {
                what = "writes over whatever is there";
                next.group = seen;
                go(&mut goes_on, Next::Begin);
            }
            Next::Begin => {
                what = "begins the next turn, if there is one";
                let (seen, begun) = self.apply(world.group, Op::Begin { slot: by });
                if !self.is_without(Rule::IntentFirst) {
                    next.group = seen;
                }
                let (following, may_ask) = match self.group(seen).announcements.is_empty() {
                    true => (self.resolve(seen, begun > 0), begun > 0),
                    false => (Some(Next::Tell { seen, at: 0 }), begun > 0),
                };
                goes_on = following.map(|next| Invocation {
                    next,
                    may_ask,
                    ..invocation
                });
            }
            Next::Tell { seen, at } => {
                what = "tells a drop its end";
                let announcements = &self.group(seen).announcements;
                let end = &announcements[usize::from(at)];
                let build = usize::from(u8::from_str_radix(end.drop.drop_id.as_str(), 16).unwrap());
                let status = Ending::from(end.status);
                next.drops[build] = next.drops[build].or(Some(status));
                let told = usize::from(at) + 1 == announcements.len();
                go(
                    &mut goes_on,
                    match told {
                        true => Next::Told { seen },
                        false => Next::Tell { seen, at: at + 1 },
                    },
                );
            }
            Next::Told { seen } => {
                what = "forgets what was told";
                self.change(&mut next, Op::Announced { seen });
                let following = self.resolve(seen, invocation.may_ask);
                goes_on = following.map(|next| Invocation { next, ..invocation });
            }
            Next::Find { build, after } => {
                what = "looks for the ticket's deployment";
                let found = world.deployments.iter().position(|d| d.owner == build);
                let found = found.filter(|_| !self.is_without(Rule::LookupFirst));
                go(
                    &mut goes_on,
                    match (found, after) {
                        (Some(deployment), _) => Next::Adopt {
                            build,
                            deployment: deployment as u8,
                        },
                        (None, After::TakeOver) => Next::TakeOver { build },
                        (None, After::Ask) => Next::Ask { build },
                        (None, After::Round) => Next::Begin,
                        (None, After::Yield) => Next::Yield {
                            build,
                            occupant: None,
                        },
                    },
                );
            }
            Next::TakeOver { build } => {
                what = "waits for the lease to end and takes the intent over";
                if self.change(&mut next, Op::TakeOver { build, slot: by }) {
                    for other in next.slots.iter_mut().flatten() {
                        other.may_ask = false;
                    }
                    let after = Next::Find {
                        build,
                        after: After::Ask,
                    };
                    goes_on = Some(Invocation {
                        next: after,
                        may_ask: true,
                        ..invocation
                    });
                } else {
                    go(&mut goes_on, Next::Begin);
                }
            }
            Next::Ask { build } if !invocation.may_ask => {
                let _ = build;
                what = "does not ask, because the lease is over";
                go(&mut goes_on, Next::Begin);
            }
            Next::Ask { build } => {
                what = "asks CodeDeploy, and hears the answer";
                let unheard = Invocation {
                    next: Next::Find {
                        build,
                        after: After::Round,
                    },
                    ..invocation
                };
                if world.unheard > 0 {
                    let mut lost = world.clone();
                    lost.unheard -= 1;
                    lost.slots[slot] = Some(unheard);
                    more.push(("asks CodeDeploy in vain", true, lost));
                }
                match world
                    .deployments
                    .iter()
                    .position(|d| d.phase == Phase::Active)
                {
                    Some(active) => {
                        let active = active as u8;
                        let owner = world.deployments[usize::from(active)].owner;
                        if owner != FOREIGN && owner != build {
                            return Err(format!(
                                "build {} is asked for while build {} is deploying",
                                self.bounds.builds[usize::from(build)],
                                self.bounds.builds[usize::from(owner)]
                            ));
                        }
                        go(
                            &mut goes_on,
                            match (self.bounds.named, owner == build) {
                                (true, true) => Next::Adopt {
                                    build,
                                    deployment: active,
                                },
                                (true, false) => Next::Yield {
                                    build,
                                    occupant: Some(active),
                                },
                                (false, _) => Next::NameOccupant { build },
                            },
                        );
                    }
                    None => {
                        self.allowed(world, build)?;
                        let deployment = create(&mut next, build);
                        if world.unheard > 0 {
                            let mut lost = next.clone();
                            lost.unheard -= 1;
                            lost.slots[slot] = Some(unheard);
                            more.push(("asks CodeDeploy, and the answer is lost", true, lost));
                        }
                        go(&mut goes_on, Next::Adopt { build, deployment });
                    }
                }
            }
            Next::Adopt { build, deployment } => {
                what = "writes the deployment's id";
                let op = match self.is_without(Rule::IntentFirst) {
                    true => Op::BegunAndCreated { build, deployment },
                    false => Op::Created { build, deployment },
                };
                self.change(&mut next, op);
                go(&mut goes_on, Next::Begin);
            }
            Next::NameOccupant { build } => {
                what = "asks for the group's last deployment";
                let last = world.deployments.len() - 1;
                let last = world.deployments[last].phase == Phase::Active;
                let last = last.then_some(world.deployments.len() as u8 - 1);
                go(
                    &mut goes_on,
                    match last {
                        Some(deployment)
                            if world.deployments[usize::from(deployment)].owner == build =>
                        {
                            Next::Adopt { build, deployment }
                        }
                        Some(_) => Next::Yield {
                            build,
                            occupant: last,
                        },
                        None => Next::Find {
                            build,
                            after: After::Yield,
                        },
                    },
                );
            }
            Next::Yield { build, occupant } => {
                what = "gives way";
                self.change(
                    &mut next,
                    Op::Busy {
                        build,
                        slot: by,
                        occupant,
                    },
                );
                go(
                    &mut goes_on,
                    match occupant {
                        Some(occupant) if !self.is_without(Rule::OccupantAgain) => {
                            Next::LookAtOccupant { occupant }
                        }
                        _ => Next::Begin,
                    },
                );
            }
            Next::LookAtOccupant { occupant } => {
                what = "looks at the occupant again";
                go(
                    &mut goes_on,
                    match world.deployments[usize::from(occupant)].phase {
                        Phase::Active => Next::Begin,
                        _ => Next::Vacate { occupant },
                    },
                );
            }
            Next::Vacate { occupant } => {
                what = "notes that the occupant is gone";
                self.change(
                    &mut next,
                    Op::Vacated {
                        deployment: Some(occupant),
                    },
                );
                go(&mut goes_on, Next::Begin);
            }
            Next::Look { deployment } => {
                what = "looks at the deployment";
                let ended = world.deployments[usize::from(deployment)].phase != Phase::Active;
                go(&mut goes_on, Next::Record { deployment, ended });
            }
            Next::Record { deployment, ended } => {
                what = "records the deployment";
                let known = world.deployments[usize::from(deployment)];
                let end = ended.then_some((known.phase, known.ended_at));
                self.change(
                    &mut next,
                    Op::Observed {
                        deployment,
                        owner: known.owner,
                        end,
                    },
                );
                go(&mut goes_on, Next::Begin);
            }
            Next::ReadOpen => {
                what = "reads the open group";
                let group = self.group(world.group);
                let following = match &group.running {
                    _ if group.is_quiet() => None,
                    Some(Running::Foreign {
                        deployment_id: None,
                        ..
                    }) => Some(Next::LookAtLast),
                    Some(running) => Some(match running.deployment_id() {
                        Some(id) => Next::Look {
                            deployment: number_of(id),
                        },
                        None => Next::Begin,
                    }),
                    None => Some(Next::Begin),
                };
                goes_on = following.map(|next| Invocation { next, ..invocation });
            }
            Next::LookAtLast => {
                what = "looks at the group's last deployment";
                let last = world.deployments.len().checked_sub(1);
                let last = last.filter(|last| world.deployments[*last].phase == Phase::Active);
                go(
                    &mut goes_on,
                    Next::SettleUnnamed {
                        last: last.map(|last| last as u8),
                    },
                );
            }
            Next::SettleUnnamed { last } => {
                what = "settles who holds the group";
                let op = match last {
                    Some(deployment) => Op::Occupied { deployment },
                    None => Op::Vacated { deployment: None },
                };
                self.change(&mut next, op);
                go(&mut goes_on, Next::Begin);
            }
        }
        // The schedule looks before it records, and leaves alone what still runs.
        if let (
            Job::Schedule,
            Next::Look { .. },
            Some(Invocation {
                next: Next::Record { ended: false, .. },
                ..
            }),
        ) = (invocation.job, invocation.next, goes_on)
        {
            go(&mut goes_on, Next::Begin);
        }
        match goes_on {
            Some(mut going) => {
                going.may_ask &= matches!(
                    going.next,
                    Next::Tell { .. } | Next::Told { .. } | Next::Find { .. } | Next::Ask { .. }
                );
                next.slots[slot] = Some(going);
            }
            None => self.leave(&mut next, slot),
        }
        more.push((what, false, next));
        Ok(more)
    }

    /// What advancing does with a document: `None` where there is nothing to do now.
    fn resolve(&self, seen: u32, is_fresh: bool) -> Option<Next> {
        let group = self.group(seen);
        match &group.running {
            Some(Running::Intended { ticket, .. }) => {
                let build = build_of(ticket);
                Some(match is_fresh {
                    true => Next::Ask { build },
                    false => Next::Find {
                        build,
                        after: After::TakeOver,
                    },
                })
            }
            Some(Running::Deploying { .. } | Running::Foreign { .. }) => None,
            None if group.waiting.is_empty() => None,
            None => Some(Next::Begin),
        }
    }

    /// Whether CodeDeploy may be asked to make this build live, judged by what is live in truth.
    fn allowed(&self, world: &World, build: u8) -> Result<(), String> {
        let number = |build: u8| self.bounds.builds[usize::from(build)];
        if world.deployments.iter().any(|d| d.owner == build) {
            return Err(format!("build {} gets a second deployment", number(build)));
        }
        let live = world
            .deployments
            .iter()
            .filter(|d| d.phase == Phase::Succeeded)
            .max_by_key(|d| d.ended_at);
        if let Some(live) = live
            && live.owner != FOREIGN
            && number(live.owner) > number(build)
            && !self.bounds.redeploys.contains(&number(build))
        {
            return Err(format!(
                "build {} starts over build {}",
                number(build),
                number(live.owner)
            ));
        }
        Ok(())
    }

    /// What must hold in every state.
    fn check(&self, world: &World) -> Result<(), String> {
        let group = self.group(world.group);
        for (build, number) in self.bounds.builds.iter().enumerate() {
            let drop_id = self.drop_id(build);
            let placed = group
                .running
                .iter()
                .filter_map(Running::ticket)
                .chain(&group.waiting);
            let places = placed
                .filter(|ticket| usize::from(build_of(ticket)) == build)
                .count();
            let announced = group
                .announcements
                .iter()
                .any(|end| end.drop.drop_id.as_str() == drop_id);
            if places > 1 {
                return Err(format!("build {number} has {places} places"));
            }
            if world.admitted[build] && places == 0 && !announced && world.drops[build].is_none() {
                // Without compare-and-swap an admission may still be on its way.
                let on_its_way = world
                    .slots
                    .iter()
                    .flatten()
                    .any(|i| matches!(i.next, Next::Overwrite { .. }));
                if !on_its_way {
                    return Err(format!("build {number} vanished"));
                }
            }
        }
        if self.bounds.queue == Queue::Newest && group.waiting.len() > 1 {
            return Err(format!("{} builds wait", group.waiting.len()));
        }
        Ok(())
    }

    fn drop_id(&self, build: usize) -> String {
        format!("{build:024x}")
    }

    fn is_quiet(&self, world: &World) -> bool {
        world.slots.iter().all(Option::is_none)
            && world.staged.iter().all(|count| *count == 0)
            && world.changes.iter().all(|count| *count == 0)
            && world.deployments.iter().all(|d| d.phase != Phase::Active)
            && self.group(world.group).is_quiet()
    }

    /// What must hold when nothing moves any more.
    fn check_quiet(&self, world: &World) -> Result<(), String> {
        let newest = self.bounds.builds.iter().max();
        for (build, number) in self.bounds.builds.iter().enumerate() {
            let deployed = world
                .deployments
                .iter()
                .find(|d| usize::from(d.owner) == build);
            let expected = deployed.map(|d| match d.phase {
                Phase::Succeeded => Ending::Succeeded,
                _ => Ending::Failed,
            });
            let told = world.drops[build];
            let fits = match (expected, told) {
                (Some(expected), Some(told)) => expected == told,
                (None, Some(told)) => {
                    told == Ending::Superseded
                        && (Some(number) != newest || !self.bounds.redeploys.is_empty())
                }
                (_, None) => false,
            };
            if !fits {
                return Err(format!(
                    "build {number} is told as {told:?}, in truth {expected:?}"
                ));
            }
        }
        Ok(())
    }

    /// Explores everything breadth-first, so that a violation comes with a shortest history.
    fn explore(&mut self) -> Result<Explored, Violation> {
        let start = self.start();
        let mut index: HashMap<u64, u32> = HashMap::from([(fingerprint(&start), 0)]);
        let mut parents: Vec<Parent> = vec![(0, None, "")];
        let mut todo: VecDeque<(u32, World)> = VecDeque::from([(0, start)]);
        // Steps that need no fault, backwards: (to, from).
        let mut steps: Vec<(u32, u32)> = Vec::new();
        let mut quiet: Vec<u32> = Vec::new();
        while let Some((number, world)) = todo.pop_front() {
            if self.is_quiet(&world) {
                if let Err(what) = self.check_quiet(&world) {
                    return Err(self.violation(what, &parents, number));
                }
                quiet.push(number);
            }
            let successors = match self.successors(&world) {
                Ok(successors) => successors,
                Err(what) => return Err(self.violation(what, &parents, number)),
            };
            for successor in successors {
                let known = parents.len() as u32;
                let to = *index.entry(fingerprint(&successor.world)).or_insert(known);
                if to == known {
                    parents.push((number, successor.slot, successor.what));
                    todo.push_back((to, successor.world));
                    assert!(
                        parents.len() < STATES_MAX,
                        "too large a world: {:?}",
                        self.bounds
                    );
                }
                if !successor.is_fault {
                    steps.push((to, number));
                }
            }
        }
        self.ends_quiet(&parents, steps, &quiet)?;
        Ok(Explored {
            states: parents.len(),
            documents: self.groups.len(),
            quiet: quiet.len(),
        })
    }

    /// From every state, a quiet one can be reached without any further fault.
    fn ends_quiet(
        &self,
        parents: &[Parent],
        mut steps: Vec<(u32, u32)>,
        quiet: &[u32],
    ) -> Result<(), Violation> {
        steps.sort_unstable();
        let mut ends = vec![false; parents.len()];
        let mut todo = quiet.to_vec();
        for state in quiet {
            ends[*state as usize] = true;
        }
        while let Some(state) = todo.pop() {
            let from = steps.partition_point(|(to, _)| *to < state);
            for (_, before) in steps[from..].iter().take_while(|(to, _)| *to == state) {
                if !std::mem::replace(&mut ends[*before as usize], true) {
                    todo.push(*before);
                }
            }
        }
        match ends.iter().position(|ends| !ends) {
            Some(stuck) => {
                Err(self.violation("it never ends from here".to_owned(), parents, stuck as u32))
            }
            None => Ok(()),
        }
    }

    /// The history that leads to a state, step by step.
    fn violation(&self, what: String, parents: &[Parent], state: u32) -> Violation {
        let mut trace = Vec::new();
        let mut state = state;
        while state != 0 {
            let (before, slot, what) = parents[state as usize];
            trace.push(match slot {
                Some(slot) => format!("[{slot}] {what}"),
                None => what.to_owned(),
            });
            state = before;
        }
        trace.reverse();
        Violation { what, trace }
    }
}

fn create(world: &mut World, owner: u8) -> u8 {
    let deployment = world.deployments.len();
    world.deployments.push(Deployment {
        owner,
        phase: Phase::Active,
        ended_at: 0,
    });
    world.changes[deployment] = 1;
    deployment as u8
}

fn revision(build: u8) -> RevisionLocation {
    RevisionLocation::GitHub {
        repository: "shop/shop".parse().unwrap(),
        commit_id: format!("{build:040x}").parse().unwrap(),
    }
}

fn ending(deployment: u8, owner: u8, phase: Phase, ended_at: u8) -> End {
    End {
        deployment_id: id(deployment),
        status: match phase {
            Phase::Succeeded => DeploymentStatus::Succeeded,
            _ => DeploymentStatus::Failed,
        },
        revision: Some(revision(owner)),
        creator: None,
        ended_at: at(i64::from(ended_at)),
        duration_seconds: None,
        error: None,
        failures: Vec::new(),
    }
}

fn fingerprint(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

fn holds(name: &str, bounds: Bounds) -> Explored {
    let started = std::time::Instant::now();
    let explored = Checker::new(bounds.clone())
        .explore()
        .unwrap_or_else(|violation| panic!("{name}: {violation}\n{bounds:#?}"));
    let Explored {
        states,
        documents,
        quiet,
    } = explored;
    let elapsed = started.elapsed();
    println!("{name}: {states} states, {documents} documents, {quiet} quiet, in {elapsed:?}");
    explored
}

/// A violation must be found.
fn is_missed(rule: Rule, bounds: Bounds) {
    let bounds = Bounds {
        without: Some(rule),
        ..bounds
    };
    match Checker::new(bounds.clone()).explore() {
        Ok(explored) => panic!("without {rule:?} nothing is wrong: {explored:?}\n{bounds:#?}"),
        Err(violation) => println!("without {rule:?}: {violation}"),
    }
}

#[test]
fn two_builds_and_crashes_between_any_two_requests() {
    let bounds = Bounds {
        crashes: 1,
        ..Bounds::of(&[1, 2])
    };
    holds("two builds, crashes", bounds);
}

#[test]
fn lost_events_are_settled_by_the_schedule() {
    holds(
        "lost events",
        Bounds {
            lost: 2,
            foreign: 1,
            ..Bounds::of(&[1])
        },
    );
    holds(
        "lost events, two builds",
        Bounds {
            lost: 1,
            ..Bounds::of(&[1, 2])
        },
    );
}

#[test]
fn a_group_that_forgets_admits_nobody_twice() {
    let bounds = Bounds {
        remembered: Some(0),
        duplicates: 1,
        ..Bounds::of(&[1])
    };
    holds("forgetful group", bounds);
}

#[test]
fn every_rule_is_missed_when_it_is_left_out() {
    let one = Bounds {
        duplicates: 1,
        crashes: 1,
        schedule: false,
        ..Bounds::of(&[1])
    };
    is_missed(Rule::IntentFirst, one.clone());
    is_missed(Rule::LookupFirst, one.clone());
    let forgetful = Bounds {
        remembered: Some(0),
        ..one.clone()
    };
    is_missed(
        Rule::AdmittedSince,
        Bounds {
            crashes: 0,
            ..forgetful.clone()
        },
    );
    is_missed(
        Rule::KnownBefore,
        Bounds {
            crashes: 0,
            ..forgetful
        },
    );
    is_missed(
        Rule::HolderOnly,
        Bounds {
            crashes: 0,
            foreign: 1,
            ..one.clone()
        },
    );
    is_missed(
        Rule::OccupantAgain,
        Bounds {
            slots: 3,
            crashes: 0,
            duplicates: 0,
            foreign: 1,
            ..one.clone()
        },
    );
    let two = Bounds {
        schedule: false,
        ..Bounds::of(&[1, 2])
    };
    is_missed(Rule::OlderThanLive, two.clone());
    is_missed(Rule::CompareAndSwap, two.clone());
    is_missed(Rule::AnnounceUntilTold, two);
}
