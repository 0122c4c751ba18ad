//! A budget that services share through a store, and the times without the store.

use std::{fs, time::Duration};

use countermand::quota::shared::TEST_CALL_TIMEOUT;
use tempfile::TempDir;
use tokio::time::Instant;
use tonic::Code;

use super::{ONE_IN_200_SECONDS, PLENTY, SECOND, assert_over_budget, decisions, get, name, timeout};
use crate::support::{
    account,
    fake_redis::FakeRedis,
    files::replace,
    grpc::{CANCEL, by_name},
    metrics::{Scrape, scrape_until},
    process::{Ended, countermand, run},
    reply::Reply,
    service::{Service, Setup},
    tls::Authority,
    upstream::Upstream,
};

/// The project of the tests' credential.
const PROJECT: &str = "tests";

/// The time limit of a call of the store, for a busy machine. In production it is 50 ms.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// An upstream that answers everything, and services that share a budget.
struct Fleet {
    upstream: Upstream,
    services: Vec<Service>,
}

impl Fleet {
    /// Starts this number of services with this quota and the store of these settings.
    async fn start(number: usize, quota: &str, store: &str) -> Self {
        Self::start_with(number, quota, store, STORE_TIMEOUT).await
    }

    /// As [`Self::start`], with this time limit of a call of the store.
    async fn start_with(number: usize, quota: &str, store: &str, call_timeout: Duration) -> Self {
        let upstream = Upstream::start().await;
        upstream.always_answers(Reply::ok());
        let mut services = Vec::new();
        for _ in 0..number {
            let setup = Setup::of(&upstream).quota(quota).quota_shared(store);
            services.push(TEST_CALL_TIMEOUT.scope(call_timeout, setup.start()).await);
        }
        Self { upstream, services }
    }

    /// Two services that use the store and know of each other, and that have sent a cancel each.
    async fn of_two(redis: &FakeRedis) -> Self {
        let settings = format!("url = \"{}\"\nreplicas = 2", redis.url());
        let fleet = Self::start(2, ONE_IN_200_SECONDS, &settings).await;
        redis.has_replicas(PROJECT, 2).await;
        for service in &fleet.services {
            scrape_until("both replicas", service.admin, |page| {
                page.find("countermand_quota_replicas", &[]) == Some(2.0)
            })
            .await;
        }
        for service in 0..2 {
            fleet.cancels(service).await;
        }
        for service in &fleet.services {
            // By a heartbeat, a service knows of the cancel of the other.
            scrape_until("both cancels", service.admin, |page| {
                page.value("countermand_quota_available_queries", &[]) < 1.5
            })
            .await;
        }
        fleet
    }

    /// Waits until the store is up, or away, for all services.
    async fn are_up(&self, is_up: bool) {
        for service in &self.services {
            scrape_until("the state of the store", service.admin, |page| {
                page.value("countermand_quota_shared_up", &[]) == f64::from(u8::from(is_up))
            })
            .await;
        }
    }

    async fn cancel(&self, service: usize) -> tonic::Status {
        let wire = self.services[service].wire().await;
        let [(header, value)] = timeout(5 * SECOND);
        wire.start_raw(CANCEL, &[(header, &value)], &by_name(&name(1))).await.response().await.status()
    }

    /// Cancels, which must be admitted. On a busy machine, the store may be away for a moment, and the part of one service
    /// may be used.
    async fn cancels(&self, service: usize) {
        let mut status = self.cancel(service).await;
        for _ in 0..3 {
            if status.code() != Code::ResourceExhausted {
                break;
            }
            self.are_up(true).await;
            status = self.cancel(service).await;
        }
        assert_eq!(status.code(), Code::Ok, "{status:?}");
    }

    /// Cancels, which must be refused, because the burst is used.
    async fn is_refused(&self, service: usize) {
        assert_over_budget(&self.cancel(service).await, 60 * SECOND..=400 * SECOND);
    }
}

#[tokio::test]
async fn two_services_share_one_budget() {
    let redis = FakeRedis::start().await;
    let fleet = Fleet::of_two(&redis).await;
    fleet.cancels(0).await;
    fleet.is_refused(0).await;
    fleet.is_refused(1).await;
    assert_eq!(fleet.upstream.requests().len(), 3);
    let immediate = decisions(&fleet.services[0], "cancel", "immediate").await;
    assert_eq!(immediate, 2.0, "the answer of the store is no wait");
}

#[tokio::test]
async fn a_refusal_by_google_of_one_service_holds_the_reads_of_the_other() {
    let redis = FakeRedis::start().await;
    let fleet = Fleet::start(2, PLENTY, &format!("url = \"{}\"\nreplicas = 2", redis.url())).await;
    fleet.are_up(true).await;
    fleet.cancels(1).await;
    fleet.upstream.answers([Reply::plain_error(429, "RESOURCE_EXHAUSTED", "No.")]);
    assert_eq!(get(&fleet.services[0].wire().await, 1, 10 * SECOND).await.message(), "No.");
    scrape_until("the hold", fleet.services[1].admin, |page| {
        page.value("countermand_quota_hold_seconds", &[]) > 0.0
    })
    .await;
    assert_over_budget(&get(&fleet.services[1].wire().await, 2, 5 * SECOND).await, 30 * SECOND..=60 * SECOND);
}

