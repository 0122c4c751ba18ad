//! The wildcard `-` stands only for the device, and only in ListOperations.

use countermand::proto::longrunning::{
    CancelOperationRequest, GetOperationRequest, ListOperationsRequest, WaitOperationRequest,
};
use tonic::Code;
use tonic_types::StatusExt;

use crate::{
    recall::fixture::ALL,
    support::{service::Setup, upstream::Upstream},
};

#[tokio::test]
async fn every_other_use_of_the_wildcard_is_an_invalid_name() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let mut client = service.client();
    let list =
        |name: &str| ListOperationsRequest { name: name.to_owned(), ..ListOperationsRequest::default() };
    let name = format!("{ALL}/operations/17");
    for status in [
        client.cancel_operation(CancelOperationRequest { name: name.clone() }).await.unwrap_err(),
        client.get_operation(GetOperationRequest { name: name.clone() }).await.unwrap_err(),
        client.wait_operation(WaitOperationRequest { name, timeout: None }).await.unwrap_err(),
        client.get_operation(GetOperationRequest { name: ALL.to_owned() }).await.unwrap_err(),
        client.list_operations(list("enterprises/-/devices/-")).await.unwrap_err(),
        client.list_operations(list("enterprises/-/devices/d1")).await.unwrap_err(),
        client.list_operations(list("enterprises/LC01/devices/-/operations/-")).await.unwrap_err(),
    ] {
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "INVALID_NAME");
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "name");
    }
}
