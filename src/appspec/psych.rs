//! A YAML tree as Ruby's reader gives it to the agent: `YAML.load` of Psych 4, which is `safe_load`.
//!
//! Owns YAML 1.1's implicit types as Psych scans them (`0644` is 420, `1:30` is a number, `yes` is
//! true), and what `safe_load` refuses (aliases, dates, Ruby objects). Source: `scalar_scanner.rb` and
//! `visitors/to_ruby.rb` of ruby/psych. Knows nothing of AppSpecs.

use std::collections::HashMap;

use crate::yaml::{Node, Place, ScalarStyle, Value as Yaml};

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Value {
    /// Where its content begins.
    pub place: Place,
    /// What Ruby makes of it.
    pub ruby: Ruby,
}

/// Ruby's types, as far as `safe_load` makes them.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ruby {
    /// `nil`.
    Nil,
    /// `true` and `false`.
    Bool(bool),
    /// An Integer, and the text that it was read from.
    Int(i128, String),
    /// A Float, and the text that it was read from.
    Float(f64, String),
    /// A String.
    Text(String),
    /// A Symbol (`:name`), which `YAML.load` permits.
    Symbol(String),
    /// An Array.
    List(Vec<Value>),
    /// A Hash, its keys in the order of their first mention.
    Map(Vec<(Value, Value)>),
}

/// What `safe_load` refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refused {
    /// `*name`.
    Alias(Place, String),
    /// A date or time without quotes.
    Date(Place, String),
    /// A tag that asks for a Ruby object.
    Tag(Place, String),
}

/// A key that stands twice in one mapping: the last value counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DuplicateKey {
    /// The later one.
    pub place: Place,
    /// Its text.
    pub key: String,
    /// The line of the earlier one.
    pub first_line: u64,
}

/// Gives a node Ruby's types; duplicate keys are reported, not refused.
pub(super) fn to_ruby(node: &Node, duplicates: &mut Vec<DuplicateKey>) -> Result<Value, Refused> {
    let place = node.place;
    let tag = node.tag.as_deref();
    let ruby = match &node.value {
        Yaml::Alias(name) => return Err(Refused::Alias(place, name.clone())),
        Yaml::Scalar { text, style } => scalar(text, *style, tag, place)?,
        Yaml::Sequence(items) => {
            if tag.is_some_and(|tag| is_object_tag(tag) || is_ordered_map(tag)) {
                return Err(refused_tag(tag, place));
            }
            let items: Result<Vec<_>, _> =
                items.iter().map(|item| to_ruby(item, duplicates)).collect();
            Ruby::List(items?)
        }
        Yaml::Mapping(pairs) => {
            if tag.is_some_and(|tag| {
                is_object_tag(tag)
                    || is_ordered_map(tag)
                    || matches!(
                        tag,
                        "!set" | "tag:yaml.org,2002:set" | "tag:yaml.org,2002:str"
                    )
                    || tag.starts_with("!str")
            }) {
                return Err(refused_tag(tag, place));
            }
            Ruby::Map(mapping(pairs, duplicates)?)
        }
    };
    Ok(Value { place, ruby })
}

/// Tags for which Psych asks the class loader.
fn is_object_tag(tag: &str) -> bool {
    (tag.starts_with("!ruby/") && tag != "!ruby/hash" && tag != "!ruby/object:Hash")
        || tag.starts_with("!map:")
        || tag.starts_with("!seq:")
}

fn is_ordered_map(tag: &str) -> bool {
    matches!(tag, "!omap" | "tag:yaml.org,2002:omap")
}

fn refused_tag(tag: Option<&str>, place: Place) -> Refused {
    Refused::Tag(place, tag.unwrap_or_default().to_owned())
}

fn mapping(
    pairs: &[(Node, Node)],
    duplicates: &mut Vec<DuplicateKey>,
) -> Result<Vec<(Value, Value)>, Refused> {
    let mut map: Vec<(Value, Value)> = Vec::with_capacity(pairs.len());
    let mut texts: HashMap<String, usize> = HashMap::new();
    for (key_node, value_node) in pairs {
        let key = to_ruby(key_node, duplicates)?;
        let value = to_ruby(value_node, duplicates)?;
        let is_merge = matches!(&key.ruby, Ruby::Text(text) if text == "<<")
            && key_node.tag.as_deref() != Some("tag:yaml.org,2002:str");
        if let Some(merged) = is_merge.then(|| merged(&value)).flatten() {
            for (key, value) in merged {
                insert(&mut map, &mut texts, key, value);
            }
            continue;
        }
        let place = key.place;
        if let Some((key, first_line)) = insert(&mut map, &mut texts, key, value) {
            duplicates.push(DuplicateKey {
                place,
                key,
                first_line,
            });
        }
    }
    Ok(map)
}

