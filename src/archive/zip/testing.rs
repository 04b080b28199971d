//! Zips made by hand for tests: every field can be wrong.

use std::io::Write;

use super::{Step, ZipError, ZipIndex, ZipReader};
use crate::archive::Limits;
use crate::object::ByteRange;

/// Reads an index out of memory, in pieces of at most `most` bytes.
pub(crate) fn read_index(
    object: &[u8],
    limits: &Limits,
    most: usize,
) -> Result<ZipIndex, ZipError> {
    let mut reader = ZipReader::new(object.len() as u64, limits);
    loop {
        match reader.step()? {
            Step::Done(index) => return Ok(index),
            Step::Need(range) => {
                assert!(
                    !range.is_empty() && range.end <= object.len() as u64,
                    "{range}"
                );
                let end = (range.end as usize).min((range.start as usize).saturating_add(most));
                reader.feed(range, &object[range.start as usize..end])?;
            }
        }
    }
}

/// The index of a zip that is one.
pub(crate) fn index_of(object: &[u8]) -> ZipIndex {
    read_index(object, &Limits::default(), usize::MAX).unwrap()
}

/// The bytes of a range.
pub(crate) fn bytes_of(object: &[u8], range: ByteRange) -> &[u8] {
    &object[range.start as usize..range.end as usize]
}

/// One entry to make.
#[derive(Debug, Clone)]
pub(crate) struct Making {
    pub name: Vec<u8>,
    pub local_name: Option<Vec<u8>>,
    pub content: Vec<u8>,
    pub deflated: bool,
    pub flags: u16,
    pub zip64: bool,
    pub host: u8,
    pub mode: u32,
    pub central_extra: Vec<u8>,
    pub local_extra: Vec<u8>,
    /// In place of the true ones, in both headers.
    pub crc32: Option<u32>,
    pub size: Option<u64>,
    /// In the local header alone.
    pub local_method: Option<u16>,
    pub comment: Vec<u8>,
}

impl Making {
    pub(crate) fn new(name: &str, content: &[u8]) -> Self {
        Self {
            name: name.as_bytes().to_vec(),
            local_name: None,
            content: content.to_vec(),
            deflated: content.len() > 20,
            flags: 0,
            zip64: false,
            host: 3,
            mode: if name.ends_with('/') {
                0o040_755
            } else {
                0o100_644
            },
            central_extra: Vec::new(),
            local_extra: Vec::new(),
            crc32: None,
            size: None,
            local_method: None,
            comment: Vec::new(),
        }
    }

    pub(crate) fn stored(&self) -> Vec<u8> {
        if !self.deflated {
            return self.content.clone();
        }
        let mut encoder =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&self.content).unwrap();
        encoder.finish().unwrap()
    }

    fn method(&self) -> u16 {
        if self.deflated { 8 } else { 0 }
    }

    fn write_local(&self, out: &mut Vec<u8>) {
        let stored = self.stored();
        let crc32 = self.crc32.unwrap_or(crc32fast::hash(&self.content));
        let size = self.size.unwrap_or(self.content.len() as u64);
        let has_descriptor = self.flags & 8 != 0;
        let name = self.local_name.as_ref().unwrap_or(&self.name);
        let mut extra = Vec::new();
        let (mut local_crc, mut local_stored, mut local_size) =
            (crc32, stored.len() as u32, size as u32);
        if has_descriptor {
            (local_crc, local_stored, local_size) = (0, 0, 0);
        }
        if self.zip64 {
            extra.extend([1, 0, 16, 0]);
            let value = |v: u64| if has_descriptor { 0 } else { v };
            extra.extend(value(size).to_le_bytes());
            extra.extend(value(stored.len() as u64).to_le_bytes());
            (local_stored, local_size) = (u32::MAX, u32::MAX);
        }
        extra.extend(&self.local_extra);
        out.extend(b"PK\x03\x04");
        out.extend(20u16.to_le_bytes());
        out.extend(self.flags.to_le_bytes());
        out.extend(self.local_method.unwrap_or(self.method()).to_le_bytes());
        out.extend([0x00, 0x60, 0x21, 0x58]);
        out.extend(local_crc.to_le_bytes());
        out.extend(local_stored.to_le_bytes());
        out.extend(local_size.to_le_bytes());
        out.extend((name.len() as u16).to_le_bytes());
        out.extend((extra.len() as u16).to_le_bytes());
        out.extend(name);
        out.extend(extra);
        out.extend(&stored);
        if has_descriptor {
            out.extend(b"PK\x07\x08");
            out.extend(crc32.to_le_bytes());
            for value in [stored.len() as u64, size] {
                let bytes = value.to_le_bytes();
                out.extend(&bytes[..if self.zip64 { 8 } else { 4 }]);
            }
        }
    }

    fn write_central(&self, out: &mut Vec<u8>, header_at: u64) {
        let stored = self.stored().len() as u64;
        let crc32 = self.crc32.unwrap_or(crc32fast::hash(&self.content));
        let size = self.size.unwrap_or(self.content.len() as u64);
        let mut extra = Vec::new();
        let (mut short_stored, mut short_size, mut short_at) =
            (stored as u32, size as u32, header_at as u32);
        if self.zip64 {
            extra.extend([1, 0, 24, 0]);
            for value in [size, stored, header_at] {
                extra.extend(value.to_le_bytes());
            }
            (short_stored, short_size, short_at) = (u32::MAX, u32::MAX, u32::MAX);
        }
        extra.extend(&self.central_extra);
        out.extend(b"PK\x01\x02");
        out.extend([20, self.host, 20, 0]);
        out.extend(self.flags.to_le_bytes());
        out.extend(self.method().to_le_bytes());
        out.extend([0x00, 0x60, 0x21, 0x58]);
        out.extend(crc32.to_le_bytes());
        out.extend(short_stored.to_le_bytes());
        out.extend(short_size.to_le_bytes());
        out.extend((self.name.len() as u16).to_le_bytes());
        out.extend((extra.len() as u16).to_le_bytes());
        out.extend((self.comment.len() as u16).to_le_bytes());
        out.extend([0; 4]);
        out.extend((self.mode << 16).to_le_bytes());
        out.extend(short_at.to_le_bytes());
        out.extend(&self.name);
        out.extend(extra);
        out.extend(&self.comment);
    }
}

