//! `permissions` against what `Install` copies: nothing is set twice, and nothing on the wrong kind.
//!
//! Owns the agent's rules of `CommandBuilder` in `install_instruction.rb`. Which directories the
//! instance has already is not known here; rules that depend on it stay silent.

use std::collections::{BTreeMap, BTreeSet};

use super::bundle::Bundle;
use super::install::{
    COMPARISONS_MAX, Item, TooMuch, below, below_source, made, normalised, spend, too_much,
};
use super::report::Findings;
use crate::appspec::{Permission, Server};
use crate::contents::shown;
use crate::finding::Finding;
use crate::yaml::Place;

/// Checks `permissions` against what is copied.
pub(super) fn check_permissions(
    bundle: &Bundle<'_>,
    server: &Server,
    items: &[Item<'_>],
    findings: &mut Findings<'_>,
) {
    let mut folders: Vec<(&Permission, String)> = Vec::new();
    let mut files: BTreeMap<String, Vec<&Permission>> = BTreeMap::new();
    let mut budget = COMPARISONS_MAX;
    for permission in &server.permissions {
        if spend(&mut budget, items.len()).is_err() {
            findings.add(too_much());
            return;
        }
        let object = normalised(&permission.object, server.os);
        if made(bundle, items, &object) == Some(false) {
            if permission.files {
                check_on_file(permission, findings);
                files.entry(object).or_default().push(permission);
            }
            continue;
        }
        let touches = items.iter().any(|item| {
            below(&item.target, &object).is_some()
                || (item.is_directory && made(bundle, items, &object).is_some())
        });
        if touches {
            folders.push((permission, object));
        } else {
            findings.at(
                permission.place,
                Finding::warn(
                    "permission-without-effect",
                    format!(
                        "object `{}` is nothing that `files` copies: the agent sets nothing",
                        shown(permission.object.as_bytes())
                    ),
                    "name a destination of `files`, or something below one",
                ),
            );
        }
    }
    let mut twice = Twice::default();
    for (path, permissions) in &files {
        if let [first, second, ..] = permissions.as_slice() {
            twice.add(first, second, path);
        }
        for (folder, object) in &folders {
            if let Some(first) = permissions.first()
                && folder.files
                && folder.meets(object, path)
            {
                twice.add(first, folder, path);
            }
        }
    }
    if overlap(&folders)
        || folders
            .iter()
            .any(|(folder, _)| folder.files && has_default(folder))
    {
        let mut wrong_acls = BTreeSet::new();
        let visited = each_target(
            bundle,
            items,
            &mut budget,
            folders.len(),
            |path, is_directory| {
                let mut first: Option<&Permission> = None;
                for (number, (folder, object)) in folders.iter().enumerate() {
                    let sets = if is_directory {
                        folder.directories
                    } else {
                        folder.files
                    };
                    if !sets || !folder.meets(object, path) {
                        continue;
                    }
                    if !is_directory && has_default(folder) {
                        wrong_acls.insert(number);
                    }
                    match first {
                        None => first = Some(folder),
                        Some(first) => twice.add(first, folder, path),
                    }
                }
            },
        );
        if visited.is_err() {
            findings.add(too_much());
        }
        for (folder, _) in wrong_acls
            .into_iter()
            .filter_map(|number| folders.get(number))
        {
            findings.at(folder.place, default_acl_on_file(folder));
        }
    }
    twice.report(findings);
}

/// Whether two items can meet the same path at all.
fn overlap(folders: &[(&Permission, String)]) -> bool {
    folders.iter().enumerate().any(|(number, (one, object))| {
        folders.iter().take(number).any(|(other, other_object)| {
            let share_type = (one.files && other.files) || (one.directories && other.directories);
            share_type
                && (below(object, other_object).is_some() || below(other_object, object).is_some())
        })
    })
}

fn has_default(permission: &Permission) -> bool {
    permission.acls.iter().any(|ace| ace.is_default)
}

/// Pairs of items that set one path, each with the smallest such path: maps have no order, messages
/// must have one.
#[derive(Default)]
struct Twice<'p>(BTreeMap<(Place, Place), (&'p Permission, &'p Permission, String)>);

impl<'p> Twice<'p> {
    fn add(&mut self, one: &'p Permission, other: &'p Permission, path: &str) {
        let (first, second) = if one.place <= other.place {
            (one, other)
        } else {
            (other, one)
        };
        let known = self
            .0
            .entry((first.place, second.place))
            .or_insert_with(|| (first, second, path.to_owned()));
        if path < known.2.as_str() {
            path.clone_into(&mut known.2);
        }
    }

    fn report(&self, findings: &mut Findings<'_>) {
        for (first, second, path) in self.0.values() {
            findings.at(second.place, set_twice(path, first));
        }
    }
}

/// Calls `visit` for everything that `Install` makes, in no order.
fn each_target(
    bundle: &Bundle<'_>,
    items: &[Item<'_>],
    budget: &mut usize,
    cost: usize,
    mut visit: impl FnMut(&str, bool),
) -> Result<(), TooMuch> {
    let mut target = String::new();
    for item in items {
        if !item.is_directory {
            spend(budget, cost)?;
            visit(&item.target, false);
            continue;
        }
        for (path, is_directory) in bundle.paths() {
            let Ok(path) = std::str::from_utf8(path) else {
                continue;
            };
            spend(budget, 1)?;
            let Some(name) = below_source(path, &item.source) else {
                continue;
            };
            spend(budget, cost)?;
            target.clear();
            target.push_str(item.target.trim_end_matches('/'));
            target.push('/');
            target.push_str(name);
            visit(&target, is_directory);
        }
    }
    Ok(())
}

fn check_on_file(permission: &Permission, findings: &mut Findings<'_>) {
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
