//! The endpoints that issue tokens, and how each of them responds: healthy, or with a fault.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;

/// An endpoint that a client calls on the way to an access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/token`: OAuth's token endpoint, for service accounts and persons.
    Token,
    /// `/v1/token`: the Security Token Service's exchange, for workloads.
    Sts,
    /// `/subject-token`: the source of a workload's subject tokens; not Google's.
    SubjectToken,
    /// The metadata server of a virtual machine.
    Metadata,
    /// IAM Credentials: `generateAccessToken`.
    Iam,
}

/// How an endpoint responds. Unless stated otherwise, an error has the form of the endpoint's own errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// As Google's endpoint.
    #[default]
    Healthy,
    /// A permanent error: `invalid_grant` with HTTP 400 from the token endpoint and the exchange, 403 from IAM
    /// Credentials and for a subject token, 404 from the metadata server.
    Refusing,
    /// HTTP 503.
    Unavailable,
    /// No response.
    Hanging,
    /// As when healthy, after a delay.
    Slow(Duration),
    /// HTTP 500 with an error in the JSON of Google's APIs.
    Failing,
    /// HTTP 200 with all members but the token.
    WithoutToken,
    /// A token without a lifetime. A subject token never has one: this and the next two do not change it.
    LifetimeAbsent,
    /// A token whose lifetime is negative, or ended in 1970.
    LifetimeNegative,
    /// A token whose lifetime is `u64::MAX` seconds, or ends with the year 9999.
    LifetimeAbsurd,
    /// HTTP 200 with a page of HTML, as from a captive portal.
    Html,
    /// The TCP connection is reset, with every request on it.
    Reset,
    /// A response that breaks off in the middle of its body.
    Truncated,
}

/// The condition of each endpoint.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// How the token endpoint responds: healthy, refusing, unavailable, hanging, slow:TIME, failing, without-token,
    /// lifetime-absent, lifetime-negative, lifetime-absurd, html, reset or truncated
    #[arg(long = "token-fault", value_name = "FAULT", default_value = "healthy")]
    pub token: Condition,
    /// How the token exchange (STS) responds, likewise
    #[arg(long = "sts-fault", value_name = "FAULT", default_value = "healthy")]
    pub sts: Condition,
    /// How the source of subject tokens responds, likewise
    #[arg(long = "subject-token-fault", value_name = "FAULT", default_value = "healthy")]
    pub subject_token: Condition,
    /// How the metadata server responds, likewise
    #[arg(long = "metadata-fault", value_name = "FAULT", default_value = "healthy")]
    pub metadata: Condition,
    /// How IAM Credentials responds, likewise
    #[arg(long = "iam-fault", value_name = "FAULT", default_value = "healthy")]
    pub iam: Condition,
}

impl Conditions {
    pub(crate) fn get(mut self, endpoint: Endpoint) -> Condition {
        *self.get_mut(endpoint)
    }

    pub(crate) fn get_mut(&mut self, endpoint: Endpoint) -> &mut Condition {
        match endpoint {
            Endpoint::Token => &mut self.token,
            Endpoint::Sts => &mut self.sts,
            Endpoint::SubjectToken => &mut self.subject_token,
            Endpoint::Metadata => &mut self.metadata,
            Endpoint::Iam => &mut self.iam,
        }
    }
}

/// Parses `healthy`, `lifetime-absent` and so on, or `slow:` and a duration.
impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "healthy" => Self::Healthy,
            "refusing" => Self::Refusing,
            "unavailable" => Self::Unavailable,
            "hanging" => Self::Hanging,
            "failing" => Self::Failing,
            "without-token" => Self::WithoutToken,
            "lifetime-absent" => Self::LifetimeAbsent,
            "lifetime-negative" => Self::LifetimeNegative,
            "lifetime-absurd" => Self::LifetimeAbsurd,
            "html" => Self::Html,
            "reset" => Self::Reset,
            "truncated" => Self::Truncated,
            _ => {
                let delay = text.strip_prefix("slow:").ok_or(
                    "expected healthy, refusing, unavailable, hanging, slow:TIME, failing, without-token, \
                     lifetime-absent, lifetime-negative, lifetime-absurd, html, reset or truncated",
                )?;
                Self::Slow(humantime::parse_duration(delay).map_err(|error| error.to_string())?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_parsed_by_its_name() {
        assert_eq!("refusing".parse(), Ok(Condition::Refusing));
        assert_eq!("slow:1500ms".parse(), Ok(Condition::Slow(Duration::from_millis(1500))));
        for text in ["", "slow", "slow:", "slow:soon", "Healthy", "hanging:1s"] {
            assert!(text.parse::<Condition>().is_err(), "{text}");
        }
    }

    #[test]
    fn each_endpoint_has_its_own_condition() {
        use Endpoint::{Iam, Metadata, Sts, SubjectToken, Token};
        let all = [Token, Sts, SubjectToken, Metadata, Iam];
        for endpoint in all {
            let mut conditions = Conditions::default();
            *conditions.get_mut(endpoint) = Condition::Html;
            let changed: Vec<_> =
                all.into_iter().filter(|one| conditions.get(*one) == Condition::Html).collect();
            assert_eq!(changed, [endpoint]);
        }
    }
}
