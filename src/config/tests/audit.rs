//! The faults of `[audit]`.

use crate::config::tests::Room;

#[test]
fn each_fault_says_what_is_wrong() {
    Room::new().tells([
        ("[audit]\nfile = \"none/audit.jsonl\"", "file (line 2): "),
        ("[audit]\nfile = \".\"", "is not a regular file; name a file that this user may write"),
        ("[audit]\nfile = \"\"", "is not a regular file"),
        ("[audit]\nfile = 1", "audit.file (line 2): this is an integer"),
        ("[audit]\non_failure = \"ignore\"", "on_failure (line 2): \"ignore\" is neither fail nor continue"),
        ("[audit]\nonfailure = \"fail\"", "there is no such key; did you mean on_failure?"),
    ]);
}
