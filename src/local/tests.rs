//! The whole: a staged object comes in, a foreign process hears of it, a deployment runs, its end
//! is heard. The functions are shell-free processes: this test binary in the role of one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::codedeploy::Status;
use super::events::RoutedEvent;
use super::faults::{Fault, Match, Moment, Nth, Then};
use super::runtime_api::FunctionEvent;
use super::s3::Attributes;
use super::*;

const ROLE: &str = "STAGEDROP_TEST_PROCESS";

/// Sends one request and reads its answer: status line with headers, and body.
fn exchange(address: &str, head: &str, body: &str) -> std::io::Result<(String, String)> {
    let mut stream = TcpStream::connect(address)?;
    let length = body.len();
    write!(
        stream,
        "{head}Host: {address}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while reader.read_line(&mut head)? > 2 {}
    let mut body = String::new();
    reader.read_to_string(&mut body)?;
    Ok((head, body))
}

/// Calls CodeDeploy at an endpoint; the answer's JSON, an error's too.
fn codedeploy(endpoint: &str, operation: &str, input: &Value) -> std::io::Result<Value> {
    let address = endpoint.strip_prefix("http://").unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nX-Amz-Target: CodeDeploy_20141006.{operation}\r\nAuthorization: AWS4-HMAC-SHA256 x\r\n"
    );
    let (head, body) = exchange(address, &head, &input.to_string())?;
    if head.is_empty() {
        return Err(std::io::ErrorKind::ConnectionReset.into());
    }
    Ok(serde_json::from_str(&body).unwrap_or_default())
}

/// Not a test: the `deploy` function of the tests, which deploys the staged object as it is.
#[test]
fn deploy_process() {
    if std::env::var(ROLE).is_err() {
        return;
    }
    let api = std::env::var("AWS_LAMBDA_RUNTIME_API").unwrap();
    let endpoint = std::env::var("AWS_ENDPOINT_URL_CODEDEPLOY").unwrap();
    loop {
        let (head, event) = exchange(
            &api,
            "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n",
            "",
        )
        .unwrap();
        let id = head
            .lines()
            .find_map(|line| line.strip_prefix("lambda-runtime-aws-request-id: "))
            .unwrap()
            .to_owned();
        let event: Value = serde_json::from_str(&event).unwrap();
        let mut verb = "response";
        let mut answer = json!({});
        if event["detail-type"] == "Object Created" {
            let object = &event["detail"]["object"];
            let input = json!({
                "applicationName": "app",
                "deploymentGroupName": "group",
                "revision": { "revisionType": "S3", "s3Location": {
                    "bucket": event["detail"]["bucket"]["name"],
                    "key": object["key"],
                    "eTag": object["etag"],
                    "version": object["version-id"],
                    "bundleType": "zip",
                } },
            });
            answer = codedeploy(&endpoint, "CreateDeployment", &input)
                .unwrap_or_else(|error| json!({ "__type": error.to_string() }));
            if let Some(code) = answer.get("__type") {
                verb = "error";
                answer = json!({ "errorType": code, "errorMessage": answer["message"] });
            }
        }
        let head = format!("POST /2018-06-01/runtime/invocation/{id}/{verb} HTTP/1.1\r\n");
        exchange(&api, &head, &answer.to_string()).unwrap();
    }
}

fn spec(name: &str) -> FunctionSpec {
    let mut spec = FunctionSpec::new(name, std::env::current_exe().unwrap());
    spec.args = ["--exact", "local::tests::deploy_process", "--nocapture"]
        .map(Into::into)
        .to_vec();
    spec.env.insert(ROLE.to_owned(), "1".to_owned());
    spec.retry_delays = vec![Duration::from_millis(20); 2];
    spec
}

async fn start(options: Options) -> LocalAws {
    let aws = LocalAws::start(options).await.unwrap();
    aws.create_bucket("bucket", true).unwrap();
    aws.create_application("app", Platform::Server).unwrap();
    aws.create_deployment_group("app", "group").unwrap();
    aws.router().watch_staging("bucket", "staging/");
    aws
}

