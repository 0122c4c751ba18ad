//! A section of the configuration: its settings, each from its flag, its variable or its key of the file.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    errors::{ConfigErrors, Invalid},
    file::{File, Located, Table, TomlValue, parse_value},
    flags::Flags,
    provenance::{Given, Origin},
    suggestions::nearest,
    values::{Arity, Kind, Raw, Reading, wrong_type},
    variables::Variables,
};

/// The sources of all settings, and the errors found so far.
#[derive(Default)]
pub(crate) struct Sources {
    pub(crate) flags: Flags,
    pub(crate) variables: Variables,
    pub(crate) errors: ConfigErrors,
    directory: PathBuf,
}

/// The names of a setting.
pub(crate) struct Names {
    /// The key in its section of the file.
    pub(crate) key: &'static str,
    /// The environment variable.
    pub(crate) variable: Option<&'static str>,
    /// The flag, with its dashes and the name of its value: `--listen ADDR`.
    pub(crate) flag: Option<&'static str>,
}

/// A section of the file.
#[derive(Debug)]
pub(crate) struct Section {
    /// The dotted name, empty for the whole file.
    name: String,
    /// The line of the section's header, if it is one of several.
    line: Option<usize>,
    table: Table,
    /// The keys that were read.
    known: Vec<&'static str>,
    /// The places of the values that were given, by key.
    origins: BTreeMap<&'static str, Origins>,
}

/// The place of a value, and those of its items if it is a list.
#[derive(Debug)]
struct Origins {
    whole: Origin,
    items: Vec<Origin>,
}

impl Sources {
    pub(crate) fn new(flags: Flags, variables: Variables) -> Self {
        Self { flags, variables, ..Self::default() }
    }

    /// The root section of the file at `path`; empty if the file is not TOML. `None` if it cannot be read.
    pub(crate) fn open(&mut self, path: &Given<PathBuf>) -> Option<Section> {
        let File { table, directory } = File::read(path, &mut self.errors)?;
        self.directory = directory;
        Some(Section::new(String::new(), None, table))
    }
}

impl Section {
    fn new(name: String, line: Option<usize>, table: Table) -> Self {
        Self { name, line, table, known: Vec::new(), origins: BTreeMap::new() }
    }

    /// A section that has no keys in the file.
    pub(crate) fn empty(name: &str) -> Self {
        Self::new(name.to_owned(), None, Table::new())
    }

    /// The value of a setting; `None` if it is absent, or invalid, and then the error is added.
    pub(crate) fn read<K: Kind>(
        &mut self,
        names: &Names,
        kind: &K,
        sources: &mut Sources,
    ) -> Option<K::Value> {
        let in_file = self.take(names.key);
        let variable = names.variable.and_then(|variable| sources.variables.take(variable));
        let flag = names.flag.and_then(|flag| sources.flags.take(flag));
        let (raw, origin) = match (flag, variable, in_file) {
            (Some(Given { value, origin }), _, _) => {
                (Raw::Arguments { values: value, separator: None }, origin)
            }
            (None, Some(Given { value, origin }), _) => {
                (Raw::Arguments { values: vec![value], separator: Some(',') }, origin)
            }
            (None, None, Some(Given { value, origin })) => (Raw::Toml(value), origin),
            (None, None, None) => return None,
        };
        let nowhere = PathBuf::new();
        let is_in_file = matches!(origin, Origin::Key { .. });
        let directory = if is_in_file { &sources.directory } else { &nowhere };
        let mut reading =
            Reading { origin: &origin, directory, errors: &mut sources.errors, items: Vec::new() };
        let value = kind.read(raw, &mut reading);
        let items = reading.items;
        self.origins.insert(names.key, Origins { whole: origin, items });
        value
    }

    /// The value of a setting, otherwise `default`, in the syntax of the file.
    pub(crate) fn read_or<K: Kind>(
        &mut self,
        names: &Names,
        kind: &K,
        default: &str,
        sources: &mut Sources,
    ) -> K::Value {
        self.read(names, kind, sources).unwrap_or_else(|| {
            let origin = Origin::missing(names.key);
            let mut errors = ConfigErrors::default();
            let mut reading =
                Reading { origin: &origin, directory: "".as_ref(), errors: &mut errors, items: Vec::new() };
            let value = parse_value(default).and_then(|value| kind.read(Raw::Toml(value), &mut reading));
            value.unwrap_or_else(|| panic!("the default of {} is invalid: {default}", names.key))
        })
    }

