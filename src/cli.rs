//! The command line: one file for each command, one voice for errors.
//!
//! Exit status: 0 done, 1 the outcome is bad, 2 the command cannot be carried out.

mod check;
#[cfg(feature = "local")]
mod demo;
#[cfg(feature = "local")]
mod local;
mod policy;
#[cfg(feature = "local")]
mod sample;
#[cfg(feature = "local")]
mod world;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    after_help = "Example: stagedrop demo"
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
    /// The least IAM policies for some settings files.
    Policy(policy::Arguments),
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

/// Carries out the command line.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("the runtime does not start: {error}")),
    };
    let done = runtime.block_on(async {
        match arguments.command {
            #[cfg(feature = "local")]
            Command::Demo(arguments) => demo::run(arguments).await,
            #[cfg(feature = "local")]
            Command::Local(arguments) => local::run(arguments).await,
            Command::Check(arguments) => check::run(arguments).await,
            Command::Policy(arguments) => policy::run(arguments).await,
            Command::Function { function } => {
                let served = match function {
                    Function::Deploy => Box::pin(stagedrop::entry::deploy()).await,
                    Function::Record => Box::pin(stagedrop::entry::record()).await,
                };
                served
                    .map(|()| ExitCode::SUCCESS)
                    .map_err(|error| error.to_string())
            }
        }
    });
    done.unwrap_or_else(|message| failed(&message))
}

fn failed(message: &str) -> ExitCode {
    anstream::eprintln!("stagedrop: {message}");
    ExitCode::from(NOT_DONE)
}
