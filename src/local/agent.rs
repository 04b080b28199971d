//! The CodeDeploy agent: what a deployment does on an instance, done in a folder.
//!
//! ```text
//! s3://bucket/key -> a temporary folder (archive root) -> <data>/<application>/<group>/<destination>
//!                    hook scripts run here, if at all      with several instances: …/<group>/<instance>/…
//! ```
//!
//! Owns the order of lifecycle events and the agent's texts (aws-codedeploy-agent 1.8). Whatever a
//! bundle says, nothing is written outside the data folder and the archive's own folder; what hook
//! scripts do, if they are let run, is their own. `permissions` and `runas` are not carried out:
//! they need root. A revision on GitHub is not fetched: its deployment succeeds and leaves nothing.

mod hooks;
mod install;
mod unpack;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;

pub use self::install::InstallError;
pub use self::unpack::UnpackError;

use super::codedeploy::Diagnostics;
use super::locked;
use super::s3::Store;
use crate::appspec::{AppSpec, Content};
use crate::archive::Limits;

/// The AppSpec's name at the archive's root.
const APPSPEC: &str = "appspec.yml";
/// The lifecycle events around a load balancer, and those without one.
const EVENTS: [&str; 13] = [
    "BeforeBlockTraffic",
    "BlockTraffic",
    "AfterBlockTraffic",
    "ApplicationStop",
    "DownloadBundle",
    "BeforeInstall",
    "Install",
    "AfterInstall",
    "ApplicationStart",
    "ValidateService",
    "BeforeAllowTraffic",
    "AllowTraffic",
    "AfterAllowTraffic",
];

/// The lifecycle events of an in-place deployment, in their order.
pub fn lifecycle_events(traffic_control: bool) -> Vec<&'static str> {
    EVENTS
        .into_iter()
        .filter(|event| traffic_control || !event.contains("Traffic"))
        .collect()
}

/// A bundle in S3, as far as it is pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Bucket.
    pub bucket: String,
    /// Key.
    pub key: String,
    /// Version, where pinned.
    pub version: Option<String>,
    /// ETag, where pinned; quotes are ignored, as the agent does.
    pub etag: Option<String>,
    /// `zip`, `tgz`, `tar`; anything else is unpacked as tar, as the agent does.
    pub bundle_type: String,
}

/// One deployment on one instance.
#[derive(Debug, Clone)]
pub struct Task {
    /// Application.
    pub application: String,
    /// Deployment group.
    pub deployment_group: String,
    /// The group's id.
    pub deployment_group_id: String,
    /// The deployment.
    pub deployment_id: String,
    /// The instance, where the group has several.
    pub instance: Option<String>,
    /// What is deployed; `None` is a revision that lies outside S3.
    pub bundle: Option<Bundle>,
    /// The deployment's `fileExistsBehavior`; the AppSpec's own beats it.
    pub file_exists_behavior: Option<String>,
    /// Whether a failing `ApplicationStop` is passed over.
    pub ignore_application_stop_failures: bool,
    /// Whether there is a load balancer.
    pub traffic_control: bool,
}

/// How a lifecycle event ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Well, or with nothing to do.
    Done,
    /// Badly; no further event is carried out.
    Failed(Diagnostics),
}

/// Why a bundle cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// S3 has no such object or version.
    #[error("The specified key does not exist: s3://{bucket}/{key}")]
    Missing {
        /// Bucket.
        bucket: String,
        /// Key.
        key: String,
    },
    /// The object is another than the one that was pinned (the agent's own words).
    #[error("Expected deployment artifact bundle etag {expected} but was actually {found}")]
    OtherETag {
        /// The ETag in the revision.
        expected: String,
        /// The object's.
        found: String,
    },
    /// It could not be read.
    #[error("bundle cannot be read: {0}")]
    Read(#[source] io::Error),
    /// It could not be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// A document is larger than any AppSpec.
    #[error("AppSpec has {found} bytes, limit is {limit} bytes")]
    TooLarge {
        /// Its size.
        found: u64,
        /// The limit.
        limit: u64,
    },
}

