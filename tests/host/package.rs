//! Upgrade, removal and purge of the package.

use std::collections::BTreeSet;

use escher_tests::host::Machine;
use serde_json::Value;

use crate::scenario::{
    UNITS, check_units, configure, inspect, install_package, main_process, start_command,
};

/// The version of the programs under test.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Commands that run while the package is upgraded.
const COMMANDS: usize = 20;

/// Where any Debian creates files by itself.
const CHANGED_ANYWAY: [&str; 10] = [
    "/etc/subgid-",
    "/etc/subuid-",
    "/var/log/",
    "/var/lib/dpkg/",
    "/var/lib/apt/",
    "/var/lib/systemd/",
    "/var/backups/",
    "/var/cache/",
    "/tmp/systemd-private-",
    "/var/tmp/systemd-private-",
];

pub(crate) fn an_upgrade_keeps_running_commands_and_their_results(machine: &Machine) {
    let mut client = machine.start_as(
        "alice",
        &format!(
            "cd /srv/alice && mkfifo up && exec 3<>up
            for n in $(seq {COMMANDS}); do
                escherctl submit --timeout 10m --shell \"
                    echo up > up
                    until [ -e enough ]; do sleep 0.5; done
                    echo result $n; exit $n\"
            done
            for n in $(seq {COMMANDS}); do read line <&3; done
            echo all are up; escherctl run --timeout 10m --shell '
                echo before; until [ -e enough ]; do sleep 0.5; done; echo after; exit 9'"
        ),
    );
    let ids: Vec<String> = (0..COMMANDS).map(|_| client.line()).collect();
    assert_eq!(client.line(), "all are up");
    assert_eq!(client.line(), "before");

    let main_process = |unit| main_process(machine, unit);
    let before = UNITS.map(main_process);
    install_package(machine, VERSION);
    let after = UNITS.map(main_process);
    assert_ne!(before[1], after[1], "escherd was restarted");
    assert_eq!(
        before[2], after[2],
        "the keeper was replaced within its process"
    );
    assert_eq!(
        machine.must("dpkg-query --show --showformat '${Version} ${Status}' escher"),
        format!("{VERSION} install ok installed")
    );

    replace_libc(machine);
    let restarts = machine.must("NEEDRESTART_MODE=a needrestart 2>&1");
    let (restarted, deferred) = restarts.split_once("being deferred").expect(&restarts);
    assert!(restarted.contains("escherd.service"), "{restarts}");
    assert!(!restarted.contains("escher-launcher"), "{restarts}");
    assert!(deferred.contains("escher-launcher.service"), "{restarts}");
    assert_eq!(before[2], main_process(UNITS[2]), "{restarts}");

    machine.must("touch /srv/alice/enough");
    let ended = client.wait().expect(9);
    assert!(ended.out().ends_with("before\nafter\n"), "{ended:?}");
    let all = ids.join(" ");
    let _ = machine.run(&format!("escherctl wait {all}")).expect(1);
    for (n, id) in (1..).zip(&ids) {
        let record = inspect(machine, id);
        assert_eq!(record["exit_code"], n, "{record}");
        let result = machine.must(&format!("escherctl result {id}"));
        assert_eq!(result, format!("result {n}\n"));
    }
    machine.must("rm /srv/alice/enough /srv/alice/up");
}

/// Replaces the C library by a copy, so that all that runs uses a deleted one, as after an upgrade.
fn replace_libc(machine: &Machine) {
    machine.must(
        "cd /lib/x86_64-linux-gnu && cp --preserve libc.so.6 libc.so.6.new && mv libc.so.6.new libc.so.6",
    );
}

