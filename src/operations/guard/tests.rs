//! The guard's counts and reports, at given times.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{Guard, GuardLimit, MAX_ENTERPRISES, MAX_WIPES, MAX_WIPES_IN_ALL};
use crate::amapi::Json;

const MINUTE: Duration = Duration::from_secs(60);
const LIMIT: GuardLimit = GuardLimit { pending_wipes: 3, period: Duration::from_secs(600) };

fn guard(limit: impl Into<Option<GuardLimit>>) -> Guard {
    Guard::new(limit.into(), Counter::default())
}

fn time(text: &str) -> OffsetDateTime {
    OffsetDateTime::parse(text, &Rfc3339).unwrap()
}

/// The time of the tests, and the `createTime` of their WIPEs.
fn start() -> OffsetDateTime {
    time(CREATED)
}

const CREATED: &str = "2026-08-06T20:38:43.669Z";

/// A pending operation.
fn operation(id: usize, kind: &str, created: &str) -> Json {
    let name = format!("enterprises/LC01/devices/d1/operations/{id}");
    let operation = json!({"name": name, "metadata": {"type": kind, "createTime": created}});
    operation.as_object().unwrap().clone()
}

fn wipe(id: usize) -> Json {
    operation(id, "WIPE", CREATED)
}

fn done(mut operation: Json) -> Json {
    operation.insert("done".to_owned(), Value::Bool(true));
    operation
}

impl Guard {
    /// Sees one response. Returns the number of reports so far.
    fn reports_after(&self, enterprise: &str, operations: &[Json], now: OffsetDateTime) -> u64 {
        self.see(enterprise, operations.iter(), || now);
        self.triggered.get()
    }

    /// The number of kept WIPEs of an enterprise.
    fn kept(&self, enterprise: &str) -> usize {
        self.lock().enterprises.peek(enterprise).map_or(0, |pending| pending.wipes.len())
    }
}

#[test]
fn distinct_pending_wipes_of_one_enterprise_count() {
    let guard = guard(LIMIT);
    let now = start();
    assert_eq!(guard.reports_after("LC01", &[wipe(1), wipe(2), wipe(3)], now), 0);
    // The same ones again, and others that are no pending WIPEs.
    let others = [
        wipe(1),
        done(wipe(4)),
        operation(5, "LOCK", CREATED),
        operation(6, "WIPE", "2026-08-06T20:28:43.668Z"),
        operation(7, "WIPE", "yesterday"),
        Json::new(),
    ];
    assert_eq!(guard.reports_after("LC01", &others, now), 0);
    assert_eq!(guard.reports_after("LC02", &[wipe(8), wipe(9)], now), 0);
    // An hour ahead in another zone is the same time. A clock that is behind Google's must not hide new WIPEs.
    assert_eq!(guard.reports_after("LC01", &[operation(1, "WIPE", "2026-08-06T21:38:43.669+01:00")], now), 0);
    assert_eq!(guard.reports_after("LC01", &[operation(10, "WIPE", "2026-08-06T20:39:00Z")], now), 1);
}

#[test]
fn an_operation_and_a_page_of_the_api_are_seen_at_the_time_of_the_clock() {
    let guard = guard(GuardLimit { pending_wipes: 1, ..LIMIT });
    let created = humantime::format_rfc3339(std::time::SystemTime::now()).to_string();
    let [first, second] = [1, 2].map(|id| operation(id, "WIPE", &created));
    guard.see_operation("LC01", &first);
    assert_eq!((guard.kept("LC01"), guard.triggered.get()), (1, 0));
    let page = json!({"operations": [first, second, "no operation"], "nextPageToken": "x"});
    guard.see_page("LC01", page.as_object().unwrap());
    assert_eq!((guard.kept("LC01"), guard.triggered.get()), (2, 1));
    for page in [json!({}), json!({"operations": null}), json!({"operations": {}})] {
        guard.see_page("LC01", page.as_object().unwrap());
    }
}

#[test]
fn an_excess_is_reported_once_until_it_ends() {
    let guard = guard(LIMIT);
    let now = start();
    let five: Vec<_> = (1..=5).map(wipe).collect();
    assert_eq!(guard.reports_after("LC01", &five[..4], now), 1);
    assert_eq!(guard.reports_after("LC01", &five, now + MINUTE), 1);
    // Four are still more than the limit. Three are not.
    assert_eq!(guard.reports_after("LC01", &[done(wipe(1))], now + MINUTE), 1);
    assert_eq!(guard.reports_after("LC01", &[wipe(6)], now + MINUTE), 1);
    assert_eq!(guard.reports_after("LC01", &[done(wipe(2)), done(wipe(3))], now + MINUTE), 1);
    assert_eq!(guard.reports_after("LC01", &[wipe(7)], now + MINUTE), 2);
}

#[test]
fn an_excess_is_reported_again_when_the_number_has_doubled() {
    let guard = guard(LIMIT);
    let now = start();
    let wipes: Vec<_> = (0..40).map(wipe).collect();
    let of_last_report = || guard.lock().enterprises.peek("LC01").unwrap().reported.as_ref().unwrap().pending;
    for (seen, reports, pending) in [(4, 1, 4), (7, 1, 4), (9, 2, 9), (17, 2, 9), (18, 3, 18), (40, 4, 40)] {
        assert_eq!(guard.reports_after("LC01", &wipes[..seen], now), reports, "{seen}");
        assert_eq!(of_last_report(), pending);
    }
    // Fewer are pending, and then as many as before again.
    let cancelled: Vec<_> = wipes[..30].iter().cloned().map(done).collect();
    assert_eq!(guard.reports_after("LC01", &cancelled, now), 4);
    assert_eq!(guard.reports_after("LC01", &wipes, now), 4);
    // The next excess begins with its own number.
    let cancelled: Vec<_> = wipes[..37].iter().cloned().map(done).collect();
    assert_eq!(guard.reports_after("LC01", &cancelled, now), 4);
    for (seen, reports) in [(4, 5), (7, 5), (8, 6)] {
        // Three others are pending.
        assert_eq!(guard.reports_after("LC01", &wipes[..seen - 3], now), reports, "{seen}");
    }
}

