//! The object of an item of `permissions`: what it is on the instance.
//!
//! Owns the one look at all of `files` that each item takes, which has its budget.

use super::super::bundle::Bundle;
use super::super::install::{
    DESTINATION_BYTES_MAX, Item, TooMuch, below, join, spend, spend_lookup,
};
use super::super::links::Links;

/// What an object is on the instance.
pub(super) enum Meaning {
    /// A file that is copied.
    File,
    /// A folder that something is copied into, or that may be one.
    Folder,
    /// Nothing that is copied.
    Nothing,
}

/// What an object, normalised, is.
pub(super) fn meaning(
    bundle: &Bundle<'_>,
    items: &[Item<'_>],
    links: &Links,
    object: &str,
    budget: &mut usize,
) -> Result<Meaning, TooMuch> {
    // Nothing can stand there, and each folder above it would be looked up.
    if object.len() > DESTINATION_BYTES_MAX {
        return Ok(Meaning::Nothing);
    }
    spend(budget, items.len())?;
    if made(bundle, items, links, object, budget)? == Some(false) {
        return Ok(Meaning::File);
    }
    for item in items {
        if below(&item.target, object).is_some() {
            return Ok(Meaning::Folder);
        }
        if let Some(rest) = below(object, &item.target).filter(|_| item.is_directory)
            && links.may_hold(bundle, &join(&item.source, rest), budget)?
        {
            return Ok(Meaning::Folder);
        }
    }
    Ok(Meaning::Nothing)
}

/// Whether `Install` copies a file to `path`, or makes a directory there; `None` for neither.
fn made(
    bundle: &Bundle<'_>,
    items: &[Item<'_>],
    links: &Links,
    path: &str,
    budget: &mut usize,
) -> Result<Option<bool>, TooMuch> {
    for item in items {
        if !item.is_directory {
            if item.target == path {
                return Ok(Some(false));
            }
            continue;
        }
        let Some(rest) = below(path, &item.target) else {
            continue;
        };
        let inside = join(&item.source, rest);
        spend_lookup(budget, inside.len())?;
        let made = links.made(bundle, inside.as_bytes());
        if made.is_some() {
            return Ok(made);
        }
    }
    Ok(None)
}
