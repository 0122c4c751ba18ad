//! Which enterprises a credential serves, as its configuration writes it.

use std::fmt;

use crate::name::{InvalidName, check_enterprise};

/// Some of the enterprises: `LC01`, `LC01*`, or `*` for all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// The one of this id.
    Id(String),
    /// All whose ids begin so; the empty beginning is that of all.
    Prefix(String),
}

impl Pattern {
    /// Every enterprise.
    #[must_use]
    pub fn all() -> Self {
        Self::Prefix(String::new())
    }

    /// Reads an id, or the beginning of ids with a `*` at its end.
    ///
    /// # Errors
    ///
    /// No enterprise could be meant by it.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        match text.strip_suffix('*') {
            Some(prefix) => {
                // A beginning is right when there is an id that begins so.
                check_enterprise(&format!("{prefix}0"))?;
                Ok(Self::Prefix(prefix.to_owned()))
            }
            None => {
                check_enterprise(text)?;
                Ok(Self::Id(text.to_owned()))
            }
        }
    }
}

/// As it is written in the configuration.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => f.write_str(id),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn an_id_and_a_beginning_are_told_apart_and_written_as_they_were_read() {
        let longest = "x".repeat(255);
        let longest_prefix = format!("{}*", "x".repeat(254));
        for text in ["LC01", "LC01*", "*", "-*", ".*", "a.b~c_d-e", &longest, &longest_prefix] {
            let pattern = Pattern::parse(text).expect(text);
            assert_eq!(pattern.to_string(), text);
            assert_eq!(matches!(pattern, Pattern::Prefix(_)), text.ends_with('*'), "{text}");
        }
        assert_eq!(Pattern::parse("*"), Ok(Pattern::all()));
    }

    #[test]
    fn what_no_enterprise_can_be_called_is_refused() {
        let long = "x".repeat(256);
        let long_prefix = format!("{}*", "x".repeat(255));
        for text in
            ["", "-", ".", "..", "LC*1", "**", "*LC", "enterprises/LC01", "LC 1", "LÇ", &long, &long_prefix]
        {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }
}
