//! Certificates as an operator knows them: by whom they name, and by the days that they have left.

use std::{fs, path::Path, time::SystemTime};

use rustls::pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, parse_x509_certificate};

use super::validity::{State, Validity};
use crate::pem;

/// A certificate of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Whom it is of: its subject, and its alternative names where it has any, each after its kind.
    pub subject: String,
    /// How long it holds.
    pub validity: Validity,
    /// How things stand with that now.
    pub state: State,
}

/// The certificates in the PEM file `path`, in their order. Blocks.
///
/// # Errors
///
/// The file cannot be read, holds none, or something that is no certificate; the text says which, and quotes
/// nothing of it.
pub fn certificates(path: &Path) -> Result<Vec<Described>, String> {
    let content = fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    let certificates = pem::certificates(&content).map_err(|error| error.to_string())?;
    certificates.iter().map(described).collect()
}

fn described(certificate: &CertificateDer<'_>) -> Result<Described, String> {
    let validity = Validity::of(std::slice::from_ref(certificate))?;
    let (_, parsed) = parse_x509_certificate(certificate).map_err(|_| "holds a malformed certificate")?;
    Ok(Described { subject: subject(&parsed), validity, state: validity.at(SystemTime::now()) })
}

fn subject(certificate: &X509Certificate<'_>) -> String {
    let subject = certificate.subject().to_string();
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map_or(&[][..], |extension| &extension.value.general_names);
    let known = names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(format!("dns:{name}")),
        // That of a SPIFFE ID says itself what it is.
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        GeneralName::IPAddress(octets) => address(octets).map(|address| format!("ip:{address}")),
        _ => None,
    });
    let all: Vec<_> = Some(subject).filter(|subject| !subject.is_empty()).into_iter().chain(known).collect();
    if all.is_empty() { "nobody in particular".to_owned() } else { all.join(", ") }
}

/// Four octets, or sixteen (RFC 5280, section 4.2.1.6).
fn address(octets: &[u8]) -> Option<std::net::IpAddr> {
    let of_four = <[u8; 4]>::try_from(octets).map(Into::into);
    of_four.or_else(|_| <[u8; 16]>::try_from(octets).map(Into::into)).ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::{State, certificates};
    use crate::pem;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

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
    fn each_is_told_with_its_names_and_its_days() {
        let names = vec![
            SanType::DnsName("a.test".try_into().unwrap()),
            SanType::IpAddress([127, 0, 0, 1].into()),
            SanType::URI("spiffe://corp.example/a".try_into().unwrap()),
        ];
        let (now, hour) = (SystemTime::now(), DAY / 24);
        let file = tempfile::NamedTempFile::new().unwrap();
        let all = [
            signed(Some("a"), names, now + 100 * DAY + hour),
            signed(Some("CA"), vec![], now + 3 * DAY + hour),
            signed(None, vec![], now - hour),
        ];
        std::fs::write(file.path(), all.concat()).unwrap();
        let told: Vec<_> = certificates(file.path())
            .unwrap()
            .into_iter()
            .map(|certificate| (certificate.subject, certificate.state))
            .collect();
        assert_eq!(
            told,
            [
                (
                    "CN=a, dns:a.test, ip:127.0.0.1, spiffe://corp.example/a".to_owned(),
                    State::Fresh { days_left: 100 }
                ),
                ("CN=CA".to_owned(), State::EndsSoon { days_left: 3 }),
                ("nobody in particular".to_owned(), State::Expired),
            ]
        );
    }

    #[test]
    fn what_is_no_certificate_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
            .unwrap();
        assert!(certificates(file.path()).unwrap_err().contains("malformed"));
        std::fs::write(file.path(), pem::KEY_ON_ONE_LINE).unwrap();
        let told = certificates(file.path()).unwrap_err();
        assert!(told.starts_with("is not PEM") && !pem::shows_the_key(&told), "{told}");
        assert!(certificates("/nowhere".as_ref()).unwrap_err().starts_with("cannot be read: "));
    }
}
