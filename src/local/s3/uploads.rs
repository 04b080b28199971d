//! Multipart uploads in progress, and how their parts become an object.
//!
//! Owns the rules of parts (Amazon S3 user guide, "Multipart upload limits"): numbers, order,
//! sizes, ETags and checksums, all judged at completion, when S3 judges them too.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use super::blob::Blob;
use super::checksums::{self, Algorithm, Checksum, Digests, Kind};
use super::error::StoreError;
use super::object::{Attributes, Condition, Content, Written, check_attributes, check_key, now};
use super::store::{Store, Ticket};

/// Highest part number, and so the most parts.
pub const PART_NUMBER_MAX: u16 = 10_000;

/// Smallest part but the last: 5 MiB.
pub const PART_BYTES_MIN: u64 = 5 * 1024 * 1024;

/// The checksum that an upload was created with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promise {
    /// The algorithm that each part carries.
    pub algorithm: Algorithm,
    /// Over what the object's checksum is taken.
    pub kind: Kind,
}

/// An upload in progress.
#[derive(Debug, Clone)]
pub struct Upload {
    /// Key of the object to be.
    pub key: String,
    /// Headers, metadata and tags of the object to be.
    pub attributes: Attributes,
    /// Checksum promised at the start.
    pub promise: Option<Promise>,
    /// When it was created.
    pub initiated: SystemTime,
    /// Parts by number; a later part takes the place of an earlier one.
    pub parts: BTreeMap<u16, Part>,
    /// Alive while it is being completed.
    completing: Weak<AtomicBool>,
}

/// A part that arrived.
#[derive(Debug, Clone)]
pub struct Part {
    /// Its bytes.
    pub blob: Blob,
    /// Its digests; the checksum is of the algorithm that the upload was promised, if any.
    pub digests: Digests,
    /// When it arrived, in whole seconds.
    pub modified: SystemTime,
}

impl Part {
    /// A part of these bytes, arrived now.
    pub fn new(blob: Blob, digests: Digests) -> Self {
        Self {
            blob,
            digests,
            modified: now(),
        }
    }

    /// MD5, without quotes.
    pub fn etag(&self) -> String {
        checksums::hex(&self.digests.md5)
    }

    /// The additional checksum in base64.
    pub fn checksum(&self) -> Option<String> {
        self.digests.checksum.as_deref().map(checksums::base64)
    }
}

/// A part as the client names it at completion.
#[derive(Debug, Clone, Default)]
pub struct Named {
    /// Its number.
    pub number: i32,
    /// Its ETag, without quotes.
    pub etag: Option<String>,
    /// The checksums that the client names, by algorithm.
    pub checksums: Vec<(Algorithm, String)>,
}

/// What a completion asks for besides the parts.
#[derive(Debug, Clone)]
pub struct Completion {
    /// `If-None-Match` or `If-Match`.
    pub condition: Condition,
    /// `x-amz-mp-object-size`.
    pub object_size: Option<u64>,
    /// `x-amz-checksum-…` of the whole object.
    pub checksum: Option<(Algorithm, String)>,
    /// `x-amz-checksum-type`.
    pub kind: Option<Kind>,
}

/// An object put together of parts, not written yet.
#[derive(Debug)]
pub struct Assembled {
    ticket: Ticket,
    upload_id: String,
    content: Content,
    /// A checksum over the whole that is still to be computed.
    pub missing: Option<Algorithm>,
    expected: Option<String>,
}

impl Assembled {
    /// The bytes of the whole.
    pub fn blob(&self) -> Blob {
        self.content.blob.clone()
    }
}

/// The number of a part, if it is one.
pub fn part_number(number: i32) -> Result<u16, StoreError> {
    u16::try_from(number)
        .ok()
        .filter(|number| (1..=PART_NUMBER_MAX).contains(number))
        .ok_or_else(|| {
            StoreError::argument("Part number must be an integer between 1 and 10000, inclusive")
        })
}

