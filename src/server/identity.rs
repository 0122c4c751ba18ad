//! Identifies the caller of a request, by its connection and its headers.
//!
//! The caller is the first of these that a request has:
//!
//! 1. the identity that a trusted mesh proxy forwards ([`forwarded`]);
//! 2. the verified client certificate of the connection ([`certificate`]);
//! 3. a bearer token ([`jwt`]), verified by the issuer's keys ([`jwks`]);
//! 4. the user of a unix socket's peer.
//!
//! Otherwise the caller is anonymous. An invalid token or forwarded identity ends the call even with other
//! evidence, because the request would otherwise get another caller. This module never logs a token, a header or a
//! certificate.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use http::HeaderMap;

use super::{
    peer::{Peer, PeerOrigin},
    settings::{Callers, Jwt},
};
use crate::{
    background::Background,
    caller::{Caller, Evidence, Identity},
    http_client::tls::TlsError,
};

pub mod certificate;
pub mod forwarded;
pub mod jwks;
mod jwks_refresh;
pub mod jwt;
mod overflow_uid;

pub use jwt::InvalidToken;

use jwks::LoadedKeys;
use jwt::{Bearer, TokenVerifier};
use overflow_uid::overflow_uid;

/// Identifies callers by the evidence that the settings accept.
pub struct Identities {
    forwarded_client_cert: bool,
    linkerd_client_id: bool,
    mesh_proxies: Vec<Identity>,
    tokens: Option<Arc<TokenVerifier>>,
    /// The user ID that peers without an ID share.
    overflow_uid: Option<u32>,
}

/// The identity of a connection's peer, and whether it may forward others.
#[derive(Clone)]
pub struct PeerIdentity {
    identities: Arc<Identities>,
    /// The caller according to the connection.
    connection_caller: Caller,
    /// Whether the peer is a trusted mesh proxy.
    may_forward: bool,
}

/// The caller of a request.
pub enum Identified {
    /// The result is known.
    Now(Result<Caller, Refusal>),
    /// The result is known after a fetch of the token issuer's keys, which takes seconds at most.
    Later(BoxFuture<'static, Result<Caller, Refusal>>),
}

/// The reason why a request has no caller. `Display` is safe for the log and for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A trusted proxy's `x-forwarded-client-cert` is invalid.
    #[error("x-forwarded-client-cert {0}")]
    ForwardedClientCert(forwarded::InvalidXfcc),
    /// A trusted proxy's `l5d-client-id` is not an identity, or there are several.
    #[error("l5d-client-id is not one DNS name or SPIFFE ID")]
    LinkerdClientId,
    /// Both headers are accepted and name different callers, so the proxy did not write one of them.
    #[error("x-forwarded-client-cert and l5d-client-id name two callers")]
    ConflictingIdentities,
    /// The token is invalid.
    #[error("the bearer token {0}")]
    Token(InvalidToken),
    /// The token cannot be verified now, because its issuer's keys cannot be fetched.
    #[error("the keys for verifying the bearer token are not available at the moment")]
    KeysUnavailable {
        /// The time until the next fetch.
        retry_after: Duration,
    },
}

impl Identities {
    /// Accepts the evidence that `callers` lists, and the tokens of `issuer`. Starts the task that refreshes the
    /// issuer's keys; the task ends when this is dropped.
    ///
    /// # Errors
    ///
    /// The HTTP client for fetching the keys cannot be built.
    pub fn new(
        callers: &Callers,
        issuer: Option<(&Jwt, LoadedKeys)>,
        background: &Background,
    ) -> Result<Self, TlsError> {
        let Callers { forwarded_client_cert, linkerd_client_id, mesh_proxies } = callers;
        let tokens = issuer.map(|(jwt, keys)| TokenVerifier::new(jwt, keys, background)).transpose()?;
        Ok(Self {
            forwarded_client_cert: *forwarded_client_cert,
            linkerd_client_id: *linkerd_client_id,
            mesh_proxies: mesh_proxies.clone().unwrap_or_default(),
            tokens: tokens.map(Arc::new),
            overflow_uid: overflow_uid(),
        })
    }

    /// The identity of `peer` by its connection.
    #[must_use]
    pub fn of_peer(self: &Arc<Self>, peer: &Peer) -> PeerIdentity {
        let certified = peer.certificate.as_ref().map(certificate::identities).unwrap_or_default();
        let is_mesh_proxy = certified.iter().any(|name| self.mesh_proxies.contains(name));
        let connection_caller = match (certified.into_iter().next(), peer.origin) {
            (Some(identity), _) => Caller::new(identity, Evidence::ClientCertificate),
            (None, PeerOrigin::Unix { uid: Some(uid) }) if Some(uid) != self.overflow_uid => {
                Caller::unix(uid)
            }
            (None, PeerOrigin::Unix { .. } | PeerOrigin::SameMachine | PeerOrigin::Network) => {
                Caller::anonymous()
            }
        };
        let may_forward = peer.origin.is_local() || is_mesh_proxy;
        PeerIdentity { identities: Arc::clone(self), connection_caller, may_forward }
    }
}

impl PeerIdentity {
    /// The caller of a request with these headers.
    #[must_use]
    pub fn identify(&self, headers: &HeaderMap) -> Identified {
        let forwarded = match self.forwarded(headers) {
            Ok(forwarded) => forwarded,
            Err(refusal) => return Identified::Now(Err(refusal)),
        };
        let bearer = self.identities.tokens.as_ref().map_or(Bearer::None, |tokens| tokens.bearer(headers));
        let by_certificate = || {
            (self.connection_caller.evidence() == Evidence::ClientCertificate)
                .then(|| self.connection_caller.clone())
        };
        // A token must be valid even when other evidence precedes it.
        match bearer {
            Bearer::None => Identified::Now(Ok(forwarded.unwrap_or_else(|| self.connection_caller.clone()))),
            Bearer::Now(bearer) => {
                let preceding = forwarded.or_else(by_certificate);
                Identified::Now(bearer.map(|bearer| preceding.unwrap_or(bearer)))
            }
            Bearer::Later(bearer) => {
                let preceding = forwarded.or_else(by_certificate);
                Identified::Later(Box::pin(
                    async move { bearer.await.map(|bearer| preceding.unwrap_or(bearer)) },
                ))
            }
        }
    }

    /// The identity that a trusted proxy forwards. The headers of any other peer are ignored.
    fn forwarded(&self, headers: &HeaderMap) -> Result<Option<Caller>, Refusal> {
        if !self.may_forward {
            return Ok(None);
        }
        let Identities { forwarded_client_cert, linkerd_client_id, .. } = &*self.identities;
        let by_xfcc = if *forwarded_client_cert { forwarded::by_xfcc(headers)? } else { None };
        let by_linkerd = if *linkerd_client_id { forwarded::by_linkerd(headers)? } else { None };
        match (by_xfcc, by_linkerd) {
            (Some(one), Some(other)) if one != other => Err(Refusal::ConflictingIdentities),
            (Some(identity), _) => Ok(Some(Caller::new(identity, Evidence::ForwardedClientCert))),
            (None, Some(identity)) => Ok(Some(Caller::new(identity, Evidence::LinkerdClientId))),
            (None, None) => Ok(None),
        }
    }
}

#[cfg(test)]
#[path = "../../tests/it/support/issuer.rs"]
pub(crate) mod issuer;
#[cfg(test)]
mod tests;
