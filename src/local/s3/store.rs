//! What the embedded S3 holds: buckets, keys, versions and uploads in progress.
//!
//! Owns the state and its transitions, each of them atomic under one lock: conditions are judged
//! at the moment of the write, as on AWS. Knows neither HTTP nor XML, and reads no body.
//!
//! | write | versioning off | enabled | suspended |
//! |---|---|---|---|
//! | object | replaces | new version on top | replaces the `null` version, on top |
//! | delete | removes | delete marker on top | `null` delete marker on top |
//! | delete a version | removes it | removes it | removes it |

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use jiff::Timestamp;

use super::blob::{Spill, Spool};
use super::checksums::{Algorithm, Checksum, Kind, Wanted, base64, hex};
use super::error::StoreError;
use super::object::{
    Attributes, Condition, Content, Deleted, Found, NULL_VERSION, ObjectCreated, VERSION_ID_LENGTH,
    Version, Written, check_attributes, check_key, check_tags, check_version_id, now,
};
use super::uploads::Upload;

/// Whether a bucket keeps versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Versioning {
    /// Never switched on.
    #[default]
    Off,
    /// Each write makes a version.
    Enabled,
    /// Was on: writes go to the `null` version.
    Suspended,
}

/// A write that has begun: its condition held then, and holds or not when it is [committed].
///
/// [committed]: Store::commit
#[derive(Debug)]
pub struct Ticket {
    pub(super) bucket: String,
    pub(super) key: String,
    condition: Condition,
    /// Set by a delete of the key that comes between.
    pub(super) disturbed: Arc<AtomicBool>,
}

/// Hears of each new object, on the thread that wrote it: must not block.
pub type Sink = Arc<dyn Fn(ObjectCreated) + Send + Sync>;

#[derive(Debug, Default)]
pub(super) struct Key {
    /// Oldest first.
    pub(super) versions: Vec<Arc<Version>>,
}

impl Key {
    fn current(&self) -> Option<&Content> {
        self.versions
            .last()
            .and_then(|version| version.content.as_ref())
    }
}

#[derive(Debug, Default)]
pub(super) struct Bucket {
    created: Option<SystemTime>,
    versioning: Versioning,
    pub(super) keys: BTreeMap<String, Key>,
    pub(super) uploads: BTreeMap<String, Upload>,
    /// Conditional writes that have begun, by key.
    begun: HashMap<String, Vec<Weak<AtomicBool>>>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    buckets: BTreeMap<String, Bucket>,
    ids: u64,
    sequencer: u64,
}

/// The buckets of one account.
pub struct Store {
    state: Mutex<State>,
    spill: Spill,
    sinks: Mutex<Vec<Sink>>,
    /// Makes the ids of two runs differ.
    seed: u64,
}

