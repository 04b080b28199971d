//! A tar.gz that becomes a zip in parts: bytes that pass, and blocks of large files that S3 copies.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use stagedrop::local::faults::{Fault, Match, Nth};

use crate::support::{APPSPEC, REVISIONS, SETTINGS, Tree, World, automatic, tree, unpack};

/// Text of so many bytes that deflates to three quarters, without a match in it.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(length + 10);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend((0..10).map(|at| b'!' + (state >> (6 * at) & 63) as u8));
    }
    bytes.truncate(length);
    bytes
}

/// A tar.gz with two files large enough for copies, one whose blocks are kept and read, and small ones before,
/// between and behind; and what it holds.
fn artifact() -> &'static (Vec<u8>, Tree) {
    static ARTIFACT: OnceLock<(Vec<u8>, Tree)> = OnceLock::new();
    ARTIFACT.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        let put = |name: &str, content: &[u8]| {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        put("appspec.yml", APPSPEC.as_bytes());
        put("scripts/after.sh", b"#!/bin/sh\n");
        put("b/large", &noise(3, 22 << 20));
        put("c/between", b"one\n");
        put("d/medium", &noise(5, 4 << 20));
        put("e/larger", &noise(7, 23 << 20));
        put("f/end", &noise(11, 100_000));
        std::os::unix::fs::symlink("e/larger", root.join("link")).unwrap();
        let tar_gz = folder.path().join("artifact");
        let names = ["appspec.yml", "scripts", "b", "c", "d", "e", "f", "link"];
        let mut tar = Command::new("tar");
        tar.arg("-czf")
            .arg(&tar_gz)
            .arg("-C")
            .arg(&root)
            .args(names);
        assert!(tar.status().unwrap().success());
        (std::fs::read(tar_gz).unwrap(), tree(Path::new(&root)))
    })
}

async fn world() -> World {
    let world = World::start(automatic()).await;
    world.put("settings/shop.yml", SETTINGS);
    world
}

/// How often the function asked for it.
fn asked(world: &World, operation: &str) -> usize {
    let log = world.aws.faults().log();
    log.iter()
        .filter(|entry| entry.operation == operation)
        .count()
}

fn is_deployed(world: &World, drop: &Value) {
    let (_, expected) = artifact();
    assert_eq!(drop["status"], "succeeded", "{drop:#}");
    let found = unpack("zip", &world.revision(drop));
    // Not by `assert_eq!`, which would print all of it.
    assert!(found == *expected, "the trees differ");
    let revision = &drop["deployments"][0]["revision"];
    assert_eq!(revision["bundle_type"], "zip");
    assert_eq!(world.our_deployments().len(), 1);
    assert_eq!(world.aws.store().uploads_in_progress(REVISIONS).unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_of_large_files_are_copied_between_parts_of_bytes_that_pass() {
    let (tar_gz, _) = artifact();
    let world = world().await;
    let drop = world.deploy_build(1, tar_gz.clone()).await;
    is_deployed(&world, &drop);
    let counts = &drop["deployments"][0]["counts"];
    let copied = counts["bytes_copied"].as_u64().unwrap();
    let put = counts["bytes_put"].as_u64().unwrap();
    let size = counts["size"].as_u64().unwrap();
    assert_eq!(copied + put, size);
    assert_eq!(size, world.revision(&drop).len() as u64);
    assert!(copied > size / 2, "{copied} of {size} bytes were copied");
    // Each copy is brought to a part's least size before it, and the tail is a short last part.
    assert_eq!(asked(&world, "UploadPartCopy"), 2);
    assert!(asked(&world, "UploadPart") >= 3);
}

/// Deploys the artifact while one request is answered with an error, once.
async fn deployed_in_spite_of(operation: &str, status: u16, code: &str) -> World {
    let world = world().await;
    world.aws.faults().on(
        Match::any().operation(operation).nth(Nth::Number(2)),
        Fault::FailBefore {
            status,
            code: code.to_owned(),
        },
    );
    let drop = world.deploy_build(1, artifact().0.clone()).await;
    assert_eq!(world.aws.faults().fired(), 1, "{operation}");
    is_deployed(&world, &drop);
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_fails_once_is_sent_or_copied_again() {
    for operation in ["UploadPartCopy", "UploadPart"] {
        let world = deployed_in_spite_of(operation, 500, "InternalError").await;
        assert_eq!(asked(&world, "CreateMultipartUpload"), 1, "{operation}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_part_fails_for_good_no_upload_is_left_behind_and_the_next_delivery_goes_through() {
    for operation in ["UploadPartCopy", "UploadPart"] {
        let world = deployed_in_spite_of(operation, 403, "AccessDenied").await;
        assert_eq!(asked(&world, "CreateMultipartUpload"), 2, "{operation}");
        assert_eq!(asked(&world, "AbortMultipartUpload"), 1, "{operation}");
        assert_eq!(asked(&world, "CompleteMultipartUpload"), 1, "{operation}");
    }
}
