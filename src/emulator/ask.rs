//! The addresses of the endpoints that give tokens. At Google each endpoint has a host of its own, and these
//! paths.

use http::Method;

use super::condition::Endpoint;
use super::route::{NoCall, decode};

/// What an endpoint that gives tokens is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// A token, of OAuth's token endpoint.
    Token,
    /// The token exchange.
    Sts,
    SubjectToken,
    /// The metadata server, which reads the path itself.
    Metadata,
    /// `generateAccessToken` of the account with this address.
    GenerateAccessToken(String),
}

impl Ask {
    /// Reads the request line; `None` when it is for the API, if for anything.
    pub(super) fn of(method: &Method, path: &str) -> Result<Option<Self>, NoCall> {
        Ok(match (method, path) {
            (&Method::POST, "/token") => Some(Self::Token),
            (&Method::POST, "/v1/token") => Some(Self::Sts),
            (&Method::POST, path) => impersonated(path)?.map(Self::GenerateAccessToken),
            (&Method::GET, "/subject-token") => Some(Self::SubjectToken),
            (&Method::GET, "/") => Some(Self::Metadata),
            (&Method::GET, path) if path.starts_with("/computeMetadata/") => Some(Self::Metadata),
            _ => None,
        })
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        match self {
            Self::Token => Endpoint::Token,
            Self::Sts => Endpoint::Sts,
            Self::SubjectToken => Endpoint::SubjectToken,
            Self::Metadata => Endpoint::Metadata,
            Self::GenerateAccessToken(_) => Endpoint::Iam,
        }
    }
}

/// The account in the address of `generateAccessToken`, whose project must be the wildcard; `None` for any
/// other address.
fn impersonated(path: &str) -> Result<Option<String>, NoCall> {
    let Some(rest) = path.strip_prefix("/v1/projects/-/serviceAccounts/") else { return Ok(None) };
    let rest = decode(rest).ok_or(NoCall::Malformed)?;
    let account = rest.strip_suffix(":generateAccessToken");
    let named = account.filter(|account| !account.is_empty() && !account.contains('/'));
    Ok(named.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoints_that_give_tokens_have_theirs() {
        let asked = |method, path: &str| Ask::of(&method, path).unwrap();
        assert_eq!(asked(Method::POST, "/token"), Some(Ask::Token));
        assert_eq!(asked(Method::POST, "/v1/token"), Some(Ask::Sts));
        assert_eq!(asked(Method::GET, "/subject-token"), Some(Ask::SubjectToken));
        for path in ["/", "/computeMetadata/", "/computeMetadata/v1/instance/service-accounts/"] {
            assert_eq!(asked(Method::GET, path), Some(Ask::Metadata), "{path}");
        }
        let accounts = "/v1/projects/-/serviceAccounts";
        for name in ["a@b.iam:generateAccessToken", "a%40b.iam%3AgenerateAccessToken"] {
            let wanted = Some(Ask::GenerateAccessToken("a@b.iam".to_owned()));
            assert_eq!(asked(Method::POST, &format!("{accounts}/{name}")), wanted);
        }
        assert_eq!(asked(Method::GET, "/v1/enterprises/LC01/devices/d1/operations"), None);
    }
}
