//! Fuzzes the parser of x-forwarded-client-cert. Only the last element, which the mesh proxy appends, determines the
//! identity, regardless of the elements before it.
#![no_main]

use countermand::{caller::Identity, server::identity::forwarded::xfcc_identity};
use libfuzzer_sys::fuzz_target;

/// The element that a proxy appends. A fuzzer is unlikely to generate its identity.
const APPENDED: &str = "By=spiffe://mesh.example/proxy;Hash=0123456789abcdef;Subject=\"CN=\\\"quoted\\\", O=a;b\";\
                        URI=spiffe://mesh.example/last-element";

fuzz_target!(|header: &[u8]| {
    if let Ok(Some(identity)) = xfcc_identity(header) {
        let text = match &identity {
            Identity::Spiffe(id) => id.as_str(),
            Identity::Dns(name) => name.as_str(),
            other => panic!("no certificate has the identity {other}"),
        };
        // The header contains the identity, except for the case of a name and the escapes of a quoted value.
        let plain: Vec<u8> = header.iter().filter(|byte| **byte != b'\\').map(u8::to_ascii_lowercase).collect();
        let wanted = text.to_ascii_lowercase();
        assert!(plain.windows(wanted.len()).any(|found| found == wanted.as_bytes()), "{identity}");
    }
    let appended = [header, b",", APPENDED.as_bytes()].concat();
    if let Ok(identity) = xfcc_identity(&appended) {
        let identity = identity.map(|identity| identity.to_string());
        assert_eq!(identity.as_deref(), Some("spiffe://mesh.example/last-element"));
    }
});
