use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use tonic::{Code, Request, Status};

use crate::{
    audit::Record,
    caller::Caller,
    operations::{
        Operations,
        call::Call,
        fake_amapi::{FakeAmapi, SECOND},
    },
    proto::longrunning::{ListOperationsRequest, ListOperationsResponse, operations_server::Operations as _},
};

type Service = Arc<Operations<FakeAmapi>>;

fn device(number: usize) -> String {
    format!("enterprises/LC01/devices/d{number:02}")
}

/// An API with this number of operations on each device.
fn api(operations: &[usize]) -> FakeAmapi {
    let api = FakeAmapi::default();
    for (number, count) in operations.iter().enumerate() {
        (0..*count).for_each(|id| api.issue(&format!("{}/operations/{id:03}", device(number))));
    }
    api
}

/// A list in a call with this record and deadline.
fn list(
    service: &Service,
    record: &Record,
    timeout: Duration,
    page_size: i32,
    page_token: &str,
) -> impl Future<Output = Result<ListOperationsResponse, Status>> + use<> {
    let name = "enterprises/LC01/devices/-".to_owned();
    let page_token = page_token.to_owned();
    let mut request = Request::new(ListOperationsRequest {
        name,
        page_size,
        page_token,
        ..ListOperationsRequest::default()
    });
    request.extensions_mut().insert(Call {
        caller: Caller::anonymous(),
        arrived: Instant::now(),
        timeout: Some(timeout),
        record: record.clone(),
    });
    let service = Arc::clone(service);
    async move { service.list_operations(request).await.map(tonic::Response::into_inner) }
}

async fn page(service: &Service, page_size: i32, token: &str) -> Result<ListOperationsResponse, Status> {
    list(service, &Record::default(), 60 * SECOND, page_size, token).await
}

/// A request takes 0.1 s, and the list of the devices is the first.
#[tokio::test(start_paused = true)]
async fn the_number_of_reads_at_once_grows_to_sixteen() {
    let api = api(&[1; 60]);
    let (service, _serving) = api.serve();
    let listing = tokio::spawn(list(&service, &Record::default(), 60 * SECOND, 0, ""));
    let mut reads = Vec::new();
    for _ in 0..5 {
        sleep(SECOND / 10).await;
        sleep(SECOND / 1000).await;
        reads.push(api.lists_in_flight());
    }
    assert_eq!(reads, [1, 3, 9, 16, 16]);
    assert_eq!(listing.await.expect("no panic").expect("a page").operations.len(), 60);
    assert_eq!(api.max_lists_in_flight(), 16);
}

#[tokio::test(start_paused = true)]
async fn no_more_devices_are_read_at_once_than_probably_fit_the_page() {
    let api = api(&[4; 40]);
    let (service, _serving) = api.serve();
    let first = page(&service, 22, "").await.expect("a page");
    assert_eq!((first.operations.len(), api.counts().lists), (20, 5));
}

#[tokio::test(start_paused = true)]
async fn a_page_starts_no_read_shortly_before_the_deadline() {
    let api = api(&[1; 60]);
    let (service, _serving) = api.serve();
    let start = Instant::now();
    // The page ends a tenth of the deadline before it: 0.45 s. The requests end after 0.1, 0.2, 0.3 and 0.4 s.
    let page = list(&service, &Record::default(), SECOND / 2, 0, "").await.expect("a page");
    assert_eq!((page.operations.len(), api.counts().lists), (13, 13));
    assert_eq!(start.elapsed().as_millis() / 10, 40);
    assert!(!page.next_page_token.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_page_of_devices_is_progress() {
    let api = api(&[1; 3]);
    let (service, _serving) = api.serve();
    let empty = list(&service, &Record::default(), 3 * SECOND / 20, 0, "").await.expect("a page");
    assert_eq!((empty.operations.len(), api.counts().lists), (0, 0));
    let rest = page(&service, 0, &empty.next_page_token).await.expect("a page");
    assert_eq!((rest.operations.len(), rest.next_page_token.as_str()), (3, ""));
    assert_eq!(api.counts().devices, 1);
}

#[tokio::test(start_paused = true)]
async fn the_reads_end_when_the_caller_disconnects() {
    let api = api(&[1; 60]);
    let (service, _serving) = api.serve();
    let record = Record::default();
    let listing = tokio::spawn(list(&service, &record, 60 * SECOND, 0, ""));
    sleep(SECOND / 4).await;
    assert_eq!(api.lists_in_flight(), 3);
    record.disconnected();
    let status = listing.await.expect("no panic").expect_err("the caller left");
    assert_eq!((status.code(), api.lists_in_flight()), (Code::Cancelled, 0));
    assert_eq!(api.counts().lists, 4);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_fails_behind_a_full_page_fails_the_next_page_only() {
    let api = api(&[5, 10, 5, 5]);
    api.fail_device(&device(2));
    let (service, _serving) = api.serve();
    let first = page(&service, 15, "").await.expect("a page");
    assert_eq!(first.operations.len(), 15);
    let lists = api.counts().lists;
    let error = page(&service, 15, &first.next_page_token).await.expect_err("the device fails");
    assert_eq!((error.code(), api.counts().lists), (Code::Unavailable, lists + 1));
}

#[tokio::test(start_paused = true)]
async fn a_hanging_device_ends_the_page_at_its_deadline() {
    let api = api(&[1; 8]);
    api.hang(&device(5));
    let (service, _serving) = api.serve();
    let start = Instant::now();
    let first = page(&service, 0, "").await.expect("a page");
    assert_eq!(first.operations.len(), 5);
    // The timeout of the service.
    assert_eq!(start.elapsed().as_secs(), 30);
    assert_eq!(api.lists_in_flight(), 0);
    let error = page(&service, 0, &first.next_page_token).await.expect_err("nothing was read");
    assert_eq!(error.code(), Code::DeadlineExceeded);
}
