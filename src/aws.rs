//! The SDK: the only rooms that may name `aws_sdk_*`.
//!
//! Owns the clients (one for each region asked for), their time limits and retries, and the reading of
//! the SDK's errors into [`ServiceError`]. Decides nothing about drops, revisions or deployments.

pub mod codedeploy;
mod environment;
pub mod s3;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_s3::config::{RequestChecksumCalculation, SharedHttpClient};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

use crate::deployment::Region;
use crate::service_error::{Kind, ServiceError};

/// Attempts that the transport makes of one request.
const ATTEMPTS_MAX: u32 = 3;
/// The longest pause between two attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Time for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time for one attempt of a request that carries little, its answer's body not counted.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(8);
/// Time for one attempt of a request that carries a part.
const PART_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for one attempt of a request that S3 may take minutes for: copies and completions.
const COPY_TIMEOUT: Duration = Duration::from_secs(300);

/// The process's AWS clients.
#[derive(Debug)]
pub struct Aws {
    config: SdkConfig,
    path_style: bool,
    /// Whether revisions and their parts carry a signature of their bytes.
    signs_bodies: bool,
    s3: Mutex<HashMap<Option<Region>, aws_sdk_s3::Client>>,
    codedeploy: Mutex<HashMap<Region, aws_sdk_codedeploy::Client>>,
}

impl Aws {
    /// Reads region, credentials and endpoints from environment variables, profiles and whatever else every SDK
    /// looks at.
    pub async fn from_environment() -> Self {
        let config = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http_client())
            .retry_config(retries())
            .timeout_config(timeouts(ATTEMPT_TIMEOUT))
            .load()
            .await;
        // Where it leads to may stand in a profile, and be another place than the variables say.
        Self::of(config, true)
    }

    /// Reads region, credentials and endpoints from environment variables alone, by which Lambda gives them to a
    /// function: without the other places the function is smaller and starts sooner.
    pub fn of_a_function() -> Self {
        let config = environment::config()
            .http_client(http_client())
            .retry_config(retries())
            .timeout_config(timeouts(ATTEMPT_TIMEOUT))
            .build();
        let signs_bodies = endpoint().is_some_and(|endpoint| !is_guarded(&endpoint));
        Self::of(config, signs_bodies)
    }

    fn of(config: SdkConfig, signs_bodies: bool) -> Self {
        Self {
            config,
            // An endpoint of one's own seldom has a name for each bucket.
            path_style: endpoint().is_some(),
            signs_bodies,
            s3: Mutex::default(),
            codedeploy: Mutex::default(),
        }
    }

    /// The function's own region, where one is configured.
    pub fn region(&self) -> Option<Region> {
        self.config.region()?.as_ref().parse().ok()
    }

    /// The S3 client of a region, or of the function's own.
    fn s3(&self, region: Option<&Region>) -> aws_sdk_s3::Client {
        let mut clients = self.s3.lock().unwrap_or_else(PoisonError::into_inner);
        clients
            .entry(region.cloned())
            .or_insert_with(|| {
                let mut builder = aws_sdk_s3::config::Builder::from(&self.config)
                    .force_path_style(self.path_style);
                if !self.signs_bodies {
                    let always = RequestChecksumCalculation::WhenSupported;
                    builder = builder.request_checksum_calculation(always);
                }
                if let Some(region) = region {
                    builder =
                        builder.region(aws_sdk_s3::config::Region::new(region.as_str().to_owned()));
                }
                aws_sdk_s3::Client::from_conf(builder.build())
            })
            .clone()
    }

    /// Reads an error of that client.
    fn s3_error<E>(
        &self,
        region: Option<&Region>,
        operation: &'static str,
        resource: String,
        error: SdkError<E>,
    ) -> ServiceError
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let own = self.region();
        s3_error(region.or(own.as_ref()), operation, resource, error)
    }

    /// The CodeDeploy client of a region.
    fn codedeploy(&self, region: &Region) -> aws_sdk_codedeploy::Client {
        let mut clients = self
            .codedeploy
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        clients
            .entry(region.clone())
            .or_insert_with(|| {
                let builder = aws_sdk_codedeploy::config::Builder::from(&self.config).region(
                    aws_sdk_codedeploy::config::Region::new(region.as_str().to_owned()),
                );
                aws_sdk_codedeploy::Client::from_conf(builder.build())
            })
            .clone()
    }
}

/// S3's endpoint in environment variables, where it is not AWS's own.
fn endpoint() -> Option<String> {
    environment::variable("AWS_ENDPOINT_URL_S3")
        .or_else(|| environment::variable("AWS_ENDPOINT_URL"))
}

/// Whether TLS guards what is sent there, or it stays on this machine. Most of the time of sending a body would be
/// that of the SHA-256 by which it is signed; its CRC-32 tells of damage.
fn is_guarded(endpoint: &str) -> bool {
    let Some(rest) = endpoint.strip_prefix("http://") else {
        return endpoint.starts_with("https://");
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let address = authority
        .parse::<SocketAddr>()
        .map(|address| address.ip())
        .or_else(|_| authority.trim_matches(['[', ']']).parse());
    address.is_ok_and(|address: IpAddr| address.is_loopback())
}

fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https()
}

