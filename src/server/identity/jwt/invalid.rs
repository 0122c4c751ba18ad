//! What can be wrong with a token.

/// Why a token is not believed. `Display` completes "the bearer token …", and repeats nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// There are several `authorization` headers.
    #[error("is not the only authorization header")]
    Several,
    /// It is longer than 16 KiB.
    #[error("is longer than 16 KiB")]
    TooLong,
    /// It is not a signed JWT whose parts can be read.
    #[error("is no JWT, or malformed")]
    Malformed,
    /// Its header names extensions that have to be understood (`crit`), and none is.
    #[error("has a critical extension (crit), and none is supported")]
    Critical,
    /// Its algorithm is not allowed, or is none of the key that it names.
    #[error("is signed by an algorithm that is not allowed")]
    Algorithm,
    /// No key that it could be signed by is known.
    #[error("is signed by an unknown key")]
    UnknownKey,
    /// It does not name its key, and more fit than are tried.
    #[error("does not name its key (kid), and there are too many to try")]
    NoKeyId,
    /// Its signature is not that of the key.
    #[error("has a bad signature")]
    Signature,
    /// It has no `exp`, or one that is no number.
    #[error("does not say when it expires (exp)")]
    NoExpiry,
    /// Its `exp` has passed.
    #[error("has expired")]
    Expired,
    /// Its `nbf` is still to come, or is no number.
    #[error("is not valid yet (nbf)")]
    NotYetValid,
    /// Its `iss` is not the issuer that is believed.
    #[error("is of another issuer (iss)")]
    Issuer,
    /// Its `aud` is not, or does not hold, an audience that is ours.
    #[error("is for another audience (aud)")]
    Audience,
    /// It has no `sub`.
    #[error("does not say whom it is about (sub)")]
    NoSubject,
}
