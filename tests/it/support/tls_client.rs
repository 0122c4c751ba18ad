//! A TLS client whose settings a test chooses, and that reports the session.

use std::{io, net::SocketAddr, sync::Arc};

use rustls::{
    ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, ServerName},
    version::{TLS12, TLS13},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    grpc::Wire,
    tls::{Authority, H2, Pair},
};

pub(crate) const ALL_VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// A client. Its connections share a session cache, so that they resume sessions when the server allows it.
#[derive(Clone)]
pub(crate) struct TlsClient(Arc<ClientConfig>);

impl TlsClient {
    /// Trusts `authority`, offers both TLS versions and h2, and presents `pair`.
    pub(crate) fn new(authority: &Authority, pair: Option<&Pair>) -> Self {
        Self::with_protocols(authority, pair, ALL_VERSIONS, &[H2])
    }

    pub(crate) fn with_protocols(
        authority: &Authority,
        pair: Option<&Pair>,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&[u8]],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match pair {
            Some(pair) => builder.with_client_auth_cert(pair.chain(), pair.key_der()).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Self(Arc::new(config))
    }

    pub(crate) async fn connect(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        self.connect_over(TcpStream::connect(address).await?).await
    }

    /// Performs the TLS handshake on an open TCP connection.
    pub(crate) async fn connect_over(&self, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::IpAddress(socket.peer_addr()?.ip().into());
        TlsConnector::from(Arc::clone(&self.0)).connect(name, socket).await
    }

    /// Opens an HTTP/2 connection, and returns the TLS session's properties.
    pub(crate) async fn open(&self, address: SocketAddr) -> (Wire, TlsSession) {
        let stream = self.connect(address).await.unwrap();
        let session = stream.get_ref().1;
        let properties = TlsSession {
            version: session.protocol_version().unwrap(),
            certificate: session.peer_certificates().unwrap()[0].clone().into_owned(),
            handshake: session.handshake_kind().unwrap(),
        };
        (Wire::over(stream).await, properties)
    }

    /// The error with which the server rejects this client.
    pub(crate) async fn rejection(&self, address: SocketAddr) -> String {
        self.try_session(address).await.expect_err("the server accepted the client")
    }

    /// Opens a connection and waits for the server's first byte. Otherwise returns the server's alert, or `closed`.
    /// A TLS 1.3 handshake ends for the client before the server has verified the client's certificate, so the client
    /// must read.
    pub(crate) async fn try_session(&self, address: SocketAddr) -> Result<(), String> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = self.connect(address).await.map_err(|error| error.to_string())?;
        // The HTTP/2 connection preface (RFC 9113, section 3.4), which a server that accepts the client answers.
        let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
        match stream.read(&mut [0]).await {
            Ok(0) => Err("closed".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Properties of a TLS session, as the client sees them.
pub(crate) struct TlsSession {
    pub(crate) version: rustls::ProtocolVersion,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) handshake: HandshakeKind,
}
