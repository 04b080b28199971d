//! Gzip (RFC 1952), inflated in pieces of any size.
//!
//! Owns members and their headers and trailers: CRC-32 and length are verified, several members make
//! one stream, NULs after the last one are padding. What gzip itself only warns of (other bytes after the
//! last member) is an error, because tar fails on that warning. Knows nothing of what the stream holds.
//!
//! ```text
//! 1f 8b 08 FLG MTIME4 XFL OS [XLEN2 extra] [name 0] [comment 0] [crc2] | deflate | CRC-32 4 | length mod 2^32 4
//! ```

use flate2::{Decompress, FlushDecompress, Status};

use crate::archive::Limits;
use crate::archive::tar::{TarError, TarScan, TarScanner, Wanted};

/// Bytes inflated at once.
const BUFFER_BYTES: usize = 64 << 10;

const HAS_HEADER_CRC: u8 = 2;
const HAS_EXTRA: u8 = 4;
const HAS_NAME: u8 = 8;
const HAS_COMMENT: u8 = 16;
const RESERVED: u8 = 0xe0;

/// Why a gzip stream cannot be read. Offsets are in the compressed stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GzipError {
    /// The stream does not begin with `1f 8b`.
    #[error("first bytes are not a gzip header")]
    NotGzip,
    /// A header has another method than deflate, or bits that RFC 1952 reserves.
    #[error(
        "gzip header before byte {offset} has method {method} and flags {flags:#04x}, expected method 8 and no reserved flag"
    )]
    UnknownHeader {
        /// Where reading stopped.
        offset: u64,
        /// The method.
        method: u8,
        /// The flags.
        flags: u8,
    },
    /// The deflate data is damaged.
    #[error("deflate data before byte {offset} is damaged")]
    Damaged {
        /// Where reading stopped.
        offset: u64,
    },
    /// The content is not what was compressed.
    #[error("gzip member before byte {offset} has CRC-32 {found:08x}, expected {expected:08x}")]
    WrongCrc32 {
        /// Where the member ends.
        offset: u64,
        /// What its trailer says.
        expected: u32,
        /// What its content has.
        found: u32,
    },
    /// The content has another length than what was compressed.
    #[error("gzip member before byte {offset} has {found} bytes modulo 2^32, expected {expected}")]
    WrongLength {
        /// Where the member ends.
        offset: u64,
        /// What its trailer says.
        expected: u32,
        /// What its content has.
        found: u32,
    },
    /// Bytes after the last member that are neither another member nor NULs.
    #[error(
        "byte {offset} after the last gzip member is neither a NUL nor the start of another member"
    )]
    TrailingGarbage {
        /// Where they begin.
        offset: u64,
    },
    /// The stream ends inside a member.
    #[error("gzip stream ends at byte {end}, inside a member")]
    Truncated {
        /// Where it ends.
        end: u64,
    },
    /// More bytes come out than [`Limits::inflated_bytes_max`].
    #[error("gzip stream inflates to more than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
}

impl GzipError {
    /// Stable word for what is wrong, as findings carry it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotGzip => "archive-not-recognised",
            Self::UnknownHeader { .. } | Self::Damaged { .. } | Self::TrailingGarbage { .. } => {
                "gzip-damaged"
            }
            Self::WrongCrc32 { .. } | Self::WrongLength { .. } => "gzip-checksum-mismatch",
            Self::Truncated { .. } => "archive-truncated",
            Self::TooLarge { .. } => "archive-too-large",
        }
    }
}

/// Inflates a gzip stream that is fed front to back.
pub struct Gunzip {
    inflate: Decompress,
    state: State,
    crc32: crc32fast::Hasher,
    member_bytes: u64,
    taken: u64,
    inflated: u64,
    inflated_bytes_max: u64,
    members: u64,
    buffer: Box<[u8]>,
}

#[derive(Clone, Copy)]
enum State {
    /// The ten bytes that every header has; `at` are read.
    Header {
        at: usize,
        method: u8,
        flags: u8,
    },
    // Optional parts of the header; the flags announce those still to come.
    ExtraLength {
        flags: u8,
        at: u8,
        length: u16,
    },
    Skip {
        flags: u8,
        left: u16,
    },
    Text {
        flags: u8,
    },
    Body,
    /// The eight bytes after a body; `at` are read.
    Trailer {
        at: usize,
        bytes: [u8; 8],
    },
    /// NULs after the last member.
    Padding,
}

