//! EventBridge: makes events out of what S3, CodeDeploy and the clock do, and routes them.
//!
//! ```text
//! S3 Object Created under a staging prefix          -> Target::Deploy
//! CodeDeploy Deployment State-change Notification   -> Target::Record
//! Scheduled Event                                   -> Target::Record
//! ```
//!
//! Owns the events' shapes (user guides of EventBridge and S3, "event message structure") and the
//! ways in which delivery may go wrong: twice, late, out of order, never, or by hand.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::codedeploy::DeploymentStateChange;
use super::s3::ObjectCreated;
use super::{identity, locked};

/// Events that the router remembers; older ones are forgotten first.
const LOG_EVENTS_MAX: usize = 100_000;

/// Who is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// The function for staged objects.
    Deploy,
    /// The function for outcomes.
    Record,
}

/// One event with its target.
#[derive(Debug, Clone, PartialEq)]
pub struct RoutedEvent {
    /// Who is told.
    pub target: Target,
    /// The event as EventBridge hands it to a function.
    pub body: Value,
}

impl RoutedEvent {
    /// A member of `detail`, as text: `deploymentId`, `state`, …
    pub fn detail(&self, name: &str) -> Option<&str> {
        self.body.get("detail")?.get(name)?.as_str()
    }

    /// The key of the object, where it tells of one.
    pub fn object_key(&self) -> Option<&str> {
        self.body.pointer("/detail/object/key")?.as_str()
    }
}

/// How events are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// How often each is delivered.
    pub copies: usize,
    /// How late each copy is at least.
    pub delay: Duration,
    /// How much later it may be besides; longer than the time between events, it shuffles them.
    pub jitter: Duration,
    /// What the jitter is drawn from; the same seed draws the same numbers.
    pub seed: u64,
    /// Events are collected for [`Router::take`] instead.
    pub manual: bool,
}

impl Default for Delivery {
    /// Once, at once, in order.
    fn default() -> Self {
        Self {
            copies: 1,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            seed: 0,
            manual: false,
        }
    }
}

/// Takes delivered events; must not block.
pub type EventSink = Arc<dyn Fn(RoutedEvent) + Send + Sync>;
/// Tells which events get lost.
pub type Loses = Arc<dyn Fn(&RoutedEvent) -> bool + Send + Sync>;

#[derive(Default)]
struct State {
    delivery: Delivery,
    /// Bucket and key prefix of each staging area.
    staging: Vec<(String, String)>,
    sink: Option<EventSink>,
    observers: Vec<EventSink>,
    loses: Option<Loses>,
    collected: Vec<RoutedEvent>,
    lost: Vec<RoutedEvent>,
    log: Vec<RoutedEvent>,
    random: u64,
}

struct Inner {
    region: String,
    state: Mutex<State>,
    /// Copies on their way.
    pending: watch::Sender<usize>,
}

/// The default event bus and its rules. Cloning gives another handle on the same one.
#[derive(Clone)]
pub struct Router {
    inner: Arc<Inner>,
}

