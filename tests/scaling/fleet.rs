//! The fleet of the simulation: its commands, the callers that follow and cancel them, and the replicas.

use std::{sync::Arc, time::Duration};

use countermand::{
    audit::Record,
    caller::Caller,
    operations::{CacheLimits, Operations, PollIntervals, Times, call::Call, guard::Guard},
    policy::Policy,
    proto::longrunning::{
        CancelOperationRequest, GetOperationRequest, Operation, WaitOperationRequest,
        operations_server::Operations as _,
    },
    quota::{
        ProjectBudget, Quota,
        settings::{QuotaMode, QuotaSettings},
    },
    serving::Serving,
    telemetry::metrics::Metrics,
};
use fastrand::Rng;
use futures_util::future::join_all;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::task::TaskTracker;
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;

use super::google_project::{GoogleProject, QueryCounts, QuotaLimit, ReplicaApi};

pub(crate) const DEVICES: u32 = 1_000_000;
pub(crate) const CALLERS: u32 = 10_000;
pub(crate) const REPLICAS: u32 = 20;

const SECOND: Duration = Duration::from_secs(1);

/// Each device gets one command in this time.
const COMMAND_INTERVAL: Duration = Duration::from_secs(86_400);

/// The time in which commands are issued. The simulation ends when all their followers have ended.
pub(crate) const ISSUE_TIME: Duration = Duration::from_secs(600);

/// The time of the incident, its number of cancels, and the number of their callers.
const INCIDENT: Duration = Duration::from_secs(300);
pub(crate) const INCIDENT_CANCELS: u32 = 1000;
const INCIDENT_CALLERS: u32 = 10;

/// One in this number of commands is cancelled by itself.
pub(crate) const COMMANDS_PER_CANCEL: u32 = 50;

/// The deadlines of calls: the default of `polling.max_wait`, Go's for a get, and the default of `upstream.timeout`.
const WAIT_DEADLINE: Duration = Duration::from_secs(240);
const GET_DEADLINE: Duration = Duration::from_secs(10);
const CANCEL_DEADLINE: Duration = Duration::from_secs(30);

/// The pause before a repeat, if the error has no `RetryInfo`.
const DEFAULT_PAUSE: Duration = Duration::from_secs(5);

/// The calls by which a caller follows an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Following {
    /// WaitOperation until the operation is done.
    Wait,
    /// GetOperation after 1 s, 1.5 s and so on to 20 s, as Google's clients do.
    Gets,
}

/// The part of the quota that a replica's budget has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// No query is paced.
    Unpaced,
    /// All replicas have one budget.
    Shared,
    /// Each replica has a twentieth of the quota.
    Divided,
    /// Each replica has the whole quota.
    Unshared,
}

/// A scenario.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    /// The quota that Google enforces; `None` for none.
    pub(crate) quota: Option<QuotaLimit>,
    pub(crate) sharing: Sharing,
    /// Whether calls about an operation meet in one replica. Otherwise each call has a random one.
    pub(crate) is_hashed: bool,
    pub(crate) following: Following,
    /// One in this number of commands is followed.
    pub(crate) commands_per_followed: u32,
    pub(crate) has_incident: bool,
}

/// The result of a scenario.
#[derive(Debug, Default)]
pub(crate) struct Measures {
    pub(crate) queries: QueryCounts,
    pub(crate) followed: u32,
    /// The time from the first call of CancelOperation to its success: of the cancels before the incident, of those of the
    /// incident, and of the others in the two minutes after its start.
    pub(crate) earlier_cancels: Vec<Duration>,
    pub(crate) incident_cancels: Vec<Duration>,
    pub(crate) other_cancels: Vec<Duration>,
    /// The time from the end of an operation to the response that reports it to a follower, for the operations that end
    /// before the incident.
    pub(crate) delays: Vec<Duration>,
    /// The number of followers, and that of their calls.
    pub(crate) followers: usize,
    pub(crate) follower_calls: u32,
}

/// A command, and the calls about it.
struct Command {
    name: String,
    issued: Duration,
    /// The time until the device has done it, or it expires.
    lifetime: Duration,
    /// The callers that follow it, each with the time of its first call.
    followers: Vec<(u32, Duration)>,
    cancel: Option<(u32, Duration)>,
    is_of_incident: bool,
}

