//! Which source overrides which, and what the origin says.

use std::path::Path;

use escher_protocol::SettingValue;

use super::{Host, read, text, values};
use crate::config::Origin;
use crate::output::OversizedOutput;

#[test]
fn without_any_source_there_are_the_defaults() {
    let configuration = Host::new().load(&[]).unwrap();
    for setting in &configuration.effective {
        assert_eq!(setting.origin, Origin::Default, "{}", setting.name);
    }
    let settings = configuration.settings;
    assert_eq!(settings.socket.path, Path::new("/run/escher/escherd.sock"));
    assert_eq!(settings.socket.mode, 0o660);
    assert_eq!(settings.engine.state_dir, Path::new("/var/lib/escher"));
    assert_eq!(settings.engine.log_dir, Path::new("/var/log/escher"));
    let executions = settings.engine.reloadable;
    assert_eq!(executions.request.default_timeout_ms, 120_000);
    assert_eq!(executions.output.max_bytes, 10 * 1024 * 1024);
    assert_eq!(executions.output.oversized, OversizedOutput::Truncate);
}

#[test]
fn each_source_overrides_the_one_before_it() {
    let host = || Host::new();
    let dir = |host: &Host| {
        let configuration = host.load(&[]).unwrap();
        let setting = configuration.setting("execution.log_dir");
        let home = host.root.path().to_str().unwrap();
        let shown = format!("{} ({})", setting.value, setting.origin);
        shown.replace(home, "~")
    };
    assert_eq!(dir(&host()), "/var/log/escher (default)");
    let profile = host().file("etc/escher.toml", "profile = \"development\"\n");
    assert!(dir(&profile).ends_with(" (profile development)"));
    let home = profile.root.path().display().to_string();
    let line = |name: &str| format!("\n[execution]\nlog_dir = \"{home}/{name}\"\n");
    let main = profile.file(
        "etc/escher.toml",
        format!("profile = \"development\"{}", line("main")),
    );
    assert_eq!(dir(&main), "~/main (~/etc/escher.toml:3)");
    let drop_in = main.file("usr/escher.toml.d/10-a.toml", line("drop-in"));
    assert_eq!(dir(&drop_in), "~/drop-in (~/usr/escher.toml.d/10-a.toml:3)");
    let second = drop_in.file("run/escher.toml.d/20-b.toml", line("second"));
    assert_eq!(dir(&second), "~/second (~/run/escher.toml.d/20-b.toml:3)");
    let variable = second.variable("EXEC_LOG_DIR", format!("{home}/variable"));
    assert_eq!(dir(&variable), "~/variable (EXEC_LOG_DIR)");
    let with_option = variable.load(&["--log-dir", "/tmp"]).unwrap();
    assert_eq!(with_option.value("execution.log_dir"), &text("/tmp"));
    assert_eq!(
        with_option.origin("execution.log_dir"),
        &Origin::CommandLineOption("--log-dir")
    );
    assert_eq!(with_option.settings.engine.log_dir, Path::new("/tmp"));
}

#[test]
fn files_override_each_other_key_by_key() {
    let host = Host::new()
        .file(
            "usr/escher.toml",
            "[execution]\nkill_grace_ms = 1\nmax_log_bytes = 1\n",
        )
        .file(
            "etc/escher.toml.d/5.toml",
            "[execution]\nkill_grace_ms = 2\n",
        )
        .file(
            "usr/escher.toml.d/5.toml",
            "[execution]\nmax_log_bytes = 9\n",
        )
        .file("usr/escher.toml.d/6.toml", "[history]\nmax_count = 3\n");
    let configuration = host.load(&[]).unwrap();
    let number = |name| configuration.value(name).clone();
    assert_eq!(number("execution.kill_grace_ms"), SettingValue::Number(2));
    assert_eq!(
        number("execution.max_log_bytes"),
        SettingValue::Number(1),
        "the drop-in is masked"
    );
    assert_eq!(number("history.max_count"), SettingValue::Number(3));

    // An empty file in an earlier directory masks the main file.
    let host = host.file("etc/escher.toml", "");
    let configuration = host.load(&[]).unwrap();
    assert_eq!(
        configuration.value("execution.max_log_bytes"),
        &SettingValue::Number(0)
    );
}

#[test]
fn an_option_names_the_only_file() {
    let host = Host::new()
        .file("etc/escher.toml", "broken")
        .file("etc/escher.toml.d/1.toml", "broken")
        .file("a.toml", "[history]\nmax_count = 3\n");
    let configuration = host.load(&["--config", "~/a.toml"]).unwrap();
    assert_eq!(
        configuration.value("history.max_count"),
        &SettingValue::Number(3)
    );
    let missing = host.load(&["--config", "~/b.toml"]).unwrap_err();
    assert!(
        missing[0].starts_with("~/b.toml: cannot be read: "),
        "{missing:?}"
    );
}

