//! What is wrong is told with its place, its key, its value, and what would be right.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::{Host, read};

fn faults(name: &str, text: &str) -> Vec<String> {
    read(name, text).expect_err(text)
}

#[test]
fn each_row_of_the_table_is_refused_with_line_key_value_and_what_would_be_right() {
    for (file, fault) in [
        // Numbers.
        (
            "[execution]\nmax_concurrent_executions = 0",
            "2: execution.max_concurrent_executions = 0: must be a whole number, at least 1",
        ),
        (
            "[execution]\nmax_output_size_bytes = 0",
            "2: execution.max_output_size_bytes = 0: must be a whole number, at least 1",
        ),
        (
            "[execution]\ncleanup_interval_secs = 0",
            "2: execution.cleanup_interval_secs = 0: must be a whole number from 1 to 31622400",
        ),
        (
            "[execution]\nkill_grace_ms = 86400001",
            "2: execution.kill_grace_ms = 86400001: must be a whole number from 0 to 86400000",
        ),
        (
            "[daemon]\nmax_connections = 0\n",
            "2: daemon.max_connections = 0: must be a whole number, at least 1",
        ),
        (
            "[execution]\n\nmax_timeout_ms = -5",
            "3: execution.max_timeout_ms = -5: must be a whole number, not a negative number",
        ),
        (
            "[history]\nmax_bytes = 18446744073709551616",
            "2: history.max_bytes = 18446744073709551616: must be a whole number, not a number beyond 64 bits",
        ),
        // Types.
        (
            "[execution]\nmax_timeout_ms = \"abc\"",
            "2: execution.max_timeout_ms = \"abc\": must be a whole number, not text",
        ),
        (
            "[execution]\nmax_timeout_ms = 1.5",
            "2: execution.max_timeout_ms = 1.5: must be a whole number, not a fraction",
        ),
        (
            "[execution]\nstream_output = 1",
            "2: execution.stream_output = 1: must be true or false, not a number",
        ),
        (
            "[execution]\nstream_output = \"true\"",
            "2: execution.stream_output = \"true\": must be true or false, not text",
        ),
        (
            "[execution]\nlog_dir = [\"/a\"]",
            "2: execution.log_dir = [\"/a\"]: must be an absolute path in quotes, not a list",
        ),
        (
            "[execution]\nmax_timeout_ms = { a = 1 }",
            "2: execution.max_timeout_ms = { a = 1 }: must be a whole number, not a table",
        ),
        (
            "execution = 5",
            "1: execution = 5: must be a table, not a number",
        ),
        (
            "[[execution]]\nkill_grace_ms = 5",
            "1: execution = [[execution]]: must be a table, not a list",
        ),
        // Words and paths.
        (
            "[execution]\noversized_output_strategy = \"TruncateWithWarning\"",
            "2: execution.oversized_output_strategy = \"TruncateWithWarning\": must be truncate_with_warning, fail_execution or stream_to_file",
        ),
        (
            "[store]\ndurability = \"none\"",
            "2: store.durability = \"none\": must be crash or power",
        ),
        (
            "[daemon]\nsocket_mode = \"999\"",
            "2: daemon.socket_mode = \"999\": must be permissions in octal, such as 0660",
        ),
        (
            "[daemon]\nsocket_mode = \"7777\"",
            "2: daemon.socket_mode = \"7777\": must be permissions in octal, such as 0660",
        ),
        (
            "[daemon]\nsocket_mode = 660",
            "2: daemon.socket_mode = 660: must be permissions in octal, such as 0660 in quotes, not a number",
        ),
        (
            "[daemon]\nsocket_group = \"\"",
            "2: daemon.socket_group = \"\": must be a name",
        ),
        (
            "[daemon]\nsocket = \"/s\"\nmetrics_socket = \"/s\"",
            "3: daemon.metrics_socket = \"/s\": must be another path than daemon.socket, which is where clients connect",
        ),
        (
            "[daemon]\nstate_dir = \"state\"",
            "2: daemon.state_dir = \"state\": must be an absolute path",
        ),
        (
            "[execution]\nlog_dir = \"/a\\u0000b\"",
            "2: execution.log_dir = \"/a\\u0000b\": must be an absolute path",
        ),
        (
            "profile = \"fast\"",
            "1: profile = \"fast\": must be one of production, development, testing, high-volume, memory-constrained",
        ),
        (
            "profile = 1",
            "1: profile = 1: must be one of production, development, testing, high-volume, memory-constrained",
        ),
        // Beside each other.
        (
            "[execution]\ndefault_timeout_ms = 700000",
            "2: execution.default_timeout_ms = 700000: must be from 1 to execution.max_timeout_ms, which is 600000 (default); only if that is 0 may this be 0 or anything",
        ),
        (
            "[execution]\nmax_timeout_ms = 5",
            "2: execution.max_timeout_ms = 5: must be at least execution.default_timeout_ms, which is 120000 (default), or 0 for any timeout",
        ),
        (
            "[execution]\nmax_timeout_ms = 5\ndefault_timeout_ms = 9",
            "3: execution.default_timeout_ms = 9: must be from 1 to execution.max_timeout_ms, which is 5 (~/escher.toml:2); only if that is 0 may this be 0 or anything",
        ),
        (
            "[execution]\ndefault_timeout_ms = 0",
            "2: execution.default_timeout_ms = 0: must be from 1 to execution.max_timeout_ms, which is 600000 (default); only if that is 0 may this be 0 or anything",
        ),
        (
            "profile = \"testing\"\n[execution]\nmax_timeout_ms = 9999",
            "3: execution.max_timeout_ms = 9999: must be at least execution.default_timeout_ms, which is 10000 (profile testing), or 0 for any timeout",
        ),
        (
            "[execution]\nmax_output_size_bytes = 100\nkeep_tail_bytes = 100",
            "3: execution.keep_tail_bytes = 100: must be less than execution.max_output_size_bytes, which is 100 (~/escher.toml:2)",
        ),
        // Names.
        (
            "[execution]\nmax_timeot_ms = 1",
            "2: execution.max_timeot_ms = 1: there is no such key; the nearest is max_timeout_ms in [execution]",
        ),
        (
            "[execution]\nsocket_mode = \"0600\"",
            "2: execution.socket_mode = \"0600\": belongs in [daemon]",
        ),
        (
            "max_timeout_ms = 1",
            "1: max_timeout_ms = 1: belongs in [execution]",
        ),
        (
            "[execution]\nprofile = \"testing\"",
            "2: execution.profile = \"testing\": belongs at the beginning of the file, before the first table",
        ),
        (
            "\n[daemons]\nsocket = 1",
            "2: [daemons]: there is no such table; the nearest is [daemon], and there are [daemon], [execution], [store], [history]",
        ),
        // Syntax.
        (
            "[execution]\nkill_grace_ms = 1\nkill_grace_ms = 2",
            "3: kill_grace_ms = 2: duplicate key; keep one of the two",
        ),
        (
            "[execution]\n[store]\n[execution]",
            "3: [execution]: duplicate key; keep one of the two",
        ),
    ] {
        assert_eq!(
            faults("escher.toml", file),
            [format!("~/escher.toml:{fault}")],
            "{file}"
        );
    }
}

