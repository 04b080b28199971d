//! The symbols of a block: literals and matches, as fast as safe code can, and one by one near the ends.

use super::table::{END, EXCEPTIONAL, LITERAL, SECOND, all_bits, value};
use super::{Bits, CHUNK_BYTES, Damaged, Inflate, MATCH_ROOM_BYTES, Pause};

impl Inflate {
    /// Symbols far from the ends of input and room; `None` where one of them is near.
    pub(super) fn symbols_fast(&mut self, source: &mut Bits<'_>) -> Result<Option<Pause>, Damaged> {
        let (length_table, distance_table) = (&self.length_table, &self.distance_table);
        let buffer = &mut *self.buffer;
        let room_end = buffer.len().saturating_sub(MATCH_ROOM_BYTES);
        let oldest = self.oldest;
        let mut end = self.end;
        let input = source.input;
        let (mut at, mut bits, mut count) = (source.at, source.bits, source.count);
        macro_rules! fill {
            () => {
                // Above `count` there may be bits already; this brings the same ones again.
                if let Some(word) = input.get(at..).and_then(|rest| rest.first_chunk()) {
                    bits |= u64::from_le_bytes(*word) << count;
                    at += (63 - count as usize) >> 3;
                    count |= 56;
                }
            };
        }
        macro_rules! used {
            ($entry:expr) => {
                bits >>= all_bits($entry);
                count -= all_bits($entry);
            };
        }
        macro_rules! literal {
            ($entry:expr) => {
                used!($entry);
                if let Some(place) = buffer.get_mut(end) {
                    *place = ($entry >> 16) as u8;
                }
                end += 1;
            };
        }
        let has_ended = loop {
            // Room for a match and some literals; input for two fillings.
            if end > room_end || input.len() - at < 16 {
                break Ok(false);
            }
            fill!();
            let mut entry = length_table.first(bits);
            if entry & LITERAL != 0 {
                literal!(entry);
                entry = length_table.first(bits);
                if entry & LITERAL != 0 {
                    literal!(entry);
                    entry = length_table.first(bits);
                    if entry & LITERAL != 0 {
                        literal!(entry);
                        continue;
                    }
                }
            }
            if entry & EXCEPTIONAL != 0 {
                if entry & SECOND != 0 {
                    used!(entry);
                    entry = length_table.second(entry, bits);
                }
                if entry & LITERAL != 0 {
                    literal!(entry);
                    continue;
                }
                if entry & END != 0 {
                    used!(entry);
                    break Ok(true);
                }
                if entry & EXCEPTIONAL != 0 {
                    break Err(Damaged);
                }
            }
            let length = value(entry, bits);
            used!(entry);
            fill!();
            entry = distance_table.first(bits);
            if entry & EXCEPTIONAL != 0 {
                if entry & SECOND != 0 {
                    used!(entry);
                    entry = distance_table.second(entry, bits);
                }
                if entry & EXCEPTIONAL != 0 {
                    break Err(Damaged);
                }
            }
            let distance = value(entry, bits);
            used!(entry);
            if distance > end - oldest {
                break Err(Damaged);
            }
            copy_match(buffer, end, distance, length);
            end += length;
        };
        self.end = end;
        source.at = at;
        source.bits = bits & ((1 << count) - 1);
        source.count = count;
        Ok(has_ended?.then(|| self.end_block()))
    }

    /// Symbols one by one, each taken only when it is there as a whole; `None` where the fast way is open.
    pub(super) fn symbols(&mut self, source: &mut Bits<'_>) -> Result<Option<Pause>, Damaged> {
        loop {
            if self.end + MATCH_ROOM_BYTES > self.buffer.len() {
                return Ok(Some(Pause::Output));
            }
            source.fill();
            let (mut bits, mut left) = (source.bits, source.count);
            let mut look_up = |first: fn(&Self, u64) -> u32, second: fn(&Self, u32, u64) -> u32| {
                let mut entry = first(self, bits);
                if entry & SECOND != 0 {
                    left = left.checked_sub(all_bits(entry))?;
                    bits >>= all_bits(entry);
                    entry = second(self, entry, bits);
                }
                left = left.checked_sub(all_bits(entry))?;
                let value = value(entry, bits);
                bits >>= all_bits(entry);
                Some((entry, value))
            };
            let symbol = look_up(
                |inflate, bits| inflate.length_table.first(bits),
                |inflate, entry, bits| inflate.length_table.second(entry, bits),
            );
            let Some((entry, value)) = symbol else {
                return Ok(Some(Pause::Input));
            };
            if entry & (LITERAL | EXCEPTIONAL) == 0 {
                let distance = look_up(
                    |inflate, bits| inflate.distance_table.first(bits),
                    |inflate, entry, bits| inflate.distance_table.second(entry, bits),
                );
                let Some((entry, distance)) = distance else {
                    return Ok(Some(Pause::Input));
                };
                if entry & EXCEPTIONAL != 0 || distance > self.end - self.oldest {
                    return Err(Damaged);
                }
                copy_match(&mut self.buffer, self.end, distance, value);
                self.end += value;
            } else if entry & LITERAL != 0 {
                self.put((entry >> 16) as u8);
            } else if entry & END == 0 {
                return Err(Damaged);
            }
            (source.bits, source.count) = (bits, left);
            if entry & END != 0 {
                return Ok(Some(self.end_block()));
            }
            if source.input.len() - source.at >= 16 {
                return Ok(None);
            }
        }
    }
}

/// Copies `length` bytes from `distance` before `end` to `end`, and a few more behind, where there is room.
#[inline(always)]
fn copy_match(buffer: &mut [u8], end: usize, distance: usize, length: usize) {
    let mut from = end - distance;
    let mut to = end;
    let stop = end + length;
    if distance >= CHUNK_BYTES {
        while to < stop {
            let chunk = buffer
                .get(from..)
                .and_then(|rest| rest.first_chunk::<CHUNK_BYTES>());
            let chunk = chunk.copied().unwrap_or_default();
            let place = buffer
                .get_mut(to..)
                .and_then(|rest| rest.first_chunk_mut::<CHUNK_BYTES>());
            if let Some(place) = place {
                *place = chunk;
            }
            from += CHUNK_BYTES;
            to += CHUNK_BYTES;
        }
    } else if distance == 1 {
        let byte = buffer.get(from).copied().unwrap_or_default();
        buffer.get_mut(to..stop).unwrap_or_default().fill(byte);
    } else {
        while to < stop {
            let byte = buffer.get(from).copied().unwrap_or_default();
            if let Some(place) = buffer.get_mut(to) {
                *place = byte;
            }
            from += 1;
            to += 1;
        }
    }
}
