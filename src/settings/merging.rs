//! Project-wide settings and a block's, merged into targets.
//!
//! Owns precedence (the block key by key over the project-wide map, `revision_location` as a
//! whole), the defaults, and the memory of where each value came from.

use serde::{Deserialize, Serialize};

use super::blocks::ApplicationSettings;
use super::reading::Located;
use super::values::{ApplicationRoot, BundleChoice, Exclude, Order, Queue, RevisionTarget, Verify};
use crate::deployment::{
    ApplicationName, AutoRollbackEvent, DeploymentConfigName, DeploymentGroupName,
    FileExistsBehavior, Region,
};
use crate::finding::Finding;
use crate::key_pattern::TextPattern;
use crate::yaml::Place;

/// One deployment that the settings ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Application in CodeDeploy.
    pub application: ApplicationName,
    /// Its deployment group.
    pub deployment_group: DeploymentGroupName,
    /// Configuration; the group's own where not set.
    pub deployment_config: Option<DeploymentConfigName>,
    /// Region of the application.
    pub region: Region,
    /// The directory that becomes the revision; `/` where not set.
    pub application_root: ApplicationRoot,
    /// Where the revision comes to lie.
    pub location: RevisionTarget,
    /// What people read in the console.
    pub description: Option<TextPattern>,
    /// `fileExistsBehavior`.
    pub file_exists_behavior: Option<FileExistsBehavior>,
    /// `ignoreApplicationStopFailures`.
    pub ignore_application_stop_failures: Option<bool>,
    /// `updateOutdatedInstancesOnly`.
    pub update_outdated_instances_only: Option<bool>,
    /// Events on which CodeDeploy rolls back, instead of the group's; empty switches it off.
    pub auto_rollback: Option<Vec<AutoRollbackEvent>>,
    /// What stays out besides `.git`.
    pub exclude: Exclude,
    /// Format of the revision.
    pub bundle_type: BundleChoice,
    /// Which of two builds is older.
    pub order: Order,
    /// Which builds wait.
    pub queue: Queue,
    /// Which bytes are checked.
    pub verify: Verify,
    /// Where each effective value comes from, in the order of the fields above.
    pub origins: Vec<Origin>,
}

impl Target {
    /// A group that something was deployed to before, with everything else at its default: for a revision that
    /// stands already, so that nothing is written at its location. How it is asked for is the caller's to add.
    pub fn of_deployment(
        application: ApplicationName,
        deployment_group: DeploymentGroupName,
        region: Region,
        deployment_config: Option<DeploymentConfigName>,
    ) -> Self {
        Self {
            application,
            deployment_group,
            deployment_config,
            region,
            application_root: ApplicationRoot::archive_root(),
            location: RevisionTarget::GitHub { repository: None },
            description: None,
            file_exists_behavior: None,
            ignore_application_stop_failures: None,
            update_outdated_instances_only: None,
            auto_rollback: None,
            exclude: Exclude::default(),
            bundle_type: BundleChoice::default(),
            order: Order::default(),
            queue: Queue::default(),
            verify: Verify::default(),
            origins: Vec::new(),
        }
    }

    /// Whether builds share a key, which is right only in a versioned bucket (the caller asks S3).
    pub fn needs_versioned_bucket(&self) -> bool {
        match &self.location {
            RevisionTarget::S3 { key_pattern, .. } => !key_pattern.is_unique_per_build(),
            RevisionTarget::GitHub { .. } => false,
        }
    }
}

/// Where one effective value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The setting: `deployment_group`, `region`, …
    pub key: String,
    /// The value, as a person would write it.
    pub value: String,
    /// Who says so.
    pub source: Source,
}

/// Who says a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A settings file.
    File {
        /// Its name.
        file: String,
        /// Where in it.
        place: Place,
    },
    /// The function's own region.
    FunctionRegion,
    /// The default of the settings language.
    Default,
}

/// A layer of settings for one application, with its file's name.
#[derive(Clone, Copy)]
pub(super) struct Layer<'s> {
    pub(super) file: &'s str,
    pub(super) settings: &'s ApplicationSettings,
}