#[test]
fn an_excess_of_new_wipes_is_reported_again_after_the_period() {
    let guard = guard(LIMIT);
    let now = start();
    let issue = |ids: std::ops::Range<usize>, created: &str| -> Vec<_> {
        ids.map(|id| operation(id, "WIPE", created)).collect()
    };
    assert_eq!(guard.reports_after("LC01", &issue(0..5, CREATED), now), 1);
    let nine_minutes_later = "2026-08-06T20:47:43.669Z";
    assert_eq!(guard.reports_after("LC01", &issue(5..9, nine_minutes_later), now + 9 * MINUTE), 1);
    // The first ones are at most as old as the period, and then they do not count.
    assert_eq!(guard.reports_after("LC01", &issue(5..6, nine_minutes_later), now + 10 * MINUTE), 2);
    assert_eq!(guard.kept("LC01"), 9);
    assert_eq!(guard.reports_after("LC01", &issue(5..6, nine_minutes_later), now + 11 * MINUTE), 2);
    assert_eq!(guard.kept("LC01"), 4);
}

#[test]
fn an_excess_that_expires_unseen_has_ended() {
    let guard = guard(LIMIT);
    let now = start();
    let four: Vec<_> = (0..4).map(wipe).collect();
    assert_eq!(guard.reports_after("LC01", &four, now + 9 * MINUTE), 1);
    let later: Vec<_> = (4..8).map(|id| operation(id, "WIPE", "2026-08-06T20:48:43Z")).collect();
    assert_eq!(guard.reports_after("LC01", &later, now + 11 * MINUTE), 2);
    // A response with old WIPEs only leaves nothing behind.
    assert_eq!(guard.reports_after("LC01", &four, now + 21 * MINUTE), 2);
    assert!(guard.lock().enterprises.is_empty());
}

#[test]
fn without_a_limit_nothing_is_read_or_kept() {
    let guard = guard(None);
    let four: Vec<_> = (0..4).map(wipe).collect();
    guard.see("LC01", std::iter::from_fn(|| panic!("an operation is read")), || panic!("the clock is read"));
    assert_eq!(guard.kept("LC01"), 0);
    guard.replace(Some(GuardLimit { pending_wipes: 4, ..LIMIT }));
    assert_eq!(guard.reports_after("LC01", &four, start()), 0);
    // A lower limit counts what was seen.
    guard.replace(Some(LIMIT));
    assert_eq!(guard.reports_after("LC01", &four[..1], start()), 1);
    guard.replace(None);
    assert_eq!(guard.reports_after("LC01", &four, start()), 1);
    let state = guard.lock();
    assert_eq!((state.enterprises.len(), state.total), (0, 0));
}

#[test]
fn the_newest_wipes_of_an_enterprise_are_kept() {
    let guard = guard(LIMIT);
    let now = start();
    let new: Vec<_> = (0..MAX_WIPES).map(wipe).collect();
    let old: Vec<_> = (0..10).map(|id| operation(MAX_WIPES + id, "WIPE", "2026-08-06T20:38:00Z")).collect();
    let done_ones = |operations: &[Json]| operations.iter().cloned().map(done).collect::<Vec<_>>();
    guard.see("LC01", old.iter(), || now);
    assert_eq!(guard.kept("LC01"), 10);
    guard.see("LC01", new.iter(), || now);
    assert_eq!(guard.kept("LC01"), MAX_WIPES);
    guard.see("LC01", done_ones(&old).iter(), || now);
    assert_eq!(guard.kept("LC01"), MAX_WIPES, "the old ones were removed");
    // Kept ones that finish make room for others.
    guard.see("LC01", done_ones(&new[..10]).iter(), || now);
    guard.see("LC01", old.iter(), || now);
    assert_eq!(guard.kept("LC01"), MAX_WIPES);
    guard.see("LC01", done_ones(&new).iter(), || now);
    assert_eq!(guard.kept("LC01"), 10);
}

#[test]
fn the_enterprises_and_all_their_wipes_are_limited() {
    let guard = guard(LIMIT);
    let now = start();
    let many: Vec<_> = (0..MAX_WIPES).map(wipe).collect();
    let full = MAX_WIPES_IN_ALL / MAX_WIPES;
    (0..full).for_each(|enterprise| guard.see(&format!("E{enterprise}"), many.iter(), || now));
    let total = || guard.lock().total;
    assert_eq!(total(), MAX_WIPES_IN_ALL);
    guard.see("E0", many.iter(), || now);
    guard.see("LC01", many[..1].iter(), || now);
    assert_eq!(total(), MAX_WIPES_IN_ALL - MAX_WIPES + 1);
    assert_eq!(
        (guard.kept("E0"), guard.kept("E1")),
        (MAX_WIPES, 0),
        "the least recently seen one is evicted"
    );

    let guard = self::guard(LIMIT);
    (0..=MAX_ENTERPRISES.get())
        .for_each(|enterprise| guard.see(&format!("E{enterprise}"), many[..1].iter(), || now));
    let state = guard.lock();
    assert_eq!((state.enterprises.len(), state.total), (MAX_ENTERPRISES.get(), MAX_ENTERPRISES.get()));
}
