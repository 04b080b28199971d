//! The end of a zip (APPNOTE 4.3.14-4.3.16): where its central directory lies.
//!
//! ```text
//! zip64 record   PK\6\6 | size of the rest u64 | made by, needed u16 | disk, directory's disk u32
//!                | entries here, in all u64 | directory bytes, offset u64 | …
//! zip64 locator  PK\6\7 | record's disk u32 | record's offset u64 | disks u32
//! end record     PK\5\6 | disk, directory's disk u16 | entries here, in all u16
//!                | directory bytes, offset u32 | comment length u16 | comment
//! ```

use super::ZipError;

/// Bytes of an end record without its comment.
pub const END_BYTES: usize = 22;
/// Bytes of a zip64 locator.
pub const LOCATOR_BYTES: usize = 20;
/// Bytes of a zip64 record without its extensible data.
pub const ZIP64_END_BYTES: usize = 56;
/// Bytes at an object's end that hold every end record as it is usually written: the longest comment, the end
/// record, locator and zip64 record.
pub const TAIL_BYTES: u64 = (0xffff + END_BYTES + LOCATOR_BYTES + ZIP64_END_BYTES) as u64;

const END_SIGNATURE: [u8; 4] = *b"PK\x05\x06";
const LOCATOR_SIGNATURE: [u8; 4] = *b"PK\x06\x07";
const ZIP64_END_SIGNATURE: [u8; 4] = *b"PK\x06\x06";

/// What the end records declare about the central directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Declared {
    /// Entries.
    pub entries: u64,
    /// Length of the central directory in bytes.
    pub directory_bytes: u64,
    /// Offset of the central directory as written, which may not count bytes before the archive.
    pub directory_at: u64,
}

/// An end record, found in an object's last bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Its position in those bytes.
    pub at: usize,
    /// The 32-bit declaration.
    pub declared: Declared,
    /// Bytes after the comment; nothing should stand there.
    pub trailing_bytes: u64,
    disk: u16,
    directory_disk: u16,
    entries_here: u16,
}

/// Where a zip64 record should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Locator {
    /// The record's offset as written.
    pub record_at: u64,
}

/// Whether `last_bytes` of an object hold an end record's signature.
pub fn has_end(last_bytes: &[u8]) -> bool {
    last_bytes.windows(4).any(|w| w == END_SIGNATURE)
}

/// Finds the end record in the object's last bytes.
///
/// The last signature is taken, whatever its comment length says: that is the one that unzip, Python and
/// rubyzip take, so that nobody can show them another directory than us.
///
/// # Errors
/// [`ZipError::NotZip`], [`ZipError::EndTruncated`], [`ZipError::MultiDisk`].
pub fn find_end(tail: &[u8], object_size: u64) -> Result<End, ZipError> {
    let not_zip = ZipError::NotZip { object_size };
    let most = END_BYTES + 0xffff;
    let (before, tail) = tail
        .split_at_checked(tail.len().saturating_sub(most))
        .unwrap_or((&[], tail));
    let at = tail
        .windows(4)
        .rposition(|w| w == END_SIGNATURE)
        .ok_or(not_zip)?;
    let found = tail.get(at..).unwrap_or_default();
    let Some((fixed, rest)) = found.split_first_chunk::<END_BYTES>() else {
        return Err(ZipError::EndTruncated {
            expected: END_BYTES as u64,
            found: found.len() as u64,
        });
    };
    let u16_at = |a: u8, b: u8| u16::from_le_bytes([a, b]);
    let comment = u64::from(u16_at(fixed[20], fixed[21]));
    let rest = rest.len() as u64;
    let trailing_bytes = rest.checked_sub(comment).ok_or(ZipError::EndTruncated {
        expected: END_BYTES as u64 + comment,
        found: END_BYTES as u64 + rest,
    })?;
    Ok(End {
        at: before.len() + at,
        declared: Declared {
            entries: u64::from(u16_at(fixed[10], fixed[11])),
            directory_bytes: u64::from(u32::from_le_bytes([
                fixed[12], fixed[13], fixed[14], fixed[15],
            ])),
            directory_at: u64::from(u32::from_le_bytes([
                fixed[16], fixed[17], fixed[18], fixed[19],
            ])),
        },
        trailing_bytes,
        disk: u16_at(fixed[4], fixed[5]),
        directory_disk: u16_at(fixed[6], fixed[7]),
        entries_here: u16_at(fixed[8], fixed[9]),
    })
}

