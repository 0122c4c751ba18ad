//! The content of `/statusz`.

use std::time::Duration;

use humantime::format_duration;
use maud::{Markup, html};

use super::{
    REFRESH,
    chart::{Line, chart, spark_line},
    quota_section,
};
use crate::admin::statusz::{
    CallStatus, ConnectionStatus, CredentialPart, DurationSeries, DurationStatus, ListenerStatus,
    OperationStatus, SettingStatus, Status, UpstreamStatus,
};

use Column::{Number, Text};

pub(super) fn body(status: &Status, refreshes: bool) -> Markup {
    let minutes = status.window_s / 60;
    html! {
        main {
            (header(status, refreshes))
            (facts(status))
            section { (credentials(&status.credentials)) }
            section { (calls(&status.calls, minutes, status.slot_s)) }
            section { (upstream(&status.upstream, minutes, status.slot_s)) }
            @if !status.quota.projects.is_empty() {
                section { (quota_section::body(&status.quota, minutes, status.slot_s)) }
            }
            section { (latest_calls(&status.calls)) }
            section { (listeners(&status.listeners)) }
            section { (configuration(&status.configuration)) }
        }
    }
}

fn header(status: &Status, refreshes: bool) -> Markup {
    let is_good = status.state == "ready";
    html! {
        header {
            div.title {
                h1 { "Countermand" }
                span.state.(if is_good { "good" } else { "bad" }) { (status.state.replace('_', " ")) }
            }
            p.muted {
                "Version " (status.version) ", up " (seconds(status.uptime_s)) ", started "
                time datetime=(status.started) { (date_and_time(&status.started)) }
                ". State of " time datetime=(status.time) { (date_and_time(&status.time)) } "."
            }
            nav aria-label="Pages" {
                @if refreshes {
                    a href="/statusz" { "Stop refreshing" }
                } @else {
                    a href="/statusz?refresh" { "Refresh every " (REFRESH) " s" }
                }
                a href="/statusz.json" { "JSON" }
                a href="/metrics" { "Metrics" }
                a href="/readyz" { "Readiness" }
                a href="/" { "All pages" }
            }
        }
    }
}

fn facts(status: &Status) -> Markup {
    let Status { calls, upstream, operations, connections, .. } = status;
    let OperationStatus { waiters, pollers, cached } = operations;
    let ConnectionStatus { tcp, tls, unix } = connections;
    let count = |value: &Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.0}"));
    let facts = [
        ("Calls in flight", calls.in_flight.to_string()),
        ("Connections", (tcp + tls + unix).to_string()),
        ("Waiters", count(waiters)),
        ("Pollers", count(pollers)),
        ("Cached states", count(cached)),
        ("Queued calls", upstream.queued.to_string()),
        ("Retries allowed", count(&upstream.retry_budget)),
    ];
    html! {
        dl.facts { @for (name, value) in facts { div { dt { (name) } dd { (value) } } } }
    }
}

fn credentials(credentials: &[CredentialPart]) -> Markup {
    html! {
        h2 #credentials { "Credentials" }
        (table("credentials", &[
            Text("Name"), Text("State"), Number("Token ends in"), Number("Fetched"), Number("Failed"),
        ], html! {
            @for CredentialPart { line, expires: _, fetches, failed_fetches } in credentials {
                tr {
                    th.wrap scope="row" { (line.name) }
                    td.wrap {
                        span.(if line.state == "valid" { "good" } else { "bad" }) { (line.state) }
                        @if let Some(without) = line.without_for_s { " for " (seconds(without)) }
                        @if line.permanent == Some(true) { ", until repaired" }
                        @if let Some(cause) = &line.cause { br; (cause) }
                        @if let Some(cause) = &line.changed_file { br; "The changed file gives no token: " (cause) }
                    }
                    td.number { @if let Some(left) = line.valid_for_s { (seconds(left)) } @else { "–" } }
                    td.number { (fetches) }
                    td.number { (failed_fetches) }
                }
            }
        }))
    }
}

fn calls(calls: &CallStatus, minutes: u64, slot_s: u64) -> Markup {
    let series = &calls.series;
    let line = |name, class, counts: &[u32]| Line { name, class, values: rates(counts, slot_s) };
    html! {
        h2 #calls { "Calls" }
        div.charts {
            (chart("Calls per second", minutes, &[
                line("OK", "blue", &series.ok),
                line("caller errors", "amber dashed", &series.caller_errors),
                line("server errors", "bad", &series.server_errors),
            ], rate))
            (chart("Latency without WaitOperation", minutes, &latencies(&series.durations), latency))
        }
        (table("calls", &[
            Text("Method"), Number("In flight"), Number("OK"), Number("Caller errors"), Number("Server errors"),
            Number("p50"), Number("p99"), Text("Calls over time"),
        ], html! {
            @for method in &calls.methods {
                tr {
                    th scope="row" { @if method.method == "_OTHER" { "other paths" } @else { (method.method) } }
                    td.number { (method.in_flight) }
                    td.number { (method.ok) }
                    td.number { (method.caller_errors) }
                    td.number.bad[method.server_errors > 0] { (method.server_errors) }
                    (durations(&method.durations))
                    td { (spark_line(&method.series)) }
                }
            }
        }))
    }
}

