//! Whatever goes wrong at whichever request of either function, a drop becomes one recorded deployment.
//!
//! Each scenario runs once unharmed, which tells the requests that it makes; then once for each of these
//! requests and each [`Harm`]. After the harm nothing helps but what AWS itself does: Lambda's retries of the
//! same event, and one tick of the schedule where a marker was left behind.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::{Cursor, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stagedrop::local::codedeploy::{Diagnostics, LimitWording, Status, TargetFailure};
use stagedrop::local::events::RoutedEvent;
use stagedrop::local::faults::{Fault, Match, Moment, Nth, RequestLog, Then};
use stagedrop::local::s3::Attributes;
use stagedrop::local::{Functions, LocalAws, Options};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::support::{
    APPSPEC, ARTIFACTS, COMMIT, REVISIONS, SETTINGS, add_project, application, bundle, by_hand,
    foreign_deployment, open_markers, record, run_functions, start_aws,
};

/// Attempts that the SDK makes of one request.
const ATTEMPTS: u64 = 4;
/// Longer than any case may take, with two waits for a lease in it.
const CASE_TIME_MAX: Duration = Duration::from_secs(90);

/// Held by tests that take the whole machine for a while.
pub static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// What a case plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scenario {
    /// A small zip is deployed.
    Deployed,
    /// Its deployment fails in a hook.
    Failed,
    /// Somebody else's deployment is active first.
    Busy,
    /// The same, and a newer build comes while the first one waits.
    Overtaken,
    /// The deployment ends before its creator hears that it began.
    Unheard,
    /// No event tells that the deployment ended; the schedule finds out.
    Untold,
    /// The revision is put together by a multipart upload.
    Large,
    /// There is no AppSpec.
    Rejected,
}

/// What goes wrong at one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Harm {
    KilledBefore,
    KilledAfter,
    AnswerLost,
    Throttled,
    /// So often that the SDK gives up and the event goes back to Lambda.
    ThrottledThroughout,
}

impl Harm {
    const EACH: [Self; 4] = [
        Self::KilledBefore,
        Self::KilledAfter,
        Self::AnswerLost,
        Self::Throttled,
    ];

    fn kills(self) -> bool {
        matches!(self, Self::KilledBefore | Self::KilledAfter)
    }
}

/// One request of one scenario, harmed in one way.
#[derive(Debug, Clone)]
struct Case {
    scenario: Scenario,
    request: RequestLog,
    /// Its number, from 1, among the function's requests like it: what is asked side by side comes in any order.
    place: u64,
    harm: Harm,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RequestLog {
            label,
            operation,
            path,
            ..
        } = &self.request;
        write!(
            f,
            "{:?}: {:?} at {operation} {} of {label} ({path})",
            self.scenario, self.harm, self.place
        )
    }
}

/// The first two segments of a path: what is below them has other names in each play.
fn folder(path: &str) -> &str {
    let end = path.match_indices('/').nth(2);
    end.and_then(|(end, _)| path.get(..=end)).unwrap_or(path)
}

fn is_alike(one: &RequestLog, other: &RequestLog) -> bool {
    one.label == other.label
        && one.operation == other.operation
        && folder(&one.path) == folder(&other.path)
}

impl Case {
    fn may_wait_for_a_lease(&self) -> bool {
        self.request.operation == "CreateDeployment" || self.request.path.contains("/groups/")
    }

    fn may_leave_an_upload(&self) -> bool {
        let began = self.request.operation == "CreateMultipartUpload";
        self.harm.kills() || (began && self.harm == Harm::AnswerLost)
    }
}

/// What a walk came to.
#[derive(Default)]
struct Tally {
    walked: BTreeMap<(Scenario, Harm), usize>,
    /// Cases that needed a tick of the schedule to take a marker away.
    ticked: usize,
    faults: Vec<String>,
}

/// An AWS with both functions, in which one case is played after the other, each with its own application.
struct Stage {
    aws: LocalAws,
    functions: Functions,
    plays: usize,
}

/// One application of a stage, and what was dropped and deployed there.
struct Play<'a> {
    stage: &'a Stage,
    scenario: Scenario,
    name: String,
    foreign: Option<String>,
    events_before: usize,
    uploads_before: usize,
}