impl Store {
    /// Creates an upload and gives its id.
    pub fn create_upload(
        &self,
        bucket: &str,
        key: &str,
        attributes: Attributes,
        promise: Option<Promise>,
    ) -> Result<String, StoreError> {
        check_key(key)?;
        check_attributes(&attributes)?;
        if let Some(Promise { algorithm, kind }) = promise
            && !algorithm.allows(kind)
        {
            let kind = if kind == Kind::Composite {
                "COMPOSITE"
            } else {
                "FULL_OBJECT"
            };
            return Err(StoreError::request(format!(
                "The {kind} checksum type cannot be used with the {} checksum algorithm.",
                algorithm.name().to_lowercase()
            )));
        }
        let mut state = self.state();
        let id = format!(
            "{}.{}",
            state.new_id(self.seed()),
            state.new_id(self.seed())
        );
        let (key, parts) = (key.to_owned(), BTreeMap::new());
        let upload = Upload {
            key,
            attributes,
            promise,
            initiated: now(),
            parts,
            completing: Weak::new(),
        };
        state.bucket(bucket)?.uploads.insert(id.clone(), upload);
        Ok(id)
    }

    /// An upload as it is now.
    pub fn upload(&self, bucket: &str, key: &str, id: &str) -> Result<Upload, StoreError> {
        let mut state = self.state();
        let upload = state
            .bucket(bucket)?
            .uploads
            .get(id)
            .filter(|upload| upload.key == key);
        upload.cloned().ok_or(StoreError::NoSuchUpload)
    }

    /// The checksum that an upload was promised; cheaper than [`Store::upload`].
    pub fn promise(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
    ) -> Result<Option<Promise>, StoreError> {
        let mut state = self.state();
        let upload = state
            .bucket(bucket)?
            .uploads
            .get(id)
            .filter(|upload| upload.key == key);
        upload
            .map(|upload| upload.promise)
            .ok_or(StoreError::NoSuchUpload)
    }

    /// Adds or replaces a part.
    pub fn put_part(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
        number: u16,
        part: Part,
    ) -> Result<(), StoreError> {
        let mut state = self.state();
        let upload = state
            .bucket(bucket)?
            .uploads
            .get_mut(id)
            .filter(|upload| upload.key == key);
        upload
            .ok_or(StoreError::NoSuchUpload)?
            .parts
            .insert(number, part);
        Ok(())
    }

    /// Gives an upload up.
    pub fn abort_upload(&self, bucket: &str, key: &str, id: &str) -> Result<(), StoreError> {
        self.promise(bucket, key, id)?;
        self.state().bucket(bucket)?.uploads.remove(id);
        Ok(())
    }

    /// Judges a completion and puts the object together; [`Store::finish_upload`] writes it.
    ///
    /// Of two conditional completions for one key at the same time the later gets 409, and its
    /// upload is gone: S3 wants it made anew.
    pub fn assemble(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
        named: &[Named],
        completion: Completion,
    ) -> Result<Assembled, StoreError> {
        let upload = self.upload(bucket, key, id)?;
        let (content, missing) = put_together(&upload, named, &completion)?;
        let is_conditional = completion.condition != Condition::Always;
        let ticket = self.begin(bucket, key, &Attributes::default(), completion.condition)?;
        let mut state = self.state();
        let uploads = &mut state.bucket(bucket)?.uploads;
        let is_completing = |upload: &Upload| upload.completing.strong_count() > 0;
        let rival = uploads
            .iter()
            .any(|(other, upload)| other != id && upload.key == key && is_completing(upload));
        if is_conditional && rival {
            uploads.remove(id);
            return Err(StoreError::ConditionalRequestConflict);
        }
        let upload = uploads.get_mut(id).ok_or(StoreError::NoSuchUpload)?;
        upload.completing = Arc::downgrade(&ticket.disturbed);
        let expected = completion.checksum.map(|(_, value)| value);
        Ok(Assembled {
            ticket,
            upload_id: id.to_owned(),
            content,
            missing,
            expected,
        })
    }

    /// Writes an assembled object; `whole` holds the checksum that was [`Assembled::missing`].
    pub fn finish_upload(
        &self,
        assembled: Assembled,
        whole: Option<Vec<u8>>,
    ) -> Result<Written, StoreError> {
        let Assembled {
            ticket,
            upload_id,
            mut content,
            missing,
            expected,
        } = assembled;
        if let (Some(algorithm), Some(value)) = (missing, whole) {
            let value = checksums::base64(&value);
            content.checksum = Some(Checksum {
                algorithm,
                kind: Kind::FullObject,
                value,
            });
        }
        let mut state = self.state();
        let bucket = ticket.bucket.clone();
        if !state.bucket(&bucket)?.uploads.contains_key(&upload_id) {
            return Err(StoreError::NoSuchUpload);
        }
        if let (Some(expected), Some(found)) = (expected, &content.checksum)
            && found.value != expected
        {
            return Err(StoreError::BadDigest(found.algorithm.name()));
        }
        let done = state.write(&ticket, content, "CompleteMultipartUpload", self.seed());
        if matches!(done, Ok(_) | Err(StoreError::ConditionalRequestConflict)) {
            state.bucket(&bucket)?.uploads.remove(&upload_id);
        }
        drop(state);
        let (written, event) = done?;
        self.tell(event);
        Ok(written)
    }
}

