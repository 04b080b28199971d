//! The embedded AWS behind its modelled network, as a process of its own.
//!
//! ```text
//! standard input, a line each                  standard output, a line each
//!                                              the environment of clients, at the start
//! {"do": "store", "path": .., "key": ..}       {}  a file becomes an object, past the network
//! {"do": "stage", "key": .., "as": ..}         {}  the same object once more, past the network
//! {"do": "fetch", "key": .., "path": ..}       {}  a revision becomes a file, past the network
//! {"do": "delete", "bucket": .., "key": ..}    {}
//! {"do": "deploy", "key": ..}                  {"pid": .., "seconds": .., "drop": {..}}
//! {"do": "stop"}                               {}  the function's process ends
//! {"do": "log"}                                {"requests": {..}, ..}  since the last time
//! ```
//!
//! Objects under `staging/PROJECT/` can be deployed: each project is an application with one group, and the
//! settings are the caller's to store.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::{Value, json};
use stagedrop::local::codedeploy::{Platform, Progress};
use stagedrop::local::events::Delivery;
use stagedrop::local::faults::RequestLog;
use stagedrop::local::network::Model;
use stagedrop::local::runtime_api::{Function, FunctionEvent, FunctionSpec};
use stagedrop::local::s3::checksums::{Wanted, hex};
use stagedrop::local::s3::object::{Condition, Content};
use stagedrop::local::s3::{Attributes, StoreError};
use stagedrop::local::{LocalAws, Options};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use crate::Outcome;

/// Staged artifacts, settings and records.
const ARTIFACTS: &str = "artifacts";
/// Revisions.
const REVISIONS: &str = "revisions";
/// The application of peers that need one.
const PEERS: &str = "peers";
/// The group of every application.
const DEPLOYMENT_GROUP: &str = "bench";
/// Time for one event, of the benchmark's own: it is not about Lambda's limit.
const TIMEOUT: Duration = Duration::from_secs(900);
/// Log lines of the function that are kept for an error message.
const LINES_MAX: usize = 50;
/// Bytes read from a file at once.
const READ_BYTES: usize = 1 << 20;

/// Serves until standard input ends; `deploy` is the function's program.
pub fn serve(deploy: &str) -> Outcome<()> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(run(deploy))
}

async fn run(deploy: &str) -> Outcome<()> {
    let mut bench = Bench::start(deploy).await?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let command: Value = serde_json::from_str(&line)?;
        let word = |name: &str| {
            let found = command.get(name).and_then(Value::as_str);
            found.ok_or_else(|| format!("`{name}` is missing in {command}"))
        };
        let answer = match word("do")? {
            "store" => bench.store(word("path")?, word("key")?).await?,
            "stage" => bench.stage(word("key")?, word("as")?)?,
            "fetch" => bench.fetch(word("key")?, word("path")?).await?,
            "delete" => bench.delete(word("bucket")?, word("key")?)?,
            "deploy" => bench.deploy(word("key")?).await?,
            "stop" => bench.stop().await,
            "log" => bench.log(),
            _ => return Err(format!("no such command: {line}").into()),
        };
        tell(&answer)?;
    }
    bench.stop().await;
    bench.aws.shutdown().await;
    Ok(())
}

fn tell(answer: &Value) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{answer}")?;
    Ok(out.flush()?)
}

fn refused(error: StoreError) -> String {
    format!("the embedded S3 refused: {error:?}")
}

struct Bench {
    aws: LocalAws,
    function: FunctionSpec,
    running: Option<Function>,
    /// Events of staged objects, by key.
    events: BTreeMap<String, Value>,
}

