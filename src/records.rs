//! The records: the only state there is, and the only lock.
//!
//! ```text
//! <records>/drops/<staging key>.json                            one drop: the claim, and what CI reads
//! <records>/groups/<application>/<deployment group>.json        who runs, who waits
//! <records>/deployments/<deployment id>.json                    one deployment and why it ended so
//! <records>/open/groups/<application>/<group>/<epoch>           a group with something open
//! <records>/open/drops/<drop id>                                a drop with something open
//! ```
//!
//! Documents change by compare-and-swap on their ETag ([`Records::update_group`] and its like): the change
//! is a function of the document as it is, and is applied again where somebody else was faster. The
//! markers under `open/` let the schedule find what is open without reading what is not. A group's marker
//! carries the number of its busy period, so that the one who closes a period never deletes the marker of
//! the next.

pub mod deployment;
pub mod drop;
pub mod group;
pub mod queue;
mod store;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use self::deployment::DeploymentRecord;
use self::drop::{Drop, DropId};
use self::group::Group;
use crate::deployment::{ApplicationName, DeploymentGroupName, DeploymentId, Region};
use crate::fault::{Retry, RetryReason};
use crate::object::{ETag, ObjectKey, S3Prefix};
use crate::service_error::{Kind, ServiceError};

pub use self::store::{Condition, DocumentStore, ListedKey, StoredDocument};

/// Times that a change is applied anew before the contention is given back to Lambda.
pub const CONTENTION_RETRIES_MAX: u32 = 40;
/// Bytes of a document; the largest, a group's with a thousand waiting builds, stays far below.
pub const DOCUMENT_BYTES_MAX: u64 = 8 << 20;
/// Markers that one schedule looks at; what is over is looked at by the next.
pub const MARKERS_MAX: usize = 5_000;
/// The longest pause between two tries of the same change.
const CONTENTION_PAUSE_MAX: Duration = Duration::from_millis(800);
/// Documents that are remembered as last seen.
const SEEN_MAX: usize = 64;

/// What to do with a document after looking at it.
#[derive(Debug)]
pub enum Change<T, R> {
    /// Write this one; `R` is what the caller wants to know of it.
    Write(T, R),
    /// Leave it.
    Keep(R),
}

/// A marker under `open/groups/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenGroup {
    /// Application.
    pub application: ApplicationName,
    /// Deployment group.
    pub deployment_group: DeploymentGroupName,
    /// The number of the busy period.
    pub epoch: u64,
    /// When the period began.
    pub since: Timestamp,
}

/// A marker under `open/drops/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenDrop {
    /// Which drop.
    pub drop_id: DropId,
    /// When it was claimed.
    pub since: Timestamp,
}

/// What a marker under `open/drops/` holds.
#[derive(Serialize, Deserialize)]
struct DropMarker {
    staged_key: String,
}

/// The records under one prefix.
#[derive(Debug)]
pub struct Records<D> {
    store: D,
    place: S3Prefix,
    contention: AtomicU64,
    /// Documents as this invocation saw them last, `None` where there was none. Saves the read before a
    /// write: the write's condition tells whether the document is still so. Where nothing is to be written,
    /// the document is read.
    seen: Mutex<HashMap<ObjectKey, Option<StoredDocument>>>,
}

impl<D: DocumentStore> Records<D> {
    /// The records under `place`.
    pub fn new(store: D, place: S3Prefix) -> Self {
        Self {
            store,
            place,
            contention: AtomicU64::new(0),
            seen: Mutex::default(),
        }
    }

    /// Where the documents are kept.
    pub fn store(&self) -> &D {
        &self.store
    }

    /// Where they lie.
    pub fn place(&self) -> &S3Prefix {
        &self.place
    }

    /// How often a change had to be applied anew since this was last asked.
    pub fn take_contention(&self) -> u64 {
        self.contention.swap(0, Ordering::Relaxed)
    }

    /// Forgets what was seen of the documents: a new invocation finds them changed, most likely.
    pub fn forget(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clear();
    }

    /// Whether the drop's document of that staged key can have a key at all (S3 allows 1,024 bytes).
    pub fn can_hold(&self, staged_key: &ObjectKey) -> bool {
        self.key(&drop_name(staged_key.as_str())).is_ok()
    }

