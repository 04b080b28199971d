//! Headers of our own: ustar, with a pax header before it where ustar has no room.
//!
//! Owns the bytes of a written entry but its content. The same values always give the same bytes.

use super::{BLOCK, Owner, padded};
use crate::archive::EntryKind;

/// What ends an archive.
pub(crate) const END_OF_ARCHIVE: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// The values of one header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrittenEntry<'a> {
    pub name: &'a [u8],
    pub kind: EntryKind,
    /// Permission bits, `0o7777`.
    pub mode: u32,
    /// Bytes of content; told as 0 for all but files.
    pub size: u64,
    pub modified_seconds: i64,
    pub modified_nanos: u32,
    /// Target of a symbolic or hard link.
    pub link_target: &'a [u8],
    pub owner: &'a Owner,
}

/// The largest number in seven octal digits.
const OCTAL_7_MAX: u64 = 0o777_7777;
/// The largest number in eleven octal digits.
const OCTAL_11_MAX: u64 = 0o777_7777_7777;

/// Appends the header blocks of `entry` to `out`.
pub(crate) fn write_header(entry: &WrittenEntry<'_>, out: &mut Vec<u8>) {
    let size = if entry.kind == EntryKind::File {
        entry.size
    } else {
        0
    };
    let typeflag = match entry.kind {
        EntryKind::File => b'0',
        EntryKind::HardLink => b'1',
        EntryKind::Symlink => b'2',
        EntryKind::Directory => b'5',
        EntryKind::Special => b'6',
    };
    let owner = entry.owner;
    let mut records = Vec::new();
    let split = split_name(entry.name);
    if split.is_none() {
        push_record(&mut records, b"path", entry.name);
    }
    if entry.link_target.len() > 100 {
        push_record(&mut records, b"linkpath", entry.link_target);
    }
    if size > OCTAL_11_MAX {
        push_record(&mut records, b"size", size.to_string().as_bytes());
    }
    let plain_time = u64::try_from(entry.modified_seconds)
        .ok()
        .filter(|time| *time <= OCTAL_11_MAX);
    if plain_time.is_none() || entry.modified_nanos != 0 {
        let time = decimal_time(entry.modified_seconds, entry.modified_nanos);
        push_record(&mut records, b"mtime", time.as_bytes());
    }
    for (key, id) in [(b"uid", owner.uid), (b"gid", owner.gid)] {
        if id > OCTAL_7_MAX {
            push_record(&mut records, key, id.to_string().as_bytes());
        }
    }
    // A field that is filled to its last byte has no NUL, which some readers want in these two.
    for (key, name) in [(b"uname", &owner.uname), (b"gname", &owner.gname)] {
        if name.len() > 31 {
            push_record(&mut records, key, name);
        }
    }

    let mut header = Block::default();
    let (prefix, name) = split.unwrap_or((&[], entry.name));
    header.put(0, 100, name);
    header.put_octal(100, 7, u64::from(entry.mode & 0o7777));
    header.put_octal(108, 7, within(owner.uid, OCTAL_7_MAX));
    header.put_octal(116, 7, within(owner.gid, OCTAL_7_MAX));
    header.put_octal(124, 11, within(size, OCTAL_11_MAX));
    header.put_octal(136, 11, plain_time.unwrap_or(0));
    header.put(157, 100, entry.link_target);
    header.put(265, 31, &owner.uname);
    header.put(297, 31, &owner.gname);
    header.put(345, 155, prefix);
    if !records.is_empty() {
        let mut extended = Block::default();
        extended.put(0, 100, b"././@PaxHeader");
        extended.put_octal(100, 7, 0o644);
        extended.put_octal(108, 7, 0);
        extended.put_octal(116, 7, 0);
        extended.put_octal(124, 11, records.len() as u64);
        extended.put_octal(136, 11, 0);
        extended.finish(b'x', out);
        let padding = padded(records.len() as u64).unwrap_or_default() as usize;
        let end = out.len() + padding;
        out.extend_from_slice(&records);
        out.resize(end, 0);
    }
    header.finish(typeflag, out);
}

