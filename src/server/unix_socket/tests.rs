use std::io::ErrorKind;

use futures_util::future::join_all;
use nix::unistd::{getgid, getuid};

use super::*;
use crate::server::settings::Owner;

fn mode_of(path: &Path) -> u32 {
    symlink_metadata(path).unwrap().mode() & 0o777
}

#[tokio::test]
async fn the_file_has_the_mode_whatever_the_umask() {
    let room = tempfile::tempdir().unwrap();
    for mode in [0o600, 0o660, 0o666, 0o777] {
        let path = room.path().join(format!("{mode:o}.sock"));
        let socket = BoundSocket::bind(&path, &UnixSocket { mode, owner: Owner::default() }).await.unwrap();
        assert_eq!(mode_of(&path), mode);
        drop(socket);
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn the_file_has_the_owner_and_keeps_the_mode() {
    let room = tempfile::tempdir().unwrap();
    let path = room.path().join("s.sock");
    // Root may give it to anyone, others to themselves.
    let is_root = getuid().is_root();
    let (user, group) = if is_root { (12_345, 54_321) } else { (getuid().as_raw(), getgid().as_raw()) };
    let wanted = UnixSocket { mode: 0o660, owner: Owner { user: Some(user), group: Some(group) } };
    let _socket = BoundSocket::bind(&path, &wanted).await.unwrap();
    let file = symlink_metadata(&path).unwrap();
    assert_eq!((file.uid(), file.gid(), mode_of(&path)), (user, group, 0o660));
}

#[tokio::test]
async fn of_many_who_want_a_stale_name_one_gets_it_and_keeps_it() {
    let room = tempfile::tempdir().unwrap();
    let path = room.path().join("s.sock");
    for _ in 0..10 {
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let wanted = UnixSocket::default();
        let all = join_all((0..8).map(|_| BoundSocket::bind(&path, &wanted))).await;
        let (bound, refused): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
        assert_eq!(bound.len(), 1);
        for refused in refused {
            assert_eq!(refused.err().unwrap().kind(), ErrorKind::AddrInUse);
        }
        UnixStream::connect(&path).await.unwrap();
    }
}

#[tokio::test]
async fn a_file_that_another_has_put_there_since_is_left_alone() {
    let room = tempfile::tempdir().unwrap();
    let path = room.path().join("s.sock");
    let ours = BoundSocket::bind(&path, &UnixSocket::default()).await.unwrap();
    std::fs::rename(&path, room.path().join("elsewhere")).unwrap();
    let theirs = std::os::unix::net::UnixListener::bind(&path).unwrap();
    drop(ours);
    assert!(path.exists());
    drop(theirs);
}

#[tokio::test]
async fn a_lock_that_another_never_gives_back_does_not_keep_us_from_starting() {
    let room = tempfile::tempdir().unwrap();
    let held = File::open(room.path()).unwrap();
    held.lock().unwrap();
    BoundSocket::bind(&room.path().join("s.sock"), &UnixSocket::default()).await.unwrap();
}
