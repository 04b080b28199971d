//! Entry names: from an archive's bytes to a path below the archive's root, or the reason to refuse.
//!
//! Owns what is left of a name (`./`, doubled slashes, a closing slash, the backslashes of old
//! Windows archivers) and what makes a name unusable. Knows nothing of application roots.

use std::borrow::Cow;

use crate::archive::{ArchiveFormat, Entry, EntryKind};

/// Bytes of one path component that every file system of the instances takes (`NAME_MAX`).
pub const COMPONENT_BYTES_MAX: usize = 255;

/// Bytes of a whole path: Linux's `PATH_MAX` less the folder that the agent unpacks into.
pub const PATH_BYTES_MAX: usize = 3_900;

/// Components of a path: far more than anybody nests folders.
pub const COMPONENTS_MAX: usize = 128;

/// Characters of a name that a message shows.
const SHOWN_CHARS_MAX: usize = 160;

/// Why a name can go into no revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NameFault {
    /// It starts with `/`.
    Absolute,
    /// It holds a `..` component, after either kind of slash.
    Climbs,
    /// It holds a NUL.
    Nul,
    /// It is not UTF-8: the agent cannot write its install instructions.
    NotUtf8,
    /// One component has more than [`COMPONENT_BYTES_MAX`] bytes.
    ComponentTooLong,
    /// It has more than [`PATH_BYTES_MAX`] bytes or [`COMPONENTS_MAX`] components.
    TooLong,
    /// It ends in `/` like a folder's, but the entry is a file or a link.
    FileLikeFolder,
}

/// What had to be done to a name, or should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NameRepair {
    /// `./`, `//` or `/./` taken out.
    Dots,
    /// Backslashes read as separators.
    Backslashes,
    /// Nothing: a control character stays in it, but unzip drops it.
    Control,
}

/// A name below the archive's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tidy<'a> {
    /// The path: relative, forward slashes, no closing slash; empty for the root itself.
    pub path: Cow<'a, [u8]>,
    /// Bytes of the archive's name before [`Self::path`], where the path is its unchanged rest
    /// (but for a closing slash).
    pub skip: usize,
    /// Whether a component is `.git`.
    pub git: bool,
    /// The repair that a person should hear of.
    pub repair: Option<NameRepair>,
    /// What is wrong with it, should it be kept.
    pub fault: Option<NameFault>,
}

/// Reads an entry's name as the agent's unpackers do.
///
/// A zip entry without Unix mode was made on Windows or DOS: its backslashes are separators.
/// Elsewhere a backslash is a character like any other (`dev-disk-by\x2duuid.device`).
pub fn tidy<'a>(entry: &Entry<'a>, format: ArchiveFormat) -> Tidy<'a> {
    Names::new(format).tidy(entry)
}

/// Reads one name after another as [`tidy`] does.
#[derive(Debug)]
pub(super) struct Names<'a> {
    format: ArchiveFormat,
    /// A folder, closed by `/`, whose own name is plain: what lies in it shares that.
    folder: &'a [u8],
}

impl<'a> Names<'a> {
    pub fn new(format: ArchiveFormat) -> Self {
        Self {
            format,
            folder: b"",
        }
    }