    /// The place of a value that was given.
    pub(crate) fn origin(&self, key: &str) -> Option<&Origin> {
        self.origins.get(key).map(|origins| &origins.whole)
    }

    /// The places of the valid items of a list.
    pub(crate) fn items(&self, key: &str) -> &[Origin] {
        self.origins.get(key).map_or(&[], |origins| &origins.items)
    }

    /// Whether any of the settings read so far was given, valid or not.
    pub(crate) fn is_given(&self) -> bool {
        !self.origins.is_empty()
    }

    /// The place of this section, if it is one of several; otherwise that of a missing one.
    pub(crate) fn place(&self) -> Origin {
        Origin::Key { key: self.name.clone(), line: self.line }
    }

    /// The place of a key that is missing.
    pub(crate) fn missing(&self, key: &str) -> Origin {
        Origin::Key { key: self.dotted(key), line: self.line }
    }

    /// Whether the key is in the file and was not read.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Whether a key that was read is absent, and no unknown key is a misspelling of it, which is an error already.
    pub(crate) fn lacks(&self, key: &str) -> bool {
        !self.origins.contains_key(key)
            && !self.table.keys().any(|unknown| nearest(unknown, &self.known) == Some(key))
    }

    fn dotted(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    fn take(&mut self, key: &'static str) -> Option<Given<TomlValue>> {
        self.known.push(key);
        let Located { value, line } = self.table.remove(key)?;
        Some(Given { value, origin: Origin::Key { key: self.dotted(key), line: Some(line) } })
    }

    /// The table under `key`; an empty one if there is none.
    pub(crate) fn section(&mut self, key: &'static str, errors: &mut ConfigErrors) -> Section {
        let table = self.take(key).and_then(|Given { value, origin }| match value {
            TomlValue::Table(table) => Some(table),
            other => {
                errors.ok(&origin, Err(wrong_type(&other, &format!("a section, [{}]", self.dotted(key)))))
            }
        });
        Self::new(self.dotted(key), None, table.unwrap_or_default())
    }

    /// The tables under `[[key]]`.
    pub(crate) fn sections(&mut self, key: &'static str, errors: &mut ConfigErrors) -> Vec<Section> {
        let Some(Given { value, origin }) = self.take(key) else { return Vec::new() };
        let wanted = format!("a section in double brackets, [[{key}]]");
        let TomlValue::List(items) = value else {
            errors.ok::<()>(&origin, Err(wrong_type(&value, &wanted)));
            return Vec::new();
        };
        let section = |Located { value, line }| match value {
            TomlValue::Table(table) => Some(Self::new(key.to_owned(), Some(line), table)),
            other => {
                let origin = Origin::Key { key: key.to_owned(), line: Some(line) };
                errors.ok(&origin, Err(wrong_type(&other, &wanted)))
            }
        };
        items.into_iter().filter_map(section).collect()
    }

    /// Adds an error for each key that nothing read.
    pub(crate) fn finish(&self, errors: &mut ConfigErrors) -> UnknownKeys {
        let mut meant = Vec::new();
        for (key, Located { line, .. }) in &self.table {
            let nearest = nearest(key, &self.known);
            let hint = match nearest {
                Some(known) => format!("did you mean {known}?"),
                None => format!("the keys here are {}", self.known.join(", ")),
            };
            // A key in another form than any setting's may be a secret that was pasted.
            let is_printable = nearest.is_some() || is_in_the_form_of_a_key(key);
            let key = if is_printable { self.dotted(key) } else { self.dotted("(not printed)") };
            errors.add(&Origin::Key { key, line: Some(*line) }, "there is no such key", hint);
            meant.extend(nearest);
        }
        UnknownKeys { meant }
    }
}

fn is_in_the_form_of_a_key(key: &str) -> bool {
    key.len() <= 40 && key.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'-'))
}

/// The unknown keys of a section.
pub(crate) struct UnknownKeys {
    meant: Vec<&'static str>,
}

impl UnknownKeys {
    /// Whether one of them is a misspelling of `key`.
    pub(crate) fn means(&self, key: &str) -> bool {
        self.meant.contains(&key)
    }
}

