//! The least IAM policies for some settings: those of `policies/`, kept to what the settings name.
//!
//! ```text
//! policies/*.json (examples for one stack) + settings + places -> the same statements, other resources
//! ```
//!
//! The statements and actions are the files' own, which the template grants and the tests compare with every
//! call that is made; this room only says what stands in place of an example's resource. A statement whose
//! resources the settings do not name at all is left out.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::deployment::Region;
use crate::key_pattern::{StagingPattern, Variable};
use crate::object::{BucketName, S3Prefix};
use crate::settings::{ApplicationSettings, Document, Located, RepositoryConfig, RevisionTarget};

/// Characters of a role's inline policies together, without white space (IAM quota).
pub const INLINE_CHARACTERS_MAX: usize = 10_240;
/// Characters of a managed policy, without white space (IAM quota).
pub const MANAGED_CHARACTERS_MAX: usize = 6_144;

/// Each policy: its name, whether it belongs to a function's role, and the file.
const POLICIES: [(&str, bool, &str); 5] = [
    ("uploader", false, include_str!("../policies/uploader.json")),
    ("deploy", true, include_str!("../policies/deploy.json")),
    ("record", true, include_str!("../policies/record.json")),
    (
        "ci-reader",
        false,
        include_str!("../policies/ci-reader.json"),
    ),
    (
        "instances",
        false,
        include_str!("../policies/instances.json"),
    ),
];

/// The names of the policies.
pub const NAMES: [&str; 5] = ["uploader", "deploy", "record", "ci-reader", "instances"];

/// Where the stack is and keeps its things.
#[derive(Debug, Clone)]
pub struct Place {
    /// Bucket that CI uploads to.
    pub staging_bucket: BucketName,
    /// How staged keys are built.
    pub staging_key_pattern: StagingPattern,
    /// Where the projects' settings are.
    pub settings: S3Prefix,
    /// Where records are written.
    pub records: S3Prefix,
    /// The stack's region.
    pub region: Region,
    /// Account, 12 digits.
    pub account: String,
    /// The stack's name, with which its queues and log groups begin.
    pub stack: String,
}

/// A project: its name, and what its settings say.
#[derive(Debug, Clone)]
pub struct Project {
    /// `{PROJECT}`; the name of its settings file without `.yml`.
    pub name: String,
    /// Its settings.
    pub document: Document,
}

/// The narrowed policies, and what a person should know of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Policies {
    /// Name and document, in the order of [`NAMES`].
    pub documents: Vec<(&'static str, Value)>,
    /// What could not be kept as narrow as it might be, and why.
    pub notes: Vec<String>,
}

/// Why there are no policies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A shipped policy holds a resource that this room does not know.
    #[error("policy `{policy}` names the resource `{resource}`, which stands for nothing here")]
    UnknownResource {
        /// Which policy.
        policy: &'static str,
        /// Which resource.
        resource: String,
    },
    /// A shipped policy is not a policy.
    #[error("policy `{0}` cannot be read")]
    Unreadable(&'static str),
}

/// What the settings name, as ARNs.
#[derive(Debug, Default)]
struct Scope {
    staged: BTreeSet<String>,
    drops: BTreeSet<String>,
    settings: BTreeSet<String>,
    revisions: BTreeSet<String>,
    revision_buckets: BTreeSet<String>,
    asked_buckets: BTreeSet<String>,
    applications: BTreeSet<String>,
    groups: BTreeSet<String>,
    configs: BTreeSet<String>,
    notes: BTreeSet<String>,
}

/// Narrows the policies to what the projects' settings name.
///
/// # Errors
/// Where a shipped policy is not as this room knows it.
pub fn narrow(projects: &[Project], place: &Place) -> Result<Policies, PolicyError> {
    let scope = Scope::of(projects, place);
    let mut documents = Vec::new();
    let mut notes: Vec<String> = scope.notes.iter().cloned().collect();
    for (name, is_inline, text) in POLICIES {
        let document: Value =
            serde_json::from_str(text).map_err(|_| PolicyError::Unreadable(name))?;
        let document = scope.narrowed(name, &document, place)?;
        let characters = document.to_string().chars().count();
        let (what, most) = if is_inline {
            ("a role's inline policies", INLINE_CHARACTERS_MAX)
        } else {
            ("a managed policy", MANAGED_CHARACTERS_MAX)
        };
        if characters > most {
            notes.push(format!(
                "policy `{name}` has {characters} characters, {what} may have {most}: give fewer settings files, or name applications alike and use wildcards"
            ));
        }
        documents.push((name, document));
    }
    Ok(Policies { documents, notes })
}

