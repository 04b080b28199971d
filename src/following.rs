//! A drop's record, looked at again and again, as lines that tell each change once.
//!
//! Owns what is worth a line, the words, and whether an end is a good one. Refuses to know terminals, time
//! and where the record is read: a look goes in, lines come out.

use std::collections::BTreeMap;

use crate::deployment::{DeploymentError, TargetFailure};
use crate::finding::{Finding, Severity};
use crate::records::drop::{Drop, DropStatus, DropTarget};

/// How a line is meant; a terminal shows it as a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// News.
    Plain,
    /// It went well.
    Good,
    /// It went badly.
    Bad,
    /// It may bite.
    Warn,
}

/// One line: a word of [`Tone`], and what it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// How it is meant.
    pub tone: Tone,
    /// The first word; empty on lines that carry on the one before.
    pub word: String,
    /// The rest.
    pub text: String,
}

impl Line {
    fn new(tone: Tone, word: &str, text: impl Into<String>) -> Self {
        Self {
            tone,
            word: word.to_owned(),
            text: text.into(),
        }
    }

    fn carry_on(text: impl Into<String>) -> Self {
        Self::new(Tone::Plain, "", text)
    }
}

/// The lines of a log tail that are shown, the last ones.
const LOG_LINES_SHOWN_MAX: usize = 40;
/// Targets of a failed deployment that are shown, those that failed first.
const FAILURES_SHOWN_MAX: usize = 5;

/// Whether an end is a good one: nothing had to be done, it was done, or a newer build did it.
pub fn is_good(status: DropStatus) -> bool {
    matches!(
        status,
        DropStatus::Succeeded | DropStatus::Superseded | DropStatus::Ignored
    )
}

/// How an end is shown.
pub fn tone_of(status: DropStatus) -> Tone {
    match status {
        DropStatus::Succeeded => Tone::Good,
        DropStatus::Failed | DropStatus::Rejected | DropStatus::Stopped => Tone::Bad,
        DropStatus::Ignored | DropStatus::Superseded => Tone::Warn,
        DropStatus::Waiting | DropStatus::Deploying => Tone::Plain,
    }
}

/// What was told already.
#[derive(Debug, Default)]
pub struct Follower {
    is_taken: bool,
    findings_told: usize,
    /// By `application/group`.
    targets: BTreeMap<String, (DropStatus, bool)>,
}

impl Follower {
    /// What is new in this look.
    pub fn look(&mut self, drop: &Drop) -> Vec<Line> {
        let mut lines = Vec::new();
        if !self.is_taken {
            self.is_taken = true;
            let block = match &drop.deployment_block {
                Some(block) => format!("by deployment block `{block}`"),
                None => "being read".to_owned(),
            };
            if !drop.status.is_terminal() {
                lines.push(Line::new(Tone::Plain, "taken", block));
            }
        }
        for finding in drop.findings.iter().skip(self.findings_told) {
            lines.extend(finding_lines(finding));
        }
        self.findings_told = self.findings_told.max(drop.findings.len());
        for target in &drop.deployments {
            let name = format!("{}/{}", target.application, target.deployment_group);
            let now = (target.status, target.deployment_id.is_some());
            if self.targets.get(&name) != Some(&now) {
                lines.extend(target_lines(&name, target));
                self.targets.insert(name, now);
            }
        }
        lines
    }
}

/// A finding as every command prints it.
pub fn finding_lines(finding: &Finding) -> Vec<Line> {
    let (tone, word) = match finding.severity {
        Severity::Refuse => (Tone::Bad, "refused"),
        Severity::Warn => (Tone::Warn, "warning"),
    };
    let place = match (&finding.path, finding.line, finding.column) {
        (Some(path), Some(line), Some(column)) => format!("{path}:{line}:{column}: "),
        (Some(path), Some(line), None) => format!("{path}:{line}: "),
        (Some(path), _, _) => format!("{path}: "),
        (None, _, _) => String::new(),
    };
    vec![
        Line::new(
            tone,
            word,
            format!("{place}{} [{}]", finding.message, finding.code),
        ),
        Line::carry_on(finding.cure.clone()),
    ]
}

fn target_lines(name: &str, target: &DropTarget) -> Vec<Line> {
    let deployment = target
        .deployment_id
        .as_ref()
        .map(|id| format!(", deployment {id}"))
        .unwrap_or_default();
    let text = match target.status {
        DropStatus::Deploying if target.deployment_id.is_none() => {
            format!("{name}: making the revision")
        }
        DropStatus::Waiting => format!("{name}: the group is busy"),
        DropStatus::Superseded => match target
            .superseded_by
            .as_ref()
            .and_then(|by| by.build_num.as_deref())
        {
            Some(build_num) => format!("{name}: build {build_num} is newer"),
            None => format!("{name}: a newer build took its place"),
        },
        _ => format!("{name}{deployment}"),
    };
    let mut lines = vec![Line::new(
        tone_of(target.status),
        target.status.as_str(),
        text,
    )];
    if target.status.is_terminal() {
        lines.extend(reason_lines(target.error.as_ref(), &target.failures));
    }
    lines
}

