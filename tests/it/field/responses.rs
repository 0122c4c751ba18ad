//! Responses of the API and of proxies before it, and the files of the configuration.

use std::time::{Duration, SystemTime};

use axum::{Router, extract::State, routing::get};
use countermand::{
    app::Config,
    config::{Flags, Variables},
    credentials::Machine,
    proto::longrunning::{GetOperationRequest, ListOperationsRequest},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch};
use tonic::Code;

use crate::{
    access::program::{ConfigDir, ConfigFiles},
    support::{
        account,
        details::assert_our_error,
        issuer::{Key, key_set},
        process::{countermand, eventually, run},
        reply::Reply,
        service::Setup,
        tls::Authority,
        upstream::Upstream,
    },
    wire::NAME,
};

/// Editors on Windows write it before the text.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// edrlab/thorium-reader #3857: a captive portal answered 200 with its own page, and the client took the page for the
/// response.
#[tokio::test]
async fn a_2xx_with_another_body_did_not_come_from_the_api() {
    let upstream = Upstream::start().await;
    upstream.answers([Reply::new(200, "text/html", "<html>Web Page Blocked</html>")]);
    let bodies = [
        "[]",
        "null",
        "\"ok\"",
        "{",
        "{\"a\": 1} {}",
        r#"{"error": null}"#,
        r#"{"error": "x"}"#,
        r#"{"error": {}}"#,
        r#"{"done": true, "error": []}"#,
    ];
    upstream.answers(bodies.map(|body| Reply::new(200, "application/json", body)));
    upstream.answers([Reply::new(200, "application/json", vec![b' '; 4 * 1024 * 1024 + 1])]);
    let service = Setup::of(&upstream).start().await;
    for _ in 0..bodies.len() + 2 {
        let status = service.cancel(NAME).await.unwrap_err();
        assert_our_error(&status, Code::Internal, "UPSTREAM_MALFORMED");
    }
    assert!(service.audit_log().iter().all(|line| line["code"] == "INTERNAL"));
}

/// googlemaps/google-maps-services-js #32: a 200 whose body was an error counted as a success.
#[tokio::test]
async fn a_2xx_with_an_error_object_is_that_error() {
    let upstream = Upstream::start().await;
    let error =
        |code: u16, status: &str| json!({"error": {"code": code, "status": status, "message": "No."}});
    let not_found = || Reply::json(200, &error(404, "NOT_FOUND"));
    upstream.answers([not_found(), not_found(), not_found()]);
    let service = Setup::of(&upstream).start().await;
    let mut client = service.client();
    let get = GetOperationRequest { name: NAME.to_owned() };
    let list = ListOperationsRequest { name: "enterprises/LC01/devices/d1".to_owned(), ..Default::default() };
    for status in [
        service.cancel(NAME).await.unwrap_err(),
        client.get_operation(get).await.unwrap_err(),
        client.list_operations(list).await.unwrap_err(),
    ] {
        assert_eq!((status.code(), status.message()), (Code::NotFound, "No."));
    }
    // The 401 concerns our credential, so the service fetches a new token and retries.
    upstream.answers([Reply::json(200, &error(401, "UNAUTHENTICATED")), Reply::ok()]);
    service.cancel(NAME).await.unwrap();
}

/// googleapis/google-api-python-client #170: a 403 for a rate limit was an error like any other 403. rclone/rclone #76
/// and googleapis/google-api-dotnet-client #223 have further reasons.
#[tokio::test]
async fn a_403_for_a_limit_is_resource_exhausted() {
    let upstream = Upstream::start().await;
    let reasons = [
        "userRateLimitExceeded",
        "dailyLimitExceeded",
        "limitExceeded",
        "concurrentLimitExceeded",
        "servingLimitExceeded",
        "variableTermLimitExceeded",
        "dailyLimitExceededUnreg",
        "userRateLimitExceededUnreg",
        "forbidden",
    ];
    upstream.answers(reasons.map(|reason| {
        let errors = json!([{"domain": "usageLimits", "reason": reason}]);
        Reply::json(403, &json!({"error": {"code": 403, "message": "Slow.", "errors": errors}}))
    }));
    let service = Setup::of(&upstream).start().await;
    for reason in reasons {
        let code = if reason == "forbidden" { Code::PermissionDenied } else { Code::ResourceExhausted };
        let status = service.cancel(NAME).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (code, "Slow."), "{reason}");
    }
}

