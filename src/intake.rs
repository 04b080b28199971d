//! What an invocation is about: event JSON in, [`Intake`] out.
//!
//! Owns the shapes of every event that the functions understand, the envelopes around them (SQS,
//! SNS, Lambda's own failure records) and the limits on both. Knows nothing of settings, of
//! records or of AWS calls: it neither decides whether a key is staged nor whether an object is
//! still there.
//!
//! ```text
//! EventBridge  Object Created ----------------------------+
//! S3           {"Records":[{"s3":…}]} ---------+          |
//! SNS          {"Records":[{"Sns":{"Message":"…"}}]} ---+ |
//! SQS          {"Records":[{"body":"…"}]} --+--+--------+-+--> one Notice for each record
//! Lambda       {"requestPayload":…} --------+
//! ```
//!
//! Reading never fails. A function that refused an unknown event would make Lambda retry it and
//! fill the failure queue with what nobody can cure; so what is not understood becomes
//! [`Notice::Ignored`] with a [`Reason`] that names what was seen. No record is lost on the way:
//! each ends in exactly one notice, its neighbours untouched.

mod s3;

use std::fmt;

use serde_json::Value;

use crate::deployment::{ApplicationName, DeploymentGroupName, DeploymentId, Region};
use crate::object::{BucketName, ETag, ObjectKey, VersionId};

pub use s3::compare_sequencers;

/// Most records that one `Records` array may hold; 10,000 is also SQS's largest batch.
pub const RECORDS_MAX: usize = 10_000;

/// Most envelopes around one event. S3 through SNS and SQS, retried out of a failure queue that is
/// itself read through SQS, needs four.
pub const ENVELOPES_MAX: usize = 5;

/// Most characters of foreign text that a [`Reason`] repeats.
pub const SEEN_CHARS_MAX: usize = 120;

/// What one invocation brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intake {
    /// Everything else: the invocation succeeds or fails as one.
    Direct(Vec<Notice>),
    /// SQS messages: each succeeds or fails for itself, by a partial batch response.
    Batch(Vec<BatchItem>),
}

/// One SQS message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchItem {
    /// `messageId`, which `batchItemFailures[].itemIdentifier` repeats for a message that failed.
    /// Empty where the message had none: Lambda reads an empty identifier as "the whole batch
    /// failed", so that nothing is lost even then.
    pub item_identifier: String,
    /// What the message held; never empty.
    pub notices: Vec<Notice>,
}

/// One thing that an event tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// An object was created.
    Staged(StagedArtifact),
    /// A deployment changed its state.
    StateChange(DeploymentStateChange),
    /// The clock rang.
    Schedule(Schedule),
    /// Nothing to do, and why.
    Ignored(Reason),
}

/// An object that S3 says was created. Whether its key is a staged one is not decided here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedArtifact {
    /// Bucket.
    pub bucket: BucketName,
    /// The readings of the key, likeliest first; never empty. S3's own notification is
    /// form-encoded and has one reading. EventBridge's key is raw on AWS and percent-encoded from
    /// some emulators: where decoding changes it, that is the second reading. The right one is
    /// the one whose object has the event's ETag or version.
    pub keys: Vec<ObjectKey>,
    /// Version, where the bucket is versioned.
    pub version_id: Option<VersionId>,
    /// ETag.
    pub etag: Option<ETag>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// Order among the events of this one key, see [`compare_sequencers`].
    pub sequencer: Option<String>,
    /// `reason` of EventBridge (`PutObject`) or `eventName` of S3 (`ObjectCreated:Put`).
    pub event_name: Option<String>,
    /// When S3 saw it: RFC 3339, as given.
    pub time: Option<String>,
}

/// `CodeDeploy Deployment State-change Notification`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentStateChange {
    /// Application.
    pub application: ApplicationName,
    /// Deployment group.
    pub deployment_group: DeploymentGroupName,
    /// Deployment.
    pub deployment_id: DeploymentId,
    /// `START`, `SUCCESS`, `FAILURE`, `STOP`, `READY`, or what CodeDeploy may say one day.
    pub state: String,
    /// Region.
    pub region: Option<Region>,
    /// When CodeDeploy said so: RFC 3339, as given.
    pub time: Option<String>,
}