/// What the reference and `--help` say of a setting.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    /// The section of the file; empty for a setting that the file does not have.
    pub(crate) section: &'static str,
    /// The key in the section.
    pub(crate) key: &'static str,
    /// The form of valid values.
    pub(crate) form: String,
    /// The valid values, if they are few words.
    pub(crate) words: Vec<&'static str>,
    /// How often the flag takes a value.
    pub(crate) arity: Arity,
    /// The default, in the syntax of the file.
    pub(crate) default: Option<&'static str>,
    /// The environment variable.
    pub(crate) variable: Option<&'static str>,
    /// The flag, with its dashes and the name of its value.
    pub(crate) flag: Option<&'static str>,
    /// The description.
    pub(crate) doc: &'static str,
}

impl Setting {
    /// The entry of the setting in the reference, in Markdown.
    pub(crate) fn reference(&self) -> String {
        let Self { section, key, form, words: _, arity: _, default, variable, flag, doc } = self;
        let name = if section.is_empty() { flag.unwrap_or(key) } else { key };
        let mut facts = vec![form.clone()];
        facts.extend(default.map(|default| format!("default `{default}`")));
        facts.extend(variable.map(|variable| format!("variable `{variable}`")));
        facts.extend(flag.filter(|_| !section.is_empty()).map(|flag| format!("flag `{flag}`")));
        let doc = doc.lines().map(str::trim).collect::<Vec<_>>().join("\n");
        format!("\n### `{name}`\n\n{}\n\n{}\n", facts.join(" · "), doc.trim())
    }
}

/// Declares the settings of a section: the struct of their values, the function that reads them, and their descriptions.
///
/// A setting is `name: type = default, kind, env VARIABLE, flag "--flag VALUE";`. Its name is its key in the file. The
/// default is written in the syntax of the file. Without one, the type is an `Option`.
macro_rules! settings {
    (
        $(#[doc = $struct_doc:literal])*
        pub struct $name:ident in $section:literal {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $type:ty $(= $default:expr)?, $kind:expr
                    $(, env $variable:literal)? $(, flag $flag:literal)?;
            )*
        }
    ) => {
        $(#[doc = $struct_doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $field: $type, )*
        }

        impl $name {
            /// Reads the settings from their section.
            pub(crate) fn read(
                section: &mut $crate::config::Section,
                sources: &mut $crate::config::Sources,
            ) -> Self {
                Self { $(
                    $field: {
                        let names = $crate::config::Names {
                            key: stringify!($field),
                            variable: $crate::config::settings!(@option $($variable)?),
                            flag: $crate::config::settings!(@option $($flag)?),
                        };
                        $crate::config::settings!(@read section, sources, names, $kind $(, $default)?)
                    },
                )* }
            }

            /// Describes the settings.
            pub(crate) fn describe() -> Vec<$crate::config::Setting> {
                use $crate::config::Kind as _;
                vec![$(
                    {
                        let kind = $kind;
                        $crate::config::Setting {
                            section: $section,
                            key: stringify!($field),
                            form: kind.form(),
                            words: kind.words(),
                            arity: kind.arity(),
                            default: $crate::config::settings!(@option $(stringify!($default))?),
                            variable: $crate::config::settings!(@option $($variable)?),
                            flag: $crate::config::settings!(@option $($flag)?),
                            doc: concat!($($doc, "\n"),+),
                        }
                    },
                )*]
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::read(
                    &mut $crate::config::Section::empty($section),
                    &mut $crate::config::Sources::default(),
                )
            }
        }
    };
    (@option) => { None };
    (@option $value:expr) => { Some($value) };
    (@read $section:ident, $sources:ident, $names:ident, $kind:expr) => {
        $section.read(&$names, &$kind, $sources)
    };
    (@read $section:ident, $sources:ident, $names:ident, $kind:expr, $default:expr) => {
        $section.read_or(&$names, &$kind, stringify!($default), $sources)
    };
}

pub(crate) use settings;

/// An error at a value of this section that was given, otherwise at its missing key.
impl Section {
    /// Adds `invalid` as an error of `key`.
    pub(crate) fn invalid(&self, key: &str, invalid: Invalid, errors: &mut ConfigErrors) {
        let missing = self.missing(key);
        errors.add(self.origin(key).unwrap_or(&missing), invalid.problem, invalid.hint);
    }
}
