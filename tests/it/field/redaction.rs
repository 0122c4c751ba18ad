//! Secrets in the metadata of operations.

use countermand::proto::longrunning::{
    GetOperationRequest, ListOperationsRequest, Operation, operation::Result as Outcome,
};
use countermand_emulator::{Emulator, Settings};
use nix::sys::signal::Signal::SIGTERM;
use prost::Message;
use prost_types::{Struct, value::Kind};
use serde_json::{Value, json};
use tonic_types::pb;

use crate::support::{
    process::{Process, countermand, eventually, run},
    reply::Reply,
    service::{Service, Setup},
    upstream::Upstream,
};

const NAME: &str = "enterprises/LC01/devices/d1/operations/17";
const DEVICE: &str = "enterprises/LC01/devices/d1";

/// An activation code in the form of GSMA SGP.22, section 4.1.
const CODE: &str = "LPA:1$smdp.example$04386-AGYFT-A74Y8";

fn add_esim() -> Value {
    json!({"type": "ADD_ESIM", "addEsimParams": {"activationCode": CODE, "activationState": "ACTIVATED"}})
}

async fn emulator() -> (Emulator, String) {
    let settings = Settings { pick_up: None, ..Settings::default() };
    let emulator = Emulator::start(([127, 0, 0, 1], 0).into(), settings).await.unwrap();
    let issued = emulator.control().issue_command(DEVICE, add_esim()).unwrap();
    assert!(issued.to_string().contains(CODE), "the emulator returns the command as Google does");
    let name = issued["name"].as_str().unwrap().to_owned();
    (emulator, name)
}

/// The members of `metadata.addEsimParams`.
fn params(operation: &Operation) -> Struct {
    let metadata = Struct::decode(&operation.metadata.as_ref().unwrap().value[..]).unwrap();
    match metadata.fields["addEsimParams"].kind.clone() {
        Some(Kind::StructValue(params)) => params,
        other => panic!("{other:?}"),
    }
}

fn text(members: &Struct, name: &str) -> String {
    match &members.fields[name].kind {
        Some(Kind::StringValue(text)) => text.clone(),
        other => panic!("{name}: {other:?}"),
    }
}

/// open-metadata/OpenMetadata #8648: a reader of a resource saw the password that another client had stored in it.
#[tokio::test]
async fn the_activation_code_of_an_esim_is_redacted_in_get_and_list() {
    let (emulator, name) = emulator().await;
    let service = Setup::new(emulator.url(), emulator.credentials().expose()).start().await;
    let got = service.client().get_operation(GetOperationRequest { name }).await.unwrap().into_inner();
    let request = ListOperationsRequest { name: DEVICE.to_owned(), ..Default::default() };
    let listed = service.client().list_operations(request).await.unwrap().into_inner().operations;
    assert_eq!(listed.len(), 1);
    for operation in [&got, &listed[0]] {
        let params = params(operation);
        assert_eq!(text(&params, "activationCode"), "[redacted]");
        assert_eq!(text(&params, "activationState"), "ACTIVATED", "the other members are kept");
    }
}

async fn get_from(body: &Value) -> Operation {
    let upstream = Upstream::start().await;
    upstream.always_answers(Reply::json(200, body));
    let service: Service = Setup::of(&upstream).start().await;
    let request = GetOperationRequest { name: NAME.to_owned() };
    service.client().get_operation(request).await.unwrap().into_inner()
}

/// eclipse-archived/smarthome #4583: passwords were returned from every place of a configuration.
#[tokio::test]
async fn a_secret_is_redacted_in_metadata_response_and_error_details_whatever_its_type() {
    for secret in
        [json!(CODE), json!(8_612_345_678_u64), json!({"lpa": CODE, "n": 8_612_345_678_u64}), json!([CODE])]
    {
        for name in ["activationCode", "newPassword"] {
            let hidden = json!({"@type": "type.googleapis.com/x.Y", "deep": [{"params": {name: secret}}]});
            let reason = json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "R", "domain": "d",
                "metadata": {name: CODE}});
            let response = json!({"name": NAME, "done": true, "metadata": hidden, "response": hidden});
            let response = get_from(&response).await;
            let error = json!({"code": 9, "message": "m", "details": [hidden, reason]});
            let failed = get_from(&json!({"name": NAME, "done": true, "error": error})).await;
            let Some(Outcome::Error(status)) = &failed.result else { panic!("{failed:?}") };
            assert_eq!(status.details.len(), 2);
            let info = pb::ErrorInfo::decode(&status.details[1].value[..]).unwrap();
            assert_eq!(info.metadata[name], "[redacted]");
            for operation in [response, failed] {
                let bytes = operation.encode_to_vec();
                let printed = format!("{} {operation:?}", String::from_utf8_lossy(&bytes));
                assert!(!printed.contains(CODE) && printed.contains("[redacted]"), "{printed}");
                let number = 8_612_345_678_f64.to_le_bytes();
                assert!(!bytes.windows(8).any(|part| part == number), "{printed}");
            }
        }
    }
}

/// loopandlearn/LoopFollow #623: logs that users shared had secrets at the places where they were used.
#[tokio::test]
async fn no_log_or_output_has_the_activation_code() {
    let (emulator, name) = emulator().await;
    let dir = tempfile::tempdir().unwrap();
    emulator.credentials().write(&dir.path().join("key.json")).unwrap();
    let mut command = countermand(&["serve", "--listen", "unix:socket", "--admin-listen", "off"]);
    command.args(["--credentials", "key.json", "--upstream-url", emulator.url()]).current_dir(&dir);
    let process = Process::start(command.env("RUST_LOG", "trace"));
    let client = async |words: &[&str]| {
        run(countermand(words).args(["--server", "unix:socket"]).current_dir(&dir)).await
    };
    eventually("a socket", async || (client(&["probe"]).await.code == Some(0)).then_some(())).await;
    let mut texts = Vec::new();
    for words in [
        ["get", &name].as_slice(),
        &["get", &name, "--output", "json"],
        &["list", DEVICE, "--output", "json"],
        &["wait", &name, "--timeout", "100ms", "--output", "json"],
        &["cancel", &name, "--output", "json"],
        &["get", &name, "--output", "json"],
    ] {
        let ended = client(words).await;
        texts.extend([ended.stdout, ended.stderr]);
    }
    assert!(texts[2].contains(r#""activationCode":"[redacted]""#), "{texts:?}");
    process.signal(SIGTERM);
    let ended = process.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("upstream call completed") && ended.stdout.contains(&name), "{ended:?}");
    texts.extend([ended.stdout, ended.stderr]);
    for text in texts {
        assert!(!text.contains(CODE) && !text.contains("AGYFT"), "{text}");
    }
}
