//! `stagedrop check`, in a pipe and on a terminal.

use super::running::{Call, assert_transcript, with_colours};
use crate::support::{APPSPEC, application, bundle};

#[tokio::test(flavor = "multi_thread")]
async fn a_check_says_what_is_wrong_where_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("good.zip"), application(1)).unwrap();
    std::fs::write(
        folder.path().join("bad.zip"),
        bundle(&[("appspec.yml", APPSPEC)]),
    )
    .unwrap();
    let mut text = String::new();
    for (file, code) in [("good.zip", 0), ("bad.zip", 1), ("none.zip", 2), (".", 2)] {
        let said = Call::new(&["check", file], folder.path()).piped().await;
        assert_eq!(said.code, code, "{}", said.text);
        text.push_str(&format!("$ stagedrop check {file}\n{}\n", said.text));
    }
    assert_transcript("check.piped", &text);
    let said = Call::new(&["check", "bad.zip"], folder.path())
        .on_terminal()
        .await;
    assert_eq!(said.code, 1);
    assert_transcript("check.terminal", &with_colours(&said));
}
