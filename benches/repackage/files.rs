//! Repackaging from file to file: what the plans and their execution cost without a network.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use globset::GlobSet;
use stagedrop::archive::{ArchiveFormat, Index, Limits};
use stagedrop::artifact::OpenedArtifact;
use stagedrop::contents::{Choice, Contents, choose_contents};
use stagedrop::deployment::Region;
use stagedrop::object::{BucketName, ByteRange, ETag, ObjectKey, SourceObject, VersionId};
use stagedrop::revision::{
    self, MultipartUploads, NewObject, ObjectHead, ObjectReader, ObjectStore, PartReceipt, Upload,
    WrittenObject,
};
use stagedrop::service_error::{Kind, ServiceError};
use stagedrop::splice::parts::{Delivery, Joins, Part, PartLimits, plan_parts};
use stagedrop::splice::{Assembler, SplicePlan, plan_splice};
use stagedrop::transcode::Transcoder;
use zip::{ZipArchive, ZipWriter};

use crate::Outcome;

/// Zip to zip by a plan: what is left out is not read, what is kept is not inflated.
pub fn splice(source: &str, target: &str, root: &str) -> Outcome<()> {
    let files = Files::open(source, target)?;
    waiting(async {
        let opened = OpenedArtifact::open(&files, files.object()?, &Limits::default()).await?;
        let Index::Zip(index) = &*opened.index else {
            return Err(format!("`{source}` is no zip").into());
        };
        let contents = chosen(&opened.index, root)?;
        let plan = plan_splice(index, &contents.entries)?;
        let target = files.target.lock().unwrap_or_else(PoisonError::into_inner);
        carry_out(&plan, &files.source, &target.file)
    })
}

const MIB: u64 = 1 << 20;

/// The limits of a file: none, but for the size of a copy that is worth a call of its own.
const FILE_LIMITS: PartLimits = PartLimits {
    copy_object_bytes_max: u64::MAX,
    read_already_bytes_max: 0,
    put_object_bytes_max: 0,
    part_bytes_min: MIB / 4,
    part_bytes_max: u64::MAX,
    parts_max: u64::MAX,
    // Both sides of the copy stay in the cache of a core.
    upload_part_bytes: MIB / 4,
    copy_part_bytes: u64::MAX,
    gap_bytes_max: MIB / 16,
    get_bytes_max: 8 * MIB,
    joins: Joins::Never,
};

/// Carries a plan out; long stretches are copied by the kernel where it can.
fn carry_out(plan: &SplicePlan<'_>, source: &File, mut target: &File) -> Outcome<()> {
    let parts = plan_parts(plan, &FILE_LIMITS)?;
    if parts.delivery == Delivery::CopyObject {
        return Ok(copy(source, target, ByteRange::new(0, plan.source_size()))?);
    }
    let mut buffer = Vec::new();
    for part in parts.parts() {
        let upload = match part {
            Part::Copy(range) => {
                copy(source, target, *range)?;
                continue;
            }
            Part::Upload(upload) => upload,
            Part::Join(_) => return Err("a file is not joined from parts".into()),
        };
        let mut assembler = Assembler::new(plan, upload);
        for range in upload.gets() {
            buffer.resize(usize::try_from(range.length())?, 0);
            source.read_exact_at(&mut buffer, range.start)?;
            assembler.feed(range.start, &buffer)?;
        }
        target.write_all(&assembler.finish()?)?;
    }
    Ok(())
}

/// tar.gz to zip, by the code that the function runs.
pub fn transcode(source: &str, target: &str, root: &str) -> Outcome<()> {
    let files = Files::open(source, target)?;
    waiting(async {
        let limits = Limits::default();
        let opened = OpenedArtifact::open(&files, files.object()?, &limits).await?;
        let contents = chosen(&opened.index, root)?;
        let index = opened.index.clone();
        let estimate = index.entries().map(|entry| entry.size + 2_048).sum();
        let zip = ArchiveFormat::Zip;
        let transcoder = Transcoder::new(index, contents.entries, zip, &limits)?;
        let object = files.new_object()?;
        revision::transcode(&files, &opened.source, transcoder, estimate, &object).await?;
        Ok(())
    })
}

/// Zip to zip as a program with the `zip` crate would: every entry kept is copied raw under its new name.
pub fn raw_copy(source: &str, target: &str, root: &str) -> Outcome<()> {
    let prefix = prefix(root);
    let mut source = ZipArchive::new(BufReader::new(File::open(source)?))?;
    let mut target = ZipWriter::new(BufWriter::new(File::create(target)?));
    for position in 0..source.len() {
        let entry = source.by_index_raw(position)?;
        let name = entry.name()?.strip_prefix(&prefix).map(str::to_owned);
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            continue;
        };
        if !name.split('/').any(|component| component == ".git") {
            target.raw_copy_file_rename(entry, name)?;
        }
    }
    target.finish()?.flush()?;
    Ok(())
}

fn waiting<T>(future: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    tokio::runtime::Builder::new_multi_thread()
        .build()?
        .block_on(future)
}

/// The root of the settings (`/app`) as a prefix of names.
fn prefix(root: &str) -> String {
    match root.trim_matches('/') {
        "" => String::new(),
        root => format!("{root}/"),
    }
}

