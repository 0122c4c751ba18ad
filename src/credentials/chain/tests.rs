use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rcgen::{KeyPair, PublicKeyData};
use serde_json::{Value, json};

use super::Chain;
use crate::credentials::{
    FetchErrorKind, Kind, SCOPE, TokenService,
    testing::{
        CLIENT_SECRET, REFRESH_TOKEN, Reply, Server, TARGET, TARGET_PATH, authorized_user, bearer,
        external_account, fetch, load, load_error, service_account,
    },
};

#[tokio::test]
async fn a_service_account_signs_for_its_token() {
    let server = Server::start([Reply::token("ya29.robot")]).await;
    let token = fetch(&service_account(&server.url)).await.expect("a token");
    assert_eq!((bearer(&token).as_str(), token.quota_project()), ("Bearer ya29.robot", None));
    let [seen] = &server.seen()[..] else { panic!("one request") };
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/token"));
    let form = seen.form();
    assert_eq!(form[0].1, "urn:ietf:params:oauth:grant-type:jwt-bearer");
    assert_eq!(form[1].0, "assertion");
    let parts: Vec<_> = form[1].1.split('.').map(|part| BASE64_URL_SAFE_NO_PAD.decode(part)).collect();
    let [Ok(header), Ok(claims), Ok(signature)] = &parts[..] else { panic!("no padding: {form:?}") };
    let header: Value = serde_json::from_slice(header).expect("JSON");
    assert_eq!(header, json!({"alg": "RS256", "typ": "JWT"}));
    let claims: Value = serde_json::from_slice(claims).expect("JSON");
    assert_eq!(claims.get("sub"), None, "absent, not null");
    let seconds = |claim: &str| claims[claim].as_i64().expect("seconds");
    assert!((0..=3600).contains(&(seconds("exp") - seconds("iat"))), "{claims}");
    assert_eq!(claims["iss"], "robot@p.iam.gserviceaccount.com");
    assert_eq!(claims["scope"], SCOPE);
    assert_eq!(claims["aud"], format!("{}/token", server.url));
    let pem = service_account("")["private_key"].as_str().expect("a key").to_owned();
    let public = KeyPair::from_pem(&pem).expect("a key");
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public.der_bytes().to_vec());
    let signed = form[1].1.rsplit_once('.').expect("three parts").0;
    public.verify(signed.as_bytes(), signature).expect("a valid signature");
}

#[tokio::test]
async fn a_login_is_refreshed_at_the_token_endpoint_of_its_file() {
    let server = Server::start([Reply::token("ya29.person")]).await;
    let mut credential = authorized_user(&server.url);
    credential["quota_project_id"] = json!("billed");
    let token = fetch(&credential).await.expect("a token");
    assert_eq!(bearer(&token), "Bearer ya29.person");
    assert_eq!(token.quota_project().expect("a project"), "billed");
    let [seen] = &server.seen()[..] else { panic!("one request") };
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/token"));
    let mut form = seen.form();
    form.sort();
    let form: Vec<_> = form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        form,
        [
            ("client_id", "gcloud.apps.googleusercontent.com"),
            ("client_secret", CLIENT_SECRET),
            ("grant_type", "refresh_token"),
            ("refresh_token", REFRESH_TOKEN),
        ]
    );
}

#[tokio::test]
async fn a_revoked_login_is_a_permanent_error_without_its_secrets() {
    let description = format!("Bad {REFRESH_TOKEN} or {CLIENT_SECRET}");
    let body = json!({"error": "invalid_grant", "error_description": description});
    let replies = [Reply::new(400, body.to_string()), Reply::new(200, "<html>"), Reply::new(200, "{}")];
    let server = Server::start(replies).await;
    let credential = authorized_user(&server.url);
    for (text, is_permanent) in [
        ("the token endpoint answered HTTP 400: invalid_grant Bad [left out] or [left out]", true),
        ("the token endpoint answered with something that is not JSON", false),
        ("the token endpoint answered without an access_token", false),
    ] {
        let error = fetch(&credential).await.expect_err("no token");
        assert_eq!((error.to_string().as_str(), error.is_permanent()), (text, is_permanent));
    }
    server.seen();
}

