//! `stagedrop lint`: mistakes at their places, in a pipe and on a terminal.

use serde_json::Value;

use super::running::{Call, assert_transcript, with_colours};

const SETTINGS: &str = "\
codedeploy:
  shop:
    application_rot: /app
    regoin: eu-central-1
    queue: newst
deployment:
  production:
    branch: /(master/
    codedeploy:
      shop:
        deployment_group: production instances
  release:
    tag: v1
    commands: [./release.sh]
    codedeploy:
      shop: { deployment_group: production, bundle_type: zip, bundle_type: tgz }
";

const GOOD: &str = "\
codedeploy:
  shop:
    revision_location:
      revision_type: S3
      s3_location: { bucket: revisions, key_pattern: \"apps/{BUILD_NUM}\" }
";

const CIRCLE_YML: &str = "\
machine: { node: { version: 6 } }
deployment:
  production:
    branch: master
    codedeploy:
      shop:
        deployment_config: CodeDeployDefault.OneAtATime
      shopp:
        deployment_group: production
";

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_has_its_place_a_caret_and_what_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("shop.yml"), SETTINGS).unwrap();
    let call = Call::new(&["lint", "shop.yml"], folder.path());
    let said = call.piped().await;
    assert_eq!(said.code, 1, "{}", said.text);
    assert_transcript("lint-mistakes.piped", &said.text);
    let said = call.on_terminal().await;
    assert_eq!(said.code, 1, "{}", said.text);
    assert_transcript("lint-mistakes.terminal", &with_colours(&said));
    let said = Call::new(&["lint", "shop.yml", "--output", "json"], folder.path())
        .piped()
        .await;
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(report["accepted"], false);
    assert_eq!(report["findings"][0]["line"], 3);
    assert_eq!(report["findings"][0]["column"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_checked_as_they_work_together() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("shop.yml"), GOOD).unwrap();
    std::fs::write(folder.path().join("circle.yml"), CIRCLE_YML).unwrap();
    let alone = Call::new(&["lint", "circle.yml"], folder.path())
        .piped()
        .await;
    assert_eq!((alone.code, alone.text.as_str()), (0, "circle.yml: good\n"));
    let both = Call::new(&["lint", "shop.yml", "circle.yml"], folder.path())
        .piped()
        .await;
    assert_eq!(both.code, 1, "{}", both.text);
    assert_transcript("lint-together.piped", &both.text);
    let missing = Call::new(&["lint", "nowhere.yml"], folder.path())
        .piped()
        .await;
    assert_eq!(missing.code, 2);
    assert_transcript("lint-not-done.piped", &missing.text);
}
