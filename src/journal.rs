//! Where decisions go: a structured line of the log each, and lines of metrics on standard output.
//!
//! Owns the subscriber of the log, whose level never opens other crates' inner life, because the SDK's
//! shows headers. Everything that somebody else wrote is made printable here.

use std::env;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde_json::{Map, Value};
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::{fmt, layer::SubscriberExt};

use crate::decision::{Decision, Subject, describe, printable};
use crate::fault::Retry;
use crate::finding::Finding;
use crate::metrics::{self, Datum, Namespace};

/// Outcomes that one invocation's answer carries; the records have them all.
const OUTCOMES_MAX: usize = 100;
/// Bytes of them together. Lambda sends the answer on beside the event, and the narrowest of its
/// destinations, SNS, takes 256 KiB of both; a lone outcome stands in the answer twice.
const OUTCOMES_BYTES_MAX: usize = 96 << 10;

/// How deployments ended, as an invocation's answer tells it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcomes {
    told: Vec<(Value, usize)>,
    left_out: usize,
}

impl Outcomes {
    /// Takes an outcome; what it says replaces what was known of the same deployment.
    fn take(&mut self, outcome: Value) {
        const ID: &str = "deployment_id";
        self.told
            .retain(|(known, _)| known.get(ID) != outcome.get(ID));
        let bytes = outcome.to_string().len();
        let together = self.told.iter().map(|(_, bytes)| *bytes).sum::<usize>();
        if self.told.len() < OUTCOMES_MAX && together.saturating_add(bytes) <= OUTCOMES_BYTES_MAX {
            self.told.push((outcome, bytes));
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
    }

    /// Writes them into an answer: `outcomes`, `outcome` where there was exactly one, so that a rule of
    /// EventBridge cannot mix up two, and `outcomes_left_out` where they were too many.
    pub fn answer(self, answer: &mut Map<String, Value>) {
        let told: Vec<Value> = self.told.into_iter().map(|(outcome, _)| outcome).collect();
        if self.left_out > 0 {
            answer.insert("outcomes_left_out".to_owned(), self.left_out.into());
        } else if let [only] = told.as_slice() {
            answer.insert("outcome".to_owned(), only.clone());
        }
        answer.insert("outcomes".to_owned(), told.into());
    }
}

/// What one invocation has to tell.
#[derive(Debug, Default)]
pub struct Journal {
    namespace: Option<Namespace>,
    outcomes: Mutex<Outcomes>,
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
        outcomes.take(outcome);
    }

    /// Whether there are any.
    pub fn has_outcomes(&self) -> bool {
        let outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        !outcomes.told.is_empty() || outcomes.left_out > 0
    }

    /// What was kept.
    pub fn take_outcomes(&self) -> Outcomes {
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

/// Logs why the function does not start; the message may have several lines.
pub fn not_started(error_type: &str, message: &str) {
    tracing::error!(
        decision = "not-started",
        error_type,
        error = message,
        "function does not start"
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
    let levels = levels(level.as_deref().unwrap_or_default());
    let registry = tracing_subscriber::registry().with(levels);
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
fn levels(level: &str) -> Targets {
    let (ours, others) = match level.to_ascii_lowercase().as_str() {
        "trace" => (Level::TRACE, Level::INFO),
        "debug" => (Level::DEBUG, Level::INFO),
        "warn" => (Level::WARN, Level::WARN),
        "error" | "fatal" => (Level::ERROR, Level::ERROR),
        _ => (Level::INFO, Level::INFO),
    };
    Targets::new()
        .with_default(others)
        .with_target("stagedrop", ours)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answered(outcomes: impl IntoIterator<Item = Value>) -> Value {
        let journal = Journal::default();
        for outcome in outcomes {
            journal.outcome(outcome);
        }
        let mut answer = Map::new();
        journal.take_outcomes().answer(&mut answer);
        answer.into()
    }

    fn ended(id: usize, bytes: usize) -> Value {
        json!({ "deployment_id": format!("d-{id}"), "error": "x".repeat(bytes) })
    }

    #[test]
    fn ok_the_lone_outcome_has_a_name_of_its_own() {
        assert_eq!(answered([]), json!({ "outcomes": [] }));
        let one = ended(1, 1);
        assert_eq!(
            answered([one.clone()]),
            json!({ "outcomes": [one], "outcome": one })
        );
        let two = [one.clone(), ended(2, 1)];
        assert_eq!(answered(two.clone()), json!({ "outcomes": two }));
        // One deployment that is told twice is one, as it was told last.
        let newer = ended(1, 2);
        assert_eq!(
            answered([one, newer.clone()]),
            json!({ "outcomes": [newer], "outcome": newer })
        );
    }

    #[test]
    fn ok_what_an_answer_carries_is_bounded_and_what_it_leaves_out_is_counted() {
        const DESTINATION_BYTES_MAX: usize = 256 << 10;
        let small = answered((0..OUTCOMES_MAX + 3).map(|id| ended(id, 1)));
        assert_eq!(small["outcomes"].as_array().unwrap().len(), OUTCOMES_MAX);
        assert_eq!(small["outcomes_left_out"], 3);
        for (count, bytes) in [(1, 97 << 10), (1, 95 << 10), (2, 60 << 10), (50, 20 << 10)] {
            let answer = answered((0..count).map(|id| ended(id, bytes)));
            assert!(answer.to_string().len() < DESTINATION_BYTES_MAX - (60 << 10));
            let told = answer["outcomes"].as_array().unwrap().len();
            let left_out = answer["outcomes_left_out"].as_u64().unwrap_or_default();
            assert_eq!(told as u64 + left_out, count as u64);
            // The one that fits is not the only one that there was.
            assert_eq!(answer.get("outcome").is_some(), count == told && told == 1);
        }
    }

    #[test]
    fn ok_no_level_opens_the_sdk() {
        const SDK: &str = "aws_smithy_runtime";
        for level in ["TRACE", "trace", "debug", "aws_smithy_runtime=trace", ""] {
            let levels = levels(level);
            assert!(levels.would_enable(SDK, &Level::INFO), "{level}");
            assert!(!levels.would_enable(SDK, &Level::DEBUG), "{level}");
        }
        assert!(levels("debug").would_enable("stagedrop::advance", &Level::DEBUG));
        assert!(!levels("WARN").would_enable("stagedrop::advance", &Level::INFO));
        assert!(!levels("FATAL").would_enable("stagedrop::advance", &Level::WARN));
    }
}
