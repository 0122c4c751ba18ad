//! The public keys of the token issuer: a JSON Web Key Set (RFC 7517, section 5), from a file or an endpoint.

use std::{fmt, future::Future, io, path::PathBuf, str::FromStr, time::Duration};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use jsonwebtoken::{
    AlgorithmFamily, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};
use reqwest::{Method, Url};
use serde_json::Value;
use tokio::time::timeout;

use super::jwks_refresh::IssuerKeys;
use crate::{
    background::Background,
    file_watch::{self, FileWatch},
    fingerprint::fingerprint,
    http_client::{BodyError, HttpClient, LoadedAuthorities, ProxySettings, SendError, tls::TlsError},
    server::settings::{Jwks, Jwt},
};

/// The maximum number of keys of a set. Issuers have only a few.
const MAX_KEYS: usize = 64;

/// The timeout of a fetch, and therefore the maximum wait of a caller.
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// The maximum length of a response, in bytes. Key sets of issuers are much shorter.
const MAX_BODY: usize = 256 * 1024;

/// The content type of a key set (RFC 7517, section 8.5), and the one that most endpoints use.
const ACCEPT: HeaderValue = HeaderValue::from_static("application/jwk-set+json, application/json");

/// An asymmetric signature algorithm of JWTs (RFC 7518, section 3.1; RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Algorithm(jsonwebtoken::Algorithm);

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 9] = {
        use jsonwebtoken::Algorithm as A;
        [
            Self(A::RS256),
            Self(A::RS384),
            Self(A::RS512),
            Self(A::PS256),
            Self(A::PS384),
            Self(A::PS512),
            Self(A::ES256),
            Self(A::ES384),
            Self(A::EdDSA),
        ]
    };
}

/// The name is not of an asymmetric algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an asymmetric signature algorithm")]
pub struct UnknownAlgorithm;

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        let parsed = name.parse().map_err(|_| UnknownAlgorithm)?;
        Self::ALL.into_iter().find(|known| known.0 == parsed).ok_or(UnknownAlgorithm)
    }
}

/// The name in the `alg` of a token.
impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// Keys that verify tokens; at least one.
pub struct KeySet {
    keys: Vec<VerifyingKey>,
    fingerprint: [u8; 32],
}

/// A text is not a usable key set. `Display` never quotes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeySet {
    /// The text is not a JSON object with a list `keys`.
    #[error("is not a JSON key set")]
    Form,
    /// The set has no key for an allowed algorithm.
    #[error("has no key for the allowed algorithms")]
    NoKey,
}

impl KeySet {
    /// Parses the keys in `json` for one of the `allowed` algorithms. Malformed keys and keys of other types or
    /// uses are ignored, as RFC 7517 requires.
    ///
    /// # Errors
    ///
    /// See [`InvalidKeySet`].
    pub fn parse(json: &[u8], allowed: &[Algorithm]) -> Result<Self, InvalidKeySet> {
        let mut set: Value = serde_json::from_slice(json).map_err(|_| InvalidKeySet::Form)?;
        let Some(Value::Array(keys)) = set.get_mut("keys").map(Value::take) else {
            return Err(InvalidKeySet::Form);
        };
        let keys = keys.into_iter().take(MAX_KEYS).filter_map(|key| VerifyingKey::parse(key, allowed));
        let keys: Vec<_> = keys.collect();
        if keys.is_empty() {
            return Err(InvalidKeySet::NoKey);
        }
        Ok(Self { keys, fingerprint: fingerprint(json) })
    }

    /// The number of keys.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether both sets were parsed from the same text.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }

    /// The keys that may have signed a token with this `kid`. A key without an ID, or a token without one,
    /// matches any.
    pub(super) fn candidates(&self, id: Option<&str>) -> impl Iterator<Item = &VerifyingKey> {
        self.keys.iter().filter(move |key| match (&key.id, id) {
            (Some(key), Some(id)) => key == id,
            _ => true,
        })
    }
}

/// Prints the number of keys, and never their content.
impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

/// A public key of a set.
pub(super) struct VerifyingKey {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl VerifyingKey {
    fn parse(json: Value, allowed: &[Algorithm]) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(json).ok()?;
        let common = &jwk.common;
        let signs = common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
        let verifies = common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
        let is_usable = |algorithm: &Algorithm| {
            let own = common.key_algorithm.is_none_or(|own| own == KeyAlgorithm::from(algorithm.0));
            own && can_verify(&jwk.algorithm, algorithm.0)
        };
        let algorithms: Vec<_> = allowed.iter().copied().filter(is_usable).collect();
        if !signs || !verifies || algorithms.is_empty() {
            return None;
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self { id: jwk.common.key_id, algorithms, key })
    }

