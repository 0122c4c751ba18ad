//! The metadata server.

use countermand_emulator::Emulator;
use serde_json::{Value, json};

use crate::emulator::client::{TestResponse, send};
use crate::emulator::sign_in::{CLOUD_PLATFORM, SCOPE, http, list, start};

const ACCOUNTS: &str = "computeMetadata/v1/instance/service-accounts/";

/// Gets a path as Google's libraries do.
async fn get(emulator: &Emulator, path: &str) -> TestResponse {
    let url = format!("http://{}/{path}", emulator.metadata_host());
    let response = send(http().get(url).header("Metadata-Flavor", "Google")).await.unwrap();
    assert_eq!(response.headers["metadata-flavor"], "Google", "{path}");
    response
}

#[tokio::test]
async fn the_metadata_server_issues_a_token_with_the_requested_scopes() {
    let emulator = start().await;
    for account in ["default", emulator.metadata_principal()] {
        let path = format!("{ACCOUNTS}{account}/token?scopes={CLOUD_PLATFORM},{SCOPE}");
        let token_response = get(&emulator, &path).await;
        assert_eq!((token_response.status, &*token_response.content_type), (200, "application/json"));
        let token_response: Value = serde_json::from_str(&token_response.text).unwrap();
        assert_eq!(
            (&token_response["expires_in"], &token_response["token_type"]),
            (&json!(3600), &json!("Bearer"))
        );
        let listed = list(&emulator, token_response["access_token"].as_str().unwrap()).await;
        assert_eq!(listed.status, 200, "{listed:?}");
        assert_eq!(emulator.control().callers().last().unwrap(), emulator.metadata_principal());
    }
    let default = get(&emulator, &format!("{ACCOUNTS}default/token")).await;
    let default: Value = serde_json::from_str(&default.text).unwrap();
    assert_eq!(list(&emulator, default["access_token"].as_str().unwrap()).await.status, 403);
    assert_eq!(get(&emulator, &format!("{ACCOUNTS}default/token?scopes=x")).await.status, 400);
}

#[tokio::test]
async fn the_metadata_server_describes_the_account() {
    let emulator = start().await;
    let email = emulator.metadata_principal();
    assert_eq!(get(&emulator, &format!("{ACCOUNTS}default/email")).await.text, email);
    let scopes = get(&emulator, &format!("{ACCOUNTS}default/scopes")).await.text;
    assert_eq!(scopes, format!("{CLOUD_PLATFORM}\n"));
    let account = json!({ "aliases": ["default"], "email": email, "scopes": [CLOUD_PLATFORM] });
    let all = get(&emulator, &format!("{ACCOUNTS}default/?recursive=true")).await;
    assert_eq!(all.content_type, "application/json");
    assert_eq!(serde_json::from_str::<Value>(&all.text).unwrap(), account);
    let unknown =
        ["computeMetadata/v1/none", &format!("{ACCOUNTS}none/email"), &format!("{ACCOUNTS}default/x")];
    for path in unknown {
        assert_eq!(get(&emulator, path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_request_without_the_flavor_or_through_a_proxy_is_rejected() {
    let emulator = start().await;
    let url = |path: &str| format!("{}/{path}", emulator.url());
    let token = format!("{ACCOUNTS}default/token");
    for (header, value) in [("x-other", "1"), ("metadata-flavor", "google")] {
        let rejected = send(http().get(url(&token)).header(header, value)).await.unwrap();
        assert_eq!(rejected.status, 403, "{header}");
        assert!(rejected.text.contains("Missing Metadata-Flavor:Google header."), "{rejected:?}");
    }
    for path in ["", &token] {
        let request = http().get(url(path)).header("metadata-flavor", "Google");
        let rejected = send(request.header("x-forwarded-for", "192.0.2.1")).await.unwrap();
        assert_eq!(rejected.status, 403, "{path}");
    }
    let detected = send(http().get(url(""))).await.unwrap();
    assert_eq!((detected.status, &detected.headers["metadata-flavor"]), (200, &"Google".parse().unwrap()));
    let queries = emulator.control().queries();
    assert_eq!((queries.metadata, queries.metadata_token), (5, 3));
}

#[tokio::test]
async fn a_machine_with_a_disabled_account_gets_no_token() {
    let emulator = start().await;
    emulator.control().set_enabled(emulator.metadata_principal(), false);
    assert_eq!(get(&emulator, &format!("{ACCOUNTS}default/token")).await.status, 404);
}
