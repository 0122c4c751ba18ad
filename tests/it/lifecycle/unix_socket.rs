//! A unix socket: who calls by it, and whose file it is.

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

/// A directory for a socket, whose own directory must outlive the service's.
fn room() -> (tempfile::TempDir, PathBuf) {
    let room = tempfile::tempdir().unwrap();
    let socket = room.path().join("s.sock");
    (room, socket)
}

#[tokio::test]
async fn a_socket_serves_knows_its_caller_and_goes_with_the_process() {
    let google = Google::start().await;
    let (room, socket) = room();
    let service = start(&google, &socket).await;
    cancel(&socket, 1).await;

    // A connection that ends in nonsense is told with its caller.
    let mut nonsense = tokio::net::UnixStream::connect(&socket).await.unwrap();
    nonsense.write_all(b"this is not HTTP/2, as the server will notice\r\n\r\n").await.unwrap();
    let uid = std::fs::metadata(room.path()).unwrap().uid();
    service.process.stderr.has(&format!("origin=Unix {{ uid: Some({uid}) }} ")).await;

    service.process.signal(SIGTERM);
    assert_eq!(service.process.end().await.code, Some(0));
    assert!(!socket.exists(), "its file is removed");
}

#[tokio::test]
async fn a_stale_file_is_replaced() {
    let google = Google::start().await;
    let (_room, socket) = room();
    // The file stays when its listener is gone, as after a crash.
    drop(UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    let _service = start(&google, &socket).await;
    cancel(&socket, 1).await;
}

#[tokio::test]
async fn a_live_one_and_what_is_no_socket_are_left_alone() {
    let google = Google::start().await;
    let (room, socket) = room();
    let service = start(&google, &socket).await;
    let file = room.path().join("letter.txt");
    std::fs::write(&file, "dear reader").unwrap();
    for taken in [&socket, &file] {
        let listen = format!("unix:{}", taken.display());
        let mut second = countermand(&["serve", "--listen", &listen, "--admin-listen", "off"]);
        let refused = run(second.args(["--credentials".as_ref(), service.key_file().as_os_str()])).await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains(&format!("cannot listen on {listen}: Address already in use")));
    }
    tokio::net::UnixStream::connect(&socket).await.unwrap();
    cancel(&socket, 1).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "dear reader");
}

#[tokio::test]
async fn its_file_is_the_users_own_or_as_the_settings_say() {
    let google = Google::start().await;
    let (_room, socket) = room();
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
