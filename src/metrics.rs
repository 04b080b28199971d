//! Metrics in CloudWatch's embedded metric format: a decision to lines of JSON.
//!
//! CloudWatch Logs makes metrics of lines that say so themselves, so that no function needs a right or a
//! request for them. Owns their names, units and dimensions, and the format
//! (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>).
//! A metric has one dimension at most, of few values: a status, an outcome, or the code of a finding; never
//! a name that somebody chooses.

use std::collections::BTreeSet;
use std::str::FromStr;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::decision::Decision;
use crate::deployment::DeploymentStatus;
use crate::finding::Finding;
use crate::records::drop::DropStatus;

/// Every metric, with its unit and its dimension.
pub const METRICS: [(&str, Unit, Option<&str>); 9] = [
    (DROPS, Unit::Count, Some(STATUS)),
    (REFUSED, Unit::Count, Some(CODE)),
    (DEPLOYMENTS, Unit::Count, Some(OUTCOME)),
    (UPLOAD_TO_DEPLOYMENT, Unit::Seconds, None),
    (UPLOAD_TO_OUTCOME, Unit::Seconds, None),
    (WAITING, Unit::Count, None),
    (BYTES_COPIED, Unit::Bytes, None),
    (BYTES_SENT, Unit::Bytes, None),
    (CONFLICTS, Unit::Count, None),
];

const DROPS: &str = "Drops";
const REFUSED: &str = "RefusedBundles";
const DEPLOYMENTS: &str = "Deployments";
const UPLOAD_TO_DEPLOYMENT: &str = "UploadToDeployment";
const UPLOAD_TO_OUTCOME: &str = "UploadToOutcome";
const WAITING: &str = "WaitingBuilds";
const BYTES_COPIED: &str = "BytesCopied";
const BYTES_SENT: &str = "BytesSent";
const CONFLICTS: &str = "ConflictsRetried";

const STATUS: &str = "Status";
const CODE: &str = "Code";
const OUTCOME: &str = "Outcome";

/// Findings of one drop that are counted by their code.
const CODES_MAX: usize = 20;
/// Characters of a code; a longer one is none of ours.
const CODE_BYTES_MAX: usize = 64;

/// What a value counts, as CloudWatch spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
}

impl Unit {
    /// CloudWatch's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Count => "Count",
            Self::Bytes => "Bytes",
            Self::Seconds => "Seconds",
        }
    }
}

/// Where the metrics are kept: CloudWatch's rule for names, without those that AWS keeps for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace(String);

impl Namespace {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A namespace that CloudWatch does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "namespace is not valid, expected 1 to 255 of letters, digits and ./-_#: without AWS/ in front"
)]
pub struct InvalidNamespace;

impl FromStr for Namespace {
    type Err = InvalidNamespace;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"./-_#:".contains(&byte);
        let is_valid = (1..=255).contains(&text.len())
            && text.bytes().all(fits)
            && !text.starts_with("AWS/")
            && !text.starts_with(':');
        if is_valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidNamespace)
        }
    }
}

/// A dimension's name and value.
type Dimension = (&'static str, String);

/// One value of one metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datum {
    name: &'static str,
    unit: Unit,
    value: u64,
    dimension: Option<Dimension>,
}

impl Datum {
    fn plain(name: &'static str, unit: Unit, value: u64) -> Self {
        Self {
            name,
            unit,
            value,
            dimension: None,
        }
    }

    fn one(name: &'static str, dimension: &'static str, value: &str) -> Self {
        Self {
            name,
            unit: Unit::Count,
            value: 1,
            dimension: Some((dimension, value.to_owned())),
        }
    }
}

