//! The AppSpecs of Lambda and ECS: `version`, `Resources`, `Hooks`.
//!
//! Owns what CodeDeploy's service asks of them (user guide, "AppSpec resources section" and "hooks
//! section"). The guide writes the names in lower case on one page and capitalised on the other; both
//! are taken.

use super::psych::{Ruby, Value};
use super::{Content, Report, cut};
use crate::yaml::Place;

/// The lifecycle events of a Lambda deployment that run a function.
pub const LAMBDA_HOOKS: [&str; 2] = ["BeforeAllowTraffic", "AfterAllowTraffic"];

/// The lifecycle events of an ECS deployment that run a function.
pub const ECS_HOOKS: [&str; 5] = [
    "BeforeInstall",
    "AfterInstall",
    "AfterAllowTestTraffic",
    "BeforeAllowTraffic",
    "AfterAllowTraffic",
];

const LAMBDA_TYPE: &str = "AWS::Lambda::Function";
const ECS_TYPE: &str = "AWS::ECS::Service";

const TOP_KEYS: [&str; 3] = ["version", "Resources", "Hooks"];
const LAMBDA_PROPERTIES: [&str; 4] = ["Name", "Alias", "CurrentVersion", "TargetVersion"];
const ECS_PROPERTIES: [&str; 5] = [
    "TaskDefinition",
    "LoadBalancerInfo",
    "PlatformVersion",
    "NetworkConfiguration",
    "CapacityProviderStrategy",
];

/// A function and the versions that its alias moves between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lambda {
    /// The function's name or ARN.
    pub name: String,
    /// The alias.
    pub alias: String,
    /// The version that the alias points to.
    pub current_version: Option<String>,
    /// The version that traffic is shifted to.
    pub target_version: String,
    /// Functions that validate the deployment.
    pub hooks: Vec<LifecycleFunction>,
}

/// A service's task definition and load balancer target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ecs {
    /// The task definition's ARN.
    pub task_definition: String,
    /// The container that takes the traffic.
    pub container_name: String,
    /// Its port.
    pub container_port: u16,
    /// Functions that validate the deployment.
    pub hooks: Vec<LifecycleFunction>,
}

/// A lifecycle event and the Lambda function that it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleFunction {
    /// The event's name.
    pub event: String,
    /// The function's name or ARN.
    pub function: String,
}

/// A key's value, whatever its case.
fn get<'v>(value: &'v Value, key: &str) -> Option<&'v Value> {
    let Ruby::Map(pairs) = &value.ruby else {
        return None;
    };
    pairs
        .iter()
        .rev()
        .find(|(name, _)| {
            name.text()
                .is_some_and(|name| name.eq_ignore_ascii_case(key))
        })
        .map(|(_, value)| value)
}

/// Whether it is an AppSpec of Lambda or ECS at all.
pub(super) fn has_resources(root: &Value) -> bool {
    get(root, "Resources").is_some()
}

pub(super) fn read(root: &Value, report: &mut Report<'_>) -> Option<Content> {
    version(root, report);
    unknown_keys(root, &TOP_KEYS, "the AppSpec", report);
    let resource = only_resource(get(root, "Resources")?, report)?;
    let properties = get(resource, "Properties");
    let kind = get(resource, "Type").map(Value::to_s).unwrap_or_default();
    let Some(properties) = properties.filter(|value| matches!(value.ruby, Ruby::Map(_))) else {
        report.refuse(
            "resource-property-missing",
            resource.place,
            "the resource has no `Properties`",
            "write `Properties:` with the resource's properties below it",
        );
        return None;
    };
    match kind.as_str() {
        LAMBDA_TYPE => {
            unknown_keys(properties, &LAMBDA_PROPERTIES, "`Properties`", report);
            let name = property(properties, "Name", report);
            let alias = property(properties, "Alias", report);
            let target_version = function_version(properties, "TargetVersion", true, report);
            let current_version = function_version(properties, "CurrentVersion", false, report);
            let hooks = hooks(get(root, "Hooks"), &LAMBDA_HOOKS, report);
            Some(Content::Lambda(Lambda {
                name: name?,
                alias: alias?,
                current_version,
                target_version: target_version?,
                hooks,
            }))
        }
        ECS_TYPE => {
            unknown_keys(properties, &ECS_PROPERTIES, "`Properties`", report);
            let task_definition = property(properties, "TaskDefinition", report);
            if let Some(definition) = &task_definition {
                check_task_definition(definition, properties, report);
            }
            let target = load_balancer(properties, report);
            let hooks = hooks(get(root, "Hooks"), &ECS_HOOKS, report);
            let (container_name, container_port) = target?;
            Some(Content::Ecs(Ecs {
                task_definition: task_definition?,
                container_name,
                container_port,
                hooks,
            }))
        }
        other => {
            report.refuse(
                "resource-type-unknown",
                resource.place,
                &format!(
                    "the resource's `Type` is `{}`, expected {LAMBDA_TYPE} or {ECS_TYPE}",
                    cut(other)
                ),
                "write one of the two; an AppSpec for instances has `os` and no `Resources`",
            );
            None
        }
    }
}

