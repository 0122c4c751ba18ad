//! Pages of the upstream with members that a list cannot use: names of other resources, and repeated tokens.

use countermand::proto::longrunning::{
    ListOperationsRequest, ListOperationsResponse, operations_client::OperationsClient,
};
use serde_json::{Value, json};
use tonic::{Code, Status, transport::Endpoint};

use crate::{
    recall::fixture::{list, names, request},
    support::{
        account,
        details::assert_our_error,
        process::{Process, countermand},
        reply::Reply,
        service::Setup,
        upstream::Upstream,
    },
};

fn operation(device: &str, id: usize) -> Value {
    json!({"name": format!("enterprises/LC01/devices/{device}/operations/{id}")})
}

fn devices(ids: &[&str]) -> Value {
    let devices: Vec<_> =
        ids.iter().map(|id| json!({"name": format!("enterprises/LC01/devices/{id}")})).collect();
    json!({"devices": devices})
}

fn partial() -> ListOperationsRequest {
    ListOperationsRequest { return_partial_success: true, ..request(0, "") }
}

/// The pages of a list until it fails, from an upstream with these responses.
async fn pages_from(replies: &[Value]) -> (Vec<ListOperationsResponse>, Option<Status>) {
    let upstream = Upstream::start().await;
    upstream.answers(replies.iter().map(|reply| Reply::json(200, reply)));
    let service = Setup::of(&upstream).start().await;
    let (mut pages, mut token) = (Vec::<ListOperationsResponse>::new(), String::new());
    loop {
        match list(&mut service.client(), request(0, &token)).await {
            Ok(page) => {
                token.clone_from(&page.next_page_token);
                pages.push(page);
            }
            Err(status) => return (pages, Some(status)),
        }
        if token.is_empty() {
            return (pages, None);
        }
    }
}

/// The first page of a list, from an upstream with these responses.
async fn list_from(
    replies: &[Value],
    request: ListOperationsRequest,
) -> Result<ListOperationsResponse, Status> {
    let upstream = Upstream::start().await;
    upstream.answers(replies.iter().map(|reply| Reply::json(200, reply)));
    let service = Setup::of(&upstream).start().await;
    list(&mut service.client(), request).await
}

#[tokio::test]
async fn a_device_whose_page_token_repeats_is_unreachable() {
    let of_a = |id, token: &str| json!({"operations": [operation("a", id)], "nextPageToken": token});
    for (repeating, again) in [
        (vec![of_a(1, "t"), of_a(2, "t")], of_a(2, "t")),
        (vec![of_a(1, "t"), of_a(2, "u"), of_a(1, "t")], of_a(1, "u")),
    ] {
        let mut replies = [vec![devices(&["a", "b"])], repeating].concat();
        // The first page ends before the repetition, and the next page fails.
        let (pages, status) = pages_from(&[&replies[..], &[again]].concat()).await;
        assert_our_error(&status.unwrap(), Code::Internal, "UPSTREAM_MALFORMED");
        assert_eq!(pages.len(), 1);
        replies.push(json!({"operations": [operation("b", 1)]}));
        let page = list_from(&replies, partial()).await.unwrap();
        assert_eq!(page.unreachable, ["enterprises/LC01/devices/a"]);
        let listed = names([&page]);
        assert_eq!(listed.first().unwrap(), "enterprises/LC01/devices/a/operations/1");
        assert_eq!(listed.last().unwrap(), "enterprises/LC01/devices/b/operations/1");
        assert_eq!(page.next_page_token, "");
    }
}

#[tokio::test]
async fn a_page_of_devices_that_repeats_its_token_fails_the_list() {
    let of_page = |id: &str, operation_id| {
        let mut page = devices(&[id]);
        page["nextPageToken"] = "d".into();
        [page, json!({"operations": [operation(id, operation_id)]})]
    };
    let replies = [&of_page("a", 1)[..], &of_page("b", 2)[..1]].concat();
    let (pages, status) = pages_from(&replies).await;
    assert_our_error(&status.unwrap(), Code::Internal, "UPSTREAM_MALFORMED");
    assert_eq!(names(&pages), ["enterprises/LC01/devices/a/operations/1"]);
}

