//! `probe`.

use crate::client_commands::{
    countermand,
    server::{Address, serve},
};

#[tokio::test]
async fn the_exit_code_of_a_probe_reports_whether_the_server_is_serving() {
    let server = serve(Address::Tcp).await;
    let (code, stdout, stderr) = countermand(&format!("probe --server {server}")).await;
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "SERVING\n", ""));
    let server = serve(Address::NotServing).await;
    let (code, stdout, stderr) = countermand(&format!("probe --server {server}")).await;
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert_eq!(stderr, "countermand: the server reports NOT_SERVING\n");
}
