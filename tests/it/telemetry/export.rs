//! The export: its headers and TLS, a collector that is away, and the last spans.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal::SIGTERM;
use tokio::net::TcpListener;

use super::{cancel, exporting};
use crate::{
    lifecycle::{caller, google::Google, service::Service as Process},
    support::{
        collector::{Collector, attribute},
        process::{countermand, eventually, run},
        reply::Reply,
        service::Setup,
        tls::Authority,
        upstream::Upstream,
    },
    wire::NAME,
};

#[tokio::test]
async fn the_resource_and_the_headers_are_those_of_the_variables() {
    let (upstream, collector) = (Upstream::start().await, Collector::start().await);
    upstream.answers([Reply::ok()]);
    let setup = exporting(Setup::of(&upstream), &collector)
        .variable("OTEL_SERVICE_NAME", "callback")
        .variable("OTEL_RESOURCE_ATTRIBUTES", "service.name=ignored,deployment.environment.name=a%20b")
        .variable("OTEL_EXPORTER_OTLP_HEADERS", "Api-Key=s3cret%2C,x=1");
    let service = setup.start().await;
    cancel(service.client(), NAME, &[]).await.unwrap();
    collector.calls(1).await;
    collector.exports(|exports| {
        let export = &exports[0];
        let resource = |key| attribute(&export.resource.attributes, key).unwrap();
        assert_eq!(resource("service.name"), "callback");
        assert_eq!(resource("deployment.environment.name"), "a b");
        assert_eq!(resource("telemetry.sdk.language"), "rust");
        let header = |key| export.headers.get(key).unwrap().to_str().unwrap();
        assert_eq!((header("api-key"), header("x")), ("s3cret,", "1"));
    });
}

#[tokio::test]
async fn the_collector_is_verified_by_the_given_certificates() {
    let authority = Authority::new();
    let (upstream, collector) = (Upstream::start().await, Collector::start_tls(&authority).await);
    upstream.always_answers(Reply::ok());
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let start = async |ca: &std::path::Path| {
        let setup = Setup::of(&upstream)
            .variable(
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                &format!("https://localhost:{}", collector.address.port()),
            )
            .variable("OTEL_EXPORTER_OTLP_CERTIFICATE", ca.to_str().unwrap());
        setup.start().await
    };
    let service = start(&ca).await;
    cancel(service.client(), NAME, &[]).await.unwrap();
    service.drain().await;
    assert_eq!(collector.spans().len(), 4);

    std::fs::write(&ca, Authority::new().pem()).unwrap();
    let service = start(&ca).await;
    cancel(service.client(), NAME, &[]).await.unwrap();
    service.drain().await;
    assert_eq!(collector.spans().len(), 4, "the collector's certificate is not trusted");
}

#[tokio::test]
async fn a_drain_exports_the_last_spans() {
    let (upstream, collector) = (Upstream::start().await, Collector::start().await);
    upstream.always_answers(Reply::ok());
    let service = Setup::of(&upstream)
        .variable("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())
        .variable("OTEL_BSP_SCHEDULE_DELAY", "3600000")
        .variable("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "100")
        .start()
        .await;
    for _ in 0..30 {
        cancel(service.client(), NAME, &[]).await.unwrap();
    }
    // A full batch is sent before the delay.
    collector.span(|_| true).await;
    service.drain().await;
    let sizes: Vec<_> =
        collector.exports(|exports| exports.iter().map(|export| export.spans.len()).collect());
    assert_eq!((sizes[0], sizes.iter().sum::<usize>()), (100, 120), "{sizes:?}");
}

#[tokio::test]
async fn a_collector_that_does_not_answer_delays_no_call_and_the_drain_by_2_seconds() {
    let (upstream, silent) = (Upstream::start().await, TcpListener::bind("127.0.0.1:0").await.unwrap());
    upstream.always_answers(Reply::ok());
    let service = Setup::of(&upstream)
        .variable("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{}", silent.local_addr().unwrap()))
        .variable("OTEL_BSP_SCHEDULE_DELAY", "1")
        .variable("OTEL_BSP_MAX_QUEUE_SIZE", "10")
        .start()
        .await;
    for _ in 0..50 {
        cancel(service.client(), NAME, &[]).await.unwrap();
    }
    let drain = Instant::now();
    service.drain().await;
    let elapsed = drain.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(20)).contains(&elapsed), "{elapsed:?}");
}

#[tokio::test]
async fn spans_are_exported_again_when_the_collector_is_back() {
    let (upstream, collector) = (Upstream::start().await, Collector::start().await);
    upstream.always_answers(Reply::ok());
    let service = exporting(Setup::of(&upstream), &collector).start().await;
    cancel(service.client(), NAME, &[]).await.unwrap();
    collector.calls(1).await;
    let address = collector.stop().await;
    cancel(service.client(), NAME, &[]).await.unwrap();
    let collector = Collector::start_at(address).await;
    // The exporter sends the same batch again.
    collector.calls(1).await;
}

#[tokio::test]
async fn a_collector_that_is_away_is_logged_once_and_so_is_its_return() {
    // An export takes less, on a busy machine too.
    const EXPORT_TIMEOUT: Duration = Duration::from_secs(2);
    let address = Collector::start().await.stop().await;
    let google = Google::start().await;
    let service = Process::start_with(&google, |command| {
        command
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}"))
            .env("OTEL_EXPORTER_OTLP_HEADERS", "api-key=c0llector-s3cret")
            .env("OTEL_EXPORTER_OTLP_TIMEOUT", EXPORT_TIMEOUT.as_millis().to_string())
            .env("OTEL_BSP_SCHEDULE_DELAY", "10")
            .env("RUST_LOG", "trace");
    });
    let service = service.await;
    service.ready().await;
    let failed = "failed to export spans: they are lost until the collector accepts them code=Unavailable cause=\"tcp connect error";
    for id in 0..3 {
        caller::cancel(service.address, id).await.unwrap();
        service.process.stderr.has(failed).await;
        // Each batch fails after its timeout.
        tokio::time::sleep(EXPORT_TIMEOUT * 3 / 2).await;
    }
    let collector = Collector::start_at(address).await;
    // The connection may be in a pause before its next attempt, so that the first spans are lost.
    eventually("the export to work again", async || {
        caller::cancel(service.address, 6).await.unwrap();
        (!collector.spans().is_empty()).then_some(())
    })
    .await;
    service.process.stderr.has("spans are exported again lost=").await;
    service.process.signal(SIGTERM);
    let log = service.process.end().await.stderr;
    assert_eq!(log.matches("failed to export spans").count(), 1, "{log}");
    assert!(log.contains("Connection refused"), "{log}");
    assert_eq!(log.matches("spans are exported again").count(), 1, "{log}");
    assert!(!log.contains("c0llector-s3cret"), "{log}");
    collector.exports(|exports| assert_eq!(exports[0].headers.get("api-key").unwrap(), "c0llector-s3cret"));
}

#[tokio::test]
async fn an_invalid_variable_stops_the_start() {
    let mut command = countermand(&["serve"]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317").env("OTEL_TRACES_SAMPLER", "xray");
    let ended = run(&mut command).await;
    assert_eq!(ended.code, Some(78), "{ended:?}");
    for begin in
        ["OTEL_EXPORTER_OTLP_ENDPOINT: ", "OTEL_TRACES_SAMPLER: there is no such sampler; give always_on"]
    {
        assert!(ended.stderr.lines().any(|line| line.trim_start().starts_with(begin)), "{ended:?}");
    }
}
