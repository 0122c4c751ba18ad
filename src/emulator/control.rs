//! The handle by which a test, or `dev`, works on a running emulator.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::command::Command;
use super::refusal::Refusal;
use super::route::Device;
use super::settings::{Fault, FaultRates, InvalidSetting, Quota, TokenEndpoint};
use super::state::{Queries, State, lock};

/// A handle on a running emulator: issues commands as if by another client, looks at operations, counts
/// queries, and changes settings. It does not keep the emulator running.
#[derive(Clone)]
pub struct Control(pub(super) Arc<State>);

impl Control {
    /// Issues a command to `device` (`enterprises/*/devices/*`) and gives the new operation's JSON, as
    /// the API's `issueCommand` would. It takes no quota and counts as no query.
    ///
    /// # Errors
    /// What the API would answer: `INVALID_ARGUMENT` for a wrong name or command, `NOT_FOUND` for a
    /// device that does not exist.
    pub fn issue_command(&self, device: &str, command: Value) -> Result<Value, Refusal> {
        let name = || Refusal::invalid_argument("name", "not enterprises/*/devices/*");
        let device = Device::parse(device).ok_or_else(name)?;
        let command = Command::parse(command)?;
        let settings = lock(&self.0.settings);
        lock(&self.0.store).issue(&device, command, &settings, Instant::now())
    }

    /// An operation's JSON as it is now; `None` when there is none of that name.
    pub fn operation(&self, name: &str) -> Option<Value> {
        let (device, id) = split(name)?;
        lock(&self.0.store).get(&device, id, Instant::now()).ok()
    }

    /// The names of the operations that are pending now, oldest first.
    pub fn pending(&self) -> Vec<String> {
        lock(&self.0.store).pending(Instant::now())
    }

    /// Lets the device run a pending command now; `false` when there is no operation of that name.
    pub fn execute(&self, name: &str) -> bool {
        split(name).is_some_and(|(device, id)| lock(&self.0.store).execute(&device, id, Instant::now()))
    }

    /// Drops an operation, as Google does some time after it is done; `false` when there is none of
    /// that name.
    pub fn forget(&self, name: &str) -> bool {
        split(name).is_some_and(|(device, id)| lock(&self.0.store).forget(&device, id))
    }

    /// How many requests have arrived so far.
    pub fn queries(&self) -> Queries {
        self.0.queries()
    }

    /// Changes [`Settings::pick_up`](crate::emulator::Settings::pick_up) for the commands that are issued from now on.
    pub fn set_pick_up(&self, pick_up: Option<Duration>) {
        lock(&self.0.settings).pick_up = pick_up;
    }

    /// Changes [`Settings::cancel_delay`](crate::emulator::Settings::cancel_delay) for the cancels that arrive from now on.
    pub fn set_cancel_delay(&self, delay: Duration) {
        lock(&self.0.settings).cancel_delay = delay;
    }

    /// Changes [`Settings::latency`](crate::emulator::Settings::latency) for the calls that arrive from now on.
    pub fn set_latency(&self, latency: Duration) {
        lock(&self.0.settings).latency = latency;
    }

    /// Changes [`Settings::quota`](crate::emulator::Settings::quota); the calls admitted so far go on counting.
    pub fn set_quota(&self, quota: Option<Quota>) {
        lock(&self.0.settings).quota = quota;
    }

    /// Changes [`Settings::token_lifetime`](crate::emulator::Settings::token_lifetime) for the tokens that are issued from now on.
    pub fn set_token_lifetime(&self, lifetime: Duration) {
        lock(&self.0.settings).token_lifetime = lifetime;
    }

    /// Changes [`Settings::faults`](crate::emulator::Settings::faults).
    ///
    /// # Errors
    /// When the rates are no shares.
    pub fn set_faults(&self, faults: FaultRates) -> Result<(), InvalidSetting> {
        faults.validate()?;
        lock(&self.0.settings).faults = faults;
        Ok(())
    }

    /// Lets the next `count` API calls meet `fault`, after those that earlier calls of this have
    /// asked for.
    pub fn fail_next(&self, count: usize, fault: Fault) {
        lock(&self.0.script).extend(std::iter::repeat_n(fault, count));
    }

    /// Ends the validity of every access token that is out: the next call with one gets a 401.
    pub fn revoke_tokens(&self) {
        lock(&self.0.tokens).revoke_all(Instant::now());
    }

    /// Says how the token endpoint answers from now on.
    pub fn set_token_endpoint(&self, mode: TokenEndpoint) {
        *lock(&self.0.token_endpoint) = mode;
    }
}

fn split(name: &str) -> Option<(Device, &str)> {
    let (device, id) = name.split_once("/operations/")?;
    Some((Device::parse(device)?, id))
}
