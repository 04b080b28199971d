//! YAML bytes to a tree of nodes, for readers that have to be exact about what stood where.
//!
//! Owns the limits on hostile documents, places (line and column), scalar styles, tags and
//! anchors as written. Refuses to know types: a scalar is its text, `yes` and `0644` are judged
//! by the reader, because CodeDeploy's agent (Ruby) and the settings (strict) judge differently.
//! Aliases stay [`Value::Alias`] until a reader asks for [`resolve_aliases`].
//!
//! ```text
//! bytes -> UTF-8, no NUL -> parser's events -> Vec<Node> (one a document) -> resolve_aliases
//!          (size)           (depth, events, aliases, bytes of tags)          (nodes produced, bytes copied)
//! ```

mod aliases;
mod error;
mod first;
mod tree;

use std::collections::BTreeMap;
use std::fmt;

pub use aliases::resolve_aliases;
pub use error::YamlError;
pub use first::{First, parse_first};

use granit_parser::{Event, Parser, Span};
use serde::{Deserialize, Serialize};

use tree::Tree;

/// What a document may cost before it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Size of the document in bytes.
    pub bytes_max: usize,
    /// Collections inside collections; also of the tree after aliases are resolved.
    pub depth_max: usize,
    /// Parser events (a scalar or an alias is one, a collection two); also the nodes that
    /// [`resolve_aliases`] may produce.
    pub events_max: usize,
    /// Aliases (`*name`) in all documents together.
    pub aliases_max: usize,
}

/// How many times [`Limits::bytes_max`] all tags written out, or all copies that aliases make, may take.
///
/// `!!a,` is the shortest tag with a prefix that everybody has, and becomes five times as long.
const EXPANSION_MAX: usize = 8;

impl Limits {
    fn expanded_bytes_max(&self) -> usize {
        self.bytes_max.saturating_mul(EXPANSION_MAX)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes_max: 256 * 1024,
            depth_max: 32,
            events_max: 20_000,
            aliases_max: 16,
        }
    }
}

/// Where something stands in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// Line, from 1.
    pub line: u64,
    /// Column in characters, from 1; a byte order mark takes none.
    pub column: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScalarStyle {
    /// Without quotes.
    Plain,
    /// In `'`.
    SingleQuoted,
    /// In `"`.
    DoubleQuoted,
    /// After `|`.
    Literal,
    /// After `>`.
    Folded,
}

/// One node as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where it begins: its content for [`parse`], its tag or anchor if it has one for [`parse_first`].
    pub place: Place,
    /// Its tag, resolved: `tag:yaml.org,2002:str`, `!ruby/object:Gem`; `!` is the non-specific one.
    pub tag: Option<String>,
    /// Its anchor without `&`.
    pub anchor: Option<String>,
    /// Its content.
    pub value: Value,
}

/// A node's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text, after quotes and escapes; a missing value (`key:`) is the empty plain scalar.
    Scalar {
        /// The text.
        text: String,
        /// How it was written.
        style: ScalarStyle,
    },
    /// `[a, b]`.
    Sequence(Vec<Node>),
    /// `{a: b}` in the order of the text, duplicates kept.
    Mapping(Vec<(Node, Node)>),
    /// `*name`, the name without `*`.
    Alias(String),
}

impl Node {
    /// A scalar's text, however it is written; `None` for collections and aliases.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            Value::Sequence(_) | Value::Mapping(_) | Value::Alias(_) => None,
        }
    }

    /// A sequence's items.
    pub fn as_sequence(&self) -> Option<&[Node]> {
        match &self.value {
            Value::Sequence(items) => Some(items),
            Value::Scalar { .. } | Value::Mapping(_) | Value::Alias(_) => None,
        }
    }

    /// A mapping's pairs in the order of the text.
    pub fn as_mapping(&self) -> Option<&[(Node, Node)]> {
        match &self.value {
            Value::Mapping(pairs) => Some(pairs),
            Value::Scalar { .. } | Value::Sequence(_) | Value::Alias(_) => None,
        }
    }

    /// The value of a mapping's first scalar key with that text.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.as_mapping()?
            .iter()
            .find(|(name, _)| name.as_str() == Some(key))
            .map(|(_, value)| value)
    }

    /// Whether it is YAML's null: missing, `~` or `null`, without quotes.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, style: ScalarStyle::Plain }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
            && self.tag.is_none()
    }

    /// What it is, for messages: `a mapping`, `a list`, `text`, `nothing`, `an alias`.
    pub fn kind_name(&self) -> &'static str {
        match &self.value {
            Value::Scalar { .. } if self.is_null() => "nothing",
            Value::Scalar { .. } => "text",
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
            Value::Alias(_) => "an alias",
        }
    }
}