fn version(root: &Value, report: &mut Report<'_>) {
    let is_zero = |value: &Value| match &value.ruby {
        Ruby::Int(number, _) => *number == 0,
        Ruby::Float(number, _) => *number == 0.0,
        _ => false,
    };
    match get(root, "version") {
        Some(value) if is_zero(value) => {}
        Some(value) if value.text() == Some("0.0") => report.warn(
            "appspec-version-quoted",
            value.place,
            "`version` is the text `0.0`, the documentation asks for the number",
            "write `version: 0.0`, without quotes",
        ),
        Some(value) => report.refuse(
            "appspec-version",
            value.place,
            &format!("`version` is `{}`, expected 0.0", cut(&value.to_s())),
            "write `version: 0.0`, without quotes",
        ),
        None => report.refuse(
            "appspec-version",
            root.place,
            "the AppSpec has no `version`, expected 0.0",
            "write `version: 0.0`, without quotes",
        ),
    }
}

/// `Resources` is a list of one mapping with one key; a mapping in its place is taken too.
fn only_resource<'v>(resources: &'v Value, report: &mut Report<'_>) -> Option<&'v Value> {
    let named = match &resources.ruby {
        Ruby::List(items) => match items.as_slice() {
            [only] => only,
            _ => {
                return wrong_resources(
                    resources.place,
                    &format!("`Resources` has {} items", items.len()),
                    report,
                );
            }
        },
        _ => resources,
    };
    match &named.ruby {
        Ruby::Map(pairs) => match pairs.as_slice() {
            [(_, resource)] if matches!(resource.ruby, Ruby::Map(_)) => Some(resource),
            [(_, resource)] => wrong_resources(
                resource.place,
                &format!("the resource is {}", resource.kind()),
                report,
            ),
            _ => wrong_resources(
                named.place,
                &format!("`Resources` names {} resources", pairs.len()),
                report,
            ),
        },
        _ => wrong_resources(
            named.place,
            &format!("`Resources` holds {}", named.kind()),
            report,
        ),
    }
}

fn wrong_resources<'v>(place: Place, found: &str, report: &mut Report<'_>) -> Option<&'v Value> {
    report.refuse(
        "resources-not-one",
        place,
        &format!("{found}, expected one resource with `Type` and `Properties`"),
        "write one item below `Resources:`, such as `- TargetService:` with `Type` and `Properties`",
    );
    None
}

/// A required property with text or a number.
fn property(properties: &Value, key: &str, report: &mut Report<'_>) -> Option<String> {
    let value = get(properties, key);
    let written = match value.map(|value| &value.ruby) {
        Some(Ruby::Text(text)) if !text.trim().is_empty() => Some(text.clone()),
        Some(Ruby::Int(_, written)) => Some(written.clone()),
        _ => None,
    };
    if written.is_none() {
        let (place, found) = match value {
            Some(value) => (value.place, format!("is {}", value.kind())),
            None => (properties.place, "is missing".to_owned()),
        };
        report.refuse(
            "resource-property-missing",
            place,
            &format!("property `{key}` {found}, expected text"),
            &format!("write `{key}:` with its value below `Properties:`"),
        );
    }
    written
}

/// Versions are whole numbers; `$LATEST` cannot be shifted to.
fn function_version(
    properties: &Value,
    key: &str,
    required: bool,
    report: &mut Report<'_>,
) -> Option<String> {
    if !required && get(properties, key).is_none() {
        report.warn(
            "resource-current-version-missing",
            properties.place,
            "property `CurrentVersion` is missing: the reference asks for it, the template does not",
            "write the version that the alias points to now",
        );
        return None;
    }
    let version = property(properties, key, report)?;
    let is_number = version.bytes().all(|byte| byte.is_ascii_digit()) && !version.starts_with('0');
    if is_number {
        return Some(version);
    }
    report.refuse(
        "resource-property-invalid",
        get(properties, key).map_or(properties.place, |value| value.place),
        &format!(
            "property `{key}` is `{}`, expected a published version's number",
            cut(&version)
        ),
        "publish a version of the function and write its number",
    );
    None
}