/// A zip to make.
#[derive(Debug, Clone, Default)]
pub(crate) struct ZipMaking {
    pub entries: Vec<Making>,
    pub prefix: Vec<u8>,
    /// Whether offsets count the prefix.
    pub is_adjusted: bool,
    pub comment: Vec<u8>,
    pub trailing: Vec<u8>,
    pub zip64_end: bool,
    pub count: Option<u16>,
    /// Local headers in the reverse of the directory's order.
    pub reversed: bool,
    /// The directory says that the entry at `.0` is where the one at `.1` is.
    pub shared_header: Option<(usize, usize)>,
    /// A local entry after the others that the directory does not list.
    pub unlisted: Option<Making>,
}

impl ZipMaking {
    pub(crate) fn of(entries: impl IntoIterator<Item = Making>) -> Self {
        Self {
            entries: entries.into_iter().collect(),
            ..Self::default()
        }
    }

    pub(crate) fn make(&self) -> Vec<u8> {
        let mut out = self.prefix.clone();
        let base = if self.is_adjusted {
            0
        } else {
            self.prefix.len() as u64
        };
        let mut header_at = vec![0u64; self.entries.len()];
        let order: Vec<usize> = if self.reversed {
            (0..self.entries.len()).rev().collect()
        } else {
            (0..self.entries.len()).collect()
        };
        for i in order {
            header_at[i] = out.len() as u64 - base;
            self.entries[i].write_local(&mut out);
        }
        if let Some(unlisted) = &self.unlisted {
            unlisted.write_local(&mut out);
        }
        if let Some((from, to)) = self.shared_header {
            header_at[from] = header_at[to];
        }
        let directory_at = out.len() as u64 - base;
        for (entry, header_at) in self.entries.iter().zip(header_at) {
            entry.write_central(&mut out, header_at);
        }
        let directory_bytes = out.len() as u64 - base - directory_at;
        let count = self.entries.len() as u64;
        if self.zip64_end {
            let record_at = out.len() as u64 - base;
            out.extend(b"PK\x06\x06");
            out.extend(44u64.to_le_bytes());
            out.extend([45, 3, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            for value in [count, count, directory_bytes, directory_at] {
                out.extend(value.to_le_bytes());
            }
            out.extend(b"PK\x06\x07");
            out.extend([0; 4]);
            out.extend(record_at.to_le_bytes());
            out.extend(1u32.to_le_bytes());
        }
        let count = self.count.unwrap_or(count as u16);
        out.extend(b"PK\x05\x06\0\0\0\0");
        if self.zip64_end {
            out.extend([0xff; 12]);
        } else {
            out.extend(count.to_le_bytes());
            out.extend(count.to_le_bytes());
            out.extend((directory_bytes as u32).to_le_bytes());
            out.extend((directory_at as u32).to_le_bytes());
        }
        out.extend((self.comment.len() as u16).to_le_bytes());
        out.extend(&self.comment);
        out.extend(&self.trailing);
        out
    }
}

/// The index of a zip whose contents are only told of: names, and bytes of stored content.
pub(crate) fn sparse_index(entries: impl IntoIterator<Item = (String, u64)>) -> ZipIndex {
    let (mut tail, mut at, mut count) = (Vec::new(), 0_u64, 0_u64);
    for (name, size) in entries {
        let zip64: Vec<u8> = [size, size, at]
            .into_iter()
            .filter(|value| *value >= u64::from(u32::MAX))
            .flat_map(u64::to_le_bytes)
            .collect();
        let extra = if zip64.is_empty() {
            Vec::new()
        } else {
            let length = (zip64.len() as u16).to_le_bytes();
            [&super::ZIP64.to_le_bytes(), &length, &zip64[..]].concat()
        };
        tail.extend(b"PK\x01\x02");
        tail.extend([45, 3, 45, 0, 0, 0, 0, 0, 0x00, 0x60, 0x21, 0x58, 0, 0, 0, 0]);
        tail.extend(super::u32_or_ones(size));
        tail.extend(super::u32_or_ones(size));
        tail.extend((name.len() as u16).to_le_bytes());
        tail.extend((extra.len() as u16).to_le_bytes());
        tail.extend([0; 6]);
        tail.extend((0o100_644_u32 << 16).to_le_bytes());
        tail.extend(super::u32_or_ones(at));
        tail.extend(name.as_bytes());
        tail.extend(extra);
        at += (super::LOCAL_BYTES + name.len()) as u64 + size;
        count += 1;
    }
    let declared = super::Declared {
        entries: count,
        directory_bytes: tail.len() as u64,
        directory_at: at,
    };
    super::write_end(&mut tail, &declared);
    // Before the directory nothing is ever asked for.
    let mut reader = ZipReader::new(at + tail.len() as u64, &Limits::default());
    loop {
        match reader.step().unwrap() {
            Step::Done(index) => return index,
            Step::Need(range) => {
                let gap = at.saturating_sub(range.start);
                let from = (range.start + gap - at) as usize;
                let bytes = [
                    &vec![0; gap as usize],
                    &tail[from..(range.end - at) as usize],
                ]
                .concat();
                reader.feed(range, &bytes).unwrap();
            }
        }
    }
}
