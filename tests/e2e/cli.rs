//! escherctl as people and scripts use it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::Command;

use escher_tests::{Daemon, Home, escherctl, require_root, run_program};
use serde_json::Value;

/// escherctl with this environment alone.
fn ctl_with_env(variables: &[(&str, &str)], words: &[&str]) -> Command {
    let mut command = Command::new(escherctl());
    command
        .args(words)
        .env_clear()
        .envs(variables.iter().copied());
    command
}

#[test]
fn without_escherd_it_says_where_it_looked_and_how_to_start_one() {
    let home = Home::new();
    let socket = home.socket();
    let socket = socket.to_str().unwrap();
    for (words, code) in [
        (&["--socket", socket, "run", "true"][..], 125),
        (&["--socket", socket, "ps"], 1),
        (&["--socket", socket, "submit", "true"], 1),
    ] {
        let ended = run_program(ctl_with_env(&[], words)).expect(code);
        assert!(ended.stdout.is_empty());
        for part in [socket, "systemctl start escherd", "escherd --user"] {
            assert!(ended.err().contains(part), "{part} is not in {ended:?}");
        }
    }
    let ended = run_program(ctl_with_env(&[("ESCHER_SOCKET", socket)], &["ps"])).expect(1);
    assert!(ended.err().contains(socket), "{ended:?}");
    if !PathBuf::from("/run/escher/escherd.sock").exists() {
        let runtime = home.runtime();
        let ended = run_program(ctl_with_env(
            &[("XDG_RUNTIME_DIR", runtime.to_str().unwrap())],
            &["ps"],
        ))
        .expect(1);
        let user = runtime.join("escher/escherd.sock");
        assert!(ended.err().contains(user.to_str().unwrap()), "{ended:?}");
        assert!(
            ended.err().contains("/run/escher/escherd.sock"),
            "{ended:?}"
        );
    }
}

#[test]
fn a_file_that_is_no_socket_is_reported() {
    let home = Home::new();
    let file = home.file("file", "", 0o666);
    let ended = run_program(ctl_with_env(
        &[],
        &["--socket", file.to_str().unwrap(), "ps"],
    ))
    .expect(1);
    assert!(ended.err().contains("not a socket"), "{ended:?}");
}

#[test]
fn a_permission_error_names_the_group() {
    if !require_root("a socket that another user may not use") {
        return;
    }
    let daemon = Daemon::start();
    let ended = daemon
        .ctl()
        .as_user(61_001, 61_001, &[])
        .run(["run", "true"])
        .expect(125);
    assert!(
        ended.err().contains("permission") && ended.err().contains("escher"),
        "{ended:?}"
    );
    assert!(ended.err().contains("log in again"), "{ended:?}");
}

#[test]
fn an_unknown_id_says_where_ids_are_listed() {
    let daemon = Daemon::start();
    for verb in ["inspect", "logs", "result", "cancel"] {
        let ended = daemon.ctl().run([verb, "17"]).expect(1);
        assert!(ended.err().contains("escherctl ps -a"), "{verb}: {ended:?}");
    }
    for verb in ["attach", "wait"] {
        let _ = daemon.ctl().run([verb, "17"]).expect(125);
    }
}

#[test]
fn a_mistyped_verb_gets_a_suggestion() {
    let daemon = Daemon::start();
    let ended = daemon.ctl().run(["sumbit", "true"]).expect(2);
    assert!(ended.err().contains("submit"), "{ended:?}");
    let ended = daemon
        .ctl()
        .run(["run", "--tiemout", "5s", "true"])
        .expect(125);
    assert!(ended.err().contains("--timeout"), "{ended:?}");
}

#[test]
fn help_has_examples_below_the_usage() {
    for words in [
        &["--help"][..],
        &["run", "--help"],
        &["logs", "--help"],
        &["config", "--help"],
        &["config", "check", "--help"],
        &["reload", "--help"],
        &["doctor", "--help"],
    ] {
        let ended = run_program(ctl_with_env(&[], words)).expect(0);
        let (examples, usage) = (ended.out().find("Examples:"), ended.out().find("Usage:"));
        assert!(usage.is_some() && usage < examples, "{ended:?}");
    }
    assert!(
        run_program(ctl_with_env(&[], &["--version"]))
            .expect(0)
            .out()
            .starts_with("escherctl ")
    );
}

