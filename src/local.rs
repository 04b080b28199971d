//! The embedded AWS: S3, CodeDeploy, EventBridge and Lambda in one process, on loopback.
//!
//! ```text
//! any S3 client -> s3 -> events -> runtime_api (deploy) -> s3, codedeploy
//!                                      codedeploy -> agent -> <data>/<application>/<group>/…
//!                                      codedeploy -> events -> runtime_api (record) -> s3
//! ```
//!
//! Owns the composition: who listens where, who tells whom. It runs `stagedrop demo`, `stagedrop
//! local` and the tests; the functions never see it, they see addresses.

pub mod agent;
pub mod codedeploy;
pub mod events;
pub mod faults;
pub mod iam;
pub mod identity;
pub mod runtime_api;
pub mod s3;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::http::request::Parts;
use hyper::{Request, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::agent::Agent;
use self::codedeploy::{ApiError, CodeDeploy, LimitWording, Platform, Progress};
use self::events::{Delivery, Router, Target};
use self::faults::{Faults, Service, Wire, WireBody};
use self::iam::{Guarded, Iam};
use self::runtime_api::{Function, FunctionSpec, Observer};
use self::s3::{LocalS3, Store, StoreError, Versioning};

/// Locks; state behind a lock whose holder panicked is still whole here, as no panic is planned.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How the embedded AWS is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where deployments install their files; a temporary folder where `None`.
    pub data: Option<PathBuf>,
    /// The port that serves S3 and CodeDeploy together; any free one where 0.
    pub port: u16,
    /// Whether deployments run the bundle's hook scripts, as the user of this process.
    pub run_hooks: bool,
    /// Region of everything.
    pub region: String,
    /// How events are delivered.
    pub delivery: Delivery,
    /// What moves deployments on.
    pub progress: Progress,
    /// Instances of a new deployment group.
    pub instances: usize,
    /// Ids in one page of CodeDeploy's lists.
    pub page_size: usize,
    /// How CodeDeploy words its limit error.
    pub limit_wording: LimitWording,
    /// How often the schedule ticks by itself; never where `None`.
    pub schedule: Option<Duration>,
    /// Whether revisions lie in somebody else's S3; deployments then succeed and leave nothing behind.
    pub revisions_elsewhere: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            data: None,
            port: 0,
            run_hooks: false,
            region: "us-east-1".to_owned(),
            delivery: Delivery::default(),
            progress: Progress::Automatic {
                step: Duration::ZERO,
            },
            instances: 1,
            page_size: 100,
            limit_wording: LimitWording::Current,
            schedule: None,
            revisions_elsewhere: false,
        }
    }
}

