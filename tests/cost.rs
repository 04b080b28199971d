//! What one deployment costs in requests, as the README tells it.

use std::collections::BTreeMap;

use stagedrop::local::codedeploy::Status;
use stagedrop::local::faults::{RequestLog, Service};

use crate::support::{APPSPEC, World, application, bundle, silent, staged_key};
use crate::template::root;

/// USD of a request at S3's list prices in us-east-1: PUT, COPY, POST and LIST; GET, HEAD and others.
const WRITE: f64 = 0.005 / 1_000.0;
const READ: f64 = 0.0004 / 1_000.0;

/// A kind of request, as it is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Write,
    Read,
    Deletion,
    CodeDeploy,
}

fn kind(request: &RequestLog) -> Kind {
    match (request.service, request.method.as_str()) {
        (Service::CodeDeploy, _) => Kind::CodeDeploy,
        (_, "DELETE") => Kind::Deletion,
        (_, "PUT" | "POST") => Kind::Write,
        _ if request.operation.starts_with("List") => Kind::Write,
        _ => Kind::Read,
    }
}

/// Hands on what S3 and CodeDeploy have told, one event after the other; says how many came.
async fn deliver(world: &World) -> usize {
    let mut count = 0;
    loop {
        let events = world.aws.router().take();
        if events.is_empty() {
            return count;
        }
        for event in events {
            world.aws.router().deliver(event);
            world.aws.quiet().await;
            count += 1;
        }
    }
}

/// Requests by who made them and how they are charged, of a build from its upload to its recorded end; and how
/// often a function ran.
async fn of_a_build(
    world: &World,
    build_num: u32,
    artifact: Vec<u8>,
) -> (BTreeMap<(String, Kind), usize>, usize) {
    let before = world.aws.faults().log().len();
    world.put(&staged_key(build_num), artifact);
    let mut runs = deliver(world).await;
    let id = world.aws.codedeploy().active("shop", "production").unwrap();
    for status in [Status::InProgress, Status::Succeeded] {
        world.aws.codedeploy().advance(&id, status, None).unwrap();
        runs += deliver(world).await;
    }
    let drop = world.drop_record(&staged_key(build_num));
    assert_eq!(drop["status"], "succeeded", "{drop:#}");
    let log = world.aws.faults().log().split_off(before);
    let mut counts = BTreeMap::new();
    for request in &log {
        let counted = (request.label.clone(), kind(request));
        *counts.entry(counted).or_default() += 1;
    }
    (counts, runs)
}

/// A zip a little smaller than that.
fn eight_mebibytes() -> Vec<u8> {
    // Hexadecimal digits of no pattern, which deflate to about half.
    let mut state = 1_u64;
    let mut content = String::new();
    while content.len() < 14 << 20 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        content += &format!("{:08x}", state >> 32);
    }
    let zip = bundle(&[
        ("appspec.yml", APPSPEC),
        ("content", &content),
        ("scripts/after.sh", "#!/bin/sh\n"),
    ]);
    assert!((7 << 20..8 << 20).contains(&zip.len()), "{}", zip.len());
    zip
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_build_costs_the_requests_that_the_readme_says() {
    let world = World::start(silent()).await;
    // The first build of a group finds no records, the next one finds them.
    let (mut most, mut runs) = of_a_build(&world, 1, application(1)).await;
    for (build_num, artifact) in [(2, application(2)), (3, eight_mebibytes())] {
        let (counts, more_runs) = of_a_build(&world, build_num, artifact).await;
        runs = runs.max(more_runs);
        for (counted, number) in counts {
            let known = most.entry(counted).or_default();
            *known = number.max(*known);
        }
    }
    let of = |label: &str, kind| {
        let counted = (label.to_owned(), kind);
        most.get(&counted).copied().unwrap_or_default()
    };
    let both = |kind| (of("deploy", kind), of("record", kind));
    let (deploy_writes, record_writes) = both(Kind::Write);
    let writes = 1 + deploy_writes + record_writes;
    let (deploy_reads, record_reads) = both(Kind::Read);
    let reads = deploy_reads + record_reads;
    let (deploy_deletions, record_deletions) = both(Kind::Deletion);
    let deletions = deploy_deletions + record_deletions;
    let (deploy_calls, record_calls) = both(Kind::CodeDeploy);
    let calls = deploy_calls + record_calls;
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let rows = [
        format!(
            "| S3 writes | {writes}: the upload, {deploy_writes} by `deploy`, {record_writes} by `record` | {:.6} |",
            writes as f64 * WRITE
        ),
        format!(
            "| S3 reads | {reads}: {deploy_reads} by `deploy`, {record_reads} by `record`; {deletions} deletions are free | {:.6} |",
            reads as f64 * READ
        ),
        format!("| CodeDeploy | {calls} calls, "),
        format!("| Lambda | {runs} runs: "),
    ];
    let missing: Vec<&String> = rows.iter().filter(|row| !readme.contains(*row)).collect();
    assert!(missing.is_empty(), "README lacks: {missing:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schedule_costs_the_listings_that_the_readme_says() {
    let world = World::start(silent()).await;
    let before = world.aws.faults().log().len();
    world.schedule().await.unwrap();
    let log = world.aws.faults().log().split_off(before);
    assert!(
        log.iter().all(|request| kind(request) == Kind::Write),
        "{log:#?}"
    );
    // Every five minutes, thirty days.
    let listings = log.len() * 12 * 24 * 30;
    let thousands = format!("{},{:03}", listings / 1_000, listings % 1_000);
    let text = format!(
        "{thousands} listings by the schedule ({:.2})",
        listings as f64 * WRITE
    );
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains(&text), "README lacks: {text}");
}
