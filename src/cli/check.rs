//! `stagedrop check`: the bundle check on a local artifact.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use globset::GlobSet;
use serde_json::json;
use stagedrop::artifact::ArtifactError;
use stagedrop::bundle_check::Options;
use stagedrop::contents::{Choice, choose_contents};
use stagedrop::finding::Finding;
use stagedrop::following;
use stagedrop::settings::ApplicationRoot;

use super::local_file::LocalFile;
use super::voice::{BAD, GOOD, Trouble, outln, print_json, say};
use super::{Output, outcome_code};

/// Judges an artifact as the CodeDeploy agent will; exit status 1 where it would be refused.
#[derive(clap::Args)]
#[command(before_help = "Example: stagedrop check build.zip --application-root /app")]
pub struct Arguments {
    /// A zip, tar.gz or tar file.
    artifact: PathBuf,
    /// The folder of the artifact that becomes the revision.
    #[arg(long, value_name = "PATH", default_value = "/")]
    application_root: ApplicationRoot,
    /// How the report is printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Prints the report.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Trouble> {
    let findings = judge(&arguments).await?;
    let refused = findings.iter().any(Finding::refuses);
    match arguments.output {
        Output::Json => print_json(
            &json!({ "artifact": arguments.artifact, "accepted": !refused, "findings": findings }),
        )?,
        Output::Text => print(&arguments.artifact, &findings, refused),
    }
    Ok(outcome_code(!refused))
}

async fn judge(arguments: &Arguments) -> Result<Vec<Finding>, Trouble> {
    let file = LocalFile::open(&arguments.artifact)?;
    let artifact = match file.artifact().await {
        Ok(artifact) => artifact,
        Err(ArtifactError::Service(error)) => return Err(error.to_string().into()),
        Err(error) => return Ok(vec![error.finding()]),
    };
    let choice = Choice {
        application_root: arguments.application_root.as_prefix(),
        exclude: &GlobSet::empty(),
        format: artifact.index.format(),
    };
    let contents = match choose_contents(&*artifact.index, &choice) {
        Ok(contents) => contents,
        Err(findings) => return Ok(findings),
    };
    match artifact.check(&contents, &Options::default()).await {
        Ok((_, report)) => Ok(report.findings),
        Err(ArtifactError::Service(error)) => Err(error.to_string().into()),
        Err(error) => Ok(vec![error.finding()]),
    }
}

fn print(artifact: &Path, findings: &[Finding], refused: bool) {
    let lines = findings.iter().flat_map(following::finding_lines);
    lines.for_each(|line| say(&line));
    let path = artifact.display();
    if refused {
        outln!("{BAD}{path} would not be deployed{BAD:#}");
    } else {
        outln!("{GOOD}{path} would be deployed{GOOD:#}");
    }
}
