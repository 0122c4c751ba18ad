//! Scopes: what a token may be used for.

/// The one scope of the Android Management API (its discovery document, `auth`).
pub(super) const ANDROID_MANAGEMENT: &str = "https://www.googleapis.com/auth/androidmanagement";

/// The scope of all Google Cloud APIs, to which the Android Management API does not belong.
pub(super) const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";

/// The other scope that the IAM Credentials API takes.
pub(super) const IAM: &str = "https://www.googleapis.com/auth/iam";

/// The scopes that exist here, of the hundreds that Google has: those with a part to play, and those that
/// gcloud asks for when a person signs in.
const KNOWN: [&str; 6] = [
    ANDROID_MANAGEMENT,
    CLOUD_PLATFORM,
    IAM,
    "https://www.googleapis.com/auth/userinfo.email",
    "https://www.googleapis.com/auth/sqlservice.login",
    "openid",
];

/// A set of scopes, in the order in which they were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scopes(Vec<&'static str>);

impl Scopes {
    /// All that a person agrees to who signs in for development.
    pub(super) fn consented() -> Self {
        Self(KNOWN.into_iter().filter(|scope| *scope != IAM).collect())
    }

    /// A machine's own, unless it asks for others.
    pub(super) fn of_machine() -> Self {
        Self(vec![CLOUD_PLATFORM])
    }

    /// Takes scopes by their names; `None` when there are none, or one does not exist.
    pub(super) fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let known = |name: &str| KNOWN.into_iter().find(|scope| *scope == name);
        let scopes: Vec<_> = names.into_iter().map(known).collect::<Option<_>>()?;
        (!scopes.is_empty()).then_some(Self(scopes))
    }

    /// Reads a list as OAuth writes it, parted by blanks (RFC 6749 section 3.3).
    pub(super) fn parse(list: &str) -> Option<Self> {
        Self::of(list.split_ascii_whitespace())
    }

    pub(super) fn allow_any(&self, wanted: &[&str]) -> bool {
        self.0.iter().any(|scope| wanted.contains(scope))
    }

    /// Whether each of these is one of `others`.
    pub(super) fn within(&self, others: &Self) -> bool {
        self.0.iter().all(|scope| others.0.contains(scope))
    }

    pub(super) fn names(&self) -> &[&'static str] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_known_scopes_is_read_and_no_other() {
        let list = format!("openid {ANDROID_MANAGEMENT}");
        assert_eq!(Scopes::parse(&list).unwrap().names(), ["openid", ANDROID_MANAGEMENT]);
        for list in ["", " ", "androidmanagement", &format!("{ANDROID_MANAGEMENT}.readonly openid")] {
            assert_eq!(Scopes::parse(list), None, "{list}");
        }
    }

    #[test]
    fn cloud_platform_does_not_hold_android_management() {
        let cloud = Scopes::of_machine();
        assert!(!cloud.allow_any(&[ANDROID_MANAGEMENT]));
        assert!(cloud.allow_any(&[IAM, CLOUD_PLATFORM]));
        assert!(cloud.within(&Scopes::consented()));
        assert!(!Scopes::of([IAM]).unwrap().within(&Scopes::consented()));
    }
}
