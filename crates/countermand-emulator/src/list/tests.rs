use std::time::Duration;

use super::*;
use crate::command::Command;

fn device() -> Device {
    Device::parse("enterprises/LC01/devices/d1").unwrap()
}

/// A store with `count` operations, alternately LOCK and REBOOT, and their names, oldest first.
fn filled(count: usize, now: Instant) -> (Store, Vec<String>) {
    let mut store = Store::new();
    let kinds = ["LOCK", "REBOOT"].into_iter().cycle().take(count);
    let names = kinds.map(|kind| {
        let command = Command::parse(json!({ "type": kind })).unwrap();
        let operation = store.issue(&device(), command, &Settings::default(), now).unwrap();
        operation["name"].as_str().unwrap().to_owned()
    });
    let names = names.collect();
    (store, names)
}

fn query(parameters: &[(&str, &str)]) -> Result<ListQuery, ApiError> {
    let mut query = ListQuery::default();
    for (name, value) in parameters {
        assert!(query.read(name, value)?, "{name} is a parameter of list");
    }
    Ok(query)
}

fn names(page: &Value) -> Vec<String> {
    let operations = page["operations"].as_array().into_iter().flatten();
    operations.map(|operation| operation["name"].as_str().unwrap().to_owned()).collect()
}

fn small() -> Settings {
    Settings { page_size: 3, max_page_size: 5, ..Settings::default() }
}

#[test]
fn the_pages_together_have_every_operation_once() {
    let now = Instant::now();
    let (store, all) = filled(10, now);
    let (mut seen, mut sizes, mut token) = (Vec::new(), Vec::new(), String::new());
    loop {
        let query = query(&[("pageSize", "4"), ("pageToken", &token)]).unwrap();
        let page = query.page(&device(), &store, &small(), now).unwrap();
        sizes.push(names(&page).len());
        seen.extend(names(&page));
        match page.get("nextPageToken") {
            Some(next) => next.as_str().unwrap().clone_into(&mut token),
            None => break,
        }
    }
    assert_eq!((seen, sizes), (all, vec![4, 4, 2]));
}

#[test]
fn a_page_has_a_default_and_a_maximum_size() {
    let now = Instant::now();
    let (store, _) = filled(10, now);
    let size = |requested: &str| {
        let query = query(&[("pageSize", requested)]).unwrap();
        names(&query.page(&device(), &store, &small(), now).unwrap()).len()
    };
    assert_eq!((size("0"), size("2"), size("5"), size("2147483647")), (3, 2, 5, 5));
}

#[test]
fn the_last_page_has_no_token_even_when_it_is_full() {
    let now = Instant::now();
    let (store, _) = filled(5, now);
    let page = query(&[("pageSize", "5")]).unwrap().page(&device(), &store, &small(), now).unwrap();
    assert_eq!((names(&page).len(), page.get("nextPageToken")), (5, None));
}

#[test]
fn a_device_without_operations_has_an_empty_list() {
    let listed = Settings { devices: vec![device().to_string()], ..small() };
    let page = query(&[]).unwrap().page(&device(), &Store::new(), &listed, Instant::now());
    assert_eq!(page, Ok(json!({})));
    let page = query(&[]).unwrap().page(&device(), &Store::new(), &small(), Instant::now());
    assert_eq!(page, Err(ApiError::not_found()));
}

#[test]
fn a_token_is_valid_for_its_own_device_and_filter_only() {
    let now = Instant::now();
    let (store, _) = filled(10, now);
    let first = query(&[]).unwrap().page(&device(), &store, &small(), now).unwrap();
    let token = first["nextPageToken"].as_str().unwrap();
    let filtered = query(&[("pageToken", token), ("filter", "done=false")]).unwrap();
    for invalid in [filtered, query(&[("pageToken", "AAAA")]).unwrap(), query(&[("pageToken", "?")]).unwrap()]
    {
        let error = invalid.page(&device(), &store, &small(), now).unwrap_err();
        assert_eq!((error.http_status().as_u16(), error.status()), (400, "INVALID_ARGUMENT"));
    }
}

#[test]
fn a_filter_selects_by_state_and_by_type() {
    let now = Instant::now();
    let (mut store, all) = filled(4, now);
    let id = all[0].rsplit_once('/').unwrap().1;
    store.cancel(&device(), id, Duration::ZERO, now).unwrap();
    let chosen = |filter| {
        let query = query(&[("filter", filter)]).unwrap();
        query.page(&device(), &store, &Settings::default(), now).map(|page| names(&page))
    };
    assert_eq!(chosen("done=true").unwrap(), all[..1]);
    assert_eq!(chosen("done = false AND metadata.type = \"LOCK\"").unwrap(), all[2..3]);
    assert_eq!(chosen(" ").unwrap(), all);
    assert_eq!(chosen("colour=red").unwrap_err().status(), "INVALID_ARGUMENT");
    assert_eq!(chosen("done").unwrap_err().status(), "INVALID_ARGUMENT");
}

#[test]
fn parameters_of_another_type_are_rejected() {
    for (name, value) in [("pageSize", "ten"), ("pageSize", "-1"), ("returnPartialSuccess", "yes")] {
        assert_eq!(query(&[(name, value)]).unwrap_err().status(), "INVALID_ARGUMENT", "{name}");
    }
    let partial = query(&[("returnPartialSuccess", "true")]).unwrap_err();
    assert_eq!((partial.http_status().as_u16(), partial.status()), (501, "UNIMPLEMENTED"));
    assert_eq!(ListQuery::default().read("page_size", "1"), Ok(false));
}
