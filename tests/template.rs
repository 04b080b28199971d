//! The SAM template against everything that it has to agree with: the environment that the
//! functions read, the policies that people review, the events that the rules let through.
//!
//! The template is evaluated here as CloudFormation would (parameters, conditions, `Ref`, `Sub`,
//! `If`, `GetAtt`), with the same example values that `policies/` is written with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use stagedrop::configuration::{self, Configuration};
use stagedrop::entry::CONFIG_INVALID;
use stagedrop::fault::RetryReason;
use stagedrop::metrics::METRICS;
use stagedrop::yaml::{self, Node};

/// The example values of `policies/*.json`.
const EXAMPLE: [(&str, &str); 1] = [("ArtifactBucketName", "my-artifacts")];

/// A value for each parameter that changes what the policies name.
pub(crate) const EVERYTHING_APART: [(&str, &str); 5] = [
    ("ArtifactBucketName", "my-artifacts"),
    ("SettingsBucketName", "my-settings"),
    ("RevisionBucketName", "my-revisions"),
    ("CodeDeployRegion", "eu-central-1"),
    (
        "KmsKeyArn",
        "arn:aws:kms:us-east-1:123456789012:key/0a1b2c3d",
    ),
];

/// Policy file and where the template has the same document.
pub(crate) const POLICIES: [(&str, &str); 5] = [
    ("deploy", "/DeployRole/Properties/Policies/0/PolicyDocument"),
    ("record", "/RecordRole/Properties/Policies/0/PolicyDocument"),
    ("uploader", "/UploaderPolicy/Properties/PolicyDocument"),
    ("ci-reader", "/CiReaderPolicy/Properties/PolicyDocument"),
    ("instances", "/InstancesPolicy/Properties/PolicyDocument"),
];

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read_json(path: impl Into<PathBuf>) -> Value {
    let path = root().join(path.into());
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// YAML with CloudFormation's short forms as JSON with the long ones.
pub(crate) fn long_form(node: &Node) -> Value {
    let value = match &node.value {
        yaml::Value::Scalar { text, .. } => json!(text),
        yaml::Value::Sequence(items) => items.iter().map(long_form).collect(),
        yaml::Value::Mapping(pairs) => {
            let pairs = pairs.iter().map(|(key, value)| {
                (
                    key.as_str().expect("keys are text").to_owned(),
                    long_form(value),
                )
            });
            Value::Object(pairs.collect())
        }
        yaml::Value::Alias(name) => panic!("CloudFormation does not read the alias `*{name}`"),
    };
    match node.tag.as_deref() {
        Some("!Ref") => json!({ "Ref": value }),
        Some("!Condition") => json!({ "Condition": value }),
        Some("!GetAtt") => {
            let (resource, attribute) = value.as_str().unwrap().split_once('.').unwrap();
            json!({ "Fn::GetAtt": [resource, attribute] })
        }
        Some(tag) if tag.starts_with('!') && tag.len() > 1 => {
            json!({ format!("Fn::{}", &tag[1..]): value })
        }
        _ => value,
    }
}

/// The template, evaluated with parameters.
pub(crate) struct Stack {
    pub(crate) template: Value,
    names: BTreeMap<String, String>,
}

impl Stack {
    pub(crate) fn new(parameters: &[(&str, &str)]) -> Self {
        let text = std::fs::read(root().join("template.yaml")).unwrap();
        let documents = yaml::parse(&text, &yaml::Limits::default()).unwrap();
        assert_eq!(documents.len(), 1);
        let template = long_form(&documents[0]);
        let mut names: BTreeMap<String, String> = [
            ("AWS::Partition", "aws"),
            ("AWS::Region", "us-east-1"),
            ("AWS::AccountId", "123456789012"),
            ("AWS::StackName", "stagedrop"),
            ("AWS::URLSuffix", "amazonaws.com"),
            ("ArtifactBucket", "made-bucket"),
            ("DeployFunction", "stagedrop-deploy"),
            ("RecordFunction", "stagedrop-record"),
            ("DeployLogs", "/aws/lambda/stagedrop-deploy"),
            ("RecordLogs", "/aws/lambda/stagedrop-record"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        for (name, parameter) in template["Parameters"].as_object().unwrap() {
            let default = parameter["Default"]
                .as_str()
                .expect("each parameter has a default");
            names.insert(name.clone(), default.to_owned());
        }
        for (name, value) in parameters {
            let previous = names.insert((*name).to_owned(), (*value).to_owned());
            assert!(previous.is_some(), "template has no parameter `{name}`");
        }
        Self { template, names }
    }

    fn name(&self, name: &str) -> &str {
        self.names
            .get(name)
            .unwrap_or_else(|| panic!("nothing is named `{name}`"))
    }

    fn holds(&self, condition: &Value) -> bool {
        let (function, argument) = only_field(condition).expect("a condition is one function");
        match function {
            "Fn::Equals" => self.evaluate(&argument[0]) == self.evaluate(&argument[1]),
            "Fn::Not" => !self.holds(&argument[0]),
            "Condition" => self.holds_by_name(argument.as_str().unwrap()),
            other => panic!("condition function `{other}` is not evaluated here"),
        }
    }

    fn holds_by_name(&self, name: &str) -> bool {
        self.holds(&self.template["Conditions"][name])
    }

    /// The value without functions; `None` for `AWS::NoValue`.
    fn evaluate(&self, value: &Value) -> Option<Value> {
        match value {
            Value::Array(items) => Some(
                items
                    .iter()
                    .filter_map(|item| self.evaluate(item))
                    .collect(),
            ),
            Value::Object(fields) => match only_field(value) {
                Some(("Ref", name)) => match name.as_str().unwrap() {
                    "AWS::NoValue" => None,
                    name => Some(json!(self.name(name))),
                },
                Some(("Fn::If", arguments)) => {
                    let holds = self.holds_by_name(arguments[0].as_str().unwrap());
                    self.evaluate(&arguments[if holds { 1 } else { 2 }])
                }
                Some(("Fn::GetAtt", path)) => {
                    let [resource, attribute] = [0, 1].map(|part| path[part].as_str().unwrap());
                    Some(json!(self.attribute(resource, attribute)))
                }
                Some(("Fn::Split", arguments)) => {
                    let text = self.evaluate(&arguments[1]).unwrap();
                    let parts = text.as_str().unwrap().split(arguments[0].as_str().unwrap());
                    Some(parts.map(|part| json!(part)).collect())
                }
                Some(("Fn::Select", arguments)) => {
                    let position = arguments[0].as_str().unwrap().parse::<usize>().unwrap();
                    Some(self.evaluate(&arguments[1]).unwrap()[position].clone())
                }
                Some(("Fn::Sub", Value::String(text))) => {
                    Some(json!(self.substitute(text, &json!({}))))
                }
                Some(("Fn::Sub", arguments)) => {
                    let own = self.evaluate(&arguments[1]).unwrap();
                    Some(json!(self.substitute(arguments[0].as_str().unwrap(), &own)))
                }
                _ => {
                    let fields = fields.iter().filter_map(|(name, field)| {
                        self.evaluate(field).map(|field| (name.clone(), field))
                    });
                    Some(Value::Object(fields.collect::<Map<_, _>>()))
                }
            },
            scalar => Some(scalar.clone()),
        }
    }

    fn substitute(&self, text: &str, own: &Value) -> String {
        let mut parts = text.split("${");
        let mut result = parts.next().unwrap().to_owned();
        for part in parts {
            let (name, rest) = part.split_once('}').unwrap();
            match (own[name].as_str(), name.split_once('.')) {
                (Some(value), _) => result += value,
                (None, Some((resource, attribute))) => {
                    result += &self.attribute(resource, attribute)
                }
                (None, None) => result += self.name(name),
            }
            result += rest;
        }
        result
    }

    /// An attribute as `GetAtt` gives it.
    fn attribute(&self, resource: &str, attribute: &str) -> String {
        let resource = &self.template["Resources"][resource];
        let named = |property: &str| {
            let name = self.evaluate(&resource["Properties"][property]).unwrap();
            name.as_str().unwrap().to_owned()
        };
        let place = "us-east-1:123456789012";
        match (resource["Type"].as_str().unwrap(), attribute) {
            ("AWS::SQS::Queue", "QueueName") => named("QueueName"),
            ("AWS::SQS::Queue", "Arn") => format!("arn:aws:sqs:{place}:{}", named("QueueName")),
            ("AWS::Logs::LogGroup", "Arn") => {
                format!("arn:aws:logs:{place}:log-group:{}:*", named("LogGroupName"))
            }
            ("AWS::CloudWatch::Alarm", "Arn") => {
                format!("arn:aws:cloudwatch:{place}:alarm:{}", named("AlarmName"))
            }
            (kind, _) => panic!("`{attribute}` of a {kind} is not evaluated here"),
        }
    }

    /// What stands at a JSON pointer under `Resources`.
    pub(crate) fn resource(&self, pointer: &str) -> Value {
        let value = self.template["Resources"].pointer(pointer);
        self.evaluate(value.unwrap_or_else(|| panic!("template has no `{pointer}`")))
            .unwrap()
    }

    pub(crate) fn resources_of(&self, kind: &str) -> Vec<&str> {
        let resources = self.template["Resources"].as_object().unwrap();
        let found = resources
            .iter()
            .filter(|(_, resource)| resource["Type"] == kind);
        found.map(|(name, _)| name.as_str()).collect()
    }

    pub(crate) fn environment(&self) -> BTreeMap<String, String> {
        let variables = &self.template["Globals"]["Function"]["Environment"]["Variables"];
        let variables = self.evaluate(variables).unwrap();
        let variables = variables.as_object().unwrap().iter();
        variables
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
            .collect()
    }
}

fn only_field(value: &Value) -> Option<(&str, &Value)> {
    let fields = value.as_object().filter(|fields| fields.len() == 1)?;
    fields
        .iter()
        .next()
        .map(|(name, field)| (name.as_str(), field))
}

pub(crate) fn statements(policy: &Value) -> &[Value] {
    policy["Statement"].as_array().unwrap()
}

pub(crate) fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(items) => items.iter().map(|item| item.as_str().unwrap()).collect(),
        other => vec![other.as_str().unwrap()],
    }
}

/// Whether an EventBridge pattern lets an event through (literals and `prefix`, which is all that
/// the template uses).
pub(crate) fn lets_through(pattern: &Value, event: &Value) -> bool {
    // Of a list it is enough that one item fits.
    if let Value::Array(items) = event {
        return items.iter().any(|item| lets_through(pattern, item));
    }
    match pattern {
        Value::Object(fields) => fields
            .iter()
            .all(|(name, field)| lets_through(field, &event[name])),
        Value::Array(choices) => choices.iter().any(|choice| match only_field(choice) {
            Some(("prefix", prefix)) => event
                .as_str()
                .is_some_and(|text| text.starts_with(prefix.as_str().unwrap())),
            Some((other, _)) => panic!("pattern operator `{other}` is not evaluated here"),
            None => choice == event,
        }),
        other => panic!("pattern holds {other}"),
    }
}

#[test]
fn every_variable_of_the_functions_is_set() {
    let environment = Stack::new(&EXAMPLE).environment();
    let mut variables = configuration::VARIABLES;
    variables.sort_unstable();
    assert_eq!(
        environment.keys().map(String::as_str).collect::<Vec<_>>(),
        variables
    );
}

#[test]
fn the_functions_start_with_what_the_template_sets() {
    for (parameters, settings) in [
        (&[][..], "s3://made-bucket/settings/"),
        (&EXAMPLE[..], "s3://my-artifacts/settings/"),
        (&EVERYTHING_APART[..], "s3://my-settings/settings/"),
    ] {
        let environment = Stack::new(parameters).environment();
        let read = Configuration::read(|name| environment.get(name).cloned());
        let configuration = read.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(configuration.settings.to_string(), settings);
        assert_eq!(
            configuration.staging_key_pattern.static_prefix(),
            "staging/"
        );
    }
}

#[test]
fn the_policy_files_are_what_the_template_grants() {
    let stack = Stack::new(&EXAMPLE);
    for (file, pointer) in POLICIES {
        let written = read_json(format!("policies/{file}.json"));
        let granted = stack.resource(pointer);
        // Statement by statement, so that a difference is readable.
        for (written, granted) in statements(&written).iter().zip(statements(&granted)) {
            assert_eq!(written, granted, "policies/{file}.json, then the template");
        }
        assert_eq!(written, granted, "policies/{file}.json, then the template");
    }
    let files = std::fs::read_dir(root().join("policies")).unwrap().count();
    assert_eq!(
        files,
        POLICIES.len(),
        "each file in policies/ has its place in the template"
    );
}

#[test]
fn other_buckets_regions_and_keys_reach_the_policies() {
    let stack = Stack::new(&EVERYTHING_APART);
    let mut named = Vec::new();
    for (_, pointer) in POLICIES {
        let policy = stack.resource(pointer);
        let last = statements(&policy).last().unwrap();
        assert_eq!(last["Sid"], "UseKeyThroughS3", "{pointer}");
        assert_eq!(
            last["Condition"]["StringLike"]["kms:ViaService"],
            "s3.*.amazonaws.com"
        );
        named.extend(statements(&policy).iter().flat_map(|statement| {
            texts(&statement["Resource"])
                .into_iter()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        }));
    }
    for expected in [
        "arn:aws:s3:::my-artifacts",
        "arn:aws:s3:::my-artifacts/staging/*",
        "arn:aws:s3:::my-settings",
        "arn:aws:s3:::my-settings/settings/*",
        "arn:aws:s3:::my-revisions",
        "arn:aws:s3:::my-revisions/apps/*",
        "arn:aws:codedeploy:eu-central-1:123456789012:deploymentgroup:*/*",
    ] {
        assert!(
            named.iter().any(|resource| resource == expected),
            "{expected}: {named:#?}"
        );
    }
    for refused in [
        "my-artifacts/settings",
        "my-artifacts/apps",
        "codedeploy:us-east-1",
    ] {
        assert!(
            !named.iter().any(|resource| resource.contains(refused)),
            "{refused}: {named:#?}"
        );
    }
}

#[test]
fn printed_policies_use_the_key_as_the_template_grants_it() {
    let stack = Stack::new(&EVERYTHING_APART);
    let (_, key) = EVERYTHING_APART[4];
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("shop.yml");
    std::fs::write(&settings, crate::support::SETTINGS).unwrap();
    let printed = |more: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_stagedrop"))
            .args(["policy", "--settings"])
            .arg(&settings)
            .args(more)
            .output()
            .unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default()
    };
    let uses_key = |policy: &Value| {
        let mut found = statements(policy).iter();
        let found = found.find(|statement| statement["Sid"] == "UseKeyThroughS3");
        found.cloned()
    };
    let (with, without) = (printed(&["--kms-key", key]), printed(&[]));
    for (name, pointer) in POLICIES {
        let granted = uses_key(&stack.resource(pointer));
        assert!(granted.is_some(), "{name}");
        assert_eq!(uses_key(&with[name]), granted, "{name}");
        assert_eq!(uses_key(&without[name]), None, "{name}");
    }
    assert_eq!(printed(&["--kms-key", "alias/mine"]), Value::Null);
}

