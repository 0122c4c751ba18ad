//! The handle by which a test, or `dev`, works on a running emulator.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::command::Command;
use super::condition::{Condition, Endpoint, TokenEndpoint};
use super::refusal::Refusal;
use super::route::Device;
use super::settings::{Fault, FaultRates, InvalidSetting, Quota};
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

    /// Changes [`Settings::cancel_delay`](crate::emulator::Settings::cancel_delay) for the cancels that
    /// arrive from now on.
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

    /// Changes [`Settings::token_lifetime`](crate::emulator::Settings::token_lifetime) for the tokens that
    /// are issued from now on.
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
        lock(&self.0.tokens).revoke(None, Instant::now());
    }

    /// Ends the validity of every access token of one principal; `false` when there is no such principal.
    pub fn revoke_tokens_of(&self, principal: &str) -> bool {
        lock(&self.0.tokens).revoke(Some(principal), Instant::now());
        lock(&self.0.accounts).exists(principal)
    }

    /// Enables a principal or disables it: from then on it gets no token, and those that it has get a 401;
    /// `false` when there is no such principal.
    pub fn set_enabled(&self, principal: &str, enabled: bool) -> bool {
        lock(&self.0.accounts).set_enabled(principal, enabled)
    }

    /// Says whether a service account may be impersonated, as each may at first; `false` when there is none
    /// of that address.
    pub fn set_impersonable(&self, email: &str, impersonable: bool) -> bool {
        lock(&self.0.accounts).set_impersonable(email, impersonable)
    }

    /// Puts new subject tokens in place of the old ones, which hold no longer, as Kubernetes does with the
    /// files that it projects. Blocks while it writes.
    ///
    /// # Errors
    /// When the file cannot be written; then the old ones hold.
    pub fn rotate_subject_tokens(&self) -> io::Result<()> {
        lock(&self.0.subjects).rotate()
    }

    /// The principals of the latest API calls, a thousand at most, oldest first: those of every call that
    /// bore a token from here and met no fault of [`Settings::faults`](crate::emulator::Settings::faults)
    /// or [`fail_next`](Self::fail_next), whatever it was answered.
    pub fn callers(&self) -> Vec<String> {
        lock(&self.0.callers).latest()
    }

    /// Every secret that is out, each with what it is: the private key in PEM, all that the credential files
    /// hold, the subject tokens that hold now, and each access token of the last hour, be it valid or not. By
    /// these a test searches what must have none of them in it.
    pub fn secrets(&self) -> Vec<(&'static str, Zeroizing<String>)> {
        let consent = &self.0.consent;
        let mut secrets = vec![
            ("the private key", lock(&self.0.accounts).key.private().to_owned()),
            ("the client secret", consent.client_secret.clone()),
            ("the refresh token", consent.refresh_token.clone()),
        ];
        secrets.extend(lock(&self.0.subjects).secrets().map(|secret| ("a subject token", secret.to_owned())));
        secrets.extend(lock(&self.0.tokens).all().map(|token| ("an access token", token.to_owned())));
        secrets.into_iter().map(|(what, secret)| (what, Zeroizing::new(secret))).collect()
    }

    /// Says how an endpoint answers from now on.
    pub fn set_endpoint(&self, endpoint: Endpoint, condition: Condition) {
        lock(&self.0.settings).endpoints.set(endpoint, condition);
    }

    /// Says how the token endpoint answers from now on.
    pub fn set_token_endpoint(&self, condition: TokenEndpoint) {
        self.set_endpoint(Endpoint::Token, condition);
    }
}

fn split(name: &str) -> Option<(Device, &str)> {
    let (device, id) = name.split_once("/operations/")?;
    Some((Device::parse(device)?, id))
}
