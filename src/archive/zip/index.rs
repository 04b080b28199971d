//! The index of a zip: its central directory, checked, and where each entry's bytes lie.
//!
//! Holds the directory's raw bytes and 24 bytes an entry over them; everything else is read off the
//! bytes when it is asked for.

use super::header::{self, CentralHeader, LocalHeader};
use super::{ZipError, shown};
use crate::archive::{Entry, Limits};
use crate::object::ByteRange;

/// Bytes of the longest data descriptor: signature, CRC-32, two 64-bit sizes.
pub(super) const DESCRIPTOR_BYTES_MAX: u64 = 24;

/// A central directory's bytes and what the end records say about them.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) bytes: Vec<u8>,
    pub(super) range: ByteRange,
    pub(super) object_size: u64,
    /// What has to be added to every offset that the archive states.
    pub(super) shift: u64,
    pub(super) trailing_bytes: u64,
    pub(super) declared_entries: u64,
    pub(super) has_zip64: bool,
}

/// The index of a zip, in the order of its central directory.
#[derive(Debug)]
pub struct ZipIndex {
    directory: Vec<u8>,
    records: Vec<Record>,
    /// The positions of the entries in the order of their local headers, where that is another order.
    physical: Option<Vec<u32>>,
    directory_range: ByteRange,
    object_size: u64,
    is_sound: bool,
}

/// 24 bytes an entry: a million of them are allowed.
#[derive(Debug, Clone, Copy)]
struct Record {
    header_at: u64,
    span_end: u64,
    record_at: u32,
    has_unicode_name: bool,
}

impl ZipIndex {
    pub(super) fn read(directory: Directory, limits: &Limits) -> Result<Self, ZipError> {
        let records = read_records(&directory, limits)?;
        let found = records.len() as u64;
        let declared = directory.declared_entries;
        // Writers without zip64 let the count wrap around (macOS's Archive Utility, old Java).
        let has_wrapped = !directory.has_zip64 && found > 0xffff && found & 0xffff == declared;
        if found != declared && !has_wrapped {
            return Err(ZipError::CountMismatch { declared, found });
        }
        let mut index = Self {
            directory: directory.bytes,
            physical: physical_order(&records),
            records,
            directory_range: directory.range,
            object_size: directory.object_size,
            is_sound: directory.shift == 0 && directory.trailing_bytes == 0 && !has_wrapped,
        };
        index.measure_spans()?;
        Ok(index)
    }

    /// Settles where each entry's span ends, and refuses entries that cannot have their own bytes.
    fn measure_spans(&mut self) -> Result<(), ZipError> {
        let mut next: Option<(usize, u64)> = None;
        for step in (0..self.records.len()).rev() {
            let Some(i) = self.physical_position(step) else {
                continue;
            };
            let span_end = next.map_or(self.directory_range.start, |(_, at)| at);
            let Some(header_at) = self.records.get(i).map(|r| r.header_at) else {
                continue;
            };
            let least = self.least_end(i).filter(|end| *end <= span_end);
            if least.is_none() {
                let name = self.shown_name(i);
                let ends_at = self.least_end(i).unwrap_or(u64::MAX);
                return Err(match next {
                    None => ZipError::EntryOutside {
                        name,
                        ends_at,
                        ends_by: span_end,
                    },
                    Some((other, other_at)) => ZipError::EntryOverlap {
                        name,
                        ends_at,
                        other: self.shown_name(other),
                        other_at,
                    },
                });
            }
            if let Some(record) = self.records.get_mut(i) {
                record.span_end = span_end;
            }
            next = Some((i, header_at));
        }
        Ok(())
    }

    /// The least offset at which an entry can end, if its local header has no extra field.
    fn least_end(&self, index: usize) -> Option<u64> {
        let record = self.records.get(index)?;
        let header = self.header(index)?;
        let extent = header.extent()?;
        record
            .header_at
            .checked_add((header::LOCAL_BYTES + header.header_name.len()) as u64)?
            .checked_add(extent.stored_size)
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The entry at this position of the directory.
    pub fn entry(&self, index: usize) -> Option<Entry<'_>> {
        let modified_seconds = self.header(index)?.modified_seconds();
        Some(Entry {
            modified_seconds,
            ..self.entry_without_time(index)?
        })
    }

