//! One 512-byte header block of a tar, read.
//!
//! ```text
//!   0 name 100 | 100 mode 8 | 108 uid 8 | 116 gid 8 | 124 size 12 | 136 mtime 12 | 148 checksum 8
//! 156 type 1   | 157 link 100 | 257 magic 8 | 265 uname 32 | 297 gname 32 | 329 devices 16 | 345 prefix 155
//! ```
//!
//! Knows nothing of what follows a header: long names, pax records and content are the scanner's.

use super::TarError;

/// Bytes of a block: everything in a tar is padded to it.
pub(crate) const BLOCK: usize = 512;

/// The blocks of `length` bytes of content, in bytes.
pub(crate) fn padded(length: u64) -> Option<u64> {
    length.checked_next_multiple_of(BLOCK as u64)
}

/// A header's fields, borrowed from its block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header<'a> {
    /// ustar's directory part; empty in other dialects, where the bytes mean something else.
    pub prefix: &'a [u8],
    pub name: &'a [u8],
    pub link: &'a [u8],
    pub typeflag: u8,
    pub mode: u16,
    pub uid: u64,
    pub gid: u64,
    pub size: u64,
    pub mtime: i64,
    pub uname: &'a [u8],
    pub gname: &'a [u8],
}

/// Reads the block at `offset`; `None` for a block of zeros.
pub(super) fn parse(block: &[u8; BLOCK], offset: u64) -> Result<Option<Header<'_>>, TarError> {
    if block.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    verify_checksum(block, offset)?;
    let magic = field(block, 257, 6);
    let number = |at, length, name| parse_number(field(block, at, length), offset, name);
    let unsigned = |at, length, name| {
        let value = number(at, length, name)?;
        u64::try_from(value).map_err(|_| bad_number(field(block, at, length), offset, name))
    };
    // GNU's magic is `ustar  `: there, bytes 345.. hold access times.
    let posix = magic == b"ustar\0";
    let mode = unsigned(100, 8, "mode")?;
    Ok(Some(Header {
        prefix: if posix {
            text(field(block, 345, 155))
        } else {
            &[]
        },
        name: text(field(block, 0, 100)),
        link: text(field(block, 157, 100)),
        typeflag: field(block, 156, 1).first().copied().unwrap_or_default(),
        mode: (mode & 0o7777) as u16,
        uid: unsigned(108, 8, "uid")?,
        gid: unsigned(116, 8, "gid")?,
        size: unsigned(124, 12, "size")?,
        mtime: number(136, 12, "mtime")?,
        uname: if magic.starts_with(b"ustar") {
            text(field(block, 265, 32))
        } else {
            &[]
        },
        gname: if magic.starts_with(b"ustar") {
            text(field(block, 297, 32))
        } else {
            &[]
        },
    }))
}

/// The checksum is the sum of all bytes with its own field read as spaces; some old writers summed
/// signed bytes, and GNU tar takes both.
fn verify_checksum(block: &[u8; BLOCK], offset: u64) -> Result<(), TarError> {
    let own = field(block, 148, 8);
    let sum = |value: fn(u8) -> i64| {
        let all: i64 = block.iter().map(|byte| value(*byte)).sum();
        let own: i64 = own.iter().map(|byte| value(*byte)).sum();
        all - own + 8 * i64::from(b' ')
    };
    let expected = sum(i64::from);
    let found = parse_number(own, offset, "checksum").unwrap_or(-1);
    if found == expected || found == sum(|byte| i64::from(byte as i8)) {
        Ok(())
    } else if offset == 0 {
        Err(TarError::NotTar)
    } else {
        Err(TarError::BadChecksum {
            offset,
            expected,
            found,
        })
    }
}

fn field(block: &[u8; BLOCK], at: usize, length: usize) -> &[u8] {
    block.get(at..at + length).unwrap_or_default()
}

/// The bytes before the first NUL.
pub(super) fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number in octal digits (blank means 0), or in base 256 where the first bit is set (GNU).
fn parse_number(bytes: &[u8], offset: u64, name: &'static str) -> Result<i64, TarError> {
    let bad = || bad_number(bytes, offset, name);
    match bytes.first() {
        Some(0x80) | Some(0xff) => {
            // Two's complement over the whole field but its first byte, which only gives the sign.
            let negative = bytes.first() == Some(&0xff);
            let mut value: i64 = if negative { -1 } else { 0 };
            for byte in bytes.iter().skip(1) {
                value = value.checked_mul(256).ok_or_else(bad)?;
                value |= i64::from(*byte);
            }
            Ok(value)
        }
        _ => {
            let digits = bytes.iter().skip_while(|byte| **byte == b' ');
            let mut value: i64 = 0;
            let mut ended = false;
            for byte in digits {
                match byte {
                    b'0'..=b'7' if !ended => {
                        value = value.checked_mul(8).ok_or_else(bad)? | i64::from(byte - b'0');
                    }
                    0 => break,
                    b' ' => ended = true,
                    _ => return Err(bad()),
                }
            }
            Ok(value)
        }
    }
}

