//! Help, completions and man pages: made for every command, and each begins with an example that works.

use std::path::Path;
use std::process::Command;

use super::running::{Call, assert_transcript, with_colours};

const COMMANDS: [&str; 12] = [
    "demo",
    "local",
    "check",
    "policy",
    "push",
    "explain",
    "lint",
    "status",
    "history",
    "redeploy",
    "completions",
    "man",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_help_begins_with_an_example_that_is_understood() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = Call::new(&["--help"], folder.path()).piped().await.text;
    for command in COMMANDS {
        assert!(all.contains(&format!("\n  {command} ")), "{command}: {all}");
    }
    for command in COMMANDS {
        let said = Call::new(&[command, "--help"], folder.path()).piped().await;
        assert_eq!(said.code, 0);
        let first = said.text.lines().next().unwrap_or_default().to_owned();
        let example = first
            .strip_prefix("Example: stagedrop ")
            .unwrap_or_else(|| {
                panic!("{command}'s help begins with `{first}`");
            });
        assert!(example.starts_with(command), "{example}");
        // Understood: with one more option it is that one alone which is complained of.
        let words = example.split(" > ").next().unwrap_or_default();
        let mut words: Vec<&str> = words.split_whitespace().collect();
        words.push("--no-such-option");
        let complaint = Call::new(&words, folder.path()).piped().await;
        assert_eq!(complaint.code, 2, "{}", complaint.text);
        assert!(
            complaint
                .text
                .contains("unexpected argument '--no-such-option'"),
            "{command}: {}",
            complaint.text
        );
        all.push_str(&format!("\n$ stagedrop {command} --help\n{}", said.text));
    }
    assert_transcript("help.piped", &all);
    let said = Call::new(&["push", "--help"], folder.path())
        .on_terminal()
        .await;
    assert_transcript("help-push.terminal", &with_colours(&said));
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_are_scripts_that_their_shells_take() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = Call::new(&["completions", shell], folder.path())
            .piped()
            .await;
        assert_eq!(said.code, 0, "{}", said.text);
        for command in COMMANDS {
            assert!(said.text.contains(command), "{shell}: {command}");
        }
        assert!(said.text.contains("build-num"), "{shell}");
    }
    let script = folder.path().join("stagedrop.bash");
    let said = Call::new(&["completions", "bash"], folder.path())
        .piped()
        .await;
    std::fs::write(&script, said.stdout).unwrap();
    let completed = Command::new("bash")
        .arg("-c")
        .arg(format!(
            "source {}; COMP_WORDS=(stagedrop re); COMP_CWORD=1; _stagedrop stagedrop re stagedrop; echo ${{COMPREPLY[@]}}",
            script.display()
        ))
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&completed.stdout).trim(),
        "redeploy",
        "{completed:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_a_man_page_of_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    let said = Call::new(&["man", pages.to_str().unwrap()], folder.path())
        .piped()
        .await;
    assert_eq!(said.code, 0, "{}", said.text);
    for command in COMMANDS {
        let page = std::fs::read_to_string(pages.join(format!("stagedrop-{command}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{command}");
        assert!(page.contains("Example: stagedrop"), "{command}");
    }
    assert!(!Path::new(&pages.join("stagedrop-function.1")).exists());
    let said = Call::new(&["man"], folder.path()).piped().await;
    assert!(said.stdout.contains(".TH stagedrop 1"), "{}", said.stdout);
}
