//! A thousand drops at once.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use serde_json::json;
use stagedrop::local::codedeploy::Progress;
use stagedrop::local::events::Delivery;
use stagedrop::local::faults::{Fault, Match, Nth, Service};
use stagedrop::local::s3::Attributes;
use stagedrop::local::{LocalAws, Options};

use crate::faults::ONE_AT_A_TIME;
use crate::support::{
    ARTIFACTS, COMMIT, SETTINGS, add_project, application, open_markers, record, run_functions,
    start_aws,
};

const GROUPS: usize = 50;
const BUILDS: u32 = 20;
const DROPS: usize = GROUPS * BUILDS as usize;
/// Invocations of `deploy` at the same time.
const CONCURRENCY: usize = 32;
/// Every so many requests to create a deployment are throttled, and every so many to put an object.
const THROTTLED_CREATIONS: u64 = 7;
const THROTTLED_PUTS: u64 = 50;
/// Conditional writes that may be lost to somebody faster, for each drop.
const CONTENTION_PER_DROP_MAX: f64 = 2.0;
/// What a drop may cost in requests of both functions, its second delivery and all contention included.
const REQUESTS_PER_DROP_MAX: f64 = 70.0;

fn project(group: usize) -> String {
    format!("app{group}")
}

fn staged_key(group: usize, build_num: u32) -> String {
    format!("staging/{}/master/{build_num}-{COMMIT}.zip", project(group))
}

async fn start() -> LocalAws {
    let aws = start_aws(Options {
        progress: Progress::Automatic {
            step: Duration::from_millis(5),
        },
        delivery: Delivery {
            copies: 2,
            jitter: Duration::from_secs(2),
            seed: 7,
            ..Delivery::default()
        },
        ..Options::default()
    })
    .await;
    for group in 0..GROUPS {
        // Some groups deploy whatever comes, in order; the others only the newest that waits.
        let queue = if group % 5 == 0 { "all" } else { "newest" };
        let settings = SETTINGS.replace(
            "application_root: /",
            &format!("application_root: /\n    queue: {queue}"),
        );
        add_project(&aws, &project(group), &settings);
    }
    let put = Match::any().service(Service::S3).operation("PutObject");
    aws.faults().on(
        put.nth(Nth::EachOf(THROTTLED_PUTS)),
        Fault::throttle(Service::S3),
    );
    let creation = Match::any().operation("CreateDeployment");
    aws.faults().on(
        creation.nth(Nth::EachOf(THROTTLED_CREATIONS)),
        Fault::throttle(Service::CodeDeploy),
    );
    aws
}

/// The build and the token of a deployment.
fn told(aws: &LocalAws, id: &str) -> (String, u32, String) {
    let input = json!({ "deploymentId": id });
    let answer = aws.codedeploy().call("GetDeployment", &input).unwrap();
    let info = &answer["deploymentInfo"];
    let description = info["description"].as_str().unwrap();
    let build_num = description
        .strip_prefix("build ")
        .and_then(|rest| rest.split(',').next())
        .unwrap();
    let token = description.rsplit("[sd-").next().unwrap();
    (
        info["applicationName"].as_str().unwrap().to_owned(),
        build_num.parse().unwrap(),
        token.to_owned(),
    )
}

#[ignore = "takes minutes: cargo test --test main load:: -- --ignored --nocapture"]
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_drops_at_once_all_end_and_none_is_deployed_twice() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let aws = start().await;
    let delays = vec![Duration::from_secs(1), Duration::from_secs(2)];
    let functions = run_functions(&aws, [CONCURRENCY, 8], delays, &[]).await;
    let started = Instant::now();
    for build_num in 1..=BUILDS {
        let artifact = application(build_num);
        for group in 0..GROUPS {
            let key = staged_key(group, build_num);
            aws.store()
                .put(ARTIFACTS, &key, artifact.clone(), Attributes::default())
                .unwrap();
        }
    }
    aws.settled().await;
    let elapsed = started.elapsed();

    let requests = aws.faults().log();
    let of = |label: &str| {
        requests
            .iter()
            .filter(|request| request.label == label)
            .count()
    };
    let answered = |status: u16| {
        requests
            .iter()
            .filter(|request| request.status == Some(status))
            .count()
    };
    let throttled = requests
        .iter()
        .filter(|request| request.fault.is_some())
        .count();
    let contention = answered(412) + answered(409);
    let per_drop = (of("deploy") + of("record")) as f64 / DROPS as f64;
    let mut statuses: BTreeMap<String, usize> = BTreeMap::new();
    for group in 0..GROUPS {
        for build_num in 1..=BUILDS {
            let name = format!("drops/{}.json", staged_key(group, build_num));
            let drop = record(&aws, &name).unwrap();
            let status = drop["status"].as_str().unwrap().to_owned();
            *statuses.entry(status).or_default() += 1;
        }
    }
    println!(
        "{DROPS} drops over {GROUPS} groups, each told twice, {CONCURRENCY} invocations at once: {:.1} s, \
         {per_drop:.1} requests per drop (deploy {}, record {}), {contention} writes lost to somebody faster, \
         {throttled} requests throttled, statuses {statuses:?}",
        elapsed.as_secs_f64(),
        of("deploy"),
        of("record"),
    );
    let mut operations: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for request in &requests {
        *operations
            .entry((&request.label, &request.operation))
            .or_default() += 1;
    }
    println!("{operations:?}");

    assert_eq!(functions.deploy.dead_letters(), []);
    assert_eq!(functions.record.dead_letters(), []);
    assert_eq!(
        statuses.keys().collect::<Vec<_>>(),
        ["succeeded", "superseded"]
    );
    assert_eq!(statuses.values().sum::<usize>(), DROPS);
    let mut tokens: HashMap<String, String> = HashMap::new();
    let mut last: HashMap<String, u32> = HashMap::new();
    for id in aws.codedeploy().deployments() {
        let (application, build_num, token) = told(&aws, &id);
        if let Some(other) = tokens.insert(token, id.clone()) {
            panic!("{application}: build {build_num} was deployed twice, by {other} and {id}");
        }
        let before = last.insert(application.clone(), build_num).unwrap_or(0);
        assert!(
            before < build_num,
            "{application}: build {build_num} landed over {before}"
        );
    }
    assert_eq!(tokens.len(), statuses["succeeded"]);
    for group in 0..GROUPS {
        let name = project(group);
        assert_eq!(last[&name], BUILDS, "{name}: the newest build is live");
        let group = record(&aws, &format!("groups/{name}/production.json")).unwrap();
        assert_eq!(
            group["live"]["build"]["build_num"],
            json!(BUILDS.to_string())
        );
        assert_eq!(group["waiting"], json!([]));
    }
    assert!(throttled > DROPS / 50, "the throttling did not take place");
    assert!(contention as f64 <= CONTENTION_PER_DROP_MAX * DROPS as f64);
    assert!(per_drop <= REQUESTS_PER_DROP_MAX);
    // A mark that its closer's answer was lost of is the schedule's.
    aws.router().tick();
    aws.quiet().await;
    assert_eq!(open_markers(&aws), Vec::<String>::new());
    aws.shutdown().await;
}
