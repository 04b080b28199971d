//! How both functions start: environment to clients to serving, with every fault told before the first event.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use lambda_runtime::{LambdaEvent, run, service_fn};
use lambda_runtime_api_client::body::Body;
use lambda_runtime_api_client::{PooledClient, build_request};
use serde_json::{Value, json};

use crate::advance::Invocation;
use crate::aws::Aws;
use crate::configuration::Configuration;
use crate::deploy::Deploy;
use crate::deployment::Region;
use crate::fault::{Retry, RetryReason};
use crate::journal::{self, Journal};
use crate::metrics::Namespace;
use crate::record::Record;
use crate::records::Records;

/// Time that is left for the error's own way to Lambda.
const DEADLINE_MARGIN: Duration = Duration::from_millis(1_500);
/// Address of the Runtime API, as host and port.
const RUNTIME_API: &str = "AWS_LAMBDA_RUNTIME_API";
/// How long the Runtime API may take to hear why a function does not start.
const REPORT_PATIENCE: Duration = Duration::from_secs(2);
/// Error type of a function that its environment keeps from starting
/// (<https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>, initialization error).
pub const CONFIG_INVALID: &str = "Runtime.ConfigInvalid";
/// What the runtime reads of Lambda's own variables, with values for servers of the Runtime API that set
/// none.
const LAMBDA_DEFAULTS: [(&str, &str); 3] = [
    ("AWS_LAMBDA_FUNCTION_NAME", "stagedrop"),
    ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
    ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
];

/// Runs one of the functions; what keeps it from starting goes to standard error, a line for each fault.
pub async fn run_to_exit(
    function: impl Future<Output = Result<(), lambda_runtime::Error>>,
) -> ExitCode {
    match function.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stagedrop does not start: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves staged objects until the runtime ends the process.
///
/// # Errors
/// A fault of the environment, or of the Runtime API.
pub async fn deploy() -> Result<(), lambda_runtime::Error> {
    let (configuration, aws, region) = prepare().await?;
    let metrics = &configuration.metrics.clone();
    let deploy = &Deploy {
        records: Records::new(&aws, configuration.records.clone()),
        objects: &aws,
        codedeploy: &aws,
        configuration,
        region,
        limits: Default::default(),
    };
    run(service_fn(|event: LambdaEvent<Value>| async move {
        let invocation = begun(&event, metrics);
        let answer = in_time(
            &invocation,
            Box::pin(deploy.handle(&event.payload, &invocation)),
        )
        .await;
        ended(answer, &invocation, deploy.records.take_contention())
    }))
    .await
}

/// Serves state changes and the schedule until the runtime ends the process.
///
/// # Errors
/// A fault of the environment, or of the Runtime API.
pub async fn record() -> Result<(), lambda_runtime::Error> {
    let (configuration, aws, region) = prepare().await?;
    let metrics = &configuration.metrics.clone();
    let record = &Record {
        records: Records::new(&aws, configuration.records),
        codedeploy: &aws,
        region,
    };
    run(service_fn(|event: LambdaEvent<Value>| async move {
        let invocation = begun(&event, metrics);
        let answer = in_time(
            &invocation,
            Box::pin(record.handle(&event.payload, &invocation)),
        )
        .await;
        ended(answer, &invocation, record.records.take_contention())
    }))
    .await
}

async fn prepare() -> Result<(Configuration, Aws, Region), lambda_runtime::Error> {
    let runtime_api = std::env::var(RUNTIME_API).ok();
    if runtime_api.is_some() {
        complete_environment()?;
    }
    journal::start();
    let mut faults = Vec::new();
    let configuration = Configuration::read(|name| std::env::var(name).ok())
        .map_err(|error| faults.push(error.to_string()))
        .ok();
    let aws = Aws::of_a_function();
    let region = aws.region();
    if region.is_none() {
        faults.push("AWS_REGION is not set; set it to the region of the stack".to_owned());
    }
    if runtime_api.is_none() {
        faults.push(format!(
            "{RUNTIME_API} is not set; Lambda starts the function, or another server of its Runtime API does"
        ));
    }
    let message = match (configuration, region) {
        (Some(configuration), Some(region)) if faults.is_empty() => {
            return Ok((configuration, aws, region));
        }
        _ => faults.join("\n  "),
    };
    journal::not_started(CONFIG_INVALID, &message);
    if let Some(runtime_api) = &runtime_api {
        let reported = tokio::time::timeout(REPORT_PATIENCE, report(runtime_api, &message)).await;
        if !matches!(reported, Ok(Ok(()))) {
            eprintln!("the Runtime API did not hear why the function does not start");
        }
    }
    Err(message.into())
}

/// Starts the program anew where a server of the Runtime API leaves out variables that the runtime would
/// not start without.
fn complete_environment() -> Result<(), std::io::Error> {
    let missing: Vec<_> = LAMBDA_DEFAULTS
        .into_iter()
        .filter(|(name, _)| std::env::var_os(name).is_none())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut command = Command::new(std::env::current_exe()?);
    // Comes back only where it fails.
    Err(command
        .args(std::env::args_os().skip(1))
        .envs(missing)
        .exec())
}

/// Tells Lambda why the function does not start, which it hands to whoever waits for the event.
async fn report(runtime_api: &str, message: &str) -> Result<(), lambda_runtime::Error> {
    // The client takes for granted that there is a host.
    if !runtime_api.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '[') {
        return Err(format!("{RUNTIME_API} `{runtime_api}` is no host with a port").into());
    }
    let client = PooledClient::builder()
        .with_endpoint(runtime_api.parse()?)
        .build();
    let body = json!({ "errorType": CONFIG_INVALID, "errorMessage": message, "stackTrace": [] });
    let request = build_request()
        .method("POST")
        .uri("/2018-06-01/runtime/init/error")
        .header("Content-Type", "application/json")
        .header("Lambda-Runtime-Function-Error-Type", CONFIG_INVALID)
        .body(Body::from(body.to_string()))?;
    client.call(request).await?;
    Ok(())
}

fn begun(event: &LambdaEvent<Value>, metrics: &Option<Namespace>) -> Invocation {
    let deadline = event.context.deadline();
    let left = deadline
        .duration_since(SystemTime::now())
        .unwrap_or(Duration::ZERO);
    let now = Timestamp::now();
    Invocation::begun(
        &event.context.request_id,
        now.checked_add(left).unwrap_or(now),
        Journal::new(metrics.clone()),
    )
}

/// Gives up shortly before Lambda would end the process without a word.
async fn in_time(
    invocation: &Invocation,
    handling: impl Future<Output = Result<Value, Retry>>,
) -> Result<Value, Retry> {
    let left = Timestamp::now().duration_until(invocation.deadline);
    let left = Duration::try_from(left)
        .unwrap_or_default()
        .saturating_sub(DEADLINE_MARGIN);
    tokio::time::timeout(left, handling).await.unwrap_or_else(|_| {
        Err(Retry {
            reason: RetryReason::DeadlineNear,
            message: "the function's time is nearly over; what was done is kept and the rest is done on the next \
                      delivery (give the function more time or memory if this repeats)"
                .to_owned(),
        })
    })
}

/// Tells of an event that is over; the one place where a failed one is logged.
fn ended(
    answer: Result<Value, Retry>,
    invocation: &Invocation,
    conflicts: u64,
) -> Result<Value, Retry> {
    invocation.journal.conflicts(conflicts);
    if let Err(retry) = &answer {
        journal::given_back(retry);
    }
    answer
}
