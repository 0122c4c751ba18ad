//! Callers who show a token.

use serde_json::{Value, json};

use crate::{
    front_door::{
        BEARER,
        visit::{Door, only},
    },
    support::{
        issuer::{Key, claims, encoded, key_set, kubernetes_claims, time},
        service::Setup,
    },
};

/// A header with a token.
pub(crate) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// Believes the tokens of `key`, which the issuer calls `a`.
pub(crate) fn believes(setup: Setup, key: &Key) -> Setup {
    setup.tokens_by(&key_set([key.jwk(Some("a"))]))
}

#[tokio::test]
async fn a_bearer_is_whom_the_token_names_by_whatever_key_of_the_issuer() {
    let (rsa, ec) = (Key::rsa(), Key::ec());
    let keys = key_set([rsa.jwk(Some("rsa")), ec.jwk(Some("ec"))]);
    let policy = only(&[("bearer", BEARER)]);
    let door = Door::open(|setup| setup.tokens_by(&keys).policy(&policy)).await;
    let wire = door.service.wire().await;
    let mut other = claims();
    other["sub"] = "somebody".into();
    for (key, id, algorithm) in [(&rsa, "rsa", "RS256"), (&ec, "ec", "ES256")] {
        assert_eq!(key.algorithm(), algorithm);
        let token = bearer(&key.token(Some(id), &claims()));
        door.cancel(&wire, &[("authorization", &token)]).await.is_let_in(BEARER, "jwt", &["bearer"]);
        let token = bearer(&key.token(Some(id), &other));
        let caller = "jwt:https://issuer.example#somebody";
        door.cancel(&wire, &[("authorization", &token)]).await.is_denied(caller, "jwt", &[]);
    }
    door.cancel(&wire, &[]).await.is_denied("anonymous", "none", &[]);
}

#[tokio::test]
async fn a_workload_of_kubernetes_is_known_by_its_namespace_and_its_claims() {
    let key = Key::rsa();
    let policy = r#"
        @id("namespace") permit (principal, action, resource)
          when { principal has namespace && principal.namespace == "mdm" }
          when { principal has service_account && principal.service_account == "console" };
        @id("not-on-n2") forbid (principal, action, resource)
          when { principal.hasTag("kubernetes.io/node/name") && principal.getTag("kubernetes.io/node/name").contains("n2") };
    "#;
    let door = Door::open(|setup| believes(setup, &key).policy(policy)).await;
    let wire = door.service.wire().await;
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
        let visit = door.cancel(&wire, &[("authorization", &token)]).await;
        match policies {
            Ok(policies) => visit.is_let_in(caller, "jwt", &policies),
            Err(policies) => visit.is_denied(caller, "jwt", policies),
        }
    }
}

#[tokio::test]
async fn a_token_that_does_not_verify_is_refused_though_nobody_in_particular_might_call() {
    let (key, stranger) = (Key::ec(), Key::ec());
    let door = Door::open(|setup| {
        believes(setup, &key).policy("@id(\"all\") permit (principal, action, resource);")
    })
    .await;
    let wire = door.service.wire().await;
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
    let good = key.token(Some("a"), &claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let unsigned = format!("{}.{}.", encoded(br#"{"alg":"none"}"#), encoded(claims().to_string().as_bytes()));
    for token in [
        String::new(),
        "opaque".to_owned(),
        unsigned,
        format!("{message}."),
        format!("{message}.{}", encoded(&[0; 64])),
        // Another's claims under this signature.
        format!("{}.{signature}", with("sub", "root".into()).rsplit_once('.').unwrap().0),
        stranger.token(Some("a"), &claims()),
        stranger.token(None, &claims()),
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
        let visit = door.cancel(&wire, &[("authorization", &bearer(&token))]).await;
        visit.is_unauthenticated("INVALID_TOKEN");
    }
    let two = [("authorization", &*bearer(&good)), ("authorization", &*bearer(&good))];
    door.cancel(&wire, &two).await.is_unauthenticated("INVALID_TOKEN");
    let good = bearer(&good);
    door.cancel(&wire, &[("authorization", &good)]).await.is_let_in(BEARER, "jwt", &["all"]);
    // What is no bearer's token is no proof, and none of our business.
    door.cancel(&wire, &[("authorization", "Basic YTpi")]).await.is_let_in("anonymous", "none", &["all"]);
}
