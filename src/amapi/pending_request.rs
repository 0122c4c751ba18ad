//! The measurement and the span of a request to the upstream.

use http::HeaderMap;
use reqwest::{Method, Url};

use crate::{
    flight::Flight,
    http_client::{Progress, Response, SendError},
    proto::otlp::trace::span::SpanKind,
    telemetry::{
        metrics::{RequestFailure, RequestMeasurement},
        traces::Span,
    },
};

/// The measurement and the span of a request without a response. When dropped, the request timed out, its hedge was
/// answered first, or its list over all devices needs no response.
pub(super) struct PendingRequest<'a> {
    /// `None` after the end.
    telemetry: Option<(RequestMeasurement, Option<Span>)>,
    flight: &'a Flight,
}

impl<'a> PendingRequest<'a> {
    pub(super) fn new(
        measurement: RequestMeasurement,
        method: &Method,
        url: &Url,
        flight: &'a Flight,
    ) -> Self {
        Self { telemetry: Some((measurement, request_span(method, url, flight))), flight }
    }

    /// Adds the headers of the trace.
    pub(super) fn inject(&self, headers: &mut HeaderMap) {
        let span = self.telemetry.as_ref().and_then(|(_, span)| span.as_ref());
        self.flight.trace().inject(span, headers);
    }

    /// Ends the measurement and the span when the head of the response has arrived, or the request has failed.
    pub(super) fn end(mut self, result: &Result<Response, SendError>) {
        if let Some((measurement, span)) = self.telemetry.take() {
            measure(measurement, result);
            end_span(span, result);
        }
    }
}

impl Drop for PendingRequest<'_> {
    fn drop(&mut self) {
        if self.flight.is_awaiting_part()
            && let Some((measurement, span)) = self.telemetry.take()
        {
            measurement.fail(RequestFailure::Abandoned);
            span.into_iter().for_each(|span| span.fail("abandoned"));
        }
    }
}

/// The span of a request, by OpenTelemetry's conventions for HTTP clients. `None` if the call is not sampled.
fn request_span(method: &Method, url: &Url, flight: &Flight) -> Option<Span> {
    let name = if method == Method::POST { "POST" } else { "GET" };
    let mut span = flight.trace().child(SpanKind::Client, name)?.or_fail("timeout");
    span.set("http.request.method", name);
    span.set("server.address", url.host_str().unwrap_or_default());
    if let Some(port) = url.port_or_known_default() {
        span.set("server.port", port);
    }
    // The query of a list has a filter and a token of its caller.
    let mut without_query = url.clone();
    without_query.set_query(None);
    span.set("url.full", without_query.as_str());
    let resends = flight.attempts();
    if resends > 0 {
        span.set("http.request.resend_count", resends);
    }
    Some(span)
}

/// Ends the span of a request when the head of the response has arrived.
fn end_span(span: Option<Span>, result: &Result<Response, SendError>) {
    let Some(mut span) = span else { return };
    match result.as_ref().map_err(|error| error.progress) {
        Ok(response) => {
            let status = response.status();
            span.set("http.response.status_code", status.as_u16());
            if status.is_client_error() || status.is_server_error() {
                span.fail(status.as_str());
            } else {
                span.succeed();
            }
        }
        Err(Progress::NotConnected) => span.fail("connect"),
        Err(Progress::NotProcessed) => span.fail("refused"),
        Err(Progress::Unknown) => span.fail("reset"),
        Err(Progress::NotHttp) => span.fail("not_http"),
        Err(Progress::NotBuilt) => span.fail("not_built"),
    }
}

/// Measures the result of a request.
fn measure(measurement: RequestMeasurement, result: &Result<Response, SendError>) {
    match result.as_ref().map_err(|error| error.progress) {
        Ok(response) => measurement.respond(response.status().as_str()),
        Err(Progress::NotConnected) => measurement.fail(RequestFailure::Connect),
        Err(Progress::NotProcessed) => measurement.fail(RequestFailure::Refused),
        Err(Progress::Unknown) => measurement.fail(RequestFailure::Reset),
        Err(Progress::NotHttp) => measurement.fail(RequestFailure::NotHttp),
        Err(Progress::NotBuilt) => measurement.discard(),
    }
}
