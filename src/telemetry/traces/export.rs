//! Sends batches of spans to the collector (OTLP/gRPC, opentelemetry.io/docs/specs/otlp).

use std::{error::Error, sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Request, Status,
    metadata::{KeyAndValueRef, MetadataMap},
    transport::{Channel, Endpoint},
};

use super::queue::Queue;
use crate::{
    log_throttle::LogThrottle,
    proto::otlp::{
        collector::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
        common::InstrumentationScope,
        resource::Resource,
        trace::{ResourceSpans, ScopeSpans, Span},
    },
};

/// The upper bound of the first pause before a batch is sent again. It doubles with each pause.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);

/// The upper bound of all pauses.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// The maximum length of a collector's message in the log, in characters.
const MAX_MESSAGE: usize = 200;

/// The minimum length of a text that is masked. A shorter one would occur in words of the message.
const MIN_SECRET: usize = 4;

/// The address of the collector.
#[derive(Clone, Debug)]
pub(super) struct Collector {
    /// The address, with TLS for `https`.
    pub(super) endpoint: Endpoint,
    /// The values are marked sensitive.
    pub(super) headers: MetadataMap,
    /// The timeout of one batch, retries included.
    pub(super) timeout: Duration,
}

/// Exports the spans of a queue.
pub(super) struct Exporter {
    client: TraceServiceClient<Channel>,
    headers: MetadataMap,
    timeout: Duration,
    resource: Resource,
    queue: Arc<Queue>,
    delay: Duration,
    /// The number of spans lost since the export began to fail. `None` if the last batch was exported.
    failing: Option<u64>,
    overflow_log: LogThrottle,
    rejection_log: LogThrottle,
}

impl Exporter {
    pub(super) fn new(collector: Collector, resource: Resource, queue: Arc<Queue>, delay: Duration) -> Self {
        let Collector { endpoint, headers, timeout } = collector;
        Self {
            client: TraceServiceClient::new(endpoint.connect_lazy()),
            headers,
            timeout,
            resource,
            queue,
            delay,
            failing: None,
            overflow_log: LogThrottle::default(),
            rejection_log: LogThrottle::default(),
        }
    }

