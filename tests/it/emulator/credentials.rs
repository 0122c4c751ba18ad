//! Credential files of each kind, and their principals.

use countermand_emulator::Kind;
use serde_json::{Value, json};

use crate::emulator::sign_in::{CLOUD_PLATFORM, SCOPE, file, first_response, list, start, token};

#[tokio::test]
async fn each_kind_signs_in_as_its_own_principal() {
    let emulator = start().await;
    for kind in Kind::ALL {
        let token = token(&file(&emulator, kind), SCOPE).await;
        assert_eq!(list(&emulator, &token).await.status, 200, "{kind:?}");
        assert_eq!(emulator.control().callers().last(), Some(&emulator.principal(kind)), "{kind:?}");
    }
    let queries = emulator.control().queries();
    assert_eq!((queries.token, queries.sts, queries.subject_token, queries.iam), (3, 3, 2, 2));
}

#[tokio::test]
async fn further_service_accounts_sign_in_as_themselves() {
    let emulator = start().await;
    let control = emulator.control();
    let mut signed_in = Vec::new();
    for name in ["emea", "apac"] {
        let credentials = emulator.service_account(name).unwrap();
        assert_eq!(emulator.service_account(name).unwrap().expose(), credentials.expose());
        let file: Value = serde_json::from_str(credentials.expose()).unwrap();
        signed_in.push((file["client_email"].as_str().unwrap().to_owned(), token(&file, SCOPE).await));
    }
    for (email, token) in signed_in.iter().rev() {
        assert_eq!(list(&emulator, token).await.status, 200);
        assert_eq!(control.callers().last(), Some(email));
    }
    let emails = ["apac", "emea"].map(|name| format!("{name}@countermand-emulator.iam.gserviceaccount.com"));
    assert_eq!(control.callers(), emails);
    assert!(emulator.service_account("no such name").is_err());
}

#[tokio::test]
async fn a_token_without_the_scope_of_the_api_is_rejected() {
    let emulator = start().await;
    for kind in Kind::ALL {
        let token = token(&file(&emulator, kind), CLOUD_PLATFORM).await;
        let rejected = list(&emulator, &token).await;
        assert_eq!(rejected.error(), (403, "PERMISSION_DENIED".to_owned()), "{kind:?}");
        let info = rejected.json()["error"]["details"][0].clone();
        let metadata = json!({
            "service": "androidmanagement.googleapis.com",
            "method": "google.longrunning.Operations.ListOperations",
        });
        assert_eq!(info["reason"], "ACCESS_TOKEN_SCOPE_INSUFFICIENT");
        assert_eq!((&info["domain"], &info["metadata"]), (&json!("googleapis.com"), &metadata));
        let challenge = rejected.headers["www-authenticate"].to_str().unwrap();
        assert!(challenge.contains("insufficient_scope") && challenge.contains(SCOPE), "{challenge}");
    }
}

#[tokio::test]
async fn revoking_the_tokens_of_a_principal_keeps_all_other_tokens() {
    let emulator = start().await;
    for kind in [Kind::ServiceAccount, Kind::AuthorizedUser, Kind::ExternalAccountUrl] {
        let file = file(&emulator, kind);
        let old = token(&file, SCOPE).await;
        assert!(emulator.control().revoke_tokens_of(emulator.metadata_principal()));
        assert_eq!(list(&emulator, &old).await.status, 200, "{kind:?}");
        assert!(emulator.control().revoke_tokens_of(&emulator.principal(kind)));
        let rejected = list(&emulator, &old).await;
        assert_eq!((rejected.status, &*rejected.reason()), (401, "ACCESS_TOKEN_EXPIRED"), "{kind:?}");
        let new = token(&file, SCOPE).await;
        assert_eq!(list(&emulator, &new).await.status, 200, "{kind:?}");
    }
    assert!(!emulator.control().revoke_tokens_of("nobody@example.com"));
}

#[tokio::test]
async fn a_disabled_principal_can_neither_get_nor_use_a_token() {
    let emulator = start().await;
    let control = emulator.control();
    let kinds =
        [Kind::ServiceAccount, Kind::AuthorizedUser, Kind::ExternalAccountFile, Kind::ExternalAccountUrl];
    for kind in kinds {
        let file = file(&emulator, kind);
        let held = token(&file, SCOPE).await;
        assert!(control.set_enabled(&emulator.principal(kind), false));
        let rejected = list(&emulator, &held).await;
        assert_eq!((rejected.status, &*rejected.reason()), (401, "ACCOUNT_STATE_INVALID"), "{kind:?}");
        let rejected = first_response(&file, SCOPE).await;
        assert_eq!((rejected.status, &rejected.json()["error"]), (400, &json!("invalid_grant")), "{kind:?}");

        assert!(control.set_enabled(&emulator.principal(kind), true));
        assert_eq!(list(&emulator, &held).await.status, 200, "{kind:?}");
    }
    assert!(!control.set_enabled("nobody@example.com", false));
}
