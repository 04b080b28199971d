//! Lambda: runs real function binaries behind the Runtime API of 2018-06-01.
//!
//! Owns the queue of events, Lambda's retry rules for asynchronous invocations and the failure
//! list. A [`Function`] has up to `concurrency` workers; each is one process with a Runtime API
//! address of its own (`runtime_api/worker.rs`). Knows nothing of what the functions do.

mod worker;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::identity;
use super::locked;

/// Bytes of an event or a response (Lambda's quota for synchronous invocations).
pub const PAYLOAD_BYTES_MAX: usize = 6 << 20;
/// How long a process may take before its first `/next`, as on AWS.
pub const INIT_TIMEOUT: Duration = Duration::from_secs(10);

/// What is run, and how.
#[derive(Debug, Clone)]
pub struct FunctionSpec {
    /// The function's name, as it stands in its ARN.
    pub name: String,
    /// The binary (`bootstrap` on AWS).
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its environment besides the `AWS_LAMBDA_*` variables and `PATH`; nothing else is inherited.
    pub env: BTreeMap<String, String>,
    /// How long one event may take; the process is killed then.
    pub timeout: Duration,
    /// Processes at most, hence events handled at the same time.
    pub concurrency: usize,
    /// What Lambda waits before each retry of an asynchronous invocation (AWS: 1 and 2 minutes).
    pub retry_delays: Vec<Duration>,
    /// The region in the function's ARN.
    pub region: String,
    /// `AWS_LAMBDA_FUNCTION_MEMORY_SIZE`; it is told, not enforced.
    pub memory_megabytes: u32,
}

impl FunctionSpec {
    /// A function with one process, 30 seconds an event, two retries after 200 ms each.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            timeout: Duration::from_secs(30),
            concurrency: 1,
            retry_delays: vec![Duration::from_millis(200); 2],
            region: "us-east-1".to_owned(),
            memory_megabytes: 512,
        }
    }
}

/// How an invocation failed, in Lambda's own words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error_type}: {message}")]
pub struct FunctionError {
    /// `errorType`: the function's own word, or `Runtime.ExitError`, `Sandbox.Timedout`, …
    pub error_type: String,
    /// `errorMessage`.
    pub message: String,
}

impl FunctionError {
    fn new(error_type: &str, message: impl Into<String>) -> Self {
        Self {
            error_type: error_type.to_owned(),
            message: message.into(),
        }
    }
}

/// An event that failed as often as Lambda tries.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// The request id, the same for all attempts.
    pub request_id: String,
    /// The event.
    pub event: Value,
    /// How the last attempt failed.
    pub error: FunctionError,
    /// Attempts made.
    pub attempts: usize,
}

/// Which of a process's outputs a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What happens in a function, as it happens.
#[derive(Debug, Clone, PartialEq)]
pub enum FunctionEvent {
    /// A process was started.
    Started {
        /// The worker's number, from 0.
        worker: usize,
        /// The process's id.
        process_id: u32,
    },
    /// A process printed a line.
    Line {
        /// The worker's number, from 0.
        worker: usize,
        /// Where it was printed.
        stream: Stream,
        /// The line, without its end.
        text: String,
    },
    /// An attempt ended.
    Attempted {
        /// The request id, the same for all attempts.
        request_id: String,
        /// Which attempt, from 1.
        attempt: usize,
        /// What came of it.
        result: Result<Value, FunctionError>,
    },
    /// The last attempt failed; the event is in the failure list.
    GivenUp {
        /// The request id.
        request_id: String,
    },
}

/// Hears what happens in a function, by its name; called from its tasks, so it must not block.
pub type Observer = Arc<dyn Fn(&str, FunctionEvent) + Send + Sync>;

/// One event on its way to a process.
struct Invocation {
    request_id: String,
    event: Bytes,
    reply: oneshot::Sender<Result<Value, FunctionError>>,
}

