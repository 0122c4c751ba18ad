use super::*;

async fn list(service: &Service, request: ListOperationsRequest) -> Result<(usize, String), Status> {
    let page = service.list_operations(Request::new(request)).await?.into_inner();
    Ok((page.operations.len(), page.next_page_token))
}

fn device(page_token: &str) -> ListOperationsRequest {
    let name = "enterprises/LC01/devices/d1/operations".to_owned();
    ListOperationsRequest { name, page_token: page_token.to_owned(), ..ListOperationsRequest::default() }
}

#[tokio::test(start_paused = true)]
async fn pages_are_forwarded() {
    let api = FakeAmapi::default();
    (1..=5).for_each(|id| api.issue(&name(1, id)));
    api.issue(&name(2, 1));
    api.set_page_size(3);
    let (service, _serving) = api.serve();
    assert_eq!(list(&service, device("")).await.expect("a page"), (3, "3".to_owned()));
    assert_eq!(list(&service, device("3")).await.expect("a page"), (2, String::new()));
    let without_collection =
        ListOperationsRequest { name: "enterprises/LC01/devices/d2".to_owned(), ..device("") };
    assert_eq!(list(&service, without_collection).await.expect("a page"), (1, String::new()));
}

#[tokio::test(start_paused = true)]
async fn an_invalid_list_request_is_refused_without_a_query() {
    let api = FakeAmapi::default();
    let (service, _serving) = api.serve();
    for request in [
        ListOperationsRequest { page_size: -1, ..device("") },
        ListOperationsRequest { name: name(1, 1), ..device("") },
        ListOperationsRequest { name: "enterprises/-/devices/-".to_owned(), ..device("") },
        ListOperationsRequest { name: "enterprises/LC01/devices/-".to_owned(), ..device("next") },
    ] {
        let error = list(&service, request).await.expect_err("refused");
        assert_eq!(error.code(), Code::InvalidArgument);
    }
    assert_eq!(api.counts(), Counts::default());
}
