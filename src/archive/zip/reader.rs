//! Reads a zip's index without the zip: asks for ranges, is fed bytes.
//!
//! The tail comes first, then, where they do not lie in it, the zip64 record and the rest of the central
//! directory. Nothing is allocated on the word of a field before it is held against the object's size.

use super::ZipError;
use super::end::{self, Declared, End};
use super::index::{Directory, ZipIndex};
use crate::archive::Limits;
use crate::object::ByteRange;

/// What a reader wants next.
#[derive(Debug)]
pub enum Step {
    /// These bytes of the object, by [`ZipReader::feed`]. Fewer will do: it asks again for the rest.
    Need(ByteRange),
    /// Nothing; this is the index.
    Done(ZipIndex),
}

/// Reads the index of a zip of known size.
#[derive(Debug)]
pub struct ZipReader {
    object_size: u64,
    limits: Limits,
    /// The range being read, and what of it is there.
    wanted: ByteRange,
    buffer: Vec<u8>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Tail,
    /// The zip64 record, which does not lie beside its locator.
    Zip64End {
        tail: Tail,
        end: End,
    },
    /// What of the directory lies before the tail.
    Directory {
        tail: Tail,
        place: Place,
    },
    Finished,
}

/// The object's last bytes.
#[derive(Debug)]
struct Tail {
    at: u64,
    bytes: Vec<u8>,
}

impl Tail {
    fn get(&self, range: ByteRange) -> Option<&[u8]> {
        let start = usize::try_from(range.start.checked_sub(self.at)?).ok()?;
        let end = usize::try_from(range.end.checked_sub(self.at)?).ok()?;
        self.bytes.get(start..end)
    }
}

const NO_RECORD: &str = "no record where its locator says";

/// Where a zip64 record lies, and where its locator says that it does.
#[derive(Debug, Clone, Copy)]
struct Zip64Place {
    record_at: u64,
    declared_at: u64,
}

/// Where the directory really lies, and what is declared about it.
#[derive(Debug, Clone, Copy)]
struct Place {
    range: ByteRange,
    declared: Declared,
    has_zip64: bool,
    trailing_bytes: u64,
}

impl ZipReader {
    /// A reader of an object of this size.
    pub fn new(object_size: u64, limits: &Limits) -> Self {
        let tail_at = object_size.saturating_sub(end::TAIL_BYTES);
        Self {
            object_size,
            limits: *limits,
            wanted: ByteRange::new(tail_at, object_size),
            buffer: Vec::new(),
            stage: Stage::Tail,
        }
    }

    /// The range that is wanted next, or the index.
    ///
    /// # Errors
    /// Every way in which the object is no zip that could be deployed: see [`ZipError`].
    pub fn step(&mut self) -> Result<Step, ZipError> {
        loop {
            let have = self.buffer.len() as u64;
            if have < self.wanted.length() {
                return Ok(Step::Need(ByteRange::new(
                    self.wanted.start + have,
                    self.wanted.end,
                )));
            }
            let bytes = std::mem::take(&mut self.buffer);
            match std::mem::replace(&mut self.stage, Stage::Finished) {
                Stage::Tail => self.locate(Tail {
                    at: self.wanted.start,
                    bytes,
                })?,
                Stage::Zip64End { tail, end } => {
                    let declared = bytes
                        .first_chunk()
                        .map_or(Ok(None), |record| end::read_zip64_end(record, &end))?
                        .ok_or(ZipError::BadZip64 { field: NO_RECORD })?;
                    let record_at = self.wanted.start;
                    let zip64 = Some(Zip64Place {
                        record_at,
                        declared_at: record_at,
                    });
                    self.place(tail, &end, declared, zip64, record_at)?;
                }
                Stage::Directory { tail, place } => return self.finish(bytes, &tail, &place),
                Stage::Finished => {
                    return Err(ZipError::NotZip {
                        object_size: self.object_size,
                    });
                }
            }
        }
    }

    /// Takes bytes of the object that begin where `range` begins, which is where the range last asked for
    /// does. Fewer bytes than asked for will do, and more are ignored.
    ///
    /// # Errors
    /// [`ZipError::UnexpectedBytes`] for bytes of another place.
    pub fn feed(&mut self, range: ByteRange, bytes: &[u8]) -> Result<(), ZipError> {
        let have = self.buffer.len() as u64;
        let expected = self.wanted.start + have;
        if range.start != expected {
            return Err(ZipError::UnexpectedBytes {
                expected,
                found: range.start,
            });
        }
        let missing = usize::try_from(self.wanted.length() - have).unwrap_or(usize::MAX);
        let taken = bytes.get(..missing).unwrap_or(bytes);
        self.buffer.extend_from_slice(taken);
        Ok(())
    }

