//! The operator's view: the [`log`], the [`metrics`], their [`history`] and the [`traces`]. No other component is
//! named here, so every component may use this one.

pub mod history;
pub mod log;
pub mod metrics;
pub mod settings;
pub mod traces;
