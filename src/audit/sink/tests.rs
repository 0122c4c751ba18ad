use std::{fs, io::Read, os::fd::OwnedFd, os::unix::net::UnixStream};

use super::*;

fn sink(path: &Path) -> Sink {
    Sink::open(&Destination::File(path.to_owned())).unwrap()
}

/// A log that takes `room` bytes, and no more for now.
fn pipe(room: usize) -> (Sink, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    let file = File::from(OwnedFd::from(near));
    (Sink { path: None, file, length: 0, torn: room }, far)
}

#[test]
fn a_line_that_was_broken_off_is_completed_where_it_cannot_be_taken_back() {
    let (mut sink, mut far) = pipe(3);
    sink.append(b"1 one\n2 two\n").unwrap();
    sink.append(b"3 three\n").unwrap();
    drop(sink);
    let mut read = String::new();
    far.read_to_string(&mut read).unwrap();
    assert_eq!(read, "ne\n2 two\n3 three\n", "its first three bytes went before");
}

#[test]
fn a_reader_that_is_gone_is_a_failure() {
    let (mut sink, far) = pipe(0);
    drop(far);
    let failed = sink.append(b"1\n").unwrap_err();
    assert_eq!((failed.written, failed.error.kind()), (0, ErrorKind::BrokenPipe));
}

#[test]
fn a_broken_line_at_the_end_of_a_file_is_taken_back() {
    let room = tempfile::tempdir().unwrap();
    let path = room.path().join("a");
    fs::write(&path, "1\n2 tw").unwrap();
    let mut sink = Sink { torn: 4, ..sink(&path) };
    fs::write(&path, "1\n2 tw").unwrap();
    sink.length = 6;
    sink.take_back();
    assert_eq!((sink.torn, fs::read_to_string(&path).unwrap().as_str()), (0, "1\n"));
    sink.append(b"2 two\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\n2 two\n");
}

#[test]
fn what_somebody_else_wrote_is_never_taken_back() {
    let room = tempfile::tempdir().unwrap();
    let path = room.path().join("a");
    let mut ours = sink(&path);
    ours.append(b"1\n").unwrap();
    sink(&path).append(b"theirs\n").unwrap();
    ours.torn = 1;
    ours.take_back();
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\ntheirs\n");
    assert_eq!(ours.torn, 1);
}
