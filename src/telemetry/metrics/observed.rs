//! Metrics whose values are read when the metrics are written.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder},
    metrics::{MetricType, exemplar::Exemplar},
};

/// A gauge or a counter whose values another component keeps. Cheap to clone.
#[derive(Clone)]
pub struct Observed<const N: usize> {
    metric_type: MetricType,
    labels: [&'static str; N],
    read: Arc<OnceLock<ReadSeries<N>>>,
}

/// Reads the series: the values of the labels, and the value.
type ReadSeries<const N: usize> = Box<dyn Fn() -> Vec<([String; N], f64)> + Send + Sync>;

impl<const N: usize> Observed<N> {
    pub(super) fn new(metric_type: MetricType, labels: [&'static str; N]) -> Self {
        Self { metric_type, labels, read: Arc::default() }
    }

    /// Sets the function that reads the series, whenever the metrics are written. It must not block. A second function
    /// is ignored.
    pub fn read_with(&self, read: impl Fn() -> Vec<([String; N], f64)> + Send + Sync + 'static) {
        self.read.get_or_init(|| Box::new(read));
    }
}

impl Observed<0> {
    /// Sets the function that reads the value, as [`Self::read_with`] does.
    pub fn read_value_with(&self, read: impl Fn() -> f64 + Send + Sync + 'static) {
        self.read_with(move || vec![([], read())]);
    }

    /// Reads the value. `None` before a function was set.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        self.read.get().and_then(|read| read().first().map(|([], value)| *value))
    }
}

impl<const N: usize> fmt::Debug for Observed<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observed").field("labels", &self.labels).finish_non_exhaustive()
    }
}

impl<const N: usize> EncodeMetric for Observed<N> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let Some(read) = self.read.get() else { return Ok(()) };
        for (values, value) in read() {
            let labels: Vec<_> = self.labels.iter().copied().zip(values).collect();
            let mut encoder = encoder.encode_family(&labels)?;
            match self.metric_type {
                MetricType::Counter => {
                    let exemplar: Option<&Exemplar<[(&str, &str); 0], f64>> = None;
                    encoder.encode_counter(&value, exemplar)?;
                }
                _ => encoder.encode_gauge(&value)?,
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        self.metric_type
    }

    fn is_empty(&self) -> bool {
        self.read.get().is_none()
    }
}
