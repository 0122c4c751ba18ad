//! Compares the script with `gcra.rs`.

use proptest::{collection::vec, prelude::*};

use super::{Census, SOURCE, ScriptCall, ScriptReply, key};
use crate::quota::gcra::{Admission, Pace, Remaining, State};
use lua_redis::LuaRedis;

#[path = "../../../../tests/it/support/lua_redis.rs"]
mod lua_redis;

/// A project's hash.
const PROJECT: &str = "p";

/// A time of the present, whose microseconds need most bits of a float.
const PRESENT: u64 = 1_795_000_000_123_456;

/// The parts of a state that restrict nothing.
const UNUSED: Remaining = Remaining { tat: 0.0, factor: 1.0, hold: 0.0, probe: 0.0 };

fn run(redis: &mut LuaRedis, call: &ScriptCall<'_>, is_return: bool, remaining: Remaining) -> ScriptReply {
    let reply = redis.eval(SOURCE, &[key(PROJECT)], &call.arguments(is_return, remaining)).unwrap();
    ScriptReply::parse(&reply).unwrap()
}

/// The algorithm in Rust, with the state of a store.
#[derive(Default)]
struct Model {
    state: Option<State>,
    clock: f64,
}

impl Model {
    fn run(
        &mut self,
        now: f64,
        call: &ScriptCall<'_>,
        is_return: bool,
        remaining: Remaining,
    ) -> (State, Option<Admission>) {
        let is_new = self.state.is_none();
        let mut state = self.state.unwrap_or_default();
        if !is_new && now < self.clock {
            state.shift(now - self.clock);
        }
        if is_new || is_return {
            state.restore(now, remaining);
        }
        let mut admission = None;
        match *call {
            ScriptCall::Admit { pace, wanted } => admission = Some(state.admit(pace, now, wanted)),
            ScriptCall::Refused { pace, hold } => state.refused(pace, now, hold),
            ScriptCall::ProbeAnswered => state.probe_answered(now),
            ScriptCall::Heartbeat { .. } => {}
        }
        (self.state, self.clock) = (Some(state), now);
        (state, admission)
    }
}

/// A step of a sequence: the time since the step before, in microseconds, and the call.
#[derive(Debug, Clone)]
struct Step {
    elapsed: i64,
    call: ScriptCall<'static>,
    is_return: bool,
    remaining: Remaining,
    /// Whether the store lost its data before.
    is_flushed: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let pace = || {
        (2_u32..100_000, 1_u32..1_000, 1_u64..3_600_000).prop_map(|(limit, burst, period)| {
            Pace::new(limit, std::time::Duration::from_millis(period), burst.min(limit - 1))
        })
    };
    let call = prop_oneof![
        6 => (pace(), [0_u32..40, 0..40, 0..40]).prop_map(|(pace, wanted)| ScriptCall::Admit { pace, wanted }),
        2 => (pace(), 0.0..4000e6).prop_map(|(pace, hold)| ScriptCall::Refused { pace, hold }),
        1 => Just(ScriptCall::ProbeAnswered),
        1 => [0_u32..9, 0..9, 0..9].prop_map(|queued| ScriptCall::Heartbeat { replica: "r", queued }),
    ];
    let elapsed = prop_oneof![4 => 0_i64..100_000, 2 => 0_i64..100_000_000, 1 => -10_000_000_i64..0];
    let remaining = (-1e9..1e8, 0.05..1.0, -1e8..1e8, -1e8..5e6)
        .prop_map(|(tat, factor, hold, probe)| Remaining { tat, factor, hold, probe });
    let rarely = || prop::bool::weighted(0.05);
    (elapsed, call, rarely(), remaining, rarely()).prop_map(
        |(elapsed, call, is_return, remaining, is_flushed)| Step {
            elapsed,
            call,
            is_return,
            remaining,
            is_flushed,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_script_has_the_same_results_as_the_rust_algorithm(steps in vec(step(), 1..60)) {
        let mut redis = LuaRedis { now: PRESENT, ..LuaRedis::default() };
        let mut model = Model::default();
        for Step { elapsed, call, is_return, remaining, is_flushed } in steps {
            redis.now = redis.now.saturating_add_signed(elapsed);
            if is_flushed {
                redis.hashes.clear();
                model = Model::default();
            }
            let reply = run(&mut redis, &call, is_return, remaining);
            let (state, admission) = model.run(redis.now as f64, &call, is_return, remaining);
            prop_assert_eq!(reply.now, redis.now as f64);
            prop_assert_eq!(reply.state, state);
            if let Some(admission) = admission {
                prop_assert_eq!(reply.admission().unwrap(), admission);
            }
        }
    }
}

#[test]
fn a_store_without_a_state_continues_the_state_of_the_caller() {
    let mut redis = LuaRedis { now: PRESENT, ..LuaRedis::default() };
    let pace = Pace { interval: 1e6, burst: 3.0 };
    let admit = ScriptCall::Admit { pace, wanted: [9, 0, 0] };
    let behind = Remaining { tat: 2e6, ..UNUSED };
    assert_eq!(run(&mut redis, &admit, false, behind).admission().unwrap().admitted, [1, 0, 0]);
    // The store has a state now.
    redis.now += 3_000_000;
    assert_eq!(run(&mut redis, &admit, false, behind).admission().unwrap().admitted, [3, 0, 0]);
}

#[test]
fn a_replica_without_a_heartbeat_for_ten_seconds_does_not_count() {
    let mut redis = LuaRedis { now: PRESENT, ..LuaRedis::default() };
    let beat = |redis: &mut LuaRedis, replica, queued| {
        run(redis, &ScriptCall::Heartbeat { replica, queued }, false, UNUSED).census().unwrap()
    };
    let of = |replicas, queued_elsewhere, contenders| Census { replicas, queued_elsewhere, contenders };
    assert_eq!(beat(&mut redis, "a", [1, 0, 3]), of(1, [0; 3], [0; 3]));
    assert_eq!(beat(&mut redis, "b", [10, 20, 30]), of(2, [1, 0, 3], [1, 0, 1]));
    redis.now += 6_000_000;
    assert_eq!(beat(&mut redis, "a", [0, 0, 4]), of(2, [10, 20, 30], [1; 3]));
    redis.now += 6_000_000;
    assert_eq!(beat(&mut redis, "a", [0, 0, 5]), of(1, [0; 3], [0; 3]));
    let fields: Vec<_> = redis.hashes[&key(PROJECT)].keys().cloned().collect();
    assert_eq!(fields, ["clock", "factor", "factor_at", "hold_until", "probe_at", "replica:a", "tat"]);
}

#[test]
fn a_malformed_reply_is_an_error() {
    let reply =
        |texts: &[&str]| ScriptReply::parse(&texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>());
    assert_eq!(reply(&["1", "2", "3"]), None);
    assert_eq!(reply(&["1", "2", "3", "4", "5", "x"]), None);
    assert_eq!(reply(&["1", "2", "3", "4", "5", "nan"]), None);
    let without_results = reply(&["1", "2", "3", "4", "5", "6"]).unwrap();
    assert!(without_results.admission().is_err() && without_results.census().is_err());
}
