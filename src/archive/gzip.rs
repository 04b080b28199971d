//! Gzip (RFC 1952), inflated in pieces of any size, from its start or from a block inside.
//!
//! Owns members and their headers and trailers: CRC-32 and length are verified, several members make
//! one stream, NULs after the last one are padding. What gzip itself only warns of (other bytes after the
//! last member) is an error, because tar fails on that warning. Knows nothing of what the stream holds.
//!
//! ```text
//! 1f 8b 08 FLG MTIME4 XFL OS [XLEN2 extra] [name 0] [comment 0] [crc2] | deflate | CRC-32 4 | length mod 2^32 4
//! ```

use crate::archive::Limits;
use crate::archive::inflate::{Inflate, Pause};

pub(crate) mod blocks;
mod ranges;
mod sums;
mod tar_gz;

pub use blocks::BlockMap;
pub(crate) use blocks::{PASSED_BYTES_MIN, Run};
pub(crate) use ranges::GunzipRanges;
pub(crate) use sums::Verifying;
pub use tar_gz::{TarGzError, TarGzScanner};

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
    /// Bytes that are read again are not what they were.
    #[error("gzip stream has changed since it was indexed: bytes from {offset} on are others")]
    Changed {
        /// Where the first of them lie at the earliest.
        offset: u64,
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
            Self::Changed { .. } => "archive-changed",
        }
    }
}

/// Inflates a gzip stream that is fed front to back.
pub struct Gunzip {
    inflate: Inflate,
    state: State,
    /// Of the member's content so far.
    crc32: crc32fast::Hasher,
    member_bytes: u64,
    /// Whether members are held against their checksums.
    verifies: bool,
    taken: u64,
    inflated: u64,
    inflated_bytes_max: u64,
    members: u64,
    /// Whether the last step gave output.
    has_output: bool,
}

