//! To be written.

/// Google's JSON error.
#[derive(Debug, Clone)]
pub struct GoogleError;

impl std::fmt::Display for GoogleError {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}
