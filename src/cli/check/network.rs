//! Findings that need the network: the Android Management API, the keys of callers' tokens, and the credentials.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, future::OptionFuture, stream};
use reqwest::Method;

use super::{credential, finding::Finding};
use crate::{
    background::Background,
    config::{CA_CERTIFICATES, Config, Credential, Jwks, Jwt, READABLE_FILE, Upstream},
    credentials::Surroundings,
    http_client::{Authorities, HttpClient, Progress, tls::TlsError},
    server::identity::jwks::{FetchError, ProbeError, count_keys},
};

/// The timeout of the request to the API.
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum of credentials that are checked at the same time.
const MAX_CONCURRENT_CREDENTIALS: usize = 16;

const UNREACHABLE_HINT: &str = "check that its name resolves and its port is open from here, by way of HTTPS_PROXY \
    if that is set, and that its certificate is trusted (upstream.ca_certificates)";

/// The findings about everything that a valid configuration names on the network.
pub(super) async fn findings(config: &Config) -> Vec<Finding> {
    let (keys, api, credentials) = tokio::join!(
        OptionFuture::from(config.callers.jwt.as_ref().map(jwks)),
        upstream(&config.upstream),
        credentials(&config.credentials, &config.upstream)
    );
    keys.into_iter().chain([api]).chain(credentials).collect()
}

/// Gets the base URL without a token. Any HTTP response shows that the API is reachable, and no quota is spent.
async fn upstream(upstream: &Upstream) -> Finding {
    let Upstream { url, ca_certificates, iam_credentials_url: _, timeout: _ } = upstream;
    let client = Authorities::of(ca_certificates.as_deref(), &Background::unsupervised())
        .and_then(|authorities| HttpClient::new(url.url(), &authorities));
    let client = match client {
        Ok(client) => client,
        Err(error) => return ca_certificates_error(&error),
    };
    let error = |finding, hint| Finding::error("upstream", finding, hint);
    let response = client.send(Method::GET, url.url().clone(), http::HeaderMap::new(), "");
    match tokio::time::timeout(UPSTREAM_TIMEOUT, response).await {
        Ok(Ok(response)) => {
            let status = response.status().as_u16();
            Finding::ok("upstream", format!("{url} was reached: HTTP {status} to a GET without a token"))
        }
        Ok(Err(failure)) => {
            let hint = match failure.progress {
                Progress::NotConnected | Progress::NotProcessed | Progress::Unknown => UNREACHABLE_HINT,
                Progress::NotHttp => {
                    "check that upstream.url names an HTTP server, with the right one of http and https"
                }
            };
            error(format!("{url} was not reached: {failure}"), hint)
        }
        Err(_) => error(format!("{url} did not answer within {UPSTREAM_TIMEOUT:?}"), UNREACHABLE_HINT),
    }
}

/// The certificates that the API and the token endpoints are verified with cannot be used.
fn ca_certificates_error(error: &TlsError) -> Finding {
    Finding::error("upstream.ca_certificates", error.to_string(), CA_CERTIFICATES)
}

/// Reads the file of keys, or fetches them once.
async fn jwks(jwt: &Jwt) -> Finding {
    const SUBJECT: &str = "callers.jwt.jwks";
    let source = match &jwt.jwks {
        Jwks::File(file) => file.display().to_string(),
        Jwks::Url { url, .. } => url.to_string(),
    };
    match count_keys(jwt).await {
        Ok(count) => {
            let (keys, issuer) = (if count == 1 { "key" } else { "keys" }, &jwt.issuer);
            Finding::ok(SUBJECT, format!("{source}: {count} {keys} to verify the tokens of {issuer} with"))
        }
        Err(error) => Finding::error(SUBJECT, format!("{source}: {error}"), jwks_hint(&error)),
    }
}

fn jwks_hint(error: &ProbeError) -> String {
    let hint = match error {
        ProbeError::Unreadable(_) => READABLE_FILE,
        ProbeError::Tls(_) => return format!("{CA_CERTIFICATES} in callers.jwt.jwks_ca_certificates"),
        ProbeError::Fetch(FetchError::Unanswered(_) | FetchError::Late | FetchError::Body(_)) => {
            "check that it can be reached from here, by way of HTTPS_PROXY if that is set, and that its \
             certificate is trusted (callers.jwt.jwks_ca_certificates)"
        }
        ProbeError::Fetch(FetchError::Status(401 | 403)) => {
            "let callers.jwt.jwks_token_file name a token that may read the keys, as Kubernetes' API server \
             requires"
        }
        ProbeError::Fetch(FetchError::Token { .. }) => {
            "let callers.jwt.jwks_token_file name a file with a token that this user may read"
        }
        ProbeError::Unusable(_) | ProbeError::Fetch(FetchError::Status(_) | FetchError::Unusable(_)) => {
            "check that it is the jwks_uri of the issuer, and that callers.jwt.algorithms has those of its \
             keys"
        }
    };
    hint.to_owned()
}

async fn credentials(list: &[Credential], upstream: &Upstream) -> Vec<Finding> {
    let iam = upstream.iam_credentials_url.url().clone();
    let surroundings = match Authorities::of(upstream.ca_certificates.as_deref(), &Background::unsupervised())
    {
        Ok(authorities) => Arc::new(Surroundings::new(authorities, iam)),
        Err(error) => return vec![ca_certificates_error(&error)],
    };
    let each = list.iter().map(|credential| credential::findings(credential, upstream, &surroundings));
    let findings: Vec<Vec<Finding>> = stream::iter(each).buffered(MAX_CONCURRENT_CREDENTIALS).collect().await;
    findings.concat()
}
