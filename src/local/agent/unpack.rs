//! Unpacks a bundle into a folder of its own, with modes and links, and never outside of it.
//!
//! Symbolic links are made last: until then there is none in the folder that anything could be
//! written through. The wrapper folder is stripped as the agent does it.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::archive::Limits;

/// Bytes that one bundle may unpack to on a developer's machine.
const UNPACKED_BYTES_MAX: u64 = 64 << 30;
/// Bytes of a link's target.
const LINK_BYTES_MAX: u64 = 4_096;
const FILE_TYPE: u32 = 0o170_000;
const SYMLINK: u32 = 0o120_000;

/// Why a bundle is not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The zip's directory or an entry of it is broken.
    #[error("zip cannot be unpacked: {0}")]
    Zip(#[source] zip::result::ZipError),
    /// The tar is broken.
    #[error("tar cannot be unpacked: {0}")]
    Tar(#[source] io::Error),
    /// The name leads out of the folder, or is none.
    #[error("entry `{0}` has a name that leads out of the bundle")]
    Name(String),
    /// The entry is a device, FIFO or socket.
    #[error("entry `{0}` is neither file, directory nor link")]
    Kind(String),
    /// A link stands where a folder has to be.
    #[error("entry `{0}` would be written through a link")]
    ThroughLink(String),
    /// More entries or bytes than a bundle may have.
    #[error("bundle has more than {limit} {what}")]
    TooMuch {
        /// The limit.
        limit: u64,
        /// Of what.
        what: &'static str,
    },
    /// The disk.
    #[error("`{path}` cannot be written: {source}")]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Unpacks `bundle` into the new folder `base`; returns the archive's root, which is `base` or the
/// one folder in it that holds the AppSpec.
pub(super) fn unpack(
    bundle: &Path,
    bundle_type: &str,
    base: &Path,
) -> Result<PathBuf, UnpackError> {
    let file = File::open(bundle).map_err(|source| UnpackError::Write {
        path: bundle.to_owned(),
        source,
    })?;
    let mut unpacker = Unpacker::new(base)?;
    match bundle_type {
        "zip" => unpacker.zip(file)?,
        "tgz" => unpacker.tar(MultiGzDecoder::new(file))?,
        _ => unpacker.tar(file)?,
    }
    unpacker.finish()?;
    Ok(wrapper(base).unwrap_or_else(|| base.to_owned()))
}

/// The one top folder, where it is the only entry and holds something like an AppSpec
/// (`command_executor.rb`, `unpack_bundle`).
fn wrapper(base: &Path) -> Option<PathBuf> {
    let mut top = fs::read_dir(base).ok()?.filter_map(Result::ok);
    let (only, None) = (top.next()?, top.next()) else {
        return None;
    };
    if !only.file_type().ok()?.is_dir() {
        return None;
    }
    let holds_app_spec = fs::read_dir(only.path())
        .ok()?
        .filter_map(Result::ok)
        .any(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .to_ascii_lowercase()
                .contains("appspec")
        });
    holds_app_spec.then(|| only.path())
}

struct Unpacker {
    base: PathBuf,
    entries_left: usize,
    bytes_left: u64,
    symlinks: Vec<(PathBuf, PathBuf)>,
    modes: Vec<(PathBuf, u32)>,
}

impl Unpacker {
    fn new(base: &Path) -> Result<Self, UnpackError> {
        fs::create_dir_all(base).map_err(|source| UnpackError::Write {
            path: base.to_owned(),
            source,
        })?;
        Ok(Self {
            base: base.to_owned(),
            entries_left: Limits::default().entries_max,
            bytes_left: UNPACKED_BYTES_MAX,
            symlinks: Vec::new(),
            modes: Vec::new(),
        })
    }

    fn zip(&mut self, file: impl Read + Seek) -> Result<(), UnpackError> {
        let mut archive =
            zip::ZipArchive::new(io::BufReader::new(file)).map_err(UnpackError::Zip)?;
        for index in 0..archive.len() {
            let mut entry = archive.by_index(index).map_err(UnpackError::Zip)?;
            let path = self.path(&entry.name().map_err(UnpackError::Zip)?)?;
            let mode = entry.unix_mode();
            if entry.is_dir() {
                self.directory(&path, mode)?;
            } else if mode.is_some_and(|mode| mode & FILE_TYPE == SYMLINK) {
                let mut target = String::new();
                entry
                    .by_ref()
                    .take(LINK_BYTES_MAX)
                    .read_to_string(&mut target)
                    .map_err(|source| UnpackError::Write {
                        path: path.clone(),
                        source,
                    })?;
                self.symlinks.push((path, target.into()));
            } else {
                self.file(&path, mode, &mut entry)?;
            }
        }
        Ok(())
    }

    fn tar(&mut self, reader: impl Read) -> Result<(), UnpackError> {
        let mut archive = tar::Archive::new(io::BufReader::new(reader));
        for entry in archive.entries().map_err(UnpackError::Tar)? {
            let mut entry = entry.map_err(UnpackError::Tar)?;
            let name = entry
                .path()
                .map_err(UnpackError::Tar)?
                .to_string_lossy()
                .into_owned();
            let kind = entry.header().entry_type();
            if kind.is_pax_global_extensions() {
                continue;
            }
            let path = self.path(&name)?;
            let mode = entry.header().mode().ok();
            let target = entry
                .link_name()
                .map_err(UnpackError::Tar)?
                .map(|target| target.into_owned());
            match target {
                _ if kind.is_dir() => self.directory(&path, mode)?,
                Some(target) if kind.is_symlink() => self.symlinks.push((path, target)),
                Some(target) if kind.is_hard_link() => {
                    let target = self.path(&target.to_string_lossy())?;
                    self.count(0)?;
                    self.parent(&path)?;
                    fs::hard_link(target, &path)
                        .map_err(|source| UnpackError::Write { path, source })?;
                }
                _ if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() => {
                    self.file(&path, mode, &mut entry)?;
                }
                _ => return Err(UnpackError::Kind(name)),
            }
        }
        Ok(())
    }

    /// The entry's place under the base, by name alone.
    fn path(&mut self, name: &str) -> Result<PathBuf, UnpackError> {
        match inside(Path::new(name)) {
            Some(relative) => Ok(self.base.join(relative)),
            None => Err(UnpackError::Name(name.to_owned())),
        }
    }

    fn count(&mut self, bytes: u64) -> Result<(), UnpackError> {
        let limit = Limits::default().entries_max;
        self.entries_left =
            self.entries_left
                .checked_sub(1)
                .ok_or_else(|| UnpackError::TooMuch {
                    limit: u64::try_from(limit).unwrap_or(u64::MAX),
                    what: "entries",
                })?;
        self.bytes_left = self
            .bytes_left
            .checked_sub(bytes)
            .ok_or(UnpackError::TooMuch {
                limit: UNPACKED_BYTES_MAX,
                what: "bytes",
            })?;
        Ok(())
    }

    fn parent(&self, path: &Path) -> Result<(), UnpackError> {
        let Some(parent) = path.parent() else {
            return Ok(());
        };
        fs::create_dir_all(parent).map_err(|source| UnpackError::Write {
            path: parent.to_owned(),
            source,
        })
    }

    fn directory(&mut self, path: &Path, mode: Option<u32>) -> Result<(), UnpackError> {
        self.count(0)?;
        fs::create_dir_all(path).map_err(|source| UnpackError::Write {
            path: path.to_owned(),
            source,
        })?;
        if let Some(mode) = mode {
            // Its owner must be able to write into it and to take it away again.
            self.modes.push((path.to_owned(), (mode & 0o7777) | 0o700));
        }
        Ok(())
    }

    fn file(
        &mut self,
        path: &Path,
        mode: Option<u32>,
        content: &mut dyn Read,
    ) -> Result<(), UnpackError> {
        self.parent(path)?;
        let failed = |source| UnpackError::Write {
            path: path.to_owned(),
            source,
        };
        // A later entry of the same name replaces the earlier one, as tar and unzip -o do.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let mut target = File::create_new(path).map_err(failed)?;
        let limit = self.bytes_left.saturating_add(1);
        let written = io::copy(&mut content.take(limit), &mut target).map_err(failed)?;
        self.count(written)?;
        if let Some(mode) = mode {
            fs::set_permissions(path, Permissions::from_mode(mode & 0o7777)).map_err(failed)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), UnpackError> {
        for (path, target) in std::mem::take(&mut self.symlinks) {
            self.count(0)?;
            if leads_through_link(&self.base, &path) {
                return Err(UnpackError::ThroughLink(path.display().to_string()));
            }
            self.parent(&path)?;
            symlink(target, &path).map_err(|source| UnpackError::Write { path, source })?;
        }
        // The innermost last: an outer mode may forbid what is inside to be changed.
        for (path, mode) in self.modes.iter().rev() {
            fs::set_permissions(path, Permissions::from_mode(*mode)).map_err(|source| {
                UnpackError::Write {
                    path: path.clone(),
                    source,
                }
            })?;
        }
        Ok(())
    }
}

/// A relative path that stays inside whatever it is joined to; `None` where it would not.
pub(super) fn inside(path: &Path) -> Option<PathBuf> {
    let mut result = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => result.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(result)
}

/// Whether a folder between `base` and `path` is a link.
pub(super) fn leads_through_link(base: &Path, path: &Path) -> bool {
    path.ancestors()
        .skip(1)
        .take_while(|folder| *folder != base)
        .any(|folder| {
            folder
                .symlink_metadata()
                .is_ok_and(|metadata| metadata.is_symlink())
        })
}
