//! Callers with a client certificate.

use rcgen::SanType;
use tonic::Code;

use crate::{
    access::{
        CONSOLE, HOST,
        fixture::{Fixture, permit_only},
    },
    support::{
        grpc::{GrpcResponse, Wire},
        tls::{Authority, Pair, dns, uri},
        tls_client::TlsClient,
        with_timeout,
    },
};

/// A service that requires a client certificate of `authority`. It permits the console and its host.
pub(crate) async fn start(authority: &Authority) -> Fixture {
    let policy = permit_only(&[("console", CONSOLE), ("host", HOST)]);
    Fixture::start(|setup| setup.tls(&authority.server(), Some(authority)).policy(&policy)).await
}

/// A connection with the client certificate `pair`.
pub(crate) async fn connect_with_certificate(fixture: &Fixture, authority: &Authority, pair: &Pair) -> Wire {
    TlsClient::new(authority, Some(pair)).open(fixture.service.address).await.0
}

#[tokio::test]
async fn only_subject_alternative_names_identify_the_caller() {
    let authority = Authority::new();
    let fixture = start(&authority).await;
    let (host, other) = ("console.corp.example", "spiffe://corp.example/ns/mdm/sa/other");
    let email = SanType::Rfc822Name("console@corp.example".try_into().unwrap());
    for (names, caller) in [
        (vec![uri(CONSOLE)], CONSOLE),
        (vec![dns("Console.Corp.Example")], HOST),
        (vec![dns(host), uri(CONSOLE)], CONSOLE),
        (vec![dns("*.corp.example"), dns(host)], HOST),
        (vec![uri(CONSOLE), uri(other)], "anonymous"),
        (vec![uri(CONSOLE), uri("https://corp.example"), dns(host)], HOST),
        (vec![uri("https://corp.example/ns/mdm/sa/console")], "anonymous"),
        (vec![uri("spiffe://corp.example/ns/mdm/sa/console/")], "anonymous"),
        (vec![dns("*.corp.example")], "anonymous"),
        (vec![email, SanType::IpAddress([127, 0, 0, 1].into())], "anonymous"),
        (vec![], "anonymous"),
        (vec![uri(other)], other),
        (vec![dns("other.corp.example")], "dns:other.corp.example"),
    ] {
        // The common name would identify each as the console's host.
        let pair = authority.client_with_common_name(host, names);
        let call = fixture.cancel(&connect_with_certificate(&fixture, &authority, &pair).await, &[]).await;
        match caller {
            CONSOLE => call.assert_allowed(CONSOLE, "client-certificate", &["console"]),
            HOST => call.assert_allowed(HOST, "client-certificate", &["host"]),
            "anonymous" => call.assert_denied("anonymous", "none", &[]),
            other => call.assert_denied(other, "client-certificate", &[]),
        }
    }
}

#[tokio::test]
async fn a_failed_handshake_leaves_no_audit_line_and_no_upstream_call() {
    let (authority, another) = (Authority::new(), Authority::new());
    let fixture = start(&authority).await;
    for pair in [None, Some(another.client(vec![uri(CONSOLE)])), Some(authority.expired_client())] {
        let client = TlsClient::new(&authority, pair.as_ref());
        with_timeout("the handshake to fail", client.rejection(fixture.service.address)).await;
    }
    assert_eq!(fixture.service.audit_text(), "");
    assert!(fixture.upstream.requests().is_empty());
}

#[tokio::test]
async fn an_unverified_certificate_identifies_no_caller() {
    let authority = Authority::new();
    let policy = permit_only(&[("console", CONSOLE)]);
    let fixture = Fixture::start(|setup| setup.tls(&authority.server(), None).policy(&policy)).await;
    let call = fixture
        .cancel(
            &connect_with_certificate(&fixture, &authority, &authority.client(vec![uri(CONSOLE)])).await,
            &[],
        )
        .await;
    call.assert_denied("anonymous", "none", &[]);
}

/// Calls health, and both versions of reflection.
async fn call_open_services(connection: &Wire) -> [GrpcResponse; 3] {
    // `list_services` is a string in field 7 of the request, in both versions.
    let list_services = [0x3a, 0];
    let call =
        async |path: &str, message: &[u8]| connection.start_raw(path, &[], message).await.response().await;
    [
        call("/grpc.health.v1.Health/Check", &[]).await,
        call("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", &list_services).await,
        call("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &list_services).await,
    ]
}

#[tokio::test]
async fn health_and_reflection_need_no_permission_and_are_not_audited() {
    let authority = Authority::new();
    let fixture = start(&authority).await;
    let stranger = connect_with_certificate(&fixture, &authority, &authority.client(vec![])).await;
    for response in call_open_services(&stranger).await {
        assert_eq!(response.code(), Code::Ok);
    }
    assert_eq!(fixture.service.audit_text(), "");
    fixture.cancel(&stranger, &[]).await.assert_denied("anonymous", "none", &[]);
}
