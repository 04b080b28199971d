//! A YAML node to typed fields, collecting every mistake on the way.
//!
//! Owns the strictness of the settings language: unknown keys, duplicate keys, wrong types, tags,
//! merge keys (`<<`), each with its place. Refuses to know what the keys mean.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::finding::Finding;
use crate::key_pattern::PatternError;
use crate::key_pattern::spelling::nearest;
use crate::object::InvalidName;
use crate::yaml::{Node, Place, ScalarStyle, Value};

/// Most mistakes that are told of one file.
pub(super) const FINDINGS_MAX: usize = 50;

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it begins.
    pub place: Place,
}

/// One pair of a mapping.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'n> {
    pub(super) name: &'n str,
    pub(super) key: &'n Node,
    pub(super) value: &'n Node,
}

/// Collects the mistakes of one file.
pub(super) struct Reader<'f> {
    pub(super) file: &'f str,
    pub(super) findings: Vec<Finding>,
}

/// Name of a file's topmost mapping in messages.
pub(super) const ROOT: &str = "settings";

impl<'f> Reader<'f> {
    pub(super) fn new(file: &'f str) -> Self {
        Self {
            file,
            findings: Vec::new(),
        }
    }

    pub(super) fn refuse(&mut self, code: &str, place: Place, message: String, cure: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(
                Finding::refuse(code, message, cure)
                    .in_file(self.file)
                    .at(place.line, place.column),
            );
        }
    }

    pub(super) fn wrong_type(&mut self, place: Place, key: &str, expected: &str, found: &Node) {
        let what = if key == ROOT {
            "the file".to_owned()
        } else {
            format!("key `{key}`")
        };
        self.refuse(
            "settings-wrong-type",
            place,
            format!("{what} holds {}, expected {expected}", found.kind_name()),
            format!("write {expected} there"),
        );
    }

    /// A mapping's pairs in the order of the text, each key once; merge keys are carried out.
    ///
    /// `what` names the mapping in messages. Keys that stand there twice are told and the first
    /// one is kept.
    pub(super) fn fields<'n>(&mut self, node: &'n Node, what: &str) -> Option<Vec<Field<'n>>> {
        if node.as_mapping().is_none() {
            self.wrong_type(node.place, what, "a mapping", node);
            return None;
        }
        let mut fields = Vec::new();
        let mut seen = BTreeSet::new();
        self.collect_fields(node, what, &mut fields, &mut seen);
        Some(fields)
    }

    fn collect_fields<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
        fields: &mut Vec<Field<'n>>,
        seen: &mut BTreeSet<&'n str>,
    ) {
        self.check_tag(node, what);
        let mut merged = Vec::new();
        let mut own: BTreeMap<&str, Place> = BTreeMap::new();
        for (key, value) in node.as_mapping().unwrap_or_default() {
            let name = match &key.value {
                Value::Scalar {
                    text,
                    style: ScalarStyle::Plain,
                } if text == "<<" => {
                    merged.push(value);
                    continue;
                }
                Value::Scalar { text, .. } if !key.is_null() => text.as_str(),
                _ => {
                    self.wrong_type(key.place, what, "text as key", key);
                    continue;
                }
            };
            self.check_tag(key, what);
            if let Some(first) = own.get(name) {
                let line = first.line;
                self.refuse(
                    "settings-duplicate-key",
                    key.place,
                    format!("key `{name}` stands in `{what}` twice, first at line {line}"),
                    "remove one of the two".to_owned(),
                );
                continue;
            }
            own.insert(name, key.place);
            if seen.insert(name) {
                fields.push(Field { name, key, value });
            }
        }
        // After the mapping's own keys, which win (YAML 1.1 merge key type).
        for value in merged {
            match &value.value {
                Value::Mapping(_) => self.collect_fields(value, what, fields, seen),
                Value::Sequence(items) if items.iter().all(|item| item.as_mapping().is_some()) => {
                    for item in items {
                        self.collect_fields(item, what, fields, seen);
                    }
                }
                _ => self.wrong_type(value.place, "<<", "a mapping", value),
            }
        }
    }

    /// Tags of YAML's own types change nothing; any other would ask for a type that we lack.
    fn check_tag(&mut self, node: &Node, what: &str) {
        let Some(tag) = &node.tag else { return };
        let is_plain = tag == "!"
            || tag
                .strip_prefix("tag:yaml.org,2002:")
                .is_some_and(|suffix| {
                    matches!(
                        suffix,
                        "str" | "int" | "float" | "bool" | "null" | "map" | "seq"
                    )
                });
        if !is_plain {
            self.refuse(
                "settings-yaml-tag",
                node.place,
                format!("tag `{tag}` in `{what}` has no meaning here"),
                "remove the tag".to_owned(),
            );
        }
    }

    pub(super) fn unknown_key(&mut self, field: &Field<'_>, what: &str, known: &[&str]) {
        let cure = match nearest(field.name, known.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("use one of {}", quoted(known)),
        };
        let name: String = field.name.chars().take(80).collect();
        self.refuse(
            "settings-unknown-key",
            field.key.place,
            format!("key `{name}` is unknown in `{what}`"),
            cure,
        );
    }

    /// A scalar's text; numbers and booleans are taken as they are written.
    pub(super) fn text<'n>(&mut self, key: &str, node: &'n Node) -> Option<Located<&'n str>> {
        self.check_tag(node, key);
        match node.as_str() {
            Some(text) if !node.is_null() && !text.is_empty() => Some(Located {
                value: text,
                place: node.place,
            }),
            Some(_) => {
                self.refuse(
                    "settings-wrong-type",
                    node.place,
                    format!("key `{key}` is empty, expected text"),
                    "write a value, or remove the key".to_owned(),
                );
                None
            }
            None => {
                self.wrong_type(node.place, key, "text", node);
                None
            }
        }
    }

    /// One text or a list of texts.
    pub(super) fn texts<'n>(&mut self, key: &str, node: &'n Node) -> Option<Vec<Located<&'n str>>> {
        let Some(items) = node.as_sequence() else {
            if node.as_mapping().is_some() {
                self.wrong_type(node.place, key, "text or a list", node);
                return None;
            }
            return self.text(key, node).map(|text| vec![text]);
        };
        self.check_tag(node, key);
        let texts: Vec<_> = items
            .iter()
            .filter_map(|item| self.text(key, item))
            .collect();
        (texts.len() == items.len()).then_some(texts)
    }

    /// `true` or `false`, and nothing else that some YAML takes for one of them.
    pub(super) fn flag(&mut self, key: &str, node: &Node) -> Option<Located<bool>> {
        let text = self.text(key, node)?;
        let is_plain = matches!(
            &node.value,
            Value::Scalar {
                style: ScalarStyle::Plain,
                ..
            }
        );
        match (text.value, is_plain) {
            ("true", true) => {
                return Some(Located {
                    value: true,
                    place: text.place,
                });
            }
            ("false", true) => {
                return Some(Located {
                    value: false,
                    place: text.place,
                });
            }
            _ => {}
        }
        let cure = match text.value.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" | "1" => "write `true`, without quotes",
            "false" | "no" | "off" | "n" | "0" => "write `false`, without quotes",
            _ => "write `true` or `false`",
        };
        let shown: String = text.value.chars().take(80).collect();
        self.refuse(
            "settings-wrong-type",
            text.place,
            format!("key `{key}` is `{shown}`, expected `true` or `false`"),
            cure.to_owned(),
        );
        None
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &str,
        node: &Node,
        choices: &[(&'static str, T)],
    ) -> Option<Located<T>> {
        let text = self.text(key, node)?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text.value) {
            return Some(Located {
                value: *value,
                place: text.place,
            });
        }
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        let shown: String = text.value.chars().take(80).collect();
        let cure = match nearest(text.value, words.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("write one of {}", quoted(&words)),
        };
        self.refuse(
            "settings-invalid-value",
            text.place,
            format!(
                "key `{key}` is `{shown}`, expected one of {}",
                quoted(&words)
            ),
            cure,
        );
        None
    }

    /// A name with rules of its own.
    pub(super) fn name<T: FromStr<Err = InvalidName>>(
        &mut self,
        key: &str,
        node: &Node,
    ) -> Option<Located<T>> {
        let text = self.text(key, node)?;
        match text.value.parse() {
            Ok(value) => Some(Located {
                value,
                place: text.place,
            }),
            Err(error) => {
                self.invalid_name(key, text.place, &error);
                None
            }
        }
    }

    pub(super) fn invalid_name(&mut self, key: &str, place: Place, error: &InvalidName) {
        self.refuse(
            "settings-invalid-value",
            place,
            format!("key `{key}`: {error}"),
            format!("write a valid {} there", error.noun),
        );
    }

    /// A text with variables.
    pub(super) fn pattern<T: FromStr<Err = PatternError>>(
        &mut self,
        key: &str,
        node: &Node,
    ) -> Option<Located<T>> {
        let text = self.text(key, node)?;
        match text.value.parse() {
            Ok(value) => Some(Located {
                value,
                place: text.place,
            }),
            Err(error) => {
                let place = inside(node, error.column());
                self.refuse(
                    "settings-invalid-pattern",
                    place,
                    format!("key `{key}`: {error}"),
                    error.cure(),
                );
                None
            }
        }
    }
}

/// The place of a character of a scalar's text (its column, from 1), where the text stands in one
/// line as it is; the scalar's own place for block scalars.
fn inside(node: &Node, column: Option<usize>) -> Place {
    let offset = column
        .and_then(|column| u64::try_from(column).ok())
        .map_or(0, |c| c.saturating_sub(1));
    let quote = match &node.value {
        Value::Scalar {
            style: ScalarStyle::Plain,
            ..
        } => 0,
        Value::Scalar {
            style: ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted,
            ..
        } => 1,
        _ => return node.place,
    };
    Place {
        line: node.place.line,
        column: node
            .place
            .column
            .saturating_add(offset)
            .saturating_add(quote),
    }
}

pub(super) fn quoted(words: &[&str]) -> String {
    words
        .iter()
        .map(|word| format!("`{word}`"))
        .collect::<Vec<_>>()
        .join(", ")
}
