//! In what condition the endpoints are that a credential asks: sound, or in one of many kinds of trouble.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// An endpoint that a credential asks on the way to an access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/token`: OAuth's token endpoint, for service accounts and persons.
    Token,
    /// `/v1/token`: the Security Token Service's exchange, for workloads.
    Sts,
    /// `/subject-token`: where a workload gets what it exchanges; not Google's.
    SubjectToken,
    /// The metadata server of a virtual machine.
    Metadata,
    /// IAM Credentials: `generateAccessToken`.
    Iam,
}

/// How an endpoint answers. Where nothing else is said, what is sent is of the form that its own errors
/// have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// As Google's.
    #[default]
    Healthy,
    /// A refusal that trying again does not mend: `invalid_grant` with HTTP 400 from the token endpoint and
    /// the exchange, 403 from IAM Credentials and for a subject token, 404 from the metadata server.
    Refusing,
    /// HTTP 503.
    Unavailable,
    /// No answer at all, until the caller gives up.
    Hanging,
    /// As when healthy, after a time.
    Slow(Duration),
    /// HTTP 500 with an error in the JSON of Google's APIs.
    Failing,
    /// HTTP 200 with all but the token.
    WithoutToken,
    /// A token whose lifetime is not told. A subject token has none to tell, here and in the next two.
    LifetimeAbsent,
    /// A token whose lifetime is less than zero, or ended in 1970.
    LifetimeNegative,
    /// A token whose lifetime is longer than a clock can count, or ends with the year 9999.
    LifetimeAbsurd,
    /// HTTP 200 with a page of HTML, as from a captive portal.
    Html,
    /// The TCP connection is reset, with every request that it carries.
    Reset,
    /// An answer that breaks off in the middle of its body.
    Truncated,
}

/// The [`Condition`] of the token endpoint.
pub type TokenEndpoint = Condition;

/// The condition of each endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Of [`Endpoint::Token`].
    pub token: Condition,
    /// Of [`Endpoint::Sts`].
    pub sts: Condition,
    /// Of [`Endpoint::SubjectToken`].
    pub subject_token: Condition,
    /// Of [`Endpoint::Metadata`].
    pub metadata: Condition,
    /// Of [`Endpoint::Iam`].
    pub iam: Condition,
}

/// The conditions by their names, without [`Condition::Slow`].
const NAMES: [(&str, Condition); 12] = [
    ("healthy", Condition::Healthy),
    ("refusing", Condition::Refusing),
    ("unavailable", Condition::Unavailable),
    ("hanging", Condition::Hanging),
    ("failing", Condition::Failing),
    ("without-token", Condition::WithoutToken),
    ("lifetime-absent", Condition::LifetimeAbsent),
    ("lifetime-negative", Condition::LifetimeNegative),
    ("lifetime-absurd", Condition::LifetimeAbsurd),
    ("html", Condition::Html),
    ("reset", Condition::Reset),
    ("truncated", Condition::Truncated),
];

/// A text that names no [`Condition`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCondition;

impl Endpoints {
    pub(super) fn of(&self, endpoint: Endpoint) -> Condition {
        match endpoint {
            Endpoint::Token => self.token,
            Endpoint::Sts => self.sts,
            Endpoint::SubjectToken => self.subject_token,
            Endpoint::Metadata => self.metadata,
            Endpoint::Iam => self.iam,
        }
    }

    pub(super) fn set(&mut self, endpoint: Endpoint, condition: Condition) {
        *match endpoint {
            Endpoint::Token => &mut self.token,
            Endpoint::Sts => &mut self.sts,
            Endpoint::SubjectToken => &mut self.subject_token,
            Endpoint::Metadata => &mut self.metadata,
            Endpoint::Iam => &mut self.iam,
        } = condition;
    }
}

/// `healthy`, `lifetime-absent` and so on; `slow:` and a duration.
impl FromStr for Condition {
    type Err = UnknownCondition;

    fn from_str(text: &str) -> Result<Self, UnknownCondition> {
        if let Some(time) = text.strip_prefix("slow:") {
            return humantime::parse_duration(time).map(Self::Slow).map_err(|_| UnknownCondition);
        }
        let named = NAMES.into_iter().find(|(name, _)| *name == text);
        named.map(|(_, condition)| condition).ok_or(UnknownCondition)
    }
}

impl fmt::Display for UnknownCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected slow:TIME")?;
        NAMES.iter().try_for_each(|(name, _)| write!(f, ", {name}"))
    }
}

impl std::error::Error for UnknownCondition {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_read_by_its_name() {
        assert_eq!("refusing".parse(), Ok(Condition::Refusing));
        assert_eq!("slow:1500ms".parse(), Ok(Condition::Slow(Duration::from_millis(1500))));
        for text in ["", "slow", "slow:", "slow:soon", "Healthy", "hanging:1s"] {
            assert_eq!(text.parse::<Condition>(), Err(UnknownCondition), "{text}");
        }
        assert!(UnknownCondition.to_string().contains("lifetime-absurd"));
    }

    #[test]
    fn each_endpoint_has_its_own_condition() {
        use Endpoint::{Iam, Metadata, Sts, SubjectToken, Token};
        let all = [Token, Sts, SubjectToken, Metadata, Iam];
        for endpoint in all {
            let mut endpoints = Endpoints::default();
            endpoints.set(endpoint, Condition::Html);
            let changed: Vec<_> =
                all.into_iter().filter(|one| endpoints.of(*one) == Condition::Html).collect();
            assert_eq!(changed, [endpoint]);
        }
    }
}
