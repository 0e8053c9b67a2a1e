//! Commands that cannot be started: at which stage, for which reason, and how they differ from commands that fail.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use escher_client::protocol::{Exit, StartStage};
use escher_client::{Client, Error, ErrorCode, ExecutionRecord, ExecutionRequest, Status};
use escher_tests::{
    Ctl, Daemon, FinishedProgram, child_program, connect, exec, in_runtime, require_root,
    run_program,
};
use nix::errno::Errno;

async fn run_to_end(client: &Client, request: ExecutionRequest) -> ExecutionRecord {
    let submitted = client.execute(request).await.unwrap();
    client.wait_for_completion(submitted.id).await.unwrap()
}

#[track_caller]
fn assert_not_started(record: &ExecutionRecord, code: ErrorCode, stage: StartStage, errno: Errno) {
    let outcome = record.outcome.as_ref().expect("it is over");
    assert_eq!(record.status, Status::Failed);
    let expected = Exit::NotStarted {
        stage,
        errno: errno as i32,
    };
    assert_eq!(outcome.exit, expected, "{record:?}");
    let error = outcome.error.as_ref().expect("a failure has an error");
    assert_eq!(error.code, code);
    for part in [stage.name(), &format!("{errno:?}")] {
        assert!(
            error.message.contains(part),
            "{:?} should name {part}",
            error.message
        );
    }
    assert_eq!((record.pid, record.started_at), (None, None));
}

#[track_caller]
fn assert_too_long(refused: &Error) {
    let Error::Api(error) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(error.code, ErrorCode::ARGUMENTS_TOO_LONG, "{error:?}");
}

#[test]
fn each_failure_has_its_stage_and_errno() {
    let daemon = Daemon::start();
    let home = daemon.home();
    let not_executable = home.file("not-executable", "#!/bin/sh\n", 0o644);
    let without_interpreter_line = home.file("plain-script", "echo hello\n", 0o755);
    let missing_interpreter = home.file("odd-script", "#!/no/such/interpreter\n", 0o755);
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let (not_found, failed) = (ErrorCode::PROGRAM_NOT_FOUND, ErrorCode::START_FAILED);
    in_runtime(async {
        let client = connect(&daemon).await;
        for (program, code, errno) in [
            ("no-such-program".to_owned(), not_found, Errno::ENOENT),
            ("/no/such/program".to_owned(), not_found, Errno::ENOENT),
            (text(&missing_interpreter), not_found, Errno::ENOENT),
            (
                format!("{}/x", text(&not_executable)),
                not_found,
                Errno::ENOTDIR,
            ),
            (text(&not_executable), failed, Errno::EACCES),
            (text(&home.work()), failed, Errno::EACCES),
            (text(&without_interpreter_line), failed, Errno::ENOEXEC),
        ] {
            let record = run_to_end(&client, exec([&program])).await;
            assert_not_started(&record, code, StartStage::Exec, errno);
        }
    });
}

/// All of it was "program not found, give its path".
#[test]
fn an_error_names_what_was_tried_and_what_helps() {
    let daemon = Daemon::start();
    let home = daemon.home();
    let windows = home.file("windows-script", "#!/bin/sh\r\necho hi\r\n", 0o755);
    let lost = home.file("lost-script", "#!/bin/nosuch -e\n", 0o755);
    let hostile = home.file("hostile-script", "#!/\x1b[2J\n", 0o755);
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let (windows, lost, hostile) = (text(&windows), text(&lost), text(&hostile));
    let in_path = format!("PATH={}", text(&home.work()));
    for (words, parts) in [
        (
            &["-e", "PATH=/own:/bin", "no-such"][..],
            &["\"no-such\" is not in PATH (/own:/bin)"][..],
        ),
        (
            &["echo hi"],
            &["\"echo hi\" is not in PATH", "--shell \"echo hi\""],
        ),
        (
            &["/no/such"],
            &["cannot execute /no/such: No such file", "dynamic loader"],
        ),
        (
            &[&lost],
            &[&format!(
                "the interpreter /bin/nosuch of {lost} was not found: No such file"
            )],
        ),
        (
            &["-e", &in_path, "lost-script"],
            &[&format!(
                "the interpreter /bin/nosuch of {lost} was not found: No such file"
            )],
        ),
        (
            &[&windows],
            &[
                &format!(
                    "of {windows} was not found, since its first line ends in a carriage return"
                ),
                "Unix line ends",
            ],
        ),
        (&[&hostile], &[r#"the interpreter "/\u{1b}[2J" of"#]),
    ] {
        let ended = daemon.ctl().run([&["run"], words].concat()).expect(127);
        for part in parts {
            assert!(ended.err().contains(part), "{part}: {}", ended.err());
        }
    }
}

#[test]
fn a_missing_working_directory_is_not_a_missing_program() {
    let daemon = Daemon::start();
    let file = daemon.home().file("file", "", 0o644);
    in_runtime(async {
        let client = connect(&daemon).await;
        for (dir, errno) in [
            ("/no/such/directory", Errno::ENOENT),
            (file.to_str().unwrap(), Errno::ENOTDIR),
        ] {
            let request = ExecutionRequest {
                working_dir: Some(dir.into()),
                ..exec(["true"])
            };
            let record = run_to_end(&client, request).await;
            let stage = StartStage::WorkingDirectory;
            assert_not_started(&record, ErrorCode::START_FAILED, stage, errno);
        }
    });
    let ended = daemon
        .ctl()
        .run(["run", "-w", "/no/such/directory", "true"])
        .expect(126);
    let named = "cannot enter the working directory /no/such/directory: No such file";
    assert!(ended.err().contains(named), "{ended:?}");
}

#[test]
fn a_working_directory_that_may_not_be_entered_is_named() {
    if !require_root("a working directory of another user") {
        return;
    }
    let daemon = Daemon::start();
    fs::set_permissions(daemon.home().socket(), Permissions::from_mode(0o666)).unwrap();
    let closed = daemon.home().work().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    let alice = daemon.ctl().as_user(61_400, 61_400, &[]);
    let ended = alice.run(["run", "-w", closed.to_str().unwrap(), "true"]);
    let ended = ended.expect(126);
    let named = format!(
        "cannot enter the working directory {}: Permission denied (EACCES,",
        closed.display()
    );
    assert!(ended.err().contains(&named), "{ended:?}");
}

/// Starts escherctl from a directory in which the shell stands already. `spoil` makes it unusable.
fn run_from_spoiled(ctl: &Ctl, spoil: &str, words: &[&str]) -> FinishedProgram {
    let escherctl = ctl.command(words);
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "mkdir -p parent/here; cd parent/here; eval \"$0\"; exec \"$@\"",
            spoil,
        ])
        .arg(escherctl.get_program())
        .args(escherctl.get_args())
        .current_dir(escherctl.get_current_dir().unwrap());
    for (name, value) in escherctl.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    run_program(command)
}

