//! One pass over the archive's index: which names lie under the root, and what is at the top.
//!
//! Owns the counting and the shape of the two tops (of the archive beside the root, of what is under
//! the root), from which wrapper folders are told. Decides nothing about them.

use std::collections::{BTreeMap, HashMap, HashSet};

use globset::GlobSet;

use super::{
    Counts, Entries, KeptEntry, KeptName, NameFault, NameRepair, Names, SET_ID_BITS, Trail, all,
    names_appspec, shown,
};
use crate::archive::{ArchiveFormat, Compression, Entry, EntryKind};
use crate::finding::Finding;

/// Top folders that a message names.
const FOLDERS_SHOWN_MAX: usize = 5;

/// Bytes of names, of entries and of the folders above them, that are held against globs.
const EXCLUDE_BYTES_MAX: usize = 256 << 20;

/// What the macOS Finder adds beside the folder that it compresses.
const FINDER_NAMES: [&[u8]; 2] = [b"__MACOSX", b".DS_Store"];

/// What one pass saw.
#[derive(Debug)]
pub(super) struct Survey {
    /// Entries under the root, without `.git`.
    pub kept: Candidates,
    /// The top of what is under the root.
    pub inside: Top,
    /// The top of the archive.
    pub outside: Top,
    /// Positions in the archive's index of kept entries that are named like an AppSpec, in any folder.
    pub appspecs: Vec<u32>,
    /// Positions in the archive's index of kept entries that are more than plain files and directories.
    pub peculiar: Vec<u32>,
    /// Entries left out so far.
    pub counts: Counts,
    faults: BTreeMap<NameFault, Tally>,
    repairs: BTreeMap<NameRepair, Tally>,
}

/// How often, and where first.
#[derive(Debug)]
struct Tally {
    first: String,
    count: usize,
}

impl Survey {
    /// Looks at every entry once; `root` is empty or closed by `/`.
    pub fn take(entries: &dyn Entries, root: &str, format: ArchiveFormat) -> Self {
        let mut survey = Self {
            kept: Candidates {
                entries: Vec::with_capacity(entries.len()),
            },
            inside: Top::default(),
            outside: Top::default(),
            appspecs: Vec::new(),
            peculiar: Vec::new(),
            counts: Counts::default(),
            faults: BTreeMap::new(),
            repairs: BTreeMap::new(),
        };
        let mut names = Names::new(format);
        for (position, entry) in all(entries) {
            let tidied = names.tidy(&entry);
            if matches!(tidied.fault, Some(NameFault::Absolute | NameFault::Climbs)) {
                // Such a name is an attack wherever it points: the archive is not to be trusted.
                survey.blame(tidied.fault, entry.name);
                continue;
            }
            if tidied.git {
                survey.counts.git = survey.counts.git.saturating_add(1);
                continue;
            }
            let is_folder = entry.kind == EntryKind::Directory;
            if !root.is_empty() {
                survey.outside.see(&tidied.path, is_folder);
            }
            let path = match tidied.path.strip_prefix(root.as_bytes()) {
                Some(path) if !path.is_empty() => path,
                _ => {
                    survey.counts.outside_root = survey.counts.outside_root.saturating_add(1);
                    continue;
                }
            };
            if tidied.fault.is_some() {
                survey.blame(tidied.fault, entry.name);
                continue;
            }
            if let Some(repair) = tidied.repair {
                tally(&mut survey.repairs, repair, entry.name);
            }
            survey.inside.see(path, is_folder);
            if names_appspec(path) {
                survey.appspecs.push(position);
            }
            if is_peculiar(&entry) {
                survey.peculiar.push(position);
            }
            let unchanged = matches!(tidied.path, std::borrow::Cow::Borrowed(_))
                && entry.name.ends_with(b"/") == is_folder;
            let skip = u32::try_from(tidied.skip.saturating_add(root.len())).ok();
            let name = match skip {
                Some(skip) if unchanged => KeptName::Suffix { skip },
                _ => {
                    let mut name = path.to_vec();
                    if is_folder {
                        name.push(b'/');
                    }
                    KeptName::Renamed(name.into())
                }
            };
            survey.kept.entries.push(KeptEntry {
                index: position,
                name,
            });
        }
        survey
    }