/// What `<<:` brings in; nothing where its value is no mapping.
fn merged(value: &Value) -> Option<Vec<(Value, Value)>> {
    match &value.ruby {
        Ruby::Map(pairs) => Some(pairs.clone()),
        Ruby::List(items) => {
            let mut all = Vec::new();
            for item in items.iter().rev() {
                let Ruby::Map(pairs) = &item.ruby else {
                    return None;
                };
                all.extend(pairs.iter().cloned());
            }
            Some(all)
        }
        _ => None,
    }
}

/// Sets a key as Ruby's Hash does; answers the key's text and first line where it was there.
fn insert(
    map: &mut Vec<(Value, Value)>,
    texts: &mut HashMap<String, usize>,
    key: Value,
    value: Value,
) -> Option<(String, u64)> {
    let found = match &key.ruby {
        Ruby::Text(text) => texts.get(text).copied(),
        other => map.iter().position(|(known, _)| known.ruby == *other),
    };
    if let Some((known, old)) = found.and_then(|at| map.get_mut(at)) {
        *old = value;
        return Some((key.to_s(), known.place.line));
    }
    if let Ruby::Text(text) = &key.ruby {
        texts.insert(text.clone(), map.len());
    }
    map.push((key, value));
    None
}

fn scalar(
    text: &str,
    style: ScalarStyle,
    tag: Option<&str>,
    place: Place,
) -> Result<Ruby, Refused> {
    let scanned = match tag {
        None if style == ScalarStyle::Plain => scan(text),
        None | Some("!str" | "!ruby/string" | "tag:yaml.org,2002:str") => {
            return Ok(Ruby::Text(text.to_owned()));
        }
        Some("!float" | "tag:yaml.org,2002:float") => match scan(text) {
            Scanned::Is(Ruby::Int(number, written)) => {
                // Only the sign and zero of it matter to a reader of AppSpecs.
                Scanned::Is(Ruby::Float(number as f64, written))
            }
            // Ruby's `Float()` raises for what is no number.
            Scanned::Is(Ruby::Float(..)) | Scanned::Date => scan(text),
            Scanned::Is(_) => return Err(refused_tag(tag, place)),
        },
        Some(tag) if tag.starts_with("!ruby/sym") => {
            return Ok(Ruby::Symbol(text.to_owned()));
        }
        Some(tag)
            if is_object_tag(tag)
                || tag.starts_with("!str:")
                || matches!(tag, "!binary" | "tag:yaml.org,2002:binary") =>
        {
            return Err(refused_tag(Some(tag), place));
        }
        Some(_) => scan(text),
    };
    match scanned {
        Scanned::Is(ruby) => Ok(ruby),
        Scanned::Date => Err(Refused::Date(place, text.to_owned())),
    }
}

#[derive(Debug, PartialEq)]
enum Scanned {
    Is(Ruby),
    /// A Date or Time.
    Date,
}

/// `ScalarScanner#tokenize`, its tests in its order.
fn scan(text: &str) -> Scanned {
    let string = || Scanned::Is(Ruby::Text(text.to_owned()));
    if text.is_empty() {
        return Scanned::Is(Ruby::Nil);
    }
    if starts_like_words(text) || text.contains('\n') {
        return Scanned::Is(match text.to_ascii_lowercase().as_str() {
            "~" | "null" => Ruby::Nil,
            "yes" | "true" | "on" => Ruby::Bool(true),
            "no" | "false" | "off" => Ruby::Bool(false),
            _ => Ruby::Text(text.to_owned()),
        });
    }
    if is_time(text) || is_date(text) {
        return Scanned::Date;
    }
    let number = match text.to_ascii_lowercase().as_str() {
        ".inf" | "+.inf" => Some(Ruby::Float(f64::INFINITY, text.to_owned())),
        "-.inf" => Some(Ruby::Float(f64::NEG_INFINITY, text.to_owned())),
        ".nan" => Some(Ruby::Float(f64::NAN, text.to_owned())),
        _ => None,
    };
    if let Some(number) = number {
        return Scanned::Is(number);
    }
    if let Some(name) = text.strip_prefix(':').filter(|name| !name.is_empty()) {
        return Scanned::Is(Ruby::Symbol(name.to_owned()));
    }
    sexagesimal(text)
        .or_else(|| float(text).map(|number| Ruby::Float(number, text.to_owned())))
        .or_else(|| integer(text).map(|number| Ruby::Int(number, text.to_owned())))
        .map_or_else(string, Scanned::Is)
}