#[tokio::test]
async fn a_device_whose_page_token_is_too_long_is_unreachable() {
    let mut of_a = json!({"operations": [operation("a", 1)], "nextPageToken": "t".repeat(4096)});
    let longest = [devices(&["a"]), of_a.clone(), json!({"operations": [operation("a", 2)]})];
    let page = list_from(&longest, partial()).await.unwrap();
    assert_eq!((page.operations.len(), page.unreachable.len()), (2, 0));
    of_a["nextPageToken"] = "t".repeat(4097).into();
    let page = list_from(&[devices(&["a"]), of_a], partial()).await.unwrap();
    assert_eq!(
        (page.operations.len(), &page.unreachable[..]),
        (0, &["enterprises/LC01/devices/a".to_owned()][..])
    );
}

#[tokio::test]
async fn an_unusable_device_name_fails_a_list_without_partial_success_only() {
    for unusable in [
        json!({"name": "enterprises/LC02/devices/b"}),
        json!({"name": "enterprises/LC01/devices/\u{1b}[31m"}),
        json!({"name": 7}),
        json!({}),
    ] {
        let mut page = devices(&["a", "c"]);
        page["devices"].as_array_mut().unwrap().insert(1, unusable);
        let status = list_from(&[page.clone()], request(0, "")).await.unwrap_err();
        assert_our_error(&status, Code::Internal, "UPSTREAM_MALFORMED");
        let of_devices = ["a", "c"].map(|device| json!({"operations": [operation(device, 1)]}));
        let page = list_from(&[&[page], &of_devices[..]].concat(), partial()).await.unwrap();
        assert_eq!((page.operations.len(), page.unreachable.len()), (2, 0));
    }
}

#[tokio::test]
async fn an_operation_of_another_device_is_not_listed() {
    let of_a = json!({"operations": [
        operation("a", 1),
        operation("b", 2),
        {"name": "enterprises/LC02/devices/a/operations/3"},
        {"name": "enterprises/LC01/devices/a/operations/../4"},
        {},
    ]});
    let page = list_from(&[devices(&["a"]), of_a.clone()], request(0, "")).await.unwrap();
    assert_eq!(names([&page]), ["enterprises/LC01/devices/a/operations/1"]);
    // A list of one device is Google's response.
    let of_one = ListOperationsRequest { name: "enterprises/LC01/devices/a".to_owned(), ..request(0, "") };
    assert_eq!(list_from(&[of_a], of_one).await.unwrap().operations.len(), 5);
}

#[tokio::test]
async fn what_is_not_listed_is_in_the_log() {
    let upstream = Upstream::start().await;
    let mut page = devices(&["a"]);
    let other = json!({"name": "enterprises/LC02/devices/\u{1b}secret"});
    page["devices"].as_array_mut().unwrap().extend([other.clone(), other]);
    let of_a = json!({"operations": [operation("a", 1), operation("b", 2)]});
    upstream.answers([page, of_a].iter().map(|reply| Reply::json(200, reply)));
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("key.json"), account::key_file(&upstream.token_url())).unwrap();
    let mut serve = countermand(&["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off"]);
    serve.args(["--credentials", "key.json", "--upstream-url", upstream.url()]).current_dir(&files);
    let process = Process::start(&mut serve);
    let address: String = process
        .stderr
        .see(|log| Some(log.split_once(": listening address=")?.1.lines().next()?.to_owned()))
        .await;
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    assert_eq!(list(&mut OperationsClient::new(channel), partial()).await.unwrap().operations.len(), 1);
    let line =
        |part: &'static str| move |log: &str| log.lines().find(|line| line.contains(part)).map(str::to_owned);
    let devices = process.stderr.see(line("devices of an enterprise")).await;
    assert!(devices.contains("WARN") && devices.contains("enterprise=enterprises/LC01"), "{devices}");
    assert!(devices.contains("count=2") && !devices.contains("secret"), "{devices}");
    let operations = process.stderr.see(line("operations of other devices")).await;
    assert!(operations.contains("WARN") && operations.contains("count=1"), "{operations}");
    assert!(operations.contains("device=enterprises/LC01/devices/a"), "{operations}");
}
