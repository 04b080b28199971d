//! Where decisions go: a structured line of the log each, and lines of metrics on standard output.
//!
//! Owns the subscriber of the log, whose level never opens other crates' inner life, because the SDK's
//! shows headers. Everything that somebody else wrote is made printable here.

use std::env;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use lambda_runtime::tracing::subscriber::{self, EnvFilter, fmt, layer::SubscriberExt};
use serde_json::Value;

use crate::decision::{Decision, Subject, describe, printable};
use crate::fault::Retry;
use crate::finding::Finding;
use crate::metrics::{self, Datum, Namespace};

/// Outcomes that one invocation's answer carries; the records have them all.
const OUTCOMES_MAX: usize = 100;

/// What one invocation has to tell.
#[derive(Debug, Default)]
pub struct Journal {
    namespace: Option<Namespace>,
    outcomes: Mutex<Vec<Value>>,
}

impl Journal {
    /// Metrics go to this namespace, or nowhere.
    pub fn new(namespace: Option<Namespace>) -> Self {
        Self {
            namespace,
            outcomes: Mutex::default(),
        }
    }

    /// Logs a decision and counts it.
    pub fn tell(&self, subject: &Subject<'_>, decision: &Decision<'_>) {
        log(subject, decision);
        self.count(&metrics::of_decision(decision));
    }

    /// Counts changes of records that had to be made anew.
    pub fn conflicts(&self, retried: u64) {
        self.count(&metrics::of_conflicts(retried));
    }

    /// Keeps the end of a deployment for the invocation's answer, which Lambda hands to the function's
    /// on-success destination.
    pub fn outcome(&self, outcome: Value) {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        if outcomes.len() < OUTCOMES_MAX {
            outcomes.push(outcome);
        }
    }

    /// Whether there are any.
    pub fn has_outcomes(&self) -> bool {
        let outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        !outcomes.is_empty()
    }

    /// What was kept.
    pub fn take_outcomes(&self) -> Vec<Value> {
        std::mem::take(&mut *self.outcomes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn count(&self, data: &[Datum]) {
        let Some(namespace) = &self.namespace else {
            return;
        };
        let lines = metrics::lines(namespace, Timestamp::now(), data);
        let mut output = std::io::stdout().lock();
        for line in lines {
            // Without standard output there is nobody to tell.
            let _ = writeln!(output, "{line}");
        }
    }
}

fn log(subject: &Subject<'_>, decision: &Decision<'_>) {
    let build = subject.build.map(describe);
    let staged_key = subject.staged_key.map(printable);
    /// One line with the subject and what is special about the decision.
    macro_rules! line {
        ($message:literal $(, $name:ident = $value:expr)* $(,)?) => {
            tracing::info!(
                decision = decision.name(),
                drop = subject.drop,
                staged_key = staged_key.as_deref(),
                build = build.as_deref(),
                application = subject.application.map(|name| name.as_str()),
                deployment_group = subject.deployment_group.map(|name| name.as_str()),
                deployment_id = subject.deployment_id.map(|id| id.as_str()),
                $($name = $value,)*
                $message
            )
        };
    }
    match decision {
        Decision::EventIgnored { reason } => {
            line!("event is ignored", reason = printable(reason).as_str());
        }
        Decision::DropClaimed => line!("drop is worked on"),
        Decision::RevisionRegistered { counts } => line!(
            "revision is registered",
            entries = counts.map(|counts| counts.entries),
            left_out = counts.map(|counts| counts.left_out),
            size = counts.map(|counts| counts.size),
            bytes_copied = counts.map(|counts| counts.bytes_copied),
            bytes_sent = counts.map(|counts| counts.bytes_put),
        ),
        Decision::BuildWaits { occupant } => line!(
            "group is busy, build waits",
            occupant = occupant.map(|id| id.as_str()),
        ),
        Decision::DeploymentCreated {
            seconds_from_upload,
        } => line!(
            "deployment is created",
            seconds_from_upload = seconds_from_upload,
        ),
        Decision::TargetEnded { status } => {
            line!("target of a drop has ended", status = status.as_str());
        }
        Decision::DropEnded {
            status,
            seconds_from_upload,
            findings,
        } => line!(
            "drop has ended",
            status = status.as_str(),
            seconds_from_upload = seconds_from_upload,
            findings = codes(findings).as_deref(),
        ),
        Decision::DeploymentRecorded {
            status, error_code, ..
        } => line!(
            "deployment is recorded",
            status = status.as_str(),
            error_code = error_code.map(printable).as_deref(),
        ),
        Decision::Settled {
            groups,
            waiting,
            abandoned,
        } => line!(
            "what is open was looked at",
            groups = groups,
            waiting = waiting,
            abandoned = abandoned,
        ),
    }
}

/// The codes of the findings, in their order; their texts stand in the drop's record.
fn codes(findings: &[Finding]) -> Option<String> {
    const SHOWN_MAX: usize = 20;
    if findings.is_empty() {
        return None;
    }
    let shown: Vec<&str> = findings
        .iter()
        .take(SHOWN_MAX)
        .map(|finding| finding.code.as_str())
        .collect();
    Some(printable(&shown.join(" ")))
}

/// Logs that an event, or a message of a batch, is given back for another try.
pub fn given_back(retry: &Retry) {
    tracing::error!(
        decision = "given-back",
        error_type = retry.reason.error_type(),
        error = printable(&retry.message).as_str(),
        "event is given back to Lambda"
    );
}

/// Starts the log, in Lambda's format and at Lambda's level (`AWS_LAMBDA_LOG_FORMAT` and
/// `AWS_LAMBDA_LOG_LEVEL`), else as text and at the level `RUST_LOG`.
///
/// Lambda's filter takes a line without a time as one of level INFO, so that each has one.
pub fn start() {
    let level = ["AWS_LAMBDA_LOG_LEVEL", "RUST_LOG"]
        .iter()
        .find_map(|name| env::var(name).ok());
    let filter = EnvFilter::new(directives(level.as_deref().unwrap_or_default()));
    let registry = subscriber::registry().with(filter);
    let is_json =
        env::var("AWS_LAMBDA_LOG_FORMAT").is_ok_and(|format| format.eq_ignore_ascii_case("json"));
    let layer = fmt::layer().with_target(false);
    // Fails where a log was started already, which then serves as well.
    let _ = if is_json {
        let layer = layer
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .with_writer(std::io::stdout);
        tracing::subscriber::set_global_default(registry.with(layer))
    } else {
        let layer = layer.without_time().with_writer(std::io::stdout);
        tracing::subscriber::set_global_default(registry.with(layer))
    };
}

/// Our own crate at the level asked for, the others at INFO at most: below that the SDK shows what it
/// sends, with signatures and session tokens.
fn directives(level: &str) -> &'static str {
    match level.to_ascii_lowercase().as_str() {
        "trace" => "info,stagedrop=trace",
        "debug" => "info,stagedrop=debug",
        "warn" => "warn",
        "error" | "fatal" => "error",
        _ => "info",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ok_no_level_opens_the_sdk() {
        for level in ["TRACE", "trace", "debug", "aws_smithy_runtime=trace", ""] {
            let directives = directives(level);
            assert!(directives.starts_with("info"), "{level}: {directives}");
        }
        assert_eq!(directives("WARN"), "warn");
        assert_eq!(directives("FATAL"), "error");
    }
}