    /// The drop of a staged key.
    ///
    /// # Errors
    /// AWS trouble, or a document that is not a drop.
    pub async fn drop(&self, staged_key: &str) -> Result<Option<Drop>, Retry> {
        Ok(self
            .read(&self.key(&drop_name(staged_key))?)
            .await?
            .map(|(drop, _)| drop))
    }

    /// Changes the drop of a staged key.
    ///
    /// # Errors
    /// AWS trouble, or more contention than [`CONTENTION_RETRIES_MAX`].
    pub async fn update_drop<R: Send>(
        &self,
        staged_key: &str,
        change: impl FnMut(Option<Drop>) -> Change<Drop, R> + Send,
    ) -> Result<R, Retry> {
        self.update(&self.key(&drop_name(staged_key))?, change)
            .await
    }

    /// The record of a deployment.
    ///
    /// # Errors
    /// AWS trouble, or a document that is not a deployment's.
    pub async fn deployment(&self, id: &DeploymentId) -> Result<Option<DeploymentRecord>, Retry> {
        Ok(self
            .read(&self.key(&deployment_name(id))?)
            .await?
            .map(|(record, _)| record))
    }

    /// Changes the record of a deployment.
    ///
    /// # Errors
    /// AWS trouble, or more contention than [`CONTENTION_RETRIES_MAX`].
    pub async fn update_deployment<R: Send>(
        &self,
        id: &DeploymentId,
        change: impl FnMut(Option<DeploymentRecord>) -> Change<DeploymentRecord, R> + Send,
    ) -> Result<R, Retry> {
        self.update(&self.key(&deployment_name(id))?, change).await
    }

    /// Takes it that a deployment that was created just now has no record yet; the first change finds out.
    ///
    /// # Errors
    /// A key that S3 does not take.
    pub fn expect_new(&self, id: &DeploymentId) -> Result<(), Retry> {
        self.remember(&self.key(&deployment_name(id))?, None);
        Ok(())
    }

    /// A group's document.
    ///
    /// # Errors
    /// AWS trouble, or a document that is not a group's.
    pub async fn group(
        &self,
        application: &ApplicationName,
        deployment_group: &DeploymentGroupName,
    ) -> Result<Option<Group>, Retry> {
        Ok(self
            .read(&self.key(&group_name(application, deployment_group))?)
            .await?
            .map(|(group, _)| group))
    }

    /// Applies a transition to a group's document, which is made where there is none; `transition` tells
    /// whether it changed anything. Gives the document as it stands afterwards.
    ///
    /// # Errors
    /// AWS trouble, or more contention than [`CONTENTION_RETRIES_MAX`].
    pub async fn update_group<R: Send>(
        &self,
        application: &ApplicationName,
        deployment_group: &DeploymentGroupName,
        region: &Region,
        mut transition: impl FnMut(&mut Group) -> (bool, R) + Send,
    ) -> Result<(Group, R), Retry> {
        let key = self.key(&group_name(application, deployment_group))?;
        for attempt in 0..CONTENTION_RETRIES_MAX {
            let (stored, is_fresh) = self.look::<Group>(&key, attempt).await?;
            let (before, condition) = match stored {
                Some((group, etag)) => (group, Condition::Matches(etag)),
                None => {
                    let group = Group::new(
                        application.clone(),
                        deployment_group.clone(),
                        region.clone(),
                    );
                    (group, Condition::Absent)
                }
            };
            let mut after = before.clone();
            let (changed, answer) = transition(&mut after);
            if !changed {
                if is_fresh {
                    return Ok((before, answer));
                }
                continue;
            }
            if before.is_quiet() && !after.is_quiet() {
                after.epoch = after.epoch.saturating_add(1);
                self.put_marker(&group_marker(&after), b"{}".to_vec())
                    .await?;
            }
            match self.write(&key, encode(&after)?, &condition).await {
                Ok(()) => {
                    if after.is_quiet() && !before.is_quiet() {
                        self.delete_marker(&group_marker(&after)).await?;
                    }
                    return Ok((after, answer));
                }
                Err(error) => self.contend(error, attempt).await?,
            }
        }
        Err(contended(&key))
    }

    /// The groups with something open, at most [`MARKERS_MAX`].
    ///
    /// # Errors
    /// AWS trouble.
    pub async fn open_groups(&self) -> Result<Vec<OpenGroup>, Retry> {
        let folder = format!("{}open/groups/", self.place.prefix);
        let listed = self
            .store
            .list(&self.place.bucket, &folder, MARKERS_MAX)
            .await?;
        Ok(listed
            .iter()
            .filter_map(|found| {
                let mut parts = found.key.strip_prefix(&folder)?.split('/');
                Some(OpenGroup {
                    application: parts.next()?.parse().ok()?,
                    deployment_group: parts.next()?.parse().ok()?,
                    epoch: parts.next()?.parse().ok()?,
                    since: found.written_at,
                })
            })
            .collect())
    }

