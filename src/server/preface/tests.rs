use tokio::io::AsyncWriteExt;

use super::*;

async fn read_from(sent: &[u8]) -> (io::Result<()>, Vec<u8>) {
    let (mut client, mut server) = tokio::io::duplex(1024);
    client.write_all(sent).await.unwrap();
    let result = read(&mut server).await;
    drop(client);
    let mut rest = Vec::new();
    server.read_to_end(&mut rest).await.unwrap();
    (result, rest)
}

#[tokio::test]
async fn exactly_the_preface_is_read() {
    let (result, rest) = read_from(&[PREFACE, &b"more"[..]].concat()).await;
    result.unwrap();
    assert_eq!(rest, b"more");
}

#[tokio::test]
async fn another_protocol_is_an_error_at_the_first_other_byte() {
    for (sent, what) in [
        (&b"\x16\x03\x01"[..], "speaks TLS"),
        (b"G", "does not speak HTTP/2"),
        (b"PRI * HTTP/2.0\r\n\r\nSX", "does not speak HTTP/2"),
    ] {
        let (mut client, mut server) = tokio::io::duplex(1024);
        client.write_all(sent).await.unwrap();
        // The client waits for a response and sends no more bytes.
        let error = read(&mut server).await.unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[tokio::test]
async fn a_close_before_the_preface_is_unexpected_eof() {
    for sent in [0, 1, PREFACE.len() - 1] {
        let (mut client, mut server) = tokio::io::duplex(1024);
        client.write_all(&PREFACE[..sent]).await.unwrap();
        drop(client);
        let error = read(&mut server).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
