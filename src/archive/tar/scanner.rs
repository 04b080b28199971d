//! A tar taken in pieces of any size, front to back, into a [`TarIndex`].
//!
//! Owns the order of blocks: extended headers, header, content, padding, end. The answer does not
//! depend on how the bytes are cut.

use super::header::{self, BLOCK, Header, padded};
use super::pax::Overrides;
use super::{
    CAPTURED_BYTES_MAX, EXTENDED_BYTES_MAX, OWNER_NAME_BYTES_MAX, Owner, Owners, Record, TarError,
    TarIndex, relative,
};
use crate::archive::{EntryKind, Limits};
use crate::object::ByteRange;

/// Decides by a file's name, without leading `./`, how many bytes of its content to hold: `None` for
/// those of no interest. A content that is longer is cut.
pub type Wanted = Box<dyn Fn(&[u8]) -> Option<u64> + Send>;

/// The content of a wanted file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// The entry's position in the index. Of several entries with one name, the last counts.
    pub index: u32,
    /// Its first bytes: all of them, unless it is larger than [`Wanted`] said, or than what
    /// [`CAPTURED_BYTES_MAX`] left.
    pub bytes: Vec<u8>,
}

/// What a whole tar gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarScan {
    /// Its entries.
    pub index: TarIndex,
    /// The contents of wanted files, in the archive's order.
    pub captured: Vec<Captured>,
}

/// Reads a tar front to back. See the [module](super) for what it takes.
pub struct TarScanner {
    limits: Limits,
    wanted: Wanted,
    index: TarIndex,
    owners: Owners,
    captured: Vec<Captured>,
    captured_bytes: u64,
    globals: Overrides,
    pending: Pending,
    position: u64,
    block: [u8; BLOCK],
    state: State,
}

/// What extended headers said about the entry to come.
#[derive(Default)]
struct Pending {
    /// Where the first of them lies.
    start: Option<u64>,
    crc32: crc32fast::Hasher,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    overrides: Overrides,
    /// A global header lies among them.
    global_inside: bool,
}

impl Pending {
    /// Takes bytes between the first extended header and the entry's own header.
    fn update(&mut self, bytes: &[u8]) {
        if self.start.is_some() {
            self.crc32.update(bytes);
        }
    }
}

enum State {
    /// Expects a block: so many bytes of it are held.
    Block { filled: usize },
    /// Takes the payload of an extended header.
    Extended {
        kind: Extended,
        offset: u64,
        payload: Vec<u8>,
        left: u64,
        padding: u64,
    },
    /// Passes through content, into the last captured one where `capture` is not 0.
    Content {
        left: u64,
        padding: u64,
        capture: u64,
    },
    /// Past a block of zeros: a second one makes a sound end, so many bytes of it are there.
    Ending { zeros: usize },
    /// Past the end: GNU tar ignores what follows.
    Ended,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Extended {
    Pax,
    Global,
    LongName,
    LongLink,
    /// A volume's label: no file.
    Ignored,
}

const EXPECT_BLOCK: State = State::Block { filled: 0 };

impl TarScanner {
    /// A scanner that holds no content.
    pub fn new(limits: &Limits) -> Self {
        Self {
            limits: *limits,
            wanted: Box::new(|_| None),
            index: TarIndex::new(),
            owners: Owners::default(),
            captured: Vec::new(),
            captured_bytes: 0,
            globals: Overrides::default(),
            pending: Pending::default(),
            position: 0,
            block: [0; BLOCK],
            state: EXPECT_BLOCK,
        }
    }

    /// Holds the contents that `wanted` decides on.
    pub fn wanting(mut self, wanted: Wanted) -> Self {
        self.wanted = wanted;
        self
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// Where they are no tar, or pass a limit. The scanner is of no use after that.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), TarError> {
        while !bytes.is_empty() {
            let used = self.step(bytes)?;
            bytes = bytes.get(used..).unwrap_or_default();
        }
        Ok(())
    }

    /// Where the next byte lies in the tar.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Whether nothing that follows matters.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// The next bytes that need not be fed but can be passed over by [`Self::skip`].
    pub(super) fn skippable(&self) -> u64 {
        match &self.state {
            State::Content {
                left,
                padding,
                capture: 0,
            } => left.saturating_add(*padding),
            _ => 0,
        }
    }

    /// Where the entry or block under way ends.
    pub(super) fn expected_end(&self) -> u64 {
        let missing = match &self.state {
            State::Block { filled: 0, .. } | State::Ending { .. } | State::Ended => 0,
            State::Block { filled, .. } => (BLOCK - filled) as u64,
            State::Extended { left, padding, .. } | State::Content { left, padding, .. } => {
                left.saturating_add(*padding)
            }
        };
        self.position.saturating_add(missing)
    }

