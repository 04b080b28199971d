//! Deflate (RFC 1951), inflated in pieces of any size, with the places of its blocks told.
//!
//! Codecs that are to be had tell the byte in which a block ends, not the bit; keeping blocks of a stream in
//! another one takes the bit. Takes exactly what zlib takes. Holds the last 32 KiB and at most 256 KiB
//! more. Knows nothing of gzip, and of no limit but those of deflate itself.
//!
//! ```text
//! | last? 1 | type 2 | stored: fill to a byte, length 16, its complement 16, bytes
//!                    | fixed: symbols, end of block
//!                    | dynamic: counts 14, meta code, lengths of two codes, symbols, end of block
//! ```

mod symbols;
mod table;

use table::{
    DISTANCE_SYMBOLS, DistanceTable, EXCEPTIONAL, LENGTH_SYMBOLS, LengthTable, META_SYMBOLS,
    MetaTable, all_bits,
};

/// How far back deflate refers.
pub(crate) const WINDOW_BYTES: usize = 32 << 10;
/// Bytes that come out at once, at most.
pub(crate) const OUTPUT_BYTES_MAX: usize = 256 << 10;
/// A match, and what copying by whole chunks may write behind it.
const MATCH_ROOM_BYTES: usize = 258 + CHUNK_BYTES;
/// Bytes of a match copied at once.
const CHUNK_BYTES: usize = 16;
/// Codes of lengths and distances that a block may have; two more of each are in the fixed ones only.
const LENGTH_CODES_MAX: usize = 286;
const DISTANCE_CODES_MAX: usize = 30;
/// The order in which the lengths of the meta code stand.
const META_ORDER: [u8; 19] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];

/// A stream that is no deflate stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("deflate data is damaged")]
pub(crate) struct Damaged;

/// Why an inflater paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pause {
    /// It has taken all that it was given.
    Input,
    /// Its output wants to be taken.
    Output,
    /// A block has ended. The one after it begins where the unread bits do.
    BlockEnd {
        /// Whether it was the stream's last.
        is_last: bool,
    },
}

/// Inflates a stream that is fed front to back.
pub(crate) struct Inflate {
    /// Bits taken in and not used, lowest first; above `count` there are zeros.
    bits: u64,
    count: u32,
    /// Bits of the first byte that lie before the stream.
    skip: u32,
    /// The byte in which the last block ended, if it ended inside one.
    edge: u8,
    /// The last bytes taken, the latest highest.
    recent: u64,
    state: State,
    is_last: bool,
    lengths: [u8; LENGTH_CODES_MAX + DISTANCE_CODES_MAX],
    length_codes: usize,
    distance_codes: usize,
    length_table: LengthTable,
    distance_table: DistanceTable,
    meta_table: MetaTable,
    are_tables_fixed: bool,
    /// History from `oldest`, output that was given from `given`, up to `end`.
    buffer: Box<[u8]>,
    oldest: usize,
    given: usize,
    end: usize,
}

#[derive(Clone, Copy)]
enum State {
    Header,
    StoredLength,
    Stored { left: usize },
    Counts,
    MetaLengths { at: usize, of: usize },
    Lengths { at: usize },
    Symbols,
    Ended,
}

/// Input and the bits taken out of it.
struct Bits<'a> {
    input: &'a [u8],
    at: usize,
    bits: u64,
    count: u32,
}

impl Bits<'_> {
    /// Takes in bytes until there are more than 55 bits, or no more bytes.
    #[inline(always)]
    fn fill(&mut self) {
        if let Some(word) = self
            .input
            .get(self.at..)
            .and_then(|rest| rest.first_chunk())
        {
            self.bits |= u64::from_le_bytes(*word) << self.count;
            self.at += (63 - self.count as usize) >> 3;
            self.count |= 56;
            self.bits &= (1 << self.count) - 1;
            return;
        }
        while self.count < 56
            && let Some(byte) = self.input.get(self.at)
        {
            self.bits |= u64::from(*byte) << self.count;
            self.at += 1;
            self.count += 8;
        }
    }

    fn take(&mut self, count: u32) -> Option<usize> {
        if self.count < count {
            self.fill();
        }
        if self.count < count {
            return None;
        }
        let taken = self.bits & ((1 << count) - 1);
        self.bits >>= count;
        self.count -= count;
        Some(taken as usize)
    }
}

