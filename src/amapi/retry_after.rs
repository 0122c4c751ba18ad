//! The `Retry-After` header.

use std::time::{Duration, SystemTime};

/// The time that a `Retry-After` header asks to wait from `now` on, by RFC 9110, section 10.2.3: whole
/// seconds, or a date of any of HTTP's three forms (one that is over asks for none). `None` when it is
/// neither. More seconds than 64 bits hold are as many as they hold.
#[must_use]
pub(super) fn parse(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim_matches([' ', '\t']);
    if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(header.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(header).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT, RFC 9110's own example.
    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)
    }

    #[test]
    fn seconds_and_dates_are_read() {
        for (header, seconds) in [
            ("0", 0),
            ("120", 120),
            (" 7\t", 7),
            ("99999999999999999999999", u64::MAX),
            ("Sun, 06 Nov 1994 08:50:07 GMT", 30),
            ("Sunday, 06-Nov-94 08:50:07 GMT", 30),
            ("Sun Nov  6 08:50:07 1994", 30),
            ("Sun, 06 Nov 1994 08:00:00 GMT", 0),
        ] {
            let want = Some(Duration::from_secs(seconds));
            assert_eq!(parse(header, now()), want, "{header}");
        }
    }

    #[test]
    fn anything_else_is_none() {
        for header in ["", " ", "-1", "+1", "1.5", "5s", "soon", "1, 2", "Sun, 32 Nov 1994 08:50:07 GMT"] {
            assert_eq!(parse(header, now()), None, "{header}");
        }
    }
}