/// An unpacked bundle. Its folder goes with it.
#[derive(Debug)]
struct Archive {
    root: PathBuf,
    _folder: TempDir,
}

impl Archive {
    fn app_spec(&self) -> Result<AppSpec, String> {
        let path = self.root.join(APPSPEC);
        let Ok(bytes) = std::fs::read(&path) else {
            return Err(format!(
                "The CodeDeploy agent did not find an AppSpec file within the unpacked revision directory at revision-relative path \"{APPSPEC}\". The revision was unpacked to directory \"{}\", and the AppSpec file was expected but not found at path \"{}\".",
                self.root.display(),
                path.display()
            ));
        };
        let spec = AppSpec::read(&bytes, APPSPEC).map_err(|findings| {
            findings
                .iter()
                .find(|finding| finding.refuses())
                .map_or_else(String::new, |finding| finding.message.clone())
        })?;
        if spec.server().is_none() {
            return Err(format!(
                "The AppSpec is for the {} compute platform, not for instances",
                spec.platform()
            ));
        }
        Ok(spec)
    }
}

/// The agents of all instances.
pub struct Agent {
    data: PathBuf,
    run_hooks: bool,
    /// The last bundle that was deployed well, by instance: `ApplicationStop` runs its scripts.
    previous: Mutex<HashMap<PathBuf, Arc<Archive>>>,
}

impl Agent {
    /// An agent that installs under `data`, and runs hook scripts only where it is told to: they
    /// are programs from the bundle that run as whoever runs this process.
    pub fn new(data: PathBuf, run_hooks: bool) -> Self {
        Self {
            data,
            run_hooks,
            previous: Mutex::default(),
        }
    }

    /// The folder that stands for an instance's root.
    pub fn root(
        &self,
        application: &str,
        deployment_group: &str,
        instance: Option<&str>,
    ) -> PathBuf {
        let group = self
            .data
            .join(folder_name(application))
            .join(folder_name(deployment_group));
        instance.map_or(group.clone(), |instance| group.join(folder_name(instance)))
    }

    /// Begins a deployment on an instance.
    pub fn begin(agent: Arc<Self>, store: Arc<Store>, task: Task) -> Run {
        let root = agent.root(
            &task.application,
            &task.deployment_group,
            task.instance.as_deref(),
        );
        Run {
            agent,
            store,
            task,
            root,
            archive: None,
        }
    }

    /// Where it is written down which files a deployment brought, for the next one to take away.
    fn cleanup_file(&self, root: &Path) -> PathBuf {
        // `%` stands in no name of CodeDeploy's, so this is no application's folder.
        let folder = self.data.join("%cleanup");
        let name: Vec<String> = root
            .strip_prefix(&self.data)
            .unwrap_or(root)
            .components()
            .map(|part| part.as_os_str().to_string_lossy().into_owned())
            .collect();
        folder.join(format!("{}.json", name.join("%")))
    }
}

/// A name that CodeDeploy allows, as the name of a folder: `.` and `..` are allowed there.
fn folder_name(name: &str) -> String {
    if name.chars().all(|letter| letter == '.') {
        name.replace('.', "%2E")
    } else {
        name.to_owned()
    }
}

/// A deployment on an instance, under way.
pub struct Run {
    agent: Arc<Agent>,
    store: Arc<Store>,
    task: Task,
    root: PathBuf,
    archive: Option<Arc<Archive>>,
}

impl Run {
    /// Carries one lifecycle event out.
    pub async fn carry_out(&mut self, event: &str) -> Outcome {
        match event {
            "BlockTraffic" | "AllowTraffic" => Outcome::Done,
            "DownloadBundle" => match self.download().await {
                Ok(()) => Outcome::Done,
                Err(error) => failed(error.to_string()),
            },
            "Install" => match self.install().await {
                Ok(()) => Outcome::Done,
                Err(message) => failed(message),
            },
            "ApplicationStop" | "BeforeBlockTraffic" | "AfterBlockTraffic" => {
                let previous = locked(&self.agent.previous).get(&self.root).cloned();
                let outcome = self.run_scripts(event, previous.as_deref()).await;
                match outcome {
                    Outcome::Failed(_)
                        if event == "ApplicationStop"
                            && self.task.ignore_application_stop_failures =>
                    {
                        Outcome::Done
                    }
                    outcome => outcome,
                }
            }
            _ => self.run_scripts(event, self.archive.as_deref()).await,
        }
    }