fn bad_number(bytes: &[u8], offset: u64, field: &'static str) -> TarError {
    TarError::BadNumber {
        offset,
        field,
        found: bytes.escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(edit: impl FnOnce(&mut [u8; BLOCK])) -> [u8; BLOCK] {
        let mut header = tar::Header::new_ustar();
        header.set_path("bin/run").unwrap();
        header.set_size(7);
        header.set_mode(0o4755);
        header.set_mtime(1_700_000_000);
        let mut block = *header.as_bytes();
        edit(&mut block);
        let mut header = tar::Header::from_byte_slice(&block).clone();
        header.set_cksum();
        *header.as_bytes()
    }

    #[test]
    fn ok_fields_are_read() {
        let block = block(|_| ());
        let header = parse(&block, 0).unwrap().unwrap();
        assert_eq!((header.name, header.prefix), (&b"bin/run"[..], &b""[..]));
        assert_eq!(
            (header.size, header.mode, header.mtime),
            (7, 0o4755, 1_700_000_000)
        );
        assert_eq!(parse(&[0; BLOCK], 0).unwrap(), None);
    }

    #[test]
    fn ok_base_256_numbers_keep_their_sign() {
        let value = |bytes: &[u8]| parse_number(bytes, 0, "mtime").unwrap();
        assert_eq!(value(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]), 258);
        assert_eq!(value(&[0xff; 12]), -1);
        assert_eq!(
            value(&[
                0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0
            ]),
            -65536
        );
        assert_eq!(
            value(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"),
            i64::MAX
        );
    }

    #[test]
    fn ok_octal_numbers_may_be_blank_or_unterminated() {
        let value = |bytes: &[u8]| parse_number(bytes, 0, "size").unwrap();
        assert_eq!(value(b"        "), 0);
        assert_eq!(value(b"\0\0\0\0\0\0\0\0"), 0);
        assert_eq!(value(b"77777777"), 0o77777777);
        assert_eq!(value(b"  755 \0"), 0o755);
    }

    #[test]
    fn err_numbers_that_are_none() {
        for bytes in [
            &b"0009"[..],
            b"7 7",
            b"-1",
            b"\x80\x80\0\0\0\0\0\0\0\0\0\0",
            b"\x01",
        ] {
            assert!(parse_number(bytes, 512, "size").is_err(), "{bytes:?}");
        }
        let error = parse_number(b"12x\0", 512, "size").unwrap_err();
        assert_eq!(
            error.to_string(),
            "header at byte 512: size `12x\\x00` is not a number"
        );
    }

    #[test]
    fn ok_the_prefix_counts_in_posix_headers_only() {
        let posix = block(|block| block[345..348].copy_from_slice(b"a/b"));
        assert_eq!(parse(&posix, 0).unwrap().unwrap().prefix, b"a/b");
        let gnu = block(|block| {
            block[257..265].copy_from_slice(b"ustar  \0");
            block[345..348].copy_from_slice(b"123");
        });
        assert_eq!(parse(&gnu, 0).unwrap().unwrap().prefix, b"");
    }

    #[test]
    fn err_checksums_say_what_was_expected() {
        let mut bad = block(|_| ());
        bad[0] ^= 1;
        assert!(matches!(parse(&bad, 0), Err(TarError::NotTar)));
        let Err(TarError::BadChecksum {
            offset: 1024,
            expected,
            found,
        }) = parse(&bad, 1024)
        else {
            panic!("a wrong checksum was taken");
        };
        assert_eq!((expected - found).abs(), 1);
    }

    #[test]
    fn ok_signed_checksums_are_taken() {
        let mut high = block(|block| block[0] = 0xe9);
        let signed: i64 = high
            .iter()
            .enumerate()
            .map(|(at, byte)| {
                if (148..156).contains(&at) {
                    32
                } else {
                    i64::from(*byte as i8)
                }
            })
            .sum();
        high[148..156].copy_from_slice(format!("{signed:06o}\0 ").as_bytes());
        assert!(parse(&high, 512).unwrap().is_some());
    }
}
