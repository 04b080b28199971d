//! What of the archive goes into the revision, and under which names.
//!
//! Owns the application root, the wrapper folder (the agent's habit of stripping a single top folder
//! that holds the AppSpec), `.git`, excludes, and the repair of names. Values to values: it sees an
//! archive's index and decides; it reads no content.
//!
//! ```text
//! repo-1/app/appspec.yml   application root /app   -> appspec.yml     (wrapper looked through)
//! repo-1/.git/config                               -> left out
//! repo-1/README.md                                 -> left out, beside the root
//! ```
//!
//! The agent's unpackers meet more than they read well. One rule for each of what repackaging could
//! repair: repaired where one meaning is left, refused where two are, and never in silence unless nothing
//! is lost.
//!
//! | in the artifact | rule | finding |
//! |---|---|---|
//! | one top folder with a name like `appspec` directly in it | repaired: it becomes the root, as the agent does it | |
//! | one top folder around a given application root | repaired: looked through | |
//! | `__MACOSX`, `.DS_Store` beside the one folder | repaired: left out | `finder-files-dropped` |
//! | `.git` at any depth | repaired: left out | |
//! | `appspec.yaml`, `appspec.json` or another case, alone | repaired: renamed | `appspec-renamed` |
//! | several of those, and no `appspec.yml` | refused | `appspec-ambiguous` |
//! | `./` before a name, in a tar | repaired | |
//! | `./` in a zip's name, `//` or `/./` in any | repaired: taken out | `entry-name-dots` |
//! | backslashes in a zip entry without Unix mode | repaired: separators | `entry-name-backslashes` |
//! | backslashes elsewhere | kept: a character like any other | |
//! | a directory's name without closing `/` | repaired: gets one | |
//! | a control character in a name | kept, warned of | `entry-name-control` |
//! | an absolute name, `..` in a name (after either slash) | refused, wherever it lies | `entry-name-absolute`, `entry-name-climbs` |
//! | NUL, not UTF-8, too long, a file's name closed by `/` | refused, where it would be kept | `entry-name-nul`, `entry-name-not-utf8`, `entry-name-too-long`, `entry-name-like-folder` |
//! | a compression method other than stored and deflated | refused: content is copied as it is | `entry-compression-unsupported` |
//! | ciphertext | refused | `entry-encrypted` |
//! | one file twice | kept, warned of: the last one stays | `entry-repeated` |
//! | one name as two kinds, a name below a file or a link | refused | `entry-two-kinds`, `entry-below-file`, `entry-through-link` |

use globset::GlobSet;

use crate::archive::{ArchiveFormat, Entry, EntryKind, Index};
use crate::finding::Finding;

mod names;
mod survey;
#[cfg(test)]
mod tests;
mod trail;

pub use names::{
    COMPONENT_BYTES_MAX, COMPONENTS_MAX, NameFault, NameRepair, PATH_BYTES_MAX, Tidy, shown, tidy,
};

pub(crate) use trail::Trail;

use names::Names;
use survey::{Candidates, Survey};

/// The only name under which the agent looks for an AppSpec at every lifecycle event.
pub const APPSPEC_NAME: &str = "appspec.yml";

/// Names, in lower case, that stand for the AppSpec where [`APPSPEC_NAME`] is missing.
const APPSPEC_OTHER_NAMES: [&[u8]; 3] = [b"appspec.yml", b"appspec.yaml", b"appspec.json"];

/// Set-user-id and set-group-id.
pub const SET_ID_BITS: u32 = 0o6000;

/// Other places of an AppSpec that a message names.
const PLACES_SHOWN_MAX: usize = 3;

/// An archive's entries by position, as its reader's index holds them.
pub trait Entries {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry at `position` in the archive's own order; `None` beyond the last.
    fn entry(&self, position: u32) -> Option<Entry<'_>>;

    /// The entry at `position` for those who do not ask when it was modified.
    fn entry_without_time(&self, position: u32) -> Option<Entry<'_>> {
        self.entry(position)
    }

    /// The name of the entry at `position`, for those who need no more of it.
    fn name(&self, position: u32) -> Option<&[u8]> {
        self.entry(position).map(|entry| entry.name)
    }
}

impl Entries for Index {
    fn len(&self) -> usize {
        Index::len(self)
    }

