//! Unix socket listeners: the peer's identity, and the socket file.

use std::{
    os::unix::{fs::MetadataExt, net::UnixListener},
    path::{Path, PathBuf},
};

use nix::sys::signal::Signal::SIGTERM;
use tokio::{io::AsyncWriteExt, process::Command};
use tonic::transport::Endpoint;

use crate::{
    lifecycle::{
        caller::{cancel_by, operation},
        google::Google,
        service::Service,
    },
    support::process::{countermand, run},
};

async fn start(google: &Google, socket: &Path) -> Service {
    let listen = format!("unix:{}", socket.display());
    let service = Service::start_with(google, |command: &mut Command| {
        command.args(["--listen", &listen]).env("RUST_LOG", "countermand=debug");
    })
    .await;
    service.process.stderr.has(&format!("listening address={listen}")).await;
    service.ready().await;
    service
}

async fn cancel(socket: &Path, id: usize) {
    let channel = Endpoint::from_shared(format!("unix:{}", socket.display())).unwrap().connect().await;
    cancel_by(channel.unwrap(), operation(id)).await.unwrap();
}

/// A directory, and the path of a socket in it. The directory outlives the service's own.
fn socket_dir() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s.sock");
    (dir, socket)
}

#[tokio::test]
async fn a_socket_serves_identifies_its_peer_and_is_removed_at_the_exit() {
    let google = Google::start().await;
    let (dir, socket) = socket_dir();
    let service = start(&google, &socket).await;
    cancel(&socket, 1).await;

    // The log line about an invalid connection has its peer.
    let mut invalid = tokio::net::UnixStream::connect(&socket).await.unwrap();
    invalid.write_all(b"this is not HTTP/2\r\n\r\n").await.unwrap();
    let uid = std::fs::metadata(dir.path()).unwrap().uid();
    service.process.stderr.has(&format!("origin=Unix {{ uid: Some({uid}) }} ")).await;

    service.process.signal(SIGTERM);
    assert_eq!(service.process.end().await.code, Some(0));
    assert!(!socket.exists(), "the socket file is removed");
}

#[tokio::test]
async fn a_stale_socket_file_is_replaced() {
    let google = Google::start().await;
    let (_dir, socket) = socket_dir();
    // The file stays after the listener is dropped, as after a crash.
    drop(UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    let _service = start(&google, &socket).await;
    cancel(&socket, 1).await;
}

#[tokio::test]
async fn a_socket_in_use_or_another_file_is_not_replaced() {
    let google = Google::start().await;
    let (dir, socket) = socket_dir();
    let service = start(&google, &socket).await;
    let file = dir.path().join("file.txt");
    std::fs::write(&file, "content").unwrap();
    for in_use in [&socket, &file] {
        let listen = format!("unix:{}", in_use.display());
        let mut second = countermand(&["serve", "--listen", &listen, "--admin-listen", "off"]);
        let refused = run(second.args(["--credentials".as_ref(), service.key_file().as_os_str()])).await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains(&format!("cannot listen on {listen}: Address already in use")));
    }
    tokio::net::UnixStream::connect(&socket).await.unwrap();
    cancel(&socket, 1).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "content");
}

#[tokio::test]
async fn the_socket_file_is_private_or_has_the_configured_mode_and_owner() {
    let google = Google::start().await;
    let (_dir, socket) = socket_dir();
    let mode = || std::fs::symlink_metadata(&socket).unwrap().mode() & 0o777;
    let service = start(&google, &socket).await;
    assert_eq!(mode(), 0o600);
    service.process.signal(SIGTERM);
    assert_eq!(service.process.end().await.code, Some(0));

    let listen = format!("unix:{}", socket.display());
    let group = nix::unistd::getgid();
    let service = Service::start_with(&google, |command: &mut Command| {
        command.args(["--listen", &listen]).env("COUNTERMAND_UNIX_SOCKET_MODE", "0660");
        command.env("COUNTERMAND_UNIX_SOCKET_OWNER", format!(":{group}"));
    })
    .await;
    service.process.stderr.has(&format!("listening address={listen}")).await;
    assert_eq!(mode(), 0o660);
    service.ready().await;
    cancel(&socket, 1).await;
}
