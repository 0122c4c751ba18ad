//! systemd: sockets that it passes to the process, and notifications of the process's state.

use std::{
    fmt::Display,
    io,
    net::SocketAddr,
    os::unix::net::UnixListener as StdUnixListener,
    path::{Path, PathBuf},
};

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::net::{TcpListener, UnixListener};

/// The listening sockets that systemd passes (sd_listen_fds(3)). A socket serves the configured address that equals its
/// own.
#[derive(Debug, Default)]
pub struct PassedSockets {
    tcp: Vec<(SocketAddr, std::net::TcpListener)>,
    unix: Vec<(PathBuf, StdUnixListener)>,
}

impl PassedSockets {
    /// Takes the sockets that the environment names. Only the first call finds them.
    ///
    /// # Errors
    ///
    /// A passed descriptor is not a listening stream socket of TCP, or of a unix socket with a path.
    pub fn from_env() -> io::Result<Self> {
        let mut passed = ListenFd::from_env();
        let mut sockets = Self::default();
        for index in 0..passed.len() {
            // The second error names both kinds' descriptor.
            if let Ok(Some(socket)) = passed.take_tcp_listener(index) {
                socket.set_nonblocking(true)?;
                sockets.tcp.push((socket.local_addr()?, socket));
            } else if let Some(socket) = passed.take_unix_listener(index)? {
                socket.set_nonblocking(true)?;
                let path = socket.local_addr()?.as_pathname().map(Path::to_owned);
                let path = path.ok_or_else(|| invalid("systemd passed a unix socket without a path"))?;
                sockets.unix.push((path, socket));
            }
        }
        Ok(sockets)
    }

    /// Returns the passed socket of `address`, otherwise binds the address.
    ///
    /// # Errors
    ///
    /// The address cannot be bound. The text has the address.
    pub async fn listen_tcp(&mut self, address: SocketAddr) -> io::Result<TcpListener> {
        let listener = match self.tcp.iter().position(|(passed, _)| *passed == address) {
            Some(index) => TcpListener::from_std(self.tcp.remove(index).1),
            None => TcpListener::bind(address).await,
        };
        listener.map_err(|error| with_address(&error, address))
    }

    /// Returns the passed unix socket of `path`.
    ///
    /// # Errors
    ///
    /// The runtime refuses the socket.
    pub fn take_unix(&mut self, path: &Path) -> io::Result<Option<UnixListener>> {
        let Some(index) = self.unix.iter().position(|(passed, _)| passed == path) else { return Ok(None) };
        UnixListener::from_std(self.unix.remove(index).1).map(Some)
    }

    /// Checks that every passed socket was used.
    ///
    /// # Errors
    ///
    /// No setting names the address of a socket. Its clients would wait forever.
    pub fn finish(self) -> Result<(), PassedSocketError> {
        let tcp = self.tcp.iter().map(|(address, _)| address.to_string());
        let unix = self.unix.iter().map(|(path, _)| format!("unix:{}", path.display()));
        match tcp.chain(unix).next() {
            Some(address) => Err(PassedSocketError { address }),
            None => Ok(()),
        }
    }
}

/// systemd passed a socket on an address that no setting names.
#[derive(Debug, thiserror::Error)]
#[error("systemd passed a socket on {address}, and no setting listens there")]
pub struct PassedSocketError {
    address: String,
}

/// Adds the address to an error of listening.
pub(crate) fn with_address(error: &io::Error, address: impl Display) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
}

fn invalid(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, problem)
}

/// Notifies systemd that the process has started, or that a reload has ended. Without `NOTIFY_SOCKET`, as for the
/// functions below, nothing is sent.
pub fn notify_ready() {
    notify(&[NotifyState::Ready]);
}

/// Notifies systemd that a reload has begun. [`notify_ready`] ends it.
pub fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "failed to notify systemd"),
    }
}

/// Notifies systemd that the process drains.
pub fn notify_stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "failed to notify systemd");
    }
}