#[test]
fn nothing_is_granted_by_wildcard_but_what_has_no_resource() {
    // Service authorization reference: these actions support no resource-level permission.
    const WITHOUT_RESOURCE: [&str; 4] = [
        "codedeploy:BatchGetDeploymentTargets",
        "codedeploy:ListDeploymentTargets",
        "xray:PutTelemetryRecords",
        "xray:PutTraceSegments",
    ];
    let stack = Stack::new(&EVERYTHING_APART);
    for (file, pointer) in POLICIES {
        for statement in statements(&stack.resource(pointer)) {
            assert_eq!(statement["Effect"], "Allow");
            for action in texts(&statement["Action"]) {
                assert!(!action.contains('*'), "{file}: {action}");
                let is_everywhere = texts(&statement["Resource"]).contains(&"*");
                assert_eq!(
                    is_everywhere,
                    WITHOUT_RESOURCE.contains(&action),
                    "{file}: {action}"
                );
            }
        }
    }
}

#[test]
fn the_rules_let_through_what_the_functions_read() {
    let stack = Stack::new(&EXAMPLE);
    let staged =
        stack.resource("/DeployFunction/Properties/Events/StagedUpload/Properties/Pattern");
    let changed =
        stack.resource("/RecordFunction/Properties/Events/StateChange/Properties/Pattern");
    let mut seen = [0, 0];
    for file in std::fs::read_dir(root().join("events")).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let event = read_json(path);
        let expected = [
            name.starts_with("eventbridge-object-created"),
            name.starts_with("codedeploy-deployment-"),
        ];
        let found = [
            lets_through(&staged, &event),
            lets_through(&changed, &event),
        ];
        assert_eq!(found, expected, "{name}");
        seen[0] += usize::from(found[0]);
        seen[1] += usize::from(found[1]);
    }
    assert!(seen[0] >= 3 && seen[1] >= 5, "{seen:?}");

    let mut record = read_json("events/eventbridge-object-created.json");
    record["detail"]["object"]["key"] = json!("records/drops/staging/my-app.json");
    assert!(
        !lets_through(&staged, &record),
        "a record would start the function that wrote it"
    );
}

