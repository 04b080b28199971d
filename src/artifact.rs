//! The artifact, opened: its index, and the contents that are looked at before anything is written.
//!
//! Drives the sans-io readers of [`archive`](crate::archive) with ranged reads of the pinned object. A
//! small artifact is read once and kept; of a larger one only what is asked for travels.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use tokio::task::spawn_blocking;

use crate::appspec::AppSpec;
use crate::archive::gzip::{BlockMap, GunzipRanges, GzipError, TarGzError, TarGzScanner};
use crate::archive::tar::{TarError, TarReader, TarScan};
use crate::archive::zip::{ZipError, ZipReader};
use crate::archive::{ArchiveFormat, Index, Limits};
use crate::archive::{tar, zip};
use crate::bundle_check::{self, Bundle, Found, Known, Options, Report};
use crate::contents::{Contents, Entries, PATH_BYTES_MAX};
use crate::finding::Finding;
use crate::finding::codes::archive_refusal;
use crate::object::{ByteRange, SourceObject};
use crate::revision::ObjectReader;
use crate::service_error::ServiceError;

/// An artifact up to this size is read in one request and kept.
pub const KEPT_BYTES_MAX: u64 = 8 << 20;
/// Bytes of one request where a larger artifact is read from front to back.
pub const WINDOW_BYTES: u64 = 4 << 20;
/// Last bytes of a larger artifact that are read at once: a zip's end, and the directory of few files.
const SUFFIX_BYTES: u64 = 128 << 10;
/// The same of an artifact up to [`SMALL_BYTES_MAX`]: it holds small files as a rule, and to ask for the rest of their
/// directory takes longer than these bytes.
const SMALL_SUFFIX_BYTES: u64 = 1 << 20;
/// What is small.
const SMALL_BYTES_MAX: u64 = 64 << 20;
/// Windows that are read ahead.
const WINDOWS_AHEAD: usize = 2;
/// Bytes of one request where a few contents are looked up in a tar.gz.
const INFLATED_WINDOW_BYTES: u64 = 1 << 20;
/// The file of the repository that may say what is deployed.
pub const CIRCLE_YML: &str = "circle.yml";
/// Rounds in which links on the way to the AppSpec and to hook scripts are read.
const LINK_ROUNDS_MAX: u32 = 8;
/// Requests that a sans-io reader may make; a directory or header chain that needs more is not worth it.
const STEPS_MAX: u32 = 1_000_000;

/// Why an artifact could not be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// S3's trouble, or the object changed.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// It has no byte.
    #[error("artifact is empty, expected a zip, tar.gz or tar archive")]
    Empty,
    /// It is none of the formats.
    #[error(
        "artifact is not an archive: it begins with {begins}, expected a zip, tar.gz or tar archive"
    )]
    NotAnArchive {
        /// Its first bytes in hexadecimal.
        begins: String,
    },
    /// A zip that cannot be read.
    #[error(transparent)]
    Zip(#[from] ZipError),
    /// A tar that cannot be read.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// A gzip stream that cannot be read.
    #[error(transparent)]
    Gzip(#[from] GzipError),
    /// The thread that read the archive is gone.
    #[error("reading the archive was interrupted")]
    Interrupted,
    /// A reader asked for more requests than is reasonable.
    #[error("archive needs more than {STEPS_MAX} reads to be indexed")]
    TooManyReads,
}

impl ArtifactError {
    /// What is wrong with the archive, as a finding; S3's trouble is the caller's to tell apart before.
    pub fn finding(&self) -> Finding {
        let code = match self {
            Self::Empty => "archive-empty",
            Self::NotAnArchive { .. } => "archive-not-recognised",
            Self::Zip(error) => error.code(),
            Self::Tar(error) => error.code(),
            Self::Gzip(error) => error.code(),
            Self::TooManyReads => "archive-too-many-entries",
            Self::Service(_) | Self::Interrupted => "internal",
        };
        archive_refusal(code, self.to_string())
    }
}

/// What has no end record but begins as a zip does is the front of one.
fn cut_zip(error: ArtifactError, first: &[u8]) -> ArtifactError {
    match error {
        ArtifactError::Zip(ZipError::NotZip { object_size }) if zip::begins_local_header(first) => {
            ArtifactError::Zip(ZipError::EndMissing { object_size })
        }
        other => other,
    }
}

impl From<TarGzError> for ArtifactError {
    fn from(error: TarGzError) -> Self {
        match error {
            TarGzError::Gzip(error) => Self::Gzip(error),
            TarGzError::Tar(error) => Self::Tar(error),
        }
    }
}

/// Ranged reads of one pinned object, out of memory where it is small.
#[derive(Debug)]
pub struct Source<'a, S> {
    store: &'a S,
    /// The object.
    pub object: SourceObject,
    kept: Option<Bytes>,
    /// Where what was read of its end begins, and the bytes.
    suffix: Option<(u64, Bytes)>,
    got: AtomicU64,
}

