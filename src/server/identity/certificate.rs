//! The identities in a client certificate, which the TLS handshake has verified.

use rustls::pki_types::CertificateDer;
use x509_parser::{der_parser::asn1_rs::Tag, extensions::GeneralName, parse_x509_certificate};

use super::forwarded;
use crate::caller::Identity;

/// The tag of a URI in the subject alternative names (RFC 5280, section 4.2.1.6).
const URI: Tag = Tag(6);

/// The identities in the subject alternative names of a verified leaf certificate: the URI when it is a SPIFFE
/// ID, then the DNS names without wildcards, in their order. The first of them is the caller.
///
/// A certificate with several URIs is not an X509-SVID (X509-SVID, section 2), so only its DNS names are used. The
/// subject's common name is never used (RFC 9525, section 2).
#[must_use]
pub fn identities(leaf: &CertificateDer<'_>) -> Vec<Identity> {
    let parsed = parse_x509_certificate(leaf);
    let names = parsed.as_ref().ok().map(|(_, certificate)| certificate.subject_alternative_name());
    let Some(Ok(names)) = names else {
        tracing::debug!("failed to parse a verified client certificate: it has no identity");
        return Vec::new();
    };
    let names = names.map_or(&[][..], |extension| &extension.value.general_names);
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        // An undecodable URI counts as a URI, because the certificate then has several URIs.
        GeneralName::Invalid(URI, _) => Some(""),
        _ => None,
    });
    let spiffe = match (uris.next(), uris.next()) {
        (Some(only), None) => forwarded::spiffe(only),
        _ => None,
    };
    let dns = names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => forwarded::dns(name),
        _ => None,
    });
    spiffe.into_iter().chain(dns).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};
    use rustls::pki_types::CertificateDer;

    use super::identities;

    fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().unwrap())
    }

    fn uri(uri: &str) -> SanType {
        SanType::URI(uri.try_into().unwrap())
    }

    /// The identities of a certificate with these names.
    fn all_identities(names: Vec<SanType>) -> Vec<String> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, "common.name.example");
        parameters.subject_alt_names = names;
        let certificate = parameters.self_signed(&KeyPair::generate().unwrap()).unwrap();
        identities(certificate.der()).iter().map(ToString::to_string).collect()
    }

    /// The caller of a certificate with these names.
    fn caller(names: Vec<SanType>) -> Option<String> {
        all_identities(names).into_iter().next()
    }

    #[test]
    fn a_spiffe_id_comes_before_dns_names() {
        let names = vec![dns("console.corp.example"), uri("spiffe://corp.example/ns/mdm/sa/console")];
        assert_eq!(caller(names).as_deref(), Some("spiffe://corp.example/ns/mdm/sa/console"));
    }

    #[test]
    fn the_first_dns_name_without_a_wildcard_is_the_caller() {
        let names = vec![dns("*.corp.example"), dns("B.corp.example"), dns("a.corp.example")];
        assert_eq!(caller(names).as_deref(), Some("dns:b.corp.example"));
    }

    #[test]
    fn all_identities_are_returned() {
        let names = vec![dns("*.corp.example"), dns("B.corp.example"), uri("spiffe://corp.example/a")];
        let more = vec![dns("a.corp.example")];
        assert_eq!(
            all_identities([names, more].concat()),
            ["spiffe://corp.example/a", "dns:b.corp.example", "dns:a.corp.example"]
        );
    }

    #[test]
    fn several_uris_are_not_a_spiffe_id() {
        let ids = || vec![uri("spiffe://corp.example/a"), uri("spiffe://corp.example/b")];
        assert_eq!(caller(ids()), None);
        assert_eq!(caller(vec![uri("https://corp.example"), uri("spiffe://corp.example/b")]), None);
        let names = [ids(), vec![dns("a.corp.example")]].concat();
        assert_eq!(caller(names).as_deref(), Some("dns:a.corp.example"));
    }

    #[test]
    fn a_certificate_without_a_spiffe_id_or_dns_name_has_no_identity() {
        let email = SanType::Rfc822Name("console@corp.example".try_into().unwrap());
        let address = SanType::IpAddress([10, 0, 0, 1].into());
        for names in [
            vec![],
            vec![email, address],
            vec![dns("*.corp.example")],
            vec![uri("https://corp.example/")],
            vec![uri("spiffe://corp.example/a b")],
        ] {
            assert_eq!(caller(names.clone()), None, "{names:?}");
        }
        assert_eq!(identities(&CertificateDer::from_slice(b"\x30\x03garbage")), []);
    }
}
