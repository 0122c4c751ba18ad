//! More calls than the quota allows, at an emulator that enforces it.

use std::time::Duration;

use countermand_emulator::{Emulator, Queries, Quota, Settings};
use futures_util::future::join_all;
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};
use tonic::{Code, Status};

use super::{SECOND, assert_over_budget, timeout};
use crate::support::{
    grpc::{GET, WAIT, Wire, by_name},
    metrics::Scrape,
    service::{Service, Setup},
};
use countermand::proto::longrunning::WaitOperationRequest;
use prost::Message;

const LIMIT: u32 = 60;
const BURST: u32 = 15;
const PERIOD: Duration = Duration::from_secs(3);

/// The part of the window by which requests may arrive closer together than they were sent, on a busy machine.
const JITTER: Duration = Duration::from_millis(200);

/// The time of the overload.
const TIME: Duration = Duration::from_secs(9);

/// Reads per paced query.
const OVERLOAD: u32 = 10;

struct Fixture {
    emulator: Emulator,
    service: Service,
    names: Vec<String>,
}

impl Fixture {
    async fn start() -> Self {
        let quota = Quota { queries: Some(LIMIT as usize), window: PERIOD - JITTER };
        let settings = Settings { pick_up: None, quota, ..Settings::default() };
        let emulator = Emulator::start("127.0.0.1:0".parse().unwrap(), settings).await.unwrap();
        let quota = format!("limit = {LIMIT}\nperiod = \"3s\"\nburst = {BURST}");
        let setup = Setup::new(emulator.url(), emulator.credentials().expose());
        let service = setup.quota(&quota).variable("COUNTERMAND_POLLING_MIN_INTERVAL", "100ms").start().await;
        let issue = |id| {
            let device = format!("enterprises/LC01/devices/d{id}");
            let operation = emulator.control().issue_command(&device, json!({"type": "LOCK"})).unwrap();
            operation["name"].as_str().unwrap().to_owned()
        };
        let names = (0..2500).map(issue).collect();
        Self { emulator, service, names }
    }
}

/// Gets different operations at [`OVERLOAD`] times the paced rate, each with a deadline of one second.
async fn flood(wire: &Wire, names: &[String], end: Instant) -> Vec<Status> {
    let interval = PERIOD / ((LIMIT - BURST) * OVERLOAD);
    let (start, [(header, value)]) = (Instant::now(), timeout(SECOND));
    let gets = names.iter().zip(0..).map(|(name, number)| {
        let value = &value;
        async move {
            let at = start + interval * number;
            if at > end {
                return None;
            }
            sleep_until(at).await;
            let call = wire.start_raw(GET, &[(header, value)], &by_name(name)).await;
            Some(call.response().await.status())
        }
    });
    join_all(gets).await.into_iter().flatten().collect()
}

/// Cancels an operation every 300 ms. Returns the time of each.
async fn cancels(wire: &Wire, names: &[String], end: Instant) -> Vec<Duration> {
    let mut times = Vec::new();
    for name in names {
        if Instant::now() > end {
            break;
        }
        let start = Instant::now();
        assert_eq!(wire.cancel(name, &[]).await.code(), Code::Ok);
        times.push(start.elapsed());
        sleep(Duration::from_millis(300)).await;
    }
    times
}

/// Waits for operations that do not end.
async fn waits(wire: &Wire, names: &[String]) -> Vec<Status> {
    let message = |name: &String| {
        let timeout = Some(TIME.try_into().unwrap());
        WaitOperationRequest { name: name.clone(), timeout }.encode_to_vec()
    };
    let calls = names.iter().map(|name| async {
        let call = wire.start_raw(WAIT, &[], &message(name)).await;
        call.response().await.status()
    });
    join_all(calls).await
}

#[tokio::test]
async fn under_ten_times_the_quota_google_refuses_nothing_and_cancels_stay_quick() {
    let Fixture { emulator, service, names } = Fixture::start().await;
    let wire = service.wire().await;
    let (waited, rest) = names.split_at(20);
    let (cancelled, read) = rest.split_at(80);
    let (start, end) = (Instant::now(), Instant::now() + TIME);
    let (read, cancelled, waited) =
        tokio::join!(flood(&wire, read, end), cancels(&wire, cancelled, end), waits(&wire, waited));
    let elapsed = start.elapsed();

    let page = Scrape::of(service.admin).await;
    let refused_by_google =
        page.find("http_client_request_duration_seconds_count", &["http_response_status_code=\"429\""]);
    assert_eq!(refused_by_google, None);
    let Queries { get, list, cancel, .. } = emulator.control().queries();
    let (used, paced) = ((get + list + cancel) as f64, f64::from(LIMIT - BURST) / PERIOD.as_secs_f64());
    // tests/quota/run and the unit tests measure the use. A busy machine may stop all processes for a time here.
    assert!(used >= 0.6 * paced * TIME.as_secs_f64(), "{used} queries in {elapsed:?}");
    let counted = page.text.lines().filter(|line| {
        line.starts_with("countermand_quota_queries_total{")
            && (line.contains("\"immediate\"") || line.contains("\"delayed\""))
    });
    let counted: f64 = counted.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum();
    // A query whose deadline passes between its turn and its request is not sent.
    assert!(counted >= used, "each query that was sent had a turn: {counted} of {used}");

    let (answered, refused): (Vec<_>, Vec<_>) = read.iter().partition(|status| status.code() == Code::Ok);
    assert!(refused.len() > 3 * answered.len(), "{} of {}", refused.len(), read.len());
    // A call that a busy machine delays meets its deadline.
    let (late, refused): (Vec<_>, Vec<_>) =
        refused.into_iter().partition(|status| status.code() == Code::DeadlineExceeded);
    assert!(late.len() * 5 < read.len(), "{} of {} were late", late.len(), read.len());
    for status in refused {
        assert_over_budget(status, Duration::ZERO..=60 * SECOND);
    }
    assert!(cancelled.len() >= 5);
    let mut times = cancelled.clone();
    times.sort_unstable();
    assert!(times[times.len() / 2] < SECOND, "{cancelled:?}");
    // Their first get is one of the flood, and a known state is an answer.
    assert!(waited.iter().any(|status| status.code() == Code::Ok), "{waited:?}");
}
