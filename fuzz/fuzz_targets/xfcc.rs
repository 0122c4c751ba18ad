//! The parser of x-forwarded-client-cert: nothing but the last element, the mesh proxy's own word, can say who
//! calls, whatever a caller put before it.
#![no_main]

use countermand::{caller::Identity, server::identity::forwarded::xfcc_identity};
use libfuzzer_sys::fuzz_target;

/// What a proxy appends, the identity in it being nobody whom a fuzzer would find by itself.
const APPENDED: &str = "By=spiffe://mesh.example/proxy;Hash=0123456789abcdef;Subject=\"CN=\\\"quoted\\\", O=a;b\";\
                        URI=spiffe://mesh.example/the-last-word";

fuzz_target!(|header: &[u8]| {
    if let Ok(Some(identity)) = xfcc_identity(header) {
        let stated = match &identity {
            Identity::Spiffe(id) => id.as_str(),
            Identity::Dns(name) => name.as_str(),
            other => panic!("{other} is stated by no certificate"),
        };
        // It stands in the header, but for the case of a name and the escapes of a quoted value.
        let plain: Vec<u8> = header.iter().filter(|byte| **byte != b'\\').map(u8::to_ascii_lowercase).collect();
        let wanted = stated.to_ascii_lowercase();
        assert!(plain.windows(wanted.len()).any(|found| found == wanted.as_bytes()), "{identity}");
    }
    let appended = [header, b",", APPENDED.as_bytes()].concat();
    if let Ok(identity) = xfcc_identity(&appended) {
        let identity = identity.map(|identity| identity.to_string());
        assert_eq!(identity.as_deref(), Some("spiffe://mesh.example/the-last-word"));
    }
});
