//! Routes: a method of the API with its resource, or an endpoint that issues tokens.
//!
//! The API's paths are those of its discovery document: `v1/{+name}:issueCommand`, `v1/{+name}:cancel`, and
//! `v1/{+name}` for `get` and `list`, which differ in the pattern of `name`.

use http::Method;
use percent_encoding::percent_decode_str;

use crate::token_route::TokenRoute;

/// The name of a device, `enterprises/{enterprise}/devices/{device}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Device {
    pub(crate) enterprise: String,
    pub(crate) device: String,
}

/// The destination of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Api(ApiCall),
    Token(TokenRoute),
}

/// A method of the API and its resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ApiCall {
    /// `enterprises.devices.issueCommand`
    Issue(Device),
    /// `enterprises.devices.list`, with the enterprise's id.
    Devices(String),
    /// `enterprises.devices.operations.list`
    List(Device),
    /// `enterprises.devices.operations.get`, with the operation's id.
    Get(Device, String),
    /// `enterprises.devices.operations.cancel`, with the operation's id.
    Cancel(Device, String),
}

/// A path without a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RouteError {
    /// No route has this method and path.
    Unknown,
    /// The percent-encoding is malformed.
    Malformed,
}

impl Device {
    /// Parses a device's name. A segment is any text without a slash (`[^/]+` in the discovery document).
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name.split('/').collect::<Vec<_>>()[..] {
            ["enterprises", enterprise, "devices", device] => Self::of(enterprise, device),
            _ => None,
        }
    }

    fn of(enterprise: &str, device: &str) -> Option<Self> {
        // A front end that normalizes paths resolves dot segments.
        let valid = |segment: &str| !matches!(segment, "" | "." | "..");
        (valid(enterprise) && valid(device))
            .then(|| Self { enterprise: enterprise.to_owned(), device: device.to_owned() })
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "enterprises/{}/devices/{}", self.enterprise, self.device)
    }
}

impl Route {
    pub(crate) fn find(method: &Method, path: &str) -> Result<Self, RouteError> {
        match TokenRoute::find(method, path)? {
            Some(route) => Ok(Self::Token(route)),
            None => ApiCall::find(method, path).map(Self::Api),
        }
    }
}

impl ApiCall {
    fn find(method: &Method, path: &str) -> Result<Self, RouteError> {
        let name = path.strip_prefix("/v1/").ok_or(RouteError::Unknown)?;
        // The path is split before it is decoded, because %2F belongs to a segment.
        let segments: Vec<String> =
            name.split('/').map(decode).collect::<Option<_>>().ok_or(RouteError::Malformed)?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        Self::from_segments(method, &segments).ok_or(RouteError::Unknown)
    }

    fn from_segments(method: &Method, segments: &[&str]) -> Option<Self> {
        let (device, rest) = match *segments {
            ["enterprises", enterprise, "devices"] if method == Method::GET => {
                // The id of the device is not looked at.
                return Device::of(enterprise, "d")
                    .map(|Device { enterprise, .. }| Self::Devices(enterprise));
            }
            ["enterprises", enterprise, "devices", device, ref rest @ ..] => ((enterprise, device), rest),
            _ => return None,
        };
        match (method, rest) {
            (&Method::POST, []) => {
                let name = device.1.strip_suffix(":issueCommand")?;
                Some(Self::Issue(Device::of(device.0, name)?))
            }
            (&Method::POST, ["operations", last]) => {
                let id = last.strip_suffix(":cancel").filter(|id| !id.is_empty())?;
                Some(Self::Cancel(Device::of(device.0, device.1)?, id.to_owned()))
            }
            (&Method::GET, ["operations"]) => Some(Self::List(Device::of(device.0, device.1)?)),
            (&Method::GET, ["operations", id]) if !id.is_empty() => {
                Some(Self::Get(Device::of(device.0, device.1)?, (*id).to_owned()))
            }
            _ => None,
        }
    }

    /// The full name of the method, which is in the `ErrorInfo` of a 401.
    pub(crate) fn method(&self) -> &'static str {
        match self {
            Self::Issue(_) => "google.android.devicemanagement.v1.DeviceService.IssueCommand",
            Self::Devices(_) => "google.android.devicemanagement.v1.DeviceService.ListDevices",
            Self::List(_) => "google.longrunning.Operations.ListOperations",
            Self::Get(..) => "google.longrunning.Operations.GetOperation",
            Self::Cancel(..) => "google.longrunning.Operations.CancelOperation",
        }
    }
}

