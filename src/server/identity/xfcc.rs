//! `x-forwarded-client-cert`: the client certificates that mesh proxies have verified on the way (Envoy,
//! "HTTP header manipulation", x-forwarded-client-cert).
//!
//! Elements are separated by commas, their `Key=Value` pairs by semicolons. A value with one of `,;="` in
//! it stands in double quotes, with `\"` and `\\` for `"` and `\`. Each proxy adds its element at the end,
//! so only the last one is the word of the proxy that we trust: what stands before it may have been sent
//! by anybody.
//!
//! # Why nobody before the last element can move its beginning
//!
//! They could by a quote that they leave open. But the proxy's own element has an even number of quotes, so
//! one is still open at the end, and such a header is refused. A `\"` in one of its values could make the
//! number even again; outside of quotes, where it then stands, a backslash is refused.

use std::borrow::Cow;

use crate::caller::Identity;

use super::names;

/// The header.
pub(super) const HEADER: &str = "x-forwarded-client-cert";

/// Why a header states no identity that could be believed or passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It is not of the form above.
    #[error("cannot be parsed")]
    Form,
    /// Its last element has several URIs, of which a proxy would have to choose one.
    #[error("has several URIs in its last element")]
    SeveralUris,
}

/// Who the last element of `header` says calls: its URI when that is a SPIFFE ID, else the first of its DNS
/// names that is no wildcard. `None` when it has neither. Several lines of the header are to be joined by
/// commas first (RFC 9110, section 5.2).
///
/// # Errors
///
/// See [`Invalid`]. Every element is looked at: where one ends is not known when one is malformed.
pub fn identity(header: &[u8]) -> Result<Option<Identity>, Invalid> {
    let mut rest = header;
    loop {
        let (element, more) = Element::read(rest)?;
        match more {
            Some(more) => rest = more,
            None => return element.identity(),
        }
    }
}

/// What an element says of the client's names, unquoted, in their order. One that is empty says nothing:
/// Envoy writes `URI=` for a certificate without one.
#[derive(Debug, Default)]
struct Element<'a> {
    uris: Vec<Cow<'a, [u8]>>,
    dns: Vec<Cow<'a, [u8]>>,
}

impl<'a> Element<'a> {
    /// The first element of `text`, and what follows the comma behind it.
    fn read(text: &'a [u8]) -> Result<(Self, Option<&'a [u8]>), Invalid> {
        let mut element = Self::default();
        let mut rest = text;
        loop {
            rest = rest.trim_ascii_start();
            let of_key = |c: &u8| c.is_ascii_alphanumeric() || b"-_".contains(c);
            let (key, tail) = rest.split_at(rest.iter().take_while(|c| of_key(c)).count());
            let (value, tail) = match tail.split_first() {
                Some((b'=', tail)) if !key.is_empty() => read_value(tail)?,
                _ => return Err(Invalid::Form),
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
                Some(_) => return Err(Invalid::Form),
            }
        }
    }

    fn identity(&self) -> Result<Option<Identity>, Invalid> {
        let spiffe = match &self.uris[..] {
            [] => None,
            [uri] => str::from_utf8(uri).ok().and_then(names::spiffe),
            _ => return Err(Invalid::SeveralUris),
        };
        let dns = || self.dns.iter().find_map(|name| names::dns(str::from_utf8(name).ok()?));
        Ok(spiffe.or_else(dns))
    }
}

/// The value at the beginning of `text`, unquoted, and what follows it.
fn read_value(text: &[u8]) -> Result<(Cow<'_, [u8]>, &[u8]), Invalid> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        // A quote or a backslash ends it too, and is then no separator.
        let end = text.iter().position(|c| b",;\"\\".contains(c)).unwrap_or(text.len());
        let (value, tail) = text.split_at(end);
        return Ok((value.trim_ascii_end().into(), tail));
    };
    let mut end = 0;
    let mut escapes = false;
    loop {
        match quoted.get(end).ok_or(Invalid::Form)? {
            b'"' => break,
            b'\\' => {
                escapes = true;
                end += 2;
            }
            _ => end += 1,
        }
    }
    let (value, tail) = quoted.split_at(end);
    let value = if escapes { unescaped(value).into() } else { value.into() };
    Ok((value, &tail[1..]))
}

/// `value` with `\"` and `\\` as what they stand for. A backslash before anything else, as the names of
/// subjects have them (RFC 4514, section 2.4), stays.
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
