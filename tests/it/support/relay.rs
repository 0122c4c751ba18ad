//! A TCP relay in front of an upstream. It can stop forwarding on its open connections without closing them, as a NAT
//! does that drops a flow. New connections work.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use super::upstream::Upstream;

/// A running relay.
pub(crate) struct Relay {
    pub(crate) url: String,
    /// The number of times that connections were dropped.
    generation: Arc<watch::Sender<usize>>,
    serving: JoinHandle<()>,
}

impl Relay {
    /// A relay to `upstream`, with the scheme of its URL.
    pub(crate) async fn start(upstream: &Upstream) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (scheme, _) = upstream.url().split_once("://").unwrap();
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let generation = Arc::new(watch::Sender::new(0));
        let serving = tokio::spawn(accept(listener, upstream.address, Arc::clone(&generation)));
        Self { url, generation, serving }
    }

    /// Stops forwarding, in both directions, on the connections that are open now.
    pub(crate) fn lose_connections(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }
}

async fn accept(listener: TcpListener, upstream: SocketAddr, generation: Arc<watch::Sender<usize>>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let mut lost = generation.subscribe();
        tokio::spawn(async move {
            let (mut client, mut server) = (client, TcpStream::connect(upstream).await.unwrap());
            client.set_nodelay(true).unwrap();
            server.set_nodelay(true).unwrap();
            tokio::select! {
                biased;
                // The sockets stay open, and the kernel acknowledges what arrives.
                _ = lost.changed() => std::future::pending().await,
                // An error ends the connection, as its end does.
                _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
            }
        });
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
