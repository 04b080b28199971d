//! `stagedrop explain`: what would become of an artifact, offline or of one that is staged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use jiff::Timestamp;
use stagedrop::aws::Aws;
use stagedrop::configuration;
use stagedrop::deployment::Region;
use stagedrop::destination::DEFAULT_STAGING_PATTERN;
use stagedrop::explain::{ExplainError, Explanation, Question, explain, report};
use stagedrop::key_pattern::{Build, StagingPattern};
use stagedrop::object::{BucketName, ObjectKey, SourceObject};
use stagedrop::records::DocumentStore;
use stagedrop::records::drop::DropStatus;
use stagedrop::revision::ObjectStore;
use stagedrop::settings::RepositoryConfig;

use super::local_file::LocalFile;
use super::voice::{BAD, GOOD, Trouble, WARN, outln, print_json};
use super::{Output, outcome_code};

/// Settings that are read at most: more than the functions read.
const SETTINGS_BYTES_MAX: u64 = 1 << 20;
/// Names that are shown of what is kept and of what is left out.
const NAMES_SHOWN_MAX: usize = 20;

/// Says what would become of an artifact: which block runs and why the others do not, where each setting comes
/// from, the revision's key and contents, requests, and CodeDeploy's calls.
///
/// It runs the function itself on an AWS that takes everything and keeps nothing. Exit status 1: it would be
/// rejected.
#[derive(clap::Args)]
#[command(
    before_help = "Example: stagedrop explain app.zip --settings my-app.yml --key staging/my-app/master/47-3f2c1a9.zip"
)]
pub struct Arguments {
    /// A zip, tar.gz or tar file, or `s3://bucket/key` of a staged one.
    artifact: String,
    /// The project's settings, a file or `s3://bucket/key`; of a staged artifact those of its project under
    /// `settings/` where not given.
    #[arg(long, value_name = "FILE")]
    settings: Option<String>,
    /// The key that the artifact would be staged under; a staged one has its own.
    #[arg(long, value_name = "KEY")]
    key: Option<ObjectKey>,
    /// User metadata of the upload; a staged artifact has its own.
    #[arg(long, value_name = "NAME=VALUE", value_delimiter = ',')]
    metadata: Vec<String>,
    /// How staged keys are read.
    #[arg(long, value_name = "PATTERN")]
    staging_pattern: Option<StagingPattern>,
    /// The functions' own region.
    #[arg(long, value_name = "REGION")]
    region: Option<Region>,
    /// As if the functions ignored every `circle.yml`.
    #[arg(long)]
    ignore_circle_yml: bool,
    /// Show all names, not only the first.
    #[arg(long)]
    all: bool,
    /// How the answer is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Prints the answer.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Trouble> {
    let explanation = match arguments.artifact.strip_prefix("s3://") {
        Some(place) => of_staged(&arguments, place).await?,
        None => of_file(&arguments, Path::new(&arguments.artifact)).await?,
    };
    match arguments.output {
        Output::Json => {
            let json = serde_json::to_value(&explanation).map_err(|error| error.to_string())?;
            print_json(&json)?;
        }
        Output::Text => {
            let names_max = if arguments.all {
                usize::MAX
            } else {
                NAMES_SHOWN_MAX
            };
            outln!("{}", report(&explanation, names_max).trim_end());
            let (style, words) = match explanation.status {
                DropStatus::Rejected => (BAD, "it would be rejected"),
                DropStatus::Ignored => (WARN, "it would be ignored"),
                _ => (GOOD, "it would be deployed"),
            };
            outln!("\n{style}{words}{style:#}");
        }
    }
    Ok(outcome_code(explanation.status != DropStatus::Rejected))
}

async fn of_file(arguments: &Arguments, path: &Path) -> Result<Explanation, Trouble> {
    let mut file = LocalFile::open(path)?;
    let pattern = pattern(arguments)?;
    let key = arguments.key.clone().ok_or_else(|| {
        Trouble::new(
            "the key says which build it is, and none is given",
            format!("say it with --key, as `{pattern}` has it"),
        )
    })?;
    let settings_file = arguments.settings.clone().ok_or_else(|| {
        Trouble::new(
            "the settings say what is deployed where, and none are given",
            "say it with --settings my-app.yml",
        )
    })?;
    file.object.key = key;
    file.object.bucket = "artifacts".parse()?;
    let settings = match settings_file.starts_with("s3://") {
        true => read_settings(&Aws::from_environment().await, &settings_file).await?,
        false => read_file(&PathBuf::from(&settings_file))?,
    };
    let question = Question {
        object: file.object.clone(),
        metadata: metadata(&arguments.metadata)?,
        uploaded_at: Timestamp::now(),
        staging_key_pattern: pattern,
        settings_file,
        settings,
        repository_config: repository_config(arguments),
        region: region(arguments, None)?,
    };
    answer(explain(&question, &file).await)
}

