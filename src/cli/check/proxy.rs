//! The findings about the proxy variables.

use std::collections::BTreeSet;

use url::Url;

use super::finding::Finding;
use crate::{
    app::{Config, config::Settings},
    credentials::LoadedCredential,
    http_client::{IgnoredVariable, ProxySettings},
    server::settings::Jwks,
};

/// The proxy, the hosts that it is used for, and a warning for each ignored variable.
pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let Config { settings, loaded, proxy, traces: _, unknown_variables: _, file: _, effective: _ } = config;
    let mut findings = Vec::from_iter(hosts(&endpoints(settings, &loaded.credentials), proxy));
    findings.extend(proxy.ignored().iter().map(|IgnoredVariable { ignored, used }| {
        let finding = format!("it is ignored, because {used} is also set, and differs");
        Finding::warning(*ignored, finding, "set both to the same value, or unset one of them")
    }));
    findings
}

fn hosts(endpoints: &[&Url], settings: &ProxySettings) -> Option<Finding> {
    let proxy = settings.proxy()?;
    let (through, direct): (Vec<&Url>, Vec<&Url>) =
        endpoints.iter().copied().partition(|url| settings.applies_to(url));
    let list =
        |urls: Vec<&Url>| Vec::from_iter(urls.into_iter().map(host).collect::<BTreeSet<_>>()).join(", ");
    let finding = match (list(through), list(direct)) {
        (through, direct) if direct.is_empty() => format!("the proxy {proxy} is used for {through}"),
        (through, direct) if through.is_empty() => format!("the proxy {proxy} is not used for {direct}"),
        (through, direct) => format!("the proxy {proxy} is used for {through}, and not for {direct}"),
    };
    Some(Finding::ok(proxy.variable(), finding))
}

/// The URLs that `serve` sends requests to.
fn endpoints<'a>(settings: &'a Settings, credentials: &'a [LoadedCredential]) -> Vec<&'a Url> {
    let mut urls = vec![settings.upstream.url.url()];
    urls.extend(credentials.iter().flat_map(LoadedCredential::endpoints));
    if settings.credentials.iter().any(|credential| credential.definition.impersonate.is_some()) {
        urls.push(settings.upstream.iam_credentials_url.url());
    }
    urls.extend(settings.jwt.iter().filter_map(|jwt| match &jwt.jwks {
        Jwks::Url { url, .. } => Some(url),
        Jwks::File(_) => None,
    }));
    urls
}

/// The host, with the port unless it is the scheme's.
fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
