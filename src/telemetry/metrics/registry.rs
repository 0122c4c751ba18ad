//! The registry of metrics. It also describes each metric, for the reference.

use std::{fmt, sync::Arc};

use prometheus_client::{
    encoding::{prometheus_text, text},
    metrics::{
        MetricType, counter::Counter, family::Family, family::MetricConstructor, gauge::Gauge,
        histogram::Histogram,
    },
    registry::{Metric, Unit},
};

use super::{exemplar_histograms::ExemplarHistograms, observed::Observed};

/// A text format of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextFormat {
    /// Prometheus' text format 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0, which has exemplars.
    OpenMetrics,
}

impl TextFormat {
    /// The media type of the format.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// All metrics of the process.
#[derive(Debug, Default)]
pub struct Registry {
    exemplar_histograms: Vec<Arc<ExemplarHistograms>>,
    metrics: prometheus_client::registry::Registry,
    descriptions: Vec<Description>,
}

/// The description of a metric.
#[derive(Debug)]
struct Description {
    name: &'static str,
    metric_type: MetricType,
    buckets: &'static [f64],
    labels: Vec<Label>,
    help: &'static str,
}

/// A label and its values.
#[derive(Debug, Clone)]
pub(super) struct Label {
    pub(super) name: &'static str,
    pub(super) values: LabelValues,
}

/// The values of a label. They are a closed set: nothing that a caller sends is a value.
#[derive(Debug, Clone)]
pub(super) enum LabelValues {
    /// One of these values.
    OneOf(&'static [&'static str]),
    /// The values that this text describes.
    Described(&'static str),
}

/// The labels of a series, with their values.
pub(super) type SeriesLabels<const N: usize> = [(&'static str, &'static str); N];

/// Makes histograms with these upper bounds of the buckets.
#[derive(Debug, Clone, Copy)]
pub(super) struct BucketBounds(pub(super) &'static [f64]);

/// A counter for each combination of label values.
#[derive(Debug, Clone)]
pub(super) struct Counters<const N: usize> {
    names: [&'static str; N],
    family: Family<SeriesLabels<N>, Counter>,
}

/// A gauge for each value of a label.
#[derive(Debug, Clone)]
pub(super) struct Gauges {
    name: &'static str,
    family: Family<SeriesLabels<1>, Gauge>,
}

impl Label {
    pub(super) fn one_of(name: &'static str, values: &'static [&'static str]) -> Self {
        Self { name, values: LabelValues::OneOf(values) }
    }

    pub(super) fn described(name: &'static str, values: &'static str) -> Self {
        Self { name, values: LabelValues::Described(values) }
    }

    fn listed(&self) -> &'static [&'static str] {
        match self.values {
            LabelValues::OneOf(values) => values,
            LabelValues::Described(_) => &[],
        }
    }
}

impl<const N: usize> Counters<N> {
    /// The counter with these values, in the order of the labels.
    pub(super) fn with(&self, values: [&'static str; N]) -> Counter {
        let mut position = 0;
        let labels = self.names.map(|name| {
            position += 1;
            (name, values[position - 1])
        });
        self.family.get_or_create_owned(&labels)
    }
}

impl Gauges {
    /// The gauge with this value of the label.
    pub(super) fn with(&self, value: &'static str) -> Gauge {
        self.family.get_or_create_owned(&[(self.name, value)])
    }
}

impl Registry {
    /// Writes the current values of all metrics.
    ///
    /// # Errors
    ///
    /// A metric cannot be written, which is a defect.
    pub fn encode(&self, format: TextFormat) -> Result<String, fmt::Error> {
        let mut text = String::new();
        for histograms in &self.exemplar_histograms {
            histograms.write(&mut text, format)?;
        }
        match format {
            TextFormat::Prometheus => prometheus_text::encode(&mut text, &self.metrics)?,
            TextFormat::OpenMetrics => text::encode(&mut text, &self.metrics)?,
        }
        Ok(text)
    }

    pub(super) fn counter(&mut self, name: &'static str, help: &'static str) -> Counter {
        let counter = Counter::default();
        self.add(name, help, Vec::new(), &[], counter.clone());
        counter
    }

    /// Registers counters. Each combination of listed values exists from the start, because a counter whose first value
    /// is 1 shows no increase.
    pub(super) fn counters<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: [Label; N],
    ) -> Counters<N> {
        let counters =
            Counters { names: labels.each_ref().map(|label| label.name), family: Family::default() };
        self.add(name, help, labels.to_vec(), &[], counters.family.clone());
        let mut combinations = vec![[""; N]];
        for (position, label) in labels.iter().enumerate() {
            let extended = combinations.iter().flat_map(|values| {
                label.listed().iter().map(|value| {
                    let mut values = *values;
                    values[position] = value;
                    values
                })
            });
            combinations = extended.collect();
        }
        for values in combinations {
            counters.with(values);
        }
        counters
    }

    pub(super) fn gauge(&mut self, name: &'static str, help: &'static str) -> Gauge {
        let gauge = Gauge::default();
        self.add(name, help, Vec::new(), &[], gauge.clone());
        gauge
    }

    /// Registers a gauge for each listed value of `label`.
    pub(super) fn gauges(&mut self, name: &'static str, help: &'static str, label: Label) -> Gauges {
        let gauges = Gauges { name: label.name, family: Family::default() };
        for value in label.listed() {
            gauges.with(value);
        }
        self.add(name, help, vec![label], &[], gauges.family.clone());
        gauges
    }

    /// Registers a metric whose values are read when the metrics are written. It has no value before
    /// [`Observed::read_with`].
    pub(super) fn observed<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        metric_type: MetricType,
        labels: [Label; N],
    ) -> Observed<N> {
        let observed = Observed::new(metric_type, labels.each_ref().map(|label| label.name));
        self.add(name, help, labels.to_vec(), &[], observed.clone());
        observed
    }

    /// Registers a histogram.
    pub(super) fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        bounds: BucketBounds,
    ) -> Histogram {
        let histogram = bounds.new_metric();
        self.add(name, help, Vec::new(), bounds.0, histogram.clone());
        histogram
    }

    /// Registers histograms. A series exists from its first value on, because each has a dozen lines.
    pub(super) fn histograms<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        bounds: BucketBounds,
        labels: [Label; N],
    ) -> Family<SeriesLabels<N>, Histogram, BucketBounds> {
        let family = Family::new_with_constructor(bounds);
        self.add(name, help, labels.to_vec(), bounds.0, family.clone());
        family
    }

