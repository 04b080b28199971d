//! The first document of a text, read as libyaml reads it for somebody who asks for no more.
//!
//! Ruby's `YAML.load`, and with it CodeDeploy's agent, reads by libyaml, which is YAML 1.1, and stops at the end of
//! the first document: whatever follows is not even read. The parser here is libyaml itself, carried over line by
//! line; this room owns what keeps it to its limits and away from its gaps.

mod commas;

use libyaml_safer::{Encoding, Error, Event, EventData, Mark, Parser};

use super::tree::Tree;
use super::{Limits, Node, Place, ScalarStyle, Value, YamlError, decode, place_after};

/// Line breaks of YAML 1.1.
const BREAKS: [char; 5] = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'];

/// Those, and what else stands between words.
const BLANKS: [char; 7] = [' ', '\t', '\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'];

/// Lines with a directive (`%TAG`): the parser compares each with all before it.
const DIRECTIVES_MAX: usize = 1_000;

const BYTE_ORDER_MARK: &str = "\u{FEFF}";

/// What a reader of the first document sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct First {
    /// The document's node; `None` where there is nothing but comments.
    pub node: Option<Node>,
    /// Where the text goes on after it, with a second document or with what is no YAML at all.
    pub rest: Option<Place>,
    /// Whether a byte order mark stands before it. It takes a column: a first key on the same
    /// line is indented, and ends the document with it.
    pub has_mark: bool,
    /// Whether that did happen.
    pub is_cut_by_mark: bool,
}

/// Reads the first document of a text.
///
/// # Errors
/// As [`super::parse`], for the first document alone and by the rules of YAML 1.1; and control characters.
pub fn parse_first(bytes: &[u8], limits: &Limits) -> Result<First, YamlError> {
    let body = decode(bytes, limits)?;
    let has_mark = bytes.starts_with(BYTE_ORDER_MARK.as_bytes());
    refuse_control(body)?;
    let is_directive = |line: &&str| line.starts_with('%');
    if body.split(BREAKS).filter(is_directive).count() > DIRECTIVES_MAX {
        return Err(YamlError::TooManyEvents {
            place: Place { line: 1, column: 1 },
            limit: DIRECTIVES_MAX,
        });
    }
    let mark = if has_mark { BYTE_ORDER_MARK } else { "" };
    // The parser panics at the end of the text inside of a scalar's line.
    let is_closed = body.ends_with(BREAKS);
    let end = if is_closed { "" } else { "\n" };
    let text = commas::apart_from_tags(format!("{mark}{body}{end}"), limits);
    let (node, rest) = read(&text, is_closed, limits)?;
    let is_on_first_line = node.as_ref().is_some_and(|node| node.place.line == 1);
    let is_indented = is_on_first_line && !body.trim_start().starts_with(['{', '[']);
    Ok(First {
        is_cut_by_mark: has_mark && is_indented && rest.is_some(),
        node,
        rest,
        has_mark,
    })
}

fn parser(text: &str) -> Parser<&[u8]> {
    let mut parser = Parser::new();
    parser.set_input(text.as_bytes());
    // As Ruby says it of its texts; else the parser would take the byte order mark away.
    parser.set_encoding(Encoding::Utf8);
    parser
}

fn read(
    text: &str,
    is_closed: bool,
    limits: &Limits,
) -> Result<(Option<Node>, Option<Place>), YamlError> {
    let mut parser = parser(text);
    let mut tree = Tree::new(limits);
    loop {
        let event = parser.parse().map_err(|error| YamlError::Syntax {
            place: place_of_error(&error),
            reason: reason_of(&error),
        })?;
        count(&mut tree, &event)?;
        match event.data {
            EventData::StreamEnd => return Ok((None, None)),
            EventData::DocumentEnd { .. } => break,
            _ => take(&mut tree, event, text, is_closed)?,
        }
    }
    let rest = match parser.parse() {
        Ok(event) if matches!(event.data, EventData::StreamEnd) => None,
        Ok(event) => Some(place_of(event.start_mark)),
        Err(error) => Some(place_of_error(&error)),
    };
    Ok((tree.into_documents().into_iter().next(), rest))
}

