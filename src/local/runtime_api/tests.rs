//! Functions that are real processes: this test binary itself, told by an environment variable to
//! play one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use serde_json::json;

use super::*;

const ROLE: &str = "STAGEDROP_TEST_FUNCTION";

/// One request of the Runtime API; head lines and body of the answer.
fn request(method: &str, path: &str, body: &str) -> (Vec<String>, String) {
    let address = std::env::var("AWS_LAMBDA_RUNTIME_API").unwrap();
    let mut stream = TcpStream::connect(&address).unwrap();
    write!(
        stream,
        "{method} /2018-06-01/runtime/{path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_owned());
    }
    let mut body = String::new();
    reader.read_to_string(&mut body).unwrap();
    (head, body)
}

/// Not a test: the function that the tests run. Does what its events say.
#[test]
fn function_process() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    if role == "broken" {
        request(
            "POST",
            "init/error",
            "{\"errorType\":\"Configuration\",\"errorMessage\":\"no settings\"}",
        );
        std::process::exit(1);
    }
    println!("hello from {role}");
    loop {
        let (head, event) = request("GET", "invocation/next", "");
        let header = |name: &str| {
            let line = head
                .iter()
                .find(|line| line.to_ascii_lowercase().starts_with(name))
                .unwrap();
            line.split_once(": ").unwrap().1.to_owned()
        };
        let id = header("lambda-runtime-aws-request-id");
        let event: Value = serde_json::from_str(&event).unwrap();
        match event["do"].as_str() {
            Some("fail") => {
                request(
                    "POST",
                    &format!("invocation/{id}/error"),
                    "{\"errorType\":\"Busy\",\"errorMessage\":\"later\"}",
                );
            }
            Some("exit") => std::process::exit(3),
            Some("hang") => std::thread::sleep(Duration::from_secs(60)),
            Some("wrong-id") => {
                let (head, _) = request("POST", "invocation/another/response", "{}");
                request(
                    "POST",
                    &format!("invocation/{id}/response"),
                    &json!(head[0]).to_string(),
                );
            }
            Some("meet") => {
                // Answers when as many processes as it takes have come.
                let folder = std::path::PathBuf::from(event["folder"].as_str().unwrap());
                std::fs::write(folder.join(std::process::id().to_string()), "").unwrap();
                let count = usize::try_from(event["count"].as_u64().unwrap()).unwrap();
                while std::fs::read_dir(&folder).unwrap().count() < count {
                    std::thread::sleep(Duration::from_millis(5));
                }
                request("POST", &format!("invocation/{id}/response"), "null");
            }
            _ => {
                let answer = json!({
                    "event": event,
                    "arn": header("lambda-runtime-invoked-function-arn"),
                    "trace": header("lambda-runtime-trace-id"),
                    "deadline": header("lambda-runtime-deadline-ms"),
                    "environment": std::env::vars().map(|(name, _)| name).collect::<Vec<_>>(),
                });
                request(
                    "POST",
                    &format!("invocation/{id}/response"),
                    &answer.to_string(),
                );
            }
        }
    }
}

fn spec(role: &str) -> FunctionSpec {
    let mut spec = FunctionSpec::new("function", std::env::current_exe().unwrap());
    spec.args = [
        "--exact",
        "local::runtime_api::tests::function_process",
        "--nocapture",
    ]
    .map(OsString::from)
    .to_vec();
    spec.env.insert(ROLE.to_owned(), role.to_owned());
    spec.retry_delays = vec![Duration::from_millis(20); 2];
    spec
}

type Heard = Arc<Mutex<Vec<FunctionEvent>>>;

fn start(spec: FunctionSpec) -> (Function, Heard) {
    let heard: Heard = Arc::default();
    let hearing = Arc::clone(&heard);
    let observer: Observer = Arc::new(move |_, event| hearing.lock().unwrap().push(event));
    (Function::start(spec, Some(observer)), heard)
}

fn processes(heard: &Heard) -> usize {
    heard
        .lock()
        .unwrap()
        .iter()
        .filter(|event| matches!(event, FunctionEvent::Started { .. }))
        .count()
}

#[tokio::test]
async fn ok_a_process_answers_events_and_its_output_is_heard() {
    let (function, heard) = start(spec("worker"));
    let answer = function.invoke(json!({ "n": 1 })).await.unwrap();
    assert_eq!(answer["event"], json!({ "n": 1 }));
    assert_eq!(
        answer["arn"],
        "arn:aws:lambda:us-east-1:123456789012:function:function"
    );
    assert!(answer["trace"].as_str().unwrap().starts_with("Root=1-"));
    assert!(answer["deadline"].as_str().unwrap().parse::<u64>().unwrap() > 1_700_000_000_000);
    let names = answer["environment"].as_array().unwrap();
    assert!(names.contains(&json!("AWS_LAMBDA_FUNCTION_NAME")) && !names.contains(&json!("HOME")));
    assert!(function.invoke(json!({ "n": 2 })).await.is_ok());
    assert_eq!(processes(&heard), 1);
    function.shutdown().await;
    let line = |event: &FunctionEvent| matches!(event, FunctionEvent::Line { text, .. } if text == "hello from worker");
    assert!(heard.lock().unwrap().iter().any(line));
    assert_eq!(
        function.invoke(json!({})).await.unwrap_err().error_type,
        "Sandbox.Stopped"
    );
}

