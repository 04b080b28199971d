//! One execution environment: a process, and the Runtime API that it alone talks to.
//!
//! ```text
//! process                               worker
//!   GET  …/runtime/invocation/next        waits for an event, then hands it out
//!   POST …/runtime/invocation/ID/response  the event's result
//!   POST …/runtime/invocation/ID/error     the event's failure
//!   POST …/runtime/init/error              the process cannot start
//! ```
//!
//! Owns the process's life: start, time limit of initialisation and of an event, death, restart.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{
    FunctionError, FunctionEvent, INIT_TIMEOUT, Invocation, Kill, PAYLOAD_BYTES_MAX, Shared, Stream,
};
use crate::local::identity;
use crate::local::locked;

/// Bytes of one line that a process prints; a longer one is told in pieces.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// How long to wait for the rest of a dead process's output.
const OUTPUT_DRAIN_MAX: Duration = Duration::from_millis(200);
/// How long to wait before a process that died by itself is started again.
const RESTART_DELAY: Duration = Duration::from_millis(20);

/// What the process is at.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// It has not asked for an event yet.
    Init,
    /// It waits for an event.
    Waiting,
    /// It holds an event, until then at most.
    Busy(Instant),
}

/// What the process's requests and its supervisor share, for one life of the process.
struct Life {
    shared: Arc<Shared>,
    current: Mutex<Option<Invocation>>,
    init_error: Mutex<Option<FunctionError>>,
    phase: watch::Sender<Phase>,
}

/// How a life ended.
enum End {
    /// The function is being shut down.
    Closed,
    /// The process ended by itself or by a signal.
    Exited(ExitStatus),
    /// A limit passed and the process was killed.
    TimedOut,
    /// It was killed by [`super::Function::kill_busy`] or its like.
    Killed,
    /// It could not be started.
    NotStarted(std::io::Error),
}

/// Keeps a process running until the function is shut down.
pub(super) async fn run(
    shared: Arc<Shared>,
    number: usize,
    mut orders: mpsc::UnboundedReceiver<Kill>,
) {
    let mut closed = shared.closed.subscribe();
    loop {
        let life = Arc::new(Life {
            shared: Arc::clone(&shared),
            current: Mutex::default(),
            init_error: Mutex::default(),
            phase: watch::Sender::new(Phase::Init),
        });
        let end = live(&life, number, &mut orders, &mut closed).await;
        let phase = *life.phase.borrow();
        let current = locked(&life.current).take();
        if matches!(end, End::Closed) {
            return;
        }
        match (current, phase) {
            (Some(invocation), _) => {
                let error = interrupted(&end, &invocation.request_id, shared.spec.timeout);
                invocation.finish(Err(error));
                shared.finished();
            }
            // As on AWS, the event that made the process start is told why it did not; where none waits,
            // the next one will be.
            (None, Phase::Init) if !matches!(end, End::Killed) => {
                let error = not_initialised(&end, locked(&life.init_error).take());
                let invocation = loop {
                    tokio::select! {
                        invocation = shared.take() => break invocation,
                        Some(order) = orders.recv() => {
                            let _ = order.done.send(false);
                        }
                        () = shut_down(&mut closed) => return,
                    }
                };
                if let Some(invocation) = invocation {
                    invocation.finish(Err(error));
                    shared.finished();
                }
            }
            (None, _) => tokio::time::sleep(RESTART_DELAY).await,
        }
    }
}

fn interrupted(end: &End, request_id: &str, timeout: Duration) -> FunctionError {
    match end {
        End::TimedOut => FunctionError::new(
            "Sandbox.Timedout",
            format!(
                "RequestId: {request_id} Error: Task timed out after {:.2} seconds",
                timeout.as_secs_f64()
            ),
        ),
        End::Exited(status) => FunctionError::new(
            "Runtime.ExitError",
            format!("RequestId: {request_id} Error: {}", exit_text(*status)),
        ),
        End::NotStarted(_) | End::Killed | End::Closed => FunctionError::new(
            "Runtime.ExitError",
            format!("RequestId: {request_id} Error: Runtime exited with error: signal: killed"),
        ),
    }
}

fn not_initialised(end: &End, reported: Option<FunctionError>) -> FunctionError {
    match (reported, end) {
        (Some(error), _) => error,
        (None, End::NotStarted(error)) => FunctionError::new(
            "Runtime.InvalidEntrypoint",
            format!("process did not start: {error}"),
        ),
        (None, End::Exited(status)) => FunctionError::new("Runtime.ExitError", exit_text(*status)),
        (None, End::TimedOut | End::Killed | End::Closed) => FunctionError::new(
            "Sandbox.Timedout",
            format!(
                "Init phase timed out after {:.2} seconds",
                INIT_TIMEOUT.as_secs_f64()
            ),
        ),
    }
}

