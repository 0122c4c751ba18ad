//! TLS to the upstream and the token endpoint.

use std::time::Duration;

use countermand::{
    background::Background,
    http_client::{HttpClient, LoadedAuthorities, ProxySettings},
};
use futures_util::future::join_all;
use http::{HeaderMap, Method, Version};
use tonic::Code;

use crate::{
    support::{
        details::assert_our_error,
        files::replace,
        reply::Reply,
        service::Setup,
        tls::{Authority, H2, HTTP1},
        upstream::Upstream,
        with_timeout,
    },
    wire::NAME,
};

#[tokio::test]
async fn the_configured_authority_is_trusted_for_the_api_and_the_token_endpoint() {
    let authority = Authority::new();
    for (protocols, version) in [
        (&[H2, HTTP1][..], Version::HTTP_2),
        (&[H2], Version::HTTP_2),
        (&[HTTP1], Version::HTTP_11),
        (&[], Version::HTTP_11),
    ] {
        let upstream = Upstream::start_tls(&authority, protocols).await;
        upstream.answers([Reply::ok(), Reply::plain_error(404, "NOT_FOUND", "Gone.")]);
        let service = Setup::of(&upstream).ca(&authority.pem()).start().await;
        service.cancel(NAME).await.unwrap();
        assert_eq!(service.cancel(NAME).await.unwrap_err().message(), "Gone.");

        let requests = upstream.requests();
        assert_eq!(requests[0].version, version, "{protocols:?}");
        assert_eq!(requests[0].path, format!("/v1/{NAME}:cancel"));
        assert_eq!(requests[0].headers["content-length"], "0");
        assert_eq!(requests[0].headers["authorization"], "Bearer t1");
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_not_trusted() {
    let (ours, another) = (Authority::new(), Authority::new());
    let tokens = Upstream::start().await;
    let upstream = Upstream::start_tls(&another, &[H2, HTTP1]).await;
    for setup in [
        Setup::with_token_endpoint(&tokens, upstream.url()),
        Setup::with_token_endpoint(&tokens, upstream.url()).ca(&ours.pem()),
    ] {
        let service = setup.start().await;
        let status = service.cancel(NAME).await.unwrap_err();
        assert_our_error(&status, Code::Unavailable, "UPSTREAM_UNREACHABLE");
    }
    assert!(upstream.connections() > 0);
}

#[tokio::test]
async fn a_ca_file_that_changes_right_after_it_was_read_is_reloaded() {
    let (old, new) = (Authority::new(), Authority::new());
    let upstream = Upstream::start_tls(&new, &[H2]).await;
    upstream.always_answers(Reply::ok());
    let url: url::Url = upstream.url().parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    replace(&ca, &old.pem());
    let client = HttpClient::new(
        &url,
        &LoadedAuthorities::load(Some(ca.clone())).unwrap().start(&Background::unsupervised()),
        &ProxySettings::default(),
    )
    .unwrap();
    // The runtime has one thread, so no other task has run since the file was read.
    replace(&ca, &new.pem());
    with_timeout("the new authority", async {
        let get = || client.send(Method::GET, url.clone(), HeaderMap::new(), "");
        while get().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_old_authorities_stay_active_for_new_clients_while_the_file_is_invalid() {
    let (old, new) = (Authority::new(), Authority::new());
    let upstreams = [Upstream::start_tls(&old, &[H2]).await, Upstream::start_tls(&new, &[H2]).await];
    let urls: [url::Url; 2] = [0, 1].map(|nth: usize| {
        upstreams[nth].always_answers(Reply::ok());
        upstreams[nth].url().parse().unwrap()
    });
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    replace(&ca, &old.pem());
    let authorities = LoadedAuthorities::load(Some(ca.clone())).unwrap().start(&Background::unsupervised());
    replace(&ca, "no certificate");
    let get = async |client: &HttpClient, url: &url::Url| {
        client.send(Method::GET, url.clone(), HeaderMap::new(), "").await.is_ok()
    };
    let clients =
        urls.each_ref().map(|url| HttpClient::new(url, &authorities, &ProxySettings::default()).unwrap());
    assert!(get(&clients[0], &urls[0]).await, "the client trusts the authority from before");
    assert!(!get(&clients[1], &urls[1]).await, "the client does not trust another authority");

    replace(&ca, &new.pem());
    with_timeout("the new authority", async {
        while !get(&clients[1], &urls[1]).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let later = HttpClient::new(&urls[1], &authorities, &ProxySettings::default()).unwrap();
    assert!(get(&later, &urls[1]).await, "a client that is made later trusts the new authority");
}

#[tokio::test]
async fn an_untrusted_token_endpoint_gets_no_assertion() {
    let upstream = Upstream::start().await;
    let tokens = Upstream::start_tls(&Authority::new(), &[H2, HTTP1]).await;
    let service = Setup::with_token_endpoint(&tokens, upstream.url()).start_without_token().await;
    let status = service.cancel(NAME).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(tokens.token_requests(), 0);
    assert!(tokens.connections() > 0);
}

#[tokio::test]
async fn over_http2_a_truncated_error_is_unavailable_and_a_truncated_2xx_is_a_cancel() {
    let authority = Authority::new();
    let upstream = Upstream::start_tls(&authority, &[H2]).await;
    let error = Reply::plain_error(404, "NOT_FOUND", "Gone.");
    upstream.answers([
        error.with_truncated_body(),
        Reply::ok().with_truncated_body(),
        Reply::ok().with_hanging_body(),
    ]);
    let service = Setup::of(&upstream).ca(&authority.pem()).start().await;
    let status = service.cancel(NAME).await.unwrap_err();
    assert_our_error(&status, Code::Unavailable, "UPSTREAM_UNREACHABLE");
    service.cancel(NAME).await.unwrap();
    service.cancel(NAME).await.unwrap();
}

#[tokio::test]
async fn many_calls_share_one_http2_connection() {
    let authority = Authority::new();
    let upstream = Upstream::start_tls(&authority, &[H2]).await;
    upstream.always_answers(Reply::ok());
    let service = Setup::of(&upstream).ca(&authority.pem()).start().await;
    service.cancel(NAME).await.unwrap();
    let before = upstream.connections();
    for n in 0..20 {
        service.cancel(&format!("{NAME}{n}")).await.unwrap();
    }
    assert_eq!(upstream.connections(), before);
}

#[tokio::test]
async fn a_burst_after_a_ca_reload_opens_one_connection() {
    const BURST: usize = 20;
    const RELOADS: usize = 3;
    let (authority, tokens) = (Authority::new(), Upstream::start().await);
    let upstream = Upstream::start_tls(&authority, &[H2]).await;
    upstream.always_answers(Reply::ok());
    let setup = Setup::with_token_endpoint(&tokens, upstream.url()).ca(&authority.pem());
    let service = setup.start().await;
    let names: Vec<String> = (0..BURST).map(|id| format!("{NAME}{id}")).collect();
    let burst = async || {
        for result in join_all(names.iter().map(|name| service.cancel(name))).await {
            result.unwrap();
        }
        upstream.connections()
    };
    service.cancel(NAME).await.unwrap();
    assert_eq!(burst().await, 1);

    // On a slow machine, connecting may take longer than requests queue behind a connecting request.
    let mut fewest = usize::MAX;
    for _ in 0..RELOADS {
        let before = upstream.connections();
        replace(&service.ca_file(), &[authority.pem(), Authority::new().pem()].concat());
        let after = with_timeout("a connection that trusts the reloaded authorities", async {
            loop {
                let connections = burst().await;
                if connections > before {
                    return connections;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        fewest = fewest.min(after - before);
        if fewest == 1 {
            return;
        }
    }
    panic!("{fewest} connections for {BURST} requests");
}