impl Inflate {
    /// An inflater at the start of a stream.
    pub fn new() -> Self {
        Self {
            bits: 0,
            count: 0,
            skip: 0,
            edge: 0,
            recent: 0,
            state: State::Header,
            is_last: false,
            lengths: [0; LENGTH_CODES_MAX + DISTANCE_CODES_MAX],
            length_codes: 0,
            distance_codes: 0,
            length_table: LengthTable::new(),
            distance_table: DistanceTable::new(),
            meta_table: MetaTable::new(),
            are_tables_fixed: false,
            buffer: vec![0; WINDOW_BYTES + OUTPUT_BYTES_MAX].into(),
            oldest: 0,
            given: 0,
            end: 0,
        }
    }

    /// Begins another stream. Output that was not looked at is gone.
    pub fn restart(&mut self) {
        self.resume(&[], 0);
    }

    /// Begins with a block inside a stream, before which its last bytes were `window`. The first byte fed is
    /// the one in which the block begins, after `skip` bits that are not its own.
    pub fn resume(&mut self, window: &[u8], skip: u32) {
        let older = window.len().saturating_sub(WINDOW_BYTES);
        let window = window.get(older..).unwrap_or_default();
        if let Some(place) = self.buffer.get_mut(..window.len()) {
            place.copy_from_slice(window);
        }
        (self.oldest, self.given, self.end) = (0, window.len(), window.len());
        (self.bits, self.count, self.skip) = (0, 0, skip);
        (self.state, self.is_last) = (State::Header, false);
    }

    /// What came out since the call before the last [`Self::inflate`].
    pub fn output(&self) -> &[u8] {
        self.buffer.get(self.given..self.end).unwrap_or_default()
    }

    /// The last bytes that came out: as many as what follows may refer to.
    pub fn window(&self) -> &[u8] {
        let start = self.oldest.max(self.end.saturating_sub(WINDOW_BYTES));
        self.buffer.get(start..self.end).unwrap_or_default()
    }

    /// How many of the bits that were taken in are not used.
    pub fn unread_bits(&self) -> u32 {
        self.count
    }

    /// The byte in which the last block ended, where it did not end with one.
    pub fn edge(&self) -> u8 {
        self.edge
    }

    /// Takes a whole byte that was taken in and not used, behind the last block.
    pub fn take_unread_byte(&mut self) -> Option<u8> {
        let fill = self.count % 8;
        (self.bits, self.count) = (self.bits >> fill, self.count - fill);
        self.count = self.count.checked_sub(8)?;
        let byte = self.bits as u8;
        self.bits >>= 8;
        Some(byte)
    }

    /// Takes some of `input`, and says how many and why it paused. The output before is gone.
    pub fn inflate(&mut self, input: &[u8]) -> Result<(usize, Pause), Damaged> {
        self.slide();
        let mut bits = Bits {
            input,
            at: 0,
            bits: self.bits,
            count: self.count,
        };
        if self.skip > 0 && bits.take(self.skip).is_some() {
            self.skip = 0;
        }
        let paused = match self.skip {
            0 => self.advance(&mut bits),
            _ => Ok(Pause::Input),
        };
        if let Ok(Pause::BlockEnd { .. }) = paused {
            let back = bits.count.div_ceil(8) as usize;
            self.edge = match bits.at.checked_sub(back) {
                _ if bits.count.is_multiple_of(8) => 0,
                Some(at) => input.get(at).copied().unwrap_or_default(),
                None => (self.recent >> (64 - 8 * (back - bits.at))) as u8,
            };
        }
        (self.bits, self.count) = (bits.bits, bits.count);
        for byte in input
            .get(bits.at.saturating_sub(8)..bits.at)
            .unwrap_or_default()
        {
            self.recent = self.recent >> 8 | u64::from(*byte) << 56;
        }
        paused.map(|pause| (bits.at, pause))
    }

