//! Finds out whether standard output was closed when the process started.
//!
//! At start, Rust's standard library opens `/dev/null` for each closed descriptor from 0 to 2, for reading and writing
//! (`library/std/src/sys/pal/unix/mod.rs`, `sanitize_standard_fds`). Writes then succeed, and their bytes are lost. A
//! shell's `>/dev/null` opens for writing only.

use std::{
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    path::Path,
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::stat::fstat,
};

use crate::config::directory_of;

/// The directories with an entry for each descriptor of the process.
const DESCRIPTOR_DIRECTORIES: [&str; 2] = ["/proc/self/fd", "/dev/fd"];

/// The maximum length of a chain of symbolic links, as in Linux (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Whether standard output cannot keep lines: it was closed when the process started, or is not open for writing. A
/// parent that opens `/dev/null` for reading and writing looks the same.
pub(super) fn is_stdout_closed() -> bool {
    is_closed(io::stdout().as_fd())
}

/// Whether `path` names a standard stream that cannot keep lines, for example `/dev/stdout` or a link to it.
pub(super) fn is_path_closed(path: &Path) -> bool {
    match descriptor_of(path) {
        Some(0) => is_closed(io::stdin().as_fd()),
        Some(1) => is_closed(io::stdout().as_fd()),
        Some(2) => is_closed(io::stderr().as_fd()),
        _ => false,
    }
}

fn is_closed(stream: BorrowedFd<'_>) -> bool {
    let Ok(flags) = fcntl(stream, FcntlArg::F_GETFL) else { return true };
    match OFlag::from_bits_retain(flags) & OFlag::O_ACCMODE {
        OFlag::O_RDONLY => true,
        OFlag::O_RDWR => is_null_device(stream),
        _ => false,
    }
}

fn is_null_device(stream: BorrowedFd<'_>) -> bool {
    match (fstat(stream), fs::metadata("/dev/null")) {
        (Ok(stream), Ok(null)) => stream.st_rdev == null.rdev(),
        _ => false,
    }
}

/// The number of the descriptor of this process that `path` names.
fn descriptor_of(path: &Path) -> Option<u32> {
    let directories = DESCRIPTOR_DIRECTORIES.map(fs::canonicalize);
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let parent = fs::canonicalize(directory_of(&path)).ok()?;
        if directories.iter().flatten().any(|directory| *directory == parent) {
            return path.file_name()?.to_str()?.parse().ok();
        }
        path = parent.join(fs::read_link(&path).ok()?);
    }
    None
}

#[cfg(test)]
mod tests {
    use std::{fs::OpenOptions, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn only_the_null_device_open_for_both_or_a_stream_open_for_reading_counts_as_closed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        for (path, reads, writes, closed) in [
            ("/dev/null".as_ref(), true, true, true),
            ("/dev/null".as_ref(), false, true, false),
            ("/dev/null".as_ref(), true, false, true),
            ("/dev/zero".as_ref(), true, true, false),
            (file.as_path(), true, true, false),
            (file.as_path(), true, false, true),
        ] {
            let stream = OpenOptions::new().read(reads).write(writes).open(path).unwrap();
            assert_eq!(is_closed(stream.as_fd()), closed, "{path:?} {reads} {writes}");
        }
    }

    #[test]
    fn a_path_to_a_stream_has_its_number() {
        let dir = tempfile::tempdir().unwrap();
        let (link, second, loops) =
            (dir.path().join("audit.jsonl"), dir.path().join("second"), dir.path().join("loops"));
        symlink("/dev/stdout", &link).unwrap();
        symlink("audit.jsonl", &second).unwrap();
        symlink("loops", &loops).unwrap();
        for (path, number) in [
            ("/dev/stdout".as_ref(), Some(1)),
            ("/dev/fd/1".as_ref(), Some(1)),
            ("/proc/self/fd/1".as_ref(), Some(1)),
            ("/dev/stderr".as_ref(), Some(2)),
            (link.as_path(), Some(1)),
            (second.as_path(), Some(1)),
            (loops.as_path(), None),
            ("/dev/null".as_ref(), None),
            ("/nowhere/audit.jsonl".as_ref(), None),
            ("audit.jsonl".as_ref(), None),
        ] {
            assert_eq!(descriptor_of(path), number, "{path:?}");
        }
    }
}
