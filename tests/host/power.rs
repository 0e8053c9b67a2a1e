//! A machine that goes down, as it should or for want of power.

use std::collections::{BTreeMap, BTreeSet};

use escher_tests::host::{Machine, Task};
use serde_json::Value;

use crate::scenario::{configure, inspect, set_going};

/// Clients that put the machine under load.
const CLIENTS: usize = 3;

/// How many ends of commands each of them is told of, at least, before the power is cut.
const ENDS: usize = 15;

/// Submits one command after the other, and says what it was told.
const CLIENT: &str = "while id=$(escherctl submit true); do
    echo submitted $id
    escherctl wait $id && echo completed $id
done";

/// Runs until it is ended.
const SLEEP: &str = "exec sleep 500";

/// A command that runs as the machine goes down, and one that waits for its turn then.
pub(crate) struct Left {
    running: String,
    waiting: String,
}

/// A machine at work.
pub(crate) struct Load {
    running: String,
    clients: Vec<Task>,
}

/// Leaves both kinds of commands.
pub(crate) fn leave_commands(machine: &Machine) -> Left {
    allow_at_once(machine, 1);
    let running = set_going(machine, "10m", SLEEP);
    let waiting = machine.must("escherctl submit echo at last");
    let waiting = waiting.trim_end().to_owned();
    assert_eq!(inspect(machine, &waiting)["status"], "pending");
    Left { running, waiting }
}

pub(crate) fn a_clean_reboot_ends_what_runs_and_says_so(machine: &Machine, left: &Left) {
    let record = inspect(machine, &left.running);
    assert_eq!(record["status"], "cancelled", "{record}");
    assert_eq!(record["cancelled_by"], "host", "{record}");
    // What has waited goes on.
    let waiting = &left.waiting;
    let script = format!("escherctl wait {waiting} && escherctl result {waiting}");
    assert_eq!(machine.must(&script), "at last\n");
}

/// Has clients keep it busy: one command at a time, beside a long one.
pub(crate) fn put_under_load(machine: &Machine) -> Load {
    allow_at_once(machine, 2);
    let running = set_going(machine, "10m", SLEEP);
    let mut clients: Vec<Task> = (0..CLIENTS)
        .map(|_| machine.start_as("alice", CLIENT))
        .collect();
    for client in &mut clients {
        let mut ends = 0;
        while ends < ENDS {
            ends += usize::from(client.line().starts_with("completed"));
        }
    }
    Load { running, clients }
}

/// `load` is that of a machine whose power was cut, and `machine` has booted from its disk.
pub(crate) fn what_was_acknowledged_before_a_power_cut_is_there(machine: &Machine, load: Load) {
    let running = inspect(machine, &load.running);
    assert_eq!(running["status"], "lost", "{running}");
    let told: String = load
        .clients
        .into_iter()
        .map(Task::output_until_stop)
        .collect();
    let told_of = |word: &str| -> BTreeSet<&str> {
        told.lines()
            .filter_map(|line| line.strip_prefix(word))
            .collect()
    };
    let (submitted, completed) = (told_of("submitted "), told_of("completed "));
    assert!(completed.len() >= CLIENTS * ENDS);

    // What has waited runs now.
    let ids: Vec<&str> = submitted.iter().copied().collect();
    let _ = machine.run(&format!("escherctl wait {}", ids.join(" ")));
    let statuses = statuses(machine);
    let status = |id: &str| statuses.get(id).map(String::as_str);
    for id in &completed {
        assert_eq!(
            status(id),
            Some("completed"),
            "{id} was told to have completed"
        );
    }
    let others = submitted.difference(&completed);
    let lost = others.filter(|id| status(id) != Some("completed"));
    let lost: Vec<_> = lost.map(|id| (id, status(id))).collect();
    let is_true = |(_, status): &(_, Option<&str>)| *status == Some("lost");
    // That which ran at the time.
    assert!(lost.len() <= 1 && lost.iter().all(is_true), "{lost:?}");
}

fn statuses(machine: &Machine) -> BTreeMap<String, String> {
    let all = machine.must("escherctl --json ps -a --limit 0");
    let text = |record: &Value, field: &str| record[field].as_str().expect("a text").to_owned();
    all.lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .map(|record| (text(&record, "id"), text(&record, "status")))
        .collect()
}

/// Has this many commands run at once, and what is acknowledged outlive a power cut.
fn allow_at_once(machine: &Machine, count: u32) {
    configure(
        machine,
        &format!(
            "[execution]\nmax_concurrent_executions = {count}\n[store]\ndurability = \"power\""
        ),
    );
}
