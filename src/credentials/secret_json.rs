//! JSON that holds secrets: it cannot print, and is wiped when it is dropped.

use serde_json::{Map, Value};
use zeroize::Zeroize;

/// A JSON text, parsed.
pub(super) struct SecretJson(Value);

/// Why a credential file is none. `Display` names the member and says what would be right, and nothing of
/// the content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(String);

/// An object of a credential file, with its place there.
pub(super) struct Members<'a> {
    object: &'a Map<String, Value>,
    /// `credential_source.` for what lies in that member.
    within: String,
}

impl SecretJson {
    /// `None` when the text is no JSON.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok().map(Self)
    }

    /// The members of a credential file.
    pub(super) fn parse_file(content: &[u8]) -> Result<Self, Malformed> {
        // serde's own messages can quote the text, which holds a key.
        serde_json::from_slice(content).map(Self).map_err(|error| {
            Malformed(format!("is not JSON (line {}, column {})", error.line(), error.column()))
        })
    }

    pub(super) fn value(&self) -> &Value {
        &self.0
    }

    /// A text among the members of an object.
    pub(super) fn text(&self, member: &str) -> Option<&str> {
        self.0.get(member)?.as_str()
    }

    /// What is in a credential file.
    pub(super) fn members(&self) -> Result<Members<'_>, Malformed> {
        let object = self.0.as_object().ok_or_else(|| Malformed::new("is no JSON object"))?;
        Ok(Members { object, within: String::new() })
    }
}

impl Drop for SecretJson {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

impl Malformed {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl<'a> Members<'a> {
    /// A member that is there.
    pub(super) fn value(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// A text that must be there.
    pub(super) fn text(&self, name: &str) -> Result<&'a str, Malformed> {
        let text = self.optional_text(name)?;
        text.ok_or_else(|| self.missing(name))
    }

    /// A text, which an empty one is not.
    pub(super) fn optional_text(&self, name: &str) -> Result<Option<&'a str>, Malformed> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(_) => Err(self.fault(name, "must be a text")),
        }
    }

    /// An object that must be there.
    pub(super) fn members(&self, name: &str) -> Result<Self, Malformed> {
        let members = self.optional_members(name)?;
        members.ok_or_else(|| self.missing(name))
    }

    /// An object.
    pub(super) fn optional_members(&self, name: &str) -> Result<Option<Self>, Malformed> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Object(object)) => {
                Ok(Some(Self { object, within: format!("{}{name}.", self.within) }))
            }
            Some(_) => Err(self.fault(name, "must be an object")),
        }
    }

    /// The members' names and values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.object.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// That a member is missing.
    pub(super) fn missing(&self, name: &str) -> Malformed {
        self.fault(name, "is missing: make the file anew, or add it")
    }

    /// What is wrong with a member: `its "credential_source.file" is missing`.
    pub(super) fn fault(&self, name: &str, what: &str) -> Malformed {
        Malformed(format!("its \"{}{name}\" {what}", self.within))
    }
}

#[cfg(test)]
mod tests {
    use super::SecretJson;

    #[test]
    fn a_fault_names_the_member_and_nothing_of_the_content() {
        let json = SecretJson::parse_file(br#"{"a": {"b": 7, "c": ""}, "d": "secret"}"#).expect("JSON");
        let file = json.members().expect("an object");
        let within = file.members("a").expect("an object");
        for (fault, told) in [
            (within.text("b").expect_err("a number"), r#"its "a.b" must be a text"#),
            (within.text("c").expect_err("empty"), r#"its "a.c" is missing"#),
            (file.text("e").expect_err("absent"), r#"its "e" is missing"#),
            (file.members("d").map(drop).expect_err("a text"), r#"its "d" must be an object"#),
        ] {
            let fault = fault.to_string();
            assert!(fault.starts_with(told) && !fault.contains("secret"), "{fault}");
        }
        let broken = SecretJson::parse_file(b"{\"private_key\": secret}").map(drop).expect_err("no JSON");
        assert_eq!(broken.to_string(), "is not JSON (line 1, column 17)");
    }
}
