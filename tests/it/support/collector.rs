//! An OpenTelemetry collector that keeps the spans it receives over OTLP/gRPC.

use std::{future::Future, net::SocketAddr};

use countermand::proto::otlp::{
    collector::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::{KeyValue, any_value::Value},
    resource::Resource,
    trace::{Span, span::SpanKind, status::StatusCode},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tonic::{Request, Response, Status, metadata::MetadataMap};

use super::{
    tls::{Authority, H2},
    with_timeout,
};

/// A running collector.
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    exports: watch::Sender<Vec<Export>>,
    serving: JoinHandle<()>,
}

/// A request of an exporter.
pub(crate) struct Export {
    pub(crate) headers: MetadataMap,
    pub(crate) resource: Resource,
    pub(crate) spans: Vec<Span>,
}

impl Collector {
    /// Serves plaintext on loopback.
    pub(crate) async fn start() -> Self {
        Self::serve("127.0.0.1:0".parse().unwrap(), |socket| async { Some(socket) }).await
    }

    /// Serves plaintext at the address of a collector that has ended.
    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        Self::serve(address, |socket| async { Some(socket) }).await
    }

    /// Serves TLS with a certificate of `authority`.
    pub(crate) async fn start_tls(authority: &Authority) -> Self {
        let acceptor = authority.acceptor(&[H2]);
        Self::serve("127.0.0.1:0".parse().unwrap(), move |socket| {
            let acceptor = acceptor.clone();
            async move { acceptor.accept(socket).await.ok() }
        })
        .await
    }

    async fn serve<T, F>(address: SocketAddr, secure: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        F: Future<Output = Option<T>> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let exports = watch::Sender::new(Vec::new());
        let service = TraceServiceServer::new(Received(exports.clone()));
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (socket, service) = (secure(socket), service.clone());
                // The set ends the connections with the collector.
                connections.spawn(async move {
                    let Some(socket) = socket.await else { return };
                    let builder = auto::Builder::new(TokioExecutor::new()).http2_only();
                    // An exporter that ends closes its connection without GOAWAY.
                    let _ = builder
                        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(service))
                        .await;
                });
            }
        });
        Self { address, exports, serving }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Reads the exports so far.
    pub(crate) fn exports<T>(&self, read: impl FnOnce(&[Export]) -> T) -> T {
        read(&self.exports.borrow())
    }

    /// The spans so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.exports(|exports| exports.iter().flat_map(|export| export.spans.clone()).collect())
    }

    /// Waits until `count` spans of calls have arrived, and returns all spans. The span of a call ends last.
    pub(crate) async fn calls(&self, count: usize) -> Vec<Span> {
        let mut exports = self.exports.subscribe();
        let arrived = exports.wait_for(|exports| {
            let spans = exports.iter().flat_map(|export| &export.spans);
            spans.filter(|span| span.kind() == SpanKind::Server).count() >= count
        });
        drop(with_timeout("spans at the collector", arrived).await.unwrap());
        self.spans()
    }

    /// Waits until there is a span for which `is_expected` is true, and returns it.
    pub(crate) async fn span(&self, is_expected: impl Fn(&Span) -> bool) -> Span {
        let mut exports = self.exports.subscribe();
        let find = |exports: &Vec<Export>| {
            exports.iter().flat_map(|export| &export.spans).find(|span| is_expected(span)).cloned()
        };
        let arrived = exports.wait_for(|exports| find(exports).is_some());
        let exports = with_timeout("a span at the collector", arrived).await.unwrap();
        find(&exports).unwrap()
    }

    /// Ends, and closes the port.
    pub(crate) async fn stop(self) -> SocketAddr {
        self.serving.abort();
        self.serving.await.unwrap_err();
        self.address
    }
}

#[derive(Clone)]
struct Received(watch::Sender<Vec<Export>>);

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let headers = request.metadata().clone();
        for spans in request.into_inner().resource_spans {
            let export = Export {
                headers: headers.clone(),
                resource: spans.resource.unwrap(),
                spans: spans.scope_spans.into_iter().flat_map(|spans| spans.spans).collect(),
            };
            self.0.send_modify(|exports| exports.push(export));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// The text of an attribute. `None` without it.
pub(crate) fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let mut found = attributes.iter().filter(|attribute| attribute.key == key);
    let value = found.next()?.value.as_ref()?.value.as_ref()?;
    assert!(found.next().is_none(), "{key} is given twice");
    Some(match value {
        Value::StringValue(text) => text.clone(),
        Value::BoolValue(value) => value.to_string(),
        Value::IntValue(value) => value.to_string(),
        other => panic!("{other:?}"),
    })
}

/// The text of an attribute of a span, which must exist.
pub(crate) fn of(span: &Span, key: &str) -> String {
    attribute(&span.attributes, key).unwrap_or_else(|| panic!("no {key} in {span:?}"))
}

/// The keys of the attributes of a span, sorted.
pub(crate) fn keys(span: &Span) -> Vec<&str> {
    let mut keys: Vec<_> = span.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    keys.sort_unstable();
    keys
}

/// Whether the status of a span is an error.
pub(crate) fn has_error(span: &Span) -> bool {
    let is_error = span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error);
    assert_eq!(is_error, attribute(&span.attributes, "error.type").is_some(), "{span:?}");
    is_error
}

/// The lower-case hexadecimal digits of an ID.
pub(crate) fn hexadecimal(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
