//! Who calls: what a connection proves, and what a request's headers add to it.
//!
//! Of several proofs the caller is the first of these:
//!
//! 1. an identity that a trusted mesh proxy forwards: [`xfcc`] or [`linkerd`];
//! 2. the verified client certificate of the connection: [`certificate`];
//! 3. a bearer token: [`jwt`], by the keys of [`jwks`];
//! 4. the user at the other end of a unix socket.
//!
//! Whoever has none is anonymous. A token that does not verify ends the call whatever else there is, and
//! so does a forwarded identity that cannot be understood: to pass over either would make somebody else of
//! the caller. Nothing here prints a token, a header or a certificate.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use http::HeaderMap;

use super::{
    peer::{Peer, PeerOrigin},
    settings::Callers,
};
use crate::caller::{Caller, Identity, Proof};

pub mod certificate;
pub mod forwarded;
pub mod jwks;
pub mod jwt;

pub use jwt::{InvalidToken, TokensError};

use jwt::{Bearer, Tokens};

/// What the configuration believes of callers.
pub struct Identities {
    forwarded_client_cert: bool,
    linkerd_client_id: bool,
    mesh_proxies: Vec<Identity>,
    tokens: Option<Arc<Tokens>>,
}

/// What is known of the callers of one connection before they send a request.
#[derive(Clone)]
pub struct PeerIdentity {
    identities: Arc<Identities>,
    /// Who the connection itself says calls.
    own: Caller,
    /// Whether its word for the callers behind it is taken.
    may_forward: bool,
}

/// Who sends a request.
pub enum Identified {
    /// Known at once.
    Now(Result<Caller, Refusal>),
    /// Known when the keys of the tokens' issuer have been fetched: within seconds, whatever comes of it.
    Later(BoxFuture<'static, Result<Caller, Refusal>>),
}

/// Why nobody can say who sends a request. `Display` is fit for the log and for callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A trusted proxy's `x-forwarded-client-cert` that cannot be understood.
    #[error("x-forwarded-client-cert {0}")]
    ForwardedClientCert(forwarded::InvalidXfcc),
    /// A trusted proxy's `l5d-client-id` that is no identity, or one of several.
    #[error("l5d-client-id is not one DNS name or SPIFFE ID")]
    LinkerdClientId,
    /// Both are believed, and they do not agree: one was not written by the proxy.
    #[error("x-forwarded-client-cert and l5d-client-id name two callers")]
    Contradiction,
    /// A token that is not believed.
    #[error("the bearer token {0}")]
    Token(InvalidToken),
    /// A token that cannot be verified now, for want of its issuer's keys.
    #[error("the keys that the bearer token is verified with cannot be had at the moment")]
    KeysUnavailable {
        /// The time until they are fetched again.
        retry_after: Duration,
    },
}

impl Identities {
    /// What `callers` believes, and the task that keeps the keys of the tokens' issuer fresh, when there is
    /// one. It ends when this is dropped, and not before.
    ///
    /// # Errors
    ///
    /// Tokens cannot be verified as it is configured.
    pub fn new(callers: &Callers) -> Result<(Self, Option<BoxFuture<'static, ()>>), TokensError> {
        let Callers { forwarded_client_cert, linkerd_client_id, mesh_proxies, jwt } = callers;
        let (tokens, task) = jwt.as_ref().map(Tokens::new).transpose()?.unzip();
        let identities = Self {
            forwarded_client_cert: *forwarded_client_cert,
            linkerd_client_id: *linkerd_client_id,
            mesh_proxies: mesh_proxies.clone(),
            tokens: tokens.map(Arc::new),
        };
        Ok((identities, task))
    }

    /// What `peer` proves by its connection.
    #[must_use]
    pub fn of_peer(self: &Arc<Self>, peer: &Peer) -> PeerIdentity {
        let certified = peer.certificate.as_ref().map(certificate::identities).unwrap_or_default();
        let is_mesh_proxy = certified.iter().any(|name| self.mesh_proxies.contains(name));
        let own = match (certified.into_iter().next(), peer.origin) {
            (Some(identity), _) => Caller::new(identity, Proof::ClientCertificate),
            (None, PeerOrigin::Unix { uid: Some(uid) }) => Caller::unix(uid),
            (None, PeerOrigin::Unix { uid: None } | PeerOrigin::Loopback | PeerOrigin::Network) => {
                Caller::anonymous()
            }
        };
        let may_forward = peer.origin.is_local() || is_mesh_proxy;
        PeerIdentity { identities: Arc::clone(self), own, may_forward }
    }
}

impl PeerIdentity {
    /// Who sends a request with these headers.
    #[must_use]
    pub fn identify(&self, headers: &HeaderMap) -> Identified {
        let forwarded = match self.forwarded(headers) {
            Ok(forwarded) => forwarded,
            Err(refusal) => return Identified::Now(Err(refusal)),
        };
        let by_certificate = || (self.own.proof() == Proof::ClientCertificate).then(|| self.own.clone());
        let bearer = self.identities.tokens.as_ref().map_or(Bearer::None, |tokens| tokens.bearer(headers));
        match bearer {
            Bearer::None => Identified::Now(Ok(forwarded.unwrap_or_else(|| self.own.clone()))),
            Bearer::Now(bearer) => {
                let stronger = forwarded.or_else(by_certificate);
                Identified::Now(bearer.map(|bearer| stronger.unwrap_or(bearer)))
            }
            Bearer::Later(bearer) => {
                let stronger = forwarded.or_else(by_certificate);
                Identified::Later(Box::pin(
                    async move { bearer.await.map(|bearer| stronger.unwrap_or(bearer)) },
                ))
            }
        }
    }

    /// The identity that a trusted proxy forwards. From anybody else the headers are just text.
    fn forwarded(&self, headers: &HeaderMap) -> Result<Option<Caller>, Refusal> {
        if !self.may_forward {
            return Ok(None);
        }
        let Identities { forwarded_client_cert, linkerd_client_id, .. } = &*self.identities;
        let by_certificate = if *forwarded_client_cert { forwarded::by_xfcc(headers)? } else { None };
        let by_linkerd = if *linkerd_client_id { forwarded::by_linkerd(headers)? } else { None };
        match (by_certificate, by_linkerd) {
            (Some(one), Some(other)) if one != other => Err(Refusal::Contradiction),
            (Some(identity), _) => Ok(Some(Caller::new(identity, Proof::ForwardedClientCert))),
            (None, Some(identity)) => Ok(Some(Caller::new(identity, Proof::LinkerdClientId))),
            (None, None) => Ok(None),
        }
    }
}

#[cfg(test)]
#[path = "../../tests/support/issuer.rs"]
pub(crate) mod issuer;
#[cfg(test)]
mod tests;