#[test]
fn global_flags_stand_on_either_side_and_the_command_begins_at_the_first_word() {
    let daemon = Daemon::start();
    let socket = daemon.home().socket();
    let socket = socket.to_str().unwrap();
    for words in [
        &[
            "--json", "--socket", socket, "-q", "run", "echo", "--json", "-q",
        ][..],
        &[
            "run", "--json", "-q", "--socket", socket, "echo", "--json", "-q",
        ],
        &[
            "run", "--json", "--socket", socket, "--", "echo", "--json", "-q",
        ],
    ] {
        let ended = run_program(ctl_with_env(&[], words)).expect(0);
        assert_eq!(ended.json_lines()[0]["text"], "--json -q\n", "{ended:?}");
    }
    let ended = daemon
        .ctl()
        .run(["run", "printf", "%s.", "-i", "--", "-h", "--help"])
        .expect(0);
    assert_eq!(ended.out(), "-i.--.-h.--help.");
}

/// Every field that scripts may rely on, from the first moment on.
#[test]
fn executions_always_have_all_fields() {
    const FIELDS: [&str; 19] = [
        "id",
        "number",
        "name",
        "key",
        "status",
        "success",
        "exit_code",
        "signal",
        "stdout",
        "stderr",
        "duration_ms",
        "submitted_at",
        "started_at",
        "completed_at",
        "error",
        "log_path",
        "output_file",
        "user",
        "command",
    ];
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    let gate = daemon.home().fifo("gate");
    let script = format!(
        "echo out; echo err >&2; read line < {}; exit 7",
        gate.name()
    );
    let submitted = ctl.json([
        "submit", "--name", "it", "-l", "team=web", "--", "sh", "-c", &script,
    ]);
    let listed = ctl.json(["ps"]);
    gate.write_line("go");
    let waited = ctl
        .run(["wait", "--json", "it"])
        .expect(7)
        .json_lines()
        .remove(0);
    let inspected = ctl.inspect("it");
    let result = ctl.json(["result", "it"]);
    let succeeded = ctl.json(["run", "--name", "quick", "--", "true"]);
    for object in [
        &submitted, &listed, &waited, &inspected, &result, &succeeded,
    ] {
        for field in FIELDS {
            assert!(object.get(field).is_some(), "no {field} in {object}");
        }
        assert!(object["labels"].is_object(), "{object}");
    }
    assert!(
        submitted["success"].is_null() && submitted["error"].is_null(),
        "{submitted}"
    );
    assert_eq!(result["id"], submitted["id"]);
    assert_eq!(
        (&result["status"], &result["success"]),
        (&"failed".into(), &false.into())
    );
    assert_eq!(
        (&result["exit_code"], &result["signal"]),
        (&7.into(), &Value::Null)
    );
    assert_eq!(
        (&result["stdout"], &result["stderr"]),
        (&"out\n".into(), &"err\n".into())
    );
    assert_eq!(result["labels"]["team"], "web");
    assert_eq!(result["command"], serde_json::json!(["sh", "-c", script]));
    let error = &result["error"];
    assert_eq!(
        (&error["code"], &error["number"]),
        (&"exit-status".into(), &62.into())
    );
    assert!(
        error["message"].is_string() && error.get("hint").is_some(),
        "{error}"
    );
    for time in ["submitted_at", "started_at", "completed_at"] {
        let text = result[time].as_str().unwrap();
        let date = text.len() >= 20 && text.as_bytes()[10] == b'T' && text.ends_with('Z');
        assert!(date, "{time}: {text} should be RFC 3339 in UTC");
    }
    assert!(
        result["duration_ms"].is_u64() && succeeded["success"] == true,
        "{succeeded}"
    );
    let log = fs::read(result["log_path"].as_str().unwrap()).unwrap();
    assert_eq!(log.len(), 8);
}