impl Stage {
    async fn start(limit_wording: LimitWording) -> Self {
        let aws = start_aws(Options {
            limit_wording,
            ..by_hand()
        })
        .await;
        // One process each: the requests of a scenario are the same each time.
        let delays = vec![Duration::from_millis(20); 2];
        let functions = run_functions(&aws, [1, 1], delays, &[]).await;
        Self {
            aws,
            functions,
            plays: 0,
        }
    }

    /// The requests that a scenario makes when nothing goes wrong, which must end well.
    async fn requests_of(&mut self, scenario: Scenario) -> Vec<RequestLog> {
        let faults = self.play(scenario, None).await.1;
        assert_eq!(faults, Vec::<String>::new(), "{scenario:?}, unharmed");
        self.aws
            .faults()
            .log()
            .into_iter()
            .filter(|request| ["deploy", "record"].contains(&request.label.as_str()))
            .collect()
    }

    /// Plays one case; tells whether a tick was needed, and what is not as promised.
    async fn play(&mut self, scenario: Scenario, case: Option<&Case>) -> (bool, Vec<String>) {
        self.plays += 1;
        let play = Play {
            stage: self,
            scenario,
            name: format!("app{}", self.plays),
            foreign: None,
            events_before: self.aws.router().log().len(),
            uploads_before: self.aws.store().uploads_in_progress(REVISIONS).unwrap(),
        };
        let faults = self.aws.faults();
        faults.clear();
        add_project(&self.aws, &play.name, SETTINGS);
        faults.clear_log();
        if let Some(case) = case {
            self.plan(case);
        }
        let played = tokio::time::timeout(CASE_TIME_MAX, play.run(case)).await;
        let (ticked, mut found) = played.unwrap_or_else(|_| (false, vec!["it hangs".to_owned()]));
        if let Some(case) = case {
            let log = faults.log();
            let mut harmed = log
                .iter()
                .filter(|request| is_alike(request, &case.request));
            match harmed.nth(case.place as usize - 1) {
                Some(harmed) if harmed.fault.is_some() => {}
                other => found.push(format!("it was not harmed: {other:?}")),
            }
        }
        for marker in open_markers(&self.aws) {
            let deleted = self.aws.store().delete(ARTIFACTS, &marker, None, None);
            deleted.unwrap();
        }
        (ticked, found)
    }

    /// Plans the harm of a case.
    fn plan(&self, case: &Case) {
        let RequestLog {
            label,
            operation,
            path,
            service,
            ..
        } = &case.request;
        let at = |n| {
            let asked = Match::any().label(label).operation(operation);
            asked.path_with(folder(path)).nth(Nth::Number(n))
        };
        let function = match label.as_str() {
            "deploy" => self.functions.deploy.clone(),
            _ => self.functions.record.clone(),
        };
        let kill = |moment| {
            Fault::call(moment, move |_| {
                let function = function.clone();
                async move {
                    function.kill_busy().await;
                    Then::Drop
                }
            })
        };
        let faults = self.aws.faults();
        match case.harm {
            Harm::KilledBefore => faults.on(at(case.place), kill(Moment::Before)),
            Harm::KilledAfter => faults.on(at(case.place), kill(Moment::After)),
            Harm::AnswerLost => faults.on(at(case.place), Fault::LoseAnswer),
            Harm::Throttled => faults.on(at(case.place), Fault::throttle(*service)),
            Harm::ThrottledThroughout => {
                for attempt in 0..ATTEMPTS {
                    faults.on(at(case.place + attempt), Fault::throttle(*service));
                }
            }
        }
    }
}

