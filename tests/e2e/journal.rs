//! Entries about executions in the journal.

use std::collections::BTreeMap;
use std::sync::Arc;

use escher_tests::{Daemon, Exit, Home, Journal, require_root};

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
    let daemon = Daemon::builder().home(&home).journal(&journal).start();
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
    let catalog = include_str!("../../systemd/escher.catalog");
    for entry in &entries {
        assert_eq!(entry["ESCHER_EXECUTION_NUMBER"], "1");
        assert_eq!(entry["ESCHER_USER"], "root");
        assert!(entry["ESCHER_COMMAND"].starts_with("sh -c echo up"));
        assert_eq!(entry["SYSLOG_IDENTIFIER"], "escherd");
        assert_eq!(entry["PRIORITY"], "6", "informational");
        assert!(catalog.contains(&format!("-- {}\n", entry["MESSAGE_ID"])));
    }
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
