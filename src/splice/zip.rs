//! Zip to zip: names change, some entries go, contents stay where they are.
//!
//! Of a local header only the name, its length and, rarely, the flags change, and all are known from the
//! central directory; so the whole plan is too, with every offset in the revision, and no local header
//! has to be read for it. Each one that changes passes through the function and is compared there. A header's
//! own extra field, its data descriptor and whatever stands behind an entry are copied as they are.

use super::{AssembleError, FLAG_BITS, Layout, PlanError, REWRITTEN, SplicePlan, Step, flagged};
use crate::archive::zip::{
    CENTRAL_BYTES, CentralHeader, Declared, ExtraFields, FLAG_UTF8, LOCAL_BYTES, LOCAL_FLAGS_AT,
    LOCAL_NAME_LENGTH_AT, UNICODE_PATH, ZIP64, ZipError, ZipIndex, u32_or_ones, write_end,
};
use crate::contents::{KeptEntry, KeptName};
use crate::object::ByteRange;

const HOST_UNIX: u8 = 3;
const VERSION_ZIP64: u16 = 45;
/// Records of the directory that are made in one step.
const RECORDS_PER_STEP: usize = 256;

/// Where everything goes in a zip.
#[derive(Debug)]
pub(super) struct ZipLayout<'a> {
    zip: &'a ZipIndex,
    kept: &'a [KeptEntry],
    physical: Option<Physical>,
    /// Where each entry begins in the revision, in the order of local headers, then where the directory does.
    output_at: Vec<u64>,
    /// Where in the directory every [`RECORDS_PER_STEP`]th record begins, then its length.
    records_at: Vec<u64>,
    end: Vec<u8>,
}

/// The order of local headers, where it is another than the directory's.
#[derive(Debug)]
struct Physical {
    /// Places in `kept`.
    places: Vec<u32>,
    /// The position in `places` of each place.
    positions: Vec<u32>,
}

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
    extra: ExtraShape,
}

/// Lengths of what an extra field holds.
#[derive(Debug, Clone, Copy, Default)]
struct ExtraShape {
    /// Blocks up to the first that is malformed.
    sound: usize,
    /// Zip64 blocks.
    zip64: usize,
    /// Unicode Path blocks.
    unicode_path: usize,
}

impl ExtraShape {
    fn of(extra: &[u8]) -> Self {
        let mut shape = Self::default();
        // As most are.
        if extra.is_empty() {
            return shape;
        }
        for field in ExtraFields::new(extra) {
            shape.sound += field.whole.len();
            match field.id {
                ZIP64 => shape.zip64 += field.whole.len(),
                UNICODE_PATH => shape.unicode_path += field.whole.len(),
                _ => {}
            }
        }
        shape
    }
}