fn count(tree: &mut Tree<'_>, event: &Event) -> Result<(), YamlError> {
    let (is_node, tag) = match &event.data {
        EventData::Alias { .. } => (true, &None),
        EventData::Scalar { tag, .. }
        | EventData::SequenceStart { tag, .. }
        | EventData::MappingStart { tag, .. } => (true, tag),
        _ => (false, &None),
    };
    let tag_bytes = tag.as_ref().map_or(0, String::len);
    tree.count(place_of(event.start_mark), is_node, tag_bytes)
}

fn take(tree: &mut Tree<'_>, event: Event, text: &str, is_closed: bool) -> Result<(), YamlError> {
    let place = place_of(event.start_mark);
    let node = |tag, anchor, value| Node {
        place,
        tag,
        anchor,
        value,
    };
    match event.data {
        EventData::Scalar {
            anchor,
            tag,
            mut value,
            style,
            ..
        } => {
            let style = style_of(style);
            let is_block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
            if is_block && !is_closed && keeps_added_break(text, event.start_mark, event.end_mark) {
                value.pop();
            }
            let value = Value::Scalar { text: value, style };
            tree.put(node(tag, anchor, value));
        }
        EventData::SequenceStart { anchor, tag, .. } => {
            tree.open(node(tag, anchor, Value::Sequence(Vec::new())))?;
        }
        EventData::MappingStart { anchor, tag, .. } => {
            tree.open(node(tag, anchor, Value::Mapping(Vec::new())))?;
        }
        EventData::SequenceEnd | EventData::MappingEnd => tree.close(),
        EventData::Alias { anchor } => tree.put_alias(place, anchor)?,
        EventData::StreamStart { .. }
        | EventData::StreamEnd
        | EventData::DocumentStart { .. }
        | EventData::DocumentEnd { .. } => {}
    }
    Ok(())
}

/// Whether the line break that was added at the text's end is one of a block scalar's value.
fn keeps_added_break(text: &str, start: Mark, end: Mark) -> bool {
    // One scalar ends there at most: the text's last line, however long, is looked at once.
    if offset_of(end) < text.len() {
        return false;
    }
    let mut header = text.get(offset_of(start)..).unwrap_or_default();
    while !header.starts_with(['|', '>']) {
        // A tag or an anchor, a comment.
        let ends: &[char] = if header.starts_with('#') {
            &BREAKS
        } else {
            &BLANKS
        };
        let Some((_, rest)) = header.split_once(ends) else {
            return false;
        };
        header = rest.trim_start_matches(BLANKS);
    }
    let header = header.split(BLANKS).next().unwrap_or_default();
    let last_line = text.strip_suffix('\n').unwrap_or(text);
    let last_line = last_line.rsplit(BREAKS).next().unwrap_or_default();
    !header.contains('-') && (header.contains('+') || !last_line.trim().is_empty())
}

fn style_of(style: libyaml_safer::ScalarStyle) -> ScalarStyle {
    match style {
        libyaml_safer::ScalarStyle::SingleQuoted => ScalarStyle::SingleQuoted,
        libyaml_safer::ScalarStyle::DoubleQuoted => ScalarStyle::DoubleQuoted,
        libyaml_safer::ScalarStyle::Literal => ScalarStyle::Literal,
        libyaml_safer::ScalarStyle::Folded => ScalarStyle::Folded,
        _ => ScalarStyle::Plain,
    }
}

/// libyaml's words, which are those that Ruby shows.
fn reason_of(error: &Error) -> String {
    match error.context() {
        Some(context) => format!("{} {context}", error.problem()),
        None => error.problem().to_owned(),
    }
}

fn place_of_error(error: &Error) -> Place {
    error
        .problem_mark()
        .map_or(Place { line: 1, column: 1 }, place_of)
}

fn offset_of(mark: Mark) -> usize {
    usize::try_from(mark.index).unwrap_or(usize::MAX)
}

fn place_of(mark: Mark) -> Place {
    // The parser counts both from 0.
    Place {
        line: mark.line.saturating_add(1),
        column: mark.column.saturating_add(1),
    }
}