/// The law of the commands.
fn commands(scenario: &Scenario, rng: &mut Rng) -> Vec<Command> {
    let mean = COMMAND_INTERVAL.as_secs_f64() / f64::from(DEVICES);
    let (mut commands, mut number, mut time) = (Vec::new(), 0, 0.0);
    loop {
        time += exponential(rng, mean);
        if time >= ISSUE_TIME.as_secs_f64() {
            break;
        }
        number += 1;
        let issued = Duration::from_secs_f64(time);
        let lifetime = lifetime(rng);
        let mut command = Command {
            name: name(number),
            issued,
            lifetime,
            followers: Vec::new(),
            cancel: None,
            is_of_incident: false,
        };
        // The random numbers do not depend on the scenario, so that all scenarios have the same commands.
        let (is_followed, is_cancelled) = (rng.f64(), rng.f64());
        let followers = 1 + u32::from(rng.f64() < 0.4) + u32::from(rng.f64() < 0.4);
        let all = (0..3).map(|_| (rng.u32(..CALLERS), issued + 2 * SECOND.mul_f64(rng.f64())));
        let mut all: Vec<_> = all.collect();
        let cancelled_at = issued + SECOND.mul_f64(60.0 * rng.f64());
        if is_followed * f64::from(scenario.commands_per_followed) < 1.0 {
            all.truncate(followers as usize);
            command.followers = all;
        }
        if is_cancelled * f64::from(COMMANDS_PER_CANCEL) < 1.0 && cancelled_at < issued + lifetime {
            command.cancel = Some((rng.u32(..CALLERS), cancelled_at));
        }
        // Other commands cause no call.
        if !command.followers.is_empty() || command.cancel.is_some() {
            commands.push(command);
        }
    }
    if scenario.has_incident {
        commands.extend((0..INCIDENT_CANCELS).map(|cancel| Command {
            name: name(1_000_000 + cancel),
            issued: Duration::ZERO,
            lifetime: 2 * ISSUE_TIME,
            followers: Vec::new(),
            cancel: Some((cancel % INCIDENT_CALLERS, INCIDENT)),
            is_of_incident: true,
        }));
    }
    commands
}

/// 75 % of the devices are connected, 20 % sleep, and 5 % are off, so that their commands expire after ten minutes, which
/// is AMAPI's default.
fn lifetime(rng: &mut Rng) -> Duration {
    let (kind, expiry) = (rng.f64(), 600.0);
    let mean = if kind < 0.75 { 5.0 } else { 120.0 };
    let time = exponential(rng, mean);
    Duration::from_secs_f64(if kind < 0.95 { time.min(expiry) } else { expiry })
}

fn exponential(rng: &mut Rng, mean: f64) -> f64 {
    -mean * (1.0 - rng.f64()).ln()
}

fn name(number: u32) -> String {
    format!("enterprises/LC01/devices/d{number}/operations/1")
}

/// The replicas behind a mesh.
struct Fleet {
    project: Arc<GoogleProject>,
    replicas: Vec<Operations<ReplicaApi>>,
    is_hashed: bool,
    // Without the sender, all pollers end.
    _serving: watch::Sender<Serving>,
}

impl Fleet {
    fn new(scenario: &Scenario) -> Self {
        let project = GoogleProject::new(scenario.quota);
        let (sender, serving) = watch::channel(Serving::Ready);
        let shared = budget(scenario, 1);
        let replica = |_| {
            let budget = match scenario.sharing {
                Sharing::Unpaced => None,
                Sharing::Shared => shared.clone(),
                Sharing::Divided => budget(scenario, REPLICAS),
                Sharing::Unshared => budget(scenario, 1),
            };
            let api = ReplicaApi { project: Arc::clone(&project), budget };
            // The defaults of `[polling]` and `upstream.timeout`.
            let times = Times {
                upstream_timeout: 30 * SECOND,
                max_wait: WAIT_DEADLINE,
                intervals: PollIntervals { min: SECOND, max: 20 * SECOND },
                limits: CacheLimits { entries: 2000, max_age: 3600 * SECOND, min_interval: SECOND },
            };
            let (metrics, _) = Metrics::new();
            let (policy, tasks) = (Policy::without_rules(), TaskTracker::new());
            let guard = Arc::new(Guard::new(None, metrics.operations.guard_triggered.clone()));
            Operations::new(policy, api, times, serving.clone(), tasks, guard, &metrics.operations)
        };
        let replicas = (0..REPLICAS).map(replica).collect();
        Self { project, replicas, is_hashed: scenario.is_hashed, _serving: sender }
    }

    /// The number of the replica that gets a call about an operation.
    fn replica(&self, name: &str, rng: &mut Rng) -> u32 {
        // FNV-1a
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        if self.is_hashed { (hash % u64::from(REPLICAS)) as u32 } else { rng.u32(..REPLICAS) }
    }
}

/// The budget of one of `parts` equal parts of the quota.
fn budget(scenario: &Scenario, parts: u32) -> Option<Arc<ProjectBudget>> {
    let QuotaLimit { queries, period } = scenario.quota?;
    let (metrics, _) = Metrics::new();
    let settings = QuotaSettings {
        project: None,
        limit: queries / parts,
        period,
        burst: None,
        mode: QuotaMode::Enforce,
    };
    Quota::new(vec![settings], metrics.quota).budget(None)
}

/// The calls of one caller about one operation.
struct CallerSession<'a> {
    fleet: &'a Fleet,
    caller: u32,
    rng: Rng,
}