const EXPECT_HEADER: State = State::Header {
    at: 0,
    method: 0,
    flags: 0,
};

impl Gunzip {
    /// An inflater at the start of a stream.
    pub fn new(limits: &Limits) -> Self {
        Self {
            inflate: Decompress::new(false),
            state: EXPECT_HEADER,
            crc32: crc32fast::Hasher::new(),
            member_bytes: 0,
            taken: 0,
            inflated: 0,
            inflated_bytes_max: limits.inflated_bytes_max,
            members: 0,
            buffer: vec![0; BUFFER_BYTES].into(),
        }
    }

    /// Takes the next bytes and hands what comes out of them to `sink`, in pieces of at most 64 KiB.
    ///
    /// # Errors
    /// What `sink` returns, and a [`GzipError`] for a stream that is none. The inflater is of no use after
    /// either.
    pub fn feed<E: From<GzipError>>(
        &mut self,
        mut bytes: &[u8],
        sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            let (used, made) = self.inflate_some(bytes, &mut buffer)?;
            bytes = bytes.get(used..).unwrap_or_default();
            if made > 0 {
                sink(buffer.get(..made).unwrap_or_default())?;
            } else if used == 0 {
                break;
            }
        }
        self.buffer = buffer;
        match bytes.is_empty() {
            true => Ok(()),
            // Unreachable with a sane inflater; never lose bytes in silence.
            false => Err(GzipError::Damaged { offset: self.taken }.into()),
        }
    }

    /// Takes some of `bytes` and fills some of `buffer`: how many of each. Both are 0 only where nothing
    /// more can be had without further bytes.
    pub(crate) fn inflate_some(
        &mut self,
        bytes: &[u8],
        buffer: &mut [u8],
    ) -> Result<(usize, usize), GzipError> {
        let mut used = 0;
        loop {
            if matches!(self.state, State::Body) {
                let rest = bytes.get(used..).unwrap_or_default();
                let (taken, made) = self.inflate_body(rest, buffer)?;
                used += taken;
                if made > 0 || matches!(self.state, State::Body) {
                    return Ok((used, made));
                }
                continue;
            }
            let Some(byte) = bytes.get(used) else {
                return Ok((used, 0));
            };
            self.state = self.take(self.state, *byte)?;
            self.taken += 1;
            used += 1;
        }
    }

    fn inflate_body(
        &mut self,
        bytes: &[u8],
        buffer: &mut [u8],
    ) -> Result<(usize, usize), GzipError> {
        let (in_before, out_before) = (self.inflate.total_in(), self.inflate.total_out());
        let status = self
            .inflate
            .decompress(bytes, buffer, FlushDecompress::None);
        let used = self.inflate.total_in() - in_before;
        let made = self.inflate.total_out() - out_before;
        self.taken += used;
        self.inflated = self.inflated.saturating_add(made);
        self.member_bytes += made;
        if self.inflated > self.inflated_bytes_max {
            return Err(GzipError::TooLarge {
                limit: self.inflated_bytes_max,
            });
        }
        let (used, made) = (used as usize, made as usize);
        self.crc32.update(buffer.get(..made).unwrap_or_default());
        match status {
            Ok(Status::StreamEnd) => {
                self.state = State::Trailer {
                    at: 0,
                    bytes: [0; 8],
                }
            }
            Ok(Status::Ok | Status::BufError) => (),
            Err(_) => return Err(GzipError::Damaged { offset: self.taken }),
        }
        Ok((used, made))
    }

    /// Takes one byte outside a body.
    fn take(&mut self, state: State, byte: u8) -> Result<State, GzipError> {
        Ok(match state {
            State::Header { at: 0, .. } if byte != 0x1f => return self.take_after_members(byte),
            State::Header { at: 1, .. } if byte != 0x8b => return Err(self.not_gzip(1)),
            State::Header { at: 2, flags, .. } => State::Header {
                at: 3,
                method: byte,
                flags,
            },
            State::Header { at: 3, method, .. } => {
                if method != 8 || byte & RESERVED != 0 {
                    let offset = self.taken;
                    return Err(GzipError::UnknownHeader {
                        offset,
                        method,
                        flags: byte,
                    });
                }
                State::Header {
                    at: 4,
                    method,
                    flags: byte,
                }
            }
            State::Header { at: 9.., flags, .. } => options(flags),
            State::Header { at, method, flags } => State::Header {
                at: at + 1,
                method,
                flags,
            },
            State::ExtraLength { flags, at: 0, .. } => State::ExtraLength {
                flags,
                at: 1,
                length: u16::from(byte),
            },
            State::ExtraLength { flags, length, .. } => skip(flags, length | u16::from(byte) << 8),
            State::Skip { flags, left } => skip(flags, left.saturating_sub(1)),
            State::Text { flags } if byte == 0 => options(flags),
            State::Text { .. } | State::Body => state,
            State::Trailer { at, mut bytes } => {
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
                if at < 7 {
                    return Ok(State::Trailer { at: at + 1, bytes });
                }
                self.verify_trailer(u64::from_le_bytes(bytes))?;
                EXPECT_HEADER
            }
            State::Padding if byte == 0 => State::Padding,
            State::Padding => return Err(GzipError::TrailingGarbage { offset: self.taken }),
        })
    }

    fn take_after_members(&self, byte: u8) -> Result<State, GzipError> {
        if byte == 0 && self.members > 0 {
            Ok(State::Padding)
        } else {
            Err(self.not_gzip(0))
        }
    }

    fn not_gzip(&self, back: u64) -> GzipError {
        match self.members {
            0 => GzipError::NotGzip,
            _ => GzipError::TrailingGarbage {
                offset: self.taken - back,
            },
        }
    }

    fn verify_trailer(&mut self, trailer: u64) -> Result<(), GzipError> {
        let offset = self.taken + 1;
        let (expected, expected_length) = (trailer as u32, (trailer >> 32) as u32);
        let found = std::mem::take(&mut self.crc32).finalize();
        if found != expected {
            return Err(GzipError::WrongCrc32 {
                offset,
                expected,
                found,
            });
        }
        let found = self.member_bytes as u32;
        if found != expected_length {
            return Err(GzipError::WrongLength {
                offset,
                expected: expected_length,
                found,
            });
        }
        self.member_bytes = 0;
        self.members += 1;
        self.inflate.reset(false);
        Ok(())
    }

    /// Bytes inflated so far.
    pub fn inflated_bytes(&self) -> u64 {
        self.inflated
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// Where it ends inside a member, or before the first.
    pub fn finish(&self) -> Result<(), GzipError> {
        match self.state {
            State::Header { at: 0, .. } | State::Padding if self.members > 0 => Ok(()),
            _ if self.taken == 0 => Err(GzipError::NotGzip),
            _ => Err(GzipError::Truncated { end: self.taken }),
        }
    }
}

