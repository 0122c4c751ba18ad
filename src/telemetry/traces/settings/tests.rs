use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};

use super::{BatchSettings, TraceSettings};
use crate::{
    config::{Flags, Sources, Variables},
    telemetry::traces::sampler::Sampler,
};

const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");

/// The settings and the errors for these variables. A later variable replaces an earlier one of the same name.
fn read(variables: &[(&str, &str)]) -> (Option<TraceSettings>, Vec<String>) {
    let variables: Variables = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
    let mut sources = Sources::new(Flags::default(), variables);
    let settings = TraceSettings::read(&mut sources);
    (settings, sources.errors.iter().map(ToString::to_string).collect())
}

/// The valid settings for these variables and an endpoint.
fn valid(variables: &[(&str, &str)]) -> TraceSettings {
    let (settings, errors) = read(&[&[ENDPOINT], variables].concat());
    settings.unwrap_or_else(|| panic!("{errors:?}"))
}

#[test]
fn traces_are_off_without_an_endpoint_or_when_they_are_disabled() {
    for variables in [
        &[][..],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")],
        &[ENDPOINT, ("OTEL_SDK_DISABLED", "True")],
        &[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")],
        // The other variables are not read.
        &[("OTEL_TRACES_SAMPLER", "xray"), ("OTEL_BSP_SCHEDULE_DELAY", "soon")],
    ] {
        let (settings, errors) = read(variables);
        assert!(settings.is_none() && errors.is_empty(), "{variables:?}: {errors:?}");
    }
    for variables in [
        &[ENDPOINT][..],
        &[ENDPOINT, ("OTEL_SDK_DISABLED", "false")],
        &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4317/")],
        &[("OTEL_TRACES_EXPORTER", "otlp")],
    ] {
        let (settings, errors) = read(variables);
        assert!(settings.is_some(), "{variables:?}: {errors:?}");
    }
}

#[test]
fn the_variable_for_traces_takes_precedence() {
    let settings = valid(&[
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:4317"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "2000"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=1"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "B=2,c=x%20y,"),
    ]);
    assert_eq!(settings.collector().to_string(), "http://traces:4317/");
    assert_eq!(settings.collector.timeout, Duration::from_secs(2));
    let headers = &settings.collector.headers;
    let header = |key| headers.get(key).unwrap().to_str().unwrap();
    assert_eq!((headers.len(), header("b"), header("c")), (2, "2", "x y"));
    assert!(!format!("{settings:?}").contains("x y"), "the values of headers are secret");
}

#[test]
fn the_defaults_are_those_of_the_specification() {
    let settings = valid(&[]);
    assert_eq!(settings.sampler, Sampler::new(1.0, true));
    assert_eq!(settings.collector.timeout, Duration::from_secs(10));
    assert!(settings.propagates);
    let BatchSettings { max_queued, max_spans, delay } = settings.batch;
    assert_eq!((max_queued, max_spans, delay), (2048, 512, Duration::from_secs(5)));
    let (settings, _) = read(&[("OTEL_TRACES_EXPORTER", "otlp")]);
    assert_eq!(settings.unwrap().collector().to_string(), "http://localhost:4317/");
    assert_eq!(valid(&[("OTEL_BSP_MAX_QUEUE_SIZE", "100")]).batch.max_spans, 100);
    assert_eq!(valid(&[("OTEL_BSP_EXPORT_TIMEOUT", "300")]).collector.timeout, Duration::from_millis(300));
}

#[test]
fn each_sampler_has_its_name() {
    for (name, argument, want) in [
        ("always_on", "", Sampler::new(1.0, false)),
        ("always_off", "", Sampler::new(0.0, false)),
        ("traceidratio", "0.25", Sampler::new(0.25, false)),
        ("parentbased_always_on", "0.1", Sampler::new(1.0, true)),
        ("parentbased_always_off", "", Sampler::new(0.0, true)),
        ("parentbased_traceidratio", "0.01", Sampler::new(0.01, true)),
        ("parentbased_traceidratio", "", Sampler::new(1.0, true)),
    ] {
        let settings = valid(&[("OTEL_TRACES_SAMPLER", name), ("OTEL_TRACES_SAMPLER_ARG", argument)]);
        assert_eq!(settings.sampler, want, "{name} {argument}");
    }
}

#[test]
fn each_invalid_value_is_an_error_that_names_its_variable() {
    for (name, value, begin) in [
        ("OTEL_SDK_DISABLED", "yes", "this is not a boolean"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "there is no such exporter; give otlp or none"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317", "this is not an http or https URL"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://collector:4317", "this is not an http or https URL"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://", "this is not a URL"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:hunter2@collector", "the URL has a login"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4318/v1/traces", "the URL has more than"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "this is not supported; give grpc"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip", "this is not supported; give none"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2", "pair 1 has no ="),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=1,b c=hunter2", "header 2 is not a valid header"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=hunter2%0A", "header 1 is not a valid header"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=hunter2%FF", "pair 1 is not UTF-8"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0", "\"0\" is out of range"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "10s", "\"10s\" is out of range"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/none.pem", "cannot read the file"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/none.pem", "a client certificate and its key are both needed"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a", "pair 1 has no ="),
        ("OTEL_RESOURCE_ATTRIBUTES", "=a", "pair 1 has no key"),
        ("OTEL_TRACES_SAMPLER", "xray", "there is no such sampler; give always_on"),
        ("OTEL_PROPAGATORS", "tracecontext,b3", "there is no such propagator"),
        ("OTEL_BSP_SCHEDULE_DELAY", "-1", "\"-1\" is out of range"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "\"0\" is out of range"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "3000", "the batch is larger than the queue"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "never", "\"never\" is out of range"),
    ] {
        let (_, errors) = read(&[ENDPOINT, (name, value)]);
        let begin = format!("{name}: {begin}");
        assert!(!errors.is_empty() && errors[0].starts_with(&begin), "{errors:?}\nshould begin\n{begin}");
        assert!(!errors[0].contains("hunter2"), "{errors:?}");
    }
    for argument in ["2", "-0.1", "NaN", "one"] {
        let sampler = ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio");
        let (_, errors) = read(&[ENDPOINT, sampler, ("OTEL_TRACES_SAMPLER_ARG", argument)]);
        assert!(errors[0].starts_with("OTEL_TRACES_SAMPLER_ARG: this is not a ratio"), "{errors:?}");
    }
}

#[test]
fn a_client_certificate_must_match_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let pair = || {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        (cert.pem(), signing_key.serialize_pem())
    };
    let ((certificate, key), (_, other_key)) = (pair(), pair());
    let certificate = file("tls.crt", &certificate);
    let read = |key: &str| {
        read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4317"),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", &certificate),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", key),
        ])
    };
    let (settings, errors) = read(&file("tls.key", &key));
    assert!(settings.is_some(), "{errors:?}");
    for key in [file("other.key", &other_key), file("broken.key", "-----BEGIN PRIVATE KEY-----hunter2")] {
        let (_, errors) = read(&key);
        let want = "OTEL_EXPORTER_OTLP_CLIENT_KEY: the client certificate and its key cannot be used";
        assert!(errors[0].starts_with(want) && !errors[0].contains("hunter2"), "{errors:?}");
    }
}