impl<'a, S: ObjectReader> Source<'a, S> {
    /// The object, which is read at once where it is small.
    ///
    /// # Errors
    /// S3's trouble, or the object changed.
    pub async fn open(store: &'a S, object: SourceObject) -> Result<Self, ServiceError> {
        let mut source = Self::open_unread(store, object);
        if source.object.size <= KEPT_BYTES_MAX {
            source.kept = Some(source.read(ByteRange::new(0, source.object.size)).await?);
        }
        Ok(source)
    }

    /// The object, of which nothing is read yet.
    pub(crate) fn open_unread(store: &'a S, object: SourceObject) -> Self {
        Self {
            store,
            object,
            kept: None,
            suffix: None,
            got: AtomicU64::new(0),
        }
    }

    /// The bytes of a range; what passes the object's end is cut off.
    ///
    /// # Errors
    /// S3's trouble, or the object changed.
    pub async fn read(&self, range: ByteRange) -> Result<Bytes, ServiceError> {
        let range = ByteRange::new(
            range.start.min(self.object.size),
            range.end.min(self.object.size),
        );
        if let Some(kept) = &self.kept {
            return Ok(slice(kept, 0, range));
        }
        if let Some((at, bytes)) = &self.suffix
            && *at <= range.start
        {
            return Ok(slice(bytes, *at, range));
        }
        self.got.fetch_add(range.length(), Ordering::Relaxed);
        self.store.read(&self.object, range).await
    }

    /// The whole object, where it is kept.
    pub fn kept(&self) -> Option<&Bytes> {
        self.kept.as_ref()
    }

    /// Bytes that came from S3 so far.
    pub fn bytes_got(&self) -> u64 {
        self.got.load(Ordering::Relaxed)
    }

    /// A range in pieces, front to back; what is known of the object's end is not read again.
    fn windows_of(&self, range: ByteRange) -> impl Iterator<Item = ByteRange> + use<S> {
        let known = self.suffix.as_ref().map_or(range.end, |(at, _)| *at);
        let known = known.clamp(range.start, range.end);
        let unread = windows(ByteRange::new(range.start, known));
        unread.chain(windows(ByteRange::new(known, range.end)))
    }

    /// The ranges of one pass from front to back.
    pub fn windows(&self) -> impl Iterator<Item = ByteRange> + use<S> {
        self.windows_of(ByteRange::new(0, self.object.size))
    }
}

/// A range in pieces of [`WINDOW_BYTES`], front to back.
fn windows(range: ByteRange) -> impl Iterator<Item = ByteRange> {
    (0..range.length().div_ceil(WINDOW_BYTES)).map(move |n| {
        let start = range.start.saturating_add(n.saturating_mul(WINDOW_BYTES));
        ByteRange::new(start, start.saturating_add(WINDOW_BYTES).min(range.end))
    })
}

/// The bytes of a range, out of bytes that begin at `at`.
fn slice(bytes: &Bytes, at: u64, range: ByteRange) -> Bytes {
    let place = |offset: u64| {
        usize::try_from(offset.saturating_sub(at))
            .unwrap_or(usize::MAX)
            .min(bytes.len())
    };
    bytes.slice(place(range.start)..place(range.end))
}

/// An artifact whose index is known.
#[derive(Debug)]
pub struct OpenedArtifact<'a, S> {
    /// The object.
    pub source: Source<'a, S>,
    /// What it holds.
    pub index: Arc<Index>,
    /// Contents that a pass over a stream happened to hold, by position in the index.
    captured: BTreeMap<u32, Vec<u8>>,
    limits: Limits,
}

