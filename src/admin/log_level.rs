//! `/loglevel`: shows and replaces the filter of the log. Only the admin port has it.
//!
//! A web page can send requests to this port from the operator's browser. Such a request has an `Origin` header, or a
//! host name of the page that resolves to loopback (DNS rebinding). Neither may change the filter.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{HOST, ORIGIN},
    uri::Authority,
};
use http_body_util::{BodyExt, Full, Limited};
use tokio::time::timeout;
use url::Host;

use super::pages::{TEXT, method_not_allowed, page};
use crate::{loopback::is_loopback_host, telemetry::log::LogLevels};

/// The maximum length of a filter, in bytes.
const MAX_FILTER_BYTES: usize = 4096;

/// A filter must arrive within this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Responds to a request for the page.
pub(super) async fn respond<B>(levels: &LogLevels, request: Request<B>) -> Response<Full<Bytes>>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let (head, body) = request.into_parts();
    match head.method {
        Method::GET | Method::HEAD => page(StatusCode::OK, TEXT, levels.current() + "\n"),
        Method::PUT | Method::POST => {
            if !is_local(&head.headers) {
                let reason = "the Host must be loopback, and there must be no Origin\n";
                return page(StatusCode::FORBIDDEN, TEXT, reason);
            }
            let body = timeout(BODY_TIMEOUT, Limited::new(body, MAX_FILTER_BYTES).collect());
            let Ok(Ok(body)) = body.await else {
                let reason = format!("the body must be a filter of at most {MAX_FILTER_BYTES} bytes\n");
                return page(StatusCode::BAD_REQUEST, TEXT, reason);
            };
            replace(levels, &body.to_bytes())
        }
        _ => method_not_allowed("GET,HEAD,PUT,POST"),
    }
}

fn replace(levels: &LogLevels, body: &[u8]) -> Response<Full<Bytes>> {
    let from = levels.current();
    let result = match str::from_utf8(body) {
        Ok(filter) => levels.set(filter).map_err(|error| error.to_string()),
        Err(_) => Err("the filter is not UTF-8".to_owned()),
    };
    if let Err(reason) = result {
        return page(StatusCode::BAD_REQUEST, TEXT, reason + "\n");
    }
    let to = levels.current();
    tracing::warn!(from, to, "the filter of the log was changed");
    page(StatusCode::OK, TEXT, to + "\n")
}

/// Whether the request names loopback as its host, and is not from a web page of another origin.
fn is_local(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let host = host.and_then(|host| Host::parse(host.host()).ok());
    let is_loopback = host.is_some_and(|host| match host {
        Host::Domain(name) => is_loopback_host(&Host::Domain(name.as_str())),
        Host::Ipv4(address) => is_loopback_host(&Host::Ipv4(address)),
        Host::Ipv6(address) => is_loopback_host(&Host::Ipv6(address)),
    });
    is_loopback && !headers.contains_key(ORIGIN)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::is_local;

    #[test]
    fn only_a_loopback_host_without_an_origin_is_local() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            let pairs = pairs
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
            HeaderMap::from_iter(pairs)
        };
        for host in
            ["localhost:9464", "localhost", "127.0.0.1:9464", "127.1.2.3", "[::1]:9464", "LOCALHOST:1"]
        {
            assert!(is_local(&headers(&[("host", host)])), "{host}");
            for origin in ["http://localhost:9464", "null", ""] {
                assert!(!is_local(&headers(&[("host", host), ("origin", origin)])), "{host} {origin}");
            }
        }
        for host in
            ["example.com:9464", "localhost.example.com", "10.0.0.1:9464", "", "127.0.0.1@example.com", "x"]
        {
            assert!(!is_local(&headers(&[("host", host)])), "{host}");
        }
        assert!(!is_local(&HeaderMap::new()));
    }
}
