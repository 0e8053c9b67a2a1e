//! escherd, restarted and killed under systemd.

use escher_tests::host::{Machine, Task};

use crate::scenario::main_process;

/// Counts until a file is created.
const COUNT: &str = "escherctl run --timeout 10m -- sh -c '
    n=0
    while ! [ -e /srv/alice/enough ]; do
        echo $n
        n=$((n + 1))
        sleep 0.01
    done
    exit 7'";

pub(crate) fn run_continues_without_a_gap_over_restart_and_kill(machine: &Machine) {
    let mut run = machine.start_as("alice", COUNT);
    let mut next = 0;
    expect_more(&mut run, &mut next);
    for end in [
        "systemctl restart escherd",
        "systemctl kill --kill-whom main --signal KILL escherd",
    ] {
        let before = main_process(machine, "escherd");
        machine.must(end);
        expect_more(&mut run, &mut next);
        // Waits for the restart.
        machine.must("systemctl start escherd");
        assert_ne!(before, main_process(machine, "escherd"), "after {end}");
        expect_more(&mut run, &mut next);
    }
    machine.must("touch /srv/alice/enough");
    let ended = run.wait().expect(7);
    let whole: String = (0..ended.out().lines().count())
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(ended.out(), whole, "a gap or a repeat");
    machine.must("rm /srv/alice/enough");
}

/// Checks that the next lines come.
fn expect_more(run: &mut Task, next: &mut u32) {
    for _ in 0..20 {
        assert_eq!(run.line(), next.to_string());
        *next += 1;
    }
}
