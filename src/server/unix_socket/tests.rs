use std::io::ErrorKind;

use futures_util::future::join_all;
use nix::unistd::{getgid, getuid};

use super::*;
use crate::server::settings::Owner;

/// Only the process's user may connect.
const PRIVATE: SocketAccess = SocketAccess { mode: 0o600, owner: Owner { user: None, group: None } };

fn mode_of(path: &Path) -> u32 {
    symlink_metadata(path).unwrap().mode() & 0o777
}

#[tokio::test]
async fn the_file_has_its_mode_with_any_umask() {
    let directory = tempfile::tempdir().unwrap();
    for mode in [0o600, 0o660, 0o666, 0o777] {
        let path = directory.path().join(format!("{mode:o}.sock"));
        let socket = BoundSocket::bind(&path, SocketAccess { mode, owner: Owner::default() }).await.unwrap();
        assert_eq!(mode_of(&path), mode);
        drop(socket);
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn the_file_has_the_owner_and_keeps_the_mode() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    // Root may set any owner. Other users may set only themselves.
    let is_root = getuid().is_root();
    let (user, group) = if is_root { (12_345, 54_321) } else { (getuid().as_raw(), getgid().as_raw()) };
    let wanted = SocketAccess { mode: 0o660, owner: Owner { user: Some(user), group: Some(group) } };
    let _socket = BoundSocket::bind(&path, wanted).await.unwrap();
    let file = symlink_metadata(&path).unwrap();
    assert_eq!((file.uid(), file.gid(), mode_of(&path)), (user, group, 0o660));
}

#[tokio::test]
async fn one_of_many_processes_replaces_a_stale_file_and_keeps_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    for _ in 0..10 {
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let all = join_all((0..8).map(|_| BoundSocket::bind(&path, PRIVATE))).await;
        let (bound, refused): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
        assert_eq!(bound.len(), 1);
        for refused in refused {
            assert_eq!(refused.err().unwrap().kind(), ErrorKind::AddrInUse);
        }
        UnixStream::connect(&path).await.unwrap();
    }
}

#[tokio::test]
async fn a_file_of_another_process_is_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    let ours = BoundSocket::bind(&path, PRIVATE).await.unwrap();
    std::fs::rename(&path, directory.path().join("elsewhere")).unwrap();
    let theirs = std::os::unix::net::UnixListener::bind(&path).unwrap();
    drop(ours);
    assert!(path.exists());
    drop(theirs);
}

#[tokio::test]
async fn a_lock_that_is_never_released_does_not_prevent_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let held = File::open(directory.path()).unwrap();
    held.lock().unwrap();
    BoundSocket::bind(&directory.path().join("s.sock"), PRIVATE).await.unwrap();
}

#[tokio::test]
async fn a_passed_socket_that_more_users_may_connect_to_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    for (actual, mode, is_accepted) in [
        (0o600, 0o600, true),
        (0o660, 0o600, false),
        (0o606, 0o660, false),
        (0o666, 0o660, false),
        (0o600, 0o660, true),
        // Connecting takes write permission.
        (0o755, 0o600, true),
    ] {
        let listener = UnixListener::bind(&path).unwrap();
        set_permissions(&path, Permissions::from_mode(actual)).unwrap();
        let passed = BoundSocket::passed(listener, &path, mode);
        assert_eq!(passed.is_ok(), is_accepted, "{actual:o} {mode:o}");
        std::fs::remove_file(&path).unwrap();
    }
}