    /// The drops with something open, at most [`MARKERS_MAX`].
    ///
    /// # Errors
    /// AWS trouble.
    pub async fn open_drops(&self) -> Result<Vec<OpenDrop>, Retry> {
        let folder = format!("{}open/drops/", self.place.prefix);
        let listed = self
            .store
            .list(&self.place.bucket, &folder, MARKERS_MAX)
            .await?;
        Ok(listed
            .iter()
            .filter_map(|found| {
                let drop_id = found.key.strip_prefix(&folder)?.parse().ok()?;
                Some(OpenDrop {
                    drop_id,
                    since: found.written_at,
                })
            })
            .collect())
    }

    /// The staged key that an open drop's marker names.
    ///
    /// # Errors
    /// AWS trouble.
    pub async fn staged_key_of(&self, drop_id: &DropId) -> Result<Option<String>, Retry> {
        let marker: Option<(DropMarker, ETag)> =
            self.read(&self.key(&drop_marker(drop_id))?).await?;
        Ok(marker.map(|(marker, _)| marker.staged_key))
    }

    /// Marks a drop as open.
    ///
    /// # Errors
    /// AWS trouble.
    pub async fn open_drop(&self, drop_id: &DropId, staged_key: &str) -> Result<(), Retry> {
        let marker = DropMarker {
            staged_key: staged_key.to_owned(),
        };
        self.put_marker(&drop_marker(drop_id), encode(&marker)?)
            .await
    }

    /// Takes the mark away.
    ///
    /// # Errors
    /// AWS trouble.
    pub async fn close_drop(&self, drop_id: &DropId) -> Result<(), Retry> {
        self.delete_marker(&drop_marker(drop_id)).await
    }

    /// Takes a group's mark away.
    ///
    /// # Errors
    /// AWS trouble.
    pub async fn close_group(&self, open: &OpenGroup) -> Result<(), Retry> {
        self.delete_marker(&marker_name(
            &open.application,
            &open.deployment_group,
            open.epoch,
        ))
        .await
    }

    async fn update<T, R>(
        &self,
        key: &ObjectKey,
        mut change: impl FnMut(Option<T>) -> Change<T, R> + Send,
    ) -> Result<R, Retry>
    where
        T: Serialize + DeserializeOwned + Send + Sync,
        R: Send,
    {
        for attempt in 0..CONTENTION_RETRIES_MAX {
            let (stored, is_fresh) = self.look(key, attempt).await?;
            let (before, condition) = match stored {
                Some((document, etag)) => (Some(document), Condition::Matches(etag)),
                None => (None, Condition::Absent),
            };
            let (after, answer) = match change(before) {
                Change::Keep(answer) if is_fresh => return Ok(answer),
                Change::Keep(_) => continue,
                Change::Write(after, answer) => (after, answer),
            };
            match self.write(key, encode(&after)?, &condition).await {
                Ok(()) => return Ok(answer),
                Err(error) => self.contend(error, attempt).await?,
            }
        }
        Err(contended(key))
    }

    /// Waits a little where somebody else was faster; any other error goes back.
    async fn contend(&self, error: ServiceError, attempt: u32) -> Result<(), Retry> {
        // A document deleted between read and write answers 404 to If-Match.
        if !matches!(
            error.kind,
            Kind::PreconditionFailed | Kind::Conflict | Kind::NotFound
        ) {
            return Err(error.into());
        }
        if error.kind == Kind::NotFound && error.has_code("NoSuchBucket") {
            return Err(error.into());
        }
        self.contention.fetch_add(1, Ordering::Relaxed);
        let ceiling = Duration::from_millis(10)
            .saturating_mul(1 << attempt.min(7))
            .min(CONTENTION_PAUSE_MAX);
        // Spread by the clock's fine digits, so that competitors do not meet again.
        let spread =
            u64::try_from(Timestamp::now().subsec_nanosecond()).unwrap_or_default() / 1_000;
        let pause = Duration::from_micros(spread % (ceiling.as_micros() as u64 + 1));
        tokio::time::sleep(pause).await;
        Ok(())
    }

