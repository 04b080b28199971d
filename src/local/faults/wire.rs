//! From a listener to a service: connections, the plan's faults done to them, traffic counted.
//!
//! An operation that has begun is carried out to its end even where its client dies meanwhile, as
//! on AWS: closing the connection takes nothing back.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{Fault, Faults, Moment, Service, Then, Traffic};

/// Connections served at once by one listener; further ones wait to be accepted.
pub const CONNECTIONS_MAX: usize = 900;

/// What a body may fail with.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A request's or an answer's body.
pub type WireBody = BoxBody<Bytes, BodyError>;

/// A service that can be put behind the wire.
pub trait Wire: Send + Sync + 'static {
    /// Which service a request goes to, from its head alone.
    fn service(&self, head: &Parts) -> Service;

    /// The operation's name in AWS's words (`PutObject`, `CreateDeployment`), from the head alone.
    fn operation(&self, head: &Parts) -> String;

    /// Carries a request out.
    fn call(&self, request: Request<WireBody>) -> impl Future<Output = Response<WireBody>> + Send;

    /// An error answer in a service's protocol: HTTP status, AWS's error code.
    fn failure(&self, service: Service, status: u16, code: &str) -> Response<WireBody>;
}

/// Why a connection is closed without an answer; hyper closes it when the service fails.
#[derive(Debug, thiserror::Error)]
#[error("the plan closes the connection of request {0}")]
struct Closed(u64);

/// Serves `wire` on `listener` until `shutdown`, then closes what is still open.
///
/// `label` tells in the log and to the plan who calls: give each process a port of its own. The
/// embedded AWS talks HTTP/1.1 only, as the SDKs do to S3.
pub async fn serve<W: Wire>(
    wire: Arc<W>,
    listener: TcpListener,
    label: &str,
    faults: Arc<Faults>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let label: Arc<str> = label.into();
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    let wire = Arc::clone(&wire);
                    connections.spawn(connection(wire, stream, Arc::clone(&label), Arc::clone(&faults)));
                }
                // Out of file descriptors, or a client that is gone already: neither ends the server.
                Err(error) => {
                    tracing::debug!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }
}

async fn connection<W: Wire>(
    wire: Arc<W>,
    stream: TcpStream,
    label: Arc<str>,
    faults: Arc<Faults>,
) {
    // Small answers must not wait for the client's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        // A task of its own: see the room's first lines.
        let answer = tokio::spawn(exchange(
            Arc::clone(&wire),
            request,
            Arc::clone(&label),
            Arc::clone(&faults),
        ));
        async move { answer.await.unwrap_or(Err(Closed(0))) }
    });
    let served =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn exchange<W: Wire>(
    wire: Arc<W>,
    request: Request<Incoming>,
    label: Arc<str>,
    faults: Arc<Faults>,
) -> Result<Response<WireBody>, Closed> {
    let (head, body) = request.into_parts();
    let service = wire.service(&head);
    let seen = faults.observe(service, wire.operation(&head), &label, &head);
    let n = seen.log.n;
    let body = Counted {
        inner: body.map_err(|error| Box::new(error) as BodyError).boxed(),
        traffic: Arc::clone(&seen.traffic),
        inbound: true,
    };
    let log = seen.log;
    let request = Request::from_parts(head, body.boxed());
    let answer = match seen.fault {
        None => wire.call(request).await,
        Some(Fault::Reset) => return Err(Closed(n)),
        Some(Fault::FailBefore { status, code }) => {
            // Read to its end: a client that is still sending might never see the answer.
            let mut body = request.into_body();
            while let Some(Ok(_)) = body.frame().await {}
            wire.failure(service, status, &code)
        }
        Some(Fault::Delay(time)) => {
            tokio::time::sleep(time).await;
            wire.call(request).await
        }
        Some(Fault::Call(Moment::Before, callback)) => match callback(log).await {
            Then::Drop => return Err(Closed(n)),
            Then::Proceed => wire.call(request).await,
        },
        Some(Fault::LoseAnswer) => {
            drop(wire.call(request).await);
            return Err(Closed(n));
        }
        Some(Fault::DelayAnswer(time)) => {
            let answer = wire.call(request).await;
            tokio::time::sleep(time).await;
            answer
        }
        Some(Fault::Call(Moment::After, callback)) => {
            let answer = wire.call(request).await;
            match callback(log).await {
                Then::Drop => return Err(Closed(n)),
                Then::Proceed => answer,
            }
        }
    };
    faults.answered(n, answer.status().as_u16());
    let traffic = seen.traffic;
    Ok(answer.map(|inner| {
        Counted {
            inner,
            traffic,
            inbound: false,
        }
        .boxed()
    }))
}

/// A body whose bytes are counted as they pass; a model of the network would hold them up here.
struct Counted {
    inner: WireBody,
    traffic: Arc<Traffic>,
    inbound: bool,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            let count = if self.inbound {
                &self.traffic.bytes_in
            } else {
                &self.traffic.bytes_out
            };
            count.fetch_add(
                u64::try_from(data.len()).unwrap_or(u64::MAX),
                Ordering::Relaxed,
            );
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
