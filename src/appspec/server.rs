//! The Server AppSpec: `version`, `os`, `files`, `hooks`, `file_exists_behavior`.
//!
//! Owns the agent's rules of `application_specification.rb`, `file_info.rb` and `script_info.rb`.
//! Permissions have a file of their own.

use super::permissions::{self, Permission};
use super::psych::{Ruby, Value, to_i};
use super::{Report, cut};
use crate::deployment::FileExistsBehavior;
use crate::yaml::Place;

/// The lifecycle events that run scripts on instances, in their order in an in-place deployment.
pub const SERVER_HOOKS: [&str; 9] = [
    "BeforeBlockTraffic",
    "AfterBlockTraffic",
    "ApplicationStop",
    "BeforeInstall",
    "AfterInstall",
    "ApplicationStart",
    "ValidateService",
    "BeforeAllowTraffic",
    "AfterAllowTraffic",
];

/// Events that the agent knows but runs no scripts for.
const AGENT_EVENTS: [&str; 2] = ["DownloadBundle", "Install"];

/// Events that come only with a load balancer in the deployment group.
const TRAFFIC_HOOKS: [&str; 4] = [
    "BeforeBlockTraffic",
    "AfterBlockTraffic",
    "BeforeAllowTraffic",
    "AfterAllowTraffic",
];

/// Seconds that a script gets where the AppSpec does not say.
pub const TIMEOUT_SECONDS_DEFAULT: u64 = 3_600;

/// Seconds that all scripts of one lifecycle event may take together.
pub const TIMEOUT_SECONDS_MAX: u64 = 3_600;

const TOP_KEYS: [&str; 6] = [
    "version",
    "os",
    "files",
    "hooks",
    "permissions",
    "file_exists_behavior",
];
const FILE_KEYS: [&str; 2] = ["source", "destination"];
const SCRIPT_KEYS: [&str; 4] = ["location", "timeout", "runas", "sudo"];

/// What an AppSpec says to EC2 and on-premises instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The instances' operating system.
    pub os: OperatingSystem,
    /// What `Install` copies where, in order.
    pub files: Vec<FileMapping>,
    /// What `Install` sets on the copied files, in order.
    pub permissions: Vec<Permission>,
    /// The lifecycle events that have scripts, in the AppSpec's order.
    pub hooks: Vec<Hook>,
    /// What happens to files that are in the way; it beats the deployment's own option.
    pub file_exists_behavior: Option<FileExistsBehavior>,
}

impl Server {
    /// The scripts of a lifecycle event, in order.
    pub fn scripts(&self, event: &str) -> &[Script] {
        self.hooks
            .iter()
            .find(|hook| hook.event == event)
            .map_or(&[], |hook| &hook.scripts)
    }
}

/// `os`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OperatingSystem {
    /// `linux`: Amazon Linux, RHEL, Ubuntu.
    Linux,
    /// `windows`: Windows Server.
    Windows,
}

/// One item of `files`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileMapping {
    /// A file or folder of the bundle; a folder's content is copied, not the folder itself.
    pub source: String,
    /// The folder on the instance that receives it.
    pub destination: String,
    /// Where the item stands in the AppSpec.
    pub place: Place,
}

/// The scripts of one lifecycle event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The event's name.
    pub event: String,
    /// Its scripts, in order.
    pub scripts: Vec<Script>,
    /// Where the event's name stands in the AppSpec.
    pub place: Place,
}

/// One script of a lifecycle event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Its path in the bundle, as written but for surrounding white space.
    pub location: String,
    /// Seconds after which it is killed.
    pub timeout_seconds: u64,
    /// Whether the AppSpec says so, or it is [`TIMEOUT_SECONDS_DEFAULT`].
    pub timeout_given: bool,
    /// The user that it runs as; root (the agent) where there is none.
    pub runas: Option<String>,
    /// Whether it goes through `sudo`.
    pub sudo: bool,
    /// Where its location stands in the AppSpec.
    pub place: Place,
}

