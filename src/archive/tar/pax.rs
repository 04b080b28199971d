//! The records of a pax extended header: `LENGTH KEY=VALUE\n`, again and again.
//!
//! Owns which keys change an entry and how their values are read. Other keys (comments, extended
//! attributes, vendors' own) change nothing that the agent's `tar -xpsf` would restore, so they pass.

use super::TarError;

/// What an extended header says in place of the header after it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Overrides {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub mtime: Option<(i64, u32)>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub uname: Option<Vec<u8>>,
    pub gname: Option<Vec<u8>>,
    /// A GNU sparse file: its content is a map and pieces.
    pub sparse: bool,
}

impl Overrides {
    /// Whether no key changes anything.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Reads the records in `payload` of the extended header at `offset`; later ones win. `global`
    /// headers may not name a file: path, link target and size of one entry cannot be those of all.
    pub fn read(&mut self, payload: &[u8], offset: u64, global: bool) -> Result<(), TarError> {
        let malformed = |problem| TarError::MalformedPax { offset, problem };
        let mut rest = payload;
        while !rest.is_empty() {
            let (record, after) = split_record(rest).map_err(malformed)?;
            rest = after;
            let equals = record.iter().position(|byte| *byte == b'=');
            let (key, value) = equals
                .and_then(|at| record.split_at_checked(at))
                .ok_or_else(|| malformed("a record has no `=`"))?;
            let value = value.get(1..).unwrap_or_default();
            if global && matches!(key, b"path" | b"linkpath" | b"size") {
                return Err(malformed("a global header names a single file"));
            }
            self.apply(key, value).map_err(malformed)?;
        }
        Ok(())
    }

    fn apply(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match key {
            b"path" => self.path = Some(name(value)?),
            b"linkpath" => self.link = Some(name(value)?),
            b"size" => self.size = Some(decimal(value).ok_or("`size` is not a number")?),
            b"mtime" => self.mtime = Some(timestamp(value).ok_or("`mtime` is not a time")?),
            b"uid" => self.uid = Some(decimal(value).ok_or("`uid` is not a number")?),
            b"gid" => self.gid = Some(decimal(value).ok_or("`gid` is not a number")?),
            b"uname" => self.uname = Some(value.to_vec()),
            b"gname" => self.gname = Some(value.to_vec()),
            _ if key.starts_with(b"GNU.sparse.") => self.sparse = true,
            _ => (),
        }
        Ok(())
    }
}

/// Splits the first record's `KEY=VALUE` off.
fn split_record(bytes: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let space = bytes
        .iter()
        .take(20)
        .position(|byte| *byte == b' ')
        .ok_or("a record has no length")?;
    let length = bytes
        .get(..space)
        .and_then(decimal)
        .ok_or("a record's length is not a number")?;
    let length = usize::try_from(length).map_err(|_| "a record's length is not a number")?;
    let (record, rest) = bytes
        .split_at_checked(length)
        .ok_or("a record is longer than its header")?;
    let record = record
        .get(space + 1..)
        .ok_or("a record is shorter than its length")?;
    match record.split_last() {
        Some((b'\n', record)) => Ok((record, rest)),
        _ => Err("a record does not end with a line feed"),
    }
}

/// A path: readers disagree on empty ones and on those with NULs, so neither is taken.
fn name(value: &[u8]) -> Result<Vec<u8>, &'static str> {
    if value.is_empty() || value.contains(&0) {
        return Err("a name is empty or holds a NUL");
    }
    Ok(value.to_vec())
}

fn decimal(digits: &[u8]) -> Option<u64> {
    // `str::parse` would take a leading `+`.
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// `[-]seconds[.fraction]` as whole seconds, rounded down, and nanoseconds.
fn timestamp(value: &[u8]) -> Option<(i64, u32)> {
    let (negative, value) = match value.split_first() {
        Some((b'-', rest)) => (true, rest),
        _ => (false, value),
    };
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let padded = fraction
        .iter()
        .copied()
        .chain(std::iter::repeat(b'0'))
        .take(9);
    let nanos = padded.fold(0, |nanos: u32, digit| nanos * 10 + u32::from(digit - b'0'));
    match (negative, nanos) {
        (false, _) => Some((seconds, nanos)),
        (true, 0) => Some((-seconds, 0)),
        (true, _) => Some((-seconds - 1, 1_000_000_000 - nanos)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(payload: &[u8]) -> Result<Overrides, TarError> {
        let mut overrides = Overrides::default();
        overrides.read(payload, 512, false)?;
        Ok(overrides)
    }

    #[test]
    fn ok_records_are_read_and_later_ones_win() {
        let overrides =
            read(b"12 path=a/b\n12 path=c=d\n13 size=1234\n20 mtime=1700000.25\n").unwrap();
        assert_eq!(overrides.path.as_deref(), Some(&b"c=d"[..]));
        assert_eq!(overrides.size, Some(1234));
        assert_eq!(overrides.mtime, Some((1_700_000, 250_000_000)));
        assert!(read(b"14 comment=ab\n").unwrap().is_empty());
        assert!(read(b"22 GNU.sparse.major=1\n").unwrap().sparse);
    }

    #[test]
    fn ok_times_round_down() {
        assert_eq!(timestamp(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(timestamp(b"-3"), Some((-3, 0)));
        assert_eq!(timestamp(b"0.0000000019"), Some((0, 1)));
        assert_eq!(timestamp(b"1e3"), None);
        assert_eq!(timestamp(b""), None);
    }

    #[test]
    fn err_malformed_records_say_why() {
        for (payload, problem) in [
            (
                &b"pathpathpathpathpathpath=a\n"[..],
                "a record has no length",
            ),
            (b"x path=a\n", "a record's length is not a number"),
            (b"99 path=a\n", "a record is longer than its header"),
            (b"2 path=a\n", "a record does not end with a line feed"),
            (b"1 path=a\n", "a record is shorter than its length"),
            (b"0 path=a\n", "a record is shorter than its length"),
            (b"8 path=a\n", "a record does not end with a line feed"),
            (b"8 patha\n", "a record has no `=`"),
            (b"8 path=\n", "a name is empty or holds a NUL"),
            (b"11 size=-1\n", "`size` is not a number"),
        ] {
            let Err(TarError::MalformedPax {
                offset: 512,
                problem: found,
            }) = read(payload)
            else {
                panic!("{} was taken", payload.escape_ascii());
            };
            assert_eq!(found, problem, "{}", payload.escape_ascii());
        }
    }

    #[test]
    fn err_global_headers_name_no_file() {
        let error = Overrides::default()
            .read(b"10 path=a\n", 0, true)
            .unwrap_err();
        assert!(matches!(
            error,
            TarError::MalformedPax {
                problem: "a global header names a single file",
                ..
            }
        ));
    }
}
