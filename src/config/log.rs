//! How log lines look. What is logged is the business of `RUST_LOG`, which the log itself reads; here it is
//! only checked, so that it is told with the other faults.

use super::{
    environment::{Environment, RUST_LOG},
    fault::{Faults, Wrong},
    source::Given,
};
use crate::telemetry;

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
        if let Some(given) = environment.text(RUST_LOG, faults) {
            given.parse(faults, valid_filter);
        }
        Given::flag("--log-format", flag).or(variable).map(|given| given.value).unwrap_or_default()
    }
}

fn valid_filter(text: &str) -> Result<(), Wrong> {
    telemetry::filter(text)
        .map(drop)
        .map_err(|error| Wrong::new(error, "give levels, such as info,countermand::operations=debug"))
}
