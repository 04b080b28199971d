//! The API as a client sees it, called without HTTP.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::local::s3::Attributes;

const STEP: Progress = Progress::Automatic {
    step: Duration::ZERO,
};

struct World {
    codedeploy: CodeDeploy,
    store: Arc<Store>,
    changes: Arc<Mutex<Vec<(String, ChangedTo)>>>,
}

impl World {
    /// Application `app` with group `group`, a bucket, and a revision that lies in it.
    fn new(progress: Progress) -> Self {
        Self::with(Options {
            progress,
            ..Options::default()
        })
    }

    fn with(options: Options) -> Self {
        let store = Arc::new(Store::new(None).unwrap());
        store.create_bucket("bucket").unwrap();
        let codedeploy = CodeDeploy::new(Options {
            store: Some(Arc::clone(&store)),
            ..options
        });
        let changes = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&changes);
        codedeploy.observe(Arc::new(move |change| {
            told.lock()
                .unwrap()
                .push((change.deployment_id, change.state));
        }));
        let world = Self {
            codedeploy,
            store,
            changes,
        };
        world.ok("CreateApplication", json!({ "applicationName": "app" }));
        world.group("group", json!({}));
        world
    }

    fn group(&self, name: &str, members: Value) {
        let mut input = json!({ "applicationName": "app", "deploymentGroupName": name, "serviceRoleArn": "arn:aws:iam::123456789012:role/r" });
        input
            .as_object_mut()
            .unwrap()
            .extend(members.as_object().unwrap().clone());
        self.ok("CreateDeploymentGroup", input);
    }

    fn ok(&self, operation: &str, input: Value) -> Value {
        self.codedeploy
            .call(operation, &input)
            .unwrap_or_else(|error| panic!("{operation}: {error}"))
    }

    fn err(&self, operation: &str, input: Value) -> String {
        self.codedeploy.call(operation, &input).unwrap_err().code
    }

    /// Puts an object and gives its location.
    fn object(&self, key: &str) -> Value {
        let written = self
            .store
            .put("bucket", key, key.to_owned(), Attributes::default())
            .unwrap();
        json!({ "revisionType": "S3", "s3Location": { "bucket": "bucket", "key": key, "bundleType": "zip", "eTag": written.etag } })
    }

    fn deployment(&self, revision: &Value) -> Value {
        json!({ "applicationName": "app", "deploymentGroupName": "group", "revision": revision })
    }

    fn create(&self, revision: &Value) -> String {
        let answer = self.ok("CreateDeployment", self.deployment(revision));
        answer["deploymentId"].as_str().unwrap().to_owned()
    }

    fn info(&self, id: &str) -> Value {
        self.ok("GetDeployment", json!({ "deploymentId": id }))["deploymentInfo"].clone()
    }

    fn told(&self, id: &str) -> Vec<ChangedTo> {
        self.changes
            .lock()
            .unwrap()
            .iter()
            .filter(|(of, _)| of == id)
            .map(|(_, state)| *state)
            .collect()
    }
}

fn with(mut value: Value, member: &str, content: Value) -> Value {
    value
        .as_object_mut()
        .unwrap()
        .insert(member.to_owned(), content);
    value
}

