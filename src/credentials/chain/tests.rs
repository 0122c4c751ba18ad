use serde_json::json;

use super::Chain;
use crate::credentials::{
    Asked, FetchError, Kind,
    testing::{
        CLIENT_SECRET, REFRESH_TOKEN, Reply, Server, TARGET, TARGET_PATH, authorised_user, bearer,
        external_account, fault, fetch, service_account,
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
    assert!(form[1].0 == "assertion" && form[1].1.starts_with("eyJ"), "{form:?}");
}

#[tokio::test]
async fn a_login_is_refreshed_at_the_endpoint_that_its_file_names() {
    let server = Server::start([Reply::token("ya29.person")]).await;
    let mut credential = authorised_user(&server.url);
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
async fn a_login_that_was_revoked_is_refused_for_good_and_not_quoted() {
    let said = format!("Bad {REFRESH_TOKEN} or {CLIENT_SECRET}");
    let body = json!({"error": "invalid_grant", "error_description": said});
    let answers = [Reply::new(400, body.to_string()), Reply::new(200, "<html>"), Reply::new(200, "{}")];
    let server = Server::start(answers).await;
    let credential = authorised_user(&server.url);
    for (told, for_good) in [
        ("the token endpoint answered HTTP 400: invalid_grant Bad [left out] or [left out]", true),
        ("the token endpoint answered with something that is not JSON", false),
        ("the token endpoint answered without an access_token", false),
    ] {
        let error = fetch(&credential).await.expect_err("no token");
        assert_eq!((error.to_string().as_str(), error.is_for_good()), (told, for_good));
    }
    server.seen();
}

#[tokio::test]
async fn what_comes_beside_a_token_is_nobodys_concern() {
    for beside in [r#""id_token": 7"#, r#""id_token": "no JWT""#, r#""refresh_token": []"#, r#""scope": {}"#]
    {
        let body =
            format!(r#"{{"access_token": "ya29.a", "expires_in": 3600, "token_type": "Bearer", {beside}}}"#);
        let server = Server::start([Reply::new(200, body.clone()), Reply::new(200, body)]).await;
        for credential in [service_account(&server.url), authorised_user(&server.url)] {
            let token = fetch(&credential).await.unwrap_or_else(|error| panic!("{beside}: {error}"));
            assert_eq!(bearer(&token), "Bearer ya29.a");
        }
        server.seen();
    }
}

#[tokio::test]
async fn an_error_beside_a_token_is_the_endpoints_fault() {
    let body = r#"{"access_token": "ya29.a", "expires_in": 3600, "error": "invalid_scope"}"#;
    let server = Server::start([Reply::new(200, body)]).await;
    let error = fetch(&service_account(&server.url)).await.expect_err("both");
    assert!(matches!(error, FetchError::Unusable(Some(Asked::TokenEndpoint), _)), "{error:?}");
    assert_eq!(error.to_string(), "the token endpoint answered a token and an error: invalid_scope");
    server.seen();
}

#[tokio::test]
async fn a_form_that_is_quoted_as_it_was_sent_tells_nothing() {
    let mut login = authorised_user("");
    login["client_secret"] = json!("CS-98/76+x");
    login["refresh_token"] = json!("1//RSE/CRET");
    let said = "refresh_token=1%2F%2FRSE%2fCRET and client_secret=CS-98%2F76%2Bx of client";
    let body = json!({"error": "invalid_grant", "error_description": said});
    let server = Server::start([Reply::new(400, body.to_string())]).await;
    login["token_uri"] = json!(format!("{}/token", server.url));
    let error = fetch(&login).await.expect_err("refused").to_string();
    let told = "the token endpoint answered HTTP 400: invalid_grant [left out] and [left out] of client";
    assert_eq!(error, told);
    server.seen();
}

#[test]
fn a_file_is_what_its_type_says() {
    let url = "https://example.com";
    let login = authorised_user(url);
    let target = format!("{url}{TARGET_PATH}");
    let mut workload = external_account(url, "/token".as_ref());
    let federated = workload.clone();
    workload["service_account_impersonation_url"] = json!(target);
    let impersonated = json!({"type": "impersonated_service_account",
        "service_account_impersonation_url": target, "source_credentials": workload});
    for (file, kind, principal, endpoint) in [
        (service_account(url), Kind::ServiceAccount, "robot@p.iam.gserviceaccount.com", "/token"),
        (login, Kind::AuthorisedUser, "gcloud.apps.googleusercontent.com", "/token"),
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
fn a_login_without_an_endpoint_is_refreshed_at_googles() {
    let mut login = authorised_user("");
    login.as_object_mut().expect("an object").remove("token_uri");
    let chain = Chain::parse(login.to_string().as_bytes()).expect("a login");
    assert_eq!(chain.endpoint().as_str(), "https://oauth2.googleapis.com/token");
}

#[test]
fn a_file_that_is_none_is_told_what_is_wrong() {
    for (file, told) in [
        (json!([]), "is no JSON object"),
        (
            json!({"installed": {"client_secret": "~"}}),
            r#"its "type" must be service_account, authorized_user"#,
        ),
        (json!({"type": 7}), r#"its "type" must be a text"#),
        (json!({"type": "~"}), r#"its "type" must be service_account, authorized_user, external_account or"#),
    ] {
        let fault = fault(&file);
        assert!(fault.contains(told), "{fault}\nshould tell {told}");
    }
    for (good, members) in [
        (service_account("https://example.com"), &["client_email", "private_key", "token_uri"][..]),
        (authorised_user("https://example.com"), &["client_id", "client_secret", "refresh_token"]),
    ] {
        for member in members {
            for wrong in [json!(null), json!(""), json!(["~"])] {
                let mut file = good.clone();
                file[member] = wrong;
                let fault = fault(&file);
                assert!(fault.contains(&format!("its \"{member}\" ")), "{fault}");
            }
        }
        let mut file = good.clone();
        file["token_uri"] = json!("http://example.com/~");
        assert!(fault(&file).contains("its \"token_uri\" must be an https URL"));
    }
    let mut file = service_account("https://example.com");
    file["private_key"] = json!("-----BEGIN PRIVATE KEY-----\n~\n-----END PRIVATE KEY-----\n");
    assert!(fault(&file).contains("its \"private_key\" must be an RSA key in PEM"));
}
