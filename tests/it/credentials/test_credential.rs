//! Each kind of credential, with and without `impersonate`.

use countermand_emulator::{Emulator, Endpoint, Kind};

/// The service account that `impersonate` names.
const TARGET: &str = "target";

/// A credential under test. It has the name of its kind, and serves the enterprise of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TestCredential {
    /// The kind of the file; `None` for the metadata server.
    pub(crate) kind: Option<Kind>,
    pub(crate) impersonates: bool,
}

impl TestCredential {
    pub(crate) fn all() -> Vec<Self> {
        Self::plain().into_iter().flat_map(|plain| [plain, Self { impersonates: true, ..plain }]).collect()
    }

    /// The credentials without `impersonate`.
    pub(crate) fn plain() -> Vec<Self> {
        let kinds = Kind::ALL.into_iter().map(Some).chain([None]);
        kinds.map(|kind| Self { kind, impersonates: false }).collect()
    }

    pub(crate) fn name(self) -> String {
        let kind = self.kind.map_or("metadata-server", Kind::name);
        if self.impersonates { format!("{kind}-impersonating") } else { kind.to_owned() }
    }

    pub(crate) fn has_file(self) -> bool {
        self.kind.is_some()
    }

    /// The principal of the credential's calls.
    pub(crate) fn principal(self, emulator: &Emulator) -> String {
        match self.kind {
            _ if self.impersonates => target(emulator),
            Some(kind) => emulator.principal(kind),
            None => emulator.metadata_principal().to_owned(),
        }
    }

    /// The endpoints that a fetch uses, in order.
    pub(crate) fn endpoints(self) -> Vec<Endpoint> {
        use Endpoint::{Iam, Metadata, Sts, SubjectToken, Token};
        let own: &[Endpoint] = match self.kind {
            Some(Kind::ServiceAccount | Kind::AuthorizedUser) => &[Token],
            Some(Kind::ExternalAccountFile) => &[Sts],
            Some(Kind::ExternalAccountUrl) => &[SubjectToken, Sts],
            Some(Kind::ExternalAccountImpersonated) => &[SubjectToken, Sts, Iam],
            Some(Kind::ImpersonatedServiceAccount) => &[Token, Iam],
            None => &[Metadata],
        };
        let impersonation = self.impersonates.then_some(Iam);
        own.iter().copied().chain(impersonation).collect()
    }

    /// The section of the configuration.
    pub(crate) fn section(self, emulator: &Emulator) -> String {
        let name = self.name();
        let mut section = format!("[[credentials]]\nname = \"{name}\"\nenterprises = [\"{name}\"]\n");
        if let Some(kind) = self.kind {
            section += &format!("file = \"{}.json\"\n", kind.name());
        }
        if self.impersonates {
            section += &format!("impersonate = \"{}\"\n", target(emulator));
        }
        section
    }
}

/// The email of the account that `impersonate` names. Creates the account if it does not exist.
fn target(emulator: &Emulator) -> String {
    let file = emulator.service_account(TARGET).unwrap();
    let file: serde_json::Value = serde_json::from_str(file.expose()).unwrap();
    file["client_email"].as_str().unwrap().to_owned()
}
