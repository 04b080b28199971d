//! Every transition and every rule of order, on documents in memory.

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;
use crate::deployment::DeploymentRequest;
use crate::records::group::DropReference;
use crate::settings::Order;

const ME: &str = "me";

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

fn id(number: u32) -> DeploymentId {
    format!("d-{number}").parse().unwrap()
}

fn revision(drop: u32) -> RevisionLocation {
    RevisionLocation::GitHub {
        repository: "shop/shop".parse().unwrap(),
        commit_id: format!("{drop:040x}").parse().unwrap(),
    }
}

fn group() -> Group {
    Group::new(
        "shop".parse().unwrap(),
        "production".parse().unwrap(),
        "us-east-1".parse().unwrap(),
    )
}

/// The ticket of drop number `drop`, which is of that build.
fn ticket_of(drop: u32, build_num: &str) -> Ticket {
    Ticket {
        drop: DropReference {
            staged_key: format!("staging/{drop}.zip"),
            drop_id: format!("{drop:024x}").parse().unwrap(),
        },
        token: format!("sd-{drop:024x}").parse().unwrap(),
        build: Build {
            build_num: Some(build_num.to_owned()),
            ..Build::default()
        },
        uploaded_at: at(i64::from(drop)),
        arrival: 0,
        order: Order::BuildNum,
        queue: Queue::Newest,
        redeploy: false,
        request: DeploymentRequest {
            application: "shop".parse().unwrap(),
            deployment_group: "production".parse().unwrap(),
            region: "us-east-1".parse().unwrap(),
            deployment_config: None,
            revision: revision(drop),
            description: String::new(),
            file_exists_behavior: None,
            ignore_application_stop_failures: None,
            update_outdated_instances_only: None,
            auto_rollback: None,
        },
    }
}

fn ticket(build: u32) -> Ticket {
    ticket_of(build, &build.to_string())
}

fn all(build: u32) -> Ticket {
    Ticket {
        queue: Queue::All,
        ..ticket(build)
    }
}

fn end(deployment: u32, drop: u32, status: DeploymentStatus) -> End {
    End {
        deployment_id: id(deployment),
        status,
        revision: Some(revision(drop)),
        is_restart: false,
        creator: None,
        ended_at: at(1_000 + i64::from(deployment)),
        duration_seconds: None,
        error: None,
        failures: Vec::new(),
    }
}

fn begin(group: &mut Group) -> bool {
    group.begin_next(ME, at(0), at(10))
}

/// Deploys what waits first, as that deployment, to that end.
fn deploy(group: &mut Group, deployment: u32, status: DeploymentStatus) {
    assert!(begin(group));
    let ticket = group.running.as_ref().unwrap().ticket().unwrap().clone();
    assert!(group.created(&ticket.token, &id(deployment), at(1)));
    let end = End {
        revision: Some(ticket.request.revision),
        ..end(deployment, 0, status)
    };
    assert!(group.ended(&end));
}

/// A group where this build is live, by deployment 1.
fn with_live(build: u32) -> Group {
    let mut group = group();
    assert_eq!(group.admit(ticket(build), at(0)), Admission::Waits);
    deploy(&mut group, 1, DeploymentStatus::Succeeded);
    group
}

fn waiting(group: &Group) -> Vec<String> {
    let numbers = group.waiting.iter().map(|t| t.build.build_num.clone());
    numbers.map(Option::unwrap).collect()
}

fn live(group: &Group) -> Option<&str> {
    group.live.as_ref()?.build.as_ref()?.build_num.as_deref()
}

fn is_foreign(group: &Group) -> bool {
    matches!(group.running, Some(Running::Foreign { .. }))
}

#[test]
fn ok_a_build_waits_is_intended_deploys_and_ends() {
    let mut group = group();
    assert!(group.is_quiet() && !begin(&mut group));
    assert_eq!(group.admit(ticket(1), at(0)), Admission::Waits);
    assert!(begin(&mut group) && !begin(&mut group));
    assert!(matches!(&group.running, Some(Running::Intended { holder, .. }) if holder == ME));
    assert!(group.created(&ticket(1).token, &id(1), at(1)));
    assert!(!group.created(&ticket(1).token, &id(1), at(1)));
    assert!(group.ended(&end(1, 1, DeploymentStatus::Succeeded)));
    assert_eq!(live(&group), Some("1"));
    let told = group.announcements.clone();
    assert_eq!(told[0].status, EndStatus::Succeeded);
    assert!(!group.is_quiet());
    assert!(group.announced(&told) && !group.announced(&told));
    assert!(group.is_quiet());
}