fn exit_text(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(0), _) => "Runtime exited without providing a reason".to_owned(),
        (Some(code), _) => format!("Runtime exited with error: exit status {code}"),
        (None, Some(9)) => "Runtime exited with error: signal: killed".to_owned(),
        (None, signal) => format!(
            "Runtime exited with error: signal: {}",
            signal.unwrap_or_default()
        ),
    }
}

/// Starts the process, serves it, and returns when it is dead.
async fn live(
    life: &Arc<Life>,
    number: usize,
    orders: &mut mpsc::UnboundedReceiver<Kill>,
    closed: &mut watch::Receiver<bool>,
) -> End {
    let (listener, mut child) = match start(life, number).await {
        Ok(started) => started,
        Err(error) => return End::NotStarted(error),
    };
    let process_id = child.id().unwrap_or_default();
    life.shared.tell(FunctionEvent::Started {
        worker: number,
        process_id,
    });
    let mut output = JoinSet::new();
    if let Some(stdout) = child.stdout.take() {
        output.spawn(tell_lines(
            Arc::clone(&life.shared),
            number,
            Stream::Stdout,
            stdout,
        ));
    }
    if let Some(stderr) = child.stderr.take() {
        output.spawn(tell_lines(
            Arc::clone(&life.shared),
            number,
            Stream::Stderr,
            stderr,
        ));
    }

    // The connections end with this life: a dead process must never be handed an event.
    let mut connections = JoinSet::new();
    let mut phase = life.phase.subscribe();
    let init_deadline = Instant::now() + INIT_TIMEOUT;
    let end = loop {
        let deadline = match *phase.borrow_and_update() {
            Phase::Init => Some(init_deadline),
            Phase::Waiting => None,
            Phase::Busy(deadline) => Some(deadline),
        };
        tokio::select! {
            exited = child.wait() => break exited.map_or_else(End::NotStarted, End::Exited),
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(serve(Arc::clone(life), stream));
                }
            }
            _ = phase.changed() => {}
            () = tokio::time::sleep_until(deadline.unwrap_or(init_deadline)), if deadline.is_some() => {
                end_process(&mut child).await;
                break End::TimedOut;
            }
            Some(order) = orders.recv() => {
                if order.only_busy && locked(&life.current).is_none() {
                    let _ = order.done.send(false);
                } else {
                    end_process(&mut child).await;
                    let _ = order.done.send(true);
                    break End::Killed;
                }
            }
            () = shut_down(closed) => {
                end_process(&mut child).await;
                break End::Closed;
            }
        }
    };
    // An answer that the process had sent whole before it died still counts.
    tokio::task::yield_now().await;
    connections.shutdown().await;
    let _ = tokio::time::timeout(OUTPUT_DRAIN_MAX, async {
        while output.join_next().await.is_some() {}
    })
    .await;
    end
}

/// Ends when the function is shut down.
async fn shut_down(closed: &mut watch::Receiver<bool>) {
    // Also where the function itself is gone.
    let _ = closed.wait_for(|closed| *closed).await;
}

async fn end_process(child: &mut Child) {
    // Fails only where the process is dead already.
    let _ = child.kill().await;
}

async fn start(life: &Life, number: usize) -> std::io::Result<(TcpListener, Child)> {
    let spec = &life.shared.spec;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?.to_string();
    let mut environment: BTreeMap<String, String> = BTreeMap::from(
        [
            ("AWS_LAMBDA_RUNTIME_API", address),
            ("AWS_LAMBDA_FUNCTION_NAME", spec.name.clone()),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
            (
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
                spec.memory_megabytes.to_string(),
            ),
            (
                "AWS_LAMBDA_LOG_GROUP_NAME",
                format!("/aws/lambda/{}", spec.name),
            ),
            ("AWS_LAMBDA_LOG_STREAM_NAME", format!("worker-{number}")),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".to_owned()),
            ("AWS_REGION", spec.region.clone()),
            ("AWS_DEFAULT_REGION", spec.region.clone()),
            ("_HANDLER", "bootstrap".to_owned()),
            ("TZ", ":UTC".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    if let Ok(path) = std::env::var("PATH") {
        environment.insert("PATH".to_owned(), path);
    }
    environment.extend(spec.env.clone());
    let child = Command::new(&spec.program)
        .args(&spec.args)
        .env_clear()
        .envs(environment)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    Ok((listener, child))
}

async fn tell_lines(
    shared: Arc<Shared>,
    worker: usize,
    stream: Stream,
    output: impl AsyncRead + Unpin,
) {
    let mut reader = BufReader::new(output);
    loop {
        let mut line = Vec::new();
        match (&mut reader)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)
            .await
        {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line)
                    .trim_end_matches(['\n', '\r'])
                    .to_owned();
                shared.tell(FunctionEvent::Line {
                    worker,
                    stream,
                    text,
                });
            }
        }
    }
}

