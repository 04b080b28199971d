//! Least privilege, proved: what is called is allowed, what is allowed is called.
//!
//! All of the suite runs with the template's policies enforced (`support::attach_policies`), but for where
//! revisions lie, so that a test whose functions make a call that is not allowed fails by itself. Here the
//! policies are exactly the template's, one play makes every call that there is, and the two are compared in
//! both directions.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use stagedrop::local::codedeploy::{Platform, Progress};
use stagedrop::local::faults::{Fault, Match, Nth};
use stagedrop::local::iam::{Need, Policy};
use stagedrop::local::{Endpoints, Options};

use crate::faults::large_application;
use crate::large::{self, drop_blob, two_level_zip};
use crate::support::{
    ARTIFACTS, REVISIONS, SETTINGS, World, application, broken_application, foreign_deployment,
    granted, http, staged_key, start_aws_that,
};
use crate::template::{POLICIES, Stack, statements, texts};

const KEY: (&str, &str) = (
    "KmsKeyArn",
    "arn:aws:kms:us-east-1:123456789012:key/0a1b2c3d",
);

/// Rights that Lambda itself uses in a function's name, each with what in the template makes it so.
const OF_LAMBDA: [(&str, &str, &str); 5] = [
    (
        "HandOverFailures",
        "sqs:SendMessage",
        "/Resources/{}InvokeConfig/Properties/DestinationConfig/OnFailure/Destination",
    ),
    (
        "WriteLogs",
        "logs:CreateLogStream",
        "/Resources/{}Function/Properties/LoggingConfig/LogGroup",
    ),
    (
        "WriteLogs",
        "logs:PutLogEvents",
        "/Resources/{}Function/Properties/LoggingConfig/LogGroup",
    ),
    (
        "Trace",
        "xray:PutTelemetryRecords",
        "/Globals/Function/Tracing",
    ),
    (
        "Trace",
        "xray:PutTraceSegments",
        "/Globals/Function/Tracing",
    ),
];

/// Settings whose revisions have one fixed key, in a versioned bucket.
fn fixed_key() -> String {
    SETTINGS.replace(
        "apps/shop-{BRANCH}-{SHORT_COMMIT}-{BUILD_NUM}",
        "apps/shop.zip",
    )
}

/// The upload's event without the version, as S3 sends it of a bucket that had none.
fn unversioned_event(world: &World, key: &str) -> Value {
    let etag = world
        .aws
        .store()
        .find(ARTIFACTS, key, None)
        .unwrap()
        .content
        .etag
        .clone();
    let mut event: Value =
        serde_json::from_str(include_str!("../events/eventbridge-object-created.json")).unwrap();
    event["detail"]["bucket"]["name"] = json!(ARTIFACTS);
    let object = event["detail"]["object"].as_object_mut().unwrap();
    object.remove("version-id");
    object.insert("key".to_owned(), json!(key));
    object.insert("etag".to_owned(), json!(etag.trim_matches('"')));
    event
}

async fn uploads(endpoints: &Endpoints) {
    let base = format!("{}/{ARTIFACTS}/staging/shop/master", endpoints.s3);
    let put = async |path: &str, body: &[u8]| {
        let answer = http("PUT", &format!("{base}/{path}"), &[], body)
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.head);
    };
    put("1-0a1b2c3d.tar", b"one request").await;
    // What clients do with a large file, and with one whose upload is broken off.
    for is_completed in [true, false] {
        let key = format!("{base}/{}-0a1b2c3d.tar", 2 + u8::from(is_completed));
        let answer = http("POST", &format!("{key}?uploads"), &[], b"")
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{}", answer.head);
        let body = String::from_utf8(answer.body).unwrap();
        let id = body.split("<UploadId>").nth(1).unwrap();
        let id = id.split('<').next().unwrap();
        let part = format!("{key}?partNumber=1&uploadId={id}");
        let answer = http("PUT", &part, &[], b"the only part").await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.head);
        let etag = answer
            .head
            .lines()
            .find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("etag: ")
                    .map(str::to_owned)
            })
            .unwrap();
        let finish = format!("{key}?uploadId={id}");
        let answer = if is_completed {
            let parts = format!(
                "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
            );
            http("POST", &finish, &[], parts.as_bytes()).await
        } else {
            http("DELETE", &finish, &[], b"").await
        };
        let answer = answer.unwrap();
        assert!(answer.status < 300, "{}", answer.head);
    }
}

async fn fetch(url: &str) {
    let answer = http("GET", url, &[], b"").await.unwrap();
    assert_eq!(answer.status, 200, "{url}: {}", answer.head);
}

