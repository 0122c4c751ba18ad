//! Provisional.
use tokio::sync::watch;
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
/// x
pub enum Serving {
    /// a
    NotReady,
    /// b
    Ready,
    /// c
    Draining,
}
/// x
pub fn service(
    _: watch::Receiver<Serving>,
) -> tonic_health::pb::health_server::HealthServer<tonic_health::server::HealthService> {
    tonic_health::pb::health_server::HealthServer::new(
        tonic_health::server::HealthService::from_health_reporter(tonic_health::server::HealthReporter::new()),
    )
}
