//! The tree of a settings file to blocks and applications.
//!
//! Owns which keys there are and what each may hold. One language for the project's file and for
//! `circle.yml`; blocks of CircleCI 1.0 are read as they were written then.

use super::name_pattern::{Alternative, NamePattern, NamePatternError};
use super::reading::{Field, Located, Reader};
use super::values::{ApplicationRoot, BundleChoice, Exclude, Order, Queue, RevisionTarget, Verify};
use crate::deployment::{
    ApplicationName, AutoRollbackEvent, DeploymentConfigName, DeploymentGroupName,
    FileExistsBehavior, Region, RepositoryName,
};
use crate::finding::Finding;
use crate::key_pattern::{KeyPattern, TextPattern};
use crate::object::BucketName;
use crate::yaml::{Node, Place};

/// Most regular expressions of one file: each is compiled at reading.
pub const EXPRESSIONS_MAX: usize = 32;

/// What CircleCI 1.0 carried out in a deployment block and we do not.
const NOT_CARRIED_OUT: [&str; 2] = ["commands", "heroku"];

const BLOCK_KEYS: [&str; 4] = ["branch", "tag", "owner", "codedeploy"];

const APPLICATION_KEYS: [&str; 15] = [
    "application_root",
    "revision_location",
    "region",
    "deployment_group",
    "deployment_config",
    "description",
    "file_exists_behavior",
    "ignore_application_stop_failures",
    "update_outdated_instances_only",
    "auto_rollback",
    "exclude",
    "bundle_type",
    "order",
    "queue",
    "verify",
];

/// One subsection of `deployment:`.
#[derive(Debug, Clone)]
pub struct Block {
    /// Its name, which means nothing.
    pub name: String,
    /// Where the name stands.
    pub place: Place,
    /// Which branch builds it is for.
    pub branch: Option<Located<NamePattern>>,
    /// Which tag builds it is for.
    pub tag: Option<Located<NamePattern>>,
    /// The only owner of the repository that it is for.
    pub owner: Option<Located<String>>,
    /// What it deploys, in the order of the text; empty where it has no `codedeploy:`.
    pub applications: Vec<ApplicationSettings>,
    /// What stands in it and is not carried out.
    pub warnings: Vec<Finding>,
}

/// What a file says of one application, in a block or project-wide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplicationSettings {
    /// Its name in CodeDeploy.
    pub name: ApplicationName,
    /// Where the name stands.
    pub place: Place,
    /// `application_root`.
    pub application_root: Option<Located<ApplicationRoot>>,
    /// `revision_location`.
    pub revision_location: Option<Located<RevisionTarget>>,
    /// `region`.
    pub region: Option<Located<Region>>,
    /// `deployment_group`; only in a block.
    pub deployment_group: Option<Located<DeploymentGroupName>>,
    /// `deployment_config`.
    pub deployment_config: Option<Located<DeploymentConfigName>>,
    /// `description`.
    pub description: Option<Located<TextPattern>>,
    /// `file_exists_behavior`.
    pub file_exists_behavior: Option<Located<FileExistsBehavior>>,
    /// `ignore_application_stop_failures`.
    pub ignore_application_stop_failures: Option<Located<bool>>,
    /// `update_outdated_instances_only`.
    pub update_outdated_instances_only: Option<Located<bool>>,
    /// `auto_rollback`; empty switches it off.
    pub auto_rollback: Option<Located<Vec<AutoRollbackEvent>>>,
    /// `exclude`.
    pub exclude: Option<Located<Exclude>>,
    /// `bundle_type`.
    pub bundle_type: Option<Located<BundleChoice>>,
    /// `order`.
    pub order: Option<Located<Order>>,
    /// `queue`.
    pub queue: Option<Located<Queue>>,
    /// `verify`.
    pub verify: Option<Located<Verify>>,
}

impl ApplicationSettings {
    fn empty(name: ApplicationName, place: Place) -> Self {
        Self {
            name,
            place,
            application_root: None,
            revision_location: None,
            region: None,
            deployment_group: None,
            deployment_config: None,
            description: None,
            file_exists_behavior: None,
            ignore_application_stop_failures: None,
            update_outdated_instances_only: None,
            auto_rollback: None,
            exclude: None,
            bundle_type: None,
            order: None,
            queue: None,
            verify: None,
        }
    }
}

/// Where a `codedeploy:` map stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Block,
    ProjectWide,
}

/// Reads `deployment:`; the blocks in the order of the text.
pub(super) fn read_deployment(reader: &mut Reader<'_>, node: &Node) -> Vec<Block> {
    let mut expressions = 0;
    let fields = reader.fields(node, "deployment").unwrap_or_default();
    fields
        .iter()
        .filter_map(|field| read_block(reader, field, &mut expressions))
        .collect()
}

