//! `stagedrop push` against the embedded AWS: every end with its exit status, and none half-way.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use stagedrop::local::Options;
use stagedrop::local::codedeploy::Status;
use stagedrop::local::faults::{Fault, Match, Nth};

use super::running::{
    Call, Said, assert_transcript, comparable, screen, with_colours, without_passing_states,
};
use crate::support::{
    ARTIFACTS, COMMIT, World, application, automatic, by_hand, staged_key, unpack,
};

/// Writes an application into a folder; its hook ends with `status`.
fn write_application(folder: &Path, status: u8) {
    let write = |name: &str, mode: u32, content: &str| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    write("appspec.yml", 0o644, crate::support::APPSPEC);
    write("index.html", 0o644, "<p>hello</p>\n");
    let hook =
        format!("#!/bin/sh\necho migrating\nsleep 0.3\necho 'no such column' >&2\nexit {status}\n");
    write("scripts/after.sh", 0o755, &hook);
    write("notes.log", 0o644, "not this\n");
    write(".gitignore", 0o644, "*.log\nnode_modules/\n");
    write(".stagedropignore", 0o644, "!node_modules/\n/docs\n");
    write(
        "node_modules/left-pad/index.js",
        0o600,
        "module.exports = 1\n",
    );
    write("docs/readme.md", 0o644, "not this either\n");
    write("drafts/one.md", 0o644, "excluded\n");
    write(".git/HEAD", 0o644, "ref: refs/heads/other\n");
    if folder.join("start.html").symlink_metadata().is_err() {
        symlink("index.html", folder.join("start.html")).unwrap();
    }
    std::fs::create_dir_all(folder.join("log")).unwrap();
    for folder in [
        "log",
        "scripts",
        "node_modules",
        "node_modules/left-pad",
        "drafts",
    ]
    .map(|name| folder.join(name))
    {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// A push of a path as a build of `shop`.
fn arguments<'a>(path: &'a str, build_num: &'a str) -> Vec<&'a str> {
    vec![
        "push",
        path,
        "--to",
        "s3://artifacts/staging",
        "--project",
        "shop",
        "--branch",
        "master",
        "--commit",
        COMMIT,
        "--build-num",
        build_num,
    ]
}

fn push(folder: &Path, build_num: u32, more: &[&str]) -> Call {
    let number = build_num.to_string();
    let mut arguments = arguments(".", &number);
    arguments.extend(["--author", "alice", "--exclude", "drafts"]);
    arguments.extend_from_slice(more);
    Call::new(&arguments, folder)
}

/// What is told of an end, without what a look may miss.
fn told(said: &Said) -> String {
    without_passing_states(&comparable(&said.text))
}

fn hooks_run() -> Options {
    Options {
        run_hooks: true,
        ..automatic()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_folder_is_deployed_with_modes_and_links_and_without_what_is_ignored() {
    let world = World::start(hooks_run()).await;
    let folder = tempfile::tempdir().unwrap();
    write_application(folder.path(), 0);
    let call = push(folder.path(), 1, &[]).with(&world.aws.environment());
    let said = call.piped().await;
    assert_eq!(said.code, 0, "{}", said.text);
    assert_transcript("push-succeeded.piped", &told(&said));
    let staged = world
        .aws
        .store()
        .get(ARTIFACTS, &staged_key(1))
        .unwrap()
        .to_vec();
    let tree = unpack("zip", &staged);
    let expected = [
        (".gitignore", 'f', 0o644),
        (".stagedropignore", 'f', 0o644),
        ("appspec.yml", 'f', 0o644),
        ("index.html", 'f', 0o644),
        ("log", 'd', 0o755),
        ("node_modules", 'd', 0o755),
        ("node_modules/left-pad", 'd', 0o755),
        ("node_modules/left-pad/index.js", 'f', 0o600),
        ("scripts", 'd', 0o755),
        ("scripts/after.sh", 'f', 0o755),
        ("start.html", 'l', 0o777),
    ];
    let found: Vec<_> = tree
        .iter()
        .map(|(name, (kind, mode, _))| (name.as_str(), *kind, *mode))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(tree["start.html"].2, b"index.html");
    let drop = world.drop_record(&staged_key(1));
    assert_eq!(drop["build"]["author"], "alice");
    world.check_records();

    // The same folder under another name gives the same bytes, however old its files are.
    let copy = tempfile::tempdir().unwrap();
    write_application(copy.path(), 0);
    let call = push(copy.path(), 2, &["--output", "json"]).with(&world.aws.environment());
    let said = call.piped().await;
    assert_eq!(said.code, 0, "{}", said.text);
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(report["status"], "succeeded");
    assert_eq!(report["drop"]["deployments"][0]["status"], "succeeded");
    let again = world.aws.store().get(ARTIFACTS, &staged_key(2)).unwrap();
    assert!(again.to_vec() == staged, "the bytes differ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_push_says_target_event_script_and_log() {
    let world = World::start(hooks_run()).await;
    let folder = tempfile::tempdir().unwrap();
    write_application(folder.path(), 3);
    let call = push(folder.path(), 1, &[]).with(&world.aws.environment());
    let said = call.piped().await;
    assert_eq!(said.code, 1, "{}", said.text);
    assert_transcript("push-failed.piped", &told(&said));
    let call = push(folder.path(), 2, &[]).with(&world.aws.environment());
    let said = call.on_terminal().await;
    assert_eq!(said.code, 1, "{}", said.text);
    let shown = without_passing_states(&comparable(&screen(&said)));
    assert_transcript("push-failed.screen", &shown);
}

#[tokio::test(flavor = "multi_thread")]
async fn colours_are_for_terminals_that_want_them() {
    let world = World::start(hooks_run()).await;
    let folder = tempfile::tempdir().unwrap();
    write_application(folder.path(), 0);
    let call = push(folder.path(), 1, &["--output", "text"]).with(&world.aws.environment());
    let said = call.on_terminal().await;
    assert_eq!(said.code, 0, "{}", said.text);
    let shown = comparable(&with_colours(&said));
    assert!(shown.contains("␛[1m␛[32msucceeded"), "{shown}");
    let call = push(folder.path(), 2, &[])
        .with(&world.aws.environment())
        .set("NO_COLOR", "1");
    let said = call.on_terminal().await;
    assert_eq!(said.code, 0, "{}", said.text);
    assert!(!said.text.contains("\u{1b}[32m"), "{}", said.text);
    assert_transcript(
        "push-succeeded.screen",
        &without_passing_states(&comparable(&screen(&said))),
    );
    let said = push(folder.path(), 3, &[])
        .with(&world.aws.environment())
        .piped()
        .await;
    assert!(!said.text.contains('\u{1b}'), "{}", said.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_would_be_refused_is_not_even_staged() {
    let world = World::start(automatic()).await;
    let folder = tempfile::tempdir().unwrap();
    write_application(folder.path(), 0);
    std::fs::remove_file(folder.path().join("scripts/after.sh")).unwrap();
    let call = push(folder.path(), 1, &[]).with(&world.aws.environment());
    let said = call.piped().await;
    assert_eq!(said.code, 1, "{}", said.text);
    assert_transcript("push-refused.piped", &told(&said));
    let keys = world.aws.store().keys(ARTIFACTS, "staging/").unwrap();
    assert!(keys.is_empty(), "{keys:?}");

    // Without the check the function finds the same, and records it.
    let call = push(folder.path(), 1, &["--no-check"]).with(&world.aws.environment());
    let said = call.piped().await;
    assert_eq!(said.code, 1, "{}", said.text);
    assert_transcript("push-rejected.piped", &told(&said));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_block_matches_is_done() {
    let world = World::start(automatic()).await;
    let folder = tempfile::tempdir().unwrap();
    write_application(folder.path(), 0);
    let call = Call::new(
        &[
            "push",
            ".",
            "--to",
            "s3://artifacts/staging/{PROJECT}/{BRANCH}/{BUILD_NUM}-{COMMIT}",
            "--project",
            "shop",
        ],
        folder.path(),
    )
    .with(&world.aws.environment())
    .set("GITHUB_ACTIONS", "true")
    .set("GITHUB_REF", "refs/pull/12/merge")
    .set("GITHUB_SHA", COMMIT)
    .set("GITHUB_RUN_NUMBER", "9")
    .set("GITHUB_REPOSITORY", "acme/web");
    let said = call.piped().await;
    assert_eq!(said.code, 0, "{}", said.text);
    assert_transcript("push-ignored.piped", &told(&said));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_build_is_superseded_and_a_waiting_one_gets_its_turn() {
    let world = World::start(by_hand()).await;
    let folder = tempfile::tempdir().unwrap();
    write_application(folder.path(), 0);
    let foreign = world.foreign_deployment();
    world.aws.quiet().await;
    let older = push(folder.path(), 5, &[]).with(&world.aws.environment());
    let older = tokio::spawn(async move { older.piped().await });
    world.until_status(5, "waiting").await;
    // The first one has to be seen waiting before it is overtaken.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let newer = push(folder.path(), 6, &[]).with(&world.aws.environment());
    let newer = tokio::spawn(async move { newer.piped().await });
    world.until_status(6, "waiting").await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let older = older.await.unwrap();
    assert_eq!(older.code, 0, "{}", older.text);
    assert_transcript("push-superseded.piped", &told(&older));
    let codedeploy = world.aws.codedeploy();
    codedeploy.advance(&foreign, Status::Stopped, None).unwrap();
    world.aws.quiet().await;
    let ours = codedeploy.active("shop", "production").unwrap();
    codedeploy.advance(&ours, Status::InProgress, None).unwrap();
    codedeploy.advance(&ours, Status::Succeeded, None).unwrap();
    let newer = newer.await.unwrap();
    assert_eq!(newer.code, 0, "{}", newer.text);
    assert_transcript("push-waited.piped", &told(&newer));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_does_not_end_in_time_says_how_far_it_came() {
    let world = World::start(by_hand()).await;
    let folder = tempfile::tempdir().unwrap();
    write_application(folder.path(), 0);
    world.foreign_deployment();
    world.aws.quiet().await;
    let call = push(folder.path(), 1, &["--timeout", "3s"]).with(&world.aws.environment());
    let said = call.piped().await;
    assert_eq!(said.code, 1, "{}", said.text);
    assert_transcript("push-timeout.piped", &told(&said));
    // Beside the point of the records, nothing is seen at all.
    let call = push(
        folder.path(),
        2,
        &["--timeout", "0s", "--records", "s3://artifacts/elsewhere/"],
    )
    .with(&world.aws.environment());
    let said = call.piped().await;
    assert_eq!(said.code, 1, "{}", said.text);
    assert!(
        said.text
            .contains("there is no record of it at s3://artifacts/elsewhere/drops/"),
        "{}",
        said.text
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_pushed_is_told_with_its_cure() {
    let folder = tempfile::tempdir().unwrap();
    write_application(folder.path(), 0);
    let mut text = String::new();
    for arguments in [
        &["push", "."][..],
        &["push", ".", "--to", "artifacts/staging"],
        &["push", ".", "--to", "s3://artifacts/staging"],
        &["push", "nowhere", "--to", "s3://artifacts/staging"],
        &["push", "index.html", "--to", "s3://artifacts/staging"],
        &["push", ".", "--to", "s3://abc/x.zip", "--exclude", "{a"],
        &["push", ".", "--to", "s3://abc/x.zip", "--timeout", "soon"],
        &[
            "push",
            ".",
            "--to",
            "s3://abc/x.zip",
            "--repository",
            "shop",
        ],
        &["push", ".", "--to", "s3://abc/x.zip", "--commit", "v1"],
        &["push", ".", "--to", "s3://abc/x.zip"],
    ] {
        let said = Call::new(arguments, folder.path()).piped().await;
        assert_eq!(said.code, 2, "{}", said.text);
        text.push_str(&format!(
            "$ stagedrop {}\n{}\n",
            arguments.join(" "),
            said.text
        ));
    }
    assert_transcript("push-not-done.piped", &comparable(&text));
}

impl World {
    async fn until_status(&self, build_num: u32, status: &str) {
        for _ in 0..600 {
            let record = self.record(&format!("drops/{}.json", staged_key(build_num)));
            if record.is_some_and(|record| record["status"] == status) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("build {build_num} is not {status}");
    }
}

/// A folder whose zip has many parts.
fn write_noise(folder: &Path, megabytes: usize) {
    write_application(folder, 0);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let noise: Vec<u8> = (0..megabytes << 17)
        .flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .collect();
    std::fs::write(folder.join("noise.bin"), noise).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_many_parts_arrives_whole() {
    let world = World::start(automatic()).await;
    let folder = tempfile::tempdir().unwrap();
    write_noise(folder.path(), 40);
    let call = push(folder.path(), 1, &[]).with(&world.aws.environment());
    let said = call.on_terminal().await;
    assert_eq!(said.code, 0, "{}", said.text);
    assert!(said.text.contains("uploading  ["), "{}", said.text);
    assert!(said.text.contains(" left"), "{}", said.text);
    assert!(!screen(&said).contains("uploading"), "{}", screen(&said));
    let staged = world.aws.store().get(ARTIFACTS, &staged_key(1)).unwrap();
    let tree = unpack("zip", &staged);
    let noise = std::fs::read(folder.path().join("noise.bin")).unwrap();
    assert!(tree["noise.bin"].2 == noise);
    assert_eq!(world.aws.store().uploads_in_progress(ARTIFACTS).unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_push_leaves_no_parts_behind() {
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let world = World::start(automatic()).await;
        let folder = tempfile::tempdir().unwrap();
        write_noise(folder.path(), 200);
        let mut child = push(folder.path(), 1, &[])
            .with(&world.aws.environment())
            .command()
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut is_under_way = false;
        for _ in 0..2_000 {
            is_under_way = world.aws.store().uploads_in_progress(ARTIFACTS).unwrap() == 1;
            if is_under_way {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(is_under_way);
        let killed = std::process::Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status()
            .unwrap();
        assert!(killed.success());
        let status = tokio::task::spawn_blocking(move || child.wait().unwrap())
            .await
            .unwrap();
        assert_eq!(status.code(), Some(code));
        let store = world.aws.store();
        assert_eq!(store.uploads_in_progress(ARTIFACTS).unwrap(), 0);
        assert!(store.get(ARTIFACTS, &staged_key(1)).is_err());
    }
}

/// Sends a signal to a running push.
fn send_signal(child: &std::process::Child, signal: &str) {
    let killed = std::process::Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_is_interrupted_while_s3_writes_says_what_it_does_not_know() {
    let world = World::start(automatic()).await;
    let folder = tempfile::tempdir().unwrap();
    write_application(folder.path(), 0);
    let put = Match::any().operation("PutObject").path_with("/staging/");
    let faults = world.aws.faults();
    faults.on(put, Fault::DelayAnswer(Duration::from_secs(30)));
    let child = push(folder.path(), 1, &[])
        .with(&world.aws.environment())
        .command()
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut is_there = false;
    for _ in 0..2_000 {
        is_there = world.aws.store().get(ARTIFACTS, &staged_key(1)).is_ok();
        if is_there {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(is_there);
    send_signal(&child, "-INT");
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap())
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(130));
    let said = String::from_utf8(output.stderr).unwrap();
    let key = staged_key(1);
    let expected = format!(
        "stagedrop: interrupted while s3://{ARTIFACTS}/{key} was being written: it may be staged; its outcome would stand in s3://{ARTIFACTS}/records/drops/{key}.json\n"
    );
    assert_eq!(said, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_whose_completion_is_not_answered_tells_that_and_what_is_left() {
    let world = World::start(automatic()).await;
    let folder = tempfile::tempdir().unwrap();
    write_noise(folder.path(), 10);
    let faults = world.aws.faults();
    let requests = |operation: &str| Match::any().operation(operation).path_with("/staging/");
    let fails = |status, code: &str| Fault::FailBefore {
        status,
        code: code.to_owned(),
    };
    faults.on(
        requests("CompleteMultipartUpload"),
        fails(503, "ServiceUnavailable"),
    );
    faults.on(requests("AbortMultipartUpload"), fails(403, "AccessDenied"));
    let call = push(folder.path(), 1, &[]).with(&world.aws.environment());
    let said = call.piped().await;
    assert_eq!(said.code, 2, "{}", said.text);
    let place = |text: &str| {
        said.text
            .find(text)
            .unwrap_or_else(|| panic!("no `{text}` in {}", said.text))
    };
    let left = place("could not be aborted, its parts are left");
    let trouble = place("stagedrop: CompleteMultipartUpload");
    assert!(left < trouble, "{}", said.text);
    place("it may be staged; its outcome would stand in s3://artifacts/records/drops/");
    let store = world.aws.store();
    assert_eq!(store.uploads_in_progress(ARTIFACTS).unwrap(), 1);

    // The answer is lost and the object is there; what is gone need not be aborted.
    faults.clear();
    faults.on(
        requests("CompleteMultipartUpload").nth(Nth::First(1)),
        Fault::LoseAnswer,
    );
    let call = push(folder.path(), 2, &[]).with(&world.aws.environment());
    let said = call.piped().await;
    assert!(
        store.get(ARTIFACTS, &staged_key(2)).is_ok(),
        "{}",
        said.text
    );
    assert!(!said.text.contains("could not be aborted"), "{}", said.text);
    if said.code != 0 {
        assert!(said.text.contains("it may be staged;"), "{}", said.text);
    }
}

/// Follows a push of build 1 whose key is staged anew, with that body, once it was seen with that status.
async fn replaced(world: &World, status: &str, output: &str, body: Vec<u8>) -> Said {
    let folder = tempfile::tempdir().unwrap();
    write_application(folder.path(), 0);
    let first = push(folder.path(), 1, &["--output", output, "--timeout", "120s"])
        .with(&world.aws.environment());
    let first = tokio::spawn(async move { first.piped().await });
    let mut is_seen = false;
    for _ in 0..600 {
        let record = world.record(&format!("drops/{}.json", staged_key(1)));
        is_seen = record.is_some_and(|record| {
            let has_deployment = !record["deployments"][0]["deployment_id"].is_null();
            record["status"] == status && has_deployment == (status == "deploying")
        });
        if is_seen {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(is_seen);
    // The push, too, has to see it before it is replaced: the first look from now on, when the second one comes.
    let looks = || {
        let log = world.aws.faults().log();
        let of_record = log.iter().filter(|entry| {
            entry.label == "local"
                && entry.operation == "GetObject"
                && entry.path.contains("/records/drops/")
        });
        of_record.count()
    };
    let before = looks();
    for _ in 0..600 {
        if looks() >= before + 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(looks() >= before + 2);
    world.put(&staged_key(1), body);
    first.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_whose_key_is_staged_anew_while_it_waits_may_still_get_its_turn() {
    for output in ["text", "json"] {
        let world = World::start(by_hand()).await;
        let foreign = world.foreign_deployment();
        world.aws.quiet().await;
        // What takes its place in the record is refused, and so takes none in the queue.
        let said = replaced(&world, "waiting", output, b"no archive".to_vec()).await;
        assert_eq!(said.code, 1, "{}", said.text);
        if output == "text" {
            assert_transcript("push-replaced.piped", &told(&said));
        } else {
            let report: Value = serde_json::from_str(&said.stdout).unwrap();
            assert_eq!(report["status"], "waiting");
            assert_eq!(report["replaced"], true);
            assert_eq!(report["drop"]["status"], "waiting");
        }
        world.aws.quiet().await;
        assert_eq!(world.drop_record(&staged_key(1))["status"], "rejected");
        let codedeploy = world.aws.codedeploy();
        codedeploy.advance(&foreign, Status::Stopped, None).unwrap();
        world.aws.quiet().await;
        let ours = world.our_deployments();
        assert_eq!(
            codedeploy.active("shop", "production"),
            ours.first().cloned()
        );
        assert_eq!(ours.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_whose_key_is_staged_anew_while_it_is_deployed_is_not_called_superseded() {
    for output in ["text", "json"] {
        let world = World::start(by_hand()).await;
        let said = replaced(&world, "deploying", output, application(2)).await;
        assert_eq!(said.code, 1, "{}", said.text);
        world.aws.quiet().await;
        let codedeploy = world.aws.codedeploy();
        let running = codedeploy.active("shop", "production").unwrap();
        assert_eq!(world.our_deployments(), std::slice::from_ref(&running));
        if output == "text" {
            let expected = format!(
                "replaced   {} was staged anew while deployment {running} was under way; see `stagedrop history shop production`",
                staged_key(1)
            );
            assert!(said.text.contains(&expected), "{}", said.text);
            assert!(!said.text.contains("superseded"), "{}", said.text);
        } else {
            let report: Value = serde_json::from_str(&said.stdout).unwrap();
            assert_eq!(report["status"], "deploying");
            assert_eq!(report["replaced"], true);
            assert_eq!(report["drop"]["deployments"][0]["deployment_id"], running);
        }
        // It ends for itself, and only the group and the deployment tell.
        codedeploy
            .advance(&running, Status::InProgress, None)
            .unwrap();
        codedeploy.advance(&running, Status::Failed, None).unwrap();
        world.aws.quiet().await;
        assert_eq!(world.deployment_record(&running)["status"], "Failed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_staged_as_it_is_and_deployed() {
    let world = World::start(hooks_run()).await;
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    write_application(&tree, 0);
    for (build_num, name, pack) in [
        (1, "app.zip", &["zip", "-qry", "../app.zip", "."][..]),
        (2, "app.tar.gz", &["tar", "-czf", "../app.tar.gz", "."]),
        (3, "app.tar", &["tar", "-cf", "../app.tar", "."]),
    ] {
        let packed = std::process::Command::new(pack[0])
            .args(&pack[1..])
            .current_dir(&tree)
            .status()
            .unwrap();
        assert!(packed.success());
        let number = build_num.to_string();
        // Longer than any clock counts: as long as it takes.
        let timeout = u64::MAX.to_string();
        let mut arguments = arguments(name, &number);
        arguments.extend(["--timeout", &timeout]);
        let call = Call::new(&arguments, folder.path()).with(&world.aws.environment());
        let said = call.piped().await;
        assert_eq!(said.code, 0, "{}", said.text);
        let extension = name.strip_prefix("app").unwrap();
        let key = staged_key(build_num).replace(".zip", extension);
        let staged = world.aws.store().get(ARTIFACTS, &key).unwrap();
        let local = std::fs::read(folder.path().join(name)).unwrap();
        assert!(staged.to_vec() == local, "{name}");
        if name == "app.tar.gz" {
            // Its size depends on the times of its files.
            let size = format!("{} bytes", local.len());
            let told = told(&said).replace(&size, "N bytes");
            assert_transcript("push-archive.piped", &told);
        }
        assert_eq!(world.drop_record(&key)["status"], "succeeded");
    }
}
