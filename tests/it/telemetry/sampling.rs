//! Sampling, and `traceparent` to the upstream.

use super::{TRACE, cancel, exporting, traceparent};
use crate::{
    support::{collector::Collector, reply::Reply, service::Setup, upstream::Upstream},
    wire::NAME,
};

/// A sampler, the flags of the caller's `traceparent`, and whether the call is recorded.
type Row = (&'static str, Option<&'static str>, Option<&'static str>, bool);

#[tokio::test]
async fn the_sampler_decides_which_calls_are_recorded() {
    let rows: [Row; 12] = [
        ("", None, None, true),
        ("", None, Some("00"), false),
        ("", None, Some("01"), true),
        ("always_on", None, Some("00"), true),
        ("always_off", None, Some("01"), false),
        ("traceidratio", Some("1"), Some("00"), true),
        ("traceidratio", Some("0"), Some("01"), false),
        ("parentbased_traceidratio", Some("0"), None, false),
        ("parentbased_traceidratio", Some("0.0"), Some("01"), true),
        ("parentbased_traceidratio", Some("1.0"), None, true),
        ("parentbased_traceidratio", Some("1"), Some("00"), false),
        ("parentbased_always_off", None, None, false),
    ];
    for (sampler, argument, flags, is_recorded) in rows {
        let (upstream, collector) = (Upstream::start().await, Collector::start().await);
        upstream.answers([Reply::ok()]);
        let mut setup = exporting(Setup::of(&upstream), &collector).variable("OTEL_TRACES_SAMPLER", sampler);
        if let Some(argument) = argument {
            setup = setup.variable("OTEL_TRACES_SAMPLER_ARG", argument);
        }
        let service = setup.start().await;
        let parent = flags.map(traceparent);
        let headers: Vec<_> = parent.iter().map(|parent| ("traceparent", parent.as_str())).collect();
        cancel(service.client(), NAME, &headers).await.unwrap();
        let sent = upstream.requests()[0].headers["traceparent"].to_str().unwrap().to_owned();
        let expected_end = if is_recorded { "1" } else { "0" };
        // A new trace has the flag of a random ID too.
        let expected_flags = if flags.is_some() {
            format!("0{expected_end}")
        } else {
            (2 + u8::from(is_recorded)).to_string()
        };
        assert!(sent.ends_with(&expected_flags), "{sampler} {argument:?} {flags:?}: {sent}");
        let line = service.audit_line("CancelOperation", "OK").await;
        assert_eq!(line["trace_id"], sent[3..35], "{sampler}");
        if flags.is_some() {
            assert_eq!(line["trace_id"], TRACE);
        }
        // The drain exports the last spans.
        service.drain().await;
        assert_eq!(!collector.spans().is_empty(), is_recorded, "{sampler} {argument:?} {flags:?}");
    }
}

#[tokio::test]
async fn without_an_endpoint_nothing_is_sent() {
    for variables in [
        &[][..],
        &[("OTEL_SERVICE_NAME", "x"), ("OTEL_TRACES_SAMPLER", "no such sampler")],
        &[("OTEL_TRACES_EXPORTER", "none"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "")],
        &[("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_TRACES_EXPORTER", "otlp")],
    ] {
        let (upstream, collector) = (Upstream::start().await, Collector::start().await);
        upstream.answers([Reply::ok()]);
        let mut setup = Setup::of(&upstream);
        if variables.iter().any(|(name, _)| name.starts_with("OTEL_TRACES_EXPORTER")) {
            setup = setup.variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &collector.url());
        }
        for (name, value) in variables {
            setup = setup.variable(name, value);
        }
        let service = setup.start().await;
        let headers = [("traceparent", &*traceparent("01")), ("tracestate", "vendor=1")];
        cancel(service.client(), NAME, &headers).await.unwrap();
        let sent = &upstream.requests()[0].headers;
        assert!(!sent.contains_key("traceparent") && !sent.contains_key("tracestate"), "{sent:?}");
        assert_eq!(service.audit_line("CancelOperation", "OK").await["trace_id"], TRACE);
        service.drain().await;
        assert!(collector.exports(<[_]>::is_empty));
    }
}

#[tokio::test]
async fn without_a_propagator_the_upstream_gets_no_trace() {
    let (upstream, collector) = (Upstream::start().await, Collector::start().await);
    upstream.answers([Reply::ok()]);
    let service =
        exporting(Setup::of(&upstream), &collector).variable("OTEL_PROPAGATORS", "none").start().await;
    cancel(service.client(), NAME, &[("traceparent", &traceparent("01"))]).await.unwrap();
    assert!(!upstream.requests()[0].headers.contains_key("traceparent"));
    collector.calls(1).await;
}