fn read_block(
    reader: &mut Reader<'_>,
    block: &Field<'_>,
    expressions: &mut usize,
) -> Option<Block> {
    let path = format!("deployment.{}", block.name);
    let fields = reader.fields(block.value, &path)?;
    let mut read = Block {
        name: block.name.to_owned(),
        place: block.key.place,
        branch: None,
        tag: None,
        owner: None,
        applications: Vec::new(),
        warnings: Vec::new(),
    };
    for field in &fields {
        let path = format!("{path}.{}", field.name);
        match field.name {
            "branch" => read.branch = read_names(reader, &path, field.value, expressions),
            "tag" => read.tag = read_names(reader, &path, field.value, expressions),
            "owner" => {
                let owner = reader.text(&path, field.value);
                read.owner = owner.map(|owner| Located {
                    value: owner.value.to_owned(),
                    place: owner.place,
                });
            }
            "codedeploy" => {
                read.applications = read_applications(reader, &path, field.value, Scope::Block);
            }
            other if NOT_CARRIED_OUT.contains(&other) => {
                read.warnings.push(
                    Finding::warn(
                        "settings-not-carried-out",
                        format!("key `{path}` is not carried out"),
                        "move what it does into the AppSpec's hooks or into the CI job",
                    )
                    .in_file(reader.file)
                    .at(field.key.place.line, field.key.place.column),
                );
            }
            _ => reader.unknown_key(field, &format!("deployment.{}", block.name), &BLOCK_KEYS),
        }
    }
    // Beside an unknown key this would tell a misspelt `branch` twice.
    let is_known = |field: &Field<'_>| {
        BLOCK_KEYS.contains(&field.name) || NOT_CARRIED_OUT.contains(&field.name)
    };
    let names_refs = |field: &Field<'_>| matches!(field.name, "branch" | "tag");
    if !fields.iter().any(names_refs) && fields.iter().all(is_known) {
        reader.refuse(
            "settings-missing-key",
            block.key.place,
            format!("block `{path}` names neither `branch` nor `tag`"),
            "say which branch or tag it deploys; `branch: /.*/` means every branch".to_owned(),
        );
    }
    Some(read)
}

fn read_names(
    reader: &mut Reader<'_>,
    path: &str,
    node: &Node,
    expressions: &mut usize,
) -> Option<Located<NamePattern>> {
    let texts = reader.texts(path, node)?;
    if texts.is_empty() {
        reader.refuse(
            "settings-wrong-type",
            node.place,
            format!("key `{path}` is an empty list, expected names"),
            "write at least one name".to_owned(),
        );
        return None;
    }
    let mut alternatives = Vec::with_capacity(texts.len());
    let mut all_good = true;
    for text in texts {
        *expressions += usize::from(text.value.starts_with('/'));
        if *expressions > EXPRESSIONS_MAX {
            reader.refuse(
                "settings-invalid-value",
                text.place,
                format!("file has more than {EXPRESSIONS_MAX} regular expressions"),
                "join them with `|`, or write names".to_owned(),
            );
            return None;
        }
        match Alternative::parse(text.value) {
            Ok(alternative) => alternatives.push(alternative),
            Err(error) => {
                all_good = false;
                let cure = match &error {
                    NamePatternError::Unclosed { text } => format!("write `{text}/`"),
                    NamePatternError::Empty => "write a name, or `/.*/` for all".to_owned(),
                    NamePatternError::ControlCharacter => {
                        "write the name on the key's own line, without `|` or `>`".to_owned()
                    }
                    NamePatternError::TooLong { .. } => "shorten the expression".to_owned(),
                    NamePatternError::Invalid { .. } => {
                        "correct the expression; in double quotes a backslash is written twice"
                            .to_owned()
                    }
                };
                reader.refuse(
                    "settings-invalid-regex",
                    text.place,
                    format!("key `{path}`: {error}"),
                    cure,
                );
            }
        }
    }
    if !all_good {
        return None;
    }
    NamePattern::new(alternatives).map(|value| Located {
        value,
        place: node.place,
    })
}

/// Reads a `codedeploy:` map.
pub(super) fn read_applications(
    reader: &mut Reader<'_>,
    path: &str,
    node: &Node,
    scope: Scope,
) -> Vec<ApplicationSettings> {
    let fields = reader.fields(node, path).unwrap_or_default();
    if fields.is_empty() && scope == Scope::Block && node.as_mapping().is_some() {
        reader.refuse(
            "settings-missing-key",
            node.place,
            format!("key `{path}` names no application"),
            "name the CodeDeploy application and its `deployment_group` there".to_owned(),
        );
    }
    let mut applications = Vec::with_capacity(fields.len());
    for field in fields {
        match field.name.parse() {
            Ok(name) => applications.push(read_application(reader, path, name, &field, scope)),
            Err(error) => reader.invalid_name(path, field.key.place, &error),
        }
    }
    applications
}