#[test]
fn regression_builds_that_all_became_older_while_they_waited_end_with_that_write() {
    let mut group = with_live(1);
    group.occupied(&id(7), at(0));
    group.admit(ticket(2), at(0));
    // Somebody deploys by hand what build 3 left.
    group.outcomes.push(Outcome {
        build: ticket(3).build.into(),
        revision: Some(revision(3)),
        ..group.outcomes[0].clone()
    });
    group.ended(&end(7, 3, DeploymentStatus::Succeeded));
    assert_eq!(live(&group), Some("3"));
    assert!(begin(&mut group));
    assert_eq!((group.running.is_none(), group.waiting.len()), (true, 0));
    assert_eq!(
        group.announcements.last().unwrap().status,
        EndStatus::Superseded
    );
}

#[test]
fn ok_a_restart_leaves_the_live_build() {
    let mut group = with_live(2);
    let restart = End {
        revision: None,
        is_restart: true,
        ..end(7, 0, DeploymentStatus::Succeeded)
    };
    assert!(group.ended(&restart));
    assert_eq!(live(&group), Some("2"));
    assert_eq!(group.outcomes[0].deployment_id, Some(id(7)));
    assert_eq!(group.admit(ticket(1), at(0)), Admission::Ended);
    // What we cannot read is not known to be older or newer than anything.
    let unreadable = End {
        is_restart: false,
        ended_at: at(2_000),
        ..restart
    };
    assert!(group.ended(&End {
        deployment_id: id(8),
        ..unreadable
    }));
    assert_eq!(live(&group), None);
}

#[test]
fn ok_a_build_that_cannot_be_asked_for_waits_and_can_be_overtaken() {
    let mut group = group();
    group.admit(ticket(1), at(0));
    begin(&mut group);
    assert!(!group.put_back(&ticket(1).token, "other", at(1)));
    assert!(group.put_back(&ticket(1).token, ME, at(1)));
    assert!(group.running.is_none());
    assert_eq!(waiting(&group), ["1"]);
    assert!(!group.put_back(&ticket(1).token, ME, at(1)));
    assert_eq!(group.admit(ticket(2), at(2)), Admission::Waits);
    assert_eq!(waiting(&group), ["2"]);
    assert!(begin(&mut group) && group.holds(&ticket(2).drop.drop_id));
}

#[test]
fn ok_what_has_ended_occupies_nothing() {
    let mut group = group();
    group.ended(&end(7, 99, DeploymentStatus::Stopped));
    group.admit(ticket(1), at(0));
    begin(&mut group);
    group.busy(&ticket(1).token, ME, None, at(1));
    assert!(!group.occupied(&id(7), at(2)));
    assert!(group.occupied(&id(8), at(2)));
}

#[test]
fn ok_failures_and_stops_leave_the_live_build() {
    for (status, expected) in [
        (DeploymentStatus::Failed, EndStatus::Failed),
        (DeploymentStatus::Stopped, EndStatus::Stopped),
    ] {
        let mut group = with_live(1);
        group.admit(ticket(2), at(0));
        deploy(&mut group, 2, status);
        assert_eq!(live(&group), Some("1"));
        assert_eq!(group.outcomes[0].status, expected);
    }
}

#[test]
fn ok_an_end_is_counted_once() {
    let mut group = with_live(1);
    let before = group.clone();
    assert!(!group.ended(&end(1, 1, DeploymentStatus::Succeeded)));
    assert!(!group.ended(&end(7, 7, DeploymentStatus::InProgress)));
    assert_eq!(group, before);
}

#[test]
fn regression_an_end_told_again_after_fifty_others_keeps_the_live_build() {
    let mut group = with_live(5);
    for deployment in 2..60 {
        group.ended(&end(deployment, 99, DeploymentStatus::Failed));
    }
    assert_eq!(group.outcomes.len(), OUTCOMES_MAX);
    let before = group.clone();
    assert!(!group.ended(&end(1, 5, DeploymentStatus::Succeeded)));
    assert_eq!(group, before);
    // And what deploys the live revision anew, as a growing group does, is of the same build.
    group.ended(&end(60, 5, DeploymentStatus::Succeeded));
    assert_eq!(live(&group), Some("5"));
    assert_eq!(group.admit(ticket(4), at(0)), Admission::Ended);
}

