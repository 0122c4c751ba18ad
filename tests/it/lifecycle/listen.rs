//! The addresses that `serve` listens on, and those that it refuses.

use std::{net::TcpListener, path::Path};

use crate::{
    lifecycle::{
        DEFAULT_PORT,
        caller::{cancel, connect},
        google::Google,
        key::Key,
        service::Service,
    },
    support::process::{Ended, Process, countermand, run},
};

async fn serve(dir: &Path, words: &[&str]) -> Ended {
    run(countermand(&["serve", "--credentials", "key.json"]).args(words).current_dir(dir)).await
}

/// A directory with a key file. The service never fetches a token with it.
fn config_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key.json"), Key::generate().file("http://127.0.0.1:1/token")).unwrap();
    dir
}

#[tokio::test]
async fn the_default_listener_is_on_loopback() {
    let _alone = DEFAULT_PORT.lock().await;
    let dir = config_dir();
    let mut command = countermand(&["serve", "--credentials", "key.json", "--admin-listen", "127.0.0.1:0"]);
    let process = Process::start(command.current_dir(&dir));
    // Another process may have the port. The error then names the port.
    let line = process.stderr.see(|log| log.lines().find(|line| line.contains("listen")).map(str::to_owned));
    let line = line.await;
    assert!(line.contains("listening address=127.0.0.1:50051") || line.contains("listen on 127.0.0.1:50051"));
}

#[tokio::test]
async fn an_address_beyond_loopback_needs_allow_unauthenticated() {
    let dir = config_dir();
    for (address, shown) in
        [("0.0.0.0:0", "0.0.0.0:0"), ("[::]:0", "[::]:0"), ("[::ffff:192.0.2.1]:0", "192.0.2.1")]
    {
        for (words, key) in [
            (["--listen", address, "--admin-listen", "off"], "--listen"),
            (["--listen", "127.0.0.1:0", "--admin-listen", address], "--admin-listen"),
        ] {
            let refused = serve(dir.path(), &words).await;
            assert_eq!(refused.code, Some(78), "{refused:?}");
            let lines: Vec<_> = refused.stderr.lines().collect();
            let [count, error] = lines[..] else { panic!("{refused:?}") };
            assert_eq!(count, "countermand: 1 error in the configuration:");
            assert!(error.starts_with(&format!("{key}: ")) && error.contains(shown), "{error}");
            assert!(error.contains("beyond this machine") && error.contains("--allow-unauthenticated"));
            assert_eq!(refused.stdout, "");
        }
    }
    // RFC 5737 reserves 192.0.2.1 for documentation, so an allowed listener fails at the bind.
    let words = ["--listen", "192.0.2.1:0", "--admin-listen", "off", "--allow-unauthenticated"];
    let allowed = serve(dir.path(), &words).await;
    assert_eq!(allowed.code, Some(1), "{allowed:?}");
    assert!(allowed.stderr.contains("cannot listen on 192.0.2.1:0: "), "{allowed:?}");
}

#[tokio::test]
async fn a_port_in_use_is_one_error_line() {
    let dir = config_dir();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let in_use = listener.local_addr().unwrap().to_string();
    for words in [
        ["--listen", &in_use, "--admin-listen", "off"],
        ["--listen", "127.0.0.1:0", "--admin-listen", &in_use],
    ] {
        let refused = serve(dir.path(), &words).await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        let errors: Vec<_> = refused.stderr.lines().filter(|line| line.contains("ERROR")).collect();
        let [error] = errors[..] else { panic!("{refused:?}") };
        let expected = format!("cannot listen on {in_use}: Address already in use");
        assert!(error.contains(&expected), "{error}");
    }
}

#[tokio::test]
async fn several_listeners_serve_at_the_same_time() {
    let google = Google::start().await;
    let service = Service::start_with(&google, |command| {
        _ = command.args(["--listen", "[::1]:0", "--listen", "127.0.0.2:0", "--listen", "unix:s.sock"]);
    })
    .await;
    let mut tcp = Vec::new();
    for start in ["127.0.0.1:", "[::1]:", "127.0.0.2:"] {
        let address = service.process.stderr.see(|log| {
            let listening = log.lines().filter_map(|line| line.split_once(": listening address="));
            listening
                .map(|(_, address)| address)
                .find(|address| address.starts_with(start))
                .map(str::to_owned)
        });
        tcp.push(address.await.parse().unwrap());
    }
    service.ready().await;
    for (id, address) in tcp.iter().enumerate() {
        cancel(*address, id).await.unwrap();
    }
    service.process.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(service.process.end().await.code, Some(0));
    for address in tcp {
        connect(address).await.expect_err("the listener is closed");
    }
}
