//! Finds the standard stream that a path names, to refuse an audit log on a stream that was closed when the process
//! started. Its lines would be lost without an error (see the crate `standard-streams`).

use std::{fs, path::Path};

use crate::config::directory_of;

/// The directories with an entry for each descriptor of the process.
const DESCRIPTOR_DIRECTORIES: [&str; 2] = ["/proc/self/fd", "/dev/fd"];

/// The maximum length of a chain of symbolic links, as in Linux (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Whether standard output was closed when the process started.
pub(super) fn is_stdout_closed() -> bool {
    standard_streams::was_closed(1)
}

/// Whether `path` names a standard stream that was closed when the process started, for example `/dev/stdout` or a link
/// to it.
pub(super) fn is_path_closed(path: &Path) -> bool {
    descriptor_of(path).is_some_and(standard_streams::was_closed)
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
    use std::os::unix::fs::symlink;

    use super::*;

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
