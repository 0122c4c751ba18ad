//! The standard variables of OpenTelemetry (opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables
//! and /protocol/exporter). Without an endpoint, traces are off, and the other variables are not read.

use std::{path::Path, str::FromStr, time::Duration};

use percent_encoding::percent_decode_str;
use rustls::RootCertStore;
use tonic::{
    metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap},
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};
use url::Url;

use super::{export::Collector, sampler::Sampler, span::attribute};
use crate::{
    config::{CA_CERTIFICATES, Given, Invalid, Provenance, READABLE_FILE, Sources},
    file_watch, pem,
    proto::otlp::{common::KeyValue, resource::Resource},
};

const DISABLED: &str = "OTEL_SDK_DISABLED";
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
const RESOURCE_ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";
const PROPAGATORS: &str = "OTEL_PROPAGATORS";
const MAX_QUEUE_SIZE: &str = "OTEL_BSP_MAX_QUEUE_SIZE";
const MAX_BATCH_SIZE: &str = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE";
const SCHEDULE_DELAY: &str = "OTEL_BSP_SCHEDULE_DELAY";
const EXPORT_TIMEOUT: &str = "OTEL_BSP_EXPORT_TIMEOUT";

/// The variable for traces, and the variable for all signals, which applies without the first.
type BothSignals = [&'static str; 2];

const ENDPOINT: BothSignals = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
const PROTOCOL: BothSignals = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
const COMPRESSION: BothSignals = ["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"];
const HEADERS: BothSignals = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
const TIMEOUT: BothSignals = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
const CERTIFICATE: BothSignals = ["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"];
const CLIENT_CERTIFICATE: BothSignals =
    ["OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"];
const CLIENT_KEY: BothSignals = ["OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_KEY"];

/// The endpoint with `OTEL_TRACES_EXPORTER=otlp` alone.
const DEFAULT_ENDPOINT: &str = "http://localhost:4317";

/// The timeout of a connection to the collector.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The period of TCP keepalive, which keeps NAT entries alive between batches.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

const SAMPLERS: &str = "give always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off or \
                        parentbased_traceidratio";

/// The settings of traces.
#[derive(Clone, Debug)]
pub struct TraceSettings {
    pub(super) collector: Collector,
    pub(super) resource: Resource,
    pub(super) sampler: Sampler,
    pub(super) propagates: bool,
    pub(super) batch: BatchSettings,
}

/// The limits of the queue of spans.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchSettings {
    pub(super) max_queued: usize,
    pub(super) max_spans: usize,
    pub(super) delay: Duration,
}

impl TraceSettings {
    /// Reads the variables. `None` if traces are off: no endpoint is given, the exporter is `none`, or
    /// `OTEL_SDK_DISABLED` is `true`. An error is added for each value that is not valid.
    pub(crate) fn read(sources: &mut Sources) -> Option<Self> {
        let is_disabled = value(DISABLED, sources, parse_bool).unwrap_or(false);
        let exporter = value(EXPORTER, sources, parse_exporter);
        let endpoint = first(ENDPOINT, sources);
        if is_disabled || exporter == Some(TracesExporter::None) {
            return None;
        }
        if endpoint.is_none() && exporter.is_none() {
            return None;
        }
        Self::read_enabled(endpoint, sources)
    }

    /// The URL of the collector.
    pub(crate) fn collector(&self) -> &http::Uri {
        self.collector.endpoint.uri()
    }

