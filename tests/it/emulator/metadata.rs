//! The metadata server.

use countermand_emulator::Emulator;
use serde_json::{Value, json};

use crate::emulator::client::{Answer, answer};
use crate::emulator::sign_in::{CLOUD_PLATFORM, SCOPE, http, list, start};

const ACCOUNTS: &str = "computeMetadata/v1/instance/service-accounts/";

/// Requests a path as Google's libraries do.
async fn ask(emulator: &Emulator, path: &str) -> Answer {
    let url = format!("http://{}/{path}", emulator.metadata_host());
    let answered = answer(http().get(url).header("Metadata-Flavor", "Google")).await.unwrap();
    assert_eq!(answered.headers["metadata-flavor"], "Google", "{path}");
    answered
}

#[tokio::test]
async fn it_issues_a_token_for_the_requested_scopes() {
    let emulator = start().await;
    for account in ["default", emulator.metadata_principal()] {
        let path = format!("{ACCOUNTS}{account}/token?scopes={CLOUD_PLATFORM},{SCOPE}");
        let given = ask(&emulator, &path).await;
        assert_eq!((given.status, &*given.content_type), (200, "application/json"));
        let given: Value = serde_json::from_str(&given.text).unwrap();
        assert_eq!((&given["expires_in"], &given["token_type"]), (&json!(3600), &json!("Bearer")));
        let answered = list(&emulator, given["access_token"].as_str().unwrap()).await;
        assert_eq!(answered.status, 200, "{answered:?}");
        assert_eq!(emulator.control().callers().last().unwrap(), emulator.metadata_principal());
    }
    let own = ask(&emulator, &format!("{ACCOUNTS}default/token")).await;
    let own: Value = serde_json::from_str(&own.text).unwrap();
    assert_eq!(list(&emulator, own["access_token"].as_str().unwrap()).await.status, 403);
    assert_eq!(ask(&emulator, &format!("{ACCOUNTS}default/token?scopes=x")).await.status, 400);
}

#[tokio::test]
async fn it_describes_the_account() {
    let emulator = start().await;
    let email = emulator.metadata_principal();
    assert_eq!(ask(&emulator, &format!("{ACCOUNTS}default/email")).await.text, email);
    let scopes = ask(&emulator, &format!("{ACCOUNTS}default/scopes")).await.text;
    assert_eq!(scopes, format!("{CLOUD_PLATFORM}\n"));
    let account = json!({ "aliases": ["default"], "email": email, "scopes": [CLOUD_PLATFORM] });
    let all = ask(&emulator, &format!("{ACCOUNTS}default/?recursive=true")).await;
    assert_eq!(all.content_type, "application/json");
    assert_eq!(serde_json::from_str::<Value>(&all.text).unwrap(), account);
    let unknown =
        ["computeMetadata/v1/none", &format!("{ACCOUNTS}none/email"), &format!("{ACCOUNTS}default/x")];
    for path in unknown {
        assert_eq!(ask(&emulator, path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn it_refuses_a_request_without_its_flavor_or_through_a_proxy() {
    let emulator = start().await;
    let url = |path: &str| format!("{}/{path}", emulator.url());
    let token = format!("{ACCOUNTS}default/token");
    for (header, value) in [("x-other", "1"), ("metadata-flavor", "google")] {
        let refused = answer(http().get(url(&token)).header(header, value)).await.unwrap();
        assert_eq!(refused.status, 403, "{header}");
        assert!(refused.text.contains("Missing Metadata-Flavor:Google header."), "{refused:?}");
    }
    for path in ["", &token] {
        let request = http().get(url(path)).header("metadata-flavor", "Google");
        let refused = answer(request.header("x-forwarded-for", "192.0.2.1")).await.unwrap();
        assert_eq!(refused.status, 403, "{path}");
    }
    let detected = answer(http().get(url(""))).await.unwrap();
    assert_eq!((detected.status, &detected.headers["metadata-flavor"]), (200, &"Google".parse().unwrap()));
    let queries = emulator.control().queries();
    assert_eq!((queries.metadata, queries.metadata_token), (5, 3));
}

#[tokio::test]
async fn a_machine_whose_account_is_disabled_gets_no_token() {
    let emulator = start().await;
    emulator.control().set_enabled(emulator.metadata_principal(), false);
    assert_eq!(ask(&emulator, &format!("{ACCOUNTS}default/token")).await.status, 404);
}
