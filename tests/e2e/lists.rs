//! `ps` and its filters, and the verbs that act on what a filter selects.

use std::process::Stdio;

use escher_tests::{DEADLINE, Daemon, FinishedProgram, RunningProgram, Terminal};

use crate::interrupts::with_env;

/// A daemon with three finished executions: 1 has exited with 0, 2 with 3, and SIGKILL has ended 3.
fn daemon_with_history() -> Daemon {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    let run = |arguments: &[&str], status| {
        let _ = ctl.run([&["run"], arguments].concat()).expect(status);
    };
    run(&["--name", "nightly-backup", "-l", "team=web", "true"], 0);
    run(
        &["--name", "nightly-report", "--shell", "echo report; exit 3"],
        3,
    );
    run(&["-l", "team=db", "--shell", "kill -9 $$"], 137);
    daemon
}

#[test]
fn filters_match_patterns_exit_statuses_and_what_is_excluded() {
    let daemon = daemon_with_history();
    let listed = |filters: &[&str]| {
        let mut arguments = vec!["ps", "-a", "--columns=number", "--format=csv"];
        arguments.extend(filters.iter().flat_map(|filter| ["--filter", *filter]));
        let ended = daemon.ctl().run(arguments).expect(0);
        let numbers: Vec<String> = ended.out().lines().skip(1).map(str::to_owned).collect();
        numbers.join(" ")
    };
    for (filters, expected) in [
        (&["name=nightly-*"][..], "2 1"),
        (&["name=nightly-*", "exit!=0"], "2"),
        (&["name!=nightly-*"], "3"),
        (&["exit=0"], "1"),
        (&["exit=3", "exit=137"], "3 2"),
        (&["status!=completed"], "3 2"),
        (&["command=*report*"], "2"),
        (&["command!=*report*", "label.team=?eb"], "1"),
        (&["label.team=web", "label.team=db"], "3 1"),
        (&["label.team!=web"], "3 2"),
        (&["user=root*", "name=none"], ""),
    ] {
        assert_eq!(listed(filters), expected, "{filters:?}");
    }
}

/// A typing error in a user's name looked like a user who has no executions.
#[test]
fn an_unknown_user_in_a_filter_is_an_error() {
    let daemon = daemon_with_history();
    for arguments in [
        &["ps", "--filter", "user=no-such-user"][..],
        &["ps", "-a", "--filter", "user!=no-such-user"],
        &["prune", "--filter", "user!=no-such-user"],
    ] {
        let refused = daemon.ctl().run(arguments).expect(1);
        let expected = "there is no user \"no-such-user\" on this host";
        assert!(refused.err().contains(expected), "{refused:?}");
    }
    let _ = daemon
        .ctl()
        .run(["ps", "--filter", "user=4294967000"])
        .expect(0);
    let left = daemon.ctl().json_lines(["ps", "-a"]);
    assert_eq!(left.len(), 3);
}

#[test]
fn rm_and_prune_take_what_a_filter_selects() {
    let daemon = daemon_with_history();
    let ctl = daemon.ctl();
    let counted = ctl.run(["prune", "--dry-run", "--filter", "name=nightly-*"]);
    let expected = "would remove 2 executions, 7 bytes of logs\n";
    assert_eq!(counted.expect(0).out(), expected);
    assert_eq!(ctl.json_lines(["ps", "-a"]).len(), 3);
    let removed = ctl.run(["rm", "--filter", "exit=3"]).expect(0);
    assert_eq!(removed.out(), "2\n");
    let nothing = ctl.run(["rm", "--filter", "exit=3"]).expect(0);
    assert_eq!((nothing.out(), nothing.err()), ("", ""));
    // Without a terminal nobody is asked.
    let pruned = ctl.run(["prune", "--filter", "label.team=*"]).expect(0);
    assert_eq!(pruned.out(), "removed 2 executions, 0 bytes of logs\n");
}

#[test]
fn cancel_may_begin_with_another_signal() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    let gate = daemon.home().fifo("gate");
    let script = format!(
        "trap 'exit 7' INT; echo ready > {}; sleep 600 & wait",
        gate.name()
    );
    let id = ctl.submit(["--name", "patient", "--shell", &script]);
    assert_eq!(gate.read_line(), "ready");
    let ended = ctl
        .run(["cancel", "--signal", "INT", "--filter", "name=pat*"])
        .expect(0);
    assert_eq!(ended.out(), "1: ending\n");
    let _ = ctl.run(["wait", &id.to_string()]);
    let record = ctl.inspect(id);
    assert_eq!(record["status"], "cancelled");
    assert_eq!(record["exit_code"], 7);
    let refused = ctl.run(["cancel", "--signal", "99", "1"]).expect(2);
    assert!(
        refused.err().contains("name or number of a signal"),
        "{refused:?}"
    );
}

/// Runs escherctl at a terminal that is this wide.
fn at_terminal(daemon: &Daemon, columns: u16, arguments: &[&str]) -> String {
    let set_width = format!("stty cols {columns} < /dev/stdout; exec \"$@\"");
    let options = ["LC_ALL=C.UTF-8", "sh", "-c", &set_width, "sh"];
    let mut command = with_env(&daemon.ctl(), &options, []);
    command.args(arguments);
    let terminal = Terminal::open();
    command
        .stdin(Stdio::null())
        .stdout(terminal.for_program())
        .stderr(terminal.for_program());
    let running = RunningProgram::spawn_unpiped(command, DEADLINE);
    let _: FinishedProgram = running.wait().expect(0);
    terminal.read_to_end()
}

/// The header was broken at 60 columns.
#[test]
fn a_narrow_terminal_has_fewer_columns_and_one_line_for_each_execution() {
    let daemon = daemon_with_history();
    let list = ["ps", "-a", "--color=never"];
    for (columns, expected) in [
        (60, "NUMBER  NAME       STATUS     EXIT     AGE  COMMAND"),
        (
            100,
            "NUMBER  ID        NAME            STATUS     EXIT     AGE  TIME",
        ),
    ] {
        let shown = at_terminal(&daemon, columns, &list);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines.len(), 4, "{shown}");
        assert!(lines[0].starts_with(expected), "{shown}");
        for line in lines {
            assert!(line.chars().count() <= columns.into(), "{line}");
        }
    }
    let coloured = at_terminal(&daemon, 100, &["ps", "-a"]);
    assert!(coloured.contains("\x1b["), "{coloured:?}");
}

#[test]
fn prune_asks_at_a_terminal_and_says_how_much_it_would_remove() {
    let daemon = daemon_with_history();
    for (answer, status, left) in [("n", 1, 3), ("", 1, 3), ("y", 0, 0)] {
        let mut terminal = Terminal::open();
        let mut command = with_env(&daemon.ctl(), &[], ["prune"]);
        command
            .stdin(terminal.for_program())
            .stdout(terminal.for_program())
            .stderr(terminal.for_program());
        let running = RunningProgram::spawn_unpiped(command, DEADLINE);
        terminal.wait_for("remove 3 executions, 7 bytes of logs? [y/N] ");
        terminal.type_line(answer);
        let _ = running.wait().expect(status);
        assert_eq!(daemon.ctl().json_lines(["ps", "-a"]).len(), left);
    }
}
