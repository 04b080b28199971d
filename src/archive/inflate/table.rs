//! Huffman codes as tables that are looked up by the next bits of the stream.
//!
//! A table has one entry for every value of its first bits; longer codes go on in a second table, to which the
//! first one points. An entry tells everything about its symbol, so that most symbols take one look-up.
//!
//! ```text
//! value 16 (literal, base of a length or distance, place of a second table) | flags 4 | code bits 4 | - 2 | all bits 6
//! ```

/// The entry is a literal.
pub(super) const LITERAL: u32 = 1 << 15;
/// The entry is neither a literal nor a length or distance: see [`SECOND`] and [`END`]; without either it
/// belongs to no code.
pub(super) const EXCEPTIONAL: u32 = 1 << 14;
/// The entry points to a second table.
pub(super) const SECOND: u32 = 1 << 13;
/// The entry ends the block.
pub(super) const END: u32 = 1 << 12;

/// An entry that no code leads to; it takes a bit, so that it is told only where there is one.
const INVALID: u32 = EXCEPTIONAL | 1;
/// Bits of the longest code.
const CODE_BITS_MAX: usize = 15;

/// Literals, lengths and the end of a block.
pub(super) type LengthTable = Table<4096, 11>;
/// Distances.
pub(super) type DistanceTable = Table<512, 8>;
/// The code in which the lengths of the other codes are written.
pub(super) type MetaTable = Table<128, 7>;

/// A code that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoCode;

/// A Huffman code: `FIRST` bits are looked up at once. `SIZE` is a power of two, no less than what any
/// code needs: zlib's `enough` tells 2,342 for 288 symbols and 11 bits, 402 for 32 symbols and 8 bits.
pub(super) struct Table<const SIZE: usize, const FIRST: u32> {
    entries: Box<[u32; SIZE]>,
}

/// All bits that an entry takes: those of its code, at this table, and the extra ones behind.
#[inline(always)]
pub(super) fn all_bits(entry: u32) -> u32 {
    entry & 63
}

/// The bits of an entry's code, at this table.
#[inline(always)]
pub(super) fn code_bits(entry: u32) -> u32 {
    (entry >> 8) & 15
}

/// Value of an entry of a length or distance whose bits, all of them, are the lowest of `bits`.
#[inline(always)]
pub(super) fn value(entry: u32, bits: u64) -> usize {
    let extra = (bits & ((1 << all_bits(entry)) - 1)) >> code_bits(entry);
    (entry >> 16) as usize + extra as usize
}

impl<const SIZE: usize, const FIRST: u32> Table<SIZE, FIRST> {
    pub fn new() -> Self {
        Self {
            entries: Box::new([INVALID; SIZE]),
        }
    }

    /// The entry for the next bits.
    #[inline(always)]
    pub fn first(&self, bits: u64) -> u32 {
        self.at(bits as usize & ((1 << FIRST) - 1))
    }

    /// The entry of the second table that `pointer` leads to, for the bits behind the first ones.
    #[inline(always)]
    pub fn second(&self, pointer: u32, bits: u64) -> u32 {
        let place = (pointer >> 16) as usize + value_bits(bits, code_bits(pointer));
        self.at(place)
    }

    #[inline(always)]
    fn at(&self, place: usize) -> u32 {
        // The mask lets the compiler see that the place is inside.
        self.entries
            .get(place & (SIZE - 1))
            .copied()
            .unwrap_or(INVALID)
    }

