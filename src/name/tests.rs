use proptest::prelude::*;

use super::{DeviceName, InvalidName, ListParent, OperationName};

const DEVICE: &str = "enterprises/LC01/devices/d1";
const OPERATION: &str = "enterprises/LC01/devices/d1/operations/17";

#[test]
fn an_operation_name_is_split_into_its_parts() {
    let name = OperationName::parse(OPERATION).expect("valid");
    assert_eq!(name.as_str(), OPERATION);
    assert_eq!((name.enterprise(), name.device_id(), name.operation_id()), ("LC01", "d1", "17"));
    assert_eq!(name.device().as_str(), "enterprises/LC01/devices/d1");
    assert_eq!((name.device().enterprise(), name.device().device_id()), ("LC01", "d1"));
}

#[test]
fn a_device_name_may_end_with_its_collection() {
    for text in ["enterprises/LC01/devices/d1", "enterprises/LC01/devices/d1/operations"] {
        let name = DeviceName::parse(text).expect("valid");
        assert_eq!(name.as_str(), "enterprises/LC01/devices/d1");
        assert_eq!((name.enterprise(), name.device_id()), ("LC01", "d1"));
    }
}

#[test]
fn the_parent_of_a_list_is_a_device_or_all_devices_of_an_enterprise() {
    for text in ["enterprises/LC01/devices/-", "enterprises/LC01/devices/-/operations"] {
        let Ok(ListParent::AllDevices(name)) = ListParent::parse(text) else { panic!("{text}") };
        assert_eq!((name.as_str(), name.id()), ("enterprises/LC01", "LC01"));
        assert_eq!(name.device("d1").map(|device| device.to_string()), Ok(DEVICE.to_owned()));
    }
    for text in [DEVICE, "enterprises/LC01/devices/d1/operations", "enterprises/LC01/devices/--"] {
        assert_eq!(ListParent::parse(text), DeviceName::parse(text).map(ListParent::Device));
    }
    for (text, error) in [
        ("enterprises/-/devices/-", InvalidName::Wildcard("enterprise")),
        ("enterprises/-/devices/d1", InvalidName::Wildcard("enterprise")),
        ("enterprises//devices/-", InvalidName::Segment("enterprise")),
        ("enterprises/a/b/devices/-", InvalidName::Pattern("enterprises/*/devices/*")),
        ("devices/-", InvalidName::Pattern("enterprises/*/devices/*")),
        ("enterprises/LC01/devices/-/operations/-", InvalidName::Wildcard("device")),
        ("enterprises/LC01/devices/-/operations/", InvalidName::Wildcard("device")),
        ("enterprises/LC01/devices/-/operations/operations", InvalidName::Wildcard("device")),
        ("enterprises/LC01/devices/", InvalidName::Segment("device")),
    ] {
        assert_eq!(ListParent::parse(text), Err(error), "{text}");
    }
}

#[test]
fn a_device_of_an_enterprise_has_a_valid_id() {
    let Ok(ListParent::AllDevices(name)) = ListParent::parse("enterprises/LC01/devices/-") else { panic!() };
    for id in ["", "-", "..", "a/b", "d1/operations", "d1/operations/17", "a b"] {
        assert!(name.device(id).is_err(), "{id}");
    }
}

#[test]
fn a_text_that_does_not_match_the_pattern_is_rejected() {
    let mismatch = InvalidName::Pattern("enterprises/*/devices/*/operations/*");
    for text in [
        "",
        "/",
        "operations/1",
        "17",
        "/enterprises/LC01/devices/d1/operations/17",
        "v1/enterprises/LC01/devices/d1/operations/17",
        "enterprises/LC01/devices/d1",
        "enterprises/LC01/devices/d1/operations",
        "enterprises/LC01/devices/d1/operations/17/",
        "enterprises/LC01/devices/d1/operations/17/18",
        "enterprises/LC01/devices/d1/operations/17/../18",
        "enterprises/LC01//devices/d1/operations/17",
        "Enterprises/LC01/devices/d1/operations/17",
        "enterprises/LC01/policies/d1/operations/17",
        "https://evil.example/enterprises/LC01/devices/d1/operations/17",
    ] {
        assert_eq!(OperationName::parse(text), Err(mismatch), "{text}");
    }
}

#[test]
fn a_segment_that_could_change_a_url_is_rejected() {
    let long = "x".repeat(256);
    for segment in [
        "",
        ".",
        "..",
        "%2e%2e",
        "a b",
        "a:cancel",
        "17:cancel",
        "17?x=1",
        "17#x",
        "17;x",
        "a\\b",
        "a%2fb",
        "ä",
        "a\n",
        "a\0",
        "a@b",
        "*",
        "a+b",
        &long,
    ] {
        for (which, text) in [
            ("enterprise", format!("enterprises/{segment}/devices/d1/operations/17")),
            ("device", format!("enterprises/LC01/devices/{segment}/operations/17")),
            ("operation", format!("enterprises/LC01/devices/d1/operations/{segment}")),
        ] {
            assert_eq!(OperationName::parse(&text), Err(InvalidName::Segment(which)), "{text}");
        }
    }
}

#[test]
fn a_wildcard_is_rejected_with_its_segment() {
    let error = OperationName::parse("enterprises/-/devices/d1/operations/17");
    assert_eq!(error, Err(InvalidName::Wildcard("enterprise")));
    let error = DeviceName::parse("enterprises/LC01/devices/-");
    assert_eq!(error, Err(InvalidName::Wildcard("device")));
    assert!(OperationName::parse("enterprises/-a/devices/--/operations/a-").is_ok());
}

#[test]
fn a_segment_of_the_maximum_length_is_valid() {
    let longest = "x".repeat(255);
    let text = format!("enterprises/{longest}/devices/{longest}/operations/{longest}");
    let name = OperationName::parse(&text).expect("valid");
    assert_eq!(name.enterprise(), longest);
}

proptest! {
    #[test]
    fn a_valid_name_is_displayed_unchanged(
        text in r"enterprises/[A-Za-z0-9_.~-]{0,6}/devices/[A-Za-z0-9_.~-]{0,6}/operations/[A-Za-z0-9_.~-]{0,6}",
    ) {
        if let Ok(name) = OperationName::parse(&text) {
            prop_assert_eq!(name.to_string(), text.clone());
            prop_assert_eq!(
                format!("{}/operations/{}", name.device(), text.rsplit('/').next().unwrap_or_default()),
                text
            );
        }
    }

    #[test]
    fn a_valid_name_never_changes_the_path_of_a_url(
        text in prop_oneof![
            ".*",
            r"enterprises/[ -~]{0,8}/devices/[ -~]{0,8}/operations/[ -~]{0,8}",
            r"enterprises/[.%2eE/-]{1,6}/devices/[.%2fF-]{1,6}/operations/[.a:?#-]{1,6}",
        ],
    ) {
        if let Ok(name) = OperationName::parse(&text) {
            let url = reqwest::Url::parse(&format!("https://host.example/v1/{name}:cancel")).expect("a URL");
            prop_assert_eq!(url.path(), format!("/v1/{text}:cancel"));
            prop_assert_eq!(url.host_str(), Some("host.example"));
            prop_assert_eq!(url.query(), None);
            prop_assert_eq!(url.fragment(), None);
        }
    }
}