#[test]
fn a_user_has_separate_files_and_directories() {
    let host = Host::new()
        .file(
            "config/escher/escher.toml",
            "[execution]\nkill_grace_ms = 1\n",
        )
        .file(
            "config/escher/escher.toml.d/1.toml",
            "[history]\nmax_count = 3\n",
        )
        .file("etc/escher.toml", "broken");
    let config = host.path("config");
    let host = host
        .variable("XDG_CONFIG_HOME", config)
        .variable("XDG_RUNTIME_DIR", "/run/user/7")
        .variable("XDG_STATE_HOME", "not/absolute")
        .variable("HOME", "/home/u");
    let configuration = host.load(&["--user"]).unwrap();
    for (name, value) in [
        ("execution.kill_grace_ms", SettingValue::Number(1)),
        ("history.max_count", SettingValue::Number(3)),
        ("daemon.socket", text("/run/user/7/escher/escherd.sock")),
        ("daemon.socket_group", SettingValue::Unset),
        ("daemon.state_dir", text("/home/u/.local/state/escher")),
        (
            "execution.log_dir",
            text("/home/u/.local/state/escher/logs"),
        ),
    ] {
        assert_eq!(configuration.value(name), &value, "{name}");
    }
}

#[test]
fn every_variable_is_read() {
    let host = Host::new()
        .variable("EXEC_DEFAULT_TIMEOUT_MS", "11")
        .variable("EXEC_MAX_TIMEOUT_MS", "12")
        .variable("EXEC_STREAM_OUTPUT", "0")
        .variable("EXEC_LOG_DIR", "/tmp")
        .variable("EXEC_MAX_CONCURRENT", "13")
        .variable("EXEC_MAX_IN_MEMORY", "14")
        .variable("EXEC_RETENTION_SECS", "15")
        .variable("EXEC_AUTO_CLEANUP", "false")
        .variable("EXEC_MAX_OUTPUT_BYTES", "16")
        .variable("EXEC_TRUNCATE_LARGE_OUTPUT", "1")
        .variable("EXEC_OVERSIZED_OUTPUT_STRATEGY", "stream_to_file");
    let configuration = host.load(&[]).unwrap();
    let changed: Vec<String> = configuration
        .effective
        .iter()
        .filter(|setting| setting.origin != Origin::Default)
        .map(|setting| format!("{} = {} ({})", setting.name, setting.value, setting.origin))
        .collect();
    assert_eq!(
        changed,
        [
            "execution.default_timeout_ms = 11 (EXEC_DEFAULT_TIMEOUT_MS)",
            "execution.max_timeout_ms = 12 (EXEC_MAX_TIMEOUT_MS)",
            "execution.stream_output = false (EXEC_STREAM_OUTPUT)",
            "execution.log_dir = /tmp (EXEC_LOG_DIR)",
            "execution.max_concurrent_executions = 13 (EXEC_MAX_CONCURRENT)",
            "execution.max_in_memory_executions = 14 (EXEC_MAX_IN_MEMORY)",
            "execution.execution_retention_secs = 15 (EXEC_RETENTION_SECS)",
            "execution.enable_auto_cleanup = false (EXEC_AUTO_CLEANUP)",
            "execution.max_output_size_bytes = 16 (EXEC_MAX_OUTPUT_BYTES)",
            "execution.oversized_output_strategy = stream_to_file (EXEC_OVERSIZED_OUTPUT_STRATEGY)",
            "execution.truncate_large_output = true (EXEC_TRUNCATE_LARGE_OUTPUT)",
        ]
    );
}

#[test]
fn json_has_execution_keys_at_the_top_level() {
    let flat = "{\"max_timeout_ms\": 0, \"log_dir\": null, \"stream_output\": false, \"store\": {\"durability\": \"power\"}}";
    let nested = "{\"execution\": {\"max_timeout_ms\": 0, \"log_dir\": null, \"stream_output\": false}, \"store\": {\"durability\": \"power\"}}";
    let toml =
        "[execution]\nmax_timeout_ms = 0\nstream_output = false\n[store]\ndurability = \"power\"";
    let [flat, nested] = [flat, nested].map(|json| read("a.json", json).unwrap());
    let toml = read("a.toml", toml).unwrap();
    assert_eq!(values(&flat), values(&nested));
    assert_eq!(values(&flat), values(&toml));
    assert_eq!(flat.origin("execution.log_dir"), &Origin::Default);
    assert_eq!(
        format!("{:?}", flat.settings),
        format!("{:?}", toml.settings)
    );
}