    /// As [`tidy`]; names that need no second look, which nearly all are, cost least after a name in the
    /// same folder.
    pub fn tidy(&mut self, entry: &Entry<'a>) -> Tidy<'a> {
        let name = entry.name;
        let path = match entry.kind {
            EntryKind::Directory => name.strip_suffix(b"/").unwrap_or(name),
            _ => name,
        };
        // Short enough that neither a component nor their number can be over its limit.
        if path.len() > COMPONENT_BYTES_MAX {
            return odd(entry, self.format);
        }
        let open = if path.starts_with(self.folder) {
            self.folder.len()
        } else {
            0
        };
        let rest = path.get(open..).unwrap_or_default();
        let Some(deeper) = plain_folder(rest) else {
            return odd(entry, self.format);
        };
        self.folder = path.get(..open.saturating_add(deeper)).unwrap_or_default();
        Tidy {
            path: Cow::Borrowed(path),
            skip: 0,
            git: false,
            repair: None,
            fault: None,
        }
    }
}

/// Bytes of a path's folder with its closing `/`, if the path is ASCII without control characters and
/// backslashes, and none of its components is empty or starts with a point.
fn plain_folder(path: &[u8]) -> Option<usize> {
    // Loops without an exit, of one kind of comparison each: they run on many bytes at once.
    let has_odd_byte = path.iter().fold(false, |is_odd, &byte| {
        is_odd | !matches!(byte, b' '..=b'~') | (byte == b'\\')
    });
    let neighbours = path.iter().zip(path.iter().skip(1));
    let has_odd_start = neighbours.fold(false, |is_odd, (&before, &byte)| {
        is_odd | ((before == b'/') & ((byte == b'/') | (byte == b'.')))
    });
    let is_closed = matches!(path.last(), None | Some(b'/'));
    if has_odd_byte || has_odd_start || is_closed || matches!(path.first(), Some(b'/' | b'.')) {
        return None;
    }
    let slash = path.iter().rposition(|&byte| byte == b'/');
    Some(slash.map_or(0, |slash| slash.saturating_add(1)))
}

/// The second look.
fn odd<'a>(entry: &Entry<'a>, format: ArchiveFormat) -> Tidy<'a> {
    let name = entry.name;
    if !name.contains(&b'\\') {
        return walk(name, entry.kind, format);
    }
    let climbs = name
        .split(|&byte| byte == b'/' || byte == b'\\')
        .any(|part| part == b"..");
    if format == ArchiveFormat::Zip && entry.mode.is_none() {
        let slashed: Vec<u8> = name
            .iter()
            .map(|&byte| if byte == b'\\' { b'/' } else { byte })
            .collect();
        let walked = walk(&slashed, entry.kind, format);
        return Tidy {
            path: Cow::Owned(walked.path.into_owned()),
            skip: 0,
            git: walked.git,
            repair: Some(NameRepair::Backslashes),
            fault: walked.fault,
        };
    }
    let mut walked = walk(name, entry.kind, format);
    if climbs {
        walked.fault = Some(NameFault::Climbs);
    }
    walked
}

/// Goes through the components once.
fn walk(name: &[u8], kind: EntryKind, format: ArchiveFormat) -> Tidy<'_> {
    let body = name.strip_suffix(b"/").unwrap_or(name);
    let mut leading = 0_usize;
    let mut started = false;
    let mut odd = false;
    let mut git = false;
    let mut fault = None;
    let mut offset = 0_usize;
    for component in body.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {
                if started {
                    odd = true;
                } else {
                    leading = offset.saturating_add(component.len()).saturating_add(1);
                }
            }
            b".." => {
                started = true;
                fault = Some(NameFault::Climbs);
            }
            _ => {
                started = true;
                git |= component == b".git";
                if component.len() > COMPONENT_BYTES_MAX {
                    fault = fault.or(Some(NameFault::ComponentTooLong));
                }
            }
        }
        offset = offset.saturating_add(component.len()).saturating_add(1);
    }
    if name.first() == Some(&b'/') {
        fault = Some(NameFault::Absolute);
    }
    let clean = body.get(leading..).unwrap_or_default();
    let path: Cow<'_, [u8]> = if odd {
        let parts: Vec<&[u8]> = clean
            .split(|&byte| byte == b'/')
            .filter(|part| !part.is_empty() && *part != b".")
            .collect();
        Cow::Owned(parts.join(&b'/'))
    } else {
        Cow::Borrowed(clean)
    };
    // `tar czf x.tgz .` writes `./` before every name: a habit, not worth a word.
    let repair = (odd || (leading > 0 && started && format == ArchiveFormat::Zip))
        .then_some(NameRepair::Dots)
        .or_else(|| {
            path.iter()
                .any(u8::is_ascii_control)
                .then_some(NameRepair::Control)
        });
    let fault = fault.or_else(|| content_fault(&path, name, kind));
    Tidy {
        path,
        skip: leading,
        git,
        repair,
        fault,
    }
}

