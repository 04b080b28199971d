//! Why a zip could not be read, or is not what it says.

/// Why a zip could not be read, or is not what it says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZipError {
    /// No end record in the last 64 KiB.
    #[error(
        "object of {object_size} bytes is not a zip: it has no end of central directory record"
    )]
    NotZip {
        /// Size of the object in bytes.
        object_size: u64,
    },
    /// It begins with an entry, and has no end record in the last 64 KiB.
    #[error(
        "zip of {object_size} bytes is cut: it begins with an entry, expected an end of central directory record at \
         its end, found none"
    )]
    EndMissing {
        /// Size of the object in bytes.
        object_size: u64,
    },
    /// The end record or its comment is cut.
    #[error("end of central directory record is cut: expected {expected} bytes, found {found}")]
    EndTruncated {
        /// Bytes of the record with its comment.
        expected: u64,
        /// Bytes up to the object's end.
        found: u64,
    },
    /// The archive says that it spans several disks.
    #[error("zip spans several disks: expected disk 0 alone, found disk {disk}")]
    MultiDisk {
        /// A disk other than the first.
        disk: u32,
    },
    /// The zip64 records are missing, or contradict the end record.
    #[error("zip64 end record contradicts the end of central directory record: {field}")]
    BadZip64 {
        /// What differs.
        field: &'static str,
    },
    /// The directory does not lie where the end record says.
    #[error(
        "central directory is outside of the object: expected {directory_bytes} bytes at {directory_at}, \
         which must end by byte {ends_by}"
    )]
    DirectoryOutside {
        /// Offset as declared.
        directory_at: u64,
        /// Length as declared.
        directory_bytes: u64,
        /// Where the records after it begin.
        ends_by: u64,
    },
    /// More directory than may be held in memory.
    #[error("central directory is too large: {directory_bytes} bytes, at most {limit}")]
    DirectoryTooLarge {
        /// Length as declared.
        directory_bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// More entries than are taken in.
    #[error("zip has too many entries: {entries}, at most {limit}")]
    TooManyEntries {
        /// Entries declared or found.
        entries: u64,
        /// The limit.
        limit: u64,
    },
    /// The end record's count is wrong.
    #[error("central directory holds {found} entries, end record says {declared}")]
    CountMismatch {
        /// Entries by the end record.
        declared: u64,
        /// Entries in the directory.
        found: u64,
    },
    /// Something in the directory is not a record, or runs past its end.
    #[error("central directory has no whole record for entry {index} at its byte {at}")]
    BadRecord {
        /// Position of the entry.
        index: usize,
        /// Offset in the directory.
        at: usize,
    },
    /// A field is all ones, and the zip64 extra has no value for it.
    #[error("entry `{name}` needs a zip64 extra field for its sizes or offset and has none")]
    EntryZip64 {
        /// Name of the entry.
        name: String,
    },
    /// A name longer than the limit.
    #[error("name of entry {index} is too long: {name_bytes} bytes, at most {limit}")]
    NameTooLong {
        /// Position of the entry.
        index: usize,
        /// Length in bytes.
        name_bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// An entry reaches into the directory or past the object's end.
    #[error("entry `{name}` ends at byte {ends_at} or later, entries must end by byte {ends_by}")]
    EntryOutside {
        /// Name of the entry.
        name: String,
        /// The least offset at which it can end.
        ends_at: u64,
        /// Where the directory begins.
        ends_by: u64,
    },
    /// Two entries claim the same bytes.
    #[error(
        "entry `{name}` ends at byte {ends_at} or later and overlaps entry `{other}` at byte {other_at}"
    )]
    EntryOverlap {
        /// Name of the entry that comes first.
        name: String,
        /// The least offset at which it can end.
        ends_at: u64,
        /// Name of the entry that it overlaps.
        other: String,
        /// Offset of that one's local header.
        other_at: u64,
    },
    /// The index has no such entry.
    #[error("zip has {entries} entries, no entry {index}")]
    NoSuchEntry {
        /// Position asked for.
        index: usize,
        /// Entries in the index.
        entries: usize,
    },
    /// Bytes were given that were not asked for.
    #[error("bytes given at {found}, asked for at {expected}")]
    UnexpectedBytes {
        /// Offset asked for.
        expected: u64,
        /// Offset given.
        found: u64,
    },
    /// No local header where the directory says.
    #[error("entry `{name}` has no local header at byte {header_at}")]
    LocalSignature {
        /// Name of the entry.
        name: String,
        /// Offset in the object.
        header_at: u64,
    },
    /// The local header names another file.
    #[error("local header of entry `{name}` has another name: `{found}`")]
    LocalName {
        /// Name by the directory.
        name: String,
        /// Name by the local header.
        found: String,
    },
    /// The two headers of an entry disagree.
    #[error(
        "local header of entry `{name}` has another {field}: expected {expected}, found {found}"
    )]
    LocalMismatch {
        /// Name of the entry.
        name: String,
        /// What differs.
        field: &'static str,
        /// Value by the directory.
        expected: u64,
        /// Value by the local header.
        found: u64,
    },
    /// The content, or its header, is cut.
    #[error("entry `{name}` is cut: expected {expected} bytes, found {found}")]
    ContentTruncated {
        /// Name of the entry.
        name: String,
        /// Bytes of header and stored content.
        expected: u64,
        /// Bytes given.
        found: u64,
    },
    /// The content is ciphertext.
    #[error("entry `{name}` is encrypted")]
    Encrypted {
        /// Name of the entry.
        name: String,
    },
    /// A compression method other than stored and deflated.
    #[error(
        "entry `{name}` has compression method {method}, only 0 (stored) and 8 (deflated) are read"
    )]
    UnsupportedMethod {
        /// Name of the entry.
        name: String,
        /// Number of the method (APPNOTE 4.4.5).
        method: u16,
    },
    /// More content than the caller takes.
    #[error("entry `{name}` is too large: {size} bytes, at most {limit}")]
    ContentTooLarge {
        /// Name of the entry.
        name: String,
        /// Size as declared.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// The deflate stream is damaged.
    #[error("entry `{name}` cannot be inflated: {reason}")]
    Inflate {
        /// Name of the entry.
        name: String,
        /// What the decoder says.
        reason: String,
    },
    /// The content is not as long as declared.
    #[error("entry `{name}` declares {expected} bytes and holds {found}{}", if *.at_least { " or more" } else { "" })]
    SizeMismatch {
        /// Name of the entry.
        name: String,
        /// Size as declared.
        expected: u64,
        /// Size as found.
        found: u64,
        /// Whether reading stopped before the end.
        at_least: bool,
    },
    /// The stored content is not as long as declared.
    #[error("entry `{name}` declares {expected} stored bytes, its content ends after {found}")]
    StoredSizeMismatch {
        /// Name of the entry.
        name: String,
        /// Stored size as declared.
        expected: u64,
        /// Bytes up to the content's end.
        found: u64,
    },
    /// The content's checksum is wrong.
    #[error("entry `{name}` has CRC-32 {found:08x}, expected {expected:08x}")]
    Crc32Mismatch {
        /// Name of the entry.
        name: String,
        /// CRC-32 by the directory.
        expected: u32,
        /// CRC-32 of the content.
        found: u32,
    },
    /// The data descriptor contradicts the directory.
    #[error("data descriptor of entry `{name}` contradicts the central directory")]
    DescriptorMismatch {
        /// Name of the entry.
        name: String,
    },
}

