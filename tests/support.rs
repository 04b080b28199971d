//! One AWS for every test: the embedded one, with both functions as processes behind the Runtime API.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use serde_json::{Value, json};
use stagedrop::local::codedeploy::{Platform, Progress};
use stagedrop::local::events::Delivery;
use stagedrop::local::runtime_api::{FunctionError, FunctionEvent, FunctionSpec};
use stagedrop::local::s3::Attributes;
use stagedrop::local::{Functions, LocalAws, Options};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::template::{POLICIES, Stack, texts};

pub const ARTIFACTS: &str = "artifacts";
pub const REVISIONS: &str = "revisions";
pub const COMMIT: &str = "3f2c1a9d5b7e8f60412233445566778899aabbcc";

pub const SETTINGS: &str = "\
codedeploy:
  shop:
    application_root: /
    revision_location:
      revision_type: S3
      s3_location:
        bucket: revisions
        key_pattern: apps/shop-{BRANCH}-{SHORT_COMMIT}-{BUILD_NUM}
deployment:
  production:
    branch: master
    codedeploy:
      shop:
        deployment_group: production
        deployment_config: CodeDeployDefault.OneAtATime
";

pub const APPSPEC: &str = "\
version: 0.0
os: linux
files:
  - source: /
    destination: /srv/shop
hooks:
  AfterInstall:
    - location: scripts/after.sh
";

/// Deployments that end by themselves, events that come at once.
pub fn automatic() -> Options {
    Options {
        progress: Progress::Automatic {
            step: Duration::from_millis(2),
        },
        ..Options::default()
    }
}

/// Deployments that the test moves on, events that come at once.
pub fn by_hand() -> Options {
    Options {
        progress: Progress::Manual,
        ..Options::default()
    }
}

/// Deployments and events that the test moves on.
pub fn silent() -> Options {
    Options {
        progress: Progress::Manual,
        delivery: Delivery {
            manual: true,
            ..Delivery::default()
        },
        ..Options::default()
    }
}

/// The embedded AWS with both buckets; what is staged is told.
pub async fn start_aws(options: Options) -> LocalAws {
    let aws = LocalAws::start(options).await.unwrap();
    aws.create_bucket(ARTIFACTS, true).unwrap();
    aws.create_bucket(REVISIONS, true).unwrap();
    aws.router().watch_staging(ARTIFACTS, "staging/");
    attach_policies(&aws);
    aws
}

/// Lines that functions have printed: function, line.
pub type Lines = Arc<Mutex<Vec<(String, String)>>>;

/// Runs both functions as processes, so many of `deploy` and of `record`.
pub async fn run_functions(
    aws: &LocalAws,
    concurrency: [usize; 2],
    retry_delays: Vec<Duration>,
    more: &[(&str, &str)],
) -> Functions {
    run_functions_told(aws, concurrency, retry_delays, more, Lines::default()).await
}

