//! Polls for WaitOperation, because the Android Management API has no wait method. One task per device polls the
//! awaited operations of the device for all waiters.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout_at},
};
use tonic::Code;

use super::{reader::Reader, status};
use crate::{
    amapi::{Api, ListQuery, error::Error},
    audit::Record,
    caller::Caller,
    name::{DeviceName, OperationName},
    policy::{Permit, action::Get},
    proto::longrunning::{ListOperationsResponse, Operation},
    serving::Serving,
    telemetry::metrics::OperationMetrics,
    telemetry::traces::{Span, SpanContext, Trace, WeakSpanContext},
};

/// The factor between two intervals.
const GROWTH: f64 = 1.5;

/// The maximum random fraction that is added to an interval, so that pollers do not synchronize.
const JITTER: f64 = 0.1;

/// The maximum time between two polls of a device for which the quota has no poll.
const MAX_PAUSE: Duration = Duration::from_secs(3600);

/// The requested page size. The API may return smaller pages.
const PAGE_SIZE: u32 = 1000;

/// The number of rounds without a list, after a round in which lists took more queries than gets.
const ROUNDS_WITHOUT_LIST: u32 = 10;

/// The time between two polls of a device.
#[derive(Debug, Clone, Copy)]
pub struct PollIntervals {
    /// The first interval, and the interval after a cancel.
    pub min: Duration,
    /// The upper bound of the growing interval.
    pub max: Duration,
}

/// The pollers of all devices. Cheap to clone.
pub(super) struct Pollers<A>(Arc<PollersInner<A>>);

struct PollersInner<A> {
    reader: Reader<A>,
    intervals: PollIntervals,
    serving: watch::Receiver<Serving>,
    /// The devices that have a poller.
    devices: Mutex<HashMap<DeviceName, AwaitedDevice>>,
    metrics: OperationMetrics,
}

struct AwaitedDevice {
    operations: HashMap<OperationName, AwaitedOperation>,
    /// Makes the poller poll soon. It also identifies the poller.
    poll_soon: Arc<Notify>,
}

struct AwaitedOperation {
    snapshots: watch::Sender<Snapshot>,
    permit: Permit<Get>,
    /// The caller of the first waiter, for whom the operation is polled.
    caller: Option<Caller>,
    /// The spans of the waiters whose calls are sampled.
    waiters: Vec<WeakSpanContext>,
}

/// The latest known state of an awaited operation.
#[derive(Debug, Clone)]
struct Snapshot {
    state: Option<Arc<Operation>>,
    /// The error of the latest poll. `None` when it succeeded.
    error: Option<Error>,
    /// The time of the latest poll.
    polled_at: Instant,
    /// No other snapshot follows: the operation is done, the error is permanent, or the poller has ended.
    is_final: bool,
}

impl Snapshot {
    /// The result for a waiter: a permanent error, otherwise the latest state, otherwise the latest error.
    fn result(&self) -> Result<Arc<Operation>, Error> {
        match (&self.state, &self.error) {
            (_, Some(error)) if self.is_final && !is_transient(error) => Err(error.clone()),
            (Some(state), _) => Ok(Arc::clone(state)),
            (None, Some(error)) => Err(aged(error, self.polled_at.elapsed())),
            (None, None) => {
                Err(Error::DeadlineExceeded { while_doing: "before the operation's state was known" })
            }
        }
    }
}

/// The error after this time, in which the turn of a query has come nearer.
fn aged(error: &Error, age: Duration) -> Error {
    match error {
        Error::QuotaBudget { retry_after, project } => {
            Error::QuotaBudget { retry_after: retry_after.saturating_sub(age), project: project.clone() }
        }
        other => other.clone(),
    }
}

/// The time for which the quota has no poll after this result.
fn pause_after<T>(result: &Result<T, Error>) -> Duration {
    match result {
        Err(Error::QuotaBudget { retry_after, .. }) => (*retry_after).min(MAX_PAUSE),
        _ => Duration::ZERO,
    }
}

