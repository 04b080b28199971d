//! The group's document under the real transitions, each result computed once.
//!
//! Documents are numbered. What no transition looks at (who superseded whom, how what ended was worded) is
//! checked where it appears and then left out, so that documents that behave alike are one.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use stagedrop::deployment::{
    DeploymentId, DeploymentRequest, DeploymentStatus, DeploymentToken, RevisionLocation,
};
use stagedrop::key_pattern::Build;
use stagedrop::records::group::{
    Announcement, DropReference, EndStatus, Group, Running, SupersededBy, Ticket,
};
use stagedrop::records::queue::{Admission, End};
use stagedrop::settings::{Order, Queue};

use super::explore::Mixed;
use super::world::{Bounds, Ending, FOREIGN, NOBODY, Phase, REVISION_OF, Rule};

/// A transition of the group's document. Where the functions begin the next turn with the same write, it is part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    Admit {
        build: u8,
    },
    Begin,
    TakeOver {
        build: u8,
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
        is_holder: bool,
        occupant: Option<u8>,
    },
    PutBack {
        build: u8,
        is_holder: bool,
    },
    Refused {
        build: u8,
        is_holder: bool,
    },
    Observed {
        deployment: u8,
        owner: u8,
        end: Option<Phase>,
    },
    Occupied {
        deployment: u8,
    },
    Vacated,
    Announced {
        list: u8,
    },
}

/// What came of a transition.
#[derive(Debug, Clone, Copy)]
pub struct Applied {
    pub document: u32,
    /// Whether it changed the document (for an admission: whether it took place).
    pub changed: bool,
    /// Whether an intent was written.
    pub begun: bool,
}

/// Who holds a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holder {
    Nobody,
    Intended(u8),
    /// Ours or somebody else's.
    Active(u8),
    Unnamed,
}

/// What is asked of a document again and again.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    pub holder: Holder,
    /// Builds that run, wait, or whose end is announced.
    pub held: u8,
    /// Builds that are anywhere in it.
    pub known: u8,
    pub arrivals: u8,
    pub is_quiet: bool,
    /// The same, but for announcements.
    pub is_idle: bool,
    pub may_have_forgotten: bool,
    pub would_begin: bool,
    /// Deployments whose end is counted.
    pub ended: u8,
    /// The announcements, by their number in [`Documents::list`].
    pub list: u8,
}

pub struct Documents {
    bounds: Bounds,
    groups: Vec<Group>,
    facts: Vec<Facts>,
    numbers: HashMap<Vec<u8>, u32>,
    applied: HashMap<(u32, Op), Applied, Mixed>,
    lists: Vec<Vec<Announcement>>,
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

/// Within the lease that every intent has, and after it.
const NOW: i64 = 0;
const LEASE_UNTIL: i64 = 10;
const AFTER_LEASE: i64 = 20;
/// The invocation that wrote the intent or took it over last; which one that is stands in the world.
const HOLDER: &str = "holder";

fn token(build: u8) -> DeploymentToken {
    format!("sd-{build:024x}").parse().unwrap()
}

fn id(deployment: u8) -> DeploymentId {
    format!("d-{deployment}").parse().unwrap()
}

fn number_of(id: &DeploymentId) -> u8 {
    id.as_str()[2..].parse().unwrap()
}

fn build_of_ticket(ticket: &Ticket) -> u8 {
    build_of_drop(&ticket.drop)
}

fn build_of_drop(drop: &DropReference) -> u8 {
    u8::from_str_radix(drop.drop_id.as_str(), 16).unwrap()
}

fn drop_reference(build: u8) -> DropReference {
    DropReference {
        staged_key: format!("staging/{build}.zip"),
        drop_id: format!("{build:024x}").parse().unwrap(),
    }
}

fn revision(build: u8) -> RevisionLocation {
    RevisionLocation::GitHub {
        repository: "shop/shop".parse().unwrap(),
        commit_id: format!("{build:040x}").parse().unwrap(),
    }
}

fn ending(deployment: u8, owner: u8, phase: Phase) -> End {
    let deployed = match owner {
        FOREIGN => None,
        owner if owner >= REVISION_OF => Some(revision(owner - REVISION_OF)),
        owner => Some(revision(owner)),
    };
    End {
        deployment_id: id(deployment),
        status: match phase {
            Phase::Succeeded => DeploymentStatus::Succeeded,
            _ => DeploymentStatus::Failed,
        },
        revision: deployed,
        is_restart: false,
        creator: None,
        // One at a time: they end in the order in which they were made.
        ended_at: at(i64::from(deployment) + 1),
        duration_seconds: None,
        error: None,
        failures: Vec::new(),
    }
}

/// Whether a document tells of a deployment of that build, under way or ended.
fn has_deployment(group: &Group, build_num: Option<&str>) -> bool {
    let is_it = |build: &Build| build.build_num.as_deref() == build_num;
    let is_running =
        matches!(&group.running, Some(Running::Deploying { ticket, .. }) if is_it(&ticket.build));
    let live = group.live.as_ref().and_then(|live| live.build.as_ref());
    let mut ended = group
        .outcomes
        .iter()
        .filter(|outcome| outcome.deployment_id.is_some())
        .filter_map(|outcome| outcome.build.as_ref());
    is_running || live.is_some_and(is_it) || ended.any(is_it)
}

impl Documents {
    pub fn new(bounds: Bounds) -> Self {
        let mut documents = Self {
            bounds,
            groups: Vec::new(),
            facts: Vec::new(),
            numbers: HashMap::new(),
            applied: HashMap::default(),
            lists: vec![Vec::new()],
        };
        let group = Group::new(
            "shop".parse().unwrap(),
            "production".parse().unwrap(),
            "us-east-1".parse().unwrap(),
        );
        documents.number(group).unwrap();
        documents
    }