impl End {
    /// Refuses an archive over several disks, where no zip64 record speaks for the fields.
    ///
    /// # Errors
    /// [`ZipError::MultiDisk`].
    pub fn check_disks(&self) -> Result<(), ZipError> {
        let one_disk = self.disk == 0
            && self.directory_disk == 0
            && u64::from(self.entries_here) == self.declared.entries;
        if one_disk {
            Ok(())
        } else {
            Err(ZipError::MultiDisk {
                disk: u32::from(self.disk.max(self.directory_disk)),
            })
        }
    }
}

/// The locator in the 20 bytes before the end record, if they are one.
///
/// # Errors
/// [`ZipError::MultiDisk`].
pub fn read_locator(bytes: &[u8; LOCATOR_BYTES]) -> Result<Option<Locator>, ZipError> {
    let [s0, s1, s2, s3, d0, d1, d2, d3, at @ .., n0, n1, n2, n3] = *bytes;
    if [s0, s1, s2, s3] != LOCATOR_SIGNATURE {
        return Ok(None);
    }
    let disk = u32::from_le_bytes([d0, d1, d2, d3]);
    let disks = u32::from_le_bytes([n0, n1, n2, n3]);
    // Some writers leave the number of disks 0.
    if disk != 0 || disks > 1 {
        return Err(ZipError::MultiDisk {
            disk: disk.max(disks),
        });
    }
    Ok(Some(Locator {
        record_at: u64::from_le_bytes(at),
    }))
}

/// Reads a zip64 record, if the bytes are one, and holds it against the end record.
///
/// # Errors
/// [`ZipError::MultiDisk`]; [`ZipError::BadZip64`] where the two disagree in a field that fits 32 bits.
pub fn read_zip64_end(
    bytes: &[u8; ZIP64_END_BYTES],
    end: &End,
) -> Result<Option<Declared>, ZipError> {
    let (signature, rest) = bytes.split_at(4);
    if signature != ZIP64_END_SIGNATURE {
        return Ok(None);
    }
    let u64_at = |at: usize| {
        rest.get(at..at + 8)
            .and_then(|b| b.first_chunk::<8>())
            .map_or(0, |b| u64::from_le_bytes(*b))
    };
    let disks = u64_at(12);
    if disks != 0 {
        return Err(ZipError::MultiDisk {
            disk: (disks as u32).max((disks >> 32) as u32),
        });
    }
    let declared = Declared {
        entries: u64_at(28),
        directory_bytes: u64_at(36),
        directory_at: u64_at(44),
    };
    if u64_at(20) != declared.entries {
        return Err(ZipError::MultiDisk { disk: 1 });
    }
    let agree = |short: u64, ones: u64, long: u64| short == ones || short == long;
    if !agree(end.declared.entries, 0xffff, declared.entries) {
        return Err(ZipError::BadZip64 {
            field: "number of entries",
        });
    }
    if !agree(
        end.declared.directory_bytes,
        0xffff_ffff,
        declared.directory_bytes,
    ) {
        return Err(ZipError::BadZip64 {
            field: "directory length",
        });
    }
    if !agree(
        end.declared.directory_at,
        0xffff_ffff,
        declared.directory_at,
    ) {
        return Err(ZipError::BadZip64 {
            field: "directory offset",
        });
    }
    Ok(Some(declared))
}

