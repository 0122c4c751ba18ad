//! `emulate` and `serve` as two processes. `serve` gets the URL and the credential file of `emulate`.

use std::{path::PathBuf, sync::Arc};

use countermand::{
    credentials::{Credential, Definition, IAM_CREDENTIALS, Origin, Surroundings},
    http_client::{Authorities, HttpClient, ProxySettings},
};
use http::{
    HeaderMap, HeaderValue, Method,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use nix::sys::signal::Signal::{SIGINT, SIGTERM};
use reqwest::Url;
use serde_json::{Value, json};

use crate::{
    lifecycle::caller::{Watcher, cancel},
    support::process::{Process, countermand, run},
};

#[tokio::test]
async fn serve_works_with_the_credential_file_that_emulate_writes() {
    let dir = tempfile::tempdir().unwrap();
    let mut emulate = countermand(&["emulate", "--listen", "127.0.0.1:0", "--pick-up", "never"]);
    emulate.args(["--write-credentials", "emulated.json"]).current_dir(&dir);
    let emulator = Process::start(&mut emulate);
    let url = emulator.stdout.see(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("emulator: "));
        line.map(str::to_owned)
    });
    let url = url.await;
    let mut serve = countermand(&["serve", "--listen", "127.0.0.1:0", "--admin-listen", "off"]);
    serve.args(["--credentials", "emulated.json", "--upstream-url", &url]).current_dir(&dir);
    let service = Process::start(&mut serve);
    let address = service.stderr.see(|log| {
        let (_, rest) = log.split_once(": listening address=")?;
        rest.lines().next()?.parse().ok()
    });
    let address = address.await;
    Watcher::of(address, "").await.serving().await;
    let probe = run(&mut countermand(&["probe", "--server", &address.to_string()])).await;
    assert_eq!((probe.code, &*probe.stdout), (Some(0), "SERVING\n"), "{probe:?}");

    let unknown = cancel(address, 17).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound, "{unknown:?}");
    let name = issue(&url, dir.path().join("emulated.json")).await;
    let line = ["cancel", &name, "--server", &address.to_string(), "--output", "json"];
    let cancelled = run(&mut countermand(&line)).await;
    assert_eq!(cancelled.code, Some(0), "{cancelled:?}");
    assert_eq!(
        serde_json::from_str::<Value>(&cancelled.stdout).unwrap(),
        json!({"name": name, "code": "OK"})
    );

    for (process, signal) in [(service, SIGTERM), (emulator, SIGINT)] {
        process.signal(signal);
        let ended = process.end().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

/// Issues a LOCK with the credential file, as a console does.
async fn issue(url: &str, credentials: PathBuf) -> String {
    let surroundings = Arc::new(Surroundings::new(
        Authorities::public(),
        ProxySettings::default(),
        Url::parse(IAM_CREDENTIALS).unwrap(),
    ));
    let definition = Definition { origin: Origin::File(credentials), impersonate: None, project: None };
    let loaded = definition.load().unwrap();
    let background = countermand::background::Background::unsupervised();
    let console = Credential::start("console", loaded, &surroundings, &background);
    let authorization = console.authorization().await.unwrap().header();
    let headers = HeaderMap::from_iter([
        (AUTHORIZATION, authorization),
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
    ]);
    let url = Url::parse(&format!("{url}/v1/enterprises/LC01/devices/d1:issueCommand")).unwrap();
    let client = HttpClient::new(&url, &Authorities::public(), &ProxySettings::default()).unwrap();
    let response = client.send(Method::POST, url, headers, r#"{"type": "LOCK"}"#).await.unwrap();
    let operation: Value = serde_json::from_slice(&response.body(64 * 1024).await.unwrap()).unwrap();
    operation["name"].as_str().unwrap().to_owned()
}
