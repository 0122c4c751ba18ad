//! The policy decides about the enterprise, and then about each device.

use nix::sys::signal::Signal::SIGTERM;
use serde_json::json;
use tonic::Code;

use crate::{
    recall::fixture::{ALL, device, emulator, list, names, pages, request, serve, settings, setup, wipe},
    support::{
        details::assert_our_error, files::replace, metrics::Scrape, reply::Reply, service::Setup,
        upstream::Upstream,
    },
};

/// Permits lists of the enterprise except for the device `d0001`.
const ALL_EXCEPT_ONE: &str = "permit (principal, action == Action::\"list\", resource in Enterprise::\"LC01\");\n\
                              forbid (principal, action, resource in Device::\"LC01/d0001\");";

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
    let service = Setup::of(&upstream).policy(ALL_EXCEPT_ONE).start().await;
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

#[tokio::test]
async fn a_list_in_shadow_mode_records_that_a_device_would_be_left_out() {
    let emulator = emulator(settings()).await;
    let all: Vec<_> = (0..3).flat_map(|number| wipe(&emulator, &device(number), 1)).collect();
    let setup = setup(&emulator).policy(ALL_EXCEPT_ONE).variable("COUNTERMAND_POLICY_MODE", "shadow");
    let service = setup.start().await;
    let pages = pages(&mut service.client(), request(1, "")).await;
    assert_eq!(names(&pages), all, "nothing is left out");
    let lines = service.audit_log();
    assert!(lines.iter().all(|line| line["decision"] == "allow"), "{lines:?}");
    // The last page has only the device after the forbidden one.
    let would_deny: Vec<_> = lines.iter().map(|line| &line["would_deny"]).collect();
    assert_eq!(would_deny, [&json!(true), &json!(true), &json!(false)]);
    let metrics = Scrape::of(service.admin).await;
    let decisions = ["decision=\"allow\"", "decision=\"would_deny\"", "decision=\"deny\""]
        .map(|decision| metrics.value("countermand_policy_decisions_total", &["action=\"list\"", decision]));
    assert_eq!(decisions, [3.0, 2.0, 0.0]);
}

#[tokio::test]
async fn a_replaced_policy_decides_about_the_devices_of_an_earlier_token() {
    let emulator = emulator(settings()).await;
    let all: Vec<_> = (0..3).flat_map(|number| wipe(&emulator, &device(number), 1)).collect();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.cedar");
    std::fs::write(&file, "permit (principal, action, resource);").unwrap();
    let (process, mut client) = serve(&emulator, dir.path(), "info", &["--policy", "policy.cedar"]).await;
    let first = list(&mut client, request(1, "")).await.unwrap();
    assert_eq!(names([&first]), all[..1]);
    replace(&file, ALL_EXCEPT_ONE);
    process.stderr.has("reloaded policy").await;
    let rest = pages(&mut client, request(1, &first.next_page_token)).await;
    assert_eq!(names(&rest), all[2..]);
}

#[tokio::test]
async fn a_forbidden_device_is_in_no_line_of_the_logs() {
    let emulator = emulator(settings()).await;
    let all: Vec<_> = (0..3).flat_map(|number| wipe(&emulator, &device(number), 1)).collect();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("policy.cedar"), ALL_EXCEPT_ONE).unwrap();
    let (process, mut client) = serve(&emulator, dir.path(), "trace", &["--policy", "policy.cedar"]).await;
    let pages = pages(&mut client, request(1, "")).await;
    assert_eq!(names(&pages), [&all[..1], &all[2..]].concat());
    process.signal(SIGTERM);
    let ended = process.end().await;
    let has = |text: &str, number| text.contains(&format!("d{number:04}"));
    assert!(has(&ended.stderr, 0) && !has(&ended.stderr, 1), "{}", ended.stderr);
    assert!(ended.stdout.contains(ALL) && !has(&ended.stdout, 1), "{}", ended.stdout);
}
