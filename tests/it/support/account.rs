//! A service account that every token endpoint of these tests accepts.

use std::sync::OnceLock;

use rcgen::{KeyPair, PKCS_RSA_SHA256};
use serde_json::json;

/// A key file in the format of the Google Cloud console, with `token_url` as its token endpoint.
pub(crate) fn key_file(token_url: &str) -> String {
    // Generating an RSA key is slow, so all tests share one.
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
