use std::time::Duration;

use proptest::prelude::*;

use super::{MIN_FACTOR, Pace, State};
use crate::quota::Class;

const SECOND: f64 = 1e6;
const MINUTE: f64 = 60.0 * SECOND;

/// 600 queries in a minute, of which 30 may leave at once.
fn pace() -> Pace {
    Pace::new(600, Duration::from_secs(60), 30)
}

/// What happens to a state, after a time in intervals.
#[derive(Debug, Clone)]
enum Event {
    Wanted([u32; 3]),
    Refused { hold: f64 },
    ProbeAnswered,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        20 => prop::array::uniform3(0_u32..60).prop_map(Event::Wanted),
        1 => (0.0..20.0 * SECOND).prop_map(|hold| Event::Refused { hold }),
        1 => Just(Event::ProbeAnswered),
    ]
}

proptest! {
    /// The bound holds with every burst, and while the rate is learned. A gap of 0 is a clock that stands still.
    #[test]
    fn no_window_of_a_period_has_more_than_the_limit(
        limit in 2_u32..200,
        burst in 1_u32..200,
        period in prop_oneof![Just(1_u64), Just(60), Just(86_400 * 365)],
        start in prop_oneof![Just(0.0), Just(1.8e15)],
        events in prop::collection::vec((prop_oneof![Just(0.0), 0.0..1.0, 0.0..40.0], event()), 1..300),
    ) {
        let burst = burst.min(limit - 1);
        let pace = Pace::new(limit, Duration::from_secs(period), burst);
        let (mut state, mut now, mut sent) = (State::default(), start, Vec::new());
        for (gap, event) in events {
            now += gap * pace.interval;
            match event {
                Event::Wanted(wanted) => {
                    let admission = state.admit(pace, now, wanted);
                    for class in Class::ALL {
                        let index = class.index();
                        prop_assert!(admission.admitted[index] <= wanted[index]);
                        prop_assert!(admission.admitted[index] == wanted[index] || admission.wait[index] > 0.0);
                    }
                    sent.extend((0..admission.admitted.iter().sum()).map(|_| now));
                }
                Event::Refused { hold } => state.refused(pace, now, hold),
                Event::ProbeAnswered => state.probe_answered(now),
            }
        }
        // The clock of the store has microseconds of 64 bits, whose last bit is a quarter of one.
        let window = period as f64 * SECOND - 1.0;
        for (index, first) in sent.iter().enumerate() {
            let in_window = sent[index..].iter().take_while(|time| **time - first < window).count();
            prop_assert!(in_window <= limit as usize, "{in_window} of {limit}");
        }
    }

    /// The returned time is the true one.
    #[test]
    fn a_query_is_admitted_after_its_wait(
        burst in 1_u32..60,
        sent in 0_u32..60,
        others in 0_u32..60,
        class in 0_usize..3,
        hold in prop::option::of(0.0..10.0 * SECOND),
    ) {
        let (pace, class, mut state) = (Pace::new(600, Duration::from_secs(60), burst), Class::ALL[class], State::default());
        state.admit(pace, 0.0, [sent, 0, 0]);
        if let Some(hold) = hold {
            // A probe admits one cancel, so that others do not leave before.
            prop_assume!(class != Class::Cancel);
            state.refused(pace, 0.0, hold);
        }
        let mut wanted = [0; 3];
        wanted[class.index()] = others + 1;
        let (wait, mut admitted, mut now) = (state.wait(pace, 0.0, class, others), 0, 0.0);
        // Each query leaves as early as it can.
        while admitted <= others {
            let admission = state.admit(pace, now, wanted);
            admitted += admission.admitted[class.index()];
            wanted[class.index()] -= admission.admitted[class.index()];
            if admitted <= others {
                now += admission.wait[class.index()];
            }
        }
        // The rate recovers while the queries leave.
        prop_assert!((now - wait).abs() <= pace.interval / 100.0 + wait / 50.0, "{now} and {wait}");
    }
}

#[test]
fn each_class_leaves_the_rest_of_the_burst_to_the_more_important() {
    let mut state = State::default();
    assert_eq!(state.admit(pace(), SECOND, [0, 0, 100]).admitted, [0, 0, 10]);
    assert_eq!(state.admit(pace(), SECOND, [0, 100, 100]).admitted, [0, 10, 0]);
    assert_eq!(state.admit(pace(), SECOND, [100, 100, 100]).admitted, [10, 0, 0]);
}

#[test]
fn a_flood_of_polls_leaves_the_cancels_their_part_at_all_times() {
    let mut state = State::default();
    for step in 0..10_000 {
        let now = f64::from(step) * SECOND / 100.0;
        state.admit(pace(), now, [0, 0, 1000]);
        assert_eq!(state.clone().admit(pace(), now, [20, 0, 0]).admitted, [20, 0, 0], "step {step}");
    }
}

#[test]
fn a_small_budget_admits_every_class() {
    for class in Class::ALL {
        let (pace, mut state) = (Pace::new(2, Duration::from_secs(60), 1), State::default());
        let mut wanted = [0; 3];
        wanted[class.index()] = 5;
        let admission = state.admit(pace, 0.0, wanted);
        assert_eq!(
            (admission.admitted.iter().sum::<u32>(), admission.wait[class.index()].round()),
            (1, MINUTE)
        );
        assert_eq!(state.admit(pace, MINUTE, wanted).admitted.iter().sum::<u32>(), 1);
    }
}

