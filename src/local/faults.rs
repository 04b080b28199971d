//! The wire of the embedded AWS: every request is numbered, logged and may be made to fail.
//!
//! Owns the numbering, the [`RequestLog`] and the plan of [`Fault`]s. A service
//! stands behind it as a [`Wire`]: it names the operation of a request, carries it out, and writes
//! an error in its own protocol. What an operation means is none of this room's business.
//!
//! ```text
//! TcpListener (label) -> number, log -> plan: fail | reset | delay | call -> Wire::call
//!                                       plan: lose the answer | call      <- answer
//! ```

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::http::request::Parts;
use jiff::Timestamp;

mod wire;

pub use wire::{BodyError, CONNECTIONS_MAX, Wire, WireBody, serve};

/// Requests that the log keeps; the oldest go first.
pub const LOG_ENTRIES_MAX: usize = 200_000;

/// Which part of the embedded AWS a request goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// Amazon S3.
    S3,
    /// AWS CodeDeploy.
    CodeDeploy,
    /// The Lambda Runtime API.
    Lambda,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::S3 => "S3",
            Self::CodeDeploy => "CodeDeploy",
            Self::Lambda => "Lambda",
        })
    }
}

/// Which requests of those that fit a [`Match`] are meant, counted from 1 by each rule for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nth {
    /// This one alone.
    Number(u64),
    /// The first so many.
    First(u64),
    /// One of each so many: the k-th, the 2k-th, ...
    EachOf(u64),
    /// All of them.
    Every,
}

impl Nth {
    fn holds(self, count: u64) -> bool {
        match self {
            Self::Number(n) => count == n,
            Self::First(n) => count <= n,
            Self::EachOf(k) => count.checked_rem(k) == Some(0),
            Self::Every => true,
        }
    }
}

/// The requests that a fault is meant for. [`Match::any`] fits all; each method narrows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    service: Option<Service>,
    operation: Option<String>,
    label: Option<String>,
    path: Option<String>,
    nth: Nth,
}

impl Match {
    /// Every request.
    pub fn any() -> Self {
        Self {
            service: None,
            operation: None,
            label: None,
            path: None,
            nth: Nth::Every,
        }
    }

    /// Only requests to this service.
    pub fn service(self, service: Service) -> Self {
        Self {
            service: Some(service),
            ..self
        }
    }

    /// Only requests for this operation.
    pub fn operation(self, operation: &str) -> Self {
        Self {
            operation: Some(operation.to_owned()),
            ..self
        }
    }

    /// Only requests of this caller: the label of the listener, or the app id in `user-agent`.
    pub fn label(self, label: &str) -> Self {
        Self {
            label: Some(label.to_owned()),
            ..self
        }
    }

    /// Only requests whose path, as sent, contains this text.
    pub fn path_with(self, text: &str) -> Self {
        Self {
            path: Some(text.to_owned()),
            ..self
        }
    }

    /// Only these of the requests that fit all else.
    pub fn nth(self, nth: Nth) -> Self {
        Self { nth, ..self }
    }

    fn fits(&self, entry: &RequestLog) -> bool {
        self.service.is_none_or(|service| service == entry.service)
            && self
                .operation
                .as_ref()
                .is_none_or(|name| *name == entry.operation)
            && self
                .path
                .as_ref()
                .is_none_or(|text| entry.path.contains(text.as_str()))
            && self.label.as_ref().is_none_or(|label| {
                *label == entry.label || entry.caller.as_ref().is_some_and(|app| app == label)
            })
    }
}

/// What happens to the connection after a [`Fault::Call`] has called back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Goes on as if nothing had been.
    Proceed,
    /// Closes the connection; before the effect that means without effect.
    Drop,
}

/// When a [`Fault::Call`] calls back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before the request is carried out.
    Before,
    /// After it took effect, before it is answered.
    After,
}

/// What a test wants done at one request, such as killing the process that made it.
pub type Callback =
    Arc<dyn Fn(RequestLog) -> Pin<Box<dyn Future<Output = Then> + Send>> + Send + Sync>;

