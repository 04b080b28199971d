//! `stagedrop check`: the bundle check on a local artifact.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use bytes::Bytes;
use globset::GlobSet;
use serde_json::json;
use stagedrop::archive::Limits;
use stagedrop::artifact::OpenedArtifact;
use stagedrop::bundle_check::Options;
use stagedrop::contents::{Choice, choose_contents};
use stagedrop::finding::{Finding, Severity};
use stagedrop::object::{ByteRange, SourceObject};
use stagedrop::revision::ObjectReader;
use stagedrop::service_error::{Kind, ServiceError};
use stagedrop::settings::ApplicationRoot;

use super::OUTCOME_BAD;

const REFUSED: Style = AnsiColor::Red.on_default().bold();
const WARNED: Style = AnsiColor::Yellow.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default().bold();

/// Judges an artifact as the CodeDeploy agent will; exit status 1 where it would be refused.
#[derive(clap::Args)]
#[command(after_help = "Example: stagedrop check build.zip --application-root /app")]
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

#[derive(Clone, Copy, clap::ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// A file, read as an object would be.
struct LocalFile(File);

impl ObjectReader for LocalFile {
    async fn read(&self, source: &SourceObject, range: ByteRange) -> Result<Bytes, ServiceError> {
        let mut bytes = vec![0; usize::try_from(range.length()).unwrap_or(usize::MAX)];
        self.0
            .read_exact_at(&mut bytes, range.start)
            .map_err(|error| ServiceError {
                operation: "reading",
                resource: source.key.to_string(),
                kind: Kind::Refused,
                code: None,
                message: error.to_string(),
            })?;
        Ok(bytes.into())
    }
}

/// Prints the report.
pub async fn run(arguments: Arguments) -> Result<ExitCode, String> {
    let findings = judge(&arguments).await?;
    let refused = findings.iter().any(Finding::refuses);
    match arguments.output {
        Output::Json => {
            let report = json!({ "artifact": arguments.artifact, "accepted": !refused, "findings": findings });
            let text = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
            anstream::println!("{text}");
        }
        Output::Text => print(&arguments.artifact, &findings, refused),
    }
    Ok(if refused {
        ExitCode::from(OUTCOME_BAD)
    } else {
        ExitCode::SUCCESS
    })
}

async fn judge(arguments: &Arguments) -> Result<Vec<Finding>, String> {
    let path = arguments.artifact.display();
    let unreadable = |error: std::io::Error| format!("{path} cannot be read: {error}");
    let file = File::open(&arguments.artifact).map_err(unreadable)?;
    let status = file.metadata().map_err(unreadable)?;
    if status.is_dir() {
        return Err(format!(
            "{path} is a folder; give the archive that CI would upload"
        ));
    }
    let size = status.len();
    let object = SourceObject {
        bucket: "local".parse().map_err(|error| format!("{error}"))?,
        key: path
            .to_string()
            .parse()
            .map_err(|error| format!("{error}"))?,
        version_id: None,
        etag: "".into(),
        size,
    };
    let file = LocalFile(file);
    let artifact = match OpenedArtifact::open(&file, object, &Limits::default()).await {
        Ok(artifact) => artifact,
        Err(stagedrop::artifact::ArtifactError::Service(error)) => return Err(error.to_string()),
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
        Err(stagedrop::artifact::ArtifactError::Service(error)) => Err(error.to_string()),
        Err(error) => Ok(vec![error.finding()]),
    }
}

fn print(artifact: &Path, findings: &[Finding], refused: bool) {
    for finding in findings {
        let (style, word) = match finding.severity {
            Severity::Refuse => (REFUSED, "refused"),
            Severity::Warn => (WARNED, "warning"),
        };
        let place = match (&finding.path, finding.line, finding.column) {
            (Some(path), Some(line), Some(column)) => format!("{path}:{line}:{column}: "),
            (Some(path), Some(line), None) => format!("{path}:{line}: "),
            (Some(path), _, _) => format!("{path}: "),
            (None, _, _) => String::new(),
        };
        anstream::println!(
            "{style}{word}{style:#} {place}{} [{}]",
            finding.message,
            finding.code
        );
        anstream::println!("        {}", finding.cure);
    }
    let path = artifact.display();
    if refused {
        anstream::println!("{REFUSED}{path} would not be deployed{REFUSED:#}");
    } else {
        anstream::println!("{GOOD}{path} would be deployed{GOOD:#}");
    }
}
