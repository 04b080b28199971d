//! Zip to zip: names change, some entries go, contents stay where they are.
//!
//! Of a local header only the name, its length and, rarely, the flags change, and all are known from the
//! central directory; so the whole plan is too, with every offset in the revision, and no local header
//! has to be read. Each one that changes passes through the function and is compared there. A header's own
//! extra field, its data descriptor and whatever stands behind an entry are copied as they are.

use super::{PlanBuilder, PlanError, SplicePlan};
use crate::archive::zip::{
    CentralHeader, Declared, ExtraFields, FLAG_UTF8, LOCAL_BYTES, LOCAL_FLAGS_AT,
    LOCAL_NAME_LENGTH_AT, UNICODE_PATH, ZIP64, ZipIndex, u32_or_ones, write_end,
};
use crate::contents::{KeptEntry, KeptName};
use crate::object::ByteRange;

const HOST_UNIX: u8 = 3;
const VERSION_ZIP64: u16 = 45;

/// What deflated content and directories need (APPNOTE 4.4.3.2).
const VERSION_DEFLATED: u16 = 20;

/// The newest version that unzip 6 reads: it skips entries whose directory record asks for more, whatever
/// they are. What the local header asks for it does not look at.
const VERSION_READ_MAX: u16 = 46;

/// What becomes of one kept entry.
struct Change<'a> {
    header: CentralHeader<'a>,
    name: &'a [u8],
    /// Flags in both headers of the revision.
    flags: u16,
    /// Whether the local header is not copied as it is.
    is_rewritten: bool,
}

/// Plans the revision of `kept`, which must ascend by index. Entries keep their order in the source, both
/// in the file and in the directory; the archive's comment and bytes before its first entry go.
///
/// # Errors
/// [`PlanError`]: kept entries that the index does not have or that do not ascend, and names or sums
/// that a zip cannot hold.
pub fn plan_splice(zip: &ZipIndex, kept: &[KeptEntry]) -> Result<SplicePlan, PlanError> {
    check_order(zip, kept)?;
    if is_identity(zip, kept)? {
        return Ok(SplicePlan::identity(zip.object_size()));
    }
    let mut plan = PlanBuilder::new(zip.object_size());
    // Where each kept entry's local header comes to lie, by its place in `kept`.
    let mut header_at = vec![0; kept.len()];
    for index in zip.in_physical_order() {
        let Ok(place) = kept.binary_search_by_key(&index, |entry| entry.index as usize) else {
            continue;
        };
        let Some(entry) = kept.get(place) else {
            continue;
        };
        if let Some(slot) = header_at.get_mut(place) {
            *slot = plan.output_size();
        }
        let span = zip.span(index).ok_or_else(|| no_such_entry(zip, index))?;
        add_entry(&mut plan, &change(zip, entry)?, span)?;
    }
    let directory_at = plan.output_size();
    let mut record = Vec::new();
    for (entry, header_at) in kept.iter().zip(header_at) {
        record.clear();
        write_record(&mut record, &change(zip, entry)?, header_at)?;
        plan.written(&record)?;
    }
    let directory_bytes = plan.output_size() - directory_at;
    record.clear();
    write_end(
        &mut record,
        &Declared {
            entries: kept.len() as u64,
            directory_bytes,
            directory_at,
        },
    );
    plan.written(&record)?;
    Ok(plan.finish())
}

fn check_order(zip: &ZipIndex, kept: &[KeptEntry]) -> Result<(), PlanError> {
    let mut before: Option<usize> = None;
    for entry in kept {
        let index = entry.index as usize;
        if index >= zip.len() {
            return Err(no_such_entry(zip, index));
        }
        if let Some(after) = before.filter(|before| *before >= index) {
            return Err(PlanError::OutOfOrder { index, after });
        }
        before = Some(index);
    }
    Ok(())
}

