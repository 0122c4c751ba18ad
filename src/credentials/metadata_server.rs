//! Tokens for the service account of the machine that we run on, by its metadata server
//! (Google Cloud, "About VM metadata"; AIP-4115).
//!
//! The one place where plain HTTP to any host is right: the server is on the link, has no certificate, and
//! proxies are never used for `http` URLs.

use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::Url;

use super::{
    Surroundings,
    ask::{Asked, Question, Reply, Whom},
    safe_url::has_login,
    token::{FetchError, Token},
};

/// Who is asked.
const WHOM: Whom<'static> = Whom { asked: Asked::MetadataServer, name: "the metadata server" };

/// Asked for with each request, so that no page can make a browser send it; answered with each answer, so
/// that nothing else is taken for the metadata server.
const FLAVOR: HeaderName = HeaderName::from_static("metadata-flavor");
const GOOGLE: HeaderValue = HeaderValue::from_static("Google");

const PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/";

/// More than the name of any account.
const LONGEST_NAME: usize = 320;

/// The metadata server.
pub(super) struct MetadataServer {
    token_url: Url,
    email_url: Url,
}

impl MetadataServer {
    /// The server at `host` or `host:port`; `None` when that is neither.
    pub(super) fn at(host: &str) -> Option<Self> {
        let base = Url::parse(&format!("http://{host}{PATH}")).ok()?;
        let plain = base.path() == PATH
            && !has_login(&base)
            && base.query().is_none()
            && base.fragment().is_none()
            && base.port() != Some(0);
        let (token_url, email_url) = (base.join("token").ok()?, base.join("email").ok()?);
        plain.then_some(Self { token_url, email_url })
    }

    pub(super) fn endpoint(&self) -> &Url {
        &self.token_url
    }

    pub(super) async fn fetch(&self, surroundings: &Surroundings, scope: &str) -> Result<Token, FetchError> {
        let mut url = self.token_url.clone();
        url.query_pairs_mut().append_pair("scopes", scope);
        ask(surroundings, url).await?.granted()
    }

    /// The account's email, or the workload pool of a cluster that gives its pods no account.
    pub(super) async fn identify(&self, surroundings: &Surroundings) -> Result<String, FetchError> {
        let reply = ask(surroundings, self.email_url.clone()).await?;
        let name = std::str::from_utf8(&reply.body).unwrap_or_default().trim();
        if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(reply.unusable("answered with something that is no account"));
        }
        Ok(name.to_owned())
    }
}

async fn ask(surroundings: &Surroundings, url: Url) -> Result<Reply<'static>, FetchError> {
    let client = surroundings.client(&url)?;
    let reply = Question::get(WHOM, url, HeaderMap::from_iter([(FLAVOR, GOOGLE)])).ask(&client).await?;
    if reply.headers.get(FLAVOR) != Some(&GOOGLE) {
        let status = reply.status.as_u16();
        let stranger =
            format!("answered HTTP {status} without Metadata-Flavor: Google: it is something else");
        return Err(reply.unusable(&stranger));
    }
    reply.succeeded()?;
    Ok(reply)
}

#[cfg(test)]
mod tests;
