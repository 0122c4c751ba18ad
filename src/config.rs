//! Reads settings from flags, environment variables and a TOML file. All errors are reported at once.
//!
//! A setting comes from its flag, otherwise from its `COUNTERMAND_…` variable, otherwise from the file, otherwise
//! from its default. Each component declares its settings with [`settings!`]. `app::config` combines them.

pub(crate) mod address;
mod effective;
pub(crate) mod endpoint;
mod errors;
mod file;
mod flags;
mod provenance;
mod section;
mod suggestions;
mod toml_errors;
mod values;
mod variables;

pub use effective::EffectiveSetting;
pub use errors::{ConfigError, ConfigErrors};
pub use flags::Flags;
pub use variables::Variables;

pub(crate) use errors::Invalid;
pub(crate) use file::cannot_read;
pub(crate) use provenance::{Given, Provenance};
pub(crate) use section::{Names, Section, Setting, Sources, read_numbered, settings};
pub(crate) use values::{
    CA_CERTIFICATES, FilePath, List, Parsed, READABLE_FILE, Switch, Time, TimeOrOff, TimeOrZero, ValueKind,
    Words, directory_of, duration, integer,
};