impl Store {
    /// No buckets; large bodies in a folder inside `folder` or the system's temporary folder.
    pub fn new(folder: Option<PathBuf>) -> std::io::Result<Self> {
        let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0u8);
        Ok(Self {
            state: Mutex::default(),
            spill: Spill::new(folder)?,
            sinks: Mutex::default(),
            seed,
        })
    }

    /// Tells `sink` of each object from now on.
    pub fn observe(&self, sink: Sink) {
        self.sinks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(sink);
    }

    /// A place for a body to arrive at.
    pub fn spool(&self, wanted: Wanted) -> Spool {
        Spool::new(&self.spill, wanted)
    }

    /// Makes a bucket.
    pub fn create_bucket(&self, bucket: &str) -> Result<(), StoreError> {
        let mut state = self.state();
        if state.buckets.contains_key(bucket) {
            return Err(StoreError::BucketAlreadyOwnedByYou);
        }
        let made = Bucket {
            created: Some(now()),
            ..Bucket::default()
        };
        state.buckets.insert(bucket.to_owned(), made);
        Ok(())
    }

    /// Removes an empty bucket.
    pub fn delete_bucket(&self, bucket: &str) -> Result<(), StoreError> {
        let mut state = self.state();
        if !state.bucket(bucket)?.keys.is_empty() {
            return Err(StoreError::BucketNotEmpty);
        }
        state.buckets.remove(bucket);
        Ok(())
    }

    /// Names and times of creation of all buckets.
    pub fn buckets(&self) -> Vec<(String, SystemTime)> {
        let state = self.state();
        let created = |bucket: &Bucket| bucket.created.unwrap_or(UNIX_EPOCH);
        state
            .buckets
            .iter()
            .map(|(name, bucket)| (name.clone(), created(bucket)))
            .collect()
    }

    /// Whether a bucket keeps versions.
    pub fn versioning(&self, bucket: &str) -> Result<Versioning, StoreError> {
        Ok(self.state().bucket(bucket)?.versioning)
    }

    /// Switches versions on or off.
    pub fn set_versioning(&self, bucket: &str, wanted: Versioning) -> Result<(), StoreError> {
        self.state().bucket(bucket)?.versioning = wanted;
        Ok(())
    }

    /// An object: its current version, or the one named.
    pub fn find(&self, bucket: &str, key: &str, id: Option<&str>) -> Result<Found, StoreError> {
        let mut state = self.state();
        let versions = state
            .bucket(bucket)?
            .keys
            .get(key)
            .map(|key| key.versions.as_slice());
        let versions = versions.unwrap_or_default();
        let version = match id {
            None => versions.last().ok_or(StoreError::NoSuchKey(None))?,
            Some(id) => {
                check_version_id(id)?;
                versions
                    .iter()
                    .find(|version| version.id == id)
                    .ok_or(StoreError::NoSuchVersion)?
            }
        };
        match (&version.content, id) {
            (Some(content), _) => Ok(Found {
                version: Arc::clone(version),
                content: content.clone(),
            }),
            (None, None) => Err(StoreError::NoSuchKey(Some(version.id.clone()))),
            (None, Some(_)) => Err(StoreError::DeleteMarker(version.id.clone())),
        }
    }

    /// Changes the tags of an object and tells which version that was.
    pub fn set_tags(
        &self,
        bucket: &str,
        key: &str,
        id: Option<&str>,
        tags: BTreeMap<String, String>,
    ) -> Result<Option<String>, StoreError> {
        check_tags(&tags)?;
        let found = self.find(bucket, key, id)?;
        let mut state = self.state();
        let versions = state
            .bucket(bucket)?
            .keys
            .get_mut(key)
            .map(|key| &mut key.versions);
        let version = versions
            .and_then(|versions| versions.iter_mut().find(|held| held.id == found.version.id))
            .ok_or(StoreError::NoSuchKey(None))?;
        if let Some(content) = &mut Arc::make_mut(version).content {
            content.attributes.tags = tags;
        }
        Ok(found.version_id())
    }

    /// Begins a write: checks names, metadata and the condition as they are now.
    pub fn begin(
        &self,
        bucket: &str,
        key: &str,
        attributes: &Attributes,
        condition: Condition,
    ) -> Result<Ticket, StoreError> {
        check_key(key)?;
        check_attributes(attributes)?;
        let mut state = self.state();
        let held = state.bucket(bucket)?;
        condition.judge(held.keys.get(key).and_then(Key::current))?;
        let disturbed = Arc::new(AtomicBool::new(false));
        if condition != Condition::Always {
            held.begun.retain(|_, tickets| {
                tickets.retain(|ticket| ticket.strong_count() > 0);
                !tickets.is_empty()
            });
            held.begun
                .entry(key.to_owned())
                .or_default()
                .push(Arc::downgrade(&disturbed));
        }
        Ok(Ticket {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            condition,
            disturbed,
        })
    }

    /// Ends a write: the object is there, or its condition does not hold any more.
    pub fn commit(
        &self,
        ticket: Ticket,
        content: Content,
        reason: &'static str,
    ) -> Result<Written, StoreError> {
        let (written, event) = self.state().write(&ticket, content, reason, self.seed)?;
        self.tell(event);
        Ok(written)
    }

    /// Deletes the current version of an object, or the one named.
    ///
    /// `etag` is the condition of `If-Match`, `*` for any object.
    pub fn delete(
        &self,
        bucket: &str,
        key: &str,
        id: Option<&str>,
        etag: Option<&str>,
    ) -> Result<Deleted, StoreError> {
        check_key(key)?;
        let mut state = self.state();
        let new_id = state.new_id(self.seed);
        let held = state.bucket(bucket)?;
        if let Some(etag) = etag {
            let current = held.keys.get(key).and_then(Key::current);
            if !current.is_some_and(|content| etag == "*" || content.etag == etag) {
                return Err(StoreError::PreconditionFailed("If-Match"));
            }
        }
        for ticket in held
            .begun
            .get(key)
            .into_iter()
            .flatten()
            .filter_map(Weak::upgrade)
        {
            ticket.store(true, Ordering::Relaxed);
        }
        match id {
            Some(id) => held.delete_version(key, id),
            None => Ok(held.delete_current(key, new_id)),
        }
    }

    pub(super) fn tell(&self, event: ObjectCreated) {
        let sinks = self
            .sinks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for sink in sinks {
            sink(event.clone());
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }
}