    fn entry(&self, position: u32) -> Option<Entry<'_>> {
        Index::entry(self, usize::try_from(position).ok()?)
    }

    fn entry_without_time(&self, position: u32) -> Option<Entry<'_>> {
        let position = usize::try_from(position).ok()?;
        match self {
            Index::Zip(index) => index.entry_without_time(position),
            Index::Tar(index) => index.entry(position),
        }
    }

    fn name(&self, position: u32) -> Option<&[u8]> {
        let position = usize::try_from(position).ok()?;
        match self {
            Index::Zip(index) => index.name(position),
            Index::Tar(index) => index.entry(position).map(|entry| entry.name),
        }
    }
}

impl Entries for [Entry<'_>] {
    fn len(&self) -> usize {
        <[Entry<'_>]>::len(self)
    }

    fn entry(&self, position: u32) -> Option<Entry<'_>> {
        self.get(usize::try_from(position).ok()?).cloned()
    }
}

/// The name of a kept entry in the revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptName {
    /// The archive's name without its first `skip` bytes: the common case, free of allocation.
    Suffix {
        /// Bytes of the archive's name to leave out.
        skip: u32,
    },
    /// Another name, where the archive's had to be repaired.
    Renamed(Box<[u8]>),
}

/// One entry that goes into the revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptEntry {
    /// Its position in the archive's index.
    pub index: u32,
    /// Its name in the revision: relative, forward slashes, a directory's ends with `/`, never empty.
    pub name: KeptName,
}

impl KeptEntry {
    /// The entry's name in the revision; `entry` must be the one at [`Self::index`].
    pub fn name<'a>(&'a self, entry: &Entry<'a>) -> &'a [u8] {
        self.name_in(entry.name)
    }

    /// The entry's name in the revision, from its name in the archive.
    pub(crate) fn name_in<'a>(&'a self, archive_name: &'a [u8]) -> &'a [u8] {
        match &self.name {
            KeptName::Suffix { skip } => archive_name.get(*skip as usize..).unwrap_or_default(),
            KeptName::Renamed(name) => name,
        }
    }
}

/// What decides about the contents besides the archive itself.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    /// The application root as a prefix of names: empty for the archive's root, else closed by `/`.
    pub application_root: &'a str,
    /// Paths below the root that stay out; a folder that matches takes all below it along.
    pub exclude: &'a GlobSet,
    /// The archive's format: backslashes and `./` mean different things in zip and tar.
    pub format: ArchiveFormat,
}

/// How many entries went where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// In the revision.
    pub kept: usize,
    /// Beside or above the application root, and the root's own directory entry.
    pub outside_root: usize,
    /// `.git` and what lies in it.
    pub git: usize,
    /// Left out by `exclude`.
    pub excluded: usize,
    /// `__MACOSX` and `.DS_Store` beside the one top folder.
    pub finder: usize,
}

/// The AppSpec among the kept entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppSpecEntry {
    /// Its position in the archive's index.
    pub index: u32,
    /// Its name in the archive, for findings.
    pub archive_name: String,
}

/// What goes into the revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The entries, in the archive's order.
    pub entries: Vec<KeptEntry>,
    /// The prefix of tidy archive names that became the revision's root: the application root with
    /// the wrapper folders around and below it; empty or closed by `/`.
    pub root: String,
    /// The AppSpec; where its name stands twice, the last one, which is the one that unpackers leave.
    pub appspec: AppSpecEntry,
    /// Positions in the archive's index, ascending, of entries that are more than plain files and
    /// directories: links, special files, ciphertext, other compression methods, set-id bits, directories
    /// with content. Some of them may not be kept.
    pub peculiar: Vec<u32>,
    /// How many entries were kept and left out.
    pub counts: Counts,
    /// What was repaired.
    pub warnings: Vec<Finding>,
}

