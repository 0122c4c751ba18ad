//! TLS on the service's listener: the certificates and protocols that it accepts.

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
        tls::{Authority, H2, HTTP1, Pair, dns, uri},
        tls_client::{ALL_VERSIONS, TlsClient},
        upstream::Upstream,
        with_timeout,
    },
    wire::NAME,
};

mod reload;

/// An upstream that answers every cancel OK, and a service with the certificate `pair`.
async fn start(pair: &Pair, clients: Option<&Authority>) -> (Upstream, Service) {
    let upstream = Upstream::start().await;
    upstream.always_answers(Reply::ok());
    let service = Setup::of(&upstream).tls(pair, clients).start().await;
    (upstream, service)
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_accepted_with_and_without_client_certificates() {
    let authority = Authority::new();
    let client = authority.console();
    for clients in [None, Some(&authority)] {
        let (_upstream, service) = start(&authority.server(), clients).await;
        for (version, negotiated) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)]
        {
            let client = TlsClient::with_protocols(&authority, clients.map(|_| &client), &[version], &[H2]);
            let (wire, session) = client.open(service.address).await;
            assert_eq!(session.version, negotiated);
            assert_eq!(wire.cancel(NAME, &[]).await.code(), Code::Ok);
        }
    }
}

#[tokio::test]
async fn client_certificates_with_any_kind_of_name_are_accepted() {
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
async fn clients_without_a_valid_certificate_are_rejected() {
    let (authority, another) = (Authority::new(), Authority::new());
    let (upstream, service) = start(&authority.server(), Some(&authority)).await;
    for (pair, alert) in [
        (None, "CertificateRequired"),
        (Some(another.console()), "UnknownCA"),
        (Some(authority.expired_client()), "CertificateExpired"),
    ] {
        for version in [&TLS12, &TLS13] {
            let client = TlsClient::with_protocols(&authority, pair.as_ref(), &[version], &[H2]);
            let error = with_timeout("a rejection", client.rejection(service.address)).await;
            // TLS 1.2 has no certificate_required alert (RFC 8446, section 6).
            let is_expected = error.contains(alert) || (pair.is_none() && error.contains("HandshakeFailure"));
            assert!(is_expected, "{error}, not {alert}");
        }
    }
    assert!(upstream.requests().is_empty());
    // A client with a valid certificate is still accepted.
    let (wire, _) = TlsClient::new(&authority, Some(&authority.console())).open(service.address).await;
    assert_eq!(wire.cancel(NAME, &[]).await.code(), Code::Ok);
}

#[tokio::test]
async fn a_client_must_offer_h2() {
    let authority = Authority::new();
    let (_upstream, service) = start(&authority.server(), None).await;
    let client = TlsClient::with_protocols(&authority, None, ALL_VERSIONS, &[HTTP1]);
    let error = with_timeout("a rejection", client.rejection(service.address)).await;
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    for version in [&TLS12, &TLS13] {
        // A client without ALPN completes the handshake, then the server closes the connection.
        let client = TlsClient::with_protocols(&authority, None, &[version], &[]);
        with_timeout("a rejection", client.rejection(service.address)).await;
    }
    TlsClient::with_protocols(&authority, None, ALL_VERSIONS, &[HTTP1, H2]).open(service.address).await;
}

#[tokio::test]
async fn sessions_are_not_resumed() {
    let authority = Authority::new();
    let (_upstream, service) = start(&authority.server(), Some(&authority)).await;
    let pair = authority.console();
    for version in [&TLS12, &TLS13] {
        let client = TlsClient::with_protocols(&authority, Some(&pair), &[version], &[H2]);
        for _ in 0..3 {
            let (wire, session) = client.open(service.address).await;
            assert_eq!(wire.cancel(NAME, &[]).await.code(), Code::Ok);
            assert_eq!(session.handshake, HandshakeKind::Full);
        }
    }
}

#[tokio::test]
async fn plaintext_to_a_tls_listener_and_tls_to_a_plaintext_listener_are_closed() {
    let authority = Authority::new();
    let (upstream, encrypted) = start(&authority.server(), None).await;
    let mut plain = TcpStream::connect(encrypted.address).await.unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut received = Vec::new();
    // The server sends at most an alert before it closes the connection.
    let _ = with_timeout("the end of the connection", plain.read_to_end(&mut received)).await;
    assert!(received.len() < 16, "{received:?}");

    let plaintext = Setup::of(&upstream).start().await;
    let client = TlsClient::new(&authority, None);
    assert!(with_timeout("the end of the connection", client.connect(plaintext.address)).await.is_err());
    assert_eq!(plaintext.wire().await.cancel(NAME, &[]).await.code(), Code::Ok);
}

#[tokio::test]
async fn a_drain_completes_calls_over_tls() {
    let authority = Authority::new();
    let upstream = Upstream::start().await;
    let (ok, gate) = Reply::ok().held();
    upstream.answers([ok]);
    let service = Setup::of(&upstream).tls(&authority.server(), None).start().await;
    let client = TlsClient::new(&authority, None);
    let (wire, _) = client.open(service.address).await;
    // Neither connection sends a byte of HTTP/2.
    let _before_tls = TcpStream::connect(service.address).await.unwrap();
    let _after_tls = client.connect(service.address).await.unwrap();
    let call = wire.start(NAME, &[]).await;
    upstream.wait_for_requests(1).await;
    let draining = tokio::spawn(service.drain());
    gate.open();
    assert_eq!(call.response().await.code(), Code::Ok);
    assert_eq!(draining.await.unwrap(), countermand::server::Drained::Whole);
    drop(wire);
}
