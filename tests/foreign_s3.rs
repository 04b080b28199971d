//! The main path on somebody else's S3, which enforces IAM with exactly the policies that the template grants.
//!
//! `moto_server` checks signatures and identity policies. It is a Python program, which `.ci/run` installs;
//! so these tests run by name alone, with `MOTO_SERVER` set to its path. It is kinder than AWS in places (the
//! source of a copy, tags, 404 without the right to list), which is what `privileges` is for; CodeDeploy and
//! the Lambda Runtime API are the embedded ones.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::error::ProvideErrorMetadata;
use serde_json::{Value, json};
use stagedrop::local::codedeploy::Platform;
use stagedrop::local::runtime_api::FunctionSpec;
use stagedrop::local::{Functions, LocalAws, Options};

use crate::support::{
    ARTIFACTS, Answer, REVISIONS, SETTINGS, application, automatic, environment, granted, http,
    staged_key,
};

/// Somebody else's S3 and IAM, stopped with the test.
struct Moto {
    process: Child,
    endpoint: String,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A user's key.
#[derive(Clone)]
struct Key {
    id: String,
    secret: String,
}

impl Moto {
    async fn start() -> Self {
        let program = std::env::var("MOTO_SERVER").expect("MOTO_SERVER names moto_server");
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let process = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("moto_server starts");
        let moto = Self {
            process,
            endpoint: format!("http://127.0.0.1:{port}"),
        };
        for _ in 0..600 {
            if http("GET", &format!("{}/moto-api/", moto.endpoint), &[], b"")
                .await
                .is_ok()
            {
                return moto;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("moto_server does not answer");
    }

    /// A request of the account's owner, before IAM is switched on.
    async fn own(&self, service: &str, method: &str, path: &str, body: &str) -> Answer {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=owner/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=00"
        );
        // A body that calls itself a form is read as one, also by S3.
        let content_type = match service {
            "iam" => "application/x-www-form-urlencoded",
            _ => "application/octet-stream",
        };
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", content_type),
        ];
        let url = format!("{}{path}", self.endpoint);
        let answer = http(method, &url, &headers, body.as_bytes()).await.unwrap();
        assert!(
            answer.status < 300,
            "{method} {path} {body}: {}",
            answer.head
        );
        answer
    }

    async fn iam(&self, action: &str, members: &[(&str, &str)]) -> String {
        let mut body = format!("Action={action}&Version=2010-05-08");
        for (name, value) in members {
            body += &format!("&{name}=");
            for byte in value.bytes() {
                body += &format!("%{byte:02X}");
            }
        }
        let answer = self.own("iam", "POST", "/", &body).await;
        String::from_utf8(answer.body).unwrap()
    }

    /// A user with this policy.
    async fn user(&self, name: &str, policy: &Value) -> Key {
        self.iam("CreateUser", &[("UserName", name)]).await;
        let document = policy.to_string();
        let members = [
            ("UserName", name),
            ("PolicyName", "least"),
            ("PolicyDocument", document.as_str()),
        ];
        self.iam("PutUserPolicy", &members).await;
        let answer = self.iam("CreateAccessKey", &[("UserName", name)]).await;
        let element = |name: &str| {
            let rest = answer.split(&format!("<{name}>")).nth(1).unwrap();
            rest.split('<').next().unwrap().to_owned()
        };
        Key {
            id: element("AccessKeyId"),
            secret: element("SecretAccessKey"),
        }
    }

    async fn enforce_iam(&self) {
        let url = format!("{}/moto-api/reset-auth", self.endpoint);
        let headers = [("content-type", "text/plain")];
        let answer = http("POST", &url, &headers, b"0").await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.head);
    }

    fn client(&self, key: &Key) -> Client {
        let configuration = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(&self.endpoint)
            .force_path_style(true)
            .http_client(
                aws_smithy_http_client::Builder::new()
                    .tls_provider(aws_smithy_http_client::tls::Provider::Rustls(
                        aws_smithy_http_client::tls::rustls_provider::CryptoMode::Ring,
                    ))
                    .build_https(),
            )
            .credentials_provider(Credentials::new(&key.id, &key.secret, None, None, "test"))
            .build();
        Client::from_conf(configuration)
    }
}

/// Both functions on moto's S3, each with its user's key.
async fn start(moto: &Moto, deploy: &Key, record: &Key) -> (LocalAws, Functions) {
    let aws = LocalAws::start(Options {
        revisions_elsewhere: true,
        ..automatic()
    })
    .await
    .unwrap();
    aws.create_application("shop", Platform::Server).unwrap();
    aws.create_deployment_group("shop", "production").unwrap();
    let spec = |name: &str, program: &str, key: &Key| {
        let mut spec = FunctionSpec::new(name, program);
        spec.timeout = Duration::from_secs(60);
        spec.retry_delays = vec![Duration::from_millis(50); 2];
        spec.env = environment();
        for (name, value) in [
            ("AWS_ENDPOINT_URL_S3", &moto.endpoint),
            ("AWS_ACCESS_KEY_ID", &key.id),
            ("AWS_SECRET_ACCESS_KEY", &key.secret),
        ] {
            spec.env.insert(name.to_owned(), value.clone());
        }
        spec
    };
    let functions = aws
        .run_functions(
            spec("deploy", env!("CARGO_BIN_EXE_deploy"), deploy),
            spec("record", env!("CARGO_BIN_EXE_record"), record),
            None,
        )
        .await
        .unwrap();
    for name in ["deploy", "record"] {
        aws.iam().attach(name, &granted(name, &[])).unwrap();
    }
    (aws, functions)
}

