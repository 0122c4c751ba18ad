//! `countermand list`: shows the operations of a device or of all devices, page after page.

use std::{num::NonZeroUsize, time::Duration};

use clap::{Args, value_parser};
use serde::Serialize;

use super::{
    client::{ServerArgs, ServerClient, advance},
    error::ClientError,
    exit::Exit,
    operation::{self, CommandMetadata, OperationState, to_json},
    output::{self, Format, printable},
    watch::Watch,
};
use crate::{
    config::duration,
    proto::longrunning::{ListOperationsRequest, ListOperationsResponse, Operation},
};

const EXAMPLES: &str = "\
Examples:
  countermand list enterprises/LC01/devices/d1
  countermand list enterprises/LC01/devices/d1 --output json | jq -r 'select(.done | not) | .name'
  countermand list enterprises/LC01/devices/- --filter 'done = false AND metadata.type = \"WIPE\"'
  countermand list enterprises/LC01/devices/- --filter 'done = false' --watch

With --output json, standard output has one operation a line, as google.longrunning.Operation in
protobuf's JSON mapping, and an error is one JSON object on standard error.
Each page of a device costs one query of the API's quota. A list over all devices (devices/-) costs one for
each device, and one for each 100 devices. Its filter may use done, metadata.type and metadata.createTime.
It leaves out a device that cannot be read. Then standard error has a line \"not listed: NAME\", in JSON an object
with the event \"unreachable\", and the exit code is 1.
--watch prints a line when a pending operation appears, finishes or is gone, until Ctrl-C. It reads the whole list
again and again, waits as long as the server asks, and retries while the server is unavailable. The operations of a
device that cannot be read stay pending. When that changes, standard error has a line \"not listed: NAME\" or \"listed
again: NAME\". In JSON, all changes are on standard output, as objects with the events \"appeared\", \"finished\", \"gone\",
\"unreachable\" and \"reachable\".
Exit codes: 0 all shown, 1 error, timeout or devices not listed (the rest is printed), 2 usage, 69 the server
cannot be reached, or breaks the first call of --watch, 78 unusable TLS files, 130 stopped by Ctrl-C, 143 ended by
SIGTERM.";

const HEADER: [&str; 5] = ["NAME", "TYPE", "STATE", "CREATED", "ERROR"];

/// List the operations of a device, or of all devices of an enterprise
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ListArgs {
    /// The device: enterprises/*/devices/*, or enterprises/*/devices/- for all, with or without /operations
    name: String,

    /// List only the operations that match this filter, in the API's filter language
    #[arg(long, value_name = "FILTER", default_value = "", hide_default_value = true)]
    filter: String,

    /// The maximum number of operations in a page [default: the API's]
    #[arg(long, value_name = "NUMBER", value_parser = value_parser!(i32).range(1..))]
    page_size: Option<i32>,

    /// The maximum number of operations to list [default: all]
    #[arg(long, value_name = "NUMBER")]
    limit: Option<NonZeroUsize>,

    /// Print pending operations when they appear and when they finish, until Ctrl-C
    #[arg(long, conflicts_with = "limit")]
    watch: bool,

    /// The time between two lists of --watch
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration, requires = "watch")]
    interval: Duration,

    #[command(flatten)]
    server: ServerArgs,

    /// The time limit for all pages, including the connection; with --watch, for each page
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    timeout: Duration,

    /// The output format
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// Prints each page when it arrives.
pub(crate) async fn run(args: ListArgs) -> Exit {
    let ListArgs { name, filter, page_size, limit, watch, interval, server, timeout, output } = args;
    let request = ListOperationsRequest {
        name: name.clone(),
        filter,
        // 0 leaves the size to the API.
        page_size: page_size.unwrap_or(0),
        page_token: String::new(),
        // A device that cannot be read must not hide the others.
        return_partial_success: is_of_all_devices(&name),
    };
    let result = match ServerClient::connect(server, timeout).await {
        Ok(server) if watch => {
            Watch::new(&server.with_call_timeout(timeout), request, output).run(interval).await
        }
        Ok(server) => list(request, limit, &server, output).await,
        Err(error) => Err(error),
    };
    match result {
        Ok(exit) => exit,
        Err(error) => error.report_to_stderr(output, &name),
    }
}

