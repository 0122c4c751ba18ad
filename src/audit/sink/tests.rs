use std::{fs, io::Read, os::fd::OwnedFd, os::unix::net::UnixStream};

use super::*;

fn sink(path: &Path) -> Sink {
    Sink::open(&Destination::File(path.to_owned())).unwrap()
}

/// A pipe to which an earlier write wrote `incomplete` bytes of the next line.
fn pipe(incomplete: usize) -> (Sink, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    let file = File::from(OwnedFd::from(near));
    (Sink { path: None, file, length: 0, incomplete }, far)
}

#[test]
fn a_pipe_in_the_place_of_the_file_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let mut sink = sink(&path);
    sink.append(b"1\n").unwrap();
    fs::rename(&path, dir.path().join("b")).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(sink.reopen().is_err());
    sink.append(b"2\n").unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("b")).unwrap(), "1\n2\n");
}

#[test]
fn an_incomplete_line_in_a_pipe_is_completed() {
    let (mut sink, mut far) = pipe(3);
    sink.append(b"1 one\n2 two\n").unwrap();
    sink.append(b"3 three\n").unwrap();
    drop(sink);
    let mut read = String::new();
    far.read_to_string(&mut read).unwrap();
    assert_eq!(read, "ne\n2 two\n3 three\n", "an earlier write wrote the first three bytes");
}

#[test]
fn a_write_to_a_pipe_without_a_reader_fails() {
    let (mut sink, far) = pipe(0);
    drop(far);
    let failed = sink.append(b"1\n").unwrap_err();
    assert_eq!((failed.written, failed.error.kind()), (0, ErrorKind::BrokenPipe));
}

#[test]
fn an_incomplete_line_at_the_end_of_a_file_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    fs::write(&path, "1\n2 tw").unwrap();
    let mut sink = Sink { incomplete: 4, ..sink(&path) };
    fs::write(&path, "1\n2 tw").unwrap();
    sink.length = 6;
    sink.remove_incomplete_line();
    assert_eq!((sink.incomplete, fs::read_to_string(&path).unwrap().as_str()), (0, "1\n"));
    sink.append(b"2 two\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\n2 two\n");
}

#[test]
fn lines_of_another_process_are_never_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let mut ours = sink(&path);
    ours.append(b"1\n").unwrap();
    sink(&path).append(b"theirs\n").unwrap();
    ours.incomplete = 1;
    ours.remove_incomplete_line();
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\ntheirs\n");
    assert_eq!(ours.incomplete, 1);
}
