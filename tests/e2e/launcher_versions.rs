//! escherd with launchers and files of other versions.

use std::fs;
use std::process::Command;

use escher_launcher::ipc::exit_record;
use escher_launcher::ipc::wire::{Abilities, ExitReport, LauncherHello, LauncherReply};
use escher_protocol::{Part, Parts, codec};
use escher_tests::{
    Daemon, Home, Keeper, connect, escherd, in_runtime, run_program, wait_started, watch,
};

/// A later version may change every message but the first.
#[test]
fn a_launcher_of_another_version_is_refused_with_both_versions_named() {
    let home = Home::new();
    let hello = LauncherReply::Hello(Box::new(LauncherHello {
        version: 99,
        pid: 1,
        uid: 0,
        directories: Err("not asked".into()),
        abilities: Abilities::default(),
        parts: Parts::new(),
    }));
    let bytes = codec::encode(&hello).unwrap();
    let octal: String = bytes.iter().map(|byte| format!("\\{byte:03o}")).collect();
    let script = format!("#!/bin/sh\nprintf '{octal}' >&0\nexec cat\n");
    let launcher = home.file("launcher", script, 0o755);
    let mut command = Command::new(escherd());
    command.args(home.arguments_with(launcher));
    command.args(["--config", "/dev/null"]);
    let ended = run_program(command).expect(1);
    for version in ["speaks version 99 of", "escherd version 10\n"] {
        assert!(ended.err().contains(version), "{ended:?}");
    }
}

/// As in an upgrade of the package: the program is replaced, escherd is restarted, and the old keeper goes on until
/// it is reloaded.
#[test]
fn commands_outlive_an_upgrade_of_the_keeper() {
    let Some(keeper) = Keeper::start_or_skip("an upgrade under a keeper") else {
        return;
    };
    let daemon = keeper.daemon().leave_commands().start();
    let home = daemon.home().clone();
    let command = |daemon: &Daemon, name: &str, status: i32| {
        let gate = home.fifo(name);
        let script = format!("read -r line < {}; exit {status}", gate.name());
        let arguments = ["submit", "--name", name, "--shell", &script];
        let id = daemon.ctl().line(arguments).parse().unwrap();
        in_runtime(async {
            let client = connect(daemon).await;
            wait_started(&client, id).await;
        });
        gate
    };
    let (before, later) = (command(&daemon, "before", 3), command(&daemon, "later", 4));
    keeper.replace_program();
    let _ = daemon.stop();
    let daemon = keeper.daemon().start();
    let ctl = daemon.ctl();
    for name in ["before", "later"] {
        assert_eq!(ctl.json(["inspect", name])["status"], "running");
    }
    before.write_line("go");
    ctl.wait("before", 3);
    let new = command(&daemon, "new", 5);
    keeper.reload();
    // More than there are ready shims of the old launcher.
    for _ in 0..10 {
        let _ = ctl.run(["run", "true"]).expect(0);
    }
    for (name, gate, status) in [("later", later, 4), ("new", new, 5)] {
        gate.write_line("go");
        ctl.wait(name, status);
    }
}

/// A result of a later version waits for an escherd that understands it.
#[test]
fn an_exit_record_of_a_later_version_finishes_nothing_and_is_kept() {
    let mut first = Daemon::builder().leave_commands().start();
    let home = first.home().clone();
    let gate = home.fifo("gate");
    let script = format!("read -r line < {}; exit 9", gate.name());
    let id = first.ctl().submit(["sh", "-c", &script]);
    in_runtime(async {
        let client = connect(&first).await;
        wait_started(&client, id).await;
    });
    first.kill();
    gate.write_line("go");
    let path = home.exit_record(id);
    watch::until_exists(&path);
    let report = exit_record::read(&path).unwrap();
    let write = |report: &ExitReport| {
        exit_record::write(fs::File::open(home.exits()).unwrap(), report).unwrap();
    };
    write(&ExitReport {
        parts: Parts::try_from(vec![Part::new(4_711, "later")]).unwrap(),
        ..report.clone()
    });
    let later = fs::read(&path).unwrap();

    let second = Daemon::builder().home(&home).leave_commands().start();
    assert_eq!(second.ctl().inspect(id)["status"], "running");
    assert_eq!(fs::read(&path).unwrap(), later);
    let log = second.log();
    let name = path.display().to_string();
    assert!(log.contains("part 4711") && log.contains(&name), "{log}");
    let _ = second.stop();

    write(&report);
    let third = Daemon::builder().home(&home).leave_commands().start();
    assert_eq!(third.ctl().inspect(id)["exit_code"], 9);
    drop(third);
    drop(first);
}
