//! S3's nouns: where bytes lie and which bytes exactly.
//!
//! Owns names of buckets, keys, versions and ETags, half-open byte ranges, and the pinned
//! [`SourceObject`]. Knows nothing of requests; the inclusive `Range:` form of HTTP exists only
//! where the SDK is called.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A half-open range of bytes, `start..end`, in an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ByteRange {
    /// First byte in the range.
    pub start: u64,
    /// First byte after the range; never less than `start`.
    pub end: u64,
}

impl ByteRange {
    /// `start..end`; an `end` before `start` gives the empty range at `start`.
    pub fn new(start: u64, end: u64) -> Self {
        Self {
            start,
            end: end.max(start),
        }
    }

    /// The range of `length` bytes at `start`, or `None` where its end would pass `u64::MAX`.
    pub fn at(start: u64, length: u64) -> Option<Self> {
        Some(Self {
            start,
            end: start.checked_add(length)?,
        })
    }

    /// Length in bytes.
    pub fn length(&self) -> u64 {
        self.end - self.start
    }

    /// Whether the range holds no byte.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether `other` lies wholly inside.
    pub fn contains(&self, other: &ByteRange) -> bool {
        self.start <= other.start && other.end <= self.end
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

/// A name that S3 or CodeDeploy would refuse, with the rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{noun} `{text}` is not valid: {rule}")]
pub struct InvalidName {
    /// What the text was to name.
    pub noun: &'static str,
    /// The text as given, cut to a readable length.
    pub text: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

impl InvalidName {
    pub(crate) fn new(noun: &'static str, text: &str, rule: &'static str) -> Self {
        Self {
            noun,
            text: text.chars().take(120).collect(),
            rule,
        }
    }
}

/// Declares a text newtype whose every value satisfies `$valid`.
macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident, $noun:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::object::InvalidName;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err($crate::object::InvalidName::new($noun, text, $rule))
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::object::InvalidName;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
pub(crate) use checked_name;

checked_name!(
    /// A bucket's name (S3 user guide, "Bucket naming rules").
    BucketName,
    "bucket name",
    "3 to 63 of a-z, 0-9, `.` and `-`, beginning and ending with a letter or digit",
    |text| {
        let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let bytes = text.as_bytes();
        (3..=63).contains(&bytes.len())
            && edge(bytes.first())
            && edge(bytes.last())
            && bytes.iter().all(|b| edge(Some(b)) || *b == b'.' || *b == b'-')
            && !text.contains("..")
    }
);

checked_name!(
    /// An object's key: 1 to 1,024 bytes of UTF-8.
    ObjectKey,
    "object key",
    "1 to 1024 bytes",
    |text| (1..=1024).contains(&text.len())
);

checked_name!(
    /// A version id as S3 gave it; opaque.
    VersionId,
    "version id",
    "1 to 1024 bytes",
    |text| (1..=1024).contains(&text.len())
);

/// An ETag without its quotes; opaque (MD5 only for single-part unencrypted uploads).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct ETag(String);

impl ETag {
    /// The ETag without quotes, as CodeDeploy wants it.
    pub fn unquoted(&self) -> &str {
        &self.0
    }

    /// The ETag in quotes, as HTTP's `If-Match` wants it.
    pub fn quoted(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

impl From<String> for ETag {
    fn from(text: String) -> Self {
        Self(text.trim_matches('"').to_owned())
    }
}

impl From<&str> for ETag {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl From<ETag> for String {
    fn from(etag: ETag) -> String {
        etag.0
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One object's exact bytes: every read carries `If-Match`, every copy `x-amz-copy-source-if-match`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceObject {
    /// Bucket.
    pub bucket: BucketName,
    /// Key, as S3 stores it.
    pub key: ObjectKey,
    /// Version, where the bucket has versioning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_id: Option<VersionId>,
    /// ETag.
    pub etag: ETag,
    /// Size in bytes.
    pub size: u64,
}

/// `s3://bucket/prefix/`: a place for objects. The prefix is empty or ends with `/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct S3Prefix {
    /// Bucket.
    pub bucket: BucketName,
    /// Empty, or ending with `/`.
    pub prefix: String,
}

impl S3Prefix {
    /// The key of `name` under the prefix.
    ///
    /// # Errors
    /// Where the key would be longer than S3 allows.
    pub fn key(&self, name: &str) -> Result<ObjectKey, InvalidName> {
        format!("{}{name}", self.prefix).parse()
    }
}

impl FromStr for S3Prefix {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rule = "expected s3://bucket/prefix/";
        let Some(rest) = text.strip_prefix("s3://") else {
            return Err(InvalidName::new("S3 location", text, rule));
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let mut prefix = prefix.to_owned();
        if !prefix.is_empty() && !prefix.ends_with('/') {
            prefix.push('/');
        }
        if prefix.starts_with('/') || prefix.contains("//") {
            return Err(InvalidName::new(
                "S3 location",
                text,
                "the prefix has an empty folder name (`//`)",
            ));
        }
        Ok(Self {
            bucket: bucket.parse()?,
            prefix,
        })
    }
}

impl fmt::Display for S3Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ok_prefixes_end_with_a_slash() {
        let prefix: S3Prefix = "s3://my-bucket/records".parse().unwrap();
        assert_eq!(prefix.prefix, "records/");
        assert_eq!("s3://my-bucket".parse::<S3Prefix>().unwrap().prefix, "");
        assert_eq!(prefix.key("a.json").unwrap().as_str(), "records/a.json");
    }

    #[test]
    fn err_prefixes_name_the_rule() {
        let error = "bucket/records/".parse::<S3Prefix>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "S3 location `bucket/records/` is not valid: expected s3://bucket/prefix/"
        );
        assert!("s3://UPPER/x/".parse::<S3Prefix>().is_err());
    }

    #[test]
    fn ok_etags_lose_and_regain_their_quotes() {
        let etag = ETag::from("\"abc-2\"");
        assert_eq!(
            (etag.unquoted(), etag.quoted().as_str()),
            ("abc-2", "\"abc-2\"")
        );
    }
}