impl Router {
    /// A bus without rules for S3, and without anybody who takes events.
    pub fn new(region: impl Into<String>, delivery: Delivery) -> Self {
        let state = State {
            delivery,
            random: delivery.seed,
            ..State::default()
        };
        let inner = Inner {
            region: region.into(),
            state: Mutex::new(state),
            pending: watch::Sender::new(0),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Switches EventBridge on for a bucket, with a rule for keys under `prefix`.
    pub fn watch_staging(&self, bucket: impl Into<String>, prefix: impl Into<String>) {
        locked(&self.inner.state)
            .staging
            .push((bucket.into(), prefix.into()));
    }

    /// Sets who takes the events.
    pub fn deliver_to(&self, sink: EventSink) {
        locked(&self.inner.state).sink = Some(sink);
    }

    /// Tells `observer` of each event once, when it comes to be, whatever its delivery.
    pub fn observe(&self, observer: EventSink) {
        locked(&self.inner.state).observers.push(observer);
    }

    /// Changes how events are delivered from now on.
    pub fn set_delivery(&self, delivery: Delivery) {
        let mut state = locked(&self.inner.state);
        state.random = delivery.seed;
        state.delivery = delivery;
    }

    /// Loses the events for which `loses` is true, from now on; `None` loses none.
    pub fn lose(&self, loses: Option<Loses>) {
        locked(&self.inner.state).loses = loses;
    }

    /// The events that got lost.
    pub fn lost(&self) -> Vec<RoutedEvent> {
        locked(&self.inner.state).lost.clone()
    }

    /// All events that came to be, in order, lost ones too.
    pub fn log(&self) -> Vec<RoutedEvent> {
        locked(&self.inner.state).log.clone()
    }

    /// Takes the events that were collected under manual delivery.
    pub fn take(&self) -> Vec<RoutedEvent> {
        std::mem::take(&mut locked(&self.inner.state).collected)
    }

    /// Delivers an event now, whatever the delivery; a copy of an earlier one, say.
    pub fn deliver(&self, event: RoutedEvent) {
        let sink = locked(&self.inner.state).sink.clone();
        if let Some(sink) = sink {
            sink(event);
        }
    }

    /// Waits until nothing is on its way.
    pub async fn idle(&self) {
        let _ = self
            .inner
            .pending
            .subscribe()
            .wait_for(|count| *count == 0)
            .await;
    }

    /// Whether nothing is on its way.
    pub fn is_idle(&self) -> bool {
        *self.inner.pending.borrow() == 0
    }

    /// An object came to be in S3.
    pub fn object_created(&self, object: &ObjectCreated) {
        let watched = locked(&self.inner.state)
            .staging
            .iter()
            .any(|(bucket, prefix)| {
                *bucket == object.bucket && object.key.starts_with(prefix.as_str())
            });
        if watched {
            self.route(RoutedEvent {
                target: Target::Deploy,
                body: object_created(&self.inner.region, object),
            });
        }
    }

    /// A deployment changed its state; in another region it is told on that region's bus, which has no rules.
    pub fn deployment_changed(&self, change: &DeploymentStateChange) {
        if change.region != self.inner.region {
            return;
        }
        self.route(RoutedEvent {
            target: Target::Record,
            body: deployment_changed(change),
        });
    }

    /// The schedule's time has come.
    pub fn tick(&self) {
        self.route(RoutedEvent {
            target: Target::Record,
            body: scheduled(&self.inner.region),
        });
    }

    /// Ticks at each interval until the returned task is aborted.
    pub fn schedule(&self, interval: Duration) -> tokio::task::JoinHandle<()> {
        let router = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                router.tick();
            }
        })
    }

    fn route(&self, event: RoutedEvent) {
        let (observers, delays) = {
            let mut state = locked(&self.inner.state);
            if state.log.len() >= LOG_EVENTS_MAX {
                state.log.remove(0);
            }
            state.log.push(event.clone());
            let observers = state.observers.clone();
            let mut delays = Vec::new();
            if state.loses.as_ref().is_some_and(|loses| loses(&event)) {
                state.lost.push(event.clone());
            } else if state.delivery.manual {
                state.collected.push(event.clone());
            } else {
                let delivery = state.delivery;
                for _ in 0..delivery.copies {
                    delays.push(delivery.delay + delivery.jitter.mul_f64(draw(&mut state.random)));
                }
            }
            (observers, delays)
        };
        for observer in observers {
            observer(event.clone());
        }
        for delay in delays {
            if delay.is_zero() {
                self.deliver(event.clone());
                continue;
            }
            self.inner.pending.send_modify(|count| *count += 1);
            let (router, event) = (self.clone(), event.clone());
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                router.deliver(event);
                router
                    .inner
                    .pending
                    .send_modify(|count| *count = count.saturating_sub(1));
            });
        }
    }
}

