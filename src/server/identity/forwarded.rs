//! Identities that mesh proxies forward in headers: `x-forwarded-client-cert` and `l5d-client-id`.
//!
//! # x-forwarded-client-cert
//!
//! The header has an element for each client certificate that a proxy verified (Envoy, "HTTP header manipulation").
//! Commas separate the elements. Semicolons separate the `Key=Value` pairs of an element. A value with one of
//! `,;="` is in double quotes, with `\"` and `\\` for `"` and `\`.
//!
//! Each proxy appends its element. Therefore only the last element is from the trusted proxy. A client may have
//! sent the elements before it.
//!
//! A client cannot move the start of the last element with an unclosed quote. The proxy's element has an even
//! number of quotes, so one quote is unclosed at the end, and such a header is refused. A `\"` in one of the
//! proxy's values could make the number even. But then its backslash is outside of quotes, where a backslash is
//! refused.

use std::borrow::Cow;

use http::HeaderMap;

use super::Refusal;
use crate::caller::Identity;

const XFCC: &str = "x-forwarded-client-cert";

/// The identity that Linkerd's proxy verified (Linkerd, "Identity").
const L5D_CLIENT_ID: &str = "l5d-client-id";

/// An invalid `x-forwarded-client-cert` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidXfcc {
    /// The header is malformed.
    #[error("cannot be parsed")]
    Form,
    /// The last element has several URIs, so the caller is ambiguous.
    #[error("has several URIs in its last element")]
    SeveralUris,
}

/// The identity of a workload as the policy language writes it: a SPIFFE ID, or `dns:` and a DNS name in any
/// case. `None` for any other text.
#[must_use]
pub fn workload_identity(text: &str) -> Option<Identity> {
    text.strip_prefix("dns:").map_or_else(|| spiffe(text), dns)
}

/// `spiffe://trust-domain/path`; `None` for any other URI.
pub(super) fn spiffe(uri: &str) -> Option<Identity> {
    uri.parse().ok().map(Identity::Spiffe)
}

/// A DNS name, in any case; `None` for any other text and for a wildcard.
pub(super) fn dns(name: &str) -> Option<Identity> {
    name.parse().ok().map(Identity::Dns)
}

/// The identity in `x-forwarded-client-cert`.
pub(super) fn by_xfcc(headers: &HeaderMap) -> Result<Option<Identity>, Refusal> {
    let mut lines = headers.get_all(XFCC).iter();
    let identity = match (lines.next(), lines.next()) {
        (None, _) => return Ok(None),
        (Some(line), None) => xfcc_identity(line.as_bytes()),
        (Some(_), Some(_)) => {
            // Several lines are one list (RFC 9110, section 5.2).
            let lines: Vec<_> = headers.get_all(XFCC).iter().map(|line| line.as_bytes()).collect();
            xfcc_identity(&lines.join(&b','))
        }
    };
    identity.map_err(Refusal::ForwardedClientCert)
}

/// The identity in `l5d-client-id`: a DNS name such as
/// `NAME.NAMESPACE.serviceaccount.identity.linkerd.cluster.local`, or a SPIFFE ID, which Linkerd's proxies
/// outside of Kubernetes have.
pub(super) fn by_linkerd(headers: &HeaderMap) -> Result<Option<Identity>, Refusal> {
    let mut lines = headers.get_all(L5D_CLIENT_ID).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(None),
        (Some(line), None) => linkerd_identity(line.as_bytes()).map(Some).ok_or(Refusal::LinkerdClientId),
        (Some(_), Some(_)) => Err(Refusal::LinkerdClientId),
    }
}

fn linkerd_identity(value: &[u8]) -> Option<Identity> {
    let value = str::from_utf8(value).ok()?;
    spiffe(value).or_else(|| dns(value))
}