#[test]
fn each_function_is_built_from_its_binary_and_fails_into_its_queue() {
    let stack = Stack::new(&EXAMPLE);
    for (function, role, invoke, binary) in [
        (
            "DeployFunction",
            "DeployRole",
            "DeployInvokeConfig",
            "deploy",
        ),
        (
            "RecordFunction",
            "RecordRole",
            "RecordInvokeConfig",
            "record",
        ),
    ] {
        let resource = &stack.template["Resources"][function];
        assert_eq!(resource["Metadata"]["BuildProperties"]["Binary"], binary);
        assert!(root().join(format!("src/bin/{binary}.rs")).exists());
        assert_eq!(
            resource["Properties"]["Role"],
            json!({ "Fn::GetAtt": [role, "Arn"] })
        );
        assert_eq!(
            stack.resource(&format!(
                "/{invoke}/Properties/DestinationConfig/OnFailure/Destination"
            )),
            format!("arn:aws:sqs:us-east-1:123456789012:stagedrop-{binary}-failures")
        );
        for (name, event) in resource["Properties"]["Events"].as_object().unwrap() {
            let queue = &event["Properties"]["DeadLetterConfig"]["Arn"];
            assert_eq!(
                queue,
                &json!({ "Fn::GetAtt": ["UndeliveredEvents", "Arn"] }),
                "{name}"
            );
        }
    }
}