/// Writes the end of an archive without a comment, with zip64 records where a value needs them.
pub fn write_end(out: &mut Vec<u8>, declared: &Declared) {
    let needs_zip64 = declared.entries >= 0xffff
        || declared.directory_bytes >= 0xffff_ffff
        || declared.directory_at >= 0xffff_ffff;
    if needs_zip64 {
        let record_at = declared
            .directory_at
            .saturating_add(declared.directory_bytes);
        out.extend(ZIP64_END_SIGNATURE);
        out.extend((ZIP64_END_BYTES as u64 - 12).to_le_bytes());
        out.extend([45, 3, 45, 0]);
        out.extend([0; 8]);
        out.extend(declared.entries.to_le_bytes());
        out.extend(declared.entries.to_le_bytes());
        out.extend(declared.directory_bytes.to_le_bytes());
        out.extend(declared.directory_at.to_le_bytes());
        out.extend(LOCATOR_SIGNATURE);
        out.extend([0; 4]);
        out.extend(record_at.to_le_bytes());
        out.extend(1u32.to_le_bytes());
    }
    let entries = u16::try_from(declared.entries).unwrap_or(u16::MAX);
    out.extend(END_SIGNATURE);
    out.extend([0; 4]);
    out.extend(entries.to_le_bytes());
    out.extend(entries.to_le_bytes());
    out.extend(u32_or_ones(declared.directory_bytes));
    out.extend(u32_or_ones(declared.directory_at));
    out.extend([0; 2]);
}

/// A 32-bit field: the value, or all ones where zip64 holds it.
pub fn u32_or_ones(value: u64) -> [u8; 4] {
    u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(declared: Declared) -> Declared {
        let mut bytes = Vec::new();
        write_end(&mut bytes, &declared);
        let end = find_end(&bytes, 1 << 40).unwrap();
        end.check_disks().unwrap();
        assert_eq!(end.trailing_bytes, 0);
        let Some(before) = bytes[..end.at].last_chunk::<LOCATOR_BYTES>() else {
            return end.declared;
        };
        let locator = read_locator(before).unwrap().unwrap();
        assert_eq!(
            locator.record_at,
            declared.directory_at + declared.directory_bytes
        );
        read_zip64_end(bytes.first_chunk().unwrap(), &end)
            .unwrap()
            .unwrap()
    }

    #[test]
    fn ok_what_is_written_is_read_on_both_sides_of_every_zip64_limit() {
        for entries in [0, 1, 0xfffe, 0xffff, 0x10000] {
            for directory_bytes in [0, 46, 0xffff_fffe, 0xffff_ffff, 0x1_0000_0000] {
                for directory_at in [0, 0xffff_fffe, 0xffff_ffff, 0x1_0000_0000] {
                    let declared = Declared {
                        entries,
                        directory_bytes,
                        directory_at,
                    };
                    assert_eq!(round_trip(declared), declared);
                }
            }
        }
    }

    #[test]
    fn err_no_end_and_cut_ends() {
        let mut bytes = Vec::new();
        write_end(
            &mut bytes,
            &Declared {
                entries: 0,
                directory_bytes: 0,
                directory_at: 0,
            },
        );
        assert!(matches!(
            find_end(b"hello", 5),
            Err(ZipError::NotZip { object_size: 5 })
        ));
        for cut in 4..END_BYTES {
            let found = find_end(&bytes[..cut], cut as u64);
            assert!(matches!(
                found,
                Err(ZipError::EndTruncated { expected: 22, .. })
            ));
        }
        bytes[20] = 3;
        let found = find_end(&bytes, 22);
        assert!(matches!(
            found,
            Err(ZipError::EndTruncated {
                expected: 25,
                found: 22
            })
        ));
    }

    #[test]
    fn err_several_disks() {
        let mut bytes = Vec::new();
        write_end(
            &mut bytes,
            &Declared {
                entries: 3,
                directory_bytes: 200,
                directory_at: 0,
            },
        );
        bytes[8] = 2;
        let end = find_end(&bytes, 22).unwrap();
        assert!(matches!(end.check_disks(), Err(ZipError::MultiDisk { .. })));
    }

    #[test]
    fn err_zip64_record_that_disagrees_with_the_end_record() {
        let mut bytes = Vec::new();
        let declared = Declared {
            entries: 70_000,
            directory_bytes: 4_000_000,
            directory_at: 9,
        };
        write_end(&mut bytes, &declared);
        let mut end = find_end(&bytes, 1 << 30).unwrap();
        end.declared.directory_bytes = 3_999_999;
        let found = read_zip64_end(bytes.first_chunk().unwrap(), &end);
        assert!(matches!(
            found,
            Err(ZipError::BadZip64 {
                field: "directory length"
            })
        ));
    }
}
