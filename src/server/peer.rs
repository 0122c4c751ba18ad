//! What is known of the other end of a connection, before it has sent a call.

use rustls::pki_types::CertificateDer;

/// The other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// From where it reaches us.
    pub place: Place,
    /// Its client certificate, the leaf alone: verified against `server.tls.client_ca`, else there is none.
    pub certificate: Option<CertificateDer<'static>>,
}

/// From where a peer reaches us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// By a unix socket of this machine; the user that the kernel says it runs as, when it says so.
    Unix {
        /// The user's number.
        uid: Option<u32>,
    },
    /// By TCP, from a loopback address.
    Loopback,
    /// By TCP, from anywhere else.
    Network,
}

impl Place {
    /// Whether it is on this machine, where a sidecar proxy is.
    #[must_use]
    pub fn is_local(self) -> bool {
        matches!(self, Self::Unix { .. } | Self::Loopback)
    }
}
