//! The S3 of the embedded AWS: strict as the real one, for the real SDKs and the `aws` command.
//!
//! Owns what is between the wire and the S3 API: addressing, `aws-chunked` bodies, presigned URLs.
//! Credentials are taken as they come, of any key and of none; what a caller may do is no question
//! that this room answers. XML and routing are the `s3s` crate's.
//!
//! ```text
//! faults::serve -> LocalS3 (chunks, query) -> s3s -> service::Api -> store::Store -> sinks
//!                                                        blob, checksums, uploads, listing
//! ```
//!
//! | S3 rule relied on elsewhere | its test |
//! |---|---|
//! | `If-None-Match: *` has one winner | `err_of_sixteen_conditional_writers_one_wins` |
//! | `If-Match` compares with what is there now | `err_if_match_needs_the_present_etag` |
//! | a delete during a conditional write makes it 409 | `err_a_delete_in_between_is_a_conflict` |
//! | a copy's source is pinned by ETag or version | `err_copies_of_another_source` |
//! | parts: number, order, size, ETag | `err_parts_against_the_rules` |
//! | a multipart ETag ends in `-N` | `ok_multipart_of_sent_and_copied_parts` |
//! | bodies are checked against their checksums | `err_bodies_that_are_not_what_they_claim` |
//! | ranges, also from the end; 416 | `ok_ranges`, `err_ranges_outside` |
//! | delete markers: 404, by version 405 | `err_delete_markers` |
//! | 2 KB of metadata, 1,024 bytes of key | `err_names_and_metadata_too_long` |

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderMap,
    HeaderName, HeaderValue, RANGE,
};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode, Uri};
use s3s::host::{S3Host, VirtualHost};
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::TcpListener;

use super::faults::{self, BodyError, Faults, Service, Wire, WireBody};
use chunked::{ChunkedError, Decoder};
use intake::Trailers;
use service::Api;

pub mod blob;
pub mod checksums;
pub mod chunked;
pub mod encoding;
pub mod error;
pub mod intake;
pub mod listing;
pub mod object;
pub mod operation;
pub mod service;
pub mod store;
pub mod uploads;

pub use error::StoreError;
pub use object::{Attributes, ObjectCreated, Version};
pub use store::{Store, Versioning};

/// How an embedded S3 is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder for bodies of more than 1 MiB; the system's temporary folder where `None`.
    pub folder: Option<PathBuf>,
    /// The account that owns every bucket.
    pub account: String,
    /// The Region of every bucket.
    pub region: String,
}

impl Default for Options {
    fn default() -> Self {
        let (account, region) = ("123456789012".to_owned(), "us-east-1".to_owned());
        Self {
            folder: None,
            account,
            region,
        }
    }
}

/// An S3 that can be served on any number of listeners.
#[derive(Clone)]
pub struct LocalS3 {
    store: Arc<Store>,
    service: S3Service,
    region: Arc<str>,
}

impl LocalS3 {
    /// An S3 without buckets.
    pub fn new(options: Options) -> io::Result<Self> {
        let Options {
            folder,
            account,
            region,
        } = options;
        let store = Arc::new(Store::new(folder)?);
        let mut builder = S3ServiceBuilder::new(Api {
            store: Arc::clone(&store),
            account,
            region: region.clone(),
        });
        builder.set_host(Hosts);
        Ok(Self {
            store,
            service: builder.build(),
            region: region.into(),
        })
    }

    /// The region of its buckets.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// What it holds.
    pub fn store(&self) -> Arc<Store> {
        Arc::clone(&self.store)
    }

    /// Serves on `listener` until `shutdown`. `label` names the callers of this port in `faults`.
    pub async fn serve(
        self,
        listener: TcpListener,
        label: &str,
        faults: Arc<Faults>,
        shutdown: impl Future<Output = ()> + Send,
    ) {
        faults::serve(Arc::new(self), listener, label, faults, shutdown).await;
    }
}

impl LocalS3 {
    async fn answer(&self, request: Request<WireBody>) -> Response<WireBody> {
        let request = match admit(request) {
            Ok(request) => request,
            Err(refused) => return self.failure(refused.status, refused.code),
        };
        match self.service.call(request.map(s3s::Body::http_body)).await {
            Ok(answer) => {
                let mut answer = answer.map(BodyExt::boxed);
                name_request(answer.headers_mut());
                answer
            }
            Err(error) => {
                tracing::debug!(?error, "the S3 API failed");
                self.failure(500, "InternalError")
            }
        }
    }
}

/// Tells virtual-hosted style from path style by the host's name.
struct Hosts;

impl S3Host for Hosts {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> s3s::S3Result<VirtualHost<'a>> {
        let virtual_host = VirtualHost::new(host);
        Ok(match operation::virtual_bucket(host) {
            Some(bucket) => virtual_host.with_bucket(bucket),
            None => virtual_host,
        })
    }
}

impl Wire for LocalS3 {
    fn service(&self) -> Service {
        Service::S3
    }

    fn operation(&self, head: &Parts) -> String {
        operation::operation(head).to_owned()
    }