/// Revisions on two levels, whose temporary objects are under the records: one that is written, and one
/// that fails while it is put together.
async fn two_levels(world: &World, first_build: u32) {
    world.put("settings/shop.yml", large::settings());
    let written = drop_blob(world, first_build, two_level_zip()).await;
    assert!(
        written["deployments"][0]["revision"].is_object(),
        "{written:#}"
    );
    let refused = Fault::FailBefore {
        status: 400,
        code: "InvalidRequest".to_owned(),
    };
    let wanted = Match::any()
        .operation("UploadPart")
        .label("deploy")
        .path_with("/records/tmp/");
    let faults = world.aws.faults();
    let before = faults.fired();
    faults.on(wanted.nth(Nth::First(1)), refused);
    drop_blob(world, first_build + 1, two_level_zip()).await;
    assert!(faults.fired() > before, "no part failed");
    faults.clear();
    world.put("settings/shop.yml", SETTINGS);
}

/// What the same takes where the artifact bucket keeps no versions.
async fn without_versions() -> BTreeSet<Need> {
    let options = Options {
        progress: Progress::Manual,
        network: Some(large::FAST),
        ..Options::default()
    };
    let world = World::on(start_aws_that(options, false).await, &[]).await;
    two_levels(&world, 1).await;
    let needs = world.aws.iam().needs("deploy");
    world.aws.shutdown().await;
    needs
}

/// Plays one of everything and gives what each caller needed.
async fn every_call() -> BTreeMap<&'static str, BTreeSet<Need>> {
    let world = World::start(Options {
        run_hooks: true,
        progress: Progress::Manual,
        network: Some(large::FAST),
        ..Options::default()
    })
    .await;
    let aws = &world.aws;
    aws.iam().encrypt_with(KEY.1);
    for (name, _) in POLICIES {
        aws.iam().attach(name, &granted(name, &[KEY])).unwrap();
    }
    let automatic = Progress::Automatic {
        step: std::time::Duration::from_millis(2),
    };
    aws.codedeploy().set_progress(automatic);

    // A small build, one whose parts S3 copies, one that fails in a hook.
    let first = world.deploy_build(1, application(1)).await;
    assert_eq!(first["status"], "succeeded", "{first:#}");
    let large = world.deploy_build(2, large_application()).await;
    assert_eq!(large["status"], "succeeded", "{large:#}");
    let broken = world.deploy_build(3, broken_application()).await;
    assert_eq!(broken["status"], "failed", "{broken:#}");

    // An upload of parts that is broken off.
    aws.faults().on(
        Match::any()
            .operation("UploadPart")
            .label("deploy")
            .nth(Nth::First(1)),
        Fault::FailBefore {
            status: 400,
            code: "InvalidRequest".to_owned(),
        },
    );
    world.deploy_build(4, large_application()).await;
    aws.faults().clear();

    // A fixed key, and an event without a version.
    world.put("settings/shop.yml", fixed_key());
    let fixed = world.deploy_build(5, application(5)).await;
    assert_eq!(fixed["status"], "succeeded", "{fixed:#}");
    world.put("settings/shop.yml", SETTINGS);
    let key = staged_key(8);
    world.put(&key, application(8));
    world
        .invoke_deploy(unversioned_event(&world, &key))
        .await
        .unwrap();
    world.aws.settled().await;

    // CodeDeploy's answer is lost, to either function; each then looks for what it asked for.
    aws.codedeploy().set_progress(Progress::Manual);
    let lose = |label: &str| {
        let wanted = Match::any().operation("CreateDeployment").label(label);
        aws.faults().on(wanted.nth(Nth::First(1)), Fault::Reset);
    };
    lose("deploy");
    world.drop_build(9, application(9)).await;
    world.drop_build(10, application(10)).await;
    aws.faults().clear();
    lose("record");
    aws.codedeploy().set_progress(automatic);
    for id in aws.codedeploy().deployments() {
        aws.codedeploy()
            .run(&id, std::time::Duration::from_millis(2));
    }
    aws.settled().await;
    aws.faults().clear();
    world.schedule().await.unwrap();
    aws.settled().await;

    two_levels(&world, 11).await;
    aws.settled().await;

    // Those who are no functions.
    let uploader = aws.endpoints("uploader").await.unwrap();
    uploads(&uploader).await;
    let reader = aws.endpoints("ci-reader").await.unwrap();
    fetch(&format!(
        "{}/{ARTIFACTS}/records/drops/{}.json",
        reader.s3,
        staged_key(1)
    ))
    .await;
    let instances = aws.endpoints("instances").await.unwrap();
    let revision = &first["deployments"][0]["revision"];
    let [key, version] = ["key", "version"].map(|name| revision[name].as_str().unwrap());
    // The agent asks for the version that the deployment names, and for the newest where it names none.
    fetch(&format!(
        "{}/{REVISIONS}/{key}?versionId={version}",
        instances.s3
    ))
    .await;
    fetch(&format!("{}/{REVISIONS}/{key}", instances.s3)).await;
    aws.settled().await;

    let mut needs: BTreeMap<_, _> = POLICIES
        .iter()
        .map(|(name, _)| (*name, aws.iam().needs(name)))
        .collect();
    world.aws.shutdown().await;
    needs
        .entry("deploy")
        .or_default()
        .extend(without_versions().await);
    needs
}