impl CallerSession<'_> {
    /// A request at a replica. A shared budget has a queue for each caller in each replica, and the replicas take turns.
    /// One `ProjectBudget` does the same for all replicas if a caller has another identity at each.
    fn request<T>(&self, message: T, timeout: Duration, replica: u32) -> Request<T> {
        let caller = Caller::unix(replica * CALLERS + self.caller);
        let (record, arrived) = (Record::default(), Instant::now());
        record.set_caller(&caller);
        let mut request = Request::new(message);
        request.extensions_mut().insert(Call { caller, arrived, timeout: Some(timeout), record });
        request
    }

    /// Waits as the error demands, before a repeat.
    async fn pause(&mut self, error: &Status) {
        assert!(matches!(error.code(), Code::ResourceExhausted | Code::DeadlineExceeded), "{error}");
        let requested = error.get_details_retry_info().and_then(|info| info.retry_delay);
        // Callers do not return at the same time.
        sleep(requested.unwrap_or(DEFAULT_PAUSE).mul_f64(1.0 + self.rng.f64() / 10.0)).await;
    }

    /// Follows an operation until it is done. Returns the number of calls.
    async fn follow(&mut self, name: &str, following: Following) -> u32 {
        let (mut interval, mut calls) = (SECOND, 0);
        loop {
            calls += 1;
            let number = self.fleet.replica(name, &mut self.rng);
            let (replica, name) = (&self.fleet.replicas[number as usize], name.to_owned());
            let result = match following {
                Following::Wait => {
                    let message = WaitOperationRequest { name, timeout: None };
                    replica.wait_operation(self.request(message, WAIT_DEADLINE, number)).await
                }
                Following::Gets => {
                    let message = GetOperationRequest { name };
                    replica.get_operation(self.request(message, GET_DEADLINE, number)).await
                }
            };
            match result.map(Response::into_inner) {
                Ok(Operation { done: true, .. }) => return calls,
                Ok(_) if following == Following::Gets => {
                    sleep(interval).await;
                    interval = interval.mul_f64(1.5).min(20 * SECOND);
                }
                Ok(_) => {}
                Err(error) => self.pause(&error).await,
            }
        }
    }

    /// Cancels an operation.
    async fn cancel(&mut self, name: &str) {
        loop {
            let number = self.fleet.replica(name, &mut self.rng);
            let replica = &self.fleet.replicas[number as usize];
            let message = CancelOperationRequest { name: name.to_owned() };
            match replica.cancel_operation(self.request(message, CANCEL_DEADLINE, number)).await {
                Ok(_) => return,
                Err(error) => self.pause(&error).await,
            }
        }
    }
}

/// Runs a scenario. `seed` determines the result.
pub(crate) async fn run(scenario: &Scenario, seed: u64) -> Measures {
    // The pollers use the generator of the thread.
    fastrand::seed(seed);
    let mut rng = Rng::with_seed(seed);
    let start = Instant::now();
    let (fleet, commands) = (Fleet::new(scenario), commands(scenario, &mut rng));
    let mut measures = Measures::default();
    let session = |caller: u32, rng: &mut Rng| CallerSession { fleet: &fleet, caller, rng: rng.fork() };
    let (mut follows, mut cancels) = (Vec::new(), Vec::new());
    for command in &commands {
        let Command { name, issued, lifetime, followers, cancel, is_of_incident } = command;
        fleet.project.issue(name, start + *issued + *lifetime);
        measures.followed += u32::from(!followers.is_empty());
        for (caller, first) in followers {
            let (mut session, fleet) = (session(*caller, &mut rng), &fleet);
            follows.push(async move {
                sleep_until(start + *first).await;
                let calls = session.follow(name, scenario.following).await;
                let end = fleet.project.end(name);
                (calls, (end - start < INCIDENT).then(|| end.elapsed()))
            });
        }
        if let Some((caller, at)) = cancel {
            let mut session = session(*caller, &mut rng);
            cancels.push(async move {
                sleep_until(start + *at).await;
                session.cancel(name).await;
                ((start + *at).elapsed(), *at, *is_of_incident)
            });
        }
    }
    let (follows, cancels) = tokio::join!(join_all(follows), join_all(cancels));
    measures.followers = follows.len();
    for (calls, delay) in follows {
        measures.follower_calls += calls;
        measures.delays.extend(delay);
    }
    for (time, at, is_of_incident) in cancels {
        match is_of_incident {
            true => measures.incident_cancels.push(time),
            false if at < INCIDENT => measures.earlier_cancels.push(time),
            false if at < INCIDENT + 120 * SECOND => measures.other_cancels.push(time),
            false => {}
        }
    }
    measures.queries = fleet.project.counts();
    measures
}

/// The commands of the fleet in a minute.
pub(crate) fn commands_a_minute() -> f64 {
    60.0 * f64::from(DEVICES) / COMMAND_INTERVAL.as_secs_f64()
}

impl Measures {
    /// The queries other than cancels.
    pub(crate) fn queries_per_followed(&self) -> f64 {
        let [_, reads, polls] = self.queries.answered;
        f64::from(reads + polls) / f64::from(self.followed)
    }
}
