//! Digests of objects and parts: the ETag's MD5 and S3's additional checksums.
//!
//! Owns the algorithms, their names and encodings, and the composite forms of multipart objects.
//! Knows nothing of requests; which of them a request must carry is decided where objects and
//! parts are written.

use md5::Digest as _;
use s3s::crypto::{Checksum as _, Crc32c, Crc64Nvme, Sha1, Sha256};

/// An algorithm of `x-amz-checksum-…`; those that the SDKs of today can send without more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// CRC-32 (ISO-HDLC), the SDKs' default.
    Crc32,
    /// CRC-32C.
    Crc32c,
    /// CRC-64/NVME, S3's own default where a client sends none.
    Crc64Nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 5] = [
        Self::Crc32,
        Self::Crc32c,
        Self::Crc64Nvme,
        Self::Sha1,
        Self::Sha256,
    ];

    /// The name in `x-amz-checksum-algorithm`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// The header or trailer that carries its value.
    pub fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    /// The algorithm of a name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// How the checksum of a multipart object is made where the client does not say.
    pub fn default_kind(self) -> Kind {
        if self == Self::Crc64Nvme {
            Kind::FullObject
        } else {
            Kind::Composite
        }
    }

    /// Whether S3 takes it with that kind (user guide, "Checking object integrity").
    pub fn allows(self, kind: Kind) -> bool {
        match kind {
            Kind::Composite => self != Self::Crc64Nvme,
            Kind::FullObject => !matches!(self, Self::Sha1 | Self::Sha256),
        }
    }

    /// Bytes of a value before base64.
    fn value_bytes(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// Whether a text can be a value at all: base64 of the right length.
    pub fn takes(self, value: &str) -> bool {
        let plain = value.trim_end_matches('=');
        value.len() == self.value_bytes().div_ceil(3) * 4
            && value.len() - plain.len() == (3 - self.value_bytes() % 3) % 3
            && plain
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
    }
}

/// Over what a multipart object's checksum is taken (`x-amz-checksum-type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Over the object's bytes.
    FullObject,
    /// Over the checksums of its parts.
    Composite,
}

/// A checksum as S3 keeps it with an object or a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Over what it was taken.
    pub kind: Kind,
    /// Base64, with `-N` behind it where it is composite.
    pub value: String,
}

/// What is to be computed besides the MD5.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// The additional checksum.
    pub checksum: Option<Algorithm>,
    /// SHA-256 for `x-amz-content-sha256`.
    pub payload_sha256: bool,
}

enum Running {
    Crc32(crc32fast::Hasher),
    Crc32c(Crc32c),
    Crc64Nvme(Crc64Nvme),
    Sha1(Sha1),
    Sha256(Box<Sha256>),
}

/// Computes all digests of one body in one pass.
pub struct Digester {
    md5: md5::Md5,
    checksum: Option<Running>,
    payload_sha256: Option<Box<Sha256>>,
}

/// The digests of one body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digests {
    /// MD5, the ETag of what was sent in one piece.
    pub md5: [u8; 16],
    /// The additional checksum, raw.
    pub checksum: Option<Vec<u8>>,
    /// SHA-256, lower-case hexadecimal.
    pub payload_sha256: Option<String>,
}

impl Digester {
    /// Starts.
    pub fn new(wanted: Wanted) -> Self {
        Self {
            md5: md5::Md5::new(),
            checksum: wanted.checksum.map(|algorithm| match algorithm {
                Algorithm::Crc32 => Running::Crc32(crc32fast::Hasher::new()),
                Algorithm::Crc32c => Running::Crc32c(Crc32c::new()),
                Algorithm::Crc64Nvme => Running::Crc64Nvme(Crc64Nvme::new()),
                Algorithm::Sha1 => Running::Sha1(Sha1::new()),
                Algorithm::Sha256 => Running::Sha256(Box::default()),
            }),
            payload_sha256: wanted.payload_sha256.then(Box::default),
        }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, data: &[u8]) {
        self.md5.update(data);
        match &mut self.checksum {
            None => {}
            Some(Running::Crc32(hasher)) => hasher.update(data),
            Some(Running::Crc32c(hasher)) => hasher.update(data),
            Some(Running::Crc64Nvme(hasher)) => hasher.update(data),
            Some(Running::Sha1(hasher)) => hasher.update(data),
            Some(Running::Sha256(hasher)) => hasher.update(data),
        }
        if let Some(hasher) = &mut self.payload_sha256 {
            hasher.update(data);
        }
    }

