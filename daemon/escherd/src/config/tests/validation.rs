//! Problems name the place, the key, the value, and what is expected.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::{Host, read};

fn problems(name: &str, text: &str) -> Vec<String> {
    read(name, text).expect_err(text)
}

#[test]
fn refuses_with_line_key_value_and_expectation() {
    for (file, problem) in [
        // Numbers.
        (
            "[execution]\nmax_concurrent_executions = 0",
            "2: execution.max_concurrent_executions = 0: must be a whole number, at least 1",
        ),
        (
            "[execution]\nmax_output_size_bytes = 0",
            "2: execution.max_output_size_bytes = 0: must be a whole number, at least 1, or a size such as \"10MiB\"",
        ),
        (
            "[execution]\ncleanup_interval_secs = 0",
            "2: execution.cleanup_interval_secs = 0: must be a whole number from 1 to 31622400, or a time such as \"2m\"",
        ),
        (
            "[execution]\nkill_grace_ms = 86400001",
            "2: execution.kill_grace_ms = 86400001: must be a whole number from 0 to 86400000, or a time such as \"2m\"",
        ),
        (
            "[execution]\ndrain = \"25h\"",
            "2: execution.drain = \"25h\": must be a time with a unit (ms, s, m, h or d), such as 90s or 1h30m, at most 24h",
        ),
        (
            "[daemon]\nmax_connections = 0\n",
            "2: daemon.max_connections = 0: must be a whole number, at least 1",
        ),
        (
            "[daemon]\nmax_client_memory_bytes = 67108863\n",
            "2: daemon.max_client_memory_bytes = 67108863: must be a whole number, at least 67108864, or a size such as \"10MiB\"",
        ),
        (
            "[daemon]\nmax_client_memory_bytes_per_user = 33554431\n",
            "2: daemon.max_client_memory_bytes_per_user = 33554431: must be a whole number, at least 33554432, or a size such as \"10MiB\"",
        ),
        (
            "[execution]\n\nmax_timeout_ms = -5",
            "3: execution.max_timeout_ms = -5: must be a whole number, or a time such as \"2m\", not a negative number",
        ),
        (
            "[history]\nmax_bytes = 18446744073709551616",
            "2: history.max_bytes = 18446744073709551616: must be a whole number, or a size such as \"10MiB\", not a number beyond 64 bits",
        ),
        // Types.
        (
            "[execution]\nmax_timeout_ms = \"abc\"",
            "2: execution.max_timeout_ms = \"abc\": must be a whole number, or a time such as \"2m\"",
        ),
        (
            "[execution]\nmax_timeout_ms = 1.5",
            "2: execution.max_timeout_ms = 1.5: must be a whole number, or a time such as \"2m\", not a fraction",
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
            "2: execution.max_timeout_ms = { a = 1 }: must be a whole number, or a time such as \"2m\", not a table",
        ),
        (
            "execution = 5",
            "1: execution = 5: must be a table, not a number",
        ),
        (
            "[[execution]]\nkill_grace_ms = 5",
            "1: execution = [[execution]]: must be a table, not a list",
        ),
        // Choices, modes, names and paths.
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
            "3: daemon.metrics_socket = \"/s\": must be different from daemon.socket, where clients connect",
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
            "1: profile = \"fast\": must be one of production, development, testing, high-volume, memory-constrained, host",
        ),
        (
            "profile = 1",
            "1: profile = 1: must be one of production, development, testing, high-volume, memory-constrained, host",
        ),
        // Values against each other.
        (
            "[execution]\ndefault_timeout_ms = 700000",
            "2: execution.default_timeout_ms = 700000: must be from 1 to execution.max_timeout_ms, which is 600000 (default); any value is valid if that is 0",
        ),
        (
            "[execution]\nmax_timeout_ms = 5",
            "2: execution.max_timeout_ms = 5: must be at least execution.default_timeout_ms, which is 120000 (default), or 0 for no maximum",
        ),
        (
            "[execution]\nmax_timeout_ms = 5\ndefault_timeout_ms = 9",
            "3: execution.default_timeout_ms = 9: must be from 1 to execution.max_timeout_ms, which is 5 (~/escher.toml:2); any value is valid if that is 0",
        ),
        (
            "[execution]\ndefault_timeout_ms = 0",
            "2: execution.default_timeout_ms = 0: must be from 1 to execution.max_timeout_ms, which is 600000 (default); any value is valid if that is 0",
        ),
        (
            "profile = \"testing\"\n[execution]\nmax_timeout_ms = 9999",
            "3: execution.max_timeout_ms = 9999: must be at least execution.default_timeout_ms, which is 10000 (profile testing), or 0 for no maximum",
        ),
        (
            "[execution]\nmax_output_size_bytes = 100\nkeep_tail_bytes = 100",
            "3: execution.keep_tail_bytes = 100: must be less than execution.max_output_size_bytes, which is 100 (~/escher.toml:2)",
        ),
        // Names.
        (
            "[execution]\nmax_timeot_ms = 1",
            "2: execution.max_timeot_ms = 1: unknown key; did you mean max_timeout_ms in [execution]?",
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
            "2: execution.profile = \"testing\": belongs at the top of the file, before the first table",
        ),
        (
            "\n[daemons]\nsocket = 1",
            "2: [daemons]: unknown table; did you mean [daemon]? The tables are [daemon], [execution], [users], [store], [history]",
        ),
        // Shares.
        (
            "[users]\nqueue_share = 50",
            "2: users.queue_share = 50: must be a share from 1% to 100% in quotes, not a number",
        ),
        (
            "[users]\nqueue_share = \"0%\"",
            "2: users.queue_share = \"0%\": must be a share from 1% to 100%",
        ),
        // Syntax.
        (
            "[execution]\nkill_grace_ms = 1\nkill_grace_ms = 2",
            "3: kill_grace_ms = 2: duplicate key; remove one",
        ),
        (
            "[execution]\n[store]\n[execution]",
            "3: [execution]: duplicate key; remove one",
        ),
    ] {
        assert_eq!(
            problems("escher.toml", file),
            [format!("~/escher.toml:{problem}")],
            "{file}"
        );
    }
}

