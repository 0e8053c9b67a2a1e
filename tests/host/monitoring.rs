//! Watchdog, journal and doctor.

use escher_tests::host::Machine;
use serde_json::Value;

use crate::scenario::{main_process, start_command, submit};

/// A drop-in with a shorter watchdog timeout than that of the unit.
const SHORT_WATCHDOG: &str = "[Service]\nWatchdogSec=5";

pub(crate) fn the_watchdog_restarts_a_hanging_escherd_and_nothing_is_lost(machine: &Machine) {
    machine.must(&format!(
        "mkdir -p /run/systemd/system/escherd.service.d
        echo '{SHORT_WATCHDOG}' > /run/systemd/system/escherd.service.d/watchdog.conf
        systemctl daemon-reload; systemctl restart escherd"
    ));
    let mut run = machine.start_as(
        "alice",
        "escherctl run --timeout 10m --shell \
         'echo up; until [ -e /srv/alice/enough ]; do sleep 0.1; done; echo whole; exit 7'",
    );
    assert_eq!(run.line(), "up");
    let mut journal =
        machine.start("journalctl --unit escherd --follow --lines 0 | grep --line-buffered --max-count 1 -i watchdog");
    let hanging = main_process(machine, "escherd");
    machine.must("systemctl kill --kill-whom main --signal STOP escherd");
    let _ = journal.line();
    machine.must("touch /srv/alice/enough");
    let ended = run.wait().expect(7);
    assert_eq!(ended.out(), "up\nwhole\n");
    assert_ne!(main_process(machine, "escherd"), hanging);
    machine.must(
        "rm -r /srv/alice/enough /run/systemd/system/escherd.service.d
        systemctl daemon-reload; systemctl restart escherd",
    );
}

pub(crate) fn the_journal_has_the_end_of_an_execution(machine: &Machine) {
    let id = submit(machine, "-- sh -c 'exit 3'");
    let _ = machine.run(&format!("escherctl wait {id}")).expect(3);
    // They are written asynchronously: wait for the last one.
    machine.must(&format!(
        "journalctl --follow --lines all ESCHER_EXECUTION_ID={id} | grep --max-count 1 failed"
    ));
    let entries = machine.must(&format!(
        "journalctl --output json ESCHER_EXECUTION_ID={id}"
    ));
    let entries: Vec<Value> = entries
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    assert_eq!(entries.len(), 1, "its end alone: {entries:#?}");
    assert_eq!(entries[0]["PRIORITY"], "4", "it has failed: {entries:#?}");
    for entry in &entries {
        assert_eq!(entry["ESCHER_USER"], "alice", "{entry}");
        assert_eq!(entry["ESCHER_COMMAND"], "sh -c exit 3", "{entry}");
        assert_eq!(entry["_SYSTEMD_UNIT"], "escherd.service", "{entry}");
        assert!(entry["MESSAGE_ID"].is_string(), "{entry}");
    }
    // The catalog explains each kind of message.
    let explained = machine.must(&format!(
        "journalctl --catalog ESCHER_EXECUTION_ID={id} | grep --count 'Subject:'"
    ));
    assert_eq!(explained, "1\n");
}

pub(crate) fn the_doctor_accepts_a_fresh_installation_and_reports_problems(machine: &Machine) {
    let healthy = machine.run("escherctl --json doctor");
    let healthy = healthy.out();
    for line in healthy.lines() {
        let diagnostic: Value = serde_json::from_str(line).expect(line);
        let severity = diagnostic["severity"].as_str();
        assert!(matches!(severity, Some("ok" | "note")), "{diagnostic}");
    }
    assert!(
        healthy.contains("memory") && healthy.contains("pids"),
        "{healthy}"
    );
    let _ = machine.run_as("alice", "escherctl doctor").expect(0);

    let ended = machine.run_as("carol", "escherctl doctor").expect(1);
    assert!(
        ended.out().contains("usermod -aG escher carol"),
        "{ended:?}"
    );

    machine.must("systemctl stop escher-launcher");
    let ended = machine.run("escherctl doctor").expect(1);
    assert!(ended.out().contains("escher-launcher"), "{ended:?}");
    machine.must("systemctl stop escherd.socket escherd");
    let ended = machine.run("escherctl doctor").expect(1);
    let advice = "systemctl enable --now escherd.socket";
    assert!(ended.out().contains(advice), "{ended:?}");
    machine.must("systemctl start escher-launcher escherd.socket escherd");
    let id = start_command(machine, "10m", "exit 0");
    machine.must(&format!("escherctl wait {id}"));
    machine.must("escherctl doctor");
}