impl Bench {
    async fn start(deploy: &str) -> Outcome<Self> {
        let aws = LocalAws::start(Options {
            // Deployments stay as they were created: what happens on instances is not measured.
            progress: Progress::Manual,
            delivery: Delivery {
                manual: true,
                ..Delivery::default()
            },
            network: Some(Model::default()),
            ..Options::default()
        })
        .await?;
        aws.create_bucket(ARTIFACTS, false)?;
        aws.create_bucket(REVISIONS, false)?;
        aws.create_application(PEERS, Platform::Server)?;
        aws.router().watch_staging(ARTIFACTS, "staging/");
        let client = aws.environment_of(&aws.endpoints("client").await?);
        let mut function = FunctionSpec::new("deploy", deploy);
        function.timeout = TIMEOUT;
        function.memory_megabytes = 1_769;
        function.env = aws.environment_of(&aws.endpoints("deploy").await?);
        function.env.extend(
            [
                (
                    "STAGEDROP_STAGING_KEY_PATTERN",
                    "staging/{PROJECT}/{BRANCH}/{BUILD_NUM}-{COMMIT}",
                ),
                ("STAGEDROP_SETTINGS", "s3://artifacts/settings/"),
                ("STAGEDROP_RECORDS", "s3://artifacts/records/"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        tell(&json!(client))?;
        Ok(Self {
            aws,
            function,
            running: None,
            events: BTreeMap::new(),
        })
    }

    async fn store(&self, path: &str, key: &str) -> Outcome<Value> {
        let mut file = tokio::fs::File::open(path).await?;
        let mut spool = self.aws.store().spool(Wanted {
            checksum: None,
            payload_sha256: false,
        });
        let mut piece = vec![0; READ_BYTES];
        loop {
            let length = file.read(&mut piece).await?;
            let read = piece.get(..length).unwrap_or_default();
            if read.is_empty() {
                break;
            }
            spool.write(read)?;
        }
        let (blob, digests) = spool.finish();
        let content = Content {
            blob,
            etag: hex(&digests.md5),
            checksum: None,
            parts: Vec::new(),
            attributes: Attributes::default(),
        };
        self.commit(key, content)
    }

    fn stage(&self, key: &str, staged: &str) -> Outcome<Value> {
        let found = self.aws.store().find(ARTIFACTS, key, None);
        self.commit(staged, found.map_err(refused)?.content)
    }

    fn commit(&self, key: &str, content: Content) -> Outcome<Value> {
        let store = self.aws.store();
        let attributes = Attributes::default();
        let ticket = store.begin(ARTIFACTS, key, &attributes, Condition::Always);
        let written = store.commit(ticket.map_err(refused)?, content, "PutObject");
        written.map_err(refused)?;
        Ok(json!({}))
    }

    async fn fetch(&self, key: &str, path: &str) -> Outcome<Value> {
        let found = self.aws.store().find(REVISIONS, key, None);
        let mut file = tokio::fs::File::create(path).await?;
        let mut pieces = std::pin::pin!(found.map_err(refused)?.content.blob.stream());
        while let Some(piece) = pieces.next().await {
            file.write_all(&piece?).await?;
        }
        file.flush().await?;
        Ok(json!({}))
    }

    fn delete(&self, bucket: &str, key: &str) -> Outcome<Value> {
        let deleted = self.aws.store().delete(bucket, key, None, None);
        deleted.map_err(refused)?;
        Ok(json!({}))
    }

    /// One event from a cold start to its answer. The process stays, to be looked at.
    async fn deploy(&mut self, key: &str) -> Outcome<Value> {
        self.stop().await;
        for event in self.aws.router().take() {
            if let Some(staged) = event.object_key() {
                self.events.insert(staged.to_owned(), event.body.clone());
            }
        }
        let event = self.events.remove(key);
        let event = event.ok_or_else(|| format!("no event of `{key}` was seen"))?;
        let project = key.split('/').nth(1).unwrap_or_default();
        self.aws.create_application(project, Platform::Server)?;
        self.aws
            .create_deployment_group(project, DEPLOYMENT_GROUP)?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let noted = Arc::clone(&seen);
        let observer = Arc::new(move |_: &str, event: FunctionEvent| {
            let mut seen = noted.lock().unwrap_or_else(PoisonError::into_inner);
            match event {
                FunctionEvent::Started { process_id, .. } => seen.process_id = process_id,
                FunctionEvent::Line { text, .. } if seen.lines.len() < LINES_MAX => {
                    seen.lines.push(text);
                }
                _ => {}
            }
        });
        let begun = Instant::now();
        let function = Function::start(self.function.clone(), Some(observer));
        let result = function.invoke(event).await;
        let seconds = begun.elapsed().as_secs_f64();
        self.running = Some(function);
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = result {
            return Err(format!("{key}: {error}\n{}", seen.lines.join("\n")).into());
        }
        let record = format!("records/drops/{key}.json");
        let record = self.aws.store().get(ARTIFACTS, &record).map_err(refused)?;
        let drop: Value = serde_json::from_slice(&record)?;
        Ok(json!({ "pid": seen.process_id, "seconds": seconds, "drop": drop }))
    }

    async fn stop(&mut self) -> Value {
        if let Some(function) = self.running.take() {
            function.shutdown().await;
        }
        json!({})
    }

    /// Requests and their bytes since the last time.
    fn log(&self) -> Value {
        let faults = self.aws.faults();
        let log = faults.log();
        faults.clear_log();
        let mut requests: BTreeMap<&str, u64> = BTreeMap::new();
        let (mut got, mut put) = (0, 0);
        for request in &log {
            *requests.entry(&request.operation).or_default() += 1;
            match request.operation.as_str() {
                "GetObject" => got += request.bytes_out,
                "PutObject" | "UploadPart" => put += request.bytes_in,
                _ => {}
            }
        }
        json!({
            "requests": requests,
            "bytes_got": got,
            "bytes_put": put,
            "repackaging_seconds": repackaging_seconds(&log),
        })
    }
}

/// What the observer of a function saw.
#[derive(Default)]
struct Seen {
    process_id: u32,
    lines: Vec<String>,
}

/// From the first read of the artifact until the revision was written and the next request came.
fn repackaging_seconds(log: &[RequestLog]) -> Option<f64> {
    let staged = format!("/{ARTIFACTS}/staging/");
    let revisions = format!("/{REVISIONS}/");
    let first = log
        .iter()
        .find(|request| request.operation == "GetObject" && request.path.starts_with(&staged))?;
    let last = log
        .iter()
        .rposition(|request| request.path.starts_with(&revisions))?;
    let next = log.get(last + 1)?;
    Some(next.time.duration_since(first.time).as_secs_f64())
}
