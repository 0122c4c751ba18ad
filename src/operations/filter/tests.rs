//! The grammar of filters, and the operations that they match.

use std::cell::{Cell, LazyCell};

use proptest::prelude::*;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{Filter, FilterError, MAX_COMPARISONS, MAX_DEPTH, MAX_LENGTH, SUPPORTED};

fn operation(done: bool, kind: &str, created: &str) -> Value {
    let mut operation = json!({"name": "n", "metadata": {"type": kind, "createTime": created}});
    if done {
        operation["done"] = true.into();
    }
    operation
}

fn matches(filter: &str, operation: &Value) -> bool {
    let filter: Filter = filter.parse().unwrap_or_else(|error| panic!("{filter}: {error}"));
    filter.matches(operation.as_object().expect("an object"))
}

#[test]
fn an_operation_is_compared_by_each_field() {
    let pending = operation(false, "WIPE", "2026-08-06T20:38:43.669Z");
    let done = operation(true, "LOCK", "2026-08-06T20:38:44Z");
    for (filter, matches_pending, matches_done) in [
        ("", true, true),
        (" \t\n", true, true),
        ("done = false", true, false),
        ("done=true", false, true),
        (r#"metadata.type = "WIPE""#, true, false),
        ("metadata.type='WIPE'", true, false),
        ("metadata.type = WIPE", true, false),
        ("metadata.type != WIPE", false, true),
        (r#"metadata.createTime = "2026-08-06T22:38:43.669+02:00""#, true, false),
        (r#"metadata.createTime != "2026-08-06T20:38:43.669Z""#, false, true),
        (r#"metadata.createTime < "2026-08-06T20:38:44Z""#, true, false),
        (r#"metadata.createTime <= "2026-08-06T20:38:44Z""#, true, true),
        (r#"metadata.createTime > "2026-08-06T20:38:43.669Z""#, false, true),
        (r#"metadata.createTime >= "2026-08-06T20:38:43.669Z""#, true, true),
        ("metadata.createTime>2026-08-06T20:38:43.7Z", false, true),
        ("NOT done = true", true, false),
        ("-done = true", true, false),
        ("- (done = true)", true, false),
        ("done = false AND metadata.type = WIPE", true, false),
        ("done = true AND metadata.type = WIPE", false, false),
        ("done = true OR metadata.type = WIPE", true, true),
        ("(((done = false)))AND(metadata.type=WIPE)", true, false),
    ] {
        assert_eq!(matches(filter, &pending), matches_pending, "{filter}");
        assert_eq!(matches(filter, &done), matches_done, "{filter}");
    }
}

#[test]
fn or_binds_tighter_than_and() {
    let done_wipe = operation(true, "WIPE", "2026-08-06T20:38:44Z");
    // With AND first, the first of these would match and the second would not.
    assert!(!matches("metadata.type = WIPE OR metadata.type = LOCK AND done = false", &done_wipe));
    assert!(matches("done = true AND metadata.type = LOCK OR metadata.type = WIPE", &done_wipe));
    assert!(matches("metadata.type = WIPE OR (metadata.type = LOCK AND done = false)", &done_wipe));
    // NOT applies to one comparison.
    assert!(matches("NOT metadata.type = LOCK AND done = true", &done_wipe));
}

#[test]
fn a_comparison_with_a_missing_field_does_not_match() {
    for operation in [
        json!({}),
        json!({"metadata": null}),
        json!({"metadata": {}}),
        json!({"metadata": {"type": 1, "createTime": 2}}),
        json!({"metadata": {"createTime": "yesterday"}}),
        json!({"metadata": "WIPE"}),
    ] {
        for filter in [
            "metadata.type = WIPE",
            "metadata.type != WIPE",
            "metadata.createTime != 2026-08-06T20:38:44Z",
            "metadata.createTime < 2026-08-06T20:38:44Z",
            "metadata.createTime >= 2026-08-06T20:38:44Z",
            "done = true",
        ] {
            assert!(!matches(filter, &operation), "{filter} {operation}");
        }
        assert!(matches("done = false AND NOT metadata.type = WIPE", &operation));
    }
}

#[test]
fn the_time_of_an_operation_is_parsed_at_most_once() {
    let operation = operation(false, "WIPE", "");
    let parses = |filter: &str| {
        let parses = Cell::new(0);
        let created = LazyCell::new(|| {
            parses.set(parses.get() + 1);
            Some(OffsetDateTime::UNIX_EPOCH)
        });
        let filter: Filter = filter.parse().expect("a filter");
        assert!(filter.0.matches(operation.as_object().expect("an object"), &created));
        parses.get()
    };
    let comparisons = ["metadata.createTime < 2026-01-01T00:00:00Z"; MAX_COMPARISONS];
    assert_eq!(parses(&comparisons.join(" AND ")), 1);
    assert_eq!(parses("metadata.type = WIPE OR metadata.createTime < 2026-01-01T00:00:00Z"), 0);
}

#[test]
fn an_unsupported_filter_is_an_error_that_says_what_is_supported() {
    for (filter, error) in [
        ("name = x", r#"unsupported field "name""#),
        ("metadata.duration > 1s", r#"unsupported field "metadata.duration""#),
        ("WIPE", r#"unsupported field "WIPE""#),
        ("and done = true", r#"unsupported field "and""#),
        ("NOT NOT done = true", r#"unsupported field "NOT""#),
        ("done", "the end where an operator is expected"),
        ("done =", "the end where a value is expected"),
        ("done = AND", r#"unsupported value "AND" of done"#),
        ("done = yes", r#"unsupported value "yes" of done"#),
        (r#"done = "true""#, r#"unsupported value "true" of done"#),
        ("done != true", "unsupported operator != of done"),
        ("metadata.type:WIPE", "unsupported operator : of metadata.type"),
        (r#"metadata.type:"WIPE""#, "unsupported operator : of metadata.type"),
        ("metadata.createTime:2026-08-06T20:38:43Z", "unsupported operator : of metadata.createTime"),
        ("name:x", r#"unsupported field "name""#),
        ("done = true:", r#"unsupported value "true:" of done"#),
        ("metadata.type : WIPE", "unsupported operator : of metadata.type"),
        ("metadata.type > WIPE", "unsupported operator > of metadata.type"),
        ("metadata.type = wipe", r#"unsupported value "wipe" of metadata.type"#),
        (r#"metadata.type = "W*""#, r#"unsupported value "W*" of metadata.type"#),
        (r#"metadata.type = """#, r#"unsupported value "" of metadata.type"#),
        ("metadata.createTime > yesterday", r#"unsupported value "yesterday" of metadata.createTime"#),
        ("metadata.createTime > 2026-08-06", r#"unsupported value "2026-08-06" of metadata.createTime"#),
        ("done = true metadata.type = WIPE", r#""metadata.type" where AND or OR is expected"#),
        ("done = true and done = true", r#""and" where AND or OR is expected"#),
        ("(done = true", "the end where AND, OR or a closing parenthesis is expected"),
        ("done = true)", r#"")" where AND or OR is expected"#),
        ("()", r#"")" where a field is expected"#),
        ("done = true AND", "the end where a field is expected"),
        ("done ! true", r#""!" where an operator is expected"#),
        ("= true", r#""=" where a field is expected"#),
        (r#""done" = true"#, r#""done" where a field is expected"#),
    ] {
        let found = filter.parse::<Filter>().expect_err(filter).to_string();
        assert_eq!(found, format!("{error}; {SUPPORTED}"), "{filter}");
    }
    for open in [r#"metadata.type = "WIPE"#, r"metadata.type = 'WIPE\'", "\""] {
        assert_eq!(open.parse::<Filter>(), Err(FilterError::OpenString), "{open}");
    }
}

#[test]
fn the_length_the_depth_and_the_comparisons_are_limited() {
    let nested = |depth| format!("{}done = true{}", "(".repeat(depth), ")".repeat(depth));
    assert!(nested(MAX_DEPTH).parse::<Filter>().is_ok());
    assert_eq!(nested(MAX_DEPTH + 1).parse::<Filter>(), Err(FilterError::TooDeep));
    assert_eq!("(".repeat(MAX_LENGTH).parse::<Filter>(), Err(FilterError::TooDeep));
    let wide = |comparisons| format!("{}done = true", "done = true AND ".repeat(comparisons - 1));
    assert!(wide(MAX_COMPARISONS).parse::<Filter>().is_ok());
    assert_eq!(wide(MAX_COMPARISONS + 1).parse::<Filter>(), Err(FilterError::TooManyComparisons));
    assert_eq!(" ".repeat(MAX_LENGTH + 1).parse::<Filter>(), Err(FilterError::TooLong));
    let long = "ä".repeat(4000).parse::<Filter>().expect_err("an unknown field").to_string();
    assert!(long.len() < 500, "{long}");
}

/// A filter and its value for an operation that is pending, of the type WIPE and created in 2026.
fn filter_and_value() -> impl Strategy<Value = (String, bool)> {
    let comparison = prop_oneof![
        Just(("done = false".to_owned(), true)),
        Just(("done = true".to_owned(), false)),
        Just(("metadata.type = \"WIPE\"".to_owned(), true)),
        Just(("metadata.type != WIPE".to_owned(), false)),
        Just(("metadata.createTime > \"2026-01-01T00:00:00Z\"".to_owned(), true)),
        Just(("metadata.createTime<2026-01-01T00:00:00Z".to_owned(), false)),
    ];
    // At most 27 comparisons.
    comparison.prop_recursive(3, 27, 3, |inner| {
        let list = || proptest::collection::vec(inner.clone(), 1..4);
        let wrap = |list: &[(String, bool)], keyword: &str| {
            list.iter().map(|(text, _)| format!("({text})")).collect::<Vec<_>>().join(keyword)
        };
        prop_oneof![
            list().prop_map(move |list| (wrap(&list, " AND "), list.iter().all(|(_, value)| *value))),
            list().prop_map(move |list| (wrap(&list, " OR "), list.iter().any(|(_, value)| *value))),
            inner.clone().prop_map(|(text, value)| (format!("NOT ({text})"), !value)),
            inner.clone().prop_map(|(text, value)| (format!("-({text})"), !value)),
        ]
    })
}

proptest! {
    #[test]
    fn a_filter_has_the_value_of_its_parts((text, value) in filter_and_value()) {
        let operation = operation(false, "WIPE", "2026-08-06T20:38:43.669Z");
        prop_assert_eq!(matches(&text, &operation), value, "{}", text);
    }

    #[test]
    fn any_text_is_a_filter_or_an_error(
        text in prop_oneof![
            ".*",
            r#"([ ()"'=<>!:\\-]|AND|OR|NOT|done|true|metadata\.type|metadata\.createTime|WIPE|é){0,24}"#,
        ],
    ) {
        if let Ok(filter) = text.parse::<Filter>() {
            filter.matches(&serde_json::Map::new());
        }
    }
}