#[test]
fn output_that_is_not_utf8_is_base64_in_json() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    let objects = ctl.json_lines(["run", "printf", r"\377\000\001"]);
    assert!(objects[0]["text"].is_null(), "{objects:?}");
    assert_eq!(objects[0]["base64"], "/wAB");
    let result = ctl.json(["result", "1"]);
    assert!(result["stdout"].is_null(), "{result}");
    assert_eq!(result["stdout_base64"], "/wAB");
    assert_eq!(result["stderr"], "");
}

#[test]
fn a_failure_with_json_is_an_object_on_stderr() {
    let daemon = Daemon::start();
    let ended = daemon.ctl().run(["--json", "inspect", "17"]).expect(1);
    assert!(ended.stdout.is_empty());
    let object: Value = serde_json::from_str(ended.err()).expect("JSON");
    assert_eq!(object["error"]["code"], "not-found");
    assert_eq!(object["error"]["number"], 21);
    assert!(object["error"]["hint"].is_string(), "{object}");
}

#[test]
fn executions_are_found_by_number_name_and_parts_of_their_id() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    let id = ctl.submit(["--name", "first", "true"]).to_string();
    let second = ctl.submit(["--name", "first", "true"]).to_string();
    let id_of = |reference: &str| ctl.inspect(reference)["id"].as_str().unwrap().to_owned();
    assert_eq!(id_of("1"), id);
    assert_eq!(id_of(&id), id);
    assert_eq!(id_of(&id.to_uppercase()), id);
    assert_eq!(id_of("first"), second, "the newest of that name");
    assert_eq!(id_of(&id[id.len() - 8..]), id);
    // Ids begin with the time of submission, so both have the same head.
    let ended = ctl.run(["inspect", &id[..4]]).expect(1);
    assert!(
        ended.err().contains(&id) && ended.err().contains(&second),
        "{ended:?}"
    );
    // Three digits are too few for a tail, and no execution has such a number.
    let _ = ctl.run(["inspect", &id[id.len() - 3..]]).expect(1);
    for digits in ["001", "01", "+1", "120"] {
        let _ = ctl.run(["inspect", digits]).expect(1);
    }
}

#[test]
fn names_begin_with_a_letter() {
    let daemon = Daemon::start();
    let ended = daemon
        .ctl()
        .run(["run", "--name", "17", "true"])
        .expect(125);
    assert!(ended.err().contains("letter"), "{ended:?}");
}

