//! The kinds of setting values, and how each kind is read from the file, a variable or a flag.

use std::{
    ffi::OsString,
    marker::PhantomData,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    errors::{ConfigErrors, Invalid},
    file::{Located, TomlValue},
    provenance::Provenance,
};

/// The hint for a file that cannot be read.
pub(crate) const READABLE_FILE: &str = "name a file that exists and that this user may read";

/// The hint for a file of CA certificates that cannot be used.
pub(crate) const CA_CERTIFICATES: &str =
    "name a PEM file with one or more CA certificates (BEGIN CERTIFICATE)";

/// A given value before it is read.
pub(crate) enum RawValue {
    /// The value of a variable, or the values of a repeated flag.
    Arguments { values: Vec<OsString>, separator: Option<char> },
    /// The value of a key of the file.
    Toml(TomlValue),
}

/// The context in which a value is read.
pub(crate) struct ReadContext<'a> {
    /// The source of the value.
    pub(crate) origin: &'a Provenance,
    /// The directory of the file. Empty for a variable or a flag.
    pub(crate) directory: &'a Path,
    /// The errors found so far.
    pub(crate) errors: &'a mut ConfigErrors,
    /// The sources of the valid items of a list.
    pub(crate) items: Vec<Provenance>,
}

/// How often a flag takes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arity {
    Switch,
    One,
    Many,
}

/// A kind of setting values.
pub(crate) trait ValueKind {
    /// The type of the values.
    type Value;
    /// The form of valid values for the reference, for example `a number from 1 to 9`.
    fn form(&self) -> String;
    /// How often a flag of this kind takes a value.
    fn arity(&self) -> Arity {
        Arity::One
    }
    /// All valid values, if the kind is an enumeration.
    fn words(&self) -> Vec<&'static str> {
        Vec::new()
    }
    /// Reads a value. If it is invalid, adds an error and returns `None`.
    fn read(&self, raw: RawValue, context: &mut ReadContext<'_>) -> Option<Self::Value>;
}

impl ReadContext<'_> {
    fn ok<T>(&mut self, result: Result<T, Invalid>) -> Option<T> {
        self.errors.ok(self.origin, result)
    }

    fn text(&mut self, raw: RawValue) -> Option<String> {
        let text = match raw {
            RawValue::Arguments { values, .. } => utf8(values.into_iter().next_back().unwrap_or_default()),
            RawValue::Toml(value) => text(value),
        };
        self.ok(text)
    }
}

fn utf8(value: OsString) -> Result<String, Invalid> {
    value.into_string().map_err(|_| Invalid::new("the value is not UTF-8", "give plain text"))
}

fn text(value: TomlValue) -> Result<String, Invalid> {
    match value {
        TomlValue::Text(text) => Ok(text),
        other => Err(type_error(&other, "a string, in quotes")),
    }
}

pub(super) fn type_error(found: &TomlValue, wanted: &str) -> Invalid {
    Invalid::new(format!("this is {}", found.type_name()), format!("give {wanted}"))
}

/// A whole number in a range.
pub(crate) struct Integer<T>(RangeInclusive<i64>, PhantomData<T>);

/// A whole number in `range`.
pub(crate) fn integer<T>(range: RangeInclusive<i64>) -> Integer<T> {
    Integer(range, PhantomData)
}

impl<T: TryFrom<i64>> ValueKind for Integer<T> {
    type Value = T;

    fn form(&self) -> String {
        format!("a number from {} to {}", self.0.start(), self.0.end())
    }

    fn read(&self, raw: RawValue, context: &mut ReadContext<'_>) -> Option<T> {
        let number = match raw {
            RawValue::Toml(TomlValue::Integer(Some(number))) => Ok(number),
            RawValue::Toml(TomlValue::Integer(None)) => {
                Err(Invalid::new("the number is too large", "give a smaller number"))
            }
            RawValue::Toml(other) => Err(type_error(&other, "a whole number, without quotes")),
            arguments @ RawValue::Arguments { .. } => {
                let not_a_number = |_| Invalid::new("this is not a whole number", "give digits only");
                context.text(arguments)?.trim().parse().map_err(not_a_number)
            }
        };
        let number = context.ok(number)?;
        let value = T::try_from(number).ok().filter(|_| self.0.contains(&number));
        context.ok(value.ok_or_else(|| {
            Invalid::new(format!("{number} is out of range"), format!("give {}", self.form()))
        }))
    }
}

