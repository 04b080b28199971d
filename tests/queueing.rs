//! Who goes next while a group is busy, at the wire.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use stagedrop::local::Options;
use stagedrop::local::codedeploy::{LimitWording, Status};
use stagedrop::local::events::Delivery;
use stagedrop::local::faults::{Fault, Match};

use crate::support::{SETTINGS, World, application, by_hand, staged_key};

/// Events that come in an order of their own.
fn in_any_order(seed: u64) -> Options {
    Options {
        delivery: Delivery {
            jitter: Duration::from_millis(500),
            seed,
            ..Delivery::default()
        },
        ..by_hand()
    }
}

/// Settings with one more line for the application.
fn settings(line: &str) -> String {
    SETTINGS.replace(
        "        deployment_group:",
        &format!("        {line}\n        deployment_group:"),
    )
}

impl World {
    /// Ends a deployment and waits for what follows from it.
    async fn end(&self, id: &str, status: Status) {
        if status != Status::Stopped {
            self.aws
                .codedeploy()
                .advance(id, Status::InProgress, None)
                .unwrap();
        }
        self.aws.codedeploy().advance(id, status, None).unwrap();
        self.aws.quiet().await;
    }

    fn active(&self) -> Option<String> {
        self.aws.codedeploy().active("shop", "production")
    }

    /// Ends whatever is active until nothing is; tells the builds in the order of their deployments.
    async fn drain(&self) -> Vec<u32> {
        let mut builds = Vec::new();
        while let Some(id) = self.active() {
            let build = self.deployment_record(&id)["build"]["build_num"].clone();
            builds.push(build.as_str().unwrap().parse().unwrap());
            self.end(&id, Status::Succeeded).await;
        }
        builds
    }

    fn status(&self, build_num: u32) -> Value {
        self.drop_record(&staged_key(build_num))["status"].clone()
    }

    fn overtaken_by(&self, build_num: u32) -> Value {
        self.drop_record(&staged_key(build_num))["deployments"][0]["superseded_by"]["build_num"]
            .clone()
    }

    fn waiting(&self) -> Vec<String> {
        let group = self.group_record();
        let waiting = group["waiting"].as_array().unwrap().iter();
        waiting
            .map(|t| t["build"]["build_num"].as_str().unwrap().to_owned())
            .collect()
    }

    fn is_all_over(&self) {
        self.check_records();
        assert_eq!(self.open(), Vec::<String>::new());
        let group = self.group_record();
        assert_eq!(group["running"], Value::Null);
        assert_eq!(group["waiting"], json!([]));
        let letters = [
            self.functions.deploy.dead_letters(),
            self.functions.record.dead_letters(),
        ];
        assert!(letters.concat().is_empty(), "{letters:#?}");
    }
}

