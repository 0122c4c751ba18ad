//! What a token whose signature is right has to say, and what is kept of it.

use serde_json::{Map, Value};

use super::InvalidToken;
use crate::caller::{Caller, Claims};

/// How far the issuer's clock and ours may be apart, in seconds.
pub(super) const LEEWAY: u64 = 30;

/// Claims that differ from one token of a caller to the next, and that no policy could decide by. Without
/// them, all tokens of a caller are one caller to whoever remembers decisions.
const OF_THE_TOKEN: [&str; 4] = ["exp", "nbf", "iat", "jti"];

/// What is asked of tokens.
pub(super) struct Rules {
    pub(super) issuer: String,
    /// One of them is enough.
    pub(super) audiences: Vec<String>,
}

impl Rules {
    /// The caller of whom these claims speak, and the second of the Unix epoch from which on they do not.
    ///
    /// # Errors
    ///
    /// The claims are not those of a token for us, or not at the time `now`, in seconds of the Unix epoch
    /// (RFC 7519, section 4.1).
    pub(super) fn check(
        &self,
        mut claims: Map<String, Value>,
        now: u64,
    ) -> Result<(Caller, u64), InvalidToken> {
        let until = seconds(claims.get("exp")).ok_or(InvalidToken::NoExpiry)?.saturating_add(LEEWAY);
        if now >= until {
            return Err(InvalidToken::Expired);
        }
        if let Some(from) = claims.get("nbf")
            && seconds(Some(from)).is_none_or(|from| now.saturating_add(LEEWAY) < from)
        {
            return Err(InvalidToken::NotYetValid);
        }
        if claims.get("iss").and_then(Value::as_str) != Some(&self.issuer) {
            return Err(InvalidToken::Issuer);
        }
        if !claims.get("aud").is_some_and(|audience| self.is_for_us(audience)) {
            return Err(InvalidToken::Audience);
        }
        let subject = claims.get("sub").and_then(Value::as_str).filter(|subject| !subject.is_empty());
        let subject = subject.ok_or(InvalidToken::NoSubject)?.to_owned();
        for claim in OF_THE_TOKEN {
            claims.remove(claim);
        }
        let mut kept = Claims::new();
        for (name, value) in claims {
            gather(name, &value, &mut kept);
        }
        Ok((Caller::of_token(self.issuer.clone(), subject, kept), until))
    }

    /// Whether an `aud`, a text or a list of texts, names us.
    fn is_for_us(&self, audience: &Value) -> bool {
        let ours = |audience: &Value| {
            audience.as_str().is_some_and(|audience| self.audiences.iter().any(|ours| ours == audience))
        };
        match audience {
            Value::Array(all) => all.iter().any(ours),
            one => ours(one),
        }
    }
}

/// A time, which may have a fraction (RFC 7519, section 2, NumericDate), in whole seconds. `None` for what
/// is no number, or one before the epoch.
fn seconds(time: Option<&Value>) -> Option<u64> {
    let time = time?.as_f64().filter(|time| *time >= 0.0)?;
    // Beyond what it holds, the cast gives the latest time that there is.
    Some(time as u64)
}

/// Adds the values of a claim: of a list each, of an object each member under its own name. Where a name
/// with a slash is the same as that of a member, the values of both count.
fn gather(name: String, value: &Value, into: &mut Claims) {
    match value {
        Value::Null => {}
        Value::Array(list) => list.iter().for_each(|item| gather(name.clone(), item, into)),
        Value::Object(members) => {
            for (member, value) in members {
                gather(format!("{name}/{member}"), value, into);
            }
        }
        Value::String(text) => add(name, text.clone(), into),
        Value::Bool(_) | Value::Number(_) => add(name, value.to_string(), into),
    }
}

fn add(name: String, value: String, into: &mut Claims) {
    into.entry(name).or_default().insert(value);
}

#[cfg(test)]
mod tests;
