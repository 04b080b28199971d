//! What S3's requests need (service authorization reference, and the API reference's "Permissions").

use hyper::http::request::Parts;

use super::{Context, Need};
use crate::local::s3::operation;

/// A request's bucket and key, percent-decoded.
struct Place {
    bucket: String,
    key: String,
}

impl Place {
    fn bucket_arn(&self) -> String {
        format!("arn:aws:s3:::{}", self.bucket)
    }

    fn object_arn(&self) -> String {
        format!("arn:aws:s3:::{}/{}", self.bucket, self.key)
    }
}

/// The rights that a request needs; `key` encrypts all objects.
pub fn needs(head: &Parts, region: &str, key: Option<&str>) -> Vec<Need> {
    let operation = operation::operation(head);
    let place = place(head.uri.path());
    let object = place.object_arn();
    let has_header = |name: &str| head.headers.contains_key(name);
    let mut needs = Vec::new();
    let mut encrypts = false;
    let mut decrypts = false;
    match operation {
        "GetObject" | "HeadObject" => {
            needs.push(Need::new(read_action(has_query(head, "versionId")), object));
            decrypts = true;
        }
        "PutObject"
        | "CreateMultipartUpload"
        | "UploadPart"
        | "CompleteMultipartUpload"
        | "CopyObject"
        | "UploadPartCopy" => {
            needs.push(Need::new("s3:PutObject", object.clone()));
            if has_header("x-amz-tagging") {
                needs.push(Need::new("s3:PutObjectTagging", object.clone()));
            }
            if has_header("if-match") {
                // Conditional writes: If-Match tells what is there.
                needs.push(Need::new("s3:GetObject", object));
            }
            encrypts = true;
            // Parts are decrypted before they are joined.
            decrypts = operation != "PutObject";
            if let Some((source, has_version)) = copy_source(head) {
                needs.push(Need::new(read_action(has_version), source.object_arn()));
                if operation == "CopyObject" && !has_header("x-amz-tagging") {
                    needs.push(Need::new("s3:GetObjectTagging", source.object_arn()));
                }
            }
        }
        "DeleteObject" => {
            let action = if has_query(head, "versionId") {
                "s3:DeleteObjectVersion"
            } else {
                "s3:DeleteObject"
            };
            needs.push(Need::new(action, object));
        }
        "AbortMultipartUpload" => needs.push(Need::new("s3:AbortMultipartUpload", object)),
        "ListParts" => needs.push(Need::new("s3:ListMultipartUploadParts", object)),
        "ListMultipartUploads" => {
            needs.push(Need::new(
                "s3:ListBucketMultipartUploads",
                place.bucket_arn(),
            ));
        }
        "ListObjectsV2" | "ListObjects" | "HeadBucket" => {
            needs.push(Need::new("s3:ListBucket", place.bucket_arn()));
        }
        "GetBucketVersioning" => {
            needs.push(Need::new("s3:GetBucketVersioning", place.bucket_arn()));
        }
        // None of our callers has any of these; no policy of theirs will allow it.
        _ => needs.push(Need::new("s3:*", place.bucket_arn())),
    }
    if let Some(key) = key {
        let via = format!("s3.{region}.amazonaws.com");
        let mut with_key = |action| {
            needs.push(Need {
                context: Context::from([("kms:ViaService", via.clone())]),
                ..Need::new(action, key)
            });
        };
        if encrypts {
            with_key("kms:GenerateDataKey");
        }
        if decrypts {
            with_key("kms:Decrypt");
        }
    }
    needs
}

/// What tells a missing object from a forbidden one: S3 answers 404 only to who may list the bucket.
pub fn needs_for_not_found(head: &Parts) -> Option<Need> {
    let bucket = match operation::operation(head) {
        "GetObject" | "HeadObject" => place(head.uri.path()),
        "CopyObject" | "UploadPartCopy" => copy_source(head)?.0,
        _ => return None,
    };
    Some(Need::new("s3:ListBucket", bucket.bucket_arn()))
}

fn read_action(has_version: bool) -> &'static str {
    if has_version {
        "s3:GetObjectVersion"
    } else {
        "s3:GetObject"
    }
}

fn has_query(head: &Parts, name: &str) -> bool {
    let query = head.uri.query().unwrap_or_default();
    query
        .split('&')
        .any(|pair| pair.split('=').next() == Some(name))
}

fn copy_source(head: &Parts) -> Option<(Place, bool)> {
    let source = head.headers.get("x-amz-copy-source")?.to_str().ok()?;
    let (path, query) = source.split_once('?').unwrap_or((source, ""));
    Some((place(path), query.starts_with("versionId=")))
}

fn place(path: &str) -> Place {
    let path = path.strip_prefix('/').unwrap_or(path);
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    Place {
        bucket: bucket.to_owned(),
        key: decoded(key),
    }
}

/// Percent-encoding undone; what is no escape stays.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = (*first == b'%')
            .then(|| after.get(..2))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
