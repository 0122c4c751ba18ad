//! Reading a body without trusting its length.

use super::failure::cause_of;

/// Why a body could not be read whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is longer than the limit. Reading stopped there.
    #[error("the body is longer than {0} bytes")]
    TooLong(usize),
    /// The connection ended before the body did.
    #[error("the body broke off: {0}")]
    BrokenOff(String),
}

pub(super) async fn read(mut response: reqwest::Response, limit: usize) -> Result<Vec<u8>, BodyError> {
    let announced = response.content_length().unwrap_or(0);
    if announced > limit as u64 {
        return Err(BodyError::TooLong(limit));
    }
    // The announced length is the peer's word: room for it is made as it arrives.
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > limit => return Err(BodyError::TooLong(limit)),
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) => return Err(BodyError::BrokenOff(cause_of(&error.without_url()))),
        }
    }
}
