//! Every device's operations, in the order of their issue.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::time::Instant;

use super::command::Command;
use super::operation::{Operation, Outcome, Schedule};
use super::refusal::Refusal;
use super::route::Device;
use super::settings::Settings;

/// The devices and their operations. Operations are kept as long as the store lives.
pub(super) struct Store {
    devices: HashMap<Device, BTreeMap<u64, Operation>>,
    /// What the two clocks showed at the start: the monotonic one decides, the other only dates.
    start: (Instant, SystemTime),
}

impl Store {
    pub(super) fn new() -> Self {
        Self { devices: HashMap::new(), start: (Instant::now(), SystemTime::now()) }
    }

    /// Issues a command: the JSON of the new operation. A device that nobody listed comes to exist by
    /// its first command.
    pub(super) fn issue(
        &mut self,
        device: &Device,
        command: Command,
        settings: &Settings,
        now: Instant,
    ) -> Result<Value, Refusal> {
        if let Some(listed) = &settings.devices
            && !listed.contains(&device.to_string())
        {
            return Err(Refusal::not_found());
        }
        let created = self.start.1 + now.saturating_duration_since(self.start.0);
        let operations = self.devices.entry(device.clone()).or_default();
        let last = operations.last_key_value().map(|(id, _)| *id);
        let id = last.map_or(0, |last| last + 1).max(milliseconds(created));
        let schedule = Schedule {
            issued: now,
            created,
            pick_up: settings.pick_up,
            default_duration: settings.command_duration,
        };
        let name = format!("{device}/operations/{id}");
        let operation = Operation::new(name, user(device), command, &schedule);
        let shown = operation.to_json(now);
        operations.insert(id, operation);
        Ok(shown)
    }

    /// An operation as it is at `now`.
    pub(super) fn get(&self, device: &Device, id: &str, now: Instant) -> Result<Value, Refusal> {
        let operation = key(id).and_then(|id| self.devices.get(device)?.get(&id));
        operation.map(|operation| operation.to_json(now)).ok_or_else(Refusal::not_found)
    }

    /// Asks for a cancel that takes effect after `delay`.
    ///
    /// What the API answers about an operation that is done is not public; `FAILED_PRECONDITION` is a
    /// guess.
    pub(super) fn cancel(
        &mut self,
        device: &Device,
        id: &str,
        delay: Duration,
        now: Instant,
    ) -> Result<(), Refusal> {
        let operation = self.find(device, id).ok_or_else(Refusal::not_found)?;
        if operation.outcome(now) != Outcome::Pending {
            return Err(Refusal::failed_precondition("The operation is already done."));
        }
        operation.cancel(now.checked_add(delay));
        Ok(())
    }

    /// Lets the device run a pending command at `now`; whether there is such an operation.
    pub(super) fn execute(&mut self, device: &Device, id: &str, now: Instant) -> bool {
        self.find(device, id).map(|operation| operation.execute(now)).is_some()
    }

    /// Drops an operation, as Google does some time after it is done; whether there was one.
    pub(super) fn forget(&mut self, device: &Device, id: &str) -> bool {
        let operations = self.devices.get_mut(device);
        key(id).and_then(|id| operations?.remove(&id)).is_some()
    }

    /// A device's operations with an id greater than `after`, oldest first; `None` when the device does
    /// not exist.
    pub(super) fn of_device<'a>(
        &'a self,
        device: &Device,
        after: Option<u64>,
        settings: &Settings,
    ) -> Option<impl Iterator<Item = (u64, &'a Operation)> + use<'a>> {
        let listed = settings.devices.iter().flatten().any(|name| *name == device.to_string());
        let operations = self.devices.get(device);
        let from = after.map_or(0, |after| after.saturating_add(1));
        (listed || operations.is_some())
            .then(|| operations.into_iter().flat_map(move |all| all.range(from..)).map(|(id, op)| (*id, op)))
    }

    /// The names of all that is pending at `now`, oldest first.
    pub(super) fn pending(&self, now: Instant) -> Vec<String> {
        let all = self.devices.values().flatten();
        let mut pending: Vec<_> =
            all.filter(|(_, operation)| operation.outcome(now) == Outcome::Pending).collect();
        pending.sort_by_key(|(id, operation)| (**id, &operation.name));
        pending.into_iter().map(|(_, operation)| operation.name.clone()).collect()
    }

    fn find(&mut self, device: &Device, id: &str) -> Option<&mut Operation> {
        let operations = self.devices.get_mut(device)?;
        operations.get_mut(&key(id)?)
    }
}

