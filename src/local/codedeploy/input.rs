//! Requests as CodeDeploy reads them: members by name and type, and its rules for names.
//!
//! Owns [`ApiError`] and the typed access to a request's JSON. Unknown members are ignored, as
//! JSON 1.1 services do; a member of the wrong type is a `SerializationException`.

use serde_json::{Map, Value};

use crate::deployment::{ApplicationName, DeploymentConfigName, DeploymentGroupName, DeploymentId};

/// Characters of a description (CodeDeploy quota).
pub const DESCRIPTION_CHARACTERS_MAX: usize = 256;
/// Ids in one batch request.
pub const BATCH_MAX: usize = 25;

/// An error as CodeDeploy answers it: HTTP 400, `{"__type": code, "message": message}`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// The exception's name in the API's model.
    pub code: String,
    /// The text for people.
    pub message: String,
}

impl ApiError {
    /// An error with this name and text.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
        }
    }
}

/// The members of a request or of a structure inside it.
#[derive(Clone, Copy)]
pub(super) struct Input<'a>(&'a Map<String, Value>);

impl<'a> Input<'a> {
    pub(super) fn new(value: &'a Value) -> Result<Self, ApiError> {
        value
            .as_object()
            .map(Self)
            .ok_or_else(|| wrong_type("request", "a structure"))
    }

    fn member(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// The member as it stands, where there is one that is not null.
    pub(super) fn raw(&self, name: &str) -> Option<&'a Value> {
        self.member(name)
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, ApiError> {
        self.member(name)
            .map(|value| value.as_str().ok_or_else(|| wrong_type(name, "a string")))
            .transpose()
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.member(name)
            .map(|value| value.as_bool().ok_or_else(|| wrong_type(name, "a boolean")))
            .transpose()
    }

    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.member(name)
            .map(|value| value.as_i64().ok_or_else(|| wrong_type(name, "an integer")))
            .transpose()
    }

    /// A timestamp member, in milliseconds since 1970.
    pub(super) fn time(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.member(name)
            .map(|value| {
                let seconds = value
                    .as_f64()
                    .ok_or_else(|| wrong_type(name, "a timestamp in epoch seconds"))?;
                Ok((seconds * 1000.0).round() as i64)
            })
            .transpose()
    }

    pub(super) fn structure(&self, name: &str) -> Result<Option<Input<'a>>, ApiError> {
        self.member(name)
            .map(|value| {
                value
                    .as_object()
                    .map(Input)
                    .ok_or_else(|| wrong_type(name, "a structure"))
            })
            .transpose()
    }

    /// A list of strings; an absent one is empty.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<&'a str>, ApiError> {
        let Some(value) = self.member(name) else {
            return Ok(Vec::new());
        };
        let list = value.as_array().ok_or_else(|| wrong_type(name, "a list"))?;
        list.iter()
            .map(|item| {
                item.as_str()
                    .ok_or_else(|| wrong_type(name, "a list of strings"))
            })
            .collect()
    }

    pub(super) fn application_name(&self) -> Result<&'a str, ApiError> {
        let name = self
            .text("applicationName")?
            .filter(|name| !name.is_empty())
            .ok_or_else(|| {
                ApiError::new(
                    "ApplicationNameRequiredException",
                    "Application name is required",
                )
            })?;
        match name.parse::<ApplicationName>() {
            Ok(_) => Ok(name),
            Err(_) => Err(ApiError::new(
                "InvalidApplicationNameException",
                format!("Application name {name} is invalid"),
            )),
        }
    }

    pub(super) fn deployment_group_name(&self) -> Result<&'a str, ApiError> {
        let name = self
            .text("deploymentGroupName")?
            .filter(|name| !name.is_empty())
            .ok_or_else(|| {
                ApiError::new(
                    "DeploymentGroupNameRequiredException",
                    "Deployment Group name is missing",
                )
            })?;
        match name.parse::<DeploymentGroupName>() {
            Ok(_) => Ok(name),
            Err(_) => Err(ApiError::new(
                "InvalidDeploymentGroupNameException",
                format!("Deployment Group name {name} is invalid"),
            )),
        }
    }

    /// `deploymentConfigName`, where the request has one.
    pub(super) fn deployment_config_name(&self) -> Result<Option<&'a str>, ApiError> {
        let Some(name) = self.text("deploymentConfigName")? else {
            return Ok(None);
        };
        match name.parse::<DeploymentConfigName>() {
            Ok(_) => Ok(Some(name)),
            Err(_) => Err(ApiError::new(
                "InvalidDeploymentConfigNameException",
                format!("Deployment configuration name {name} is invalid"),
            )),
        }
    }

    pub(super) fn deployment_id(&self) -> Result<&'a str, ApiError> {
        let id = self
            .text("deploymentId")?
            .filter(|id| !id.is_empty())
            .ok_or_else(deployment_id_required)?;
        checked_deployment_id(id)
    }

    pub(super) fn description(&self) -> Result<Option<&'a str>, ApiError> {
        let description = self.text("description")?;
        match description.map(|text| text.chars().count()) {
            Some(count) if count > DESCRIPTION_CHARACTERS_MAX => Err(ApiError::new(
                "DescriptionTooLongException",
                format!(
                    "Description has {count} characters, the limit is {DESCRIPTION_CHARACTERS_MAX}"
                ),
            )),
            _ => Ok(description),
        }
    }

    /// `autoRollbackConfiguration`, checked, where the request has one.
    pub(super) fn auto_rollback(&self) -> Result<Option<AutoRollback>, ApiError> {
        let Some(configuration) = self.structure("autoRollbackConfiguration")? else {
            return Ok(None);
        };
        let invalid = |text: String| ApiError::new("InvalidAutoRollbackConfigException", text);
        let enabled = configuration.flag("enabled")?.unwrap_or(false);
        let events: Vec<String> = configuration
            .texts("events")?
            .into_iter()
            .map(str::to_owned)
            .collect();
        if let Some(unknown) = events
            .iter()
            .find(|event| !AUTO_ROLLBACK_EVENTS.contains(&event.as_str()))
        {
            return Err(invalid(format!(
                "Auto rollback event {unknown} is not supported"
            )));
        }
        if enabled && events.is_empty() {
            return Err(invalid(
                "Auto rollback is enabled but lists no events".to_owned(),
            ));
        }
        Ok(Some(AutoRollback { enabled, events }))
    }
}