    /// Makes the table of the canonical code of these lengths, one for each symbol, 0 for those without a code;
    /// `symbols` has each symbol's entry, without the bits of its code.
    ///
    /// What zlib takes is taken: complete codes, and a single code of one bit where `may_be_single`; so is a
    /// code without any symbol, whose first use is an error.
    pub fn make(
        &mut self,
        lengths: &[u8],
        symbols: &[u32],
        may_be_single: bool,
    ) -> Result<(), NoCode> {
        let mut count = [0u32; CODE_BITS_MAX + 1];
        for length in lengths {
            *count.get_mut(usize::from(*length)).ok_or(NoCode)? += 1;
        }
        let used = count.iter().skip(1);
        let total: u32 = used.clone().sum();
        let mut free = 1i32;
        for count in used {
            free = 2 * free - *count as i32;
            if free < 0 {
                return Err(NoCode);
            }
        }
        let is_single = total == 1 && count.get(1) == Some(&1);
        if free > 0 && total > 0 && !(is_single && may_be_single) {
            return Err(NoCode);
        }
        if free > 0 {
            self.entries.fill(INVALID);
        }
        let mut next = [0u32; CODE_BITS_MAX + 2];
        let mut code = 0;
        for (length, count) in count.iter().enumerate().skip(1) {
            if let Some(next) = next.get_mut(length) {
                *next = code;
            }
            code = (code + count) << 1;
        }
        // Second tables lie behind the first; each is as large as the longest of its codes asks for.
        let mut deepest = [0u8; 1 << 11];
        let mut codes = next;
        for length in lengths.iter().copied() {
            let code = take_code(&mut codes, length);
            if u32::from(length) > FIRST {
                let first = reversed(code, length) & ((1 << FIRST) - 1);
                let depth = deepest.get_mut(first as usize).ok_or(NoCode)?;
                *depth = length.max(*depth);
            }
        }
        let mut end = 1usize << FIRST;
        for (first, depth) in deepest.iter().enumerate() {
            let Some(more) = u32::from(*depth)
                .checked_sub(FIRST)
                .filter(|more| *more > 0)
            else {
                continue;
            };
            *self.entries.get_mut(first).ok_or(NoCode)? =
                (end as u32) << 16 | EXCEPTIONAL | SECOND | more << 8 | FIRST;
            end += 1 << more;
        }
        if end > SIZE {
            return Err(NoCode);
        }
        for (length, symbol) in lengths.iter().copied().zip(symbols) {
            if length == 0 {
                continue;
            }
            let code = reversed(take_code(&mut next, length), length);
            let length = u32::from(length);
            if length <= FIRST {
                let entry = symbol + length + (length << 8);
                self.fill(0, 1 << FIRST, code as usize, 1 << length, entry);
            } else {
                let pointer = self.first(u64::from(code));
                let (base, more) = ((pointer >> 16) as usize, code_bits(pointer));
                let length = length - FIRST;
                let entry = symbol + length + (length << 8);
                self.fill(
                    base,
                    1 << more,
                    (code >> FIRST) as usize,
                    1 << length,
                    entry,
                );
            }
        }
        Ok(())
    }

    /// Writes `entry` to every `step`-th place of the `size` ones at `base`, from `from` on.
    fn fill(&mut self, base: usize, size: usize, from: usize, step: usize, entry: u32) {
        let places = self.entries.get_mut(base..base + size).unwrap_or_default();
        for place in places.iter_mut().skip(from).step_by(step) {
            *place = entry;
        }
    }
}

#[inline(always)]
fn value_bits(bits: u64, count: u32) -> usize {
    (bits & ((1 << count) - 1)) as usize
}

/// The next code of this length; symbols of one length have codes in a row.
fn take_code(next: &mut [u32], length: u8) -> u32 {
    match next.get_mut(usize::from(length)) {
        Some(next) if length > 0 => {
            *next += 1;
            *next - 1
        }
        _ => 0,
    }
}

/// Codes stand in the stream with their first bit lowest.
fn reversed(code: u32, length: u8) -> u32 {
    match length {
        0 => 0,
        _ => code.reverse_bits() >> (32 - u32::from(length)),
    }
}

/// Entries of literals, the end of a block and lengths (RFC 1951, 3.2.5); the last two belong to no length.
pub(super) const LENGTH_SYMBOLS: [u32; 288] = {
    let mut symbols = [EXCEPTIONAL; 288];
    let mut rest: &mut [u32] = &mut symbols;
    let (mut at, mut base) = (0, 3);
    while let [symbol, others @ ..] = rest {
        let extra = if at < 265 { 0 } else { (at - 261) / 4 };
        *symbol = match at {
            ..256 => at << 16 | LITERAL,
            256 => EXCEPTIONAL | END,
            257..285 => base << 16 | extra,
            285 => 258 << 16,
            _ => EXCEPTIONAL,
        };
        if at > 256 {
            base += 1 << extra;
        }
        at += 1;
        rest = others;
    }
    symbols
};

/// Entries of distances; the last two belong to none.
pub(super) const DISTANCE_SYMBOLS: [u32; 32] = {
    let mut symbols = [EXCEPTIONAL; 32];
    let mut rest: &mut [u32] = &mut symbols;
    let (mut at, mut base) = (0, 1);
    while let [symbol, others @ ..] = rest
        && at < 30
    {
        let extra = if at < 4 { 0 } else { at / 2 - 1 };
        *symbol = base << 16 | extra;
        base += 1 << extra;
        at += 1;
        rest = others;
    }
    symbols
};

/// Entries of the meta code: the symbols themselves.
pub(super) const META_SYMBOLS: [u32; 19] = {
    let mut symbols = [0; 19];
    let mut rest: &mut [u32] = &mut symbols;
    let mut at = 0;
    while let [symbol, others @ ..] = rest {
        *symbol = at << 16;
        at += 1;
        rest = others;
    }
    symbols
};