    fn blame(&mut self, fault: Option<NameFault>, name: &[u8]) {
        if let Some(fault) = fault {
            tally(&mut self.faults, fault, name);
        }
    }

    /// Whether a name was met that stops the drop.
    pub fn refuses(&self) -> bool {
        !self.faults.is_empty()
    }

    /// One finding for each kind of fault and of repair.
    pub fn findings(&self) -> Vec<Finding> {
        let faults = self
            .faults
            .iter()
            .map(|(fault, tally)| fault_finding(*fault, tally));
        let repairs = self
            .repairs
            .iter()
            .map(|(repair, tally)| repair_finding(*repair, tally));
        faults.chain(repairs).collect()
    }
}

fn tally<K: Ord>(tallies: &mut BTreeMap<K, Tally>, kind: K, name: &[u8]) {
    let tally = tallies.entry(kind).or_insert_with(|| Tally {
        first: shown(name),
        count: 0,
    });
    tally.count = tally.count.saturating_add(1);
}

impl Tally {
    /// "entry `x`" or "entry `x` (and 17 more)".
    fn subject(&self) -> String {
        match self.count {
            0 | 1 => format!("entry `{}`", self.first),
            count => format!(
                "entry `{}` (and {} more)",
                self.first,
                count.saturating_sub(1)
            ),
        }
    }
}

fn fault_finding(fault: NameFault, tally: &Tally) -> Finding {
    let (code, what, cure) = match fault {
        NameFault::Absolute => (
            "entry-name-absolute",
            "has an absolute name, expected one below the archive's root",
            "archive with relative names: `cd` into the folder and archive `.`",
        ),
        NameFault::Climbs => (
            "entry-name-climbs",
            "has a name with `..`, which leads out of the folder that it is unpacked into",
            "archive with names below the root only",
        ),
        NameFault::Nul => (
            "entry-name-nul",
            "has a name with a NUL character",
            "rename the file",
        ),
        NameFault::NotUtf8 => (
            "entry-name-not-utf8",
            "has a name that is not UTF-8; the agent fails to write its install instructions",
            "rename the file, or archive it with a tool that writes UTF-8 names",
        ),
        NameFault::ComponentTooLong => (
            "entry-name-too-long",
            "has a name component of more than 255 bytes, which no Linux file system takes",
            "shorten the name",
        ),
        NameFault::TooLong => (
            "entry-name-too-long",
            "has a name of more than 3900 bytes or 128 folders, which is too long for the agent's instances",
            "shorten the path",
        ),
        NameFault::FileLikeFolder => (
            "entry-name-like-folder",
            "is a file, but its name ends in `/` like a folder's",
            "archive it again with another tool",
        ),
    };
    Finding::refuse(code, format!("{} {what}", tally.subject()), cure).in_file(&tally.first)
}

fn repair_finding(repair: NameRepair, tally: &Tally) -> Finding {
    let (code, what, cure) = match repair {
        NameRepair::Dots => (
            "entry-name-dots",
            "has `./` or `//` in its name; the revision has the name without",
            "nothing has to be done; most tools write names without them",
        ),
        NameRepair::Backslashes => (
            "entry-name-backslashes",
            "has backslashes as separators; the revision has forward slashes",
            "archive with a tool that follows the zip format, such as Compress-Archive of PowerShell 7",
        ),
        NameRepair::Control => (
            "entry-name-control",
            "has a control character in its name, which unzip drops",
            "rename the file",
        ),
    };
    Finding::warn(code, format!("{} {what}", tally.subject()), cure).in_file(&tally.first)
}