#[test]
fn ps_lists_unfinished_executions_and_with_a_all_and_filters() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    let gate = daemon.home().fifo("gate");
    let script = format!("read line < {}", gate.name());
    let running = ctl
        .submit(["--name", "busy", "-l", "team=web", "sh", "-c", &script])
        .to_string();
    let failed = ctl
        .submit(["--name", "bad", "-l", "team=db", "false"])
        .to_string();
    ctl.wait(&failed, 1);
    let ids = |words: &[&str]| -> Vec<String> {
        let lines = ctl.json_lines([&["ps"], words].concat());
        lines
            .iter()
            .map(|line| line["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let (running, failed) = (vec![running], vec![failed]);
    assert_eq!(ids(&[]), running);
    assert_eq!(
        ids(&["-a"]),
        [failed.clone(), running.clone()].concat(),
        "newest first"
    );
    assert_eq!(ids(&["-a", "--filter", "status=failed"]), failed);
    assert_eq!(ids(&["-a", "--filter", "name=busy"]), running);
    assert_eq!(ids(&["-a", "--filter", "label.team=db"]), failed);
    assert_eq!(
        ids(&["-a", "--filter", "label.team=no"]),
        Vec::<String>::new()
    );
    let table = ctl.run(["ps", "-a"]).expect(0);
    let lines: Vec<&str> = table.out().lines().collect();
    assert_eq!(lines.len(), 3, "{table:?}");
    for part in ["busy", "running", "read line"] {
        assert!(lines[2].contains(part), "{table:?}");
    }
    gate.write_line("go");
    ctl.wait("busy", 0);
}

#[test]
fn control_characters_of_users_never_reach_the_terminal() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    let hostile = "\u{1b}[2J\u{7}\r\n\u{9b}31m\u{202e}";
    let id = ctl
        .submit(["-l", "k=v", "-w", "/", "--", "echo", hostile])
        .to_string();
    ctl.wait(&id, 0);
    let failing = ctl
        .submit(["--", &format!("/no/such/{hostile}")])
        .to_string();
    for words in [
        &["ps", "-a"][..],
        &["inspect", &id],
        &["inspect", &failing],
        &["ps", "-a", "--json"],
        &["inspect", &id, "--json"],
        &["events"],
        &["events", "--json"],
        &["attach", &failing],
        &["inspect", hostile],
        &["run", "--name", hostile, "true"],
        &["run", "--key", hostile, "true"],
    ] {
        let ended = ctl.run(words);
        for text in [ended.out(), ended.err()] {
            let control = text
                .chars()
                .find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
            assert_eq!(control, None, "{words:?}: {text:?}");
        }
    }
    // The output of a command is passed on as it is.
    assert_eq!(
        ctl.run(["logs", &id]).expect(0).out(),
        format!("{hostile}\n")
    );
}

#[test]
fn arguments_variables_and_paths_that_are_not_utf8_work() {
    let daemon = Daemon::start();
    let odd = |text: &[u8]| OsString::from_vec(text.to_vec());
    let directory = daemon.home().work().join(odd(b"dir\xff"));
    fs::create_dir(&directory).unwrap();
    let script = "#!/bin/sh\npwd\nprintf '%s\\n' \"$1\" \"$ODD\"\n";
    let program = directory.join(odd(b"pro\xfegram"));
    let program = daemon.home().file(program, script, 0o755);
    let words = [
        odd(b"run"),
        odd(b"-w"),
        directory.clone().into_os_string(),
        odd(b"-e"),
        odd(b"ODD=\xf0\x80"),
        program.into_os_string(),
        odd(b"arg\xc3\x28"),
    ];
    let ended = daemon.ctl().run(words).expect(0);
    let mut expected = directory.into_os_string().into_vec();
    expected.extend_from_slice(b"\narg\xc3\x28\n\xf0\x80\n");
    assert_eq!(ended.stdout, expected);
    let record = daemon.ctl().inspect("1");
    assert!(
        record["command_base64"].is_array() && record["working_dir_base64"].is_string(),
        "{record}"
    );
    let _ = daemon.ctl().run(["ps", "-a"]).expect(0);
}

#[test]
fn the_working_directory_is_the_callers_and_w_is_relative_to_it() {
    let daemon = Daemon::start();
    let work = daemon.home().work().canonicalize().unwrap();
    fs::create_dir(work.join("below")).unwrap();
    let pwd = |words: &[&str]| {
        daemon
            .ctl()
            .run([&["run"], words, &["pwd"]].concat())
            .expect(0)
    };
    assert_eq!(pwd(&[]).out(), format!("{}\n", work.display()));
    assert_eq!(
        pwd(&["-w", "below"]).out(),
        format!("{}/below\n", work.display())
    );
    assert_eq!(pwd(&["-w", "/"]).out(), "/\n");
}

#[test]
fn there_is_no_shell_unless_requested() {
    let daemon = Daemon::start();
    let ended = daemon
        .ctl()
        .run(["run", "echo", "$HOME", "|", "cat", "*"])
        .expect(0);
    assert_eq!(ended.out(), "$HOME | cat *\n");
    let ended = daemon
        .ctl()
        .run(["run", "--shell", "echo a b | tr ' ' '-'; exit 3"])
        .expect(3);
    assert_eq!(ended.out(), "a-b\n");
    let _ = daemon
        .ctl()
        .run(["run", "--shell", "true", "--", "true"])
        .expect(125);
}

#[test]
fn run_detached_is_the_same_as_submit() {
    let daemon = Daemon::start();
    let id = daemon.ctl().line(["run", "-d", "echo", "later"]);
    assert_eq!(daemon.ctl().run(["attach", &id]).expect(0).out(), "later\n");
    let id = daemon.ctl().line(["run", "-d", "-i", "cat"]);
    let send = ["send", "--end", &id];
    let _ = daemon.ctl().run_with_input("even later\n", send).expect(0);
    let attached = daemon.ctl().run(["attach", &id]).expect(0);
    assert_eq!(attached.out(), "even later\n");
    for options in [
        &["--stdin-lost", "eof"][..],
        &["-d", "-i", "--stdin-lost", "eof"],
    ] {
        let words = [&["run"], options, &["cat"]].concat();
        let _ = daemon.ctl().run(words).expect(125);
    }
}

#[test]
fn logs_with_t_begin_each_line_with_its_time() {
    let daemon = Daemon::start();
    let id = daemon
        .ctl()
        .submit(["sh", "-c", "printf 'a\\nb\\nc'"])
        .to_string();
    daemon.ctl().wait(&id, 0);
    let ended = daemon.ctl().run(["logs", "-t", &id]).expect(0);
    let lines: Vec<(&str, &str)> = ended
        .out()
        .lines()
        .map(|line| line.split_once(' ').expect("a time"))
        .collect();
    assert_eq!(
        lines.iter().map(|line| line.1).collect::<Vec<_>>(),
        ["a", "b", "c"]
    );
    assert!(
        lines
            .iter()
            .all(|line| line.0.ends_with('Z') && line.0.contains('T')),
        "{ended:?}"
    );
}

#[test]
fn events_are_listed_in_order() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    let id = ctl.submit(["--name", "it", "false"]).to_string();
    ctl.wait(&id, 1);
    let lines = ctl.json_lines(["events"]);
    let texts: Vec<String> = lines.iter().map(Value::to_string).collect();
    assert!(
        lines.iter().all(|line| line["id"] == id.as_str()),
        "{texts:?}"
    );
    let index_of = |word: &str| {
        texts
            .iter()
            .position(|text| text.contains(word))
            .expect(word)
    };
    assert!(
        index_of("submitted") < index_of("started") && index_of("started") < index_of("finished")
    );
    assert!(texts[index_of("finished")].contains("failed"), "{texts:?}");
    assert_eq!(
        ctl.run(["events"]).expect(0).out().lines().count(),
        lines.len()
    );
}

