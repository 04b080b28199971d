//! Which S3 operation a request is, told from its head, for the log and the plan of faults.
//!
//! Follows the routing of the S3 REST API (method, bucket or object, sub-resource, copy source).
//! Operations that the embedded S3 does not have keep the name of what they look like.

use hyper::Method;
use hyper::http::request::Parts;

/// The host names that stand for the service itself; a label in front of them is a bucket.
const BASE_HOST: &str = "localhost";

/// The bucket in front of the base host, in virtual-hosted style: `bucket.localhost`,
/// `bucket.s3.localhost`.
pub fn virtual_bucket(host: &str) -> Option<&str> {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let bucket = name.strip_suffix(BASE_HOST)?.strip_suffix('.')?;
    let bucket = bucket.strip_suffix(".s3").unwrap_or(bucket);
    (!bucket.is_empty() && bucket != "s3").then_some(bucket)
}

/// Bucket and key of a request, either of them empty where there is none, as they are sent.
fn place(head: &Parts) -> (&str, &str) {
    let host = head
        .headers
        .get(hyper::header::HOST)
        .and_then(|host| host.to_str().ok());
    let path = head.uri.path().strip_prefix('/').unwrap_or_default();
    match host.and_then(virtual_bucket) {
        Some(bucket) => (bucket, path),
        None => path.split_once('/').unwrap_or((path, "")),
    }
}

/// The bucket that a request is about.
pub fn bucket(head: &Parts) -> Option<String> {
    let (bucket, _) = place(head);
    (!bucket.is_empty()).then(|| bucket.to_owned())
}

/// AWS's name of the operation, such as `PutObject`.
pub fn operation(head: &Parts) -> &'static str {
    let (bucket, key) = place(head);
    let query = head.uri.query().unwrap_or_default();
    let has = |name: &str| {
        query
            .split('&')
            .any(|pair| pair.split('=').next().is_some_and(|found| found == name))
    };
    let copies = head.headers.contains_key("x-amz-copy-source");
    if bucket.is_empty() {
        return if head.method == Method::GET {
            "ListBuckets"
        } else {
            "Unknown"
        };
    }
    if key.is_empty() {
        of_bucket(&head.method, &has, query)
    } else {
        of_object(&head.method, &has, copies)
    }
}

fn of_bucket(method: &Method, has: &dyn Fn(&str) -> bool, query: &str) -> &'static str {
    match *method {
        Method::HEAD => "HeadBucket",
        Method::PUT if has("versioning") => "PutBucketVersioning",
        Method::PUT => "CreateBucket",
        Method::DELETE => "DeleteBucket",
        Method::POST if has("delete") => "DeleteObjects",
        Method::POST => "PostObject",
        Method::GET if has("location") => "GetBucketLocation",
        Method::GET if has("versioning") => "GetBucketVersioning",
        Method::GET if has("versions") => "ListObjectVersions",
        Method::GET if has("uploads") => "ListMultipartUploads",
        Method::GET if query.split('&').any(|pair| pair == "list-type=2") => "ListObjectsV2",
        Method::GET => "ListObjects",
        _ => "Unknown",
    }
}

fn of_object(method: &Method, has: &dyn Fn(&str) -> bool, copies: bool) -> &'static str {
    match *method {
        Method::HEAD => "HeadObject",
        Method::GET if has("tagging") => "GetObjectTagging",
        Method::GET if has("attributes") => "GetObjectAttributes",
        Method::GET if has("uploadId") => "ListParts",
        Method::GET => "GetObject",
        Method::PUT if has("tagging") => "PutObjectTagging",
        Method::PUT if has("uploadId") && copies => "UploadPartCopy",
        Method::PUT if has("uploadId") => "UploadPart",
        Method::PUT if copies => "CopyObject",
        Method::PUT => "PutObject",
        Method::POST if has("uploads") => "CreateMultipartUpload",
        Method::POST if has("uploadId") => "CompleteMultipartUpload",
        Method::DELETE if has("tagging") => "DeleteObjectTagging",
        Method::DELETE if has("uploadId") => "AbortMultipartUpload",
        Method::DELETE => "DeleteObject",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(method: &str, uri: &str, headers: &[(&str, &str)]) -> &'static str {
        let mut request = hyper::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        operation(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn ok_the_operations_that_matter() {
        let copy = [("x-amz-copy-source", "/bucket/key")];
        for (expected, method, uri, headers) in [
            ("ListBuckets", "GET", "/", &[][..]),
            ("ListObjectsV2", "GET", "/bucket?list-type=2&prefix=a", &[]),
            ("ListObjects", "GET", "/bucket/", &[]),
            ("ListObjectVersions", "GET", "/bucket?versions", &[]),
            ("GetObject", "GET", "/bucket/key?x-id=GetObject", &[]),
            ("GetObject", "GET", "/bucket/key?versionId=uploadId", &[]),
            ("PutObject", "PUT", "/bucket/a/b%2Fc", &[]),
            ("CopyObject", "PUT", "/bucket/key", &copy),
            (
                "UploadPartCopy",
                "PUT",
                "/bucket/key?partNumber=1&uploadId=x",
                &copy,
            ),
            (
                "UploadPart",
                "PUT",
                "/bucket/key?partNumber=1&uploadId=x",
                &[],
            ),
            ("CreateMultipartUpload", "POST", "/bucket/key?uploads", &[]),
            (
                "CompleteMultipartUpload",
                "POST",
                "/bucket/key?uploadId=x",
                &[],
            ),
            (
                "AbortMultipartUpload",
                "DELETE",
                "/bucket/key?uploadId=x",
                &[],
            ),
            ("DeleteObjects", "POST", "/bucket?delete", &[]),
            (
                "PutObject",
                "PUT",
                "/key",
                &[("host", "bucket.localhost:9000")],
            ),
            (
                "CreateBucket",
                "PUT",
                "/",
                &[("host", "bucket.s3.localhost:9000")],
            ),
            (
                "CreateBucket",
                "PUT",
                "/bucket",
                &[("host", "localhost:9000")],
            ),
        ] {
            assert_eq!(named(method, uri, headers), expected, "{method} {uri}");
        }
    }
}
