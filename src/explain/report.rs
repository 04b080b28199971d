//! An answer as text for people.

use std::fmt::Write as _;

use super::{ExplainedTarget, Explanation};
use crate::finding::Severity;
use crate::settings::{Considered, Origin, Source, Verdict};

/// The answer in lines; of each list of names at most `names_max` are shown.
pub fn report(explanation: &Explanation, names_max: usize) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_report(explanation, names_max, &mut text);
    text
}

fn write_report(explanation: &Explanation, names_max: usize, out: &mut String) -> std::fmt::Result {
    let build = &explanation.build;
    writeln!(out, "build")?;
    let fields = [
        ("project", &build.project),
        ("branch", &build.branch),
        ("tag", &build.tag),
        ("commit", &build.commit),
        ("build-num", &build.build_num),
        ("repository", &build.repository),
        ("author", &build.author),
        ("build-url", &build.build_url),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            writeln!(out, "  {name:<12} {value}")?;
        }
    }
    if !explanation.blocks.is_empty() {
        writeln!(out, "\nblocks")?;
    }
    for block in &explanation.blocks {
        writeln!(out, "  {}", block_line(block))?;
    }
    for target in &explanation.targets {
        write_target(target, names_max, out)?;
    }
    if !explanation.findings.is_empty() {
        writeln!(out, "\nfindings")?;
    }
    for finding in &explanation.findings {
        let word = match finding.severity {
            Severity::Refuse => "refused",
            Severity::Warn => "warning",
        };
        writeln!(out, "  {word} {finding}")?;
    }
    let requests: Vec<String> = explanation
        .requests
        .iter()
        .map(|(operation, count)| format!("{count} {operation}"))
        .collect();
    writeln!(out, "\nrequests of deploy\n  {}", requests.join(", "))?;
    if !explanation.calls.is_empty() {
        writeln!(out, "\ncalls of CodeDeploy")?;
    }
    for call in &explanation.calls {
        let json = serde_json::to_string_pretty(call).map_err(|_| std::fmt::Error)?;
        for line in json.lines() {
            writeln!(out, "  {line}")?;
        }
    }
    if !explanation.assumed.is_empty() {
        writeln!(out, "\nassumed")?;
    }
    for assumed in &explanation.assumed {
        writeln!(out, "  {assumed}")?;
    }
    Ok(())
}

fn block_line(block: &Considered) -> String {
    let mark = if block.verdict == Verdict::Matched {
        "*"
    } else {
        " "
    };
    format!(
        "{mark} `{}` {} ({}:{})",
        block.block, block.verdict, block.file, block.place
    )
}

fn write_target(target: &ExplainedTarget, names_max: usize, out: &mut String) -> std::fmt::Result {
    writeln!(out, "\n{}", target.name)?;
    for origin in &target.settings {
        writeln!(out, "  {}", origin_line(origin))?;
    }
    let Some(recorded) = &target.recorded else {
        return Ok(());
    };
    if let Some(revision) = &recorded.revision {
        let place = match revision {
            crate::deployment::RevisionLocation::S3(location) => {
                format!("s3://{}/{}", location.bucket, location.key)
            }
            crate::deployment::RevisionLocation::GitHub {
                repository,
                commit_id,
            } => format!("GitHub {repository} {commit_id}"),
        };
        writeln!(out, "  revision: {place}")?;
    }
    let Some(counts) = &recorded.counts else {
        return Ok(());
    };
    writeln!(
        out,
        "  plan: {} bytes, of which S3 copies {} and the function sends {}; {} read for it",
        counts.size, counts.bytes_copied, counts.bytes_put, counts.bytes_got
    )?;
    writeln!(
        out,
        "  contents: {} kept, {} left out",
        counts.entries, counts.left_out
    )?;
    for (mark, names) in [("+", &target.kept), ("-", &target.left_out)] {
        for name in names.iter().take(names_max) {
            writeln!(out, "    {mark} {}", name.escape_debug())?;
        }
        if names.len() > names_max {
            let more = names.len() - names_max;
            writeln!(out, "    {mark} and {more} more (--all shows them)")?;
        }
    }
    Ok(())
}

fn origin_line(origin: &Origin) -> String {
    let from = match &origin.source {
        Source::File { file, place } => format!("{file}:{place}"),
        Source::FunctionRegion => "the functions' region".to_owned(),
        Source::Default => "default".to_owned(),
    };
    format!("{}: {} ({from})", origin.key, origin.value)
}
