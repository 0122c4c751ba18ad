//! Polling for all who wait: AMAPI has no call that waits, so one task a device asks for the operations
//! that somebody awaits, however many wait for each.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    sync::{Notify, watch},
    time::sleep_until,
};

use super::{
    interval::{Interval, Intervals},
    latest::{Latest, may_pass},
    round::{self, Plan},
    states::States,
};
use crate::{
    amapi::{Api, error::Error},
    name::{DeviceName, OperationName},
    policy::{Permit, act::Get},
    proto::longrunning::Operation,
    serving::Serving,
};

/// The pollers of all devices. Cheap to clone.
pub(super) struct Pollers<A>(Arc<Inner<A>>);

struct Inner<A> {
    states: States<A>,
    intervals: Intervals,
    serving: watch::Receiver<Serving>,
    devices: Mutex<HashMap<DeviceName, Device>>,
}

/// A device with a poller.
struct Device {
    awaited: HashMap<OperationName, Awaited>,
    /// Rings when the next question should come soon.
    soon: Arc<Notify>,
}

/// An operation that somebody waits for.
struct Awaited {
    latest: watch::Sender<Latest>,
    permit: Permit<Get>,
}

impl<A> Clone for Pollers<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A: Api> Pollers<A> {
    pub(super) fn new(states: States<A>, intervals: Intervals, serving: watch::Receiver<Serving>) -> Self {
        Self(Arc::new(Inner { states, intervals, serving, devices: Mutex::default() }))
    }

    /// Joins those who wait for an operation; `first` is what the newcomer already found. The poller asks
    /// for it as long as one of the receivers lives.
    pub(super) fn watch(
        &self,
        permit: Permit<Get>,
        first: &Result<Arc<Operation>, Error>,
    ) -> watch::Receiver<Latest> {
        let name = permit.resource().clone();
        let latest = Latest {
            state: first.as_ref().ok().cloned(),
            failure: first.as_ref().err().cloned(),
            is_last: *self.0.serving.borrow() == Serving::Draining,
        };
        let mut devices = self.0.devices.lock().unwrap_or_else(PoisonError::into_inner);
        let mut is_new = false;
        let device = devices.entry(name.device()).or_insert_with(|| {
            is_new = true;
            Device { awaited: HashMap::new(), soon: Arc::default() }
        });
        if is_new {
            tokio::spawn(poll(self.clone(), name.device(), Arc::clone(&device.soon)));
        }
        let awaited = device.awaited.entry(name).or_insert_with(|| {
            device.soon.notify_one();
            Awaited { latest: watch::Sender::new(latest), permit }
        });
        awaited.latest.subscribe()
    }

    /// Something happened to an operation: those who wait for it are told soon.
    pub(super) fn hurry(&self, name: &OperationName) {
        let devices = self.0.devices.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(device) = devices.get(&name.device()).filter(|device| device.awaited.contains_key(name)) {
            device.soon.notify_one();
        }
    }

    /// The operations of a device that are still awaited. With none, its poller is no more.
    fn still_awaited(&self, device: &DeviceName) -> Vec<Permit<Get>> {
        let mut devices = self.0.devices.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = devices.get_mut(device) else { return Vec::new() };
        entry.awaited.retain(|_, awaited| awaited.latest.receiver_count() > 0);
        if entry.awaited.is_empty() {
            devices.remove(device);
            return Vec::new();
        }
        entry.awaited.values().map(|awaited| awaited.permit.clone()).collect()
    }

    /// Tells those who wait for an operation what was found.
    fn tell(&self, device: &DeviceName, name: &OperationName, found: Result<Arc<Operation>, Error>) {
        let is_last = match &found {
            Ok(operation) => operation.done,
            Err(error) => !may_pass(error),
        };
        let mut devices = self.0.devices.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = devices.get_mut(device) else { return };
        let Some(awaited) = entry.awaited.get(name) else { return };
        awaited.latest.send_modify(|latest| {
            match found {
                Ok(operation) => {
                    latest.state = Some(operation);
                    latest.failure = None;
                }
                Err(error) => latest.failure = Some(error),
            }
            latest.is_last = is_last;
        });
        if is_last {
            // Whoever comes now begins anew.
            entry.awaited.remove(name);
        }
    }

    /// The server drains: everybody gets the latest there is.
    fn dismiss(&self, device: &DeviceName) {
        let mut devices = self.0.devices.lock().unwrap_or_else(PoisonError::into_inner);
        for awaited in devices.remove(device).into_iter().flat_map(|device| device.awaited.into_values()) {
            awaited.latest.send_modify(|latest| latest.is_last = true);
        }
    }
}

/// Asks for the awaited operations of one device, until nobody waits or the server drains.
async fn poll<A: Api>(pollers: Pollers<A>, device: DeviceName, soon: Arc<Notify>) {
    let mut serving = pollers.0.serving.clone();
    let mut draining = std::pin::pin!(async move {
        let _ = serving.wait_for(|serving| *serving == Serving::Draining).await;
    });
    let mut interval = Interval::new(pollers.0.intervals);
    let mut plan = Plan::default();
    loop {
        tokio::select! {
            () = &mut draining => return pollers.dismiss(&device),
            () = soon.notified() => interval.hurry(),
            () = sleep_until(interval.due()) => {
                let awaited = pollers.still_awaited(&device);
                if awaited.is_empty() {
                    return;
                }
                let asking = round::ask(&pollers.0.states, &awaited, &mut plan);
                tokio::select! {
                    () = &mut draining => return pollers.dismiss(&device),
                    found = asking => {
                        for (name, found) in found {
                            pollers.tell(&device, &name, found);
                        }
                    }
                }
                interval.grow();
            }
        }
    }
}
