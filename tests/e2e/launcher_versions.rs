//! escherd beside launchers and files of other versions.

use std::fs;
use std::process::Command;

use escher_launcher::ipc::exit_record;
use escher_launcher::ipc::wire::{Abilities, ExitReport, Hello, LauncherReply};
use escher_protocol::{Part, Parts, codec};
use escher_tests::{
    DEADLINE, Daemon, Fifo, Home, Keeper, connect, escherd, finish, in_runtime, wait_started, watch,
};

/// A later version may change every message but the first.
#[test]
fn a_launcher_of_another_version_is_refused_with_both_versions_named() {
    let home = Home::new();
    let hello = LauncherReply::Hello(Hello {
        version: 99,
        pid: 1,
        uid: 0,
        abilities: Abilities::default(),
        parts: Parts::new(),
    });
    let bytes = codec::encode(&hello).unwrap();
    let octal: String = bytes.iter().map(|byte| format!("\\{byte:03o}")).collect();
    let script = format!("#!/bin/sh\nprintf '{octal}' >&0\nexec cat\n");
    let launcher = home.file("launcher", script, 0o755);
    let mut command = Command::new(escherd());
    command.args(home.arguments_with(launcher));
    let ended = finish(command).expect(1);
    for version in ["speaks version 99 of", "escherd version 10\n"] {
        assert!(ended.err().contains(version), "{ended:?}");
    }
}

/// As an upgrade of the package: new files, a new escherd, and the keeper that was there goes on until it is
/// reloaded.
#[test]
fn commands_under_the_keeper_of_before_outlive_an_upgrade() {
    let Some(keeper) = Keeper::for_testing("an upgrade under a keeper") else {
        return;
    };
    let daemon = keeper.daemon().leaving_commands().start();
    let home = daemon.home().clone();
    let command = |daemon: &Daemon, name: &str, status: i32| {
        let (up, gate) = (
            Fifo::new(&home, &format!("{name}-up")),
            Fifo::new(&home, name),
        );
        let script = format!(
            "echo up > {}; read -r line < {}; exit {status}",
            up.name(),
            gate.name()
        );
        let _ = daemon
            .ctl()
            .run(["submit", "--name", name, "--shell", &script])
            .expect(0);
        assert_eq!(up.hear(), "up");
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
    before.say("go");
    let _ = ctl.run(["wait", "before"]).expect(3);
    let new = command(&daemon, "new", 5);
    keeper.reload();
    // More than there were ready shims of the launcher of before.
    for _ in 0..10 {
        let _ = ctl.run(["run", "true"]).expect(0);
    }
    for (name, gate, status) in [("later", later, 4), ("new", new, 5)] {
        gate.say("go");
        let _ = ctl.run(["wait", name]).expect(status);
    }
}

/// A result of a later version is neither guessed nor lost: it waits for an escherd that understands it.
#[test]
fn an_exit_record_that_is_not_understood_finishes_nothing_and_stays() {
    let mut first = Daemon::builder().leaving_commands().start();
    let home = first.home().clone();
    let gate = Fifo::new(&home, "gate");
    let script = format!("read -r line < {}; exit 9", gate.name());
    let id = first.ctl().submit(["sh", "-c", &script]);
    in_runtime(async {
        let client = connect(&first).await;
        wait_started(&client, id).await;
    });
    first.kill();
    gate.say("go");
    let path = home.exit_record(id);
    watch::until_exists(&path, DEADLINE);
    let report = exit_record::read(&path).unwrap();
    let write = |report: &ExitReport| {
        exit_record::write(fs::File::open(home.exits()).unwrap(), report).unwrap();
    };
    write(&ExitReport {
        parts: Parts::try_from(vec![Part::new(4_711, "later")]).unwrap(),
        ..report.clone()
    });
    let not_understood = fs::read(&path).unwrap();

    let second = Daemon::builder().home(&home).leaving_commands().start();
    assert_eq!(second.ctl().inspect(id)["status"], "running");
    assert_eq!(fs::read(&path).unwrap(), not_understood);
    let log = second.log();
    let name = path.display().to_string();
    assert!(log.contains("part 4711") && log.contains(&name), "{log}");
    let _ = second.stop();

    write(&report);
    let third = Daemon::builder().home(&home).leaving_commands().start();
    assert_eq!(third.ctl().inspect(id)["exit_code"], 9);
    drop(third);
    drop(first);
}
