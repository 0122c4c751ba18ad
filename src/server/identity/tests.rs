//! Tests of the precedence of evidence, and of the peers that may forward identities.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls::pki_types::CertificateDer;

use super::{
    Identified, Identities, InvalidToken, Refusal,
    forwarded::{InvalidXfcc, workload_identity},
    issuer::{AUDIENCE, ISSUER, Key, claims, key_set},
    jwks::{Algorithm, LoadedKeys},
};
use crate::{
    background::Background,
    caller::{Caller, Evidence},
    http_client::ProxySettings,
    server::{
        peer::{Peer, PeerOrigin},
        settings::{Callers, Jwks, Jwt},
    },
};

const CONSOLE: &str = "spiffe://corp.example/console";
const PROXY: &str = "spiffe://corp.example/proxy";
const LINKERD: &str = "console.mdm.serviceaccount.identity.linkerd.cluster.local";
const XFCC: (&str, &str) = ("x-forwarded-client-cert", "Hash=1;URI=spiffe://corp.example/forwarded");
const L5D: (&str, &str) = ("l5d-client-id", LINKERD);

fn certificate(id: &str) -> CertificateDer<'static> {
    certificate_with(vec![SanType::URI(id.try_into().unwrap())])
}

fn certificate_with(names: Vec<SanType>) -> CertificateDer<'static> {
    let mut parameters = CertificateParams::default();
    parameters.subject_alt_names = names;
    parameters.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
}

fn peer(origin: PeerOrigin, id: Option<&str>) -> Peer {
    Peer { origin, certificate: id.map(certificate) }
}

/// Accepts both headers from this machine and from one remote proxy.
fn trusting() -> Callers {
    Callers {
        forwarded_client_cert: true,
        linkerd_client_id: true,
        mesh_proxies: Some(vec![workload_identity(PROXY).unwrap()]),
    }
}

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

/// The caller of a request with these header lines over a connection of `peer`.
fn identify(callers: &Callers, peer: &Peer, lines: &[(&str, &str)]) -> Result<Caller, Refusal> {
    identify_by(callers, None, peer, lines)
}

/// As [`identify`], with the tokens of an issuer.
fn identify_by(
    callers: &Callers,
    issuer: Option<&Jwt>,
    peer: &Peer,
    lines: &[(&str, &str)],
) -> Result<Caller, Refusal> {
    let issuer = issuer.map(|jwt| (jwt, LoadedKeys::load(jwt, &ProxySettings::default()).unwrap()));
    let identities = Arc::new(Identities::new(callers, issuer, &Background::unsupervised()).unwrap());
    match identities.of_peer(peer).identify(&headers(lines)) {
        Identified::Now(caller) => caller,
        Identified::Later(_) => panic!("no fetch is needed"),
    }
}

fn shown(caller: Result<Caller, Refusal>) -> (String, Evidence) {
    let caller = caller.unwrap();
    (caller.to_string(), caller.evidence())
}

const UNIX: PeerOrigin = PeerOrigin::Unix { uid: Some(7) };

#[test]
fn a_connection_identifies_its_peer() {
    for (peer, id, proof) in [
        (peer(UNIX, None), "unix:7", Evidence::UnixPeer),
        (peer(PeerOrigin::Unix { uid: None }, None), "anonymous", Evidence::None),
        (peer(PeerOrigin::Loopback, None), "anonymous", Evidence::None),
        (peer(PeerOrigin::OwnAddress, None), "anonymous", Evidence::None),
        (peer(PeerOrigin::Network, None), "anonymous", Evidence::None),
        (peer(PeerOrigin::Network, Some(CONSOLE)), CONSOLE, Evidence::ClientCertificate),
        (peer(UNIX, Some(CONSOLE)), CONSOLE, Evidence::ClientCertificate),
        // A certificate without an identity is ignored.
        (peer(UNIX, Some("https://corp.example")), "unix:7", Evidence::UnixPeer),
    ] {
        let want = (id.to_owned(), proof);
        assert_eq!(shown(identify(&trusting(), &peer, &[])), want, "{peer:?}");
        assert_eq!(shown(identify(&Callers::default(), &peer, &[XFCC, L5D])), want, "{peer:?}");
    }
}