/// What a decision adds.
pub fn of_decision(decision: &Decision<'_>) -> Vec<Datum> {
    match decision {
        Decision::EventIgnored { .. }
        | Decision::DropClaimed
        | Decision::BuildWaits { .. }
        | Decision::TargetEnded { .. } => Vec::new(),
        Decision::RevisionRegistered { counts } => counts.map_or_else(Vec::new, |counts| {
            vec![
                Datum::plain(BYTES_COPIED, Unit::Bytes, counts.bytes_copied),
                Datum::plain(BYTES_SENT, Unit::Bytes, counts.bytes_put),
            ]
        }),
        Decision::DeploymentCreated {
            seconds_from_upload,
        } => vec![Datum::plain(
            UPLOAD_TO_DEPLOYMENT,
            Unit::Seconds,
            seconds_from_upload.unsigned_abs(),
        )],
        Decision::DropEnded {
            status,
            seconds_from_upload,
            findings,
        } => {
            let mut data = vec![Datum::one(DROPS, STATUS, status.as_str())];
            if *status != DropStatus::Ignored {
                let seconds = seconds_from_upload.unsigned_abs();
                data.push(Datum::plain(UPLOAD_TO_OUTCOME, Unit::Seconds, seconds));
            }
            if *status == DropStatus::Rejected {
                let codes = codes(findings).into_iter();
                data.extend(codes.map(|code| Datum::one(REFUSED, CODE, code)));
            }
            data
        }
        Decision::DeploymentRecorded {
            status,
            has_ended: true,
            ..
        } => outcome(*status).map_or_else(Vec::new, |outcome| {
            vec![Datum::one(DEPLOYMENTS, OUTCOME, outcome)]
        }),
        Decision::DeploymentRecorded { .. } => Vec::new(),
        Decision::Settled { waiting, .. } => {
            let waiting = u64::try_from(*waiting).unwrap_or(u64::MAX);
            vec![Datum::plain(WAITING, Unit::Count, waiting)]
        }
    }
}

/// Changes of records that had to be made anew because somebody else was faster; nothing where there were none.
pub fn of_conflicts(retried: u64) -> Vec<Datum> {
    if retried == 0 {
        return Vec::new();
    }
    vec![Datum::plain(CONFLICTS, Unit::Count, retried)]
}

/// How a deployment can end, as the metric says it.
fn outcome(status: DeploymentStatus) -> Option<&'static str> {
    match status {
        DeploymentStatus::Succeeded => Some("succeeded"),
        DeploymentStatus::Failed => Some("failed"),
        DeploymentStatus::Stopped => Some("stopped"),
        _ => None,
    }
}

/// The codes of what refused a drop, each once.
fn codes(findings: &[Finding]) -> BTreeSet<&str> {
    let refused = findings.iter().filter(|finding| finding.refuses());
    refused
        .map(|finding| {
            // Records are read back, and whoever may write them must not make up metrics.
            let code = finding.code.as_str();
            let fits =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            if code.len() <= CODE_BYTES_MAX && code.bytes().all(fits) {
                code
            } else {
                "other"
            }
        })
        .take(CODES_MAX)
        .collect()
}

/// The lines of JSON for these values: one for each set of dimensions and each value of it.
///
/// `level` and `timestamp` are what Lambda's own log-level filter looks at.
pub fn lines(namespace: &Namespace, now: Timestamp, data: &[Datum]) -> Vec<String> {
    let mut groups: Vec<(Option<&Dimension>, Vec<&Datum>)> = Vec::new();
    for datum in data {
        let dimension = datum.dimension.as_ref();
        let known = groups.iter_mut().find(|(of, members)| {
            *of == dimension && members.iter().all(|member| member.name != datum.name)
        });
        match known {
            Some((_, members)) => members.push(datum),
            None => groups.push((dimension, vec![datum])),
        }
    }
    groups
        .into_iter()
        .map(|(dimension, members)| line(namespace, now, dimension, &members))
        .collect()
}

