//! What git says of the folder that is pushed, by the `git` program, where there is one.

use std::path::Path;
use std::process::{Command, Stdio};

use stagedrop::ci_environment::{BuildFacts, repository_of_url};

/// What git says of the commit that is checked out around `path`.
#[derive(Debug, Default)]
pub struct Checkout {
    /// Branch or tag, commit, repository and author.
    pub facts: BuildFacts,
    /// The commit's time in seconds since 1970.
    pub committed_at: Option<i64>,
}

/// Asks git; says nothing where `path` lies in no work tree or there is no git.
pub fn look(path: &Path) -> Checkout {
    let folder = if path.is_dir() {
        path
    } else {
        path.parent().unwrap_or(Path::new("."))
    };
    let Some(head) = git(folder, &["log", "-1", "--format=%H%n%ct%n%an"]) else {
        return Checkout::default();
    };
    let mut lines = head.lines();
    let commit = lines.next().map(str::to_owned);
    let committed_at = lines.next().and_then(|seconds| seconds.parse().ok());
    let author = lines.next().map(str::to_owned);
    let branch = git(folder, &["symbolic-ref", "--short", "--quiet", "HEAD"]);
    // A branch may have a tag on its last commit; only a checkout of the tag itself is the tag's build.
    let tag = match branch {
        Some(_) => None,
        None => git(folder, &["describe", "--tags", "--exact-match", "HEAD"]),
    };
    Checkout {
        facts: BuildFacts {
            branch,
            tag,
            commit,
            repository: git(folder, &["config", "--get", "remote.origin.url"])
                .as_deref()
                .and_then(repository_of_url),
            author,
            ..BuildFacts::default()
        },
        committed_at,
    }
}

/// A git command's output without its last line feed; `None` where it fails or says nothing.
fn git(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        })
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim_end();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
