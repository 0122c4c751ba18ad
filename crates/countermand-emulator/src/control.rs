//! The handle with which a test or `dev` controls a running emulator.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::api_error::ApiError;
use crate::command::Command;
use crate::denial::Denial;
use crate::endpoint::{Condition, Endpoint};
use crate::quota::Quota;
use crate::route::Device;
use crate::settings::{DeviceFault, Fault, FaultRates, InvalidRates};
use crate::shared::{Queries, Shared, lock};

/// A handle on a running emulator. It issues commands as another client would, reads operations, counts queries, and
/// changes settings. It does not keep the emulator running.
#[derive(Clone)]
pub struct Control(pub(crate) Arc<Shared>);

impl Control {
    /// Issues a command to `device` (`enterprises/*/devices/*`) and returns the JSON of the new operation, as the API's
    /// `issueCommand` does. It counts neither against the quota nor as a query.
    ///
    /// # Errors
    /// The API's error: `INVALID_ARGUMENT` for an invalid name or command, `NOT_FOUND` for a device that does not
    /// exist.
    pub fn issue_command(&self, device: &str, command: Value) -> Result<Value, ApiError> {
        let name = || ApiError::invalid_argument("name", "not enterprises/*/devices/*");
        let device = Device::parse(device).ok_or_else(name)?;
        let command = Command::parse(command)?;
        let settings = lock(&self.0.settings);
        lock(&self.0.store).issue(&device, command, &settings, Instant::now())
    }