fn line(
    namespace: &Namespace,
    now: Timestamp,
    dimension: Option<&Dimension>,
    members: &[&Datum],
) -> String {
    let definitions: Vec<Value> = members
        .iter()
        .map(|datum| json!({ "Name": datum.name, "Unit": datum.unit.as_str() }))
        .collect();
    let names: Vec<&str> = dimension.iter().map(|(name, _)| *name).collect();
    let mut fields = Map::new();
    fields.insert("timestamp".to_owned(), json!(now));
    fields.insert("level".to_owned(), json!("INFO"));
    for datum in members {
        fields.insert(datum.name.to_owned(), json!(datum.value));
    }
    if let Some((name, value)) = dimension {
        fields.insert((*name).to_owned(), json!(value));
    }
    fields.insert(
        "_aws".to_owned(),
        json!({
            "Timestamp": now.as_millisecond(),
            "CloudWatchMetrics": [{
                "Namespace": namespace.as_str(),
                "Dimensions": [names],
                "Metrics": definitions,
            }],
        }),
    );
    Value::Object(fields).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace() -> Namespace {
        "stagedrop".parse().unwrap()
    }

    fn written(decision: &Decision<'_>) -> Vec<Value> {
        let now = Timestamp::from_millisecond(1_790_000_000_123).unwrap();
        lines(&namespace(), now, &of_decision(decision))
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn ok_a_line_is_what_the_format_asks_for() {
        let lines = written(&Decision::DropEnded {
            status: DropStatus::Succeeded,
            seconds_from_upload: 42,
            findings: &[],
        });
        assert_eq!(
            lines,
            [
                json!({
                    "_aws": {
                        "Timestamp": 1_790_000_000_123_u64,
                        "CloudWatchMetrics": [{
                            "Namespace": "stagedrop",
                            "Dimensions": [["Status"]],
                            "Metrics": [{ "Name": "Drops", "Unit": "Count" }],
                        }],
                    },
                    "level": "INFO", "timestamp": "2026-09-21T14:13:20.123Z",
                    "Status": "succeeded", "Drops": 1,
                }),
                json!({
                    "_aws": {
                        "Timestamp": 1_790_000_000_123_u64,
                        "CloudWatchMetrics": [{
                            "Namespace": "stagedrop",
                            "Dimensions": [[]],
                            "Metrics": [{ "Name": "UploadToOutcome", "Unit": "Seconds" }],
                        }],
                    },
                    "level": "INFO", "timestamp": "2026-09-21T14:13:20.123Z",
                    "UploadToOutcome": 42,
                }),
            ]
        );
    }

    #[test]
    fn ok_a_rejected_drop_counts_each_code_once_and_no_warning() {
        let findings = [
            Finding::refuse("hook-script-missing", "", ""),
            Finding::refuse("hook-script-missing", "", ""),
            Finding::refuse("appspec-os", "", ""),
            Finding::warn("entry-repeated", "", ""),
            Finding::refuse("Made up by whoever may write records", "", ""),
        ];
        let lines = written(&Decision::DropEnded {
            status: DropStatus::Rejected,
            seconds_from_upload: 1,
            findings: &findings,
        });
        let codes: Vec<&str> = lines
            .iter()
            .filter_map(|line| line["Code"].as_str())
            .collect();
        assert_eq!(codes, ["appspec-os", "hook-script-missing", "other"]);
    }

    #[test]
    fn ok_bytes_of_one_revision_share_a_line() {
        let lines = written(&Decision::RevisionRegistered {
            counts: Some(crate::records::drop::RevisionCounts {
                bytes_copied: 5,
                bytes_put: 7,
                ..Default::default()
            }),
        });
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["BytesCopied"], 5);
        assert_eq!(lines[0]["BytesSent"], 7);
        assert_eq!(
            lines[0]["_aws"]["CloudWatchMetrics"][0]["Metrics"]
                .as_array()
                .unwrap()
                .len(),
            2
        );
    }

    #[test]
    fn ok_every_metric_is_in_the_table_with_its_unit_and_dimension() {
        let findings = [Finding::refuse("appspec-os", "", "")];
        let decisions = [
            Decision::RevisionRegistered {
                counts: Some(Default::default()),
            },
            Decision::DeploymentCreated {
                seconds_from_upload: 1,
            },
            Decision::DropEnded {
                status: DropStatus::Rejected,
                seconds_from_upload: 1,
                findings: &findings,
            },
            Decision::DeploymentRecorded {
                status: DeploymentStatus::Failed,
                has_ended: true,
                error_code: None,
            },
            Decision::Settled {
                groups: 0,
                waiting: 0,
                abandoned: 0,
            },
        ];
        let mut found: Vec<_> = decisions
            .iter()
            .flat_map(of_decision)
            .chain(of_conflicts(3))
            .map(|datum| {
                (
                    datum.name,
                    datum.unit,
                    datum.dimension.map(|(name, _)| name),
                )
            })
            .collect();
        found.sort_by_key(|(name, ..)| *name);
        let mut expected = METRICS.to_vec();
        expected.sort_by_key(|(name, ..)| *name);
        assert_eq!(found, expected);
    }

    #[test]
    fn ok_what_changes_nothing_is_not_counted() {
        assert_eq!(of_conflicts(0), []);
        let recorded = |status, has_ended| {
            of_decision(&Decision::DeploymentRecorded {
                status,
                has_ended,
                error_code: None,
            })
        };
        assert_eq!(recorded(DeploymentStatus::InProgress, false), []);
        assert_eq!(recorded(DeploymentStatus::Succeeded, false), []);
    }

    #[test]
    fn err_namespaces_that_cloudwatch_does_not_take() {
        for text in ["", "AWS/Lambda", ":x", "a b", "ü", &"x".repeat(256)] {
            assert!(text.parse::<Namespace>().is_err(), "{text}");
        }
        for text in ["stagedrop", "my-stack", "a/b.c_d#e:f"] {
            assert!(text.parse::<Namespace>().is_ok(), "{text}");
        }
    }
}
