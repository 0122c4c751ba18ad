//! TLS on the service's own port: who is let in, and by what.

use rcgen::SanType;
use rustls::{
    HandshakeKind, ProtocolVersion,
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::Code;

use crate::{
    support::{
        reply::Reply,
        service::{Service, Setup},
        soon,
        tls::{Authority, H2, HTTP1, Pair, dns, uri},
        tls_client::{BOTH, TlsClient},
        upstream::Upstream,
    },
    wire::NAME,
};

mod files;

/// An upstream that says OK to all, and a service before it that serves by `pair`.
async fn start(pair: &Pair, clients: Option<&Authority>) -> (Upstream, Service) {
    let upstream = Upstream::start().await;
    upstream.always_answers(Reply::ok());
    let service = Setup::of(&upstream).tls(pair, clients).start().await;
    (upstream, service)
}

#[tokio::test]
async fn both_versions_of_tls_are_spoken_with_and_without_certificates_of_clients() {
    let authority = Authority::new();
    let client = authority.console();
    for clients in [None, Some(&authority)] {
        let (_upstream, service) = start(&authority.server(), clients).await;
        for (version, spoken) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
            let client = TlsClient::speaking(&authority, clients.map(|_| &client), &[version], &[H2]);
            let (wire, met) = client.open(service.address).await;
            assert_eq!(met.version, spoken);
            assert_eq!(wire.cancel(NAME, &[]).await.code(), Code::Ok);
        }
    }
}

#[tokio::test]
async fn names_of_every_kind_are_let_in_for_the_policy_to_judge() {
    let authority = Authority::new();
    let (_upstream, service) = start(&authority.server(), Some(&authority)).await;
    for names in [
        vec![uri("spiffe://corp.example/ns/mdm/sa/console")],
        vec![dns("console.test"), dns("*.test"), uri("https://console.test")],
        vec![SanType::IpAddress([192, 0, 2, 1].into()), SanType::Rfc822Name("a@test".try_into().unwrap())],
        vec![],
    ] {
        let client = TlsClient::new(&authority, Some(&authority.client(names)));
        let (wire, _) = client.open(service.address).await;
        assert_eq!(wire.cancel(NAME, &[]).await.code(), Code::Ok);
    }
}

#[tokio::test]
async fn without_a_certificate_of_the_clients_authority_nobody_is_let_in() {
    let (authority, another) = (Authority::new(), Authority::new());
    let (upstream, service) = start(&authority.server(), Some(&authority)).await;
    for (pair, alert) in [
        (None, "CertificateRequired"),
        (Some(another.console()), "UnknownCA"),
        (Some(authority.expired_client()), "CertificateExpired"),
    ] {
        for version in [&TLS12, &TLS13] {
            let client = TlsClient::speaking(&authority, pair.as_ref(), &[version], &[H2]);
            let refused = soon("a refusal", client.refused(service.address)).await;
            // The alert of its own name came with TLS 1.3 (RFC 8446, section 6).
            let is_told = refused.contains(alert) || (pair.is_none() && refused.contains("HandshakeFailure"));
            assert!(is_told, "{refused}, not {alert}");
        }
    }
    assert!(upstream.seen().is_empty());
    // The others come and go as before.
    let (wire, _) = TlsClient::new(&authority, Some(&authority.console())).open(service.address).await;
    assert_eq!(wire.cancel(NAME, &[]).await.code(), Code::Ok);
}

#[tokio::test]
async fn a_client_must_ask_for_h2() {
    let authority = Authority::new();
    let (_upstream, service) = start(&authority.server(), None).await;
    let client = TlsClient::speaking(&authority, None, BOTH, &[HTTP1]);
    let refused = soon("a refusal", client.refused(service.address)).await;
    assert!(refused.contains("NoApplicationProtocol"), "{refused}");
    for version in [&TLS12, &TLS13] {
        // Without ALPN there is no alert to send: hands are shaken, and it is closed.
        let client = TlsClient::speaking(&authority, None, &[version], &[]);
        soon("a refusal", client.refused(service.address)).await;
    }
    TlsClient::speaking(&authority, None, BOTH, &[HTTP1, H2]).open(service.address).await;
}

#[tokio::test]
async fn no_session_is_ever_resumed() {
    let authority = Authority::new();
    let (_upstream, service) = start(&authority.server(), Some(&authority)).await;
    let pair = authority.console();
    for version in [&TLS12, &TLS13] {
        let client = TlsClient::speaking(&authority, Some(&pair), &[version], &[H2]);
        for _ in 0..3 {
            let (wire, met) = client.open(service.address).await;
            assert_eq!(wire.cancel(NAME, &[]).await.code(), Code::Ok);
            assert_eq!(met.handshake, HandshakeKind::Full);
        }
    }
}

#[tokio::test]
async fn plaintext_to_tls_and_tls_to_plaintext_are_closed() {
    let authority = Authority::new();
    let (upstream, encrypted) = start(&authority.server(), None).await;
    let mut plain = TcpStream::connect(encrypted.address).await.unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // At most an alert, and then the end.
    let _ = soon("the end", plain.read_to_end(&mut answer)).await;
    assert!(answer.len() < 16, "{answer:?}");

    let plaintext = Setup::of(&upstream).start().await;
    let client = TlsClient::new(&authority, None);
    assert!(soon("the end", client.connect(plaintext.address)).await.is_err());
    assert_eq!(plaintext.wire().await.cancel(NAME, &[]).await.code(), Code::Ok);
}

#[tokio::test]
async fn a_drain_lets_the_calls_over_tls_finish() {
    let authority = Authority::new();
    let upstream = Upstream::start().await;
    let (ok, gate) = Reply::ok().held();
    upstream.answers([ok]);
    let service = Setup::of(&upstream).tls(&authority.server(), None).start().await;
    let client = TlsClient::new(&authority, None);
    let (wire, _) = client.open(service.address).await;
    // Neither of these ever says a word.
    let _before_tls = TcpStream::connect(service.address).await.unwrap();
    let _after_tls = client.connect(service.address).await.unwrap();
    let call = wire.start(NAME, &[]).await;
    upstream.has_seen(1).await;
    let draining = tokio::spawn(service.drain());
    gate.open();
    assert_eq!(call.answer().await.code(), Code::Ok);
    assert_eq!(draining.await.unwrap(), countermand::server::Drained::Complete);
    drop(wire);
}
