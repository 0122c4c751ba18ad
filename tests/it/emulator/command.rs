//! `countermand emulate` as a process.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

/// A running `countermand emulate`. It is killed when it is dropped.
struct EmulateProcess {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl EmulateProcess {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countermand"));
        let mut child = command
            .arg("emulate")
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let lines = BufReader::new(child.stdout.take().expect("standard output is piped"));
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("standard output is text");
        line
    }
}

impl Drop for EmulateProcess {
    fn drop(&mut self) {
        // The process has usually ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn emulate_prints_its_url_when_it_listens_and_exits_with_0_on_a_signal() {
    for signal in ["-TERM", "-INT"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("credentials.json");
        let path_text = path.to_str().unwrap();
        let mut emulate =
            EmulateProcess::start(&["--listen", "127.0.0.1:0", "--write-credentials", path_text]);
        let line = emulate.line();
        let url = line.strip_prefix("emulator: ").unwrap().trim_end();
        let address = url.strip_prefix("http://").unwrap();
        #[expect(clippy::disallowed_methods, reason = "there is no runtime here")]
        std::net::TcpStream::connect(address).unwrap();

        let credentials: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(credentials["type"], "service_account");
        assert_eq!(credentials["token_uri"], format!("{url}/token"));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let id = emulate.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        assert_eq!(emulate.child.wait().unwrap().code(), Some(0), "{signal}");
    }
}

#[test]
fn emulate_writes_credentials_of_the_kind_and_injects_faults() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("credentials.json");
    let path_text = path.to_str().unwrap();
    let listen = ["--listen", "127.0.0.1:0", "--metadata-fault", "unavailable"];
    let write = ["--write-credentials", path_text, "--credentials-kind", "external-account-file"];
    let mut emulate = EmulateProcess::start(&[listen, write].concat());
    let line = emulate.line();
    let url = line.strip_prefix("emulator: ").unwrap().trim_end();

    let credentials: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(credentials["type"], "external_account");
    assert_eq!(credentials["token_url"], format!("{url}/v1/token"));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let subject = std::path::Path::new(credentials["credential_source"]["file"].as_str().unwrap()).to_owned();
    assert!(subject.exists());

    #[expect(clippy::disallowed_methods, reason = "there is no runtime here")]
    let mut stream = std::net::TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.0 503"), "{response}");

    let id = emulate.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert_eq!(emulate.child.wait().unwrap().code(), Some(0));
    assert!(!subject.exists(), "the subject token still exists");
}

#[test]
fn emulate_listens_beyond_loopback_only_with_the_flag() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_countermand"));
        command.arg("emulate").args(arguments).output().unwrap()
    };
    let rejected = run(&["--listen", "0.0.0.0:0"]);
    let stderr = String::from_utf8(rejected.stderr).unwrap();
    assert_eq!(rejected.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("--allow-beyond-loopback"), "{stderr}");
    assert!(rejected.stdout.is_empty());
    // 192.0.2.1 is never assigned (RFC 5737), so the bind fails.
    let allowed = run(&["--listen", "192.0.2.1:0", "--allow-beyond-loopback"]);
    assert_eq!(allowed.status.code(), Some(1));
}
