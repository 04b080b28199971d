//! A deployment block that names several applications: one group's trouble is not the others'.

use std::time::Duration;

use serde_json::{Value, json};
use stagedrop::local::codedeploy::Platform;
use stagedrop::local::events::RoutedEvent;
use stagedrop::local::faults::{Fault, Match, Nth};
use stagedrop::local::s3::Attributes;

use crate::observing::{ON_AWS, metrics, read_until, sum};
use crate::support::{ARTIFACTS, REVISIONS, World, application, automatic, bundle, staged_key};

/// Settings whose only block names these applications.
fn settings(names: &[&str]) -> String {
    let mut settings =
        "deployment:\n  production:\n    branch: master\n    codedeploy:\n".to_owned();
    for name in names {
        settings += &format!(
            "      {name}:\n        deployment_group: production\n        revision_location: {{revision_type: S3, s3_location: {{bucket: revisions, key_pattern: 'apps/{name}-{{BUILD_NUM}}'}}}}\n"
        );
    }
    settings
}

/// The applications `api` and `shop`, in the order in which they are worked on.
async fn world() -> World {
    let world = World::with_environment(automatic(), &ON_AWS).await;
    world
        .aws
        .create_application("api", Platform::Server)
        .unwrap();
    world
        .aws
        .create_deployment_group("api", "production")
        .unwrap();
    world.put("settings/shop.yml", settings(&["api", "shop"]));
    world
}

/// `shop`'s group cannot be written.
fn deny_shop(world: &World) {
    deny(world, "records/groups/shop/");
}

/// What lies there cannot be written.
fn deny(world: &World, path: &str) {
    world.aws.faults().on(
        Match::any()
            .operation("PutObject")
            .path_with(path)
            .nth(Nth::Every),
        Fault::FailBefore {
            status: 403,
            code: "AccessDenied".to_owned(),
        },
    );
}