async fn list(
    mut request: ListOperationsRequest,
    limit: Option<NonZeroUsize>,
    server: &ServerClient,
    format: Format,
) -> Result<Exit, ClientError> {
    let mut left = limit.map_or(usize::MAX, NonZeroUsize::get);
    let (mut table, mut is_complete) = (None, true);
    loop {
        let page = server.list(request.clone()).await?;
        let ListOperationsResponse { mut operations, next_page_token, unreachable } = page;
        operations.truncate(left);
        left -= operations.len();
        let exit = match format {
            Format::Text => print_rows(&mut table, &operations),
            Format::Json => {
                output::all_to_stdout(&operations.iter().map(operation::json).collect::<Vec<_>>())
            }
        };
        if exit != Exit::Ok {
            return Ok(exit);
        }
        for device in &unreachable {
            is_complete = false;
            match format {
                Format::Text => output::complain(&format!("not listed: {device}")),
                Format::Json => {
                    output::to_stderr(&to_json(&UnreachableJson { event: "unreachable", name: device }))
                }
            }
        }
        if left == 0 || !advance(&mut request, next_page_token)? {
            break;
        }
    }
    if format == Format::Text && table.is_none() && is_complete {
        output::to_stderr("no operations");
    }
    Ok(if is_complete { Exit::Ok } else { Exit::Failed })
}

/// Whether a list is one over all devices of an enterprise.
fn is_of_all_devices(name: &str) -> bool {
    name.strip_suffix("/operations").unwrap_or(name).ends_with("/devices/-")
}

/// A device that the server could not read, as in an event of a watch.
#[derive(Serialize)]
struct UnreachableJson<'a> {
    event: &'static str,
    name: &'a str,
}

/// Prints a page, with the header above the first operation. A page may be empty without being the last (AIP-158).
fn print_rows(table: &mut Option<Table>, page: &[Operation]) -> Exit {
    if page.is_empty() {
        return Exit::Ok;
    }
    let is_first = table.is_none();
    let table = table.get_or_insert_with(Table::new);
    let lines = table.lines(page);
    if is_first {
        let exit = output::heading(&table.header());
        if exit != Exit::Ok {
            return exit;
        }
    }
    output::all_to_stdout(&lines)
}

/// The column widths so far, in characters. They only grow, because the rows of earlier pages are already printed.
struct Table {
    widths: [usize; HEADER.len()],
}

impl Table {
    fn new() -> Self {
        Self { widths: HEADER.map(str::len) }
    }

    fn header(&self) -> String {
        self.aligned(&HEADER.map(str::to_owned))
    }

    fn lines(&mut self, page: &[Operation]) -> Vec<String> {
        let rows: Vec<_> = page.iter().map(row).collect();
        for (index, width) in self.widths.iter_mut().enumerate() {
            let widest = rows.iter().map(|row| row[index].chars().count()).max();
            *width = widest.unwrap_or(0).max(*width);
        }
        rows.iter().map(|row| self.aligned(row)).collect()
    }

    fn aligned(&self, row: &[String; HEADER.len()]) -> String {
        let cells = row.iter().zip(self.widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    }
}

fn row(operation: &Operation) -> [String; HEADER.len()] {
    let CommandMetadata { kind, created, duration: _, error_code: _ } = CommandMetadata::of(operation);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    [
        operation.name.clone(),
        or_dash(kind),
        OperationState::of(operation).word().to_owned(),
        or_dash(created),
        operation::error_text(operation).unwrap_or_default(),
    ]
    // Before the width is measured, because an escape is longer than its character.
    .map(|cell| printable(&cell))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Operation {
        Operation { name: name.to_owned(), ..Operation::default() }
    }

    #[test]
    fn columns_are_as_wide_as_the_widest_so_far() {
        let mut table = Table::new();
        assert_eq!(
            table.lines(&[named("a"), named("a/longer")]),
            ["a         -     pending  -", "a/longer  -     pending  -"]
        );
        assert_eq!(table.header(), "NAME      TYPE  STATE    CREATED  ERROR");
        assert_eq!(table.lines(&[named("b")]), ["b         -     pending  -"]);
        assert_eq!(table.lines(&[named("0123456789")]), ["0123456789  -     pending  -"]);
    }

    #[test]
    fn an_escape_is_measured_as_it_is_printed() {
        let lines = Table::new().lines(&[named("a\u{1b}"), named("0123456")]);
        assert_eq!(lines, ["a\\u001b  -     pending  -", "0123456  -     pending  -"]);
    }
}