/// glotlabs/gdrive #36: Google's front end answered 408 with an HTML page, and the client gave up.
/// googleapis/google-cloud-cpp #4396 asks for a retry.
#[tokio::test]
async fn a_408_and_a_425_are_retried() {
    let upstream = Upstream::start().await;
    let page = |http_status| Reply::new(http_status, "text/html; charset=UTF-8", "<!DOCTYPE html>");
    upstream.answers([page(408), page(425), Reply::ok()]);
    let service = Setup::of(&upstream).start().await;
    service.cancel(NAME).await.unwrap();

    upstream.answers([408, 425, 425, 408].map(page));
    let status = service.cancel(NAME).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}

/// envoyproxy/envoy #4374: Envoy ends a stream that is silent for five minutes. A WaitOperation is silent until its
/// response, so the service responds first.
#[test]
fn a_wait_ends_before_proxies_end_a_silent_stream() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key.json");
    std::fs::write(&file, account::key_file("http://127.0.0.1:1/token")).unwrap();
    let flags = Flags::default().with("--credentials", file);
    let config = Config::load(flags, Variables::default(), Machine::Elsewhere).unwrap();
    assert_eq!(config.settings.polling.max_wait, Duration::from_secs(4 * 60));
}

/// rustls/rustls #1246: one certificate of a large bundle cannot be used, and the error did not name it.
#[tokio::test]
async fn an_unusable_certificate_among_many_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let usable: Vec<String> = (0..149).map(|_| Authority::new().pem()).collect();
    let unusable = Authority::with_malformed_constraints("Old Corporate Root").pem();
    let bundle = [&usable[..86], &[unusable], &usable[86..]].concat().concat();
    std::fs::write(dir.path().join("ca.pem"), bundle).unwrap();
    std::fs::write(dir.path().join("key.json"), account::key_file("http://127.0.0.1:1/token")).unwrap();
    let words = ["serve", "--credentials", "key.json", "--listen", "127.0.0.1:0", "--upstream-ca", "ca.pem"];
    let ended = run(countermand(&words).current_dir(&dir)).await;
    assert_eq!(ended.code, Some(78), "{ended:?}");
    let named = "holds a certificate that cannot be used: number 87 (CN=Old Corporate Root): ";
    assert!(ended.stderr.contains("--upstream-ca: ") && ended.stderr.contains(named), "{ended:?}");
}

/// googleapis/google-cloud-go #9632: some kinds of credential files were read without their `universe_domain`, so their
/// tokens went to googleapis.com.
#[tokio::test]
async fn a_credential_of_another_universe_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut key: Value = serde_json::from_str(&account::key_file("http://127.0.0.1:1/token")).unwrap();
    key["universe_domain"] = json!("apis-tpclp.goog");
    std::fs::write(dir.path().join("key.json"), key.to_string()).unwrap();
    let words = ["serve", "--credentials", "key.json", "--listen", "127.0.0.1:0"];
    let ended = run(countermand(&words).current_dir(&dir)).await;
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("\"universe_domain\" must be googleapis.com"), "{ended:?}");
}

