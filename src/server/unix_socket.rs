//! Binds a unix socket. No client can connect before the file has its mode and owner. A process never replaces the
//! file of another process that is serving.

use std::{
    fs::{File, Permissions, TryLockError, set_permissions, symlink_metadata},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::net::{UnixListener, UnixSocket, UnixStream};

use super::settings::Owner;
use crate::config::directory_of;

/// The maximum number of connections that wait to be accepted. The system may have a lower limit
/// (`net.core.somaxconn`).
const BACKLOG: u32 = 1024;

/// The permission bits that admit clients (unix(7)).
const WRITE_BITS: u32 = 0o222;

/// The number of attempts to lock the directory, and the pause between them.
const LOCK_ATTEMPTS: usize = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The mode and owner of a socket's file.
#[derive(Debug, Clone, Copy)]
pub struct SocketAccess {
    /// The permission bits.
    pub mode: u32,
    /// The owner.
    pub owner: Owner,
}

/// A listening unix socket. Its file is removed on drop, if this process bound it.
pub(super) struct BoundSocket {
    pub(super) listener: UnixListener,
    bound: Option<SocketFile>,
}

/// The file of a socket that this process bound.
struct SocketFile {
    path: PathBuf,
    /// The device and inode. By the time of the drop, another process may have replaced the file.
    id: (u64, u64),
}

impl BoundSocket {
    /// A socket that systemd bound at `path`. systemd also sets its mode and owner, and removes its file.
    ///
    /// # Errors
    ///
    /// More users may connect than with `mode`.
    pub(super) fn passed(listener: UnixListener, path: &Path, mode: u32) -> io::Result<Self> {
        let actual = symlink_metadata(path)?.mode() & 0o777;
        if actual & !mode & WRITE_BITS != 0 {
            let problem = format!(
                "systemd passed a socket file of mode {actual:04o}, and unix_socket_mode is {mode:04o}; \
                 set SocketMode={mode:04o} in the socket unit"
            );
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
        }
        Ok(Self { listener, bound: None })
    }

    pub(super) async fn bind(path: &Path, access: SocketAccess) -> io::Result<Self> {
        let _lock = lock(path).await;
        remove_stale(path).await?;
        let socket = UnixSocket::new_stream()?;
        socket.bind(path)?;
        // A bound socket refuses connections before it listens, with any mode.
        let (listener, file) =
            match prepare(path, access).and_then(|file| Ok((socket.listen(BACKLOG)?, file))) {
                Ok(prepared) => prepared,
                Err(error) => {
                    std::fs::remove_file(path)?;
                    return Err(error);
                }
            };
        Ok(Self { listener, bound: Some(SocketFile { path: path.to_owned(), id: file }) })
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        let Some(SocketFile { path, id }) = &self.bound else { return };
        if identity(path).is_ok_and(|file| file == *id) {
            // An error means that another process removed the file first.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Sets the file's owner, then its mode, because a change of owner may clear mode bits.
fn prepare(path: &Path, access: SocketAccess) -> io::Result<(u64, u64)> {
    let SocketAccess { mode, owner } = access;
    if owner.user.is_some() || owner.group.is_some() {
        chown(path, owner.user, owner.group)
            .map_err(|error| io::Error::new(error.kind(), format!("unix_socket_owner: {error}")))?;
    }
    set_permissions(path, Permissions::from_mode(mode))
        .map_err(|error| io::Error::new(error.kind(), format!("unix_socket_mode: {error}")))?;
    identity(path)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// Locks the directory. Otherwise another process could bind a socket at the path after this process found a stale
/// file and before it replaces the file.
///
/// Any user who can read the directory can hold the lock, and must not prevent the start of the service. Therefore
/// this returns `None` after a second, without file locks, or without read permission.
async fn lock(path: &Path) -> Option<File> {
    let directory = File::open(directory_of(path)).ok()?;
    for _ in 0..LOCK_ATTEMPTS {
        match directory.try_lock() {
            Ok(()) => return Some(directory),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_PAUSE).await,
            Err(TryLockError::Error(_)) => return None,
        }
    }
    None
}

/// Removes the file of a socket that refuses connections, because its server has ended.
async fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        // The socket is in use or its state is unknown. The bind then fails.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
