//! Deployment configurations: AWS's standard ones, and custom ones beside them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::CodeDeploy;
use super::input::{ApiError, Input, page};
use super::state::{Platform, millis, seconds};
use crate::local::identity;

/// How many instances must stay healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HealthyHosts {
    Count(u32),
    Percent(u32),
    /// `CodeDeployDefault.OneAtATime`: all but one, whatever their number.
    AllButOne,
}

/// One deployment configuration.
#[derive(Debug, Clone)]
pub(super) struct Config {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) platform: Platform,
    pub(super) healthy_hosts: HealthyHosts,
    pub(super) traffic_routing: Option<Value>,
    pub(super) created: i64,
}

impl Config {
    /// Instances that must stay healthy among `instances`.
    pub(super) fn healthy_minimum(&self, instances: usize) -> usize {
        match self.healthy_hosts {
            HealthyHosts::Count(count) => {
                usize::try_from(count).unwrap_or(usize::MAX).min(instances)
            }
            HealthyHosts::Percent(percent) => {
                let percent = usize::try_from(percent.min(100)).unwrap_or(100);
                instances.saturating_mul(percent).div_ceil(100)
            }
            HealthyHosts::AllButOne => instances.saturating_sub(1),
        }
    }

    fn told(&self) -> Value {
        let healthy = match (self.platform, self.healthy_hosts) {
            (Platform::Lambda | Platform::Ecs, _) => Value::Null,
            (_, HealthyHosts::Count(value)) => json!({ "type": "HOST_COUNT", "value": value }),
            (_, HealthyHosts::Percent(value)) => json!({ "type": "FLEET_PERCENT", "value": value }),
            (_, HealthyHosts::AllButOne) => json!({ "type": "FLEET_PERCENT", "value": 99 }),
        };
        json!({
            "deploymentConfigId": self.id,
            "deploymentConfigName": self.name,
            "minimumHealthyHosts": healthy,
            "createTime": seconds(self.created),
            "computePlatform": self.platform,
            "trafficRoutingConfig": self.traffic_routing,
        })
    }
}

/// The configurations that every account has (CodeDeploy user guide, "deployment configurations").
pub(super) fn standard_configs() -> BTreeMap<String, Config> {
    let server = [
        ("AllAtOnce", HealthyHosts::Count(0)),
        ("HalfAtATime", HealthyHosts::Percent(50)),
        ("OneAtATime", HealthyHosts::AllButOne),
    ];
    let mut configs = BTreeMap::new();
    let mut add = |name: String, platform, healthy_hosts, traffic_routing| {
        let name = format!("CodeDeployDefault.{name}");
        let id = identity::request_id();
        let created = millis();
        configs.insert(
            name.clone(),
            Config {
                id,
                name,
                platform,
                healthy_hosts,
                traffic_routing,
                created,
            },
        );
    };
    for (name, healthy_hosts) in server {
        add(name.to_owned(), Platform::Server, healthy_hosts, None);
    }
    let shifting = |prefix: &str, canary: &[u32], linear: &[u32]| {
        let mut routes = vec![(format!("{prefix}AllAtOnce"), json!({ "type": "AllAtOnce" }))];
        for minutes in canary {
            let route = json!({ "type": "TimeBasedCanary", "timeBasedCanary": { "canaryPercentage": 10, "canaryInterval": minutes } });
            routes.push((format!("{prefix}Canary10Percent{minutes}Minutes"), route));
        }
        for minutes in linear {
            // AWS's own inconsistency: `LambdaLinear…Every1Minute`, but `ECSLinear…Every1Minutes`.
            let unit = if *minutes == 1 && prefix == "Lambda" {
                "Minute"
            } else {
                "Minutes"
            };
            let route = json!({ "type": "TimeBasedLinear", "timeBasedLinear": { "linearPercentage": 10, "linearInterval": minutes } });
            routes.push((
                format!("{prefix}Linear10PercentEvery{minutes}{unit}"),
                route,
            ));
        }
        routes
    };
    for (name, route) in shifting("Lambda", &[5, 10, 15, 30], &[1, 2, 3, 10]) {
        add(name, Platform::Lambda, HealthyHosts::Count(0), Some(route));
    }
    for (name, route) in shifting("ECS", &[5, 15], &[1, 3]) {
        add(name, Platform::Ecs, HealthyHosts::Count(0), Some(route));
    }
    configs
}