#[test]
fn the_user_id_of_unmapped_users_identifies_no_user() {
    let mut identities = Identities::new(&Callers::default(), None, &Background::unsupervised()).unwrap();
    identities.overflow_uid = Some(7);
    let identities = Arc::new(identities);
    for (uid, id) in [(7, "anonymous"), (8, "unix:8")] {
        let peer = peer(PeerOrigin::Unix { uid: Some(uid) }, None);
        assert_eq!(identities.of_peer(&peer).connection_caller.to_string(), id);
    }
}

#[test]
fn only_trusted_proxies_may_forward_identities() {
    let forwarded = ("spiffe://corp.example/forwarded".to_owned(), Evidence::ForwardedClientCert);
    let by_linkerd = (format!("dns:{LINKERD}"), Evidence::LinkerdClientId);
    for peer in [
        peer(PeerOrigin::Loopback, None),
        peer(UNIX, None),
        peer(PeerOrigin::Network, Some(PROXY)),
        peer(PeerOrigin::OwnAddress, Some(PROXY)),
        peer(PeerOrigin::Loopback, Some(CONSOLE)),
    ] {
        assert_eq!(shown(identify(&trusting(), &peer, &[XFCC])), forwarded, "{peer:?}");
        assert_eq!(shown(identify(&trusting(), &peer, &[L5D])), by_linkerd, "{peer:?}");
    }
    for (peer, id) in
        [(peer(PeerOrigin::Network, None), "anonymous"), (peer(PeerOrigin::Network, Some(CONSOLE)), CONSOLE)]
    {
        // Even malformed headers are ignored.
        for lines in [&[XFCC, L5D][..], &[("x-forwarded-client-cert", "\"")]] {
            assert_eq!(shown(identify(&trusting(), &peer, lines)).0, id, "{peer:?}");
        }
    }
    // Each header is enabled separately.
    let one = Callers { linkerd_client_id: false, ..trusting() };
    assert_eq!(shown(identify(&one, &peer(PeerOrigin::Loopback, None), &[L5D])).0, "anonymous");
    let other = Callers { forwarded_client_cert: false, ..trusting() };
    assert_eq!(shown(identify(&other, &peer(PeerOrigin::Loopback, None), &[XFCC, L5D])), by_linkerd);
}

#[test]
fn a_peer_with_the_address_of_this_end_may_forward_only_as_linkerd() {
    for (peer, id) in [
        (peer(PeerOrigin::OwnAddress, None), "anonymous"),
        (peer(PeerOrigin::OwnAddress, Some(CONSOLE)), CONSOLE),
    ] {
        assert_eq!(shown(identify(&trusting(), &peer, &[XFCC])).0, id, "{peer:?}");
        let by_linkerd = (format!("dns:{LINKERD}"), Evidence::LinkerdClientId);
        assert_eq!(shown(identify(&trusting(), &peer, &[XFCC, L5D])), by_linkerd, "{peer:?}");
        let without_linkerd = Callers { linkerd_client_id: false, ..trusting() };
        assert_eq!(shown(identify(&without_linkerd, &peer, &[XFCC, L5D])).0, id, "{peer:?}");
    }
}

#[test]
fn a_proxy_without_a_forwarded_identity_is_the_caller() {
    let proxy = peer(PeerOrigin::Network, Some(PROXY));
    for lines in [&[][..], &[("x-forwarded-client-cert", "Hash=1")]] {
        let want = (PROXY.to_owned(), Evidence::ClientCertificate);
        assert_eq!(shown(identify(&trusting(), &proxy, lines)), want);
    }
}

