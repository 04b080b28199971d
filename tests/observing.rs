//! What an operator sees of the functions: their log and their metrics, as the processes print them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use stagedrop::local::Options;
use stagedrop::local::codedeploy::Status;
use stagedrop::metrics::METRICS;
use stagedrop::yaml;

use crate::support::{
    COMMIT, SETTINGS, World, add_project, application, automatic, broken_application, bundle,
    by_hand, staged_key,
};
use crate::template::{faults_to_cure, lets_through, long_form, root};

/// How Lambda tells a function to log.
pub const ON_AWS: [(&str, &str); 3] = [
    ("AWS_LAMBDA_LOG_FORMAT", "JSON"),
    ("AWS_LAMBDA_LOG_LEVEL", "INFO"),
    ("STAGEDROP_METRICS_NAMESPACE", "my-stack"),
];

/// What a function has printed, each line as the JSON that it has to be.
fn printed(world: &World) -> Vec<(String, Value)> {
    let lines = world.lines.lock().unwrap();
    let read = lines.iter().map(|(function, line)| {
        let value = serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("{function} prints no JSON ({error}): {line}"));
        (function.clone(), value)
    });
    read.collect()
}

/// The log's lines: decision, line.
pub fn decisions(world: &World) -> Vec<(String, Value)> {
    let lines = printed(world).into_iter();
    lines
        .filter_map(|(_, line)| Some((line["decision"].as_str()?.to_owned(), line)))
        .collect()
}