#[test]
fn each_queue_refuses_plain_text_and_rings_an_alarm() {
    let stack = Stack::new(&EXAMPLE);
    let resources = &stack.template["Resources"];
    let queues = stack.resources_of("AWS::SQS::Queue");
    assert_eq!(queues.len(), 3);
    for queue in queues {
        let reference = json!({ "Ref": queue });
        let policy = stack
            .resources_of("AWS::SQS::QueuePolicy")
            .into_iter()
            .find(|name| {
                resources[name]["Properties"]["Queues"]
                    .as_array()
                    .unwrap()
                    .contains(&reference)
            });
        let policy = &resources[policy.unwrap_or_else(|| panic!("{queue} has no policy"))];
        let statements = statements(&policy["Properties"]["PolicyDocument"]);
        assert!(statements.iter().any(|statement| {
            statement["Effect"] == "Deny"
                && statement["Condition"]["Bool"]["aws:SecureTransport"] == "false"
        }));
        let dimension = json!([{
            "Name": "QueueName", "Value": { "Fn::GetAtt": [queue, "QueueName"] },
        }]);
        let mut alarms = stack.resources_of("AWS::CloudWatch::Alarm").into_iter();
        assert!(
            alarms.any(|alarm| resources[alarm]["Properties"]["Dimensions"] == dimension),
            "{queue} rings no alarm"
        );
    }
}