/// Plans the revision of `kept`, which must ascend by index. Entries keep their order in the source, both
/// in the file and in the directory; the archive's comment and bytes before its first entry go.
///
/// # Errors
/// [`PlanError`]: kept entries that the index does not have or that do not ascend, and names or sums
/// that a zip cannot hold.
pub fn plan_splice<'a>(
    zip: &'a ZipIndex,
    kept: &'a [KeptEntry],
) -> Result<SplicePlan<'a>, PlanError> {
    let physical = Physical::of(zip, kept)?;
    let mut layout = ZipLayout {
        zip,
        kept,
        output_at: Vec::with_capacity(kept.len().saturating_add(1)),
        records_at: Vec::with_capacity(kept.len() / RECORDS_PER_STEP + 2),
        physical,
        end: Vec::new(),
    };
    let (mut at, mut copied_bytes, mut directory_bytes) = (0_u64, 0_u64, 0_u64);
    let mut is_unchanged = zip.is_sound() && kept.len() == zip.len();
    let mut before: Option<usize> = None;
    for n in 0..kept.len() {
        let (place, entry) = layout.kept_at(n).ok_or_else(|| no_such_entry(zip, n))?;
        let index = entry.index as usize;
        if layout.physical.is_none() {
            check_order(index, &mut before)?;
        }
        let change = change(zip, entry)?;
        let span = zip.span(index).ok_or_else(|| no_such_entry(zip, index))?;
        if layout.physical.is_none() {
            if place % RECORDS_PER_STEP == 0 {
                layout.records_at.push(directory_bytes);
            }
            directory_bytes += change.record_bytes(at)?;
        }
        let flags = if change.is_rewritten { REWRITTEN } else { 0 };
        layout.output_at.push(flagged(at, flags)?);
        let copied = change.copied(span).length();
        copied_bytes += copied;
        at += copied + change.made_bytes();
        is_unchanged &= !change.is_rewritten
            && version_needed(&change.header) == change.header.version_needed();
    }
    if is_unchanged {
        return Ok(SplicePlan::identity(zip.object_size()));
    }
    layout.output_at.push(flagged(at, 0)?);
    if layout.physical.is_some() {
        for (place, entry) in kept.iter().enumerate() {
            if place % RECORDS_PER_STEP == 0 {
                layout.records_at.push(directory_bytes);
            }
            let header_at = layout.header_at(place).unwrap_or_default();
            directory_bytes += change(zip, entry)?.record_bytes(header_at)?;
        }
    }
    layout.records_at.push(directory_bytes);
    write_end(
        &mut layout.end,
        &Declared {
            entries: kept.len() as u64,
            directory_bytes,
            directory_at: at,
        },
    );
    let output_size = flagged(at + directory_bytes + layout.end.len() as u64, 0)?;
    Ok(SplicePlan {
        layout: Layout::Zip(layout),
        source_size: zip.object_size(),
        output_size,
        copied_bytes,
    })
}

impl Physical {
    /// `None` where local headers lie in the directory's order.
    fn of(zip: &ZipIndex, kept: &[KeptEntry]) -> Result<Option<Self>, PlanError> {
        if zip.is_in_physical_order() {
            return Ok(None);
        }
        let mut before = None;
        for entry in kept {
            let index = entry.index as usize;
            if index >= zip.len() {
                return Err(no_such_entry(zip, index));
            }
            check_order(index, &mut before)?;
        }
        let mut places: Vec<u32> = (0..).take(kept.len()).collect();
        places.sort_by_key(|place| {
            let entry = kept.get(*place as usize)?;
            Some(zip.span(entry.index as usize)?.start)
        });
        let mut positions = vec![0; places.len()];
        for (position, place) in (0..).zip(&places) {
            if let Some(slot) = positions.get_mut(*place as usize) {
                *slot = position;
            }
        }
        Ok(Some(Self { places, positions }))
    }
}

fn check_order(index: usize, before: &mut Option<usize>) -> Result<(), PlanError> {
    if let Some(after) = before.filter(|before| *before >= index) {
        return Err(PlanError::OutOfOrder { index, after });
    }
    *before = Some(index);
    Ok(())
}

fn no_such_entry(zip: &ZipIndex, index: usize) -> PlanError {
    PlanError::NoSuchEntry {
        index,
        entries: zip.len(),
    }
}