    /// As [`Self::entry`], without the time of its modification, which takes longest to read.
    pub fn entry_without_time(&self, index: usize) -> Option<Entry<'_>> {
        let record = self.records.get(index)?;
        let header = CentralHeader::parse(self.directory.get(record.record_at as usize..)?)?;
        let extent = header.extent()?;
        let name = if record.has_unicode_name {
            header.unicode_name()?
        } else {
            header.header_name
        };
        Some(Entry {
            name,
            kind: header.kind(name),
            mode: header.mode(),
            size: extent.size,
            stored_size: extent.stored_size,
            compression: header.compression(),
            encrypted: header.is_encrypted(),
            crc32: Some(header.crc32()),
            link_target: None,
            modified_seconds: None,
        })
    }

    /// All entries in the directory's order.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        (0..self.len()).filter_map(|index| self.entry(index))
    }

    /// The name at this position, a Unicode Path extra applied.
    pub fn name(&self, index: usize) -> Option<&[u8]> {
        let header = self.header(index)?;
        let replaced = self.records.get(index)?.has_unicode_name;
        if replaced {
            header.unicode_name()
        } else {
            Some(header.header_name)
        }
    }

    /// The directory's record at this position: flags, host, extra field as they stand there.
    pub fn header(&self, index: usize) -> Option<CentralHeader<'_>> {
        let record_at = self.records.get(index)?.record_at as usize;
        CentralHeader::parse(self.directory.get(record_at..)?)
    }

    /// The bytes from an entry's local header to the next one's or to the directory. They hold the entry
    /// and whatever stands unlisted behind it.
    pub fn span(&self, index: usize) -> Option<ByteRange> {
        let record = self.records.get(index)?;
        Some(ByteRange::new(record.header_at, record.span_end))
    }

    /// A range that holds an entry's local header and content, no longer than it may have to be.
    ///
    /// # Errors
    /// [`ZipError::NoSuchEntry`].
    pub fn content_span(&self, index: usize) -> Result<ByteRange, ZipError> {
        let span = self.span(index).ok_or_else(|| self.no_such_entry(index))?;
        let most = self
            .least_end(index)
            .unwrap_or(span.end)
            .saturating_add(u64::from(u16::MAX))
            .saturating_add(DESCRIPTOR_BYTES_MAX);
        Ok(ByteRange::new(span.start, span.end.min(most)))
    }

    /// The positions of the entries in the order of their local headers.
    pub fn in_physical_order(&self) -> impl Iterator<Item = usize> {
        (0..self.len()).filter_map(|step| self.physical_position(step))
    }

    /// The position of the entry whose local header is the `step`-th of all.
    pub fn physical_position(&self, step: usize) -> Option<usize> {
        match &self.physical {
            Some(order) => order.get(step).map(|i| *i as usize),
            None => (step < self.records.len()).then_some(step),
        }
    }

    /// Whether offsets, counts and the archive's end are as every reader wants them, so that the object
    /// may be shipped as it is.
    pub fn is_sound(&self) -> bool {
        self.is_sound
    }

    /// Where the central directory lies in the object.
    pub fn directory_range(&self) -> ByteRange {
        self.directory_range
    }

    /// Size of the object in bytes.
    pub fn object_size(&self) -> u64 {
        self.object_size
    }

    /// Holds an entry's local header, at the start of `bytes`, against the directory's record. The extra
    /// field may be cut; name and fixed part may not.
    ///
    /// # Errors
    /// `Local…` variants for the first difference, [`ZipError::ContentTruncated`] for too few bytes.
    pub fn compare_local_header(&self, index: usize, bytes: &[u8]) -> Result<(), ZipError> {
        let central = self
            .header(index)
            .ok_or_else(|| self.no_such_entry(index))?;
        let extent = central.extent().ok_or_else(|| self.no_such_entry(index))?;
        let name = || self.shown_name(index);
        if bytes.len() >= 4 && !header::begins_local_header(bytes) {
            let header_at = self.span(index).map_or(0, |span| span.start);
            return Err(ZipError::LocalSignature {
                name: name(),
                header_at,
            });
        }
        let (local, extra_is_whole) =
            LocalHeader::parse(bytes).ok_or_else(|| ZipError::ContentTruncated {
                name: name(),
                expected: (header::LOCAL_BYTES + central.header_name.len()) as u64,
                found: bytes.len() as u64,
            })?;
        if local.name != central.header_name {
            return Err(ZipError::LocalName {
                name: name(),
                found: shown(local.name),
            });
        }
        let mismatch = |field, expected, found| {
            Err(ZipError::LocalMismatch {
                name: name(),
                field,
                expected,
                found,
            })
        };
        let (flags, local_flags) = (
            central.flags() & header::FLAGS_COMPARED,
            local.flags() & header::FLAGS_COMPARED,
        );
        if flags != local_flags {
            return mismatch(
                "general purpose flags",
                u64::from(flags),
                u64::from(local_flags),
            );
        }
        if central.method() != local.method() {
            let (expected, found) = (u64::from(central.method()), u64::from(local.method()));
            return mismatch("compression method", expected, found);
        }
        let is_mended = central.sound_extra().len() < central.extra.len();
        if is_mended && extra_is_whole && local.extra != central.extra {
            let (expected, found) = (central.extra.len() as u64, local.extra.len() as u64);
            return mismatch("malformed extra field, by its length", expected, found);
        }
        // Where a descriptor follows, the local values are 0, or the right ones after all.
        let same = |expected: u64, found: u64| {
            found == expected || (central.has_descriptor() && found == 0)
        };
        let (crc32, local_crc32) = (u64::from(central.crc32()), u64::from(local.crc32()));
        if !same(crc32, local_crc32) {
            return mismatch("CRC-32", crc32, local_crc32);
        }
        match local.sizes() {
            Some((size, _)) if !same(extent.size, size) => mismatch("size", extent.size, size),
            Some((_, stored)) if !same(extent.stored_size, stored) => {
                mismatch("stored size", extent.stored_size, stored)
            }
            // Streaming writers put all ones there without a zip64 extra.
            None if extra_is_whole && !central.has_descriptor() => {
                mismatch("size", extent.size, u64::from(u32::MAX))
            }
            _ if local.has_unicode_path() && !central.has_unicode_path() => {
                mismatch("Unicode Path extra field", 0, 1)
            }
            _ => Ok(()),
        }
    }

    /// An entry's name for a message.
    pub(crate) fn shown_name(&self, index: usize) -> String {
        shown(self.name(index).unwrap_or_default())
    }

    pub(crate) fn no_such_entry(&self, index: usize) -> ZipError {
        ZipError::NoSuchEntry {
            index,
            entries: self.len(),
        }
    }
}

