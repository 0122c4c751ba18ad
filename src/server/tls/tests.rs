//! What is wrong with files, and what their validity says. Handshakes and changes of the files are tested over
//! real sockets.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, SystemTime},
};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::{validity::State, *};
use crate::pem::{KEY_ON_ONE_LINE, shows_the_key};

/// A directory with a pair and its files.
struct Room {
    directory: tempfile::TempDir,
    files: TlsFiles,
}

impl Room {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let files = TlsFiles {
            certificate: at("tls.crt"),
            private_key: at("tls.key"),
            client_ca: Some(at("ca.pem")),
        };
        let room = Self { directory, files };
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["a.test".to_owned()]).unwrap().self_signed(&key).unwrap();
        room.write("tls.crt", &certificate.pem());
        room.write("tls.key", &key.serialize_pem());
        room.write("ca.pem", &certificate.pem());
        room
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.directory.path().join(name), content).unwrap();
    }

    fn error(&self) -> FileError {
        self.files.load().map(drop).expect_err("a fault")
    }
}

#[test]
fn a_pair_serves_both_versions_of_tls_and_h2_and_resumes_nothing() {
    let loaded = Room::new().files.load().unwrap();
    assert_eq!(loaded.config.alpn_protocols, [H2]);
    assert_eq!(loaded.config.send_tls13_tickets, 0);
    assert!(!loaded.config.session_storage.can_cache());
    assert!(!loaded.config.ticketer.enabled());
    assert_eq!(loaded.config.max_early_data_size, 0);
}

#[test]
fn each_fault_is_that_of_its_file_and_shows_nothing_of_the_key() {
    let other_key = KeyPair::generate().unwrap().serialize_pem();
    let secret = other_key.lines().nth(1).unwrap().to_owned();
    let encrypted = other_key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let garbled = other_key.replace(&secret, "????");
    let cut = other_key.replace("-----END PRIVATE KEY-----", "");
    let of_nothing = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (name, content, file, what) in [
        ("tls.crt", "", File::Certificate, "holds no certificate"),
        ("tls.crt", KEY_ON_ONE_LINE, File::Certificate, "is not PEM"),
        ("tls.crt", of_nothing, File::Certificate, "certificate 1 is malformed"),
        ("tls.key", "", File::PrivateKey, "holds no private key"),
        ("tls.key", KEY_ON_ONE_LINE, File::PrivateKey, "holds no private key"),
        ("tls.key", &cut, File::PrivateKey, "holds no private key"),
        ("tls.key", &garbled, File::PrivateKey, "holds no private key"),
        ("tls.key", &encrypted, File::PrivateKey, "holds an encrypted key"),
        ("tls.key", &other_key, File::PrivateKey, "is not the key of the certificate"),
        ("ca.pem", "", File::ClientCa, "holds no certificate"),
        ("ca.pem", KEY_ON_ONE_LINE, File::ClientCa, "is not PEM"),
        ("ca.pem", of_nothing, File::ClientCa, "cannot be used"),
    ] {
        let room = Room::new();
        room.write(name, content);
        let error = room.error();
        assert_eq!(error.file, file, "{error}");
        let text = error.to_string();
        assert!(text.starts_with(file.key()) && text.contains(what), "{what}: {text}");
        let whole = format!("{text} {error:?}");
        assert!(!whole.contains(&secret) && !shows_the_key(&whole), "{whole}");
    }
    let room = Room::new();
    fs::remove_file(&room.files.private_key).unwrap();
    assert!(room.error().to_string().starts_with("server.tls.private_key: "), "{}", room.error());
}

#[test]
fn a_key_that_all_may_read_is_noticed() {
    let room = Room::new();
    for (mode, is_public) in [(0o600, false), (0o640, false), (0o604, true), (0o644, true)] {
        fs::set_permissions(&room.files.private_key, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(room.files.load().unwrap().key_is_public, is_public, "{mode:o}");
    }
}

#[test]
fn the_same_content_is_no_change_and_any_other_is() {
    let room = Room::new();
    let before = room.files.load().unwrap().fingerprint;
    assert_eq!(room.files.load().unwrap().fingerprint, before);
    let ca = fs::read_to_string(room.files.client_ca.as_ref().unwrap()).unwrap();
    room.write("ca.pem", &format!("{ca}\n"));
    assert_ne!(room.files.load().unwrap().fingerprint, before);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_being_written_is_not_taken_up_with_another_that_has_settled() {
    let room = Room::new();
    let mut watched = room.files.each(Watched::open).unwrap();
    let before = room.files.load().unwrap().fingerprint;
    let certificate = fs::read_to_string(&room.files.certificate).unwrap();
    room.write("tls.crt", &format!("{certificate}\n"));
    let settled = room.files.load().unwrap().fingerprint;
    let meanwhile = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        room.write("ca.pem", &format!("{certificate}-----BEGIN"));
        fs::remove_file(&room.files.private_key).unwrap();
    };
    tokio::join!(watched.changed(), meanwhile);
    let taken_up = room.files.check(&watched.contents()).unwrap().fingerprint;
    assert_ne!(taken_up, before);
    assert_eq!(taken_up, settled);
}

fn validity(from: (i32, u8, u8), until: (i32, u8, u8)) -> Validity {
    let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
    params.not_before = date_time_ymd(from.0, from.1, from.2);
    params.not_after = date_time_ymd(until.0, until.1, until.2);
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    Validity::of(&[certificate.der().clone()]).unwrap()
}

#[test]
fn the_validity_says_how_many_days_are_left() {
    let validity = validity((2030, 1, 1), (2030, 2, 1));
    assert_eq!(validity.end().to_string(), "2030-02-01T00:00:00Z");
    let at = |text: &str| validity.at(humantime::parse_rfc3339(text).unwrap());
    assert_eq!(at("2029-12-31T23:59:59Z"), State::NotYet);
    assert_eq!(at("2030-01-01T00:00:00Z"), State::Fresh { days_left: 31 });
    assert_eq!(at("2030-01-18T00:00:00Z"), State::Fresh { days_left: 14 });
    assert_eq!(at("2030-01-18T00:00:01Z"), State::EndsSoon { days_left: 13 });
    assert_eq!(at("2030-01-31T12:00:00Z"), State::EndsSoon { days_left: 0 });
    assert_eq!(at("2030-02-01T00:00:01Z"), State::Expired);
}

#[test]
fn a_validity_without_an_end_or_before_1970_is_none_to_fall_over() {
    let forever = validity((1950, 1, 1), (9999, 12, 31));
    assert!(matches!(forever.at(SystemTime::now()), State::Fresh { .. }));
}
