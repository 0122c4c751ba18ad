//! A simulation of a large fleet on a paused clock, for `docs/SCALING.md`: the queries that it costs, and the time of a
//! cancel. The calls, the polls, the caches and the budgets are those of the library. The project at Google, the callers
//! and the mesh are simulated.

mod fleet;
mod google_project;

use std::{fs, path::Path, thread, time::Duration};

use fleet::{COMMANDS_PER_CANCEL, Following, ISSUE_TIME, Measures, Scenario, Sharing, commands_a_minute};
use google_project::QuotaLimit;

const MINUTE: Duration = Duration::from_secs(60);

/// The lines of the document before and after the tables.
const BEGIN: &str = "<!-- Generated: UPDATE_DOCUMENTS=1 cargo test --test scaling -->\n";
const END: &str = "<!-- End of the generated part. -->\n";

/// The limit of the difference between a number in the document and the simulation: a fifth, and the rounding. Ties between
/// events of the same instant are decided at random, so the result varies.
const TOLERANCE: f64 = 0.2;
const ROUNDING: f64 = 0.2;

/// A followed command in ten, without a quota.
const UNLIMITED: Scenario = Scenario {
    quota: None,
    sharing: Sharing::Unpaced,
    is_hashed: true,
    following: Following::Wait,
    commands_per_followed: 10,
    has_incident: false,
};

fn unlimited() -> Vec<Scenario> {
    let following = [Following::Wait, Following::Gets];
    let scenarios = following
        .into_iter()
        .flat_map(|following| [true, false].map(|is_hashed| Scenario { following, is_hashed, ..UNLIMITED }));
    scenarios.collect()
}

fn limited() -> Vec<Scenario> {
    let limited = |queries, period, sharing, commands_per_followed| Scenario {
        quota: Some(QuotaLimit { queries, period }),
        sharing,
        commands_per_followed,
        has_incident: true,
        ..UNLIMITED
    };
    let without_hashing = |scenario| Scenario { is_hashed: false, ..scenario };
    let by_minute = limited(600, MINUTE, Sharing::Shared, 10);
    let by_hundred = limited(1000, Duration::from_secs(100), Sharing::Shared, 10);
    let raised = limited(3000, MINUTE, Sharing::Shared, 2);
    vec![
        by_minute,
        without_hashing(by_minute),
        by_hundred,
        without_hashing(by_hundred),
        limited(600, MINUTE, Sharing::Divided, 10),
        limited(600, MINUTE, Sharing::Unshared, 10),
        limited(600, MINUTE, Sharing::Unpaced, 10),
        limited(600, MINUTE, Sharing::Shared, 2),
        raised,
        without_hashing(raised),
    ]
}

/// Runs each scenario in a thread with its own paused clock.
fn run(scenarios: &[Scenario]) -> Vec<Measures> {
    let run = |scenario| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
        runtime.block_on(fleet::run(scenario, 1))
    };
    thread::scope(|scope| {
        let threads: Vec<_> = scenarios.iter().map(|scenario| scope.spawn(move || run(scenario))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}

/// The time below which this part of the times is.
fn quantile(times: &[Duration], part: f64) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    let rank = (times.len() as f64 * part).ceil() as usize;
    times[rank.saturating_sub(1)]
}

fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 10.0 { format!("{seconds:.1}") } else { format!("{seconds:.0}") }
}

fn quantiles(times: &[Duration], parts: &[f64]) -> String {
    let times: Vec<_> = parts.iter().map(|part| seconds(quantile(times, *part))).collect();
    format!("{} s", times.join(", "))
}

fn hashing(scenario: &Scenario) -> &'static str {
    if scenario.is_hashed { "yes" } else { "no" }
}

fn first_table(scenarios: &[Scenario], measures: &[Measures]) -> String {
    let mut table = "| a follower's calls | hashing | queries a followed command | calls of a follower \
        | limit a minute if one in ten is followed | if all are |\n|---|---|---|---|---|---|\n"
        .to_owned();
    for (scenario, measures) in scenarios.iter().zip(measures) {
        let calls = match scenario.following {
            Following::Wait => "WaitOperation",
            Following::Gets => "GetOperation in a loop",
        };
        let queries = measures.queries_per_followed();
        // The rate is the limit less the burst, which is 5 %.
        let limit = |followed: f64| {
            commands_a_minute() * (queries * followed + 1.0 / f64::from(COMMANDS_PER_CANCEL)) / 0.95
        };
        table += &format!(
            "| {calls} | {} | {queries:.1} | {:.1} | {:.0} | {:.0} |\n",
            hashing(scenario),
            f64::from(measures.follower_calls) / measures.followers as f64,
            limit(0.1),
            limit(1.0),
        );
    }
    table
}

