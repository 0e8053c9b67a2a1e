//! Commands in cgroups of their own.

use std::fs;
use std::path::PathBuf;

use escher_launcher::ipc::wire::{Assignment, EndCause, FromShim, LaunchSpec, ToShim};
use escher_protocol::{
    Canceller, Exit, Leftovers, Measurements, ResourceLimits, SignalRecipients, StartStage,
};

use super::{Cgroup, Escherd, Keeper};
use crate::commands::{assignment, shell_with, with_input};
use crate::shim::signal_order;
use crate::{Fifo, Shim, exec, raw, shell};
use escher_testkit::wait::readable;

/// Starts a keeper with cgroups, connects as escherd, and gets a shim. `None` where there can be no
/// cgroups; `what` says what is not tested then.
fn start_keeper(what: &str) -> Option<(Keeper, Escherd, Shim)> {
    let keeper = Keeper::start_with(Cgroup::new(what)?);
    let escherd = keeper.connect();
    assert!(escherd.abilities.cgroups.is_some());
    let shim = escherd.shim();
    Some((keeper, escherd, shim))
}

impl Keeper {
    fn cgroup_of(&self, spec: &LaunchSpec) -> PathBuf {
        let user = format!("user-{}", spec.submitter_uid);
        let execution = format!("{}-{}", spec.number, spec.id);
        self.cgroup.as_ref().unwrap().0.join(user).join(execution)
    }

    /// The users who have a cgroup.
    fn users(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.cgroup.as_ref().unwrap().0).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("user-")).collect()
    }
}

/// Waits until the shim reports that the command is paused, or is not.
fn expect_paused(shim: &Shim, expected: bool) {
    match shim.receive() {
        Some(FromShim::Paused(is)) if is == expected => {}
        other => panic!("not paused = {expected} but {other:?}"),
    }
}

#[test]
fn a_stop_says_whom_it_waits_for_by_number_and_user() {
    let Some((keeper, _escherd, shim)) = start_keeper("the commands that a stop waits for") else {
        return;
    };
    let spec = exec(["sleep", "1000"]);
    shim.start(&spec);
    keeper.signal(libc::SIGTERM);
    let expected = format!(
        "ending 1 command; SIGKILL in 60 s at the latest: {} (root) sleep 1000",
        spec.number
    );
    assert_eq!(keeper.next_status(), expected);
    assert_eq!(shim.finish().cause, EndCause::Cancelled(Canceller::Host));
}

#[test]
fn a_command_has_a_cgroup_of_its_own_without_its_shim() {
    let Some((keeper, _escherd, shim)) = start_keeper("the cgroup of a command") else {
        return;
    };
    let spec = with_input("sleep 1000 & echo up; read -r line; kill $!");
    let pid = shim.start(&spec);
    shim.log_longer_than(0);
    let of = |pid: u32| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let name = format!("/user-0/7-{}\n", spec.id);
    assert!(of(pid).contains(&name), "{}", of(pid));
    assert!(of(shim.pid()).contains("/keeper\n"), "{}", of(shim.pid()));
    let list = fs::read_to_string(keeper.cgroup_of(&spec).join("cgroup.procs")).unwrap();
    assert_eq!(list.lines().count(), 2, "{list}");
    shim.input("go\n", true);
    let Measurements {
        user_us, system_us, ..
    } = shim.finish().measured.expect("measurements");
    assert!(user_us.unwrap() + system_us.unwrap() > 0);
    // The shim removes the cgroup before it serves the next command.
    assert_eq!(shim.run(&exec(["true"])).exit, Exit::Code(0));
    assert!(!keeper.cgroup_of(&spec).exists());
}

#[test]
fn the_cgroup_of_a_user_is_there_for_as_long_as_commands_of_it_run() {
    let Some((keeper, escherd, shim)) = start_keeper("the cgroup of a user") else {
        return;
    };
    let other = escherd.shim();
    let [first, second] = [shim, other].map(|shim| {
        let spec = LaunchSpec {
            submitter_uid: 4711,
            ..with_input("read -r line")
        };
        shim.start(&spec);
        assert!(keeper.cgroup_of(&spec).exists());
        shim
    });
    for (shim, users) in [(first, &["user-4711"][..]), (second, &[])] {
        shim.input("go\n", true);
        assert_eq!(shim.finish().exit, Exit::Code(0));
        // The shim removes the cgroup before it ends.
        shim.wait_for_end();
        assert_eq!(keeper.users(), users);
    }
}