/// What of `index` goes into the revision.
fn chosen(index: &Index, root: &str) -> Outcome<Contents> {
    let choice = Choice {
        application_root: &prefix(root),
        exclude: &GlobSet::empty(),
        format: index.format(),
    };
    choose_contents(index, &choice).map_err(|findings| {
        let texts: Vec<_> = findings
            .iter()
            .map(|finding| finding.message.as_str())
            .collect();
        texts.join("; ").into()
    })
}

/// Two files as an object store: one is the artifact, the other becomes the revision.
struct Files {
    source: File,
    target: Mutex<Target>,
}

struct Target {
    file: File,
    parts: u32,
}

impl Files {
    fn open(source: &str, target: &str) -> Outcome<Self> {
        let file = |result: io::Result<File>, path: &str| {
            result.map_err(|error| format!("`{path}` cannot be opened: {error}"))
        };
        let target = Target {
            file: file(File::create(target), target)?,
            parts: 0,
        };
        Ok(Self {
            source: file(File::open(source), source)?,
            target: Mutex::new(target),
        })
    }

    fn object(&self) -> Outcome<SourceObject> {
        Ok(SourceObject {
            bucket: "files".parse()?,
            key: "artifact".parse()?,
            version_id: None,
            etag: ETag::from("artifact"),
            size: self.source.metadata()?.len(),
        })
    }

    fn new_object(&self) -> Outcome<NewObject> {
        Ok(NewObject {
            region: "us-east-1".parse()?,
            bucket: "files".parse()?,
            key: "revision".parse()?,
            metadata: Default::default(),
            content_type: "application/zip",
            replace: false,
            is_revision: true,
        })
    }

    /// Adds a part. They come in their order, because nothing waits on files.
    fn add(
        &self,
        number: u32,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<PartReceipt, ServiceError> {
        let mut target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        target.parts += 1;
        if target.parts != number {
            let message = format!("part {number} came as number {}", target.parts);
            return Err(failed(io::Error::other(message)));
        }
        write(&mut target.file).map_err(failed)?;
        Ok(PartReceipt {
            number,
            etag: ETag::from("part"),
            crc32: None,
        })
    }
}

fn failed(error: io::Error) -> ServiceError {
    ServiceError {
        operation: "file",
        resource: "file".to_owned(),
        kind: Kind::Refused,
        code: None,
        message: error.to_string(),
    }
}

fn written() -> WrittenObject {
    WrittenObject {
        etag: ETag::from("revision"),
        version_id: None,
    }
}

impl ObjectReader for Files {
    async fn read(&self, _: &SourceObject, range: ByteRange) -> Result<Bytes, ServiceError> {
        let mut bytes = vec![0; usize::try_from(range.length()).unwrap_or_default()];
        self.source
            .read_exact_at(&mut bytes, range.start)
            .map_err(failed)?;
        Ok(bytes.into())
    }
}

impl ObjectStore for Files {
    async fn head(
        &self,
        _: Option<&Region>,
        _: &BucketName,
        _: &ObjectKey,
        _: Option<&VersionId>,
        _: Option<&ETag>,
    ) -> Result<ObjectHead, ServiceError> {
        Err(failed(io::ErrorKind::Unsupported.into()))
    }

    async fn put(&self, _: &NewObject, body: Bytes) -> Result<WrittenObject, ServiceError> {
        self.add(1, |file| file.write_all(&body))?;
        Ok(written())
    }

    async fn copy(
        &self,
        _: &NewObject,
        source: &SourceObject,
    ) -> Result<WrittenObject, ServiceError> {
        let whole = ByteRange::new(0, source.size);
        self.add(1, |file| copy(&self.source, file, whole))?;
        Ok(written())
    }

    async fn delete(&self, _: &NewObject, _: &WrittenObject) -> Result<(), ServiceError> {
        Ok(())
    }

    async fn is_versioned(&self, _: &BucketName, _: &Region) -> Result<bool, ServiceError> {
        Ok(false)
    }
}

impl MultipartUploads for Files {
    async fn begin(&self, object: &NewObject) -> Result<Upload, ServiceError> {
        Ok(Upload {
            object: object.clone(),
            upload_id: "upload".to_owned(),
        })
    }

    async fn send_part(
        &self,
        _: &Upload,
        number: u32,
        body: Bytes,
    ) -> Result<PartReceipt, ServiceError> {
        self.add(number, |file| file.write_all(&body))
    }

    async fn copy_part(
        &self,
        _: &Upload,
        number: u32,
        _: &SourceObject,
        range: ByteRange,
    ) -> Result<PartReceipt, ServiceError> {
        self.add(number, |file| copy(&self.source, file, range))
    }

    async fn complete(&self, _: &Upload, _: &[PartReceipt]) -> Result<WrittenObject, ServiceError> {
        Ok(written())
    }

    async fn abort(&self, _: &Upload) -> Result<(), ServiceError> {
        Ok(())
    }
}

fn copy(mut source: &File, mut target: &File, range: ByteRange) -> io::Result<()> {
    source.seek(SeekFrom::Start(range.start))?;
    let copied = io::copy(&mut source.take(range.length()), &mut target)?;
    if copied == range.length() {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}