/// Reads all documents of a text; an empty text has none.
///
/// A UTF-8 byte order mark is skipped, as YAML 1.2 (section 5.2) and libyaml do.
///
/// # Errors
/// Each limit, each wrong encoding and each mistake of syntax has its own variant.
pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Vec<Node>, YamlError> {
    let text = decode(bytes, limits)?;
    let mut builder = Builder::new(text, limits);
    for next in Parser::new_from_str_with_options(text, parser_options(limits)) {
        let (event, span) = next.map_err(|error| builder.scan_error(&error))?;
        builder.take(event, &span)?;
    }
    Ok(builder.tree.into_documents())
}

fn parser_options(limits: &Limits) -> granit_parser::Options {
    // One level more than we allow: our own count refuses first and knows the place.
    let nesting_limit = limits.depth_max.saturating_add(1);
    let mut options = granit_parser::options! {
        emit_unresolved_aliases: true,
        emit_anchor_events: true,
        flow_nesting_limit: nesting_limit,
        block_nesting_limit: nesting_limit,
    };
    options.set_emit_comments(false);
    options
}

/// The text of a document without its byte order mark.
fn decode<'b>(bytes: &'b [u8], limits: &Limits) -> Result<&'b str, YamlError> {
    if bytes.len() > limits.bytes_max {
        return Err(YamlError::TooLarge {
            bytes: bytes.len(),
            limit: limits.bytes_max,
        });
    }
    // YAML 1.2, section 5.2: a NUL among the first bytes, or a mark, tells the wide encodings.
    let is_wide = matches!(bytes, [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..])
        || matches!(bytes, [0, 0, 0xFE, 0xFF, ..] | [0, 0, 0, _, ..])
        || matches!(bytes, [0, second, ..] if *second != 0)
        || matches!(bytes, [first, 0, ..] if *first != 0);
    if is_wide {
        return Err(YamlError::Utf16);
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
        YamlError::InvalidUtf8 {
            place: place_after(std::str::from_utf8(valid).unwrap_or_default()),
        }
    })?;
    if let Some((before, _)) = text.split_once('\0') {
        return Err(YamlError::Nul {
            place: place_after(before),
        });
    }
    Ok(text.strip_prefix('\u{FEFF}').unwrap_or(text))
}

/// The place of the character that follows `text`.
fn place_after(text: &str) -> Place {
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let (mut line, mut column, mut after_return) = (1, 1, false);
    for character in text.chars() {
        match character {
            '\n' if after_return => {}
            '\n' | '\r' => (line, column) = (line + 1, 1),
            _ => column += 1,
        }
        after_return = character == '\r';
    }
    Place { line, column }
}

fn place_of(marker: &granit_parser::Marker) -> Place {
    // The parser counts lines from 1 and columns from 0.
    Place {
        line: u64::try_from(marker.line()).unwrap_or(u64::MAX).max(1),
        column: u64::try_from(marker.col())
            .unwrap_or(u64::MAX)
            .saturating_add(1),
    }
}

struct Builder<'t, 'l> {
    text: &'t str,
    tree: Tree<'l>,
    /// Anchor ids of the parser to the names as written.
    anchors: BTreeMap<usize, String>,
}

impl<'t, 'l> Builder<'t, 'l> {
    fn new(text: &'t str, limits: &'l Limits) -> Self {
        Self {
            text,
            tree: Tree::new(limits),
            anchors: BTreeMap::new(),
        }
    }

