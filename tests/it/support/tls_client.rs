//! A TLS client that shows what the server did, and breaks the rules where a test wants it to.

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

pub(crate) const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// A client of its own settings. Its connections share their sessions, as far as a server allows.
#[derive(Clone)]
pub(crate) struct TlsClient(Arc<ClientConfig>);

impl TlsClient {
    /// One that believes `authority`, speaks both versions and h2, and shows `pair`.
    pub(crate) fn new(authority: &Authority, pair: Option<&Pair>) -> Self {
        Self::speaking(authority, pair, BOTH, &[H2])
    }

    pub(crate) fn speaking(
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
            Some(pair) => {
                builder.with_client_auth_cert(vec![pair.certificate_der()], pair.key_der()).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Self(Arc::new(config))
    }

    pub(crate) async fn connect(&self, address: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        self.connect_by(TcpStream::connect(address).await?).await
    }

    /// Shakes hands over a connection that stands.
    pub(crate) async fn connect_by(&self, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::IpAddress(socket.peer_addr()?.ip().into());
        TlsConnector::from(Arc::clone(&self.0)).connect(name, socket).await
    }

    /// A connection that speaks HTTP/2, and what was seen of the server.
    pub(crate) async fn open(&self, address: SocketAddr) -> (Wire, Met) {
        let stream = self.connect(address).await.unwrap();
        let session = stream.get_ref().1;
        let met = Met {
            version: session.protocol_version().unwrap(),
            certificate: session.peer_certificates().unwrap()[0].clone().into_owned(),
            handshake: session.handshake_kind().unwrap(),
        };
        (Wire::over(stream).await, met)
    }

    /// How the server turns this client away.
    pub(crate) async fn refused(&self, address: SocketAddr) -> String {
        self.try_to_enter(address).await.expect_err("it was let in")
    }

    /// Waits for a word of the server's, or for the way in which it turns this client away. In TLS 1.3 a client
    /// believes itself to be in before its certificate was looked at: only what it reads then tells.
    pub(crate) async fn try_to_enter(&self, address: SocketAddr) -> Result<(), String> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = self.connect(address).await.map_err(|error| error.to_string())?;
        // As a client of HTTP/2 begins (RFC 9113, section 3.4): what a server that let it in would answer.
        let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
        match stream.read(&mut [0]).await {
            Ok(0) => Err("closed".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// What a client saw of the server.
pub(crate) struct Met {
    pub(crate) version: rustls::ProtocolVersion,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) handshake: HandshakeKind,
}
