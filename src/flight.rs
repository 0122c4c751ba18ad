//! An upstream call in flight: its deadline, and the record of the requests that were sent.
//!
//! Several callers may share a flight. The AMAPI client writes the record. The audit log reads the record, also
//! when the callers were answered before the flight completed.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{
            AtomicBool, AtomicU16, AtomicU32, AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::Poll,
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::{caller::Caller, telemetry::traces::Trace};

/// An upstream call in flight.
///
/// Work that precedes a request (queueing, a token, a connection, a retry) must end at the latest deadline of the
/// callers. A request that was sent has until the limit of [`Self::send`]: a cancel that Google received takes
/// effect whether or not a caller waits, and the audit log needs its true outcome.
#[derive(Debug)]
pub struct Flight {
    started: Instant,
    /// The latest deadline of the callers, in nanoseconds from the start.
    deadline: AtomicU64,
    /// Notified when the deadline is extended, when a caller joins, and when the last member leaves.
    changed: Notify,
    /// The number of calls and polls that use the flight, or [`ABANDONED`].
    members: AtomicUsize,
    attempts: AtomicU32,
    /// The time at which the latest request was handed to a connection, in nanoseconds from the start.
    sent: AtomicU64,
    /// The time at which the first request without a complete response was handed to a connection, in nanoseconds from
    /// the start; 0 if there is none.
    unanswered: AtomicU64,
    /// Whether a request was started, and neither its response has begun nor has it timed out.
    awaits_response: AtomicBool,
    /// The HTTP status of the latest response; 0 for none.
    upstream_status: AtomicU16,
    credential: OnceLock<Arc<str>>,
    has_caller_timeout: AtomicBool,
    caller: Option<Caller>,
    /// The latest other caller that joined, until the queue of the quota has looked at it.
    joiner: Mutex<Option<Caller>>,
    /// The project whose budget the flight waits for, and the time at which its turn is expected.
    expected_turn: Mutex<Option<(Arc<str>, Instant)>>,
    /// Whether only polls use the flight.
    is_poll: AtomicBool,
    trace: Trace,
    /// The flight of the whole call, of which this flight is one request of several.
    whole: Option<Arc<Self>>,
}

/// The number of members of a flight that no other call or poll may join.
const ABANDONED: usize = usize::MAX;

/// The use of a flight by one call or poll, which ends at most once.
#[derive(Debug)]
pub struct Member {
    flight: Arc<Flight>,
    has_left: AtomicBool,
}

/// The latest deadline of the callers has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadlinePassed;

/// A request timed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendTimeout {
    /// The deadline passed before the request was handed to a connection. The request did not leave this process.
    Unsent,
    /// The request was sent, and the limit passed without a response.
    NoResponse,
}

impl Flight {
    /// Starts a flight of this server itself, which polls and waits until `deadline`.
    #[must_use]
    pub fn new(deadline: Instant) -> Arc<Self> {
        Self::started_by(None, Trace::default(), deadline)
    }

    /// Starts a flight for `caller`, which waits until `deadline`, in the trace of its call.
    #[must_use]
    pub fn started_by(caller: Option<Caller>, trace: Trace, deadline: Instant) -> Arc<Self> {
        Self::start(caller, false, trace, deadline, None)
    }

    /// Starts a flight of a poll for a call of `caller`, which waits until `deadline`.
    #[must_use]
    pub fn polled_for(caller: Option<Caller>, trace: Trace, deadline: Instant) -> Arc<Self> {
        Self::start(caller, true, trace, deadline, None)
    }

    /// Starts a flight for one of several requests of a call, which may be in flight at the same time. `self` is the
    /// account of all of them: its attempts are their sum, and its status and time are those of the latest. A part is a poll
    /// for the quota, because a call has hundreds of them.
    #[must_use]
    pub fn part(self: &Arc<Self>, deadline: Instant) -> Arc<Self> {
        let (caller, trace) = (self.caller.clone(), self.trace.clone());
        Self::start(caller, true, trace, deadline, Some(Arc::clone(self)))
    }

    /// Whether this flight is a part of a call's flight.
    #[must_use]
    pub fn is_part(&self) -> bool {
        self.whole.is_some()
    }