impl<'a> ZipLayout<'a> {
    pub(super) fn kept(&self) -> &'a [KeptEntry] {
        self.kept
    }

    /// The kept entry whose local header is the `n`th, with its place in `kept`.
    fn kept_at(&self, n: usize) -> Option<(usize, &'a KeptEntry)> {
        let place = match &self.physical {
            Some(physical) => *physical.places.get(n)? as usize,
            None => n,
        };
        Some((place, self.kept.get(place)?))
    }

    /// Where the header of the kept entry at `place` lies in the revision.
    fn header_at(&self, place: usize) -> Option<u64> {
        let n = match &self.physical {
            Some(physical) => *physical.positions.get(place)? as usize,
            None => place,
        };
        Some(self.output_at.get(n)? & !FLAG_BITS)
    }

    /// Where each entry begins in the revision, then where the directory does, with flags.
    pub(super) fn output_at(&self) -> &[u64] {
        &self.output_at
    }

    pub(super) fn extent(&self, n: usize) -> Option<(ByteRange, ByteRange)> {
        if n >= self.kept.len() {
            return self.step(n).map(|step| (step.output, step.copied));
        }
        let start = *self.output_at.get(n)? & !FLAG_BITS;
        let end = *self.output_at.get(n + 1)? & !FLAG_BITS;
        let index = self.kept_at(n)?.1.index as usize;
        Some((ByteRange::new(start, end), self.zip.span(index)?))
    }

    fn directory_at(&self) -> u64 {
        self.output_at.last().map_or(0, |at| at & !FLAG_BITS)
    }

    pub(super) fn step(&self, n: usize) -> Option<Step> {
        let Some(made) = n.checked_sub(self.kept.len()) else {
            return self.entry_step(n);
        };
        let range = |from: u64, to: u64| {
            Some(Step {
                output: ByteRange::new(self.directory_at() + from, self.directory_at() + to),
                passed: ByteRange::new(0, 0),
                copied: ByteRange::new(0, 0),
            })
        };
        let from = *self.records_at.get(made)?;
        match self.records_at.get(made + 1) {
            Some(to) => range(from, *to),
            None => range(from, from + self.end.len() as u64),
        }
    }

    fn entry_step(&self, n: usize) -> Option<Step> {
        let flagged = *self.output_at.get(n)?;
        let end = *self.output_at.get(n + 1)? & !FLAG_BITS;
        let index = self.kept_at(n)?.1.index as usize;
        let span = self.zip.span(index)?;
        let (passed, copied) = if flagged & REWRITTEN == 0 {
            (ByteRange::new(span.start, span.start), span)
        } else {
            let header = self.zip.header(index)?;
            let shape = header.sound_extra().len();
            split(span, &header, shape)
        };
        Some(Step {
            output: ByteRange::new(flagged & !FLAG_BITS, end),
            passed,
            copied,
        })
    }

    pub(super) fn step_at(&self, output: u64) -> usize {
        let directory_at = self.directory_at();
        if output < directory_at {
            let after = self
                .output_at
                .partition_point(|at| at & !FLAG_BITS <= output);
            return after.saturating_sub(1);
        }
        let within = output - directory_at;
        let after = self.records_at.partition_point(|at| *at <= within);
        self.kept.len() + after.saturating_sub(1)
    }

    pub(super) fn make(
        &self,
        n: usize,
        passed: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), AssembleError> {
        let Some(made) = n.checked_sub(self.kept.len()) else {
            if let Some((_, entry)) = self.kept_at(n) {
                self.make_header(entry, passed, out)?;
            }
            return Ok(());
        };
        if made + 1 == self.records_at.len() {
            out.extend_from_slice(&self.end);
            return Ok(());
        }
        let from = made.saturating_mul(RECORDS_PER_STEP);
        for (place, entry) in (from..).zip(self.kept.iter().skip(from).take(RECORDS_PER_STEP)) {
            // Planning has seen that there is a change for each of them.
            if let Ok(change) = change(self.zip, entry) {
                change.write_record(self.header_at(place).unwrap_or_default(), out);
            }
        }
        Ok(())
    }

    /// The local header of the revision, out of the source's.
    fn make_header(
        &self,
        entry: &KeptEntry,
        local: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), AssembleError> {
        let index = entry.index as usize;
        self.zip.compare_local_header(index, local)?;
        let truncated = |expected: usize| ZipError::ContentTruncated {
            name: self.zip.shown_name(index),
            expected: expected as u64,
            found: local.len() as u64,
        };
        let Ok(change) = change(self.zip, entry) else {
            return Ok(());
        };
        let name_end = LOCAL_BYTES + change.header.header_name.len();
        let fields = || {
            let (start, rest) = local.split_at_checked(LOCAL_FLAGS_AT as usize)?;
            let (flags, rest) = rest.split_at_checked(2)?;
            let middle_bytes = (LOCAL_NAME_LENGTH_AT - LOCAL_FLAGS_AT) as usize - flags.len();
            let (middle, rest) = rest.split_at_checked(middle_bytes)?;
            // Behind the name's length.
            let extra_length = rest.get(2..4)?;
            Some((start, flags, middle, extra_length, local.get(name_end..)?))
        };
        let Some((start, flags, middle, extra_length, extra)) = fields() else {
            return Err(truncated(name_end).into());
        };
        out.extend_from_slice(start);
        if change.flags == change.header.flags() {
            // What the two headers differ in elsewhere is left as it is.
            out.extend_from_slice(flags);
        } else {
            out.extend_from_slice(&change.flags.to_le_bytes());
        }
        out.extend_from_slice(middle);
        out.extend_from_slice(&field_length(change.name.len()));
        if change.is_malformed() {
            let sound = extra
                .get(..change.extra.sound)
                .filter(|_| extra.len() == change.header.extra.len())
                .ok_or_else(|| truncated(name_end + change.header.extra.len()))?;
            out.extend_from_slice(&field_length(sound.len()));
            out.extend_from_slice(change.name);
            out.extend_from_slice(sound);
        } else {
            out.extend_from_slice(extra_length);
            out.extend_from_slice(change.name);
        }
        Ok(())
    }
}