#[tokio::test]
async fn a_store_that_stops_to_answer_delays_a_cancel_by_its_time_limit_only() {
    let redis = FakeRedis::start().await;
    let settings = format!("url = \"{}\"\nreplicas = 1", redis.url());
    let fleet = Fleet::start_with(1, PLENTY, &settings, SECOND / 4).await;
    fleet.are_up(true).await;
    fleet.cancels(0).await;
    redis.stall(true);
    let start = Instant::now();
    fleet.cancels(0).await;
    // The time limit is 250 ms. The rest is for a busy machine.
    assert!(start.elapsed() < 4 * SECOND, "{:?}", start.elapsed());
    fleet.are_up(false).await;
    scrape_until("the timeout", fleet.services[0].admin, |page| {
        page.value("countermand_quota_shared_calls_total", &["outcome=\"timeout\""]) >= 1.0
    })
    .await;
    fleet.cancels(0).await;
    redis.stall(false);
    fleet.are_up(true).await;
    fleet.cancels(0).await;
}

#[tokio::test]
async fn each_service_uses_its_part_while_the_store_is_away_and_the_store_counts_it_afterwards() {
    let redis = FakeRedis::start().await;
    // The burst is three. Two are used.
    let fleet = Fleet::of_two(&redis).await;
    redis.stall(true);
    fleet.are_up(false).await;
    // Of the two intervals that the TAT is ahead, a service with half of the rate is one query ahead. Half of the burst
    // has no room for another.
    for service in 0..2 {
        fleet.is_refused(service).await;
    }
    redis.stall(false);
    fleet.are_up(true).await;
    fleet.cancels(0).await;
    fleet.is_refused(1).await;
    assert_eq!(fleet.upstream.requests().len(), 3);
}

#[tokio::test]
async fn a_service_that_never_connected_uses_its_part_by_the_configured_number() {
    let mut redis = FakeRedis::start().await;
    redis.down().await;
    let fleet =
        Fleet::start(1, ONE_IN_200_SECONDS, &format!("url = \"{}\"\nreplicas = 3", redis.url())).await;
    fleet.are_up(false).await;
    fleet.cancels(0).await;
    assert_over_budget(&fleet.cancel(0).await, 400 * SECOND..=600 * SECOND);
    redis.up().await;
    fleet.are_up(true).await;
    // An interval of a third of the rate is three of the whole rate.
    fleet.is_refused(0).await;
}

#[tokio::test]
async fn a_restarted_store_continues_the_states_of_the_services() {
    let mut redis = FakeRedis::start().await;
    let fleet = Fleet::of_two(&redis).await;
    redis.down().await;
    fleet.are_up(false).await;
    redis.up().await;
    fleet.are_up(true).await;
    fleet.cancels(0).await;
    fleet.is_refused(0).await;
    fleet.is_refused(1).await;
}

#[tokio::test]
async fn a_store_that_loses_its_data_or_its_scripts_is_not_away() {
    let redis = FakeRedis::start().await;
    let fleet = Fleet::of_two(&redis).await;
    redis.flush_hashes();
    redis.flush_scripts();
    fleet.cancels(0).await;
    fleet.is_refused(0).await;
    fleet.is_refused(1).await;
    let page = Scrape::of(fleet.services[0].admin).await;
    assert_eq!(page.value("countermand_quota_shared_calls_total", &["outcome=\"error\""]), 0.0);
}

#[tokio::test]
async fn a_new_password_is_used_whether_the_file_or_the_store_changes_first() {
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("password");
    replace(&file, "first\n");
    let mut redis = FakeRedis::start().await;
    redis.require_passwords(&["first"]);
    let settings = format!(
        "url = \"{}\"\nreplicas = 1\nusername = \"countermand\"\npassword_file = \"{}\"",
        redis.url(),
        file.display()
    );
    let fleet = Fleet::start(1, PLENTY, &settings).await;
    fleet.are_up(true).await;
    let reloads = async |outcome: &str, number: f64| {
        let outcome = format!("outcome=\"{outcome}\"");
        scrape_until("the reload", fleet.services[0].admin, |page| {
            page.find("countermand_reloads_total", &["kind=\"quota_shared\"", &outcome]) == Some(number)
        })
        .await;
    };

    redis.require_passwords(&["second"]);
    replace(&file, "second");
    reloads("success", 1.0).await;

    replace(&file, "third");
    reloads("failure", 1.0).await;
    fleet.are_up(true).await;
    redis.down().await;
    fleet.are_up(false).await;
    redis.up().await;
    fleet.are_up(true).await;
    redis.down().await;
    fleet.are_up(false).await;
    redis.require_passwords(&["third"]);
    redis.up().await;
    reloads("success", 2.0).await;

    replace(&file, "\n");
    reloads("failure", 2.0).await;
    fleet.are_up(true).await;
}

