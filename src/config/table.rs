//! A table of the file. Who reads a key takes it, and what is left is unknown.

use std::path::{Path, PathBuf};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    discreet,
    fault::{Faults, Wrong},
    file::Place,
    files,
    source::{Given, Origin},
};

/// A table of the file.
pub(super) struct Section<'a> {
    /// The dotted name, empty for the whole file.
    name: String,
    table: DeTable<'a>,
    asked: Vec<&'static str>,
    found: Vec<&'static str>,
    place: Place<'a>,
}

impl<'a> Section<'a> {
    pub(super) fn new(name: String, table: DeTable<'a>, place: Place<'a>) -> Self {
        Self { name, table, asked: Vec::new(), found: Vec::new(), place }
    }

    /// The dotted name of a key.
    fn dotted(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    fn origin(&self, key: &str, offset: Option<usize>) -> Origin {
        let key = self.dotted(key);
        let line = offset.map(|offset| self.place.line_and_column(offset).0);
        Origin::Key { key, line }
    }

    /// The place of a key that is not there.
    pub(super) fn missing(&self, key: &str) -> Origin {
        self.origin(key, None)
    }

    /// Whether the key is there, not yet taken.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Whether the key was neither there when it was asked for, nor is in another spelling: that would be
    /// told as an unknown key, and once is enough. To be asked when the section's other keys have been.
    pub(super) fn lacks(&self, key: &str) -> bool {
        !self.found.contains(&key) && !self.has_misspelt(key)
    }

    /// Whether there is a key, not taken, that is close to this one, which was asked for.
    fn has_misspelt(&self, key: &str) -> bool {
        self.table.keys().any(|unknown| nearest(unknown.get_ref(), &self.asked) == Some(key))
    }

    /// The directory of the file: what its relative paths are relative to.
    pub(super) fn directory(&self) -> &'a Path {
        self.place.directory
    }

    fn take(&mut self, key: &'static str) -> Option<Given<DeValue<'a>>> {
        self.asked.push(key);
        let (name, value) = self.table.remove_entry(key)?;
        self.found.push(key);
        let origin = self.origin(key, Some(name.span().start));
        Some(Given { value: value.into_inner(), origin })
    }

    pub(super) fn text(&mut self, key: &'static str, faults: &mut Faults) -> Option<Given<String>> {
        self.take(key)?.parsed(faults, text)
    }

    /// A path; one that is relative is so to the directory of the file.
    pub(super) fn path(&mut self, key: &'static str, faults: &mut Faults) -> Option<Given<PathBuf>> {
        self.path_unless(|_| false, key, faults)
    }

    /// A path, likewise, or a word that stands for something else.
    pub(super) fn path_unless(
        &mut self,
        is_word: impl Fn(&str) -> bool,
        key: &'static str,
        faults: &mut Faults,
    ) -> Option<Given<PathBuf>> {
        let given = self.text(key, faults)?;
        if is_word(&given.value) {
            return Some(given.map(PathBuf::from));
        }
        faults.note(&given.origin, files::name(&given.value))?;
        Some(given.map(|value| self.place.directory.join(value)))
    }

    pub(super) fn integer(&mut self, key: &'static str, faults: &mut Faults) -> Option<Given<i64>> {
        self.take(key)?.parsed(faults, |value: &DeValue<'_>| match value {
            DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
                .map_err(|_| Wrong::new(format!("{integer} is too large"), "give a smaller number")),
            other => Err(wrong_type(other, "a whole number, without quotes")),
        })
    }

