//! Finds the page for a request.

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
};
use http_body::Body;
use http_body_util::{BodyExt, Full, Limited};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

use super::{
    access, html, log_level, metrics_page, readyz,
    statusz::{self, Status},
};
use crate::{
    config::EffectiveSetting,
    credentials::Credentials,
    serving::Serving,
    telemetry::{
        log::LogLevels,
        metrics::{
            CallMetrics, ConnectionMetrics, OperationMetrics, QuotaMetrics, Registry, UpstreamMetrics,
        },
    },
};

/// The content that the reader of the pages may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
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
    /// `None` on the telemetry listener.
    operator: Option<Arc<Operator>>,
    /// The log, if the process has one.
    log_levels: Option<LogLevels>,
}

/// The parts of the process that the operator's pages show or change.
pub struct Operator {
    /// The time of the start.
    pub started: (SystemTime, Instant),
    /// The addresses by the names of their settings.
    pub listeners: Vec<(&'static str, String)>,
    /// Reads the configuration in effect.
    pub configuration: Box<dyn Fn() -> Vec<EffectiveSetting> + Send + Sync>,
    /// Calls.
    pub calls: Arc<CallMetrics>,
    /// Requests to the upstream.
    pub upstream: Arc<UpstreamMetrics>,
    /// The budgets of the Google projects.
    pub quota: QuotaMetrics,
    /// Waiters, pollers and cached states.
    pub operations: OperationMetrics,
    /// Connections of the gRPC listeners.
    pub connections: ConnectionMetrics,
    /// Requests the drain. `None` if `admin.quit` is off.
    pub quit: Option<Arc<Notify>>,
}

/// A page: the methods that it allows, as in the header `Allow`, and its response.
type OperatorPage = (&'static str, fn(&Pages, &Operator, &Request<Bytes>) -> Response<Full<Bytes>>);

/// The methods of a page that is only read.
const READ: &str = "GET,HEAD";

/// The maximum length of a request's body.
const MAX_BODY_BYTES: usize = 4096;

/// The time for a request's body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

impl Pages {
    /// Pages for monitoring, with the state of `serving` and `credentials`, and the metrics of `metrics`.
    #[must_use]
    pub fn new(
        credentials: Arc<Credentials>,
        serving: watch::Receiver<Serving>,
        metrics: Arc<Registry>,
    ) -> Self {
        Self { credentials, serving, metrics, operator: None, log_levels: None }
    }

    /// The same pages with causes, and those for operators.
    #[must_use]
    pub fn with_operator(self, operator: Operator) -> Self {
        Self { operator: Some(Arc::new(operator)), ..self }
    }

    /// Lets `/loglevel` change the filter of the log.
    pub fn set_log_levels(&mut self, levels: LogLevels) {
        self.log_levels = Some(levels);
    }

    pub(super) fn detail(&self) -> Detail {
        if self.operator.is_some() { Detail::Causes } else { Detail::States }
    }

    /// Responds to a request. `is_local` is true for a client on loopback.
    pub(super) async fn respond<B>(&self, request: Request<B>, is_local: bool) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes, Error: Error + Send + Sync + 'static>,
    {
        let path = request.uri().path();
        if let Some(page) = operator_page(path) {
            return match &self.operator {
                Some(operator) => self.respond_to_operator(operator, page, request, is_local).await,
                None => status(StatusCode::NOT_FOUND),
            };
        }
        let respond = match path {
            "/livez" => |_: &Self, _: &HeaderMap| page(StatusCode::OK, TEXT, "ok\n"),
            "/readyz" => readyz::ready,
            "/metrics" => |pages: &Self, headers: &HeaderMap| metrics_page::metrics(&pages.metrics, headers),
            _ => return status(StatusCode::NOT_FOUND),
        };
        if !allows(READ, request.method()) {
            return not_allowed(READ);
        }
        respond(self, request.headers())
    }

    async fn respond_to_operator<B>(
        &self,
        operator: &Operator,
        (methods, respond): OperatorPage,
        request: Request<B>,
        is_local: bool,
    ) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes, Error: Error + Send + Sync + 'static>,
    {
        if let Err(forbidden) = access::check(&request, is_local) {
            return page(StatusCode::FORBIDDEN, TEXT, format!("{forbidden}\n"));
        }
        if !allows(methods, request.method()) {
            return not_allowed(methods);
        }
        let (head, body) = request.into_parts();
        let body = timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect()).await;
        let mut response = match body {
            Ok(Ok(body)) => respond(self, operator, &Request::from_parts(head, body.to_bytes())),
            Ok(Err(_)) => page(StatusCode::BAD_REQUEST, TEXT, "the body is incomplete or too long\n"),
            Err(_) => page(StatusCode::REQUEST_TIMEOUT, TEXT, "the body did not arrive in time\n"),
        };
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}

fn operator_page(path: &str) -> Option<OperatorPage> {
    Some(match path {
        "/" => (READ, |_, _, _| html::index()),
        "/statusz" => (READ, |pages, operator, request| {
            html::statusz(&Status::read(pages, operator), request.uri().query())
        }),
        "/statusz.json" => (READ, |pages, operator, _| statusz::json(&Status::read(pages, operator))),
        "/loglevel" => ("GET,HEAD,POST,PUT", |pages, _, request| match &pages.log_levels {
            Some(levels) => log_level::respond(levels, request),
            None => status(StatusCode::NOT_FOUND),
        }),
        "/quitquitquit" => ("POST", |_, operator, _| quit(operator)),
        _ => return None,
    })
}

fn quit(operator: &Operator) -> Response<Full<Bytes>> {
    match &operator.quit {
        Some(quit) => {
            quit.notify_one();
            page(StatusCode::OK, TEXT, "draining\n")
        }
        None => page(StatusCode::FORBIDDEN, TEXT, "this needs the setting admin.quit\n"),
    }
}

/// The content type of a page in plain text.
pub(super) const TEXT: &str = "text/plain; charset=utf-8";

fn allows(methods: &str, method: &Method) -> bool {
    methods.split(',').any(|allowed| allowed == method.as_str())
}

fn not_allowed(methods: &'static str) -> Response<Full<Bytes>> {
    let mut response = status(StatusCode::METHOD_NOT_ALLOWED);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::default();
    *response.status_mut() = status;
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