/// Whether a later poll may succeed. Errors of quotas, tokens, networks and servers are transient. Errors of the
/// operation, of permissions and of the response's format are permanent.
fn is_transient(error: &Error) -> bool {
    match error {
        Error::Response(response) => matches!(
            status::code_of_response(response),
            Code::Unavailable
                | Code::ResourceExhausted
                | Code::DeadlineExceeded
                | Code::Aborted
                | Code::Internal
                | Code::Unknown
        ),
        Error::CredentialUnavailable { .. }
        | Error::Unreachable { .. }
        | Error::DeadlineExceeded { .. }
        | Error::QuotaBudget { .. } => true,
        Error::NoCredential
        | Error::UrlTooLong { .. }
        | Error::NotBuilt { .. }
        | Error::CredentialRejected(_)
        | Error::Malformed { .. }
        | Error::BodyTooLong { .. }
        | Error::NotHttp { .. }
        | Error::Abandoned
        | Error::Lost => false,
    }
}

/// The `timeout` of a WaitOperation request. `None` when the request has none.
///
/// # Errors
///
/// The timeout is negative, or not a valid duration.
pub(super) fn requested_timeout(timeout: Option<&prost_types::Duration>) -> Result<Option<Duration>, ()> {
    let Some(timeout) = timeout else { return Ok(None) };
    let seconds = u64::try_from(timeout.seconds).map_err(|_| ())?;
    let nanos = u32::try_from(timeout.nanos).ok().filter(|nanos| *nanos < 1_000_000_000).ok_or(())?;
    Ok(Some(Duration::new(seconds, nanos)))
}

impl<A> Clone for Pollers<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A: Send + Sync + 'static> Pollers<A> {
    pub(super) fn new(
        reader: Reader<A>,
        intervals: PollIntervals,
        serving: watch::Receiver<Serving>,
        metrics: &OperationMetrics,
    ) -> Self {
        let devices = Mutex::default();
        let inner = Arc::new(PollersInner { reader, intervals, serving, devices, metrics: metrics.clone() });
        let count = |of: fn(&AwaitedDevice) -> usize| {
            let inner = Arc::downgrade(&inner);
            move || {
                let Some(inner) = inner.upgrade() else { return 0.0 };
                inner.lock().values().map(of).sum::<usize>() as f64
            }
        };
        metrics.pollers.read_value_with(count(|_| 1));
        metrics.waiters.read_value_with(count(|device| {
            device.operations.values().map(|operation| operation.snapshots.receiver_count()).sum()
        }));
        Self(inner)
    }
}

impl<A> Pollers<A> {
    /// Polls the device of an operation soon, because the operation was cancelled. Does nothing when the
    /// operation is not awaited.
    pub(super) fn poll_soon(&self, name: &OperationName) {
        let devices = self.lock();
        // Usually no operation is awaited, and `name.device()` allocates.
        if devices.is_empty() {
            return;
        }
        if let Some(device) = devices.get(&name.device())
            && device.operations.contains_key(name)
        {
            device.poll_soon.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DeviceName, AwaitedDevice>> {
        self.0.lock()
    }
}

impl<A> PollersInner<A> {
    fn lock(&self) -> MutexGuard<'_, HashMap<DeviceName, AwaitedDevice>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A: Api> Pollers<A> {
    /// Waits until the operation is done, until `end`, or until the server drains. Returns the latest state.
    /// `first` is the result of the get with which the call started. The polls are linked to the span of the call's
    /// `record`.
    ///
    /// # Errors
    ///
    /// A permanent error, or the latest error when no state is known.
    pub(super) async fn wait(
        &self,
        permit: Permit<Get>,
        first: Result<Arc<Operation>, Error>,
        end: Instant,
        record: &Record,
    ) -> Result<Arc<Operation>, Error> {
        match &first {
            Ok(operation) if operation.done => return first,
            Err(error) if !is_transient(error) => return first,
            _ => {}
        }
        let mut snapshots = self.subscribe(permit, first, record);
        // The current snapshot is the result in both cases: it is the final one, or the latest at `end`.
        let _ = timeout_at(end, snapshots.wait_for(|snapshot| snapshot.is_final)).await;
        snapshots.borrow().result()
    }

    /// Subscribes to the snapshots of an operation, and starts a poller for the device if it has none. The
    /// poller polls the operation as long as one subscription exists.
    fn subscribe(
        &self,
        permit: Permit<Get>,
        first: Result<Arc<Operation>, Error>,
        record: &Record,
    ) -> watch::Receiver<Snapshot> {
        let name = permit.resource().clone();
        let device_name = name.device();
        let is_final = *self.0.serving.borrow() == Serving::Draining;
        let mut new_poller = None;

        let mut devices = self.lock();
        let device = devices.entry(device_name).or_insert_with_key(|device| {
            let poll_soon = Arc::<Notify>::default();
            new_poller = Some(Poller {
                pollers: self.clone(),
                device: device.clone(),
                poll_soon: Arc::clone(&poll_soon),
                rounds_without_list: 0,
                first_pause: pause_after(&first),
            });
            AwaitedDevice { operations: HashMap::new(), poll_soon }
        });
        let operation = device.operations.entry(name).or_insert_with(|| {
            device.poll_soon.notify_one();
            let (state, error) = match first {
                Ok(operation) => (Some(operation), None),
                Err(error) => (None, Some(error)),
            };
            let snapshots =
                watch::Sender::new(Snapshot { state, error, polled_at: Instant::now(), is_final });
            AwaitedOperation { snapshots, permit, caller: record.caller(), waiters: Vec::new() }
        });
        if let Some(span) = record.trace().span.as_ref().filter(|span| span.is_sampled()) {
            operation.waiters.push(span.downgrade());
        }
        let snapshots = operation.snapshots.subscribe();
        drop(devices);

        if let Some(poller) = new_poller {
            tokio::spawn(poller.run());
        }
        snapshots
    }
}

/// The poller of one device. When it is dropped before its end, by a panic for example, its waits end with an
/// error, and the next wait starts another poller.
struct Poller<A> {
    pollers: Pollers<A>,
    device: DeviceName,
    poll_soon: Arc<Notify>,
    rounds_without_list: u32,
    /// The time for which the quota has no poll after the get of the first waiter.
    first_pause: Duration,
}

impl<A> Drop for Poller<A> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(device = %self.device, "a poller panicked: its waits end with INTERNAL");
        }
        self.end(Some(&Error::Lost));
    }
}