#[tokio::test]
async fn other_members_beside_a_token_are_ignored() {
    for beside in [r#""id_token": 7"#, r#""id_token": "no JWT""#, r#""refresh_token": []"#, r#""scope": {}"#]
    {
        let body =
            format!(r#"{{"access_token": "ya29.a", "expires_in": 3600, "token_type": "Bearer", {beside}}}"#);
        let server = Server::start([Reply::new(200, body.clone()), Reply::new(200, body)]).await;
        for credential in [service_account(&server.url), authorized_user(&server.url)] {
            let token = fetch(&credential).await.unwrap_or_else(|error| panic!("{beside}: {error}"));
            assert_eq!(bearer(&token), "Bearer ya29.a");
        }
        server.seen();
    }
}

#[tokio::test]
async fn an_error_beside_a_token_makes_the_response_unusable() {
    let body = r#"{"access_token": "ya29.a", "expires_in": 3600, "error": "invalid_scope"}"#;
    let server = Server::start([Reply::new(200, body)]).await;
    let error = fetch(&service_account(&server.url)).await.expect_err("both");
    assert_eq!((error.kind, error.service), (FetchErrorKind::Unusable, Some(TokenService::TokenEndpoint)));
    assert_eq!(error.to_string(), "the token endpoint answered a token and an error: invalid_scope");
    server.seen();
}

#[tokio::test]
async fn an_echoed_form_is_redacted() {
    let mut login = authorized_user("");
    login["client_secret"] = json!("GOCSPX-AbCdEfGhIjKlMnOpQrSt");
    login["refresh_token"] = json!("1//0gAbCdEfGhIjKlMnOpQrStUvWxYz0123456789");
    let echoed = "refresh_token=1%2F%2F0gAbCdEfGhIjKlMnOpQrStUvWxYz0123456789 and client_secret=GOCSPX-AbCdEfGhIjKlMnOpQrSt";
    let body = json!({"error": "invalid_grant", "error_description": echoed});
    let server = Server::start([Reply::new(400, body.to_string())]).await;
    login["token_uri"] = json!(format!("{}/token", server.url));
    let error = fetch(&login).await.expect_err("refused").to_string();
    let expected =
        "the token endpoint answered HTTP 400: invalid_grant refresh_token=1%2F%[left out] and [left out]";
    assert_eq!(error, expected);
    server.seen();
}

#[test]
fn the_type_of_a_file_selects_the_accounts() {
    let url = "https://example.com";
    let login = authorized_user(url);
    let target = format!("{url}{TARGET_PATH}");
    let mut workload = external_account(url, "/token".as_ref());
    let federated = workload.clone();
    workload["service_account_impersonation_url"] = json!(target);
    let impersonated = json!({"type": "impersonated_service_account",
        "service_account_impersonation_url": target, "source_credentials": workload});
    for (file, kind, principal, endpoint) in [
        (service_account(url), Kind::ServiceAccount, "robot@p.iam.gserviceaccount.com", "/token"),
        (login, Kind::AuthorizedUser, "gcloud.apps.googleusercontent.com", "/token"),
        (
            federated,
            Kind::ExternalAccount,
            "workload identity of \
             //iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/k8s",
            "/sts",
        ),
        (workload, Kind::ExternalAccount, TARGET, "/sts"),
        (impersonated, Kind::ImpersonatedServiceAccount, TARGET, "/sts"),
    ] {
        let chain =
            Chain::parse(file.to_string().as_bytes()).unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert_eq!((chain.kind(), chain.principal()), (kind, Some(principal)));
        assert_eq!(chain.endpoint().as_str(), format!("{url}{endpoint}"));
    }
}

#[test]
fn a_login_without_a_token_endpoint_uses_that_of_google() {
    let mut login = authorized_user("");
    login.as_object_mut().expect("an object").remove("token_uri");
    let chain = Chain::parse(login.to_string().as_bytes()).expect("a login");
    assert_eq!(chain.endpoint().as_str(), "https://oauth2.googleapis.com/token");
}

#[test]
fn an_invalid_file_is_reported_by_its_member() {
    for (file, expected) in [
        (json!([]), "the file is no JSON object"),
        (
            json!({"installed": {"client_secret": "~"}}),
            r#"its "type" must be service_account, authorized_user"#,
        ),
        (json!({"type": 7}), r#"its "type" has the wrong type"#),
        (json!({"type": "~"}), r#"its "type" must be service_account, authorized_user, external_account or"#),
    ] {
        let error = load_error(&file);
        assert!(error.contains(expected), "{error}\nexpected: {expected}");
    }
    for (good, members) in [
        (service_account("https://example.com"), &["client_email", "private_key", "token_uri"][..]),
        (authorized_user("https://example.com"), &["client_id", "client_secret", "refresh_token"]),
    ] {
        for member in members {
            for invalid in [json!(null), json!(""), json!(["~"])] {
                let mut file = good.clone();
                file[member] = invalid;
                let error = load_error(&file);
                assert!(error.contains(&format!("its \"{member}\" ")), "{error}");
            }
        }
        let mut file = good.clone();
        file["token_uri"] = json!("http://example.com/~");
        assert!(load_error(&file).contains("its \"token_uri\" must be an https URL"));
    }
    let mut file = service_account("https://example.com");
    file["private_key"] = json!("-----BEGIN PRIVATE KEY-----\n~\n-----END PRIVATE KEY-----\n");
    assert!(load_error(&file).contains("its \"private_key\" must be an RSA key in PEM"));
}

#[test]
fn another_universe_is_refused_at_any_depth_of_a_file() {
    let workload = external_account("https://example.com", "/token".as_ref());
    let impersonated = json!({"type": "impersonated_service_account",
        "service_account_impersonation_url": format!("https://example.com{TARGET_PATH}"),
        "source_credentials": authorized_user("https://example.com")});
    for mut file in [
        service_account("https://example.com"),
        authorized_user("https://example.com"),
        workload,
        impersonated,
    ] {
        for domain in [json!("googleapis.com"), json!(""), json!(null)] {
            file["universe_domain"] = domain;
            assert!(load(&file, None).is_ok(), "{file}");
        }
        file["universe_domain"] = json!("~.example");
        let error = load_error(&file);
        assert!(error.contains(r#"its "universe_domain" must be googleapis.com"#), "{error}");
    }
    let mut inner = service_account("https://example.com");
    inner["universe_domain"] = json!("~.example");
    let outer = json!({"type": "impersonated_service_account",
        "service_account_impersonation_url": format!("https://example.com{TARGET_PATH}"),
        "source_credentials": inner});
    let error = load_error(&outer);
    assert!(error.contains(r#"its "source_credentials.universe_domain" must be"#), "{error}");
}
