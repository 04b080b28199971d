//! Group documents as text: what is live, running and waiting, and how the last ones ended.
//!
//! Owns the columns and the words. Values to text; the time now is handed in.

use jiff::Timestamp;

use crate::following::{Line, Tone};
use crate::key_pattern::Build;
use crate::records::group::{EndStatus, Group, Outcome, Running};

/// Waiting builds that are shown of a group; there may be a thousand.
const WAITING_SHOWN_MAX: usize = 10;
/// Characters of a reason.
const REASON_CHARS_MAX: usize = 160;

/// A group's state: a heading without a word, then what is live, running and waiting.
pub fn state_lines(group: &Group, now: Timestamp) -> Vec<Line> {
    let mut lines = vec![line(
        Tone::Plain,
        "live",
        match &group.live {
            Some(live) => format!(
                "{}, for {}, deployment {}",
                build_text(live.build.as_ref()),
                age(live.since, now),
                live.deployment_id
            ),
            None => "nothing".to_owned(),
        },
    )];
    if let Some(running) = &group.running {
        lines.push(line(Tone::Warn, "running", running_text(running, now)));
    }
    for ticket in group.waiting.iter().take(WAITING_SHOWN_MAX) {
        lines.push(line(
            Tone::Plain,
            "waiting",
            format!(
                "{}, uploaded {} ago",
                build_text(Some(&ticket.build)),
                age(ticket.uploaded_at, now)
            ),
        ));
    }
    let more = group.waiting.len().saturating_sub(WAITING_SHOWN_MAX);
    if more > 0 {
        lines.push(line(Tone::Plain, "waiting", format!("and {more} more")));
    }
    lines
}

/// The last outcomes, newest first, at most `shown_max`.
pub fn outcome_lines(group: &Group, shown_max: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    for outcome in group.outcomes.iter().take(shown_max) {
        lines.push(outcome_line(outcome));
        if let Some(reason) = &outcome.reason {
            let mut readable = reason.chars().filter(|c| !c.is_control());
            let mut shown: String = readable.by_ref().take(REASON_CHARS_MAX).collect();
            if readable.next().is_some() {
                shown.push('…');
            }
            lines.push(line(Tone::Plain, "", shown));
        }
    }
    lines
}

fn line(tone: Tone, word: &str, text: String) -> Line {
    Line {
        tone,
        word: word.to_owned(),
        text,
    }
}

fn outcome_line(outcome: &Outcome) -> Line {
    let (tone, word) = match outcome.status {
        EndStatus::Succeeded => (Tone::Good, "succeeded"),
        EndStatus::Failed => (Tone::Bad, "failed"),
        EndStatus::Rejected => (Tone::Bad, "rejected"),
        EndStatus::Stopped => (Tone::Bad, "stopped"),
        EndStatus::Superseded => (Tone::Warn, "superseded"),
    };
    let mut text = build_text(outcome.build.as_ref());
    if outcome.build.as_ref().is_some_and(|build| build.redeploy) {
        text.push_str(", redeployed");
    }
    if let Some(by) = &outcome.superseded_by
        && let Some(build_num) = &by.build_num
    {
        text.push_str(&format!(", by build {build_num}"));
    }
    text.push_str(&format!(
        ", {}",
        outcome.ended_at.strftime("%Y-%m-%d %H:%M:%SZ")
    ));
    if let Some(seconds) = outcome.duration_seconds {
        text.push_str(&format!(", took {}", duration(seconds)));
    }
    if let Some(id) = &outcome.deployment_id {
        text.push_str(&format!(", deployment {id}"));
    }
    line(tone, word, text)
}

