//! Connections, and failures to connect.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{
    client_commands::{
        countermand, object, run,
        server::{Address, serve},
        tls::requiring_client_certificate,
    },
    support::tls::Authority,
};

#[tokio::test]
async fn an_unreachable_server_is_unavailable_and_69() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let ended = countermand(&format!("cancel n --server {address}")).await;
    assert_eq!((ended.0, ended.1.as_str()), (69, ""));
    let begin = format!("countermand: UNAVAILABLE: {address} cannot be reached: ");
    assert!(ended.2.starts_with(&begin) && ended.2.lines().count() == 1, "{}", ended.2);

    for server in [address.to_string(), "unix:/nowhere/c.sock".to_owned()] {
        let ended = countermand(&format!("cancel n --server {server} --output json")).await;
        assert_eq!(ended.0, 69);
        assert_eq!(object(&ended)["code"], "UNAVAILABLE");
    }
    let (code, _, stderr) = countermand(&format!("probe --server {address}")).await;
    assert_eq!((code, stderr.lines().count()), (1, 1), "{stderr}");
}

#[tokio::test]
async fn a_server_without_grpc_is_unavailable_and_69() {
    for response in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b""] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut first = [0; 24];
            stream.read_exact(&mut first).await.unwrap();
            stream.write_all(response).await.unwrap();
        });
        let ended = countermand(&format!("cancel n --server {address} --output json")).await;
        assert_eq!(ended.0, 69, "{ended:?}");
        assert_eq!(object(&ended)["code"], "UNAVAILABLE");
        server.await.unwrap();
    }
}

#[tokio::test]
async fn a_unix_socket_works_like_tcp() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.sock");
    serve(Address::Unix(path.clone())).await;
    for server in [format!("unix:{}", path.display()), format!("unix://{}", path.display())] {
        let (code, stdout, _) = countermand(&format!("cancel ok --server {server}")).await;
        assert_eq!((code, stdout.as_str()), (0, "cancel accepted: ok\n"));
        let (code, stdout, _) = countermand(&format!("probe --server {server}")).await;
        assert_eq!((code, stdout.as_str()), (0, "SERVING\n"));
    }
}

#[tokio::test]
async fn a_unix_path_is_not_decoded() {
    let directory = tempfile::tempdir().unwrap();
    for (name, expected) in [("a b.sock", "SERVING\n"), ("a%20b.sock", ""), ("100%.sock", "SERVING\n")] {
        let path = directory.path().join(name);
        if !expected.is_empty() {
            serve(Address::Unix(path.clone())).await;
        }
        for prefix in ["unix:", "unix://", "unix:///"] {
            let address = format!("{prefix}{}", path.display());
            let (_, stdout, stderr) = run(&["probe", "--server", &address]).await;
            assert_eq!(stdout, expected, "{address} {stderr}");
        }
    }
}

#[tokio::test]
async fn tls_verifies_the_server_and_presents_the_client_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display();
    let authority = Authority::new();
    authority.console().write(&directory.path().join("client.pem"), &directory.path().join("client.key"));
    std::fs::write(directory.path().join("ca.pem"), authority.pem()).unwrap();
    std::fs::write(directory.path().join("other-ca.pem"), Authority::new().pem()).unwrap();
    let server = serve(Address::Tls(requiring_client_certificate(&authority))).await;
    let port = server.rsplit_once(':').unwrap().1;

    let client_certificate = format!("--tls-cert {path}/client.pem --tls-key {path}/client.key");
    let ca = format!("--tls-ca {path}/ca.pem");
    for address in [format!("localhost:{port}"), format!("https://localhost:{port}")] {
        let (code, stdout, stderr) =
            countermand(&format!("cancel ok --server {address} {ca} {client_certificate}")).await;
        assert_eq!((code, stdout.as_str()), (0, "cancel accepted: ok\n"), "{stderr}");
    }
    let (code, stdout, _) =
        countermand(&format!("probe --server localhost:{port} {ca} {client_certificate}")).await;
    assert_eq!((code, stdout.as_str()), (0, "SERVING\n"));

    for (flags, cause) in [
        (ca, "--tls-cert"),
        (format!("--tls-ca {path}/other-ca.pem {client_certificate}"), "invalid peer certificate"),
        (client_certificate, "UnknownIssuer"),
    ] {
        let line = format!("cancel ok --server localhost:{port} {flags} --output json");
        let ended = countermand(&line).await;
        assert_eq!(ended.0, 69, "{line} {ended:?}");
        let object = object(&ended);
        assert_eq!(object["code"], "UNAVAILABLE");
        assert!(object["message"].as_str().unwrap().contains(cause), "{object}");
    }
}

/// Google's clients send this header too (AIP-4222). A mesh can send all calls about an operation to one replica by it.
#[tokio::test]
async fn each_command_sends_the_name_as_the_routing_header() {
    let server = serve(Address::Tcp).await;
    let operation = "enterprises/LC01/devices/d1/operations/a%20b:echo-routing";
    let device = "enterprises/LC01/devices/echo-routing";
    for (command, name, sent) in [
        ("get", operation, "enterprises%2FLC01%2Fdevices%2Fd1%2Foperations%2Fa%2520b%3Aecho-routing"),
        ("wait", operation, "enterprises%2FLC01%2Fdevices%2Fd1%2Foperations%2Fa%2520b%3Aecho-routing"),
        ("cancel", operation, "enterprises%2FLC01%2Fdevices%2Fd1%2Foperations%2Fa%2520b%3Aecho-routing"),
        ("list", device, "enterprises%2FLC01%2Fdevices%2Fecho-routing"),
    ] {
        let (code, _, stderr) = countermand(&format!("{command} {name} --server {server}")).await;
        let last_line = stderr.lines().last().unwrap();
        assert_eq!((code, last_line), (1, &*format!("countermand: ABORTED: name={sent}")), "{command}");
    }
}