fn read_application(
    reader: &mut Reader<'_>,
    path: &str,
    name: ApplicationName,
    application: &Field<'_>,
    scope: Scope,
) -> ApplicationSettings {
    let path = format!("{path}.{name}");
    let mut read = ApplicationSettings::empty(name, application.key.place);
    // `my-app:` alone lists the application, with all its settings elsewhere.
    if application.value.is_null() {
        return read;
    }
    for field in reader.fields(application.value, &path).unwrap_or_default() {
        let (key, node) = (format!("{path}.{}", field.name), field.value);
        match field.name {
            "application_root" => read.application_root = reader.name(&key, node),
            "revision_location" => read.revision_location = read_location(reader, &key, node),
            "region" => read.region = reader.name(&key, node),
            "deployment_group" if scope == Scope::ProjectWide => reader.refuse(
                "settings-unknown-key",
                field.key.place,
                format!("key `{key}` cannot be set project-wide"),
                "name the group in each deployment block, under the application".to_owned(),
            ),
            "deployment_group" => read.deployment_group = reader.name(&key, node),
            "deployment_config" => read.deployment_config = reader.name(&key, node),
            "description" => read.description = reader.pattern(&key, node),
            "file_exists_behavior" => {
                read.file_exists_behavior = reader.choice(&key, node, &FILE_EXISTS_BEHAVIORS);
            }
            "ignore_application_stop_failures" => {
                read.ignore_application_stop_failures = reader.flag(&key, node);
            }
            "update_outdated_instances_only" => {
                read.update_outdated_instances_only = reader.flag(&key, node);
            }
            "auto_rollback" => read.auto_rollback = read_auto_rollback(reader, &key, node),
            "exclude" => read.exclude = read_exclude(reader, &key, node),
            "bundle_type" => read.bundle_type = reader.choice(&key, node, &BUNDLE_CHOICES),
            "order" => read.order = reader.choice(&key, node, &ORDERS),
            "queue" => read.queue = reader.choice(&key, node, &QUEUES),
            "verify" => read.verify = reader.choice(&key, node, &VERIFIES),
            _ => {
                let mut known = APPLICATION_KEYS.to_vec();
                known.retain(|key| scope == Scope::Block || *key != "deployment_group");
                reader.unknown_key(&field, &path, &known);
            }
        }
    }
    read
}

const FILE_EXISTS_BEHAVIORS: [(&str, FileExistsBehavior); 3] = [
    ("DISALLOW", FileExistsBehavior::Disallow),
    ("OVERWRITE", FileExistsBehavior::Overwrite),
    ("RETAIN", FileExistsBehavior::Retain),
];

const AUTO_ROLLBACK_EVENTS: [(&str, AutoRollbackEvent); 3] = [
    ("DEPLOYMENT_FAILURE", AutoRollbackEvent::DeploymentFailure),
    (
        "DEPLOYMENT_STOP_ON_ALARM",
        AutoRollbackEvent::DeploymentStopOnAlarm,
    ),
    (
        "DEPLOYMENT_STOP_ON_REQUEST",
        AutoRollbackEvent::DeploymentStopOnRequest,
    ),
];

const BUNDLE_CHOICES: [(&str, BundleChoice); 4] = [
    ("zip", BundleChoice::Zip),
    ("tgz", BundleChoice::Tgz),
    ("tar", BundleChoice::Tar),
    ("as_is", BundleChoice::AsIs),
];

const ORDERS: [(&str, Order); 2] = [("build_num", Order::BuildNum), ("arrival", Order::Arrival)];

const QUEUES: [(&str, Queue); 2] = [("newest", Queue::Newest), ("all", Queue::All)];

const VERIFIES: [(&str, Verify); 3] = [
    ("passing", Verify::Passing),
    ("full", Verify::Full),
    ("none", Verify::None),
];

fn read_auto_rollback(
    reader: &mut Reader<'_>,
    path: &str,
    node: &Node,
) -> Option<Located<Vec<AutoRollbackEvent>>> {
    let Some(items) = node.as_sequence() else {
        reader.wrong_type(node.place, path, "a list of events", node);
        return None;
    };
    let mut events = Vec::new();
    let mut all_good = true;
    for item in items {
        match reader.choice(path, item, &AUTO_ROLLBACK_EVENTS) {
            Some(event) if !events.contains(&event.value) => events.push(event.value),
            Some(_) => {}
            None => all_good = false,
        }
    }
    all_good.then_some(Located {
        value: events,
        place: node.place,
    })
}