fn check_task_definition(definition: &str, properties: &Value, report: &mut Report<'_>) {
    let place = get(properties, "TaskDefinition").map_or(properties.place, |value| value.place);
    if definition.starts_with('<') {
        report.refuse(
            "resource-property-invalid",
            place,
            &format!("property `TaskDefinition` is the placeholder `{}`, expected an ARN", cut(definition)),
            "write the task definition's ARN before uploading; only CodePipeline fills placeholders",
        );
    } else if !definition.starts_with("arn:") {
        report.warn(
            "resource-task-definition-no-arn",
            place,
            &format!(
                "property `TaskDefinition` is `{}`, the documentation asks for an ARN",
                cut(definition)
            ),
            "write the task definition's whole ARN with its revision",
        );
    }
}

fn load_balancer(properties: &Value, report: &mut Report<'_>) -> Option<(String, u16)> {
    let Some(info) =
        get(properties, "LoadBalancerInfo").filter(|value| matches!(value.ruby, Ruby::Map(_)))
    else {
        report.refuse(
            "resource-property-missing",
            properties.place,
            "property `LoadBalancerInfo` is missing, expected a mapping with `ContainerName` and \
             `ContainerPort`",
            "write which container and port take the traffic",
        );
        return None;
    };
    unknown_keys(
        info,
        &["ContainerName", "ContainerPort"],
        "`LoadBalancerInfo`",
        report,
    );
    let name = property(info, "ContainerName", report);
    let written = property(info, "ContainerPort", report)?;
    let port = written.parse::<u16>().ok().filter(|port| *port > 0);
    if port.is_none() {
        report.refuse(
            "resource-property-invalid",
            get(info, "ContainerPort").map_or(info.place, |value| value.place),
            &format!(
                "property `ContainerPort` is `{}`, expected 1 to 65535",
                cut(&written)
            ),
            "write the container's port as a number",
        );
    }
    name.zip(port)
}

/// A list of mappings, event to function; a mapping in its place is taken too.
fn hooks(value: Option<&Value>, known: &[&str], report: &mut Report<'_>) -> Vec<LifecycleFunction> {
    let Some(value) = value.filter(|value| value.ruby != Ruby::Nil) else {
        return Vec::new();
    };
    let maps: Vec<&Value> = match &value.ruby {
        Ruby::List(items) => items.iter().collect(),
        _ => vec![value],
    };
    let mut hooks = Vec::new();
    for map in maps {
        let Ruby::Map(pairs) = &map.ruby else {
            report.refuse(
                "hooks-not-a-list",
                map.place,
                &format!(
                    "`Hooks` holds {}, expected a lifecycle event and its function",
                    map.kind()
                ),
                "write `- BeforeAllowTraffic: \"my-function\"`",
            );
            continue;
        };
        for (event, function) in pairs {
            let name = event.to_s();
            let Some(known_name) = known.iter().find(|known| known.eq_ignore_ascii_case(&name))
            else {
                report.refuse(
                    "hook-unknown",
                    event.place,
                    &format!("`{}` is no lifecycle event of this platform", cut(&name)),
                    &format!("use one of {}", known.join(", ")),
                );
                continue;
            };
            match function.text().filter(|text| !text.trim().is_empty()) {
                Some(text) => hooks.push(LifecycleFunction {
                    event: (*known_name).to_owned(),
                    function: text.to_owned(),
                }),
                None => report.refuse(
                    "hook-function-missing",
                    function.place,
                    &format!(
                        "hook `{known_name}` is {}, expected a function's name",
                        function.kind()
                    ),
                    "write the name or ARN of a Lambda function",
                ),
            }
        }
    }
    hooks
}

fn unknown_keys(value: &Value, known: &[&str], of: &str, report: &mut Report<'_>) {
    let Ruby::Map(pairs) = &value.ruby else {
        return;
    };
    for (key, _) in pairs {
        let name = key.to_s();
        if !known.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
            report.warn(
                "appspec-unknown-key",
                key.place,
                &format!(
                    "{of} has a key `{}`, which CodeDeploy does not know",
                    cut(&name)
                ),
                &format!("take it out, or correct it to one of {}", known.join(", ")),
            );
        }
    }
}
