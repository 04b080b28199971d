//! A drop's record, read until it ends, on behalf of whoever staged the drop.

use std::time::Duration;

use stagedrop::aws::Aws;
use stagedrop::following::{Follower, Line};
use stagedrop::object::{ETag, ObjectKey, S3Prefix, VersionId};
use stagedrop::records::drop::{Drop, DropId};
use stagedrop::records::{DOCUMENT_BYTES_MAX, DocumentStore, drop_name};
use stagedrop::revision::WrittenObject;
use stagedrop::service_error::{Kind, ServiceError};
use tokio::time::Instant;

use super::interrupt::{Interrupt, Interrupted};
use super::voice::Trouble;

/// The first pause between two looks; it grows by half each time.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How following ended.
pub enum Followed {
    /// The drop has ended.
    Ended(Box<Drop>),
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
            key: records.key(&drop_name(staged_key.as_str()))?,
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

    /// Where it lies.
    pub fn uri(&self) -> String {
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
    pub async fn follow(
        &self,
        written: &WrittenObject,
        timeout: Duration,
        interrupt: &mut Interrupt,
        mut tell: impl FnMut(&Line),
    ) -> Result<Followed, Trouble> {
        let deadline = Instant::now() + timeout;
        let mut follower = Follower::default();
        let mut pause = PAUSE_MIN;
        let mut last = None;
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
                Ok(_) => None,
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