impl Scope {
    fn of(projects: &[Project], place: &Place) -> Self {
        let mut scope = Self::default();
        for project in projects {
            scope.add_project(project, place);
        }
        scope
            .asked_buckets
            .insert(bucket_arn(&place.staging_bucket));
        scope
            .asked_buckets
            .insert(bucket_arn(&place.settings.bucket));
        scope
            .asked_buckets
            .insert(bucket_arn(&place.records.bucket));
        scope
    }

    fn add_project(&mut self, project: &Project, place: &Place) {
        let staged = staged_keys(&place.staging_key_pattern, &project.name);
        let has_project = place
            .staging_key_pattern
            .variables()
            .any(|variable| variable == Variable::Project);
        self.staged
            .insert(object_arn(&place.staging_bucket, &staged));
        self.drops.insert(object_arn(
            &place.records.bucket,
            &format!("{}drops/{staged}", literal(&place.records.prefix)),
        ));
        let file = if has_project {
            &project.name
        } else {
            "default"
        };
        self.settings.insert(object_arn(
            &place.settings.bucket,
            &format!("{}{}.yml", literal(&place.settings.prefix), literal(file)),
        ));
        let document = &project.document;
        for block in document.blocks.iter().flatten() {
            for settings in &block.applications {
                let listed = document
                    .applications
                    .iter()
                    .find(|listed| listed.name == settings.name);
                self.add_application(settings, listed, &document.file, place);
            }
        }
        if document.repository_config == RepositoryConfig::Allowed {
            for listed in &document.applications {
                self.add_any_group(listed, place);
            }
            self.notes.insert(format!(
                "{}: a circle.yml may name other groups, configurations, buckets and keys, which these policies then refuse; `repository_config: ignored` rules that out",
                document.file
            ));
        }
    }

    fn add_application(
        &mut self,
        settings: &ApplicationSettings,
        listed: Option<&ApplicationSettings>,
        file: &str,
        place: &Place,
    ) {
        let region = effective(settings, listed, |settings| settings.region.as_ref())
            .unwrap_or(&place.region);
        let prefix = codedeploy_arn(region, place);
        let application = &settings.name;
        self.applications
            .insert(format!("{prefix}:application:{application}"));
        match &settings.deployment_group {
            Some(group) => {
                self.groups.insert(format!(
                    "{prefix}:deploymentgroup:{application}/{}",
                    group.value
                ));
            }
            None => {
                self.notes.insert(format!(
                    "{file}: application `{application}` has a block without deployment_group, which deploys nothing"
                ));
            }
        }
        let config = effective(settings, listed, |settings| {
            settings.deployment_config.as_ref()
        });
        match config {
            Some(config) => {
                self.configs
                    .insert(format!("{prefix}:deploymentconfig:{config}"));
            }
            None => {
                self.configs.insert(format!("{prefix}:deploymentconfig:*"));
                self.notes.insert(format!(
                    "{file}: application `{application}` takes its group's deployment configuration, which the settings do not name: all configurations of {region} may be read"
                ));
            }
        }
        let location = effective(settings, listed, |settings| {
            settings.revision_location.as_ref()
        });
        if let Some(RevisionTarget::S3 {
            bucket,
            key_pattern,
        }) = location
        {
            self.revisions
                .insert(object_arn(bucket, &any_value(key_pattern.as_str())));
            self.asked_buckets.insert(bucket_arn(bucket));
            if !key_pattern.is_unique_per_build() {
                self.revision_buckets.insert(bucket_arn(bucket));
            }
        }
    }

    /// An application that a `circle.yml` may deploy to any of its groups.
    fn add_any_group(&mut self, listed: &ApplicationSettings, place: &Place) {
        let region = listed
            .region
            .as_ref()
            .map_or(&place.region, |region| &region.value);
        let prefix = codedeploy_arn(region, place);
        let name = &listed.name;
        self.applications
            .insert(format!("{prefix}:application:{name}"));
        self.groups
            .insert(format!("{prefix}:deploymentgroup:{name}/*"));
        match &listed.deployment_config {
            Some(config) => self
                .configs
                .insert(format!("{prefix}:deploymentconfig:{}", config.value)),
            None => self.configs.insert(format!("{prefix}:deploymentconfig:*")),
        };
        if let Some(Located {
            value:
                RevisionTarget::S3 {
                    bucket,
                    key_pattern,
                },
            ..
        }) = &listed.revision_location
        {
            self.revisions
                .insert(object_arn(bucket, &any_value(key_pattern.as_str())));
            self.asked_buckets.insert(bucket_arn(bucket));
            if !key_pattern.is_unique_per_build() {
                self.revision_buckets.insert(bucket_arn(bucket));
            }
        }
    }

