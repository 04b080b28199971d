//! The queue's rules, explored exhaustively: every interleaving of invocations, events and crashes in small worlds.
//!
//! The transitions are the real ones of [`Group`](stagedrop::records::group::Group); around them stand the
//! steps of both functions as they make them (claim, admission, begin, ask, look up, adopt, give way, announce;
//! look, record, settle) and a CodeDeploy that has one active deployment per group. A step is one request:
//! between any two of them everybody else may act, and the invocation may die. A change by compare-and-swap is
//! one step, because it is applied anew until it meets the document that it was made from.
//!
//! Time is abstract. A lease ends when somebody takes it over; from then on the former holder may still
//! write, but asks no more. Nothing else is assumed of how long a step takes.
//!
//! Worlds are bounded by how many crashes, duplicates, lost events and lost answers one history holds
//! ([`Bounds`]). In every state: no build has two places or none, no two deployments of ours are active, none
//! is made twice, none lands over a newer one, and of `queue: all` none is superseded by one that has no
//! deployment. From every state, without any further fault, an end is reached in which every drop tells what
//! became of it. A rule that is switched off ([`Rule`]) is left out of the steps here, never of the code under
//! test, and must be missed: that is how the checker is itself checked.

mod documents;
mod explore;
mod steps;
mod world;

use stagedrop::settings::Queue;

use self::steps::Checker;
use self::world::{Bounds, Rule};

fn holds(name: &str, bounds: Bounds) {
    let started = std::time::Instant::now();
    let explored = Checker::new(bounds.clone())
        .explore()
        .unwrap_or_else(|violation| panic!("{name}: {violation}\n{bounds:#?}"));
    println!(
        "{name}: {} states, {} documents, {} ends, in {:.1} s",
        explored.states,
        explored.documents,
        explored.quiet,
        started.elapsed().as_secs_f64()
    );
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

const THREE: [u32; 3] = [1, 2, 3];

#[test]
fn three_builds_and_crashes_between_any_two_requests() {
    let crash = Bounds {
        crashes: 1,
        ..Bounds::of(&THREE)
    };
    holds("three builds, crash", crash);
}

#[test]
fn without_the_schedule_a_crash_leaves_at_most_what_was_told_already() {
    let crash = Bounds {
        crashes: 1,
        schedule: false,
        ..Bounds::of(&THREE)
    };
    holds("three builds, crash, no schedule", crash);
}

#[test]
fn three_builds_in_whatever_order_and_one_dropped_again_on_purpose() {
    let three = Bounds::of(&THREE);
    holds(
        "all of three builds",
        Bounds {
            queue: Queue::All,
            ..three.clone()
        },
    );
    holds(
        "three builds, redeployment",
        Bounds {
            redeploys: vec![1],
            ..three
        },
    );
}

#[test]
fn three_builds_and_answers_that_are_not_heard_or_no() {
    let three = Bounds::of(&THREE);
    holds(
        "three builds, unheard answer",
        Bounds {
            unheard: 1,
            ..three.clone()
        },
    );
    holds(
        "three builds, refusal",
        Bounds {
            refused: 1,
            ..three
        },
    );
}

#[test]
fn two_builds_and_somebody_elses_deployment() {
    let two = Bounds::of(&[1, 2]);
    holds(
        "two builds, foreign",
        Bounds {
            foreign: 1,
            ..two.clone()
        },
    );
    holds(
        "two builds, one brought back",
        Bounds {
            brought_back: 1,
            ..two.clone()
        },
    );
    holds(
        "two builds, may not be asked for",
        Bounds {
            denied: 1,
            ..two.clone()
        },
    );
    holds(
        "two builds, lost event, failures",
        Bounds {
            lost: 1,
            failures: true,
            ..two
        },
    );
}

#[test]
fn one_build_and_everything_that_can_go_wrong() {
    let one = Bounds::of(&[1]);
    holds(
        "one build, duplicate, foreign, crash, lost event",
        Bounds {
            duplicates: 1,
            foreign: 1,
            crashes: 1,
            lost: 1,
            ..one.clone()
        },
    );
    holds(
        "one build, forgetful group",
        Bounds {
            forgetful: true,
            duplicates: 1,
            crashes: 1,
            ..one
        },
    );
}

#[test]
fn wider_worlds() {
    let two = Bounds::of(&[1, 2]);
    let three = Bounds::of(&THREE);
    let all = Bounds {
        queue: Queue::All,
        ..three.clone()
    };
    let foreign = |bounds: &Bounds| Bounds {
        foreign: 1,
        ..bounds.clone()
    };
    holds("three builds, foreign", foreign(&three));
    holds("all of three builds, foreign", foreign(&all));
    holds(
        "three builds, lost event, failures",
        Bounds {
            lost: 1,
            failures: true,
            ..three.clone()
        },
    );
    holds(
        "three builds, may not be asked for",
        Bounds {
            denied: 1,
            ..three.clone()
        },
    );
    holds(
        "three builds, duplicate",
        Bounds {
            duplicates: 1,
            ..three
        },
    );
    holds(
        "two builds, foreign, crash",
        Bounds {
            crashes: 1,
            ..foreign(&two)
        },
    );
    holds(
        "two builds, foreign, duplicate",
        Bounds {
            duplicates: 1,
            ..foreign(&two)
        },
    );
    holds(
        "two builds, foreign without a name, unheard answer",
        Bounds {
            named: false,
            unheard: 1,
            ..foreign(&two)
        },
    );
    holds(
        "two builds, forgetful group",
        Bounds {
            forgetful: true,
            duplicates: 2,
            crashes: 1,
            ..two
        },
    );
}

#[test]
fn every_rule_is_missed_when_it_is_left_out() {
    let one = Bounds {
        duplicates: 1,
        ..Bounds::of(&[1])
    };
    let crash = Bounds {
        crashes: 1,
        ..one.clone()
    };
    is_missed(Rule::IntentFirst, crash.clone());
    is_missed(Rule::LookupFirst, crash.clone());
    is_missed(Rule::LeaseEnds, one.clone());
    let forgetful = Bounds {
        forgetful: true,
        ..one.clone()
    };
    is_missed(Rule::AdmittedSince, forgetful.clone());
    is_missed(Rule::KnownBefore, forgetful);
    let foreign = Bounds {
        foreign: 1,
        ..one.clone()
    };
    is_missed(Rule::HolderOnly, foreign.clone());
    is_missed(
        Rule::OccupantAgain,
        Bounds {
            slots: 3,
            schedule: false,
            duplicates: 0,
            ..foreign
        },
    );
    is_missed(Rule::Schedule, Bounds { lost: 1, ..one });
    let two = Bounds::of(&[1, 2]);
    is_missed(Rule::OlderThanLive, two.clone());
    is_missed(
        Rule::DeploymentFirst,
        Bounds {
            queue: Queue::All,
            ..two.clone()
        },
    );
    is_missed(Rule::CompareAndSwap, two.clone());
    is_missed(
        Rule::AnnounceUntilTold,
        Bounds {
            schedule: false,
            ..two
        },
    );
}
