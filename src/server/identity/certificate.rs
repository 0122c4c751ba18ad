//! Whom a client certificate names. That it is genuine was found out in the TLS handshake.

use rustls::pki_types::CertificateDer;
use x509_parser::{der_parser::asn1_rs::Tag, extensions::GeneralName, parse_x509_certificate};

use super::names;
use crate::caller::Identity;

/// The tag of a URI among the alternative names (RFC 5280, section 4.2.1.6).
const URI: Tag = Tag(6);

/// Whom a verified leaf certificate names by its subject alternative names: its URI when that is a SPIFFE
/// ID, then those of its DNS names that are no wildcards, in their order. Its caller is the first of them;
/// there is none when it names nobody in these ways.
///
/// With several URIs a certificate is no SPIFFE document, whatever they are (X509-SVID, section 2), and
/// its DNS names alone count. The subject's common name never does (RFC 9525, section 2).
#[must_use]
pub fn identities(leaf: &CertificateDer<'_>) -> Vec<Identity> {
    let parsed = parse_x509_certificate(leaf);
    let names = parsed.as_ref().ok().map(|(_, certificate)| certificate.subject_alternative_name());
    let Some(Ok(names)) = names else {
        tracing::debug!("a client certificate was verified and cannot be read: it names nobody");
        return Vec::new();
    };
    let names = names.map_or(&[][..], |extension| &extension.value.general_names);
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        // One that is no text is a URI all the same, and stands in the way of another.
        GeneralName::Invalid(URI, _) => Some(""),
        _ => None,
    });
    let spiffe = match (uris.next(), uris.next()) {
        (Some(only), None) => names::spiffe(only),
        _ => None,
    };
    let dns = names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => names::dns(name),
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

    /// Whom a certificate with these names names.
    fn all_named(names: Vec<SanType>) -> Vec<String> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, "common.name.example");
        parameters.subject_alt_names = names;
        let certificate = parameters.self_signed(&KeyPair::generate().unwrap()).unwrap();
        identities(certificate.der()).iter().map(ToString::to_string).collect()
    }

    /// Whose certificate it is.
    fn named(names: Vec<SanType>) -> Option<String> {
        all_named(names).into_iter().next()
    }

    #[test]
    fn a_spiffe_id_comes_before_dns_names() {
        let names = vec![dns("console.corp.example"), uri("spiffe://corp.example/ns/mdm/sa/console")];
        assert_eq!(named(names).as_deref(), Some("spiffe://corp.example/ns/mdm/sa/console"));
    }

    #[test]
    fn of_several_dns_names_the_first_that_is_no_wildcard_counts() {
        let names = vec![dns("*.corp.example"), dns("B.corp.example"), dns("a.corp.example")];
        assert_eq!(named(names).as_deref(), Some("dns:b.corp.example"));
    }

    #[test]
    fn all_that_it_names_is_known() {
        let names = vec![dns("*.corp.example"), dns("B.corp.example"), uri("spiffe://corp.example/a")];
        let more = vec![dns("a.corp.example")];
        assert_eq!(
            all_named([names, more].concat()),
            ["spiffe://corp.example/a", "dns:b.corp.example", "dns:a.corp.example"]
        );
    }

    #[test]
    fn several_uris_make_no_spiffe_id() {
        let ids = || vec![uri("spiffe://corp.example/a"), uri("spiffe://corp.example/b")];
        assert_eq!(named(ids()), None);
        assert_eq!(named(vec![uri("https://corp.example"), uri("spiffe://corp.example/b")]), None);
        let names = [ids(), vec![dns("a.corp.example")]].concat();
        assert_eq!(named(names).as_deref(), Some("dns:a.corp.example"));
    }

    #[test]
    fn what_names_nobody_is_no_identity() {
        let email = SanType::Rfc822Name("console@corp.example".try_into().unwrap());
        let address = SanType::IpAddress([10, 0, 0, 1].into());
        for names in [
            vec![],
            vec![email, address],
            vec![dns("*.corp.example")],
            vec![uri("https://corp.example/")],
            vec![uri("spiffe://corp.example/a b")],
        ] {
            assert_eq!(named(names.clone()), None, "{names:?}");
        }
        assert_eq!(identities(&CertificateDer::from_slice(b"\x30\x03garbage")), []);
    }
}