    /// Passes over the whole [`Self::skippable`] stretch.
    pub(super) fn skip(&mut self) {
        let skipped = self.skippable();
        if skipped > 0 {
            self.position += skipped;
            self.state = EXPECT_BLOCK;
        }
    }

    /// Ends the tar.
    ///
    /// # Errors
    /// Where it ends too early. End-of-archive blocks may be missing.
    pub fn finish(mut self) -> Result<TarScan, TarError> {
        if self.position == 0 {
            return Err(TarError::Empty);
        }
        let expected = self.expected_end();
        if expected > self.position {
            return Err(TarError::Truncated {
                end: self.position,
                expected,
            });
        }
        if matches!(self.state, State::Block { .. }) {
            self.refuse_orphan()?;
            self.index.end = self.position;
            self.index.is_sound = true;
        }
        self.index.records.shrink_to_fit();
        self.index.names.shrink_to_fit();
        Ok(TarScan {
            index: self.index,
            captured: self.captured,
        })
    }

    fn refuse_orphan(&self) -> Result<(), TarError> {
        match self.pending.start {
            Some(offset) => Err(TarError::Orphan { offset }),
            None => Ok(()),
        }
    }

    /// The content under way, if it has at least `bytes_min` bytes: its entry, and where it lies.
    pub(crate) fn large_content(&self, bytes_min: u64) -> Option<(u32, ByteRange)> {
        let State::Content { left: 1.., .. } = self.state else {
            return None;
        };
        let last = self.index.records.len().checked_sub(1)?;
        if self.index.records.get(last)?.size < bytes_min {
            return None;
        }
        Some((u32::try_from(last).ok()?, self.index.placement(last)?.data))
    }

    /// Takes at least one of `bytes`, and says how many.
    pub(crate) fn step(&mut self, bytes: &[u8]) -> Result<usize, TarError> {
        let used = match &mut self.state {
            State::Ended => bytes.len(),
            State::Ending { zeros } => {
                let block = prefix(bytes, (BLOCK - *zeros) as u64);
                *zeros += block.len();
                if *zeros == BLOCK {
                    self.index.is_sound = true;
                }
                if *zeros == BLOCK || block.iter().any(|byte| *byte != 0) {
                    self.index.is_sound &= block.iter().all(|byte| *byte == 0);
                    self.state = State::Ended;
                }
                block.len()
            }
            State::Block { filled: 0 } if bytes.len() >= BLOCK => {
                let Some(block) = bytes.first_chunk() else {
                    return Ok(bytes.len());
                };
                self.position += BLOCK as u64;
                self.state = self.take_block(block)?;
                return Ok(BLOCK);
            }
            State::Block { filled } => {
                let free = self.block.get_mut(*filled..).unwrap_or_default();
                let used = copy_into(free, bytes);
                *filled += used;
                if *filled == BLOCK {
                    self.position += used as u64;
                    let block = self.block;
                    self.state = self.take_block(&block)?;
                    return Ok(used);
                }
                used
            }
            State::Extended {
                payload,
                left,
                padding,
                ..
            } => {
                let content = prefix(bytes, *left);
                self.pending.update(content);
                payload.extend_from_slice(content);
                *left -= content.len() as u64;
                let rest = bytes.get(content.len()..).unwrap_or_default();
                let filler = prefix(rest, *padding);
                if *left == 0 {
                    self.pending.update(filler);
                    *padding -= filler.len() as u64;
                }
                content.len() + if *left == 0 { filler.len() } else { 0 }
            }
            State::Content {
                left,
                padding,
                capture,
            } => {
                let content = prefix(bytes, *left);
                if *capture > 0 {
                    let held = prefix(content, *capture);
                    *capture -= held.len() as u64;
                    if let Some(captured) = self.captured.last_mut() {
                        captured.bytes.extend_from_slice(held);
                    }
                }
                *left -= content.len() as u64;
                let rest = bytes.get(content.len()..).unwrap_or_default();
                let filler = prefix(rest, *padding);
                if *left == 0 {
                    *padding -= filler.len() as u64;
                }
                content.len() + if *left == 0 { filler.len() } else { 0 }
            }
        };
        self.position += used as u64;
        self.close_finished()?;
        Ok(used)
    }