#[tokio::test]
async fn ok_a_deployment_runs_to_its_end_and_is_told() {
    let world = World::new(STEP);
    let revision = world.object("a.zip");
    world.ok(
        "RegisterApplicationRevision",
        json!({ "applicationName": "app", "revision": revision, "description": "first" }),
    );
    let input = with(world.deployment(&revision), "description", json!("build 1"));
    let id = world.ok("CreateDeployment", input)["deploymentId"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(world.codedeploy.ended(&id).await, Some(Status::Succeeded));
    assert_eq!(world.told(&id), [ChangedTo::Start, ChangedTo::Success]);
    let info = world.info(&id);
    assert_eq!(
        (info["status"].as_str(), info["creator"].as_str()),
        (Some("Succeeded"), Some("user"))
    );
    assert_eq!(
        (&info["description"], &info["revision"]),
        (&json!("build 1"), &revision)
    );
    assert_eq!(info["deploymentConfigName"], "CodeDeployDefault.OneAtATime");
    assert!(info["createTime"].is_f64() && info["completeTime"].is_f64());
    assert_eq!(info["deploymentOverview"]["Succeeded"], 1);
    let input = json!({ "applicationName": "app", "deploymentGroupName": "group" });
    let group = world.ok("GetDeploymentGroup", input)["deploymentGroupInfo"].clone();
    assert_eq!(group["lastSuccessfulDeployment"]["deploymentId"], json!(id));
    assert_eq!(group["lastAttemptedDeployment"]["status"], "Succeeded");
    assert_eq!(
        (&group["targetRevision"], &group["computePlatform"]),
        (&revision, &json!("Server"))
    );
    let known = world.ok(
        "GetApplicationRevision",
        json!({ "applicationName": "app", "revision": revision }),
    );
    assert_eq!(known["revisionInfo"]["deploymentGroups"], json!(["group"]));
    assert_eq!(known["revisionInfo"]["description"], "first");
    assert!(known["revisionInfo"]["firstUsedTime"].is_f64());
}

#[tokio::test]
async fn ok_a_restart_names_no_revision_and_brings_none() {
    let world = World::new(Progress::Manual);
    let restart = json!({ "applicationName": "app", "deploymentGroupName": "group", "deploymentMode": "RESTART" });
    let nothing_there = world.err("CreateDeployment", restart.clone());
    assert_eq!(nothing_there, "InvalidInputException");
    let revision = world.object("a.zip");
    let first = world.create(&revision);
    for status in [Status::InProgress, Status::Succeeded] {
        world.codedeploy.advance(&first, status, None).unwrap();
    }
    let named = with(restart.clone(), "revision", revision.clone());
    assert_eq!(
        world.err("CreateDeployment", named),
        "InvalidInputException"
    );
    let answer = world.ok("CreateDeployment", restart);
    let info = world.info(answer["deploymentId"].as_str().unwrap());
    assert_eq!(info["deploymentMode"], "RESTART");
    assert_eq!(info["revision"], Value::Null);
    assert_eq!(info["previousRevision"], revision);
}

#[tokio::test]
async fn err_a_busy_group_names_its_deployment() {
    for (wording, text) in [
        (
            LimitWording::Current,
            "The Deployment Group 'group' already has an active Deployment 'ID'",
        ),
        (
            LimitWording::Old,
            "Deployment Group 'group' is already deploying deployment 'ID'",
        ),
        (
            LimitWording::Unnamed,
            "The Deployment Group 'group' already has an active Deployment",
        ),
    ] {
        let options = Options {
            progress: Progress::Manual,
            limit_wording: wording,
            ..Options::default()
        };
        let world = World::with(options);
        let revision = world.object("a.zip");
        let id = world.create(&revision);
        for status in [Status::Queued, Status::InProgress] {
            let error = world
                .codedeploy
                .call("CreateDeployment", &world.deployment(&revision))
                .unwrap_err();
            assert_eq!(
                error,
                ApiError::new("DeploymentLimitExceededException", text.replace("ID", &id))
            );
            world.codedeploy.advance(&id, status, None).unwrap();
        }
        world
            .codedeploy
            .advance(&id, Status::Stopped, None)
            .unwrap();
        assert_ne!(world.create(&revision), id);
    }
}

#[tokio::test]
async fn err_revisions_that_are_not_there() {
    let world = World::new(Progress::Manual);
    let revision = world.object("a.zip");
    let changed = |member: &str, value: &str| {
        let mut changed = revision.clone();
        changed["s3Location"][member] = json!(value);
        changed
    };
    for absent in [
        changed("key", "b.zip"),
        changed("eTag", "0123"),
        changed("version", "v1"),
    ] {
        assert_eq!(
            world.err("CreateDeployment", world.deployment(&absent)),
            "RevisionDoesNotExistException"
        );
        let input = json!({ "applicationName": "app", "revision": absent });
        assert_eq!(
            world.err("GetApplicationRevision", input),
            "RevisionDoesNotExistException"
        );
    }
    for invalid in [
        changed("bundleType", "rar"),
        changed("bundleType", "YAML"),
        changed("bucket", "No"),
        changed("eTag", "\"quoted\""),
        json!({ "revisionType": "S3" }),
        json!({ "revisionType": "Disk", "s3Location": {} }),
        json!({ "revisionType": "GitHub", "gitHubLocation": { "repository": "name", "commitId": "c" } }),
    ] {
        assert_eq!(
            world.err("CreateDeployment", world.deployment(&invalid)),
            "InvalidRevisionException",
            "{invalid}"
        );
    }
    let none = json!({ "applicationName": "app", "deploymentGroupName": "group" });
    assert_eq!(
        world.err("CreateDeployment", none),
        "RevisionRequiredException"
    );
    // What is registered may be deployed; whether it is still there shows on the instance.
    let registered = changed("key", "gone.zip");
    world.ok(
        "RegisterApplicationRevision",
        json!({ "applicationName": "app", "revision": registered }),
    );
    world.create(&registered);
}

#[tokio::test]
async fn err_create_deployment_refuses_what_aws_refuses() {
    let world = World::new(Progress::Manual);
    let good = world.deployment(&world.object("a.zip"));
    let cases = [
        (
            "applicationName",
            json!(null),
            "ApplicationNameRequiredException",
        ),
        (
            "applicationName",
            json!("a b"),
            "InvalidApplicationNameException",
        ),
        (
            "applicationName",
            json!("other"),
            "ApplicationDoesNotExistException",
        ),
        ("applicationName", json!(1), "SerializationException"),
        (
            "deploymentGroupName",
            json!(null),
            "DeploymentGroupNameRequiredException",
        ),
        (
            "deploymentGroupName",
            json!("a/b"),
            "InvalidDeploymentGroupNameException",
        ),
        (
            "deploymentGroupName",
            json!("other"),
            "DeploymentGroupDoesNotExistException",
        ),
        (
            "description",
            json!("x".repeat(257)),
            "DescriptionTooLongException",
        ),
        (
            "deploymentConfigName",
            json!("a b"),
            "InvalidDeploymentConfigNameException",
        ),
        (
            "deploymentConfigName",
            json!("Mine"),
            "DeploymentConfigDoesNotExistException",
        ),
        (
            "deploymentConfigName",
            json!("CodeDeployDefault.LambdaAllAtOnce"),
            "InvalidComputePlatformException",
        ),
        (
            "fileExistsBehavior",
            json!("overwrite"),
            "InvalidFileExistsBehaviorException",
        ),
        (
            "targetInstances",
            json!({}),
            "InvalidTargetInstancesException",
        ),
        (
            "autoRollbackConfiguration",
            json!({ "enabled": true }),
            "InvalidAutoRollbackConfigException",
        ),
        (
            "autoRollbackConfiguration",
            json!({ "enabled": true, "events": ["FAILURE"] }),
            "InvalidAutoRollbackConfigException",
        ),
    ];
    for (member, value, code) in cases {
        assert_eq!(
            world.err("CreateDeployment", with(good.clone(), member, value)),
            code,
            "{member}"
        );
    }
    world.ok(
        "CreateDeployment",
        with(good, "description", json!("x".repeat(256))),
    );
}

#[tokio::test]
async fn err_options_that_lambda_does_not_know() {
    let world = World::new(Progress::Manual);
    world.ok(
        "CreateApplication",
        json!({ "applicationName": "fn", "computePlatform": "Lambda" }),
    );
    world.ok(
        "CreateDeploymentGroup",
        json!({ "applicationName": "fn", "deploymentGroupName": "g", "serviceRoleArn": "arn:aws:iam::1:role/r" }),
    );
    let content = "version: 0.0\nResources: []\n";
    let revision =
        json!({ "revisionType": "AppSpecContent", "appSpecContent": { "content": content } });
    let good = json!({ "applicationName": "fn", "deploymentGroupName": "g", "revision": revision });
    for (member, value, code) in [
        (
            "ignoreApplicationStopFailures",
            json!(true),
            "InvalidIgnoreApplicationStopFailuresValueException",
        ),
        (
            "updateOutdatedInstancesOnly",
            json!(true),
            "InvalidUpdateOutdatedInstancesOnlyValueException",
        ),
        (
            "fileExistsBehavior",
            json!("RETAIN"),
            "InvalidFileExistsBehaviorException",
        ),
        (
            "revision",
            json!({ "revisionType": "S3", "s3Location": { "bucket": "bucket", "key": "a", "bundleType": "tar" } }),
            "InvalidRevisionException",
        ),
    ] {
        assert_eq!(
            world.err("CreateDeployment", with(good.clone(), member, value)),
            code,
            "{member}"
        );
    }
    let id = world.ok(
        "CreateDeployment",
        with(good, "ignoreApplicationStopFailures", json!(false)),
    );
    let info = world.info(id["deploymentId"].as_str().unwrap());
    assert_eq!(info["computePlatform"], "Lambda");
    assert_eq!(info["revision"]["appSpecContent"].get("content"), None);
    assert_eq!(info["deploymentStyle"]["deploymentType"], "BLUE_GREEN");
}

#[tokio::test]
async fn ok_a_failure_by_hand_tells_the_lifecycle_event() {
    let world = World::new(Progress::Manual);
    let id = world.create(&world.object("a.zip"));
    let targets = json!({ "deploymentId": id });
    assert_eq!(
        world.err("ListDeploymentTargets", targets.clone()),
        "DeploymentNotStartedException"
    );
    let before = world
        .codedeploy
        .advance(&id, Status::Succeeded, None)
        .unwrap_err();
    let text = format!("deployment `{id}` is Created and cannot become Succeeded");
    assert_eq!(before.to_string(), text);
    world
        .codedeploy
        .advance(&id, Status::InProgress, None)
        .unwrap();
    let failure = TargetFailure {
        lifecycle_event: "AfterInstall".to_owned(),
        diagnostics: Diagnostics {
            error_code: "ScriptFailed".to_owned(),
            script_name: "scripts/x.sh".to_owned(),
            message: "Script at specified location: scripts/x.sh failed with exit code 1"
                .to_owned(),
            log_tail: "LifecycleEvent - AfterInstall".to_owned(),
        },
    };
    world
        .codedeploy
        .advance(&id, Status::Failed, Some(failure))
        .unwrap();
    assert_eq!(world.told(&id), [ChangedTo::Start, ChangedTo::Failure]);
    assert_eq!(
        world.info(&id)["errorInformation"]["code"],
        "HEALTH_CONSTRAINTS"
    );
    assert_eq!(world.info(&id)["deploymentOverview"]["Failed"], 1);
    let ids = world.ok("ListDeploymentTargets", targets)["targetIds"].clone();
    let told = world.ok(
        "BatchGetDeploymentTargets",
        json!({ "deploymentId": id, "targetIds": ids }),
    );
    let target = &told["deploymentTargets"][0];
    assert_eq!(target["deploymentTargetType"], "InstanceTarget");
    assert_eq!(target["instanceTarget"]["status"], "Failed");
    let events = target["instanceTarget"]["lifecycleEvents"]
        .as_array()
        .unwrap();
    let of = |status: &str| -> Vec<&str> {
        let events = events.iter().filter(|event| event["status"] == status);
        events
            .map(|event| event["lifecycleEventName"].as_str().unwrap())
            .collect()
    };
    assert_eq!(
        of("Succeeded"),
        [
            "ApplicationStop",
            "DownloadBundle",
            "BeforeInstall",
            "Install"
        ]
    );
    assert_eq!(of("Failed"), ["AfterInstall"]);
    assert_eq!(of("Skipped"), ["ApplicationStart", "ValidateService"]);
    assert_eq!(events[4]["diagnostics"]["scriptName"], "scripts/x.sh");
    let again = world.codedeploy.advance(&id, Status::Succeeded, None);
    assert!(matches!(
        again,
        Err(TransitionError::Forbidden {
            from: Status::Failed,
            ..
        })
    ));
}

#[tokio::test]
async fn ok_a_rollback_is_linked_both_ways_and_takes_the_group_at_once() {
    let world = World::new(Progress::Manual);
    world.group(
        "careful",
        json!({ "autoRollbackConfiguration": { "enabled": true, "events": ["DEPLOYMENT_FAILURE"] } }),
    );
    let create = |key: &str| {
        let mut input = world.deployment(&world.object(key));
        input["deploymentGroupName"] = json!("careful");
        world.ok("CreateDeployment", input)["deploymentId"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let first = create("1.zip");
    world
        .codedeploy
        .advance(&first, Status::Failed, None)
        .unwrap();
    assert_eq!(world.codedeploy.active("app", "careful"), None);
    assert_eq!(
        world.info(&first)["rollbackInfo"].get("rollbackDeploymentId"),
        None
    );
    let good = create("2.zip");
    world
        .codedeploy
        .advance(&good, Status::InProgress, None)
        .unwrap();
    world
        .codedeploy
        .advance(&good, Status::Succeeded, None)
        .unwrap();
    let bad = create("3.zip");
    world
        .codedeploy
        .advance(&bad, Status::InProgress, None)
        .unwrap();
    world
        .codedeploy
        .advance(&bad, Status::Failed, None)
        .unwrap();
    let rollback = world.codedeploy.active("app", "careful").unwrap();
    assert_eq!(
        world.info(&bad)["rollbackInfo"]["rollbackDeploymentId"],
        json!(rollback)
    );
    let info = world.info(&rollback);
    assert_eq!(info["creator"], "codeDeployRollback");
    assert_eq!(
        info["rollbackInfo"]["rollbackTriggeringDeploymentId"],
        json!(bad)
    );
    assert_eq!(info["revision"]["s3Location"]["key"], "2.zip");
    // A rollback that fails is not rolled back.
    world
        .codedeploy
        .advance(&rollback, Status::Failed, None)
        .unwrap();
    assert_eq!(world.codedeploy.active("app", "careful"), None);
}

#[tokio::test]
async fn ok_stopping_frees_the_group() {
    let world = World::new(Progress::Manual);
    let id = world.create(&world.object("a.zip"));
    let answer = world.ok("StopDeployment", json!({ "deploymentId": id }));
    assert_eq!(answer["status"], "Succeeded");
    assert_eq!(world.codedeploy.status(&id), Some(Status::Stopped));
    assert_eq!(world.told(&id), [ChangedTo::Stop]);
    let again = world.err("StopDeployment", json!({ "deploymentId": id }));
    assert_eq!(again, "DeploymentAlreadyCompletedException");
    for (id, code) in [
        ("d-UNKNOWN00", "DeploymentDoesNotExistException"),
        ("8af2", "InvalidDeploymentIdException"),
        ("", "DeploymentIdRequiredException"),
    ] {
        assert_eq!(
            world.err("StopDeployment", json!({ "deploymentId": id })),
            code
        );
        assert_eq!(
            world.err("GetDeployment", json!({ "deploymentId": id })),
            code
        );
    }
}

#[tokio::test]
async fn ok_a_running_deployment_stops_at_its_next_step() {
    let world = World::new(Progress::Automatic {
        step: Duration::from_millis(60),
    });
    let id = world.create(&world.object("a.zip"));
    let mut seen = vec![Status::Created];
    while world.codedeploy.status(&id) != Some(Status::InProgress) {
        let status = world.codedeploy.status(&id).unwrap();
        if seen.last() != Some(&status) {
            seen.push(status);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(seen, [Status::Created, Status::Queued]);
    let input = json!({ "deploymentId": id, "autoRollbackEnabled": false });
    assert_eq!(world.ok("StopDeployment", input)["status"], "Pending");
    assert_eq!(world.codedeploy.ended(&id).await, Some(Status::Stopped));
    assert_eq!(world.told(&id), [ChangedTo::Start, ChangedTo::Stop]);
    assert_eq!(world.info(&id)["errorInformation"]["code"], "MANUAL_STOP");
}

#[tokio::test]
async fn ok_lists_are_filtered_and_paged_newest_first() {
    let world = World::with(Options {
        progress: Progress::Manual,
        page_size: 2,
        ..Options::default()
    });
    world.group("other", json!({}));
    let mut ids = Vec::new();
    for number in 0..5 {
        let id = world.create(&world.object(&format!("{number}.zip")));
        let end = if number % 2 == 0 {
            Status::Failed
        } else {
            Status::Stopped
        };
        world.codedeploy.advance(&id, end, None).unwrap();
        ids.insert(0, id);
    }
    let all = |input: Value| {
        let mut found: Vec<String> = Vec::new();
        let mut token = Value::Null;
        loop {
            let answer = world.ok("ListDeployments", with(input.clone(), "nextToken", token));
            let page = answer["deployments"].as_array().unwrap();
            assert!(page.len() <= 2);
            found.extend(page.iter().map(|id| id.as_str().unwrap().to_owned()));
            match answer.get("nextToken") {
                Some(next) => token = next.clone(),
                None => return found,
            }
        }
    };
    let named = json!({ "applicationName": "app", "deploymentGroupName": "group" });
    assert_eq!(all(named.clone()), ids);
    assert_eq!(all(json!({})), ids);
    let failed = with(
        named.clone(),
        "includeOnlyStatuses",
        json!(["Failed", "Succeeded"]),
    );
    assert_eq!(
        all(failed),
        [ids[0].clone(), ids[2].clone(), ids[4].clone()]
    );
    let other = json!({ "applicationName": "app", "deploymentGroupName": "other" });
    assert!(all(other).is_empty());
    let created = world.info(&ids[4])["createTime"].as_f64().unwrap();
    let range = |start: f64, end: f64| {
        with(
            named.clone(),
            "createTimeRange",
            json!({ "start": start, "end": end }),
        )
    };
    assert_eq!(all(range(created, created + 60.0)), ids);
    assert!(all(range(created - 60.0, created - 1.0)).is_empty());
    // A deployment that comes in between shifts no page.
    let first = world.ok("ListDeployments", named.clone());
    world.create(&world.object("late.zip"));
    let second = world.ok(
        "ListDeployments",
        with(named.clone(), "nextToken", first["nextToken"].clone()),
    );
    assert_eq!(second["deployments"], json!([ids[2], ids[3]]));
    for (input, code) in [
        (
            json!({ "applicationName": "app" }),
            "DeploymentGroupNameRequiredException",
        ),
        (
            json!({ "deploymentGroupName": "group" }),
            "ApplicationNameRequiredException",
        ),
        (
            json!({ "includeOnlyStatuses": ["Done"] }),
            "InvalidDeploymentStatusException",
        ),
        (
            json!({ "createTimeRange": { "start": 2, "end": 1 } }),
            "InvalidTimeRangeException",
        ),
        (json!({ "nextToken": "zz" }), "InvalidNextTokenException"),
    ] {
        assert_eq!(world.err("ListDeployments", input), code);
    }
    let batch = |count: usize| json!({ "deploymentIds": vec![ids[0].clone(); count] });
    assert_eq!(
        world.ok("BatchGetDeployments", batch(25))["deploymentsInfo"]
            .as_array()
            .unwrap()
            .len(),
        25
    );
    assert_eq!(
        world.err("BatchGetDeployments", batch(26)),
        "BatchLimitExceededException"
    );
    assert_eq!(
        world.err("BatchGetDeployments", batch(0)),
        "DeploymentIdRequiredException"
    );
}

#[tokio::test]
async fn ok_targets_are_paged_and_their_number_is_limited() {
    let world = World::with(Options {
        progress: Progress::Manual,
        page_size: 2,
        instances: 5,
        ..Options::default()
    });
    let id = world.create(&world.object("a.zip"));
    world
        .codedeploy
        .advance(&id, Status::InProgress, None)
        .unwrap();
    let page = world.ok("ListDeploymentTargets", json!({ "deploymentId": id }));
    assert_eq!(page["targetIds"].as_array().unwrap().len(), 2);
    let input = json!({ "deploymentId": id, "nextToken": page["nextToken"] });
    assert_ne!(
        world.ok("ListDeploymentTargets", input)["targetIds"],
        page["targetIds"]
    );
    let filter = json!({ "deploymentId": id, "targetFilters": { "TargetStatus": ["Failed"] } });
    assert_eq!(
        world.ok("ListDeploymentTargets", filter)["targetIds"],
        json!([])
    );
    let bad = json!({ "deploymentId": id, "targetFilters": { "Status": ["Failed"] } });
    assert_eq!(
        world.err("ListDeploymentTargets", bad),
        "InvalidTargetFilterNameException"
    );
    for (ids, code) in [
        (json!([]), "DeploymentTargetIdRequiredException"),
        (json!(["i-0"]), "DeploymentTargetDoesNotExistException"),
        (
            json!(vec!["i-0"; 26]),
            "DeploymentTargetListSizeExceededException",
        ),
    ] {
        assert_eq!(
            world.err(
                "BatchGetDeploymentTargets",
                json!({ "deploymentId": id, "targetIds": ids })
            ),
            code
        );
    }
}

#[tokio::test]
async fn ok_without_instances_there_is_nothing_to_deploy_to() {
    let world = World::with(Options {
        instances: 0,
        ..Options::default()
    });
    let id = world.create(&world.object("a.zip"));
    assert_eq!(world.codedeploy.ended(&id).await, Some(Status::Failed));
    assert_eq!(world.info(&id)["errorInformation"]["code"], "NO_INSTANCES");
}

#[tokio::test]
async fn ok_a_lambda_deployment_has_its_function_as_target() {
    let world = World::new(STEP);
    world.ok(
        "CreateApplication",
        json!({ "applicationName": "fn", "computePlatform": "Lambda" }),
    );
    world.ok(
        "CreateDeploymentGroup",
        json!({ "applicationName": "fn", "deploymentGroupName": "g", "serviceRoleArn": "arn:aws:iam::1:role/r" }),
    );
    let deploy = |content: &str| {
        let revision =
            json!({ "revisionType": "AppSpecContent", "appSpecContent": { "content": content } });
        let input =
            json!({ "applicationName": "fn", "deploymentGroupName": "g", "revision": revision });
        world.ok("CreateDeployment", input)["deploymentId"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let id = deploy(
        "version: 0.0\nResources:\n  - f:\n      Type: AWS::Lambda::Function\n      Properties: {Name: f, Alias: live, CurrentVersion: '1', TargetVersion: '2'}\n",
    );
    assert_eq!(world.codedeploy.ended(&id).await, Some(Status::Succeeded));
    let told = world.ok(
        "GetDeploymentTarget",
        json!({ "deploymentId": id, "targetId": "f" }),
    );
    assert_eq!(
        told["deploymentTarget"]["deploymentTargetType"],
        "LambdaTarget"
    );
    assert_eq!(
        told["deploymentTarget"]["lambdaTarget"]["lambdaFunctionInfo"]["targetVersion"],
        "2"
    );
    let id = deploy("version: 0.0\nos: linux\n");
    assert_eq!(world.codedeploy.ended(&id).await, Some(Status::Failed));
    assert_eq!(
        world.info(&id)["errorInformation"]["code"],
        "INVALID_REVISION"
    );
}

#[test]
fn err_names_are_taken_once_and_configurations_fit_their_platform() {
    let world = World::new(Progress::Manual);
    assert_eq!(
        world.err("CreateApplication", json!({ "applicationName": "app" })),
        "ApplicationAlreadyExistsException"
    );
    assert_eq!(
        world.err(
            "CreateApplication",
            json!({ "applicationName": "b", "computePlatform": "Mainframe" })
        ),
        "InvalidComputePlatformException"
    );
    let group = json!({ "applicationName": "app", "deploymentGroupName": "new", "serviceRoleArn": "arn:aws:iam::1:role/r" });
    for (member, value, code) in [
        (
            "deploymentGroupName",
            json!("group"),
            "DeploymentGroupAlreadyExistsException",
        ),
        ("serviceRoleArn", json!(null), "RoleRequiredException"),
        ("serviceRoleArn", json!("me"), "InvalidRoleException"),
        (
            "deploymentConfigName",
            json!("CodeDeployDefault.ECSAllAtOnce"),
            "InvalidDeploymentConfigNameException",
        ),
        (
            "deploymentStyle",
            json!({ "deploymentType": "GREEN" }),
            "InvalidDeploymentStyleException",
        ),
    ] {
        assert_eq!(
            world.err("CreateDeploymentGroup", with(group.clone(), member, value)),
            code
        );
    }
    let config = json!({ "deploymentConfigName": "Mine", "minimumHealthyHosts": { "type": "HOST_COUNT", "value": 1 } });
    world.ok("CreateDeploymentConfig", config.clone());
    assert_eq!(
        world.err("CreateDeploymentConfig", config),
        "DeploymentConfigAlreadyExistsException"
    );
    let told = world.ok(
        "GetDeploymentConfig",
        json!({ "deploymentConfigName": "Mine" }),
    );
    assert_eq!(
        told["deploymentConfigInfo"]["minimumHealthyHosts"]["value"],
        1
    );
    let taken = json!({ "deploymentConfigName": "CodeDeployDefault.Mine" });
    assert_eq!(
        world.err("CreateDeploymentConfig", taken),
        "InvalidDeploymentConfigNameException"
    );
    assert_eq!(
        world.err("CreateCluster", json!({})),
        "UnknownOperationException"
    );
}

#[tokio::test]
async fn ok_a_sink_may_call_back() {
    let world = World::new(Progress::Manual);
    let (codedeploy, seen) = (world.codedeploy.clone(), Arc::new(Mutex::new(Vec::new())));
    let told = Arc::clone(&seen);
    world.codedeploy.observe(Arc::new(move |change| {
        told.lock().unwrap().push(change.state);
        if change.state == ChangedTo::Start {
            codedeploy
                .advance(&change.deployment_id, Status::Succeeded, None)
                .unwrap();
        }
    }));
    let id = world.create(&world.object("a.zip"));
    world
        .codedeploy
        .advance(&id, Status::InProgress, None)
        .unwrap();
    assert_eq!(
        *seen.lock().unwrap(),
        [ChangedTo::Start, ChangedTo::Success]
    );
}