fn running_text(running: &Running, now: Timestamp) -> String {
    match running {
        Running::Intended { ticket, since, .. } => format!(
            "{}, asked for {} ago",
            build_text(Some(&ticket.build)),
            age(*since, now)
        ),
        Running::Deploying {
            ticket,
            deployment_id,
            since,
        } => format!(
            "{}, for {}, deployment {deployment_id}",
            build_text(Some(&ticket.build)),
            age(*since, now)
        ),
        Running::Foreign {
            deployment_id,
            since,
        } => {
            let id = deployment_id
                .as_ref()
                .map_or(String::new(), |id| format!(", deployment {id}"));
            format!("somebody else's, for {}{id}", age(*since, now))
        }
    }
}

/// `build 47, branch master, commit 3f2c1a9, by alice`.
fn build_text(build: Option<&Build>) -> String {
    let Some(build) = build else {
        return "an unknown build".to_owned();
    };
    let parts = [
        ("build", build.build_num.as_deref()),
        ("tag", build.tag.as_deref()),
        ("branch", build.branch.as_deref()),
        ("commit", build.short_commit()),
        ("by", build.author.as_deref()),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter_map(|(word, value)| Some(format!("{word} {}", (*value)?)))
        .collect();
    if parts.is_empty() {
        "a build without a name".to_owned()
    } else {
        parts.join(", ")
    }
}

fn age(since: Timestamp, now: Timestamp) -> String {
    duration(now.as_second().saturating_sub(since.as_second()))
}

/// `12 s`, `3 min`, `5 h`, `2 d`: as fine as it matters.
fn duration(seconds: i64) -> String {
    match seconds.max(0) {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::group::Live;

    fn group() -> Group {
        Group::new(
            "shop".parse().unwrap(),
            "production".parse().unwrap(),
            "us-east-1".parse().unwrap(),
        )
    }

    fn build(build_num: &str) -> Build {
        Build {
            build_num: Some(build_num.to_owned()),
            branch: Some("master".to_owned()),
            commit: Some("3f2c1a9d5b7e8f60412233445566778899aabbcc".to_owned()),
            author: Some("alice".to_owned()),
            ..Build::default()
        }
    }

    #[test]
    fn ok_a_group_says_what_is_live_and_running() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let ago = |seconds: i64| Timestamp::from_second(1_000_000 - seconds).unwrap();
        let mut group = group();
        assert_eq!(state_lines(&group, now)[0].text, "nothing");
        group.live = Some(Live {
            deployment_id: "d-ABC".parse().unwrap(),
            drop: None,
            revision: None,
            build: Some(build("46")),
            uploaded_at: None,
            since: ago(10_000),
        });
        group.running = Some(Running::Foreign {
            deployment_id: None,
            since: ago(90),
        });
        let texts: Vec<_> = state_lines(&group, now)
            .into_iter()
            .map(|line| format!("{} {}", line.word, line.text))
            .collect();
        assert_eq!(
            texts,
            [
                "live build 46, branch master, commit 3f2c1a9, by alice, for 2 h, deployment d-ABC",
                "running somebody else's, for 90 s",
            ]
        );
    }

    #[test]
    fn ok_an_outcome_says_build_end_duration_and_reason_in_one_line() {
        let mut group = group();
        group.outcomes = vec![Outcome {
            status: EndStatus::Failed,
            deployment_id: Some("d-ABC".parse().unwrap()),
            drop: None,
            build: Some(Build {
                redeploy: true,
                ..build("47")
            }),
            revision: None,
            uploaded_at: None,
            creator: None,
            ended_at: Timestamp::from_second(0).unwrap(),
            duration_seconds: Some(150),
            reason: Some("HEALTH_CONSTRAINTS:\u{1b}[2J too many".to_owned()),
            superseded_by: None,
        }];
        let texts: Vec<_> = outcome_lines(&group, 9)
            .into_iter()
            .map(|line| format!("{} {}", line.word, line.text))
            .collect();
        assert_eq!(
            texts,
            [
                "failed build 47, branch master, commit 3f2c1a9, by alice, redeployed, 1970-01-01 00:00:00Z, took 2 min, deployment d-ABC",
                " HEALTH_CONSTRAINTS:[2J too many",
            ]
        );
    }
}
