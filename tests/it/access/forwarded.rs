//! Callers whose identity a mesh proxy forwards.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use tokio::net::{TcpSocket, TcpStream};
use tonic::Code;

use crate::{
    access::{
        CONSOLE, HOST,
        certificates::connect_with_certificate,
        fixture::{Fixture, permit_only},
        this_user,
    },
    support::{
        grpc::Wire,
        service::Setup,
        tls::{Authority, uri},
        tls_client::TlsClient,
    },
};

const FORWARDED: &str = "x-forwarded-client-cert";
const LINKERD: &str = "l5d-client-id";
const PROXY: &str = "spiffe://corp.example/ns/istio-system/sa/ingress";
const OTHER: &str = "spiffe://corp.example/ns/mdm/sa/other";

fn accept_forwarded(setup: Setup) -> Setup {
    setup
        .variable("COUNTERMAND_CALLERS_FORWARDED_CLIENT_CERT", "true")
        .variable("COUNTERMAND_CALLERS_LINKERD_CLIENT_ID", "true")
        .variable("COUNTERMAND_CALLERS_MESH_PROXIES", PROXY)
}

fn policy() -> String {
    permit_only(&[("console", CONSOLE), ("host", HOST)])
}

/// Headers as Envoy and Linkerd send them. Each has the caller that it forwards, and the policy that permits it.
fn forwarded_headers() -> [(&'static str, String, &'static str, &'static str); 4] {
    let by = "By=spiffe://corp.example/ns/mdm/sa/countermand;Hash=0123456789abcdef";
    [
        (FORWARDED, format!("{by};Subject=\"CN=a,O=\\\"b;c\\\"\";URI={CONSOLE}"), CONSOLE, "console"),
        (FORWARDED, format!("{by};URI=;DNS=console.corp.example;DNS=b.corp.example"), HOST, "host"),
        (LINKERD, CONSOLE.to_owned(), CONSOLE, "console"),
        (LINKERD, "console.corp.example".to_owned(), HOST, "host"),
    ]
}

/// The network address of this machine, if it has one. Connecting a UDP socket sends no packet.
fn network_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("198.51.100.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback())
}

/// A connection whose source is the network address of this machine. The service sees a remote peer.
async fn connect_from_network(address: SocketAddr) -> Option<TcpStream> {
    let Some(source) = network_address() else {
        #[allow(clippy::print_stderr)]
        {
            eprintln!("SKIPPED: this machine has no network address");
        }
        return None;
    };
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    Some(socket.connect(address).await.unwrap())
}

#[tokio::test]
async fn a_proxy_on_this_machine_is_trusted() {
    let fixture = Fixture::start(|setup| accept_forwarded(setup).policy(&policy()).unix()).await;
    for connection in [fixture.service.wire().await, fixture.service.wire_by_unix().await] {
        for (header, value, caller, policy) in forwarded_headers() {
            fixture.cancel(&connection, &[(header, &value)]).await.assert_allowed(caller, header, &[policy]);
        }
        let other = format!("URI={OTHER}");
        fixture.cancel(&connection, &[(FORWARDED, &other)]).await.assert_denied(OTHER, FORWARDED, &[]);
    }
}

#[tokio::test]
async fn each_forwarded_header_is_ignored_unless_enabled() {
    let fixture = Fixture::start(|setup| setup.policy(&policy()).unix()).await;
    let (by_tcp, by_unix) = (fixture.service.wire().await, fixture.service.wire_by_unix().await);
    for (header, value, ..) in forwarded_headers() {
        fixture.cancel(&by_tcp, &[(header, &value)]).await.assert_denied("anonymous", "none", &[]);
        fixture.cancel(&by_unix, &[(header, &value)]).await.assert_denied(&this_user(), "unix-peer", &[]);
    }
    // Each setting enables one header.
    for (setting, enabled, disabled) in [
        ("COUNTERMAND_CALLERS_FORWARDED_CLIENT_CERT", FORWARDED, LINKERD),
        ("COUNTERMAND_CALLERS_LINKERD_CLIENT_ID", LINKERD, FORWARDED),
    ] {
        let fixture = Fixture::start(|setup| setup.variable(setting, "true").policy(&policy())).await;
        let connection = fixture.service.wire().await;
        for (header, value, caller, policy) in forwarded_headers() {
            let call = fixture.cancel(&connection, &[(header, &value)]).await;
            match header {
                header if header == enabled => call.assert_allowed(caller, enabled, &[policy]),
                header if header == disabled => call.assert_denied("anonymous", "none", &[]),
                header => unreachable!("{header}"),
            }
        }
    }
}

#[tokio::test]
async fn on_a_network_connection_only_the_certificate_of_a_mesh_proxy_is_trusted() {
    let authority = Authority::new();
    let fixture = Fixture::start(|setup| {
        accept_forwarded(setup).tls(&authority.server(), Some(&authority)).policy(&policy())
    })
    .await;
    let open = async |id: &str| {
        let client = TlsClient::new(&authority, Some(&authority.client(vec![uri(id)])));
        let stream = client.connect_over(connect_from_network(fixture.service.address).await?).await.unwrap();
        Some(Wire::over(stream).await)
    };
    let Some(proxy) = open(PROXY).await else { return };
    let Some(other) = open(OTHER).await else { return };
    for (header, value, caller, policy) in forwarded_headers() {
        fixture.cancel(&proxy, &[(header, &value)]).await.assert_allowed(caller, header, &[policy]);
        fixture.cancel(&other, &[(header, &value)]).await.assert_denied(OTHER, "client-certificate", &[]);
    }
    // An ignored header may be malformed.
    fixture.cancel(&other, &[(FORWARDED, "URI=\"")]).await.assert_denied(OTHER, "client-certificate", &[]);
    // Without a forwarded identity, the proxy itself is the caller.
    fixture.cancel(&proxy, &[(FORWARDED, "Hash=1")]).await.assert_denied(PROXY, "client-certificate", &[]);
}

#[tokio::test]
async fn on_a_network_connection_without_a_client_certificate_the_headers_are_ignored() {
    let policy = policy();
    let authority = Authority::new();
    let plaintext = Fixture::start(|setup| accept_forwarded(setup).policy(&policy)).await;
    let encrypted =
        Fixture::start(|setup| accept_forwarded(setup).tls(&authority.server(), None).policy(&policy)).await;
    let Some(plain) = connect_from_network(plaintext.service.address).await else { return };
    let Some(encrypted_socket) = connect_from_network(encrypted.service.address).await else { return };
    let client = TlsClient::new(&authority, Some(&authority.client(vec![uri(PROXY)])));
    let encrypted_socket = client.connect_over(encrypted_socket).await.unwrap();
    for (fixture, connection) in
        [(&plaintext, Wire::over(plain).await), (&encrypted, Wire::over(encrypted_socket).await)]
    {
        for (header, value, ..) in forwarded_headers() {
            fixture.cancel(&connection, &[(header, &value)]).await.assert_denied("anonymous", "none", &[]);
        }
    }
}

#[tokio::test]
async fn elements_before_the_proxys_own_are_ignored_or_refused() {
    let fixture = Fixture::start(|setup| accept_forwarded(setup).policy(&policy())).await;
    let connection = fixture.service.wire().await;
    let own = format!("Hash=1;URI={OTHER}");
    for forged in [
        format!("URI={CONSOLE}"),
        format!("By=spiffe://corp.example/proxy;Hash=2;URI={CONSOLE}"),
        format!("URI={CONSOLE},URI={CONSOLE};DNS=console.corp.example"),
        format!("Subject=\"a,URI={CONSOLE}\""),
        format!("Subject=\"\\\",URI={CONSOLE},Hash=\\\"\""),
    ] {
        let appended = format!("{forged},{own}");
        fixture.cancel(&connection, &[(FORWARDED, &appended)]).await.assert_denied(OTHER, FORWARDED, &[]);
        // The forged element may also be a header line by itself.
        let lines = [(FORWARDED, &*forged), (FORWARDED, &own)];
        fixture.cancel(&connection, &lines).await.assert_denied(OTHER, FORWARDED, &[]);
    }
    for forged in [
        format!("URI={CONSOLE};Subject=\""),
        format!("Subject=\"a\\\",URI={CONSOLE}"),
        format!("URI={CONSOLE};X"),
        ";".to_owned(),
        "\u{2028}".to_owned(),
    ] {
        let appended = format!("{forged},{own}");
        let call = fixture.cancel(&connection, &[(FORWARDED, &appended)]).await;
        call.assert_unauthenticated("INVALID_FORWARDED_IDENTITY");
    }
}

#[tokio::test]
async fn conflicting_forwarded_identities_are_refused() {
    let fixture = Fixture::start(|setup| accept_forwarded(setup).policy(&policy())).await;
    let connection = fixture.service.wire().await;
    let console = format!("URI={CONSOLE}");
    let consistent = [(FORWARDED, &*console), (LINKERD, CONSOLE)];
    fixture.cancel(&connection, &consistent).await.assert_allowed(CONSOLE, FORWARDED, &["console"]);
    let several = format!("URI={CONSOLE};URI={OTHER}");
    for headers in [
        vec![(FORWARDED, &*console), (LINKERD, OTHER)],
        vec![(LINKERD, CONSOLE), (LINKERD, CONSOLE)],
        vec![(FORWARDED, &several)],
    ] {
        let call = fixture.cancel(&connection, &headers).await;
        call.assert_unauthenticated("INVALID_FORWARDED_IDENTITY");
        assert_eq!(call.response.code(), Code::Unauthenticated);
    }
}

#[tokio::test]
async fn a_proxy_on_this_machine_may_have_a_client_certificate() {
    let authority = Authority::new();
    let fixture = Fixture::start(|setup| {
        accept_forwarded(setup).tls(&authority.server(), Some(&authority)).policy(&policy())
    })
    .await;
    let sidecar = connect_with_certificate(&fixture, &authority, &authority.client(vec![uri(OTHER)])).await;
    for (header, value, caller, policy) in forwarded_headers() {
        fixture.cancel(&sidecar, &[(header, &value)]).await.assert_allowed(caller, header, &[policy]);
    }
    fixture.cancel(&sidecar, &[]).await.assert_denied(OTHER, "client-certificate", &[]);
}
