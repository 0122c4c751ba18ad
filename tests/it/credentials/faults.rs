//! Every fault of every endpoint, with credentials that use the endpoint: at start, and while a token is held. Each
//! service also has a credential that does not use the endpoint and is not affected.

use std::{sync::Arc, time::Duration};

use countermand_emulator::{Condition, Endpoint};
use tokio::{sync::Semaphore, task::JoinSet};

use crate::credentials::{
    holder::Holder,
    service::{Service, emulator, is_to_come_back},
};

/// So long that no token ends by itself.
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

/// How many services run at the same time; each mostly waits for a retry.
const AT_ONCE: usize = 30;

/// How many holders meet each fault.
const HOLDERS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn of_the_token_endpoint_pass() {
    each_passes(Endpoint::Token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_token_exchange_pass() {
    each_passes(Endpoint::Sts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_source_of_subject_tokens_pass() {
    each_passes(Endpoint::SubjectToken).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_metadata_server_pass() {
    each_passes(Endpoint::Metadata).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_iam_credentials_pass() {
    each_passes(Endpoint::Iam).await;
}

async fn each_passes(endpoint: Endpoint) {
    static PLACES: Semaphore = Semaphore::const_new(AT_ONCE);
    let mut running = JoinSet::new();
    for fault in FAULTS.into_iter().filter(|fault| is_one(endpoint, *fault)) {
        running.spawn(async move {
            let _place = PLACES.acquire().await.unwrap();
            passes(endpoint, fault).await;
        });
    }
    running.join_all().await;
}

/// Subject tokens have no lifetime to be wrong.
fn is_one(endpoint: Endpoint, fault: Condition) -> bool {
    use Condition::{LifetimeAbsent, LifetimeAbsurd, LifetimeNegative};
    match endpoint {
        Endpoint::SubjectToken => !matches!(fault, LifetimeAbsent | LifetimeNegative | LifetimeAbsurd),
        Endpoint::Token | Endpoint::Sts | Endpoint::Metadata | Endpoint::Iam => true,
    }
}

async fn passes(endpoint: Endpoint, fault: Condition) {
    let emulator = emulator(LIFETIME).await;
    let control = emulator.control();
    let (mut troubled, mut others): (Vec<_>, Vec<_>) =
        Holder::all().into_iter().partition(|holder| holder.endpoints().contains(&endpoint));
    // Every fault meets some holders, and every holder some faults: all pairs would take minutes.
    let first = FAULTS.iter().position(|other| *other == fault).unwrap() * HOLDERS;
    let holders = troubled.len();
    troubled.rotate_left(first % holders);
    troubled.truncate(HOLDERS);
    others.truncate(1);
    let case = |holder: &Holder| format!("{endpoint:?} {fault:?} {}", holder.name());

    // At start.
    control.set_endpoint(endpoint, fault);
    let holders = [&*troubled, &*others].concat();
    let json = matches!(fault, Condition::Failing | Condition::Html | Condition::Refusing);
    let mut service = Service::start_with(&emulator, &holders, |command, _| {
        command.env("COUNTERMAND_LOG_FORMAT", if json { "json" } else { "text" });
    })
    .await;
    for holder in &troubled {
        // It is not given up before there is a cause.
        let line = service.stands(&holder.name(), |line| line["state"] == "without").await;
        assert!(line["cause"].as_str().is_some_and(|cause| !cause.is_empty()), "{}: {line}", case(holder));
        assert_eq!(line["permanent"], fault == Condition::Refusing, "{}", case(holder));
        refused(&mut service, *holder, fault).await;
    }
    for holder in &others {
        assert_eq!(service.served(*holder).await, holder.principal(&emulator), "{}", case(holder));
    }
    control.set_endpoint(endpoint, Condition::Healthy);
    for holder in &troubled {
        assert_eq!(service.served(*holder).await, holder.principal(&emulator), "{}", case(holder));
        assert_eq!(lines(&service, *holder), 1, "{}: the cause is logged once", case(holder));
    }

    // While a token is held: a changed file is tried at once, and gives no token.
    control.set_endpoint(endpoint, fault);
    service.touch_files();
    for holder in troubled.iter().filter(|holder| holder.has_file()) {
        let line = service.stands(&holder.name(), |line| line["changed_file"].is_string()).await;
        assert_eq!(line["state"], "valid", "{}: {line}", case(holder));
        assert_eq!(service.cancel(&holder.name()).await.unwrap(), holder.principal(&emulator), "{line}");
    }
    control.set_endpoint(endpoint, Condition::Healthy);
    for holder in &troubled {
        service.stands(&holder.name(), |line| line["changed_file"].is_null()).await;
        assert_eq!(service.served(*holder).await, holder.principal(&emulator), "{}", case(holder));
        assert_eq!(lines(&service, *holder), 1, "{}: no call was refused", case(holder));
    }
    service.end(&[]).await;
}

/// How often the log says that a credential's calls are refused.
fn lines(service: &Service<'_>, holder: Holder) -> usize {
    let name = holder.name();
    let (text, json) = (format!("credential=\"{name}\""), format!("\"credential\":\"{name}\""));
    let told = |name: &str| service.logged(&["are refused as UNAVAILABLE", name]);
    told(&text) + told(&json)
}

/// A call is told to come back.
async fn refused(service: &mut Service<'_>, holder: Holder, fault: Condition) {
    let status = service.cancel(&holder.name()).await.expect_err("there is no token");
    assert!(is_to_come_back(&status), "{holder:?} {fault:?}: {status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_endpoints_make_nobody_wait_once_there_is_a_token() {
    let emulator = Arc::new(emulator(LIFETIME).await);
    for endpoint in Holder::all().iter().flat_map(|holder| holder.endpoints()) {
        emulator.control().set_endpoint(endpoint, Condition::Slow(Duration::from_millis(300)));
    }
    let mut service = Service::start(&emulator, &Holder::all()).await;
    for holder in Holder::all() {
        assert_eq!(service.served(holder).await, holder.principal(&emulator), "{holder:?}");
    }
    service.end(&[]).await;
}
