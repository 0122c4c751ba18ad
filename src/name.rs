//! The names of AMAPI's resources. This parser serves validation, authorization, routing and URLs; no other code
//! parses the raw text.
//!
//! A segment is 1 to 255 of the unreserved characters of RFC 3986, `A-Z a-z 0-9 - _ . ~`, so that a URL's path
//! contains a valid name unchanged. `.` and `..` are rejected because URL parsers remove them. `-` alone is the wildcard
//! of AIP-159. It is accepted only in place of the device in the parent of a list.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

/// The hasher for maps by name, which every call uses. It costs a tenth of std's SipHash. Its seed is random, so that
/// no caller can choose names that collide.
pub type NameHasher = foldhash::fast::RandomState;

/// The maximum length of a segment, in characters.
const MAX_SEGMENT: usize = 255;

/// The name of one operation: `enterprises/*/devices/*/operations/*`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OperationName {
    text: Arc<str>,
    enterprise_end: u16,
    device_end: u16,
}

/// The name of one device: `enterprises/*/devices/*`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceName {
    text: Arc<str>,
    enterprise_end: u16,
}

/// The name of one enterprise: `enterprises/*`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnterpriseName(Arc<str>);

/// The parent of the operations that a list returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListParent {
    /// One device.
    Device(DeviceName),
    /// All devices of an enterprise: `enterprises/*/devices/-`.
    AllDevices(EnterpriseName),
}

/// The reason why a text is not a valid name. `Display` is safe for callers, because it repeats nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// The text does not match the pattern.
    #[error("must be of the form {0}")]
    Pattern(&'static str),
    /// A segment is empty, is too long, or has an invalid character.
    #[error("the {0} must be 1 to {MAX_SEGMENT} characters of A-Z a-z 0-9 - _ . ~, and not . or ..")]
    Segment(&'static str),
    /// A segment is `-`.
    #[error("the {0} must be named: the wildcard - is only for the device in ListOperations")]
    Wildcard(&'static str),
}

const OPERATION_PATTERN: &str = "enterprises/*/devices/*/operations/*";
const DEVICE_PATTERN: &str = "enterprises/*/devices/*";

impl OperationName {
    /// Parses the full name of an operation.
    ///
    /// # Errors
    ///
    /// The text is not such a name. The module defines valid names.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let mismatch = InvalidName::Pattern(OPERATION_PATTERN);
        let (device, rest) = DevicePrefix::parse(text, mismatch)?;
        let operation = rest.and_then(|rest| rest.strip_prefix("operations/"));
        check_segment(operation.ok_or(mismatch)?, "operation", mismatch)?;
        Ok(Self { text: text.into(), enterprise_end: device.enterprise_end, device_end: device.device_end })
    }

    /// The whole name. A URL contains it after `/v1/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The enterprise's id, `LC01` for example.
    #[must_use]
    pub fn enterprise(&self) -> &str {
        enterprise(&self.text, self.enterprise_end)
    }

    /// The device's id in its enterprise, `d1` for example.
    #[must_use]
    pub fn device_id(&self) -> &str {
        device_id(&self.text[..usize::from(self.device_end)], self.enterprise_end)
    }

    /// The operation's id on its device, `17` for example.
    #[must_use]
    pub fn operation_id(&self) -> &str {
        &self.text[usize::from(self.device_end) + "/operations/".len()..]
    }

    /// The device that runs the operation.
    #[must_use]
    pub fn device(&self) -> DeviceName {
        DeviceName {
            text: self.text[..usize::from(self.device_end)].into(),
            enterprise_end: self.enterprise_end,
        }
    }
}

/// Hashes the text only, because the text determines the other fields.
impl Hash for OperationName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl DeviceName {
    /// Parses the name of a device, with or without a trailing `/operations`.
    ///
    /// # Errors
    ///
    /// The text is not such a name. The module defines valid names.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let mismatch = InvalidName::Pattern(DEVICE_PATTERN);
        let (device, rest) = DevicePrefix::parse(text, mismatch)?;
        if !matches!(rest, None | Some("operations")) {
            return Err(mismatch);
        }
        Ok(Self {
            text: text[..usize::from(device.device_end)].into(),
            enterprise_end: device.enterprise_end,
        })
    }

    /// The name without `/operations`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The enterprise's id.
    #[must_use]
    pub fn enterprise(&self) -> &str {
        enterprise(&self.text, self.enterprise_end)
    }

    /// The device's id in its enterprise.
    #[must_use]
    pub fn device_id(&self) -> &str {
        device_id(&self.text, self.enterprise_end)
    }
}

