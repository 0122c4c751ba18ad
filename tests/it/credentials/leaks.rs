//! No log line at any level, response, page, audit line or finding of `check` contains a secret. Every other test of
//! this module also searches the output of its service.

use std::{fs, time::Duration};

use countermand::proto::longrunning::CancelOperationRequest;
use countermand_emulator::{Condition, Endpoint};
use tonic::{Code, Request};

use crate::{
    credentials::{
        service::{LOG_EVERYTHING, Service, assert_no_secrets, emulator, write_config},
        test_credential::TestCredential,
    },
    support::{
        issuer::{AUDIENCE, ISSUER, Key, claims, key_set},
        process::{countermand, run},
    },
};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn no_secret_is_in_the_text_log() {
    assert_no_secret_is_printed("text").await;
}

#[tokio::test]
async fn no_secret_is_in_the_json_log() {
    assert_no_secret_is_printed("json").await;
}

/// Uses caller tokens, a policy, an audit file, rejected tokens, and broken and changed files. Then searches all
/// output.
async fn assert_no_secret_is_printed(format: &str) {
    let emulator = emulator(HOUR).await;
    let control = emulator.control();
    let key = Key::ec();
    let mut service = Service::start_with(&emulator, &TestCredential::all(), |command, dir| {
        fs::write(dir.join("jwks.json"), key_set([key.jwk(Some("a"))])).unwrap();
        fs::write(dir.join("p.cedar"), "permit (principal, action, resource);").unwrap();
        command.env("COUNTERMAND_LOG_FORMAT", format).env("COUNTERMAND_POLICY", "p.cedar");
        command.env("COUNTERMAND_CALLERS_JWT_ISSUER", ISSUER);
        command.env("COUNTERMAND_CALLERS_JWT_AUDIENCE", AUDIENCE);
        command.env("COUNTERMAND_CALLERS_JWT_JWKS", "jwks.json");
        command.env("COUNTERMAND_AUDIT_FILE", "audit.jsonl");
    })
    .await;
    let mut expired = claims();
    expired["exp"] = 1.into();
    let tokens =
        [key.token(Some("a"), &claims()), key.token(Some("a"), &expired), key.token(None, &claims())];
    for credential in TestCredential::all() {
        service.cancel_when_ready(credential).await;
        for token in &tokens {
            let name = format!("enterprises/{}/devices/d1/operations/none", credential.name());
            let mut request = Request::new(CancelOperationRequest { name });
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
            let status = service.call(request).await.unwrap_err();
            assert!(matches!(status.code(), Code::NotFound | Code::Unauthenticated), "{status:?}");
        }
    }
    // Google rejects every token. Then the files are cut in the middle of their secrets, and repaired.
    control.revoke_tokens();
    for credential in TestCredential::all() {
        assert_eq!(
            service.cancel(&credential.name()).await.unwrap(),
            credential.principal(&emulator),
            "{credential:?}"
        );
    }
    let old = control.secrets();
    control.rotate_subject_tokens().unwrap();
    let kinds: Vec<_> =
        TestCredential::plain().into_iter().filter_map(|credential| credential.kind).collect();
    for kind in &kinds {
        let file = service.dir.path().join(format!("{}.json", kind.name()));
        let whole = fs::read_to_string(&file).unwrap();
        fs::write(&file, &whole[..whole.len() * 2 / 3]).unwrap();
    }
    let broken = 2 * kinds.len();
    let reported = |log: &str| log.matches("is broken: the old one stays in use").count() >= broken;
    service.process.stderr.see(|log| reported(log).then_some(())).await;
    for kind in kinds {
        let file = service.dir.path().join(format!("{}.json", kind.name()));
        emulator.credential_file(kind).write(&file).unwrap();
    }
    for credential in TestCredential::all() {
        service.cancel_when_ready(credential).await;
    }

    let audit = fs::read_to_string(service.dir.path().join("audit.jsonl")).unwrap();
    assert!(audit.lines().count() > TestCredential::all().len(), "{audit}");
    let mut others: Vec<_> = old.iter().map(|(name, secret)| (*name, secret.as_str())).collect();
    others.extend(tokens.iter().map(|token| ("a caller's token", token.as_str())));
    assert_no_secrets(&emulator, &others, [&*audit]);
    service.end(&others).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_the_findings_of_check() {
    let emulator = emulator(HOUR).await;
    let dir = tempfile::tempdir().unwrap();
    write_config(dir.path(), &emulator, &TestCredential::all());
    use Condition::{
        Failing, Healthy, Html, LifetimeAbsurd, Refusing, Reset, Truncated, Unavailable, WithoutToken,
    };
    use Endpoint::{Iam, Metadata, Sts, SubjectToken, Token};
    for condition in
        [Healthy, Refusing, Unavailable, Failing, WithoutToken, LifetimeAbsurd, Html, Reset, Truncated]
    {
        for endpoint in [Token, Sts, SubjectToken, Metadata, Iam] {
            emulator.control().set_endpoint(endpoint, condition);
        }
        for output in ["text", "json"] {
            let mut check = countermand(&["check", "--config", "c.toml", "--output", output]);
            check.current_dir(&dir).env("RUST_LOG", LOG_EVERYTHING);
            let ended = run(check.env("GCE_METADATA_HOST", emulator.metadata_host())).await;
            let expected = if condition == Healthy { 0 } else { 1 };
            assert_eq!(ended.code, Some(expected), "{condition:?}: {ended:?}");
            for credential in TestCredential::all() {
                let found =
                    ended.stdout.contains(&credential.name()) || ended.stderr.contains(&credential.name());
                assert!(found, "{credential:?} {condition:?}: {ended:?}");
            }
            assert_no_secrets(&emulator, &[], [&*ended.stdout, &*ended.stderr]);
        }
    }
}
