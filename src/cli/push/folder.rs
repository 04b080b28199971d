//! A folder on disk as the members of a zip: walked, sorted, and readable for the bundle check.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ignore::overrides::OverrideBuilder;
use ignore::{WalkBuilder, WalkState};
use stagedrop::archive::{Compression, Entry, EntryKind, Limits};
use stagedrop::artifact::{ArtifactError, ContentReader};
use stagedrop::contents::Entries;
use stagedrop::packing::{Member, MemberKind};
use stagedrop::service_error::{Kind, ServiceError};

use crate::cli::voice::Trouble;

/// The ignore file of our own; it wins over `.gitignore`, so that it can take back what that leaves out.
pub const IGNORE_FILE: &str = ".stagedropignore";
/// Ignore files of git.
const GIT_IGNORE_FILE: &str = ".gitignore";

/// What a folder holds.
#[derive(Debug)]
pub struct Folder {
    /// Its place.
    pub root: PathBuf,
    /// Its members by name, ascending.
    pub members: Vec<Found>,
    /// Ignore files that were heeded.
    pub ignore_files: Vec<String>,
    /// Bytes of all files.
    pub bytes: u64,
}

/// A member and the size that it had when it was found.
#[derive(Debug)]
pub struct Found {
    /// Name, kind and mode.
    pub member: Member,
    /// Bytes of content.
    pub bytes: u64,
}

impl Folder {
    /// Walks a folder. `.git` always stays out; what ignore files in the folder itself name stays out unless
    /// `heeds_ignore_files` is false; so does what a glob of `exclude` names (spelled as in an ignore file).
    pub fn walk(
        path: &Path,
        exclude: &[String],
        heeds_ignore_files: bool,
    ) -> Result<Self, Trouble> {
        let root = path
            .canonicalize()
            .map_err(|error| Trouble::with_file(path, &error))?;
        let mut overrides = OverrideBuilder::new(&root);
        for glob in exclude {
            let bad = |why: String| {
                Trouble::new(
                    format!("--exclude `{glob}` is not a glob: {why}"),
                    "write it as in an ignore file: `*.log`, `docs/`, `/tmp`",
                )
            };
            if glob.starts_with('!') {
                return Err(bad("it begins with `!`".to_owned()));
            }
            overrides
                .add(&format!("!{glob}"))
                .map_err(|error| bad(error.to_string()))?;
        }
        let overrides = overrides
            .build()
            .map_err(|error| Trouble::from(format!("--exclude: {error}")))?;
        let mut builder = WalkBuilder::new(&root);
        builder
            .standard_filters(false)
            .follow_links(false)
            .overrides(overrides)
            // Ignore files above the folder are not its own: a build directory is mostly ignored there.
            .parents(false)
            .require_git(false)
            .git_ignore(heeds_ignore_files)
            .threads(threads())
            .filter_entry(|entry| entry.depth() == 0 || entry.file_name() != ".git");
        if heeds_ignore_files {
            builder.add_custom_ignore_filename(IGNORE_FILE);
        }
        let found = Mutex::new(Vec::new());
        let trouble = Mutex::new(None);
        builder.build_parallel().run(|| {
            Box::new(|entry| {
                match entry
                    .map_err(|error| {
                        Trouble::new(
                            error.to_string(),
                            "make it readable, or leave it out with --exclude",
                        )
                    })
                    .and_then(|entry| find(&root, &entry))
                {
                    Ok(Some(member)) => {
                        found
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(member);
                        WalkState::Continue
                    }
                    Ok(None) => WalkState::Continue,
                    Err(error) => {
                        *trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        WalkState::Quit
                    }
                }
            })
        });
        if let Some(trouble) = trouble.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(trouble);
        }
        let mut members: Vec<Found> = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        members.sort_unstable_by(|a, b| a.member.name.cmp(&b.member.name));
        let ignore_files = members
            .iter()
            .filter(|_| heeds_ignore_files)
            .map(|found| String::from_utf8_lossy(&found.member.name).into_owned())
            .filter(|name| {
                let last = name.rsplit('/').next().unwrap_or_default();
                last == IGNORE_FILE || last == GIT_IGNORE_FILE
            })
            .collect();
        let bytes = members
            .iter()
            .map(|found| found.bytes)
            .fold(0, u64::saturating_add);
        if members.len() > Limits::default().entries_max {
            return Err(Trouble::new(
                format!(
                    "{} holds {} files and folders, at most {} are taken",
                    path.display(),
                    members.len(),
                    Limits::default().entries_max
                ),
                "leave some out with --exclude or an ignore file",
            ));
        }
        Ok(Self {
            root,
            members,
            ignore_files,
            bytes,
        })
    }

    /// Where a member lies.
    pub fn path(&self, member: &Member) -> PathBuf {
        self.root.join(OsStr::from_bytes(&member.name))
    }

    /// The files alone.
    pub fn files(&self) -> usize {
        let is_file = |found: &&Found| found.member.kind != MemberKind::Folder;
        self.members.iter().filter(is_file).count()
    }
}