    fn narrowed(
        &self,
        policy: &'static str,
        document: &Value,
        place: &Place,
    ) -> Result<Value, PolicyError> {
        let unreadable = || PolicyError::Unreadable(policy);
        let statements = document
            .get("Statement")
            .and_then(Value::as_array)
            .ok_or_else(unreadable)?;
        let mut kept = Vec::new();
        for statement in statements {
            let mut statement = statement.as_object().ok_or_else(unreadable)?.clone();
            let sid = statement
                .get("Sid")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            let named = statement.get("Resource").ok_or_else(unreadable)?;
            let named: Vec<&str> = match named {
                Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
                other => other.as_str().into_iter().collect(),
            };
            let mut resources = BTreeSet::new();
            for resource in named {
                let ours = self.resources(&sid, resource, place).ok_or_else(|| {
                    PolicyError::UnknownResource {
                        policy,
                        resource: resource.to_owned(),
                    }
                })?;
                resources.extend(ours);
            }
            let partition = partition(&place.region);
            let mut resources: Vec<Value> = without_covered(&resources)
                .map(|resource| {
                    Value::from(resource.replacen("arn:aws:", &format!("arn:{partition}:"), 1))
                })
                .collect();
            let resource = match resources.len() {
                0 => continue,
                1 => resources.swap_remove(0),
                _ => Value::Array(resources),
            };
            statement.insert("Resource".to_owned(), resource);
            kept.push(Value::Object(statement));
        }
        let mut document = document.as_object().ok_or_else(unreadable)?.clone();
        document.insert("Statement".to_owned(), Value::Array(kept));
        Ok(Value::Object(document.into_iter().collect::<Map<_, _>>()))
    }

    /// What stands in place of an example's resource; `None` for one that is not known.
    fn resources(&self, sid: &str, resource: &str, place: &Place) -> Option<BTreeSet<String>> {
        let records = |folder: &str| {
            let key = format!("{}{folder}*", literal(&place.records.prefix));
            BTreeSet::from([object_arn(&place.records.bucket, &key)])
        };
        let example = "arn:aws:s3:::my-artifacts";
        if let Some(key) = resource.strip_prefix(example) {
            return Some(match key {
                "/staging/*" => self.staged.clone(),
                "/settings/*" => self.settings.clone(),
                "/records/*" => records(""),
                "/records/open/*" => records("open/"),
                "/records/drops/*" => self.drops.clone(),
                "/apps/*" => self.revisions.clone(),
                "" => match sid {
                    "TellMissingFromForbidden" => self.asked_buckets.clone(),
                    "SeeWhetherRevisionsAreVersioned" => self.revision_buckets.clone(),
                    "ListOpenDeployments" => BTreeSet::from([bucket_arn(&place.records.bucket)]),
                    _ => return None,
                },
                _ => return None,
            });
        }
        if let Some(rest) = resource.strip_prefix("arn:aws:codedeploy:us-east-1:123456789012:") {
            return Some(match rest {
                "application:*" => self.applications.clone(),
                "deploymentgroup:*/*" => self.groups.clone(),
                "deploymentconfig:*" => self.configs.clone(),
                _ => return None,
            });
        }
        let of_stack = ["arn:aws:sqs:", "arn:aws:logs:"]
            .iter()
            .any(|service| resource.starts_with(service));
        match resource {
            "*" => Some(BTreeSet::from(["*".to_owned()])),
            _ if of_stack => Some(BTreeSet::from([resource
                .replace(":us-east-1:", &format!(":{}:", place.region))
                .replace(":123456789012:", &format!(":{}:", place.account))
                .replace("stagedrop-", &format!("{}-", place.stack))])),
            _ => None,
        }
    }
}

/// What a block says of an application, else the project-wide map.
fn effective<'a, T>(
    settings: &'a ApplicationSettings,
    listed: Option<&'a ApplicationSettings>,
    of: impl Fn(&'a ApplicationSettings) -> Option<&'a Located<T>>,
) -> Option<&'a T> {
    of(settings)
        .or_else(|| listed.and_then(&of))
        .map(|located| &located.value)
}

/// Resources that no other one of the set covers by a `*` at its end.
fn without_covered(resources: &BTreeSet<String>) -> impl Iterator<Item = &String> {
    resources.iter().filter(|resource| {
        !resources.iter().any(|other| {
            let covers = other
                .strip_suffix('*')
                .is_some_and(|start| resource.starts_with(start));
            covers && other != *resource
        })
    })
}

fn bucket_arn(bucket: &BucketName) -> String {
    format!("arn:aws:s3:::{bucket}")
}

