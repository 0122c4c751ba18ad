//! The caller of a call: its identity, and the evidence of that identity.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::{Arc, LazyLock},
};

mod dns_name;
mod parse;
mod spiffe;

pub use dns_name::{DnsName, InvalidDnsName};
pub use parse::InvalidIdentity;
pub use spiffe::{InvalidSpiffeId, SpiffeId};

/// A caller, for policies and the audit log. Cheap to clone. Two callers are equal when no policy can tell them apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(Arc<CallerData>);

#[derive(Debug, PartialEq, Eq)]
struct CallerData {
    /// The hash of the other fields. It is computed once, because the decision cache hashes the caller of each call
    /// and a token may have many claims.
    hash: u64,
    identity: Identity,
    evidence: Evidence,
    claims: Claims,
}

/// The claims of a token: the values of each claim as text, by the claim's name. The name of a member of an object
/// follows the object's name and a slash (`kubernetes.io/namespace`).
pub type Claims = BTreeMap<String, BTreeSet<String>>;

/// The identity of a caller. `Display` writes the id that policies and the audit log use, and `FromStr` reads it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// The SPIFFE ID of a workload: `spiffe://corp.example/ns/mdm/sa/console`.
    Spiffe(SpiffeId),
    /// The DNS name of a client certificate: `dns:console.corp.example`.
    Dns(DnsName),
    /// The bearer of a token: `jwt:ISS#SUB`.
    Jwt {
        /// The `iss` of the token.
        issuer: String,
        /// The `sub` of the token.
        subject: String,
    },
    /// The user of a process on this machine, as the kernel reports it: `unix:UID`.
    Unix {
        /// The user id.
        uid: u32,
    },
    /// A caller without evidence of an identity: `anonymous`.
    Anonymous,
}

/// The evidence of an identity. Policies and the audit log call it `proof`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// A trusted mesh proxy sent the identity in `x-forwarded-client-cert`.
    ForwardedClientCert,
    /// A trusted mesh proxy sent the identity in `l5d-client-id`.
    LinkerdClientId,
    /// The verified client certificate of the connection.
    ClientCertificate,
    /// A verified JWT.
    Jwt,
    /// The peer credentials of a unix socket, from the kernel.
    UnixPeer,
    /// No evidence: the caller is anonymous.
    None,
}

impl Evidence {
    /// The value of `proof` in policies and in the audit log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ForwardedClientCert => "x-forwarded-client-cert",
            Self::LinkerdClientId => "l5d-client-id",
            Self::ClientCertificate => "client-certificate",
            Self::Jwt => "jwt",
            Self::UnixPeer => "unix-peer",
            Self::None => "none",
        }
    }
}

impl Caller {
    /// A caller without claims.
    #[must_use]
    pub fn new(identity: Identity, evidence: Evidence) -> Self {
        Self::with_claims(identity, evidence, Claims::new())
    }

    /// The bearer of a verified token.
    #[must_use]
    pub fn of_token(issuer: String, subject: String, claims: Claims) -> Self {
        Self::with_claims(Identity::Jwt { issuer, subject }, Evidence::Jwt, claims)
    }

    fn with_claims(identity: Identity, evidence: Evidence, claims: Claims) -> Self {
        static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let hash = SEED.hash_one((&identity, evidence, &claims));
        Self(Arc::new(CallerData { hash, identity, evidence, claims }))
    }

    /// A process of the user `uid` on this machine.
    #[must_use]
    pub fn unix(uid: u32) -> Self {
        Self::new(Identity::Unix { uid }, Evidence::UnixPeer)
    }

    /// A caller without evidence of an identity.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::new(Identity::Anonymous, Evidence::None)
    }

    /// The identity.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// The evidence of the identity.
    #[must_use]
    pub fn evidence(&self) -> Evidence {
        self.0.evidence
    }

    /// The claims of the token. Empty without a token.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.0.claims
    }
}

impl Hash for Caller {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.identity.fmt(f)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spiffe(id) => id.fmt(f),
            Self::Dns(name) => write!(f, "dns:{name}"),
            Self::Jwt { issuer, subject } => write!(f, "jwt:{issuer}#{subject}"),
            Self::Unix { uid } => write!(f, "unix:{uid}"),
            Self::Anonymous => f.write_str("anonymous"),
        }
    }
}
