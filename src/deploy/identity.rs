//! What the revision's object says of itself: the build, and what tells its bytes from any others.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::archive::{ArchiveFormat, Index};
use crate::contents::KeptEntry;
use crate::object::BucketName;
use crate::records::drop::Drop;

/// Metadata that tells the revision's bytes apart from any others.
pub(super) const FINGERPRINT_METADATA: &str = "stagedrop-fingerprint";
/// Metadata that names the artifact.
const SOURCE_METADATA: &str = "stagedrop-source";
/// Bytes of user metadata that S3 takes in all, with some room left.
const METADATA_BYTES_MAX: usize = 1_900;

/// User metadata of the revision: the build, and what tells its bytes. Values that would pass S3's
/// limit in all are left out, the least needed ones first to go.
pub(super) fn metadata(
    drop: &Drop,
    bucket: &BucketName,
    fingerprint: &str,
) -> BTreeMap<String, String> {
    let build = &drop.build;
    let source = format!(
        "s3://{}/{}",
        drop.artifact.object.bucket, drop.artifact.object.key
    );
    let mut left = METADATA_BYTES_MAX.saturating_sub(bucket.as_str().len());
    let values = [
        (FINGERPRINT_METADATA, Some(fingerprint)),
        ("commit", build.commit.as_deref()),
        ("build-num", build.build_num.as_deref()),
        ("branch", build.branch.as_deref()),
        ("tag", build.tag.as_deref()),
        ("repository", build.repository.as_deref()),
        ("author", build.author.as_deref()),
        ("build-url", build.build_url.as_deref()),
        (SOURCE_METADATA, Some(&source)),
    ];
    let mut metadata = BTreeMap::new();
    for (name, value) in values {
        let Some(value) = value.map(header_text) else {
            continue;
        };
        if let Some(rest) = left.checked_sub(name.len() + value.len()) {
            left = rest;
            metadata.insert(name.to_owned(), value);
        }
    }
    metadata
}

/// A value as HTTP headers take it: printable ASCII as it is, anything else percent-encoded.
fn header_text(value: &str) -> String {
    value
        .bytes()
        .fold(String::with_capacity(value.len()), |mut text, byte| {
            if (byte.is_ascii_graphic() || byte == b' ') && byte != b'%' {
                text.push(char::from(byte));
            } else {
                text.push_str(&format!("%{byte:02X}"));
            }
            text
        })
}

pub(super) fn digest(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// What decides the bytes of a transcoded revision: source, kept entries with their names, format.
pub(super) fn transcode_fingerprint(
    etag: &str,
    index: &Index,
    kept: &[KeptEntry],
    format: ArchiveFormat,
) -> String {
    let mut hash = Sha256::new();
    let mut field = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    field(b"stagedrop transcode 2");
    field(etag.as_bytes());
    field(format!("{format:?}").as_bytes());
    for entry in kept {
        field(&entry.index.to_be_bytes());
        if let Some(source) = index.entry(entry.index as usize) {
            field(entry.name(&source));
        }
    }
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