/// `Scheduled Event`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// ARN of the rule or schedule that rang.
    pub rule: Option<String>,
    /// When it rang: RFC 3339, as given.
    pub time: Option<String>,
}

/// Why a record asks for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// S3's `s3:TestEvent`, sent when a notification is configured.
    TestEvent {
        /// The bucket, as given.
        bucket: Option<String>,
    },
    /// An event of S3 about something else than a new object: `ObjectRemoved:Delete`.
    OtherObjectEvent {
        /// Its name, as given.
        name: String,
    },
    /// CodeDeploy's notification about one instance; the deployment's own says what counts.
    InstanceStateChange,
    /// An event of somebody else, or none at all.
    Foreign {
        /// What it looks like.
        seen: String,
    },
    /// An event of the right kind that cannot be read.
    Unreadable {
        /// Which event.
        event: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// `Records` is empty.
    NoRecords,
    /// `Records` holds more than [`RECORDS_MAX`].
    TooManyRecords {
        /// How many.
        count: usize,
    },
    /// More than [`ENVELOPES_MAX`] envelopes, one in the other.
    TooManyEnvelopes,
}

impl Reason {
    /// A stable word for logs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Reason::TestEvent { .. } => "test-event",
            Reason::OtherObjectEvent { .. } => "other-object-event",
            Reason::InstanceStateChange => "instance-state-change",
            Reason::Foreign { .. } => "foreign-event",
            Reason::Unreadable { .. } => "unreadable-event",
            Reason::NoRecords => "no-records",
            Reason::TooManyRecords { .. } => "too-many-records",
            Reason::TooManyEnvelopes => "too-many-envelopes",
        }
    }

    fn unreadable(event: &'static str, problem: impl fmt::Display) -> Self {
        Reason::Unreadable {
            event,
            problem: problem.to_string(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::TestEvent {
                bucket: Some(bucket),
            } => {
                write!(
                    f,
                    "s3:TestEvent of bucket `{bucket}`, which tells that notifications work"
                )
            }
            Reason::TestEvent { bucket: None } => {
                f.write_str("s3:TestEvent, which tells that notifications work")
            }
            Reason::OtherObjectEvent { name } => {
                write!(f, "s3 event `{name}`, expected a created object")
            }
            Reason::InstanceStateChange => f.write_str(
                "codedeploy event about one instance, the deployment's own event is the one used",
            ),
            Reason::Foreign { seen } => write!(f, "event is not known: {seen}"),
            Reason::Unreadable { event, problem } => {
                write!(f, "{event} is not readable: {problem}")
            }
            Reason::NoRecords => f.write_str("event has an empty `Records` array"),
            Reason::TooManyRecords { count } => {
                write!(f, "event has {count} records, limit is {RECORDS_MAX}")
            }
            Reason::TooManyEnvelopes => {
                write!(f, "event lies in more than {ENVELOPES_MAX} envelopes")
            }
        }
    }
}

/// Reads an event.
///
/// ```
/// use stagedrop::intake::{Intake, Notice, read_event};
///
/// let event = serde_json::json!({ "Event": "s3:TestEvent", "Bucket": "my-artifacts" });
/// let Intake::Direct(notices) = read_event(&event) else { unreachable!() };
/// assert!(matches!(notices.as_slice(), [Notice::Ignored(reason)] if reason.code() == "test-event"));
/// ```
pub fn read_event(event: &Value) -> Intake {
    match event.get("Records") {
        Some(Value::Array(records))
            if records.len() <= RECORDS_MAX && records.first().is_some_and(is_sqs_message) =>
        {
            Intake::Batch(records.iter().map(read_batch_item).collect())
        }
        _ => Intake::Direct(read_notices(event, 0)),
    }
}

fn read_batch_item(message: &Value) -> BatchItem {
    BatchItem {
        item_identifier: text(message, "/messageId").unwrap_or_default().to_owned(),
        notices: read_record(message, 0),
    }
}

