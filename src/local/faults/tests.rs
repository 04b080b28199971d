//! The wire by itself, behind it a service that only counts; and the client that tests of other
//! services use: one request on one connection, nothing hidden by an SDK.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// An answer as it came over the wire.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The text between `<name>` and `</name>`, or nothing.
    pub fn element(&self, name: &str) -> String {
        let text = String::from_utf8_lossy(&self.body).into_owned();
        let inner = text
            .split_once(&format!("<{name}>"))
            .map(|(_, rest)| rest.to_owned());
        inner
            .and_then(|rest| Some(rest.split_once("</")?.0.to_owned()))
            .unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map(String::as_str)
            .unwrap_or_default()
    }
}

/// Sends one request on a connection of its own; `None` where that is closed unanswered.
pub async fn send(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut head = format!("{method} {target} HTTP/1.1\r\nconnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "host") {
        head.push_str("host: 127.0.0.1\r\n");
    }
    if !body.is_empty() || method == "PUT" || method == "POST" {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    // A server that closes early may make the writing fail; what it answered still counts.
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let pairs = lines.filter_map(|line| line.split_once(": "));
    let headers = pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Some(Answer {
        status,
        headers,
        body: answer[end + 4..].to_vec(),
    })
}

/// Counts what it carried out and answers with the length of the body.
#[derive(Default)]
struct Counter(AtomicU64);

impl Wire for Counter {
    fn service(&self, _: &Parts) -> Service {
        Service::CodeDeploy
    }

    fn operation(&self, head: &Parts) -> String {
        head.headers
            .get("x-amz-target")
            .map_or(String::new(), |target| {
                target
                    .to_str()
                    .unwrap()
                    .rsplit('.')
                    .next()
                    .unwrap()
                    .to_owned()
            })
    }

    async fn call(&self, request: Request<WireBody>) -> Response<WireBody> {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        self.0.fetch_add(1, Ordering::SeqCst);
        Response::new(text(body.len().to_string()))
    }

    fn failure(&self, _: Service, status: u16, code: &str) -> Response<WireBody> {
        Response::builder()
            .status(status)
            .body(text(code.to_owned()))
            .unwrap()
    }
}

fn text(text: String) -> WireBody {
    Full::new(Bytes::from(text))
        .map_err(|never| match never {})
        .boxed()
}

struct Served {
    wire: Arc<Counter>,
    faults: Arc<Faults>,
    address: SocketAddr,
}

impl Served {
    async fn new() -> Self {
        let (wire, faults) = (Arc::new(Counter::default()), Arc::new(Faults::new()));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(
            Arc::clone(&wire),
            listener,
            "deploy",
            Arc::clone(&faults),
            std::future::pending(),
        ));
        Self {
            wire,
            faults,
            address,
        }
    }

    /// Asks for an operation and gives the status, 0 for a closed connection.
    async fn ask(&self, operation: &str) -> u16 {
        let target = format!("CodeDeploy_20141006.{operation}");
        let headers = [
            ("x-amz-target", target.as_str()),
            ("user-agent", "sdk/1 app/deployer x"),
        ];
        let answer = send(self.address, "POST", "/", &headers, b"12345").await;
        answer.map_or(0, |answer| answer.status)
    }

    fn effects(&self) -> u64 {
        self.wire.0.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn ok_every_request_is_numbered_and_logged() {
    let served = Served::new().await;
    assert_eq!(served.ask("CreateDeployment").await, 200);
    assert_eq!(served.ask("GetDeployment").await, 200);
    let log = served.faults.log();
    let seen: Vec<_> = log
        .iter()
        .map(|entry| (entry.n, entry.operation.as_str()))
        .collect();
    assert_eq!(seen, [(1, "CreateDeployment"), (2, "GetDeployment")]);
    let last = log.last().unwrap();
    assert_eq!(last.n_of_service, 2);
    assert_eq!(
        (last.label.as_str(), last.caller.as_deref()),
        ("deploy", Some("deployer"))
    );
    assert_eq!(
        (last.status, last.bytes_in, last.bytes_out),
        (Some(200), 5, 1)
    );
    assert_eq!((last.method.as_str(), last.path.as_str()), ("POST", "/"));
    served.faults.clear_log();
    assert_eq!(served.ask("GetDeployment").await, 200);
    assert_eq!(served.faults.log().first().unwrap().n, 1);
}

#[tokio::test]
async fn err_failed_and_reset_requests_have_no_effect() {
    let served = Served::new().await;
    let second = Match::any()
        .operation("CreateDeployment")
        .nth(Nth::Number(2));
    served
        .faults
        .on(second, Fault::throttle(Service::CodeDeploy));
    let reset = Match::any()
        .service(Service::CodeDeploy)
        .operation("StopDeployment");
    served.faults.on(reset, Fault::Reset);
    assert_eq!(served.ask("CreateDeployment").await, 200);
    assert_eq!(served.ask("GetDeployment").await, 200);
    assert_eq!(served.effects(), 2);
    assert_eq!(served.ask("CreateDeployment").await, 400);
    assert_eq!(served.ask("StopDeployment").await, 0);
    assert_eq!(served.effects(), 2);
    let faults: Vec<_> = served
        .faults
        .log()
        .iter()
        .map(|entry| entry.fault)
        .collect();
    assert_eq!(faults, [None, None, Some("fail-before"), Some("reset")]);
    assert_eq!(served.faults.fired(), 2);
    served.faults.clear();
    assert_eq!(served.ask("StopDeployment").await, 200);
}

#[tokio::test]
async fn err_a_lost_answer_took_effect() {
    let served = Served::new().await;
    served
        .faults
        .on(Match::any().nth(Nth::First(1)), Fault::LoseAnswer);
    assert_eq!(served.ask("CreateDeployment").await, 0);
    assert_eq!(served.effects(), 1);
    assert_eq!(served.faults.log().first().unwrap().status, None);
    assert_eq!(served.ask("CreateDeployment").await, 200);
}

#[tokio::test]
async fn ok_callbacks_come_before_or_after_the_effect() {
    for (moment, then, status, effects_seen, effects) in [
        (Moment::Before, Then::Drop, 0, 0, 0),
        (Moment::Before, Then::Proceed, 200, 0, 1),
        (Moment::After, Then::Drop, 0, 1, 1),
        (Moment::After, Then::Proceed, 200, 1, 1),
    ] {
        let served = Served::new().await;
        let (seen, wire) = (Arc::new(Mutex::new(None)), Arc::clone(&served.wire));
        let told = Arc::clone(&seen);
        let call = Fault::call(moment, move |entry| {
            *told.lock().unwrap() = Some((entry.operation, wire.0.load(Ordering::SeqCst)));
            async move { then }
        });
        served.faults.on(Match::any().label("deploy"), call);
        assert_eq!(
            served.ask("CreateDeployment").await,
            status,
            "{moment:?} {then:?}"
        );
        let seen = seen.lock().unwrap().take();
        assert_eq!(seen, Some(("CreateDeployment".to_owned(), effects_seen)));
        assert_eq!(served.effects(), effects, "{moment:?} {then:?}");
    }
}

#[tokio::test]
async fn ok_what_began_is_carried_out_without_its_client() {
    let served = Served::new().await;
    served
        .faults
        .on(Match::any(), Fault::Delay(Duration::from_millis(50)));
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let request = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nab";
    stream.write_all(request).await.unwrap();
    while served.faults.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(stream);
    assert_eq!(served.effects(), 0);
    // Two hundred times longer than it takes; a test that fails here waited in vain.
    for _ in 0..10_000 {
        if served.effects() == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("the request had no effect");
}

#[test]
fn ok_counts_that_are_meant() {
    let meant = |nth: Nth| {
        (1..=6)
            .filter(|count| nth.holds(*count))
            .collect::<Vec<_>>()
    };
    assert_eq!(meant(Nth::Number(3)), [3]);
    assert_eq!(meant(Nth::First(2)), [1, 2]);
    assert_eq!(meant(Nth::EachOf(3)), [3, 6]);
    assert_eq!(meant(Nth::EachOf(0)), [0u64; 0]);
    assert_eq!(meant(Nth::Every), [1, 2, 3, 4, 5, 6]);
}