#[tokio::test]
async fn of_the_builds_dropped_while_somebody_else_deploys_only_the_newest_goes_on() {
    let world = World::start(by_hand()).await;
    let foreign = world.foreign_deployment();
    world.aws.quiet().await;
    for build in 1..=3 {
        let drop = world.drop_build(build, application(build)).await;
        assert_eq!(drop["status"], "waiting", "{drop:#}");
    }
    assert_eq!(world.waiting(), ["3"]);
    assert_eq!(world.group_record()["running"]["state"], "foreign");
    assert_eq!(
        world.group_record()["running"]["deployment_id"],
        json!(foreign)
    );
    assert!(world.our_deployments().is_empty());

    world.end(&foreign, Status::Stopped).await;
    assert_eq!(world.group_record()["running"]["state"], "deploying");
    assert_eq!(world.status(3), "deploying");
    assert_eq!(world.drain().await, [3]);
    assert_eq!(world.our_deployments().len(), 1);
    for (build, status, by) in [
        (1, "superseded", json!("2")),
        (2, "superseded", json!("3")),
        (3, "succeeded", Value::Null),
    ] {
        assert_eq!(world.status(build), status, "build {build}");
        assert_eq!(world.overtaken_by(build), by, "build {build}");
    }
    let group = world.group_record();
    assert_eq!(group["live"]["build"]["build_num"], "3");
    let outcomes: Vec<&Value> = group["outcomes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| &o["status"])
        .collect();
    assert_eq!(
        outcomes,
        ["succeeded", "stopped", "superseded", "superseded"]
    );
    world.is_all_over();

    // An old build that is dropped again does not land over it, unless that is meant.
    let again = world.drop_build(2, application(2)).await;
    assert_eq!(again["status"], "superseded", "{again:#}");
    assert_eq!(world.overtaken_by(2), "3");
    assert_eq!(world.our_deployments().len(), 1);
    world.put_with(&staged_key(2), application(2), &[("redeploy", "true")]);
    world.aws.quiet().await;
    assert_eq!(world.drain().await, [2]);
    assert_eq!(world.status(2), "succeeded");
    assert_eq!(world.group_record()["live"]["build"]["build_num"], "2");
    world.is_all_over();
}

#[tokio::test]
async fn a_lost_end_is_settled_by_the_schedule_and_what_waited_starts() {
    let world = World::start(by_hand()).await;
    for (build, waits) in [(1, 2), (3, 4)] {
        let first = world.drop_build(build, application(build)).await;
        let id = first["deployments"][0]["deployment_id"]
            .as_str()
            .unwrap()
            .to_owned();
        world.drop_build(waits, application(waits)).await;
        assert_eq!(world.waiting(), [waits.to_string()]);
        world
            .aws
            .router()
            .lose(Some(Arc::new(|event| event.detail("state").is_some())));
        world.end(&id, Status::Succeeded).await;
        world.aws.router().lose(None);
        assert_eq!(world.status(build), "deploying");
        world.schedule().await.unwrap();
        assert_eq!(world.status(build), "succeeded");
        assert_eq!(world.drain().await, [waits]);
        world.is_all_over();
    }
}

#[tokio::test]
async fn a_lost_end_of_somebody_elses_deployment_is_settled_too() {
    for wording in [
        LimitWording::Current,
        LimitWording::Old,
        LimitWording::Unnamed,
    ] {
        let world = World::start(Options {
            limit_wording: wording,
            ..by_hand()
        })
        .await;
        world
            .aws
            .router()
            .lose(Some(Arc::new(|event| event.detail("state").is_some())));
        let foreign = world.foreign_deployment();
        // The group's document knows nothing: CodeDeploy itself says that the group is busy.
        let drop = world.drop_build(1, application(1)).await;
        assert_eq!(drop["status"], "waiting", "{wording:?}: {drop:#}");
        assert_eq!(
            world.group_record()["running"]["deployment_id"],
            json!(foreign),
            "{wording:?}"
        );
        assert_eq!(world.open().len(), 2, "the group and the drop");
        world.end(&foreign, Status::Stopped).await;
        assert_eq!(world.status(1), "waiting");
        world.aws.router().lose(None);
        world.schedule().await.unwrap();
        assert_eq!(world.drain().await, [1], "{wording:?}");
        assert_eq!(world.status(1), "succeeded");
        // Its outcome is no less recorded than ours.
        let record = world.deployment_record(&foreign);
        assert_eq!(record["status"], "Stopped", "{wording:?}: {record:#}");
        let group = world.group_record();
        let outcome = group["outcomes"].as_array().unwrap().iter();
        let mut outcome = outcome.filter(|outcome| outcome["deployment_id"] == json!(foreign));
        assert_eq!(outcome.next().unwrap()["status"], "stopped");
        world.is_all_over();
    }
}

#[tokio::test]
async fn a_restart_by_somebody_else_leaves_the_live_build() {
    let world = World::start(by_hand()).await;
    world.drop_build(2, application(2)).await;
    assert_eq!(world.drain().await, [2]);
    let restart = json!({ "applicationName": "shop", "deploymentGroupName": "production", "deploymentMode": "RESTART" });
    let answer = world.aws.codedeploy().call("CreateDeployment", &restart);
    let id = answer.unwrap()["deploymentId"].as_str().unwrap().to_owned();
    world.aws.quiet().await;
    assert_eq!(
        world.drop_build(3, application(3)).await["status"],
        "waiting"
    );
    world.end(&id, Status::Succeeded).await;
    let group = world.group_record();
    assert_eq!(group["live"]["build"]["build_num"], "2", "{group:#}");
    assert_eq!(world.drain().await, [3]);
    world.is_all_over();
}

#[tokio::test]
async fn a_build_that_may_not_be_deployed_waits_and_a_newer_one_overtakes_it() {
    let world = World::start(by_hand()).await;
    world.aws.faults().on(
        Match::any().operation("CreateDeployment"),
        Fault::FailBefore {
            status: 400,
            code: "AccessDeniedException".to_owned(),
        },
    );
    for build in 1..=2 {
        let drop = world.drop_build(build, application(build)).await;
        assert_eq!(drop["status"], "waiting", "{drop:#}");
        let letters = world.functions.deploy.take_dead_letters();
        assert_eq!(letters[0].error.error_type, "AccessDenied", "{letters:#?}");
    }
    assert_eq!(world.status(1), "superseded");
    assert_eq!(world.overtaken_by(1), "2");
    let error = world.schedule().await.unwrap_err();
    assert_eq!(error.error_type, "AccessDenied");
    // The right is there now.
    world.aws.faults().clear();
    world.schedule().await.unwrap();
    assert_eq!(world.drain().await, [2]);
    assert_eq!(world.our_deployments().len(), 1);
    world.is_all_over();
}

#[tokio::test]
async fn ten_builds_drain_in_ascending_order_in_whatever_order_they_are_told() {
    for seed in 1..=2 {
        let world = World::start(in_any_order(seed)).await;
        world.put("settings/shop.yml", settings("queue: all"));
        let foreign = world.foreign_deployment();
        world.aws.quiet().await;
        for build in 1..=10 {
            world.put(&staged_key(build), application(build));
        }
        world.aws.quiet().await;
        let expected: Vec<String> = (1..=10).map(|build: u32| build.to_string()).collect();
        let group = world.group_record();
        assert_eq!(world.waiting(), expected, "{group:#}");
        let arrivals: Vec<u64> = world.group_record()["waiting"]
            .as_array()
            .unwrap()
            .iter()
            .map(|ticket| ticket["arrival"].as_u64().unwrap())
            .collect();
        assert!(!arrivals.is_sorted(), "they came in order: {arrivals:?}");
        world.end(&foreign, Status::Stopped).await;
        assert_eq!(world.drain().await, (1..=10).collect::<Vec<u32>>());
        assert_eq!(world.group_record()["live"]["build"]["build_num"], "10");
        assert_eq!(world.our_deployments().len(), 10);
        for build in 1..=10 {
            assert_eq!(world.status(build), "succeeded", "build {build}");
        }
        world.is_all_over();
    }
}

#[tokio::test]
async fn of_ten_builds_the_newest_is_deployed_in_whatever_order_they_are_told() {
    let world = World::start(in_any_order(3)).await;
    let foreign = world.foreign_deployment();
    world.aws.quiet().await;
    for build in 1..=10 {
        world.put(&staged_key(build), application(build));
    }
    world.aws.quiet().await;
    assert_eq!(world.waiting(), ["10"]);
    world.end(&foreign, Status::Stopped).await;
    assert_eq!(world.drain().await, [10]);
    for build in 1..10 {
        assert_eq!(world.status(build), "superseded", "build {build}");
        let by: u32 = world.overtaken_by(build).as_str().unwrap().parse().unwrap();
        assert!(by > build, "build {build} overtaken by {by}");
    }
    world.is_all_over();
}

#[tokio::test]
async fn by_arrival_the_last_upload_wins_whatever_its_number() {
    let world = World::start(by_hand()).await;
    world.put("settings/shop.yml", settings("order: arrival"));
    let foreign = world.foreign_deployment();
    world.aws.quiet().await;
    for build in [9, 2] {
        world.drop_build(build, application(build)).await;
    }
    assert_eq!(world.waiting(), ["2"]);
    assert_eq!(world.status(9), "superseded");
    world.end(&foreign, Status::Stopped).await;
    assert_eq!(world.drain().await, [2]);
    world.drop_build(1, application(1)).await;
    assert_eq!(world.drain().await, [1]);
    assert_eq!(world.group_record()["live"]["build"]["build_num"], "1");
    world.is_all_over();
}

#[tokio::test]
async fn a_build_that_failed_makes_way_for_the_next() {
    let world = World::start(by_hand()).await;
    world.drop_build(1, application(1)).await;
    world.drop_build(2, application(2)).await;
    world.end(&world.active().unwrap(), Status::Failed).await;
    assert_eq!(world.status(1), "failed");
    assert_eq!(world.drain().await, [2]);
    world.is_all_over();
}
