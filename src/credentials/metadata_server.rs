//! Tokens for the service account of this machine, from its metadata server (Google Cloud, "About VM metadata";
//! AIP-4115).
//!
//! Only this module allows plain HTTP to any host: the server is link-local, has no certificate, and `http` URLs never
//! use a proxy.

use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::Url;

use super::{
    Surroundings,
    request::{TokenRequest, TokenResponse},
    token::{FetchError, Token, TokenService},
};
use crate::config::endpoint::has_login;

/// Each request has this header, because no web page can make a browser send it. Each response must have it, because
/// another server could answer at this address.
const FLAVOR: HeaderName = HeaderName::from_static("metadata-flavor");
const GOOGLE: HeaderValue = HeaderValue::from_static("Google");

const PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/";

/// The server returns a cached token until the token ends, and rounds its remaining lifetime down. A remaining lifetime
/// of zero counts as one second, so that calls use the token until the next fetch.
const MIN_SECONDS: u64 = 1;

/// The longest accepted account name, in bytes. No real name is as long.
const MAX_NAME: usize = 320;

/// The metadata server.
pub(super) struct MetadataServer {
    token_url: Url,
    email_url: Url,
}

impl MetadataServer {
    /// The server at `host` or `host:port`; `None` when that is neither.
    pub(super) fn at(host: &str) -> Option<Self> {
        let base = Url::parse(&format!("http://{host}{PATH}")).ok()?;
        let is_host = base.path() == PATH
            && !has_login(&base)
            && base.query().is_none()
            && base.fragment().is_none()
            && base.port() != Some(0);
        let (token_url, email_url) = (base.join("token").ok()?, base.join("email").ok()?);
        is_host.then_some(Self { token_url, email_url })
    }

    pub(super) fn endpoint(&self) -> &Url {
        &self.token_url
    }

    pub(super) async fn fetch(&self, surroundings: &Surroundings, scope: &str) -> Result<Token, FetchError> {
        let mut url = self.token_url.clone();
        url.query_pairs_mut().append_pair("scopes", scope);
        get(surroundings, url).await?.granted(MIN_SECONDS)
    }

    /// The account's email, or the workload pool of a cluster that gives its pods no account.
    pub(super) async fn identify(&self, surroundings: &Surroundings) -> Result<String, FetchError> {
        let response = get(surroundings, self.email_url.clone()).await?;
        let name = str::from_utf8(&response.body).unwrap_or_default().trim();
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(response.unusable("answered with something that is no account"));
        }
        Ok(name.to_owned())
    }
}

async fn get(surroundings: &Surroundings, url: Url) -> Result<TokenResponse, FetchError> {
    let client = surroundings.client(&url)?;
    let headers = HeaderMap::from_iter([(FLAVOR, GOOGLE)]);
    let response = TokenRequest::get(TokenService::MetadataServer, url, headers).send(&client).await?;
    if response.headers.get(FLAVOR) != Some(&GOOGLE) {
        let status = response.status.as_u16();
        return Err(response.unusable(&format!(
            "answered HTTP {status} without Metadata-Flavor: Google: it is something else"
        )));
    }
    response.succeeded()?;
    Ok(response)
}

#[cfg(test)]
mod tests;
