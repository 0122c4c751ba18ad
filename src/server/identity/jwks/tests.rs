//! Tests of parsing key sets, and of fetching them over real sockets.

use std::{net::SocketAddr, path::PathBuf};

use axum::{Router, http::HeaderMap, response::Redirect, routing::get};
use serde_json::{Value, json};

use super::{Algorithm, InvalidKeySet, JwksEndpoint, JwksFetchError, KeySet, KeySource, MAX_BODY};
use crate::{
    background::Background,
    http_client::{BodyError, LoadedAuthorities, Progress, ProxySettings},
    server::identity::issuer::{Key, key_set},
};

/// The names of the algorithms of the only key of a set, `jwk`.
fn algorithms(jwk: Value) -> Vec<String> {
    match KeySet::parse(key_set([jwk]).as_bytes(), &Algorithm::ALL) {
        Ok(set) => set.keys[0].algorithms.iter().map(ToString::to_string).collect(),
        Err(InvalidKeySet::NoKey) => Vec::new(),
        Err(error) => panic!("{error}"),
    }
}

fn with(mut jwk: Value, name: &str, value: Value) -> Value {
    jwk[name] = value;
    jwk
}

#[test]
fn the_algorithms_of_a_key_depend_on_its_type_and_fields() {
    let (rsa, ec, ed) = (Key::rsa().jwk(None), Key::ec().jwk(None), Key::ed().jwk(None));
    assert_eq!(algorithms(rsa.clone()), ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]);
    assert_eq!(algorithms(ec.clone()), ["ES256"]);
    assert_eq!(algorithms(ed), ["EdDSA"]);
    assert_eq!(algorithms(with(ec.clone(), "crv", json!("P-384"))), ["ES384"]);

    assert_eq!(algorithms(with(rsa.clone(), "alg", json!("PS384"))), ["PS384"]);
    assert_eq!(algorithms(with(rsa.clone(), "use", json!("sig"))).len(), 6);
    assert_eq!(algorithms(with(rsa.clone(), "key_ops", json!(["verify"]))).len(), 6);
    for (name, value) in [
        ("alg", json!("RSA-OAEP")),
        ("alg", json!("ES256")),
        ("alg", json!("none")),
        ("use", json!("enc")),
        ("key_ops", json!(["encrypt"])),
        ("n", json!("not base64!")),
        ("kty", json!("unknown")),
    ] {
        assert_eq!(algorithms(with(rsa.clone(), name, value.clone())), [""; 0], "{name}: {value}");
    }
    for curve in ["P-521", "Ed25519", "secp256k1"] {
        assert_eq!(algorithms(with(ec.clone(), "crv", json!(curve))), [""; 0], "{curve}");
    }
    // A symmetric key could also sign.
    assert_eq!(algorithms(json!({"kty": "oct", "alg": "HS256", "k": "c2VjcmV0"})), [""; 0]);
    assert_eq!(algorithms(json!({"kty": "oct", "k": "c2VjcmV0"})), [""; 0]);
}

#[test]
fn unusable_keys_of_a_set_are_ignored() {
    let set = key_set([
        json!({"kty": "oct", "k": "c2VjcmV0"}),
        json!("not a key"),
        json!({"kty": "OKP", "crv": "X25519", "x": "AA"}),
        Key::ec().jwk(Some("a")),
    ]);
    assert_eq!(KeySet::parse(set.as_bytes(), &Algorithm::ALL).unwrap().len(), 1);
    let only_rsa = ["RS256".parse().unwrap()];
    assert_eq!(KeySet::parse(set.as_bytes(), &only_rsa).unwrap_err(), InvalidKeySet::NoKey);
}

#[test]
fn a_text_that_is_not_a_key_set_is_an_error() {
    for (text, error) in [
        ("", InvalidKeySet::Form),
        ("<html>", InvalidKeySet::Form),
        ("[]", InvalidKeySet::Form),
        ("{}", InvalidKeySet::Form),
        ("{\"keys\": {}}", InvalidKeySet::Form),
        ("{\"keys\": []}", InvalidKeySet::NoKey),
    ] {
        assert_eq!(KeySet::parse(text.as_bytes(), &Algorithm::ALL).unwrap_err(), error, "{text}");
    }
}

#[test]
fn only_asymmetric_algorithms_are_supported() {
    for known in Algorithm::ALL {
        assert_eq!(known.to_string().parse(), Ok(known));
    }
    for name in ["HS256", "HS384", "HS512", "none", "None", "rs256", "", "RSA-OAEP"] {
        assert!(name.parse::<Algorithm>().is_err(), "{name}");
    }
}

#[test]
fn debug_prints_no_key() {
    let jwk = Key::ec().jwk(Some("a"));
    let set = KeySet::parse(key_set([jwk.clone()]).as_bytes(), &Algorithm::ALL).unwrap();
    assert!(!format!("{set:?}").contains(jwk["x"].as_str().unwrap()));
}

/// Serves a key set and invalid responses on loopback until the runtime ends.
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

async fn fetch(
    address: SocketAddr,
    path: &str,
    token_file: Option<PathBuf>,
) -> Result<Vec<u8>, JwksFetchError> {
    let url = format!("http://{address}{path}").parse().unwrap();
    JwksEndpoint::new(
        url,
        LoadedAuthorities::load(None).unwrap(),
        &ProxySettings::default(),
        token_file,
        &Background::unsupervised(),
    )
    .unwrap()
    .fetch()
    .await
}

#[tokio::test]
async fn only_a_200_with_a_short_body_is_accepted() {
    let address = serve().await;
    assert_eq!(fetch(address, "/jwks", None).await.unwrap(), b"{\"keys\": []}");
    assert_eq!(fetch(address, "/longest", None).await.unwrap().len(), MAX_BODY);
    let long = fetch(address, "/long", None).await.unwrap_err();
    assert!(matches!(long, JwksFetchError::Body(BodyError::TooLong(MAX_BODY))), "{long}");
    for (path, status) in [("/none", 404), ("/redirect", 307)] {
        let error = fetch(address, path, None).await.unwrap_err();
        assert!(matches!(error, JwksFetchError::Status(found) if found == status), "{path}: {error}");
    }
}

#[tokio::test]
async fn an_unreachable_endpoint_is_not_connected() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = fetch(address, "/jwks", None).await.unwrap_err();
    assert!(
        matches!(&error, JwksFetchError::NoResponse(error) if error.progress == Progress::NotConnected),
        "{error}"
    );
}

#[tokio::test]
async fn the_token_is_read_for_each_fetch_and_never_printed() {
    let address = serve().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
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