#[test]
fn ok_the_end_that_came_last_is_live_in_whatever_order_ends_are_told() {
    let mut group = group();
    group.ended(&end(3, 3, DeploymentStatus::Succeeded));
    group.ended(&end(2, 2, DeploymentStatus::Succeeded));
    assert_eq!(group.live.unwrap().deployment_id, id(3));
    let told: Vec<_> = group
        .outcomes
        .iter()
        .map(|o| o.deployment_id.clone().unwrap())
        .collect();
    assert_eq!(told, [id(3), id(2)]);
}

#[test]
fn regression_a_deployment_counted_as_somebody_elses_still_ends_its_turn() {
    let mut group = group();
    group.ended(&end(1, 1, DeploymentStatus::Failed));
    group.admit(ticket(1), at(0));
    assert!(begin(&mut group) && group.created(&ticket(1).token, &id(1), at(1)));
    assert!(group.ended(&end(1, 1, DeploymentStatus::Failed)));
    assert!(group.running.is_none());
    assert_eq!((group.outcomes.len(), group.announcements.len()), (1, 1));
}

#[test]
fn ok_a_busy_group_makes_the_build_wait() {
    let mut group = group();
    group.admit(ticket(1), at(0));
    begin(&mut group);
    assert!(group.busy(&ticket(1).token, ME, Some(&id(7)), at(1)));
    assert!(is_foreign(&group));
    assert_eq!(waiting(&group), ["1"]);
    assert!(!begin(&mut group));
    assert!(!group.vacated(Some(&id(8))));
    assert!(group.vacated(Some(&id(7))) && begin(&mut group));
}

#[test]
fn regression_only_the_holder_may_say_no() {
    let mut group = group();
    group.admit(ticket(1), at(0));
    begin(&mut group);
    assert!(!group.take_over("other", at(9), at(19)));
    assert!(group.take_over("other", at(10), at(20)));
    let before = group.clone();
    assert!(!group.busy(&ticket(1).token, ME, None, at(11)));
    assert!(!group.refused(&ticket(1).token, ME, Vec::new(), at(11)));
    assert!(!group.busy(&ticket(2).token, "other", None, at(11)));
    assert_eq!(group, before);
    assert!(group.refused(&ticket(1).token, "other", Vec::new(), at(11)));
    assert_eq!(group.announcements[0].status, EndStatus::Rejected);
    assert!(!group.take_over("other", at(30), at(40)));
}

#[test]
fn ok_a_newer_build_overtakes_one_that_gives_way() {
    let mut group = group();
    group.admit(ticket(1), at(0));
    begin(&mut group);
    group.admit(ticket(2), at(0));
    group.busy(&ticket(1).token, ME, None, at(1));
    assert_eq!(waiting(&group), ["2"]);
    let by = group.announcements[0].superseded_by.clone().unwrap();
    assert_eq!(by.build_num.as_deref(), Some("2"));
    assert_eq!(by.drop, Some(ticket(2).drop));
}

#[test]
fn regression_a_full_queue_takes_back_the_build_that_gives_way() {
    let mut group = group();
    group.admit(all(1), at(0));
    begin(&mut group);
    for build in 2..2 + WAITING_MAX as u32 {
        assert_eq!(group.admit(all(build), at(0)), Admission::Waits);
    }
    assert_eq!(group.admit(all(5_000), at(0)), Admission::Ended);
    assert_eq!(group.announcements[0].findings[0].code, "queue-full");
    group.busy(&all(1).token, ME, None, at(1));
    assert_eq!(group.announcements.len(), 1);
    assert_eq!(group.waiting.len(), WAITING_MAX + 1);
    assert_eq!(waiting(&group)[0], "1");
}

#[test]
fn ok_somebody_elses_deployment_is_known_by_its_event() {
    let mut group = group();
    assert!(group.occupied(&id(7), at(0)) && !group.occupied(&id(7), at(0)));
    group.admit(ticket(1), at(0));
    assert!(!begin(&mut group));
    assert!(group.ended(&end(7, 99, DeploymentStatus::Stopped)));
    assert!(!group.occupied(&id(7), at(0)));
    assert!(begin(&mut group) && !group.occupied(&id(8), at(0)));
}

