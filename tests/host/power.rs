//! A reboot and a power cut.

use std::collections::{BTreeMap, BTreeSet};

use escher_tests::host::{Machine, Task};
use serde_json::Value;

use crate::scenario::{configure, inspect, start_command};

/// Number of clients that put the machine under load.
const CLIENTS: usize = 3;

/// How many commands run at once under load.
const SLOTS: usize = 2;

/// How many commands of each client have to complete before the power is cut.
const COMPLETED_PER_CLIENT: usize = 15;

/// Submits one command after another, and prints what was acknowledged.
const CLIENT_SCRIPT: &str = "while id=$(escherctl submit true); do
    echo submitted $id
    escherctl wait $id && echo completed $id
done";

/// Runs until it is ended.
const SLEEP: &str = "exec sleep 500";

/// A running and a pending command at the time of a reboot.
pub(crate) struct CommandsAtReboot {
    running: String,
    pending: String,
}

/// The load of a machine.
pub(crate) struct Load {
    running: String,
    clients: Vec<Task>,
}

/// Submits both kinds of commands.
pub(crate) fn prepare_reboot(machine: &Machine) -> CommandsAtReboot {
    configure_limit(machine, 1);
    let running = start_command(machine, "10m", SLEEP);
    let pending = machine.must("escherctl submit echo at last");
    let pending = pending.trim_end().to_owned();
    assert_eq!(inspect(machine, &pending)["status"], "pending");
    CommandsAtReboot { running, pending }
}

pub(crate) fn a_reboot_cancels_running_commands_and_starts_pending_ones(
    machine: &Machine,
    commands: &CommandsAtReboot,
) {
    let record = inspect(machine, &commands.running);
    assert_eq!(record["status"], "cancelled", "{record}");
    assert_eq!(record["cancelled_by"], "host", "{record}");
    let pending = &commands.pending;
    let script = format!("escherctl wait {pending} && escherctl result {pending}");
    assert_eq!(machine.must(&script), "at last\n");
}

/// Starts a long command, and clients that run short ones.
pub(crate) fn put_under_load(machine: &Machine) -> Load {
    configure_limit(machine, SLOTS);
    let running = start_command(machine, "10m", SLEEP);
    let mut clients: Vec<Task> = (0..CLIENTS)
        .map(|_| machine.start_as("alice", CLIENT_SCRIPT))
        .collect();
    for client in &mut clients {
        let mut completed = 0;
        while completed < COMPLETED_PER_CLIENT {
            completed += usize::from(client.line().starts_with("completed"));
        }
    }
    Load { running, clients }
}

/// `load` is that of a machine whose power was cut; `machine` has booted from its disk.
pub(crate) fn acknowledged_executions_survive_a_power_cut(machine: &Machine, load: Load) {
    let running = inspect(machine, &load.running);
    assert_eq!(running["status"], "lost", "{running}");
    let acknowledged: String = load
        .clients
        .into_iter()
        .map(Task::output_until_stop)
        .collect();
    let ids_after = |word: &str| -> BTreeSet<&str> {
        acknowledged
            .lines()
            .filter_map(|line| line.strip_prefix(word))
            .collect()
    };
    let (submitted, completed) = (ids_after("submitted "), ids_after("completed "));
    assert!(completed.len() >= CLIENTS * COMPLETED_PER_CLIENT);

    // Pending ones run now.
    let ids: Vec<&str> = submitted.iter().copied().collect();
    let _ = machine.run(&format!("escherctl wait {}", ids.join(" ")));
    let statuses = statuses(machine);
    let status = |id: &str| statuses.get(id).map(String::as_str);
    for id in &completed {
        assert_eq!(
            status(id),
            Some("completed"),
            "{id} was acknowledged as completed"
        );
    }
    let others = submitted.difference(&completed);
    let lost = others.filter(|id| status(id) != Some("completed"));
    let lost: Vec<_> = lost.map(|id| (id, status(id))).collect();
    let is_lost = |(_, status): &(_, Option<&str>)| *status == Some("lost");
    // At most those that ran: the long command of root has a slot of root's own.
    assert!(lost.len() <= SLOTS && lost.iter().all(is_lost), "{lost:?}");
}

fn statuses(machine: &Machine) -> BTreeMap<String, String> {
    let all = machine.must("escherctl --json ps -a --limit 0");
    let text = |record: &Value, field: &str| record[field].as_str().expect("a text").to_owned();
    all.lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .map(|record| (text(&record, "id"), text(&record, "status")))
        .collect()
}

/// Sets the limit of running commands, and durability over a power cut.
fn configure_limit(machine: &Machine, count: usize) {
    configure(
        machine,
        &format!(
            "[execution]\nmax_concurrent_executions = {count}\n[store]\ndurability = \"power\""
        ),
    );
}