async fn serve(life: Arc<Life>, stream: tokio::net::TcpStream) {
    // Small answers must not wait for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let life = Arc::clone(&life);
        async move { Ok::<_, Infallible>(answer(&life, request).await) }
    });
    // A connection that breaks is the process's own trouble; its death is seen by the supervisor.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(life: &Life, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let Some(path) = parts.uri.path().strip_prefix("/2018-06-01/runtime/") else {
        return refusal(StatusCode::NOT_FOUND, "NotFound", "no such path");
    };
    if (&parts.method, path) == (&Method::GET, "invocation/next") {
        return next(life).await;
    }
    if parts.method != Method::POST {
        return refusal(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "expected POST",
        );
    }
    let Ok(body) = Limited::new(body, PAYLOAD_BYTES_MAX).collect().await else {
        let message = format!("payload exceeds {PAYLOAD_BYTES_MAX} bytes");
        let error = FunctionError::new("Function.ResponseSizeTooLarge", message.clone());
        if let Some((request_id, _)) = path
            .strip_prefix("invocation/")
            .and_then(|rest| rest.split_once('/'))
        {
            finish(life, request_id, Err(error));
        }
        return refusal(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestEntityTooLarge",
            &message,
        );
    };
    let body = body.to_bytes();
    let header = parts
        .headers
        .get("lambda-runtime-function-error-type")
        .and_then(|value| value.to_str().ok());
    if path == "init/error" {
        *locked(&life.init_error) = Some(reported_error(&body, header));
        return accepted();
    }
    let done = match path
        .strip_prefix("invocation/")
        .and_then(|rest| rest.split_once('/'))
    {
        Some((request_id, "response")) => {
            let result = serde_json::from_slice::<Value>(&body).map_err(|error| {
                FunctionError::new(
                    "Runtime.MalformedResponse",
                    format!("response is not JSON: {error}"),
                )
            });
            finish(life, request_id, result)
        }
        Some((request_id, "error")) => finish(life, request_id, Err(reported_error(&body, header))),
        _ => return refusal(StatusCode::NOT_FOUND, "NotFound", "no such path"),
    };
    if done {
        accepted()
    } else {
        refusal(
            StatusCode::BAD_REQUEST,
            "InvalidRequestID",
            "Invalid request ID",
        )
    }
}

async fn next(life: &Life) -> Response<Full<Bytes>> {
    if locked(&life.current).is_some() {
        return refusal(
            StatusCode::FORBIDDEN,
            "InvalidStateTransition",
            "an event is not answered yet",
        );
    }
    life.phase.send_replace(Phase::Waiting);
    let Some(invocation) = life.shared.take().await else {
        return refusal(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Closed",
            "function was shut down",
        );
    };
    let spec = &life.shared.spec;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let deadline_ms = (now + spec.timeout).as_millis();
    let response = Response::builder()
        .header("Content-Type", "application/json")
        .header(
            "Lambda-Runtime-Aws-Request-Id",
            invocation.request_id.as_str(),
        )
        .header("Lambda-Runtime-Deadline-Ms", deadline_ms.to_string())
        .header(
            "Lambda-Runtime-Invoked-Function-Arn",
            identity::function_arn(&spec.region, &spec.name),
        )
        .header("Lambda-Runtime-Trace-Id", identity::trace_id(now.as_secs()))
        .body(Full::new(invocation.event.clone()));
    *locked(&life.current) = Some(invocation);
    life.phase
        .send_replace(Phase::Busy(Instant::now() + spec.timeout));
    // Only a function's name that cannot stand in a header gets here.
    response.unwrap_or_else(|error| {
        refusal(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Internal",
            &error.to_string(),
        )
    })
}

/// Settles the event that the process holds; false where it is not that one.
fn finish(life: &Life, request_id: &str, result: Result<Value, FunctionError>) -> bool {
    let invocation = locked(&life.current).take_if(|current| current.request_id == request_id);
    let Some(invocation) = invocation else {
        return false;
    };
    life.phase.send_replace(Phase::Waiting);
    life.shared.finished();
    invocation.finish(result);
    true
}

fn reported_error(body: &[u8], header: Option<&str>) -> FunctionError {
    let report: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| report.get(name).and_then(Value::as_str);
    FunctionError::new(
        text("errorType").or(header).unwrap_or("Unhandled"),
        text("errorMessage")
            .map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned),
    )
}

fn accepted() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(b"{\"status\":\"OK\"}")));
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

fn refusal(status: StatusCode, error_type: &str, message: &str) -> Response<Full<Bytes>> {
    let body = json!({ "errorType": error_type, "errorMessage": message }).to_string();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}