fn object_arn(bucket: &BucketName, key: &str) -> String {
    format!("arn:aws:s3:::{bucket}/{key}")
}

fn codedeploy_arn(region: &Region, place: &Place) -> String {
    format!("arn:aws:codedeploy:{region}:{}", place.account)
}

fn partition(region: &Region) -> &'static str {
    match region.as_str() {
        region if region.starts_with("cn-") => "aws-cn",
        region if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

/// A project's staged keys: the pattern with the project's name, up to the next variable.
fn staged_keys(pattern: &StagingPattern, project: &str) -> String {
    let text = pattern.as_str();
    let mut keys = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        keys.push_str(&literal(before));
        let Some((name, after)) = after.split_once('}') else {
            break;
        };
        if name != Variable::Project.name() {
            break;
        }
        keys.push_str(&literal(project));
        rest = after;
    }
    keys.push('*');
    keys
}

/// A key pattern with any value for each variable.
fn any_value(pattern: &str) -> String {
    let mut keys = String::new();
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('{') {
        keys.push_str(&literal(before));
        if !keys.ends_with('*') {
            keys.push('*');
        }
        rest = after.split_once('}').map_or("", |(_, after)| after);
    }
    keys.push_str(&literal(rest));
    keys
}

/// A text without wildcards or variables of the policy language.
fn literal(text: &str) -> String {
    let mut literal = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '*' | '?' | '$' => {
                literal.push_str("${");
                literal.push(character);
                literal.push('}');
            }
            other => literal.push(other),
        }
    }
    literal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{SettingsKind, read};

    fn place() -> Place {
        Place {
            staging_bucket: "acme-artifacts".parse().unwrap(),
            staging_key_pattern: "staging/{PROJECT}/{BRANCH}/{BUILD_NUM}-{COMMIT}"
                .parse()
                .unwrap(),
            settings: "s3://acme-settings/ci/".parse().unwrap(),
            records: "s3://acme-artifacts/records/".parse().unwrap(),
            region: "eu-west-1".parse().unwrap(),
            account: "210987654321".to_owned(),
            stack: "drops".to_owned(),
        }
    }

    fn project(text: &str) -> Project {
        Project {
            name: "shop".to_owned(),
            document: read("shop.yml", text.as_bytes(), SettingsKind::Project).unwrap(),
        }
    }

    const SETTINGS: &str = "\
repository_config: ignored
codedeploy:
  shop:
    revision_location: {revision_type: S3, s3_location: {bucket: acme-apps, key_pattern: 'shop/{BRANCH}-{BUILD_NUM}.zip'}}
deployment:
  production:
    branch: master
    codedeploy:
      shop: {deployment_group: production, deployment_config: CodeDeployDefault.OneAtATime}
  staging:
    branch: /.*/
    codedeploy:
      shop: {deployment_group: staging, deployment_config: CodeDeployDefault.AllAtOnce, region: us-east-1}
