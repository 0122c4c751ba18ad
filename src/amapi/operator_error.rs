//! Google's errors that only the operator of this server can correct.

use super::google_error::GoogleError;

/// The reason of an error that concerns this server's credential or its project, and never the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperatorError {
    /// Google's reason, for example `SERVICE_DISABLED`.
    pub reason: &'static str,
    /// The step that corrects the error, for the operator.
    pub hint: &'static str,
}

const ENABLE_API: &str =
    "enable the Android Management API in the credential's project, and wait a few minutes";
const SCOPE: &str = "give the token the scope https://www.googleapis.com/auth/androidmanagement: by --scopes of gcloud auth \
    application-default login, or by the access scopes of the machine";
const BILLING: &str = "enable billing for the credential's project";
const PROJECT: &str =
    "check that the credential's project, and a quota_project_id in its file, exist and are not suspended";
const USER_PROJECT: &str = "give the account of the credential the role Service Usage Consumer in the project that \
    quota_project_id in its file names";
const ROLE: &str = "give the account of the credential the role Android Management User in its project";
const ACCOUNT: &str = "check that the account of the credential is not disabled, deleted or blocked";
const API_KEY: &str = "allow the Android Management API in the credential's project; Countermand sends no API key, so \
    check also whether a proxy adds one";
const ORGANIZATION: &str = "check the organization's policies and VPC Service Controls for the credential's project and this network";

/// The reasons of `google.api.ErrorReason` about the project, the account or the network of the request
/// (<https://github.com/googleapis/googleapis/blob/master/google/api/error_reason.proto>), and the older reasons
/// `accessNotConfigured` and `insufficientPermissions` (`error.errors`).
///
/// The list leaves out quotas, tokens that Google answers with 401, and `RESOURCE_PROJECT_INVALID`, which concerns the
/// resource that a caller names. It also leaves out a PERMISSION_DENIED without a reason: the API answers it also for an
/// enterprise of another project.
const OPERATOR_ERRORS: [(&str, &str); 28] = [
    ("SERVICE_DISABLED", ENABLE_API),
    ("accessNotConfigured", ENABLE_API),
    ("SERVICE_NOT_VISIBLE", ENABLE_API),
    ("ACCESS_TOKEN_SCOPE_INSUFFICIENT", SCOPE),
    ("insufficientPermissions", SCOPE),
    ("BILLING_DISABLED", BILLING),
    ("CONSUMER_INVALID", PROJECT),
    ("CONSUMER_SUSPENDED", PROJECT),
    ("GCP_SUSPENDED", PROJECT),
    ("USER_PROJECT_DENIED", USER_PROJECT),
    ("IAM_PERMISSION_DENIED", ROLE),
    ("ACCOUNT_STATE_INVALID", ACCOUNT),
    ("USER_BLOCKED_BY_ADMIN", ACCOUNT),
    ("API_KEY_INVALID", API_KEY),
    ("API_KEY_SERVICE_BLOCKED", API_KEY),
    ("API_KEY_HTTP_REFERRER_BLOCKED", API_KEY),
    ("API_KEY_IP_ADDRESS_BLOCKED", API_KEY),
    ("API_KEY_ANDROID_APP_BLOCKED", API_KEY),
    ("API_KEY_IOS_APP_BLOCKED", API_KEY),
    ("SECURITY_POLICY_VIOLATED", ORGANIZATION),
    ("LOCATION_POLICY_VIOLATED", ORGANIZATION),
    ("LOCATION_ORG_POLICY_VIOLATED", ORGANIZATION),
    ("LOCATION_TAX_POLICY_VIOLATED", ORGANIZATION),
    ("RESOURCE_USAGE_RESTRICTION_VIOLATED", ORGANIZATION),
    ("ORG_RESTRICTION_VIOLATION", ORGANIZATION),
    ("ORG_RESTRICTION_HEADER_INVALID", ORGANIZATION),
    ("TLS_ORG_POLICY_VIOLATED", ORGANIZATION),
    ("TLS_CIPHER_RESTRICTION_VIOLATED", ORGANIZATION),
];

impl GoogleError {
    /// The first of the reasons that only the operator can act on.
    #[must_use]
    pub fn operator_error(&self) -> Option<OperatorError> {
        self.reasons.iter().find_map(|given| {
            let known = OPERATOR_ERRORS.into_iter().find(|(reason, _)| reason == given);
            known.map(|(reason, hint)| OperatorError { reason, hint })
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{GoogleError, OPERATOR_ERRORS};

    fn reason(details: serde_json::Value, errors: serde_json::Value) -> Option<&'static str> {
        let body = json!({"error": {"code": 403, "details": details, "errors": errors}}).to_string();
        GoogleError::parse(body.as_bytes()).unwrap().operator_error().map(|error| error.reason)
    }

    fn info(reason: &str) -> serde_json::Value {
        json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"})
    }

    #[test]
    fn a_reason_about_the_credential_or_its_project_is_the_operators() {
        for (name, _) in OPERATOR_ERRORS {
            assert_eq!(reason(json!([info(name)]), json!([])), Some(name));
            assert_eq!(reason(json!([]), json!([{"reason": "other"}, {"reason": name}])), Some(name));
        }
        // The present form comes before the older one.
        let both = reason(json!([info("SERVICE_DISABLED")]), json!([{"reason": "accessNotConfigured"}]));
        assert_eq!(both, Some("SERVICE_DISABLED"));
    }

    #[test]
    fn any_other_reason_is_not_the_operators() {
        for name in
            ["RATE_LIMIT_EXCEEDED", "RESOURCE_PROJECT_INVALID", "forbidden", "service_disabled", "NEW"]
        {
            assert_eq!(reason(json!([info(name)]), json!([{"reason": name}])), None, "{name}");
        }
        assert_eq!(reason(json!([]), json!([])), None);
    }
}
