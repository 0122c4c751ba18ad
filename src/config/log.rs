//! How log lines look. What is logged is the business of `RUST_LOG`.

use super::{
    environment::Environment,
    fault::{Faults, Wrong},
    source::Given,
};

/// The form of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    pub(super) fn read(flag: Option<Self>, environment: &mut Environment, faults: &mut Faults) -> Self {
        let variable = environment.text("COUNTERMAND_LOG_FORMAT", faults).and_then(|given| {
            given.parsed(faults, |text: &str| match text {
                "text" => Ok(Self::Text),
                "json" => Ok(Self::Json),
                _ => Err(Wrong::new(format!("{text:?} is no log format"), "give text or json")),
            })
        });
        Given::flag("--log-format", flag).or(variable).map(|given| given.value).unwrap_or_default()
    }
}