async fn of_staged(arguments: &Arguments, place: &str) -> Result<Explanation, Trouble> {
    if arguments.key.is_some() || !arguments.metadata.is_empty() {
        return Err(Trouble::new(
            "a staged artifact has a key and metadata of its own",
            "take --key and --metadata away, or give a file on this machine",
        ));
    }
    let (bucket, key) = bucket_and_key(place)?;
    let aws = Aws::from_environment().await;
    let head = (&aws).head(None, &bucket, &key, None, None).await?;
    let pattern = pattern(arguments)?;
    let settings_file = match &arguments.settings {
        Some(file) => file.clone(),
        None => {
            let captures = pattern.read(key.as_str()).unwrap_or_default();
            let (build, _) = Build::read(&captures, &head.metadata);
            let project = build.project.as_deref().unwrap_or("default");
            format!("s3://{bucket}/settings/{project}.yml")
        }
    };
    let settings = match settings_file.starts_with("s3://") {
        true => read_settings(&aws, &settings_file).await?,
        false => read_file(&PathBuf::from(&settings_file))?,
    };
    let question = Question {
        object: SourceObject {
            bucket,
            key,
            version_id: head.version_id.clone(),
            etag: head.etag.clone(),
            size: head.size,
        },
        metadata: head.metadata,
        uploaded_at: head.last_modified,
        staging_key_pattern: pattern,
        settings_file,
        settings,
        repository_config: repository_config(arguments),
        region: region(arguments, aws.region())?,
    };
    answer(explain(&question, &&aws).await)
}

fn answer(answer: Result<Explanation, ExplainError>) -> Result<Explanation, Trouble> {
    answer.map_err(|error| match error {
        ExplainError::Service(error) => error.into(),
        ExplainError::Name(error) => error.into(),
        error @ ExplainError::NotStaged { .. } => {
            let cure = "correct --key, or say the functions' own pattern with --staging-pattern";
            Trouble::new(error.to_string(), cure)
        }
        error @ ExplainError::Retried { .. } => {
            Trouble::new(error.to_string(), "correct what the message names")
        }
    })
}

fn pattern(arguments: &Arguments) -> Result<StagingPattern, Trouble> {
    if let Some(pattern) = &arguments.staging_pattern {
        return Ok(pattern.clone());
    }
    let told = std::env::var(configuration::STAGING_KEY_PATTERN).ok();
    let text = told
        .as_deref()
        .filter(|text| !text.is_empty())
        .unwrap_or(DEFAULT_STAGING_PATTERN);
    text.parse()
        .map_err(|error: stagedrop::key_pattern::PatternError| {
            Trouble::new(error.to_string(), error.cure())
        })
}

fn repository_config(arguments: &Arguments) -> RepositoryConfig {
    if arguments.ignore_circle_yml {
        RepositoryConfig::Ignored
    } else {
        RepositoryConfig::Allowed
    }
}

fn region(arguments: &Arguments, configured: Option<Region>) -> Result<Region, Trouble> {
    if let Some(region) = arguments.region.clone().or(configured) {
        return Ok(region);
    }
    let told = std::env::var("AWS_REGION").ok();
    let text = told.as_deref().filter(|text| !text.is_empty());
    Ok(text.unwrap_or("us-east-1").parse()?)
}

fn metadata(pairs: &[String]) -> Result<BTreeMap<String, String>, Trouble> {
    pairs
        .iter()
        .map(|pair| {
            pair.split_once('=')
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .ok_or_else(|| {
                    Trouble::new(
                        format!("metadata `{pair}` has no value"),
                        "write it as tag=v1.2",
                    )
                })
        })
        .collect()
}

/// `bucket/key`.
pub fn bucket_and_key(place: &str) -> Result<(BucketName, ObjectKey), Trouble> {
    let (bucket, key) = place.split_once('/').ok_or_else(|| {
        Trouble::new(
            format!("s3://{place} names no key"),
            "write it as s3://bucket/key",
        )
    })?;
    Ok((bucket.parse()?, key.parse()?))
}

async fn read_settings(aws: &Aws, uri: &str) -> Result<Vec<u8>, Trouble> {
    let (bucket, key) = bucket_and_key(uri.trim_start_matches("s3://"))?;
    let stored = aws.get(&bucket, &key, SETTINGS_BYTES_MAX).await?;
    stored.map(|stored| stored.bytes).ok_or_else(|| {
        Trouble::new(
            format!("{uri} is not there"),
            "say where the settings are with --settings",
        )
    })
}

/// A settings file of this machine.
pub fn read_file(path: &Path) -> Result<Vec<u8>, Trouble> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(SETTINGS_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(|error| Trouble::with_file(path, &error))?;
    Ok(bytes)
}