impl<A> Poller<A> {
    /// The operations that are still awaited. Without any, removes the device, so that it has no poller.
    fn awaited(&self) -> Vec<Permit<Get>> {
        let mut devices = self.pollers.lock();
        let Some(device) = devices.get_mut(&self.device) else { return Vec::new() };
        device.operations.retain(|_, operation| operation.snapshots.receiver_count() > 0);
        if device.operations.is_empty() {
            devices.remove(&self.device);
            return Vec::new();
        }
        device.operations.values().map(|operation| operation.permit.clone()).collect()
    }

    /// Completes when no operation of this round is awaited any more.
    fn unawaited(&self) -> impl Future<Output = ()> + use<A> {
        let devices = self.pollers.lock();
        let operations = devices.get(&self.device).into_iter().flat_map(|device| device.operations.values());
        let snapshots: Vec<_> = operations.map(|operation| operation.snapshots.clone()).collect();
        async move {
            for snapshots in snapshots {
                snapshots.closed().await;
            }
        }
    }

    /// The caller of one of the waiters, for whom the device is polled.
    fn caller(&self) -> Option<Caller> {
        let devices = self.pollers.lock();
        devices.get(&self.device)?.operations.values().find_map(|operation| operation.caller.clone())
    }

    /// The span of a round, if a waiter is sampled. A round serves all waiters, so its span has a trace of its own, with a
    /// link to each waiter.
    fn start_span(&self) -> Option<Span> {
        let mut waiters = Vec::new();
        let mut devices = self.pollers.lock();
        for operation in
            devices.get_mut(&self.device).into_iter().flat_map(|device| device.operations.values_mut())
        {
            operation.waiters.retain(|waiter| waiter.upgrade().map(|span| waiters.push(span)).is_some());
        }
        drop(devices);
        let mut span = SpanContext::linked(&waiters, "poll")?;
        span.set("countermand.resource", self.device.to_string());
        Some(span)
    }

    /// Publishes the result of polling an operation to its waiters.
    fn publish(&self, name: &OperationName, result: Result<Arc<Operation>, Error>) {
        let is_final = match &result {
            Ok(operation) => operation.done,
            Err(error) => !is_transient(error),
        };
        let mut devices = self.pollers.lock();
        let Some(device) = devices.get_mut(&self.device) else { return };
        let Some(operation) = device.operations.get(name) else { return };
        operation.snapshots.send_modify(|snapshot| {
            match result {
                Ok(operation) => {
                    snapshot.state = Some(operation);
                    snapshot.error = None;
                }
                Err(error) => snapshot.error = Some(error),
            }
            snapshot.polled_at = Instant::now();
            snapshot.is_final = is_final;
        });
        if is_final {
            device.operations.remove(name);
        }
    }

