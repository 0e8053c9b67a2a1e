//! The start and the end of escherd.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use escher_tests::{
    DEADLINE, Daemon, Exit, Fifo, Home, connect, escherd, in_runtime, is_unlocked, launcher,
    require_program, run_program, watch,
};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;

#[test]
fn sigterm_ends_it_with_exit_status_0() {
    let mut daemon = Daemon::start();
    assert_eq!(daemon.terminate(), Exit::Code(0));
    assert_eq!(daemon.stop(), Exit::Code(0));
}

#[test]
fn sigterm_ends_it_while_clients_wait_and_follow() {
    let mut daemon = Daemon::builder().leave_commands().start();
    let ready = daemon.home().fifo("ready");
    let gate = daemon.home().fifo("gate");
    let script = format!("echo ready > {}; read line < {}", ready.name(), gate.name());
    let id = daemon.ctl().submit(["sh", "-c", &script]).to_string();
    assert_eq!(ready.read_line(), "ready");
    let clients: Vec<_> = [
        &["wait", &id][..],
        &["attach", &id],
        &["logs", "-f", &id],
        &["events", "-f"],
    ]
    .into_iter()
    .map(|words| {
        daemon
            .ctl()
            .start([&["--reconnect", "none"], words].concat())
    })
    .collect();
    assert_eq!(daemon.terminate(), Exit::Code(0));
    for client in clients {
        assert_ne!(client.wait().code, 0, "what it waited for has not come");
    }
    gate.write_line("go");
}

#[test]
fn with_on_stop_leave_commands_outlive_it() {
    let mut daemon = Daemon::builder().leave_commands().start();
    let gate = daemon.home().fifo("gate");
    let script = format!("echo up > {0}.up; read line < {0}; echo done", gate.name());
    let ready = daemon.home().fifo("gate.up");
    let id = daemon.ctl().submit(["sh", "-c", &script]);
    assert_eq!(ready.read_line(), "up");
    assert_eq!(daemon.terminate(), Exit::Code(0));
    gate.write_line("go");
    watch::until_exists(&daemon.home().exit_record(id));
    assert_eq!(fs::read_to_string(daemon.home().log(id)).unwrap(), "done\n");
}

#[test]
fn with_on_stop_cancel_commands_end_first() {
    let mut daemon = Daemon::start();
    let lock = daemon.home().work().join("lock");
    let mut command = daemon.ctl().command(["run", "--kill-after", "300ms", "--"]);
    command
        .arg(escher_tests::child_program())
        .arg("ignore-sigterm")
        .arg(&lock);
    let mut run = escher_tests::RunningProgram::spawn_unread(command, DEADLINE);
    std::io::Read::read_exact(&mut run.stdout(), &mut [0; 6]).unwrap();
    let queued = daemon.ctl().submit(["true"]);
    daemon.ctl().wait(queued, 0);
    assert_eq!(daemon.terminate(), Exit::Code(0));
    assert!(is_unlocked(&lock), "the command has ended before escherd");
    let ended = run.wait();
    assert!([125, 137].contains(&ended.code), "{ended:?}");
}

#[test]
fn a_socket_of_systemd_is_served() {
    let daemon = Daemon::builder().socket_activation().start();
    assert_eq!(
        daemon.ctl().run(["run", "echo", "hello"]).expect(0).out(),
        "hello\n"
    );
    let environment = daemon.ctl().run(["run", "env"]).expect(0);
    assert!(!environment.out().contains("LISTEN_"), "{environment:?}");
    assert_eq!(daemon.stop(), Exit::Code(0));
}

#[test]
fn a_second_escherd_in_the_same_directories_exits_and_harms_nothing() {
    let daemon = Daemon::start();
    let mut second = Command::new(escherd());
    second.args(daemon.home().arguments());
    second.args(["--config", "/dev/null"]);
    let second = run_program(second);
    assert_ne!(second.code, 0);
    let state = daemon.home().state();
    assert!(second.err().contains(state.to_str().unwrap()), "{second:?}");
    assert_eq!(
        daemon
            .ctl()
            .run(["run", "echo", "still here"])
            .expect(0)
            .out(),
        "still here\n"
    );
}

#[test]
fn the_socket_of_a_killed_escherd_is_replaced() {
    let mut first = Daemon::start();
    first.kill();
    assert!(first.home().socket().exists());
    let second = Daemon::builder().home(first.home()).start();
    let _ = second.ctl().run(["run", "true"]).expect(0);
}