impl EnterpriseName {
    /// The name, `enterprises/LC01` for example.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The enterprise's id, `LC01` for example.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0["enterprises/".len()..]
    }

    /// The device with this id in the enterprise.
    ///
    /// # Errors
    ///
    /// The id is not a valid segment.
    pub fn device(&self, id: &str) -> Result<DeviceName, InvalidName> {
        DeviceName::parse(&format!("{self}/devices/{id}")).and_then(|device| match device.device_id() == id {
            true => Ok(device),
            false => Err(InvalidName::Segment("device")),
        })
    }
}

impl ListParent {
    /// Parses the name of a device, or `enterprises/*/devices/-`, with or without a trailing `/operations`.
    ///
    /// # Errors
    ///
    /// The text is not such a name. The module defines valid names.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let enterprise = text.strip_suffix("/operations").unwrap_or(text).strip_suffix("/devices/-");
        let id = enterprise.and_then(|enterprise| enterprise.strip_prefix("enterprises/"));
        match (enterprise, id) {
            (Some(enterprise), Some(id)) => {
                check_segment(id, "enterprise", InvalidName::Pattern(DEVICE_PATTERN))?;
                Ok(Self::AllDevices(EnterpriseName(enterprise.into())))
            }
            _ => DeviceName::parse(text).map(Self::Device),
        }
    }
}

/// The end offsets of the enterprise and the device in a text that begins with a device's name.
struct DevicePrefix {
    enterprise_end: u16,
    device_end: u16,
}

impl DevicePrefix {
    /// Parses the device's name at the start of `text`. Returns the text after the following slash, if there is one.
    fn parse(text: &str, mismatch: InvalidName) -> Result<(Self, Option<&str>), InvalidName> {
        let rest = text.strip_prefix("enterprises/").ok_or(mismatch)?;
        let (enterprise, rest) = rest.split_once('/').ok_or(mismatch)?;
        let rest = rest.strip_prefix("devices/").ok_or(mismatch)?;
        let (device, rest) = match rest.split_once('/') {
            Some((device, rest)) => (device, Some(rest)),
            None => (rest, None),
        };
        check_segment(enterprise, "enterprise", mismatch)?;
        check_segment(device, "device", mismatch)?;
        let enterprise_end = "enterprises/".len() + enterprise.len();
        let device_end = enterprise_end + "/devices/".len() + device.len();
        let narrow = |end: usize| u16::try_from(end).map_err(|_| mismatch);
        let ends = Self { enterprise_end: narrow(enterprise_end)?, device_end: narrow(device_end)? };
        Ok((ends, rest))
    }
}

/// Checks the id of an enterprise, for example `LC01`.
///
/// # Errors
///
/// The id is not a valid segment.
pub fn check_enterprise(id: &str) -> Result<(), InvalidName> {
    check_segment(id, "enterprise", InvalidName::Segment("enterprise"))
}

fn check_segment(segment: &str, which: &'static str, mismatch: InvalidName) -> Result<(), InvalidName> {
    if segment.contains('/') {
        return Err(mismatch);
    }
    if segment == "-" {
        return Err(InvalidName::Wildcard(which));
    }
    let unreserved = |c: u8| c.is_ascii_alphanumeric() || b"-_.~".contains(&c);
    let fits = (1..=MAX_SEGMENT).contains(&segment.len()) && segment.bytes().all(unreserved);
    if !fits || segment == "." || segment == ".." {
        return Err(InvalidName::Segment(which));
    }
    Ok(())
}

fn enterprise(text: &str, end: u16) -> &str {
    &text["enterprises/".len()..usize::from(end)]
}

fn device_id(text: &str, enterprise_end: u16) -> &str {
    &text[usize::from(enterprise_end) + "/devices/".len()..]
}

impl fmt::Display for OperationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for OperationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for EnterpriseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EnterpriseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests;