/// The identity in the last element of an `x-forwarded-client-cert` header: its URI when that is a SPIFFE ID,
/// otherwise the first of its DNS names that is not a wildcard. `None` when the element has neither.
///
/// # Errors
///
/// See [`InvalidXfcc`]. All elements are parsed, because a malformed element has no certain end.
pub fn xfcc_identity(header: &[u8]) -> Result<Option<Identity>, InvalidXfcc> {
    let mut rest = header;
    loop {
        let (element, more) = Element::read(rest)?;
        match more {
            Some(more) => rest = more,
            None => return element.identity(),
        }
    }
}

/// The client's names in an element, unquoted and in order. Empty values are ignored, because Envoy writes `URI=`
/// for a certificate without a URI.
#[derive(Debug, Default)]
struct Element<'a> {
    uris: Vec<Cow<'a, [u8]>>,
    dns: Vec<Cow<'a, [u8]>>,
}

impl<'a> Element<'a> {
    /// Reads the first element of `text`. Returns the element, and the text after its comma.
    fn read(text: &'a [u8]) -> Result<(Self, Option<&'a [u8]>), InvalidXfcc> {
        let mut element = Self::default();
        let mut rest = text;
        loop {
            rest = rest.trim_ascii_start();
            let of_key = |c: &u8| c.is_ascii_alphanumeric() || b"-_".contains(c);
            let (key, tail) = rest.split_at(rest.iter().take_while(|c| of_key(c)).count());
            let (value, tail) = match tail.split_first() {
                Some((b'=', tail)) if !key.is_empty() => read_value(tail)?,
                _ => return Err(InvalidXfcc::Form),
            };
            let names = match key {
                _ if value.is_empty() => None,
                key if key.eq_ignore_ascii_case(b"uri") => Some(&mut element.uris),
                key if key.eq_ignore_ascii_case(b"dns") => Some(&mut element.dns),
                _ => None,
            };
            if let Some(names) = names {
                names.push(value);
            }
            match tail.trim_ascii_start().split_first() {
                None => return Ok((element, None)),
                Some((b';', tail)) => rest = tail,
                Some((b',', tail)) => return Ok((element, Some(tail))),
                Some(_) => return Err(InvalidXfcc::Form),
            }
        }
    }

    fn identity(&self) -> Result<Option<Identity>, InvalidXfcc> {
        let by_uri = match &self.uris[..] {
            [] => None,
            [uri] => str::from_utf8(uri).ok().and_then(spiffe),
            _ => return Err(InvalidXfcc::SeveralUris),
        };
        let by_dns = || self.dns.iter().find_map(|name| dns(str::from_utf8(name).ok()?));
        Ok(by_uri.or_else(by_dns))
    }
}

/// Reads the value at the start of `text`. Returns the unquoted value, and the text after it.
fn read_value(text: &[u8]) -> Result<(Cow<'_, [u8]>, &[u8]), InvalidXfcc> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        // A quote or a backslash ends the value too. The caller then fails, because no separator follows.
        let end = text.iter().position(|c| b",;\"\\".contains(c)).unwrap_or(text.len());
        let (value, tail) = text.split_at(end);
        return Ok((value.trim_ascii_end().into(), tail));
    };
    let mut end = 0;
    let mut has_escapes = false;
    loop {
        match quoted.get(end).ok_or(InvalidXfcc::Form)? {
            b'"' => break,
            b'\\' => {
                has_escapes = true;
                end += 2;
            }
            _ => end += 1,
        }
    }
    let (value, tail) = quoted.split_at(end);
    let value = if has_escapes { unescaped(value).into() } else { value.into() };
    Ok((value, &tail[1..]))
}

/// Replaces `\"` and `\\` by `"` and `\`. A backslash before any other character is kept, because names of
/// certificate subjects have such escapes (RFC 4514, section 2.4).
fn unescaped(value: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(value.len());
    let mut bytes = value.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        let escaped = if byte == b'\\' { bytes.next_if(|next| b"\"\\".contains(next)) } else { None };
        plain.push(escaped.unwrap_or(byte));
    }
    plain
}

#[cfg(test)]
mod tests;
