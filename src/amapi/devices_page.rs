//! `enterprises.devices.list`: its query parameters and its pages, of which only the names of the devices are needed.

use reqwest::Url;
use serde_json::Value;

use super::{Json, error::Error};
use crate::name::{DeviceName, EnterpriseName};

/// The number of devices on a page, which is the API's maximum (AMAPI's discovery document).
pub const MAX_DEVICES: usize = 100;

/// The maximum length of a page token that is accepted from the upstream, in bytes.
pub const MAX_UPSTREAM_TOKEN: usize = 4096;

/// The field mask of the response. A device's resource can have many kilobytes (Google APIs, "System parameters").
const FIELDS: &str = "devices.name,nextPageToken";

/// A page of an enterprise's devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicesPage {
    /// The devices, in the upstream's order. At most [`MAX_DEVICES`].
    pub devices: Vec<DeviceName>,
    /// The number of entries that are not in `devices`, because their name is not that of a device of the enterprise.
    pub unusable: usize,
    /// The token of the next page; empty on the last page.
    pub next_page_token: String,
}

/// Adds the parameters of the page with this token to `url`; an empty token is that of the first page.
pub(super) fn add_query(mut url: Url, page_token: &str) -> Url {
    let mut query = url.query_pairs_mut();
    query.append_pair("pageSize", &MAX_DEVICES.to_string());
    if !page_token.is_empty() {
        query.append_pair("pageToken", page_token);
    }
    query.append_pair("fields", FIELDS);
    drop(query);
    url
}

impl DevicesPage {
    /// Reads a page of the devices of `enterprise`.
    ///
    /// # Errors
    ///
    /// The response is not such a page.
    pub(super) fn parse(json: &Json, enterprise: &EnterpriseName) -> Result<Self, Error> {
        let malformed =
            || Error::Malformed { what: "a page of devices with invalid members", http_status: 200 };
        let entries = match json.get("devices") {
            None | Some(Value::Null) => &[],
            Some(Value::Array(devices)) if devices.len() <= MAX_DEVICES => &devices[..],
            Some(_) => return Err(malformed()),
        };
        let device = |device: &Value| {
            let name = DeviceName::parse(device.get("name")?.as_str()?).ok()?;
            (name.enterprise() == enterprise.id()).then_some(name)
        };
        let devices: Vec<_> = entries.iter().filter_map(device).collect();
        let unusable = entries.len() - devices.len();
        let next_page_token = match json.get("nextPageToken") {
            None | Some(Value::Null) => "",
            Some(Value::String(token)) if token.len() <= MAX_UPSTREAM_TOKEN => token,
            Some(_) => return Err(malformed()),
        };
        Ok(Self { devices, unusable, next_page_token: next_page_token.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use reqwest::Url;
    use serde_json::{Value, json};

    use super::{DevicesPage, Error, MAX_UPSTREAM_TOKEN, add_query};
    use crate::name::{EnterpriseName, ListParent};

    fn enterprise() -> EnterpriseName {
        match ListParent::parse("enterprises/LC01/devices/-") {
            Ok(ListParent::AllDevices(enterprise)) => enterprise,
            other => panic!("{other:?}"),
        }
    }

    fn parse(json: &Value) -> Result<DevicesPage, Error> {
        DevicesPage::parse(json.as_object().expect("an object"), &enterprise())
    }

    #[test]
    fn only_the_names_of_a_hundred_devices_are_requested() {
        let url = |token| {
            let url = Url::parse("https://host.example/v1/enterprises/LC01/devices").expect("a URL");
            add_query(url, token).query().unwrap_or_default().to_owned()
        };
        assert_eq!(url(""), "pageSize=100&fields=devices.name%2CnextPageToken");
        assert_eq!(url("a&b"), "pageSize=100&pageToken=a%26b&fields=devices.name%2CnextPageToken");
    }

    #[test]
    fn a_page_has_the_devices_of_its_enterprise() {
        let name = |id: &str| format!("enterprises/LC01/devices/{id}");
        let page = parse(&json!({"devices": [{"name": name("b"), "state": "ACTIVE"}, {"name": name("a")}],
                                 "nextPageToken": "t"}));
        let page = page.expect("a page");
        let ids: Vec<_> = page.devices.iter().map(|device| device.device_id()).collect();
        assert_eq!((&ids[..], &*page.next_page_token), (&["b", "a"][..], "t"));
        assert_eq!(page.unusable, 0);
        let empty = DevicesPage { devices: Vec::new(), unusable: 0, next_page_token: String::new() };
        assert_eq!(parse(&json!({})).ok(), Some(empty));
        let devices: Vec<_> = (0..101).map(|id| json!({"name": name(&format!("d{id}"))})).collect();
        for malformed in [
            json!({"devices": {}}),
            json!({"devices": devices}),
            json!({"nextPageToken": 1}),
            json!({"nextPageToken": "t".repeat(MAX_UPSTREAM_TOKEN + 1)}),
        ] {
            assert!(matches!(parse(&malformed), Err(Error::Malformed { .. })), "{malformed}");
        }
    }
    #[test]
    fn names_that_are_not_of_a_device_of_the_enterprise_are_counted() {
        let page = parse(&json!({"devices": [
            {"name": "enterprises/LC02/devices/a"},
            {"name": "enterprises/LC01/devices/-"},
            {"name": "enterprises/LC01/devices/b"},
            {"name": 1},
            {},
            "enterprises/LC01/devices/c",
        ]}));
        let page = page.expect("a page");
        let ids: Vec<_> = page.devices.iter().map(|device| device.device_id()).collect();
        assert_eq!((&ids[..], page.unusable), (&["b"][..], 5));
    }
}