fn bundle(script: &str) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().unix_permissions(0o755);
    let appspec = "version: 0.0\nos: linux\nfiles:\n  - source: /\n    destination: /srv\nhooks:\n  AfterInstall:\n    - location: x.sh\n";
    for (name, content) in [("appspec.yml", appspec), ("x.sh", script)] {
        writer.start_file(name, options).unwrap();
        writer.write_all(content.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn put(aws: &LocalAws, key: &str, script: &str) {
    aws.store()
        .put("bucket", key, bundle(script), Attributes::default())
        .unwrap();
}

fn states(aws: &LocalAws) -> Vec<String> {
    let log = aws.router().log();
    log.iter()
        .filter_map(|event| event.detail("state").map(str::to_owned))
        .collect()
}

#[tokio::test]
async fn ok_from_a_staged_object_to_a_recorded_outcome() {
    let aws = start(Options {
        run_hooks: true,
        ..Options::default()
    })
    .await;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hearing = Arc::clone(&heard);
    let observer: Observer = Arc::new(move |function: &str, event| {
        if let FunctionEvent::Attempted { result: Ok(_), .. } = event {
            hearing.lock().unwrap().push(function.to_owned());
        }
    });
    let functions = aws
        .run_functions(spec("deploy"), spec("record"), Some(observer))
        .await
        .unwrap();
    put(&aws, "staging/1.zip", "#!/bin/sh\nexit 0\n");
    aws.settled().await;
    put(&aws, "staging/2.zip", "#!/bin/sh\nexit 1\n");
    put(&aws, "elsewhere/3.zip", "#!/bin/sh\n");
    aws.settled().await;
    assert_eq!(states(&aws), ["START", "SUCCESS", "START", "FAILURE"]);
    assert!(aws.instance_root("app", "group").join("srv/x.sh").is_file());
    let mut heard = heard.lock().unwrap().clone();
    heard.sort();
    assert_eq!(
        heard,
        ["deploy", "deploy", "record", "record", "record", "record"]
    );
    assert!(functions.deploy.dead_letters().is_empty());
    // Each function is told apart in the log by the addresses that it alone was given.
    let log = aws.faults().log();
    let created = log
        .iter()
        .filter(|entry| entry.operation == "CreateDeployment");
    assert!(
        created
            .clone()
            .all(|entry| entry.label == "deploy" && entry.service == Service::CodeDeploy)
    );
    assert_eq!(created.count(), 2);
    aws.shutdown().await;
}

#[tokio::test]
async fn ok_a_function_killed_at_a_request_is_started_again_and_its_event_retried() {
    let aws = start(Options::default()).await;
    let functions = aws
        .run_functions(spec("deploy"), spec("record"), None)
        .await
        .unwrap();
    let killed = Arc::new(AtomicUsize::new(0));
    let (deploy, count) = (functions.deploy.clone(), Arc::clone(&killed));
    aws.faults().on(
        Match::any()
            .operation("CreateDeployment")
            .nth(Nth::Number(1)),
        Fault::call(Moment::Before, move |_| {
            let (deploy, count) = (deploy.clone(), Arc::clone(&count));
            async move {
                count.fetch_add(deploy.kill_busy().await, Ordering::Relaxed);
                Then::Drop
            }
        }),
    );
    put(&aws, "staging/1.zip", "");
    aws.settled().await;
    assert_eq!(
        (
            killed.load(Ordering::Relaxed),
            aws.codedeploy().deployments().len()
        ),
        (1, 1)
    );
    // The answer is lost: the deployment is there, and the retry runs into it or makes another.
    aws.codedeploy().set_progress(Progress::Manual);
    aws.faults().on(
        Match::any()
            .operation("CreateDeployment")
            .nth(Nth::Number(1)),
        Fault::LoseAnswer,
    );
    put(&aws, "staging/2.zip", "");
    aws.quiet().await;
    let letters = functions.deploy.dead_letters();
    assert_eq!(aws.codedeploy().deployments().len(), 2);
    assert_eq!(
        letters[0].error.error_type,
        "DeploymentLimitExceededException"
    );
    assert!(
        letters[0]
            .error
            .message
            .contains(&aws.codedeploy().deployments()[1])
    );
    aws.shutdown().await;
}

#[tokio::test]
async fn ok_one_port_serves_both_and_the_environment_leads_there() {
    let aws = start(Options {
        progress: Progress::Manual,
        ..Options::default()
    })
    .await;
    let environment = aws.environment();
    let endpoint = environment["AWS_ENDPOINT_URL_CODEDEPLOY"].clone();
    assert_eq!(
        (&endpoint, &aws.endpoint()),
        (&environment["AWS_ENDPOINT_URL_S3"], &endpoint)
    );
    let (listed, told, refused) = tokio::task::spawn_blocking(move || {
        let address = endpoint.strip_prefix("http://").unwrap();
        let (_, listed) = exchange(address, "GET /bucket?list-type=2 HTTP/1.1\r\n", "").unwrap();
        let told = codedeploy(&endpoint, "ListApplications", &json!({})).unwrap();
        let head = "POST / HTTP/1.1\r\nX-Amz-Target: CodeDeploy_20141006.ListApplications\r\n";
        let (head, refused) = exchange(address, head, "{}").unwrap();
        assert!(head.starts_with("HTTP/1.1 400"), "{head}");
        (listed, told, refused)
    })
    .await
    .unwrap();
    assert!(listed.contains("<Name>bucket</Name>"), "{listed}");
    assert_eq!(told, json!({ "applications": ["app"] }));
    assert!(
        refused.contains("\"__type\":\"MissingAuthenticationTokenException\""),
        "{refused}"
    );
    let log = aws.faults().log();
    let services: Vec<Service> = log.iter().map(|request| request.service).collect();
    assert_eq!(
        services,
        [Service::S3, Service::CodeDeploy, Service::CodeDeploy]
    );
    // A fault speaks the protocol of the service that it befalls.
    for service in [Service::S3, Service::CodeDeploy] {
        let which = Match::any().service(service).nth(Nth::First(1));
        aws.faults().on(which, Fault::throttle(service));
    }
    let endpoint = aws.endpoint();
    let (slow, throttled) = tokio::task::spawn_blocking(move || {
        let address = endpoint.strip_prefix("http://").unwrap();
        let (_, slow) = exchange(address, "GET /bucket?list-type=2 HTTP/1.1\r\n", "").unwrap();
        let throttled = codedeploy(&endpoint, "ListApplications", &json!({})).unwrap();
        (slow, throttled)
    })
    .await
    .unwrap();
    assert!(slow.contains("<Code>SlowDown</Code>"), "{slow}");
    assert_eq!(throttled["__type"], "ThrottlingException", "{throttled}");
    aws.shutdown().await;
}

#[tokio::test]
async fn ok_one_bad_instance_is_borne_where_the_configuration_bears_it() {
    let aws = start(Options {
        run_hooks: true,
        instances: 3,
        ..Options::default()
    })
    .await;
    let bad = |number| {
        let id = identity::instance_id("app", "group", number);
        format!("#!/bin/sh\ncase \"$STAGEDROP_INSTANCE_ROOT\" in */{id}) exit 1;; esac\n")
    };
    let deploy = async |script: String, config: &str| {
        put(&aws, "elsewhere/1.zip", &script);
        let input = json!({
            "applicationName": "app", "deploymentGroupName": "group", "deploymentConfigName": config,
            "revision": { "revisionType": "S3", "s3Location": { "bucket": "bucket", "key": "elsewhere/1.zip", "bundleType": "zip" } },
        });
        let answer = aws.codedeploy().call("CreateDeployment", &input).unwrap();
        let id = answer["deploymentId"].as_str().unwrap();
        let status = aws.codedeploy().ended(id).await.unwrap();
        let told = aws
            .codedeploy()
            .call("GetDeployment", &json!({ "deploymentId": id }))
            .unwrap();
        let overview = &told["deploymentInfo"]["deploymentOverview"];
        let count = |name: &str| overview[name].as_u64().unwrap();
        (
            status,
            count("Succeeded"),
            count("Failed"),
            count("Skipped"),
        )
    };
    let one = "CodeDeployDefault.OneAtATime";
    assert_eq!(deploy(bad(0), one).await, (Status::Failed, 0, 1, 2));
    assert_eq!(deploy(bad(2), one).await, (Status::Succeeded, 2, 1, 0));
    assert_eq!(
        deploy(bad(0), "CodeDeployDefault.AllAtOnce").await,
        (Status::Succeeded, 2, 1, 0)
    );
    let id = identity::instance_id("app", "group", 1);
    assert!(
        aws.instance_root("app", "group")
            .join(id)
            .join("srv/x.sh")
            .is_file()
    );
    aws.shutdown().await;
}

#[tokio::test]
async fn ok_events_can_be_collected_and_handed_out_again() {
    let delivery = Delivery {
        manual: true,
        ..Delivery::default()
    };
    let aws = start(Options {
        delivery,
        ..Options::default()
    })
    .await;
    let functions = aws
        .run_functions(spec("deploy"), spec("record"), None)
        .await
        .unwrap();
    put(&aws, "staging/1.zip", "");
    aws.settled().await;
    assert!(aws.codedeploy().deployments().is_empty());
    let events: Vec<RoutedEvent> = aws.router().take();
    for event in [&events[0], &events[0]] {
        aws.router().deliver(event.clone());
        aws.quiet().await;
        aws.codedeploy().idle().await;
    }
    assert_eq!(aws.codedeploy().deployments().len(), 2);
    assert_eq!(functions.record.unsettled(), 0);
    let told = aws.router().take();
    assert_eq!(
        told.iter()
            .filter(|event| event.detail("state") == Some("SUCCESS"))
            .count(),
        2
    );
    aws.shutdown().await;
}

#[tokio::test]
async fn err_a_port_that_is_taken() {
    let first = LocalAws::start(Options::default()).await.unwrap();
    let port = first
        .endpoint()
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let error = LocalAws::start(Options {
        port,
        ..Options::default()
    })
    .await
    .err()
    .unwrap();
    assert_eq!(
        error.to_string(),
        format!("port {port} on 127.0.0.1 cannot be had")
    );
}
