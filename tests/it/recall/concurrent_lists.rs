//! The requests of lists: after their callers disconnected, near their deadlines, and beside cancels.

use std::time::Duration;

use countermand::proto::longrunning::ListOperationsRequest;
use countermand_emulator::{DeviceFault, Emulator, Queries};
use prost::Message;
use tokio::time::{sleep, timeout};
use tonic::{Code, Request};

use crate::{
    recall::fixture::{device, emulator, list, names, request, settings, setup, start, wipe},
    support::{
        grpc::LIST,
        metrics::{Scrape, scrape_until},
        process::eventually,
        service::Service,
        with_timeout,
    },
};

/// No request about such a device is answered within a test.
const HANGING: DeviceFault = DeviceFault::Slow(Duration::from_secs(3600));

/// The number of requests without a response, for this reason.
async fn failed_requests(service: &Service, reason: &str) -> f64 {
    let page = Scrape::of(service.admin).await;
    let labels = ["http_request_method=\"GET\"", "attempt=\"1\"", &format!("error_type=\"{reason}\"")];
    page.find("http_client_request_duration_seconds_count", &labels).unwrap_or_default()
}

/// The queries of the emulator after 2 s without another one. The latency must be less.
async fn stable_queries(emulator: &Emulator) -> Queries {
    with_timeout("the last query", async {
        loop {
            let queries = emulator.control().queries();
            sleep(Duration::from_secs(2)).await;
            if emulator.control().queries() == queries {
                return queries;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_list_whose_caller_disconnected_sends_no_further_request() {
    let (emulator, service) = start().await;
    for number in 0..100 {
        wipe(&emulator, &device(number), 1);
    }
    emulator.control().set_latency(Duration::from_secs(1));
    let wire = service.wire().await;
    let call = wire.start_raw(LIST, &[], &request(0, "").encode_to_vec()).await;
    eventually("the list is in the middle", async || (emulator.control().queries().list >= 5).then_some(()))
        .await;
    drop(call);
    let line = service.audit_line("ListOperations", "CANCELLED").await;
    assert_eq!(line["decision"], "allow");
    // Requests that were sent before the disconnection may be counted after it.
    let queries = stable_queries(&emulator).await;
    assert!(queries.list < 60, "{queries:?}");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(emulator.control().queries(), queries);
    assert_eq!(failed_requests(&service, "timeout").await, 0.0);
    assert!(failed_requests(&service, "abandoned").await >= 1.0);
}

#[tokio::test]
async fn a_page_starts_no_request_that_its_deadline_would_cut_off() {
    let (emulator, service) = start().await;
    for number in 0..100 {
        wipe(&emulator, &device(number), 1);
    }
    emulator.control().set_latency(Duration::from_secs(2));
    let mut request = Request::new(request(0, ""));
    request.set_timeout(Duration::from_secs(8));
    let page = list(&mut service.client(), request).await.unwrap();
    assert!(!page.operations.is_empty() && !page.next_page_token.is_empty(), "{page:?}");
    let queries = emulator.control().queries();
    assert_eq!(queries.list, names([&page]).len() as u64, "each request is used");
    assert_eq!(failed_requests(&service, "timeout").await, 0.0);
}

#[tokio::test]
async fn requests_that_a_page_abandons_at_its_deadline_are_no_timeouts() {
    let (emulator, service) = start().await;
    for number in 0..9 {
        wipe(&emulator, &device(number), 1);
    }
    emulator.control().set_device_fault(&device(8), Some(HANGING));
    let mut request = Request::new(request(0, ""));
    // Less than the 5 s after which a request without a response is a timeout.
    request.set_timeout(Duration::from_secs(4));
    let page = list(&mut service.client(), request).await.unwrap();
    assert_eq!(page.operations.len(), 8);
    // Besides, there may be a hedge, which is sent after 3 s.
    eventually("the request is counted", async || {
        (failed_requests(&service, "abandoned").await == 1.0).then_some(())
    })
    .await;
    assert_eq!(failed_requests(&service, "timeout").await, 0.0);
}

#[tokio::test]
async fn a_request_that_is_not_answered_within_the_limit_is_a_timeout() {
    let (emulator, service) = start().await;
    wipe(&emulator, &device(0), 1);
    emulator.control().set_device_fault(&device(0), Some(HANGING));
    let partial = ListOperationsRequest { return_partial_success: true, ..request(0, "") };
    let page = list(&mut service.client(), partial).await.unwrap();
    assert_eq!(page.unreachable, [device(0)]);
    assert_eq!(
        (failed_requests(&service, "timeout").await, failed_requests(&service, "abandoned").await),
        (1.0, 0.0)
    );
}

#[tokio::test]
async fn lists_of_hanging_devices_delay_neither_a_cancel_nor_the_lists_of_others_for_long() {
    let emulator = emulator(settings()).await;
    let service = setup(&emulator).timeout("60s").start().await;
    let mut cancelled = String::new();
    for number in 0..60 {
        cancelled = wipe(&emulator, &device(number), 1).remove(0);
        if number >= 8 {
            emulator.control().set_device_fault(&device(number), Some(HANGING));
        }
    }
    let other = "enterprises/LC02/devices/d1";
    wipe(&emulator, other, 1);
    let lists: Vec<_> = (0..24)
        .map(|_| {
            let mut client = service.client();
            tokio::spawn(async move { client.list_operations(request(0, "")).await })
        })
        .collect();
    scrape_until("requests wait for slots", service.admin, |page| {
        page.find("countermand_upstream_queued_calls", &[]).is_some_and(|queued| queued > 50.0)
    })
    .await;
    emulator.control().set_device_fault(&device(59), None);
    // Less than the 5 s for which a request about a hanging device holds its slot.
    let cancel = timeout(Duration::from_secs(4), service.cancel(&cancelled)).await;
    cancel.expect("a cancel needs no slot of the lists").unwrap();
    let of_other = ListOperationsRequest { name: "enterprises/LC02/devices/-".to_owned(), ..request(0, "") };
    // The two requests of this list wait for the earlier ones, at most twice in a row. Without the limit of 5 s, they would
    // wait for upstream.timeout.
    let page = timeout(Duration::from_secs(50), service.client().list_operations(of_other)).await;
    assert_eq!(page.expect("the list of the other").unwrap().into_inner().operations.len(), 1);
    for list in lists {
        // A device that hangs ends the page. The next page would fail.
        let page = list.await.unwrap().unwrap().into_inner();
        assert!(!page.operations.is_empty() && !page.next_page_token.is_empty());
    }
    let token = service.client().list_operations(request(0, "")).await.unwrap().into_inner().next_page_token;
    let status = list(&mut service.client(), request(0, &token)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
}