/// `^[^\d.:-]?[[:alpha:]_\s!@#$%\^&*(){}<>|/\\~;=]+`
fn starts_like_words(text: &str) -> bool {
    let is_wordy = |char: char| {
        char.is_alphabetic()
            || char.is_ascii_whitespace()
            || "_!@#$%^&*(){}<>|/\\~;=".contains(char)
    };
    let mut chars = text.chars();
    let Some(first) = chars.next() else {
        return false;
    };
    is_wordy(first)
        || (!first.is_ascii_digit() && !".:-".contains(first) && chars.next().is_some_and(is_wordy))
}

/// Takes `min..=max` ASCII digits off the front.
fn digits(text: &str, min: usize, max: usize) -> Option<&str> {
    let count = text
        .bytes()
        .take(max)
        .take_while(u8::is_ascii_digit)
        .count();
    (count >= min).then(|| text.get(count..)).flatten()
}

/// `\d{4}-\d{1,2}-\d{1,2}`, and what follows.
fn after_date(text: &str) -> Option<&str> {
    let rest = digits(text, 4, 4)?.strip_prefix('-')?;
    let rest = digits(rest, 1, 2)?.strip_prefix('-')?;
    digits(rest, 1, 2)
}

fn is_date(text: &str) -> bool {
    let Some(rest) = digits(text, 4, 4).and_then(|rest| rest.strip_prefix('-')) else {
        return false;
    };
    let Some((month, day)) = rest.split_once('-') else {
        return false;
    };
    let in_range = |part: &str, max: u32| {
        (1..=2).contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_digit())
            && part.parse::<u32>().is_ok_and(|number| number <= max)
    };
    in_range(month, 12) && in_range(day, 31)
}

fn is_time(text: &str) -> bool {
    let Some(rest) = after_date(text.strip_prefix('-').unwrap_or(text)) else {
        return false;
    };
    let clock = rest.trim_start();
    let clock = match rest.strip_prefix(['T', 't']) {
        Some(clock) => clock,
        None if clock.len() < rest.len() => clock,
        None => return false,
    };
    let after_clock = || {
        let rest = digits(clock, 1, 2)?.strip_prefix(':')?;
        let rest = digits(rest, 2, 2)?.strip_prefix(':')?;
        let rest = digits(rest, 2, 2)?;
        match rest.strip_prefix('.') {
            Some(fraction) => digits(fraction, 0, usize::MAX),
            None => Some(rest),
        }
    };
    let Some(zone) = after_clock().map(str::trim_start) else {
        return false;
    };
    if zone.is_empty() || zone == "Z" {
        return true;
    }
    let Some(hours) = zone
        .strip_prefix(['-', '+'])
        .and_then(|zone| digits(zone, 1, 2))
    else {
        return false;
    };
    let minutes = hours.strip_prefix(':').unwrap_or(hours);
    minutes.is_empty() || digits(minutes, 2, 2) == Some("")
}

/// Ruby's `String#to_i`: leading white space, sign, digits with single `_`; the rest is ignored.
pub(super) fn to_i(text: &str) -> i128 {
    let text = text.trim_start();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut number = 0_i128;
    let mut previous = '_';
    for char in digits.chars() {
        match char.to_digit(10) {
            Some(digit) => {
                number = number.saturating_mul(10).saturating_add(i128::from(digit));
            }
            None if char == '_' && previous != '_' => {}
            None => break,
        }
        previous = char;
    }
    if negative {
        number.saturating_neg()
    } else {
        number
    }
}

/// `1:30` and `1:30:00`, with Psych's own arithmetic: the first part counts 3600 in both.
fn sexagesimal(text: &str) -> Option<Ruby> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = match unsigned.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (unsigned, None),
    };
    let mut parts = whole.split(':');
    let first = parts.next()?;
    let starts_well = first.starts_with(|char: char| char.is_ascii_digit())
        && first
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'_');
    let rest: Vec<&str> = parts.collect();
    let rest_well = (1..=2).contains(&rest.len())
        && rest.iter().all(|part| {
            (1..=2).contains(&part.len())
                && part.bytes().all(|byte| byte.is_ascii_digit())
                && part.parse::<u8>().is_ok_and(|number| number < 60)
        });
    let fraction_well = fraction.is_none_or(|part| {
        part.bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'_')
    });
    if !starts_well || !rest_well || !fraction_well {
        return None;
    }
    let mut sum = 0_i128;
    for (part, factor) in text.split('.').next()?.split(':').zip([3_600_i128, 60, 1]) {
        sum = sum.saturating_add(to_i(part).saturating_mul(factor));
    }
    Some(match fraction {
        None => Ruby::Int(sum, text.to_owned()),
        Some(_) => Ruby::Float(sum as f64, text.to_owned()),
    })
}

