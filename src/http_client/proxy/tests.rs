//! Tests of the variables, and of concurrent refusals by a proxy.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::future::join_all;
use http::{HeaderMap, Method};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use url::Url;

use super::{IgnoredVariable, Proxy, ProxySettings};
use crate::{
    config::{Flags, Sources, Variables},
    http_client::{Authorities, HttpClient, Progress},
};

/// The settings of these variables, and the errors.
fn read(variables: &[(&str, &str)]) -> (ProxySettings, Vec<String>) {
    let variables: Variables =
        variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let mut sources = Sources::new(Flags::default(), variables);
    let settings = ProxySettings::read(&mut sources);
    (settings, sources.errors.iter().map(ToString::to_string).collect())
}

fn url(text: &str) -> Url {
    text.parse().unwrap()
}

/// The URL of a proxy and its decoded login.
fn parsed(text: &str) -> (String, Option<String>) {
    let proxy = Proxy::parse(text, "HTTPS_PROXY").unwrap_or_else(|error| panic!("{text}: {error}"));
    let login = proxy.authorization.as_ref().map(|header| {
        assert!(header.is_sensitive());
        let encoded = header.to_str().unwrap().strip_prefix("Basic ").unwrap();
        String::from_utf8(BASE64_STANDARD.decode(encoded).unwrap()).unwrap()
    });
    (proxy.to_string(), login)
}

#[test]
fn a_proxy_is_a_url_with_or_without_a_scheme_and_a_login() {
    for (text, url, login) in [
        ("http://proxy.example:3128", "http://proxy.example:3128", None),
        ("http://proxy.example:3128/", "http://proxy.example:3128", None),
        ("HTTPS://Proxy.Example", "https://proxy.example", None),
        ("proxy.example:3128", "http://proxy.example:3128", None),
        ("10.0.0.1", "http://10.0.0.1", None),
        ("http://[fd00::1]:3128", "http://[fd00::1]:3128", None),
        ("http://svc@proxy.example", "http://proxy.example", Some("svc:")),
        ("http://svc:@proxy.example", "http://proxy.example", Some("svc:")),
        ("http://@proxy.example", "http://proxy.example", None),
        ("http://svc:a:b@proxy.example", "http://proxy.example", Some("svc:a:b")),
        ("svc:pw@proxy.example:3128", "http://proxy.example:3128", Some("svc:pw")),
        (
            "http://corp%5Csvc:p%40ss%3aw%2Frd%231%25@proxy.example:3128",
            "http://proxy.example:3128",
            Some(r"corp\svc:p@ss:w/rd#1%"),
        ),
        ("http://svc:p%C3%A4ss@proxy.example", "http://proxy.example", Some("svc:päss")),
    ] {
        assert_eq!(parsed(text), (url.to_owned(), login.map(str::to_owned)), "{text}");
    }
}

