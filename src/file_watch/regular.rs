//! Reading what is a file and nothing else, whatever a name has come to mean.

use std::{
    fs::OpenOptions,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use nix::fcntl::OFlag;
use zeroize::Zeroizing;

/// More than any file that is taken up when it changes: the certificates of all the world are 250 KB.
pub(super) const LIMIT: u64 = 16 * 1024 * 1024;

/// The content of a regular file of at most 16 MiB, which is wiped when it is dropped. Blocks for as long as
/// a disk does, and for nothing else: to open a pipe that nobody writes to, or to read a device, could take
/// for ever, and nobody can end a thread.
///
/// # Errors
///
/// It cannot be read, is not a regular file, or is longer.
pub fn read(file: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(file)?;
    // What was opened is looked at: the name may mean something else by now.
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    // A vector that grew would leave copies behind, which are not wiped.
    let room = usize::try_from(about.len().min(LIMIT)).unwrap_or_default() + 1;
    let mut content = Zeroizing::new(Vec::with_capacity(room));
    file.take(LIMIT + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LIMIT {
        return Err(io::Error::other("it is longer than 16 MiB"));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{LIMIT, read};

    #[test]
    fn a_file_is_read_by_whatever_links_lead_to_it() {
        let room = tempfile::tempdir().expect("a directory");
        let (file, link) = (room.path().join("file"), room.path().join("link"));
        fs::write(&file, "content").expect("written");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        assert_eq!(**read(&file).expect("a file"), *b"content");
        assert_eq!(**read(&link).expect("a file"), *b"content");
    }

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let room = tempfile::tempdir().expect("a directory");
        let pipe = room.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).expect("a pipe");
        for other in [&*pipe, room.path(), "/dev/zero".as_ref()] {
            let error = read(other).expect_err("no file").to_string();
            assert_eq!(error, "it is not a regular file", "{}", other.display());
        }
    }

    #[test]
    fn a_file_that_is_too_long_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(LIMIT).expect("a hole");
        assert_eq!(read(file.path()).expect("just short enough").len() as u64, LIMIT);
        file.as_file().set_len(LIMIT + 1).expect("a hole");
        assert_eq!(read(file.path()).expect_err("too long").to_string(), "it is longer than 16 MiB");
    }
}