#[tokio::test]
async fn the_certificate_of_the_store_is_verified() {
    let files = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let ca = files.path().join("ca.pem");
    fs::write(&ca, authority.pem()).unwrap();
    let redis = FakeRedis::start_tls(authority).await;
    let url = format!("url = \"rediss://localhost:{}\"\nreplicas = 1", redis.address.port());
    let trusting = format!("{url}\nca_certificates = \"{}\"", ca.display());
    let fleet = Fleet::start(1, PLENTY, &trusting).await;
    fleet.are_up(true).await;
    fleet.cancels(0).await;

    let checked = check(&trusting).await;
    assert!(runs_the_script(&checked, "rediss://"), "{checked:?}");
    let distrusting = check(&url).await;
    assert!(distrusting.stderr.contains("invalid peer certificate"), "{distrusting:?}");
}

#[tokio::test]
async fn a_sentinel_names_the_store() {
    let (mut first, second, sentinel) =
        (FakeRedis::start().await, FakeRedis::start().await, FakeRedis::start().await);
    sentinel.report_master("quota", first.address);
    // The first sentinel is down.
    let settings = format!(
        "url = \"redis://127.0.0.1:1,{}\"\nsentinel_master = \"quota\"\nreplicas = 1",
        sentinel.address
    );
    let fleet = Fleet::start(1, ONE_IN_200_SECONDS, &settings).await;
    fleet.are_up(true).await;
    fleet.cancels(0).await;
    first.has_replicas(PROJECT, 1).await;
    sentinel.report_master("quota", second.address);
    first.down().await;
    second.has_replicas(PROJECT, 1).await;
    fleet.cancels(0).await;
    fleet.cancels(0).await;
    fleet.is_refused(0).await;
}

#[tokio::test]
async fn a_sentinel_that_names_a_dead_master_does_not_end_the_search() {
    let (mut dead, alive) = (FakeRedis::start().await, FakeRedis::start().await);
    let (stale, current) = (FakeRedis::start().await, FakeRedis::start().await);
    dead.down().await;
    stale.report_master("quota", dead.address);
    current.report_master("quota", alive.address);
    let sentinels =
        |addresses: &str| format!("url = \"redis://{addresses}\"\nsentinel_master = \"quota\"\nreplicas = 1");
    let both = sentinels(&format!("{},{}", stale.address, current.address));
    let fleet = Fleet::start(1, ONE_IN_200_SECONDS, &both).await;
    fleet.are_up(true).await;
    fleet.cancels(0).await;
    alive.has_replicas(PROJECT, 1).await;

    let checked = check(&sentinels(&stale.address.to_string())).await;
    let problem = format!("of the master quota: cannot connect to redis://{}", dead.address);
    assert!(checked.stderr.contains(&problem), "{checked:?}");
}

#[tokio::test]
async fn check_reports_a_rejected_password_without_it() {
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("password");
    fs::write(&file, "hunter2").unwrap();
    let redis = FakeRedis::start().await;
    let with_password =
        format!("url = \"{}\"\nreplicas = 1\npassword_file = \"{}\"", redis.url(), file.display());

    // Without a password, this server quotes the arguments of AUTH.
    let ended = check(&with_password).await;
    assert!(ended.stderr.contains("it rejects the login (ERR)"), "{ended:?}");
    redis.require_passwords(&["another"]);
    let wrong = check(&with_password).await;
    assert!(wrong.stderr.contains("it rejects the login (WRONGPASS)"), "{wrong:?}");
    for Ended { stdout, stderr, .. } in [&ended, &wrong] {
        assert!(!stdout.contains("hunter2") && !stderr.contains("hunter2"), "{stderr}");
    }
    let without = check(&format!("url = \"{}\"\nreplicas = 1", redis.url())).await;
    assert!(without.stderr.contains("it requires a password, and there is no password_file"), "{without:?}");
    redis.require_passwords(&["hunter2"]);
    let right = check(&with_password).await;
    assert!(runs_the_script(&right, &redis.url()), "{right:?}");
    assert_eq!(redis.hash("#check").len(), 0, "the check leaves nothing");
}

/// Whether a check ran the script of the store at `url`. On a busy machine, it may warn that the call is slow.
fn runs_the_script(checked: &Ended, url: &str) -> bool {
    let prefix = format!("quota_shared: {url}");
    let mut lines = checked.stdout.lines().chain(checked.stderr.lines());
    lines.any(|line| {
        line.contains(&prefix) && (line.contains(" runs the script in ") || line.contains(": a call takes "))
    })
}

/// Runs `countermand check` with the store of these settings.
async fn check(store: &str) -> Ended {
    let upstream = Upstream::start().await;
    upstream.always_answers(Reply::ok());
    let dir: TempDir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("key.json"), account::key_file(&upstream.token_url())).unwrap();
    let sections = format!(
        "[upstream]\nurl = \"{}\"\n[[credentials]]\nname = \"c\"\nfile = \"key.json\"\n[[quota]]\n[quota_shared]\n{store}\n",
        upstream.url()
    );
    fs::write(dir.path().join("c.toml"), sections).unwrap();
    run(countermand(&["check", "--config", "c.toml"]).current_dir(&dir)).await
}