    fn start(
        caller: Option<Caller>,
        is_poll: bool,
        trace: Trace,
        deadline: Instant,
        whole: Option<Arc<Self>>,
    ) -> Arc<Self> {
        let started = Instant::now();
        Arc::new(Self {
            started,
            deadline: AtomicU64::new(nanos(deadline - started)),
            changed: Notify::new(),
            members: AtomicUsize::new(1),
            attempts: AtomicU32::new(0),
            sent: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            awaits_response: AtomicBool::new(false),
            upstream_status: AtomicU16::new(0),
            credential: OnceLock::new(),
            has_caller_timeout: AtomicBool::new(false),
            caller,
            joiner: Mutex::default(),
            expected_turn: Mutex::default(),
            is_poll: AtomicBool::new(is_poll),
            trace,
            whole,
        })
    }

    /// Adds a call or a poll that waits until `deadline`, which must become a [`Member`]. A later deadline replaces the
    /// deadline of the flight. A call makes a flight of polls one of calls. Returns `false` if the flight was abandoned.
    pub fn join(&self, deadline: Instant, is_poll: bool) -> bool {
        let add = |members| (members != ABANDONED).then(|| members + 1);
        if self.members.fetch_update(Relaxed, Relaxed, add).is_err() {
            return false;
        }
        let deadline = nanos(deadline - self.started);
        let is_extended = self.deadline.fetch_max(deadline, Relaxed) < deadline;
        let is_raised = !is_poll && self.is_poll.swap(false, Relaxed);
        if is_extended || is_raised {
            self.changed.notify_waiters();
        }
        true
    }

    /// Waits until every member has left. No other can join then. The members of a part are those of its whole.
    pub async fn abandoned(&self) {
        let flight = self.whole.as_deref().unwrap_or(self);
        loop {
            let changed = flight.changed.notified();
            match flight.members.compare_exchange(0, ABANDONED, Relaxed, Relaxed) {
                Ok(_) | Err(ABANDONED) => return,
                Err(_) => changed.await,
            }
        }
    }

    /// Whether only polls use the flight, or a call that reads as many states as polls do.
    #[must_use]
    pub fn is_poll(&self) -> bool {
        self.is_poll.load(Relaxed)
    }

    /// Waits until a call joins a flight of polls.
    pub async fn joined_by_call(&self) {
        loop {
            let changed = self.changed.notified();
            if !self.is_poll() {
                return;
            }
            changed.await;
        }
    }

    /// Adds a caller, whose queue the flight may wait in.
    pub fn add_caller(&self, caller: Caller) {
        if self.caller.as_ref().map(Caller::identity) != Some(caller.identity()) {
            *lock(&self.joiner) = Some(caller);
            self.changed.notify_waiters();
        }
    }

    /// Waits until another caller joins, and returns it. Each is returned at most once.
    pub async fn joiner(&self) -> Caller {
        loop {
            let changed = self.changed.notified();
            if let Some(caller) = lock(&self.joiner).take() {
                return caller;
            }
            changed.await;
        }
    }

    /// Sets the project whose budget the flight waits for, and the time at which its turn is expected. `None` after the
    /// wait.
    pub fn expect_turn(&self, turn: Option<(Arc<str>, Instant)>) {
        *lock(&self.expected_turn) = turn;
    }

    /// The project whose budget the flight waits for, and the time at which its turn is expected.
    #[must_use]
    pub fn expected_turn(&self) -> Option<(Arc<str>, Instant)> {
        lock(&self.expected_turn).clone()
    }

