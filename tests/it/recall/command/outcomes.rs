//! What a recall with `--yes` cancels, in which order, and what it reports.

use std::{collections::BTreeSet, time::Duration};

use countermand_emulator::Settings;
use serde_json::{Value, json};

use crate::{
    recall::{
        command::{has_events, journal, names_of, outcomes, recall, run, wipe_devices},
        fixture::{device, emulator, settings, setup, start, wipe},
    },
    support::{process::Process, reply::Reply, service::Setup, upstream::Upstream},
};

#[tokio::test]
async fn every_selected_operation_is_cancelled_once_and_confirmed_by_one_list_a_device() {
    let (emulator, service) = start().await;
    // The names of a page of devices, and of a second one.
    let wipes = wipe_devices(&emulator, 130, 3);
    emulator.control().issue_command(&device(0), json!({"type": "LOCK"})).unwrap();
    wipe(&emulator, "enterprises/LC02/devices/d0001", 1);
    let ended = run(&mut recall(service.address, &["--yes", "--output", "json"])).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let summary = &report["summary"];
    assert_eq!((&summary["found"], &summary["cancelled"]), (&json!(390), &json!(390)), "{summary}");
    let reported: BTreeSet<_> =
        report["operations"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(reported, wipes.iter().map(String::as_str).collect());
    assert_eq!(emulator.control().pending().len(), 2, "the LOCK and the other enterprise");
    let cancels = emulator.control().cancel_requests();
    assert_eq!(cancels.into_iter().collect::<Vec<_>>(), wipes_once(&wipes));
    let queries = emulator.control().queries();
    // A list of each device for the operations, and one for the outcomes; some more at the ends of the first pages. A
    // list for each operation would be 520.
    assert!((260..400).contains(&queries.list), "{queries:?}");
    assert_eq!(queries.get, 0);
}

fn wipes_once(wipes: &[String]) -> Vec<(String, u64)> {
    wipes.iter().cloned().collect::<BTreeSet<_>>().into_iter().map(|name| (name, 1)).collect()
}

#[tokio::test]
async fn cancels_go_out_while_listing_goes_on() {
    let (emulator, service) = start().await;
    wipe_devices(&emulator, 120, 2);
    emulator.control().set_latency(Duration::from_millis(20));
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("journal");
    let arguments = ["--yes", "--report", path.to_str().unwrap()];
    let ended = run(&mut recall(service.address, &arguments)).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines = journal(&path);
    let first_accepted = lines.iter().position(|line| line["event"] == "cancel_accepted").unwrap();
    let last_found = lines.iter().rposition(|line| line["event"] == "found").unwrap();
    assert!(last_found > first_accepted, "{first_accepted} {last_found}");
    // Each operation is in the journal before its cancel.
    for (index, line) in lines.iter().enumerate().filter(|(_, line)| line["event"] == "cancel_accepted") {
        let found = lines.iter().position(|other| other["event"] == "found" && other["name"] == line["name"]);
        assert!(found.unwrap() < index, "{line}");
    }
    let summary = lines.last().unwrap();
    assert_eq!((&summary["event"], &summary["summary"]["cancelled"]), (&json!("summary"), &json!(240)));
    assert_eq!(outcomes(&lines).len(), 240);
}

#[tokio::test]
async fn the_newest_operations_are_cancelled_first() {
    let (emulator, service) = start().await;
    let mut oldest_first = Vec::new();
    for number in 0..60 {
        oldest_first.extend(wipe(&emulator, &device(number % 4), 1));
        // The creation time has milliseconds.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // The lists of the devices end long before the second cancels.
    emulator.control().set_latency(Duration::from_millis(50));
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("journal");
    // The devices are one page each, and are listed at the same time.
    let devices: Vec<_> =
        (0..4).flat_map(|number| ["--device".to_owned(), format!("d{number:04}")]).collect();
    let mut command = recall(service.address, &["--yes", "--report", path.to_str().unwrap()]);
    let ended = run(command.args(&devices)).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let accepted = names_of(&journal(&path), "cancel_accepted");
    assert_eq!(accepted.len(), 60);
    // Eight cancels are in flight at once, and the lists of the devices end one after the other.
    let rank = |name: &String| oldest_first.iter().rev().position(|other| other == name).unwrap();
    let (early, late) = (&accepted[8..30], &accepted[38..]);
    let mean = |names: &[String]| names.iter().map(rank).sum::<usize>() / names.len();
    assert!(mean(early) + 15 < mean(late), "{:?}", accepted.iter().map(rank).collect::<Vec<_>>());
}

#[tokio::test]
async fn devices_types_and_times_select() {
    let (emulator, service) = start().await;
    let old = wipe(&emulator, &device(1), 1).remove(0);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let wipe_of_1 = wipe(&emulator, &device(1), 1).remove(0);
    wipe(&emulator, &device(2), 1);
    let lock = emulator.control().issue_command(&device(1), json!({"type": "LOCK"})).unwrap();
    let operation = emulator.control().operation(&wipe_of_1).unwrap();
    let created = operation["metadata"]["createTime"].as_str().unwrap();
    for all_devices in [false, true] {
        let mut arguments = vec!["--since", created, "--until", "0s", "--dry-run", "--output", "json"];
        if !all_devices {
            arguments.extend(["--device", "d0001"]);
        }
        let ended = run(&mut recall(service.address, &arguments)).await;
        let plan: Value = serde_json::from_str(&ended.stdout).unwrap();
        let names: Vec<_> = plan["operations"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
        assert_eq!(names.len(), if all_devices { 2 } else { 1 }, "{plan}");
        assert!(names.contains(&&json!(wipe_of_1)) && !names.contains(&&json!(old)), "{plan}");
    }
    let ended = run(&mut recall(service.address, &["--device", "d0001", "--since", created, "--yes"])).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(emulator.control().cancel_requests().into_keys().collect::<Vec<_>>(), [wipe_of_1]);
    assert!(emulator.control().pending().iter().any(|name| *name == lock["name"]));
}

#[tokio::test]
async fn an_operation_that_the_device_carried_out_is_too_late() {
    // A cancel takes effect long after the device ran the command.
    let emulator = emulator(Settings { cancel_delay: Duration::from_secs(3600), ..settings() }).await;
    let service = setup(&emulator).start().await;
    let wipes = wipe_devices(&emulator, 2, 1);
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("journal");
    let arguments = ["--yes", "--report", path.to_str().unwrap()];
    let process = Process::start(&mut recall(service.address, &arguments));
    has_events(&path, "cancel_accepted", 2).await;
    for wipe in &wipes {
        assert!(emulator.control().execute(wipe));
    }
    let ended = process.end().await;
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(ended.stdout.contains(&format!("too late: {}", wipes[0])), "{ended:?}");
    let outcomes = outcomes(&journal(&path));
    assert!(outcomes.len() == 2 && outcomes.values().all(|outcome| outcome == "TOO_LATE"), "{outcomes:?}");
}

#[tokio::test]
async fn an_accepted_cancel_without_an_effect_is_unknown() {
    let emulator = emulator(Settings { cancel_delay: Duration::from_secs(3600), ..settings() }).await;
    let service = setup(&emulator).start().await;
    let wipes = wipe_devices(&emulator, 1, 1);
    let ended = run(&mut recall(service.address, &["--yes", "--confirm-timeout", "1s"])).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let line =
        format!("unknown: {}: the cancel was accepted, and the operation is pending after 1s", wipes[0]);
    assert!(ended.stdout.contains(&line), "{ended:?}");
}

#[tokio::test]
async fn nothing_found_is_a_success() {
    let (emulator, service) = start().await;
    emulator.control().issue_command(&device(0), json!({"type": "LOCK"})).unwrap();
    let ended = run(&mut recall(service.address, &["--yes"])).await;
    let text = "no pending operations of type WIPE on all devices of enterprises/LC01\n";
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), text, ""));
    let ended = run(&mut recall(service.address, &["--yes", "--output", "json"])).await;
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((ended.code, &report["summary"]["found"]), (Some(0), &json!(0)));
}

