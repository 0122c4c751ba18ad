//! `countermand check --explain`: the policy's decision about a call that is not made.

use serde_json::{Value, json};

use crate::{
    lifecycle::{google::Google, key::Key},
    support::process::{Ended, countermand, run},
};

const POLICY: &str = r#"// Permissions.
@id("console")
permit (principal == Caller::"spiffe://corp.example/ns/mdm/sa/console", action, resource in Enterprise::"LC01");
permit (principal, action in [Action::"get", Action::"list"], resource in Enterprise::"LC01")
  when { principal.hasTag("groups") && principal.getTag("groups").contains("mdm") };
@id("not-d2")
forbid (principal, action, resource in Device::"LC01/d2");
"#;

/// Permits callers whose identity a proxy forwards.
const FORWARDED_ONLY: &str = r#"
permit (principal, action, resource) when { principal.proof == "x-forwarded-client-cert" };
"#;

const OPERATION: &str = "enterprises/LC01/devices/d1/operations/17";
const CONSOLE: &str = "spiffe://corp.example/ns/mdm/sa/console";

/// Explains with the policy `p.cedar`, without other configuration.
async fn explain(words: &[&str]) -> Ended {
    explain_by(POLICY, words).await
}

async fn explain_by(policy: &str, words: &[&str]) -> Ended {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("p.cedar"), policy).unwrap();
    let mut command = countermand(&["check", "--policy", "p.cedar"]);
    run(command.args(words).current_dir(&dir)).await
}

#[tokio::test]
async fn a_permit_names_its_policies() {
    let ended = explain(&["--explain", CONSOLE, "cancel", OPERATION]).await;
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
    let wanted = r#"allowed
by console (permit, p.cedar, line 2): permit (principal == Caller::"spiffe://corp.example/ns/mdm/sa/console", action, resource in Enterprise::"LC01");
caller spiffe://corp.example/ns/mdm/sa/console
  namespace = "mdm"
  path = "/ns/mdm/sa/console"
  proof = "client-certificate"
  service_account = "console"
  trust_domain = "corp.example"
"#;
    assert_eq!(ended.stdout, wanted);
}

#[tokio::test]
async fn a_denial_names_the_policies_that_forbid_the_call() {
    let ended = explain(&["--explain", "anonymous", "get", OPERATION]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.stdout, "denied\nno policy permits it\ncaller anonymous\n  proof = \"none\"\n");
    let of_d2 = "enterprises/LC01/devices/d2/operations/1";
    let ended = explain(&["--explain", CONSOLE, "cancel", of_d2]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let by = "denied\nby not-d2 (forbid, p.cedar, line 6): forbid (principal, action, resource in Device::";
    assert!(ended.stdout.starts_with(by), "{ended:?}");
}

#[tokio::test]
async fn claims_are_tags_and_the_output_can_be_json() {
    let bearer = ["--explain", "jwt:https://issuer.example#alice", "list", "enterprises/LC01/devices/d1"];
    let ended = explain(&bearer).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let claims = ["--claim", "groups=it", "--claim", "groups=mdm", "--output", "json"];
    let ended = explain(&[&bearer[..], &claims[..]].concat()).await;
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""), "{ended:?}");
    let found: Value = serde_json::from_str(&ended.stdout).unwrap();
    let text =
        r#"permit (principal, action in [Action::"get", Action::"list"], resource in Enterprise::"LC01")"#;
    let wanted = json!({
        "decision": "allow",
        "mode": "enforce",
        "caller": "jwt:https://issuer.example#alice",
        "attributes": {"issuer": "https://issuer.example", "proof": "jwt", "subject": "alice"},
        "tags": {"groups": ["it", "mdm"]},
        "policies": [{"id": "policy1", "effect": "permit", "line": 4, "text": text}],
        "errors": [],
    });
    assert_eq!(found, wanted);
}

#[tokio::test]
async fn a_list_of_all_devices_is_about_the_enterprise() {
    let all = "enterprises/LC01/devices/-";
    let ended = explain(&["--explain", CONSOLE, "list", all]).await;
    assert!(ended.code == Some(0) && ended.stdout.starts_with("allowed\nby console "), "{ended:?}");
    let again = "\neach device is decided again, and left out of the list if it is denied\n";
    assert!(ended.stdout.contains(again), "{ended:?}");
    let ended = explain(&["--explain", CONSOLE, "list", all, "--output", "json"]).await;
    let found: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(found["decides_each_device"], true, "{found}");
    let ended = explain(&["--explain", CONSOLE, "list", "enterprises/LC01/devices/d1"]).await;
    assert!(ended.code == Some(0) && !ended.stdout.contains(again), "{ended:?}");
    let devices_alone = "permit (principal, action, resource is Device);";
    let ended = explain_by(devices_alone, &["--explain", CONSOLE, "list", all]).await;
    assert!(ended.code == Some(1) && !ended.stdout.contains(again), "{ended:?}");
    let ended = explain(&["--explain", CONSOLE, "get", all]).await;
    assert!(ended.stderr.contains("the device must be named: the wildcard - is only for"), "{ended:?}");
}

