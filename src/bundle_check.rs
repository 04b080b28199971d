//! The agent's verdict, before the agent: archive index and AppSpec to findings.
//!
//! Owns the rules by which the CodeDeploy agent refuses a bundle, and those by which it should have.
//! Pure: the caller fetches the few contents that [`wanted`] names. Every code that can stand in a
//! finding has its row in [`crate::finding::codes::all`].
//!
//! ```text
//! contents + index -> Bundle (tree) --+
//! AppSpec (or its faults) ------------+--> check -> Report { platform, findings }
//! hook scripts' first bytes ----------+
//! ```

use std::cell::OnceCell;

use crate::appspec::AppSpec;
use crate::contents::{Contents, Entries, shown};
use crate::deployment::{BundleType, ComputePlatform, FileExistsBehavior};
use crate::finding::Finding;

mod bundle;
mod hash;
mod install;
mod links;
mod options;
mod permissions;
mod report;
mod scripts;
#[cfg(test)]
mod tests;
mod unpack;
mod walk;

pub use bundle::{Bundle, Found, Known};
pub use report::Report;

use report::Findings;

/// Deployment options that not every platform allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// `ignoreApplicationStopFailures`.
    pub ignore_application_stop_failures: bool,
    /// `updateOutdatedInstancesOnly`.
    pub update_outdated_instances_only: bool,
    /// `fileExistsBehavior`, where it is set.
    pub file_exists_behavior: Option<FileExistsBehavior>,
    /// What the revision will be, where that is settled.
    pub bundle_type: Option<BundleType>,
}

/// The entry that holds the AppSpec's bytes: links at its name are followed.
///
/// [`Found::Unread`] names a zip's symbolic link whose content has to be put into `known` first.
pub fn appspec_entry(bundle: &Bundle<'_>, known: &Known) -> Found {
    bundle.find(crate::contents::APPSPEC_NAME.as_bytes(), known)
}

/// Entries whose content [`check`] would use and `known` does not hold yet: hook scripts (the first
/// [`crate::archive::Limits::script_bytes_max`] bytes are enough) and links on the way to them.
///
/// To be asked again after reading links, until it names nothing new.
pub fn wanted(bundle: &Bundle<'_>, appspec: &AppSpec, known: &Known) -> Vec<u32> {
    appspec
        .server()
        .map_or_else(Vec::new, |server| scripts::wanted(bundle, server, known))
}

/// Judges the bundle.
///
/// `appspec` is what [`AppSpec::read`] answered; without an AppSpec the archive alone is judged. What
/// `known` does not hold stays unjudged, never guessed.
pub fn check(
    bundle: &Bundle<'_>,
    appspec: Result<&AppSpec, &[Finding]>,
    known: &Known,
    options: &Options,
) -> Report {
    let contents = bundle.contents();
    let mut findings = Findings::new(&contents.appspec.archive_name);
    let platform = appspec.ok().map(AppSpec::platform);
    for warning in &contents.warnings {
        // Lambda and ECS take an AppSpec under any name.
        let is_moot = warning.code == "appspec-renamed"
            && platform.is_some_and(|platform| platform != ComputePlatform::Server);
        if !is_moot {
            findings.add(warning.clone());
        }
    }
    match appspec {
        Err(faults) => {
            for fault in faults {
                findings.add(fault.clone());
            }
            unpack::check_entries(bundle, known, |_| false, &mut findings);
        }
        Ok(appspec) => {
            for warning in &appspec.warnings {
                findings.add(warning.clone());
            }
            options::check_options(appspec, options, &mut findings);
            match appspec.server() {
                None => unpack::check_appspec_entry(bundle, &mut findings),
                Some(server) => {
                    let mut near = Near::new();
                    let mut items = install::items(bundle, server, known, &mut near, &mut findings);
                    let links = links::Links::follow(bundle, known);
                    links.append(bundle, &mut items);
                    // Asked of links alone, which most bundles do without.
                    let installed = OnceCell::new();
                    unpack::check_entries(
                        bundle,
                        known,
                        |path| {
                            installed
                                .get_or_init(|| install::Installed::new(bundle, &items))
                                .hold(bundle, path)
                        },
                        &mut findings,
                    );
                    install::check_collisions(bundle, &items, &links, &mut findings);
                    permissions::check_permissions(bundle, server, &items, &links, &mut findings);
                    scripts::check_scripts(bundle, server, known, &mut near, &mut findings);
                    options::check_windows_names(bundle, server, &mut findings);
                }
            }
        }
    }
    findings.into_report(platform)
}

/// [`Bundle::new`] and [`check`] in one step, for a caller that has everything at hand.
pub fn check_all(
    entries: &dyn Entries,
    contents: &Contents,
    appspec: Result<&AppSpec, &[Finding]>,
    known: &Known,
    options: &Options,
) -> Report {
    check(&Bundle::new(entries, contents), appspec, known, options)
}

/// Looks for what a missing path may have meant; each look goes through the whole bundle.
struct Near {
    looks_left: usize,
}

impl Near {
    /// Missing paths that are looked for.
    const LOOKS_MAX: usize = 8;

    fn new() -> Self {
        Self {
            looks_left: Self::LOOKS_MAX,
        }
    }

    /// The cure, where a path of the bundle differs in case or kind of slash only.
    fn cure(&mut self, bundle: &Bundle<'_>, path: &[u8]) -> Option<String> {
        self.looks_left = self.looks_left.checked_sub(1)?;
        let same = |byte: &u8| {
            if *byte == b'\\' {
                b'/'
            } else {
                byte.to_ascii_lowercase()
            }
        };
        let near = bundle
            .paths()
            .filter(|(known, _)| {
                known.len() == path.len() && known.iter().map(same).eq(path.iter().map(same))
            })
            .map(|(known, _)| known)
            .min()?;
        Some(if near.contains(&b'\\') {
            format!(
                "archive with forward slashes in names: the bundle has `{}`",
                shown(near)
            )
        } else {
            format!("write `{}`, which is there", shown(near))
        })
    }
}