#[test]
fn refuses_json_alike() {
    for (file, problem) in [
        (
            "{\"execution\":\n {\"kill_grace\": 7}}",
            "2: execution.kill_grace = 7: unknown key; did you mean kill_grace_ms in [execution]?",
        ),
        (
            "{\n\n\"max_timeout_ms\": \"abc\"}",
            "3: max_timeout_ms = \"abc\": must be a whole number, or a time such as \"2m\"",
        ),
        (
            "{\"max_timeout_ms\": null}",
            "1: max_timeout_ms = null: must be a whole number, or a time such as \"2m\", not null",
        ),
        (
            "{\"kill_grace_ms\": 1,\n\"kill_grace_ms\": 2}",
            "2: kill_grace_ms = 2: duplicate key, first on line 1; remove one",
        ),
        (
            "{\"kill_grace_ms\": 1,\n\"execution\": {\"kill_grace_ms\": 2}}",
            "1: kill_grace_ms = 1: duplicate key, first on line 2; remove one",
        ),
        (
            "{\"execution\": {},\n\"execution\": {}}",
            "2: [execution]: duplicate key, first on line 1; remove one",
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
            problems("a.json", file),
            [format!("~/a.json:{problem}")],
            "{file}"
        );
    }
}

#[test]
fn reports_all_problems_at_once_in_the_order_of_lines() {
    let host = Host::new()
        .file(
            "etc/escher.toml",
            "[execution]\nmax_timeout_ms = = 5\nmax_concurrent_executions = 0\n[daemon]\nsocket_mode = \"x\"\nsocket = \"here\"\n[nonsense]\n",
        )
        .file("etc/escher.toml.d/1.toml", b"[store]\n\xff".as_slice())
        .file("etc/escher.toml.d/2.toml", "[history]\nmax_count = \"all\"\n")
        .variable("EXEC_MAX_TIMEOUT_MS", "abc");
    let problems = host
        .load(&["--log-dir", "logs", "--profile", "fast"])
        .unwrap_err();
    let places: Vec<&str> = problems
        .iter()
        .map(|problem| problem.split(": ").next().unwrap())
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
        "{problems:#?}"
    );
}

#[test]
fn does_not_report_what_follows_from_another_problem() {
    // 900 s are over the default maximum, but the maximum that is meant is not known.
    for file in [
        "[execution]\ndefault_timeout_ms = 900000\nmax_timeout_ms = \"soon\"",
        "[execution]\ndefault_timeout_ms = 900000\nmax_timeout_ms = 1h",
        "profile = \"prod\"\n[execution]\ndefault_timeout_ms = 900000",
    ] {
        assert_eq!(problems("escher.toml", file).len(), 1, "{file}");
    }
}