    /// Leaves a payload or content whose bytes are all there.
    fn close_finished(&mut self) -> Result<(), TarError> {
        match &mut self.state {
            State::Content {
                left: 0,
                padding: 0,
                ..
            } => self.state = EXPECT_BLOCK,
            State::Extended {
                kind,
                offset,
                payload,
                left: 0,
                padding: 0,
            } => {
                let (kind, offset, payload) = (*kind, *offset, std::mem::take(payload));
                self.state = EXPECT_BLOCK;
                self.take_payload(kind, offset, payload)?;
            }
            _ => (),
        }
        Ok(())
    }

    fn take_payload(
        &mut self,
        kind: Extended,
        offset: u64,
        payload: Vec<u8>,
    ) -> Result<(), TarError> {
        let pending = &mut self.pending;
        match kind {
            Extended::Pax => pending.overrides.read(&payload, offset, false)?,
            Extended::Global => self.globals.read(&payload, offset, true)?,
            Extended::LongName => pending.long_name = Some(header::text(&payload).to_vec()),
            Extended::LongLink => pending.long_link = Some(header::text(&payload).to_vec()),
            Extended::Ignored => (),
        }
        Ok(())
    }

    /// Takes the block that ends at the current position.
    fn take_block(&mut self, block: &[u8; BLOCK]) -> Result<State, TarError> {
        let offset = self.position - BLOCK as u64;
        let Some(header) = header::parse(block, offset)? else {
            // GNU tar ends at a lone block of zeros too, with a warning.
            self.refuse_orphan()?;
            self.index.end = offset;
            return Ok(State::Ending { zeros: 0 });
        };
        let kind = match header.typeflag {
            b'x' | b'X' => Extended::Pax,
            b'g' => Extended::Global,
            b'L' => Extended::LongName,
            b'K' => Extended::LongLink,
            b'V' => Extended::Ignored,
            b'M' => return Err(TarError::MultiVolume { offset }),
            _ => return self.take_entry(block, &header, offset),
        };
        let limit = match kind {
            Extended::LongName | Extended::LongLink => self.limits.name_bytes_max as u64 + 1,
            _ => EXTENDED_BYTES_MAX,
        };
        if header.size > limit {
            return Err(match kind {
                Extended::LongName | Extended::LongLink => {
                    let limit = self.limits.name_bytes_max;
                    TarError::NameTooLong {
                        offset,
                        length: header.size,
                        limit,
                    }
                }
                _ => TarError::ExtendedTooLarge {
                    offset,
                    size: header.size,
                    limit,
                },
            });
        }
        let alone = self.pending.start.is_none();
        if matches!(kind, Extended::Global | Extended::Ignored) {
            self.pending.global_inside |= !alone;
        } else if alone {
            self.pending.start = Some(offset);
        }
        self.pending.update(block);
        let padding = self.padding(offset, header.size)?;
        let left = header.size;
        let state = State::Extended {
            kind,
            offset,
            payload: Vec::new(),
            left,
            padding,
        };
        if left > 0 {
            return Ok(state);
        }
        self.take_payload(kind, offset, Vec::new())?;
        Ok(EXPECT_BLOCK)
    }

    fn take_entry(
        &mut self,
        block: &[u8; BLOCK],
        header: &Header<'_>,
        offset: u64,
    ) -> Result<State, TarError> {
        if self.index.records.len() >= self.limits.entries_max {
            return Err(TarError::TooManyEntries {
                limit: self.limits.entries_max,
            });
        }
        let mut pending = std::mem::take(&mut self.pending);
        pending.crc32.update(block);
        let said = pending.overrides;
        let name = match (said.path, pending.long_name) {
            (Some(name), _) | (None, Some(name)) => name,
            (None, None) if header.prefix.is_empty() => header.name.to_vec(),
            (None, None) => [header.prefix, b"/", header.name].concat(),
        };
        if header.typeflag == b'S' || said.sparse {
            return Err(TarError::Sparse {
                name: crate::archive::zip::shown(&name),
                offset,
            });
        }
        let link = said
            .link
            .or(pending.long_link)
            .unwrap_or_else(|| header.link.to_vec());
        let kind = kind(header.typeflag, &name);
        let has_content = !matches!(header.typeflag, b'1'..=b'6');
        let size = if has_content {
            said.size.unwrap_or(header.size)
        } else {
            0
        };
        let link = if matches!(kind, EntryKind::Symlink | EntryKind::HardLink) {
            link
        } else {
            Vec::new()
        };
        let owner = Owner {
            uid: said.uid.or(self.globals.uid).unwrap_or(header.uid),
            gid: said.gid.or(self.globals.gid).unwrap_or(header.gid),
            uname: owner_name(
                said.uname.as_deref().or(self.globals.uname.as_deref()),
                header.uname,
            ),
            gname: owner_name(
                said.gname.as_deref().or(self.globals.gname.as_deref()),
                header.gname,
            ),
        };
        let (mtime, mtime_nanos) = said
            .mtime
            .or(self.globals.mtime)
            .unwrap_or((header.mtime, 0));
        let start = pending.start.unwrap_or(offset);
        let header_blocks = (offset - start) / BLOCK as u64 + 1;
        let padding = self.padding(offset, size)?;
        let record = Record {
            header_offset: start,
            size,
            mtime,
            mtime_nanos,
            header_crc32: pending.crc32.finalize(),
            names_end: self.push_names(&name, &link, offset)?,
            header_blocks: u16::try_from(header_blocks).map_err(|_| {
                TarError::ExtendedTooLarge {
                    offset: start,
                    size: offset - start,
                    limit: u64::from(u16::MAX) * BLOCK as u64,
                }
            })?,
            link_length: u16::try_from(link.len()).unwrap_or_default(),
            owner: self.owners.number(owner, &mut self.index.owners)?,
            mode: header.mode,
            kind,
            self_contained: self.globals.is_empty() && !pending.global_inside,
        };
        self.index.records.push(record);
        let capture = self.capture(kind, &name, size);
        self.index.end = self.position.saturating_add(size).saturating_add(padding);
        Ok(if size == 0 {
            EXPECT_BLOCK
        } else {
            State::Content {
                left: size,
                padding,
                capture,
            }
        })
    }