    /// Exports after each delay, and when a batch is full. Exports the last spans after `stop`, and returns.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(self.delay) => {}
                () = self.queue.batch_is_full.notified() => {}
            }
            loop {
                let batch = self.queue.take_batch();
                if batch.is_empty() {
                    break;
                }
                self.export(batch, &stop).await;
            }
        }
    }

    async fn export(&mut self, batch: Vec<Span>, stop: &CancellationToken) {
        let spans = batch.len();
        let request = self.request(batch);
        let mut cause = None;
        let result = timeout(self.timeout, self.send(request, stop, &mut cause)).await;
        let timed_out = || Status::deadline_exceeded("no response in time");
        let result = result.unwrap_or_else(|_| Err(cause.unwrap_or_else(timed_out)));
        let overflow = self.queue.lost.take();
        match (result, self.failing.as_mut()) {
            (Ok(()), None) => {
                if overflow == 0 {
                    return;
                }
                if self.overflow_log.permit().is_none() {
                    return self.queue.lost.add(overflow);
                }
                tracing::warn!(
                    lost = overflow,
                    "the queue of spans was full: raise OTEL_BSP_MAX_QUEUE_SIZE or sample less"
                );
            }
            (Ok(()), Some(lost)) => {
                let lost = *lost + overflow;
                self.failing = None;
                tracing::info!(lost, "spans are exported again");
            }
            (Err(status), failing) => {
                let lost = overflow + u64::try_from(spans).unwrap_or(u64::MAX);
                match failing {
                    Some(failing) => *failing += lost,
                    None => {
                        self.failing = Some(lost);
                        let (code, cause) =
                            (status.code(), shortened(&without_secrets(&cause_of(&status), &self.headers)));
                        tracing::warn!(
                            ?code,
                            cause,
                            "failed to export spans: they are lost until the collector accepts them"
                        );
                    }
                }
            }
        }
    }

    /// Sends a batch until the collector accepts it, or until an error is permanent. `cause` gets the last error that is
    /// not permanent.
    async fn send(
        &self,
        batch: ExportTraceServiceRequest,
        stop: &CancellationToken,
        cause: &mut Option<Status>,
    ) -> Result<(), Status> {
        let mut max_pause = FIRST_BACKOFF;
        loop {
            let mut request = Request::new(batch.clone());
            *request.metadata_mut() = self.headers.clone();
            let status = match self.client.clone().export(request).await {
                Ok(response) => {
                    let rejected =
                        response.into_inner().partial_success.filter(|partial| partial.rejected_spans > 0);
                    if let Some(partial) = rejected
                        && let Some(suppressed) = self.rejection_log.permit()
                    {
                        let cause = shortened(&without_secrets(&partial.error_message, &self.headers));
                        let rejected = partial.rejected_spans;
                        tracing::warn!(rejected, cause, suppressed, "the collector rejected spans");
                    }
                    return Ok(());
                }
                Err(status) => status,
            };
            if !is_transient(status.code()) || stop.is_cancelled() {
                return Err(status);
            }
            *cause = Some(status);
            tokio::select! {
                () = sleep(max_pause.mul_f64(0.5 + 0.5 * fastrand::f64())) => {}
                // The process ends, so the collector gets one more try.
                () = stop.cancelled() => {}
            }
            max_pause = (max_pause * 2).min(MAX_BACKOFF);
        }
    }

    fn request(&self, spans: Vec<Span>) -> ExportTraceServiceRequest {
        let scope = InstrumentationScope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, schema_url: String::new() }];
        let resource = Some(self.resource.clone());
        let resource_spans = vec![ResourceSpans { resource, scope_spans, schema_url: String::new() }];
        ExportTraceServiceRequest { resource_spans }
    }
}

/// Whether a batch may be sent again ("OTLP/gRPC Throttling", "Failures"). RESOURCE_EXHAUSTED without `RetryInfo` is
/// permanent there. It is retried here, because the pauses grow and the timeout is short.
fn is_transient(code: Code) -> bool {
    matches!(
        code,
        Code::Cancelled
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// The message of a status and of its sources, for example `tcp connect error: Connection refused`.
fn cause_of(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut next = status.source();
    while let Some(source) = next {
        let message = source.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        next = source.source();
    }
    text
}

/// A text of the collector without the values of the headers. A collector may quote a wrong key.
fn without_secrets(text: &str, headers: &MetadataMap) -> String {
    let values = headers.iter().filter_map(|header| match header {
        KeyAndValueRef::Ascii(_, value) => value.to_str().ok(),
        KeyAndValueRef::Binary(..) => None,
    });
    // A collector may leave out the scheme of `Bearer KEY`.
    let secrets = values.flat_map(|value| std::iter::once(value).chain(value.split(' ')));
    let secrets = secrets.filter(|secret| secret.len() >= MIN_SECRET);
    secrets.fold(text.to_owned(), |text, secret| text.replace(secret, "[redacted]"))
}

fn shortened(message: &str) -> String {
    message.chars().take(MAX_MESSAGE).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use tonic::metadata::MetadataMap;

    use super::without_secrets;

    #[test]
    fn the_headers_are_masked_in_a_text_of_the_collector() {
        let mut headers = MetadataMap::new();
        headers.insert("api-key", "k3y-of-the-collector".parse().unwrap());
        headers.insert("authorization", "Bearer t0ken".parse().unwrap());
        headers.insert("x", "1".parse().unwrap());
        for (text, masked) in [
            ("invalid key 'k3y-of-the-collector'", "invalid key '[redacted]'"),
            ("got Bearer t0ken, 1 try", "got [redacted], 1 try"),
            ("t0ken is not valid", "[redacted] is not valid"),
        ] {
            assert_eq!(without_secrets(text, &headers), masked);
        }
    }
}
