//! `stagedrop status`, `history` and `redeploy`: the records, and the way back to an earlier build.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use stagedrop::local::Options;
use stagedrop::local::faults::{Fault, Match};

use super::running::{Call, assert_transcript, comparable, screen, with_colours};
use crate::support::{
    ARTIFACTS, COMMIT, REVISIONS, SETTINGS, World, application, automatic, broken_application,
    by_hand, staged_key,
};

const RECORDS: &str = "s3://artifacts/records/";

async fn hooks_run() -> World {
    World::start(Options {
        run_hooks: true,
        ..automatic()
    })
    .await
}

fn call(world: &World, arguments: &[&str]) -> Call {
    Call::new(arguments, Path::new("/"))
        .with(&world.aws.environment())
        .set("STAGEDROP_RECORDS", RECORDS)
}

/// The same without how long ago something was.
fn told(text: &str) -> String {
    let ages = fancy_regex::Regex::new(r"(for|uploaded|took) \d+ s").unwrap();
    ages.replace_all(&comparable(text), "$1 N s").into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn history_says_what_is_live_and_how_the_last_builds_ended() {
    let world = hooks_run().await;
    world.deploy_build(1, application(1)).await;
    world.deploy_build(2, broken_application()).await;
    let history = call(&world, &["history", "shop"]);
    let said = history.piped().await;
    assert_eq!(said.code, 0, "{}", said.text);
    assert_transcript("history.piped", &told(&said.text));
    let said = history.on_terminal().await;
    assert_transcript("history.terminal", &told(&with_colours(&said)));
    let arguments = [
        "history",
        "shop",
        "production",
        "-n",
        "1",
        "--output",
        "json",
    ];
    let said = call(&world, &arguments).piped().await;
    let groups: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(groups[0]["outcomes"].as_array().unwrap().len(), 1);
    assert_eq!(groups[0]["live"]["build"]["build_num"], "1");
    let said = call(&world, &["history", "shopp"]).piped().await;
    assert_eq!(said.code, 2);
    assert_transcript("history-not-done.piped", &told(&said.text));
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_what_runs_and_what_waits() {
    let world = World::start(by_hand()).await;
    world.drop_build(1, application(1)).await;
    world.drop_build(2, application(2)).await;
    let said = call(&world, &["status"]).piped().await;
    assert_eq!(said.code, 0, "{}", said.text);
    assert_transcript("status.piped", &told(&said.text));
    let said = call(&world, &["status", "shop"]).on_terminal().await;
    assert_transcript("status.terminal", &told(&with_colours(&said)));
    let nowhere = Call::new(&["status"], Path::new("/")).piped().await;
    assert_eq!(nowhere.code, 2);
    assert_transcript("status-not-done.piped", &nowhere.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_status_is_drawn_anew_until_it_is_interrupted() {
    let world = World::start(by_hand()).await;
    world.drop_build(1, application(1)).await;
    // The wrapper interrupts it as Ctrl-C does, once it has drawn at least twice.
    let script = format!(
        "{} status --watch & sleep 3; kill -INT $!; wait $!; exit $?",
        env!("CARGO_BIN_EXE_stagedrop")
    );
    let said = call(&world, &["-c", &script])
        .of_program("/bin/sh")
        .on_terminal()
        .await;
    assert_eq!(said.code, 0, "{}", said.text);
    assert!(said.text.matches("\u{1b}[2J").count() >= 2, "{}", said.text);
    // However often it was drawn, it stands on the screen once.
    assert_transcript("status-watched.screen", &told(&screen(&said)));
}

async fn redeploy(world: &World, arguments: &[&str]) -> super::running::Said {
    let mut all = vec!["redeploy"];
    all.extend_from_slice(arguments);
    call(world, &all).piped().await
}

fn told_of_redeploy(text: &str) -> String {
    super::running::without_passing_states(&told(text))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_build_lands_again_byte_for_byte_however_it_is_named() {
    let world = hooks_run().await;
    let first = world.deploy_build(1, application(1)).await;
    let second = world.deploy_build(2, application(2)).await;
    let pinned = &first["deployments"][0]["revision"];
    let said = redeploy(&world, &["1", "--group", "shop/production"]).await;
    assert_eq!(said.code, 0, "{}", said.text);
    assert_transcript("redeploy.piped", &told_of_redeploy(&said.text));
    let group = world.group_record();
    assert_eq!(group["live"]["build"]["build_num"], "1");
    assert_eq!(group["live"]["revision"], *pinned);
    assert_eq!(group["outcomes"][0]["build"]["redeploy"], true);
    let key = format!("staging/shop/master/1-{COMMIT}.redeploy/shop/production.json");
    let drop = world.drop_record(&key);
    assert_eq!(drop["redeploys"], first["deployments"][0]["deployment_id"]);
    assert_eq!(drop["deployments"][0]["revision"], *pinned);
    world.check_records();
    assert_eq!(world.open(), Vec::<String>::new());

    // By the deployment's id, and from a wish's own deployment.
    let id = second["deployments"][0]["deployment_id"].as_str().unwrap();
    let said = redeploy(&world, &[id, "--group", "shop/production"]).await;
    assert_eq!(said.code, 0, "{}", said.text);
    assert_eq!(world.group_record()["live"]["build"]["build_num"], "2");
    let id = drop["deployments"][0]["deployment_id"].as_str().unwrap();
    let arguments = [id, "--group", "shop/production", "--output", "json"];
    let said = redeploy(&world, &arguments).await;
    assert_eq!(said.code, 0, "{}", said.text);
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(report["status"], "succeeded");
    assert_eq!(world.group_record()["live"]["revision"], *pinned);
    // By commit; every build of this test has the same one, so that the newest good one is meant.
    let arguments = ["redeploy", &COMMIT[..7], "--group", "shop/production"];
    let said = call(&world, &arguments).on_terminal().await;
    assert_eq!(said.code, 0, "{}", said.text);
    assert_transcript("redeploy.screen", &told_of_redeploy(&screen(&said)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_is_asked_for_as_before_where_no_settings_name_its_group_any_more() {
    let world = hooks_run().await;
    let options = "        file_exists_behavior: OVERWRITE\n        queue: all\n";
    world.put("settings/shop.yml", format!("{SETTINGS}{options}"));
    let first = world.deploy_build(1, application(1)).await;
    world.deploy_build(2, application(2)).await;
    let elsewhere = SETTINGS.replace("branch: master", "branch: main");
    world.put("settings/shop.yml", elsewhere);
    let said = redeploy(&world, &["1", "--group", "shop/production"]).await;
    assert_eq!(said.code, 0, "{}", said.text);
    let id = first["deployments"][0]["deployment_id"].as_str().unwrap();
    let options = world.deployment_record(id)["options"].clone();
    assert_eq!(options["file_exists_behavior"], "OVERWRITE", "{options:#}");
    assert_eq!(options["queue"], "all");
    let live = world.group_record()["live"]["deployment_id"].clone();
    let again = live.as_str().unwrap();
    assert_ne!(again, id);
    assert_eq!(world.deployment_record(again)["options"], options);
    let told = world
        .aws
        .codedeploy()
        .call("GetDeployment", &json!({ "deploymentId": again }))
        .unwrap();
    assert_eq!(told["deploymentInfo"]["fileExistsBehavior"], "OVERWRITE");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redeployment_that_is_not_awaited_reads_no_record_of_its_own() {
    let world = hooks_run().await;
    world.deploy_build(1, application(1)).await;
    let arguments = [
        "1",
        "--group",
        "shop/production",
        "--no-wait",
        "--output",
        "json",
    ];
    let said = redeploy(&world, &arguments).await;
    assert_eq!(said.code, 0, "{}", said.text);
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(report["status"], Value::Null);
    let key = format!("staging/shop/master/1-{COMMIT}.redeploy/shop/production.json");
    assert_eq!(report["staged"]["key"], key);
    let log = world.aws.faults().log();
    let reads_of = |name: &str| {
        log.iter()
            .filter(|entry| entry.label == "local" && entry.operation == "GetObject")
            .filter(|entry| entry.path.contains("/drops/") && entry.path.ends_with(name))
            .count()
    };
    assert_eq!(reads_of("production.json"), 0);
    assert_eq!(reads_of(&format!("1-{COMMIT}.zip.json")), 1);
    world.aws.settled().await;
    assert_eq!(world.drop_record(&key)["status"], "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drop_that_cannot_be_read_is_no_reason_to_guess_its_bucket() {
    let world = hooks_run().await;
    world.deploy_build(1, application(1)).await;
    let refused = Fault::FailBefore {
        status: 403,
        code: "AccessDenied".to_owned(),
    };
    let of_drops = Match::any().operation("GetObject").path_with("/drops/");
    world.aws.faults().on(of_drops, refused);
    let said = redeploy(&world, &["1", "--group", "shop/production"]).await;
    assert_eq!(said.code, 2, "{}", said.text);
    assert!(said.text.contains("records/drops/"), "{}", said.text);
    let staged = world.aws.store().keys(ARTIFACTS, "staging/").unwrap();
    assert_eq!(staged, [staged_key(1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_goes_to_another_group_only_where_the_settings_name_it_for_that_branch() {
    let world = hooks_run().await;
    for group in ["canary", "legacy"] {
        world.aws.create_deployment_group("shop", group).unwrap();
    }
    let canary = "  canary:\n    branch: [master, canary]\n    codedeploy:\n      shop:\n        deployment_group: canary\n  legacy:\n    branch: legacy\n    codedeploy:\n      shop:\n        deployment_group: legacy\n";
    world.put("settings/shop.yml", format!("{SETTINGS}{canary}"));
    let first = world.deploy_build(1, application(1)).await;
    let to = |group: &'static str| ["1", "--from", "shop/production", "--group", group];
    let said = redeploy(&world, &to("shop/canary")).await;
    assert_eq!(said.code, 0, "{}", said.text);
    let group = world.record("groups/shop/canary.json").unwrap();
    assert_eq!(
        group["live"]["revision"],
        first["deployments"][0]["revision"]
    );
    let said = redeploy(&world, &to("shop/legacy")).await;
    assert_eq!(said.code, 1, "{}", said.text);
    assert_transcript("redeploy-not-allowed.piped", &told_of_redeploy(&said.text));
    assert_eq!(world.record("groups/shop/legacy.json"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_that_names_another_branchs_build_is_refused() {
    let world = hooks_run().await;
    world.put(
        "settings/shop.yml",
        SETTINGS.replace("branch: master", "branch: /.*/"),
    );
    let drop = world.deploy_build(1, application(1)).await;
    let id = drop["deployments"][0]["deployment_id"].as_str().unwrap();
    let wish = |id: &str| json!({ "deployment_id": id, "wished_at": "now" }).to_string();
    let before = world.our_deployments().len();
    for (key, body, code) in [
        (
            // Whoever may write under the branch `feature` alone.
            format!("staging/shop/feature/1-{COMMIT}.redeploy/shop/production.json"),
            wish(id),
            "redeploy-other-build",
        ),
        (
            format!("staging/shop/master/1-{COMMIT}.redeploy/other/production.json"),
            wish(id),
            "redeploy-other-build",
        ),
        (
            format!("staging/shop/master/1-{COMMIT}.redeploy/shop/production.json"),
            wish("d-NOTTHERE1"),
            "redeploy-deployment-unknown",
        ),
        (
            format!("staging/shop/master/1-{COMMIT}.redeploy/shop/production.json"),
            "{".to_owned(),
            "redeploy-unreadable",
        ),
        (
            format!("staging/shop/master/1-{COMMIT}.redeploy/shop/production.json"),
            " ".repeat(5_000),
            "redeploy-unreadable",
        ),
    ] {
        world.put(&key, body);
        world.aws.settled().await;
        let drop = world.drop_record(&key);
        assert_eq!(drop["status"], "rejected", "{drop:#}");
        assert_eq!(drop["findings"][0]["code"], code, "{drop:#}");
    }
    assert_eq!(world.our_deployments().len(), before);
    world.check_records();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_for_bytes_that_are_elsewhere_or_nowhere_is_refused() {
    let world = hooks_run().await;
    let drop = world.deploy_build(1, application(1)).await;
    let id = drop["deployments"][0]["deployment_id"].as_str().unwrap();
    let key = format!("staging/shop/master/1-{COMMIT}.redeploy/shop/production.json");
    let wish = json!({ "deployment_id": id, "wished_at": "now" }).to_string();
    let refused = async |code: &str| {
        world.put(&key, wish.clone());
        world.aws.settled().await;
        let drop = world.drop_record(&key);
        assert_eq!(drop["status"], "rejected", "{drop:#}");
        assert_eq!(drop["findings"][0]["code"], code, "{drop:#}");
    };
    let settings = SETTINGS.replace(
        "    application_root: /",
        "    region: eu-west-1\n    application_root: /",
    );
    assert_ne!(settings, SETTINGS);
    world.put("settings/shop.yml", settings);
    refused("redeploy-other-region").await;
    world.put("settings/shop.yml", SETTINGS);
    let name = format!("deployments/{id}.json");
    let mut record = world.record(&name).unwrap();
    record.as_object_mut().unwrap().remove("revision");
    world.put(&format!("records/{name}"), record.to_string());
    refused("redeploy-revision-unknown").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redeployment_needs_two_rights_on_s3_and_none_on_codedeploy() {
    let world = hooks_run().await;
    world.deploy_build(1, application(1)).await;
    let endpoints = world.aws.endpoints("person").await.unwrap();
    let mut environment: BTreeMap<String, String> = world.aws.environment_of(&endpoints);
    environment.insert(
        "AWS_ENDPOINT_URL_CODEDEPLOY".to_owned(),
        "http://127.0.0.1:1".to_owned(),
    );
    let said = call(&world, &["redeploy", "1", "--group", "shop/production"])
        .with(&environment)
        .piped()
        .await;
    assert_eq!(said.code, 0, "{}", said.text);
    assert!(world.aws.store().keys(REVISIONS, "apps/").unwrap().len() == 1);
    assert!(world.aws.store().get(ARTIFACTS, &staged_key(1)).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_redeployed_is_told_with_its_cure() {
    let world = hooks_run().await;
    world.deploy_build(1, application(1)).await;
    let mut text = String::new();
    for arguments in [
        &["9", "--group", "shop/production"][..],
        &["1", "--group", "shop/staging"],
        &["d-NOTTHERE1", "--group", "shop/production"],
        &["1", "--group", "production"],
    ] {
        let said = redeploy(&world, arguments).await;
        assert_eq!(said.code, 2, "{}", said.text);
        text.push_str(&format!(
            "$ stagedrop redeploy {}\n{}\n",
            arguments.join(" "),
            said.text
        ));
    }
    assert_transcript("redeploy-not-done.piped", &told(&text));
}
