//! `permissions`: what `Install` sets on copied files, checked as the agent's classes check it.
//!
//! Owns modes, ACL entries and SELinux contexts (`linux_permission_info.rb`, `mode_info.rb`,
//! `ace_info.rb`, `context_info.rb`, `range_info.rb`) and the agent's own globs. Which files an
//! entry meets is the bundle check's question.

use super::psych::{Ruby, Value};
use super::server::{OperatingSystem, items, strip};
use super::{Report, cut};
use crate::yaml::Place;

const PERMISSION_KEYS: [&str; 9] = [
    "object", "pattern", "except", "type", "owner", "group", "mode", "acls", "context",
];
const CONTEXT_KEYS: [&str; 3] = ["name", "type", "range"];

/// The highest category of an SELinux range.
const CATEGORY_MAX: u32 = 1_023;

/// One item of `permissions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    /// A copied file, or a folder whose content is meant.
    pub object: String,
    /// Names directly in the folder, with `*`; `**` is everything below it.
    pub pattern: String,
    /// Names directly in the folder that are left alone.
    pub except: Vec<String>,
    /// Whether it sets files.
    pub files: bool,
    /// Whether it sets directories.
    pub directories: bool,
    /// Owner.
    pub owner: Option<String>,
    /// Group.
    pub group: Option<String>,
    /// Mode: three or four octal digits, as the agent pads it.
    pub mode: Option<String>,
    /// ACL entries.
    pub acls: Vec<Ace>,
    /// Whether it sets an SELinux context.
    pub has_context: bool,
    /// Where the item stands in the AppSpec.
    pub place: Place,
}

/// One ACL entry, `[default:][user|group|mask|other]:[name]:rwx`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ace {
    /// As written.
    pub text: String,
    /// Whether it is a default entry, which only directories take.
    pub is_default: bool,
}

impl Permission {
    /// Whether the item meets `path` (absolute, normalised) below its `object`, itself normalised.
    ///
    /// A pattern other than `**`, and `except`, look at names directly in the folder only.
    pub fn meets(&self, object: &str, path: &str) -> bool {
        let below = if object.ends_with('/') {
            path.strip_prefix(object)
        } else {
            path.strip_prefix(object)
                .and_then(|rest| rest.strip_prefix('/'))
        };
        let Some(name) = below else { return false };
        self.meets_name(name)
    }

    /// Whether the item meets what has this path below its `object`.
    pub fn meets_name(&self, name: &str) -> bool {
        if name.contains('/') {
            return self.pattern == "**";
        }
        self.names().take(name)
    }

    /// Which names directly in the folder it means, made ready for many of them.
    pub fn names(&self) -> Names<'_> {
        Names {
            pattern: (self.pattern != "**").then(|| NameGlob::new(&self.pattern)),
            except: self
                .except
                .iter()
                .map(|except| NameGlob::new(except))
                .collect(),
        }
    }
}

/// Which names directly in a folder an item of `permissions` means.
#[derive(Debug, Clone)]
pub struct Names<'p> {
    /// `None` for all.
    pattern: Option<NameGlob<'p>>,
    except: Vec<NameGlob<'p>>,
}

impl Names<'_> {
    /// Whether every name is meant.
    pub fn take_all(&self) -> bool {
        self.pattern.is_none() && self.except.is_empty()
    }

    /// Whether this one is; it has no `/`.
    pub fn take(&self, name: &str) -> bool {
        self.pattern.as_ref().is_none_or(|glob| glob.matches(name))
            && !self.except.iter().any(|glob| glob.matches(name))
    }
}

/// The agent's simple glob: `*` stands for any characters, nothing matches across `/`.
#[derive(Debug, Clone)]
struct NameGlob<'p> {
    first: &'p str,
    /// Between two `*`.
    middle: Vec<&'p str>,
    /// Behind the last `*`; `None` without any.
    last: Option<&'p str>,
}

impl<'p> NameGlob<'p> {
    fn new(pattern: &'p str) -> Self {
        let mut parts = pattern.split('*');
        let first = parts.next().unwrap_or_default();
        let last = parts.next_back();
        Self {
            first,
            middle: parts.collect(),
            last,
        }
    }

