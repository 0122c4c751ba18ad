//! HTTP requests: finds the route, reads the body, and calls the handler.

use std::error::Error;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Method, Request, StatusCode, Version};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::api;
use crate::api_error::ApiError;
use crate::response::{HttpResponse, api_error, html};
use crate::route::{Route, RouteError};
use crate::shared::Shared;
use crate::token_route;

/// The size limit of a request body, in bytes.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// The maximum that is read of a larger body, in bytes.
const MAX_DRAINED_BYTES: usize = 16 * MAX_BODY_BYTES;

/// Handles a request. Returns `None` to reset the connection.
pub(crate) async fn respond<B>(shared: &Shared, request: Request<B>) -> Option<HttpResponse>
where
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>>,
{
    const MALFORMED: &str = "Your client has issued a malformed or illegal request.";
    let (head, body) = request.into_parts();
    let route = match Route::find(&head.method, head.uri.path()) {
        Ok(route) => route,
        Err(RouteError::Unknown) => {
            return Some(html(StatusCode::NOT_FOUND, "The requested URL was not found on this server."));
        }
        Err(RouteError::Malformed) => return Some(html(StatusCode::BAD_REQUEST, MALFORMED)),
    };
    if lacks_length(&head) {
        let explanation = "POST requests require a Content-length header.";
        return Some(html(StatusCode::LENGTH_REQUIRED, explanation));
    }
    shared.count(&route, head.uri.path());
    let body = match read(body).await {
        Ok(Some(body)) => body,
        Ok(None) => return Some(api_error(&ApiError::too_large(MAX_BODY_BYTES))),
        Err(_) => return Some(html(StatusCode::BAD_REQUEST, MALFORMED)),
    };
    match &route {
        Route::Api(call) => api::respond(shared, call, &head, &body).await,
        Route::Token(route) => token_route::respond(shared, route, &head, &body).await,
    }
}

/// Reads a body. `None` when it exceeds the limit. A larger body is drained up to [`MAX_DRAINED_BYTES`], because a
/// client that is still sending may not read the response.
async fn read<B>(body: B) -> Result<Option<Bytes>, Box<dyn Error + Send + Sync>>
where
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>>,
{
    match Limited::new(body, MAX_DRAINED_BYTES).collect().await {
        Ok(whole) => Ok(Some(whole.to_bytes()).filter(|body| body.len() <= MAX_BODY_BYTES)),
        Err(error) if error.is::<LengthLimitError>() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a POST lacks its length. Google's front end requires the length in HTTP/1.
fn lacks_length(head: &Parts) -> bool {
    head.method == Method::POST
        && head.version < Version::HTTP_2
        && !head.headers.contains_key(CONTENT_LENGTH)
        && !head.headers.contains_key(TRANSFER_ENCODING)
}
