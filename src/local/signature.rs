//! What a request's signature says of where it is meant for; whether it is a right one is not asked here.
//!
//! ```text
//! Authorization: AWS4-HMAC-SHA256 Credential=<key id>/<date>/<region>/<service>/aws4_request, …
//! ?X-Amz-Credential=<key id>%2F<date>%2F<region>%2F<service>%2Faws4_request&…
//! ```
//!
//! (AWS Signature Version 4, "Elements of an AWS API request signature".)

use hyper::http::request::Parts;

/// The region that a request is signed for; none where it is not signed, or in another way.
pub fn region(head: &Parts) -> Option<String> {
    let header = head.headers.get(hyper::header::AUTHORIZATION);
    if let Some(header) = header.and_then(|header| header.to_str().ok()) {
        let fields = header.split_once(' ')?.1;
        return fields
            .split(',')
            .find_map(|field| field.trim().strip_prefix("Credential="))
            .and_then(of_scope);
    }
    let query = head.uri.query().unwrap_or_default();
    let scope = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("X-Amz-Credential="))?;
    of_scope(&scope.replace("%2f", "/").replace("%2F", "/"))
}

fn of_scope(scope: &str) -> Option<String> {
    // A key id has no slash; the scope is counted from its end all the same.
    let region = scope.rsplit('/').nth(2)?;
    (!region.is_empty()).then(|| region.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ok_the_region_stands_in_the_header_or_in_the_query() {
        let read = |uri: &str, header: Option<&str>| {
            let mut request = hyper::Request::builder().uri(uri);
            if let Some(header) = header {
                request = request.header("authorization", header);
            }
            region(&request.body(()).unwrap().into_parts().0)
        };
        let header = "AWS4-HMAC-SHA256 Credential=id/20260101/eu-west-1/s3/aws4_request, SignedHeaders=host, Signature=00";
        assert_eq!(read("/a", Some(header)).as_deref(), Some("eu-west-1"));
        let scope =
            "/a?X-Amz-Algorithm=x&X-Amz-Credential=id%2F20260101%2Feu-west-1%2Fs3%2Faws4_request";
        assert_eq!(read(scope, None).as_deref(), Some("eu-west-1"));
        for (uri, header) in [
            ("/a", None),
            ("/a", Some("AWS id:signature")),
            ("/a", Some("AWS4-HMAC-SHA256")),
            ("/a", Some("AWS4-HMAC-SHA256 Credential=id, Signature=00")),
            ("/a?X-Amz-Credential=any", None),
        ] {
            assert_eq!(read(uri, header), None, "{uri} {header:?}");
        }
    }
}
