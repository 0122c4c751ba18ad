//! The errors of `[guard]`.

use super::Directory;

#[test]
fn each_error_has_its_text() {
    let missing = "guard.pending_wipes: this is missing; give the number of pending WIPEs";
    Directory::new().assert_each_errs([
        ("[guard]", missing),
        ("[guard]\nperiod = \"1m\"", missing),
        ("[guard]\npending_wipe = 1", "there is no such key; did you mean pending_wipes?"),
        ("[guard]\npending_wipes = -1", "-1 is out of range; give a number from 0 to 10000"),
        ("[guard]\npending_wipes = 10001", "pending_wipes (line 2): 10001 is out of range"),
        ("[guard]\npending_wipes = \"many\"", "pending_wipes (line 2): this is a string"),
        ("[guard]\npending_wipes = 1\nperiod = \"1d\"", "period (line 3): \"1d\" is too long"),
        ("guard = 50", "guard (line 1): this is an integer; give a section, [guard]"),
    ]);
}