/// Waits until what was printed holds that: a line may be read later than the answer that came after it.
/// Whoever waits in vain fails at the assertion that follows.
pub async fn read_until(world: &World, holds: impl Fn(&World) -> bool) {
    for _ in 0..500 {
        if holds(world) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Waits until no line comes any more: functions have written theirs before they answer, but somebody has to read
/// them.
async fn read_all(world: &World) {
    let mut quiet = 0;
    let mut known = 0;
    while quiet < 5 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let found = world.lines.lock().unwrap().len();
        quiet = if found == known { quiet + 1 } else { 0 };
        known = found;
    }
}

/// The sum of each metric, by its dimension's value.
pub fn metrics(world: &World) -> BTreeMap<(String, String), u64> {
    let mut sums = BTreeMap::new();
    for (_, line) in printed(world) {
        let Some(directives) = line["_aws"]["CloudWatchMetrics"].as_array() else {
            continue;
        };
        assert!(line["_aws"]["Timestamp"].as_u64().unwrap() > 1_700_000_000_000);
        for directive in directives {
            assert_eq!(directive["Namespace"], "my-stack");
            let sets = directive["Dimensions"].as_array().unwrap();
            assert_eq!(sets.len(), 1, "{line}");
            let dimension = sets[0].as_array().unwrap().first();
            let dimension = dimension.map(|name| name.as_str().unwrap());
            for metric in directive["Metrics"].as_array().unwrap() {
                let name = metric["Name"].as_str().unwrap();
                let (_, unit, of) = METRICS
                    .iter()
                    .find(|(known, ..)| *known == name)
                    .unwrap_or_else(|| panic!("{name} is not in the table"));
                assert_eq!(metric["Unit"], unit.as_str(), "{name}");
                assert_eq!(dimension, *of, "{name}");
                let value = dimension.map_or("", |dimension| line[dimension].as_str().unwrap());
                *sums.entry((name.to_owned(), value.to_owned())).or_default() +=
                    line[name].as_u64().unwrap();
            }
        }
    }
    sums
}

pub fn sum(metrics: &BTreeMap<(String, String), u64>, name: &str, value: &str) -> u64 {
    let key = (name.to_owned(), value.to_owned());
    metrics.get(&key).copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_decision_is_one_line_with_drop_build_application_group_and_deployment() {
    let world = World::with_environment(automatic(), &ON_AWS).await;
    let drop = world.deploy_build(7, application(7)).await;
    let id = drop["deployments"][0]["deployment_id"].as_str().unwrap();
    read_all(&world).await;
    let told = decisions(&world);
    let one = |decision: &str| {
        let lines: Vec<&Value> = told
            .iter()
            .filter(|(name, _)| name == decision)
            .map(|(_, line)| line)
            .collect();
        assert_eq!(lines.len(), 1, "{decision}: {told:#?}");
        lines[0].clone()
    };
    for (decision, has_group, has_deployment) in [
        ("drop-claimed", false, false),
        ("revision-registered", true, false),
        ("deployment-created", true, true),
        ("drop-ended", true, true),
    ] {
        let line = one(decision);
        assert_eq!(line["drop"], drop["drop_id"], "{line:#}");
        assert_eq!(line["staged_key"], staged_key(7).as_str(), "{line:#}");
        assert_eq!(
            line["build"], "7, branch master, commit 3f2c1a9",
            "{line:#}"
        );
        assert_eq!(line["level"], "INFO");
        assert!(
            line["timestamp"].as_str().unwrap().ends_with('Z'),
            "{line:#}"
        );
        // X-Ray's header and Lambda's request id lead from a line to its trace.
        let span = &line["span"];
        assert!(
            span["xrayTraceId"].as_str().unwrap().starts_with("Root=1-"),
            "{line:#}"
        );
        assert!(span["requestId"].is_string(), "{line:#}");
        if has_group {
            assert_eq!(line["application"], "shop", "{line:#}");
            assert_eq!(line["deployment_group"], "production", "{line:#}");
        }
        if has_deployment {
            assert_eq!(line["deployment_id"], id, "{line:#}");
        }
    }
    assert_eq!(one("drop-ended")["status"], "succeeded");
    // CodeDeploy's states, each recorded; the last one is the end.
    let recorded: Vec<&Value> = told
        .iter()
        .filter(|(name, _)| name == "deployment-recorded")
        .map(|(_, line)| line)
        .collect();
    assert!(!recorded.is_empty());
    for line in recorded {
        assert_eq!(line["deployment_id"], id);
        assert_eq!(line["drop"], drop["drop_id"], "{line:#}");
        assert_eq!(
            line["build"], "7, branch master, commit 3f2c1a9",
            "{line:#}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_became_of_uploads_once() {
    let world = World::with_environment(
        Options {
            run_hooks: true,
            ..automatic()
        },
        &ON_AWS,
    )
    .await;
    world.deploy_build(1, application(1)).await;
    world.deploy_build(2, broken_application()).await;
    world
        .deploy_build(3, bundle(&[("index.html", "no AppSpec")]))
        .await;
    world.put("staging/beside", "x");
    world.put(&staged_key(4), "no archive");
    // The same event again is no second drop.
    world.put_with(&staged_key(5), application(5), &[]);
    world.aws.settled().await;
    for event in world.aws.router().log() {
        world.aws.router().deliver(event);
    }
    world.aws.settled().await;
    let copied = world.drop_record(&staged_key(1))["deployments"][0]["counts"].clone();
    read_all(&world).await;
    let found = metrics(&world);
    for (name, value, expected) in [
        ("Drops", "succeeded", 2),
        ("Drops", "failed", 1),
        ("Drops", "rejected", 2),
        ("Drops", "ignored", 1),
        ("Deployments", "succeeded", 2),
        ("Deployments", "failed", 1),
        ("RefusedBundles", "appspec-missing", 1),
        ("RefusedBundles", "archive-not-recognised", 1),
        ("BytesCopied", "", 0),
    ] {
        assert_eq!(
            sum(&found, name, value),
            expected,
            "{name} {value}: {found:#?}"
        );
    }
    assert!(sum(&found, "BytesSent", "") >= copied["bytes_put"].as_u64().unwrap());
    // Seconds of a run that takes less; that they are there at all is what counts.
    for name in ["UploadToDeployment", "UploadToOutcome"] {
        assert!(
            found.contains_key(&(name.to_owned(), String::new())),
            "{name}: {found:#?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_that_wait_are_counted_by_the_schedule() {
    let world = World::with_environment(by_hand(), &ON_AWS).await;
    let settings = crate::support::SETTINGS.replace(
        "deployment_group: production\n",
        "deployment_group: production\n        queue: all\n",
    );
    world.put("settings/shop.yml", settings);
    for build_num in 1..=3 {
        world.drop_build(build_num, application(build_num)).await;
    }
    world.schedule().await.unwrap();
    read_until(&world, |world| {
        sum(&metrics(world), "WaitingBuilds", "") == 2
            && decisions(world).iter().any(|(name, _)| name == "settled")
    })
    .await;
    let found = metrics(&world);
    assert_eq!(sum(&found, "WaitingBuilds", ""), 2, "{found:#?}");
    let waits = decisions(&world);
    let mut settled = waits.iter().filter(|(name, _)| name == "settled");
    assert_eq!(settled.next_back().unwrap().1["waiting"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicts_that_were_retried_are_counted() {
    use stagedrop::local::faults::{Fault, Match, Nth};
    let world = World::with_environment(automatic(), &ON_AWS).await;
    world.aws.faults().on(
        Match::any()
            .operation("PutObject")
            .path_with("records/groups/")
            .nth(Nth::First(2)),
        Fault::FailBefore {
            status: 409,
            code: "ConditionalRequestConflict".to_owned(),
        },
    );
    let drop = world.deploy_build(1, application(1)).await;
    assert_eq!(drop["status"], "succeeded", "{drop:#}");
    read_all(&world).await;
    let found = metrics(&world);
    // The functions meet on their own too.
    assert!(sum(&found, "ConflictsRetried", "") >= 2, "{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_hold_no_content_no_credentials_and_no_control_characters() {
    const CONTENT: &str = "the-content-of-a-file-that-nobody-may-see";
    const TOKEN: &str = "a-session-token-that-is-secret";
    let more = [
        ("AWS_LAMBDA_LOG_FORMAT", "JSON"),
        // The most that can be asked for.
        ("AWS_LAMBDA_LOG_LEVEL", "TRACE"),
        ("STAGEDROP_METRICS_NAMESPACE", "my-stack"),
        ("AWS_SECRET_ACCESS_KEY", "a-secret-key-that-is-secret"),
        ("AWS_SESSION_TOKEN", TOKEN),
    ];
    let world = World::with_environment(
        Options {
            run_hooks: true,
            ..automatic()
        },
        &more,
    )
    .await;
    let appspec = format!("{}# {CONTENT}\n", crate::support::APPSPEC);
    let files = [
        ("appspec.yml", appspec.as_str()),
        ("index.html", CONTENT),
        (
            "circle.yml",
            "test: {override: [the-content-of-a-file-that-nobody-may-see]}\n",
        ),
        (
            "scripts/after.sh",
            "#!/bin/sh\necho the-content-of-a-file-that-nobody-may-see\nexit 1\n",
        ),
    ];
    world.put_with(&staged_key(1), bundle(&files), &[("author", "alice")]);
    world.aws.settled().await;
    assert_eq!(world.drop_record(&staged_key(1))["status"], "failed");
    world.put_with(
        &staged_key(2),
        bundle(&files),
        &[
            ("author", "mallory\u{1b}[2K\r\nlevel=ERROR forged"),
            ("build-url", "https://ci/\u{202e}x"),
            ("repository", "acme/sh\u{7}op"),
        ],
    );
    world.aws.settled().await;
    world.put("staging/shop/mas\u{1b}ter/2-0a1b2c3d.zip", bundle(&files));
    world.put("staging/\u{1b}[31mred", "x");
    world.aws.settled().await;
    let lines = world.lines.lock().unwrap();
    assert!(lines.len() > 10);
    for (function, line) in lines.iter() {
        for secret in [
            CONTENT,
            TOKEN,
            "a-secret-key-that-is-secret",
            "Signature=",
            "forged",
        ] {
            assert!(!line.contains(secret), "{function}: {line}");
        }
        // Neither raw nor as JSON's escape.
        assert!(!line.contains(char::is_control), "{function}: {line:?}");
        assert!(
            !line.contains("\\u00") && !line.contains("\\r"),
            "{function}: {line}"
        );
    }
    let functions: BTreeSet<&str> = lines
        .iter()
        .map(|(function, _)| function.as_str())
        .collect();
    assert_eq!(functions, BTreeSet::from(["deploy", "record"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_logged_once_with_the_type_that_alarms_match() {
    use stagedrop::local::faults::{Fault, Match, Service};
    let world = World::with_environment(automatic(), &ON_AWS).await;
    world.aws.faults().on(
        Match::any().operation("HeadObject").label("deploy"),
        Fault::throttle(Service::S3),
    );
    world.put(&staged_key(1), application(1));
    world.aws.settled().await;
    let is_given_back = |(name, _): &(String, Value)| name == "given-back";
    read_until(&world, |world| {
        decisions(world)
            .iter()
            .filter(|told| is_given_back(told))
            .count()
            >= 3
    })
    .await;
    read_all(&world).await;
    let told = decisions(&world);
    let given_back: Vec<_> = told.iter().filter(|told| is_given_back(told)).collect();
    assert_eq!(
        given_back.len(),
        3,
        "once for each of Lambda's tries: {told:#?}"
    );
    for (_, line) in given_back {
        assert_eq!(line["level"], "ERROR");
        // HEAD is answered without a body, so that no code tells throttling from outage.
        assert_eq!(line["error_type"], "AwsUnavailable", "{line:#}");
    }
    let rings = |line: &Value| {
        let types = faults_to_cure("DeployFaults");
        types.iter().any(|word| line["error_type"] == word.as_str())
    };
    assert!(!told.iter().any(|(_, line)| rings(line)), "{told:#?}");
    // What no retry cures rings at its first line.
    world.aws.faults().clear();
    world.aws.faults().on(
        Match::any().operation("HeadObject").label("deploy"),
        Fault::FailBefore {
            status: 403,
            code: "AccessDenied".to_owned(),
        },
    );
    world.put(&staged_key(2), application(2));
    world.aws.settled().await;
    read_all(&world).await;
    let told = decisions(&world);
    let ringing = told.iter().filter(|(_, line)| rings(line)).count();
    assert_eq!(ringing, 3, "{told:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_tells_ended_deployments_for_whom_it_is_sent_on_to() {
    let world = World::start(by_hand()).await;
    let metadata = [("repository", "acme/shop"), ("author", "alice")];
    world.put_with(&staged_key(1), application(1), &metadata);
    world.aws.quiet().await;
    let id = world.our_deployments().remove(0);
    world.aws.codedeploy().run(&id, std::time::Duration::ZERO);
    world.aws.settled().await;
    let mut event: Value =
        serde_json::from_str(include_str!("../events/codedeploy-deployment-success.json")).unwrap();
    event["detail"]["deploymentId"] = json!(id);
    event["detail"]["region"] = json!("us-east-1");
    let answer = world.invoke_record(event).await.unwrap();
    let outcome = &answer["outcomes"][0];
    for (name, expected) in [
        ("deployment_id", json!(id)),
        ("application", json!("shop")),
        ("deployment_group", json!("production")),
        ("status", json!("Succeeded")),
        ("creator", json!("user")),
    ] {
        assert_eq!(outcome[name], expected, "{answer:#}");
    }
    assert_eq!(outcome["build"]["commit"], COMMIT, "{answer:#}");
    assert_eq!(outcome["drop"]["staged_key"], staged_key(1).as_str());
    assert_eq!(answer["outcome"], *outcome, "{answer:#}");
    assert_eq!(
        sent_on(&answer),
        BTreeSet::from([
            format!("TellChannel: {id} Succeeded"),
            format!("TellSuccess: {id} {COMMIT}"),
        ])
    );
    let answer = world.schedule().await.unwrap();
    assert_eq!(answer["outcomes"], json!([]), "{answer:#}");
}

/// What the rules of `examples/outcomes-onward.yaml` make of an answer: rule, deployment, status or commit.
///
/// Paths are looked up as EventBridge does; one that leads nowhere fails.
fn sent_on(answer: &Value) -> BTreeSet<String> {
    let text = std::fs::read(root().join("examples/outcomes-onward.yaml")).unwrap();
    let documents = yaml::parse(&text, &yaml::Limits::default()).unwrap();
    let example = long_form(&documents[0]);
    let event = json!({ "detail": { "responsePayload": answer } });
    let find = |path: &Value| {
        let pointer = path.as_str().unwrap().strip_prefix('$').unwrap();
        let found = event.pointer(&pointer.replace('.', "/"));
        let text = found.and_then(Value::as_str);
        text.unwrap_or_else(|| panic!("{path}: {event:#}"))
            .to_owned()
    };
    let mut sent = BTreeSet::new();
    for rule in ["TellChannel", "TellSuccess", "TellFailure"] {
        let properties = &example["Resources"][rule]["Properties"];
        let mut wanted = properties["EventPattern"]["detail"]["responsePayload"].clone();
        assert!(wanted.is_object(), "{rule}");
        // The only repository is the example's parameter.
        if let Some(repository) = wanted.pointer_mut("/outcome/build/repository") {
            assert_eq!(*repository, json!([{ "Ref": "Repository" }]));
            *repository = json!(["acme/shop"]);
        }
        let pattern = json!({ "detail": { "responsePayload": wanted } });
        if !lets_through(&pattern, &event) {
            continue;
        }
        let target = &properties["Targets"][0];
        let paths = target["InputTransformer"]["InputPathsMap"].as_object();
        let named: BTreeMap<&str, String> = paths
            .unwrap()
            .iter()
            .map(|(name, path)| (name.as_str(), find(path)))
            .collect();
        let what = match target["HttpParameters"]["PathParameterValues"].as_array() {
            Some(path) => find(&path[0]),
            None => named["status"].clone(),
        };
        sent.insert(format!("{rule}: {} {what}", named["deployment"]));
    }
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_finds_several_ends_mixes_none_of_them_up() {
    let world = World::start(by_hand()).await;
    let metadata = [("repository", "acme/shop"), ("author", "alice")];
    add_project(&world.aws, "till", SETTINGS);
    let commits = [COMMIT, "9b8a7c6d5e4f30211203344556677889900aabbc"];
    let staged = [
        staged_key(1),
        format!("staging/till/master/1-{}.zip", commits[1]),
    ];
    for key in &staged {
        world.put_with(key, application(1), &metadata);
    }
    world.aws.quiet().await;
    let deployments: Vec<String> = staged
        .iter()
        .map(|key| {
            let drop = world.drop_record(key);
            let id = drop["deployments"][0]["deployment_id"].as_str();
            id.unwrap_or_else(|| panic!("{drop:#}")).to_owned()
        })
        .collect();
    // Both end, one well and one badly, and neither event comes.
    world.aws.router().lose(Some(std::sync::Arc::new(|event| {
        event.detail("deploymentId").is_some()
    })));
    for (id, status) in deployments.iter().zip([Status::Failed, Status::Succeeded]) {
        let codedeploy = world.aws.codedeploy();
        codedeploy.advance(id, Status::InProgress, None).unwrap();
        codedeploy.advance(id, status, None).unwrap();
    }
    world.aws.router().lose(None);
    let answer = world.schedule().await.unwrap();
    let mut statuses: Vec<_> = answer["outcomes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|outcome| {
            (
                outcome["build"]["commit"].clone(),
                outcome["status"].clone(),
            )
        })
        .collect();
    statuses.sort_by_key(|(commit, _)| commit.to_string());
    assert_eq!(
        statuses,
        [
            (json!(commits[0]), json!("Failed")),
            (json!(commits[1]), json!("Succeeded"))
        ],
        "{answer:#}"
    );
    assert_eq!(answer.get("outcome"), None, "{answer:#}");
    assert_eq!(sent_on(&answer), BTreeSet::new());
    // Each for itself is told to its own commit.
    for (id, rule, status, commit) in [
        (&deployments[0], "TellFailure", "Failed", commits[0]),
        (&deployments[1], "TellSuccess", "Succeeded", commits[1]),
    ] {
        let mut event: Value =
            serde_json::from_str(include_str!("../events/codedeploy-deployment-success.json"))
                .unwrap();
        event["detail"]["deploymentId"] = json!(id);
        event["detail"]["region"] = json!("us-east-1");
        let answer = world.invoke_record(event).await.unwrap();
        let expected = [
            format!("TellChannel: {id} {status}"),
            format!("{rule}: {id} {commit}"),
        ];
        assert_eq!(sent_on(&answer), BTreeSet::from(expected), "{answer:#}");
    }
}