    fn read_enabled(endpoint: Option<Text>, sources: &mut Sources) -> Option<Self> {
        let endpoint = match endpoint {
            Some(given) => parsed(given, sources, parse_endpoint),
            None => Url::parse(DEFAULT_ENDPOINT).ok(),
        };
        for (names, supported) in [(PROTOCOL, "grpc"), (COMPRESSION, "none")] {
            if let Some(given) = first(names, sources) {
                parsed(given, sources, |text| parse_only(text, supported));
            }
        }
        let headers = first(HEADERS, sources).and_then(|given| parsed(given, sources, parse_headers));
        let timeout = first(TIMEOUT, sources).and_then(|given| parsed(given, sources, parse_millis));
        let export_timeout = value(EXPORT_TIMEOUT, sources, parse_millis);
        let tls = TlsFiles::read(sources);
        let endpoint = endpoint.and_then(|url| connectable(&url, tls, sources));
        let batch = read_batch(sources);
        let resource = read_resource(sources);
        let sampler = read_sampler(sources);
        let propagates = value(PROPAGATORS, sources, parse_propagators).unwrap_or(true);
        let timeout = timeout.unwrap_or(Duration::from_secs(10));
        let collector = Collector {
            endpoint: endpoint?,
            headers: headers.unwrap_or_default(),
            timeout: export_timeout.map_or(timeout, |limit| timeout.min(limit)),
        };
        Some(Self { collector, resource, sampler: sampler?, propagates, batch })
    }
}

/// A variable that is not empty. An empty variable counts as unset ("Parsing empty value").
type Text = Given<String>;

fn text(name: &'static str, sources: &mut Sources) -> Option<Text> {
    let Given { value, origin } = sources.variables.take(name)?;
    let value = value.into_string().map_err(|_| Invalid::new("the value is not UTF-8", "give plain text"));
    let value = sources.errors.ok(&origin, value)?;
    let value = value.trim().to_owned();
    (!value.is_empty()).then_some(Given { value, origin })
}

/// The first variable that is not empty.
fn first([traces, all]: BothSignals, sources: &mut Sources) -> Option<Text> {
    let (traces, all) = (text(traces, sources), text(all, sources));
    traces.or(all)
}

fn parsed<T>(
    given: Text,
    sources: &mut Sources,
    parse: impl FnOnce(&str) -> Result<T, Invalid>,
) -> Option<T> {
    sources.errors.ok(&given.origin, parse(&given.value))
}

fn value<T>(
    name: &'static str,
    sources: &mut Sources,
    parse: impl FnOnce(&str) -> Result<T, Invalid>,
) -> Option<T> {
    text(name, sources).and_then(|given| parsed(given, sources, parse))
}

/// The value of `OTEL_TRACES_EXPORTER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TracesExporter {
    Otlp,
    None,
}

fn parse_exporter(text: &str) -> Result<TracesExporter, Invalid> {
    match text {
        "otlp" => Ok(TracesExporter::Otlp),
        "none" => Ok(TracesExporter::None),
        _ => Err(Invalid::new("there is no such exporter", "give otlp or none")),
    }
}

fn parse_bool(text: &str) -> Result<bool, Invalid> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Invalid::new("this is not a boolean", "give true or false")),
    }
}

fn parse_only(text: &str, supported: &str) -> Result<(), Invalid> {
    if text == supported {
        return Ok(());
    }
    Err(Invalid::new("this is not supported", format!("give {supported}, or leave it out")))
}

fn parse_endpoint(text: &str) -> Result<Url, Invalid> {
    let hint = "give http://host:4317, or https://host:4317 for TLS";
    let url = Url::parse(text).map_err(|_| Invalid::new("this is not a URL", hint))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(Invalid::new("this is not an http or https URL", hint));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Invalid::new("the URL has a login", "give it in OTEL_EXPORTER_OTLP_HEADERS"));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(Invalid::new(
            "the URL has more than a host and a port, and OTLP over gRPC has no path",
            hint,
        ));
    }
    Ok(url)
}

fn parse_millis(text: &str) -> Result<Duration, Invalid> {
    parse_number(text, 1, 3_600_000).map(Duration::from_millis)
}

fn parse_number(text: &str, min: u64, max: u64) -> Result<u64, Invalid> {
    let number = text.parse().ok().filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| {
        Invalid::new(format!("{text:?} is out of range"), format!("give a number from {min} to {max}"))
    })
}

