//! Shims that are killed, and the processes of their commands.

use std::collections::HashSet;
use std::os::fd::OwnedFd;

use escher_launcher::ipc::wire::LaunchSpec;
use escher_protocol::{Exit, Leftovers};

use crate::commands::{identity, with_input};
use crate::{Fifo, Launcher, OTHER_USER, Output, Shim, exec, raw, require_root, shell};
use escher_testkit::wait::readable;

/// Starts a command that prints `count` process ids, one a line, and returns their pidfds.
fn processes(launcher: &Launcher, shim: &Shim, spec: &LaunchSpec, count: usize) -> Vec<OwnedFd> {
    shim.start(spec);
    let mut seen = 0;
    loop {
        seen = shim.log_longer_than(seen);
        let text = Output::of(launcher, spec.id).text();
        let pids: Vec<u32> = text.lines().map(|line| line.parse().unwrap()).collect();
        if pids.len() == count && text.ends_with('\n') {
            return pids.iter().map(|pid| raw::pidfd(*pid).unwrap()).collect();
        }
    }
}

/// The main process, a child in its group, one in a session of its own, and one whose parent has
/// ended; all ignore SIGTERM.
const TREE: &str = "trap '' TERM; echo $$
    sleep 1000 & echo $!
    setsid sh -c 'echo $$; setsid -f sh -c \"echo \\$\\$; exec sleep 1001\"; exec sleep 1002' &
    wait";

#[test]
fn the_whole_tree_of_a_killed_shim_is_killed_and_nothing_else() {
    let launcher = Launcher::start();
    let (victim, other) = (launcher.shim(), launcher.shim());
    let unharmed = with_input("read -r line; exit 4");
    other.start(&unharmed);
    let tree = processes(&launcher, &victim, &shell(TREE), 4);
    victim.kill();
    assert_eq!(
        launcher.receive_shim_death(),
        (victim.pid(), Leftovers::Killed)
    );
    // The death was reported after the last process had ended.
    assert_eq!(launcher.children(), HashSet::from([other.pid()]));
    for process in &tree {
        assert!(readable(process));
    }
    other.input("go\n", true);
    assert_eq!(other.finish().exit, Exit::Code(4));
    assert_eq!(launcher.shim().run(&exec(["true"])).exit, Exit::Code(0));
}

#[test]
fn a_process_tree_that_keeps_forking_is_killed() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    // It forks into new sessions until it is killed, but not without bounds.
    let spec = shell(
        "grow() { for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
            setsid -f sh -c 'setsid -f sleep 1000; setsid -f sleep 1000'; done; }
        echo ready; grow & grow & grow; wait",
    );
    shim.start(&spec);
    shim.log_longer_than(0);
    shim.kill();
    assert_eq!(
        launcher.receive_shim_death(),
        (shim.pid(), Leftovers::Killed)
    );
    assert!(launcher.children().is_empty());
}

#[test]
fn the_death_of_a_shim_without_a_command_is_reported_without_leftovers() {
    let launcher = Launcher::start();
    let (fresh, used) = (launcher.shim(), launcher.shim());
    used.run(&exec(["true"]));
    for shim in [&fresh, &used] {
        shim.kill();
        assert_eq!(launcher.receive_shim_death(), (shim.pid(), Leftovers::None));
    }
    // A shim that ends by itself is not reported.
    launcher.shim().wait_for_end();
    let last = launcher.shim();
    last.kill();
    assert_eq!(launcher.receive_shim_death().0, last.pid());
}

#[test]
fn the_trees_of_many_shims_that_die_at_once_are_killed() {
    let launcher = Launcher::start();
    let shims = launcher.shims(8);
    for shim in &shims {
        processes(&launcher, shim, &shell(TREE), 4);
    }
    for shim in &shims {
        shim.kill();
    }
    let died: HashSet<u32> = shims
        .iter()
        .map(|_| {
            let (pid, leftovers) = launcher.receive_shim_death();
            assert_eq!(leftovers, Leftovers::Killed);
            pid
        })
        .collect();
    assert_eq!(died, shims.iter().map(Shim::pid).collect());
    assert!(launcher.children().is_empty());
}

#[test]
fn a_tree_is_killed_even_if_escherd_dies_with_the_shim() {
    let mut launcher = Launcher::start();
    let shim = launcher.shim();
    let tree = processes(&launcher, &shim, &shell(TREE), 4);
    shim.kill();
    launcher.close_control();
    assert!(launcher.wait_for_end().success());
    for process in &tree {
        assert!(readable(process));
    }
}

#[test]
fn the_main_process_dies_with_its_shim_without_a_launcher() {
    let users = if require_root("commands of another user whose shim is killed") {
        vec![None, identity(OTHER_USER, OTHER_USER, &[])]
    } else {
        vec![None]
    };
    for identity in users {
        let mut launcher = Launcher::start();
        let shim = launcher.shim();
        let spec = LaunchSpec {
            identity,
            ..shell("echo $$; trap '' TERM HUP; exec sleep 1000")
        };
        let main = processes(&launcher, &shim, &spec, 1);
        launcher.signal(libc::SIGKILL);
        launcher.wait_for_end();
        shim.kill();
        assert!(readable(&main[0]));
    }
}

#[test]
fn a_main_process_does_not_die_with_another_shim() {
    let launcher = Launcher::start();
    let (one, other) = (launcher.shim(), launcher.shim());
    let fifo = Fifo::create(launcher.path("fifo"));
    let spec = crate::commands::shell_with("read -r line < \"$0\"; exit 2", fifo.path());
    one.start(&spec);
    other.start(&exec(["sleep", "1000"]));
    other.kill();
    assert_eq!(
        launcher.receive_shim_death(),
        (other.pid(), Leftovers::Killed)
    );
    fifo.write_line("go");
    assert_eq!(one.finish().exit, Exit::Code(2));
}
