//! A service behind IAM: what its caller may not do is refused before the service hears of it.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};
use serde_json::Value;

use super::{Iam, Need};
use crate::local::codedeploy::CodeDeploy;
use crate::local::faults::{Service, Wire, WireBody};
use crate::local::s3::LocalS3;

/// Bytes of a request whose rights stand in its body.
const BODY_BYTES_MAX: usize = 1 << 20;

/// A service that IAM can stand before.
pub trait Protected: Wire {
    /// The code of a refusal, with HTTP status.
    const REFUSAL: (u16, &'static str);
    /// Whether the body tells what is asked about.
    const ASKS_IN_BODY: bool;

    /// The rights that a request needs.
    fn needs(&self, iam: &Iam, head: &Parts, body: &Value) -> Vec<Need>;

    /// The right without which a missing thing looks like a forbidden one.
    fn needs_for_not_found(&self, head: &Parts) -> Option<Need>;
}

/// A service and who asks it.
pub struct Guarded<W> {
    inner: W,
    iam: Arc<Iam>,
    label: String,
}

impl<W: Protected> Guarded<W> {
    /// Puts IAM before a service, for one caller.
    pub fn new(inner: W, iam: Arc<Iam>, label: &str) -> Self {
        Self {
            inner,
            iam,
            label: label.to_owned(),
        }
    }

    fn refusal(&self, need: &Need) -> Response<WireBody> {
        tracing::debug!(
            label = self.label,
            action = need.actions.first(),
            resource = need.resource,
            "not authorized"
        );
        let (status, code) = W::REFUSAL;
        self.inner.failure(status, code)
    }
}

impl<W: Protected> Wire for Guarded<W> {
    fn service(&self) -> Service {
        self.inner.service()
    }

    fn operation(&self, head: &Parts) -> String {
        self.inner.operation(head)
    }

    async fn call(&self, request: Request<WireBody>) -> Response<WireBody> {
        let (head, body) = request.into_parts();
        let mut asked = Value::Null;
        let body = if W::ASKS_IN_BODY {
            let Some(bytes) = read(body).await else {
                return self.inner.failure(400, "SerializationException");
            };
            asked = serde_json::from_slice(&bytes).unwrap_or_default();
            Full::new(bytes).map_err(|never| match never {}).boxed()
        } else {
            body
        };
        let needs = self.inner.needs(&self.iam, &head, &asked);
        if let Some(need) = self.iam.judge(&self.label, &needs) {
            // Read to its end: a client that is still sending might never see the answer.
            let mut body = body;
            while let Some(Ok(_)) = body.frame().await {}
            return self.refusal(&need);
        }
        let not_found = self.inner.needs_for_not_found(&head);
        let answer = self.inner.call(Request::from_parts(head, body)).await;
        if answer.status() == StatusCode::NOT_FOUND
            && let Some(need) = not_found
            && let Some(need) = self.iam.judge(&self.label, &[need])
        {
            return self.refusal(&need);
        }
        answer
    }

    fn failure(&self, status: u16, code: &str) -> Response<WireBody> {
        self.inner.failure(status, code)
    }
}

/// The whole body; nothing where it breaks off or is too long.
async fn read(mut body: WireBody) -> Option<Bytes> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let data = frame.ok()?.into_data().unwrap_or_default();
        if bytes.len() + data.len() > BODY_BYTES_MAX {
            return None;
        }
        bytes.extend_from_slice(&data);
    }
    Some(bytes.into())
}

impl Protected for LocalS3 {
    const REFUSAL: (u16, &'static str) = (403, "AccessDenied");
    const ASKS_IN_BODY: bool = false;

    fn needs(&self, iam: &Iam, head: &Parts, _: &Value) -> Vec<Need> {
        super::s3::needs(head, self.region(), iam.key().as_deref())
    }

    fn needs_for_not_found(&self, head: &Parts) -> Option<Need> {
        super::s3::needs_for_not_found(head)
    }
}

impl Protected for CodeDeploy {
    const REFUSAL: (u16, &'static str) = (400, "AccessDeniedException");
    const ASKS_IN_BODY: bool = true;

    fn needs(&self, _: &Iam, head: &Parts, body: &Value) -> Vec<Need> {
        super::codedeploy::needs(self, self.region(), &self.operation(head), body)
    }

    fn needs_for_not_found(&self, _: &Parts) -> Option<Need> {
        None
    }
}