#[test]
fn a_signal_to_the_process_group_resumes_a_paused_command() {
    let Some((_keeper, _escherd, shim)) = start_keeper("signals to paused commands") else {
        return;
    };
    shim.start(&shell(
        "trap 'exit 6' INT; sh -c 'echo up; exec sleep 1000'",
    ));
    shim.log_longer_than(0);
    shim.send(&ToShim::Pause);
    expect_paused(&shim, true);
    let signal = signal_order(libc::SIGINT, SignalRecipients::ProcessGroup);
    shim.send(&ToShim::Signal(signal));
    assert_eq!(shim.finish().exit, Exit::Code(6));
}

/// The cgroup of their user goes and comes back all the time.
#[test]
fn commands_of_one_user_that_end_and_begin_at_once_have_their_cgroups() {
    const ROUNDS: usize = 100;
    let Some((keeper, escherd, shim)) = start_keeper("cgroups of many commands at once") else {
        return;
    };
    let shims = [shim, escherd.shim(), escherd.shim()];
    std::thread::scope(|scope| {
        for shim in shims {
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let report = shim.run(&exec(["true"]));
                    assert!(report.measured.is_some(), "round {round}: {report:?}");
                }
                shim.wait_for_end();
            });
        }
    });
    assert_eq!(keeper.users(), Vec::<String>::new());
}

#[test]
fn what_a_user_runs_is_limited_together() {
    let Some((keeper, escherd, shim)) = start_keeper("limits of a user") else {
        return;
    };
    let user_limits = ResourceLimits {
        tasks_max: Some(3),
        ..ResourceLimits::default()
    };
    let spec = with_input("read -r line");
    shim.assign(&Assignment {
        user_limits,
        ..assignment(spec.clone())
    });
    if !escherd.abilities.cgroups.unwrap().pids {
        let (stage, errno) = (StartStage::Limits, libc::ENOENT);
        assert_eq!(shim.finish().exit, Exit::NotStarted { stage, errno });
        shim.wait_for_end();
        assert_eq!(keeper.users(), Vec::<String>::new());
        return;
    }
    shim.receive_started();
    let user = keeper.cgroup_of(&spec);
    let limit = fs::read_to_string(user.parent().unwrap().join("pids.max")).unwrap();
    assert_eq!(limit, "3\n");
    // Three more are one too many.
    let other = escherd.shim();
    let forks = shell("sleep 1000 & sleep 1000 & sleep 1000 & wait");
    assert_ne!(other.run(&forks).exit, Exit::Code(0));
    shim.input("go\n", true);
    assert_eq!(shim.finish().exit, Exit::Code(0));
}

#[test]
fn a_paused_command_stops_until_it_is_resumed() {
    let Some((keeper, _escherd, shim)) = start_keeper("a pause") else {
        return;
    };
    let spec = with_input("while read -r line; do echo $line; done");
    shim.start(&spec);
    shim.send(&ToShim::Pause);
    expect_paused(&shim, true);
    shim.input("one\n", false);
    assert!(matches!(shim.receive(), Some(FromShim::InputAccepted)));
    let events = fs::read_to_string(keeper.cgroup_of(&spec).join("cgroup.events")).unwrap();
    assert!(events.contains("frozen 1"), "{events}");
    assert!(!keeper.path(&format!("log/{}.log", spec.id)).exists());
    shim.send(&ToShim::Resume);
    expect_paused(&shim, false);
    shim.log_longer_than(0);
    shim.input("", true);
    assert_eq!(shim.finish().exit, Exit::Code(0));
}

#[test]
fn the_kill_ladder_thaws_a_paused_command() {
    let Some((_keeper, _escherd, shim)) = start_keeper("the end of a paused command") else {
        return;
    };
    let mut spec = shell("trap 'exit 5' TERM; echo up; sleep 1000 & wait");
    shim.start(&spec);
    shim.log_longer_than(0);
    shim.send(&ToShim::Pause);
    expect_paused(&shim, true);
    shim.cancel(false);
    assert_eq!(shim.finish().exit, Exit::Code(5));

    // A timeout keeps running during a pause.
    spec = exec(["sleep", "1000"]);
    spec.timeout_ms = Some(2_000);
    shim.start(&spec);
    shim.send(&ToShim::Pause);
    assert_eq!(shim.finish().cause, EndCause::TimedOut);
}