    /// The time until the deadline; zero when the deadline has passed.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        self.deadline().saturating_duration_since(Instant::now())
    }

    fn deadline(&self) -> Instant {
        self.started + Duration::from_nanos(self.deadline.load(Relaxed))
    }

    /// Runs work that precedes a request.
    ///
    /// # Errors
    ///
    /// The latest deadline of the callers passed first. The work is dropped.
    pub async fn begin<T>(&self, work: impl Future<Output = T>) -> Result<T, DeadlinePassed> {
        self.begin_before(Duration::ZERO, work).await
    }

    /// As [`Self::begin`], for work that must end `margin` before the deadline.
    ///
    /// # Errors
    ///
    /// As for [`Self::begin`], `margin` before the latest deadline.
    pub async fn begin_before<T>(
        &self,
        margin: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, DeadlinePassed> {
        self.wait(work, || self.deadline() - margin, || None).await.map_err(|()| DeadlinePassed)
    }

    /// Waits for the response to `request`, which must call [`Self::sent`] when it is handed to a connection. The
    /// callers' deadlines limit the time before that call, and `limit` the time after it. `request` is polled again
    /// when it is `overdue` after that call, so that it can send a hedge without a timer of its own.
    ///
    /// # Errors
    ///
    /// See [`SendTimeout`]. The request is dropped.
    pub async fn send<T>(
        &self,
        limit: Duration,
        overdue: Duration,
        request: impl Future<Output = T>,
    ) -> Result<T, SendTimeout> {
        let attempts = self.attempts();
        let sent = || self.sent_since(attempts);
        let end = || sent().map_or_else(|| self.deadline(), |sent| sent + limit);
        let poll_again = || Some(sent().unwrap_or_else(Instant::now) + overdue);
        let no_response = |()| if sent().is_some() { SendTimeout::NoResponse } else { SendTimeout::Unsent };
        self.wait(request, end, poll_again).await.map_err(no_response)
    }

    /// Waits for `work` until `end`, which may move to a later time. Also polls `work` at the time `poll_again`.
    async fn wait<T>(
        &self,
        work: impl Future<Output = T>,
        end: impl Fn() -> Instant,
        poll_again: impl Fn() -> Option<Instant>,
    ) -> Result<T, ()> {
        if end() <= Instant::now() {
            return Err(());
        }
        let mut work = pin!(work);
        // Most work completes at the first poll and needs no timer.
        if let Poll::Ready(done) = futures_util::poll!(work.as_mut()) {
            return Ok(done);
        }
        loop {
            let changed = self.changed.notified();
            let (until, now) = (end(), Instant::now());
            if until <= now {
                return Err(());
            }
            let next = poll_again().filter(|next| *next > now).map_or(until, |next| next.min(until));
            tokio::select! {
                // The deadline is first, so that a caller with the same deadline sees that nothing was sent.
                biased;
                () = sleep_until(next) => {}
                () = changed => {}
                done = work.as_mut() => return Ok(done),
            }
        }
    }

    /// Records that a request was handed to a connection.
    pub fn sent(&self) {
        let now = nanos(self.started.elapsed());
        self.sent.store(now, Relaxed);
        // A hedge does not move the time.
        let _ = self.unanswered.compare_exchange(0, now.max(1), Relaxed, Relaxed);
        // hyper's task calls this. A task that reads the new number also reads the time.
        self.attempts.fetch_add(1, Release);
        self.whole.iter().for_each(|whole| whole.sent());
    }

    /// The time at which the latest request was handed to a connection. `None` if there were only `attempts` requests.
    #[must_use]
    pub fn sent_since(&self, attempts: u32) -> Option<Instant> {
        let is_sent = self.attempts() > attempts;
        is_sent.then(|| self.started + Duration::from_nanos(self.sent.load(Relaxed)))
    }

    /// Records that a request is about to be sent.
    pub fn exchange_started(&self) {
        self.awaits_response.store(true, Relaxed);
    }

    /// Records that the flight awaits no response: the latest request has a complete response, has failed or timed out.
    pub fn exchange_ended(&self) {
        self.unanswered.store(0, Relaxed);
        self.awaits_response.store(false, Relaxed);
    }

    /// Whether this flight is a part that awaits the start of a response.
    #[must_use]
    pub fn is_awaiting_part(&self) -> bool {
        self.is_part() && self.awaits_response.load(Relaxed)
    }

    /// Waits until a request has had no complete response for `limit`. The time before a request is handed to a connection
    /// and the time between two tries do not count. A flight with parts does not know this.
    pub async fn unanswered_for(&self, limit: Duration) {
        loop {
            let now = Instant::now();
            let sent = Some(self.unanswered.load(Relaxed)).filter(|sent| *sent != 0);
            let sent = sent.map_or(now, |sent| self.started + Duration::from_nanos(sent));
            // A request that is sent later reaches the limit later.
            let end = sent + limit;
            if end <= now {
                return;
            }
            sleep_until(end).await;
        }
    }

    /// Records the status of a response, which has begun.
    pub fn responded(&self, http_status: u16) {
        self.awaits_response.store(false, Relaxed);
        self.upstream_status.store(http_status, Relaxed);
        self.whole.iter().for_each(|whole| whole.responded(http_status));
    }

    /// Records the name of the credential. Later names are ignored.
    pub fn use_credential(&self, name: &Arc<str>) {
        self.credential.get_or_init(|| Arc::clone(name));
        self.whole.iter().for_each(|whole| whole.use_credential(name));
    }

    /// Records that the deadline of a caller passed before the outcome was known.
    pub fn record_caller_timeout(&self) {
        self.has_caller_timeout.store(true, Relaxed);
    }

    /// The number of requests that were handed to a connection.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts.load(Acquire)
    }

    /// The HTTP status of the latest response; `None` before the first.
    #[must_use]
    pub fn upstream_status(&self) -> Option<u16> {
        Some(self.upstream_status.load(Relaxed)).filter(|status| *status != 0)
    }

    /// The name of the credential; `None` before one was chosen.
    #[must_use]
    pub fn credential(&self) -> Option<&str> {
        self.credential.get().map(|name| &**name)
    }

    /// The caller that started the flight; `None` for a poll.
    #[must_use]
    pub fn caller(&self) -> Option<&Caller> {
        self.caller.as_ref()
    }

    /// The trace of the call that started the flight, or of the poll.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Whether the deadline of a caller passed before the outcome was known.
    #[must_use]
    pub fn has_caller_timeout(&self) -> bool {
        self.has_caller_timeout.load(Relaxed)
    }
}

