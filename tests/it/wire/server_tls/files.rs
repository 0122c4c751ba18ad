//! Files of TLS that change under a running service.

use tonic::Code;

use super::start;
use crate::{
    support::{
        files::replace,
        service::Service,
        soon,
        tls::{Authority, Pair},
        tls_client::TlsClient,
    },
    wire::NAME,
};

/// Waits until new connections meet the certificate of `pair`.
async fn meets(client: &TlsClient, service: &Service, pair: &Pair) {
    soon("the new certificate", async {
        while client.open(service.address).await.1.certificate != pair.certificate_der() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_new_pair_is_taken_up_for_new_connections_and_an_old_one_lives_on() {
    let authority = Authority::new();
    let (first, second) = (authority.server(), authority.server());
    let (_upstream, service) = start(&first, None).await;
    let client = TlsClient::new(&authority, None);
    let (old, met) = client.open(service.address).await;
    assert_eq!(met.certificate, first.certificate_der());

    let [certificate, key, _] = service.tls_files();
    second.write(&certificate, &key);
    meets(&client, &service, &second).await;
    assert_eq!(old.cancel(NAME, &[]).await.code(), Code::Ok);
}

#[tokio::test]
async fn half_a_pair_and_a_broken_one_leave_the_old_in_force_until_the_other_half_comes() {
    let authority = Authority::new();
    let (first, second, third) = (authority.server(), authority.server(), authority.server());
    let (_upstream, service) = start(&first, None).await;
    let client = TlsClient::new(&authority, None);
    let [certificate, key, _] = service.tls_files();

    replace(&certificate, "-----BEGIN CERTIFICATE-----");
    replace(&certificate, &second.certificate);
    // Longer than a file goes unseen: were half a pair taken up, it would have been by now.
    let seen = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
    while tokio::time::Instant::now() < seen {
        assert_eq!(client.open(service.address).await.1.certificate, first.certificate_der());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    replace(&key, &second.key);
    meets(&client, &service, &second).await;
    third.write(&certificate, &key);
    meets(&client, &service, &third).await;
}

#[tokio::test]
async fn a_new_authority_of_clients_holds_for_all_new_connections_sessions_or_not() {
    let (old, new) = (Authority::new(), Authority::new());
    let server = old.server();
    let (_upstream, service) = start(&server, Some(&old)).await;
    let of_old = TlsClient::new(&old, Some(&old.console()));
    let of_new = TlsClient::new(&old, Some(&new.console()));
    let (kept, _) = of_old.open(service.address).await;
    assert_eq!(kept.cancel(NAME, &[]).await.code(), Code::Ok);
    assert!(soon("a refusal", of_new.refused(service.address)).await.contains("UnknownCA"));

    let [_, _, ca] = service.tls_files();
    replace(&ca, &new.pem());
    soon("the new authority", async {
        loop {
            let (wire, _) = of_new.open(service.address).await;
            if wire.try_cancel(NAME).await {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(soon("a refusal", of_old.refused(service.address)).await.contains("UnknownCA"));
    assert_eq!(kept.cancel(NAME, &[]).await.code(), Code::Ok, "what stands, stands");
}
