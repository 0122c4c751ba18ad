//! Lets yup-oauth2 reach its token endpoint through our HTTP client, and checks what comes back.
//!
//! yup-oauth2 takes a hyper connector, so it is given one that connects to this process: a pipe in memory,
//! at whose other end each request is carried to the endpoint by [`HttpClient`], with its roots, proxies
//! and limits. That end also looks at what yup-oauth2 does not: the status of the answer, whether there
//! is a token in it, and whether its lifetime is sane. An answer that fails here never reaches it.

use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    rt::{Read, ReadBufCursor, Write},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo},
};
use reqwest::Url;
use tokio::io::DuplexStream;
use yup_oauth2::{AccessToken, CustomHyperClientBuilder, Error};
use zeroize::Zeroizing;

use super::{
    ask::{Asked, LIMIT, Question, Whom},
    token::{FetchError, Token},
};
use crate::http_client::HttpClient;

/// Who is asked by way of a bridge.
const WHOM: Whom<'static> = Whom { asked: Asked::TokenEndpoint, name: "the token endpoint" };

/// A connector to one token endpoint, for one fetch.
#[derive(Clone)]
pub(super) struct Bridge(Arc<Inner>);

struct Inner {
    client: HttpClient,
    url: Url,
    seen: Mutex<Option<Result<Token, FetchError>>>,
}

impl Bridge {
    /// A bridge to `url`, whatever yup-oauth2 believes to connect to.
    pub(super) fn new(client: HttpClient, url: Url) -> Self {
        Self(Arc::new(Inner { client, url, seen: Mutex::new(None) }))
    }

    /// What yup-oauth2 takes for its HTTP client.
    pub(super) fn client(&self) -> CustomHyperClientBuilder<Self> {
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(self.clone());
        CustomHyperClientBuilder::from(client)
    }

    /// The token that `fetching`, by way of this bridge, came to: as the bridge saw it. What yup-oauth2 makes
    /// of an answer is not looked at: it may quote it, and takes offence at members that concern nobody.
    pub(super) async fn token(
        &self,
        fetching: impl Future<Output = Result<AccessToken, Error>>,
    ) -> Result<Token, FetchError> {
        drop(fetching.await);
        let seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        seen.unwrap_or_else(|| Err(failed("it did not ask the token endpoint")))
    }

    async fn carry(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (seen, response) = match self.exchange(request).await {
            Ok((token, body)) => (Ok(token), Response::new(Full::from(Bytes::from_owner(body)))),
            Err(error) => {
                let mut response = Response::new(Full::default());
                *response.status_mut() = StatusCode::BAD_GATEWAY;
                (Err(error), response)
            }
        };
        *self.0.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        Ok(response)
    }

    async fn exchange(&self, request: Request<Incoming>) -> Result<(Token, Zeroizing<Vec<u8>>), FetchError> {
        let body =
            request.into_body().collect().await.map_err(|_| FetchError::NotAsked("no request".to_owned()))?;
        let body = Zeroizing::new(body.to_bytes().to_vec());
        let question = Question::form(WHOM, self.0.url.clone(), body);
        let reply = question.ask(&self.0.client).await?;
        let token = reply.granted()?;
        Ok((token, reply.body))
    }
}

/// A defect of yup-oauth2, or of how it is used.
pub(super) fn failed(what: &str) -> FetchError {
    FetchError::NotAsked(format!("yup-oauth2 failed: {what}"))
}

impl tower::Service<Uri> for Bridge {
    type Response = Pipe;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Pipe, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (near, far) = tokio::io::duplex(LIMIT);
        let bridge = self.clone();
        let carry = service_fn(move |request| bridge.clone().carry(request));
        tokio::spawn(async move {
            // A broken pipe means that the fetch was given up: there is nobody left to tell.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(far), carry).await;
        });
        std::future::ready(Ok(Pipe(TokioIo::new(near))))
    }
}

/// The near end, with what hyper wants to know of a connection.
pub(super) struct Pipe(TokioIo<DuplexStream>);

impl Connection for Pipe {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
