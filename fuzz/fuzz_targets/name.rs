//! Fuzzes the parsers of names. A URL contains a valid name unchanged, and the parts of the name match its text.
#![no_main]

use countermand::name::{DeviceName, ListParent, OperationName};
use libfuzzer_sys::fuzz_target;
use url::Url;

fuzz_target!(|text: &str| {
    if let Ok(name) = OperationName::parse(text) {
        assert_eq!(name.as_str(), text);
        assert_unchanged_in_url(text);
        let device = name.device();
        assert_eq!(device.enterprise(), name.enterprise());
        assert_eq!(DeviceName::parse(device.as_str()).as_ref(), Ok(&device));
    }
    if let Ok(device) = DeviceName::parse(text) {
        assert!(text == device.as_str() || text == format!("{device}/operations"));
        assert_unchanged_in_url(device.as_str());
        assert!(device.as_str().starts_with(&format!("enterprises/{}/devices/", device.enterprise())));
        let operation = format!("{device}/operations/17");
        assert!(OperationName::parse(&operation).is_ok_and(|operation| operation.device() == device));
    }
    match ListParent::parse(text) {
        Ok(ListParent::Device(device)) => assert_eq!(DeviceName::parse(text), Ok(device)),
        Ok(ListParent::AllDevices(enterprise)) => {
            assert!(DeviceName::parse(text).is_err());
            let all = format!("{enterprise}/devices/-");
            assert!(text == all || text == format!("{all}/operations"));
            assert_eq!(enterprise.as_str(), format!("enterprises/{}", enterprise.id()));
            assert_unchanged_in_url(enterprise.as_str());
            assert!(enterprise.device("17").is_ok_and(|device| device.enterprise() == enterprise.id()));
        }
        Err(_) => assert!(DeviceName::parse(text).is_err()),
    }
});

/// Asserts that a URL parser reads the name unchanged as a part of the path.
fn assert_unchanged_in_url(name: &str) {
    let url = Url::parse(&format!("https://host/v1/{name}")).expect("a URL");
    assert_eq!(url.path(), format!("/v1/{name}"));
    assert_eq!((url.query(), url.fragment()), (None, None));
    for segment in name.split('/') {
        assert!(!matches!(segment, "" | "." | ".." | "-"), "{name}");
    }
}
