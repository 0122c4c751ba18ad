//! Page tokens: they are valid on every replica and after a restart, and grant nothing.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use countermand::proto::longrunning::ListOperationsRequest;
use prost::Message;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::pb;

use crate::{
    recall::fixture::{ALL, device, emulator, list, names, pages, request, settings, setup, start, wipe},
    support::details::{OUR_DOMAIN, assert_status, decode, error_info, to_any},
};

/// Asserts a violation on `page_token` with this description.
#[track_caller]
fn assert_invalid_token(status: &Status, description: &str) {
    let violation = pb::bad_request::FieldViolation {
        field: "page_token".to_owned(),
        description: description.to_owned(),
        reason: "INVALID_PAGE_TOKEN".to_owned(),
        localized_message: None,
    };
    let violations = pb::BadRequest { field_violations: vec![violation] };
    let details =
        vec![error_info(OUR_DOMAIN, "INVALID_PAGE_TOKEN"), to_any("google.rpc.BadRequest", &violations)];
    assert_status(status, Code::InvalidArgument, &format!("page_token: {description}"), details);
}

#[tokio::test]
async fn a_token_is_valid_on_another_replica_and_after_a_restart() {
    let (emulator, first) = start().await;
    let mut all = Vec::new();
    for number in 0..30 {
        all.extend(wipe(&emulator, &device(number), 2));
    }
    let other = setup(&emulator).start().await;
    let one = list(&mut first.client(), request(20, "")).await.unwrap();
    let two = list(&mut other.client(), request(20, &one.next_page_token)).await.unwrap();
    first.drain().await;
    let restarted = setup(&emulator).start().await;
    let rest = pages(&mut restarted.client(), request(20, &two.next_page_token)).await;
    assert_eq!(names([one, two].iter().chain(&rest)), all);
}

#[tokio::test]
async fn a_token_of_another_list_is_invalid() {
    let (emulator, service) = start().await;
    let mut client = service.client();
    for number in 0..3 {
        wipe(&emulator, &device(number), 1);
    }
    let token = list(&mut client, request(1, "")).await.unwrap().next_page_token;
    let queries = emulator.control().queries();

    let other_name =
        ListOperationsRequest { name: "enterprises/LC02/devices/-".into(), ..request(1, &token) };
    let status = list(&mut client, other_name).await.unwrap_err();
    assert_invalid_token(&status, "is of a list with another name");
    let other_filter = ListOperationsRequest { filter: "done = false".to_owned(), ..request(1, &token) };
    let status = list(&mut client, other_filter).await.unwrap_err();
    assert_invalid_token(&status, "is of a list with another filter");
    let garbage = ["x", "AAAA", "next", &token[1..], &format!("{token}="), &"A".repeat(60_000)];
    for garbage in garbage {
        let status = list(&mut client, request(1, garbage)).await.unwrap_err();
        let description = "must be a next_page_token of ListOperations with the same name and filter";
        assert_invalid_token(&status, description);
    }
    assert_eq!(emulator.control().queries(), queries, "nothing was sent");
    let line = service.audit_log().pop().unwrap();
    assert_eq!((&line["decision"], &line["name"]), (&json!("invalid"), &json!(ALL)));

    // The size of a page and partial success may change.
    let changed = ListOperationsRequest { return_partial_success: true, ..request(5, &token) };
    assert_eq!(list(&mut client, changed).await.unwrap().operations.len(), 2);
}

#[tokio::test]
async fn a_token_that_a_caller_writes_grants_nothing() {
    let emulator = emulator(settings()).await;
    let policy = "permit (principal, action, resource in Enterprise::\"LC01\");\n\
                  forbid (principal, action, resource in Device::\"LC01/d0001\");";
    let service = setup(&emulator).policy(policy).start().await;
    let mut client = service.client();
    let all: Vec<_> = (0..4).flat_map(|number| wipe(&emulator, &device(number), 1)).collect();
    let token = list(&mut client, request(1, "")).await.unwrap().next_page_token;
    let mut fields: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(token).unwrap()).unwrap();
    assert_eq!(fields["devices"], json!(["d0002", "d0003"]), "a forbidden device is not named");

    let written = |fields: &Value| request(5, &BASE64_URL_SAFE_NO_PAD.encode(fields.to_string()));
    fields["devices"] = json!(["d0001", "d0003"]);
    fields["operations_token"] = "of the forbidden device".into();
    let lists = emulator.control().queries().list;
    let page = list(&mut client, written(&fields)).await.unwrap();
    assert_eq!((names([&page]), page.unreachable.len()), (vec![all[3].clone()], 0));
    assert_eq!(emulator.control().queries().list, lists + 1);

    // Google rejects a token that it did not make.
    fields["devices"] = json!(["d0003"]);
    let status = list(&mut client, written(&fields)).await.unwrap_err();
    let info = pb::ErrorInfo::decode(&decode(&status).details[0].value[..]).unwrap();
    assert_eq!((status.code(), &*info.domain), (Code::InvalidArgument, "androidmanagement.googleapis.com"));

    fields["enterprise"] = "LC02".into();
    let other = ListOperationsRequest { name: "enterprises/LC02/devices/-".into(), ..written(&fields) };
    assert_eq!(list(&mut client, other).await.unwrap_err().code(), Code::PermissionDenied);
}