    /// Makes room for output behind the history.
    fn slide(&mut self) {
        self.given = self.end;
        if self.end + MATCH_ROOM_BYTES <= self.buffer.len() {
            return;
        }
        let start = self.oldest.max(self.end.saturating_sub(WINDOW_BYTES));
        self.buffer.copy_within(start..self.end, 0);
        self.end -= start;
        (self.oldest, self.given) = (0, self.end);
    }

    fn advance(&mut self, bits: &mut Bits<'_>) -> Result<Pause, Damaged> {
        loop {
            let pause = match self.state {
                State::Header => self.header(bits)?,
                State::StoredLength => self.stored_length(bits)?,
                State::Stored { left } => self.stored(bits, left),
                State::Counts => self.counts(bits)?,
                State::MetaLengths { at, of } => self.meta_length(bits, at, of)?,
                State::Lengths { at } => self.code_lengths(bits, at)?,
                State::Symbols => match self.symbols_fast(bits)? {
                    None => self.symbols(bits)?,
                    pause => pause,
                },
                State::Ended => Some(Pause::Input),
            };
            if let Some(pause) = pause {
                return Ok(pause);
            }
        }
    }

    fn header(&mut self, bits: &mut Bits<'_>) -> Result<Option<Pause>, Damaged> {
        let Some(header) = bits.take(3) else {
            return Ok(Some(Pause::Input));
        };
        self.is_last = header & 1 == 1;
        self.state = match header >> 1 {
            0 => State::StoredLength,
            1 => {
                self.fix_tables()?;
                State::Symbols
            }
            2 => State::Counts,
            _ => return Err(Damaged),
        };
        Ok(None)
    }

    fn fix_tables(&mut self) -> Result<(), Damaged> {
        if self.are_tables_fixed {
            return Ok(());
        }
        let mut lengths = [8; 288];
        let runs: [(usize, usize, u8); 2] = [(144, 256, 9), (256, 280, 7)];
        for (from, to, length) in runs {
            lengths.get_mut(from..to).unwrap_or_default().fill(length);
        }
        self.make_tables(&lengths, &[5; 32])?;
        self.are_tables_fixed = true;
        Ok(())
    }

    fn make_tables(&mut self, lengths: &[u8], distances: &[u8]) -> Result<(), Damaged> {
        self.are_tables_fixed = false;
        let length_table = self.length_table.make(lengths, &LENGTH_SYMBOLS, true);
        let distance_table = self.distance_table.make(distances, &DISTANCE_SYMBOLS, true);
        length_table.and(distance_table).map_err(|_| Damaged)
    }

    fn end_block(&mut self) -> Pause {
        let is_last = self.is_last;
        self.state = if is_last { State::Ended } else { State::Header };
        Pause::BlockEnd { is_last }
    }

    fn stored_length(&mut self, bits: &mut Bits<'_>) -> Result<Option<Pause>, Damaged> {
        let fill = bits.count % 8;
        if bits.count < 32 + fill {
            bits.fill();
        }
        if bits.count < 32 + fill {
            return Ok(Some(Pause::Input));
        }
        bits.take(fill);
        let lengths = bits.take(32).unwrap_or_default();
        let (length, complement) = (lengths & 0xffff, lengths >> 16);
        if length != complement ^ 0xffff {
            return Err(Damaged);
        }
        self.state = State::Stored { left: length };
        Ok(None)
    }

