//! Tests of the file checks. The integration tests cover handshakes and reloads.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::pem::{KEY_ON_ONE_LINE, shows_the_key};

/// A directory with a key pair and a CA.
struct TlsDirectory {
    directory: tempfile::TempDir,
    files: TlsFiles,
}

impl TlsDirectory {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let files = TlsFiles {
            certificate: at("tls.crt"),
            private_key: at("tls.key"),
            client_ca: Some(at("ca.pem")),
        };
        let created = Self { directory, files };
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["a.test".to_owned()]).unwrap().self_signed(&key).unwrap();
        created.write("tls.crt", &certificate.pem());
        created.write("tls.key", &key.serialize_pem());
        created.write("ca.pem", &certificate.pem());
        created
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.directory.path().join(name), content).unwrap();
    }

    fn error(&self) -> TlsFileError {
        self.files.clone().load().map(drop).expect_err("an error").remove(0)
    }
}

#[test]
fn the_config_offers_h2_and_no_resumption() {
    let loaded = TlsDirectory::new().files.load().unwrap().content;
    assert_eq!(loaded.config.alpn_protocols, [H2]);
    assert_eq!(loaded.config.send_tls13_tickets, 0);
    assert!(!loaded.config.session_storage.can_cache());
    assert!(!loaded.config.ticketer.enabled());
    assert_eq!(loaded.config.max_early_data_size, 0);
}

#[test]
fn each_error_names_its_file_and_does_not_quote_the_key() {
    let other_key = KeyPair::generate().unwrap().serialize_pem();
    let secret = other_key.lines().nth(1).unwrap().to_owned();
    let encrypted = other_key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let garbled = other_key.replace(&secret, "????");
    let truncated = other_key.replace("-----END PRIVATE KEY-----", "");
    let malformed = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (name, content, file, problem) in [
        ("tls.crt", "", TlsFile::Certificate, "holds no certificate"),
        ("tls.crt", KEY_ON_ONE_LINE, TlsFile::Certificate, "is not PEM"),
        ("tls.crt", malformed, TlsFile::Certificate, "certificate 1 is malformed"),
        ("tls.key", "", TlsFile::PrivateKey, "holds no private key"),
        ("tls.key", KEY_ON_ONE_LINE, TlsFile::PrivateKey, "holds no private key"),
        ("tls.key", &truncated, TlsFile::PrivateKey, "holds no private key"),
        ("tls.key", &garbled, TlsFile::PrivateKey, "holds no private key"),
        ("tls.key", &encrypted, TlsFile::PrivateKey, "holds an encrypted key"),
        ("tls.key", &other_key, TlsFile::PrivateKey, "is not the key of the certificate"),
        ("ca.pem", "", TlsFile::ClientCa, "holds no certificate"),
        ("ca.pem", KEY_ON_ONE_LINE, TlsFile::ClientCa, "is not PEM"),
        ("ca.pem", malformed, TlsFile::ClientCa, "cannot be used"),
    ] {
        let directory = TlsDirectory::new();
        directory.write(name, content);
        let error = directory.error();
        assert_eq!(error.file, file, "{error}");
        let text = error.to_string();
        assert!(text.contains(file.key()) && text.contains(problem), "{problem}: {text}");
        let whole = format!("{text} {error:?}");
        assert!(!whole.contains(&secret) && !shows_the_key(&whole), "{whole}");
    }
    let directory = TlsDirectory::new();
    fs::remove_file(&directory.files.private_key).unwrap();
    assert!(directory.error().to_string().starts_with("server.tls.private_key: "), "{}", directory.error());
}

#[test]
fn a_key_that_every_user_may_read_is_public() {
    let directory = TlsDirectory::new();
    for (mode, is_public) in [(0o600, false), (0o640, false), (0o604, true), (0o644, true)] {
        fs::set_permissions(&directory.files.private_key, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(directory.files.clone().load().unwrap().content.key_is_public, is_public, "{mode:o}");
    }
}

#[test]
fn a_content_change_changes_the_fingerprint() {
    let directory = TlsDirectory::new();
    let before = directory.files.clone().load().unwrap().content.fingerprint;
    assert_eq!(directory.files.clone().load().unwrap().content.fingerprint, before);
    let ca = fs::read_to_string(directory.files.client_ca.as_ref().unwrap()).unwrap();
    directory.write("ca.pem", &format!("{ca}\n"));
    assert_ne!(directory.files.clone().load().unwrap().content.fingerprint, before);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_being_written_is_not_loaded_with_a_complete_one() {
    let directory = TlsDirectory::new();
    let mut watched = directory.files.open().map_err(drop).unwrap();
    let before = directory.files.clone().load().unwrap().content.fingerprint;
    let certificate = fs::read_to_string(&directory.files.certificate).unwrap();
    directory.write("tls.crt", &format!("{certificate}\n"));
    let complete = directory.files.clone().load().unwrap().content.fingerprint;
    let concurrent_write = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        directory.write("ca.pem", &format!("{certificate}-----BEGIN"));
        fs::remove_file(&directory.files.private_key).unwrap();
    };
    tokio::join!(watched.changed(), concurrent_write);
    let loaded = directory.files.check(&watched.contents()).unwrap().fingerprint;
    assert_ne!(loaded, before);
    assert_eq!(loaded, complete);
}
