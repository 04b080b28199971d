//! `permissions` against what `Install` copies: nothing is set twice, and nothing on the wrong kind.
//!
//! Owns the agent's rules of `CommandBuilder` in `install_instruction.rb`. Which directories the
//! instance has already is not known here; rules that depend on it stay silent.

mod object;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::bundle::{Bundle, Row};
use super::install::{
    COMPARISONS_MAX, Item, TooMuch, ancestors, below, join, normalised, spend, too_much,
};
use super::links::Links;
use super::report::Findings;
use super::scripts::{SHELL_CHARACTERS, WORD_ENDS};
use super::walk::Marks;
use crate::appspec::{Names, Permission, Server};
use crate::contents::shown;
use crate::finding::Finding;
use crate::yaml::Place;

use object::{Meaning, meaning};

/// Checks `permissions` against what is copied.
pub(super) fn check_permissions(
    bundle: &Bundle<'_>,
    server: &Server,
    items: &[Item<'_>],
    links: &Links,
    findings: &mut Findings<'_>,
) {
    let mut folders: Vec<Folder<'_>> = Vec::new();
    let mut files: BTreeMap<String, Vec<&Permission>> = BTreeMap::new();
    let mut budget = COMPARISONS_MAX;
    for permission in &server.permissions {
        let object = normalised(&permission.object, server.os);
        let Ok(meaning) = meaning(bundle, items, links, &object, &mut budget) else {
            findings.add(too_much());
            return;
        };
        match meaning {
            Meaning::File if permission.files => {
                check_on_file(permission, &object, findings);
                files.entry(object).or_default().push(permission);
            }
            Meaning::File => {}
            Meaning::Folder => folders.push(Folder {
                permission,
                object,
                names: permission.names(),
            }),
            Meaning::Nothing => findings.at(
                permission.place,
                Finding::warn(
                    "permission-without-effect",
                    format!(
                        "object `{}` is nothing that `files` copies: the agent sets nothing",
                        shown(permission.object.as_bytes())
                    ),
                    "name a destination of `files`, or something below one",
                ),
            ),
        }
    }
    let by_object = by_object(&folders);
    let mut twice = Twice::default();
    for (path, permissions) in &files {
        if let [first, second, ..] = permissions.as_slice() {
            twice.add(first, second, path);
        }
        for number in ancestors(path)
            .skip(1)
            .filter_map(|above| by_object.get(above))
            .flatten()
        {
            let Some(folder) = folders.get(*number) else {
                continue;
            };
            if let Some(first) = permissions.first()
                && folder.permission.files
                && folder.permission.meets(&folder.object, path)
            {
                twice.add(first, folder.permission, path);
            }
        }
    }
    if overlap(&folders, &by_object) || folders.iter().any(|folder| folder.looks_at_paths()) {
        let mut meetings = Meetings::new(items, &folders, &by_object, budget);
        if meetings.visit_all(bundle, links).is_err() {
            findings.add(too_much());
        }
        for (number, path) in &meetings.unsafe_paths {
            if let Some(folder) = folders.get(*number) {
                findings.at(folder.permission.place, path_unsafe(path));
            }
        }
        for folder in meetings
            .defaults
            .iter()
            .filter_map(|number| folders.get(*number))
        {
            findings.at(
                folder.permission.place,
                default_acl_on_file(folder.permission),
            );
        }
        for ((first, second), path) in &meetings.pairs {
            if let Some((first, second)) = folders.get(*first).zip(folders.get(*second)) {
                twice.add(first.permission, second.permission, path);
            }
        }
    }
    twice.report(findings);
}

/// An item whose object is a folder.
struct Folder<'p> {
    permission: &'p Permission,
    /// Normalised.
    object: String,
    /// Of what lies directly in it.
    names: Names<'p>,
}