impl<'a, S: ObjectReader> OpenedArtifact<'a, S> {
    /// Tells the format by content and reads the index; of a tar, AppSpecs and `circle.yml` are held on
    /// the way.
    ///
    /// # Errors
    /// S3's trouble, or an artifact that is no archive.
    pub async fn open(
        store: &'a S,
        object: SourceObject,
        limits: &Limits,
    ) -> Result<Self, ArtifactError> {
        if object.size == 0 {
            return Err(ArtifactError::Empty);
        }
        let mut source = Source::open(store, object).await?;
        let size = source.object.size;
        // Both at once: a request's way takes longer than these bytes.
        let suffix_bytes = if size > SMALL_BYTES_MAX {
            SUFFIX_BYTES
        } else {
            SMALL_SUFFIX_BYTES
        };
        let suffix_at = size.saturating_sub(suffix_bytes);
        let (first, suffix) = futures_util::try_join!(
            source.read(ByteRange::new(0, ArchiveFormat::FIRST_BYTES)),
            source.read(ByteRange::new(suffix_at, size)),
        )?;
        source.suffix = Some((suffix_at, suffix));
        let last = source
            .read(ByteRange::new(
                size.saturating_sub(ArchiveFormat::LAST_BYTES),
                size,
            ))
            .await?;
        let limits = *limits;
        let wanted: tar::Wanted = Box::new(move |name: &[u8]| {
            let last = name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            is_document(last).then_some(limits.document_bytes_max.saturating_add(1))
        });
        let (index, captured) = match ArchiveFormat::detect(&first, &last) {
            Some(ArchiveFormat::Zip) => (
                Index::Zip(Arc::new(
                    Self::read_zip(&source, &limits)
                        .await
                        .map_err(|error| cut_zip(error, &first))?,
                )),
                Vec::new(),
            ),
            Some(ArchiveFormat::Tar) => {
                let scan = Self::read_tar(&source, &limits, wanted).await?;
                (Index::Tar(scan.index), scan.captured)
            }
            Some(ArchiveFormat::TarGz) => {
                let scan = Self::scan_tar_gz(&source, &limits, wanted).await?;
                (Index::Tar(scan.index), scan.captured)
            }
            None => {
                let begins = first
                    .iter()
                    .take(8)
                    .map(|byte| format!("{byte:02x}"))
                    .collect::<Vec<_>>()
                    .join(" ");
                return Err(ArtifactError::NotAnArchive { begins });
            }
        };
        let captured = captured
            .into_iter()
            .map(|captured| (captured.index, captured.bytes))
            .collect();
        Ok(Self {
            source,
            index: Arc::new(index),
            captured,
            limits,
        })
    }

    async fn read_zip(
        source: &Source<'a, S>,
        limits: &Limits,
    ) -> Result<zip::ZipIndex, ArtifactError> {
        let mut reader = ZipReader::new(source.object.size, limits);
        for _ in 0..STEPS_MAX {
            match reader.step()? {
                zip::Step::Done(index) => return Ok(index),
                // A long directory comes in windows, or it would be held twice.
                zip::Step::Need(range) => {
                    let mut windows = stream::iter(source.windows_of(range))
                        .map(|window| async move {
                            Ok::<_, ServiceError>((window, source.read(window).await?))
                        })
                        .buffered(WINDOWS_AHEAD);
                    while let Some(window) = windows.next().await {
                        let (window, bytes) = window?;
                        reader.feed(window, &bytes)?;
                    }
                }
            }
        }
        Err(ArtifactError::TooManyReads)
    }

    async fn read_tar(
        source: &Source<'a, S>,
        limits: &Limits,
        wanted: tar::Wanted,
    ) -> Result<TarScan, ArtifactError> {
        let mut reader = TarReader::new(source.object.size, limits, wanted);
        for _ in 0..STEPS_MAX {
            match reader.step()? {
                tar::Step::Done(scan) => return Ok(*scan),
                tar::Step::Need(range) => reader.feed(range, &source.read(range).await?)?,
            }
        }
        Err(ArtifactError::TooManyReads)
    }

    async fn scan_tar_gz(
        source: &Source<'a, S>,
        limits: &Limits,
        wanted: tar::Wanted,
    ) -> Result<TarScan, ArtifactError> {
        let mut scanner = TarGzScanner::new(limits, wanted);
        let mut windows = stream::iter(source.windows())
            .map(|window| source.read(window))
            .buffered(WINDOWS_AHEAD);
        while let Some(window) = windows.next().await {
            let window = window?;
            let scanned = spawn_blocking(move || {
                let scanned = scanner.feed(&window);
                (scanner, scanned)
            });
            let scanned = scanned.await.map_err(|_| ArtifactError::Interrupted)?;
            scanner = scanned.0;
            scanned.1?;
        }
        Ok(scanner.finish()?)
    }

