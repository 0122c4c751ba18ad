//! The process's limit of open files, and the connections that fit in it.
//!
//! Without free descriptors, upstream calls, file reloads and the admin port fail. Therefore the connections of callers
//! never take the last descriptors.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The minimum of reserved descriptors: about 16 for the runtime, the listeners and the logs, 17 for the admin port,
/// 17 for the telemetry listener, and 14 for upstream connections and watched files.
const MIN_RESERVE: u64 = 64;

/// The maximum of reserved descriptors. Upstream calls over HTTP/2 share a connection.
const MAX_RESERVE: u64 = 1024;

/// Raises the soft limit of open files to the hard limit, and returns the number of connections that may be open at the
/// same time: at most `max_connections`. Logs a warning if fewer fit in the limit.
pub(super) fn fit_connections(max_connections: usize) -> usize {
    let limit = match raise() {
        Ok(limit) => limit,
        Err(error) => {
            tracing::warn!(%error, "failed to read the limit of open files");
            return max_connections;
        }
    };
    let reserved = reserve(limit);
    let fitting = usize::try_from(limit - reserved).unwrap_or(usize::MAX).max(1);
    if fitting < max_connections {
        tracing::warn!(
            limit,
            reserved,
            max_connections,
            connections = fitting,
            "the limit of open files is too low for server.max_connections: fewer connections are admitted"
        );
    }
    fitting.min(max_connections)
}

/// Raises the soft limit of open files to the hard limit. Returns the soft limit.
fn raise() -> nix::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft == hard {
        return Ok(soft);
    }
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => {
            tracing::info!(from = soft, to = hard, "raised the limit of open files");
            Ok(hard)
        }
        // macOS refuses a limit above `kern.maxfilesperproc`.
        Err(error) => {
            tracing::info!(%error, soft, hard, "failed to raise the limit of open files");
            Ok(soft)
        }
    }
}

/// The descriptors that are not for connections of callers: a quarter, within the bounds, and at most half.
fn reserve(limit: u64) -> u64 {
    (limit / 4).clamp(MIN_RESERVE, MAX_RESERVE).min(limit / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_a_quarter_within_its_bounds() {
        for (limit, reserved) in
            [(0, 0), (100, 50), (128, 64), (256, 64), (1024, 256), (4096, 1024), (1_048_576, 1024)]
        {
            assert_eq!(reserve(limit), reserved, "{limit}");
        }
        assert_eq!(reserve(u64::MAX), MAX_RESERVE, "no limit");
    }

    #[test]
    fn the_setting_is_the_upper_bound() {
        assert_eq!(fit_connections(1), 1);
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(soft, hard);
        assert!(fit_connections(usize::MAX) as u64 <= hard - reserve(hard));
    }
}