/// Whether the object may be shipped as it is: everything is kept under its name, and it is an archive
/// that every reader takes without a warning. Its comment, and bytes before it, stay.
fn is_identity(zip: &ZipIndex, kept: &[KeptEntry]) -> Result<bool, PlanError> {
    if !zip.is_sound() || kept.len() != zip.len() {
        return Ok(false);
    }
    for entry in kept {
        let change = change(zip, entry)?;
        if change.is_rewritten || version_needed(&change.header) != change.header.version_needed() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn no_such_entry(zip: &ZipIndex, index: usize) -> PlanError {
    PlanError::NoSuchEntry {
        index,
        entries: zip.len(),
    }
}

fn change<'a>(zip: &'a ZipIndex, entry: &'a KeptEntry) -> Result<Change<'a>, PlanError> {
    let index = entry.index as usize;
    let header = zip.header(index).ok_or_else(|| no_such_entry(zip, index))?;
    let name = match &entry.name {
        KeptName::Suffix { skip } => zip.name(index).and_then(|name| name.get(*skip as usize..)),
        KeptName::Renamed(name) => Some(&**name),
    };
    let name = name.unwrap_or_default();
    let limit = usize::from(u16::MAX);
    if name.is_empty() || name.len() > limit {
        return Err(PlanError::NameLength {
            index,
            name_bytes: name.len(),
            limit,
        });
    }
    let is_renamed = name != header.header_name;
    // Readers take an unflagged name from Unix as the bytes it is, from elsewhere as code page 437.
    let is_misread = !name.is_ascii() && (is_renamed || header.host() != HOST_UNIX);
    // With the flag set no reader looks at a Unicode Path extra, which would still hold the old name.
    let is_overridden = is_renamed && header.has_unicode_path();
    let mut flags = header.flags();
    if (is_misread || is_overridden) && std::str::from_utf8(name).is_ok() {
        flags |= FLAG_UTF8;
    }
    let is_malformed = header.sound_extra().len() < header.extra.len();
    let is_rewritten = is_renamed || is_malformed || flags != header.flags();
    Ok(Change {
        header,
        name,
        flags,
        is_rewritten,
    })
}

fn add_entry(
    plan: &mut PlanBuilder,
    change: &Change<'_>,
    span: ByteRange,
) -> Result<(), PlanError> {
    if !change.is_rewritten {
        return plan.copied(span);
    }
    let Change {
        header,
        name,
        flags,
        ..
    } = change;
    let at = |offset: u64| span.start.saturating_add(offset);
    let name_at = LOCAL_BYTES as u64;
    let old_name_end = name_at + header.header_name.len() as u64;
    let sound_extra = header.sound_extra();
    let malformed_bytes = header.extra.len() - sound_extra.len();
    let sound_end = old_name_end + sound_extra.len() as u64;
    // A malformed extra field is the same in both headers, or the entry is refused when it passes.
    let witness = if malformed_bytes == 0 {
        old_name_end
    } else {
        sound_end + malformed_bytes as u64
    };
    let witness = ByteRange::new(span.start, at(witness));
    if *flags == header.flags() {
        plan.copied(ByteRange::new(span.start, at(LOCAL_NAME_LENGTH_AT)))?;
        plan.passed(witness);
    } else {
        plan.copied(ByteRange::new(span.start, at(LOCAL_FLAGS_AT)))?;
        plan.passed(witness);
        plan.written(&flags.to_le_bytes())?;
        plan.copied(ByteRange::new(
            at(LOCAL_FLAGS_AT + 2),
            at(LOCAL_NAME_LENGTH_AT),
        ))?;
    }
    plan.written(&field_length(name)?)?;
    if malformed_bytes == 0 {
        plan.copied(ByteRange::new(at(LOCAL_NAME_LENGTH_AT + 2), at(name_at)))?;
    } else {
        plan.written(&field_length(sound_extra)?)?;
    }
    let kept_from = if header.header_name.ends_with(name) {
        old_name_end - name.len() as u64
    } else {
        plan.written(name)?;
        old_name_end
    };
    if malformed_bytes == 0 {
        plan.copied(ByteRange::new(at(kept_from), span.end))
    } else {
        plan.copied(ByteRange::new(at(kept_from), at(sound_end)))?;
        plan.copied(ByteRange::new(witness.end, span.end))
    }
}

/// The length field of an extra field, comment or name.
fn field_length(bytes: &[u8]) -> Result<[u8; 2], PlanError> {
    u16::try_from(bytes.len())
        .map(u16::to_le_bytes)
        .map_err(|_| PlanError::TooLarge {
            what: "field of more than 65535 bytes",
        })
}

/// The version that an entry asks for; one that unzip does not read is put right, because what is kept is
/// stored or deflated.
fn version_needed(header: &CentralHeader<'_>) -> u16 {
    let needed = header.version_needed();
    // The upper byte names a host, which readers pass over.
    if needed & 0xff > VERSION_READ_MAX {
        VERSION_DEFLATED
    } else {
        needed
    }
}

/// Writes an entry's record of the directory.
fn write_record(out: &mut Vec<u8>, change: &Change<'_>, header_at: u64) -> Result<(), PlanError> {
    let Change {
        header,
        name,
        flags,
        ..
    } = change;
    let extent = header.extent().ok_or(PlanError::TooLarge {
        what: "sizes without a zip64 value",
    })?;
    let mut zip64 = Vec::new();
    for value in [extent.size, extent.stored_size, header_at] {
        if value >= u64::from(u32::MAX) {
            zip64.extend(value.to_le_bytes());
        }
    }
    let mut extra = Vec::new();
    if !zip64.is_empty() {
        extra.extend(ZIP64.to_le_bytes());
        extra.extend((zip64.len() as u16).to_le_bytes());
        extra.extend(&zip64);
    }
    for field in ExtraFields::new(header.extra) {
        let is_stale = field.id == UNICODE_PATH && change.is_rewritten;
        if field.id != ZIP64 && !is_stale {
            extra.extend(field.whole);
        }
    }
    // A comment in another encoding would be misread once the flag says UTF-8.
    let is_reflagged = *flags != header.flags();
    let comment = if is_reflagged && std::str::from_utf8(header.comment).is_err() {
        &[]
    } else {
        header.comment
    };
    let needed = if zip64.is_empty() {
        version_needed(header)
    } else {
        version_needed(header).max(VERSION_ZIP64)
    };
    let fixed = header.fixed();
    out.extend(&fixed[..6]);
    out.extend(needed.to_le_bytes());
    out.extend(flags.to_le_bytes());
    out.extend(&fixed[10..20]);
    out.extend(u32_or_ones(extent.stored_size));
    out.extend(u32_or_ones(extent.size));
    out.extend(field_length(name)?);
    out.extend(field_length(&extra)?);
    out.extend(field_length(comment)?);
    out.extend([0; 2]);
    out.extend(&fixed[36..42]);
    out.extend(u32_or_ones(header_at));
    out.extend(*name);
    out.extend(extra);
    out.extend(comment);
    Ok(())
}
