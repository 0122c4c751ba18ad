//! The settings of an emulator, which are the flags of `countermand emulate`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::denial::Denial;
use crate::endpoint::Conditions;
use crate::quota::Quota;
use crate::route::Device;

// clap shows the doc comments of the fields as help, without a full stop.
/// The behaviour of an emulator. The defaults are those of the Android Management API where it has any, otherwise those
/// of a slow device on a network without faults.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct Settings {
    /// After how long the device runs a command: a duration, or "never"
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration_or_never)]
    #[arg(env = "COUNTERMAND_EMULATOR_PICK_UP")]
    // The path keeps clap from reading `None` as an absent flag.
    pub pick_up: std::option::Option<Duration>,
    /// How long a command without a duration of its own is valid
    // Ten minutes, as in the discovery document's `Command.duration`.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = positive)]
    pub command_duration: Duration,
    /// After how long a cancel takes effect
    // The API cancels asynchronously and by best effort, so a device may still run the command meanwhile.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    pub cancel_delay: Duration,
    /// How long each API call takes at least
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    pub latency: Duration,
    /// The shares of API calls that fail.
    #[command(flatten)]
    pub faults: FaultRates,
    /// The reason with which each API call gets a 403, as for a project or an account in error: SERVICE_DISABLED,
    /// ACCESS_TOKEN_SCOPE_INSUFFICIENT, BILLING_DISABLED, CONSUMER_INVALID, CONSUMER_SUSPENDED, USER_PROJECT_DENIED,
    /// API_KEY_SERVICE_BLOCKED, ACCOUNT_STATE_INVALID or IAM_PERMISSION_DENIED
    // The help of the values would make the help of all flags longer.
    #[arg(long, value_name = "REASON", value_enum, hide_possible_values = true)]
    pub denial: Option<Denial>,
    /// The quota of API calls.
    #[command(flatten)]
    pub quota: Quota,
    /// How many operations a page has by default
    #[arg(long, value_name = "N", default_value = "100", value_parser = at_least_one)]
    pub page_size: usize,
    /// How many operations a page has at most
    #[arg(long, value_name = "N", default_value = "1000", value_parser = at_least_one)]
    pub max_page_size: usize,
    /// How long an access token is valid, in whole seconds
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = seconds)]
    pub token_lifetime: Duration,
    /// How many requests one HTTP/2 connection may have open
    // Google's front ends allow 100.
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_concurrent_streams: u32,
    /// How the endpoints that issue tokens respond.
    #[command(flatten)]
    pub endpoints: Conditions,
    /// A device that exists (repeatable); without any, each exists from its first command on
    #[arg(long = "device", value_name = "NAME", value_parser = device)]
    pub devices: Vec<String>,
    /// Append a line of JSON for each API call to this file: `time`, `method`, `name` and `status`
    #[arg(long, value_name = "FILE")]
    pub call_log: Option<PathBuf>,
}

/// The shares of API calls that fail at random, each from 0.0 to 1.0 and together at most 1.0. A failed call has no
/// effect.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq)]
pub struct FaultRates {
    /// The share of API calls that get a 503, from 0.0 to 1.0
    #[arg(long = "unavailable-rate", value_name = "SHARE", default_value = "0", value_parser = share)]
    pub unavailable: f64,
    /// The share of API calls that get a 429 although the quota is not exhausted
    #[arg(long = "exhausted-rate", value_name = "SHARE", default_value = "0", value_parser = share)]
    pub exhausted: f64,
    /// The share of API calls that have their connection reset
    #[arg(long = "reset-rate", value_name = "SHARE", default_value = "0", value_parser = share)]
    pub reset: f64,
}

/// A fault of one API call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// HTTP 503, `UNAVAILABLE`.
    Unavailable,
    /// HTTP 429, `RESOURCE_EXHAUSTED`.
    Exhausted,
    /// The TCP connection is reset, with every call on it.
    Reset,
}

/// The behavior of every API call about one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceFault {
    /// The call fails.
    Failing(Fault),
    /// The call takes this much longer.
    Slow(Duration),
}

/// The [`FaultRates`] are invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "--unavailable-rate, --exhausted-rate and --reset-rate must be from 0.0 to 1.0, and together at most 1.0"
)]
pub struct InvalidRates;

impl Default for Settings {
    fn default() -> Self {
        Self {
            pick_up: Some(Duration::from_secs(30)),
            command_duration: Duration::from_secs(600),
            cancel_delay: Duration::ZERO,
            latency: Duration::ZERO,
            faults: FaultRates::default(),
            denial: None,
            quota: Quota::default(),
            page_size: 100,
            max_page_size: 1000,
            token_lifetime: Duration::from_secs(3600),
            max_concurrent_streams: 100,
            endpoints: Conditions::default(),
            devices: Vec::new(),
            call_log: None,
        }
    }
}

impl FaultRates {
    /// Checks each rate and their sum.
    ///
    /// # Errors
    /// A rate is not a number from 0.0 to 1.0, or their sum is more than 1.0.
    pub fn validate(self) -> Result<(), InvalidRates> {
        let Self { unavailable, exhausted, reset } = self;
        let rates = [unavailable, exhausted, reset];
        // The sum of decimals such as 0.1 may be slightly more in binary.
        let valid =
            rates.iter().all(|rate| (0.0..=1.0).contains(rate)) && rates.iter().sum::<f64>() <= 1.0 + 1e-9;
        if valid { Ok(()) } else { Err(InvalidRates) }
    }

