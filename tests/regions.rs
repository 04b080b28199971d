//! A stack in one region that deploys in another: what is there is found there, and what is not is told.
//!
//! The functions have exactly the rights that the template grants for these places.

use serde_json::{Value, json};
use stagedrop::local::codedeploy::{CodeDeploy, Platform};

use crate::command_line::running::Call;
use crate::faults::large_application;
use crate::support::{
    SETTINGS, World, application, attach_policies, automatic, granted, staged_key,
};

const FAR: &str = "eu-central-1";
const BUCKET: &str = "far-revisions";

/// Settings with the application in a region and its revisions in a bucket, by their key.
fn settings(region: &str, bucket: &str, is_fixed_key: bool) -> String {
    let mut settings = SETTINGS
        .replace("bucket: revisions", &format!("bucket: {bucket}"))
        .replace(
            "    application_root: /",
            &format!("    region: {region}\n    application_root: /"),
        );
    if is_fixed_key {
        settings = settings.replace("shop-{BRANCH}-{SHORT_COMMIT}-{BUILD_NUM}", "shop.zip");
    }
    assert!(settings.contains(region) && settings.contains(bucket));
    settings
}

/// Makes the application with its group in a region.
fn add_application(world: &World, region: &str) -> CodeDeploy {
    let codedeploy = world.aws.codedeploy().in_region(region);
    let platform = Platform::Server;
    let input = json!({ "applicationName": "shop", "computePlatform": platform });
    codedeploy.call("CreateApplication", &input).unwrap();
    let input = json!({
        "applicationName": "shop", "deploymentGroupName": "production",
        "serviceRoleArn": "arn:aws:iam::123456789012:role/CodeDeployServiceRole",
    });
    codedeploy.call("CreateDeploymentGroup", &input).unwrap();
    codedeploy
}

/// A world whose revisions go to a versioned bucket in [`FAR`], and CodeDeploy in these regions.
async fn start(codedeploy_region: &str) -> World {
    let world = World::start(automatic()).await;
    world.aws.create_bucket_in(Some(FAR), BUCKET, true).unwrap();
    let parameters = [
        ("RevisionBucketName", BUCKET),
        ("CodeDeployRegion", codedeploy_region),
    ];
    for name in ["deploy", "record"] {
        let policy = granted(name, &parameters);
        world.aws.iam().attach(name, &policy).unwrap();
    }
    world
}

fn code(drop: &Value) -> &str {
    assert_eq!(drop["status"], "rejected", "{drop:#}");
    drop["findings"][0]["code"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_in_another_region_is_deployed_there_and_the_schedule_notices() {
    let world = start(FAR).await;
    let codedeploy = add_application(&world, FAR);
    // One key for each build, one whose parts S3 copies across regions, and one key for all builds.
    for (build_num, artifact, is_fixed_key) in [
        (1, application(1), false),
        (2, large_application(), false),
        (3, application(3), true),
    ] {
        world.put("settings/shop.yml", settings(FAR, BUCKET, is_fixed_key));
        let drop = world.drop_build(build_num, artifact).await;
        assert_eq!(drop["deployments"][0]["region"], FAR, "{drop:#}");
        codedeploy.idle().await;
        // The end is told in the other region, where no rule sends it on.
        world.aws.quiet().await;
        let drop = world.drop_record(&staged_key(build_num));
        assert_eq!(drop["status"], "deploying", "{drop:#}");
        world.schedule().await.unwrap();
        let drop = world.drop_record(&staged_key(build_num));
        assert_eq!(drop["status"], "succeeded", "{drop:#}");
        let revision = &drop["deployments"][0]["revision"];
        assert_eq!(revision["bucket"], BUCKET);
        let key = revision["key"].as_str().unwrap();
        assert!(world.aws.store().get(BUCKET, key).is_ok(), "{key}");
    }
    assert_eq!(codedeploy.deployments().len(), 3);
    assert_eq!(world.aws.codedeploy().deployments().len(), 0);
    assert_eq!(world.functions.deploy.take_dead_letters().len(), 0);
    world.check_records();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_bucket_in_another_region_than_its_application_is_told() {
    let world = start("*").await;
    add_application(&world, "eu-west-1");
    let mut build_num = 0;
    // The stack's region answers otherwise than a third one, with and without a body.
    for region in ["us-east-1", "eu-west-1"] {
        for is_fixed_key in [false, true] {
            build_num += 1;
            world.put("settings/shop.yml", settings(region, BUCKET, is_fixed_key));
            let drop = world.drop_build(build_num, application(build_num)).await;
            assert_eq!(
                code(&drop),
                "revision-bucket-elsewhere",
                "{region}: {drop:#}"
            );
        }
    }
    assert_eq!(world.functions.deploy.take_dead_letters().len(), 0);
    assert!(world.aws.store().keys(BUCKET, "").unwrap().is_empty());
    // Nor is a bucket that is nowhere, which is told of either key alike.
    attach_policies(&world.aws);
    for is_fixed_key in [false, true] {
        build_num += 1;
        let nowhere = settings("us-east-1", "no-such-bucket", is_fixed_key);
        world.put("settings/shop.yml", nowhere);
        let drop = world.drop_build(build_num, application(build_num)).await;
        assert_eq!(code(&drop), "revision-bucket-missing", "{drop:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_says_that_a_bucket_is_in_another_region_and_which() {
    let world = start(FAR).await;
    let folder = tempfile::tempdir().unwrap();
    for region in ["us-east-1", "eu-west-1"] {
        let mut environment = world.aws.environment();
        environment.insert("AWS_REGION".to_owned(), region.to_owned());
        let uri = format!("s3://{BUCKET}/{}", staged_key(1));
        let said = Call::new(&["explain", &uri], folder.path())
            .with(&environment)
            .piped()
            .await;
        assert_eq!(said.code, 2, "{}", said.text);
        for expected in ["the bucket is in eu-central-1", "set AWS_REGION"] {
            assert!(said.text.contains(expected), "{region}: {}", said.text);
        }
    }
}
