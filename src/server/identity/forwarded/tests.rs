//! Tests of the forwarded identities. Only the last element of x-forwarded-client-cert has an identity.

use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest},
};

use super::{Element, InvalidXfcc, dns, linkerd_identity, workload_identity, xfcc_identity};

const CONSOLE: &str = "spiffe://corp.example/ns/mdm/sa/console";

fn identity_of(header: &str) -> Result<Option<String>, InvalidXfcc> {
    xfcc_identity(header.as_bytes()).map(|id| id.map(|id| id.to_string()))
}

#[test]
fn the_last_element_names_the_caller() {
    for (header, id) in [
        ("URI=spiffe://corp.example/ns/mdm/sa/console", CONSOLE),
        ("uri=\"spiffe://corp.example/ns/mdm/sa/console\"", CONSOLE),
        // The format of Istio.
        (
            "By=spiffe://corp.example/ns/mdm/sa/proxy;Hash=4680\
             ;Subject=\"\";URI=spiffe://corp.example/ns/mdm/sa/console",
            CONSOLE,
        ),
        // The example of Envoy's documentation, with other elements before the proxy's element.
        (
            "By=http://frontend.lyft.com;Hash=468e;Subject=\"/C=US/ST=CA/L=San \\\"Francisco\\\"/CN=x\"\
             ;URI=spiffe://evil/a,By=b;DNS=evil.example, Hash=9ba6;DNS=Console.corp.example;dns=b.example",
            "dns:console.corp.example",
        ),
        ("URI=https://corp.example/?a=b;DNS=a.example", "dns:a.example"),
        ("URI=;DNS=a.example", "dns:a.example"),
        ("URI=;URI=\"\";URI=spiffe://corp.example/x", "spiffe://corp.example/x"),
        ("DNS=*.example;DNS=a.example", "dns:a.example"),
        ("Subject=\"a\\,b\\\\\";Chain=\"URI=spiffe://evil/x,\";DNS=a.example ", "dns:a.example"),
    ] {
        assert_eq!(identity_of(header), Ok(Some(id.to_owned())), "{header}");
    }
}

#[test]
fn an_element_without_a_name_has_no_identity() {
    for header in [
        "Hash=1",
        "Subject=\"CN=spiffe://corp.example/x\"",
        "URI=",
        "DNS=",
        "URI=https://a.example",
        "By=spiffe://a/b",
        "XURI=spiffe://a/b",
        "URI=spiffe://a/b,Hash=1",
        "DNS=*.example",
        "URI=SPIFFE://a/b",
    ] {
        assert_eq!(identity_of(header), Ok(None), "{header}");
    }
}

#[test]
fn a_malformed_element_anywhere_is_an_error() {
    for header in [
        "",
        ",",
        "URI",
        "=a",
        "=",
        "URI=spiffe://a/b,",
        ",URI=spiffe://a/b",
        "URI=spiffe://a/b;",
        "URI=spiffe://a/b;;Hash=1",
        "Hash=\"1,URI=spiffe://a/b",
        "Hash=1\",URI=spiffe://a/b",
        "Hash=\"1\"2,URI=spiffe://a/b",
        "Hash=\\,URI=spiffe://a/b",
        "Hash=\"\\",
        "Hash=\"\\\",URI=spiffe://a/b",
        "U RI=spiffe://a/b",
        "\u{dc}=1",
    ] {
        assert_eq!(identity_of(header), Err(InvalidXfcc::Form), "{header}");
    }
    let two = "URI=spiffe://corp.example/a;URI=spiffe://corp.example/a";
    assert_eq!(identity_of(two), Err(InvalidXfcc::SeveralUris));
    assert_eq!(identity_of(&format!("{two},DNS=a.example")), Ok(Some("dns:a.example".to_owned())));
}

