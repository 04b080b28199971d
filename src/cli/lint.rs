//! `stagedrop lint`: every mistake of settings files, at its place.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;
use stagedrop::artifact::CIRCLE_YML;
use stagedrop::excerpt::{excerpt, word_width};
use stagedrop::finding::{Finding, Severity};
use stagedrop::settings::{self, Document, SettingsKind};

use super::explain::read_file;
use super::voice::{BAD, DIM, GOOD, TITLE, Trouble, WARN, count, outln, print_json};
use super::{Output, outcome_code};

/// Says every mistake in settings files and `circle.yml`, with its place and what was meant.
///
/// Settings and a `circle.yml` together are also checked as they work together. Exit status 1: there are
/// mistakes.
#[derive(clap::Args)]
#[command(before_help = "Example: stagedrop lint my-app.yml circle.yml")]
pub struct Arguments {
    /// Settings files; one that is called `circle.yml` is read as one.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What the files are, whatever they are called.
    #[arg(long = "as", value_enum, value_name = "KIND")]
    kind: Option<Kind>,
    /// How mistakes are printed.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// The two kinds of settings files.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Kind {
    /// The project's settings.
    Settings,
    /// A repository's `circle.yml`.
    CircleYml,
}

/// One file, read.
struct Read {
    path: String,
    text: String,
    kind: SettingsKind,
    document: Option<Document>,
    findings: Vec<Finding>,
}

/// Prints the mistakes.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Trouble> {
    let mut files = arguments
        .files
        .iter()
        .map(|path| read(path, arguments.kind))
        .collect::<Result<Vec<Read>, Trouble>>()?;
    check_together(&mut files);
    let is_good = !files
        .iter()
        .flat_map(|file| &file.findings)
        .any(Finding::refuses);
    match arguments.output {
        Output::Json => {
            let findings: Vec<&Finding> = files.iter().flat_map(|file| &file.findings).collect();
            print_json(&json!({ "accepted": is_good, "findings": findings }))?;
        }
        Output::Text => files.iter().for_each(print),
    }
    Ok(outcome_code(is_good))
}

fn read(path: &Path, kind: Option<Kind>) -> Result<Read, Trouble> {
    let bytes = read_file(path)?;
    let is_circle_yml = path.file_name().is_some_and(|name| name == CIRCLE_YML);
    let kind = match kind {
        Some(Kind::Settings) => SettingsKind::Project,
        Some(Kind::CircleYml) => SettingsKind::CircleYml,
        None if is_circle_yml => SettingsKind::CircleYml,
        None => SettingsKind::Project,
    };
    let name = path.display().to_string();
    let (document, findings) = match settings::read(&name, &bytes, kind) {
        Ok(document) => {
            let warnings = document.warnings().cloned().collect();
            (Some(document), warnings)
        }
        Err(findings) => (None, findings),
    };
    Ok(Read {
        path: name,
        text: String::from_utf8_lossy(&bytes).into_owned(),
        kind,
        document,
        findings,
    })
}

/// What is wrong only together: a block that lacks what no file says, an application that is not listed.
fn check_together(files: &mut [Read]) {
    let of_kind = |kind| {
        files
            .iter()
            .filter(move |file: &&Read| file.kind == kind)
            .filter_map(|file| file.document.as_ref())
    };
    let projects: Vec<&Document> = of_kind(SettingsKind::Project).collect();
    let circles: Vec<&Document> = of_kind(SettingsKind::CircleYml).collect();
    let mut found = Vec::new();
    for project in projects {
        found.extend(settings::check_blocks(project, None));
        for circle in &circles {
            found.extend(settings::check_blocks(project, Some(circle)));
        }
    }
    for finding in found {
        let home = files
            .iter_mut()
            .find(|file| Some(&file.path) == finding.path.as_ref());
        if let Some(file) = home
            && !file.findings.contains(&finding)
        {
            file.findings.push(finding);
        }
    }
    for file in files {
        file.findings
            .sort_by_key(|finding| (finding.line, finding.column));
    }
}

fn print(file: &Read) {
    for finding in &file.findings {
        let (style, word) = match finding.severity {
            Severity::Refuse => (BAD, "error"),
            Severity::Warn => (WARN, "warning"),
        };
        let place = match (finding.line, finding.column) {
            (Some(line), Some(column)) => format!("{}:{line}:{column}", file.path),
            _ => file.path.clone(),
        };
        outln!(
            "{TITLE}{place}{TITLE:#}: {style}{word}{style:#}: {} [{}]",
            finding.message,
            finding.code
        );
        if let (Some(line), Some(column)) = (finding.line, finding.column) {
            let width = word_width(&file.text, line, column);
            if let Some(excerpt) = excerpt(&file.text, line, column, width) {
                let mut lines = excerpt.lines();
                let (before, content, caret) = (lines.next(), lines.next(), lines.next());
                outln!("{DIM}{}{DIM:#}", before.unwrap_or_default());
                outln!("{}", content.unwrap_or_default());
                outln!("{style}{}{style:#}", caret.unwrap_or_default());
            }
        }
        outln!("  {}\n", finding.cure);
    }
    let errors = file
        .findings
        .iter()
        .filter(|finding| finding.refuses())
        .count();
    let warnings = file.findings.len() - errors;
    if file.findings.is_empty() {
        outln!("{}: {GOOD}good{GOOD:#}", file.path);
    } else {
        outln!(
            "{}: {}, {}",
            file.path,
            count(errors, "error"),
            count(warnings, "warning")
        );
    }
}
