//! A bucket has a region, and what is signed for another one is sent there instead of being carried out.
//!
//! All regions share one address here, so that the signature stands for the endpoint that a client chose. As
//! S3 does it: another region's endpoint does not have the bucket and answers with a redirection; that of
//! us-east-1 passes a request on to the bucket's region by its name, which then finds the signature wrong
//! (<https://github.com/aws/aws-sdk-java-v2/pull/4425>). Either answer names the region in a header, which is
//! all that HEAD gets. A copy's source may be in any region.

use hyper::header::CONTENT_TYPE;
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};

use super::super::signature;
use super::operation::{self, bucket};
use super::{HeaderName, HeaderValue, WireBody, name_request, text_body};

/// The region whose endpoint knows of every bucket.
pub const GLOBAL: &str = "us-east-1";

/// A request whose bucket is in another region than it is signed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    bucket: String,
    /// The bucket's region.
    region: String,
    /// The region that the request is signed for.
    signed_for: String,
}

impl Elsewhere {
    /// Compares where a request is meant for with where its bucket is, by `region_of`.
    pub fn find(head: &Parts, region_of: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let signed_for = signature::region(head)?;
        match operation::operation(head) {
            // Makes the bucket, or asks where it is.
            "CreateBucket" => return None,
            "GetBucketLocation" if signed_for == GLOBAL => return None,
            _ => {}
        }
        let bucket = bucket(head)?;
        let region = region_of(&bucket).filter(|region| *region != signed_for)?;
        Some(Self {
            bucket,
            region,
            signed_for,
        })
    }

    /// What S3 answers.
    pub fn answer(&self, head: &Parts) -> Response<WireBody> {
        let Self {
            bucket,
            region,
            signed_for,
        } = self;
        let is_presigned = !head.headers.contains_key(hyper::header::AUTHORIZATION);
        let wrong = format!("the region '{signed_for}' is wrong; expecting '{region}'");
        let (status, code, message, more) = if signed_for != GLOBAL {
            (
                StatusCode::MOVED_PERMANENTLY,
                "PermanentRedirect",
                "The bucket you are attempting to access must be addressed using the specified endpoint. Please send all future requests to this endpoint.".to_owned(),
                format!("<Endpoint>{bucket}.s3.{region}.amazonaws.com</Endpoint><Bucket>{bucket}</Bucket>"),
            )
        } else if is_presigned {
            (
                StatusCode::BAD_REQUEST,
                "AuthorizationQueryParametersError",
                format!("Error parsing the X-Amz-Credential parameter; {wrong}"),
                format!("<Region>{region}</Region>"),
            )
        } else {
            (
                StatusCode::BAD_REQUEST,
                "AuthorizationHeaderMalformed",
                format!("The authorization header is malformed; {wrong}"),
                format!("<Region>{region}</Region>"),
            )
        };
        let body = if head.method == Method::HEAD {
            String::new()
        } else {
            format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>"
            )
        };
        let mut answer = Response::new(text_body(body));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        if let Ok(region) = HeaderValue::from_str(region) {
            headers.insert(HeaderName::from_static("x-amz-bucket-region"), region);
        }
        name_request(headers);
        answer
    }
}
