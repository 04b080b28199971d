//! `stagedrop policy`: the least IAM policies for some settings files.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Map, Value};
use stagedrop::deployment::Region;
use stagedrop::key_pattern::StagingPattern;
use stagedrop::object::{BucketName, S3Prefix};
use stagedrop::policy::{NAMES, Place, Project, narrow};
use stagedrop::settings::{SettingsKind, read};

use super::OUTCOME_BAD;

/// Bytes of a settings file; a longer one is no settings file.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// Prints the least IAM policies for settings files: of uploader, functions, CI reader and instances.
#[derive(clap::Args)]
#[command(
    after_help = "Example: stagedrop policy --settings my-app.yml --bucket my-artifacts --region us-east-1 --account 123456789012 --only uploader"
)]
pub struct Arguments {
    /// A project's settings file, named as in the bucket (`my-app.yml`); all that the stack serves.
    #[arg(long = "settings", value_name = "FILE", required = true)]
    settings: Vec<PathBuf>,
    /// Bucket that CI uploads to.
    #[arg(long, value_name = "BUCKET", default_value = "my-artifacts")]
    bucket: BucketName,
    /// How staged keys are built.
    #[arg(
        long,
        value_name = "PATTERN",
        default_value = "staging/{PROJECT}/{BRANCH}/{BUILD_NUM}-{COMMIT}"
    )]
    staging_key_pattern: String,
    /// Where the settings are; `settings/` of the bucket where not given.
    #[arg(long, value_name = "S3 URI")]
    settings_at: Option<S3Prefix>,
    /// Where records are; `records/` of the bucket where not given.
    #[arg(long, value_name = "S3 URI")]
    records_at: Option<S3Prefix>,
    /// The stack's region.
    #[arg(long, default_value = "us-east-1")]
    region: Region,
    /// The account's number.
    #[arg(long, value_name = "12 DIGITS", default_value = "123456789012", value_parser = account)]
    account: String,
    /// The stack's name.
    #[arg(long, value_name = "NAME", default_value = "stagedrop")]
    stack: String,
    /// Prints this policy alone, as the AWS CLI takes it.
    #[arg(long, value_name = "POLICY", value_parser = NAMES)]
    only: Option<String>,
    /// How it is printed: policies are JSON.
    #[arg(long, value_enum, default_value_t = Output::Json)]
    output: Output,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Output {
    /// JSON.
    Json,
}

fn account(text: &str) -> Result<String, String> {
    let is_account = text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    is_account
        .then(|| text.to_owned())
        .ok_or_else(|| format!("`{text}` is not an account's number, expected 12 digits"))
}

/// Prints the policies; what is to be known of them goes to standard error.
pub async fn run(arguments: Arguments) -> Result<ExitCode, String> {
    let Output::Json = arguments.output;
    let mut projects = Vec::new();
    let mut is_readable = true;
    for path in &arguments.settings {
        match project(path)? {
            Ok(project) => projects.push(project),
            Err(findings) => {
                is_readable = false;
                for finding in findings {
                    anstream::eprintln!("{finding}");
                }
            }
        }
    }
    if !is_readable {
        return Ok(ExitCode::from(OUTCOME_BAD));
    }
    let of_bucket = |folder: &str| {
        format!("s3://{}/{folder}/", arguments.bucket)
            .parse::<S3Prefix>()
            .map_err(|error| error.to_string())
    };
    let pattern: StagingPattern = arguments
        .staging_key_pattern
        .parse()
        .map_err(|error| format!("staging key pattern: {error}"))?;
    let place = Place {
        staging_key_pattern: pattern,
        settings: match arguments.settings_at {
            Some(settings) => settings,
            None => of_bucket("settings")?,
        },
        records: match arguments.records_at {
            Some(records) => records,
            None => of_bucket("records")?,
        },
        staging_bucket: arguments.bucket,
        region: arguments.region,
        account: arguments.account,
        stack: arguments.stack,
    };
    let policies = narrow(&projects, &place).map_err(|error| error.to_string())?;
    for note in &policies.notes {
        anstream::eprintln!("note: {note}");
    }
    let printed = match &arguments.only {
        Some(only) => policies
            .documents
            .into_iter()
            .find(|(name, _)| name == only)
            .map(|(_, document)| document)
            .unwrap_or_default(),
        None => Value::Object(
            policies
                .documents
                .into_iter()
                .map(|(name, document)| (name.to_owned(), document))
                .collect::<Map<_, _>>(),
        ),
    };
    let text = serde_json::to_string_pretty(&printed).map_err(|error| error.to_string())?;
    anstream::println!("{text}");
    Ok(ExitCode::SUCCESS)
}

/// Reads a settings file; its mistakes are findings.
fn project(path: &Path) -> Result<Result<Project, Vec<stagedrop::finding::Finding>>, String> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| format!("{shown} cannot be read: {error}");
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!(
            "{shown} has {size} bytes, a settings file has at most {FILE_BYTES_MAX}"
        ));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let name = path
        .file_stem()
        .and_then(|name| name.to_str())
        .ok_or_else(|| format!("{shown} has no name that a project could have"))?
        .to_owned();
    Ok(read(&shown.to_string(), &bytes, SettingsKind::Project)
        .map(|document| Project { name, document }))
}