/// Short ways for tests and for seeding a bucket; they tell the sinks like any other write.
impl Store {
    /// Writes an object.
    pub fn put(
        &self,
        bucket: &str,
        key: &str,
        data: impl Into<Bytes>,
        attributes: Attributes,
    ) -> Result<Written, StoreError> {
        let ticket = self.begin(bucket, key, &attributes, Condition::Always)?;
        let wanted = Wanted {
            checksum: Some(Algorithm::Crc64Nvme),
            payload_sha256: false,
        };
        let mut spool = self.spool(wanted);
        spool.write(&data.into())?;
        let (blob, digests) = spool.finish();
        let checksum = digests.checksum.map(|value| Checksum {
            algorithm: Algorithm::Crc64Nvme,
            kind: Kind::FullObject,
            value: base64(&value),
        });
        let etag = hex(&digests.md5);
        let content = Content {
            blob,
            etag,
            checksum,
            parts: Vec::new(),
            attributes,
        };
        self.commit(ticket, content, "PutObject")
    }

    /// Makes an object's current version older, as if it had been written that long ago.
    pub fn age(&self, bucket: &str, key: &str, by: Duration) -> Result<(), StoreError> {
        let mut state = self.state();
        let key = state.bucket(bucket)?.keys.get_mut(key);
        let version = key
            .and_then(|key| key.versions.last_mut())
            .ok_or(StoreError::NoSuchKey(None))?;
        let version = Arc::make_mut(version);
        version.modified = version.modified.checked_sub(by).unwrap_or(UNIX_EPOCH);
        Ok(())
    }

    /// The bytes of an object's current version.
    pub fn get(&self, bucket: &str, key: &str) -> Result<Bytes, StoreError> {
        Ok(self.find(bucket, key, None)?.content.blob.read()?)
    }

    /// The keys under a prefix whose current version is an object.
    pub fn keys(&self, bucket: &str, prefix: &str) -> Result<Vec<String>, StoreError> {
        let mut state = self.state();
        let keys = state.bucket(bucket)?.keys.iter();
        let present =
            keys.filter(|(name, key)| name.starts_with(prefix) && key.current().is_some());
        Ok(present.map(|(name, _)| name.clone()).collect())
    }

    /// All versions and delete markers of a key, oldest first.
    pub fn versions(&self, bucket: &str, key: &str) -> Result<Vec<Arc<Version>>, StoreError> {
        let mut state = self.state();
        let held = state.bucket(bucket)?.keys.get(key);
        Ok(held.map(|key| key.versions.clone()).unwrap_or_default())
    }

    /// How many multipart uploads of a bucket are neither completed nor aborted.
    pub fn uploads_in_progress(&self, bucket: &str) -> Result<usize, StoreError> {
        Ok(self.state().bucket(bucket)?.uploads.len())
    }
}

