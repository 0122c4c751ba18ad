//! The errors of `[audit]`.

use super::Directory;

#[test]
fn each_error_has_its_text() {
    Directory::new().assert_each_errs([
        ("[audit]\nfile = \"none/audit.jsonl\"", "file (line 2): "),
        ("[audit]\nfile = \".\"", "is not a regular file; name a file that this user may write"),
        ("[audit]\nfile = \"\"", "is not a regular file"),
        ("[audit]\nfile = 1", "audit.file (line 2): this is an integer"),
        (
            "[audit]\non_failure = \"ignore\"",
            "on_failure (line 2): there is no such value; give fail or continue",
        ),
        ("[audit]\nonfailure = \"fail\"", "there is no such key; did you mean on_failure?"),
    ]);
}