/// The notices of one event; `envelopes` are already opened around it.
fn read_notices(event: &Value, envelopes: usize) -> Vec<Notice> {
    if envelopes > ENVELOPES_MAX {
        return ignored(Reason::TooManyEnvelopes);
    }
    if let Some(Value::Array(records)) = event.get("Records") {
        return match records.len() {
            0 => ignored(Reason::NoRecords),
            count if count > RECORDS_MAX => ignored(Reason::TooManyRecords { count }),
            _ => records
                .iter()
                .flat_map(|record| read_record(record, envelopes))
                .collect(),
        };
    }
    if text(event, "/Event") == Some("s3:TestEvent") {
        return ignored(Reason::TestEvent {
            bucket: text(event, "/Bucket").map(shortened),
        });
    }
    if let (Some(source), Some(detail_type)) = (text(event, "/source"), text(event, "/detail-type"))
    {
        return vec![read_eventbridge(event, source, detail_type)];
    }
    // What SNS puts into SQS and what it posts elsewhere; Lambda gets it inside `Records`.
    if let (Some("Notification"), Some(message)) = (text(event, "/Type"), text(event, "/Message")) {
        return read_text(message, "sns message", envelopes);
    }
    // Lambda's record of an invocation that failed, as an on-failure destination gets it: so that a
    // failure queue can be fed back as it is.
    if let (Some(payload), Some(_)) = (event.get("requestPayload"), event.get("requestContext")) {
        return read_notices(payload, envelopes + 1);
    }
    ignored(Reason::Foreign {
        seen: describe(event),
    })
}

/// The notices of one element of `Records`.
fn read_record(record: &Value, envelopes: usize) -> Vec<Notice> {
    if is_sqs_message(record) {
        return match text(record, "/body") {
            Some(body) => read_text(body, "sqs message", envelopes),
            None => ignored(Reason::unreadable("sqs message", "`body` is missing")),
        };
    }
    if record.get("Sns").is_some() {
        return match text(record, "/Sns/Message") {
            Some(message) => read_text(message, "sns message", envelopes),
            None => ignored(Reason::unreadable(
                "sns message",
                "`Sns.Message` is missing",
            )),
        };
    }
    if record.get("s3").is_some() {
        return vec![s3::read_notification(record)];
    }
    ignored(Reason::Foreign {
        seen: describe(record),
    })
}

fn read_text(json: &str, event: &'static str, envelopes: usize) -> Vec<Notice> {
    match serde_json::from_str::<Value>(json) {
        Ok(inner) => read_notices(&inner, envelopes + 1),
        Err(error) => ignored(Reason::unreadable(event, format_args!("not JSON: {error}"))),
    }
}

fn read_eventbridge(event: &Value, source: &str, detail_type: &str) -> Notice {
    match (source, detail_type) {
        ("aws.s3", "Object Created") => s3::read_object_created(event),
        ("aws.s3", other) => Notice::Ignored(Reason::OtherObjectEvent {
            name: shortened(other),
        }),
        ("aws.codedeploy", "CodeDeploy Deployment State-change Notification") => {
            read_state_change(event)
        }
        ("aws.codedeploy", "CodeDeploy Instance State-change Notification") => {
            Notice::Ignored(Reason::InstanceStateChange)
        }
        // A rule with a schedule, and EventBridge Scheduler.
        ("aws.events" | "aws.scheduler", "Scheduled Event") => Notice::Schedule(Schedule {
            rule: text(event, "/resources/0").map(str::to_owned),
            time: text(event, "/time").map(str::to_owned),
        }),
        _ => Notice::Ignored(Reason::Foreign {
            seen: describe(event),
        }),
    }
}

fn read_state_change(event: &Value) -> Notice {
    const EVENT: &str = "codedeploy event";
    let read = || -> Result<DeploymentStateChange, Reason> {
        Ok(DeploymentStateChange {
            application: parsed(event, "/detail/application", EVENT)?,
            deployment_group: parsed(event, "/detail/deploymentGroup", EVENT)?,
            deployment_id: parsed(event, "/detail/deploymentId", EVENT)?,
            state: required(event, "/detail/state", EVENT)?.to_owned(),
            region: text(event, "/detail/region")
                .or_else(|| text(event, "/region"))
                .and_then(|region| region.parse().ok()),
            time: text(event, "/time").map(str::to_owned),
        })
    };
    read().map_or_else(Notice::Ignored, Notice::StateChange)
}