impl Play<'_> {
    async fn run(mut self, case: Option<&Case>) -> (bool, Vec<String>) {
        if let Err(fault) = self.act().await {
            return (false, vec![fault]);
        }
        let mut found = self.check(case);
        let ticked = !self.open().is_empty();
        if ticked {
            self.stage.aws.router().tick();
            self.stage.aws.quiet().await;
            found.extend(self.check(case));
        }
        if !self.open().is_empty() {
            found.push(format!("left open: {:?}", self.open()));
        }
        // What is over stays over, whoever tells of it again.
        let requests = self.stage.aws.faults().log();
        let events = self.stage.aws.router().log();
        if case.is_some_and(|case| case.harm == Harm::AnswerLost) {
            for event in events.into_iter().skip(self.events_before) {
                self.stage.aws.router().deliver(event);
            }
            self.stage.aws.quiet().await;
            found.extend(
                self.check(case)
                    .iter()
                    .map(|fault| format!("told again: {fault}")),
            );
        }
        if !found.is_empty() && std::env::var_os("SHOW_LOGS").is_some() {
            for request in requests {
                eprintln!("{request:?}");
            }
        }
        (ticked, found)
    }

    async fn act(&mut self) -> Result<(), String> {
        let aws = &self.stage.aws;
        match self.scenario {
            Scenario::Deployed | Scenario::Failed => {
                self.drop_build(1, application(1)).await;
                let id = self.deployment(1)?;
                self.end(&id).await;
            }
            Scenario::Large => {
                self.drop_build(1, large_application()).await;
                let id = self.deployment(1)?;
                self.end(&id).await;
            }
            Scenario::Rejected => {
                let body = bundle(&[("index.html", "no AppSpec\n")]);
                self.drop_build(1, body).await;
            }
            Scenario::Busy | Scenario::Overtaken => {
                let foreign = foreign_deployment(aws, &self.name);
                self.foreign = Some(foreign.clone());
                self.drop_build(1, application(1)).await;
                if self.scenario == Scenario::Overtaken {
                    self.drop_build(2, application(2)).await;
                }
                self.end(&foreign).await;
                let id = self.deployment(self.newest())?;
                self.end(&id).await;
            }
            Scenario::Untold => {
                self.drop_build(1, application(1)).await;
                let id = self.deployment(1)?;
                aws.router().lose(Some(Arc::new(|event: &RoutedEvent| {
                    event.detail("state").is_some()
                })));
                self.end(&id).await;
                aws.router().lose(None);
                aws.router().tick();
                aws.quiet().await;
            }
            Scenario::Unheard => {
                self.end_before_the_answer();
                self.drop_build(1, application(1)).await;
                // Where the creator died too early, nobody has ended it yet.
                let id = self.deployment(1)?;
                if aws.codedeploy().active(&self.name, "production").is_some() {
                    self.end(&id).await;
                }
            }
        }
        Ok(())
    }

    /// Holds the answer of `CreateDeployment` until the deployment has ended and that is recorded.
    fn end_before_the_answer(&self) {
        let codedeploy = self.stage.aws.codedeploy().clone();
        let record = self.stage.functions.record.clone();
        let name = self.name.clone();
        let ending = Fault::call(Moment::After, move |_| {
            let (codedeploy, record, name) = (codedeploy.clone(), record.clone(), name.clone());
            async move {
                if let Some(id) = codedeploy.active(&name, "production") {
                    for status in [Status::InProgress, Status::Succeeded] {
                        codedeploy.advance(&id, status, None).unwrap();
                        record.idle().await;
                    }
                }
                Then::Proceed
            }
        });
        let creation = Match::any().label("deploy").operation("CreateDeployment");
        self.stage.aws.faults().on(creation, ending);
    }

    fn put(&self, key: &str, body: impl Into<Vec<u8>>) {
        self.stage
            .aws
            .store()
            .put(ARTIFACTS, key, body.into(), Attributes::default())
            .unwrap();
    }

    fn staged_key(&self, build_num: u32) -> String {
        format!("staging/{}/master/{build_num}-{COMMIT}.zip", self.name)
    }

    async fn drop_build(&self, build_num: u32, body: Vec<u8>) {
        self.put(&self.staged_key(build_num), body);
        self.stage.aws.quiet().await;
    }

    /// Ends a deployment as the scenario has it, and lets that be recorded.
    async fn end(&self, id: &str) {
        let aws = &self.stage.aws;
        let ours = self.foreign.as_deref() != Some(id);
        let (end, failure) = if ours && self.scenario == Scenario::Failed {
            let failure = TargetFailure {
                lifecycle_event: "AfterInstall".to_owned(),
                diagnostics: Diagnostics {
                    error_code: "ScriptFailed".to_owned(),
                    script_name: "scripts/after.sh".to_owned(),
                    message: "Script failed with exit code 3".to_owned(),
                    log_tail: "no such column".to_owned(),
                },
            };
            (Status::Failed, Some(failure))
        } else {
            (Status::Succeeded, None)
        };
        for (status, failure) in [(Status::InProgress, None), (end, failure)] {
            aws.codedeploy().advance(id, status, failure).unwrap();
            aws.quiet().await;
        }
    }

    /// The deployment of a build, of which there must be exactly one, and none of any other build.
    fn deployment(&self, build_num: u32) -> Result<String, String> {
        let call = |operation: &str, input: Value| {
            let codedeploy = self.stage.aws.codedeploy();
            codedeploy.call(operation, &input).unwrap()
        };
        let listed = call(
            "ListDeployments",
            json!({ "applicationName": self.name, "deploymentGroupName": "production" }),
        );
        let ours: Vec<(String, String)> = listed["deployments"]
            .as_array()
            .unwrap()
            .iter()
            .map(|id| {
                let told = call("GetDeployment", json!({ "deploymentId": id }));
                let description = told["deploymentInfo"]["description"].as_str();
                (
                    id.as_str().unwrap().to_owned(),
                    description.unwrap_or_default().to_owned(),
                )
            })
            .filter(|(_, description)| description.contains("[sd-"))
            .collect();
        match ours.as_slice() {
            [(id, description)] if description.starts_with(&format!("build {build_num},")) => {
                Ok(id.clone())
            }
            others => Err(format!(
                "expected one deployment, of build {build_num}, found {others:?}; drop: {:#}",
                self.record(&format!("drops/{}.json", self.staged_key(build_num)))
            )),
        }
    }

    /// The build that is to be live in the end.
    fn newest(&self) -> u32 {
        if self.scenario == Scenario::Overtaken {
            2
        } else {
            1
        }
    }

    fn record(&self, name: &str) -> Value {
        record(&self.stage.aws, name).unwrap_or_default()
    }

    fn open(&self) -> Vec<String> {
        open_markers(&self.stage.aws)
    }

    /// What is not as promised, but for markers.
    fn check(&self, case: Option<&Case>) -> Vec<String> {
        let mut found = Vec::new();
        let mut expect = |what: &str, is: Value, expected: Value| {
            if is != expected {
                found.push(format!("{what} is {is:#}, expected {expected:#}"));
            }
        };
        let newest = self.newest();
        let drop = self.record(&format!("drops/{}.json", self.staged_key(newest)));
        let status = match self.scenario {
            Scenario::Failed => "failed",
            Scenario::Rejected => "rejected",
            _ => "succeeded",
        };
        expect("the drop's status", drop["status"].clone(), json!(status));
        let group = self.record(
            "groups/{}/production.json"
                .replace("{}", &self.name)
                .as_str(),
        );
        if self.scenario == Scenario::Rejected {
            expect(
                "the finding",
                drop["findings"][0]["code"].clone(),
                json!("appspec-missing"),
            );
            expect("the group", group, Value::Null);
        } else {
            match self.deployment(newest) {
                Err(fault) => expect("the deployment", json!(fault), Value::Null),
                Ok(id) => self.check_deployment(&id, &drop, &group, &mut expect),
            }
            expect("who runs", group["running"].clone(), Value::Null);
            expect("who waits", group["waiting"].clone(), json!([]));
            expect(
                "what is untold",
                group["announcements"].clone(),
                Value::Null,
            );
            let key = format!("apps/{}-master-3f2c1a9-{newest}", self.name);
            let versions = self.stage.aws.store().versions(REVISIONS, &key);
            expect(
                "versions of the revision",
                json!(versions.map(|found| found.len()).unwrap_or_default()),
                json!(1),
            );
        }
        if self.scenario == Scenario::Overtaken {
            let older = self.record(&format!("drops/{}.json", self.staged_key(1)));
            expect(
                "the older drop's status",
                older["status"].clone(),
                json!("superseded"),
            );
            expect(
                "who overtook it",
                older["deployments"][0]["superseded_by"]["build_num"].clone(),
                json!("2"),
            );
        }
        if let Some(foreign) = &self.foreign {
            let record = self.record(&format!("deployments/{foreign}.json"));
            expect(
                "the foreign deployment",
                record["status"].clone(),
                json!("Succeeded"),
            );
        }
        for function in [&self.stage.functions.deploy, &self.stage.functions.record] {
            for letter in function.take_dead_letters() {
                expect(
                    "a dead letter",
                    json!(letter.error.to_string()),
                    Value::Null,
                );
            }
        }
        // Nobody is left to abort the upload of a dead process, and nobody knows the id of an upload whose
        // answer was lost; the bucket's lifecycle rule aborts these.
        let uploads = self
            .stage
            .aws
            .store()
            .uploads_in_progress(REVISIONS)
            .unwrap();
        if !case.is_some_and(Case::may_leave_an_upload) {
            expect(
                "uploads in progress",
                json!(uploads),
                json!(self.uploads_before),
            );
        }
        found
    }

    fn check_deployment(
        &self,
        id: &str,
        drop: &Value,
        group: &Value,
        expect: &mut impl FnMut(&str, Value, Value),
    ) {
        let target = &drop["deployments"][0];
        expect(
            "the drop's deployment",
            target["deployment_id"].clone(),
            json!(id),
        );
        let record = self.record(&format!("deployments/{id}.json"));
        let failed = self.scenario == Scenario::Failed;
        let end = if failed { "Failed" } else { "Succeeded" };
        expect(
            "the deployment's status",
            record["status"].clone(),
            json!(end),
        );
        expect(
            "the deployment's build",
            record["build"]["build_num"].clone(),
            json!(self.newest().to_string()),
        );
        expect(
            "the deployment's drop",
            record["drop"]["drop_id"].clone(),
            drop["drop_id"].clone(),
        );
        if failed {
            for (whose, failures) in [
                ("drop", &target["failures"]),
                ("deployment", &record["failures"]),
            ] {
                let first = &failures[0];
                expect(
                    &format!("the {whose}'s failure"),
                    json!([
                        first["lifecycle_event"],
                        first["script"],
                        first["error_code"],
                        first["log_tail"]
                    ]),
                    json!([
                        "AfterInstall",
                        "scripts/after.sh",
                        "ScriptFailed",
                        "no such column"
                    ]),
                );
            }
            expect("what is live", group["live"].clone(), Value::Null);
        } else {
            expect(
                "what is live",
                group["live"]["deployment_id"].clone(),
                json!(id),
            );
        }
        let outcomes = group["outcomes"].as_array().map_or(0, |outcomes| {
            outcomes
                .iter()
                .filter(|outcome| outcome["deployment_id"] == id)
                .count()
        });
        expect("times that the end is counted", json!(outcomes), json!(1));
    }
}