/// Reads the whole; faults go into the report, and what is left is of use only without them.
pub(super) fn read(root: &Value, report: &mut Report<'_>) -> Option<Server> {
    report.unknown_keys(root, &TOP_KEYS, "the AppSpec");
    version(root, report);
    let os = operating_system(root, report);
    let hooks = hooks(root.get("hooks"), report);
    let files = files(root.get("files"), report);
    let permissions = permissions::read(root.get("permissions"), os, report);
    let file_exists_behavior = file_exists_behavior(root.get("file_exists_behavior"), report);
    Some(Server {
        os: os?,
        files,
        permissions,
        hooks,
        file_exists_behavior,
    })
}

/// The agent compares with the number 0.0: `0`, `-0.0` and `0x0` pass, the text `"0.0"` does not.
fn version(root: &Value, report: &mut Report<'_>) {
    let cure = "write `version: 0.0`, without quotes";
    match root.get("version") {
        None => report.refuse(
            "appspec-version",
            root.place,
            "the AppSpec has no `version`, expected the number 0.0",
            cure,
        ),
        Some(Value {
            ruby: Ruby::Int(0, _),
            ..
        }) => {}
        Some(Value {
            ruby: Ruby::Float(number, _),
            ..
        }) if *number == 0.0 => {}
        Some(version) => report.refuse(
            "appspec-version",
            version.place,
            &format!(
                "`version` is {} `{}`, expected the number 0.0",
                version.kind(),
                cut(&version.to_s())
            ),
            cure,
        ),
    }
}

fn operating_system(root: &Value, report: &mut Report<'_>) -> Option<OperatingSystem> {
    let cure = "write `os: linux` or `os: windows`, in lower case";
    let Some(os) = root.get("os") else {
        report.refuse(
            "appspec-os",
            root.place,
            "the AppSpec has no `os`, expected `linux` or `windows`",
            cure,
        );
        return None;
    };
    match os.text() {
        Some("linux") => Some(OperatingSystem::Linux),
        Some("windows") => Some(OperatingSystem::Windows),
        _ => {
            report.refuse(
                "appspec-os",
                os.place,
                &format!(
                    "`os` is `{}`, expected `linux` or `windows`",
                    cut(&os.to_s())
                ),
                cure,
            );
            None
        }
    }
}

fn file_exists_behavior(
    value: Option<&Value>,
    report: &mut Report<'_>,
) -> Option<FileExistsBehavior> {
    let value = value.filter(|value| value.ruby != Ruby::Nil)?;
    match value.text() {
        Some("DISALLOW") => Some(FileExistsBehavior::Disallow),
        Some("OVERWRITE") => Some(FileExistsBehavior::Overwrite),
        Some("RETAIN") => Some(FileExistsBehavior::Retain),
        _ => {
            report.refuse(
                "appspec-file-exists-behavior",
                value.place,
                &format!(
                    "`file_exists_behavior` is `{}`, expected DISALLOW, OVERWRITE or RETAIN",
                    cut(&value.to_s())
                ),
                "write one of the three in capitals",
            );
            None
        }
    }
}

/// The items that Ruby's `each` would go through; a fault where it has none.
///
/// Nothing and `false` count as empty, and so does an empty mapping.
pub(super) fn items<'v>(
    value: Option<&'v Value>,
    code: &str,
    what: &str,
    report: &mut Report<'_>,
) -> &'v [Value] {
    let Some(value) = value.filter(|value| !value.is_falsy()) else {
        return &[];
    };
    match &value.ruby {
        Ruby::List(items) => items,
        Ruby::Map(pairs) if pairs.is_empty() => &[],
        _ => {
            report.refuse(
                code,
                value.place,
                &format!("{what} is {}, expected a list", value.kind()),
                "start each item with `- `",
            );
            &[]
        }
    }
}