    /// How many bytes of the entry just added to hold; an empty capture is made for them.
    fn capture(&mut self, kind: EntryKind, name: &[u8], size: u64) -> u64 {
        if kind != EntryKind::File {
            return 0;
        }
        let Some(most) = (self.wanted)(relative(name)) else {
            return 0;
        };
        let capture = size.min(most).min(CAPTURED_BYTES_MAX - self.captured_bytes);
        self.captured_bytes += capture;
        // Limits::entries_max is far below u32::MAX in every use; a larger one would only lose captures.
        if let Ok(index) = u32::try_from(self.index.records.len() - 1) {
            self.captured.push(Captured {
                index,
                bytes: Vec::new(),
            });
        }
        capture
    }

    /// Padding after content of `size` bytes that begins at the current position.
    fn padding(&self, offset: u64, size: u64) -> Result<u64, TarError> {
        let padded = padded(size).filter(|bytes| self.position.checked_add(*bytes).is_some());
        Ok(padded.ok_or(TarError::SizeOverflow { offset, size })? - size)
    }

    fn push_names(&mut self, name: &[u8], link: &[u8], offset: u64) -> Result<u32, TarError> {
        let limit = self.limits.name_bytes_max.min(usize::from(u16::MAX));
        let length = name.len().max(link.len());
        if length > limit {
            return Err(TarError::NameTooLong {
                offset,
                length: length as u64,
                limit,
            });
        }
        let limit = self.limits.directory_bytes_max.min(u64::from(u32::MAX));
        let names = &mut self.index.names;
        let end = names.len() + name.len() + link.len();
        if end as u64 > limit {
            return Err(TarError::NamesTooLarge { limit });
        }
        names.extend_from_slice(name);
        names.extend_from_slice(link);
        u32::try_from(end).map_err(|_| TarError::NamesTooLarge { limit })
    }
}

/// Types as GNU tar reads them; a file whose name ends with `/` is a directory of the time before types.
fn kind(typeflag: u8, name: &[u8]) -> EntryKind {
    match typeflag {
        b'0' | 0 | b'7' if name.ends_with(b"/") => EntryKind::Directory,
        b'0' | 0 | b'7' => EntryKind::File,
        b'1' => EntryKind::HardLink,
        b'2' => EntryKind::Symlink,
        b'5' => EntryKind::Directory,
        _ => EntryKind::Special,
    }
}

fn owner_name(said: Option<&[u8]>, header: &[u8]) -> Box<[u8]> {
    let name = said.unwrap_or(header);
    // Longer than any system allows: the ids will do.
    if name.len() > OWNER_NAME_BYTES_MAX {
        Box::default()
    } else {
        name.into()
    }
}

/// The first `most` bytes.
fn prefix(bytes: &[u8], most: u64) -> &[u8] {
    let most = usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
    bytes.get(..most).unwrap_or_default()
}

fn copy_into(free: &mut [u8], bytes: &[u8]) -> usize {
    let length = free.len().min(bytes.len());
    if let (Some(free), Some(bytes)) = (free.get_mut(..length), bytes.get(..length)) {
        free.copy_from_slice(bytes);
    }
    length
}
