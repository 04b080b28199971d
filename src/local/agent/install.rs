//! The `Install` event: takes away what the last deployment brought, then copies `files`.
//!
//! As the agent does it (`installer.rb`): the cleanup list comes first, a file in the way is judged
//! by `file_exists_behavior`, a folder's content is copied and not the folder itself, links stay links.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::unpack::{inside, leads_through_link};
use crate::appspec::Server;
use crate::deployment::FileExistsBehavior;

/// Depth of folders in a bundle.
const DEPTH_MAX: usize = 256;

/// Why `Install` fails.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The bundle lacks a source.
    #[error("No such file or directory - {0}")]
    NoSource(String),
    /// A source or destination leads out of its folder.
    #[error("`{0}` leads out of its folder")]
    Outside(String),
    /// A file of somebody else is in the way (the agent's own words).
    #[error("The deployment failed because a specified file already exists at this location: {0}")]
    Exists(String),
    /// Two sources for one destination (the agent's own words).
    #[error(
        "The deployment failed because the application specification file specifies two source files for the same destination: {0}"
    )]
    Twice(String),
    /// A folder of the destination is a link; this instance does not follow it.
    #[error("destination `{0}` leads through a link")]
    ThroughLink(String),
    /// Folders inside folders without end.
    #[error("bundle has more than {DEPTH_MAX} folders inside each other at `{0}`")]
    TooDeep(String),
    /// The disk.
    #[error("`{path}` cannot be installed: {source}")]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

struct Installer<'a> {
    root: &'a Path,
    behavior: FileExistsBehavior,
    /// What this deployment brought, in order.
    installed: Vec<PathBuf>,
    files: HashSet<PathBuf>,
}

/// Copies what the AppSpec's `files` say from `archive` to `root`.
pub(super) fn install(
    archive: &Path,
    server: &Server,
    behavior: Option<&str>,
    root: &Path,
    cleanup: &Path,
) -> Result<(), InstallError> {
    fs::create_dir_all(root).map_err(|source| InstallError::Write {
        path: root.to_owned(),
        source,
    })?;
    clean_up(root, cleanup);
    let behavior = server.file_exists_behavior.unwrap_or(match behavior {
        Some("OVERWRITE") => FileExistsBehavior::Overwrite,
        Some("RETAIN") => FileExistsBehavior::Retain,
        _ => FileExistsBehavior::Disallow,
    });
    let mut installer = Installer {
        root,
        behavior,
        installed: Vec::new(),
        files: HashSet::new(),
    };
    let result = server.files.iter().try_for_each(|mapping| {
        let source = inside(Path::new(mapping.source.trim_start_matches('/')))
            .ok_or_else(|| InstallError::Outside(mapping.source.clone()))?;
        let destination = place(&mapping.destination)
            .ok_or_else(|| InstallError::Outside(mapping.destination.clone()))?;
        installer.mapping(&archive.join(source), &root.join(destination))
    });
    // Written down also after a failure, so that the next deployment finds its way clear.
    write_cleanup(&installer, cleanup)?;
    result
}

/// A destination, relative to the instance's root: `/srv/app`, or `C:\app` on Windows.
fn place(destination: &str) -> Option<PathBuf> {
    let text = destination.replace('\\', "/").replace(':', "");
    inside(Path::new(text.trim_start_matches('/')))
}