#[test]
fn the_socket_and_the_directories_have_the_right_modes() {
    let mode = |path: std::path::PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let daemon = Daemon::start();
    assert_eq!(mode(daemon.home().socket()), 0o660);
    assert_eq!(mode(daemon.home().state()), 0o700);
    // An escherd of root serves others, who may enter the directory of their logs and not list it.
    let of_others = if nix::unistd::geteuid().is_root() {
        0o1
    } else {
        0
    };
    assert_eq!(mode(daemon.home().logs()), 0o750 | of_others);
    assert_eq!(mode(daemon.home().exits()), 0o700);
    let id = daemon.ctl().submit(["echo", "x"]);
    daemon.ctl().wait(id, 0);
    for file in [daemon.home().log(id), daemon.home().index(id)] {
        assert_eq!(mode(file) & 0o137, 0, "nobody else may read it");
    }
    let open = Daemon::with_config("[daemon]\nsocket_mode = \"0600\"\n");
    assert_eq!(mode(open.home().socket()), 0o600);
}

#[test]
fn unknown_options_give_exit_status_2() {
    let mut command = Command::new(escherd());
    command.arg("--no-such-flag");
    assert!(
        run_program(command)
            .expect(2)
            .err()
            .contains("--no-such-flag")
    );
}

#[test]
fn a_missing_launcher_is_named() {
    let home = Home::new();
    let mut arguments = home.arguments();
    // The last one is the launcher.
    *arguments.last_mut().unwrap() = "/no/such/launcher".into();
    let mut command = Command::new(escherd());
    command.args(arguments).args(["--config", "/dev/null"]);
    let ended = run_program(command);
    assert_ne!(ended.code, 0);
    assert!(ended.err().contains("/no/such/launcher"), "{ended:?}");
}

#[test]
fn info_describes_the_daemon() {
    let daemon = Daemon::with_config("[execution]\nmax_concurrent_executions = 7\n");
    in_runtime(async {
        let info = connect(&daemon).await.info().await.unwrap();
        assert_eq!(info.pid, daemon.pid().as_raw().unsigned_abs());
        assert_eq!(info.max_concurrent_executions, 7);
        assert_eq!(info.uid, nix::unistd::geteuid().as_raw());
        assert!(info.launcher_pid.is_some());
        assert_eq!(
            &*info.log_dir,
            daemon.home().logs().as_os_str().as_encoded_bytes()
        );
    });
}

/// Commands stay in the cgroup of the test, so there is none to clean up.
#[test]
fn without_a_keeper_no_cgroup_is_created() {
    let daemon = Daemon::start();
    let seen = daemon
        .ctl()
        .run(["run", "cat", "/proc/self/cgroup"])
        .expect(0);
    assert_eq!(seen.out(), fs::read_to_string("/proc/self/cgroup").unwrap());
}

#[test]
fn the_temporary_directory_is_removed() {
    let daemon = Daemon::start();
    let path = daemon.home().path().to_owned();
    let _ = daemon.ctl().run(["run", "echo", "x"]).expect(0);
    assert_eq!(daemon.stop(), Exit::Code(0));
    assert!(!path.exists());
}

/// Waits for a notification to systemd that contains `part`.
fn await_notification(daemon: &Daemon, part: &str) -> String {
    loop {
        let notification = daemon.next_notification();
        if notification.contains(part) {
            return notification;
        }
    }
}

#[test]
fn systemd_is_notified_of_the_number_of_executions() {
    let daemon = Daemon::builder()
        .config("[execution]\nmax_concurrent_executions = 1\n")
        .keep_notifications()
        .start();
    await_notification(&daemon, "STATUS=serving: 0 running, 0 waiting, 0 finished");
    let gate = daemon.home().fifo("gate");
    let script = format!("read line < {}", gate.name());
    let first = daemon.ctl().submit(["sh", "-c", &script]).to_string();
    let second = daemon.ctl().submit(["true"]).to_string();
    await_notification(&daemon, "STATUS=serving: 1 running, 1 waiting, 0 finished");
    gate.write_line("go");
    let _ = daemon.ctl().run(["wait", &first, &second]).expect(0);
    await_notification(&daemon, "STATUS=serving: 0 running, 0 waiting, 2 finished");
}

#[test]
fn the_watchdog_of_systemd_is_notified_again_and_again() {
    let daemon = Daemon::builder()
        .env("WATCHDOG_USEC", "200000")
        .keep_notifications()
        .start();
    for _ in 0..3 {
        await_notification(&daemon, "WATCHDOG=1");
    }
}