impl Folder<'_> {
    /// Whether it matters which paths it meets, even if no other item does.
    fn looks_at_paths(&self) -> bool {
        (self.permission.files && has_default(self.permission)) || runs_commands(self.permission)
    }

    fn sets(&self, is_directory: bool) -> bool {
        if is_directory {
            self.permission.directories
        } else {
            self.permission.files
        }
    }
}

fn by_object<'f>(folders: &'f [Folder<'_>]) -> HashMap<&'f str, Vec<usize>> {
    let mut by_object: HashMap<&str, Vec<usize>> = HashMap::new();
    for (number, folder) in folders.iter().enumerate() {
        by_object.entry(&folder.object).or_default().push(number);
    }
    by_object
}

/// Whether two items can meet the same path at all.
fn overlap(folders: &[Folder<'_>], by_object: &HashMap<&str, Vec<usize>>) -> bool {
    // Of the items with one object, kinds that two of them set; of those above it, kinds that any sets.
    let sets = |numbers: &[usize], is_directory: bool| {
        let numbers = numbers.iter().filter_map(|number| folders.get(*number));
        numbers.filter(|folder| folder.sets(is_directory)).count()
    };
    by_object.iter().any(|(object, here)| {
        [false, true].into_iter().any(|is_directory| {
            let count = sets(here, is_directory);
            count > 1
                || (count == 1
                    && ancestors(object)
                        .skip(1)
                        .filter_map(|above| by_object.get(above))
                        .any(|above| sets(above, is_directory) > 0))
        })
    })
}

fn has_default(permission: &Permission) -> bool {
    permission.acls.iter().any(|ace| ace.is_default)
}

/// Whether the agent sets it by a command line, into which it writes the path without quotes.
fn runs_commands(permission: &Permission) -> bool {
    !permission.acls.is_empty() || permission.has_context
}

/// Pairs of items that set one path, each with the first such path: messages must have an order.
#[derive(Default)]
struct Twice<'p>(BTreeMap<(Place, Place), (&'p Permission, &'p Permission, String)>);

impl<'p> Twice<'p> {
    fn add(&mut self, one: &'p Permission, other: &'p Permission, path: &str) {
        let (first, second) = if one.place <= other.place {
            (one, other)
        } else {
            (other, one)
        };
        self.0
            .entry((first.place, second.place))
            .or_insert_with(|| (first, second, path.to_owned()));
    }

    fn report(&self, findings: &mut Findings<'_>) {
        for (first, second, path) in self.0.values() {
            findings.at(second.place, set_twice(path, first));
        }
    }
}

/// What an item of `files` fills in one folder, and the items of `permissions` that can meet it there.
#[derive(Debug, Clone)]
struct Cover {
    item: usize,
    /// Their object is above: they meet everything here, whatever its name.
    above: Vec<usize>,
    /// Their object is this folder: patterns look at names in it. By the byte that the names they mean
    /// end in, those that do not tell first.
    here: Vec<(Option<u8>, usize)>,
}

/// What is known of a folder, shared by all below it that have nothing of their own.
#[derive(Debug, Default)]
struct State {
    covers: Vec<Cover>,
    /// The folders below.
    below: Option<usize>,
    /// Whether names make no difference: one path shows what all of its kind would.
    is_for_any_name: bool,
    /// Whether files, and directories, have been looked at where names make no difference.
    is_settled: [bool; 2],
}

/// What a destination that becomes an object costs, measured in comparisons.
const OBJECT_COST: usize = 16;

/// Which items meet at which paths.
struct Meetings<'f, 'p> {
    items: &'f [Item<'f>],
    folders: &'f [Folder<'p>],
    by_object: &'f HashMap<&'f str, Vec<usize>>,
    budget: usize,
    states: Vec<State>,
    /// The first path of each pair.
    pairs: BTreeMap<(usize, usize), String>,
    /// Items whose default ACL entry meets a file.
    defaults: BTreeSet<usize>,
    /// Items that meet a path which breaks their command line, with the first one.
    unsafe_paths: BTreeMap<usize, String>,
    /// Room for the items that meet one path.
    met: Vec<usize>,
}

