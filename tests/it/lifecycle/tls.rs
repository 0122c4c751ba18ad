//! TLS of a running process: certificate files, reloads, log messages and the client commands.

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
struct TlsDir {
    dir: tempfile::TempDir,
    authority: Authority,
}

impl TlsDir {
    fn new() -> Self {
        let dir = Self { dir: tempfile::tempdir().unwrap(), authority: Authority::new() };
        fs::write(dir.path().join("ca.pem"), dir.authority.pem()).unwrap();
        dir.set_certificate(&dir.authority.server());
        dir.authority.console().write(&dir.path().join("client.pem"), &dir.path().join("client.key"));
        dir
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn set_certificate(&self, pair: &Pair) {
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
async fn client_commands_need_a_client_certificate() {
    let (google, dir) = (Google::start().await, TlsDir::new());
    let service = dir.serve(&google).await;
    service.ready().await;
    let cancelled = dir.cancel(&service, &CLIENT).await;
    assert_eq!(cancelled.code, Some(0), "{cancelled:?}");
    let refused = dir.cancel(&service, &[]).await;
    assert_ne!(refused.code, Some(0), "{refused:?}");
    assert!(refused.stderr.contains("--tls-cert"), "{refused:?}");
}

#[tokio::test]
async fn a_unix_socket_beside_a_tls_listener_is_plaintext() {
    let (google, dir) = (Google::start().await, TlsDir::new());
    let service = dir.serve(&google).await;
    service.ready().await;
    let mut command = countermand(&["cancel", NAME, "--server", "unix:s.sock"]);
    let cancelled = run(command.current_dir(dir.path())).await;
    assert_eq!(cancelled.code, Some(0), "{cancelled:?}");
}

#[tokio::test]
async fn a_rotation_is_logged_once_and_broken_files_leave_the_old_certificate_active() {
    let (google, dir) = (Google::start().await, TlsDir::new());
    let service = dir.serve(&google).await;
    service.ready().await;
    let log = &service.process.stderr;

    let old_key = fs::read(dir.path().join("tls.key")).unwrap();
    dir.set_certificate(&dir.authority.server());
    log.has("reloaded the TLS files for new connections").await;
    assert_eq!(dir.cancel(&service, &CLIENT).await.code, Some(0));

    fs::write(dir.path().join("tls.key"), old_key).unwrap();
    log.has("failed to reload the TLS files: the old ones stay active").await;
    assert!(log.text().contains("server.tls.private_key: "), "{}", log.text());
    assert_eq!(dir.cancel(&service, &CLIENT).await.code, Some(0));
    for line in ["reloaded the TLS files", "the old ones stay active"] {
        assert_eq!(log.text().matches(line).count(), 1, "{}", log.text());
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_reloaded_although_the_key_file_was_missing() {
    let (google, dir) = (Google::start().await, TlsDir::new());
    let pair = dir.authority.server();
    dir.set_certificate(&pair);
    let service = dir.serve(&google).await;
    service.ready().await;
    let log = &service.process.stderr;

    let (key, moved) = (dir.path().join("tls.key"), dir.path().join("moved"));
    fs::rename(&key, &moved).unwrap();
    replace(&dir.path().join("tls.crt"), &dir.authority.renewed(&pair).certificate);
    log.has("failed to read a watched file; its last content stays active").await;
    fs::rename(&moved, &key).unwrap();
    log.has("reloaded the TLS files for new connections").await;
    assert!(!log.text().contains("failed to reload"), "{}", log.text());
    assert_eq!(dir.cancel(&service, &CLIENT).await.code, Some(0));
}

#[tokio::test]
async fn an_expiring_or_expired_certificate_is_logged_and_served() {
    let google = Google::start().await;
    let now = SystemTime::now();
    let hour = Duration::from_secs(3600);
    for (end, line) in [
        (now + 75 * hour, "the TLS certificate expires soon certificate="),
        (now - hour, "the TLS certificate has expired: clients will refuse it"),
    ] {
        let dir = TlsDir::new();
        dir.set_certificate(&dir.authority.server_until(end));
        let service = dir.serve(&google).await;
        service.process.stderr.has(line).await;
        if end > now {
            service.process.stderr.has("days_left=3").await;
        } else {
            let refused = dir.cancel(&service, &CLIENT).await;
            assert!(refused.stderr.contains("expired"), "{refused:?}");
        }
    }
}

#[tokio::test]
async fn a_key_of_another_certificate_exits_with_78() {
    let dir = TlsDir::new();
    fs::copy(dir.path().join("client.key"), dir.path().join("tls.key")).unwrap();
    let tls = "[server.tls]\ncertificate = \"tls.crt\"\nprivate_key = \"tls.key\"\n";
    fs::write(dir.path().join("c.toml"), tls).unwrap();
    let key = crate::lifecycle::key::Key::generate().file("http://127.0.0.1:1/token");
    fs::write(dir.path().join("key.json"), key).unwrap();
    let mut command = countermand(&["serve", "--config", "c.toml", "--credentials", "key.json"]);
    let refused = run(command.current_dir(dir.path())).await;
    assert_eq!(refused.code, Some(78), "{refused:?}");
    let error = "server.tls.private_key (line 3): the file is not the key of the certificate; ";
    assert!(refused.stderr.contains(error), "{refused:?}");
}
