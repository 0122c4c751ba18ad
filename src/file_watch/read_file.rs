//! Reads regular files of a limited size.

use std::{
    fs::OpenOptions,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use nix::fcntl::OFlag;

/// The size limit. The largest file read here is a bundle of CA certificates, and the public one has 250 KB.
pub(super) const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// Editors on Windows write this mark before a text in UTF-8. No format that is read here has such bytes at its start.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads a regular file of at most 16 MiB, without a byte-order mark at its start.
///
/// Blocks on the disk only. Opening a pipe without a writer, or reading a device, could block a thread forever, so both
/// are rejected.
///
/// # Errors
///
/// The file cannot be read, is not a regular file, or exceeds the limit.
pub fn read(file: &Path) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(file)?;
    // The metadata of the open file: the path may name another file by now.
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let capacity = usize::try_from(metadata.len().min(MAX_FILE_BYTES)).unwrap_or_default() + 1;
    let mut content = Vec::with_capacity(capacity);
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other("it is longer than 16 MiB"));
    }
    if content.starts_with(BYTE_ORDER_MARK) {
        content.drain(..BYTE_ORDER_MARK.len());
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{MAX_FILE_BYTES, read};

    #[test]
    fn symbolic_links_are_followed() {
        let directory = tempfile::tempdir().expect("a directory");
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        fs::write(&file, "content").expect("written");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        assert_eq!(*read(&file).expect("a file"), *b"content");
        assert_eq!(*read(&link).expect("a file"), *b"content");
    }

    #[test]
    fn a_byte_order_mark_at_the_start_is_skipped() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        for (content, wanted) in [("\u{feff}a\u{feff}", "a\u{feff}"), ("\u{feff}", ""), ("", "")] {
            fs::write(file.path(), content).expect("written");
            assert_eq!(*read(file.path()).expect("a file"), *wanted.as_bytes());
        }
    }

    #[test]
    fn a_pipe_a_directory_and_a_device_are_rejected_at_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).expect("a pipe");
        for other in [&*pipe, directory.path(), "/dev/zero".as_ref()] {
            let error = read(other).expect_err("no file").to_string();
            assert_eq!(error, "it is not a regular file", "{}", other.display());
        }
    }

    #[test]
    fn a_file_over_the_size_limit_is_rejected() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(MAX_FILE_BYTES).expect("a sparse file");
        assert_eq!(read(file.path()).expect("within the limit").len() as u64, MAX_FILE_BYTES);
        file.as_file().set_len(MAX_FILE_BYTES + 1).expect("a sparse file");
        assert_eq!(read(file.path()).expect_err("too long").to_string(), "it is longer than 16 MiB");
    }
}
