//! What an endpoint may answer, over real sockets.

use std::{net::SocketAddr, path::PathBuf};

use axum::{Router, http::HeaderMap, response::Redirect, routing::get};

use super::{Endpoint, FetchError, MAX_BODY, Source};
use crate::http_client::{BodyError, Progress};

/// A server of key sets and of worse, on loopback. It ends with its test's runtime.
async fn serve() -> SocketAddr {
    let router = Router::new()
        .route("/jwks", get(|| async { "{\"keys\": []}" }))
        .route("/redirect", get(|| async { Redirect::temporary("/jwks") }))
        .route("/long", get(|| async { "x".repeat(MAX_BODY + 1) }))
        .route("/longest", get(|| async { "x".repeat(MAX_BODY) }))
        .route(
            "/echo",
            get(|headers: HeaderMap| async move {
                ["accept", "authorization"].map(|name| headers[name].to_str().unwrap().to_owned()).join(" | ")
            }),
        );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn fetch(address: SocketAddr, path: &str, token_file: Option<PathBuf>) -> Result<Vec<u8>, FetchError> {
    let url = format!("http://{address}{path}").parse().unwrap();
    Endpoint::new(url, None, token_file).unwrap().fetch().await
}

#[tokio::test]
async fn only_200_of_a_sane_length_is_an_answer() {
    let address = serve().await;
    assert_eq!(fetch(address, "/jwks", None).await.unwrap(), b"{\"keys\": []}");
    assert_eq!(fetch(address, "/longest", None).await.unwrap().len(), MAX_BODY);
    let long = fetch(address, "/long", None).await.unwrap_err();
    assert!(matches!(long, FetchError::Body(BodyError::TooLong(MAX_BODY))), "{long}");
    for (path, status) in [("/none", 404), ("/redirect", 307)] {
        let error = fetch(address, path, None).await.unwrap_err();
        assert!(matches!(error, FetchError::Status(found) if found == status), "{path}: {error}");
    }
}

#[tokio::test]
async fn an_endpoint_that_is_down_says_so() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = fetch(address, "/jwks", None).await.unwrap_err();
    assert!(
        matches!(&error, FetchError::Unanswered(failure) if failure.progress == Progress::NotConnected),
        "{error}"
    );
}

#[tokio::test]
async fn the_token_is_read_anew_each_time_and_never_shown() {
    let address = serve().await;
    let room = tempfile::tempdir().unwrap();
    let file = room.path().join("token");
    for token in ["first", "second"] {
        std::fs::write(&file, format!("{token}\n")).unwrap();
        let seen = fetch(address, "/echo", Some(file.clone())).await.unwrap();
        let want = format!("application/jwk-set+json, application/json | Bearer {token}");
        assert_eq!(String::from_utf8(seen).unwrap(), want);
    }
    std::fs::write(&file, "hunter2\nhunter2").unwrap();
    let error = fetch(address, "/echo", Some(file.clone())).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    std::fs::remove_file(&file).unwrap();
    let error = fetch(address, "/echo", Some(file)).await.unwrap_err();
    assert!(error.to_string().contains("cannot be read"), "{error}");
}
