//! Hints for errors of token requests. A hint depends on the service and on the error.

use crate::credentials::{FetchError, FetchErrorKind, TokenService};

/// The hint for a proxy that refuses the tunnel.
pub(super) const PROXY_HINT: &str = "check that the proxy permits CONNECT to this host, that its variable holds the user and the \
    password that it wants, or name the host in NO_PROXY";

pub(super) fn hint(error: &FetchError) -> &'static str {
    match error.kind {
        FetchErrorKind::Unreachable => unanswered(error.service),
        FetchErrorKind::RefusedByProxy => PROXY_HINT,
        FetchErrorKind::Refused => refused(error.service),
        FetchErrorKind::Unusable => unusable(error.service),
        FetchErrorKind::NoSubjectToken => {
            "check that credential_source in the credential file names the source of the subject token, and that \
             the source can be read from here"
        }
        FetchErrorKind::Internal => "report this",
    }
}

fn unanswered(service: Option<TokenService>) -> &'static str {
    match service {
        Some(TokenService::MetadataServer) => {
            "check that this is a machine or a pod of Google Cloud that can reach the metadata server, and that \
             GCE_METADATA_HOST, if set, is correct"
        }
        Some(TokenService::SubjectTokenSource) => {
            "check that credential_source.url in the credential file is correct, and can be reached from here"
        }
        Some(TokenService::IamCredentials) => {
            "check that IAM Credentials (upstream.iam_credentials_url, or service_account_impersonation_url in the \
             credential file) can be reached from here (through HTTPS_PROXY if that is set), and that its \
             certificate is trusted (upstream.ca_certificates)"
        }
        Some(TokenService::TokenEndpoint | TokenService::TokenExchange) | None => {
            "check that the token endpoint can be reached from here (through HTTPS_PROXY if that is set), and that \
             its certificate is trusted (upstream.ca_certificates)"
        }
    }
}

fn refused(service: Option<TokenService>) -> &'static str {
    match service {
        Some(TokenService::MetadataServer) => {
            "give this machine or pod a service account, with the scope among its access scopes"
        }
        Some(TokenService::SubjectTokenSource) => {
            "check that url and headers of credential_source in the credential file are correct, and that this \
             workload may get a token there"
        }
        Some(TokenService::TokenExchange) => {
            "check that audience and subject_token_type in the credential file are those of the pool's provider, \
             that the provider accepts the subject token's issuer and audience, and that the clock here is correct"
        }
        Some(TokenService::IamCredentials) => {
            "check that the account exists and is not disabled, that the credential has the role Service Account \
             Token Creator on it, and that its project has the IAM Service Account Credentials API enabled"
        }
        Some(TokenService::TokenEndpoint) | None => {
            "check that the key or login was not revoked, that its account is not disabled and has the permission, \
             and that the clock here is correct"
        }
    }
}

fn unusable(service: Option<TokenService>) -> &'static str {
    match service {
        Some(TokenService::MetadataServer) => {
            "check that GCE_METADATA_HOST, if set, names a metadata server, or try again later"
        }
        Some(TokenService::SubjectTokenSource) => {
            "check that credential_source.url in the credential file is correct, or try again later"
        }
        Some(TokenService::TokenExchange) => {
            "check that token_url in the credential file is that of the download, or try again later"
        }
        Some(TokenService::IamCredentials) => {
            "check that upstream.iam_credentials_url, or service_account_impersonation_url in the credential file, \
             is IAM Credentials, or try again later"
        }
        Some(TokenService::TokenEndpoint) | None => {
            "check that token_uri in the credential file is that of the download, or try again later"
        }
    }
}
