//! No log line at any level contains the credentials of callers.

use tonic::Code;

use super::ALL_LEVELS;
use crate::{
    lifecycle::{caller::connect, google::Google, service::Service},
    support::{
        issuer::{AUDIENCE, ISSUER, Key, claims, key_set},
        process::LIMIT,
    },
};
use countermand::proto::longrunning::{CancelOperationRequest, operations_client::OperationsClient};

/// A header part that does not identify the caller.
const HASH: &str = "0123456789abcdef0123456789abcdef";

/// Cancels with this header. Returns the code.
async fn cancel_with(service: &Service, header: &'static str, value: &str) -> Code {
    let mut client = OperationsClient::new(connect(service.address).await.unwrap());
    let name = "enterprises/LC01/devices/d1/operations/1".to_owned();
    let mut request = tonic::Request::new(CancelOperationRequest { name });
    request.metadata_mut().insert(header, value.parse().unwrap());
    let response = tokio::time::timeout(LIMIT, client.cancel_operation(request)).await.expect("a response");
    response.err().map_or(Code::Ok, |status| status.code())
}

#[tokio::test]
async fn caller_credentials_are_not_logged() {
    let (google, key) = (Google::start().await, Key::ec());
    let jwks = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(jwks.path(), key_set([key.jwk(Some("a"))])).unwrap();
    let service = Service::start_with(&google, |command| {
        command.env("RUST_LOG", ALL_LEVELS);
        command.env("COUNTERMAND_CALLERS_JWT_ISSUER", ISSUER);
        command.env("COUNTERMAND_CALLERS_JWT_AUDIENCE", AUDIENCE);
        command.env("COUNTERMAND_CALLERS_JWT_JWKS", jwks.path());
        command.env("COUNTERMAND_CALLERS_FORWARDED_CLIENT_CERT", "true");
    })
    .await;
    service.ready().await;

    let mut expired = claims();
    expired["exp"] = 1.into();
    let valid = key.token(Some("a"), &claims());
    let tokens = [
        (valid.clone(), Code::Ok),
        (key.token(Some("a"), &expired), Code::Unauthenticated),
        (key.token(Some("b"), &claims()), Code::Unauthenticated),
        ("opaque-token-of-a-caller".to_owned(), Code::Unauthenticated),
    ];
    for (token, code) in &tokens {
        assert_eq!(cancel_with(&service, "authorization", &format!("Bearer {token}")).await, *code);
    }
    for (header, code) in [
        (format!("Hash={HASH};DNS=a.example"), Code::Ok),
        (format!("Hash={HASH};DNS=\""), Code::Unauthenticated),
    ] {
        assert_eq!(cancel_with(&service, "x-forwarded-client-cert", &header).await, code);
    }

    service.process.signal(nix::sys::signal::Signal::SIGTERM);
    let ended = service.process.end().await;
    assert!(ended.stderr.contains("the bearer token has expired"), "the log has something to search");
    // Claims and signature are secrets separately.
    let parts = tokens.iter().flat_map(|(token, _)| token.split('.')).filter(|part| part.len() > 20);
    for secret in parts.chain([HASH]) {
        let line = ended.stderr.lines().chain(ended.stdout.lines()).find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret}");
    }
}
