//! The samplers of the OpenTelemetry SDK specification ("Sampling").

use crate::trace_id::{TraceId, TraceParent};

/// Decides which calls are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sampler {
    /// Whether the decision of the caller is followed. `ratio` then applies to calls without `traceparent`.
    follows_parent: bool,
    /// Traces whose lower 63 bits are below this are recorded.
    bound: u64,
}

impl Sampler {
    /// Records a share of the traces, from 0 to 1.
    pub(super) fn new(ratio: f64, follows_parent: bool) -> Self {
        const ALL: f64 = (1_u64 << 63) as f64;
        // The cast saturates. The bound of 1 is above all numbers of 63 bits.
        Self { follows_parent, bound: (ratio.clamp(0.0, 1.0) * ALL) as u64 }
    }

    pub(super) fn samples(self, trace_id: TraceId, parent: Option<TraceParent>) -> bool {
        match parent {
            Some(parent) if self.follows_parent => parent.is_sampled(),
            // The SDKs of OpenTelemetry compare the same bits, so that all services of a trace decide alike.
            _ => trace_id.low() >> 1 < self.bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Sampler;
    use crate::trace_id::{TraceId, TraceParent};

    fn parent(flags: &str) -> TraceParent {
        let header = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
        TraceParent::parse(header.as_bytes()).expect("valid")
    }

    #[test]
    fn the_ratio_is_the_share_of_traces() {
        for (ratio, expected) in
            [(0.0, 0..=0), (0.01, 50..=200), (0.5, 4_500..=5_500), (1.0, 10_000..=10_000)]
        {
            let sampler = Sampler::new(ratio, true);
            let sampled = (0..10_000).filter(|_| sampler.samples(TraceId::random(), None)).count();
            assert!(expected.contains(&sampled), "{ratio}: {sampled}");
        }
    }

    #[test]
    fn the_caller_decides_only_for_a_parent_based_sampler() {
        for (ratio, flags) in [(0.0, "01"), (1.0, "00")] {
            let parent = parent(flags);
            let decide =
                |follows_parent| Sampler::new(ratio, follows_parent).samples(parent.trace_id, Some(parent));
            assert_eq!(decide(true), flags == "01");
            assert_eq!(decide(false), flags == "00");
        }
    }
}