/// The next of the optional parts: extra field, name, comment, header CRC, in this order.
fn options(flags: u8) -> State {
    if flags & HAS_EXTRA != 0 {
        State::ExtraLength {
            flags: flags & !HAS_EXTRA,
            at: 0,
            length: 0,
        }
    } else if flags & HAS_NAME != 0 {
        State::Text {
            flags: flags & !HAS_NAME,
        }
    } else if flags & HAS_COMMENT != 0 {
        State::Text {
            flags: flags & !HAS_COMMENT,
        }
    } else if flags & HAS_HEADER_CRC != 0 {
        // gzip reads it without checking it where it is not its own; so do we.
        State::Skip {
            flags: flags & !HAS_HEADER_CRC,
            left: 2,
        }
    } else {
        State::Body
    }
}

fn skip(flags: u8, left: u16) -> State {
    if left == 0 {
        options(flags)
    } else {
        State::Skip { flags, left }
    }
}

/// Why a tar.gz cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TarGzError {
    /// The gzip stream.
    #[error(transparent)]
    Gzip(#[from] GzipError),
    /// The tar inside.
    #[error(transparent)]
    Tar(#[from] TarError),
}

impl TarGzError {
    /// Stable word for what is wrong, as findings carry it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Gzip(error) => error.code(),
            Self::Tar(error) => error.code(),
        }
    }
}

/// Indexes a tar.gz that is fed front to back.
pub struct TarGzScanner {
    gunzip: Gunzip,
    scanner: TarScanner,
}

impl TarGzScanner {
    /// A scanner that holds the contents that `wanted` decides on.
    pub fn new(limits: &Limits, wanted: Wanted) -> Self {
        Self {
            gunzip: Gunzip::new(limits),
            scanner: TarScanner::new(limits).wanting(wanted),
        }
    }

