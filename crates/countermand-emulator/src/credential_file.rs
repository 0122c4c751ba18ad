//! Credential files of each kind, as Google's tools write them (AIP-4110 and the pages that it links), with the URLs of
//! the emulator.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::account::{self, Account, FIRST_ACCOUNT, PROJECT, TARGET_ACCOUNT};
use crate::key::random_hex;
use crate::shared::{Shared, lock};
use crate::sts;
use crate::subject_token::{self, Workload};

/// The kind of a credential file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A service account's key (AIP-4112).
    ServiceAccount,
    /// A person's refresh token, as `gcloud auth application-default login` writes it (AIP-4113). Google's file has no
    /// `token_uri`. This one needs it.
    AuthorizedUser,
    /// Workload identity federation with a subject token in a file (AIP-4117), as text.
    ExternalAccountFile,
    /// Workload identity federation with a subject token from a URL, as JSON.
    ExternalAccountUrl,
    /// As [`ExternalAccountUrl`](Self::ExternalAccountUrl), with the token as text, and impersonating a service
    /// account.
    ExternalAccountImpersonated,
    /// A service account that a person impersonates, as gcloud writes it with `--impersonate-service-account`.
    ImpersonatedServiceAccount,
}

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

    /// The principal of the calls made with such a file.
    pub(crate) fn principal(self) -> String {
        match self {
            Self::ServiceAccount => account::email(FIRST_ACCOUNT),
            Self::AuthorizedUser => account::PERSON_EMAIL.to_owned(),
            Self::ExternalAccountFile => Workload::File.principal(),
            Self::ExternalAccountUrl => Workload::Url.principal(),
            Self::ExternalAccountImpersonated | Self::ImpersonatedServiceAccount => {
                account::email(TARGET_ACCOUNT)
            }
        }
    }
}

impl ValueEnum for Kind {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(self.name().into())
    }
}

/// A Google credential file, as JSON. It holds secrets, so it prints as `[redacted]` and its memory is cleared when
/// it is dropped.
#[derive(Clone)]
pub struct CredentialFile(String);

impl CredentialFile {
    fn new(file: &Value) -> Self {
        Self(format!("{file:#}\n"))
    }

    /// The JSON, secrets included.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Writes the JSON atomically to a file with mode 0600. Blocks while it writes.
    ///
    /// # Errors
    /// The directory of `path` is not writable.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        write_secret(path, &self.0)
    }
}

impl fmt::Debug for CredentialFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialFile([redacted])")
    }
}

/// Writes `text` as [`CredentialFile::write`] does.
pub(crate) fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let no_file = || io::Error::new(io::ErrorKind::InvalidInput, "not the name of a file");
    // A device or a link at the path would be replaced too.
    if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it exists and is not a regular file"));
    }
    let mut name = path.file_name().ok_or_else(no_file)?.to_owned();
    name.push(format!(".{}", random_hex()?));
    let new = path.with_file_name(name);
    let written = write_new(&new, text).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // The first error is returned. The new file may not exist.
        let _ = fs::remove_file(&new);
    }
    written
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// The credential file of a kind.
pub(crate) fn of_kind(shared: &Shared, kind: Kind) -> CredentialFile {
    let file = match kind {
        Kind::ServiceAccount => return shared.credentials.clone(),
        Kind::AuthorizedUser => authorized_user(shared),
        Kind::ExternalAccountFile => {
            external_account(shared, json!({ "file": lock(&shared.subject_tokens).path() }))
        }
        Kind::ExternalAccountUrl => {
            let format = json!({ "type": "json", "subject_token_field_name": subject_token::MEMBER });
            external_account(shared, url_source(shared, "?format=json", &format))
        }
        Kind::ExternalAccountImpersonated => {
            let format = json!({ "type": "text" });
            let mut file = external_account(shared, url_source(shared, "", &format));
            file["service_account_impersonation_url"] = impersonation_url(shared).into();
            file["service_account_impersonation"] = json!({ "token_lifetime_seconds": 2800 });
            file
        }
        Kind::ImpersonatedServiceAccount => json!({
            "type": "impersonated_service_account",
            "delegates": [],
            "service_account_impersonation_url": impersonation_url(shared),
            "source_credentials": authorized_user(shared),
        }),
    };
    CredentialFile::new(&file)
}

/// The key file of a service account.
pub(crate) fn service_account(account: &Account, private_key: &str, token_url: &str) -> CredentialFile {
    let encoded = account.email.replace('@', "%40");
    CredentialFile::new(&json!({
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

fn authorized_user(shared: &Shared) -> Value {
    let user = &shared.user;
    json!({
        "type": "authorized_user",
        "account": "",
        "client_id": user.client_id,
        "client_secret": user.client_secret,
        "refresh_token": user.refresh_token,
        "quota_project_id": PROJECT,
        "token_uri": shared.token_url(),
        "universe_domain": "googleapis.com",
    })
}

fn external_account(shared: &Shared, source: Value) -> Value {
    json!({
        "type": "external_account",
        "audience": sts::AUDIENCE,
        "subject_token_type": sts::SUBJECT_TOKEN_TYPE,
        "token_url": format!("{}/v1/token", shared.url),
        "credential_source": source,
        "universe_domain": "googleapis.com",
    })
}

fn url_source(shared: &Shared, query: &str, format: &Value) -> Value {
    json!({
        "url": format!("{}/subject-token{query}", shared.url),
        "headers": { subject_token::HEADER: lock(&shared.subject_tokens).header() },
        "format": format,
    })
}

fn impersonation_url(shared: &Shared) -> String {
    let target = account::email(TARGET_ACCOUNT);
    format!("{}/v1/projects/-/serviceAccounts/{target}:generateAccessToken", shared.url)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_file_is_complete_and_readable_by_its_owner_only() {
        let credentials = CredentialFile::new(&json!({ "type": "service_account" }));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("credentials.json");
        fs::write(&path, "an older file, and readable by all").unwrap();
        credentials.write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), credentials.expose());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_an_error_and_leaves_nothing() {
        let credentials = CredentialFile::new(&json!({}));
        let directory = tempfile::tempdir().unwrap();
        assert!(credentials.write(&directory.path().join("none/credentials.json")).is_err());
        assert!(credentials.write(Path::new("/")).is_err());
        let taken = directory.path().join("taken");
        fs::create_dir(&taken).unwrap();
        assert!(credentials.write(&taken).is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_or_a_device_is_not_replaced() {
        let credentials = CredentialFile::new(&json!({}));
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        assert!(credentials.write(&link).is_err());
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn credentials_do_not_print() {
        let credentials = CredentialFile::new(&json!({ "private_key": "s3cret" }));
        assert_eq!(format!("{credentials:?}"), "CredentialFile([redacted])");
    }
}