/// What stands at the top of a set of paths.
#[derive(Debug, Default)]
pub(super) struct Top {
    /// Different names at the top, at most [`FOLDERS_SHOWN_MAX`] of them, Finder's not counted.
    names: Vec<TopName>,
    /// Whether there were more.
    more: bool,
    /// A folder below one at the top, closed by `/`, that was seen: all in it shows nothing new.
    seen: Vec<u8>,
}

#[derive(Debug)]
struct TopName {
    name: Box<[u8]>,
    is_folder: bool,
    /// Whether a name directly in it has `appspec` in it, in any case.
    holds_appspec: bool,
}

impl Top {
    fn see(&mut self, path: &[u8], is_folder: bool) {
        if self.more || (!self.seen.is_empty() && path.starts_with(&self.seen)) {
            return;
        }
        let mut parts = path.splitn(3, |&byte| byte == b'/');
        let Some(first) = parts.next() else { return };
        let second = parts.next();
        if let Some(rest) = parts.next() {
            let seen = path.len().saturating_sub(rest.len());
            self.seen.clear();
            self.seen
                .extend_from_slice(path.get(..seen).unwrap_or_default());
        }
        let at = match self.names.iter().position(|known| *known.name == *first) {
            Some(at) => at,
            None if first.is_empty() || FINDER_NAMES.contains(&first) => return,
            None if self.names.len() >= FOLDERS_SHOWN_MAX => {
                self.more = true;
                return;
            }
            None => {
                self.names.push(TopName {
                    name: first.into(),
                    is_folder: false,
                    holds_appspec: false,
                });
                self.names.len().saturating_sub(1)
            }
        };
        if let Some(known) = self.names.get_mut(at) {
            known.is_folder |= is_folder || second.is_some();
            if !known.holds_appspec && second.is_some_and(mentions_appspec) {
                known.holds_appspec = true;
            }
        }
    }

    /// The one folder that is alone at the top but for the Finder's files, closed by `/`.
    pub fn single_folder(&self) -> Option<String> {
        match self.names.as_slice() {
            [only] if only.is_folder && !self.more => {
                Some(format!("{}/", std::str::from_utf8(&only.name).ok()?))
            }
            _ => None,
        }
    }

    /// [`Self::single_folder`] if a name directly in it matches the agent's `/appspec/i`.
    pub fn wrapper_with_appspec(&self) -> Option<String> {
        self.names
            .first()
            .filter(|only| only.holds_appspec)
            .and_then(|_| self.single_folder())
    }

    /// The names at the top, for a message.
    pub fn folders_shown(&self) -> String {
        let mut names: Vec<String> = self
            .names
            .iter()
            .map(|top| {
                format!(
                    "`{}{}`",
                    shown(&top.name),
                    if top.is_folder { "/" } else { "" }
                )
            })
            .collect();
        if self.more {
            names.push("more".to_owned());
        }
        names.join(", ")
    }
}

/// Whether an entry's header says more than that it is a file or a directory.
fn is_peculiar(entry: &Entry<'_>) -> bool {
    let is_odd_kind = match entry.kind {
        EntryKind::File => false,
        EntryKind::Directory => entry.size > 0,
        EntryKind::Symlink | EntryKind::HardLink | EntryKind::Special => true,
    };
    is_odd_kind
        || entry.encrypted
        || matches!(entry.compression, Compression::Other(_))
        || entry.mode.is_some_and(|mode| mode & SET_ID_BITS != 0)
}

fn mentions_appspec(name: &[u8]) -> bool {
    name.windows(b"appspec".len())
        .any(|window| window.eq_ignore_ascii_case(b"appspec"))
}

/// The entries that may be kept, with their names so far.
#[derive(Debug)]
pub(super) struct Candidates {
    /// In the archive's order.
    pub entries: Vec<KeptEntry>,
}

