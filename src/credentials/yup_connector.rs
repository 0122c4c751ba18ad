//! Lets yup-oauth2 reach its token endpoint through our HTTP client, and checks the response.
//!
//! yup-oauth2 accepts a hyper connector. [`YupConnector`] returns one end of a socket pair. At the other end, a task
//! forwards each request with [`HttpClient`], which applies our roots, proxies and limits. The task also checks the
//! status of the response, the token and its lifetime, which yup-oauth2 does not check. The task signs the assertion
//! again, because yup-oauth2 adds a null `sub`.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    io,
    sync::Arc,
    task::{Context, Poll},
};

use base64::{
    Engine,
    prelude::{BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use form_urlencoded::Serializer;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};
use reqwest::Url;
use rustls::{SignatureScheme, sign::SigningKey};
use serde_json::{Map, Value};
use tokio::{net::UnixStream, sync::mpsc};
use yup_oauth2::{CustomHyperClientBuilder, ServiceAccountAuthenticator, ServiceAccountKey};

use super::{
    request::TokenRequest,
    token::{FetchError, FetchErrorKind, Token, TokenService},
};
use crate::http_client::HttpClient;

/// Connects yup-oauth2 to one token endpoint for one fetch.
#[derive(Clone)]
struct YupConnector {
    client: HttpClient,
    url: Url,
    signing_key: Arc<dyn SigningKey>,
    report: mpsc::UnboundedSender<Result<Token, FetchError>>,
}

/// Fetches a token from `url`, by yup-oauth2.
///
/// The result comes from the forwarding task. yup-oauth2's own result is dropped: its error may quote the response, and
/// it fails on members that are not used here.
pub(super) async fn fetch(
    key: &ServiceAccountKey,
    signing_key: Arc<dyn SigningKey>,
    scope: &str,
    client: HttpClient,
    url: Url,
) -> Result<Token, FetchError> {
    let (report, mut outcomes) = mpsc::unbounded_channel();
    let connector = YupConnector { client, url, signing_key, report };
    let hyper = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
    let hyper = CustomHyperClientBuilder::from(hyper);
    let authenticator = ServiceAccountAuthenticator::with_client(key.clone(), hyper).build().await;
    let authenticator = authenticator.map_err(|_| defect("it does not accept the key"))?;
    drop(authenticator.token(&[scope]).await);
    let outcome = std::iter::from_fn(|| outcomes.try_recv().ok()).last();
    outcome.unwrap_or_else(|| Err(defect("it sent no request to the token endpoint")))
}

impl tower::Service<Uri> for YupConnector {
    type Response = TokioIo<UnixStream>;
    type Error = io::Error;
    type Future = Ready<io::Result<TokioIo<UnixStream>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connector = self.clone();
        let forward = service_fn(move |request| connector.clone().forward(request));
        ready(UnixStream::pair().map(|(near, far)| {
            let connection = http1::Builder::new().serve_connection(TokioIo::new(far), forward);
            // The connection breaks when the fetch times out.
            tokio::spawn(async move { drop(connection.await) });
            TokioIo::new(near)
        }))
    }
}

impl YupConnector {
    async fn forward(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let exchanged = exchange(request, &self.client, self.url, &*self.signing_key).await;
        let (outcome, status, body) = match exchanged {
            Ok((token, body)) => (Ok(token), StatusCode::OK, body),
            Err(error) => (Err(error), StatusCode::BAD_GATEWAY, Vec::new()),
        };
        // The receiver is dropped when the fetch times out.
        let _ = self.report.send(outcome);
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = status;
        Ok(response)
    }
}

/// Forwards a request of yup-oauth2. Returns the token, and the response body for yup-oauth2.
async fn exchange(
    request: Request<Incoming>,
    client: &HttpClient,
    url: Url,
    key: &dyn SigningKey,
) -> Result<(Token, Vec<u8>), FetchError> {
    let form = request.into_body().collect().await.map_err(|_| defect("its request breaks off"))?.to_bytes();
    let form = corrected(&form, key).ok_or_else(|| defect("its assertion is not valid"))?;
    let response = TokenRequest::form(TokenService::TokenEndpoint, url, form).send(client).await?;
    Ok((response.granted(0)?, response.body))
}

/// The form with its assertion signed again.
fn corrected(form: &[u8], key: &dyn SigningKey) -> Option<String> {
    let mut corrected = Serializer::new(String::new());
    for (name, value) in form_urlencoded::parse(form) {
        let value = if name == "assertion" { sign_again(&value, key)?.into() } else { value };
        corrected.append_pair(&name, &value);
    }
    Some(corrected.finish())
}

/// The assertion without null claims, and in base64url without padding. yup-oauth2 signs `"sub": null`, which is no
/// StringOrURI (RFC 7519, section 4.1.2), and adds padding, which RFC 7515, section 2, forbids.
fn sign_again(assertion: &str, key: &dyn SigningKey) -> Option<String> {
    let mut parts = assertion.split('.').map(|part| BASE64_URL_SAFE.decode(part).ok());
    let (header, claims) = (parts.next()??, parts.next()??);
    let mut claims: Map<String, Value> = serde_json::from_slice(&claims).ok()?;
    claims.retain(|_, claim| !claim.is_null());
    let claims = Value::Object(claims).to_string();
    let signed = [header, claims.into_bytes()].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part)).join(".");
    let signature = key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256])?.sign(signed.as_bytes()).ok()?;
    Some(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
}

/// An error for a defect of yup-oauth2, or of its use in this module.
fn defect(cause: &str) -> FetchError {
    FetchError::new(FetchErrorKind::Internal, format!("yup-oauth2 failed: {cause}"))
}