    /// Ends the waits for the operations of the device, with `error` or with the latest state of each. Does
    /// nothing when this poller has ended before, because the device may have another poller by now.
    fn end(&self, error: Option<&Error>) {
        let mut devices = self.pollers.lock();
        if !devices.get(&self.device).is_some_and(|device| Arc::ptr_eq(&device.poll_soon, &self.poll_soon)) {
            return;
        }
        let device = devices.remove(&self.device);
        drop(devices);
        for operation in device.into_iter().flat_map(|device| device.operations.into_values()) {
            operation.snapshots.send_modify(|snapshot| {
                if let Some(error) = error {
                    snapshot.error = Some(error.clone());
                }
                snapshot.is_final = true;
            });
        }
    }
}

/// The result of a round for each operation.
type RoundResults = Vec<(OperationName, Result<Arc<Operation>, Error>)>;

impl<A: Api> Poller<A> {
    /// Polls until no operation of the device is awaited, or until the server drains.
    async fn run(mut self) {
        let mut serving = self.pollers.0.serving.clone();
        let mut draining = pin!(async move {
            // An error means that the server has ended. The waits then end too.
            let _ = serving.wait_for(|serving| *serving == Serving::Draining).await;
        });
        let poll_soon = Arc::clone(&self.poll_soon);
        let mut timer = PollTimer::new(self.pollers.0.intervals);
        timer.pause(self.first_pause);
        loop {
            tokio::select! {
                () = &mut draining => return self.end(None),
                () = poll_soon.notified() => timer.poll_soon(),
                () = sleep_until(timer.due()) => {
                    let awaited = self.awaited();
                    if awaited.is_empty() {
                        return;
                    }
                    let unawaited = self.unawaited();
                    let polled = tokio::select! {
                        () = &mut draining => return self.end(None),
                        // Queries that wait for their turn are dropped with the round.
                        () = unawaited => continue,
                        polled = self.round(&awaited) => polled,
                    };
                    let pause = polled.iter().map(|(_, result)| pause_after(result)).max().unwrap_or_default();
                    for (name, result) in polled {
                        self.publish(&name, result);
                    }
                    timer.lengthen();
                    timer.pause(pause);
                }
            }
        }
    }

    /// Polls every awaited operation once. One operation is polled by a get. Several are polled by lists as long
    /// as lists take fewer queries.
    async fn round(&mut self, awaited: &[Permit<Get>]) -> RoundResults {
        let mut polled = RoundResults::with_capacity(awaited.len());
        let mut missing: HashMap<&str, &Permit<Get>> =
            awaited.iter().map(|permit| (permit.resource().as_str(), permit)).collect();
        let span = self.start_span();
        let context = span.as_ref().map(|span| span.context().clone());
        let trace_id = context.as_ref().map(SpanContext::trace_id);
        let record = Record::of_poll(Trace { id: trace_id, span: context }, self.caller());
        let use_list = missing.len() > 1 && self.rounds_without_list == 0;
        self.rounds_without_list = self.rounds_without_list.saturating_sub(1);
        if use_list {
            let pages = self.poll_by_list(awaited, &mut missing, &mut polled, &record).await;
            if pages + missing.len() >= awaited.len() {
                self.rounds_without_list = ROUNDS_WITHOUT_LIST;
            }
        }
        let gets = missing
            .into_values()
            .map(|permit| async { (permit.resource().clone(), self.get(permit, &record).await) });
        polled.extend(join_all(gets).await);
        polled
    }

    /// Moves operations from `missing` to `polled` by listing the device, as long as another page may take fewer
    /// queries than gets. Returns the number of pages.
    async fn poll_by_list(
        &self,
        awaited: &[Permit<Get>],
        missing: &mut HashMap<&str, &Permit<Get>>,
        polled: &mut RoundResults,
        record: &Record,
    ) -> usize {
        let Some(permit) = awaited.first() else { return 0 };
        let mut query = ListQuery { page_size: PAGE_SIZE, ..ListQuery::default() };
        // More pages than half the number of gets do not save enough queries.
        let max_pages = (awaited.len() / 2).max(1);
        let mut pages = 0;
        while missing.len() > 1 && pages < max_pages {
            pages += 1;
            let sent_at = Instant::now();
            let page = match self.list(permit, &query, record).await {
                Ok(page) => page,
                Err(error) if is_transient(&error) => {
                    // Gets would add load to an upstream that fails.
                    let failed = missing.drain().map(|(_, permit)| permit.resource().clone());
                    polled.extend(failed.map(|name| (name, Err(error.clone()))));
                    break;
                }
                // The gets return each operation's error.
                Err(_) => break,
            };
            for operation in page.operations {
                if let Some(permit) = missing.remove(operation.name.as_str()) {
                    let operation = Arc::new(operation);
                    self.pollers.0.reader.cache(permit.resource(), &operation, sent_at);
                    polled.push((permit.resource().clone(), Ok(operation)));
                }
            }
            if page.next_page_token.is_empty() || page.next_page_token == query.page_token {
                break;
            }
            query.page_token = page.next_page_token;
        }
        pages
    }

