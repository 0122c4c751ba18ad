//! The names of AMAPI's resources: one parser serves validation, authorisation, routing and URLs, and
//! nothing else ever looks at the raw string.
//!
//! A segment is 1 to 255 characters of `A-Z a-z 0-9 - _ . ~`: those that RFC 3986 calls unreserved, so
//! that a name that parses stands in a URL's path as it is. `.` and `..` are refused since URL parsers
//! remove them, and `-` alone since AIP-159 gives it the meaning "any", which is not supported.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

/// Hashes names in maps that every call meets, at a tenth of the cost of std's SipHash. Its seed is random, so that no
/// caller can choose names that collide.
pub type NameHasher = foldhash::fast::RandomState;

/// The most characters of one segment.
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

/// Why a text is not the name that it should be. `Display` is fit for callers: it repeats nothing of the
/// text but the place of the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// The collections or their number are not those of the pattern.
    #[error("must be of the form {0}")]
    Pattern(&'static str),
    /// A segment is empty, too long, or has a character outside the set.
    #[error("the {0} must be 1 to {MAX_SEGMENT} characters of A-Z a-z 0-9 - _ . ~, and not . or ..")]
    Segment(&'static str),
    /// A segment is `-`.
    #[error("the {0} must be named: the wildcard - is not supported")]
    Wildcard(&'static str),
}

const OPERATION_PATTERN: &str = "enterprises/*/devices/*/operations/*";
const DEVICE_PATTERN: &str = "enterprises/*/devices/*";

impl OperationName {
    /// Parses the full name of an operation.
    ///
    /// # Errors
    ///
    /// What is wrong with it; see the module for what is accepted.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let wrong = InvalidName::Pattern(OPERATION_PATTERN);
        let (device, rest) = Device::take(text, wrong)?;
        let operation = rest.and_then(|rest| rest.strip_prefix("operations/"));
        check_segment(operation.ok_or(wrong)?, "operation", wrong)?;
        Ok(Self { text: text.into(), enterprise_end: device.enterprise_end, device_end: device.device_end })
    }

    /// The whole name, as it was parsed and as it stands in a URL after `/v1/`.
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

/// By the text alone, which the ends of its segments follow from.
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
    /// What is wrong with it; see the module for what is accepted.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let wrong = InvalidName::Pattern(DEVICE_PATTERN);
        let (device, rest) = Device::take(text, wrong)?;
        if !matches!(rest, None | Some("operations")) {
            return Err(wrong);
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

/// Where the enterprise and the device end in a text that begins with a device's name.
struct Device {
    enterprise_end: u16,
    device_end: u16,
}

impl Device {
    /// Splits the device off; the rest is what follows its slash.
    fn take(text: &str, wrong: InvalidName) -> Result<(Self, Option<&str>), InvalidName> {
        let rest = text.strip_prefix("enterprises/").ok_or(wrong)?;
        let (enterprise, rest) = rest.split_once('/').ok_or(wrong)?;
        let rest = rest.strip_prefix("devices/").ok_or(wrong)?;
        let (device, rest) = match rest.split_once('/') {
            Some((device, rest)) => (device, Some(rest)),
            None => (rest, None),
        };
        check_segment(enterprise, "enterprise", wrong)?;
        check_segment(device, "device", wrong)?;
        let enterprise_end = "enterprises/".len() + enterprise.len();
        let device_end = enterprise_end + "/devices/".len() + device.len();
        let narrow = |end: usize| u16::try_from(end).map_err(|_| wrong);
        let ends = Self { enterprise_end: narrow(enterprise_end)?, device_end: narrow(device_end)? };
        Ok((ends, rest))
    }
}

/// Checks the id of an enterprise, as it stands in a name: `LC01` for example.
///
/// # Errors
///
/// What is wrong with it.
pub fn check_enterprise(id: &str) -> Result<(), InvalidName> {
    check_segment(id, "enterprise", InvalidName::Segment("enterprise"))
}

fn check_segment(segment: &str, which: &'static str, wrong: InvalidName) -> Result<(), InvalidName> {
    if segment.contains('/') {
        return Err(wrong);
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
