//! Devices that cannot be read, deadlines and quotas.

use std::time::Duration;

use countermand::proto::longrunning::ListOperationsRequest;
use countermand_emulator::{DeviceFault, Fault, Quota, Settings};
use tonic::{Code, Request};

use crate::{
    recall::fixture::{device, emulator, list, names, pages, request, settings, setup, start, wipe},
    support::details::{assert_our_error, decode},
};

/// A request with a deadline.
fn within(timeout: Duration, request: ListOperationsRequest) -> Request<ListOperationsRequest> {
    let mut request = Request::new(request);
    request.set_timeout(timeout);
    request
}

#[tokio::test]
async fn a_device_that_fails_is_unreachable_if_partial_success_is_requested() {
    let (emulator, service) = start().await;
    let mut client = service.client();
    let all: Vec<_> = (0..6).flat_map(|number| wipe(&emulator, &device(number), 1)).collect();
    emulator.control().set_device_fault(&device(2), Some(DeviceFault::Failing(Fault::Unavailable)));
    // The first page ends before the device, so that only the device is read again.
    let first = list(&mut client, request(0, "")).await.unwrap();
    assert_eq!(names([&first]), all[..2]);
    let queries = emulator.control().queries();
    let status = list(&mut client, request(0, &first.next_page_token)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(!decode(&status).details.is_empty());
    let after = emulator.control().queries();
    // A failed read has at most four tries.
    assert!(after.devices == queries.devices && after.list <= queries.list + 4, "{queries:?} {after:?}");

    let partial = ListOperationsRequest { return_partial_success: true, ..request(0, "") };
    let page = list(&mut client, partial).await.unwrap();
    assert_eq!((&page.unreachable[..], page.next_page_token.as_str()), (&[device(2)][..], ""));
    assert_eq!(names([&page]), [&all[..2], &all[3..]].concat());
}

#[tokio::test]
async fn a_list_fails_if_the_devices_cannot_be_listed() {
    let (emulator, service) = start().await;
    wipe(&emulator, &device(0), 1);
    emulator.control().fail_next(4, Fault::Unavailable);
    let partial = ListOperationsRequest { return_partial_success: true, ..request(0, "") };
    let status = list(&mut service.client(), partial).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(emulator.control().queries().list, 0);
}

#[tokio::test]
async fn a_page_ends_before_the_deadline_with_what_was_read() {
    let (emulator, service) = start().await;
    let mut client = service.client();
    let all: Vec<_> = (0..6).flat_map(|number| wipe(&emulator, &device(number), 1)).collect();
    let slow = DeviceFault::Slow(Duration::from_secs(3600));
    emulator.control().set_device_fault(&device(3), Some(slow));
    // Less than the 5 s after which a device without a response fails.
    let timeout = Duration::from_secs(4);
    let first = list(&mut client, within(timeout, request(0, ""))).await.unwrap();
    assert_eq!(names([&first]), all[..3]);
    // Without any progress, the deadline is an error.
    let rest = request(0, &first.next_page_token);
    let status = list(&mut client, within(timeout, rest.clone())).await.unwrap_err();
    assert_our_error(&status, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    // With partial success, the device is unreachable before the deadline.
    let partial = ListOperationsRequest { return_partial_success: true, ..rest };
    let page = list(&mut client, within(timeout, partial)).await.unwrap();
    assert_eq!(page.unreachable, [device(3)]);
    emulator.control().set_device_fault(&device(3), None);
    let rest = pages(&mut client, request(0, &first.next_page_token)).await;
    assert_eq!(names(&rest), all[3..]);
}

#[tokio::test]
async fn a_list_advances_with_a_deadline_of_little_more_than_one_request() {
    let (emulator, service) = start().await;
    let mut client = service.client();
    let all: Vec<_> = (0..3).flat_map(|number| wipe(&emulator, &device(number), 1)).collect();
    // The page of the devices and the list of one device do not both fit the deadline. No request is hedged, because that
    // happens after 3 s.
    emulator.control().set_latency(Duration::from_millis(2600));
    let (mut listed, mut token) = (Vec::new(), String::new());
    for _ in 0..4 {
        let page = list(&mut client, within(Duration::from_secs(5), request(0, &token))).await.unwrap();
        listed.extend(names([&page]));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!((listed, token.as_str()), (all, ""));
    assert_eq!(emulator.control().queries().devices, 1);
}

#[tokio::test]
async fn the_pages_of_one_device_that_were_read_before_the_deadline_count() {
    let emulator = emulator(Settings { max_page_size: 1, ..settings() }).await;
    let service = setup(&emulator).start().await;
    let mut client = service.client();
    let all = wipe(&emulator, &device(0), 4);
    // Each request takes 0.4 s, so that the four pages of the device do not end within the deadline.
    emulator.control().set_latency(Duration::from_millis(400));
    let filter = "metadata.type = LOCK".to_owned();
    let nothing = ListOperationsRequest { filter, ..request(1, "") };
    let page = list(&mut client, within(Duration::from_millis(1800), nothing.clone())).await.unwrap();
    assert!(page.operations.is_empty() && !page.next_page_token.is_empty());
    let queries = emulator.control().queries();
    // The last of these requests was not answered.
    assert!((2..=4).contains(&queries.list), "{queries:?}");
    emulator.control().set_latency(Duration::ZERO);
    let rest = ListOperationsRequest { page_token: page.next_page_token, ..nothing };
    let page = list(&mut client, rest).await.unwrap();
    assert_eq!((page.operations.len(), page.next_page_token.as_str()), (0, ""));
    assert!(emulator.control().queries().list < queries.list + 4, "the list goes on within the device");
    assert_eq!(emulator.control().pending(), all);
}

#[tokio::test]
async fn a_page_ends_when_the_quota_is_exhausted() {
    let (emulator, service) = start().await;
    let mut client = service.client();
    let all: Vec<_> = (0..12).flat_map(|number| wipe(&emulator, &device(number), 1)).collect();
    let window = Duration::from_secs(3600);
    emulator.control().set_quota(Quota { queries: Some(6), window });
    let partial = |token: &str| ListOperationsRequest { return_partial_success: true, ..request(0, token) };
    let first = list(&mut client, partial("")).await.unwrap();
    let read = first.operations.len();
    assert!((1..=5).contains(&read) && first.unreachable.is_empty(), "{first:?}");
    assert_eq!(names([&first]), all[..read]);
    let status = list(&mut client, partial(&first.next_page_token)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    emulator.control().set_quota(Quota::UNLIMITED);
    let rest = pages(&mut client, partial(&first.next_page_token)).await;
    assert_eq!(names(&rest), all[read..]);
}