    fn scan_error(&self, error: &granit_parser::ScanError) -> YamlError {
        use granit_parser::ErrorKind;
        let mut place = place_of(error.marker());
        match error.kind() {
            ErrorKind::RecursionLimitExceeded => self.tree.too_deep(place),
            kind => {
                // The parser names the scalar that a tab follows; people look for the tab.
                if matches!(
                    kind,
                    ErrorKind::TabInPlainScalar | ErrorKind::TabInIndentation
                ) && let Some(start) = error.marker().byte_offset()
                    && let Some(tab) = self.text.get(start..).and_then(|rest| rest.find('\t'))
                {
                    place = place_after(self.text.get(..start + tab).unwrap_or_default());
                }
                YamlError::Syntax {
                    place,
                    reason: kind.to_string(),
                }
            }
        }
    }

    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), YamlError> {
        let place = place_of(&span.start);
        self.tree.count(place, event.is_node(), tag_bytes(&event))?;
        match event {
            Event::Scalar(text, style, _, tag) => {
                // The parser gives a missing value as `~`; its span then holds no such character.
                let is_missing = text == "~"
                    && matches!(style, granit_parser::ScalarStyle::Plain)
                    && !span
                        .slice(self.text)
                        .is_some_and(|source| source.contains('~'));
                let text = if is_missing {
                    String::new()
                } else {
                    text.into_owned()
                };
                let value = Value::Scalar {
                    text,
                    style: style_of(style),
                };
                self.tree.put(node(place, tag.as_deref(), value));
            }
            Event::SequenceStart(_, _, tag) => {
                let value = Value::Sequence(Vec::new());
                self.tree.open(node(place, tag.as_deref(), value))?;
            }
            Event::MappingStart(_, _, tag) => {
                let value = Value::Mapping(Vec::new());
                self.tree.open(node(place, tag.as_deref(), value))?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.tree.close(),
            Event::Anchor(id, name) => {
                if let Some(node) = self.tree.newest() {
                    node.anchor = Some(name.clone().into_owned());
                }
                self.anchors.insert(id, name.into_owned());
            }
            Event::Alias(id) => {
                let name = self.anchors.get(&id).cloned().unwrap_or_default();
                self.tree.put_alias(place, name)?;
            }
            Event::UnresolvedAlias(name) => {
                return Err(YamlError::UnknownAnchor {
                    place,
                    name: name.into_owned(),
                });
            }
            // Streams and documents have no content of their own; comments are not asked for.
            _ => {}
        }
        Ok(())
    }
}

fn node(place: Place, tag: Option<&granit_parser::Tag>, value: Value) -> Node {
    Node {
        place,
        tag: tag.map(tag_text),
        anchor: None,
        value,
    }
}

fn style_of(style: granit_parser::ScalarStyle) -> ScalarStyle {
    match style {
        granit_parser::ScalarStyle::Plain => ScalarStyle::Plain,
        granit_parser::ScalarStyle::SingleQuoted => ScalarStyle::SingleQuoted,
        granit_parser::ScalarStyle::DoubleQuoted => ScalarStyle::DoubleQuoted,
        granit_parser::ScalarStyle::Literal => ScalarStyle::Literal,
        granit_parser::ScalarStyle::Folded => ScalarStyle::Folded,
    }
}

fn tag_bytes(event: &Event<'_>) -> usize {
    match event {
        Event::Scalar(.., tag) | Event::SequenceStart(.., tag) | Event::MappingStart(.., tag) => {
            tag.as_deref().map_or(0, |tag| {
                let (handle, suffix) = tag.parts();
                handle.len().saturating_add(suffix.len())
            })
        }
        _ => 0,
    }
}

fn tag_text(tag: &granit_parser::Tag) -> String {
    let (handle, suffix) = tag.parts();
    format!("{handle}{suffix}")
}

