//! The operator's HTTP port: is the process alive, is it ready, and if not, what is missing.

use std::{io, net::SocketAddr, sync::Arc};

use axum::{Router, routing::get};
use tokio::{net::TcpListener, sync::watch};

use crate::{credentials::Credentials, serving::Serving};

mod readyz;
pub mod settings;

/// The port, bound and not yet serving.
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
    view: Arc<View>,
}

/// What the answers are made from.
struct View {
    credentials: Arc<Credentials>,
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
        credentials: Arc<Credentials>,
        serving: watch::Receiver<Serving>,
    ) -> io::Result<Self> {
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
        let listener = TcpListener::bind(address).await.map_err(named)?;
        let address = listener.local_addr().map_err(named)?;
        Ok(Self { listener, address, view: Arc::new(View { credentials, serving }) })
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
            .route("/readyz", get(readyz::ready))
            .with_state(self.view);
        // axum's server never ends by itself, and retries what it cannot accept.
        let _ = axum::serve(self.listener, routes).await;
    }
}