/// The maximum of a duration, so that no deadline overflows the clock.
const MAX_DURATION: Duration = Duration::from_secs(3600);

/// Parses a duration with its unit, such as `25s` or `1m 30s`, from 1 ms to 1 h.
pub(crate) fn duration(text: &str) -> Result<Duration, Invalid> {
    let hint = r#"give a number and its unit, from "1ms" to "1h", for example "25s""#;
    let positive = text.trim_start().trim_start_matches('-');
    match humantime::parse_duration(positive) {
        Ok(_) if positive != text.trim_start() => Err(Invalid::new(format!("{text:?} is negative"), hint)),
        Ok(value) if value < Duration::from_millis(1) => {
            Err(Invalid::new(format!("{text:?} is too short"), hint))
        }
        Ok(value) if value > MAX_DURATION => Err(Invalid::new(format!("{text:?} is too long"), hint)),
        Ok(value) => Ok(value),
        Err(humantime::DurationError::NumberOverflow) => Err(Invalid::new("this is too long", hint)),
        Err(_) => Err(Invalid::new("this is not a duration", hint)),
    }
}

/// A duration (see [`duration`]).
pub(crate) struct Time;

impl ValueKind for Time {
    type Value = Duration;

    fn form(&self) -> String {
        r#"a duration from "1ms" to "1h""#.to_owned()
    }

    fn read(&self, raw: RawValue, context: &mut ReadContext<'_>) -> Option<Duration> {
        let text = context.text(raw)?;
        context.ok(duration(&text))
    }
}

/// A duration, or zero.
pub(crate) struct TimeOrZero;

impl ValueKind for TimeOrZero {
    type Value = Duration;

    fn form(&self) -> String {
        r#""0s", or a duration from "1ms" to "1h""#.to_owned()
    }

    fn read(&self, raw: RawValue, context: &mut ReadContext<'_>) -> Option<Duration> {
        let text = context.text(raw)?;
        match humantime::parse_duration(text.trim()) {
            Ok(Duration::ZERO) => Some(Duration::ZERO),
            _ => context.ok(duration(&text)),
        }
    }
}

/// A duration, or `off`.
pub(crate) struct TimeOrOff;

impl ValueKind for TimeOrOff {
    type Value = Option<Duration>;