impl Invocation {
    fn finish(self, result: Result<Value, FunctionError>) {
        // Nobody waits any more where the caller gave up: nothing to tell then.
        let _ = self.reply.send(result);
    }
}

/// What waits and who works.
#[derive(Default)]
struct Desk {
    queue: VecDeque<Invocation>,
    /// Workers that hold an invocation.
    busy: usize,
    /// For each worker started, where to send the order to kill its process.
    workers: Vec<mpsc::UnboundedSender<Kill>>,
}

/// The order to kill a worker's process; answered with whether there was one to kill.
struct Kill {
    only_busy: bool,
    done: oneshot::Sender<bool>,
}

struct Shared {
    spec: FunctionSpec,
    desk: Mutex<Desk>,
    /// One permit for each invocation in the queue.
    queued: Semaphore,
    dead_letters: Mutex<Vec<DeadLetter>>,
    observer: Observer,
    /// Asynchronous invocations that are not settled yet.
    unsettled: watch::Sender<usize>,
    closed: watch::Sender<bool>,
}

impl Shared {
    fn tell(&self, event: FunctionEvent) {
        (self.observer)(&self.spec.name, event);
    }

    fn submit(self: &Arc<Self>, invocation: Invocation) {
        if *self.closed.borrow() {
            return; // Dropping it tells the caller.
        }
        let mut desk = locked(&self.desk);
        desk.queue.push_back(invocation);
        self.queued.add_permits(1);
        let free = desk.workers.len() - desk.busy.min(desk.workers.len());
        if desk.queue.len() > free && desk.workers.len() < self.spec.concurrency.max(1) {
            self.add_worker(&mut desk);
        }
    }

    fn add_worker(self: &Arc<Self>, desk: &mut Desk) {
        let (kill, orders) = mpsc::unbounded_channel();
        let number = desk.workers.len();
        desk.workers.push(kill);
        tokio::spawn(worker::run(Arc::clone(self), number, orders));
    }

    /// Waits for an invocation; may be cancelled at any time without losing one.
    async fn take(&self) -> Option<Invocation> {
        let permit = self.queued.acquire().await.ok()?;
        permit.forget();
        let mut desk = locked(&self.desk);
        let invocation = desk.queue.pop_front();
        if invocation.is_some() {
            desk.busy += 1;
        }
        invocation
    }

    fn finished(&self) {
        let mut desk = locked(&self.desk);
        desk.busy = desk.busy.saturating_sub(1);
    }

    async fn attempt(
        self: &Arc<Self>,
        request_id: &str,
        event: &Value,
        attempt: usize,
    ) -> Result<Value, FunctionError> {
        let event = Bytes::from(event.to_string());
        let result = if event.len() > PAYLOAD_BYTES_MAX {
            let message = format!(
                "event has {} bytes, limit is {PAYLOAD_BYTES_MAX} bytes",
                event.len()
            );
            Err(FunctionError::new("RequestTooLarge", message))
        } else {
            let (reply, answer) = oneshot::channel();
            self.submit(Invocation {
                request_id: request_id.to_owned(),
                event,
                reply,
            });
            answer.await.unwrap_or_else(|_| {
                Err(FunctionError::new(
                    "Sandbox.Stopped",
                    "function was shut down",
                ))
            })
        };
        let request_id = request_id.to_owned();
        self.tell(FunctionEvent::Attempted {
            request_id,
            attempt,
            result: result.clone(),
        });
        result
    }