#[test]
fn an_adopting_escherd_is_told_that_the_command_is_paused() {
    let Some((keeper, escherd, shim)) = start_keeper("adoption of a paused command") else {
        return;
    };
    let spec = with_input("read -r line; exit 4");
    shim.start(&spec);
    shim.send(&ToShim::Pause);
    expect_paused(&shim, true);
    drop(escherd);
    let orphan = shim.disconnect();
    let _escherd = keeper.connect();
    let shim = keeper.adopt(&orphan, spec.id);
    assert!(shim.receive_state().is_paused);
    shim.send(&ToShim::Resume);
    expect_paused(&shim, false);
    shim.input("go\n", true);
    assert_eq!(shim.finish().exit, Exit::Code(4));
}

#[test]
fn a_process_that_has_left_its_session_twice_is_killed() {
    let Some((keeper, _escherd, shim)) = start_keeper("an escape from a session") else {
        return;
    };
    let fifo = Fifo::create(keeper.path("fifo"));
    let escape = "setsid -f setsid -f sh -c 'trap \"\" TERM; echo $$ > \"$0\"; sleep 1000' \"$0\"
        trap '' TERM; sleep 1001 & wait";
    shim.start(&shell_with(escape, fifo.path()));
    let escapee = raw::pidfd(fifo.read_line().trim().parse().unwrap()).unwrap();
    shim.cancel(true);
    let report = shim.finish();
    assert!(matches!(report.exit, Exit::Signal { signal: 9, .. }));
    assert!(readable(&escapee));
}

#[test]
fn a_later_launcher_kills_the_cgroup_of_a_killed_shim() {
    let Some((keeper, escherd, shim)) = start_keeper("sweeping of cgroups") else {
        return;
    };
    let spec = exec(["sleep", "1000"]);
    let command = raw::pidfd(shim.start(&spec)).unwrap();
    escherd.kill_launcher();
    let escherd = keeper.connect();
    shim.kill();
    let leftovers = escherd.kill_cgroup(spec.id);
    assert!(matches!(leftovers, Leftovers::Killed | Leftovers::None));
    assert!(readable(&command));
    assert!(!keeper.cgroup_of(&spec).exists());
    assert_eq!(escherd.kill_cgroup(spec.id), Leftovers::None);
}

#[test]
fn a_command_whose_limit_cannot_be_set_is_not_started() {
    let Some((keeper, escherd, shim)) = start_keeper("limits that cannot be set") else {
        return;
    };
    let limits = ResourceLimits {
        memory_max: Some(64 << 20),
        ..ResourceLimits::default()
    };
    let spec = exec(["true"]);
    shim.assign(&Assignment {
        limits,
        ..assignment(spec.clone())
    });
    let exit = shim.finish().exit;
    if escherd.abilities.cgroups.unwrap().memory {
        assert_eq!(exit, Exit::Code(0))
    } else {
        let (stage, errno) = (StartStage::Limits, libc::ENOENT);
        assert_eq!(exit, Exit::NotStarted { stage, errno });
    }
    assert!(!keeper.cgroup_of(&spec).exists());
    // The limit does not apply to the next command.
    assert_eq!(shim.run(&exec(["true"])).exit, Exit::Code(0));
}

#[test]
fn sigterm_to_the_keeper_ends_a_paused_command() {
    let Some((keeper, _escherd, shim)) = start_keeper("the stop of a keeper with a paused command")
    else {
        return;
    };
    shim.start(&exec(["sleep", "1000"]));
    shim.send(&ToShim::Pause);
    expect_paused(&shim, true);
    keeper.signal(libc::SIGTERM);
    let host = EndCause::Cancelled(Canceller::Host);
    assert_eq!(shim.finish().cause, host);
    assert_eq!(keeper.wait_for_end().code(), Some(0));
}

#[test]
fn a_pause_after_a_cancel_is_refused() {
    let Some((_keeper, _escherd, shim)) = start_keeper("a pause of what is being ended") else {
        return;
    };
    let spec = with_input("trap '' TERM; echo up; read -r line; exit 4");
    shim.start(&spec);
    shim.log_longer_than(0);
    shim.cancel(false);
    shim.send(&ToShim::Pause);
    expect_paused(&shim, false);
    shim.input("go\n", true);
    assert_eq!(shim.finish().exit, Exit::Code(4));
}

#[test]
fn cgroups_that_a_command_has_created_are_removed_with_its_own() {
    let Some((keeper, _escherd, shim)) = start_keeper("cgroups below that of a command") else {
        return;
    };
    let mut spec = shell("");
    let own = keeper.cgroup_of(&spec);
    spec.argv[2] = format!("mkdir -p {}/a/b", own.display()).as_str().into();
    assert_eq!(shim.run(&spec).exit, Exit::Code(0));
    assert_eq!(shim.run(&exec(["true"])).exit, Exit::Code(0));
    assert!(!keeper.cgroup_of(&spec).exists());
}
