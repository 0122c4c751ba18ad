//! Findings with network access: the Android Management API, the keys of callers' tokens, the store of the shared quota,
//! and the credentials.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, future::OptionFuture, stream};
use reqwest::Method;

use super::{
    credential::{self, without_query},
    finding::Finding,
    online::OnlineCheck,
    token_hint::PROXY_HINT,
};
use crate::{
    amapi::settings::Upstream,
    app::{Config, config::LoadedFiles},
    background::Background,
    credentials::{LoadedCredential, Surroundings, settings::CredentialConfig},
    http_client::{Authorities, HttpClient, Progress, ProxySettings},
    quota::shared::{
        CALL_TIMEOUT, Probed, probe,
        settings::{LoadedStore, SECTION as QUOTA_SHARED, StoreConfig},
    },
    server::{
        identity::jwks::{JwksFetchError, LoadedKeys},
        settings::{Jwks, Jwt},
    },
};

/// The timeout of the request to the API.
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum of credentials that are checked concurrently.
const MAX_CONCURRENT_CREDENTIALS: usize = 16;

pub(super) const UNREACHABLE_HINT: &str = "check that its name resolves and its port can be reached from here (through HTTPS_PROXY if that \
    is set), and that its certificate is trusted (upstream.ca_certificates)";

const QUOTA_SHARED_HINT: &str = "check that it can be reached from here, that its certificate is trusted \
    (quota_shared.ca_certificates), and that its user may load and run scripts";

/// The findings about the network endpoints in a valid configuration. With `online`, each credential sends a query.
pub(super) async fn findings(config: Config, online: bool) -> Vec<Finding> {
    let Config { settings, loaded, proxy, traces: _, unknown_variables: _, file: _, effective: _ } = config;
    let LoadedFiles { tls: _, authorities, keys, policy: _, credentials: loaded, quota_store } = loaded;
    let authorities = authorities.start(&Background::unsupervised());
    let issuer = settings.jwt.as_ref().zip(keys);
    let store = settings.quota_shared.as_ref().zip(quota_store);
    let (keys, api, store, credentials) = tokio::join!(
        OptionFuture::from(issuer.map(|(jwt, keys)| jwks(jwt, keys))),
        upstream(&settings.upstream, &authorities, &proxy),
        OptionFuture::from(store.map(|(config, loaded)| quota_store_finding(config, loaded))),
        credentials(&settings.credentials, &loaded, &settings.upstream, &authorities, &proxy, online)
    );
    keys.into_iter().chain([api]).chain(store).chain(credentials).collect()
}

/// Gets the base URL without a token, which costs no quota. Any HTTP response shows that the API is reachable.
async fn upstream(upstream: &Upstream, authorities: &Authorities, proxy: &ProxySettings) -> Finding {
    let url = &upstream.url;
    let client = match HttpClient::new(url.url(), authorities, proxy) {
        Ok(client) => client,
        Err(error) => return Finding::error("upstream", error.to_string(), "report this"),
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
                _ if failure.is_refused_by_proxy => PROXY_HINT,
                Progress::NotConnected | Progress::NotProcessed | Progress::Unknown => UNREACHABLE_HINT,
                Progress::NotHttp | Progress::NotBuilt => {
                    "check that upstream.url names an HTTP server, and that its scheme (http or https) is correct"
                }
            };
            error(format!("{url} was not reached: {failure}"), hint)
        }
        Err(_) => error(format!("{url} sent no response within {UPSTREAM_TIMEOUT:?}"), UNREACHABLE_HINT),
    }
}

/// Connects to the store of the shared quota, and runs the script once.
async fn quota_store_finding(config: &StoreConfig, loaded: LoadedStore) -> Finding {
    match probe(config, loaded).await {
        Ok(probed) => reached_quota_store(&probed),
        Err(problem) => Finding::error(QUOTA_SHARED, problem, QUOTA_SHARED_HINT),
    }
}