    /// Whether the key has an ID.
    pub(super) fn has_id(&self) -> bool {
        self.id.is_some()
    }

    /// Whether the key is for `algorithm`.
    pub(super) fn suits(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// Whether `signature`, in base64url, is a valid signature of `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &str, algorithm: Algorithm) -> bool {
        jsonwebtoken::crypto::verify(signature, message, &self.key, algorithm.0).unwrap_or(false)
    }
}

/// Whether a key of this type supports `algorithm` (RFC 7518, section 3.1; RFC 8037).
fn can_verify(key: &AlgorithmParameters, algorithm: jsonwebtoken::Algorithm) -> bool {
    match key {
        AlgorithmParameters::RSA(_) => algorithm.family() == AlgorithmFamily::Rsa,
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => algorithm == jsonwebtoken::Algorithm::ES256,
            EllipticCurve::P384 => algorithm == jsonwebtoken::Algorithm::ES384,
            _ => false,
        },
        AlgorithmParameters::OctetKeyPair(key) => {
            key.curve == EllipticCurve::Ed25519 && algorithm == jsonwebtoken::Algorithm::EdDSA
        }
        // A symmetric key in a public key set is not secret, so it must not verify signatures.
        _ => false,
    }
}

/// Fetches key sets. Only one task uses a source.
pub(super) trait KeySource: Send + Sync + 'static {
    /// Fetches the JSON of the set, never from a cache.
    fn fetch(&self) -> impl Future<Output = Result<Vec<u8>, JwksFetchError>> + Send;
}

/// An HTTPS endpoint that serves a key set.
pub(super) struct JwksEndpoint {
    client: HttpClient,
    url: Url,
    token_file: Option<PathBuf>,
}