/// The first key of `mapping` that stands there twice: the earlier one and the repetition.
///
/// Keys are compared as written after quotes and escapes, so `1` and `"1"` are the same key;
/// `None` also for what is no mapping.
pub fn duplicate_key(mapping: &Node) -> Option<(&Node, &Node)> {
    let mut seen: BTreeMap<String, &Node> = BTreeMap::new();
    for (key, _) in mapping.as_mapping()? {
        let mut shape = String::new();
        write_shape(key, &mut shape);
        if let Some(earlier) = seen.insert(shape, key) {
            return Some((earlier, key));
        }
    }
    None
}

/// Writes a text that equal nodes share: no places, styles or anchors; lengths keep it unambiguous.
fn write_shape(node: &Node, shape: &mut String) {
    match &node.value {
        Value::Scalar { text, .. } => {
            shape.push_str(&format!("s{}:{text}", text.len()));
        }
        Value::Alias(name) => shape.push_str(&format!("a{}:{name}", name.len())),
        Value::Sequence(items) => {
            shape.push('[');
            for item in items {
                write_shape(item, shape);
            }
            shape.push(']');
        }
        Value::Mapping(pairs) => {
            shape.push('{');
            for (key, value) in pairs {
                write_shape(key, shape);
                write_shape(value, shape);
            }
            shape.push('}');
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(text: &str) -> Node {
        let mut documents = parse(text.as_bytes(), &Limits::default()).unwrap();
        assert_eq!(documents.len(), 1, "{documents:?}");
        documents.remove(0)
    }

    fn refused(bytes: &[u8]) -> YamlError {
        parse(bytes, &Limits::default()).unwrap_err()
    }

    fn place(line: u64, column: u64) -> Place {
        Place { line, column }
    }

    #[test]
    fn ok_scalars_keep_text_style_tag_and_place() {
        let root = one(
            "a: 0644\nb: 'yes'\nc: \"x\\ty\"\nd: |\n  two\n  lines\ne: >\n  f\ng: !!str 1\nh: !x &y z\n",
        );
        let told: Vec<_> = root
            .as_mapping()
            .unwrap()
            .iter()
            .map(|(key, value)| match &value.value {
                Value::Scalar { text, style } => (key.as_str().unwrap(), text.as_str(), *style),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            told,
            [
                ("a", "0644", ScalarStyle::Plain),
                ("b", "yes", ScalarStyle::SingleQuoted),
                ("c", "x\ty", ScalarStyle::DoubleQuoted),
                ("d", "two\nlines\n", ScalarStyle::Literal),
                ("e", "f\n", ScalarStyle::Folded),
                ("g", "1", ScalarStyle::Plain),
                ("h", "z", ScalarStyle::Plain),
            ]
        );
        assert_eq!(
            root.get("g").unwrap().tag.as_deref(),
            Some("tag:yaml.org,2002:str")
        );
        assert_eq!(root.get("h").unwrap().tag.as_deref(), Some("!x"));
        assert_eq!(root.get("h").unwrap().anchor.as_deref(), Some("y"));
        assert_eq!(root.get("b").unwrap().place, place(2, 4));
        assert_eq!(root.place, place(1, 1));
        assert!(root.get("missing").is_none());
    }

    #[test]
    fn ok_columns_count_characters() {
        let root = one("größe: [ä, b]");
        assert_eq!(root.as_mapping().unwrap()[0].1.place, place(1, 8));
        assert_eq!(
            root.as_mapping().unwrap()[0].1.as_sequence().unwrap()[1].place,
            place(1, 12)
        );
    }

    #[test]
    fn ok_a_missing_value_is_empty_and_a_tilde_is_a_tilde() {
        let root =
            one("a:\nb: ~\nc: &x\nd: \"~\"\ne: [~, x]\n? f\ng: !!null\nh: &~z\ni: {j, k: }\n");
        let text = |key: &str| root.get(key).unwrap().as_str().unwrap();
        assert_eq!(
            (text("a"), text("b"), text("c"), text("d")),
            ("", "~", "", "~")
        );
        assert_eq!(
            root.get("e").unwrap().as_sequence().unwrap()[0].as_str(),
            Some("~")
        );
        assert_eq!((text("f"), text("g"), text("h")), ("", "", ""));
        assert_eq!(root.get("i").unwrap().get("j").unwrap().as_str(), Some(""));
        assert_eq!(root.get("i").unwrap().get("k").unwrap().as_str(), Some(""));
        assert!(root.get("a").unwrap().is_null() && root.get("b").unwrap().is_null());
        assert!(!root.get("d").unwrap().is_null());
        assert_eq!(root.get("c").unwrap().anchor.as_deref(), Some("x"));
    }

    #[test]
    fn ok_kinds_have_names() {
        let root = one("[x, [], {}, , ~, &a b, *a]".replace(", ,", ",").as_str());
        let kinds: Vec<_> = root
            .as_sequence()
            .unwrap()
            .iter()
            .map(Node::kind_name)
            .collect();
        assert_eq!(
            kinds,
            ["text", "a list", "a mapping", "nothing", "text", "an alias"]
        );
    }

    #[test]
    fn ok_documents_are_counted() {
        assert_eq!(parse(b"", &Limits::default()).unwrap().len(), 0);
        assert_eq!(
            parse(b"# only a comment\n", &Limits::default())
                .unwrap()
                .len(),
            0
        );
        assert_eq!(
            parse(b"--- a\n--- b\n...\n", &Limits::default())
                .unwrap()
                .len(),
            2
        );
    }

    #[test]
    fn ok_anchors_stand_on_their_nodes() {
        let root = one("&root\n&key a: &value {x: 1}\nb: &list [&item y]\n");
        let pairs = root.as_mapping().unwrap();
        assert_eq!(pairs[0].0.anchor.as_deref(), Some("key"));
        assert_eq!(pairs[0].1.anchor.as_deref(), Some("value"));
        assert_eq!(pairs[1].1.anchor.as_deref(), Some("list"));
        assert_eq!(
            pairs[1].1.as_sequence().unwrap()[0].anchor.as_deref(),
            Some("item")
        );
        assert_eq!(root.anchor.as_deref(), Some("root"));
    }

    #[test]
    fn ok_a_byte_order_mark_takes_no_column() {
        let root = one("\u{FEFF}a: b");
        assert_eq!(root.get("a").unwrap().place, place(1, 4));
        assert_eq!(root.place, place(1, 1));
    }

    #[test]
    fn err_encodings_have_their_own_errors() {
        for bytes in [
            &b"\xFF\xFEa\0"[..],
            b"\xFE\xFF\0a",
            b"a\0:\0",
            b"\0a\0:",
            b"\0\0\0a",
            b"\0\0\xFE\xFFaaaa",
        ] {
            assert_eq!(refused(bytes), YamlError::Utf16, "{bytes:?}");
        }
        assert_eq!(
            refused(b"a: b\r\nc: \xC3\xA4\xFF"),
            YamlError::InvalidUtf8 { place: place(2, 5) }
        );
        assert_eq!(
            refused(b"a: b\n\xE4: \0"),
            YamlError::InvalidUtf8 { place: place(2, 1) }
        );
        assert_eq!(refused(b"abc: \0"), YamlError::Nul { place: place(1, 6) });
        assert_eq!(YamlError::Utf16.place(), None);
    }

    #[test]
    fn err_syntax_has_a_place() {
        let told: Vec<_> = [
            "a: [1, 2",
            "a: b\n  c: d",
            "a: b\n\tc: d",
            "a:\n\tc: d",
            "a: 'x",
            "a: @b",
            "a: b: c",
            "- a\nb: c",
        ]
        .into_iter()
        .map(|text| match refused(text.as_bytes()) {
            YamlError::Syntax { place, reason } => format!("{place} {reason}"),
            other => panic!("{text:?}: {other}"),
        })
        .collect();
        assert_eq!(
            told,
            [
                "1:4 unclosed bracket '['",
                "2:4 mapping values are not allowed in this context",
                "2:1 while scanning a plain scalar, found a tab",
                "2:2 tabs disallowed within this context (block indentation)",
                "1:4 unclosed quote",
                "1:4 unexpected character: `@'",
                "1:5 mapping values are not allowed in this context",
                "2:1 while parsing a block collection, did not find expected '-' indicator",
            ]
        );
        assert_eq!(
            refused(b"a: *b"),
            YamlError::UnknownAnchor {
                place: place(1, 4),
                name: "b".to_owned()
            }
        );
    }

    #[test]
    fn err_each_limit_holds_at_its_value_and_refuses_one_beyond() {
        let limits = Limits {
            bytes_max: 64,
            depth_max: 3,
            events_max: 10,
            aliases_max: 2,
        };
        let read = |text: &str| parse(text.as_bytes(), &limits).map(|_| ());
        assert_eq!(read(&"a".repeat(64)), Ok(()));
        assert_eq!(
            read(&"a".repeat(65)),
            Err(YamlError::TooLarge {
                bytes: 65,
                limit: 64
            })
        );
        assert_eq!(read("[[[]]]"), Ok(()));
        assert_eq!(
            read("[[[[]]]]"),
            Err(YamlError::TooDeep {
                place: place(1, 4),
                limit: 3
            })
        );
        assert_eq!(read("a:\n b:\n  c: d"), Ok(()));
        assert!(matches!(
            read("a:\n b:\n  c:\n   d: e"),
            Err(YamlError::TooDeep { limit: 3, .. })
        ));
        assert_eq!(read("[&a b, *a, *a]"), Ok(()));
        assert_eq!(
            read("[&a b, *a, *a, *a]"),
            Err(YamlError::TooManyAliases {
                place: place(1, 16),
                limit: 2
            })
        );
        assert!(matches!(
            read("[1,2,3,4,5,6,7,8,9,10,11,12]"),
            Err(YamlError::TooManyEvents { limit: 10, .. })
        ));
    }

    #[test]
    fn ok_duplicate_keys_are_found_whatever_their_quotes() {
        let root = one("a: 1\n'a': 2\n");
        let (first, second) = duplicate_key(&root).unwrap();
        assert_eq!((first.place, second.place), (place(1, 1), place(2, 1)));
        assert!(duplicate_key(&one("a: 1\nb: 1\n[a]: 1\n[b]: 2\n")).is_none());
        assert!(duplicate_key(&one("[a, b]: 1\n[a, b]: 2\n")).is_some());
        assert!(duplicate_key(&one("[a, b]: 1\n[ab]: 2\n")).is_none());
        assert!(duplicate_key(&one("[a, a]")).is_none());
    }

    #[test]
    fn err_bombs_are_refused_by_limits() {
        let laughs = {
            let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
            for level in 1..10 {
                let before = format!("*a{}", level - 1);
                text.push_str(&format!(
                    "a{level}: &a{level} [{}]\n",
                    [before.as_str(); 9].join(", ")
                ));
            }
            text
        };
        let nested_keys = (0..2_000)
            .map(|depth| format!("{}a:\n", " ".repeat(depth)))
            .take(600)
            .collect::<String>();
        let bombs: [(&str, String); 15] = [
            ("flow sequences", "[".repeat(200_000)),
            ("flow maps", "{".repeat(200_000)),
            ("flow maps with keys", "{a: ".repeat(60_000)),
            ("flow pairs", "[a: ".repeat(60_000)),
            ("block sequences", "- ".repeat(100_000)),
            ("complex keys", "? ".repeat(100_000)),
            (
                "complex keys closed",
                format!("{}{}", "? ".repeat(30), ": ".repeat(100_000)),
            ),
            ("indented keys", nested_keys),
            ("billion laughs", laughs),
            ("ten megabytes", "a: b\n".repeat(2_000_000)),
            ("many scalars", "- a\n".repeat(60_000)),
            ("anchors", "&a ".repeat(80_000)),
            ("tags", "!a ".repeat(80_000)),
            ("one long key", format!("{}: x", "k".repeat(250_000))),
            ("colons", "a:".repeat(120_000) + " : :"),
        ];
        for (name, text) in bombs {
            let first = parse_first(text.as_bytes(), &Limits::default());
            // Some end the first document where YAML 1.2 sees a mistake.
            let by_end = first.as_ref().is_ok_and(|first| first.rest.is_some());
            assert!(
                first.is_err() || by_end || name == "colons",
                "{name}: {first:?}"
            );
            let outcome = parse(text.as_bytes(), &Limits::default());
            // Refused by a limit, or by the grammar at the first token that is too much.
            let is_bounded = matches!(
                outcome,
                Err(YamlError::TooLarge { .. }
                    | YamlError::TooDeep { .. }
                    | YamlError::TooManyEvents { .. }
                    | YamlError::TooManyAliases { .. })
            );
            let by_grammar = ["anchors", "tags", "one long key", "colons"];
            assert!(
                is_bounded || by_grammar.contains(&name),
                "{name}: {outcome:?}"
            );
            assert!(outcome.is_err() || name == "colons", "{name}");
        }
        // Long but harmless documents.
        for (name, text) in [
            ("one long scalar", format!("a: {}", "x ".repeat(120_000))),
            (
                "one quoted scalar",
                format!("a: \"{}\"", "\\x41".repeat(60_000)),
            ),
            ("comments", "# x\n".repeat(60_000)),
            ("blank lines", "\n".repeat(250_000)),
            ("literal", format!("a: |\n{}", "  x\n".repeat(60_000))),
            ("spaces", " ".repeat(250_000)),
            (
                "19,000 keys",
                (0..9_400).map(|key| format!("k{key}: v\n")).collect(),
            ),
        ] {
            let outcome = parse(text.as_bytes(), &Limits::default());
            assert!(outcome.is_ok(), "{name}: {outcome:?}");
            let first = parse_first(text.as_bytes(), &Limits::default());
            assert!(first.is_ok(), "{name}: {first:?}");
        }
    }

    fn tree() -> impl Strategy<Value = String> {
        let scalar = prop_oneof![
            "[a-z]{1,6}",
            "[0-9.]{1,4}".prop_map(|text| format!("'{text}'"))
        ];
        scalar.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5)
                    .prop_map(|items| format!("[{}]", items.join(", "))),
                proptest::collection::vec(("[a-z]{1,6}", inner), 0..5).prop_map(|pairs| {
                    let pairs: Vec<_> = pairs
                        .iter()
                        .map(|(key, value)| format!("{key}: {value}"))
                        .collect();
                    format!("{{{}}}", pairs.join(", "))
                }),
            ]
        })
    }

    fn written(node: &Node) -> String {
        match &node.value {
            Value::Scalar {
                text,
                style: ScalarStyle::Plain,
            } => text.clone(),
            Value::Scalar { text, .. } => format!("'{text}'"),
            Value::Alias(name) => format!("*{name}"),
            Value::Sequence(items) => format!(
                "[{}]",
                items.iter().map(written).collect::<Vec<_>>().join(", ")
            ),
            Value::Mapping(pairs) => {
                let pairs: Vec<_> = pairs
                    .iter()
                    .map(|(key, value)| format!("{}: {}", written(key), written(value)))
                    .collect();
                format!("{{{}}}", pairs.join(", "))
            }
        }
    }

    proptest! {
        #[test]
        fn ok_trees_come_back_as_written(text in tree()) {
            let root = one(&text);
            prop_assert_eq!(written(&root), text);
            let without_aliases = resolve_aliases(&root, &Limits::default()).unwrap();
            prop_assert_eq!(without_aliases, root);
        }

        #[test]
        fn ok_no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(documents) = parse(&bytes, &Limits::default()) {
                for document in &documents {
                    let _ = resolve_aliases(document, &Limits::default());
                    let _ = duplicate_key(document);
                }
            }
        }

        #[test]
        fn ok_no_yaml_like_text_panics(text in "[-a:&* \n\\[\\]{},?!|>'\"#%~0]{0,120}") {
            if let Ok(documents) = parse(text.as_bytes(), &Limits::default()) {
                for document in &documents {
                    let _ = resolve_aliases(document, &Limits::default());
                    let _ = duplicate_key(document);
                }
            }
        }
    }
}
