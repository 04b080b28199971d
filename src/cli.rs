//! The command line: one file for each command, one voice for errors.
//!
//! Exit status: 0 done, 1 the outcome is bad, 2 the command cannot be carried out.

mod check;
#[cfg(feature = "local")]
mod demo;
mod explain;
mod follow;
mod generate;
mod git;
mod history;
mod interrupt;
mod lint;
#[cfg(feature = "local")]
mod local;
mod local_file;
mod policy;
mod push;
mod redeploy;
#[cfg(feature = "local")]
mod sample;
mod voice;
#[cfg(feature = "local")]
mod world;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use stagedrop::aws::Aws;
use stagedrop::configuration;
use stagedrop::deployment::Region;
use stagedrop::object::{BucketName, S3Prefix};

use self::voice::Trouble;

/// Exit status of a command whose outcome is bad.
const OUTCOME_BAD: u8 = 1;
/// Exit status of a command that could not be carried out.
const NOT_DONE: u8 = 2;

/// Staged build artifacts become recorded CodeDeploy deployments, inside your own AWS account.
#[derive(Parser)]
#[command(
    name = "stagedrop",
    version,
    about,
    before_help = "Example: stagedrop demo"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The whole system on this machine, on a sample application, and out.
    #[cfg(feature = "local")]
    Demo(demo::Arguments),
    /// The same, staying up for your own uploads with any S3 client.
    #[cfg(feature = "local")]
    Local(local::Arguments),
    /// The bundle check, offline: would the CodeDeploy agent take this artifact?
    Check(check::Arguments),
    Policy(policy::Arguments),
    Push(push::Arguments),
    Explain(explain::Arguments),
    Lint(lint::Arguments),
    Status(history::StatusArguments),
    History(history::HistoryArguments),
    Redeploy(redeploy::Arguments),
    Completions(generate::CompletionArguments),
    Man(generate::ManArguments),
    /// Serves one of the functions, as its own binary does.
    #[command(hide = true)]
    Function {
        /// Which.
        function: Function,
    },
}

/// The functions.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Function {
    /// Takes staged objects.
    Deploy,
    /// Takes outcomes and the schedule.
    Record,
}

/// How a command prints what it found.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Carries out the command line.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("the runtime does not start: {error}").into()),
    };
    let done = runtime.block_on(async {
        match arguments.command {
            #[cfg(feature = "local")]
            Command::Demo(arguments) => demo::run(arguments).await.map_err(Trouble::from),
            #[cfg(feature = "local")]
            Command::Local(arguments) => local::run(arguments).await.map_err(Trouble::from),
            Command::Check(arguments) => check::run(arguments).await,
            Command::Policy(arguments) => policy::run(&arguments),
            Command::Push(arguments) => push::run(arguments).await,
            Command::Explain(arguments) => explain::run(arguments).await,
            Command::Lint(arguments) => lint::run(arguments).await,
            Command::Status(arguments) => history::status(arguments).await,
            Command::History(arguments) => history::history(arguments).await,
            Command::Redeploy(arguments) => redeploy::run(arguments).await,
            Command::Completions(arguments) => generate::completions(&arguments),
            Command::Man(arguments) => generate::man(&arguments),
            Command::Function { function } => {
                let served = match function {
                    Function::Deploy => Box::pin(stagedrop::entry::deploy()).await,
                    Function::Record => Box::pin(stagedrop::entry::record()).await,
                };
                served
                    .map(|()| ExitCode::SUCCESS)
                    .map_err(|error| error.to_string().into())
            }
        }
    });
    // What still packs or reads for an interrupted command is not waited for.
    runtime.shutdown_background();
    done.unwrap_or_else(|trouble| failed(&trouble))
}

fn failed(trouble: &Trouble) -> ExitCode {
    trouble.print();
    ExitCode::from(NOT_DONE)
}

/// The exit status of a command that was carried out.
fn outcome_code(is_good: bool) -> ExitCode {
    if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(OUTCOME_BAD)
    }
}

/// The region that AWS is asked in.
fn region_of(aws: &Aws) -> Result<Region, Trouble> {
    aws.region().ok_or_else(|| {
        Trouble::new(
            "no region is set",
            "set AWS_REGION to the region of the bucket",
        )
    })
}

/// Where the records are: as told, else as the functions are told, else beside what is staged.
fn records_of(told: Option<&S3Prefix>, bucket: Option<&BucketName>) -> Result<S3Prefix, Trouble> {
    if let Some(told) = told {
        return Ok(told.clone());
    }
    if let Ok(text) = std::env::var(configuration::RECORDS)
        && !text.is_empty()
    {
        return Ok(text.parse()?);
    }
    let bucket = bucket.ok_or_else(|| {
        Trouble::new(
            "it is not known where the records are",
            format!(
                "say it with --records s3://my-artifacts/records/ or by {}",
                configuration::RECORDS
            ),
        )
    })?;
    Ok(S3Prefix {
        bucket: bucket.clone(),
        prefix: "records/".to_owned(),
    })
}