    pub(super) fn boolean(&mut self, key: &'static str, faults: &mut Faults) -> Option<Given<bool>> {
        self.take(key)?.parsed(faults, |value: &DeValue<'_>| match value {
            DeValue::Boolean(value) => Ok(*value),
            other => Err(wrong_type(other, "true or false, without quotes")),
        })
    }

    /// A text, or a list of them.
    pub(super) fn text_or_texts(
        &mut self,
        key: &'static str,
        faults: &mut Faults,
    ) -> Option<Given<Vec<Given<String>>>> {
        if matches!(self.table.get(key).map(Spanned::get_ref), Some(DeValue::String(_))) {
            let one = self.text(key, faults)?;
            let origin = one.origin.clone();
            return Some(Given { value: vec![one], origin });
        }
        self.texts(key, faults)
    }

    /// A list of texts, less the items that are none; each keeps its own line.
    pub(super) fn texts(
        &mut self,
        key: &'static str,
        faults: &mut Faults,
    ) -> Option<Given<Vec<Given<String>>>> {
        let Given { value, origin } = self.take(key)?;
        let DeValue::Array(items) = &value else {
            let wrong = wrong_type(&value, r#"a list of strings, ["…"]"#);
            return faults.note(&origin, Err(wrong));
        };
        let mut list = Vec::with_capacity(items.len());
        for item in items {
            let origin = self.origin(key, Some(item.span().start));
            if let Some(value) = faults.note(&origin, text(item.get_ref())) {
                list.push(Given { value, origin });
            }
        }
        (items.is_empty() || !list.is_empty()).then_some(Given { value: list, origin })
    }

    /// The table under `key`; an empty one when there is none.
    pub(super) fn section(&mut self, key: &'static str, faults: &mut Faults) -> Section<'a> {
        let table = self.take(key).and_then(|Given { value, origin }| match value {
            DeValue::Table(table) => Some(table),
            other => {
                faults.note(&origin, Err(wrong_type(&other, &format!("a section, [{}]", self.dotted(key)))))
            }
        });
        Self::new(self.dotted(key), table.unwrap_or_default(), self.place)
    }

    /// The tables under `[[key]]`, each with the place where it begins.
    pub(super) fn sections(&mut self, key: &'static str, faults: &mut Faults) -> Vec<Given<Section<'a>>> {
        let Some(Given { value, origin }) = self.take(key) else { return Vec::new() };
        let wanted = format!("a section in double brackets, [[{key}]]");
        let DeValue::Array(items) = value else {
            faults.note::<()>(&origin, Err(wrong_type(&value, &wanted)));
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(items.len());
        for item in items {
            let origin = self.origin(key, Some(item.span().start));
            match item.into_inner() {
                DeValue::Table(table) => {
                    let value = Self::new(key.to_owned(), table, self.place);
                    sections.push(Given { value, origin });
                }
                other => {
                    faults.note::<()>(&origin, Err(wrong_type(&other, &wanted)));
                }
            }
        }
        sections
    }

    /// What nobody took is unknown.
    pub(super) fn finish(self, faults: &mut Faults) -> Unknown {
        let mut meant = Vec::new();
        for (key, _) in &self.table {
            let origin = self.origin(&escaped(key), Some(key.span().start));
            let nearest = nearest(key.get_ref(), &self.asked);
            let remedy = match nearest {
                Some(known) => format!("did you mean {known}?"),
                None => format!("the keys here are {}", self.asked.join(", ")),
            };
            faults.add(&origin, "there is no such key", remedy);
            meant.extend(nearest);
        }
        Unknown { meant }
    }
}

/// The unknown keys of a section. Only one that is finished has them: what nobody took yet may still be known.
pub(super) struct Unknown {
    meant: Vec<&'static str>,
}

impl Unknown {
    /// Whether one of them is close to this known one.
    pub(super) fn means(&self, key: &str) -> bool {
        self.meant.contains(&key)
    }
}

fn text(value: &DeValue<'_>) -> Result<String, Wrong> {
    match value {
        DeValue::String(text) => Ok(text.clone().into_owned()),
        other => Err(wrong_type(other, "a string, in quotes")),
    }
}

fn wrong_type(found: &DeValue<'_>, wanted: &str) -> Wrong {
    let found = found.type_str();
    let article = if found.starts_with(['a', 'i']) { "an" } else { "a" };
    Wrong::new(format!("this is {article} {found}"), format!("give {wanted}"))
}

/// A quoted key may hold any character, or a secret.
fn escaped(key: &Spanned<std::borrow::Cow<'_, str>>) -> String {
    let escaped = key.get_ref().escape_debug().to_string();
    if discreet::is_secret(&escaped) { discreet::NOT_SHOWN.to_owned() } else { escaped }
}

/// The known name that is closest to `name`, when one is close enough to be meant.
pub(super) fn nearest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    let enough = (name.len() / 4).clamp(1, 3);
    known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(name, known), *known))
        .filter(|(distance, _)| *distance <= enough)
        .min()
        .map(|(_, known)| known)
}