#[test]
fn refuses_variables_and_options_alike() {
    const TIMEOUT: &str = "must be a whole number, or a time such as \"2m\"";
    for (name, value, problem) in [
        ("EXEC_MAX_TIMEOUT_MS", "abc", TIMEOUT),
        ("EXEC_MAX_TIMEOUT_MS", "", TIMEOUT),
        ("EXEC_MAX_TIMEOUT_MS", "-1", TIMEOUT),
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
        let problems = Host::new().variable(name, value).load(&[]).unwrap_err();
        assert_eq!(problems, [format!("{name}={value}: {problem}")]);
    }
    let odd = OsStr::from_bytes(b"1\xff").to_owned();
    let host = Host::new().variable("EXEC_MAX_TIMEOUT_MS", odd);
    assert_eq!(
        host.load(&[]).unwrap_err(),
        [format!("EXEC_MAX_TIMEOUT_MS=1\u{fffd}: {TIMEOUT}")]
    );
    // A path need not be UTF-8.
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
            "--profile fast: must be one of production, development, testing, high-volume, memory-constrained, host"
        ]
    );
}

#[test]
fn refuses_what_does_not_fit_into_memory() {
    let memory = nix::sys::sysinfo::sysinfo().unwrap().ram_total();
    for (name, most) in [
        ("max_output_size_bytes", memory),
        ("max_in_memory_executions", memory / 1024),
        ("max_pending_executions", memory / 1024),
        ("max_concurrent_executions", memory / 1024),
    ] {
        let file = |value| format!("[execution]\n{name} = {value}");
        assert!(read("escher.toml", &file(most)).is_ok(), "{name}");
        let over = most + 1;
        assert_eq!(
            problems("escher.toml", &file(over)),
            [format!(
                "~/escher.toml:2: execution.{name} = {over}: must be at most {most} to fit into this host's memory"
            )]
        );
    }
    let problems = problems("escher.toml", "[daemon]\nwarm_shims = 18446744073709551615");
    assert!(problems[0].contains("memory"), "{problems:?}");
}

#[test]
fn refuses_a_log_directory_that_is_not_writable() {
    let host = Host::new().file("file", "");
    let loaded = host.load(&["--log-dir", "~/not/there/yet"]);
    assert!(loaded.is_ok(), "{loaded:?}");
    assert_eq!(
        host.load(&["--log-dir", "~/file"]).unwrap_err(),
        [
            "--log-dir ~/file: must be a directory that escherd can write to, but it is not a directory"
        ]
    );
    assert_eq!(
        host.load(&["--log-dir", "~/file/logs"]).unwrap_err(),
        [
            "--log-dir ~/file/logs: must be a directory that escherd can write to, but ~/file is not a directory"
        ]
    );
    let problems = host.load(&["--log-dir", "/proc/logs"]).unwrap_err();
    let obstacle = if nix::unistd::geteuid().is_root() {
        "but /proc belongs to the kernel"
    } else {
        "but /proc is not writable"
    };
    assert!(problems[0].contains(obstacle), "{problems:?}");
}

#[test]
fn explains_how_to_give_an_unknown_directory_of_a_user() {
    let problems = Host::new().load(&["--user"]).unwrap_err();
    assert_eq!(
        problems,
        ["XDG_STATE_HOME: not set; set it, or give the directory with --state-dir"]
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

#[test]
fn a_log_that_forgets_needs_a_limit() {
    for (file, problem) in [
        (
            "[execution]\nlog_full = \"forget_oldest\"",
            "2: execution.log_full = \"forget_oldest\": must be drain or kill, or execution.max_log_bytes, which is 0",
        ),
        (
            "[execution]\nlog_full = \"forget_oldest\"\nmax_log_bytes = 65535",
            "3: execution.max_log_bytes = 65535: must be at least 65536 where execution.log_full is \"forget_oldest\"",
        ),
    ] {
        let found = problems("c.toml", file);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(problem), "{found:?}");
    }
    for file in [
        "[execution]\nlog_full = \"forget_oldest\"\nmax_log_bytes = 65536",
        "[execution]\nlog_full = \"drain\"\nmax_log_bytes = 1",
    ] {
        assert!(read("c.toml", file).is_ok(), "{file}");
    }
}
