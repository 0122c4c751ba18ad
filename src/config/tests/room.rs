//! A directory in which configurations are loaded.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use crate::config::{Config, Environment, Overrides};

/// A directory with a credential file `key.json` and a CA `ca.pem`, whose key is `ca.key`.
pub(crate) struct Room(tempfile::TempDir);

impl Room {
    pub(crate) fn new() -> Self {
        let room = Self(tempfile::tempdir().unwrap());
        fs::write(room.path("key.json"), KEY_FILE.as_str()).unwrap();
        let ca = rcgen::generate_simple_self_signed(["ca.test".to_owned()]).unwrap();
        fs::write(room.path("ca.pem"), ca.cert.pem()).unwrap();
        fs::write(room.path("ca.key"), ca.signing_key.serialize_pem()).unwrap();
        room
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn directory(&self) -> &Path {
        self.0.path()
    }

    /// Loads `file` as the configuration file, under `overrides` and `variables`.
    pub(in crate::config) fn load(
        &self,
        file: &str,
        variables: &[(&str, &str)],
        overrides: Overrides,
    ) -> Result<Config, Vec<String>> {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        self.load_in(variables, file, overrides)
    }

    /// Likewise, in an environment that is more than variables.
    pub(in crate::config) fn load_in(
        &self,
        environment: Environment,
        file: &str,
        overrides: Overrides,
    ) -> Result<Config, Vec<String>> {
        let path = self.path("countermand.toml");
        fs::write(&path, file).unwrap();
        let overrides = Overrides { config: Some(path), ..overrides };
        Config::load(overrides, environment)
            .map_err(|faults| faults.to_string().lines().map(str::to_owned).collect())
    }

    /// The faults of a file that is right but for `section`.
    pub(in crate::config) fn faults(&self, section: &str) -> Vec<String> {
        let file = format!("{section}\n[[credentials]]\nname = \"emea\"\nfile = \"key.json\"\n");
        self.load(&file, &[], Overrides::default()).expect_err(section)
    }

    /// Each section, alone in such a file, is one fault, which says its part.
    pub(in crate::config) fn tells<S: AsRef<str>>(&self, cases: impl IntoIterator<Item = (S, &'static str)>) {
        for (section, part) in cases {
            let section = section.as_ref();
            let faults = self.faults(section);
            assert_eq!(faults.len(), 1, "{section}: {faults:#?}");
            assert!(faults[0].contains(part), "{section}: {}", faults[0]);
        }
    }
}

/// A service-account key as Google's console makes them. One for all tests: making it takes a while.
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