/// A zip whose revision is too large for one request: a part is copied, a part is sent.
pub fn large_application() -> Vec<u8> {
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in [
        ("appspec.yml", APPSPEC.as_bytes()),
        (".git/HEAD", b"left out"),
        ("data.bin", &vec![b'x'; 9 << 20]),
        ("scripts/after.sh", b"#!/bin/sh\necho hello\n"),
    ] {
        zip.start_file(name, stored.unix_permissions(0o755))
            .unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// All harms at all requests of some scenarios that `wanted` names.
struct Walk {
    what: &'static str,
    scenarios: &'static [Scenario],
    harms: &'static [Harm],
    limit_wording: LimitWording,
    wanted: fn(&RequestLog) -> bool,
    /// Cases that are played at the same time, each in an AWS of its own.
    stages: usize,
}

impl Walk {
    /// Its cases, by what the scenarios request when nothing goes wrong.
    async fn cases(&self) -> VecDeque<Case> {
        let mut stage = Stage::start(self.limit_wording).await;
        let mut cases = Vec::new();
        for scenario in self.scenarios.iter().copied() {
            let requests = stage.requests_of(scenario).await;
            let made = requests.len();
            if std::env::var_os("SHOW_REQUESTS").is_some() {
                for request in &requests {
                    let RequestLog {
                        label,
                        operation,
                        path,
                        query,
                        status,
                        ..
                    } = request;
                    eprintln!("{scenario:?} {label} {operation} {path}?{query} {status:?}");
                }
            }
            let mut walked = 0;
            for (i, request) in requests.iter().enumerate() {
                if !(self.wanted)(request) {
                    continue;
                }
                let before = requests.iter().take(i);
                let place = 1 + before.filter(|before| is_alike(before, request)).count() as u64;
                cases.extend(self.harms.iter().map(|harm| Case {
                    scenario,
                    request: request.clone(),
                    place,
                    harm: *harm,
                }));
                walked += 1;
            }
            assert!(walked > 0);
            println!(
                "{}: {walked} of the {made} requests of {scenario:?}",
                self.what
            );
        }
        stage.aws.shutdown().await;
        // Those that may have to wait for a lease first, so that the others fill that time.
        cases.sort_by_key(|case| !case.may_wait_for_a_lease());
        cases.into()
    }

    /// Plays all cases, a few at a time; every one of them must end as promised.
    async fn walk(&self) -> usize {
        let started = Instant::now();
        let cases = self.cases().await;
        let expected = cases.len();
        let cases = Arc::new(Mutex::new(cases));
        let tally = Arc::new(Mutex::new(Tally::default()));
        let mut players = tokio::task::JoinSet::new();
        for _ in 0..self.stages {
            let (cases, tally) = (Arc::clone(&cases), Arc::clone(&tally));
            let limit_wording = self.limit_wording;
            players.spawn(async move {
                let mut stage = Stage::start(limit_wording).await;
                loop {
                    let Some(case) = cases.lock().unwrap().pop_front() else {
                        break;
                    };
                    let started = Instant::now();
                    let (ticked, found) = stage.play(case.scenario, Some(&case)).await;
                    if std::env::var_os("SHOW_CASES").is_some() {
                        let time = started.elapsed().as_millis();
                        eprintln!("{time:6} ms {case}, ticked: {ticked}, faults: {found:#?}");
                    }
                    let mut tally = tally.lock().unwrap();
                    *tally.walked.entry((case.scenario, case.harm)).or_default() += 1;
                    tally.ticked += usize::from(ticked);
                    tally
                        .faults
                        .extend(found.into_iter().map(|fault| format!("{case}: {fault}")));
                }
                stage.aws.shutdown().await;
            });
        }
        while let Some(player) = players.join_next().await {
            player.unwrap();
        }
        let tally = std::mem::take(&mut *tally.lock().unwrap());
        let walked: usize = tally.walked.values().sum();
        println!(
            "{}: {walked} requests × faults walked in {:.1} s, {} of them needed the schedule",
            self.what,
            started.elapsed().as_secs_f64(),
            tally.ticked
        );
        for ((scenario, harm), count) in &tally.walked {
            println!("  {scenario:?} {harm:?}: {count}");
        }
        assert!(
            tally.faults.is_empty(),
            "{} of {walked} cases do not end as promised:\n{}",
            tally.faults.len(),
            tally.faults.join("\n")
        );
        assert_eq!(walked, expected);
        walked
    }
}

/// Every request of every scenario, with each of the four faults.
const EVERY_REQUEST: Walk = Walk {
    what: "every request",
    scenarios: &[
        Scenario::Deployed,
        Scenario::Failed,
        Scenario::Busy,
        Scenario::Rejected,
        Scenario::Overtaken,
        Scenario::Unheard,
        Scenario::Untold,
        Scenario::Large,
    ],
    harms: &Harm::EACH,
    limit_wording: LimitWording::Current,
    wanted: |_| true,
    stages: 10,
};

/// An event that goes back to Lambda is finished by its retry.
const GIVEN_BACK: Walk = Walk {
    what: "given back",
    scenarios: &[Scenario::Deployed],
    harms: &[Harm::ThrottledThroughout],
    stages: 2,
    ..EVERY_REQUEST
};

/// However the limit is worded, a busy group makes no second deployment.
const OLD_WORDING: Walk = Walk {
    what: "limit worded as it was",
    scenarios: &[Scenario::Deployed, Scenario::Busy, Scenario::Unheard],
    limit_wording: LimitWording::Old,
    wanted: |request| request.operation == "CreateDeployment",
    stages: 2,
    ..EVERY_REQUEST
};

/// The same, where no deployment is named.
const NO_WORDING: Walk = Walk {
    what: "limit without a name",
    limit_wording: LimitWording::Unnamed,
    ..OLD_WORDING
};

#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_wrong_at_any_request_a_drop_is_deployed_once_and_its_outcome_recorded() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let started = Instant::now();
    let walked = tokio::join!(
        EVERY_REQUEST.walk(),
        GIVEN_BACK.walk(),
        OLD_WORDING.walk(),
        NO_WORDING.walk()
    );
    println!(
        "{} requests × faults walked in all, in {:.1} s",
        walked.0 + walked.1 + walked.2 + walked.3,
        started.elapsed().as_secs_f64()
    );
}
