//! The errors of a policy file and their positions.

use crate::policy::{PolicyError, Rules, entities::SCHEMA_TEXT};

fn load(text: &str) -> Result<Rules, Vec<PolicyError>> {
    Rules::parse(text.as_bytes())
}

/// The only error of a text.
fn error(text: &str) -> String {
    let errors = load(text).expect_err(text);
    let [error] = &errors[..] else { panic!("{text}\n{errors:?}") };
    error.to_string()
}

#[test]
fn an_error_has_a_position_and_a_hint() {
    for (text, wanted) in [
        ("permit (principal, action, resource)\n", "line 1, column 37: unexpected end of input, expected"),
        ("permit (principal, action);", "line 1, column 26: this policy is missing the `resource` variable"),
        (
            "allow (principal, action, resource);",
            "line 1, column 1: invalid policy effect: allow; effect must",
        ),
        (
            "\n\n  permit (principal, action == Action::\"canel\", resource);",
            "line 3, column 32: policy policy0: unrecognized action `Action::\"canel\"`; did you mean",
        ),
        (
            "permit (principal, action, resource in Divice::\"LC01/d1\");",
            "line 1, column 40: policy policy0: unrecognized entity type `Divice`; did you mean `Device`?",
        ),
        (
            "permit (principal, action, resource);\n@id(\"mdm\")\npermit (principal, action, resource)\n  \
             when { principal.namespace == \"mdm\" };",
            "line 4, column 10: policy mdm: unable to guarantee safety of access to optional attribute \
             `namespace` on entity type `Caller`; try testing for the attribute's presence with",
        ),
        (
            "permit (principal, action, resource) when { principal.getTag(\"groups\").contains(\"mdm\") };",
            "line 1, column 45: policy policy0: unable to guarantee safety of access to tag `\"groups\"`",
        ),
        (
            "permit (principal, action, resource) when { context has ip };",
            "line 1, column 1: policy policy0: it can never apply to any call; check that cancel, get and wait",
        ),
        (
            "// the device's list\nforbid (principal, action == Action::\"list\", resource is Operation);",
            "line 2, column 1: policy policy0: it can never apply to any call; check that cancel, get and wait",
        ),
        (
            "permit (principal, action, resource) when { Caller::\"unix:1\".proof == \"jwt\" };",
            "line 1, column 45: policy policy0: entity literals cannot be dereferenced",
        ),
        ("/* permit */ permit (principal, action, resource);", "line 1, column 1: unexpected token `/`"),
        (
            "permit (principal == ?principal, action, resource);",
            "line 1, column 1: templates are not supported; name a principal",
        ),
        (
            "permit (principal, action, resource in Device::\"d1\");",
            "line 1, column 1: policy policy0: Device::\"d1\" is not a valid id; give the ids of the \
             enterprise and the device, \"LC01/d1\"",
        ),
        (
            "permit (principal, action, resource in Enterprise::\"enterprises/LC01\");",
            "line 1, column 1: policy policy0: Enterprise::\"enterprises/LC01\" is not a valid id;",
        ),
        (
            "forbid (principal, action, resource) when { resource in [Operation::\"LC01/-/1\"] };",
            "line 1, column 1: policy policy0: Operation::\"LC01/-/1\" is not a valid id",
        ),
        (
            "permit (principal == Caller::\"console\", action, resource);",
            "line 1, column 1: policy policy0: Caller::\"console\" is not a valid id; give a caller's \
             id as the audit log has it: spiffe://",
        ),
        (
            "forbid (principal == Caller::\"dns:Evil.Corp.example\", action, resource);",
            "line 1, column 1: policy policy0: Caller::\"dns:Evil.Corp.example\" is not a valid id",
        ),
        (
            "forbid (principal, action, resource) when { principal == Caller::\"dns:*.corp.example\" };",
            "line 1, column 1: policy policy0: Caller::\"dns:*.corp.example\" is not a valid id",
        ),
        (
            "@id(\"\")\npermit (principal, action, resource);",
            "line 1, column 1: \"\" is not a valid id; give 1 to 128",
        ),
        (
            "@id(\"a\\nb\")\npermit (principal, action, resource);",
            "line 1, column 1: \"a\\nb\" is not a valid id;",
        ),
        (
            "@id(\"a\") permit (principal, action, resource);\n@id(\"a\") forbid (principal, action, resource);",
            "line 2, column 1: policy a: an earlier policy has this id; give each policy an @id of its own",
        ),
        (
            "@id(\"policy1\") permit (principal, action, resource);\nforbid (principal, action, resource);",
            "line 2, column 1: policy policy1: an earlier policy has this id",
        ),
    ] {
        let error = error(text);
        assert!(error.starts_with(wanted), "{text}\n{error}\nshould begin\n{wanted}");
    }
}