/// How a request goes wrong.
#[derive(Clone)]
pub enum Fault {
    /// Answers an error, without effect.
    FailBefore {
        /// HTTP status.
        status: u16,
        /// AWS's error code.
        code: String,
    },
    /// Carries the request out, then closes the connection without an answer.
    LoseAnswer,
    /// Closes the connection, without effect.
    Reset,
    /// Waits, then carries the request out and answers it.
    Delay(Duration),
    /// Carries the request out, and waits before the answer.
    DelayAnswer(Duration),
    /// Calls back, then does what the callback says.
    Call(Moment, Callback),
}

impl Fault {
    /// The service's way to say "slow down": 503 `SlowDown` of S3, 400 `ThrottlingException` of
    /// the JSON services.
    pub fn throttle(service: Service) -> Self {
        match service {
            Service::S3 => Self::FailBefore {
                status: 503,
                code: "SlowDown".to_owned(),
            },
            Service::CodeDeploy | Service::Lambda => Self::FailBefore {
                status: 400,
                code: "ThrottlingException".to_owned(),
            },
        }
    }

    /// Calls `callback` at `moment`.
    pub fn call<F, R>(moment: Moment, callback: F) -> Self
    where
        F: Fn(RequestLog) -> R + Send + Sync + 'static,
        R: Future<Output = Then> + Send + 'static,
    {
        Self::Call(moment, Arc::new(move |entry| Box::pin(callback(entry))))
    }

    fn name(&self) -> &'static str {
        match self {
            Self::FailBefore { .. } => "fail-before",
            Self::LoseAnswer => "lose-answer",
            Self::Reset => "reset",
            Self::Delay(_) => "delay",
            Self::DelayAnswer(_) => "delay-answer",
            Self::Call(Moment::Before, _) => "call-before",
            Self::Call(Moment::After, _) => "call-after",
        }
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One request as the wire saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLog {
    /// Its number among all requests, from 1.
    pub n: u64,
    /// Its number among the requests to its service, from 1.
    pub n_of_service: u64,
    /// Whom it asked.
    pub service: Service,
    /// What it asked for.
    pub operation: String,
    /// The label of the listener that it came to.
    pub label: String,
    /// The app id in its `user-agent` (`app/…`, the SDKs' `AWS_SDK_UA_APP_ID`).
    pub caller: Option<String>,
    /// HTTP method.
    pub method: String,
    /// The path as sent, still percent-encoded.
    pub path: String,
    /// The query as sent, without `?`.
    pub query: String,
    /// What it says of its body: `x-amz-content-sha256`, a digest or why there is none.
    pub payload: Option<String>,
    /// The CRC-32 of its body, in base64, as sent ahead of it.
    pub crc32: Option<String>,
    /// When its head had arrived.
    pub time: Timestamp,
    /// HTTP status of the answer; `None` while there is none, and for a closed connection.
    pub status: Option<u16>,
    /// Bytes of its body that were read.
    pub bytes_in: u64,
    /// Bytes of the answer's body that were written.
    pub bytes_out: u64,
    /// Which fault was done to it.
    pub fault: Option<&'static str>,
}

/// A log entry with the counts that still grow while bodies flow.
struct Entry {
    log: RequestLog,
    traffic: Arc<Traffic>,
}

#[derive(Default)]
struct Traffic {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

struct Rule {
    wanted: Match,
    fault: Fault,
    count: u64,
    fired: u64,
}

#[derive(Default)]
struct State {
    requests: u64,
    by_service: HashMap<Service, u64>,
    rules: Vec<Rule>,
    log: VecDeque<Entry>,
    /// The number of the first entry in `log`.
    log_start: u64,
}

/// The plan of faults and the log of requests, shared by all servers of one embedded AWS.
#[derive(Default)]
pub struct Faults {
    state: Mutex<State>,
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        write!(
            f,
            "Faults({} rules, {} requests)",
            state.rules.len(),
            state.requests
        )
    }
}

impl Faults {
    /// No faults, an empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Plans `fault` for the requests that `wanted` describes. Each rule counts for itself, from
    /// now on; where several apply to one request, the one that was planned first is done.
    pub fn on(&self, wanted: Match, fault: Fault) {
        self.state().rules.push(Rule {
            wanted,
            fault,
            count: 0,
            fired: 0,
        });
    }

