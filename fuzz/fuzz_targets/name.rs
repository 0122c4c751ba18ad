//! The parser of names: what it lets in stands in a URL as it is, and names what it seems to name.
#![no_main]

use countermand::name::{DeviceName, OperationName};
use libfuzzer_sys::fuzz_target;
use url::Url;

fuzz_target!(|text: &str| {
    if let Ok(name) = OperationName::parse(text) {
        assert_eq!(name.as_str(), text);
        stands_in_a_url(text);
        let device = name.device();
        assert_eq!(device.enterprise(), name.enterprise());
        assert_eq!(DeviceName::parse(device.as_str()).as_ref(), Ok(&device));
    }
    if let Ok(device) = DeviceName::parse(text) {
        assert!(text == device.as_str() || text == format!("{device}/operations"));
        stands_in_a_url(device.as_str());
        assert!(device.as_str().starts_with(&format!("enterprises/{}/devices/", device.enterprise())));
        let operation = format!("{device}/operations/17");
        assert!(OperationName::parse(&operation).is_ok_and(|operation| operation.device() == device));
    }
});

/// A parser of URLs takes nothing out of it, and nothing of it for something else than a path.
fn stands_in_a_url(name: &str) {
    let url = Url::parse(&format!("https://host/v1/{name}")).expect("a URL");
    assert_eq!(url.path(), format!("/v1/{name}"));
    assert_eq!((url.query(), url.fragment()), (None, None));
    for segment in name.split('/') {
        assert!(!matches!(segment, "" | "." | ".." | "-"), "{name}");
    }
}
