//! Successful cancels: the upstream request, and the responses that count as success.

use countermand::proto::longrunning::{CancelOperationRequest, GetOperationRequest};
use countermand_emulator::{Emulator, Settings};
use http::{Method, Version};
use serde_json::json;
use tonic::{Code, Request};

use crate::{
    support::{reply::Reply, service::Setup, upstream::Upstream},
    wire::NAME,
};

#[tokio::test]
async fn a_pending_wipe_is_cancelled() {
    let settings = Settings { pick_up: None, ..Settings::default() };
    let emulator = Emulator::start("127.0.0.1:0".parse().unwrap(), settings).await.unwrap();
    let wipe = emulator.control().issue_command("enterprises/LC01/devices/d1", json!({"type": "WIPE"}));
    let name = wipe.unwrap()["name"].as_str().unwrap().to_owned();
    let service = Setup::new(emulator.url(), emulator.credentials().expose()).start().await;

    service.cancel(&name).await.unwrap();
    let operation = emulator.control().operation(&name).unwrap();
    assert_eq!((&operation["done"], &operation["error"]["code"]), (&json!(true), &json!(1)));
    assert_eq!(emulator.control().queries().cancel, 1);

    let again = service.cancel(&name).await.unwrap_err();
    assert_eq!(again.code(), Code::FailedPrecondition, "{again:?}");
    let unknown = service.cancel("enterprises/LC01/devices/d1/operations/none").await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound, "{unknown:?}");
}

#[tokio::test]
async fn the_upstream_request_matches_the_discovery_document_and_has_no_header_of_the_caller() {
    let upstream = Upstream::start().await;
    upstream.answers([Reply::ok()]);
    let service = Setup::of(&upstream).start().await;

    let mut request = Request::new(CancelOperationRequest { name: NAME.to_owned() });
    for (name, value) in [
        ("authorization", "Bearer of-the-caller"),
        ("x-goog-request-params", "name=enterprises%2FLC01"),
        ("x-goog-api-client", "gl-python/3.12 gax/2.19"),
        ("x-goog-user-project", "of-the-caller"),
        ("x-forwarded-client-cert", "URI=spiffe://corp.example/of-the-caller"),
        ("l5d-client-id", "of-the-caller"),
        ("cookie", "of-the-caller"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ] {
        request.metadata_mut().insert(name, value.parse().unwrap());
    }
    service.client().cancel_operation(request).await.unwrap();

    let requests = upstream.requests();
    let [call] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!((&call.method, call.version), (&Method::POST, Version::HTTP_11));
    assert_eq!(call.path, format!("/v1/{NAME}:cancel"));
    assert!(call.body.is_empty());
    let mut headers: Vec<_> =
        call.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    headers.sort_unstable();
    let host = upstream.address.to_string();
    let want = [
        ("accept", "*/*"),
        ("authorization", "Bearer t1"),
        ("content-length", "0"),
        ("host", &host),
        ("user-agent", concat!("countermand/", env!("CARGO_PKG_VERSION"))),
    ];
    assert_eq!(headers, want);
}

#[tokio::test]
async fn the_upstream_url_has_the_base_path_and_the_unescaped_name() {
    let upstream = Upstream::start().await;
    upstream.answers([Reply::ok()]);
    let url = format!("{}/gateway/amapi/", upstream.url());
    let service = Setup::with_token_endpoint(&upstream, &url).start().await;

    let name = "enterprises/a.b_c~d-E9/devices/.../operations/~";
    service.cancel(name).await.unwrap();
    assert_eq!(upstream.requests()[0].path, format!("/gateway/amapi/v1/{name}:cancel"));
}

#[tokio::test]
async fn a_2xx_without_a_body_or_with_a_json_object_is_a_cancel() {
    let upstream = Upstream::start().await;
    upstream.answers([
        Reply::new(204, "text/plain", ""),
        Reply::new(200, "application/json", " \n"),
        Reply::new(200, "application/json", "{}\n"),
        Reply::json(202, &json!({"done": true})),
    ]);
    let service = Setup::of(&upstream).start().await;
    for _ in 0..4 {
        service.cancel(NAME).await.unwrap();
    }
}

#[tokio::test]
async fn get_returns_a_failed_operation_with_ok() {
    let upstream = Upstream::start().await;
    let body =
        format!(r#"{{"error": {{"code": 1, "message": "Cancelled."}}, "name": "{NAME}", "done": true}}"#);
    upstream.answers([Reply::new(200, "application/json", body)]);
    let service = Setup::of(&upstream).start().await;
    let get = GetOperationRequest { name: NAME.to_owned() };
    let operation = service.client().get_operation(get).await.unwrap().into_inner();
    assert!(operation.done);
}