/// Chooses the entries of the revision and their names.
///
/// A single top folder below the root that holds a name with `appspec` in it becomes the root, as the
/// agent does it; `__MACOSX` and `.DS_Store` beside it are dropped. Where nothing lies under the
/// application root but one top folder wraps the whole archive, the root is looked for inside it.
///
/// # Errors
/// Findings that refuse: names that leave the archive or that no instance can make, an empty archive
/// or application root, an AppSpec that is missing, a folder, or there under several names.
pub fn choose_contents(
    entries: &dyn Entries,
    choice: &Choice<'_>,
) -> Result<Contents, Vec<Finding>> {
    let mut survey = Survey::take(entries, choice.application_root, choice.format);
    let mut root = choice.application_root.to_owned();
    if survey.kept.is_empty()
        && !root.is_empty()
        && !survey.refuses()
        && let Some(wrapper) = survey.outside.single_folder()
    {
        root = format!("{wrapper}{root}");
        survey = Survey::take(entries, &root, choice.format);
    }
    if survey.refuses() {
        return Err(survey.findings());
    }
    if survey.kept.is_empty() {
        return Err(vec![nothing_kept(
            entries,
            choice.application_root,
            &survey,
        )]);
    }
    let mut warnings = survey.findings();
    let mut counts = survey.counts;
    let mut candidates = survey.kept;
    if let Some(wrapper) = survey.inside.wrapper_with_appspec() {
        let finder = candidates.strip(entries, &wrapper);
        if finder > 0 {
            counts.finder = finder;
            warnings.push(finder_dropped(&wrapper, finder));
        }
        // Stripping drops the wrapper's own directory entry too.
        counts.outside_root = entries
            .len()
            .saturating_sub(candidates.len())
            .saturating_sub(counts.git)
            .saturating_sub(finder);
        root.push_str(&wrapper);
    }
    counts.excluded = candidates
        .exclude(entries, choice.exclude)
        .ok_or_else(|| vec![too_deep()])?;
    counts.kept = candidates.len();
    let (appspec, renamed) = find_appspec(
        entries,
        &mut candidates,
        &survey.appspecs,
        &root,
        choice.format,
    )?;
    warnings.extend(renamed);
    Ok(Contents {
        entries: candidates.entries,
        root,
        appspec,
        peculiar: survey.peculiar,
        counts,
        warnings,
    })
}

/// Where a document such as `circle.yml` lies at the artifact's root, or at the root of the one folder
/// that wraps the whole artifact; the last one, where its name stands twice.
pub fn find_document(entries: &dyn Entries, name: &str, format: ArchiveFormat) -> Option<u32> {
    let mut at_root = None;
    let mut one_down = None;
    for position in positions(entries) {
        if !entries
            .name(position)
            .is_some_and(|archive_name| archive_name.ends_with(name.as_bytes()))
        {
            continue;
        }
        let Some(entry) = entries.entry(position) else {
            continue;
        };
        if entry.kind == EntryKind::Directory {
            continue;
        }
        let tidied = tidy(&entry, format);
        match tidied.path.strip_suffix(name.as_bytes()) {
            Some(b"") => at_root = Some(position),
            Some([folder @ .., b'/']) if !folder.is_empty() && !folder.contains(&b'/') => {
                one_down = Some((position, format!("{}/", String::from_utf8_lossy(folder))));
            }
            _ => {}
        }
    }
    if at_root.is_some() {
        return at_root;
    }
    let (position, folder) = one_down?;
    let survey = Survey::take(entries, "", format);
    (survey.inside.single_folder()? == folder).then_some(position)
}

fn positions(entries: &dyn Entries) -> std::ops::Range<u32> {
    0..u32::try_from(entries.len()).unwrap_or(u32::MAX)
}

/// All entries, without times, with their positions.
fn all(entries: &dyn Entries) -> impl Iterator<Item = (u32, Entry<'_>)> {
    positions(entries).map_while(|position| {
        let entry = entries.entry_without_time(position)?;
        Some((position, entry))
    })
}

fn nothing_kept(entries: &dyn Entries, application_root: &str, survey: &Survey) -> Finding {
    if entries.is_empty() {
        return Finding::refuse(
            "archive-empty",
            "the archive has no entries",
            "upload an archive that holds the application and its appspec.yml",
        );
    }
    let folders = survey.outside.folders_shown();
    let has = if folders.is_empty() {
        "nothing else".to_owned()
    } else {
        folders
    };
    Finding::refuse(
        "application-root-empty",
        format!(
            "application root `/{}` holds no files in the archive, which has {has} at its top",
            application_root.trim_end_matches('/')
        ),
        "correct `application_root` in the settings, or put the files there before archiving",
    )
}

fn too_deep() -> Finding {
    Finding::refuse(
        "archive-too-many-entries",
        "the archive's folders are nested too deep and too often to be held against `exclude`",
        "ship fewer and flatter folders",
    )
}

fn finder_dropped(wrapper: &str, count: usize) -> Finding {
    Finding::warn(
        "finder-files-dropped",
        format!(
            "{count} {} of the macOS Finder beside folder `{wrapper}` left out; with them the agent \
             would not have found the AppSpec",
            if count == 1 { "entry" } else { "entries" }
        ),
        "archive with `zip -r` or `ditto --norsrc` instead of the Finder's Compress",
    )
}

