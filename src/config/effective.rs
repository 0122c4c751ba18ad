//! The settings in effect, with their sources: for the operator's pages, and to compare two configurations.

use super::{
    file::{Located, TomlValue},
    provenance::Provenance,
    values::RawValue,
};

/// A setting in effect. A configuration has no secrets, because secrets stand in the files that the settings name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveSetting {
    /// The dotted key, for example `server.listen`. Each `[[credentials]]` section has the same keys. The keys of a
    /// `[[quota]]` section have its number, from 1: `quota[1].limit`.
    pub key: String,
    /// The value as it was given, or the default.
    pub value: String,
    /// The source: a flag, a variable, `line 7`, or `default`.
    pub source: String,
}

impl EffectiveSetting {
    pub(super) fn given(key: String, raw: &RawValue, origin: &Provenance) -> Self {
        let value = match raw {
            RawValue::Arguments { values, .. } => {
                let values: Vec<_> = values.iter().map(|value| value.to_string_lossy()).collect();
                values.join(",")
            }
            RawValue::Toml(value) => text(value),
        };
        let source = match origin {
            Provenance::Flag(flag) => (*flag).to_owned(),
            Provenance::Variable(name) => name.clone(),
            Provenance::Key { line: Some(line), .. } => format!("line {line}"),
            Provenance::Key { line: None, .. } => "the file".to_owned(),
        };
        Self { key, value, source }
    }

    pub(super) fn default(key: String, value: &str) -> Self {
        let value = value.trim_matches(['[', ']', '"']).to_owned();
        Self { key, value, source: "default".to_owned() }
    }
}

/// Adds the number of a section in double brackets to the keys of its settings.
pub(super) fn number(settings: &mut [EffectiveSetting], section: &str, number: usize) {
    for EffectiveSetting { key, .. } in settings {
        if let Some(rest) = key.strip_prefix(section) {
            *key = format!("{section}[{number}]{rest}");
        }
    }
}

fn text(value: &TomlValue) -> String {
    match value {
        TomlValue::Text(text) => text.clone(),
        TomlValue::Integer(number) => number.map(|number| number.to_string()).unwrap_or_default(),
        TomlValue::Boolean(value) => value.to_string(),
        TomlValue::List(items) => {
            let items: Vec<_> = items.iter().map(|Located { value, .. }| text(value)).collect();
            items.join(",")
        }
        // A setting has no value of another type.
        TomlValue::Table(_) | TomlValue::Other(_) => String::new(),
    }
}
