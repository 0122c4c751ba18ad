//! `devices.list`: its query parameters and pages.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::api_error::ApiError;
use crate::settings::Settings;
use crate::store::Store;

/// The number of devices on a page by default, and the maximum (the discovery document).
const DEFAULT_PAGE_SIZE: usize = 10;
const MAX_PAGE_SIZE: usize = 100;

/// The query parameters of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DevicesQuery {
    page_size: i32,
    page_token: String,
    /// The fields of the response; `None` for all.
    fields: Option<Vec<String>>,
}

impl DevicesQuery {
    /// Reads one parameter. Returns `false` if `devices.list` has no parameter of this name.
    pub(crate) fn read(&mut self, name: &str, value: &str) -> Result<bool, ApiError> {
        match name {
            "pageToken" => value.clone_into(&mut self.page_token),
            "pageSize" => {
                let size = value.parse().ok().filter(|size| *size >= 0);
                self.page_size = size.ok_or_else(|| {
                    let message =
                        format!("Invalid value at 'page_size' (TYPE_INT32), {}", Value::from(value));
                    ApiError::invalid_argument("page_size", message)
                })?;
            }
            "fields" | "$fields" => {
                let fields: Vec<_> = value.split(',').map(|field| field.replace('/', ".")).collect();
                let known = ["devices", "devices.name", "devices.state", "nextPageToken"];
                if let Some(unknown) = fields.iter().find(|field| !known.contains(&field.as_str())) {
                    let message = format!("Request contains an invalid argument: no field {unknown}.");
                    return Err(ApiError::invalid_argument("fields", message));
                }
                self.fields = Some(fields);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The page: `devices`, and `nextPageToken` if there are more devices. As at Google, an empty field is absent.
    pub(crate) fn page(
        &self,
        enterprise: &str,
        store: &Store,
        settings: &Settings,
    ) -> Result<Value, ApiError> {
        let after = match self.page_token.as_str() {
            "" => String::new(),
            token => read_token(token, enterprise)
                .ok_or_else(|| ApiError::invalid_argument("page_token", "Invalid page token."))?,
        };
        let size = match usize::try_from(self.page_size) {
            Ok(size) if size > 0 => size.min(MAX_PAGE_SIZE),
            _ => DEFAULT_PAGE_SIZE,
        };
        let mut ids = store.devices_of(enterprise, &after, settings).into_iter().peekable();
        let page: Vec<_> = ids.by_ref().take(size).collect();
        let mut response = json!({});
        if let (Some(last), Some(_), true) = (page.last(), ids.peek(), self.has("nextPageToken")) {
            response["nextPageToken"] = write_token(last, enterprise).into();
        }
        if !page.is_empty() && (self.has("devices.name") || self.has("devices.state")) {
            response["devices"] = page.iter().map(|id| self.device(enterprise, id)).collect();
        }
        Ok(response)
    }

    fn device(&self, enterprise: &str, id: &str) -> Value {
        let mut device = json!({});
        if self.has("devices.name") {
            device["name"] = format!("enterprises/{enterprise}/devices/{id}").into();
        }
        if self.has("devices.state") {
            device["state"] = "ACTIVE".into();
        }
        device
    }

    /// Whether the response has this field.
    fn has(&self, field: &str) -> bool {
        let parent = field.split_once('.').map_or(field, |(parent, _)| parent);
        self.fields.as_ref().is_none_or(|fields| fields.iter().any(|named| named == field || named == parent))
    }
}

fn write_token(last: &str, enterprise: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{enterprise}/{last}"))
}

/// The last device of the previous page. A token is valid for its own enterprise only.
fn read_token(token: &str, enterprise: &str) -> Option<String> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let (of, last) = text.split_once('/')?;
    (of == enterprise).then(|| last.to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::command::Command;
    use crate::route::Device;

    fn store(count: usize) -> Store {
        let mut store = Store::new();
        for id in 0..count {
            for enterprise in ["LC01", "LC02"] {
                let device = Device::parse(&format!("enterprises/{enterprise}/devices/d{id:03}")).unwrap();
                let command = Command::parse(json!({"type": "LOCK"})).unwrap();
                store.issue(&device, command, &Settings::default(), Instant::now()).unwrap();
            }
        }
        store
    }

    fn page(store: &Store, parameters: &[(&str, &str)]) -> Result<Value, ApiError> {
        let mut query = DevicesQuery::default();
        for (name, value) in parameters {
            assert!(query.read(name, value)?, "{name} is a parameter");
        }
        query.page("LC01", store, &Settings::default())
    }

    fn names(page: &Value) -> Vec<String> {
        let devices = page["devices"].as_array().into_iter().flatten();
        devices.map(|device| device["name"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_pages_together_have_every_device_of_the_enterprise_once() {
        let store = store(250);
        for (size, sizes) in [("100", &[100, 100, 50][..]), ("1000", &[100, 100, 50]), ("0", &[10; 25])] {
            let (mut seen, mut found, mut token) = (Vec::new(), Vec::new(), String::new());
            loop {
                let page = page(&store, &[("pageSize", size), ("pageToken", &token)]).unwrap();
                found.push(names(&page).len());
                seen.extend(names(&page));
                let Some(next) = page["nextPageToken"].as_str() else { break };
                next.clone_into(&mut token);
            }
            let all: Vec<_> = (0..250).map(|id| format!("enterprises/LC01/devices/d{id:03}")).collect();
            assert_eq!((seen, &found[..]), (all, sizes));
        }
    }

    #[test]
    fn the_mask_selects_the_fields_of_the_response() {
        let store = store(11);
        let fields = |mask| {
            page(&store, &[("fields", mask)]).map(|page| {
                let first = page["devices"][0].clone();
                (first, page.get("nextPageToken").is_some())
            })
        };
        let name = "enterprises/LC01/devices/d000";
        let whole = json!({"name": name, "state": "ACTIVE"});
        assert_eq!(fields("devices.name,nextPageToken"), Ok((json!({"name": name}), true)));
        assert_eq!(fields("devices/name"), Ok((json!({"name": name}), false)));
        assert_eq!(fields("devices"), Ok((whole, false)));
        assert_eq!(fields("nextPageToken"), Ok((Value::Null, true)));
        assert_eq!(fields("name").unwrap_err().status(), "INVALID_ARGUMENT");
        assert_eq!(page(&store, &[]).unwrap()["devices"][0]["state"], "ACTIVE");
    }

    #[test]
    fn an_invalid_parameter_is_rejected_and_an_unknown_enterprise_is_empty() {
        let store = store(11);
        let first = page(&store, &[]).unwrap();
        let token = first["nextPageToken"].as_str().unwrap();
        let query = DevicesQuery { page_token: token.to_owned(), ..DevicesQuery::default() };
        let other = query.page("LC02", &store, &Settings::default());
        assert_eq!(other.unwrap_err().status(), "INVALID_ARGUMENT");
        for invalid in [("pageToken", "?"), ("pageSize", "-1"), ("pageSize", "ten")] {
            assert_eq!(page(&store, &[invalid]).unwrap_err().status(), "INVALID_ARGUMENT", "{invalid:?}");
        }
        let empty = DevicesQuery::default().page("LC03", &store, &Settings::default());
        assert_eq!(empty, Ok(json!({})));
        assert_eq!(DevicesQuery::default().read("filter", ""), Ok(false));
    }

    #[test]
    fn a_deleted_device_is_not_listed_and_a_device_of_the_settings_is() {
        let mut store = store(2);
        let device = Device::parse("enterprises/LC01/devices/d000").unwrap();
        store.cancel(&device, "1", Duration::ZERO, Instant::now()).unwrap_err();
        assert!(store.delete_device(&device) && !store.delete_device(&device));
        let devices = vec!["enterprises/LC01/devices/a".to_owned(), "enterprises/LC02/devices/a".to_owned()];
        let settings = Settings { devices, ..Settings::default() };
        let page = DevicesQuery::default().page("LC01", &store, &settings).unwrap();
        assert_eq!(names(&page), ["enterprises/LC01/devices/a", "enterprises/LC01/devices/d001"]);
    }
}