";

    fn resources(policies: &Policies, policy: &str, sid: &str) -> Vec<String> {
        let (_, document) = policies
            .documents
            .iter()
            .find(|(name, _)| *name == policy)
            .unwrap();
        let statement = document["Statement"]
            .as_array()
            .unwrap()
            .iter()
            .find(|statement| statement["Sid"] == sid);
        match statement.map(|statement| &statement["Resource"]) {
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| item.as_str().unwrap().to_owned())
                .collect(),
            Some(one) => vec![one.as_str().unwrap().to_owned()],
            None => Vec::new(),
        }
    }

    #[test]
    fn ok_every_resource_is_one_that_the_settings_name() {
        let policies = narrow(&[project(SETTINGS)], &place()).unwrap();
        assert_eq!(policies.notes, Vec::<String>::new());
        for (policy, sid, expected) in [
            (
                "uploader",
                "StageArtifacts",
                &["arn:aws:s3:::acme-artifacts/staging/shop/*"][..],
            ),
            (
                "ci-reader",
                "ReadDrops",
                &["arn:aws:s3:::acme-artifacts/records/drops/staging/shop/*"],
            ),
            (
                "instances",
                "FetchRevisions",
                &["arn:aws:s3:::acme-apps/shop/*-*.zip"],
            ),
            (
                "deploy",
                "ReadStagedArtifacts",
                &["arn:aws:s3:::acme-artifacts/staging/shop/*"],
            ),
            (
                "deploy",
                "ReadSettings",
                &["arn:aws:s3:::acme-settings/ci/shop.yml"],
            ),
            (
                "deploy",
                "WriteRevisions",
                &["arn:aws:s3:::acme-apps/shop/*-*.zip"],
            ),
            ("deploy", "SeeWhetherRevisionsAreVersioned", &[]),
            (
                "deploy",
                "TellMissingFromForbidden",
                &[
                    "arn:aws:s3:::acme-apps",
                    "arn:aws:s3:::acme-artifacts",
                    "arn:aws:s3:::acme-settings",
                ],
            ),
            (
                "record",
                "Deploy",
                &[
                    "arn:aws:codedeploy:eu-west-1:210987654321:deploymentgroup:shop/production",
                    "arn:aws:codedeploy:us-east-1:210987654321:deploymentgroup:shop/staging",
                ],
            ),
            (
                "deploy",
                "UseDeploymentConfigurations",
                &[
                    "arn:aws:codedeploy:eu-west-1:210987654321:deploymentconfig:CodeDeployDefault.OneAtATime",
                    "arn:aws:codedeploy:us-east-1:210987654321:deploymentconfig:CodeDeployDefault.AllAtOnce",
                ],
            ),
            (
                "record",
                "HandOverFailures",
                &["arn:aws:sqs:eu-west-1:210987654321:drops-record-failures"],
            ),
            (
                "deploy",
                "WriteLogs",
                &["arn:aws:logs:eu-west-1:210987654321:log-group:/aws/lambda/drops-deploy:*"],
            ),
            ("record", "SeeWhyTargetsFailed", &["*"]),
        ] {
            assert_eq!(
                resources(&policies, policy, sid),
                expected,
                "{policy} {sid}"
            );
        }
    }

    #[test]
    fn ok_actions_are_never_more_than_the_files() {
        let policies = narrow(&[project(SETTINGS)], &place()).unwrap();
        for ((name, document), (_, _, file)) in policies.documents.iter().zip(POLICIES) {
            let file: Value = serde_json::from_str(file).unwrap();
            for statement in document["Statement"].as_array().unwrap() {
                let shipped = file["Statement"].as_array().unwrap().iter();
                let shipped = shipped
                    .clone()
                    .find(|other| other["Sid"] == statement["Sid"]);
                assert_eq!(statement["Action"], shipped.unwrap()["Action"], "{name}");
            }
        }
    }

    #[test]
    fn ok_what_settings_leave_open_is_granted_and_said() {
        let open = SETTINGS
            .replace("repository_config: ignored\n", "")
            .replace(", deployment_config: CodeDeployDefault.OneAtATime", "")
            .replace("{BRANCH}-{BUILD_NUM}", "newest");
        let policies = narrow(&[project(&open)], &place()).unwrap();
        assert_eq!(policies.notes.len(), 2, "{:?}", policies.notes);
        assert!(
            policies.notes[0].contains("circle.yml"),
            "{:?}",
            policies.notes
        );
        assert!(policies.notes[1].contains("deployment configuration"));
        assert_eq!(
            resources(&policies, "deploy", "Deploy"),
            [
                "arn:aws:codedeploy:eu-west-1:210987654321:deploymentgroup:shop/*",
                "arn:aws:codedeploy:us-east-1:210987654321:deploymentgroup:shop/staging",
            ]
        );
        // A key that all builds share is only right in a versioned bucket.
        assert_eq!(
            resources(&policies, "deploy", "SeeWhetherRevisionsAreVersioned"),
            ["arn:aws:s3:::acme-apps"]
        );
    }

    #[test]
    fn ok_a_name_with_wildcards_stands_for_itself() {
        let mut project = project(SETTINGS);
        project.name = "s*p?$x".to_owned();
        let policies = narrow(&[project], &place()).unwrap();
        assert_eq!(
            resources(&policies, "uploader", "StageArtifacts"),
            ["arn:aws:s3:::acme-artifacts/staging/s${*}p${?}${$}x/*"]
        );
    }

    #[test]
    fn ok_other_partitions_have_arns_of_their_own() {
        let place = Place {
            region: "cn-north-1".parse().unwrap(),
            ..place()
        };
        let policies = narrow(&[project(SETTINGS)], &place).unwrap();
        for (_, document) in &policies.documents {
            assert!(!document.to_string().contains("arn:aws:"), "{document}");
        }
    }

    #[test]
    fn ok_policies_too_long_for_iam_are_told() {
        let projects: Vec<Project> = (0..120)
            .map(|number| Project {
                name: format!("project-number-{number:03}"),
                ..project(SETTINGS)
            })
            .collect();
        let policies = narrow(&projects, &place()).unwrap();
        assert!(
            policies
                .notes
                .iter()
                .any(|note| note.contains("`uploader` has")),
            "{:?}",
            policies.notes
        );
    }
}