fn upstream(upstream: &UpstreamStatus, minutes: u64, slot_s: u64) -> Markup {
    let series = &upstream.series;
    let line = |name, class, counts: &[u32]| Line { name, class, values: rates(counts, slot_s) };
    html! {
        h2 #upstream { "Requests to the Android Management API" }
        div.charts {
            (chart("Requests per second", minutes, &[
                line("2xx", "blue", &series.successes),
                line("4xx", "amber dashed", &series.client_errors),
                line("5xx", "bad", &series.server_errors),
                line("no response", "bad dashed", &series.no_responses),
            ], rate))
            (chart("Latency of requests", minutes, &latencies(&series.durations), latency))
        }
        (table("upstream", &[
            Number("2xx"), Number("4xx"), Number("5xx"), Number("No response"), Number("Retries"), Number("Hedges"),
            Number("p50"), Number("p99"), Number("Last error"),
        ], html! {
            tr {
                td.number { (upstream.successes) }
                td.number { (upstream.client_errors) }
                td.number.bad[upstream.server_errors > 0] { (upstream.server_errors) }
                td.number.bad[upstream.no_responses > 0] { (upstream.no_responses) }
                td.number { (upstream.retries) }
                td.number { (upstream.hedges) }
                (durations(&upstream.durations))
                td.number {
                    @if let Some(error) = &upstream.last_error {
                        (error.code) " at " time datetime=(error.time) { (time_of_day(&error.time)) }
                    } @else { "–" }
                }
            }
        }))
    }
}

fn latest_calls(calls: &CallStatus) -> Markup {
    html! {
        h2 #latest { "Latest calls" }
        @if calls.recent.is_empty() { p.muted { "No call yet." } } @else {
            (table("latest", &[Text("Time (UTC)"), Text("Method"), Text("Code"), Number("Duration")], html! {
                @for call in &calls.recent {
                    tr {
                        td { time datetime=(call.time) { (time_of_day(&call.time)) } }
                        td { (call.method) }
                        td { (call.code) }
                        td.number { (latency(call.duration_ms)) }
                    }
                }
            }))
        }
    }
}

fn listeners(listeners: &[ListenerStatus]) -> Markup {
    html! {
        h2 #listeners { "Listeners" }
        (table("listeners", &[Text("Setting"), Text("Address")], html! {
            @for ListenerStatus { setting, address } in listeners {
                tr { th.code scope="row" { (setting) } td.code.wrap { (address) } }
            }
        }))
    }
}

fn configuration(settings: &[SettingStatus]) -> Markup {
    let (defaults, given): (Vec<_>, Vec<_>) =
        settings.iter().partition(|setting| setting.source == "default");
    html! {
        h2 #configuration { "Configuration" }
        (settings_table(&given))
        details {
            summary { (defaults.len()) " settings with their defaults" }
            (settings_table(&defaults))
        }
    }
}

fn settings_table(settings: &[&SettingStatus]) -> Markup {
    html! {
        div.settings {
            (table("configuration", &[Text("Setting"), Text("Value"), Text("Source")], html! {
                @for SettingStatus { key, value, source } in settings {
                    tr { th.code.wrap scope="row" { (key) } td.code.wrap { (value) } td.code { (source) } }
                }
            }))
        }
    }
}

/// The head of a column.
pub(super) enum Column {
    Text(&'static str),
    Number(&'static str),
}

/// A table in a part that scrolls on narrow screens. The heading with the id `heading` is its name.
pub(super) fn table(heading: &str, columns: &[Column], rows: Markup) -> Markup {
    html! {
        div.scroll role="region" aria-labelledby=(heading) tabindex="0" {
            table {
                thead {
                    tr {
                        @for column in columns {
                            @match column {
                                Text(name) => th scope="col" { (name) },
                                Number(name) => th.number scope="col" { (name) },
                            }
                        }
                    }
                }
                tbody { (rows) }
            }
        }
    }
}

fn durations(durations: &DurationStatus) -> Markup {
    let cell = |millis: Option<f64>| millis.map_or_else(|| "–".to_owned(), latency);
    html! {
        td.number { (cell(durations.p50_ms)) }
        td.number { (cell(durations.p99_ms)) }
    }
}

fn latencies(series: &DurationSeries) -> [Line; 2] {
    [
        Line { name: "p50", class: "blue", values: series.p50_ms.clone() },
        Line { name: "p99", class: "blue dashed", values: series.p99_ms.clone() },
    ]
}

/// Counts of slots as numbers per second.
pub(super) fn rates(counts: &[u32], slot_s: u64) -> Vec<Option<f64>> {
    counts.iter().map(|count| Some(f64::from(*count) / slot_s as f64)).collect()
}

pub(super) fn rate(per_second: f64) -> String {
    format!("{}/s", short(per_second))
}

pub(super) fn latency(millis: f64) -> String {
    match millis {
        ..1000.0 => format!("{} ms", short(millis)),
        _ => format!("{} s", short(millis / 1e3)),
    }
}

/// A number with two significant digits or more.
fn short(number: f64) -> String {
    match number {
        0.0 => "0".to_owned(),
        ..10.0 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

fn seconds(seconds: u64) -> String {
    format_duration(Duration::from_secs(seconds)).to_string()
}

/// `2026-01-02 03:04:05 UTC` of a time in RFC 3339.
fn date_and_time(time: &str) -> String {
    time.replacen('T', " ", 1).replace('Z', " UTC")
}

/// The time of day of a time in RFC 3339.
fn time_of_day(time: &str) -> &str {
    time.split_once('T').map_or(time, |(_, time)| time.trim_end_matches('Z'))
}