    fn matches(&self, name: &str) -> bool {
        let Some(last) = self.last else {
            return name == self.first;
        };
        if !name.ends_with(last) {
            return false;
        }
        let Some(mut rest) = name.strip_prefix(self.first) else {
            return false;
        };
        for part in &self.middle {
            match rest.split_once(part) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

pub(super) fn read(
    value: Option<&Value>,
    os: Option<OperatingSystem>,
    report: &mut Report<'_>,
) -> Vec<Permission> {
    let mut permissions = Vec::new();
    for item in items(value, "permissions-not-a-list", "`permissions`", report) {
        if !matches!(item.ruby, Ruby::Map(_)) {
            report.refuse(
                "permissions-not-a-list",
                item.place,
                &format!(
                    "an item of `permissions` is {}, expected a mapping",
                    item.kind()
                ),
                "write `- object: /srv/my-app` and below it what is to be set",
            );
            continue;
        }
        if os == Some(OperatingSystem::Windows) {
            report.refuse(
                "permissions-on-windows",
                item.place,
                "`permissions` stands in an AppSpec for windows, the agent sets them on Linux only",
                "take `permissions` out; set them in an AfterInstall script",
            );
            break;
        }
        if let Some(permission) = read_item(item, report) {
            permissions.push(permission);
        }
    }
    permissions
}

fn read_item(item: &Value, report: &mut Report<'_>) -> Option<Permission> {
    report.unknown_keys(item, &PERMISSION_KEYS, "an item of `permissions`");
    let object = item
        .get("object")
        .map(|value| strip(&value.to_s()).to_owned())
        .unwrap_or_default();
    if object.is_empty() || object.contains('\0') {
        report.refuse(
            "permission-object-missing",
            item.place,
            "an item of `permissions` has no `object`",
            "write `object:` with the absolute path of a file or folder that is deployed",
        );
        return None;
    }
    let (files, directories) = types(item.get("type"), report);
    let except = items(
        item.get("except"),
        "permission-pattern-invalid",
        "`except`",
        report,
    )
    .iter()
    .filter_map(|value| text(value, "except", "permission-pattern-invalid", report))
    .collect();
    let pattern = match item.get("pattern").filter(|value| !value.is_falsy()) {
        None => "**".to_owned(),
        Some(value) => {
            text(value, "pattern", "permission-pattern-invalid", report).unwrap_or_default()
        }
    };
    let mut name = |key| {
        let value = item.get(key).filter(|value| !value.is_falsy())?;
        let name = text(value, key, "permission-owner-invalid", report)?;
        if name.is_empty() || name.contains('\0') {
            report.refuse(
                "permission-owner-invalid",
                value.place,
                &format!("`{key}` is `{}`, which is nobody's name", cut(&name)),
                "write the name of a user or group of the instances, or take the key out",
            );
            return None;
        }
        Some(name)
    };
    let (owner, group) = (name("owner"), name("group"));
    let mode = item.get("mode").filter(|value| value.ruby != Ruby::Nil);
    let mode = mode.and_then(|value| read_mode(value, report));
    let acls = item.get("acls").filter(|value| value.ruby != Ruby::Nil);
    let acls = acls
        .map(|value| read_acls(value, report))
        .unwrap_or_default();
    let context = item.get("context").filter(|value| value.ruby != Ruby::Nil);
    if let Some(context) = context {
        check_context(context, report);
    }
    Some(Permission {
        object,
        pattern,
        except,
        files,
        directories,
        owner,
        group,
        mode,
        acls,
        has_context: context.is_some(),
        place: item.place,
    })
}

fn text(value: &Value, key: &str, code: &str, report: &mut Report<'_>) -> Option<String> {
    if let Some(text) = value.text() {
        return Some(text.to_owned());
    }
    report.refuse(
        code,
        value.place,
        &format!(
            "`{key}` is {} (`{}`), expected text",
            value.kind(),
            cut(&value.to_s())
        ),
        "put it in quotes",
    );
    None
}

fn types(value: Option<&Value>, report: &mut Report<'_>) -> (bool, bool) {
    let Some(value) = value.filter(|value| !value.is_falsy()) else {
        return (true, true);
    };
    let (mut files, mut directories) = (false, false);
    for kind in items(Some(value), "permission-type-invalid", "`type`", report) {
        match kind.text() {
            Some("file") => files = true,
            Some("directory") => directories = true,
            _ => report.refuse(
                "permission-type-invalid",
                kind.place,
                &format!(
                    "`type` has `{}`, expected `file` or `directory`",
                    cut(&kind.to_s())
                ),
                "list `file`, `directory` or both",
            ),
        }
    }
    (files, directories)
}

/// One to four octal digits, as Ruby prints the value: unquoted `0644` is the number 420.
fn read_mode(value: &Value, report: &mut Report<'_>) -> Option<String> {
    let printed = value.to_s();
    let octal_text = match &value.ruby {
        Ruby::Int(_, written) if *written != printed => Some(written),
        _ => None,
    };
    let mode = format!("{printed:0>3}");
    let digits_well = mode.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    if mode.len() <= 4 && digits_well {
        if let Some(written) = octal_text {
            report.warn(
                "permission-mode-unquoted",
                value.place,
                &format!(
                    "mode `{}` without quotes is an octal number in YAML: the agent installs {mode}",
                    cut(written)
                ),
                &format!("write `mode: \"{}\"`", cut(written)),
            );
        }
        return Some(mode);
    }
    let message = match octal_text {
        Some(written) => format!(
            "mode `{}` without quotes is a number in YAML that the agent reads as {}",
            cut(written),
            cut(&printed)
        ),
        None => format!(
            "mode is `{}`, expected one to four octal digits",
            cut(&printed)
        ),
    };
    report.refuse(
        "permission-mode-invalid",
        value.place,
        &message,
        "write one to four digits of 0 to 7 in quotes, such as `mode: \"0644\"`",
    );
    None
}

fn read_acls(value: &Value, report: &mut Report<'_>) -> Vec<Ace> {
    let entries = match &value.ruby {
        Ruby::List(entries) => Some(entries.as_slice()),
        Ruby::Map(pairs) if pairs.is_empty() => Some(&[][..]),
        _ => None,
    };
    let Some(entries) = entries else {
        report.refuse(
            "permission-acl-invalid",
            value.place,
            &format!("`acls` is {}, expected a list", value.kind()),
            "start each ACL entry with `- `, such as `- u:www-data:rw`",
        );
        return Vec::new();
    };
    let mut acls = Vec::new();
    for entry in entries {
        let written = entry.to_s();
        let read = match entry.text() {
            Some(text) => ace(text),
            None => Err("is not text"),
        };
        match read {
            Ok(is_default) => acls.push(Ace { text: written, is_default }),
            Err(why) => report.refuse(
                "permission-acl-invalid",
                entry.place,
                &format!("ACL entry `{}` {why}", cut(&written)),
                "write `[default:]user|group|mask|other:name:rwx`, such as `u:www-data:rw`; the base \
                 entries without name are set by `mode`",
            ),
        }
    }
    acls
}

/// `AceInfo`, in its order; answers whether the entry is a default one.
fn ace(text: &str) -> Result<bool, &'static str> {
    let parts: Vec<&str> = text.rsplit(':').collect();
    let (permissions, second, third, fourth) = match *parts.as_slice() {
        [permissions, second] => (permissions, second, None, None),
        [permissions, second, third] => (permissions, second, Some(third), None),
        [permissions, second, third, fourth] => (permissions, second, Some(third), Some(fourth)),
        _ => return Err("has not two to four parts between `:`"),
    };
    let mut is_default = match fourth {
        None => false,
        Some("d" | "default") => true,
        Some(_) => return Err("has four parts, the first is not `default`"),
    };
    let mut kind = None;
    match third {
        None => {}
        Some("d" | "default") if is_default => return Err("says `default` twice"),
        Some("d" | "default") => is_default = true,
        Some("m" | "mask") => kind = Some("mask"),
        Some("o" | "other") => kind = Some("other"),
        Some("g" | "group") => kind = Some("group"),
        Some("u" | "user") => kind = Some("user"),
        Some(_) => return Err("is for none of user, group, mask, other"),
    }
    let (kind, name) = match (second, kind) {
        ("m" | "mask", None) => ("mask", ""),
        ("o" | "other", None) => ("other", ""),
        ("m" | "mask", Some(kind)) => (kind, "mask"),
        ("o" | "other", Some(kind)) => (kind, "other"),
        (name, kind) => (kind.unwrap_or("user"), name),
    };
    if matches!(kind, "mask" | "other") && !name.is_empty() {
        return Err("gives a name to `mask` or `other`");
    }
    if !is_default && kind != "mask" && name.is_empty() {
        return Err("is a base entry, which `mode` sets");
    }
    let is_octal = matches!(permissions.as_bytes(), [b'0'..=b'7']);
    if !is_octal && permissions.chars().any(|char| !"rwx-".contains(char)) {
        return Err("has a permission other than r, w, x, - or one octal digit");
    }
    Ok(is_default)
}

fn check_context(context: &Value, report: &mut Report<'_>) {
    let code = "permission-context-invalid";
    let cure = "write `context:` with `type`, `range` and, if wanted, `name`, such as \
                `type: httpd_sys_content_t` and `range: s0`";
    if !matches!(context.ruby, Ruby::Map(_)) {
        let message = format!("`context` is {}, expected a mapping", context.kind());
        report.refuse(code, context.place, &message, cure);
        return;
    }
    report.unknown_keys(context, &CONTEXT_KEYS, "`context`");
    if context
        .get("type")
        .is_none_or(|value| value.ruby == Ruby::Nil)
    {
        report.refuse(code, context.place, "`context` has no `type`", cure);
    }
    match context.get("range").filter(|value| value.ruby != Ruby::Nil) {
        // The agent prints the range into its instructions and fails without one.
        None => report.refuse(
            code,
            context.place,
            "`context` has no `range`, without which the agent fails to write its instructions",
            cure,
        ),
        Some(range) => {
            let fault = match range.text() {
                Some(text) => check_range(text).err(),
                None => Some("is not text"),
            };
            if let Some(fault) = fault {
                let message = format!("SELinux range `{}` {fault}", cut(&range.to_s()));
                report.refuse(code, range.place, &message, cure);
            }
        }
    }
}

/// `RangeInfo`: `s0[-s1][:c0[.c1][,c2…]]`.
fn check_range(range: &str) -> Result<(), &'static str> {
    let two =
        |text: &'static str| move |part: &str| if part.is_empty() { Err(text) } else { Ok(()) };
    let (sensitivities, categories) = match range.split_once(':') {
        Some((sensitivities, categories)) => {
            two("has an empty part")(categories)?;
            (sensitivities, Some(categories))
        }
        None => (range, None),
    };
    let number = |text: &str, letter: char| -> Option<u32> {
        let digits = text.strip_prefix(letter)?;
        let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        all_digits.then(|| digits.parse().unwrap_or(u32::MAX))
    };
    let sensitivity =
        |text: &str| number(text, 's').ok_or("has a sensitivity other than `s` and digits");
    match sensitivities.split_once('-') {
        Some((low, high)) if sensitivity(high)? < sensitivity(low)? => {
            return Err("has its sensitivities in the wrong order");
        }
        Some(_) => {}
        None => {
            sensitivity(sensitivities)?;
        }
    }
    let category = |text: &str| {
        number(text, 'c')
            .filter(|number| *number <= CATEGORY_MAX)
            .ok_or("has a category other than `c` and 0 to 1023")
    };
    let mut seen = std::collections::BTreeSet::new();
    // Ruby's split drops empty parts at the end, and so all of `,`.
    let categories = categories.map(|parts| parts.trim_end_matches(','));
    for part in categories
        .filter(|parts| !parts.is_empty())
        .into_iter()
        .flat_map(|parts| parts.split(','))
    {
        let (low, high) = match part.split_once('.') {
            Some((low, high)) => (category(low)?, category(high)?),
            None => (category(part)?, category(part)?),
        };
        if high < low {
            return Err("has a range of categories in the wrong order");
        }
        for number in low..=high {
            if !seen.insert(number) {
                return Err("names a category twice");
            }
        }
    }
    Ok(())
}
