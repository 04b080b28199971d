//! `stagedrop explain` on the examples that CircleCI 1.0 documented, offline and on staged artifacts.

use std::path::Path;

use serde_json::Value;

use super::running::{Call, assert_transcript, comparable, with_colours};
use crate::support::{ARTIFACTS, COMMIT, World, automatic, bundle, staged_key};

const EXAMPLES: [(&str, &str, [&str; 2]); 4] = [
    (
        "one-group",
        include_str!("circleci/one-group.yml"),
        ["development", "master"],
    ),
    (
        "two-groups",
        include_str!("circleci/two-groups.yml"),
        ["development", "master"],
    ),
    (
        "overridden-location",
        include_str!("circleci/overridden-location.yml"),
        ["master", "development"],
    ),
    (
        "complete",
        include_str!("circleci/complete.yml"),
        ["development", "feature/x"],
    ),
];

/// What stood in the UI under **Project Settings > AWS CodeDeploy**.
const PROJECT_WIDE: &str = "\
codedeploy:
  my-app:
    application_root: /app
    region: eu-central-1
    revision_location:
      revision_type: S3
      s3_location:
        bucket: my-bucket
        key_pattern: apps/my-app-{BRANCH}-{SHORT_COMMIT}-{BUILD_NUM}
";

/// A repository with this `circle.yml`; its application can be deployed from `/` and from `/app`.
fn write(folder: &Path, circle_yml: &str) {
    let appspec = "version: 0.0\nos: linux\nfiles:\n  - source: /\n    destination: /srv/my-app\n";
    let artifact = bundle(&[
        (".git/HEAD", "ref: refs/heads/master\n"),
        ("app/appspec.yml", appspec),
        ("app/index.html", "<p>hello</p>\n"),
        ("appspec.yml", appspec),
        ("circle.yml", circle_yml),
        ("docs/readme.md", "read me\n"),
    ]);
    std::fs::write(folder.join("app.zip"), artifact).unwrap();
    std::fs::write(folder.join("my-app.yml"), PROJECT_WIDE).unwrap();
}

fn explain(folder: &Path, branch: &str, more: &[&str]) -> Call {
    let key = format!("staging/my-app/{branch}/47-{COMMIT}.zip");
    let mut arguments = vec![
        "explain",
        "app.zip",
        "--settings",
        "my-app.yml",
        "--key",
        &key,
    ];
    arguments.extend_from_slice(more);
    Call::new(&arguments, folder)
}

/// The same without the marks of one drop, which carry the time of the upload.
fn without_marks(text: &str) -> String {
    let mark = fancy_regex::Regex::new(r"\[sd-[0-9a-f]{24}\]").unwrap();
    mark.replace_all(&comparable(text), "[sd-…]").into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_circle_yml_is_explained_for_a_branch_that_matches_and_one_that_does_not()
{
    for (name, circle_yml, branches) in EXAMPLES {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), circle_yml);
        let mut text = String::new();
        for branch in branches {
            let said = explain(folder.path(), branch, &[]).piped().await;
            assert_eq!(said.code, 0, "{}", said.text);
            text.push_str(&format!("# branch {branch}\n\n{}\n", said.text));
        }
        assert_transcript(&format!("explain-{name}.piped"), &without_marks(&text));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_explained_is_what_is_done() {
    let world = World::start(automatic()).await;
    world
        .aws
        .create_application("my-app", stagedrop::local::codedeploy::Platform::Server)
        .unwrap();
    world
        .aws
        .create_deployment_group("my-app", "staging-instances")
        .unwrap();
    world.aws.create_bucket("staging-bucket", true).unwrap();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), include_str!("circleci/complete.yml"));
    let key = format!("staging/my-app/development/47-{COMMIT}.zip");
    world.put("settings/my-app.yml", PROJECT_WIDE);
    world.put(&key, std::fs::read(folder.path().join("app.zip")).unwrap());
    world.aws.settled().await;
    let done = world.drop_record(&key);
    assert_eq!(done["status"], "succeeded", "{done:#}");
    let uri = format!("s3://{ARTIFACTS}/{key}");
    let said = Call::new(&["explain", &uri, "--output", "json"], folder.path())
        .with(&world.aws.environment())
        .piped()
        .await;
    assert_eq!(said.code, 0, "{}", said.text);
    let explained: Value = serde_json::from_str(&said.stdout).unwrap();
    let (target, real) = (
        &explained["targets"][0]["recorded"],
        &done["deployments"][0],
    );
    assert_eq!(target["counts"], real["counts"]);
    assert_eq!(target["revision"]["key"], real["revision"]["key"]);
    assert_eq!(target["region"], real["region"]);
    assert_eq!(explained["build"], done["build"]);
    // The description, with the mark of this very drop, is the one that CodeDeploy was given.
    let id = real["deployment_id"].as_str().unwrap();
    assert_eq!(
        explained["calls"][1]["CreateDeployment"]["description"],
        world.description(id)
    );
    assert_eq!(
        explained["targets"][0]["kept"],
        serde_json::json!([
            "app/appspec.yml",
            "app/index.html",
            "appspec.yml",
            "circle.yml",
            "docs/readme.md"
        ])
    );
    assert_eq!(
        explained["targets"][0]["left_out"],
        serde_json::json!([".git/HEAD"])
    );
    // To explain is to write nothing.
    assert_eq!(world.aws.codedeploy().deployments().len(), 1);
    assert_eq!(world.drop_record(&key), done);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_rejected_is_explained_with_its_findings() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), include_str!("circleci/two-groups.yml"));
    let settings = PROJECT_WIDE.replace("/app\n", "/ap\n");
    std::fs::write(folder.path().join("my-app.yml"), settings).unwrap();
    let said = explain(folder.path(), "master", &[]).piped().await;
    assert_eq!(said.code, 1, "{}", said.text);
    assert_transcript("explain-rejected.piped", &without_marks(&said.text));
    let said = explain(folder.path(), "master", &[]).on_terminal().await;
    assert_eq!(said.code, 1, "{}", said.text);
    assert_transcript(
        "explain-rejected.terminal",
        &without_marks(&with_colours(&said)),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_explained_is_told_with_its_cure() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "");
    let mut text = String::new();
    let key = staged_key(1);
    for arguments in [
        &["explain", "app.zip", "--settings", "my-app.yml"][..],
        &["explain", "app.zip", "--key", &key],
        &[
            "explain",
            "nowhere.zip",
            "--settings",
            "my-app.yml",
            "--key",
            &key,
        ],
        &[
            "explain",
            "app.zip",
            "--settings",
            "my-app.yml",
            "--key",
            "elsewhere/a.zip",
        ],
        &[
            "explain",
            "app.zip",
            "--settings",
            "my-app.yml",
            "--key",
            &key,
            "--metadata",
            "tag",
        ],
        &["explain", "s3://abc/staging/a.zip", "--key", &key],
    ] {
        let said = Call::new(arguments, folder.path()).piped().await;
        assert_eq!(said.code, 2, "{}", said.text);
        text.push_str(&format!(
            "$ stagedrop {}\n{}\n",
            arguments.join(" "),
            said.text
        ));
    }
    assert_transcript("explain-not-done.piped", &comparable(&text));
}
