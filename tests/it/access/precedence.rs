//! Callers with several credentials: the strongest identifies the caller, and an invalid one ends the call.

use crate::{
    access::{
        BEARER, CONSOLE,
        certificates::connect_with_certificate,
        fixture::{Fixture, permit_only},
        jwt::{accept_tokens_of, bearer},
        this_user,
    },
    support::{
        issuer::{Key, claims},
        tls::{Authority, uri},
    },
};

const FORWARDED: &str = "x-forwarded-client-cert";
const LINKERD: &str = "l5d-client-id";
const BEHIND: &str = "spiffe://corp.example/ns/mdm/sa/behind-a-proxy";

/// A service with a TLS listener and a unix socket. It accepts every kind of credential, and permits each caller.
async fn service(authority: &Authority, key: &Key) -> Fixture {
    let user = this_user();
    let policy =
        permit_only(&[("forwarded", BEHIND), ("certificate", CONSOLE), ("token", BEARER), ("unix", &user)]);
    Fixture::start(|setup| {
        accept_tokens_of(setup, key)
            .variable("COUNTERMAND_CALLERS_FORWARDED_CLIENT_CERT", "true")
            .variable("COUNTERMAND_CALLERS_LINKERD_CLIENT_ID", "true")
            .tls(&authority.server(), Some(authority))
            .policy(&policy)
            .unix()
    })
    .await
}

#[tokio::test]
async fn the_strongest_credential_identifies_the_caller() {
    let (authority, key) = (Authority::new(), Key::ec());
    let fixture = service(&authority, &key).await;
    let certified =
        connect_with_certificate(&fixture, &authority, &authority.client(vec![uri(CONSOLE)])).await;
    // A certificate without a name does not identify its caller.
    let uncertified = connect_with_certificate(&fixture, &authority, &authority.client(vec![])).await;
    let unix = fixture.service.wire_by_unix().await;
    let (token, element) = (bearer(&key.token(Some("a"), &claims())), format!("Hash=1;URI={BEHIND}"));
    let (token, forwarded) = (("authorization", &*token), (FORWARDED, &*element));
    let (linkerd, nameless) = ((LINKERD, BEHIND), (FORWARDED, "Hash=1"));
    let user = this_user();

    let by_proxy = (BEHIND, FORWARDED, "forwarded");
    let by_linkerd = (BEHIND, LINKERD, "forwarded");
    let by_certificate = (CONSOLE, "client-certificate", "certificate");
    let by_token = (BEARER, "jwt", "token");
    let by_user = (&*user, "unix-peer", "unix");
    for (connection, headers, (caller, proof, policy)) in [
        (&certified, &[][..], by_certificate),
        (&certified, &[forwarded], by_proxy),
        (&certified, &[linkerd], by_linkerd),
        (&certified, &[token], by_certificate),
        (&certified, &[token, forwarded], by_proxy),
        (&certified, &[token, linkerd], by_linkerd),
        (&certified, &[token, linkerd, forwarded], by_proxy),
        (&certified, &[token, nameless], by_certificate),
        (&uncertified, &[token], by_token),
        (&uncertified, &[token, forwarded], by_proxy),
        (&unix, &[], by_user),
        (&unix, &[forwarded], by_proxy),
        (&unix, &[linkerd], by_linkerd),
        (&unix, &[token], by_token),
        (&unix, &[token, forwarded], by_proxy),
        (&unix, &[token, linkerd, forwarded], by_proxy),
        (&unix, &[token, nameless], by_token),
        (&unix, &[nameless], by_user),
    ] {
        fixture.cancel(connection, headers).await.assert_allowed(caller, proof, &[policy]);
    }
    fixture.cancel(&uncertified, &[]).await.assert_denied("anonymous", "none", &[]);
}

#[tokio::test]
async fn an_invalid_credential_ends_the_call_despite_valid_ones() {
    let (authority, key) = (Authority::new(), Key::ec());
    let fixture = service(&authority, &key).await;
    let certified =
        connect_with_certificate(&fixture, &authority, &authority.client(vec![uri(CONSOLE)])).await;
    let unix = fixture.service.wire_by_unix().await;
    let (valid, invalid) = (key.token(Some("a"), &claims()), Key::ec().token(Some("a"), &claims()));
    let (valid, invalid, element) = (bearer(&valid), bearer(&invalid), format!("Hash=1;URI={BEHIND}"));
    let (valid, invalid) = (("authorization", &*valid), ("authorization", &*invalid));
    let (forwarded, linkerd) = ((FORWARDED, &*element), (LINKERD, BEHIND));
    let (malformed_forwarded, malformed_linkerd) = ((FORWARDED, "URI=\""), (LINKERD, "a b"));

    for connection in [&certified, &unix] {
        for with in [&[][..], &[forwarded], &[linkerd], &[forwarded, linkerd]] {
            let call = fixture.cancel(connection, &[with, &[invalid]].concat()).await;
            call.assert_unauthenticated("INVALID_TOKEN");
        }
        for with in [
            &[malformed_forwarded][..],
            &[malformed_forwarded, valid],
            &[malformed_forwarded, linkerd, valid],
            &[malformed_linkerd],
            &[malformed_linkerd, forwarded, valid],
        ] {
            fixture.cancel(connection, with).await.assert_unauthenticated("INVALID_FORWARDED_IDENTITY");
        }
        // The service may report either of two invalid credentials.
        let call = fixture.cancel(connection, &[malformed_forwarded, invalid]).await;
        assert_eq!(call.status().code(), tonic::Code::Unauthenticated);
    }
}

#[tokio::test]
async fn an_invalid_token_is_reported_before_an_invalid_deadline() {
    let (authority, key) = (Authority::new(), Key::ec());
    let fixture = service(&authority, &key).await;
    let unix = fixture.service.wire_by_unix().await;
    let call = fixture.cancel(&unix, &[("authorization", "Bearer x"), ("grpc-timeout", "soon")]).await;
    call.assert_unauthenticated("INVALID_TOKEN");
    let call = fixture.cancel(&unix, &[("grpc-timeout", "soon")]).await;
    assert_eq!(call.status().code(), tonic::Code::InvalidArgument);
    assert_eq!(call.line["caller"], this_user(), "{}", call.line);
    assert_eq!(call.line["decision"], "invalid");
}
