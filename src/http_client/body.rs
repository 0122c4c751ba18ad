//! Reads a body without trusting its announced length.

use super::send_error::cause_of;

/// A body could not be read completely.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The body is longer than the limit. Reading stopped at the limit.
    #[error("the body is longer than {0} bytes")]
    TooLong(usize),
    /// The connection ended before the body did.
    #[error("the body is incomplete: {0}")]
    Incomplete(String),
}

pub(super) async fn read(mut response: reqwest::Response, limit: usize) -> Result<Vec<u8>, BodyError> {
    let announced = response.content_length().unwrap_or(0);
    if announced > limit as u64 {
        return Err(BodyError::TooLong(limit));
    }
    // The buffer grows as data arrives, because the announced length may be false.
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > limit => return Err(BodyError::TooLong(limit)),
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) => return Err(BodyError::Incomplete(cause_of(&error.without_url()))),
        }
    }
}
