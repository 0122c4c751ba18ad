//! The policy decides about the enterprise, and then about each device.

use serde_json::json;
use tonic::Code;

use crate::{
    recall::fixture::{ALL, device, emulator, list, names, request, settings, setup, wipe},
    support::{details::assert_our_error, metrics::Scrape, reply::Reply, service::Setup, upstream::Upstream},
};

#[tokio::test]
async fn a_caller_of_one_device_cannot_list_the_enterprise() {
    for scope in
        ["resource in Device::\"LC01/d0001\"", "resource is Device", "resource in Enterprise::\"LC02\""]
    {
        let upstream = Upstream::start().await;
        let service =
            Setup::of(&upstream).policy(&format!("permit (principal, action, {scope});")).start().await;
        let status = list(&mut service.client(), request(0, "")).await.unwrap_err();
        assert_our_error(&status, Code::PermissionDenied, "NOT_PERMITTED");
        assert!(upstream.requests().is_empty(), "{scope}");
        let line = service.audit_log().pop().unwrap();
        assert_eq!((&line["decision"], &line["name"]), (&json!("deny"), &json!(ALL)));
    }
}

#[tokio::test]
async fn a_forbidden_device_is_neither_queried_nor_named() {
    let upstream = Upstream::start().await;
    let devices: Vec<_> = (0..3).map(|number| json!({"name": device(number)})).collect();
    upstream.answers([
        Reply::json(200, &json!({"devices": devices, "nextPageToken": "next"})),
        Reply::plain_error(403, "PERMISSION_DENIED", "no"),
        Reply::json(200, &json!({"operations": [{"name": format!("{}/operations/1", device(2))}]})),
    ]);
    let policy = "permit (principal, action == Action::\"list\", resource in Enterprise::\"LC01\");\n\
                  forbid (principal, action, resource in Device::\"LC01/d0001\");";
    let service = Setup::of(&upstream).policy(policy).start().await;
    let mut request = request(0, "");
    request.return_partial_success = true;
    let page = list(&mut service.client(), request).await.unwrap();
    let paths: Vec<_> = upstream.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths.len(), 3, "{paths:?}");
    assert!(paths.iter().all(|path| !path.contains("d0001")), "{paths:?}");
    assert_eq!(page.unreachable, [device(0)]);
    // The call is permitted. An alert is about denied calls, and a device that is left out is none.
    let metrics = Scrape::of(service.admin).await;
    let decisions = |decision| {
        let labels = ["action=\"list\"", decision];
        metrics.value("countermand_policy_decisions_total", &labels)
    };
    assert_eq!([decisions("decision=\"allow\""), decisions("decision=\"deny\"")], [1.0, 0.0]);
    assert_eq!(names([&page]), [format!("{}/operations/1", device(2))]);
}

#[tokio::test]
async fn a_caller_of_the_enterprise_alone_reads_no_device() {
    let emulator = emulator(settings()).await;
    wipe(&emulator, &device(0), 1);
    let policy = "permit (principal, action, resource == Enterprise::\"LC01\");";
    let service = setup(&emulator).policy(policy).start().await;
    let page = list(&mut service.client(), request(0, "")).await.unwrap();
    assert_eq!((page.operations.len(), page.next_page_token.as_str()), (0, ""));
    let queries = emulator.control().queries();
    assert_eq!((queries.devices, queries.list), (1, 0));
}
