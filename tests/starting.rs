//! How the functions' processes start: what keeps them from it is told to Lambda, and nothing of Lambda's own
//! environment but the address of the Runtime API is needed.

use std::time::Duration;

use serde_json::Value;
use stagedrop::local::runtime_api::{Function, FunctionEvent, FunctionSpec};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::observing::ON_AWS;
use crate::support::{Lines, environment, program};
use crate::template::faults_to_cure;

const PATIENCE: Duration = Duration::from_secs(10);

fn programs() -> [(&'static str, String); 2] {
    [
        ("deploy", program("deploy", env!("CARGO_BIN_EXE_deploy"))),
        ("record", program("record", env!("CARGO_BIN_EXE_record"))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_a_function_from_starting_is_told_to_lambda_at_once() {
    for ((name, program), filter) in programs().into_iter().zip(["DeployFaults", "RecordFaults"]) {
        let mut spec = FunctionSpec::new(name, program);
        spec.env = environment();
        spec.env.remove("STAGEDROP_RECORDS");
        let pattern = "settings/{PROJECT}/{BUILD_NUM}".to_owned();
        spec.env
            .insert("STAGEDROP_STAGING_KEY_PATTERN".to_owned(), pattern);
        for (name, value) in ON_AWS {
            spec.env.insert(name.to_owned(), value.to_owned());
        }
        let lines = Lines::default();
        let kept = std::sync::Arc::clone(&lines);
        let observer = std::sync::Arc::new(move |name: &str, event| {
            if let FunctionEvent::Line { text, .. } = event {
                kept.lock().unwrap().push((name.to_owned(), text));
            }
        });
        let function = Function::start(spec, Some(observer));
        let error = function.invoke(serde_json::json!({})).await.unwrap_err();
        assert_eq!(error.error_type, "Runtime.ConfigInvalid", "{error}");
        let faults: Vec<&str> = error.message.lines().collect();
        assert_eq!(faults.len(), 3, "{error}");
        assert_eq!(faults[0], "environment has 2 faults");
        assert!(faults[1].starts_with("  STAGEDROP_RECORDS: "), "{error}");
        assert!(
            faults[2].starts_with("  STAGEDROP_STAGING_KEY_PATTERN `settings/"),
            "{error}"
        );
        function.shutdown().await;
        // The log says the same, in one line that an alarm matches.
        let told: Vec<Value> = lines
            .lock()
            .unwrap()
            .iter()
            .filter_map(|(_, line)| serde_json::from_str(line).ok())
            .filter(|line: &Value| line["decision"] == "not-started")
            .collect();
        assert!(!told.is_empty(), "{lines:?}");
        for line in told {
            assert_eq!(line["level"], "ERROR", "{line:#}");
            assert_eq!(line["error"], error.message.as_str(), "{line:#}");
            let types = faults_to_cure(filter);
            assert!(
                types.iter().any(|word| line["error_type"] == word.as_str()),
                "{line:#}"
            );
        }
    }
}

/// A server of the Runtime API that knows one request; gives its head and what the process printed.
async fn first_request(program: &str, variables: &[(&str, &str)]) -> (String, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut process = Command::new(program)
        .env_clear()
        .env(
            "AWS_LAMBDA_RUNTIME_API",
            listener.local_addr().unwrap().to_string(),
        )
        .envs(variables.iter().copied())
        .kill_on_drop(true)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
    let (mut stream, _) = accepted.expect("the process asks for nothing").unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.unwrap());
    }
    let answer = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    stream.write_all(answer).await.unwrap();
    drop(stream);
    drop(listener);
    process.start_kill().unwrap();
    let output = process.wait_with_output().await.unwrap();
    let printed = [output.stdout, output.stderr].concat();
    (
        String::from_utf8(request).unwrap(),
        String::from_utf8(printed).unwrap(),
    )
}

#[tokio::test]
async fn the_address_of_the_runtime_api_is_all_that_a_server_has_to_set() {
    let own = environment();
    let mut variables: Vec<(&str, &str)> = own
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    variables.push(("AWS_REGION", "us-east-1"));
    for (name, program) in programs() {
        let (request, printed) = first_request(&program, &variables).await;
        let wanted = "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n";
        assert!(request.starts_with(wanted), "{name}: {request}{printed}");
    }
}

#[tokio::test]
async fn a_function_that_nobody_serves_says_so_beside_its_other_faults() {
    for (name, program) in programs() {
        let process = Command::new(&program).env_clear().output();
        let output = tokio::time::timeout(PATIENCE, process)
            .await
            .unwrap()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        for variable in [
            "STAGEDROP_STAGING_KEY_PATTERN",
            "STAGEDROP_SETTINGS",
            "STAGEDROP_RECORDS",
            "AWS_REGION",
            "AWS_LAMBDA_RUNTIME_API",
        ] {
            assert!(said.contains(variable), "{name}: {said}");
        }
    }
}