#[test]
fn a_burst_of_the_limit_and_more_does_not_stop_the_rate() {
    // The settings refuse it. The rate is then one query per period.
    assert_eq!(Pace::new(5, Duration::from_secs(60), 9), Pace { interval: MINUTE, burst: 9.0 });
}

#[test]
fn a_refusal_holds_reads_and_polls_and_one_cancel_in_five_seconds_probes() {
    let mut state = State::default();
    state.refused(pace(), 0.0, MINUTE);
    let at = |state: &mut State, seconds: f64| {
        let admission = state.admit(pace(), seconds * SECOND, [3, 3, 3]);
        (admission.admitted, admission.is_probe)
    };
    assert_eq!(at(&mut state, 0.0), ([1, 0, 0], true));
    assert_eq!(at(&mut state, 4.999), ([0, 0, 0], false));
    assert_eq!(at(&mut state, 5.0), ([1, 0, 0], true));
    assert_eq!(at(&mut state, 9.999), ([0, 0, 0], false));
    assert_eq!(at(&mut state, 12.0), ([1, 0, 0], true));
    assert_eq!(at(&mut state, 59.0), ([1, 0, 0], true));
    assert_eq!(at(&mut state, 60.0), ([3, 3, 3], false), "the hold is over");
}

#[test]
fn the_answer_to_a_probe_ends_the_hold() {
    let mut state = State::default();
    state.refused(pace(), 0.0, MINUTE);
    assert!(state.admit(pace(), 5.0 * SECOND, [1, 0, 0]).is_probe);
    state.probe_answered(5.1 * SECOND);
    assert_eq!(state.admit(pace(), 5.1 * SECOND, [1, 1, 1]).admitted, [1, 1, 1]);
    // A late answer does not shorten the recovery.
    let before = state;
    state.probe_answered(6.0 * SECOND);
    assert_eq!(state, before);
}

/// Google may refuse reads and accept cancels, each of which ends the hold.
#[test]
fn refusals_after_probes_decrease_the_rate_once_in_the_time_of_a_hold() {
    let mut state = State::default();
    for refusal in 0..600 {
        let now = f64::from(refusal) * SECOND / 5.0;
        state.refused(pace(), now, MINUTE);
        assert!(state.admit(pace(), now, [1, 0, 0]).is_probe);
        state.probe_answered(now);
    }
    assert!((state.factor(2.0 * MINUTE) - 0.49).abs() < 1e-9, "{}", state.factor(2.0 * MINUTE));
}

#[test]
fn the_refusals_of_one_hold_decrease_the_rate_once_and_the_longest_hold_counts() {
    let mut state = State::default();
    state.refused(pace(), 0.0, 10.0 * SECOND);
    state.refused(pace(), SECOND, 30.0 * SECOND);
    state.refused(pace(), 2.0 * SECOND, 0.0);
    assert_eq!((state.factor(2.0 * SECOND), state.hold_until), (0.7, 31.0 * SECOND));
    state.refused(pace(), 31.0 * SECOND, 0.0);
    assert!((state.factor(31.0 * SECOND) - 0.49).abs() < 1e-9);
    assert_eq!(state.hold_until, 32.0 * SECOND, "the minimum");
    state.refused(pace(), 33.0 * SECOND, f64::INFINITY);
    assert_eq!(state.hold_until, 33.0 * SECOND + 60.0 * MINUTE, "the maximum");
}

#[test]
fn the_rate_recovers_a_twentieth_a_minute_from_the_end_of_the_hold() {
    let mut state = State::default();
    state.refused(pace(), 0.0, MINUTE);
    for (minutes, factor) in [(0.5, 0.7), (1.0, 0.7), (2.0, 0.75), (6.0, 0.95), (7.0, 1.0), (1e6, 1.0)] {
        assert!((state.factor(minutes * MINUTE) - factor).abs() < 1e-9, "after {minutes} minutes");
    }
    for _ in 0..50 {
        state.refused(pace(), state.hold_until, 0.0);
    }
    assert_eq!(state.factor(state.hold_until), MIN_FACTOR);
}

#[test]
fn a_decrease_of_the_rate_gives_no_query_more() {
    let mut state = State::default();
    state.admit(pace(), 0.0, [30, 0, 0]);
    state.refused(pace(), 0.0, 0.0);
    assert!((state.ahead(pace(), 0.0) - 30.0).abs() < 1e-9);
}

#[test]
fn nobody_waits_longer_because_the_clock_was_set_back_or_the_pace_changed() {
    let mut state = State::default();
    state.admit(pace(), 3600.0 * SECOND, [30, 0, 0]);
    state.admit(pace(), 0.0, [0; 3]);
    assert!(state.wait(pace(), 0.0, Class::Cancel, 0) < 1.01 * pace().interval);

    let (slow, mut state) = (Pace::new(10, Duration::from_secs(3600), 3), State::default());
    state.admit(slow, 0.0, [3, 0, 0]);
    assert!(state.admit(pace(), 0.0, [1, 0, 0]).wait[0] < 1.01 * pace().interval);
}

#[test]
fn replicas_divide_the_rate_and_the_burst() {
    let part = pace().divided_by(3);
    assert_eq!(part, Pace { interval: pace().interval * 3.0, burst: 10.0 });
    assert_eq!(pace().divided_by(100).burst, 1.0);
    assert_eq!(pace().divided_by(0), pace());
}