impl<'f, 'p> Meetings<'f, 'p> {
    fn new(
        items: &'f [Item<'f>],
        folders: &'f [Folder<'p>],
        by_object: &'f HashMap<&'f str, Vec<usize>>,
        budget: usize,
    ) -> Self {
        Self {
            items,
            folders,
            by_object,
            budget,
            states: Vec::new(),
            pairs: BTreeMap::new(),
            defaults: BTreeSet::new(),
            unsafe_paths: BTreeMap::new(),
            met: Vec::new(),
        }
    }

    /// Looks at everything that `Install` makes.
    fn visit_all(&mut self, bundle: &Bundle<'_>, links: &Links) -> Result<(), TooMuch> {
        // Folders of the bundle that become an object: the item of `files`, and that of `permissions`.
        let mut objects: Vec<(String, (usize, usize))> = Vec::new();
        for (number, item) in self.items.iter().enumerate() {
            if !item.is_directory {
                self.visit_file(&item.target)?;
                continue;
            }
            spend(&mut self.budget, self.folders.len())?;
            for (folder_number, folder) in self.folders.iter().enumerate() {
                if let Some(rest) = below(&folder.object, &item.target) {
                    spend(&mut self.budget, OBJECT_COST)?;
                    objects.push((join(&item.source, rest), (number, folder_number)));
                }
            }
        }
        let sources = self.items.iter().enumerate();
        let sources = sources
            .filter(|(_, item)| item.is_directory)
            .map(|(number, item)| (item.source.as_bytes(), number));
        let mut sources = Marks::new(bundle, sources);
        let objects = objects.iter();
        let mut objects = Marks::new(bundle, objects.map(|(path, mark)| (path.as_bytes(), *mark)));
        self.states.push(State {
            is_for_any_name: true,
            ..State::default()
        });
        let at_top: Vec<usize> = sources.at_top().collect();
        let met_at_top: Vec<(usize, usize)> = objects.at_top().collect();
        let top = self.state(0, &at_top, &met_at_top)?;
        // Of each row, the state of what lies in it.
        let mut within: Vec<usize> = Vec::with_capacity(bundle.row_count());
        for (number, row) in (0_u32..).zip(bundle.rows()) {
            let folder = row.folder.and_then(|folder| within.get(folder as usize));
            let around = folder.copied().unwrap_or(top);
            let state = if row.is_directory {
                let starting: Vec<usize> = sources.at(number).collect();
                let found: Vec<(usize, usize)> = objects.at(number).collect();
                let below = self.below(around)?;
                self.state(below, &starting, &found)?
            } else {
                around
            };
            within.push(state);
            if let Some(is_directory) = links.is_directory(number, &row) {
                self.visit(around, &row, is_directory)?;
            }
        }
        Ok(())
    }

    /// The state of a folder that would else have the one `inherited`.
    fn state(
        &mut self,
        inherited: usize,
        starting: &[usize],
        found: &[(usize, usize)],
    ) -> Result<usize, TooMuch> {
        if starting.is_empty() && found.is_empty() {
            return Ok(inherited);
        }
        let mut covers = self
            .states
            .get(inherited)
            .map(|state| state.covers.clone())
            .unwrap_or_default();
        for number in starting {
            let target = self.items.get(*number).map_or("", |item| &item.target);
            let above = ancestors(target)
                .skip(1)
                .filter_map(|folder| self.by_object.get(folder))
                .flatten()
                .copied()
                .filter(|number| self.meets_all_below(*number))
                .collect();
            covers.push(Cover {
                item: *number,
                above,
                here: Vec::new(),
            });
        }
        for (item, folder) in found {
            if let Some(cover) = covers.iter_mut().find(|cover| cover.item == *item) {
                let last_byte = self
                    .folders
                    .get(*folder)
                    .and_then(|folder| folder.names.last_byte());
                cover.here.push((last_byte, *folder));
            }
        }
        for cover in &mut covers {
            cover.here.sort_unstable();
        }
        self.push(covers)
    }

    /// The state that folders below one have, if there is nothing of their own in them.
    fn below(&mut self, above: usize) -> Result<usize, TooMuch> {
        let Some(state) = self.states.get(above) else {
            return Ok(above);
        };
        if let Some(below) = state.below {
            return Ok(below);
        }
        if state.covers.iter().all(|cover| cover.here.is_empty()) {
            return Ok(above);
        }
        let mut covers = state.covers.clone();
        for cover in &mut covers {
            for (_, number) in std::mem::take(&mut cover.here) {
                if self.meets_all_below(number) {
                    cover.above.push(number);
                }
            }
        }
        let below = self.push(covers)?;
        if let Some(state) = self.states.get_mut(above) {
            state.below = Some(below);
        }
        Ok(below)
    }

    fn push(&mut self, covers: Vec<Cover>) -> Result<usize, TooMuch> {
        spend(&mut self.budget, covers.iter().map(Cover::len).sum())?;
        self.states.push(State {
            is_for_any_name: covers.iter().all(|cover| self.is_for_any_name(cover)),
            covers,
            ..State::default()
        });
        Ok(self.states.len().saturating_sub(1))
    }

    /// Whether what is met does not depend on names.
    fn is_for_any_name(&self, cover: &Cover) -> bool {
        let runs_none = |number: &usize| {
            let folder = self.folders.get(*number);
            folder.is_none_or(|folder| !runs_commands(folder.permission))
        };
        let takes_all = |number: &usize| {
            let folder = self.folders.get(*number);
            folder.is_some_and(|folder| folder.names.take_all())
        };
        cover.above.iter().all(runs_none)
            && cover
                .here
                .iter()
                .map(|(_, number)| number)
                .all(|number| runs_none(number) && takes_all(number))
    }

    /// Whether an item meets everything in the folders below its object.
    fn meets_all_below(&self, number: usize) -> bool {
        self.folders
            .get(number)
            .is_some_and(|folder| folder.permission.pattern == "**")
    }

    /// A single file among `files`.
    fn visit_file(&mut self, target: &str) -> Result<(), TooMuch> {
        let met: Vec<usize> = ancestors(target)
            .skip(1)
            .filter_map(|above| self.by_object.get(above))
            .flatten()
            .copied()
            .filter(|number| {
                self.folders.get(*number).is_some_and(|folder| {
                    folder.permission.files && folder.permission.meets(&folder.object, target)
                })
            })
            .collect();
        spend(&mut self.budget, met.len())?;
        self.note(&met, false, || target.to_owned());
        Ok(())
    }

    fn visit(&mut self, at: usize, row: &Row<'_>, is_directory: bool) -> Result<(), TooMuch> {
        let Some(state) = self.states.get_mut(at) else {
            return Ok(());
        };
        let [files, directories] = &mut state.is_settled;
        let is_settled = if is_directory { directories } else { files };
        if *is_settled {
            return Ok(());
        }
        *is_settled = state.is_for_any_name;
        let folders = self.folders;
        let covers = std::mem::take(&mut state.covers);
        let mut met = std::mem::take(&mut self.met);
        let name = std::str::from_utf8(row.name).unwrap_or_default();
        for cover in &covers {
            spend(&mut self.budget, cover.len())?;
            let Some(item) = self.items.get(cover.item) else {
                continue;
            };
            let is_met = |number: &usize, is_here: bool| {
                folders.get(*number).is_some_and(|folder| {
                    folder.sets(is_directory) && (!is_here || folder.names.take(name))
                })
            };
            let above = cover.above.iter().filter(|number| is_met(number, false));
            let here = cover.here_for(name).filter(|number| is_met(number, true));
            met.clear();
            met.extend(above.chain(here));
            met.sort_unstable();
            let target = || {
                let rest = match item.source.len() {
                    0 => row.path,
                    length => row.path.get(length.saturating_add(1)..).unwrap_or_default(),
                };
                let rest = String::from_utf8_lossy(rest);
                format!("{}/{rest}", item.target.trim_end_matches('/'))
            };
            self.note(&met, is_directory, target);
        }
        self.met = met;
        if let Some(state) = self.states.get_mut(at) {
            state.covers = covers;
        }
        Ok(())
    }

    /// Takes down what is wrong with these items setting one path, unless it is known of them.
    fn note(&mut self, met: &[usize], is_directory: bool, target: impl Fn() -> String) {
        if let Some((first, others)) = met.split_first() {
            for other in others {
                self.pairs.entry((*first, *other)).or_insert_with(&target);
            }
        }
        for number in met {
            let Some(folder) = self.folders.get(*number) else {
                continue;
            };
            if !is_directory && has_default(folder.permission) {
                self.defaults.insert(*number);
            }
            if runs_commands(folder.permission) && !self.unsafe_paths.contains_key(number) {
                let path = target();
                if breaks_commands(&path) {
                    self.unsafe_paths.insert(*number, path);
                }
            }
        }
    }
}

