//! TLS as the operator sets it up and sees it: by the files of the configuration, the log, and the program's own
//! client commands.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use crate::{
    lifecycle::{google::Google, service::Service},
    support::{
        files::replace,
        process::{Ended, countermand, run},
        tls::{Authority, Pair},
    },
};

const NAME: &str = "enterprises/LC01/devices/d1/operations/1";

/// A directory with an authority's `ca.pem`, a server's `tls.crt` and `tls.key`, and a client's `client.pem` and
/// `client.key`.
struct Room {
    directory: tempfile::TempDir,
    authority: Authority,
}

impl Room {
    fn new() -> Self {
        let room = Self { directory: tempfile::tempdir().unwrap(), authority: Authority::new() };
        fs::write(room.path().join("ca.pem"), room.authority.pem()).unwrap();
        room.serves_by(&room.authority.server());
        room.authority.console().write(&room.path().join("client.pem"), &room.path().join("client.key"));
        room
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn serves_by(&self, pair: &Pair) {
        pair.write(&self.path().join("tls.crt"), &self.path().join("tls.key"));
    }

    async fn serve(&self, google: &Google) -> Service {
        let socket = format!("unix:{}", self.path().join("s.sock").display());
        Service::start_with(google, |command| {
            command.args(["--listen", &socket]);
            for (name, file) in
                [("CERTIFICATE", "tls.crt"), ("PRIVATE_KEY", "tls.key"), ("CLIENT_CA", "ca.pem")]
            {
                command.env(format!("COUNTERMAND_SERVER_TLS_{name}"), self.path().join(file));
            }
        })
        .await
    }

    async fn cancel(&self, service: &Service, words: &[&str]) -> Ended {
        let server = service.address.to_string();
        let mut command = countermand(&["cancel", NAME, "--server", &server, "--tls-ca", "ca.pem"]);
        run(command.args(words).current_dir(self.path())).await
    }
}

const CLIENT: [&str; 4] = ["--tls-cert", "client.pem", "--tls-key", "client.key"];

#[tokio::test]
async fn the_client_commands_are_let_in_with_a_certificate_only() {
    let (google, room) = (Google::start().await, Room::new());
    let service = room.serve(&google).await;
    service.ready().await;
    let cancelled = room.cancel(&service, &CLIENT).await;
    assert_eq!(cancelled.code, Some(0), "{cancelled:?}");
    let refused = room.cancel(&service, &[]).await;
    assert_ne!(refused.code, Some(0), "{refused:?}");
    assert!(refused.stderr.contains("--tls-cert"), "{refused:?}");
}

#[tokio::test]
async fn a_unix_socket_beside_it_stays_plaintext() {
    let (google, room) = (Google::start().await, Room::new());
    let service = room.serve(&google).await;
    service.ready().await;
    let mut command = countermand(&["cancel", NAME, "--server", "unix:s.sock"]);
    let cancelled = run(command.current_dir(room.path())).await;
    assert_eq!(cancelled.code, Some(0), "{cancelled:?}");
}

#[tokio::test]
async fn a_rotation_is_told_once_and_a_broken_one_leaves_the_old_in_force() {
    let (google, room) = (Google::start().await, Room::new());
    let service = room.serve(&google).await;
    service.ready().await;
    let log = &service.process.stderr;

    let old_key = fs::read(room.path().join("tls.key")).unwrap();
    room.serves_by(&room.authority.server());
    log.has("reloaded the TLS files for new connections").await;
    assert_eq!(room.cancel(&service, &CLIENT).await.code, Some(0));

    fs::write(room.path().join("tls.key"), old_key).unwrap();
    log.has("failed to reload the TLS files: the old ones stay active").await;
    assert!(log.text().contains("server.tls.private_key: "), "{}", log.text());
    assert_eq!(room.cancel(&service, &CLIENT).await.code, Some(0));
    for line in ["reloaded the TLS files", "the old ones stay active"] {
        assert_eq!(log.text().matches(line).count(), 1, "{}", log.text());
    }
}

#[tokio::test]
async fn a_certificate_renewed_for_its_key_is_taken_up_though_the_key_is_away_meanwhile() {
    let (google, room) = (Google::start().await, Room::new());
    let pair = room.authority.server();
    room.serves_by(&pair);
    let service = room.serve(&google).await;
    service.ready().await;
    let log = &service.process.stderr;

    let (key, away) = (room.path().join("tls.key"), room.path().join("away"));
    fs::rename(&key, &away).unwrap();
    replace(&room.path().join("tls.crt"), &room.authority.renewed(&pair).certificate);
    log.has("a file cannot be read any more: what it held stays in use").await;
    fs::rename(&away, &key).unwrap();
    log.has("reloaded the TLS files for new connections").await;
    assert!(!log.text().contains("failed to reload"), "{}", log.text());
    assert_eq!(room.cancel(&service, &CLIENT).await.code, Some(0));
}

#[tokio::test]
async fn a_certificate_that_ends_soon_or_has_ended_is_told_and_served() {
    let google = Google::start().await;
    let now = SystemTime::now();
    let hour = Duration::from_secs(3600);
    for (end, line) in [
        (now + 75 * hour, "the TLS certificate expires soon certificate="),
        (now - hour, "the TLS certificate has expired: clients will refuse it"),
    ] {
        let room = Room::new();
        room.serves_by(&room.authority.server_until(end));
        let service = room.serve(&google).await;
        service.process.stderr.has(line).await;
        if end > now {
            service.process.stderr.has("days_left=3").await;
        } else {
            let refused = room.cancel(&service, &CLIENT).await;
            assert!(refused.stderr.contains("expired"), "{refused:?}");
        }
    }
}

#[tokio::test]
async fn a_pair_that_is_none_ends_with_78() {
    let room = Room::new();
    fs::copy(room.path().join("client.key"), room.path().join("tls.key")).unwrap();
    let tls = "[server.tls]\ncertificate = \"tls.crt\"\nprivate_key = \"tls.key\"\n";
    fs::write(room.path().join("c.toml"), tls).unwrap();
    let key = crate::lifecycle::key::Key::generate().file("http://127.0.0.1:1/token");
    fs::write(room.path().join("key.json"), key).unwrap();
    let mut command = countermand(&["serve", "--config", "c.toml", "--credentials", "key.json"]);
    let refused = run(command.current_dir(room.path())).await;
    assert_eq!(refused.code, Some(78), "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("server.tls.private_key (line 3): tls.key is not the key of the certificate; ")
    );
}
