//! Metrics of the gRPC listeners.

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

use super::registry::{Gauges, Label, Registry};

/// The transport of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP in plaintext.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// A unix socket.
    Unix,
}

/// The values of `transport`, in the order of [`Transport`].
const TRANSPORTS: [&str; 3] = ["tcp", "tls", "unix"];

/// The reason why a connection is refused, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionRefusal {
    /// `max_connections` connections are open, and all have sent the HTTP/2 preface.
    MaxConnections,
}

/// The values of `reason`, in the order of [`ConnectionRefusal`].
const REFUSALS: [&str; 1] = ["max_connections"];

/// The metrics of the gRPC listeners. Cheap to clone; clones share the metrics.
#[derive(Debug, Clone)]
pub struct ConnectionMetrics {
    open: [Gauge; TRANSPORTS.len()],
    accepted: [Counter; TRANSPORTS.len()],
    refused: [Counter; REFUSALS.len()],
    certificate_expiry: Gauges,
}

/// Counts a connection as open until it is dropped.
#[derive(Debug)]
pub struct OpenConnection(Gauge);

impl ConnectionMetrics {
    /// Metrics that are in no registry.
    #[cfg(test)]
    pub(crate) fn unregistered() -> Self {
        Self::new(&mut Registry::default())
    }

    pub(super) fn new(registry: &mut Registry) -> Self {
        let open = registry.gauges(
            "countermand_connections",
            "The open connections of the gRPC listeners, with those in the TLS handshake",
            Label::one_of("transport", &TRANSPORTS),
        );
        let accepted = registry.counters(
            "countermand_connections_total",
            "The connections that the gRPC listeners admitted",
            [Label::one_of("transport", &TRANSPORTS)],
        );
        let refused = registry.counters(
            "countermand_connections_refused_total",
            "The connections that the gRPC listeners closed at once, because of a limit",
            [Label::one_of("reason", &REFUSALS)],
        );
        let certificate_expiry = registry.gauges(
            "countermand_certificate_expiry_timestamp_seconds",
            "The end of the validity of a certificate chain, in seconds since 1970. Absent without TLS",
            Label::described("certificate", "`\"server\"`, the certificate of the gRPC listeners"),
        );
        Self {
            open: TRANSPORTS.map(|transport| open.with(transport)),
            accepted: TRANSPORTS.map(|transport| accepted.with([transport])),
            refused: REFUSALS.map(|reason| refused.with([reason])),
            certificate_expiry,
        }
    }

    /// Counts a connection that is closed at once.
    pub fn refuse(&self, reason: ConnectionRefusal) {
        self.refused[reason as usize].inc();
    }

    /// Counts a connection.
    #[must_use]
    pub fn open(&self, transport: Transport) -> OpenConnection {
        self.accepted[transport as usize].inc();
        let open = self.open[transport as usize].clone();
        open.inc();
        OpenConnection(open)
    }

    /// The open connections over TCP, TLS and unix sockets.
    #[must_use]
    pub fn by_transport(&self) -> [i64; TRANSPORTS.len()] {
        self.open.each_ref().map(|open| open.get())
    }

    /// Sets the end of the validity of the server's certificate, in seconds since 1970.
    pub fn set_certificate_expiry(&self, seconds: i64) {
        self.certificate_expiry.with("server").set(seconds);
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}
