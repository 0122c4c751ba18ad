//! Summarizes a certificate for operators: its names and its validity.

use std::{
    net::IpAddr,
    path::Path,
    time::{Duration, SystemTime},
};

use rustls::pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, parse_x509_certificate};

use crate::{file_watch, pem};

const DAY: u64 = 24 * 60 * 60;

/// A certificate with less time than this expires soon. Automatic renewal happens earlier.
const EXPIRY_WARNING: Duration = Duration::from_secs(14 * DAY);

/// A certificate's names and validity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertSummary {
    /// The subject, and the alternative names, each with its kind.
    pub subject: String,
    /// The validity period.
    pub validity: Validity,
    /// The state of the validity period now.
    pub state: ValidityState,
}

/// The validity period of a certificate, or the intersection of those of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    start: SystemTime,
    end: SystemTime,
}

/// The state of a validity period at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValidityState {
    /// The period has not started.
    NotYet,
    /// The period ends in 14 days or more.
    Valid {
        /// The whole days until the end.
        days_left: u64,
    },
    /// The period ends in less than 14 days.
    ExpiresSoon {
        /// The whole days until the end.
        days_left: u64,
    },
    /// The period has ended.
    Expired,
}

/// Summarizes the certificates in the PEM file `path`, in their order. Blocks.
///
/// # Errors
///
/// The file cannot be read, has no certificate, or has a malformed one. The text never quotes the content.
pub fn of_file(path: &Path) -> Result<Vec<CertSummary>, String> {
    let content = file_watch::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    let certificates = pem::certificates(&content).map_err(|error| error.to_string())?;
    certificates.iter().map(CertSummary::new).collect()
}

impl CertSummary {
    fn new(certificate: &CertificateDer<'_>) -> Result<Self, String> {
        let validity = Validity::of_chain(std::slice::from_ref(certificate))?;
        let (_, parsed) = parse_x509_certificate(certificate).map_err(|_| "holds a malformed certificate")?;
        Ok(Self { subject: subject(&parsed), validity, state: validity.at(SystemTime::now()) })
    }
}

fn subject(certificate: &X509Certificate<'_>) -> String {
    let subject = certificate.subject().to_string();
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map_or(&[][..], |extension| &extension.value.general_names);
    let known = names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(format!("dns:{name}")),
        // The scheme of a URI is its kind.
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        GeneralName::IPAddress(octets) => ip_address(octets).map(|address| format!("ip:{address}")),
        _ => None,
    });
    let all: Vec<_> = Some(subject).filter(|subject| !subject.is_empty()).into_iter().chain(known).collect();
    if all.is_empty() { "no name".to_owned() } else { all.join(", ") }
}

/// Four octets, or sixteen (RFC 5280, section 4.2.1.6).
fn ip_address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(Into::into);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(Into::into)).ok()
}

