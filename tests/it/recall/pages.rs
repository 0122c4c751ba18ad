//! The pages of a list over all devices: their content, their sizes, and the requests that they cost.

use std::collections::BTreeSet;

use countermand::proto::longrunning::ListOperationsRequest;
use countermand_emulator::{Queries, Settings};
use prost::Message;
use serde_json::json;

use crate::{
    recall::fixture::{ALL, device, emulator, list, names, pages, request, settings, setup, start, wipe},
    support::{reply::Reply, service::Setup, upstream::Upstream},
};

#[tokio::test]
async fn the_pages_have_every_operation_once_in_the_order_of_the_devices() {
    // The operations of the fourth device take several pages of the upstream.
    let emulator = emulator(Settings { max_page_size: 10, ..settings() }).await;
    let service = setup(&emulator).start().await;
    let mut all = Vec::new();
    for number in 0..130 {
        all.extend(wipe(&emulator, &device(number), if number == 3 { 34 } else { 1 + number % 3 }));
    }
    wipe(&emulator, "enterprises/LC02/devices/d0001", 1);
    for page_size in [0, 1, 2, 7, 40, 1000, i32::MAX] {
        let pages = pages(&mut service.client(), request(page_size, "")).await;
        assert_eq!(names(&pages), all, "page_size {page_size}");
        let max = if page_size == 0 { 1000 } else { page_size.min(1000) }.try_into().unwrap();
        assert!(pages.iter().all(|page| page.operations.len() <= max && page.unreachable.is_empty()));
    }
    let with_collection = ListOperationsRequest { name: format!("{ALL}/operations"), ..request(0, "") };
    assert_eq!(names(&pages(&mut service.client(), with_collection).await), all);
}

#[tokio::test]
async fn an_enterprise_without_devices_has_an_empty_list() {
    let (emulator, service) = start().await;
    let page = list(&mut service.client(), request(0, "")).await.unwrap();
    assert_eq!((page.operations.len(), page.next_page_token.as_str()), (0, ""));
    assert_eq!(emulator.control().queries().devices, 1);
}