fn within(number: u64, most: u64) -> u64 {
    if number > most { 0 } else { number }
}

/// The name as ustar's prefix and name, where it fits.
fn split_name(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= 100 {
        return Some((&[], name));
    }
    // The name part may not be empty, so a directory's closing slash is no place to split.
    let last = name.len().checked_sub(2)?.min(155);
    let slash = name.get(..=last)?.iter().rposition(|byte| *byte == b'/')?;
    let (prefix, rest) = name.split_at_checked(slash)?;
    let rest = rest.get(1..)?;
    (!prefix.is_empty() && rest.len() <= 100).then_some((prefix, rest))
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn push_record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    for part in [&b" "[..], key, b"=", value, b"\n"] {
        records.extend_from_slice(part);
    }
}

fn decimal_time(seconds: i64, nanos: u32) -> String {
    let all = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let (sign, all) = if all < 0 { ("-", -all) } else { ("", all) };
    let (seconds, nanos) = (all / 1_000_000_000, all % 1_000_000_000);
    if nanos == 0 {
        return format!("{sign}{seconds}");
    }
    format!("{sign}{seconds}.{nanos:09}")
        .trim_end_matches('0')
        .to_owned()
}

struct Block([u8; BLOCK]);

impl Default for Block {
    fn default() -> Self {
        Self([0; BLOCK])
    }
}

impl Block {
    /// Puts as much of `bytes` as the field of `length` at `at` takes.
    fn put(&mut self, at: usize, length: usize, bytes: &[u8]) {
        for (place, byte) in self.0.iter_mut().skip(at).take(length).zip(bytes) {
            *place = *byte;
        }
    }

    fn put_octal(&mut self, at: usize, digits: usize, number: u64) {
        self.put(at, digits, format!("{number:0digits$o}").as_bytes());
    }