impl Validity {
    /// The period in which all certificates of `chain` are valid. The error has the number of a certificate that
    /// cannot be parsed.
    pub(super) fn of_chain(chain: &[CertificateDer<'_>]) -> Result<Self, String> {
        let mut validity = Self { start: SystemTime::UNIX_EPOCH, end: unix_time(u64::MAX) };
        for (index, certificate) in chain.iter().enumerate() {
            let (_, parsed) = parse_x509_certificate(certificate)
                .map_err(|_| format!("certificate {} is malformed", index + 1))?;
            // A time before 1970 counts as 1970.
            let at = |timestamp: i64| unix_time(u64::try_from(timestamp).unwrap_or(0));
            validity.start = validity.start.max(at(parsed.validity().not_before.timestamp()));
            validity.end = validity.end.min(at(parsed.validity().not_after.timestamp()));
        }
        Ok(validity)
    }

    /// The end, as RFC 3339 in UTC.
    #[must_use]
    pub fn end(&self) -> humantime::Rfc3339Timestamp {
        humantime::format_rfc3339_seconds(self.end)
    }

    /// The end, in seconds since the Unix epoch.
    pub(super) fn end_seconds(&self) -> i64 {
        let end = self.end.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // `unix_time` limits the seconds.
        end.as_secs().try_into().unwrap_or(i64::MAX)
    }

    pub(super) fn at(&self, now: SystemTime) -> ValidityState {
        if now < self.start {
            return ValidityState::NotYet;
        }
        match self.end.duration_since(now) {
            Err(_) => ValidityState::Expired,
            Ok(left) => {
                let days_left = left.as_secs() / DAY;
                if left < EXPIRY_WARNING {
                    ValidityState::ExpiresSoon { days_left }
                } else {
                    ValidityState::Valid { days_left }
                }
            }
        }
    }
}

/// A time in seconds since the Unix epoch, at most the end of the year 9999, which is the maximum of humantime and
/// X.509.
fn unix_time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(253_402_300_799))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType, date_time_ymd};

    use super::*;

    fn signed(common_name: Option<&str>, names: Vec<SanType>, end: SystemTime) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.subject_alt_names = names;
        params.not_after = end.into();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[test]
    fn a_summary_has_the_names_and_the_days_left() {
        let names = vec![
            SanType::DnsName("a.test".try_into().unwrap()),
            SanType::IpAddress([127, 0, 0, 1].into()),
            SanType::URI("spiffe://corp.example/a".try_into().unwrap()),
        ];
        let (now, hour, day) = (SystemTime::now(), Duration::from_secs(3600), Duration::from_secs(DAY));
        let file = tempfile::NamedTempFile::new().unwrap();
        let all = [
            signed(Some("a"), names, now + 100 * day + hour),
            signed(Some("CA"), vec![], now + 3 * day + hour),
            signed(None, vec![], now - hour),
        ];
        std::fs::write(file.path(), all.concat()).unwrap();
        let summaries: Vec<_> = of_file(file.path())
            .unwrap()
            .into_iter()
            .map(|certificate| (certificate.subject, certificate.state))
            .collect();
        assert_eq!(
            summaries,
            [
                (
                    "CN=a, dns:a.test, ip:127.0.0.1, spiffe://corp.example/a".to_owned(),
                    ValidityState::Valid { days_left: 100 }
                ),
                ("CN=CA".to_owned(), ValidityState::ExpiresSoon { days_left: 3 }),
                ("no name".to_owned(), ValidityState::Expired),
            ]
        );
    }

    #[test]
    fn an_error_of_a_file_does_not_quote_its_content() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
            .unwrap();
        assert!(of_file(file.path()).unwrap_err().contains("malformed"));
        std::fs::write(file.path(), pem::KEY_ON_ONE_LINE).unwrap();
        let error = of_file(file.path()).unwrap_err();
        assert!(error.starts_with("is not PEM") && !pem::shows_the_key(&error), "{error}");
        assert!(of_file("/nowhere".as_ref()).unwrap_err().starts_with("cannot be read: "));
    }

    fn validity(from: (i32, u8, u8), until: (i32, u8, u8)) -> Validity {
        let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(until.0, until.1, until.2);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Validity::of_chain(&[certificate.der().clone()]).unwrap()
    }

    #[test]
    fn the_state_has_the_whole_days_left() {
        let validity = validity((2030, 1, 1), (2030, 2, 1));
        assert_eq!(validity.end().to_string(), "2030-02-01T00:00:00Z");
        let at = |text: &str| validity.at(humantime::parse_rfc3339(text).unwrap());
        assert_eq!(at("2029-12-31T23:59:59Z"), ValidityState::NotYet);
        assert_eq!(at("2030-01-01T00:00:00Z"), ValidityState::Valid { days_left: 31 });
        assert_eq!(at("2030-01-18T00:00:00Z"), ValidityState::Valid { days_left: 14 });
        assert_eq!(at("2030-01-18T00:00:01Z"), ValidityState::ExpiresSoon { days_left: 13 });
        assert_eq!(at("2030-01-31T12:00:00Z"), ValidityState::ExpiresSoon { days_left: 0 });
        assert_eq!(at("2030-02-01T00:00:01Z"), ValidityState::Expired);
    }

    #[test]
    fn a_validity_from_before_1970_until_9999_is_valid() {
        let validity = validity((1950, 1, 1), (9999, 12, 31));
        assert!(matches!(validity.at(SystemTime::now()), ValidityState::Valid { .. }));
    }
}