#[tokio::test]
async fn the_proof_flag_sets_how_the_identity_was_verified() {
    let question = ["--explain", "dns:console.corp.example", "cancel", OPERATION];
    for (proof, code) in [
        (&[][..], 1),
        (&["--proof", "client-certificate"], 1),
        (&["--proof", "l5d-client-id"], 1),
        (&["--proof", "x-forwarded-client-cert"], 0),
    ] {
        let ended = explain_by(FORWARDED_ONLY, &[&question, proof].concat()).await;
        assert_eq!(ended.code, Some(code), "{ended:?}");
        let shown = format!("  proof = \"{}\"\n", proof.last().unwrap_or(&"client-certificate"));
        assert!(ended.stdout.contains(&shown), "{ended:?}");
    }
}

#[tokio::test]
async fn an_invalid_call_is_an_error() {
    for (words, wanted) in [
        (["console", "get", OPERATION], "\"console\" is not a caller's id: spiffe://"),
        (["dns:Console.corp.example", "get", OPERATION], "dns:NAME (in lower case, and no wildcard)"),
        (["anonymous", "delete", OPERATION], "\"delete\" is not an action; give cancel, get, list or wait"),
        (["anonymous", "get", "operations/1"], "must be of the form enterprises/*/devices/*/operations/*"),
        (["anonymous", "list", OPERATION], "must be of the form enterprises/*/devices/*"),
    ] {
        let ended = explain(&[&["--explain"], &words[..]].concat()).await;
        assert_eq!((ended.code, &*ended.stdout), (Some(1), ""), "{words:?}: {ended:?}");
        assert!(ended.stderr.contains(wanted), "{words:?}: {ended:?}");
    }
    let ended = explain(&["--explain", "anonymous", "get", OPERATION, "--claim", "a=b"]).await;
    assert!(ended.code == Some(1) && ended.stderr.contains("for a jwt: caller only"), "{ended:?}");
    for (caller, proof, wanted) in [
        ("unix:0", "unix-peer", "for a spiffe: or dns: caller only"),
        ("jwt:https://i#s", "client-certificate", "for a spiffe: or dns: caller only"),
        (CONSOLE, "jwt", "\"jwt\" is not a value of --proof; give client-certificate,"),
    ] {
        let ended = explain(&["--explain", caller, "get", OPERATION, "--proof", proof]).await;
        assert!(ended.code == Some(1) && ended.stderr.contains(wanted), "{ended:?}");
    }
    for words in [&["--explain", "anonymous", "get"][..], &["--claim", "a=b"], &["--proof", "jwt"]] {
        assert_eq!(explain(words).await.code, Some(2), "{words:?}");
    }
    let ended = run(&mut countermand(&["check", "--explain", "anonymous", "get", OPERATION])).await;
    assert!(ended.code == Some(1) && ended.stderr.contains("there is no policy"), "{ended:?}");
}

#[tokio::test]
async fn the_policy_is_that_of_the_configuration_despite_other_errors_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = "[policy]\nfile = \"p.cedar\"\n[server]\nlisten = []\n";
    std::fs::write(dir.path().join("c.toml"), file).unwrap();
    let explain = async || {
        let mut command =
            countermand(&["check", "--config", "c.toml", "--explain", CONSOLE, "get", OPERATION]);
        run(command.current_dir(&dir)).await
    };
    let ended = explain().await;
    assert!(ended.code == Some(1) && ended.stderr.contains("policy.file (line 2): cannot read"), "{ended:?}");
    std::fs::write(dir.path().join("p.cedar"), POLICY).unwrap();
    let ended = explain().await;
    assert!(ended.code == Some(0) && ended.stdout.starts_with("allowed\n"), "{ended:?}");
}

#[tokio::test]
async fn check_counts_the_policies() {
    let google = Google::start().await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key.json"), Key::generate().file(&google.token_url())).unwrap();
    for (policy, ok, warning) in [
        (POLICY, "policy p.cedar: 3 policies\n", ""),
        ("", "policy p.cedar: 0 policies\n", "warning: policy p.cedar: it permits nothing"),
    ] {
        std::fs::write(dir.path().join("p.cedar"), policy).unwrap();
        let mut command = countermand(&["check", "--policy", "p.cedar"]);
        command.env("COUNTERMAND_CREDENTIALS", "key.json").env("COUNTERMAND_UPSTREAM_URL", &google.url);
        let ended = run(command.current_dir(&dir)).await;
        assert!(ended.code == Some(0) && ended.stdout.contains(ok), "{ended:?}");
        assert!(ended.stderr.contains(warning), "{ended:?}");
    }
}