    async fn call(&self, request: Request<WireBody>) -> Response<WireBody> {
        let waits = request.headers().contains_key(EXPECT);
        let mut answer = self.answer(request).await;
        // As S3 does: a client that waits for leave to send its body cannot be told from one that
        // sends it, once it was refused. botocore stumbles over such a connection.
        if waits && answer.status().as_u16() >= 400 {
            answer
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    fn failure(&self, status: u16, code: &str) -> Response<WireBody> {
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{code}</Message></Error>"
        );
        let mut answer = Response::new(Full::new(Bytes::from(text)).map_err(never).boxed());
        *answer.status_mut() =
            StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        answer
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        name_request(answer.headers_mut());
        answer
    }
}

fn never(error: std::convert::Infallible) -> BodyError {
    match error {}
}

/// Gives the answer the id that SDKs show with errors.
fn name_request(headers: &mut HeaderMap) {
    use std::sync::atomic::{AtomicU64, Ordering};
    static REQUESTS: AtomicU64 = AtomicU64::new(1);
    let id = format!("{:016X}", REQUESTS.fetch_add(1, Ordering::Relaxed));
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(HeaderName::from_static("x-amz-request-id"), id);
    }
}

/// A request that is refused before the S3 API sees it.
#[derive(Debug, PartialEq, Eq)]
struct Refused {
    status: u16,
    code: &'static str,
}

/// Turns a request as clients send it into a plain one: no signature, no chunks.
fn admit(request: Request<WireBody>) -> Result<Request<WireBody>, Refused> {
    let (mut head, mut body) = request.into_parts();
    head.headers.remove(AUTHORIZATION);
    head.uri = unsigned(&head.uri)?;
    // S3 takes a range that it cannot read for none, and answers with the whole object.
    let range = head
        .headers
        .get(RANGE)
        .and_then(|range| range.to_str().ok());
    if range.is_none_or(|range| s3s::dto::Range::parse(range).is_err()) {
        head.headers.remove(RANGE);
    }
    if is_chunked(&head.headers) {
        let length = head
            .headers
            .remove("x-amz-decoded-content-length")
            .ok_or(Refused {
                status: 411,
                code: "MissingContentLength",
            })?;
        head.headers.insert(CONTENT_LENGTH, length);
        let trailers = Trailers::default();
        body = unchunked(body, trailers.clone());
        head.extensions.insert(trailers);
    }
    Ok(Request::from_parts(head, body))
}

fn is_chunked(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    text(HeaderName::from_static("x-amz-content-sha256"))
        .is_some_and(|payload| payload.starts_with("STREAMING-"))
        || text(CONTENT_ENCODING).is_some_and(|coding| {
            coding
                .split(',')
                .any(|coding| coding.trim() == "aws-chunked")
        })
}

/// Takes the signature out of a presigned URL, which has to be in time.
fn unsigned(uri: &Uri) -> Result<Uri, Refused> {
    let query = uri.query().unwrap_or_default();
    let value = |name: &str| {
        query
            .split('&')
            .find_map(|pair| pair.split_once('=').filter(|(found, _)| *found == name))
    };
    if value("X-Amz-Signature").is_none() && value("Signature").is_none() {
        return Ok(uri.clone());
    }
    let refused = Refused {
        status: 403,
        code: "AccessDenied",
    };
    if let (Some((_, date)), Some((_, seconds))) = (value("X-Amz-Date"), value("X-Amz-Expires")) {
        let date = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date).ok();
        let date = date.and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC).ok());
        let left = date
            .zip(seconds.parse::<i64>().ok())
            .and_then(|(date, seconds)| {
                let end = date.timestamp().as_second().checked_add(seconds)?;
                Some(end - jiff::Timestamp::now().as_second())
            });
        if left.is_none_or(|left| left < 0) {
            return Err(refused);
        }
    }
    let signing = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        let v4 = name.strip_prefix("X-Amz-").is_some_and(|rest| {
            [
                "Algorithm",
                "Credential",
                "Date",
                "Expires",
                "SignedHeaders",
                "Signature",
                "Security-Token",
            ]
            .contains(&rest)
        });
        !v4 && !["Signature", "AWSAccessKeyId", "Expires"].contains(&name)
    };
    let kept = query
        .split('&')
        .filter(signing)
        .collect::<Vec<_>>()
        .join("&");
    let path = uri.path();
    let text = if kept.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{kept}")
    };
    text.parse().map_err(|_| Refused {
        status: 400,
        code: "InvalidURI",
    })
}

/// The data of an `aws-chunked` body; its trailers go to `trailers` at the end.
fn unchunked(body: WireBody, trailers: Trailers) -> WireBody {
    let decoded = async_stream::try_stream! {
        let mut decoder = Decoder::default();
        let mut frames = BodyStream::new(body);
        while let Some(frame) = frames.next().await {
            let frame: Frame<Bytes> = frame?;
            let Ok(piece) = frame.into_data() else { continue };
            let mut data = Vec::new();
            decoder.feed(piece, &mut data).map_err(boxed)?;
            for piece in data {
                yield Frame::data(piece);
            }
        }
        trailers.fill(decoder.finish().map_err(boxed)?);
    };
    BodyExt::boxed(StreamBody::new(decoded))
}

fn boxed(error: ChunkedError) -> BodyError {
    Box::new(error)
}

#[cfg(test)]
mod tests;
