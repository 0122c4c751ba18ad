//! A directory in which configurations are loaded.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use crate::{
    app::Config,
    config::{Flags, Variables},
    credentials::Machine,
};

/// A directory with a credential file `key.json` and a CA `ca.pem`, whose key is `ca.key`.
pub(crate) struct Directory(tempfile::TempDir);

impl Directory {
    pub(crate) fn new() -> Self {
        let directory = Self(tempfile::tempdir().unwrap());
        fs::write(directory.path("key.json"), KEY_FILE.as_str()).unwrap();
        let ca = rcgen::generate_simple_self_signed(["ca.test".to_owned()]).unwrap();
        fs::write(directory.path("ca.pem"), ca.cert.pem()).unwrap();
        fs::write(directory.path("ca.key"), ca.signing_key.serialize_pem()).unwrap();
        directory
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn as_path(&self) -> &Path {
        self.0.path()
    }

    /// Loads `file` as the configuration file, with `flags` and `variables`.
    pub(crate) fn load(
        &self,
        file: &str,
        variables: &[(&str, &str)],
        flags: Flags,
    ) -> Result<Config, Vec<String>> {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        self.load_in(Machine::Elsewhere, variables, file, flags)
    }

    /// Loads `file` as the configuration file on `machine`.
    pub(crate) fn load_in(
        &self,
        machine: Machine,
        variables: Variables,
        file: &str,
        flags: Flags,
    ) -> Result<Config, Vec<String>> {
        let path = self.path("countermand.toml");
        fs::write(&path, file).unwrap();
        let flags = flags.with("--config", path);
        Config::load(flags, variables, machine)
            .map_err(|errors| errors.to_string().lines().map(str::to_owned).collect())
    }

    /// The errors of a file whose only invalid section is `section`.
    pub(crate) fn errors(&self, section: &str) -> Vec<String> {
        let file = format!("{section}\n[[credentials]]\nname = \"emea\"\nfile = \"key.json\"\n");
        self.load(&file, &[], Flags::default()).expect_err(section)
    }

    /// Asserts that each section is one error, and that its text contains the part.
    pub(crate) fn assert_each_errs<S: AsRef<str>>(&self, cases: impl IntoIterator<Item = (S, &'static str)>) {
        for (section, part) in cases {
            let section = section.as_ref();
            let errors = self.errors(section);
            assert_eq!(errors.len(), 1, "{section}: {errors:#?}");
            assert!(errors[0].contains(part), "{section}: {}", errors[0]);
        }
    }
}

/// A service account key in the form of Google's console. All tests share one key, because its generation is slow.
static KEY_FILE: LazyLock<String> = LazyLock::new(|| {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let key = serde_json::json!({
        "type": "service_account",
        "client_email": "proxy@p.iam.gserviceaccount.com",
        "private_key": key.serialize_pem(),
        "token_uri": "https://oauth2.googleapis.com/token",
    });
    key.to_string()
});
