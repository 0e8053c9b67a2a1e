//! Limits and usage of resources, by cgroups.

use escher_tests::host::Machine;
use serde_json::Value;

use crate::launcher::cgroup_of;
use crate::scenario::{configure, inspect, start_command, submit};

pub(crate) fn a_command_over_its_memory_limit_is_killed_and_others_are_not(machine: &Machine) {
    let other = start_command(machine, "10m", "read -r line < /srv/alice/gate; exit 4");
    let hog = "escherctl run -p MemoryMax=32M --name hog -- tail /dev/zero";
    let ended = machine.run_as("alice", hog).expect(137);
    assert!(ended.err().contains("memory"), "{ended:?}");
    let result = machine.must("escherctl --json result alice/hog");
    let result: Value = serde_json::from_str(&result).expect(&result);
    assert_eq!(result["status"], "failed", "{result}");
    assert_eq!(result["error"]["code"], "oom-killed", "{result}");
    assert_eq!(result["limits"]["memory_max"], 32 << 20, "{result}");
    assert!(result["usage"]["oom_kills"].as_u64() >= Some(1), "{result}");
    let peak = result["usage"]["peak_memory_bytes"].as_u64();
    assert!(
        (Some(16 << 20)..=Some(33 << 20)).contains(&peak),
        "{result}"
    );

    // Also before it has executed its program, and without its shim.
    let _ = machine
        .run_as("alice", "escherctl run -p MemoryMax=4K --name mote -- true")
        .expect(137);
    let mote = machine.must("escherctl --json inspect alice/mote");
    let mote: Value = serde_json::from_str(&mote).expect(&mote);
    assert_eq!(mote["error"]["code"], "oom-killed", "{mote}");

    machine.must("echo go > /srv/alice/gate");
    let _ = machine.run(&format!("escherctl wait {other}")).expect(4);
    machine.must("escherctl run -- true");
}

pub(crate) fn a_fork_bomb_stays_within_its_limit_and_leaves_no_process(machine: &Machine) {
    let bomb = "--timeout 10m -p TasksMax=40 --shell \
                '(b() { b | b & }; b) 2>&1; exec sleep 424242'";
    let id = submit(machine, bomb);
    // Until it has reached its limit.
    machine.must(&format!(
        "escherctl logs -f {id} | grep --max-count 1 -i 'fork'"
    ));
    machine.must("escherctl run -- true");
    let cgroup = cgroup_of(machine, "alice", &id);
    let tasks = machine.must(&format!("cat {cgroup}/pids.current"));
    assert!(tasks.trim().parse::<u32>().unwrap() <= 40, "{tasks}");
    let _ = machine.run_as("alice", &format!("escherctl kill -s KILL {id}"));
    let _ = machine.run_as("alice", &format!("escherctl wait {id}"));
    machine.must("! pgrep --euid alice");
    machine.must(&format!("! [ -e {cgroup} ]"));
}

pub(crate) fn what_a_user_runs_is_limited_together(machine: &Machine) {
    configure(
        machine,
        "[users]\nmax_memory_bytes = 67108864\nmax_tasks = 50\nmax_cpu_percent = 150",
    );
    let id = submit(
        machine,
        "--timeout 10m --shell 'echo up; exec sleep 424242'",
    );
    let mut log = machine.start(&format!("escherctl logs -f {id}"));
    assert_eq!(log.line(), "up");
    let cgroup = cgroup_of(machine, "alice", &id);
    let (of_user, _) = cgroup.rsplit_once('/').expect("a user's cgroup");
    let limits = format!("cd {of_user} && cat memory.max pids.max cpu.max");
    assert_eq!(machine.must(&limits), "67108864\n50\n150000 100000\n");
    // A keeper that was killed takes the limits with it, and the next one sets them again.
    machine.must("systemctl kill --kill-whom main --signal KILL escher-launcher");
    machine.must("systemctl start escher-launcher; escherctl run -- true");
    assert_eq!(machine.must(&limits), "67108864\n50\n150000 100000\n");

    // The other command is the one that is killed, as a whole, although it has no limit of its own.
    let hog = "escherctl run --name glutton -- sh -c 'tail /dev/zero; sleep 424243'";
    let _ = machine.run_as("alice", hog).expect(137);
    let glutton = inspect(machine, "alice/glutton");
    assert_eq!(glutton["error"]["code"], "oom-killed", "{glutton}");
    machine.must("! pgrep --full '^sleep 424243'");
    assert_eq!(inspect(machine, &id)["status"], "running");
    // Root is not limited.
    machine.must("escherctl run -- sh -c 'head -c 100M /dev/zero | tail -c 80M > /dev/null'");
    machine.must(&format!(
        "escherctl cancel {id}; escherctl wait {id}; while [ -e {of_user} ]; do :; done"
    ));
    configure(machine, "");
}