#[test]
fn all_errors_are_reported_in_the_order_of_the_file() {
    let text = "permit (principal, action, resource in Device::\"d1\");\n\
                @id(\"\") permit (principal, action, resource);\n\
                permit (principal, action == Action::\"x\", resource in Enterprize::\"LC01\");\n\
                permit (principal, action, resource) when { principal.group == \"mdm\" };\n\
                forbid (principal, action == Action::\"list\", resource is Operation);\n";
    let lines: Vec<_> = load(text).unwrap_err().iter().map(|error| error.position.unwrap().0).collect();
    assert_eq!(lines, [1, 2, 3, 3, 4, 5]);
}

#[test]
fn a_statement_has_its_id_and_its_line() {
    let text = "// permit (principal, action, resource);\r\n\
                @id(\"ä; // no comment\") // a comment; with a semicolon \"\n  @note(\"\\\"\")\n\
                permit (principal, action, resource);\n\n\
                forbid (principal, action, resource) when { principal.proof like \"*;\\\"*\" }; permit(principal, \
                action, resource);";
    let rules = load(text).unwrap();
    let found: Vec<_> = rules
        .statements
        .iter()
        .map(|statement| (statement.id.as_str(), statement.line, statement.first_line()))
        .collect();
    let wanted = [
        ("ä; // no comment", 2, "permit (principal, action, resource);"),
        ("policy1", 6, "forbid (principal, action, resource) when { principal.proof like \"*;\\\"*\" };"),
        ("policy2", 6, "permit(principal, action, resource);"),
    ];
    assert_eq!(found, wanted);
}

#[test]
fn a_name_in_two_scripts_is_a_warning() {
    let condition = "principal.hasTag(\"groups\") && principal.getTag(\"groups\").contains(\"mdm-Группа\")";
    let rules = load(&format!("permit (principal, action, resource) when {{ {condition} }};")).unwrap();
    let [warning] = &rules.warnings[..] else { panic!("{:?}", rules.warnings) };
    let wanted =
        "line 1, column 111: policy policy0: string `\"mdm-Группа\"` contains mixed scripts; check that each";
    assert!(warning.to_string().starts_with(wanted), "{warning}");
}

#[test]
fn a_text_that_would_exhaust_the_stack_is_rejected() {
    let around = |open: &str, count: usize, close: &str| {
        let (open, close) = (open.repeat(count), close.repeat(count));
        format!("permit (principal, action, resource) when {{ {open}true{close} }};")
    };
    for text in [
        around("(", 100_000, ")"),
        around("[", 100_000, "]"),
        around("{a:", 100_000, "}"),
        around("if true then true else ", 40_000, ""),
        around("true && ", 100_000, ""),
        around("", 100_000, " when"),
        around("", 300_000, ".a"),
        around("1 +", 300_000, ""),
        "(".repeat(1_000_000),
    ] {
        let error = error(&text);
        assert!(error.contains("nested too deeply, or has too many operators"), "{error}");
    }
    for text in [around("(", 62, ")"), around("if true then true else ", 62, ""), around("true && ", 499, "")]
    {
        load(&text).unwrap();
    }
    // Operators are counted per statement, and not inside strings.
    let many =
        "permit (principal, action, resource) when { principal.proof != \"....&&&&(((((\" };".repeat(200);
    assert_eq!(load(&many).unwrap().statements.len(), 200);
}

#[test]
fn content_that_is_not_text_is_rejected() {
    for (content, wanted) in [
        (&b"permit (principal, action, resource); // \xff"[..], "it is not UTF-8 from byte 41 on; write"),
        (b"\0", "line 1, column 1: "),
        (&vec![b' '; (1 << 20) + 1], "it has 1048577 bytes; keep it below 1 MiB"),
    ] {
        let errors = Rules::parse(content).unwrap_err()[0].to_string();
        assert!(errors.starts_with(wanted), "{errors}");
    }
}

#[test]
fn a_byte_order_mark_is_skipped_and_moves_no_column() {
    let rules =
        load("\u{feff}permit (principal, action, resource);\nforbid (principal, action, resource);").unwrap();
    let statements: Vec<_> = rules.statements.iter().map(|it| (it.line, it.text.as_str())).collect();
    let wanted = [(1, "permit (principal, action, resource);"), (2, "forbid (principal, action, resource);")];
    assert_eq!(statements, wanted);
    let error = error("\u{feff}permit (principal, action);");
    assert!(error.starts_with("line 1, column 26: this policy is missing the `resource`"), "{error}");
}

#[test]
fn the_schema_is_read_without_a_warning() {
    let (_, mut warnings) = cedar_policy::Schema::from_cedarschema_str(SCHEMA_TEXT).unwrap();
    assert!(warnings.next().is_none());
}
