//! One look at an issuer's keys, for whoever wants to know whether they can be had.

use std::{fs, io};

use tokio::time::timeout;

use super::{Endpoint, FetchError, InvalidKeySet, KeySet, refresh::FETCH_TIMEOUT, refresh::Source};
use crate::{
    http_client::tls::TlsError,
    server::settings::{Jwks, Jwt},
};

/// Why keys cannot be had. `Display` is for the operator: it tells nothing of a body or a token.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// The file holds none of use.
    #[error(transparent)]
    Unusable(#[from] InvalidKeySet),
    /// The certificates that the endpoint is believed by cannot be used.
    #[error("the endpoint cannot be asked: {0}")]
    Tls(#[from] TlsError),
    /// The endpoint was asked in vain.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

/// How many keys there are to verify tokens by: those of a file, or of what the endpoint answers within the
/// time that it has in service. Reads the file on the caller's thread.
///
/// # Errors
///
/// See [`ProbeError`].
pub async fn keys(jwt: &Jwt) -> Result<usize, ProbeError> {
    let Jwt { issuer: _, audiences: _, algorithms, jwks } = jwt;
    let json = match jwks {
        Jwks::File(file) => fs::read(file)?,
        Jwks::Url { url, ca_certificates, token_file } => {
            let endpoint = Endpoint::new(url.clone(), ca_certificates.as_deref(), token_file.clone())?;
            timeout(FETCH_TIMEOUT, endpoint.fetch()).await.unwrap_or(Err(FetchError::Late))?
        }
    };
    Ok(KeySet::parse(&json, algorithms)?.len())
}