fn content_fault(path: &[u8], name: &[u8], kind: EntryKind) -> Option<NameFault> {
    if path.contains(&0) {
        Some(NameFault::Nul)
    } else if std::str::from_utf8(path).is_err() {
        Some(NameFault::NotUtf8)
    } else if path.len() > PATH_BYTES_MAX || component_count(path) > COMPONENTS_MAX {
        Some(NameFault::TooLong)
    } else if kind != EntryKind::Directory && name.ends_with(b"/") {
        Some(NameFault::FileLikeFolder)
    } else {
        None
    }
}

fn component_count(path: &[u8]) -> usize {
    path.iter()
        .filter(|&&byte| byte == b'/')
        .count()
        .saturating_add(1)
}

/// A name for a message: lossy, without control characters, cut to a readable length.
pub fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let mut out = String::new();
    for (count, char) in text.chars().enumerate() {
        if count == SHOWN_CHARS_MAX {
            out.push('…');
            break;
        }
        if char.is_control() {
            out.extend(char.escape_default());
        } else {
            out.push(char);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::Compression;
    use proptest::prelude::*;

    fn entry(name: &[u8], kind: EntryKind, mode: Option<u32>) -> Entry<'_> {
        Entry {
            name,
            kind,
            mode,
            size: 0,
            stored_size: 0,
            compression: Compression::Stored,
            encrypted: false,
            crc32: None,
            link_target: None,
            modified_seconds: None,
        }
    }

    fn file(name: &str) -> Tidy<'_> {
        tidy(
            &entry(name.as_bytes(), EntryKind::File, Some(0o644)),
            ArchiveFormat::Zip,
        )
    }

    #[test]
    fn ok_ordinary_names_are_borrowed() {
        for (name, path, skip) in [
            ("a/b.txt", "a/b.txt", 0),
            ("./a", "a", 2),
            ("././a/b", "a/b", 4),
        ] {
            let tidy = file(name);
            assert!(matches!(tidy.path, Cow::Borrowed(_)), "{name}");
            assert_eq!(
                (&*tidy.path, tidy.skip, tidy.fault),
                (path.as_bytes(), skip, None)
            );
        }
    }

    #[test]
    fn ok_a_folder_loses_its_closing_slash() {
        let folder = entry(b"a/b/", EntryKind::Directory, Some(0o755));
        assert_eq!(&*tidy(&folder, ArchiveFormat::Tar).path, b"a/b");
        let root = entry(b"./", EntryKind::Directory, Some(0o755));
        let root = tidy(&root, ArchiveFormat::Tar);
        assert_eq!(
            (&*root.path, root.repair, root.fault),
            (&b""[..], None, None)
        );
    }

    #[test]
    fn ok_dots_and_doubled_slashes_are_taken_out() {
        for name in ["a//b", "a/./b", "./a//./b"] {
            let tidy = file(name);
            assert_eq!(
                (&*tidy.path, tidy.repair),
                (&b"a/b"[..], Some(NameRepair::Dots)),
                "{name}"
            );
        }
    }

    #[test]
    fn ok_a_leading_dot_is_worth_a_word_in_a_zip_only() {
        let entry = entry(b"./a", EntryKind::File, Some(0o644));
        assert_eq!(
            tidy(&entry, ArchiveFormat::Zip).repair,
            Some(NameRepair::Dots)
        );
        assert_eq!(tidy(&entry, ArchiveFormat::Tar).repair, None);
    }

    #[test]
    fn ok_backslashes_are_separators_only_in_what_windows_made() {
        let made_on_windows = entry(b"scripts\\after.sh", EntryKind::File, None);
        let tidied = tidy(&made_on_windows, ArchiveFormat::Zip);
        assert_eq!(&*tidied.path, b"scripts/after.sh");
        assert_eq!(tidied.repair, Some(NameRepair::Backslashes));
        let unit = file("dev-disk-by\\x2duuid.device");
        assert_eq!((unit.repair, unit.fault), (None, None));
        assert_eq!(&*unit.path, b"dev-disk-by\\x2duuid.device");
    }

    #[test]
    fn ok_git_is_seen_at_any_depth() {
        assert!(file(".git/config").git && file("a/.git").git && file("a/.git/x").git);
        assert!(!file(".gitignore").git && !file("a.git/x").git && !file(".github/x").git);
    }

    #[test]
    fn err_names_that_leave_the_root() {
        for name in ["../x", "a/../../x", "a/..", "..", "..\\x", "a\\..\\x"] {
            assert_eq!(file(name).fault, Some(NameFault::Climbs), "{name}");
        }
        for name in ["/x", "/", "//x", "/./x"] {
            assert_eq!(file(name).fault, Some(NameFault::Absolute), "{name}");
        }
        let windows = entry(b"\\srv\\x", EntryKind::File, None);
        assert_eq!(
            tidy(&windows, ArchiveFormat::Zip).fault,
            Some(NameFault::Absolute)
        );
    }

    #[test]
    fn err_names_that_no_file_system_takes() {
        assert_eq!(file("a\0b").fault, Some(NameFault::Nul));
        let latin = entry(b"caf\xe9", EntryKind::File, Some(0o644));
        assert_eq!(
            tidy(&latin, ArchiveFormat::Zip).fault,
            Some(NameFault::NotUtf8)
        );
        assert_eq!(file(&"x".repeat(COMPONENT_BYTES_MAX)).fault, None);
        let long = "x".repeat(COMPONENT_BYTES_MAX + 1);
        assert_eq!(file(&long).fault, Some(NameFault::ComponentTooLong));
        let deep = "d/".repeat(COMPONENTS_MAX - 1);
        assert_eq!(file(&format!("{deep}x")).fault, None);
        assert_eq!(file(&format!("{deep}d/x")).fault, Some(NameFault::TooLong));
        let component = format!("{}/", "x".repeat(COMPONENT_BYTES_MAX - 1));
        let deep = component.repeat(PATH_BYTES_MAX / COMPONENT_BYTES_MAX + 1);
        assert_eq!(file(&format!("{deep}x")).fault, Some(NameFault::TooLong));
        assert_eq!(file("weird/").fault, Some(NameFault::FileLikeFolder));
    }

    #[test]
    fn ok_shown_names_are_short_and_printable() {
        assert_eq!(shown(b"a\nb\x1b[1m"), "a\\nb\\u{1b}[1m");
        assert_eq!(
            shown("x".repeat(500).as_bytes()).chars().count(),
            SHOWN_CHARS_MAX + 1
        );
    }

    proptest! {
        #[test]
        fn ok_a_tidy_path_without_fault_stays_below_the_root(
            name in proptest::collection::vec(prop_oneof![
                Just(b'/'), Just(b'.'), Just(b'\\'), Just(b'a'), Just(0_u8), any::<u8>()
            ], 0..24),
            mode in proptest::option::of(0_u32..0o777),
        ) {
            let entry = entry(&name, EntryKind::Directory, mode);
            for format in [ArchiveFormat::Zip, ArchiveFormat::Tar] {
                let tidied = tidy(&entry, format);
                if tidied.fault.is_none() {
                    prop_assert!(!tidied.path.starts_with(b"/") && !tidied.path.contains(&0));
                    if !tidied.path.is_empty() {
                        prop_assert!(tidied.path.split(|&b| b == b'/').all(
                            |part| !part.is_empty() && part != b"." && part != b".."
                        ));
                    }
                    if let Cow::Borrowed(path) = tidied.path {
                        let rest = &name[tidied.skip.min(name.len())..];
                        prop_assert_eq!(rest.strip_suffix(b"/").unwrap_or(rest), path);
                    }
                }
            }
        }
    }
}
