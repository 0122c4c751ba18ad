//! Sockets that take connections: TCP and unix.

use std::{io, time::Duration};

use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::{
    peer::Place,
    seldom::Seldom,
    settings::{ListenAddress, UnixSocket},
    unix_socket::BoundSocket,
};
use crate::loopback::is_loopback;

/// How long to wait after a socket could not be taken, for want of file descriptors for example.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// A bound address.
pub struct Listener {
    socket: Socket,
    address: ListenAddress,
    errors: Seldom,
}

enum Socket {
    Tcp(TcpListener),
    Unix(BoundSocket),
}

/// A connection that was taken.
pub enum Connected {
    /// By TCP.
    Tcp(TcpStream),
    /// By a unix socket.
    Unix(UnixStream),
}

impl Listener {
    /// Binds `address`. The file of a unix socket gets the mode and the owner of `files`; that of a socket
    /// that nobody serves any more is replaced.
    ///
    /// # Errors
    ///
    /// The address cannot be had; the text names it.
    pub async fn bind(address: &ListenAddress, files: &UnixSocket) -> io::Result<Self> {
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
        let (socket, address) = match address {
            ListenAddress::Tcp(wanted) => {
                let socket = TcpListener::bind(wanted).await.map_err(named)?;
                let address = ListenAddress::Tcp(socket.local_addr().map_err(named)?);
                (Socket::Tcp(socket), address)
            }
            ListenAddress::Unix(path) => {
                let socket = BoundSocket::bind(path, files).await.map_err(named)?;
                (Socket::Unix(socket), address.clone())
            }
        };
        Ok(Self { socket, address, errors: Seldom::default() })
    }

    /// The address, with the port that was found when 0 was asked for.
    #[must_use]
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Waits for a connection. What keeps one from being taken is logged, seldom, and waited out. Safe to drop
    /// and call again.
    pub async fn accept(&self) -> Connected {
        loop {
            match self.socket.accept().await {
                Ok(connected) => return connected,
                Err(error) => {
                    if let Some(kept_back) = self.errors.turn() {
                        let address = &self.address;
                        tracing::warn!(%address, %error, kept_back, "a connection could not be taken");
                    }
                    tokio::time::sleep(AFTER_ERROR).await;
                }
            }
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
            Self::Unix(socket) => Ok(Connected::Unix(socket.listener.accept().await?.0)),
        }
    }
}

impl Connected {
    /// From where the other end reaches us.
    #[must_use]
    pub fn place(&self) -> Place {
        match self {
            Self::Tcp(stream) => match stream.peer_addr() {
                Ok(address) if is_loopback(address) => Place::Loopback,
                _ => Place::Network,
            },
            Self::Unix(stream) => Place::Unix { uid: stream.peer_cred().ok().map(|peer| peer.uid()) },
        }
    }
}
