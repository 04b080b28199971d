//! Percent-encoding as S3 uses it: `encoding-type=url` of listings, and tags in a header.

/// Encodes all but unreserved characters and `/`, as listings with `encoding-type=url` do.
pub fn encode_key(key: &str) -> String {
    let mut text = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/' | b'*') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// Decodes a form value, where `+` is a space; `None` where it is malformed or no UTF-8.
pub fn decode_form(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ok_what_is_encoded_decodes(key in any::<String>()) {
            prop_assert_eq!(decode_form(&encode_key(&key)), Some(key));
        }
    }

    #[test]
    fn err_malformed_escapes() {
        assert_eq!(decode_form("a+%2b%20"), Some("a + ".to_owned()));
        for text in ["%", "%1", "%zz", "%ff"] {
            assert_eq!(decode_form(text), None, "{text}");
        }
    }
}
