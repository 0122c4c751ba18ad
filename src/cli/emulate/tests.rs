use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: EmulateArgs,
}

fn parse(words: &[&str]) -> Result<EmulateArgs, clap::Error> {
    let line = std::iter::once(&"emulate").chain(words);
    Line::try_parse_from(line).map(|line| line.args)
}

#[test]
fn without_flags_the_settings_are_the_defaults() {
    let args = parse(&[]).unwrap();
    assert_eq!(settings(&args), Settings::default());
    assert_eq!(args.listen, "127.0.0.1:8086");
    assert!(!args.allow_beyond_loopback);
}

#[test]
fn each_setting_has_its_flag() {
    let line = "--pick-up never --command-duration 1m --cancel-delay 2s --latency 3ms \
                --unavailable-rate 0.1 --exhausted-rate 0.2 --reset-rate 0.3 --quota 7 \
                --quota-window 8s --page-size 9 --max-page-size 10 --token-lifetime 65s \
                --max-concurrent-streams 11 --device enterprises/e/devices/d \
                --token-fault refusing --sts-fault hanging --subject-token-fault slow:12s \
                --metadata-fault html --iam-fault truncated";
    let words: Vec<_> = line.split_whitespace().collect();
    let wanted = Settings {
        pick_up: None,
        command_duration: Duration::from_secs(60),
        cancel_delay: Duration::from_secs(2),
        latency: Duration::from_millis(3),
        faults: FaultRates { unavailable: 0.1, exhausted: 0.2, reset: 0.3 },
        quota: Some(Quota { queries: 7, window: Duration::from_secs(8) }),
        page_size: 9,
        max_page_size: 10,
        token_lifetime: Duration::from_secs(65),
        max_concurrent_streams: 11,
        devices: Some(vec!["enterprises/e/devices/d".to_owned()]),
        endpoints: Endpoints {
            token: Condition::Refusing,
            sts: Condition::Hanging,
            subject_token: Condition::Slow(Duration::from_secs(12)),
            metadata: Condition::Html,
            iam: Condition::Truncated,
        },
    };
    assert_eq!(settings(&parse(&words).unwrap()), wanted);
    assert_eq!(settings(&parse(&["--quota", "off"]).unwrap()).quota, None);
}

#[test]
fn a_value_of_the_wrong_form_is_refused() {
    for (flag, value) in [
        ("--pick-up", "soon"),
        ("--quota", "-1"),
        ("--latency", "3"),
        ("--credentials-kind", "service_account"),
        ("--iam-fault", "slow"),
    ] {
        assert!(parse(&[flag, value]).is_err(), "{flag} {value}");
    }
}

#[tokio::test]
async fn faults_of_the_command_line_end_with_78() {
    for words in [
        ["--listen", "0.0.0.0:0"],
        ["--listen", "[::]:0"],
        ["--listen", "nowhere"],
        ["--reset-rate", "1.1"],
        ["--token-lifetime", "0s"],
    ] {
        let args = parse(&words).unwrap();
        let code = run(args).await;
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(78)), "{words:?}");
    }
}

#[tokio::test]
async fn loopback_is_known_in_the_form_of_either_family() {
    for address in ["127.0.0.1:0", "[::ffff:127.0.0.1]:0"] {
        // It gets as far as the file, which cannot be written.
        let args = parse(&["--listen", address, "--write-credentials", "/nowhere/key.json"]).unwrap();
        let code = run(args).await;
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(1)), "{address}");
    }
}
