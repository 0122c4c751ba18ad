//! Whether the keys that callers' tokens are verified with can be had.

use super::finding::Finding;
use crate::{
    config::CA_CERTIFICATES,
    server::{
        identity::jwks::{FetchError, LoadedKeys},
        settings::{Jwks, Jwt},
    },
};

const SUBJECT: &str = "callers.jwt.jwks";

/// Reads the file of keys, or fetches them once.
pub(super) async fn finding(jwt: &Jwt, keys: LoadedKeys) -> Finding {
    let place = match &jwt.jwks {
        Jwks::File(file) => file.display().to_string(),
        Jwks::Url { url, .. } => url.to_string(),
    };
    match keys.count(&jwt.algorithms).await {
        Ok(count) => {
            let (keys, issuer) = (if count == 1 { "key" } else { "keys" }, &jwt.issuer);
            Finding::ok(SUBJECT, format!("{place}: {count} {keys} to verify the tokens of {issuer} with"))
        }
        Err(error) => Finding::fault(SUBJECT, format!("{place}: {error}"), cure(&error)),
    }
}

fn cure(error: &FetchError) -> String {
    let cure = match error {
        FetchError::Client(_) => return format!("{CA_CERTIFICATES} in callers.jwt.jwks_ca_certificates"),
        FetchError::Unanswered(_) | FetchError::Late | FetchError::Body(_) => {
            "see that it can be reached from here, by way of HTTPS_PROXY where that is set, and that its \
             certificate is trusted (callers.jwt.jwks_ca_certificates)"
        }
        FetchError::Status(401 | 403) => {
            "let callers.jwt.jwks_token_file name a token that may read the keys, as Kubernetes' API server \
             wants one"
        }
        FetchError::Token { .. } => {
            "let callers.jwt.jwks_token_file name a file with a token that this user may read"
        }
        FetchError::Status(_) | FetchError::Unusable(_) => {
            "see that it is the jwks_uri of the issuer, and that callers.jwt.algorithms has those of its keys"
        }
    };
    cure.to_owned()
}