    /// The deadline of a query that starts now. A query that hangs must not delay the next round, with the device's
    /// other operations, beyond the longest interval.
    fn deadline(&self) -> Instant {
        let PollersInner { reader, intervals, .. } = &*self.pollers.0;
        Instant::now() + reader.upstream_timeout().min(intervals.max)
    }

    async fn get(&self, permit: &Permit<Get>, record: &Record) -> Result<Arc<Operation>, Error> {
        let result = self.pollers.0.reader.fetch(permit, self.deadline(), record).await;
        self.pollers.0.metrics.count_poll(&result);
        result
    }

    async fn list(
        &self,
        permit: &Permit<Get>,
        query: &ListQuery,
        record: &Record,
    ) -> Result<ListOperationsResponse, Error> {
        let result = self.pollers.0.reader.list(&permit.by_device(), query, self.deadline(), record).await;
        self.pollers.0.metrics.count_poll(&result);
        result
    }
}

/// The time of the next poll.
struct PollTimer {
    intervals: PollIntervals,
    current: Duration,
    due: Instant,
    /// The end of a pause, which a cancel does not shorten.
    paused_until: Instant,
}

impl PollTimer {
    /// The first poll is due after the shortest interval, because the first waiter has sent a get.
    fn new(intervals: PollIntervals) -> Self {
        let now = Instant::now();
        Self { intervals, current: intervals.min, due: now + jittered(intervals.min), paused_until: now }
    }

    /// The time of the next poll.
    fn due(&self) -> Instant {
        self.due.max(self.paused_until)
    }

    /// Schedules the next poll after `pause` at the earliest.
    fn pause(&mut self, pause: Duration) {
        self.paused_until = Instant::now() + jittered(pause);
    }

    /// Schedules the next poll after a longer interval.
    fn lengthen(&mut self) {
        self.current = self.current.mul_f64(GROWTH).min(self.intervals.max);
        self.due = Instant::now() + jittered(self.current);
    }

    /// Schedules the next poll after the shortest interval, unless it is due sooner.
    fn poll_soon(&mut self) {
        self.current = self.intervals.min;
        self.due = self.due.min(Instant::now() + jittered(self.intervals.min));
    }
}

fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(1.0 + JITTER * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, advance};

    use super::{PollIntervals, PollTimer};

    const SECOND: Duration = Duration::from_secs(1);

    fn wait(timer: &PollTimer) -> f64 {
        (timer.due() - Instant::now()).as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn the_interval_grows_to_the_longest_until_it_is_reset() {
        let mut timer = PollTimer::new(PollIntervals { min: SECOND, max: 20 * SECOND });
        for expected in [1.0, 1.5, 2.25, 3.375, 5.0625, 7.59375, 11.390_625, 17.085_937, 20.0, 20.0] {
            let wait = wait(&timer);
            assert!((expected..=expected * 1.1 + 0.001).contains(&wait), "{wait} for {expected}");
            timer.lengthen();
        }
        timer.poll_soon();
        assert!((1.0..=1.1).contains(&wait(&timer)));
        advance(SECOND / 2).await;
        timer.poll_soon();
        assert!(wait(&timer) <= 0.6, "repeated resets do not delay the poll");
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_poll_is_after_the_pause_also_after_a_reset() {
        let mut timer = PollTimer::new(PollIntervals { min: SECOND, max: 20 * SECOND });
        timer.pause(60 * SECOND);
        timer.poll_soon();
        assert!((60.0..=66.0).contains(&wait(&timer)));
        advance(66 * SECOND).await;
        timer.lengthen();
        timer.pause(Duration::ZERO);
        assert!((1.5..=1.65).contains(&wait(&timer)), "the interval grows in the pause");
    }
}