/// Where a block of a gzip stream ends or begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boundary {
    /// Bits of the stream before it.
    pub bit: u64,
    /// The byte of the stream that it lies in; 0 where it lies between two.
    pub edge: u8,
    /// Bytes inflated before it.
    pub raw: u64,
    /// Bytes inflated before it that a block which begins here may refer to.
    pub reach: u64,
    /// Whether the block that ends here was its member's last.
    pub is_last: bool,
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
            inflate: Inflate::new(),
            state: EXPECT_HEADER,
            crc32: crc32fast::Hasher::new(),
            member_bytes: 0,
            verifies: true,
            taken: 0,
            inflated: 0,
            inflated_bytes_max: limits.inflated_bytes_max,
            members: 0,
            has_output: false,
        }
    }

    /// An inflater of ranges of a stream, which [`Verifying`] verifies: members' checksums are not looked at.
    pub(crate) fn of_ranges(limits: &Limits) -> Self {
        Self {
            verifies: false,
            ..Self::new(limits)
        }
    }

    /// Goes on with the block that begins at bit `bit` of the stream, with `raw` bytes inflated before it, the
    /// last of which are `window`. What is fed next begins with the byte that this bit lies in.
    pub(crate) fn resume(&mut self, bit: u64, raw: u64, window: &[u8]) {
        self.inflate.resume(window, (bit % 8) as u32);
        self.state = State::Body;
        (self.taken, self.inflated) = (bit / 8, raw);
        self.has_output = false;
    }

    /// Goes one step further: how many of `bytes` it took, and the boundary of blocks that it came to. Then
    /// [`Self::output`] holds what came out, which must be hashed before the next step where checksums matter. A step that takes
    /// nothing, gives nothing and comes to no boundary needs further bytes.
    ///
    /// # Errors
    /// Where the stream is none. The inflater is of no use after that.
    pub fn step(&mut self, bytes: &[u8]) -> Result<(usize, Option<Boundary>), GzipError> {
        self.has_output = false;
        let mut used = 0;
        while !matches!(self.state, State::Body) {
            let at = self.position();
            // The inflater may have taken in bytes behind the last block.
            let byte = match self.inflate.take_unread_byte() {
                Some(byte) => byte,
                None => {
                    let Some(byte) = bytes.get(used) else {
                        return Ok((used, None));
                    };
                    self.taken += 1;
                    used += 1;
                    *byte
                }
            };
            self.state = self.take(at, self.state, byte)?;
            if matches!(self.state, State::Body) {
                self.inflate.restart();
                self.member_bytes = 0;
                self.crc32 = crc32fast::Hasher::new();
                return Ok((used, Some(self.boundary(false))));
            }
        }
        let rest = bytes.get(used..).unwrap_or_default();
        let inflated = self.inflate.inflate(rest);
        let (taken, pause) = inflated.map_err(|_| self.damaged())?;
        let made = self.inflate.output().len() as u64;
        self.has_output = true;
        self.taken += taken as u64;
        self.inflated = self.inflated.saturating_add(made);
        self.member_bytes += made;
        if self.inflated > self.inflated_bytes_max {
            return Err(GzipError::TooLarge {
                limit: self.inflated_bytes_max,
            });
        }
        let boundary = match pause {
            Pause::BlockEnd { is_last } => {
                if is_last {
                    let bytes = [0; 8];
                    self.state = State::Trailer { at: 0, bytes };
                }
                Some(self.boundary(is_last))
            }
            Pause::Input | Pause::Output => None,
        };
        Ok((used + taken, boundary))
    }

    fn boundary(&self, is_last: bool) -> Boundary {
        Boundary {
            bit: 8 * self.taken - u64::from(self.inflate.unread_bits()),
            edge: self.inflate.edge(),
            raw: self.inflated,
            reach: self.inflate.window().len() as u64,
            is_last,
        }
    }

    /// What came out of the last step.
    pub fn output(&self) -> &[u8] {
        if self.has_output {
            self.inflate.output()
        } else {
            &[]
        }
    }

    /// The last bytes that came out, as far as blocks may refer to them.
    pub(crate) fn window(&self) -> &[u8] {
        self.inflate.window()
    }

    /// Hashes what came out of the last step.
    pub fn hash_output(&mut self) {
        if self.has_output {
            self.crc32.update(self.inflate.output());
        }
    }

    /// Takes the hash of what came out of the last step, made elsewhere.
    pub(crate) fn take_hash(&mut self, output: &crc32fast::Hasher) {
        self.crc32.combine(output);
    }

    /// Where the next byte lies that was not used.
    fn position(&self) -> u64 {
        self.taken - u64::from(self.inflate.unread_bits() / 8)
    }

    fn damaged(&self) -> GzipError {
        GzipError::Damaged { offset: self.taken }
    }

    /// Takes one byte outside a body, which lies at `at`.
    fn take(&mut self, at_byte: u64, state: State, byte: u8) -> Result<State, GzipError> {
        Ok(match state {
            State::Header { at: 0, .. } if byte != 0x1f => {
                return self.take_after_members(at_byte, byte);
            }
            State::Header { at: 1, .. } if byte != 0x8b => return Err(self.not_gzip(at_byte, 1)),
            State::Header { at: 2, flags, .. } => State::Header {
                at: 3,
                method: byte,
                flags,
            },
            State::Header { at: 3, method, .. } => {
                if method != 8 || byte & RESERVED != 0 {
                    return Err(GzipError::UnknownHeader {
                        offset: at_byte,
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
                self.verify_trailer(at_byte + 1, u64::from_le_bytes(bytes))?;
                EXPECT_HEADER
            }
            State::Padding if byte == 0 => State::Padding,
            State::Padding => return Err(GzipError::TrailingGarbage { offset: at_byte }),
        })
    }

    fn take_after_members(&self, at: u64, byte: u8) -> Result<State, GzipError> {
        if byte == 0 && self.members > 0 {
            Ok(State::Padding)
        } else {
            Err(self.not_gzip(at, 0))
        }
    }

    fn not_gzip(&self, at: u64, back: u64) -> GzipError {
        match self.members {
            0 => GzipError::NotGzip,
            _ => GzipError::TrailingGarbage { offset: at - back },
        }
    }

    fn verify_trailer(&mut self, offset: u64, trailer: u64) -> Result<(), GzipError> {
        self.members += 1;
        if !self.verifies {
            return Ok(());
        }
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
        Ok(())
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

#[cfg(test)]
mod tests;
