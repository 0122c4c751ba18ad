//! Parses the id of a caller, in the form that policies and the audit log use.

use std::str::FromStr;

use super::{DnsName, Identity};

/// A text that is not the id of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a caller's id: spiffe://TRUST-DOMAIN/PATH, dns:NAME (in lower case, and no wildcard), \
     jwt:ISSUER#SUBJECT, unix:UID or anonymous"
)]
pub struct InvalidIdentity;

impl FromStr for Identity {
    type Err = InvalidIdentity;

    /// Accepts only the spelling that `Display` writes. A policy with another spelling would silently match no caller.
    ///
    /// In the id of a token's bearer, the issuer ends at the first `#`. An issuer has no fragment (OpenID Connect
    /// Core 1.0, section 2), and a subject may be any text.
    fn from_str(text: &str) -> Result<Self, InvalidIdentity> {
        if text == "anonymous" {
            return Ok(Self::Anonymous);
        }
        let (scheme, rest) = text.split_once(':').ok_or(InvalidIdentity)?;
        match scheme {
            "spiffe" => text.parse().map(Self::Spiffe).map_err(|_| InvalidIdentity),
            "dns" => {
                let name: DnsName = rest.parse().map_err(|_| InvalidIdentity)?;
                (name.as_str() == rest).then_some(Self::Dns(name)).ok_or(InvalidIdentity)
            }
            "jwt" => match rest.split_once('#') {
                Some((issuer, subject)) if is_issuer(issuer) && !subject.is_empty() => {
                    Ok(Self::Jwt { issuer: issuer.to_owned(), subject: subject.to_owned() })
                }
                _ => Err(InvalidIdentity),
            },
            "unix" => {
                let uid: u32 = rest.parse().map_err(|_| InvalidIdentity)?;
                // `+1` and `01` parse as numbers, but `Display` never writes them.
                (uid.to_string() == rest).then_some(Self::Unix { uid }).ok_or(InvalidIdentity)
            }
            _ => Err(InvalidIdentity),
        }
    }
}

/// Whether the setting `callers.jwt.issuer` accepts the issuer.
fn is_issuer(text: &str) -> bool {
    !text.trim().is_empty() && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::InvalidIdentity;
    use crate::caller::{Caller, Identity};

    fn identity() -> impl Strategy<Value = Identity> {
        let spiffe = "spiffe://[a-z0-9._-]{1,20}(/[a-zA-Z0-9_-]{1,8}){0,4}";
        let dns = "[a-z0-9_-]{1,8}(\\.[a-z0-9_-]{1,8}){0,3}";
        prop_oneof![
            spiffe.prop_map(|id| Identity::Spiffe(id.parse().unwrap())),
            dns.prop_map(|name| Identity::Dns(name.parse().unwrap())),
            ("[a-z:/.][^#\\p{Cc}]{0,29}", ".{1,30}")
                .prop_map(|(issuer, subject)| Identity::Jwt { issuer, subject }),
            any::<u32>().prop_map(|uid| Identity::Unix { uid }),
            Just(Identity::Anonymous),
        ]
    }

    proptest! {
        #[test]
        fn a_displayed_identity_parses_to_itself(identity in identity()) {
            prop_assert_eq!(identity.to_string().parse(), Ok(identity));
        }

        #[test]
        fn a_parsed_text_is_displayed_unchanged(text in "(spiffe:|dns:|jwt:|unix:)?.{0,20}") {
            if let Ok(identity) = text.parse::<Identity>() {
                prop_assert_eq!(identity.to_string(), text);
            }
        }
    }

    #[test]
    fn a_caller_displays_the_id_of_its_identity() {
        let caller = Caller::of_token("https://i".to_owned(), "a#b".to_owned(), Default::default());
        assert_eq!(caller.to_string().parse(), Ok(caller.identity().clone()));
    }

    #[test]
    fn an_invalid_id_is_rejected() {
        for text in [
            "",
            "console",
            "Anonymous",
            "anonymous:",
            "spiffe:corp.example",
            "spiffe://Corp.example/x",
            "dns:",
            "dns:Console.corp.example",
            "dns:*.corp.example",
            "dns:corp.example.",
            "dns:a b",
            "jwt:",
            "jwt:https://i",
            "jwt:#s",
            "jwt:i#",
            "jwt: #s",
            "jwt:https://i\n#s",
            "unix:",
            "unix:+1",
            "unix:01",
            "unix:root",
            "unix:4294967296",
            "https://corp.example",
        ] {
            assert_eq!(text.parse::<Identity>(), Err(InvalidIdentity), "{text}");
        }
    }
}
