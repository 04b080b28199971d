//! From an upload to a deployment.

use std::process::Command;

use serde_json::{Value, json};
use stagedrop::local::codedeploy::Platform;

use crate::support::{
    APPSPEC, ARTIFACTS, COMMIT, REVISIONS, World, application, automatic, bundle, by_hand, silent,
    staged_key, tree, try_unpack, unpack,
};

/// A repository on disk, with everything that a bundle may hold.
fn repository() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"
        set -e
        mkdir -p .git/objects app/.git app/bin app/scripts app/public app/empty docs
        echo 'ref: refs/heads/master' > .git/HEAD
        echo nested > app/.git/HEAD
        echo readme > README.md
        echo docs > docs/a.md
        printf '#!/bin/sh\necho installed\n' > app/scripts/after.sh
        printf 'page\n' > app/public/index.html
        printf 'caf\303\251\n' > "app/public/caf$(printf '\303\251').html"
        head -c 300000 /dev/zero | tr '\0' 'x' > app/public/big.txt
        : > app/public/nothing
        echo secret > app/public/notes.bak
        chmod 755 app/scripts/after.sh
        chmod 640 app/public/index.html
        ln -s public/index.html app/start.html
        ln -s public app/pages
    "#;
    let status = Command::new("sh")
        .arg("-c")
        .arg(script)
        .current_dir(folder.path())
        .status()
        .unwrap();
    assert!(status.success());
    std::fs::write(folder.path().join("app/appspec.yml"), APPSPEC).unwrap();
    folder
}

fn archived(folder: &std::path::Path, format: &str) -> Vec<u8> {
    let file = folder.with_extension(format);
    let mut command = match format {
        "zip" => {
            let mut command = Command::new("zip");
            command.args(["-qry"]).arg(&file).arg(".");
            command
        }
        "tgz" => {
            let mut command = Command::new("tar");
            command.arg("-czf").arg(&file).arg(".");
            command
        }
        _ => {
            let mut command = Command::new("tar");
            command.arg("-cf").arg(&file).arg(".");
            command
        }
    };
    assert!(command.current_dir(folder).status().unwrap().success());
    let bytes = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    bytes
}

const FROM_APP: &str = "\
codedeploy:
  shop:
    application_root: /app
    exclude: ['*.bak']
    bundle_type: BUNDLE_TYPE
    revision_location:
      revision_type: S3
      s3_location:
        bucket: revisions
        key_pattern: apps/shop-{BRANCH}-{SHORT_COMMIT}-{BUILD_NUM}
deployment:
  production:
    branch: master
    codedeploy:
      shop:
        deployment_group: production
        deployment_config: CodeDeployDefault.HalfAtATime
";

