//! The file of a unix socket: made so that nobody can connect before it has its mode and its owner, and so
//! that two processes that want the same one never take it from each other.

use std::{
    fs::{File, Permissions, TryLockError, set_permissions, symlink_metadata},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::net::{UnixListener, UnixSocket as Socket, UnixStream};

use super::settings::{UnixSocket, directory_of};

/// Connections that wait to be taken; the system has a lower bound of its own (`net.core.somaxconn`).
const BACKLOG: u32 = 1024;

/// How often, and with which pauses, to ask for the lock.
const TRIES: usize = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// A unix socket that listens. Its file goes with it.
pub(super) struct BoundSocket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// The device and the inode of the file: one of the same name may be another's by now.
    file: (u64, u64),
}

impl BoundSocket {
    pub(super) async fn bind(path: &Path, wanted: &UnixSocket) -> io::Result<Self> {
        let _lock = lock(path).await;
        remove_stale(path).await?;
        let socket = Socket::new_stream()?;
        socket.bind(path)?;
        // A socket that is bound and does not listen yet refuses connections, whatever its mode.
        let (listener, file) =
            match prepare(path, wanted).and_then(|file| Ok((socket.listen(BACKLOG)?, file))) {
                Ok(made) => made,
                Err(error) => {
                    std::fs::remove_file(path)?;
                    return Err(error);
                }
            };
        Ok(Self { listener, path: path.to_owned(), file })
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            // Whoever removed it in this moment has done our work.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Gives the file its owner and then its mode, which a change of owner might take bits from.
fn prepare(path: &Path, wanted: &UnixSocket) -> io::Result<(u64, u64)> {
    let UnixSocket { mode, owner } = wanted;
    if owner.user.is_some() || owner.group.is_some() {
        chown(path, owner.user, owner.group)
            .map_err(|error| io::Error::new(error.kind(), format!("unix_socket_owner: {error}")))?;
    }
    set_permissions(path, Permissions::from_mode(*mode))
        .map_err(|error| io::Error::new(error.kind(), format!("unix_socket_mode: {error}")))?;
    identity(path)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// Locks the directory against others of our kind: between the look at a stale file and its replacement,
/// another could have put a live one there.
///
/// It is given up for after a second, since anyone who may read the directory can hold the lock, and must not
/// keep us from starting; and where there are no locks, or the directory may not be read.
async fn lock(path: &Path) -> Option<File> {
    let directory = File::open(directory_of(path)).ok()?;
    for _ in 0..TRIES {
        match directory.try_lock() {
            Ok(()) => return Some(directory),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(PAUSE).await,
            Err(TryLockError::Error(_)) => return None,
        }
    }
    None
}

/// Removes the file of a socket that refuses connections: its server is gone.
async fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        // Alive, or not ours to judge: binding will say.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
