//! The ID of a call's trace, and the `traceparent` header that it comes from.

use std::fmt;

/// The ID of a trace: 16 bytes, never all zero. `Display` is 32 lowercase hexadecimal digits, as in `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(u128);

/// The fields of a `traceparent` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace_id: TraceId,
    /// The caller's span, never 0.
    pub parent_id: u64,
    /// The flags, of which later versions may define more.
    pub flags: u8,
}

impl TraceParent {
    /// Parses a `traceparent` header (W3C Trace Context, section 3.2). Returns `None` for an invalid header. For a
    /// later version, parses the fields of version 00.
    #[must_use]
    pub fn parse(traceparent: &[u8]) -> Option<Self> {
        let (known, more) = traceparent.split_at_checked(55)?;
        let mut fields = known.split(|byte| *byte == b'-');
        let version = hexadecimal(fields.next()?, 2)?;
        let trace = hexadecimal(fields.next()?, 32)?;
        let parent = hexadecimal(fields.next()?, 16)?;
        let flags = hexadecimal(fields.next()?, 2)?;
        let has_valid_end = match version {
            0 => more.is_empty(),
            0xff => false,
            _ => more.first().is_none_or(|byte| *byte == b'-'),
        };
        let is_valid = fields.next().is_none() && has_valid_end && trace != 0 && parent != 0;
        let (parent_id, flags) = (u64::try_from(parent).ok()?, u8::try_from(flags).ok()?);
        is_valid.then_some(Self { trace_id: TraceId(trace), parent_id, flags })
    }

    /// Whether the caller records the trace (section 3.2.2.5.1).
    #[must_use]
    pub fn is_sampled(self) -> bool {
        self.flags & 1 != 0
    }
}

impl TraceId {
    /// Generates the ID of a new trace. The ID must be unique, not secret.
    #[must_use]
    pub fn random() -> Self {
        Self(fastrand::u128(1..))
    }

    /// The 16 bytes, in the order of the digits.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The lower 64 bits.
    #[must_use]
    pub fn low(self) -> u64 {
        let [.., a, b, c, d, e, f, g, h] = self.to_bytes();
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl TraceId {
    /// The 32 digits of `Display`, without the cost of the formatter.
    pub(crate) fn hexadecimal(self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0.to_be_bytes()) {
            pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        text
    }
}

impl From<TraceId> for u128 {
    fn from(TraceId(id): TraceId) -> Self {
        id
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Parses exactly `digits` lower-case hexadecimal digits.
fn hexadecimal(text: &[u8], digits: usize) -> Option<u128> {
    if text.len() != digits {
        return None;
    }
    text.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::{TraceId, TraceParent};

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    #[test]
    fn a_valid_header_has_a_trace() {
        for header in [
            format!("00-{TRACE}-b7ad6b7169203331-01"),
            format!("00-{TRACE}-b7ad6b7169203331-00"),
            format!("01-{TRACE}-b7ad6b7169203331-01"),
            format!("cc-{TRACE}-b7ad6b7169203331-01-what-comes-later"),
        ] {
            assert_eq!(
                TraceParent::parse(header.as_bytes()).expect("valid").trace_id.to_string(),
                TRACE,
                "{header}"
            );
        }
    }

    #[test]
    fn an_invalid_header_has_no_trace() {
        for header in [
            String::new(),
            TRACE.to_owned(),
            format!("00-{TRACE}-b7ad6b7169203331"),
            format!("00-{TRACE}-b7ad6b7169203331-01-"),
            format!("00-{TRACE}-b7ad6b7169203331-01 "),
            format!("ff-{TRACE}-b7ad6b7169203331-01"),
            format!("01-{TRACE}-b7ad6b7169203331-01x"),
            format!("00-{}-b7ad6b7169203331-01", TRACE.to_uppercase()),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{TRACE}-b7ad6b7169203331-0g"),
            format!("00-{}-{TRACE}-01", "b7ad6b7169203331"),
            "-".repeat(55),
        ] {
            assert_eq!(TraceParent::parse(header.as_bytes()), None, "{header}");
        }
        assert_eq!(TraceParent::parse(&[0xff; 55]), None);
    }

    #[test]
    fn new_traces_differ() {
        assert_ne!(TraceId::random(), TraceId::random());
        let random = TraceId::random();
        assert_eq!(random.hexadecimal(), random.to_string().as_bytes());
        assert_eq!(random.to_string().len(), 32);
    }
}