/// Decodes percent-encoding. `None` when it is malformed or not UTF-8.
pub(crate) fn decode(segment: &str) -> Option<String> {
    let escapes = segment.split('%').skip(1);
    let valid =
        |digits: &str| digits.len() >= 2 && digits.bytes().take(2).all(|digit| digit.is_ascii_hexdigit());
    if !escapes.into_iter().all(valid) {
        return None;
    }
    // An encoded slash stays encoded, because the discovery document's patterns exclude slashes in segments.
    let text = segment.replace("%2F", "%252F").replace("%2f", "%252f");
    Some(percent_decode_str(&text).decode_utf8().ok()?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> Device {
        Device { enterprise: "LC01".to_owned(), device: "d1".to_owned() }
    }

    #[test]
    fn the_methods_have_their_paths() {
        let call = |method, path: &str| ApiCall::find(&method, path);
        let base = "/v1/enterprises/LC01/devices/d1";
        let cancel = ApiCall::Cancel(device(), "17".to_owned());
        let devices = ApiCall::Devices("LC01".to_owned());
        assert_eq!(call(Method::GET, "/v1/enterprises/LC01/devices"), Ok(devices));
        assert_eq!(call(Method::POST, &format!("{base}:issueCommand")), Ok(ApiCall::Issue(device())));
        assert_eq!(call(Method::GET, &format!("{base}/operations")), Ok(ApiCall::List(device())));
        let get = ApiCall::Get(device(), "17".to_owned());
        assert_eq!(call(Method::GET, &format!("{base}/operations/17")), Ok(get));
        assert_eq!(call(Method::POST, &format!("{base}/operations/17:cancel")), Ok(cancel));
    }

    #[test]
    fn percent_encoding_is_decoded() {
        let path = "/v1/enterprises/%4CC01/devices/d%31/operations/1%37%3Acancel";
        assert_eq!(ApiCall::find(&Method::POST, path), Ok(ApiCall::Cancel(device(), "17".to_owned())));
    }

    #[test]
    fn an_encoded_slash_does_not_separate_segments() {
        let path = "/v1/enterprises/LC01/devices/d1/operations%2F17";
        assert_eq!(ApiCall::find(&Method::GET, path), Err(RouteError::Unknown));
    }

    #[test]
    fn any_other_path_is_unknown() {
        let unknown = [
            (Method::POST, "/"),
            (Method::GET, "/token"),
            (Method::GET, "/v1/token"),
            (Method::POST, "/subject-token"),
            (Method::POST, "/computeMetadata/v1/instance/service-accounts/default/token"),
            (Method::POST, "/v1/projects/-/serviceAccounts/:generateAccessToken"),
            (Method::POST, "/v1/projects/-/serviceAccounts/a@b:signBlob"),
            (Method::POST, "/v1/projects/-/serviceAccounts/a/b:generateAccessToken"),
            (Method::POST, "/v1/projects/p1/serviceAccounts/a@b:generateAccessToken"),
            (Method::GET, "/v1/projects/-/serviceAccounts/a@b:generateAccessToken"),
            (Method::GET, "/v1"),
            (Method::GET, "/v1/"),
            (Method::GET, "/v2/enterprises/LC01/devices/d1/operations"),
            (Method::GET, "/v1/operations/17"),
            (Method::GET, "/v1/enterprises/LC01/devices/d1"),
            (Method::GET, "/v1/enterprises/LC01/devices/"),
            (Method::GET, "/v1/enterprises//devices"),
            (Method::POST, "/v1/enterprises/LC01/devices"),
            (Method::GET, "/v1/enterprises/LC01/devices/d1/operations/"),
            (Method::GET, "/v1/enterprises//devices/d1/operations"),
            (Method::GET, "/v1/enterprises/../devices/d1/operations"),
            (Method::GET, "/v1/enterprises/%2e%2e/devices/d1/operations"),
            (Method::GET, "/v1/enterprises/LC01/devices/d1/operations/17/more"),
            (Method::POST, "/v1/enterprises/LC01/devices/d1/operations/17"),
            (Method::POST, "/v1/enterprises/LC01/devices/d1/operations/:cancel"),
            (Method::DELETE, "/v1/enterprises/LC01/devices/d1/operations/17"),
        ];
        for (method, path) in unknown {
            assert_eq!(Route::find(&method, path), Err(RouteError::Unknown), "{method} {path}");
        }
    }

    #[test]
    fn malformed_encoding_is_an_error() {
        for segment in ["%", "%4", "%zz", "%+1", "%ff"] {
            let path = format!("/v1/enterprises/{segment}/devices/d1/operations");
            assert_eq!(Route::find(&Method::GET, &path), Err(RouteError::Malformed), "{segment}");
            let path = format!("/v1/projects/-/serviceAccounts/{segment}:generateAccessToken");
            assert_eq!(Route::find(&Method::POST, &path), Err(RouteError::Malformed), "{segment}");
        }
    }
}
