//! Every fault of every endpoint, with credentials that use the endpoint: at start, and with a valid token. Each
//! service also has a credential that does not use the endpoint and is not affected.

use std::{sync::Arc, time::Duration};

use countermand_emulator::{Condition, Endpoint};
use tokio::{sync::Semaphore, task::JoinSet};

use crate::credentials::{
    service::{Service, emulator, is_retryable},
    test_credential::TestCredential,
};

/// No token ends during a test.
const LIFETIME: Duration = Duration::from_secs(3600);

const FAULTS: [Condition; 10] = [
    Condition::Refusing,
    Condition::Unavailable,
    Condition::Failing,
    Condition::WithoutToken,
    Condition::LifetimeAbsent,
    Condition::LifetimeNegative,
    Condition::LifetimeAbsurd,
    Condition::Html,
    Condition::Reset,
    Condition::Truncated,
];

/// The number of services that run at the same time. Each mostly waits for a retry.
const MAX_SERVICES: usize = 30;

/// The number of credentials that each fault is tested with.
const CREDENTIALS_PER_FAULT: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_token_endpoint_are_retried() {
    assert_recovery_from_each_fault(Endpoint::Token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_token_exchange_are_retried() {
    assert_recovery_from_each_fault(Endpoint::Sts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_subject_token_source_are_retried() {
    assert_recovery_from_each_fault(Endpoint::SubjectToken).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_metadata_server_are_retried() {
    assert_recovery_from_each_fault(Endpoint::Metadata).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_iam_credentials_are_retried() {
    assert_recovery_from_each_fault(Endpoint::Iam).await;
}

async fn assert_recovery_from_each_fault(endpoint: Endpoint) {
    static PERMITS: Semaphore = Semaphore::const_new(MAX_SERVICES);
    let mut running = JoinSet::new();
    for fault in FAULTS.into_iter().filter(|fault| is_possible(endpoint, *fault)) {
        running.spawn(async move {
            let _permit = PERMITS.acquire().await.unwrap();
            assert_recovery(endpoint, fault).await;
        });
    }
    running.join_all().await;
}

/// Whether the endpoint can have the fault. Subject tokens have no lifetime.
fn is_possible(endpoint: Endpoint, fault: Condition) -> bool {
    use Condition::{LifetimeAbsent, LifetimeAbsurd, LifetimeNegative};
    match endpoint {
        Endpoint::SubjectToken => !matches!(fault, LifetimeAbsent | LifetimeNegative | LifetimeAbsurd),
        Endpoint::Token | Endpoint::Sts | Endpoint::Metadata | Endpoint::Iam => true,
    }
}

async fn assert_recovery(endpoint: Endpoint, fault: Condition) {
    let emulator = emulator(LIFETIME).await;
    let control = emulator.control();
    let (mut affected, mut others): (Vec<_>, Vec<_>) =
        TestCredential::all().into_iter().partition(|credential| credential.endpoints().contains(&endpoint));
    // Each fault is tested with some credentials, and each credential with some faults: all pairs would take minutes.
    let first = FAULTS.iter().position(|other| *other == fault).unwrap() * CREDENTIALS_PER_FAULT;
    let count = affected.len();
    affected.rotate_left(first % count);
    affected.truncate(CREDENTIALS_PER_FAULT);
    others.truncate(1);
    let case = |credential: &TestCredential| format!("{endpoint:?} {fault:?} {}", credential.name());

    // At start.
    control.set_endpoint(endpoint, fault);
    let credentials = [&*affected, &*others].concat();
    let json = matches!(fault, Condition::Failing | Condition::Html | Condition::Refusing);
    let mut service = Service::start_with(&emulator, &credentials, |command, _| {
        command.env("COUNTERMAND_LOG_FORMAT", if json { "json" } else { "text" });
    })
    .await;
    for credential in &affected {
        // A credential without a token always has a cause.
        let line = service.wait_for_state(&credential.name(), |line| line["state"] == "without").await;
        assert!(
            line["cause"].as_str().is_some_and(|cause| !cause.is_empty()),
            "{}: {line}",
            case(credential)
        );
        assert_eq!(line["permanent"], fault == Condition::Refusing, "{}", case(credential));
        assert_refused(&mut service, *credential, fault).await;
    }
    for credential in &others {
        assert_eq!(
            service.cancel_when_ready(*credential).await,
            credential.principal(&emulator),
            "{}",
            case(credential)
        );
    }
    control.set_endpoint(endpoint, Condition::Healthy);
    for credential in &affected {
        assert_eq!(
            service.cancel_when_ready(*credential).await,
            credential.principal(&emulator),
            "{}",
            case(credential)
        );
        assert_eq!(
            refusal_lines(&service, *credential),
            1,
            "{}: the failure is logged more than once",
            case(credential)
        );
    }

    // While a token is valid, a changed file is tested at once, and gives no token.
    control.set_endpoint(endpoint, fault);
    service.touch_files();
    for credential in affected.iter().filter(|credential| credential.has_file()) {
        let line = service.wait_for_state(&credential.name(), |line| line["changed_file"].is_string()).await;
        assert_eq!(line["state"], "valid", "{}: {line}", case(credential));
        assert_eq!(
            service.cancel(&credential.name()).await.unwrap(),
            credential.principal(&emulator),
            "{line}"
        );
    }
    control.set_endpoint(endpoint, Condition::Healthy);
    for credential in &affected {
        service.wait_for_state(&credential.name(), |line| line["changed_file"].is_null()).await;
        assert_eq!(
            service.cancel_when_ready(*credential).await,
            credential.principal(&emulator),
            "{}",
            case(credential)
        );
        assert_eq!(refusal_lines(&service, *credential), 1, "{}: a call was refused", case(credential));
    }
    service.end(&[]).await;
}

/// The number of log lines that report the refusal of a credential's calls.
fn refusal_lines(service: &Service<'_>, credential: TestCredential) -> usize {
    let name = credential.name();
    let (text, json) = (format!("credential=\"{name}\""), format!("\"credential\":\"{name}\""));
    let count = |name: &str| service.log_lines(&["are refused as UNAVAILABLE", name]);
    count(&text) + count(&json)
}

/// Checks that a call is refused with the time of a retry.
async fn assert_refused(service: &mut Service<'_>, credential: TestCredential, fault: Condition) {
    let status = service.cancel(&credential.name()).await.expect_err("there is no token");
    assert!(is_retryable(&status), "{credential:?} {fault:?}: {status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_do_not_wait_for_slow_endpoints_once_there_is_a_token() {
    let emulator = Arc::new(emulator(LIFETIME).await);
    for endpoint in TestCredential::all().iter().flat_map(|credential| credential.endpoints()) {
        emulator.control().set_endpoint(endpoint, Condition::Slow(Duration::from_millis(300)));
    }
    let mut service = Service::start(&emulator, &TestCredential::all()).await;
    service.assert_principals(&emulator).await;
    service.end(&[]).await;
}
