//! How both functions start: environment to clients to serving, with every fault told before the first event.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use lambda_runtime::{LambdaEvent, run, service_fn};
use serde_json::Value;

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
    journal::start();
    let configuration = Configuration::read(|name| std::env::var(name).ok());
    let aws = Aws::from_environment().await;
    let region = aws
        .region()
        .ok_or("AWS_REGION is not set; set it to the region of the stack");
    match (configuration, region) {
        (Ok(configuration), Ok(region)) => Ok((configuration, aws, region)),
        (Err(faults), Ok(_)) => Err(faults.into()),
        (Ok(_), Err(region)) => Err(region.into()),
        (Err(faults), Err(region)) => Err(format!("{faults}\n  {region}").into()),
    }
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
