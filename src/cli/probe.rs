//! `countermand probe`: a gRPC health check, for container probes.

use std::time::Duration;

use clap::Args;
use tonic::{Code, Request, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{
    client::{ServerArgs, ServerClient},
    error::ClientError,
    exit::Exit,
    output,
};
use crate::config::duration;

const EXAMPLES: &str = "\
Examples:
  countermand probe
  countermand probe --server unix:/run/countermand.sock --timeout 1s

Exit codes: 0 the server is SERVING, 2 usage, 130 stopped by Ctrl-C, 143 ended by SIGTERM, 1 otherwise.";

/// Check with grpc.health.v1 whether a server is SERVING
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ProbeArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// The time limit, including the connection
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    timeout: Duration,
}

/// Prints the health. Every failure has the same exit code, because a container probe checks only for 0.
pub(crate) async fn run(args: ProbeArgs) -> Exit {
    let ProbeArgs { server, timeout } = args;
    match check(server, timeout).await {
        Ok(ServingStatus::Serving) => output::to_stdout("SERVING"),
        Ok(status) => {
            output::complain(&format!("the server reports {}", status.as_str_name()));
            Exit::Failed
        }
        Err(error) => {
            error.complain();
            Exit::Failed
        }
    }
}

async fn check(server: ServerArgs, timeout: Duration) -> Result<ServingStatus, ClientError> {
    let server = ServerClient::connect(server, timeout).await?;
    // The empty name means the whole server.
    let request = Request::new(HealthCheckRequest { service: String::new() });
    let response = server
        .call(request, |channel, request| async { HealthClient::new(channel).check(request).await })
        .await?;
    ServingStatus::try_from(response.status).map_err(|_| {
        let message = format!("the server returned the unknown health status {}", response.status);
        ClientError::new(Status::new(Code::Internal, message), Exit::Failed)
    })
}
