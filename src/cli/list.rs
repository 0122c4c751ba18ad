//! `countermand list`: shows a device's operations, page after page.

use std::{num::NonZeroUsize, time::Duration};

use clap::{Args, value_parser};
use tonic::Status;

use super::{
    connect::{Server, ServerArgs},
    exit::Exit,
    failure::Failure,
    json,
    output::{self, Format},
    table::Table,
};
use crate::{
    config::duration,
    proto::longrunning::{ListOperationsRequest, ListOperationsResponse, Operation},
};

const EXAMPLES: &str = "\
Examples:
  countermand list enterprises/LC01/devices/d1
  countermand list enterprises/LC01/devices/d1 --output json | jq -r 'select(.done | not) | .name'

With --output json, standard output has one operation a line, as google.longrunning.Operation in
protobuf's JSON mapping, and an error is one JSON object on standard error.
Each page costs one query of the API's quota.
Exit codes: 0 all shown, 1 refused or too late (what came before is printed), 2 usage, 69 the server
cannot be reached, 78 unusable TLS files.";

/// List a device's operations
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ListArgs {
    /// The device: enterprises/*/devices/*, with or without /operations after it
    name: String,

    /// Only the operations that this filter, in the API's own language, selects
    #[arg(long, value_name = "FILTER", default_value = "", hide_default_value = true)]
    filter: String,

    /// The most operations of a page [default: the API's]
    #[arg(long, value_name = "NUMBER", value_parser = value_parser!(i32).range(1..))]
    page_size: Option<i32>,

    /// The most operations to show [default: all]
    #[arg(long, value_name = "NUMBER")]
    limit: Option<NonZeroUsize>,

    #[command(flatten)]
    server: ServerArgs,

    /// The most time to take for all pages, connecting included
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    timeout: Duration,

    /// How to print the operations
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// Prints a page as soon as it is there.
pub(crate) async fn run(args: ListArgs) -> Exit {
    let ListArgs { name, filter, page_size, limit, server, timeout, output } = args;
    let request = ListOperationsRequest {
        name: name.clone(),
        filter,
        // 0 leaves the size to the API.
        page_size: page_size.unwrap_or(0),
        ..ListOperationsRequest::default()
    };
    match list(request, limit, server, timeout, output).await {
        Ok(exit) => exit,
        Err(failure) => failure.report_aside(output, &name),
    }
}

async fn list(
    mut request: ListOperationsRequest,
    limit: Option<NonZeroUsize>,
    server: ServerArgs,
    timeout: Duration,
    format: Format,
) -> Result<Exit, Failure> {
    let server = Server::connect(server, timeout).await?;
    let mut left = limit.map_or(usize::MAX, NonZeroUsize::get);
    let mut pages = Pages { format, table: None };
    loop {
        let page = server.list(request.clone()).await?;
        let ListOperationsResponse { mut operations, next_page_token, unreachable: _ } = page;
        operations.truncate(left);
        left -= operations.len();
        let exit = pages.print(&operations);
        if exit != Exit::Ok {
            return Ok(exit);
        }
        if left == 0 || next_page_token.is_empty() {
            break;
        }
        if next_page_token == request.page_token {
            let repeats = Status::internal("the server names the page it gave as the next one");
            return Err(Failure::new(repeats, Exit::Failed));
        }
        request.page_token = next_page_token;
    }
    if format == Format::Text && pages.table.is_none() {
        output::to_stderr("no operations");
    }
    Ok(Exit::Ok)
}

/// What is printed so far.
struct Pages {
    format: Format,
    /// There from the first operation on.
    table: Option<Table>,
}

impl Pages {
    fn print(&mut self, page: &[Operation]) -> Exit {
        let lines = match self.format {
            Format::Json => page.iter().map(json::operation).collect(),
            // A page may be empty and not the last one (AIP-158).
            Format::Text if page.is_empty() => Vec::new(),
            Format::Text => {
                let is_first = self.table.is_none();
                let table = self.table.get_or_insert_with(Table::new);
                let lines = table.lines(page);
                if is_first {
                    let exit = output::heading(&table.header());
                    if exit != Exit::Ok {
                        return exit;
                    }
                }
                lines
            }
        };
        output::all_to_stdout(&lines)
    }
}