#[test]
fn each_alarm_says_what_to_do_and_where() {
    let stack = Stack::new(&[("AlarmTopicArn", "arn:aws:sns:us-east-1:123456789012:alarms")]);
    let alarms = stack.resources_of("AWS::CloudWatch::Alarm");
    assert!(alarms.len() >= 8);
    for alarm in alarms {
        let properties = &stack.template["Resources"][alarm]["Properties"];
        let text = |name: &str| {
            let value = stack.evaluate(&properties[name]).unwrap_or_default();
            value.as_str().unwrap_or_default().to_owned()
        };
        assert!(text("AlarmName").starts_with("stagedrop-"), "{alarm}");
        assert!(text("AlarmDescription").len() > 80, "{alarm}");
        let actions = stack.evaluate(&properties["AlarmActions"]).unwrap();
        assert_eq!(
            actions,
            json!(["arn:aws:sns:us-east-1:123456789012:alarms"]),
            "{alarm}"
        );
    }
}

#[test]
fn an_alarm_rings_once_for_what_is_met_again_and_again() {
    let stack = Stack::new(&EXAMPLE);
    let resources = &stack.template["Resources"];
    let number = |value: &Value| -> u64 { value.as_str().unwrap().parse().unwrap() };
    let rate =
        resources["RecordFunction"]["Properties"]["Events"]["Clock"]["Properties"]["Schedule"]
            .as_str()
            .unwrap();
    assert_eq!(rate, "rate(5 minutes)");
    let tick = 5 * 60;
    // Lambda begins the third run two minutes after the second one has ended.
    let run = number(&stack.resource("/DeployFunction/Properties/Timeout")) + 2 * 60;
    for (alarm, every) in [
        ("FaultsToCureAlarm", tick),
        ("FailuresLostAlarm", tick),
        ("DeploySlowAlarm", run),
    ] {
        let properties = &resources[alarm]["Properties"];
        let metrics = properties["Metrics"].as_array().into_iter().flatten();
        let periods: Vec<u64> = metrics
            .map(|metric| &metric["MetricStat"]["Period"])
            .chain([&properties["Period"]])
            .filter(|period| !period.is_null())
            .map(number)
            .collect();
        let period = *periods.iter().min().unwrap();
        let window = period * number(&properties["EvaluationPeriods"]);
        // A window begins and ends with a period, which may hold none of it.
        assert!(window >= every + 2 * period, "{alarm}: {window} s");
        assert_eq!(number(&properties["DatapointsToAlarm"]), 1, "{alarm}");
        assert_eq!(properties["TreatMissingData"], "notBreaching", "{alarm}");
    }
    // A queue that nobody asks falls silent, full as it is.
    for alarm in [
        "DeployGaveUpAlarm",
        "RecordGaveUpAlarm",
        "EventsUndeliveredAlarm",
    ] {
        let properties = &resources[alarm]["Properties"];
        assert_eq!(properties["TreatMissingData"], "ignore", "{alarm}");
    }
}

