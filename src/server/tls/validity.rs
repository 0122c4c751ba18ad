//! From when until when a certificate holds.

use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use x509_parser::parse_x509_certificate;

/// From here on the operator is reminded: what renews certificates by itself has long done so.
const SOON: Duration = Duration::from_secs(14 * DAY);
const DAY: u64 = 24 * 60 * 60;

/// The validity of a certificate; with several that vouch for one another, the time that all are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    begin: SystemTime,
    end: SystemTime,
}

/// How things stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    NotYet,
    Fresh,
    EndsSoon { days_left: u64 },
    Expired,
}

impl Validity {
    /// Reads that of `chain`; says what is wrong with a certificate that cannot be parsed.
    pub(super) fn of(chain: &[CertificateDer<'_>]) -> Result<Self, String> {
        let mut whole = Self { begin: SystemTime::UNIX_EPOCH, end: later(u64::MAX) };
        for (index, certificate) in chain.iter().enumerate() {
            let (_, parsed) = parse_x509_certificate(certificate)
                .map_err(|_| format!("certificate {} is malformed", index + 1))?;
            let validity = parsed.validity();
            // Before 1970 is as good as in 1970.
            let at = |timestamp: i64| later(u64::try_from(timestamp).unwrap_or(0));
            whole.begin = whole.begin.max(at(validity.not_before.timestamp()));
            whole.end = whole.end.min(at(validity.not_after.timestamp()));
        }
        Ok(whole)
    }

    /// When it ends, as RFC 3339 has it, in UTC.
    #[must_use]
    pub fn end(&self) -> humantime::Rfc3339Timestamp {
        humantime::format_rfc3339_seconds(self.end)
    }

    pub(super) fn at(&self, now: SystemTime) -> State {
        if now < self.begin {
            return State::NotYet;
        }
        match self.end.duration_since(now) {
            Err(_) => State::Expired,
            Ok(left) if left < SOON => State::EndsSoon { days_left: left.as_secs() / DAY },
            Ok(_) => State::Fresh,
        }
    }
}

/// The last second that humantime can write is that of the year 9999, which is X.509's as well.
fn later(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(253_402_300_799))
}