    /// Bytes of an AppSpec or `circle.yml` at most.
    pub fn document_bytes_max(&self) -> u64 {
        self.limits.document_bytes_max
    }

    /// The bundle check with everything that it wants to read, see [`check_bundle`].
    ///
    /// # Errors
    /// S3's trouble, or contents that are not as the index says.
    pub async fn check(
        &self,
        contents: &Contents,
        options: &Options,
    ) -> Result<(Option<(AppSpec, Vec<u8>)>, Report), ArtifactError> {
        check_bundle(&*self.index, self, contents, options, &self.limits).await
    }

    /// The first `limit` bytes of the contents of these entries; an entry that is none, or no file, is
    /// left out.
    ///
    /// # Errors
    /// S3's trouble, or contents that are not as the index says.
    pub async fn contents(
        &self,
        entries: &[u32],
        limit: u64,
    ) -> Result<BTreeMap<u32, Vec<u8>>, ArtifactError> {
        let mut found = BTreeMap::new();
        let mut missing = Vec::new();
        let links = match &*self.index {
            Index::Tar(index) => Some(tar::HardLinks::resolve(index)),
            Index::Zip(_) => None,
        };
        for asked in entries {
            // A hard link's content is its target's.
            let entry = &links
                .as_ref()
                .and_then(|links| links.target(*asked))
                .unwrap_or(*asked);
            if let Some(bytes) = self.captured.get(entry) {
                found.insert(*asked, bytes.clone());
            } else {
                match &*self.index {
                    Index::Zip(index) => {
                        let position = *entry as usize;
                        if position < index.len() {
                            let span = index.content_span(position)?;
                            let bytes = self.source.read(span).await?;
                            found.insert(*asked, index.read_content(position, &bytes, limit)?);
                        }
                    }
                    Index::Tar(index) if index.blocks().is_none() => {
                        if let Some(placement) = index.placement(*entry as usize) {
                            let end = placement
                                .data
                                .end
                                .min(placement.data.start.saturating_add(limit));
                            let bytes = self
                                .source
                                .read(ByteRange::new(placement.data.start, end))
                                .await?;
                            found.insert(*asked, bytes.to_vec());
                        }
                    }
                    Index::Tar(_) => missing.push((*asked, *entry)),
                }
            }
        }
        if let Index::Tar(index) = &*self.index
            && let Some(blocks) = index.blocks()
            && !missing.is_empty()
        {
            let wanted = missing.iter().filter_map(|(asked, entry)| {
                let data = index.placement(*entry as usize)?.data;
                let end = data.end.min(data.start.saturating_add(limit));
                Some((*asked, ByteRange::new(data.start, end)))
            });
            let wanted: Vec<(u32, ByteRange)> = wanted.collect();
            found.extend(self.inflate(blocks, wanted).await?);
        }
        Ok(found)
    }

    /// Ranges of the tar inside a tar.gz, without inflating more of it than there is to be.
    async fn inflate(
        &self,
        blocks: &Arc<BlockMap>,
        mut wanted: Vec<(u32, ByteRange)>,
    ) -> Result<BTreeMap<u32, Vec<u8>>, ArtifactError> {
        wanted.sort_by_key(|(_, range)| range.start);
        let mut found: BTreeMap<u32, Vec<u8>> = wanted
            .iter()
            .map(|(asked, _)| (*asked, Vec::new()))
            .collect();
        let ranges = wanted.iter().map(|(_, range)| *range);
        let mut inflating = GunzipRanges::new(Arc::clone(blocks), ranges, &self.limits);
        for read in inflating.reads() {
            let mut start = read.start;
            while start < read.end && !inflating.is_done() {
                let window = ByteRange::new(start, read.end.min(start + INFLATED_WINDOW_BYTES));
                start = window.end;
                let bytes = self.source.read(window).await?;
                let mut rest: &[u8] = &bytes;
                while let Some((used, raw)) = inflating.step(rest)? {
                    rest = rest.get(used..).unwrap_or_default();
                    for (asked, range) in &wanted {
                        let from = range.start.max(raw.at);
                        let to = range.end.min(raw.at.saturating_add(raw.bytes.len() as u64));
                        if let (Some(content), Some(length)) =
                            (found.get_mut(asked), to.checked_sub(from))
                        {
                            let skip = usize::try_from(from - raw.at).unwrap_or(usize::MAX);
                            let piece = raw.bytes.get(skip..).unwrap_or_default();
                            let length = usize::try_from(length).unwrap_or(usize::MAX);
                            content.extend_from_slice(piece.get(..length).unwrap_or_default());
                        }
                    }
                }
            }
        }
        Ok(found)
    }
}

