//! Entries about executions in the journal.

use std::collections::BTreeMap;
use std::sync::Arc;

use escher_tests::{Daemon, Exit, Home, Journal, require_root};
use nix::sys::signal::{Signal, kill};

/// Waits for the entries about `id`, up to the one with this text.
fn entries_until(journal: &Journal, id: &str, text: &str) -> Vec<BTreeMap<String, String>> {
    let mut entries = Vec::new();
    loop {
        let entry = journal.next_entry();
        if entry.get("ESCHER_EXECUTION_ID").is_some_and(|it| it == id) {
            let is_last = entry["MESSAGE"].contains(text);
            entries.push(entry);
            if is_last {
                return entries;
            }
        }
    }
}

#[test]
fn each_step_of_an_execution_has_an_entry_with_fields() {
    if !require_root("the journal") {
        return;
    }
    let home = Arc::new(Home::new());
    let journal = Journal::new(&home);
    let builder = Daemon::builder().home(&home).journal(&journal);
    let daemon = builder
        .env("ESCHER_LOG", "info,escherd::journal=debug")
        .start();
    let ctl = daemon.ctl();
    let id = ctl.submit(["sh", "-c", "echo up; exec sleep 1000"]);
    let id = id.to_string();
    // The command may run before escherd hears of it.
    let mut entries = entries_until(&journal, &id, " has started: ");
    let _ = ctl.run(["cancel", &id]).expect(0);
    entries.extend(entries_until(&journal, &id, " has finished, "));
    let message = |entry: &BTreeMap<String, String>| entry["MESSAGE"].clone();
    let messages: Vec<String> = entries.iter().map(message).collect();
    for (message, part) in messages.iter().zip([
        "execution 1 of root was submitted: sh -c echo up",
        "execution 1 of root has started: sh -c echo up",
        "root cancels execution 1 of root: sh -c",
        "execution 1 of root has finished, cancelled (cancelled by root): sh -c",
    ]) {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
    let statuses: Vec<&str> = entries
        .iter()
        .map(|entry| entry["ESCHER_STATUS"].as_str())
        .collect();
    assert_eq!(statuses, ["pending", "running", "running", "cancelled"]);
    let priorities: Vec<&str> = entries
        .iter()
        .map(|entry| entry["PRIORITY"].as_str())
        .collect();
    assert_eq!(priorities, ["7", "7", "6", "6"], "debug, informational");
    let catalog = include_str!("../../systemd/escher.catalog");
    for entry in &entries {
        assert_eq!(entry["ESCHER_EXECUTION_NUMBER"], "1");
        assert_eq!(entry["ESCHER_USER"], "root");
        assert!(entry["ESCHER_COMMAND"].starts_with("sh -c echo up"));
        assert_eq!(entry["SYSLOG_IDENTIFIER"], "escherd");
        assert!(catalog.contains(&format!("-- {}\n", entry["MESSAGE_ID"])));
    }
}

/// Waits for an entry whose message contains this text.
fn entry_with(journal: &Journal, text: &str) -> BTreeMap<String, String> {
    loop {
        let entry = journal.next_entry();
        if entry["MESSAGE"].contains(text) {
            return entry;
        }
    }
}

#[test]
fn a_command_has_one_entry_and_that_is_a_warning_if_it_failed() {
    if !require_root("one entry per command in the journal") {
        return;
    }
    let home = Arc::new(Home::new());
    let journal = Journal::new(&home);
    let daemon = Daemon::builder().home(&home).journal(&journal).start();
    let ctl = daemon.ctl();
    let _ = ctl.run(["run", "true"]).expect(0);
    let _ = ctl.run(["run", "sh", "-c", "exit 3"]).expect(3);
    let _ = ctl
        .run(["run", "--timeout", "10ms", "sleep", "1000"])
        .expect(124);
    let mut entries = Vec::new();
    while entries.len() < 3 {
        let entry = journal.next_entry();
        if entry.contains_key("ESCHER_EXECUTION_ID") {
            entries.push((entry["PRIORITY"].clone(), entry["MESSAGE"].clone()));
        }
    }
    for ((priority, message), (expected, part)) in entries.iter().zip([
        ("6", "execution 1 of root has finished, completed: true"),
        (
            "4",
            "execution 2 of root has finished, failed (exited with status 3): sh -c exit 3",
        ),
        ("4", "execution 3 of root has finished, timeout"),
    ]) {
        assert_eq!(priority, expected, "{message}");
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

#[test]
fn a_signal_has_an_entry_that_says_who_has_sent_it() {
    if !require_root("signals in the journal") {
        return;
    }
    let home = Arc::new(Home::new());
    let journal = Journal::new(&home);
    let daemon = Daemon::builder().home(&home).journal(&journal).start();
    let up = home.fifo("up");
    let script = format!(
        "trap 'exit 3' USR1; echo up > {}; sleep 1000 & wait",
        up.name()
    );
    let id = daemon.ctl().submit(["sh", "-c", &script]).to_string();
    assert_eq!(up.read_line(), "up");
    let _ = daemon.ctl().run(["kill", "-s", "USR1", &id]).expect(0);
    let entry = entry_with(&journal, " has sent SIGUSR1 to ");
    let message = &entry["MESSAGE"];
    let expected = "root has sent SIGUSR1 to execution 1 of root: sh -c trap";
    assert!(message.starts_with(expected), "{message}");
    assert_eq!(entry["ESCHER_EXECUTION_ID"], id);
    let catalog = include_str!("../../systemd/escher.catalog");
    assert!(catalog.contains(&format!("-- {}\n", entry["MESSAGE_ID"])));
}

#[test]
fn the_reason_of_a_warning_is_in_its_message() {
    if !require_root("reasons in the journal") {
        return;
    }
    let home = Arc::new(Home::new());
    let journal = Journal::new(&home);
    let config = format!(
        "[daemon]\nlauncher_socket = {:?}\n",
        home.path().join("none")
    );
    let builder = Daemon::builder().home(&home).journal(&journal);
    let _daemon = builder.config(&config).start();
    let entry = entry_with(&journal, "there is no launcher; commands wait");
    let message = &entry["MESSAGE"];
    assert!(
        message.contains("commands wait: there is no launcher at /"),
        "{message}"
    );
    assert!(message.contains("No such file or directory"), "{message}");
    assert_eq!(
        (&*entry["PRIORITY"], &*entry["SYSLOG_IDENTIFIER"]),
        ("3", "escherd")
    );
}

#[test]
fn each_fault_at_a_reload_has_an_entry_and_the_status_has_the_first() {
    if !require_root("a faulty reload in the journal") {
        return;
    }
    let home = Arc::new(Home::new());
    let journal = Journal::new(&home);
    let builder = Daemon::builder().home(&home).journal(&journal);
    let daemon = builder.keep_notifications().start();
    let config = home.path().join("escher.toml");
    std::fs::write(&config, "[execution]\nfirst = 1\nsecond = 2\n").unwrap();
    kill(daemon.pid(), Signal::SIGHUP).unwrap();
    let entry = entry_with(&journal, "reload failed");
    assert_eq!(entry["PRIORITY"], "4", "{entry:?}");
    for line in ["escher.toml:2: ", "escher.toml:3: "] {
        let entry = journal.next_entry();
        assert!(entry["MESSAGE"].contains(line), "{entry:?}");
        assert_eq!(entry["PRIORITY"], "4", "{entry:?}");
    }
    let await_status = |part: &str, is_there: bool| loop {
        let notification = daemon.next_notification();
        if let Some(status) = notification.strip_prefix("STATUS=")
            && status.contains(part) == is_there
        {
            return status.to_owned();
        }
    };
    let status = await_status("; reload failed: ", true);
    assert!(
        status.contains("escher.toml:2: ") && status.contains("(and 1 more)"),
        "{status}"
    );
    // A reload of the corrected file clears it.
    std::fs::write(&config, "").unwrap();
    kill(daemon.pid(), Signal::SIGHUP).unwrap();
    await_status("reload failed", false);
}

#[test]
fn after_a_restart_only_new_steps_have_entries() {
    if !require_root("the journal") {
        return;
    }
    let home = Arc::new(Home::new());
    let gate = home.fifo("gate");
    let mut first = Daemon::builder().home(&home).leave_commands().start();
    let script = format!("read line < {}", gate.name());
    let id = first.ctl().submit(["sh", "-c", &script]).to_string();
    let finished = first.ctl().submit(["true"]).to_string();
    first.ctl().wait(&finished, 0);
    assert_eq!(first.terminate(), Exit::Code(0));

    let journal = Journal::new(&home);
    let _second = Daemon::builder().home(&home).journal(&journal).start();
    gate.write_line("go");
    let entries = entries_until(&journal, &id, " has finished, ");
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert!(entries[0]["MESSAGE"].contains("has finished, completed: sh -c read line"));
}
