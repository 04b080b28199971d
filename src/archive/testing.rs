//! An entry for tests that look at names.

use super::{Compression, Entry, EntryKind};

/// An entry without content; its mode is that of an ordinary file.
pub(crate) fn entry(name: &[u8], kind: EntryKind) -> Entry<'_> {
    Entry {
        name,
        kind,
        mode: Some(0o644),
        size: 0,
        stored_size: 0,
        compression: Compression::Stored,
        encrypted: false,
        crc32: None,
        link_target: None,
        modified_seconds: None,
    }
}

/// As [`entry`]: a directory where the name says so, else a file.
pub(crate) fn named(name: &str) -> Entry<'_> {
    let kind = if name.ends_with('/') {
        EntryKind::Directory
    } else {
        EntryKind::File
    };
    entry(name.as_bytes(), kind)
}
