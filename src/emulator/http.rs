//! HTTP around the API and the endpoints that give tokens: bodies in, answers out, and the faults between.

use std::error::Error;
use std::pin::pin;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Method, Request, StatusCode, Version};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::answer::{Answer, html, json, refusal};
use super::api::{self, Parameters};
use super::endpoint;
use super::refusal::Refusal;
use super::route::{Call, NoCall, Target};
use super::settings::Fault;
use super::state::{State, lock};

/// The most bytes that the body of a request may have.
const BODY_LIMIT: usize = 1024 * 1024;

/// The most bytes that are read of a body that is too long, before it is cut off.
const DRAIN_LIMIT: usize = 16 * BODY_LIMIT;

/// Answers a request; `None` when the connection is to be reset instead.
pub(super) async fn answer<B>(state: &State, request: Request<B>) -> Option<Answer>
where
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>>,
{
    let (head, body) = request.into_parts();
    let target = match Target::of(&head.method, head.uri.path()) {
        Ok(target) => target,
        Err(NoCall::Unknown) => {
            let explanation = "The requested URL was not found on this server.";
            return Some(html(StatusCode::NOT_FOUND, explanation));
        }
        Err(NoCall::Malformed) => {
            let explanation = "Your client has issued a malformed or illegal request.";
            return Some(html(StatusCode::BAD_REQUEST, explanation));
        }
    };
    if lacks_length(&head) {
        let explanation = "POST requests require a Content-length header.";
        return Some(html(StatusCode::LENGTH_REQUIRED, explanation));
    }
    state.count(&target, head.uri.path());
    let body = match read(body).await {
        Ok(Some(body)) => body,
        Ok(None) => return Some(refusal(&Refusal::too_large(BODY_LIMIT), true)),
        Err(_) => {
            let explanation = "Your client has issued a malformed or illegal request.";
            return Some(html(StatusCode::BAD_REQUEST, explanation));
        }
    };
    match &target {
        Target::Api(call) => api_answer(state, call, &head, &body).await,
        Target::Endpoint(ask) => endpoint::answer(state, ask, &head, &body).await,
    }
}

/// Reads a body; `None` when it is longer than the limit. It is read to its end all the same, within reason:
/// a client that is still sending may not look at an answer.
async fn read<B>(body: B) -> Result<Option<Bytes>, Box<dyn Error + Send + Sync>>
where
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>>,
{
    let mut body = pin!(Limited::new(body, DRAIN_LIMIT));
    let (mut whole, mut size) = (BytesMut::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Err(error) if error.is::<LengthLimitError>() => return Ok(None),
            frame => frame?,
        };
        if let Ok(data) = frame.into_data() {
            size += data.remaining();
            if size <= BODY_LIMIT {
                whole.put(data);
            }
        }
    }
    Ok((size <= BODY_LIMIT).then(|| whole.freeze()))
}

/// Google's front end wants to know the length of a POST before it reads on. HTTP/2 frames tell it.
fn lacks_length(head: &Parts) -> bool {
    head.method == Method::POST
        && head.version < Version::HTTP_2
        && !head.headers.contains_key(CONTENT_LENGTH)
        && !head.headers.contains_key(TRANSFER_ENCODING)
}

async fn api_answer(state: &State, call: &Call, head: &Parts, body: &[u8]) -> Option<Answer> {
    let latency = lock(&state.settings).latency;
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    match api::fault(state) {
        Some(Fault::Reset) => return None,
        Some(fault) => return api::refusal_of(fault, state).map(|met| refusal(&met, true)),
        None => {}
    }
    let parameters = match Parameters::parse(call, head.uri.query().unwrap_or_default()) {
        Ok(parameters) => parameters,
        Err(wrong) => return Some(refusal(&wrong, true)),
    };
    Some(match api::carry_out(state, call, head, &parameters, body) {
        Ok(value) => json(StatusCode::OK, &value, parameters.pretty),
        Err(refused) => refusal(&refused, parameters.pretty),
    })
}