    /// Takes the next bytes of the compressed stream.
    ///
    /// # Errors
    /// Where they are no tar.gz, or pass a limit. The scanner is of no use after that.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), TarGzError> {
        let scanner = &mut self.scanner;
        self.gunzip
            .feed(bytes, &mut |bytes| Ok(scanner.feed(bytes)?))
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// Where gzip stream or tar end too early.
    pub fn finish(self) -> Result<TarScan, TarGzError> {
        self.gunzip.finish()?;
        let mut scan = self.scanner.finish()?;
        scan.index = scan.index.gzipped();
        Ok(scan)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, GzBuilder};
    use proptest::prelude::*;

    use super::*;
    use crate::archive::tar::samples::{Sample, write_tar};

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzBuilder::new().write(Vec::new(), Compression::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn gunzip_in(
        limits: &Limits,
        pieces: &mut dyn Iterator<Item = &[u8]>,
    ) -> Result<Vec<u8>, GzipError> {
        let mut gunzip = Gunzip::new(limits);
        let mut content = Vec::new();
        for piece in pieces {
            gunzip.feed(piece, &mut |bytes| {
                content.extend_from_slice(bytes);
                Ok::<(), GzipError>(())
            })?;
        }
        gunzip.finish()?;
        assert_eq!(gunzip.inflated_bytes(), content.len() as u64);
        Ok(content)
    }

    fn gunzip(bytes: &[u8]) -> Result<Vec<u8>, GzipError> {
        gunzip_in(&Limits::default(), &mut std::iter::once(bytes))
    }

    #[test]
    fn ok_members_join_and_nuls_after_them_are_padding() {
        let two = [gzip(b"one "), gzip(b""), gzip(b"two")].concat();
        assert_eq!(gunzip(&two).unwrap(), b"one two");
        assert_eq!(gunzip(&[two, vec![0; 700]].concat()).unwrap(), b"one two");
    }

    #[test]
    fn ok_every_optional_header_field_is_passed_over() {
        let content = b"content";
        let plain = gzip(content);
        for flags in 0..32u8 {
            let mut bytes = plain[..10].to_vec();
            bytes[3] = flags;
            if flags & HAS_EXTRA != 0 {
                bytes.extend(b"\x05\0extra");
            }
            if flags & HAS_NAME != 0 {
                bytes.extend(b"name\0");
            }
            if flags & HAS_COMMENT != 0 {
                bytes.extend(b"\0");
            }
            if flags & HAS_HEADER_CRC != 0 {
                bytes.extend(b"\0\0");
            }
            bytes.extend(&plain[10..]);
            assert_eq!(gunzip(&bytes).unwrap(), content, "flags {flags:#x}");
        }
    }

    #[test]
    fn err_each_cause_is_told_with_its_place() {
        let good = gzip(b"content");
        let edited = |at: usize, value: u8| {
            let mut bytes = good.clone();
            let at = if at < 100 {
                at
            } else {
                good.len() - (200 - at)
            };
            bytes[at] = value;
            gunzip(&bytes).unwrap_err()
        };
        assert_eq!(gunzip(b"PK"), Err(GzipError::NotGzip));
        assert_eq!(gunzip(b""), Err(GzipError::NotGzip));
        assert_eq!(edited(1, 0), GzipError::NotGzip);
        assert_eq!(
            edited(2, 9),
            GzipError::UnknownHeader {
                offset: 3,
                method: 9,
                flags: 0
            }
        );
        assert_eq!(
            edited(3, 0x20),
            GzipError::UnknownHeader {
                offset: 3,
                method: 8,
                flags: 0x20
            }
        );
        assert!(matches!(edited(10, 0xff), GzipError::Damaged { .. }));
        assert_eq!(edited(10, 0xff).code(), "gzip-damaged");
        assert_eq!(edited(192, 0).code(), "gzip-checksum-mismatch");
        let offset = good.len() as u64;
        assert!(matches!(edited(192, 0), GzipError::WrongCrc32 { offset: at, .. } if at == offset));
        let length = GzipError::WrongLength {
            offset,
            expected: 8,
            found: 7,
        };
        assert_eq!(edited(196, 8), length);
        assert_eq!(
            length.to_string(),
            format!("gzip member before byte {offset} has 7 bytes modulo 2^32, expected 8")
        );
        for garbage in [&b"x"[..], b"\0\0x", b"\0\x1f\x8b", b"\x1fx"] {
            let bytes = [&good[..], garbage].concat();
            let at = offset + garbage.iter().take_while(|byte| **byte == 0).count() as u64;
            assert_eq!(
                gunzip(&bytes),
                Err(GzipError::TrailingGarbage { offset: at }),
                "{garbage:?}"
            );
        }
    }

    #[test]
    fn err_every_truncation_but_between_members() {
        let first = gzip(b"one").len();
        let bytes = [gzip(b"one"), gzip(b"two")].concat();
        for end in 1..bytes.len() {
            let expected = if end == first {
                Ok(b"one".to_vec())
            } else {
                Err(GzipError::Truncated { end: end as u64 })
            };
            assert_eq!(gunzip(&bytes[..end]), expected, "cut at {end}");
        }
    }

    #[test]
    fn err_the_limit_holds_over_all_members() {
        let bytes = [gzip(&[0; 600_000]), gzip(&[0; 400_000])].concat();
        let with = |inflated_bytes_max| {
            let limits = Limits {
                inflated_bytes_max,
                ..Limits::default()
            };
            gunzip_in(&limits, &mut std::iter::once(&bytes[..])).map(|content| content.len())
        };
        assert_eq!(with(1_000_000), Ok(1_000_000));
        assert_eq!(with(999_999), Err(GzipError::TooLarge { limit: 999_999 }));
        assert_eq!(with(999_999).unwrap_err().code(), "archive-too-large");
    }

    #[test]
    fn ok_a_sink_that_refuses_ends_it() {
        #[derive(Debug, PartialEq)]
        enum Stop {
            Sink,
            Gzip(GzipError),
        }
        impl From<GzipError> for Stop {
            fn from(error: GzipError) -> Self {
                Self::Gzip(error)
            }
        }
        let mut gunzip = Gunzip::new(&Limits::default());
        assert_eq!(
            gunzip.feed(&gzip(b"content"), &mut |_| Err(Stop::Sink)),
            Err(Stop::Sink)
        );
        let mut gunzip = Gunzip::new(&Limits::default());
        let fed = gunzip.feed(b"PK", &mut |_| Ok::<(), Stop>(()));
        assert_eq!(fed, Err(Stop::Gzip(GzipError::NotGzip)));
    }

    #[test]
    fn ok_a_tar_gz_is_indexed_with_the_offsets_of_its_tar() {
        let tar = write_tar(&[Sample::file("a", "content"), Sample::directory("d/")]);
        let mut scanner = TarGzScanner::new(&Limits::default(), Box::new(|_| Some(3)));
        gzip(&tar)
            .chunks(7)
            .for_each(|piece| scanner.feed(piece).unwrap());
        let scan = scanner.finish().unwrap();
        assert_eq!(scan.index.format(), crate::archive::ArchiveFormat::TarGz);
        assert_eq!(scan.captured[0].bytes, b"con");
        assert_eq!(scan.index.placement(1).unwrap().header.start, 1024);
    }

    #[test]
    fn err_a_damaged_end_of_a_tar_gz_is_seen_though_the_tar_is_whole() {
        let mut bytes = gzip(&write_tar(&[Sample::file("a", "content")]));
        let last = bytes.len() - 5;
        bytes[last] ^= 1;
        let mut scanner = TarGzScanner::new(&Limits::default(), Box::new(|_| None));
        let error = scanner.feed(&bytes).unwrap_err();
        assert!(matches!(
            error,
            TarGzError::Gzip(GzipError::WrongCrc32 { .. })
        ));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn ok_the_answer_does_not_depend_on_the_cuts(
            content in prop::collection::vec(any::<u8>(), 0..3000),
            repeat in 1..40usize,
            damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
            piece in 1..300usize,
        ) {
            let content = content.repeat(repeat);
            let mut bytes = [gzip(&content), gzip(b"tail"), vec![0; 3]].concat();
            if let Some((at, value)) = damage {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            let whole = gunzip(&bytes);
            let limits = Limits::default();
            let cut = gunzip_in(&limits, &mut bytes.chunks(piece));
            let single = gunzip_in(&limits, &mut bytes.chunks(1));
            // Where damage shows in the deflate data depends on how far the inflater looks ahead.
            match &whole {
                Err(GzipError::Damaged { .. }) => {
                    let is_damaged = |other| matches!(other, Err(GzipError::Damaged { .. }));
                    prop_assert!(is_damaged(cut) && is_damaged(single));
                }
                _ => prop_assert!(cut == whole && single == whole),
            }
            if damage.is_none() {
                prop_assert_eq!(whole.unwrap(), [&content[..], b"tail"].concat());
            }
        }
    }
}