    fn stored(&mut self, bits: &mut Bits<'_>, mut left: usize) -> Option<Pause> {
        // Whole bytes that were taken in ahead come first.
        while left > 0 && bits.count >= 8 && self.end < self.buffer.len() {
            let byte = bits.take(8).unwrap_or_default();
            self.put(byte as u8);
            left -= 1;
        }
        if left > 0 && bits.count == 0 {
            let rest = bits.input.get(bits.at..).unwrap_or_default();
            let room = self.buffer.get_mut(self.end..).unwrap_or_default();
            let length = left.min(rest.len()).min(room.len());
            if let (Some(room), Some(bytes)) = (room.get_mut(..length), rest.get(..length)) {
                room.copy_from_slice(bytes);
            }
            bits.at += length;
            self.end += length;
            left -= length;
        }
        self.state = State::Stored { left };
        if left == 0 {
            Some(self.end_block())
        } else if self.end == self.buffer.len() {
            Some(Pause::Output)
        } else {
            Some(Pause::Input)
        }
    }

    fn put(&mut self, byte: u8) {
        if let Some(place) = self.buffer.get_mut(self.end) {
            *place = byte;
            self.end += 1;
        }
    }

    fn counts(&mut self, bits: &mut Bits<'_>) -> Result<Option<Pause>, Damaged> {
        let Some(counts) = bits.take(14) else {
            return Ok(Some(Pause::Input));
        };
        self.length_codes = (counts & 31) + 257;
        self.distance_codes = (counts >> 5 & 31) + 1;
        if self.length_codes > LENGTH_CODES_MAX || self.distance_codes > DISTANCE_CODES_MAX {
            return Err(Damaged);
        }
        self.lengths = [0; LENGTH_CODES_MAX + DISTANCE_CODES_MAX];
        let of = (counts >> 10) + 4;
        self.state = State::MetaLengths { at: 0, of };
        Ok(None)
    }

    fn meta_length(
        &mut self,
        bits: &mut Bits<'_>,
        mut at: usize,
        of: usize,
    ) -> Result<Option<Pause>, Damaged> {
        while at < of {
            let Some(length) = bits.take(3) else {
                self.state = State::MetaLengths { at, of };
                return Ok(Some(Pause::Input));
            };
            let symbol = META_ORDER.get(at).copied().unwrap_or_default();
            if let Some(place) = self.lengths.get_mut(usize::from(symbol)) {
                *place = length as u8;
            }
            at += 1;
        }
        let lengths = self.lengths.get(..META_SYMBOLS.len()).unwrap_or_default();
        let made = self.meta_table.make(lengths, &META_SYMBOLS, false);
        made.map_err(|_| Damaged)?;
        self.state = State::Lengths { at: 0 };
        Ok(None)
    }

    fn code_lengths(
        &mut self,
        bits: &mut Bits<'_>,
        mut at: usize,
    ) -> Result<Option<Pause>, Damaged> {
        let total = self.length_codes + self.distance_codes;
        while at < total {
            if bits.count < 14 {
                bits.fill();
            }
            let entry = self.meta_table.first(bits.bits);
            let symbol = (entry >> 16) as u8;
            let (extra, least) = match symbol {
                16 => (2, 3),
                17 => (3, 3),
                18 => (7, 11),
                _ => (0, 1),
            };
            if bits.count < all_bits(entry) + extra {
                self.state = State::Lengths { at };
                return Ok(Some(Pause::Input));
            }
            if entry & EXCEPTIONAL != 0 {
                return Err(Damaged);
            }
            bits.take(all_bits(entry));
            let repeat = least + bits.take(extra).unwrap_or_default();
            let length = match symbol {
                16 => {
                    let before = at.checked_sub(1).ok_or(Damaged)?;
                    self.lengths.get(before).copied().unwrap_or_default()
                }
                17 | 18 => 0,
                length => length,
            };
            if at + repeat > total {
                return Err(Damaged);
            }
            let places = self.lengths.get_mut(at..at + repeat).unwrap_or_default();
            places.fill(length);
            at += repeat;
        }
        if self.lengths.get(256).is_none_or(|length| *length == 0) {
            return Err(Damaged);
        }
        let all = self.lengths;
        let (lengths, distances) = all.split_at_checked(self.length_codes).unwrap_or_default();
        let distances = distances.get(..self.distance_codes).unwrap_or_default();
        self.make_tables(lengths, distances)?;
        self.state = State::Symbols;
        Ok(None)
    }
}

#[cfg(test)]
pub(crate) mod tests;