/// The error types at which a function's log rings the alarm.
pub(crate) fn faults_to_cure(filter: &str) -> Vec<String> {
    let pattern = Stack::new(&EXAMPLE).resource(&format!("/{filter}/Properties/FilterPattern"));
    let pattern = pattern.as_str().unwrap().trim();
    let choices = pattern
        .strip_prefix("{ ")
        .and_then(|rest| rest.strip_suffix(" }"))
        .unwrap_or_else(|| panic!("{pattern} is no pattern over JSON"));
    let word = |choice: &str| {
        let word = choice.strip_prefix("$.error_type = ").unwrap();
        serde_json::from_str(word).unwrap()
    };
    choices.split(" || ").map(word).collect()
}

#[test]
fn an_alarm_rings_at_the_error_types_that_no_retry_cures() {
    let wanted = [
        RetryReason::AccessDenied.error_type(),
        RetryReason::AwsRefused.error_type(),
        RetryReason::RecordUnreadable.error_type(),
        RetryReason::Internal.error_type(),
        CONFIG_INVALID,
    ];
    let stack = Stack::new(&EXAMPLE);
    for function in ["Deploy", "Record"] {
        let filter = format!("{function}Faults");
        assert_eq!(faults_to_cure(&filter), wanted);
        let group = stack.resource(&format!("/{filter}/Properties/LogGroupName"));
        let logs = stack.resource(&format!(
            "/{function}Function/Properties/LoggingConfig/LogGroup"
        ));
        assert_eq!(group, logs);
    }
}

