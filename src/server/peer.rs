//! The peer of a connection.

use rustls::pki_types::CertificateDer;

/// The peer of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The network of the peer.
    pub origin: PeerOrigin,
    /// The peer's leaf certificate, verified against `server.tls.client_ca`; `None` without client certificates.
    pub certificate: Option<CertificateDer<'static>>,
}

/// The network of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerOrigin {
    /// A unix socket.
    Unix {
        /// The user ID of the peer's process, when the kernel reports it (SO_PEERCRED).
        uid: Option<u32>,
    },
    /// TCP, from an address of this machine.
    SameMachine,
    /// TCP, from any other address.
    Network,
}

impl PeerOrigin {
    /// Whether the peer is on this machine, as a sidecar proxy is.
    #[must_use]
    pub fn is_local(self) -> bool {
        matches!(self, Self::Unix { .. } | Self::SameMachine)
    }
}
