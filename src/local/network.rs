//! A model of the network between a function and S3, so that a plan's time can be seen on one machine.
//!
//! Owns the rules and the scheduling: every request is answered after a delay; the bytes of one connection pass
//! at one rate and those of all connections together at another, each way for itself; what S3 copies on its
//! own side takes its time outside both. [`Pipe`] is the scheduler, which knows no clock; [`Network`] holds
//! bodies up by it.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::faults::{BodyError, WireBody};
use super::locked;

/// How much later than asked a timer wakes up at most, as a rule: that is not the network's.
const TIMER_LATENESS: Duration = Duration::from_millis(2);

/// What the modelled network gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model {
    /// From a request to the first byte of its answer.
    pub request_delay: Duration,
    /// Bytes in a second of one connection, each way.
    pub connection_rate: u64,
    /// Bytes in a second of all connections together, each way.
    pub rate: u64,
    /// Bytes in a second of one server-side copy.
    pub copy_rate: u64,
}

impl Default for Model {
    /// A function of one virtual CPU and S3 in its own Region.
    fn default() -> Self {
        Self {
            request_delay: Duration::from_millis(30),
            connection_rate: 80_000_000,
            rate: 75_000_000,
            copy_rate: 100_000_000,
        }
    }
}

impl Model {
    /// How long S3 copies so many bytes.
    pub fn copy_time(&self, bytes: u64) -> Duration {
        time_of(bytes, self.copy_rate)
    }
}

/// A way for bytes that passes so many in a second, first come, first served.
#[derive(Debug)]
pub struct Pipe {
    rate: u64,
    /// When what was taken so far has passed.
    free_at: Duration,
}

impl Pipe {
    /// A pipe of this many bytes in a second, at least one.
    pub fn new(rate: u64) -> Self {
        Self {
            rate: rate.max(1),
            free_at: Duration::ZERO,
        }
    }

    /// When `bytes` that come at `now` have passed.
    pub fn pass(&mut self, now: Duration, bytes: u64) -> Duration {
        self.free_at = self.free_at.max(now) + time_of(bytes, self.rate);
        self.free_at
    }
}

/// The way of one connection's bytes, which they share with those of all others.
#[derive(Debug)]
pub struct Way {
    own: Pipe,
    all: Arc<Mutex<Pipe>>,
}

impl Way {
    /// When `bytes` that come at `now` have passed.
    pub fn pass(&mut self, now: Duration, bytes: u64) -> Duration {
        let own = self.own.pass(now, bytes);
        locked(&self.all).pass(now, bytes).max(own)
    }
}

