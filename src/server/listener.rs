//! Sockets that take connections: TCP and unix.

use std::{io, path::Path, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::watch,
};

use super::peer::Place;
use crate::config::ListenAddress;

/// How long to wait after a socket could not be taken, for want of file descriptors for example.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// A bound address.
pub struct Listener {
    socket: Socket,
    address: ListenAddress,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection that was taken.
pub enum Connected {
    /// By TCP.
    Tcp(TcpStream),
    /// By a unix socket.
    Unix(UnixStream),
}

impl Listener {
    /// Binds `address`. The file of a unix socket that nobody serves any more is replaced.
    ///
    /// # Errors
    ///
    /// The address cannot be had; the text names it.
    pub async fn bind(address: &ListenAddress) -> io::Result<Self> {
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
        match address {
            ListenAddress::Tcp(wanted) => {
                let socket = TcpListener::bind(wanted).await.map_err(named)?;
                let address = ListenAddress::Tcp(socket.local_addr().map_err(named)?);
                Ok(Self { socket: Socket::Tcp(socket), address })
            }
            ListenAddress::Unix(path) => {
                remove_stale(path).await.map_err(named)?;
                let socket = UnixListener::bind(path).map_err(named)?;
                Ok(Self { socket: Socket::Unix(socket), address: address.clone() })
            }
        }
    }

    /// The address, with the port that was found when 0 was asked for.
    #[must_use]
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Hands every connection on until `stop` says so; then the socket is closed, and a unix socket's file
    /// removed.
    pub async fn accept(self, mut stop: watch::Receiver<bool>, mut take: impl FnMut(Connected)) {
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = super::told(&mut stop) => break,
            };
            match accepted {
                Ok(connected) => take(connected),
                Err(error) => {
                    tracing::warn!(address = %self.address, %error, "a connection could not be taken");
                    tokio::time::sleep(AFTER_ERROR).await;
                }
            }
        }
        if let ListenAddress::Unix(path) = &self.address {
            // Whoever removed it already has done our work.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Socket {
    async fn accept(&self) -> io::Result<Connected> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // An answer is one small write: waiting to fill a segment would only delay it.
                stream.set_nodelay(true)?;
                Ok(Connected::Tcp(stream))
            }
            Self::Unix(listener) => Ok(Connected::Unix(listener.accept().await?.0)),
        }
    }
}

impl Connected {
    /// From where the other end reaches us.
    #[must_use]
    pub fn place(&self) -> Place {
        match self {
            Self::Tcp(stream) => match stream.peer_addr() {
                Ok(address) if address.ip().to_canonical().is_loopback() => Place::Loopback,
                _ => Place::Network,
            },
            Self::Unix(stream) => Place::Unix { uid: stream.peer_cred().ok().map(|peer| peer.uid()) },
        }
    }
}

/// Removes the file of a socket that refuses connections: its server is gone.
async fn remove_stale(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        // Alive, or not ours to judge: binding will say.
        _ => Ok(()),
    }
}
