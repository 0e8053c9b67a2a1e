//! The launcher and its keeper, killed and stopped.

use escher_tests::host::Machine;

use crate::scenario::{inspect, main_process, set_going};

/// Goes on until it is told to stop.
const UNTIL_ENOUGH: &str = "until [ -e /srv/alice/enough ]; do sleep 0.1; done; exit 7";

/// Where executions have their cgroups.
pub(crate) const CGROUPS: &str = "/sys/fs/cgroup/system.slice/escher-launcher.service";

pub(crate) fn that_is_killed_is_followed_by_another_and_commands_go_on(machine: &Machine) {
    let id = set_going(machine, "10m", UNTIL_ENOUGH);
    let keeper = main_process(machine, "escher-launcher");
    let launcher = launcher(machine);
    machine.must(&format!("kill -KILL {launcher}"));
    // Ready shims are left of it; beyond these, the next has to fork.
    machine.must(
        "escherctl run -- true; for n in 1 2 3 4 5 6 7 8; do escherctl run -d -- sleep 1; done",
    );
    assert_eq!(main_process(machine, "escher-launcher"), keeper);
    assert_ne!(self::launcher(machine), launcher);
    enough(machine, &id);
}

pub(crate) fn with_a_killed_keeper_is_started_again_and_commands_and_limits_go_on(
    machine: &Machine,
) {
    let submit = format!(
        "escherctl submit --timeout 10m -p MemoryMax=64M -p TasksMax=30 -p CPUQuota=50% --shell 'echo up; {UNTIL_ENOUGH}'"
    );
    let id = machine.must(&submit).trim_end().to_owned();
    let mut log = machine.start(&format!("escherctl logs -f {id}"));
    assert_eq!(log.line(), "up");
    let limits = format!("cd {CGROUPS}/{id} && cat memory.max pids.max cpu.max");
    let expected = "67108864\n30\n50000 100000\n";
    assert_eq!(machine.must(&limits), expected);

    let keeper = main_process(machine, "escher-launcher");
    machine.must("systemctl kill --kill-whom main --signal KILL escher-launcher");
    // Waits for the start that is under way, or makes it.
    machine.must("systemctl start escher-launcher");
    assert_ne!(main_process(machine, "escher-launcher"), keeper);
    machine.must("escherctl run -- true");
    assert_eq!(machine.must(&limits), expected, "limits are there again");
    enough(machine, &id);
}

pub(crate) fn that_is_stopped_ends_everything_and_says_so(machine: &Machine) {
    let ids = [
        set_going(machine, "10m", "exec sleep 424242"),
        set_going(machine, "10m", "trap \"exit 0\" TERM; sleep 424242 & wait"),
    ];
    let stubborn = "escherctl submit --timeout 10m --kill-after 1s --shell \
                    'trap \"\" TERM; echo up; while :; do sleep 1; done'";
    let stubborn = machine.must(stubborn).trim_end().to_owned();
    let mut log = machine.start(&format!("escherctl logs -f {stubborn}"));
    assert_eq!(log.line(), "up");
    machine.must("systemctl stop escher-launcher");
    for id in ids.iter().chain([&stubborn]) {
        let _ = machine.run(&format!("escherctl wait {id}"));
        let record = inspect(machine, id);
        assert_eq!(record["status"], "cancelled", "{record}");
        assert_eq!(record["cancelled_by"], "host", "{record}");
    }
    machine.must("! pgrep --full '^sleep 424242'; ! pgrep escher-shim");
    assert_eq!(machine.must("systemctl is-active escherd"), "active\n");

    // What is asked for meanwhile waits, also under an escherd that finds no launcher.
    machine.must("systemctl mask --runtime escher-launcher; systemctl restart escherd");
    assert_eq!(inspect(machine, &stubborn)["status"], "cancelled");
    let waiting = machine.must("escherctl submit -- echo at last");
    let waiting = waiting.trim_end();
    assert!(inspect(machine, waiting)["started_at"].is_null());
    machine.must("systemctl unmask --runtime escher-launcher; systemctl start escher-launcher");
    let script = format!("escherctl wait {waiting} && escherctl result {waiting}");
    assert_eq!(machine.must(&script), "at last\n");
}

/// Tells a command to stop, and sees that it ends as it should.
fn enough(machine: &Machine, id: &str) {
    machine.must("touch /srv/alice/enough");
    let _ = machine.run(&format!("escherctl wait {id}")).expect(7);
    assert_eq!(inspect(machine, id)["exit_code"], 7);
    machine.must("rm /srv/alice/enough");
}

/// The launcher's process, whichever it is when there is one.
fn launcher(machine: &Machine) -> String {
    let keeper = main_process(machine, "escher-launcher");
    machine.must(&format!("pgrep --parent {} escher-launcher", keeper.trim()))
}
