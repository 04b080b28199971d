//! The first document of a text, read as libyaml reads it for somebody who asks for no more.
//!
//! Owns where libyaml, which is YAML 1.1, and its users differ from YAML 1.2. Ruby's `YAML.load`, and with it
//! CodeDeploy's agent, stops at the end of the first document: whatever follows is not even read.

use std::borrow::Cow;

use granit_parser::{ErrorKind, Event, Parser};

use super::{
    Builder, Limits, Node, Place, YamlError, decode, parser_options, place_after, place_of,
};

/// Line breaks of YAML 1.1 that are characters like any other in 1.2.
const OLD_BREAKS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];

/// What a reader of the first document sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct First {
    /// The document's node; `None` where there is nothing but comments.
    pub node: Option<Node>,
    /// Where the text goes on after it, with a second document or with what is no YAML at all.
    pub rest: Option<Place>,
    /// Whether a byte order mark stands before it. It takes a column, as in libyaml: a first key on the same
    /// line is indented, and ends the document with it.
    pub has_mark: bool,
}

/// Reads the first document of a text.
///
/// # Errors
/// As [`super::parse`], for the first document alone; and control characters, and keys over several lines.
pub fn parse_first(bytes: &[u8], limits: &Limits) -> Result<First, YamlError> {
    let text = decode(bytes, limits)?;
    let has_mark = bytes.starts_with("\u{FEFF}".as_bytes());
    refuse_control(text)?;
    let text: Cow<'_, str> = if has_mark || text.contains(OLD_BREAKS) {
        let mark = has_mark.then_some(' ').into_iter();
        let old_break = |char| {
            if OLD_BREAKS.contains(&char) {
                '\n'
            } else {
                char
            }
        };
        Cow::Owned(mark.chain(text.chars().map(old_break)).collect())
    } else {
        Cow::Borrowed(text)
    };
    let (node, rest) = read(&text, limits)?;
    Ok(First {
        node,
        rest,
        has_mark,
    })
}

fn read(text: &str, limits: &Limits) -> Result<(Option<Node>, Option<Place>), YamlError> {
    let mut options = parser_options(limits);
    options.bom_inside_document_as_content = true;
    options.block_scalar_eof_without_line_feed = true;
    let mut builder = Builder::new(text, limits);
    builder.keys_on_one_line = true;
    let mut has_ended = false;
    let mut rest = None;
    for next in Parser::new_from_str_with_options(text, options) {
        match next {
            Ok((Event::DocumentStart(..), span)) if has_ended => {
                rest = Some(place_of(&span.start));
                break;
            }
            Ok(_) if has_ended => {}
            Ok((event, span)) => {
                has_ended = matches!(event, Event::DocumentEnd);
                builder.take(event, &span)?;
            }
            Err(error) if has_ended || (builder.has_one_whole() && ends_before(error.kind())) => {
                rest = Some(place_of(error.marker()));
                break;
            }
            Err(error) => {
                // A bracket too many behind a document in brackets: the parser meets it while it still looks
                // whether all of that is a key.
                let end = error.marker().byte_offset();
                let before = end.and_then(|end| text.get(..end));
                return match before.filter(|before| before.trim_start().starts_with(['{', '['])) {
                    Some(before)
                        if matches!(error.kind(), ErrorKind::MisplacedFlowCollectionEnd) =>
                    {
                        let (node, _) = read(before, limits)?;
                        Ok((node, Some(place_of(error.marker()))))
                    }
                    _ => Err(builder.scan_error(&error)),
                };
            }
        }
    }
    Ok((builder.documents.into_iter().next(), rest))
}

impl Builder<'_, '_> {
    fn has_one_whole(&self) -> bool {
        self.open.is_empty() && self.documents.len() == 1
    }
}

/// Faults of what follows a whole node that libyaml meets only after it has ended the document.
fn ends_before(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ExpectedDocumentStart
            | ErrorKind::MissingDocumentEndBeforeDirective
            | ErrorKind::MisplacedFlowCollectionEnd
    )
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
        assert!(indented.has_mark && indented.rest.is_some());
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
            let error = first(text).unwrap_err();
            assert!(
                error.to_string().contains("several lines"),
                "{text:?}: {error}"
            );
        }
        for text in ["{? a\n b : c}", "{a\n b}", "{a: b\n c}", "{a:\n b,\n c: d}"] {
            assert!(first(text).is_ok(), "{text:?}");
        }
    }
}