/// A value in the format of proxies: quoted if necessary or if `always_quote` is true.
fn written(value: &str, always_quote: bool) -> String {
    let special = value.contains([',', ';', '=', '"', '\\']) || value.trim_ascii() != value;
    if !(special || always_quote) {
        return value.to_owned();
    }
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Values of special and plain characters.
fn value() -> impl Strategy<Value = String> {
    prop_oneof!["[,;=\"\\\\ aDNSURI/:.]{0,20}", Just(CONSOLE.to_owned()), Just("a.example".to_owned())]
}

fn key() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("By"), Just("Hash"), Just("Subject"), Just("URI"), Just("uri"), Just("DNS")]
}

type Pairs = Vec<(&'static str, String)>;

/// An element, and its text.
fn element() -> impl Strategy<Value = (Pairs, String)> {
    vec((key(), value(), any::<bool>()), 1..6).prop_map(|pairs| {
        let text = pairs.iter().map(|(key, value, always)| format!("{key}={}", written(value, *always)));
        let text = text.collect::<Vec<_>>().join(";");
        (pairs.into_iter().map(|(key, value, _)| (key, value)).collect(), text)
    })
}

proptest! {
    #[test]
    fn written_elements_are_parsed_back(elements in vec(element(), 1..4)) {
        let header = elements.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join(",");
        let mut rest = Some(header.as_bytes());
        for (pairs, _) in &elements {
            let (element, more) = Element::read(rest.expect("another element")).expect("well formed");
            let of = |wanted: &str| {
                let named = pairs.iter().filter(move |(key, value)| {
                    key.eq_ignore_ascii_case(wanted) && !value.is_empty()
                });
                named.map(|(_, value)| value.as_bytes().to_vec()).collect::<Vec<_>>()
            };
            prop_assert_eq!(element.uris, of("uri"));
            prop_assert_eq!(element.dns, of("dns"));
            rest = more;
        }
        prop_assert!(rest.is_none());
    }

    #[test]
    fn no_text_before_the_last_element_changes_its_identity(
        before in prop_oneof!["\\PC{0,40}", "[,;=\"\\\\aURIspiffe:/]{0,40}"],
        (_, last) in element(),
    ) {
        let joined = xfcc_identity(format!("{before},{last}").as_bytes());
        prop_assert!(
            matches!(joined, Err(InvalidXfcc::Form)) || joined == xfcc_identity(last.as_bytes()),
            "{before},{last}: {joined:?}"
        );
    }

    #[test]
    fn an_identity_is_a_part_of_the_header(header in vec(any::<u8>(), 0..80)) {
        if let Ok(Some(id)) = xfcc_identity(&header) {
            let header = header.to_ascii_lowercase();
            let id = id.to_string().to_ascii_lowercase();
            let name = id.strip_prefix("dns:").unwrap_or(&id);
            prop_assert!(header.windows(name.len()).any(|part| part == name.as_bytes()));
        }
    }
}

#[test]
fn l5d_client_id_is_one_dns_name_or_spiffe_id() {
    for (value, id) in [
        (
            "console.mdm.serviceaccount.identity.linkerd.cluster.local",
            "dns:console.mdm.serviceaccount.identity.linkerd.cluster.local",
        ),
        ("spiffe://root.linkerd.cluster.local/vm", "spiffe://root.linkerd.cluster.local/vm"),
    ] {
        assert_eq!(linkerd_identity(value.as_bytes()).map(|id| id.to_string()).as_deref(), Some(id));
    }
    for value in [&b""[..], b"a b", b"a,b", b"spiffe://", b"https://corp.example", b"\xff"] {
        assert_eq!(linkerd_identity(value), None, "{value:?}");
    }
}

#[test]
fn a_dns_name_is_case_insensitive() {
    let known = dns("Console.Corp.Example").expect("a name");
    assert_eq!(known.to_string(), "dns:console.corp.example");
    assert_eq!(workload_identity("dns:CONSOLE.corp.example"), Some(known));
}

#[test]
fn a_workload_has_a_spiffe_id_or_a_dns_name() {
    let id = workload_identity("spiffe://corp.example/proxy").expect("a SPIFFE ID");
    assert_eq!(id.to_string(), "spiffe://corp.example/proxy");
    for text in ["corp.example", "dns:*.corp.example", "unix:0", "anonymous", "spiffe://", ""] {
        assert_eq!(workload_identity(text), None, "{text}");
    }
}