#[test]
fn a_proxy_matches_any_name_of_its_certificate_and_calls_as_the_first() {
    let name = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let names = vec![name("a.corp.example"), SanType::URI(CONSOLE.try_into().unwrap()), name("P.example")];
    let proxy = Peer { origin: PeerOrigin::Network, certificate: Some(certificate_with(names)) };
    let trusting_proxy =
        |id: &str| Callers { mesh_proxies: Some(vec![workload_identity(id).unwrap()]), ..trusting() };
    for id in [CONSOLE, "dns:a.corp.example", "dns:p.example"] {
        let forwarded = shown(identify(&trusting_proxy(id), &proxy, &[XFCC])).0;
        assert_eq!(forwarded, "spiffe://corp.example/forwarded", "{id}");
        assert_eq!(shown(identify(&trusting_proxy(id), &proxy, &[])).0, CONSOLE, "{id}");
    }
    for id in [PROXY, "dns:b.corp.example"] {
        assert_eq!(shown(identify(&trusting_proxy(id), &proxy, &[XFCC])).0, CONSOLE, "{id}");
    }
}

#[test]
fn several_lines_are_one_header() {
    let local = peer(PeerOrigin::Loopback, None);
    let evil = ("x-forwarded-client-cert", "URI=spiffe://evil/a");
    assert_eq!(shown(identify(&trusting(), &local, &[evil, XFCC])).0, "spiffe://corp.example/forwarded");
    let open = ("x-forwarded-client-cert", "URI=spiffe://evil/a;Subject=\"");
    let form = Err(Refusal::ForwardedClientCert(InvalidXfcc::Form));
    assert_eq!(identify(&trusting(), &local, &[open, XFCC]), form);
}

#[test]
fn an_invalid_forwarded_identity_is_refused() {
    let local = peer(UNIX, None);
    let two = "URI=spiffe://a/b;URI=spiffe://a/c";
    for (lines, refusal) in [
        (&[(XFCC.0, "x")][..], Refusal::ForwardedClientCert(InvalidXfcc::Form)),
        (&[(XFCC.0, two)], Refusal::ForwardedClientCert(InvalidXfcc::SeveralUris)),
        (&[(L5D.0, "")], Refusal::LinkerdClientId),
        (&[(L5D.0, "a b")], Refusal::LinkerdClientId),
        (&[L5D, L5D], Refusal::LinkerdClientId),
        (&[XFCC, L5D], Refusal::ConflictingIdentities),
    ] {
        assert_eq!(identify(&trusting(), &local, lines), Err(refusal), "{lines:?}");
    }
    // Both headers may name the same caller.
    let same = [(XFCC.0, "DNS=a.example"), (L5D.0, "a.example")];
    assert_eq!(shown(identify(&trusting(), &local, &same)).0, "dns:a.example");
}

#[tokio::test]
async fn a_token_follows_certificates_precedes_unix_users_and_must_be_valid() {
    let (key, file) = (Key::ec(), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(file.path(), key_set([key.jwk(Some("a"))])).unwrap();
    let jwt = Jwt {
        issuer: ISSUER.to_owned(),
        audiences: vec![AUDIENCE.to_owned()],
        algorithms: Algorithm::ALL.to_vec(),
        jwks: Jwks::File(file.path().to_owned()),
    };
    let bearer = format!("Bearer {}", key.token(Some("a"), &claims()));
    let token = ("authorization", bearer.as_str());
    let bad = ("authorization", "Bearer x");
    let refused = Err(Refusal::Token(InvalidToken::Malformed));

    let of_token = "jwt:https://issuer.example#console";
    for (peer, lines, id) in [
        (peer(UNIX, None), &[][..], of_token),
        (peer(PeerOrigin::Network, None), &[XFCC], of_token),
        (peer(PeerOrigin::Network, Some(CONSOLE)), &[], CONSOLE),
        (peer(PeerOrigin::Loopback, Some(CONSOLE)), &[XFCC], "spiffe://corp.example/forwarded"),
    ] {
        assert_eq!(
            shown(identify_by(&trusting(), Some(&jwt), &peer, &[lines, &[token]].concat())).0,
            id,
            "{peer:?}"
        );
        assert_eq!(
            identify_by(&trusting(), Some(&jwt), &peer, &[lines, &[bad]].concat()),
            refused,
            "{peer:?}"
        );
    }
    // Without an issuer, tokens are ignored.
    assert_eq!(shown(identify(&trusting(), &peer(UNIX, None), &[bad])).0, "unix:7");
}