#[test]
fn ok_an_unnamed_occupant_gets_its_name_or_goes() {
    let mut group = group();
    group.admit(ticket(1), at(0));
    begin(&mut group);
    group.busy(&ticket(1).token, ME, None, at(1));
    assert!(group.occupied(&id(7), at(1)));
    assert_eq!(
        group.running.as_ref().unwrap().deployment_id(),
        Some(&id(7))
    );
    assert!(group.vacated(None) && !group.vacated(None));
}

#[test]
fn ok_a_deployment_of_ours_that_was_taken_for_somebody_elses_is_known_by_its_token() {
    let mut group = group();
    group.admit(ticket(1), at(0));
    begin(&mut group);
    group.busy(&ticket(1).token, ME, Some(&id(1)), at(1));
    assert!(group.created(&ticket(1).token, &id(1), at(1)));
    assert!(group.waiting.is_empty());
    assert!(!group.created(&ticket(2).token, &id(2), at(1)));
}

#[test]
fn ok_an_older_build_does_not_start_over_the_live_one() {
    let mut group = with_live(3);
    assert_eq!(group.admit(ticket(2), at(0)), Admission::Ended);
    let by = group.announcements[1].superseded_by.clone().unwrap();
    assert_eq!(by.build_num.as_deref(), Some("3"));
    assert_eq!(by.drop, Some(ticket(3).drop));
    // The same number is another attempt.
    assert_eq!(group.admit(ticket_of(9, "3"), at(0)), Admission::Waits);
}

#[test]
fn ok_an_older_build_does_not_start_over_the_running_one() {
    let mut group = group();
    group.admit(all(3), at(0));
    begin(&mut group);
    // Whether that one runs is not known yet.
    assert_eq!(group.admit(all(2), at(0)), Admission::Waits);
    assert!(group.created(&ticket(3).token, &id(1), at(1)));
    let by = group.announcements[0].superseded_by.clone().unwrap();
    assert_eq!(by.build_num.as_deref(), Some("3"));
    assert!(group.waiting.is_empty());
    assert_eq!(group.admit(all(1), at(1)), Admission::Ended);
    assert_eq!(group.admit(all(4), at(1)), Admission::Waits);
}

#[test]
fn ok_an_intent_that_gives_way_has_superseded_nobody() {
    let mut group = group();
    group.admit(all(3), at(0));
    begin(&mut group);
    group.admit(all(2), at(0));
    assert!(group.busy(&ticket(3).token, ME, Some(&id(7)), at(1)));
    let waiting: Vec<_> = group.waiting.iter().map(|t| t.build.name()).collect();
    assert_eq!(group.announcements, []);
    assert_eq!(waiting, [all(2).build.name(), all(3).build.name()]);
}

#[test]
fn ok_a_build_that_became_older_while_it_waited_ends_when_its_turn_comes() {
    let mut group = with_live(5);
    group.occupied(&id(7), at(0));
    group.admit(
        Ticket {
            redeploy: true,
            ..all(1)
        },
        at(0),
    );
    group.admit(all(6), at(0));
    group.vacated(None);
    deploy(&mut group, 8, DeploymentStatus::Succeeded);
    assert_eq!(live(&group), Some("1"));
    // Somebody deploys the newer revision by hand, before 6 has its turn.
    group.admit(all(2), at(0));
    group.ended(&End {
        ended_at: at(2_000),
        ..end(9, 5, DeploymentStatus::Succeeded)
    });
    assert_eq!(live(&group), Some("5"));
    assert!(begin(&mut group));
    let ticket = group.running.as_ref().unwrap().ticket().unwrap();
    assert_eq!(ticket.build.build_num.as_deref(), Some("6"));
    assert_eq!(
        group.announcements.last().unwrap().status,
        EndStatus::Superseded
    );
}

#[test]
fn ok_a_redeployment_is_meant() {
    let mut group = with_live(3);
    group.occupied(&id(7), at(0));
    group.admit(ticket(4), at(0));
    // It overtakes what came before it, and is overtaken by what is newer and comes after it.
    let again = Ticket {
        redeploy: true,
        ..ticket(2)
    };
    assert_eq!(group.admit(again.clone(), at(0)), Admission::Waits);
    assert_eq!(waiting(&group), ["2"]);
    let mut later = group.clone();
    later.admit(ticket(5), at(0));
    assert_eq!(waiting(&later), ["5"]);
    group.vacated(None);
    deploy(&mut group, 8, DeploymentStatus::Succeeded);
    assert_eq!(live(&group), Some("2"));
    assert_eq!(group.admit(ticket_of(33, "3"), at(0)), Admission::Waits);
}