impl Member {
    /// The call or poll that started this flight, or that joined it.
    #[must_use]
    pub fn of(flight: &Arc<Flight>) -> Self {
        Self { flight: Arc::clone(flight), has_left: AtomicBool::new(false) }
    }

    /// Records that the call or poll does not need the outcome: its caller disconnected, or it ended.
    pub fn leave(&self) {
        if !self.has_left.swap(true, Relaxed) && self.flight.members.fetch_sub(1, Relaxed) == 1 {
            self.flight.changed.notify_waiters();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic cannot leave the value in an inconsistent state.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::time::{Instant, sleep};

    use super::{DeadlinePassed, Flight, Member, SendTimeout};

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn work_ends_at_the_deadline() {
        let start = Instant::now();
        let flight = Flight::new(start + SECOND);
        assert_eq!(flight.begin(sleep(5 * SECOND)).await, Err(DeadlinePassed));
        assert_eq!(start.elapsed(), SECOND);
        assert_eq!(flight.time_left(), Duration::ZERO);
        assert_eq!(flight.begin(async {}).await, Err(DeadlinePassed), "no work starts after the deadline");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_was_sent_times_out_after_its_limit() {
        let start = Instant::now();
        let flight = Flight::new(start + 3 * SECOND);
        let request = async |connect: Duration, respond: Duration| {
            sleep(connect).await;
            flight.sent();
            sleep(respond).await;
        };
        assert_eq!(flight.send(10 * SECOND, SECOND, request(SECOND, 5 * SECOND)).await, Ok(()));
        assert_eq!(start.elapsed(), 6 * SECOND);
        assert_eq!(flight.send(10 * SECOND, SECOND, async {}).await, Err(SendTimeout::Unsent));

        let flight = Flight::new(Instant::now() + 3 * SECOND);
        let request = async |connect: Duration, respond: Duration| {
            sleep(connect).await;
            flight.sent();
            sleep(respond).await;
        };
        assert_eq!(
            flight.send(10 * SECOND, SECOND, request(SECOND, 60 * SECOND)).await,
            Err(SendTimeout::NoResponse)
        );
        assert_eq!(start.elapsed(), 17 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_was_not_sent_times_out_at_the_deadline_and_is_not_an_attempt() {
        let start = Instant::now();
        let flight = Flight::new(start + SECOND);
        let request = async {
            sleep(2 * SECOND).await;
            flight.sent();
        };
        assert_eq!(flight.send(10 * SECOND, SECOND, request).await, Err(SendTimeout::Unsent));
        assert_eq!((start.elapsed(), flight.attempts()), (SECOND, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_polled_again_when_it_is_overdue() {
        let (start, flight) = (Instant::now(), Flight::new(Instant::now() + 60 * SECOND));
        let mut polls = Vec::new();
        let request = std::future::poll_fn(|_| {
            polls.push(start.elapsed());
            if polls.len() == 2 {
                // The second poll stands for the moment at which a connection is established.
                flight.sent();
            }
            std::task::Poll::<()>::Pending
        });
        let result = flight.send(10 * SECOND, 3 * SECOND, request).await;
        assert_eq!(result, Err(SendTimeout::NoResponse));
        // `wait` polls its work once before the first timer, and then after each timer.
        assert_eq!(polls, [0, 0, 3].map(|seconds| seconds * SECOND));
        assert_eq!(start.elapsed(), 10 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_time_in_which_a_response_is_awaited_is_unanswered() {
        let (start, flight) = (Instant::now(), Flight::new(Instant::now() + 60 * SECOND));
        let requests = async {
            // The first request is answered in time, and the next is sent late.
            sleep(7 * SECOND).await;
            flight.sent();
            sleep(4 * SECOND).await;
            flight.exchange_ended();
            sleep(9 * SECOND).await;
            flight.sent();
            sleep(3 * SECOND).await;
            // A hedge.
            flight.sent();
        };
        tokio::join!(requests, async {
            flight.unanswered_for(5 * SECOND).await;
            assert_eq!(start.elapsed(), 25 * SECOND);
        });
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_of_several_requests_has_their_sum_and_the_latest_status() {
        let start = Instant::now();
        let whole = Flight::new(start + 9 * SECOND);
        let (one, other) = (whole.part(start + SECOND), whole.part(start + 2 * SECOND));
        one.sent();
        other.sent();
        other.sent();
        other.use_credential(&"emea".into());
        other.responded(200);
        one.responded(404);
        assert_eq!([&one, &other, &whole].map(|flight| flight.attempts()), [1, 2, 3]);
        assert_eq!((other.upstream_status(), whole.upstream_status()), (Some(200), Some(404)));
        assert_eq!((one.credential(), whole.credential()), (None, Some("emea")));
        assert_eq!([&one, &other].map(|flight| flight.time_left()), [SECOND, 2 * SECOND]);
        assert_eq!(
            [&one, &whole].map(|flight| (flight.is_part(), flight.is_poll())),
            [(true, true), (false, false)]
        );
        let flights = [&one, &other, &whole];
        flights.into_iter().for_each(|flight| flight.exchange_started());
        other.exchange_ended();
        assert_eq!(flights.map(|flight| flight.is_awaiting_part()), [true, false, false]);
        one.responded(200);
        assert!(!one.is_awaiting_part());
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_joins_extends_the_deadline() {
        let start = Instant::now();
        let flight = Flight::new(start + SECOND);
        let joiner = Arc::clone(&flight);
        tokio::spawn(async move {
            sleep(SECOND / 2).await;
            joiner.join(start + 3 * SECOND, false);
            joiner.join(start + 2 * SECOND, false);
        });
        assert_eq!(flight.begin(sleep(5 * SECOND)).await, Err(DeadlinePassed));
        assert_eq!(start.elapsed(), 3 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flight_is_abandoned_when_its_last_member_has_left() {
        let flight = Flight::new(Instant::now() + 60 * SECOND);
        assert!(flight.join(Instant::now() + SECOND, false));
        let members = [Member::of(&flight), Member::of(&flight)];
        let leaving = async {
            members[0].leave();
            // A member that leaves again is not counted twice.
            members[0].leave();
            sleep(SECOND).await;
            members[1].leave();
        };
        let start = Instant::now();
        tokio::join!(flight.abandoned(), leaving);
        assert_eq!(start.elapsed(), SECOND);
        assert!(
            !flight.join(Instant::now() + SECOND, false),
            "an abandoned flight has no outcome for a caller"
        );
        flight.abandoned().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_joins_keeps_a_flight_whose_members_have_left() {
        let flight = Flight::new(Instant::now() + 60 * SECOND);
        Member::of(&flight).leave();
        assert!(flight.join(Instant::now() + SECOND, false));
        assert!(tokio::time::timeout(SECOND, flight.abandoned()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_joins_makes_a_flight_of_polls_one_of_calls() {
        let end = Instant::now() + SECOND;
        let flight = Flight::polled_for(None, crate::telemetry::traces::Trace::default(), end);
        assert!(flight.join(end, true) && flight.is_poll());
        let joining = async {
            sleep(SECOND / 2).await;
            flight.join(end, false);
        };
        let start = Instant::now();
        tokio::join!(flight.joined_by_call(), joining);
        assert_eq!(start.elapsed(), SECOND / 2);
        assert!(flight.join(end, true) && !flight.is_poll(), "a poll that joins later changes nothing");
    }
}