fn files(value: Option<&Value>, report: &mut Report<'_>) -> Vec<FileMapping> {
    let mut files = Vec::new();
    for item in items(value, "files-not-a-list", "`files`", report) {
        if !matches!(item.ruby, Ruby::Map(_)) {
            report.refuse(
                "files-not-a-list",
                item.place,
                &format!(
                    "an item of `files` is {}, expected a mapping with `source` and `destination`",
                    item.kind()
                ),
                "write `- source: /` and, below it, `destination: /srv/my-app`",
            );
            continue;
        }
        report.unknown_keys(item, &FILE_KEYS, "an item of `files`");
        let source = match item.get("source").and_then(Value::joined) {
            Some(joined) => Some(joined),
            None => file_path(item, "source", "files-source-invalid", report).map(str::to_owned),
        };
        let destination = file_path(item, "destination", "files-destination-invalid", report);
        if let (Some(source), Some(destination)) = (source, destination) {
            files.push(FileMapping {
                source,
                destination: destination.to_owned(),
                place: item.place,
            });
        }
    }
    files
}

fn file_path<'v>(
    item: &'v Value,
    key: &str,
    code: &str,
    report: &mut Report<'_>,
) -> Option<&'v str> {
    match item.get(key) {
        Some(Value {
            ruby: Ruby::Text(text),
            place,
        }) => {
            if text.contains('\0') {
                report.refuse(
                    code,
                    *place,
                    &format!("`{key}` holds a NUL character"),
                    "take the escape `\\0` out",
                );
                return None;
            }
            Some(text)
        }
        None
        | Some(Value {
            ruby: Ruby::Nil, ..
        }) => {
            report.refuse(
                code,
                item.place,
                &format!("an item of `files` has no `{key}`"),
                "give each item a `source` and a `destination`",
            );
            None
        }
        Some(value) => {
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
    }
}

fn hooks(value: Option<&Value>, report: &mut Report<'_>) -> Vec<Hook> {
    let Some(value) = value.filter(|value| !value.is_falsy()) else {
        return Vec::new();
    };
    let Ruby::Map(pairs) = &value.ruby else {
        report.refuse(
            "hooks-not-a-mapping",
            value.place,
            &format!("`hooks` is {}, expected a mapping of lifecycle events", value.kind()),
            "write the event's name as a key below `hooks:`, such as `AfterInstall:`; the list form \
             is for Lambda and ECS",
        );
        return Vec::new();
    };
    let mut hooks = Vec::new();
    for (event, scripts) in pairs {
        // The agent ignores an event without scripts before it looks at its name.
        if scripts.is_falsy() {
            continue;
        }
        let name = event.to_s();
        hook_name(event, &name, report);
        let what = format!("hook `{}`", cut(&name));
        let scripts: Vec<Script> = items(Some(scripts), "hook-not-a-list", &what, report)
            .iter()
            .filter_map(|script| read_script(script, &what, report))
            .collect();
        timeouts(&scripts, &what, event.place, report);
        hooks.push(Hook {
            event: name,
            scripts,
            place: event.place,
        });
    }
    hooks
}

fn hook_name(event: &Value, name: &str, report: &mut Report<'_>) {
    let is_text = event.text().is_some();
    if is_text && TRAFFIC_HOOKS.contains(&name) {
        report.warn(
            "hook-needs-load-balancer",
            event.place,
            &format!("hook `{name}` runs only in deployment groups with a load balancer"),
            "move its scripts to another event if the group has none",
        );
    } else if is_text && AGENT_EVENTS.contains(&name) {
        report.warn(
            "hook-reserved",
            event.place,
            &format!("scripts under `{name}` are never run: the agent does that event itself"),
            "use BeforeInstall or AfterInstall",
        );
    } else if !is_text || !SERVER_HOOKS.contains(&name) {
        let near = SERVER_HOOKS.iter().find(|known| is_near(known, name));
        let cure = match near {
            Some(near) => format!("write `{near}`"),
            None => format!("use one of {}", SERVER_HOOKS.join(", ")),
        };
        report.refuse(
            "hook-unknown",
            event.place,
            &format!(
                "`{}` is no lifecycle event that runs scripts on instances",
                cut(name)
            ),
            &cure,
        );
    }
}

