//! From a state change to the records.

use serde_json::{Value, json};
use stagedrop::local::Options;
use stagedrop::local::codedeploy::{LimitWording, Platform};
use stagedrop::local::faults::{Fault, Match, Nth};

use crate::observing::{ON_AWS, decisions, read_until};
use crate::support::{
    ARTIFACTS, COMMIT, World, application, automatic, broken_application, bundle, by_hand, silent,
    staged_key,
};

fn hooks_run() -> Options {
    Options {
        run_hooks: true,
        ..automatic()
    }
}

/// The event that CodeDeploy sends when a deployment comes to a state.
fn state_change(id: &str, state: &str) -> Value {
    let mut event: Value =
        serde_json::from_str(include_str!("../events/codedeploy-deployment-failure.json")).unwrap();
    event["detail"]["deploymentId"] = json!(id);
    event["detail"]["state"] = json!(state);
    event["detail"]["application"] = json!("shop");
    event["detail"]["deploymentGroup"] = json!("production");
    event["detail"]["region"] = json!("us-east-1");
    event["region"] = json!("us-east-1");
    event
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_recorded_with_target_event_script_log_and_commit() {
    let world = World::start(Options {
        instances: 2,
        ..hooks_run()
    })
    .await;
    let drop = world.deploy_build(1, broken_application()).await;
    assert_eq!(drop["status"], "failed", "{drop:#}");
    let id = drop["deployments"][0]["deployment_id"].as_str().unwrap();
    let record = world.deployment_record(id);
    assert_eq!(record["status"], "Failed");
    assert_eq!(record["error"]["code"], "HEALTH_CONSTRAINTS", "{record:#}");
    let failure = &record["failures"][0];
    assert_eq!(failure["lifecycle_event"], "AfterInstall", "{record:#}");
    assert_eq!(failure["script"], "scripts/after.sh");
    assert_eq!(failure["error_code"], "ScriptFailed");
    assert!(failure["target_id"].as_str().unwrap().starts_with("i-"));
    assert!(
        failure["log_tail"]
            .as_str()
            .unwrap()
            .contains("no such column")
    );
    assert_eq!(record["build"]["commit"], COMMIT);
    assert_eq!(record["creator"], "user");
    // Who reads the drop's record needs no other right to learn the reason.
    assert_eq!(drop["deployments"][0]["failures"][0], *failure);
    assert_eq!(drop["deployments"][0]["error"], record["error"]);
    let group = world.group_record();
    assert_eq!(group["running"], Value::Null);
    assert_eq!(group["outcomes"][0]["status"], "failed", "{group:#}");
    assert_eq!(group["live"], Value::Null);
    world.check_records();
    assert_eq!(world.open(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_instances_the_one_that_failed_is_named() {
    let world = World::start(Options {
        instances: 120,
        ..hooks_run()
    })
    .await;
    let script = "#!/bin/sh\necho run >> \"$STAGEDROP_INSTANCE_ROOT/../runs\"\n\
         test \"$(wc -l < \"$STAGEDROP_INSTANCE_ROOT/../runs\")\" -lt 110\n";
    let appspec =
        "version: 0.0\nos: linux\nhooks:\n  AfterInstall:\n    - location: scripts/after.sh\n";
    let body = bundle(&[("appspec.yml", appspec), ("scripts/after.sh", script)]);
    let drop = world.deploy_build(1, body).await;
    assert_eq!(drop["status"], "failed", "{drop:#}");
    let failures = drop["deployments"][0]["failures"].as_array().unwrap();
    assert_eq!(failures.len(), 1, "{failures:#?}");
    assert_eq!(failures[0]["script"], "scripts/after.sh");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_target_is_named_where_it_cannot_be_asked_for_by_status() {
    let world = World::start(hooks_run()).await;
    world.aws.faults().on(
        Match::any()
            .operation("ListDeploymentTargets")
            .nth(Nth::Number(1)),
        Fault::FailBefore {
            status: 400,
            code: "InvalidTargetFilterNameException".to_owned(),
        },
    );
    let drop = world.deploy_build(1, broken_application()).await;
    assert_eq!(drop["status"], "failed", "{drop:#}");
    let failures = &drop["deployments"][0]["failures"];
    assert_eq!(failures[0]["script"], "scripts/after.sh", "{drop:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_is_linked_both_ways_and_makes_the_older_build_live() {
    let world = World::start(hooks_run()).await;
    world.put(
        "settings/shop.yml",
        crate::support::SETTINGS.replace(
            "deployment_group: production\n",
            "deployment_group: production\n        auto_rollback: [DEPLOYMENT_FAILURE]\n",
        ),
    );
    let first = world.deploy_build(1, application(1)).await;
    let second = world.deploy_build(2, broken_application()).await;
    assert_eq!(second["status"], "failed", "{second:#}");
    let id = second["deployments"][0]["deployment_id"].as_str().unwrap();
    let rolled_back = world.deployment_record(id);
    let by = rolled_back["rollback"]["rolled_back_by"]
        .as_str()
        .unwrap_or_else(|| panic!("{rolled_back:#}"));
    let rollback = world.deployment_record(by);
    assert_eq!(rollback["rollback"]["rolls_back"], id, "{rollback:#}");
    assert_eq!(rollback["creator"], "codeDeployRollback");
    assert_eq!(rollback["status"], "Succeeded");
    assert_eq!(rollback["build"]["build_num"], "1", "{rollback:#}");
    assert_eq!(rollback["revision"], first["deployments"][0]["revision"]);
    let group = world.group_record();
    assert_eq!(group["live"]["deployment_id"], by, "{group:#}");
    assert_eq!(group["live"]["build"]["build_num"], "1");
    world.check_records();
    assert_eq!(world.open(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn terminal_states_never_go_back_whatever_order_events_come_in() {
    let world = World::start(Options {
        delivery: silent().delivery,
        ..hooks_run()
    })
    .await;
    world.put(&staged_key(1), broken_application());
    let staged = world.aws.router().take().remove(0).body;
    world.invoke_deploy(staged).await.unwrap();
    world.aws.codedeploy().idle().await;
    let id = world.aws.codedeploy().deployments().remove(0);
    for state in [
        "FAILURE",
        "START",
        "READY",
        "SOMETHING_NEW",
        "FAILURE",
        "START",
        "SUCCESS",
    ] {
        world.invoke_record(state_change(&id, state)).await.unwrap();
        assert_eq!(
            world.deployment_record(&id)["status"],
            "Failed",
            "after {state}"
        );
        assert_eq!(
            world.drop_record(&staged_key(1))["status"],
            "failed",
            "after {state}"
        );
    }
    let group = world.group_record();
    assert_eq!(group["outcomes"].as_array().unwrap().len(), 1, "{group:#}");
    assert_eq!(group["running"], Value::Null);
    world.check_records();
}

/// Keeps drops from coming as far as a group.
fn deny_settings(world: &World) {
    world.aws.faults().on(
        Match::any()
            .operation("GetObject")
            .path_with("settings/shop.yml")
            .nth(Nth::Every),
        Fault::FailBefore {
            status: 403,
            code: "AccessDenied".to_owned(),
        },
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drop_that_nobody_finishes_is_given_up_after_seven_hours_and_can_be_redriven() {
    let world = World::start(automatic()).await;
    deny_settings(&world);
    let key = staged_key(1);
    world.put(&key, application(1));
    world.aws.quiet().await;
    let letter = world.functions.deploy.take_dead_letters().remove(0);
    let marks = world.open();
    let mark = marks
        .iter()
        .find(|mark| mark.starts_with("records/open/drops/"))
        .unwrap_or_else(|| panic!("{marks:?}"));
    let hours = |hours: u64| std::time::Duration::from_secs(hours * 3_600);
    world.aws.store().age(ARTIFACTS, mark, hours(6)).unwrap();
    let answer = world.schedule().await.unwrap();
    assert_eq!(answer["recorded"][0]["drops_abandoned"], 0, "{answer}");
    assert_ne!(world.drop_record(&key)["status"], "failed");
    world.aws.store().age(ARTIFACTS, mark, hours(1)).unwrap();
    let answer = world.schedule().await.unwrap();
    let drop = world.drop_record(&key);
    assert_eq!(
        answer["recorded"][0]["drops_abandoned"], 1,
        "{answer}: {drop:#}"
    );
    assert_eq!(drop["status"], "failed", "{drop:#}");
    let finding = &drop["findings"][0];
    assert_eq!(finding["code"], "drop-abandoned", "{drop:#}");
    assert!(finding["cure"].as_str().unwrap().contains("redrive"));
    assert_eq!(world.open(), Vec::<String>::new());
    world.check_records();
    // The message from the failure queue, once the trouble is over.
    world.aws.faults().clear();
    world.invoke_deploy(letter.event).await.unwrap();
    world.aws.settled().await;
    assert_eq!(world.drop_record(&key)["status"], "succeeded");
    assert_eq!(world.open(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drop_whose_record_cannot_be_read_does_not_keep_the_others_from_being_given_up() {
    let world = World::with_environment(automatic(), &ON_AWS).await;
    deny_settings(&world);
    for build_num in [1, 2] {
        world.put(&staged_key(build_num), application(build_num));
    }
    world.aws.quiet().await;
    // The schedule takes them in this order, whichever upload got which id.
    let marks = world.open();
    let staged: Vec<String> = marks
        .iter()
        .map(|mark| {
            let seven_hours = std::time::Duration::from_secs(7 * 3_600);
            world.aws.store().age(ARTIFACTS, mark, seven_hours).unwrap();
            let marker = world.record(mark.strip_prefix("records/").unwrap());
            marker.unwrap()["staged_key"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(staged.len(), 2, "{marks:?}");
    world.put(
        &format!("records/drops/{}.json", staged[0]),
        "neither a drop nor JSON",
    );
    let error = world.schedule().await.unwrap_err();
    assert_eq!(error.error_type, "RecordUnreadable");
    let drop = world.drop_record(&staged[1]);
    assert_eq!(drop["status"], "failed", "{drop:#}");
    assert_eq!(drop["findings"][0]["code"], "drop-abandoned", "{drop:#}");
    assert_eq!(world.open(), [marks[0].as_str()]);
    let settled = |world: &World| {
        decisions(world)
            .into_iter()
            .find(|(name, _)| name == "settled")
    };
    read_until(&world, |world| settled(world).is_some()).await;
    let (_, line) = settled(&world).unwrap();
    assert_eq!(line["abandoned"], 1, "{line:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_codedeploy_does_not_confirm_yet_comes_back() {
    let world = World::start(silent()).await;
    world.put(&staged_key(1), application(1));
    let staged = world.aws.router().take().remove(0).body;
    world.invoke_deploy(staged).await.unwrap();
    let id = world.aws.codedeploy().deployments().remove(0);
    let error = world
        .invoke_record(state_change(&id, "SUCCESS"))
        .await
        .unwrap_err();
    assert_eq!(error.error_type, "OutcomeNotConfirmed");
    assert_eq!(world.drop_record(&staged_key(1))["status"], "deploying");
}

#[tokio::test(flavor = "multi_thread")]
async fn deployments_that_somebody_else_made_are_recorded_too() {
    let world = World::start(automatic()).await;
    let id = world.foreign_deployment();
    world.aws.settled().await;
    let record = world.deployment_record(&id);
    assert_eq!(record["status"], "Succeeded", "{record:#}");
    assert_eq!(record["creator"], "user");
    assert_eq!(record["build"], Value::Null);
    let group = world.group_record();
    assert_eq!(group["live"]["deployment_id"], id.as_str(), "{group:#}");
    assert_eq!(group["outcomes"][0]["status"], "succeeded");
    world.check_records();
    assert_eq!(world.open(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_twice_late_and_shuffled_give_the_same_records() {
    let delivery = stagedrop::local::events::Delivery {
        copies: 3,
        delay: std::time::Duration::from_millis(5),
        jitter: std::time::Duration::from_millis(60),
        seed: 7,
        manual: false,
    };
    let world = World::start(Options {
        delivery,
        ..hooks_run()
    })
    .await;
    for build_num in 1..=3 {
        let artifact = if build_num == 2 {
            broken_application()
        } else {
            application(build_num)
        };
        let drop = world.deploy_build(build_num, artifact).await;
        assert_eq!(
            drop["status"],
            if build_num == 2 {
                "failed"
            } else {
                "succeeded"
            },
            "{drop:#}"
        );
    }
    assert_eq!(world.our_deployments().len(), 3);
    let group = world.group_record();
    let ends: Vec<_> = group["outcomes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|end| end["status"].clone())
        .collect();
    assert_eq!(ends, ["succeeded", "failed", "succeeded"]);
    world.check_records();
    assert_eq!(world.open(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_deployment_is_recorded_as_stopped() {
    let world = World::start(by_hand()).await;
    let drop = world.drop_build(1, application(1)).await;
    let id = drop["deployments"][0]["deployment_id"]
        .as_str()
        .unwrap()
        .to_owned();
    world
        .aws
        .codedeploy()
        .call("StopDeployment", &json!({ "deploymentId": id }))
        .unwrap();
    world.aws.quiet().await;
    let drop = world.drop_record(&staged_key(1));
    assert_eq!(drop["status"], "stopped", "{drop:#}");
    assert_eq!(world.deployment_record(&id)["status"], "Stopped");
    world.check_records();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_lambda_deployment_names_its_target() {
    let world = World::start(Options {
        limit_wording: LimitWording::Old,
        ..by_hand()
    })
    .await;
    world
        .aws
        .create_application("fn", Platform::Lambda)
        .unwrap();
    world.aws.create_deployment_group("fn", "live").unwrap();
    world.put(
        "settings/fn.yml",
        "deployment:\n  live:\n    branch: master\n    codedeploy:\n      fn:\n        deployment_group: live\n        revision_location: {revision_type: S3, s3_location: {bucket: revisions, key_pattern: 'fn/{BUILD_NUM}'}}\n",
    );
    let appspec = "version: 0.0\nResources:\n  - f:\n      Type: AWS::Lambda::Function\n      Properties: {Name: f, Alias: live, CurrentVersion: '1', TargetVersion: '2'}\n";
    let key = format!("staging/fn/master/1-{COMMIT}.zip");
    world.put(&key, crate::support::bundle(&[("appspec.yml", appspec)]));
    world.aws.quiet().await;
    let id = world.drop_record(&key)["deployments"][0]["deployment_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let failure = stagedrop::local::codedeploy::TargetFailure {
        lifecycle_event: "BeforeAllowTraffic".to_owned(),
        diagnostics: stagedrop::local::codedeploy::Diagnostics {
            error_code: "ScriptFailed".to_owned(),
            script_name: String::new(),
            message: "the hook function said Failed".to_owned(),
            log_tail: String::new(),
        },
    };
    let codedeploy = world.aws.codedeploy();
    codedeploy
        .advance(&id, stagedrop::local::codedeploy::Status::InProgress, None)
        .unwrap();
    world
        .aws
        .codedeploy()
        .advance(
            &id,
            stagedrop::local::codedeploy::Status::Failed,
            Some(failure),
        )
        .unwrap();
    world.aws.quiet().await;
    let record = world.deployment_record(&id);
    assert_eq!(
        record["failures"][0]["lifecycle_event"], "BeforeAllowTraffic",
        "{record:#}"
    );
    world.check_records();
}
