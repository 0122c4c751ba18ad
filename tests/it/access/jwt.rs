//! Callers with a bearer token.

use serde_json::{Value, json};

use crate::{
    access::{
        BEARER,
        fixture::{Fixture, permit_only},
    },
    support::{
        issuer::{Key, claims, encoded, key_set, kubernetes_claims, time},
        service::Setup,
    },
};

/// The value of an `authorization` header.
pub(crate) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// Configures the service to accept tokens that `key` signed. The key set has it as `a`.
pub(crate) fn accept_tokens_of(setup: Setup, key: &Key) -> Setup {
    setup.jwt_key_set(&key_set([key.jwk(Some("a"))]))
}

#[tokio::test]
async fn a_token_of_any_key_of_the_issuer_identifies_its_caller() {
    let (rsa, ec) = (Key::rsa(), Key::ec());
    let keys = key_set([rsa.jwk(Some("rsa")), ec.jwk(Some("ec"))]);
    let policy = permit_only(&[("bearer", BEARER)]);
    let fixture = Fixture::start(|setup| setup.jwt_key_set(&keys).policy(&policy)).await;
    let connection = fixture.service.wire().await;
    let mut other = claims();
    other["sub"] = "other".into();
    for (key, id, algorithm) in [(&rsa, "rsa", "RS256"), (&ec, "ec", "ES256")] {
        assert_eq!(key.algorithm(), algorithm);
        let token = bearer(&key.token(Some(id), &claims()));
        fixture.cancel(&connection, &[("authorization", &token)]).await.assert_allowed(
            BEARER,
            "jwt",
            &["bearer"],
        );
        let token = bearer(&key.token(Some(id), &other));
        let caller = "jwt:https://issuer.example#other";
        fixture.cancel(&connection, &[("authorization", &token)]).await.assert_denied(caller, "jwt", &[]);
    }
    fixture.cancel(&connection, &[]).await.assert_denied("anonymous", "none", &[]);
}

#[tokio::test]
async fn kubernetes_claims_are_attributes_and_tags_of_the_caller() {
    let key = Key::rsa();
    let policy = r#"
        @id("namespace") permit (principal, action, resource)
          when { principal has namespace && principal.namespace == "mdm" }
          when { principal has service_account && principal.service_account == "console" };
        @id("not-on-n2") forbid (principal, action, resource)
          when { principal.hasTag("kubernetes.io/node/name") && principal.getTag("kubernetes.io/node/name").contains("n2") };
    "#;
    let fixture = Fixture::start(|setup| accept_tokens_of(setup, &key).policy(policy)).await;
    let connection = fixture.service.wire().await;
    let with = |path: &str, value: &str| {
        let mut claims = kubernetes_claims();
        *claims.pointer_mut(path).unwrap() = value.into();
        bearer(&key.token(Some("a"), &claims))
    };
    let caller = "jwt:https://issuer.example#system:serviceaccount:mdm:console";
    for (token, policies) in [
        (with("/kubernetes.io/node/name", "n1"), Ok(["namespace"])),
        (with("/kubernetes.io/node/name", "n2"), Err(&["not-on-n2"][..])),
        (with("/kubernetes.io/namespace", "hr"), Err(&[])),
        (with("/kubernetes.io/serviceaccount/name", "other"), Err(&[])),
    ] {
        let call = fixture.cancel(&connection, &[("authorization", &token)]).await;
        match policies {
            Ok(policies) => call.assert_allowed(caller, "jwt", &policies),
            Err(policies) => call.assert_denied(caller, "jwt", policies),
        }
    }
}

#[tokio::test]
async fn an_invalid_token_is_refused_although_the_policy_permits_all_callers() {
    let (key, unknown_key) = (Key::ec(), Key::ec());
    let fixture = Fixture::start(|setup| {
        accept_tokens_of(setup, &key).policy("@id(\"all\") permit (principal, action, resource);")
    })
    .await;
    let connection = fixture.service.wire().await;
    let without = |claim: &str| {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(claim).unwrap();
        key.token(Some("a"), &claims)
    };
    let with = |claim: &str, value: Value| {
        let mut claims = claims();
        claims[claim] = value;
        key.token(Some("a"), &claims)
    };
    let valid = key.token(Some("a"), &claims());
    let (message, signature) = valid.rsplit_once('.').unwrap();
    let unsigned = format!("{}.{}.", encoded(br#"{"alg":"none"}"#), encoded(claims().to_string().as_bytes()));
    for token in [
        String::new(),
        "opaque".to_owned(),
        unsigned,
        format!("{message}."),
        format!("{message}.{}", encoded(&[0; 64])),
        // The signature belongs to other claims.
        format!("{}.{signature}", with("sub", "root".into()).rsplit_once('.').unwrap().0),
        unknown_key.token(Some("a"), &claims()),
        unknown_key.token(None, &claims()),
        key.token(Some("b"), &claims()),
        key.sign(&json!({"alg": "HS256", "kid": "a"}), &claims().to_string()),
        key.sign(&json!({"alg": "RS256", "kid": "a"}), &claims().to_string()),
        key.sign(&json!({"alg": "ES256", "kid": "a", "crit": ["b64"], "b64": false}), &claims().to_string()),
        without("exp"),
        without("iss"),
        without("aud"),
        without("sub"),
        with("exp", time(-3600).into()),
        with("exp", "tomorrow".into()),
        with("nbf", time(3600).into()),
        with("iss", "https://issuer.example/".into()),
        with("iss", json!(["https://issuer.example"])),
        with("aud", "another".into()),
        with("aud", json!(["another", "countermand2"])),
        with("aud", json!([])),
    ] {
        let call = fixture.cancel(&connection, &[("authorization", &bearer(&token))]).await;
        call.assert_unauthenticated("INVALID_TOKEN");
    }
    let two = [("authorization", &*bearer(&valid)), ("authorization", &*bearer(&valid))];
    fixture.cancel(&connection, &two).await.assert_unauthenticated("INVALID_TOKEN");
    let valid = bearer(&valid);
    fixture.cancel(&connection, &[("authorization", &valid)]).await.assert_allowed(BEARER, "jwt", &["all"]);
    // Another authentication scheme is ignored.
    fixture.cancel(&connection, &[("authorization", "Basic YTpi")]).await.assert_allowed(
        "anonymous",
        "none",
        &["all"],
    );
}