    /// Ends.
    pub fn finish(self) -> Digests {
        Digests {
            md5: self.md5.finalize().into(),
            checksum: self.checksum.map(|running| match running {
                Running::Crc32(hasher) => hasher.finalize().to_be_bytes().to_vec(),
                Running::Crc32c(hasher) => hasher.finalize().to_vec(),
                Running::Crc64Nvme(hasher) => hasher.finalize().to_vec(),
                Running::Sha1(hasher) => hasher.finalize().to_vec(),
                Running::Sha256(hasher) => hasher.finalize().to_vec(),
            }),
            payload_sha256: self.payload_sha256.map(|hasher| hex(&hasher.finalize())),
        }
    }
}

/// The checksum over the checksums of parts, in their order: base64 and `-N`.
pub fn composite<'a>(
    algorithm: Algorithm,
    parts: impl ExactSizeIterator<Item = &'a [u8]>,
) -> String {
    let count = parts.len();
    let mut digester = Digester::new(Wanted {
        checksum: Some(algorithm),
        payload_sha256: false,
    });
    parts.for_each(|part| digester.update(part));
    format!(
        "{}-{count}",
        base64(&digester.finish().checksum.unwrap_or_default())
    )
}

/// The ETag of a multipart object: MD5 over the MD5s of its parts, and `-N`. Without quotes.
pub fn multipart_etag<'a>(parts: impl ExactSizeIterator<Item = &'a [u8; 16]>) -> String {
    let count = parts.len();
    let mut md5 = md5::Md5::new();
    parts.for_each(|part| md5.update(part));
    format!("{}-{count}", hex(&md5.finalize()))
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checksum(algorithm: Algorithm, data: &[u8]) -> String {
        let mut digester = Digester::new(Wanted {
            checksum: Some(algorithm),
            payload_sha256: false,
        });
        digester.update(data);
        base64(&digester.finish().checksum.unwrap())
    }

    #[test]
    fn ok_check_values_of_the_catalogues() {
        // The check value of the CRC catalogue is that of "123456789"; SHA from FIPS 180.
        for (algorithm, data, expected) in [
            (
                Algorithm::Crc32,
                "123456789",
                base64(&0xCBF4_3926_u32.to_be_bytes()),
            ),
            (
                Algorithm::Crc32c,
                "123456789",
                base64(&0xE306_9283_u32.to_be_bytes()),
            ),
            (
                Algorithm::Crc64Nvme,
                "123456789",
                base64(&0xAE8B_1486_0A79_9888_u64.to_be_bytes()),
            ),
            (
                Algorithm::Sha1,
                "abc",
                "qZk+NkcGgWq6PiVxeFDCbJzQ2J0=".to_owned(),
            ),
            (
                Algorithm::Sha256,
                "abc",
                "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=".to_owned(),
            ),
        ] {
            assert_eq!(
                checksum(algorithm, data.as_bytes()),
                expected,
                "{algorithm:?}"
            );
            assert!(algorithm.takes(&expected), "{algorithm:?}");
            assert!(!algorithm.takes(&expected[1..]), "{algorithm:?}");
            assert!(
                !algorithm.takes(&format!("{}!", &expected[1..])),
                "{algorithm:?}"
            );
        }
    }

    #[test]
    fn ok_base64_of_every_remainder() {
        for (data, expected) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ] {
            assert_eq!(base64(data.as_bytes()), expected);
        }
    }

    #[test]
    fn ok_multipart_etag_is_the_md5_of_md5s() {
        // printf %s "$(printf a | md5sum)…": two parts "a" and "b".
        let (a, b): ([u8; 16], [u8; 16]) =
            (md5::Md5::digest("a").into(), md5::Md5::digest("b").into());
        let expected = md5::Md5::digest([a, b].concat());
        assert_eq!(
            multipart_etag([&a, &b].into_iter()),
            format!("{}-2", hex(&expected))
        );
    }
}
