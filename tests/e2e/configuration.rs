//! Configuration files, the environment and options, seen from outside. The rules for each value are tested
//! beside the code.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use escher_client::DaemonInfo;
use escher_tests::{
    Daemon, FinishedProgram, Home, connect, escherd, in_runtime, require_root, run_program,
};

/// Runs escherd with a configuration file and further arguments, which have to include `--check` if the file is
/// valid.
fn run_with_file(home: &Home, name: &str, text: &str, arguments: &[&str]) -> FinishedProgram {
    let path = home.path().join(name);
    let is_new = !path.exists();
    fs::write(&path, text).unwrap();
    if is_new {
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
    let mut command = Command::new(escherd());
    command.args(home.arguments()).arg("--config").arg(path);
    command.args(arguments);
    run_program(command)
}

fn info(daemon: &Daemon) -> DaemonInfo {
    in_runtime(async { connect(daemon).await.info().await.unwrap() })
}

#[test]
fn every_error_is_reported_on_a_line_of_its_own_with_exit_status_2() {
    let home = Home::new();
    let broken = "[execution]\nmax_timeot_ms = 1\nkill_grace_ms = \"long\"\nkill_grace_ms = 5\nmax_concurrent_executions = 0\n[daemon]\nsocket_mode = \"rw\"\n[nonsense]\n";
    let expected = [
        (2, "max_timeot_ms = 1", "max_timeout_ms"),
        (3, "kill_grace_ms = \"long\"", "whole number"),
        (4, "kill_grace_ms = 5", "duplicate"),
        (5, "max_concurrent_executions = 0", "at least 1"),
        (7, "socket_mode = \"rw\"", "0660"),
        (8, "[nonsense]", "unknown table"),
    ];
    for arguments in [&[][..], &["--check"]] {
        let ended = run_with_file(&home, "broken.toml", broken, arguments).expect(2);
        let file = home.path().join("broken.toml");
        let lines: Vec<&str> = ended.err().lines().collect();
        assert_eq!(lines.len(), expected.len(), "{ended:?}");
        for (line, (number, quoted, advice)) in lines.iter().zip(expected) {
            let head = format!("escherd: {}:{number}: ", file.display());
            assert!(line.starts_with(&head), "{line}");
            assert!(line.contains(quoted) && line.contains(advice), "{line}");
        }
    }
    assert!(!home.state().exists() && !home.logs().exists() && !home.socket().exists());
}

#[test]
fn a_configuration_that_others_could_change_is_refused() {
    let home = Home::new();
    let directory = home.path().join("etc");
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
    let file = directory.join("escher.toml");
    let check = || run_with_file(&home, "etc/escher.toml", "", &["--check"]);
    let _ = check().expect(0);
    for (path, mode) in [
        (&file, 0o664),
        (&file, 0o646),
        (&directory, 0o775),
        (&directory, 0o757),
    ] {
        let before = fs::metadata(path).unwrap().permissions();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let ended = check().expect(2);
        let expected = format!(
            "{} can be written by others (mode {mode:04o})",
            path.display()
        );
        assert!(ended.err().contains(&expected), "{ended:?}");
        fs::set_permissions(path, before).unwrap();
    }
    if require_root("configuration files of other users") {
        chown(&file, Some(1000), None).unwrap();
        let ended = check().expect(2);
        assert!(ended.err().contains("belongs to user 1000"), "{ended:?}");
        // A link to a file that only root can change, in a directory of another user.
        chown(&file, Some(0), None).unwrap();
        let foreign = home.path().join("foreign");
        fs::create_dir(&foreign).unwrap();
        symlink(&file, foreign.join("link.toml")).unwrap();
        chown(&foreign, Some(1000), None).unwrap();
        let mut through_link = Command::new(escherd());
        through_link
            .args(["--check", "--config"])
            .arg(foreign.join("link.toml"));
        let ended = run_program(through_link).expect(2);
        assert!(
            ended.err().contains("foreign belongs to user 1000"),
            "{ended:?}"
        );
    }
}

#[test]
fn a_directory_that_others_could_change_is_refused() {
    for directory in ["run", "state", "logs"] {
        let home = Home::new();
        let path = home.path().join(directory);
        let _ = fs::create_dir(&path);
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        let ended = run_with_file(&home, "escher.toml", "", &[]).expect(2);
        let expected = format!("{} can be written by others", path.display());
        assert!(ended.err().contains(&expected), "{ended:?}");
    }
}

#[test]
fn a_file_that_cannot_be_read_or_parsed_gives_exit_status_2() {
    let home = Home::new();
    for (name, text, position) in [
        ("a.toml", "[execution\n", "a.toml:1: "),
        ("a.json", "{\"execution\":\n{\"x\": 1}}", "a.json:2: "),
        ("b.json", "{", "b.json:1: "),
    ] {
        let ended = run_with_file(&home, name, text, &["--check"]).expect(2);
        assert!(ended.err().contains(position), "{ended:?}");
    }
    let mut missing = Command::new(escherd());
    missing.args(["--check", "--config", "/no/such/file.toml"]);
    let missing = run_program(missing).expect(2);
    assert!(
        missing.err().contains("/no/such/file.toml: "),
        "{missing:?}"
    );
}

#[test]
fn check_accepts_valid_files_and_creates_nothing() {
    let home = Home::new();
    for (name, text) in [
        (
            "a.toml",
            "[execution]\ndefault_timeout_ms = 1000\nmax_timeout_ms = 2000\n",
        ),
        ("a.json", "{\"execution\": {\"kill_grace_ms\": 5}}"),
        ("b.json", "{\"kill_grace_ms\": 5}"),
    ] {
        let ended = run_with_file(&home, name, text, &["--check"]).expect(0);
        assert_eq!((ended.out(), ended.err()), ("", ""));
    }
    assert!(!home.state().exists() && !home.logs().exists() && !home.socket().exists());
}

#[test]
fn the_environment_overrides_files_and_options_override_the_environment() {
    let elsewhere = Home::new();
    let daemon = Daemon::builder()
        .config("[execution]\ndefault_timeout_ms = 1000\nmax_timeout_ms = 5000\nmax_concurrent_executions = 7\n")
        .env("EXEC_MAX_TIMEOUT_MS", "2000")
        .env("EXEC_LOG_DIR", elsewhere.logs())
        .start();
    let refused = daemon
        .ctl()
        .run(["run", "--timeout", "3s", "true"])
        .expect(125);
    assert!(
        refused.err().contains("3s") && refused.err().contains("2s (execution.max_timeout_ms)"),
        "{refused:?}"
    );
    let id = daemon.ctl().submit(["echo", "x"]);
    daemon.ctl().wait(id, 0);
    assert!(daemon.home().log(id).exists(), "--log-dir is an option");
    assert!(!elsewhere.logs().exists());
    let info = info(&daemon);
    assert_eq!(info.default_timeout_ms, 1000);
    assert_eq!(info.max_concurrent_executions, 7);
}

#[test]
fn invalid_variables_and_options_give_exit_status_2() {
    let home = Home::new();
    let mut command = Command::new(escherd());
    command
        .args(home.arguments())
        .args(["--check", "--config", "/dev/null", "--profile", "fast"])
        .env("EXEC_STREAM_OUTPUT", "perhaps");
    let ended = run_program(command).expect(2);
    let lines: Vec<&str> = ended.err().lines().collect();
    assert_eq!(
        lines,
        [
            "escherd: --profile fast: must be one of production, development, testing, high-volume, memory-constrained, host",
            "escherd: EXEC_STREAM_OUTPUT=perhaps: must be true or false",
        ]
    );
}

#[test]
fn files_override_profiles() {
    let config = "profile = \"production\"\n[execution]\nmax_timeout_ms = 40000\n";
    let daemon = Daemon::builder()
        .config(config)
        .option("--profile", "testing")
        .start();
    let info = info(&daemon);
    assert_eq!(info.max_concurrent_executions, 1);
    assert_eq!(info.default_timeout_ms, 10_000);
    assert_eq!(info.max_timeout_ms, 40_000);
    assert_eq!(info.max_output_size_bytes, 1024 * 1024);
}

/// Writes files to `escher/` in a new configuration directory of a user, whose path is returned.
fn write_user_files(home: &Home, files: &[(&str, &str)]) -> PathBuf {
    let config = home.path().join("config");
    for (name, text) in files {
        let path = config.join("escher").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    config
}

#[test]
fn drop_ins_of_a_user_apply_in_the_order_of_their_names() {
    let home = Home::new();
    let config = write_user_files(
        &home,
        &[
            (
                "escher.toml",
                "[execution]\ndefault_timeout_ms = 1\nmax_timeout_ms = 9\nmax_concurrent_executions = 3\n",
            ),
            (
                "escher.toml.d/10-a.toml",
                "[execution]\nmax_timeout_ms = 5\nmax_pending_executions = 6\n",
            ),
            (
                "escher.toml.d/20-b.toml",
                "[execution]\nmax_timeout_ms = 7\n",
            ),
        ],
    );
    let masked = config.join("escher/escher.toml.d/30-c.toml");
    symlink("/dev/null", masked).unwrap();
    let daemon = Daemon::builder()
        .user_mode()
        .env("XDG_CONFIG_HOME", config)
        .start();
    let info = info(&daemon);
    assert_eq!(info.max_concurrent_executions, 3);
    assert_eq!(info.max_pending_executions, 6);
    assert_eq!(info.max_timeout_ms, 7);
}

#[test]
fn an_empty_drop_in_sets_nothing_and_a_dangling_link_is_an_error() {
    let home = Home::new();
    let config = write_user_files(
        &home,
        &[
            ("escher.toml", ""),
            (
                "escher.toml.d/10-a.toml",
                "[execution]\nmax_timeout_ms = 5\n",
            ),
            (
                "escher.toml.d/20-b.toml",
                "[execution]\ndefault_timeout_ms = 5\n",
            ),
        ],
    );
    let check = || {
        let mut command = Command::new(escherd());
        command.args(home.arguments()).args(["--user", "--check"]);
        run_program({
            command.env("XDG_CONFIG_HOME", &config);
            command
        })
    };
    let _ = check().expect(0);
    let drop_ins = config.join("escher/escher.toml.d");
    fs::write(drop_ins.join("20-b.toml"), "").unwrap();
    let ended = check().expect(2);
    assert!(
        ended
            .err()
            .contains("10-a.toml:2: execution.max_timeout_ms = 5"),
        "{ended:?}"
    );
    fs::remove_file(drop_ins.join("10-a.toml")).unwrap();
    symlink("/no/such/file", drop_ins.join("10-a.toml")).unwrap();
    let ended = check().expect(2);
    assert!(
        ended.err().contains("10-a.toml: cannot be read"),
        "{ended:?}"
    );
}

#[test]
fn a_log_directory_that_cannot_be_written_gives_exit_status_2() {
    if !require_root("an escherd of a user who may not write somewhere") {
        return;
    }
    let home = Home::new();
    let mut command = Command::new(home.share(&escherd()));
    command
        .args(["--check", "--config", "/dev/null", "--log-dir"])
        .arg(home.logs())
        .uid(65534)
        .gid(65534);
    let ended = run_program(command).expect(2);
    let message = format!(
        "escherd: --log-dir {}: must be a directory",
        home.logs().display()
    );
    assert!(ended.err().starts_with(&message), "{ended:?}");
    assert!(
        ended
            .err()
            .contains(&format!("{} is not writable", home.path().display()))
    );
}

/// Types the sessions of `docs/configuration.md`, with the file of this test's escherd in place of its file.
#[test]
fn the_sessions_in_the_documentation_are_accurate() {
    let page = include_str!("../../docs/configuration.md");
    let daemon = Daemon::with_config("");
    let file = daemon.home().path().join("escher.toml");
    let adapted = |text: &str| text.replace("/etc/escher/escher.toml", file.to_str().unwrap());
    let programs = escherd().parent().unwrap().to_owned();
    let path = format!("{}:/usr/bin:/bin", programs.display());
    let type_in = |command: &str| {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("exec 2>&1; {}", adapted(command))])
            .env_clear()
            .env("PATH", &path)
            .env("HOME", daemon.home().work())
            .env("XDG_RUNTIME_DIR", daemon.home().work())
            .env("ESCHER_SOCKET", daemon.home().socket());
        run_program(shell).out().to_owned()
    };
    let mut typed = 0;
    for session in page.split("```console\n").skip(1) {
        let session = session.split("```").next().unwrap();
        for step in session.split("$ ").skip(1) {
            let (command, output) = step.split_once('\n').unwrap();
            assert_eq!(type_in(command), adapted(output), "{command}");
            typed += 1;
        }
    }
    assert!(typed > 5, "the page has sessions");
}
