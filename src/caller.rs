//! Who calls, and how that was proven.

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

/// A caller, as the policy and the audit log know it. Cheap to clone; equal when everything that a policy
/// can ask of them is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(Arc<Known>);

#[derive(Debug, PartialEq, Eq)]
struct Known {
    /// Of the rest: a token's claims are many, and each call is looked up by its caller.
    hash: u64,
    identity: Identity,
    proof: Proof,
    claims: Claims,
}

/// What a token says of its bearer: each claim by its name, that of a member of an object after a slash
/// (`kubernetes.io/namespace`), with its values as text.
pub type Claims = BTreeMap<String, BTreeSet<String>>;

/// The identity of a caller. `Display` is the id of the policy language and of the audit log, and `FromStr`
/// reads it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A workload, by its SPIFFE ID: `spiffe://corp.example/ns/mdm/sa/console`.
    Spiffe(SpiffeId),
    /// The DNS name of a client certificate: `dns:console.corp.example`.
    Dns(DnsName),
    /// The bearer of a token: `jwt:ISS#SUB`.
    Jwt {
        /// Who made the token, its `iss`.
        issuer: String,
        /// Whom it is about, its `sub`.
        subject: String,
    },
    /// A process on this machine, by the user that the kernel says it runs as: `unix:UID`.
    Unix {
        /// The user's number.
        uid: u32,
    },
    /// Nobody in particular: `anonymous`.
    Anonymous,
}

/// How an identity was proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proof {
    /// A trusted mesh proxy named it in `x-forwarded-client-cert`.
    ForwardedClientCert,
    /// A trusted mesh proxy named it in `l5d-client-id`.
    LinkerdClientId,
    /// The client certificate of the connection, verified.
    ClientCertificate,
    /// A JWT, verified.
    Jwt,
    /// The kernel, of the peer of a unix socket.
    UnixPeer,
    /// None: the caller is anonymous.
    None,
}

impl Proof {
    /// The name in the policy language and in the audit log.
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
    /// A caller whose identity was proven in this way.
    #[must_use]
    pub fn new(identity: Identity, proof: Proof) -> Self {
        Self::with_claims(identity, proof, Claims::new())
    }

    /// The bearer of a verified token.
    #[must_use]
    pub fn of_token(issuer: String, subject: String, claims: Claims) -> Self {
        Self::with_claims(Identity::Jwt { issuer, subject }, Proof::Jwt, claims)
    }

    fn with_claims(identity: Identity, proof: Proof, claims: Claims) -> Self {
        static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let hash = SEED.hash_one((&identity, proof, &claims));
        Self(Arc::new(Known { hash, identity, proof, claims }))
    }

    /// A process of the user with the number `uid`.
    #[must_use]
    pub fn unix(uid: u32) -> Self {
        Self::new(Identity::Unix { uid }, Proof::UnixPeer)
    }

    /// Nobody in particular.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::new(Identity::Anonymous, Proof::None)
    }

    /// Who it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// How that was proven.
    #[must_use]
    pub fn proof(&self) -> Proof {
        self.0.proof
    }

    /// What its token says; empty without one.
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