/// Of the span of an entry whose header changes: what passes, and what is copied. A malformed extra field
/// is the same in both headers, or the entry is refused when it passes.
fn split(span: ByteRange, header: &CentralHeader<'_>, sound: usize) -> (ByteRange, ByteRange) {
    let malformed = if sound < header.extra.len() {
        header.extra.len()
    } else {
        0
    };
    let passed = LOCAL_BYTES + header.header_name.len() + malformed;
    let middle = span.end.min(span.start.saturating_add(passed as u64));
    (
        ByteRange::new(span.start, middle),
        ByteRange::new(middle, span.end),
    )
}

fn change<'a>(zip: &'a ZipIndex, entry: &'a KeptEntry) -> Result<Change<'a>, PlanError> {
    let index = entry.index as usize;
    let (header, old_name) = zip
        .named_header(index)
        .ok_or_else(|| no_such_entry(zip, index))?;
    let name = match &entry.name {
        KeptName::Suffix { skip } => old_name.get(*skip as usize..).unwrap_or_default(),
        KeptName::Renamed(name) => name,
    };
    let limit = usize::from(u16::MAX);
    if name.is_empty() || name.len() > limit {
        return Err(PlanError::NameLength {
            index,
            name_bytes: name.len(),
            limit,
        });
    }
    let extra = ExtraShape::of(header.extra);
    let is_renamed = name != header.header_name;
    // Readers take an unflagged name from Unix as the bytes it is, from elsewhere as code page 437.
    let is_misread = (is_renamed || header.host() != HOST_UNIX) && !name.is_ascii();
    // With the flag set no reader looks at a Unicode Path extra, which would still hold the old name.
    let is_overridden = is_renamed && extra.unicode_path > 0;
    let mut flags = header.flags();
    if (is_misread || is_overridden) && std::str::from_utf8(name).is_ok() {
        flags |= FLAG_UTF8;
    }
    let is_malformed = extra.sound < header.extra.len();
    Ok(Change {
        is_rewritten: is_renamed || is_malformed || flags != header.flags(),
        header,
        name,
        flags,
        extra,
    })
}