#[test]
fn systemd_is_notified_of_reload_and_stop() {
    let mut daemon = Daemon::builder().keep_notifications().start();
    nix::sys::signal::kill(daemon.pid(), nix::sys::signal::Signal::SIGHUP).unwrap();
    let reloading = await_notification(&daemon, "RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    await_notification(&daemon, "READY=1");
    assert_eq!(daemon.terminate(), Exit::Code(0));
    await_notification(&daemon, "STOPPING=1");
}

#[test]
fn a_stop_that_cancels_says_for_which_commands_it_waits() {
    let mut daemon = Daemon::builder().keep_notifications().start();
    let up = daemon.home().fifo("up");
    let script = format!("echo up > {}; exec sleep 1000", up.name());
    let ctl = daemon.ctl();
    let _ = ctl.run(["submit", "--kill-after", "15s", "sh", "-c", &script]);
    assert_eq!(up.read_line(), "up");
    // escherd knows of the start, too.
    await_notification(&daemon, "STATUS=serving: 1 running");
    assert_eq!(daemon.terminate(), Exit::Code(0));
    let status = await_notification(&daemon, "STATUS=ending 1 command; ");
    let status = status.trim_end();
    for part in ["SIGKILL in 15 s at the latest: 1 (", ") sh -c echo up"] {
        assert!(status.contains(part), "{status}");
    }
    assert!(daemon.log().contains("ending 1 command; SIGKILL in 15 s"));
}

#[test]
fn a_kernel_without_a_needed_system_call_is_refused_in_one_sentence() {
    if !require_program("strace", "an old kernel") {
        return;
    }
    let home = Home::new();
    let mut command = Command::new("strace");
    command
        .args(["-f", "-o", "/dev/null"])
        .args(["-e", "trace=close_range"])
        .args(["-e", "inject=close_range:error=ENOSYS"])
        .arg(launcher());
    for (option, directory) in [
        ("--log-dir", home.logs()),
        ("--state-dir", home.state()),
        ("--runtime-dir", home.runtime()),
    ] {
        command.arg(option).arg(directory);
    }
    let ended = run_program(command).expect(1);
    assert_eq!(ended.err().lines().count(), 1, "{ended:?}");
    for part in ["close_range(2)", "Linux 5.11 or newer is needed"] {
        assert!(ended.err().contains(part), "{ended:?}");
    }
}

/// It could be ended by SIGKILL alone.
#[test]
fn an_escherd_that_was_started_with_blocked_signals_can_be_stopped() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut daemon = Daemon::builder().blocked_signals("TERM,INT,HUP").start();
        kill(daemon.pid(), signal).unwrap();
        assert_eq!(daemon.wait_for_exit(), Exit::Code(0));
    }
}

/// Starts an escherd that ends its commands when it stops, and a command with a grace of an hour that writes `term` to
/// the fifo at SIGTERM and goes on.
fn with_stubborn_command(stop_grace: &str) -> (Daemon, Fifo) {
    let config =
        format!("[daemon]\nstop_grace = \"{stop_grace}\"\n[execution]\nmax_kill_grace = \"1h\"\n");
    let daemon = Daemon::with_config(&config);
    let answers = daemon.home().fifo("answers");
    let script = format!(
        "trap 'echo term > {0}' TERM; echo ready > {0}; while :; do sleep 0.1; done",
        answers.name()
    );
    let submit = ["submit", "--kill-after", "1h", "sh", "-c", &script];
    let _ = daemon.ctl().line(submit);
    assert_eq!(answers.read_line(), "ready");
    (daemon, answers)
}

/// How the command has ended, as the next escherd knows it.
fn end_of_command(daemon: &Daemon) -> (Value, Value) {
    let next = Daemon::builder().home(daemon.home()).start();
    let record = next.ctl().inspect("1");
    assert_eq!(record["cancelled_by"], "host", "{record}");
    (record["status"].clone(), record["ended_by_signal"].clone())
}

/// It waited without end for a command with a long grace period.
#[test]
fn a_stop_that_ends_commands_is_bounded() {
    // Whether it has handled SIGTERM when SIGKILL comes is its own affair.
    let (mut daemon, _answers) = with_stubborn_command("500ms");
    assert_eq!(daemon.terminate(), Exit::Code(0));
    assert_eq!(end_of_command(&daemon), ("cancelled".into(), 9.into()));
}

#[test]
fn a_second_sigterm_has_a_stop_kill_the_commands_that_it_ends() {
    let (mut daemon, answers) = with_stubborn_command("1h");
    kill(daemon.pid(), Signal::SIGTERM).unwrap();
    assert_eq!(answers.read_line(), "term");
    assert_eq!(daemon.terminate(), Exit::Code(0));
    assert_eq!(end_of_command(&daemon), ("cancelled".into(), 9.into()));
}