/// Merges what a block says of an application over what the project's file says of it.
///
/// `project_file` is named where something could be set and is not.
pub(super) fn merge(
    block: Layer<'_>,
    project_wide: Option<Layer<'_>>,
    project_file: &str,
    default_region: Option<&Region>,
) -> Result<Target, Vec<Finding>> {
    let mut merger = Merger {
        block,
        project_wide,
        origins: Vec::new(),
    };
    let mut findings = Vec::new();
    let application = block.settings.name.clone();

    let deployment_group = merger.pick(
        "deployment_group",
        |s| s.deployment_group.as_ref(),
        ToString::to_string,
    );
    let deployment_config = merger.pick(
        "deployment_config",
        |s| s.deployment_config.as_ref(),
        ToString::to_string,
    );
    let region = merger
        .pick("region", |s| s.region.as_ref(), ToString::to_string)
        .or_else(|| {
            let region = default_region?.clone();
            merger.note("region", region.to_string(), Source::FunctionRegion);
            Some(region)
        });
    let application_root = merger.pick_or(
        "application_root",
        |s| s.application_root.as_ref(),
        ToString::to_string,
        ApplicationRoot::archive_root(),
    );
    let location = merger.pick(
        "revision_location",
        |s| s.revision_location.as_ref(),
        ToString::to_string,
    );

    let place = block.settings.place;
    let mut missing = |code: &str, key: &str, cure: String| {
        findings.push(
            Finding::refuse(
                code,
                format!("application `{application}` has no `{key}`"),
                cure,
            )
            .in_file(block.file)
            .at(place.line, place.column),
        );
    };
    if deployment_group.is_none() {
        missing(
            "settings-group-missing",
            "deployment_group",
            format!(
                "write `deployment_group` under `{application}` in the deployment block of {}; it \
                 cannot be set project-wide in {project_file}",
                block.file
            ),
        );
    }
    let two_places = |key: &str| {
        format!(
            "write `{key}` under `{application}` in the deployment block of {}, or project-wide under \
             `codedeploy.{application}` in {project_file}",
            block.file
        )
    };
    if region.is_none() {
        missing("settings-region-missing", "region", two_places("region"));
    }
    if location.is_none() {
        let key = "revision_location";
        missing("settings-location-missing", key, two_places(key));
    }
    let (Some(deployment_group), Some(region), Some(location)) =
        (deployment_group, region, location)
    else {
        return Err(findings);
    };
    Ok(Target {
        application,
        deployment_group,
        deployment_config,
        region,
        application_root,
        location,
        description: merger.pick(
            "description",
            |s| s.description.as_ref(),
            ToString::to_string,
        ),
        file_exists_behavior: merger.pick(
            "file_exists_behavior",
            |s| s.file_exists_behavior.as_ref(),
            word,
        ),
        ignore_application_stop_failures: merger.pick(
            "ignore_application_stop_failures",
            |s| s.ignore_application_stop_failures.as_ref(),
            ToString::to_string,
        ),
        update_outdated_instances_only: merger.pick(
            "update_outdated_instances_only",
            |s| s.update_outdated_instances_only.as_ref(),
            ToString::to_string,
        ),
        auto_rollback: merger.pick(
            "auto_rollback",
            |s| s.auto_rollback.as_ref(),
            |events| events.iter().map(word).collect::<Vec<_>>().join(", "),
        ),
        exclude: merger
            .pick(
                "exclude",
                |s| s.exclude.as_ref(),
                |exclude| exclude.globs().join(", "),
            )
            .unwrap_or_default(),
        bundle_type: merger.pick_or(
            "bundle_type",
            |s| s.bundle_type.as_ref(),
            word,
            BundleChoice::default(),
        ),
        order: merger.pick_or("order", |s| s.order.as_ref(), word, Order::default()),
        queue: merger.pick_or("queue", |s| s.queue.as_ref(), word, Queue::default()),
        verify: merger.pick_or("verify", |s| s.verify.as_ref(), word, Verify::default()),
        origins: merger.origins,
    })
}

/// A choice as it is spelled in the file.
fn word<T: Serialize>(choice: &T) -> String {
    match serde_json::to_value(choice) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

struct Merger<'s> {
    block: Layer<'s>,
    project_wide: Option<Layer<'s>>,
    origins: Vec<Origin>,
}

impl<'s> Merger<'s> {
    fn pick<T: Clone + 's>(
        &mut self,
        key: &str,
        get: impl Fn(&'s ApplicationSettings) -> Option<&'s Located<T>>,
        show: impl Fn(&T) -> String,
    ) -> Option<T> {
        let layers = [Some(self.block), self.project_wide];
        let (layer, located) = layers
            .into_iter()
            .flatten()
            .find_map(|layer| get(layer.settings).map(|located| (layer, located)))?;
        let source = Source::File {
            file: layer.file.to_owned(),
            place: located.place,
        };
        self.note(key, show(&located.value), source);
        Some(located.value.clone())
    }

    fn pick_or<T: Clone + 's>(
        &mut self,
        key: &str,
        get: impl Fn(&'s ApplicationSettings) -> Option<&'s Located<T>>,
        show: impl Fn(&T) -> String,
        default: T,
    ) -> T {
        match self.pick(key, get, &show) {
            Some(value) => value,
            None => {
                self.note(key, show(&default), Source::Default);
                default
            }
        }
    }

    fn note(&mut self, key: &str, value: String, source: Source) {
        self.origins.push(Origin {
            key: key.to_owned(),
            value,
            source,
        });
    }
}
