//! Reports which standard streams were closed when the process started.
//!
//! Before `main`, Rust's standard library opens `/dev/null` for each closed descriptor from 0 to 2
//! (`library/std/src/sys/pal/unix/mod.rs`, `sanitize_standard_fds`). From then on, a closed stream looks like one that
//! the parent opened on `/dev/null`, and writes are lost without an error. This crate therefore looks earlier: the
//! dynamic linker runs the functions in `.init_array` before `main` (System V ABI, "Initialization and Termination
//! Functions").

use std::sync::atomic::{AtomicU8, Ordering};

/// A bit for each closed descriptor from 0 to 2.
static CLOSED: AtomicU8 = AtomicU8::new(0);

// SAFETY: the section holds pointers to C functions, and `record` is one. It needs no other initialization: it calls
// fcntl and stores to an atomic.
#[used]
#[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__mod_init_func"))]
#[cfg_attr(not(target_os = "macos"), unsafe(link_section = ".init_array"))]
static RECORD: extern "C" fn() = record;

extern "C" fn record() {
    for descriptor in 0..3 {
        // SAFETY: F_GETFD reads a flag of a descriptor. A closed descriptor is the error EBADF.
        if unsafe { libc::fcntl(descriptor, libc::F_GETFD) } == -1 {
            CLOSED.fetch_or(1 << descriptor, Ordering::Relaxed);
        }
    }
}

/// Whether the standard stream `descriptor` (0, 1 or 2) was closed when the process started.
#[must_use]
pub fn was_closed(descriptor: u32) -> bool {
    descriptor < 3 && CLOSED.load(Ordering::Relaxed) & (1 << descriptor) != 0
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_streams_of_a_test_are_open() {
        assert!((0..4).all(|descriptor| !super::was_closed(descriptor)));
    }
}