#[test]
fn json_is_judged_alike() {
    for (file, fault) in [
        (
            "{\"execution\":\n {\"kill_grace\": 7}}",
            "2: execution.kill_grace = 7: there is no such key; the nearest is kill_grace_ms in [execution]",
        ),
        (
            "{\n\n\"max_timeout_ms\": \"abc\"}",
            "3: max_timeout_ms = \"abc\": must be a whole number, not text",
        ),
        (
            "{\"max_timeout_ms\": null}",
            "1: max_timeout_ms = null: must be a whole number, not null",
        ),
        (
            "{\"kill_grace_ms\": 1,\n\"kill_grace_ms\": 2}",
            "2: kill_grace_ms = 2: duplicate key, on line 1 already; keep one of the two",
        ),
        (
            "{\"kill_grace_ms\": 1,\n\"execution\": {\"kill_grace_ms\": 2}}",
            "1: kill_grace_ms = 1: duplicate key, on line 2 already; keep one of the two",
        ),
        (
            "{\"execution\": {},\n\"execution\": {}}",
            "2: [execution]: duplicate key, on line 1 already; keep one of the two",
        ),
        (
            "{\"socket\": \"/x\"}",
            "1: socket = \"/x\": belongs in [daemon]",
        ),
        (
            "{\"execution\": 7}",
            "1: execution = 7: must be a table, not a number",
        ),
        (
            "[]",
            "1: []: invalid type: sequence, expected a table in braces",
        ),
        ("{\"a\":\n", "2: EOF while parsing a value"),
    ] {
        assert_eq!(
            faults("a.json", file),
            [format!("~/a.json:{fault}")],
            "{file}"
        );
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once_in_the_order_of_lines() {
    let host = Host::new()
        .file(
            "etc/escher.toml",
            "[execution]\nmax_timeout_ms = = 5\nmax_concurrent_executions = 0\n[daemon]\nsocket_mode = \"x\"\nsocket = \"here\"\n[nonsense]\n",
        )
        .file("etc/escher.toml.d/1.toml", b"[store]\n\xff".as_slice())
        .file("etc/escher.toml.d/2.toml", "[history]\nmax_count = \"all\"\n")
        .variable("EXEC_MAX_TIMEOUT_MS", "abc");
    let faults = host
        .load(&["--log-dir", "logs", "--profile", "fast"])
        .unwrap_err();
    let places: Vec<&str> = faults
        .iter()
        .map(|fault| fault.split(": ").next().unwrap())
        .collect();
    assert_eq!(
        places,
        [
            "~/etc/escher.toml.d/1.toml:2",
            "--profile fast",
            "~/etc/escher.toml:2",
            "~/etc/escher.toml:3",
            "~/etc/escher.toml:5",
            "~/etc/escher.toml:6",
            "~/etc/escher.toml:7",
            "~/etc/escher.toml.d/2.toml:2",
            "EXEC_MAX_TIMEOUT_MS=abc",
            "--log-dir logs",
        ],
        "{faults:#?}"
    );
}

#[test]
fn what_follows_from_another_fault_is_not_told() {
    // 900 s would be too long for the default maximum, but that is not what is meant.
    for file in [
        "[execution]\ndefault_timeout_ms = 900000\nmax_timeout_ms = \"1h\"",
        "[execution]\ndefault_timeout_ms = 900000\nmax_timeout_ms = 1h",
        "profile = \"prod\"\n[execution]\ndefault_timeout_ms = 900000",
    ] {
        assert_eq!(faults("escher.toml", file).len(), 1, "{file}");
    }
}

#[test]
fn variables_and_options_are_judged_like_files() {
    for (name, value, fault) in [
        ("EXEC_MAX_TIMEOUT_MS", "abc", "must be a whole number"),
        ("EXEC_MAX_TIMEOUT_MS", "", "must be a whole number"),
        ("EXEC_MAX_TIMEOUT_MS", "-1", "must be a whole number"),
        (
            "EXEC_MAX_CONCURRENT",
            "0",
            "must be a whole number, at least 1",
        ),
        ("EXEC_STREAM_OUTPUT", "yes", "must be true or false"),
        ("EXEC_LOG_DIR", "logs", "must be an absolute path"),
        ("EXEC_LOG_DIR", "", "must be an absolute path"),
        (
            "EXEC_OVERSIZED_OUTPUT_STRATEGY",
            "fail",
            "must be truncate_with_warning, fail_execution or stream_to_file",
        ),
    ] {
        let faults = Host::new().variable(name, value).load(&[]).unwrap_err();
        assert_eq!(faults, [format!("{name}={value}: {fault}")]);
    }
    let odd = OsStr::from_bytes(b"1\xff").to_owned();
    let host = Host::new().variable("EXEC_MAX_TIMEOUT_MS", odd);
    assert_eq!(
        host.load(&[]).unwrap_err(),
        ["EXEC_MAX_TIMEOUT_MS=1\u{fffd}: must be a whole number"]
    );
    // A path need not be.
    let odd = OsStr::from_bytes(b"/tmp/\xff").to_owned();
    let host = Host::new().variable("EXEC_LOG_DIR", odd.clone());
    assert_eq!(host.load(&[]).unwrap().settings.engine.log_dir, odd);
    assert_eq!(
        Host::new().load(&["--socket", "here"]).unwrap_err(),
        ["--socket here: must be an absolute path"]
    );
    assert_eq!(
        Host::new().load(&["--profile", "fast"]).unwrap_err(),
        [
            "--profile fast: must be one of production, development, testing, high-volume, memory-constrained"
        ]
    );
}

#[test]
fn what_the_host_has_not_enough_memory_for_is_refused() {
    let memory = nix::sys::sysinfo::sysinfo().unwrap().ram_total();
    for (name, most) in [
        ("max_output_size_bytes", memory),
        ("max_pending_bytes", memory),
        ("max_in_memory_executions", memory / 1024),
        ("max_pending_executions", memory / 1024),
        ("max_concurrent_executions", memory / 1024),
    ] {
        let file = |value| format!("[execution]\n{name} = {value}");
        assert!(read("escher.toml", &file(most)).is_ok(), "{name}");
        let over = most + 1;
        assert_eq!(
            faults("escher.toml", &file(over)),
            [format!(
                "~/escher.toml:2: execution.{name} = {over}: must be at most {most}, or it would not fit into this host's memory"
            )]
        );
    }
    let faults = faults("escher.toml", "[daemon]\nwarm_shims = 18446744073709551615");
    assert!(faults[0].contains("memory"), "{faults:?}");
}

#[test]
fn logs_go_where_they_can_be_written() {
    let host = Host::new().file("file", "");
    let loaded = host.load(&["--log-dir", "~/not/there/yet"]);
    assert!(loaded.is_ok(), "{loaded:?}");
    assert_eq!(
        host.load(&["--log-dir", "~/file"]).unwrap_err(),
        ["--log-dir ~/file: must be a directory that escherd can write to, but it is no directory"]
    );
    assert_eq!(
        host.load(&["--log-dir", "~/file/logs"]).unwrap_err(),
        [
            "--log-dir ~/file/logs: must be a directory that escherd can write to, but ~/file is no directory"
        ]
    );
    let faults = host.load(&["--log-dir", "/proc/logs"]).unwrap_err();
    assert!(faults[0].contains("but /proc "), "{faults:?}");
}

#[test]
fn a_user_whose_directories_are_not_known_is_told_how_to_name_them() {
    let faults = Host::new().load(&["--user"]).unwrap_err();
    assert_eq!(
        faults,
        [
            "XDG_RUNTIME_DIR: not set; set it, or name the directory with --runtime-dir",
            "XDG_STATE_HOME: not set; set it, or name the directory with --state-dir",
        ]
    );
    let named = ["--user", "--runtime-dir", "/r", "--state-dir", "/s"];
    let configuration = Host::new().load(&named).unwrap();
    assert_eq!(
        configuration.value("execution.log_dir"),
        &super::text("/s/logs")
    );
    assert_eq!(
        configuration.value("daemon.socket"),
        &super::text("/r/escherd.sock")
    );
}