/// `[-+]?([0-9][0-9_,]*)?\.[0-9]*([eE][-+][0-9]+)?`, but not a lone point.
fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, rest) = unsigned.split_once('.')?;
    let whole_well = whole.is_empty()
        || (whole.starts_with(|char: char| char.is_ascii_digit())
            && whole
                .bytes()
                .all(|byte| byte.is_ascii_digit() || b"_,".contains(&byte)));
    let (fraction, exponent) = match rest.split_once(['e', 'E']) {
        Some((fraction, exponent)) => (fraction, Some(exponent)),
        None => (rest, None),
    };
    let exponent_well = exponent.is_none_or(|exponent| {
        exponent.strip_prefix(['-', '+']).is_some_and(|digits| {
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
        })
    });
    let fraction_well = fraction.bytes().all(|byte| byte.is_ascii_digit());
    if !whole_well || !fraction_well || !exponent_well || (whole.is_empty() && fraction.is_empty())
    {
        return None;
    }
    text.chars()
        .filter(|char| !"_,".contains(*char))
        .collect::<String>()
        .parse()
        .ok()
}

/// Binary, octal, decimal and hexadecimal, with `_` and `,` between digits.
fn integer(text: &str) -> Option<i128> {
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, body) = if let Some(rest) = unsigned.strip_prefix("0b") {
        (2, rest)
    } else if let Some(rest) = unsigned.strip_prefix("0x") {
        (16, rest)
    } else if unsigned.len() > 1 && unsigned.starts_with('0') {
        (8, unsigned.get(1..)?)
    } else {
        (10, unsigned)
    };
    let is_gap = |char: char| char == '_' || char == ',';
    let digits: String = body.chars().filter(|char| !is_gap(*char)).collect();
    if digits.is_empty() || !digits.chars().all(|char| char.is_digit(radix)) {
        return None;
    }
    if radix == 10 {
        let starts_or_ends_in_gap = body.starts_with(is_gap) || body.ends_with(is_gap);
        let gaps_touch = body
            .as_bytes()
            .windows(2)
            .any(|pair| pair.iter().all(|&byte| is_gap(char::from(byte))));
        if starts_or_ends_in_gap || gaps_touch {
            return None;
        }
    }
    let limit = if sign < 0 { i128::MIN } else { i128::MAX };
    Some(i128::from_str_radix(&digits, radix).map_or(limit, |number| number.saturating_mul(sign)))
}

impl Value {
    /// A Hash's value; `None` where it is no Hash or has no such key.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.ruby {
            Ruby::Map(pairs) => pairs
                .iter()
                .find(|(name, _)| matches!(&name.ruby, Ruby::Text(text) if text == key))
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// Whether Ruby's `if` takes it for false.
    pub fn is_falsy(&self) -> bool {
        matches!(self.ruby, Ruby::Nil | Ruby::Bool(false))
    }

    /// A String's text.
    pub fn text(&self) -> Option<&str> {
        match &self.ruby {
            Ruby::Text(text) => Some(text),
            _ => None,
        }
    }

    /// `to_s`, near enough: numbers in decimal, collections by their kind.
    pub fn to_s(&self) -> String {
        match &self.ruby {
            Ruby::Nil => String::new(),
            Ruby::Bool(truth) => truth.to_string(),
            Ruby::Int(number, _) => number.to_string(),
            Ruby::Float(_, written) => written.clone(),
            Ruby::Text(text) | Ruby::Symbol(text) => text.clone(),
            Ruby::List(_) | Ruby::Map(_) => format!("({})", self.kind()),
        }
    }

    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self.ruby {
            Ruby::Nil => "nothing",
            Ruby::Bool(_) => "a boolean",
            Ruby::Int(..) | Ruby::Float(..) => "a number",
            Ruby::Text(_) => "text",
            Ruby::Symbol(_) => "a Ruby symbol",
            Ruby::List(_) => "a list",
            Ruby::Map(_) => "a mapping",
        }
    }
}