    /// Registers histograms with exemplars, one for each of `series`: label values in the order of `labels`. A series is
    /// written from its first value on.
    pub(super) fn exemplar_histograms<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        bounds: BucketBounds,
        labels: [Label; N],
        series: impl IntoIterator<Item = [&'static str; N]>,
    ) -> Arc<ExemplarHistograms> {
        let names = labels.each_ref().map(|label| label.name);
        self.describe(name, help, labels.to_vec(), bounds.0, MetricType::Histogram);
        let unit = base_and_unit(name).1;
        let histograms = Arc::new(ExemplarHistograms::new(name, unit, help, bounds, names, series));
        self.exemplar_histograms.push(Arc::clone(&histograms));
        histograms
    }

    fn add(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: Vec<Label>,
        buckets: &'static [f64],
        metric: impl Metric,
    ) {
        self.describe(name, help, labels, buckets, metric.metric_type());
        let (base, unit) = base_and_unit(name);
        match unit {
            Some(unit) => self.metrics.register_with_unit(base, help, unit, metric),
            None => self.metrics.register(base, help, metric),
        }
    }

    fn describe(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: Vec<Label>,
        buckets: &'static [f64],
        metric_type: MetricType,
    ) {
        self.descriptions.push(Description { name, metric_type, buckets, labels, help });
    }

    /// The entries of the reference, in Markdown.
    pub(super) fn reference(&self) -> String {
        self.descriptions.iter().map(Description::reference).collect()
    }
}

/// Splits the suffixes off a name that the encoders append: `_total`, and the unit.
fn base_and_unit(name: &'static str) -> (&'static str, Option<Unit>) {
    let base = name.strip_suffix("_total").unwrap_or(name);
    match base.rsplit_once('_') {
        Some((base, "seconds")) => (base, Some(Unit::Seconds)),
        Some((base, "bytes")) => (base, Some(Unit::Bytes)),
        _ => (base, None),
    }
}

impl Description {
    fn reference(&self) -> String {
        let Self { name, metric_type, buckets, labels, help } = self;
        let mut facts = vec![metric_type.as_str().to_owned()];
        facts.extend(base_and_unit(name).1.map(|unit| unit.as_str().to_owned()));
        if !buckets.is_empty() {
            let bounds: Vec<_> = buckets.iter().map(f64::to_string).collect();
            facts.push(format!("buckets {}", bounds.join(" ")));
        }
        let mut text = format!("\n## `{name}`\n\n{}\n\n{help}.\n", facts.join(" · "));
        if !labels.is_empty() {
            text.push('\n');
        }
        for Label { name, values } in labels {
            let values = match values {
                LabelValues::OneOf(values) => {
                    let quoted: Vec<_> = values.iter().map(|value| format!("`\"{value}\"`")).collect();
                    quoted.join(", ")
                }
                LabelValues::Described(values) => (*values).to_owned(),
            };
            text += &format!("- `{name}`: {values}\n");
        }
        text
    }
}
