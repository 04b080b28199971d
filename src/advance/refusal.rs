//! What it means for a drop that CodeDeploy refuses: a finding with its cure.

use crate::finding::Finding;
use crate::service_error::ServiceError;

/// What CodeDeploy's refusal means for the drop.
pub fn refusal(error: &ServiceError) -> Finding {
    let code = error.code.as_deref().unwrap_or("unknown");
    let (name, cure) = match code {
        "ApplicationDoesNotExistException" => (
            "application-missing",
            "create the application in CodeDeploy, or correct its name or region in the settings",
        ),
        "DeploymentGroupDoesNotExistException" => (
            "deployment-group-missing",
            "create the deployment group, or correct its name in the settings",
        ),
        "DeploymentConfigDoesNotExistException" | "InvalidDeploymentConfigNameException" => (
            "deployment-config-missing",
            "create the deployment configuration, or correct `deployment_config` in the settings",
        ),
        "RevisionDoesNotExistException" | "InvalidRevisionException" => (
            "revision-refused",
            "make sure that nothing deletes revisions, and that bucket and application are in the same region",
        ),
        "InvalidIgnoreApplicationStopFailuresValueException"
        | "InvalidUpdateOutdatedInstancesOnlyValueException"
        | "InvalidFileExistsBehaviorException"
        | "InvalidAutoRollbackConfigException" => (
            "deployment-option-refused",
            "remove the option that CodeDeploy names from the settings",
        ),
        _ => (
            "deployment-refused",
            "correct what CodeDeploy names, then upload the artifact again",
        ),
    };
    Finding::refuse(name, error.to_string(), cure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service_error::Kind;

    #[test]
    fn err_each_refusal_has_its_code() {
        for (exception, code) in [
            ("ApplicationDoesNotExistException", "application-missing"),
            (
                "DeploymentGroupDoesNotExistException",
                "deployment-group-missing",
            ),
            (
                "InvalidDeploymentConfigNameException",
                "deployment-config-missing",
            ),
            ("RevisionDoesNotExistException", "revision-refused"),
            (
                "InvalidFileExistsBehaviorException",
                "deployment-option-refused",
            ),
            ("AlarmsLimitExceededException", "deployment-refused"),
        ] {
            let error = ServiceError {
                operation: "CreateDeployment",
                resource: "shop/production".to_owned(),
                kind: Kind::Refused,
                code: Some(exception.to_owned()),
                message: "no".to_owned(),
            };
            let finding = refusal(&error);
            assert_eq!(finding.code, code);
            assert!(finding.refuses() && finding.message.contains("no"));
        }
    }
}