#[test]
fn another_text_is_an_error_that_does_not_show_it() {
    let [encode, blank, form] = ["must be percent-encoded", "a blank, a line end", "is not valid"];
    for (text, problem) in [
        (r"http://corp\svc:s3cr3t@proxy.example:3128", encode),
        ("http://svc:s3cr3t@1@proxy.example:3128", encode),
        ("http://svc:s3cr3t/1@proxy.example:3128", encode),
        ("http://svc:12/s3cr3t@proxy.example:3128", encode),
        ("http://svc:s3cr3t#1@proxy.example:3128", encode),
        ("http://svc:s3cr3t?1@proxy.example:3128", encode),
        ("http://svc:s3cr3t%@proxy.example:3128", encode),
        ("http://svc:s3cr3t%4@proxy.example:3128", encode),
        ("http://svc:s3cr3t%zz@proxy.example:3128", encode),
        ("http://svc:s3cr3tä@proxy.example:3128", encode),
        ("http://svc:s3cr3t@proxy.example:3128\n", blank),
        (" http://svc:s3cr3t@proxy.example:3128", blank),
        ("http://svc:s3cr3t 1@proxy.example:3128", blank),
        ("http://svc:s3cr3t@proxy.example:3128\0", blank),
        (" ", blank),
        ("\"http://svc:s3cr3t@proxy.example:3128\"", "in quotes"),
        ("'http://svc:s3cr3t@proxy.example:3128'", "in quotes"),
        ("socks5://svc:s3cr3t@proxy.example:1080", "a socks5:// proxy is not supported"),
        ("SOCKS5H://svc:s3cr3t@proxy.example:1080", "a socks5h:// proxy is not supported"),
        ("ftp://svc:s3cr3t@proxy.example", "the scheme is not http or https"),
        ("svc:s3cr3t://@proxy.example", "the scheme is not http or https"),
        ("http://proxy.example:3128/s3cr3t", "more than a host and a port"),
        ("http://proxy.example:3128?s3cr3t", "more than a host and a port"),
        ("http://proxy.example:s3cr3t", form),
        ("http://proxy.example:65536", form),
        ("http://proxy.example:0", form),
        ("http://svc:s3cr3t@", form),
        ("http://", form),
        ("http://pro{xy.example", form),
        ("svc:s3cr3t", form),
        ("http://s%3Av%63:s3cr3t@proxy.example", "the user has a colon"),
        ("http://svc:s3cr3t%0A@proxy.example", "a control character"),
    ] {
        let (settings, errors) = read(&[("HTTPS_PROXY", text)]);
        assert!(settings.proxy().is_none(), "{text:?}");
        let [error] = &errors[..] else { panic!("{text:?}: {errors:?}") };
        assert!(error.starts_with("HTTPS_PROXY: "), "{text:?}: {error}");
        assert!(error.contains(problem), "{text:?}: {error}");
        assert!(!error.to_lowercase().contains("s3cr3t"), "{error}");
    }
}

#[test]
fn the_first_variable_that_is_not_empty_is_used() {
    let differs = |ignored, used| vec![IgnoredVariable { ignored, used }];
    for (variables, used, ignored) in [
        (&[][..], None, vec![]),
        (&[("HTTP_PROXY", "http://a"), ("http_proxy", "http://b")], None, vec![]),
        (&[("HTTPS_PROXY", ""), ("https_proxy", "")], None, vec![]),
        (&[("HTTPS_PROXY", "http://a")], Some(("HTTPS_PROXY", "http://a")), vec![]),
        (&[("https_proxy", "http://a")], Some(("https_proxy", "http://a")), vec![]),
        (&[("HTTPS_PROXY", ""), ("https_proxy", "http://a")], Some(("https_proxy", "http://a")), vec![]),
        (&[("HTTPS_PROXY", "http://a"), ("https_proxy", "")], Some(("HTTPS_PROXY", "http://a")), vec![]),
        (
            &[("HTTPS_PROXY", "http://a"), ("https_proxy", "http://a")],
            Some(("https_proxy", "http://a")),
            vec![],
        ),
        (
            &[("HTTPS_PROXY", "http://a"), ("https_proxy", "http://b")],
            Some(("https_proxy", "http://b")),
            differs("HTTPS_PROXY", "https_proxy"),
        ),
        (&[("ALL_PROXY", "http://a"), ("HTTPS_PROXY", "")], Some(("ALL_PROXY", "http://a")), vec![]),
        // A value that is not used may have any form.
        (
            &[("all_proxy", "socks5://a"), ("ALL_PROXY", "x y"), ("HTTPS_PROXY", "http://b")],
            Some(("HTTPS_PROXY", "http://b")),
            vec![],
        ),
        (&[("NO_PROXY", "10.0.0.0/99"), ("no_proxy", "a")], None, vec![]),
        (&[("REQUEST_METHOD", "GET"), ("HTTPS_PROXY", "a")], Some(("HTTPS_PROXY", "http://a")), vec![]),
        (
            &[("HTTPS_PROXY", "a"), ("NO_PROXY", "b"), ("no_proxy", "c")],
            Some(("HTTPS_PROXY", "http://a")),
            differs("NO_PROXY", "no_proxy"),
        ),
    ] {
        let (settings, errors) = read(variables);
        assert_eq!(errors, [""; 0], "{variables:?}");
        let proxy = settings.proxy().map(|proxy| (proxy.variable(), proxy.to_string()));
        assert_eq!(proxy, used.map(|(name, url)| (name, url.to_owned())), "{variables:?}");
        assert_eq!(settings.ignored(), ignored, "{variables:?}");
    }
}