    fn finish(mut self, typeflag: u8, out: &mut Vec<u8>) {
        self.put(148, 8, b"        ");
        self.put(156, 1, &[typeflag]);
        self.put(257, 8, b"ustar\x0000");
        let sum: u64 = self.0.iter().map(|byte| u64::from(*byte)).sum();
        self.put(148, 8, format!("{sum:06o}\0 ").as_bytes());
        out.extend_from_slice(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;
    use crate::archive::tar::samples::scan;

    fn entry<'a>(name: &'a [u8], owner: &'a Owner) -> WrittenEntry<'a> {
        WrittenEntry {
            name,
            kind: EntryKind::File,
            mode: 0o4755,
            size: 3,
            modified_seconds: 1_700_000_000,
            modified_nanos: 0,
            link_target: b"",
            owner,
        }
    }

    fn header_bytes(entry: &WrittenEntry<'_>) -> usize {
        let mut out = Vec::new();
        write_header(entry, &mut out);
        out.len()
    }

    #[test]
    fn ok_pax_comes_only_where_ustar_has_no_room() {
        let owner = Owner::default();
        let long = Owner {
            uid: 0o1000_0000,
            uname: Box::from(*b"me"),
            ..Owner::default()
        };
        let plain = entry(b"a", &owner);
        for (entry, is_plain) in [
            (plain.clone(), true),
            (entry(&[b'n'; 100], &owner), true),
            (entry(&[b'n'; 101], &owner), false),
            (
                entry(&[&[b'd'; 155][..], b"/", &[b'n'; 100]].concat(), &owner),
                true,
            ),
            (
                entry(&[&[b'd'; 156][..], b"/", &[b'n'; 100]].concat(), &owner),
                false,
            ),
            (
                entry(&[&[b'd'; 155][..], b"/", &[b'n'; 101]].concat(), &owner),
                false,
            ),
            (entry(&[&[b'd'; 100][..], b"/"].concat(), &owner), false),
            (
                WrittenEntry {
                    size: OCTAL_11_MAX,
                    ..plain.clone()
                },
                true,
            ),
            (
                WrittenEntry {
                    size: OCTAL_11_MAX + 1,
                    ..plain.clone()
                },
                false,
            ),
            (
                WrittenEntry {
                    modified_seconds: -1,
                    ..plain.clone()
                },
                false,
            ),
            (
                WrittenEntry {
                    modified_nanos: 1,
                    ..plain.clone()
                },
                false,
            ),
            (entry(b"a", &long), false),
        ] {
            assert_eq!(header_bytes(&entry) == 512, is_plain, "{entry:?}");
        }
    }

    #[test]
    fn ok_record_lengths_count_their_own_digits() {
        for length in 0..1200 {
            let mut record = Vec::new();
            push_record(&mut record, b"path", &vec![b'x'; length]);
            let digits = record.iter().position(|byte| *byte == b' ').unwrap();
            let told: usize = std::str::from_utf8(&record[..digits])
                .unwrap()
                .parse()
                .unwrap();
            assert_eq!(told, record.len());
        }
    }

    #[test]
    fn ok_times_before_1970_are_decimal() {
        assert_eq!(decimal_time(-2, 750_000_000), "-1.25");
        assert_eq!(decimal_time(-3, 0), "-3");
        assert_eq!(decimal_time(12, 5), "12.000000005");
        assert_eq!(decimal_time(i64::MIN, 1), "-9223372036854775807.999999999");
    }

    proptest! {
        #[test]
        fn ok_what_is_written_is_read_again(
            name in "[a-zé]{1,60}(/[a-zé]{1,120}){0,3}",
            link_target in "[a-z/]{0,250}",
            mode in 0..0o10000u32,
            size in prop_oneof![0..2000u64, Just(9 << 30)],
            modified_seconds in any::<i64>(),
            modified_nanos in prop_oneof![Just(0), 0..1_000_000_000u32],
            ids in any::<(u64, u64)>(),
            names in ("[a-z]{0,50}", "[a-z]{0,50}"),
            is_link in any::<bool>(),
        ) {
            let owner = Owner {
                uid: ids.0 >> 1 >> (ids.1 % 60),
                gid: ids.1 >> 1,
                uname: names.0.as_bytes().into(),
                gname: names.1.as_bytes().into(),
            };
            let entry = WrittenEntry {
                name: name.as_bytes(),
                kind: if is_link { EntryKind::Symlink } else { EntryKind::File },
                mode,
                size: if is_link { 0 } else { size },
                modified_seconds,
                modified_nanos,
                link_target: if is_link { link_target.as_bytes() } else { b"" },
                owner: &owner,
            };
            let mut bytes = Vec::new();
            write_header(&entry, &mut bytes);
            if entry.size < 2000 {
                bytes.resize(bytes.len() + padded(entry.size).unwrap() as usize, 7);
                let index = scan(&bytes).unwrap().index;
                let found = index.entry(0).unwrap();
                let again = WrittenEntry {
                    name: found.name,
                    kind: found.kind,
                    mode: found.mode.unwrap(),
                    size: found.size,
                    modified_seconds: found.modified_seconds.unwrap(),
                    modified_nanos: index.modified_nanos(0).unwrap(),
                    link_target: found.link_target.unwrap_or_default(),
                    owner: index.owner(0).unwrap(),
                };
                prop_assert_eq!(&again, &entry);
            }
            // The same, as the `tar` crate sees it.
            let mut archive = tar::Archive::new(bytes.as_slice());
            let mut found = archive.entries().unwrap().next().unwrap().unwrap();
            prop_assert_eq!(&*found.path_bytes(), entry.name);
            let link_target = found.link_name_bytes().unwrap_or_default().into_owned();
            prop_assert_eq!(link_target, entry.link_target);
            prop_assert_eq!(found.header().mode().unwrap(), mode);
            prop_assert_eq!(found.size(), entry.size);
            if entry.size < 2000 {
                let mut content = Vec::new();
                found.read_to_end(&mut content).unwrap();
                prop_assert_eq!(content.len() as u64, entry.size);
            }
        }
    }
}
