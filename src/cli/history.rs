//! `stagedrop status` and `stagedrop history`: the groups' records, once or again and again.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use stagedrop::aws::Aws;
use stagedrop::deployment::{ApplicationName, DeploymentGroupName};
use stagedrop::object::S3Prefix;
use stagedrop::overview::{outcome_lines, state_lines};
use stagedrop::records::group::Group;
use stagedrop::records::{DOCUMENT_BYTES_MAX, DocumentStore};

use super::interrupt::Interrupt;
use super::voice::{DIM, TITLE, Trouble, outln, print_json, text_of};
use super::{Output, records_of};

/// Groups that are looked at; more are not read.
const GROUPS_MAX: usize = 1_000;
/// Outcomes that `history` shows where nothing else is said.
const OUTCOMES_SHOWN: usize = 10;
/// Time between two looks of `--watch`.
const WATCHED_EVERY: Duration = Duration::from_secs(2);
/// Clears the screen and goes to its first place (ECMA-48 `ED` and `CUP`).
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

/// Where to look.
#[derive(clap::Args)]
struct Place {
    /// Where the records are; as STAGEDROP_RECORDS says where not given.
    #[arg(long, value_name = "S3_URI")]
    records: Option<S3Prefix>,
    /// Look again every two seconds, until it is interrupted.
    #[arg(long)]
    watch: bool,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Says what is live, running and waiting in each deployment group.
#[derive(clap::Args)]
#[command(before_help = "Example: stagedrop status --records s3://my-artifacts/records/ --watch")]
pub struct StatusArguments {
    /// Only this application.
    application: Option<ApplicationName>,
    /// Only this group of it.
    group: Option<DeploymentGroupName>,
    #[command(flatten)]
    place: Place,
}

/// Says what is live, running and waiting in an application's groups, and how the last builds ended.
#[derive(clap::Args)]
#[command(
    before_help = "Example: stagedrop history my-app production --records s3://my-artifacts/records/"
)]
pub struct HistoryArguments {
    /// The application.
    application: ApplicationName,
    /// Only this group of it.
    group: Option<DeploymentGroupName>,
    /// Outcomes of each group; at most 50 are recorded.
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = OUTCOMES_SHOWN)]
    outcomes: usize,
    #[command(flatten)]
    place: Place,
}

/// What is asked of the records.
struct Question {
    application: Option<ApplicationName>,
    group: Option<DeploymentGroupName>,
    outcomes_max: usize,
    place: Place,
}

/// Prints states.
pub async fn status(arguments: StatusArguments) -> Result<ExitCode, Trouble> {
    show(Question {
        application: arguments.application,
        group: arguments.group,
        outcomes_max: 0,
        place: arguments.place,
    })
    .await
}

/// Prints states and outcomes.
pub async fn history(arguments: HistoryArguments) -> Result<ExitCode, Trouble> {
    show(Question {
        application: Some(arguments.application),
        group: arguments.group,
        outcomes_max: arguments.outcomes,
        place: arguments.place,
    })
    .await
}

async fn show(question: Question) -> Result<ExitCode, Trouble> {
    let records = records_of(question.place.records.as_ref(), None)?;
    let aws = Aws::from_environment().await;
    if !question.place.watch {
        let groups = look(&aws, &records, &question).await?;
        print(&groups, &question)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut interrupt = Interrupt::new()?;
    let redraws = std::io::stdout().is_terminal() && question.place.output == Output::Text;
    loop {
        let groups = look(&aws, &records, &question).await?;
        if redraws {
            // Not by way of what filters styles: it would take this out.
            print!("{CLEAR}");
        }
        print(&groups, &question)?;
        if redraws {
            outln!("{DIM}every 2 s; Ctrl-C ends it{DIM:#}");
        }
        tokio::select! {
            () = tokio::time::sleep(WATCHED_EVERY) => {}
            _ = interrupt.heard() => return Ok(ExitCode::SUCCESS),
        }
    }
}

async fn look(aws: &Aws, records: &S3Prefix, question: &Question) -> Result<Vec<Group>, Trouble> {
    let names = match (&question.application, &question.group) {
        (Some(application), Some(group)) => vec![format!("groups/{application}/{group}.json")],
        (application, _) => {
            let folder = match application {
                Some(application) => format!("groups/{application}/"),
                None => "groups/".to_owned(),
            };
            let prefix = format!("{}{folder}", records.prefix);
            let listed = aws.list(&records.bucket, &prefix, GROUPS_MAX).await?;
            listed
                .into_iter()
                .filter_map(|found| {
                    let name = found.key.strip_prefix(&records.prefix)?;
                    Some(name.to_owned())
                })
                .collect()
        }
    };
    let mut groups = Vec::new();
    for name in &names {
        let key = records.key(name)?;
        let stored = aws.get(&records.bucket, &key, DOCUMENT_BYTES_MAX).await?;
        if let Some(stored) = stored {
            groups.push(serde_json::from_slice(&stored.bytes).map_err(|error| {
                Trouble::new(
                    format!(
                        "s3://{}/{key} is not a group's record: {error}",
                        records.bucket
                    ),
                    "use a version of stagedrop like the functions'",
                )
            })?);
        }
    }
    if groups.is_empty() {
        let what = match (&question.application, &question.group) {
            (Some(application), Some(group)) => format!("deployment group {application}/{group}"),
            (Some(application), None) => format!("application {application}"),
            _ => "any application".to_owned(),
        };
        return Err(Trouble::new(
            format!("there is no record of {what} under {records}"),
            "correct the name or --records; a group is recorded from its first build on",
        ));
    }
    Ok(groups)
}

fn print(groups: &[Group], question: &Question) -> Result<(), Trouble> {
    if question.place.output == Output::Json {
        let mut json = serde_json::to_value(groups).map_err(|error| error.to_string())?;
        for group in json.as_array_mut().into_iter().flatten() {
            if let Some(outcomes) = group.get_mut("outcomes").and_then(Value::as_array_mut) {
                outcomes.truncate(question.outcomes_max);
            }
        }
        return print_json(&json);
    }
    let now = Timestamp::now();
    for group in groups {
        outln!(
            "{TITLE}{}/{}{TITLE:#}",
            group.application,
            group.deployment_group
        );
        for line in state_lines(group, now)
            .iter()
            .chain(&outcome_lines(group, question.outcomes_max))
        {
            outln!("  {}", text_of(line));
        }
    }
    Ok(())
}
