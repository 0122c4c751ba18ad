//! Whether the Android Management API can be reached.

use std::time::Duration;

use reqwest::Method;

use super::finding::Finding;
use crate::{
    amapi::settings::Upstream,
    config,
    http_client::{Authorities, HttpClient, Progress, tls::TlsError},
};

const SUBJECT: &str = "upstream";

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

const UNREACHED: &str = "see that its name is known and its port open from here, by way of HTTPS_PROXY where \
    that is set, and that its certificate is trusted (upstream.ca_certificates)";

/// Asks for the base URL, without a token: whatever HTTP answer comes, it was reached, and no quota was
/// spent.
pub(super) async fn finding(upstream: &Upstream, authorities: &Authorities) -> Finding {
    let Upstream { url, ca_certificates: _, iam_credentials_url: _, timeout: _ } = upstream;
    let client = match HttpClient::new(url.url(), authorities) {
        Ok(client) => client,
        Err(error) => return of_certificates(&error),
    };
    let asked = client.send(Method::GET, url.url().clone(), http::HeaderMap::new(), "");
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(answer)) => {
            let status = answer.status().as_u16();
            Finding::ok(SUBJECT, format!("{url} was reached: HTTP {status} to a GET without a token"))
        }
        Ok(Err(failure)) => {
            let cure = match failure.progress {
                Progress::NotConnected | Progress::NotProcessed | Progress::Unknown => UNREACHED,
                Progress::NotHttp => {
                    "see that upstream.url names an HTTP server, and the right one of http and https"
                }
            };
            Finding::fault(SUBJECT, format!("{url} was not reached: {failure}"), cure)
        }
        Err(_) => Finding::fault(SUBJECT, format!("{url} did not answer within {PATIENCE:?}"), UNREACHED),
    }
}

/// What is wrong with the certificates that the API and the token endpoints are believed by.
fn of_certificates(error: &TlsError) -> Finding {
    Finding::fault("upstream.ca_certificates", error.to_string(), config::CA_CERTIFICATES)
}
