//! Each kind of credential, by itself and with `impersonate` on top.

use countermand_emulator::{Emulator, Endpoint, Kind};

/// The service account that `impersonate` names.
const TARGET: &str = "target";

/// A credential of the service: it has the name of its kind, and serves the enterprise of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Of its file; `None` for the metadata server.
    pub(crate) kind: Option<Kind>,
    pub(crate) impersonates: bool,
}

impl Holder {
    pub(crate) fn all() -> Vec<Self> {
        Self::plain().into_iter().flat_map(|plain| [plain, Self { impersonates: true, ..plain }]).collect()
    }

    /// Those without `impersonate`.
    pub(crate) fn plain() -> Vec<Self> {
        let kinds = Kind::ALL.into_iter().map(Some).chain([None]);
        kinds.map(|kind| Self { kind, impersonates: false }).collect()
    }

    pub(crate) fn name(self) -> String {
        let kind = self.kind.map_or("metadata-server", Kind::name);
        if self.impersonates { format!("{kind}-on-top") } else { kind.to_owned() }
    }

    pub(crate) fn has_file(self) -> bool {
        self.kind.is_some()
    }

    /// The principal of its calls.
    pub(crate) fn principal(self, emulator: &Emulator) -> String {
        match self.kind {
            _ if self.impersonates => target(emulator),
            Some(kind) => emulator.principal(kind),
            None => emulator.metadata_principal().to_owned(),
        }
    }

    /// The endpoints that it uses for a token, in their order.
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
        let on_top = self.impersonates.then_some(Iam);
        own.iter().copied().chain(on_top).collect()
    }

    /// Its section of the configuration.
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

/// The address of the account that `impersonate` names, which is made if it is not there.
fn target(emulator: &Emulator) -> String {
    let file = emulator.service_account(TARGET).unwrap();
    let file: serde_json::Value = serde_json::from_str(file.expose()).unwrap();
    file["client_email"].as_str().unwrap().to_owned()
}
