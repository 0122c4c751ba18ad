//! A histogram of durations in a fixed memory.

use std::time::Duration;

/// The upper bound of the first bucket, as a power of two of microseconds: 128 µs.
const FIRST_OCTAVE: u32 = 7;

/// The first bucket, two for each octave up to 268 s, and one above. `polling.max_wait` is 240 s by default.
const BUCKETS: usize = 44;

/// The number of durations in each bucket. A bucket is at most half as wide as its lower bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Durations([u32; BUCKETS]);

impl Default for Durations {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Durations {
    pub(super) fn add(&mut self, duration: Duration) {
        let count = &mut self.0[bucket(duration)];
        *count = count.saturating_add(1);
    }

    pub(super) fn add_all(&mut self, other: &Self) {
        for (count, added) in self.0.iter_mut().zip(other.0) {
            *count = count.saturating_add(added);
        }
    }

    /// The duration that this share of the durations does not exceed, interpolated in its bucket. `None` without any.
    pub(super) fn quantile(&self, share: f64) -> Option<Duration> {
        let total: u64 = self.0.iter().map(|count| u64::from(*count)).sum();
        let rank = total as f64 * share;
        let mut below = 0.0;
        for (bucket, count) in self.0.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = f64::from(*count);
            if below + count >= rank {
                let (lower, upper) = bounds(bucket);
                let micros = lower + (upper - lower) * ((rank - below) / count);
                return Some(Duration::from_secs_f64(micros / 1e6));
            }
            below += count;
        }
        None
    }
}

fn bucket(duration: Duration) -> usize {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let Some(octave) = micros.max(1).ilog2().checked_sub(FIRST_OCTAVE) else { return 0 };
    let is_upper_half = (micros >> (octave + FIRST_OCTAVE - 1)) & 1 == 1;
    (octave as usize * 2 + usize::from(is_upper_half) + 1).min(BUCKETS - 1)
}

/// The bounds of a bucket, in microseconds. The last bucket has no upper bound, so both are its lower one.
fn bounds(bucket: usize) -> (f64, f64) {
    let lower = |bucket: usize| match bucket.checked_sub(1) {
        None => 0.0,
        Some(half) => {
            let octave = f64::from(1 << FIRST_OCTAVE) * (half as f64 / 2.0).floor().exp2();
            octave * if half % 2 == 0 { 1.0 } else { 1.5 }
        }
    };
    (lower(bucket), lower((bucket + 1).min(BUCKETS - 1)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{BUCKETS, Durations, bounds, bucket};

    #[test]
    fn each_duration_is_within_the_bounds_of_its_bucket() {
        for micros in [0, 1, 127, 128, 191, 192, 255, 256, 1_000, 1_000_000, 240_000_000, 268_435_455] {
            let (lower, upper) = bounds(bucket(Duration::from_micros(micros)));
            assert!(lower <= micros as f64 && (micros as f64) < upper, "{micros}: {lower} to {upper}");
        }
        for long in [Duration::from_micros(268_435_456), Duration::MAX] {
            assert_eq!(bucket(long), BUCKETS - 1);
        }
        assert_eq!(bounds(BUCKETS - 1), (268_435_456.0, 268_435_456.0));
    }

    #[test]
    fn quantiles_are_near_the_true_ones() {
        let mut durations = Durations::default();
        assert_eq!(durations.quantile(0.5), None);
        for millis in 1..=1000 {
            durations.add(Duration::from_millis(millis));
        }
        for (share, millis) in [(0.1, 100.0), (0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = durations.quantile(share).expect("there are durations").as_secs_f64() * 1e3;
            assert!((found / millis - 1.0).abs() < 0.06, "{share}: {found} ms");
        }
    }

    #[test]
    fn sums_have_the_durations_of_both() {
        let (mut one, mut two, mut both) = (Durations::default(), Durations::default(), Durations::default());
        for (durations, millis) in [(&mut one, 3), (&mut two, 700)] {
            durations.add(Duration::from_millis(millis));
            both.add(Duration::from_millis(millis));
        }
        one.add_all(&two);
        assert_eq!(one, both);
    }
}