#[tokio::test]
async fn devices_may_come_and_go_between_pages() {
    let (emulator, service) = start().await;
    let mut client = service.client();
    let mut remaining = BTreeSet::new();
    for number in 0..220 {
        remaining.extend(wipe(&emulator, &device(2 * number), 3));
    }
    let (mut seen, mut token, mut rounds) = (Vec::new(), String::new(), 0);
    loop {
        let page = list(&mut client, request(7, &token)).await.unwrap();
        seen.extend(names([&page]));
        token.clone_from(&page.next_page_token);
        if token.is_empty() {
            break;
        }
        // The first device of this page, its last device and a device after it vanish. New devices come before and
        // after them. Their operations may be listed or not.
        rounds += 1;
        let last = page.operations.last().unwrap().name.split_once("/operations/").unwrap().0.to_owned();
        let number: usize = last.rsplit_once('d').unwrap().1.parse().unwrap();
        let first = page.operations[0].name.split_once("/operations/").unwrap().0.to_owned();
        for gone in [first, last, device(number + 4)] {
            emulator.control().delete_device(&gone);
            remaining.retain(|name| !name.starts_with(&format!("{gone}/")));
        }
        for new in [number.saturating_sub(3), number + 1, number + 9] {
            wipe(&emulator, &device(new | 1), 1);
        }
    }
    assert!(rounds > 50, "{rounds}");
    let distinct: BTreeSet<_> = seen.iter().cloned().collect();
    assert_eq!(distinct.len(), seen.len(), "no operation is listed twice");
    let missing: Vec<_> = remaining.difference(&distinct).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[tokio::test]
async fn a_page_costs_one_request_for_the_devices_and_one_for_each_device() {
    let (emulator, service) = start().await;
    for number in 0..100 {
        wipe(&emulator, &device(number), 2);
    }
    assert_eq!(pages(&mut service.client(), request(0, "")).await.len(), 1);
    let queries = emulator.control().queries();
    assert_eq!(queries, Queries { devices: 1, list: 100, token: queries.token, ..Queries::default() });
    // The devices are not listed again for each page. A device that does not fit a page is read again for the next.
    let pages = pages(&mut service.client(), request(10, "")).await;
    let after = emulator.control().queries();
    assert_eq!((pages.len(), after.devices), (20, 2));
    assert!(after.list - queries.list <= 140, "{}", after.list - queries.list);
}

#[tokio::test]
async fn the_requests_have_the_parameters_of_the_discovery_document() {
    let upstream = Upstream::start().await;
    let named = |id: &str| json!({"name": format!("enterprises/LC01/devices/{id}")});
    let operation = |id: &str| json!({"name": format!("enterprises/LC01/devices/a/operations/{id}")});
    upstream.answers([
        Reply::json(200, &json!({"devices": [named("a")], "nextPageToken": "next/devices"})),
        Reply::json(200, &json!({"operations": [operation("1")], "nextPageToken": "more+operations"})),
        Reply::json(200, &json!({"operations": [operation("2")]})),
        Reply::json(200, &json!({})),
    ]);
    let service = Setup::of(&upstream).start().await;
    let request = ListOperationsRequest {
        filter: "done = false".to_owned(),
        return_partial_success: true,
        ..request(50, "")
    };
    let pages = pages(&mut service.client(), request).await;
    assert_eq!(pages.iter().map(|page| page.operations.len()).collect::<Vec<_>>(), [2, 0]);
    let requested: Vec<_> = upstream.requests().into_iter().map(|request| request.path).collect();
    let (devices, operations) = ("/v1/enterprises/LC01/devices", "/v1/enterprises/LC01/devices/a/operations");
    assert_eq!(
        requested,
        [
            format!("{devices}?pageSize=100&fields=devices.name%2CnextPageToken"),
            format!("{operations}?pageSize=1000"),
            format!("{operations}?pageSize=1000&pageToken=more%2Boperations"),
            format!("{devices}?pageSize=100&pageToken=next%2Fdevices&fields=devices.name%2CnextPageToken"),
        ]
    );
}

#[tokio::test]
async fn a_page_fits_the_message_limit_of_grpc_clients() {
    let (emulator, service) = start().await;
    let large = json!({"type": "START_LOST_MODE", "startLostModeParams": {"text": "x".repeat(1_150_000)}});
    let mut all = Vec::new();
    for number in 0..3 {
        let device = device(number);
        all.extend(emulator.control().issue_commands([&*device], 3, &large).unwrap());
    }
    // The client accepts messages of up to 4 MiB. The three operations of a device have less in JSON.
    let pages = pages(&mut service.client(), request(0, "")).await;
    assert_eq!(names(&pages), all);
    assert!(pages.iter().all(|page| page.encoded_len() < 3 << 20), "the largest page");
    assert!(pages.len() <= 6, "{}", pages.len());
}

#[tokio::test]
async fn a_call_has_one_audit_line_with_all_of_its_requests() {
    let (emulator, service) = start().await;
    for number in 0..5 {
        wipe(&emulator, &device(number), 1);
    }
    list(&mut service.client(), request(0, "")).await.unwrap();
    let log = service.audit_log();
    assert_eq!(log.len(), 1, "{log:?}");
    let line = &log[0];
    assert_eq!((&line["method"], &line["name"]), (&json!("ListOperations"), &json!(ALL)));
    assert_eq!((&line["decision"], &line["code"]), (&json!("allow"), &json!("OK")));
    assert_eq!((&line["attempts"], &line["upstream_status"]), (&json!(6), &json!(200)), "{line}");
    assert_eq!(line["credential"], json!("default"));
}

#[tokio::test]
async fn a_device_that_is_not_expected_to_fit_a_page_is_not_read_for_it() {
    let (emulator, service) = start().await;
    let all: Vec<_> = (0..30).flat_map(|number| wipe(&emulator, &device(number), 3)).collect();
    let pages = pages(&mut service.client(), request(7, "")).await;
    assert_eq!(names(&pages), all);
    assert_eq!(emulator.control().queries().list, 30);
}

#[tokio::test]
async fn operations_that_do_not_match_cost_no_requests_of_their_own() {
    let (emulator, service) = start().await;
    wipe(&emulator, &device(0), 200);
    let matching = emulator.control().issue_commands([&*device(0)], 4, &json!({"type": "LOCK"})).unwrap();
    wipe(&emulator, &device(0), 200);
    let filtered = |page_size, kind: &str| ListOperationsRequest {
        filter: format!("metadata.type = {kind}"),
        ..request(page_size, "")
    };
    let mut client = service.client();
    assert_eq!(names(&pages(&mut client, filtered(1, "REBOOT")).await).len(), 0);
    assert_eq!(emulator.control().queries().list, 1);
    for page_size in [1, 3, 4] {
        let before = emulator.control().queries().list;
        let pages = pages(&mut client, filtered(page_size, "LOCK")).await;
        assert_eq!(names(&pages), matching, "page_size {page_size}");
        assert!(pages.iter().all(|page| page.operations.len() <= page_size as usize));
        let requests = emulator.control().queries().list - before;
        assert!(requests <= 40, "{requests} for page_size {page_size}");
    }
}

#[tokio::test]
async fn a_device_whose_operations_exceed_the_limit_of_a_response_is_listed() {
    let (emulator, service) = start().await;
    let large = json!({"type": "START_LOST_MODE", "startLostModeParams": {"text": "x".repeat(1_150_000)}});
    let all = emulator.control().issue_commands([&*device(0)], 5, &large).unwrap();
    let pages = pages(&mut service.client(), request(0, "")).await;
    assert_eq!(names(&pages), all);
    assert!(pages.iter().all(|page| page.encoded_len() < 3 << 20), "the largest page");
}