/// earendil-works/pi #7499: a byte-order mark at the start of the credential file made every credential unusable.
/// node-config/node-config #215 reports the same of a configuration file,
/// and openssl/openssl #6281 of PEM files.
#[tokio::test]
async fn files_with_a_byte_order_mark_are_accepted() {
    let (upstream, authority) = (Upstream::start().await, Authority::new());
    let files = ConfigFiles {
        pair: &authority.server(),
        clients: &authority,
        keys: &key_set([Key::ec().jwk(Some("a"))]),
        policy: "permit (principal, action, resource);",
    };
    let dir = ConfigDir::new(&upstream, &files);
    for name in ["c.toml", "policy.cedar", "key.json", "jwks.json", "tls.crt", "tls.key", "clients.pem"] {
        let text = std::fs::read_to_string(dir.file(name)).unwrap();
        std::fs::write(dir.file(name), [BYTE_ORDER_MARK, text.trim_start()].concat()).unwrap();
    }
    upstream.answers([Reply::ok()]);
    let program = dir.serve().await;
    assert_eq!(program.wire_by_unix().await.cancel(NAME, &[]).await.code(), Code::Ok);
}

/// apache/arrow-rs #6625: the metadata server returns one token until it ends, so clients that refused a token with
/// little time left fetched it again and again.
#[tokio::test]
async fn a_token_with_seconds_left_is_used_while_another_is_fetched() {
    let upstream = Upstream::start().await;
    upstream.always_answers(Reply::ok());
    let (fetches, mut fetched) = watch::channel(0);
    let flavor = [("metadata-flavor", "Google")];
    let account = "/computeMetadata/v1/instance/service-accounts/default";
    let token = move |State(fetches): State<watch::Sender<usize>>| async move {
        fetches.send_modify(|fetches| *fetches += 1);
        // The first token has four seconds left.
        let (token, left) = if *fetches.borrow() < 3 { ("old", 4) } else { ("new", 3600) };
        (flavor, json!({"access_token": token, "expires_in": left, "token_type": "Bearer"}).to_string())
    };
    let routes = Router::new()
        .route(&format!("{account}/token"), get(token))
        .route(
            &format!("{account}/email"),
            get(move || async move { (flavor, "proxy@p.iam.gserviceaccount.com") }),
        )
        .with_state(fetches);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });

    let service = Setup::of(&upstream).metadata_server(&host).start().await;
    eventually("the new token", async || {
        service.cancel(NAME).await.unwrap();
        let requests = upstream.requests();
        (requests.last().unwrap().headers["authorization"] == "Bearer new").then_some(())
    })
    .await;
    assert_eq!(upstream.requests()[0].headers["authorization"], "Bearer old");
    assert_eq!(*fetched.borrow_and_update(), 3);
    serving.abort();
}

/// grpc/grpc-rust #1353: tonic answers a message over its limit with OUT_OF_RANGE, which tells the caller to try a
/// smaller offset.
#[tokio::test]
async fn a_request_over_64_kib_is_refused_with_the_limit_in_the_message() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let status = service.cancel(&"x".repeat(100_000)).await.unwrap_err();
    assert_our_error(&status, Code::InvalidArgument, "REQUEST_TOO_LARGE");
    assert!(status.message().contains("65536 bytes"), "{status:?}");
    // The connection stays open.
    assert_eq!(service.cancel("x").await.unwrap_err().code(), Code::InvalidArgument);
}

/// googleapis/google-auth-library-python #145: the expiry of a token was compared with a clock that is not the
/// issuer's. Here this machine's clock is a day ahead of Google's.
#[tokio::test]
async fn an_impersonated_token_is_used_although_this_machines_clock_is_ahead() {
    let (api, key, iam) = (Upstream::start().await, Upstream::start().await, Upstream::start().await);
    let google = SystemTime::now() - Duration::from_secs(24 * 3600);
    let end = humantime::format_rfc3339_seconds(google + Duration::from_secs(3600));
    let response = json!({"accessToken": "of-the-proxy", "expireTime": end.to_string()});
    iam.answers([Reply::json(200, &response).header("date", &httpdate::fmt_http_date(google))]);
    api.answers([Reply::ok()]);
    let list = [("emea", r#"impersonate = "proxy@p.iam.gserviceaccount.com""#, &key)];
    let service = Setup::of(&api).iam(iam.url()).credentials(&list).start().await;
    service.cancel(NAME).await.unwrap();
    assert_eq!(api.requests()[0].headers["authorization"], "Bearer of-the-proxy");
}
