//! The operations of each device, in the order of their issue.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Bound;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::time::Instant;

use crate::api_error::ApiError;
use crate::command::Command;
use crate::operation::{Operation, Outcome};
use crate::route::Device;
use crate::settings::Settings;

/// The devices and their operations. An operation is removed only with its device.
pub(crate) struct Store {
    devices: BTreeMap<Device, BTreeMap<u64, Operation>>,
    /// Both clocks at the start. The monotonic clock decides outcomes, and the wall clock is only returned to clients.
    start: (Instant, SystemTime),
}

impl Store {
    pub(crate) fn new() -> Self {
        Self { devices: BTreeMap::new(), start: (Instant::now(), SystemTime::now()) }
    }

    /// Issues a command and returns the JSON of the new operation. Unless the settings list devices, a device exists
    /// from its first command on.
    pub(crate) fn issue(
        &mut self,
        device: &Device,
        command: Command,
        settings: &Settings,
        now: Instant,
    ) -> Result<Value, ApiError> {
        if !settings.devices.is_empty() && !settings.devices.contains(&device.to_string()) {
            return Err(ApiError::not_found());
        }
        let created = self.start.1 + now.saturating_duration_since(self.start.0);
        let operations = self.devices.entry(device.clone()).or_default();
        let last = operations.last_key_value().map(|(id, _)| *id);
        let id = last.map_or(0, |last| last + 1).max(milliseconds(created));
        let name = format!("{device}/operations/{id}");
        let operation = Operation::new(name, user(device), command, settings, now, created);
        let issued = operation.to_json(now);
        operations.insert(id, operation);
        Ok(issued)
    }

    /// The JSON of an operation at `now`.
    pub(crate) fn get(&self, device: &Device, id: &str, now: Instant) -> Result<Value, ApiError> {
        let operation = parse_id(id).and_then(|id| self.devices.get(device)?.get(&id));
        operation.map(|operation| operation.to_json(now)).ok_or_else(ApiError::not_found)
    }

    /// Cancels an operation after `delay`.
    ///
    /// Google does not publish the error about an operation that is done. `FAILED_PRECONDITION` is a guess.
    pub(crate) fn cancel(
        &mut self,
        device: &Device,
        id: &str,
        delay: Duration,
        now: Instant,
    ) -> Result<(), ApiError> {
        let operation = self.find(device, id).ok_or_else(ApiError::not_found)?;
        operation.cancel_requests += 1;
        if operation.outcome(now) != Outcome::Pending {
            return Err(ApiError::failed_precondition("The operation is already done."));
        }
        operation.cancel(now.checked_add(delay));
        Ok(())
    }

    /// Makes the device run a pending command at `now`. Returns whether there is such an operation.
    pub(crate) fn execute(&mut self, device: &Device, id: &str, now: Instant) -> bool {
        self.find(device, id).map(|operation| operation.execute(now)).is_some()
    }

    /// A device's operations with an id greater than `after`, oldest first; `None` when the device does
    /// not exist.
    pub(crate) fn of_device<'a>(
        &'a self,
        device: &Device,
        after: Option<u64>,
        settings: &Settings,
    ) -> Option<impl Iterator<Item = (u64, &'a Operation)> + use<'a>> {
        let listed = settings.devices.contains(&device.to_string());
        let operations = self.devices.get(device);
        let from = after.map_or(0, |after| after.saturating_add(1));
        (listed || operations.is_some())
            .then(|| operations.into_iter().flat_map(move |all| all.range(from..)).map(|(id, op)| (*id, op)))
    }

    /// The ids of the enterprise's devices that are greater than `after`, in their order.
    pub(crate) fn devices_of(&self, enterprise: &str, after: &str, settings: &Settings) -> BTreeSet<String> {
        let first = Device { enterprise: enterprise.to_owned(), device: after.to_owned() };
        let range = (Bound::Excluded(first), Bound::Unbounded);
        let issued = self.devices.range(range).map(|(device, _)| device.clone());
        let issued = issued.take_while(|device| device.enterprise == enterprise);
        let listed = settings.devices.iter().filter_map(|name| Device::parse(name));
        let listed = listed.filter(|device| device.enterprise == enterprise && *device.device > *after);
        issued.chain(listed).map(|device| device.device).collect()
    }

    /// Removes a device with its operations. Returns `false` when no command was issued to such a device.
    pub(crate) fn delete_device(&mut self, device: &Device) -> bool {
        self.devices.remove(device).is_some()
    }

    /// The number of cancels of each operation that had any, by its name.
    pub(crate) fn cancel_requests(&self) -> BTreeMap<String, u64> {
        let all = self.devices.values().flat_map(BTreeMap::values);
        let cancelled = all.filter(|operation| operation.cancel_requests > 0);
        cancelled.map(|operation| (operation.name.clone(), operation.cancel_requests)).collect()
    }

    /// The names of the operations that are pending at `now`, oldest first.
    pub(crate) fn pending(&self, now: Instant) -> Vec<String> {
        let all = self.devices.values().flatten();
        let mut pending: Vec<_> =
            all.filter(|(_, operation)| operation.outcome(now) == Outcome::Pending).collect();
        pending.sort_by_key(|(id, operation)| (**id, &operation.name));
        pending.into_iter().map(|(_, operation)| operation.name.clone()).collect()
    }

    fn find(&mut self, device: &Device, id: &str) -> Option<&mut Operation> {
        let operations = self.devices.get_mut(device)?;
        operations.get_mut(&parse_id(id)?)
    }
}

/// Parses the id in a name: milliseconds since 1970, as users of the API have seen. `017` and `+17` are not 17.
fn parse_id(id: &str) -> Option<u64> {
    let number: u64 = id.parse().ok()?;
    (number.to_string() == id).then_some(number)
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The user of a device, which is constant for the device. The id has 21 digits, as at Google.
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
    fn a_delayed_cancel_can_be_repeated_and_can_be_too_late() {
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
    fn an_unknown_operation_is_not_found() {
        let (mut store, now) = (Store::new(), Instant::now());
        let id = id(&issue(&mut store, &Settings::default(), now));
        let other = Device::parse("enterprises/LC02/devices/d1").unwrap();
        let zero = Duration::ZERO;
        for (device, id) in
            [(&other, &*id), (&device(), "1"), (&device(), "x"), (&device(), &format!("0{id}"))]
        {
            assert_eq!(store.get(device, id, now), Err(ApiError::not_found()));
            assert_eq!(store.cancel(device, id, zero, now), Err(ApiError::not_found()));
        }
    }

    #[test]
    fn with_a_list_of_devices_no_other_exists() {
        let (mut store, now) = (Store::new(), Instant::now());
        let devices = vec!["enterprises/LC01/devices/d2".to_owned()];
        let settings = Settings { devices, ..Settings::default() };
        let command = Command::parse(json!({ "type": "LOCK" })).unwrap();
        let result = store.issue(&device(), command, &settings, now);
        assert_eq!(result, Err(ApiError::not_found()));
        assert!(store.of_device(&device(), None, &settings).is_none());
        let listed = Device::parse("enterprises/LC01/devices/d2").unwrap();
        assert_eq!(store.of_device(&listed, None, &settings).unwrap().count(), 0);
    }
}