/// Why a deployment failed: CodeDeploy's reason, then target, lifecycle event, script and log of those that
/// failed first.
pub fn reason_lines(error: Option<&DeploymentError>, failures: &[TargetFailure]) -> Vec<Line> {
    let mut lines = Vec::new();
    if let Some(error) = error {
        lines.push(Line::carry_on(format!("{}: {}", error.code, error.message)));
    }
    for failure in failures.iter().take(FAILURES_SHOWN_MAX) {
        lines.push(Line::carry_on(format!("target  {}", failure.target_id)));
        let fields = [
            ("event   ", &failure.lifecycle_event),
            ("script  ", &failure.script),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                lines.push(Line::carry_on(format!("{name}{value}")));
            }
        }
        let reason = match (&failure.error_code, &failure.message) {
            (Some(code), Some(message)) => Some(format!("{code}: {message}")),
            (code, message) => code.clone().or_else(|| message.clone()),
        };
        if let Some(reason) = reason {
            lines.push(Line::carry_on(format!("error   {}", printable(&reason))));
        }
        let log = failure.log_tail.as_deref().unwrap_or_default();
        let log: Vec<&str> = log.lines().collect();
        for line in log
            .iter()
            .skip(log.len().saturating_sub(LOG_LINES_SHOWN_MAX))
        {
            lines.push(Line::carry_on(format!("log     | {}", printable(line))));
        }
    }
    if failures.len() > FAILURES_SHOWN_MAX {
        let more = failures.len() - FAILURES_SHOWN_MAX;
        lines.push(Line::carry_on(format!("and {more} more targets")));
    }
    lines
}

/// A script's output must not move the reader's cursor or colour the terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c == '\t' { ' ' } else { c })
        .filter(|c| !c.is_control())
        .collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::key_pattern::Build;
    use crate::object::SourceObject;
    use crate::records::drop::Artifact;
    use crate::records::group::SupersededBy;

    fn drop() -> Drop {
        let artifact = Artifact {
            object: SourceObject {
                bucket: "artifacts".parse().unwrap(),
                key: "staging/a.zip".parse().unwrap(),
                version_id: None,
                etag: "e".into(),
                size: 1,
            },
            sequencer: None,
            uploaded_at: Timestamp::UNIX_EPOCH,
        };
        Drop::claimed(artifact, Build::default(), Timestamp::UNIX_EPOCH)
    }

    fn target(status: DropStatus) -> DropTarget {
        let name = ("shop".parse().unwrap(), "production".parse().unwrap());
        let region = "us-east-1".parse().unwrap();
        DropTarget {
            status,
            ..DropTarget::noted(name, region, None, Timestamp::UNIX_EPOCH)
        }
    }

    fn told(lines: &[Line]) -> Vec<String> {
        lines
            .iter()
            .map(|line| format!("{} {}", line.word, line.text))
            .collect()
    }

    #[test]
    fn ok_each_change_is_told_once() {
        let mut follower = Follower::default();
        let mut drop = drop();
        assert_eq!(told(&follower.look(&drop)), ["taken being read"]);
        assert!(follower.look(&drop).is_empty());
        drop.deployments = vec![target(DropStatus::Waiting)];
        assert_eq!(
            told(&follower.look(&drop)),
            ["waiting shop/production: the group is busy"]
        );
        assert!(follower.look(&drop).is_empty());
        drop.deployments[0].status = DropStatus::Deploying;
        drop.deployments[0].deployment_id = Some("d-ABC".parse().unwrap());
        assert_eq!(
            told(&follower.look(&drop)),
            ["deploying shop/production, deployment d-ABC"]
        );
        drop.deployments[0].status = DropStatus::Succeeded;
        drop.status = DropStatus::Succeeded;
        assert_eq!(
            told(&follower.look(&drop)),
            ["succeeded shop/production, deployment d-ABC"]
        );
    }

    #[test]
    fn ok_a_failure_names_target_event_script_and_log_without_control_characters() {
        let mut failed = target(DropStatus::Failed);
        failed.deployment_id = Some("d-ABC".parse().unwrap());
        failed.error = Some(DeploymentError {
            code: "HEALTH_CONSTRAINTS".to_owned(),
            message: "too many failed".to_owned(),
        });
        failed.failures = vec![TargetFailure {
            target_id: "i-1".to_owned(),
            lifecycle_event: Some("AfterInstall".to_owned()),
            script: Some("scripts/after.sh".to_owned()),
            error_code: Some("ScriptFailed".to_owned()),
            message: Some("exit code 3".to_owned()),
            log_tail: Some("one\n\u{1b}[31mtwo\u{7}\n".to_owned()),
            failed_at: None,
        }];
        let mut drop = drop();
        drop.status = DropStatus::Failed;
        drop.deployments = vec![failed];
        assert_eq!(
            told(&Follower::default().look(&drop)),
            [
                "failed shop/production, deployment d-ABC",
                " HEALTH_CONSTRAINTS: too many failed",
                " target  i-1",
                " event   AfterInstall",
                " script  scripts/after.sh",
                " error   ScriptFailed: exit code 3",
                " log     | one",
                " log     | [31mtwo",
            ]
        );
    }

    #[test]
    fn ok_whoever_overtook_is_named() {
        let mut overtaken = target(DropStatus::Superseded);
        overtaken.superseded_by = Some(SupersededBy {
            drop: None,
            build_num: Some("48".to_owned()),
        });
        let mut drop = drop();
        drop.status = DropStatus::Superseded;
        drop.deployments = vec![overtaken];
        assert_eq!(
            told(&Follower::default().look(&drop)),
            ["superseded shop/production: build 48 is newer"]
        );
    }

    #[test]
    fn ok_every_end_is_good_or_bad() {
        use DropStatus::*;
        for (status, good) in [
            (Succeeded, true),
            (Superseded, true),
            (Ignored, true),
            (Failed, false),
            (Rejected, false),
            (Stopped, false),
            (Waiting, false),
            (Deploying, false),
        ] {
            assert_eq!(is_good(status), good, "{status:?}");
        }
    }
}