/// The time that bytes take at a rate.
fn time_of(bytes: u64, rate: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The network of all callers.
#[derive(Debug)]
pub struct Network {
    model: Model,
    since: Instant,
    inbound: Arc<Mutex<Pipe>>,
    outbound: Arc<Mutex<Pipe>>,
}

impl Network {
    /// An idle one.
    pub fn new(model: Model) -> Self {
        let pipe = || Arc::new(Mutex::new(Pipe::new(model.rate)));
        Self {
            model,
            since: Instant::now(),
            inbound: pipe(),
            outbound: pipe(),
        }
    }

    /// Waits as long as a request is on its way.
    pub async fn travel(&self) {
        tokio::time::sleep(self.model.request_delay).await;
    }

    /// Waits until a server-side copy of `bytes` that began at `begun` is done.
    pub async fn copied(&self, begun: Instant, bytes: u64) {
        tokio::time::sleep_until(begun + self.model.copy_time(bytes)).await;
    }

    /// A request's body, whose bytes come as the network lets them.
    pub fn inbound(&self, body: WireBody) -> HeldUp {
        self.hold_up(body, &self.inbound)
    }

    /// An answer's body, likewise.
    pub fn outbound(&self, body: WireBody) -> HeldUp {
        self.hold_up(body, &self.outbound)
    }

    fn hold_up(&self, inner: WireBody, all: &Arc<Mutex<Pipe>>) -> HeldUp {
        HeldUp {
            inner,
            since: self.since,
            way: self.way(all),
            frame: None,
            due: Duration::ZERO,
            has_waited: true,
        }
    }

    fn way(&self, all: &Arc<Mutex<Pipe>>) -> Way {
        Way {
            own: Pipe::new(self.model.connection_rate),
            all: Arc::clone(all),
        }
    }
}

/// A body whose frames come once their bytes would have passed.
pub struct HeldUp {
    inner: WireBody,
    since: Instant,
    way: Way,
    /// The frame that is on its way.
    frame: Option<(Frame<Bytes>, Pin<Box<Sleep>>)>,
    /// When the last one had passed.
    due: Duration,
    /// Whether the next one was not there yet when it was asked for.
    has_waited: bool,
}

impl Body for HeldUp {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if let Some((frame, mut sleep)) = self.frame.take() {
                if sleep.as_mut().poll(context).is_pending() {
                    self.frame = Some((frame, sleep));
                    return Poll::Pending;
                }
                return Poll::Ready(Some(Ok(frame)));
            }
            let frame = match Pin::new(&mut self.inner).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Pending => {
                    self.has_waited = true;
                    return Poll::Pending;
                }
                other => return other,
            };
            let Some(bytes) = frame.data_ref().map(|data| data.len() as u64) else {
                return Poll::Ready(Some(Ok(frame)));
            };
            let now = self.since.elapsed();
            let now = if self.has_waited {
                now
            } else {
                self.due.max(now.saturating_sub(TIMER_LATENESS))
            };
            self.has_waited = false;
            self.due = self.way.pass(now, bytes);
            let until = self.since + self.due;
            self.frame = Some((frame, Box::pin(tokio::time::sleep_until(until))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frame.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let bytes = |(frame, _): &(Frame<Bytes>, _)| frame.data_ref().map_or(0, Bytes::len) as u64;
        let held = self.frame.as_ref().map_or(0, bytes);
        let inner = self.inner.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(held));
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(held));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const FRAME_BYTES: u64 = 100_000;

    #[test]
    fn ok_a_pipe_passes_what_its_rate_says() {
        let mut pipe = Pipe::new(1_000);
        assert_eq!(pipe.pass(Duration::ZERO, 500), SECOND / 2);
        // Behind what came before, however late it came itself.
        assert_eq!(pipe.pass(SECOND / 4, 500), SECOND);
        // Nothing is saved up while nothing passes.
        assert_eq!(pipe.pass(3 * SECOND, 1_000), 4 * SECOND);
        assert_eq!(pipe.pass(3 * SECOND, 0), 4 * SECOND);
    }

    /// When each way has passed so many bytes, in virtual time: a frame comes once the one before has passed.
    fn times(ways: &mut [Way], bytes: u64) -> Vec<Duration> {
        let mut now = vec![Duration::ZERO; ways.len()];
        for _ in 0..bytes / FRAME_BYTES {
            for (way, now) in ways.iter_mut().zip(&mut now) {
                *now = way.pass(*now, FRAME_BYTES);
            }
        }
        now
    }

    fn is_about(found: &Duration, milliseconds: u64) -> bool {
        found.abs_diff(Duration::from_millis(milliseconds)) <= Duration::from_millis(10)
    }

    #[tokio::test]
    async fn ok_one_connection_has_its_rate_and_all_have_theirs() {
        let network = Network::new(Model {
            connection_rate: 40_000_000,
            ..Model::default()
        });
        let one = times(&mut [network.way(&network.outbound)], 40_000_000);
        assert!(is_about(&one[0], 1_000), "{one:?}");
        let network = Network::new(Model::default());
        let mut four = [(); 4].map(|()| network.way(&network.outbound));
        let four = times(&mut four, 37_500_000);
        assert!(four.iter().all(|time| is_about(time, 2_000)), "{four:?}");
        // The other way is free meanwhile.
        let back = times(&mut [network.way(&network.inbound)], 80_000_000);
        assert!(is_about(&back[0], 1_067), "{back:?}");
    }

    #[test]
    fn ok_a_copy_takes_its_time_whatever_else_passes() {
        assert_eq!(Model::default().copy_time(50_000_000), SECOND / 2);
    }

    #[tokio::test]
    async fn ok_bodies_arrive_whole_and_not_before_their_time() {
        let pieces = [1, 200_000, 50_000]
            .map(|length| Ok::<_, BodyError>(Frame::data(Bytes::from(vec![7; length]))));
        let body = StreamBody::new(futures_util::stream::iter(pieces));
        let network = Network::new(Model {
            rate: 25_000_000,
            ..Model::default()
        });
        let body = network.inbound(BodyExt::boxed(body));
        let begun = Instant::now();
        let bytes = body.collect().await.unwrap().to_bytes();
        assert_eq!((bytes.len(), bytes[250_000]), (250_001, 7));
        assert!(begun.elapsed() >= Duration::from_millis(10));
    }

    #[tokio::test]
    async fn ok_many_small_pieces_are_no_slower_than_their_bytes() {
        let mut times = Vec::new();
        for _ in 0..20 {
            let pieces = (0..100).map(|_| {
                let bytes = Bytes::from(vec![7; 10_000]);
                Ok::<_, BodyError>(Frame::data(bytes))
            });
            let body = StreamBody::new(futures_util::stream::iter(pieces));
            let network = Network::new(Model {
                rate: 25_000_000,
                ..Model::default()
            });
            let begun = Instant::now();
            let body = network.outbound(BodyExt::boxed(body));
            body.collect().await.unwrap();
            times.push(begun.elapsed());
        }
        // A machine may be busy for a moment, not each time.
        let best = times.iter().min().unwrap().as_millis();
        assert!((40..70).contains(&best), "{times:?}");
    }
}