/// Contents of an archive's entries, or of files that are to become one.
pub trait ContentReader {
    /// The first `limit` bytes of the contents of these entries (of a link: its target, where it is
    /// content); an entry that is none, or no file, is left out.
    fn contents(
        &self,
        entries: &[u32],
        limit: u64,
    ) -> impl Future<Output = Result<BTreeMap<u32, Vec<u8>>, ArtifactError>>;
}

impl<S: ObjectReader> ContentReader for OpenedArtifact<'_, S> {
    fn contents(
        &self,
        entries: &[u32],
        limit: u64,
    ) -> impl Future<Output = Result<BTreeMap<u32, Vec<u8>>, ArtifactError>> {
        Self::contents(self, entries, limit)
    }
}

/// The bundle check with everything that it wants to read; with the AppSpec and its bytes, where it can
/// be read.
///
/// # Errors
/// The reader's trouble, or contents that are not as the index says.
pub async fn check_bundle<R: ContentReader>(
    index: &dyn Entries,
    reader: &R,
    contents: &Contents,
    options: &Options,
    limits: &Limits,
) -> Result<(Option<(AppSpec, Vec<u8>)>, Report), ArtifactError> {
    let mut known: Known = BTreeMap::new();
    let bundle = Bundle::new(index, contents);
    let mut appspec_at = bundle_check::appspec_entry(&bundle, &known);
    for _ in 0..LINK_ROUNDS_MAX {
        let Found::Unread(link) = appspec_at else {
            break;
        };
        known.extend(reader.contents(&[link], PATH_BYTES_MAX as u64).await?);
        appspec_at = bundle_check::appspec_entry(&bundle, &known);
    }
    let bytes_max = limits.document_bytes_max;
    let path = contents.appspec.archive_name.as_str();
    let mut unreadable = None;
    let bytes = match appspec_at {
        // One byte more tells what is too long from what just fits.
        Found::File(entry) => match reader.contents(&[entry], bytes_max.saturating_add(1)).await {
            Ok(mut found) => found.remove(&entry),
            Err(
                error
                @ (ArtifactError::Service(_) | ArtifactError::Gzip(GzipError::Changed { .. })),
            ) => return Err(error),
            Err(error) => {
                unreadable = Some(error.finding().in_file(path));
                None
            }
        },
        _ => None,
    };
    let read = match &bytes {
        _ if unreadable.is_some() => Err(unreadable.into_iter().collect()),
        Some(bytes) if bytes.len() as u64 <= bytes_max => AppSpec::read(bytes, path),
        Some(_) => {
            let message = format!("AppSpec has more than {bytes_max} bytes");
            Err(vec![
                archive_refusal("appspec-too-large", message).in_file(path),
            ])
        }
        None => {
            let message = "the AppSpec's name leads to no file";
            Err(vec![
                archive_refusal("appspec-missing", message).in_file(path),
            ])
        }
    };
    if let Ok(appspec) = &read {
        for _ in 0..LINK_ROUNDS_MAX {
            let missing: Vec<u32> = bundle_check::wanted(&bundle, appspec, &known)
                .into_iter()
                .filter(|entry| !known.contains_key(entry))
                .collect();
            if missing.is_empty() {
                break;
            }
            known.extend(reader.contents(&missing, limits.script_bytes_max).await?);
        }
    }
    let report = bundle_check::check(
        &bundle,
        read.as_ref().map_err(Vec::as_slice),
        &known,
        options,
    );
    Ok((read.ok().zip(bytes), report))
}

/// Names of files that are read whole, as the last segment of a path.
fn is_document(name: &[u8]) -> bool {
    const APPSPECS: [&[u8]; 3] = [b"appspec.yml", b"appspec.yaml", b"appspec.json"];
    APPSPECS
        .iter()
        .any(|appspec| name.eq_ignore_ascii_case(appspec))
        || name == CIRCLE_YML.as_bytes()
}
