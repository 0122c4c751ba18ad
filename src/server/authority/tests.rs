use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A HEADERS frame with `:authority` as a literal with indexing.
fn headers(authority: &[u8]) -> Vec<u8> {
    let length = u8::try_from(authority.len()).unwrap();
    [&[0, 0, length + 2, 1, 4, 0, 0, 0, 1, 0x41, length], authority].concat()
}

/// Reads everything from `reader`, at most `size` bytes at a time.
async fn read_in_chunks(mut reader: impl AsyncRead + Unpin, size: usize) -> Vec<u8> {
    let (mut all, mut space) = (Vec::new(), vec![0; size]);
    loop {
        match reader.read(&mut space).await.unwrap() {
            0 => return all,
            read => all.extend_from_slice(&space[..read]),
        }
    }
}

#[tokio::test]
async fn the_preface_is_read_again() {
    for size in [1, 7, 24, 100] {
        let inner = tokio::io::join(&b"and the rest"[..], tokio::io::sink());
        let all = read_in_chunks(AuthorityReader::replacing(inner), size).await;
        assert_eq!(all, [&PREFACE[..], b"and the rest"].concat(), "{size}");
    }
}

#[tokio::test]
async fn invalid_authorities_are_replaced_for_reads_and_writes_of_any_size() {
    let sent = [headers(b"/run/s.sock"), headers(b"localhost"), headers(b"run%2Fs.sock")].concat();
    let replaced = [headers(b"aaaaaaaaaaa"), headers(b"localhost"), headers(b"aaaaaaaaaaaa")].concat();
    for written in [1, 2, 15, sent.len()] {
        for read in [1, 7, 1000] {
            let (mut client, server) = tokio::io::duplex(written);
            let sending = async {
                client.write_all(&sent).await.unwrap();
                drop(client);
            };
            let reader = AuthorityReader::replacing(server);
            let (all, ()) = tokio::join!(read_in_chunks(reader, read), sending);
            assert_eq!(all, [&PREFACE[..], &replaced].concat(), "{written} {read}");
        }
    }
}

#[tokio::test]
async fn a_connection_that_ends_inside_a_value_passes_all_bytes() {
    let sent = headers(b"/run/s.sock");
    for end in 0..sent.len() {
        let all =
            read_in_chunks(AuthorityReader::replacing(tokio::io::join(&sent[..end], tokio::io::sink())), 4);
        assert_eq!(all.await, [&PREFACE[..], &sent[..end]].concat());
    }
}

#[test]
fn the_log_has_a_bounded_escaped_authority_without_userinfo() {
    assert_eq!(logged(b"outbound|50051||a.b"), "outbound|50051||a.b");
    assert_eq!(logged(b"a\n\xff"), r"a\n\xff");
    assert_eq!(logged(b"user:password@h%"), "h%");
    assert_eq!(logged(&[b'/'; 101]), "/".repeat(100) + "...");
}