fn retries() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(ATTEMPTS_MAX)
        .with_max_backoff(BACKOFF_MAX)
}

fn timeouts(attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(attempt)
        .build()
}

/// Gives one S3 request more time for each attempt.
fn patient(time: Duration) -> aws_sdk_s3::config::Builder {
    aws_sdk_s3::config::Builder::new().timeout_config(timeouts(time))
}

/// The header in which S3 tells a bucket's region, also with what it refuses.
const BUCKET_REGION: &str = "x-amz-bucket-region";

/// Codes by which AWS says that it is asked too often
/// (the SDK's own list, and `SlowDown` of S3).
const THROTTLE_CODES: [&str; 8] = [
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "SlowDown",
];
/// Codes by which AWS says that a right is missing or a credential is no good.
const DENIED_CODES: [&str; 10] = [
    "AccessDenied",
    "AccessDeniedException",
    "NotAuthorized",
    "UnauthorizedOperation",
    "UnrecognizedClientException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "ExpiredTokenException",
];

/// Reads an SDK error into what the rooms above decide by.
fn service_error<E>(operation: &'static str, resource: String, error: SdkError<E>) -> ServiceError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    read_error(None, operation, resource, error)
}

/// The same of S3's errors, which also tell of a bucket in another region than the one that was asked.
fn s3_error<E>(
    asked: Option<&Region>,
    operation: &'static str,
    resource: String,
    error: SdkError<E>,
) -> ServiceError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let told = error
        .raw_response()
        .and_then(|response| response.headers().get(BUCKET_REGION));
    // S3 also tells the region that was asked, for instance with a 400 for credentials that have expired.
    let elsewhere = told
        .filter(|told| asked.is_some_and(|asked| asked.as_str() != *told))
        .map(str::to_owned);
    read_error(elsewhere.as_deref(), operation, resource, error)
}

/// `elsewhere` is the bucket's region, where that is another one than was asked.
fn read_error<E>(
    elsewhere: Option<&str>,
    operation: &'static str,
    resource: String,
    error: SdkError<E>,
) -> ServiceError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let status = error
        .raw_response()
        .map(|response| response.status().as_u16());
    // HEAD is answered without a body: only a header tells that a bucket is in another region, and which.
    let code = match (error.code(), status, elsewhere) {
        (Some(code), ..) => Some(code.to_owned()),
        (None, Some(301), _) | (None, Some(400), Some(_)) => Some("PermanentRedirect".to_owned()),
        (None, ..) => None,
    };
    let answered = matches!(
        error,
        SdkError::ServiceError(_) | SdkError::ResponseError(_)
    );
    let kind = match (code.as_deref(), status) {
        (Some(code), _) if THROTTLE_CODES.contains(&code) => Kind::Throttled,
        (Some(code), _) if DENIED_CODES.contains(&code) => Kind::AccessDenied,
        (Some("PreconditionFailed"), _) | (_, Some(412)) => Kind::PreconditionFailed,
        (Some("ConditionalRequestConflict"), _) | (_, Some(409)) => Kind::Conflict,
        (_, Some(429)) => Kind::Throttled,
        (_, Some(403)) => Kind::AccessDenied,
        // 405 is what a delete marker answers when it is asked for by its version.
        (_, Some(404 | 405)) => Kind::NotFound,
        // A bucket of another region answers with a redirection, which the SDK does not follow.
        (Some("PermanentRedirect"), _) => Kind::Refused,
        (_, Some(400..=499)) if answered => Kind::Refused,
        _ => Kind::Unavailable,
    };
    let message = match (error.message(), elsewhere) {
        (Some(message), _) => message.to_owned(),
        (None, Some(region)) if answered => {
            format!(
                "HTTP {}, the bucket is in {region}",
                status.unwrap_or_default()
            )
        }
        // HEAD is answered without a body, so that only the status tells.
        (None, None) if answered => format!("HTTP {}", status.unwrap_or_default()),
        (None, _) => with_sources(&error, status),
    };
    ServiceError {
        operation,
        resource,
        kind,
        code,
        message,
    }
}

