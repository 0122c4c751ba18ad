//! TLS files that change while the service runs.

use tonic::Code;

use super::start;
use crate::{
    support::{
        files::replace,
        service::Service,
        tls::{Authority, Pair},
        tls_client::TlsClient,
        with_timeout,
    },
    wire::NAME,
};

/// Waits until new connections receive the certificate of `pair`.
async fn wait_for_certificate(client: &TlsClient, service: &Service, pair: &Pair) {
    with_timeout("the new certificate", async {
        while client.open(service.address).await.1.certificate != pair.certificate_der() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn new_connections_use_a_reloaded_certificate_and_open_connections_stay() {
    let authority = Authority::new();
    let (first, second) = (authority.server(), authority.server());
    let (_upstream, service) = start(&first, None).await;
    let client = TlsClient::new(&authority, None);
    let (old, session) = client.open(service.address).await;
    assert_eq!(session.certificate, first.certificate_der());

    let [certificate, key, _] = service.tls_files();
    second.write(&certificate, &key);
    wait_for_certificate(&client, &service, &second).await;
    assert_eq!(old.cancel(NAME, &[]).await.code(), Code::Ok);
}

#[tokio::test]
async fn the_old_certificate_stays_active_until_the_new_certificate_and_key_match() {
    let authority = Authority::new();
    let (first, second, third) = (authority.server(), authority.server(), authority.server());
    let (_upstream, service) = start(&first, None).await;
    let client = TlsClient::new(&authority, None);
    let [certificate, key, _] = service.tls_files();

    replace(&certificate, "-----BEGIN CERTIFICATE-----");
    replace(&certificate, &second.certificate);
    // Five seconds exceed the interval at which files are checked.
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
    while tokio::time::Instant::now() < end {
        assert_eq!(client.open(service.address).await.1.certificate, first.certificate_der());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    replace(&key, &second.key);
    wait_for_certificate(&client, &service, &second).await;
    third.write(&certificate, &key);
    wait_for_certificate(&client, &service, &third).await;
}

#[tokio::test]
async fn a_reloaded_client_ca_applies_to_every_new_connection() {
    let (old, new) = (Authority::new(), Authority::new());
    let server = old.server();
    let (_upstream, service) = start(&server, Some(&old)).await;
    let of_old = TlsClient::new(&old, Some(&old.console()));
    let of_new = TlsClient::new(&old, Some(&new.console()));
    let (open, _) = of_old.open(service.address).await;
    assert_eq!(open.cancel(NAME, &[]).await.code(), Code::Ok);
    assert!(with_timeout("a rejection", of_new.rejection(service.address)).await.contains("UnknownCA"));

    let [_, _, ca] = service.tls_files();
    replace(&ca, &new.pem());
    with_timeout("the new authority", async {
        loop {
            let (wire, _) = of_new.open(service.address).await;
            if wire.try_cancel(NAME).await {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(with_timeout("a rejection", of_old.rejection(service.address)).await.contains("UnknownCA"));
    assert_eq!(open.cancel(NAME, &[]).await.code(), Code::Ok, "an open connection stays open");
}