/// Why the embedded AWS does not start.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// A port is taken, or there is none left.
    #[error("port {port} on 127.0.0.1 cannot be had")]
    Listen {
        /// The port; 0 is any.
        port: u16,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The data folder cannot be made.
    #[error("data folder `{path}` cannot be made")]
    Data {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// S3 cannot be set up.
    #[error("embedded S3 cannot be set up")]
    S3(#[source] io::Error),
    /// A bucket cannot be made.
    #[error("bucket `{0}` cannot be made: {1:?}")]
    Bucket(String, StoreError),
    /// CodeDeploy refused what was to be set up.
    #[error("embedded CodeDeploy refused: {0}")]
    CodeDeploy(#[from] ApiError),
}

/// Addresses under which one caller reaches S3 and CodeDeploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// `http://127.0.0.1:…` of S3.
    pub s3: String,
    /// `http://127.0.0.1:…` of CodeDeploy.
    pub codedeploy: String,
}

/// S3 and CodeDeploy behind one port: CodeDeploy's requests are known by their `X-Amz-Target`.
///
/// The request log counts all of them as S3's; who wants to plan faults uses [`LocalAws::endpoints`].
struct Front {
    s3: LocalS3,
    codedeploy: CodeDeploy,
}

impl Wire for Front {
    fn service(&self) -> Service {
        Service::S3
    }

    fn operation(&self, head: &Parts) -> String {
        if head.headers.contains_key("x-amz-target") {
            self.codedeploy.operation(head)
        } else {
            self.s3.operation(head)
        }
    }

    async fn call(&self, request: Request<WireBody>) -> Response<WireBody> {
        if request.headers().contains_key("x-amz-target") {
            Wire::call(&self.codedeploy, request).await
        } else {
            self.s3.call(request).await
        }
    }

    fn failure(&self, status: u16, code: &str) -> Response<WireBody> {
        self.s3.failure(status, code)
    }
}

/// The two functions, once they run.
#[derive(Clone)]
pub struct Functions {
    /// Takes staged objects.
    pub deploy: Function,
    /// Takes outcomes and the schedule.
    pub record: Function,
}

/// The embedded AWS, up and listening.
pub struct LocalAws {
    options: Options,
    s3: LocalS3,
    codedeploy: CodeDeploy,
    router: Router,
    faults: Arc<Faults>,
    iam: Arc<Iam>,
    agent: Arc<Agent>,
    address: SocketAddr,
    data: PathBuf,
    _temporary: Option<TempDir>,
    functions: Mutex<Option<Functions>>,
    stop: watch::Sender<bool>,
    schedule: Option<tokio::task::JoinHandle<()>>,
}

impl LocalAws {
    /// Starts it; it is empty but for CodeDeploy's standard configurations.
    ///
    /// # Errors
    /// Where a port or folder cannot be had.
    pub async fn start(options: Options) -> Result<Self, LocalError> {
        let (data, temporary) = data_folder(options.data.as_deref())?;
        let s3_options = s3::Options {
            account: identity::ACCOUNT.to_owned(),
            region: options.region.clone(),
            ..s3::Options::default()
        };
        let s3 = LocalS3::new(s3_options).map_err(LocalError::S3)?;
        let agent = Arc::new(Agent::new(data.clone(), options.run_hooks));
        let codedeploy = CodeDeploy::new(codedeploy::Options {
            region: options.region.clone(),
            page_size: options.page_size,
            instances: options.instances,
            progress: options.progress,
            limit_wording: options.limit_wording,
            store: (!options.revisions_elsewhere).then(|| s3.store()),
            revisions_elsewhere: options.revisions_elsewhere,
            agent: (!options.revisions_elsewhere).then(|| Arc::clone(&agent)),
        });
        let router = Router::new(options.region.clone(), options.delivery);
        let told = router.clone();
        s3.store()
            .observe(Arc::new(move |object| told.object_created(&object)));
        let told = router.clone();
        codedeploy.observe(Arc::new(move |change| told.deployment_changed(&change)));

        let faults = Arc::new(Faults::new());
        let stop = watch::Sender::new(false);
        let front = Front {
            s3: s3.clone(),
            codedeploy: codedeploy.clone(),
        };
        let address = listen(Arc::new(front), options.port, "local", &faults, &stop).await?;
        let schedule = options.schedule.map(|interval| router.schedule(interval));
        Ok(Self {
            options,
            s3,
            codedeploy,
            router,
            faults,
            iam: Arc::default(),
            agent,
            address,
            data,
            _temporary: temporary,
            functions: Mutex::default(),
            stop,
            schedule,
        })
    }

    /// The address that serves S3 and CodeDeploy together: `http://127.0.0.1:…`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Opens addresses for one more caller, who is named `label` in the request log, in the plan of
    /// faults and where [`Self::iam`] attaches policies.
    ///
    /// # Errors
    /// Where there is no port left.
    pub async fn endpoints(&self, label: &str) -> Result<Endpoints, LocalError> {
        let s3 = Guarded::new(self.s3.clone(), Arc::clone(&self.iam), label);
        let s3 = listen(Arc::new(s3), 0, label, &self.faults, &self.stop).await?;
        let codedeploy = Guarded::new(self.codedeploy.clone(), Arc::clone(&self.iam), label);
        let codedeploy = listen(Arc::new(codedeploy), 0, label, &self.faults, &self.stop).await?;
        Ok(Endpoints {
            s3: format!("http://{s3}"),
            codedeploy: format!("http://{codedeploy}"),
        })
    }

    /// The environment that leads AWS clients of any kind to [`Self::endpoint`].
    pub fn environment(&self) -> BTreeMap<String, String> {
        let endpoint = self.endpoint();
        self.environment_of(&Endpoints {
            s3: endpoint.clone(),
            codedeploy: endpoint,
        })
    }

    /// The same for the addresses of one caller.
    pub fn environment_of(&self, endpoints: &Endpoints) -> BTreeMap<String, String> {
        [
            ("AWS_ACCESS_KEY_ID", "local"),
            ("AWS_SECRET_ACCESS_KEY", "local"),
            ("AWS_REGION", self.options.region.as_str()),
            ("AWS_DEFAULT_REGION", self.options.region.as_str()),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_ENDPOINT_URL", endpoints.s3.as_str()),
            ("AWS_ENDPOINT_URL_S3", endpoints.s3.as_str()),
            ("AWS_ENDPOINT_URL_CODEDEPLOY", endpoints.codedeploy.as_str()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// Makes a bucket.
    ///
    /// # Errors
    /// Where it exists already.
    pub fn create_bucket(&self, name: &str, versioned: bool) -> Result<(), LocalError> {
        let failed = |error| LocalError::Bucket(name.to_owned(), error);
        self.store().create_bucket(name).map_err(failed)?;
        if versioned {
            self.store()
                .set_versioning(name, Versioning::Enabled)
                .map_err(failed)?;
        }
        Ok(())
    }

    /// Makes an application.
    ///
    /// # Errors
    /// As `CreateApplication`.
    pub fn create_application(&self, name: &str, platform: Platform) -> Result<(), LocalError> {
        let input = json!({ "applicationName": name, "computePlatform": platform });
        self.codedeploy.call("CreateApplication", &input)?;
        Ok(())
    }

    /// Makes a deployment group, with the platform's default configuration.
    ///
    /// # Errors
    /// As `CreateDeploymentGroup`.
    pub fn create_deployment_group(&self, application: &str, name: &str) -> Result<(), LocalError> {
        self.create_deployment_group_with(application, name, json!({}))
    }

    /// Makes a deployment group with further members of `CreateDeploymentGroup`.
    ///
    /// # Errors
    /// As `CreateDeploymentGroup`.
    pub fn create_deployment_group_with(
        &self,
        application: &str,
        name: &str,
        members: Value,
    ) -> Result<(), LocalError> {
        let mut input = json!({
            "applicationName": application,
            "deploymentGroupName": name,
            "serviceRoleArn": format!("arn:aws:iam::{}:role/CodeDeployServiceRole", identity::ACCOUNT),
        });
        if let (Some(input), Value::Object(members)) = (input.as_object_mut(), members) {
            input.extend(members);
        }
        self.codedeploy.call("CreateDeploymentGroup", &input)?;
        Ok(())
    }

    /// Runs the functions as processes and gives them their events. Each gets addresses of its own,
    /// labelled with its name, and the environment for them below what its spec says.
    ///
    /// # Errors
    /// Where there is no port left.
    pub async fn run_functions(
        &self,
        mut deploy: FunctionSpec,
        mut record: FunctionSpec,
        observer: Option<Observer>,
    ) -> Result<Functions, LocalError> {
        for spec in [&mut deploy, &mut record] {
            let mut environment = self.environment_of(&self.endpoints(&spec.name).await?);
            environment.append(&mut spec.env);
            spec.env = environment;
            spec.region.clone_from(&self.options.region);
        }
        let functions = Functions {
            deploy: Function::start(deploy, observer.clone()),
            record: Function::start(record, observer),
        };
        *locked(&self.functions) = Some(functions.clone());
        let taking = functions.clone();
        self.router.deliver_to(Arc::new(move |event| {
            match event.target {
                Target::Deploy => taking.deploy.enqueue(event.body),
                Target::Record => taking.record.enqueue(event.body),
            };
        }));
        Ok(functions)
    }

    /// Waits until no event is on its way or being handled; deployments may still be running.
    pub async fn quiet(&self) {
        loop {
            self.router.idle().await;
            let functions = locked(&self.functions).clone();
            if let Some(functions) = &functions {
                functions.deploy.idle().await;
                functions.record.idle().await;
            }
            let unsettled = functions.map_or(0, |functions| {
                functions.deploy.unsettled() + functions.record.unsettled()
            });
            if self.router.is_idle() && unsettled == 0 {
                return;
            }
        }
    }

    /// Waits until nothing moves any more: no event, no function, no deployment.
    pub async fn settled(&self) {
        loop {
            self.quiet().await;
            let before = self.router.log().len();
            self.codedeploy.idle().await;
            self.quiet().await;
            let is_active = self.codedeploy.deployments().iter().any(|id| {
                self.codedeploy
                    .status(id)
                    .is_some_and(|status| !status.is_terminal())
            });
            if before == self.router.log().len() && !is_active {
                return;
            }
        }
    }

    /// What S3 holds.
    pub fn store(&self) -> Arc<Store> {
        self.s3.store()
    }

    /// CodeDeploy, for setting up, steering and looking.
    pub fn codedeploy(&self) -> &CodeDeploy {
        &self.codedeploy
    }

    /// The routes of events.
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// The request log and the plan of faults.
    pub fn faults(&self) -> Arc<Faults> {
        Arc::clone(&self.faults)
    }

    /// Who may do what, by label; everybody everything until policies are attached.
    pub fn iam(&self) -> &Iam {
        &self.iam
    }

    /// The folder under which deployments install.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The folder that stands for the root of a group's only instance.
    pub fn instance_root(&self, application: &str, deployment_group: &str) -> PathBuf {
        self.agent.root(application, deployment_group, None)
    }

    /// Ends the functions' processes, then closes the ports.
    pub async fn shutdown(mut self) {
        if let Some(schedule) = self.schedule.take() {
            schedule.abort();
        }
        let functions = locked(&self.functions).take();
        if let Some(functions) = functions {
            functions.deploy.shutdown().await;
            functions.record.shutdown().await;
        }
        self.stop.send_replace(true);
    }
}

impl Drop for LocalAws {
    fn drop(&mut self) {
        if let Some(schedule) = self.schedule.take() {
            schedule.abort();
        }
        if let Some(functions) = locked(&self.functions).take() {
            functions.deploy.close();
            functions.record.close();
        }
        self.stop.send_replace(true);
    }
}

fn data_folder(wanted: Option<&Path>) -> Result<(PathBuf, Option<TempDir>), LocalError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| LocalError::Data { path, source }
    };
    match wanted {
        Some(path) => {
            std::fs::create_dir_all(path).map_err(failed(path))?;
            // Hook scripts run elsewhere, so they are told absolute paths.
            Ok((path.canonicalize().map_err(failed(path))?, None))
        }
        None => {
            let folder = tempfile::Builder::new()
                .prefix("stagedrop-data-")
                .tempdir()
                .map_err(failed(&std::env::temp_dir()))?;
            Ok((folder.path().to_owned(), Some(folder)))
        }
    }
}

async fn listen<W: Wire>(
    wire: Arc<W>,
    port: u16,
    label: &str,
    faults: &Arc<Faults>,
    stop: &watch::Sender<bool>,
) -> Result<SocketAddr, LocalError> {
    let failed = |source| LocalError::Listen { port, source };
    let listener = TcpListener::bind(("127.0.0.1", port))
        .await
        .map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let (faults, label) = (Arc::clone(faults), label.to_owned());
    let mut stopped = stop.subscribe();
    tokio::spawn(async move {
        // Also ends where the embedded AWS is gone.
        let shutdown = async move { drop(stopped.wait_for(|stopped| *stopped).await) };
        faults::serve(wire, listener, &label, faults, shutdown).await;
    });
    Ok(address)
}