pub(crate) fn a_faulty_configuration_fails_the_service_and_clients_are_told(machine: &Machine) {
    machine.must("echo nonsense > /etc/escher/escher.toml; ! systemctl restart escherd");
    let property =
        |name| machine.must(&format!("systemctl show --value --property {name} escherd"));
    let failed = machine.must("systemctl list-units --failed --plain --no-legend");
    assert!(failed.contains("escherd.service"), "{failed}");
    let status = property("StatusText");
    assert!(status.contains("/etc/escher/escher.toml:1: "), "{status}");
    // Each of these clients is told; none waits for a better file.
    for _ in 0..3 {
        let ended = machine.run_as("alice", "escherctl run echo hello");
        let ended = ended.expect(125);
        assert!(
            ended.err().contains("configuration is corrected"),
            "{ended:?}"
        );
    }
    // Nobody but they has started it again.
    machine.must("! systemctl start escherd");
    assert_eq!(property("NRestarts"), "0\n");
    assert_eq!(machine.must("systemctl is-failed escherd"), "failed\n");
    let journal = machine.must("journalctl --unit escherd --priority err --lines 20 --output cat");
    assert!(journal.contains("/etc/escher/escher.toml:1: "), "{journal}");

    // The next client after the correction is served.
    machine.must(": > /etc/escher/escher.toml");
    let ended = machine.run_as("alice", "escherctl run echo hello");
    assert_eq!(ended.expect(0).out(), "hello\n");
    check_units(machine);
}

pub(crate) fn a_removal_cancels_commands_and_a_new_installation_keeps_the_history(
    machine: &Machine,
) {
    configure(machine, "[execution]\nmax_timeout_ms = 0");
    let id = start_command(machine, "none", "exec sleep 424242");
    // A user has an escherd of its own, too.
    machine.must(
        "set -e
        install -d -m 700 -o alice /run/alice
        runuser -u alice -- env XDG_RUNTIME_DIR=/run/alice XDG_STATE_HOME=/srv/alice/state \
            setsid --fork escherd --user < /dev/null > /dev/null 2>&1
        runuser -u alice -- env XDG_RUNTIME_DIR=/run/alice \
            escherctl --user --reconnect 60s info",
    );
    let removal = machine.must("DEBIAN_FRONTEND=noninteractive apt-get remove -q -y escher");
    let ended = "escher: running commands that are ended now: 1";
    assert!(removal.contains(ended), "{removal}");
    assert!(
        removal.contains("escher: the escherd of alice "),
        "{removal}"
    );
    assert!(!removal.contains("the escherd of escherd "), "{removal}");
    machine.must("pkill --uid alice --exact escherd; rm -r /srv/alice/state");
    let sleeping = machine.run("pgrep --full '^sleep 424242'");
    assert_eq!(sleeping.expect(1).out(), "");
    for unit in UNITS {
        let state = machine.must(&format!(
            "systemctl show --value --property LoadState {unit}"
        ));
        assert_eq!(state, "not-found\n");
    }
    machine.must("! find /etc/systemd/system -name 'escher*' | grep .");

    install_package(machine, VERSION);
    check_units(machine);
    let record = inspect(machine, &id);
    assert_eq!(record["status"], "cancelled", "{record}");
    assert_eq!(record["cancelled_by"], "host", "{record}");
    // The configuration is kept.
    let text = machine.must("escherctl --json config show");
    let setting = |line: &&str| line.contains("\"execution.max_timeout_ms\"");
    let setting = text.lines().find(setting).expect("a setting");
    let setting: Value = serde_json::from_str(setting).expect(setting);
    assert_eq!(setting["value"], 0, "{setting}");
}

/// Lists all files, users and groups of a machine.
pub(crate) fn traces(machine: &Machine) -> BTreeSet<String> {
    let all = machine.must(
        "find / -xdev
        find /run -name '*escher*'
        cut --delimiter : --fields 1 /etc/passwd | sed 's/^/user /'
        cut --delimiter : --fields 1 /etc/group | sed 's/^/group /'",
    );
    all.lines().map(str::to_owned).collect()
}

/// `bare` are the traces before the first installation.
pub(crate) fn a_purge_leaves_nothing(machine: &Machine, bare: &BTreeSet<String>) {
    let _running = start_command(machine, "none", "exec sleep 424242");
    machine.must("DEBIAN_FRONTEND=noninteractive apt-get purge -q -y escher");
    // What the tests themselves have added.
    machine.must("userdel --remove alice; userdel --remove carol; rm -r /srv/alice /run/alice");
    let after = traces(machine);
    let left: Vec<&String> = after
        .difference(bare)
        .filter(|trace| {
            trace.contains("escher") || !CHANGED_ANYWAY.iter().any(|path| trace.starts_with(path))
        })
        .collect();
    assert!(left.is_empty(), "{left:#?}");
    machine.must("! pgrep --full '^(/usr/(bin|lib)/escher|sleep 424242)'");
}