/// Uploads a build as CI does, and gives the event that S3 sends of it.
async fn upload(client: &Client, build_num: u32) -> Value {
    let key = staged_key(build_num);
    let body = application(build_num);
    let size = body.len();
    let put = client
        .put_object()
        .bucket(ARTIFACTS)
        .key(&key)
        .metadata("author", "alice")
        .body(body.into())
        .send()
        .await
        .unwrap();
    let mut event: Value =
        serde_json::from_str(include_str!("../events/eventbridge-object-created.json")).unwrap();
    event["detail"]["bucket"]["name"] = json!(ARTIFACTS);
    event["detail"]["object"] = json!({
        "key": key, "size": size, "etag": put.e_tag().unwrap().trim_matches('"'),
        "version-id": put.version_id().unwrap(), "sequencer": format!("{build_num:016X}"),
    });
    event
}

async fn read(client: &Client, key: &str) -> Result<Value, String> {
    let answer = client.get_object().bucket(ARTIFACTS).key(key).send().await;
    match answer {
        Ok(answer) => {
            let bytes = answer.body.collect().await.unwrap().to_vec();
            Ok(serde_json::from_slice(&bytes).unwrap())
        }
        Err(error) => Err(error.code().unwrap_or("no code").to_owned()),
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto_server; .ci/run runs it by name"]
async fn the_main_path_needs_no_more_than_the_policies_and_no_less() {
    let moto = Moto::start().await;
    for bucket in [ARTIFACTS, REVISIONS] {
        moto.own("s3", "PUT", &format!("/{bucket}"), "").await;
        let versioned = "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>Enabled</Status></VersioningConfiguration>";
        moto.own("s3", "PUT", &format!("/{bucket}?versioning"), versioned)
            .await;
    }
    moto.own(
        "s3",
        "PUT",
        &format!("/{ARTIFACTS}/settings/shop.yml"),
        SETTINGS,
    )
    .await;
    let key = async |name: &str| moto.user(name, &granted(name, &[])).await;
    let [deploy, record] = [key("deploy").await, key("record").await];
    let [uploader, reader] = [key("uploader").await, key("ci-reader").await];
    let instances = key("instances").await;
    // The same as `deploy`, without the right to write records.
    let mut less = granted("deploy", &[]);
    for statement in less["Statement"].as_array_mut().unwrap() {
        if statement["Sid"] == "KeepRecords" {
            statement["Action"] = json!(["s3:GetObject"]);
        }
    }
    let crippled = moto.user("crippled", &less).await;
    moto.enforce_iam().await;
    let [uploader, reader] = [moto.client(&uploader), moto.client(&reader)];
    let instances = moto.client(&instances);

    let (aws, functions) = start(&moto, &deploy, &record).await;
    let event = upload(&uploader, 1).await;
    functions.deploy.invoke(event).await.unwrap();
    aws.settled().await;
    let drop = read(&reader, &format!("records/drops/{}.json", staged_key(1))).await;
    let drop = drop.unwrap();
    assert_eq!(drop["status"], "succeeded", "{drop:#}");
    assert_eq!(drop["build"]["author"], "alice");
    let id = drop["deployments"][0]["deployment_id"].as_str().unwrap();
    let revision = &drop["deployments"][0]["revision"];
    let fetched = instances
        .get_object()
        .bucket(REVISIONS)
        .key(revision["key"].as_str().unwrap())
        .version_id(revision["version"].as_str().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(
        fetched.e_tag().unwrap().trim_matches('"'),
        revision["etag"].as_str().unwrap()
    );
    // The clock's listing of what is open.
    let clock: Value =
        serde_json::from_str(include_str!("../events/scheduled-event.json")).unwrap();
    functions.record.invoke(clock).await.unwrap();
    assert!(functions.deploy.dead_letters().is_empty());
    assert!(functions.record.dead_letters().is_empty());

    // Who may do one thing may do no other.
    for (who, client, key) in [
        (
            "ci-reader",
            &reader,
            format!("records/deployments/{id}.json"),
        ),
        ("ci-reader", &reader, staged_key(1)),
        ("uploader", &uploader, staged_key(1)),
        (
            "uploader",
            &uploader,
            format!("records/drops/{}.json", staged_key(1)),
        ),
        ("instances", &instances, "settings/shop.yml".to_owned()),
    ] {
        let refused = read(client, &key).await.unwrap_err();
        assert_eq!(refused, "AccessDenied", "{who} {key}");
    }
    let settings = uploader
        .put_object()
        .bucket(ARTIFACTS)
        .key("settings/shop.yml");
    let refused = settings.body(Vec::new().into()).send().await.unwrap_err();
    assert_eq!(refused.code(), Some("AccessDenied"));
    aws.shutdown().await;

    // A right less, and the same path breaks off.
    let (aws, functions) = start(&moto, &crippled, &record).await;
    let event = upload(&uploader, 2).await;
    let error = functions.deploy.invoke(event).await.unwrap_err();
    assert_eq!(error.error_type, "AccessDenied", "{error:?}");
    assert!(
        error
            .message
            .starts_with("PutObject of s3://artifacts/records/"),
        "{error:?}"
    );
    aws.shutdown().await;
}
