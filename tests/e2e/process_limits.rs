//! Limits and priorities of processes, which need no cgroups.

use escher_client::protocol::RlimitResource;
use escher_tests::{Ctl, Daemon, require_root};
use serde_json::{Value, json};

/// A user without a passwd entry.
const ALICE: u32 = 61_001;

/// Shows what the properties of [`SHOWN`] set.
const SHOW: &str = "nice; cat /proc/self/oom_score_adj; ulimit -Sn; ulimit -Hn";

const SHOWN: [&str; 3] = ["Nice=7", "OOMScoreAdjust=300", "LimitNOFILE=60:70"];

/// Returns the arguments of a verb with properties.
fn words<'a>(verb: &[&'a str], properties: &[&'a str], command: &[&'a str]) -> Vec<&'a str> {
    let mut words = verb.to_vec();
    words.extend(properties.iter().flat_map(|property| ["-p", *property]));
    words.extend_from_slice(command);
    words
}

/// Runs a script in `/`; it has to succeed. Returns its standard output.
fn printed(ctl: &Ctl, properties: &[&str], script: &str) -> String {
    let words = words(&["run", "-w", "/"], properties, &["sh", "-c", script]);
    ctl.run(words).expect(0).out().to_owned()
}

/// Returns the error of a submission that is refused.
fn refusal(ctl: &Ctl, properties: &[&str], command: &[&str]) -> Value {
    let words = words(&["--json", "submit", "-w", "/"], properties, command);
    let ended = ctl.run(words).expect(1);
    let error: Value = serde_json::from_str(ended.err()).unwrap();
    error["error"].clone()
}

#[test]
fn limits_of_processes_need_no_cgroups() {
    let daemon = Daemon::start();
    assert_eq!(printed(&daemon.ctl(), &SHOWN, SHOW), "7\n300\n60\n70\n");
}

/// Each has a value that no other has, and that every user may set.
#[test]
fn every_limit_of_systemd_is_set() {
    let daemon = Daemon::start();
    let rows = [
        ("CPU", "1h", "cpu time", "3600"),
        ("FSIZE", "101M", "file size", "105906176"),
        ("DATA", "1G", "data size", "1073741824"),
        ("STACK", "7M", "stack size", "7340032"),
        ("CORE", "0", "core file size", "0"),
        ("RSS", "103M", "resident set", "108003328"),
        ("NOFILE", "71", "open files", "71"),
        ("AS", "2G", "address space", "2147483648"),
        ("NPROC", "5000", "processes", "5000"),
        ("MEMLOCK", "5K", "locked memory", "5120"),
        ("LOCKS", "73", "file locks", "73"),
        ("SIGPENDING", "74", "pending signals", "74"),
        ("MSGQUEUE", "6K", "msgqueue size", "6144"),
        ("NICE", "0", "nice priority", "0"),
        ("RTPRIO", "0", "realtime priority", "0"),
        ("RTTIME", "9ms", "realtime timeout", "9000"),
    ];
    let properties: Vec<String> = rows
        .iter()
        .map(|(name, given, ..)| format!("Limit{name}={given}"))
        .collect();
    assert!(
        rows.iter()
            .map(|row| row.0)
            .eq(RlimitResource::TABLE.map(|row| row.1))
    );
    let properties: Vec<&str> = properties.iter().map(String::as_str).collect();
    let shown = printed(&daemon.ctl(), &properties, "cat /proc/self/limits");
    for (_, _, name, limit) in rows {
        let prefix = format!("Max {name} ");
        let mut lines = shown.lines().filter_map(|line| line.strip_prefix(&prefix));
        let columns: Vec<&str> = lines.next().expect(name).split_whitespace().collect();
        assert_eq!(columns[..2], [limit; 2], "{name}");
    }
}

#[test]
fn arguments_are_checked_against_the_stack_of_the_request() {
    let daemon = Daemon::start();
    let ctl = daemon.ctl();
    let long = "x".repeat(100_000);
    let command = ["true", &long, &long];
    let error = refusal(&ctl, &["LimitSTACK=512K"], &command);
    assert_eq!(error["code"], "arguments-too-long");
    let _ = ctl
        .run(words(&["run"], &["LimitSTACK=1M"], &command))
        .expect(0);
}

#[test]
fn only_root_may_set_more_than_a_command_gets() {
    if !require_root("limits of other users") {
        return;
    }
    let daemon = Daemon::builder()
        .config("[daemon]\nsocket_mode = \"0666\"\n")
        .max_open_files(4000)
        .start();
    let alice = daemon.ctl().as_user(ALICE, ALICE, &[]);
    for (property, message) in [
        (
            "Nice=-1",
            "Nice=-1 is for root: other users may set at least 0 here",
        ),
        (
            "OOMScoreAdjust=-1",
            "OOMScoreAdjust=-1 is for root: other users may set at least 0 here",
        ),
        (
            "LimitNOFILE=4001",
            "LimitNOFILE=4001 is for root: other users may set at most 4000 here",
        ),
        (
            "LimitNOFILE=1:infinity",
            "LimitNOFILE=infinity is for root: other users may set at most 4000 here",
        ),
    ] {
        let error = refusal(&alice, &[property], &["true"]);
        assert_eq!(error["code"], "permission-denied");
        assert_eq!(error["message"], message);
    }
    assert_eq!(alice.json_lines(["ps", "-a"]), [] as [Value; 0]);
    let edge = ["Nice=0", "OOMScoreAdjust=0", "LimitNOFILE=4000"];
    assert_eq!(printed(&alice, &edge, SHOW), "0\n0\n4000\n4000\n");
    assert_eq!(printed(&daemon.ctl(), &["Nice=-3"], "nice"), "-3\n");
}

#[test]
fn the_limits_are_shown_and_kept_and_a_key_stands_for_them() {
    let mut daemon = Daemon::builder().leave_commands().start();
    let ctl = daemon.ctl();
    let (up, gate) = (daemon.home().fifo("up"), daemon.home().fifo("gate"));
    let script = format!("echo up > {}; read -r line < {}", up.name(), gate.name());
    let submit = |properties: &[&str]| {
        words(
            &["submit", "--key", "k"],
            properties,
            &["sh", "-c", &script],
        )
        .into_iter()
        .map(str::to_owned)
        .collect::<Vec<_>>()
    };
    let id = ctl.line(submit(&SHOWN));
    assert_eq!(up.read_line(), "up");
    assert_eq!(ctl.line(submit(&SHOWN)), id);
    let other = ctl.run(submit(&SHOWN[..2])).expect(1);
    assert!(other.err().contains("the limits differ"), "{other:?}");
    let expected = json!({"nofile": {"soft": 60, "hard": 70}});
    let check = |ctl: &Ctl| {
        let limits = &ctl.inspect(&id)["limits"];
        assert_eq!(limits["nice"], 7);
        assert_eq!(limits["oom_score_adjust"], 300);
        assert_eq!(limits["rlimits"], expected);
        let shown = ctl.run(["inspect", &id]).expect(0);
        assert!(shown.out().contains(&SHOWN.join(" ")), "{shown:?}");
    };
    check(&ctl);
    daemon.kill();
    let daemon = Daemon::builder()
        .home(daemon.home())
        .leave_commands()
        .start();
    check(&daemon.ctl());
    gate.write_line("go");
    daemon.ctl().wait(&id, 0);
    check(&daemon.ctl());
}
