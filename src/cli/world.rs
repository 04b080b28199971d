//! The embedded AWS as `demo` and `local` set it up: buckets, settings, an application, both functions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use stagedrop::destination::DEFAULT_STAGING_PATTERN;
use stagedrop::local::codedeploy::Platform;
use stagedrop::local::runtime_api::{FunctionEvent, FunctionSpec};
use stagedrop::local::s3::Attributes;
use stagedrop::local::{LocalAws, Options};

/// The bucket of everything but revisions.
pub const BUCKET: &str = "stagedrop";
/// The bucket of revisions.
pub const REVISIONS: &str = "stagedrop-revisions";

/// Events of each function that may be handled at the same time.
const CONCURRENCY: usize = 4;
/// Time for one event.
const TIMEOUT: Duration = Duration::from_secs(300);
/// Log lines of the functions that are kept for an error message.
const LINES_MAX: usize = 200;

/// The embedded AWS with both functions running.
pub struct World {
    /// The embedded AWS.
    pub aws: LocalAws,
    lines: Arc<Mutex<Vec<String>>>,
}

impl World {
    /// Starts it. The functions are this very program, started again with the functions' own entry.
    pub async fn start(options: Options, show_logs: bool) -> Result<Self, String> {
        let aws = LocalAws::start(options)
            .await
            .map_err(|error| error.to_string())?;
        aws.create_bucket(BUCKET, true)
            .map_err(|error| error.to_string())?;
        aws.create_bucket(REVISIONS, false)
            .map_err(|error| error.to_string())?;
        aws.router().watch_staging(BUCKET, "staging/");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        let observer = Arc::new(move |_: &str, event: FunctionEvent| {
            if let FunctionEvent::Line { text, .. } = event {
                if show_logs {
                    anstream::eprintln!("  | {text}");
                }
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() < LINES_MAX {
                    kept.push(text.clone());
                }
            }
        });
        let program = std::env::current_exe()
            .map_err(|error| format!("this program cannot be found: {error}"))?;
        let spec = |name: &str| {
            let mut spec = FunctionSpec::new(name, &program);
            spec.args = vec!["function".into(), name.into()];
            spec.concurrency = CONCURRENCY;
            spec.timeout = TIMEOUT;
            spec.env = BTreeMap::from([
                (
                    "STAGEDROP_STAGING_KEY_PATTERN".to_owned(),
                    DEFAULT_STAGING_PATTERN.to_owned(),
                ),
                (
                    "STAGEDROP_SETTINGS".to_owned(),
                    format!("s3://{BUCKET}/settings/"),
                ),
                (
                    "STAGEDROP_RECORDS".to_owned(),
                    format!("s3://{BUCKET}/records/"),
                ),
            ]);
            spec
        };
        let functions = aws
            .run_functions(spec("deploy"), spec("record"), Some(observer))
            .await
            .map_err(|error| error.to_string())?;
        functions.deploy.warm(1);
        functions.record.warm(1);
        Ok(Self { aws, lines })
    }

    /// Makes an application with its groups.
    pub fn create_application(&self, application: &str, groups: &[&str]) -> Result<(), String> {
        self.aws
            .create_application(application, Platform::Server)
            .map_err(|error| error.to_string())?;
        for group in groups {
            self.aws
                .create_deployment_group(application, group)
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Writes an object as any S3 client would.
    pub fn put(&self, key: &str, body: Vec<u8>, metadata: &[(&str, &str)]) -> Result<(), String> {
        let attributes = Attributes {
            metadata: metadata
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            ..Attributes::default()
        };
        self.aws
            .store()
            .put(BUCKET, key, body, attributes)
            .map(|_| ())
            .map_err(|error| format!("s3://{BUCKET}/{key} cannot be written: {error:?}"))
    }

    /// A record, where it is there.
    pub fn record(&self, name: &str) -> Option<Value> {
        let bytes = self
            .aws
            .store()
            .get(BUCKET, &format!("records/{name}"))
            .ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// The functions' log, for an error message.
    pub fn log(&self) -> String {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .join("\n")
    }
}
