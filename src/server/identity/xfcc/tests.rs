//! What headers say, and that nobody but the last element says it.

use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest},
};

use super::{Element, Invalid, identity};

const CONSOLE: &str = "spiffe://corp.example/ns/mdm/sa/console";

fn who(header: &str) -> Result<Option<String>, Invalid> {
    identity(header.as_bytes()).map(|id| id.map(|id| id.to_string()))
}

#[test]
fn the_last_element_names_the_caller() {
    for (header, id) in [
        ("URI=spiffe://corp.example/ns/mdm/sa/console", CONSOLE),
        ("uri=\"spiffe://corp.example/ns/mdm/sa/console\"", CONSOLE),
        // As Istio writes it.
        (
            "By=spiffe://corp.example/ns/mdm/sa/proxy;Hash=4680\
             ;Subject=\"\";URI=spiffe://corp.example/ns/mdm/sa/console",
            CONSOLE,
        ),
        // As Envoy's documentation shows it, with elements of others before the proxy's own.
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
        assert_eq!(who(header), Ok(Some(id.to_owned())), "{header}");
    }
}

#[test]
fn an_element_without_a_name_names_nobody() {
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
        assert_eq!(who(header), Ok(None), "{header}");
    }
}

#[test]
fn what_is_malformed_anywhere_is_refused() {
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
        assert_eq!(who(header), Err(Invalid::Form), "{header}");
    }
    let two = "URI=spiffe://corp.example/a;URI=spiffe://corp.example/a";
    assert_eq!(who(two), Err(Invalid::SeveralUris));
    assert_eq!(who(&format!("{two},DNS=a.example")), Ok(Some("dns:a.example".to_owned())));
}

/// A value as proxies write it: in quotes when it has to be, or when `always`.
fn written(value: &str, always: bool) -> String {
    let special = value.contains([',', ';', '=', '"', '\\']) || value.trim_ascii() != value;
    if !(special || always) {
        return value.to_owned();
    }
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Characters that mean something here, and some that do not.
fn value() -> impl Strategy<Value = String> {
    prop_oneof!["[,;=\"\\\\ aDNSURI/:.]{0,20}", Just(CONSOLE.to_owned()), Just("a.example".to_owned())]
}

fn key() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("By"), Just("Hash"), Just("Subject"), Just("URI"), Just("uri"), Just("DNS")]
}

type Pairs = Vec<(&'static str, String)>;

/// An element, and how it is written.
fn element() -> impl Strategy<Value = (Pairs, String)> {
    vec((key(), value(), any::<bool>()), 1..6).prop_map(|pairs| {
        let text = pairs.iter().map(|(key, value, always)| format!("{key}={}", written(value, *always)));
        let text = text.collect::<Vec<_>>().join(";");
        (pairs.into_iter().map(|(key, value, _)| (key, value)).collect(), text)
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(elements in vec(element(), 1..4)) {
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
    fn nobody_before_the_last_element_speaks_for_it(
        before in prop_oneof!["\\PC{0,40}", "[,;=\"\\\\aURIspiffe:/]{0,40}"],
        (_, last) in element(),
    ) {
        let joined = identity(format!("{before},{last}").as_bytes());
        prop_assert!(
            matches!(joined, Err(Invalid::Form)) || joined == identity(last.as_bytes()),
            "{before},{last}: {joined:?}"
        );
    }

    #[test]
    fn an_identity_is_stated_in_the_header(header in vec(any::<u8>(), 0..80)) {
        if let Ok(Some(id)) = identity(&header) {
            let header = header.to_ascii_lowercase();
            let id = id.to_string().to_ascii_lowercase();
            let name = id.strip_prefix("dns:").unwrap_or(&id);
            prop_assert!(header.windows(name.len()).any(|part| part == name.as_bytes()));
        }
    }
}
