//! The rules of S3 that the rest relies on, each over the real wire: a fake that ignored one of
//! them would fail here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::checksums::{Algorithm, Digester, Wanted, base64, hex};
use super::uploads::PART_BYTES_MIN;
use super::*;
use crate::local::faults::tests::{Answer, send};
use crate::local::faults::{Fault, Match, Moment, Nth, Then};

type Headers<'a> = &'a [(&'a str, &'a str)];

/// A served S3 with the buckets `plain` and `kept`, which has versions.
struct Served {
    store: Arc<Store>,
    faults: Arc<Faults>,
    address: SocketAddr,
}

impl Served {
    async fn new() -> Self {
        let s3 = LocalS3::new(Options::default()).unwrap();
        let (store, faults) = (s3.store(), Arc::new(Faults::new()));
        store.create_bucket("plain").unwrap();
        store.create_bucket("kept").unwrap();
        store.set_versioning("kept", Versioning::Enabled).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = Arc::clone(&faults);
        tokio::spawn(s3.serve(listener, "test", served, std::future::pending()));
        Self {
            store,
            faults,
            address,
        }
    }

    async fn ask(&self, method: &str, target: &str, headers: Headers<'_>, body: &[u8]) -> Answer {
        send(self.address, method, target, headers, body)
            .await
            .unwrap()
    }

    async fn get(&self, target: &str, headers: Headers<'_>) -> Answer {
        self.ask("GET", target, headers, b"").await
    }

    async fn put(&self, target: &str, headers: Headers<'_>, body: &[u8]) -> Answer {
        self.ask("PUT", target, headers, body).await
    }

    async fn create_upload(&self, target: &str, headers: Headers<'_>) -> String {
        let answer = self
            .ask("POST", &format!("{target}?uploads"), headers, b"")
            .await;
        answer.element("UploadId")
    }

    async fn part(&self, target: &str, upload: &str, number: i32, body: &[u8]) -> Answer {
        self.put(
            &format!("{target}?partNumber={number}&uploadId={upload}"),
            &[],
            body,
        )
        .await
    }

    async fn complete(
        &self,
        target: &str,
        upload: &str,
        parts: &[(i32, &str)],
        headers: Headers<'_>,
    ) -> Answer {
        let part = |(number, etag): &(i32, &str)| {
            format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
        };
        let parts: String = parts.iter().map(part).collect();
        let body = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        let target = format!("{target}?uploadId={upload}");
        self.ask("POST", &target, headers, body.as_bytes()).await
    }
}

