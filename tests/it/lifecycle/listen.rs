//! Where `serve` listens, and where it refuses to.

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

async fn serve(room: &Path, words: &[&str]) -> Ended {
    run(countermand(&["serve", "--credentials", "key.json"]).args(words).current_dir(room)).await
}

/// A directory with a key that will not be used.
fn room() -> tempfile::TempDir {
    let room = tempfile::tempdir().unwrap();
    std::fs::write(room.path().join("key.json"), Key::generate().file("http://127.0.0.1:1/token")).unwrap();
    room
}

#[tokio::test]
async fn loopback_is_the_default() {
    let _alone = DEFAULT_PORT.lock().await;
    let room = room();
    let mut command = countermand(&["serve", "--credentials", "key.json", "--admin-listen", "127.0.0.1:0"]);
    let process = Process::start(command.current_dir(&room));
    // Somebody else may have the port: the complaint then names it.
    let line = process.stderr.see(|log| log.lines().find(|line| line.contains("listen")).map(str::to_owned));
    let line = line.await;
    assert!(line.contains("listening address=127.0.0.1:50051") || line.contains("listen on 127.0.0.1:50051"));
}

#[tokio::test]
async fn beyond_loopback_it_listens_only_when_told_twice() {
    let room = room();
    for (address, shown) in
        [("0.0.0.0:0", "0.0.0.0:0"), ("[::]:0", "[::]:0"), ("[::ffff:192.0.2.1]:0", "192.0.2.1")]
    {
        for (words, key) in [
            (["--listen", address, "--admin-listen", "off"], "--listen"),
            (["--listen", "127.0.0.1:0", "--admin-listen", address], "--admin-listen"),
        ] {
            let refused = serve(room.path(), &words).await;
            assert_eq!(refused.code, Some(78), "{refused:?}");
            let lines: Vec<_> = refused.stderr.lines().collect();
            let [count, fault] = lines[..] else { panic!("{refused:?}") };
            assert_eq!(count, "countermand: 1 error in the configuration:");
            assert!(fault.starts_with(&format!("{key}: ")) && fault.contains(shown), "{fault}");
            assert!(fault.contains("beyond this machine") && fault.contains("--allow-unauthenticated"));
            assert_eq!(refused.stdout, "");
        }
    }
    // 192.0.2.1 is nobody's (RFC 5737): allowed, it fails only at the bind.
    let words = ["--listen", "192.0.2.1:0", "--admin-listen", "off", "--allow-unauthenticated"];
    let allowed = serve(room.path(), &words).await;
    assert_eq!(allowed.code, Some(1), "{allowed:?}");
    assert!(allowed.stderr.contains("cannot listen on 192.0.2.1:0: "), "{allowed:?}");
}

#[tokio::test]
async fn a_port_in_use_is_one_clear_line() {
    let room = room();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    for words in
        [["--listen", &taken, "--admin-listen", "off"], ["--listen", "127.0.0.1:0", "--admin-listen", &taken]]
    {
        let refused = serve(room.path(), &words).await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        let complaints: Vec<_> = refused.stderr.lines().filter(|line| line.contains("ERROR")).collect();
        let [complaint] = complaints[..] else { panic!("{refused:?}") };
        let clear = format!("cannot listen on {taken}: Address already in use");
        assert!(complaint.contains(&clear), "{complaint}");
    }
}

#[tokio::test]
async fn several_listeners_serve_at_once() {
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
        connect(address).await.expect_err("none is left behind");
    }
}
