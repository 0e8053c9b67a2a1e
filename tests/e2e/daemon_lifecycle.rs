//! escherd from its start to its end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use escher_tests::{
    DEADLINE, Daemon, Exit, Home, connect, escherd, in_runtime, is_unlocked, run_program, watch,
};

#[test]
fn sigterm_ends_it_with_0() {
    let mut daemon = Daemon::start();
    assert_eq!(daemon.terminate(), Exit::Code(0));
    assert_eq!(daemon.stop(), Exit::Code(0));
}

#[test]
fn sigterm_ends_it_with_0_also_with_clients_that_wait_and_follow() {
    let mut daemon = Daemon::builder().leave_commands().start();
    let ready = daemon.home().fifo("ready");
    let script = format!("echo ready > {}; exec sleep 3", ready.name());
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
}

#[test]
fn leave_lets_commands_live_on() {
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
fn cancel_ends_commands_first() {
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
    let _ = daemon
        .ctl()
        .run(["wait".to_owned(), queued.to_string()])
        .expect(0);
    assert_eq!(daemon.terminate(), Exit::Code(0));
    assert!(
        is_unlocked(&lock),
        "the ladder was run before escherd ended"
    );
    let ended = run.wait();
    assert!([125, 137].contains(&ended.code), "{ended:?}");
}

#[test]
fn a_socket_that_is_handed_over_is_served() {
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
fn a_second_escherd_on_the_same_folders_is_refused_and_harms_nothing() {
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
fn a_socket_left_by_one_that_was_killed_is_replaced() {
    let mut first = Daemon::start();
    first.kill();
    assert!(first.home().socket().exists());
    let second = Daemon::builder().home(first.home()).start();
    let _ = second.ctl().run(["run", "true"]).expect(0);
}

#[test]
fn the_socket_and_the_folders_have_the_right_modes() {
    let mode = |path: std::path::PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let daemon = Daemon::start();
    assert_eq!(mode(daemon.home().socket()), 0o660);
    assert_eq!(mode(daemon.home().state()), 0o700);
    assert_eq!(mode(daemon.home().logs()), 0o750);
    assert_eq!(mode(daemon.home().exits()), 0o700);
    let id = daemon.ctl().submit(["echo", "x"]);
    let _ = daemon
        .ctl()
        .run(["wait".to_owned(), id.to_string()])
        .expect(0);
    for file in [daemon.home().log(id), daemon.home().index(id)] {
        assert_eq!(mode(file) & 0o137, 0, "nobody else may read it");
    }
    let open = Daemon::with_config("[daemon]\nsocket_mode = \"0600\"\n");
    assert_eq!(mode(open.home().socket()), 0o600);
}

#[test]
fn wrong_arguments_give_2() {
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
fn a_launcher_that_is_not_there_is_named() {
    let home = Home::new();
    let mut arguments = home.arguments();
    // The last one is the launcher.
    *arguments.last_mut().unwrap() = "/no/such/launcher".into();
    let mut command = Command::new(escherd());
    command.args(arguments);
    let ended = run_program(command);
    assert_ne!(ended.code, 0);
    assert!(ended.err().contains("/no/such/launcher"), "{ended:?}");
}

#[test]
fn it_tells_about_itself() {
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

/// Its own control group, as the test's: nothing is made that somebody would have to clean up.
#[test]
fn no_control_group_is_left_anywhere() {
    let daemon = Daemon::start();
    let seen = daemon
        .ctl()
        .run(["run", "cat", "/proc/self/cgroup"])
        .expect(0);
    assert_eq!(seen.out(), fs::read_to_string("/proc/self/cgroup").unwrap());
}

#[test]
fn the_temporary_folder_goes() {
    let daemon = Daemon::start();
    let path = daemon.home().path().to_owned();
    let _ = daemon.ctl().run(["run", "echo", "x"]).expect(0);
    assert_eq!(daemon.stop(), Exit::Code(0));
    assert!(!path.exists());
}

/// Waits until escherd tells systemd something that has `part` in it.
fn hear(daemon: &Daemon, part: &str) -> String {
    loop {
        let notification = daemon.next_notification();
        if notification.contains(part) {
            return notification;
        }
    }
}

#[test]
fn systemd_is_told_how_many_executions_there_are() {
    let daemon = Daemon::builder()
        .config("[execution]\nmax_concurrent_executions = 1\n")
        .keep_notifications()
        .start();
    hear(&daemon, "STATUS=serving: 0 running, 0 waiting, 0 finished");
    let gate = daemon.home().fifo("gate");
    let script = format!("read line < {}", gate.name());
    let first = daemon.ctl().submit(["sh", "-c", &script]).to_string();
    let second = daemon.ctl().submit(["true"]).to_string();
    hear(&daemon, "STATUS=serving: 1 running, 1 waiting, 0 finished");
    gate.write_line("go");
    let _ = daemon.ctl().run(["wait", &first, &second]).expect(0);
    hear(&daemon, "STATUS=serving: 0 running, 0 waiting, 2 finished");
}

#[test]
fn systemd_s_watchdog_hears_from_escherd_again_and_again() {
    let daemon = Daemon::builder()
        .env("WATCHDOG_USEC", "200000")
        .keep_notifications()
        .start();
    for _ in 0..3 {
        hear(&daemon, "WATCHDOG=1");
    }
}

#[test]
fn systemd_is_told_of_a_reload_and_of_its_end() {
    let mut daemon = Daemon::builder().keep_notifications().start();
    nix::sys::signal::kill(daemon.pid(), nix::sys::signal::Signal::SIGHUP).unwrap();
    let reloading = hear(&daemon, "RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    hear(&daemon, "READY=1");
    assert_eq!(daemon.terminate(), Exit::Code(0));
    hear(&daemon, "STOPPING=1");
}