/// The next number of the sequence (SplitMix64), from 0 to 1.
fn draw(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

fn envelope(
    region: &str,
    source: &str,
    detail_type: &str,
    time: Timestamp,
    resources: Vec<String>,
    detail: Value,
) -> Value {
    json!({
        "version": "0",
        "id": identity::request_id(),
        "detail-type": detail_type,
        "source": source,
        "account": identity::ACCOUNT,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "region": region,
        "resources": resources,
        "detail": detail,
    })
}

/// `Object Created`: the key is raw, the version only there where the bucket has versioning.
fn object_created(region: &str, object: &ObjectCreated) -> Value {
    let mut described = json!({
        "key": object.key,
        "size": object.size,
        "etag": object.etag,
        "sequencer": object.sequencer,
    });
    if let (Some(version), Some(members)) = (&object.version_id, described.as_object_mut()) {
        members.insert("version-id".to_owned(), json!(version));
    }
    let detail = json!({
        "version": "0",
        "bucket": { "name": object.bucket },
        "object": described,
        "request-id": identity::request_id(),
        "requester": identity::ACCOUNT,
        "source-ip-address": "127.0.0.1",
        "reason": object.reason,
    });
    let bucket = format!("arn:aws:s3:::{}", object.bucket);
    envelope(
        region,
        "aws.s3",
        "Object Created",
        object.time,
        vec![bucket],
        detail,
    )
}

fn deployment_changed(change: &DeploymentStateChange) -> Value {
    let time = Timestamp::from_millisecond(change.time_milliseconds).unwrap_or_default();
    let detail = json!({
        "instanceGroupId": change.deployment_group_id,
        "region": change.region,
        "application": change.application,
        "deploymentId": change.deployment_id,
        "state": change.state,
        "deploymentGroup": change.deployment_group,
    });
    let resources = vec![
        identity::application_arn(&change.region, &change.application),
        identity::deployment_group_arn(
            &change.region,
            &change.application,
            &change.deployment_group,
        ),
    ];
    let detail_type = "CodeDeploy Deployment State-change Notification";
    envelope(
        &change.region,
        "aws.codedeploy",
        detail_type,
        time,
        resources,
        detail,
    )
}

fn scheduled(region: &str) -> Value {
    let rule = format!(
        "arn:aws:events:{region}:{}:rule/stagedrop-record-schedule",
        identity::ACCOUNT
    );
    envelope(
        region,
        "aws.events",
        "Scheduled Event",
        Timestamp::now(),
        vec![rule],
        json!({}),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::codedeploy::ChangedTo;

    fn object(bucket: &str, key: &str, version: Option<&str>) -> ObjectCreated {
        ObjectCreated {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            size: 7,
            etag: "abc-2".to_owned(),
            version_id: version.map(str::to_owned),
            sequencer: "0061".to_owned(),
            reason: "CompleteMultipartUpload",
            time: Timestamp::UNIX_EPOCH,
        }
    }

    fn router(delivery: Delivery) -> (Router, Arc<Mutex<Vec<RoutedEvent>>>) {
        let router = Router::new("eu-central-1", delivery);
        let taken = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&taken);
        router.deliver_to(Arc::new(move |event| sink.lock().unwrap().push(event)));
        router.watch_staging("artifacts", "staging/");
        (router, taken)
    }

    #[test]
    fn ok_only_staged_objects_are_told() {
        let (router, taken) = router(Delivery::default());
        router.object_created(&object("artifacts", "staging/a b+c.zip", Some("v1")));
        router.object_created(&object("artifacts", "records/a.json", None));
        router.object_created(&object("other", "staging/a.zip", None));
        let taken = taken.lock().unwrap();
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].object_key(), Some("staging/a b+c.zip"));
        assert_eq!(taken[0].body["detail"]["object"]["version-id"], "v1");
        assert_eq!(taken[0].body["detail-type"], "Object Created");
        assert_eq!(taken[0].body["time"], "1970-01-01T00:00:00Z");
        assert_eq!(taken[0].body["resources"][0], "arn:aws:s3:::artifacts");
    }

    #[test]
    fn ok_state_changes_have_codedeploys_shape() {
        let (router, taken) = router(Delivery {
            copies: 2,
            ..Delivery::default()
        });
        let change = DeploymentStateChange {
            application: "app".to_owned(),
            deployment_group: "group".to_owned(),
            deployment_id: "d-1".to_owned(),
            state: ChangedTo::Failure,
            deployment_group_id: "8af2".to_owned(),
            region: "eu-central-1".to_owned(),
            time_milliseconds: 1_500,
        };
        router.deployment_changed(&change);
        // Another region's bus has no rule for us.
        router.deployment_changed(&DeploymentStateChange {
            region: "us-east-1".to_owned(),
            ..change
        });
        router.tick();
        let taken = taken.lock().unwrap();
        assert_eq!(taken.len(), 4);
        assert_eq!(taken[0], taken[1]);
        assert_eq!(taken[0].detail("state"), Some("FAILURE"));
        assert_eq!(
            taken[0].body["resources"][1],
            "arn:aws:codedeploy:eu-central-1:123456789012:deploymentgroup:app/group"
        );
        assert_eq!(taken[2].body["detail-type"], "Scheduled Event");
        assert_eq!(taken[2].body["source"], "aws.events");
    }

    #[test]
    fn ok_events_are_lost_or_kept_for_the_hand() {
        let (router, taken) = router(Delivery {
            manual: true,
            ..Delivery::default()
        });
        router.lose(Some(Arc::new(|event| event.target == Target::Record)));
        router.tick();
        router.object_created(&object("artifacts", "staging/1.zip", None));
        assert!(taken.lock().unwrap().is_empty());
        assert_eq!((router.lost().len(), router.log().len()), (1, 2));
        let mut collected = router.take();
        assert_eq!((collected.len(), router.take().len()), (1, 0));
        router.deliver(collected.remove(0));
        assert_eq!(taken.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn ok_jitter_shuffles_and_loses_nothing() {
        let jitter = Duration::from_millis(200);
        let (router, taken) = router(Delivery {
            jitter,
            seed: 7,
            ..Delivery::default()
        });
        for number in 0..20 {
            router.object_created(&object("artifacts", &format!("staging/{number:02}"), None));
        }
        assert!(!router.is_idle());
        router.idle().await;
        let keys: Vec<String> = taken
            .lock()
            .unwrap()
            .iter()
            .map(|event| event.object_key().unwrap().to_owned())
            .collect();
        let mut sorted = keys.clone();
        sorted.sort();
        assert_eq!(
            sorted,
            (0..20)
                .map(|number| format!("staging/{number:02}"))
                .collect::<Vec<_>>()
        );
        assert_ne!(sorted, keys);
    }
}
