//! Tells a person that the program waits.

use std::{
    convert::Infallible,
    env,
    io::{IsTerminal, stderr},
    time::Duration,
};

use tokio::time::{Instant, interval};

use super::output::{self, Format};

/// A line on standard error for as long as this lives; on a terminal it counts the seconds.
pub(crate) struct Progress {
    is_live: bool,
    operation: String,
    began: Instant,
}

impl Progress {
    /// Begins. For a program that reads JSON and shows nobody the standard error, it says nothing.
    pub(crate) fn start(name: &str, format: Format) -> Self {
        let is_live = stderr().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb");
        if !is_live && format == Format::Text {
            output::to_stderr(&format!("waiting for {name}"));
        }
        Self { is_live, operation: short(name), began: Instant::now() }
    }

    /// Counts until it is dropped.
    pub(crate) async fn run(&self) -> Infallible {
        if !self.is_live {
            return std::future::pending().await;
        }
        let mut seconds = interval(Duration::from_secs(1));
        loop {
            seconds.tick().await;
            let elapsed = self.began.elapsed().as_secs();
            output::over_last_line(&format!("waiting for {} ({elapsed} s)", self.operation));
        }
    }
}

/// Leaves no trace on a terminal: what follows says how it ended.
impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_live {
            output::over_last_line("");
        }
    }
}

/// The end of the name: a line that wraps could not be written over.
fn short(name: &str) -> String {
    const MOST: usize = 40;
    let last: Vec<char> = name.rsplit('/').next().unwrap_or_default().chars().collect();
    let skipped = last.len().saturating_sub(MOST);
    let dots = if skipped > 0 { "…" } else { "" };
    let text: String = last.iter().skip(skipped).collect();
    format!("operation {dots}{text}")
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn a_name_is_cut_so_that_its_line_does_not_wrap() {
        assert_eq!(short("enterprises/LC01/devices/d1/operations/17"), "operation 17");
        let long = format!("a/{}17", "0".repeat(255));
        assert_eq!(short(&long), format!("operation …{}17", "0".repeat(38)));
    }
}