/// The same; what they print goes to `lines`.
pub async fn run_functions_told(
    aws: &LocalAws,
    concurrency: [usize; 2],
    retry_delays: Vec<Duration>,
    more: &[(&str, &str)],
    lines: Lines,
) -> Functions {
    let spec = |name: &str, built: &str, concurrency| {
        let mut spec = FunctionSpec::new(name, program(name, built));
        spec.concurrency = concurrency;
        spec.timeout = Duration::from_secs(60);
        spec.retry_delays.clone_from(&retry_delays);
        spec.env = environment();
        let more = more.iter();
        spec.env
            .extend(more.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        spec
    };
    let [deploy, record] = concurrency;
    aws.run_functions(
        spec("deploy", env!("CARGO_BIN_EXE_deploy"), deploy),
        spec("record", env!("CARGO_BIN_EXE_record"), record),
        Some(Arc::new(move |function: &str, event| {
            if std::env::var_os("SHOW_LOGS").is_some() {
                eprintln!("{event:?}");
            }
            if let FunctionEvent::Line { text, .. } = event {
                lines.lock().unwrap().push((function.to_owned(), text));
            }
        })),
    )
    .await
    .unwrap()
}

/// Makes an application with its group, and puts the settings of the project of that name.
pub fn add_project(aws: &LocalAws, name: &str, settings: &str) {
    aws.create_application(name, Platform::Server).unwrap();
    aws.create_deployment_group(name, "production").unwrap();
    let settings = settings.replace("shop", name).into_bytes();
    let key = format!("settings/{name}.yml");
    aws.store()
        .put(ARTIFACTS, &key, settings, Attributes::default())
        .unwrap();
}

/// Starts a deployment that is none of ours.
pub fn foreign_deployment(aws: &LocalAws, application: &str) -> String {
    let key = format!("{application}/by-hand.zip");
    let body = bundle(&[("appspec.yml", "version: 0.0\nos: linux\n")]);
    aws.store()
        .put(REVISIONS, &key, body, Attributes::default())
        .unwrap();
    let input = json!({
        "applicationName": application, "deploymentGroupName": "production", "description": "by hand",
        "revision": { "revisionType": "S3", "s3Location": { "bucket": REVISIONS, "key": key, "bundleType": "zip" } },
    });
    let answer = aws.codedeploy().call("CreateDeployment", &input).unwrap();
    answer["deploymentId"].as_str().unwrap().to_owned()
}

/// The record of that name.
pub fn record(aws: &LocalAws, name: &str) -> Option<Value> {
    let bytes = aws
        .store()
        .get(ARTIFACTS, &format!("records/{name}"))
        .ok()?;
    Some(serde_json::from_slice(&bytes).unwrap())
}

/// The markers of what is open.
pub fn open_markers(aws: &LocalAws) -> Vec<String> {
    aws.store().keys(ARTIFACTS, "records/open/").unwrap()
}

pub struct World {
    pub aws: LocalAws,
    pub functions: Functions,
    /// What the functions have printed: function, line.
    pub lines: Lines,
}

/// A function's program: the packaged one where `STAGEDROP_BOOTSTRAPS` names the packages' folder.
fn program(name: &str, built: &str) -> String {
    match std::env::var("STAGEDROP_BOOTSTRAPS") {
        Ok(folder) => format!("{folder}/{name}/bootstrap"),
        Err(_) => built.to_owned(),
    }
}

/// Buckets that the suite's settings name, besides [`REVISIONS`].
const OTHER_BUCKETS: [&str; 3] = ["unversioned", "no-such-bucket", "staging-bucket"];

/// What the template grants in a policy, for the suite's buckets: its revisions have any key.
pub fn granted(policy: &str, parameters: &[(&str, &str)]) -> Value {
    let mut all = vec![
        ("ArtifactBucketName", ARTIFACTS),
        ("RevisionBucketName", REVISIONS),
    ];
    all.extend(parameters);
    let pointer = POLICIES
        .iter()
        .find(|(name, _)| *name == policy)
        .map(|(_, pointer)| pointer)
        .unwrap();
    let mut document = Stack::new(&all).resource(pointer);
    for statement in document["Statement"].as_array_mut().unwrap() {
        let resources = texts(&statement["Resource"])
            .into_iter()
            .flat_map(|resource| {
                let rest = resource.strip_prefix("arn:aws:s3:::revisions");
                let Some(rest) = rest.filter(|rest| rest.is_empty() || *rest == "/apps/*") else {
                    return vec![resource.to_owned()];
                };
                let keys = if rest.is_empty() { "" } else { "/*" };
                let mut buckets = OTHER_BUCKETS.to_vec();
                buckets.push(REVISIONS);
                buckets
                    .iter()
                    .map(|bucket| format!("arn:aws:s3:::{bucket}{keys}"))
                    .collect()
            });
        statement["Resource"] = resources.collect();
    }
    document
}

/// Lets both functions do what the template grants them, and nothing else.
pub fn attach_policies(aws: &LocalAws) {
    static GRANTED: OnceLock<[(&str, Value); 2]> = OnceLock::new();
    for (name, policy) in
        GRANTED.get_or_init(|| ["deploy", "record"].map(|name| (name, granted(name, &[]))))
    {
        aws.iam().attach(name, policy).unwrap();
    }
}

impl World {
    pub async fn start(options: Options) -> Self {
        Self::with_environment(options, &[]).await
    }

    pub async fn with_environment(options: Options, more: &[(&str, &str)]) -> Self {
        let aws = start_aws(options).await;
        let delays = vec![Duration::from_millis(50); 2];
        let lines = Arc::new(Mutex::new(Vec::new()));
        let functions = run_functions_told(&aws, [2, 2], delays, more, Arc::clone(&lines)).await;
        add_project(&aws, "shop", SETTINGS);
        Self {
            aws,
            functions,
            lines,
        }
    }

    /// Writes an object of the artifact bucket.
    pub fn put(&self, key: &str, body: impl Into<Vec<u8>>) {
        self.put_with(key, body, &[]);
    }

    pub fn put_with(&self, key: &str, body: impl Into<Vec<u8>>, metadata: &[(&str, &str)]) {
        let attributes = Attributes {
            metadata: metadata
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            ..Attributes::default()
        };
        self.aws
            .store()
            .put(ARTIFACTS, key, body.into(), attributes)
            .unwrap();
    }

    /// Drops a build of branch master and waits until nothing moves any more.
    pub async fn drop_build(&self, build_num: u32, body: impl Into<Vec<u8>>) -> Value {
        let key = staged_key(build_num);
        self.put(&key, body);
        self.aws.quiet().await;
        self.drop_record(&key)
    }

    /// The same, and waits for its deployment to end.
    pub async fn deploy_build(&self, build_num: u32, body: impl Into<Vec<u8>>) -> Value {
        self.drop_build(build_num, body).await;
        self.aws.settled().await;
        self.drop_record(&staged_key(build_num))
    }

    pub fn drop_record(&self, staged_key: &str) -> Value {
        self.record(&format!("drops/{staged_key}.json"))
            .unwrap_or_else(|| panic!("no record of {staged_key}"))
    }

    pub fn group_record(&self) -> Value {
        self.record("groups/shop/production.json")
            .expect("no record of the group")
    }

    pub fn deployment_record(&self, id: &str) -> Value {
        self.record(&format!("deployments/{id}.json"))
            .unwrap_or_else(|| panic!("no record of {id}"))
    }

    pub fn record(&self, name: &str) -> Option<Value> {
        record(&self.aws, name)
    }

    /// Every record fits its schema, and nothing is marked as open that is not.
    pub fn check_records(&self) {
        for (folder, schema) in [
            ("drops", include_str!("../src/records/drop.schema.json")),
            (
                "deployments",
                include_str!("../src/records/deployment.schema.json"),
            ),
            ("groups", include_str!("../src/records/group.schema.json")),
        ] {
            let schema: Value = serde_json::from_str(schema).unwrap();
            let validator = jsonschema::options()
                .should_validate_formats(true)
                .build(&schema)
                .unwrap();
            for key in self
                .aws
                .store()
                .keys(ARTIFACTS, &format!("records/{folder}/"))
                .unwrap()
            {
                let record: Value =
                    serde_json::from_slice(&self.aws.store().get(ARTIFACTS, &key).unwrap())
                        .unwrap();
                let faults: Vec<String> = validator
                    .iter_errors(&record)
                    .map(|error| format!("{}: {error}", error.instance_path()))
                    .collect();
                assert!(faults.is_empty(), "{key}: {faults:#?}\n{record:#}");
            }
        }
    }

    /// The markers of what is open.
    pub fn open(&self) -> Vec<String> {
        open_markers(&self.aws)
    }

    /// The revision's object of a drop's only target.
    pub fn revision(&self, drop: &Value) -> Vec<u8> {
        let key = drop["deployments"][0]["revision"]["key"]
            .as_str()
            .unwrap_or_else(|| panic!("no revision: {drop:#}"));
        self.aws.store().get(REVISIONS, key).unwrap().to_vec()
    }

    /// Starts a deployment that is none of ours.
    pub fn foreign_deployment(&self) -> String {
        foreign_deployment(&self.aws, "shop")
    }

    /// Deployments whose description carries one of our tokens.
    pub fn our_deployments(&self) -> Vec<String> {
        self.aws
            .codedeploy()
            .deployments()
            .into_iter()
            .filter(|id| self.description(id).contains("[sd-"))
            .collect()
    }

    pub fn description(&self, id: &str) -> String {
        let answer = self
            .aws
            .codedeploy()
            .call("GetDeployment", &json!({ "deploymentId": id }))
            .unwrap();
        answer["deploymentInfo"]["description"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    pub async fn invoke_deploy(&self, event: Value) -> Result<Value, FunctionError> {
        self.functions.deploy.invoke(event).await
    }

    pub async fn invoke_record(&self, event: Value) -> Result<Value, FunctionError> {
        self.functions.record.invoke(event).await
    }

    /// The clock's event, delivered by hand.
    pub async fn schedule(&self) -> Result<Value, FunctionError> {
        self.invoke_record(
            serde_json::from_str(include_str!("../events/scheduled-event.json")).unwrap(),
        )
        .await
    }
}

/// An HTTP answer.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

/// One HTTP request on a connection of its own, as any client might send it.
pub async fn http(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Answer> {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut request = format!(
        "{method} /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += "\r\n";
    let mut stream = tokio::net::TcpStream::connect(host).await?;
    stream.write_all(request.as_bytes()).await?;
    stream.write_all(body).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok(Answer {
        status: status.ok_or(std::io::ErrorKind::InvalidData)?,
        head,
        body: answer.split_off(end + 4),
    })
}

/// The functions' own environment.
pub fn environment() -> BTreeMap<String, String> {
    [
        (
            "STAGEDROP_STAGING_KEY_PATTERN",
            "staging/{PROJECT}/{BRANCH}/{BUILD_NUM}-{COMMIT}",
        ),
        ("STAGEDROP_SETTINGS", "s3://artifacts/settings/"),
        ("STAGEDROP_RECORDS", "s3://artifacts/records/"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

pub fn staged_key(build_num: u32) -> String {
    format!("staging/shop/master/{build_num}-{COMMIT}.zip")
}

/// A zip of these files; names in `bin/` or `scripts/` are executable.
pub fn bundle(files: &[(&str, &str)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        let mode = if name.contains("bin/") || name.contains("scripts/") {
            0o755
        } else {
            0o644
        };
        zip.start_file(*name, SimpleFileOptions::default().unix_permissions(mode))
            .unwrap();
        zip.write_all(content.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A small application that deploys.
pub fn application(build_num: u32) -> Vec<u8> {
    let page = format!("build {build_num}\n");
    bundle(&[
        ("appspec.yml", APPSPEC),
        ("index.html", &page),
        ("scripts/after.sh", "#!/bin/sh\necho hello\n"),
    ])
}

/// A small application whose hook fails.
pub fn broken_application() -> Vec<u8> {
    bundle(&[
        ("appspec.yml", APPSPEC),
        ("index.html", "broken\n"),
        (
            "scripts/after.sh",
            "#!/bin/sh\necho migrating\necho 'no such column' >&2\nexit 3\n",
        ),
    ])
}

/// What a tree holds: path, kind, permission bits, content or target.
pub type Tree = BTreeMap<String, (char, u32, Vec<u8>)>;

/// Unpacks an archive as the agent would, by other people's programs, which must have nothing to say.
pub fn unpack(format: &str, archive: &[u8]) -> Tree {
    try_unpack(format, archive).unwrap()
}

/// The same; says what a program had to say.
pub fn try_unpack(format: &str, archive: &[u8]) -> Result<Tree, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bundle");
    let root = folder.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(&file, archive).unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        let output = command
            .args(arguments)
            .current_dir(&root)
            .arg(&file)
            .output()
            .unwrap();
        let quiet = output.status.success() && output.stderr.is_empty();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        if quiet {
            Ok(())
        } else {
            Err(format!("{program} {arguments:?}: {said}"))
        }
    };
    match format {
        "zip" => {
            run("unzip", &["-tq"])?;
            run("unzip", &["-qo"])?;
        }
        "tgz" => run("tar", &["-zxpsf"])?,
        _ => run("tar", &["-xpsf"])?,
    }
    Ok(tree(&root))
}

/// Reads a folder.
pub fn tree(root: &std::path::Path) -> Tree {
    use std::os::unix::fs::PermissionsExt;
    let mut found = Tree::new();
    let mut todo: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_string_lossy()
                .into_owned();
            let status = path.symlink_metadata().unwrap();
            let mode = status.permissions().mode() & 0o7777;
            if status.is_symlink() {
                let target = std::fs::read_link(&path).unwrap();
                found.insert(
                    name,
                    (
                        'l',
                        0o777,
                        target.to_string_lossy().into_owned().into_bytes(),
                    ),
                );
            } else if status.is_dir() {
                found.insert(name, ('d', mode, Vec::new()));
                todo.push(path);
            } else {
                found.insert(name, ('f', mode, std::fs::read(&path).unwrap()));
            }
        }
    }
    found
}