#[test]
fn log_directory_has_an_alias() {
    let value = |text: &str| {
        let configuration = read("a.toml", text).unwrap();
        configuration.value("execution.log_dir").to_string()
    };
    assert_eq!(value("[daemon]\nlog_dir = \"/tmp\""), "/tmp");
    let both = "log_dir = \"/tmp\"\n[daemon]\nlog_dir = \"/dev\"";
    assert_eq!(value(&format!("[execution]\n{both}")), "/tmp");
    assert_eq!(
        value("[daemon]\nlog_dir = \"/dev\"\n[execution]\nlog_dir = \"/tmp\""),
        "/tmp"
    );
    let later = Host::new()
        .file("etc/escher.toml", "[execution]\nlog_dir = \"/dev\"")
        .file("etc/escher.toml.d/1.toml", "[daemon]\nlog_dir = \"/tmp\"");
    let later = later.load(&[]).unwrap();
    assert_eq!(later.value("execution.log_dir"), &text("/tmp"));
}

#[test]
fn truncate_large_output_affects_truncation_only() {
    for (strategy, truncating, oversized) in [
        ("truncate_with_warning", true, OversizedOutput::Truncate),
        ("truncate_with_warning", false, OversizedOutput::Fail),
        ("fail_execution", true, OversizedOutput::Fail),
        ("fail_execution", false, OversizedOutput::Fail),
        ("stream_to_file", true, OversizedOutput::ToFile),
        ("stream_to_file", false, OversizedOutput::ToFile),
    ] {
        let file = format!(
            "[execution]\ntruncate_large_output = {truncating}\noversized_output_strategy = \"{strategy}\""
        );
        let settings = read("a.toml", &file).unwrap().settings;
        assert_eq!(
            settings.engine.reloadable.output.oversized, oversized,
            "{file}"
        );
    }
}

#[test]
fn adopts_reloadable_settings_only() {
    let mut old = read("a.toml", "[execution]\nkill_grace_ms = 1").unwrap();
    let file = "[daemon]\nwarm_shims = 1\nmax_connections = 5\n[execution]\nkill_grace_ms = 2\n[store]\ndurability = \"crash\"\n[history]\nmax_count = 3";
    let new = read("b.toml", file).unwrap();
    let differences = old.differences(&new);
    assert_eq!(differences.need_restart, ["daemon.warm_shims"]);
    assert_eq!(
        differences.reloadable,
        [
            "daemon.max_connections",
            "execution.kill_grace_ms",
            "history.max_count"
        ]
    );
    old.replace_reloadable_settings(new.clone());
    assert_eq!(old.settings.engine.warm_shims, 4);
    assert_eq!(old.settings.connections.max_connections, 5);
    assert_eq!(old.settings.engine.reloadable.request.kill_grace_ms, 2);
    assert_eq!(
        old.value("execution.kill_grace_ms"),
        &SettingValue::Number(2)
    );
    assert_eq!(old.setting("daemon.warm_shims").origin, Origin::Default);
    assert_eq!(
        old.origin("store.durability"),
        new.origin("store.durability")
    );
    assert!(old.differences(&new).reloadable.is_empty());
    assert_eq!(old.differences(&new).need_restart, ["daemon.warm_shims"]);
}

#[test]
fn path_of_the_launcher_may_be_relative() {
    let configuration = Host::new().load(&["--launcher", "bin/launcher"]).unwrap();
    let here = std::env::current_dir().unwrap();
    assert_eq!(
        configuration.settings.engine.launcher,
        here.join("bin/launcher")
    );
}

#[test]
fn times_and_sizes_are_written_with_units_in_files_and_variables() {
    let file = "[execution]\nmax_timeout_ms = \"1h\"\nmax_log_bytes = \"10MiB\"\ndrain = \"3s\"\n\
                [history]\nmax_age_secs = \"30d\"";
    let host = Host::new().file("escher.toml", file);
    let path = host.path("escher.toml");
    let host = host.variable("EXEC_DEFAULT_TIMEOUT_MS", "2m");
    let loaded = host.load(&["--config", path.to_str().unwrap()]).unwrap();
    for (name, number) in [
        ("execution.default_timeout_ms", 120_000),
        ("execution.max_timeout_ms", 3_600_000),
        ("execution.max_log_bytes", 10 << 20),
        ("history.max_age_secs", 30 * 24 * 3_600),
    ] {
        assert_eq!(*loaded.value(name), SettingValue::Number(number), "{name}");
    }
    assert_eq!(*loaded.value("execution.drain"), text("3s"));
}