fn ignored(reason: Reason) -> Vec<Notice> {
    vec![Notice::Ignored(reason)]
}

fn is_sqs_message(record: &Value) -> bool {
    text(record, "/eventSource") == Some("aws:sqs")
}

/// The text at a JSON pointer, if there is one and it is not empty.
fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
}

fn required<'a>(
    value: &'a Value,
    pointer: &'static str,
    event: &'static str,
) -> Result<&'a str, Reason> {
    text(value, pointer)
        .ok_or_else(|| Reason::unreadable(event, format_args!("`{}` is missing", dotted(pointer))))
}

fn parsed<T>(value: &Value, pointer: &'static str, event: &'static str) -> Result<T, Reason>
where
    T: std::str::FromStr,
    T::Err: fmt::Display,
{
    required(value, pointer, event)?
        .parse()
        .map_err(|error| Reason::unreadable(event, format_args!("`{}`: {error}", dotted(pointer))))
}

/// `/detail/bucket/name` as a person writes it: `detail.bucket.name`.
fn dotted(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}

/// What an unknown event looks like, for the person who wonders why nothing happened.
fn describe(event: &Value) -> String {
    let origin = [
        "/source",
        "/detail-type",
        "/eventSource",
        "/EventSource",
        "/eventName",
        "/Type",
    ];
    let mut seen: Vec<String> = origin
        .iter()
        .filter_map(|pointer| {
            text(event, pointer).map(|value| format!("{} `{}`", dotted(pointer), shortened(value)))
        })
        .collect();
    if seen.is_empty() {
        seen.push(match event {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "a boolean".to_owned(),
            Value::Number(_) => "a number".to_owned(),
            Value::String(_) => "a string".to_owned(),
            Value::Array(elements) => format!("an array of {}", elements.len()),
            Value::Object(fields) if fields.is_empty() => "an empty object".to_owned(),
            Value::Object(fields) => {
                let names: Vec<&str> = fields.keys().take(8).map(String::as_str).collect();
                format!(
                    "an object with the fields `{}`",
                    shortened(&names.join(", "))
                )
            }
        });
    }
    seen.join(", ")
}