    /// Issues `count` commands to each of `devices`, as [`Self::issue_command`] does. Returns the names of the
    /// operations, in the order of the devices.
    ///
    /// # Errors
    /// As for [`Self::issue_command`]. The commands before the error are issued.
    pub fn issue_commands<'a>(
        &self,
        devices: impl IntoIterator<Item = &'a str>,
        count: usize,
        command: &Value,
    ) -> Result<Vec<String>, ApiError> {
        let mut names = Vec::new();
        for device in devices {
            for _ in 0..count {
                let operation = self.issue_command(device, command.clone())?;
                names.extend(operation["name"].as_str().map(str::to_owned));
            }
        }
        Ok(names)
    }

    /// Removes a device with its operations, as `enterprises.devices.delete` does. Returns `false` when no command was
    /// issued to a device of this name.
    pub fn delete_device(&self, name: &str) -> bool {
        Device::parse(name).is_some_and(|device| {
            lock(&self.0.settings).devices.retain(|listed| listed != name);
            lock(&self.0.store).delete_device(&device)
        })
    }

    /// Sets the behavior of every API call about one device; `None` for the usual one.
    pub fn set_device_fault(&self, device: &str, fault: Option<DeviceFault>) {
        let mut faults = lock(&self.0.device_faults);
        match fault {
            Some(fault) => _ = faults.insert(device.to_owned(), fault),
            None => _ = faults.remove(device),
        }
    }

    /// The number of cancels of each operation that had any, by its name, with or without an effect.
    pub fn cancel_requests(&self) -> BTreeMap<String, u64> {
        lock(&self.0.store).cancel_requests()
    }

    /// The JSON of an operation, or `None` when there is none of that name.
    pub fn operation(&self, name: &str) -> Option<Value> {
        let (device, id) = split(name)?;
        lock(&self.0.store).get(&device, id, Instant::now()).ok()
    }

    /// The names of the pending operations, oldest first.
    pub fn pending(&self) -> Vec<String> {
        lock(&self.0.store).pending(Instant::now())
    }

    /// Makes the device run a pending command now. Returns `false` when there is no operation of that name.
    pub fn execute(&self, name: &str) -> bool {
        split(name).is_some_and(|(device, id)| lock(&self.0.store).execute(&device, id, Instant::now()))
    }

    /// The number of requests of each kind so far.
    pub fn queries(&self) -> Queries {
        *lock(&self.0.queries)
    }

    /// Changes [`Settings::latency`](crate::Settings::latency) for calls that arrive from now on.
    pub fn set_latency(&self, latency: Duration) {
        lock(&self.0.settings).latency = latency;
    }

    /// Changes [`Settings::quota`](crate::Settings::quota). The calls admitted so far still count.
    pub fn set_quota(&self, quota: Quota) {
        lock(&self.0.settings).quota = quota;
    }

    /// Changes [`Settings::token_lifetime`](crate::Settings::token_lifetime) for tokens issued from now on.
    pub fn set_token_lifetime(&self, lifetime: Duration) {
        lock(&self.0.settings).token_lifetime = lifetime;
    }

    /// Changes [`Settings::faults`](crate::Settings::faults).
    ///
    /// # Errors
    /// The rates are not valid.
    pub fn set_faults(&self, faults: FaultRates) -> Result<(), InvalidRates> {
        faults.validate()?;
        lock(&self.0.settings).faults = faults;
        Ok(())
    }

    /// Changes [`Settings::denial`](crate::Settings::denial).
    pub fn set_denial(&self, denial: Option<Denial>) {
        lock(&self.0.settings).denial = denial;
    }

    /// Injects `fault` into the next `count` API calls, after the faults that are queued already.
    pub fn fail_next(&self, count: usize, fault: Fault) {
        lock(&self.0.queued_faults).extend(std::iter::repeat_n(fault, count));
    }

    /// Expires every access token: the next call with one gets a 401.
    pub fn revoke_tokens(&self) {
        lock(&self.0.tokens).revoke(None, Instant::now());
    }

    /// Expires every access token of one principal. Returns `false` when there is no such principal.
    pub fn revoke_tokens_of(&self, principal: &str) -> bool {
        lock(&self.0.tokens).revoke(Some(principal), Instant::now());
        lock(&self.0.accounts).exists(principal)
    }

    /// Enables or disables a principal. A disabled principal gets no token, and its tokens get a 401. Returns `false`
    /// when there is no such principal.
    pub fn set_enabled(&self, principal: &str, enabled: bool) -> bool {
        lock(&self.0.accounts).set_enabled(principal, enabled)
    }

    /// Sets whether a service account may be impersonated. The default is yes. Returns `false` when there is none of
    /// that address.
    pub fn set_impersonable(&self, email: &str, impersonable: bool) -> bool {
        lock(&self.0.accounts).set_impersonable(email, impersonable)
    }

    /// Replaces the subject tokens and ends the validity of the old ones, as Kubernetes does with projected files.
    /// Blocks while it writes.
    ///
    /// # Errors
    /// The file cannot be written. The old tokens remain valid.
    pub fn rotate_subject_tokens(&self) -> io::Result<()> {
        lock(&self.0.subject_tokens).rotate()
    }

    /// The principals of the latest API calls, at most a thousand, oldest first. A call counts if it has a token of
    /// this emulator and no injected fault ([`Settings::faults`](crate::Settings::faults),
    /// [`fail_next`](Self::fail_next)), regardless of the response.
    pub fn callers(&self) -> Vec<String> {
        lock(&self.0.callers).latest()
    }

    /// Every secret of this emulator with its description: the private key in PEM, the secrets in the credential
    /// files, the current subject tokens, and each access token of the last hour. Tests search output for them.
    pub fn secrets(&self) -> Vec<(&'static str, String)> {
        let user = &self.0.user;
        let mut secrets = vec![
            ("the private key", lock(&self.0.accounts).key.private().to_owned()),
            ("the client secret", user.client_secret.clone()),
            ("the refresh token", user.refresh_token.clone()),
        ];
        let subject = |secret: &str| ("a subject token", secret.to_owned());
        secrets.extend(lock(&self.0.subject_tokens).secrets().map(subject));
        secrets.extend(lock(&self.0.tokens).all().map(|token| ("an access token", token.to_owned())));
        secrets
    }

    /// Sets how an endpoint responds from now on.
    pub fn set_endpoint(&self, endpoint: Endpoint, condition: Condition) {
        *lock(&self.0.settings).endpoints.get_mut(endpoint) = condition;
    }
}

fn split(name: &str) -> Option<(Device, &str)> {
    let (device, id) = name.split_once("/operations/")?;
    Some((Device::parse(device)?, id))
}