fn is_of_lambda(idle: &str) -> bool {
    OF_LAMBDA
        .iter()
        .any(|(sid, action, _)| idle == format!("{sid}: {action}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_called_is_allowed_and_what_is_allowed_is_called() {
    let needs = every_call().await;
    let mut faults = Vec::new();
    for (name, _) in POLICIES {
        let policy = granted(name, &[KEY]);
        let needs = &needs[name];
        assert!(!needs.is_empty(), "{name} has called nothing");
        faults.extend(verdict(name, &policy, needs));

        // The comparison itself: each right is missed once it is taken away, and none can be added.
        for (at, statement) in statements(&policy).iter().enumerate() {
            for (position, action) in texts(&statement["Action"]).into_iter().enumerate() {
                let sid = statement["Sid"].as_str().unwrap();
                if is_of_lambda(&format!("{sid}: {action}")) {
                    continue;
                }
                let mut without = policy.clone();
                let actions = texts(&statement["Action"]);
                let actions = actions.iter().enumerate();
                without["Statement"][at]["Action"] = actions
                    .filter(|(other, _)| *other != position)
                    .map(|(_, action)| json!(action))
                    .collect();
                if verdict(name, &without, needs).is_empty() {
                    faults.push(format!("{name}: nobody misses {action} of {sid}"));
                }
            }
            for added in ["s3:PutObjectAcl", "codedeploy:StopDeployment"] {
                let mut with = policy.clone();
                let mut actions = texts(&statement["Action"]);
                if actions.contains(&added) {
                    continue;
                }
                actions.push(added);
                with["Statement"][at]["Action"] = json!(actions);
                if verdict(name, &with, needs).is_empty() {
                    faults.push(format!("{name}: nobody notices {added}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What a policy lacks, and what it allows without need.
fn verdict(name: &str, policy: &Value, needs: &BTreeSet<Need>) -> Vec<String> {
    let policy = Policy::read(policy).unwrap();
    let missing = policy.missing(needs).into_iter().map(|need| {
        format!(
            "{name}: {} of {} is not allowed",
            need.actions.join(" or "),
            need.resource
        )
    });
    let idle = policy
        .idle(needs)
        .into_iter()
        .filter(|idle| !is_of_lambda(idle));
    missing
        .chain(idle.map(|idle| format!("{name}: no call needs {idle}")))
        .collect()
}

#[test]
fn lambdas_own_rights_are_asked_for_by_the_template() {
    let stack = Stack::new(&[]);
    for (sid, action, pointer) in OF_LAMBDA {
        for (function, policy) in [("Deploy", "deploy"), ("Record", "record")] {
            let pointer = pointer.replace("{}", function);
            assert!(stack.template.pointer(&pointer).is_some(), "{pointer}");
            let policy = granted(policy, &[]);
            let statement = statements(&policy)
                .iter()
                .find(|statement| statement["Sid"] == sid)
                .unwrap();
            assert!(texts(&statement["Action"]).contains(&action), "{sid}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_taken_away_is_missed_by_the_processes() {
    let world = World::start(crate::support::automatic()).await;
    let mut policy = granted("deploy", &[]);
    for statement in policy["Statement"].as_array_mut().unwrap() {
        if statement["Sid"] == "WriteRevisions" {
            let actions = texts(&statement["Action"]);
            let kept = actions
                .into_iter()
                .filter(|action| *action != "s3:PutObjectTagging");
            statement["Action"] = kept.map(|action| json!(action)).collect();
        }
    }
    world.aws.iam().attach("deploy", &policy).unwrap();
    world.put(&staged_key(1), application(1));
    world.aws.settled().await;
    let lost = world.functions.deploy.dead_letters();
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert_eq!(lost[0].error.error_type, "AccessDenied", "{lost:?}");
    assert!(
        lost[0]
            .error
            .message
            .starts_with("PutObject of s3://revisions/apps/"),
        "{lost:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn revisions_are_written_under_their_prefix_and_nowhere_else() {
    let world = World::start(crate::support::automatic()).await;
    let policy = granted("deploy", &[]);
    world.aws.iam().attach("deploy", &policy).unwrap();
    let first = world.deploy_build(1, application(1)).await;
    assert_eq!(first["status"], "succeeded", "{first:#}");
    let elsewhere = SETTINGS.replace("key_pattern: apps/", "key_pattern: elsewhere/");
    assert_ne!(elsewhere, SETTINGS);
    world.put("settings/shop.yml", elsewhere);
    world.put(&staged_key(2), application(2));
    world.aws.settled().await;
    let lost = world.functions.deploy.take_dead_letters();
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert_eq!(lost[0].error.error_type, "AccessDenied", "{lost:?}");
    let message = &lost[0].error.message;
    assert!(
        message.starts_with("PutObject of s3://revisions/elsewhere/"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_deploy_beyond_the_functions_rights_is_no_fault() {
    let world = World::start(crate::support::automatic()).await;
    let narrow = |applications| granted("record", &[("ApplicationNamePattern", applications)]);
    world.aws.iam().attach("record", &narrow("shop")).unwrap();
    world
        .aws
        .create_application("billing", Platform::Server)
        .unwrap();
    world
        .aws
        .create_deployment_group("billing", "production")
        .unwrap();
    let id = foreign_deployment(&world.aws, "billing");
    world.aws.settled().await;
    let lost = world.functions.record.take_dead_letters();
    assert_eq!(lost.len(), 0, "{lost:?}");
    assert_eq!(world.record(&format!("deployments/{id}.json")), None);
    let lines = world.lines.lock().unwrap().clone();
    let told = |(function, line): &(String, String)| {
        function == "record" && line.contains(&id) && line.contains("nothing of ours goes")
    };
    assert!(lines.iter().any(told), "{lines:#?}");
    // A group of ours of the same names in another region makes no difference.
    let drop = world.deploy_build(1, application(1)).await;
    assert_eq!(drop["status"], "succeeded", "{drop:#}");
    let group = "records/groups/shop/production.json";
    let mut document: Value =
        serde_json::from_slice(&world.aws.store().get(ARTIFACTS, group).unwrap()).unwrap();
    world.aws.iam().attach("record", &narrow("other")).unwrap();
    document["region"] = json!("eu-west-1");
    world.put(group, document.to_string());
    world.foreign_deployment();
    world.aws.settled().await;
    let lost = world.functions.record.take_dead_letters();
    assert_eq!(lost.len(), 0, "{lost:?}");
    document["region"] = json!("us-east-1");
    world.put(group, document.to_string());
    // What is ours is missed.
    world.drop_build(2, application(2)).await;
    world.aws.settled().await;
    let lost = world.functions.record.take_dead_letters();
    assert!(!lost.is_empty());
    assert_eq!(lost[0].error.error_type, "AccessDenied", "{lost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policies_printed_for_settings_suffice_for_them_and_for_nothing_else() {
    let world = World::start(crate::support::automatic()).await;
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("shop.yml");
    let narrow = format!("repository_config: ignored\n{SETTINGS}");
    std::fs::write(&settings, &narrow).unwrap();
    world.put("settings/shop.yml", narrow.clone());
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_stagedrop"))
        .args(["policy", "--bucket", ARTIFACTS, "--settings"])
        .arg(&settings)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(said, "", "these settings leave nothing open");
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    for (name, _) in POLICIES {
        world.aws.iam().attach(name, &printed[name]).unwrap();
    }
    let drop = world.deploy_build(1, application(1)).await;
    assert_eq!(drop["status"], "succeeded", "{drop:#}");
    let large = world.deploy_build(2, large_application()).await;
    assert_eq!(large["status"], "succeeded", "{large:#}");
    world.schedule().await.unwrap();
    // Another project's artifact is not even read.
    world.put("staging/other/master/1-0a1b2c3d.zip", application(1));
    world.aws.settled().await;
    let lost = world.functions.deploy.take_dead_letters();
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert_eq!(lost[0].error.error_type, "AccessDenied", "{lost:?}");
    // A group that the settings do not name is not deployed to.
    world
        .aws
        .create_deployment_group("shop", "elsewhere")
        .unwrap();
    world.put(
        "settings/shop.yml",
        narrow.replace(
            "deployment_group: production",
            "deployment_group: elsewhere",
        ),
    );
    world.put(&staged_key(3), application(3));
    world.aws.settled().await;
    assert!(world.aws.codedeploy().active("shop", "elsewhere").is_none());
    let lost = world.functions.deploy.take_dead_letters();
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert_eq!(lost[0].error.error_type, "AccessDenied", "{lost:?}");
}