#[tokio::test]
async fn err_a_dead_process_fails_its_event_and_is_replaced() {
    let (function, heard) = start(spec("worker"));
    let error = function.invoke(json!({ "do": "exit" })).await.unwrap_err();
    assert_eq!(error.error_type, "Runtime.ExitError");
    assert!(
        error
            .message
            .ends_with("Error: Runtime exited with error: exit status 3"),
        "{error}"
    );
    assert!(function.invoke(json!({})).await.is_ok());
    assert_eq!(processes(&heard), 2);
    function.shutdown().await;
}

#[tokio::test]
async fn err_a_hanging_process_is_killed_in_time() {
    let (function, _) = start(FunctionSpec {
        timeout: Duration::from_millis(500),
        ..spec("worker")
    });
    let started = Instant::now();
    let error = function.invoke(json!({ "do": "hang" })).await.unwrap_err();
    assert_eq!(error.error_type, "Sandbox.Timedout");
    assert!(
        error.message.ends_with("Task timed out after 0.50 seconds"),
        "{error}"
    );
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(function.invoke(json!({})).await.is_ok());
    function.shutdown().await;
}

#[tokio::test]
async fn ok_asynchronous_events_are_retried_and_then_given_up() {
    let (function, heard) = start(spec("worker"));
    let id = function.enqueue(json!({ "do": "fail" }));
    function.enqueue(json!({ "n": 1 }));
    function.idle().await;
    let letters = function.take_dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(
        (letters[0].request_id.as_str(), letters[0].attempts),
        (id.as_str(), 3)
    );
    assert_eq!(letters[0].error, FunctionError::new("Busy", "later"));
    assert_eq!(letters[0].event, json!({ "do": "fail" }));
    assert!(function.dead_letters().is_empty());
    let heard = heard.lock().unwrap();
    let attempts: Vec<usize> = heard
        .iter()
        .filter_map(|event| match event {
            FunctionEvent::Attempted {
                request_id,
                attempt,
                ..
            } if *request_id == id => Some(*attempt),
            _ => None,
        })
        .collect();
    assert_eq!(attempts, [1, 2, 3]);
    assert!(heard.contains(&FunctionEvent::GivenUp { request_id: id }));
}

#[tokio::test]
async fn err_a_process_that_cannot_start_says_why() {
    let (function, _) = start(spec("broken"));
    assert_eq!(
        function.invoke(json!({})).await.unwrap_err(),
        FunctionError::new("Configuration", "no settings")
    );
    function.shutdown().await;
    let missing = FunctionSpec::new("function", "/nonexistent/bootstrap");
    let (function, _) = start(missing);
    let error = function.invoke(json!({})).await.unwrap_err();
    assert_eq!(error.error_type, "Runtime.InvalidEntrypoint");
    function.shutdown().await;
}

#[tokio::test]
async fn ok_events_run_side_by_side_up_to_the_concurrency() {
    let (function, heard) = start(FunctionSpec {
        concurrency: 3,
        ..spec("worker")
    });
    let folder = tempfile::TempDir::new().unwrap();
    let event = json!({ "do": "meet", "count": 3, "folder": folder.path() });
    let calls = (0..6).map(|_| function.invoke(event.clone()));
    for result in futures_util::future::join_all(calls).await {
        result.unwrap();
    }
    assert_eq!(processes(&heard), 3);
    function.shutdown().await;
}

#[tokio::test]
async fn ok_a_busy_process_can_be_killed_from_outside() {
    let (function, heard) = start(spec("worker"));
    function.warm(1);
    assert_eq!(function.kill_busy().await, 0);
    let (error, killed) = tokio::join!(function.invoke(json!({ "do": "hang" })), async {
        loop {
            let killed = function.kill_busy().await;
            if killed > 0 {
                return killed;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert_eq!(killed, 1);
    assert!(error.unwrap_err().message.ends_with("signal: killed"));
    assert!(function.invoke(json!({})).await.is_ok());
    assert_eq!(processes(&heard), 2);
    function.shutdown().await;
}

#[tokio::test]
async fn err_answers_to_another_event_are_refused() {
    let (function, _) = start(spec("worker"));
    assert_eq!(
        function.invoke(json!({ "do": "wrong-id" })).await.unwrap(),
        json!("HTTP/1.1 400 Bad Request")
    );
    function.shutdown().await;
}