    /// The fault of a call with the random number `draw`, uniform from 0.0 up to 1.0.
    pub(crate) fn at(self, draw: f64) -> Option<Fault> {
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

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

fn duration_or_never(text: &str) -> Result<Option<Duration>, String> {
    if text == "never" { Ok(None) } else { duration(text).map(Some) }
}

pub(crate) fn positive(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration.is_zero() { Err("expected more than 0s".to_owned()) } else { Ok(duration) }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration.as_secs() == 0 { Err("expected at least 1s".to_owned()) } else { Ok(duration) }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "expected a number from 1 up".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a number from 0.0 to 1.0".to_owned())
}

fn device(name: &str) -> Result<String, String> {
    let expected = || "expected enterprises/ENTERPRISE/devices/DEVICE".to_owned();
    Device::parse(name).map(|device| device.to_string()).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::endpoint::Condition;

    #[derive(Debug, Parser)]
    struct CommandLine {
        #[command(flatten)]
        settings: Settings,
    }

    fn parse(line: &str) -> Result<Settings, clap::Error> {
        CommandLine::try_parse_from(format!("emulate {line}").split_whitespace()).map(|line| line.settings)
    }

    #[test]
    fn without_flags_the_settings_are_the_defaults() {
        assert_eq!(parse("").unwrap(), Settings::default());
    }

    #[test]
    fn each_setting_has_its_flag() {
        let line = "--pick-up never --command-duration 1m --cancel-delay 2s --latency 3ms \
                    --unavailable-rate 0.1 --exhausted-rate 0.2 --reset-rate 0.3 --denial SERVICE_DISABLED --quota 7 \
                    --quota-window 8s --page-size 9 --max-page-size 10 --token-lifetime 65s \
                    --max-concurrent-streams 11 --device enterprises/e/devices/d --call-log calls.jsonl \
                    --token-fault refusing --sts-fault hanging --subject-token-fault slow:12s \
                    --metadata-fault html --iam-fault truncated";
        let wanted = Settings {
            pick_up: None,
            command_duration: Duration::from_secs(60),
            cancel_delay: Duration::from_secs(2),
            latency: Duration::from_millis(3),
            faults: FaultRates { unavailable: 0.1, exhausted: 0.2, reset: 0.3 },
            denial: Some(Denial::ServiceDisabled),
            quota: Quota { queries: Some(7), window: Duration::from_secs(8) },
            page_size: 9,
            max_page_size: 10,
            token_lifetime: Duration::from_secs(65),
            max_concurrent_streams: 11,
            devices: vec!["enterprises/e/devices/d".to_owned()],
            call_log: Some(PathBuf::from("calls.jsonl")),
            endpoints: Conditions {
                token: Condition::Refusing,
                sts: Condition::Hanging,
                subject_token: Condition::Slow(Duration::from_secs(12)),
                metadata: Condition::Html,
                iam: Condition::Truncated,
            },
        };
        assert_eq!(parse(line).unwrap(), wanted);
        assert_eq!(parse("--quota off").unwrap().quota.queries, None);
    }

    #[test]
    fn an_invalid_value_is_an_error_that_names_its_flag() {
        for line in [
            "--pick-up soon",
            "--command-duration 0s",
            "--latency 3",
            "--quota -1",
            "--quota 1.5",
            "--quota-window 0s",
            "--page-size 0",
            "--max-page-size none",
            "--token-lifetime 999ms",
            "--max-concurrent-streams 0",
            "--reset-rate 1.1",
            "--reset-rate NaN",
            "--denial forbidden",
            "--device d1",
            "--iam-fault slow",
        ] {
            let error = parse(&line.replacen(' ', "=", 1)).unwrap_err();
            let flag = line.split(' ').next().unwrap();
            assert_eq!(error.exit_code(), 2, "{line}: {error}");
            assert!(error.to_string().contains(&format!("for '{flag} ")), "{line}: {error}");
        }
    }

    #[test]
    fn a_rate_is_the_share_of_calls_that_fail() {
        let rates = FaultRates { unavailable: 0.2, exhausted: 0.3, reset: 0.1 };
        let count = |fault| (0..100).filter(|i| rates.at((f64::from(*i) + 0.5) / 100.0) == fault).count();
        assert_eq!(count(Some(Fault::Reset)), 10);
        assert_eq!(count(Some(Fault::Unavailable)), 20);
        assert_eq!(count(Some(Fault::Exhausted)), 30);
        assert_eq!(count(None), 40);
    }

    #[test]
    fn invalid_rates_are_rejected() {
        for reset in [f64::NAN, -0.1, 1.1, 0.5] {
            let rates = FaultRates { unavailable: 0.6, reset, ..FaultRates::default() };
            assert_eq!(rates.validate(), Err(InvalidRates), "{reset}");
        }
        assert_eq!(FaultRates { unavailable: 0.6, reset: 0.4, exhausted: 0.0 }.validate(), Ok(()));
    }
}