/// Reads every record of the directory, without their spans.
fn read_records(directory: &Directory, limits: &Limits) -> Result<Vec<Record>, ZipError> {
    let most = directory.bytes.len() / header::CENTRAL_BYTES;
    let declared = usize::try_from(directory.declared_entries).unwrap_or(usize::MAX);
    let mut records = Vec::with_capacity(most.min(declared));
    let mut at = 0;
    while let Some(rest) = directory.bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let index = records.len();
        if index >= limits.entries_max {
            let limit = limits.entries_max as u64;
            return Err(ZipError::TooManyEntries {
                entries: limit.saturating_add(1),
                limit,
            });
        }
        let header = CentralHeader::parse(rest).ok_or(ZipError::BadRecord { index, at })?;
        let unicode_name = header.unicode_name();
        let name = unicode_name.unwrap_or(header.header_name);
        let name_bytes = name.len().max(header.header_name.len());
        if name_bytes > limits.name_bytes_max {
            let limit = limits.name_bytes_max;
            return Err(ZipError::NameTooLong {
                index,
                name_bytes,
                limit,
            });
        }
        let extent = header
            .extent()
            .ok_or_else(|| ZipError::EntryZip64 { name: shown(name) })?;
        if extent.disk != 0 {
            return Err(ZipError::MultiDisk { disk: extent.disk });
        }
        let header_at = extent.header_at.checked_add(directory.shift);
        let header_at = header_at
            .filter(|at| *at < directory.range.start)
            .ok_or_else(|| ZipError::EntryOutside {
                name: shown(name),
                ends_at: extent.header_at.saturating_add(directory.shift),
                ends_by: directory.range.start,
            })?;
        records.push(Record {
            header_at,
            span_end: header_at,
            record_at: u32::try_from(at).map_err(|_| ZipError::BadRecord { index, at })?,
            has_unicode_name: unicode_name.is_some(),
        });
        at += header.record_bytes();
    }
    Ok(records)
}

fn physical_order(records: &[Record]) -> Option<Vec<u32>> {
    if records.is_sorted_by_key(|record| record.header_at) {
        return None;
    }
    let mut order: Vec<u32> = (0u32..).take(records.len()).collect();
    order.sort_by_key(|i| records.get(*i as usize).map(|record| record.header_at));
    Some(order)
}
