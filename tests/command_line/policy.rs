//! `stagedrop policy`: JSON for programs, names above it for people, mistakes as everywhere.

use serde_json::Value;

use super::running::{Call, assert_transcript};
use crate::support::SETTINGS;

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_printed_for_programs_for_people_and_one_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("shop.yml"), SETTINGS).unwrap();
    let policy = ["policy", "--settings", "shop.yml"];
    let said = Call::new(&policy, folder.path()).piped().await;
    assert_eq!(said.code, 0, "{}", said.text);
    let all: Value = serde_json::from_str(&said.stdout).unwrap();
    let all = all.as_object().unwrap();
    let said = Call::new(
        &[&policy[..], &["--output", "text"]].concat(),
        folder.path(),
    )
    .piped()
    .await;
    assert_eq!(said.code, 0, "{}", said.text);
    for (name, document) in all {
        assert!(said.stdout.lines().any(|line| line == name), "{name}");
        let only = Call::new(&[&policy[..], &["--only", name]].concat(), folder.path())
            .piped()
            .await;
        assert_eq!(only.code, 0, "{}", only.text);
        let only: Value = serde_json::from_str(&only.stdout).unwrap();
        assert_eq!(only, *document);
    }
    let said = Call::new(
        &[
            &policy[..],
            &["--only", "uploader", "--bucket", "my-artifacts"],
        ]
        .concat(),
        folder.path(),
    )
    .piped()
    .await;
    assert_transcript("policy-uploader.piped", &said.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_policies_from_being_made_is_told_with_its_cure() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bad.yml"), "deploymnt: {}\n").unwrap();
    std::fs::write(folder.path().join("shop.yml"), SETTINGS).unwrap();
    let mut text = String::new();
    for (arguments, code) in [
        (&["policy", "--settings", "none.yml"][..], 2),
        (&["policy", "--settings", "bad.yml"], 1),
        (
            &[
                "policy",
                "--settings",
                "shop.yml",
                "--staging-key-pattern",
                "s/{WHAT}",
            ],
            2,
        ),
    ] {
        let said = Call::new(arguments, folder.path()).piped().await;
        assert_eq!(said.code, code, "{}", said.text);
        text.push_str(&format!(
            "$ stagedrop {}\n{}\n",
            arguments.join(" "),
            said.text
        ));
    }
    assert_transcript("policy-not-done.piped", &text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_has_gone_away_is_no_trouble() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("shop.yml"), SETTINGS).unwrap();
    let mut child = Call::new(&["policy", "--settings", "shop.yml"], folder.path())
        .command()
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap())
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}
