//! `stagedrop check`, in a pipe and on a terminal.

use stagedrop::archive::Limits;

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

#[tokio::test(flavor = "multi_thread")]
async fn an_appspec_beyond_its_limit_is_refused_in_folders_and_archives_alike() {
    let folder = tempfile::tempdir().unwrap();
    let limit = Limits::default().document_bytes_max as usize;
    for (bytes, code) in [(limit, 0), (limit + 1, 1)] {
        let mut appspec = format!("{APPSPEC}# ").into_bytes();
        appspec.resize(bytes, b'x');
        let tree = folder.path().join(format!("tree-{bytes}"));
        std::fs::create_dir_all(tree.join("scripts")).unwrap();
        std::fs::write(tree.join("appspec.yml"), &appspec).unwrap();
        std::fs::write(tree.join("index.html"), "hello").unwrap();
        std::fs::write(tree.join("scripts/after.sh"), "#!/bin/sh\n").unwrap();
        let pack = |program: &str, arguments: &[&str]| {
            let packed = std::process::Command::new(program)
                .args(arguments)
                .current_dir(&tree)
                .output()
                .unwrap();
            assert!(packed.status.success(), "{packed:?}");
        };
        pack("tar", &["-cf", "../app.tar", "."]);
        pack("tar", &["-czf", "../app.tar.gz", "."]);
        pack("zip", &["-qr", "../app.zip", "."]);
        for artifact in ["app.tar", "app.tar.gz", "app.zip"] {
            let said = Call::new(&["check", artifact], folder.path()).piped().await;
            assert_eq!(said.code, code, "{artifact}: {}", said.text);
            assert_eq!(
                said.text.contains("[appspec-too-large]"),
                code == 1,
                "{}",
                said.text
            );
        }
        let arguments = ["push", ".", "--to", "s3://artifacts/s/a.zip", "--dry-run"];
        let said = Call::new(&arguments, &tree).piped().await;
        assert_eq!(said.code, code, "{}", said.text);
        assert_eq!(
            said.text.contains("[appspec-too-large]"),
            code == 1,
            "{}",
            said.text
        );
        std::fs::remove_file(folder.path().join("app.zip")).unwrap();
    }
}