fn second_table(scenarios: &[Scenario], measures: &[Measures]) -> String {
    let mut table = "| quota | budget | followed | hashing | queries a followed command | refused by Google \
        | cancels before the incident: p50, max | of the incident: p50, p99, max | others after its start: p50, max \
        | a result is late by: p50, p99 |\n|---|---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for (scenario, measures) in scenarios.iter().zip(measures) {
        let QuotaLimit { queries, period } = scenario.quota.expect("a limited scenario");
        let budget = match scenario.sharing {
            Sharing::Unpaced => "none",
            Sharing::Shared => "shared",
            Sharing::Divided => "a 20th each",
            Sharing::Unshared => "the whole each",
        };
        let followed = if scenario.commands_per_followed == 2 { "one in two" } else { "one in ten" };
        table += &format!(
            "| {queries} in {} s | {budget} | {followed} | {} | {:.1} | {} | {} | {} | {} | {} |\n",
            period.as_secs(),
            hashing(scenario),
            measures.queries_per_followed(),
            measures.queries.refused,
            quantiles(&measures.earlier_cancels, &[0.5, 1.0]),
            quantiles(&measures.incident_cancels, &[0.5, 0.99, 1.0]),
            quantiles(&measures.other_cancels, &[0.5, 1.0]),
            quantiles(&measures.delays, &[0.5, 0.99]),
        );
    }
    table
}

/// Whether two words are equal, or numbers with a small difference.
fn is_close(written: &str, simulated: &str) -> bool {
    let number = |word: &str| word.trim_end_matches(',').parse::<f64>().ok();
    match (number(written), number(simulated)) {
        (Some(written), Some(simulated)) => {
            (written - simulated).abs() <= ROUNDING + TOLERANCE * written.max(simulated)
        }
        _ => written == simulated,
    }
}

/// The statements of the document about the tables.
fn check_statements(unlimited: &[Measures], limited: &[Measures]) {
    let [waits, waits_apart, gets, gets_apart] = unlimited else { panic!("four scenarios") };
    let queries = Measures::queries_per_followed;
    assert!(queries(waits_apart) > 1.5 * queries(waits), "hashing saves a third of the queries of waits");
    assert!(queries(gets_apart) > 1.4 * queries(gets), "and of gets");

    let [minute, minute_apart, hundred, hundred_apart, divided, whole, unpaced, busy, raised, raised_apart] =
        limited
    else {
        panic!("ten scenarios")
    };
    for paced in [minute, minute_apart, hundred, hundred_apart, divided, busy, raised, raised_apart] {
        assert_eq!(paced.queries.refused, 0, "Google refuses nothing that is paced for the whole fleet");
    }
    assert!(whole.queries.refused > 1000 && unpaced.queries.refused > 10_000);
    let last = |measures: &Measures| quantile(&measures.incident_cancels, 1.0).as_secs();
    // 1,000 at 9.5 a second.
    assert!((100..=110).contains(&last(minute)) && (100..=110).contains(&last(busy)));
    assert!(last(raised) < 25 && last(divided) > 130 && last(unpaced) > 150);
    for measures in [minute, minute_apart, hundred, hundred_apart, busy, raised, raised_apart] {
        let slowest = quantile(&measures.earlier_cancels, 1.0);
        assert!(slowest < Duration::from_millis(300), "a cancel finds its reserve: {slowest:?}");
    }
    let late = |measures: &Measures, part| quantile(&measures.delays, part).as_secs();
    assert!(
        late(minute, 0.5) < 2 && late(busy, 0.5) > 100,
        "the quota does not suffice for half of the commands"
    );
}

#[test]
fn the_scaling_document_has_the_results_of_the_simulation() {
    let scenarios = [unlimited(), limited()].concat();
    let measures = run(&scenarios);
    let (unlimited_measures, limited_measures) = measures.split_at(unlimited().len());
    check_statements(unlimited_measures, limited_measures);
    let tables = [first_table(&unlimited(), unlimited_measures), second_table(&limited(), limited_measures)];

    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/SCALING.md");
    let document = fs::read_to_string(&file).unwrap();
    let (mut rest, mut written, mut updated) = (&*document, Vec::new(), String::new());
    for table in &tables {
        let (before, after) = rest.split_once(BEGIN).expect("a generated part");
        let (part, after) = after.split_once(END).expect("the end of a generated part");
        updated += &format!("{before}{BEGIN}{table}{END}");
        written.push(part);
        rest = after;
    }
    updated += rest;
    if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
        fs::write(file, updated).unwrap();
        return;
    }
    for (written, simulated) in written.into_iter().zip(&tables) {
        let words = |table: &str| table.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let (written, simulated) = (words(written), words(simulated));
        let is_current = written.len() == simulated.len()
            && written.iter().zip(&simulated).all(|(written, simulated)| is_close(written, simulated));
        assert!(
            is_current,
            "docs/SCALING.md is out of date: run UPDATE_DOCUMENTS=1 cargo test --test scaling\n{}",
            tables.concat()
        );
    }
    assert_eq!(ISSUE_TIME, 10 * MINUTE, "the document has the time");
}