    /// Notes that the deployment went well: the next one's `ApplicationStop` runs its scripts.
    pub fn succeeded(self) {
        if let Some(archive) = self.archive {
            locked(&self.agent.previous).insert(self.root, archive);
        }
    }

    async fn download(&mut self) -> Result<(), BundleError> {
        let Some(bundle) = self.task.bundle.clone() else {
            return Ok(());
        };
        let archive = fetch(&self.store, &bundle).await?;
        self.archive = Some(Arc::new(archive));
        Ok(())
    }

    async fn install(&self) -> Result<(), String> {
        let Some(archive) = self.archive.clone() else {
            return Ok(());
        };
        let spec = archive.app_spec()?;
        let root = self.root.clone();
        let cleanup = self.agent.cleanup_file(&root);
        let behavior = self.task.file_exists_behavior.clone();
        let installed = tokio::task::spawn_blocking(move || {
            let Some(server) = spec.server() else {
                return Ok(());
            };
            install::install(&archive.root, server, behavior.as_deref(), &root, &cleanup)
        });
        match installed.await {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn run_scripts(&self, event: &str, archive: Option<&Archive>) -> Outcome {
        let Some(archive) = archive else {
            return Outcome::Done;
        };
        let spec = match archive.app_spec() {
            Ok(spec) => spec,
            Err(message) => return failed(message),
        };
        let Some(server) = spec.server().filter(|_| self.agent.run_hooks) else {
            return Outcome::Done;
        };
        for script in server.scripts(event) {
            let result = hooks::run(&archive.root, event, script, &self.environment(event)).await;
            if let Err(diagnostics) = result {
                return Outcome::Failed(diagnostics);
            }
        }
        Outcome::Done
    }

    /// What the agent tells a script, and where the instance's root is in truth.
    fn environment(&self, event: &str) -> Vec<(String, String)> {
        let task = &self.task;
        let mut variables = vec![
            ("LIFECYCLE_EVENT", event.to_owned()),
            ("DEPLOYMENT_ID", task.deployment_id.clone()),
            ("APPLICATION_NAME", task.application.clone()),
            ("DEPLOYMENT_GROUP_NAME", task.deployment_group.clone()),
            ("DEPLOYMENT_GROUP_ID", task.deployment_group_id.clone()),
            ("STAGEDROP_INSTANCE_ROOT", self.root.display().to_string()),
        ];
        if let Some(bundle) = &task.bundle {
            variables.push(("BUNDLE_BUCKET", bundle.bucket.clone()));
            variables.push(("BUNDLE_KEY", bundle.key.clone()));
            variables.push(("BUNDLE_VERSION", bundle.version.clone().unwrap_or_default()));
            variables.push(("BUNDLE_ETAG", bundle.etag.clone().unwrap_or_default()));
        }
        variables
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

fn failed(message: String) -> Outcome {
    Outcome::Failed(Diagnostics {
        error_code: "UnknownError".to_owned(),
        script_name: String::new(),
        message,
        log_tail: String::new(),
    })
}

fn find(store: &Store, bundle: &Bundle) -> Result<super::s3::blob::Blob, BundleError> {
    let found = store
        .find(&bundle.bucket, &bundle.key, bundle.version.as_deref())
        .map_err(|_| BundleError::Missing {
            bucket: bundle.bucket.clone(),
            key: bundle.key.clone(),
        })?;
    if let Some(expected) = bundle.etag.as_deref().map(|etag| etag.replace('"', ""))
        && expected != found.content.etag
    {
        return Err(BundleError::OtherETag {
            expected,
            found: found.content.etag,
        });
    }
    Ok(found.content.blob)
}

async fn fetch(store: &Store, bundle: &Bundle) -> Result<Archive, BundleError> {
    let blob = find(store, bundle)?;
    let folder = tempfile::Builder::new()
        .prefix("stagedrop-archive-")
        .tempdir()
        .map_err(BundleError::Read)?;
    let file = folder.path().join("bundle");
    {
        use futures_util::StreamExt as _;
        use tokio::io::AsyncWriteExt as _;
        let mut target = tokio::fs::File::create(&file)
            .await
            .map_err(BundleError::Read)?;
        let mut pieces = std::pin::pin!(blob.stream());
        while let Some(piece) = pieces.next().await {
            target
                .write_all(&piece.map_err(BundleError::Read)?)
                .await
                .map_err(BundleError::Read)?;
        }
        target.flush().await.map_err(BundleError::Read)?;
    }
    let bundle_type = bundle.bundle_type.clone();
    let unpacked = tokio::task::spawn_blocking(move || {
        let base = folder.path().join("deployment-archive");
        let root = unpack::unpack(&file, &bundle_type, &base)?;
        Ok::<_, UnpackError>(Archive {
            root,
            _folder: folder,
        })
    });
    match unpacked.await {
        Ok(archive) => Ok(archive?),
        Err(error) => Err(BundleError::Read(io::Error::other(error))),
    }
}

/// Reads the AppSpec of a Lambda or ECS revision: the object itself, or the only document in an archive.
///
/// # Errors
/// Where the object is missing, another than pinned, no archive, or too large.
pub async fn read_document(store: &Store, bundle: &Bundle) -> Result<Vec<u8>, BundleError> {
    let limit = Limits::default().document_bytes_max;
    if ["YAML", "JSON"].contains(&bundle.bundle_type.as_str()) {
        let blob = find(store, bundle)?;
        if blob.length() > limit {
            return Err(BundleError::TooLarge {
                found: blob.length(),
                limit,
            });
        }
        return Ok(blob.read().map_err(BundleError::Read)?.to_vec());
    }
    let archive = fetch(store, bundle).await?;
    let names = ["appspec.yaml", APPSPEC, "appspec.json"];
    let path = names
        .iter()
        .map(|name| archive.root.join(name))
        .find(|path| path.is_file());
    let path =
        path.ok_or_else(|| BundleError::Read(io::Error::other("archive has no appspec.yaml")))?;
    let found = path.metadata().map_err(BundleError::Read)?.len();
    if found > limit {
        return Err(BundleError::TooLarge { found, limit });
    }
    std::fs::read(path).map_err(BundleError::Read)
}

/// The one target of a Lambda or ECS deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerlessTarget {
    /// The function's name, or the task definition.
    pub id: String,
    /// `LambdaFunctionInfo`; null on ECS.
    pub function_info: Value,
}

/// Reads an AppSpec of Lambda or ECS.
///
/// # Errors
/// What is wrong with it, or that it is for another platform.
pub fn serverless_target(bytes: &[u8], is_lambda: bool) -> Result<ServerlessTarget, String> {
    let spec = AppSpec::read(bytes, "AppSpec").map_err(|findings| {
        findings
            .iter()
            .find(|finding| finding.refuses())
            .map_or_else(String::new, |finding| finding.message.clone())
    })?;
    match spec.content {
        Content::Lambda(lambda) if is_lambda => Ok(ServerlessTarget {
            function_info: json!({
                "functionName": lambda.name,
                "functionAlias": lambda.alias,
                "currentVersion": lambda.current_version,
                "targetVersion": lambda.target_version,
                "targetVersionWeight": 1.0,
            }),
            id: lambda.name,
        }),
        Content::Ecs(ecs) if !is_lambda => Ok(ServerlessTarget {
            id: ecs.task_definition,
            function_info: Value::Null,
        }),
        _ => Err("The AppSpec is for another compute platform than the application".to_owned()),
    }
}
