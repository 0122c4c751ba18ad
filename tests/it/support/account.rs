//! A service account that any token endpoint of these tests takes.

use std::sync::OnceLock;

use rcgen::{KeyPair, PKCS_RSA_SHA256};
use serde_json::json;

/// A key file in the form that Google's console gives out, whose tokens come from `token_url`.
pub(crate) fn key_file(token_url: &str) -> String {
    // Making an RSA key takes longer than many a test: one serves them all.
    static KEY: OnceLock<String> = OnceLock::new();
    let key = KEY.get_or_init(|| KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap().serialize_pem());
    json!({
        "type": "service_account",
        "project_id": "tests",
        "private_key_id": "1",
        "private_key": key,
        "client_email": "tests@tests.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": token_url,
    })
    .to_string()
}
