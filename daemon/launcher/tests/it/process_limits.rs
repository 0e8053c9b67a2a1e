//! Limits and priorities of the processes of a command.

use escher_launcher::ipc::wire::LaunchSpec;
use escher_protocol::{Exit, ProcessLimits, Rlimit, RlimitResource, StartStage};

use crate::launcher::OTHER_USER;
use crate::{Launcher, Output, exec, require_root, shell};
use escher_testkit::report_skipped;

/// The names of all resources in proc_pid_limits(5), in the order of the table.
const NAMES: [&str; 16] = [
    "cpu time",
    "file size",
    "data size",
    "stack size",
    "core file size",
    "resident set",
    "open files",
    "address space",
    "processes",
    "locked memory",
    "file locks",
    "pending signals",
    "msgqueue size",
    "nice priority",
    "realtime priority",
    "realtime timeout",
];

fn limited(spec: LaunchSpec, process: ProcessLimits) -> LaunchSpec {
    LaunchSpec { process, ..spec }
}

fn as_other_user(spec: LaunchSpec) -> LaunchSpec {
    LaunchSpec {
        identity: crate::commands::identity(OTHER_USER, OTHER_USER, &[]),
        ..spec
    }
}

fn printed(launcher: &Launcher, spec: &LaunchSpec) -> String {
    assert_eq!(launcher.shim().run(spec).exit, Exit::Code(0));
    Output::of(launcher, spec.id).text()
}

/// The number of a capability (linux/capability.h).
const CAP_SYS_RESOURCE: u32 = 24;

/// Whether this process has a capability, which root may lack in a container.
fn has_capability(number: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mut rows = status
        .lines()
        .filter_map(|line| line.strip_prefix("CapEff:"));
    let effective = u64::from_str_radix(rows.next().unwrap().trim(), 16).unwrap();
    effective >> number & 1 == 1
}

/// Returns soft and hard limits as `cat /proc/self/limits` has shown them, in the order of the table.
fn limits(shown: &str) -> Vec<(u64, u64)> {
    let limit = |text: &str| match text {
        "unlimited" => Rlimit::INFINITY,
        digits => digits.parse().unwrap(),
    };
    let of = |name: &str| {
        let prefix = format!("Max {name} ");
        let mut rows = shown.lines().filter_map(|line| line.strip_prefix(&prefix));
        let mut columns = rows.next().expect(name).split_ascii_whitespace();
        let mut next = || limit(columns.next().unwrap());
        (next(), next())
    };
    NAMES.map(of).into()
}

#[test]
fn a_launcher_says_what_a_command_gets_without_limits() {
    let launcher = Launcher::start();
    let shown = printed(&launcher, &exec(["cat", "/proc/self/limits"]));
    let hard: Vec<u64> = limits(&shown).into_iter().map(|limit| limit.1).collect();
    let process = launcher.hello().abilities.process;
    assert_eq!(hard, process.hard_limits);
    let shown = printed(&launcher, &shell("nice; cat /proc/self/oom_score_adj"));
    let expected = format!("{}\n{}\n", process.nice, process.oom_score_adjust);
    assert_eq!(shown, expected);
}

/// Each limit has another value, so that none is taken for another, and all are low enough for any user.
#[test]
fn a_command_has_every_limit_of_its_request_and_the_next_has_none() {
    let launcher = Launcher::start();
    let shim = launcher.shim();
    let hard_limits = launcher.hello().abilities.process.hard_limits;
    let mut expected = Vec::new();
    let mut rlimits = Vec::new();
    for (row, (resource, _)) in (0..).zip(RlimitResource::TABLE) {
        let wanted = match resource {
            RlimitResource::OpenFiles => 70,
            RlimitResource::Nice | RlimitResource::RealtimePriority => 0,
            RlimitResource::Processes => 100_000,
            _ => (1 << 30) + row,
        };
        let hard = hard_limits[resource as usize].min(wanted);
        let soft = hard.saturating_sub(1);
        expected.push((soft, hard));
        rlimits.push(Rlimit {
            resource,
            soft,
            hard,
        });
    }
    let process = ProcessLimits {
        rlimits,
        ..ProcessLimits::default()
    };
    let show = || exec(["cat", "/proc/self/limits"]);
    let spec = limited(show(), process);
    assert_eq!(shim.run(&spec).exit, Exit::Code(0));
    assert_eq!(limits(&Output::of(&launcher, spec.id).text()), expected);
    let next = show();
    assert_eq!(shim.run(&next).exit, Exit::Code(0));
    let shown = limits(&Output::of(&launcher, next.id).text());
    let hard: Vec<u64> = shown.into_iter().map(|limit| limit.1).collect();
    assert_eq!(hard, hard_limits, "the shim keeps its own");
}

