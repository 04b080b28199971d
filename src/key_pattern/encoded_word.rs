//! Metadata values outside US-ASCII, as MIME encoded words (RFC 2047): `=?UTF-8?Q?Jos=C3=A9?=`.
//!
//! HTTP headers are ASCII. S3 answers other metadata in this form ("Working with object metadata", S3 user
//! guide), and who wants to send such a value can write the form himself. Only UTF-8 words are read; whatever
//! is not one stands for itself.

use std::borrow::Cow;

use base64_simd::STANDARD;

const START: &str = "=?UTF-8?";
const END: &str = "?=";

/// The text of a value that consists of encoded words (blanks between two of them are not text, RFC 2047
/// section 6.2); every other value as it stands.
pub(super) fn decode(value: &str) -> Cow<'_, str> {
    let bytes: Option<Vec<u8>> = value
        .split_ascii_whitespace()
        .map(word)
        .collect::<Option<Vec<_>>>()
        .map(|words| words.concat());
    match bytes.map(String::from_utf8) {
        Some(Ok(text)) if !text.is_empty() => Cow::Owned(text),
        _ => Cow::Borrowed(value),
    }
}

/// A value as user metadata can carry it: itself where it is plain ASCII, else one encoded word. Longer than
/// RFC 2047's 75 characters where need be: headers of HTTP are not folded.
pub fn encode(value: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    if value.bytes().all(plain) && matches!(decode(value), Cow::Borrowed(_)) {
        return Cow::Borrowed(value);
    }
    let mut word = format!("{START}Q?");
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"!*+-/.,:@".contains(&byte) {
            word.push(char::from(byte));
        } else {
            word.push_str(&format!("={byte:02X}"));
        }
    }
    word.push_str(END);
    Cow::Owned(word)
}

fn word(word: &str) -> Option<Vec<u8>> {
    let (start, rest) = word.split_at_checked(START.len())?;
    if !start.eq_ignore_ascii_case(START) {
        return None;
    }
    let (encoding, text) = rest.strip_suffix(END)?.split_once('?')?;
    match encoding {
        "B" | "b" => STANDARD.decode_to_vec(text).ok(),
        "Q" | "q" => quoted(text),
        _ => None,
    }
}

fn quoted(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'_' => b' ',
            b'=' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let value = digit(bytes.next()?)? * 16 + digit(bytes.next()?)?;
                u8::try_from(value).ok()?
            }
            b'?' => return None,
            other => other,
        });
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ok_both_encodings_and_words_in_a_row_are_read() {
        for (value, text) in [
            ("=?UTF-8?Q?Jos=C3=A9_Garc=c3=ada?=", "José García"),
            ("=?utf-8?B?Sm9zw6k=?=", "José"),
            (
                "=?UTF-8?Q?Jos=C3=A9_?= =?UTF-8?B?R2FyY8OtYQ==?=",
                "José García",
            ),
        ] {
            assert_eq!(decode(value), text);
        }
    }

    #[test]
    fn ok_what_is_not_an_encoded_word_stands_for_itself() {
        for value in [
            "Jo",
            "a =?UTF-8?Q?b?=",
            "=?ISO-8859-1?Q?Jos=E9?=",
            "=?UTF-8?Q?Jos=E9?=",
            "=?UTF-8?Q?Jos=C?=",
            "=?UTF-8?B?Sm9zw6k?=",
            "=?UTF-8?X?a?=",
            "=?UTF-8?Q??=",
            "=?UTF-8?",
            "",
            " ",
            "=?\u{fc}",
        ] {
            assert_eq!(decode(value), value);
        }
    }

    proptest! {
        #[test]
        fn ok_what_is_encoded_is_ascii_and_read_back(value in "\\PC{1,40}|=\\?UTF-8\\?Q\\?[a-z=_]{0,6}\\?=") {
            let encoded = encode(&value);
            prop_assert!(encoded.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '));
            prop_assert_eq!(decode(&encoded), value.as_str());
        }
    }
}
