//! The values of the profiles.

use escher_protocol::SettingValue;

use super::{Configuration, Host, read};
use crate::config::{EngineSettings, Origin, Profile};

/// The settings in the order of the table in docs/configuration.md.
type Values = (u64, u64, bool, u64, u64, u64, bool, u64);

const MIB: u64 = 1024 * 1024;

const PROFILES: [(Profile, Values); 6] = [
    (
        Profile::Production,
        (300_000, 1_800_000, true, 100, 2000, 7200, true, 50 * MIB),
    ),
    (
        Profile::Development,
        (60_000, 300_000, true, 10, 100, 1800, true, 10 * MIB),
    ),
    (
        Profile::Testing,
        (10_000, 30_000, false, 1, 10, 300, false, MIB),
    ),
    (
        Profile::HighVolume,
        (300_000, 1_800_000, true, 200, 5000, 300, true, 5 * MIB),
    ),
    (
        Profile::MemoryConstrained,
        (120_000, 600_000, false, 5, 50, 600, true, MIB),
    ),
    (Profile::Host, (0, 0, true, 100, 1000, 3600, true, 10 * MIB)),
];

fn values_of(engine: &EngineSettings) -> Values {
    let executions = &engine.reloadable;
    (
        executions.request.default_timeout_ms,
        executions.request.max_timeout_ms,
        executions.output.stream,
        executions.max_concurrent_executions as u64,
        executions.max_in_memory_executions as u64,
        executions.cleanup.retention.as_secs(),
        executions.cleanup.is_automatic,
        executions.output.max_bytes,
    )
}

#[test]
fn each_has_its_values_however_it_is_chosen() {
    for (profile, expected) in PROFILES {
        let name = profile.name();
        let chosen: [Configuration; 3] = [
            Host::new().load(&["--profile", name]).unwrap(),
            read("a.toml", &format!("profile = \"{name}\"")).unwrap(),
            read("a.json", &format!("{{\"profile\": \"{name}\"}}")).unwrap(),
        ];
        for configuration in chosen {
            assert_eq!(
                values_of(&configuration.settings.engine),
                expected,
                "{name}"
            );
            let origin = configuration.origin("execution.max_timeout_ms");
            assert_eq!(origin, &Origin::Profile(profile));
            let log_dir = configuration.setting("execution.log_dir");
            let is_temporary = log_dir.value.to_string().contains("escher-executions-");
            assert_eq!(is_temporary, profile == Profile::Development);
        }
        assert_eq!(values_of(&EngineSettings::from_profile(profile)), expected);
    }
    assert_eq!(PROFILES.map(|(profile, _)| profile), Profile::ALL);
}

#[test]
fn a_profile_changes_nothing_else() {
    let plain = Host::new().load(&[]).unwrap();
    for (profile, _) in PROFILES {
        let chosen = Host::new().load(&["--profile", profile.name()]).unwrap();
        for (plain, setting) in plain.effective.iter().zip(&chosen.effective) {
            let is_from_profile = setting.origin == Origin::Profile(profile);
            assert!(
                is_from_profile || setting == plain,
                "{profile}: {setting:?}"
            );
        }
    }
}

#[test]
fn the_last_file_names_the_profile_and_the_option_overrides_it() {
    let host = Host::new()
        .file(
            "etc/escher.toml",
            "profile = \"testing\"\n[execution]\nkill_grace_ms = 5\n",
        )
        .file("etc/escher.toml.d/1.toml", "profile = \"high-volume\"\n")
        .file(
            "etc/escher.toml.d/2.toml",
            "[execution]\nmax_in_memory_executions = 7\n",
        );
    let chosen = |arguments: &[&str]| {
        let configuration = host.load(arguments).unwrap();
        let number = |name| configuration.value(name).clone();
        // Files override the profile, wherever it is named.
        assert_eq!(number("execution.kill_grace_ms"), SettingValue::Number(5));
        assert_eq!(
            number("execution.max_in_memory_executions"),
            SettingValue::Number(7)
        );
        number("execution.max_concurrent_executions")
    };
    assert_eq!(chosen(&[]), SettingValue::Number(200));
    assert_eq!(
        chosen(&["--profile", "production"]),
        SettingValue::Number(100)
    );
}

#[test]
fn an_escherd_of_one_user_has_the_profile_host_unless_told_otherwise() {
    let user = ["--user", "--runtime-dir", "/r", "--state-dir", "/s"];
    let load = |more: &[&str]| Host::new().load(&[&user, more].concat()).unwrap();
    let timeouts = |configuration: &Configuration| {
        let request = configuration.settings.engine.reloadable.request;
        (request.default_timeout_ms, request.max_timeout_ms)
    };
    let plain = load(&[]);
    assert_eq!(timeouts(&plain), (0, 0));
    let log_limits = plain.settings.engine.reloadable.log_limits;
    assert_eq!(log_limits.max_bytes, 10 * 1024 * MIB);
    assert_eq!(timeouts(&load(&["--profile", "testing"])), (10_000, 30_000));
    // Those of the guide.
    let system = Host::new().load(&[]).unwrap();
    assert_eq!(timeouts(&system), (120_000, 600_000));
}
