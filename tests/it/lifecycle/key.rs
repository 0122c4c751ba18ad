//! A service account's key: its credential file, and the check of a signature.

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rcgen::{KeyPair, PKCS_RSA_SHA256, PublicKeyData};
use serde_json::json;

/// The account of every [`Key`].
pub(crate) const ACCOUNT: &str = "proxy@p.iam.gserviceaccount.com";

pub(crate) struct Key(KeyPair);

impl Key {
    pub(crate) fn generate() -> Self {
        Self(KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap())
    }

    /// The credential file, in the format of Google's console.
    pub(crate) fn file(&self, token_url: &str) -> String {
        let file = json!({
            "type": "service_account",
            "client_email": ACCOUNT,
            "private_key": self.0.serialize_pem(),
            "token_uri": token_url,
        });
        format!("{file:#}\n")
    }

    /// The lines of the private key's base64.
    pub(crate) fn secret_lines(&self) -> Vec<String> {
        let pem = self.0.serialize_pem();
        pem.lines().filter(|line| !line.starts_with('-')).map(str::to_owned).collect()
    }

    /// Whether this key signed the assertion.
    pub(crate) fn signed(&self, assertion: &str) -> bool {
        let (message, signature) = assertion.rsplit_once('.').unwrap();
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, self.0.der_bytes());
        key.verify(message.as_bytes(), &signature).is_ok()
    }
}
