//! `stagedrop policy`: the least IAM policies for some settings files.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Map, Value};
use stagedrop::deployment::Region;
use stagedrop::destination::DEFAULT_STAGING_PATTERN;
use stagedrop::finding::Finding;
use stagedrop::key_pattern::{PatternError, StagingPattern};
use stagedrop::object::{BucketName, S3Prefix};
use stagedrop::policy::{KmsKeyArn, NAMES, Place, Project, narrow};
use stagedrop::settings::{SettingsKind, read};

use super::explain::read_file;
use super::voice::{TITLE, Trouble, outln, print_json};
use super::{Output, outcome_code};

/// Prints the least IAM policies for settings files: of uploader, functions, CI reader and instances.
#[derive(clap::Args)]
#[command(
    before_help = "Example: stagedrop policy --settings my-app.yml --bucket my-artifacts --region us-east-1 --account 123456789012 --only uploader"
)]
pub struct Arguments {
    /// A project's settings file, named as in the bucket (`my-app.yml`); all that the stack serves.
    #[arg(long = "settings", value_name = "FILE", required = true)]
    settings: Vec<PathBuf>,
    /// Bucket that CI uploads to.
    #[arg(long, value_name = "BUCKET", default_value = "my-artifacts")]
    bucket: BucketName,
    /// How staged keys are built.
    #[arg(long, value_name = "PATTERN", default_value = DEFAULT_STAGING_PATTERN)]
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
    /// Key that encrypts the buckets' objects, where it is one of your own.
    #[arg(long, value_name = "ARN")]
    kms_key: Option<KmsKeyArn>,
    /// Prints this policy alone, as the AWS CLI takes it.
    #[arg(long, value_name = "POLICY", value_parser = NAMES)]
    only: Option<String>,
    /// How they are printed: as one JSON object, or each below its name.
    #[arg(long, value_enum, default_value_t = Output::Json)]
    output: Output,
}

fn account(text: &str) -> Result<String, String> {
    let is_account = text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    is_account
        .then(|| text.to_owned())
        .ok_or_else(|| format!("`{text}` is not an account's number, expected 12 digits"))
}

/// Prints the policies; what is to be known of them goes to standard error.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Trouble> {
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
        return Ok(outcome_code(false));
    }
    let of_bucket = |folder: &str| {
        format!("s3://{}/{folder}/", arguments.bucket)
            .parse::<S3Prefix>()
            .map_err(Trouble::from)
    };
    let pattern: StagingPattern = arguments
        .staging_key_pattern
        .parse()
        .map_err(|error: PatternError| Trouble::new(error.to_string(), error.cure()))?;
    let place = Place {
        staging_key_pattern: pattern,
        settings: match &arguments.settings_at {
            Some(settings) => settings.clone(),
            None => of_bucket("settings")?,
        },
        records: match &arguments.records_at {
            Some(records) => records.clone(),
            None => of_bucket("records")?,
        },
        staging_bucket: arguments.bucket.clone(),
        region: arguments.region.clone(),
        account: arguments.account.clone(),
        stack: arguments.stack.clone(),
        kms_key: arguments.kms_key.clone(),
    };
    let policies = narrow(&projects, &place).map_err(|error| Trouble::from(error.to_string()))?;
    for note in &policies.notes {
        anstream::eprintln!("note: {note}");
    }
    let wanted = |name: &str| arguments.only.as_ref().is_none_or(|only| only == name);
    let documents: Vec<(&str, Value)> = policies
        .documents
        .into_iter()
        .filter(|(name, _)| wanted(name))
        .collect();
    match (arguments.output, documents.as_slice()) {
        // As the AWS CLI takes it.
        (_, [(_, only)]) => print_json(only)?,
        (Output::Json, _) => {
            let all = documents
                .into_iter()
                .map(|(name, document)| (name.to_owned(), document));
            print_json(&Value::Object(all.collect::<Map<_, _>>()))?;
        }
        (Output::Text, _) => {
            for (name, document) in &documents {
                outln!("{TITLE}{name}{TITLE:#}");
                print_json(document)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads a settings file; its mistakes are findings.
fn project(path: &Path) -> Result<Result<Project, Vec<Finding>>, Trouble> {
    let bytes = read_file(path)?;
    let name = path
        .file_stem()
        .and_then(|name| name.to_str())
        .ok_or_else(|| {
            Trouble::new(
                format!("{} has no name that a project could have", path.display()),
                "call it as in the bucket: my-app.yml",
            )
        })?
        .to_owned();
    let shown = path.display().to_string();
    Ok(read(&shown, &bytes, SettingsKind::Project).map(|document| Project { name, document }))
}
