//! The bundle check before a push: settings say later which folder becomes the revision, so it is looked for.

use std::path::Path;

use globset::GlobSet;
use stagedrop::archive::{ArchiveFormat, Limits};
use stagedrop::artifact::{ArtifactError, ContentReader, check_bundle};
use stagedrop::bundle_check::Options;
use stagedrop::contents::{APPSPEC_NAME, Choice, Contents, Entries, choose_contents};
use stagedrop::finding::Finding;
use stagedrop::settings::ApplicationRoot;

use super::folder::Folder;
use crate::cli::local_file::LocalFile;
use crate::cli::voice::{Trouble, count};

/// What a check came to.
pub struct Checked {
    /// What was looked at.
    pub what: String,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
}

/// Checks what a folder will be.
pub async fn folder(folder: &Folder, root: Option<&ApplicationRoot>) -> Result<Checked, Trouble> {
    check(folder, folder, ArchiveFormat::Zip, root).await
}

/// Checks an archive.
pub async fn archive(path: &Path, root: Option<&ApplicationRoot>) -> Result<Checked, Trouble> {
    let file = LocalFile::open(path)?;
    let artifact = match file.artifact().await {
        Ok(artifact) => artifact,
        Err(ArtifactError::Service(error)) => return Err(error.to_string().into()),
        Err(error) => {
            return Ok(Checked {
                what: path.display().to_string(),
                findings: vec![error.finding().in_file(path.display().to_string())],
            });
        }
    };
    let format = artifact.index.format();
    check(&*artifact.index, &artifact, format, root).await
}

async fn check<R: ContentReader>(
    entries: &dyn Entries,
    reader: &R,
    format: ArchiveFormat,
    root: Option<&ApplicationRoot>,
) -> Result<Checked, Trouble> {
    let archive_root = ApplicationRoot::archive_root();
    let (root, contents) = match choose(entries, root.unwrap_or(&archive_root), format) {
        Err(findings)
            if root.is_none()
                && findings
                    .iter()
                    .any(|finding| finding.code == "appspec-missing") =>
        {
            let Some(found) = folder_with_appspec(entries) else {
                return Ok(refused(&archive_root, findings));
            };
            let contents = choose(entries, &found, format);
            (found, contents)
        }
        contents => (root.unwrap_or(&archive_root).clone(), contents),
    };
    let contents = match contents {
        Ok(contents) => contents,
        Err(findings) => return Ok(refused(&root, findings)),
    };
    let limits = Limits::default();
    let checked = check_bundle(entries, reader, &contents, &Options::default(), &limits).await;
    let findings = match checked {
        Ok((_, report)) => report.findings,
        Err(ArtifactError::Service(error)) => return Err(error.to_string().into()),
        Err(error) => vec![error.finding()],
    };
    Ok(Checked {
        what: format!(
            "application root {root}, {}",
            count(contents.entries.len(), "entry").replace("entrys", "entries")
        ),
        findings,
    })
}

fn refused(root: &ApplicationRoot, findings: Vec<Finding>) -> Checked {
    Checked {
        what: format!("application root {root}"),
        findings,
    }
}

fn choose(
    entries: &dyn Entries,
    root: &ApplicationRoot,
    format: ArchiveFormat,
) -> Result<Contents, Vec<Finding>> {
    let choice = Choice {
        application_root: root.as_prefix(),
        exclude: &GlobSet::empty(),
        format,
    };
    choose_contents(entries, &choice)
}

/// The one folder, of those nearest to the root, that holds an AppSpec.
fn folder_with_appspec(entries: &dyn Entries) -> Option<ApplicationRoot> {
    let mut found: Vec<(usize, &str)> = Vec::new();
    for position in 0..u32::try_from(entries.len()).unwrap_or(u32::MAX) {
        let Some(name) = entries
            .name(position)
            .and_then(|name| std::str::from_utf8(name).ok())
        else {
            continue;
        };
        if let Some((folder, file)) = name.rsplit_once('/')
            && file == APPSPEC_NAME
        {
            found.push((folder.matches('/').count(), folder));
        }
    }
    found.sort_unstable();
    let (depth, folder) = *found.first()?;
    let is_only = found.get(1).is_none_or(|(next, _)| *next > depth);
    is_only
        .then(|| format!("/{}", folder.trim_start_matches("./")).parse().ok())
        .flatten()
}
