//! Bundles with the real agent's verdict, each taken all the way through `deploy`.
//!
//! `corpus/verdicts.json` has a row for each bundle: what the unmodified CodeDeploy agent did with it, and what
//! is expected here (`ship`, `refuse`, `repair-or-refuse`, `either`).

use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use serde_json::Value;

use crate::support::{COMMIT, REVISIONS, Tree, World, automatic, tree, try_unpack};

#[derive(Debug, Clone, Deserialize)]
struct Row {
    id: String,
    file: String,
    bundle_type: String,
    about: String,
    agent: String,
    expect: String,
}

const WORLDS: usize = 4;

fn corpus() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// What the artifact unpacks to, with the one top folder stripped that the agent strips.
fn artifact_tree(bundle_type: &str, file: &Path) -> Tree {
    let folder = tempfile::tempdir().unwrap();
    let mut command = match bundle_type {
        "zip" => {
            let mut command = Command::new("unzip");
            command.arg("-qo");
            command
        }
        "tgz" => {
            let mut command = Command::new("tar");
            command.arg("-zxpsf");
            command
        }
        _ => {
            let mut command = Command::new("tar");
            command.arg("-xpsf");
            command
        }
    };
    // Some of these make their reader warn; what counts is what it leaves.
    command
        .arg(file)
        .current_dir(folder.path())
        .output()
        .unwrap();
    let tops: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    match tops.as_slice() {
        [top] if top.is_dir() => tree(top),
        _ => tree(folder.path()),
    }
}

/// Set-id bits are the unpacker's to keep or drop; directories without an entry get the unpacker's own mode.
fn comparable(mut tree: Tree, entries: &[String]) -> Tree {
    for (name, (kind, mode, _)) in &mut tree {
        *mode &= 0o777;
        if *kind == 'd'
            && !entries
                .iter()
                .any(|entry| entry.trim_end_matches('/').ends_with(name.as_str()))
        {
            *mode = 0;
        }
    }
    tree
}

/// Names as the archive lists them.
fn listed(bundle_type: &str, file: &Path) -> Vec<String> {
    let output = match bundle_type {
        "zip" => Command::new("zipinfo")
            .arg("-1")
            .arg(file)
            .output()
            .unwrap(),
        _ => Command::new("tar").arg("-taf").arg(file).output().unwrap(),
    };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| line.trim_start_matches("./").to_owned())
        .collect()
}

/// Whether the row behaves as expected; says what is wrong.
async fn judge(world: &World, row: &Row, build_num: usize, out: &str) -> Result<(), String> {
    world.put(
        "settings/shop.yml",
        crate::support::SETTINGS.replace(
            "application_root: /\n",
            &format!("application_root: /\n    bundle_type: {out}\n"),
        ),
    );
    let file = corpus().join("bundles").join(&row.file);
    let key = format!(
        "staging/shop/master/{build_num}-{COMMIT}.{}",
        row.bundle_type
    );
    world.put(&key, std::fs::read(&file).unwrap());
    world.aws.settled().await;
    if let Some(letter) = world.functions.deploy.take_dead_letters().first() {
        return Err(format!("gave the event back: {}", letter.error));
    }
    let drop = world.drop_record(&key);
    let refusals: Vec<&Value> = drop["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["severity"] == "refuse")
        .collect();
    let target = &drop["deployments"][0];
    let shipped = target["revision"].is_object();
    let rejected = drop["status"] == "rejected";
    if shipped == rejected {
        return Err(format!("neither shipped nor rejected: {drop:#}"));
    }
    if rejected {
        let told = refusals.iter().all(|finding| {
            !finding["code"].as_str().unwrap().is_empty()
                && finding["message"].as_str().unwrap().len() > 10
                && !finding["cure"].as_str().unwrap().is_empty()
        });
        if refusals.is_empty() || !told {
            return Err(format!("rejected without a cause: {drop:#}"));
        }
        let revision = format!("apps/shop-master-3f2c1a9-{build_num}");
        if world.aws.store().get(REVISIONS, &revision).is_ok() {
            return Err("rejected, and a revision was written".to_owned());
        }
    }
    match (row.expect.as_str(), shipped) {
        ("ship", false) => return Err(format!("should ship: {:#}", drop["findings"])),
        ("refuse", true) => return Err(format!("should be refused: {drop:#}")),
        _ => {}
    }
    if shipped {
        if !target["deployment_id"].is_string() {
            return Err(format!("shipped, and not deployed: {drop:#}"));
        }
        let found = try_unpack(out, &world.revision(&drop))?;
        if !found.contains_key("appspec.yml") {
            return Err(format!("revision has no AppSpec: {:?}", found.keys()));
        }
        if row.expect == "ship" {
            let entries = listed(&row.bundle_type, &file);
            let expected = comparable(artifact_tree(&row.bundle_type, &file), &entries);
            let found = comparable(found, &entries);
            if found != expected {
                let differing: Vec<_> = expected
                    .keys()
                    .chain(found.keys())
                    .filter(|name| expected.get(*name) != found.get(*name))
                    .map(|name| (name, expected.get(name), found.get(name)))
                    .collect();
                return Err(format!("revision differs from artifact: {differing:?}"));
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bundle_is_judged_as_the_agent_judged_it() {
    let rows: Vec<Row> =
        serde_json::from_str(&std::fs::read_to_string(corpus().join("verdicts.json")).unwrap())
            .unwrap();
    assert_eq!(rows.len(), 192);
    let mut work: Vec<(Row, &str)> = rows.iter().map(|row| (row.clone(), "zip")).collect();
    for row in &rows {
        match row.bundle_type.as_str() {
            "tgz" => work.push((row.clone(), "tgz")),
            "tar" => work.push((row.clone(), "tar")),
            _ => {}
        }
    }
    let mut running = Vec::new();
    for share in 0..WORLDS {
        let work: Vec<_> = work.iter().skip(share).step_by(WORLDS).cloned().collect();
        running.push(tokio::spawn(async move {
            let world = World::start(automatic()).await;
            let mut wrong = Vec::new();
            for (place, (row, out)) in work.iter().enumerate() {
                if let Err(what) = judge(&world, row, place + 1, out).await {
                    wrong.push(format!(
                        "{} as {out} ({}; agent: {}; expected: {}): {what}",
                        row.id, row.about, row.agent, row.expect
                    ));
                }
            }
            world.check_records();
            wrong
        }));
    }
    let mut wrong = Vec::new();
    for share in running {
        wrong.extend(share.await.unwrap());
    }
    println!("{} bundles judged", work.len());
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        work.len(),
        wrong.join("\n")
    );
}