#[test]
fn ok_a_rollback_makes_the_older_build_live() {
    let mut group = with_live(2);
    group.admit(ticket(3), at(0));
    deploy(&mut group, 3, DeploymentStatus::Succeeded);
    group.ended(&end(4, 2, DeploymentStatus::Succeeded));
    assert_eq!(live(&group), Some("2"));
    assert_eq!(group.admit(ticket(1), at(0)), Admission::Ended);
    assert_eq!(group.admit(ticket_of(30, "3"), at(0)), Admission::Waits);
}

#[test]
fn regression_a_build_that_is_brought_back_is_known_before_its_own_end_is() {
    let mut group = group();
    group.admit(ticket(3), at(0));
    assert!(begin(&mut group) && group.created(&ticket(3).token, &id(1), at(1)));
    // Somebody deploys the same revision again, and the end of that is told first.
    group.ended(&end(2, 3, DeploymentStatus::Succeeded));
    assert_eq!(live(&group), Some("3"));
    group.ended(&end(1, 3, DeploymentStatus::Succeeded));
    assert_eq!(live(&group), Some("3"));
    assert_eq!(group.admit(ticket(2), at(2)), Admission::Ended);
}

#[test]
fn ok_nothing_is_older_than_an_unknown_build() {
    let mut group = with_live(3);
    group.ended(&end(4, 99, DeploymentStatus::Succeeded));
    assert_eq!(live(&group), None);
    assert_eq!(group.admit(ticket(2), at(0)), Admission::Waits);
}

#[test]
fn ok_order_follows_numbers_or_uploads() {
    let by_arrival = |drop, number: &str| Ticket {
        order: Order::Arrival,
        ..ticket_of(drop, number)
    };
    let cases = [
        // Numbers, however they are written, before the time of upload.
        (ticket_of(2, "9"), ticket_of(1, "10"), Ordering::Less),
        (ticket_of(1, "007"), ticket_of(2, "7"), Ordering::Less),
        // Where one has no number, the time of upload.
        (ticket_of(1, "9"), ticket_of(2, "v1"), Ordering::Less),
        // Where either goes by arrival, the time of upload.
        (by_arrival(1, "9"), by_arrival(2, "1"), Ordering::Less),
        (by_arrival(1, "9"), ticket_of(2, "1"), Ordering::Less),
    ];
    for (older, newer, expected) in cases {
        assert_eq!(
            compare_tickets(&older, &newer),
            expected,
            "{older:?} {newer:?}"
        );
        assert_eq!(compare_tickets(&newer, &older), expected.reverse());
    }
    // Of uploads in the same second, the one that was admitted first.
    let first = Ticket {
        arrival: 1,
        ..ticket(1)
    };
    let second = Ticket {
        arrival: 2,
        ..ticket(1)
    };
    assert_eq!(compare_tickets(&first, &second), Ordering::Less);
}

#[test]
fn regression_of_equal_numbers_the_earlier_upload_does_not_land_over_the_later() {
    let mut group = group();
    group.admit(ticket_of(9, "7"), at(0));
    deploy(&mut group, 1, DeploymentStatus::Succeeded);
    assert_eq!(group.admit(ticket_of(8, "7"), at(0)), Admission::Ended);
    assert_eq!(group.admit(ticket_of(10, "7"), at(0)), Admission::Waits);
}