fn read_exclude(reader: &mut Reader<'_>, path: &str, node: &Node) -> Option<Located<Exclude>> {
    let texts = reader.texts(path, node)?;
    match Exclude::new(texts.iter().map(|text| text.value.to_owned()).collect()) {
        Ok(value) => Some(Located {
            value,
            place: node.place,
        }),
        Err((index, error)) => {
            let place = texts.get(index).map_or(node.place, |text| text.place);
            reader.invalid_name(path, place, &error);
            None
        }
    }
}

const S3_KEYS: [&str; 2] = ["revision_type", "s3_location"];
const GITHUB_KEYS: [&str; 3] = ["revision_type", "repository", "github_location"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum RevisionType {
    S3,
    GitHub,
}

const REVISION_TYPES: [(&str, RevisionType); 2] =
    [("S3", RevisionType::S3), ("GitHub", RevisionType::GitHub)];

/// `revision_location` is all or nothing: half of one never mixes with another's half.
fn read_location(
    reader: &mut Reader<'_>,
    path: &str,
    node: &Node,
) -> Option<Located<RevisionTarget>> {
    let fields = reader.fields(node, path)?;
    let field = |name: &str| fields.iter().find(|field| field.name == name);
    let revision_type = match field("revision_type") {
        Some(field) => {
            let key = format!("{path}.revision_type");
            reader
                .choice(&key, field.value, &REVISION_TYPES)
                .map(|located| located.value)
        }
        None => {
            reader.refuse(
                "settings-missing-key",
                node.place,
                format!("key `{path}` has no `revision_type`"),
                "write `revision_type: S3` or `revision_type: GitHub`".to_owned(),
            );
            None
        }
    };
    let known: &[&str] = match revision_type {
        Some(RevisionType::S3) => &S3_KEYS,
        Some(RevisionType::GitHub) => &GITHUB_KEYS,
        // The mistake in the type is told; what would be unknown cannot be.
        None => return None,
    };
    let mut all_known = true;
    for field in fields.iter().filter(|field| !known.contains(&field.name)) {
        reader.unknown_key(field, path, known);
        all_known = false;
    }
    let value = match revision_type {
        Some(RevisionType::GitHub) => {
            // `github_location` is AWS's own spelling, beside `s3_location`.
            let nested = match field("github_location") {
                Some(field) => {
                    let path = format!("{path}.github_location");
                    reader.fields(field.value, &path)?
                }
                None => Vec::new(),
            };
            for field in nested.iter().filter(|field| field.name != "repository") {
                reader.unknown_key(field, &format!("{path}.github_location"), &["repository"]);
                all_known = false;
            }
            let inner = nested.iter().find(|field| field.name == "repository");
            let repository = match field("repository").or(inner) {
                Some(field) => {
                    let key = format!("{path}.repository");
                    Some(reader.name::<RepositoryName>(&key, field.value)?.value)
                }
                None => None,
            };
            RevisionTarget::GitHub { repository }
        }
        _ => match field("s3_location") {
            Some(field) => read_s3_location(reader, &format!("{path}.s3_location"), field.value)?,
            None => {
                incomplete(reader, node.place, path, "s3_location");
                return None;
            }
        },
    };
    all_known.then_some(Located {
        value,
        place: node.place,
    })
}

fn read_s3_location(reader: &mut Reader<'_>, path: &str, node: &Node) -> Option<RevisionTarget> {
    let (mut bucket, mut key_pattern) = (None, None);
    let fields = reader.fields(node, path)?;
    let mut all_known = true;
    for field in &fields {
        let key = format!("{path}.{}", field.name);
        match field.name {
            "bucket" => bucket = reader.name::<BucketName>(&key, field.value),
            "key_pattern" => key_pattern = reader.pattern::<KeyPattern>(&key, field.value),
            _ => {
                reader.unknown_key(field, path, &["bucket", "key_pattern"]);
                all_known = false;
            }
        }
    }
    for name in ["bucket", "key_pattern"] {
        if !fields.iter().any(|field| field.name == name) {
            incomplete(reader, node.place, path, name);
        }
    }
    let (bucket, key_pattern) = (bucket?.value, key_pattern?.value);
    all_known.then_some(RevisionTarget::S3 {
        bucket,
        key_pattern,
    })
}

fn incomplete(reader: &mut Reader<'_>, place: Place, path: &str, missing: &str) {
    reader.refuse(
        "settings-location-incomplete",
        place,
        format!("key `{path}` has no `{missing}`"),
        "a revision_location is overridden as a whole: write both `bucket` and `key_pattern`"
            .to_owned(),
    );
}
