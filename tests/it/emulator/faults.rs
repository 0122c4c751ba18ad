//! Injected faults, an exhausted quota, and faults of the token endpoint.

use std::time::Duration;

use countermand_emulator::{Condition, Denial, Endpoint, Fault, FaultRates, Quota, Settings};
use reqwest::Method;

use crate::emulator::client::{BOTH, Client, DEVICE, Protocol, assertion, send, start};

#[tokio::test]
async fn a_queued_fault_fails_one_call_and_has_no_effect_on_the_operation() {
    let emulator = start(Settings::default()).await;
    for protocol in BOTH {
        let client = Client::new(&emulator, protocol).await;
        let name = client.lock(DEVICE).await;
        emulator.control().fail_next(2, Fault::Unavailable);
        emulator.control().fail_next(1, Fault::Exhausted);
        assert_eq!(client.cancel(&name).await.error(), (503, "UNAVAILABLE".to_owned()));
        assert_eq!(client.cancel(&name).await.error(), (503, "UNAVAILABLE".to_owned()));
        let exhausted = client.cancel(&name).await;
        assert_eq!(exhausted.error(), (429, "RESOURCE_EXHAUSTED".to_owned()));
        assert_eq!(exhausted.reason(), "RATE_LIMIT_EXCEEDED");
        assert_eq!(emulator.control().pending(), [&*name]);
        assert_eq!(client.cancel(&name).await.status, 200, "{protocol:?}");
    }
}

#[tokio::test]
async fn a_reset_ends_the_connection_without_a_response() {
    let emulator = start(Settings::default()).await;
    for protocol in BOTH {
        let client = Client::new(&emulator, protocol).await;
        let name = client.lock(DEVICE).await;
        emulator.control().fail_next(1, Fault::Reset);
        let request = client.request(Method::POST, &format!("{name}:cancel"));
        let error = send(request.header("content-length", "0")).await.unwrap_err();
        assert!(error.is_request() && !error.is_connect(), "{protocol:?}: {error:?}");
        let mut causes = std::iter::successors(std::error::Error::source(&error), |error| error.source());
        let reset = causes.any(|cause| {
            let io = cause.downcast_ref::<std::io::Error>();
            io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionReset)
        });
        assert!(reset, "{protocol:?}: {error:?}");
        assert_eq!(emulator.control().pending(), [&*name]);
        assert_eq!(client.cancel(&name).await.status, 200, "{protocol:?}");
    }
}

#[tokio::test]
async fn a_fault_rate_of_one_fails_every_call_until_it_is_changed() {
    let emulator = start(Settings::default()).await;
    let client = Client::new(&emulator, Protocol::Http2).await;
    let name = client.lock(DEVICE).await;
    let faults = FaultRates { unavailable: 1.0, ..FaultRates::default() };
    emulator.control().set_faults(faults).unwrap();
    for _ in 0..20 {
        assert_eq!(client.get(&name).await.status, 503);
    }
    emulator.control().set_faults(FaultRates::default()).unwrap();
    assert_eq!(client.get(&name).await.status, 200);
    let invalid = FaultRates { reset: 1.5, ..FaultRates::default() };
    assert!(emulator.control().set_faults(invalid).is_err());
}

#[tokio::test]
async fn a_denial_is_a_403_until_it_is_removed() {
    let settings = Settings { denial: Some(Denial::ServiceDisabled), ..Settings::default() };
    let emulator = start(settings).await;
    let client = Client::new(&emulator, Protocol::Http2).await;
    let name = format!("{DEVICE}/operations/1");
    for denial in [Denial::ServiceDisabled, Denial::ConsumerInvalid] {
        emulator.control().set_denial(Some(denial));
        for response in [client.get(&name).await, client.cancel(&name).await] {
            assert_eq!(response.error(), (403, "PERMISSION_DENIED".to_owned()));
            assert_eq!(response.reason(), denial.reason());
        }
    }
    emulator.control().set_denial(None);
    assert_eq!(client.get(&name).await.status, 404);
}

#[tokio::test]
async fn an_exhausted_quota_rejects_api_calls_and_not_token_requests() {
    let quota = Quota { queries: Some(3), window: Duration::from_secs(3600) };
    let emulator = start(Settings { quota, ..Settings::default() }).await;
    let client = Client::new(&emulator, Protocol::Http2).await;
    let name = client.lock(DEVICE).await;
    assert_eq!((client.get(&name).await.status, client.get(&name).await.status), (200, 200));
    let rejected = client.cancel(&name).await;
    assert_eq!(rejected.error(), (429, "RESOURCE_EXHAUSTED".to_owned()));
    assert_eq!(rejected.reason(), "RATE_LIMIT_EXCEEDED");
    let message = rejected.json()["error"]["message"].as_str().unwrap().to_owned();
    let words = "Quota exceeded for quota metric 'Requests' and limit 'Requests per minute' of service \
                 'androidmanagement.googleapis.com'";
    assert!(message.starts_with(words), "{message}");
    let again = Client::new(&emulator, Protocol::Http2).await;
    emulator.control().set_quota(Quota::UNLIMITED);
    assert_eq!(again.cancel(&name).await.status, 200);
}

#[tokio::test]
async fn the_token_endpoint_has_its_configured_fault() {
    let emulator = start(Settings::default()).await;
    let client = Client::new(&emulator, Protocol::Http1).await;
    let good = assertion(emulator.credentials().expose());
    let error = |response: &crate::emulator::client::TestResponse| {
        (response.status, response.json()["error"].clone())
    };

    emulator.control().set_endpoint(Endpoint::Token, Condition::Unavailable);
    let down = client.sign_in(&good).await;
    assert_eq!(error(&down), (503, "internal_failure".into()));
    emulator.control().set_endpoint(Endpoint::Token, Condition::Refusing);
    let gone = client.sign_in(&good).await;
    assert_eq!(error(&gone), (400, "invalid_grant".into()));
    emulator.control().set_endpoint(Endpoint::Token, Condition::Healthy);
    assert_eq!(client.sign_in(&good).await.status, 200);
    let foreign = start(Settings::default()).await;
    let forged = client.sign_in(&assertion(foreign.credentials().expose())).await;
    assert_eq!(error(&forged), (400, "invalid_grant".into()));
}