#[test]
fn the_dashboard_shows_every_alarm_and_queue() {
    let stack = Stack::new(&EXAMPLE);
    let body = stack.resource("/Dashboard/Properties/DashboardBody");
    let body: Value = serde_json::from_str(body.as_str().unwrap()).unwrap();
    let shown = body.to_string();
    for alarm in stack.resources_of("AWS::CloudWatch::Alarm") {
        let arn = stack.attribute(alarm, "Arn");
        assert!(
            shown.contains(&format!("\"{arn}\"")),
            "{alarm} is not shown"
        );
    }
    for queue in stack.resources_of("AWS::SQS::Queue") {
        let name = stack.attribute(queue, "QueueName");
        assert!(
            shown.contains(&format!("\"{name}\"")),
            "{queue} is not shown"
        );
    }
}

#[test]
fn outcomes_are_sent_on_with_the_one_right_that_their_destination_needs() {
    let own = |parameters: &[(&str, &str)]| {
        let stack = Stack::new(parameters);
        let policy = stack.resource("/RecordRole/Properties/Policies/0/PolicyDocument");
        let destination = stack.resource("/RecordInvokeConfig/Properties/DestinationConfig");
        let sends = statements(&policy)
            .iter()
            .filter(|statement| statement["Sid"] == "SendOutcomes")
            .map(|statement| (statement["Action"].clone(), statement["Resource"].clone()))
            .collect::<Vec<_>>();
        (sends, destination.get("OnSuccess").cloned())
    };
    assert_eq!(own(&[]), (Vec::new(), None));
    for (arn, action) in [
        ("arn:aws:sns:us-east-1:123456789012:outcomes", "sns:Publish"),
        (
            "arn:aws:sqs:us-east-1:123456789012:outcomes",
            "sqs:SendMessage",
        ),
        (
            "arn:aws:events:us-east-1:123456789012:event-bus/default",
            "events:PutEvents",
        ),
    ] {
        let (sends, destination) = own(&[("OutcomeDestinationArn", arn)]);
        assert_eq!(sends, [(json!(action), json!(arn))]);
        assert_eq!(destination, Some(json!({ "Destination": arn })));
    }
}

#[test]
fn the_functions_may_be_kept_to_applications_by_name() {
    let stack = Stack::new(&[("ApplicationNamePattern", "shop-*")]);
    for role in ["DeployRole", "RecordRole"] {
        let policy = stack.resource(&format!("/{role}/Properties/Policies/0/PolicyDocument"));
        let mut named = 0;
        for statement in statements(&policy) {
            for resource in texts(&statement["Resource"]) {
                let rest = resource.split(":123456789012:").nth(1).unwrap_or_default();
                if let Some(rest) = rest.strip_prefix("application:") {
                    assert_eq!(rest, "shop-*");
                    named += 1;
                }
                if let Some(rest) = rest.strip_prefix("deploymentgroup:") {
                    assert_eq!(rest, "shop-*/*");
                    named += 1;
                }
            }
        }
        assert_eq!(named, 2, "{role}");
    }
}

