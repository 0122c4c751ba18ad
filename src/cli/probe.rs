//! `countermand probe`: the health check of containers, by gRPC.

use std::time::Duration;

use clap::Args;
use tonic::{Code, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{
    connect::{Server, ServerArgs},
    exit::Exit,
    failure::Failure,
    output,
};
use crate::config::duration;

const EXAMPLES: &str = "\
Examples:
  countermand probe
  countermand probe --server unix:/run/countermand.sock --timeout 1s

Exit codes: 0 when the server says SERVING, 2 usage, 1 else.";

/// Ask a server by grpc.health.v1 whether it serves
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ProbeArgs {
    #[command(flatten)]
    server: ServerArgs,

    /// The most time to take, connecting included
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    timeout: Duration,
}

/// Asks once and prints the answer. What stands between the two does not matter to a probe: there is one
/// code for all that is not SERVING.
pub(crate) async fn run(args: ProbeArgs) -> Exit {
    let ProbeArgs { server, timeout } = args;
    match check(server, timeout).await {
        Ok(ServingStatus::Serving) => output::to_stdout("SERVING"),
        Ok(other) => {
            output::complain(&format!("the server says {}", other.as_str_name()));
            Exit::Failed
        }
        Err(failure) => {
            failure.complain();
            Exit::Failed
        }
    }
}

async fn check(server: ServerArgs, timeout: Duration) -> Result<ServingStatus, Failure> {
    let server = Server::connect(server, timeout).await?;
    // The empty name asks for the server as a whole.
    let request = HealthCheckRequest { service: String::new() };
    let answer = server
        .call(request, |channel, request| async { HealthClient::new(channel).check(request).await })
        .await?;
    ServingStatus::try_from(answer.status).map_err(|_| {
        let message = format!("the server says {}, which is no status", answer.status);
        Failure::new(Status::new(Code::Internal, message), Exit::Failed)
    })
}