/// A transport error with its causes, which alone says next to nothing.
fn with_sources(error: &dyn std::error::Error, status: Option<u16>) -> String {
    const SOURCES_MAX: usize = 6;
    let mut text = error.to_string();
    let mut source = error.source();
    for _ in 0..SOURCES_MAX {
        let Some(cause) = source else { break };
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    match status {
        Some(status) => format!("{text} (HTTP {status})"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::config::http::HttpResponse;
    use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
    use aws_sdk_s3::error::ErrorMetadata;
    use aws_sdk_s3::primitives::SdkBody;

    use super::*;
    use crate::local::{LocalAws, Options};
    use crate::records::{Condition, DocumentStore};
    use crate::revision::{MultipartUploads, NewObject, ObjectStore};

    #[test]
    fn ok_bodies_go_unsigned_over_tls_and_on_this_machine_alone() {
        for (endpoint, expected) in [
            ("https://s3.eu-west-1.amazonaws.com", true),
            ("https://minio.example:9000/", true),
            ("http://127.0.0.1:4566", true),
            ("http://127.0.0.1/", true),
            ("http://[::1]:4566", true),
            ("http://[::1]", true),
            ("http://minio.example:9000", false),
            ("http://localhost:9000", false),
            ("http://10.0.0.7:9000", false),
            ("http://127.0.0.1.example", false),
            ("http://127.0.0.1@10.0.0.7", false),
            ("ftp://127.0.0.1", false),
            ("", false),
        ] {
            assert_eq!(is_guarded(endpoint), expected, "{endpoint}");
        }
    }

    #[tokio::test]
    async fn ok_a_body_carries_its_crc32_and_a_signature_where_it_is_to() {
        const BODY: &[u8] = b"hello";
        const CRC32: &str = "NhCmhg==";
        const SHA256: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let local = LocalAws::start(Options::default()).await.unwrap();
        local.create_bucket("revisions", false).unwrap();
        for (signs_bodies, payload) in [(false, "UNSIGNED-PAYLOAD"), (true, SHA256)] {
            let config = SdkConfig::builder()
                .behavior_version(BehaviorVersion::latest())
                .http_client(http_client())
                .region(aws_sdk_s3::config::Region::new("us-east-1"))
                .endpoint_url(local.endpoint())
                .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
                    "local", "local", None, None, "test",
                )))
                .build();
            let mut aws = Aws::of(config, signs_bodies);
            aws.path_style = true;
            let mut object = NewObject {
                region: "us-east-1".parse().unwrap(),
                bucket: "revisions".parse().unwrap(),
                key: "in/parts".parse().unwrap(),
                metadata: Default::default(),
                content_type: "application/zip",
                replace: true,
                is_revision: true,
            };
            let aws = &aws;
            let upload = aws.begin(&object).await.unwrap();
            aws.send_part(&upload, 1, BODY.into()).await.unwrap();
            object.key = "whole".parse().unwrap();
            ObjectStore::put(&aws, &object, BODY.into()).await.unwrap();
            let place = ("revisions".parse().unwrap(), "record".parse().unwrap());
            let written =
                DocumentStore::put(&aws, &place.0, &place.1, BODY.into(), &Condition::Any);
            written.await.unwrap();
            let sent: Vec<_> = local
                .faults()
                .log()
                .into_iter()
                .filter(|request| request.bytes_in > 0)
                .map(|request| (request.operation, request.payload, request.crc32))
                .collect();
            local.faults().clear_log();
            let sent_as = |operation: &str, payload: &str| {
                let [operation, payload, crc32] = [operation, payload, CRC32].map(str::to_owned);
                (operation, Some(payload), Some(crc32))
            };
            assert_eq!(
                sent,
                [
                    sent_as("UploadPart", payload),
                    sent_as("PutObject", payload),
                    // What is small is signed everywhere.
                    sent_as("PutObject", SHA256),
                ]
            );
        }
    }

    /// An answer without a body to a request in us-east-1, and the region that it tells.
    fn head_refused(status: u16, told: Option<&'static str>) -> ServiceError {
        let mut answer = HttpResponse::new(status.try_into().unwrap(), SdkBody::empty());
        if let Some(told) = told {
            answer.headers_mut().insert(BUCKET_REGION, told);
        }
        let error = SdkError::service_error(ErrorMetadata::builder().build(), answer);
        let asked: Region = "us-east-1".parse().unwrap();
        s3_error(Some(&asked), "HeadObject", "s3://a/b".to_owned(), error)
    }

    #[test]
    fn err_a_bucket_is_elsewhere_only_where_another_region_is_told() {
        for (status, told, is_elsewhere, kind, message) in [
            (
                400,
                Some("eu-west-1"),
                true,
                Kind::Refused,
                "HTTP 400, the bucket is in eu-west-1",
            ),
            (400, Some("us-east-1"), false, Kind::Refused, "HTTP 400"),
            (400, None, false, Kind::Refused, "HTTP 400"),
            (
                301,
                Some("eu-west-1"),
                true,
                Kind::Refused,
                "HTTP 301, the bucket is in eu-west-1",
            ),
            (301, None, true, Kind::Refused, "HTTP 301"),
            (
                403,
                Some("eu-west-1"),
                false,
                Kind::AccessDenied,
                "HTTP 403, the bucket is in eu-west-1",
            ),
            (
                403,
                Some("us-east-1"),
                false,
                Kind::AccessDenied,
                "HTTP 403",
            ),
        ] {
            let error = head_refused(status, told);
            assert_eq!(error.is_elsewhere(), is_elsewhere, "{status}, {told:?}");
            assert_eq!(error.kind, kind, "{status}, {told:?}");
            assert_eq!(error.message, message, "{status}, {told:?}");
        }
    }
}