#[test]
fn dashboard_and_alarms_name_metrics_that_the_functions_write() {
    let stack = Stack::new(&EXAMPLE);
    let namespace = stack.environment()[configuration::METRICS_NAMESPACE].clone();
    let body = stack.resource("/Dashboard/Properties/DashboardBody");
    let body: Value = serde_json::from_str(body.as_str().unwrap()).unwrap();
    let mut shown = std::collections::BTreeSet::new();
    for widget in body["widgets"].as_array().unwrap() {
        for metric in widget["properties"]["metrics"]
            .as_array()
            .into_iter()
            .flatten()
        {
            if metric[0] == namespace.as_str() {
                let name = metric[1].as_str().unwrap();
                let known = METRICS.iter().find(|(known, ..)| *known == name);
                let (_, _, dimension) = known.unwrap_or_else(|| panic!("nobody writes {name}"));
                assert_eq!(metric[2].as_str(), *dimension, "{name}");
                shown.insert(name.to_owned());
            } else if let Some(search) = metric[0]["expression"].as_str() {
                assert!(search.contains(&format!(
                    "'{{\"{namespace}\",Code}} MetricName=\"RefusedBundles\"'"
                )));
                shown.insert("RefusedBundles".to_owned());
            }
        }
    }
    let all = METRICS
        .iter()
        .map(|(name, ..)| (*name).to_owned())
        .collect();
    assert_eq!(shown, all, "the dashboard shows each metric");
    let filtered = stack.resources_of("AWS::Logs::MetricFilter");
    let filtered: Vec<Value> = filtered
        .iter()
        .map(|filter| stack.resource(&format!("/{filter}/Properties/MetricTransformations/0")))
        .collect();
    let mut alarms = 0;
    for alarm in stack.resources_of("AWS::CloudWatch::Alarm") {
        let properties = &stack.template["Resources"][alarm]["Properties"];
        if stack.evaluate(&properties["Namespace"]) == Some(json!(namespace)) {
            let name = properties["MetricName"].as_str().unwrap();
            let is_written = METRICS
                .iter()
                .any(|(known, _, dimension)| *known == name && dimension.is_none());
            let is_filtered = filtered.iter().any(|metric| {
                metric["MetricName"] == name && metric["MetricNamespace"] == namespace.as_str()
            });
            assert!(is_written || is_filtered, "{alarm}");
            assert!(properties.get("Dimensions").is_none(), "{alarm}");
            alarms += 1;
        }
    }
    assert!(alarms >= 3);
}

#[test]
fn revisions_never_expire() {
    let stack = Stack::new(&[]);
    let rules = stack.resource("/ArtifactBucket/Properties/LifecycleConfiguration/Rules");
    let mut expiring = Vec::new();
    for rule in rules.as_array().unwrap() {
        let expires = rule
            .get("ExpirationInDays")
            .or_else(|| rule.get("NoncurrentVersionExpiration"));
        if expires.is_some() {
            expiring.push(
                rule["Prefix"]
                    .as_str()
                    .expect("an expiring rule has a prefix")
                    .to_owned(),
            );
        }
    }
    assert_eq!(expiring, ["staging/", "records/tmp/", "records/"]);
}

#[test]
fn the_upload_command_is_one_to_copy() {
    let stack = Stack::new(&EXAMPLE);
    let command = stack
        .evaluate(&stack.template["Outputs"]["UploadCommand"]["Value"])
        .unwrap();
    assert_eq!(
        command,
        "aws s3 cp artifact.zip \
         \"s3://my-artifacts/staging/{PROJECT}/{BRANCH}/{BUILD_NUM}-{COMMIT}.zip\" \
         --metadata \"repository={REPOSITORY},author={AUTHOR},build-url={BUILD_URL}\""
    );
}