    async fn read<T: DeserializeOwned>(&self, key: &ObjectKey) -> Result<Option<(T, ETag)>, Retry> {
        let stored = self
            .store
            .get(&self.place.bucket, key, DOCUMENT_BYTES_MAX)
            .await?;
        self.remember(key, stored.clone());
        stored.map(|stored| self.decode(key, stored)).transpose()
    }

    /// The document to change, and whether it was read just now: a change is first tried on what was seen last.
    async fn look<T: DeserializeOwned>(
        &self,
        key: &ObjectKey,
        attempt: u32,
    ) -> Result<(Option<(T, ETag)>, bool), Retry> {
        let seen = self.take_seen(key).filter(|_| attempt == 0);
        match seen {
            Some(stored) => {
                let document = stored.map(|stored| self.decode(key, stored));
                Ok((document.transpose()?, false))
            }
            None => Ok((self.read(key).await?, true)),
        }
    }

    async fn write(
        &self,
        key: &ObjectKey,
        bytes: Vec<u8>,
        condition: &Condition,
    ) -> Result<(), ServiceError> {
        let written = self
            .store
            .put(&self.place.bucket, key, bytes.clone(), condition)
            .await;
        match written {
            Ok(etag) => {
                self.remember(key, Some(StoredDocument { bytes, etag }));
                Ok(())
            }
            Err(error) => {
                self.take_seen(key);
                Err(error)
            }
        }
    }

    fn remember(&self, key: &ObjectKey, stored: Option<StoredDocument>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= SEEN_MAX {
            seen.clear();
        }
        seen.insert(key.clone(), stored);
    }

    fn take_seen(&self, key: &ObjectKey) -> Option<Option<StoredDocument>> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.remove(key)
    }

    fn decode<T: DeserializeOwned>(
        &self,
        key: &ObjectKey,
        stored: StoredDocument,
    ) -> Result<(T, ETag), Retry> {
        match serde_json::from_slice(&stored.bytes) {
            Ok(document) => Ok((document, stored.etag)),
            Err(error) => Err(Retry {
                reason: RetryReason::RecordUnreadable,
                message: format!(
                    "record s3://{}/{key} cannot be read: {error}",
                    self.place.bucket
                ),
            }),
        }
    }

    async fn put_marker(&self, name: &str, bytes: Vec<u8>) -> Result<(), Retry> {
        self.store
            .put(&self.place.bucket, &self.key(name)?, bytes, &Condition::Any)
            .await?;
        Ok(())
    }

    async fn delete_marker(&self, name: &str) -> Result<(), Retry> {
        Ok(self
            .store
            .delete(&self.place.bucket, &self.key(name)?)
            .await?)
    }

    fn key(&self, name: &str) -> Result<ObjectKey, Retry> {
        self.place.key(name).map_err(|error| Retry {
            reason: RetryReason::Internal,
            message: error.to_string(),
        })
    }
}

/// The name of a drop's document under the records prefix.
pub fn drop_name(staged_key: &str) -> String {
    format!("drops/{staged_key}.json")
}

/// The name of a deployment's document under the records prefix.
pub fn deployment_name(id: &DeploymentId) -> String {
    format!("deployments/{id}.json")
}

/// The name of a group's document under the records prefix.
pub fn group_name(application: &ApplicationName, deployment_group: &DeploymentGroupName) -> String {
    format!("groups/{application}/{deployment_group}.json")
}

fn drop_marker(drop_id: &DropId) -> String {
    format!("open/drops/{drop_id}")
}

fn marker_name(
    application: &ApplicationName,
    deployment_group: &DeploymentGroupName,
    epoch: u64,
) -> String {
    format!("open/groups/{application}/{deployment_group}/{epoch}")
}

fn group_marker(group: &Group) -> String {
    marker_name(&group.application, &group.deployment_group, group.epoch)
}

fn encode(document: &impl Serialize) -> Result<Vec<u8>, Retry> {
    serde_json::to_vec_pretty(document).map_err(|error| Retry {
        reason: RetryReason::Internal,
        message: format!("a record could not be written as JSON: {error}"),
    })
}

fn contended(key: &ObjectKey) -> Retry {
    Retry {
        reason: RetryReason::RecordContention,
        message: format!(
            "record {key} was changed by others {CONTENTION_RETRIES_MAX} times in a row"
        ),
    }
}