#[test]
fn a_current_directory_that_was_removed_is_named_and_nothing_runs_elsewhere() {
    let daemon = Daemon::start();
    let here = daemon.home().work().join("parent/here");
    let named = format!(
        "cannot use the current directory {}: No such file",
        here.display()
    );
    for (words, status) in [
        (&["run", "pwd"][..], 126),
        (&["run", "-w", ".", "pwd"], 126),
        (&["submit", "pwd"], 1),
    ] {
        let ended = run_from_spoiled(&daemon.ctl(), "rmdir ../here", words).expect(status);
        assert_eq!(ended.out(), "");
        assert!(ended.err().contains(&named), "{ended:?}");
        assert!(ended.err().contains("-w DIR"), "{ended:?}");
        fs::remove_dir(here.parent().unwrap()).unwrap();
    }
    let elsewhere = run_from_spoiled(&daemon.ctl(), "rmdir ../here", &["run", "-w", "/", "pwd"]);
    assert_eq!(elsewhere.expect(0).out(), "/\n");
}

#[test]
fn a_current_directory_that_may_not_be_entered_is_named_and_nothing_runs_elsewhere() {
    if !require_root("the working directory of another user") {
        return;
    }
    let daemon = Daemon::start();
    fs::set_permissions(daemon.home().socket(), Permissions::from_mode(0o666)).unwrap();
    let here = daemon.home().work().join("parent/here");
    let named = format!(
        "cannot enter the working directory {}: Permission denied (EACCES,",
        here.display()
    );
    let alice = daemon.ctl().as_user(61_400, 61_400, &[]);
    for spoil in ["chmod 700 .", "chmod 700 .."] {
        let ended = run_from_spoiled(&alice, spoil, &["run", "pwd"]).expect(126);
        assert_eq!(ended.out(), "");
        assert!(ended.err().contains(&named), "{spoil}: {ended:?}");
        assert!(ended.err().contains("-w DIR"), "{spoil}: {ended:?}");
        let submitted = run_from_spoiled(&alice, spoil, &["submit", "pwd"]).expect(0);
        let ended = alice.run(["wait", submitted.out().trim()]).expect(126);
        assert!(ended.err().contains(&named), "{spoil}: {ended:?}");
        fs::remove_dir_all(daemon.home().work().join("parent")).unwrap();
    }
}

#[test]
fn an_argument_at_the_limit_of_the_kernel_works_and_a_longer_one_is_refused() {
    const MAX_ARG_STRLEN: usize = 128 * 1024; // with its NUL, execve(2)
    let daemon = Daemon::start();
    let child_program = child_program();
    let count = |length: usize| {
        let long = "x".repeat(length);
        exec([child_program.to_str().unwrap(), "count-arguments", &long])
    };
    in_runtime(async {
        let client = connect(&daemon).await;
        let submitted = client.execute(count(MAX_ARG_STRLEN - 1)).await.unwrap();
        let result = client.get_result(submitted.id).await.unwrap();
        assert_eq!(
            result.stdout,
            format!("1 {}\n", MAX_ARG_STRLEN - 1).as_bytes()
        );
        let refused = client.execute(count(MAX_ARG_STRLEN)).await.unwrap_err();
        assert_too_long(&refused);
    });
}