/// Refuses what libyaml's reader does: control characters but tab and the line breaks, and U+FFFE, U+FFFF.
fn refuse_control(text: &str) -> Result<(), YamlError> {
    let is_refused = |char: char| match char {
        '\t' | '\n' | '\r' | '\u{85}' => false,
        '\u{FFFE}' | '\u{FFFF}' => true,
        char => char.is_control(),
    };
    match text.char_indices().find(|(_, char)| is_refused(*char)) {
        None => Ok(()),
        Some((at, char)) => Err(YamlError::Control {
            place: place_after(text.get(..at).unwrap_or_default()),
            code: u32::from(char),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(text: &str) -> Result<First, YamlError> {
        parse_first(text.as_bytes(), &Limits::default())
    }

    fn get(text: &str, key: &str) -> String {
        let node = first(text).unwrap().node.unwrap();
        node.get(key).unwrap().as_str().unwrap().to_owned()
    }

    #[test]
    fn ok_what_follows_the_first_document_is_told_and_not_read() {
        for (text, line) in [
            ("a: b\n---\n: : [", 2),
            ("a: b\n...\n@", 3),
            ("{\"a\": \"b\"}}\n", 1),
            ("{\"a\": \"b\"},\n", 1),
            ("{a: b}\n]\n", 2),
            (" a: b\nc: d\n", 2),
        ] {
            let read = first(text).unwrap();
            assert_eq!(read.rest.unwrap().line, line, "{text:?}");
            assert_eq!(get(text, "a"), "b", "{text:?}");
            assert_eq!(read.node.unwrap().as_mapping().unwrap().len(), 1);
        }
        for text in ["a: b\n", "a: b\n...\n", "---\na: b\n# end\n"] {
            assert_eq!(first(text).unwrap().rest, None, "{text:?}");
        }
        assert_eq!(first("# nothing\n").unwrap().node, None);
    }

    #[test]
    fn err_what_stands_in_the_first_document() {
        for text in ["a: [b\n---\n", "a: b\n]\n", "{a: b} @\n", "a: b\nc\n---\n"] {
            let error = first(text).unwrap_err();
            assert!(
                matches!(error, YamlError::Syntax { .. }),
                "{text:?}: {error}"
            );
        }
    }

    #[test]
    fn ok_a_byte_order_mark_indents_its_line() {
        let indented = first("\u{feff}a: b\nc: d\n").unwrap();
        assert!(indented.has_mark && indented.rest.is_some() && indented.is_cut_by_mark);
        for text in [
            "a: b\n---\n",
            "\u{feff}# a comment\na: b\n---\n",
            "\u{feff}{a: b}\nc: d\n",
        ] {
            let read = first(text).unwrap();
            assert!(read.rest.is_some() && !read.is_cut_by_mark, "{text:?}");
        }
        for text in [
            "\u{feff}# a comment\na: b\nc: d\n",
            "\u{feff}\na: b\nc: d\n",
        ] {
            let read = first(text).unwrap();
            assert_eq!((read.has_mark, read.rest), (true, None), "{text:?}");
            assert_eq!(get(text, "c"), "d");
        }
    }

    #[test]
    fn err_control_characters_wherever_they_stand() {
        for (char, is_refused) in [
            ('\u{7}', true),
            ('\u{1b}', true),
            ('\u{7f}', true),
            ('\u{80}', true),
            ('\u{ffff}', true),
            ('\t', false),
            ('\u{a0}', false),
            ('\u{feff}', false),
            ('\u{1f600}', false),
        ] {
            let read = first(&format!("a: b\n# {char}\n"));
            assert_eq!(read.is_err(), is_refused, "{char:?}");
            if let Err(error) = read {
                let place = Place { line: 2, column: 3 };
                let code = u32::from(char);
                assert_eq!(error, YamlError::Control { place, code });
            }
        }
    }

    #[test]
    fn ok_old_line_breaks_break_lines() {
        assert_eq!(get("a: b\u{85}c: d\u{2028}e: f\n", "c"), "d");
    }

    #[test]
    fn err_a_key_over_several_lines() {
        for text in ["{a\n b: c}", "x: {\"a\n b\": {c: d}}", "{a\n b: [c]}"] {
            assert!(first(text).is_err(), "{text:?}");
        }
        for text in ["{? a\n b : c}", "{a\n b}", "{a: b\n c}", "{a:\n b,\n c: d}"] {
            assert!(first(text).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn err_tabs_where_a_key_may_begin() {
        for text in [
            "a: b\n\t\nc: d\n",
            "a: b\n\t# comment\nc: d\n",
            "\t\na: b\n",
            "a: b\n\t",
            "a: \"b\"\n \t\nc: d\n",
            "a:\n  -\tb: c\n",
            "-\t{a: b}\n",
            "- \tb\n",
            "?\ta\n: b\n",
            "a:\n\tb\n",
        ] {
            let error = first(text).unwrap_err();
            let told = error.to_string();
            assert!(
                told.contains("cannot start any token") || told.contains("found a tab character"),
                "{text:?}: {told}"
            );
            let before = text.split_once('\t').unwrap().0;
            let place = error.place().unwrap();
            assert!(place >= place_after(before), "{text:?}: {place}");
        }
    }

    #[test]
    fn ok_tabs_elsewhere() {
        for text in [
            "a:\tb\n",
            "a:\t\n  b\n",
            "a: b\t# comment\n",
            "a: \"b\"\t\n",
            "a: [\n\t\"b\"\n\t]\n",
            "{\n\t\"a\": \"b\"\n}\n",
            "a: b\n \t\nc: d\n",
            "a: |\n  b\n  \tc\n",
            "a: b\n...\n\t\n",
        ] {
            assert!(first(text).is_ok(), "{text:?}: {:?}", first(text));
        }
    }

    #[test]
    fn err_directives_and_anchors_of_no_yaml_1_1() {
        for text in [
            "%FOO bar\n---\na: b\n",
            "%YAML 1.3\n---\na: b\n",
            "%YAML 1.0\n---\na: b\n",
            "a: &b.c d\n",
            "a: &\u{e9} d\n",
        ] {
            let error = first(text).unwrap_err();
            assert!(
                matches!(error, YamlError::Syntax { .. }),
                "{text:?}: {error}"
            );
        }
        for text in [
            "%YAML 1.1\n---\na: b\n",
            "%YAML 1.2\n---\na: b\n",
            "a: &b_-1 b\n",
        ] {
            assert_eq!(get(text, "a"), "b", "{text:?}");
        }
        let many = "%TAG !a! b\n".repeat(DIRECTIVES_MAX + 1);
        assert!(matches!(first(&many), Err(YamlError::TooManyEvents { .. })));
    }

    #[test]
    fn ok_a_comment_needs_no_space_after_quotes_and_brackets() {
        assert_eq!(get("a: \"b\"#c\n", "a"), "b");
        assert_eq!(get("{a: b}#c\n", "a"), "b");
        assert_eq!(get("a: b#c\n", "a"), "b#c");
    }

    #[test]
    fn ok_a_text_may_end_without_a_line_break() {
        for (text, value) in [
            ("a: |\n  b", "b"),
            ("a: |\n  b\n", "b\n"),
            ("a: |-\n  b", "b"),
            ("a: |+\n  b", "b"),
            ("a: |\n  b\n ", "b\n"),
            ("a: !t &n # c\n  >\n  b", "b"),
            ("a: b", "b"),
        ] {
            assert_eq!(get(text, "a"), value, "{text:?}");
        }
        assert!(first("a: \"\\").is_err());
    }

    #[test]
    fn ok_commas_after_tags() {
        let read = first("a: [!b,c, '!d,e', !<f>,g]\n# !h,\ni: j!,k\nl: !m n!,\n").unwrap();
        let node = read.node.unwrap();
        let list = node.get("a").unwrap().as_sequence().unwrap();
        let told: Vec<_> = list
            .iter()
            .map(|item| (item.tag.as_deref(), item.as_str().unwrap()))
            .collect();
        assert_eq!(
            told,
            [
                (Some("!b"), ""),
                (None, "c"),
                (None, "!d,e"),
                (Some("f"), ""),
                (None, "g")
            ]
        );
        assert_eq!(node.get("i").unwrap().as_str(), Some("j!,k"));
        assert_eq!(node.get("l").unwrap().as_str(), Some("n!,"));
        for text in ["!a,", "a: !b,c\n", "- !<a>,\n"] {
            assert!(first(text).is_err(), "{text:?}");
        }
        // Looked at while the parser still asks whether all of that is a key.
        assert!(first("{a: b}\n[!c,d]\n").unwrap().rest.is_some());
        assert!(first("a\n---\n[!c,d]\n").unwrap().rest.is_some());
    }

    #[test]
    fn regression_lines_in_scalars_that_begin_as_directives_do() {
        for (text, tag) in [
            ("files: [\"x\n%\", !b,c]", "!b"),
            ("files: [x\n%y, !b,c]", "!b"),
            (
                "%TAG !a! !b,\n# !c,\n\n  # !d,\n---\nfiles: ['x\n%', !a!t,c]",
                "!b,t",
            ),
        ] {
            let node = first(text).unwrap().node.unwrap();
            let items = node.get("files").unwrap().as_sequence().unwrap();
            assert_eq!(items.len(), 3, "{text:?}");
            assert_eq!(items[1].tag.as_deref(), Some(tag), "{text:?}");
        }
        for text in [
            "\u{feff}%TAG !a! !b,\n[!b,c]",
            "---\n%TAG !a! !b,\n[!b,c]",
            "a\n...\n%TAG !a! !b,\n[!b,c]",
            "a\n...\n%TAG !a! !b,\n---\n[!b,c]",
            "\t\n%[!b,c]",
        ] {
            // Read or refused.
            let _ = first(text);
        }
    }

    #[test]
    fn regression_brackets_after_a_tag_and_a_comma_are_not_counted_one_by_one() {
        let limits = Limits {
            bytes_max: 1 << 20,
            ..Limits::default()
        };
        for open in ["[", "{? ", "[[],"] {
            let text = format!("[!a,{}", open.repeat(150_000));
            let refused = parse_first(text.as_bytes(), &limits);
            assert!(
                matches!(refused, Err(YamlError::TooDeep { limit: 32, .. })),
                "{open}: {refused:?}"
            );
        }
        let many = format!("[!a,{}]", "b,".repeat(limits.events_max));
        let refused = parse_first(many.as_bytes(), &limits);
        assert!(matches!(refused, Err(YamlError::TooManyEvents { .. })));
    }

    #[test]
    fn regression_tags_are_counted_with_their_prefixes() {
        let prefix = "p".repeat(100_000);
        for (items, has_room) in [(20, true), (21, false), (9_000, false)] {
            for item in ["- !a!x", "- [!a!x, b]", "- !a!x {}"] {
                let items = format!("{item}\n").repeat(items);
                let text = format!("%TAG !a! {prefix}\n---\n{items}");
                match first(&text) {
                    Ok(_) => assert!(has_room, "{item}"),
                    Err(error) => {
                        let limit = 8 * Limits::default().bytes_max;
                        assert!(
                            matches!(error, YamlError::TagsTooLarge { limit: told, .. } if told == limit)
                                && !has_room,
                            "{item}: {error}"
                        );
                    }
                }
            }
        }
        // The shortest that everybody has.
        let text = format!("[{}]", "!!a,".repeat(9_900));
        assert!(first(&text).is_ok(), "{:?}", first(&text));
    }

    #[test]
    fn regression_a_long_last_line_is_not_looked_at_for_each_block_scalar() {
        let scalars = "- |\n x\n".repeat(9_000);
        let text = format!("{scalars}# {}", "x".repeat(190_000));
        let started = std::time::Instant::now();
        assert!(first(&text).is_ok());
        assert!(started.elapsed() < std::time::Duration::from_secs(5));
    }

    proptest::proptest! {
        #[test]
        fn ok_no_text_panics(text in "[-a:&* \t\n\\[\\]{},?!<|>'\"#%~0\\\\.]{0,60}") {
            let _ = first(&text);
        }
    }
}
