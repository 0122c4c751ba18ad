//! Filters of a list over all devices.

use countermand::proto::longrunning::ListOperationsRequest;
use serde_json::json;
use tonic::Code;
use tonic_types::{ErrorDetails, StatusExt};

use crate::recall::fixture::{device, list, names, pages, request, start};

fn filtered(filter: &str) -> ListOperationsRequest {
    ListOperationsRequest { filter: filter.to_owned(), ..request(0, "") }
}

#[tokio::test]
async fn a_filter_selects_operations_by_state_type_and_time() {
    let (emulator, service) = start().await;
    let mut client = service.client();
    let mut issued = Vec::new();
    for number in 0..4 {
        for kind in ["WIPE", "LOCK"] {
            let operation = emulator.control().issue_command(&device(number), json!({"type": kind})).unwrap();
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            issued.push((text(&operation["name"]), kind, text(&operation["metadata"]["createTime"])));
        }
    }
    service.cancel(&issued[0].0).await.unwrap();
    service.cancel(&issued[1].0).await.unwrap();
    let created = &issued[2].2;
    for (filter, expected) in [
        ("done = false", &[2, 3, 4, 5, 6, 7][..]),
        ("done = true", &[0, 1]),
        ("metadata.type = \"WIPE\"", &[0, 2, 4, 6]),
        ("done = false AND metadata.type = \"WIPE\"", &[2, 4, 6]),
        ("metadata.type = \"WIPE\" OR done = true AND metadata.type = \"LOCK\"", &[1]),
        ("-done = true AND NOT metadata.type = \"WIPE\"", &[3, 5, 7]),
        (&format!("metadata.createTime < \"{created}\" AND done = false"), &[]),
        (&format!("metadata.createTime >= \"{created}\" AND done = false"), &[2, 3, 4, 5, 6, 7]),
        ("metadata.createTime > \"2100-01-01T00:00:00Z\"", &[]),
    ] {
        let expected: Vec<_> = expected.iter().map(|index| issued[*index].0.clone()).collect();
        let found = names(&pages(&mut client, filtered(filter)).await);
        assert_eq!(found, expected, "{filter}");
    }
}

#[tokio::test]
async fn an_unsupported_filter_is_a_field_violation() {
    let (emulator, service) = start().await;
    for filter in
        ["name = x", "done", "metadata.type : WIPE", "metadata.createTime > yesterday", "(done = true"]
    {
        let status = list(&mut service.client(), filtered(filter)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{filter}");
        let details: ErrorDetails = status.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "INVALID_FILTER");
        let violation = &details.bad_request().unwrap().field_violations[0];
        assert_eq!(violation.field, "filter");
        assert!(violation.description.contains("supported are done = true,"), "{violation:?}");
    }
    let many = ["metadata.createTime > \"2026-01-01T00:00:00Z\""; 65].join(" OR ");
    let status = list(&mut service.client(), filtered(&many)).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, "filter: more than 64 comparisons")
    );
    assert_eq!(emulator.control().queries().devices, 0);
}
