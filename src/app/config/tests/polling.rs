//! The errors of `[polling]`.

use super::Directory;

#[test]
fn each_error_has_its_text() {
    Directory::new().assert_each_errs([
        ("[polling]\nmax-wait = \"1m\"", "there is no such key; did you mean max_wait?"),
        ("[polling]\nmin_interval = 1", "min_interval (line 2): this is an integer; give a string"),
        ("[polling]\nmin_interval = \"0s\"", "min_interval (line 2): \"0s\" is too short"),
        ("[polling]\nmax_interval = \"2h\"", "max_interval (line 2): \"2h\" is too long"),
        ("[polling]\nmax_wait = \"long\"", "max_wait (line 2): this is not a duration"),
        ("[polling]\nmin_interval = \"21s\"", "min_interval (line 2): min_interval (21s) is longer than max"),
        ("[polling]\nmax_interval = \"5ms\"", "max_interval (line 2): min_interval (1s) is longer than max"),
        (
            "[polling]\nmax_interval = \"1s\"\nmin_interval = \"2s\"",
            "min_interval (line 3): min_interval (2s)",
        ),
        ("[polling]\nmax_interval = \"no\"\nmin_interval = \"30s\"", "max_interval (line 2): this is not"),
        ("[polling]\ncache_entries = -1", "-1 is out of range; give a number from 0 to 1000000"),
        ("[polling]\ncache_entries = 1000001", "cache_entries (line 2): 1000001 is out of range"),
        ("[polling]\ncache_max_age = \"1us\"", "cache_max_age (line 2): \"1us\" is too short"),
    ]);
}

#[test]
fn another_invalid_setting_does_not_hide_the_order_of_the_intervals() {
    let section = "[polling]\nmin_interval = \"1m\"\nmax_interval = \"1s\"\nmax_wait = \"99h\"";
    assert_eq!(Directory::new().errors(section).len(), 2);
}
