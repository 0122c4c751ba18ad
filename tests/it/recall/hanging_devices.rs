//! Devices that Google does not answer for: their place in a list, and the operations of the other devices.

use std::{collections::BTreeSet, time::Duration};

use countermand::proto::longrunning::{ListOperationsRequest, ListOperationsResponse};
use countermand_emulator::{DeviceFault, Emulator};
use tokio::time::timeout;
use tonic::Request;

use crate::{
    recall::fixture::{device, emulator, list, names, pages, request, settings, setup, wipe},
    support::service::Service,
};

/// No request about such a device is answered within a test.
const HANGING: DeviceFault = DeviceFault::Slow(Duration::from_secs(3600));

/// The time in which a list must end. It is less than the timeout of the service.
const LIST_TIMEOUT: Duration = Duration::from_secs(40);

/// An emulator, and a service whose `upstream.timeout` is longer than [`LIST_TIMEOUT`].
async fn start() -> (Emulator, Service) {
    let emulator = emulator(settings()).await;
    let service = setup(&emulator).timeout("60s").start().await;
    (emulator, service)
}

fn partial(page_size: i32, page_token: &str) -> ListOperationsRequest {
    ListOperationsRequest { return_partial_success: true, ..request(page_size, page_token) }
}

/// All pages of a list with partial success.
async fn partial_pages(service: &Service, page_size: i32, page_token: &str) -> Vec<ListOperationsResponse> {
    let mut client = service.client();
    let all = pages(&mut client, partial(page_size, page_token));
    timeout(LIST_TIMEOUT, all).await.expect("the list ends before upstream.timeout")
}

/// Issues WIPEs to the devices: `count` gives their number for a device. Returns the names for the devices outside of
/// `hanging`, which hang from now on.
fn wipe_all(
    emulator: &Emulator,
    devices: usize,
    count: impl Fn(usize) -> usize,
    hanging: &[usize],
) -> BTreeSet<String> {
    let mut of_others = BTreeSet::new();
    for number in 0..devices {
        let names = wipe(emulator, &device(number), count(number));
        if hanging.contains(&number) {
            emulator.control().set_device_fault(&device(number), Some(HANGING));
        } else {
            of_others.extend(names);
        }
    }
    of_others
}