#[test]
fn all_errors_are_reported_and_the_proxy_stays_unset() {
    let (_, errors) = read(&[("https_proxy", "ftp://a"), ("NO_PROXY", "b, 10.0.0.0/33")]);
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].starts_with("https_proxy: the scheme is not http or https; "), "{errors:?}");
    assert!(errors[1].starts_with("NO_PROXY: entry 2 is not a host; "), "{errors:?}");
}

#[test]
fn http_and_loopback_hosts_are_never_reached_through_the_proxy() {
    let (settings, _) =
        read(&[("HTTPS_PROXY", "http://svc:s3cr3t@proxy.example"), ("NO_PROXY", "direct.example:443")]);
    for (text, expected) in [
        ("https://androidmanagement.googleapis.com", true),
        ("https://10.0.0.1", true),
        ("https://direct.example:8443", true),
        ("https://direct.example", false),
        ("https://localhost:8443", false),
        ("https://127.0.0.2:8443", false),
        ("https://[::1]:8443", false),
        ("http://metadata.google.internal/computeMetadata", false),
        ("http://169.254.169.254", false),
        ("http://127.0.0.1:8080", false),
    ] {
        assert_eq!(settings.applies_to(&url(text)), expected, "{text}");
        assert_eq!(settings.tunnel_to(&url(text)).is_some(), expected, "{text}");
    }
    let debug = format!("{settings:?} {:?}", settings.tunnel_to(&url("https://example.com")));
    assert!(debug.contains("proxy.example") && debug.contains("example.com:443"), "{debug}");
    assert!(!debug.contains("s3cr3t") && !debug.contains(&BASE64_STANDARD.encode("svc:s3cr3t")), "{debug}");
    assert!(!ProxySettings::default().applies_to(&url("https://example.com")));
}

/// A proxy that answers CONNECT with 503, except on the connection number `stalled`, which it never answers. Also
/// returns the number of its connections.
async fn refusing_proxy(stalled: Option<usize>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut client, _)) = listener.accept().await {
            let number = count.fetch_add(1, Ordering::Relaxed) + 1;
            if stalled == Some(number) {
                open.push(client);
                continue;
            }
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await.unwrap());
            }
            client.write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").await.unwrap();
        }
    });
    (url, connections)
}

#[tokio::test]
async fn refusals_within_a_second_share_one_probe_of_the_proxy() {
    let (proxy, connections) = refusing_proxy(None).await;
    let (settings, _) = read(&[("HTTPS_PROXY", &proxy)]);
    let target = url("https://androidmanagement.test");
    let client = HttpClient::new(&target, &Authorities::public(), &settings).unwrap();
    let send = || client.send(Method::GET, target.clone(), HeaderMap::new(), "");
    // The first refusal is probed before the others, because none of them waits for the probe.
    let first = send().await;
    let others = join_all(std::iter::repeat_with(send).take(7)).await;
    for result in std::iter::once(first).chain(others) {
        let error = result.unwrap_err();
        assert!(error.is_refused_by_proxy && error.progress == Progress::NotConnected, "{error:?}");
        let expected = format!("the proxy {proxy} answers CONNECT with 503 Service Unavailable");
        assert!(error.to_string().contains(&expected), "{error}");
    }
    // The test may take longer than one interval of the probes.
    let connections = connections.load(Ordering::Relaxed);
    assert!((9..=11).contains(&connections), "{connections}");
}

#[tokio::test]
async fn a_refusal_does_not_wait_for_the_probe_of_another() {
    let (proxy, connections) = refusing_proxy(Some(2)).await;
    let (settings, _) = read(&[("HTTPS_PROXY", &proxy)]);
    let target = url("https://androidmanagement.test");
    let client = HttpClient::new(&target, &Authorities::public(), &settings).unwrap();
    let send = || {
        let (client, target) = (client.clone(), target.clone());
        async move { client.send(Method::GET, target, HeaderMap::new(), "").await }
    };
    let probed = tokio::spawn(send());
    while connections.load(Ordering::Relaxed) < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let error = send().await.unwrap_err();
    assert!(!probed.is_finished(), "the probe has no answer yet");
    assert!(!error.is_refused_by_proxy && error.progress == Progress::NotConnected, "{error:?}");
    assert!(!probed.await.unwrap().unwrap_err().is_refused_by_proxy);
}