#[test]
fn nice_value_and_out_of_memory_score_may_be_raised_by_everybody() {
    let launcher = Launcher::start();
    let inherited = launcher.hello().abilities.process;
    let process = ProcessLimits {
        nice: Some(inherited.nice + 1),
        oom_score_adjust: Some(inherited.oom_score_adjust + 1),
        ..ProcessLimits::default()
    };
    let shim = launcher.shim();
    let score = || std::fs::read_to_string(format!("/proc/{}/oom_score_adj", shim.pid())).unwrap();
    let before = score();
    let spec = limited(shell("nice; cat /proc/self/oom_score_adj"), process.clone());
    assert_eq!(shim.run(&spec).exit, Exit::Code(0));
    let expected = format!(
        "{}\n{}\n",
        inherited.nice + 1,
        inherited.oom_score_adjust + 1
    );
    assert_eq!(Output::of(&launcher, spec.id).text(), expected);
    assert_eq!(score(), before, "the shim shares no memory with it");
}

#[test]
fn root_lowers_the_nice_value_for_a_command_of_another_user() {
    if !require_root("lower nice values") {
        return;
    }
    let launcher = Launcher::start();
    let process = ProcessLimits {
        nice: Some(-5),
        ..ProcessLimits::default()
    };
    let spec = as_other_user(limited(exec(["nice"]), process));
    assert_eq!(printed(&launcher, &spec), "-5\n");
}

#[test]
fn root_lowers_them_and_raises_limits_for_a_command_of_another_user() {
    if !require_root("lower nice values and scores, and higher limits") {
        return;
    }
    if !has_capability(CAP_SYS_RESOURCE) {
        report_skipped("no CAP_SYS_RESOURCE", "lower scores and higher limits");
        return;
    }
    let script = "ulimit -n 500; exec \"$0\" \"$@\"";
    let launcher = Launcher::start_by(&["/bin/sh", "-c", script]);
    let process = ProcessLimits {
        nice: Some(-5),
        oom_score_adjust: Some(-100),
        rlimits: vec![Rlimit {
            resource: RlimitResource::OpenFiles,
            soft: 501,
            hard: 502,
        }],
    };
    let text = "nice; cat /proc/self/oom_score_adj; ulimit -Sn; ulimit -Hn";
    let spec = as_other_user(limited(shell(text), process));
    assert_eq!(printed(&launcher, &spec), "-5\n-100\n501\n502\n");
}

/// It was started as if the value had not been asked for.
#[test]
fn a_value_that_may_not_be_set_is_a_failed_start() {
    if !require_root("root without capabilities") {
        return;
    }
    let script = "ulimit -n 500
        exec setpriv --bounding-set=-sys_nice,-sys_resource \"$0\" \"$@\"";
    let launcher = Launcher::start_by(&["/bin/sh", "-c", script]);
    let open_files = Rlimit {
        resource: RlimitResource::OpenFiles,
        soft: 501,
        hard: 501,
    };
    for (process, stage, errno) in [
        (
            ProcessLimits {
                nice: Some(-1),
                ..ProcessLimits::default()
            },
            StartStage::Attributes,
            libc::EACCES,
        ),
        (
            ProcessLimits {
                rlimits: vec![open_files],
                ..ProcessLimits::default()
            },
            StartStage::Limits,
            libc::EPERM,
        ),
    ] {
        let spec = limited(exec(["true"]), process);
        let exit = launcher.shim().run(&spec).exit;
        assert_eq!(exit, Exit::NotStarted { stage, errno });
    }
}
