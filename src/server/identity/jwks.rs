//! The public keys of the tokens' issuer: a JSON Web Key Set (RFC 7517, section 5).

use std::{fmt, str::FromStr};

use jsonwebtoken::{
    AlgorithmFamily, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};
use serde_json::Value;

use crate::fingerprint::fingerprint;

mod endpoint;
pub mod probe;
mod refresh;

pub(super) use endpoint::Endpoint;
pub use endpoint::FetchError;
#[cfg(test)]
pub(super) use refresh::Source;
pub(super) use refresh::{Current, Keys, Renewal};

/// The most keys of a set that are looked at. Issuers have a handful.
const MOST_KEYS: usize = 64;

/// An algorithm of signatures by a private key: of those of JWTs (RFC 7518, section 3.1; RFC 8037) the ones
/// whose verifying key is no secret.
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

/// There is no such algorithm, or it is one whose verifying key can also sign (`HS256`), or none at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an algorithm of signatures by a private key")]
pub struct UnknownAlgorithm;

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        let named = name.parse().map_err(|_| UnknownAlgorithm)?;
        Self::ALL.into_iter().find(|known| known.0 == named).ok_or(UnknownAlgorithm)
    }
}

/// The name in the `alg` of a token.
impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// The keys of a set by which tokens can be verified; at least one.
pub struct KeySet {
    keys: Vec<Key>,
    fingerprint: [u8; 32],
}

struct Key {
    id: Option<String>,
    fits: Vec<Algorithm>,
    key: DecodingKey,
}

/// Why a text is no set of keys. `Display` quotes nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeySet {
    /// It is not a JSON object with a list `keys`.
    #[error("is not the JSON of a key set")]
    Form,
    /// None of its keys is one that verifies signatures by an algorithm that is allowed.
    #[error("holds no key for signatures by the allowed algorithms")]
    NoKey,
}

impl KeySet {
    /// The keys of `json` for signatures by one of `allowed`. What else it holds is passed over, as the
    /// standard wants it: other kinds of keys, those of other uses, those that cannot be read.
    ///
    /// # Errors
    ///
    /// See [`InvalidKeySet`].
    pub fn parse(json: &[u8], allowed: &[Algorithm]) -> Result<Self, InvalidKeySet> {
        let mut set: Value = serde_json::from_slice(json).map_err(|_| InvalidKeySet::Form)?;
        let Some(Value::Array(keys)) = set.get_mut("keys").map(Value::take) else {
            return Err(InvalidKeySet::Form);
        };
        let keys = keys.into_iter().take(MOST_KEYS).filter_map(|key| Key::parse(key, allowed));
        let keys: Vec<_> = keys.collect();
        if keys.is_empty() {
            return Err(InvalidKeySet::NoKey);
        }
        Ok(Self { keys, fingerprint: fingerprint(json) })
    }

    /// How many keys there are.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether both were read from the same text.
    fn is(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }

    /// The keys that may have signed a token which names the key `id`, or none. A key without an id may be
    /// anyone's.
    pub(super) fn named(&self, id: Option<&str>) -> impl Iterator<Item = Candidate<'_>> {
        let named = move |key: &&Key| match (&key.id, id) {
            (Some(key), Some(id)) => key == id,
            _ => true,
        };
        self.keys.iter().filter(named).map(Candidate)
    }
}

/// How many keys there are: none of their content.
impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

/// A key that may have signed a token.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'a>(&'a Key);

impl Candidate<'_> {
    /// Whether the key has an id.
    pub(super) fn has_id(self) -> bool {
        self.0.id.is_some()
    }

    /// Whether the key is one for `algorithm`.
    pub(super) fn fits(self, algorithm: Algorithm) -> bool {
        self.0.fits.contains(&algorithm)
    }

    /// Whether `signature`, in base64url, is the key's own of `message`.
    pub(super) fn has_signed(self, message: &[u8], signature: &str, algorithm: Algorithm) -> bool {
        jsonwebtoken::crypto::verify(signature, message, &self.0.key, algorithm.0).unwrap_or(false)
    }
}

impl Key {
    fn parse(json: Value, allowed: &[Algorithm]) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(json).ok()?;
        let common = &jwk.common;
        let signs = common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
        let verifies = common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
        let may = |algorithm: &Algorithm| {
            let own = common.key_algorithm.is_none_or(|own| own == KeyAlgorithm::from(algorithm.0));
            own && suits(&jwk.algorithm, algorithm.0)
        };
        let fits: Vec<_> = allowed.iter().copied().filter(may).collect();
        if !signs || !verifies || fits.is_empty() {
            return None;
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self { id: jwk.common.key_id, fits, key })
    }
}

/// Whether a key of this kind can verify by `algorithm` at all (RFC 7518, section 3.1; RFC 8037).
fn suits(key: &AlgorithmParameters, algorithm: jsonwebtoken::Algorithm) -> bool {
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
        // A secret among public keys, whoever put it there, must not verify anything.
        _ => false,
    }
}

#[cfg(test)]
mod tests;
