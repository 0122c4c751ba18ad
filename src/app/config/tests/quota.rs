//! The errors of `[[quota]]`.

use super::Directory;

#[test]
fn each_error_has_its_text() {
    Directory::new().assert_each_errs([
        (
            "[quota]\nlimit = 600",
            "quota (line 1): this is a table; give a section in double brackets, [[quota]]",
        ),
        ("quota = 600", "quota (line 1): this is an integer; give a section in double brackets, [[quota]]"),
        ("[[quotas]]", "quotas (line 1): there is no such key; did you mean quota?"),
        ("[[quota]]\nproject = 1", "quota.project (line 2): this is an integer"),
        ("[[quota]]\nproject = \"\"", "quota.project (line 2): this is not the id of a Google project"),
        ("[[quota]]\nproject = \"A b\"", "quota.project (line 2): this is not the id of a Google project"),
        ("[[quota]]\nprojct = \"p\"", "quota.projct (line 2): there is no such key; did you mean project?"),
        (
            "[[quota]]\nrate = 1",
            "quota.rate (line 2): there is no such key; the keys here are project, limit, period, burst, mode",
        ),
        ("[[quota]]\nlimit = 1", "quota.limit (line 2): 1 is out of range; give a number from 2 to"),
        ("[[quota]]\nlimit = \"600\"", "quota.limit (line 2): this is a string; give a whole number"),
        ("[[quota]]\nperiod = 60", "quota.period (line 2): this is an integer; give a string, in quotes"),
        ("[[quota]]\nperiod = \"0s\"", "quota.period (line 2): \"0s\" is too short"),
        ("[[quota]]\nmode = \"off\"", "quota.mode (line 2): there is no such value; give enforce or shadow"),
        ("[[quota]]\nburst = 0", "quota.burst (line 2): 0 is out of range; give a number from 1 to"),
        (
            "[[quota]]\nburst = 600",
            "quota.burst (line 2): a burst of 600 leaves nothing of the limit of 600 for the rate; give less than \
             the limit, or leave it out for 5 % of the limit",
        ),
        ("[[quota]]\nlimit = 10\nburst = 11", "quota.burst (line 3): a burst of 11 leaves nothing"),
        // An invalid limit hides no other error, and causes none.
        ("[[quota]]\nburst = 700\nlimit = 0", "quota.limit (line 3): 0 is out of range"),
        ("[[quota]]\nburst = 700\nlimt = 1000", "quota.limt (line 3): there is no such key"),
    ]);
}

#[test]
fn two_sections_for_one_project_are_an_error_that_names_both() {
    let directory = Directory::new();
    directory.assert_each_errs([
        (
            "[[quota]]\nproject = \"p\"\n[[quota]]\nproject = \"q\"\n[[quota]]\nlimit = 9\nproject = \"p\"",
            "quota.project (line 7): another section is for this project too (line 2); give each project one section",
        ),
        (
            "[[quota]]\nlimit = 9\n[[quota]]\nproject = \"q\"\n[[quota]]",
            "quota (line 5): this section is for each project that no other names, as another is (line 1); give one \
             of the two a project",
        ),
        // An invalid project is not a missing one.
        ("[[quota]]\n[[quota]]\nproject = \"A b\"", "quota.project (line 3): this is not the id"),
        ("[[quota]]\n[[quota]]\nprojct = \"p\"", "quota.projct (line 3): there is no such key"),
    ]);
    let errors =
        directory.errors("[[quota]]\nproject = \"p\"\nburst = 600\n[[quota]]\nproject = \"p\"\nmode = 1");
    let begins = ["quota.burst (line 3): ", "quota.project (line 5): ", "quota.mode (line 6): "];
    assert_eq!(errors.len(), begins.len(), "{errors:#?}");
    for (error, begin) in errors.iter().zip(begins) {
        assert!(error.starts_with(begin), "{errors:#?}");
    }
}
