//! What the platform and the operating system forbid.

use std::collections::HashMap;

use super::Options;
use super::bundle::Bundle;
use super::report::Findings;
use crate::appspec::{AppSpec, OperatingSystem, Server};
use crate::contents::shown;
use crate::deployment::{BundleType, ComputePlatform};
use crate::finding::Finding;

/// Characters of a whole path that Windows takes, less the folder that the agent unpacks into.
const WINDOWS_PATH_CHARS_MAX: usize = 260 - 110;

/// Options that are for instances only, and bundles that Windows does not unpack.
pub(super) fn check_options(appspec: &AppSpec, options: &Options, findings: &mut Findings<'_>) {
    let platform = appspec.platform();
    if platform == ComputePlatform::Server {
        let is_windows = appspec
            .server()
            .is_some_and(|server| server.os == OperatingSystem::Windows);
        if is_windows && matches!(options.bundle_type, Some(BundleType::Tar | BundleType::Tgz)) {
            findings.add(Finding::refuse(
                "bundle-type-on-windows",
                "the revision is a tar, which the agent does not support on Windows",
                "set `bundle_type: zip`",
            ));
        }
        return;
    }
    let set = [
        (
            "ignore_application_stop_failures",
            options.ignore_application_stop_failures,
        ),
        (
            "update_outdated_instances_only",
            options.update_outdated_instances_only,
        ),
        (
            "file_exists_behavior",
            options.file_exists_behavior.is_some(),
        ),
    ];
    for (name, _) in set.into_iter().filter(|(_, is_set)| *is_set) {
        findings.add(Finding::refuse(
            "option-illegal-on-platform",
            format!("option `{name}` is set, which CodeDeploy refuses on platform {platform}"),
            format!("take `{name}` out of the settings of this application"),
        ));
    }
}

/// Names that Windows cannot make: only warned of, because agents differ.
pub(super) fn check_windows_names(
    bundle: &Bundle<'_>,
    server: &Server,
    findings: &mut Findings<'_>,
) {
    if server.os != OperatingSystem::Windows {
        return;
    }
    let mut illegal: Option<&[u8]> = None;
    let mut long: Option<&[u8]> = None;
    let mut twins: Option<&[u8]> = None;
    let mut folded: HashMap<String, &[u8]> = HashMap::new();
    let least = |known: &mut Option<_>, path| {
        if known.is_none_or(|known| path < known) {
            *known = Some(path);
        }
    };
    for (path, _) in bundle.paths() {
        let text = String::from_utf8_lossy(path);
        if text.contains(['<', '>', ':', '"', '|', '?', '*', '\\']) {
            least(&mut illegal, path);
        }
        if text.chars().count() > WINDOWS_PATH_CHARS_MAX {
            least(&mut long, path);
        }
        if let Some(other) = folded.insert(text.to_lowercase(), path) {
            least(&mut twins, path.min(other));
        }
    }
    if let Some(path) = illegal {
        findings.add(windows_finding(
            "windows-name-illegal",
            path,
            "has a character that Windows takes in no file name",
            "rename the file",
        ));
    }
    if let Some(path) = long {
        findings.add(windows_finding(
            "windows-path-too-long",
            path,
            "comes with the agent's folder to more than 260 characters",
            "shorten the path",
        ));
    }
    if let Some(path) = twins {
        findings.add(windows_finding(
            "windows-names-collide",
            path,
            "differs from another entry in case only, which is one file on Windows",
            "rename one of them",
        ));
    }
}

fn windows_finding(code: &str, path: &[u8], what: &str, cure: &str) -> Finding {
    let path = shown(path);
    Finding::warn(code, format!("entry `{path}` {what}"), cure).in_file(path)
}