/// Foreign text on one line, cut to [`SEEN_CHARS_MAX`].
fn shortened(text: &str) -> String {
    let printable = |c: char| {
        if c.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    let mut line: String = text.chars().map(printable).take(SEEN_CHARS_MAX).collect();
    if text.chars().nth(SEEN_CHARS_MAX).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const KEY: &str = "staging/my-app/master/47-0f1e2d3c4b5a69788796a5b4c3d2e1f009182736.zip";
    const SPECIAL_KEY: &str =
        "staging/my-app/feature/a+b %/48-1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d.tar.gz";

    macro_rules! event {
        ($name:literal) => {
            serde_json::from_str::<Value>(include_str!(concat!("../events/", $name, ".json")))
                .unwrap()
        };
    }

    fn all_events() -> Vec<Value> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/events");
        let files = std::fs::read_dir(folder).unwrap();
        let texts = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
        texts
            .map(|text| serde_json::from_str(&text).unwrap())
            .collect()
    }

    #[track_caller]
    fn direct(event: &Value) -> Vec<Notice> {
        match read_event(event) {
            Intake::Direct(notices) => notices,
            Intake::Batch(items) => panic!("a batch of {}", items.len()),
        }
    }

    #[track_caller]
    fn batch(event: &Value) -> Vec<BatchItem> {
        match read_event(event) {
            Intake::Batch(items) => items,
            Intake::Direct(notices) => panic!("{} direct notices", notices.len()),
        }
    }

    #[track_caller]
    fn staged(notices: &[Notice]) -> &StagedArtifact {
        match notices {
            [Notice::Staged(artifact)] => artifact,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn reason(notices: &[Notice]) -> &Reason {
        match notices {
            [Notice::Ignored(reason)] => reason,
            other => panic!("{other:?}"),
        }
    }

    fn keys(artifact: &StagedArtifact) -> Vec<&str> {
        artifact.keys.iter().map(ObjectKey::as_str).collect()
    }

    /// The object that most of the events are about, through whichever envelope.
    #[track_caller]
    fn assert_is_build_47(artifact: &StagedArtifact) {
        assert_eq!(artifact.bucket.as_str(), "my-artifacts");
        assert_eq!(keys(artifact), [KEY]);
        let version = artifact.version_id.as_ref().map(VersionId::as_str);
        assert_eq!(version, Some("IYV3p45BT0ac8hjHg1houSdS1a.Mro8e"));
        assert_eq!(
            artifact.etag,
            Some("b1946ac92492d2347c6235b4d2611184".into())
        );
        assert_eq!(artifact.size, Some(734_003));
        assert_eq!(artifact.sequencer.as_deref(), Some("00617F08299329D189"));
        assert!(
            artifact
                .time
                .as_deref()
                .is_some_and(|time| time.starts_with("2026-03-12T09:41:30"))
        );
    }

    #[test]
    fn ok_one_object_is_the_same_through_every_envelope() {
        assert_is_build_47(staged(&direct(&event!("eventbridge-object-created"))));
        assert_is_build_47(staged(&direct(&event!("s3-notification"))));
        assert_is_build_47(staged(&direct(&event!("sns-s3-notification"))));
        assert_is_build_47(staged(&direct(&event!("lambda-failure-destination"))));
        for event in [
            event!("sqs-eventbridge-object-created"),
            event!("sqs-sns-s3-notification"),
        ] {
            let items = batch(&event);
            assert_eq!(items.len(), 1);
            assert_eq!(
                items[0].item_identifier,
                "059f36b4-87a3-44ab-83d2-661975000001"
            );
            assert_is_build_47(staged(&items[0].notices));
        }
    }

    #[test]
    fn ok_eventbridge_keys_are_read_raw_first_then_decoded() {
        let notices = direct(&event!("eventbridge-object-created-multipart"));
        // `b %/4` holds no percent encoding, so that there is one reading.
        assert_eq!(keys(staged(&notices)), [SPECIAL_KEY]);
        assert_eq!(
            staged(&notices).event_name.as_deref(),
            Some("CompleteMultipartUpload")
        );

        let notices = direct(&event!("eventbridge-object-created-encoded-key"));
        let artifact = staged(&notices);
        assert_eq!(
            keys(artifact),
            [
                "staging/my-app/feature/a%2Bb%20c/49-2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e.zip",
                "staging/my-app/feature/a+b c/49-2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e.zip",
            ]
        );
        assert_eq!(artifact.version_id, None);
    }

    #[test]
    fn ok_each_record_of_a_notification_has_its_notice() {
        let notices = direct(&event!("s3-notification-several-records"));
        let [
            Notice::Staged(first),
            Notice::Ignored(reason),
            Notice::Staged(last),
        ] = notices.as_slice()
        else {
            panic!("{notices:?}");
        };
        assert_is_build_47(first);
        assert_eq!(
            reason.to_string(),
            "s3 event `ObjectRemoved:DeleteMarkerCreated`, expected a created object"
        );
        assert_eq!(keys(last), [SPECIAL_KEY]);
        assert_eq!(last.version_id, None);
    }

    #[test]
    fn ok_a_bad_message_leaves_its_neighbours_alone() {
        let items = batch(&event!("sqs-s3-notification"));
        assert_eq!(items.len(), 3);
        assert_is_build_47(staged(&items[0].notices));
        assert_eq!(reason(&items[1].notices).code(), "unreadable-event");
        assert!(
            reason(&items[1].notices)
                .to_string()
                .starts_with("sqs message is not readable: not JSON: EOF")
        );
        assert_eq!(keys(staged(&items[2].notices)), [SPECIAL_KEY]);
        assert_eq!(
            items[2].item_identifier,
            "059f36b4-87a3-44ab-83d2-661975000003"
        );
    }

    #[test]
    fn ok_every_deployment_state_is_kept_as_it_is() {
        let mut strange = event!("codedeploy-deployment-stop");
        strange["detail"]["state"] = json!("PAUSED");
        for (event, state) in [
            (event!("codedeploy-deployment-start"), "START"),
            (event!("codedeploy-deployment-success"), "SUCCESS"),
            (event!("codedeploy-deployment-failure"), "FAILURE"),
            (event!("codedeploy-deployment-stop"), "STOP"),
            (event!("codedeploy-deployment-ready"), "READY"),
            (strange, "PAUSED"),
        ] {
            let expected = DeploymentStateChange {
                application: "my-app".parse().unwrap(),
                deployment_group: "production-instances".parse().unwrap(),
                deployment_id: "d-75I7MBT7C".parse().unwrap(),
                state: state.to_owned(),
                region: Some("us-east-1".parse().unwrap()),
                time: Some("2026-03-12T09:43:04Z".to_owned()),
            };
            assert_eq!(direct(&event), [Notice::StateChange(expected)]);
        }
    }

    #[test]
    fn ok_the_schedule_names_its_rule() {
        let expected = Schedule {
            rule: Some(
                "arn:aws:events:us-east-1:123456789012:rule/stagedrop-record-schedule".into(),
            ),
            time: Some("2026-03-12T09:45:00Z".into()),
        };
        assert_eq!(
            direct(&event!("scheduled-event")),
            [Notice::Schedule(expected)]
        );
    }

    #[test]
    fn ok_test_events_are_ignored_in_every_envelope() {
        let expected = Reason::TestEvent {
            bucket: Some("my-artifacts".into()),
        };
        assert_eq!(reason(&direct(&event!("s3-test-event"))), &expected);
        assert_eq!(reason(&direct(&event!("sns-s3-test-event"))), &expected);
        assert_eq!(
            reason(&batch(&event!("sqs-s3-test-event"))[0].notices),
            &expected
        );
    }

    #[test]
    fn ok_optional_fields_may_be_missing() {
        let mut event = event!("eventbridge-object-created");
        event["detail"] = json!({
            "bucket": { "name": "my-artifacts" }, "object": { "key": KEY, "size": "12" },
        });
        let expected = StagedArtifact {
            bucket: "my-artifacts".parse().unwrap(),
            keys: vec![KEY.parse().unwrap()],
            version_id: None,
            etag: None,
            size: Some(12),
            sequencer: None,
            event_name: None,
            time: Some("2026-03-12T09:41:30Z".into()),
        };
        assert_eq!(direct(&event), [Notice::Staged(expected)]);

        let bare = json!({ "Records": [{
            "eventSource": "minio:s3", "eventName": "s3:ObjectCreated:Put",
            "s3": { "bucket": { "name": "my-artifacts" }, "object": { "key": "a%20b.zip" } },
        }] });
        assert_eq!(keys(staged(&direct(&bare))), ["a b.zip"]);
    }

    #[test]
    fn err_foreign_events_are_ignored_by_name() {
        let text = |event: Value| reason(&direct(&event)).to_string();
        assert_eq!(
            text(event!("eventbridge-foreign")),
            "event is not known: source `aws.ec2`, detail-type `EC2 Instance State-change Notification`"
        );
        assert_eq!(
            text(event!("codedeploy-instance-failure")),
            "codedeploy event about one instance, the deployment's own event is the one used"
        );
        assert_eq!(text(json!(null)), "event is not known: null");
        assert_eq!(text(json!([1, 2])), "event is not known: an array of 2");
        assert_eq!(text(json!({})), "event is not known: an empty object");
        assert_eq!(
            text(json!({ "b": 1, "a\n": 2 })),
            "event is not known: an object with the fields `a\u{fffd}, b`"
        );
        assert_eq!(
            text(json!({ "Records": [] })),
            "event has an empty `Records` array"
        );
        assert_eq!(
            text(json!({ "Records": [{ "eventSource": "aws:kinesis" }] })),
            "event is not known: eventSource `aws:kinesis`"
        );
        assert_eq!(
            text(json!({ "Type": "SubscriptionConfirmation", "Message": "…" })),
            "event is not known: Type `SubscriptionConfirmation`"
        );
        let deleted = json!({ "source": "aws.s3", "detail-type": "Object Deleted", "detail": {} });
        assert_eq!(
            text(deleted),
            "s3 event `Object Deleted`, expected a created object"
        );
    }

    #[test]
    fn err_unreadable_events_say_which_field() {
        let mut created = event!("eventbridge-object-created");
        created["detail"]["bucket"]["name"] = json!("My_Bucket");
        assert_eq!(
            reason(&direct(&created)).to_string(),
            "s3 event `Object Created` is not readable: `detail.bucket.name`: bucket name \
             `My_Bucket` is not valid: 3 to 63 of a-z, 0-9, `.` and `-`, beginning and ending with \
             a letter or digit"
        );
        let mut change = event!("codedeploy-deployment-failure");
        change["detail"]["deploymentId"] = json!(7);
        assert_eq!(
            reason(&direct(&change)).to_string(),
            "codedeploy event is not readable: `detail.deploymentId` is missing"
        );
        let mut notification = event!("s3-notification");
        notification["Records"][0]["s3"]["object"]["key"] = json!("%FF");
        assert_eq!(
            reason(&direct(&notification)).to_string(),
            "s3 notification is not readable: key `%FF` does not decode to UTF-8"
        );
    }

    #[test]
    fn err_envelopes_and_records_have_limits() {
        let mut event = event!("eventbridge-object-created");
        for _ in 0..ENVELOPES_MAX {
            event = json!({ "Type": "Notification", "Message": event.to_string() });
        }
        assert_is_build_47(staged(&direct(&event)));
        let event = json!({ "Type": "Notification", "Message": event.to_string() });
        assert_eq!(reason(&direct(&event)), &Reason::TooManyEnvelopes);

        for (source, kind) in [("aws:sqs", "sqs"), ("aws:s3", "s3")] {
            let records = vec![json!({ "eventSource": source }); RECORDS_MAX];
            let count = match read_event(&json!({ "Records": records })) {
                Intake::Direct(notices) => notices.len(),
                Intake::Batch(items) => items.len(),
            };
            assert_eq!(count, RECORDS_MAX, "{kind}");
            let records = vec![json!({ "eventSource": source }); RECORDS_MAX + 1];
            let notices = direct(&json!({ "Records": records }));
            assert_eq!(
                reason(&notices),
                &Reason::TooManyRecords {
                    count: RECORDS_MAX + 1
                }
            );
        }
    }

    /// All JSON pointers into `value`.
    fn pointers(value: &Value, here: String, found: &mut Vec<String>) {
        let step = |name: &str| format!("{here}/{}", name.replace('~', "~0").replace('/', "~1"));
        match value {
            Value::Array(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    pointers(element, step(&index.to_string()), found);
                }
            }
            Value::Object(fields) => {
                for (name, field) in fields {
                    pointers(field, step(name), found);
                }
            }
            _ => {}
        }
        found.push(here);
    }

    #[test]
    fn ok_any_field_may_hold_anything() {
        let strange = [
            json!(null),
            json!(-1),
            json!(""),
            json!("%"),
            json!([]),
            json!([{}]),
            json!({}),
        ];
        let events = all_events();
        assert!(events.len() > 20);
        for event in events {
            let mut found = Vec::new();
            pointers(&event, String::new(), &mut found);
            for pointer in found {
                for replacement in &strange {
                    let mut event = event.clone();
                    *event.pointer_mut(&pointer).unwrap() = replacement.clone();
                    let records = event["Records"].as_array().map_or(0, Vec::len);
                    match read_event(&event) {
                        Intake::Direct(notices) => assert!(notices.len() >= records.max(1)),
                        Intake::Batch(items) => {
                            assert_eq!(items.len(), records);
                            assert!(items.iter().all(|item| !item.notices.is_empty()));
                        }
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn ok_reasons_stay_short_and_on_one_line(name in any::<String>(), value in any::<String>()) {
            let mut event = json!({ "source": value.clone() });
            event[name] = json!(value);
            if let Intake::Direct(notices) = read_event(&event)
                && let [Notice::Ignored(reason)] = notices.as_slice()
            {
                let text = reason.to_string();
                prop_assert!(text.chars().count() < 400 && !text.contains(char::is_control));
            }
        }
    }
}
