//! What systemd and operators see of escher: its watchdog, its journal, its doctor.

use escher_tests::host::Machine;
use serde_json::Value;

use crate::scenario::{main_process, set_going, submit};

/// A watchdog that is less patient than that of the unit.
const IMPATIENT: &str = "[Service]\nWatchdogSec=5";

pub(crate) fn an_escherd_that_hangs_is_started_again_and_nothing_is_lost(machine: &Machine) {
    machine.must(&format!(
        "mkdir -p /run/systemd/system/escherd.service.d
        echo '{IMPATIENT}' > /run/systemd/system/escherd.service.d/watchdog.conf
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

pub(crate) fn the_journal_tells_the_life_of_an_execution(machine: &Machine) {
    let id = submit(machine, "-- sh -c 'exit 3'");
    let _ = machine.run(&format!("escherctl wait {id}")).expect(3);
    // Written by a task of its own: the last word is waited for.
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
    assert_eq!(entries.len(), 3, "taken on, started, over: {entries:#?}");
    for entry in &entries {
        assert_eq!(entry["ESCHER_USER"], "alice", "{entry}");
        assert_eq!(entry["ESCHER_COMMAND"], "sh -c exit 3", "{entry}");
        assert_eq!(entry["_SYSTEMD_UNIT"], "escherd.service", "{entry}");
        assert!(entry["MESSAGE_ID"].is_string(), "{entry}");
    }
    // Each kind of message is explained by the catalog.
    let explained = machine.must(&format!(
        "journalctl --catalog ESCHER_EXECUTION_ID={id} | grep --count 'Subject:'"
    ));
    assert_eq!(explained, "3\n");
}

pub(crate) fn the_doctor_finds_a_fresh_installation_well_and_says_what_is_not(machine: &Machine) {
    let well = machine.run("escherctl --json doctor");
    let well = well.out();
    for line in well.lines() {
        let finding: Value = serde_json::from_str(line).expect(line);
        let severity = finding["severity"].as_str();
        assert!(matches!(severity, Some("ok" | "note")), "{finding}");
    }
    assert!(well.contains("memory") && well.contains("pids"), "{well}");
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
    let id = set_going(machine, "10m", "exit 0");
    machine.must(&format!("escherctl wait {id}"));
    machine.must("escherctl doctor");
}
