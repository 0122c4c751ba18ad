//! `/metrics`: the metrics in the format that the client prefers.

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header::ACCEPT};
use http_body_util::Full;

use super::pages::{TEXT, page};
use crate::telemetry::metrics::{Registry, TextFormat};

pub(super) fn metrics(registry: &Registry, headers: &HeaderMap) -> Response<Full<Bytes>> {
    let format = negotiate(headers);
    match registry.encode(format) {
        Ok(text) => page(StatusCode::OK, format.content_type(), text),
        Err(error) => {
            tracing::error!(%error, "failed to write the metrics");
            page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the metrics cannot be written\n")
        }
    }
}

/// The format that the `Accept` headers prefer, as Prometheus' libraries choose it: the first supported format by
/// quality, then by position. Without a supported one, the format is that of Prometheus.
fn negotiate(headers: &HeaderMap) -> TextFormat {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut accepted: Vec<_> =
        values.flat_map(|value| value.split(',')).filter_map(accepted_format).collect();
    // The sort is stable, so formats of one quality keep their order.
    accepted.sort_by(|(one, _), (two, _)| two.total_cmp(one));
    accepted.first().map_or(TextFormat::Prometheus, |(_, format)| *format)
}

/// The quality and the format of one media range (RFC 9110, section 12.5.1). `None` for a format that is not
/// supported, and for a quality of 0.
fn accepted_format(range: &str) -> Option<(f32, TextFormat)> {
    let mut parts = range.split(';').map(str::trim);
    let media_type = parts.next()?;
    let (mut version, mut quality) = (None, 1.0);
    for (name, value) in parts.filter_map(|parameter| parameter.split_once('=')) {
        let value = value.trim().trim_matches('"');
        match name.trim() {
            "version" => version = Some(value),
            "q" => quality = value.parse().ok().filter(|quality| (0.0..=1.0).contains(quality))?,
            // `escaping` concerns names that we do not have, and `charset` is UTF-8.
            _ => {}
        }
    }
    let format = match (media_type, version) {
        ("application/openmetrics-text", None | Some("1.0.0")) => TextFormat::OpenMetrics,
        ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => TextFormat::Prometheus,
        _ => return None,
    };
    (quality > 0.0).then_some((quality, format))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header::ACCEPT};

    use super::negotiate;
    use crate::telemetry::metrics::TextFormat::{OpenMetrics, Prometheus};

    #[test]
    fn the_format_is_the_first_supported_one_by_quality() {
        for (accept, format) in [
            ("", Prometheus),
            ("*/*", Prometheus),
            ("text/html, */*;q=0.1", Prometheus),
            ("application/openmetrics-text", OpenMetrics),
            // Prometheus 2.
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                 text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                OpenMetrics,
            ),
            // Prometheus 3.
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                 application/openmetrics-text;version=0.0.1;q=0.5,\
                 text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                OpenMetrics,
            ),
            // The agent of OpenTelemetry, when it asks for text only.
            ("text/plain;version=0.0.4", Prometheus),
            ("text/plain;version=0.0.4;q=0.9, application/openmetrics-text;q=0.5", Prometheus),
            ("text/plain, application/openmetrics-text", Prometheus),
            ("application/openmetrics-text; q=0, text/plain; q=0.1", Prometheus),
            ("application/openmetrics-text; version=\"1.0.0\"", OpenMetrics),
            ("application/openmetrics-text;version=2.0.0", Prometheus),
            ("application/openmetrics-text;q=x", Prometheus),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
                Prometheus,
            ),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(negotiate(&headers), format, "{accept}");
        }
        assert_eq!(negotiate(&HeaderMap::new()), Prometheus);
    }
}