    async fn settle(self: Arc<Self>, request_id: String, event: Value) {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let Err(error) = self.attempt(&request_id, &event, attempts).await else {
                break;
            };
            if *self.closed.borrow() {
                break;
            }
            match self.spec.retry_delays.get(attempts - 1) {
                Some(delay) => tokio::time::sleep(*delay).await,
                None => {
                    let letter = DeadLetter {
                        request_id: request_id.clone(),
                        event,
                        error,
                        attempts,
                    };
                    locked(&self.dead_letters).push(letter);
                    self.tell(FunctionEvent::GivenUp { request_id });
                    break;
                }
            }
        }
        self.unsettled
            .send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// A function that takes events. Cloning gives another handle on the same function.
#[derive(Clone)]
pub struct Function {
    shared: Arc<Shared>,
}

impl Function {
    /// Makes a function; its processes start when events need them (a cold start, as on AWS).
    pub fn start(spec: FunctionSpec, observer: Option<Observer>) -> Self {
        let shared = Shared {
            spec,
            desk: Mutex::default(),
            queued: Semaphore::new(0),
            dead_letters: Mutex::default(),
            observer: observer.unwrap_or_else(|| Arc::new(|_, _| ())),
            unsettled: watch::Sender::new(0),
            closed: watch::Sender::new(false),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The function's name.
    pub fn name(&self) -> &str {
        &self.shared.spec.name
    }

    /// Starts processes before the first event, up to `workers` and the function's concurrency.
    pub fn warm(&self, workers: usize) {
        let mut desk = locked(&self.shared.desk);
        while desk.workers.len() < workers.min(self.shared.spec.concurrency.max(1)) {
            self.shared.add_worker(&mut desk);
        }
    }

    /// Invokes the function and waits for its answer (`RequestResponse`): nothing is retried.
    ///
    /// # Errors
    /// What the function reported, or Lambda's own error where its process died, hung or never started.
    pub async fn invoke(&self, event: Value) -> Result<Value, FunctionError> {
        self.shared
            .attempt(&identity::request_id(), &event, 1)
            .await
    }

    /// Queues an event (`Event`): it is retried as Lambda does, and goes to
    /// [`Self::dead_letters`] where the last attempt fails too. Returns the request id.
    pub fn enqueue(&self, event: Value) -> String {
        let request_id = identity::request_id();
        self.shared.unsettled.send_modify(|count| *count += 1);
        tokio::spawn(Arc::clone(&self.shared).settle(request_id.clone(), event));
        request_id
    }

    /// Queued events that are neither done nor given up.
    pub fn unsettled(&self) -> usize {
        *self.shared.unsettled.borrow()
    }

    /// Waits until no queued event is unsettled.
    pub async fn idle(&self) {
        // The sender lives as long as `self`, so this cannot end early.
        let _ = self
            .shared
            .unsettled
            .subscribe()
            .wait_for(|count| *count == 0)
            .await;
    }

    /// The events that failed at every attempt, oldest first.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        locked(&self.shared.dead_letters).clone()
    }

    /// Takes the failure list away, as a redrive does.
    pub fn take_dead_letters(&self) -> Vec<DeadLetter> {
        std::mem::take(&mut *locked(&self.shared.dead_letters))
    }

    /// Kills the processes that hold an event, and waits until they are dead; returns how many.
    ///
    /// Their events fail with `Runtime.ExitError`, as if the function had crashed.
    pub async fn kill_busy(&self) -> usize {
        self.kill(true).await
    }

    /// Kills all processes, also idle ones, and waits until they are dead; returns how many.
    pub async fn kill_all(&self) -> usize {
        self.kill(false).await
    }

    async fn kill(&self, only_busy: bool) -> usize {
        let answers: Vec<_> = locked(&self.shared.desk)
            .workers
            .iter()
            .filter_map(|worker| {
                let (done, answer) = oneshot::channel();
                worker.send(Kill { only_busy, done }).ok().map(|()| answer)
            })
            .collect();
        let mut killed = 0;
        for answer in answers {
            killed += usize::from(answer.await.unwrap_or(false));
        }
        killed
    }

    /// Takes no more events and has the processes killed, without waiting for that.
    pub fn close(&self) {
        self.shared.closed.send_replace(true);
    }

    /// Kills the processes and drops what is queued.
    pub async fn shutdown(&self) {
        self.close();
        let workers = std::mem::take(&mut locked(&self.shared.desk).workers);
        for worker in workers {
            worker.closed().await;
        }
        locked(&self.shared.desk).queue.clear();
    }
}
