//! Callers of whom a mesh proxy tells.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use tokio::net::{TcpSocket, TcpStream};
use tonic::Code;

use crate::{
    front_door::{
        CONSOLE, HOST,
        certificates::wire,
        this_user,
        visit::{Door, only},
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

fn switched_on(setup: Setup) -> Setup {
    setup
        .variable("COUNTERMAND_CALLERS_FORWARDED_CLIENT_CERT", "true")
        .variable("COUNTERMAND_CALLERS_LINKERD_CLIENT_ID", "true")
        .variable("COUNTERMAND_CALLERS_MESH_PROXIES", PROXY)
}

fn policy() -> String {
    only(&[("console", CONSOLE), ("host", HOST)])
}

/// The caller in each form in which Envoy and Linkerd tell it, and the proof that it is.
fn told() -> [(&'static str, String, &'static str, &'static str); 4] {
    let by = "By=spiffe://corp.example/ns/mdm/sa/countermand;Hash=0123456789abcdef";
    [
        (FORWARDED, format!("{by};Subject=\"CN=a,O=\\\"b;c\\\"\";URI={CONSOLE}"), CONSOLE, "console"),
        (FORWARDED, format!("{by};URI=;DNS=console.corp.example;DNS=b.corp.example"), HOST, "host"),
        (LINKERD, CONSOLE.to_owned(), CONSOLE, "console"),
        (LINKERD, "console.corp.example".to_owned(), HOST, "host"),
    ]
}

/// Where this machine is reached from elsewhere, if it has a network at all. Nothing is sent to find out.
fn address_of_the_network() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("198.51.100.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback())
}

/// A connection that the service sees come from the network, though it does not leave the machine.
async fn from_the_network(address: SocketAddr) -> Option<TcpStream> {
    let source = address_of_the_network();
    let Some(source) = source else {
        #[allow(clippy::print_stderr)]
        {
            eprintln!("SKIPPED: this machine has no network, so that nobody can come from there");
        }
        return None;
    };
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    Some(socket.connect(address).await.unwrap())
}

#[tokio::test]
async fn a_proxy_on_this_machine_is_believed() {
    let door = Door::open(|setup| switched_on(setup).policy(&policy()).unix()).await;
    for wire in [door.service.wire().await, door.service.wire_by_unix().await] {
        for (header, value, caller, policy) in told() {
            door.cancel(&wire, &[(header, &value)]).await.is_let_in(caller, header, &[policy]);
        }
        let other = format!("URI={OTHER}");
        door.cancel(&wire, &[(FORWARDED, &other)]).await.is_denied(OTHER, FORWARDED, &[]);
    }
}

#[tokio::test]
async fn nobody_is_believed_unless_it_is_switched_on() {
    let door = Door::open(|setup| setup.policy(&policy()).unix()).await;
    let (by_tcp, by_unix) = (door.service.wire().await, door.service.wire_by_unix().await);
    for (header, value, ..) in told() {
        door.cancel(&by_tcp, &[(header, &value)]).await.is_denied("anonymous", "none", &[]);
        door.cancel(&by_unix, &[(header, &value)]).await.is_denied(&this_user(), "unix-peer", &[]);
    }
    // Each by itself.
    for (switch, on, off) in [
        ("COUNTERMAND_CALLERS_FORWARDED_CLIENT_CERT", FORWARDED, LINKERD),
        ("COUNTERMAND_CALLERS_LINKERD_CLIENT_ID", LINKERD, FORWARDED),
    ] {
        let door = Door::open(|setup| setup.variable(switch, "true").policy(&policy())).await;
        let wire = door.service.wire().await;
        for (header, value, caller, policy) in told() {
            let visit = door.cancel(&wire, &[(header, &value)]).await;
            match header {
                header if header == on => visit.is_let_in(caller, on, &[policy]),
                header if header == off => visit.is_denied("anonymous", "none", &[]),
                header => unreachable!("{header}"),
            }
        }
    }
}

#[tokio::test]
async fn from_the_network_only_a_proxy_of_the_mesh_is_believed_by_its_certificate() {
    let authority = Authority::new();
    let door =
        Door::open(|setup| switched_on(setup).tls(&authority.server(), Some(&authority)).policy(&policy()))
            .await;
    let open = async |id: &str| {
        let client = TlsClient::new(&authority, Some(&authority.client(vec![uri(id)])));
        let stream = client.connect_by(from_the_network(door.service.address).await?).await.unwrap();
        Some(Wire::over(stream).await)
    };
    let Some(proxy) = open(PROXY).await else { return };
    let Some(other) = open(OTHER).await else { return };
    for (header, value, caller, policy) in told() {
        door.cancel(&proxy, &[(header, &value)]).await.is_let_in(caller, header, &[policy]);
        door.cancel(&other, &[(header, &value)]).await.is_denied(OTHER, "client-certificate", &[]);
    }
    // What is ignored need not be understood.
    door.cancel(&other, &[(FORWARDED, "URI=\"")]).await.is_denied(OTHER, "client-certificate", &[]);
    // Of nobody, the proxy tells nobody: it calls itself.
    door.cancel(&proxy, &[(FORWARDED, "Hash=1")]).await.is_denied(PROXY, "client-certificate", &[]);
}

#[tokio::test]
async fn from_the_network_nobody_is_believed_without_a_certificate() {
    let policy = policy();
    let authority = Authority::new();
    let plaintext = Door::open(|setup| switched_on(setup).policy(&policy)).await;
    let encrypted =
        Door::open(|setup| switched_on(setup).tls(&authority.server(), None).policy(&policy)).await;
    let Some(plain) = from_the_network(plaintext.service.address).await else { return };
    let Some(secret) = from_the_network(encrypted.service.address).await else { return };
    let secret =
        TlsClient::new(&authority, Some(&authority.client(vec![uri(PROXY)]))).connect_by(secret).await;
    for (door, wire) in
        [(&plaintext, Wire::over(plain).await), (&encrypted, Wire::over(secret.unwrap()).await)]
    {
        for (header, value, ..) in told() {
            door.cancel(&wire, &[(header, &value)]).await.is_denied("anonymous", "none", &[]);
        }
    }
}

#[tokio::test]
async fn what_a_caller_writes_before_the_proxys_own_element_makes_nobody_of_them() {
    let door = Door::open(|setup| switched_on(setup).policy(&policy())).await;
    let wire = door.service.wire().await;
    let own = format!("Hash=1;URI={OTHER}");
    for forged in [
        format!("URI={CONSOLE}"),
        format!("By=spiffe://corp.example/proxy;Hash=2;URI={CONSOLE}"),
        format!("URI={CONSOLE},URI={CONSOLE};DNS=console.corp.example"),
        format!("Subject=\"a,URI={CONSOLE}\""),
        format!("Subject=\"\\\",URI={CONSOLE},Hash=\\\"\""),
    ] {
        let appended = format!("{forged},{own}");
        door.cancel(&wire, &[(FORWARDED, &appended)]).await.is_denied(OTHER, FORWARDED, &[]);
        // As a line of its own.
        let lines = [(FORWARDED, &*forged), (FORWARDED, &own)];
        door.cancel(&wire, &lines).await.is_denied(OTHER, FORWARDED, &[]);
    }
    for forged in [
        format!("URI={CONSOLE};Subject=\""),
        format!("Subject=\"a\\\",URI={CONSOLE}"),
        format!("URI={CONSOLE};X"),
        ";".to_owned(),
        "\u{2028}".to_owned(),
    ] {
        let appended = format!("{forged},{own}");
        let visit = door.cancel(&wire, &[(FORWARDED, &appended)]).await;
        visit.is_unauthenticated("INVALID_FORWARDED_IDENTITY");
    }
}

#[tokio::test]
async fn two_words_that_do_not_agree_are_refused() {
    let door = Door::open(|setup| switched_on(setup).policy(&policy())).await;
    let wire = door.service.wire().await;
    let console = format!("URI={CONSOLE}");
    let agreed = [(FORWARDED, &*console), (LINKERD, CONSOLE)];
    door.cancel(&wire, &agreed).await.is_let_in(CONSOLE, FORWARDED, &["console"]);
    let several = format!("URI={CONSOLE};URI={OTHER}");
    for headers in [
        vec![(FORWARDED, &*console), (LINKERD, OTHER)],
        vec![(LINKERD, CONSOLE), (LINKERD, CONSOLE)],
        vec![(FORWARDED, &several)],
    ] {
        let visit = door.cancel(&wire, &headers).await;
        visit.is_unauthenticated("INVALID_FORWARDED_IDENTITY");
        assert_eq!(visit.answer.code(), Code::Unauthenticated);
    }
}

#[tokio::test]
async fn a_proxy_on_this_machine_may_have_a_certificate_too() {
    let authority = Authority::new();
    let door =
        Door::open(|setup| switched_on(setup).tls(&authority.server(), Some(&authority)).policy(&policy()))
            .await;
    let sidecar = wire(&door, &authority, &authority.client(vec![uri(OTHER)])).await;
    for (header, value, caller, policy) in told() {
        door.cancel(&sidecar, &[(header, &value)]).await.is_let_in(caller, header, &[policy]);
    }
    door.cancel(&sidecar, &[]).await.is_denied(OTHER, "client-certificate", &[]);
}