    fn form(&self) -> String {
        format!(r#"{}, or "off""#, Time.form())
    }

    fn read(&self, raw: RawValue, context: &mut ReadContext<'_>) -> Option<Option<Duration>> {
        let text = context.text(raw)?;
        if text == "off" {
            return Some(None);
        }
        let time = duration(&text)
            .map_err(|Invalid { problem, hint }| Invalid::new(problem, format!(r#"{hint}, or "off""#)));
        context.ok(time).map(Some)
    }
}

/// `true` or `false`.
pub(crate) struct Switch;

impl ValueKind for Switch {
    type Value = bool;

    fn form(&self) -> String {
        "true or false".to_owned()
    }

    fn arity(&self) -> Arity {
        Arity::Switch
    }

    fn read(&self, raw: RawValue, context: &mut ReadContext<'_>) -> Option<bool> {
        match raw {
            RawValue::Toml(TomlValue::Boolean(value)) => Some(value),
            RawValue::Toml(other) => context.ok(Err(type_error(&other, "true or false, without quotes"))),
            arguments @ RawValue::Arguments { .. } => match &*context.text(arguments)? {
                "true" | "1" => Some(true),
                "false" | "0" => Some(false),
                _ => context.ok(Err(Invalid::new("this is neither true nor false", "give true or false"))),
            },
        }
    }
}

/// The path of a file. A relative path in the configuration file starts at the directory of that file.
pub(crate) struct FilePath;

impl ValueKind for FilePath {
    type Value = PathBuf;

    fn form(&self) -> String {
        "a path".to_owned()
    }

    fn read(&self, raw: RawValue, context: &mut ReadContext<'_>) -> Option<PathBuf> {
        let path = match raw {
            RawValue::Arguments { values, .. } => values.into_iter().next_back().unwrap_or_default().into(),
            toml @ RawValue::Toml(_) => PathBuf::from(context.text(toml)?),
        };
        Some(context.directory.join(path))
    }
}

/// An enumeration of words.
pub(crate) struct Words<T: 'static>(pub(crate) &'static [(&'static str, T)]);

impl<T: Copy> ValueKind for Words<T> {
    type Value = T;

    fn form(&self) -> String {
        let words: Vec<_> = self.words().iter().map(|word| format!("{word:?}")).collect();
        words.join(" or ")
    }

    fn words(&self) -> Vec<&'static str> {
        self.0.iter().map(|(word, _)| *word).collect()
    }

    fn read(&self, raw: RawValue, context: &mut ReadContext<'_>) -> Option<T> {
        let text = context.text(raw)?;
        let value = self.0.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        let hint = || format!("give {}", self.words().join(" or "));
        context.ok(value.ok_or_else(|| Invalid::new("there is no such value", hint())))
    }
}

/// A text with its own parser. The second argument of the parser is the directory at which relative paths start.
pub(crate) struct Parsed<T> {
    pub(crate) form: &'static str,
    pub(crate) parse: fn(&str, &Path) -> Result<T, Invalid>,
}

impl<T> ValueKind for Parsed<T> {
    type Value = T;

    fn form(&self) -> String {
        self.form.to_owned()
    }

    fn read(&self, raw: RawValue, context: &mut ReadContext<'_>) -> Option<T> {
        let text = context.text(raw)?;
        let value = (self.parse)(&text, context.directory);
        context.ok(value)
    }
}

/// A list of one or more such texts. Commas separate the texts in a variable.
pub(crate) struct List<T> {
    pub(crate) form: &'static str,
    /// Whether the file may have a single string in place of the list.
    pub(crate) or_one: bool,
    pub(crate) parse: fn(&str, &Path) -> Result<T, Invalid>,
}

impl<T> ValueKind for List<T> {
    /// The valid items. The setting counts as absent if no item is valid.
    type Value = Vec<T>;

    fn form(&self) -> String {
        format!("a list of {}", self.form)
    }

    fn arity(&self) -> Arity {
        Arity::Many
    }

    fn read(&self, raw: RawValue, context: &mut ReadContext<'_>) -> Option<Vec<T>> {
        let texts: Vec<(Result<String, Invalid>, Provenance)> = match raw {
            RawValue::Arguments { values, separator } => {
                let origin = context.origin.clone();
                let values = values.into_iter().flat_map(|value| match (utf8(value), separator) {
                    (Ok(text), Some(separator)) => {
                        text.split(separator).map(|text| Ok(text.trim().to_owned())).collect()
                    }
                    (text, _) => vec![text],
                });
                values.map(|text| (text, origin.clone())).collect()
            }
            RawValue::Toml(TomlValue::List(items)) => {
                let (key, _) = context.origin.key_and_line();
                let item = |Located { value, line }| {
                    (text(value), Provenance::Key { key: key.clone(), line: Some(line) })
                };
                items.into_iter().map(item).collect()
            }
            RawValue::Toml(TomlValue::Text(text)) if self.or_one => vec![(Ok(text), context.origin.clone())],
            RawValue::Toml(other) => {
                return context.ok(Err(type_error(&other, r#"a list of strings, ["…"]"#)));
            }
        };
        if texts.is_empty() {
            return context.ok(Err(Invalid::new("the list is empty", "name at least one, or leave it out")));
        }
        let mut list = Vec::with_capacity(texts.len());
        for (text, origin) in texts {
            let item = text.and_then(|text| (self.parse)(&text, context.directory));
            if let Some(item) = context.errors.ok(&origin, item) {
                list.push(item);
                context.items.push(origin);
            }
        }
        (!list.is_empty()).then_some(list)
    }
}

/// The directory of a file that exists or is to be created.
pub(crate) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