impl State {
    pub(super) fn bucket(&mut self, bucket: &str) -> Result<&mut Bucket, StoreError> {
        self.buckets.get_mut(bucket).ok_or(StoreError::NoSuchBucket)
    }

    /// An id that no other thing has: opaque, of the length of AWS's version ids.
    pub(super) fn new_id(&mut self, seed: u64) -> String {
        use sha2::Digest as _;
        self.ids += 1;
        let mut hasher = sha2::Sha256::new();
        hasher.update(seed.to_be_bytes());
        hasher.update(self.ids.to_be_bytes());
        let mut id = hex(&hasher.finalize());
        id.truncate(VERSION_ID_LENGTH);
        id
    }

    /// Later than all before, and near the clock so that it reads like AWS's.
    fn next_sequencer(&mut self) -> String {
        let micros = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_micros();
        let clock = u64::try_from(micros).unwrap_or_default();
        self.sequencer = clock.max(self.sequencer + 1);
        format!("{:018X}", self.sequencer)
    }

    pub(super) fn write(
        &mut self,
        ticket: &Ticket,
        content: Content,
        reason: &'static str,
        seed: u64,
    ) -> Result<(Written, ObjectCreated), StoreError> {
        let held = self.bucket(&ticket.bucket)?;
        ticket
            .condition
            .judge(held.keys.get(&ticket.key).and_then(Key::current))?;
        if ticket.disturbed.load(Ordering::Relaxed) {
            return Err(StoreError::ConditionalRequestConflict);
        }
        let versioning = held.versioning;
        let id = match versioning {
            Versioning::Enabled => self.new_id(seed),
            Versioning::Off | Versioning::Suspended => NULL_VERSION.to_owned(),
        };
        let is_versioned = versioning != Versioning::Off;
        let version_id = is_versioned.then(|| id.clone());
        let (modified, etag) = (now(), content.etag.clone());
        let event = ObjectCreated {
            bucket: ticket.bucket.clone(),
            key: ticket.key.clone(),
            size: content.blob.length(),
            etag: etag.clone(),
            version_id: version_id.clone(),
            sequencer: self.next_sequencer(),
            reason,
            time: Timestamp::now(),
        };
        let version = Version {
            id,
            is_versioned,
            modified,
            content: Some(content),
        };
        self.bucket(&ticket.bucket)?.push(&ticket.key, version);
        Ok((
            Written {
                etag,
                version_id,
                modified,
            },
            event,
        ))
    }
}

impl Bucket {
    /// Puts a version on top; a `null` version takes the place of the one before.
    fn push(&mut self, key: &str, version: Version) {
        let held = self.keys.entry(key.to_owned()).or_default();
        if version.id == NULL_VERSION {
            held.versions.retain(|held| held.id != NULL_VERSION);
        }
        held.versions.push(Arc::new(version));
    }

    fn delete_current(&mut self, key: &str, new_id: String) -> Deleted {
        let id = match self.versioning {
            Versioning::Off => {
                self.keys.remove(key);
                return Deleted::default();
            }
            Versioning::Enabled => new_id,
            Versioning::Suspended => NULL_VERSION.to_owned(),
        };
        let marker = Version {
            id: id.clone(),
            is_versioned: true,
            modified: now(),
            content: None,
        };
        self.push(key, marker);
        Deleted {
            version_id: Some(id),
            is_marker: true,
        }
    }

    fn delete_version(&mut self, key: &str, id: &str) -> Result<Deleted, StoreError> {
        check_version_id(id)?;
        let mut deleted = Deleted {
            version_id: Some(id.to_owned()),
            is_marker: false,
        };
        let Some(held) = self.keys.get_mut(key) else {
            return Ok(deleted);
        };
        if let Some(at) = held.versions.iter().position(|version| version.id == id) {
            deleted.is_marker = held.versions.remove(at).content.is_none();
        }
        if held.versions.is_empty() {
            self.keys.remove(key);
        }
        Ok(deleted)
    }
}
