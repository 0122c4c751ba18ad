//! TLS on the TCP listeners: the handshake, by files that are taken up again when they change.
//!
//! Sessions are never resumed. Connections are kept, so that resuming would spare next to nothing; and a
//! client whose certificate has expired, or whose authority is no longer believed, would get in by one.

use std::{io, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{ServerConfig, pki_types::CertificateDer};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

pub mod described;
mod files;
mod reload;
mod validity;

pub use files::{File, FileError, Loaded};
pub use validity::{State, Validity};

use super::settings::TlsFiles;
use reload::Watched;

/// HTTP/2, as ALPN names it (RFC 9113, section 3.1).
const H2: &[u8] = b"h2";

/// What accepts TLS connections. Cheap to clone.
#[derive(Clone)]
pub struct Tls(Arc<ArcSwap<ServerConfig>>);

impl Tls {
    /// Reads `files`, and takes them up again whenever they change, by a task that ends with the last clone.
    /// A version that is broken is reported, and the old one stays.
    ///
    /// # Errors
    ///
    /// See [`TlsFiles::load`]; the text names the setting.
    pub fn start(files: TlsFiles) -> io::Result<Self> {
        let watched = files.each(Watched::open).map_err(io::Error::other)?;
        let loaded = files.check(&watched.contents()).map_err(io::Error::other)?;
        reload::warn(&files, &loaded);
        let current = Arc::new(ArcSwap::new(Arc::clone(&loaded.config)));
        tokio::spawn(reload::follow(Arc::downgrade(&current), files, watched, loaded));
        Ok(Self(current))
    }

    /// Shakes hands, and tells the verified certificate of the client, the leaf alone, if it had to show one.
    ///
    /// # Errors
    ///
    /// The client does not speak TLS, or not by our rules; or it does not name `h2` by ALPN, as HTTP/2 over
    /// TLS must (RFC 9113, section 3.2).
    pub async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Option<CertificateDer<'static>>)> {
        let stream = TlsAcceptor::from(self.0.load_full()).accept(stream).await?;
        let (_, session) = stream.get_ref();
        if session.alpn_protocol() != Some(H2) {
            return Err(io::Error::other("the client did not ask for h2 by ALPN"));
        }
        let leaf = session.peer_certificates().and_then(|chain| chain.first());
        let leaf = leaf.map(|leaf| leaf.clone().into_owned());
        Ok((stream, leaf))
    }
}

#[cfg(test)]
mod tests;
