//! Histograms with the latest exemplar of each bucket.
//!
//! They write their own text, because nothing outside prometheus-client 0.26 can create its `Exemplar`. Its own
//! `HistogramWithExemplars` takes two locks and hashes the bucket for each value.

use std::{
    fmt::{self, Write},
    sync::{Mutex, MutexGuard, PoisonError},
};

use prometheus_client::registry::Unit;

use super::registry::{BucketBounds, TextFormat};

/// A histogram for each listed combination of label values.
#[derive(Debug)]
pub(super) struct ExemplarHistograms {
    name: &'static str,
    unit: Option<Unit>,
    help: &'static str,
    bounds: &'static [f64],
    series: Box<[Series]>,
}

#[derive(Debug)]
struct Series {
    /// The labels, as they are written.
    labels: String,
    values: Mutex<Values>,
}

#[derive(Debug, Default)]
struct Values {
    count: u64,
    sum: f64,
    /// One for each bound, and one for larger values. Empty before the first value.
    buckets: Box<[Bucket]>,
}

#[derive(Debug, Clone, Default)]
struct Bucket {
    count: u64,
    exemplar: Option<Exemplar>,
}

/// A value, and the trace of its call.
#[derive(Debug, Clone, Copy)]
struct Exemplar {
    trace_id: u128,
    value: f64,
}

impl ExemplarHistograms {
    /// `series` are the label values of each histogram, in the order of `names`. They need no escaping.
    pub(super) fn new<const N: usize>(
        name: &'static str,
        unit: Option<Unit>,
        help: &'static str,
        BucketBounds(bounds): BucketBounds,
        names: [&'static str; N],
        series: impl IntoIterator<Item = [&'static str; N]>,
    ) -> Self {
        let with_labels = |values: [&str; N]| {
            let pairs = names.iter().zip(values).map(|(name, value)| format!("{name}=\"{value}\""));
            Series { labels: pairs.collect::<Vec<_>>().join(","), values: Mutex::default() }
        };
        Self { name, unit, help, bounds, series: series.into_iter().map(with_labels).collect() }
    }

    /// Adds a value to the histogram at `index` of the series. `trace_id` becomes the exemplar of the value's bucket.
    pub(super) fn observe(&self, index: usize, value: f64, trace_id: Option<u128>) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        let mut values = self.series[index].values();
        if values.buckets.is_empty() {
            values.buckets = vec![Bucket::default(); self.bounds.len() + 1].into();
        }
        values.count += 1;
        values.sum += value;
        let bucket = &mut values.buckets[bucket];
        bucket.count += 1;
        bucket.exemplar = trace_id.map(|trace_id| Exemplar { trace_id, value }).or(bucket.exemplar);
    }

    /// Writes the histograms that have a value.
    pub(super) fn write(&self, text: &mut String, format: TextFormat) -> fmt::Result {
        let Self { name, unit, help, .. } = self;
        let mut has_head = false;
        for series in &self.series {
            let Values { count, sum, buckets } = &*series.values();
            if *count == 0 {
                continue;
            }
            if !has_head {
                has_head = true;
                write!(text, "# HELP {name} {help}.\n# TYPE {name} histogram\n")?;
                if let (TextFormat::OpenMetrics, Some(unit)) = (format, unit) {
                    writeln!(text, "# UNIT {name} {}", unit.as_str())?;
                }
            }
            let labels = &series.labels;
            let mut cumulative = 0;
            let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
            for (bound, bucket) in bounds.zip(buckets) {
                cumulative += bucket.count;
                write!(text, "{name}_bucket{{{labels},le=\"")?;
                match format {
                    _ if bound.is_infinite() => text.write_str("+Inf")?,
                    TextFormat::Prometheus => write!(text, "{bound}")?,
                    // A bound without a fraction ends with `.0` (OpenMetrics 1.0.0, "Considerations: Canonical Numbers").
                    TextFormat::OpenMetrics => write!(text, "{bound:?}")?,
                }
                write!(text, "\"}} {cumulative}")?;
                if let (TextFormat::OpenMetrics, Some(Exemplar { trace_id, value })) =
                    (format, bucket.exemplar)
                {
                    write!(text, " # {{trace_id=\"{trace_id:032x}\"}} {value:?}")?;
                }
                text.write_str("\n")?;
            }
            write!(text, "{name}_sum{{{labels}}} {sum:?}\n{name}_count{{{labels}}} {count}\n")?;
        }
        Ok(())
    }
}

impl Series {
    fn values(&self) -> MutexGuard<'_, Values> {
        // A panic cannot leave the values inconsistent.
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prometheus_client::{
        encoding::{prometheus_text, text},
        metrics::{exemplar::HistogramWithExemplars, family::Family},
        registry::Registry,
    };