/// A key set could not be fetched. `Display` is for the log. It may have addresses and file names, and never quotes
/// a token or a body.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JwksFetchError {
    /// The HTTP client cannot be built.
    #[error(transparent)]
    Client(#[from] TlsError),
    /// No connection, or a connection that ended before the response.
    #[error("the endpoint did not respond: {0}")]
    NoResponse(#[from] SendError),
    /// No complete response in time.
    #[error("the endpoint did not respond in time")]
    TimedOut,
    /// A status other than 200. Redirects are not followed.
    #[error("the endpoint returned HTTP {0}")]
    Status(u16),
    /// The body is too long or incomplete.
    #[error("reading the endpoint's response failed: {0}")]
    Body(#[from] BodyError),
    /// The body is not a usable key set.
    #[error("the endpoint's response {0}")]
    Unusable(#[from] InvalidKeySet),
    /// The token for the endpoint cannot be read.
    #[error("the token file {file:?} {problem}")]
    Token {
        /// The file.
        file: PathBuf,
        /// The error.
        problem: String,
    },
}

impl JwksEndpoint {
    /// The endpoint at `url`, whose certificate must be trusted by `authorities`. Each request has the bearer token
    /// in `token_file`, which is read each time because Kubernetes replaces it every hour or so.
    ///
    /// # Errors
    ///
    /// The HTTP client cannot be built.
    fn new(
        url: Url,
        authorities: LoadedAuthorities,
        proxy: &ProxySettings,
        token_file: Option<PathBuf>,
        background: &Background,
    ) -> Result<Self, TlsError> {
        let client = HttpClient::new(&url, &authorities.start(background), proxy)?;
        Ok(Self { client, url, token_file })
    }
}

impl KeySource for JwksEndpoint {
    async fn fetch(&self) -> Result<Vec<u8>, JwksFetchError> {
        let mut headers = HeaderMap::from_iter([(header::ACCEPT, ACCEPT)]);
        if let Some(file) = &self.token_file {
            headers.insert(header::AUTHORIZATION, authorization(file.clone()).await?);
        }
        let response = self.client.send(Method::GET, self.url.clone(), headers, "").await?;
        if response.status() != StatusCode::OK {
            return Err(JwksFetchError::Status(response.status().as_u16()));
        }
        Ok(response.body(MAX_BODY).await?)
    }
}

/// The `authorization` header with the token in `file`.
async fn authorization(file: PathBuf) -> Result<HeaderValue, JwksFetchError> {
    let token_error = |problem: String| JwksFetchError::Token { file: file.clone(), problem };
    let path = file.clone();
    let read = tokio::task::spawn_blocking(move || file_watch::read(&path)).await;
    let token = read
        .map_err(|_| token_error("was not read: the process is ending".to_owned()))?
        .map_err(|error| token_error(format!("cannot be read: {error}")))?;
    let bearer = [b"Bearer ", token.trim_ascii()].concat();
    let mut header = HeaderValue::from_bytes(&bearer)
        .map_err(|_| token_error("has characters that a token cannot have".to_owned()))?;
    header.set_sensitive(true);
    Ok(header)
}

/// The issuer's keys, loaded, before their refresh starts.
pub enum LoadedKeys {
    /// Keys in a file.
    File(KeyFile),
    /// Keys to be fetched.
    Url {
        /// The URL.
        url: Url,
        /// The CA certificates for the URL's server.
        authorities: LoadedAuthorities,
        /// The proxy, if it applies to the URL.
        proxy: ProxySettings,
        /// The file of the bearer token for the URL.
        token_file: Option<PathBuf>,
    },
}

/// A file of keys, with its content.
pub struct KeyFile {
    pub(super) path: PathBuf,
    pub(super) watch: FileWatch,
    pub(super) keys: KeySet,
}

/// The keys cannot be loaded. `Display` never quotes or names a file.
#[derive(Debug, thiserror::Error)]
pub enum KeyLoadError {
    /// The key file cannot be read.
    #[error("cannot read the file: {0}")]
    Unreadable(#[from] io::Error),
    /// The key file has no usable key.
    #[error("the file {0}")]
    Unusable(#[from] InvalidKeySet),
    /// The certificates of `jwks_ca_certificates` cannot be used.
    #[error(transparent)]
    Certificates(#[from] TlsError),
    /// The file of `jwks_token_file` cannot be read.
    #[error("cannot read the file: {0}")]
    TokenFile(io::Error),
}

impl KeyLoadError {
    /// The key of the setting in `[callers.jwt]`.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::Unreadable(_) | Self::Unusable(_) => "jwks",
            Self::Certificates(_) => "jwks_ca_certificates",
            Self::TokenFile(_) => "jwks_token_file",
        }
    }
}

impl LoadedKeys {
    /// Reads the key file, or the files for fetching the keys, for which `proxy` may apply. Blocks.
    ///
    /// # Errors
    ///
    /// See [`KeyLoadError`].
    pub fn load(jwt: &Jwt, proxy: &ProxySettings) -> Result<Self, KeyLoadError> {
        match jwt.jwks.clone() {
            Jwks::File(path) => {
                let (watch, json) = FileWatch::open(&path)?;
                let keys = KeySet::parse(&json, &jwt.algorithms)?;
                Ok(Self::File(KeyFile { path, watch, keys }))
            }
            Jwks::Url { url, ca_certificates, token_file } => {
                let authorities = LoadedAuthorities::load(ca_certificates)?;
                if let Some(file) = &token_file {
                    file_watch::read(file).map_err(KeyLoadError::TokenFile)?;
                }
                Ok(Self::Url { url, authorities, proxy: proxy.clone(), token_file })
            }
        }
    }

    /// Starts the refresh of the keys.
    ///
    /// # Errors
    ///
    /// The HTTP client cannot be built.
    pub(super) fn start(
        self,
        algorithms: &[Algorithm],
        background: &Background,
    ) -> Result<IssuerKeys, TlsError> {
        Ok(match self {
            Self::File(file) => IssuerKeys::of_file(file, algorithms.to_vec(), background),
            Self::Url { url, authorities, proxy, token_file } => {
                let endpoint = JwksEndpoint::new(url, authorities, &proxy, token_file, background)?;
                IssuerKeys::fetched(endpoint, algorithms.to_vec(), background)
            }
        })
    }

    /// The number of keys for `algorithms`. Fetches the keys if they are not in a file.
    ///
    /// # Errors
    ///
    /// The keys cannot be fetched, or none is usable.
    pub async fn count(self, algorithms: &[Algorithm]) -> Result<usize, JwksFetchError> {
        let endpoint = match self {
            Self::File(file) => return Ok(file.keys.len()),
            Self::Url { url, authorities, proxy, token_file } => {
                JwksEndpoint::new(url, authorities, &proxy, token_file, &Background::unsupervised())?
            }
        };
        let json = timeout(FETCH_TIMEOUT, endpoint.fetch()).await.unwrap_or(Err(JwksFetchError::TimedOut))?;
        Ok(KeySet::parse(&json, algorithms)?.len())
    }
}

#[cfg(test)]
mod tests;
