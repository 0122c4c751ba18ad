//! A time as IAM Credentials writes it.

use std::time::{Duration, SystemTime};

/// The time that an RFC 3339 text names (section 5.6), in whatever offset, which humantime reads in UTC only.
pub(super) fn parse(text: &str) -> Option<SystemTime> {
    let text = text.is_ascii().then(|| text.to_ascii_uppercase())?;
    let utc = |local: &str| {
        // humantime reads an offset of nought by itself, and nothing that follows one.
        let bare = local.bytes().all(|c| c.is_ascii_digit() || b"-T:.".contains(&c));
        bare.then(|| humantime::parse_rfc3339(&format!("{local}Z")).ok())?
    };
    if let Some(local) = text.strip_suffix('Z') {
        return utc(local);
    }
    let (local, offset) = text.split_at_checked(text.len().checked_sub("+00:00".len())?)?;
    let (sign, ahead) = offset.split_at(1);
    let (hours, minutes) = ahead.split_once(':')?;
    let ahead = Duration::from_secs(60 * (60 * below(24, hours)? + below(60, minutes)?));
    match sign {
        "+" => utc(local)?.checked_sub(ahead),
        "-" => utc(local)?.checked_add(ahead),
        _ => None,
    }
}

/// A number of two digits.
fn below(limit: u64, digits: &str) -> Option<u64> {
    let two_digits = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_digit());
    let number = two_digits.then(|| digits.parse().ok())??;
    (number < limit).then_some(number)
}

#[cfg(test)]
mod tests {
    use humantime::format_rfc3339;

    use super::parse;

    #[test]
    fn a_time_is_read_in_any_offset() {
        for (text, utc) in [
            ("2026-01-01T00:10:00Z", "2026-01-01T00:10:00Z"),
            ("2026-01-01t00:10:00.25z", "2026-01-01T00:10:00.250000000Z"),
            ("2026-01-01T00:10:00+00:00", "2026-01-01T00:10:00Z"),
            ("2026-01-01T00:10:00-00:00", "2026-01-01T00:10:00Z"),
            ("2026-01-01T02:10:00+02:00", "2026-01-01T00:10:00Z"),
            ("2025-12-31T19:10:00.25-05:00", "2026-01-01T00:10:00.250000000Z"),
            ("2026-01-01T05:40:00+05:30", "2026-01-01T00:10:00Z"),
            ("2026-01-01T23:59:00+23:59", "2026-01-01T00:00:00Z"),
        ] {
            assert_eq!(
                parse(text).map(|time| format_rfc3339(time).to_string()).as_deref(),
                Some(utc),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_time_is_not_read() {
        for text in [
            "",
            "soon",
            "+02:00",
            "2026-01-01T00:10:00",
            "2026-01-01T00:10:00+2:00",
            "2026-01-01T00:10:00+0200",
            "2026-01-01T00:10:00+24:00",
            "2026-01-01T00:10:00+02:60",
            "2026-01-01T00:10:00++2:00",
            "2026-01-01T00:10:00 02:00",
            "2026-01-01T00:10:00Z+02:00",
            "2026-01-01T00:10:00+00:00Z",
            "2026-01-01T00:10:00ZZ",
            "2026-13-01T00:10:00+02:00",
            "2026-01-01Tää:00:00ZZ",
            "2026-01-01T00:10:00+0ä:00",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
