//! systemd: passed sockets and notifications.

use std::{
    fs::{Permissions, set_permissions},
    net::TcpListener as StdTcpListener,
    os::{
        fd::OwnedFd,
        unix::{
            fs::PermissionsExt,
            net::{UnixDatagram, UnixListener},
        },
    },
    process::Stdio,
};

use nix::sys::signal::Signal::{SIGHUP, SIGTERM};
use tonic::transport::Endpoint;

use crate::{
    lifecycle::{
        caller::{cancel, cancel_by, operation},
        google::Google,
        key::Key,
        service::Service,
    },
    support::process::{LIMIT, Process, countermand_after},
};

/// Starts the program with `socket` as the descriptor that systemd passes, and `listen` as its address.
async fn start_with_socket(google: &Google, socket: OwnedFd, listen: &str) -> (tempfile::TempDir, Process) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key.json"), Key::generate().file(&google.token_url())).unwrap();
    // The shell gets the socket as its standard input, and passes it on as systemd does.
    let pass = "exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$";
    let arguments = ["serve", "--admin-listen", "off", "--listen", listen, "--credentials", "key.json"];
    let mut command = countermand_after(pass, &arguments);
    command.args(["--upstream-url", &google.url]).current_dir(&dir);
    let process = Process::start_with_stdin(&mut command, Stdio::from(socket));
    (dir, process)
}

#[tokio::test]
async fn a_passed_tcp_socket_serves_its_address() {
    let google = Google::start().await;
    let socket = StdTcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let (_dir, process) = start_with_socket(&google, socket.into(), &address.to_string()).await;
    process.stderr.has(&format!("listening address={address}")).await;
    cancel(address, 1).await.unwrap();
    process.signal(SIGTERM);
    assert_eq!(process.end().await.code, Some(0));
}

#[tokio::test]
async fn a_passed_unix_socket_serves_its_path_and_stays_at_the_exit() {
    let google = Google::start().await;
    let sockets = tempfile::tempdir().unwrap();
    let path = sockets.path().join("s.sock");
    let socket = UnixListener::bind(&path).unwrap();
    set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let listen = format!("unix:{}", path.display());
    let (_dir, process) = start_with_socket(&google, socket.into(), &listen).await;
    process.stderr.has(&format!("listening address={listen}")).await;
    let channel = Endpoint::from_shared(listen).unwrap().connect().await.unwrap();
    cancel_by(channel, operation(1)).await.unwrap();
    process.signal(SIGTERM);
    assert_eq!(process.end().await.code, Some(0));
    // systemd still listens on the socket, and owns its file.
    assert!(path.exists());
}

#[tokio::test]
async fn a_passed_unix_socket_of_a_wider_mode_than_configured_stops_the_start() {
    let google = Google::start().await;
    let sockets = tempfile::tempdir().unwrap();
    let path = sockets.path().join("s.sock");
    let socket = UnixListener::bind(&path).unwrap();
    // The default of systemd.
    set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    let listen = format!("unix:{}", path.display());
    let (_dir, process) = start_with_socket(&google, socket.into(), &listen).await;
    let ended = process.end().await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let problem = format!(
        "cannot listen on {listen}: systemd passed a socket file of mode 0666, and unix_socket_mode is 0600; \
         set SocketMode=0600 in the socket unit"
    );
    assert!(ended.stderr.contains(&problem), "{}", ended.stderr);
}

#[tokio::test]
async fn a_passed_socket_that_no_setting_names_stops_the_start() {
    let google = Google::start().await;
    let socket = StdTcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let (_dir, process) = start_with_socket(&google, socket.into(), "127.0.0.1:0").await;
    let ended = process.end().await;
    assert_eq!(ended.code, Some(78), "{}", ended.stderr);
    let problem = format!("systemd passed a socket on {address}, and no setting listens there");
    assert!(ended.stderr.contains(&problem), "{}", ended.stderr);
}

#[tokio::test]
async fn systemd_is_notified_of_the_start_each_reload_and_the_drain() {
    let google = Google::start().await;
    let sockets = tempfile::tempdir().unwrap();
    let path = sockets.path().join("notify");
    let notifications = UnixDatagram::bind(&path).unwrap();
    notifications.set_read_timeout(Some(LIMIT)).unwrap();
    let next = || {
        let mut buffer = [0; 1024];
        let length = notifications.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let service = Service::start_with(&google, |command| _ = command.env("NOTIFY_SOCKET", &path)).await;
    assert_eq!(next(), "READY=1\n");
    service.process.signal(SIGHUP);
    let reloading = next();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(next(), "READY=1\n");
    service.process.signal(SIGTERM);
    assert_eq!(next(), "STOPPING=1\n");
    assert_eq!(service.process.end().await.code, Some(0));
}