impl Candidates {
    /// How many are left.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Makes `folder` (closed by `/`) the root; answers how many entries beside it were dropped.
    pub fn strip(&mut self, entries: &dyn Entries, folder: &str) -> usize {
        let mut beside = 0_usize;
        let bytes = u32::try_from(folder.len()).unwrap_or(u32::MAX);
        self.entries.retain_mut(|kept| {
            let Some(name) = entries.name(kept.index) else {
                return false;
            };
            let Some(rest) = kept.name_in(name).strip_prefix(folder.as_bytes()) else {
                beside = beside.saturating_add(1);
                return false;
            };
            if rest.is_empty() {
                return false;
            }
            kept.name = match &kept.name {
                KeptName::Suffix { skip } => KeptName::Suffix {
                    skip: skip.saturating_add(bytes),
                },
                KeptName::Renamed(_) => KeptName::Renamed(rest.into()),
            };
            true
        });
        beside
    }

    /// Takes out what the globs match; answers how many, or nothing where that would take too long.
    pub fn exclude(&mut self, entries: &dyn Entries, exclude: &GlobSet) -> Option<usize> {
        if exclude.is_empty() {
            return Some(0);
        }
        let mut bytes_left = EXCLUDE_BYTES_MAX;
        let mut matches = |path: &[u8]| {
            bytes_left = bytes_left.saturating_sub(path.len());
            bytes_left > 0 && std::str::from_utf8(path).is_ok_and(|path| exclude.is_match(path))
        };
        let before = self.entries.len();
        let mut trail = Trail::new();
        self.entries.retain(|kept| {
            let Some(name) = entries.name(kept.index) else {
                return false;
            };
            let name = kept.name_in(name);
            let path = name.strip_suffix(b"/").unwrap_or(name);
            let folder = trail.follow(path, |above: Option<&bool>, folder, _| {
                above == Some(&true) || matches(folder)
            });
            !(folder == Some(&true) || matches(path))
        });
        (bytes_left > 0).then(|| before.saturating_sub(self.entries.len()))
    }

    /// Takes out symbolic links that a later one of the same name replaces: unpackers leave the last one, and
    /// unzip complains of the others. Also hard links to themselves, as which GNU tar writes a link that it
    /// is told to archive twice. Answers how many, and what to say of it.
    pub fn drop_replaced_links(
        &mut self,
        entries: &dyn Entries,
        peculiar: &[u32],
    ) -> Option<(usize, Finding)> {
        let mut peculiar = peculiar.iter().copied().peekable();
        let mut last: HashMap<Vec<u8>, u32> = HashMap::new();
        let mut replaced = HashSet::new();
        let mut first = None;
        for kept in &self.entries {
            while peculiar.next_if(|index| *index < kept.index).is_some() {}
            if peculiar.next_if_eq(&kept.index).is_none() {
                continue;
            }
            let Some(entry) = entries.entry(kept.index) else {
                continue;
            };
            let name = kept.name(&entry);
            if entry.kind == EntryKind::HardLink {
                let target = entry.link_target.unwrap_or_default();
                if last.contains_key(name) && parts(target).eq(parts(entry.name)) {
                    replaced.insert(kept.index);
                    first.get_or_insert_with(|| shown(name));
                }
                continue;
            }
            if entry.kind != EntryKind::Symlink {
                continue;
            }
            if let Some(earlier) = last.insert(name.to_vec(), kept.index) {
                replaced.insert(earlier);
                first.get_or_insert_with(|| shown(name));
            }
        }
        let first = first?;
        self.entries.retain(|kept| !replaced.contains(&kept.index));
        let count = replaced.len();
        let tally = Tally { first, count };
        let finding = Finding::warn(
            "entry-repeated",
            format!(
                "{} is a symbolic link that comes more than once; the last one is what gets unpacked",
                tally.subject()
            ),
            "archive each file once",
        );
        Some((count, finding.in_file(tally.first)))
    }
}

/// The parts of a name that count.
fn parts(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let parts = name.split(|&byte| byte == b'/');
    parts.filter(|part| !part.is_empty() && *part != b".")
}