/// The pairs of `key=value,…`, with percent-encoded values ("W3C Baggage").
fn parse_pairs(text: &str) -> Result<Vec<(String, String)>, Invalid> {
    let hint = "give key=value,key=value, with a blank as %20 and a comma as %2C";
    let invalid = |number: usize, problem| Invalid::new(format!("pair {number} {problem}"), hint);
    let pairs = text.split(',').enumerate().filter(|(_, pair)| !pair.trim().is_empty());
    let pairs = pairs.map(|(index, pair)| {
        let (key, value) = pair.split_once('=').ok_or_else(|| invalid(index + 1, "has no ="))?;
        let value = percent_decode_str(value.trim()).decode_utf8();
        let value = value.map_err(|_| invalid(index + 1, "is not UTF-8 after percent-decoding"))?;
        let key = key.trim();
        if key.is_empty() {
            return Err(invalid(index + 1, "has no key"));
        }
        Ok((key.to_owned(), value.into_owned()))
    });
    pairs.collect()
}

fn parse_headers(text: &str) -> Result<MetadataMap, Invalid> {
    let mut headers = MetadataMap::new();
    for (index, (key, value)) in parse_pairs(text)?.into_iter().enumerate() {
        let key = AsciiMetadataKey::from_str(&key.to_ascii_lowercase()).ok();
        let value = AsciiMetadataValue::try_from(value).ok();
        let (Some(key), Some(mut value)) = (key, value) else {
            // The value may be a secret.
            let problem = format!("header {} is not a valid header of gRPC", index + 1);
            return Err(Invalid::new(problem, "give key=value with printable ASCII characters"));
        };
        value.set_sensitive(true);
        headers.append(key, value);
    }
    Ok(headers)
}

/// Whether `tracecontext` is among the propagators. Baggage is not forwarded to Google, so `baggage` has no effect.
fn parse_propagators(text: &str) -> Result<bool, Invalid> {
    let mut propagates = false;
    for name in text.split(',').map(str::trim) {
        match name {
            "tracecontext" => propagates = true,
            "baggage" | "none" | "" => {}
            _ => return Err(Invalid::new("there is no such propagator", "give tracecontext or none")),
        }
    }
    Ok(propagates)
}

fn read_batch(sources: &mut Sources) -> BatchSettings {
    let size =
        |text: &str| parse_number(text, 1, 1_000_000).map(|size| usize::try_from(size).unwrap_or(usize::MAX));
    let max_queued = value(MAX_QUEUE_SIZE, sources, size).unwrap_or(2048);
    // The default applies to a smaller queue too.
    let max_spans = value(MAX_BATCH_SIZE, sources, |text| {
        let spans = size(text)?;
        if spans > max_queued {
            let hint = format!("give at most {MAX_QUEUE_SIZE}, which is {max_queued}");
            return Err(Invalid::new("the batch is larger than the queue", hint));
        }
        Ok(spans)
    });
    let delay = value(SCHEDULE_DELAY, sources, parse_millis).unwrap_or(Duration::from_secs(5));
    BatchSettings { max_queued, max_spans: max_spans.unwrap_or(512).min(max_queued), delay }
}