pub(crate) fn weights_count_within_the_cgroup_of_their_user(machine: &Machine) {
    let write =
        "dd if=/dev/zero of=/srv/alice/now bs=1M count=8 conv=fsync status=none; rm /srv/alice/now";
    let limits = "-p MemoryHigh=48M -p MemoryMax=64M -p CPUWeight=20 -p TasksMax=30";
    let id = submit(
        machine,
        &format!("--timeout 10m {limits} --shell '{write}; echo up; exec sleep 424242'"),
    );
    let mut log = machine.start(&format!("escherctl logs -f {id}"));
    assert_eq!(log.line(), "up");
    let cgroup = cgroup_of(machine, "alice", &id);
    let (of_user, _) = cgroup.rsplit_once('/').expect("a user's cgroup");
    let limits = machine.must(&format!("cd {cgroup} && cat memory.high cpu.weight"));
    assert_eq!(limits, "50331648\n20\n");
    let of_user = machine.must(&format!("cat {of_user}/cpu.weight"));
    assert_eq!(of_user, "100\n", "that of the user stays");
    let record = inspect(machine, &id);
    assert_eq!(record["limits"]["cpu_weight"], 20, "{record}");
    let usage = &record["usage_now"];
    assert_eq!(usage["tasks"], 1, "{record}");
    assert!(usage["memory_bytes"].as_u64() > Some(0), "{record}");
    assert!(
        usage["io_written_bytes"].as_u64() >= Some(8 << 20),
        "{record}"
    );
    assert_eq!(usage["not_measured"], serde_json::json!([]), "{record}");
    let shown = machine.must(&format!("escherctl inspect {id}"));
    for part in ["(MemoryMax=64M MemoryHigh=48M)", "1 (TasksMax=30)"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    machine.must(&format!("escherctl cancel {id}; escherctl wait {id}; :"));
}

pub(crate) fn processes_outside_of_the_session_are_killed_with_their_command(machine: &Machine) {
    let id = start_command(
        machine,
        "10m",
        "setsid -f setsid -f sh -c \"trap : TERM; exec sleep 424243\"; exec sleep 424242",
    );
    machine.must(&format!(
        "until grep -q 424243 /proc/[0-9]*/cmdline 2>/dev/null; do :; done
        escherctl kill -s KILL {id}; escherctl wait {id}; ! pgrep --full '^sleep 42424'"
    ));
    assert_eq!(inspect(machine, &id)["signal"], 9);
}

pub(crate) fn usage_includes_all_processes_of_a_command(machine: &Machine) {
    let write = "dd if=/dev/zero of=/srv/alice/blob bs=1M count=20 conv=fsync status=none; rm /srv/alice/blob";
    let id = submit(machine, &format!("--shell '{write}'"));
    machine.must(&format!("escherctl wait {id}"));
    let record = inspect(machine, &id);
    let usage = &record["usage"];
    let least = |field: &str, least: u64| {
        assert!(usage[field].as_u64() >= Some(least), "{field}: {record}");
    };
    least("io_written_bytes", 20 << 20);
    least("peak_memory_bytes", 1 << 20);
    assert!(
        usage["cpu_user_ms"].is_u64() && usage["cpu_system_ms"].is_u64(),
        "{record}"
    );
    assert_eq!(usage["oom_kills"], 0, "{record}");
    least("peak_tasks", 2);
    assert_eq!(usage["not_measured"], serde_json::json!([]), "{record}");
}

pub(crate) fn a_paused_command_stops_until_it_is_resumed(machine: &Machine) {
    let mut run = machine.start_as(
        "alice",
        "escherctl run --name counter --timeout 10m --shell \
         'n=0; until [ -e /srv/alice/enough ]; do echo $n; n=$((n + 1)); sleep 0.05; done; exit 7'",
    );
    assert_eq!(run.line(), "0");
    let id = machine.must("escherctl --json inspect alice/counter");
    let id: Value = serde_json::from_str(&id).expect(&id);
    let id = id["id"].as_str().expect("an id").to_owned();
    let _ = machine.run_as("alice", "escherctl pause counter").expect(0);
    assert_eq!(inspect(machine, &id)["paused"], true);
    let cgroup = cgroup_of(machine, "alice", &id);
    let lines = format!("wc -l < /var/log/escher/{id}.log; cat {cgroup}/cgroup.events");
    let before = machine.must(&lines);
    assert!(before.contains("frozen 1"), "{before}");
    machine.must("escherctl run -- true; touch /srv/alice/enough");
    assert_eq!(machine.must(&lines), before, "no further output");
    let _ = machine.run_as("carol", "escherctl resume alice/counter");
    assert_eq!(inspect(machine, &id)["paused"], true, "it is not carol's");
    let _ = machine
        .run_as("alice", "escherctl resume counter")
        .expect(0);
    let _ = run.wait().expect(7);
    let journal = machine.must(&format!("journalctl --output cat ESCHER_EXECUTION_ID={id}"));
    for action in [
        "alice has paused execution ",
        "alice has resumed execution ",
    ] {
        assert!(journal.contains(action), "{journal}");
    }
    machine.must("rm /srv/alice/enough");

    // A paused command can be cancelled, and its timeout goes on.
    let id = start_command(
        machine,
        "10m",
        "trap \"exit 5\" TERM; while :; do sleep 0.1; done",
    );
    machine.must(&format!("escherctl pause {id}; escherctl cancel {id}"));
    let _ = machine.run(&format!("escherctl wait {id}"));
    assert_eq!(inspect(machine, &id)["exit_code"], 5);
    let timed = machine.must("escherctl submit --timeout 2s -- sleep 424242");
    let timed = timed.trim_end();
    let _ = machine.run(&format!("escherctl pause {timed}; escherctl wait {timed}"));
    assert_eq!(inspect(machine, timed)["status"], "timeout");
}