/// The id that stands in a name: milliseconds since 1970, as users of the API have seen them. `017` and
/// `+17` are no other way to write 17.
fn key(id: &str) -> Option<u64> {
    let number: u64 = id.parse().ok()?;
    (number.to_string() == id).then_some(number)
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The user that a device belongs to, always the same one for a device; 21 digits, as at Google.
fn user(device: &Device) -> String {
    let mut hasher = DefaultHasher::new();
    device.hash(&mut hasher);
    format!("enterprises/{}/users/1{:020}", device.enterprise, hasher.finish())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn device() -> Device {
        Device::parse("enterprises/LC01/devices/d1").unwrap()
    }

    fn issue(store: &mut Store, settings: &Settings, now: Instant) -> Value {
        let command = Command::parse(json!({ "type": "LOCK" })).unwrap();
        store.issue(&device(), command, settings, now).unwrap()
    }

    fn id(operation: &Value) -> String {
        operation["name"].as_str().unwrap().rsplit_once('/').unwrap().1.to_owned()
    }

    #[test]
    fn operations_issued_at_once_have_different_ids() {
        let (mut store, now) = (Store::new(), Instant::now());
        let settings = Settings::default();
        let ids: Vec<u64> =
            (0..50).map(|_| id(&issue(&mut store, &settings, now)).parse().unwrap()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
        assert_eq!(store.pending(now).len(), 50);
    }

    #[test]
    fn a_finished_operation_cannot_be_cancelled() {
        let (mut store, now) = (Store::new(), Instant::now());
        let id = id(&issue(&mut store, &Settings::default(), now));
        let cancel =
            |store: &mut Store| store.cancel(&device(), &id, Duration::ZERO, now).map_err(|r| r.status());
        assert_eq!(cancel(&mut store), Ok(()));
        assert_eq!(store.get(&device(), &id, now).unwrap()["error"]["code"], 1);
        assert_eq!(cancel(&mut store), Err("FAILED_PRECONDITION"));
        assert!(store.pending(now).is_empty());
    }

    #[test]
    fn a_delayed_cancel_can_be_repeated_and_can_lose() {
        let (mut store, now) = (Store::new(), Instant::now());
        let id = id(&issue(&mut store, &Settings::default(), now));
        for _ in 0..2 {
            assert_eq!(store.cancel(&device(), &id, Duration::from_secs(5), now), Ok(()));
        }
        assert_eq!(store.get(&device(), &id, now).unwrap()["done"], Value::Null);
        assert!(store.execute(&device(), &id, now + Duration::from_secs(4)));
        let done = store.get(&device(), &id, now + Duration::from_secs(9)).unwrap();
        assert_eq!(done["response"]["type"], "LOCK");
    }

    #[test]
    fn what_is_unknown_is_not_found() {
        let (mut store, now) = (Store::new(), Instant::now());
        let id = id(&issue(&mut store, &Settings::default(), now));
        let other = Device::parse("enterprises/LC02/devices/d1").unwrap();
        let zero = Duration::ZERO;
        for (device, id) in
            [(&other, &*id), (&device(), "1"), (&device(), "x"), (&device(), &format!("0{id}"))]
        {
            assert_eq!(store.get(device, id, now), Err(Refusal::not_found()));
            assert_eq!(store.cancel(device, id, zero, now), Err(Refusal::not_found()));
        }
        assert!(store.forget(&device(), &id));
        assert_eq!(store.get(&device(), &id, now), Err(Refusal::not_found()));
    }

    #[test]
    fn with_a_list_of_devices_no_other_exists() {
        let (mut store, now) = (Store::new(), Instant::now());
        let listed = Some(vec!["enterprises/LC01/devices/d2".to_owned()]);
        let settings = Settings { devices: listed, ..Settings::default() };
        let command = Command::parse(json!({ "type": "LOCK" })).unwrap();
        let answer = store.issue(&device(), command, &settings, now);
        assert_eq!(answer, Err(Refusal::not_found()));
        assert!(store.of_device(&device(), None, &settings).is_none());
        let listed = Device::parse("enterprises/LC01/devices/d2").unwrap();
        assert_eq!(store.of_device(&listed, None, &settings).unwrap().count(), 0);
    }
}