#[test]
fn info_shows_the_process_and_the_log_directory() {
    let daemon = Daemon::start();
    let info = daemon.ctl().json(["info"]);
    assert_eq!(info["log_dir"], daemon.home().logs().to_str().unwrap());
    assert_eq!(info["pid"], daemon.pid().as_raw());
    let text = daemon.ctl().run(["info"]).expect(0);
    assert!(
        text.out().contains(daemon.home().logs().to_str().unwrap()),
        "{text:?}"
    );
}

#[test]
fn logs_into_a_pipe_that_closes_early_is_no_error() {
    let daemon = Daemon::start();
    let id = daemon.ctl().submit(["seq", "1000000"]).to_string();
    daemon.ctl().wait(&id, 0);
    let script = format!("{} logs {id} | head -n 2", escherctl().display());
    let mut command = Command::new("sh");
    command
        .args(["-c", &script])
        .env("ESCHER_SOCKET", daemon.home().socket());
    let ended = run_program(command).expect(0);
    assert_eq!((ended.out(), ended.err()), ("1\n2\n", ""));
}

#[test]
fn an_unknown_target_does_not_keep_the_others_from_being_cancelled() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    let ids: Vec<String> = (0..3)
        .map(|_| ctl.submit(["sleep", "600"]).to_string())
        .collect();
    let ended = ctl
        .run(["cancel", &ids[0], "no-such-thing", &ids[1], &ids[2]])
        .expect(1);
    assert!(ended.err().contains("no-such-thing"), "{ended:?}");
    for id in &ids {
        ctl.wait(id, 143);
    }
}

#[test]
fn invalid_values_are_explained() {
    let daemon = Daemon::start();
    for (words, part) in [
        (&["run", "--timeout", "5x", "true"][..], "ms, s, m"),
        (&["run", "-u", "#x", "true"], "#"),
        (&["kill", "-s", "NOPE", "1"], "signal"),
        (&["ps", "--filter", "colour=red"], "colour"),
    ] {
        let ended = daemon.ctl().run(words);
        assert!([2, 125].contains(&ended.code), "{ended:?}");
        assert!(ended.err().contains(part), "{part} is not in {ended:?}");
    }
}