impl Cover {
    fn len(&self) -> usize {
        self.above.len().saturating_add(self.here.len())
    }

    /// Of the items whose object is this folder, those that may mean a name.
    fn here_for(&self, name: &str) -> impl Iterator<Item = &usize> {
        let ending = |byte: Option<u8>| {
            let begin = self.here.partition_point(|(other, _)| *other < byte);
            let rest = self.here.get(begin..).unwrap_or_default();
            rest.iter().take_while(move |(other, _)| *other == byte)
        };
        let last = name.as_bytes().last().copied();
        // An empty name, which none has, would be asked about twice.
        let of_last = last.into_iter().flat_map(move |last| ending(Some(last)));
        ending(None).chain(of_last).map(|(_, number)| number)
    }
}

fn breaks_commands(path: &str) -> bool {
    path.contains(|char| WORD_ENDS.contains(char) || SHELL_CHARACTERS.contains(char))
}

fn path_unsafe(path: &str) -> Finding {
    Finding::refuse(
        "permission-path-unsafe",
        format!(
            "`{}` is to get an ACL or context, and has white space or a shell's character in its path, which the \
             agent writes into a command line as it is",
            shown(path.as_bytes())
        ),
        "rename it, or leave it out by `pattern`, `except` or `type`",
    )
}

