//! TCP and unix sockets that accept connections.

use std::{io, net::SocketAddr, time::Duration};

use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::{
    peer::PeerOrigin,
    settings::ListenAddress,
    unix_socket::{BoundSocket, SocketAccess},
};
use crate::{
    log_throttle::LogThrottle,
    loopback::is_loopback,
    systemd::{PassedSockets, with_address},
};

/// The pause after a failed accept, for example without free file descriptors.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// A bound address.
pub struct Listener {
    socket: Socket,
    address: ListenAddress,
    errors: LogThrottle,
}

enum Socket {
    Tcp(TcpListener),
    Unix(BoundSocket),
}

/// An accepted connection.
pub enum Connected {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a unix socket.
    Unix(UnixStream),
}

impl Listener {
    /// Listens on `address`, with its socket of `passed` if there is one. The file of a unix socket gets the mode and
    /// the owner of `access`, unless it was passed. A file whose server has ended is replaced.
    ///
    /// # Errors
    ///
    /// The address cannot be bound. The text has the address.
    pub async fn bind(
        address: &ListenAddress,
        access: SocketAccess,
        passed: &mut PassedSockets,
    ) -> io::Result<Self> {
        let with_address = |error: io::Error| with_address(&error, address);
        let (socket, address) = match address {
            ListenAddress::Tcp(requested) => {
                let socket = passed.listen_tcp(*requested).await?;
                let address = ListenAddress::Tcp(socket.local_addr().map_err(with_address)?);
                (Socket::Tcp(socket), address)
            }
            ListenAddress::Unix(path) => {
                let socket = match passed.take_unix(path).map_err(with_address)? {
                    Some(listener) => BoundSocket::passed(listener),
                    None => BoundSocket::bind(path, access).await.map_err(with_address)?,
                };
                (Socket::Unix(socket), address.clone())
            }
        };
        Ok(Self { socket, address, errors: LogThrottle::default() })
    }

    /// The address, with the port that the system chose for port 0.
    #[must_use]
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Waits for a connection. Logs and retries a failed accept. Cancel-safe.
    pub async fn accept(&self) -> Connected {
        loop {
            match self.socket.accept().await {
                Ok(connected) => return connected,
                Err(error) => {
                    if let Some(suppressed) = self.errors.permit() {
                        let address = &self.address;
                        tracing::warn!(%address, %error, suppressed, "failed to accept a connection");
                    }
                    tokio::time::sleep(RETRY_PAUSE).await;
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
                // A response is one small write, which Nagle's algorithm would delay.
                stream.set_nodelay(true)?;
                Ok(Connected::Tcp(stream))
            }
            Self::Unix(socket) => Ok(Connected::Unix(socket.listener.accept().await?.0)),
        }
    }
}

/// A peer whose address is that of this end of the connection is on this machine: Linkerd's proxy connects to the address
/// of its pod. The kernel drops packets from outside with such a source.
fn tcp_origin(peer: SocketAddr, local: SocketAddr) -> PeerOrigin {
    if is_loopback(peer) || peer.ip().to_canonical() == local.ip().to_canonical() {
        PeerOrigin::SameMachine
    } else {
        PeerOrigin::Network
    }
}

impl Connected {
    /// The network of the peer.
    #[must_use]
    pub fn origin(&self) -> PeerOrigin {
        match self {
            Self::Tcp(stream) => match (stream.peer_addr(), stream.local_addr()) {
                (Ok(peer), Ok(local)) => tcp_origin(peer, local),
                // The peer has closed the connection.
                _ => PeerOrigin::Network,
            },
            Self::Unix(stream) => PeerOrigin::Unix { uid: stream.peer_cred().ok().map(|peer| peer.uid()) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PeerOrigin, tcp_origin};

    #[test]
    fn a_peer_on_loopback_or_with_the_address_of_this_end_is_on_this_machine() {
        for (peer, local, origin) in [
            ("127.0.0.1:1", "127.0.0.1:2", PeerOrigin::SameMachine),
            ("127.0.0.2:1", "127.0.0.1:2", PeerOrigin::SameMachine),
            ("[::1]:1", "[::1]:2", PeerOrigin::SameMachine),
            ("10.1.2.3:1", "10.1.2.3:2", PeerOrigin::SameMachine),
            ("[::ffff:10.1.2.3]:1", "10.1.2.3:2", PeerOrigin::SameMachine),
            ("10.1.2.4:1", "10.1.2.3:2", PeerOrigin::Network),
            ("[fe80::1]:1", "[fe80::2]:2", PeerOrigin::Network),
        ] {
            assert_eq!(tcp_origin(peer.parse().unwrap(), local.parse().unwrap()), origin, "{peer} {local}");
        }
    }
}