/// The limit of the kernel for all arguments and the environment is searched for with escher, and compared with
/// that of a command that is started directly.
#[test]
fn an_argument_list_at_the_limit_of_the_kernel_works_and_a_longer_one_is_refused() {
    const PIECE: usize = 100_000;
    let daemon = Daemon::start();
    let child_program = child_program();
    // `total` bytes in pieces of one size, the last of which is shorter.
    let arguments = |total: usize| {
        let mut argv = vec![
            child_program.to_str().unwrap().to_owned(),
            "count-arguments".to_owned(),
        ];
        argv.extend((0..total / PIECE).map(|_| "x".repeat(PIECE)));
        argv.push("x".repeat(total % PIECE));
        argv
    };
    let (fits, environment) = in_runtime(async {
        let client = connect(&daemon).await;
        let (mut fits, mut fails) = (1_000_000_usize, 6_400_000);
        while fails - fits > 1 {
            let middle = fits.midpoint(fails);
            match client.execute(exec(arguments(middle))).await {
                Ok(submitted) => {
                    let record = client.wait_for_completion(submitted.id).await.unwrap();
                    assert_eq!(record.status, Status::Completed, "{record:?}");
                    fits = middle;
                }
                Err(refused) => {
                    assert_too_long(&refused);
                    fails = middle;
                }
            }
        }
        let submitted = client.execute(exec(arguments(fits))).await.unwrap();
        let result = client.get_result(submitted.id).await.unwrap();
        let expected = format!("{} {fits}\n", arguments(fits).len() - 2);
        assert_eq!(String::from_utf8_lossy(&result.stdout), expected);
        let submitted = client.execute(exec(["env", "-0"])).await.unwrap();
        let environment = client.get_result(submitted.id).await.unwrap().stdout;
        (fits, String::from_utf8(environment).unwrap())
    });
    for (total, works) in [(fits, true), (fits + 1, false)] {
        let argv = arguments(total);
        let mut command = Command::new(&argv[0]);
        command.arg0(&argv[0]).args(&argv[1..]).env_clear();
        command.envs(
            environment
                .split_terminator('\0')
                .filter_map(|pair| pair.split_once('=')),
        );
        let spawned = command.stdout(std::process::Stdio::null()).status();
        assert_eq!(
            spawned.is_ok(),
            works,
            "directly, {total} bytes: {spawned:?}"
        );
    }
}

#[test]
fn invalid_requests_are_refused() {
    let daemon = Daemon::start();
    in_runtime(async {
        let client = connect(&daemon).await;
        let nothing: [&str; 0] = [];
        for (request, part) in [
            (exec(nothing), "empty"),
            (exec([""]), "empty"),
            (exec(["true", "a\0b"]), "NUL"),
            (exec(["tr\0ue"]), "NUL"),
            (
                ExecutionRequest {
                    environment: vec![("A".into(), "x\0y".into())],
                    ..exec(["true"])
                },
                "NUL",
            ),
            (
                ExecutionRequest {
                    working_dir: Some("/tmp\0".into()),
                    ..exec(["true"])
                },
                "NUL",
            ),
        ] {
            let error = client.execute(request).await.unwrap_err();
            let error = error.as_api().expect("a typed error").clone();
            assert_eq!(error.code, ErrorCode::INVALID_REQUEST, "{error:?}");
            assert!(error.message.contains(part), "{error:?} should say {part}");
        }
        assert_eq!(client.info().await.unwrap().finished, 0);
    });
    let _ = daemon.ctl().run(["run", ""]).expect(125);
}

#[test]
fn a_command_that_exits_with_126_or_127_itself_has_another_error() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    for (words, status, code, exit_code) in [
        (&["sh", "-c", "exit 126"][..], 126, "exit-status", Some(126)),
        (&["sh", "-c", "exit 127"], 127, "exit-status", Some(127)),
        (&["no-such-program"], 127, "program-not-found", None),
        (&["/"], 126, "start-failed", None),
    ] {
        let id = ctl.submit(words).to_string();
        ctl.wait(&id, status);
        let record = ctl.inspect(&id);
        assert_eq!(record["error"]["code"], code, "{record}");
        assert_eq!(record["exit_code"].as_i64(), exit_code, "{record}");
    }
}

#[test]
fn a_failed_start_is_explained() {
    let daemon = Daemon::start();
    let script = daemon.home().file("plain-script", "echo hello\n", 0o755);
    let mut command = daemon.ctl().command(["run"]);
    command.arg(script);
    let ended = run_program(command).expect(126);
    assert!(
        ended.err().contains("ENOEXEC") && ended.err().contains("#!"),
        "{ended:?}"
    );
}