fn check_on_file(permission: &Permission, object: &str, findings: &mut Findings<'_>) {
    if runs_commands(permission) && breaks_commands(object) {
        findings.at(permission.place, path_unsafe(object));
    }
    if permission.pattern != "**" || !permission.except.is_empty() {
        findings.at(
            permission.place,
            Finding::refuse(
                "permission-pattern-on-file",
                format!(
                    "`pattern` or `except` stands with object `{}`, which is a file",
                    shown(permission.object.as_bytes())
                ),
                "take them away, or name the folder as `object`",
            ),
        );
    }
    if has_default(permission) {
        findings.at(permission.place, default_acl_on_file(permission));
    }
}

fn default_acl_on_file(permission: &Permission) -> Finding {
    Finding::refuse(
        "permission-acl-default-on-file",
        format!(
            "a default ACL entry with object `{}` meets files, only directories take one",
            shown(permission.object.as_bytes())
        ),
        "write `type: [directory]` beside it, or leave `default:` out",
    )
}

fn set_twice(path: &str, first: &Permission) -> Finding {
    Finding::refuse(
        "permission-twice",
        format!(
            "`{}` is set here and by the item in line {}, the agent takes one",
            shown(path.as_bytes()),
            first.place.line
        ),
        "narrow one of them by `pattern`, `except` or `type`",
    )
}
