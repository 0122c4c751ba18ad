//! Where a value came from, so that a fault can name the very place to mend.

use std::{borrow::Borrow, time::Duration};

use super::fault::{Faults, Wrong};

/// The place of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    Flag(&'static str),
    Variable(String),
    /// A key of the file, dotted, and the line on which it stands, when it stands there.
    Key {
        key: String,
        line: Option<usize>,
    },
}

impl Origin {
    /// The name to show, and the line of the file.
    pub(super) fn place(&self) -> (String, Option<usize>) {
        match self {
            Self::Flag(flag) => ((*flag).to_owned(), None),
            Self::Variable(name) => (name.clone(), None),
            Self::Key { key, line } => (key.clone(), *line),
        }
    }

    /// The place of a key that is missing from the section that begins at `self`.
    pub(super) fn within(&self, key: &str) -> Self {
        let (section, line) = self.place();
        Self::Key { key: format!("{section}.{key}"), line }
    }
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given<T> {
    pub(super) value: T,
    pub(super) origin: Origin,
}

impl<T> Given<T> {
    pub(super) fn flag(flag: &'static str, value: Option<T>) -> Option<Self> {
        value.map(|value| Self { value, origin: Origin::Flag(flag) })
    }

    /// The value as `read` understands it; `None` when it does not, and then the fault is noted.
    pub(super) fn parse<B: ?Sized, U>(
        &self,
        faults: &mut Faults,
        read: impl FnOnce(&B) -> Result<U, Wrong>,
    ) -> Option<U>
    where
        T: Borrow<B>,
    {
        faults.note(&self.origin, read(self.value.borrow()))
    }

    /// The same with its place; `None` as for [`Self::parse`].
    pub(super) fn parsed<B: ?Sized, U>(
        self,
        faults: &mut Faults,
        read: impl FnOnce(&B) -> Result<U, Wrong>,
    ) -> Option<Given<U>>
    where
        T: Borrow<B>,
    {
        let value = self.parse(faults, read)?;
        Some(Given { value, origin: self.origin })
    }

    /// What the value stands for, with its place.
    pub(super) fn map<U>(self, meaning: impl FnOnce(T) -> U) -> Given<U> {
        Given { value: meaning(self.value), origin: self.origin }
    }
}

/// What each of a list is, but for those at fault.
pub(super) fn each<T>(
    list: &[Given<String>],
    faults: &mut Faults,
    read: impl Fn(&str) -> Result<T, Wrong>,
) -> Vec<T> {
    list.iter().filter_map(|given| given.parse(faults, |text: &str| read(text))).collect()
}

/// The longest duration that any setting takes: long enough for each, and short enough that a deadline
/// computed from it cannot overflow the clock.
const LONGEST: Duration = Duration::from_secs(3600);

/// A duration with its unit, `25s` or `1m 30s`, above zero and at most an hour.
pub(crate) fn duration(text: &str) -> Result<Duration, Wrong> {
    let remedy = r#"give a number and its unit, from "1ms" to "1h", for example "25s""#;
    let wrong = |what: &str| Wrong::new(format!("{text:?} {what}"), remedy);
    if text.trim_start().starts_with('-') {
        return Err(wrong("is negative"));
    }
    match humantime::parse_duration(text) {
        Ok(value) if value < Duration::from_millis(1) => Err(wrong("is too short")),
        Ok(value) if value > LONGEST => Err(wrong("is too long")),
        Ok(value) => Ok(value),
        Err(humantime::DurationError::NumberOverflow) => Err(wrong("is too long")),
        Err(_) => Err(wrong("is not a duration")),
    }
}