/// Asserts that the pages have each of these operations once, and name each of these devices once as unreachable.
#[track_caller]
fn assert_listed(pages: &[ListOperationsResponse], operations: &BTreeSet<String>, unreachable: &[usize]) {
    let mut listed = names(pages);
    listed.sort();
    assert!(listed.iter().eq(operations), "{} of {}", listed.len(), operations.len());
    let mut named: Vec<_> = pages.iter().flat_map(|page| page.unreachable.clone()).collect();
    named.sort();
    assert_eq!(named, unreachable.iter().copied().map(device).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_hanging_device_is_unreachable_and_the_others_are_listed() {
    let case = async |hanging: usize, page_size: i32| {
        let (emulator, service) = start().await;
        // The operations of the second device do not fit a page of 10.
        let count = |number| if number == 1 { 25 } else { 2 };
        let operations = wipe_all(&emulator, 20, count, &[hanging]);
        assert_listed(&partial_pages(&service, page_size, "").await, &operations, &[hanging]);
    };
    tokio::join!(case(0, 0), case(0, 10), case(9, 0), case(9, 10), case(19, 0), case(19, 10));
}

#[tokio::test]
async fn the_first_page_does_not_wait_until_a_hanging_device_is_unreachable() {
    let (emulator, service) = start().await;
    let operations = wipe_all(&emulator, 20, |_| 2, &[0]);
    let mut client = service.client();
    let first = timeout(LIST_TIMEOUT, list(&mut client, partial(10, ""))).await.expect("a page").unwrap();
    assert!(!first.operations.is_empty() && first.unreachable.is_empty(), "{first:?}");
    let rest = partial_pages(&service, 10, &first.next_page_token).await;
    assert_listed(&[&[first], &rest[..]].concat(), &operations, &[0]);
}

#[tokio::test]
async fn a_page_with_operations_does_not_wait_until_the_last_device_is_unreachable() {
    let (emulator, service) = start().await;
    let mut operations = wipe_all(&emulator, 3, |_| 2, &[]);
    operations.extend(wipe(&emulator, &device(3), 2));
    emulator.control().set_device_fault(&device(3), Some(HANGING));
    let mut client = service.client();
    let first = timeout(LIST_TIMEOUT, list(&mut client, partial(0, ""))).await.expect("a page").unwrap();
    assert!(!first.operations.is_empty() && first.unreachable.is_empty(), "{first:?}");
    // A device that responds again is read.
    emulator.control().set_device_fault(&device(3), None);
    let rest = partial_pages(&service, 0, &first.next_page_token).await;
    assert_listed(&[&[first], &rest[..]].concat(), &operations, &[]);
}

#[tokio::test]
async fn the_pages_after_the_first_wait_for_slow_devices() {
    let (emulator, service) = start().await;
    let slow: Vec<_> = (0..24).filter(|number| number % 2 == 0).collect();
    let mut operations = wipe_all(&emulator, 24, |_| 2, &slow);
    for number in slow {
        operations.extend((0..2).map(|_| wipe(&emulator, &device(number), 1).remove(0)));
        emulator.control().set_device_fault(&device(number), Some(DeviceFault::Slow(Duration::from_secs(2))));
    }
    let pages = partial_pages(&service, 0, "").await;
    let mut listed = names(&pages);
    listed.sort();
    listed.dedup();
    assert!(operations.is_subset(&listed.into_iter().collect()));
    // The first page may have begun all reads of slow devices. A device that a busy machine delays for 1 s is slow too, and
    // is read again. Pages that do not wait are six, with 78 lists.
    let queries = emulator.control().queries();
    assert!((2..=3).contains(&pages.len()) && queries.list <= 48, "{} pages, {queries:?}", pages.len());
}

#[tokio::test]
async fn a_list_ends_if_most_devices_hang() {
    let (emulator, service) = start().await;
    let hanging: Vec<_> = (0..60).filter(|number| number % 3 != 0).collect();
    let operations = wipe_all(&emulator, 60, |_| 2, &hanging);
    assert_listed(&partial_pages(&service, 0, "").await, &operations, &hanging);
}

#[tokio::test]
async fn a_device_that_hangs_after_its_first_page_is_unreachable() {
    let (emulator, service) = start().await;
    let of_others = wipe_all(&emulator, 6, |_| 2, &[0]);
    emulator.control().set_device_fault(&device(0), None);
    wipe(&emulator, &device(0), 30);
    let mut client = service.client();
    let first = list(&mut client, partial(10, "")).await.unwrap();
    assert_eq!(first.operations.len(), 10);
    emulator.control().set_device_fault(&device(0), Some(HANGING));
    let rest = partial_pages(&service, 10, &first.next_page_token).await;
    assert_listed(&rest, &of_others, &[0]);
}

#[tokio::test]
async fn the_wait_for_the_quota_makes_no_device_unreachable() {
    let emulator = emulator(settings()).await;
    let service = setup(&emulator).quota("limit = 2\nperiod = \"5s\"\nburst = 1").start().await;
    let operations = wipe_all(&emulator, 3, |_| 1, &[]);
    let mut client = service.client();
    let mut pages = vec![list(&mut client, partial(1, "")).await.unwrap()];
    while let Some(page) = pages.last().filter(|page| !page.next_page_token.is_empty()) {
        // Each read waits for 5 s. A device has half of the page's 8.25 s to respond, which is less than the wait.
        let mut request = Request::new(partial(1, &page.next_page_token));
        request.set_timeout(Duration::from_millis(8500));
        pages.push(list(&mut client, request).await.unwrap());
    }
    assert_listed(&pages, &operations, &[]);
}