#[tokio::test]
async fn many_types_select_although_their_filter_would_be_over_the_limit() {
    let (emulator, service) = start().await;
    let wipes = wipe_devices(&emulator, 2, 1);
    emulator.control().issue_command(&device(0), json!({"type": "LOCK"})).unwrap();
    let types = (0..400).flat_map(|number| ["--type".to_owned(), format!("T{number}")]);
    let ended = run(recall(service.address, &["--yes"]).args(types)).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(emulator.control().cancel_requests().into_keys().collect::<Vec<_>>(), wipes);
}

#[tokio::test]
async fn an_operation_without_a_creation_time_is_not_selected_by_time_with_one_warning() {
    let upstream = Upstream::start().await;
    let service = Setup::of(&upstream).start().await;
    let operation = |id, metadata: Value| json!({"name": format!("{}/operations/{id}", device(0)), "metadata": metadata, "done": false});
    let operations = [
        operation("1", json!({"type": "WIPE"})),
        operation("2", json!({"type": "WIPE", "createTime": "yesterday"})),
        operation("3", json!({"type": "LOCK"})),
        operation("4", json!({"type": "WIPE", "createTime": "2026-01-01T00:00:00Z"})),
    ];
    upstream.always_answers(Reply::json(200, &json!({"operations": operations})));
    for (limit, found) in [(Some("--since"), 1), (None, 3)] {
        let mut command = recall(service.address, &["--device", "d0000", "--dry-run", "--output", "json"]);
        let ended =
            run(command.args(limit.map(|limit| [limit, "2026-01-01T00:00:00Z"]).into_iter().flatten())).await;
        let plan: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!((ended.code, &plan["found"]), (Some(0), &json!(found)), "{ended:?}");
        let warning = format!(
            "countermand: 2 pending operations without a readable createTime are not selected by --since or --until, \
             for example {}/operations/1\n",
            device(0)
        );
        assert_eq!(ended.stderr, if limit.is_some() { warning.as_str() } else { "" });
    }
}
