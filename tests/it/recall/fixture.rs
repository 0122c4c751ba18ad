//! A service in front of an emulator with the devices of one enterprise.

use std::{net::SocketAddr, path::Path, time::Duration};

use countermand::proto::longrunning::{
    ListOperationsRequest, ListOperationsResponse, operations_client::OperationsClient,
};
use countermand_emulator::{Emulator, Quota, Settings};
use serde_json::json;
use tonic::{
    IntoRequest, Status,
    transport::{Channel, Endpoint},
};

use crate::support::{
    process::{Process, countermand},
    service::{Service, Setup},
    with_timeout,
};

/// All devices of the enterprise.
pub(super) const ALL: &str = "enterprises/LC01/devices/-";

/// The settings of an emulator whose devices never execute a command, without a quota.
pub(super) fn settings() -> Settings {
    let command_duration = Duration::from_secs(86_400);
    Settings { pick_up: None, command_duration, quota: Quota::UNLIMITED, ..Settings::default() }
}

pub(super) async fn emulator(settings: Settings) -> Emulator {
    Emulator::start("127.0.0.1:0".parse().unwrap(), settings).await.unwrap()
}

/// A service for the API of `emulator`.
pub(super) fn setup(emulator: &Emulator) -> Setup {
    Setup::new(emulator.url(), emulator.credentials().expose())
}

/// An emulator with the default [`settings`] and its service.
pub(super) async fn start() -> (Emulator, Service) {
    let emulator = emulator(settings()).await;
    let service = setup(&emulator).start().await;
    (emulator, service)
}

/// `serve` as a process in the directory `dir`, for the API of `emulator`, with further arguments. The log has lines from
/// `level` on. There is a token.
pub(super) async fn serve(
    emulator: &Emulator,
    dir: &Path,
    level: &str,
    arguments: &[&str],
) -> (Process, OperationsClient<Channel>) {
    std::fs::write(dir.join("key.json"), emulator.credentials().expose()).unwrap();
    let mut command = countermand(&["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off"]);
    command.args(["--credentials", "key.json", "--upstream-url", emulator.url()]).args(arguments);
    let process = Process::start(command.env("RUST_LOG", level).current_dir(dir));
    let address = process.stderr.see(|log| {
        let (_, rest) = log.split_once(": listening address=")?;
        rest.lines().next()?.parse::<SocketAddr>().ok()
    });
    let channel = Endpoint::from_shared(format!("http://{}", address.await)).unwrap().connect_lazy();
    process.stderr.has("token fetched").await;
    (process, OperationsClient::new(channel))
}

/// The name of a device. The order of the names is that of the numbers.
pub(super) fn device(number: usize) -> String {
    format!("enterprises/LC01/devices/d{number:04}")
}

/// Issues `count` WIPEs to a device, and returns the names of the operations.
pub(super) fn wipe(emulator: &Emulator, device: &str, count: usize) -> Vec<String> {
    emulator.control().issue_commands([device], count, &json!({"type": "WIPE"})).unwrap()
}

/// A request for a page of all operations of the enterprise.
pub(super) fn request(page_size: i32, page_token: &str) -> ListOperationsRequest {
    let (name, page_token) = (ALL.to_owned(), page_token.to_owned());
    ListOperationsRequest { name, page_size, page_token, ..ListOperationsRequest::default() }
}

/// One page.
pub(super) async fn list(
    client: &mut OperationsClient<Channel>,
    request: impl IntoRequest<ListOperationsRequest>,
) -> Result<ListOperationsResponse, Status> {
    let page = with_timeout("a page", client.list_operations(request)).await;
    page.map(tonic::Response::into_inner)
}

/// All pages from that of `request` on.
pub(super) async fn pages(
    client: &mut OperationsClient<Channel>,
    mut request: ListOperationsRequest,
) -> Vec<ListOperationsResponse> {
    let mut pages = Vec::new();
    loop {
        let page = list(client, request.clone()).await.unwrap();
        request.page_token.clone_from(&page.next_page_token);
        pages.push(page);
        if request.page_token.is_empty() {
            return pages;
        }
    }
}

/// The names of the operations on these pages.
pub(super) fn names<'a>(pages: impl IntoIterator<Item = &'a ListOperationsResponse>) -> Vec<String> {
    let operations = pages.into_iter().flat_map(|page| &page.operations);
    operations.map(|operation| operation.name.clone()).collect()
}