/// What stands in a drop's document of each target.
fn targets(drop: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    drop["deployments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|target| (text(&target["application"]), text(&target["status"])))
        .collect()
}

fn of(api: &str, shop: &str) -> Vec<(String, String)> {
    [("api", api), ("shop", shop)]
        .map(|(name, status)| (name.to_owned(), status.to_owned()))
        .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_deployed() {
    let world = world().await;
    let drop = world.deploy_build(1, application(1)).await;
    assert_eq!(drop["status"], "succeeded", "{drop:#}");
    assert_eq!(targets(&drop), of("succeeded", "succeeded"));
    assert_eq!(world.our_deployments().len(), 2);
    world.check_records();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_one_revision_cannot_be_written_nothing_is_deployed() {
    let world = world().await;
    let taken = world.aws.store().put(
        REVISIONS,
        "apps/shop-1",
        b"other bytes".to_vec(),
        Attributes::default(),
    );
    taken.unwrap();
    let drop = world.deploy_build(1, application(1)).await;
    assert_eq!(drop["status"], "rejected", "{drop:#}");
    assert_eq!(drop["findings"][0]["code"], "revision-key-taken");
    assert_eq!(targets(&drop), of("rejected", "rejected"));
    assert_eq!(world.our_deployments(), Vec::<String>::new());
    assert_eq!(world.record("groups/api/production.json"), None);
    assert_eq!(world.open(), Vec::<String>::new());
    world.check_records();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_first_group_may_not_be_taken_nothing_is_deployed() {
    let world = world().await;
    world.deploy_build(1, application(1)).await;
    let name = "groups/api/production.json";
    let group = world.record(name).unwrap().to_string();
    let elsewhere = group.replace("us-east-1", "eu-central-1");
    assert_ne!(group, elsewhere);
    world.put(&format!("records/{name}"), elsewhere);
    let drop = world.deploy_build(2, application(2)).await;
    assert_eq!(drop["status"], "rejected", "{drop:#}");
    assert_eq!(drop["findings"][0]["code"], "group-region-conflict");
    assert_eq!(targets(&drop), of("rejected", "rejected"));
    assert_eq!(world.our_deployments().len(), 2);
    assert_eq!(world.open(), Vec::<String>::new());
    world.check_records();
}

/// Drops a build whose objects there cannot be written; once they can, names other applications and lets the
/// event come again. Gives the drop as it was before and is then.
async fn with_others_named(world: &World, denied: &str, names: &[&str]) -> (Value, Value) {
    deny(world, denied);
    world.put(&staged_key(1), application(1));
    world.aws.settled().await;
    let letter = world.functions.deploy.take_dead_letters().remove(0);
    let before = world.drop_record(&staged_key(1));
    world.aws.faults().clear();
    world.put("settings/shop.yml", settings(names));
    world.invoke_deploy(letter.event).await.unwrap();
    world.aws.settled().await;
    (before, world.drop_record(&staged_key(1)))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_longer_named_before_anything_was_deployed_is_not_waited_for() {
    let world = world().await;
    let (before, drop) = with_others_named(&world, "apps/shop-1", &["api"]).await;
    assert_eq!(targets(&before), of("deploying", "deploying"));
    assert_eq!(targets(&drop), of("succeeded", "ignored"), "{drop:#}");
    assert_eq!(drop["status"], "succeeded");
    assert_ne!(
        drop["deployments"][1]["updated_at"],
        before["deployments"][1]["updated_at"]
    );
    assert_eq!(world.our_deployments().len(), 1);
    assert_eq!(world.open(), Vec::<String>::new());
    world.check_records();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_longer_named_after_the_others_have_ended_ends_the_drop() {
    let world = world().await;
    let (before, drop) = with_others_named(&world, "records/groups/shop/", &["api"]).await;
    assert_eq!(targets(&before), of("succeeded", "deploying"));
    assert_eq!(targets(&drop), of("succeeded", "ignored"), "{drop:#}");
    assert_eq!(drop["status"], "succeeded");
    assert_eq!(world.our_deployments().len(), 1);
    // What marks a group whose document could not be written is the schedule's to take.
    let marker = "records/open/groups/shop/production/1";
    assert_eq!(world.open(), [marker]);
    let hours = Duration::from_secs(2 * 3_600);
    world.aws.store().age(ARTIFACTS, marker, hours).unwrap();
    world.schedule().await.unwrap();
    assert_eq!(world.open(), Vec::<String>::new());
    world.check_records();
    let ended = |world: &World| sum(&metrics(world), "Drops", "succeeded");
    read_until(&world, |world| ended(world) == 1).await;
    assert_eq!(ended(&world), 1, "{:#?}", metrics(&world));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_is_named_any_more_who_was_the_others_are_deployed() {
    let world = world().await;
    world.put("settings/shop.yml", settings(&["shop"]));
    let (before, drop) = with_others_named(&world, "apps/shop-1", &["api"]).await;
    assert_eq!(
        targets(&before),
        [("shop".to_owned(), "deploying".to_owned())]
    );
    assert_eq!(targets(&drop), of("succeeded", "ignored"), "{drop:#}");
    assert_eq!(drop["status"], "succeeded");
    assert_eq!(world.open(), Vec::<String>::new());
    world.check_records();
}

/// A drop that is deployed to `api`, while it could not come as far as `shop`'s group for seven hours; and its
/// event.
async fn half_deployed(world: &World) -> Value {
    deny_shop(world);
    world.put(&staged_key(1), application(1));
    world.aws.settled().await;
    let letter = world.functions.deploy.take_dead_letters().remove(0);
    let drop = world.drop_record(&staged_key(1));
    assert_eq!(targets(&drop), of("succeeded", "deploying"), "{drop:#}");
    assert_eq!(drop["status"], "deploying");
    for mark in world.open() {
        let hours = Duration::from_secs(7 * 3_600);
        world.aws.store().age(ARTIFACTS, &mark, hours).unwrap();
    }
    // The group that cannot be written has nothing open.
    let _ = world.schedule().await;
    let drop = world.drop_record(&staged_key(1));
    assert_eq!(targets(&drop), of("succeeded", "failed"), "{drop:#}");
    assert_eq!(drop["findings"][0]["code"], "drop-abandoned", "{drop:#}");
    letter.event
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_up_for_one_of_them_goes_on_there_and_is_not_deployed_again_elsewhere() {
    let world = world().await;
    let event = half_deployed(&world).await;
    world.aws.faults().clear();
    world.invoke_deploy(event).await.unwrap();
    world.aws.settled().await;
    let drop = world.drop_record(&staged_key(1));
    assert_eq!(targets(&drop), of("succeeded", "succeeded"), "{drop:#}");
    assert_eq!(drop["status"], "succeeded");
    assert_eq!(drop["findings"], json!([]), "{drop:#}");
    assert_eq!(world.our_deployments().len(), 2);
    assert_eq!(world.open(), Vec::<String>::new());
    world.check_records();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_group_decided_stays_when_a_later_attempt_is_refused() {
    let world = world().await;
    let event = half_deployed(&world).await;
    world.aws.faults().clear();
    world.put("settings/shop.yml", "deployment: [no map]\n");
    world.invoke_deploy(event).await.unwrap();
    let drop = world.drop_record(&staged_key(1));
    assert_eq!(targets(&drop), of("succeeded", "rejected"), "{drop:#}");
    assert_eq!(drop["status"], "rejected");
    assert_eq!(world.our_deployments().len(), 1);
    assert_eq!(world.open(), Vec::<String>::new());
    world.check_records();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schedule_answers_what_it_settled_also_where_one_group_has_trouble() {
    let world = world().await;
    let of_states = |event: &RoutedEvent| event.detail("state").is_some();
    world
        .aws
        .router()
        .lose(Some(std::sync::Arc::new(of_states)));
    world.put(&staged_key(1), application(1));
    world.aws.quiet().await;
    world.aws.codedeploy().idle().await;
    world.aws.router().lose(None);
    deny_shop(&world);
    let answer = world.schedule().await.unwrap();
    let outcomes = answer["outcomes"].as_array().unwrap();
    let told: Vec<&Value> = outcomes.iter().map(|told| &told["application"]).collect();
    assert!(told.contains(&&json!("api")), "{answer:#}");
    // Nothing but trouble is an error, so that the alarm hears of it.
    let error = world.schedule().await.unwrap_err();
    assert_eq!(error.error_type, "AccessDenied");
    world.aws.faults().clear();
    world.schedule().await.unwrap();
    let drop = world.drop_record(&staged_key(1));
    assert_eq!(targets(&drop), of("succeeded", "succeeded"), "{drop:#}");
    assert_eq!(world.open(), Vec::<String>::new());
    world.check_records();
    // Each end once, whatever came between it and its group.
    let ended = |world: &World| sum(&metrics(world), "Deployments", "succeeded");
    read_until(&world, |world| ended(world) == 2).await;
    assert_eq!(ended(&world), 2, "{:#?}", metrics(&world));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_applications_may_share_a_revision_and_not_a_key() {
    let world = world().await;
    let shared = |root: &str| {
        let rooted = format!("      shop:\n        application_root: {root}\n");
        settings(&["api", "shop"])
            .replace("apps/api-", "apps/both-")
            .replace("apps/shop-", "apps/both-")
            .replace("      shop:\n", &rooted)
    };
    world.put("settings/shop.yml", shared("/sub"));
    let appspec = "version: 0.0\nos: linux\n";
    let body = bundle(&[("appspec.yml", appspec), ("sub/appspec.yml", appspec)]);
    let drop = world.deploy_build(1, body.clone()).await;
    assert_eq!(drop["status"], "rejected", "{drop:#}");
    let finding = &drop["findings"][0];
    assert_eq!(finding["code"], "revision-key-taken", "{drop:#}");
    let message = finding["message"].as_str().unwrap();
    assert_eq!(
        message,
        "applications api and shop would write different revisions to s3://revisions/apps/both-1"
    );
    // Neither was written.
    let written = world.aws.store().keys(REVISIONS, "apps/").unwrap();
    assert_eq!(written, Vec::<String>::new());
    world.put("settings/shop.yml", shared("/"));
    let drop = world.deploy_build(2, body).await;
    assert_eq!(drop["status"], "succeeded", "{drop:#}");
    let written = world.aws.store().keys(REVISIONS, "apps/").unwrap();
    assert_eq!(written, ["apps/both-2"]);
}
