//! S3's two ways to tell of a new object: its own notification and the EventBridge event.
//!
//! Owns their fields, the two encodings of a key and the order of sequencers. Field names differ
//! (`eTag`/`versionId` against `etag`/`version-id`), and so does the key: form-encoded in a
//! notification (S3 user guide, "Event message structure"), raw in an EventBridge event.

use std::cmp::Ordering;

use serde_json::Value;

use super::{Notice, Reason, StagedArtifact, parsed, required, shortened, text};
use crate::object::{ETag, ObjectKey};

/// One element of `Records` with an `s3` field.
pub(super) fn read_notification(record: &Value) -> Notice {
    const EVENT: &str = "s3 notification";
    let name = match required(record, "/eventName", EVENT) {
        // Some emulators keep the prefix that the configuration has.
        Ok(name) => name.strip_prefix("s3:").unwrap_or(name),
        Err(reason) => return Notice::Ignored(reason),
    };
    if !name.starts_with("ObjectCreated:") {
        return Notice::Ignored(Reason::OtherObjectEvent {
            name: shortened(name),
        });
    }
    let read = || -> Result<StagedArtifact, Reason> {
        let encoded = required(record, "/s3/object/key", EVENT)?;
        let key = decode(encoded, Encoding::Form)
            .ok_or_else(|| {
                let key = shortened(encoded);
                Reason::unreadable(EVENT, format_args!("key `{key}` does not decode to UTF-8"))
            })?
            .parse::<ObjectKey>()
            .map_err(|error| Reason::unreadable(EVENT, error))?;
        Ok(StagedArtifact {
            bucket: parsed(record, "/s3/bucket/name", EVENT)?,
            keys: vec![key],
            version_id: text(record, "/s3/object/versionId").and_then(|id| id.parse().ok()),
            etag: text(record, "/s3/object/eTag").map(ETag::from),
            size: size(record, "/s3/object/size"),
            sequencer: text(record, "/s3/object/sequencer").map(str::to_owned),
            event_name: Some(name.to_owned()),
            time: text(record, "/eventTime").map(str::to_owned),
        })
    };
    read().map_or_else(Notice::Ignored, Notice::Staged)
}

/// An EventBridge event with the detail type `Object Created`.
pub(super) fn read_object_created(event: &Value) -> Notice {
    const EVENT: &str = "s3 event `Object Created`";
    let read = || -> Result<StagedArtifact, Reason> {
        let raw = required(event, "/detail/object/key", EVENT)?;
        let mut keys: Vec<ObjectKey> = vec![
            raw.parse()
                .map_err(|error| Reason::unreadable(EVENT, error))?,
        ];
        keys.extend(
            decode(raw, Encoding::Percent)
                .filter(|decoded| decoded != raw)
                .and_then(|decoded| decoded.parse().ok()),
        );
        Ok(StagedArtifact {
            bucket: parsed(event, "/detail/bucket/name", EVENT)?,
            keys,
            version_id: text(event, "/detail/object/version-id").and_then(|id| id.parse().ok()),
            etag: text(event, "/detail/object/etag").map(ETag::from),
            size: size(event, "/detail/object/size"),
            sequencer: text(event, "/detail/object/sequencer").map(str::to_owned),
            event_name: text(event, "/detail/reason").map(str::to_owned),
            time: text(event, "/time").map(str::to_owned),
        })
    };
    read().map_or_else(Notice::Ignored, Notice::Staged)
}

/// Orders two sequencers of the *same* key: the greater one is the later event.
///
/// They are hexadecimal and may differ in length; S3 has the shorter one padded with zeros on the
/// right before they are compared as text (S3 user guide, "Event message structure").
///
/// ```
/// use std::cmp::Ordering;
/// use stagedrop::intake::compare_sequencers;
///
/// assert_eq!(compare_sequencers("0055AED6DCD90281E5", "0055AED6DCD90281E501"), Ordering::Less);
/// assert_eq!(compare_sequencers("0055AE", "0055AE00"), Ordering::Equal);
/// ```
pub fn compare_sequencers(left: &str, right: &str) -> Ordering {
    let length = left.len().max(right.len());
    let padded = |text: &str| -> Vec<u8> {
        let digits = text.bytes().map(|digit| digit.to_ascii_uppercase());
        digits.chain(std::iter::repeat(b'0')).take(length).collect()
    };
    padded(left).cmp(&padded(right))
}

/// How a key is written in an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    /// `%XX`.
    Percent,
    /// `%XX`, and `+` for a space.
    Form,
}

/// The decoded key, or `None` where the bytes are not UTF-8. A `%` that no two hexadecimal digits
/// follow stands for itself.
fn decode(encoded: &str, encoding: Encoding) -> Option<String> {
    let mut bytes = encoded.bytes();
    let mut decoded = Vec::with_capacity(encoded.len());
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' if encoding == Encoding::Form => decoded.push(b' '),
            b'%' => {
                let mut ahead = bytes.clone();
                match (
                    ahead.next().and_then(hex_digit),
                    ahead.next().and_then(hex_digit),
                ) {
                    (Some(high), Some(low)) => {
                        decoded.push(high << 4 | low);
                        bytes = ahead;
                    }
                    _ => decoded.push(b'%'),
                }
            }
            other => decoded.push(other),
        }
    }
    String::from_utf8(decoded).ok()
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// A size; some senders write it as text.
fn size(event: &Value, pointer: &str) -> Option<u64> {
    let value = event.pointer(pointer)?;
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The other direction, written for itself: what S3 does to a key in a notification.
    fn form_encode(key: &str) -> String {
        key.bytes()
            .map(|byte| match byte {
                b' ' => "+".to_owned(),
                b'/' | b'-' | b'_' | b'.' | b'*' => char::from(byte).to_string(),
                _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
                _ => format!("%{byte:02X}"),
            })
            .collect()
    }

    proptest! {
        #[test]
        fn ok_form_decoding_undoes_the_encoding(key in any::<String>()) {
            prop_assert_eq!(decode(&form_encode(&key), Encoding::Form), Some(key));
        }

        #[test]
        fn ok_percent_decoding_keeps_what_is_not_encoded(key in "[^%]*") {
            prop_assert_eq!(decode(&key, Encoding::Percent), Some(key));
        }

        #[test]
        fn ok_sequencers_are_totally_ordered(
            a in "[0-9A-F]{0,6}", b in "[0-9A-F]{0,6}", c in "[0-9A-F]{0,6}",
        ) {
            prop_assert_eq!(compare_sequencers(&a, &b), compare_sequencers(&b, &a).reverse());
            if compare_sequencers(&a, &b).is_le() && compare_sequencers(&b, &c).is_le() {
                prop_assert!(compare_sequencers(&a, &c).is_le());
            }
            // As fractions: what right-padding means.
            let fraction = |text: &str| u32::from_str_radix(&format!("{text:0<6}"), 16).unwrap();
            prop_assert_eq!(compare_sequencers(&a, &b), fraction(&a).cmp(&fraction(&b)));
        }
    }

    #[test]
    fn ok_stray_percent_signs_stand_for_themselves() {
        assert_eq!(decode("100%", Encoding::Form).as_deref(), Some("100%"));
        assert_eq!(
            decode("%%41%zz%4", Encoding::Form).as_deref(),
            Some("%A%zz%4")
        );
        assert_eq!(decode("a+b", Encoding::Percent).as_deref(), Some("a+b"));
    }

    #[test]
    fn err_keys_that_are_not_utf8_have_no_decoding() {
        assert_eq!(decode("%FF%FE", Encoding::Form), None);
    }
}