    /// Reads the end records out of the tail, and goes for the zip64 record or the directory.
    fn locate(&mut self, tail: Tail) -> Result<(), ZipError> {
        let end = end::find_end(&tail.bytes, self.object_size)?;
        let end_at = tail.at + end.at as u64;
        let locator = tail
            .bytes
            .get(..end.at)
            .and_then(|before| before.last_chunk())
            .map_or(Ok(None), end::read_locator)?;
        let Some(locator) = locator else {
            end.check_disks()?;
            return self.place(tail, &end, end.declared, None, end_at);
        };
        let locator_at = end_at - end::LOCATOR_BYTES as u64;
        let record_bytes = end::ZIP64_END_BYTES as u64;
        // Right before the locator, unless it has extensible data, which hardly anybody writes.
        let beside = ByteRange::new(locator_at.saturating_sub(record_bytes), locator_at);
        if let Some(record) = tail.get(beside).and_then(|bytes| bytes.first_chunk())
            && let Some(declared) = end::read_zip64_end(record, &end)?
        {
            let zip64 = Some(Zip64Place {
                record_at: beside.start,
                declared_at: locator.record_at,
            });
            return self.place(tail, &end, declared, zip64, beside.start);
        }
        let elsewhere = ByteRange::at(locator.record_at, record_bytes);
        let Some(range) = elsewhere.filter(|range| range.end <= locator_at) else {
            return Err(ZipError::BadZip64 { field: NO_RECORD });
        };
        self.wanted = range;
        self.stage = Stage::Zip64End { tail, end };
        Ok(())
    }

    /// Settles where the directory lies: it ends where the end records begin. An offset that is less
    /// than that has not counted bytes before the archive; unzip and Python read such archives too.
    fn place(
        &mut self,
        tail: Tail,
        end: &End,
        declared: Declared,
        zip64: Option<Zip64Place>,
        ends_by: u64,
    ) -> Result<(), ZipError> {
        let Declared {
            entries,
            directory_bytes,
            directory_at,
        } = declared;
        let outside = ZipError::DirectoryOutside {
            directory_at,
            directory_bytes,
            ends_by,
        };
        let start = ends_by
            .checked_sub(directory_bytes)
            .ok_or(outside.clone())?;
        if directory_at > start {
            return Err(outside);
        }
        // Readers that believe the locator must find the same record.
        let shift = start - directory_at;
        if zip64.is_some_and(|place| place.declared_at.checked_add(shift) != Some(place.record_at))
        {
            return Err(ZipError::BadZip64 { field: NO_RECORD });
        }
        let limit = self.limits.directory_bytes_max.min(u64::from(u32::MAX));
        if directory_bytes > limit {
            return Err(ZipError::DirectoryTooLarge {
                directory_bytes,
                limit,
            });
        }
        let limit = self.limits.entries_max as u64;
        if entries > limit {
            return Err(ZipError::TooManyEntries { entries, limit });
        }
        let range = ByteRange::new(start, ends_by);
        let has_zip64 = zip64.is_some();
        let place = Place {
            range,
            declared,
            has_zip64,
            trailing_bytes: end.trailing_bytes,
        };
        self.wanted = ByteRange::new(start, ends_by.min(tail.at).max(start));
        // The rest of the directory, out of the tail, joins the same buffer.
        self.buffer
            .reserve_exact(usize::try_from(directory_bytes).unwrap_or(0));
        self.stage = Stage::Directory { tail, place };
        Ok(())
    }

    fn finish(&self, mut directory: Vec<u8>, tail: &Tail, place: &Place) -> Result<Step, ZipError> {
        let rest = ByteRange::new(place.range.start.max(tail.at), place.range.end);
        directory.extend(tail.get(rest).unwrap_or_default());
        let index = ZipIndex::read(
            Directory {
                bytes: directory,
                range: place.range,
                object_size: self.object_size,
                shift: place.range.start - place.declared.directory_at,
                trailing_bytes: place.trailing_bytes,
                declared_entries: place.declared.entries,
                has_zip64: place.has_zip64,
            },
            &self.limits,
        )?;
        Ok(Step::Done(index))
    }
}