const AUTO_ROLLBACK_EVENTS: [&str; 3] = [
    "DEPLOYMENT_FAILURE",
    "DEPLOYMENT_STOP_ON_ALARM",
    "DEPLOYMENT_STOP_ON_REQUEST",
];

/// `AutoRollbackConfiguration`.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub(super) struct AutoRollback {
    pub(super) enabled: bool,
    pub(super) events: Vec<String>,
}

pub(super) fn deployment_id_required() -> ApiError {
    ApiError::new("DeploymentIdRequiredException", "Deployment id is required")
}

pub(super) fn checked_deployment_id(id: &str) -> Result<&str, ApiError> {
    match id.parse::<DeploymentId>() {
        Ok(_) => Ok(id),
        Err(_) => Err(ApiError::new(
            "InvalidDeploymentIdException",
            format!("Specified DeploymentId is not in the valid format: {id}"),
        )),
    }
}

fn wrong_type(name: &str, expected: &str) -> ApiError {
    ApiError::new(
        "SerializationException",
        format!("{name} is not {expected}"),
    )
}

/// Cuts `items` to the page that `token` names; tokens are positions, checked as AWS checks its own.
pub(super) fn page<T>(
    items: impl IntoIterator<Item = T>,
    token: Option<&str>,
    size: usize,
) -> Result<(Vec<T>, Option<String>), ApiError> {
    let start = match token {
        None => 0,
        Some(token) => token
            .strip_prefix("page-")
            .and_then(|text| text.parse::<usize>().ok())
            .ok_or_else(|| {
                ApiError::new("InvalidNextTokenException", "The next token is invalid")
            })?,
    };
    let size = size.max(1);
    let mut rest = items.into_iter().skip(start);
    let page: Vec<T> = rest.by_ref().take(size).collect();
    let next = rest
        .next()
        .map(|_| format!("page-{}", start.saturating_add(size)));
    Ok((page, next))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ok_pages_cover_everything_once() {
        let mut token = None;
        let mut seen = Vec::new();
        loop {
            let (items, next) = page(0..7, token.as_deref(), 3).unwrap();
            seen.extend(items);
            token = next;
            if token.is_none() {
                break;
            }
        }
        assert_eq!(seen, (0..7).collect::<Vec<_>>());
        assert_eq!(page(0..3, None, 3).unwrap(), (vec![0, 1, 2], None));
    }

    #[test]
    fn err_tokens_of_another_making_are_refused() {
        assert_eq!(
            page(0..3, Some("7"), 3).unwrap_err().code,
            "InvalidNextTokenException"
        );
    }

    #[test]
    fn err_a_member_of_the_wrong_type_is_no_valid_request() {
        let value = json!({ "applicationName": 7 });
        let error = Input::new(&value).unwrap().application_name().unwrap_err();
        assert_eq!(error.code, "SerializationException");
    }

    #[test]
    fn ok_descriptions_are_counted_in_characters() {
        let value = json!({ "description": "ä".repeat(256) });
        assert!(Input::new(&value).unwrap().description().is_ok());
        let value = json!({ "description": "a".repeat(257) });
        assert_eq!(
            Input::new(&value).unwrap().description().unwrap_err().code,
            "DescriptionTooLongException"
        );
    }
}
