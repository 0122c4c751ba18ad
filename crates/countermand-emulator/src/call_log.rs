//! The log of API calls, with which a test compares the calls of a client over time.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use tokio::time::Instant;

use crate::response::HttpResponse;
use crate::route::ApiCall;

/// A file to which each API call appends a line of JSON.
pub(crate) struct CallLog {
    file: File,
    /// The unix time at `started`. The times of the lines do not go back when the clock of the machine is set.
    epoch: Duration,
    started: Instant,
}

impl CallLog {
    /// Opens the file to append to it. Blocks.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let error = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
        Ok(Self { file: file.map_err(error)?, epoch, started: Instant::now() })
    }

    /// Appends the line of a call that was decided just now. A call without a response has no status.
    pub(crate) fn append(&mut self, call: &ApiCall, response: Option<&HttpResponse>) {
        let (method, name) = match call {
            ApiCall::Issue(device) => ("issue", device.to_string()),
            ApiCall::Devices(enterprise) => ("devices", format!("enterprises/{enterprise}")),
            ApiCall::List(device) => ("list", device.to_string()),
            ApiCall::Get(device, id) => ("get", format!("{device}/operations/{id}")),
            ApiCall::Cancel(device, id) => ("cancel", format!("{device}/operations/{id}")),
        };
        let time = (self.epoch + self.started.elapsed()).as_secs_f64();
        let status = response.map(|response| response.status().as_u16());
        let line = json!({ "time": time, "method": method, "name": name, "status": status });
        if let Err(error) = writeln!(self.file, "{line}") {
            tracing::error!(%error, "failed to write the call log");
        }
    }
}