#[test]
fn ok_the_policy_of_the_one_who_comes_decides() {
    let mut group = group();
    group.occupied(&id(7), at(0));
    for build in [4, 2, 3] {
        assert_eq!(group.admit(all(build), at(0)), Admission::Waits);
    }
    assert_eq!(waiting(&group), ["2", "3", "4"]);
    assert_eq!(group.admit(ticket(1), at(0)), Admission::Ended);
    assert_eq!(group.admit(ticket(5), at(0)), Admission::Waits);
    assert_eq!(waiting(&group), ["5"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// A whole life of a group, event by event.
    #[test]
    fn ok_whatever_happens_nothing_is_lost_and_nothing_starts_over_a_newer_build(
        queue_all in any::<bool>(),
        events in proptest::collection::vec((0_u8..9, 1_u32..8, any::<bool>()), 1..60),
    ) {
        let mut group = group();
        let mut admitted: Vec<DropId> = Vec::new();
        let mut told: Vec<DropId> = Vec::new();
        let mut deployments = 0_u32;
        for (event, build, flag) in events {
            match event {
                0..=2 => {
                    let ticket = Ticket {
                        queue: if queue_all { Queue::All } else { Queue::Newest },
                        redeploy: flag && build == 1,
                        ..ticket(build)
                    };
                    let again = ticket.clone();
                    // Who asks again after the end was told and forgotten is turned away before.
                    if !told.contains(&ticket.drop.drop_id) {
                        admitted.push(ticket.drop.drop_id.clone());
                        group.admit(ticket, at(0));
                        let once = group.clone();
                        prop_assert_eq!(group.admit(again, at(0)), Admission::Known);
                        prop_assert_eq!(&group, &once);
                    }
                }
                3 => {
                    let was_free = group.running.is_none();
                    if begin(&mut group) && was_free
                        && let Some(ticket) = group.running.as_ref().and_then(Running::ticket)
                        && let Some(live) = &group.live
                        && !ticket.redeploy
                    {
                        let age = Age::of(ticket).compare(Age::of_live(live), ticket.order);
                        prop_assert_ne!(age, Ordering::Less);
                    }
                }
                4 | 5 => {
                    let token = group.running.as_ref().and_then(Running::ticket).map(|t| t.token.clone());
                    if let Some(token) = token {
                        deployments += 1;
                        match (event, flag) {
                            (4, _) => group.created(&token, &id(deployments), at(0)),
                            (_, _) if deployments.is_multiple_of(3) => group.put_back(&token, ME, at(0)),
                            (_, true) => group.busy(&token, ME, Some(&id(deployments)), at(0)),
                            (_, false) => group.refused(&token, ME, Vec::new(), at(0)),
                        };
                    }
                }
                6 => {
                    let running = group.running.as_ref().and_then(Running::deployment_id).cloned();
                    if let Some(running) = running {
                        let status = if flag { DeploymentStatus::Succeeded } else { DeploymentStatus::Failed };
                        let ticket = group.running.as_ref().and_then(Running::ticket);
                        let drop = ticket.map_or(99, |t| t.uploaded_at.as_second() as u32);
                        let end = End { deployment_id: running, ended_at: at(1_000 + i64::from(deployments)), ..end(0, drop, status) };
                        prop_assert!(group.ended(&end));
                        let once = group.clone();
                        prop_assert!(!group.ended(&end));
                        prop_assert_eq!(&group, &once);
                    }
                }
                7 => {
                    deployments += 1;
                    group.occupied(&id(deployments), at(0));
                }
                _ => {
                    let ends = group.announcements.clone();
                    told.extend(ends.iter().map(|end| end.drop.drop_id.clone()));
                    group.announced(&ends);
                }
            }
            for drop_id in &admitted {
                let running = group.running.iter().filter_map(Running::ticket).chain(&group.waiting);
                let places = running.filter(|t| t.drop.drop_id == *drop_id).count()
                    + group.announcements.iter().filter(|end| end.drop.drop_id == *drop_id).count()
                    + told.iter().filter(|told| *told == drop_id).count();
                prop_assert_eq!(places, 1, "{} has {} places", drop_id, places);
            }
            if !queue_all {
                prop_assert!(group.waiting.len() <= 1);
            }
        }
    }

    #[test]
    fn ok_all_drain_in_ascending_order(order in Just((1_u32..=10).collect::<Vec<_>>()).prop_shuffle()) {
        let mut group = group();
        group.occupied(&id(100), at(0));
        for build in order {
            prop_assert_eq!(group.admit(all(build), at(0)), Admission::Waits);
        }
        group.vacated(None);
        for build in 1..=10 {
            deploy(&mut group, build, DeploymentStatus::Succeeded);
            let expected = build.to_string();
            prop_assert_eq!(live(&group), Some(expected.as_str()));
        }
        prop_assert!(group.waiting.is_empty());
    }

    #[test]
    fn ok_of_newest_one_is_left(order in Just((1_u32..=10).collect::<Vec<_>>()).prop_shuffle()) {
        let mut group = group();
        group.occupied(&id(100), at(0));
        for build in order {
            group.admit(ticket(build), at(0));
            prop_assert_eq!(group.waiting.len(), 1);
        }
        prop_assert_eq!(waiting(&group), ["10"]);
        prop_assert_eq!(group.announcements.len(), 9);
    }
}
