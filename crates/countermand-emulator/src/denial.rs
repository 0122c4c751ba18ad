//! HTTP 403 for a token whose account or project may not call the API.

use clap::ValueEnum;

/// A reason of `google.api.ErrorReason` for a 403. Google answers every call of the credential with it until an operator
/// corrects the project or the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Denial {
    /// The project has not enabled the API.
    ServiceDisabled,
    /// The token does not have the scope of the API.
    AccessTokenScopeInsufficient,
    /// The project has no active billing account.
    BillingDisabled,
    /// The project does not exist.
    ConsumerInvalid,
    /// The project is suspended.
    ConsumerSuspended,
    /// The account may not use the project of `x-goog-user-project`.
    UserProjectDenied,
    /// The project's key may not call the API.
    ApiKeyServiceBlocked,
    /// The account is disabled or deleted.
    AccountStateInvalid,
    /// The account has no role with the permission.
    IamPermissionDenied,
}

impl Denial {
    /// The reason, as Google spells it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::ServiceDisabled => "SERVICE_DISABLED",
            Self::AccessTokenScopeInsufficient => "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
            Self::BillingDisabled => "BILLING_DISABLED",
            Self::ConsumerInvalid => "CONSUMER_INVALID",
            Self::ConsumerSuspended => "CONSUMER_SUSPENDED",
            Self::UserProjectDenied => "USER_PROJECT_DENIED",
            Self::ApiKeyServiceBlocked => "API_KEY_SERVICE_BLOCKED",
            Self::AccountStateInvalid => "ACCOUNT_STATE_INVALID",
            Self::IamPermissionDenied => "IAM_PERMISSION_DENIED",
        }
    }

    /// Google's message about `project`. Those of `SERVICE_DISABLED` and the scope are as users reported them.
    pub(crate) fn message(self, project: &str) -> String {
        match self {
            Self::ServiceDisabled => format!(
                "Android Management API has not been used in project {project} before or it is disabled. Enable it by \
                 visiting https://console.developers.google.com/apis/api/androidmanagement.googleapis.com/overview then \
                 retry. If you enabled this API recently, wait a few minutes for the action to propagate to our systems \
                 and retry."
            ),
            Self::AccessTokenScopeInsufficient => {
                "Request had insufficient authentication scopes.".to_owned()
            }
            Self::BillingDisabled => {
                format!("This API method requires billing to be enabled on project {project}.")
            }
            Self::ConsumerInvalid => format!("Project {project} not found or deleted."),
            Self::ConsumerSuspended => format!("Consumer '{project}' has been suspended."),
            Self::UserProjectDenied => {
                format!("Caller does not have required permission to use project {project}.")
            }
            Self::ApiKeyServiceBlocked => {
                "Requests to this API androidmanagement.googleapis.com are blocked.".to_owned()
            }
            Self::AccountStateInvalid => "The account is in an invalid state.".to_owned(),
            Self::IamPermissionDenied => {
                "Permission 'androidmanagement.enterprises.manage' denied on resource (or it may not exist)."
                    .to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_spells_a_reason_as_google_does() {
        for denial in Denial::value_variants() {
            assert_eq!(denial.to_possible_value().unwrap().get_name(), denial.reason());
        }
    }
}
