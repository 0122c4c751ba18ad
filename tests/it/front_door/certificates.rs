//! Callers who show a certificate.

use rcgen::SanType;
use tonic::Code;

use crate::{
    front_door::{
        CONSOLE, HOST,
        visit::{Door, only},
    },
    support::{
        grpc::{Answer, Wire},
        soon,
        tls::{Authority, Pair, dns, uri},
        tls_client::TlsClient,
    },
};

/// A front door to those who have a certificate of `authority`; the console and its host may enter.
pub(crate) async fn door(authority: &Authority) -> Door {
    let policy = only(&[("console", CONSOLE), ("host", HOST)]);
    Door::open(|setup| setup.tls(&authority.server(), Some(authority)).policy(&policy)).await
}

/// A connection by the certificate `pair`.
pub(crate) async fn wire(door: &Door, authority: &Authority, pair: &Pair) -> Wire {
    TlsClient::new(authority, Some(pair)).open(door.service.address).await.0
}

#[tokio::test]
async fn a_certificate_names_its_caller_by_its_alternative_names_alone() {
    let authority = Authority::new();
    let door = door(&authority).await;
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
        // By its common name, each would be the console's host.
        let pair = authority.client_called(host, names);
        let visit = door.cancel(&wire(&door, &authority, &pair).await, &[]).await;
        match caller {
            CONSOLE => visit.is_let_in(CONSOLE, "client-certificate", &["console"]),
            HOST => visit.is_let_in(HOST, "client-certificate", &["host"]),
            "anonymous" => visit.is_denied("anonymous", "none", &[]),
            other => visit.is_denied(other, "client-certificate", &[]),
        }
    }
}

#[tokio::test]
async fn whom_the_handshake_keeps_out_does_nothing_and_leaves_nothing() {
    let (authority, another) = (Authority::new(), Authority::new());
    let door = door(&authority).await;
    for pair in [None, Some(another.client(vec![uri(CONSOLE)])), Some(authority.expired_client())] {
        let client = TlsClient::new(&authority, pair.as_ref());
        soon("a refusal", client.refused(door.service.address)).await;
    }
    assert_eq!(door.service.audit_text(), "");
    assert!(door.upstream.seen().is_empty());
}

#[tokio::test]
async fn a_certificate_that_nobody_verifies_proves_nothing() {
    let authority = Authority::new();
    let policy = only(&[("console", CONSOLE)]);
    let door = Door::open(|setup| setup.tls(&authority.server(), None).policy(&policy)).await;
    let visit = door.cancel(&wire(&door, &authority, &authority.client(vec![uri(CONSOLE)])).await, &[]).await;
    visit.is_denied("anonymous", "none", &[]);
}

/// Asks for the health, and for the services by both versions of reflection.
async fn look_around(wire: &Wire) -> [Answer; 3] {
    // `list_services` is a string, and field 7 of the request of both versions.
    let list_services = [0x3a, 0];
    let ask = async |path: &str, message: &[u8]| wire.start_raw(path, &[], message).await.answer().await;
    [
        ask("/grpc.health.v1.Health/Check", &[]).await,
        ask("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", &list_services).await,
        ask("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &list_services).await,
    ]
}

#[tokio::test]
async fn health_and_reflection_are_open_to_all_whom_the_handshake_lets_in_and_leave_no_line() {
    let authority = Authority::new();
    let door = door(&authority).await;
    let stranger = wire(&door, &authority, &authority.client(vec![])).await;
    for answer in look_around(&stranger).await {
        assert_eq!(answer.code(), Code::Ok);
    }
    assert_eq!(door.service.audit_text(), "");
    door.cancel(&stranger, &[]).await.is_denied("anonymous", "none", &[]);
}
