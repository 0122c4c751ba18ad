//! What an emulator can be told: how its devices, its network and its quota behave.

use std::time::Duration;

use super::condition::Endpoints;

/// How an emulator behaves. The defaults are those of the Android Management API where it has any,
/// and else those of an unhurried device on a network without faults.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How long after `issueCommand` the device runs a command; `None` for a device that is offline
    /// for good.
    pub pick_up: Option<Duration>,
    /// How long a command without a `duration` of its own stays valid. The API's default is ten
    /// minutes (discovery document, `Command.duration`).
    pub command_duration: Duration,
    /// How long after a `cancel` it takes effect: the API cancels asynchronously and by best effort,
    /// so a device may still run the command meanwhile.
    pub cancel_delay: Duration,
    /// How long each API call takes at least; the endpoints that give tokens are not slowed.
    pub latency: Duration,
    /// Which shares of the API calls fail without being carried out.
    pub faults: FaultRates,
    /// How many API calls may be made in a window of time; `None` for no limit.
    pub quota: Option<Quota>,
    /// How many operations a page has when `pageSize` is absent or zero.
    pub page_size: usize,
    /// The most operations that a page has, whatever `pageSize` asks for.
    pub max_page_size: usize,
    /// How long an access token is valid, in whole seconds (`expires_in`); one of `generateAccessToken` for
    /// this time at most.
    pub token_lifetime: Duration,
    /// How many requests one HTTP/2 connection may have open at a time
    /// (`SETTINGS_MAX_CONCURRENT_STREAMS`; Google's front ends allow 100).
    pub max_concurrent_streams: u32,
    /// The names of the devices that exist. `None`: each well-formed name exists from its first
    /// command on.
    pub devices: Option<Vec<String>>,
    /// In what condition the endpoints are that give tokens.
    pub endpoints: Endpoints,
}

/// The shares of API calls, each from 0.0 to 1.0 and together at most 1.0, that fail by chance. A call
/// that fails so has had no effect.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FaultRates {
    /// Answered with HTTP 503, `UNAVAILABLE`.
    pub unavailable: f64,
    /// Answered with HTTP 429, `RESOURCE_EXHAUSTED`, though the quota is not spent.
    pub exhausted: f64,
    /// Not answered: the whole TCP connection is reset.
    pub reset: f64,
}

/// A limit on API calls: at most `queries` in any `window`. Calls that the limit refuses do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The most calls in a window.
    pub queries: usize,
    /// The length of the window.
    pub window: Duration,
}

/// What a call can meet in place of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// HTTP 503, `UNAVAILABLE`.
    Unavailable,
    /// HTTP 429, `RESOURCE_EXHAUSTED`.
    Exhausted,
    /// The TCP connection is reset, with every call that it carries.
    Reset,
}

/// A setting that makes no sense, and what would.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {expected}")]
pub struct InvalidSetting {
    /// The field's name.
    pub setting: &'static str,
    /// What a good value is.
    pub expected: &'static str,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            pick_up: Some(Duration::from_secs(30)),
            command_duration: Duration::from_secs(600),
            cancel_delay: Duration::ZERO,
            latency: Duration::ZERO,
            faults: FaultRates::default(),
            quota: Some(Quota::default()),
            page_size: 100,
            max_page_size: 1000,
            token_lifetime: Duration::from_secs(3600),
            max_concurrent_streams: 100,
            devices: None,
            endpoints: Endpoints::default(),
        }
    }
}

impl Default for Quota {
    /// What a project gets from the Android Management API unless it asks for more.
    fn default() -> Self {
        Self { queries: 1000, window: Duration::from_secs(100) }
    }
}

impl FaultRates {
    /// Says whether each rate, and their sum, is a share.
    ///
    /// # Errors
    /// When one is not a number from 0.0 to 1.0, or all together are more than 1.0.
    pub fn validate(self) -> Result<(), InvalidSetting> {
        let Self { unavailable, exhausted, reset } = self;
        let shares = [unavailable, exhausted, reset];
        let sound = shares.iter().all(|share| (0.0..=1.0).contains(share))
            // A whole of decimals, 0.1 and so on, may be a hair more in binary.
            && shares.iter().sum::<f64>() <= 1.0 + 1e-9;
        let expected = "the rates of faults are shares from 0.0 to 1.0, together at most 1.0";
        if sound { Ok(()) } else { Err(InvalidSetting { setting: "faults", expected }) }
    }

    /// The fault of a call for which chance drew `draw`, evenly spread from 0.0 up to 1.0.
    pub(super) fn at(self, draw: f64) -> Option<Fault> {
        let Self { unavailable, exhausted, reset } = self;
        if draw < reset {
            Some(Fault::Reset)
        } else if draw < reset + unavailable {
            Some(Fault::Unavailable)
        } else if draw < reset + unavailable + exhausted {
            Some(Fault::Exhausted)
        } else {
            None
        }
    }
}

impl Settings {
    /// Every setting that makes no sense; none when all do.
    pub fn invalid(&self) -> Vec<InvalidSetting> {
        let checks = [
            (self.command_duration.is_zero(), "command_duration", "longer than zero"),
            (self.page_size == 0, "page_size", "at least 1"),
            (self.max_page_size < self.page_size, "max_page_size", "at least page_size"),
            (self.token_lifetime.as_secs() == 0, "token_lifetime", "at least one second"),
            (self.max_concurrent_streams == 0, "max_concurrent_streams", "at least 1"),
            (self.quota.is_some_and(|q| q.window.is_zero()), "quota", "a window longer than zero"),
        ];
        let named = checks.into_iter().filter(|(wrong, ..)| *wrong);
        let mut found: Vec<_> =
            named.map(|(_, setting, expected)| InvalidSetting { setting, expected }).collect();
        found.extend(self.faults.validate().err());
        found.extend(self.devices.iter().flatten().find_map(|device| {
            let expected = "each device is named enterprises/ENTERPRISE/devices/DEVICE";
            super::route::Device::parse(device)
                .is_none()
                .then_some(InvalidSetting { setting: "devices", expected })
        }));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_make_sense() {
        assert_eq!(Settings::default().invalid(), []);
    }

    #[test]
    fn every_wrong_setting_is_named() {
        let wrong = Settings {
            page_size: 0,
            token_lifetime: Duration::from_millis(999),
            faults: FaultRates { unavailable: 0.6, exhausted: 0.6, reset: 0.0 },
            devices: Some(vec!["d1".to_owned()]),
            ..Settings::default()
        };
        let names: Vec<_> = wrong.invalid().iter().map(|fault| fault.setting).collect();
        assert_eq!(names, ["page_size", "token_lifetime", "faults", "devices"]);
    }

    #[test]
    fn a_rate_is_the_share_of_the_draws_that_fail() {
        let rates = FaultRates { unavailable: 0.2, exhausted: 0.3, reset: 0.1 };
        let met = |fault| (0..100).filter(|i| rates.at((f64::from(*i) + 0.5) / 100.0) == fault).count();
        assert_eq!(met(Some(Fault::Reset)), 10);
        assert_eq!(met(Some(Fault::Unavailable)), 20);
        assert_eq!(met(Some(Fault::Exhausted)), 30);
        assert_eq!(met(None), 40);
    }

    #[test]
    fn a_rate_that_is_no_number_is_refused() {
        let rates = FaultRates { reset: f64::NAN, ..FaultRates::default() };
        assert!(rates.validate().is_err());
    }
}
