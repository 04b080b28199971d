//! What AWS answered when it did not do what was asked.
//!
//! One type for S3 and CodeDeploy, made in `aws/` and nowhere else, so that the rooms above can decide
//! by [`Kind`] without knowing the SDK.

use std::fmt;

/// What sort of refusal it was, as far as it changes what we do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// 404: no such bucket, key or version; for CodeDeploy see [`Kind::Refused`] and the code.
    NotFound,
    /// 412: a condition (`If-Match`, `If-None-Match`) did not hold.
    PreconditionFailed,
    /// 409: another request for the same key was in flight; the request had no effect.
    Conflict,
    /// 403, or a code that says so.
    AccessDenied,
    /// Asked too often; the request had no effect.
    Throttled,
    /// 5xx, a timeout or a broken connection: the request may have had its effect.
    Unavailable,
    /// Any other answer of the service: the request is wrong and stays wrong.
    Refused,
}

/// One refused request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceError {
    /// The operation, as AWS spells it: `GetObject`, `CreateDeployment`.
    pub operation: &'static str,
    /// What it was asked about: `s3://bucket/key`, `application/group`.
    pub resource: String,
    /// What sort of refusal.
    pub kind: Kind,
    /// AWS's error code, where there was an answer: `NoSuchKey`, `DeploymentLimitExceededException`.
    pub code: Option<String>,
    /// AWS's text, or the transport's.
    pub message: String,
}

impl ServiceError {
    /// Whether AWS's error code is this one.
    pub fn has_code(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    /// Whether S3 says that the bucket is in another region than the one that was asked.
    ///
    /// Which code it uses depends on how far the request came: to another region's endpoint, to the bucket's
    /// own with another region's signature, or from and to regions that an account has to switch on.
    pub fn is_elsewhere(&self) -> bool {
        [
            "PermanentRedirect",
            "AuthorizationHeaderMalformed",
            "IllegalLocationConstraintException",
        ]
        .iter()
        .any(|code| self.has_code(code))
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} was not carried out: ",
            self.operation, self.resource
        )?;
        match &self.code {
            Some(code) => write!(f, "{code}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for ServiceError {}