fn read_resource(sources: &mut Sources) -> Resource {
    let given = value(RESOURCE_ATTRIBUTES, sources, parse_pairs).unwrap_or_default();
    let service_name = text(SERVICE_NAME, sources).map(|given| given.value);
    let defaults = [
        ("service.name", env!("CARGO_PKG_NAME")),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("telemetry.sdk.name", env!("CARGO_PKG_NAME")),
        ("telemetry.sdk.language", "rust"),
        ("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
    ];
    let defaults = defaults.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let service_name = service_name.map(|name| ("service.name".to_owned(), name));
    let mut attributes = Vec::<KeyValue>::new();
    // The first value of a key is used.
    for (key, value) in service_name.into_iter().chain(given).chain(defaults) {
        if !attributes.iter().any(|attribute| attribute.key == key) {
            attributes.push(attribute(key, value));
        }
    }
    Resource { attributes, ..Resource::default() }
}

fn read_sampler(sources: &mut Sources) -> Option<Sampler> {
    let argument = text(SAMPLER_ARGUMENT, sources);
    let Some(given) = text(SAMPLER, sources) else { return Some(Sampler::new(1.0, true)) };
    let ratio = match given.value.as_str() {
        "traceidratio" | "parentbased_traceidratio" => match argument {
            Some(argument) => parsed(argument, sources, parse_ratio)?,
            None => 1.0,
        },
        "always_off" | "parentbased_always_off" => 0.0,
        _ => 1.0,
    };
    parsed(given, sources, |text| match text {
        "always_on" | "always_off" | "traceidratio" => Ok(Sampler::new(ratio, false)),
        "parentbased_always_on" | "parentbased_always_off" | "parentbased_traceidratio" => {
            Ok(Sampler::new(ratio, true))
        }
        _ => Err(Invalid::new("there is no such sampler", SAMPLERS)),
    })
}

fn parse_ratio(text: &str) -> Result<f64, Invalid> {
    let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| Invalid::new("this is not a ratio", "give a number from 0 to 1, for example 0.01"))
}

/// The files of TLS: the CA of the collector, and the certificate of this client.
struct TlsFiles {
    ca: Option<Vec<u8>>,
    identity: Option<Identity>,
    /// The variable that names the key of the identity.
    key_origin: Option<Provenance>,
}

impl TlsFiles {
    fn read(sources: &mut Sources) -> Self {
        let ca = first(CERTIFICATE, sources).and_then(|given| parsed(given, sources, read_ca));
        let (certificate, key) = (first(CLIENT_CERTIFICATE, sources), first(CLIENT_KEY, sources));
        if let (Some(Given { origin, .. }), None) | (None, Some(Given { origin, .. })) = (&certificate, &key)
        {
            let hint = "give OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY";
            sources.errors.add(origin, "a client certificate and its key are both needed", hint);
        }
        let key_origin = key.as_ref().map(|given| given.origin.clone());
        let [certificate, key] =
            [certificate, key].map(|given| given.and_then(|given| parsed(given, sources, read_file)));
        let identity = certificate.zip(key).map(|(certificate, key)| Identity::from_pem(certificate, key));
        Self { ca, identity, key_origin }
    }
}

fn read_file(path: &str) -> Result<Vec<u8>, Invalid> {
    let content = file_watch::read(Path::new(path));
    content.map_err(|error| Invalid::new(format!("cannot read the file: {error}"), READABLE_FILE))
}

fn read_ca(path: &str) -> Result<Vec<u8>, Invalid> {
    let content = read_file(path)?;
    pem::add_roots(&content, &mut RootCertStore::empty())
        .map_err(|error| Invalid::new(format!("the file {error}"), CA_CERTIFICATES))?;
    Ok(content)
}

/// The endpoint of a valid URL.
fn connectable(url: &Url, tls: TlsFiles, sources: &mut Sources) -> Option<Endpoint> {
    let TlsFiles { ca, identity, key_origin } = tls;
    let endpoint = Endpoint::from_shared(url.as_str().to_owned()).ok()?;
    let endpoint = endpoint.user_agent(concat!("countermand/", env!("CARGO_PKG_VERSION"))).ok()?;
    let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_keepalive(Some(TCP_KEEPALIVE));
    if url.scheme() == "http" {
        return Some(endpoint);
    }
    let mut config = match ca {
        None => ClientTlsConfig::new().trust_anchors(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(content) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(content)),
    };
    if let Some(identity) = identity {
        config = config.identity(identity);
    }
    // The CA is valid, so the error concerns the client certificate or its key. Its text could quote the key.
    let origin = key_origin.unwrap_or_else(|| Provenance::Variable(CERTIFICATE[1].to_owned()));
    let problem = "the client certificate and its key cannot be used";
    let endpoint =
        endpoint.tls_config(config).map_err(|_| Invalid::new(problem, "give PEM files that match"));
    sources.errors.ok(&origin, endpoint)
}

#[cfg(test)]
mod tests;
