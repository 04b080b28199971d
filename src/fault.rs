//! Reject or retry: the one place where an error becomes a Lambda diagnostic.
//!
//! A drop that can never succeed is recorded and the function returns normally ([`Fault::Reject`]);
//! what may succeed later is returned as an error with a stable error type ([`Fault::Retry`]), so that
//! Lambda retries it and its failure destination gets it in the end.

use aws_lambda_events::event::sqs::SqsBatchResponse;
use lambda_runtime::Diagnostic;
use serde_json::Value;

use crate::finding::Finding;
use crate::service_error::{Kind, ServiceError};

/// What becomes of an event whose handling did not go through.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// It can never succeed: record these findings, answer normally.
    Reject(Vec<Finding>),
    /// It may succeed later: return an error.
    Retry(Retry),
}

/// Why an event should be delivered again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Retry {
    /// Stable word that alarms and log filters match.
    pub reason: RetryReason,
    /// What happened, for people.
    pub message: String,
}

/// The stable error types of both functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetryReason {
    /// AWS said that it was asked too often.
    AwsThrottled,
    /// AWS answered 5xx, too late or not at all.
    AwsUnavailable,
    /// A right is missing from the function's role, a bucket policy or a key policy.
    AccessDenied,
    /// AWS refused a request that was right as far as we know.
    AwsRefused,
    /// The staged object changed while it was read.
    ArtifactChanged,
    /// Other invocations kept changing the same record.
    RecordContention,
    /// Another invocation is creating this group's deployment.
    DeploymentBeingCreated,
    /// An event told of a deployment's end that `GetDeployment` does not know of yet.
    OutcomeNotConfirmed,
    /// The function's time would not have sufficed.
    DeadlineNear,
    /// A record in the bucket is not one of ours, or of a newer version.
    RecordUnreadable,
    /// A mistake of stagedrop itself.
    Internal,
}

impl RetryReason {
    /// The word as it stands in Lambda's `errorType`.
    pub fn error_type(self) -> &'static str {
        match self {
            Self::AwsThrottled => "AwsThrottled",
            Self::AwsUnavailable => "AwsUnavailable",
            Self::AccessDenied => "AccessDenied",
            Self::AwsRefused => "AwsRefused",
            Self::ArtifactChanged => "ArtifactChanged",
            Self::RecordContention => "RecordContention",
            Self::DeploymentBeingCreated => "DeploymentBeingCreated",
            Self::OutcomeNotConfirmed => "OutcomeNotConfirmed",
            Self::DeadlineNear => "DeadlineNear",
            Self::RecordUnreadable => "RecordUnreadable",
            Self::Internal => "Internal",
        }
    }
}

impl Fault {
    /// A fault to try again for `reason`.
    pub fn retry(reason: RetryReason, message: impl Into<String>) -> Self {
        Self::Retry(Retry {
            reason,
            message: message.into(),
        })
    }

    /// A fault that rejects with one finding.
    pub fn reject(finding: Finding) -> Self {
        Self::Reject(vec![finding])
    }
}

impl From<Retry> for Fault {
    fn from(retry: Retry) -> Self {
        Self::Retry(retry)
    }
}

impl From<ServiceError> for Retry {
    fn from(error: ServiceError) -> Self {
        let reason = match error.kind {
            Kind::Throttled => RetryReason::AwsThrottled,
            Kind::Unavailable => RetryReason::AwsUnavailable,
            Kind::AccessDenied => RetryReason::AccessDenied,
            Kind::PreconditionFailed | Kind::Conflict => RetryReason::RecordContention,
            Kind::NotFound | Kind::Refused => RetryReason::AwsRefused,
        };
        Self {
            reason,
            message: error.to_string(),
        }
    }
}

impl From<ServiceError> for Fault {
    /// Trouble with AWS is never the drop's fault unless the caller knows better.
    fn from(error: ServiceError) -> Self {
        Self::Retry(error.into())
    }
}

/// The answer to a batch of SQS messages: those that failed come again, the others do not.
///
/// # Errors
/// Never in practice: the answer is a list of texts.
pub fn batch_answer(answer: &SqsBatchResponse) -> Result<Value, Retry> {
    serde_json::to_value(answer).map_err(|error| Retry {
        reason: RetryReason::Internal,
        message: format!("the batch's answer could not be written as JSON: {error}"),
    })
}

impl From<Retry> for Diagnostic {
    fn from(retry: Retry) -> Self {
        Diagnostic {
            error_type: retry.reason.error_type().to_owned(),
            error_message: retry.message,
        }
    }
}