    use super::*;

    const BOUNDS: [f64; 3] = [0.005, 1.0, 2.5];
    const TRACE: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;

    fn histograms() -> ExemplarHistograms {
        let series = [["a", "x"], ["b", "y"]];
        ExemplarHistograms::new(
            "h_seconds",
            Some(Unit::Seconds),
            "Times",
            BucketBounds(&BOUNDS),
            ["one", "two"],
            series,
        )
    }

    fn written(histograms: &ExemplarHistograms, format: TextFormat) -> String {
        let mut text = String::new();
        histograms.write(&mut text, format).unwrap();
        text
    }

    /// The lines, without an order. `le` is the last label, as prometheus-client writes it in one of the formats.
    fn lines(text: &str) -> BTreeSet<String> {
        let with_last_bound = |line: &str| {
            let (name, rest) = line.split_once("{le=\"")?;
            let (bound, rest) = rest.split_once("\",")?;
            let (labels, rest) = rest.split_once('}')?;
            Some(format!("{name}{{{labels},le=\"{bound}\"}}{rest}"))
        };
        let lines = text.lines().filter(|line| *line != "# EOF");
        lines.map(|line| with_last_bound(line).unwrap_or_else(|| line.to_owned())).collect()
    }

    #[test]
    fn the_text_is_that_of_prometheus_client() {
        let own = histograms();
        let family = Family::<[(&str, &str); 2], _, _>::new_with_constructor(|| {
            HistogramWithExemplars::new(BOUNDS.into_iter())
        });
        let mut registry = Registry::default();
        registry.register_with_unit("h", "Times", Unit::Seconds, family.clone());
        let theirs = family.get_or_create_owned(&[("one", "b"), ("two", "y")]);
        // A value on a bound, the latest of two exemplars, and a value over all bounds.
        for (value, trace_id) in
            [(0.001, None), (1.0, Some(TRACE)), (0.5, Some(1)), (0.25, None), (9.0, Some(TRACE))]
        {
            own.observe(1, value, trace_id);
            theirs.observe(value, trace_id.map(|id| [("trace_id", format!("{id:032x}"))]), None);
        }
        let (mut plain, mut open) = (String::new(), String::new());
        prometheus_text::encode(&mut plain, &registry).unwrap();
        text::encode(&mut open, &registry).unwrap();
        assert_eq!(lines(&written(&own, TextFormat::Prometheus)), lines(&plain));
        assert_eq!(lines(&written(&own, TextFormat::OpenMetrics)), lines(&open));
        assert!(open.contains(&format!("5 # {{trace_id=\"{TRACE:032x}\"}} 9.0\n")), "{open}");
    }

    #[test]
    fn a_series_without_a_value_is_not_written() {
        let histograms = histograms();
        assert_eq!(written(&histograms, TextFormat::OpenMetrics), "");
        histograms.observe(0, 2.0, None);
        let text = written(&histograms, TextFormat::Prometheus);
        assert_eq!(
            text,
            "# HELP h_seconds Times.\n\
             # TYPE h_seconds histogram\n\
             h_seconds_bucket{one=\"a\",two=\"x\",le=\"0.005\"} 0\n\
             h_seconds_bucket{one=\"a\",two=\"x\",le=\"1\"} 0\n\
             h_seconds_bucket{one=\"a\",two=\"x\",le=\"2.5\"} 1\n\
             h_seconds_bucket{one=\"a\",two=\"x\",le=\"+Inf\"} 1\n\
             h_seconds_sum{one=\"a\",two=\"x\"} 2.0\n\
             h_seconds_count{one=\"a\",two=\"x\"} 1\n"
        );
    }
}
