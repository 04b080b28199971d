//! CodeDeploy behind HTTP: JSON 1.1, one path, the operation in a header.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::http::HeaderValue;
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::{ApiError, CodeDeploy, TARGET_PREFIX};
use crate::local::faults::{Service, Wire, WireBody};
use crate::local::identity;

/// Bytes of a request, far above any that CodeDeploy takes.
const REQUEST_BYTES_MAX: usize = 1 << 20;

impl Wire for CodeDeploy {
    fn service(&self, _: &Parts) -> Service {
        Service::CodeDeploy
    }

    fn operation(&self, head: &Parts) -> String {
        operation(head).unwrap_or("Unknown").to_owned()
    }

    async fn call(&self, request: Request<WireBody>) -> Response<WireBody> {
        let (head, body) = request.into_parts();
        match self.answer(&head, body).await {
            Ok(value) => response(200, &value),
            Err(error) => refusal(400, &error),
        }
    }

    fn failure(&self, _: Service, status: u16, code: &str) -> Response<WireBody> {
        refusal(
            status,
            &ApiError::new(code, "Rate exceeded or service unavailable"),
        )
    }
}

impl CodeDeploy {
    async fn answer(&self, head: &Parts, body: WireBody) -> Result<Value, ApiError> {
        let operation = operation(head)
            .filter(|_| head.method == Method::POST)
            .ok_or_else(|| {
                ApiError::new(
                    "UnknownOperationException",
                    "The request names no operation of CodeDeploy",
                )
            })?;
        if !head.headers.contains_key("authorization") {
            return Err(ApiError::new(
                "MissingAuthenticationTokenException",
                "Missing Authentication Token",
            ));
        }
        let body = read(body).await?;
        let input: Value = if body.is_empty() {
            json!({})
        } else {
            serde_json::from_slice(&body).map_err(|error| {
                ApiError::new(
                    "SerializationException",
                    format!("body is not JSON: {error}"),
                )
            })?
        };
        CodeDeploy::call(self, operation, &input)
    }
}

async fn read(mut body: WireBody) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            ApiError::new(
                "SerializationException",
                format!("body was not read: {error}"),
            )
        })?;
        let data = frame.into_data().unwrap_or_default();
        if bytes.len() + data.len() > REQUEST_BYTES_MAX {
            let message = format!("body has more than {REQUEST_BYTES_MAX} bytes");
            return Err(ApiError::new("SerializationException", message));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

fn operation(head: &Parts) -> Option<&str> {
    head.headers
        .get("x-amz-target")?
        .to_str()
        .ok()?
        .strip_prefix(TARGET_PREFIX)
}

fn refusal(status: u16, error: &ApiError) -> Response<WireBody> {
    response(
        status,
        &json!({ "__type": error.code, "message": error.message }),
    )
}

fn response(status: u16, value: &Value) -> Response<WireBody> {
    // An operation without output answers an empty body.
    let body = if value.is_null() {
        Bytes::new()
    } else {
        Bytes::from(value.to_string())
    };
    let mut response = Response::new(Full::new(body).map_err(|never| match never {}).boxed());
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(
        "content-type",
        HeaderValue::from_static("application/x-amz-json-1.1"),
    );
    if let Ok(id) = HeaderValue::from_str(&identity::request_id()) {
        headers.insert("x-amzn-requestid", id);
    }
    response
}