    /// Forgets the plan; numbers and log stay.
    pub fn clear(&self) {
        self.state().rules.clear();
    }

    /// How many faults of the present plan were done.
    pub fn fired(&self) -> u64 {
        self.state().rules.iter().map(|rule| rule.fired).sum()
    }

    /// Forgets the log and starts numbering at 1 again; the plan stays.
    pub fn clear_log(&self) {
        let mut state = self.state();
        let rules = std::mem::take(&mut state.rules);
        *state = State {
            rules,
            ..State::default()
        };
    }

    /// Every request since the log was last cleared, in the order of arrival; at most the last
    /// [`LOG_ENTRIES_MAX`].
    pub fn log(&self) -> Vec<RequestLog> {
        self.state().log.iter().map(Entry::snapshot).collect()
    }

    /// How many requests there were since the log was last cleared.
    pub fn requests(&self) -> u64 {
        self.state().requests
    }

    /// Enters a request into the log and tells which fault is to be done to it.
    ///
    /// Public for servers that cannot stand behind [`serve`].
    pub fn observe(&self, service: Service, operation: String, label: &str, head: &Parts) -> Seen {
        let header = |name| Some(head.headers.get(name)?.to_str().ok()?.to_owned());
        let mut state = self.state();
        state.requests += 1;
        let n = state.requests;
        let n_of_service = bump(state.by_service.entry(service).or_default());
        let log = RequestLog {
            n,
            n_of_service,
            service,
            operation,
            label: label.to_owned(),
            caller: app_id(head),
            method: head.method.as_str().to_owned(),
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            payload: header("x-amz-content-sha256"),
            crc32: header("x-amz-checksum-crc32"),
            time: Timestamp::now(),
            status: None,
            bytes_in: 0,
            bytes_out: 0,
            fault: None,
        };
        let mut fault = None;
        for rule in &mut state.rules {
            if !rule.wanted.fits(&log) {
                continue;
            }
            rule.count += 1;
            if fault.is_none() && rule.wanted.nth.holds(rule.count) {
                rule.fired += 1;
                fault = Some(rule.fault.clone());
            }
        }
        let log = RequestLog {
            fault: fault.as_ref().map(Fault::name),
            ..log
        };
        let traffic = Arc::new(Traffic::default());
        if state.log.len() >= LOG_ENTRIES_MAX {
            state.log.pop_front();
            state.log_start += 1;
        }
        if state.log.is_empty() {
            state.log_start = n;
        }
        state.log.push_back(Entry {
            log: log.clone(),
            traffic: Arc::clone(&traffic),
        });
        Seen {
            log,
            fault,
            traffic,
        }
    }

    fn answered(&self, n: u64, status: u16) {
        let mut state = self.state();
        let index = n
            .checked_sub(state.log_start)
            .and_then(|index| usize::try_from(index).ok());
        if let Some(entry) = index.and_then(|index| state.log.get_mut(index)) {
            // After `clear_log` the number may belong to another request: leave that alone.
            if entry.log.n == n && entry.log.status.is_none() {
                entry.log.status = Some(status);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn snapshot(&self) -> RequestLog {
        RequestLog {
            bytes_in: self.traffic.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.traffic.bytes_out.load(Ordering::Relaxed),
            ..self.log.clone()
        }
    }
}

fn bump(count: &mut u64) -> u64 {
    *count += 1;
    *count
}

/// The app id that AWS's SDKs write into `user-agent` as `app/<id>`.
fn app_id(head: &Parts) -> Option<String> {
    let agent = head.headers.get(hyper::header::USER_AGENT)?.to_str().ok()?;
    agent
        .split(' ')
        .find_map(|word| word.strip_prefix("app/"))
        .map(str::to_owned)
}

/// A request that was entered into the log.
pub struct Seen {
    /// The log entry at this moment.
    pub log: RequestLog,
    /// What is to be done to it.
    pub fault: Option<Fault>,
    traffic: Arc<Traffic>,
}

#[cfg(test)]
pub(super) mod tests;
