//! The search: every state of a world, breadth-first, and whether each can come to an end.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hash, Hasher};

use super::steps::{Checker, Successor};
use super::world::World;

/// States of one world; more than that would not fit into a test.
const STATES_MAX: usize = 4_000_000;

/// A violation, with a shortest history that leads to it.
#[derive(Debug)]
pub struct Violation {
    pub what: String,
    pub trace: Vec<String>,
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
pub struct Explored {
    pub states: usize,
    pub documents: usize,
    /// States in which all is over.
    pub quiet: usize,
}

/// The search so far. States are kept by their fingerprints, of 64 bits: with four million of them the odds that
/// two fall together are below one in two million.
struct Search {
    numbers: HashMap<u64, u32, BuildHasherDefault<AsItIs>>,
    parents: Vec<u32>,
    /// Where the steps of each state begin in `steps`.
    first_steps: Vec<usize>,
    /// Where the steps that need no fault lead.
    steps: Vec<u32>,
    quiet: Vec<bool>,
}

impl Checker {
    /// Explores everything.
    pub fn explore(&mut self) -> Result<Explored, Violation> {
        let start = World::start(&self.bounds);
        let mut search = Search {
            numbers: HashMap::from_iter([(fingerprint(&start), 0)]),
            parents: vec![0],
            first_steps: Vec::new(),
            steps: Vec::new(),
            quiet: Vec::new(),
        };
        let mut todo = VecDeque::from([start]);
        let mut successors: Vec<Successor> = Vec::new();
        while let Some(world) = todo.pop_front() {
            let number = search.first_steps.len() as u32;
            search.first_steps.push(search.steps.len());
            let is_quiet = self.is_quiet(&world);
            search.quiet.push(is_quiet);
            if is_quiet && let Err(what) = self.check_quiet(&world) {
                return Err(self.violation(&search, number, what, None));
            }
            if let Err((last, what)) = self.successors(&world, &mut successors) {
                return Err(self.violation(&search, number, what, Some(last)));
            }
            for successor in &successors {
                let known = search.parents.len() as u32;
                let entry = search.numbers.entry(fingerprint(&successor.world));
                let to = *entry.or_insert(known);
                if to == known {
                    search.parents.push(number);
                    todo.push_back(successor.world);
                    let bounds = &self.bounds;
                    assert!(search.parents.len() < STATES_MAX, "too large: {bounds:?}");
                }
                if !successor.is_fault && to != number {
                    search.steps.push(to);
                }
            }
        }
        if let Some(stuck) = search.endless() {
            let what = "it never ends from here".to_owned();
            return Err(self.violation(&search, stuck, what, None));
        }
        Ok(Explored {
            states: search.parents.len(),
            documents: self.documents.count(),
            quiet: search.quiet.iter().filter(|quiet| **quiet).count(),
        })
    }

    /// The history that leads to a state, step by step.
    fn violation(
        &mut self,
        search: &Search,
        mut state: u32,
        what: String,
        last: Option<&'static str>,
    ) -> Violation {
        let mut path = Vec::new();
        while state != 0 {
            path.push(state);
            state = search.parents[state as usize];
        }
        let mut trace = Vec::new();
        let mut world = World::start(&self.bounds);
        let mut successors = Vec::new();
        while let Some(state) = path.pop() {
            // It was explored without a violation before.
            let _ = self.successors(&world, &mut successors);
            let step = successors.iter().find(|successor| {
                search.numbers.get(&fingerprint(&successor.world)) == Some(&state)
            });
            let step = step.expect("the path was walked before");
            world = step.world;
            trace.push(step.what.to_owned());
        }
        trace.extend(last.map(str::to_owned));
        trace.push(format!("{world:?}"));
        Violation { what, trace }
    }
}

impl Search {
    /// A state from which no quiet one can be reached without a further fault.
    fn endless(&self) -> Option<u32> {
        let mut ends = self.quiet.clone();
        // Steps lead forwards most of the time, so that a few rounds backwards suffice.
        let mut changed = true;
        while changed {
            changed = false;
            for state in (0..ends.len()).rev() {
                if ends[state] {
                    continue;
                }
                let end = self.first_steps.get(state + 1).copied();
                let end = end.unwrap_or(self.steps.len());
                let steps = &self.steps[self.first_steps[state]..end];
                if steps.iter().any(|to| ends[*to as usize]) {
                    ends[state] = true;
                    changed = true;
                }
            }
        }
        let stuck = ends.iter().position(|ends| !ends)?;
        Some(stuck as u32)
    }
}

fn fingerprint(world: &World) -> u64 {
    let mut mixer = Mixer::default();
    world.hash(&mut mixer);
    mixer.finish()
}

/// Fast and good enough for keys that nobody chooses: multiply and fold, once for each word.
#[derive(Default)]
pub struct Mixer(u64);

pub type Mixed = BuildHasherDefault<Mixer>;

impl Mixer {
    fn mix(&mut self, word: u64) {
        let product =
            u128::from(self.0 ^ word ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93_u128;
        self.0 = (product as u64) ^ ((product >> 64) as u64).rotate_left(23) ^ word.rotate_left(32);
    }
}

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.mix(u64::from(*byte));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.mix(u64::from(number));
    }

    fn write_u16(&mut self, number: u16) {
        self.mix(u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.mix(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.mix(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.mix(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.mix(number as u64);
    }

    fn finish(&self) -> u64 {
        let mut mixer = Self(self.0);
        mixer.mix(0x2545_f491_4f6c_dd1d);
        mixer.0
    }
}

/// What is a fingerprint already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, _: &[u8]) {
        unreachable!("fingerprints are numbers");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
