//! Zip (PKWARE's APPNOTE 6.3): an index out of ranges of an object, and single entries out of theirs.
//!
//! ```text
//! [bytes before] (local header | content | descriptor?)… central directory | zip64 end? | end record | comment
//! ```
//!
//! The central directory alone says what the archive holds; what only local headers name does not exist
//! for any reader and so not for us. Refused at reading is what leaves no single meaning: directories that
//! lie elsewhere, counts that are wrong, entries that overlap or reach out of the object. Encryption, methods
//! and flags are facts of an entry, for the bundle check to judge; local headers and contents are compared
//! where their bytes come by. Knows nothing of roots, names to keep, or S3.

mod content;
mod dos_time;
mod end;
mod error;
mod extra;
mod header;
mod index;
mod reader;
mod write;

pub use content::{Checked, EntryReader};
pub use end::TAIL_BYTES;
pub(crate) use end::has_end;
pub(crate) use end::{Declared, u32_or_ones, write_end};
pub use error::{ZipError, shown};
pub use extra::{EXTENDED_TIMESTAMP, ExtraField, ExtraFields, UNICODE_PATH, ZIP64};
pub(crate) use header::begins_local_header;
pub use header::{
    CENTRAL_BYTES, CentralHeader, Extent, FLAG_DESCRIPTOR, FLAG_ENCRYPTED, FLAG_UTF8, LOCAL_BYTES,
    LOCAL_FLAGS_AT, LOCAL_NAME_LENGTH_AT, LocalHeader,
};
pub use index::ZipIndex;
pub use reader::{Step, ZipReader};
pub use write::WriteError;
pub(crate) use write::{
    MemberName, StoredContent, write_descriptor, write_directory_header, write_local_header,
};

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
