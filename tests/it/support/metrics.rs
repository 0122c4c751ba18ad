//! Reads `/metrics`.

use std::{collections::BTreeMap, net::SocketAddr};

use super::{http_page, process::eventually};

/// The `Accept` header of Prometheus 3, which prefers OpenMetrics.
pub(crate) const ACCEPT_OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

/// The values of all series, by name and labels as they are written.
pub(crate) struct Scrape {
    values: BTreeMap<String, f64>,
    pub(crate) text: String,
}

impl Scrape {
    /// Reads the page of the port at `address`, in Prometheus' text format.
    pub(crate) async fn of(address: SocketAddr) -> Self {
        let (status, head, text) = http_page::request(address, "GET", "/metrics", "*/*").await;
        assert_eq!(status, 200, "{text}");
        assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let values = lines.map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        });
        let values: BTreeMap<_, _> = values.collect();
        Self { values, text }
    }

    /// The value of the only series with this name and all these `label="value"` pairs. `None` without one.
    pub(crate) fn find(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let mut found = self.values.iter().filter(|(series, _)| {
            let (found, rest) = series.split_once('{').unwrap_or((series, ""));
            let given: Vec<_> = rest.trim_end_matches('}').split("\",").collect();
            let has = |label: &&str| {
                given.iter().any(|given| given.trim_end_matches('"') == label.trim_end_matches('"'))
            };
            found == name && labels.iter().all(has)
        });
        let value = found.next().map(|(_, value)| *value);
        assert_eq!(found.next(), None, "{name} {labels:?} is not unique");
        value
    }

    /// As [`Self::find`], for a series that must exist.
    pub(crate) fn value(&self, name: &str, labels: &[&str]) -> f64 {
        self.find(name, labels).unwrap_or_else(|| panic!("no {name} {labels:?} in\n{}", self.text))
    }

    /// The number of calls of this method that ended with this code.
    pub(crate) fn calls(&self, method: &str, code: &str) -> f64 {
        let method = format!("rpc_method=\"google.longrunning.Operations/{method}\"");
        let code = format!("rpc_response_status_code=\"{code}\"");
        self.find("rpc_server_call_duration_seconds_count", &[&method, &code]).unwrap_or(0.0)
    }
}

/// Reads the page until `is_expected`.
pub(crate) async fn scrape_until(
    what: &str,
    address: SocketAddr,
    is_expected: impl Fn(&Scrape) -> bool,
) -> Scrape {
    eventually(what, async || Some(Scrape::of(address).await).filter(&is_expected)).await
}
