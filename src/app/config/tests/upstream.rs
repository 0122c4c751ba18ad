//! The errors of `[upstream]`.

use std::fs;

use super::Directory;

#[test]
fn each_error_has_its_text() {
    let directory = Directory::new();
    fs::write(
        directory.path("garbage.pem"),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    fs::write(directory.path("empty.pem"), "").unwrap();
    directory.assert_each_errs([
        ("[upstream]\nurl = \"ftp://127.0.0.1\"", "the scheme is not https"),
        ("[upstream]\nurl = \"androidmanagement.googleapis.com\"", "not a URL"),
        ("[upstream]\nurl = \"https://h/?a=b\"", "a query or a fragment"),
        ("[upstream]\nurl = \"https://h/#a\"", "a query or a fragment"),
        ("[upstream]\nurl = \"https://h/v1/\"", "leave /v1 out"),
        ("[upstream]\nurl = \"https://h//x\"", "an empty or an escaped part"),
        ("[upstream]\nurl = \"http://127.0.0.1.example.com\"", "plain http"),
        ("[upstream]\niam_credentials_url = \"http://h\"", "iam_credentials_url (line 2): plain http would"),
        ("[upstream]\nca_certificates = \"empty.pem\"", "holds no certificate"),
        ("[upstream]\nca_certificates = \"garbage.pem\"", "a certificate that cannot be used"),
        ("[upstream]\nca_certificates = \".\"", "is not a regular file"),
    ]);
}
