//! Deployments on an instance: bundles made by other people's writers, looked at on the disk.

use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::local::s3::Attributes;

const APPSPEC_FILES: &str =
    "version: 0.0\nos: linux\nfiles:\n  - source: /\n    destination: /srv/app\n";

/// Name, Unix mode with file type, content.
type File<'a> = (&'a str, u32, &'a str);

fn zip(files: &[File<'_>]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, mode, content) in files {
        let options = zip::write::SimpleFileOptions::default().unix_permissions(mode & 0o7777);
        match mode & 0o170_000 {
            0o120_000 => writer.add_symlink(*name, *content, options).unwrap(),
            0o040_000 => writer.add_directory(*name, options).unwrap(),
            _ => {
                writer.start_file(*name, options).unwrap();
                writer.write_all(content.as_bytes()).unwrap();
            }
        }
    }
    writer.finish().unwrap().into_inner()
}

fn tar(files: &[File<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, mode, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode & 0o7777);
        header.set_size(0);
        // Set as bytes: the writer would refuse the names that a hostile archive has.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        match mode & 0o170_000 {
            0o120_000 => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_link_name(content).unwrap();
            }
            0o010_000 => header.set_entry_type(tar::EntryType::Fifo),
            0o040_000 => header.set_entry_type(tar::EntryType::Directory),
            _ => header.set_size(u64::try_from(content.len()).unwrap()),
        }
        header.set_cksum();
        let content = if header.size().unwrap() == 0 {
            ""
        } else {
            content
        };
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn tgz(files: &[File<'_>]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(&tar(files)).unwrap();
    writer.finish().unwrap()
}

struct Instance {
    store: Arc<Store>,
    agent: Arc<Agent>,
    data: TempDir,
}

impl Instance {
    fn new(run_hooks: bool) -> Self {
        let store = Arc::new(Store::new(None).unwrap());
        store.create_bucket("bucket").unwrap();
        let data = TempDir::new().unwrap();
        let agent = Arc::new(Agent::new(data.path().to_owned(), run_hooks));
        Self { store, agent, data }
    }

    fn task(&self, bundle: Vec<u8>, bundle_type: &str) -> Task {
        let written = self
            .store
            .put("bucket", "key", bundle, Attributes::default())
            .unwrap();
        Task {
            application: "app".to_owned(),
            deployment_group: "group".to_owned(),
            deployment_group_id: "8af2".to_owned(),
            deployment_id: "d-1".to_owned(),
            instance: None,
            bundle: Some(Bundle {
                bucket: "bucket".to_owned(),
                key: "key".to_owned(),
                version: None,
                etag: Some(written.etag),
                bundle_type: bundle_type.to_owned(),
            }),
            file_exists_behavior: None,
            ignore_application_stop_failures: false,
            traffic_control: false,
        }
    }

    /// Runs all events; the one that failed, with why.
    async fn run(&self, task: Task) -> Result<(), (String, Diagnostics)> {
        let mut run = Agent::begin(Arc::clone(&self.agent), Arc::clone(&self.store), task);
        for event in lifecycle_events(false) {
            if let Outcome::Failed(diagnostics) = run.carry_out(event).await {
                return Err((event.to_owned(), diagnostics));
            }
        }
        run.succeeded();
        Ok(())
    }

    async fn deploy(
        &self,
        bundle: Vec<u8>,
        bundle_type: &str,
    ) -> Result<(), (String, Diagnostics)> {
        self.run(self.task(bundle, bundle_type)).await
    }

    fn path(&self, path: &str) -> PathBuf {
        self.data.path().join("app/group").join(path)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn ok_files_arrive_with_modes_and_links_from_each_format() {
    let files = [
        ("appspec.yml", 0o100_644, APPSPEC_FILES),
        ("bin/", 0o040_750, ""),
        ("bin/run", 0o100_755, "#!/bin/sh\n"),
        ("current", 0o120_777, "bin/run"),
        ("empty/", 0o040_755, ""),
        ("Grüße.txt", 0o100_600, "hallo"),
    ];
    for (bundle, bundle_type) in [
        (zip(&files), "zip"),
        (tar(&files), "tar"),
        (tgz(&files), "tgz"),
    ] {
        let instance = Instance::new(false);
        instance.deploy(bundle, bundle_type).await.unwrap();
        assert_eq!(instance.read("srv/app/Grüße.txt"), "hallo");
        assert_eq!(mode(&instance.path("srv/app/bin/run")), 0o755);
        assert_eq!(mode(&instance.path("srv/app/bin")), 0o750);
        assert_eq!(mode(&instance.path("srv/app/Grüße.txt")), 0o600);
        assert_eq!(
            fs::read_link(instance.path("srv/app/current")).unwrap(),
            Path::new("bin/run")
        );
        assert!(instance.path("srv/app/empty").is_dir(), "{bundle_type}");
    }
}

#[tokio::test]
async fn ok_a_wrapper_folder_is_stripped_and_single_files_go_into_a_folder() {
    let spec =
        "version: 0.0\nos: linux\nfiles:\n  - source: conf/a.conf\n    destination: /etc/app\n";
    let instance = Instance::new(false);
    let bundle = zip(&[
        ("wrapped/appspec.yml", 0o644, spec),
        ("wrapped/conf/a.conf", 0o644, "x"),
    ]);
    instance.deploy(bundle, "zip").await.unwrap();
    assert_eq!(instance.read("etc/app/a.conf"), "x");
}

#[tokio::test]
async fn ok_the_next_deployment_takes_away_what_the_last_one_brought() {
    let instance = Instance::new(false);
    let spec = ("appspec.yml", 0o644, APPSPEC_FILES);
    instance
        .deploy(
            zip(&[spec, ("old/a", 0o644, "1"), ("same", 0o644, "1")]),
            "zip",
        )
        .await
        .unwrap();
    fs::write(instance.path("srv/app/theirs"), "theirs").unwrap();
    instance
        .deploy(
            zip(&[spec, ("new", 0o644, "2"), ("same", 0o644, "2")]),
            "zip",
        )
        .await
        .unwrap();
    assert!(!instance.path("srv/app/old").exists());
    assert_eq!(
        (
            instance.read("srv/app/same"),
            instance.read("srv/app/theirs")
        ),
        ("2".into(), "theirs".into())
    );
}

#[tokio::test]
async fn err_a_file_in_the_way_is_judged_by_the_option() {
    let bundle = || zip(&[("appspec.yml", 0o644, APPSPEC_FILES), ("a", 0o644, "new")]);
    for (behavior, expected) in [
        (None, None),
        (Some("RETAIN"), Some("old")),
        (Some("OVERWRITE"), Some("new")),
    ] {
        let instance = Instance::new(false);
        fs::create_dir_all(instance.path("srv/app")).unwrap();
        fs::write(instance.path("srv/app/a"), "old").unwrap();
        let mut task = instance.task(bundle(), "zip");
        task.file_exists_behavior = behavior.map(str::to_owned);
        match (instance.run(task).await, expected) {
            (Ok(()), Some(content)) => assert_eq!(instance.read("srv/app/a"), content),
            (Err((event, diagnostics)), None) => {
                assert_eq!(event, "Install");
                assert_eq!(
                    diagnostics.message,
                    "The deployment failed because a specified file already exists at this location: /srv/app/a"
                );
                assert_eq!(instance.read("srv/app/a"), "old");
            }
            (other, _) => panic!("{behavior:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn err_bundles_that_are_not_what_was_deployed() {
    let instance = Instance::new(false);
    let good = zip(&[("appspec.yml", 0o644, APPSPEC_FILES)]);
    let mut task = instance.task(good.clone(), "zip");
    instance
        .store
        .put("bucket", "key", "other bytes", Attributes::default())
        .unwrap();
    let (event, diagnostics) = instance.run(task.clone()).await.unwrap_err();
    assert_eq!(event, "DownloadBundle");
    assert!(
        diagnostics
            .message
            .starts_with("Expected deployment artifact bundle etag"),
        "{}",
        diagnostics.message
    );
    task.bundle.as_mut().unwrap().key = "gone".to_owned();
    let (_, diagnostics) = instance.run(task).await.unwrap_err();
    assert_eq!(
        diagnostics.message,
        "The specified key does not exist: s3://bucket/gone"
    );
    let (event, _) = instance.deploy(good, "tgz").await.unwrap_err();
    assert_eq!(event, "DownloadBundle");
    let (event, diagnostics) = instance
        .deploy(zip(&[("a", 0o644, "")]), "zip")
        .await
        .unwrap_err();
    assert_eq!(event, "BeforeInstall");
    assert!(
        diagnostics
            .message
            .starts_with("The CodeDeploy agent did not find an AppSpec file")
    );
}

#[tokio::test]
async fn err_nothing_is_written_outside() {
    let outside = TempDir::new().unwrap();
    let link = outside.path().to_str().unwrap();
    let spec = ("appspec.yml", 0o100_644, APPSPEC_FILES);
    let up = "../".repeat(20);
    let through = format!("{}{}/escaped", up, link.trim_start_matches('/'));
    let absolute = format!("{link}/escaped");
    let linked = [
        spec,
        ("way", 0o120_777, link),
        ("way/escaped", 0o100_644, "x"),
    ];
    for files in [
        vec![spec, (through.as_str(), 0o100_644, "x")],
        vec![spec, (absolute.as_str(), 0o100_644, "x")],
        linked.to_vec(),
        vec![
            spec,
            ("way", 0o120_777, link),
            ("way/escaped", 0o120_777, "/etc/passwd"),
        ],
        vec![spec, ("pipe", 0o010_644, "")],
    ] {
        let instance = Instance::new(false);
        let result = instance.deploy(tar(&files), "tar").await;
        assert!(result.is_err(), "{files:?}");
        assert_eq!(
            fs::read_dir(outside.path()).unwrap().count(),
            0,
            "{files:?}"
        );
    }
    // A link that an earlier deployment brought is not followed by the next one.
    let instance = Instance::new(false);
    let into = "version: 0.0\nos: linux\nfiles:\n  - source: /x\n    destination: /srv/app/way\n";
    let mut task = instance.task(tar(&[spec, ("way", 0o120_777, link)]), "tar");
    instance.run(task.clone()).await.unwrap();
    fs::remove_dir_all(instance.data.path().join("%cleanup")).unwrap();
    let second = tar(&[("appspec.yml", 0o100_644, into), ("x", 0o100_644, "x")]);
    task.bundle = instance.task(second, "tar").bundle;
    let (event, diagnostics) = instance.run(task).await.unwrap_err();
    assert_eq!(
        (
            event.as_str(),
            diagnostics.message.contains("leads through a link")
        ),
        ("Install", true)
    );
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn err_a_failing_script_tells_its_output() {
    let spec = "version: 0.0\nos: linux\nhooks:\n  AfterInstall:\n    - location: scripts/good.sh\n    - location: scripts/bad.sh\n";
    let good = "#!/bin/sh\necho \"$APPLICATION_NAME $DEPLOYMENT_ID $LIFECYCLE_EVENT\" > good\n[ -z \"$HOME\" ]\n";
    let bad = "#!/bin/sh\necho starting\nls good\necho 'no such host' >&2\nexit 7\n";
    let bundle = || {
        zip(&[
            ("appspec.yml", 0o644, spec),
            ("scripts/good.sh", 0o644, good),
            ("scripts/bad.sh", 0o755, bad),
        ])
    };
    Instance::new(false).deploy(bundle(), "zip").await.unwrap();
    let (event, diagnostics) = Instance::new(true)
        .deploy(bundle(), "zip")
        .await
        .unwrap_err();
    assert_eq!(event, "AfterInstall");
    assert_eq!(
        (
            diagnostics.error_code.as_str(),
            diagnostics.script_name.as_str()
        ),
        ("ScriptFailed", "scripts/bad.sh")
    );
    assert_eq!(
        diagnostics.message,
        "Script at specified location: scripts/bad.sh failed with exit code 7"
    );
    let (head, rest) = diagnostics
        .log_tail
        .split_at("LifecycleEvent - AfterInstall\nScript - scripts/bad.sh\n".len());
    assert_eq!(
        head,
        "LifecycleEvent - AfterInstall\nScript - scripts/bad.sh\n"
    );
    for line in [
        "[stdout]starting\n",
        "[stdout]good\n",
        "[stderr]no such host\n",
    ] {
        assert!(rest.contains(line), "{rest}");
    }
}

#[tokio::test]
async fn err_scripts_that_hang_are_missing_or_have_no_interpreter() {
    let spec = |timeout: &str| {
        format!(
            "version: 0.0\nos: linux\nhooks:\n  BeforeInstall:\n    - location: a.sh\n      timeout: {timeout}\n"
        )
    };
    let instance = Instance::new(true);
    let begun = Instant::now();
    let (_, diagnostics) = instance
        .deploy(
            zip(&[
                ("appspec.yml", 0o644, &spec("1")),
                ("a.sh", 0o755, "#!/bin/sh\nsleep 60 &\nsleep 60\n"),
            ]),
            "zip",
        )
        .await
        .unwrap_err();
    assert_eq!(diagnostics.error_code, "ScriptTimedOut");
    assert_eq!(
        diagnostics.message,
        "Script at specified location: a.sh failed to complete in 1 seconds"
    );
    assert!(begun.elapsed() < Duration::from_secs(20));
    let (_, diagnostics) = instance
        .deploy(zip(&[("appspec.yml", 0o644, &spec("1"))]), "zip")
        .await
        .unwrap_err();
    assert_eq!(diagnostics.error_code, "ScriptMissing");
    instance
        .deploy(
            zip(&[
                ("appspec.yml", 0o644, &spec("9")),
                ("a.sh", 0o644, "echo plain\n"),
            ]),
            "zip",
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn ok_application_stop_runs_the_script_of_the_last_good_deployment() {
    let spec = "version: 0.0\nos: linux\nhooks:\n  ApplicationStop:\n    - location: stop.sh\n";
    let instance = Instance::new(true);
    let marker = instance.data.path().join("stopped");
    let stop = |line: &str| format!("#!/bin/sh\n{line}\n");
    let bundle = |script: &str| zip(&[("appspec.yml", 0o644, spec), ("stop.sh", 0o755, script)]);
    instance
        .deploy(bundle(&stop(&format!("touch {}", marker.display()))), "zip")
        .await
        .unwrap();
    assert!(!marker.exists());
    instance
        .deploy(bundle(&stop("exit 1")), "zip")
        .await
        .unwrap();
    assert!(marker.exists());
    let mut task = instance.task(bundle(&stop("exit 0")), "zip");
    let (event, _) = instance.run(task.clone()).await.unwrap_err();
    assert_eq!(event, "ApplicationStop");
    task.ignore_application_stop_failures = true;
    instance.run(task).await.unwrap();
}

#[test]
fn ok_folders_of_applications_named_dots_are_their_own() {
    let agent = Agent::new(PathBuf::from("/data"), false);
    assert_eq!(agent.root("..", ".", None), Path::new("/data/%2E%2E/%2E"));
    assert_eq!(
        agent.root("a.b", "g", Some("i-0")),
        Path::new("/data/a.b/g/i-0")
    );
}

proptest! {
    #[test]
    fn ok_no_destination_leads_out(destination in "[a-c./\\\\:]{0,12}") {
        let spec = serde_json::json!({
            "version": 0.0, "os": "linux",
            "files": [{ "source": "/x", "destination": destination }],
        });
        let archive = TempDir::new().unwrap();
        fs::write(archive.path().join("x"), "x").unwrap();
        let outer = TempDir::new().unwrap();
        let root = outer.path().join("app/group");
        if let Ok(spec) = AppSpec::read(spec.to_string().as_bytes(), APPSPEC) {
            let cleanup = outer.path().join("cleanup/list.json");
            let _ = install::install(archive.path(), spec.server().unwrap(), None, &root, &cleanup);
            let mut outside: Vec<_> = fs::read_dir(outer.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            outside.retain(|name| name != "app" && name != "cleanup");
            prop_assert!(outside.is_empty());
            prop_assert_eq!(fs::read_dir(outer.path().join("app")).unwrap().count(), 1);
        }
    }
}
