//! IAM: which calls a caller's policies allow, and which calls there were.
//!
//! A caller of the embedded AWS ([`super::LocalAws::endpoints`]) with policies attached may do what they
//! allow and nothing else; one without may do everything. What a request needs stands beside the service
//! (`s3`, `codedeploy`), from the service authorization reference; this room reads policies and compares.
//! It knows the part of the policy language that our policies use, and refuses a policy that uses more.

mod codedeploy;
mod s3;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::str::Chars;
use std::sync::Mutex;

use serde_json::{Map, Value};

use super::locked;

pub use wire::{Guarded, Protected};

/// Condition keys of a request and their values: `kms:ViaService` and its like.
pub type Context = BTreeMap<&'static str, String>;

/// One right that a call needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// Actions of which one suffices.
    pub actions: Vec<&'static str>,
    /// What it is about, as an ARN; `*` for actions that have no resource.
    pub resource: String,
    /// What conditions may look at.
    pub context: Context,
}

impl Need {
    /// One action on one resource.
    pub fn new(action: &'static str, resource: impl Into<String>) -> Self {
        Self {
            actions: vec![action],
            resource: resource.into(),
            context: Context::new(),
        }
    }
}

/// Why a policy cannot be judged here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A member is missing or of another type.
    #[error("policy has no readable `{0}`")]
    Member(&'static str),
    /// A statement has no name, so that nobody could say which one is meant.
    #[error("statement {0} has no Sid")]
    Nameless(usize),
    /// A part of the policy language that is not judged here.
    #[error("statement `{sid}` uses `{what}`, which is not judged here")]
    Unknown {
        /// Which statement.
        sid: String,
        /// What it uses.
        what: String,
    },
}

/// One statement of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Its name.
    pub sid: String,
    /// Whether it allows; else it denies.
    pub allows: bool,
    /// Actions, with wildcards.
    pub actions: Vec<String>,
    /// Resources, with wildcards.
    pub resources: Vec<String>,
    /// `StringLike` and `StringEquals`: all of them have to hold.
    conditions: Vec<StringCondition>,
}

/// One key of a string condition.
#[derive(Debug, Clone, PartialEq, Eq)]
struct StringCondition {
    key: String,
    values: Vec<String>,
    has_wildcards: bool,
}

/// A policy document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Its statements.
    pub statements: Vec<Statement>,
}

impl Policy {
    /// Reads a policy document.
    ///
    /// # Errors
    /// What cannot be judged here.
    pub fn read(document: &Value) -> Result<Self, PolicyError> {
        let statements = document
            .get("Statement")
            .and_then(Value::as_array)
            .ok_or(PolicyError::Member("Statement"))?;
        let read = statements.iter().enumerate();
        Ok(Self {
            statements: read
                .map(|(number, statement)| Statement::read(number, statement))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Whether it allows a need: some statement does, and none denies.
    pub fn allows(&self, need: &Need) -> bool {
        need.actions
            .iter()
            .any(|action| !self.grants(action, need).is_empty())
    }

    /// The statements that allow this action of a need; none where one denies it.
    fn grants(&self, action: &str, need: &Need) -> Vec<&Statement> {
        let fitting = || {
            self.statements
                .iter()
                .filter(|statement| statement.fits(action, need))
        };
        if fitting().any(|statement| !statement.allows) {
            return Vec::new();
        }
        fitting().collect()
    }

    /// The needs that it does not allow.
    pub fn missing<'a>(&self, needs: impl IntoIterator<Item = &'a Need>) -> Vec<&'a Need> {
        needs
            .into_iter()
            .filter(|need| !self.allows(need))
            .collect()
    }

    /// Actions that are allowed without need: `Sid: action`.
    ///
    /// Where one of several actions suffices, the first that is allowed counts.
    pub fn idle<'a>(&self, needs: impl IntoIterator<Item = &'a Need>) -> BTreeSet<String> {
        let named = |statement: &Statement, action: &str| format!("{}: {action}", statement.sid);
        let mut idle: BTreeSet<String> = self
            .statements
            .iter()
            .filter(|statement| statement.allows)
            .flat_map(|statement| {
                let actions = statement.actions.iter();
                actions.map(|action| named(statement, action))
            })
            .collect();
        for need in needs {
            let granted = need.actions.iter().find_map(|action| {
                let grants = self.grants(action, need);
                (!grants.is_empty()).then_some((action, grants))
            });
            let Some((action, grants)) = granted else {
                continue;
            };
            for statement in grants {
                for pattern in &statement.actions {
                    if matches(pattern, action) {
                        idle.remove(&named(statement, pattern));
                    }
                }
            }
        }
        idle
    }
}

