//! The key that encrypts the buckets' objects, and the right to use it.

use std::str::FromStr;

use serde_json::{Value, json};

/// Characters of a part of a key's ARN, far above any that AWS has.
const KEY_WORD_BYTES_MAX: usize = 128;

/// The ARN of a KMS key (of the key itself: IAM compares no alias).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KmsKeyArn(String);

/// A text that is no ARN of a KMS key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the ARN of a KMS key, expected arn:aws:kms:<region>:<account>:key/<id>")]
pub struct InvalidKmsKeyArn(String);

impl FromStr for KmsKeyArn {
    type Err = InvalidKmsKeyArn;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_word = |text: &str| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            !text.is_empty() && text.len() <= KEY_WORD_BYTES_MAX && text.bytes().all(fits)
        };
        let is_account =
            |text: &str| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        match parts.as_slice() {
            ["arn", partition, "kms", region, account, key]
                if partition.starts_with("aws")
                    && is_word(partition)
                    && is_word(region)
                    && is_account(account)
                    && key.strip_prefix("key/").is_some_and(is_word) =>
            {
                Ok(Self(text.to_owned()))
            }
            _ => Err(InvalidKmsKeyArn(text.to_owned())),
        }
    }
}

impl KmsKeyArn {
    /// The statement that the template adds where the buckets' objects are encrypted with a key of one's own.
    pub(super) fn use_through_s3(&self, writes: bool, partition: &str) -> Value {
        let suffix = match partition {
            "aws-cn" => "amazonaws.com.cn",
            _ => "amazonaws.com",
        };
        let action = if writes {
            json!(["kms:Decrypt", "kms:GenerateDataKey"])
        } else {
            json!("kms:Decrypt")
        };
        json!({
            "Sid": "UseKeyThroughS3",
            "Effect": "Allow",
            "Action": action,
            "Resource": self.0,
            "Condition": { "StringLike": { "kms:ViaService": format!("s3.*.{suffix}") } },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn err_what_is_no_key() {
        let good = "arn:aws-us-gov:kms:us-gov-west-1:123456789012:key/mrk-0a1b2c3d";
        assert!(good.parse::<KmsKeyArn>().is_ok());
        for text in [
            "",
            "alias/mine",
            "arn:aws:kms:us-east-1:123456789012:alias/mine",
            "arn:aws:kms:us-east-1:1234:key/0a1b",
            "arn:aws:s3:us-east-1:123456789012:key/0a1b",
            "arn:aws:kms:us-east-1:123456789012:key/*",
            "arn:aws:kms:us-east-1:123456789012:key/",
        ] {
            let error = text.parse::<KmsKeyArn>().unwrap_err();
            assert!(error.to_string().starts_with(&format!("`{text}` is not")));
        }
    }
}
