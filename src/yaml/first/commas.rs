//! Commas that follow a tag at once.
//!
//! The parser panics at one in brackets, as in `[!a,b]`, where libyaml goes on as if a space stood between them: here
//! the space is put there. In scalars, comments and outside of brackets nothing is touched, as far as the
//! document can be read at all.

use std::ops::Range;

use libyaml_safer::{EventData, MappingStyle, SequenceStyle};

use super::{BREAKS, BYTE_ORDER_MARK, Limits, Tree, count, offset_of, parser};

/// What a tag takes besides letters and digits.
const TAG_MARKS: &str = "_-;/?:@&=+$.%!~*'()";

/// The text with a space between a tag and a comma.
pub(super) fn apart_from_tags(text: String, limits: &Limits) -> String {
    let commas = commas_after_tags(&text);
    if commas.is_empty() {
        return text;
    }
    let all = spaced(&text, &commas);
    let Some(outline) = outline(&all, limits) else {
        return all;
    };
    let needed: Vec<usize> = (0_usize..)
        .zip(commas)
        .filter(|(before, comma)| outline.needs_space(comma.saturating_add(*before)))
        .map(|(_, comma)| comma)
        .collect();
    spaced(&text, &needed)
}

/// Where commas follow what may be a tag: inside brackets, the parser panics there.
fn commas_after_tags(text: &str) -> Vec<usize> {
    let mut commas = Vec::new();
    // `!<`, and whether all since a `!` may belong to a tag.
    let (mut is_verbatim, mut may_be_tag) = (false, false);
    let mut is_in_word = false;
    let head = head_bytes(text);
    let body = text.get(head..).unwrap_or_default();
    for (at, char) in body.char_indices() {
        match char {
            ',' if may_be_tag => {
                commas.push(head.saturating_add(at));
                may_be_tag = false;
            }
            // Within a word it is a character like any other.
            '!' => may_be_tag |= !is_in_word,
            '<' => is_verbatim |= std::mem::take(&mut may_be_tag),
            '>' => may_be_tag = is_verbatim,
            _ if char.is_whitespace() => (is_verbatim, may_be_tag) = (false, false),
            _ => may_be_tag &= char.is_ascii_alphanumeric() || TAG_MARKS.contains(char),
        }
        is_in_word = char.is_alphanumeric();
    }
    commas
}

/// Bytes of the lines before any content: directives, comments, blank ones.
///
/// A `%` that begins a line further down may be text just as well, of a scalar that runs over lines: what follows it
/// is looked at, be it a directive of a second document, which nobody reads.
fn head_bytes(text: &str) -> usize {
    let is_head = |line: &&str| {
        let words = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        let words = words.trim_start_matches(' ');
        line.starts_with('%') || words.starts_with('#') || words.starts_with(BREAKS)
    };
    let lines = text.split_inclusive(BREAKS);
    lines.take_while(is_head).map(str::len).sum()
}

/// The text with a space before each of these bytes.
fn spaced(text: &str, before: &[usize]) -> String {
    let mut spaced = String::with_capacity(text.len().saturating_add(before.len()));
    let mut done = 0;
    for at in before {
        spaced.push_str(text.get(done..*at).unwrap_or_default());
        spaced.push(' ');
        done = *at;
    }
    spaced.push_str(text.get(done..).unwrap_or_default());
    spaced
}

/// Where things stand in the first document, in bytes.
#[derive(Default)]
struct Outline {
    scalars: Vec<Range<usize>>,
    /// Collections in brackets, without those inside of them.
    brackets: Vec<Range<usize>>,
    end: usize,
    /// The first bracket after it. The parser looks beyond the end where brackets make what may be a key.
    bracket_beyond: Option<usize>,
}

impl Outline {
    /// Whether a comma at this place may follow a tag in brackets.
    fn needs_space(&self, comma: usize) -> bool {
        let holds = |spans: &[Range<usize>]| {
            let next = spans.partition_point(|span| span.end <= comma);
            spans.get(next).is_some_and(|span| span.contains(&comma))
        };
        if comma >= self.end {
            self.bracket_beyond.is_some_and(|bracket| bracket < comma)
        } else {
            holds(&self.brackets) && !holds(&self.scalars)
        }
    }
}

/// The outline of a first document that can be read.
///
/// Of one beyond the limits there is none, and reading answers which. Each token costs the parser a look at every
/// bracket that is open: depth bounds them, and it reads no more than 1,024 bytes ahead of its events.
fn outline(text: &str, limits: &Limits) -> Option<Outline> {
    let mut outline = Outline::default();
    let mut parser = parser(text);
    // Counts as reading does, and stays empty.
    let mut tree = Tree::new(limits);
    // The collections that are open, and from which one on they are in brackets.
    let (mut depth, mut brackets) = (0_usize, None);
    loop {
        let event = parser.parse().ok()?;
        count(&mut tree, &event).ok()?;
        let [start, end] = [event.start_mark, event.end_mark].map(offset_of);
        let in_brackets = match &event.data {
            EventData::SequenceStart { style, .. } => *style == SequenceStyle::Flow,
            EventData::MappingStart { style, .. } => *style == MappingStyle::Flow,
            _ => false,
        };
        match event.data {
            EventData::StreamEnd | EventData::DocumentEnd { .. } => {
                let beyond = text.get(outline.end..).unwrap_or_default();
                let bracket = beyond.find(['[', '{']);
                outline.bracket_beyond = bracket.map(|at| outline.end.saturating_add(at));
                return Some(outline);
            }
            EventData::Scalar { .. } => outline.scalars.push(start..end),
            EventData::SequenceStart { .. } | EventData::MappingStart { .. } => {
                if depth >= limits.depth_max {
                    return None;
                }
                if in_brackets && brackets.is_none() {
                    brackets = Some((depth, start));
                }
                depth = depth.saturating_add(1);
            }
            EventData::SequenceEnd | EventData::MappingEnd => {
                depth = depth.saturating_sub(1);
                if let Some((_, start)) = brackets.take_if(|(outermost, _)| *outermost == depth) {
                    outline.brackets.push(start..end);
                }
            }
            _ => {}
        }
        outline.end = outline.end.max(end);
    }
}
