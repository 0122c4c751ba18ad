//! Traces: the spans that a collector receives, and their export.

use countermand::proto::{
    longrunning::{CancelOperationRequest, operations_client::OperationsClient},
    otlp::trace::{Span, span::SpanKind},
};
use tonic::{Request, Status, transport::Channel};

use crate::support::{collector::Collector, service::Setup, with_timeout};

mod export;
mod sampling;
mod spans;

/// A trace of a caller that records it.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

/// Exports spans to `collector` at once.
fn exporting(setup: Setup, collector: &Collector) -> Setup {
    setup.variable("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url()).variable("OTEL_BSP_SCHEDULE_DELAY", "10")
}

/// Calls `CancelOperation` with these headers.
async fn cancel(
    mut client: OperationsClient<Channel>,
    name: &str,
    headers: &[(&'static str, &str)],
) -> Result<(), Status> {
    let mut request = Request::new(CancelOperationRequest { name: name.to_owned() });
    for (key, value) in headers {
        request.metadata_mut().append(*key, value.parse().unwrap());
    }
    with_timeout("a response", client.cancel_operation(request)).await.map(tonic::Response::into_inner)
}

/// The only span of this kind and name.
fn only<'a>(spans: &'a [Span], kind: SpanKind, name: &str) -> &'a Span {
    let found: Vec<_> = spans.iter().filter(|span| span.kind() == kind && span.name == name).collect();
    let [span] = found[..] else { panic!("{} spans {name}: {spans:#?}", found.len()) };
    span
}

/// The spans of requests to the upstream, in their order.
fn requests(spans: &[Span]) -> Vec<&Span> {
    let mut requests: Vec<_> = spans.iter().filter(|span| span.kind() == SpanKind::Client).collect();
    requests.sort_by_key(|span| span.start_time_unix_nano);
    requests
}
