//! A drop's record, read until it ends, on behalf of whoever staged the drop.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use stagedrop::aws::Aws;
use stagedrop::deployment::DeploymentId;
use stagedrop::destination::Staged;
use stagedrop::following::{self, Follower, Line, Tone};
use stagedrop::object::{ETag, ObjectKey, S3Prefix, VersionId};
use stagedrop::records::drop::{Drop, DropId, DropStatus, DropTarget};
use stagedrop::records::{DOCUMENT_BYTES_MAX, DocumentStore, drop_name};
use stagedrop::revision::WrittenObject;
use stagedrop::service_error::{Kind, ServiceError};
use tokio::time::Instant;

use super::interrupt::{Interrupt, Interrupted};
use super::voice::{Trouble, print_json, say};
use super::{Output, outcome_code};

/// The first pause between two looks; it grows by half each time.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How following ended.
enum Followed {
    /// The drop has ended.
    Ended(Box<Drop>),
    /// The key was staged anew, and its record tells of that drop, so that nothing there will tell how ours ends;
    /// what was seen last of ours.
    Replaced(Box<Drop>),
    /// Time is up; what was seen last and what kept us from seeing more.
    TimedOut(Option<Box<Drop>>, Option<ServiceError>),
    /// A signal was heard.
    Interrupted(Interrupted),
}

/// The record of one staged key.
pub struct DropRecord<'a> {
    aws: &'a Aws,
    records: &'a S3Prefix,
    key: ObjectKey,
    /// The drop that the record told of before ours was staged.
    before: Option<DropId>,
}

fn record_key(records: &S3Prefix, staged_key: &ObjectKey) -> Result<ObjectKey, Trouble> {
    Ok(records.key(&drop_name(staged_key.as_str()))?)
}

/// Where the record of a staged key lies.
pub fn record_uri(records: &S3Prefix, staged_key: &ObjectKey) -> Result<String, Trouble> {
    let key = record_key(records, staged_key)?;
    Ok(format!("s3://{}/{key}", records.bucket))
}

impl<'a> DropRecord<'a> {
    /// Looks at the record before anything is staged, so that an older drop of the key is known.
    pub async fn before_staging(
        aws: &'a Aws,
        records: &'a S3Prefix,
        staged_key: &ObjectKey,
    ) -> Result<Self, Trouble> {
        let mut record = Self {
            aws,
            records,
            key: record_key(records, staged_key)?,
            before: None,
        };
        match record.look().await {
            Ok(drop) => record.before = drop.map(|drop| drop.drop_id),
            // Without the right to list, S3 says so of a record that is not there yet.
            Err(Missing::NotTold(error)) if error.kind == Kind::AccessDenied => {}
            Err(Missing::NotTold(error)) => return Err(error.into()),
            Err(Missing::Unreadable(trouble)) => return Err(trouble),
        }
        Ok(record)
    }

    fn uri(&self) -> String {
        format!("s3://{}/{}", self.records.bucket, self.key)
    }

    async fn look(&self) -> Result<Option<Drop>, Missing> {
        let stored = self
            .aws
            .get(&self.records.bucket, &self.key, DOCUMENT_BYTES_MAX)
            .await
            .map_err(Missing::NotTold)?;
        stored
            .map(|stored| {
                serde_json::from_slice(&stored.bytes).map_err(|error| {
                    Missing::Unreadable(Trouble::new(
                        format!("{} is not a drop's record: {error}", self.uri()),
                        "use a version of stagedrop like the functions'",
                    ))
                })
            })
            .transpose()
    }

    /// Follows the drop of what was written to its end; `tell` gets each change once.
    async fn follow(
        &self,
        written: &WrittenObject,
        timeout: Duration,
        interrupt: &mut Interrupt,
        mut tell: impl FnMut(&Line),
    ) -> Result<Followed, Trouble> {
        let deadline = Instant::now() + timeout;
        let mut follower = Follower::default();
        let mut pause = PAUSE_MIN;
        let mut last: Option<Box<Drop>> = None;
        loop {
            let unseen = match self.look().await {
                Ok(Some(drop)) if self.is_ours(&drop, written) => {
                    let lines = follower.look(&drop);
                    if !lines.is_empty() {
                        pause = PAUSE_MIN;
                    }
                    lines.iter().for_each(&mut tell);
                    if drop.status.is_terminal() {
                        return Ok(Followed::Ended(Box::new(drop)));
                    }
                    last = Some(Box::new(drop));
                    None
                }
                Ok(Some(drop)) => match &last {
                    Some(ours) if drop.drop_id != ours.drop_id => {
                        return Ok(Followed::Replaced(ours.clone()));
                    }
                    _ => None,
                },
                Ok(None) => None,
                Err(Missing::NotTold(error))
                    if matches!(
                        error.kind,
                        Kind::AccessDenied | Kind::Throttled | Kind::Unavailable
                    ) =>
                {
                    Some(error)
                }
                Err(Missing::NotTold(error)) => return Err(error.into()),
                Err(Missing::Unreadable(trouble)) => return Err(trouble),
            };
            let now = Instant::now();
            if now >= deadline {
                return Ok(Followed::TimedOut(last, unseen));
            }
            tokio::select! {
                () = tokio::time::sleep_until(deadline.min(now + pause)) => {}
                interrupted = interrupt.heard() => return Ok(Followed::Interrupted(interrupted)),
            }
            pause = (pause * 3 / 2).min(PAUSE_MAX);
        }
    }

