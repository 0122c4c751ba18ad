//! From the path of a request to the method it calls and the resource it names.
//!
//! The paths are those of the API's discovery document: `v1/{+name}:issueCommand`,
//! `v1/{+name}:cancel`, and `v1/{+name}` for `get` and `list`, which the pattern of `name` tells apart.
//! Beside them are those of the endpoints that give tokens (`ask`).

use http::Method;
use percent_encoding::percent_decode_str;

use super::ask::Ask;

/// The name of a device, `enterprises/{enterprise}/devices/{device}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Device {
    pub(super) enterprise: String,
    pub(super) device: String,
}

/// What a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Api(Call),
    Endpoint(Ask),
}

/// A method of the API, and the resource that it is called on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// `enterprises.devices.issueCommand`
    Issue(Device),
    /// `enterprises.devices.operations.list`
    List(Device),
    /// `enterprises.devices.operations.get`, with the operation's id.
    Get(Device, String),
    /// `enterprises.devices.operations.cancel`, with the operation's id.
    Cancel(Device, String),
}

/// Why a path calls nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoCall {
    /// No method has this address.
    Unknown,
    /// The percent-encoding is broken.
    Malformed,
}

impl Device {
    /// Reads a device's name, in which a segment is whatever has no slash (`[^/]+` in the discovery
    /// document).
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name.split('/').collect::<Vec<_>>()[..] {
            ["enterprises", enterprise, "devices", device] => Self::of(enterprise, device),
            _ => None,
        }
    }

    fn of(enterprise: &str, device: &str) -> Option<Self> {
        // A front end that tidies paths would have taken dot segments for steps.
        let named = |segment: &str| !matches!(segment, "" | "." | "..");
        (named(enterprise) && named(device))
            .then(|| Self { enterprise: enterprise.to_owned(), device: device.to_owned() })
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "enterprises/{}/devices/{}", self.enterprise, self.device)
    }
}

impl Target {
    /// Reads the request line.
    pub(super) fn of(method: &Method, path: &str) -> Result<Self, NoCall> {
        match Ask::of(method, path)? {
            Some(ask) => Ok(Self::Endpoint(ask)),
            None => Call::of(method, path).map(Self::Api),
        }
    }
}

impl Call {
    fn of(method: &Method, path: &str) -> Result<Self, NoCall> {
        let name = path.strip_prefix("/v1/").ok_or(NoCall::Unknown)?;
        // Slashes part the segments before anything is decoded: %2F belongs to a segment.
        let segments: Vec<String> =
            name.split('/').map(decode).collect::<Option<_>>().ok_or(NoCall::Malformed)?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        Self::from_segments(method, &segments).ok_or(NoCall::Unknown)
    }

    fn from_segments(method: &Method, segments: &[&str]) -> Option<Self> {
        let (device, rest) = match *segments {
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

    /// The method's full name, which Google gives in the `ErrorInfo` of a 401.
    pub(super) fn method(&self) -> &'static str {
        match self {
            Self::Issue(_) => "google.android.devicemanagement.v1.DeviceService.IssueCommand",
            Self::List(_) => "google.longrunning.Operations.ListOperations",
            Self::Get(..) => "google.longrunning.Operations.GetOperation",
            Self::Cancel(..) => "google.longrunning.Operations.CancelOperation",
        }
    }
}

/// Undoes percent-encoding; `None` when it is not well formed or not UTF-8 beneath.
pub(super) fn decode(segment: &str) -> Option<String> {
    let escapes = segment.split('%').skip(1);
    let sound =
        |digits: &str| digits.len() >= 2 && digits.bytes().take(2).all(|digit| digit.is_ascii_hexdigit());
    if !escapes.into_iter().all(sound) {
        return None;
    }
    // The discovery document's patterns let no slash into a segment, however it is written.
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
    fn the_four_methods_have_their_addresses() {
        let call = |method, path: &str| Call::of(&method, path);
        let base = "/v1/enterprises/LC01/devices/d1";
        let cancel = Call::Cancel(device(), "17".to_owned());
        assert_eq!(call(Method::POST, &format!("{base}:issueCommand")), Ok(Call::Issue(device())));
        assert_eq!(call(Method::GET, &format!("{base}/operations")), Ok(Call::List(device())));
        let get = Call::Get(device(), "17".to_owned());
        assert_eq!(call(Method::GET, &format!("{base}/operations/17")), Ok(get));
        assert_eq!(call(Method::POST, &format!("{base}/operations/17:cancel")), Ok(cancel));
    }

    #[test]
    fn percent_encoding_makes_no_difference() {
        let path = "/v1/enterprises/%4CC01/devices/d%31/operations/1%37%3Acancel";
        assert_eq!(Call::of(&Method::POST, path), Ok(Call::Cancel(device(), "17".to_owned())));
    }

    #[test]
    fn an_encoded_slash_parts_nothing() {
        let path = "/v1/enterprises/LC01/devices/d1/operations%2F17";
        assert_eq!(Call::of(&Method::GET, path), Err(NoCall::Unknown));
    }

    #[test]
    fn all_else_is_unknown() {
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
            assert_eq!(Target::of(&method, path), Err(NoCall::Unknown), "{method} {path}");
        }
    }

    #[test]
    fn broken_encoding_is_malformed() {
        for segment in ["%", "%4", "%zz", "%+1", "%ff"] {
            let path = format!("/v1/enterprises/{segment}/devices/d1/operations");
            assert_eq!(Target::of(&Method::GET, &path), Err(NoCall::Malformed), "{segment}");
            let path = format!("/v1/projects/-/serviceAccounts/{segment}:generateAccessToken");
            assert_eq!(Target::of(&Method::POST, &path), Err(NoCall::Malformed), "{segment}");
        }
    }
}