impl CodeDeploy {
    pub(super) fn create_deployment_config(&self, input: Input<'_>) -> Result<Value, ApiError> {
        let name = required_name(input)?;
        if name.starts_with("CodeDeployDefault.") {
            let message = "Deployment configuration names must not start with CodeDeployDefault.";
            return Err(ApiError::new(
                "InvalidDeploymentConfigNameException",
                message,
            ));
        }
        let platform = platform(input)?;
        let invalid = |text: &str| ApiError::new("InvalidMinimumHealthyHostValueException", text);
        let healthy_hosts = match (platform, input.structure("minimumHealthyHosts")?) {
            (Platform::Server, None) => return Err(invalid("minimumHealthyHosts is required")),
            (Platform::Server, Some(hosts)) => {
                let value = hosts
                    .integer("value")?
                    .and_then(|value| u32::try_from(value).ok());
                match (hosts.text("type")?, value) {
                    (Some("HOST_COUNT"), Some(value)) => HealthyHosts::Count(value),
                    (Some("FLEET_PERCENT"), Some(value)) if value < 100 => {
                        HealthyHosts::Percent(value)
                    }
                    _ => return Err(invalid("minimumHealthyHosts is not valid")),
                }
            }
            (Platform::Lambda | Platform::Ecs, _) => HealthyHosts::Count(0),
        };
        let traffic_routing = input.raw("trafficRoutingConfig").cloned();
        let mut state = self.state();
        if state.configs.contains_key(name) {
            let message = format!("Deployment configuration {name} already exists");
            return Err(ApiError::new(
                "DeploymentConfigAlreadyExistsException",
                message,
            ));
        }
        let id = identity::request_id();
        let created = millis();
        let config = Config {
            id: id.clone(),
            name: name.to_owned(),
            platform,
            healthy_hosts,
            traffic_routing,
            created,
        };
        state.configs.insert(name.to_owned(), config);
        Ok(json!({ "deploymentConfigId": id }))
    }

    pub(super) fn get_deployment_config(&self, input: Input<'_>) -> Result<Value, ApiError> {
        let name = required_name(input)?;
        let state = self.state();
        let config = state.configs.get(name).ok_or_else(|| no_config(name))?;
        Ok(json!({ "deploymentConfigInfo": config.told() }))
    }

    pub(super) fn list_deployment_configs(&self, input: Input<'_>) -> Result<Value, ApiError> {
        let state = self.state();
        let names = state.configs.keys().cloned();
        let (page, next) = page(names, input.text("nextToken")?, self.options().page_size)?;
        Ok(json!({ "deploymentConfigsList": page, "nextToken": next }))
    }
}

/// `computePlatform`; `Server` where it is not given.
pub(super) fn platform(input: Input<'_>) -> Result<Platform, ApiError> {
    match input.text("computePlatform")? {
        None | Some("Server") => Ok(Platform::Server),
        Some("Lambda") => Ok(Platform::Lambda),
        Some("ECS") => Ok(Platform::Ecs),
        Some(other) => Err(ApiError::new(
            "InvalidComputePlatformException",
            format!("Compute platform {other} is not one of Server, Lambda, ECS"),
        )),
    }
}

pub(super) fn no_config(name: &str) -> ApiError {
    ApiError::new(
        "DeploymentConfigDoesNotExistException",
        format!("No Deployment Configuration found for name: {name}"),
    )
}

fn required_name(input: Input<'_>) -> Result<&str, ApiError> {
    input
        .deployment_config_name()?
        .filter(|name| !name.is_empty())
        .ok_or_else(|| {
            ApiError::new(
                "DeploymentConfigNameRequiredException",
                "Deployment configuration name is required",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ok_the_standard_configurations_keep_the_promised_share_healthy() {
        let configs = standard_configs();
        let minimum = |name: &str, instances| {
            configs[&format!("CodeDeployDefault.{name}")].healthy_minimum(instances)
        };
        assert_eq!(
            (
                minimum("AllAtOnce", 5),
                minimum("HalfAtATime", 5),
                minimum("OneAtATime", 5)
            ),
            (0, 3, 4)
        );
        assert!(configs.contains_key("CodeDeployDefault.LambdaLinear10PercentEvery1Minute"));
        assert!(configs.contains_key("CodeDeployDefault.ECSLinear10PercentEvery1Minutes"));
        assert!(configs.contains_key("CodeDeployDefault.ECSCanary10Percent5Minutes"));
    }
}
