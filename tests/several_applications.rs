//! A deployment block that names several applications: one group's trouble is not the others'.

use std::time::Duration;

use serde_json::{Value, json};
use stagedrop::local::codedeploy::Platform;
use stagedrop::local::events::RoutedEvent;
use stagedrop::local::faults::{Fault, Match, Nth};
use stagedrop::local::s3::Attributes;

use crate::support::{ARTIFACTS, REVISIONS, World, application, automatic, staged_key};

/// The applications `api` and `shop`, in the order in which they are worked on.
async fn world() -> World {
    let world = World::start(automatic()).await;
    world
        .aws
        .create_application("api", Platform::Server)
        .unwrap();
    world
        .aws
        .create_deployment_group("api", "production")
        .unwrap();
    let block = |name: &str| {
        format!(
            "      {name}:\n        deployment_group: production\n        revision_location: {{revision_type: S3, s3_location: {{bucket: revisions, key_pattern: 'apps/{name}-{{BUILD_NUM}}'}}}}\n"
        )
    };
    world.put(
        "settings/shop.yml",
        format!(
            "deployment:\n  production:\n    branch: master\n    codedeploy:\n{}{}",
            block("api"),
            block("shop")
        ),
    );
    world
}

/// `shop`'s group cannot be written.
fn deny_shop(world: &World) {
    world.aws.faults().on(
        Match::any()
            .operation("PutObject")
            .path_with("records/groups/shop/")
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
}
