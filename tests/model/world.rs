//! A small world: what it is bounded by, and one state of it.

use stagedrop::records::group::EndStatus;
use stagedrop::settings::Queue;

/// What the checker must miss when it is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The intent is written before CodeDeploy is asked.
    IntentFirst,
    /// Who finds an intent looks for its deployment before asking again.
    LookupFirst,
    /// Whose intent was taken over asks no more.
    LeaseEnds,
    /// After a group was found busy, the occupant's end is looked up once more.
    OccupantAgain,
    /// What is older than the live build is superseded.
    OlderThanLive,
    /// An intent supersedes nobody: it may have to give way yet.
    DeploymentFirst,
    /// A ticket is admitted only if nobody was since the drop's record was read.
    AdmittedSince,
    /// What the group knew when it was read is not admitted, though it may be forgotten by now.
    KnownBefore,
    /// A "no" counts only from the intent's holder.
    HolderOnly,
    /// Writes are compared with what was read.
    CompareAndSwap,
    /// An end is announced until the drop's document tells it.
    AnnounceUntilTold,
    /// The schedule settles what no event told.
    Schedule,
}

/// What a world is made of, and how often what can go wrong in one history of it.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Build numbers; the events of all of them are on their way from the start.
    pub builds: Vec<u32>,
    /// The builds whose upload says `redeploy`.
    pub redeploys: Vec<u32>,
    pub queue: Queue,
    /// Invocations at the same time.
    pub slots: usize,
    /// Somebody else's deployments, of what we do not know; they end badly or are stopped.
    pub foreign: u8,
    /// Somebody else's deployments of a build that was live before; they succeed.
    pub brought_back: u8,
    pub crashes: u8,
    /// Events that come once more.
    pub duplicates: u8,
    /// Events of deployments that never come.
    pub lost: u8,
    /// Answers of `CreateDeployment` that are not heard, whether it was carried out or not.
    pub unheard: u8,
    /// Times that CodeDeploy may not or cannot be asked.
    pub denied: u8,
    /// Deployments that CodeDeploy refuses for ever.
    pub refused: u8,
    /// Whether deployments of ours may also fail.
    pub failures: bool,
    /// Whether CodeDeploy names the deployment that holds the group.
    pub named: bool,
    pub schedule: bool,
    /// Whether the group forgets every outcome at once, as it does after fifty others.
    pub forgetful: bool,
    pub without: Option<Rule>,
}

impl Bounds {
    /// A world of these builds in which nothing goes wrong, with two invocations at the same time.
    pub fn of(builds: &[u32]) -> Self {
        Self {
            builds: builds.to_vec(),
            redeploys: Vec::new(),
            queue: Queue::Newest,
            slots: 2,
            foreign: 0,
            brought_back: 0,
            crashes: 0,
            duplicates: 0,
            lost: 0,
            unheard: 0,
            denied: 0,
            refused: 0,
            failures: false,
            named: true,
            schedule: true,
            forgetful: false,
            without: None,
        }
    }
}

pub const BUILDS_MAX: usize = 3;
pub const DEPLOYMENTS_MAX: usize = 6;
pub const SLOTS_MAX: usize = 3;
/// The owner of a deployment that is not ours.
pub const FOREIGN: u8 = 9;
/// The owner of a deployment that is not ours, but of the revision of this build and so on.
pub const REVISION_OF: u8 = 10;
/// No number of anything.
pub const NOBODY: u8 = 255;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    Active,
    Succeeded,
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Deployment {
    pub owner: u8,
    pub phase: Phase,
    /// Its events that are on their way.
    pub events: u8,
}

/// What an invocation was started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Job {
    Staged(u8),
    StateChange(u8),
    Schedule,
    /// Where it does not matter any more.
    Any,
}

/// What follows from a document as it was seen: the announcements in it, and what is left to do. By its
/// number in the checker's plans.
pub type PlanNumber = u16;