impl ZipError {
    /// Stable word for what is wrong, as findings carry it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotZip { .. } => "archive-not-recognised",
            Self::EndMissing { .. } | Self::EndTruncated { .. } | Self::ContentTruncated { .. } => {
                "archive-truncated"
            }
            Self::MultiDisk { .. } => "zip-multi-disk",
            Self::BadZip64 { .. } | Self::EntryZip64 { .. } => "zip64-invalid",
            Self::DirectoryOutside { .. } | Self::BadRecord { .. } => "zip-directory-invalid",
            Self::CountMismatch { .. } => "zip-count-mismatch",
            Self::DirectoryTooLarge { .. } | Self::TooManyEntries { .. } => {
                "archive-too-many-entries"
            }
            Self::NameTooLong { .. } => "entry-name-too-long",
            Self::EntryOutside { .. } => "entry-outside-archive",
            Self::EntryOverlap { .. } => "entries-overlap",
            Self::NoSuchEntry { .. } | Self::UnexpectedBytes { .. } => "internal",
            Self::LocalSignature { .. }
            | Self::LocalName { .. }
            | Self::LocalMismatch { .. }
            | Self::DescriptorMismatch { .. } => "entry-headers-disagree",
            Self::Encrypted { .. } => "entry-encrypted",
            Self::UnsupportedMethod { .. } => "entry-compression-unsupported",
            Self::ContentTooLarge { .. } => "entry-too-large",
            Self::Inflate { .. } => "entry-damaged",
            Self::SizeMismatch { .. } | Self::StoredSizeMismatch { .. } => "entry-size-mismatch",
            Self::Crc32Mismatch { .. } => "entry-crc-mismatch",
        }
    }
}

/// An entry's name for a message: control characters escaped, what is not UTF-8 replaced, cut to a
/// readable length.
pub fn shown(name: &[u8]) -> String {
    const SHOWN_CHARS_MAX: usize = 200;
    String::from_utf8_lossy(
        name.get(..name.len().min(4 * SHOWN_CHARS_MAX))
            .unwrap_or(name),
    )
    .chars()
    .take(SHOWN_CHARS_MAX)
    .flat_map(|c| {
        let escaped: Box<dyn Iterator<Item = char>> = if c.is_control() {
            Box::new(c.escape_default())
        } else {
            Box::new(std::iter::once(c))
        };
        escaped
    })
    .collect()
}