/// Threads that walk or pack.
pub fn threads() -> usize {
    const THREADS_MAX: usize = 16;
    std::thread::available_parallelism()
        .map_or(2, usize::from)
        .clamp(2, THREADS_MAX)
}

fn find(root: &Path, entry: &ignore::DirEntry) -> Result<Option<Found>, Trouble> {
    if entry.depth() == 0 {
        return Ok(None);
    }
    let path = entry.path();
    let status: Metadata = entry
        .metadata()
        .map_err(|error| Trouble::new(error.to_string(), "leave it out with --exclude"))?;
    let relative = path.strip_prefix(root).unwrap_or(path);
    let mut name = relative.as_os_str().as_bytes().to_vec();
    let (kind, bytes) = if status.is_file() {
        (MemberKind::File, status.len())
    } else if status.is_dir() {
        name.push(b'/');
        (MemberKind::Folder, 0)
    } else if status.is_symlink() {
        (MemberKind::Symlink, status.len())
    } else {
        return Err(Trouble::new(
            format!("{} is neither file, folder nor link", path.display()),
            "leave it out with --exclude",
        ));
    };
    Ok(Some(Found {
        member: Member {
            name,
            kind,
            mode: status.permissions().mode() & 0o7777,
        },
        bytes,
    }))
}

/// A member's content from its place, up to `limit` bytes of it, behind what `content` holds: a link's is its
/// target.
pub fn read_content(
    path: &Path,
    kind: MemberKind,
    limit: u64,
    content: &mut Vec<u8>,
) -> std::io::Result<()> {
    match kind {
        MemberKind::Folder => {}
        MemberKind::Symlink => {
            content.extend_from_slice(std::fs::read_link(path)?.as_os_str().as_bytes());
        }
        MemberKind::File => {
            File::open(path)?.take(limit).read_to_end(content)?;
        }
    }
    Ok(())
}

impl Entries for Folder {
    fn len(&self) -> usize {
        self.members.len()
    }

    fn entry(&self, position: u32) -> Option<Entry<'_>> {
        let found = self.members.get(usize::try_from(position).ok()?)?;
        let (kind, compression) = match found.member.kind {
            MemberKind::File => (EntryKind::File, Compression::Deflated),
            MemberKind::Folder => (EntryKind::Directory, Compression::Stored),
            MemberKind::Symlink => (EntryKind::Symlink, Compression::Stored),
        };
        Some(Entry {
            name: &found.member.name,
            kind,
            mode: Some(found.member.mode),
            size: found.bytes,
            stored_size: found.bytes,
            compression,
            encrypted: false,
            crc32: None,
            link_target: None,
            modified_seconds: None,
        })
    }
}

impl ContentReader for Folder {
    async fn contents(
        &self,
        entries: &[u32],
        limit: u64,
    ) -> Result<BTreeMap<u32, Vec<u8>>, ArtifactError> {
        let mut contents = BTreeMap::new();
        for position in entries {
            let Some(found) = self.members.get(*position as usize) else {
                continue;
            };
            let path = self.path(&found.member);
            let mut content = Vec::new();
            read_content(&path, found.member.kind, limit, &mut content).map_err(|error| {
                ServiceError {
                    operation: "reading",
                    resource: path.display().to_string(),
                    kind: Kind::Refused,
                    code: None,
                    message: error.to_string(),
                }
            })?;
            contents.insert(*position, content);
        }
        Ok(contents)
    }
}