impl Change<'_> {
    fn is_malformed(&self) -> bool {
        self.extra.sound < self.header.extra.len()
    }

    fn copied(&self, span: ByteRange) -> ByteRange {
        if self.is_rewritten {
            split(span, &self.header, self.extra.sound).1
        } else {
            span
        }
    }

    /// Length of the header that is made; 0 where it is copied.
    fn made_bytes(&self) -> u64 {
        let sound = if self.is_malformed() {
            self.extra.sound
        } else {
            0
        };
        if self.is_rewritten {
            (LOCAL_BYTES + self.name.len() + sound) as u64
        } else {
            0
        }
    }

    /// The values that the revision's record keeps in its zip64 block, and the block's length.
    fn zip64(&self, header_at: u64) -> Result<([Option<u64>; 3], usize), PlanError> {
        let extent = self.header.extent().ok_or(PlanError::TooLarge {
            what: "sizes without a zip64 value",
        })?;
        let values = [extent.size, extent.stored_size, header_at];
        if values.iter().all(|value| *value < u64::from(u32::MAX)) {
            return Ok(([None; 3], 0));
        }
        let values = values.map(|value| Some(value).filter(|value| *value >= u64::from(u32::MAX)));
        Ok((values, 4 + 8 * values.iter().flatten().count()))
    }

    /// Length of the extra blocks that go over into the revision's record.
    fn extra_kept_bytes(&self) -> usize {
        let stale = if self.is_rewritten {
            self.extra.unicode_path
        } else {
            0
        };
        self.extra.sound - self.extra.zip64 - stale
    }

    /// A comment in another encoding would be misread once the flag says UTF-8.
    fn comment(&self) -> &[u8] {
        let is_reflagged = self.flags != self.header.flags();
        if is_reflagged && std::str::from_utf8(self.header.comment).is_err() {
            &[]
        } else {
            self.header.comment
        }
    }

    /// Length of the entry's record in the directory.
    fn record_bytes(&self, header_at: u64) -> Result<u64, PlanError> {
        let (_, zip64_bytes) = self.zip64(header_at)?;
        let extra = zip64_bytes + self.extra_kept_bytes();
        if extra > usize::from(u16::MAX) {
            return Err(PlanError::TooLarge {
                what: "field of more than 65535 bytes",
            });
        }
        Ok((CENTRAL_BYTES + self.name.len() + extra + self.comment().len()) as u64)
    }

    /// Appends the entry's record of the directory.
    fn write_record(&self, header_at: u64, out: &mut Vec<u8>) {
        let (Some(extent), Ok((zip64, zip64_bytes))) =
            (self.header.extent(), self.zip64(header_at))
        else {
            return;
        };
        let comment = self.comment();
        let needed = if zip64_bytes == 0 {
            version_needed(&self.header)
        } else {
            version_needed(&self.header).max(VERSION_ZIP64)
        };
        let mut fixed = *self.header.fixed();
        fixed[6..8].copy_from_slice(&needed.to_le_bytes());
        fixed[8..10].copy_from_slice(&self.flags.to_le_bytes());
        fixed[20..24].copy_from_slice(&u32_or_ones(extent.stored_size));
        fixed[24..28].copy_from_slice(&u32_or_ones(extent.size));
        fixed[28..30].copy_from_slice(&field_length(self.name.len()));
        fixed[30..32].copy_from_slice(&field_length(zip64_bytes + self.extra_kept_bytes()));
        fixed[32..34].copy_from_slice(&field_length(comment.len()));
        fixed[34..36].copy_from_slice(&[0; 2]);
        fixed[42..46].copy_from_slice(&u32_or_ones(header_at));
        out.extend_from_slice(&fixed);
        out.extend_from_slice(self.name);
        if zip64_bytes > 0 {
            out.extend_from_slice(&ZIP64.to_le_bytes());
            out.extend_from_slice(&field_length(zip64_bytes - 4));
            for value in zip64.iter().flatten() {
                out.extend_from_slice(&value.to_le_bytes());
            }
        }
        if self.extra_kept_bytes() == self.header.extra.len() {
            out.extend_from_slice(self.header.extra);
        } else {
            for field in ExtraFields::new(self.header.extra) {
                let is_stale = field.id == UNICODE_PATH && self.is_rewritten;
                if field.id != ZIP64 && !is_stale {
                    out.extend_from_slice(field.whole);
                }
            }
        }
        out.extend_from_slice(comment);
    }
}

/// A length field; lengths were checked when the plan was made.
fn field_length(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes()
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
