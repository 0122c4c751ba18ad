//! Finds the page for a request.

use std::sync::Arc;

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE},
};
use http_body_util::Full;
use tokio::sync::watch;

use super::{log_level, metrics_page, readyz};
use crate::{
    credentials::Credentials,
    serving::Serving,
    telemetry::{log::LogLevels, metrics::Registry},
};

/// What a reader of the pages may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// States and their causes, which can have addresses and the names of files.
    Causes,
    /// States only.
    States,
}

/// The pages of a port.
#[derive(Clone)]
pub struct Pages {
    pub(super) credentials: Arc<Credentials>,
    pub(super) serving: watch::Receiver<Serving>,
    pub(super) metrics: Arc<Registry>,
    pub(super) detail: Detail,
    /// The log, for the admin port of a process that has one.
    log_levels: Option<LogLevels>,
}

impl Pages {
    /// Pages with the state of `serving` and `credentials`, and the metrics of `metrics`.
    #[must_use]
    pub fn new(
        credentials: Arc<Credentials>,
        serving: watch::Receiver<Serving>,
        metrics: Arc<Registry>,
        detail: Detail,
    ) -> Self {
        Self { credentials, serving, metrics, detail, log_levels: None }
    }

    /// Adds `/loglevel`, which changes the filter of the log.
    pub fn set_log_levels(&mut self, levels: LogLevels) {
        self.log_levels = Some(levels);
    }

    /// Responds to a request.
    pub(super) async fn respond<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        match &self.log_levels {
            Some(levels) if request.uri().path() == "/loglevel" => log_level::respond(levels, request).await,
            _ => self.read(&request),
        }
    }

    /// Responds to a request for a page that cannot be changed. The body of the request is ignored.
    fn read<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let page = match request.uri().path() {
            "/livez" => |_: &Self, _: &Request<B>| page(StatusCode::OK, TEXT, "ok\n"),
            "/readyz" => |pages: &Self, request: &Request<B>| readyz::ready(pages, request.headers()),
            "/metrics" => {
                |pages: &Self, request: &Request<B>| metrics_page::metrics(&pages.metrics, request.headers())
            }
            _ => return status(StatusCode::NOT_FOUND),
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return method_not_allowed("GET,HEAD");
        }
        page(self, request)
    }
}

/// The content type of a page in plain text.
pub(super) const TEXT: &str = "text/plain; charset=utf-8";

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}

pub(super) fn method_not_allowed(allowed: &'static str) -> Response<Full<Bytes>> {
    let mut response = status(StatusCode::METHOD_NOT_ALLOWED);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// A page with a body.
pub(super) fn page(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