/// With a call over the time limit, each replica would use its part of the budget.
fn reached_quota_store(Probed { address, call_time }: &Probed) -> Finding {
    let milliseconds = call_time.as_secs_f64() * 1e3;
    if *call_time <= CALL_TIMEOUT {
        return Finding::ok(QUOTA_SHARED, format!("{address} runs the script in {milliseconds:.1} ms"));
    }
    let limit = CALL_TIMEOUT.as_millis();
    let finding = format!("{address}: a call takes {milliseconds:.0} ms; over {limit} ms counts as away");
    Finding::warning(QUOTA_SHARED, finding, "place the store nearer")
}

/// Reads or fetches the key set once.
async fn jwks(jwt: &Jwt, keys: LoadedKeys) -> Finding {
    const SUBJECT: &str = "callers.jwt.jwks";
    let source = match &jwt.jwks {
        Jwks::File(file) => file.display().to_string(),
        Jwks::Url { url, .. } => without_query(url).to_string(),
    };
    match keys.count(&jwt.algorithms).await {
        Ok(count) => {
            let (keys, issuer) = (if count == 1 { "key" } else { "keys" }, &jwt.issuer);
            Finding::ok(SUBJECT, format!("{source}: {count} {keys} to verify the tokens of {issuer}"))
        }
        Err(error) => Finding::error(SUBJECT, format!("{source}: {error}"), jwks_hint(&error)),
    }
}

fn jwks_hint(error: &JwksFetchError) -> &'static str {
    match error {
        JwksFetchError::Client(_) => "report this",
        JwksFetchError::NoResponse(error) if error.is_refused_by_proxy => PROXY_HINT,
        JwksFetchError::NoResponse(_) | JwksFetchError::TimedOut | JwksFetchError::Body(_) => {
            "check that it can be reached from here (through HTTPS_PROXY if that is set), and that its \
             certificate is trusted (callers.jwt.jwks_ca_certificates)"
        }
        JwksFetchError::Status(401 | 403) => {
            "set callers.jwt.jwks_token_file to a file with a token that may read the keys, as Kubernetes' API \
             server requires"
        }
        JwksFetchError::Token { .. } => {
            "set callers.jwt.jwks_token_file to a file with a token that this user may read"
        }
        JwksFetchError::Status(_) | JwksFetchError::Unusable(_) => {
            "check that it is the jwks_uri of the issuer, and that callers.jwt.algorithms contains the algorithms of \
             its keys"
        }
    }
}

async fn credentials(
    list: &[CredentialConfig],
    loaded: &[LoadedCredential],
    upstream: &Upstream,
    authorities: &Authorities,
    proxy: &ProxySettings,
    online: bool,
) -> Vec<Finding> {
    // An error of the HTTP client is a finding of `upstream`.
    let online = online.then(|| OnlineCheck::new(upstream, authorities, proxy).ok()).flatten();
    let iam = upstream.iam_credentials_url.url().clone();
    let surroundings = Arc::new(Surroundings::new(authorities.clone(), proxy.clone(), iam));
    let each = list.iter().zip(loaded).map(|(credential, loaded)| {
        credential::findings(credential, loaded, upstream, &surroundings, online.as_ref())
    });
    let findings: Vec<Vec<Finding>> = stream::iter(each).buffered(MAX_CONCURRENT_CREDENTIALS).collect().await;
    findings.concat()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Probed, reached_quota_store};

    #[test]
    fn a_store_with_slow_calls_is_a_warning() {
        let finding = |millis| {
            let call_time = Duration::from_millis(millis);
            reached_quota_store(&Probed { address: "redis://valkey".to_owned(), call_time }).to_string()
        };
        assert_eq!(finding(50), "quota_shared: redis://valkey runs the script in 50.0 ms");
        let slow = "quota_shared: redis://valkey: a call takes 73 ms; over 50 ms counts as away; place the store nearer";
        assert_eq!(finding(73), slow);
    }
}
