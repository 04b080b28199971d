//! AWS trouble: errors with stable types, and the same result once it is over.

use std::time::Duration;

use stagedrop::local::faults::{Fault, Match, Nth, Service};

use crate::support::{World, application, automatic, staged_key};

/// One trouble: the requests that it meets, what they are answered, and the error type that Lambda gets.
fn troubles() -> Vec<(&'static str, Match, Fault, &'static str)> {
    let every = |operation: &str| {
        Match::any()
            .operation(operation)
            .label("deploy")
            .nth(Nth::Every)
    };
    let answer = |status: u16, code: &str| Fault::FailBefore {
        status,
        code: code.to_owned(),
    };
    vec![
        (
            "S3 asks to slow down",
            every("PutObject"),
            answer(503, "SlowDown"),
            "AwsThrottled",
        ),
        (
            "S3 is broken",
            every("GetObject"),
            answer(500, "InternalError"),
            "AwsUnavailable",
        ),
        (
            "the artifact may not be read",
            every("HeadObject"),
            answer(403, "AccessDenied"),
            "AccessDenied",
        ),
        (
            "the settings may not be read",
            every("GetObject"),
            answer(403, "AccessDenied"),
            "AccessDenied",
        ),
        (
            "CodeDeploy throttles",
            every("RegisterApplicationRevision"),
            Fault::throttle(Service::CodeDeploy),
            "AwsThrottled",
        ),
        (
            "CodeDeploy is broken",
            every("RegisterApplicationRevision"),
            answer(500, "InternalFailure"),
            "AwsUnavailable",
        ),
        (
            "deployments may not be created",
            every("CreateDeployment"),
            answer(400, "AccessDeniedException"),
            "AccessDenied",
        ),
        (
            "the connection breaks",
            every("RegisterApplicationRevision"),
            Fault::Reset,
            "AwsUnavailable",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_is_an_error_with_a_stable_type_and_passes() {
    for (name, which, fault, error_type) in troubles() {
        let world = World::start(automatic()).await;
        world.aws.faults().on(which, fault);
        world.put(&staged_key(1), application(1));
        world.aws.quiet().await;
        let letters = world.functions.deploy.take_dead_letters();
        assert_eq!(letters.len(), 1, "{name}");
        assert_eq!(
            letters[0].error.error_type, error_type,
            "{name}: {}",
            letters[0].error.message
        );
        assert_eq!(letters[0].attempts, 3, "{name}");
        assert!(world.our_deployments().is_empty(), "{name}");
        world.aws.faults().clear();
        // Redriven once the trouble is over, after the lease on an intent that nobody may have carried out.
        world.invoke_deploy(letters[0].event.clone()).await.unwrap();
        world.aws.settled().await;
        assert_eq!(
            world.drop_record(&staged_key(1))["status"],
            "succeeded",
            "{name}"
        );
        assert_eq!(world.our_deployments().len(), 1, "{name}");
        world.check_records();
        assert_eq!(world.open(), Vec::<String>::new(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_answer_is_waited_for() {
    let world = World::start(automatic()).await;
    world.aws.faults().on(
        Match::any()
            .operation("GetObject")
            .label("deploy")
            .nth(Nth::First(3)),
        Fault::Delay(Duration::from_millis(300)),
    );
    world.put(&staged_key(1), application(1));
    world.aws.settled().await;
    assert_eq!(world.drop_record(&staged_key(1))["status"], "succeeded");
    assert!(world.functions.deploy.dead_letters().is_empty());
}