#[tokio::test(flavor = "multi_thread")]
async fn every_format_in_becomes_every_format_out_with_content_modes_and_links() {
    let world = World::start(automatic()).await;
    let folder = repository();
    let mut expected = tree(&folder.path().join("app"));
    expected.retain(|name, _| !name.starts_with(".git") && !name.ends_with(".bak"));
    let mut build_num = 0;
    for out in ["zip", "tgz", "tar"] {
        world.put("settings/shop.yml", FROM_APP.replace("BUNDLE_TYPE", out));
        for format in ["zip", "tgz", "tar"] {
            build_num += 1;
            let drop = world
                .deploy_build(build_num, archived(folder.path(), format))
                .await;
            assert_eq!(drop["status"], "succeeded", "{format} to {out}: {drop:#}");
            let target = &drop["deployments"][0];
            assert_eq!(target["revision"]["bundle_type"], out);
            let found = unpack(out, &world.revision(&drop));
            assert_eq!(found, expected, "{format} to {out}");
            let info = world
                .aws
                .codedeploy()
                .call(
                    "GetDeployment",
                    &json!({ "deploymentId": target["deployment_id"] }),
                )
                .unwrap();
            let info = &info["deploymentInfo"];
            assert_eq!(info["applicationName"], "shop");
            assert_eq!(info["deploymentGroupName"], "production");
            assert_eq!(
                info["deploymentConfigName"],
                "CodeDeployDefault.HalfAtATime"
            );
            let location = &info["revision"]["s3Location"];
            assert_eq!(
                location["key"],
                format!("apps/shop-master-3f2c1a9-{build_num}")
            );
            assert!(
                location["eTag"]
                    .as_str()
                    .is_some_and(|etag| !etag.contains('"')),
                "{location}"
            );
            assert!(location["version"].is_string(), "{location}");
        }
    }
    assert_eq!(world.aws.codedeploy().deployments().len(), 9);
    world.check_records();
    assert_eq!(world.open(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_artifact_and_settings_give_the_same_bytes() {
    let folder = repository();
    for format in ["zip", "tgz", "tar"] {
        let artifact = archived(folder.path(), format);
        let mut seen = Vec::new();
        for _ in 0..2 {
            let world = World::start(automatic()).await;
            world.put("settings/shop.yml", FROM_APP.replace("BUNDLE_TYPE", "zip"));
            let drop = world.deploy_build(1, artifact.clone()).await;
            seen.push(world.revision(&drop));
        }
        assert_eq!(seen[0], seen[1], "{format}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_event_in_every_envelope_starts_one_deployment() {
    let world = World::start(silent()).await;
    world.put(&staged_key(7), application(7));
    let events = world.aws.router().take();
    let staged = events
        .iter()
        .find(|event| event.object_key().is_some())
        .unwrap()
        .body
        .clone();
    let object = &staged["detail"]["object"];
    let notification = json!({ "Records": [{
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-east-1", "eventTime": "2026-01-01T00:00:00.000Z",
        "eventName": "ObjectCreated:Put",
        "s3": { "s3SchemaVersion": "1.0", "bucket": { "name": ARTIFACTS }, "object": {
            "key": object["key"], "size": object["size"], "eTag": object["etag"], "versionId": object["version-id"],
            "sequencer": object["sequencer"] } }
    }] });
    let sns = json!({ "Records": [{ "EventSource": "aws:sns", "Sns": { "Message": notification.to_string() } }] });
    let sqs = json!({ "Records": [{ "messageId": "m-1", "eventSource": "aws:sqs", "body": notification.to_string() }] });
    let answer = world.invoke_deploy(staged).await.unwrap();
    assert_eq!(answer["drops"][0]["status"], "deploying");
    world.invoke_deploy(notification).await.unwrap();
    world.invoke_deploy(sns).await.unwrap();
    let answer = world.invoke_deploy(sqs).await.unwrap();
    assert_eq!(answer, json!({ "batchItemFailures": [] }));
    assert_eq!(world.aws.codedeploy().deployments().len(), 1);
    assert_eq!(
        world
            .aws
            .store()
            .versions(REVISIONS, "apps/shop-master-3f2c1a9-7")
            .unwrap()
            .len(),
        1
    );
    let drop = world.drop_record(&staged_key(7));
    assert_eq!(drop["deployments"].as_array().unwrap().len(), 1);
    world.check_records();
}

#[tokio::test(flavor = "multi_thread")]
async fn circle_yml_in_the_artifact_is_used_within_what_the_settings_list() {
    let world = World::start(automatic()).await;
    world
        .aws
        .create_deployment_group("shop", "staging")
        .unwrap();
    let circle = "\
machine:
  node: {version: 6}
deployment:
  staging:
    branch: master
    codedeploy:
      shop:
        deployment_group: staging
";
    let files = [
        ("appspec.yml", APPSPEC),
        ("circle.yml", circle),
        ("scripts/after.sh", "#!/bin/sh\n"),
    ];
    let drop = world.deploy_build(1, bundle(&files)).await;
    assert_eq!(drop["deployment_block"], "staging", "{drop:#}");
    assert_eq!(drop["deployments"][0]["deployment_group"], "staging");
    let elsewhere = circle.replace("shop:", "payroll:");
    let files = [
        ("appspec.yml", APPSPEC),
        ("circle.yml", elsewhere.as_str()),
        ("scripts/after.sh", "#!/bin/sh\n"),
    ];
    let drop = world.deploy_build(2, bundle(&files)).await;
    assert_eq!(drop["status"], "rejected", "{drop:#}");
    world.put(
        "settings/shop.yml",
        format!("repository_config: ignored\n{}", crate::support::SETTINGS),
    );
    let drop = world.deploy_build(3, bundle(&files)).await;
    assert_eq!(drop["deployment_block"], "production", "{drop:#}");
    world.check_records();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_can_switch_circle_yml_off() {
    let world =
        World::with_environment(automatic(), &[("STAGEDROP_REPOSITORY_CONFIG", "ignored")]).await;
    let files = [
        ("appspec.yml", APPSPEC),
        ("circle.yml", ": not yaml : ["),
        ("scripts/after.sh", "#!/bin/sh\n"),
    ];
    let drop = world.deploy_build(1, bundle(&files)).await;
    assert_eq!(drop["deployment_block"], "production", "{drop:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lambda_and_ecs_get_the_appspec_file_itself() {
    let world = World::start(automatic()).await;
    world
        .aws
        .create_application("fn", Platform::Lambda)
        .unwrap();
    world.aws.create_deployment_group("fn", "live").unwrap();
    world.aws.create_application("svc", Platform::Ecs).unwrap();
    world.aws.create_deployment_group("svc", "live").unwrap();
    let settings = |application: &str, more: &str| {
        format!(
            "deployment:\n  live:\n    branch: master\n    codedeploy:\n      {application}:\n        deployment_group: live\n        revision_location:\n          revision_type: S3\n          s3_location: {{bucket: revisions, key_pattern: '{application}/{{BUILD_NUM}}.yml'}}\n{more}"
        )
    };
    let lambda = "version: 0.0\nResources:\n  - f:\n      Type: AWS::Lambda::Function\n      Properties: {Name: f, Alias: live, CurrentVersion: '1', TargetVersion: '2'}\n";
    world.put("settings/fn.yml", settings("fn", ""));
    world.put(
        &format!("staging/fn/master/1-{COMMIT}.zip"),
        bundle(&[("appspec.yml", lambda), ("index.js", "x")]),
    );
    world.aws.settled().await;
    let drop = world.drop_record(&format!("staging/fn/master/1-{COMMIT}.zip"));
    assert_eq!(drop["status"], "succeeded", "{drop:#}");
    assert_eq!(drop["deployments"][0]["revision"]["bundle_type"], "YAML");
    assert_eq!(world.revision(&drop), lambda.as_bytes());

    let ecs = r#"{"version": 0.0, "Resources": [{"TargetService": {"Type": "AWS::ECS::Service", "Properties": {"TaskDefinition": "arn:aws:ecs:us-east-1:111111111111:task-definition/t:1", "LoadBalancerInfo": {"ContainerName": "c", "ContainerPort": 80}}}}]}"#;
    world.put("settings/svc.yml", settings("svc", ""));
    world.put(
        &format!("staging/svc/master/1-{COMMIT}.zip"),
        bundle(&[("appspec.yml", ecs)]),
    );
    world.aws.settled().await;
    let drop = world.drop_record(&format!("staging/svc/master/1-{COMMIT}.zip"));
    assert_eq!(drop["status"], "succeeded", "{drop:#}");
    assert_eq!(drop["deployments"][0]["revision"]["bundle_type"], "JSON");

    world.put(
        "settings/fn.yml",
        settings("fn", "        ignore_application_stop_failures: true\n"),
    );
    world.put(
        &format!("staging/fn/master/2-{COMMIT}.zip"),
        bundle(&[("appspec.yml", lambda)]),
    );
    world.aws.settled().await;
    let drop = world.drop_record(&format!("staging/fn/master/2-{COMMIT}.zip"));
    assert_eq!(drop["status"], "rejected", "{drop:#}");
    assert!(
        drop["findings"]
            .to_string()
            .contains("ignore_application_stop_failures"),
        "{drop:#}"
    );

    world.put("settings/fn.yml", settings("fn", ""));
    world.put(&format!("staging/fn/master/3-{COMMIT}.zip"), application(3));
    world.aws.settled().await;
    let drop = world.drop_record(&format!("staging/fn/master/3-{COMMIT}.zip"));
    assert_eq!(codes(&drop), ["platform-mismatch"], "{drop:#}");
    world.check_records();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_github_revision_deploys_the_commit_itself() {
    let world = World::start(by_hand()).await;
    world.put(
        "settings/shop.yml",
        "deployment:\n  production:\n    branch: master\n    codedeploy:\n      shop:\n        deployment_group: production\n        revision_location: {revision_type: GitHub, repository: acme/shop}\n",
    );
    let drop = world.drop_build(1, application(1)).await;
    let target = &drop["deployments"][0];
    assert_eq!(
        target["revision"],
        json!({ "revision_type": "GitHub", "repository": "acme/shop", "commit_id": COMMIT }),
        "{drop:#}"
    );
    assert_eq!(target["status"], "deploying");
    assert_eq!(
        world.aws.store().keys(REVISIONS, "").unwrap(),
        Vec::<String>::new()
    );
    world.check_records();
}

fn codes(drop: &Value) -> Vec<String> {
    drop["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["code"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_ask_for_a_newer_unzip_than_the_agents_are_put_right() {
    let mut artifact = application(1);
    let sound = unpack("zip", &artifact);
    let records: Vec<usize> = (0..artifact.len() - 4)
        .filter(|at| artifact[*at..].starts_with(b"PK\x01\x02"))
        .collect();
    for record in records {
        artifact[record + 6] = 63;
    }
    let complaint = try_unpack("zip", &artifact).unwrap_err();
    assert!(complaint.contains("unsupported"), "{complaint}");
    let world = World::start(automatic()).await;
    let drop = world.deploy_build(1, artifact).await;
    assert_eq!(drop["status"], "succeeded", "{drop:#}");
    assert_eq!(unpack("zip", &world.revision(&drop)), sound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_no_block_matches_is_told_which_file_was_asked_and_which_was_not() {
    let circle = "deployment:\n  staging:\n    branch: develop\n    codedeploy: {shop: {deployment_group: production}}\n";
    let with_circle = bundle(&[
        ("appspec.yml", "version: 0.0\nos: linux\n"),
        ("circle.yml", circle),
    ]);
    let of_settings = "deployment:\n  production:\n    branch: master\n    commands: [x]\n";
    let key = format!("staging/shop/feature/x/1-{COMMIT}.zip");
    let switched_off = [("STAGEDROP_REPOSITORY_CONFIG", "ignored")];
    // Environment, settings, the file that is named, what is said of it, the cure.
    type Case<'a> = (&'a [(&'a str, &'a str)], String, &'a str, &'a str, &'a str);
    let cases: [Case<'_>; 4] = [
        (
            &[],
            of_settings.to_owned(),
            "circle.yml",
            "`staging`",
            "under `deployment:`, if",
        ),
        (
            &[],
            format!("repository_config: ignored\n{of_settings}"),
            "shop.yml",
            "`production`",
            "`circle.yml` is not read: the settings say `repository_config: ignored`",
        ),
        (
            &switched_off,
            of_settings.to_owned(),
            "shop.yml",
            "`production`",
            "`circle.yml` is not read: the functions have `STAGEDROP_REPOSITORY_CONFIG=ignored`",
        ),
        (
            &switched_off,
            "codedeploy: {}\n".to_owned(),
            "shop.yml",
            "there is none",
            "`circle.yml` is not read",
        ),
    ];
    for (environment, settings, file, block, cure) in cases {
        let world = World::with_environment(automatic(), environment).await;
        world.put("settings/shop.yml", settings.as_str());
        world.put(&key, with_circle.clone());
        world.aws.settled().await;
        let drop = world.drop_record(&key);
        assert_eq!(drop["status"], "ignored", "{drop:#}");
        let finding = &drop["findings"][0];
        assert_eq!(finding["code"], "no-matching-deployment", "{drop:#}");
        let says = |field: &str, part: &str| {
            let text = finding[field].as_str().unwrap_or_default();
            assert!(
                text.contains(part),
                "expected {part} in {field}: {finding:#}"
            );
        };
        says("path", file);
        says("message", "branch `feature/x`");
        says("message", block);
        says("cure", cure);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_recorded_with_cause_and_cure_and_nothing_is_registered() {
    let world = World::start(automatic()).await;
    let good = application(1);
    let truncated = good[..good.len() - 10].to_vec();
    let no_appspec = bundle(&[("index.html", "x")]);
    let branch_block = |key_pattern: &str, group: &str| {
        format!(
            "deployment:\n  production:\n    branch: master\n    codedeploy:\n      shop:\n        deployment_group: {group}\n        revision_location: {{revision_type: S3, s3_location: {{bucket: revisions, key_pattern: '{key_pattern}'}}}}\n"
        )
    };
    let github = |location: &str| {
        format!(
            "deployment:\n  production:\n    branch: master\n    codedeploy:\n      shop:\n        deployment_group: production\n        revision_location: {location}\n"
        )
    };
    let settings = |text: &str| Some(text.to_owned());
    // Name, settings (none: their object is missing), staged key, artifact, the code that is expected.
    type Case = (&'static str, Option<String>, String, Vec<u8>, &'static str);
    let cases: Vec<Case> = vec![
        (
            "no settings",
            None,
            staged_key(1),
            good.clone(),
            "settings-missing",
        ),
        (
            "unreadable settings",
            settings("deployment: [\n"),
            staged_key(1),
            good.clone(),
            "settings-unreadable",
        ),
        (
            "unknown application",
            settings(&branch_block("{BUILD_NUM}", "production").replace("shop:", "nosuch:")),
            staged_key(1),
            good.clone(),
            "application-missing",
        ),
        (
            "unknown group",
            settings(&branch_block("{BUILD_NUM}", "nosuch")),
            staged_key(1),
            good.clone(),
            "deployment-group-missing",
        ),
        (
            "no archive",
            settings(&branch_block("{BUILD_NUM}", "production")),
            staged_key(1),
            b"hello".to_vec(),
            "archive-not-recognised",
        ),
        (
            "empty",
            settings(&branch_block("{BUILD_NUM}", "production")),
            staged_key(1),
            Vec::new(),
            "archive-empty",
        ),
        (
            "no AppSpec",
            settings(&branch_block("{BUILD_NUM}", "production")),
            staged_key(1),
            no_appspec,
            "appspec-missing",
        ),
        (
            "truncated in its end record",
            settings(&branch_block("{BUILD_NUM}", "production")),
            staged_key(1),
            truncated,
            "archive-truncated",
        ),
        (
            "without the last third",
            settings(&branch_block("{BUILD_NUM}", "production")),
            staged_key(1),
            good[..good.len() * 2 / 3].to_vec(),
            "archive-truncated",
        ),
        (
            "settings of a megabyte",
            settings(&"#".repeat(1 << 20)),
            staged_key(1),
            good.clone(),
            "settings-too-large",
        ),
        (
            "a GitHub revision of no repository",
            settings(&github("{revision_type: GitHub}")),
            staged_key(1),
            good.clone(),
            "github-repository-missing",
        ),
        (
            "a GitHub revision of half a commit",
            settings(&github("{revision_type: GitHub, repository: acme/shop}")),
            "staging/shop/master/1-3f2c1a9.zip".to_owned(),
            good.clone(),
            "github-commit-missing",
        ),
        (
            "a block without applications",
            settings("deployment:\n  production:\n    branch: master\n"),
            staged_key(1),
            good.clone(),
            "nothing-to-deploy",
        ),
        (
            "no matching branch",
            settings(&branch_block("{BUILD_NUM}", "production")),
            format!("staging/shop/feature/x/1-{COMMIT}.zip"),
            good.clone(),
            "no-matching-deployment",
        ),
        (
            "a key beside the pattern",
            settings(&branch_block("{BUILD_NUM}", "production")),
            "staging/shop/readme.txt".to_owned(),
            good.clone(),
            "staging-key-unknown",
        ),
    ];
    for (name, settings, key, body, code) in cases {
        match settings {
            Some(settings) => world.put("settings/shop.yml", settings),
            None => {
                world
                    .aws
                    .store()
                    .delete(ARTIFACTS, "settings/shop.yml", None, None)
                    .unwrap();
            }
        }
        world.put(&key, body);
        world.aws.settled().await;
        let drop = world.drop_record(&key);
        let status = drop["status"].as_str().unwrap();
        assert!(matches!(status, "rejected" | "ignored"), "{name}: {drop:#}");
        assert!(
            codes(&drop).contains(&code.to_owned()),
            "{name}: expected {code}: {drop:#}"
        );
        for finding in drop["findings"].as_array().unwrap() {
            assert!(
                !finding["message"].as_str().unwrap().is_empty()
                    && !finding["cure"].as_str().unwrap().is_empty()
            );
        }
    }
    assert_eq!(world.functions.deploy.dead_letters(), []);
    assert_eq!(
        world.aws.store().keys(REVISIONS, "").unwrap(),
        Vec::<String>::new()
    );
    let registered = world
        .aws
        .codedeploy()
        .call(
            "ListApplicationRevisions",
            &json!({ "applicationName": "shop" }),
        )
        .unwrap();
    assert_eq!(registered["revisions"], json!([]));
    assert_eq!(world.open(), Vec::<String>::new());
    world.check_records();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_pattern_that_needs_a_missing_commit_says_which_metadata_to_set() {
    let world = World::with_environment(
        automatic(),
        &[(
            "STAGEDROP_STAGING_KEY_PATTERN",
            "staging/{PROJECT}/{BRANCH}/{BUILD_NUM}",
        )],
    )
    .await;
    world.put("staging/shop/master/1.zip", application(1));
    world.aws.settled().await;
    let drop = world.drop_record("staging/shop/master/1.zip");
    assert_eq!(drop["status"], "rejected", "{drop:#}");
    assert!(
        drop["findings"].to_string().contains("x-amz-meta-commit"),
        "{drop:#}"
    );
    world.put_with(
        "staging/shop/master/2.zip",
        application(2),
        &[("commit", COMMIT), ("author", "Ren\u{e9}")],
    );
    world.aws.settled().await;
    let drop = world.drop_record("staging/shop/master/2.zip");
    assert_eq!(drop["status"], "succeeded", "{drop:#}");
    assert_eq!(drop["build"]["commit"], COMMIT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_the_same_names_in_another_region_is_not_taken_for_this_one() {
    let world = World::start(automatic()).await;
    world.deploy_build(1, application(1)).await;
    let group = world.group_record().to_string();
    let elsewhere = group.replace("us-east-1", "eu-central-1");
    assert_ne!(group, elsewhere);
    world.put("records/groups/shop/production.json", elsewhere);
    let drop = world.deploy_build(2, application(2)).await;
    assert_eq!(codes(&drop), ["group-region-conflict"], "{drop:#}");
    assert_eq!(world.our_deployments().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_taken_by_other_bytes_is_never_overwritten() {
    let world = World::start(automatic()).await;
    let drop = world.deploy_build(1, application(1)).await;
    let before = world.revision(&drop);
    let drop = world.deploy_build(1, application(2)).await;
    assert_eq!(codes(&drop), ["revision-key-taken"], "{drop:#}");
    assert_eq!(
        world
            .aws
            .store()
            .get(REVISIONS, "apps/shop-master-3f2c1a9-1")
            .unwrap(),
        before
    );
    assert_eq!(world.our_deployments().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_commit_says_cannot_write_over_settings_records_or_staged_artifacts() {
    let world = World::start(automatic()).await;
    let mut build_num = 0;
    for (key_pattern, code) in [
        ("settings/shop.yml", "revision-key-reserved"),
        ("settings/{COMMIT}", "revision-key-reserved"),
        (
            "records/groups/shop/production.json",
            "revision-key-reserved",
        ),
        (
            "staging/shop/master/{BUILD_NUM}-{COMMIT}",
            "revision-key-is-staged",
        ),
        ("staging/{COMMIT}", "revision-key-is-staged"),
    ] {
        build_num += 1;
        let circle = format!(
            "deployment:\n  production:\n    branch: master\n    codedeploy:\n      shop:\n        deployment_group: production\n        revision_location: {{revision_type: S3, s3_location: {{bucket: artifacts, key_pattern: '{key_pattern}'}}}}\n"
        );
        let files = [
            ("appspec.yml", APPSPEC),
            ("circle.yml", circle.as_str()),
            ("scripts/after.sh", "#!/bin/sh\n"),
        ];
        let drop = world.deploy_build(build_num, bundle(&files)).await;
        assert_eq!(codes(&drop), [code], "{key_pattern}: {drop:#}");
    }
    let settings = world
        .aws
        .store()
        .get(ARTIFACTS, "settings/shop.yml")
        .unwrap();
    assert_eq!(settings, crate::support::SETTINGS.as_bytes());
    assert_eq!(world.aws.codedeploy().deployments(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_or_configuration_is_the_settings_fault_and_nothing_is_registered() {
    let world = World::start(automatic()).await;
    for (build_num, from, to, code) in [
        (
            1,
            "bucket: revisions",
            "bucket: no-such-bucket",
            "revision-bucket-missing",
        ),
        (
            2,
            "CodeDeployDefault.OneAtATime",
            "NoSuchConfig",
            "deployment-config-missing",
        ),
    ] {
        world.put(
            "settings/shop.yml",
            crate::support::SETTINGS.replace(from, to),
        );
        let drop = world.deploy_build(build_num, application(build_num)).await;
        assert_eq!(drop["status"], "rejected", "{drop:#}");
        assert_eq!(codes(&drop), [code], "{drop:#}");
    }
    assert_eq!(
        world.aws.store().keys(REVISIONS, "").unwrap(),
        Vec::<String>::new()
    );
    let list = json!({ "applicationName": "shop" });
    let registered = world
        .aws
        .codedeploy()
        .call("ListApplicationRevisions", &list)
        .unwrap();
    assert_eq!(registered["revisions"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_behind_another_one_of_ours_says_that_it_waits() {
    let world = World::start(by_hand()).await;
    world.drop_build(1, application(1)).await;
    let drop = world.drop_build(2, application(2)).await;
    assert_eq!(drop["status"], "waiting", "{drop:#}");
    assert_eq!(drop["deployments"][0]["status"], "waiting");
    world.check_records();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_the_metadata_says_is_matched_by_tag() {
    let world = World::start(automatic()).await;
    let settings = crate::support::SETTINGS.replace("    branch: master\n", "    tag: /v[0-9]+/\n");
    world.put("settings/shop.yml", settings);
    world.put_with(&staged_key(1), application(1), &[("tag", "v1")]);
    world.aws.settled().await;
    let drop = world.drop_record(&staged_key(1));
    assert_eq!(drop["status"], "succeeded", "{drop:#}");
    assert_eq!(drop["build"]["tag"], "v1");
    let drop = world.deploy_build(2, application(2)).await;
    assert_eq!(drop["status"], "ignored", "{drop:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_key_needs_a_versioned_bucket() {
    let world = World::start(automatic()).await;
    world.aws.create_bucket("unversioned", false).unwrap();
    let settings = |bucket: &str| {
        crate::support::SETTINGS
            .replace("apps/shop-{BRANCH}-{SHORT_COMMIT}-{BUILD_NUM}", "shop.zip")
            .replace("bucket: revisions", &format!("bucket: {bucket}"))
    };
    world.put("settings/shop.yml", settings("unversioned"));
    let drop = world.deploy_build(1, application(1)).await;
    assert_eq!(codes(&drop), ["key-pattern-not-unique"], "{drop:#}");
    world.put("settings/shop.yml", settings("revisions"));
    let first = world.deploy_build(2, application(2)).await;
    let second = world.deploy_build(3, application(3)).await;
    assert_eq!(second["status"], "succeeded", "{second:#}");
    let version = |drop: &Value| {
        drop["deployments"][0]["revision"]["version"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_ne!(version(&first), version(&second));
    assert_eq!(
        world
            .aws
            .store()
            .versions(REVISIONS, "shop.zip")
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_artifact_may_be_shipped_as_it_is() {
    let world = World::start(automatic()).await;
    world.put(
        "settings/shop.yml",
        crate::support::SETTINGS.replace(
            "application_root: /\n",
            "application_root: /\n    bundle_type: as_is\n",
        ),
    );
    let artifact = application(1);
    let drop = world.deploy_build(1, artifact.clone()).await;
    assert_eq!(drop["status"], "succeeded", "{drop:#}");
    assert_eq!(world.revision(&drop), artifact);
    let changed = bundle(&[
        ("appspec.yml", APPSPEC),
        (".git/HEAD", "x"),
        ("scripts/after.sh", "#!/bin/sh\n"),
    ]);
    let drop = world.deploy_build(2, changed).await;
    assert_eq!(codes(&drop), ["bundle-type-as-is"], "{drop:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_revision_carries_the_build_and_the_tag_of_the_managed_roles() {
    let world = World::start(automatic()).await;
    world.put_with(
        &staged_key(5),
        application(5),
        &[
            ("author", "alice"),
            ("repository", "acme/shop"),
            ("build-url", "https://ci/5"),
        ],
    );
    world.aws.settled().await;
    let found = world
        .aws
        .store()
        .find(REVISIONS, "apps/shop-master-3f2c1a9-5", None)
        .unwrap();
    let metadata = &found.content.attributes.metadata;
    for (name, value) in [
        ("commit", COMMIT),
        ("build-num", "5"),
        ("branch", "master"),
        ("author", "alice"),
        ("build-url", "https://ci/5"),
    ] {
        assert_eq!(
            metadata.get(name).map(String::as_str),
            Some(value),
            "{metadata:?}"
        );
    }
    let tags = format!("{:?}", found.content.attributes.tags);
    assert!(
        tags.contains("UseWithCodeDeploy") && tags.contains("true"),
        "{tags}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_environment_is_told_whole_before_the_first_event() {
    let output = Command::new(env!("CARGO_BIN_EXE_deploy"))
        .env_clear()
        .env("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9")
        .env("AWS_LAMBDA_FUNCTION_NAME", "deploy")
        .env("STAGEDROP_STAGING_KEY_PATTERN", "staging/{NOPE}")
        .env("STAGEDROP_SETTINGS", "nowhere")
        .env("STAGEDROP_REPOSITORY_CONFIG", "maybe")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    for word in [
        "STAGEDROP_STAGING_KEY_PATTERN",
        "NOPE",
        "STAGEDROP_SETTINGS",
        "STAGEDROP_RECORDS",
        "STAGEDROP_REPOSITORY_CONFIG",
        "AWS_REGION",
    ] {
        assert!(said.contains(word), "{word} is missing in: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn test_events_and_foreign_events_are_ignored_with_a_reason() {
    let world = World::start(silent()).await;
    for event in [
        include_str!("../events/s3-test-event.json"),
        include_str!("../events/sqs-s3-test-event.json"),
        include_str!("../events/sns-s3-test-event.json"),
        include_str!("../events/eventbridge-foreign.json"),
        include_str!("../events/codedeploy-instance-failure.json"),
        "{}",
        "[1, null]",
    ] {
        let event: Value = serde_json::from_str(event).unwrap();
        world.invoke_deploy(event.clone()).await.unwrap();
        world.invoke_record(event).await.unwrap();
    }
    assert_eq!(
        world.aws.store().keys(ARTIFACTS, "records/").unwrap(),
        Vec::<String>::new()
    );
}