    fn is_ours(&self, drop: &Drop, written: &WrittenObject) -> bool {
        is_of(
            &drop.artifact.object.etag,
            drop.artifact.object.version_id.as_ref(),
            written,
        ) && self.before.as_ref() != Some(&drop.drop_id)
    }
}

fn is_of(etag: &ETag, version_id: Option<&VersionId>, written: &WrittenObject) -> bool {
    match (&written.version_id, version_id) {
        (Some(ours), Some(theirs)) => ours == theirs,
        _ => written.etag == *etag,
    }
}

/// Why there is no record to be seen.
enum Missing {
    NotTold(ServiceError),
    Unreadable(Trouble),
}

/// Follows a staged object's record and tells how it ended; where it is not to be followed, that it is staged.
pub async fn conclude(
    record: Option<&DropRecord<'_>>,
    staged: &Staged,
    written: &WrittenObject,
    timeout: Duration,
    output: Output,
    interrupt: &mut Interrupt,
) -> Result<ExitCode, Trouble> {
    let is_text = output == Output::Text;
    let Some(record) = record else {
        if !is_text {
            print_json(&report(staged, Some(written), None))?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    let started = Instant::now();
    let followed = record
        .follow(written, timeout, interrupt, |line| {
            if is_text {
                say(line);
            }
        })
        .await?;
    match followed {
        Followed::Ended(drop) => {
            if is_text {
                let seconds = started.elapsed().as_secs();
                say(&Line {
                    tone: following::tone_of(drop.status),
                    word: drop.status.as_str().to_owned(),
                    text: format!("after {seconds} s"),
                });
            } else {
                let drop_json = serde_json::to_value(&drop).map_err(|error| error.to_string())?;
                print_json(&report(staged, Some(written), Some(drop_json)))?;
            }
            Ok(outcome_code(following::is_good(drop.status)))
        }
        Followed::Replaced(last) => {
            if is_text {
                say(&Line {
                    tone: Tone::Bad,
                    word: "replaced".to_owned(),
                    text: format!(
                        "{} was staged anew while {}",
                        staged.key,
                        left_behind(&last)
                    ),
                });
            } else {
                print_unfinished(staged, written, Some(&last), "replaced")?;
            }
            Ok(outcome_code(false))
        }
        Followed::TimedOut(last, unseen) => {
            let seconds = timeout.as_secs();
            let state = match (&last, &unseen) {
                (Some(drop), _) => format!("it is {}", drop.status.as_str()),
                (None, Some(error)) => format!("its record cannot be read: {error}"),
                (None, None) => format!("there is no record of it at {}", record.uri()),
            };
            if is_text {
                say(&Line {
                    tone: Tone::Bad,
                    word: "timeout".to_owned(),
                    text: format!("not ended after {seconds} s: {state}"),
                });
            } else {
                print_unfinished(staged, written, last.as_deref(), "timed_out")?;
            }
            Ok(outcome_code(false))
        }
        Followed::Interrupted(interrupted) => {
            anstream::eprintln!(
                "stagedrop: interrupted; the build stays staged, its outcome will stand in {}",
                record.uri()
            );
            Ok(interrupted.exit_code())
        }
    }
}

/// What of a drop goes on although its record tells of a newer one, and where that can be seen.
///
/// It may be deployed all the same, also where it waited: what was staged anew supersedes it only once it has a
/// place in the same queue, and until then its turn may come.
fn left_behind(last: &Drop) -> String {
    let open: Vec<&DropTarget> = last
        .deployments
        .iter()
        .filter(|target| !target.status.is_terminal())
        .collect();
    let ids: Vec<&str> = open
        .iter()
        .filter_map(|target| target.deployment_id.as_ref())
        .map(DeploymentId::as_str)
        .collect();
    let is_waiting = open
        .iter()
        .any(|target| target.status == DropStatus::Waiting);
    let state = match ids.as_slice() {
        [] if is_waiting => "it waited for its turn, which may still come".to_owned(),
        [] => "it was being made ready, and it may still be deployed".to_owned(),
        [id] => format!("deployment {id} was under way"),
        ids => format!("deployments {} were under way", ids.join(", ")),
    };
    match open.as_slice() {
        [target] => format!(
            "{state}; see `stagedrop history {} {}`",
            target.application, target.deployment_group
        ),
        _ => format!("{state}; see `stagedrop status`"),
    }
}

/// Tells programs of a drop whose end was not seen: its status is the last that was, and `why` is true.
fn print_unfinished(
    staged: &Staged,
    written: &WrittenObject,
    last: Option<&Drop>,
    why: &str,
) -> Result<(), Trouble> {
    let drop_json = last
        .map(serde_json::to_value)
        .transpose()
        .map_err(|error| error.to_string())?;
    let mut report = report(staged, Some(written), drop_json);
    if let Some(fields) = report.as_object_mut() {
        fields.insert(why.to_owned(), Value::Bool(true));
    }
    print_json(&report)
}

/// What programs are told.
pub fn report(staged: &Staged, written: Option<&WrittenObject>, drop: Option<Value>) -> Value {
    let status = drop.as_ref().map(|drop| drop["status"].clone());
    json!({
        "staged": {
            "bucket": staged.bucket,
            "key": staged.key,
            "metadata": staged.metadata,
            "etag": written.map(|written| written.etag.unquoted()),
            "version_id": written.and_then(|written| written.version_id.as_ref()),
        },
        "status": status,
        "drop": drop,
    })
}