/// The object that the named parts make, and the checksum that only its bytes can tell.
fn put_together(
    upload: &Upload,
    named: &[Named],
    completion: &Completion,
) -> Result<(Content, Option<Algorithm>), StoreError> {
    if named.is_empty() || named.len() > usize::from(PART_NUMBER_MAX) {
        return Err(StoreError::MalformedXml);
    }
    if !named
        .iter()
        .zip(named.iter().skip(1))
        .all(|(one, next)| one.number < next.number)
    {
        return Err(StoreError::InvalidPartOrder);
    }
    let parts = named
        .iter()
        .map(|named| held_part(upload, named))
        .collect::<Result<Vec<_>, _>>()?;
    let short = |part: &&Part| part.blob.length() < PART_BYTES_MIN;
    if parts.iter().take(parts.len() - 1).any(short) {
        return Err(StoreError::EntityTooSmall);
    }
    let blob = Blob::join(parts.iter().map(|part| &part.blob));
    if let Some(size) = completion.object_size
        && size != blob.length()
    {
        return Err(StoreError::request(format!(
            "The provided 'x-amz-mp-object-size' header value {size} does not match what was computed: {}",
            blob.length()
        )));
    }
    let checksum = whole_checksum(upload, named, &parts, completion)?;
    let missing = match (&checksum, upload.promise) {
        (None, Some(promise)) => Some(promise.algorithm),
        _ => None,
    };
    let content = Content {
        blob,
        etag: checksums::multipart_etag(parts.iter().map(|part| &part.digests.md5)),
        checksum,
        parts: parts.iter().map(|part| part.blob.length()).collect(),
        attributes: upload.attributes.clone(),
    };
    Ok((content, missing))
}

fn held_part<'a>(upload: &'a Upload, named: &Named) -> Result<&'a Part, StoreError> {
    let number = u16::try_from(named.number).map_err(|_| StoreError::InvalidPart)?;
    let part = upload.parts.get(&number).ok_or(StoreError::InvalidPart)?;
    let same_etag = named.etag.as_ref().is_some_and(|etag| *etag == part.etag());
    let same_checksums = named.checksums.iter().all(|(algorithm, value)| {
        upload
            .promise
            .is_none_or(|promise| promise.algorithm != *algorithm)
            || part.checksum().as_ref() == Some(value)
    });
    if same_etag && same_checksums {
        Ok(part)
    } else {
        Err(StoreError::InvalidPart)
    }
}

/// The composite checksum of an upload that promised one.
fn whole_checksum(
    upload: &Upload,
    named: &[Named],
    parts: &[&Part],
    completion: &Completion,
) -> Result<Option<Checksum>, StoreError> {
    let Some(Promise { algorithm, kind }) = upload.promise else {
        return Ok(None);
    };
    if completion.kind.is_some_and(|found| found != kind) {
        return Err(StoreError::request(
            "The upload was created using another checksum type than the complete request names.",
        ));
    }
    if kind == Kind::FullObject {
        return Ok(None);
    }
    let lower = algorithm.name().to_lowercase();
    for named in named {
        if !named.checksums.iter().any(|(found, _)| *found == algorithm) {
            return Err(StoreError::request(format!(
                "The upload was created using a {lower} checksum. The complete request must include the checksum for each part. It was missing for part {} in the request.",
                named.number
            )));
        }
    }
    // S3 needs consecutive numbers from 1 under composite checksums, and answers 500 to others.
    if !(1..)
        .zip(named)
        .all(|(number, named)| named.number == number)
    {
        return Err(StoreError::Internal(None));
    }
    let raw = parts
        .iter()
        .map(|part| part.digests.checksum.as_deref().unwrap_or_default());
    let value = checksums::composite(algorithm, raw);
    if let Some((_, expected)) = &completion.checksum
        && expected.split('-').next() != value.split('-').next()
    {
        return Err(StoreError::BadDigest(algorithm.name()));
    }
    Ok(Some(Checksum {
        algorithm,
        kind,
        value,
    }))
}
