//! GetOperation, ListOperations and WaitOperation: the upstream requests, and the messages made from Google's JSON.

use countermand::proto::longrunning::{
    GetOperationRequest, ListOperationsRequest, WaitOperationRequest, operation::Result as Outcome,
};
use countermand_emulator::{Emulator, Settings};
use http::Method;
use prost::Message;
use prost_types::{Struct, value::Kind};
use serde_json::json;
use tonic::Code;

use crate::{
    support::{
        details::assert_our_error,
        reply::Reply,
        service::{Service, Setup},
        upstream::Upstream,
    },
    wire::NAME,
};

const DEVICE: &str = "enterprises/LC01/devices/d1";

fn get(name: &str) -> GetOperationRequest {
    GetOperationRequest { name: name.to_owned() }
}

/// A service whose upstream is an emulator with devices that never execute a command.
async fn with_emulator() -> (Emulator, Service) {
    let settings = Settings { pick_up: None, page_size: 2, ..Settings::default() };
    let emulator = Emulator::start("127.0.0.1:0".parse().unwrap(), settings).await.unwrap();
    let service = Setup::new(emulator.url(), emulator.credentials().expose()).start().await;
    (emulator, service)
}

fn issue(emulator: &Emulator, command: serde_json::Value) -> String {
    let operation = emulator.control().issue_command(DEVICE, command).unwrap();
    operation["name"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn get_returns_the_metadata_without_the_password() {
    let (emulator, service) = with_emulator().await;
    let name = issue(&emulator, json!({"type": "RESET_PASSWORD", "newPassword": "s3cret"}));
    let pending = service.client().get_operation(get(&name)).await.unwrap().into_inner();
    assert_eq!((pending.name.as_str(), pending.done, &pending.result), (name.as_str(), false, &None));
    let metadata = Struct::decode(&pending.metadata.unwrap().value[..]).unwrap();
    let text = |member: &str| metadata.fields[member].kind.clone();
    assert_eq!(text("type"), Some(Kind::StringValue("RESET_PASSWORD".to_owned())));
    assert_ne!(text("newPassword"), Some(Kind::StringValue("s3cret".to_owned())));

    service.cancel(&name).await.unwrap();
    let cancelled = service.client().get_operation(get(&name)).await.unwrap().into_inner();
    let Some(Outcome::Error(error)) = cancelled.result else { panic!("{cancelled:?}") };
    assert_eq!((cancelled.done, error.code), (true, Code::Cancelled as i32));
}

#[tokio::test]
async fn a_list_request_has_the_query_parameters_of_the_discovery_document() {
    let upstream = Upstream::start().await;
    let page =
        json!({"operations": [{"name": NAME, "done": true}], "nextPageToken": "n", "unreachable": ["u"]});
    upstream.answers([Reply::json(200, &page), Reply::json(200, &json!({}))]);
    let service = Setup::of(&upstream).start().await;
    let request = ListOperationsRequest {
        name: format!("{DEVICE}/operations"),
        filter: "a=b&c".to_owned(),
        page_size: 7,
        page_token: "t/1".to_owned(),
        return_partial_success: true,
    };
    let page = service.client().list_operations(request).await.unwrap().into_inner();
    assert_eq!((page.next_page_token.as_str(), &page.unreachable[..]), ("n", &["u".to_owned()][..]));
    assert!(
        matches!(&page.operations[0].result, Some(Outcome::Response(any)) if any.type_url.ends_with("Empty"))
    );
    let request = ListOperationsRequest { name: DEVICE.to_owned(), ..ListOperationsRequest::default() };
    assert!(service.client().list_operations(request).await.unwrap().into_inner().operations.is_empty());

    let requested: Vec<_> = upstream.requests().into_iter().map(|call| (call.method, call.path)).collect();
    let query = "filter=a%3Db%26c&pageSize=7&pageToken=t%2F1&returnPartialSuccess=true";
    let list = format!("/v1/{DEVICE}/operations");
    assert_eq!(requested, [(Method::GET, format!("{list}?{query}")), (Method::GET, list)]);
}

#[tokio::test]
async fn the_pages_of_a_list_contain_every_operation_once() {
    let (emulator, service) = with_emulator().await;
    let mut issued: Vec<_> = (0..5).map(|_| issue(&emulator, json!({"type": "LOCK"}))).collect();
    let mut listed = Vec::new();
    let mut page_token = String::new();
    loop {
        let name = DEVICE.to_owned();
        let request = ListOperationsRequest { name, page_token, ..ListOperationsRequest::default() };
        let page = service.client().list_operations(request).await.unwrap().into_inner();
        assert!(page.operations.len() <= 2);
        listed.extend(page.operations.into_iter().map(|operation| operation.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    issued.sort_unstable();
    listed.sort_unstable();
    assert_eq!(listed, issued);
}

#[tokio::test]
async fn a_wait_ends_when_the_operation_is_done_or_its_timeout_passes() {
    let (emulator, service) = with_emulator().await;
    let name = issue(&emulator, json!({"type": "LOCK"}));
    let wait = |seconds| WaitOperationRequest {
        name: name.clone(),
        timeout: Some(prost_types::Duration { seconds, nanos: 0 }),
    };
    let latest = service.client().wait_operation(wait(1)).await.unwrap().into_inner();
    assert!(!latest.done, "the wait timed out");

    let mut client = service.client();
    let (ended, ()) = tokio::join!(client.wait_operation(wait(60)), async {
        // The device executes the command during the wait.
        assert!(emulator.control().execute(&name));
    });
    assert!(ended.unwrap().into_inner().done);
}

#[tokio::test]
async fn a_body_that_is_not_an_operation_is_malformed() {
    let upstream = Upstream::start().await;
    upstream
        .answers([Reply::new(200, "application/json", "{\"name\":"), Reply::json(200, &json!({"done": 1}))]);
    let service = Setup::of(&upstream).start().await;
    for _ in 0..2 {
        let status = service.client().get_operation(get(NAME)).await.unwrap_err();
        assert_our_error(&status, Code::Internal, "UPSTREAM_MALFORMED");
    }
}