impl Statement {
    fn read(number: usize, statement: &Value) -> Result<Self, PolicyError> {
        let sid = statement
            .get("Sid")
            .and_then(Value::as_str)
            .ok_or(PolicyError::Nameless(number))?
            .to_owned();
        let unknown = |what: &str| PolicyError::Unknown {
            sid: sid.clone(),
            what: what.to_owned(),
        };
        let fields = statement
            .as_object()
            .ok_or(PolicyError::Member("Statement"))?;
        const KNOWN: [&str; 5] = ["Sid", "Effect", "Action", "Resource", "Condition"];
        if let Some(name) = fields.keys().find(|name| !KNOWN.contains(&name.as_str())) {
            return Err(unknown(name));
        }
        let allows = match fields.get("Effect").and_then(Value::as_str) {
            Some("Allow") => true,
            Some("Deny") => false,
            _ => return Err(PolicyError::Member("Effect")),
        };
        let mut conditions = Vec::new();
        let none = Map::new();
        let by_operator = match fields.get("Condition") {
            None => &none,
            Some(Value::Object(by_operator)) => by_operator,
            Some(_) => return Err(PolicyError::Member("Condition")),
        };
        for (operator, keys) in by_operator {
            let has_wildcards = match operator.as_str() {
                "StringLike" => true,
                "StringEquals" => false,
                other => return Err(unknown(other)),
            };
            for (key, values) in keys.as_object().ok_or(PolicyError::Member("Condition"))? {
                conditions.push(StringCondition {
                    key: key.clone(),
                    values: texts(values).ok_or(PolicyError::Member("Condition"))?,
                    has_wildcards,
                });
            }
        }
        let list = |name: &'static str| {
            fields
                .get(name)
                .and_then(texts)
                .ok_or(PolicyError::Member(name))
        };
        Ok(Self {
            allows,
            actions: list("Action")?,
            resources: list("Resource")?,
            conditions,
            sid,
        })
    }

    fn fits(&self, action: &str, need: &Need) -> bool {
        // Names of actions are compared without regard to case, resources with.
        let lower = action.to_ascii_lowercase();
        self.actions
            .iter()
            .any(|pattern| matches(&pattern.to_ascii_lowercase(), &lower))
            && self
                .resources
                .iter()
                .any(|pattern| matches(pattern, &need.resource))
            && self.conditions.iter().all(|condition| {
                need.context
                    .get(condition.key.as_str())
                    .is_some_and(|found| {
                        condition.values.iter().any(|value| {
                            if condition.has_wildcards {
                                matches(value, found)
                            } else {
                                value == found
                            }
                        })
                    })
            })
    }
}

fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect(),
        _ => None,
    }
}

/// Whether a text fits a pattern with `*` (any text) and `?` (any one character).
fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // What follows the last `*`, and the shortest text after it that is still to be tried.
    let mut retry: Option<(Chars<'_>, Chars<'_>)> = None;
    loop {
        match (pattern.next(), text.clone().next()) {
            (Some('*'), _) => retry = Some((pattern.clone(), text.clone())),
            (Some(wanted), Some(found)) if wanted == '?' || wanted == found => {
                text.next();
            }
            (None, None) => return true,
            _ => {
                let Some((after, from)) = &mut retry else {
                    return false;
                };
                if from.next().is_none() {
                    return false;
                }
                (pattern, text) = (after.clone(), from.clone());
            }
        }
    }
}

/// Who may do what, and what everybody did.
#[derive(Debug, Default)]
pub struct Iam {
    callers: Mutex<BTreeMap<String, Caller>>,
    /// The KMS key that encrypts every bucket, where there is one.
    key: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
struct Caller {
    policy: Option<Policy>,
    needs: BTreeSet<Need>,
}

impl Iam {
    /// Attaches a policy to a caller, in place of the one it had.
    ///
    /// # Errors
    /// What cannot be judged here.
    pub fn attach(&self, label: &str, document: &Value) -> Result<(), PolicyError> {
        let policy = Policy::read(document)?;
        let mut callers = locked(&self.callers);
        callers.entry(label.to_owned()).or_default().policy = Some(policy);
        Ok(())
    }

    /// Takes the policies of a caller away, who may then do everything.
    pub fn detach(&self, label: &str) {
        if let Some(caller) = locked(&self.callers).get_mut(label) {
            caller.policy = None;
        }
    }

    /// Has every bucket's objects encrypted with this key, whose use then needs rights too.
    pub fn encrypt_with(&self, key_arn: &str) {
        *locked(&self.key) = Some(key_arn.to_owned());
    }

    /// What a caller's requests have needed so far.
    pub fn needs(&self, label: &str) -> BTreeSet<Need> {
        let callers = locked(&self.callers);
        callers
            .get(label)
            .map(|caller| caller.needs.clone())
            .unwrap_or_default()
    }

    fn key(&self) -> Option<String> {
        locked(&self.key).clone()
    }

    /// Notes what a request needs and gives what its caller may not do.
    fn judge(&self, label: &str, needs: &[Need]) -> Option<Need> {
        let mut callers = locked(&self.callers);
        let caller = callers.entry(label.to_owned()).or_default();
        caller.needs.extend(needs.iter().cloned());
        let policy = caller.policy.as_ref()?;
        policy.missing(needs).first().map(|need| (*need).clone())
    }
}

#[cfg(test)]
mod tests;
