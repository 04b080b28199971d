//! What may happen next in a world: the steps of both functions as they make them, CodeDeploy's, Lambda's, and faults.
//!
//! A step is one request. What an invocation finds out that cannot change any more (a deployment that has
//! ended, a drop that is told) it finds out at once: whenever it looked, it would go on in the same way. An
//! invocation that has changed nothing yet does not die: its event comes again, as if it had not been taken.

use std::collections::HashMap;

use super::documents::{Applied, Documents, Holder, Op};
use super::world::{
    After, Bounds, Deployment, Ending, FOREIGN, Invocation, Job, Next, Phase, PlanNumber,
    REVISION_OF, Rule, Then, World,
};

/// What is left to do with a document as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Plan {
    list: u8,
    step: PlanStep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum PlanStep {
    End,
    Begin,
    Resolve { build: u8, begun: bool },
}

pub struct Successor {
    pub what: &'static str,
    /// Not needed for things to go on: crashes, duplicates, losses, somebody else's deployment.
    pub is_fault: bool,
    pub world: World,
}

pub struct Checker {
    pub bounds: Bounds,
    pub documents: Documents,
    plans: Vec<Plan>,
    plan_numbers: HashMap<Plan, PlanNumber>,
}

/// What an invocation's step came to.
type Stepped = (&'static str, bool, World);

impl Checker {
    pub fn new(bounds: Bounds) -> Self {
        Self {
            documents: Documents::new(bounds.clone()),
            bounds,
            plans: Vec::new(),
            plan_numbers: HashMap::new(),
        }
    }

    fn is_without(&self, rule: Rule) -> bool {
        self.bounds.without == Some(rule)
    }

    /// Everything that may happen next; what must not is an error.
    pub fn successors(
        &mut self,
        world: &World,
        found: &mut Vec<Successor>,
    ) -> Result<(), (&'static str, String)> {
        found.clear();
        self.deployments_go_on(world, found);
        self.deliveries(world, found);
        for slot in 0..self.bounds.slots {
            let Some(invocation) = world.slots[slot] else {
                continue;
            };
            // They are sorted: what equals the one before does the same.
            if slot > 0 && world.slots[slot - 1] == Some(invocation) {
                continue;
            }
            if world.crashes > 0 && has_changed_something(invocation) {
                let mut next = *world;
                next.crashes -= 1;
                try_again(&mut next, invocation.job);
                next.slots[slot] = None;
                push(found, "an invocation dies", true, next);
            }
            let mut steps = Vec::new();
            self.step(world, slot, invocation, &mut steps)
                .map_err(|violation| (words(invocation.next), violation))?;
            for (what, is_fault, next) in steps {
                push(found, what, is_fault, next);
            }
        }
        for successor in found {
            self.settle(&mut successor.world);
        }
        Ok(())
    }

    /// CodeDeploy's own steps, and somebody else's.
    fn deployments_go_on(&self, world: &World, found: &mut Vec<Successor>) {
        let Some((number, active)) = world.active() else {
            if world.foreign > 0 {
                let mut next = *world;
                next.foreign -= 1;
                next.create(FOREIGN);
                push(found, "somebody else's deployment begins", true, next);
            }
            for build in 0..self.bounds.builds.len() as u8 {
                let was_live = world
                    .made()
                    .any(|(_, made)| made.owner == build && made.phase == Phase::Succeeded);
                if world.brought_back > 0 && was_live {
                    let mut next = *world;
                    next.brought_back -= 1;
                    next.create(REVISION_OF + build);
                    push(found, "somebody brings a build back", true, next);
                }
            }
            return;
        };
        let phases: &[Phase] = match active.owner {
            FOREIGN => &[Phase::Failed],
            owner if owner < FOREIGN && self.bounds.failures => &[Phase::Succeeded, Phase::Failed],
            _ => &[Phase::Succeeded],
        };
        for phase in phases {
            let mut next = *world;
            next.deployments[usize::from(number)] = Some(Deployment {
                phase: *phase,
                events: active.events + 1,
                ..active
            });
            push(found, "a deployment ends", false, next);
        }
    }

    /// Events that come, come again or do not; an invocation begins with its first request.
    fn deliveries(&mut self, world: &World, found: &mut Vec<Successor>) {
        let free = (0..self.bounds.slots).find(|slot| world.slots[*slot].is_none());
        for build in 0..self.bounds.builds.len() {
            if world.staged[build] == 0 {
                continue;
            }
            let mut next = *world;
            next.staged[build] -= 1;
            // Whoever finds the drop ended in its record does nothing more.
            if world.drops[build].is_none() {
                let Some(free) = free else { continue };
                let mut invocation = Invocation::of(Job::Staged(build as u8));
                invocation.next = Next::ReadGroup;
                next.slots[free] = Some(invocation);
            }
            push(found, "a staged object is told", false, next);
            if world.duplicates > 0 {
                next.staged[build] += 1;
                next.duplicates -= 1;
                let what = "a staged object is told, and will be again";
                push(found, what, true, next);
            }
        }
        for (number, made) in world.made().filter(|(_, made)| made.events > 0) {
            let mut next = *world;
            next.tell(number, -1);
            if world.lost > 0 {
                let mut next = next;
                next.lost -= 1;
                push(found, "a state change is lost", true, next);
            }
            let Some(free) = free else { continue };
            let mut invocation = Invocation::of(Job::StateChange(number));
            invocation.next = Next::Record {
                deployment: number,
                ended: made.phase != Phase::Active,
            };
            next.slots[free] = Some(invocation);
            push(found, "a state change is told and looked up", false, next);
            if world.duplicates > 0 {
                next.tell(number, 1);
                next.duplicates -= 1;
                let what = "a state change is told and looked up, and will be told again";
                push(found, what, true, next);
            }
        }
        let is_settling = world
            .slots
            .iter()
            .flatten()
            .any(|invocation| invocation.job == Job::Schedule);
        let facts = self.documents.facts(world.group);
        let has_schedule = self.bounds.schedule && !self.is_without(Rule::Schedule);
        if let Some(free) = free
            && has_schedule
            && !is_settling
            && !facts.is_quiet
        {
            let mut next = *world;
            let mut invocation = Invocation::of(Job::Schedule);
            let plan = self.plan(world.group, false);
            match facts.holder {
                Holder::Active(deployment) => {
                    invocation.next = Next::LookAtOpen { deployment, plan };
                }
                Holder::Unnamed => invocation.next = Next::LookAtLast,
                Holder::Intended(_) | Holder::Nobody => self.follow(&mut invocation, plan),
            }
            next.slots[free] = Some(invocation);
            push(
                found,
                "the clock rings, the open group is read",
                false,
                next,
            );
        }
    }

    /// One request of one invocation.
    fn step(
        &mut self,
        world: &World,
        slot: usize,
        mut me: Invocation,
        steps: &mut Vec<Stepped>,
    ) -> Result<(), String> {
        let what = words(me.next);
        let mut next = *world;
        next.slots[slot] = None;
        let mut faults = |me: Invocation, what, world: &World| {
            let mut world = *world;
            world.slots[slot] = Some(me);
            steps.push((what, true, world));
        };
        match me.next {
            Next::ReadGroup => {
                let build = build_of(me.job);
                let facts = self.documents.facts(world.group);
                let arrivals = facts.arrivals;
                let is_known = facts.known & 1 << build != 0;
                if is_known && !self.is_without(Rule::KnownBefore) {
                    let plan = self.plan(world.group, false);
                    self.follow(&mut me, plan);
                } else if facts.may_have_forgotten {
                    me.next = Next::ReadDrop { arrivals };
                } else {
                    me.next = Next::Admit { arrivals };
                }
            }
            Next::ReadDrop { arrivals } => {
                me.next = match world.drops[usize::from(build_of(me.job))] {
                    Some(_) => Next::Begin,
                    None => Next::Admit { arrivals },
                };
            }
            Next::Admit { .. } => {
                let build = build_of(me.job);
                let op = Op::Admit { build };
                if self.is_without(Rule::CompareAndSwap) {
                    let applied = self.documents.apply(world.group, op)?;
                    me.next = Next::Overwrite {
                        document: applied.document,
                        plan: self.plan(applied.document, applied.begun),
                    };
                } else {
                    let applied = self.change(&mut next, &mut me, op)?;
                    self.is_held(&next, build)?;
                    let plan = self.plan(applied.document, applied.begun);
                    self.follow(&mut me, plan);
                }
            }
            Next::Overwrite { document, plan } => {
                self.replace(&mut next, document)?;
                me.holds = true;
                me.may_ask = true;
                self.follow(&mut me, plan);
            }
            Next::Begin => {
                let applied = if self.is_without(Rule::IntentFirst) {
                    let applied = self.documents.apply(world.group, Op::Begin)?;
                    me.holds = applied.begun;
                    me.may_ask = applied.begun;
                    applied
                } else {
                    self.change(&mut next, &mut me, Op::Begin)?
                };
                let plan = self.plan(applied.document, applied.begun);
                self.follow(&mut me, plan);
            }
            Next::TakeOver { build } => {
                let applied = self.documents.apply(world.group, Op::TakeOver { build })?;
                if applied.changed {
                    next.group = applied.document;
                    self.disown(&mut next);
                    me.holds = true;
                    me.may_ask = true;
                    let after = After::Ask;
                    me.next = Next::Find { build, after };
                } else {
                    me.next = Next::Begin;
                }
            }
            Next::Find { build, after } => match after {
                After::Ask => me.next = Next::Ask { build },
                After::Round => self.finish(&mut me, Then::Begin),
                After::Yield => {
                    let occupant = None;
                    me.next = Next::Yield { build, occupant };
                }
            },
            Next::Ask { build } => {
                me.may_ask = self.is_without(Rule::LeaseEnds) && me.may_ask;
                let unheard = Next::Find {
                    build,
                    after: After::Round,
                };
                let other = |next| Invocation { next, ..me };
                if world.denied > 0 {
                    next.denied -= 1;
                    for gives_up in [false, true] {
                        let me = other(Next::PutBack { build, gives_up });
                        faults(me, "CodeDeploy may not be asked for now", &next);
                    }
                    next.denied += 1;
                }
                if world.refused > 0 {
                    next.refused -= 1;
                    let me = other(Next::Refuse { build });
                    faults(me, "CodeDeploy refuses for ever", &next);
                    next.refused += 1;
                }
                if world.unheard > 0 {
                    next.unheard -= 1;
                    faults(other(unheard), "asks CodeDeploy in vain", &next);
                    next.unheard += 1;
                }
                me.next = match world.active() {
                    Some((number, made)) if made.owner == build => match self.bounds.named {
                        true => Next::Adopt {
                            build,
                            deployment: number,
                        },
                        false => Next::NameOccupant { build },
                    },
                    Some((_, made)) if made.owner < FOREIGN => {
                        return Err(format!(
                            "build {} is asked for while build {} is deploying",
                            self.number(build),
                            self.number(made.owner)
                        ));
                    }
                    Some((number, _)) => match self.bounds.named {
                        true => Next::Yield {
                            build,
                            occupant: Some(number),
                        },
                        false => Next::NameOccupant { build },
                    },
                    None => {
                        self.may_start(world, build)?;
                        let deployment = next.create(build);
                        if world.unheard > 0 {
                            next.unheard -= 1;
                            let what = "asks CodeDeploy, and the answer is lost";
                            faults(other(unheard), what, &next);
                            next.unheard += 1;
                        }
                        Next::Adopt { build, deployment }
                    }
                };
            }
            Next::Adopt { build, deployment } => {
                let op = match self.is_without(Rule::IntentFirst) {
                    true => Op::BegunAndCreated { build, deployment },
                    false => Op::Created { build, deployment },
                };
                let applied = self.change(&mut next, &mut me, op)?;
                let then = match applied.changed {
                    true => Then::Follow(self.plan(applied.document, applied.begun)),
                    false => Then::Begin,
                };
                self.finish(&mut me, then);
            }
            Next::NameOccupant { build } => {
                me.next = match world.last() {
                    Some((deployment, made)) if made.phase == Phase::Active => {
                        if made.owner == build {
                            Next::Adopt { build, deployment }
                        } else {
                            let occupant = Some(deployment);
                            Next::Yield { build, occupant }
                        }
                    }
                    _ => Next::Find {
                        build,
                        after: After::Yield,
                    },
                };
            }
            Next::Yield { build, occupant } => {
                let is_holder = me.holds;
                let op = Op::Busy {
                    build,
                    is_holder,
                    occupant,
                };
                let applied = self.change(&mut next, &mut me, op)?;
                let plan = self.plan(applied.document, applied.begun);
                match occupant {
                    Some(occupant) if !self.is_without(Rule::OccupantAgain) => {
                        me.next = Next::LookAtOccupant { occupant, plan };
                    }
                    _ => self.finish(&mut me, Then::Follow(plan)),
                }
            }
            Next::LookAtOccupant { plan, .. } => self.finish(&mut me, Then::Follow(plan)),
            Next::ObserveOccupant { occupant } => {
                let applied = self.observe(&mut next, &mut me, occupant, true)?;
                let plan = self.plan(applied.document, applied.begun);
                self.finish(&mut me, Then::Follow(plan));
            }
            Next::PutBack { build, gives_up } => {
                let is_holder = me.holds;
                self.change(&mut next, &mut me, Op::PutBack { build, is_holder })?;
                if gives_up {
                    try_again(&mut next, me.job);
                    me.job = Job::Any;
                    self.finish(&mut me, Then::End);
                } else {
                    self.finish(&mut me, Then::Begin);
                }
            }
            Next::Refuse { build } => {
                let is_holder = me.holds;
                let applied = self.change(&mut next, &mut me, Op::Refused { build, is_holder })?;
                let plan = self.plan(applied.document, applied.begun);
                self.finish(&mut me, Then::Follow(plan));
            }
            Next::Tell { list, at, then } => {
                let ends = self.documents.list(list);
                let is_last = usize::from(at) + 1 == ends.len();
                let (build, ending) = self.documents.list(list).nth(usize::from(at)).unwrap();
                let told = &mut next.drops[usize::from(build)];
                *told = told.or(Some(ending));
                me.next = match is_last {
                    true => Next::Told { list, then },
                    false => Next::Tell {
                        list,
                        at: at + 1,
                        then,
                    },
                };
            }
            Next::Told { list, then } => {
                self.change(&mut next, &mut me, Op::Announced { list })?;
                self.go_on(&mut me, then);
            }
            Next::Record { deployment, ended } => {
                let applied = self.observe(&mut next, &mut me, deployment, ended)?;
                let plan = self.plan(applied.document, applied.begun);
                self.follow(&mut me, plan);
            }
            Next::LookAtOpen { plan, .. } => self.follow(&mut me, plan),
            Next::LookAtLast => {
                me.next = match world.last() {
                    Some((deployment, made)) if made.phase != Phase::Active => {
                        let ended = true;
                        Next::Record { deployment, ended }
                    }
                    last => Next::SettleUnnamed {
                        last: last.map(|(number, _)| number),
                    },
                };
            }
            Next::SettleUnnamed { last } => {
                let op = match last {
                    Some(deployment) => Op::Occupied { deployment },
                    None => Op::Vacated,
                };
                let applied = self.change(&mut next, &mut me, op)?;
                let plan = self.plan(applied.document, applied.begun);
                self.follow(&mut me, plan);
            }
            Next::End => {}
        }
        next.slots[slot] = Some(me);
        steps.push((what, false, next));
        Ok(())
    }

    /// What CodeDeploy says of a deployment, written into the group's document.
    fn observe(
        &mut self,
        world: &mut World,
        me: &mut Invocation,
        number: u8,
        ended: bool,
    ) -> Result<Applied, String> {
        let made = world.deployment(number);
        let op = Op::Observed {
            deployment: number,
            owner: made.owner,
            end: ended.then_some(made.phase),
        };
        self.change(world, me, op)
    }

    /// Changes the group's document by compare-and-swap, which is one step: it is applied anew until it meets
    /// the document that it was made from.
    fn change(
        &mut self,
        world: &mut World,
        me: &mut Invocation,
        op: Op,
    ) -> Result<Applied, String> {
        let applied = self.documents.apply(world.group, op)?;
        self.replace(world, applied.document)?;
        if applied.begun {
            self.disown(world);
            me.holds = true;
            me.may_ask = true;
        }
        Ok(applied)
    }

    /// Puts another document into the group's place, in which no build may be lost.
    fn replace(&self, world: &mut World, document: u32) -> Result<(), String> {
        let before = self.documents.facts(world.group).held;
        world.group = document;
        for build in 0..self.bounds.builds.len() as u8 {
            if before & 1 << build != 0 {
                self.is_held(world, build)?;
            }
        }
        Ok(())
    }

    /// A build that was admitted is in the group's document or its end in the drop's.
    fn is_held(&self, world: &World, build: u8) -> Result<(), String> {
        let held = self.documents.facts(world.group).held;
        if held & 1 << build == 0 && world.drops[usize::from(build)].is_none() {
            return Err(format!("build {} vanished", self.number(build)));
        }
        Ok(())
    }

    /// Nobody else is the intent's holder any more.
    fn disown(&self, world: &mut World) {
        for other in world.slots.iter_mut().flatten() {
            other.holds = false;
            other.may_ask &= self.is_without(Rule::LeaseEnds);
        }
    }

    fn plan(&mut self, document: u32, begun: bool) -> PlanNumber {
        let facts = self.documents.facts(document);
        let plan = match facts.holder {
            _ if facts.would_begin => Plan {
                list: 0,
                step: PlanStep::Begin,
            },
            Holder::Intended(build) => Plan {
                list: facts.list,
                step: PlanStep::Resolve { build, begun },
            },
            Holder::Nobody | Holder::Active(_) | Holder::Unnamed => Plan {
                list: facts.list,
                step: PlanStep::End,
            },
        };
        *self.plan_numbers.entry(plan).or_insert_with(|| {
            self.plans.push(plan);
            PlanNumber::try_from(self.plans.len() - 1).unwrap()
        })
    }

    /// Goes on from a document as it was seen.
    fn follow(&self, me: &mut Invocation, plan: PlanNumber) {
        let Plan { list, step } = self.plans[usize::from(plan)];
        let then = match step {
            PlanStep::End => Then::End,
            PlanStep::Begin => Then::Begin,
            // A fresh intent is asked for before the drops are told.
            PlanStep::Resolve { build, begun: true } => {
                me.pending = list;
                me.next = Next::Ask { build };
                return;
            }
            PlanStep::Resolve { build, .. } => Then::TakeOver(build),
        };
        self.tell(me, list, then);
    }

    /// The intent is resolved: what was seen with it is told, then it goes on.
    fn finish(&self, me: &mut Invocation, then: Then) {
        let list = std::mem::take(&mut me.pending);
        self.tell(me, list, then);
    }

    fn tell(&self, me: &mut Invocation, list: u8, then: Then) {
        if list == 0 {
            self.go_on(me, then);
        } else {
            me.next = Next::Tell { list, at: 0, then };
        }
    }

    fn go_on(&self, me: &mut Invocation, then: Then) {
        match then {
            Then::End => me.next = Next::End,
            Then::Begin => me.next = Next::Begin,
            Then::TakeOver(build) => me.next = Next::TakeOver { build },
            Then::Follow(plan) => self.follow(me, plan),
        }
    }

    /// Lets every invocation find out what cannot change any more, and puts them in order.
    fn settle(&mut self, world: &mut World) {
        for slot in 0..self.bounds.slots {
            let Some(mut me) = world.slots[slot] else {
                continue;
            };
            loop {
                let before = me.next;
                self.find_out(world, &mut me);
                if me.next == before {
                    break;
                }
            }
            self.forget(world, &mut me);
            world.slots[slot] = (me.next != Next::End).then_some(me);
        }
        world.slots[..self.bounds.slots].sort_unstable();
    }

    /// One thing that the invocation would find out whenever it looked.
    fn find_out(&mut self, world: &World, me: &mut Invocation) {
        match me.next {
            Next::Find { build, .. } if !self.is_without(Rule::LookupFirst) => {
                if let Some(deployment) = world.of_build(build) {
                    me.next = Next::Adopt { build, deployment };
                }
            }
            Next::LookAtOccupant { occupant, .. } if world.has_ended(occupant) => {
                me.next = Next::ObserveOccupant { occupant };
            }
            Next::LookAtOpen { deployment, .. } if world.has_ended(deployment) => {
                let ended = true;
                me.next = Next::Record { deployment, ended };
            }
            // The lease is over, and nobody's "no" is heard.
            Next::Ask { .. } if !me.may_ask => self.finish(me, Then::Begin),
            Next::Tell { list, at, then } => {
                let ends = self.documents.list(list);
                let is_last = usize::from(at) + 1 == ends.len();
                let (build, _) = self.documents.list(list).nth(usize::from(at)).unwrap();
                if world.drops[usize::from(build)].is_some() {
                    me.next = match is_last {
                        true => Next::Told { list, then },
                        false => Next::Tell {
                            list,
                            at: at + 1,
                            then,
                        },
                    };
                }
            }
            Next::Told { list, then } => {
                let told = self.documents.apply(world.group, Op::Announced { list });
                if told.is_ok_and(|told| !told.changed) {
                    self.go_on(me, then);
                }
            }
            Next::Admit { arrivals } => {
                let now = self.documents.facts(world.group).arrivals;
                if now != arrivals && !self.is_without(Rule::AdmittedSince) {
                    me.next = Next::ReadGroup;
                }
            }
            _ => {}
        }
    }

    /// Leaves out what does not matter any more, so that invocations that go on alike are one.
    fn forget(&self, world: &World, me: &mut Invocation) {
        let begun_later = |then: Then| match then {
            Then::Follow(plan) => matches!(
                self.plans[usize::from(plan)].step,
                PlanStep::Resolve { begun: true, .. }
            ),
            Then::End | Then::Begin | Then::TakeOver(_) => false,
        };
        let (may_say_no, may_ask) = match me.next {
            Next::Ask { .. } => (true, true),
            Next::Find { after, .. } => (after != After::Round, after == After::Ask),
            Next::Tell { then, .. } | Next::Told { then, .. } => {
                (begun_later(then), begun_later(then))
            }
            Next::NameOccupant { .. }
            | Next::Yield { .. }
            | Next::PutBack { .. }
            | Next::Refuse { .. } => (true, false),
            _ => (false, false),
        };
        me.holds &= may_say_no;
        me.may_ask &= may_ask;
        let is_admitted = !matches!(
            me.next,
            Next::ReadGroup | Next::ReadDrop { .. } | Next::Admit { .. } | Next::Overwrite { .. }
        );
        // Its event comes again only after a crash, or when it gives up.
        let may_come_again = world.crashes > 0 || world.denied > 0;
        let gives_up = matches!(me.next, Next::PutBack { gives_up: true, .. });
        if is_admitted && !may_come_again && !gives_up && me.job != Job::Schedule {
            me.job = Job::Any;
        }
    }

    fn number(&self, build: u8) -> u32 {
        self.bounds.builds[usize::from(build)]
    }

    /// Whether CodeDeploy may be asked to make this build live, judged by what is live in truth; somebody
    /// else's deployments count once they are known.
    fn may_start(&self, world: &World, build: u8) -> Result<(), String> {
        if world.of_build(build).is_some() {
            return Err(format!(
                "build {} gets a second deployment",
                self.number(build)
            ));
        }
        let known = self.documents.facts(world.group).ended;
        let live = world
            .made()
            .rfind(|(number, made)| {
                let is_known = made.owner < FOREIGN || known & 1 << number != 0;
                made.phase == Phase::Succeeded && is_known
            })
            .map(|(_, made)| made.owner % REVISION_OF);
        match live.map(|live| self.number(live)) {
            Some(live)
                if live > self.number(build)
                    && !self.bounds.redeploys.contains(&self.number(build)) =>
            {
                Err(format!(
                    "build {} starts over build {live}",
                    self.number(build)
                ))
            }
            _ => Ok(()),
        }
    }

    /// Nothing moves any more, and nothing is left to be done.
    pub fn is_quiet(&self, world: &World) -> bool {
        let facts = self.documents.facts(world.group);
        // Where nobody looks after it, an announcement that was told may stay; see `check_quiet`.
        let is_quiet = facts.is_quiet || (!self.bounds.schedule && facts.is_idle);
        is_quiet
            && world.slots.iter().all(Option::is_none)
            && world.staged.iter().all(|count| *count == 0)
            && world
                .made()
                .all(|(_, made)| made.events == 0 && made.phase != Phase::Active)
    }

    /// What must hold then: every build is told as it ended, and what is live is known.
    pub fn check_quiet(&self, world: &World) -> Result<(), String> {
        let newest = self.bounds.builds.iter().max();
        for (build, number) in self.bounds.builds.iter().enumerate() {
            let deployed = world.of_build(build as u8);
            let expected = deployed.map(|made| match world.deployment(made).phase {
                Phase::Succeeded => Ending::Succeeded,
                _ => Ending::Failed,
            });
            let told = world.drops[build];
            let may_be_overtaken = Some(number) != newest || !self.bounds.redeploys.is_empty();
            let fits = match (expected, told) {
                (Some(expected), Some(told)) => expected == told,
                (None, Some(Ending::Superseded)) => may_be_overtaken,
                (None, Some(Ending::Rejected)) => self.bounds.refused > world.refused,
                (None, Some(Ending::Succeeded | Ending::Failed)) | (_, None) => false,
            };
            if !fits {
                return Err(format!(
                    "build {number} is told as {told:?}, in truth {expected:?}"
                ));
            }
        }
        let live = world
            .made()
            .rfind(|(_, made)| made.phase == Phase::Succeeded);
        let live = live.map(|(number, made)| (number, Some(made.owner % REVISION_OF)));
        let told = self.documents.live(world.group);
        // Whose end nobody could know is not known to be live.
        let is_known = self.bounds.brought_back == 0 || self.bounds.lost == world.lost;
        if told != live && is_known {
            return Err(format!("live is told as {told:?}, in truth {live:?}"));
        }
        Ok(())
    }
}

fn push(found: &mut Vec<Successor>, what: &'static str, is_fault: bool, world: World) {
    found.push(Successor {
        what,
        is_fault,
        world,
    });
}

fn build_of(job: Job) -> u8 {
    match job {
        Job::Staged(build) => build,
        other => unreachable!("{other:?} stages nothing"),
    }
}

/// Lambda delivers the event of an invocation again.
fn try_again(world: &mut World, job: Job) {
    match job {
        Job::Staged(build) => world.staged[usize::from(build)] += 1,
        Job::StateChange(deployment) => world.tell(deployment, 1),
        Job::Schedule | Job::Any => {}
    }
}

/// Whether an invocation has made a request that changed anything, as far as its next one tells.
fn has_changed_something(invocation: Invocation) -> bool {
    !matches!(
        invocation.next,
        Next::ReadGroup
            | Next::ReadDrop { .. }
            | Next::Admit { .. }
            | Next::Overwrite { .. }
            | Next::Record { .. }
            | Next::LookAtOpen { .. }
            | Next::LookAtLast
            | Next::SettleUnnamed { .. }
    )
}

fn words(next: Next) -> &'static str {
    match next {
        Next::ReadGroup => "reads the group",
        Next::ReadDrop { .. } => "reads the drop",
        Next::Admit { .. } => "admits the ticket, and begins the next turn",
        Next::Overwrite { .. } => "writes over whatever is there",
        Next::Begin => "begins the next turn, if there is one",
        Next::TakeOver { .. } => "waits for the lease to end and takes the intent over",
        Next::Find { .. } => "looks for the ticket's deployment",
        Next::Ask { .. } => "asks CodeDeploy, and hears the answer",
        Next::Adopt { .. } => "writes the deployment's id",
        Next::NameOccupant { .. } => "asks for the group's last deployment",
        Next::Yield { .. } => "gives way",
        Next::PutBack { .. } => "puts the ticket back",
        Next::Refuse { .. } => "writes that the ticket is refused",
        Next::LookAtOccupant { .. } => "looks at the occupant again",
        Next::ObserveOccupant { .. } => "records that the occupant is gone",
        Next::Tell { .. } => "tells a drop its end",
        Next::Told { .. } => "forgets what was told",
        Next::Record { .. } => "records the deployment",
        Next::LookAtOpen { .. } => "looks at the deployment that holds the group",
        Next::LookAtLast => "looks at the group's last deployment",
        Next::SettleUnnamed { .. } => "settles who holds the group",
        Next::End => "ends",
    }
}