impl Installer<'_> {
    fn mapping(&mut self, source: &Path, destination: &Path) -> Result<(), InstallError> {
        let metadata = source
            .symlink_metadata()
            .map_err(|_| InstallError::NoSource(source.display().to_string()))?;
        self.folder(destination)?;
        if metadata.is_dir() {
            self.content(source, destination, 0)
        } else {
            let name = source.file_name().unwrap_or_default();
            self.file(source, &destination.join(name))
        }
    }

    fn content(
        &mut self,
        source: &Path,
        destination: &Path,
        depth: usize,
    ) -> Result<(), InstallError> {
        if depth > DEPTH_MAX {
            return Err(InstallError::TooDeep(source.display().to_string()));
        }
        let failed = |error| InstallError::Write {
            path: source.to_owned(),
            source: error,
        };
        let mut entries: Vec<_> = fs::read_dir(source)
            .map_err(failed)?
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let target = destination.join(entry.file_name());
            if entry.file_type().map_err(failed)?.is_dir() {
                // A folder that was there keeps its mode, as with the agent.
                if self.folder(&target)? {
                    let permissions = entry.metadata().map_err(failed)?.permissions();
                    fs::set_permissions(&target, permissions).map_err(failed)?;
                }
                self.content(&entry.path(), &target, depth + 1)?;
            } else {
                self.file(&entry.path(), &target)?;
            }
        }
        Ok(())
    }

    fn check(&self, path: &Path) -> Result<(), InstallError> {
        if leads_through_link(self.root, path) {
            return Err(InstallError::ThroughLink(self.shown(path)));
        }
        Ok(())
    }

    /// Makes a folder with those above it; whether it was not there before.
    fn folder(&mut self, path: &Path) -> Result<bool, InstallError> {
        self.check(&path.join("inside"))?;
        let missing: Vec<PathBuf> = path
            .ancestors()
            .take_while(|folder| !folder.exists())
            .map(Path::to_owned)
            .collect();
        fs::create_dir_all(path).map_err(|source| InstallError::Write {
            path: path.to_owned(),
            source,
        })?;
        let made = !missing.is_empty();
        self.installed.extend(missing.into_iter().rev());
        Ok(made)
    }

    fn file(&mut self, source: &Path, target: &Path) -> Result<(), InstallError> {
        self.check(target)?;
        let failed = |error| InstallError::Write {
            path: target.to_owned(),
            source: error,
        };
        if !self.files.insert(target.to_owned()) {
            return Err(InstallError::Twice(self.shown(target)));
        }
        if target.symlink_metadata().is_ok() {
            match self.behavior {
                FileExistsBehavior::Disallow => {
                    return Err(InstallError::Exists(self.shown(target)));
                }
                FileExistsBehavior::Retain => return Ok(()),
                FileExistsBehavior::Overwrite => fs::remove_file(target).map_err(failed)?,
            }
        }
        let kind = source.symlink_metadata().map_err(failed)?;
        if kind.is_symlink() {
            symlink(fs::read_link(source).map_err(failed)?, target).map_err(failed)?;
        } else {
            fs::copy(source, target).map_err(failed)?;
        }
        self.installed.push(target.to_owned());
        Ok(())
    }

    /// The path as the instance would call it.
    fn shown(&self, path: &Path) -> String {
        format!(
            "/{}",
            path.strip_prefix(self.root).unwrap_or(path).display()
        )
    }
}

/// Takes away what the last deployment brought; what cannot be taken away is in the way later, and told then.
fn clean_up(root: &Path, cleanup: &Path) {
    let Ok(text) = fs::read(cleanup) else { return };
    let paths: Vec<PathBuf> = serde_json::from_slice(&text).unwrap_or_default();
    for relative in paths.iter().rev() {
        let Some(relative) = inside(relative) else {
            continue;
        };
        let path = root.join(relative);
        if leads_through_link(root, &path) {
            continue;
        }
        match path.symlink_metadata() {
            // Only where nobody else has put something in.
            Ok(metadata) if metadata.is_dir() => drop(fs::remove_dir(&path)),
            Ok(_) => drop(fs::remove_file(&path)),
            Err(_) => {}
        }
    }
    drop(fs::remove_file(cleanup));
}

fn write_cleanup(installer: &Installer<'_>, cleanup: &Path) -> Result<(), InstallError> {
    let failed = |source| InstallError::Write {
        path: cleanup.to_owned(),
        source,
    };
    if let Some(folder) = cleanup.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let relative: Vec<&Path> = installer
        .installed
        .iter()
        .filter_map(|path| path.strip_prefix(installer.root).ok())
        .collect();
    let text = serde_json::to_vec(&relative).map_err(|error| failed(error.into()))?;
    fs::write(cleanup, text).map_err(failed)
}