/// The request that an invocation makes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Next {
    // deploy.rs, deploy/ship.rs
    ReadGroup,
    ReadDrop {
        arrivals: u8,
    },
    Admit {
        arrivals: u8,
    },
    /// Only without [`Rule::CompareAndSwap`]: writes what follows from an older document.
    Overwrite {
        document: u32,
        plan: PlanNumber,
    },
    // advance.rs
    Begin,
    TakeOver {
        build: u8,
    },
    Find {
        build: u8,
        after: After,
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
    PutBack {
        build: u8,
        /// Whether the event goes back to Lambda then.
        gives_up: bool,
    },
    Refuse {
        build: u8,
    },
    LookAtOccupant {
        occupant: u8,
        plan: PlanNumber,
    },
    ObserveOccupant {
        occupant: u8,
    },
    // advance/telling.rs
    Tell {
        list: u8,
        at: u8,
        then: Then,
    },
    Told {
        list: u8,
        then: Then,
    },
    // record.rs
    Record {
        deployment: u8,
        ended: bool,
    },
    LookAtOpen {
        deployment: u8,
        plan: PlanNumber,
    },
    LookAtLast,
    SettleUnnamed {
        last: Option<u8>,
    },
    /// It is over.
    End,
}

/// Where a look-up that found nothing goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum After {
    Ask,
    Round,
    Yield,
}

/// How an invocation goes on when the drops are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Then {
    End,
    Begin,
    TakeOver(u8),
    Follow(PlanNumber),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Invocation {
    pub job: Job,
    pub next: Next,
    /// It wrote the intent, or took it over, and nobody has taken it since.
    pub holds: bool,
    /// And it has not asked yet.
    pub may_ask: bool,
    /// Announcements that it is going to tell when the intent is resolved.
    pub pending: u8,
}

impl Invocation {
    pub fn of(job: Job) -> Self {
        Self {
            job,
            next: Next::End,
            holds: false,
            may_ask: false,
            pending: 0,
        }
    }
}

/// One state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct World {
    /// The group's document, by its number.
    pub group: u32,
    /// The drops' documents: how they ended.
    pub drops: [Option<Ending>; BUILDS_MAX],
    /// Events of staged objects on their way.
    pub staged: [u8; BUILDS_MAX],
    pub deployments: [Option<Deployment>; DEPLOYMENTS_MAX],
    pub slots: [Option<Invocation>; SLOTS_MAX],
    pub foreign: u8,
    pub brought_back: u8,
    pub crashes: u8,
    pub duplicates: u8,
    pub lost: u8,
    pub unheard: u8,
    pub denied: u8,
    pub refused: u8,
}

impl World {
    pub fn start(bounds: &Bounds) -> Self {
        let mut staged = [0; BUILDS_MAX];
        staged[..bounds.builds.len()].fill(1);
        Self {
            group: 0,
            drops: [None; BUILDS_MAX],
            staged,
            deployments: [None; DEPLOYMENTS_MAX],
            slots: [None; SLOTS_MAX],
            foreign: bounds.foreign,
            brought_back: bounds.brought_back,
            crashes: bounds.crashes,
            duplicates: bounds.duplicates,
            lost: bounds.lost,
            unheard: bounds.unheard,
            denied: bounds.denied,
            refused: bounds.refused,
        }
    }

    /// The deployments that were made, oldest first, with their numbers.
    pub fn made(&self) -> impl DoubleEndedIterator<Item = (u8, Deployment)> + use<> {
        let deployments = self.deployments;
        (0..DEPLOYMENTS_MAX as u8)
            .filter_map(move |number| Some((number, deployments[usize::from(number)]?)))
    }

    pub fn deployment(&self, number: u8) -> Deployment {
        self.deployments[usize::from(number)].expect("it was made")
    }

    pub fn has_ended(&self, number: u8) -> bool {
        self.deployment(number).phase != Phase::Active
    }

    pub fn active(&self) -> Option<(u8, Deployment)> {
        self.made().find(|(_, made)| made.phase == Phase::Active)
    }

    pub fn last(&self) -> Option<(u8, Deployment)> {
        self.made().next_back()
    }

    /// The deployment of a build.
    pub fn of_build(&self, build: u8) -> Option<u8> {
        let mut made = self.made();
        Some(made.find(|(_, made)| made.owner == build)?.0)
    }

    pub fn create(&mut self, owner: u8) -> u8 {
        let free = self.deployments.iter().position(Option::is_none);
        let number = free.expect("more deployments than a world has room for");
        self.deployments[number] = Some(Deployment {
            owner,
            phase: Phase::Active,
            events: 1,
        });
        number as u8
    }

    pub fn tell(&mut self, number: u8, events: i8) {
        if let Some(made) = &mut self.deployments[usize::from(number)] {
            made.events = made.events.strict_add_signed(events);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
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