    pub fn count(&self) -> usize {
        self.groups.len()
    }

    pub fn facts(&self, document: u32) -> Facts {
        self.facts[document as usize]
    }

    /// The ends of a list of announcements: the build, and how it ended.
    pub fn list(&self, list: u8) -> impl ExactSizeIterator<Item = (u8, Ending)> {
        self.lists[usize::from(list)]
            .iter()
            .map(|end| (build_of_drop(&end.drop), Ending::from(end.status)))
    }

    /// The newest deployment that succeeded, as far as the document knows, and the build that it made live.
    pub fn live(&self, document: u32) -> Option<(u8, Option<u8>)> {
        let live = self.groups[document as usize].live.as_ref()?;
        let build = live.build.as_ref().map(|build| self.build_of(build));
        Some((number_of(&live.deployment_id), build))
    }

    fn build_of(&self, build: &Build) -> u8 {
        let number: u32 = build.build_num.as_ref().unwrap().parse().unwrap();
        let place = self.bounds.builds.iter().position(|n| *n == number);
        place.unwrap() as u8
    }

    fn ticket(&self, build: u8) -> Ticket {
        let build_num = self.bounds.builds[usize::from(build)];
        Ticket {
            drop: drop_reference(build),
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

    /// Applies a transition to a document; what must never be in a document is an error.
    pub fn apply(&mut self, document: u32, op: Op) -> Result<Applied, String> {
        if let Some(known) = self.applied.get(&(document, op)) {
            return Ok(*known);
        }
        let mut group = self.groups[document as usize].clone();
        let (mut changed, begins) = self.transition(&mut group, op);
        let mut begun = false;
        if begins && changed {
            let was_free = group.running.is_none();
            let began = self.begin(&mut group);
            begun = was_free && group.running.is_some();
            if op == Op::Begin {
                changed = began;
            }
        }
        if self.bounds.without == Some(Rule::AnnounceUntilTold) {
            group.announcements.clear();
        }
        let applied = Applied {
            document: self.number(group)?,
            changed,
            begun,
        };
        self.applied.insert((document, op), applied);
        Ok(applied)
    }

    /// The real transition: whether it changed anything, and whether the next turn is begun with the same write then.
    fn transition(&self, group: &mut Group, op: Op) -> (bool, bool) {
        let now = at(NOW);
        let holder = |is_holder: bool| match is_holder || self.is_without(Rule::HolderOnly) {
            true => HOLDER,
            false => "somebody else",
        };
        match op {
            Op::Admit { build } => {
                let ticket = self.ticket(build);
                let admit = |group: &mut Group| group.admit(ticket, now) != Admission::Known;
                let admitted = self.without_live(group, |group| self.with_intent(group, admit));
                (admitted, !self.is_without(Rule::IntentFirst))
            }
            Op::Begin => (true, true),
            Op::TakeOver { build } => {
                let running = group.running.as_ref().and_then(Running::ticket);
                let same = running.is_some_and(|t| t.token == token(build));
                let taken = same && group.take_over(HOLDER, at(AFTER_LEASE), at(LEASE_UNTIL));
                (taken, false)
            }
            Op::Created { build, deployment } => {
                (group.created(&token(build), &id(deployment), now), true)
            }
            Op::BegunAndCreated { build, deployment } => {
                group.begin_next(HOLDER, now, at(LEASE_UNTIL));
                (group.created(&token(build), &id(deployment), now), false)
            }
            Op::Busy {
                build,
                is_holder,
                occupant,
            } => {
                let occupant = occupant.map(id);
                let by = holder(is_holder);
                (group.busy(&token(build), by, occupant.as_ref(), now), true)
            }
            Op::PutBack { build, is_holder } => {
                let by = holder(is_holder);
                (group.put_back(&token(build), by, now), false)
            }
            Op::Refused { build, is_holder } => {
                let by = holder(is_holder);
                (group.refused(&token(build), by, Vec::new(), now), true)
            }
            Op::Observed {
                deployment,
                owner,
                end,
            } => {
                let mut changed = false;
                if owner < FOREIGN {
                    changed |= group.created(&token(owner), &id(deployment), now);
                }
                match end {
                    Some(phase) => changed |= group.ended(&ending(deployment, owner, phase)),
                    None if !changed => changed = group.occupied(&id(deployment), now),
                    None => {}
                }
                (changed, true)
            }
            Op::Occupied { deployment } => (group.occupied(&id(deployment), now), true),
            Op::Vacated => (group.vacated(None), true),
            Op::Announced { list } => {
                let told = self.lists[usize::from(list)].clone();
                (group.announced(&told), false)
            }
        }
    }

    fn is_without(&self, rule: Rule) -> bool {
        self.bounds.without == Some(rule)
    }

    fn begin(&self, group: &mut Group) -> bool {
        self.without_live(group, |group| {
            group.begin_next(HOLDER, at(NOW), at(LEASE_UNTIL))
        })
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

    /// Applies a transition that looks at who runs; without [`Rule::DeploymentFirst`] an intent does already.
    fn with_intent<R>(&self, group: &mut Group, transition: impl FnOnce(&mut Group) -> R) -> R {
        let running = group.running.clone();
        if self.is_without(Rule::DeploymentFirst)
            && let Some(Running::Intended { ticket, since, .. }) = &running
        {
            group.running = Some(Running::Deploying {
                ticket: ticket.clone(),
                deployment_id: id(NOBODY),
                since: *since,
            });
            let answer = transition(group);
            group.running = running;
            return answer;
        }
        transition(group)
    }

    /// Checks a document, leaves out what no transition looks at, and numbers it.
    fn number(&mut self, mut group: Group) -> Result<u32, String> {
        self.check(&group)?;
        for end in &mut group.announcements {
            end.superseded_by = None;
            end.at = at(0);
        }
        for outcome in &mut group.outcomes {
            outcome.superseded_by = None;
            outcome.ended_at = at(0);
            outcome.status = EndStatus::Failed;
        }
        if let Some(live) = &mut group.live {
            live.drop = None;
        }
        if self.bounds.forgetful {
            group.outcomes.clear();
        }
        group.outcomes.sort_by_key(|outcome| {
            let drop = outcome.drop.as_ref().map(build_of_drop);
            (outcome.deployment_id.as_ref().map(number_of), drop)
        });
        let key = self.key(&group);
        if let Some(known) = self.numbers.get(&key) {
            assert_eq!(self.groups[*known as usize], group, "a key says too little");
            return Ok(*known);
        }
        let number = u32::try_from(self.groups.len()).unwrap();
        let list = self.number_list(&group.announcements);
        self.facts.push(self.facts_of(&group, list));
        self.groups.push(group);
        self.numbers.insert(key, number);
        Ok(number)
    }

    fn number_list(&mut self, list: &[Announcement]) -> u8 {
        let known = self.lists.iter().position(|known| known == list);
        let number = known.unwrap_or_else(|| {
            self.lists.push(list.to_vec());
            self.lists.len() - 1
        });
        u8::try_from(number).expect("too many lists of announcements")
    }

    /// All that is left in a document, in short.
    fn key(&self, group: &Group) -> Vec<u8> {
        let nobody = |number: Option<u8>| number.unwrap_or(NOBODY);
        let mut key = vec![group.arrivals as u8];
        match &group.live {
            None => key.push(NOBODY),
            Some(live) => key.extend([
                number_of(&live.deployment_id),
                live.since.as_second() as u8,
                nobody(live.build.as_ref().map(|build| self.build_of(build))),
            ]),
        }
        match &group.running {
            None => key.push(0),
            Some(Running::Intended { ticket, .. }) => {
                key.extend([1, build_of_ticket(ticket), ticket.arrival as u8]);
            }
            Some(Running::Deploying {
                ticket,
                deployment_id,
                ..
            }) => key.extend([
                2,
                build_of_ticket(ticket),
                ticket.arrival as u8,
                number_of(deployment_id),
            ]),
            Some(Running::Foreign { deployment_id, .. }) => {
                key.extend([3, nobody(deployment_id.as_ref().map(number_of))]);
            }
        }
        key.push(group.waiting.len() as u8);
        for ticket in &group.waiting {
            key.extend([build_of_ticket(ticket), ticket.arrival as u8]);
        }
        key.push(group.outcomes.len() as u8);
        for outcome in &group.outcomes {
            key.extend([
                nobody(outcome.deployment_id.as_ref().map(number_of)),
                nobody(outcome.drop.as_ref().map(build_of_drop)),
                nobody(outcome.build.as_ref().map(|build| self.build_of(build))),
            ]);
        }
        for end in &group.announcements {
            key.extend([
                build_of_drop(&end.drop),
                Ending::from(end.status) as u8,
                nobody(end.deployment_id.as_ref().map(number_of)),
            ]);
        }
        key
    }

    fn facts_of(&self, group: &Group, list: u8) -> Facts {
        let builds = 0..self.bounds.builds.len() as u8;
        let bits = |has: &dyn Fn(&DropReference) -> bool| {
            let has = builds.clone().filter(|build| has(&drop_reference(*build)));
            has.fold(0, |bits, build| bits | 1 << build)
        };
        let ended = (0..8).filter(|deployment| group.has_ended(&id(*deployment)));
        Facts {
            holder: match &group.running {
                None => Holder::Nobody,
                Some(Running::Intended { ticket, .. }) => Holder::Intended(build_of_ticket(ticket)),
                Some(running) => match running.deployment_id() {
                    Some(id) => Holder::Active(number_of(id)),
                    None => Holder::Unnamed,
                },
            },
            held: bits(&|drop| group.holds(&drop.drop_id)),
            known: bits(&|drop| group.knows(&drop.drop_id)),
            arrivals: group.arrivals as u8,
            is_quiet: group.is_quiet(),
            is_idle: group.running.is_none() && group.waiting.is_empty(),
            may_have_forgotten: group.may_have_forgotten() || self.bounds.forgetful,
            would_begin: self.begin(&mut group.clone()),
            ended: ended.fold(0, |bits, deployment| bits | 1 << deployment),
            list,
        }
    }

    /// What must hold in every document.
    fn check(&self, group: &Group) -> Result<(), String> {
        let running = group.running.iter().filter_map(Running::ticket);
        let mut placed = 0_u8;
        for ticket in running.chain(&group.waiting) {
            let build = build_of_ticket(ticket);
            if placed & 1 << build != 0 {
                return Err(format!("build {build} has two places"));
            }
            placed |= 1 << build;
        }
        if self.bounds.queue == Queue::Newest && group.waiting.len() > 1 {
            return Err(format!("{} builds wait", group.waiting.len()));
        }
        for end in &group.announcements {
            self.check_superseded(group, end)?;
        }
        Ok(())
    }

    /// Who is superseded is told by whom: by a newer build, or by one that was dropped anew on purpose. Where all
    /// are to be deployed, it is one that has a deployment: whoever only waits or intends to may come after it.
    fn check_superseded(&self, group: &Group, end: &Announcement) -> Result<(), String> {
        let is_superseded = end.status == EndStatus::Superseded;
        let Some(SupersededBy { build_num, .. }) = &end.superseded_by else {
            // Left out of the documents that are numbered already.
            return Ok(());
        };
        let own = self.bounds.builds[usize::from(build_of_drop(&end.drop))];
        let by: Option<u32> = build_num.as_ref().map(|number| number.parse().unwrap());
        let fits = by.is_some_and(|by| by > own || self.bounds.redeploys.contains(&by));
        if is_superseded && !fits {
            return Err(format!("build {own} is superseded by {by:?}"));
        }
        if self.bounds.queue == Queue::All && !has_deployment(group, build_num.as_deref()) {
            return Err(format!(
                "build {own} is superseded by {by:?}, which has no deployment"
            ));
        }
        Ok(())
    }
}
