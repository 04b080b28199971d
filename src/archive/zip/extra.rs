//! Extra fields (APPNOTE 4.5): blocks of id, length and data behind a name.
//!
//! ```text
//! id u16 | length u16 | data …      repeated; what does not parse ends the list
//! ```
//!
//! A malformed tail is no error here: readers stop at it too, and archives with one unpack everywhere.

/// Zip64 extended information (4.5.3): the 64-bit values of fields that hold all ones.
pub const ZIP64: u16 = 0x0001;
/// Info-ZIP Unicode Path (4.6.9): a UTF-8 name that replaces the header's.
pub const UNICODE_PATH: u16 = 0x7075;
/// Info-ZIP extended timestamp: Unix seconds.
pub const EXTENDED_TIMESTAMP: u16 = 0x5455;

/// One block of an extra field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtraField<'a> {
    /// Header id.
    pub id: u16,
    /// Data without id and length.
    pub data: &'a [u8],
    /// The block with id and length.
    pub whole: &'a [u8],
}

/// The blocks of an extra field, up to the first that is malformed.
#[derive(Debug, Clone)]
pub struct ExtraFields<'a> {
    rest: &'a [u8],
}

impl<'a> ExtraFields<'a> {
    /// Reads the bytes of a whole extra field.
    pub fn new(extra: &'a [u8]) -> Self {
        Self { rest: extra }
    }

    /// The bytes up to the first block that is malformed.
    pub fn sound_bytes(extra: &'a [u8]) -> &'a [u8] {
        let mut fields = Self::new(extra);
        while fields.next().is_some() {}
        let sound = extra.len() - fields.rest.len();
        extra.get(..sound).unwrap_or_default()
    }

    /// The data of the first block with this id.
    pub fn find(extra: &'a [u8], id: u16) -> Option<&'a [u8]> {
        Self::new(extra)
            .find(|field| field.id == id)
            .map(|field| field.data)
    }
}

impl<'a> Iterator for ExtraFields<'a> {
    type Item = ExtraField<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let (&[a, b, c, d], data) = self.rest.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_le_bytes([c, d]));
        let (whole, after) = self.rest.split_at_checked(length.checked_add(4)?)?;
        self.rest = after;
        Some(ExtraField {
            id: u16::from_le_bytes([a, b]),
            data: data.get(..length)?,
            whole,
        })
    }
}

/// The name out of a Unicode Path block, where it is meant for `header_name`: version 1, and the CRC-32 of
/// the header's name matches. An empty one says that the header's name is UTF-8 already.
pub fn unicode_path<'a>(data: &'a [u8], header_name: &[u8]) -> Option<&'a [u8]> {
    let (&[version, a, b, c, d], name) = data.split_first_chunk::<5>()?;
    let fits = version == 1
        && u32::from_le_bytes([a, b, c, d]) == crc32fast::hash(header_name)
        && !name.is_empty()
        && std::str::from_utf8(name).is_ok();
    fits.then_some(name)
}

/// The modification time out of an extended timestamp block.
pub fn modified_seconds(data: &[u8]) -> Option<i64> {
    let (&[flags, a, b, c, d], _) = data.split_first_chunk::<5>()?;
    (flags & 1 == 1).then(|| i64::from(i32::from_le_bytes([a, b, c, d])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ok_blocks_are_read_in_order() {
        let extra = [1, 0, 2, 0, 9, 8, 0x75, 0x70, 0, 0];
        let ids: Vec<_> = ExtraFields::new(&extra)
            .map(|f| (f.id, f.data.len()))
            .collect();
        assert_eq!(ids, [(ZIP64, 2), (UNICODE_PATH, 0)]);
        assert_eq!(ExtraFields::find(&extra, ZIP64), Some(&[9u8, 8][..]));
    }

    #[test]
    fn ok_a_malformed_tail_ends_the_list() {
        let extra = [1, 0, 0, 0, 2, 0, 5, 0, 1];
        assert_eq!(ExtraFields::new(&extra).count(), 1);
        assert_eq!(ExtraFields::new(&extra[..3]).count(), 0);
        assert_eq!(ExtraFields::sound_bytes(&extra), &extra[..4]);
    }

    #[test]
    fn err_a_unicode_path_for_another_name_is_not_taken() {
        let mut data = vec![1];
        data.extend(crc32fast::hash(b"caf?").to_le_bytes());
        data.extend("café".as_bytes());
        assert_eq!(unicode_path(&data, b"caf?"), Some("café".as_bytes()));
        assert_eq!(unicode_path(&data, b"other"), None);
        data[0] = 2;
        assert_eq!(unicode_path(&data, b"caf?"), None);
    }
}
