//! Credential files of each kind, as Google's tools write them (AIP-4110 and the pages that it leads to), but
//! for the URLs: those are the emulator's own.

use std::str::FromStr;

use serde_json::{Value, json};

use super::account::{self, Account, FIRST, PROJECT, TARGET};
use super::secret_file::Credentials;
use super::state::{State, lock};
use super::sts;
use super::subject::{self, Source};

/// The kind of a credential file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A service account's key (AIP-4112).
    #[default]
    ServiceAccount,
    /// A person who signed in, as `gcloud auth application-default login` writes it (AIP-4113). Google's file
    /// has no `token_uri`; this one needs it.
    AuthorizedUser,
    /// Workload identity federation with a subject token in a file (AIP-4117), as text.
    ExternalAccountFile,
    /// Workload identity federation with a subject token from a URL, as JSON.
    ExternalAccountUrl,
    /// As [`ExternalAccountUrl`](Self::ExternalAccountUrl), with the token as text, and as a service account
    /// in the end.
    ExternalAccountImpersonated,
    /// A service account by leave of a person, as gcloud writes it with `--impersonate-service-account`.
    ImpersonatedServiceAccount,
}

/// A text that names no [`Kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected service-account, authorized-user, external-account-file, external-account-url, \
     external-account-impersonated or impersonated-service-account"
)]
pub struct UnknownKind;

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::ServiceAccount,
        Self::AuthorizedUser,
        Self::ExternalAccountFile,
        Self::ExternalAccountUrl,
        Self::ExternalAccountImpersonated,
        Self::ImpersonatedServiceAccount,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::ServiceAccount => "service-account",
            Self::AuthorizedUser => "authorized-user",
            Self::ExternalAccountFile => "external-account-file",
            Self::ExternalAccountUrl => "external-account-url",
            Self::ExternalAccountImpersonated => "external-account-impersonated",
            Self::ImpersonatedServiceAccount => "impersonated-service-account",
        }
    }

    /// Whom the emulator takes the holder of such a file for.
    pub(super) fn principal(self) -> String {
        match self {
            Self::ServiceAccount => account::email(FIRST),
            Self::AuthorizedUser => account::PERSON.to_owned(),
            Self::ExternalAccountFile => Source::File.principal(),
            Self::ExternalAccountUrl => Source::Url.principal(),
            Self::ExternalAccountImpersonated | Self::ImpersonatedServiceAccount => account::email(TARGET),
        }
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or(UnknownKind)
    }
}

/// The file of a kind.
pub(super) fn of_kind(state: &State, kind: Kind) -> Credentials {
    let file = match kind {
        Kind::ServiceAccount => return state.credentials.clone(),
        Kind::AuthorizedUser => authorized_user(state),
        Kind::ExternalAccountFile => external_account(state, json!({ "file": lock(&state.subjects).path() })),
        Kind::ExternalAccountUrl => {
            let format = json!({ "type": "json", "subject_token_field_name": subject::MEMBER });
            external_account(state, url_source(state, "?format=json", &format))
        }
        Kind::ExternalAccountImpersonated => {
            let format = json!({ "type": "text" });
            let mut file = external_account(state, url_source(state, "", &format));
            file["service_account_impersonation_url"] = impersonation_url(state).into();
            file["service_account_impersonation"] = json!({ "token_lifetime_seconds": 2800 });
            file
        }
        Kind::ImpersonatedServiceAccount => json!({
            "type": "impersonated_service_account",
            "delegates": [],
            "service_account_impersonation_url": impersonation_url(state),
            "source_credentials": authorized_user(state),
        }),
    };
    Credentials::new(&file)
}

/// The key file of a service account.
pub(super) fn service_account(account: &Account, private_key: &str, token_url: &str) -> Credentials {
    let encoded = account.email.replace('@', "%40");
    Credentials::new(&json!({
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": account.key_id,
        "private_key": private_key,
        "client_email": *account.email,
        "client_id": "100000000000000000001",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": token_url,
        "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
        "client_x509_cert_url": format!("https://www.googleapis.com/robot/v1/metadata/x509/{encoded}"),
        "universe_domain": "googleapis.com",
    }))
}

fn authorized_user(state: &State) -> Value {
    let consent = &state.consent;
    json!({
        "type": "authorized_user",
        "account": "",
        "client_id": consent.client_id,
        "client_secret": consent.client_secret,
        "refresh_token": consent.refresh_token,
        "quota_project_id": PROJECT,
        "token_uri": state.token_url(),
        "universe_domain": "googleapis.com",
    })
}

fn external_account(state: &State, source: Value) -> Value {
    json!({
        "type": "external_account",
        "audience": sts::AUDIENCE,
        "subject_token_type": sts::SUBJECT_TOKEN_TYPE,
        "token_url": format!("{}/v1/token", state.url),
        "credential_source": source,
        "universe_domain": "googleapis.com",
    })
}

fn url_source(state: &State, query: &str, format: &Value) -> Value {
    json!({
        "url": format!("{}/subject-token{query}", state.url),
        "headers": { subject::HEADER: lock(&state.subjects).header() },
        "format": format,
    })
}

fn impersonation_url(state: &State) -> String {
    let target = account::email(TARGET);
    format!("{}/v1/projects/-/serviceAccounts/{target}:generateAccessToken", state.url)
}