/// Whether two names differ only in case, one missing or one added letter.
fn is_near(known: &str, name: &str) -> bool {
    let known = known.to_ascii_lowercase();
    let name = name.to_ascii_lowercase();
    let one_less = |long: &str, short: &str| {
        long.len() == short.len().saturating_add(1)
            && long.char_indices().any(|(at, char)| {
                let after = at.saturating_add(char.len_utf8());
                long.get(..at)
                    .zip(long.get(after..))
                    .is_some_and(|(before, after)| {
                        short.strip_prefix(before).is_some_and(|rest| rest == after)
                    })
            })
    };
    known == name || one_less(&known, &name) || one_less(&name, &known)
}

fn read_script(script: &Value, hook: &str, report: &mut Report<'_>) -> Option<Script> {
    if !matches!(script.ruby, Ruby::Map(_)) {
        report.refuse(
            "hook-not-a-list",
            script.place,
            &format!(
                "an item of {hook} is {}, expected a mapping with `location`",
                script.kind()
            ),
            "write `- location: scripts/example.sh`",
        );
        return None;
    }
    report.unknown_keys(script, &SCRIPT_KEYS, "a script");
    let timeout = timeout(script.get("timeout"), hook, report);
    let location = script
        .get("location")
        .filter(|value| value.ruby != Ruby::Nil);
    let trimmed = location
        .map(|value| strip(&value.to_s()).to_owned())
        .unwrap_or_default();
    let Some(location) = location.filter(|_| !trimmed.is_empty()) else {
        report.refuse(
            "hook-location-missing",
            script.place,
            &format!("a script of {hook} has no `location`"),
            "write `location:` with the script's path in the bundle",
        );
        return None;
    };
    let (timeout_seconds, timeout_given) = timeout?;
    Some(Script {
        location: trimmed,
        timeout_seconds,
        timeout_given,
        runas: script
            .get("runas")
            .filter(|value| value.ruby != Ruby::Nil)
            .map(|value| strip(&value.to_s()).to_owned()),
        sudo: script.get("sudo").is_some_and(|value| !value.is_falsy()),
        place: location.place,
    })
}

/// Ruby's `String#strip`: white space on both sides, and NULs at the end.
pub(super) fn strip(text: &str) -> &str {
    text.trim_matches(|char: char| char.is_ascii_whitespace() || char == '\u{b}' || char == '\0')
}

/// The seconds, and whether they were given; `nil` and `false` stand for the default.
fn timeout(value: Option<&Value>, hook: &str, report: &mut Report<'_>) -> Option<(u64, bool)> {
    let Some(value) = value.filter(|value| !value.is_falsy()) else {
        return Some((TIMEOUT_SECONDS_DEFAULT, false));
    };
    let seconds = match &value.ruby {
        Ruby::Int(number, _) => Some(*number),
        // Infinity and NaN have no integer: Ruby raises.
        Ruby::Float(number, _) if number.is_finite() => Some(number.trunc() as i128),
        Ruby::Text(text) => Some(to_i(text)),
        _ => None,
    };
    if let Some(seconds) = seconds.filter(|seconds| *seconds > 0) {
        return Some((u64::try_from(seconds).unwrap_or(u64::MAX), true));
    }
    report.refuse(
        "hook-timeout-invalid",
        value.place,
        &format!(
            "a timeout of {hook} is `{}`, expected a whole number of seconds above 0",
            cut(&value.to_s())
        ),
        "write `timeout: 300`, or leave it out for 3600",
    );
    None
}

/// Only what was written counts: two scripts without timeout are no reason to warn.
fn timeouts(scripts: &[Script], what: &str, place: Place, report: &mut Report<'_>) {
    let sum = scripts
        .iter()
        .filter(|script| script.timeout_given)
        .fold(0_u64, |sum, script| {
            sum.saturating_add(script.timeout_seconds)
        });
    if sum > TIMEOUT_SECONDS_MAX {
        report.warn(
            "hook-timeout-over-hour",
            place,
            &format!(
                "the timeouts of {what} sum to {sum} seconds, CodeDeploy ends a lifecycle event \
                 after {TIMEOUT_SECONDS_MAX}"
            ),
            "keep the sum of one event's timeouts within an hour",
        );
    }
}