/// Status and code, as clients tell errors.
fn refusal(answer: &Answer) -> (u16, String) {
    (answer.status, answer.element("Code"))
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

fn etag_of(data: &[u8]) -> String {
    format!("\"{}\"", hex(&digests(data, None).md5))
}

fn digests(data: &[u8], checksum: Option<Algorithm>) -> super::checksums::Digests {
    let mut digester = Digester::new(Wanted {
        checksum,
        payload_sha256: true,
    });
    digester.update(data);
    digester.finish()
}

fn sum(algorithm: Algorithm, data: &[u8]) -> String {
    base64(&digests(data, Some(algorithm)).checksum.unwrap())
}

fn http_date(seconds_from_now: i64) -> String {
    let time = jiff::Timestamp::try_from(SystemTime::now()).unwrap()
        + jiff::SignedDuration::from_secs(seconds_from_now);
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn large(seed: u8) -> Vec<u8> {
    vec![seed; usize::try_from(PART_BYTES_MIN).unwrap()]
}

#[tokio::test]
async fn ok_objects_come_back_as_they_were_written() {
    let s3 = Served::new().await;
    let headers = [
        ("content-type", "text/plain"),
        ("x-amz-meta-Build-Num", "42"),
    ];
    let put = s3
        .put("/plain/a/b%20c%2Bd%21%25%C3%A9", &headers, b"hello")
        .await;
    assert_eq!(
        (put.status, put.header("etag")),
        (200, etag_of(b"hello").as_str())
    );
    assert_eq!(s3.store.keys("plain", "a/").unwrap(), ["a/b c+d!%é"]);
    let got = s3.get("/plain/a/b%20c+d!%25%C3%A9", &[]).await;
    assert_eq!(
        (got.status, got.body.as_slice()),
        (200, b"hello".as_slice())
    );
    assert_eq!(got.header("content-type"), "text/plain");
    assert_eq!(got.header("x-amz-meta-build-num"), "42");
    let head = s3
        .ask("HEAD", "/plain/a/b%20c%2Bd!%25%C3%A9", &[], b"")
        .await;
    assert_eq!((head.header("content-length"), head.body.len()), ("5", 0));
}

#[tokio::test]
async fn err_what_is_not_there() {
    let s3 = Served::new().await;
    assert_eq!(
        refusal(&s3.get("/plain/none", &[]).await),
        refused(404, "NoSuchKey")
    );
    assert_eq!(
        refusal(&s3.get("/nowhere/none", &[]).await),
        refused(404, "NoSuchBucket")
    );
    assert_eq!(
        refusal(&s3.put("/nowhere/none", &[], b"x").await),
        refused(404, "NoSuchBucket")
    );
    assert_eq!(
        refusal(&s3.get("/kept/none?versionId=null", &[]).await),
        refused(404, "NoSuchVersion")
    );
    assert_eq!(
        refusal(&s3.get("/kept/none?versionId=1", &[]).await),
        refused(400, "InvalidArgument")
    );
    let again = s3.put("/plain", &[], b"").await;
    assert_eq!(refusal(&again), refused(409, "BucketAlreadyOwnedByYou"));
    s3.put("/plain/key", &[], b"").await;
    let full = s3.ask("DELETE", "/plain", &[], b"").await;
    assert_eq!(refusal(&full), refused(409, "BucketNotEmpty"));
}

#[tokio::test]
async fn err_names_and_metadata_too_long() {
    let s3 = Served::new().await;
    let key = |length| format!("/plain/{}", "k".repeat(length));
    assert_eq!(s3.put(&key(1024), &[], b"").await.status, 200);
    assert_eq!(
        refusal(&s3.put(&key(1025), &[], b"").await),
        refused(400, "KeyTooLongError")
    );
    let value = |length| "v".repeat(length);
    let most = s3
        .put("/plain/key", &[("x-amz-meta-a", &value(2047))], b"")
        .await;
    assert_eq!(most.status, 200);
    let more = s3
        .put("/plain/key", &[("x-amz-meta-a", &value(2048))], b"")
        .await;
    assert_eq!(refusal(&more), refused(400, "MetadataTooLarge"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn err_of_sixteen_conditional_writers_one_wins() {
    let s3 = Arc::new(Served::new().await);
    for round in 0..5 {
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..16u8 {
            let s3 = Arc::clone(&s3);
            writers.spawn(async move {
                let target = format!("/plain/race-{round}");
                let body = vec![writer; 50_000];
                (
                    writer,
                    s3.put(&target, &[("if-none-match", "*")], &body).await,
                )
            });
        }
        let answers = writers.join_all().await;
        let (won, lost): (Vec<_>, Vec<_>) = answers
            .into_iter()
            .partition(|(_, answer)| answer.status == 200);
        assert_eq!(won.len(), 1);
        let codes: Vec<_> = lost.iter().map(|(_, answer)| refusal(answer)).collect();
        assert_eq!(codes, vec![refused(412, "PreconditionFailed"); 15]);
        let held = s3.store.get("plain", &format!("race-{round}")).unwrap();
        assert_eq!(held.first(), won.first().map(|(writer, _)| writer));
    }
}

#[tokio::test]
async fn err_if_match_needs_the_present_etag() {
    let s3 = Served::new().await;
    let (one, two) = (etag_of(b"1"), etag_of(b"2"));
    let missing = s3.put("/plain/key", &[("if-match", &one)], b"1").await;
    assert_eq!(refusal(&missing), refused(404, "NoSuchKey"));
    s3.put("/plain/key", &[("if-none-match", "*")], b"1").await;
    let taken = s3.put("/plain/key", &[("if-none-match", "*")], b"2").await;
    assert_eq!(refusal(&taken), refused(412, "PreconditionFailed"));
    assert_eq!(
        s3.put("/plain/key", &[("if-match", &one)], b"2")
            .await
            .status,
        200
    );
    let stale = s3.put("/plain/key", &[("if-match", &one)], b"3").await;
    assert_eq!(refusal(&stale), refused(412, "PreconditionFailed"));
    let unquoted = two.trim_matches('"');
    assert_eq!(
        s3.put("/plain/key", &[("if-match", unquoted)], b"4")
            .await
            .status,
        200
    );
    let odd = s3.put("/plain/key", &[("if-none-match", &one)], b"5").await;
    assert_eq!(refusal(&odd), refused(501, "NotImplemented"));
    assert_eq!(s3.store.get("plain", "key").unwrap(), "4");
}

#[tokio::test]
async fn err_a_delete_in_between_is_a_conflict() {
    let s3 = Served::new().await;
    let attributes = Attributes::default();
    let begin = |condition| {
        s3.store
            .begin("plain", "key", &attributes, condition)
            .unwrap()
    };
    let content = || object::Content {
        blob: blob::Blob::default(),
        etag: String::new(),
        checksum: None,
        parts: Vec::new(),
        attributes: Attributes::default(),
    };
    let ticket = begin(object::Condition::Absent);
    s3.store.delete("plain", "key", None, None).unwrap();
    let conflict = s3.store.commit(ticket, content(), "PutObject").unwrap_err();
    assert!(matches!(conflict, StoreError::ConditionalRequestConflict));
    // Where the delete came before, or there is no condition, it is no conflict.
    s3.store
        .commit(begin(object::Condition::Absent), content(), "PutObject")
        .unwrap();
    let ticket = begin(object::Condition::Always);
    s3.store.delete("plain", "key", None, None).unwrap();
    s3.store.commit(ticket, content(), "PutObject").unwrap();
}

#[tokio::test]
async fn err_conditions_of_reads() {
    let s3 = Served::new().await;
    s3.put("/plain/key", &[], b"1").await;
    let etag = etag_of(b"1");
    let (past, future) = (http_date(-3600), http_date(3600));
    for (headers, status) in [
        (&[("if-match", etag.as_str())][..], 200),
        (&[("if-match", "\"0\"")], 412),
        (&[("if-none-match", "\"0\"")], 200),
        (&[("if-none-match", &etag)], 304),
        (&[("if-modified-since", &past)], 200),
        (&[("if-modified-since", &future)], 304),
        (&[("if-unmodified-since", &past)], 412),
        (&[("if-unmodified-since", &future)], 200),
        (&[("if-match", &etag), ("if-unmodified-since", &past)], 200),
        (
            &[("if-none-match", &etag), ("if-modified-since", &past)],
            304,
        ),
    ] {
        assert_eq!(
            s3.get("/plain/key", headers).await.status,
            status,
            "{headers:?}"
        );
        let head = s3.ask("HEAD", "/plain/key", headers, b"").await;
        assert_eq!(head.status, status, "{headers:?}");
    }
}

#[tokio::test]
async fn ok_ranges() {
    let s3 = Served::new().await;
    s3.put("/plain/key", &[], b"0123456789").await;
    for (range, body, content_range) in [
        ("bytes=0-0", "0", "bytes 0-0/10"),
        ("bytes=8-", "89", "bytes 8-9/10"),
        ("bytes=8-100", "89", "bytes 8-9/10"),
        ("bytes=-3", "789", "bytes 7-9/10"),
        ("bytes=-100", "0123456789", "bytes 0-9/10"),
        // S3 reads a range that is none, and several, as the whole object.
        ("bytes=3-2", "0123456789", ""),
        ("bytes=0-1,3-4", "0123456789", ""),
        ("lines=1-2", "0123456789", ""),
    ] {
        let got = s3.get("/plain/key", &[("range", range)]).await;
        assert_eq!(
            String::from_utf8(got.body.clone()).unwrap(),
            body,
            "{range}"
        );
        assert_eq!(got.header("content-range"), content_range, "{range}");
        assert_eq!(
            got.status,
            if content_range.is_empty() { 200 } else { 206 },
            "{range}"
        );
    }
}

#[tokio::test]
async fn err_ranges_outside() {
    let s3 = Served::new().await;
    s3.put("/plain/key", &[], b"0123456789").await;
    s3.put("/plain/empty", &[], b"").await;
    for (target, range) in [
        ("/plain/key", "bytes=10-"),
        ("/plain/key", "bytes=-0"),
        ("/plain/empty", "bytes=-5"),
    ] {
        let got = s3.get(target, &[("range", range)]).await;
        assert_eq!(
            refusal(&got),
            refused(416, "InvalidRange"),
            "{target} {range}"
        );
    }
}

#[tokio::test]
async fn err_bodies_that_are_not_what_they_claim() {
    let s3 = Served::new().await;
    let other_md5 = base64(&digests(b"other", None).md5);
    let (other_sha, sha) = (
        digests(b"other", None).payload_sha256.unwrap(),
        digests(b"body", None).payload_sha256.unwrap(),
    );
    for (headers, expected) in [
        (
            ("content-md5", other_md5.as_str()),
            refused(400, "BadDigest"),
        ),
        (("content-md5", "nonsense"), refused(400, "InvalidDigest")),
        (
            ("x-amz-content-sha256", &other_sha),
            refused(400, "XAmzContentSHA256Mismatch"),
        ),
        (("x-amz-content-sha256", &sha), refused(200, "")),
        (
            ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
            refused(200, ""),
        ),
    ] {
        let put = s3.put("/plain/key", &[headers], b"body").await;
        assert_eq!(refusal(&put), expected, "{headers:?}");
    }
    for algorithm in Algorithm::ALL {
        let header = algorithm.header();
        let right = s3
            .put("/plain/key", &[(header, &sum(algorithm, b"body"))], b"body")
            .await;
        assert_eq!(
            (right.status, right.header(header)),
            (200, sum(algorithm, b"body").as_str())
        );
        let got = s3
            .get("/plain/key", &[("x-amz-checksum-mode", "ENABLED")])
            .await;
        assert_eq!(got.header(header), sum(algorithm, b"body"));
        let wrong = s3
            .put(
                "/plain/key",
                &[(header, &sum(algorithm, b"other"))],
                b"body",
            )
            .await;
        assert_eq!(refusal(&wrong), refused(400, "BadDigest"), "{header}");
        let odd = s3.put("/plain/key", &[(header, "AAA")], b"body").await;
        assert_eq!(refusal(&odd), refused(400, "InvalidRequest"), "{header}");
    }
    let alone = s3
        .put(
            "/plain/key",
            &[("x-amz-sdk-checksum-algorithm", "CRC32")],
            b"body",
        )
        .await;
    assert_eq!(refusal(&alone), refused(400, "InvalidRequest"));
}

#[tokio::test]
async fn ok_chunked_bodies_with_trailers() {
    let s3 = Served::new().await;
    let crc = sum(Algorithm::Crc32, b"hello world");
    for (payload, extension) in [
        ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", ""),
        (
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
            ";chunk-signature=0a1b",
        ),
    ] {
        let headers = [
            ("x-amz-content-sha256", payload),
            ("content-encoding", "gzip, aws-chunked"),
            ("x-amz-decoded-content-length", "11"),
            ("x-amz-trailer", "x-amz-checksum-crc32"),
        ];
        let body = |crc: &str| {
            format!(
                "6{extension}\r\nhello \r\n5{extension}\r\nworld\r\n0{extension}\r\nx-amz-checksum-crc32:{crc}\r\n\r\n"
            )
        };
        let put = s3.put("/plain/key", &headers, body(&crc).as_bytes()).await;
        assert_eq!(
            (put.status, put.header("x-amz-checksum-crc32")),
            (200, crc.as_str())
        );
        let got = s3.get("/plain/key", &[]).await;
        assert_eq!(
            (got.body.as_slice(), got.header("content-encoding")),
            (&b"hello world"[..], "gzip")
        );
        let wrong = s3
            .put("/plain/key", &headers, body("AAAAAA==").as_bytes())
            .await;
        assert_eq!(refusal(&wrong), refused(400, "BadDigest"));
        let cut = body(&crc);
        let cut = s3.put("/plain/key", &headers, &cut.as_bytes()[..10]).await;
        assert_eq!(refusal(&cut), refused(400, "IncompleteBody"));
    }
}

#[tokio::test]
async fn err_another_owner() {
    let s3 = Served::new().await;
    s3.put("/plain/key", &[], b"").await;
    let (own, other) = (
        ("x-amz-expected-bucket-owner", "123456789012"),
        ("x-amz-expected-bucket-owner", "1"),
    );
    for (method, target) in [
        ("GET", "/plain/key"),
        ("PUT", "/plain/key"),
        ("GET", "/plain?list-type=2"),
        ("POST", "/plain/key?uploads"),
    ] {
        let answer = s3.ask(method, target, &[other], b"").await;
        assert_eq!(
            refusal(&answer),
            refused(403, "AccessDenied"),
            "{method} {target}"
        );
        assert_eq!(s3.ask(method, target, &[own], b"").await.status, 200);
    }
}

#[tokio::test]
async fn ok_versions_stay_readable() {
    let s3 = Served::new().await;
    let one = s3.put("/kept/key", &[], b"1").await;
    let two = s3.put("/kept/key", &[], b"2").await;
    let (one, two) = (
        one.header("x-amz-version-id"),
        two.header("x-amz-version-id"),
    );
    assert_ne!(one, two);
    assert_eq!(
        s3.get("/kept/key", &[]).await.header("x-amz-version-id"),
        two
    );
    assert_eq!(
        s3.get(&format!("/kept/key?versionId={one}"), &[])
            .await
            .body,
        b"1"
    );
    assert_eq!(
        s3.put("/plain/key", &[], b"")
            .await
            .header("x-amz-version-id"),
        ""
    );
    s3.store
        .set_versioning("kept", Versioning::Suspended)
        .unwrap();
    for _ in 0..2 {
        assert_eq!(
            s3.put("/kept/key", &[], b"3")
                .await
                .header("x-amz-version-id"),
            "null"
        );
    }
    assert_eq!(s3.store.versions("kept", "key").unwrap().len(), 3);
    let gone = s3
        .ask("DELETE", &format!("/kept/key?versionId={two}"), &[], b"")
        .await;
    assert_eq!((gone.status, gone.header("x-amz-version-id")), (204, two));
    let got = s3.get(&format!("/kept/key?versionId={two}"), &[]).await;
    assert_eq!(refusal(&got), refused(404, "NoSuchVersion"));
}

#[tokio::test]
async fn err_delete_markers() {
    let s3 = Served::new().await;
    s3.put("/kept/key", &[], b"1").await;
    let deleted = s3.ask("DELETE", "/kept/key", &[], b"").await;
    let marker = deleted.header("x-amz-version-id");
    assert_eq!(
        (deleted.status, deleted.header("x-amz-delete-marker")),
        (204, "true")
    );
    let got = s3.get("/kept/key", &[]).await;
    assert_eq!(refusal(&got), refused(404, "NoSuchKey"));
    assert_eq!(got.header("x-amz-delete-marker"), "true");
    let by_version = format!("/kept/key?versionId={marker}");
    assert_eq!(
        refusal(&s3.get(&by_version, &[]).await),
        refused(405, "MethodNotAllowed")
    );
    assert_eq!(s3.ask("HEAD", &by_version, &[], b"").await.status, 405);
    let put = s3.put("/kept/key", &[("if-none-match", "*")], b"2").await;
    assert_eq!(put.status, 200);
    s3.ask("DELETE", &by_version, &[], b"").await;
    assert_eq!(s3.store.versions("kept", "key").unwrap().len(), 2);
    // Without versions nothing is left, and deleting nothing is no error.
    s3.put("/plain/key", &[], b"1").await;
    for _ in 0..2 {
        assert_eq!(s3.ask("DELETE", "/plain/key", &[], b"").await.status, 204);
        assert!(s3.store.versions("plain", "key").unwrap().is_empty());
    }
}

#[tokio::test]
async fn ok_copies_keep_or_replace_metadata() {
    let s3 = Served::new().await;
    let headers = [
        ("x-amz-meta-a", "1"),
        ("x-amz-tagging", "UseWithCodeDeploy=true&b=c%20d"),
    ];
    let put = s3.put("/kept/a%20b%2B%25", &headers, b"body").await;
    let id = put.header("x-amz-version-id");
    s3.put("/kept/a%20b%2B%25", &[], b"newer").await;
    let source = format!("/kept/a%20b%2B%25?versionId={id}");
    let copy = s3
        .put("/plain/copy", &[("x-amz-copy-source", &source)], b"")
        .await;
    assert_eq!(
        (copy.status, copy.header("x-amz-copy-source-version-id")),
        (200, id)
    );
    let got = s3.get("/plain/copy", &[]).await;
    assert_eq!(
        (got.body.as_slice(), got.header("x-amz-meta-a")),
        (&b"body"[..], "1")
    );
    assert_eq!(got.header("x-amz-tagging-count"), "2");
    let replaced = [
        ("x-amz-copy-source", "plain/copy"),
        ("x-amz-metadata-directive", "REPLACE"),
        ("x-amz-tagging-directive", "REPLACE"),
        ("x-amz-meta-b", "2"),
    ];
    assert_eq!(s3.put("/plain/copy", &replaced, b"").await.status, 200);
    let got = s3.get("/plain/copy", &[]).await;
    assert_eq!(
        (got.header("x-amz-meta-a"), got.header("x-amz-meta-b")),
        ("", "2")
    );
    assert_eq!(got.header("x-amz-tagging-count"), "");
    let same = s3
        .put("/plain/copy", &[("x-amz-copy-source", "plain/copy")], b"")
        .await;
    assert_eq!(refusal(&same), refused(400, "InvalidRequest"));
}

#[tokio::test]
async fn err_copies_of_another_source() {
    let s3 = Served::new().await;
    s3.put("/plain/source", &[], b"1").await;
    s3.put("/plain/taken", &[], b"2").await;
    let (etag, past, future) = (etag_of(b"1"), http_date(-3600), http_date(3600));
    let failed = refused(412, "PreconditionFailed");
    for (header, value, expected) in [
        ("x-amz-copy-source-if-match", "\"0\"", failed.clone()),
        ("x-amz-copy-source-if-match", &etag, refused(200, "")),
        ("x-amz-copy-source-if-none-match", &etag, failed.clone()),
        (
            "x-amz-copy-source-if-modified-since",
            &future,
            failed.clone(),
        ),
        (
            "x-amz-copy-source-if-unmodified-since",
            &past,
            failed.clone(),
        ),
    ] {
        let headers = [("x-amz-copy-source", "plain/source"), (header, value)];
        let copy = s3.put("/plain/copy", &headers, b"").await;
        assert_eq!(refusal(&copy), expected, "{header}");
        let upload = s3.create_upload("/plain/parts", &[]).await;
        let target = format!("/plain/parts?partNumber=1&uploadId={upload}");
        assert_eq!(
            refusal(&s3.put(&target, &headers, b"").await),
            expected,
            "{header}"
        );
    }
    for (headers, expected) in [
        (
            &[("x-amz-copy-source", "plain/none")][..],
            refused(404, "NoSuchKey"),
        ),
        (
            &[("x-amz-copy-source", "nowhere/none")],
            refused(404, "NoSuchBucket"),
        ),
        (
            &[
                ("x-amz-copy-source", "plain/source"),
                ("if-none-match", "*"),
            ],
            failed.clone(),
        ),
        (
            &[("x-amz-copy-source", "plain/source"), ("if-match", "\"0\"")],
            failed.clone(),
        ),
    ] {
        assert_eq!(
            refusal(&s3.put("/plain/taken", headers, b"").await),
            expected
        );
    }
    assert_eq!(s3.store.get("plain", "taken").unwrap(), "2");
}

#[tokio::test]
async fn ok_multipart_of_sent_and_copied_parts() {
    let s3 = Served::new().await;
    let (one, two) = (large(1), [large(2), b"and more".to_vec()].concat());
    s3.put("/plain/source", &[], &two).await;
    let upload = s3
        .create_upload("/plain/whole", &[("x-amz-meta-a", "1")])
        .await;
    assert_eq!(s3.store.uploads_in_progress("plain").unwrap(), 1);
    let first = s3.part("/plain/whole", &upload, 1, &one).await;
    let target = format!("/plain/whole?partNumber=7&uploadId={upload}");
    let last = two.len() - 2;
    let range = format!("bytes=1-{last}");
    let source = etag_of(&two);
    let copied = s3
        .put(
            &target,
            &[
                ("x-amz-copy-source", "plain/source"),
                ("x-amz-copy-source-range", &range),
                ("x-amz-copy-source-if-match", &source),
            ],
            b"",
        )
        .await;
    let copied_etag = copied.element("ETag").replace("&quot;", "\"");
    assert_eq!(copied_etag, etag_of(&two[1..=last]));
    let third = s3.part("/plain/whole", &upload, 10_000, b"end").await;
    let parts = [
        (1, first.header("etag")),
        (7, &copied_etag),
        (10_000, third.header("etag")),
    ];
    let size = (one.len() + last + 3).to_string();
    let wrong = s3
        .complete(
            "/plain/whole",
            &upload,
            &parts,
            &[("x-amz-mp-object-size", "1")],
        )
        .await;
    assert_eq!(refusal(&wrong), refused(400, "InvalidRequest"));
    let headers = [
        ("x-amz-mp-object-size", size.as_str()),
        ("if-none-match", "*"),
    ];
    let done = s3.complete("/plain/whole", &upload, &parts, &headers).await;
    assert_eq!(done.status, 200, "{}", String::from_utf8_lossy(&done.body));
    let pieces = [one.as_slice(), &two[1..=last], b"end"];
    let md5s: Vec<_> = pieces
        .iter()
        .map(|piece| digests(piece, None).md5)
        .collect();
    let etag = format!("\"{}-3\"", hex(&digests(&md5s.concat(), None).md5));
    assert_eq!(done.element("ETag").replace("&quot;", "\""), etag);
    assert!(s3.store.get("plain", "whole").unwrap() == pieces.concat());
    let part = s3.get("/plain/whole?partNumber=3", &[]).await;
    assert_eq!((part.status, part.body.as_slice()), (206, &b"end"[..]));
    assert_eq!(part.header("x-amz-mp-parts-count"), "3");
    assert_eq!(part.header("x-amz-meta-a"), "1");
    assert_eq!(s3.store.uploads_in_progress("plain").unwrap(), 0);
    let again = s3.complete("/plain/whole", &upload, &parts, &[]).await;
    assert_eq!(refusal(&again), refused(404, "NoSuchUpload"));
    // The copy of it is one piece again, with an ETag of its own.
    s3.put("/plain/copy", &[("x-amz-copy-source", "plain/whole")], b"")
        .await;
    assert_eq!(
        s3.get("/plain/copy", &[]).await.header("etag"),
        etag_of(&pieces.concat())
    );
}

#[tokio::test]
async fn err_parts_against_the_rules() {
    let s3 = Served::new().await;
    s3.put("/plain/small", &[], b"0123456789").await;
    s3.put("/plain/taken", &[], b"x").await;
    let upload = s3.create_upload("/plain/taken", &[]).await;
    for number in [0, 10_001, -1] {
        let part = s3.part("/plain/taken", &upload, number, b"x").await;
        assert_eq!(refusal(&part), refused(400, "InvalidArgument"), "{number}");
    }
    let one = s3.part("/plain/taken", &upload, 1, b"short").await;
    let two = s3.part("/plain/taken", &upload, 2, b"last").await;
    let (one, two) = (one.header("etag"), two.header("etag"));
    for (parts, expected) in [
        (&[][..], "MalformedXML"),
        (&[(2, two), (1, one)], "InvalidPartOrder"),
        (&[(1, one), (1, one)], "InvalidPartOrder"),
        (&[(1, one), (3, two)], "InvalidPart"),
        (&[(1, two), (2, two)], "InvalidPart"),
        (&[(1, one), (2, two)], "EntityTooSmall"),
    ] {
        let done = s3.complete("/plain/taken", &upload, parts, &[]).await;
        assert_eq!(refusal(&done), refused(400, expected), "{parts:?}");
    }
    for (headers, expected) in [
        ([("if-none-match", "*")], refused(412, "PreconditionFailed")),
        ([("if-match", "\"0\"")], refused(412, "PreconditionFailed")),
    ] {
        let done = s3
            .complete("/plain/taken", &upload, &[(1, one)], &headers)
            .await;
        assert_eq!(refusal(&done), expected, "{headers:?}");
    }
    let target = format!("/plain/taken?partNumber=3&uploadId={upload}");
    let ranged = [
        ("x-amz-copy-source", "plain/small"),
        ("x-amz-copy-source-range", "bytes=0-4"),
    ];
    assert_eq!(
        refusal(&s3.put(&target, &ranged, b"").await),
        refused(400, "InvalidRequest")
    );
    let past = [
        ("x-amz-copy-source", "plain/small"),
        ("x-amz-copy-source-range", "bytes=0-10"),
    ];
    assert_eq!(
        refusal(&s3.put(&target, &past, b"").await),
        refused(400, "InvalidArgument")
    );
    let elsewhere = s3.part("/plain/other", &upload, 1, b"x").await;
    assert_eq!(refusal(&elsewhere), refused(404, "NoSuchUpload"));
    let abort = format!("/plain/taken?uploadId={upload}");
    assert_eq!(s3.ask("DELETE", &abort, &[], b"").await.status, 204);
    assert_eq!(
        refusal(&s3.ask("DELETE", &abort, &[], b"").await),
        refused(404, "NoSuchUpload")
    );
    assert_eq!(
        refusal(&s3.part("/plain/taken", &upload, 1, b"x").await),
        refused(404, "NoSuchUpload")
    );
    assert_eq!(s3.store.get("plain", "taken").unwrap(), "x");
}

#[tokio::test]
async fn err_completions_at_the_same_time() {
    let s3 = Served::new().await;
    let store = &s3.store;
    let completion = || uploads::Completion {
        condition: object::Condition::Absent,
        object_size: None,
        checksum: None,
        kind: None,
    };
    let assembled = |id: &str, data: &[u8]| {
        let mut spool = store.spool(Wanted::default());
        spool.write(data).unwrap();
        let (blob, digests) = spool.finish();
        let part = uploads::Part::new(blob, digests);
        let named = uploads::Named {
            number: 1,
            etag: Some(part.etag()),
            ..uploads::Named::default()
        };
        store.put_part("plain", "key", id, 1, part).unwrap();
        store.assemble("plain", "key", id, &[named], completion())
    };
    let create = || {
        store
            .create_upload("plain", "key", Attributes::default(), None)
            .unwrap()
    };
    let (first, second) = (create(), create());
    let one = assembled(&first, b"1").unwrap();
    let two = assembled(&second, b"2").unwrap_err();
    assert!(matches!(two, StoreError::ConditionalRequestConflict));
    assert!(matches!(
        store.upload("plain", "key", &second),
        Err(StoreError::NoSuchUpload)
    ));
    store.finish_upload(one, None).unwrap();
    assert!(matches!(
        assembled(&create(), b"3"),
        Err(StoreError::PreconditionFailed(_))
    ));
    assert_eq!(store.get("plain", "key").unwrap(), "1");
}

#[tokio::test]
async fn err_parts_without_the_promised_checksum() {
    let s3 = Served::new().await;
    let upload = s3
        .create_upload("/plain/key", &[("x-amz-checksum-algorithm", "CRC32")])
        .await;
    let bare = s3.part("/plain/key", &upload, 1, b"part").await;
    assert_eq!(refusal(&bare), refused(400, "InvalidRequest"));
    let crc = sum(Algorithm::Crc32, b"part");
    let target = format!("/plain/key?partNumber=1&uploadId={upload}");
    let part = s3
        .put(&target, &[("x-amz-checksum-crc32", &crc)], b"part")
        .await;
    let etag = part.header("etag");
    let bare = s3.complete("/plain/key", &upload, &[(1, etag)], &[]).await;
    assert_eq!(refusal(&bare), refused(400, "InvalidRequest"));
    let body = |crc: &str| {
        format!(
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag><ChecksumCRC32>{crc}</ChecksumCRC32></Part></CompleteMultipartUpload>"
        )
    };
    let target = format!("/plain/key?uploadId={upload}");
    let wrong = s3
        .ask("POST", &target, &[], body("AAAAAA==").as_bytes())
        .await;
    assert_eq!(refusal(&wrong), refused(400, "InvalidPart"));
    let done = s3.ask("POST", &target, &[], body(&crc).as_bytes()).await;
    let raw = digests(b"part", Some(Algorithm::Crc32)).checksum.unwrap();
    assert_eq!(
        done.element("ChecksumCRC32"),
        format!("{}-1", sum(Algorithm::Crc32, &raw))
    );
}

#[tokio::test]
async fn ok_lists_in_pages_and_encoded() {
    let s3 = Served::new().await;
    for key in ["a/1", "a/2", "b%20c", "d%2Be"] {
        s3.put(&format!("/plain/{key}"), &[], b"x").await;
    }
    let page = s3
        .get(
            "/plain?list-type=2&delimiter=%2F&max-keys=2&encoding-type=url",
            &[],
        )
        .await;
    assert_eq!(
        (page.element("KeyCount"), page.element("IsTruncated")),
        ("2".into(), "true".into())
    );
    assert_eq!(page.element("CommonPrefixes"), "<Prefix>a/");
    assert_eq!(page.element("Key"), "b%20c");
    let token = page.element("NextContinuationToken");
    let rest = format!("/plain?list-type=2&delimiter=%2F&continuation-token={token}");
    let rest = s3.get(&rest, &[]).await;
    assert_eq!(
        (rest.element("Key"), rest.element("IsTruncated")),
        ("d+e".into(), "false".into())
    );
    let odd = s3
        .get("/plain?list-type=2&continuation-token=zz", &[])
        .await;
    assert_eq!(refusal(&odd), refused(400, "InvalidArgument"));
    let upload = s3.create_upload("/plain/up", &[]).await;
    assert_eq!(
        s3.get("/plain?uploads", &[]).await.element("UploadId"),
        upload
    );
    s3.part("/plain/up", &upload, 3, b"12345").await;
    let parts = s3.get(&format!("/plain/up?uploadId={upload}"), &[]).await;
    assert_eq!(
        (parts.element("PartNumber"), parts.element("Size")),
        ("3".into(), "5".into())
    );
}

#[tokio::test]
async fn ok_any_credentials_and_none() {
    let s3 = Served::new().await;
    let v4 = "AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00";
    assert_eq!(
        s3.put("/plain/key", &[("authorization", v4)], b"x")
            .await
            .status,
        200
    );
    let presigned = |date: &str, seconds: u32| {
        format!(
            "/plain/key?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=any&X-Amz-Date={date}&X-Amz-Expires={seconds}&X-Amz-SignedHeaders=host&X-Amz-Signature=00&x-id=GetObject"
        )
    };
    let now = jiff::Timestamp::now()
        .strftime("%Y%m%dT%H%M%SZ")
        .to_string();
    assert_eq!(s3.get(&presigned(&now, 60), &[]).await.body, b"x");
    let expired = s3.get(&presigned("20200101T000000Z", 60), &[]).await;
    assert_eq!(refusal(&expired), refused(403, "AccessDenied"));
    let by_host = s3.get("/key", &[("host", "plain.s3.localhost:9000")]).await;
    assert_eq!(by_host.body, b"x");
}

#[tokio::test]
async fn ok_sinks_hear_of_each_new_object() {
    let s3 = Served::new().await;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&heard);
    s3.store.observe(Arc::new(move |event| {
        sink.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(event);
    }));
    let put = s3.put("/kept/a%20b", &[], b"12345").await;
    s3.put("/kept/a%20b", &[("if-none-match", "*")], b"refused")
        .await;
    s3.put("/plain/copy", &[("x-amz-copy-source", "/kept/a%20b")], b"")
        .await;
    let upload = s3.create_upload("/plain/parts", &[]).await;
    let part = s3.part("/plain/parts", &upload, 1, b"part").await;
    s3.complete("/plain/parts", &upload, &[(1, part.header("etag"))], &[])
        .await;
    s3.ask("DELETE", "/plain/copy", &[], b"").await;
    let form = "--b\r\ncontent-disposition: form-data; name=\"key\"\r\n\r\nform\r\n--b\r\ncontent-disposition: form-data; name=\"file\"\r\n\r\ndata\r\n--b--\r\n";
    let typed = [("content-type", "multipart/form-data; boundary=b")];
    let posted = s3.ask("POST", "/plain", &typed, form.as_bytes()).await;
    assert_eq!(
        posted.status,
        204,
        "{}",
        String::from_utf8_lossy(&posted.body)
    );
    let heard = heard.lock().unwrap().clone();
    let seen: Vec<_> = heard
        .iter()
        .map(|event| (event.reason, event.key.as_str(), event.size))
        .collect();
    assert_eq!(
        seen,
        [
            ("PutObject", "a b", 5),
            ("CopyObject", "copy", 5),
            ("CompleteMultipartUpload", "parts", 4),
            ("POST Object", "form", 4),
        ]
    );
    let first = heard.first().unwrap();
    assert_eq!(
        first.version_id.as_deref(),
        Some(put.header("x-amz-version-id"))
    );
    assert_eq!(format!("\"{}\"", first.etag), put.header("etag"));
    assert_eq!(heard.get(1).unwrap().version_id, None);
    let sequencers: Vec<_> = heard.iter().map(|event| event.sequencer.clone()).collect();
    assert!(
        sequencers
            .windows(2)
            .all(|two| two[0] < two[1] && two[0].len() == two[1].len())
    );
}

#[tokio::test]
async fn ok_faults_are_answered_in_s3_s_way() {
    let s3 = Served::new().await;
    let puts = || {
        Match::any()
            .service(faults::Service::S3)
            .operation("PutObject")
    };
    s3.faults.on(
        puts().nth(Nth::Number(1)),
        Fault::throttle(faults::Service::S3),
    );
    s3.faults.on(puts().nth(Nth::Number(2)), Fault::LoseAnswer);
    let store = Arc::clone(&s3.store);
    let overtake = Fault::call(Moment::Before, move |_| {
        let written = store.put("plain", "race", "other", Attributes::default());
        async move {
            written.unwrap();
            Then::Proceed
        }
    });
    s3.faults.on(puts().path_with("/race"), overtake);
    let slow = s3.put("/plain/key", &[], b"1").await;
    assert_eq!(refusal(&slow), refused(503, "SlowDown"));
    assert!(s3.store.keys("plain", "").unwrap().is_empty());
    assert!(
        send(s3.address, "PUT", "/plain/key", &[], b"2")
            .await
            .is_none()
    );
    assert_eq!(s3.store.get("plain", "key").unwrap(), "2");
    let lost = s3.put("/plain/race", &[("if-none-match", "*")], b"3").await;
    assert_eq!(refusal(&lost), refused(412, "PreconditionFailed"));
    let log: BTreeMap<_, _> = s3
        .faults
        .log()
        .into_iter()
        .map(|entry| (entry.n, entry))
        .collect();
    assert_eq!(
        log.values().map(|entry| entry.status).collect::<Vec<_>>(),
        [Some(503), None, Some(412)]
    );
}

#[tokio::test]
async fn ok_a_client_that_goes_away_leaves_nothing() {
    use tokio::io::AsyncWriteExt;
    let s3 = Served::new().await;
    let mut stream = tokio::net::TcpStream::connect(s3.address).await.unwrap();
    let head = "PUT /plain/key HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf";
    stream.write_all(head.as_bytes()).await.unwrap();
    while s3.faults.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(stream);
    while s3
        .faults
        .log()
        .first()
        .is_some_and(|entry| entry.status.is_none())
    {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(s3.store.keys("plain", "").unwrap().is_empty());
}

#[tokio::test]
async fn err_requests_signed_for_another_region() {
    let s3 = Served::new().await;
    let far = "eu-central-1";
    s3.store.create_bucket_in("far", Some(far)).unwrap();
    let signed = |region: &str| {
        format!(
            "AWS4-HMAC-SHA256 Credential=any/20260101/{region}/s3/aws4_request, SignedHeaders=host, Signature=00"
        )
    };
    let [global, wrong, right] = ["us-east-1", "eu-west-1", far].map(signed);
    let body = vec![7; 3 << 20];
    let put = async |signature: &str| {
        let headers = [("authorization", signature)];
        s3.put("/far/key", &headers, &body).await
    };
    // The endpoint of another region does not have the bucket; that of us-east-1 passes the request on.
    let moved = put(&wrong).await;
    assert_eq!(refusal(&moved), refused(301, "PermanentRedirect"));
    assert_eq!(moved.header("x-amz-bucket-region"), far);
    assert_eq!(
        moved.element("Endpoint"),
        "far.s3.eu-central-1.amazonaws.com"
    );
    let malformed = put(&global).await;
    assert_eq!(
        refusal(&malformed),
        refused(400, "AuthorizationHeaderMalformed")
    );
    assert_eq!(malformed.header("x-amz-bucket-region"), far);
    assert_eq!(malformed.element("Region"), far);
    assert!(s3.store.keys("far", "").unwrap().is_empty());
    assert_eq!(put(&right).await.status, 200);

    // HEAD has no body, so that the header alone tells.
    for (signature, status) in [(&wrong, 301), (&global, 400), (&right, 200)] {
        for target in ["/far/key", "/far"] {
            let headers = [("authorization", signature.as_str())];
            let head = s3.ask("HEAD", target, &headers, b"").await;
            assert_eq!((head.status, head.body.len()), (status, 0), "{target}");
            if status != 200 {
                assert_eq!(head.header("x-amz-bucket-region"), far, "{target}");
            }
        }
    }
    let presigned = "/far/key?X-Amz-Credential=any%2F20260101%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Signature=00";
    assert_eq!(
        refusal(&s3.get(presigned, &[]).await),
        refused(400, "AuthorizationQueryParametersError")
    );

    // A bucket that is nowhere is in no other region; where one is can be asked in us-east-1.
    let nowhere = s3.get("/nowhere/key", &[("authorization", &wrong)]).await;
    assert_eq!(refusal(&nowhere), refused(404, "NoSuchBucket"));
    let location = s3.get("/far?location", &[("authorization", &global)]).await;
    assert_eq!(
        location.element("LocationConstraint xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""),
        far
    );

    // A bucket is made where the request says; a copy may come from another region.
    let constraint = b"<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>";
    let headers = [("authorization", wrong.as_str())];
    assert_eq!(s3.put("/near", &headers, constraint).await.status, 200);
    assert_eq!(
        s3.store.region("near").unwrap().as_deref(),
        Some("eu-west-1")
    );
    let copy = [
        ("authorization", wrong.as_str()),
        ("x-amz-copy-source", "/far/key"),
    ];
    assert_eq!(s3.put("/near/key", &copy, b"").await.status, 200);
}
