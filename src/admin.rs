//! The operator's HTTP port: is the process alive, is it ready, and if not, what is missing.

use std::{io, net::SocketAddr, sync::Arc};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use tokio::{net::TcpListener, sync::watch};

use crate::{
    credentials::{Credential, Readiness},
    serving::Serving,
};

/// The port, bound and not yet serving.
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
    view: Arc<View>,
}

/// What the answers are made from.
struct View {
    credential_name: String,
    credential: Credential,
    serving: watch::Receiver<Serving>,
}

impl Admin {
    /// Binds the port.
    ///
    /// # Errors
    ///
    /// The address cannot be had; the text names it.
    pub async fn bind(
        address: SocketAddr,
        credential_name: String,
        credential: Credential,
        serving: watch::Receiver<Serving>,
    ) -> io::Result<Self> {
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
        let listener = TcpListener::bind(address).await.map_err(named)?;
        let address = listener.local_addr().map_err(named)?;
        Ok(Self { listener, address, view: Arc::new(View { credential_name, credential, serving }) })
    }

    /// The address, with the port that was found when 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the process ends: also during a drain, when it says so.
    pub async fn serve(self) {
        let routes = Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .with_state(self.view);
        // axum's server never ends by itself, and retries what it cannot accept.
        let _ = axum::serve(self.listener, routes).await;
    }
}

/// 200 when calls are served; else 503 and a line for each thing that is missing.
async fn ready(State(view): State<Arc<View>>) -> (StatusCode, String) {
    let mut missing = Vec::new();
    if let Readiness::NotReady(why) = view.credential.readiness() {
        missing.push(format!("credential {}: {why}", view.credential_name));
    }
    if *view.serving.borrow() == Serving::Draining {
        missing.push("draining: no new calls, please".to_owned());
    }
    if missing.is_empty() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{}\n", missing.join("\n")))
}