/// Finds the AppSpec at the revision's root, and gives it the name that the agent wants.
fn find_appspec(
    entries: &dyn Entries,
    candidates: &mut Candidates,
    named_so: &[u32],
    root: &str,
    format: ArchiveFormat,
) -> Result<(AppSpecEntry, Option<Finding>), Vec<Finding>> {
    let mut exact = None;
    let mut others: Vec<(Box<[u8]>, Vec<usize>)> = Vec::new();
    let mut elsewhere = Vec::new();
    for index in named_so {
        let Ok(place) = candidates
            .entries
            .binary_search_by_key(index, |kept| kept.index)
        else {
            continue;
        };
        let found = candidates.entries.get(place).zip(entries.entry(*index));
        let Some((kept, entry)) = found else {
            continue;
        };
        let name = kept.name(&entry);
        let path = name.strip_suffix(b"/").unwrap_or(name);
        if path == APPSPEC_NAME.as_bytes() {
            exact = Some((kept.index, entry.kind));
        } else if path.contains(&b'/') {
            if elsewhere.len() < PLACES_SHOWN_MAX && entry.kind != EntryKind::Directory {
                elsewhere.push(format!("{root}{}", shown(path)));
            }
        } else if entry.kind != EntryKind::Directory {
            match others.iter_mut().find(|(name, _)| **name == *path) {
                Some((_, places)) => places.push(place),
                None => others.push((path.into(), vec![place])),
            }
        }
    }
    let named = |index: u32| {
        entries
            .entry(index)
            .map_or_else(String::new, |entry| shown(&tidy(&entry, format).path))
    };
    if let Some((index, kind)) = exact {
        let archive_name = named(index);
        if kind == EntryKind::Directory {
            return Err(vec![
                Finding::refuse(
                    "appspec-is-directory",
                    format!("`{archive_name}` is a directory, expected a file"),
                    "put the AppSpec into a file with that name",
                )
                .in_file(archive_name),
            ]);
        }
        return Ok((
            AppSpecEntry {
                index,
                archive_name,
            },
            None,
        ));
    }
    match others.as_slice() {
        [] => Err(vec![appspec_missing(root, &elsewhere)]),
        [(_, places)] => {
            let mut index = None;
            for place in places {
                if let Some(kept) = candidates.entries.get_mut(*place) {
                    kept.name = KeptName::Renamed(APPSPEC_NAME.as_bytes().into());
                    index = Some(kept.index);
                }
            }
            let Some(index) = index else {
                return Err(vec![appspec_missing(root, &elsewhere)]);
            };
            let archive_name = named(index);
            let warning = Finding::warn(
                "appspec-renamed",
                format!(
                    "`{archive_name}` goes into the revision as `{APPSPEC_NAME}`, the only name \
                         that the agent's hooks find"
                ),
                format!("rename it to `{APPSPEC_NAME}`"),
            )
            .in_file(archive_name.clone());
            Ok((
                AppSpecEntry {
                    index,
                    archive_name,
                },
                Some(warning),
            ))
        }
        several => {
            let names: Vec<String> = several
                .iter()
                .take(PLACES_SHOWN_MAX)
                .map(|(name, _)| format!("`{}`", shown(name)))
                .collect();
            Err(vec![Finding::refuse(
                "appspec-ambiguous",
                format!(
                    "{} could each be the AppSpec, expected one `{APPSPEC_NAME}`",
                    names.join(" and ")
                ),
                format!("keep one of them, under the name `{APPSPEC_NAME}`"),
            )])
        }
    }
}

fn appspec_missing(root: &str, elsewhere: &[String]) -> Finding {
    let place = if root.is_empty() {
        "the archive's root".to_owned()
    } else {
        format!("`/{root}`")
    };
    let message = format!("{place} holds no `{APPSPEC_NAME}`");
    let Some(first) = elsewhere.first() else {
        return Finding::refuse(
            "appspec-missing",
            message,
            format!(
                "add `{APPSPEC_NAME}` there, or set `application_root` to the folder that holds it"
            ),
        );
    };
    let folder = first.rsplit_once('/').map_or("", |(folder, _)| folder);
    Finding::refuse(
        "appspec-missing",
        format!("{message}; there is one at `{}`", elsewhere.join("`, `")),
        format!("set `application_root: /{folder}`, or move the AppSpec up"),
    )
}

/// Whether a path's last component is an AppSpec's name in any case, in any folder.
pub fn names_appspec(path: &[u8]) -> bool {
    if !matches!(path.last(), Some(b'l' | b'L' | b'n' | b'N')) {
        return false;
    }
    APPSPEC_OTHER_NAMES.iter().any(|known| {
        path.len().checked_sub(known.len()).is_some_and(|at| {
            let (before, last) = path.split_at(at);
            last.eq_ignore_ascii_case(known) && before.last().is_none_or(|&byte| byte == b'/')
        })
    })
}
