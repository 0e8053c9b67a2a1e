//! The launcher and its keeper, killed and stopped.

use escher_tests::host::Machine;

use crate::scenario::{inspect, main_process, start_command};

/// Runs until a file is created.
const UNTIL_FILE_EXISTS: &str = "until [ -e /srv/alice/enough ]; do sleep 0.1; done; exit 7";

/// Where users have the cgroups of their executions.
const CGROUPS: &str = "/sys/fs/cgroup/system.slice/escher-launcher.service";

/// The cgroup of an execution that this user has submitted.
pub(crate) fn cgroup_of(machine: &Machine, user: &str, id: &str) -> String {
    let uid = machine.must(&format!("id --user {user}"));
    let number = &inspect(machine, id)["number"];
    format!("{CGROUPS}/user-{}/{number}-{id}", uid.trim_end())
}

pub(crate) fn a_killed_launcher_is_replaced_and_commands_continue(machine: &Machine) {
    let id = start_command(machine, "10m", UNTIL_FILE_EXISTS);
    let keeper = main_process(machine, "escher-launcher");
    let launcher = launcher(machine);
    machine.must(&format!("kill -KILL {launcher}"));
    // Some ready shims are left. For more commands, another launcher has to fork.
    machine.must(
        "escherctl run -- true; for n in 1 2 3 4 5 6 7 8; do escherctl run -d -- sleep 1; done",
    );
    assert_eq!(main_process(machine, "escher-launcher"), keeper);
    assert_ne!(self::launcher(machine), launcher);
    create_file_and_wait(machine, &id);
}

pub(crate) fn a_killed_keeper_is_restarted_and_commands_keep_their_limits(machine: &Machine) {
    let submit = format!(
        "escherctl submit --timeout 10m -p MemoryMax=64M -p TasksMax=30 -p CPUQuota=50% --shell 'echo up; {UNTIL_FILE_EXISTS}'"
    );
    let id = machine.must(&submit).trim_end().to_owned();
    let mut log = machine.start(&format!("escherctl logs -f {id}"));
    assert_eq!(log.line(), "up");
    let cgroup = cgroup_of(machine, "root", &id);
    let limits = format!("cd {cgroup} && cat memory.max pids.max cpu.max");
    let expected = "67108864\n30\n50000 100000\n";
    assert_eq!(machine.must(&limits), expected);

    let keeper = main_process(machine, "escher-launcher");
    machine.must("systemctl kill --kill-whom main --signal KILL escher-launcher");
    // Waits for the restart, or starts it.
    machine.must("systemctl start escher-launcher");
    assert_ne!(main_process(machine, "escher-launcher"), keeper);
    machine.must("escherctl run -- true");
    assert_eq!(machine.must(&limits), expected, "the limits are set again");
    create_file_and_wait(machine, &id);
}

pub(crate) fn stopping_the_keeper_cancels_all_commands(machine: &Machine) {
    let ids = [
        start_command(machine, "10m", "exec sleep 424242"),
        start_command(machine, "10m", "trap \"exit 0\" TERM; sleep 424242 & wait"),
    ];
    let ignoring = "escherctl submit --timeout 10m --kill-after 1s --shell \
                    'trap \"\" TERM; echo up; while :; do sleep 1; done'";
    let ignoring = machine.must(ignoring).trim_end().to_owned();
    let mut log = machine.start(&format!("escherctl logs -f {ignoring}"));
    assert_eq!(log.line(), "up");
    machine.must("systemctl stop escher-launcher");
    let journal = machine.must("journalctl --unit escher-launcher --lines 20 --output cat");
    assert!(
        journal.contains("ending 3 commands; SIGKILL in "),
        "{journal}"
    );
    assert!(journal.contains(" (root) sleep 424242"), "{journal}");
    for id in ids.iter().chain([&ignoring]) {
        let _ = machine.run(&format!("escherctl wait {id}"));
        let record = inspect(machine, id);
        assert_eq!(record["status"], "cancelled", "{record}");
        assert_eq!(record["cancelled_by"], "host", "{record}");
    }
    machine.must("! pgrep --full '^sleep 424242'; ! pgrep escher-shim");
    assert_eq!(machine.must("systemctl is-active escherd"), "active\n");

    // Commands that are submitted meanwhile wait, also after escherd has restarted without a launcher.
    machine.must("systemctl mask --runtime escher-launcher; systemctl restart escherd");
    assert_eq!(inspect(machine, &ignoring)["status"], "cancelled");
    let pending = machine.must("escherctl submit -- echo at last");
    let pending = pending.trim_end();
    assert!(inspect(machine, pending)["started_at"].is_null());
    machine.must("systemctl unmask --runtime escher-launcher; systemctl start escher-launcher");
    let script = format!("escherctl wait {pending} && escherctl result {pending}");
    assert_eq!(machine.must(&script), "at last\n");
}

/// Has a command exit, and checks its status.
fn create_file_and_wait(machine: &Machine, id: &str) {
    machine.must("touch /srv/alice/enough");
    let _ = machine.run(&format!("escherctl wait {id}")).expect(7);
    assert_eq!(inspect(machine, id)["exit_code"], 7);
    machine.must("rm /srv/alice/enough");
}

/// The process of the present launcher.
fn launcher(machine: &Machine) -> String {
    let keeper = main_process(machine, "escher-launcher");
    machine.must(&format!("pgrep --parent {} escher-launcher", keeper.trim()))
}
